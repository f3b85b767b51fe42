//! The release guard, event by event: which changes wait for a confirmation, and for how long.

use std::time::Duration;

use serde_json::{Value, json};

use super::harness::{EngineHarness, named, ready};
use crate::api::names::LABEL_BASELINE;
use crate::engine::facts::event::{Change, Event};

const INGRESS: &str = "baseline-default-deny-ingress";

fn tier(tier: &str) -> Value {
    json!({"namespaceSelector": {"matchLabels": {"tier": tier}}})
}

fn typo() -> Value {
    tier("prdo")
}

/// So many namespaces of one tier, and a baseline that selects them.
fn a_tier_of(namespaces: usize) -> EngineHarness {
    let mut sim = EngineHarness::new();
    sim.baseline(1, tier("prod"));
    for n in 0..namespaces {
        // Three parts, for other baselines.
        sim.namespace_with(&format!("n{n}"), json!({"tier": "prod", "part": (n % 3).to_string()}));
    }
    sim.settle();
    sim
}

fn a_tier() -> EngineHarness {
    a_tier_of(30)
}

fn confirmed(generation: &str) -> Value {
    json!({"annotations": {"policybaseline.io/confirm-release": generation}})
}

/// The reason of Ready of the baseline `b`, after some seconds.
fn reason(sim: &mut EngineHarness) -> String {
    ready(&sim.status_after(5)).to_owned()
}

/// How many namespaces hold the default-deny of ingress.
fn closed(sim: &EngineHarness) -> usize {
    sim.policies.keys().filter(|(_, policy)| policy == INGRESS).count()
}

/// Another baseline, which plans no default-deny and has been confirmed.
fn less(sim: &mut EngineHarness, name: &str, selector: &Value) {
    let mut metadata = confirmed("1");
    (metadata["name"], metadata["uid"]) = (name.into(), format!("uid-{name}").into());
    let mut spec = json!({"policies": ["MonitoringCarveout"], "priority": -1});
    spec["namespaceSelector"] = json!({"matchLabels": selector});
    sim.baseline_with(1, spec, metadata);
}

fn namespace_gone(sim: &mut EngineHarness, name: &str) {
    for policy in sim.policies.keys().filter(|(of, _)| of == name).map(|(_, policy)| policy.clone()).collect::<Vec<_>>() {
        sim.delete(name, &policy);
    }
    sim.see(Event::Namespace(Change::Deleted(named(json!({"name": name, "uid": format!("uid-{name}")})))));
}

#[test]
fn a_typo_in_a_selector_opens_nothing_before_it_is_confirmed_for_that_generation() {
    let mut sim = a_tier();
    sim.baseline(2, typo());
    sim.delete("n0", INGRESS);
    assert_eq!(sim.jobs().len(), 0);
    sim.pass(Duration::from_secs(5));
    let status = sim.status().unwrap();
    let told: Vec<_> = status.conditions.iter().map(|c| format!("{}={} {}", c.type_, c.status, c.reason)).collect();
    assert_eq!(
        told,
        [
            "AwaitingConfirmation=True AwaitingConfirmation",
            "ExistingNamespacesClosed=False AwaitingConfirmation",
            "Ready=False AwaitingConfirmation",
            "Reconciling=False Settled",
            "Stalled=False Valid"
        ]
    );
    let message = &status.conditions[0].message;
    assert!(message.contains("30 of the 30") && message.contains("policybaseline.io/confirm-release=2"), "{message}");
    sim.baseline_with(2, typo(), confirmed("1"));
    assert_eq!(sim.jobs().len(), 0, "that was another generation");
    sim.baseline_with(2, typo(), confirmed("2"));
    sim.settle();
    assert_eq!(sim.policies.len(), 0);
}

#[test]
fn a_release_that_waits_is_over_when_the_selector_is_mended_and_what_followed_the_edit_meanwhile_waits_on() {
    let mut sim = a_tier();
    sim.baseline(2, typo());
    sim.settle();
    sim.baseline(3, tier("prod"));
    sim.settle();
    assert_eq!(reason(&mut sim), "Protected");
    sim.baseline(4, typo());
    sim.namespace_with("follows", json!({"tier": "prdo"}));
    sim.settle();
    assert_eq!(sim.policies.len(), 93);
    sim.baseline(5, tier("prod"));
    sim.delete("n0", INGRESS);
    sim.settle();
    assert_eq!(sim.policies.len(), 93, "all are kept, and where nothing would open, all is repaired");
    assert_eq!(reason(&mut sim), "AwaitingConfirmation");
    sim.baseline_with(5, tier("prod"), confirmed("5"));
    sim.settle();
    assert_eq!(sim.policies.keys().filter(|(ns, _)| ns == "follows").count(), 0);
    assert_eq!(reason(&mut sim), "Protected");
}

/// A new process. It finds `namespaces` of those of the baseline, and this stored status.
fn restarted(before: &mut EngineHarness, namespaces: usize, status: &Value) -> EngineHarness {
    let mut sim = EngineHarness::unsynced();
    (sim.policies, sim.version, sim.elapsed) = (std::mem::take(&mut before.policies), before.version, before.elapsed);
    sim.listing(|sim| {
        sim.baseline_stored(2, typo(), json!({}), status.clone());
        for n in 0..namespaces {
            sim.namespace_with(&format!("n{n}"), json!({"tier": "prod"}));
        }
        for object in sim.policies.values().cloned().collect::<Vec<_>>() {
            sim.see(Event::Policy(Change::Applied(Box::new(object))));
        }
    });
    sim
}

#[test]
fn a_release_that_waits_still_waits_after_a_restart() {
    let mut sim = restarted(&mut a_tier(), 30, &Value::Null);
    assert_eq!(sim.jobs().len(), 0);
    assert_eq!(reason(&mut sim), "AwaitingConfirmation");
}

#[test]
fn what_waits_goes_on_waiting_also_when_so_few_are_left_that_they_would_not_wait_by_themselves() {
    let waiting = || {
        let mut sim = a_tier_of(11);
        sim.baseline(2, typo());
        assert_eq!(reason(&mut sim), "AwaitingConfirmation");
        sim
    };
    let invalid = json!({"excludeNamespaces": ["Not A Name"]});
    let mut suspended = typo();
    suspended["suspend"] = json!(true);
    for (what, meanwhile) in [("another edit", tier("prodd")), ("a mistake", invalid), ("a suspension", suspended)] {
        let mut sim = waiting();
        namespace_gone(&mut sim, "n10");
        sim.settle();
        sim.baseline(3, meanwhile);
        sim.settle();
        sim.pass(Duration::from_secs(5));
        sim.status();
        sim.baseline(4, typo());
        sim.settle();
        assert_eq!((closed(&sim), &*reason(&mut sim)), (10, "AwaitingConfirmation"), "{what}");
        sim.baseline_with(4, typo(), confirmed("4"));
        sim.settle();
        assert_eq!(closed(&sim), 0, "{what}");
    }
    // After a restart, the stored condition says that it waits.
    let mut sim = waiting();
    namespace_gone(&mut sim, "n10");
    let status = serde_json::to_value(sim.status_after(5)).unwrap();
    let mut after = restarted(&mut sim, 10, &status);
    assert_eq!((after.jobs().len(), after.status()), (0, None), "the stored status says it already");
    assert_eq!(closed(&after), 10);
    after.baseline_with(2, typo(), confirmed("2"));
    after.settle();
    assert_eq!(closed(&after), 0);
    // Only a new change of ten goes at once.
    let mut sim = a_tier_of(10);
    sim.baseline(2, typo());
    sim.settle();
    assert_eq!(closed(&sim), 0);
}

#[test]
fn a_wait_is_over_when_nothing_would_open_any_more() {
    let mut sim = a_tier_of(11);
    sim.baseline(2, typo());
    assert_eq!(reason(&mut sim), "AwaitingConfirmation");
    namespace_gone(&mut sim, "n10");
    let status = sim.status_after(5);
    let awaiting = status.conditions.iter().find(|c| c.type_ == "AwaitingConfirmation").unwrap();
    assert!(awaiting.message.starts_with("10 of the 10 closed"), "{}", awaiting.message);
    for n in 0..10 {
        sim.namespace_with(&format!("n{n}"), json!({"tier": "prdo"}));
    }
    assert_eq!((&*reason(&mut sim), closed(&sim)), ("Protected", 10));
    assert!(sim.statuses.last().unwrap().conditions.iter().all(|c| c.type_ != "AwaitingConfirmation"));
}

#[test]
fn an_earlier_confirmation_of_another_baseline_confirms_nothing() {
    for parts in [vec![json!({"tier": "prod"})], vec![json!({"part": "0"}), json!({"part": "1"})]] {
        let mut sim = a_tier();
        for (n, selector) in parts.iter().enumerate() {
            less(&mut sim, &format!("less-{n}"), selector);
        }
        sim.settle();
        // Another baseline applies to all of them from now on, or one to each of three parts of them and none to the last.
        sim.baseline(2, typo());
        sim.settle();
        assert_eq!(closed(&sim), 30, "{parts:?}");
        sim.baseline_with(2, typo(), confirmed("2"));
        sim.settle();
        assert_eq!(closed(&sim), 0, "{parts:?}");
    }
}

#[test]
fn an_allow_or_dns_that_opens_many_namespaces_to_everybody_waits_and_is_counted_once() {
    let everybody = json!([{"ipBlock": {"cidr": "0.0.0.0/0"}}]);
    let allow = json!({"allows": [{"name": "web", "ingress": [{"from": everybody}], "acknowledgeOpen": true}]});
    for (what, mut spec) in [("an allow", allow), ("DNS", json!({"dns": {"peers": everybody}}))] {
        spec["namespaceSelector"] = tier("prod")["namespaceSelector"].clone();
        let mut sim = a_tier();
        let before = sim.policies.clone();
        sim.baseline(2, spec.clone());
        sim.settle();
        assert_eq!(sim.policies, before, "{what}");
        assert_eq!(reason(&mut sim), "AwaitingConfirmation", "{what}");
        sim.baseline_with(2, spec.clone(), confirmed("2"));
        sim.settle();
        assert_ne!(sim.policies, before, "{what}");
        // What is open already is opened by no later change.
        spec["priority"] = json!(1);
        sim.baseline(3, spec);
        sim.settle();
        assert_eq!(reason(&mut sim), "Protected", "{what}");
    }
}

/// Another baseline takes over and plans less. It is not confirmed.
fn one_that_plans_less(sim: &mut EngineHarness, generation: i64, policies: &Value) {
    let spec = json!({"policies": policies, "priority": 1, "namespaceSelector": {"matchLabels": {"tier": "prod"}}});
    sim.baseline_with(generation, spec, json!({"name": "less", "uid": "uid-less"}));
}

#[test]
fn a_wait_goes_on_while_another_baseline_freezes_the_namespaces() {
    let mut suspended = tier("prod");
    suspended["suspend"] = json!(true);
    let first = json!({"name": "first", "uid": "uid-first"});
    for what in ["an invalid owner", "a suspended owner", "another one that is suspended"] {
        let mut sim = a_tier_of(11);
        one_that_plans_less(&mut sim, 1, &json!(["MonitoringCarveout"]));
        sim.settle();
        namespace_gone(&mut sim, "n10");
        sim.settle();
        match what {
            "an invalid owner" => sim.baseline(2, json!({"excludeNamespaces": ["Not A Name"]})),
            "a suspended owner" => sim.baseline(2, suspended.clone()),
            _ => sim.baseline_with(1, json!({"priority": 9, "suspend": true}), first.clone()),
        }
        sim.settle();
        // Its namespaces are counted again, now and later.
        sim.namespace_with("n0", json!({"tier": "prod", "more": "labels"}));
        sim.pass(Duration::from_secs(5));
        sim.settle();
        assert!(sim.engine.tracked["less"].awaits(), "{what}");
        match what {
            "another one that is suspended" => {
                let gone = serde_json::from_value(json!({"metadata": first})).unwrap();
                sim.see(Event::Baseline(Change::Deleted(Box::new(gone))));
            }
            _ => sim.baseline(3, tier("prod")),
        }
        sim.settle();
        assert_eq!(closed(&sim), 10, "{what}");
    }
}

#[test]
fn a_wait_ends_although_the_namespaces_are_frozen_if_the_change_would_open_none_of_them() {
    let mut suspended = tier("prod");
    suspended["suspend"] = json!(true);
    for freeze in [suspended, json!({"excludeNamespaces": ["Not A Name"]})] {
        let mut sim = a_tier_of(11);
        one_that_plans_less(&mut sim, 1, &json!(["MonitoringCarveout"]));
        sim.settle();
        sim.baseline(2, freeze);
        sim.settle();
        assert!(sim.engine.tracked["less"].awaits());
        one_that_plans_less(&mut sim, 2, &json!(["DefaultDenyIngress", "DefaultDenyEgress"]));
        sim.settle();
        assert!(!sim.engine.tracked["less"].awaits());
    }
}

#[test]
fn i7_what_waits_is_counted_again_once_a_second_at_most_and_the_last_change_is_not_forgotten() {
    let mut sim = a_tier_of(11);
    sim.baseline(2, typo());
    assert_eq!(reason(&mut sim), "AwaitingConfirmation");
    namespace_gone(&mut sim, "n10");
    sim.settle();
    sim.pass(Duration::from_secs(2));
    let now = sim.now();
    assert_eq!((sim.engine.assess_dirty(now), sim.engine.next_wake(now)), (false, None), "the change was counted");
    namespace_gone(&mut sim, "n9");
    sim.settle();
    // The first change after a while is counted at once, and what follows it within the second is counted together.
    for n in 0..9 {
        sim.namespace_with(&format!("n{n}"), json!({"tier": "prdo"}));
        sim.settle();
        assert!(sim.engine.tracked["b"].awaits());
    }
    let second = sim.now().instant + Duration::from_secs(1);
    assert_eq!(sim.engine.next_wake(sim.now()), Some(second));
    sim.pass(Duration::from_secs(1));
    sim.settle();
    assert!(!sim.engine.tracked["b"].awaits());
    assert_eq!((&*reason(&mut sim), closed(&sim)), ("Protected", 9));
}

#[test]
fn i7_nothing_is_counted_for_a_baseline_that_rests() {
    let mut sim = a_tier_of(11);
    sim.baseline(2, typo());
    assert_eq!(reason(&mut sim), "AwaitingConfirmation");
    let mut suspended = typo();
    suspended["suspend"] = json!(true);
    sim.baseline(3, suspended);
    assert_eq!(reason(&mut sim), "Suspended");
    sim.settle();
    for _ in 0..2 {
        sim.namespace_with("n0", json!({"tier": "prod", "more": sim.elapsed.as_secs().to_string()}));
        sim.settle();
        sim.status();
    }
    let now = sim.now();
    assert_eq!(sim.engine.next_wake(now), None);
}

/// Whether any status so far says that a change waits.
fn has_waited(sim: &EngineHarness) -> bool {
    sim.statuses.iter().flat_map(|status| &status.conditions).any(|c| c.type_ == "AwaitingConfirmation")
}

#[test]
fn an_edit_to_audit_does_not_wait_and_the_way_back_does() {
    let mut sim = a_tier();
    let mut audit = typo();
    audit["mode"] = "Audit".into();
    sim.baseline(2, audit);
    sim.status_after(5);
    assert_eq!((closed(&sim), has_waited(&sim)), (30, false));
    sim.baseline(3, typo());
    assert_eq!((&*reason(&mut sim), closed(&sim)), ("AwaitingConfirmation", 30));
}

#[test]
fn another_baseline_that_takes_over_and_closes_as_much_does_not_wait() {
    let mut sim = a_tier();
    let mut spec = tier("prod");
    spec["priority"] = 5.into();
    sim.baseline_with(1, spec, json!({"name": "other", "uid": "uid-other"}));
    sim.status_after(5);
    assert_eq!((closed(&sim), has_waited(&sim)), (30, false));
    assert!(sim.policies.values().all(|policy| policy.metadata.labels.as_ref().unwrap()[LABEL_BASELINE] == "other"));
}
