//! What others do against a baseline: they change its policies again and again, bypass it, or used its names before.

use std::time::Duration;

use serde_json::{Value, json};

use super::harness::{EngineHarness, entries, ready};
use crate::{
    api::{
        PurposeKind,
        backends::{Configuration, ConfigurationKind::Crd},
        reason::EventReason,
    },
    engine::{
        facts::event::{Change, Event},
        sample::MetricSample,
        writes::{Announcement, Done, Wrote},
    },
};

const EGRESS: &str = "baseline-default-deny-egress";
const INGRESS: &str = "baseline-default-deny-ingress";
const SECOND: Duration = Duration::from_secs(1);

/// The announcements for that reason.
pub fn told(sim: &mut EngineHarness, reason: EventReason) -> Vec<Announcement> {
    sim.announcements().into_iter().filter(|a| a.reason == reason).collect()
}

/// The reasons of the violations, with their policies.
pub fn violations(sim: &mut EngineHarness) -> Vec<(String, String)> {
    sim.pass(SECOND * 2);
    sim.status();
    let status = sim.statuses.last().unwrap();
    entries(status).into_iter().map(|(reason, policy)| (reason, policy.unwrap_or_default())).collect()
}

/// Somebody deletes a policy, and it is repaired, five times.
fn contested() -> EngineHarness {
    let mut sim = EngineHarness::protected();
    sim.announcements();
    sim.engine.take_samples();
    for _ in 0..5 {
        sim.pass(SECOND);
        sim.delete("a", EGRESS);
        sim.settle();
    }
    sim
}

/// Somebody changes a label of the policy.
fn relabel(sim: &mut EngineHarness) {
    sim.tamper("a", EGRESS, |policy| {
        policy.metadata.labels.as_mut().unwrap().insert("policybaseline.io/role".into(), "x".into());
    });
}

#[test]
fn i7_a_contested_policy_that_is_opened_again_and_again_is_closed_a_second_after_each_repair() {
    let mut sim = contested();
    for round in 0..50 {
        if round % 2 == 0 {
            sim.delete("a", EGRESS);
        } else {
            sim.tamper("a", EGRESS, |policy| policy.spec.as_mut().unwrap().egress = Some(vec![Default::default()]));
        }
        assert_eq!(sim.answer(|_, _| None), 0, "its repair waits");
        sim.pass(SECOND);
        assert_eq!(sim.answer(|_, _| None), 1, "round {round}");
    }
}

#[test]
fn a_contested_policy_of_which_only_a_label_is_changed_is_repaired_later_and_later_and_never_given_up() {
    let mut sim = contested();
    // Sources that have not answered for half a minute are given up. Then everything is planned again, and contested policies wait no more.
    sim.pass(SECOND * 20);
    sim.settle();
    let wait = |sim: &mut EngineHarness| {
        relabel(sim);
        (0..=30).find(|_| {
            let written = sim.answer(|_, _| None) > 0;
            if !written {
                sim.pass(SECOND);
            }
            written
        })
    };
    let waits: Vec<i32> = (0..20).map(|_| wait(&mut sim).unwrap()).collect();
    assert!(waits.is_sorted() && waits.iter().zip([0, 2, 4, 8]).all(|(wait, least)| *wait >= least), "{waits:?}");
    assert!(waits[10..].iter().all(|wait| *wait == 30), "{waits:?}");
}

#[test]
fn a_contest_is_told_once_in_an_event_and_in_the_metrics_and_stays_in_the_status_while_it_lasts() {
    let mut sim = contested();
    // The contest goes on: each repair now waits for some seconds.
    for _ in 0..3 {
        sim.delete("a", EGRESS);
        sim.pass(SECOND * 10);
        sim.settle();
    }
    let events = told(&mut sim, EventReason::PolicyContested);
    assert!(events.len() == 1 && events[0].policy == EGRESS && events[0].note.contains("5 times within a minute"), "{events:?}");
    let counted = |sim: &mut EngineHarness| {
        sim.engine.take_samples().into_iter().filter(|h| matches!(h, MetricSample::Contested(_))).collect::<Vec<_>>()
    };
    assert_eq!(counted(&mut sim), [MetricSample::Contested(Some(PurposeKind::DefaultDenyEgress))]);
    let expected = [("Contested".to_owned(), EGRESS.to_owned())];
    assert_eq!(violations(&mut sim), expected);
    let since = sim.statuses.last().unwrap().violations[0].since.clone();
    relabel(&mut sim);
    sim.settle();
    assert_eq!(violations(&mut sim), expected);
    assert_eq!(ready(sim.statuses.last().unwrap()), "WritingPolicies", "it is not as planned while its repair waits");
    sim.pass(SECOND * 30);
    sim.settle();
    assert_eq!(violations(&mut sim), expected);
    assert_eq!((ready(sim.statuses.last().unwrap()), &sim.statuses.last().unwrap().violations[0].since), ("Protected", &since));
    assert!(told(&mut sim, EventReason::PolicyContested).is_empty() && counted(&mut sim).is_empty());
    sim.pass(SECOND * 120);
    sim.settle();
    assert_eq!(violations(&mut sim), []);
}

#[test]
fn i7_a_contested_policy_delays_no_other_one() {
    let mut sim = contested();
    sim.delete("a", EGRESS);
    sim.delete("a", INGRESS);
    sim.namespace("b");
    sim.settle();
    let stored = |ns: &str, policy: &str| sim.policies.contains_key(&(ns.to_owned(), policy.to_owned()));
    assert!(!stored("a", EGRESS) && stored("a", INGRESS) && stored("b", EGRESS));
}

#[test]
fn a_contested_policy_follows_a_new_plan_at_once() {
    let mut sim = contested();
    sim.delete("a", EGRESS);
    sim.baseline(2, json!({"metadata": {"labels": {"x": "y"}}}));
    sim.settle();
    assert!(sim.policies.contains_key(&("a".into(), EGRESS.into())));
}

/// A policy of a tenant.
pub fn policy(sim: &mut EngineHarness, ns: &str, name: &str, spec: Value) {
    sim.version += 1;
    let meta = json!({"namespace": ns, "name": name, "uid": format!("uid-{name}"), "resourceVersion": sim.version.to_string()});
    let object = serde_json::from_value(json!({"metadata": meta, "spec": spec})).unwrap();
    sim.see(Event::Policy(Change::Applied(Box::new(object))));
}

pub fn open() -> Value {
    json!({"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{}]})
}

#[test]
fn a_policy_that_opens_what_the_baseline_closes_is_reported_and_left_alone() {
    let mut sim = EngineHarness::protected();
    policy(&mut sim, "a", "allow-all", open());
    assert_eq!(sim.answer(|_, _| None), 0);
    let events = told(&mut sim, EventReason::BaselineBypassed);
    assert!(events.len() == 1 && events[0].policy == "allow-all" && events[0].uid.is_some(), "{events:?}");
    assert!(events[0].note.contains("spec.ingress[0] lets everybody reach every pod on all ports"), "{}", events[0].note);
    assert_eq!(violations(&mut sim), [("Bypassed".to_owned(), "allow-all".to_owned())]);
    let status = sim.statuses.last().unwrap();
    assert_eq!((status.namespaces.bypassed, status.namespaces.protected, ready(status)), (1, 1, "Protected"));
    // It is announced once, and again when it opens something else.
    policy(&mut sim, "a", "allow-all", open());
    sim.settle();
    assert!(told(&mut sim, EventReason::BaselineBypassed).is_empty());
    policy(
        &mut sim,
        "a",
        "allow-all",
        json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"], "ingress": [{}], "egress": [{}]}),
    );
    sim.settle();
    assert_eq!(told(&mut sim, EventReason::BaselineBypassed).len(), 1);
    policy(
        &mut sim,
        "a",
        "allow-all",
        json!({"podSelector": {"matchLabels": {"app": "web"}}, "policyTypes": ["Ingress"], "ingress": [{}]}),
    );
    sim.settle();
    assert_eq!(violations(&mut sim), []);
    assert_eq!(sim.statuses.last().unwrap().namespaces.bypassed, 0);
}

#[test]
fn i7_a_policy_that_is_too_large_to_judge_is_reported_and_counts_as_no_bypass() {
    let mut sim = EngineHarness::protected();
    // All addresses, in pieces of which every second one is on another set of ports.
    let pieces = |skip: u32, ports: Value| {
        let cidr = |n: u32| json!({"ipBlock": {"cidr": format!("{}/16", std::net::Ipv4Addr::from_bits(n << 16))}});
        json!({"from": (skip..0x1_0000).step_by(2).map(cidr).collect::<Value>(), "ports": ports})
    };
    let rules = json!([pieces(0, json!([{"port": 80}, {"port": 443}])), pieces(1, json!([{"port": 443}, {"port": 8443}]))]);
    policy(&mut sim, "a", "large", json!({"podSelector": {}, "policyTypes": ["Ingress"], "ingress": rules}));
    assert_eq!(sim.answer(|_, _| None), 0);
    assert_eq!(violations(&mut sim), [("TooLargeToJudge".to_owned(), "large".to_owned())]);
    let status = sim.statuses.last().unwrap();
    assert_eq!((status.namespaces.bypassed, ready(status)), (0, "Protected"));
    assert!(status.violations[0].message.starts_with("spec.ingress: too many rules, blocks and ports"), "{status:?}");
    assert!(sim.announcements().is_empty());
    // A baseline that leaves ingress open has nothing to report.
    sim.baseline(2, json!({"policies": ["DefaultDenyEgress"]}));
    sim.settle();
    assert_eq!(violations(&mut sim), []);
}

#[test]
fn what_a_baseline_does_not_close_is_no_bypass() {
    let mut sim = EngineHarness::new();
    sim.baseline(1, json!({"policies": ["DefaultDenyEgress"]}));
    sim.namespace("a");
    sim.settle();
    policy(&mut sim, "a", "allow-all", open());
    // In a namespace that no baseline selects, nothing counts as bypassed.
    sim.namespace("kube-system");
    policy(&mut sim, "kube-system", "allow-all", open());
    sim.settle();
    assert_eq!(violations(&mut sim), []);
}

#[test]
fn i2_a_bypass_that_is_found_at_the_start_is_no_news() {
    let mut sim = EngineHarness::unsynced();
    sim.listing(|sim| {
        sim.baseline(1, json!({"existingNamespaces": "Enforce"}));
        sim.namespace("a");
        policy(sim, "a", "allow-all", open());
    });
    sim.settle();
    assert!(told(&mut sim, EventReason::BaselineBypassed).is_empty());
    assert_eq!(violations(&mut sim), [("Bypassed".to_owned(), "allow-all".to_owned())]);
}

#[test]
fn a_namespace_tells_its_widest_bypasses_and_no_more() {
    let mut sim = EngineHarness::protected();
    for n in 0..10 {
        policy(
            &mut sim,
            "a",
            &format!("some-{n}"),
            json!({"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{"ports": [{"port": 80}]}]}),
        );
    }
    policy(&mut sim, "a", "widest", open());
    sim.settle();
    let told = violations(&mut sim);
    assert_eq!((told.len(), &*told[0].1), (5, "widest"));
    assert_eq!(sim.statuses.last().unwrap().namespaces.bypassed, 1, "namespaces are counted, not policies");
}

#[test]
fn what_a_policy_held_that_was_taken_over_is_told_whatever_the_cause() {
    for settled in [true, false] {
        let mut sim = if settled { EngineHarness::protected() } else { EngineHarness::new() };
        sim.namespace("a");
        policy(&mut sim, "a", INGRESS, open());
        if !settled {
            sim.settle();
            sim.baseline(1, json!({"existingNamespaces": "Enforce"}));
        }
        sim.announcements();
        let job = sim.jobs().pop().unwrap();
        let write = |task: &crate::engine::writes::Task| match sim.policies_write(&job, &task.drift.policy, &task.drift.fix) {
            Wrote::Applied { stored, .. } => Ok(Wrote::Applied { stored, before: Some("é".repeat(2000)) }),
            other => Ok(other),
        };
        let results = job.tasks.iter().map(write).collect();
        let now = sim.now();
        sim.engine.done(Done { job, results }, now);
        let events = told(&mut sim, EventReason::PolicyAdopted);
        assert!(events.len() == 1 && events[0].policy == INGRESS, "{settled}: {events:?}");
        assert!(events[0].note.contains("before: éé") && events[0].note.contains("… (the log"), "{}", events[0].note);
    }
}

#[test]
fn kinds_of_policies_that_are_not_looked_at_are_told_and_nothing_waits_for_them() {
    let mut sim = EngineHarness::protected();
    let coverage = |sim: &mut EngineHarness| {
        sim.pass(SECOND * 2);
        sim.status();
        let conditions = &sim.statuses.last().unwrap().conditions;
        conditions.iter().find(|c| c.type_ == "BypassCoverage").map(|c| (c.status.clone(), c.reason.clone(), c.message.clone()))
    };
    assert_eq!(coverage(&mut sim), None);
    let kind = "ciliumnetworkpolicies.cilium.io";
    let crd = |name: &str| {
        Event::Configuration(
            Crd,
            Change::Applied(Configuration { kind: Crd, name: name.into(), services: vec![], missing_fields: vec![] }),
        )
    };
    sim.see(Event::Configuration(Crd, Change::ListBegan));
    sim.see(crd(kind));
    sim.see(crd("policybaselines.policybaseline.io"));
    sim.see(Event::Configuration(Crd, Change::ListDone));
    let (status, reason, message) = coverage(&mut sim).unwrap();
    assert_eq!((&*status, &*reason), ("False", "NetworkPolicyOnly"));
    assert!(message.contains(kind));
    let written = sim.statuses.len();
    sim.see(crd(kind));
    assert!(coverage(&mut sim).is_some() && sim.statuses.len() == written, "the same again is no news");
    sim.see(Event::Configuration(
        Crd,
        Change::Deleted(Configuration { kind: Crd, name: kind.into(), services: vec![], missing_fields: vec![] }),
    ));
    assert_eq!(coverage(&mut sim), None);
}

#[test]
fn i7_a_label_that_goes_back_and_forth_causes_few_writes_and_an_opening_is_closed_all_the_same() {
    let mut sim = EngineHarness::new();
    sim.baseline(1, json!({"namespaceSelector": {"matchLabels": {"team": "a"}}}));
    let flip = |sim: &mut EngineHarness, name: &str, team: &str| sim.namespace_with(name, json!({"team": team}));
    flip(&mut sim, "a", "a");
    sim.settle();
    let mut writes = 0;
    for _ in 0..50 {
        for team in ["b", "a"] {
            flip(&mut sim, "a", team);
            sim.answer(|_, _| {
                writes += 1;
                None
            });
        }
    }
    assert!((15..=32).contains(&writes), "thirty writes in all, and what is left of the last job: {writes}");
    // Another namespace does not wait, and nor does an opening in this one.
    flip(&mut sim, "b", "a");
    assert_eq!(sim.answer(|_, _| None), 1);
    for _ in 0..12 {
        sim.pass(SECOND * 20);
        sim.settle();
    }
    assert_eq!(sim.policies.len(), 6, "everything is in place in the end");
    for _ in 0..20 {
        flip(&mut sim, "a", "b");
        sim.answer(|_, _| None);
        flip(&mut sim, "a", "a");
        sim.answer(|_, _| None);
    }
    sim.pass(SECOND * 3);
    sim.settle();
    sim.tamper("a", EGRESS, |policy| policy.spec.as_mut().unwrap().egress = Some(vec![Default::default()]));
    assert_eq!(sim.answer(|_, _| None), 1);
}
