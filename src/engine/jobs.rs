//! Policies to write: the next namespace, and what came of it.

use super::{
    Engine,
    assess::Assessment,
    clock::Now,
    facts::namespaces::{ChangeOrigin, Entry, Observed},
    sample::MetricSample,
    writes::{Cause, Done, Job, Task, WriteError, Wrote},
};
use crate::{
    api::reason::Failure,
    policy::drift::{Class, Drift},
};

impl Engine {
    /// The next namespace to write to.
    pub fn next_job(&mut self, now: Now) -> Option<Job> {
        if !self.leads {
            return None;
        }
        while let Some(name) = self.ready.pop() {
            let Some(entry) = self.observed.get(&name) else { continue };
            let Assessment { drifts, baseline, .. } = self.assess(&name, entry);
            let found = drifts.len();
            let drifts = self.writable(&name, drifts, now);
            if drifts.is_empty() {
                continue;
            }
            let all = drifts.len() == found;
            // The echo of a write can come before its answer, so the cause is judged before anything is written.
            let cause = |drift: Drift| match cause(entry, &drift) {
                Cause::Others if self.was_opted_out(&name, baseline.as_deref(), &drift, now) => {
                    Task { drift, cause: Cause::Plan }
                }
                cause => Task { drift, cause },
            };
            let tasks: Vec<Task> = drifts.into_iter().map(cause).collect();
            let bootstraps = tasks.iter().any(|t| t.cause == Cause::Bootstrap);
            if let Some(entry) = self.observed.get_mut(&name).filter(|_| bootstraps) {
                entry.standing = ChangeOrigin::Bootstrapping;
            }
            self.in_flight.insert(name.clone(), all);
            self.observed.writes_begin(&name);
            return Some(Job { namespace: name, baseline, tasks });
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
                    let (print, unsure) = self.observed.policy_written(&stored);
                    written.push((&*drift.policy, Some(print.version)));
                    let applied = self.applied(&job, task, &print, before.as_deref(), now);
                    if applied && task.cause == Cause::Bootstrap {
                        created.push(&*drift.policy);
                    }
                    finished &= applied && !unsure;
                    if unsure {
                        // The watch will show it soon; writing again meanwhile would be idle.
                        self.outbox.policies.hold(&job.namespace, &drift.policy, now.instant);
                    }
                }
                Ok(Wrote::Removed) => {
                    written.push((&*drift.policy, None));
                    self.removed(&job, drift, now);
                }
                // Whoever leads finds what is left to do.
                Ok(Wrote::Withheld) | Err(WriteError::NotLeading) => {}
                // Only the watch says for sure that it is going: the API server may speak of another of that name. It is asked again in silence.
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
        // What was written is in the observed state now; looking again finds what is left to do.
        self.dirty.push(job.namespace, true);
    }
}

/// Why a policy is not as planned. Only what others did is drift in the eyes of users; the rest is work.
fn cause(entry: &Entry, drift: &Drift) -> Cause {
    match entry.standing {
        ChangeOrigin::Bootstrapping if drift.class == Class::Missing => Cause::Bootstrap,
        _ if drift.class == Class::Missing && !entry.was_ours() => Cause::Bootstrap,
        ChangeOrigin::Settled => Cause::Plan,
        ChangeOrigin::Found | ChangeOrigin::Bootstrapping if drift.outdated => Cause::Plan,
        ChangeOrigin::Found | ChangeOrigin::Bootstrapping | ChangeOrigin::Touched => Cause::Others,
    }
}
