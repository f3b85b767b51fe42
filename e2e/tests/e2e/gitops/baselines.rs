//! Statuses of baselines that the operator wrote, judged as Argo CD and Flux do.

use futures::future::join_all;
use kube::api::DynamicObject;
use policy_baseline::PolicyBaselineStatus;
use policy_baseline_e2e::World;
use serde_json::{Value, json};

use super::states::States;
use crate::rollout::until_stored;
use crate::scene::{Plan, apply_baseline, baselines, condition, delete_baseline, until_holds, until_status};
use crate::support::{TEAM, label, team, until_finalizer};
use crate::writes_failing::quota;

async fn get(world: &World, name: &str) -> DynamicObject {
    baselines(world).get(name).await.unwrap()
}

/// The baseline, once its status is for its generation and Ready has this reason.
async fn until_reason(world: &World, name: &str, reason: &str) -> DynamicObject {
    until_status(world, name, reason, |status| condition(status, "Ready").reason == reason).await;
    get(world, name).await
}

/// A baseline for the namespaces of the team of its name, with these further fields.
async fn apply(world: &World, name: &str, more: &Value) {
    let mut spec = json!({ "namespaceSelector": team(name) });
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    apply_baseline(world, name, &spec).await;
}

async fn namespace(world: &World, name: &str, of: &str) {
    world.namespace_named(name, &[(TEAM, of)]).await.unwrap();
}

#[tokio::test]
async fn a_status_of_a_baseline_that_the_operator_wrote_means_to_argo_cd_and_flux_what_the_page_says() {
    let mut world = World::new().await.unwrap();
    if world.plane().is_external() {
        return;
    }
    let mut states = States::of("PolicyBaseline");
    apply(&world, "protected", &json!({})).await;
    states.add("progressing_notProcessed", &get(&world, "protected").await, ["Progressing", "InProgress", "InProgress"]);
    world.start_operator().await.unwrap();

    namespace(&world, "gitops-protected", "protected").await;
    let ready = until_reason(&world, "protected", "Protected").await;
    states.add("healthy_protected", &ready, ["Healthy", "Current", "Current"]);
    apply(&world, "audited", &json!({ "mode": "Audit" })).await;
    namespace(&world, "gitops-audited", "audited").await;
    let drifted = |status: &PolicyBaselineStatus| status.namespaces.drifted == 1;
    until_status(&world, "audited", "it would change something", drifted).await;
    states.add("healthy_audited", &until_reason(&world, "audited", "Audited").await, ["Healthy", "Current", "Current"]);
    apply(&world, "nothing", &json!({})).await;
    let nothing = until_reason(&world, "nothing", "NothingSelected").await;
    states.add("healthy_nothingSelected", &nothing, ["Healthy", "Current", "Current"]);

    apply_baseline(&world, "stalled", &json!({ "namespaceSelector": { "matchLabels": { "Bad Key!": "x" } } })).await;
    states.add("degraded_stalled", &until_reason(&world, "stalled", "InvalidSelector").await, ["Degraded", "Failed", "Failed"]);
    apply(&world, "suspended", &json!({ "suspend": true })).await;
    let suspended = until_reason(&world, "suspended", "Suspended").await;
    states.add("suspended_suspended", &suspended, ["Suspended", "InProgress", "Current"]);

    awaits_confirmation(&world, &mut states).await;
    writes_fail(&world, &mut states).await;
    rolls_out(&world, &mut states).await;
    is_deleted(&world, &mut states).await;

    world.stop_operator().unwrap();
    apply(&world, "protected", &json!({ "dns": { "ports": [5353] } })).await;
    let edited = get(&world, "protected").await;
    assert_eq!((edited.metadata.generation, &edited.data["status"]["observedGeneration"]), (Some(2), &json!(1)));
    states.add("progressing_olderSpec", &edited, ["Progressing", "InProgress", "InProgress"]);
    states.judge();
}

async fn awaits_confirmation(world: &World, states: &mut States) {
    apply(world, "awaiting", &json!({})).await;
    let names: Vec<String> = (0..12).map(|number| format!("gitops-awaiting-{number:02}")).collect();
    join_all(names.iter().map(|name| namespace(world, name, "awaiting"))).await;
    for name in &names {
        until_holds(world, name, &Plan::of("awaiting")).await;
    }
    until_reason(world, "awaiting", "Protected").await;
    apply_baseline(world, "awaiting", &json!({ "namespaceSelector": team("waiting") })).await;
    let awaiting = until_reason(world, "awaiting", "AwaitingConfirmation").await;
    states.add("suspended_awaitingConfirmation", &awaiting, ["Suspended", "InProgress", "Failed"]);
}

async fn writes_fail(world: &World, states: &mut States) {
    apply(world, "failing", &json!({ "policies": ["DefaultDenyIngress"] })).await;
    world.namespace_named("gitops-failing", &[]).await.unwrap();
    quota(world, "gitops-failing", 0).await;
    label(world, "gitops-failing", TEAM, Some("failing")).await;
    let told =
        |status: &PolicyBaselineStatus| condition(status, "Ready").reason == "WritesFailing" && !status.violations.is_empty();
    until_status(world, "failing", "a write fails", told).await;
    states.add("degraded_writesFailing", &get(world, "failing").await, ["Degraded", "InProgress", "InProgress"]);
}

async fn rolls_out(world: &World, states: &mut States) {
    let spec = |port: u16| json!({ "dns": { "ports": [port] }, "rollout": { "maxNamespacesPerWave": 1, "interval": "12h" } });
    apply(world, "rolling", &spec(5301)).await;
    for name in ["gitops-rolling-1", "gitops-rolling-2"] {
        namespace(world, name, "rolling").await;
        until_holds(world, name, &Plan::of("rolling").dns_port(5301).asked()).await;
    }
    until_reason(world, "rolling", "Protected").await;
    until_stored(world, "rolling", 1).await;
    apply(world, "rolling", &spec(5302)).await;
    let waits = |status: &PolicyBaselineStatus| status.rollout.as_ref().is_some_and(|rollout| rollout.next_wave_at.is_some());
    until_status(world, "rolling", "the next wave waits", waits).await;
    let rolling = until_reason(world, "rolling", "RollingOut").await;
    states.add("progressing_rollingOut", &rolling, ["Progressing", "InProgress", "InProgress"]);
}

async fn is_deleted(world: &World, states: &mut States) {
    apply(world, "deleted", &json!({ "deletionPolicy": "Delete" })).await;
    until_finalizer(world, "deleted").await;
    apply(world, "deleted", &json!({ "deletionPolicy": "Delete", "suspend": true })).await;
    until_reason(world, "deleted", "Suspended").await;
    delete_baseline(world, "deleted").await;
    let deleted = until_reason(world, "deleted", "Suspended").await;
    // Argo CD decides without the health check. Flux has the same word for both ways, and waits until the object is gone.
    states.add("deleting", &deleted, ["Suspended", "Terminating", "InProgress"]);
}
