//! When a failed policy write is tried again. Failures of one policy never delay another policy (I7).

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    flapping::{CALM, FlapDetector},
    pending::{Attempt, PendingWrite},
    retry::{Delays, LONGEST},
    write_budget::WriteBudgets,
};
use crate::{
    api::{NamespaceName, reason::Failure},
    policy::status::Problem,
};

/// Conflicts are normal. From this many in a row on, they are reported as a problem.
const CONFLICTS_TOLERATED: u32 = 3;
/// The waits before a policy is written again that the watch has not shown yet.
const IN_SILENCE: Delays = Delays::new(Duration::from_secs(1), LONGEST);

/// A wake-up of a namespace replaces a later one that is further away than this.
const LOOKS_APART: Duration = Duration::from_secs(1);

/// A policy that is to be written again. Without an error, the wait is not reported.
type Retry = PendingWrite<(Failure, String)>;

/// When each policy may be written again. Holds only policies that failed or are changed again and again.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
pub struct RetrySchedule {
    setbacks: HashMap<NamespaceName, HashMap<String, Retry>>,
    contests: FlapDetector,
    budgets: WriteBudgets,
    /// Namespaces that wait for a time at which something in them is to be reported, and that time.
    looks: HashMap<NamespaceName, Instant>,
    wakes: BinaryHeap<Reverse<(Instant, NamespaceName)>>,
}

impl RetrySchedule {
    /// Whether a policy may be written now. `opens`: until then, it may allow what the plan denies.
    pub fn allows(&self, ns: &NamespaceName, policy: &str, opens: bool, now: Instant) -> bool {
        self.setback(ns, policy).is_none_or(|s| s.due(now)) && self.contests.allows(ns, policy, opens, now)
    }

    /// Whether the namespace, whose plan has so many policies, may have another write now that closes no opening.
    pub fn has_budget(&self, ns: &NamespaceName, policies: usize, now: Instant) -> bool {
        self.budgets.allows(ns, policies, now)
    }

    /// Notes that this many writes that close no opening are sent.
    pub fn sent(&mut self, ns: &NamespaceName, writes: usize, policies: usize, now: Instant) {
        if writes > 0 {
            let next = self.budgets.spend(ns, writes, policies, now);
            // The next plan may have fewer policies, and so less at once.
            let at_last = self.budgets.next_of_any(ns);
            self.wakes.extend(next.into_iter().chain(at_last).map(|at| Reverse((at, ns.clone()))));
        }
    }

    /// Notes a failure. Returns whether it is to be reported: conflicts are normal, and of the others each is reported once until a success.
    pub fn failed(&mut self, ns: &NamespaceName, policy: &str, reason: Failure, message: String, now: Instant) -> bool {
        let setback = self.setbacks.entry(ns.clone()).or_default().entry(policy.into()).or_default();
        let is_reported = setback.error().is_some_and(|(before, _)| *before != Failure::Conflict);
        setback.ended(Attempt::Failed(delays(reason).spread(ns, policy)), now);
        setback.set_error(Some((reason, message)));
        self.wakes.extend(setback.next_wake().map(|at| Reverse((at, ns.clone()))));
        reason != Failure::Conflict && !is_reported
    }

    /// Delays the next write of a policy without reporting it. Nothing is wrong, but the watch has not shown the current state yet.
    pub fn hold(&mut self, ns: &NamespaceName, policy: &str, now: Instant) {
        let setback = self.setbacks.entry(ns.clone()).or_default().entry(policy.into()).or_default();
        if setback.set_error(None) {
            setback.forgive();
        }
        setback.ended(Attempt::Failed(IN_SILENCE.spread(ns, policy)), now);
        self.wakes.extend(setback.next_wake().map(|at| Reverse((at, ns.clone()))));
    }

    /// Notes a success.
    pub fn succeeded(&mut self, ns: &NamespaceName, policy: &str) {
        if let Some(policies) = self.setbacks.get_mut(ns) {
            policies.remove(policy);
            if policies.is_empty() {
                self.setbacks.remove(ns);
            }
        }
    }

    /// Notes a success that may have to be taken back, because another policy cannot be written, or that takes one back. The next failure of
    /// this policy counts as one more.
    pub fn succeeded_for_now(&mut self, ns: &NamespaceName, policy: &str) {
        if let Some(setback) = self.setbacks.get_mut(ns).and_then(|policies| policies.get_mut(policy)) {
            setback.set_error(None);
        }
    }

    /// The namespace is as planned: earlier failures no longer count.
    pub fn all_succeeded(&mut self, ns: &NamespaceName, now: Instant) {
        if let Some(policies) = self.setbacks.get_mut(ns) {
            policies.retain(|_, setback| setback.error().is_some() || !setback.due(now));
            if policies.is_empty() {
                self.setbacks.remove(ns);
            }
        }
    }

    /// Notes that a change by somebody else was repaired. `who` is the claimed writer. Returns whether a contest begins with this repair.
    pub fn repaired(&mut self, ns: &NamespaceName, policy: &str, who: Option<&Arc<str>>, now: Instant) -> bool {
        let Some(wait) = self.contests.repaired(ns, policy, who, now) else { return false };
        // Two wake-ups to repair the policy again, and one to find that the contest is over.
        let wakes = [wait.until.opening, wait.until.harmless, now + CALM];
        self.wakes.extend(wakes.map(|at| Reverse((at, ns.clone()))));
        wait.begins
    }

    /// The problems of the contested policies of a namespace.
    pub fn contested(&self, ns: &NamespaceName) -> Vec<Problem> {
        self.contests.problems(ns)
    }

    /// The problem of a policy whose write failed; `None` if there is nothing to report.
    pub fn problem(&self, ns: &NamespaceName, policy: &str) -> Option<Problem> {
        let setback = self.setback(ns, policy)?;
        let (reason, message) = setback.error()?;
        let minor = *reason == Failure::Conflict && setback.failures() < CONFLICTS_TOLERATED;
        (!minor).then(|| Problem { policy: Some(policy.into()), reason: (*reason).into(), message: message.clone() })
    }

    /// The watch showed a change in the namespace: writes that conflicted may be tried again at once.
    pub fn news(&mut self, ns: &NamespaceName) {
        if let Some(policies) = self.setbacks.get_mut(ns) {
            policies.retain(|_, s| s.error().is_none_or(|(reason, _)| *reason != Failure::Conflict));
        }
    }

    /// Has the namespace assessed again at that time, although nothing may have changed by then.
    pub fn look_again(&mut self, ns: &NamespaceName, at: Instant) {
        // One wake-up for each namespace. A tenant can change a policy often before that, and two clocks never differ by the same.
        if self.looks.get(ns).is_none_or(|known| at + LOOKS_APART < *known) {
            self.looks.insert(ns.clone(), at);
            self.wakes.push(Reverse((at, ns.clone())));
        }
    }

    /// Forgets a namespace.
    pub fn forget(&mut self, ns: &NamespaceName) {
        self.looks.remove(ns);
        self.setbacks.remove(ns);
        self.contests.forget(ns);
        self.budgets.forget(ns);
    }

    /// The plan changed: everything may be tried again at once.
    pub fn reset(&mut self) {
        self.setbacks.clear();
        self.contests.plan_changed();
        self.budgets.plan_changed();
    }

    /// Returns the namespaces whose wait is over.
    pub fn due(&mut self, now: Instant) -> Vec<NamespaceName> {
        self.contests.calm_down(now);
        self.budgets.sweep(now);
        let mut due = Vec::new();
        while self.wakes.peek().is_some_and(|Reverse((at, _))| *at <= now) {
            due.extend(self.wakes.pop().map(|Reverse((_, ns))| ns));
        }
        for ns in &due {
            if self.looks.get(ns).is_some_and(|at| *at <= now) {
                self.looks.remove(ns);
            }
        }
        if self.looks.is_empty() {
            // The memory that many deletions needed is freed.
            self.looks = HashMap::new();
        }
        due
    }

    /// When the next wait is over.
    pub fn next(&self) -> Option<Instant> {
        self.wakes.peek().map(|Reverse((at, _))| *at)
    }

    fn setback(&self, ns: &NamespaceName, policy: &str) -> Option<&Retry> {
        self.setbacks.get(ns)?.get(policy)
    }
}

/// The waits after failures with this reason.
const fn delays(reason: Failure) -> Delays {
    let first = match reason {
        Failure::Conflict => Duration::from_millis(50),
        // This does not resolve itself, and no watch event follows a write that another plugin reverted.
        Failure::MutatedByAdmission => Duration::from_secs(2),
        Failure::QuotaExceeded
        | Failure::DeniedByAdmission
        | Failure::WebhookDown
        | Failure::Forbidden
        | Failure::Rejected
        | Failure::Throttled
        | Failure::TimedOut
        | Failure::Unavailable => Duration::from_millis(500),
    };
    Delays::new(first, LONGEST)
}

#[cfg(test)]
impl RetrySchedule {
    /// For the model: the contests, and what may become one.
    pub fn contests(&self) -> &FlapDetector {
        &self.contests
    }

    /// For the model: the policies of a namespace whose last write failed.
    pub fn failing(&self, ns: &NamespaceName) -> Vec<&str> {
        let mut failing: Vec<_> = self.setbacks.get(ns).into_iter().flat_map(HashMap::keys).map(|policy| &**policy).collect();
        failing.retain(|policy| self.problem(ns, policy).is_some());
        failing.sort_unstable();
        failing
    }

    /// For the model: the policies that wait, and whether a change in the namespace ends the wait.
    pub fn held_back(&self, now: Instant) -> Vec<(&str, bool)> {
        let waiting = self.setbacks.values().flatten().filter(|(_, setback)| !setback.due(now));
        let conflicted = |s: &Retry| s.error().is_some_and(|(reason, _)| *reason == Failure::Conflict);
        let mut held: Vec<_> = waiting.map(|(policy, setback)| (&**policy, conflicted(setback))).collect();
        held.sort_unstable();
        held
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ns(name: &str) -> NamespaceName {
        NamespaceName::observed(name)
    }

    #[test]
    fn a_failure_delays_that_policy_alone() {
        let (mut pace, now) = (RetrySchedule::default(), Instant::now());
        assert!(pace.failed(&ns("a"), "p", Failure::QuotaExceeded, "m".into(), now));
        assert!(!pace.allows(&ns("a"), "p", true, now));
        assert!(pace.allows(&ns("a"), "q", true, now) && pace.allows(&ns("b"), "p", true, now));
        let next = pace.next().unwrap();
        assert_eq!(pace.due(next), [ns("a")]);
        assert!(pace.allows(&ns("a"), "p", true, next));
    }

    #[test]
    fn delays_double_up_to_a_limit_and_never_end_the_attempts() {
        let delays: Vec<Duration> = (1..40).map(|n| delays(Failure::DeniedByAdmission).spread(&ns("a"), "p").after(n)).collect();
        assert!(delays.is_sorted());
        assert!(delays[0] >= Duration::from_millis(500));
        assert!(delays.iter().all(|d| *d <= LONGEST.mul_f64(1.25)));
    }

    #[test]
    fn i14_a_mutated_write_is_backed_off_at_once() {
        assert!(delays(Failure::MutatedByAdmission).spread(&ns("a"), "p").after(1) >= Duration::from_secs(2));
    }

    #[test]
    fn a_conflict_is_no_problem_until_it_repeats_and_news_ends_it() {
        let (mut pace, now) = (RetrySchedule::default(), Instant::now());
        for failures in 1..=3 {
            pace.failed(&ns("a"), "p", Failure::Conflict, "m".into(), now);
            assert_eq!(pace.problem(&ns("a"), "p").is_some(), failures == 3);
        }
        pace.news(&ns("a"));
        assert!(pace.allows(&ns("a"), "p", true, now));
    }

    #[test]
    fn i9_a_failure_is_reported_once_also_after_a_conflict() {
        use Failure::{Conflict, Forbidden, QuotaExceeded};
        let (mut pace, now) = (RetrySchedule::default(), Instant::now());
        for (reason, is_reported) in [(Conflict, false), (Forbidden, true), (Forbidden, false), (QuotaExceeded, false)] {
            assert_eq!(pace.failed(&ns("a"), "p", reason, "m".into(), now), is_reported, "{reason:?}");
        }
        pace.succeeded(&ns("a"), "p");
        assert!(pace.failed(&ns("a"), "p", Forbidden, "m".into(), now));
    }

    #[test]
    fn what_is_waited_for_in_silence_is_no_problem_and_is_tried_again() {
        let (mut pace, now) = (RetrySchedule::default(), Instant::now());
        pace.hold(&ns("a"), "p", now);
        pace.news(&ns("a"));
        assert!(!pace.allows(&ns("a"), "p", true, now) && pace.problem(&ns("a"), "p").is_none());
        let next = pace.next().unwrap();
        assert!(pace.due(next) == [ns("a")] && pace.allows(&ns("a"), "p", true, next));
    }

    #[test]
    fn a_namespace_is_looked_at_again_once_however_often_that_is_asked_for() {
        let (mut pace, now) = (RetrySchedule::default(), Instant::now());
        let minute = Duration::from_mins(1);
        for n in 0..1000 {
            pace.look_again(&ns("a"), now + minute.saturating_sub(Duration::from_micros(n)));
        }
        assert_eq!(pace.wakes.len(), 1);
        pace.look_again(&ns("a"), now + minute / 2);
        assert_eq!(pace.due(now + minute / 2), [ns("a")]);
        pace.look_again(&ns("a"), now + minute);
        assert_eq!(pace.due(now + minute), [ns("a"), ns("a")], "the former one was not taken back");
        assert!(pace.wakes.is_empty() && pace.looks.is_empty());
    }

    #[test]
    fn success_and_a_new_plan_wipe_the_slate() {
        let (mut pace, now) = (RetrySchedule::default(), Instant::now());
        pace.failed(&ns("a"), "p", Failure::Forbidden, "m".into(), now);
        pace.succeeded(&ns("a"), "p");
        assert!(pace.allows(&ns("a"), "p", true, now) && pace.problem(&ns("a"), "p").is_none());
        pace.failed(&ns("a"), "p", Failure::Forbidden, "m".into(), now);
        pace.reset();
        assert!(pace.allows(&ns("a"), "p", true, now));
    }
}
