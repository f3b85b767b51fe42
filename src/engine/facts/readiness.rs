//! The state of each set that the operator watches: whether it is listed, and if not, why, and how long decisions and statuses wait for it.
//! Decisions, `/readyz`, conditions and messages all use this state. Time is an argument.
//!
//! One file: the waits of all sets are one table, and a third of it is its tests.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use super::event::ListRefusal;
use strum::VariantArray;

use crate::{
    api::backends::ConfigurationKind,
    engine::clock::{LASTS, PATIENCE},
};

/// How long decisions wait for a source of DNS or of the API server's addresses that neither answers nor refuses, once all required sets are listed. Plans without that source
/// could block traffic that the plans before a restart allowed.
const DNS_PATIENCE: Duration = Duration::from_secs(10);

/// How long a set that was listed before may be listed again until what is known of it counts as old.
const RELIST_PATIENCE: Duration = Duration::from_secs(45);

/// How long a watch must fail until statuses say that what they show may be old.
const WATCH_PATIENCE: Duration = Duration::from_mins(1);

/// A watch that has not failed again for so long works: it is tried every few seconds, and success says nothing.
const WELL_AGAIN: Duration = Duration::from_secs(45);

/// What the operator watches.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum WatchedSet {
    /// Namespaces.
    Namespaces,
    /// NetworkPolicies.
    Policies,
    /// Baselines.
    Baselines,
    /// The Leases of installs.
    Installs,
    /// Opt-outs.
    OptOuts,
    /// Objects of one kind that name Services which the API server calls.
    Callers(ConfigurationKind),
    /// The stored revisions of baselines.
    Revisions,
    /// All sources of DNS together.
    Dns,
    /// The Service and the EndpointSlice of the API server together.
    KubernetesApi,
    /// The DaemonSets of all known network plugins together.
    Plugins,
}

/// How long decisions and statuses wait for a set. `None`: without limit.
#[derive(Clone, Copy, Debug)]
struct WaitRule {
    /// How long decisions wait while its list gets no answer.
    silent: Option<Duration>,
    /// How long decisions wait while its list is refused.
    refused: Option<Duration>,
    /// How long statuses wait while its list gets no answer. They do not wait for a list that is refused.
    reported: Option<Duration>,
}

impl WatchedSet {
    /// The sets that decisions wait for without limit.
    pub const REQUIRED: [Self; 5] = [Self::Namespaces, Self::Policies, Self::Baselines, Self::Installs, Self::OptOuts];

    /// Every set.
    pub fn all() -> impl Iterator<Item = Self> {
        let callers = ConfigurationKind::VARIANTS.iter().copied().map(Self::Callers);
        Self::REQUIRED.into_iter().chain(callers).chain([Self::Revisions, Self::Dns, Self::KubernetesApi, Self::Plugins])
    }

    /// The resource, as `/readyz` and the log name it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Namespaces => "namespaces",
            Self::Policies => "networkpolicies",
            Self::Baselines => "policybaselines",
            Self::Installs => "leases",
            Self::OptOuts => "baselineoptouts",
            Self::Callers(kind) => kind.resource(),
            Self::Revisions => "controllerrevisions",
            Self::Dns => "DNS",
            Self::KubernetesApi => "default/kubernetes",
            Self::Plugins => "daemonsets",
        }
    }

    /// The name in the log line about the complete list.
    pub const fn plural(self) -> &'static str {
        match self {
            Self::Policies => "network policies",
            Self::Baselines => "baselines",
            Self::OptOuts => "opt-outs",
            _ => self.as_str(),
        }
    }

    /// Whether the operator can work without the set. If so, a refused list does not make it unready.
    pub const fn is_optional(self) -> bool {
        matches!(self, Self::Callers(_) | Self::Plugins)
    }

    /// How long decisions and statuses wait for this set.
    const fn rule(self) -> WaitRule {
        match self {
            // Without these nothing can be decided.
            Self::Namespaces | Self::Policies | Self::Baselines | Self::Installs | Self::OptOuts => {
                WaitRule { silent: None, refused: None, reported: None }
            }
            // For plugins, only statuses wait.
            Self::Callers(_) | Self::Plugins => {
                WaitRule { silent: Some(PATIENCE), refused: Some(LASTS), reported: Some(PATIENCE) }
            }
            // Only rollouts need revisions, and a rollout waits for them by itself.
            Self::Revisions => WaitRule { silent: Some(PATIENCE), refused: Some(Duration::ZERO), reported: Some(PATIENCE) },
            // `policy::dns` and `policy::kubernetes_api` decide how long one of their sources may be refused. Decisions keep what the
            // stored statuses say of a silent source, so they need not wait for long. A status would say that the source is silent.
            Self::Dns | Self::KubernetesApi => WaitRule { silent: Some(DNS_PATIENCE), refused: None, reported: Some(PATIENCE) },
        }
    }
}

/// The state of the first list of a set.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum ListState {
    /// Decisions may have to wait for it.
    #[default]
    Waiting,
    /// The list is complete.
    Listed,
    /// The API server does not serve this resource, so there are no such objects.
    NotKnown,
    /// The operator may not list the set. It works without it until it may.
    Refused,
    /// The list got no answer in time. The operator works without it until an answer comes.
    Silent,
    /// The set is not watched.
    Off,
}

impl ListState {
    /// Whether the objects of the set are known.
    pub const fn is_known(self) -> bool {
        matches!(self, Self::Listed | Self::NotKnown)
    }
}

/// The state of one set.
#[derive(Clone, Debug, Default)]
pub struct Readiness {
    state: ListState,
    /// When the wait for this set began, after nothing else was missing.
    silent_since: Option<Instant>,
    /// The last kind of refusal, and since when it lasts.
    refused_since: Option<(ListRefusal, Instant)>,
    /// The last problem of its watch, until the set is listed.
    problem: Option<String>,
    /// Since when a list of it has been under way.
    listing_since: Option<Instant>,
    /// When its watch failed first and last, since it worked for the last time.
    failed: Option<(Instant, Instant)>,
    /// Its last failure was that the operator lacks the permission.
    is_forbidden: bool,
    /// It has failed for long.
    is_failing: bool,
    /// It was listed, and then refused for so long that the operator works without it.
    is_withdrawn: bool,
}

/// The state of every set.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
pub struct ReadinessTable(BTreeMap<WatchedSet, Readiness>);

impl ReadinessTable {
    fn get_mut(&mut self, set: WatchedSet) -> &mut Readiness {
        self.0.entry(set).or_default()
    }

    /// The state of its first list.
    pub fn state(&self, set: WatchedSet) -> ListState {
        self.0.get(&set).map(|readiness| readiness.state).unwrap_or_default()
    }

    /// Whether decisions no longer wait for the set.
    pub fn is_settled(&self, set: WatchedSet) -> bool {
        self.state(set) != ListState::Waiting
    }

    /// Whether all sets of `REQUIRED` are listed.
    pub fn is_required_listed(&self) -> bool {
        WatchedSet::REQUIRED.into_iter().all(|set| self.is_settled(set))
    }

    /// A list of it begins. If a list is under way already, that one failed and is tried again, so the time counts from the first.
    pub fn list_began(&mut self, set: WatchedSet, now: Instant) {
        self.get_mut(set).listing_since.get_or_insert(now);
    }

    /// The required sets that were listed before, and whose new list takes too long. What the operator knows of them may be old: deletions
    /// are not reported before a list is complete. Decisions wait for them again.
    pub fn fall_back(&mut self, now: Instant) -> Vec<WatchedSet> {
        let overdue = |(set, readiness): (&WatchedSet, &Readiness)| {
            let is_over = readiness.listing_since.is_some_and(|since| since + RELIST_PATIENCE <= now);
            (WatchedSet::REQUIRED.contains(set) && readiness.state == ListState::Listed && is_over).then_some(*set)
        };
        let sets: Vec<WatchedSet> = self.0.iter().filter_map(overdue).collect();
        for set in &sets {
            let readiness = self.get_mut(*set);
            readiness.state = ListState::Waiting;
            let seconds = RELIST_PATIENCE.as_secs();
            readiness.problem.get_or_insert_with(|| format!("it is being listed again, for more than {seconds} s"));
        }
        sets
    }

    /// When the new list of a required set takes too long.
    pub fn falls_back_at(&self) -> Option<Instant> {
        let listed = self.0.iter().filter(|(set, r)| WatchedSet::REQUIRED.contains(set) && r.state == ListState::Listed);
        listed.filter_map(|(_, readiness)| Some(readiness.listing_since? + RELIST_PATIENCE)).min()
    }

    /// Sets the state of its list. Returns whether the state changed.
    pub fn settle(&mut self, set: WatchedSet, state: ListState) -> bool {
        let readiness = self.get_mut(set);
        if state.is_known() {
            readiness.problem = None;
            readiness.listing_since = None;
        }
        std::mem::replace(&mut readiness.state, state) != state
    }

    /// Forgets the refusal, because a list is complete.
    pub fn answered(&mut self, set: WatchedSet) {
        self.get_mut(set).refused_since = None;
    }

    /// Notes a problem of its watch, for `/readyz`. Once the set is listed, later problems do not matter.
    pub fn report(&mut self, set: WatchedSet, problem: String) {
        let readiness = self.get_mut(set);
        if !readiness.state.is_known() {
            readiness.problem = Some(problem);
        }
    }

    /// Notes a refusal. If its kind differs from the last one, the time starts again.
    pub fn refuse(&mut self, set: WatchedSet, refusal: ListRefusal, now: Instant) {
        let readiness = self.get_mut(set);
        let since = readiness.refused_since.filter(|(before, _)| *before == refusal).map_or(now, |(_, since)| since);
        readiness.refused_since = Some((refusal, since));
    }

    /// Notes that the watch of a set failed.
    pub fn watch_failed(&mut self, set: WatchedSet, refusal: ListRefusal, now: Instant) {
        let readiness = self.get_mut(set);
        readiness.is_forbidden = refusal == ListRefusal::Forbidden;
        let first = readiness.failed.filter(|(_, last)| now < *last + WELL_AGAIN).map_or(now, |(first, _)| first);
        readiness.failed = Some((first, now));
    }

    /// Notes that the watch of a set delivered something.
    pub fn watch_works(&mut self, set: WatchedSet) {
        if let Some(readiness) = self.0.get_mut(&set) {
            readiness.failed = None;
        }
    }

    /// Finds out which watches of listed sets have failed for so long that what is known may be old. What was never listed has conditions
    /// of its own. Returns the sets for which that began or ended.
    pub fn recompute_failing(&mut self, now: Instant) -> Vec<(WatchedSet, bool)> {
        let mut changes = Vec::new();
        for (set, readiness) in &mut self.0 {
            let is_over = |(first, last)| first + WATCH_PATIENCE <= now && now < last + WELL_AGAIN;
            let was_listed = readiness.state == ListState::Listed || readiness.is_withdrawn;
            let is_failing = was_listed && readiness.failed.is_some_and(is_over);
            if std::mem::replace(&mut readiness.is_failing, is_failing) != is_failing {
                changes.push((*set, is_failing));
            }
        }
        changes
    }

    /// The listed sets whose watches have failed for long.
    pub fn failing(&self) -> Vec<WatchedSet> {
        let is_failing = |readiness: &Readiness| readiness.is_failing && readiness.state == ListState::Listed;
        self.0.iter().filter(|(_, readiness)| is_failing(readiness)).map(|(set, _)| *set).collect()
    }

    /// Whether the operator has lacked the permission to watch an optional set for long. From now on it works without the set, as after a start.
    pub fn withdraw(&mut self, set: WatchedSet) -> bool {
        let readiness = self.get_mut(set);
        let is_refused = !WatchedSet::REQUIRED.contains(&set) && readiness.is_failing && readiness.is_forbidden;
        readiness.is_withdrawn |= is_refused;
        is_refused
    }

    /// Whether a set that the operator worked without works again.
    pub fn comes_back(&mut self, set: WatchedSet) -> bool {
        let readiness = self.get_mut(set);
        std::mem::take(&mut readiness.is_withdrawn) && readiness.state != ListState::Listed
    }

    /// When a failing watch has failed for long, or counts as working again.
    pub fn watches_wake(&self, now: Instant) -> Option<Instant> {
        let failed = self.0.values().filter_map(|readiness| readiness.failed);
        failed.flat_map(|(first, last)| [first + WATCH_PATIENCE, last + WELL_AGAIN]).filter(|at| *at > now).min()
    }

    /// The kind of the current refusal, and since when it lasts.
    pub fn refused_since(&self, set: WatchedSet) -> Option<(ListRefusal, Instant)> {
        self.0.get(&set)?.refused_since
    }

    /// Whether decisions have waited long enough for a refused set.
    pub fn is_refused_for_long(&self, set: WatchedSet, now: Instant) -> bool {
        let since = self.refused_since(set).map(|(_, since)| since);
        since.zip(set.rule().refused).is_some_and(|(since, wait)| now >= since + wait)
    }

    /// Starts the wait for a silent set, because nothing else is missing. Later calls change nothing.
    pub fn ask(&mut self, set: WatchedSet, now: Instant) {
        self.get_mut(set).silent_since.get_or_insert(now);
    }

    /// Whether statuses wait for the set: its list may still come, and then a status that is written now would be written again.
    pub fn do_statuses_wait_for(&self, set: WatchedSet, now: Instant) -> bool {
        let may_come = matches!(self.state(set), ListState::Waiting | ListState::Silent) && self.refused_since(set).is_none();
        may_come && self.reported_at(set).is_none_or(|at| now < at)
    }

    /// When statuses stop waiting for a silent set. `None`: the wait has not begun, or has no limit.
    pub fn reported_at(&self, set: WatchedSet) -> Option<Instant> {
        Some(self.0.get(&set)?.silent_since? + set.rule().reported?)
    }

    /// When decisions stop waiting for a silent set. `None`: the wait has not begun, or has no limit.
    pub fn silent_until(&self, set: WatchedSet) -> Option<Instant> {
        Some(self.0.get(&set)?.silent_since? + set.rule().silent?)
    }

    /// Whether decisions have waited long enough for a silent set.
    pub fn is_silent_for_long(&self, set: WatchedSet, now: Instant) -> bool {
        self.silent_until(set).is_some_and(|until| until <= now)
    }

    /// Why `/readyz` waits for the set; `None` if it does not.
    pub fn waits(&self, set: WatchedSet) -> Option<&str> {
        let readiness = self.0.get(&set);
        let does_without = set.is_optional() && self.refused_since(set).is_some();
        let is_waiting = !(self.is_settled(set) || does_without);
        is_waiting.then(|| readiness.and_then(|r| r.problem.as_deref()).unwrap_or("it is being listed"))
    }
}

#[cfg(test)]
impl ReadinessTable {
    /// For the model: which required sets are settled.
    pub fn essence(&self) -> [bool; 5] {
        WatchedSet::REQUIRED.map(|set| self.is_settled(set))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CRDS: WatchedSet = WatchedSet::Callers(ConfigurationKind::Crd);

    #[test]
    fn what_is_waited_for_is_named_until_it_was_listed() {
        let mut table = ReadinessTable::default();
        assert_eq!(table.waits(WatchedSet::Baselines), Some("it is being listed"));
        table.report(WatchedSet::Baselines, "not known".into());
        assert_eq!(table.waits(WatchedSet::Baselines), Some("not known"));
        table.settle(WatchedSet::Baselines, ListState::Listed);
        table.report(WatchedSet::Baselines, "a restart of the watch is no news for readiness".into());
        assert_eq!(table.waits(WatchedSet::Baselines), None);
    }

    #[test]
    fn a_watch_fails_for_long_after_a_minute_until_it_delivers_something_or_fails_no_more() {
        let (mut table, start) = (ReadinessTable::default(), Instant::now());
        let set = WatchedSet::Policies;
        let fails = |table: &mut ReadinessTable, from: u64, to: u64| {
            for second in (from..=to).step_by(3) {
                table.watch_failed(set, ListRefusal::Unavailable, start + Duration::from_secs(second));
            }
        };
        let at = |table: &mut ReadinessTable, second: u64| {
            table.recompute_failing(start + Duration::from_secs(second));
            table.failing()
        };
        fails(&mut table, 0, 60);
        assert!(at(&mut table, 61).is_empty(), "it was never listed, and something else says so");
        table.settle(set, ListState::Listed);
        assert!(at(&mut table, 59).is_empty());
        assert_eq!(at(&mut table, 61), [set]);
        assert_eq!(table.recompute_failing(start + Duration::from_secs(62)), [], "it is told once");
        table.watch_works(set);
        assert_eq!(table.recompute_failing(start + Duration::from_secs(62)), [(set, false)]);
        // Single failures do not add up.
        table.watch_failed(set, ListRefusal::Unavailable, start + Duration::from_secs(100));
        table.watch_failed(set, ListRefusal::Unavailable, start + Duration::from_secs(170));
        assert!(at(&mut table, 171).is_empty());
        fails(&mut table, 173, 233);
        assert_eq!(at(&mut table, 234), [set]);
        let wakes = table.watches_wake(start + Duration::from_secs(234)).unwrap();
        assert!(at(&mut table, wakes.duration_since(start).as_secs()).is_empty(), "it is tried every few seconds, and succeeds");
    }

    #[test]
    fn an_optional_set_that_is_refused_for_long_is_worked_without_until_its_watch_works() {
        let start = Instant::now();
        for (set, refusal, expected) in [
            (CRDS, ListRefusal::Forbidden, true),
            (WatchedSet::Revisions, ListRefusal::Forbidden, true),
            (CRDS, ListRefusal::Unavailable, false),
            (WatchedSet::OptOuts, ListRefusal::Forbidden, false),
        ] {
            let mut table = ReadinessTable::default();
            table.settle(set, ListState::Listed);
            for second in (0..=61).step_by(3) {
                assert!(!table.withdraw(set));
                table.watch_failed(set, refusal, start + Duration::from_secs(second));
                table.recompute_failing(start + Duration::from_secs(second));
            }
            assert_eq!((table.withdraw(set), table.failing()), (expected, vec![set]), "{set:?}");
            if expected {
                table.settle(set, ListState::Refused);
                assert_eq!(table.failing(), []);
                // No list follows if the watch goes on where it was.
                assert_eq!(table.recompute_failing(start + Duration::from_mins(1) + WELL_AGAIN), [(set, false)]);
                assert!(table.comes_back(set) && !table.comes_back(set));
            }
        }
    }

    #[test]
    fn readiness_does_not_wait_for_what_is_optional_and_refused() {
        let (mut table, now) = (ReadinessTable::default(), Instant::now());
        for set in [CRDS, WatchedSet::OptOuts] {
            table.refuse(set, ListRefusal::Forbidden, now);
            assert_eq!((table.is_settled(set), table.waits(set).is_some()), (false, set == WatchedSet::OptOuts));
        }
    }

    #[test]
    fn patience_is_a_table_and_a_refusal_of_another_kind_lasts_anew() {
        let (mut table, start) = (ReadinessTable::default(), Instant::now());
        for set in WatchedSet::all() {
            table.ask(set, start);
            table.ask(set, start + PATIENCE);
            let ends = !WatchedSet::REQUIRED.contains(&set);
            assert_eq!(table.is_silent_for_long(set, start + PATIENCE), ends, "{set:?}");
            assert!(!table.is_silent_for_long(set, start), "{set:?}");
        }
        table.refuse(CRDS, ListRefusal::Unknown, start);
        assert!(!table.is_refused_for_long(CRDS, start) && table.is_refused_for_long(CRDS, start + LASTS));
        table.refuse(CRDS, ListRefusal::Forbidden, start + LASTS);
        assert!(!table.is_refused_for_long(CRDS, start + LASTS));
        table.answered(CRDS);
        assert!(!table.is_refused_for_long(CRDS, start + PATIENCE));
    }

    #[test]
    fn i2_statuses_wait_for_each_set_until_it_answers_is_refused_or_has_been_silent_for_as_long_as_the_table_says() {
        let start = Instant::now();
        let almost = start + PATIENCE.checked_sub(Duration::from_secs(1)).unwrap();
        for set in WatchedSet::all() {
            let is_required = WatchedSet::REQUIRED.contains(&set);
            let mut table = ReadinessTable::default();
            assert!(table.do_statuses_wait_for(set, start + PATIENCE), "{set:?}: the wait has not begun");
            table.ask(set, start);
            let waits = |table: &ReadinessTable| [start, almost, start + PATIENCE].map(|at| table.do_statuses_wait_for(set, at));
            assert_eq!(waits(&table), [true, true, is_required], "{set:?}");
            assert_eq!(table.reported_at(set), (!is_required).then_some(start + PATIENCE), "{set:?}");
            // That decisions go on without it changes nothing.
            table.settle(set, ListState::Silent);
            assert_eq!(waits(&table), [true, true, is_required], "{set:?}");
            for state in [ListState::Listed, ListState::NotKnown, ListState::Refused, ListState::Off] {
                table.settle(set, state);
                assert_eq!(waits(&table), [false; 3], "{set:?} {state:?}");
            }
            table.settle(set, ListState::Waiting);
            table.refuse(set, ListRefusal::Forbidden, start);
            assert_eq!(waits(&table), [false; 3], "{set:?} is refused");
        }
    }
}
