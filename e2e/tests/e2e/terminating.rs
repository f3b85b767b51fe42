//! Namespaces that are being deleted while pods run there. No kubelet runs here, so a pod with a node ends only when a test ends it.

use k8s_openapi::api::core::v1::{ConfigMap, Event, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt};
use policy_baseline::PolicyBaselineStatus;
use policy_baseline_e2e::{TIMEOUT, World, skipped_without_audit_log};
use serde_json::json;

use crate::admin_port::metrics_of;
use crate::explain::explained_as_open;
use crate::repair::{PLATFORM, enforcing};
use crate::scene::{
    DENY_EGRESS, DENY_INGRESS, Plan, condition, events, merge, policies_of, tenant, until_holds, until_only, until_ready,
    until_status, until_status_within,
};
use crate::support::{Writes, fence_of_its_own, label, namespaces, until_gone};

const LOST: &str = "MissingWhileTerminating";

fn pods_of(client: &Client, namespace: &str) -> Api<Pod> {
    Api::namespaced(client.clone(), namespace)
}

/// A pod that runs for a year after its deletion.
pub async fn run_long(client: &Client, namespace: &str) {
    let pod = json!({ "metadata": { "name": "long" }, "spec": { "nodeName": "node-1", "terminationGracePeriodSeconds": 31_536_000,
        "containers": [{ "name": "main", "image": "example.com/web:1" }] } });
    pods_of(client, namespace).create(&PostParams::default(), &serde_json::from_value(pod).unwrap()).await.unwrap();
}

/// Deletes a namespace as `kubectl delete namespace --wait=false`, and waits until the namespace controller has deleted the pod.
pub async fn delete_around_the_pod(world: &World, namespace: &str) {
    namespaces(world).delete(namespace, &DeleteParams::default()).await.unwrap();
    let pods = pods_of(&world.admin(), namespace);
    let is_going = async || pods.get("long").await.map(|pod| pod.metadata.deletion_timestamp.is_some());
    world.eventually("the pod is being deleted", TIMEOUT, is_going).await.unwrap();
}

/// The pod ends, as its node would report. The namespace controller looks every five minutes, or when the namespace changes.
pub async fn end_pod(world: &World, namespace: &str) {
    pods_of(&world.admin(), namespace).delete("long", &DeleteParams::default().grace_period(0)).await.unwrap();
    label(world, namespace, "e2e.policybaseline.io/pod", Some("ended")).await;
}

async fn lose_all_policies(client: &Client, namespace: &str) {
    policies_of(client, namespace).delete_collection(&DeleteParams::default(), &ListParams::default()).await.unwrap();
}

fn lost(status: &PolicyBaselineStatus) -> Vec<&str> {
    status.violations.iter().filter(|v| v.reason.into_str() == LOST).map(|v| v.namespace.as_str()).collect()
}

#[tokio::test]
async fn i5_in_a_namespace_that_is_being_deleted_policies_are_repaired_and_its_normal_end_is_never_reported() {
    if skipped_without_audit_log() {
        return;
    }
    let world = enforcing(&json!({})).await;
    let ns = world.namespace("going", &[]).await.unwrap();
    let before = until_holds(&world, &ns, &Plan::of(PLATFORM)).await;
    let tenant = tenant(&world, &[&ns]).await;
    run_long(&tenant, &ns).await;
    until_ready(&world, PLATFORM).await;
    delete_around_the_pod(&world, &ns).await;
    fence_of_its_own(&world).await;

    let writes = Writes::from_now(&world);
    merge(&policies_of(&tenant, &ns), DENY_INGRESS, "kubectl-edit", &json!({ "spec": { "ingress": [{}] } })).await;
    let after = until_holds(&world, &ns, &Plan::of(PLATFORM)).await;
    assert_eq!(after[DENY_INGRESS].uid(), before[DENY_INGRESS].uid(), "I3");
    let counted =
        until_status(&world, PLATFORM, "the repair", |status| status.recent_drift.iter().any(|d| d.namespace == ns)).await;
    assert_eq!(lost(&counted), [""; 0]);
    assert!(!metrics_of(&world).await.contains(r#"policy_baseline_namespaces{state="unprotected"} 1"#));
    fence_of_its_own(&world).await;
    let refused: Vec<_> = writes.inside(&ns).into_iter().filter(|write| write.code >= 300).collect();
    assert_eq!(refused, [], "nothing is tried that the API server refuses there");
    assert_eq!(events(&world.admin(), &ns).await.len(), 0);

    end_pod(&world, &ns).await;
    until_gone(&world, &ns).await;
    fence_of_its_own(&world).await;
    let status = until_ready(&world, PLATFORM).await;
    assert_eq!(lost(&status), [""; 0]);
    assert!(!world.operator().unwrap().log().contains(LOST));
}

#[tokio::test]
async fn i5_policies_that_a_tenant_deletes_in_a_namespace_that_is_being_deleted_are_reported_until_it_is_gone() {
    let mut world = enforcing(&json!({})).await;
    let [open, ends] = ["open", "ends"].map(World::unique);
    for ns in [&open, &ends] {
        world.namespace_named(ns, &[]).await.unwrap();
        until_holds(&world, ns, &Plan::of(PLATFORM)).await;
    }
    // One of them only waits for an object that has no pods: its policies go too, and that is normal.
    let maps: Api<ConfigMap> = Api::namespaced(world.admin(), &ends);
    let held = json!({ "metadata": { "name": "held", "finalizers": ["e2e.policybaseline.io/hold"] } });
    maps.create(&PostParams::default(), &serde_json::from_value(held).unwrap()).await.unwrap();
    let tenant = tenant(&world, &[&open]).await;
    run_long(&tenant, &open).await;
    until_ready(&world, PLATFORM).await;
    namespaces(&world).delete(&ends, &DeleteParams::default()).await.unwrap();
    until_only(&world, &ends, &[]).await;
    delete_around_the_pod(&world, &open).await;
    // The namespace controller claims that nothing remains while it waits for the pod.
    let claimed = namespaces(&world).get(&open).await.unwrap().status.unwrap_or_default().conditions.unwrap_or_default();
    let remaining = claimed.iter().find(|c| c.type_ == "NamespaceContentRemaining").map(|c| c.status.clone());
    assert!(remaining.is_none_or(|status| status == "False"), "{claimed:?}");

    lose_all_policies(&tenant, &open).await;
    let status = until_status_within(&world, PLATFORM, "it is reported", 3 * TIMEOUT, |status| !lost(status).is_empty()).await;
    assert_eq!((lost(&status), status.namespaces.unprotected), (vec![&*open], 1));
    let ready = condition(&status, "Ready");
    assert_eq!((&*ready.status, &*ready.reason), ("False", LOST));
    let told: Api<Event> = Api::namespaced(world.admin(), "default");
    let is_told = async || {
        let all = told.list(&ListParams::default()).await?.items;
        let about = |e: &Event| e.reason.as_deref() == Some(LOST) && e.involved_object.name.as_deref() == Some(PLATFORM);
        Ok::<_, kube::Error>(all.into_iter().any(|e| about(&e) && e.message.unwrap_or_default().contains(&open)))
    };
    world.eventually("an Event about the baseline", TIMEOUT, is_told).await.unwrap();
    let is_counted = async || metrics_of(&world).await.contains(r#"policy_baseline_namespaces{state="unprotected"} 1"#);
    world.eventually("it is counted", TIMEOUT, is_counted).await.unwrap();
    let text = explained_as_open(&world, &open).await;
    assert!(text.contains(LOST) && text.contains("lacks policies"), "{text}");

    // A restart ends nothing.
    let since = status.violations[0].since.clone();
    world.restart_operator().await.unwrap();
    fence_of_its_own(&world).await;
    let status = until_status(&world, PLATFORM, "it is still reported", |status| lost(status) == [&*open]).await;
    assert_eq!(status.violations[0].since, since);
    assert_eq!(condition(&status, "Ready").last_transition_time, ready.last_transition_time);

    end_pod(&world, &open).await;
    until_gone(&world, &open).await;
    let status = until_ready(&world, PLATFORM).await;
    assert_eq!((lost(&status), status.namespaces.unprotected), (vec![], 0));
    let free = Patch::Merge(json!({ "metadata": { "finalizers": null } }));
    maps.patch("held", &PatchParams::default(), &free).await.unwrap();
    until_gone(&world, &ends).await;
}

#[tokio::test]
async fn i5_what_exists_is_repaired_also_where_other_policies_are_lost() {
    let world = enforcing(&json!({})).await;
    let ns = world.namespace("going", &[]).await.unwrap();
    until_holds(&world, &ns, &Plan::of(PLATFORM)).await;
    let tenant = tenant(&world, &[&ns]).await;
    run_long(&tenant, &ns).await;
    delete_around_the_pod(&world, &ns).await;
    let policies = policies_of(&tenant, &ns);
    policies.delete(DENY_INGRESS, &DeleteParams::default()).await.unwrap();
    let planned = policies.get(DENY_EGRESS).await.unwrap();
    merge(&policies, DENY_EGRESS, "kubectl-edit", &json!({ "spec": { "egress": [{}] } })).await;
    let is_right = async || policies.get(DENY_EGRESS).await.map(|found| found.spec == planned.spec);
    world.eventually("it is repaired", TIMEOUT, is_right).await.unwrap();
    end_pod(&world, &ns).await;
    until_gone(&world, &ns).await;
}

#[tokio::test]
async fn i5_a_namespace_that_a_broken_api_service_keeps_is_reported_and_after_ten_minutes_ready_does_not_wait_for_it() {
    const ERROR: &str = "NamespaceDeletionDiscoveryFailure";
    let world = enforcing(&json!({})).await;
    world.discard();
    let ns = world.namespace("stuck", &[]).await.unwrap();
    until_holds(&world, &ns, &Plan::of(PLATFORM)).await;
    let broken = json!({
        "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": { "name": "v1.broken.e2e.example" },
        "spec": { "group": "broken.e2e.example", "version": "v1", "groupPriorityMinimum": 100, "versionPriority": 100,
            "insecureSkipTLSVerify": true, "service": { "namespace": "kube-system", "name": "none" } },
    });
    world.apply_yaml(&broken.to_string()).await.unwrap();
    let api = namespaces(&world);
    let errors = async || {
        let all = api.get(&ns).await?.status.unwrap_or_default().conditions.unwrap_or_default();
        Ok::<_, kube::Error>(all.iter().any(|c| c.type_ == ERROR && c.status == "True").then_some(all))
    };
    api.delete(&ns, &DeleteParams::default()).await.unwrap();
    let mut conditions = world.eventually("the deletion fails", TIMEOUT, errors).await.unwrap();
    until_only(&world, &ns, &[]).await;
    let is_told = |status: &PolicyBaselineStatus| lost(status) == [&*ns];
    let status = until_status_within(&world, PLATFORM, "it is reported", 3 * TIMEOUT, is_told).await;
    assert_eq!(condition(&status, "Ready").reason, LOST);

    // The error grows old at once. The namespace controller keeps the time of a condition that stays True.
    let ten_minutes_ago = world.server_time().await.unwrap() - jiff::SignedDuration::from_mins(10);
    for condition in &mut conditions {
        condition.last_transition_time = Some(Time(ten_minutes_ago));
    }
    let aged = Patch::Merge(json!({ "status": { "conditions": conditions } }));
    api.patch_status(&ns, &PatchParams::default(), &aged).await.unwrap();
    let is_ready = |status: &PolicyBaselineStatus| condition(status, "Ready").status == "True";
    let status = until_status(&world, PLATFORM, "it is ready", is_ready).await;
    assert_eq!((lost(&status), status.namespaces.unprotected), (vec![&*ns], 1));
    let message = condition(&status, "Ready").message;
    assert!(message.contains("1 lack policies, and their deletion has failed"), "{message}");
    let is_counted = async || metrics_of(&world).await.contains(r#"policy_baseline_namespaces{state="unprotected"} 1"#);
    world.eventually("it is still counted", TIMEOUT, is_counted).await.unwrap();
}
