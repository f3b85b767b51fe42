//! Rollouts: which namespaces keep a former revision of a baseline, and when the next wave moves some of them to the current spec. The
//! state of a rollout is in the cluster: in the policies and in the stored revisions. So a restarted instance or a new leader continues
//! where the last one stopped. `closing.rs` finds the open namespaces that waves close.
//!
//! One file: each function is a step in the life of the same rollout.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use strum::VariantArray;
use tracing::{info, warn};

use super::{
    Engine,
    clock::Now,
    facts::{baseline::InstallOwnership, readiness::WatchedSet},
    outbox::baseline_status::BaselineState,
    waves::{RolloutCounts, UnderWay},
};
use crate::{
    api::{
        NamespaceName,
        baseline::Mode,
        reason::{Failure, rollout as reason},
        rollout::RolloutStatus,
    },
    policy::{
        drift::{Drift, targets},
        plan::{Baseline, Behind, Decision, Known, Revision, StoredPolicy, keeps},
        rollout::{NextStep, Pause, Progress, RolloutProgress, WaveRank},
        status::{Finding, NamespaceState},
    },
};

/// How many revisions of unfinished rollouts are kept, the newest ones. Some namespaces may still have their policies.
const LEFT: usize = 2;

/// Whether a baseline writes policies.
fn is_at_work(baseline: &Baseline) -> bool {
    baseline.mode == Mode::Enforce && !baseline.suspended
}

impl Engine {
    /// Remembers the revision before an edit. The rollout of the edit starts from it, even if it was never stored.
    pub(super) fn was_before(&mut self, name: &Arc<str>, before: Option<&Arc<Baseline>>) {
        if let Some(before) = before.filter(|b| is_at_work(b)) {
            self.rollouts.before.entry(name.clone()).or_insert_with(|| before.revision.clone());
        }
    }

    /// Finds out which rollouts there are. Called when baselines or stored revisions change.
    pub(super) fn recompute_rollouts(&mut self, now: Now) {
        if !self.may_decide() {
            return;
        }
        let names: Vec<Arc<str>> = self.tracked.keys().cloned().collect();
        for name in names {
            self.recompute_rollout(&name, now);
        }
        // A baseline that is stalled, suspended or in Audit rolls nothing out. So its next rollout still starts from the remembered
        // revision.
        let tracked = &self.tracked;
        let rests = |name: &str| tracked.get(name).is_some_and(|t| !t.checked.as_ref().is_ok_and(|b| is_at_work(b)));
        self.rollouts.before.retain(|name, _| rests(name));
        self.rollouts.open.clear();
        self.rollouts.open_is_unknown = false;
    }

    fn recompute_rollout(&mut self, name: &Arc<str>, now: Now) {
        let Some(tracked) = self.tracked.get(name) else { return };
        let target = match self.baselines.known(name) {
            Known::Valid(target) if tracked.turn == InstallOwnership::Ours => Some(target.clone()),
            Known::Valid(_) | Known::Invalid | Known::Gone => None,
        };
        // A stalled or suspended baseline freezes its namespaces, so its status keeps the rollout. The progress is read again when work
        // goes on.
        let is_frozen = target.as_ref().is_none_or(|b| b.suspended);
        let goes_out = |b: &Arc<Baseline>| b.rollout.is_some() && !b.deleting && !b.suspended && b.mode == Mode::Enforce;
        let Some(target) = target.filter(goes_out) else {
            self.end_rollout(name);
            if let Some(tracked) = self.tracked.get_mut(name) {
                // When it goes on, the namespaces that are open then are remembered.
                tracked.was_edited_unseen();
            }
            if let Some(tracked) = self.tracked.get_mut(name).filter(|_| !is_frozen) {
                tracked.show_rollout(None, None, now.instant);
            }
            return;
        };
        let formers = self.formers(name, &target);
        let to_close = self.find_to_close(name, &target);
        if formers.is_empty() && to_close.is_empty() && !self.closes_now(name, &target) {
            self.end_rollout(name);
            self.show_rollout(name, now);
            return;
        }
        for former in &formers {
            self.targets.insert(former.key.clone(), targets(former));
        }
        let same = |u: &UnderWay| {
            u.target.revision.id == target.revision.id && u.formers.iter().map(|f| &f.key).eq(formers.iter().map(|f| &f.key))
        };
        match self.rollouts.under_way.remove(name).filter(same) {
            Some(under_way) => self.go_on(name, under_way, target, formers),
            None => self.set_out(name, target, formers, to_close.len(), now),
        }
        self.baselines.set_to_close(name, to_close);
    }

    /// Whether the last wave is closing namespaces: then none waits, and the rollout is not over.
    fn closes_now(&self, name: &str, target: &Baseline) -> bool {
        let is_same = |u: &&UnderWay| u.formers.is_empty() && u.target.revision.id == target.revision.id;
        self.rollouts.under_way.get(name).filter(is_same).is_some_and(|u| u.rollout.reached() > u.rollout.holding())
    }

    /// The revisions that a rollout starts from. The first is the last one that reached all namespaces. Empty if there is nothing to roll
    /// out.
    fn formers(&self, name: &Arc<str>, target: &Arc<Baseline>) -> Vec<Arc<Baseline>> {
        let under_way = self.rollouts.under_way.get(name).map(|u| u.formers.iter().map(|f| &f.revision));
        let stored = self.outbox.revisions.of(name, &self.tracked);
        // Somebody may have deleted stored revisions, so those in memory count too.
        let known = under_way.into_iter().flatten().chain(stored).chain(self.rollouts.before.get(name));
        let mut revisions: Vec<&Revision> = Vec::new();
        for revision in known {
            if !revisions.iter().any(|r| r.id == revision.id) {
                revisions.push(revision);
            }
        }
        if revisions.first().is_none_or(|settled| settled.id == target.revision.id) {
            // A change that was reverted needs no waves: it goes back at once.
            return vec![];
        }
        revisions.retain(|r| r.id != target.revision.id);
        let surplus = revisions.len().saturating_sub(1 + LEFT);
        revisions.drain(1..=surplus);
        let mut formers = Vec::new();
        for revision in revisions {
            match target.at(revision, self.installs.own()) {
                Ok(former) => formers.push(Arc::new(former.with_cluster(&self.dns.cluster, &self.api.cluster))),
                Err(error) => {
                    warn!(baseline = %name, revision = %revision.id, "a former revision is ignored: {error}");
                    // The first one reached all namespaces. A revision of an unfinished rollout cannot replace it.
                    if formers.is_empty() {
                        return formers;
                    }
                }
            }
        }
        formers
    }

    /// Continues the same rollout with a baseline that may have changed in other fields.
    fn go_on(&mut self, name: &Arc<str>, mut under_way: UnderWay, target: Arc<Baseline>, formers: Vec<Arc<Baseline>>) {
        let generation = self.tracked.get(name).and_then(BaselineState::generation);
        if let Some(strategy) = target.rollout {
            under_way.rollout.strategy = strategy;
        }
        if under_way.generation != generation {
            under_way.rollout.resume();
        }
        let behind = self.baselines.behind(name).into_iter().flatten();
        let renewed = |(ns, kept): (&NamespaceName, &Arc<Baseline>)| {
            Some((ns.clone(), formers.iter().find(|f| f.key == kept.key)?.clone()))
        };
        let behind: Behind = behind.filter_map(renewed).collect();
        self.baselines.set_behind(name, behind);
        self.rollouts.under_way.insert(name.clone(), UnderWay { generation, target, formers, ..under_way });
    }

    /// Starts a rollout in this process. It may be new, or another process may have begun it.
    fn set_out(&mut self, name: &Arc<str>, target: Arc<Baseline>, formers: Vec<Arc<Baseline>>, to_close: usize, now: Now) {
        let (Some(tracked), Some(strategy)) = (self.tracked.get(name), target.rollout) else { return };
        let settled = formers.first();
        let stored = tracked.stored_rollout().filter(|stored| *stored.revision == *target.revision.id);
        let lasts = |c: &&Condition| c.reason == reason::TOO_MANY_FAILURES;
        let paused = stored.and_then(|_| tracked.stored_pause()).filter(lasts);
        let paused = paused.map(|c| Pause { reason: c.reason.clone(), message: c.message.clone() });
        let next = stored.and_then(|s| s.next_wave_at.as_ref()).map(|at| at.0);
        let mut rollout = RolloutProgress::new(strategy, stored.map_or(0, |s| s.waves), next, paused, now.wall);
        self.baselines.set_behind(name, Behind::new());
        let mut behind = Behind::new();
        for (ns, entry) in self.observed.iter() {
            let Some(namespace) = &entry.namespace else { continue };
            let holds = || entry.policies.iter().filter(|(_, print)| print.ours && print.baseline.as_ref() == Some(name));
            let (Some(settled), true) = (settled, holds().next().is_some()) else { continue };
            // A frozen namespace keeps its former revision too: it may continue with this baseline later.
            let is_frozen = match self.baselines.decide(namespace, &entry.holdings()).decision {
                Decision::Protected(baseline) if baseline.name == *name => false,
                Decision::Frozen(_) => true,
                _ => continue,
            };
            let held: Vec<StoredPolicy> = holds()
                .map(|(name, print)| StoredPolicy { name, plan: print.plan.as_deref(), asked: print.asked.as_deref() })
                .collect();
            if let Some(former) = keeps(&target, &formers, namespace, &held).and_then(|at| formers.get(at)) {
                behind.insert(ns.clone(), former.clone());
            } else if !is_frozen && target.differs_from(settled, namespace) {
                rollout.set(ns, Progress::Writing);
            }
        }
        info!(baseline = %name, revision = %target.revision.id, waiting = behind.len() + to_close, reached = rollout.reached(), "rollout begins: the change goes to the namespaces in waves");
        self.baselines.set_behind(name, behind);
        let generation = tracked.generation();
        self.rollouts.under_way.insert(name.clone(), UnderWay { generation, target, formers, rollout });
    }

    /// Forgets the progress of all rollouts, so that it is read from the cluster again. Needed when another instance may have worked
    /// there. Which open namespaces wait to be closed is known only here: those that the other instance closed hold policies.
    pub(super) fn forget_rollouts(&mut self) {
        let names: Vec<Arc<str>> = self.rollouts.under_way.keys().cloned().collect();
        for name in names {
            self.forget_progress(&name);
        }
    }

    fn forget_progress(&mut self, name: &Arc<str>) {
        for former in self.rollouts.under_way.remove(name).into_iter().flat_map(|u| u.formers) {
            self.targets.remove(&former.key);
        }
        self.baselines.set_behind(name, Behind::new());
    }

    /// Ends the rollout of a baseline: every namespace gets the current spec.
    pub(super) fn end_rollout(&mut self, name: &Arc<str>) {
        self.forget_progress(name);
        self.baselines.set_to_close(name, BTreeSet::new());
    }

    /// Forgets the rollouts of a deleted baseline. A new baseline with its name starts fresh.
    pub(super) fn forget_rollout(&mut self, name: &Arc<str>) {
        self.end_rollout(name);
        self.rollouts.before.remove(name);
        self.outbox.revisions.forget(name);
    }

    /// Notes the progress of each rollout in a namespace that was assessed.
    pub(super) fn note_progress(
        &mut self,
        ns: &NamespaceName,
        findings: &[(Arc<str>, Finding)],
        drifts: &[Drift],
        baseline: Option<&Arc<Baseline>>,
        frozen: bool,
    ) {
        if self.rollouts.under_way.is_empty() {
            return;
        }
        if frozen {
            // Nothing is written to a frozen namespace, so a wave does not wait for it. The rollout continues there when the freeze ends.
            self.rollouts.under_way.values_mut().for_each(|under_way| under_way.rollout.wait_no_more(ns));
            return;
        }
        let namespace = self.observed.get(ns).and_then(|entry| entry.namespace.as_ref());
        for (name, under_way) in &mut self.rollouts.under_way {
            let (Some(baseline), Some(namespace)) = (baseline.filter(|b| b.name == *name), namespace) else {
                under_way.rollout.forget(ns);
                self.baselines.catch_up(name, ns);
                continue;
            };
            let settled = under_way.formers.first();
            let concerns = || settled.is_some_and(|settled| under_way.target.differs_from(settled, namespace));
            if baseline.is_former() || !(under_way.rollout.has_reached(ns) || concerns()) {
                continue;
            }
            let finding = findings.iter().find(|(of, _)| of == name).map(|(_, finding)| finding);
            let progress = match finding {
                Some(finding) if finding.state == NamespaceState::Failed && speaks_of_the_change(finding) => Progress::Fails,
                _ if drifts.iter().all(|d| d.fix.concerns_finalizers()) => Progress::Holds,
                _ => Progress::Writing,
            };
            under_way.rollout.set(ns, progress);
        }
    }

    /// Forgets a namespace that was deleted, or replaced by a new one with the same name.
    pub(super) fn namespace_left(&mut self, ns: &NamespaceName) {
        for (name, under_way) in &mut self.rollouts.under_way {
            under_way.rollout.forget(ns);
            self.baselines.catch_up(name, ns);
            self.baselines.close_now(name, ns);
        }
    }

    /// Begins the waves that are due, and ends complete rollouts. Does nothing until every known namespace is assessed.
    pub(super) fn roll_out(&mut self, now: Now) {
        if !self.leads || !self.dirty.is_empty() {
            return;
        }
        self.rollouts.next = None;
        let names: Vec<Arc<str>> = self.rollouts.under_way.keys().cloned().collect();
        for name in names {
            self.step(&name, now);
            self.show_rollout(&name, now);
        }
    }

    fn step(&mut self, name: &Arc<str>, now: Now) {
        let waiting = self.waiting_for_waves(name);
        let (Some(tracked), Some(under_way)) = (self.tracked.get(name), self.rollouts.under_way.get_mut(name)) else { return };
        // The target and all former revisions must be stored first, so that the next leader knows them.
        let is_stored = |b: &Arc<Baseline>| self.outbox.revisions.has(name, tracked, &b.revision.id);
        if !is_stored(&under_way.target) || !under_way.formers.iter().all(is_stored) {
            return;
        }
        match under_way.rollout.step(waiting, now.wall) {
            NextStep::Wait => {}
            NextStep::Finish => {
                info!(baseline = %name, revision = %under_way.target.revision.id, "rollout complete: the change has reached all namespaces");
                let changed_policies = !under_way.formers.is_empty();
                self.end_rollout(name);
                if let Some(tracked) = self.tracked.get(name).filter(|_| changed_policies) {
                    self.outbox.revisions.settle(name, tracked);
                }
            }
            NextStep::Begin => self.begin_wave(name, now),
        }
        if let Some(under_way) = self.rollouts.under_way.get(name)
            && let Some(at) = under_way.rollout.next()
        {
            let at = now.instant + until(at, now.wall);
            self.rollouts.next = Some(self.rollouts.next.map_or(at, |next| next.min(at)));
        }
    }

    /// How many namespaces no wave has reached.
    fn waiting_for_waves(&self, name: &str) -> usize {
        self.baselines.behind(name).map_or(0, BTreeMap::len) + self.baselines.to_close(name).count()
    }

    fn begin_wave(&mut self, name: &Arc<str>, now: Now) {
        let Some(under_way) = self.rollouts.under_way.get_mut(name) else { return };
        let settled = under_way.formers.first().map(|settled| settled.key.clone());
        let rank = |ns: &NamespaceName, kept: Option<&Arc<Baseline>>| {
            let namespace = self.observed.get(ns).and_then(|entry| entry.namespace.as_ref());
            match namespace {
                Some(namespace) if under_way.target.is_canary(namespace) => WaveRank::Canary,
                _ if kept.is_some_and(|kept| settled.as_ref() != Some(&kept.key)) => WaveRank::Left,
                _ => WaveRank::Other,
            }
        };
        // A frozen namespace takes no part in this wave, and no other namespace waits for it.
        let is_frozen = |ns: &NamespaceName| {
            let entry = self.observed.get(ns);
            let decided = entry.and_then(|e| Some(self.baselines.decide(e.namespace.as_ref()?, &e.holdings()).decision));
            matches!(decided, Some(Decision::Frozen(_)))
        };
        let behind = self.baselines.behind(name).into_iter().flatten().map(|(ns, kept)| (ns, Some(kept)));
        let waiting = behind.chain(self.baselines.to_close(name).map(|ns| (ns, None))).filter(|(ns, _)| !is_frozen(ns));
        let waiting: Vec<_> = waiting.map(|(ns, kept)| (rank(ns, kept), ns.clone())).collect();
        if waiting.is_empty() {
            return under_way.rollout.postpone(now.wall);
        }
        let wave = under_way.rollout.begin(waiting);
        info!(baseline = %name, wave = under_way.rollout.waves(), namespaces = wave.len(), "a wave of the rollout begins");
        for ns in wave {
            self.baselines.catch_up(name, &ns);
            self.baselines.close_now(name, &ns);
            self.dirty.push(ns, false);
        }
    }

    /// Puts the progress of a rollout, and what stops it, into the status.
    pub(super) fn show_rollout(&mut self, name: &Arc<str>, now: Now) {
        let behind = self.waiting_for_waves(name);
        let under_way = self.rollouts.under_way.get(name);
        let status = under_way.map(|under_way| {
            let rollout = &under_way.rollout;
            let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
            RolloutStatus {
                revision: under_way.target.revision.id.to_string(),
                total: count(behind + rollout.reached()),
                moved: count(rollout.holding()),
                waves: rollout.waves(),
                next_wave_at: rollout.next().map(Time),
            }
        });
        let asks = |tracked: &&BaselineState| tracked.checked.as_ref().is_ok_and(|b| b.rollout.is_some());
        let Some(tracked) = self.tracked.get(name).filter(asks) else { return };
        let state = self.readiness.state(WatchedSet::Revisions);
        let paused = under_way.and_then(|u| u.rollout.paused()).map(|p| (p.reason.clone(), p.message.clone()));
        let paused = paused.or_else(|| self.outbox.revisions.trouble(name, tracked, state));
        if let Some(tracked) = self.tracked.get_mut(name) {
            tracked.show_rollout(status, paused, now.instant);
        }
    }

    /// Counts of namespaces in rollouts and of paused rollouts, for the metrics. All are zero unless this instance leads.
    pub fn rollout_counts(&self) -> RolloutCounts {
        let mut counts = RolloutCounts::default();
        if !self.leads {
            return counts;
        }
        for (name, UnderWay { rollout, .. }) in &self.rollouts.under_way {
            counts.moved += rollout.holding();
            counts.moving += rollout.reached() - rollout.holding();
            counts.waiting += self.waiting_for_waves(name);
            counts.paused += usize::from(rollout.paused().is_some());
        }
        counts
    }
}

fn until(at: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(at.duration_since(now).max(SignedDuration::ZERO)).unwrap_or_default()
}

/// Whether the change itself may be the cause of a failed write. A conflict, or an API server that is busy or down, is not. Neither is
/// anything else that is wrong in the namespace, such as a bypass.
fn speaks_of_the_change(finding: &Finding) -> bool {
    const OF_THE_MOMENT: [Failure; 4] = [Failure::Conflict, Failure::Throttled, Failure::TimedOut, Failure::Unavailable];
    let lasting = || Failure::VARIANTS.iter().filter(|failure| !OF_THE_MOMENT.contains(failure));
    finding.problems.iter().any(|problem| lasting().any(|failure| problem.reason == (*failure).into()))
}
