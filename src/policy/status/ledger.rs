//! What is known of each namespace of one baseline. Counts are kept as findings change; only samples go into the status (I11).

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
};

use jiff::Timestamp;

use super::conditions::{ConditionInputs, NamespaceFindings, conditions};
use crate::api::{
    NamespaceName,
    baseline::{DriftRecord, MAX_RECENT_DRIFT, MAX_VIOLATIONS, NamespaceCounts, PolicyBaselineStatus, Violation},
    cut,
    reason::violation,
    whole_seconds,
};

/// Longer messages are cut: a status must not grow with what an admission webhook answers.
const MAX_MESSAGE: usize = 512;
/// A selector may have thousands of values; the words say how it begins.
const MAX_SELECTOR: usize = 1024;

/// The state of a namespace, in the order in which violations are shown.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum NamespaceState {
    /// A write failed.
    Failed,
    /// Work is under way.
    Pending,
    /// Differs, and nothing is written.
    Drifted,
    /// Older than the baseline, only reported.
    Reported,
    /// Held by a baseline that is stalled.
    Frozen,
    /// As planned.
    Compliant,
    /// Another baseline comes first.
    Shadowed,
}

/// What is wrong in a namespace.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Problem {
    /// The policy, when it concerns one.
    pub policy: Option<String>,
    /// A word.
    pub reason: &'static str,
    /// A sentence.
    pub message: String,
}

/// What was found in a namespace.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Finding {
    /// Its state.
    pub state: NamespaceState,
    /// What is wrong, if anything.
    pub problems: Vec<Problem>,
    /// The baselines of the same priority that select the namespace too: the names alone decide between them.
    pub ties: Vec<Arc<str>>,
}

impl Finding {
    /// A state without a problem.
    pub const fn fine(state: NamespaceState) -> Self {
        Self { state, problems: vec![], ties: vec![] }
    }

    /// A state with a problem.
    pub fn wrong(state: NamespaceState, problem: Problem) -> Self {
        Self { problems: vec![problem], ..Self::fine(state) }
    }
}

#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
struct LedgerEntry {
    state: NamespaceState,
    /// Most namespaces have none, and there are many namespaces.
    details: Option<Box<Details>>,
}

/// What there is to say of a namespace beside its state.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
struct Details {
    problems: Vec<ProblemSince>,
    ties: Vec<Arc<str>>,
}

/// A problem, and since when it stands.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
struct ProblemSince {
    problem: Problem,
    since: Timestamp,
}

impl LedgerEntry {
    fn new(state: NamespaceState, problems: Vec<ProblemSince>, ties: Vec<Arc<str>>) -> Self {
        let details = (!problems.is_empty() || !ties.is_empty()).then(|| Box::new(Details { problems, ties }));
        Self { state, details }
    }

    fn problems(&self) -> &[ProblemSince] {
        self.details.as_ref().map_or(&[], |details| &details.problems)
    }

    fn ties(&self) -> &[Arc<str>] {
        self.details.as_ref().map_or(&[], |details| &details.ties)
    }

    fn is(&self, finding: &Finding) -> bool {
        let told = self.problems().iter().map(|told| &told.problem);
        self.state == finding.state && told.eq(&finding.problems) && *self.ties() == *finding.ties
    }

    fn tells(&self, reason: &str) -> bool {
        self.problems().iter().any(|told| told.problem.reason == reason)
    }
}

/// The findings of one baseline.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
pub struct Ledger {
    records: BTreeMap<NamespaceName, LedgerEntry>,
    counts: NamespaceCounts,
    /// In how many namespaces it is tied with which baseline.
    ties: BTreeMap<Arc<str>, u32>,
    drift: VecDeque<DriftRecord>,
    /// Since when the violations of the stored status stand: a restart must not make them new.
    stored_since: HashMap<(String, Option<String>, String), Timestamp>,
}

impl Ledger {
    /// A ledger that continues what the stored status says.
    pub fn resume(status: Option<&PolicyBaselineStatus>) -> Self {
        let mut ledger = Self::default();
        let Some(status) = status else { return ledger };
        ledger.drift = status.recent_drift.iter().take(MAX_RECENT_DRIFT).cloned().collect();
        ledger.stored_since =
            status.violations.iter().map(|v| ((v.namespace.clone(), v.policy.clone(), v.reason.clone()), v.since.0)).collect();
        ledger
    }

    /// Notes what was found in a namespace. Says whether that is news.
    pub fn set(&mut self, ns: &NamespaceName, finding: Finding, now: Timestamp) -> bool {
        if self.records.get(ns).is_some_and(|r| r.is(&finding)) {
            return false;
        }
        let before = self.take(ns);
        let known = |problem: &Problem| {
            let same = |told: &&ProblemSince| (&told.problem.policy, told.problem.reason) == (&problem.policy, problem.reason);
            before.iter().flat_map(LedgerEntry::problems).find(same).map(|told| told.since)
        };
        let problems = finding.problems.into_iter().map(|problem| {
            let since = known(&problem).or_else(|| self.stored(ns, &problem)).unwrap_or(now);
            ProblemSince { problem, since }
        });
        let record = LedgerEntry::new(finding.state, problems.collect(), finding.ties);
        self.count(&record, 1);
        self.records.insert(ns.clone(), record);
        true
    }

    /// What is known to be wrong in a namespace; none when nothing was found there yet.
    pub fn problems(&self, ns: &NamespaceName) -> Option<impl Iterator<Item = &Problem>> {
        Some(self.records.get(ns)?.problems().iter().map(|told| &told.problem))
    }

    /// The baseline has nothing to do with the namespace any more. Says whether that is news.
    pub fn forget(&mut self, ns: &NamespaceName) -> bool {
        self.take(ns).is_some()
    }

    fn take(&mut self, ns: &NamespaceName) -> Option<LedgerEntry> {
        let record = self.records.remove(ns)?;
        self.count(&record, -1);
        Some(record)
    }

    /// Notes a drift, newest first.
    pub fn note_drift(&mut self, record: DriftRecord) {
        self.drift.push_front(record);
        self.drift.truncate(MAX_RECENT_DRIFT);
    }

    /// The counts.
    pub const fn counts(&self) -> &NamespaceCounts {
        &self.counts
    }

    /// The status that should stand in the cluster, given the one that does.
    pub fn status(
        &self,
        health: &ConditionInputs,
        effective_selector: Option<&str>,
        previous: Option<&PolicyBaselineStatus>,
        now: Timestamp,
    ) -> PolicyBaselineStatus {
        let mut wrong: Vec<(NamespaceState, &NamespaceName, &ProblemSince)> = Vec::new();
        for (ns, record) in &self.records {
            wrong.extend(record.problems().iter().map(|told| (record.state, ns, told)));
        }
        let omitted = wrong.len().saturating_sub(MAX_VIOLATIONS);
        // First what may be an outage. What else is told of one namespace stays in its order.
        let is_grave = |state: &NamespaceState, told: &ProblemSince| {
            let about_control_plane = [violation::CONTROL_PLANE_BLOCKED, violation::SERVES_CONTROL_PLANE];
            *state == NamespaceState::Failed || about_control_plane.contains(&told.problem.reason)
        };
        wrong.sort_by_key(|(state, ns, told)| (!is_grave(state, told), *state, *ns));
        let found = NamespaceFindings { counts: &self.counts, ties: &self.ties };
        let kept_selector = || previous.map(|p| p.effective_selector.clone()).unwrap_or_default();
        PolicyBaselineStatus {
            observed_generation: health.generation,
            conditions: conditions(health, &found, previous.map(|p| &p.conditions[..]).unwrap_or_default(), now),
            namespaces: self.counts,
            effective_selector: effective_selector.map_or_else(kept_selector, |words| cut(words, MAX_SELECTOR)),
            dns: health.dns.or_else(|| previous?.dns.as_ref()).cloned(),
            violations: wrong.into_iter().take(MAX_VIOLATIONS).map(|(_, ns, told)| as_violation(ns, told)).collect(),
            violations_omitted: u32::try_from(omitted).unwrap_or(u32::MAX),
            recent_drift: self.drift.iter().cloned().collect(),
            rollout: health.rollout.cloned(),
        }
    }

    /// Since when the stored status tells of it. Asked once: what comes back later is new.
    fn stored(&mut self, ns: &NamespaceName, problem: &Problem) -> Option<Timestamp> {
        self.stored_since.remove(&(ns.as_str().to_owned(), problem.policy.clone(), problem.reason.to_owned()))
    }

    fn count(&mut self, record: &LedgerEntry, by: i32) {
        let add = |n: &mut u32| *n = n.saturating_add_signed(by);
        for with in record.ties() {
            add(self.ties.entry(with.clone()).or_default());
        }
        self.ties.retain(|_, namespaces| *namespaces > 0);
        let counts = &mut self.counts;
        if record.tells(violation::BYPASSED) {
            add(&mut counts.bypassed);
        }
        if record.tells(violation::OPTED_OUT) {
            add(&mut counts.opted_out);
        }
        if record.tells(violation::SERVES_CONTROL_PLANE) {
            add(&mut counts.held);
        }
        match record.state {
            NamespaceState::Compliant => add(&mut counts.compliant),
            NamespaceState::Pending => add(&mut counts.pending),
            NamespaceState::Drifted => add(&mut counts.drifted),
            NamespaceState::Failed => add(&mut counts.failed),
            NamespaceState::Reported => add(&mut counts.reported),
            NamespaceState::Frozen => {}
            NamespaceState::Shadowed => return add(&mut counts.shadowed),
        }
        add(&mut counts.selected);
    }
}

fn as_violation(ns: &NamespaceName, ProblemSince { problem, since }: &ProblemSince) -> Violation {
    Violation {
        namespace: ns.as_str().into(),
        policy: problem.policy.clone(),
        reason: problem.reason.into(),
        message: cut(&problem.message, MAX_MESSAGE),
        since: whole_seconds(*since),
    }
}

/// A drift as the status shows it.
pub fn drift_record(
    now: Timestamp,
    ns: &NamespaceName,
    policy: &str,
    class: &str,
    who: Option<&str>,
    action: &str,
) -> DriftRecord {
    DriftRecord {
        time: whole_seconds(now),
        namespace: ns.as_str().into(),
        policy: policy.into(),
        class: class.into(),
        who: who.unwrap_or("unknown").into(),
        action: action.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn ns(name: &str) -> NamespaceName {
        NamespaceName::observed(name)
    }

    fn failed(message: &str) -> Finding {
        Finding::wrong(
            NamespaceState::Failed,
            Problem { policy: Some("p".into()), reason: "QuotaExceeded", message: message.into() },
        )
    }

    fn status(ledger: &Ledger, previous: Option<&PolicyBaselineStatus>, second: i64) -> PolicyBaselineStatus {
        let health = ConditionInputs { generation: Some(1), ..ConditionInputs::default() };
        ledger.status(&health, Some("every namespace"), previous, at(second))
    }

    #[test]
    fn a_namespace_without_a_problem_takes_two_words() {
        assert_eq!(size_of::<LedgerEntry>(), 2 * size_of::<usize>());
    }

    #[test]
    fn counts_follow_the_findings() {
        let mut ledger = Ledger::default();
        assert!(ledger.set(&ns("a"), Finding::fine(NamespaceState::Pending), at(0)));
        assert!(!ledger.set(&ns("a"), Finding::fine(NamespaceState::Pending), at(1)));
        ledger.set(&ns("b"), failed("x"), at(0));
        ledger.set(&ns("c"), Finding::fine(NamespaceState::Shadowed), at(0));
        assert_eq!(*ledger.counts(), NamespaceCounts { selected: 2, pending: 1, failed: 1, shadowed: 1, ..Default::default() });
        ledger.set(&ns("a"), Finding::fine(NamespaceState::Compliant), at(1));
        assert!(ledger.forget(&ns("b")) && ledger.forget(&ns("c")) && !ledger.forget(&ns("c")));
        assert_eq!(*ledger.counts(), NamespaceCounts { selected: 1, compliant: 1, ..Default::default() });
    }

    #[test]
    fn ties_are_counted_as_they_come_and_go() {
        let mut ledger = Ledger::default();
        let tied = |with: &[&str]| Finding {
            ties: with.iter().map(|w| Arc::from(*w)).collect(),
            ..Finding::fine(NamespaceState::Shadowed)
        };
        assert!(ledger.set(&ns("a"), tied(&["x", "y"]), at(0)));
        assert!(!ledger.set(&ns("a"), tied(&["x", "y"]), at(0)));
        assert!(ledger.set(&ns("b"), tied(&["x"]), at(0)));
        assert_eq!(ledger.ties, BTreeMap::from([("x".into(), 2), ("y".into(), 1)]));
        assert!(ledger.set(&ns("a"), tied(&[]), at(0)));
        ledger.forget(&ns("b"));
        assert_eq!(ledger.ties, BTreeMap::new());
    }

    #[test]
    fn i11_no_list_of_the_status_grows_with_the_cluster() {
        let mut ledger = Ledger::default();
        for i in 0..1000 {
            ledger.set(&ns(&format!("n{i:04}")), failed(&"x".repeat(5000)), at(0));
            ledger.note_drift(drift_record(at(i), &ns("n"), "p", "Missing", None, "created"));
        }
        let status = status(&ledger, None, 0);
        assert_eq!((status.violations.len(), status.violations_omitted, status.recent_drift.len()), (20, 980, 10));
        assert!(status.violations[0].message.chars().count() <= 512);
        assert_eq!(status.recent_drift[0].time.0, at(999));
        assert_eq!(status.recent_drift[0].who, "unknown");
    }

    #[test]
    fn i11_no_text_of_the_status_grows_with_the_spec() {
        let stalled = Some(("Undecodable", "é".repeat(100_000)));
        let health = ConditionInputs { stalled, ..ConditionInputs::default() };
        let status = Ledger::default().status(&health, Some(&"x".repeat(100_000)), None, at(0));
        assert_eq!(status.effective_selector.chars().count(), 1024);
        assert!(status.conditions.iter().all(|c| c.message.chars().count() <= 1024));
    }

    #[test]
    fn failures_are_shown_before_reports() {
        let mut ledger = Ledger::default();
        let reported = Problem { policy: None, reason: "ExistingNamespace", message: "m".into() };
        ledger.set(&ns("a"), Finding::wrong(NamespaceState::Reported, reported), at(0));
        ledger.set(&ns("b"), failed("m"), at(0));
        let shown: Vec<_> = status(&ledger, None, 0).violations.into_iter().map(|v| v.namespace).collect();
        assert_eq!(shown, ["b", "a"]);
    }

    #[test]
    fn what_concerns_the_control_plane_is_not_lost_among_reports() {
        let mut ledger = Ledger::default();
        let told = |reason| Problem { policy: None, reason, message: "m".into() };
        for i in 0..30 {
            let mut finding = Finding::wrong(NamespaceState::Reported, told(violation::EXISTING_NAMESPACE));
            finding.problems.extend((i == 25).then(|| told(violation::SERVES_CONTROL_PLANE)));
            ledger.set(&ns(&format!("n{i}")), finding, at(0));
        }
        ledger.set(&ns("z"), Finding::wrong(NamespaceState::Compliant, told(violation::CONTROL_PLANE_BLOCKED)), at(0));
        let status = status(&ledger, None, 0);
        let first: Vec<_> = status.violations[..2].iter().map(|v| (&*v.namespace, &*v.reason)).collect();
        assert_eq!(first, [("n25", "ServesControlPlane"), ("z", "ControlPlaneBlocked")]);
        assert_eq!((status.namespaces.held, status.violations_omitted), (1, 12));
    }

    #[test]
    fn i2_a_restart_computes_the_very_status_that_is_stored() {
        let mut ledger = Ledger::default();
        ledger.set(&ns("a"), failed("one"), at(5));
        ledger.set(&ns("a"), failed("two"), at(7));
        ledger.note_drift(drift_record(at(6), &ns("a"), "p", "Missing", Some("kubectl"), "created"));
        let stored = status(&ledger, None, 8);
        assert_eq!(stored.violations[0].since.0, at(5));
        let mut resumed = Ledger::resume(Some(&stored));
        resumed.set(&ns("a"), failed("two"), at(99));
        assert_eq!(status(&resumed, Some(&stored), 99), stored);
    }
}
