//! Writes of policies, what came of each, and what is announced: plain data. No client here; `cluster` sends it. Other kinds of
//! write have their data in `outbox`.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::networking::v1::NetworkPolicy;

use crate::{
    api::{
        NamespaceName,
        reason::{EventReason, Failure},
    },
    policy::{
        drift::{Drift, Repair},
        plan::Baseline,
    },
};

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
