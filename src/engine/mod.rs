//! The state of the operator and its decisions, without I/O: events go in, jobs come out, results go back in.
//! Time is an argument (I12). One task owns it, so nothing is locked and no namespace is worked on twice at once.

mod assess;
mod backends;
mod baselines;
mod claims;
pub mod clock;
mod dns;
mod explain;
pub mod facts;
mod namespace_labels;
mod opt_outs;
mod outbox;
mod outcome;
mod queue;
mod rollout;
pub mod sample;
#[cfg(test)]
mod state_key;
#[cfg(test)]
mod tests;
pub mod writes;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use tracing::info;

pub use self::rollout::RolloutCounts;
use self::{backends::Watched, rollout::Rollouts};
use crate::{
    api::{NamespaceName, baseline::NamespaceCounts, reason::Failure},
    engine::{
        assess::{AllTargets, Assessment, assess},
        clock::Now,
        facts::{
            baseline::InstallOwnership,
            event::{ListPhase, Seen},
            installs::Installs,
            namespaces::{ChangeOrigin, Entry, Observed, Relisted},
        },
        outbox::{
            baseline_status::BaselineState, namespace_labels::NamespaceLabels, opt_outs::OptOuts, policies::RetrySchedule,
            revisions::Revisions,
        },
        queue::Queue,
        sample::MetricSample,
        writes::{Announcement, Cause, Done, FinalizerWrite, Job, StatusWrite, StoredStatus, Task, WriteError, Wrote},
    },
    policy::{
        drift::{Class, Drift, Fingerprint, Repair},
        listing::Listing,
        plan::Baselines,
        status::Finding,
    },
};

/// How many namespaces are looked at before events are served again: about 5 ms of work.
const ASSESS_AT_ONCE: usize = 512;

/// The controller without its I/O.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub struct Engine {
    observed: Observed,
    baselines: Baselines,
    targets: AllTargets,
    tracked: BTreeMap<Arc<str>, BaselineState>,
    listed_baselines: Listing<String>,
    opt_outs: OptOuts,
    synced: [bool; 5],
    /// To be looked at; what tenants did comes before what a new plan asks for.
    dirty: Queue,
    /// Looked at, and in need of writes.
    ready: Queue,
    /// Namespaces that are written to, and whether that is all that is to be written there.
    in_flight: HashMap<NamespaceName, bool>,
    pace: RetrySchedule,
    announcements: Vec<Announcement>,
    installs: Installs,
    /// Of the instances of this install, this one holds the Lease.
    elected: bool,
    /// It is elected, and no older install does the work.
    leads: bool,
    /// Since when there is something to do in a namespace.
    waiting: HashMap<NamespaceName, Instant>,
    happenings: Vec<MetricSample>,
    /// Everything that was there when this instance began to lead has been looked at: what is found from now on is new.
    surveyed: bool,
    /// The kinds of policies that are not looked at; none until they are listed. No decision waits for them.
    unsupported_policy_kinds: Option<BTreeSet<String>>,
    listed_policy_kinds: Listing<String>,
    dns: dns::DnsState,
    backends: Watched,
    rollouts: Rollouts,
    marks: NamespaceLabels,
}

impl Engine {
    /// An engine that has seen nothing yet.
    pub fn new(operator_namespace: &str) -> Self {
        Self {
            observed: Observed::default(),
            baselines: Baselines::default(),
            targets: AllTargets::new(),
            tracked: BTreeMap::new(),
            listed_baselines: Listing::default(),
            opt_outs: OptOuts::default(),
            synced: [false; 5],
            dirty: Queue::default(),
            ready: Queue::default(),
            in_flight: HashMap::new(),
            pace: RetrySchedule::default(),
            announcements: Vec::new(),
            installs: Installs::new(operator_namespace),
            elected: false,
            leads: false,
            waiting: HashMap::new(),
            happenings: Vec::new(),
            surveyed: false,
            unsupported_policy_kinds: None,
            listed_policy_kinds: Listing::default(),
            dns: dns::DnsState::default(),
            backends: Watched::default(),
            rollouts: Rollouts::default(),
            marks: NamespaceLabels::default(),
        }
    }

    /// Whether this instance is elected. It leads if no older install does. While it does not, it sees and looks, and asks for no write.
    /// When it begins to, it goes on from what stands in the cluster, as after a start: the statuses there are the former leader's, and
    /// what he repaired is no news.
    pub fn elect(&mut self, elected: bool, now: Now) {
        self.elected = elected;
        self.recompute_installs(now);
        let leads = elected && self.installs.elder().is_none();
        if std::mem::replace(&mut self.leads, leads) == leads || !leads {
            return;
        }
        self.surveyed = false;
        self.observed.take_over();
        self.opt_outs.take_over();
        self.forget_rollouts();
        self.tracked.values_mut().for_each(|tracked| tracked.take_over(now.instant));
        self.plans_changed(now);
    }

    /// Whether this instance writes.
    pub const fn leads(&self) -> bool {
        self.leads
    }

    /// Takes what a watch says.
    pub fn on_event(&mut self, seen: Seen, now: Now) {
        match seen {
            Seen::Namespace(meta) => {
                let uid = |observed: &Observed| observed.uid(meta.name.as_deref()?);
                let before = uid(&self.observed);
                if let Some(ns) = self.observed.namespace_seen(&meta) {
                    if before != uid(&self.observed) {
                        self.namespace_left(&ns);
                    }
                    self.serves_from_now_on(&ns);
                    self.waiting.entry(ns.clone()).or_insert(now.instant);
                    if self.opt_outs.concern(&ns) {
                        self.opt_outs_changed(&ns, true, now);
                    }
                    self.dirty.push(ns, true);
                }
            }
            Seen::NamespaceGone(meta) => {
                if let Some(name) = meta.name.as_deref() {
                    self.namespace_gone(&NamespaceName::observed(name), now);
                }
            }
            Seen::NamespaceList(ListPhase::Begin) => self.observed.namespaces_relist(),
            Seen::NamespaceList(ListPhase::End) => {
                for ns in self.observed.namespaces_relisted() {
                    self.namespace_gone(&ns, now);
                }
                self.list_complete(0, "namespaces", now);
            }
            Seen::Policy(object) => {
                let news = self.observed.policy_seen(&object);
                self.policy_news(news, now);
            }
            Seen::PolicyGone(object) => {
                let news = self.observed.policy_deleted(&object);
                self.policy_news(news, now);
            }
            Seen::PolicyList(ListPhase::Begin) => self.observed.policies_relist(),
            Seen::PolicyList(ListPhase::End) => {
                for Relisted { namespace, unsure } in self.observed.policies_relisted() {
                    for policy in unsure {
                        self.pace.hold(&namespace, &policy, now.instant);
                    }
                    self.policy_news(Some(namespace), now);
                }
                self.list_complete(1, "network policies", now);
            }
            Seen::Baseline(raw) => self.baseline_seen(&raw, now),
            Seen::BaselineGone(raw) => {
                if let Some(name) = raw.metadata.name.as_deref() {
                    self.baseline_gone(name, now);
                }
            }
            Seen::BaselineList(ListPhase::Begin) => self.listed_baselines.begin(),
            Seen::BaselineList(ListPhase::End) => {
                let seen = self.listed_baselines.end().unwrap_or_default();
                let gone: Vec<Arc<str>> = self.tracked.keys().filter(|name| !seen.contains(&***name)).cloned().collect();
                for name in gone {
                    self.baseline_gone(&name, now);
                }
                self.list_complete(2, "baselines", now);
            }
            Seen::OptOut(raw) => self.opt_out_seen(&raw, now),
            Seen::OptOutGone(raw) => self.opt_out_gone(&raw, now),
            Seen::OptOutList(ListPhase::Begin) => self.opt_outs.relist(),
            Seen::OptOutList(ListPhase::End) => self.opt_outs_listed(now),
            Seen::OptOutsUnlisted(why) => self.opt_outs_not_listed(why, now),
            Seen::Install(lease) => self.installs.saw(&lease, now.instant),
            Seen::InstallGone(lease) => self.installs.gone(&lease),
            Seen::InstallList(ListPhase::Begin) => self.installs.relist(),
            Seen::InstallList(ListPhase::End) => {
                self.installs.relisted();
                self.list_complete(3, "leases", now);
            }
            Seen::Dns(news) => self.dns_news(*news, now),
            Seen::Revision(revision) => self.rollouts.revisions.saw(&revision),
            Seen::RevisionGone(revision) => self.rollouts.revisions.gone(&revision),
            Seen::RevisionList(ListPhase::Begin) => self.rollouts.revisions.relist(),
            Seen::RevisionList(ListPhase::End) => self.revisions_known(Revisions::relisted, now),
            Seen::RevisionsForbidden => self.revisions_known(Revisions::forbid, now),
            Seen::Configuration(configuration) => self.configuration_seen(configuration, now),
            Seen::ConfigurationGone(kind, name) => self.configuration_gone(kind, &name, now),
            Seen::ConfigurationList(kind, phase) => self.configurations_listed(kind, phase, now),
            Seen::ConfigurationsRefused(kind, refusal) => self.configurations_refused(kind, refusal, now),
        }
    }

    /// Whether every watch has been listed once. Before that nothing is decided.
    pub fn is_synced(&self) -> bool {
        self.is_listed() && self.dns.is_settled() && self.backends.are_answered() && self.knows_revisions()
    }

    /// Whether everything is listed that is waited for without end.
    fn is_listed(&self) -> bool {
        self.synced.iter().all(|synced| *synced)
    }

    /// Looks at namespaces that changed; at most so many that events are served soon again. Says whether more are waiting.
    pub fn assess_dirty(&mut self, now: Now) -> bool {
        let was_synced = self.is_synced();
        self.dns_due(now);
        self.begin_if_synced(was_synced, now);
        self.wait_for_backends(now);
        self.wait_for_revisions(now);
        if !self.is_synced() {
            return false;
        }
        self.let_opt_outs_end(now);
        self.end_holds(now);
        for ns in self.pace.due(now.instant) {
            self.dirty.push(ns, true);
        }
        for _ in 0..ASSESS_AT_ONCE {
            let Some(ns) = self.dirty.pop() else { break };
            self.assess_namespace(&ns, now);
        }
        self.surveyed |= self.leads && self.dirty.is_empty();
        self.roll_out(now);
        !self.dirty.is_empty()
    }

    /// The next namespace to write to.
    pub fn next_job(&mut self, now: Now) -> Option<Job> {
        if !self.leads {
            return None;
        }
        while let Some(name) = self.ready.pop() {
            let Some(entry) = self.observed.get(&name) else { continue };
            let Assessment { drifts, baseline, .. } = self.assess(&name, entry);
            let uid = entry.uid.clone();
            let found = drifts.len();
            let drifts = self.writable(&name, drifts, now);
            if drifts.is_empty() {
                continue;
            }
            let all = drifts.len() == found;
            // The echo of a write can come before its answer, so the cause is judged before anything is written.
            let cause = |drift: Drift| match cause(entry, &drift) {
                Cause::Others if self.was_opted_out(&name, baseline.as_deref(), &drift, now) => {
                    Task { drift, cause: Cause::Plan }
                }
                cause => Task { drift, cause },
            };
            let tasks: Vec<Task> = drifts.into_iter().map(cause).collect();
            let bootstraps = tasks.iter().any(|t| t.cause == Cause::Bootstrap);
            if let Some(entry) = self.observed.get_mut(&name).filter(|_| bootstraps) {
                entry.standing = ChangeOrigin::Bootstrapping;
            }
            self.in_flight.insert(name.clone(), all);
            self.observed.writes_begin(&name);
            return Some(Job { namespace: name, namespace_uid: uid, baseline, tasks });
        }
        None
    }

    /// Takes the results of a job.
    pub fn done(&mut self, done: Done, now: Now) {
        let Done { job, results } = done;
        let mut finished = self.in_flight.remove(&job.namespace).unwrap_or_default();
        let mut written = Vec::with_capacity(results.len());
        for (task, result) in job.tasks.iter().zip(results) {
            let drift = &task.drift;
            finished &= result.as_ref().is_ok_and(|wrote| !matches!(wrote, Wrote::Withheld));
            match result {
                Ok(Wrote::Applied { stored, before }) => {
                    let (print, unsure) = self.observed.policy_written(&stored);
                    written.push((&*drift.policy, Some(print.version)));
                    finished &= self.applied(&job, task, &print, before.as_deref(), now) && !unsure;
                    if unsure {
                        // The watch will show it soon; writing again meanwhile would be idle.
                        self.pace.hold(&job.namespace, &drift.policy, now.instant);
                    }
                }
                Ok(Wrote::Removed) => {
                    written.push((&*drift.policy, None));
                    self.removed(&job, drift, now);
                }
                // Whoever leads finds what is left to do.
                Ok(Wrote::Withheld) | Err(WriteError::NotLeading) => {}
                // Only the watch says for sure that it is going: the apiserver may speak of another of that name. It is asked again, in silence.
                Err(WriteError::NamespaceTerminating) => self.pace.hold(&job.namespace, &drift.policy, now.instant),
                Err(WriteError::NotFound) => {
                    self.failed(&job, drift, Failure::Conflict, "the policy went while it was written", now);
                }
                Err(WriteError::Failed { reason, message }) => self.failed(&job, drift, reason, &message, now),
            }
        }
        let standing = |observed: &Observed| observed.get(&job.namespace).map(|entry| entry.standing);
        let before = standing(&self.observed);
        self.observed.writes_end(&job.namespace, &written, finished);
        if before == Some(ChangeOrigin::Bootstrapping) && standing(&self.observed) != before {
            self.happenings.push(MetricSample::Protected(self.waited(&job.namespace, now)));
        }
        // What was written is in the observed state now; looking again finds what is left to do.
        self.dirty.push(job.namespace, true);
    }

    /// What happened since, to be counted.
    pub fn take_happenings(&mut self) -> Vec<MetricSample> {
        std::mem::take(&mut self.happenings)
    }

    /// Whether namespaces are waiting to be looked at.
    pub fn has_news(&self) -> bool {
        self.is_synced() && !self.dirty.is_empty()
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

    /// Statuses to write now. None before everything known has been looked at: a half-counted status would be a lie.
    pub fn statuses(&mut self, now: Now) -> Vec<StatusWrite> {
        if !self.elected || !self.is_synced() || !self.dirty.is_empty() {
            return vec![];
        }
        let (leads, unsupported_policy_kinds, unlisted) =
            (self.leads, self.unsupported_policy_kinds.as_ref(), self.backends.unlisted());
        let ours = |tracked: &BaselineState| match tracked.turn {
            InstallOwnership::Ours => leads,
            InstallOwnership::Waits => true,
            InstallOwnership::Theirs => false,
        };
        self.tracked
            .iter_mut()
            .filter(|(_, tracked)| ours(tracked))
            .filter_map(|(name, tracked)| tracked.status_due(name, unsupported_policy_kinds, &unlisted, now))
            .collect()
    }

    /// A status write ended.
    pub fn status_written(&mut self, name: &str, uid: &str, result: Result<StoredStatus, WriteError>, now: Now) {
        if let Some(tracked) = self.tracked.get_mut(name).filter(|t| *t.uid == *uid) {
            tracked.status_written(name, result, now);
        }
    }

    /// Finalizers to add or remove now.
    pub fn finalizers(&mut self, now: Now) -> Vec<FinalizerWrite> {
        if !self.leads || !self.is_synced() {
            return vec![];
        }
        let quiet = self.dirty.is_empty() && self.ready.is_empty() && self.in_flight.is_empty();
        self.tracked.iter_mut().filter_map(|(name, tracked)| tracked.finalizer_due(name, quiet, now.instant)).collect()
    }

    /// A finalizer write ended.
    pub fn finalizer_written(&mut self, name: &str, result: Result<(), WriteError>, now: Now) {
        if let Some(tracked) = self.tracked.get_mut(name) {
            tracked.finalizer_written(name, result, now.instant);
        }
    }

    /// When to look again though nothing happens. What was due at `now` has been served by the calls before.
    pub fn next_wake(&self, now: Now) -> Option<Instant> {
        let tracked = self.tracked.values().flat_map(BaselineState::wakes);
        tracked
            .chain(self.pace.next())
            .chain(self.installs.next())
            .chain(self.opt_outs.wakes(now))
            .chain(self.dns.next(now.instant))
            .chain(self.backends.next_end())
            .chain(self.rollouts.wakes())
            .chain(self.marks.wakes())
            .filter(|at| *at > now.instant)
            .min()
    }

    fn list_complete(&mut self, which: usize, what: &str, now: Now) {
        let was_synced = self.is_synced();
        if !self.synced[which] {
            self.synced[which] = true;
            info!("{what} are listed");
        }
        if self.is_listed() {
            self.wait_for_dns(now);
        }
        self.begin_if_synced(was_synced, now);
    }

    fn begin_if_synced(&mut self, was_synced: bool, now: Now) {
        if !was_synced && self.is_synced() {
            info!(namespaces = self.observed.iter().count(), baselines = self.tracked.len(), "everything is listed, work begins");
            self.plans_changed(now);
        }
    }

    fn touch_statuses(&mut self, now: Now) {
        self.tracked.values_mut().for_each(|tracked| tracked.touch(now.instant));
    }

    fn all_dirty(&mut self) {
        for (name, _) in self.observed.iter() {
            self.dirty.push(name.clone(), false);
        }
    }

    fn policy_news(&mut self, news: Option<NamespaceName>, now: Now) {
        if let Some(ns) = news {
            self.waiting.entry(ns.clone()).or_insert(now.instant);
            self.pace.news(&ns);
            self.dirty.push(ns, true);
        }
    }

    fn namespace_gone(&mut self, ns: &NamespaceName, now: Now) {
        self.observed.namespace_deleted(ns);
        self.waits_no_more(ns);
        self.namespace_left(ns);
        self.pace.forget(ns);
        self.marks.forget(ns);
        for tracked in self.tracked.values_mut() {
            tracked.forget(ns, now.instant);
            tracked.set_policies_left(ns, 0, now.instant);
        }
    }

    fn assess(&self, ns: &NamespaceName, entry: &Entry) -> Assessment {
        let failure = |policy: &str| self.pace.problem(ns, policy);
        assess(entry, &self.baselines, &self.targets, failure, self.pace.contested(ns))
    }

    fn assess_namespace(&mut self, name: &NamespaceName, now: Now) {
        self.judge_opt_outs(name, now);
        let Some(entry) = self.observed.get(name) else { return };
        let Assessment { findings, drifts, baseline, frozen } = self.assess(name, entry);
        if self.surveyed && self.leads {
            self.tell_news(name, &findings, now);
        }
        self.report(name, &findings, now);
        self.count_what_is_left(name, now);
        self.recompute_closed(name, baseline.as_deref(), frozen);
        self.recompute_mark(name, baseline.as_deref(), &drifts, frozen);
        self.note_progress(name, &findings, &drifts, baseline.as_ref(), frozen);
        if self.release_claim(name) {
            self.dirty.push(name.clone(), false);
        }
        // The echoes of writes can come before their answers, which say what was done, and for how long it was waited for.
        let in_flight = self.in_flight.contains_key(name);
        let waited = self.waited(name, now);
        if let Some(entry) = self.observed.get_mut(name) {
            if drifts.is_empty() {
                if let Some(baseline) = baseline {
                    entry.owner = Some(baseline.name.clone());
                }
                if frozen {
                    self.waits_no_more(name);
                } else if !in_flight {
                    let before = std::mem::replace(&mut entry.standing, ChangeOrigin::Settled);
                    if before == ChangeOrigin::Bootstrapping && self.leads {
                        // The answers of its first writes were lost.
                        self.happenings.push(MetricSample::Protected(waited));
                    }
                    self.waits_no_more(name);
                }
            } else if !self.leads && !entry.was_ours() && baseline.is_some() {
                // Its first policies are the leader's to write; if he goes before he is done, the rest is no drift.
                entry.standing = ChangeOrigin::Bootstrapping;
            }
        }
        if !in_flight {
            let urgent = self.observed.get(name).is_some_and(|e| e.standing == ChangeOrigin::Touched || !e.was_ours());
            let drifts = self.writable(name, drifts, now);
            if !drifts.is_empty() {
                self.ready.push(name.clone(), urgent);
            }
        }
    }

    /// What may be written now. Nothing is removed before everything planned is there, to stay: while it is written, the plan or the
    /// namespace may change, so removals are decided afterwards.
    fn writable(&self, ns: &NamespaceName, mut drifts: Vec<Drift>, now: Now) -> Vec<Drift> {
        let is_removal = |d: &Drift| matches!(d.fix, Repair::Delete { .. });
        let all_there = drifts.iter().all(is_removal);
        drifts.retain(|d| {
            d.fix != Repair::WaitForFinalizer && (all_there || !is_removal(d)) && self.pace.allows(ns, &d.policy, now.instant)
        });
        drifts
    }

    fn report(&mut self, ns: &NamespaceName, findings: &[(Arc<str>, Finding)], now: Now) {
        for (name, tracked) in &mut self.tracked {
            match findings.iter().find(|(of, _)| of == name) {
                Some((_, finding)) => tracked.set(ns, finding.clone(), now),
                None => tracked.forget(ns, now.instant),
            }
        }
    }

    /// There is nothing to do in the namespace.
    fn waits_no_more(&mut self, ns: &NamespaceName) {
        if self.waiting.remove(ns).is_some() && self.waiting.is_empty() {
            self.waiting = HashMap::new();
        }
    }

    /// How long there has been something to do in the namespace.
    fn waited(&self, ns: &NamespaceName, now: Now) -> Duration {
        self.waiting.get(ns).map_or(Duration::ZERO, |since| now.instant.saturating_duration_since(*since))
    }

    /// Counts the policies of a namespace that go with a baseline that is being deleted. All are looked at when that begins, and each again
    /// when it changes, so nobody has to count them all.
    fn count_what_is_left(&mut self, ns: &NamespaceName, now: Now) {
        let Some(entry) = self.observed.get(ns) else { return };
        let lives = entry.namespace.as_ref().is_some_and(|namespace| !namespace.terminating);
        for (name, tracked) in self.tracked.iter_mut().filter(|(_, tracked)| tracked.removes_all()) {
            let theirs =
                |print: &&Fingerprint| lives && print.ours && !print.terminating && print.baseline.as_ref() == Some(name);
            tracked.set_policies_left(ns, entry.policies.values().filter(theirs).count(), now.instant);
        }
    }
}

/// Why a policy is not as planned. Only what others did is drift in the eyes of users; the rest is work.
fn cause(entry: &Entry, drift: &Drift) -> Cause {
    match entry.standing {
        ChangeOrigin::Bootstrapping if drift.class == Class::Missing => Cause::Bootstrap,
        _ if drift.class == Class::Missing && !entry.was_ours() => Cause::Bootstrap,
        ChangeOrigin::Settled => Cause::Plan,
        ChangeOrigin::Found | ChangeOrigin::Bootstrapping if drift.outdated => Cause::Plan,
        ChangeOrigin::Found | ChangeOrigin::Bootstrapping | ChangeOrigin::Touched => Cause::Others,
    }
}
