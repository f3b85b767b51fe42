//! Policies that somebody changes again and again (contests). Repairs never stop. What opens something is repaired within a second of the
//! last repair. Each repair of a harmless difference waits longer than the last. All other policies keep full speed (I7). The identity of
//! the writer does not matter: the claimed writer is shown, but never relied on (I13).

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
/// The wait after a repair, if what differs next opens something. Otherwise the first wait, which grows.
const FIRST: Duration = Duration::from_secs(1);
/// All contested policies together are repaired 20 times a second at most: each waits at least so long for each contest that there is.
const FOR_EACH: Duration = Duration::from_millis(50);
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
    /// How many policies are contested.
    count: u32,
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
    until: Option<RepairWait>,
    last: Instant,
    who: Option<Arc<str>>,
}

/// Until when the next repair waits.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RepairWait {
    /// If what differs opens something.
    pub opening: Instant,
    /// If the difference is harmless.
    pub harmless: Instant,
}

/// What a repair means for the next one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RepairDelay {
    /// The next repair waits until then.
    pub until: RepairWait,
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
        self.count += u32::from(begins);
        contest.rounds = contest.rounds.saturating_add(1);
        let least = FOR_EACH * self.count;
        let harmless = Delays::new(FIRST, LONGEST).spread(ns, policy).after(contest.rounds).min(LONGEST);
        let until = RepairWait { opening: now + FIRST.max(least), harmless: now + harmless.max(least) };
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

    /// Whether a policy may be repaired now. `opens`: until then, it may allow what the plan denies.
    pub fn allows(&self, ns: &NamespaceName, policy: &str, opens: bool, now: Instant) -> bool {
        let until = self.contest(ns, policy).and_then(|contest| contest.until);
        until.is_none_or(|until| if opens { until.opening <= now } else { until.harmless <= now })
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
                "another writer changes the policy again and again (last other field manager: {}). Until it stays as planned for {} minutes, what opens something waits a second for its repair, and the rest waits longer. Find that writer and stop it. The component protect refuses such changes",
                contest.who.as_deref().unwrap_or("unknown"),
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
        self.recount();
    }

    /// The plan changed: contested policies may be written at once.
    pub fn plan_changed(&mut self) {
        self.contested.values_mut().flat_map(BTreeMap::values_mut).for_each(|contest| contest.until = None);
    }

    /// Forgets a namespace.
    pub fn forget(&mut self, ns: &NamespaceName) {
        if self.contested.remove(ns).is_some() {
            self.recount();
        }
    }

    fn recount(&mut self) {
        self.count = self.contested.values().map(BTreeMap::len).sum::<usize>().try_into().unwrap_or(u32::MAX);
    }
}

#[cfg(test)]
impl FlapDetector {
    /// For the model: how often each policy was repaired, and which policies wait.
    pub fn essence(&self, now: Instant) -> Vec<(String, usize)> {
        let recent = self.recent.iter().chain(&self.older);
        let repaired = recent.map(|(key, times)| (key.to_string(), times.iter().filter(|t| **t > 0).count()));
        let waits = |contest: &Flapping| {
            contest.until.map_or(0, |until| usize::from(until.opening > now) + usize::from(until.harmless > now))
        };
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
        assert!(!contests.allows(&ns("a"), "p", true, now) && !contests.allows(&ns("a"), "p", false, now));
        assert!(contests.allows(&ns("a"), "q", false, now) && contests.allows(&ns("b"), "p", false, now));
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
    fn waits_of_harmless_repairs_grow_to_half_a_minute_and_repairs_never_end() {
        let (mut contests, mut now) = contested();
        let mut before = Duration::ZERO;
        for _ in 0..50 {
            let wait = contests.repaired(&ns("a"), "p", None, now).unwrap();
            let until = wait.until.harmless;
            let took = until - now;
            assert!(!wait.begins && took >= before && took <= LONGEST, "{took:?} after {before:?}");
            assert!(!contests.allows(&ns("a"), "p", false, now + took / 2) && contests.allows(&ns("a"), "p", false, until));
            (before, now) = (took, until);
        }
        assert_eq!(before, LONGEST);
    }

    #[test]
    fn i7_an_opening_waits_a_second_however_long_the_contest_lasts() {
        let (mut contests, mut now) = contested();
        for _ in 0..500 {
            let wait = contests.repaired(&ns("a"), "p", None, now).unwrap();
            assert_eq!(wait.until.opening - now, FIRST);
            assert!(!contests.allows(&ns("a"), "p", true, now) && contests.allows(&ns("a"), "p", true, now + FIRST));
            now = wait.until.opening;
        }
    }

    #[test]
    fn i7_all_contested_policies_together_are_repaired_twenty_times_a_second_at_most() {
        let (mut contests, start) = (FlapDetector::default(), Instant::now());
        let names: Vec<_> = (0..200).map(|n| ns(&n.to_string())).collect();
        for at in 0..REPAIRS {
            let at = u32::try_from(at).unwrap();
            for ns in &names {
                contests.repaired(ns, "p", None, start + SECOND * at);
            }
        }
        let (tick, mut now, mut repairs) = (FOR_EACH, start + SECOND * 60, 0);
        let limit = 60;
        for _ in 0..(SECOND * limit).as_millis() / tick.as_millis() {
            for ns in &names {
                if contests.allows(ns, "p", true, now) {
                    contests.repaired(ns, "p", None, now);
                    repairs += 1;
                }
            }
            now += tick;
        }
        assert!(repairs <= 20 * limit + 200, "{repairs} repairs in {limit} s");
        contests.forget(&names[0]);
        assert_eq!(contests.count, 199);
        contests.calm_down(now + CALM);
        assert_eq!(contests.count, 0);
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
        assert!(contests.allows(&ns("a"), "p", false, now) && contests.problems(&ns("a")).len() == 1);
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
