//! Which namespaces count as found open, event by event. A running process and a restarted one must decide the same.

use std::time::Duration;

use serde_json::{Value, json};

use super::harness::{EngineHarness, named};
use crate::engine::{
    facts::event::{Change, Event},
    writes::Cause,
};

/// Later than every namespace, and earlier than now.
const YOUNG: &str = "1970-01-12T00:00:00Z";

/// A baseline that is younger than its namespaces. With `existingNamespaces: Enforce` it closed them; from then on it only reports.
fn closed(spec: Value, namespaces: usize) -> EngineHarness {
    let mut sim = EngineHarness::new();
    for n in 0..namespaces {
        sim.namespace_with(&format!("n{n:02}"), json!({"tier": "prod"}));
    }
    edit(&mut sim, 1, with(&spec, "existingNamespaces", json!("Enforce")));
    sim.settle();
    edit(&mut sim, 2, spec);
    sim.settle();
    assert_eq!(sim.policies.len(), 3 * namespaces);
    sim
}

fn edit(sim: &mut EngineHarness, generation: i64, spec: Value) {
    sim.baseline_with(generation, spec, json!({"creationTimestamp": YOUNG}));
}

fn with(spec: &Value, key: &str, value: Value) -> Value {
    let mut spec = spec.clone();
    spec[key] = value;
    spec
}

fn tier(tier: &str) -> Value {
    json!({"namespaceSelector": {"matchLabels": {"tier": tier}}})
}

/// Somebody deletes every policy of a namespace.
fn clear(sim: &mut EngineHarness, ns: &str) {
    let names: Vec<String> = sim.policies.keys().filter(|(of, _)| of == ns).map(|(_, policy)| policy.clone()).collect();
    for policy in names {
        sim.delete(ns, &policy);
    }
    look(sim);
}

fn look(sim: &mut EngineHarness) {
    let now = sim.now();
    while sim.engine.assess_dirty(now) {}
}

fn gone(sim: &mut EngineHarness, name: &str) {
    let raw = serde_json::from_value(json!({"metadata": {"name": name, "uid": format!("uid-{name}")}})).unwrap();
    sim.see(Event::Baseline(Change::Deleted(Box::new(raw))));
}

/// How many namespaces hold policies, and how many are only reported.
fn held_and_reported(sim: &mut EngineHarness) -> (usize, u32) {
    sim.settle();
    let held: std::collections::BTreeSet<_> = sim.policies.keys().map(|(ns, _)| ns).collect();
    (held.len(), sim.engine.counts().reported)
}

fn delete(sim: &mut EngineHarness) {
    let going =
        json!({"creationTimestamp": YOUNG, "deletionTimestamp": YOUNG, "finalizers": ["policybaseline.io/delete-policies"]});
    sim.baseline_with(3, json!({"deletionPolicy": "Delete"}), going);
}

#[test]
fn i1_what_a_baseline_held_that_was_deleted_with_its_policies_is_found_open_by_the_next_one_as_after_a_restart() {
    for another in ["b", "c"] {
        let mut sim = closed(json!({"deletionPolicy": "Delete"}), 2);
        // A baseline in Audit that never held policies does not change the result.
        let audit = json!({"mode": "Audit", "existingNamespaces": "Enforce"});
        sim.baseline_with(1, audit, json!({"name": "audit", "uid": "uid-audit", "creationTimestamp": YOUNG}));
        delete(&mut sim);
        sim.settle();
        assert_eq!(sim.policies.len(), 0);
        gone(&mut sim, "b");
        let next = json!({"name": another, "uid": "uid-c", "creationTimestamp": YOUNG});
        sim.baseline_with(1, json!({}), next.clone());
        assert_eq!(held_and_reported(&mut sim), (0, 2), "{another}");
        // Once `existingNamespaces` is Enforce, these count as the first policies.
        sim.baseline_with(2, json!({"existingNamespaces": "Enforce"}), next);
        let tasks: Vec<Cause> = sim.jobs().iter().flat_map(|job| &job.tasks).map(|task| task.cause).collect();
        assert_eq!(tasks, [Cause::Bootstrap; 6], "{another}");
    }
}

#[test]
fn i1_a_standby_that_hears_all_of_it_at_once_knows_it_too() {
    for is_told in [true, false] {
        let mut sim = closed(json!({"deletionPolicy": "Delete"}), 1);
        sim.lead(false);
        for policy in sim.policies.keys().map(|(_, policy)| policy.clone()).collect::<Vec<_>>() {
            sim.delete("n00", &policy);
        }
        if is_told {
            gone(&mut sim, "b");
        }
        // After a gap in the watch, only the new uid shows that it is another baseline.
        sim.baseline_with(1, json!({}), json!({"uid": "uid-c", "creationTimestamp": YOUNG}));
        sim.lead(true);
        assert_eq!(held_and_reported(&mut sim), (0, 1), "{is_told}");
    }
}

#[test]
fn a_namespace_that_left_and_comes_back_is_found_open_as_after_a_restart() {
    let mut sim = closed(tier("prod"), 1);
    sim.namespace_with("n00", json!({"tier": "dev"}));
    assert_eq!(held_and_reported(&mut sim), (0, 0));
    sim.namespace_with("n00", json!({"tier": "prod"}));
    assert_eq!(held_and_reported(&mut sim), (0, 1));
}

#[test]
fn i1_policies_that_somebody_deletes_come_back_whatever_the_baseline_is_going_through() {
    let mut sim = closed(json!({}), 1);
    clear(&mut sim, "n00");
    assert_eq!(held_and_reported(&mut sim), (1, 0));
    // For a while the baseline does not select the namespace, is invalid, only audits, or is suspended.
    let invalid = json!({"excludeNamespaces": ["Not A Name"]});
    let (audit, rests) = (json!({"mode": "Audit"}), with(&tier("dev"), "suspend", json!(true)));
    for (what, meanwhile, namespaces) in
        [("held", tier("dev"), 30), ("stalled", invalid, 1), ("audit", audit, 1), ("rests", rests, 1)]
    {
        let mut sim = closed(tier("prod"), namespaces);
        edit(&mut sim, 3, meanwhile);
        look(&mut sim);
        clear(&mut sim, "n00");
        sim.settle();
        sim.pass(Duration::from_mins(1));
        edit(&mut sim, 4, tier("prod"));
        assert_eq!(held_and_reported(&mut sim), (namespaces, 0), "{what}");
    }
}

/// The watch shows a new namespace of the second in which the baselines of this file were created.
fn of_that_second(sim: &mut EngineHarness, name: &str, version: &str) {
    let labels = json!({"kubernetes.io/metadata.name": name});
    let meta = json!({"name": name, "uid": format!("uid-{name}"), "resourceVersion": version, "creationTimestamp": YOUNG, "labels": labels});
    sim.see(Event::Namespace(Change::Applied(named(meta))));
}

#[test]
fn a_namespace_of_the_second_of_the_baseline_is_closed_only_if_it_was_seen_to_appear_after_it() {
    let mut sim = EngineHarness::new();
    of_that_second(&mut sim, "before", "6");
    edit(&mut sim, 1, json!({}));
    // The watch of baselines was faster.
    of_that_second(&mut sim, "late-news", "5");
    of_that_second(&mut sim, "after", "8");
    assert_eq!(held_and_reported(&mut sim), (1, 2));
    assert!(sim.policies.keys().all(|(ns, _)| ns == "after"));
    // The own write of the status changes the version of the baseline, not what came after it.
    sim.baseline_with(1, json!({}), json!({"creationTimestamp": YOUNG, "resourceVersion": "20"}));
    of_that_second(&mut sim, "later", "21");
    of_that_second(&mut sim, "between", "9");
    assert_eq!(held_and_reported(&mut sim), (3, 2));
    // A change of a namespace is no second appearance.
    of_that_second(&mut sim, "before", "30");
    assert_eq!(held_and_reported(&mut sim), (3, 2));
}

#[test]
fn a_namespace_of_the_second_of_the_baseline_that_a_list_names_counts_as_existing() {
    let mut sim = EngineHarness::unsynced();
    sim.listing(|sim| {
        edit(sim, 1, json!({}));
        of_that_second(sim, "a", "9");
    });
    assert_eq!(held_and_reported(&mut sim), (0, 1));
    edit(&mut sim, 2, json!({"existingNamespaces": "Enforce"}));
    assert_eq!(held_and_reported(&mut sim), (1, 0));
}
