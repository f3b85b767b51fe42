//! What the API server said of its load, for those who decide how much is asked of it.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Until when the API server wants fewer requests. Every copy is the same one.
#[derive(Clone, Debug, Default)]
pub struct Pressure(Arc<Mutex<Option<Instant>>>);

impl Pressure {
    /// An answer asked for fewer requests, and for a pause.
    pub fn told(&self, pause: Duration) {
        let mut until = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *until = (*until).max(Instant::now().checked_add(pause));
    }

    /// Until when, if an answer has asked for it since this was asked last.
    pub fn take(&self) -> Option<Instant> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_pause_counts_and_is_told_once() {
        let pressure = Pressure::default();
        let copy = pressure.clone();
        for seconds in [1, 3, 2] {
            copy.told(Duration::from_secs(seconds));
        }
        let until = pressure.take().unwrap();
        assert!(until > Instant::now() + Duration::from_secs(2));
        assert_eq!(copy.take(), None);
    }
}
