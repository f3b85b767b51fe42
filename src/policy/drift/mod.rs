//! Drift: what the cluster holds, compared with the plan.
//! Reads no managedFields to decide (I13), and writes nothing.

mod diff;
mod fingerprint;
mod normal;
mod policies;

pub use diff::{Class, Drift, PlannedPolicies, PlannedPolicy, Repair, diff, targets};
pub use fingerprint::{Fingerprint, Interner, residue};
pub use normal::spec_digest;
pub use policies::Policies;
