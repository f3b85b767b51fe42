//! The present, as an argument (I12), and for how long things are waited for.

use std::time::{Duration, Instant};

use jiff::Timestamp;

/// The present, on both clocks: one for waiting, one for telling.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// For waiting.
    pub instant: Instant,
    /// For telling.
    pub wall: Timestamp,
}

/// A refusal of a list counts when it has lasted so long: an API server that has just started refuses everybody, and a namespace that is closed
/// by mistake stays closed.
pub const LASTS: Duration = Duration::from_secs(5);

/// How long changes of a status are gathered before it is written, unless it is the first one.
pub const GATHER: Duration = Duration::from_millis(200);

/// The least time between two status writes of one baseline.
pub const STATUS_INTERVAL: Duration = Duration::from_secs(1);

/// So long decisions wait when everything else is listed.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
