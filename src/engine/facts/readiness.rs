//! What is known of each set that the operator watches: whether it is listed, and if not, why, and for how long decisions wait for it.
//! Decisions, `/readyz`, conditions and messages all read it from here. Time is an argument.

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

/// For so long decisions wait for a source of DNS that neither answers nor refuses, once everything else is listed. Plans without it could
/// cut off whom the plans of before a restart let through.
const DNS_PATIENCE: Duration = Duration::from_secs(10);

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
    /// What names Services that the API server calls, by kind.
    Callers(ConfigurationKind),
    /// What baselines with a rollout asked for before.
    Revisions,
    /// All sources of DNS together.
    Dns,
}

/// For how long decisions wait for a set; `None` is without end.
#[derive(Clone, Copy, Debug)]
struct WaitRule {
    /// While it is silent.
    silent: Option<Duration>,
    /// While it is refused.
    refused: Option<Duration>,
}

impl WatchedSet {
    /// Those that decisions wait for without end.
    pub const REQUIRED: [Self; 5] = [Self::Namespaces, Self::Policies, Self::Baselines, Self::Installs, Self::OptOuts];

    /// Every set.
    pub fn all() -> impl Iterator<Item = Self> {
        let callers = ConfigurationKind::VARIANTS.iter().copied().map(Self::Callers);
        Self::REQUIRED.into_iter().chain(callers).chain([Self::Revisions, Self::Dns])
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
        }
    }

    /// What the log calls them when they are listed.
    pub const fn plural(self) -> &'static str {
        match self {
            Self::Policies => "network policies",
            Self::Baselines => "baselines",
            Self::OptOuts => "opt-outs",
            _ => self.as_str(),
        }
    }

    /// The operator works on without it as soon as it is refused.
    pub const fn is_optional(self) -> bool {
        matches!(self, Self::Callers(_))
    }

    /// The table of patience.
    const fn rule(self) -> WaitRule {
        match self {
            // Without these nothing can be decided.
            Self::Namespaces | Self::Policies | Self::Baselines | Self::Installs | Self::OptOuts => {
                WaitRule { silent: None, refused: None }
            }
            Self::Callers(_) => WaitRule { silent: Some(PATIENCE), refused: Some(LASTS) },
            // Only rollouts need them, and these wait by themselves.
            Self::Revisions => WaitRule { silent: Some(PATIENCE), refused: Some(Duration::ZERO) },
            // How long a refusal of one of its sources may last is decided there.
            Self::Dns => WaitRule { silent: Some(DNS_PATIENCE), refused: None },
        }
    }
}

/// What became of the first list of a set.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum ListState {
    /// It is waited for.
    #[default]
    Waiting,
    /// All of it is known.
    Listed,
    /// The API server knows no such objects, so there are none.
    NotKnown,
    /// The operator may not list it, and works on without it until it may.
    Refused,
    /// There was no answer in time, and the operator works on without it until one comes.
    Silent,
    /// It is not watched.
    Off,
}

impl ListState {
    /// What is in it is known.
    pub const fn is_known(self) -> bool {
        matches!(self, Self::Listed | Self::NotKnown)
    }
}

/// What is known of one set.
#[derive(Clone, Debug, Default)]
pub struct Readiness {
    state: ListState,
    /// Since when it is silent though nothing else is waited for.
    silent_since: Option<Instant>,
    /// How it was refused last, and since when.
    refused_since: Option<(ListRefusal, Instant)>,
    /// What its watch reported last, until it is listed.
    problem: Option<String>,
}

/// What is known of every set.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
pub struct ReadinessTable(BTreeMap<WatchedSet, Readiness>);

impl ReadinessTable {
    fn get_mut(&mut self, set: WatchedSet) -> &mut Readiness {
        self.0.entry(set).or_default()
    }

    /// What became of its first list.
    pub fn state(&self, set: WatchedSet) -> ListState {
        self.0.get(&set).map(|readiness| readiness.state).unwrap_or_default()
    }

    /// Whether decisions wait for it no more.
    pub fn is_settled(&self, set: WatchedSet) -> bool {
        self.state(set) != ListState::Waiting
    }

    /// Whether everything is listed that decisions wait for without end.
    pub fn is_required_listed(&self) -> bool {
        WatchedSet::REQUIRED.into_iter().all(|set| self.is_settled(set))
    }

    /// Notes what became of its list. Returns whether that is news.
    pub fn settle(&mut self, set: WatchedSet, state: ListState) -> bool {
        let readiness = self.get_mut(set);
        if state.is_known() {
            readiness.problem = None;
        }
        std::mem::replace(&mut readiness.state, state) != state
    }

    /// A list of it is complete: no refusal lasts.
    pub fn answered(&mut self, set: WatchedSet) {
        self.get_mut(set).refused_since = None;
    }

    /// Notes what its watch reports, for `/readyz`. Once it is listed a restart of the watch is no news.
    pub fn report(&mut self, set: WatchedSet, problem: String) {
        let readiness = self.get_mut(set);
        if !readiness.state.is_known() {
            readiness.problem = Some(problem);
        }
    }

    /// It is refused. A refusal of another kind begins to last anew.
    pub fn refuse(&mut self, set: WatchedSet, refusal: ListRefusal, now: Instant) {
        let readiness = self.get_mut(set);
        let since = readiness.refused_since.filter(|(before, _)| *before == refusal).map_or(now, |(_, since)| since);
        readiness.refused_since = Some((refusal, since));
    }

    /// How it is refused, and since when.
    pub fn refused_since(&self, set: WatchedSet) -> Option<(ListRefusal, Instant)> {
        self.0.get(&set)?.refused_since
    }

    /// Whether its refusal has lasted for as long as decisions wait for it.
    pub fn is_refused_for_long(&self, set: WatchedSet, now: Instant) -> bool {
        let since = self.refused_since(set).map(|(_, since)| since);
        since.zip(set.rule().refused).is_some_and(|(since, wait)| now >= since + wait)
    }

    /// Nothing else is waited for: from now on its silence counts.
    pub fn ask(&mut self, set: WatchedSet, now: Instant) {
        self.get_mut(set).silent_since.get_or_insert(now);
    }

    /// When decisions wait for it no more though it stays silent.
    pub fn silent_until(&self, set: WatchedSet) -> Option<Instant> {
        Some(self.0.get(&set)?.silent_since? + set.rule().silent?)
    }

    /// Whether it has been silent for as long as decisions wait for it.
    pub fn is_silent_for_long(&self, set: WatchedSet, now: Instant) -> bool {
        self.silent_until(set).is_some_and(|until| until <= now)
    }

    /// Why `/readyz` waits for it, if it does.
    pub fn waits(&self, set: WatchedSet) -> Option<&str> {
        let readiness = self.0.get(&set);
        let does_without = set.is_optional() && self.refused_since(set).is_some();
        let is_waiting = !(self.is_settled(set) || does_without);
        is_waiting.then(|| readiness.and_then(|r| r.problem.as_deref()).unwrap_or("it is being listed"))
    }
}

#[cfg(test)]
impl ReadinessTable {
    /// What decides whether anything is decided at all.
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
}
