//! no-gap, and an operator that starts: the label of a namespace proves that the namespace was protected.

use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams};
use policy_baseline_e2e::World;
use serde_json::json;

use super::no_gap::{LABELLING, namespace, no_gap, until_decided};
use super::{DECIDED, break_glass};
use crate::repair::PLATFORM;
use crate::scene::{Plan, apply_baseline, baselines, events, policies_of, until_holds, until_only, until_status};
use crate::support::{a_second_later, namespaces};

/// A namespace that is older than its baseline. The baseline has closed it, and only reports such namespaces from now on. Then the operator
/// is stopped, and somebody deletes all policies.
async fn cleared(world: &mut World) -> String {
    no_gap(world).await;
    let old = namespace(world, "old", &[]).await;
    a_second_later(world).await;
    apply_baseline(world, PLATFORM, &json!({ "existingNamespaces": "Enforce" })).await;
    world.start_operator_with(&[LABELLING]).await.unwrap();
    until_holds(world, &old, &Plan::of(PLATFORM)).await;
    until_decided(world, &old, "protected").await;
    apply_baseline(world, PLATFORM, &json!({})).await;
    until_status(world, PLATFORM, "it is read", |status| status.namespaces.protected > 0).await;
    world.stop_operator().unwrap();
    let policies = policies_of(&break_glass(world).await, &old);
    policies.delete_collection(&DeleteParams::default(), &ListParams::default()).await.unwrap();
    until_only(world, &old, &[]).await;
    old
}

#[tokio::test]
async fn i1_no_gap_closes_again_what_was_opened_while_the_operator_was_down() {
    let mut world = World::new().await.unwrap();
    let old = cleared(&mut world).await;
    let label = namespaces(&world).get(&old).await.unwrap().labels()[DECIDED].clone();
    world.start_operator_with(&[LABELLING]).await.unwrap();
    until_holds(&world, &old, &Plan::of(PLATFORM)).await;
    let status = until_status(&world, PLATFORM, "three drifts", |status| {
        status.recent_drift.iter().filter(|drift| drift.namespace == old && drift.class == "Missing").count() == 3
    })
    .await;
    assert!(status.notices.iter().all(|notice| notice.namespace != old), "{:?}", status.notices);
    assert_eq!(namespaces(&world).get(&old).await.unwrap().labels()[DECIDED], label);
}

#[tokio::test]
async fn no_gap_lets_a_baseline_that_is_created_while_the_operator_is_down_only_report_what_is_older() {
    let mut world = World::new().await.unwrap();
    let old = cleared(&mut world).await;
    baselines(&world).delete(PLATFORM, &DeleteParams::default()).await.unwrap();
    apply_baseline(&world, "another", &json!({})).await;
    world.start_operator_with(&[LABELLING]).await.unwrap();
    until_decided(&world, &old, "exempt").await;
    until_status(&world, "another", "it only reports the namespace", |status| {
        status.notices.iter().any(|notice| notice.namespace == old && notice.reason.into_str() == "ExistingNamespace")
    })
    .await;
    until_only(&world, &old, &[]).await;
    assert!(events(&world.admin(), &old).await.iter().all(|event| event.reason.as_deref() != Some("DriftRepaired")));
}
