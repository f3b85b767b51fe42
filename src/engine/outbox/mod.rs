//! Each write that waits: what is to be written, and when. `pending.rs` is the write that waits; each kind of write has a file of its own,
//! which holds the data of that write, too. A further kind costs its file, three lines here, one in `outgoing.rs` and one in `cluster`.

pub mod baseline_status;
pub mod flapping;
pub mod namespace_labels;
pub mod opt_out_state;
pub mod opt_outs;
pub mod pending;
pub mod policies;
pub mod retry;
pub mod revisions;

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
    Status(StatusWrite),
    /// The finalizer of a baseline.
    Finalizer(FinalizerWrite),
    /// The status and the label of an opt-out.
    OptOut(OptOutWrite),
    /// A revision of a baseline, in the namespace of the operator.
    Revision(Arc<str>, RevisionWrite),
    /// The label of a namespace.
    NamespaceLabel(NamespaceLabelWrite),
}

/// The same, and what came of it.
#[derive(Debug)]
pub enum Written {
    /// Of each policy.
    Policies(Done),
    /// The status as it is stored.
    Status(Arc<str>, Arc<str>, Result<StoredStatus, WriteError>),
    /// Nothing more.
    Finalizer(Arc<str>, Result<(), WriteError>),
    /// What the opt-out carries.
    OptOut(OptOutWrite, Result<StoredOptOut, WriteError>),
    /// The uid of what was stored.
    Revision(RevisionWrite, Result<Option<Uid>, WriteError>),
    /// The label as it is stored.
    NamespaceLabel(NamespaceLabelWrite, Result<Option<String>, WriteError>),
}

/// What waits to be written, but for statuses and finalizers: those are kept with the state of their baseline.
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
    /// When something may be due though nothing happens.
    pub fn wakes(&self, now: Now) -> impl Iterator<Item = Instant> {
        let policies = self.policies.next().into_iter();
        policies.chain(self.opt_outs.wakes(now)).chain(self.revisions.next()).chain(self.labels.wakes())
    }
}
