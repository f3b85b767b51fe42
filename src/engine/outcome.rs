//! Handles the results of policy writes: counts, logs, announces and stores them.

use std::sync::Arc;

use tracing::{info, warn};

use super::{
    Engine,
    clock::Now,
    installs::about_baseline,
    outbox::flapping::REPAIRS,
    sample::{MetricSample, Outcome},
    writes::{Announcement, Cause, Job, Task, is_allow, isolates_anew},
};
use crate::{
    api::{
        NamespaceName, PurposeKind,
        reason::{EventReason, Failure, FindingReason, ViolationReason},
        text::shown,
    },
    policy::{
        drift::{Class, Drift, Fingerprint, Repair},
        status::{Finding, Problem, drift_record},
    },
};

/// How many characters of an adopted policy's former content go into its Event. The note of an Event holds 1,024 bytes in all.
const TOLD: usize = 600;

impl Engine {
    /// Handles an applied policy. `before` is its former content if the policy was not ours. Returns whether the stored policy is as
    /// planned.
    pub(super) fn applied(&mut self, job: &Job, task: &Task, print: &Fingerprint, before: Option<&str>, now: Now) -> bool {
        let Task { drift, cause } = task;
        let Repair::Apply { expected, .. } = &drift.fix else { return false };
        if !expected.is(print) {
            let message = "another admission plugin changed the policy while it was written: exempt policies labelled app.kubernetes.io/managed-by=policy-baseline";
            self.failed(job, drift, Failure::MutatedByAdmission, message, now);
            return false;
        }
        let plan = job.baseline.as_deref();
        if is_allow(plan, drift) && isolates_anew(plan, drift, job.closed) {
            self.outbox.policies.succeeded_for_now(&job.namespace, &drift.policy);
        } else {
            self.outbox.policies.succeeded(&job.namespace, &drift.policy);
        }
        let baseline = job.baseline_name();
        let (ns, policy, class) = (&job.namespace, &drift.policy, drift.class.into_str());
        let outcome = match cause {
            Cause::Bootstrap => Outcome::Created,
            Cause::Plan => Outcome::Followed,
            Cause::Others => Outcome::Repaired,
        };
        self.samples.push(MetricSample::Repair(outcome));
        match cause {
            // `created` logs these together.
            Cause::Bootstrap => {}
            Cause::Plan => info!(namespace = %ns, policy, baseline, class, "policy updated to a changed plan"),
            Cause::Others => self.repaired(job, drift, print, now),
        }
        if drift.class == Class::Unmanaged {
            self.adopted(job, drift, print, before.unwrap_or("it could not be read"), now);
        }
        true
    }

    /// Logs the first policies of a namespace in one line.
    pub(super) fn created(job: &Job, policies: &[&str]) {
        if !policies.is_empty() {
            info!(namespace = %job.namespace, policies = policies.join(", "), baseline = job.baseline_name(), "policies created");
        }
    }

    /// Records that a change by somebody else was undone.
    fn repaired(&mut self, job: &Job, drift: &Drift, print: &Fingerprint, now: Now) {
        let baseline = job.baseline_name();
        let (ns, policy, class) = (&job.namespace, &*drift.policy, drift.class.into_str());
        let who = drift.claimed_writer();
        info!(namespace = %ns, policy, baseline, class, who, "drift repaired");
        self.samples.push(MetricSample::Drift(drift.class, kind(job, drift), self.waited(ns, now)));
        let done = match drift.class {
            Class::Missing => "created again",
            Class::Unmanaged => "adopted",
            Class::SpecChanged | Class::MetadataChanged | Class::Pinned | Class::Terminating | Class::Stale => "restored",
        };
        let uid = || Some(print.uid.to_string());
        if drift.class != Class::Unmanaged {
            let note =
                format!("{class}: the policy was {done} as baseline {baseline} plans it (last other field manager: {who})");
            self.announce(job, drift, uid(), EventReason::DriftRepaired, note, now);
        }
        if let Some(tracked) = self.tracked.get_mut(baseline) {
            let record = drift_record(now.wall, ns, policy, class, drift.who.as_deref(), done);
            tracked.note_drift(record, now.instant);
        }
        if self.outbox.policies.repaired(ns, policy, drift.who.as_ref(), now.instant) {
            self.samples.push(MetricSample::Contested(kind(job, drift)));
            let note = format!(
                "the policy was changed {REPAIRS} times within a minute (last other field manager: {who}): until it stays as planned, what opens something is repaired once a second, and the repair of anything else waits longer each time, up to 30 s"
            );
            warn!(namespace = %ns, policy, baseline, who, "the policy is changed again and again: repairs wait, those of openings for a second");
            self.announce(job, drift, uid(), EventReason::PolicyContested, note, now);
        }
    }

    /// Records that a policy with a planned name was adopted. The Event holds its former content. With it the owner can create the policy
    /// again under another name.
    fn adopted(&mut self, job: &Job, drift: &Drift, print: &Fingerprint, before: &str, now: Now) {
        let baseline = job.baseline_name();
        let (who, before) = (drift.claimed_writer(), &*shown(before));
        info!(namespace = %job.namespace, policy = drift.policy, baseline, who, before, "policy adopted: it had a planned name");
        let told = match before.char_indices().nth(TOLD) {
            Some((end, _)) => format!("{}… (the log of the operator has more)", &before[..end]),
            None => before.to_owned(),
        };
        let note = format!(
            "{}: the policy had a planned name and was adopted as baseline {baseline} plans it (last other field manager: {who}); before: {told}",
            drift.class.into_str()
        );
        self.announce(job, drift, Some(print.uid.to_string()), EventReason::PolicyAdopted, note, now);
    }

    /// Announces new bypasses in a namespace, and new blocks of calls from the API server. Each gets an Event on the policy that causes
    /// it.
    pub(super) fn tell_news(&mut self, ns: &NamespaceName, findings: &[(Arc<str>, Finding)], now: Now) {
        for (baseline, finding) in findings {
            let Some(tracked) = self.tracked.get(baseline) else { continue };
            let known = |problem: &Problem| tracked.problems(ns).into_iter().flatten().any(|known| known == problem);
            for problem in finding.problems.iter().filter(|problem| !known(problem)) {
                let (reason, what) = match problem.reason {
                    FindingReason::Violation(ViolationReason::Bypassed) => (EventReason::BaselineBypassed, "is bypassed"),
                    FindingReason::Violation(ViolationReason::ControlPlaneBlocked) => {
                        (EventReason::ControlPlaneBlocked, "blocks the control plane")
                    }
                    FindingReason::Violation(ViolationReason::MissingWhileTerminating) => {
                        warn!(namespace = %ns, baseline = %baseline, "policies are missing: {}", problem.message);
                        let note = format!("namespace {ns}: {}", problem.message);
                        self.announcements.push(about_baseline(
                            baseline,
                            tracked,
                            EventReason::MissingWhileTerminating,
                            note,
                            now,
                        ));
                        continue;
                    }
                    _ => continue,
                };
                let policy = problem.policy.clone().unwrap_or_default();
                let uid = self.observed.get(ns).and_then(|entry| entry.policies.get(&policy)).map(|print| print.uid.to_string());
                warn!(namespace = %ns, policy, baseline = %baseline, "baseline {what}: {}", problem.message);
                let note = format!("baseline {baseline} {what}: {}", problem.message);
                self.announcements.push(Announcement { namespace: ns.clone(), policy, uid, reason, note, at: now.wall });
            }
        }
    }

    pub(super) fn removed(&mut self, job: &Job, drift: &Drift, now: Now) {
        let Repair::Delete { uid, .. } = &drift.fix else { return };
        self.observed.policy_removed(&job.namespace, &drift.policy, uid);
        if self.is_planned(job, &drift.policy) {
            self.outbox.policies.succeeded_for_now(&job.namespace, &drift.policy);
        } else {
            self.outbox.policies.succeeded(&job.namespace, &drift.policy);
        }
        self.samples.push(MetricSample::Repair(Outcome::Removed));
        let owner = drift.baseline.as_deref().unwrap_or_default();
        let why = self.why_removed(job, drift, owner);
        info!(namespace = %job.namespace, policy = drift.policy, baseline = owner, why, "policy removed");
        let note = format!("the policy was removed: {why}");
        self.announce(job, drift, Some(uid.to_string()), EventReason::PolicyRemoved, note, now);
    }

    /// Records that a finalizer without an owner was removed. `left`: those that stay; if none stays, the policy is gone too.
    pub(super) fn finalizer_removed(&mut self, job: &Job, drift: &Drift, left: &[String], now: Now) {
        let Repair::RemoveFinalizer { uid, finalizer, .. } = &drift.fix else { return };
        if left.iter().any(|name| name == finalizer.into_str()) {
            let message = format!("the API server accepted the removal of {}, and something kept it", finalizer.into_str());
            self.failed(job, drift, Failure::MutatedByAdmission, &message, now);
            return;
        }
        if left.is_empty() {
            self.observed.policy_removed(&job.namespace, &drift.policy, uid);
        }
        self.outbox.policies.succeeded(&job.namespace, &drift.policy);
        let baseline = drift.baseline.as_deref().unwrap_or_default();
        let (finalizer, group) = (finalizer.into_str(), finalizer.group());
        info!(namespace = %job.namespace, policy = drift.policy, baseline, finalizer, group, "finalizer removed from a deleted policy: the cluster has no CRD of its group");
        let note = format!(
            "the policy was deleted over a minute ago, and the finalizer {finalizer} kept it. The operator removed the finalizer, because its owner is not in the cluster: there is no CRD of the group {group}"
        );
        self.announce(job, drift, Some(uid.to_string()), EventReason::FinalizerRemoved, note, now);
    }

    /// Whether the policy is only removed for now: the baseline plans it, and waits for an allow.
    fn is_planned(&self, job: &Job, policy: &str) -> bool {
        let namespace = self.observed.get(&job.namespace).and_then(|entry| entry.namespace.as_ref());
        let plan = job.baseline.as_deref().zip(namespace);
        plan.is_some_and(|(baseline, namespace)| baseline.plans_named(policy, namespace))
    }

    /// Why baseline `owner` no longer plans this policy in the namespace.
    fn why_removed(&self, job: &Job, drift: &Drift, owner: &str) -> String {
        match &job.baseline {
            _ if self.tracked.get(owner).is_some_and(|tracked| tracked.deleting) => {
                format!("baseline {owner} is being deleted, with deletionPolicy: Delete")
            }
            None => format!("baseline {owner} no longer selects this namespace"),
            Some(winner) if &*winner.name != owner => {
                format!("baseline {} now applies to this namespace, instead of {owner}", winner.name)
            }
            Some(_) if self.is_planned(job, &drift.policy) => {
                "another allow cannot be written yet. Without it, and without a default-deny, this policy alone would close the pods that it selects".into()
            }
            Some(winner) => {
                let ns = self.observed.get(&job.namespace).and_then(|entry| entry.namespace.as_ref());
                let purpose = winner.policies.iter().find(|policy| *policy.name == *drift.policy).map(|policy| &policy.purpose);
                let why = purpose.zip(ns).and_then(|(purpose, ns)| winner.why_not_planned(purpose, ns));
                let why = why.unwrap_or_else(|| "its spec no longer names it".into());
                format!("baseline {owner} no longer plans it in this namespace: {why}")
            }
        }
    }

    pub(super) fn failed(&mut self, job: &Job, drift: &Drift, reason: Failure, message: &str, now: Now) {
        let is_news = self.outbox.policies.failed(&job.namespace, &drift.policy, reason, message.to_owned(), now.instant);
        self.samples.push(MetricSample::Repair(Outcome::Failed));
        if is_news {
            warn!(namespace = %job.namespace, policy = drift.policy, class = drift.class.into_str(), reason = reason.into_str(), "write failed, trying again: {message}");
            let note = format!("{reason}: {message}");
            self.announce(job, drift, None, EventReason::RepairFailed, note, now);
        }
    }

    fn announce(&mut self, job: &Job, drift: &Drift, uid: Option<String>, reason: EventReason, note: String, now: Now) {
        let (namespace, policy) = (job.namespace.clone(), drift.policy.clone());
        self.announcements.push(Announcement { namespace, policy, uid, reason, note, at: now.wall });
    }
}

fn kind(job: &Job, drift: &Drift) -> Option<PurposeKind> {
    let Repair::Apply { index, .. } = &drift.fix else { return None };
    job.baseline.as_ref()?.policies.get(*index).map(|policy| policy.purpose.kind())
}
