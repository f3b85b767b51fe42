//! No edit opens many namespaces before its owner confirms that, whatever the edit is.

use std::collections::BTreeMap;

use futures::future::join_all;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::{Patch, PatchParams};
use policy_baseline::PolicyBaselineStatus;
use policy_baseline_e2e::{World, skipped_without_audit_log};
use serde_json::{Value, json};

use crate::scene::{
    Plan, apply_baseline, baselines, condition, delete_baseline, fence, until_holds, until_only, until_ready, until_status,
    writes_since,
};
use crate::support::{label, until_no_baseline};

const PLATFORM: &str = "platform";

fn selecting(tier: &str) -> Value {
    json!({ "namespaceSelector": { "matchLabels": { "tier": tier } } })
}

#[tokio::test]
async fn a_release_of_many_namespaces_waits_until_it_is_confirmed_also_after_a_restart() {
    if skipped_without_audit_log() {
        return;
    }
    let mut world = World::new().await.unwrap();
    apply_baseline(&world, PLATFORM, &selecting("prod")).await;
    apply_baseline(&world, "rest", &json!({ "namespaceSelector": { "matchLabels": { "tier": "rest" } } })).await;
    world.start_operator().await.unwrap();
    let names = join_all((0..12).map(|_| world.namespace("held", &[("tier", "prod")]))).await;
    let names: Vec<String> = names.into_iter().map(Result::unwrap).collect();
    let plan = Plan::of(PLATFORM);
    for ns in &names {
        until_holds(&world, ns, &plan).await;
    }
    until_ready(&world, PLATFORM).await;

    let mark = world.audit().unwrap().mark();
    apply_baseline(&world, PLATFORM, &selecting("prdo")).await;
    let is_held = |status: &PolicyBaselineStatus| condition(status, "Ready").reason == "AwaitingConfirmation";
    let status = until_status(&world, PLATFORM, "the release waits", is_held).await;
    let message = condition(&status, "Ready").message;
    assert_eq!(condition(&status, "AwaitingConfirmation").message, message);
    assert!(message.contains("12 of the 12") && message.contains("policybaseline.io/confirm-release=2"), "{message}");
    assert_eq!((&*condition(&status, "Reconciling").status, &*condition(&status, "Stalled").status), ("False", "False"));
    // Other namespaces are served meanwhile, also after a restart.
    let rest = Plan::of("rest");
    fence(&world, &rest, &[("tier", "rest")]).await;
    world.restart_operator().await.unwrap();
    fence(&world, &rest, &[("tier", "rest")]).await;
    let touched = writes_since(&world, mark).into_iter().filter(|write| names.contains(&write.namespace)).count();
    assert_eq!(touched, 0, "nothing is removed");
    // Namespaces that the edited selector selects get the policies.
    let follows = world.namespace("follows", &[("tier", "prdo")]).await.unwrap();
    until_holds(&world, &follows, &plan).await;

    let annotated = |generation: i64| json!({ "metadata": { "annotations": { "policybaseline.io/confirm-release": generation.to_string() } } });
    let confirm = async |generation: i64| {
        baselines(&world).patch(PLATFORM, &PatchParams::default(), &Patch::Merge(annotated(generation))).await.unwrap();
    };
    confirm(1).await;
    fence(&world, &rest, &[("tier", "rest")]).await;
    until_holds(&world, &names[0], &plan).await;
    confirm(2).await;
    for ns in &names {
        until_only(&world, ns, &[]).await;
    }
    until_ready(&world, PLATFORM).await;
}

#[tokio::test]
async fn a_selector_that_is_mended_in_time_costs_no_policy() {
    let mut world = World::new().await.unwrap();
    apply_baseline(&world, PLATFORM, &selecting("prod")).await;
    world.start_operator().await.unwrap();
    let names = join_all((0..12).map(|_| world.namespace("kept", &[("tier", "prod")]))).await;
    let names: Vec<String> = names.into_iter().map(Result::unwrap).collect();
    let plan = Plan::of(PLATFORM);
    let before = join_all(names.iter().map(|ns| until_holds(&world, ns, &plan))).await;
    apply_baseline(&world, PLATFORM, &selecting("prdo")).await;
    until_status(&world, PLATFORM, "the release waits", |status| condition(status, "Ready").reason == "AwaitingConfirmation")
        .await;
    apply_baseline(&world, PLATFORM, &selecting("prod")).await;
    until_ready(&world, PLATFORM).await;
    let after = join_all(names.iter().map(|ns| until_holds(&world, ns, &plan))).await;
    assert_eq!(before, after, "the very same objects");
}

/// Twelve namespaces that the baseline has closed, with their policies.
async fn closed(world: &World, spec: &Value) -> (Vec<String>, Vec<BTreeMap<String, NetworkPolicy>>) {
    apply_baseline(world, PLATFORM, spec).await;
    let names = join_all((0..12).map(|_| world.namespace("closed", &[("tier", "prod")]))).await;
    let names: Vec<String> = names.into_iter().map(Result::unwrap).collect();
    let held = all_hold(world, &names).await;
    until_ready(world, PLATFORM).await;
    (names, held)
}

/// What these namespaces hold, once it is the plan of the baseline.
async fn all_hold(world: &World, names: &[String]) -> Vec<BTreeMap<String, NetworkPolicy>> {
    let plan = Plan::of(PLATFORM);
    join_all(names.iter().map(|ns| until_holds(world, ns, &plan))).await
}

/// Waits until the change of that baseline awaits a confirmation, in the same words for each kind of change. Returns the generation.
async fn until_awaited(world: &World, name: &str) -> i64 {
    let awaits = |status: &PolicyBaselineStatus| condition(status, "Ready").reason == "AwaitingConfirmation";
    let status = until_status(world, name, "the change waits", awaits).await;
    let generation = status.observed_generation.unwrap();
    assert_eq!(
        condition(&status, "AwaitingConfirmation").message,
        format!(
            "12 of the 12 closed namespaces that this change concerns would lose a default-deny, or be opened to everybody; they keep their policies, and new namespaces follow the edit already. If this is meant, annotate the baseline with policybaseline.io/confirm-release={generation}"
        )
    );
    assert_eq!(status.namespaces.frozen, 12, "{:?}", status.namespaces);
    generation
}

pub async fn confirm(world: &World, name: &str, generation: i64) {
    let annotations = json!({ "policybaseline.io/confirm-release": generation.to_string() });
    let patch = Patch::Merge(json!({ "metadata": { "annotations": annotations } }));
    baselines(world).patch(name, &PatchParams::default(), &patch).await.unwrap();
}

#[tokio::test]
async fn every_edit_that_would_open_many_namespaces_waits_and_costs_no_policy_if_it_is_taken_back() {
    let mut world = World::new().await.unwrap();
    world.start_operator().await.unwrap();
    let spec = selecting("prod");
    let (names, before) = closed(&world, &spec).await;
    let with = |key: &str, value: Value| {
        let mut edited = spec.clone();
        edited[key] = value;
        edited
    };
    let everybody = json!([{ "ipBlock": { "cidr": "0.0.0.0/0" } }]);
    let scraped = json!({ "from": [{ "namespaceSelector": { "matchLabels": { "tier": "prod" } }, "podSelector": {} }] });
    for edit in [
        with("excludeNamespaces", json!(["closed-*"])),
        with("policies", json!(["MonitoringCarveout"])),
        with("policies", json!(["DefaultDenyIngress", "MonitoringCarveout"])),
        with("monitoring", scraped),
        with("allows", json!([{ "name": "web", "ingress": [{ "from": everybody }], "acknowledgeOpen": true }])),
        with("dns", json!({ "peers": everybody })),
    ] {
        apply_baseline(&world, PLATFORM, &edit).await;
        until_awaited(&world, PLATFORM).await;
        apply_baseline(&world, PLATFORM, &spec).await;
        until_ready(&world, PLATFORM).await;
    }
    // What opens nothing does not wait: the claims of existing namespaces stay, and another baseline that closes as much may take over.
    apply_baseline(&world, PLATFORM, &with("existingNamespaces", json!("Enforce"))).await;
    until_ready(&world, PLATFORM).await;
    apply_baseline(&world, PLATFORM, &spec).await;
    until_ready(&world, PLATFORM).await;
    let after = all_hold(&world, &names).await;
    assert_eq!(before, after, "the very same objects");

    apply_baseline(&world, PLATFORM, &with("policies", json!(["DefaultDenyIngress", "DefaultDenyEgress"]))).await;
    let plan = Plan::of(PLATFORM).without("MonitoringCarveout");
    for ns in &names {
        until_holds(&world, ns, &plan).await;
    }
    // A confirmed edit is carried out.
    apply_baseline(&world, PLATFORM, &with("policies", json!(["DefaultDenyEgress"]))).await;
    let generation = until_awaited(&world, PLATFORM).await;
    confirm(&world, PLATFORM, generation).await;
    for ns in &names {
        until_holds(&world, ns, &plan.clone().without("DefaultDenyIngress")).await;
    }
    until_ready(&world, PLATFORM).await;
}

#[tokio::test]
async fn an_edit_of_control_plane_backends_and_labels_that_owners_change_wait_for_no_confirmation() {
    let mut world = World::new().await.unwrap();
    world.start_operator().await.unwrap();
    let mut spec = selecting("prod");
    let (names, before) = closed(&world, &spec).await;
    for backends in ["Enforce", "Hold"] {
        spec["controlPlaneBackends"] = json!(backends);
        apply_baseline(&world, PLATFORM, &spec).await;
        until_ready(&world, PLATFORM).await;
    }
    assert_eq!(before, all_hold(&world, &names).await, "the very same objects");
    for ns in &names {
        label(&world, ns, "tier", None).await;
        until_only(&world, ns, &[]).await;
    }
    until_status(&world, PLATFORM, "nothing is selected", |status| status.namespaces.selected == 0).await;
}

#[tokio::test]
async fn a_baseline_that_takes_over_and_plans_less_waits_and_the_former_one_keeps_its_policies() {
    const LESS: &str = "less";
    let mut world = World::new().await.unwrap();
    world.start_operator().await.unwrap();
    let (names, before) = closed(&world, &selecting("prod")).await;
    let mut spec = selecting("prod");
    (spec["priority"], spec["policies"]) = (json!(100), json!(["MonitoringCarveout"]));
    apply_baseline(&world, LESS, &spec).await;
    until_awaited(&world, LESS).await;
    let after = all_hold(&world, &names).await;
    assert_eq!(before, after, "the very same objects");
    // A new namespace follows it: nothing is lost there. Without a default-deny, the carve-out is not planned either.
    let new = world.namespace("new", &[("tier", "prod")]).await.unwrap();
    until_status(&world, LESS, "the new one is as planned", |status| status.namespaces.protected == 1).await;
    assert_eq!(world.policies(&new).await.unwrap(), []);
    let generation = until_awaited(&world, LESS).await;
    confirm(&world, LESS, generation).await;
    for ns in &names {
        until_only(&world, ns, &[]).await;
    }
    let status = until_ready(&world, LESS).await;
    assert_eq!(condition(&status, "Ready").reason, "ClosesNothing");
}

#[tokio::test]
async fn the_deletion_of_a_baseline_with_its_policies_waits_too_also_after_a_restart() {
    let mut world = World::new().await.unwrap();
    world.start_operator().await.unwrap();
    let mut spec = selecting("prod");
    spec["deletionPolicy"] = json!("Delete");
    let (names, before) = closed(&world, &spec).await;
    delete_baseline(&world, PLATFORM).await;
    until_awaited(&world, PLATFORM).await;
    world.restart_operator().await.unwrap();
    let generation = until_awaited(&world, PLATFORM).await;
    let after = all_hold(&world, &names).await;
    assert_eq!(before, after, "the very same objects");
    confirm(&world, PLATFORM, generation).await;
    until_no_baseline(&world, PLATFORM).await;
    for ns in &names {
        until_only(&world, ns, &[]).await;
    }
}
