//! The plan: which baseline applies to a namespace, and which policies the namespace should hold.
//! Uses no client, no clock and no cluster state. The same input gives the same output, and after parsing it cannot fail.

mod allow;
mod assign;
mod baseline;
mod checks;
mod duration;
mod error;
mod former;
mod guard;
mod labels;
mod opt_out;
mod render;
mod revision;
mod verdict;
mod words;

use std::{num::NonZeroU32, sync::Arc};

use jiff::Timestamp;

use crate::api::{NamespaceName, Role};
pub use assign::{Assignment, Baselines, Behind, Decision, Holdings, Known};
pub use baseline::Baseline;
pub use error::BaselineError;
pub use former::{StoredPolicy, keeps};
pub use labels::Labels;
pub use opt_out::{NamespaceOptOuts, OptOut};
pub use render::{PolicyScope, Rendered, Stamp, own_id};
pub use revision::Revision;
pub use verdict::{OptOutVerdict, Ruling, verdict};

/// The facts about a namespace that the plan needs.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Namespace {
    /// The name of the object.
    pub name: NamespaceName,
    /// All labels of the object.
    pub labels: Labels,
    /// When it was created, to the second.
    pub created: Timestamp,
    /// The namespace is being deleted.
    pub terminating: bool,
    /// It is being deleted, and it is proven that no pod is left there.
    pub pods_gone: bool,
    /// It is being deleted, and the deletion has failed since then: the Unix time in seconds, which takes no room beside the flags.
    pub failing_since: Option<NonZeroU32>,
    /// Its opt-outs that have not expired.
    pub opt_outs: NamespaceOptOuts,
    /// If the API server calls a Service in this namespace: which object declares that, as text.
    pub serves: Option<Arc<String>>,
    /// The directions that our policies close there, or closed while this process watched.
    pub closed: Closed,
}

impl Namespace {
    /// A namespace about which nothing else is known: it is there, without opt-outs, and open.
    pub fn new(name: NamespaceName, labels: Labels, created: Timestamp) -> Self {
        Self {
            name,
            labels,
            created,
            terminating: false,
            pods_gone: false,
            failing_since: None,
            opt_outs: NamespaceOptOuts::default(),
            serves: None,
            closed: Closed::default(),
        }
    }
}

/// The directions in which a namespace is closed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Closed {
    /// By default-deny-ingress.
    pub ingress: bool,
    /// By default-deny-egress.
    pub egress: bool,
}

impl Closed {
    /// What one of both closes.
    #[must_use]
    pub const fn or(self, other: Self) -> Self {
        Self { ingress: self.ingress || other.ingress, egress: self.egress || other.egress }
    }

    /// What both close.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self { ingress: self.ingress && other.ingress, egress: self.egress && other.egress }
    }

    /// Whether a policy of this role closes something there.
    pub const fn by(self, role: Role) -> bool {
        match role {
            Role::DefaultDenyIngress => self.ingress,
            Role::DefaultDenyEgress => self.egress,
            Role::MonitoringCarveout => false,
        }
    }
}
