//! A DNS source that cannot be read after a restart takes nothing away from the policies: the stored statuses say what it said before.

use std::time::Duration;

use k8s_openapi::api::networking::v1::NetworkPolicyEgressRule;
use serde_json::{Value, json};

use super::{
    dns::{awaiting, awaiting_with, coverage, hear, list_but, ranges, told},
    harness::EngineHarness,
};
use crate::{
    api::PolicyBaselineStatus,
    engine::facts::event::{Change, Event},
    policy::dns::{DnsEvent, KEPT, SlimDaemonSet, Source},
};

const EGRESS: &str = "baseline-default-deny-egress";
const SECOND: Duration = Duration::from_secs(1);
/// What the RoleBinding in kube-system allows to read.
const OF_KUBE_SYSTEM: [Source; 4] = [Source::Services, Source::Slices, Source::Pods, Source::NodeLocal];

fn node_local() -> DnsEvent {
    let object =
        json!({"metadata": {"name": "node-local-dns"}, "spec": {"selector": {"matchLabels": {"k8s-app": "node-local-dns"}}}});
    DnsEvent::Seen(Source::NodeLocal, "node-local-dns".into(), serde_json::from_value::<SlimDaemonSet>(object).unwrap().into())
}

/// A cluster with kube-dns and NodeLocal DNSCache, as planned and with a stored status.
fn with_cache() -> EngineHarness {
    let mut sim = awaiting();
    hear(&mut sim, node_local());
    list_but(&mut sim, &[Source::NodeLocal]);
    hear(&mut sim, DnsEvent::ListBegins(Source::NodeLocal));
    hear(&mut sim, node_local());
    hear(&mut sim, DnsEvent::ListEnds(Source::NodeLocal));
    told(&mut sim);
    assert_eq!(ranges(&sim), ["10.0.0.10/32", "169.254.20.10/32"]);
    sim
}

/// Another process, which finds the same policies and the stored status. It cannot read the sources of kube-system.
fn restarted(old: EngineHarness, refused: bool) -> EngineHarness {
    let mut sim = awaiting_nothing(old);
    list_but(&mut sim, &OF_KUBE_SYSTEM);
    if refused {
        for source in OF_KUBE_SYSTEM {
            hear(&mut sim, DnsEvent::Unreadable(source, "not allowed".into()));
        }
    }
    sim.pass(SECOND * 10);
    sim
}

fn awaiting_nothing(old: EngineHarness) -> EngineHarness {
    let EngineHarness { policies, version, statuses, .. } = old;
    let status = serde_json::to_value(statuses.last().unwrap()).unwrap();
    awaiting_with(|sim| {
        (sim.policies, sim.version, sim.statuses) = (policies, version, statuses);
        sim.baseline_stored(1, json!({}), json!({}), status);
        sim.namespace("a");
        for policy in sim.policies.values().cloned().collect::<Vec<_>>() {
            sim.see(Event::Policy(Change::Applied(Box::new(policy))));
        }
    })
}

fn egress(sim: &EngineHarness, ns: &str) -> Vec<NetworkPolicyEgressRule> {
    let policy = &sim.policies[&(ns.to_owned(), EGRESS.to_owned())];
    policy.spec.clone().unwrap().egress.unwrap()
}

fn reason(status: &PolicyBaselineStatus) -> String {
    coverage(status).unwrap().reason
}

#[test]
fn i16_a_source_that_is_refused_or_silent_after_a_restart_narrows_no_policy_and_is_a_condition() {
    for refused in [true, false] {
        let mut sim = restarted(with_cache(), refused);
        assert!(sim.jobs().is_empty(), "the policies stay as they are");
        if !refused {
            sim.pass(SECOND * 20);
        }
        let status = told(&mut sim);
        assert_eq!(reason(&status), "DNSNotReadable");
        let message = coverage(&status).unwrap().message;
        assert!(message.contains("services in kube-system") && message.contains("stays allowed"), "{message}");
        assert_eq!(status.dns.unwrap().found.len(), 4, "and the status goes on to say them");
        // So does one more restart.
        let mut sim = restarted(sim, refused);
        assert!(sim.jobs().is_empty());
        sim.namespace("new");
        sim.settle();
        assert_eq!(egress(&sim, "new"), egress(&sim, "a"));
    }
}

#[test]
fn i2_a_source_that_answers_late_after_a_restart_is_no_news() {
    let mut sim = restarted(with_cache(), false);
    sim.pass(SECOND * 19);
    sim.settle();
    assert!(sim.engine.is_synced() && sim.jobs().is_empty() && sim.status().is_none(), "{:?}", sim.statuses.last());
    list_but(&mut sim, &[Source::NodeLocal]);
    hear(&mut sim, DnsEvent::ListBegins(Source::NodeLocal));
    hear(&mut sim, node_local());
    hear(&mut sim, DnsEvent::ListEnds(Source::NodeLocal));
    sim.pass(SECOND * 60);
    sim.settle();
    assert!(sim.jobs().is_empty() && sim.status().is_none(), "{:?}", sim.statuses.last());
}

#[test]
fn i16_a_tenant_who_writes_into_a_policy_meanwhile_neither_widens_nor_narrows_it() {
    let mut sim = restarted(with_cache(), true);
    let before = egress(&sim, "a");
    let anybody: Value = json!([{"to": [{"ipBlock": {"cidr": "198.51.100.7/32"}}], "ports": [{"port": 53, "protocol": "UDP"}]}]);
    for rules in [anybody, json!([])] {
        sim.tamper("a", EGRESS, |policy| policy.spec.as_mut().unwrap().egress = serde_json::from_value(rules).unwrap());
        sim.settle();
        assert_eq!(egress(&sim, "a"), before);
    }
    // Nor does it come in by the next restart.
    sim.tamper("a", EGRESS, |policy| policy.spec.as_mut().unwrap().egress = Some(vec![]));
    let mut sim = restarted(sim, true);
    sim.settle();
    assert_eq!(egress(&sim, "a"), before);
}

#[test]
fn what_was_kept_for_a_source_counts_as_gone_once_the_source_is_read_and_does_not_name_it() {
    let mut sim = restarted(with_cache(), true);
    list_but(&mut sim, &[]);
    assert!(sim.jobs().is_empty());
    let status = told(&mut sim);
    assert_eq!(coverage(&status), None);
    sim.pass(KEPT);
    sim.settle();
    assert_eq!(ranges(&sim), ["10.0.0.10/32"]);
}

#[test]
fn a_leader_that_begins_keeps_what_the_former_one_found() {
    let mut sim = restarted(with_cache(), true);
    sim.lead(false);
    let mut status = serde_json::to_value(sim.statuses.last().unwrap()).unwrap();
    let found = json!({"source": "Service kube-system/second", "what": "10.0.0.11/32 on port 53"});
    status["dns"]["found"].as_array_mut().unwrap().push(found);
    sim.baseline_stored(1, json!({}), json!({"resourceVersion": "9"}), status);
    sim.lead(true);
    sim.settle();
    assert_eq!(ranges(&sim), ["10.0.0.10/32", "10.0.0.11/32", "169.254.20.10/32"]);
}

#[test]
fn the_status_of_a_stalled_baseline_counts_only_if_no_valid_one_says_anything() {
    let told = |last: u8| {
        json!({"dns": {"discovery": "Auto", "found": [
            {"source": "Service kube-system/kube-dns", "what": format!("10.0.0.{last}/32 on port 53")}]}})
    };
    for (of_valid, kept) in [(told(20), "10.0.0.20/32"), (Value::Null, "10.0.0.30/32")] {
        let mut sim = awaiting_with(|sim| {
            sim.baseline_stored(1, json!({}), json!({}), of_valid);
            let stalled = json!({"name": "stalled", "uid": "uid-stalled"});
            sim.baseline_stored(1, json!({"dns": {"peers": [{"ipBlock": {"cidr": "nothing"}}]}}), stalled, told(30));
            sim.namespace("a");
        });
        list_but(&mut sim, &OF_KUBE_SYSTEM);
        sim.pass(SECOND * 10);
        sim.settle();
        assert_eq!(ranges(&sim), [kept]);
    }
}
