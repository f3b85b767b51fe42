//! Handles changes of where the API server is, for allows with the peer `kubernetesAPI`. It follows the same rules as DNS: what is found is
//! added at once, what vanishes is kept for a while, and what cannot be read narrows nothing.

use std::{collections::BTreeMap, time::Instant};

use tracing::{info, warn};

use super::{
    Engine,
    clock::Now,
    facts::readiness::{ListState, WatchedSet},
    outbox::baseline_status::BaselineState,
};
use crate::policy::kubernetes_api::{ApiEvent, ApiObject, ClusterApi};

impl Engine {
    /// The objects that were never read; empty if nothing is looked for.
    pub(super) fn unread_api(&self) -> impl Iterator<Item = ApiObject> {
        self.api.sources.unread().filter(|_| self.readiness.state(WatchedSet::KubernetesApi) != ListState::Off)
    }

    /// Whether an allow of a baseline has the peer `kubernetesAPI`. Decisions wait for its objects only then.
    pub(super) fn needs_api(&self) -> bool {
        self.tracked.values().any(|tracked| tracked.checked.as_ref().is_ok_and(|baseline| baseline.needs_api()))
    }

    /// Whether a namespace keeps a former revision with such an allow, until a rollout reaches it.
    fn former_revisions_need_api(&self) -> bool {
        let behind = self.tracked.keys().filter_map(|name| self.baselines.behind(name));
        behind.flat_map(BTreeMap::values).any(|former| former.needs_api())
    }

    /// When it must be handled again without an event.
    pub(super) fn api_wake(&self, now: Instant) -> Option<Instant> {
        match self.readiness.state(WatchedSet::KubernetesApi) {
            ListState::Off => None,
            ListState::Waiting if !self.needs_api() => None,
            ListState::Waiting => {
                let until = self.readiness.silent_until(WatchedSet::KubernetesApi);
                until.into_iter().chain(self.api.sources.next(now)).min()
            }
            ListState::Listed | ListState::NotKnown | ListState::Refused | ListState::Silent => self.api.due,
        }
    }

    /// Handles an event of one of the objects.
    pub(super) fn on_api(&mut self, event: ApiEvent, now: Now) {
        let was_synced = self.is_synced();
        self.api.sources.hear(event, now.instant);
        if matches!(self.readiness.state(WatchedSet::KubernetesApi), ListState::Listed | ListState::Silent) {
            self.follow_api(now);
        }
        self.api_due(now);
        self.begin_if_synced(was_synced, now);
    }

    /// Reads what the stored statuses say. Only the operator writes statuses, so they are the memory of what cannot be read any more.
    pub(super) fn recall_api(&mut self, now: Now) {
        self.api.sources.recall(self.tracked.values().flat_map(BaselineState::told_api), now.instant);
        if !matches!(self.readiness.state(WatchedSet::KubernetesApi), ListState::Off | ListState::Waiting) {
            self.recompute_api(now);
        }
    }

    /// Called when all required sets are listed, also when one is listed again: starts the limited wait.
    pub(super) fn wait_for_api(&mut self, now: Now) {
        if !std::mem::replace(&mut self.api.is_recalled, true) {
            self.recall_api(now);
        }
        if self.readiness.state(WatchedSet::KubernetesApi) == ListState::Waiting {
            self.readiness.ask(WatchedSet::KubernetesApi, now.instant);
        }
        self.api_due(now);
    }

    /// Does what is due by the clock: the wait ends, an old finding expires, or a refusal has lasted long enough.
    pub(super) fn api_due(&mut self, now: Now) {
        let set = WatchedSet::KubernetesApi;
        let state = match self.readiness.state(set) {
            ListState::Waiting if self.api.sources.are_known(now.instant) => ListState::Listed,
            ListState::Waiting if self.readiness.is_silent_for_long(set, now.instant) => {
                warn!(
                    "work continues without the addresses of the API server: its Service or its EndpointSlice did not answer in time"
                );
                ListState::Silent
            }
            ListState::Silent if self.api.sources.are_known(now.instant) => {
                self.readiness.settle(set, ListState::Listed);
                return self.follow_api(now);
            }
            ListState::Off | ListState::Waiting => return,
            _ if self.api.due.is_some_and(|due| due <= now.instant) => return self.follow_api(now),
            _ => return,
        };
        self.readiness.settle(set, state);
        self.recompute_api(now);
    }

    /// Follows a change. Each change of the plans writes policies in many namespaces, so only the first changes go out at once: whoever
    /// can edit these objects could cause any number of them.
    fn follow_api(&mut self, now: Now) {
        let cluster = self.derive_api(now);
        if cluster.plans_as(&self.api.cluster) {
            return self.take_api(cluster, now);
        }
        match self.api.budget.take(true, now.instant) {
            Ok(()) => self.take_api(cluster, now),
            Err(at) => self.api.due = self.api.due.into_iter().chain([at]).min(),
        }
    }

    fn recompute_api(&mut self, now: Now) {
        let cluster = self.derive_api(now);
        self.take_api(cluster, now);
    }

    fn derive_api(&mut self, now: Now) -> ClusterApi {
        let cluster = self.api.sources.derive(now.instant);
        self.api.due = self.api.sources.next(now.instant);
        cluster
    }

    /// Uses these addresses. If plans differ with them, the baselines get new plans.
    fn take_api(&mut self, cluster: ClusterApi, now: Now) {
        if cluster == self.api.cluster {
            return;
        }
        let before = std::mem::replace(&mut self.api.cluster, cluster);
        if !self.needs_api() && !self.former_revisions_need_api() {
            return;
        }
        let plans_change = !before.plans_as(&self.api.cluster);
        if plans_change {
            info!(found = self.api.cluster.words(), "the API server was found");
        }
        self.place_all(now);
        if plans_change {
            self.plans_changed(now);
        }
    }
}
