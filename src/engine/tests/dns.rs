//! How plans follow the cluster's DNS: they wait until it is known, and they do not flap.

use std::time::Duration;

use k8s_openapi::{api::networking::v1::NetworkPolicyEgressRule, apimachinery::pkg::apis::meta::v1::Condition};
use serde_json::{Value, json};
use strum::VariantArray;

use super::harness::{EngineHarness, OWN, ready};
use crate::{
    api::PolicyBaselineStatus,
    engine::{Engine, facts::event::Event},
    policy::dns::{DnsEvent, KEPT, Object, SlimPod, SlimService, Source},
};

const EGRESS: &str = "baseline-default-deny-egress";
const SECOND: Duration = Duration::from_secs(1);

/// An engine with DNS discovery before the first DNS event. Everything else is listed.
pub fn awaiting() -> EngineHarness {
    awaiting_with(|sim| {
        sim.baseline(1, json!({}));
        sim.namespace("a");
    })
}

/// The same, in a cluster that lists this.
pub fn awaiting_with(listed: impl FnOnce(&mut EngineHarness)) -> EngineHarness {
    let mut sim = EngineHarness::blank();
    sim.engine = Engine::new(OWN).discovering();
    sim.lead(true);
    sim.list_configurations();
    sim.listing(listed);
    sim
}

pub fn hear(sim: &mut EngineHarness, news: DnsEvent) {
    sim.see(Event::Dns(Box::new(news)));
}

pub fn service(name: &str, address: &str) -> DnsEvent {
    let object = json!({"metadata": {"name": name, "labels": {"k8s-app": "kube-dns"}},
        "spec": {"clusterIP": address, "selector": {"k8s-app": "kube-dns"}, "ports": [{"name": "dns", "port": 53}]}});
    DnsEvent::Seen(Source::Services, name.into(), serde_json::from_value::<SlimService>(object).unwrap().into())
}

fn pod_on_the_host_network() -> DnsEvent {
    let object = json!({"metadata": {"name": "p", "labels": {"k8s-app": "kube-dns"}}, "spec": {"hostNetwork": true}});
    let object: Object = serde_json::from_value::<SlimPod>(object).unwrap().into();
    DnsEvent::Seen(Source::Pods, "p".into(), object)
}

/// Lists every source except `silent`; kube-dns has a fixed address.
pub fn list_but(sim: &mut EngineHarness, silent: &[Source]) {
    for source in Source::VARIANTS.iter().copied().filter(|source| !silent.contains(source)) {
        hear(sim, DnsEvent::ListBegins(source));
        if source == Source::Services {
            hear(sim, service("kube-dns", "10.0.0.10"));
        }
        hear(sim, DnsEvent::ListEnds(source));
    }
}

fn settled() -> EngineHarness {
    let mut sim = awaiting();
    list_but(&mut sim, &[]);
    sim.settle();
    told(&mut sim);
    sim
}

/// The ranges of addresses in the egress policy of the namespace.
pub fn ranges(sim: &EngineHarness) -> Vec<String> {
    let policy = &sim.policies[&("a".to_owned(), EGRESS.to_owned())];
    let rules = policy.spec.iter().flat_map(|spec| spec.egress.iter().flatten());
    let peers = rules.flat_map(|rule: &NetworkPolicyEgressRule| rule.to.iter().flatten());
    peers.filter_map(|peer| Some(peer.ip_block.as_ref()?.cidr.clone())).collect()
}

/// The latest status, after all due writes.
pub fn told(sim: &mut EngineHarness) -> PolicyBaselineStatus {
    sim.settle();
    sim.pass(SECOND * 2);
    sim.status();
    sim.statuses.last().unwrap().clone()
}

pub fn coverage(status: &PolicyBaselineStatus) -> Option<Condition> {
    status.conditions.iter().find(|c| c.type_ == "DNSCoverage").cloned()
}

#[test]
fn nothing_is_planned_before_every_source_of_dns_was_heard() {
    let mut sim = awaiting();
    assert!(!sim.engine.is_synced() && sim.jobs().is_empty());
    list_but(&mut sim, &[Source::Slices]);
    assert!(sim.jobs().is_empty(), "a plan without it could be narrower than the one that stands in the cluster");
    list_but(&mut sim, &[]);
    sim.settle();
    assert_eq!(ranges(&sim), ["10.0.0.10/32"]);
}

#[test]
fn i7_a_source_that_is_silent_is_waited_for_ten_seconds_and_no_longer() {
    let mut sim = awaiting();
    list_but(&mut sim, &[Source::Slices]);
    let end = sim.now().instant + SECOND * 10;
    sim.pass(SECOND * 9);
    assert!(sim.jobs().is_empty());
    assert_eq!(sim.engine.next_wake(sim.now()), Some(end));
    sim.pass(SECOND);
    sim.settle();
    assert_eq!(ranges(&sim), ["10.0.0.10/32"]);
    sim.pass(SECOND * 2);
    assert!(sim.status().is_none(), "it may still answer");
    let reported = end + SECOND * 20;
    assert_eq!(sim.engine.next_wake(sim.now()), Some(reported));
    sim.pass(reported - sim.now().instant);
    let notes = told(&mut sim).dns.unwrap().notes;
    assert!(notes.len() == 1 && notes[0].contains("endpointslices in kube-system: not read yet"), "{notes:?}");
    hear(&mut sim, DnsEvent::ListBegins(Source::Slices));
    hear(&mut sim, DnsEvent::ListEnds(Source::Slices));
    assert!(told(&mut sim).dns.unwrap().notes.is_empty());
}

#[test]
fn a_status_waits_no_longer_once_the_silent_source_answers_or_is_refused_for_long() {
    type Answer = fn(&mut EngineHarness);
    let answer = |sim: &mut EngineHarness| {
        hear(sim, DnsEvent::ListBegins(Source::Slices));
        hear(sim, DnsEvent::ListEnds(Source::Slices));
    };
    let refuse = |sim: &mut EngineHarness| {
        hear(sim, DnsEvent::Unreadable(Source::Slices, "not allowed".into()));
        sim.pass(SECOND * 5);
    };
    for (answers, notes) in [(answer as Answer, 0), (refuse as Answer, 1)] {
        let mut sim = awaiting();
        list_but(&mut sim, &[Source::Slices]);
        sim.pass(SECOND * 12);
        sim.settle();
        assert!(sim.status().is_none());
        answers(&mut sim);
        sim.settle();
        assert_eq!(sim.status().unwrap().dns.unwrap().notes.len(), notes);
    }
}

#[test]
fn i7_a_source_that_is_refused_holds_nothing_up_and_is_told() {
    let mut sim = awaiting();
    list_but(&mut sim, &[Source::OpenShiftService]);
    let refused = || DnsEvent::Unreadable(Source::OpenShiftService, "not allowed".into());
    hear(&mut sim, refused());
    assert!(sim.jobs().is_empty(), "an apiserver that has just started refuses everything");
    let lasts = sim.now().instant + SECOND * 5;
    sim.pass(SECOND * 4);
    hear(&mut sim, refused());
    assert!(sim.jobs().is_empty());
    assert_eq!(sim.engine.next_wake(sim.now()), Some(lasts));
    sim.pass(SECOND);
    sim.settle();
    assert_eq!(ranges(&sim), ["10.0.0.10/32"]);
    let status = told(&mut sim);
    assert!(status.effective_selector.contains("openshift-dns"), "who knows whether DNS is there");
    assert_eq!(status.dns.unwrap().notes, ["service openshift-dns/dns-default: not allowed"]);
    // The answer of the source counts as soon as the operator may read it again.
    hear(&mut sim, DnsEvent::ListBegins(Source::OpenShiftService));
    hear(&mut sim, DnsEvent::ListEnds(Source::OpenShiftService));
    let status = told(&mut sim);
    assert!(!status.effective_selector.contains("openshift-dns") && status.dns.unwrap().notes.is_empty());
}

#[test]
fn a_change_of_dns_plans_every_namespace_anew_and_what_went_is_kept_for_ten_minutes() {
    let mut sim = settled();
    hear(&mut sim, service("kube-dns", "10.0.0.11"));
    sim.settle();
    assert_eq!(ranges(&sim), ["10.0.0.10/32", "10.0.0.11/32"], "new ones come before old ones go");
    let went = sim.now().instant;
    hear(&mut sim, DnsEvent::Gone(Source::Services, "kube-dns".into()));
    sim.settle();
    assert_eq!(ranges(&sim).len(), 2);
    let found = told(&mut sim).dns.unwrap().found;
    assert!(found.iter().all(|found| found.source.ends_with("(gone, kept for 10 minutes)")), "{found:?}");
    assert_eq!(sim.engine.next_wake(sim.now()), Some(went + KEPT));
    sim.pass(KEPT);
    sim.settle();
    assert_eq!(ranges(&sim), [] as [&str; 0]);
    let notes = told(&mut sim).dns.unwrap().notes;
    assert!(notes[0].starts_with("no DNS was found"), "{notes:?}");
}

/// Where no nameserver of pods is known, the Service is taken as DNS by its name.
#[test]
fn a_namespace_that_is_left_out_for_a_service_that_may_be_dns_stays_so_for_ten_minutes_after_the_service_is_gone() {
    let mut sim = settled();
    let is_left_out = |sim: &mut EngineHarness| told(sim).effective_selector.contains("openshift-dns");
    assert!(!is_left_out(&mut sim));
    let object = json!({"metadata": {"name": "dns-default"}, "spec": {"clusterIP": "None", "ports": [{"port": 53}]}});
    let object: Object = serde_json::from_value::<SlimService>(object).unwrap().into();
    hear(&mut sim, DnsEvent::Seen(Source::OpenShiftService, "dns-default".into(), object));
    assert!(is_left_out(&mut sim), "it names no place, and may be DNS all the same");
    hear(&mut sim, DnsEvent::Gone(Source::OpenShiftService, "dns-default".into()));
    let end = sim.now().instant + KEPT;
    assert!(is_left_out(&mut sim));
    assert_eq!(sim.engine.next_wake(sim.now()), Some(end));
    sim.pass(end - sim.now().instant);
    assert!(!is_left_out(&mut sim));
}

#[test]
fn i2_what_says_nothing_new_of_dns_writes_nothing() {
    let mut sim = settled();
    hear(&mut sim, service("kube-dns", "10.0.0.10"));
    // The same list again.
    list_but(&mut sim, &[]);
    assert!(sim.jobs().is_empty());
    sim.pass(SECOND * 2);
    assert!(sim.status().is_none());
    assert_eq!(sim.engine.next_wake(sim.now()), None);
}

#[test]
fn i2_a_refusal_that_does_not_last_is_no_news_and_one_that_does_changes_no_policy() {
    let mut sim = settled();
    let refused = || DnsEvent::Unreadable(Source::Services, "not allowed".into());
    hear(&mut sim, refused());
    sim.pass(SECOND * 10);
    assert!(sim.status().is_none());
    list_but(&mut sim, &[]);
    sim.pass(SECOND * 60);
    assert!(sim.jobs().is_empty() && sim.status().is_none());
    hear(&mut sim, refused());
    let lasts = sim.now().instant + SECOND * 30;
    assert_eq!(sim.engine.next_wake(sim.now()), Some(lasts));
    sim.pass(SECOND * 30);
    assert!(sim.jobs().is_empty(), "what it said stays");
    assert_eq!(told(&mut sim).dns.unwrap().notes, ["services in kube-system: not allowed"]);
    assert_eq!(sim.engine.next_wake(sim.now()), None);
}

#[test]
fn what_a_list_does_not_name_has_gone() {
    let mut sim = settled();
    hear(&mut sim, DnsEvent::ListBegins(Source::Services));
    sim.pass(SECOND);
    assert!(sim.jobs().is_empty(), "a list that is under way says nothing yet");
    hear(&mut sim, service("other", "10.0.0.12"));
    hear(&mut sim, DnsEvent::ListEnds(Source::Services));
    sim.settle();
    sim.pass(KEPT);
    sim.settle();
    assert_eq!(ranges(&sim), ["10.0.0.12/32"]);
}

#[test]
fn what_no_policy_can_express_is_a_condition_and_changes_no_policy() {
    let mut sim = settled();
    hear(&mut sim, pod_on_the_host_network());
    assert!(sim.jobs().is_empty());
    let status = told(&mut sim);
    let condition = coverage(&status).unwrap();
    assert_eq!((&*condition.status, &*condition.reason), ("False", "DNSNotExpressible"));
    assert!(condition.message.contains("spec.dns.peers"), "{}", condition.message);
    hear(&mut sim, DnsEvent::Gone(Source::Pods, "p".into()));
    assert_eq!(coverage(&told(&mut sim)), None);
}

#[test]
fn static_and_suspended_baselines_do_not_follow() {
    for (spec, kept) in [(json!({"dns": {"discovery": "Static"}}), 0), (json!({"suspend": true}), 1)] {
        let mut sim = settled();
        sim.baseline(2, spec);
        sim.settle();
        hear(&mut sim, service("second", "10.0.0.11"));
        sim.settle();
        assert_eq!(ranges(&sim).len(), kept);
    }
}

#[test]
fn a_stalled_baseline_keeps_what_its_status_said_of_dns() {
    let mut sim = settled();
    let before = told(&mut sim).dns;
    assert!(before.as_ref().is_some_and(|dns| !dns.found.is_empty()));
    sim.baseline(2, json!({"dns": {"ports": [70000]}}));
    let status = told(&mut sim);
    assert_eq!((status.conditions.last().unwrap().status.as_str(), status.dns), ("True", before));
    let spec: Value = json!({});
    sim.baseline(3, spec);
    sim.settle();
    assert_eq!(ranges(&sim), ["10.0.0.10/32"]);
}

#[test]
fn a_release_that_waits_goes_on_waiting_when_dns_goes_or_cannot_be_read_any_more() {
    let mut sim = settled();
    let selecting = |tier: &str| json!({"namespaceSelector": {"matchLabels": {"tier": tier}}});
    sim.baseline(2, selecting("prod"));
    for n in 0..12 {
        sim.namespace_with(&format!("n{n}"), json!({"tier": "prod"}));
    }
    sim.settle();
    sim.baseline(3, selecting("prdo"));
    sim.settle();
    // The DNS status changes, but no plan does.
    hear(&mut sim, DnsEvent::Gone(Source::Services, "kube-dns".into()));
    sim.namespace_with("n1", json!({"tier": "prod", "touched": "yes"}));
    assert_eq!(sim.jobs().len(), 0, "nothing is released");
    assert_eq!(ready(&told(&mut sim)), "AwaitingConfirmation");
}
