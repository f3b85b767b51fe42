//! All components at once: the operator, the controllers of the cluster and upgrades still work, with one identity for each controller
//! or one for all. (`make e2e-components` runs the other suites with all components.)

use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use policy_baseline_e2e::{EVERYTHING, Options, SYSTEM_NAMESPACE, TEST_LABEL, TIMEOUT, World};
use serde_json::json;

use super::no_gap::{self, LABELLING, until_decided, until_let_in};
use super::{break_glass, create_fifty_of_ours, owned_by_nothing, protect};
use crate::opt_outs;
use crate::repair::PLATFORM;
use crate::scene::{DENY_EGRESS, DENY_INGRESS, Plan, apply_baseline, merge, policies_of, until_holds, until_only, writes_since};
use crate::support::{namespaces, until_gone};

/// The installer is a cluster-admin and not a member of the break-glass group.
async fn everything(options: Options) -> World {
    let mut world = World::on(Options { more_controllers: vec!["replicaset-controller"], ..options }).await.unwrap();
    no_gap::no_gap(&world).await;
    let is_in_force = async || protect::is_in_force(&world).await;
    world.eventually("protect is in force", TIMEOUT, is_in_force).await.unwrap();
    apply_baseline(&world, PLATFORM, &json!({})).await;
    world.start_operator_with(&[LABELLING]).await.unwrap();
    world
}

async fn namespaces_come_and_go(options: Options) {
    let world = everything(options).await;
    let ns = no_gap::namespace(&world, "full", &[]).await;
    until_holds(&world, &ns, &Plan::of(PLATFORM)).await;
    until_decided(&world, &ns, "protected").await;
    let admin = world.admin();

    // The objects that workloads need.
    let sets: Api<ReplicaSet> = Api::namespaced(admin.clone(), &ns);
    let set = json!({ "metadata": { "name": "web" }, "spec": { "replicas": 2, "selector": { "matchLabels": { "app": "web" } },
        "template": { "metadata": { "labels": { "app": "web" } }, "spec": no_gap::pod("web").spec } } });
    sets.create(&PostParams::default(), &serde_json::from_value(set).unwrap()).await.unwrap();
    let pods: Api<Pod> = Api::namespaced(admin.clone(), &ns);
    let are_two = async || pods.list(&ListParams::default()).await.map(|all| all.items.len() == 2);
    world.eventually("two pods", TIMEOUT, are_two).await.unwrap();
    // The garbage collector deletes dependents of a deleted owner, and nothing of ours.
    let policies = policies_of(&break_glass(&world).await, &ns);
    let before = policies.get(DENY_EGRESS).await.unwrap();
    merge(&policies, DENY_EGRESS, "rescue", &owned_by_nothing()).await;
    sets.delete("web", &DeleteParams::background()).await.unwrap();
    // No kubelet runs here, so the pods only get a deletionTimestamp. The test deletes them later.
    world
        .eventually("the pods are to go with their owner", TIMEOUT, async || {
            let all = pods.list(&ListParams::default()).await?.items;
            Ok::<_, kube::Error>(all.iter().all(|pod| pod.metadata.deletion_timestamp.is_some()))
        })
        .await
        .unwrap();
    until_holds(&world, &ns, &Plan::of(PLATFORM)).await;
    assert_eq!(policies.get(DENY_EGRESS).await.unwrap().uid(), before.uid(), "I3");

    // Contents of the namespace at its deletion.
    create_fifty_of_ours(&policies).await;
    opt_outs::create(&world, &ns, &opt_outs::opt_out("partner", &["DefaultDenyEgress"], opt_outs::seconds_from_now(600))).await;
    until_let_in(&world, &admin, &ns).await;
    world.plane().run_kubectl(&["delete", "namespace", &ns, "--wait=false"]).unwrap();
    for pod in pods.list(&ListParams::default()).await.unwrap() {
        pods.delete(&pod.name_any(), &DeleteParams::default().grace_period(0)).await.ok();
    }
    until_gone(&world, &ns).await;
    // The namespace controller deletes the policies as a collection, although nobody could do that one by one.
    assert!(!world.operator().unwrap().log().contains(" ERROR "));
}

#[tokio::test]
async fn with_every_component_namespaces_and_workloads_come_and_go_where_each_controller_has_a_name_of_its_own() {
    namespaces_come_and_go(Options::default()).await;
}

#[tokio::test]
async fn with_every_component_namespaces_and_workloads_come_and_go_where_all_controllers_have_one_name() {
    namespaces_come_and_go(Options { shared_credentials: true, ..Options::default() }).await;
}

#[tokio::test]
async fn with_every_component_the_operator_repairs_edits_releases_and_is_upgraded() {
    let mut world = everything(Options::default()).await;
    let ns = world.namespace("team", &[("team", "x")]).await.unwrap();
    until_holds(&world, &ns, &Plan::of(PLATFORM)).await;
    until_decided(&world, &ns, "protected").await;
    // Repairs, including fields that an apply cannot remove.
    let rescue = policies_of(&break_glass(&world).await, &ns);
    merge(
        &rescue,
        DENY_INGRESS,
        "rescue",
        &json!({ "spec": { "ingress": [{}] }, "metadata": { "annotations": { "argocd.argoproj.io/tracking-id": "x" } } }),
    )
    .await;
    rescue.delete(DENY_EGRESS, &DeleteParams::default()).await.unwrap();
    until_holds(&world, &ns, &Plan::of(PLATFORM)).await;
    // An upgrade by somebody who has the rights but is not a member of the break-glass group: the manifests again, a new process, a new
    // plan.
    world.stop_operator().unwrap();
    world.plane().run_kubectl(&["apply", "--server-side", "--force-conflicts", "-k", EVERYTHING]).unwrap();
    let deployed = json!({ "spec": { "template": { "metadata": { "annotations": { "version": "next" } } } } });
    let deployments: Api<k8s_openapi::api::apps::v1::Deployment> = Api::namespaced(world.admin(), SYSTEM_NAMESPACE);
    deployments.patch("policy-baseline", &PatchParams::default(), &Patch::Merge(deployed)).await.unwrap();
    let mark = world.audit().unwrap().mark();
    world.start_operator_with(&[LABELLING]).await.unwrap();
    let new = world.namespace("new", &[]).await.unwrap();
    until_decided(&world, &new, "protected").await;
    let touched: Vec<_> = writes_since(&world, mark).into_iter().filter(|write| write.namespace == ns).collect();
    assert!(touched.is_empty(), "I2: {touched:#?}");
    let changed = json!({ "dns": { "ports": [5353] }, "namespaceSelector": { "matchLabels": { "team": "x" } } });
    apply_baseline(&world, PLATFORM, &changed).await;
    until_holds(&world, &ns, &Plan::of(PLATFORM).dns_port(5353)).await;
    until_decided(&world, &new, "exempt").await;
    // The label goes out beside the removals.
    until_only(&world, &new, &[]).await;
    // Other people's objects of any kind are not affected.
    let map = json!({ "metadata": { "name": "any", "labels": { TEST_LABEL: "true" } } });
    let maps: Api<ConfigMap> = Api::namespaced(world.admin(), &ns);
    maps.create(&PostParams::default(), &serde_json::from_value(map).unwrap()).await.unwrap();
    assert!(namespaces(&world).get(&ns).await.is_ok());
}
