//! Namespaces with Services that the API server calls: which of them stay open, which do not, and what is reported.
//!
//! One file: the tests share their scene.

use std::time::Duration;

use serde_json::{Value, json};
use strum::VariantArray;

use super::harness::{EngineHarness, entries, named, ready, service, service_named};
use crate::{
    api::{
        backends::{Configuration, ConfigurationKind, ServiceName},
        baseline::NamespaceCounts,
        reason::{EventReason, Failure, NoticeReason},
    },
    engine::{
        facts::event::{Change, Event, ListRefusal},
        writes::Announcement,
    },
};

const INGRESS: &str = "baseline-default-deny-ingress";
const EGRESS: &str = "baseline-default-deny-egress";
const CARVEOUT: &str = "baseline-monitoring-carveout";
const ALL: [&str; 3] = [EGRESS, INGRESS, CARVEOUT];
const SECOND: Duration = Duration::from_secs(1);

/// A configuration calls the Service `webhook` of that namespace.
pub fn calls(namespace: &str) -> Event {
    let service = ServiceName { namespace: namespace.into(), name: "webhook".into() };
    Event::Configuration(
        ConfigurationKind::Validating,
        Change::Applied(Configuration {
            kind: ConfigurationKind::Validating,
            name: "v".into(),
            services: vec![service],
            missing_fields: vec![],
        }),
    )
}

/// The calling object is deleted, and the time of the hold is over.
fn call_no_more(sim: &mut EngineHarness) {
    sim.see(Event::Configuration(
        ConfigurationKind::Validating,
        Change::Deleted(Configuration {
            kind: ConfigurationKind::Validating,
            name: "v".into(),
            services: vec![],
            missing_fields: vec![],
        }),
    ));
    sim.settle();
    sim.pass(SECOND * 10);
}

/// A new engine that reads the stored state, as after a restart.
fn restarted(sim: EngineHarness, spec: &Value, namespaces: &[&str]) -> EngineHarness {
    let mut after = EngineHarness::unsynced();
    (after.policies, after.version) = (sim.policies, sim.version);
    after.see(calls("a"));
    after.listing(|sim| {
        sim.baseline(1, spec.clone());
        for ns in namespaces {
            sim.namespace(ns);
        }
        for object in sim.policies.values().cloned().collect::<Vec<_>>() {
            sim.see(Event::Policy(Change::Applied(Box::new(object))));
        }
    });
    after
}

fn held(sim: &EngineHarness, ns: &str) -> Vec<String> {
    sim.policies.keys().filter(|(of, _)| of == ns).map(|(_, name)| name.clone()).collect()
}

fn counts(sim: &mut EngineHarness) -> NamespaceCounts {
    sim.pass(SECOND * 2);
    sim.status();
    sim.statuses.last().unwrap().namespaces
}

fn violations(sim: &mut EngineHarness) -> Vec<String> {
    counts(sim);
    entries(sim.statuses.last().unwrap()).into_iter().map(|(reason, _)| reason).collect()
}

fn told(sim: &mut EngineHarness) -> Vec<Announcement> {
    sim.engine.take_announcements().into_iter().filter(|a| a.reason == EventReason::ControlPlaneBlocked).collect()
}

fn new(spec: &Value) -> EngineHarness {
    let mut sim = EngineHarness::new();
    sim.baseline(1, spec.clone());
    sim.settle();
    sim
}

#[test]
fn a_namespace_that_serves_the_control_plane_is_left_alone_until_it_serves_no_more() {
    let mut sim = new(&json!({}));
    sim.see(calls("a"));
    sim.namespace("a");
    sim.namespace("b");
    sim.settle();
    assert_eq!((held(&sim, "a"), held(&sim, "b")), (vec![], ALL.map(String::from).to_vec()));
    let NamespaceCounts { selected, protected, held: counted, .. } = counts(&mut sim);
    assert_eq!((selected, protected, counted), (2, 1, 1), "each is counted once");
    let status = sim.statuses.last().unwrap();
    assert_eq!(ready(status), "NamespacesHeld");
    assert!(status.conditions[1].message.contains("in 1 the API server calls a Service"), "{:?}", status.conditions[1]);
    let [notice] = &status.notices[..] else { panic!("{status:?}") };
    assert_eq!((notice.reason, &notice.policy), (NoticeReason::ServesControlPlane, &None));
    assert!(notice.message.contains("ValidatingWebhookConfiguration/v calls Service webhook"), "{notice:?}");
    assert!(notice.message.contains("excludeNamespaces"), "{notice:?}");

    call_no_more(&mut sim);
    sim.settle();
    assert_eq!(held(&sim, "a"), ALL);
    assert_eq!((counts(&mut sim).held, violations(&mut sim)), (0, vec![]));
    assert!(sim.statuses.last().unwrap().recent_drift.is_empty(), "that was no drift");
    assert_eq!(told(&mut sim).len(), 0);
}

/// The Service of that namespace is deleted.
fn no_service(namespace: &str) -> Event {
    let Event::Configuration(kind, Change::Applied(service)) = service(namespace) else { panic!() };
    Event::Configuration(kind, Change::Deleted(service))
}

#[test]
fn a_configuration_that_names_no_existing_service_holds_nothing() {
    let mut sim = new(&json!({}));
    sim.see(calls("old-addon-system"));
    sim.namespace("old-addon-system");
    sim.settle();
    assert_eq!((held(&sim, "old-addon-system"), violations(&mut sim)), (ALL.map(String::from).to_vec(), vec![]));
    // Whoever creates the Service afterwards opens nothing by that.
    sim.see(service("old-addon-system"));
    sim.settle();
    assert_eq!(held(&sim, "old-addon-system"), ALL);
    assert_eq!(violations(&mut sim), ["ControlPlaneBlocked"]);
    // The end of a Service ends the hold, but not soon: one that is replaced may be gone for minutes.
    sim.see(calls("a"));
    sim.namespace("a");
    sim.settle();
    assert!(held(&sim, "a").is_empty());
    sim.see(no_service("a"));
    sim.pass(SECOND * 599);
    sim.settle();
    assert!(held(&sim, "a").is_empty());
    sim.pass(SECOND);
    sim.settle();
    assert_eq!(held(&sim, "a"), ALL);
}

#[test]
fn a_service_that_is_replaced_ends_no_hold_unless_the_configuration_goes_too() {
    let mut sim = new(&json!({}));
    sim.see(calls("a"));
    sim.namespace("a");
    sim.settle();
    sim.see(no_service("a"));
    // Another Service of the namespace is created first.
    sim.see(service_named("a", "metrics"));
    sim.pass(SECOND * 300);
    sim.settle();
    assert!(held(&sim, "a").is_empty());
    sim.see(service("a"));
    sim.pass(SECOND * 900);
    sim.settle();
    assert!(held(&sim, "a").is_empty());
    sim.see(no_service("a"));
    sim.settle();
    call_no_more(&mut sim);
    sim.settle();
    assert_eq!(held(&sim, "a"), ALL);
}

#[test]
fn i16_while_the_watch_of_services_fails_every_named_one_counts_as_existing() {
    let kind = ConfigurationKind::Service;
    let mut sim = new(&json!({}));
    let fails = |sim: &mut EngineHarness| {
        for _ in 0..5 {
            sim.see(Event::Configuration(kind, Change::Refused(ListRefusal::Forbidden, String::new())));
            sim.pass(SECOND * 15);
            sim.settle();
        }
    };
    fails(&mut sim);
    sim.see(calls("old-addon-system"));
    sim.namespace("old-addon-system");
    sim.settle();
    assert!(held(&sim, "old-addon-system").is_empty(), "its Service may have been created since then");
    sim.see(Event::Configuration(kind, Change::ListBegan));
    sim.see(Event::Configuration(kind, Change::ListDone));
    sim.settle();
    sim.pass(SECOND * 10);
    sim.settle();
    assert_eq!(held(&sim, "old-addon-system"), ALL);
}

#[test]
fn i16_while_services_cannot_be_listed_every_named_one_counts_as_existing() {
    let kind = ConfigurationKind::Service;
    let mut sim = EngineHarness::blank();
    for other in ConfigurationKind::VARIANTS.iter().filter(|other| **other != kind) {
        sim.see(Event::Configuration(*other, Change::ListBegan));
        sim.see(Event::Configuration(*other, Change::ListDone));
    }
    sim.listing(|sim| {
        sim.baseline(1, json!({}));
        sim.namespace("old-addon-system");
    });
    sim.see(calls("old-addon-system"));
    assert_eq!(sim.jobs().len(), 0, "decisions wait for them");
    for _ in 0..2 {
        sim.see(Event::Configuration(kind, Change::Refused(ListRefusal::Forbidden, String::new())));
        sim.pass(SECOND * 6);
    }
    sim.settle();
    assert!(held(&sim, "old-addon-system").is_empty());
    let told = coverage(&mut sim).unwrap();
    assert_eq!(
        told,
        "False NotListed services could not be listed: every Service that is named counts as existing. Apply manifests/base"
    );
    sim.see(Event::Configuration(kind, Change::ListBegan));
    sim.see(Event::Configuration(kind, Change::ListDone));
    sim.settle();
    sim.pass(SECOND * 10);
    sim.settle();
    assert_eq!((held(&sim, "old-addon-system"), coverage(&mut sim)), (ALL.map(String::from).to_vec(), None));
}

#[test]
fn a_namespace_that_is_closed_before_it_serves_stays_closed_and_that_is_told_once() {
    let mut sim = EngineHarness::protected();
    sim.see(calls("a"));
    sim.settle();
    assert_eq!(held(&sim, "a"), ALL);
    assert_eq!((violations(&mut sim), counts(&mut sim).held), (vec!["ControlPlaneBlocked".into()], 0));
    let [event] = &told(&mut sim)[..] else { panic!("it is told once") };
    assert_eq!(event.policy, INGRESS);
    assert!(event.note.contains("ValidatingWebhookConfiguration/v calls Service webhook"), "{event:?}");

    // I1: the policy is repaired as long as it is planned.
    sim.delete("a", INGRESS);
    sim.settle();
    assert_eq!(held(&sim, "a"), ALL);
    // A restarted instance decides the same and announces nothing.
    let mut sim = restarted(sim, &json!({}), &["a"]);
    sim.settle();
    assert_eq!(held(&sim, "a"), ALL);
    assert_eq!((violations(&mut sim), told(&mut sim).len()), (vec!["ControlPlaneBlocked".into()], 0));
}

#[test]
fn enforce_closes_all_and_tells_nothing_and_going_back_to_hold_opens_nothing() {
    let mut sim = new(&json!({}));
    sim.see(calls("a"));
    sim.namespace("a");
    sim.settle();
    assert!(held(&sim, "a").is_empty());
    sim.baseline(2, json!({"controlPlaneBackends": "Enforce"}));
    sim.settle();
    assert_eq!((held(&sim, "a"), violations(&mut sim)), (ALL.map(String::from).to_vec(), vec![]));
    sim.baseline(3, json!({}));
    sim.settle();
    assert_eq!((held(&sim, "a"), violations(&mut sim)), (ALL.map(String::from).to_vec(), vec!["ControlPlaneBlocked".into()]));
}

#[test]
fn a_namespace_that_its_owner_excludes_and_takes_back_is_held() {
    let mut sim = EngineHarness::protected();
    sim.see(calls("a"));
    sim.settle();
    sim.baseline(2, json!({"excludeNamespaces": ["a"]}));
    sim.settle();
    assert!(held(&sim, "a").is_empty());
    sim.baseline(3, json!({}));
    sim.settle();
    assert_eq!((held(&sim, "a"), violations(&mut sim)), (vec![], vec!["ServesControlPlane".into()]));
}

#[test]
fn each_direction_stays_as_it_is_when_a_namespace_begins_to_serve() {
    let (egress, ingress) = (json!({"policies": ["DefaultDenyEgress"]}), json!({"policies": ["DefaultDenyIngress"]}));
    for (spec, policy, message) in
        [(&egress, EGRESS, "this policy cuts the pods off from the API server"), (&ingress, INGRESS, "this policy blocks that")]
    {
        let mut sim = new(spec);
        sim.namespace("a");
        sim.settle();
        sim.see(calls("a"));
        // Neither does the other direction follow an edit, nor does the carve-out, which would close the pods that it selects.
        for (generation, spec) in [(2, spec.clone()), (3, json!({}))] {
            sim.baseline(generation, spec);
            sim.settle();
            let expected: &[&str] = match (policy, generation) {
                (INGRESS, 3) => &[INGRESS, CARVEOUT],
                // Only its egress is closed, as where an allow of the API server was the reason. There is no such allow.
                (_, 3) => break,
                _ => &[policy],
            };
            assert_eq!((held(&sim, "a"), violations(&mut sim)), (owned(expected), vec!["ControlPlaneBlocked".into()]));
            let violation = &sim.statuses.last().unwrap().violations[0];
            assert!(violation.policy.as_deref() == Some(policy) && violation.message.contains(message), "{violation:?}");
            assert_eq!(ready(sim.statuses.last().unwrap()), "ControlPlaneBlocked");
        }
        if policy == EGRESS {
            assert_eq!((held(&sim, "a"), violations(&mut sim)), (vec![], vec!["ServesControlPlane".into()]));
            continue;
        }
        // What somebody deletes is repaired as long as it is planned.
        sim.delete("a", policy);
        sim.settle();
        assert!(held(&sim, "a").contains(&policy.to_owned()));
        // Its owner excludes it.
        sim.baseline(4, json!({"excludeNamespaces": ["a"]}));
        sim.settle();
        sim.baseline(5, json!({}));
        sim.settle();
        assert_eq!((held(&sim, "a"), violations(&mut sim)), (vec![], vec!["ServesControlPlane".into()]));
        assert_eq!(ready(sim.statuses.last().unwrap()), "NamespacesHeld");
    }
}

fn owned(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn audit_and_report_tell_of_it_too_and_plan_nothing() {
    let one = NamespaceCounts { selected: 1, ..NamespaceCounts::default() };
    for (spec, created, counted) in [
        (json!({"mode": "Audit"}), "1970-01-01T00:00:00Z", NamespaceCounts { held: 1, ..one }),
        (json!({}), "1970-01-02T00:00:00Z", NamespaceCounts { reported: 1, ..one }),
    ] {
        let mut sim = EngineHarness::new();
        sim.see(calls("a"));
        sim.namespace("a");
        sim.baseline_with(1, spec, json!({"creationTimestamp": created}));
        sim.settle();
        assert_eq!(counts(&mut sim), counted);
        let status = sim.statuses.last().unwrap();
        let explained = sim.engine.explain("a", sim.now()).unwrap().problems;
        assert_eq!(explained[0].reason, "ServesControlPlane", "it comes first");
        let (serves, others) = status.notices.split_first().unwrap();
        assert_eq!((serves.reason, others.len()), (NoticeReason::ServesControlPlane, counted.reported as usize));
        for other in others {
            assert!(other.message.ends_with("leave it alone too, because the API server calls a Service there"), "{other:?}");
        }
    }
}

#[test]
fn a_write_that_is_under_way_when_a_namespace_begins_to_serve_is_neither_undone_nor_left_untold() {
    let mut sim = new(&json!({}));
    sim.namespace("a");
    let job = sim.jobs().pop().unwrap();
    sim.answer_late(job, |sim| sim.see(calls("a")));
    sim.settle();
    assert_eq!((held(&sim, "a"), violations(&mut sim)), (ALL.map(String::from).to_vec(), vec!["ControlPlaneBlocked".into()]));
    assert_eq!(told(&mut sim).len(), 1);
    // For `b`, one write was decided but not sent, and it is not sent. The failed write is not tried again. Where
    // the API server calls a Service, egress alone is closed only if an allow lets the pods reach the API server.
    call_no_more(&mut sim);
    sim.namespace("b");
    assert_eq!(sim.answer(|_, policy| (policy == INGRESS).then_some(Failure::QuotaExceeded)), 1);
    sim.see(calls("b"));
    sim.pass(SECOND * 60);
    sim.settle();
    assert_eq!(held(&sim, "b"), [""; 0]);
}

/// An engine for which all kinds but one are listed.
fn waiting() -> EngineHarness {
    let mut sim = EngineHarness::blank();
    for kind in &ConfigurationKind::VARIANTS[1..] {
        sim.see(Event::Configuration(*kind, Change::ListBegan));
        if *kind == ConfigurationKind::Service {
            sim.see(service("a"));
        }
        sim.see(Event::Configuration(*kind, Change::ListDone));
    }
    // During an installation, the first answers may come before the permissions, so these refusals do not count.
    for kind in ConfigurationKind::VARIANTS.iter().copied() {
        sim.see(Event::Configuration(kind, Change::Refused(ListRefusal::Forbidden, String::new())));
        sim.see(Event::Configuration(kind, Change::Refused(ListRefusal::Unknown, String::new())));
    }
    sim.listing(|sim| {
        sim.baseline(1, json!({}));
        sim.namespace("a");
    });
    sim
}

/// One kind is refused, and stays refused.
fn refuse(sim: &mut EngineHarness, refusal: ListRefusal) {
    for _ in 0..2 {
        sim.see(Event::Configuration(ConfigurationKind::Validating, Change::Refused(refusal, String::new())));
        sim.pass(SECOND * 6);
    }
}

#[test]
fn a_refusal_that_does_not_last_closes_no_namespace_with_a_webhook() {
    let mut sim = waiting();
    sim.see(Event::Configuration(ConfigurationKind::Validating, Change::Refused(ListRefusal::Forbidden, String::new())));
    sim.pass(SECOND * 3);
    sim.see(Event::Configuration(ConfigurationKind::Validating, Change::Refused(ListRefusal::Forbidden, String::new())));
    assert_eq!(sim.jobs().len(), 0);
    sim.see(Event::Configuration(ConfigurationKind::Validating, Change::ListBegan));
    sim.see(calls("a"));
    sim.see(Event::Configuration(ConfigurationKind::Validating, Change::ListDone));
    sim.settle();
    assert_eq!((held(&sim, "a"), coverage(&mut sim)), (vec![], None));
}

fn coverage(sim: &mut EngineHarness) -> Option<String> {
    counts(sim);
    let conditions = &sim.statuses.last().unwrap().conditions;
    conditions.iter().find(|c| c.type_ == "ControlPlaneCoverage").map(|c| format!("{} {} {}", c.status, c.reason, c.message))
}

#[test]
fn nothing_is_closed_before_what_names_services_is_listed() {
    let mut sim = waiting();
    assert_eq!(sim.jobs().len(), 0);
    sim.pass(SECOND * 20);
    assert_eq!(sim.jobs().len(), 0);
    sim.see(Event::Configuration(ConfigurationKind::Validating, Change::ListBegan));
    sim.see(calls("a"));
    assert_eq!(sim.jobs().len(), 0);
    sim.see(Event::Configuration(ConfigurationKind::Validating, Change::ListDone));
    sim.settle();
    assert_eq!((held(&sim, "a"), coverage(&mut sim)), (vec![], None));
}

#[test]
fn i7_what_may_not_be_listed_or_never_is_holds_up_nothing_for_ever_and_is_said() {
    const KIND: ConfigurationKind = ConfigurationKind::Validating;
    let refused = |sim: &mut EngineHarness| refuse(sim, ListRefusal::Forbidden);
    let in_vain = |sim: &mut EngineHarness| {
        assert_eq!(sim.jobs().len(), 0);
        sim.pass(SECOND * 31);
    };
    for ends in [refused as fn(&mut EngineHarness), in_vain] {
        let mut sim = waiting();
        ends(&mut sim);
        sim.settle();
        assert_eq!(held(&sim, "a"), ALL);
        let told = coverage(&mut sim).unwrap();
        assert!(told.starts_with("False NotListed validatingwebhookconfigurations could not be listed"), "{told}");
        assert_eq!(sim.statuses.last().unwrap().conditions[0].reason, "NotListed", "the first of them by type");
        // Once the operator may list the kind, its objects are known.
        sim.see(Event::Configuration(KIND, Change::ListBegan));
        sim.see(calls("a"));
        sim.see(Event::Configuration(KIND, Change::ListDone));
        sim.settle();
        assert_eq!((coverage(&mut sim), violations(&mut sim)), (None, vec!["ControlPlaneBlocked".into()]));
        // A permission that is removed later does not remove what is known.
        refused(&mut sim);
        assert_eq!((coverage(&mut sim), violations(&mut sim)), (None, vec!["ControlPlaneBlocked".into()]));
    }
}

#[test]
fn an_api_that_the_apiserver_does_not_know_has_no_objects() {
    let mut sim = waiting();
    refuse(&mut sim, ListRefusal::Unknown);
    sim.settle();
    assert_eq!((held(&sim, "a"), coverage(&mut sim)), (ALL.map(String::from).to_vec(), None));
}

#[test]
fn what_a_list_does_not_name_any_more_names_nothing() {
    let mut sim = new(&json!({}));
    sim.see(calls("a"));
    sim.namespace("a");
    sim.settle();
    let kind = ConfigurationKind::Validating;
    sim.see(Event::Configuration(kind, Change::ListBegan));
    sim.see(calls("a"));
    sim.see(Event::Configuration(kind, Change::ListDone));
    sim.settle();
    assert!(held(&sim, "a").is_empty());
    sim.see(Event::Configuration(kind, Change::ListBegan));
    sim.see(Event::Configuration(kind, Change::ListDone));
    sim.settle();
    sim.pass(SECOND * 10);
    sim.settle();
    assert_eq!(held(&sim, "a"), ALL);
}

#[test]
fn a_configuration_that_is_replaced_ends_no_hold() {
    let mut sim = new(&json!({}));
    sim.see(calls("a"));
    sim.namespace("a");
    sim.settle();
    let gone = || {
        Event::Configuration(
            ConfigurationKind::Validating,
            Change::Deleted(Configuration {
                kind: ConfigurationKind::Validating,
                name: "v".into(),
                services: vec![],
                missing_fields: vec![],
            }),
        )
    };
    sim.see(gone());
    sim.pass(SECOND * 9);
    // Another change of the namespace does not end the hold earlier.
    sim.namespace_with("a", json!({"tier": "prod"}));
    sim.settle();
    assert_eq!((held(&sim, "a"), violations(&mut sim)), (vec![], vec!["ServesControlPlane".into()]));
    sim.see(calls("a"));
    sim.pass(SECOND * 60);
    sim.settle();
    assert!(held(&sim, "a").is_empty());
    sim.see(gone());
    let now = sim.now();
    assert_eq!(sim.engine.next_wake(now), Some(now.instant + SECOND * 10));
}

#[test]
fn a_namespace_that_is_made_anew_under_its_name_is_held_though_the_former_was_closed() {
    let mut sim = EngineHarness::protected();
    sim.see(calls("a"));
    sim.settle();
    let gone = named(json!({"name": "a", "uid": "uid-a"}));
    for policy in ALL {
        sim.delete("a", policy);
    }
    sim.see(Event::Namespace(Change::Deleted(gone)));
    sim.namespace("a");
    sim.settle();
    assert!(held(&sim, "a").is_empty());
}

#[test]
fn who_takes_over_decides_as_the_former_leader_did() {
    // While another instance led, the standby saw that the namespace was closed, excluded, and included again.
    let mut sim = EngineHarness::protected();
    sim.lead(false);
    sim.see(calls("a"));
    sim.baseline(2, json!({"excludeNamespaces": ["a"]}));
    assert_eq!(sim.jobs().len(), 0);
    for policy in ALL {
        sim.delete("a", policy);
    }
    assert_eq!(sim.jobs().len(), 0);
    sim.baseline(3, json!({}));
    sim.lead(true);
    sim.settle();
    assert!(held(&sim, "a").is_empty());
}
