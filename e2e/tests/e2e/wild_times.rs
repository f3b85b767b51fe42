//! Times that no timestamp can hold. Whoever may write an object may store them, and no list may fail because of them.

use policy_baseline_e2e::World;
use serde_json::json;

use crate::list_managed::succeeds;
use crate::opt_outs::{self, opt_out, seconds_from_now};
use crate::others::{self, is, until_violations};
use crate::scene::{DENY_INGRESS, Plan, apply_baseline, until_holds, until_ready};

const PLATFORM: &str = "platform";
const WILD: &str = "9999-12-31T23:59:59Z";

/// Stores that time as the time of a writer of this object.
fn spoil(world: &World, namespace: &str, resource: &str, name: &str, version: &str, field: &str) {
    let fields = json!({ "f:spec": { field: {} } });
    let writer = json!({
        "manager": "tenant", "operation": "Update", "apiVersion": version, "time": WILD, "fieldsType": "FieldsV1", "fieldsV1": fields,
    });
    let patch = json!({ "metadata": { "managedFields": [writer] } }).to_string();
    world.plane().run_kubectl(&["patch", resource, name, "-n", namespace, "--type=merge", "-p", &patch]).unwrap();
    let stored = world.plane().run_kubectl(&["get", resource, name, "-n", namespace, "--show-managed-fields", "-o", "json"]);
    assert!(stored.unwrap().contains(WILD), "{resource} {name}");
}

#[tokio::test]
async fn i4_times_that_cannot_be_read_hide_no_bypass_and_stop_no_repair_and_no_subcommand() {
    let mut world = World::new().await.unwrap();
    world.start_operator().await.unwrap();
    apply_baseline(&world, PLATFORM, &json!({})).await;
    let team = world.namespace("team", &[]).await.unwrap();
    until_holds(&world, &team, &Plan::of(PLATFORM)).await;

    opt_outs::create(&world, &team, &opt_out("partner", &["MonitoringCarveout"], seconds_from_now(3_600))).await;
    until_holds(&world, &team, &Plan::of(PLATFORM).without("MonitoringCarveout")).await;
    others::create(&world.admin(), &team, "own", &json!({ "podSelector": { "matchLabels": { "a": "b" } } })).await;
    for policy in ["own", DENY_INGRESS] {
        spoil(&world, &team, "networkpolicies", policy, "networking.k8s.io/v1", "f:policyTypes");
    }
    spoil(&world, &team, "baselineoptouts", "partner", "policybaseline.io/v1alpha1", "f:reason");
    let lease = json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": { "name": "policy-baseline", "namespace": team },
        "spec": { "holderIdentity": "tenant", "leaseDurationSeconds": 15, "renewTime": "9999-12-31T23:59:59.000000Z" },
    });
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("lease.json");
    std::fs::write(&file, lease.to_string()).unwrap();
    world.plane().run_kubectl(&["create", "-f", file.to_str().unwrap()]).unwrap();

    // The running instance sees each object, and the next one lists them all.
    let next = world.namespace("next", &[]).await.unwrap();
    until_holds(&world, &next, &Plan::of(PLATFORM)).await;
    world.restart_operator().await.unwrap();
    // None of them hides a bypass.
    let open = r#"{"spec":{"podSelector":{"matchLabels":null},"ingress":[{}]}}"#;
    world.plane().run_kubectl(&["patch", "networkpolicies", "own", "-n", &team, "--type=merge", "-p", open]).unwrap();
    until_violations(&world, &team, &is("Bypassed", "own")).await;
    let last = world.namespace("last", &[]).await.unwrap();
    until_holds(&world, &last, &Plan::of(PLATFORM)).await;
    assert!(succeeds(&world, &["explain", "namespace", &team]).await.contains(PLATFORM));
    assert!(succeeds(&world, &["list-managed"]).await.contains(&team));
    // The client of this suite cannot read them.
    world.plane().run_kubectl(&["delete", "networkpolicies", "own", DENY_INGRESS, "-n", &team]).unwrap();
    until_holds(&world, &team, &Plan::of(PLATFORM).without("MonitoringCarveout")).await;
    until_ready(&world, PLATFORM).await;
}
