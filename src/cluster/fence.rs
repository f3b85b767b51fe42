//! Decides whether a write may be sent now (I6). The holder of the Lease opens the fence until a certain time; then it closes by itself.
//! It makes no other decisions, and it never reopens by itself.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// The longest time that the API server may work on a write. It gives up after that, so a write cannot take effect much later.
pub const LONGEST_WRITE: Duration = Duration::from_secs(5);

/// The gate that every write has to pass. All clones share its state.
#[derive(Clone, Debug)]
pub struct WriteFence {
    start: Instant,
    /// The fence is open until this many milliseconds after `start`.
    open_until: Arc<AtomicU64>,
    /// It never opens again.
    shut: Arc<AtomicBool>,
    longest_write: Duration,
}

impl WriteFence {
    /// A closed fence. `longest_write` is how long a write may take that is sent at the last moment.
    pub fn closed(longest_write: Duration) -> Self {
        Self { start: Instant::now(), open_until: Arc::default(), shut: Arc::default(), longest_write }
    }

    /// A fence that is always open, for an instance without leader election.
    pub fn open() -> Self {
        let gate = Self::closed(LONGEST_WRITE);
        gate.open_until.store(u64::MAX, Ordering::Release);
        gate
    }

    /// The longest time that the API server may spend on a write.
    pub const fn longest_write(&self) -> Duration {
        self.longest_write
    }

    /// Whether a write may be sent now.
    pub fn is_open(&self) -> bool {
        self.left(Instant::now()).is_some()
    }

    /// For how long the fence stays open; `None` if it is closed.
    pub fn left(&self, now: Instant) -> Option<Duration> {
        if self.shut.load(Ordering::Acquire) {
            return None;
        }
        // Round the passed time up, so that the fence closes early rather than late.
        let passed = now.saturating_duration_since(self.start).as_micros().div_ceil(1000);
        let passed = u64::try_from(passed).unwrap_or(u64::MAX);
        let left = self.open_until.load(Ordering::Acquire).checked_sub(passed).filter(|left| *left > 0);
        left.map(Duration::from_millis)
    }

    /// Closes the fence for good, because what its writes were decided by may be wrong.
    pub fn shut(&self) {
        self.shut.store(true, Ordering::Release);
    }

    /// Opens the fence until this time; `None` closes it.
    pub fn set(&self, until: Option<Instant>) {
        let millis = until.map_or(0, |at| at.saturating_duration_since(self.start).as_millis());
        self.open_until.store(u64::try_from(millis).unwrap_or(u64::MAX), Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i6_the_gate_closes_by_itself_and_early_rather_than_late() {
        let gate = WriteFence::closed(Duration::from_secs(5));
        let now = Instant::now();
        assert_eq!(gate.left(now), None);
        let end = now + Duration::from_millis(1500);
        gate.set(Some(end));
        assert!(gate.left(now).is_some_and(|left| left <= Duration::from_millis(1500)));
        assert!(gate.left(now + Duration::from_millis(1497)).is_some());
        assert_eq!(gate.left(end), None);
        assert_eq!(gate.left(end + Duration::from_hours(1)), None);
        gate.set(None);
        assert_eq!(gate.left(now), None);
    }

    #[test]
    fn every_copy_of_a_gate_closes_with_it() {
        let gate = WriteFence::closed(Duration::ZERO);
        let copy = gate.clone();
        gate.set(Some(Instant::now() + Duration::from_hours(1)));
        assert!(copy.is_open());
        gate.set(None);
        assert!(!copy.is_open());
        assert!(WriteFence::open().is_open());
    }

    #[test]
    fn a_gate_that_is_shut_opens_no_more() {
        for gate in [WriteFence::open(), WriteFence::closed(Duration::ZERO)] {
            let copy = gate.clone();
            gate.set(Some(Instant::now() + Duration::from_hours(1)));
            assert!(copy.is_open());
            gate.shut();
            gate.set(Some(Instant::now() + Duration::from_hours(1)));
            assert!(!copy.is_open());
        }
    }
}
