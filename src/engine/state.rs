//! The state of the engine; the other files hold its behaviour. Watch events come in, writes go out, and the results of the writes come
//! back. Time is an argument (I12). One task owns the engine. So it needs no lock, and it never works on a namespace twice at the same
//! time.

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
        census::NamespaceCensus,
        crds::CrdsSeen,
        dns::DnsState,
        finalizers::FinalizerOwners,
        installs::Installs,
        kubernetes_api::ApiState,
        namespaces::Observed,
        plugins::WatchedPlugins,
        readiness::{ListState, ReadinessTable, WatchedSet},
        relist::WhyListAgain,
    },
    orphans::OrphanCounts,
    outbox::{Outbox, baseline_status::BaselineState},
    queue::Queue,
    recount::Recount,
    sample::MetricSample,
    waves::Rollouts,
    writes::Announcement,
};
use crate::{
    api::{NamespaceName, baseline::NamespaceCounts, other_tools::OtherTools},
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
    /// Namespaces to assess. Changes in a namespace itself come before changes of the plan.
    pub(super) dirty: Queue,
    /// Assessed namespaces that need writes.
    pub(super) ready: Queue,
    /// Namespaces whose writes are under way. The value: whether these writes are all that the namespace needs.
    pub(super) in_flight: HashMap<NamespaceName, bool>,
    pub(super) outbox: Outbox,
    pub(super) crds: CrdsSeen,
    /// Why everything must be forgotten and listed again.
    pub(super) list_again: Option<WhyListAgain>,
    pub(super) announcements: Vec<Announcement>,
    pub(super) installs: Installs,
    /// The older install that Events were last sent about.
    pub(super) announced_elder: Option<Arc<str>>,
    /// This instance holds the Lease of its install.
    pub(super) elected: bool,
    /// This instance is elected, and no older install is alive. Then it does the work of the operator.
    pub(super) leads: bool,
    /// By namespace: when the oldest change that is not settled yet was seen.
    pub(super) waiting: HashMap<NamespaceName, Instant>,
    pub(super) samples: Vec<MetricSample>,
    /// All namespaces were assessed once since this instance began to lead. Only problems found after that are announced.
    pub(super) surveyed: bool,
    /// The CRDs of policy kinds that the operator does not read; `None` until CRDs are listed. No decision waits for them.
    pub(super) unsupported_policy_kinds: Option<BTreeSet<String>>,
    pub(super) finalizer_owners: FinalizerOwners,
    pub(super) dns: DnsState,
    pub(super) api: ApiState,
    pub(super) backends: WatchedBackends,
    pub(super) plugins: WatchedPlugins,
    pub(super) rollouts: Rollouts,
    pub(super) orphans: OrphanCounts,
    pub(super) census: NamespaceCensus,
    /// How many namespaces a change may open without confirmation. It may also be a tenth of the closed namespaces that it concerns, if that
    /// is more.
    pub(super) opened_at_once: usize,
    /// When the namespaces that waiting changes would open are counted again.
    pub(super) recount: Recount,
}

impl Engine {
    /// An engine before its first event. `operator_namespace` identifies this install.
    pub fn new(operator_namespace: &str) -> Self {
        let mut readiness = ReadinessTable::default();
        readiness.settle(WatchedSet::Dns, ListState::Off);
        readiness.settle(WatchedSet::KubernetesApi, ListState::Off);
        readiness.settle(WatchedSet::Plugins, ListState::Off);
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
            crds: CrdsSeen::default(),
            list_again: None,
            announcements: Vec::new(),
            installs: Installs::new(operator_namespace),
            announced_elder: None,
            elected: false,
            leads: false,
            waiting: HashMap::new(),
            samples: Vec::new(),
            surveyed: false,
            unsupported_policy_kinds: None,
            finalizer_owners: FinalizerOwners::default(),
            dns: DnsState::default(),
            api: ApiState::default(),
            backends: WatchedBackends::default(),
            plugins: WatchedPlugins::default(),
            rollouts: Rollouts::default(),
            orphans: OrphanCounts::default(),
            census: NamespaceCensus::default(),
            opened_at_once: 10,
            recount: Recount::default(),
        }
    }

    /// Sets the tools whose marks on policies are known.
    #[must_use]
    pub fn knowing(mut self, tools: &Arc<OtherTools>) -> Self {
        self.observed.know(tools.clone());
        self
    }

    /// Whether this instance does the work: it is elected, and no older install is alive.
    pub const fn leads(&self) -> bool {
        self.leads
    }

    /// Why everything must be forgotten and listed again; `None` if nothing asks for that.
    pub fn must_list_again(&self) -> Option<WhyListAgain> {
        self.list_again.clone()
    }

    /// The samples since the last call, for the metrics.
    pub fn take_samples(&mut self) -> Vec<MetricSample> {
        std::mem::take(&mut self.samples)
    }

    /// The namespaces of every baseline, counted by state.
    pub fn counts(&self) -> NamespaceCounts {
        self.tracked.values().fold(NamespaceCounts::default(), |sum, tracked| sum.plus(tracked.counts()))
    }

    /// How many policies with our labels nobody keeps.
    pub const fn orphans(&self) -> u32 {
        self.orphans.total()
    }

    /// The stored conditions of each baseline, by name. Baselines of another live install are left out.
    pub fn conditions(&self) -> impl Iterator<Item = (&Arc<str>, &[Condition])> + Clone {
        let ours = self.tracked.iter().filter(|(_, tracked)| tracked.turn != InstallOwnership::Theirs);
        ours.map(|(name, tracked)| (name, tracked.stored_conditions()))
    }

    /// The Kubernetes Events to publish since the last call. In a namespace that is being deleted, the API server takes none.
    pub fn take_announcements(&mut self) -> Vec<Announcement> {
        let is_going = |a: &Announcement| a.reason.is_namespaced() && self.observed.is_terminating(&a.namespace);
        let mut announcements = std::mem::take(&mut self.announcements);
        announcements.retain(|announcement| !is_going(announcement));
        announcements
    }
}
