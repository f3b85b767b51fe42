//! How long a watch waits after an error.

use std::time::{Duration, Instant};

use kube_runtime::utils::Backoff;

/// The delay grows from 250 ms to its limit of 3 s, so that a CRD or a permission that comes late is soon found. A watch reports success
/// before each list attempt, so only 10 s without an error after the delay reset it.
pub(super) struct WatchBackoff {
    failures: u32,
    last: Option<Instant>,
    most: Duration,
}

const WELL_AGAIN: Duration = Duration::from_secs(10);

impl Default for WatchBackoff {
    fn default() -> Self {
        Self::up_to(Duration::from_secs(3))
    }
}

impl WatchBackoff {
    /// With this limit.
    pub const fn up_to(most: Duration) -> Self {
        Self { failures: 0, last: None, most }
    }

    /// The delay after so many errors before the last one.
    fn delay(&self, failures: u32) -> Duration {
        Duration::from_millis(250).saturating_mul(1 << failures.min(16)).min(self.most)
    }
}

impl Iterator for WatchBackoff {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let now = Instant::now();
        let before = self.delay(self.failures.saturating_sub(1));
        if self.last.replace(now).is_some_and(|last| now.duration_since(last) > WELL_AGAIN + before) {
            self.failures = 0;
        }
        let delay = self.delay(self.failures);
        self.failures = self.failures.saturating_add(1);
        Some(delay)
    }
}

impl Backoff for WatchBackoff {
    fn reset(&mut self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_also_when_a_list_begins_between_two_errors() {
        let mut backoff = WatchBackoff::default();
        let delays: Vec<_> = (0..6)
            .filter_map(|_| {
                backoff.reset();
                backoff.next()
            })
            .map(|delay| delay.as_millis())
            .collect();
        assert_eq!(delays, [250, 500, 1000, 2000, 3000, 3000]);
        backoff.last = Instant::now().checked_sub(WELL_AGAIN * 2);
        assert_eq!(backoff.next(), Some(Duration::from_millis(250)));
    }

    #[test]
    fn a_delay_that_is_longer_than_the_time_to_get_well_does_not_start_the_delays_again() {
        let mut backoff = WatchBackoff::up_to(Duration::from_secs(32));
        let mut delays = Vec::new();
        for _ in 0..9 {
            let delay = backoff.next().unwrap();
            backoff.last = Instant::now().checked_sub(delay);
            delays.push(delay.as_millis());
        }
        assert_eq!(delays, [250, 500, 1000, 2000, 4000, 8000, 16000, 32000, 32000]);
        backoff.last = Instant::now().checked_sub(Duration::from_secs(32) + WELL_AGAIN * 2);
        assert_eq!(backoff.next(), Some(Duration::from_millis(250)));
    }
}
