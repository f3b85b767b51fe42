//! What is counted: plain data, which `operator` turns into metrics.

use std::time::Duration;

use strum::{IntoStaticStr, VariantArray};

use crate::{api::Role, policy::drift::Class};

/// Something to count.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum MetricSample {
    /// Somebody else changed a policy; it was repaired so long after that was seen.
    Drift(Class, Option<Role>, Duration),
    /// A policy was written, or not.
    Repair(Outcome),
    /// A namespace got its first policies, so long after it was seen.
    Protected(Duration),
    /// A policy of that role became contested.
    Contested(Option<Role>),
}

/// What came of a repair.
#[derive(Clone, Copy, Debug, Eq, IntoStaticStr, PartialEq, VariantArray)]
#[strum(const_into_str)]
pub enum Outcome {
    /// A first policy of a namespace.
    Created,
    /// The plan changed and the policy follows.
    Followed,
    /// What others did was undone.
    Repaired,
    /// Planned no more.
    Removed,
    /// The write failed; it is tried again.
    Failed,
}
