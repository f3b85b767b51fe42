//! Policies with our labels that a tenant forged.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};

use super::{
    harness::{EngineHarness, ready},
    others::{open, violations},
};
use crate::{
    api::{
        names::{LABEL_BASELINE, LABEL_ID, LABEL_MANAGED_BY, MANAGER},
        reason::Failure,
    },
    engine::facts::event::{Change, Event},
    policy::plan::own_id,
};

const EGRESS: &str = "baseline-default-deny-egress";

/// A policy that opens everything, with our labels and the name of that baseline.
fn forged(name: &str, baseline: &str, version: u32) -> Event {
    let labels = json!({LABEL_MANAGED_BY: MANAGER, LABEL_ID: own_id("a", name), LABEL_BASELINE: baseline});
    let meta = json!({"namespace": "a", "name": name, "uid": format!("uid-{name}"), "resourceVersion": version.to_string(), "labels": labels});
    Event::Policy(Change::Applied(Box::new(serde_json::from_value(json!({"metadata": meta, "spec": open()})).unwrap())))
}

#[test]
fn i7_a_forged_policy_freezes_no_namespace_unless_it_is_older_than_the_rest_of_the_baseline_that_it_names() {
    let invalid = json!({"excludeNamespaces": ["Not A Name"]});
    let suspended = json!({"suspend": true, "namespaceSelector": {"matchLabels": {"tier": "prod"}}});
    for spec in [invalid, suspended] {
        let stored = |observed: i64, since: &str| json!({"observedGeneration": observed, "restingSinceVersion": since});
        // Generation, stored status, and whether the operator closes the namespace. The baseline has version 7, the policy 60.
        for (generation, status, version, is_closed) in [
            (5, stored(5, "59"), 60, true),
            (5, stored(5, "60"), 60, false),
            // It was edited while nobody watched, and rests as before.
            (5, stored(4, "59"), 60, true),
            // In between it may have been at work.
            (5, stored(3, "59"), 6, false),
            // Nothing was noted. What is newer than what was listed is not its own.
            (5, Value::Null, 7, false),
            (5, Value::Null, 8, true),
            // It never worked.
            (1, Value::Null, 6, true),
        ] {
            let mut sim = EngineHarness::unsynced();
            sim.listing(|sim| {
                sim.baseline(1, json!({}));
                sim.baseline_stored(generation, spec.clone(), json!({"name": "resting", "uid": "uid-resting"}), status.clone());
                sim.namespace("a");
                sim.see(forged("forged", "resting", version));
            });
            sim.settle();
            let case = format!("{spec} {generation} {status} {version}");
            assert_eq!(sim.policies.len(), if is_closed { 3 } else { 0 }, "{case}");
            sim.pass(Duration::from_secs(2));
            while sim.status().is_some() {}
            let told: Vec<_> = sim.statuses.iter().filter_map(|status| status.resting_since_version.clone()).collect();
            assert_eq!(told.len(), 1, "{case}: {told:?}");
        }
    }
}

#[test]
fn i4_a_forged_policy_is_told_as_a_bypass_while_its_removal_waits_and_does_not_keep_the_baseline_from_being_ready() {
    for kept_by_finalizer in [true, false] {
        let mut sim = EngineHarness::protected();
        if kept_by_finalizer {
            sim.tamper("a", EGRESS, |policy| {
                policy.metadata.deletion_timestamp = Some(Time(jiff::Timestamp::UNIX_EPOCH));
                policy.metadata.finalizers = Some(vec!["example.com/held".into()]);
            });
        } else {
            sim.delete("a", EGRESS);
            sim.answer(|_, _| Some(Failure::QuotaExceeded));
        }
        sim.see(forged("forged", "b", 1000));
        sim.answer(|_, _| Some(Failure::QuotaExceeded));
        let told = violations(&mut sim);
        assert!(told.contains(&("Bypassed".into(), "forged".into())), "{told:?}");
        let status = sim.statuses.last().unwrap();
        assert_eq!(ready(status), if kept_by_finalizer { "Protected" } else { "WritesFailing" });
    }
}
