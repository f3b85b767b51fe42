//! The facts that are read from the Lease of an install.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;

/// The name of the Lease, in the namespace of each install.
pub const NAME: &str = "policy-baseline";

/// The longest duration of a Lease that an install may choose.
pub const LONGEST: Duration = Duration::from_hours(1);

/// The facts of a Lease.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct LeaseRecord {
    /// The identity of the holder. Empty after a release.
    pub holder: String,
    /// How long the Lease is valid after a renewal.
    pub duration: Duration,
    /// How often the holder changed.
    pub transitions: i32,
}

pub fn record(lease: &Lease) -> LeaseRecord {
    let spec = lease.spec.as_ref();
    let seconds = spec.and_then(|s| s.lease_duration_seconds).and_then(|s| u64::try_from(s).ok()).unwrap_or(1);
    LeaseRecord {
        holder: spec.and_then(|s| s.holder_identity.clone()).unwrap_or_default(),
        duration: Duration::from_secs(seconds),
        transitions: spec.and_then(|s| s.lease_transitions).unwrap_or(0),
    }
}

pub fn version(lease: &Lease) -> u64 {
    lease.metadata.resource_version.as_deref().and_then(|v| v.parse().ok()).unwrap_or(0)
}
