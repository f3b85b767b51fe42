//! The current time as an argument (I12), and how long the engine waits for things.

use std::time::{Duration, Instant};

use jiff::Timestamp;

/// The current time on both clocks.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// The monotonic clock, for waits.
    pub instant: Instant,
    /// The wall clock, for times that people read or set. It may jump.
    pub wall: Timestamp,
}

/// How long a list must be refused before the refusal counts. An API server that has just started refuses everybody, and a namespace that
/// is closed by mistake stays closed.
pub const LASTS: Duration = Duration::from_secs(5);

/// How long status changes are collected before the status is written. The first status is written at once.
pub const GATHER: Duration = Duration::from_millis(200);

/// The least time between two status writes of one baseline.
pub const STATUS_INTERVAL: Duration = Duration::from_secs(1);

/// How long decisions wait for an optional list that gets no answer, once all required sets are listed.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
