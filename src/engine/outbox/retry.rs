//! How long to wait before the next attempt.

use std::time::Duration;

use crate::{api::NamespaceName, policy::digest::Digest};

/// The longest wait between two attempts, and between two repairs.
pub const LONGEST: Duration = Duration::from_secs(30);

/// Waits that double with every failure in a row, up to a limit.
#[derive(Clone, Copy, Debug)]
pub struct Delays {
    first: Duration,
    longest: Duration,
    /// Each wait is longer by this fraction of itself.
    stretch: f64,
}

impl Delays {
    /// `first` is the wait after the first failure. `longest` limits all waits.
    pub const fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, stretch: 0.0 }
    }

    /// The same wait each time.
    pub const fn always(wait: Duration) -> Self {
        Self::new(wait, wait)
    }

    /// The same waits, longer by up to a quarter. The factor depends on the names, so that many objects do not retry together.
    pub fn spread(self, ns: &NamespaceName, name: &str) -> Self {
        Self { stretch: Digest::of_texts([ns.as_str(), name]).fraction() / 4.0, ..self }
    }

    /// The wait after this many failures in a row.
    pub fn after(self, failures: u32) -> Duration {
        let doubled = self.first.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(self.longest);
        doubled + doubled.mul_f64(self.stretch)
    }
}
