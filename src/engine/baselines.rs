//! Handles the baselines that the watch shows: which install works on each, whether it can be used, and whether it may release namespaces.

use std::{collections::BTreeMap, sync::Arc};

use tracing::{info, warn};

use super::{
    Engine,
    clock::Now,
    facts::{
        baseline::{InstallOwnership, RawBaseline},
        relist::WhyListAgain,
    },
    outbox::baseline_status::BaselineState,
};
use crate::policy::plan::{Baseline, BaselineError, Known};

/// How many namespaces the change of a baseline would open.
#[derive(Clone, Copy, Debug, Default)]
struct OpenedNamespaces {
    /// Those that nobody freezes.
    opened: usize,
    /// Those that an invalid or suspended baseline keeps as they are for now. They count only for a change that waits already.
    frozen: usize,
    /// Of so many closed namespaces that the change concerns.
    of: usize,
}

/// Whether the change of a baseline may begin to wait for a confirmation, or only end that.
#[derive(Clone, Copy, PartialEq)]
enum NewWaits {
    Begin,
    DoNotBegin,
}

impl Engine {
    pub(super) fn baseline_seen(&mut self, raw: &RawBaseline, now: Now) {
        let Some(name) = raw.metadata.name.as_deref() else { return };
        // Decisions wait for the objects of the API server only if a baseline needs them. So a wait that is over ends before one does.
        self.api_due(now);
        self.listed_baselines.names(|| name.into());
        let name: Arc<str> = name.into();
        let check = || raw.check_with(self.installs.own(), self.observed.tools()).map(Arc::new);
        let known = self.tracked.get_mut(&name).filter(|t| raw.metadata.uid.as_deref() == Some(&*t.uid));
        if let Some(tracked) = known {
            if let Some(seen) = tracked.went_back(raw).filter(|_| self.listed_baselines.is_under_way()) {
                return self.went_back("PolicyBaseline", name.to_string(), seen, raw.version());
            }
            if let Some(generation) = tracked.spec_changed(raw) {
                return self.spec_changed("PolicyBaseline", name.to_string(), generation);
            }
            if !tracked.update(raw, now.instant) {
                return;
            }
            let checked = check();
            // Before the edit counts: it may need a list that is still missing, and then decisions wait.
            self.remember_open(checked.as_ref().is_ok_and(|baseline| baseline.rollout.is_some()));
            if let Some(tracked) = self.tracked.get_mut(&name) {
                let before = std::mem::replace(&mut tracked.checked, checked);
                self.was_before(&name, before.as_ref().ok());
            }
        } else {
            let new = BaselineState::new(raw, check(), now.instant);
            let rolls_out = new.checked.as_ref().is_ok_and(|baseline| baseline.rollout.is_some());
            self.remember_open_if(rolls_out);
            // A list shows only the newest object of a name, so the deletion of the old one may not have been reported.
            self.forget_baseline(&name);
            self.tracked.insert(name.clone(), new);
        }
        self.place(&name, now);
        self.assess_first(&name);
        self.plans_changed(now);
    }

    /// An object has an older version than one that was seen before: the API server went back to an older state.
    pub(super) fn went_back(&mut self, kind: &'static str, name: String, seen: u64, found: u64) {
        self.list_again.get_or_insert(WhyListAgain::WentBack { kind, name, seen, found });
    }

    /// An object has another spec than before, at the same generation. While a CRD lacks fields, that is what it does to specs.
    pub(super) fn spec_changed(&mut self, kind: &'static str, name: String, generation: i64) {
        if self.crds.missing.is_empty() {
            self.list_again.get_or_insert(WhyListAgain::SpecChanged { kind, name, generation });
        }
    }

    /// Queues the namespaces that a baseline selects or holds before all others. All namespaces are assessed, because any of them may
    /// change with a baseline. But an edit must not wait until thousands of namespaces that it does not concern are found unchanged.
    fn assess_first(&mut self, name: &Arc<str>) {
        let baseline = match self.baselines.known(name) {
            Known::Valid(baseline) => Some(baseline),
            Known::Invalid | Known::Gone => None,
        };
        for (ns, entry) in self.observed.iter() {
            let selects = || baseline.zip(entry.namespace.as_ref()).is_some_and(|(baseline, ns)| baseline.selects(ns));
            let holds = || entry.policies.values().any(|print| print.ours && print.baseline.as_ref() == Some(name));
            if entry.owner.as_ref() == Some(name) || selects() || holds() {
                self.dirty.push(ns.clone(), false);
            }
        }
    }

    /// Recomputes all that depends on baselines. Called when they change, and when this instance begins to work with them.
    pub(super) fn plans_changed(&mut self, now: Now) {
        self.recompute_releases(now);
        self.recompute_rollouts(now);
        self.outbox.policies.reset();
        self.all_dirty();
    }

    /// Finds the baselines by whose change many namespaces would be opened at once, whatever the change is. They wait until their owner
    /// confirms that: a typo must not open a cluster.
    fn recompute_releases(&mut self, now: Now) {
        if self.may_decide() {
            self.judge_releases(NewWaits::Begin, now);
        }
    }

    /// Counts again for the baselines that wait for a confirmation, because namespaces may be gone or have other labels. `is_changed`: some
    /// may have changed since the last call. No wait begins here.
    pub(super) fn recount_releases(&mut self, is_changed: bool, now: Now) {
        let can_end = |(name, tracked): (&Arc<str>, &BaselineState)| tracked.awaits() && !self.baselines.rests(name);
        if is_changed && self.tracked.iter().any(can_end) {
            self.recount.ask(now.instant);
        }
        if self.recount.is_due(now.instant) && self.judge_releases(NewWaits::DoNotBegin, now) {
            self.recompute_rollouts(now);
            self.all_dirty();
        }
    }

    /// Decides which baselines wait for a confirmation. One that waits does so until nothing would open, so that no namespace opens only
    /// because others are gone, or were frozen for a while. Returns whether a wait ended.
    fn judge_releases(&mut self, new_waits: NewWaits, now: Now) -> bool {
        let counts = self.count_openings(now);
        let mut one_ended = false;
        for (name, tracked) in &mut self.tracked {
            // While nobody can say what it would open, it goes on waiting.
            if self.baselines.rests(name) {
                continue;
            }
            let OpenedNamespaces { opened, frozen, of } = counts.get(name).copied().unwrap_or_default();
            let (opened, would_wait) = match (tracked.awaits(), new_waits) {
                (true, _) => (opened + frozen, opened + frozen > 0),
                (false, NewWaits::Begin) => (opened, opened > self.opened_at_once.max(of / 10)),
                (false, NewWaits::DoNotBegin) => continue,
            };
            let waits = would_wait && !tracked.release_is_confirmed();
            one_ended |= tracked.awaits() && !waits;
            let is_new = tracked.await_confirmation(waits.then_some((opened, of)), now.instant);
            if waits && is_new && new_waits == NewWaits::Begin {
                warn!(baseline = %name, opened, of, "many namespaces would be opened by the change of the baseline: it waits for confirmation");
            }
            self.baselines.await_confirmation(name, waits);
        }
        one_ended
    }

    /// By baseline: how many namespaces its change would open, and how many closed ones it concerns.
    fn count_openings(&mut self, now: Now) -> BTreeMap<Arc<str>, OpenedNamespaces> {
        self.recount.done(now.instant);
        let mut counts: BTreeMap<Arc<str>, OpenedNamespaces> = BTreeMap::new();
        for (_, entry) in self.observed.iter() {
            let Some(ns) = &entry.namespace else { continue };
            let holdings = entry.holdings();
            if holdings.denies.is_empty() {
                continue;
            }
            let effects = self.baselines.effects_of_changes(ns, &holdings);
            for name in effects.opened_by {
                let count = counts.entry(name).or_default();
                *(if effects.is_frozen { &mut count.frozen } else { &mut count.opened }) += 1;
            }
            for name in effects.concerned {
                counts.entry(name).or_default().of += 1;
            }
        }
        counts
    }

    /// Decides whether this install works on a baseline. Then the plans use it, or it is stalled.
    fn place(&mut self, name: &Arc<str>, now: Now) {
        let Some(tracked) = self.tracked.get_mut(name) else { return };
        let its = tracked.instance.as_ref();
        let theirs = its.filter(|its| self.installs.live().contains(its));
        let elder = self.installs.elder().filter(|_| its == Some(self.installs.own()));
        let another = |install: &Arc<str>| Err(BaselineError::AnotherInstance(install.to_string()));
        let first_seen = tracked.first_seen;
        let (turn, checked) = match (theirs, elder) {
            (Some(install), _) => (InstallOwnership::Theirs, another(install)),
            (None, Some(install)) => (InstallOwnership::Waits, another(install)),
            (None, None) => {
                let in_this_cluster = |baseline: Arc<Baseline>| {
                    Arc::new(
                        Baseline::clone(&baseline).with_cluster(&self.dns.cluster, &self.api.cluster).first_seen_at(first_seen),
                    )
                };
                (InstallOwnership::Ours, tracked.checked.clone().map(in_this_cluster))
            }
        };
        tracked.turn = turn;
        match checked {
            Ok(baseline) => {
                if let Some(what) = tracked.state_to_log(String::new()) {
                    let generation = tracked.generation();
                    info!(baseline = %name, generation, mode = ?baseline.mode, selector = baseline.effective_selector, "{what}");
                }
                tracked.take_up(&baseline, now.instant);
                self.targets.insert(name.clone(), crate::policy::drift::targets(&baseline));
                self.baselines.insert(baseline);
            }
            Err(error) => {
                if let Some(what) = tracked.state_to_log(error.to_string()) {
                    let generation = tracked.generation();
                    match turn {
                        InstallOwnership::Theirs => {
                            info!(baseline = %name, generation, install = tracked.instance.as_deref(), "{what}, and left to another install");
                        }
                        InstallOwnership::Ours | InstallOwnership::Waits => {
                            warn!(baseline = %name, generation, reason = error.reason(), "{what}, and stalled: {error}");
                        }
                    }
                }
                tracked.stall(error, now.instant);
                self.targets.remove(name);
                self.baselines.insert_invalid(name.clone());
            }
        }
        self.baselines.set_resting_since(name, tracked.resting_since());
    }

    /// Calls `place` for every baseline.
    pub(super) fn place_all(&mut self, now: Now) {
        let names: Vec<Arc<str>> = self.tracked.keys().cloned().collect();
        for name in names {
            self.place(&name, now);
        }
    }

    pub(super) fn baseline_gone(&mut self, name: &str, now: Now) {
        if self.tracked.contains_key(name) {
            self.remember_open(false);
        }
        if self.forget_baseline(name) {
            self.plans_changed(now);
        }
    }

    /// Returns whether the baseline was known.
    fn forget_baseline(&mut self, name: &str) -> bool {
        let removed = self.tracked.remove(name);
        let was_there = removed.is_some();
        if let Some(removed) = removed {
            let mode = removed.checked.as_ref().ok().map(|baseline| format!("{:?}", baseline.mode));
            info!(baseline = name, generation = removed.generation(), mode = mode.as_deref(), "baseline removed");
            self.baselines.remove(name);
            self.targets.remove(name);
            self.forget_rollout(&name.into());
            self.release_all_claims();
        }
        was_there
    }
}
