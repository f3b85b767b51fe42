//! Drift: the differences between the cluster and the plan.
//! No decision uses managedFields (I13), and nothing is written here.

mod diff;
mod fingerprint;
mod normal;
mod ours;
mod policies;

pub use diff::{Class, Drift, PlannedPolicies, PlannedPolicy, Repair, diff, targets};
pub use fingerprint::{Fingerprint, Interner, residue};
pub use normal::spec_digest;
pub use ours::{has_our_labels, is_ours};
pub use policies::Policies;
