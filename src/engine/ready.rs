//! When decisions begin: which lists they wait for, and for how long. `facts/readiness.rs` holds the state of each set and how long
//! decisions wait for it.

use std::time::Instant;

use tracing::{info, warn};

use super::{
    Engine,
    clock::Now,
    facts::readiness::{ListState, WatchedSet},
    outbox::baseline_status::BaselineState,
};
use crate::api::backends::ConfigurationKind;

/// What the operator looks for in the cluster.
const IS_OF_DISCOVERY: [WatchedSet; 2] = [WatchedSet::Dns, WatchedSet::KubernetesApi];

impl Engine {
    /// Whether every watched set is listed, or decisions no longer wait for it. Before that nothing is decided.
    pub fn is_synced(&self) -> bool {
        WatchedSet::all().all(|set| self.readiness.is_settled(set) || !self.is_waited_for(set))
    }

    /// The lists that are still missing, each with its reason, as `/readyz` shows them. Empty when none is missing.
    pub fn waits(&self) -> impl Iterator<Item = String> {
        // These never make an instance unready: there may be none, and decisions wait for them only a few seconds.
        let sets = WatchedSet::all().filter(|set| !IS_OF_DISCOVERY.contains(set) && self.is_waited_for(*set));
        let sets = sets.filter_map(|set| Some(format!("{}: {}", set.as_str(), self.readiness.waits(set)?)));
        sets.chain(self.missing_words()).chain(self.elder_words())
    }

    /// The sets that statuses wait for now. Decisions may be made without them already. But a status that is written now would be written
    /// again when the list comes.
    pub(super) fn missing_in_statuses(&self, now: Instant) -> impl Iterator<Item = WatchedSet> {
        WatchedSet::all().filter(move |set| self.readiness.do_statuses_wait_for(*set, now) && self.is_needed(*set))
    }

    /// When statuses no longer wait for any set, also without an event.
    pub(super) fn statuses_wake(&self, now: Instant) -> Option<Instant> {
        self.missing_in_statuses(now).filter_map(|set| self.readiness.reported_at(set)).max()
    }

    /// Whether decisions wait for this set. Only the status shows the network plugin.
    fn is_waited_for(&self, set: WatchedSet) -> bool {
        set != WatchedSet::Plugins && self.is_needed(set)
    }

    /// Whether anything needs this set. Only rollouts need revisions, so these count only if a baseline has a rollout. Only some allows
    /// need the API server's addresses.
    fn is_needed(&self, set: WatchedSet) -> bool {
        let asks = |t: &BaselineState| t.checked.as_ref().is_ok_and(|b| b.rollout.is_some());
        match set {
            WatchedSet::Revisions => self.tracked.values().any(asks),
            WatchedSet::KubernetesApi => self.needs_api(),
            _ => true,
        }
    }

    /// Notes that the list of a required set is complete.
    pub(super) fn list_complete(&mut self, set: WatchedSet, now: Now) {
        let was_synced = self.is_synced();
        if self.readiness.settle(set, ListState::Listed) {
            info!("{} are listed", set.plural());
        }
        if self.readiness.is_required_listed() {
            self.wait_for_dns(now);
            self.wait_for_api(now);
        }
        self.begin_if_synced(was_synced, now);
    }

    /// Notices that a list takes too long that replaces what is known.
    pub(super) fn note_overdue_lists(&mut self, now: Now) {
        for set in self.readiness.fall_back(now.instant) {
            warn!(
                "{} have been listed again for too long, and deletions are not reported meanwhile: nothing is decided or written until the list is complete",
                set.plural()
            );
        }
    }

    /// Notices that a watch has failed for long, or works again. The statuses say so.
    pub(super) fn note_failing_watches(&mut self, now: Now) {
        for (set, is_failing) in self.readiness.recompute_failing(now.instant) {
            let resource = set.as_str();
            if is_failing {
                warn!(resource, "watching {resource} has failed for more than a minute: what is known of them may be old");
                if self.readiness.withdraw(set) {
                    self.works_with(set, ListState::Refused, now);
                }
            } else {
                info!(resource, "watching {resource} works again");
                if self.readiness.comes_back(set) {
                    self.works_with(set, ListState::Listed, now);
                }
            }
            if set == WatchedSet::Callers(ConfigurationKind::Service) {
                self.services_may_be_old(is_failing, now);
            }
            self.touch_statuses(now);
        }
    }

    /// The operator works without an optional set that it may not watch, or with it again. What it knew of it stays known.
    fn works_with(&mut self, set: WatchedSet, state: ListState, now: Now) {
        match set {
            WatchedSet::Callers(kind) if state == ListState::Refused => self.work_without(kind, state, now),
            WatchedSet::Callers(kind) => self.callers_settled(kind, state, now),
            WatchedSet::Revisions => self.revisions_settled(state, now),
            _ => {}
        }
    }

    pub(super) fn begin_if_synced(&mut self, was_synced: bool, now: Now) {
        if !was_synced && self.is_synced() {
            info!(namespaces = self.observed.iter().count(), baselines = self.tracked.len(), "everything is listed: work begins");
            self.believe_labels();
            self.believe_losses();
            self.plans_changed(now);
        }
    }
}
