//! Plain data: policy writes, their results, and announcements. `cluster` sends them. The data of all other writes is in `outbox`.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::networking::v1::NetworkPolicy;

use crate::{
    api::{
        NamespaceName,
        reason::{EventReason, Failure},
    },
    policy::{drift::Drift, plan::Baseline},
};

/// Why a policy was not as planned.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Cause {
    /// The namespace gets its first policies.
    Bootstrap,
    /// The plan changed.
    Plan,
    /// Somebody else changed it. Users call this drift.
    Others,
}

/// One policy to repair.
#[derive(Clone, Debug)]
pub struct Task {
    /// The difference from the plan, and its repair.
    pub drift: Drift,
    /// Why the policy was not as planned.
    pub cause: Cause,
}

/// The policy writes for one namespace.
#[derive(Clone, Debug)]
pub struct Job {
    /// The namespace to write to.
    pub namespace: NamespaceName,
    /// The baseline that the policies come from; `None` if policies are only removed.
    pub baseline: Option<Arc<Baseline>>,
    /// The policies to repair.
    pub tasks: Vec<Task>,
}

impl Job {
    /// The name of the baseline whose policies are written; empty when they are only removed.
    pub fn baseline_name(&self) -> &str {
        self.baseline.as_ref().map(|baseline| &*baseline.name).unwrap_or_default()
    }

    /// Puts the removals last. Returns how many tasks come before them.
    pub fn put_in_order(&mut self) -> usize {
        let is_removal = |task: &Task| task.drift.is_removal();
        self.tasks.sort_by_key(is_removal);
        self.tasks.partition_point(|task| !is_removal(task))
    }
}

/// The result of one write without an error.
#[derive(Debug)]
pub enum Wrote {
    /// The policy was applied.
    Applied {
        /// The policy as it is stored now.
        stored: Box<NetworkPolicy>,
        /// Its former content, if it was not ours and could be read.
        before: Option<String>,
    },
    /// The policy is gone.
    Removed,
    /// It is being deleted, and a finalizer holds it.
    Terminating,
    /// A finalizer was removed from it. The object is the last one that was stored; without another finalizer, it is gone.
    FinalizerRemoved(Box<NetworkPolicy>),
    /// Not tried, because a write that must come first failed.
    Withheld,
}

/// The results of a job.
#[derive(Debug)]
pub struct Done {
    /// The job that ended.
    pub job: Job,
    /// One result for each task, in the same order.
    pub results: Vec<Result<Wrote, WriteError>>,
}

/// Whether all writes before the removals were confirmed.
pub fn removals_may_follow(results: &[Result<Wrote, WriteError>]) -> bool {
    results.iter().all(Result::is_ok)
}

/// Why a write failed, or why its outcome is unknown.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The namespace is being deleted, or is gone. This is not reported as an error.
    #[error("the namespace is being deleted")]
    NamespaceTerminating,
    /// The object is gone.
    #[error("the object does not exist")]
    NotFound,
    /// The write was not sent, or its answer was not awaited: another instance may lead.
    #[error("this instance does not lead")]
    NotLeading,
    /// Any other error.
    #[error("{reason}: {message}")]
    Failed {
        /// The kind of error, for people and metrics.
        reason: Failure,
        /// The message of the API server.
        message: String,
    },
}

/// A Kubernetes Event about a policy or an opt-out.
#[derive(Clone, Debug)]
pub struct Announcement {
    /// The namespace of the object.
    pub namespace: NamespaceName,
    /// The name of the policy or the opt-out.
    pub policy: String,
    /// The uid of the object; `None` if it is not known.
    pub uid: Option<String>,
    /// The reason of the Event.
    pub reason: EventReason,
    /// The text of the Event.
    pub note: String,
    /// When it happened.
    pub at: Timestamp,
}
