//! Handles changes of the cluster's DNS.

use std::time::Instant;

use tracing::{info, warn};

use super::{
    Engine,
    clock::Now,
    facts::readiness::{ListState, WatchedSet},
    outbox::baseline_status::BaselineState,
};
use crate::policy::dns::{ClusterDns, DnsEvent, DnsPlace, Source};

impl Engine {
    /// Turns the discovery of DNS and of the API server on. Planning then waits a few seconds at most for their sources to answer.
    #[must_use]
    pub fn discovering(mut self) -> Self {
        self.readiness.settle(WatchedSet::Dns, ListState::Waiting);
        self.readiness.settle(WatchedSet::KubernetesApi, ListState::Waiting);
        self
    }

    /// The DNS sources that were not read completely; empty if discovery is off.
    pub(super) fn unread_dns(&self) -> impl Iterator<Item = Source> {
        self.dns.sources.unread().filter(|_| self.readiness.state(WatchedSet::Dns) != ListState::Off)
    }

    /// When the DNS must be handled again without an event.
    pub(super) fn dns_wake(&self, now: Instant) -> Option<Instant> {
        match self.readiness.state(WatchedSet::Dns) {
            ListState::Off => None,
            ListState::Waiting => {
                let until = self.readiness.silent_until(WatchedSet::Dns);
                until.into_iter().chain(self.dns.sources.next(now)).min()
            }
            ListState::Listed | ListState::NotKnown | ListState::Refused | ListState::Silent => self.dns.due,
        }
    }

    /// Handles a report of a DNS source.
    pub(super) fn on_dns(&mut self, news: DnsEvent, now: Now) {
        let was_synced = self.is_synced();
        let is_known = matches!(self.readiness.state(WatchedSet::Dns), ListState::Listed | ListState::Silent);
        if self.dns.sources.hear(news, now.instant) && is_known {
            self.follow_dns(now);
        }
        self.dns_due(now);
        self.begin_if_synced(was_synced, now);
    }

    /// Reads what the stored statuses say of DNS. While a source cannot be read, what it said before stays allowed. Tenants can write
    /// policies, but no status, so the statuses are the memory. Read once per start and when this instance begins to lead. Then it counts at
    /// once: a plan without it would be narrower than the policies that exist.
    pub(super) fn recall_dns(&mut self, now: Now) {
        // A stalled baseline does not follow DNS, so its status is old.
        let is_current = |baseline: &BaselineState| baseline.checked.is_ok() && baseline.told_dns().next().is_some();
        let is_any_current = self.tracked.values().any(is_current);
        let told =
            self.tracked.values().filter(|baseline| !is_any_current || is_current(baseline)).flat_map(BaselineState::told_dns);
        let told: Vec<DnsPlace> = told.filter_map(DnsPlace::told).collect();
        self.dns.memory.recall(&told);
        self.dns.sources.recall(told);
        if !matches!(self.readiness.state(WatchedSet::Dns), ListState::Off | ListState::Waiting) {
            self.recompute_dns(now);
        }
    }

    /// Called when all required sets are listed, also when one is listed again: starts the limited wait for DNS.
    pub(super) fn wait_for_dns(&mut self, now: Now) {
        if !std::mem::replace(&mut self.dns.is_recalled, true) {
            self.recall_dns(now);
        }
        if self.readiness.state(WatchedSet::Dns) == ListState::Waiting {
            self.readiness.ask(WatchedSet::Dns, now.instant);
        }
        self.dns_due(now);
    }

    /// Does what is due by the clock: the wait for DNS ends, an old finding expires, or a refusal has lasted long enough.
    pub(super) fn dns_due(&mut self, now: Now) {
        let state = match self.readiness.state(WatchedSet::Dns) {
            ListState::Waiting if self.dns.sources.are_known(now.instant) => ListState::Listed,
            ListState::Waiting if self.readiness.is_silent_for_long(WatchedSet::Dns, now.instant) => {
                let silent: Vec<&str> = self.dns.sources.silent(now.instant).map(Into::into).collect();
                warn!(silent = silent.join(", "), "looking for DNS continues without these sources: they did not answer in time");
                ListState::Silent
            }
            ListState::Silent if self.dns.sources.are_known(now.instant) => {
                self.readiness.settle(WatchedSet::Dns, ListState::Listed);
                return self.follow_dns(now);
            }
            ListState::Off | ListState::Waiting => return,
            _ if self.dns.due.is_some_and(|due| due <= now.instant) => return self.follow_dns(now),
            _ => return,
        };
        self.readiness.settle(WatchedSet::Dns, state);
        self.recompute_dns(now);
    }

    /// Follows a change of a DNS source. Each change of the plans writes a policy in every namespace. So only the first changes go out at
    /// once: whoever can create Services in kube-system could cause any number of them.
    fn follow_dns(&mut self, now: Now) {
        let cluster = self.derive_dns(now);
        if cluster.plans_as(&self.dns.cluster) {
            return self.take_dns(cluster, now);
        }
        match self.dns.budget.take(!cluster.needs_as(&self.dns.cluster), now.instant) {
            Ok(()) => self.take_dns(cluster, now),
            Err(at) => self.dns.due = self.dns.due.into_iter().chain([at]).min(),
        }
    }

    /// Derives the cluster's DNS from its sources, and uses it at once.
    fn recompute_dns(&mut self, now: Now) {
        let cluster = self.derive_dns(now);
        self.take_dns(cluster, now);
    }

    fn derive_dns(&mut self, now: Now) -> ClusterDns {
        let cluster = self.dns.memory.remember(self.dns.sources.derive(now.instant), now.instant);
        self.dns.due = self.dns.memory.next().into_iter().chain(self.dns.sources.next(now.instant)).min();
        cluster
    }

    /// Uses this DNS. If plans differ with it, the baselines that use discovery get new plans.
    fn take_dns(&mut self, cluster: ClusterDns, now: Now) {
        if cluster == self.dns.cluster {
            return;
        }
        let before = std::mem::replace(&mut self.dns.cluster, cluster);
        let (cluster, plans_change) = (&self.dns.cluster, !before.plans_as(&self.dns.cluster));
        if plans_change {
            info!(found = cluster.words(), "the cluster's DNS was found");
        }
        let gaps = cluster.gaps_to_log();
        if !gaps.is_empty() && gaps != before.gaps_to_log() {
            warn!("policies do not allow all of the cluster's DNS: {gaps}");
        }
        self.place_all(now);
        if plans_change {
            self.plans_changed(now);
        }
    }
}
