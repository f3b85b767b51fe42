//! What may be sent at once, and then at a steady rate. Time is an argument.

use std::time::{Duration, Instant};

/// The limits of a bucket.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    /// So many may be sent at once.
    pub at_once: i32,
    /// Then one may be sent in this time.
    pub then_one_in: Duration,
}

/// What is left of a limit. It may be overdrawn. It earns when it is asked, so a bucket that nobody asks costs nothing.
#[derive(Clone, Copy, Debug)]
pub struct TokenBucket {
    left: i32,
    /// Since when the next one is earned.
    since: Instant,
}

impl TokenBucket {
    /// The bucket with what it has earned until now; one from which nothing was taken if there is none.
    pub fn of(known: Option<Self>, rate: Rate, now: Instant) -> Self {
        known.map_or(Self { left: rate.at_once, since: now }, |bucket| bucket.at(rate, now))
    }

    /// Adds what was earned until now. A full bucket earns from then on, when something is taken.
    #[must_use]
    pub fn at(self, rate: Rate, now: Instant) -> Self {
        let earned = now.saturating_duration_since(self.since).as_millis() / rate.then_one_in.as_millis();
        let earned = u32::try_from(earned).unwrap_or(u32::MAX);
        let left = self.left.saturating_add_unsigned(earned).min(rate.at_once);
        Self { left, since: if left < rate.at_once { self.since + rate.then_one_in * earned } else { now } }
    }

    /// Takes this many out.
    pub fn take(&mut self, count: usize) {
        self.left = self.left.saturating_sub_unsigned(u32::try_from(count).unwrap_or(u32::MAX));
    }

    /// The same bucket with this many more in it.
    #[must_use]
    pub const fn plus(self, more: i32) -> Self {
        Self { left: self.left.saturating_add(more), ..self }
    }

    /// Whether one may be sent.
    pub const fn has_some(self) -> bool {
        self.left > 0
    }

    /// Whether nothing is missing.
    pub const fn is_full(self, rate: Rate) -> bool {
        self.left >= rate.at_once
    }

    /// When one may be sent, if none may be sent now.
    pub fn next(self, rate: Rate) -> Option<Instant> {
        let missing = u32::try_from(1_i32.saturating_sub(self.left)).ok().filter(|missing| *missing > 0)?;
        Some(self.since + rate.then_one_in * missing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_gives_what_it_holds_then_one_at_a_time_and_pays_its_debt_first() {
        let rate = Rate { at_once: 3, then_one_in: Duration::from_secs(10) };
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut bucket = TokenBucket::of(None, rate, start);
        assert!(bucket.is_full(rate) && bucket.has_some() && bucket.next(rate).is_none());
        bucket.take(5);
        assert_eq!(bucket.next(rate), Some(after(30)), "a debt of two");
        for (seconds, has_some) in [(0, false), (29, false), (30, true), (39, true)] {
            assert_eq!(bucket.at(rate, after(seconds)).has_some(), has_some, "{seconds}");
        }
        assert!(!bucket.at(rate, after(49)).is_full(rate) && bucket.at(rate, after(50)).is_full(rate));
        let mut late = bucket.at(rate, after(1000));
        late.take(3);
        assert!(!late.has_some(), "it holds no more than at the start");
        assert_eq!(late.next(rate), Some(after(1010)));
    }
}
