//! What the engine counts: plain data that `operator` turns into metrics.

use std::time::Duration;

use strum::{IntoStaticStr, VariantArray};

use crate::{api::PurposeKind, policy::drift::Class};

/// One thing to count.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum MetricSample {
    /// Somebody else changed a policy, and it was repaired. The duration: from seeing the change to the repair.
    Drift(Class, Option<PurposeKind>, Duration),
    /// A write of a policy ended.
    Repair(Outcome),
    /// A namespace got its first policies. The duration: from seeing the namespace to the end of the writes.
    Protected(Duration),
    /// A policy of that kind became contested: somebody changes it again and again.
    Contested(Option<PurposeKind>),
}

/// The result of a policy write.
#[derive(Clone, Copy, Debug, Eq, IntoStaticStr, PartialEq, VariantArray)]
#[strum(const_into_str)]
pub enum Outcome {
    /// One of the first policies of a namespace was created.
    Created,
    /// The plan changed, and the policy was updated to it.
    Followed,
    /// A change by somebody else was undone.
    Repaired,
    /// The policy was no longer planned, and was removed.
    Removed,
    /// The write failed; it is tried again.
    Failed,
}
