//! The assessment of namespaces: which ones are due, and the steps of one assessment.

use std::{collections::HashMap, time::Duration};

use super::{
    Engine,
    assess::{Assessment, Surroundings, assess},
    clock::Now,
    facts::entry::{ChangeOrigin, Entry},
    jobs::{cause, policies_of},
    sample::MetricSample,
    writes::{Cause, denied_by, is_allow, isolates_anew},
};
use crate::{
    api::NamespaceName,
    policy::{
        drift::{Class, Drift, Fingerprint, Repair},
        plan::Baseline,
    },
};

/// How many namespaces one call assesses before events are handled again: about 5 ms of work.
const ASSESS_AT_ONCE: usize = 512;
/// The same while namespaces wait for writes, or writes are under way. A change of one baseline marks every namespace of the cluster, and
/// the results of writes must not wait until all of them are assessed.
const ASSESS_WHILE_BUSY: usize = 64;

/// The state of one assessment, which its steps share.
struct Pass<'a> {
    name: &'a NamespaceName,
    now: Now,
    /// What `compare` found.
    found: Assessment,
    /// Writes to the namespace are under way. The watch can show them before the API server answers, and only the answer shows what was
    /// done.
    in_flight: bool,
}

type Step = fn(&mut Engine, &mut Pass<'_>);

/// The steps of an assessment, in their order.
const STEPS: [Step; 12] = [
    // First: the verdict on an opt-out depends on which baseline applies, not on what `compare` finds.
    Engine::judge_opt_outs,
    // Second: all later steps use its result.
    Engine::compare,
    // Before `report`: a problem is new if the findings reported so far do not contain it.
    Engine::announce_news,
    // Right after `announce_news`: from here on these findings are the known ones.
    Engine::report,
    // Together with `report`: the status shows how many policies are left, and the finalizer is removed when none is left.
    Engine::count_what_is_left,
    // Of what `compare` found, like the two before.
    Engine::count_orphans,
    // Before `release_claims` forgets that the namespace was ours: it may have been opened before that.
    Engine::note_open,
    // From the same drifts as `report`: the label must not claim more than the status.
    Engine::want_label,
    // From the same findings: the progress of a wave is what was found, not what will be written next.
    Engine::note_wave,
    // Before the next two steps: both check whether the namespace was ours.
    Engine::release_claims,
    // Before `queue_writes`: how urgent a write is depends on who changed the namespace.
    Engine::settle,
    // Last, because it takes the drifts out of the pass.
    Engine::queue_writes,
];

impl Engine {
    /// Assesses changed namespaces, in one call only so many that neither events nor writes wait long. Returns whether more are
    /// waiting.
    pub fn assess_dirty(&mut self, now: Now) -> bool {
        self.note_overdue_lists(now);
        self.note_failing_watches(now);
        let was_synced = self.is_synced();
        self.dns_due(now);
        self.api_due(now);
        self.begin_if_synced(was_synced, now);
        self.wait_for_backends(now);
        self.wait_for_revisions(now);
        self.wait_for_plugins(now);
        self.announce_missing_fields(now);
        self.announce_elder(now);
        if !self.may_decide() {
            return false;
        }
        self.count_namespaces();
        self.let_opt_outs_end(now);
        self.end_holds(now);
        for ns in self.outbox.policies.due(now.instant) {
            self.dirty.push(ns, true);
        }
        let is_busy = !self.in_flight.is_empty() || !self.ready.is_empty();
        let mut is_changed = false;
        for _ in 0..if is_busy { ASSESS_WHILE_BUSY } else { ASSESS_AT_ONCE } {
            let Some(ns) = self.dirty.pop() else { break };
            self.assess_namespace(&ns, now);
            is_changed = true;
        }
        if self.dirty.is_empty() {
            self.recount_releases(is_changed, now);
        }
        self.surveyed |= self.leads && self.dirty.is_empty();
        self.roll_out(now);
        !self.dirty.is_empty()
    }

    /// Whether decisions may begin and namespaces are waiting to be assessed.
    pub fn has_news(&self) -> bool {
        self.may_decide() && !self.dirty.is_empty()
    }

    pub(super) fn all_dirty(&mut self) {
        for (name, _) in self.observed.iter() {
            self.dirty.push(name.clone(), false);
        }
    }

    pub(super) fn assess(&self, ns: &NamespaceName, entry: &Entry, now: Now) -> Assessment {
        let failure = |policy: &str| self.outbox.policies.problem(ns, policy);
        let around = Surroundings {
            baselines: &self.baselines,
            targets: &self.targets,
            census: self.census.counted(),
            ownerless: self.finalizer_owners.absent(),
            now: now.wall,
        };
        assess(entry, self.observed.lacking_since(ns), &around, failure, self.outbox.policies.contested(ns))
    }

    fn assess_namespace(&mut self, name: &NamespaceName, now: Now) {
        if self.observed.get(name).is_none() {
            return;
        }
        let in_flight = self.in_flight.contains_key(name);
        let mut pass = Pass { name, now, found: Assessment::default(), in_flight };
        for step in STEPS {
            step(self, &mut pass);
        }
    }

    /// Judges the opt-outs of the namespace.
    fn judge_opt_outs(&mut self, pass: &mut Pass<'_>) {
        self.recompute_verdicts(pass.name, pass.now);
    }

    /// Compares the policies in the namespace with the plan.
    fn compare(&mut self, pass: &mut Pass<'_>) {
        if let Some(entry) = self.observed.get(pass.name) {
            pass.found = self.assess(pass.name, entry, pass.now);
        }
        let since = self.observed.lacking_since(pass.name).unwrap_or(pass.now.wall);
        self.observed.set_lacking_since(pass.name, pass.found.lacks.then_some(since));
        if let Some(wait) = pass.found.look_again {
            self.outbox.policies.look_again(pass.name, pass.now.instant + wait);
        }
    }

    /// Announces new problems that somebody else caused.
    fn announce_news(&mut self, pass: &mut Pass<'_>) {
        if self.surveyed && self.leads {
            self.tell_news(pass.name, &pass.found.findings, pass.now);
        }
    }

    /// Stores each finding with the baseline that it concerns.
    fn report(&mut self, pass: &mut Pass<'_>) {
        for (name, tracked) in &mut self.tracked {
            match pass.found.findings.iter().find(|(of, _)| of == name) {
                Some((_, finding)) => tracked.set(pass.name, finding.clone(), pass.now),
                None => tracked.forget(pass.name, pass.now.instant),
            }
        }
    }

    /// Counts the policies here that a baseline in deletion still has to remove. When the deletion begins, every namespace is assessed,
    /// and later each changed one. So one namespace at a time is enough.
    fn count_what_is_left(&mut self, pass: &mut Pass<'_>) {
        let Some(entry) = self.observed.get(pass.name) else { return };
        let lives = entry.namespace.as_ref().is_some_and(|namespace| !namespace.terminating);
        for (name, tracked) in self.tracked.iter_mut().filter(|(_, tracked)| tracked.removes_all()) {
            // One that is going still counts: somebody's finalizer may hold it for long, and until then it closes its namespace.
            let theirs = |print: &&Fingerprint| lives && print.ours && print.baseline.as_ref() == Some(name);
            tracked.set_policies_left(pass.name, entry.policies.values().filter(theirs).count(), pass.now.instant);
        }
    }

    /// Counts the policies with our labels that nobody keeps.
    fn count_orphans(&mut self, pass: &mut Pass<'_>) {
        self.orphans.set(pass.name, pass.found.orphans);
    }

    /// Notes when no plan closes the namespace any more.
    fn note_open(&mut self, pass: &mut Pass<'_>) {
        self.recompute_closed(pass.name, pass.found.baseline.as_deref(), pass.found.frozen);
    }

    /// Decides which label the namespace should carry.
    fn want_label(&mut self, pass: &mut Pass<'_>) {
        let Assessment { drifts, baseline, frozen, .. } = &pass.found;
        self.recompute_label(pass.name, baseline.as_deref(), drifts, *frozen);
    }

    /// Notes the progress of each rollout in this namespace.
    fn note_wave(&mut self, pass: &mut Pass<'_>) {
        let Assessment { findings, drifts, baseline, frozen, .. } = &pass.found;
        // No rollout waits for a namespace that is being deleted.
        let baseline = baseline.as_ref().filter(|_| !self.observed.is_terminating(pass.name));
        self.note_progress(pass.name, findings, drifts, baseline, *frozen);
    }

    /// Forgets that the namespace was ours, if no policy of ours is left and no baseline claims it. Then the namespace is assessed again.
    fn release_claims(&mut self, pass: &mut Pass<'_>) {
        if self.release_claim(pass.name) {
            self.dirty.push(pass.name.clone(), false);
        }
    }

    /// Notes that the namespace is as planned, or that the leader is still writing its first policies.
    fn settle(&mut self, pass: &mut Pass<'_>) {
        let name = pass.name;
        let Assessment { drifts, baseline, frozen, .. } = &pass.found;
        let waited = self.waited(name, pass.now);
        let Some(entry) = self.observed.get_mut(name) else { return };
        if drifts.is_empty() {
            self.outbox.policies.all_succeeded(name, pass.now.instant);
            if let Some(baseline) = baseline {
                entry.owner = Some(baseline.name.clone());
            }
            if *frozen {
                self.waits_no_more(name);
            } else if !pass.in_flight {
                let before = std::mem::replace(&mut entry.standing, ChangeOrigin::Settled);
                if before == ChangeOrigin::Bootstrapping && self.leads && !pass.found.lacks {
                    // The answers to the first writes were lost, so the sample is taken here.
                    self.samples.push(MetricSample::Protected(waited));
                }
                self.waits_no_more(name);
            }
        } else if !self.leads && !entry.was_ours() && baseline.is_some() {
            // The leader writes the first policies. If it stops before all exist, the missing ones do not count as drift.
            entry.standing = ChangeOrigin::Bootstrapping;
        }
    }

    /// Queues the namespace for its writes. While writes are under way it does nothing: their results start a new assessment.
    fn queue_writes(&mut self, pass: &mut Pass<'_>) {
        if pass.in_flight {
            return;
        }
        let is_urgent = |entry: &Entry| entry.standing == ChangeOrigin::Touched || !entry.was_ours();
        let urgent = self.observed.get(pass.name).is_some_and(is_urgent);
        let baseline = pass.found.baseline.as_deref();
        let drifts = self.writable(pass.name, baseline, std::mem::take(&mut pass.found.drifts), pass.now);
        if !drifts.is_empty() {
            self.ready.push(pass.name.clone(), urgent);
        }
    }

    /// The drifts that may be repaired now. Removals wait until all planned policies are there. The plan or the namespace may change
    /// during the writes, so removals are decided after them. A default-deny of a direction that is to be open waits for nothing. While an
    /// allow cannot be written, nothing isolates a pod anew.
    pub(super) fn writable(
        &self,
        ns: &NamespaceName,
        baseline: Option<&Baseline>,
        mut drifts: Vec<Drift>,
        now: Now,
    ) -> Vec<Drift> {
        let Some(entry) = self.observed.get(ns).filter(|_| !drifts.is_empty()) else { return vec![] };
        let plan = baseline.zip(entry.namespace.as_ref());
        let planned = plan.map(|(baseline, namespace)| baseline.closes(namespace)).unwrap_or_default();
        let opens = |d: &Drift| denied_by(d).is_some_and(|role| !planned.by(role));
        // An allow that loses a direction keeps it until the default-deny of that direction is gone: else its traffic would be closed.
        let a_deny_goes = drifts.iter().any(opens);
        let is_by_others = |d: &Drift| cause(entry, d) == Cause::Others;
        let follows = |d: &Drift| a_deny_goes && is_allow(baseline, d) && d.class == Class::SpecChanged && !is_by_others(d);
        // What isolates pods without the allow that cannot be written.
        let is_planned = |d: &Drift| plan.is_some_and(|(baseline, ns)| baseline.plans_named(&d.policy, ns));
        let is_alone = |d: &Drift| d.is_removal() && denied_by(d).is_none() && is_planned(d);
        let all_there = drifts.iter().all(|d| d.is_removal() || follows(d));
        let has_budget = self.outbox.policies.has_budget(ns, policies_of(entry, baseline), now.instant);
        let is_due = |d: &Drift| {
            d.fix != Repair::WaitForFinalizer
                && !follows(d)
                && (all_there || !d.is_removal() || opens(d) || is_alone(d))
                && self.outbox.policies.allows(ns, &d.policy, d.class.opens() && !d.fix.concerns_finalizers(), now.instant)
                && (has_budget || self.closes_an_opening(ns, d))
        };
        // One that failed is tried again, but not beside anything that isolates pods, and not before what isolates them is gone.
        let has_failed = |d: &Drift| self.outbox.policies.problem(ns, &d.policy).is_some();
        let is_hindered = |d: &Drift| is_allow(baseline, d) && !follows(d) && (!is_due(d) || has_failed(d));
        let an_allow_is_hindered = drifts.iter().any(is_hindered);
        let one_is_alone = drifts.iter().any(|d| is_alone(d) && is_due(d));
        // What stood beside a default-deny is decided after it is gone: by then it may be planned again.
        let a_deny_is_there = drifts.iter().any(|d| denied_by(d).is_some());
        let may_go = |d: &Drift| {
            if is_alone(d) { an_allow_is_hindered } else { denied_by(d).is_some() || !d.is_removal() || !a_deny_is_there }
        };
        let closed = entry.was_closed();
        let may_isolate =
            |d: &Drift| !isolates_anew(baseline, d, closed) || !an_allow_is_hindered || (is_hindered(d) && !one_is_alone);
        drifts.retain(|d| is_due(d) && may_go(d) && may_isolate(d));
        drifts
    }

    /// Whether the repair closes what somebody opened: by a change of a planned policy, or by a policy that is to be removed.
    pub(super) fn closes_an_opening(&self, ns: &NamespaceName, drift: &Drift) -> bool {
        let Some(entry) = self.observed.get(ns).filter(|_| !drift.fix.concerns_finalizers()) else { return false };
        let opens = || entry.policies.get(&drift.policy).is_some_and(|print| !print.opens.is_none());
        (drift.class.opens() && cause(entry, drift) == Cause::Others) || opens()
    }

    /// Notes that the namespace has no work left.
    pub(super) fn waits_no_more(&mut self, ns: &NamespaceName) {
        if self.waiting.remove(ns).is_some() && self.waiting.is_empty() {
            self.waiting = HashMap::new();
        }
    }

    /// How long the namespace has had work to do; zero if it has none.
    pub(super) fn waited(&self, ns: &NamespaceName, now: Now) -> Duration {
        self.waiting.get(ns).map_or(Duration::ZERO, |since| now.instant.saturating_duration_since(*since))
    }
}
