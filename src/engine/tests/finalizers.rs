//! Finalizers that others put on our policies: on policies that stay, and on policies that are deleted.

use std::time::Duration;

use k8s_openapi::{api::networking::v1::NetworkPolicyIngressRule, apimachinery::pkg::apis::meta::v1::Time};
use serde_json::json;

use super::harness::{EngineHarness, entries, ready};
use crate::{
    api::baseline::NamespaceCounts,
    engine::writes::{Done, Wrote},
};

const INGRESS: &str = "baseline-default-deny-ingress";
const FOREIGN: &str = "policies.networking.k8s.io/finalizer";
const SECOND: Duration = Duration::from_secs(1);

fn put_on(sim: &mut EngineHarness, policy: &str) {
    sim.tamper("a", policy, |p| p.metadata.finalizers = Some(vec![FOREIGN.into()]));
}

/// Somebody deletes the policy, and a finalizer keeps it.
fn delete_kept(sim: &mut EngineHarness) {
    let now = sim.now().wall;
    sim.tamper("a", INGRESS, |p| {
        p.metadata.finalizers = Some(vec![FOREIGN.into()]);
        p.metadata.deletion_timestamp = Some(Time(now));
    });
}

#[test]
fn i2_a_finalizer_of_others_is_left_alone_and_reported_once_for_a_namespace() {
    let mut sim = EngineHarness::protected();
    sim.engine.take_announcements();
    let policies: Vec<String> = sim.policies.keys().map(|(_, policy)| policy.clone()).collect();
    put_on(&mut sim, INGRESS);
    let status = sim.status_after(0);
    assert_eq!(entries(&status), [("ForeignFinalizer".to_owned(), Some(INGRESS.to_owned()))]);
    assert!(status.notices[0].message.ends_with(FOREIGN), "{}", status.notices[0].message);
    for _ in 0..10 {
        for policy in &policies {
            put_on(&mut sim, policy);
        }
        assert_eq!(sim.jobs().len(), 0, "there is nothing to write");
    }
    let status = sim.status_after(0);
    assert_eq!(entries(&status), [("ForeignFinalizer".to_owned(), None)]);
    assert_eq!((ready(&status), status.recent_drift.len()), ("Protected", 0));
    assert!(sim.engine.take_announcements().is_empty());
    for policy in &policies {
        sim.tamper("a", policy, |p| p.metadata.finalizers = None);
    }
    assert_eq!(entries(&sim.status_after(0)), []);
}

#[test]
fn a_policy_with_a_finalizer_is_repaired_and_keeps_it() {
    let mut sim = EngineHarness::protected();
    sim.tamper("a", INGRESS, |p| {
        p.metadata.finalizers = Some(vec![FOREIGN.into()]);
        p.spec.as_mut().unwrap().ingress = Some(vec![NetworkPolicyIngressRule::default()]);
    });
    let [job] = &sim.jobs()[..] else { panic!("not one namespace to repair") };
    let results = job.tasks.iter().map(|task| {
        let Wrote::Applied { mut stored, before } = sim.policies_write(job, &task.drift.policy, &task.drift.fix) else {
            panic!()
        };
        stored.metadata.finalizers = Some(vec![FOREIGN.into()]);
        Ok(Wrote::Applied { stored, before })
    });
    let results = results.collect();
    let now = sim.now();
    sim.engine.done(Done { job: job.clone(), results }, now);
    assert_eq!(sim.jobs().len(), 0);
    let status = sim.status_after(0);
    assert_eq!((ready(&status), status.recent_drift.len()), ("Protected", 1));
}

#[test]
fn a_baseline_waits_a_minute_for_a_finalizer_and_then_names_it_and_is_ready() {
    let mut sim = EngineHarness::protected();
    delete_kept(&mut sim);
    let status = sim.status_after(10);
    assert_eq!((ready(&status), entries(&status)), ("WritingPolicies", vec![]));
    let wake = sim.engine.next_wake(sim.now()).unwrap() - sim.now().instant;
    assert!(wake <= SECOND * 60, "nothing else would end the wait: {wake:?}");
    let status = sim.status_after(60);
    assert_eq!((ready(&status), entries(&status)), ("Protected", vec![("Terminating".into(), Some(INGRESS.into()))]));
    assert!(status.violations[0].message.contains(FOREIGN), "{}", status.violations[0].message);
    assert!(status.violations[0].message.ends_with("the operator creates the policy again"));
    // A restart finds the same.
    let explanation = sim.engine.explain("a", sim.now()).unwrap();
    assert_eq!(explanation.verdict, "b applies; finalizers keep 1 of its policies that were deleted, with the planned rules");
    assert!(explanation.protected && explanation.problems.iter().any(|p| p.reason == "Terminating"));
    sim.delete("a", INGRESS);
    let status = sim.status_after(0);
    assert_eq!((ready(&status), entries(&status), sim.policies.len()), ("Protected", vec![], 3));
}

#[test]
fn a_policy_that_is_kept_with_other_rules_is_not_ready_and_its_rules_are_put_right() {
    let mut sim = EngineHarness::protected();
    delete_kept(&mut sim);
    sim.pass(SECOND * 100);
    sim.tamper("a", INGRESS, |p| p.spec.as_mut().unwrap().ingress = Some(vec![NetworkPolicyIngressRule::default()]));
    let now = sim.now();
    while sim.engine.assess_dirty(now) {}
    sim.pass(SECOND * 2);
    let status = sim.status().unwrap();
    assert_eq!((ready(&status), entries(&status).len()), ("WritingPolicies", 1));
    assert_eq!(sim.jobs().len(), 1);
}

#[test]
fn i11_what_the_operator_removes_and_a_finalizer_keeps_is_reported_by_its_baseline() {
    // The namespace leaves the baseline; or the baseline plans other names.
    let tier = json!({"namespaceSelector": {"matchLabels": {"tier": "none"}}});
    let renamed = json!({"metadata": {"namePrefix": "new-"}});
    let frozen = NamespaceCounts { selected: 1, frozen: 1, ..NamespaceCounts::default() };
    let protected = NamespaceCounts { selected: 1, protected: 1, ..NamespaceCounts::default() };
    for (spec, counts) in [(tier, frozen), (renamed, protected)] {
        let mut sim = EngineHarness::protected();
        put_on(&mut sim, INGRESS);
        sim.baseline(2, spec.clone());
        for _ in 0..3 {
            for job in sim.jobs() {
                let wall = sim.now().wall;
                let results = job.tasks.iter().map(|task| match &*task.drift.policy {
                    INGRESS => Ok(Wrote::Terminating),
                    policy => Ok(sim.policies_write(&job, policy, &task.drift.fix)),
                });
                let results: Vec<_> = results.collect();
                let is_deleted = job.tasks.iter().any(|task| task.drift.policy == INGRESS);
                let now = sim.now();
                sim.engine.done(Done { job, results }, now);
                if is_deleted {
                    sim.tamper("a", INGRESS, |p| p.metadata.deletion_timestamp = Some(Time(wall)));
                }
            }
        }
        assert_eq!(entries(&sim.status_after(5)), [], "{spec}");
        let status = sim.status_after(60);
        assert_eq!(entries(&status), [("Terminating".to_owned(), Some(INGRESS.to_owned()))], "{spec}");
        assert!(status.violations[0].message.contains(FOREIGN) && !status.violations[0].message.contains("creates"));
        assert_eq!((ready(&status), status.namespaces), ("Protected", counts), "{spec}");
        sim.delete("a", INGRESS);
        assert_eq!(entries(&sim.status_after(0)), [], "{spec}");
    }
}
