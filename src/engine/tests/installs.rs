//! Several installs in one cluster: the engine leaves the work to the oldest.

use std::time::Duration;

use serde_json::{Value, json};

use super::harness::{EngineHarness, OWN};
use crate::{
    api::PolicyBaselineStatus,
    engine::facts::{
        event::{Change, Event},
        installs::InstallLease,
    },
};

const INGRESS: &str = "baseline-default-deny-ingress";

/// The Lease of an install, held by an instance or released.
fn install(namespace: &str, created: u8, version: u64, holder: &str) -> Event {
    let lease = json!({
        "metadata": {"name": "policy-baseline", "namespace": namespace, "resourceVersion": version.to_string(),
            "creationTimestamp": format!("1970-01-01T00:00:0{created}Z")},
        "spec": {"holderIdentity": holder, "leaseDurationSeconds": 15},
    });
    let seen = InstallLease { lease: serde_json::from_value(lease).unwrap(), may_write: true };
    Event::Install(Change::Applied(Box::new(seen)))
}

/// This install leads. It knows the namespace of another install, which its baselines exclude.
fn beside(other: &str) -> EngineHarness {
    let mut sim = EngineHarness::protected();
    sim.namespace_with(other, json!({"policybaseline.io/instance": "true"}));
    sim.baseline(2, json!({"excludeNamespaces": ["elder", "other"]}));
    sim.settle();
    sim.pass(Duration::from_secs(5));
    sim.status();
    sim.pass(Duration::from_secs(5));
    sim
}

fn belongs_to(install: &str) -> Value {
    json!({"annotations": {"policybaseline.io/instance": install}})
}

#[test]
fn an_install_writes_nothing_while_an_older_one_lives() {
    let mut sim = beside("elder");
    sim.see(install(OWN, 5, 1, "us"));
    sim.see(install("elder", 1, 2, "them"));
    sim.lead(true);
    assert!(!sim.engine.leads());
    sim.baseline(3, json!({"deletionPolicy": "Delete", "excludeNamespaces": ["elder"]}));
    sim.namespace("b");
    let now = sim.now();
    assert_eq!((sim.jobs().len(), sim.engine.finalizers(now).len()), (0, 0));
    assert!(sim.status().is_none());
    sim.see(install("elder", 1, 3, ""));
    sim.lead(true);
    assert!(sim.engine.leads());
    assert_eq!(sim.jobs().len(), 1);
}

#[test]
fn an_older_install_that_falls_silent_is_followed_when_its_lease_has_expired() {
    let mut sim = beside("elder");
    sim.see(install("elder", 1, 2, "them"));
    sim.lead(true);
    sim.namespace("b");
    assert_eq!(sim.jobs().len(), 0);
    sim.pass(Duration::from_secs(5));
    let wake = sim.engine.next_wake(sim.now()).unwrap();
    assert_eq!(wake, sim.now().instant + Duration::from_secs(10));
    sim.pass(Duration::from_secs(10));
    sim.lead(true);
    assert_eq!(sim.jobs().len(), 1);
}

#[test]
fn a_baseline_that_belongs_to_the_younger_install_is_stalled_by_it_and_left_alone_by_the_older() {
    let stands = |own_is_younger: bool| {
        let mut sim = beside("other");
        let (created, belongs) = if own_is_younger { (1, OWN) } else { (9, "other") };
        sim.see(install(OWN, 5, 1, "us"));
        sim.see(install("other", created, 2, "them"));
        sim.lead(true);
        sim.baseline_with(2, json!({"excludeNamespaces": ["elder", "other"]}), belongs_to(belongs));
        sim.namespace("b");
        sim
    };
    let mut younger = stands(true);
    assert_eq!(younger.jobs().len(), 0);
    let stalled = younger.status().unwrap();
    let told = |status: &PolicyBaselineStatus| {
        let condition = status.conditions.iter().find(|c| c.type_ == "Stalled").unwrap();
        format!("{} {}", condition.status, condition.reason)
    };
    assert_eq!(told(&stalled), "True AnotherInstance");
    assert!(stalled.conditions[2].message.contains("in namespace other"), "{stalled:?}");
    younger.see(install("other", 1, 3, ""));
    younger.lead(true);
    younger.settle();
    younger.pass(Duration::from_secs(5));
    assert_eq!(told(&younger.status().unwrap()), "False Valid");
    assert_eq!(younger.policies.len(), 6, "a and b");

    let mut older = stands(false);
    older.tamper("a", INGRESS, |policy| policy.spec.as_mut().unwrap().policy_types = None);
    older.pass(Duration::from_secs(5));
    assert_eq!((older.jobs().len(), older.status().is_none()), (0, true), "what it holds is frozen, and its status is another's");
    older.see(install("other", 9, 3, ""));
    older.lead(true);
    older.settle();
    assert_eq!(older.policies.len(), 6, "an install that does not live holds nothing back");
}

#[test]
fn a_baseline_that_names_no_install_that_lives_belongs_to_the_oldest() {
    let mut sim = beside("other");
    sim.see(install(OWN, 5, 1, "us"));
    sim.see(install("other", 9, 2, "them"));
    sim.lead(true);
    sim.baseline_with(2, json!({"excludeNamespaces": ["other"]}), belongs_to("a-typo"));
    sim.namespace("b");
    assert_eq!(sim.jobs().len(), 1);
}

#[test]
fn a_tenant_who_writes_a_lease_of_that_name_stops_nobody() {
    let mut sim = beside("other");
    sim.see(install(OWN, 5, 1, "us"));
    sim.see(install("a", 1, 2, "a tenant"));
    sim.lead(true);
    sim.namespace("b");
    assert_eq!(sim.jobs().len(), 1);
}

#[test]
fn a_release_that_waits_still_waits_when_other_installs_come_and_go() {
    let mut sim = EngineHarness::new();
    let selecting = |tier: &str| json!({"namespaceSelector": {"matchLabels": {"tier": tier}}});
    sim.namespace_with("younger", json!({"policybaseline.io/instance": "true"}));
    sim.see(install(OWN, 1, 1, "us"));
    sim.baseline(1, selecting("prod"));
    for n in 0..12 {
        sim.namespace_with(&format!("n{n}"), json!({"tier": "prod"}));
    }
    sim.settle();
    sim.baseline(2, selecting("prdo"));
    assert_eq!(sim.jobs().len(), 0);
    for (version, holder) in [(2, "them"), (3, "")] {
        sim.see(install("younger", 5, version, holder));
        sim.lead(true);
        assert_eq!(sim.jobs().len(), 0, "nothing is released, whoever else is there");
    }
}
