//! A suspended baseline keeps its policies and does nothing.

use kube::api::DeleteParams;
use policy_baseline_e2e::{World, skipped_without_audit_log};
use serde_json::json;

use crate::scene::{
    DENY_EGRESS, DENY_INGRESS, Plan, apply_baseline, condition, delete_baseline, fence, merge, policies_of, until_event,
    until_holds, until_only, until_ready, until_status, writes_since,
};

const SUSPENDED: &str = "suspended";

#[tokio::test]
async fn a_suspended_baseline_writes_nothing_and_nobody_takes_over_until_it_goes_on() {
    if skipped_without_audit_log() {
        return;
    }
    let mut world = World::new().await.unwrap();
    let mine = json!({ "namespaceSelector": { "matchLabels": { "of": SUSPENDED } }, "priority": 10 });
    let paused = json!({ "namespaceSelector": { "matchLabels": { "of": SUSPENDED } }, "priority": 10, "suspend": true });
    apply_baseline(&world, SUSPENDED, &mine).await;
    apply_baseline(&world, "other", &json!({ "metadata": { "namePrefix": "other-" } })).await;
    world.start_operator().await.unwrap();
    let admin = world.admin();
    let plan = Plan::of(SUSPENDED);
    let held = world.namespace("held", &[("of", SUSPENDED)]).await.unwrap();
    until_holds(&world, &held, &plan).await;
    until_ready(&world, SUSPENDED).await;

    apply_baseline(&world, SUSPENDED, &paused).await;
    let is_told = |status: &policy_baseline::PolicyBaselineStatus| condition(status, "Ready").reason == "Suspended";
    let status = until_status(&world, SUSPENDED, "it says that it is suspended", is_told).await;
    assert_eq!((&*condition(&status, "Reconciling").status, &*condition(&status, "Stalled").status), ("False", "False"));
    assert_eq!(&*condition(&status, "Suspended").status, "True");
    assert_eq!((status.namespaces.selected, status.namespaces.frozen), (1, 1));
    let mark = world.audit().unwrap().mark();
    policies_of(&admin, &held).delete(DENY_EGRESS, &DeleteParams::default()).await.unwrap();
    merge(&policies_of(&admin, &held), DENY_INGRESS, "tenant", &json!({ "spec": { "ingress": [{}] } })).await;
    let new = world.namespace("new", &[("of", SUSPENDED)]).await.unwrap();
    // The other baseline still works, so the operator has seen all of that. Also after a restart.
    let other = Plan::of("other").prefix("other-");
    fence(&world, &other, &[]).await;
    world.restart_operator().await.unwrap();
    fence(&world, &other, &[]).await;
    let touched = |ns: &String| writes_since(&world, mark).iter().filter(|write| write.namespace == *ns).count();
    assert_eq!((touched(&held), touched(&new)), (0, 0));

    apply_baseline(&world, SUSPENDED, &mine).await;
    until_holds(&world, &held, &plan).await;
    until_holds(&world, &new, &plan).await;
    until_event(&world, &admin, &held, "DriftRepaired", DENY_INGRESS).await;
    let status = until_ready(&world, SUSPENDED).await;
    assert!(status.conditions.iter().all(|condition| condition.type_ != "Suspended"), "{:?}", status.conditions);
}

#[tokio::test]
async fn i10_a_suspended_baseline_that_is_deleted_removes_nothing_before_it_goes_on() {
    let world = {
        let mut world = World::new().await.unwrap();
        world.start_operator().await.unwrap();
        world
    };
    apply_baseline(&world, SUSPENDED, &json!({ "deletionPolicy": "Delete" })).await;
    let held = world.namespace("held", &[]).await.unwrap();
    let plan = Plan::of(SUSPENDED);
    until_holds(&world, &held, &plan).await;
    until_ready(&world, SUSPENDED).await;
    apply_baseline(&world, SUSPENDED, &json!({ "deletionPolicy": "Delete", "suspend": true })).await;
    until_status(&world, SUSPENDED, "it is suspended", |status| condition(status, "Ready").reason == "Suspended").await;
    delete_baseline(&world, SUSPENDED).await;
    let waits =
        |status: &policy_baseline::PolicyBaselineStatus| condition(status, "Ready").message.contains("Its deletion waits too");
    until_status(&world, SUSPENDED, "it says that it waits", waits).await;
    until_holds(&world, &held, &plan).await;
    apply_baseline(&world, SUSPENDED, &json!({ "deletionPolicy": "Delete" })).await;
    until_only(&world, &held, &[]).await;
}
