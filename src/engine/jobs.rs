//! Policy writes: chooses the next namespace to write to, and takes the results.

use std::collections::BTreeSet;

use super::{
    Engine,
    assess::Assessment,
    clock::Now,
    facts::{
        entry::{ChangeOrigin, Entry},
        namespaces::Observed,
    },
    sample::MetricSample,
    writes::{Cause, Done, Job, Task, WriteError, Wrote},
};
use crate::{
    api::{reason::Failure, resource_version},
    policy::{
        drift::{Class, Drift},
        plan::{Baseline, Closed},
    },
};

/// The most policies of a former plan that count: the roles, and as many allows as a spec may have.
const MOST_FORMER: usize = 19;

impl Engine {
    /// The writes for the next namespace in the queue. `None` if there is none, or if this instance does not lead.
    pub fn next_job(&mut self, now: Now) -> Option<Job> {
        if !self.leads || !self.may_decide() {
            return None;
        }
        while let Some(name) = self.ready.pop() {
            let Some(entry) = self.observed.get(&name) else { continue };
            let Assessment { drifts, baseline, .. } = self.assess(&name, entry, now);
            let found = drifts.len();
            let drifts = self.writable(&name, baseline.as_deref(), drifts, now);
            if drifts.is_empty() {
                continue;
            }
            let all = drifts.len() == found;
            let harmless = drifts.iter().filter(|drift| !self.closes_an_opening(&name, drift)).count();
            // The watch can show a write before the API server answers, so the cause is determined before the write.
            let cause = |drift: Drift| match cause(entry, &drift) {
                Cause::Others if self.was_opted_out(&name, baseline.as_deref(), &drift, now) => {
                    Task { drift, cause: Cause::Plan }
                }
                cause => Task { drift, cause },
            };
            let size = policies_of(entry, baseline.as_deref());
            let closed = entry.was_closed();
            let planned = baseline.as_deref().zip(entry.namespace.as_ref());
            let planned = planned.map(|(baseline, namespace)| baseline.closes(namespace)).unwrap_or_default();
            let tasks: Vec<Task> = drifts.into_iter().map(cause).collect();
            let bootstraps = tasks.iter().any(|t| t.cause == Cause::Bootstrap);
            if let Some(entry) = self.observed.get_mut(&name).filter(|_| bootstraps) {
                entry.standing = ChangeOrigin::Bootstrapping;
            }
            self.in_flight.insert(name.clone(), all);
            self.observed.writes_begin(&name);
            self.outbox.policies.sent(&name, harmless, size, now.instant);
            return Some(Job { namespace: name, baseline, tasks, closed, planned });
        }
        None
    }

    /// Takes the results of a job.
    pub(super) fn done(&mut self, done: Done, now: Now) {
        let Done { job, results } = done;
        let mut finished = self.in_flight.remove(&job.namespace).unwrap_or_default();
        let mut written = Vec::with_capacity(results.len());
        let mut created = Vec::new();
        for (task, result) in job.tasks.iter().zip(results) {
            let drift = &task.drift;
            finished &= result.as_ref().is_ok_and(|wrote| !matches!(wrote, Wrote::Withheld));
            match result {
                Ok(Wrote::Applied { stored, before }) => {
                    if let Some(seen) = self.observed.went_back(&stored) {
                        let found = resource_version(stored.metadata.resource_version.as_deref());
                        self.went_back("NetworkPolicy", format!("{}/{}", job.namespace, drift.policy), seen, found);
                    }
                    let (print, unsure) = self.observed.policy_written(&stored);
                    written.push((&*drift.policy, Some(print.version)));
                    let applied = self.applied(&job, task, &print, before.as_deref(), now);
                    if applied && task.cause == Cause::Bootstrap {
                        created.push(&*drift.policy);
                    }
                    finished &= applied && !unsure;
                    if unsure {
                        // The watch will show the policy soon; another write before that would be useless.
                        self.outbox.policies.hold(&job.namespace, &drift.policy, now.instant);
                    }
                }
                Ok(Wrote::Removed) => {
                    written.push((&*drift.policy, None));
                    self.removed(&job, drift, now);
                }
                Ok(Wrote::Terminating) => {
                    written.push((&*drift.policy, None));
                    finished = false;
                    // The watch will show it soon. Until then another deletion would change nothing.
                    self.outbox.policies.hold(&job.namespace, &drift.policy, now.instant);
                }
                Ok(Wrote::FinalizerRemoved(stored)) => {
                    let left = stored.metadata.finalizers.as_deref().unwrap_or_default();
                    let is_gone = left.is_empty();
                    if !is_gone {
                        self.observed.policy_written(&stored);
                    }
                    let version = (!is_gone).then(|| resource_version(stored.metadata.resource_version.as_deref()));
                    written.push((&*drift.policy, version));
                    finished = false;
                    self.finalizer_removed(&job, drift, left, now);
                }
                // The current leader finds what is left to do.
                Ok(Wrote::Withheld) | Err(WriteError::NotLeading) => {}
                // Only the watch proves that this namespace is being deleted: the answer may be about another one of that name. The next
                // attempt is made without a report.
                Err(WriteError::NamespaceTerminating) => self.outbox.policies.hold(&job.namespace, &drift.policy, now.instant),
                Err(WriteError::NotFound) => {
                    self.failed(&job, drift, Failure::Conflict, "the policy was deleted while it was written", now);
                }
                Err(WriteError::Failed { reason, message }) => self.failed(&job, drift, reason, &message, now),
            }
        }
        Self::created(&job, &created);
        let standing = |observed: &Observed| observed.get(&job.namespace).map(|entry| entry.standing);
        let before = standing(&self.observed);
        self.observed.writes_end(&job.namespace, &written, finished);
        if before == Some(ChangeOrigin::Bootstrapping) && standing(&self.observed) != before {
            self.samples.push(MetricSample::Protected(self.waited(&job.namespace, now)));
        }
        // The observed state now holds what was written. The next assessment finds what is left to do.
        self.dirty.push(job.namespace, true);
    }
}

/// Why a policy is not as planned. Only changes by others count as drift; all else is normal work.
pub(super) fn cause(entry: &Entry, drift: &Drift) -> Cause {
    match entry.standing {
        ChangeOrigin::Bootstrapping if drift.class == Class::Missing => Cause::Bootstrap,
        _ if drift.class == Class::Missing && !entry.was_ours() => Cause::Bootstrap,
        ChangeOrigin::Settled => Cause::Plan,
        // What comes before a default-deny was written, and the process that would have written the rest ended.
        _ if drift.class == Class::Missing && entry.holds_ours() && entry.was_closed() == Closed::default() => Cause::Bootstrap,
        ChangeOrigin::Found | ChangeOrigin::Bootstrapping if drift.outdated => Cause::Plan,
        ChangeOrigin::Found | ChangeOrigin::Bootstrapping | ChangeOrigin::Touched => Cause::Others,
    }
}

/// The number of policies of the plan, or of those that are left of a former plan if these are more. Tenants can forge policies, so these
/// have a limit.
pub(super) fn policies_of(entry: &Entry, baseline: Option<&Baseline>) -> usize {
    let plan = baseline.zip(entry.namespace.as_ref());
    let planned: BTreeSet<&str> =
        plan.into_iter().flat_map(|(baseline, ns)| baseline.planned(ns)).map(|(_, policy)| &*policy.name).collect();
    let left = entry.policies.iter().filter(|(name, print)| print.ours && !planned.contains(&***name)).count();
    planned.len().max(left.min(MOST_FORMER))
}
