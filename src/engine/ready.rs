//! When decisions begin: what they wait for, and for how long. The state of each set and the table of patience are in
//! `facts/readiness.rs`.

use tracing::info;

use super::{
    Engine,
    clock::Now,
    facts::readiness::{ListState, WatchedSet},
    outbox::baseline_status::BaselineState,
};

impl Engine {
    /// Whether every watch has been listed once, or is no longer waited for. Before that nothing is decided.
    pub fn is_synced(&self) -> bool {
        WatchedSet::all().all(|set| self.readiness.is_settled(set) || !self.is_waited_for(set))
    }

    /// What is waited for, and why, in the words of `/readyz`; nothing when everything was seen once.
    pub fn waits(&self) -> impl Iterator<Item = String> {
        // Sources of DNS never make an instance unready: there may be none, and they are waited for a few seconds only.
        let sets = WatchedSet::all().filter(|set| *set != WatchedSet::Dns && self.is_waited_for(*set));
        sets.filter_map(|set| Some(format!("{}: {}", set.as_str(), self.readiness.waits(set)?)))
    }

    /// What only a rollout needs is waited for only where a baseline asks for one.
    fn is_waited_for(&self, set: WatchedSet) -> bool {
        let asks = |t: &BaselineState| t.checked.as_ref().is_ok_and(|b| b.rollout.is_some());
        set != WatchedSet::Revisions || self.tracked.values().any(asks)
    }

    /// A list that is waited for without end is complete.
    pub(super) fn list_complete(&mut self, set: WatchedSet, now: Now) {
        let was_synced = self.is_synced();
        if self.readiness.settle(set, ListState::Listed) {
            info!("{} are listed", set.plural());
        }
        if self.readiness.is_required_listed() {
            self.wait_for_dns(now);
        }
        self.begin_if_synced(was_synced, now);
    }

    pub(super) fn begin_if_synced(&mut self, was_synced: bool, now: Now) {
        if !was_synced && self.is_synced() {
            info!(namespaces = self.observed.iter().count(), baselines = self.tracked.len(), "everything is listed, work begins");
            self.plans_changed(now);
        }
    }
}
