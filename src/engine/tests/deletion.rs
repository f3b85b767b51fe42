//! A baseline that is deleted, with its policies.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::json;

use super::harness::EngineHarness;
use crate::engine::writes::{Done, Task, Wrote};

const INGRESS: &str = "baseline-default-deny-ingress";

#[test]
fn a_baseline_that_is_deleted_waits_for_a_policy_that_a_finalizer_holds() {
    let mut sim = EngineHarness::protected();
    let finalizer = json!({"finalizers": ["policybaseline.io/delete-policies"]});
    let going = json!({"finalizers": finalizer["finalizers"], "deletionTimestamp": "1970-01-01T00:20:00Z"});
    sim.baseline_with(2, json!({"deletionPolicy": "Delete"}), going);
    let mut jobs = sim.jobs();
    let job = jobs.remove(0);
    // The API server answers with the object, and the watch has yet to show it.
    let write = |task: &Task| match &*task.drift.policy {
        INGRESS => Ok(Wrote::Terminating),
        policy => Ok(sim.policies_write(&job, policy, &task.drift.fix)),
    };
    let results = job.tasks.iter().map(write).collect();
    let now = sim.now();
    sim.engine.done(Done { job, results }, now);
    assert_eq!(sim.jobs().len(), 0, "the same deletion again would change nothing");
    assert!(sim.engine.finalizers(now).is_empty(), "the policy is still there");
    sim.tamper("a", INGRESS, |p| {
        p.metadata.deletion_timestamp = Some(Time(jiff::Timestamp::UNIX_EPOCH));
        p.metadata.finalizers = Some(vec!["example.com/held".into()]);
    });
    sim.settle();
    sim.pass(Duration::from_secs(5));
    // What stood beside the policy stays as long as it is there.
    assert_eq!(sim.policies.keys().map(|(_, policy)| &**policy).collect::<Vec<_>>(), [INGRESS, "baseline-monitoring-carveout"]);
    let message = sim.status().unwrap().conditions[0].message.clone();
    assert!(message.contains("2 of its policies"), "{message}");
    assert!(sim.engine.finalizers(sim.now()).is_empty(), "the policy is still there");
    sim.delete("a", INGRESS);
    sim.settle();
    sim.pass(Duration::from_secs(5));
    assert_eq!(sim.engine.finalizers(sim.now()).len(), 1);
}
