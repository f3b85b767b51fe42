//! A contest with openings. Tenants change two contested policies, in every order and at moments of every kind. What opens something is
//! repaired a second after the last repair of that policy at the latest. All else may wait longer, and is repaired too.

use std::{
    collections::{BTreeMap, HashSet},
    time::Duration,
};

use k8s_openapi::api::networking::v1::{NetworkPolicy, NetworkPolicyEgressRule, NetworkPolicySpec};

use super::Clocked;
use crate::{api::names::LABEL_MANAGED_BY, engine::tests::harness::EngineHarness};

const NAMESPACE: &str = "a";
const POLICIES: [&str; 2] = ["baseline-default-deny-ingress", "baseline-default-deny-egress"];

/// The longest wait of a repair that closes something, after the last repair of that policy.
const OPENING: Duration = Duration::from_secs(1);
/// No other repair waits longer.
const HARMLESS: Duration = Duration::from_secs(40);
/// So many repairs in a row come first. After them, the waits of harmless repairs have grown to their limit.
const REPAIRS: usize = 12;
/// How many changes tenants make in one run after that.
const CHANGES: usize = 3;
/// The times between two changes.
const PAUSES: [Duration; 3] = [Duration::from_millis(300), Duration::from_millis(1100), Duration::from_secs(35)];

/// What a tenant does to a policy.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Deed {
    Open,
    Delete,
    /// It loses the labels that make it ours.
    Disown,
    Label,
}

impl Deed {
    const ALL: [Self; 4] = [Self::Open, Self::Delete, Self::Disown, Self::Label];
}

/// A change, and the pause before it.
type Change = (Duration, &'static str, Deed);

#[derive(Clone)]
struct Contest {
    clocked: Clocked,
    /// The policies as planned.
    planned: BTreeMap<&'static str, NetworkPolicy>,
    repaired: BTreeMap<&'static str, Duration>,
    run: Vec<Change>,
    /// The longest time that something stayed open.
    open_for: Duration,
    opened: BTreeMap<&'static str, Duration>,
}

impl Contest {
    /// Both policies are contested.
    fn new() -> Self {
        let clocked = Clocked { sim: EngineHarness::protected() };
        let planned = POLICIES.map(|policy| (policy, clocked.sim.policies[&(NAMESPACE.into(), policy.into())].clone()));
        let planned = planned.into();
        let mut contest =
            Self { clocked, planned, repaired: [].into(), run: vec![], open_for: Duration::ZERO, opened: [].into() };
        for _ in 0..REPAIRS {
            for policy in POLICIES {
                contest.happens((OPENING, policy, Deed::Open));
            }
        }
        contest.passes(OPENING * 2);
        contest.run.clear();
        contest.open_for = Duration::ZERO;
        contest
    }

    fn stored(&self, policy: &str) -> Option<&NetworkPolicy> {
        self.clocked.sim.policies.get(&(NAMESPACE.into(), policy.into()))
    }

    fn is_as_planned(&self, policy: &str) -> bool {
        let parts = |p: &NetworkPolicy| (p.spec.clone(), p.metadata.labels.clone(), p.metadata.annotations.clone());
        self.stored(policy).map(parts) == Some(parts(&self.planned[policy]))
    }

    /// Whether the policy may allow what the plan denies.
    fn opens(&self, policy: &str) -> bool {
        let is_ours = |p: &NetworkPolicy| p.metadata.labels.as_ref().is_some_and(|labels| labels.contains_key(LABEL_MANAGED_BY));
        self.stored(policy).is_none_or(|stored| stored.spec != self.planned[policy].spec || !is_ours(stored))
    }

    fn happens(&mut self, change: Change) {
        let (pause, policy, deed) = change;
        self.passes(pause);
        self.run.push(change);
        let sim = &mut self.clocked.sim;
        match deed {
            _ if !sim.policies.contains_key(&(NAMESPACE.into(), policy.into())) => {}
            Deed::Open => sim.tamper(NAMESPACE, policy, |p| open(p.spec.as_mut().unwrap())),
            Deed::Delete => sim.delete(NAMESPACE, policy),
            Deed::Disown => sim.tamper(NAMESPACE, policy, |p| drop(p.metadata.labels.as_mut().unwrap().remove(LABEL_MANAGED_BY))),
            Deed::Label => sim.tamper(NAMESPACE, policy, |p| {
                p.metadata.labels.as_mut().unwrap().insert("policybaseline.io/role".into(), "x".into());
            }),
        }
        if self.opens(policy) {
            self.opened.entry(policy).or_insert(self.clocked.sim.elapsed);
        }
        self.works();
    }

    /// Time passes. The operator works whenever it wakes.
    fn passes(&mut self, time: Duration) {
        let end = self.clocked.sim.elapsed + time;
        while self.clocked.sim.elapsed < end {
            let until = self.clocked.sleeps_until(end);
            for (policy, opened) in &self.opened {
                let due = self.repaired.get(policy).map_or(*opened, |repaired| (*repaired + OPENING).max(*opened));
                assert!(
                    until <= due,
                    "{policy}, opened at {opened:?}, is due at {due:?}; it sleeps until {until:?}: {:?}",
                    self.run
                );
            }
            self.clocked.sim.elapsed = until;
            self.works();
        }
    }

    fn works(&mut self) {
        let now = self.clocked.sim.elapsed;
        let written: HashSet<String> = self.clocked.work().into_iter().map(|(_, policy)| policy).collect();
        for policy in POLICIES.into_iter().filter(|policy| written.contains(*policy)) {
            self.repaired.insert(policy, now);
            if let Some(opened) = self.opened.remove(policy) {
                self.open_for = self.open_for.max(now.saturating_sub(opened));
            }
        }
    }

    /// Tries every way to go on. Returns the number of runs.
    fn goes_on(self, changes: usize) -> usize {
        if changes == 0 {
            return self.ends();
        }
        let all = PAUSES.into_iter().flat_map(|pause| Deed::ALL.map(|deed| (pause, deed)));
        let all = all.flat_map(|(pause, deed)| POLICIES.map(|policy| (pause, policy, deed)));
        let next = |change| {
            let mut next = self.clone();
            next.happens(change);
            next.goes_on(changes - 1)
        };
        all.map(next).sum()
    }

    fn ends(mut self) -> usize {
        self.passes(HARMLESS);
        for policy in POLICIES {
            assert!(self.is_as_planned(policy), "{policy} is not repaired: {:?}", self.run);
        }
        assert!(self.open_for <= OPENING, "open for {:?}: {:?}", self.open_for, self.run);
        1
    }
}

fn open(spec: &mut NetworkPolicySpec) {
    spec.policy_types = Some(vec!["Ingress".into(), "Egress".into()]);
    spec.egress = Some(vec![NetworkPolicyEgressRule::default()]);
}

#[test]
fn i7_in_a_contest_what_opens_is_repaired_a_second_after_the_last_repair_whatever_tenants_do() {
    let runs = Contest::new().goes_on(CHANGES);
    assert_eq!(runs, (PAUSES.len() * Deed::ALL.len() * POLICIES.len()).pow(3));
}

#[test]
fn i7_in_a_contest_a_tenant_who_reopens_at_once_for_ten_minutes_has_one_repair_a_second() {
    let mut contest = Contest::new();
    let (start, mut repairs) = (contest.clocked.sim.elapsed, 0);
    while contest.clocked.sim.elapsed < start + Duration::from_mins(10) {
        let before = contest.repaired[POLICIES[0]];
        // It is opened as soon as it is closed, and its labels are changed all the time.
        let deed = if contest.opens(POLICIES[0]) { Deed::Label } else { Deed::Open };
        contest.happens((Duration::from_millis(100), POLICIES[0], deed));
        repairs += usize::from(contest.repaired[POLICIES[0]] != before);
    }
    assert!((540..=600).contains(&repairs), "{repairs} repairs");
}
