//! The answers for the probes: whether the loop runs, and whether everything has been listed once.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// The loop is stuck if it has not run for this long. Its longest pause is [`REST`].
const STUCK: Duration = Duration::from_secs(30);
/// The longest pause of the loop.
pub const REST: Duration = Duration::from_secs(5);

/// Shared between the loop, the watches and the probes.
#[derive(Debug)]
pub struct Health {
    start: Instant,
    /// When the loop last ran, in milliseconds after `start`.
    turned: AtomicU64,
    waits: Mutex<Vec<String>>,
}

impl Health {
    /// The state at the start: none of these watches has been listed.
    pub fn new(watches: &[&'static str]) -> Self {
        let health = Self { start: Instant::now(), turned: AtomicU64::new(0), waits: Mutex::default() };
        health.starts_anew(watches);
        health
    }

    /// Everything is forgotten: all of these are waited for again.
    pub fn starts_anew(&self, watches: &[&'static str]) {
        self.waits_for(watches.iter().map(|watch| format!("{watch}: it is being listed")));
    }

    /// Records that the loop runs.
    pub fn turned(&self) {
        self.turned.store(self.millis(), Ordering::Relaxed);
    }

    /// Sets what the engine is waiting for, one line each.
    pub fn waits_for(&self, lines: impl Iterator<Item = String>) {
        let mut waits = self.waits.lock().unwrap_or_else(PoisonError::into_inner);
        waits.clear();
        waits.extend(lines);
    }

    /// Why the process should be restarted; `None` if it is healthy.
    pub fn stuck(&self) -> Option<String> {
        let rested = Duration::from_millis(self.millis().saturating_sub(self.turned.load(Ordering::Relaxed)));
        (rested > STUCK).then(|| format!("the main loop has not run for {} s", rested.as_secs()))
    }

    /// What the engine is waiting for, one line for each watch. Empty when everything has been listed once.
    pub fn waiting(&self) -> String {
        self.waits.lock().unwrap_or_else(PoisonError::into_inner).join("\n")
    }

    fn millis(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_waited_for_is_named_until_it_was_listed() {
        let health = Health::new(&["namespaces", "policybaselines"]);
        assert_eq!(health.waiting(), "namespaces: it is being listed\npolicybaselines: it is being listed");
        health.waits_for(["policybaselines: not known".to_owned()].into_iter());
        assert_eq!(health.waiting(), "policybaselines: not known");
        health.waits_for(std::iter::empty());
        assert_eq!(health.waiting(), "");
    }

    #[test]
    fn a_loop_that_does_not_turn_is_stuck() {
        let mut health = Health::new(&[]);
        health.turned();
        assert_eq!(health.stuck(), None);
        health.start = Instant::now().checked_sub(STUCK + Duration::from_secs(2)).unwrap();
        assert!(health.stuck().unwrap().contains("has not run"));
        health.turned();
        assert_eq!(health.stuck(), None);
    }
}
