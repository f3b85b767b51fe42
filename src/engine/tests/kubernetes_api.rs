//! How allows with `kubernetesAPI` follow the API server: plans wait until it is known, and nothing that cannot be read narrows them.

use std::time::Duration;

use serde_json::{Value, json};
use strum::VariantArray;

use super::{
    backends::calls,
    dns::{awaiting_with, list_but, told},
    harness::EngineHarness,
};
use crate::{
    engine::facts::event::{Change, Event},
    policy::{
        dns::KEPT,
        kubernetes_api::{ApiDestination, ApiEvent, ApiObject},
    },
};

const ALLOW: &str = "baseline-allow-api";
const SECOND: Duration = Duration::from_secs(1);

fn spec() -> Value {
    json!({"allows": [{"name": "api", "egress": [{"to": [{"kubernetesAPI": {}}]}]}]})
}

/// A cluster whose DNS is known, before anything was said of the API server.
fn awaiting(spec: Value) -> EngineHarness {
    let mut sim = awaiting_with(|sim| {
        sim.baseline(1, spec);
        sim.namespace("a");
    });
    list_but(&mut sim, &[]);
    sim
}

fn seen(object: ApiObject, address: [u8; 4], port: u16) -> Event {
    Event::KubernetesApi(ApiEvent::Seen(object, [ApiDestination { address: address.into(), port }].into()))
}

fn list(sim: &mut EngineHarness, events: impl IntoIterator<Item = Event>) {
    for object in ApiObject::VARIANTS {
        sim.see(Event::KubernetesApi(ApiEvent::ListBegins(*object)));
    }
    events.into_iter().for_each(|event| sim.see(event));
    for object in ApiObject::VARIANTS {
        sim.see(Event::KubernetesApi(ApiEvent::ListEnds(*object)));
    }
}

fn both() -> [Event; 2] {
    [seen(ApiObject::Service, [10, 96, 0, 1], 443), seen(ApiObject::Slice, [192, 0, 2, 1], 6443)]
}

/// The addresses and ports in the policy of the allow, beside DNS.
fn reaches(sim: &EngineHarness) -> Vec<String> {
    let rules = sim.policies[&("a".to_owned(), ALLOW.to_owned())].spec.clone().unwrap().egress.unwrap();
    let told = |rule: &k8s_openapi::api::networking::v1::NetworkPolicyEgressRule| {
        let port = serde_json::to_value(&rule.ports.as_ref().unwrap()[0].port).unwrap();
        let blocks = rule.to.iter().flatten().filter_map(|peer| peer.ip_block.as_ref());
        blocks.map(|block| format!("{} {port}", block.cidr)).collect::<Vec<_>>()
    };
    rules.iter().flat_map(told).filter(|told| !told.ends_with(" 53")).collect()
}

fn gap(sim: &mut EngineHarness) -> Option<String> {
    told(sim).conditions.into_iter().find(|c| c.type_ == "KubernetesAPICoverage").map(|c| c.reason)
}

#[test]
fn nothing_is_planned_before_both_objects_were_read_and_then_both_addresses_are_allowed() {
    let mut sim = awaiting(spec());
    assert!(!sim.engine.is_synced() && sim.jobs().is_empty());
    list(&mut sim, both());
    sim.settle();
    assert_eq!(reaches(&sim), ["10.96.0.1/32 443", "192.0.2.1/32 6443"]);
    assert_eq!(gap(&mut sim), None);
    let found = told(&mut sim).kubernetes_api.unwrap().found;
    assert_eq!(found[0].source, "Service default/kubernetes");
}

#[test]
fn a_baseline_without_such_an_allow_waits_for_nothing_and_says_nothing() {
    let mut sim = awaiting(json!({}));
    assert!(sim.engine.is_synced());
    assert_eq!((gap(&mut sim), told(&mut sim).kubernetes_api), (None, None));
    list(&mut sim, both());
    // One that comes later finds what was found before.
    sim.baseline(2, spec());
    sim.settle();
    assert_eq!(reaches(&sim).len(), 2);
}

#[test]
fn i7_an_object_that_is_silent_is_waited_for_ten_seconds_and_no_longer() {
    let mut sim = awaiting(spec());
    sim.pass(SECOND * 9);
    assert!(sim.jobs().is_empty());
    sim.pass(SECOND);
    sim.settle();
    assert_eq!(reaches(&sim), [""; 0]);
    sim.pass(SECOND * 2);
    assert!(sim.status().is_none(), "it may still answer");
    assert_eq!(sim.engine.next_wake(sim.now()), Some(sim.now().instant + SECOND * 18));
    sim.pass(SECOND * 18);
    assert_eq!(gap(&mut sim).unwrap(), "KubernetesAPINotFound");
    list(&mut sim, both());
    assert_eq!((gap(&mut sim), reaches(&sim).len()), (None, 2));
}

#[test]
fn a_status_waits_no_longer_once_the_silent_objects_are_listed() {
    let mut sim = awaiting(spec());
    sim.pass(SECOND * 12);
    sim.settle();
    assert!(sim.status().is_none());
    list(&mut sim, both());
    sim.settle();
    assert_eq!(sim.status().unwrap().kubernetes_api.unwrap().found.len(), 2);
}

#[test]
fn an_allow_that_comes_long_after_the_start_stops_no_work_though_the_objects_are_silent() {
    let mut sim = awaiting(json!({}));
    sim.settle();
    sim.pass(SECOND * 60);
    sim.baseline(2, spec());
    assert!(sim.engine.is_synced(), "and this instance goes on to lead");
    sim.settle();
    assert_eq!(gap(&mut sim).unwrap(), "KubernetesAPINotFound");
}

#[test]
fn what_comes_counts_at_once_and_what_vanishes_is_kept_for_ten_minutes() {
    let mut sim = awaiting(spec());
    list(&mut sim, both());
    sim.settle();
    sim.see(seen(ApiObject::Slice, [192, 0, 2, 2], 6443));
    sim.settle();
    assert_eq!(reaches(&sim), ["10.96.0.1/32 443", "192.0.2.1/32 6443", "192.0.2.2/32 6443"]);
    sim.pass(KEPT.checked_sub(SECOND).unwrap());
    sim.settle();
    assert_eq!(reaches(&sim).len(), 3);
    sim.pass(SECOND);
    sim.settle();
    assert_eq!(reaches(&sim), ["10.96.0.1/32 443", "192.0.2.2/32 6443"]);
}

#[test]
fn i16_a_refused_object_narrows_nothing_not_even_after_a_restart() {
    let mut sim = awaiting(spec());
    list(&mut sim, both());
    sim.settle();
    let status = serde_json::to_value(told(&mut sim)).unwrap();
    refuse(&mut sim);
    sim.pass(KEPT * 2);
    sim.settle();
    assert_eq!(reaches(&sim).len(), 2);
    assert_eq!(gap(&mut sim).unwrap(), "KubernetesAPINotReadable");
    // A new process that may not read them either.
    let mut after = restarted(&sim, status);
    refuse(&mut after);
    after.settle();
    assert_eq!(reaches(&after), reaches(&sim));
}

fn refuse(sim: &mut EngineHarness) {
    for object in ApiObject::VARIANTS {
        sim.see(Event::KubernetesApi(ApiEvent::Unreadable(*object, "forbidden".into())));
    }
    sim.pass(SECOND * 6);
}

/// Another process, which finds the same policies and this status. It has heard nothing of the API server's objects.
fn restarted(old: &EngineHarness, status: Value) -> EngineHarness {
    let mut sim = awaiting_with(|sim| {
        sim.policies.clone_from(&old.policies);
        sim.version = old.version;
        sim.baseline_stored(1, spec(), json!({}), status);
        sim.namespace("a");
        for policy in old.policies.values().cloned() {
            sim.see(Event::Policy(Change::Applied(Box::new(policy))));
        }
    });
    list_but(&mut sim, &[]);
    sim
}

#[test]
fn i2_objects_that_answer_late_after_a_restart_are_no_news() {
    type Answer = fn(&mut EngineHarness);
    let answers: Answer = |sim| list(sim, both());
    for (says, last) in [(answers, None), (refuse as Answer, Some("KubernetesAPINotReadable"))] {
        let mut before = awaiting(spec());
        list(&mut before, both());
        before.settle();
        says(&mut before);
        before.settle();
        assert_eq!(gap(&mut before).as_deref(), last);
        let stored = serde_json::to_value(before.statuses.last().unwrap()).unwrap();
        let mut sim = restarted(&before, stored);
        sim.pass(SECOND * 20);
        sim.settle();
        assert!(sim.engine.is_synced() && sim.jobs().is_empty(), "decisions go on after ten seconds");
        assert!(sim.status().is_none(), "{last:?}: {:?}", sim.statuses.last());
        says(&mut sim);
        sim.settle();
        sim.pass(SECOND * 60);
        sim.settle();
        assert!(sim.jobs().is_empty() && sim.status().is_none(), "{last:?}: {:?}", sim.statuses.last());
    }
}

#[test]
fn the_egress_of_a_called_namespace_opens_before_the_allow_of_the_api_server_goes_or_is_narrowed() {
    const EGRESS: &str = "baseline-default-deny-egress";
    let names = |sim: &EngineHarness| sim.policies.keys().map(|(_, name)| name.clone()).collect::<Vec<_>>();
    let with = |field: &str| {
        let mut spec = spec();
        spec["allows"][0][field] = json!({"matchLabels": {"needs": "api"}});
        spec
    };
    for narrower in [json!({}), with("podSelector"), with("namespaceSelector")] {
        let mut sim = awaiting(spec());
        sim.see(calls("a"));
        list(&mut sim, both());
        sim.settle();
        assert_eq!(names(&sim), [ALLOW, EGRESS], "{narrower}");
        sim.baseline(2, narrower.clone());
        let mut order = Vec::new();
        while sim.answer(|_, policy| {
            order.push(policy.to_owned());
            None
        }) > 0
        {}
        assert_eq!((order, names(&sim)), (vec![EGRESS.to_owned(), ALLOW.to_owned()], vec![]), "{narrower}");
    }
    // What was closed in both directions before the API server called it stays closed.
    let mut sim = awaiting(spec());
    list(&mut sim, both());
    sim.settle();
    sim.see(calls("a"));
    sim.baseline(2, json!({}));
    sim.settle();
    assert_eq!(names(&sim), [EGRESS, "baseline-default-deny-ingress", "baseline-monitoring-carveout"]);
}
