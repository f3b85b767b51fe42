//! What becomes of a change of the cluster's DNS.

use std::time::Instant;

use tracing::{info, warn};

use super::{
    Engine,
    clock::Now,
    facts::readiness::{ListState, WatchedSet},
};
use crate::policy::dns::{ClusterDns, Derived, DnsEvent, Source};

impl Engine {
    /// Looks for the cluster's DNS, and plans nothing before its sources have been heard, or for a few seconds at most.
    #[must_use]
    pub fn discovering(mut self) -> Self {
        self.readiness.settle(WatchedSet::Dns, ListState::Waiting);
        self
    }

    /// The sources that were not read.
    pub(super) fn unread_dns(&self) -> impl Iterator<Item = Source> {
        self.dns.sources.unread().filter(|_| self.readiness.state(WatchedSet::Dns) != ListState::Off)
    }

    /// When to look again though nothing happens.
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

    /// A source of DNS reports something.
    pub(super) fn on_dns(&mut self, news: DnsEvent, now: Now) {
        let was_synced = self.is_synced();
        let is_known = matches!(self.readiness.state(WatchedSet::Dns), ListState::Listed | ListState::Silent);
        if self.dns.sources.hear(news, now.instant) && is_known {
            self.recompute_dns(now);
        }
        self.dns_due(now);
        self.begin_if_synced(was_synced, now);
    }

    /// Everything else is listed: from now on patience ends.
    pub(super) fn wait_for_dns(&mut self, now: Now) {
        if self.readiness.state(WatchedSet::Dns) == ListState::Waiting {
            self.readiness.ask(WatchedSet::Dns, now.instant);
        }
        self.dns_due(now);
    }

    /// Does what is due by the clock: patience ends, what was found and went is no longer kept, or a refusal lasts.
    pub(super) fn dns_due(&mut self, now: Now) {
        let state = match self.readiness.state(WatchedSet::Dns) {
            ListState::Waiting if self.dns.sources.are_known(now.instant) => ListState::Listed,
            ListState::Waiting if self.readiness.is_silent_for_long(WatchedSet::Dns, now.instant) => {
                let silent: Vec<&str> = self.dns.sources.silent(now.instant).map(Into::into).collect();
                warn!(silent = silent.join(", "), "looking for DNS continues without these sources: they did not answer in time");
                ListState::Silent
            }
            ListState::Off | ListState::Waiting => return,
            _ if self.dns.due.is_some_and(|due| due <= now.instant) => return self.recompute_dns(now),
            _ => return,
        };
        self.readiness.settle(WatchedSet::Dns, state);
        self.recompute_dns(now);
    }

    /// Looks what follows from what the sources say, and gives baselines that look for DNS their plans anew if it is something else than before.
    fn recompute_dns(&mut self, now: Now) {
        let Derived { found, unsure, gaps, notes } = self.dns.sources.derive(now.instant);
        self.dns.memory.note(&found, now.instant);
        self.dns.due = self.dns.memory.next().into_iter().chain(self.dns.sources.next(now.instant)).min();
        let cluster = ClusterDns::new(self.dns.memory.iter(), unsure, gaps, notes);
        if cluster == self.dns.cluster {
            return;
        }
        let before = std::mem::replace(&mut self.dns.cluster, cluster);
        let (cluster, plans_change) = (&self.dns.cluster, !before.plans_as(&self.dns.cluster));
        if plans_change {
            info!(found = cluster.words(), "the cluster's DNS was found");
        }
        match cluster.gap() {
            Some(gap) if before.gap().as_ref() != Some(&gap) => warn!("policies do not allow all of the cluster's DNS: {gap}"),
            Some(_) | None => {}
        }
        self.place_all(now);
        if plans_change {
            self.plans_changed(now);
        }
    }
}
