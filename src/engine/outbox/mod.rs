//! The writes that wait: what to write, and when. `pending.rs` holds the timing of one write. Each kind of write has its own file, with
//! the data of that write. A new kind needs its file, and its entries here, in `outgoing.rs` and in `cluster`.

pub mod baseline_status;
pub mod event_budget;
pub mod flapping;
pub mod namespace_labels;
pub mod opt_out_state;
pub mod opt_outs;
pub mod pending;
pub mod policies;
pub mod retry;
pub mod revisions;
pub mod told;
mod write_budget;

use std::{sync::Arc, time::Instant};

use self::{
    baseline_status::{FinalizerWrite, StatusWrite, StoredStatus},
    namespace_labels::{NamespaceLabelWrite, NamespaceLabels},
    opt_out_state::{OptOutWrite, StoredOptOut},
    opt_outs::OptOuts,
    policies::RetrySchedule,
    revisions::{RevisionWrite, Revisions},
};
use super::{
    clock::Now,
    writes::{Done, Job, WriteError},
};
use crate::api::Uid;

/// Something to write to the cluster.
#[derive(Debug)]
pub enum Write {
    /// Policies of one namespace.
    Policies(Job),
    /// The status of a baseline.
    Status(Box<StatusWrite>),
    /// The finalizer of a baseline.
    Finalizer(FinalizerWrite),
    /// The status and the label of an opt-out.
    OptOut(OptOutWrite),
    /// A revision of a baseline, in the namespace of the operator.
    Revision(Arc<str>, RevisionWrite),
    /// The label of a namespace.
    NamespaceLabel(NamespaceLabelWrite),
}

/// The result of a write.
#[derive(Debug)]
pub enum Written {
    /// The results of each policy.
    Policies(Done),
    /// For the baseline with this name and uid: the status as it is stored.
    Status(Arc<str>, Arc<str>, Result<StoredStatus, WriteError>),
    /// For the baseline with this name: whether the write succeeded.
    Finalizer(Arc<str>, Result<(), WriteError>),
    /// The status and the label as they are stored.
    OptOut(OptOutWrite, Result<StoredOptOut, WriteError>),
    /// The uid of the stored revision; `None` after a deletion.
    Revision(RevisionWrite, Result<Option<Uid>, WriteError>),
    /// The label as it is stored.
    NamespaceLabel(NamespaceLabelWrite, Result<Option<String>, WriteError>),
}

/// The writes that wait, except statuses and finalizers: those are kept with the state of their baseline.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
pub struct Outbox {
    /// When each policy may be written again.
    pub policies: RetrySchedule,
    pub opt_outs: OptOuts,
    pub revisions: Revisions,
    pub labels: NamespaceLabels,
}

impl Outbox {
    /// When a write may be due without an event.
    pub fn wakes(&self, now: Now) -> impl Iterator<Item = Instant> {
        let policies = self.policies.next().into_iter();
        policies.chain(self.opt_outs.wakes(now)).chain(self.revisions.next()).chain(self.labels.wakes())
    }
}
