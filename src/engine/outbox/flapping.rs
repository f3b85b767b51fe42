//! Policies that somebody changes again and again (contests). Each repair waits longer than the last, but repairs never stop. All other
//! policies keep full speed (I7). The identity of the writer does not matter: the claimed writer is shown, but never relied on (I13).

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use super::retry::{Delays, LONGEST};
use crate::{
    api::{NamespaceName, reason::ViolationReason},
    policy::{digest::Digest, status::Problem},
};

/// This many repairs within `WITHIN` are a contest.
pub const REPAIRS: usize = 5;
const WITHIN: Duration = Duration::from_mins(1);
const FIRST: Duration = Duration::from_secs(1);
/// A contest is over when no repair was needed for this long.
pub const CALM: Duration = Duration::from_mins(2);

/// The last repairs of a policy, the latest last, in tenths of a second; 0 means never. It is small, because after a burst of changes
/// every policy may have one.
type Repairs = [u32; REPAIRS - 1];

/// The contests, and the recent repairs that may become one.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
pub struct FlapDetector {
    contested: HashMap<NamespaceName, BTreeMap<String, Flapping>>,
    /// Recent repairs, by a digest of namespace and policy, in two generations. After `WITHIN`, `recent` replaces `older`, and the former
    /// `older` is dropped.
    recent: HashMap<Digest, Repairs>,
    older: HashMap<Digest, Repairs>,
    turned: Option<Instant>,
    /// The time of the first repair, which has the value 1 in `Repairs`.
    first: Option<Instant>,
}

#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
struct Flapping {
    /// The number of repairs since the contest began.
    rounds: u32,
    /// Until when the next repair waits. `None` after a change of the plan.
    until: Option<Instant>,
    last: Instant,
    who: Option<Arc<str>>,
}

/// What a repair means for the next one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RepairDelay {
    /// The next repair waits until then.
    pub until: Instant,
    /// The contest begins with this repair.
    pub begins: bool,
}

impl FlapDetector {
    /// Notes that a policy was repaired after somebody changed it. `who` is the claimed writer. Returns how long the next repair waits, or
    /// `None` if there is no contest.
    pub fn repaired(&mut self, ns: &NamespaceName, policy: &str, who: Option<&Arc<str>>, now: Instant) -> Option<RepairDelay> {
        if self.contest(ns, policy).is_none() && !self.is_fifth(ns, policy, now) {
            return None;
        }
        let contest = self.contested.entry(ns.clone()).or_default().entry(policy.to_owned());
        let contest = contest.or_insert_with(|| Flapping { rounds: 0, until: None, last: now, who: None });
        let begins = contest.rounds == 0;
        contest.rounds = contest.rounds.saturating_add(1);
        let until = now + Delays::new(FIRST, LONGEST).spread(ns, policy).after(contest.rounds).min(LONGEST);
        (contest.until, contest.last) = (Some(until), now);
        if let Some(who) = who {
            contest.who = Some(who.clone());
        }
        Some(RepairDelay { until, begins })
    }

    fn is_fifth(&mut self, ns: &NamespaceName, policy: &str, now: Instant) -> bool {
        self.turn(now);
        let key = Digest::of_texts([ns.as_str(), policy]);
        let [first, repairs @ ..] = self.recent.remove(&key).or_else(|| self.older.remove(&key)).unwrap_or_default();
        let now = self.tenths(now);
        let is_fifth = first > 0 && u128::from(now - first) * 100 < WITHIN.as_millis();
        if !is_fifth {
            let [second, third, fourth] = repairs;
            self.recent.insert(key, [second, third, fourth, now]);
        }
        is_fifth
    }

    fn tenths(&mut self, now: Instant) -> u32 {
        let since = now.saturating_duration_since(*self.first.get_or_insert(now));
        u32::try_from(since.as_millis() / 100).unwrap_or(u32::MAX).saturating_add(1)
    }

    fn turn(&mut self, now: Instant) {
        let turned = *self.turned.get_or_insert(now);
        if now.saturating_duration_since(turned) >= WITHIN {
            self.older = std::mem::take(&mut self.recent);
            self.turned = Some(now);
        }
    }

    /// Whether a policy may be repaired now.
    pub fn allows(&self, ns: &NamespaceName, policy: &str, now: Instant) -> bool {
        self.contest(ns, policy).and_then(|contest| contest.until).is_none_or(|until| until <= now)
    }

    fn contest(&self, ns: &NamespaceName, policy: &str) -> Option<&Flapping> {
        self.contested.get(ns)?.get(policy)
    }

    /// The problems of the contested policies of a namespace.
    pub fn problems(&self, ns: &NamespaceName) -> Vec<Problem> {
        let problem = |(policy, contest): (&String, &Flapping)| Problem {
            policy: Some(policy.clone()),
            reason: ViolationReason::Contested.into(),
            message: format!(
                "another writer changes the policy again and again (last other field manager: {}); repairs wait up to {} s until it stays as planned for {} minutes: find that writer and stop it",
                contest.who.as_deref().unwrap_or("unknown"),
                LONGEST.as_secs(),
                CALM.as_secs() / 60
            ),
        };
        self.contested.get(ns).into_iter().flatten().map(problem).collect()
    }

    /// Drops contests that are over, and repairs that are too old to matter.
    pub fn calm_down(&mut self, now: Instant) {
        self.turn(now);
        self.contested.retain(|_, policies| {
            policies.retain(|_, contest| now.saturating_duration_since(contest.last) < CALM);
            !policies.is_empty()
        });
    }

    /// The plan changed: contested policies may be written at once.
    pub fn plan_changed(&mut self) {
        self.contested.values_mut().flat_map(BTreeMap::values_mut).for_each(|contest| contest.until = None);
    }

    /// Forgets a namespace.
    pub fn forget(&mut self, ns: &NamespaceName) {
        self.contested.remove(ns);
    }
}

#[cfg(test)]
impl FlapDetector {
    /// For the model: how often each policy was repaired, and which policies wait.
    pub fn essence(&self, now: Instant) -> Vec<(String, usize)> {
        let recent = self.recent.iter().chain(&self.older);
        let repaired = recent.map(|(key, times)| (key.to_string(), times.iter().filter(|t| **t > 0).count()));
        let waits = |contest: &Flapping| usize::from(contest.until.is_some_and(|until| until > now));
        let contested = self.contested.values().flatten().map(|(policy, contest)| (policy.clone(), waits(contest)));
        let mut all: Vec<_> = repaired.chain(contested).collect();
        all.sort_unstable();
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn ns(name: &str) -> NamespaceName {
        NamespaceName::observed(name)
    }

    /// A contest that has just begun, and when.
    fn contested() -> (FlapDetector, Instant) {
        let (mut contests, mut now) = (FlapDetector::default(), Instant::now());
        for n in 1..=REPAIRS {
            now += SECOND * 10;
            let wait = contests.repaired(&ns("a"), "p", Some(&"kubectl-edit".into()), now);
            assert_eq!(wait.map(|w| w.begins), (n == REPAIRS).then_some(true), "repair {n}");
        }
        (contests, now)
    }

    #[test]
    fn five_repairs_within_a_minute_are_a_contest_of_that_policy_alone() {
        let (contests, now) = contested();
        assert!(!contests.allows(&ns("a"), "p", now));
        assert!(contests.allows(&ns("a"), "q", now) && contests.allows(&ns("b"), "p", now));
        let problems = contests.problems(&ns("a"));
        assert!(problems.len() == 1 && problems[0].message.contains("kubectl-edit"), "{problems:?}");
        assert_eq!(contests.problems(&ns("b")), []);
    }

    #[test]
    fn repairs_that_are_further_apart_are_none() {
        let (mut contests, mut now) = (FlapDetector::default(), Instant::now());
        for _ in 0..100 {
            now += SECOND * 16;
            assert_eq!(contests.repaired(&ns("a"), "p", None, now), None);
        }
    }

    #[test]
    fn waits_grow_to_half_a_minute_and_repairs_never_end() {
        let (mut contests, mut now) = contested();
        let mut before = Duration::ZERO;
        for _ in 0..50 {
            let wait = contests.repaired(&ns("a"), "p", None, now).unwrap();
            let took = wait.until - now;
            assert!(!wait.begins && took >= before && took <= LONGEST, "{took:?} after {before:?}");
            assert!(!contests.allows(&ns("a"), "p", now + took / 2) && contests.allows(&ns("a"), "p", wait.until));
            (before, now) = (took, wait.until);
        }
        assert_eq!(before, LONGEST);
    }

    #[test]
    fn a_contest_is_over_when_no_repair_was_needed_for_two_minutes() {
        let (mut contests, now) = contested();
        contests.calm_down(now + CALM / 2);
        assert_eq!(contests.problems(&ns("a")).len(), 1);
        contests.calm_down(now + CALM);
        assert_eq!(contests.problems(&ns("a")), []);
        assert_eq!(contests.repaired(&ns("a"), "p", None, now + CALM), None, "and the next one begins from nothing");
    }

    #[test]
    fn a_new_plan_is_written_at_once_and_a_namespace_that_is_gone_is_forgotten() {
        let (mut contests, now) = contested();
        contests.plan_changed();
        assert!(contests.allows(&ns("a"), "p", now) && contests.problems(&ns("a")).len() == 1);
        contests.forget(&ns("a"));
        assert_eq!(contests.problems(&ns("a")), []);
    }

    #[test]
    fn what_a_storm_left_is_let_go() {
        let (mut contests, now) = (FlapDetector::default(), Instant::now());
        for n in 0..10_000 {
            contests.repaired(&ns(&n.to_string()), "p", None, now);
        }
        contests.calm_down(now + WITHIN);
        contests.calm_down(now + WITHIN * 2);
        assert_eq!(contests.recent.capacity() + contests.older.capacity(), 0);
    }
}
