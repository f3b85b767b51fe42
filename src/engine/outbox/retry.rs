//! How long to wait before the next attempt.

use std::time::Duration;

use crate::{api::NamespaceName, policy::digest::Digest};

/// The longest wait between two attempts, and between two repairs.
pub const LONGEST: Duration = Duration::from_secs(30);

/// Twice as long with every one in a row, up to a limit.
pub fn doubled(first: Duration, longest: Duration, failures: u32) -> Duration {
    first.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(longest)
}

/// The same, stretched by up to a quarter, so that many do not come back together.
pub fn stretched(first: Duration, longest: Duration, failures: u32, ns: &NamespaceName, name: &str) -> Duration {
    let doubled = doubled(first, longest, failures);
    let spread = Digest::of_texts([ns.as_str(), name]).fraction();
    doubled + doubled.mul_f64(spread / 4.0)
}
