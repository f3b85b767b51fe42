//! Namespaces that are being deleted: what is left there is kept, nothing is created, and what is lost is reported while pods may run.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::{api::networking::v1::NetworkPolicyIngressRule, apimachinery::pkg::apis::meta::v1::Time};
use serde_json::json;

use super::harness::{EngineHarness, entries, named, ready};
use crate::{
    api::{PolicyBaselineStatus, SlimNamespace, reason::EventReason},
    engine::{
        facts::event::{Change, Event},
        writes::Announcement,
    },
};

const INGRESS: &str = "baseline-default-deny-ingress";
const EGRESS: &str = "baseline-default-deny-egress";
const CARVEOUT: &str = "baseline-monitoring-carveout";
const SECOND: Duration = Duration::from_secs(1);

/// The deletion of namespace `a` begins, or goes on.
fn going(sim: &mut EngineHarness, pods_gone: bool) {
    goes(sim, pods_gone, None);
}

fn goes(sim: &mut EngineHarness, pods_gone: bool, failing_since: Option<Timestamp>) {
    let meta = json!({"name": "a", "uid": "uid-a", "creationTimestamp": "1970-01-01T00:10:00Z",
        "deletionTimestamp": "1970-01-01T00:20:00Z", "labels": {"kubernetes.io/metadata.name": "a"}});
    sim.see(Event::Namespace(Change::Applied(SlimNamespace { pods_gone, failing_since, ..named(meta) })));
}

fn is_going() -> EngineHarness {
    let mut sim = EngineHarness::protected();
    sim.announcements();
    going(&mut sim, false);
    sim
}

fn open(sim: &mut EngineHarness, policy: &str) {
    sim.tamper("a", policy, |p| p.spec.as_mut().unwrap().ingress = Some(vec![NetworkPolicyIngressRule::default()]));
}

fn lost(policy: Option<&str>) -> Vec<(String, Option<String>)> {
    vec![("MissingWhileTerminating".to_owned(), policy.map(str::to_owned))]
}

#[test]
fn i5_while_a_namespace_is_being_deleted_its_policies_are_kept_right_and_counted() {
    let mut sim = is_going();
    assert_eq!(sim.status_after(0).namespaces.protected, 1);
    open(&mut sim, INGRESS);
    let mut written = vec![];
    sim.answer(|_, policy| {
        written.push(policy.to_owned());
        None
    });
    assert_eq!(written, [INGRESS]);
    let status = sim.status_after(0);
    assert_eq!((ready(&status), entries(&status), status.recent_drift.len()), ("Protected", vec![], 1));
    assert!(sim.announcements().is_empty(), "the API server takes no Event there");
}

#[test]
fn i5_at_the_end_of_a_namespace_ready_stays_true_and_nothing_is_written() {
    let mut sim = is_going();
    // A finalizer keeps one of them for a moment.
    let now = sim.now().wall;
    sim.tamper("a", CARVEOUT, |p| p.metadata.deletion_timestamp = Some(Time(now)));
    assert_eq!((sim.jobs().len(), ready(&sim.status_after(0))), (0, "Protected"));
    for policy in [INGRESS, EGRESS, CARVEOUT] {
        sim.delete("a", policy);
        let status = sim.status_after(0);
        assert_eq!((ready(&status), status.namespaces.selected, entries(&status)), ("NothingSelected", 0, vec![]));
    }
    let wake = sim.engine.next_wake(sim.now()).unwrap() - sim.now().instant;
    assert!(wake <= SECOND * 30, "nothing else would end the wait: {wake:?}");
    sim.see(Event::Namespace(Change::Deleted(named(json!({"name": "a", "uid": "uid-a"})))));
    let status = sim.status_after(100);
    assert_eq!((ready(&status), entries(&status)), ("NothingSelected", vec![]));
    assert!(sim.announcements().is_empty());
}

#[test]
fn i5_what_is_lost_while_pods_may_run_is_reported_until_the_namespace_is_gone() {
    let mut sim = is_going();
    sim.delete("a", INGRESS);
    assert_eq!(entries(&sim.status_after(10)), []);
    let status = sim.status_after(30);
    assert_eq!(
        (ready(&status), entries(&status), status.namespaces.unprotected),
        ("MissingWhileTerminating", lost(Some(INGRESS)), 1)
    );
    let [Announcement { namespace, policy, uid, reason, note, .. }] = &sim.announcements()[..] else { panic!() };
    assert_eq!(
        (namespace.as_str(), &**policy, uid.is_some(), *reason),
        ("default", "b", true, EventReason::MissingWhileTerminating)
    );
    assert!(note.starts_with("namespace a: the namespace is being deleted and lacks baseline-default-deny-ingress"), "{note}");
    // What is left is still kept right.
    open(&mut sim, EGRESS);
    assert_eq!(sim.jobs().len(), 1);
    let explanation = sim.engine.explain("a", sim.now()).unwrap();
    assert!(explanation.problems.iter().any(|p| p.reason == "MissingWhileTerminating") && !explanation.protected);
    assert!(explanation.verdict.contains("lacks policies"), "{}", explanation.verdict);

    sim.delete("a", CARVEOUT);
    assert_eq!(entries(&sim.status_after(0)), lost(None), "nobody waits again");
    sim.see(Event::Namespace(Change::Deleted(named(json!({"name": "a", "uid": "uid-a"})))));
    let status = sim.status_after(0);
    assert_eq!((ready(&status), entries(&status), status.namespaces.unprotected), ("NothingSelected", vec![], 0));
}

#[test]
fn i5_a_namespace_whose_deletion_fails_for_ten_minutes_stays_reported_but_ready_no_longer_waits_for_it() {
    let mut sim = is_going();
    sim.delete("a", INGRESS);
    sim.status_after(40);
    let since = sim.now().wall;
    goes(&mut sim, false, Some(since));
    let status = sim.status_after(500);
    assert_eq!((ready(&status), entries(&status)), ("MissingWhileTerminating", lost(Some(INGRESS))));
    let wake = sim.engine.next_wake(sim.now()).unwrap() - sim.now().instant;
    assert!(wake <= SECOND * 100, "nothing else would end the wait: {wake:?}");
    let status = sim.status_after(100);
    let reported = |status: &PolicyBaselineStatus| (entries(status), status.namespaces.unprotected);
    assert_eq!((ready(&status), reported(&status)), ("DeletionFailing", (lost(Some(INGRESS)), 1)));
    assert!(!sim.engine.explain("a", sim.now()).unwrap().protected);
    assert_eq!(sim.announcements().len(), 1, "the Event is not repeated");
    open(&mut sim, EGRESS);
    assert_eq!(sim.jobs().len(), 1, "what is left is still kept right");
    // The error is over, and the namespace may go now. If a new one begins, its time counts.
    goes(&mut sim, false, None);
    let status = sim.status_after(1);
    assert_eq!((ready(&status), reported(&status)), ("MissingWhileTerminating", (lost(Some(INGRESS)), 1)));
}

#[test]
fn i5_once_pods_are_proven_gone_the_policies_may_go_too() {
    let mut sim = is_going();
    sim.delete("a", INGRESS);
    sim.status_after(0);
    assert_eq!(entries(&sim.status_after(30)), lost(Some(INGRESS)));
    going(&mut sim, true);
    let status = sim.status_after(40);
    assert_eq!((ready(&status), entries(&status), status.namespaces.selected), ("NothingSelected", vec![], 0));
    open(&mut sim, EGRESS);
    assert_eq!(sim.jobs().len(), 0);
}

#[test]
fn i5_a_restart_does_not_end_the_report_even_if_no_policy_is_left() {
    let mut sim = is_going();
    for policy in [INGRESS, EGRESS, CARVEOUT] {
        sim.delete("a", policy);
    }
    sim.status_after(0);
    let before = sim.status_after(30);
    assert_eq!(entries(&before), lost(None));

    let mut sim = EngineHarness::unsynced();
    sim.pass(SECOND * 100);
    sim.listing(|sim| {
        // Younger than the namespace, which it would only report.
        let metadata = json!({"creationTimestamp": "1970-01-01T00:15:00Z"});
        sim.baseline_stored(1, json!({}), metadata, serde_json::to_value(&before).unwrap());
        going(sim, false);
    });
    sim.settle();
    sim.pass(SECOND * 2);
    assert_eq!((sim.status().is_none(), sim.engine.counts().unprotected), (true, 1), "the stored status stays");
}
