//! The plan: which baseline applies to a namespace, and what the namespace should hold.
//! Never sees a client, a clock or the cluster; given the same input it gives the same output, and after parsing it cannot fail.

mod assign;
mod baseline;
mod labels;
mod render;
mod revision;
mod words;

pub use assign::{Baselines, Behind, Decision, Holdings, Known, Verdict};
pub use baseline::{Baseline, BaselineError};
pub use labels::Labels;
pub use render::{Rendered, own_id};
pub use revision::{Mark, Revision, keeps};

use jiff::Timestamp;

use crate::api::NamespaceName;

/// What the plan needs to know of a namespace.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Namespace {
    /// Its name.
    pub name: NamespaceName,
    /// Its labels.
    pub labels: Labels,
    /// When it was created, to the second.
    pub created: Timestamp,
    /// It is being deleted.
    pub terminating: bool,
}
