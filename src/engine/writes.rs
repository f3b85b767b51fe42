//! Plain data: policy writes, their results, and announcements. `cluster` sends them. The data of all other writes is in `outbox`.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::networking::v1::NetworkPolicy;

use crate::{
    api::{
        NamespaceName, Purpose, Role,
        names::DENIES,
        reason::{EventReason, Failure},
    },
    policy::{
        drift::{Drift, Fingerprint, Interner, Repair},
        plan::{Baseline, Closed},
    },
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
    /// The directions in which the namespace is closed already.
    pub closed: Closed,
    /// The directions in which the plan closes it.
    pub planned: Closed,
}

/// The phases of a job, in their order. The writes of a phase are sent at the same time, and those of the next one after their answers.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum WritePhase {
    /// Default-denies of directions that are to be open. As long as they are there, what other policies let through must go on.
    Opens,
    /// Allows: what they let through must not be interrupted when the namespace is closed.
    Allows,
    /// All else that is planned.
    Planned,
    /// Default-denies that are no longer planned, because others of their direction are.
    NoLongerDenied,
    /// All else that is no longer planned.
    NoLongerPlanned,
}

impl Job {
    /// The name of the baseline whose policies are written; empty when they are only removed.
    pub fn baseline_name(&self) -> &str {
        self.baseline.as_ref().map(|baseline| &*baseline.name).unwrap_or_default()
    }

    /// Puts the tasks into the order of their phases. Returns how many tasks come before the removals that wait for others: none if nothing
    /// is applied.
    pub fn put_in_order(&mut self) -> usize {
        let mut tasks = std::mem::take(&mut self.tasks);
        tasks.sort_by_key(|task| self.phase(&task.drift));
        self.tasks = tasks;
        if self.tasks.iter().all(|task| task.drift.is_removal()) {
            return 0;
        }
        self.tasks.partition_point(|task| self.phase(&task.drift) < WritePhase::NoLongerDenied)
    }

    /// Of the tasks that have no result yet: those to send next, all at the same time. `false` of a task that must not be sent, because a
    /// write that must come first failed, or because the namespace is being deleted. The tasks must be in order.
    pub fn next_writes(&self, results: &[Result<Wrote, WriteError>]) -> Vec<bool> {
        let baseline = self.baseline.as_deref();
        let left = self.tasks.get(results.len()..).unwrap_or_default();
        let Some(next) = left.first().map(|task| self.phase(&task.drift)) else { return vec![] };
        let has_every_allow = self
            .tasks
            .iter()
            .zip(results)
            .all(|(task, result)| !is_allow(baseline, &task.drift) || is_as_planned(&task.drift, result));
        let all_before = removals_may_follow(results);
        // Whatever is there now goes with the namespace.
        let is_going = results.iter().any(|result| matches!(result, Err(WriteError::NamespaceTerminating)));
        let may_send = |task: &Task| match next {
            _ if is_going => false,
            WritePhase::Opens | WritePhase::Allows => true,
            // Without its allows, nothing may isolate a pod that nothing isolates yet.
            WritePhase::Planned => has_every_allow || !isolates_anew(baseline, &task.drift, self.closed),
            WritePhase::NoLongerDenied | WritePhase::NoLongerPlanned => all_before,
        };
        left.iter().take_while(|task| self.phase(&task.drift) == next).map(may_send).collect()
    }

    fn phase(&self, drift: &Drift) -> WritePhase {
        match denied_by(drift) {
            Some(role) if !self.planned.by(role) => WritePhase::Opens,
            Some(_) => WritePhase::NoLongerDenied,
            None if drift.is_removal() => WritePhase::NoLongerPlanned,
            None if is_allow(self.baseline.as_deref(), drift) => WritePhase::Allows,
            None => WritePhase::Planned,
        }
    }
}

/// The purpose of the policy that is applied; `None` if none is applied.
fn purpose<'a>(baseline: Option<&'a Baseline>, drift: &Drift) -> Option<&'a Purpose> {
    let Repair::Apply { index, .. } = &drift.fix else { return None };
    baseline?.policies.get(*index).map(|policy| &policy.purpose)
}

/// The direction of the default-deny that is removed; `None` if none is.
pub fn denied_by(drift: &Drift) -> Option<Role> {
    let role = DENIES.into_iter().find(|role| drift.policy.ends_with(role.suffix()));
    role.filter(|_| drift.is_removal())
}

/// Whether an allow is applied.
pub fn is_allow(baseline: Option<&Baseline>, drift: &Drift) -> bool {
    matches!(purpose(baseline, drift), Some(Purpose::Allow(_)))
}

/// Whether the write succeeded, and no admission plugin changed the policy while it was written.
fn is_as_planned(drift: &Drift, result: &Result<Wrote, WriteError>) -> bool {
    match (&drift.fix, result) {
        (Repair::Apply { expected, .. }, Ok(Wrote::Applied { stored, .. })) => {
            expected.is(&Fingerprint::of(stored, &mut Interner::default()))
        }
        (_, result) => result.is_ok(),
    }
}

/// Whether the write applies a policy of a direction in which the namespace is not `closed`. Any policy isolates the pods that it selects,
/// in its directions.
pub fn isolates_anew(baseline: Option<&Baseline>, drift: &Drift, closed: Closed) -> bool {
    let Repair::Apply { index, .. } = &drift.fix else { return false };
    let policy = baseline.and_then(|baseline| baseline.policies.get(*index));
    policy.is_some_and(|policy| {
        let isolates = policy.isolates();
        (isolates.ingress && !closed.ingress) || (isolates.egress && !closed.egress)
    })
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

/// Whether all writes before the removals were confirmed. A default-deny that a finalizer keeps goes on denying.
fn removals_may_follow(results: &[Result<Wrote, WriteError>]) -> bool {
    results.iter().all(|result| result.as_ref().is_ok_and(|wrote| !matches!(wrote, Wrote::Terminating)))
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
