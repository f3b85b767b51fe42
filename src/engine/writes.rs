//! What is to be written, and what came of it: plain data. No client here; `cluster` sends it.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::{apps::v1::ControllerRevision, networking::v1::NetworkPolicy};
use serde_json::Value;

use crate::{
    api::{
        BaselineOptOutStatus, DecidedLabel, NamespaceName, PolicyBaselineStatus, Uid,
        names::LABEL_OPT_OUT,
        reason::{EventReason, Failure},
        resource_version,
    },
    policy::{
        drift::{Drift, Repair},
        plan::Baseline,
    },
};

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

/// Why a policy was not as planned.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Cause {
    /// The namespace is new to us.
    Bootstrap,
    /// The plan changed.
    Plan,
    /// Somebody else did it: what users call drift.
    Others,
}

/// One repair.
#[derive(Clone, Debug)]
pub struct Task {
    /// What is not as planned, and what repairs it.
    pub drift: Drift,
    /// Why.
    pub cause: Cause,
}

/// Writes for one namespace.
#[derive(Clone, Debug)]
pub struct Job {
    /// Where.
    pub namespace: NamespaceName,
    /// Whose policies.
    pub baseline: Option<Arc<Baseline>>,
    /// What to repair.
    pub tasks: Vec<Task>,
}

impl Job {
    /// The name of the baseline whose policies are written; empty when they are only removed.
    pub fn baseline_name(&self) -> &str {
        self.baseline.as_ref().map(|baseline| &*baseline.name).unwrap_or_default()
    }

    /// Puts the removals last. Returns how many tasks come before them.
    pub fn put_in_order(&mut self) -> usize {
        let is_removal = |task: &Task| matches!(task.drift.fix, Repair::Delete { .. });
        self.tasks.sort_by_key(is_removal);
        self.tasks.partition_point(|task| !is_removal(task))
    }
}

/// What came of one write.
#[derive(Debug)]
pub enum Wrote {
    /// It was applied.
    Applied {
        /// The policy as it is stored now.
        stored: Box<NetworkPolicy>,
        /// What it held before, if it was not ours and could be read.
        before: Option<String>,
    },
    /// It is gone.
    Removed,
    /// Not tried: something that must come first failed.
    Withheld,
}

/// What came of a job.
#[derive(Debug)]
pub struct Done {
    /// The job.
    pub job: Job,
    /// In the order of its tasks.
    pub results: Vec<Result<Wrote, WriteError>>,
}

/// Whether what came before the removals was confirmed, all of it.
pub fn removals_may_follow(results: &[Result<Wrote, WriteError>]) -> bool {
    results.iter().all(Result::is_ok)
}

/// Why a write did not take effect, or may not have.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The namespace is being deleted, or is gone: no error for its owner.
    #[error("the namespace is being deleted")]
    NamespaceTerminating,
    /// The object is gone.
    #[error("the object does not exist")]
    NotFound,
    /// It was not sent, or its answer not awaited: another instance may lead.
    #[error("this instance does not lead")]
    NotLeading,
    /// Anything else, with its reason.
    #[error("{reason}: {message}")]
    Failed {
        /// The reason, for people and metrics.
        reason: Failure,
        /// What the API server said.
        message: String,
    },
}

/// A status as it is stored now.
#[derive(Clone, Debug)]
pub struct StoredStatus {
    /// The status.
    pub status: PolicyBaselineStatus,
    /// The resourceVersion of the baseline; 0 when it is no number.
    pub version: u64,
}

/// What is to be written to an opt-out.
#[derive(Clone, Debug)]
pub struct OptOutWrite {
    /// Its namespace.
    pub namespace: NamespaceName,
    /// Its name.
    pub name: Arc<str>,
    /// Its uid.
    pub uid: Arc<str>,
    /// The status, if another one is stored.
    pub status: Option<BaselineOptOutStatus>,
    /// The value of the label that says that it is in force, or none, if it is not so yet.
    #[expect(clippy::option_option, reason = "none: the label stays; none inside: it is removed")]
    pub label: Option<Option<&'static str>>,
}

/// An opt-out as it is stored now.
#[derive(Clone, Debug, Default)]
pub struct StoredOptOut {
    /// The status, if it was written and can be read.
    pub status: Option<BaselineOptOutStatus>,
    /// The value of the label that says that it is in force.
    pub label: Option<String>,
    /// Its resourceVersion; 0 when it is no number.
    pub version: u64,
}

impl StoredOptOut {
    pub fn note(&mut self, object: &Value) {
        let meta = &object["metadata"];
        self.version = resource_version(meta["resourceVersion"].as_str());
        self.label = meta["labels"][LABEL_OPT_OUT].as_str().map(Into::into);
    }
}

/// What to write to a namespace.
#[derive(Clone, Debug)]
pub struct NamespaceLabelWrite {
    /// Its name.
    pub namespace: NamespaceName,
    /// Its uid.
    pub uid: Uid,
    /// The value of its label.
    pub mark: DecidedLabel,
}

/// A status to write.
#[derive(Debug)]
pub struct StatusWrite {
    /// Of which baseline.
    pub name: Arc<str>,
    /// Its uid.
    pub uid: Arc<str>,
    /// The status.
    pub status: PolicyBaselineStatus,
}

/// A finalizer to add or remove.
#[derive(Debug)]
pub struct FinalizerWrite {
    /// Of which baseline.
    pub name: Arc<str>,
    /// As it was seen.
    pub version: u64,
    /// The finalizers that it has.
    pub present: Vec<String>,
    /// Whether ours should be among them.
    pub wanted: bool,
}

/// A revision to store or to delete.
#[derive(Clone, Debug)]
pub struct RevisionWrite {
    /// Of which baseline.
    pub baseline: Arc<str>,
    /// The name of the object.
    pub object: String,
    /// What to do.
    pub what: RevisionChange,
}

/// What to do with a revision.
#[derive(Clone, Debug)]
pub enum RevisionChange {
    /// Store it.
    Store(Box<ControllerRevision>),
    /// Delete the object with that uid.
    Delete(Uid),
}

/// Something to tell about a policy, or about an opt-out.
#[derive(Clone, Debug)]
pub struct Announcement {
    /// The namespace.
    pub namespace: NamespaceName,
    /// The policy, or the opt-out.
    pub policy: String,
    /// Its uid, when it exists.
    pub uid: Option<String>,
    /// Why.
    pub reason: EventReason,
    /// The sentence.
    pub note: String,
    /// When.
    pub at: Timestamp,
}
