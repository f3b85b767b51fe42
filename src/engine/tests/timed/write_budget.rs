//! A tenant who may change the labels of a namespace moves it from one baseline to another, and back, at any pace. That costs few writes,
//! delays no other namespace, and in the end every namespace holds its plan.

use std::{collections::BTreeSet, time::Duration};

use proptest::prelude::*;
use serde_json::json;

use super::Clocked;
use crate::engine::{
    facts::{
        baseline::RawBaseline,
        event::{Change, Event},
    },
    tests::harness::{EngineHarness, with_policies},
};

const MOVED: &str = "moved";
const OTHER: &str = "other";
/// The values of the label. No baseline selects the last one.
const TEAMS: [&str; 3] = ["red", "blue", "none"];
/// How long a run lasts.
const RUN: Duration = Duration::from_mins(5);
/// So many writes are allowed in any case: whoever may change a label once may do so a few times.
const AT_ONCE: usize = 30;
/// All writes of a namespace are sent together: with one left, a plan of three policies may take two more.
const OVERDRAWN: usize = 2;
/// How long it may take until everything is as planned, after the last change.
const SETTLES: Duration = Duration::from_mins(1);

struct Flipping {
    clocked: Clocked,
    team: &'static str,
    changes: usize,
    writes: usize,
    /// How long the changes went on: the last pause may go over the end of the run.
    lasted: Duration,
}

impl Flipping {
    fn new() -> Self {
        let mut sim = EngineHarness::new();
        for team in ["red", "blue"] {
            let selector = json!({"matchLabels": {"team": team}});
            let spec = json!({"namespaceSelector": selector, "metadata": {"namePrefix": format!("{team}-")}});
            let meta = json!({"name": team, "uid": format!("uid-{team}"), "generation": 1, "resourceVersion": "7",
                "creationTimestamp": "1970-01-01T00:00:01Z"});
            let raw: RawBaseline = serde_json::from_value(json!({"metadata": meta, "spec": with_policies(spec)})).unwrap();
            sim.see(Event::Baseline(Change::Applied(Box::new(raw))));
        }
        sim.namespace_with(MOVED, json!({"team": "red"}));
        sim.namespace_with(OTHER, json!({"team": "red"}));
        let mut flipping = Self { clocked: Clocked { sim }, team: "red", changes: 0, writes: 0, lasted: Duration::ZERO };
        flipping.passes(RUN);
        flipping.writes = 0;
        assert!(flipping.is_as_planned());
        flipping
    }

    fn label(&mut self, team: &'static str) {
        if team == self.team {
            return;
        }
        let meta = json!({"name": MOVED, "uid": format!("uid-{MOVED}"), "creationTimestamp": "1970-01-01T00:10:00Z",
            "labels": {"kubernetes.io/metadata.name": MOVED, "team": team}});
        self.clocked.sim.see(Event::Namespace(Change::Applied(serde_json::from_value(json!({ "metadata": meta })).unwrap())));
        (self.team, self.changes) = (team, self.changes + 1);
        self.works();
    }

    fn works(&mut self) -> usize {
        let written = self.clocked.work();
        self.writes += written.iter().filter(|(ns, _)| ns == MOVED).count();
        written.iter().filter(|(ns, _)| ns == OTHER).count()
    }

    fn passes(&mut self, time: Duration) {
        let end = self.clocked.sim.elapsed + time;
        while self.clocked.sim.elapsed < end {
            self.clocked.sim.elapsed = self.clocked.sleeps_until(end);
            self.works();
        }
    }

    /// The labels follow each other, each after its pause, again and again.
    fn run(&mut self, cycle: &[(Duration, &'static str)]) {
        let begin = self.clocked.sim.elapsed;
        let (end, mut tampered) = (begin + RUN, begin);
        for (pause, team) in cycle.iter().cycle() {
            if self.clocked.sim.elapsed >= end {
                break;
            }
            self.passes(*pause);
            self.label(team);
            // Seldom enough that it is no contest.
            if self.clocked.sim.elapsed >= tampered + Duration::from_secs(20) {
                tampered = self.clocked.sim.elapsed;
                self.clocked.sim.delete(OTHER, "red-default-deny-ingress");
                assert_eq!(self.works(), 1, "the other namespace waits");
            }
        }
        self.lasted = self.clocked.sim.elapsed.saturating_sub(begin);
    }

    fn is_as_planned(&self) -> bool {
        let roles = ["default-deny-ingress", "default-deny-egress", "monitoring-carveout"];
        let planned = [(MOVED, self.team), (OTHER, "red")].into_iter().filter(|(_, team)| *team != "none");
        let planned = planned.flat_map(|(ns, team)| roles.map(|role| (ns.to_owned(), format!("{team}-{role}"))));
        planned.collect::<BTreeSet<_>>() == self.clocked.sim.policies.keys().cloned().collect()
    }

    /// Two writes for each change, or one a second: each change needs a few, also if the tenant is slow.
    fn check(&mut self, cycle: &[(Duration, &str)]) {
        let (writes, changes) = (self.writes, self.changes);
        let seconds = usize::try_from(self.lasted.as_secs()).unwrap();
        let allowed = AT_ONCE + (2 * changes).max(seconds + OVERDRAWN);
        assert!(writes <= allowed, "{writes} writes for {changes} changes: {cycle:?}");
        self.passes(SETTLES);
        assert!(self.is_as_planned(), "{} at the end of {cycle:?}: {:?}", self.team, self.clocked.sim.policies.keys());
    }
}

#[test]
fn i7_a_label_that_goes_back_and_forth_for_long_costs_two_writes_a_change_at_most() {
    for millis in [20, 100, 500, 1000, 2000] {
        let pause = Duration::from_millis(millis);
        let mut flipping = Flipping::new();
        let cycle = [(pause, "blue"), (pause, "red")];
        flipping.run(&cycle);
        let (writes, changes) = (flipping.writes, flipping.changes);
        assert!(changes >= 149 && writes <= AT_ONCE + 2 * changes, "{writes} writes for {changes} changes, every {pause:?}");
        flipping.check(&cycle);
    }
}

#[test]
fn i7_a_plan_that_is_sent_for_the_last_write_of_the_budget_costs_two_more() {
    let cycle = [(Duration::from_millis(129), "blue"), (Duration::from_millis(3876), "red")];
    let mut flipping = Flipping::new();
    flipping.run(&cycle);
    flipping.check(&cycle);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn i7_a_label_that_changes_at_any_pace_costs_few_writes_delays_nobody_and_ends_as_planned(
        cycle in prop::collection::vec((50u64..20_000, prop::sample::select(TEAMS.to_vec())), 2..6),
    ) {
        let cycle: Vec<_> = cycle.into_iter().map(|(millis, team)| (Duration::from_millis(millis), team)).collect();
        let mut flipping = Flipping::new();
        flipping.run(&cycle);
        flipping.check(&cycle);
    }
}
