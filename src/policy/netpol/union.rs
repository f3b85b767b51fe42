//! The union of ranges of numbers: of addresses, or of ports.

/// Sorted ranges that neither overlap nor touch. Each knows how many numbers are in the ranges before it.
#[derive(Debug, Default)]
pub struct Union(Vec<Run>);

#[derive(Clone, Copy, Debug)]
struct Run {
    first: u128,
    last: u128,
    before: u128,
}

impl Union {
    /// Merges ranges, given as first and last number.
    pub fn of(mut ranges: Vec<(u128, u128)>) -> Self {
        ranges.sort_unstable();
        let mut runs: Vec<Run> = Vec::new();
        for (first, last) in ranges {
            match runs.last_mut() {
                Some(run) if first <= run.last.saturating_add(1) => run.last = run.last.max(last),
                run => {
                    let before = run.map_or(0, |run| run.before.saturating_add(size(run.first, run.last)));
                    runs.push(Run { first, last, before });
                }
            }
        }
        Self(runs)
    }

    /// The ranges, sorted.
    pub fn ranges(&self) -> impl Iterator<Item = (u128, u128)> {
        self.0.iter().map(|run| (run.first, run.last))
    }

    /// How many numbers are in the union. All 2^128 numbers are one too many to count: then it is one less.
    pub fn size(&self) -> u128 {
        self.0.last().map_or(0, |run| run.before.saturating_add(size(run.first, run.last)))
    }

    /// How many numbers of the union are from `first` to `last`.
    pub fn within(&self, first: u128, last: u128) -> u128 {
        self.up_to(last) - first.checked_sub(1).map_or(0, |before| self.up_to(before))
    }

    /// The numbers of this union that are not in the other one.
    pub fn without(&self, other: &Self) -> Self {
        let mut cuts = other.0.iter().peekable();
        let mut left = Vec::new();
        for run in &self.0 {
            let mut next = Some(run.first);
            while let (Some(from), Some(cut)) = (next, cuts.peek()) {
                if cut.first > run.last {
                    break;
                }
                if cut.first > from {
                    left.push((from, cut.first - 1));
                }
                // A cut that goes on behind this range may also concern the next range.
                if cut.last > run.last {
                    next = None;
                    break;
                }
                next = cut.last.checked_add(1).filter(|next| *next <= run.last).map(|next| next.max(from));
                cuts.next();
            }
            left.extend(next.map(|from| (from, run.last)));
        }
        Self::of(left)
    }

    /// How many numbers of the union are not greater than `number`.
    fn up_to(&self, number: u128) -> u128 {
        let at = self.0.partition_point(|run| run.first <= number);
        let run = at.checked_sub(1).and_then(|at| self.0.get(at));
        run.map_or(0, |run| run.before.saturating_add(size(run.first, run.last.min(number))))
    }
}

const fn size(first: u128, last: u128) -> u128 {
    (last - first).saturating_add(1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn small() -> impl Strategy<Value = Vec<(u128, u128)>> {
        let range = (0_u128..64, 0_u128..64).prop_map(|(a, b)| (a.min(b), a.max(b)));
        prop::collection::vec(range, 0..6)
    }

    fn members(ranges: &[(u128, u128)]) -> Vec<u128> {
        (0..64).filter(|n| ranges.iter().any(|(first, last)| first <= n && n <= last)).collect()
    }

    proptest! {
        #[test]
        fn a_union_and_a_difference_hold_what_counting_one_by_one_finds(a in small(), b in small(), from in 0_u128..64, to in 0_u128..64) {
            let (one, other) = (Union::of(a.clone()), Union::of(b.clone()));
            let left: Vec<u128> = members(&a).into_iter().filter(|n| !members(&b).contains(n)).collect();
            let difference = one.without(&other);
            prop_assert_eq!(members(&difference.ranges().collect::<Vec<_>>()), left.clone());
            prop_assert_eq!((one.size(), difference.size()), (members(&a).len() as u128, left.len() as u128));
            if from <= to {
                prop_assert_eq!(difference.within(from, to), left.iter().filter(|n| (from..=to).contains(*n)).count() as u128);
            }
        }
    }

    #[test]
    fn the_ends_of_the_numbers_are_no_overflow() {
        let all = Union::of(vec![(0, u128::MAX / 2), (u128::MAX / 2 + 1, u128::MAX)]);
        assert_eq!((all.ranges().count(), all.size()), (1, u128::MAX));
        assert_eq!(all.without(&all).size(), 0);
        let upper = Union::of(vec![(u128::MAX / 2 + 1, u128::MAX)]);
        assert_eq!(all.without(&upper).ranges().collect::<Vec<_>>(), [(0, u128::MAX / 2)]);
        assert_eq!(upper.without(&all).size(), 0);
    }
}
