//! The state of one baseline: its findings by namespace (the ledger), its stored status, its finalizer, and when each is written.
//!
//! One file, because every change below decides when the same status is written.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use tracing::{debug, info, warn};

use super::{
    pending::{Attempt, PendingWrite},
    retry::Delays,
    told::{lasting_ready, ready, told_rest, told_rollout, told_to_wait},
};
use crate::{
    api::{
        NamespaceName, PolicyBaselineStatus,
        baseline::{
            ControlPlaneBackends, DeletionPolicy, DnsFound, DnsStatus, DriftRecord, KubernetesApiFound, Mode, NamespaceCounts,
        },
        names::FINALIZER,
        reason::{ConditionType, EventReason, Failure, ViolationReason},
        rollout::RolloutStatus,
    },
    engine::{
        clock::{GATHER, Now, STATUS_INTERVAL},
        facts::{
            baseline::{InstallOwnership, RawBaseline},
            readiness::WatchedSet,
        },
        writes::WriteError,
    },
    policy::{
        dns::DnsGap,
        plan::{Baseline, BaselineError},
        plugins::PluginJudgement,
        status::{AllowFacts, ConditionInputs, Finding, Going, Ledger, Problem},
    },
};

/// A generous estimate of how long the watch takes to show a write.
const ECHO: Duration = Duration::from_millis(50);
/// The wait after a failed status write.
const STATUS_FAILED: Delays = Delays::always(Duration::from_secs(5));

/// A status to write.
#[derive(Debug)]
pub struct StatusWrite {
    /// The name of the baseline.
    pub name: Arc<str>,
    /// The uid of the baseline.
    pub uid: Arc<str>,
    /// The status to store.
    pub status: PolicyBaselineStatus,
}

/// What the statuses of all baselines show of the cluster.
#[derive(Clone, Copy, Debug)]
pub struct ClusterFacts<'a> {
    /// The policy kinds in which the operator does not look for bypasses. `None` until they are known.
    pub unsupported_policy_kinds: Option<&'a BTreeSet<String>>,
    /// The resources that name Services called by the API server, and that could not be listed.
    pub unlisted: &'a [&'static str],
    /// What is known of the network plugin. `None` until it is known.
    pub plugin: Option<&'a PluginJudgement>,
    /// The sets whose watches have failed for long.
    pub failing: &'a [WatchedSet],
}

/// A status as it is stored now.
#[derive(Clone, Debug)]
pub struct StoredStatus {
    /// The stored status.
    pub status: PolicyBaselineStatus,
    /// The resourceVersion of the baseline; 0 if it is not a number.
    pub version: u64,
}

/// A finalizer to add or remove.
#[derive(Debug)]
pub struct FinalizerWrite {
    /// The name of the baseline.
    pub name: Arc<str>,
    /// The resourceVersion at which the finalizers were seen.
    pub version: u64,
    /// All finalizers of the baseline at that version.
    pub present: Vec<String>,
    /// Whether ours should be among them.
    pub wanted: bool,
}

/// Whether a change waits for confirmation.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum ConfirmationWait {
    No,
    /// By the stored status. Nobody has counted again yet what the change would open.
    Told,
    /// How many namespaces it would open, and how many closed ones it concerns.
    Counted(usize, usize),
}

impl ConfirmationWait {
    fn told_by(stored: Option<&PolicyBaselineStatus>) -> Self {
        if stored.is_some_and(told_to_wait) { Self::Told } else { Self::No }
    }

    const fn counted(self) -> Option<(usize, usize)> {
        match self {
            Self::Counted(opened, of) => Some((opened, of)),
            Self::No | Self::Told => None,
        }
    }
}

/// The state of one baseline.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub struct BaselineState {
    /// The uid of the baseline.
    pub uid: Arc<str>,
    /// The namespace of the install that it belongs to, if it names one.
    pub instance: Option<Arc<str>>,
    /// The resourceVersion with which it was first seen; 0 if that was no number.
    pub first_seen: u64,
    /// The checked spec, or why it cannot be used.
    pub checked: Result<Arc<Baseline>, BaselineError>,
    /// Which install works on it.
    pub turn: InstallOwnership,
    /// It is being deleted.
    pub deleting: bool,
    /// The generation whose release of many namespaces is confirmed.
    confirmed: Option<i64>,
    generation: Option<i64>,
    /// Tells specs of the same generation apart.
    spec: u64,
    version: u64,
    /// The resourceVersion of the last watch event, which `finalizers` comes from.
    seen_version: u64,
    /// The resourceVersion with which this generation was first seen.
    pub generation_seen: u64,
    finalizers: Vec<String>,
    stored: Option<PolicyBaselineStatus>,
    /// Status and reason of Ready that were logged last. They are kept apart, because the watch may show a new status before its write is
    /// answered.
    logged_ready: Option<(String, String)>,
    /// Status and reason of Ready that an Event told last, or that were stored before this instance began.
    announced_ready: Option<(String, String)>,
    /// The generation and the state that were logged last.
    logged_state: Option<(Option<i64>, String)>,
    mode: Mode,
    closes_nothing: bool,
    /// Whether a change waits for confirmation.
    wait: ConfirmationWait,
    /// Whether its last edit was made while no instance watched. Until that is asked for the first time.
    edited_unseen: bool,
    rollout: Option<RolloutStatus>,
    paused: Option<(String, String)>,
    deletion_policy: DeletionPolicy,
    effective_selector: Option<String>,
    dns: Option<DnsStatus>,
    dns_gap: Option<DnsGap>,
    /// `None` until the spec was checked once.
    allows: Option<AllowFacts>,
    stalled: Option<BaselineError>,
    /// The resourceVersion since which nothing is written for it, because it is invalid, suspended or in mode Audit; `None` if it works.
    resting_since: Option<u64>,
    /// During a deletion with its policies: how many policies are left, by namespace.
    policies_left: BTreeMap<NamespaceName, usize>,
    ledger: Ledger,
    /// Since when the status may differ from the stored one.
    changed: Option<Instant>,
    /// Its error is the reason that was logged last.
    status_write: PendingWrite<&'static str>,
    finalizer_write: PendingWrite<String>,
}

impl BaselineState {
    /// The state of a baseline that is seen for the first time.
    pub fn new(raw: &RawBaseline, checked: Result<Arc<Baseline>, BaselineError>, now: Instant) -> Self {
        let stored = raw.stored_status();
        let (rollout, paused) = told_rollout(stored.as_ref());
        Self {
            uid: raw.metadata.uid.as_deref().unwrap_or_default().into(),
            instance: raw.instance().map(Into::into),
            first_seen: raw.version(),
            checked,
            turn: InstallOwnership::default(),
            deleting: raw.metadata.deletion_timestamp.is_some(),
            confirmed: raw.confirmed(),
            wait: ConfirmationWait::told_by(stored.as_ref()),
            edited_unseen: stored.as_ref().is_some_and(|status| status.observed_generation != raw.metadata.generation),
            rollout,
            paused,
            generation: raw.metadata.generation,
            spec: raw.spec_hash(),
            version: raw.version(),
            seen_version: raw.version(),
            generation_seen: raw.version(),
            finalizers: raw.finalizers(),
            ledger: Ledger::resume(stored.as_ref()),
            logged_ready: stored.as_ref().and_then(ready),
            announced_ready: stored.as_ref().and_then(lasting_ready),
            logged_state: None,
            resting_since: told_rest(stored.as_ref(), raw.metadata.generation),
            stored,
            mode: Mode::default(),
            closes_nothing: false,
            deletion_policy: DeletionPolicy::default(),
            effective_selector: None,
            dns: None,
            dns_gap: None,
            allows: None,
            stalled: None,
            policies_left: BTreeMap::new(),
            // The stored status may be outdated.
            changed: Some(now),
            status_write: PendingWrite::default(),
            finalizer_write: PendingWrite::default(),
        }
    }

    /// The generation of the baseline if it has another spec than before at the same generation.
    pub fn spec_changed(&self, raw: &RawBaseline) -> Option<i64> {
        let is_same = self.generation == raw.metadata.generation && raw.version() >= self.version;
        (is_same && self.spec != raw.spec_hash()).then_some(self.generation?)
    }

    /// The version that the watch showed before, if this one is older.
    pub fn went_back(&self, raw: &RawBaseline) -> Option<u64> {
        (raw.version() > 0 && raw.version() < self.seen_version).then_some(self.seen_version)
    }

    /// Takes a new version of the baseline. Returns whether its plan may have changed; a new status or finalizer does not change it.
    pub fn update(&mut self, raw: &RawBaseline, now: Instant) -> bool {
        if raw.version() < self.version {
            // A late event from before our own write.
            return false;
        }
        let deleting = raw.metadata.deletion_timestamp.is_some();
        let instance = raw.instance();
        let confirmed = raw.confirmed();
        let plan_changed = self.generation != raw.metadata.generation
            || self.deleting != deleting
            || self.instance.as_deref() != instance
            || self.confirmed != confirmed;
        if plan_changed {
            // The status names the generation that it is about, so it must be written even if nothing else in it changes.
            self.changed.get_or_insert(now);
        }
        if self.generation != raw.metadata.generation {
            self.generation_seen = raw.version();
        }
        self.deleting = deleting;
        self.confirmed = confirmed;
        self.instance = instance.map(Into::into);
        self.generation = raw.metadata.generation;
        self.spec = raw.spec_hash();
        self.version = raw.version();
        self.seen_version = raw.version();
        let finalizers = raw.finalizers();
        if self.finalizers != finalizers {
            self.finalizers = finalizers;
            self.changed.get_or_insert(now);
        }
        let stored = raw.stored_status();
        if stored != self.stored {
            // Somebody else wrote or removed the status. Or the watch shows our own write, and then there is nothing to do.
            self.stored = stored;
            self.believe_told_rest();
            self.changed.get_or_insert(now);
        }
        plan_changed
    }

    /// Called when this instance begins to write the status: it continues from the stored one.
    pub fn take_over(&mut self, now: Instant) {
        self.ledger = Ledger::resume(self.stored.as_ref());
        self.announced_ready = self.stored.as_ref().and_then(lasting_ready);
        (self.rollout, self.paused) = told_rollout(self.stored.as_ref());
        self.believe_told_rest();
        if self.wait == ConfirmationWait::No {
            self.wait = ConfirmationWait::told_by(self.stored.as_ref());
        }
        self.changed = Some(now);
        self.status_write.begin_anew();
        self.finalizer_write.begin_anew();
    }

    /// The baseline is valid and this install works on it. Takes over what the status shows of its spec.
    pub fn take_up(&mut self, baseline: &Baseline, now: Instant) {
        self.changed.get_or_insert(now);
        self.mode = baseline.mode;
        self.closes_nothing = baseline.closes_nothing();
        self.deletion_policy = baseline.deletion_policy;
        self.effective_selector = Some(baseline.effective_selector.clone());
        self.dns = Some(baseline.dns_status.clone());
        self.dns_gap.clone_from(&baseline.dns_gap);
        self.allows = Some(baseline.allow_facts());
        self.stalled = None;
        let rests = baseline.suspended || baseline.mode == Mode::Audit;
        self.resting_since = rests.then(|| self.resting_since.unwrap_or(self.generation_seen));
    }

    /// Notes that the baseline cannot be used, and why.
    pub fn stall(&mut self, error: BaselineError, now: Instant) {
        // Another install may write for a baseline that is its own.
        self.resting_since = (!error.is_of_another_install()).then(|| self.resting_since.unwrap_or(self.generation_seen));
        self.stalled = Some(error);
        self.changed.get_or_insert(now);
    }

    /// The resourceVersion since which nothing is written for it, because it is invalid, suspended or in mode Audit; `None` if it works.
    pub const fn resting_since(&self) -> Option<u64> {
        self.resting_since
    }

    /// Another instance may have known before this one that the baseline rests.
    fn believe_told_rest(&mut self) {
        let told = told_rest(self.stored.as_ref(), self.generation);
        self.resting_since = self.resting_since.map(|known| told.map_or(known, |told| told.min(known)));
    }

    /// Stores the finding of a namespace.
    pub fn set(&mut self, ns: &NamespaceName, finding: Finding, now: Now) {
        if self.ledger.set(ns, finding, now.wall) {
            self.changed.get_or_insert(now.instant);
        }
    }

    /// The problems in the last finding of a namespace; `None` before the first finding.
    pub fn problems(&self, ns: &NamespaceName) -> Option<impl Iterator<Item = &Problem>> {
        self.ledger.problems(ns)
    }

    /// Why the baseline cannot be used; `None` if it can.
    pub const fn stalled(&self) -> Option<&BaselineError> {
        self.stalled.as_ref()
    }

    /// The DNS findings in the stored status.
    pub fn told_dns(&self) -> impl Iterator<Item = &DnsFound> {
        self.stored.iter().flat_map(|status| &status.dns).flat_map(|dns| &dns.found)
    }

    /// Where the API server is, by the stored status.
    pub fn told_api(&self) -> impl Iterator<Item = &KubernetesApiFound> {
        self.stored.iter().flat_map(|status| &status.kubernetes_api).flat_map(|api| &api.found)
    }

    /// The violations and notices of a namespace in the stored status, each with its start time.
    pub fn told_of(&self, ns: &NamespaceName) -> impl Iterator<Item = (Problem, Timestamp)> {
        let told = |policy: &Option<String>, reason, message: &String| Problem {
            policy: policy.clone(),
            reason,
            message: message.clone(),
        };
        let violations = self.stored.iter().flat_map(|status| &status.violations).filter(|v| v.namespace == ns.as_str());
        let notices = self.stored.iter().flat_map(|status| &status.notices).filter(|n| n.namespace == ns.as_str());
        let violations = violations.map(move |v| (told(&v.policy, v.reason.into(), &v.message), v.since.0));
        violations.chain(notices.map(move |n| (told(&n.policy, n.reason.into(), &n.message), n.since.0)))
    }

    /// The namespaces that, as the stored status says, lost policies while they were being deleted. With the time since when.
    pub fn told_losses(&self) -> impl Iterator<Item = (&str, Timestamp)> {
        let violations = self.stored.iter().flat_map(|status| &status.violations);
        violations.filter(|v| v.reason == ViolationReason::MissingWhileTerminating).map(|v| (&*v.namespace, v.since.0))
    }

    /// The conditions in the stored status.
    pub fn stored_conditions(&self) -> &[Condition] {
        self.stored.as_ref().map(|status| &status.conditions[..]).unwrap_or_default()
    }

    /// Whether the release that the current generation asks for is confirmed.
    pub fn release_is_confirmed(&self) -> bool {
        self.confirmed.is_some() && self.confirmed == self.generation
    }

    fn is_suspended(&self) -> bool {
        self.stalled.is_none() && self.checked.as_ref().is_ok_and(|baseline| baseline.suspended)
    }

    /// Whether the baseline leaves a namespace alone where the API server calls a Service.
    pub fn holds_backends(&self) -> bool {
        self.checked.as_ref().is_ok_and(|baseline| baseline.backends == ControlPlaneBackends::Hold)
    }

    /// Whether what it does, or what its status says, depends on this set.
    fn depends_on(&self, set: WatchedSet) -> bool {
        match set {
            WatchedSet::Revisions => self.checked.as_ref().is_ok_and(|baseline| baseline.rollout.is_some()),
            WatchedSet::Callers(_) => self.holds_backends(),
            other => WatchedSet::REQUIRED.contains(&other),
        }
    }

    /// Sets the change that waits for confirmation: how many namespaces it would open, of how many closed ones. `None`: nothing waits.
    /// Returns whether that changed.
    pub fn await_confirmation(&mut self, awaiting: Option<(usize, usize)>, now: Instant) -> bool {
        let wait = awaiting.map_or(ConfirmationWait::No, |(opened, of)| ConfirmationWait::Counted(opened, of));
        let is_new = self.wait != wait;
        if is_new {
            self.wait = wait;
            self.touch(now);
        }
        is_new
    }

    /// Whether a change waits for confirmation, or did so by the status that was stored before this instance began.
    pub fn awaits(&self) -> bool {
        self.wait != ConfirmationWait::No
    }

    /// Whether the last edit was made while no instance watched. Only the first call says so.
    pub fn was_edited_unseen(&mut self) -> bool {
        std::mem::take(&mut self.edited_unseen)
    }

    /// The generation of its spec.
    pub const fn generation(&self) -> Option<i64> {
        self.generation
    }

    /// Sets the progress of the rollout, and why it is paused.
    pub fn show_rollout(&mut self, rollout: Option<RolloutStatus>, paused: Option<(String, String)>, now: Instant) {
        if self.rollout != rollout || self.paused != paused {
            self.rollout = rollout;
            self.paused = paused;
            self.touch(now);
        }
    }

    /// The rollout in the stored status.
    pub fn stored_rollout(&self) -> Option<&RolloutStatus> {
        self.stored.as_ref()?.rollout.as_ref()
    }

    /// The stored condition RolloutPaused, if it is true and about the current generation.
    pub fn stored_pause(&self) -> Option<&Condition> {
        let paused = self.stored.as_ref()?.conditions.iter().find(|c| c.type_ == ConditionType::RolloutPaused.into_str())?;
        (paused.status == "True" && paused.observed_generation == self.generation).then_some(paused)
    }

    /// Notes that something changed which every status shows.
    pub fn touch(&mut self, now: Instant) {
        self.changed.get_or_insert(now);
    }

    /// Forgets a namespace that the baseline has nothing to do with.
    pub fn forget(&mut self, ns: &NamespaceName, now: Instant) {
        if self.ledger.forget(ns) {
            self.changed.get_or_insert(now);
        }
    }

    /// Adds a repaired drift to the status.
    pub fn note_drift(&mut self, record: DriftRecord, now: Instant) {
        self.ledger.note_drift(record);
        self.changed.get_or_insert(now);
    }

    /// Its namespaces, counted by state.
    pub const fn counts(&self) -> &NamespaceCounts {
        self.ledger.counts()
    }

    /// Whether the baseline is being deleted together with its policies.
    pub fn removes_all(&self) -> bool {
        self.deleting && self.deletion_policy == DeletionPolicy::Delete
    }

    /// Sets how many policies a namespace still has, while the baseline is being deleted.
    pub fn set_policies_left(&mut self, ns: &NamespaceName, left: usize, now: Instant) {
        let before = if left == 0 { self.policies_left.remove(ns) } else { self.policies_left.insert(ns.clone(), left) };
        if before.unwrap_or_default() != left {
            self.changed.get_or_insert(now);
        }
    }

    /// The status to write, if it differs from the stored one and a write is due.
    pub fn status_due(
        &mut self,
        name: &Arc<str>,
        ClusterFacts { unsupported_policy_kinds, unlisted, plugin, failing }: ClusterFacts<'_>,
        now: Now,
    ) -> Option<StatusWrite> {
        // The first status is written at once, because tools take a missing status for success.
        let first = self.stored.is_none();
        let gathered = self.changed.is_some_and(|at| at + GATHER <= now.instant);
        if !(first || gathered) || !self.status_write.due(now.instant) {
            return None;
        }
        self.changed = None;
        let stalled = self.stalled.as_ref().map(|e| (e.reason(), e.to_string()));
        let deleting = match (self.deleting, self.deletion_policy) {
            (false, _) => None,
            (true, DeletionPolicy::Delete) => Some(Going::Removing(self.policies_left.values().sum())),
            (true, DeletionPolicy::Orphan) => Some(Going::Leaving),
        };
        let wants_finalizer = self.deletion_policy == DeletionPolicy::Delete && !self.deleting;
        let unfinished = (wants_finalizer && !self.has_finalizer()).then(|| self.finalizer_write.error().cloned());
        let (suspended, awaiting, awaits) = (self.is_suspended(), self.wait.counted(), self.awaits());
        let unlisted = if self.holds_backends() { unlisted } else { &[] };
        let failing: Vec<&str> = failing.iter().filter(|set| self.depends_on(**set)).map(|set| set.as_str()).collect();
        let (generation, mode, dns, dns_gap) = (self.generation, self.mode, self.dns.as_ref(), self.dns_gap.as_ref());
        let (rollout, paused) = (self.rollout.as_ref(), self.paused.as_ref());
        let health = ConditionInputs {
            generation,
            mode,
            suspended,
            closes_nothing: self.closes_nothing,
            awaiting,
            awaits,
            deleting,
            unfinished,
            stalled,
            unsupported_policy_kinds,
            dns,
            dns_gap,
            allows: self.allows.as_ref(),
            unlisted,
            plugin,
            rollout,
            paused,
            failing: &failing,
            resting_since: self.resting_since,
        };
        let status = self.ledger.status(&health, self.effective_selector.as_deref(), self.stored.as_ref(), now.wall);
        if self.stored.as_ref() == Some(&status) {
            return None;
        }
        self.status_write.started_spaced(now.instant + STATUS_INTERVAL);
        Some(StatusWrite { name: name.clone(), uid: self.uid.clone(), status })
    }

    /// Takes the result of a status write. Returns the state of the baseline if it is a new one.
    pub fn status_written(
        &mut self,
        name: &str,
        result: Result<StoredStatus, WriteError>,
        now: Now,
    ) -> Option<(EventReason, String)> {
        let mut news = None;
        let attempt = match result {
            Ok(stored) => {
                news = self.state_to_announce(&stored.status);
                let after = ready(&stored.status);
                if self.logged_ready != after
                    && let Some((status, reason)) = &after
                {
                    info!(baseline = name, ready = status, reason, "the condition Ready of the baseline changed");
                    self.logged_ready = after;
                }
                // The watch may have shown a newer version in the meantime.
                if stored.version >= self.version {
                    self.version = stored.version;
                    self.stored = Some(stored.status);
                }
                if self.status_write.set_error(None) {
                    info!(baseline = name, "the status can be written again");
                }
                Attempt::Stored
            }
            // The baseline is gone or being replaced; the watch will show that.
            Err(WriteError::NotFound) => {
                debug!(baseline = name, "status not written: the baseline was deleted");
                Attempt::Dropped
            }
            Err(WriteError::NotLeading) => Attempt::Dropped,
            Err(error) => {
                let reason = match &error {
                    WriteError::Failed { reason, .. } => reason.into_str(),
                    _ => "Failed",
                };
                if self.status_write.set_error(Some(reason)) {
                    warn!(baseline = name, reason, "status not written, trying again: {error}");
                }
                self.changed.get_or_insert(now.instant);
                Attempt::Failed(STATUS_FAILED)
            }
        };
        self.status_write.ended(attempt, now.instant);
        news
    }

    /// The Event about a stored status, if Ready has another status or reason than the last Event said.
    fn state_to_announce(&mut self, stored: &PolicyBaselineStatus) -> Option<(EventReason, String)> {
        let after = lasting_ready(stored)?;
        if self.announced_ready.as_ref() == Some(&after) {
            return None;
        }
        let (status, why) = &after;
        let reason = if status == "True" { EventReason::BaselineReady } else { EventReason::BaselineNotReady };
        let message = stored.conditions.iter().find(|c| c.type_ == ConditionType::Ready.into_str()).map(|c| &*c.message);
        let note = format!("Ready is {status}, {why}: {}", message.unwrap_or_default());
        self.announced_ready = Some(after);
        Some((reason, note))
    }

    /// The finalizer to add or remove, if a write is due. `quiet`: no namespace is being worked on.
    pub fn finalizer_due(&mut self, name: &Arc<str>, quiet: bool, now: Instant) -> Option<FinalizerWrite> {
        let present = self.has_finalizer();
        let wanted = match (&self.stalled, self.deleting, self.deletion_policy) {
            // It is not known what an invalid spec asks for, so nothing changes.
            (Some(_), ..) => return None,
            // While it is suspended, its policies are not removed. So the finalizer stays as it is.
            _ if self.is_suspended() => return None,
            (None, _, DeletionPolicy::Orphan) => false,
            (None, false, DeletionPolicy::Delete) => true,
            (None, true, DeletionPolicy::Delete) => present && !(quiet && self.policies_left.is_empty()),
        };
        if present == wanted || !self.finalizer_write.due(now) {
            return None;
        }
        self.finalizer_write.started();
        Some(FinalizerWrite { name: name.clone(), version: self.seen_version, present: self.finalizers.clone(), wanted })
    }

    fn has_finalizer(&self) -> bool {
        self.finalizers.iter().any(|f| f == FINALIZER)
    }

    /// Takes the result of a finalizer write.
    pub fn finalizer_written(&mut self, name: &str, result: Result<(), WriteError>, now: Instant) {
        // There is a wait also after a success: only the watch shows that the finalizer is there. After a conflict, the watch has not
        // shown another write yet. That is often our own status, so the wait is short.
        let conflict = matches!(result, Err(WriteError::Failed { reason: Failure::Conflict, .. }));
        let wait = if conflict { ECHO } else { STATUS_INTERVAL };
        let is_stored = result.is_ok();
        let attempt = if is_stored { Attempt::StoredUnseen(wait) } else { Attempt::Failed(Delays::always(wait)) };
        self.finalizer_write.ended(attempt, now);
        // Normal cases: it is gone, somebody else wrote it in between, or this instance no longer leads.
        let minor = |e: &WriteError| {
            matches!(e, WriteError::NotFound | WriteError::NotLeading | WriteError::Failed { reason: Failure::Conflict, .. })
        };
        let error = result.err().filter(|e| !minor(e)).map(|e| e.to_string());
        if self.finalizer_write.set_error(error) {
            match self.finalizer_write.error() {
                Some(error) => warn!(baseline = name, "finalizer not written, trying again: {error}"),
                None if is_stored => info!(baseline = name, "the finalizer can be written again"),
                None => {}
            }
            self.changed.get_or_insert(now);
        }
    }

    /// What to log about the baseline; `None` if generation and state are those that were logged last.
    pub fn state_to_log(&mut self, state: String) -> Option<&'static str> {
        let new = (self.generation, state);
        let before = self.logged_state.replace(new.clone());
        match before {
            Some(before) if before == new => None,
            _ if self.deleting => Some("baseline is being deleted"),
            Some((generation, _)) if generation != new.0 => Some("baseline changed"),
            _ => Some("baseline picked up"),
        }
    }

    /// When a write may be due.
    pub fn wakes(&self) -> impl Iterator<Item = Instant> {
        let waits = self.changed.filter(|_| !self.status_write.is_under_way());
        let status = waits.map(|at| (at + GATHER).max(self.status_write.next_wake().unwrap_or(at)));
        status.into_iter().chain(self.finalizer_write.next_wake())
    }
}
