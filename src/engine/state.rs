//! The state of the engine: its parts, without what it does with them. Events go in, writes come out, and their results go back in.
//! Time is an argument (I12). One task owns it, so nothing is locked and no namespace is worked on twice at once.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Instant,
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::{
    assess::AllTargets,
    facts::{
        backends::WatchedBackends,
        baseline::InstallOwnership,
        dns::DnsState,
        installs::Installs,
        namespaces::Observed,
        readiness::{ListState, ReadinessTable, WatchedSet},
    },
    outbox::{Outbox, baseline_status::BaselineState},
    queue::Queue,
    sample::MetricSample,
    waves::Rollouts,
    writes::Announcement,
};
use crate::{
    api::{NamespaceName, baseline::NamespaceCounts},
    policy::{listing::Listing, plan::Baselines},
};

/// The controller without its I/O.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub struct Engine {
    pub(super) observed: Observed,
    pub(super) baselines: Baselines,
    pub(super) targets: AllTargets,
    pub(super) tracked: BTreeMap<Arc<str>, BaselineState>,
    pub(super) listed_baselines: Listing<String>,
    pub(super) readiness: ReadinessTable,
    /// To be assessed; what tenants did comes before what a new plan asks for.
    pub(super) dirty: Queue,
    /// Assessed, and in need of writes.
    pub(super) ready: Queue,
    /// Namespaces that are written to, and whether that is all that is to be written there.
    pub(super) in_flight: HashMap<NamespaceName, bool>,
    pub(super) outbox: Outbox,
    pub(super) announcements: Vec<Announcement>,
    pub(super) installs: Installs,
    /// Of the instances of this install, this one holds the Lease.
    pub(super) elected: bool,
    /// It is elected, and no older install does the work.
    pub(super) leads: bool,
    /// Since when there is something to do in a namespace.
    pub(super) waiting: HashMap<NamespaceName, Instant>,
    pub(super) samples: Vec<MetricSample>,
    /// Everything that was there when this instance began to lead has been assessed: what is found from now on is new.
    pub(super) surveyed: bool,
    /// The kinds of policies that are not read; none until they are listed. No decision waits for them.
    pub(super) unsupported_policy_kinds: Option<BTreeSet<String>>,
    pub(super) dns: DnsState,
    pub(super) backends: WatchedBackends,
    pub(super) rollouts: Rollouts,
}

impl Engine {
    /// An engine that has seen nothing yet.
    pub fn new(operator_namespace: &str) -> Self {
        let mut readiness = ReadinessTable::default();
        readiness.settle(WatchedSet::Dns, ListState::Off);
        Self {
            observed: Observed::default(),
            baselines: Baselines::default(),
            targets: AllTargets::new(),
            tracked: BTreeMap::new(),
            listed_baselines: Listing::default(),
            readiness,
            dirty: Queue::default(),
            ready: Queue::default(),
            in_flight: HashMap::new(),
            outbox: Outbox::default(),
            announcements: Vec::new(),
            installs: Installs::new(operator_namespace),
            elected: false,
            leads: false,
            waiting: HashMap::new(),
            samples: Vec::new(),
            surveyed: false,
            unsupported_policy_kinds: None,
            dns: DnsState::default(),
            backends: WatchedBackends::default(),
            rollouts: Rollouts::default(),
        }
    }

    /// Whether this instance writes.
    pub const fn leads(&self) -> bool {
        self.leads
    }

    /// What happened since, to be counted.
    pub fn take_samples(&mut self) -> Vec<MetricSample> {
        std::mem::take(&mut self.samples)
    }

    /// The namespaces of every baseline, counted by state.
    pub fn counts(&self) -> NamespaceCounts {
        self.tracked.values().fold(NamespaceCounts::default(), |sum, tracked| sum.plus(tracked.counts()))
    }

    /// The conditions of each baseline that is ours, as they stand in the cluster.
    pub fn conditions(&self) -> impl Iterator<Item = (&Arc<str>, &[Condition])> + Clone {
        let ours = self.tracked.iter().filter(|(_, tracked)| tracked.turn != InstallOwnership::Theirs);
        ours.map(|(name, tracked)| (name, tracked.stored_conditions()))
    }

    /// Events to publish.
    pub fn take_announcements(&mut self) -> Vec<Announcement> {
        std::mem::take(&mut self.announcements)
    }
}
