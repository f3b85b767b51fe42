//! Which labels namespaces get, and when.

use std::time::Duration;

use serde_json::{Value, json};

use super::harness::{EngineHarness, OWN, named};
use crate::{
    api::{
        DecidedLabel::{self, Exempt, Protected},
        names::LABEL_DECIDED,
        reason::Failure,
        schema::not_processed,
    },
    engine::{
        Engine,
        facts::event::{Change, Event},
        outbox::namespace_labels::NamespaceLabelWrite,
        writes::{Cause, WriteError},
    },
};

const INGRESS: &str = "baseline-default-deny-ingress";

/// An engine that labels namespaces, with everything listed.
fn labelling() -> EngineHarness {
    let mut sim = EngineHarness::blank();
    sim.engine = Engine::new(OWN).labelling();
    sim.lead(true);
    sim.list_configurations();
    sim.list();
    sim
}

/// The writes that are due now.
fn due(sim: &mut EngineHarness) -> Vec<NamespaceLabelWrite> {
    let now = sim.now();
    while sim.engine.assess_dirty(now) {}
    sim.engine.label_writes(now)
}

fn words(writes: &[NamespaceLabelWrite]) -> Vec<String> {
    writes.iter().map(|write| format!("{} {}", write.namespace, write.mark.into_str())).collect()
}

fn written(sim: &mut EngineHarness, writes: &[NamespaceLabelWrite], result: Result<(), WriteError>) {
    let now = sim.now();
    for write in writes {
        let result = match &result {
            Ok(()) => Ok(Some(write.mark.value(&write.uid))),
            Err(WriteError::Failed { reason, message }) => Err(WriteError::Failed { reason: *reason, message: message.clone() }),
            Err(other) => panic!("{other}"),
        };
        sim.engine.label_written(write, result, now);
    }
}

/// The label of the namespace `ns` as the operator writes it.
fn value(ns: &str, mark: DecidedLabel) -> String {
    mark.value(&format!("uid-{ns}").as_str().into())
}

fn labelled(ns: &str, mark: DecidedLabel) -> Value {
    json!({ LABEL_DECIDED: value(ns, mark) })
}

#[test]
fn a_namespace_is_labelled_when_every_policy_is_in_place_and_not_before() {
    let mut sim = labelling();
    sim.baseline(1, json!({}));
    sim.namespace("a");
    let jobs = sim.jobs();
    assert_eq!(words(&due(&mut sim)), [""; 0]);
    assert_eq!(jobs.len(), 1);
    for job in jobs {
        let last = job.tasks.len() - 1;
        let results = job.tasks.iter().enumerate().map(|(i, task)| {
            if i == last {
                return Err(WriteError::Failed { reason: Failure::Unavailable, message: "said no".into() });
            }
            Ok(sim.policies_write(&job, &task.drift.policy, &task.drift.fix))
        });
        let results = results.collect();
        let now = sim.now();
        sim.engine.done(crate::engine::writes::Done { job, results }, now);
    }
    assert_eq!(words(&due(&mut sim)), [""; 0], "one is missing");
    sim.pass(Duration::from_mins(1));
    sim.settle();
    let writes = due(&mut sim);
    assert_eq!(words(&writes), ["a protected"]);
    assert_eq!(words(&due(&mut sim)), [""; 0], "it is under way");
    written(&mut sim, &writes, Ok(()));
    assert_eq!(words(&due(&mut sim)), [""; 0], "its echo is awaited");
    sim.namespace_with("a", labelled("a", Protected));
    sim.pass(Duration::from_mins(1));
    assert_eq!(words(&due(&mut sim)), [""; 0]);
    // A policy that must be repaired does not keep pods out.
    sim.delete("a", INGRESS);
    assert_eq!(words(&due(&mut sim)), [""; 0]);
}

#[test]
fn what_gets_no_policy_is_exempt() {
    for (spec, labels, wanted) in [
        (json!({"mode": "Audit"}), json!({}), "a exempt"),
        (json!({"excludeNamespaces": ["a"]}), json!({}), "a exempt"),
        (json!({"namespaceSelector": {"matchLabels": {"team": "x"}}}), json!({}), "a exempt"),
        (json!({"namespaceSelector": {"matchLabels": {"team": "x"}}}), json!({"team": "x"}), "a protected"),
    ] {
        let mut sim = labelling();
        sim.baseline(1, spec.clone());
        sim.namespace_with("a", labels);
        sim.settle();
        assert_eq!(words(&due(&mut sim)), [wanted], "{spec}");
    }
    // The namespace is older than its baseline.
    let mut sim = labelling();
    sim.namespace("a");
    sim.baseline_with(1, json!({}), json!({"creationTimestamp": "1970-01-01T00:20:00Z"}));
    sim.settle();
    assert_eq!(words(&due(&mut sim)), ["a exempt"]);
    // There is no baseline at all.
    let mut sim = labelling();
    sim.namespace("a");
    assert_eq!(words(&due(&mut sim)), ["a exempt"]);
}

#[test]
fn a_label_follows_what_is_decided_and_comes_back_when_it_is_taken_off() {
    let mut sim = labelling();
    let platform = json!({"namespaceSelector": {"matchLabels": {"team": "x"}}});
    sim.baseline(1, platform);
    sim.namespace_with("a", json!({"team": "x", LABEL_DECIDED: value("a", Exempt)}));
    assert_eq!(words(&due(&mut sim)), [""; 0], "until it is protected");
    sim.settle();
    assert_eq!(words(&due(&mut sim)), ["a protected"]);
    sim.namespace_with("a", json!({"team": "x", LABEL_DECIDED: value("a", Protected)}));
    assert_eq!(words(&due(&mut sim)), [""; 0]);
    for spoiled in [json!({"team": "x"}), json!({"team": "x", LABEL_DECIDED: "yes"}), json!({"team": "x", LABEL_DECIDED: ""})] {
        sim.namespace_with("a", spoiled.clone());
        let writes = due(&mut sim);
        assert_eq!(words(&writes), ["a protected"], "{spoiled}");
        written(&mut sim, &writes, Ok(()));
        sim.namespace_with("a", json!({"team": "x", LABEL_DECIDED: value("a", Protected)}));
        assert_eq!(words(&due(&mut sim)), [""; 0]);
    }
    sim.namespace_with("a", labelled("a", Protected));
    sim.settle();
    assert_eq!(words(&due(&mut sim)), ["a exempt"]);
}

#[test]
fn a_label_that_names_another_namespace_proves_nothing() {
    // A backup carries the label of the namespace that was there before.
    for copied in [value("old", Protected), value("old", Exempt), "protected".into(), "exempt".into()] {
        let mut sim = labelling();
        sim.namespace_with("a", json!({ LABEL_DECIDED: copied }));
        assert_eq!(words(&due(&mut sim)), ["a exempt"], "{copied}");
    }
}

#[test]
fn what_the_watch_never_shows_is_written_again() {
    let mut sim = labelling();
    sim.namespace("a");
    let writes = due(&mut sim);
    written(&mut sim, &writes, Ok(()));
    assert!(sim.engine.next_wake(sim.now()).is_some());
    sim.pass(Duration::from_secs(6));
    assert_eq!(words(&due(&mut sim)), ["a exempt"]);
}

#[test]
fn a_suspended_baseline_leaves_new_namespaces_undecided_and_takes_nothing_back() {
    let mut sim = labelling();
    sim.baseline(1, json!({"suspend": true}));
    sim.namespace("a");
    sim.namespace_with("b", labelled("b", Protected));
    assert_eq!(words(&due(&mut sim)), [""; 0]);
    sim.baseline(2, json!({}));
    sim.settle();
    assert_eq!(words(&due(&mut sim)), ["a protected"]);
}

#[test]
fn while_a_baseline_cannot_be_planned_with_nobody_knows_what_it_would_select() {
    let mut sim = labelling();
    sim.baseline(1, json!({"policies": ["Nope"]}));
    sim.namespace("a");
    sim.namespace_with("b", labelled("b", Protected));
    assert_eq!(words(&due(&mut sim)), ["b exempt"], "what was decided once follows what is known");
    sim.baseline(2, json!({"namespaceSelector": {"matchLabels": {"team": "x"}}}));
    assert_eq!(words(&due(&mut sim)), ["a exempt"]);
}

#[test]
fn i14_a_label_that_admission_takes_away_is_told_and_tried_again_later_and_later() {
    let mut sim = labelling();
    sim.namespace("a");
    let mut waited = Vec::new();
    for stored in [None, Some("other"), None, None] {
        let writes = due(&mut sim);
        assert_eq!(words(&writes), ["a exempt"]);
        let now = sim.now();
        sim.engine.label_written(&writes[0], Ok(stored.map(str::to_owned)), now);
        let wait = sim.engine.next_wake(now).unwrap() - now.instant;
        waited.push(wait);
        sim.pass(wait);
    }
    assert!(waited.is_sorted() && waited[3] > waited[0] * 6, "{waited:?}");
}

#[test]
fn a_policy_that_is_going_and_holds_the_wrong_rules_is_not_in_place() {
    let mut sim = labelling();
    sim.baseline(1, json!({}));
    sim.namespace("a");
    sim.settle();
    assert_eq!(words(&due(&mut sim)), ["a protected"]);
    sim.namespace("b");
    sim.settle();
    sim.tamper("b", INGRESS, |policy| {
        policy.metadata.deletion_timestamp =
            Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(jiff::Timestamp::UNIX_EPOCH));
        policy.metadata.finalizers = Some(vec!["example.com/held".into()]);
        policy.spec.as_mut().unwrap().ingress = Some(vec![k8s_openapi::api::networking::v1::NetworkPolicyIngressRule::default()]);
    });
    let now = sim.now();
    while sim.engine.assess_dirty(now) {}
    assert_eq!(words(&sim.engine.label_writes(now)), [""; 0]);
    sim.settle();
    let writes = due(&mut sim);
    assert_eq!(words(&writes), ["b protected"], "its rules are right again");
}

#[test]
fn namespaces_of_the_system_are_not_labelled_and_nothing_is_unless_it_is_told_to() {
    let mut sim = labelling();
    for name in ["kube-system", "kube-public", "kube-node-lease", OWN] {
        sim.namespace(name);
    }
    assert_eq!(words(&due(&mut sim)), [format!("{OWN} exempt")], "it may be another than the one that the component leaves out");
    let mut sim = EngineHarness::new();
    sim.namespace("a");
    assert_eq!(words(&due(&mut sim)), [""; 0]);
}

#[test]
fn only_the_leader_labels_and_what_goes_is_left_alone() {
    let mut sim = labelling();
    sim.lead(false);
    sim.namespace("a");
    assert_eq!(words(&due(&mut sim)), [""; 0]);
    sim.lead(true);
    assert_eq!(words(&due(&mut sim)), ["a exempt"]);
    let mut sim = labelling();
    let going = json!({"name": "a", "uid": "uid-a", "creationTimestamp": "1970-01-01T00:10:00Z",
        "deletionTimestamp": "1970-01-01T00:20:00Z", "labels": {}});
    sim.see(Event::Namespace(Change::Applied(named(going))));
    assert_eq!(words(&due(&mut sim)), [""; 0], "I5");
    // The namespace is gone between the assessment and the write.
    let mut sim = labelling();
    sim.namespace("a");
    let now = sim.now();
    while sim.engine.assess_dirty(now) {}
    sim.see(Event::Namespace(Change::ListBegan));
    sim.see(Event::Namespace(Change::ListDone));
    assert_eq!(words(&due(&mut sim)), [""; 0]);
}

#[test]
fn a_write_that_fails_is_tried_again_later_and_later_and_at_once_for_a_namespace_made_anew() {
    let mut sim = labelling();
    sim.namespace("a");
    let mut waited = Vec::new();
    for _ in 0..4 {
        let writes = due(&mut sim);
        assert_eq!(words(&writes), ["a exempt"]);
        written(&mut sim, &writes, Err(WriteError::Failed { reason: Failure::Forbidden, message: "said no".into() }));
        assert_eq!(words(&due(&mut sim)), [""; 0]);
        let wait = sim.engine.next_wake(sim.now()).unwrap() - sim.now().instant;
        waited.push(wait);
        sim.pass(wait);
    }
    assert!(waited.is_sorted() && waited[3] > waited[0] * 6, "{waited:?}");
    let writes = due(&mut sim);
    written(&mut sim, &writes, Err(WriteError::Failed { reason: Failure::Forbidden, message: "said no".into() }));
    let anew = json!({"name": "a", "uid": "another", "creationTimestamp": "1970-01-01T00:10:00Z", "labels": {}});
    sim.see(Event::Namespace(Change::Applied(named(anew))));
    assert_eq!(words(&due(&mut sim)), ["a exempt"]);
}

#[test]
fn so_many_are_written_at_once_and_no_more() {
    let mut sim = labelling();
    for i in 0..100 {
        sim.namespace(&format!("n{i:02}"));
    }
    let mut all = 0;
    loop {
        let writes = due(&mut sim);
        if writes.is_empty() {
            break;
        }
        assert!(writes.len() <= 32);
        all += writes.len();
        written(&mut sim, &writes, Ok(()));
    }
    assert_eq!(all, 100);
}

/// A namespace that is older than its baseline, as an instance finds it that starts: with this label, without policies.
fn found(keeps_labels: bool, spec: &Value, label: Value, has_status: bool) -> EngineHarness {
    let mut sim = EngineHarness::blank();
    if keeps_labels {
        sim.engine = Engine::new(OWN).labelling();
    }
    sim.lead(true);
    sim.list_configurations();
    let conditions = json!([{"type": "Ready", "status": "True", "reason": "Protected", "message": "",
        "lastTransitionTime": "1970-01-12T00:00:00Z"}]);
    let not_processed = not_processed("Ready", "PolicyBaseline");
    let status = if has_status { json!({"observedGeneration": 1, "conditions": conditions}) } else { not_processed };
    sim.listing(|sim| {
        sim.namespace_with("a", label);
        sim.baseline_stored(1, spec.clone(), json!({"creationTimestamp": "1970-01-01T00:20:00Z"}), status);
    });
    sim
}

#[test]
fn i1_what_was_protected_before_a_restart_is_closed_again_if_the_label_proves_it() {
    let protected = || labelled("a", Protected);
    let report = json!({});
    for (what, keeps_labels, spec, label, has_status, policies) in [
        ("its label names its uid", true, &report, protected(), true, 3),
        ("exempt", true, &report, labelled("a", Exempt), true, 0),
        ("no label", true, &report, json!({}), true, 0),
        ("of another namespace", true, &report, json!({ LABEL_DECIDED: value("old", Protected) }), true, 0),
        ("the operator does not keep labels", false, &report, protected(), true, 0),
        ("a baseline that was never there before", true, &report, protected(), false, 0),
        ("only audited", true, &json!({"mode": "Audit"}), protected(), true, 0),
        ("left out", true, &json!({"excludeNamespaces": ["a"]}), protected(), true, 0),
    ] {
        let mut sim = found(keeps_labels, spec, label, has_status);
        let causes: Vec<Cause> = sim.jobs().iter().flat_map(|job| &job.tasks).map(|task| task.cause).collect();
        assert_eq!(causes, vec![Cause::Others; policies], "{what}");
    }
    let mut sim = found(true, &report, protected(), true);
    sim.settle();
    assert_eq!(words(&due(&mut sim)), [""; 0], "the label stays");
    sim.pass(Duration::from_secs(2));
    let status = sim.status().unwrap();
    let drift: Vec<&str> = status.recent_drift.iter().map(|drift| &*drift.class).collect();
    assert_eq!((drift, status.namespaces.protected), (vec!["Missing"; 3], 1));
}

#[test]
fn a_label_proves_something_only_to_an_instance_that_starts() {
    let mut sim = found(true, &json!({}), labelled("a", Exempt), true);
    assert_eq!(words(&due(&mut sim)), [""; 0]);
    // Somebody forges it, and the policies are listed again.
    sim.namespace_with("a", labelled("a", Protected));
    sim.see(Event::Policy(Change::ListBegan));
    sim.see(Event::Policy(Change::ListDone));
    sim.settle();
    assert_eq!((sim.policies.len(), words(&due(&mut sim))), (0, vec!["a exempt".to_owned()]));
}

#[test]
fn what_the_label_proved_is_forgotten_when_the_baseline_leaves() {
    let mut sim = found(true, &json!({"excludeNamespaces": ["a"]}), labelled("a", Protected), true);
    assert_eq!(words(&due(&mut sim)), ["a exempt"]);
    sim.baseline_stored(2, json!({}), json!({"creationTimestamp": "1970-01-01T00:20:00Z"}), Value::Null);
    sim.settle();
    assert_eq!(sim.policies.len(), 0, "it is older than the baseline, and only reported");
}
