//! The results for all namespaces of one baseline. One file, most of it tests. Counts are updated with each result,
//! and the status shows only samples (I11).

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
};

use jiff::Timestamp;

use super::{
    conditions::conditions,
    finding::{Finding, NamespaceState, Problem},
    inputs::{ConditionInputs, NamespaceFindings},
    samples::{ProblemSince, Sample, Samples},
};
use crate::api::{
    NamespaceName,
    baseline::{DriftRecord, MAX_NOTICES, MAX_RECENT_DRIFT, MAX_VIOLATIONS, NamespaceCounts, PolicyBaselineStatus},
    reason::{FindingReason, NoticeReason, ViolationReason},
    text::cut,
    whole_seconds,
};

/// The longest selector text in a status, in characters. A selector may have thousands of values; the rest is cut.
const MAX_SELECTOR: usize = 1024;

/// The longest name of a field manager in a status, in characters. The API server allows 128.
const MAX_MANAGER: usize = 256;

#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
struct LedgerEntry {
    state: NamespaceState,
    /// `None` for most namespaces: this saves memory, because there are many namespaces.
    details: Option<Box<Details>>,
}

/// The rarely needed part of an entry.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
struct Details {
    problems: Vec<ProblemSince>,
    ties: Vec<Arc<str>>,
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

    fn tells(&self, reason: FindingReason) -> bool {
        self.problems().iter().any(|told| told.problem.reason == reason)
    }
}

/// The results for all namespaces of one baseline.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
pub struct Ledger {
    records: BTreeMap<NamespaceName, LedgerEntry>,
    counts: NamespaceCounts,
    /// The unprotected namespaces whose deletion has failed for long.
    stuck: u32,
    /// The namespaces where policies block calls of the API server.
    blocked: u32,
    /// The baselines with the same priority, each with the number of namespaces that both select.
    ties: BTreeMap<Arc<str>, u32>,
    drift: VecDeque<DriftRecord>,
    /// The start times of the entries in the stored status, so that a restart does not make them new.
    stored_since: HashMap<(String, Option<String>, FindingReason), Timestamp>,
}

impl Ledger {
    /// A ledger that continues from the stored status.
    pub fn resume(status: Option<&PolicyBaselineStatus>) -> Self {
        let mut ledger = Self::default();
        let Some(status) = status else { return ledger };
        ledger.drift = status.recent_drift.iter().take(MAX_RECENT_DRIFT).cloned().collect();
        let violations = status.violations.iter().map(|v| (&v.namespace, &v.policy, v.reason.into(), v.since.0));
        let notices = status.notices.iter().map(|n| (&n.namespace, &n.policy, n.reason.into(), n.since.0));
        ledger.stored_since =
            violations.chain(notices).map(|(ns, policy, reason, since)| ((ns.clone(), policy.clone(), reason), since)).collect();
        ledger
    }

    /// Records the result for a namespace. Returns whether it differs from the last one.
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

    /// The problems of a namespace; `None` if there is no result for it yet.
    pub fn problems(&self, ns: &NamespaceName) -> Option<impl Iterator<Item = &Problem>> {
        Some(self.records.get(ns)?.problems().iter().map(|told| &told.problem))
    }

    /// The baseline no longer concerns this namespace. Returns whether there was a result for it.
    pub fn forget(&mut self, ns: &NamespaceName) -> bool {
        self.take(ns).is_some()
    }

    fn take(&mut self, ns: &NamespaceName) -> Option<LedgerEntry> {
        let record = self.records.remove(ns)?;
        self.count(&record, -1);
        Some(record)
    }

    /// Records a drift at the front of the list; the oldest ones are dropped.
    pub fn note_drift(&mut self, record: DriftRecord) {
        self.drift.push_front(record);
        self.drift.truncate(MAX_RECENT_DRIFT);
    }

    /// How many namespaces are in each state.
    pub const fn counts(&self) -> &NamespaceCounts {
        &self.counts
    }

    /// Builds the status to store. `previous` is the status that is stored now.
    pub fn status(
        &self,
        health: &ConditionInputs,
        effective_selector: Option<&str>,
        previous: Option<&PolicyBaselineStatus>,
        now: Timestamp,
    ) -> PolicyBaselineStatus {
        let (mut wrong, mut notable) = (Samples::new(MAX_VIOLATIONS), Samples::new(MAX_NOTICES));
        for (ns, record) in &self.records {
            wrong.add(ns, record.problems(), |reason| match reason {
                FindingReason::Violation(reason) => Some(reason),
                FindingReason::Notice(_) => None,
            });
            notable.add(ns, record.problems(), |reason| match reason {
                FindingReason::Notice(reason) => Some(reason),
                FindingReason::Violation(_) => None,
            });
        }
        let (violations, violations_omitted) = wrong.take();
        let (notices, notices_omitted) = notable.take();
        let found = NamespaceFindings { counts: &self.counts, stuck: self.stuck, blocked: self.blocked, ties: &self.ties };
        let kept_selector = || previous.map(|p| p.effective_selector.clone()).unwrap_or_default();
        PolicyBaselineStatus {
            observed_generation: health.generation,
            conditions: conditions(health, &found, previous.map(|p| &p.conditions[..]).unwrap_or_default(), now),
            namespaces: self.counts,
            effective_selector: effective_selector.map_or_else(kept_selector, |words| cut(words, MAX_SELECTOR)),
            dns: health.dns.or_else(|| previous?.dns.as_ref()).cloned(),
            kubernetes_api: match health.allows {
                Some(allows) => allows.api.clone(),
                None => previous.and_then(|previous| previous.kubernetes_api.clone()),
            },
            violations: violations.iter().map(Sample::violation).collect(),
            violations_omitted,
            notices: notices.iter().map(Sample::notice).collect(),
            notices_omitted,
            recent_drift: self.drift.iter().cloned().collect(),
            rollout: health.rollout.cloned(),
            resting_since_version: health.resting_since.map(|version| version.to_string()),
        }
    }

    /// The start time of this problem in the stored status. Each is used once: a problem that comes back later is new.
    fn stored(&mut self, ns: &NamespaceName, problem: &Problem) -> Option<Timestamp> {
        self.stored_since.remove(&(ns.as_str().to_owned(), problem.policy.clone(), problem.reason))
    }

    fn count(&mut self, record: &LedgerEntry, by: i32) {
        let add = |n: &mut u32| *n = n.saturating_add_signed(by);
        for with in record.ties() {
            add(self.ties.entry(with.clone()).or_default());
        }
        self.ties.retain(|_, namespaces| *namespaces > 0);
        if record.tells(ViolationReason::ControlPlaneBlocked.into()) {
            add(&mut self.blocked);
        }
        let counts = &mut self.counts;
        if record.tells(ViolationReason::Bypassed.into()) {
            add(&mut counts.bypassed);
        }
        if record.tells(NoticeReason::OptedOut.into()) {
            add(&mut counts.opted_out);
        }
        match record.state {
            NamespaceState::Protected => add(&mut counts.protected),
            NamespaceState::Pending => add(&mut counts.pending),
            NamespaceState::Drifted => add(&mut counts.drifted),
            NamespaceState::Failed => add(&mut counts.failed),
            NamespaceState::Unprotected => add(&mut counts.unprotected),
            NamespaceState::Stuck => {
                add(&mut counts.unprotected);
                add(&mut self.stuck);
            }
            NamespaceState::Reported => add(&mut counts.reported),
            NamespaceState::Held => add(&mut counts.held),
            NamespaceState::Frozen => add(&mut counts.frozen),
            NamespaceState::Shadowed => return add(&mut counts.shadowed),
        }
        add(&mut counts.selected);
    }
}

/// Builds the entry for a drift in the status.
pub fn drift_record(
    now: Timestamp,
    ns: &NamespaceName,
    policy: &str,
    class: &str,
    field_manager: Option<&str>,
    action: &str,
) -> DriftRecord {
    DriftRecord {
        time: whole_seconds(now),
        namespace: ns.as_str().into(),
        policy: policy.into(),
        class: class.into(),
        field_manager: cut(field_manager.unwrap_or("unknown"), MAX_MANAGER),
        action: action.into(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use strum::VariantArray;

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
            Problem { policy: Some("p".into()), reason: ViolationReason::QuotaExceeded.into(), message: message.into() },
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
        ledger.set(&ns("a"), Finding::fine(NamespaceState::Protected), at(1));
        assert!(ledger.forget(&ns("b")) && ledger.forget(&ns("c")) && !ledger.forget(&ns("c")));
        assert_eq!(*ledger.counts(), NamespaceCounts { selected: 1, protected: 1, ..Default::default() });
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
        assert_eq!(status.recent_drift[0].field_manager, "unknown");
    }

    #[test]
    fn i11_no_text_of_the_status_grows_with_the_spec() {
        let stalled = Some(("Undecodable", "é".repeat(100_000)));
        let health = ConditionInputs { stalled, ..ConditionInputs::default() };
        let status = Ledger::default().status(&health, Some(&"x".repeat(100_000)), None, at(0));
        assert_eq!(status.effective_selector.chars().count(), 1024);
        assert!(status.conditions.iter().all(|c| c.message.chars().count() <= 1024));
    }

    fn told(reason: impl Into<FindingReason>, policy: &str) -> Problem {
        Problem { policy: Some(policy.into()), reason: reason.into(), message: "m".into() }
    }

    #[test]
    fn what_is_wrong_is_kept_apart_from_what_is_worth_knowing() {
        let mut ledger = Ledger::default();
        let existing = told(NoticeReason::ExistingNamespace, "p");
        ledger.set(&ns("a"), Finding::wrong(NamespaceState::Reported, existing), at(0));
        ledger.set(&ns("b"), failed("m"), at(0));
        let mut both = Finding::fine(NamespaceState::Protected);
        both.problems = vec![told(NoticeReason::OptedOut, "p"), told(ViolationReason::Bypassed, "q")];
        ledger.set(&ns("c"), both, at(0));
        let status = status(&ledger, None, 0);
        let violations: Vec<_> = status.violations.iter().map(|v| (&*v.namespace, v.reason)).collect();
        assert_eq!(violations, [("b", ViolationReason::QuotaExceeded), ("c", ViolationReason::Bypassed)]);
        let notices: Vec<_> = status.notices.iter().map(|n| (&*n.namespace, n.reason)).collect();
        assert_eq!(notices, [("a", NoticeReason::ExistingNamespace), ("c", NoticeReason::OptedOut)]);
        assert_eq!((status.violations_omitted, status.notices_omitted), (0, 0));
    }

    #[test]
    fn each_namespace_has_a_sample_before_any_has_a_second_one_and_the_worst_come_first() {
        let mut ledger = Ledger::default();
        let bypassed = |many: usize| {
            let mut finding = Finding::fine(NamespaceState::Protected);
            finding.problems = (0..many).map(|i| told(ViolationReason::Bypassed, &format!("p{i}"))).collect();
            finding
        };
        for i in 0..5 {
            ledger.set(&ns(&format!("many-{i}")), bypassed(5), at(0));
        }
        for i in 0..12 {
            ledger.set(&ns(&format!("one-{i:02}")), bypassed(1), at(0));
        }
        let mut last = bypassed(1);
        last.problems.push(told(ViolationReason::ControlPlaneBlocked, "p"));
        ledger.set(&ns("z"), last, at(0));
        let status = status(&ledger, None, 0);
        let shown: Vec<_> = status.violations.iter().map(|v| (&*v.namespace, v.policy.as_deref().unwrap())).collect();
        assert_eq!(shown[..4], [("z", "p"), ("many-0", "p0"), ("many-0", "p1"), ("many-1", "p0")]);
        assert_eq!(shown.iter().map(|(ns, _)| ns).collect::<std::collections::BTreeSet<_>>().len(), 18);
        assert_eq!((status.violations.len(), status.violations_omitted), (20, 5 * 5 + 12 + 2 - 20));
    }

    #[test]
    fn four_namespaces_with_many_problems_hide_no_other() {
        let mut ledger = Ledger::default();
        for (at_second, (name, many)) in ('a'..='d').map(|name| (name, 40)).chain(('e'..='t').map(|name| (name, 1))).enumerate() {
            let mut finding = Finding::fine(NamespaceState::Protected);
            let problem = |i| [told(ViolationReason::Bypassed, &format!("p{i}")), told(NoticeReason::OptedOut, &format!("p{i}"))];
            finding.problems = (0..many).flat_map(problem).collect();
            ledger.set(&ns(&name.to_string()), finding, at(i64::try_from(at_second).unwrap()));
        }
        let status = status(&ledger, None, 0);
        let all: Vec<String> = ('a'..='t').map(|name| name.to_string()).collect();
        assert_eq!(status.violations.iter().map(|v| v.namespace.clone()).collect::<Vec<_>>(), all);
        assert_eq!(status.notices.iter().map(|n| n.namespace.clone()).collect::<Vec<_>>(), all);
        assert_eq!((status.violations_omitted, status.notices_omitted), (4 * 39, 4 * 39));
    }

    #[test]
    fn a_namespace_that_would_be_protected_is_held_while_the_api_server_calls_it() {
        for (state, counted) in [
            (NamespaceState::Protected, NamespaceCounts { held: 1, ..Default::default() }),
            (NamespaceState::Pending, NamespaceCounts { pending: 1, ..Default::default() }),
            (NamespaceState::Reported, NamespaceCounts { reported: 1, ..Default::default() }),
        ] {
            let mut ledger = Ledger::default();
            let mut finding = Finding::fine(state);
            finding.hold(told(NoticeReason::ServesControlPlane, "p"));
            ledger.set(&ns("a"), finding, at(0));
            assert_eq!(*ledger.counts(), NamespaceCounts { selected: 1, ..counted });
        }
    }

    proptest! {
        #[test]
        fn what_a_status_shows_is_what_sorting_every_entry_would_show(found in prop::collection::vec(prop::collection::vec(0..ViolationReason::VARIANTS.len(), 0..8), 0..80)) {
            let mut ledger = Ledger::default();
            let mut all = Vec::new();
            for (i, reasons) in found.into_iter().enumerate() {
                let name = format!("n{i:02}");
                let mut reasons: Vec<_> = reasons.into_iter().map(|reason| ViolationReason::VARIANTS[reason]).collect();
                let mut finding = Finding::fine(NamespaceState::Protected);
                finding.problems = reasons.iter().map(|reason| told(*reason, "p")).collect();
                ledger.set(&ns(&name), finding, at(0));
                reasons.sort_unstable();
                all.extend(reasons.into_iter().enumerate().map(|(place, reason)| (place, reason, name.clone())));
            }
            all.sort();
            let omitted = all.len().saturating_sub(MAX_VIOLATIONS);
            all.truncate(MAX_VIOLATIONS);
            let mut expected: Vec<_> = all.into_iter().map(|(_, reason, name)| (reason, name)).collect();
            expected.sort();
            let status = status(&ledger, None, 0);
            let shown: Vec<_> = status.violations.into_iter().map(|v| (v.reason, v.namespace)).collect();
            prop_assert_eq!((shown, status.violations_omitted as usize), (expected, omitted));
        }
    }

    proptest! {
        #[test]
        fn the_counts_add_up(steps in prop::collection::vec((0..6_u8, prop::option::of((0..NamespaceState::VARIANTS.len(), any::<bool>()))), 0..60)) {
            let mut ledger = Ledger::default();
            for (name, found) in steps {
                let name = ns(&format!("n{name}"));
                match found {
                    None => drop(ledger.forget(&name)),
                    Some((state, serves)) => {
                        let mut finding = Finding::fine(NamespaceState::VARIANTS[state]);
                        if serves {
                            finding.hold(told(NoticeReason::ServesControlPlane, "p"));
                        }
                        ledger.set(&name, finding, at(0));
                    }
                }
                let NamespaceCounts {
                    selected, protected, pending, drifted, failed, unprotected, reported, held, frozen, shadowed, ..
                } = *ledger.counts();
                prop_assert_eq!(selected, protected + pending + drifted + failed + unprotected + reported + held + frozen);
                prop_assert_eq!((selected + shadowed) as usize, ledger.records.len());
            }
        }
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
