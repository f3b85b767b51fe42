//! Finalizers that others put on our policies: on policies that stay, and on policies that are deleted.

use std::time::Duration;

use k8s_openapi::{api::networking::v1::NetworkPolicyIngressRule, apimachinery::pkg::apis::meta::v1::Time};
use serde_json::json;

use super::harness::{EngineHarness, entries, named, ready};
use crate::{
    api::{
        backends::{Configuration, ConfigurationKind},
        baseline::NamespaceCounts,
        reason::{EventReason, Failure},
    },
    engine::{
        facts::event::{Change, Event, ListRefusal},
        writes::{Done, Job, Wrote},
    },
    policy::drift::Repair,
};

const INGRESS: &str = "baseline-default-deny-ingress";
const FOREIGN: &str = "policies.networking.k8s.io/finalizer";
const EKS: &str = "networking.k8s.aws/resources";
const SECOND: Duration = Duration::from_secs(1);

fn put_on(sim: &mut EngineHarness, policy: &str) {
    sim.tamper("a", policy, |p| p.metadata.finalizers = Some(vec![FOREIGN.into()]));
}

/// Somebody deletes the policy, and a finalizer keeps it.
fn delete_kept(sim: &mut EngineHarness) {
    delete_kept_by(sim, &[FOREIGN]);
}

fn delete_kept_by(sim: &mut EngineHarness, finalizers: &[&str]) {
    let now = sim.now().wall;
    sim.tamper("a", INGRESS, |p| {
        p.metadata.finalizers = Some(finalizers.iter().map(|&name| name.into()).collect());
        p.metadata.deletion_timestamp = Some(Time(now));
    });
}

/// A finalizer without an owner has kept the policy for a minute.
fn kept_for_a_minute() -> EngineHarness {
    let mut sim = EngineHarness::protected();
    delete_kept_by(&mut sim, &[EKS]);
    sim.pass(SECOND * 60);
    sim
}

fn crd(sim: &mut EngineHarness, change: fn(Configuration) -> Change<Configuration>) {
    let name = "policyendpoints.networking.k8s.aws".into();
    let crd = Configuration { kind: ConfigurationKind::Crd, name, services: vec![], missing_fields: vec![] };
    sim.see(Event::Configuration(ConfigurationKind::Crd, change(crd)));
}

/// What is to be done about the policy now.
fn repairs(jobs: &[Job]) -> Vec<&Repair> {
    jobs.iter().flat_map(|job| &job.tasks).filter(|task| task.drift.policy == INGRESS).map(|task| &task.drift.fix).collect()
}

fn removals(jobs: &[Job]) -> usize {
    repairs(jobs).iter().filter(|fix| matches!(fix, Repair::RemoveFinalizer { .. })).count()
}

fn announced(sim: &mut EngineHarness) -> Vec<EventReason> {
    sim.announcements().into_iter().map(|announcement| announcement.reason).collect()
}

#[test]
fn i2_a_finalizer_of_others_is_left_alone_and_reported_once_for_a_namespace() {
    let mut sim = EngineHarness::protected();
    sim.announcements();
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
    assert!(sim.announcements().is_empty());
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
    for (spec, counts, reason) in [(tier, frozen, "NamespacesFrozen"), (renamed, protected, "Protected")] {
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
        assert_eq!((ready(&status), status.namespaces), (reason, counts), "{spec}");
        sim.delete("a", INGRESS);
        assert_eq!(entries(&sim.status_after(0)), [], "{spec}");
    }
}

#[test]
fn i4_a_finalizer_whose_owner_is_absent_is_removed_from_a_policy_that_was_deleted_a_minute_ago() {
    let mut sim = EngineHarness::protected();
    put_eks_on(&mut sim);
    sim.pass(SECOND * 100);
    assert_eq!(sim.jobs().len(), 0, "nobody deleted it");
    delete_kept_by(&mut sim, &[EKS]);
    sim.pass(SECOND * 59);
    assert_eq!(sim.jobs().len(), 0);
    announced(&mut sim);
    let status = sim.status_after(1);
    assert_eq!((ready(&status), entries(&status), sim.policies.len()), ("Protected", vec![], 3));
    assert_eq!(announced(&mut sim), [EventReason::FinalizerRemoved, EventReason::DriftRepaired]);
    let created = &sim.policies[&("a".to_owned(), INGRESS.to_owned())].metadata;
    assert!(created.deletion_timestamp.is_none() && created.finalizers.is_none());
}

fn put_eks_on(sim: &mut EngineHarness) {
    sim.tamper("a", INGRESS, |p| p.metadata.finalizers = Some(vec![EKS.into()]));
}

type Happens = fn(&mut EngineHarness);

#[test]
fn i16_a_finalizer_stays_while_its_owner_may_be_in_the_cluster() {
    const CRD: ConfigurationKind = ConfigurationKind::Crd;
    let refused = |refusal| Event::Configuration(CRD, Change::Refused(refusal, "no".into()));
    let lists: [(&str, Happens); 2] = [
        ("its CRD exists", |sim| crd(sim, Change::Applied)),
        ("a list is under way", |sim| sim.see(Event::Configuration(CRD, Change::ListBegan))),
    ];
    let mut cases: Vec<(&str, EngineHarness)> = Vec::new();
    for (what, happens) in lists {
        let mut sim = EngineHarness::protected();
        happens(&mut sim);
        cases.push((what, sim));
    }
    for refusal in [ListRefusal::Forbidden, ListRefusal::Unknown] {
        let mut sim = EngineHarness::protected();
        sim.see(refused(refusal));
        cases.push(("a list was refused", sim));
    }
    for (what, mut sim) in cases {
        delete_kept_by(&mut sim, &[EKS]);
        let status = sim.status_after(100);
        assert_eq!(entries(&status), [("Terminating".to_owned(), Some(INGRESS.to_owned()))], "{what}");
        assert!(status.violations[0].message.contains("Whoever put them there must"), "{}", status.violations[0].message);
        assert_eq!(ready(&status), "Protected", "{what}");
        // Now a list proves that the owner is absent.
        sim.list_configurations();
        let status = sim.status_after(0);
        assert_eq!((ready(&status), entries(&status)), ("Protected", vec![]), "{what}");
    }
    // A watch that only broke off proves as much as before. And a CRD that is deleted ends the wait too.
    let mut sim = EngineHarness::protected();
    crd(&mut sim, Change::Applied);
    sim.see(refused(ListRefusal::Unavailable));
    delete_kept_by(&mut sim, &[EKS]);
    assert_eq!(entries(&sim.status_after(100)).len(), 1);
    crd(&mut sim, Change::Deleted);
    assert_eq!(entries(&sim.status_after(0)), []);
}

#[test]
fn i4_only_the_finalizer_without_an_owner_is_removed_and_the_others_are_named() {
    let mut sim = EngineHarness::protected();
    delete_kept_by(&mut sim, &[FOREIGN, EKS, "tenant.example/keep"]);
    announced(&mut sim);
    let status = sim.status_after(60);
    assert_eq!((ready(&status), entries(&status)), ("Protected", vec![("Terminating".into(), Some(INGRESS.into()))]));
    let message = &status.violations[0].message;
    assert!(message.contains(FOREIGN) && message.contains("tenant.example/keep") && !message.contains(EKS), "{message}");
    assert_eq!(announced(&mut sim), [EventReason::FinalizerRemoved]);
    sim.pass(SECOND * 100);
    assert_eq!(sim.jobs().len(), 0, "nothing is left to write");
}

#[test]
fn a_finalizer_that_cannot_be_removed_is_tried_again_ever_later_and_nobody_waits_for_it() {
    let mut sim = kept_for_a_minute();
    announced(&mut sim);
    let mut tries = 0;
    for _ in 0..300 {
        tries += sim.answer(|_, _| Some(Failure::DeniedByAdmission));
        sim.pass(SECOND);
    }
    assert!((5..30).contains(&tries), "{tries}");
    let status = sim.status_after(60);
    assert_eq!((ready(&status), entries(&status)), ("Protected", vec![]), "it succeeds at last");
    assert_eq!(announced(&mut sim)[..2], [EventReason::RepairFailed, EventReason::FinalizerRemoved]);

    let mut sim = kept_for_a_minute();
    sim.answer(|_, _| Some(Failure::DeniedByAdmission));
    let now = sim.now();
    while sim.engine.assess_dirty(now) {}
    sim.pass(SECOND * 2);
    let status = sim.status().unwrap();
    assert_eq!((ready(&status), entries(&status).len()), ("Protected", 1));
    assert!(status.violations[0].message.contains("but could not yet: said no"), "{}", status.violations[0].message);
}

#[test]
fn i2_a_finalizer_that_something_keeps_despite_its_removal_is_reported_once_and_tried_again_ever_later() {
    let mut sim = kept_for_a_minute();
    announced(&mut sim);
    let (mut tries, mut told) = (0, None);
    for _ in 0..300 {
        for job in sim.jobs() {
            tries += removals(std::slice::from_ref(&job));
            let unchanged = &sim.policies[&("a".to_owned(), INGRESS.to_owned())];
            let results = job.tasks.iter().map(|_| Ok(Wrote::FinalizerRemoved(Box::new(unchanged.clone())))).collect();
            let now = sim.now();
            sim.engine.done(Done { job, results }, now);
        }
        sim.pass(SECOND);
        told = sim.status().or(told);
    }
    assert!((5..30).contains(&tries), "{tries}");
    let status = told.unwrap();
    assert_eq!((ready(&status), entries(&status).len()), ("Protected", 1));
    assert!(status.violations[0].message.contains("something kept it"), "{}", status.violations[0].message);
    assert_eq!(announced(&mut sim), [EventReason::RepairFailed]);
}

#[test]
fn the_rules_of_a_deleted_policy_are_put_right_before_its_finalizer_is_removed() {
    let mut sim = EngineHarness::protected();
    delete_kept_by(&mut sim, &[EKS]);
    sim.tamper("a", INGRESS, |p| p.spec.as_mut().unwrap().ingress = Some(vec![NetworkPolicyIngressRule::default()]));
    sim.pass(SECOND * 100);
    let jobs = sim.jobs();
    assert!(matches!(repairs(&jobs)[..], [Repair::Apply { uid: Some(_), .. }]), "{jobs:?}");
}

#[test]
fn i4_what_the_operator_removed_itself_goes_and_what_it_may_not_remove_stays() {
    let tier = json!({"namespaceSelector": {"matchLabels": {"tier": "none"}}});
    let renamed = json!({"metadata": {"namePrefix": "new-"}});
    for (spec, left) in [(tier, 0), (renamed, 3)] {
        let mut sim = EngineHarness::protected();
        put_eks_on(&mut sim);
        sim.baseline(2, spec.clone());
        // The operator deletes the policies, and the finalizer keeps one.
        for job in [sim.jobs(), sim.jobs()].concat() {
            let wall = sim.now().wall;
            let is_kept = |policy: &str, fix: &Repair| policy == INGRESS && matches!(fix, Repair::Delete { .. });
            let results = job.tasks.iter().map(|task| match &*task.drift.policy {
                policy if is_kept(policy, &task.drift.fix) => Ok(Wrote::Terminating),
                policy => Ok(sim.policies_write(&job, policy, &task.drift.fix)),
            });
            let results: Vec<_> = results.collect();
            let is_deleted = job.tasks.iter().any(|task| is_kept(&task.drift.policy, &task.drift.fix));
            let now = sim.now();
            sim.engine.done(Done { job, results }, now);
            if is_deleted {
                sim.tamper("a", INGRESS, |p| p.metadata.deletion_timestamp = Some(Time(wall)));
            }
        }
        sim.status_after(60);
        assert_eq!((sim.policies.len(), entries(&sim.status_after(0))), (left, vec![]), "{spec}");
    }
    // A suspended baseline changes nothing.
    let mut sim = EngineHarness::protected();
    sim.baseline(2, json!({"suspend": true}));
    delete_kept_by(&mut sim, &[EKS]);
    sim.pass(SECOND * 100);
    assert_eq!(sim.jobs().len(), 0);
}

#[test]
fn i5_no_finalizer_is_removed_from_a_policy_that_nobody_can_create_again() {
    let mut sim = EngineHarness::protected();
    delete_kept_by(&mut sim, &[EKS]);
    let gone = json!({"name": "a", "uid": "uid-a", "creationTimestamp": "1970-01-01T00:10:00Z",
        "deletionTimestamp": "1970-01-12T00:00:00Z"});
    sim.see(Event::Namespace(Change::Applied(named(gone))));
    sim.pass(SECOND * 100);
    assert_eq!(removals(&sim.jobs()), 0);
}
