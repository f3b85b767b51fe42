//! What the engine knows of the cluster's DNS, and what becomes of a change of it.

use std::time::{Duration, Instant};

use tracing::{info, warn};

use super::{Engine, clock::Now};
use crate::policy::dns::{ClusterDns, Derived, DnsEvent, Memory, Source, Sources};

/// A source that neither answers nor refuses is waited for so long, once everything else is listed. Plans without it could cut off whom
/// the plans of before a restart let through.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is known of DNS.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
pub(super) struct DnsState {
    sources: Sources,
    memory: Memory,
    cluster: ClusterDns,
    stage: Stage,
    /// When something else follows though nothing happens.
    due: Option<Instant>,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Stage {
    /// Nobody looks for DNS.
    #[default]
    Off,
    /// The sources are being read; at last until then, once that is known.
    Reading(Option<Instant>),
    /// What is known counts.
    Known,
}

impl DnsState {
    /// Whether plans may be made.
    pub(super) const fn is_settled(&self) -> bool {
        !matches!(self.stage, Stage::Reading(_))
    }

    /// What is known.
    pub(super) const fn cluster(&self) -> &ClusterDns {
        &self.cluster
    }

    /// The sources that were not read.
    pub(super) fn unread(&self) -> impl Iterator<Item = Source> {
        self.sources.unread().filter(|_| self.stage != Stage::Off)
    }

    /// When to look again though nothing happens.
    pub(super) fn next(&self, now: Instant) -> Option<Instant> {
        match self.stage {
            Stage::Off => None,
            Stage::Reading(until) => until.into_iter().chain(self.sources.next(now)).min(),
            Stage::Known => self.due,
        }
    }
}

impl Engine {
    /// Looks for the cluster's DNS, and plans nothing before its sources have been heard, or for a few seconds at most.
    #[must_use]
    pub fn discovering(mut self) -> Self {
        self.dns.stage = Stage::Reading(None);
        self
    }

    /// A source of DNS says something.
    pub(super) fn dns_news(&mut self, news: DnsEvent, now: Now) {
        let was_synced = self.is_synced();
        if self.dns.sources.hear(news, now.instant) && self.dns.stage == Stage::Known {
            self.recompute_dns(now);
        }
        self.dns_due(now);
        self.begin_if_synced(was_synced, now);
    }

    /// Everything else is listed: from now on patience ends.
    pub(super) fn wait_for_dns(&mut self, now: Now) {
        if self.dns.stage == Stage::Reading(None) {
            self.dns.stage = Stage::Reading(Some(now.instant + PATIENCE));
        }
        self.dns_due(now);
    }

    /// Does what is due by the clock: patience ends, what was found and went is no longer kept, or a refusal lasts.
    pub(super) fn dns_due(&mut self, now: Now) {
        let is_over = |until: Option<Instant>| until.is_some_and(|until| until <= now.instant);
        match self.dns.stage {
            Stage::Reading(_) if self.dns.sources.are_known(now.instant) => {}
            Stage::Reading(until) if is_over(until) => {
                let silent: Vec<&str> = self.dns.sources.silent(now.instant).map(Into::into).collect();
                warn!(silent = silent.join(", "), "DNS is looked for without these: they did not answer in time");
            }
            Stage::Known if is_over(self.dns.due) => return self.recompute_dns(now),
            Stage::Off | Stage::Reading(_) | Stage::Known => return,
        }
        self.dns.stage = Stage::Known;
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
