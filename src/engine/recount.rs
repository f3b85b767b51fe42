//! When the namespaces that waiting changes would open are counted again. A count looks at every namespace, and a wait may last for days, so
//! events must not cause one count each (I7).

use std::time::{Duration, Instant};

/// The least time between two counts.
const BETWEEN: Duration = Duration::from_secs(1);

/// When the next count is due.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
pub struct Recount {
    last: Option<Instant>,
    due: Option<Instant>,
}

impl Recount {
    /// A namespace changed: the count is due now, or some time after the last one.
    pub fn ask(&mut self, now: Instant) {
        let earliest = self.last.map_or(now, |last| now.max(last + BETWEEN));
        self.due.get_or_insert(earliest);
    }

    /// Whether the count is due.
    pub fn is_due(&self, now: Instant) -> bool {
        self.due.is_some_and(|due| due <= now)
    }

    /// When it is due; `None` if nothing asks for it.
    pub const fn due(&self) -> Option<Instant> {
        self.due
    }

    /// All namespaces are counted now.
    pub const fn done(&mut self, now: Instant) {
        *self = Self { last: Some(now), due: None };
    }
}
