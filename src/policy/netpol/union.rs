//! The union of ranges of addresses.

use super::block::{Block, Family};

/// Sorted ranges that neither overlap nor touch. Each knows how many addresses are in the ranges before it.
#[derive(Debug, Default)]
pub struct Union(Vec<Run>);

#[derive(Clone, Copy, Debug)]
struct Run {
    first: u128,
    last: u128,
    before: u128,
}

impl Union {
    /// Merges ranges, given as first and last address.
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

    /// How many addresses of the union are not greater than `address`.
    fn up_to(&self, address: u128) -> u128 {
        let at = self.0.partition_point(|run| run.first <= address);
        let run = at.checked_sub(1).and_then(|at| self.0.get(at));
        run.map_or(0, |run| run.before.saturating_add(size(run.first, run.last.min(address))))
    }

    /// How many addresses of the union are from `first` to `last`.
    fn within(&self, first: u128, last: u128) -> u128 {
        self.up_to(last) - first.checked_sub(1).map_or(0, |before| self.up_to(before))
    }

    /// How many addresses of the family are in neither union. All IPv6 addresses are one more than a `u128` can count,
    /// so a single IPv6 address that is left out counts as 0.
    pub fn left_out(&self, other: &Self, family: Family) -> u128 {
        let added = |run: &Run| size(run.first, run.last) - self.within(run.first, run.last);
        let both = other.0.iter().map(added).fold(self.up_to(u128::MAX), u128::saturating_add);
        match family.last().checked_sub(both) {
            Some(left) if both < u128::MAX => left.saturating_add(1),
            _ => 0,
        }
    }
}

/// The ranges of a block without its exceptions.
pub fn without(block: &Block, exceptions: impl IntoIterator<Item = Block>) -> Vec<(u128, u128)> {
    let (first, last) = block.range();
    let cut = exceptions.into_iter().filter(|except| except.family() == block.family()).map(|except| except.range()).collect();
    let mut next = Some(first);
    let mut left = Vec::new();
    for run in Union::of(cut).0 {
        let Some(from) = next.filter(|from| *from <= last) else { break };
        if run.last < from {
            continue;
        }
        if run.first > from {
            left.push((from, last.min(run.first - 1)));
        }
        next = run.last.checked_add(1);
    }
    left.extend(next.filter(|from| *from <= last).map(|from| (from, last)));
    left
}

/// The number of addresses. The number of all IPv6 addresses does not fit: it is one too small.
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
        fn what_is_left_out_is_what_counting_one_by_one_finds(a in small(), b in small()) {
            let both = members(&[a.clone(), b.clone()].concat());
            let left_out = Union::of(a).left_out(&Union::of(b), Family::V4);
            prop_assert_eq!(left_out, (1 << 32) - both.len() as u128);
        }

        #[test]
        fn exceptions_take_away_what_they_name(lengths in prop::collection::vec((0_u8..64, 26_u32..=32), 0..6)) {
            let exceptions: Vec<Block> =
                lengths.into_iter().filter_map(|(last, length)| Block::parse(&format!("10.0.0.{last}/{length}"))).collect();
            let block = Block::parse("10.0.0.0/26").unwrap();
            let base = block.range().0;
            let left: Vec<_> = without(&block, exceptions.iter().copied()).into_iter().map(|(a, b)| (a - base, b - base)).collect();
            let cut: Vec<_> = exceptions.iter().map(|e| (e.range().0 - base, e.range().1 - base)).collect();
            let expected: Vec<u128> = (0..64).filter(|n| !members(&cut).contains(n)).collect();
            prop_assert_eq!(members(&left), expected);
        }
    }

    #[test]
    fn the_ends_of_the_larger_family_are_no_overflow() {
        let all = Union::of(vec![(0, u128::MAX / 2), (u128::MAX / 2 + 1, u128::MAX)]);
        assert_eq!(all.left_out(&Union::default(), Family::V6), 0);
        assert_eq!(Union::default().left_out(&all, Family::V6), 0);
        let but_one_block = Union::of(vec![(1 << 120, u128::MAX)]);
        assert_eq!(but_one_block.left_out(&Union::default(), Family::V6), 1 << 120);
        assert_eq!(without(&Block::parse("::/0").unwrap(), [Block::parse("::/0").unwrap()]), []);
        assert_eq!(without(&Block::parse("::/0").unwrap(), [Block::parse("8000::/1").unwrap()]), [(0, u128::MAX / 2)]);
    }
}
