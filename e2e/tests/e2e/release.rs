//! A typo in a selector never opens a cluster.

use futures::future::join_all;
use kube::api::{Patch, PatchParams};
use policy_baseline_e2e::{World, skipped_without_audit_log};
use serde_json::{Value, json};

use crate::scene::{
    Plan, apply_baseline, baselines, condition, fence, until_holds, until_only, until_ready, until_status, writes_since,
};

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
    let is_held = |status: &policy_baseline::PolicyBaselineStatus| condition(status, "Ready").reason == "AwaitingConfirmation";
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
