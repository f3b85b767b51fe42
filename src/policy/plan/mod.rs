//! The plan: which baseline applies to a namespace, and what the namespace should hold.
//! Never sees a client, a clock or the cluster; given the same input it gives the same output, and after parsing it cannot fail.

mod assign;
mod baseline;
mod checks;
mod duration;
mod error;
mod former;
mod labels;
mod opt_out;
mod render;
mod revision;
mod verdict;
mod words;

use std::sync::Arc;

use jiff::Timestamp;

use crate::api::NamespaceName;
pub use assign::{Assignment, Baselines, Behind, Decision, Holdings, Known};
pub use baseline::Baseline;
pub use error::BaselineError;
pub use former::{StoredPolicy, keeps};
pub use labels::Labels;
pub use opt_out::{NamespaceOptOuts, OptOut};
pub use render::{Rendered, Stamp, own_id};
pub use revision::Revision;
pub use verdict::{OptOutVerdict, Ruling, verdict};

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
    /// The opt-outs in it whose time is not over.
    pub opt_outs: NamespaceOptOuts,
    /// The API server calls a Service in it: which object says so, in words.
    pub serves: Option<Arc<String>>,
    /// Our default-deny-ingress stands there, or did while this process watched.
    pub closed: bool,
}
