//! The pauses that the API server asked for, for the code that decides how many requests are sent.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Until when the API server wants fewer requests. All clones share this value.
#[derive(Clone, Debug, Default)]
pub struct Pressure(Arc<Mutex<Option<Instant>>>);

impl Pressure {
    /// Records that an answer asked for fewer requests and for this pause.
    pub fn told(&self, pause: Duration) {
        let mut until = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *until = (*until).max(Instant::now().checked_add(pause));
    }

    /// Until when to pause, if an answer has asked for it since the last call.
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
