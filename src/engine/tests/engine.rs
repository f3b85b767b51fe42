//! The engine, event by event.
//!
//! One file: the life of a namespace, from the first list to the last policy, in the order in which it happens.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::json;

use super::harness::{EngineHarness, named, ready, with_policies};
use crate::{
    api::reason::{EventReason, Failure, ViolationReason},
    engine::{
        facts::event::{Change, Event, ListPhase, ListRefusal},
        sample::MetricSample,
        writes::{Cause, Done, WriteError, Wrote},
    },
    policy::drift::Repair,
};

const INGRESS: &str = "baseline-default-deny-ingress";

#[test]
fn nothing_is_decided_before_every_watch_is_listed() {
    let mut sim = EngineHarness::unsynced();
    sim.baseline(1, json!({}));
    sim.namespace("a");
    assert_eq!(sim.jobs().len(), 0);
    assert!(sim.status().is_none());
    for phase in [ListPhase::Begin, ListPhase::End] {
        sim.see(Event::Policy(phase.change()));
    }
    assert_eq!(sim.jobs().len(), 0);
}

#[test]
fn i1_a_new_namespace_gets_three_creations_in_one_job_and_then_rests() {
    let mut sim = EngineHarness::new();
    sim.baseline(1, json!({}));
    sim.namespace("a");
    let jobs = sim.jobs();
    let [job] = &jobs[..] else { panic!("{jobs:?}") };
    assert_eq!(job.tasks.len(), 3);
    assert!(job.tasks.iter().all(|t| matches!(t.drift.fix, Repair::Apply { uid: None, .. })));
    let mut sim = EngineHarness::protected();
    assert_eq!(sim.jobs().len(), 0);
}

#[test]
fn i2_at_rest_nothing_is_written() {
    let mut sim = EngineHarness::protected();
    for _ in 0..10 {
        sim.pass(Duration::from_secs(10));
        assert_eq!(sim.jobs().len(), 0);
        assert!(sim.status().is_none());
        let now = sim.now();
        assert!(sim.engine.finalizers(now).is_empty());
        assert_eq!(sim.engine.next_wake(now), None);
    }
}

#[test]
fn a_namespace_is_never_worked_on_twice_at_once() {
    let mut sim = EngineHarness::new();
    sim.baseline(1, json!({}));
    sim.namespace("a");
    assert_eq!(sim.jobs().len(), 1);
    sim.namespace("a");
    sim.baseline(2, json!({"priority": 3}));
    assert_eq!(sim.jobs().len(), 0);
}

#[test]
fn what_others_delete_is_drift_and_what_we_do_is_not() {
    let mut sim = EngineHarness::protected();
    sim.delete("a", INGRESS);
    sim.settle();
    sim.pass(Duration::from_secs(5));
    let status = sim.status().unwrap();
    assert_eq!(
        (status.recent_drift.len(), &*status.recent_drift[0].class, &*status.recent_drift[0].field_manager),
        (1, "Missing", "unknown")
    );
    sim.baseline(2, json!({"dns": {"ports": [5353]}}));
    sim.settle();
    sim.pass(Duration::from_secs(5));
    assert_eq!(sim.status().unwrap().recent_drift.len(), 1);
    assert_eq!(sim.announcements().len(), 1);
}

#[test]
fn the_echo_of_a_write_that_comes_before_its_answer_is_no_drift() {
    let mut sim = EngineHarness::new();
    sim.baseline(1, json!({}));
    sim.namespace("a");
    let job = sim.jobs().remove(0);
    sim.answer_late(job, |_| ());
    assert_eq!(sim.jobs().len(), 0);
    assert!(sim.announcements().is_empty());
    sim.pass(Duration::from_secs(2));
    let status = sim.status().unwrap();
    assert_eq!((status.namespaces.protected, status.recent_drift.len()), (1, 0));
}

#[test]
fn the_time_to_protection_is_counted_also_when_every_echo_comes_before_its_answer() {
    let mut sim = EngineHarness::new();
    sim.baseline(1, json!({}));
    sim.namespace("a");
    let job = sim.jobs().remove(0);
    sim.answer_late(job, |sim| {
        sim.pass(Duration::from_millis(20));
        assert_eq!(sim.jobs().len(), 0);
    });
    assert_eq!(sim.jobs().len(), 0);
    let protected = |h: MetricSample| if let MetricSample::Protected(after) = h { Some(after) } else { None };
    let counted: Vec<_> = sim.engine.take_samples().into_iter().filter_map(protected).collect();
    assert_eq!(counted, [Duration::from_millis(20)]);
}

#[test]
fn i1_what_is_deleted_before_the_answer_of_its_write_arrives_is_restored_and_told() {
    let mut sim = EngineHarness::new();
    sim.baseline(1, json!({}));
    sim.namespace("a");
    let job = sim.jobs().remove(0);
    sim.answer_late(job, |sim| sim.delete("a", INGRESS));
    sim.settle();
    assert_eq!(sim.policies.len(), 3);
    let told: Vec<_> = sim.announcements().into_iter().map(|a| (a.policy, a.reason)).collect();
    assert_eq!(told, [(INGRESS.to_owned(), EventReason::DriftRepaired)]);
}

#[test]
fn a_plan_that_changes_while_the_former_one_is_written_is_nobodys_drift() {
    let mut sim = EngineHarness::protected();
    sim.baseline(2, json!({"dns": {"ports": [5302]}}));
    for port in 5303..5310 {
        let job = sim.jobs().remove(0);
        sim.answer_late(job, |sim| sim.baseline(i64::from(port), json!({"dns": {"ports": [port]}})));
    }
    sim.settle();
    assert!(sim.announcements().is_empty());
    sim.tamper("a", INGRESS, |p| p.spec.as_mut().unwrap().ingress = Some(vec![Default::default()]));
    let job = sim.jobs().remove(0);
    sim.answer_late(job, |sim| sim.baseline(6000, json!({"dns": {"ports": [6000]}})));
    sim.settle();
    assert_eq!(sim.announcements().len(), 1, "the plan that followed is not another drift");
}

#[test]
fn an_edit_that_changes_nothing_but_the_generation_is_answered_by_the_status() {
    let mut sim = EngineHarness::protected();
    sim.baseline(2, json!({}));
    sim.settle();
    sim.pass(Duration::from_secs(5));
    assert_eq!(sim.status().unwrap().observed_generation, Some(2));
}

#[test]
fn i3_a_repair_of_what_exists_carries_its_uid() {
    let mut sim = EngineHarness::protected();
    sim.tamper("a", INGRESS, |p| p.spec.as_mut().unwrap().ingress = Some(vec![Default::default()]));
    let jobs = sim.jobs();
    assert!(matches!(&jobs[0].tasks[0].drift.fix, Repair::Apply { uid: Some(uid), .. } if uid.to_string() == "u"));
}

#[test]
fn i7_a_failure_is_reported_with_its_reason_delays_nobody_else_and_heals() {
    let mut sim = EngineHarness::new();
    sim.baseline(1, json!({}));
    sim.namespace("a");
    sim.namespace("b");
    sim.answer(|job, policy| (job.namespace.as_str() == "a" && policy == INGRESS).then_some(Failure::QuotaExceeded));
    assert_eq!(sim.jobs().len(), 0);
    sim.pass(Duration::from_secs(1));
    sim.status();
    sim.pass(Duration::from_secs(1));
    let status = sim.status().or_else(|| sim.statuses.last().cloned()).unwrap();
    assert_eq!((ready(&status), status.namespaces.failed, status.namespaces.protected), ("WritesFailing", 1, 1));
    assert_eq!(
        (status.violations[0].reason.into_str(), status.violations[0].policy.as_deref()),
        ("QuotaExceeded", Some(INGRESS))
    );
    sim.pass(Duration::from_mins(1));
    sim.settle();
    sim.pass(Duration::from_secs(2));
    assert_eq!(ready(&sim.status().unwrap()), "Protected");
}

#[test]
fn of_several_failures_in_a_namespace_the_worst_is_reported() {
    let mut sim = EngineHarness::new();
    sim.baseline(1, json!({}));
    sim.namespace("a");
    // The last of the policies is refused, and those before it meet an API server that is busy.
    let is_last = |policy: &str| policy.ends_with("monitoring-carveout");
    sim.answer(|_, policy| Some(if is_last(policy) { Failure::Rejected } else { Failure::Unavailable }));
    assert_eq!(sim.jobs().len(), 0);
    sim.pass(Duration::from_secs(1));
    assert_eq!(sim.status().unwrap().violations[0].reason, ViolationReason::Rejected);
}

#[test]
fn i14_a_write_that_another_plugin_changed_is_backed_off_at_once() {
    let mut sim = EngineHarness::new();
    sim.baseline(1, json!({"policies": ["DefaultDenyIngress"]}));
    sim.namespace("a");
    let job = sim.jobs().remove(0);
    let Wrote::Applied { stored: mut object, .. } = sim.policies_write(&job, INGRESS, &job.tasks[0].drift.fix) else { panic!() };
    object.spec.as_mut().unwrap().ingress = Some(vec![Default::default()]);
    let now = sim.now();
    sim.engine.done(Done { job, results: vec![Ok(Wrote::Applied { stored: object, before: None })] }, now);
    assert_eq!(sim.jobs().len(), 0);
    sim.pass(Duration::from_secs(1));
    assert_eq!(sim.jobs().len(), 0);
    assert_eq!(sim.status().unwrap().violations[0].reason, ViolationReason::MutatedByAdmission);
    sim.pass(Duration::from_secs(3));
    assert_eq!(sim.jobs().len(), 1);
}

#[test]
fn nothing_is_removed_while_something_planned_is_not_confirmed() {
    let mut sim = EngineHarness::protected();
    sim.baseline(2, json!({"metadata": {"namePrefix": "new-"}}));
    sim.answer(|_, policy| {
        policy.starts_with("new-").then_some(Failure::DeniedByAdmission).filter(|_| policy.ends_with("ingress"))
    });
    assert_eq!(sim.jobs().len(), 0, "the removals must wait for the creation that failed");
    sim.pass(Duration::from_mins(1));
    sim.settle();
    let names: Vec<_> = sim.policies.keys().map(|(_, name)| name.as_str()).collect();
    assert!(names.len() == 3 && names.iter().all(|n| n.starts_with("new-")), "{names:?}");
}

#[test]
fn i3_removals_are_decided_when_everything_planned_is_there() {
    let mut sim = EngineHarness::protected();
    sim.baseline(2, json!({"metadata": {"namePrefix": "new-"}}));
    let job = sim.jobs().remove(0);
    assert!(job.tasks.iter().all(|t| matches!(t.drift.fix, Repair::Apply { .. })), "the removals have a job of their own");
    // During the writes of the new policies, the old plan is put back.
    sim.answer_late(job, |sim| sim.baseline(3, json!({})));
    for job in sim.jobs() {
        assert!(job.tasks.iter().all(|t| t.drift.policy.starts_with("new-")), "{job:?}");
    }
}

#[test]
fn i3_nothing_is_removed_while_something_planned_is_going() {
    let mut sim = EngineHarness::protected();
    sim.baseline(2, json!({"metadata": {"namePrefix": "new-"}}));
    let job = sim.jobs().remove(0);
    sim.answer_late(job, |sim| {
        sim.tamper("a", "new-default-deny-ingress", |p| {
            p.metadata.deletion_timestamp = Some(Time(jiff::Timestamp::UNIX_EPOCH));
            p.metadata.finalizers = Some(vec!["example.com/held".into()]);
        });
    });
    assert_eq!(sim.jobs().len(), 0, "the old one must stay until the new one is there for good");
}

#[test]
fn i5_nothing_is_created_in_a_namespace_that_is_found_terminating() {
    let mut sim = EngineHarness::new();
    sim.baseline(1, json!({}));
    sim.namespace("a");
    let job = sim.jobs().remove(0);
    let now = sim.now();
    let results = job.tasks.iter().map(|_| Err(WriteError::NamespaceTerminating)).collect();
    sim.engine.done(Done { job, results }, now);
    let going = json!({"name": "a", "uid": "uid-a", "creationTimestamp": "1970-01-01T00:10:00Z",
        "deletionTimestamp": "1970-01-01T00:20:00Z", "labels": {"kubernetes.io/metadata.name": "a"}});
    sim.see(Event::Namespace(Change::Applied(named(going))));
    sim.pass(Duration::from_secs(100));
    assert_eq!(sim.jobs().len(), 0);
    assert!(sim.announcements().is_empty());
    sim.status();
    assert_eq!(sim.statuses.last().unwrap().namespaces.selected, 0);
}

#[test]
fn what_the_apiserver_calls_terminating_and_the_watch_does_not_is_tried_again() {
    let mut sim = EngineHarness::new();
    sim.baseline(1, json!({}));
    sim.namespace("a");
    let job = sim.jobs().remove(0);
    let results = job.tasks.iter().map(|_| Err(WriteError::NamespaceTerminating)).collect();
    let now = sim.now();
    sim.engine.done(Done { job, results }, now);
    assert_eq!(sim.jobs().len(), 0, "not at once");
    let status = {
        sim.pass(Duration::from_millis(500));
        sim.status().unwrap()
    };
    assert_eq!((status.namespaces.pending, status.namespaces.failed, status.violations.len()), (1, 0, 0));
    sim.pass(Duration::from_secs(2));
    sim.settle();
    assert_eq!(sim.policies.len(), 3);
}

#[test]
fn a_stored_status_of_another_time_is_put_right_though_nothing_is_found() {
    let mut sim = EngineHarness::unsynced();
    sim.see(Event::Baseline(Change::ListBegan));
    let status = json!({"observedGeneration": 1, "namespaces": {"selected": 5}});
    sim.baseline_stored(2, json!({"mode": "Audit", "namespaceSelector": {"matchLabels": {"Bad Key!": "x"}}}), json!({}), status);
    sim.list_keeping_baselines();
    sim.settle();
    sim.pass(Duration::from_secs(1));
    let status = sim.status().unwrap();
    assert_eq!((status.observed_generation, status.namespaces.selected), (Some(2), 0));
    assert_eq!(ready(&status), "InvalidSelector");
}

#[test]
fn a_status_is_written_at_most_once_a_second_and_only_when_it_changed() {
    let mut sim = EngineHarness::protected();
    let names: Vec<String> = (0..100).map(|n| format!("n{n}")).collect();
    for name in &names {
        sim.namespace(name);
    }
    sim.settle();
    sim.pass(Duration::from_secs(5));
    sim.status();
    sim.pass(Duration::from_secs(5));
    let before = sim.statuses.len();
    for name in &names {
        sim.delete(name, INGRESS);
        sim.settle();
        sim.pass(Duration::from_millis(20));
        sim.status();
    }
    let written = sim.statuses.len() - before;
    assert!((1..=3).contains(&written), "{written} writes in two seconds");
}

#[test]
fn an_invalid_baseline_freezes_what_it_holds_and_says_why() {
    let mut sim = EngineHarness::protected();
    sim.baseline(2, json!({"namespaceSelector": {"matchLabels": {"Bad Key!": "x"}}}));
    sim.delete("a", INGRESS);
    assert_eq!(sim.jobs().len(), 0);
    sim.pass(Duration::from_secs(1));
    let status = sim.status().unwrap();
    assert_eq!(ready(&status), "InvalidSelector");
    assert!(status.conditions[2].message.contains("spec.namespaceSelector"), "{}", status.conditions[2].message);
    sim.baseline(3, json!({}));
    assert_eq!(sim.jobs().len(), 1);
}

#[test]
fn a_suspended_baseline_writes_nothing_and_repairs_when_it_goes_on() {
    let mut sim = EngineHarness::protected();
    sim.baseline(2, json!({"suspend": true}));
    sim.delete("a", INGRESS);
    sim.namespace("b");
    assert_eq!(sim.jobs().len(), 0);
    sim.pass(Duration::from_secs(5));
    let status = sim.status().unwrap();
    let told: Vec<_> = status.conditions.iter().map(|c| format!("{}={} {}", c.type_, c.status, c.reason)).collect();
    assert_eq!(told, ["Ready=False Suspended", "Reconciling=False Settled", "Stalled=False Valid", "Suspended=True Suspended"]);
    assert_eq!((status.namespaces.selected, status.namespaces.frozen), (2, 2));
    sim.baseline(3, json!({}));
    sim.engine.take_samples();
    sim.settle();
    assert_eq!(sim.policies.len(), 6);
    let drift = |h: &MetricSample| matches!(h, MetricSample::Drift(..));
    assert_eq!(sim.engine.take_samples().iter().filter(|h| drift(h)).count(), 1, "what somebody deleted meanwhile is drift");
}

#[test]
fn a_suspended_baseline_that_is_deleted_waits_with_all_that_it_holds() {
    let mut sim = EngineHarness::protected();
    let going = json!({"finalizers": ["policybaseline.io/delete-policies"], "deletionTimestamp": "1970-01-01T00:20:00Z"});
    sim.baseline_with(2, json!({"deletionPolicy": "Delete", "suspend": true}), going.clone());
    assert_eq!(sim.jobs().len(), 0);
    let now = sim.now();
    assert!(sim.engine.finalizers(now).is_empty());
    sim.pass(Duration::from_secs(5));
    assert_eq!(ready(&sim.status().unwrap()), "Suspended");
    sim.baseline_with(3, json!({"deletionPolicy": "Delete"}), going);
    sim.settle();
    assert_eq!(sim.policies.len(), 0);
}

#[test]
fn the_finalizer_is_on_only_while_deletion_removes_policies() {
    let mut sim = EngineHarness::new();
    sim.baseline(1, json!({"deletionPolicy": "Delete"}));
    sim.namespace("a");
    let now = sim.now();
    let added = sim.engine.finalizers(now);
    assert!(added.len() == 1 && added[0].wanted);
    sim.engine.finalizer_written("b", Ok(()), now);
    sim.settle();
    let held = json!({"finalizers": ["policybaseline.io/delete-policies"]});
    sim.baseline_with(1, json!({"deletionPolicy": "Delete"}), held.clone());
    sim.pass(Duration::from_secs(5));
    let now = sim.now();
    assert!(sim.engine.finalizers(now).is_empty());
    let mut going = held;
    going["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
    sim.baseline_with(2, json!({"deletionPolicy": "Delete"}), going);
    assert!(sim.engine.finalizers(now).is_empty(), "the policies are still there");
    sim.settle();
    sim.status();
    assert!(sim.policies.is_empty());
    let removed = sim.engine.finalizers(now);
    assert!(removed.len() == 1 && !removed[0].wanted);
}

#[test]
fn what_a_deletion_has_still_to_remove_is_counted_where_it_is_looked_at_and_only_where_it_is_removed() {
    let told = |sim: &mut EngineHarness| {
        sim.pass(Duration::from_secs(2));
        assert_eq!(sim.jobs().len(), 0, "every write waits");
        sim.status();
        sim.statuses.last().unwrap().conditions[0].message.clone()
    };
    let going = json!({"finalizers": ["policybaseline.io/delete-policies"], "deletionTimestamp": "1970-01-01T00:20:00Z"});
    let mut sim = EngineHarness::protected();
    sim.namespace("b");
    sim.namespace("c");
    sim.settle();
    sim.baseline_with(2, json!({"deletionPolicy": "Delete"}), going.clone());
    let jobs = sim.jobs();
    assert_eq!(jobs.len(), 3);
    let message = told(&mut sim);
    assert!(message.contains("9 of its policies"), "{message}");
    // One namespace is gone, one is being deleted, and the last one loses a policy.
    sim.see(Event::Namespace(Change::Deleted(named(json!({"name": "a", "uid": "uid-a"})))));
    let terminating = json!({"name": "b", "uid": "uid-b", "deletionTimestamp": "1970-01-01T00:20:00Z"});
    sim.see(Event::Namespace(Change::Applied(named(terminating))));
    sim.delete("c", "baseline-default-deny-ingress");
    let message = told(&mut sim);
    assert!(message.contains("2 of its policies"), "{message}");
    sim.baseline_with(3, json!({"deletionPolicy": "Orphan"}), going.clone());
    let message = told(&mut sim);
    assert!(!message.contains("of its policies"), "{message}");
    // An owner who changes this back gets the current count.
    sim.delete("c", "baseline-default-deny-egress");
    told(&mut sim);
    sim.baseline_with(4, json!({"deletionPolicy": "Delete"}), going);
    let message = told(&mut sim);
    assert!(message.contains("1 of its policies"), "{message}");
    let now = sim.now();
    assert!(sim.engine.finalizers(now).is_empty());
    sim.delete("c", "baseline-monitoring-carveout");
    told(&mut sim);
    let now = sim.now();
    assert_eq!(sim.engine.finalizers(now).len(), 0, "writes are under way");
}

#[test]
fn a_finalizer_that_conflicts_with_our_own_status_is_there_soon() {
    let mut sim = EngineHarness::new();
    sim.baseline(1, json!({"deletionPolicy": "Delete"}));
    let now = sim.now();
    assert_eq!(sim.engine.finalizers(now).len(), 1);
    let conflict = WriteError::Failed { reason: Failure::Conflict, message: "modified".into() };
    sim.engine.finalizer_written("b", Err(conflict), now);
    assert!(sim.engine.finalizers(now).is_empty(), "not at once");
    sim.pass(Duration::from_millis(100));
    let now = sim.now();
    assert_eq!(sim.engine.finalizers(now).len(), 1);
}

#[test]
fn i10_a_baseline_that_is_gone_takes_no_policy_with_it() {
    let mut sim = EngineHarness::protected();
    let raw = serde_json::from_value(json!({"metadata": {"name": "b", "uid": "uid-b"}})).unwrap();
    sim.see(Event::Baseline(Change::Deleted(Box::new(raw))));
    assert_eq!(sim.jobs().len(), 0);
    sim.list();
    assert_eq!(sim.jobs().len(), 0);
}

#[test]
fn a_standby_sees_everything_and_asks_for_no_write() {
    let mut sim = EngineHarness::new();
    sim.lead(false);
    sim.baseline_with(1, json!({"deletionPolicy": "Delete"}), json!({}));
    sim.namespace("a");
    assert_eq!(sim.jobs().len(), 0);
    sim.pass(Duration::from_secs(5));
    assert_eq!(sim.status(), None);
    assert_eq!(sim.engine.finalizers(sim.now()).len(), 0);
    sim.lead(true);
    assert_eq!(sim.jobs().len(), 1);
    assert_eq!(sim.engine.finalizers(sim.now()).len(), 1);
}

#[test]
fn what_the_former_leader_repaired_is_no_drift_of_the_new_one() {
    let mut sim = EngineHarness::protected();
    sim.lead(false);
    sim.delete("a", INGRESS);
    assert_eq!(sim.jobs().len(), 0);
    sim.another_writes("a", 3);
    sim.lead(true);
    assert_eq!(sim.jobs().len(), 0);
    sim.pass(Duration::from_secs(5));
    assert_eq!(sim.status(), None, "the status that stands is right");
    assert_eq!(sim.announcements().len(), 0);
}

#[test]
fn a_drift_that_the_former_leader_left_is_repaired_and_told_once() {
    let mut sim = EngineHarness::protected();
    sim.lead(false);
    sim.delete("a", INGRESS);
    assert_eq!(sim.jobs().len(), 0);
    sim.lead(true);
    sim.settle();
    sim.pass(Duration::from_secs(5));
    assert_eq!(sim.status().unwrap().recent_drift.len(), 1);
    let told: Vec<_> = sim.announcements().into_iter().map(|a| a.reason).collect();
    assert_eq!(told, [EventReason::DriftRepaired]);
}

#[test]
fn first_policies_that_the_former_leader_did_not_get_to_are_no_drift() {
    let mut sim = EngineHarness::protected();
    sim.lead(false);
    sim.namespace("b");
    assert_eq!(sim.jobs().len(), 0);
    sim.another_writes("b", 1);
    sim.lead(true);
    let jobs = sim.jobs();
    let causes: Vec<Cause> = jobs.iter().flat_map(|job| job.tasks.iter().map(|task| task.cause)).collect();
    assert_eq!(causes, [Cause::Bootstrap, Cause::Bootstrap]);
}

#[test]
fn the_drift_that_the_former_leader_told_of_stays_in_the_status() {
    let mut sim = EngineHarness::protected();
    sim.lead(false);
    let mut stored = serde_json::to_value(sim.statuses.last().unwrap()).unwrap();
    stored["recentDrift"] = json!([{"time": "1970-01-12T13:46:40Z", "namespace": "a", "policy": "p", "class": "Missing",
        "fieldManager": "unknown", "action": "created again"}]);
    let metadata = json!({"name": "b", "uid": "uid-b", "generation": 1, "resourceVersion": "9", "creationTimestamp": "1970-01-01T00:00:01Z"});
    let raw = json!({"metadata": metadata, "spec": with_policies(json!({})), "status": stored});
    sim.see(Event::Baseline(Change::Applied(Box::new(serde_json::from_value(raw).unwrap()))));
    sim.lead(true);
    sim.settle();
    sim.pass(Duration::from_secs(5));
    assert_eq!(sim.status(), None, "the status that stands is right");
    sim.delete("a", INGRESS);
    sim.settle();
    sim.pass(Duration::from_secs(5));
    let drift: Vec<String> = sim.status().unwrap().recent_drift.into_iter().map(|d| d.policy).collect();
    assert_eq!(drift, [INGRESS, "p"]);
}

#[test]
fn a_write_that_was_not_sent_is_no_failure_and_stays_to_be_done() {
    let mut sim = EngineHarness::protected();
    sim.namespace("b");
    let job = sim.jobs().remove(0);
    let results = job.tasks.iter().map(|_| Err(WriteError::NotLeading)).collect();
    let now = sim.now();
    sim.engine.done(Done { job, results }, now);
    sim.lead(false);
    assert_eq!(sim.jobs().len(), 0);
    assert_eq!(sim.announcements().len(), 0);
    sim.lead(true);
    assert_eq!(sim.jobs()[0].tasks.len(), 3);
    sim.pass(Duration::from_secs(5));
    assert_eq!(ready(&sim.status().unwrap()), "WritingPolicies");
}

#[test]
fn readiness_names_what_decisions_wait_for_and_why() {
    let mut sim = EngineHarness::blank();
    let waits = |sim: &EngineHarness| sim.engine.waits().collect::<Vec<_>>();
    assert_eq!(waits(&sim).len(), 10);
    sim.list_configurations();
    let why = || "not allowed".to_owned();
    sim.see(Event::Policy(Change::Refused(ListRefusal::Forbidden, why())));
    sim.see(Event::OptOut(Change::Refused(ListRefusal::Unavailable, why())));
    let all = ["namespaces", "networkpolicies", "policybaselines", "leases", "baselineoptouts"].map(|set| match set {
        "networkpolicies" | "baselineoptouts" => format!("{set}: not allowed"),
        set => format!("{set}: it is being listed"),
    });
    assert_eq!(waits(&sim), all);
    sim.list();
    assert_eq!((waits(&sim), sim.engine.is_synced()), (vec![], true));
    // A later list does not make an instance unready.
    sim.see(Event::Policy(Change::ListBegan));
    sim.see(Event::Policy(Change::Refused(ListRefusal::Unavailable, why())));
    assert_eq!((waits(&sim), sim.engine.is_synced()), (vec![], true));
    // Decisions wait for revisions only if a baseline has a rollout.
    sim.baseline(1, json!({"rollout": {}}));
    assert_eq!(waits(&sim), ["controllerrevisions: it is being listed"]);
    sim.see(Event::Revision(Change::ListDone));
    assert_eq!(waits(&sim), [""; 0]);
}

#[test]
fn an_edit_reaches_the_namespaces_of_its_baseline_before_all_others_are_assessed() {
    let mut sim = EngineHarness::new();
    let labelled = |team: &str| json!({"namespaceSelector": {"matchLabels": {"team": team}}});
    sim.baseline(1, labelled("z"));
    for i in 0..2000 {
        sim.namespace(&format!("other-{i:04}"));
    }
    sim.namespace_with("z-last", json!({"team": "z"}));
    sim.settle();
    let mut edited = labelled("z");
    edited["metadata"] = json!({"labels": {"owner": "x"}});
    sim.baseline(2, edited);
    let now = sim.now();
    assert!(sim.engine.assess_dirty(now), "the others still wait");
    let job = sim.engine.next_job(now).expect("the edit is written meanwhile");
    assert_eq!(job.namespace.as_str(), "z-last");
}
