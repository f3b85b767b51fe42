//! protect in namespaces that are being deleted: policies stay until the pods are gone, and the namespace then goes.

use kube::api::{DeleteParams, ListParams};
use policy_baseline_e2e::{Options, TIMEOUT, World};
use serde_json::json;

use super::protect::{forge, keeper_of_policies, protect, until_refused};
use super::{apply_patched, break_glass, create_fifty_of_ours, denied};
use crate::repair::PLATFORM;
use crate::scene::{DENY_INGRESS, Plan, apply_baseline, policies_of, tenant, until_holds};
use crate::support::{namespaces, until_gone};
use crate::terminating::{delete_around_the_pod, end_pod, run_long};

/// In a namespace whose pods still run, nobody but the namespace controller deletes policies. It waits for the pods.
async fn policies_stay_until_the_pods_are_gone(options: Options) {
    let mut world = World::on(options).await.unwrap();
    protect(&world).await;
    apply_baseline(&world, PLATFORM, &json!({})).await;
    world.start_operator().await.unwrap();
    let ns = world.namespace("going", &[]).await.unwrap();
    until_holds(&world, &ns, &Plan::of(PLATFORM)).await;
    let tenant = tenant(&world, &[&ns]).await;
    until_refused(&policies_of(&world.admin(), &ns), DENY_INGRESS, &world).await;
    let keeper = keeper_of_policies(&world, &["delete", "deletecollection", "list"]).await;
    run_long(&tenant, &ns).await;
    delete_around_the_pod(&world, &ns).await;

    let ends = "it is deleted with its namespace, after the last pod";
    for who in [&tenant, &keeper] {
        let policies = policies_of(who, &ns);
        let one = denied("one", policies.delete(DENY_INGRESS, &DeleteParams::default()).await);
        assert!(one.contains(ends), "{one}");
        let all = denied("all", policies.delete_collection(&DeleteParams::default(), &ListParams::default()).await);
        assert!(all.contains(ends), "{all}");
    }
    // Cluster administrators could finish the namespace, but not by kubectl delete networkpolicy --all.
    let admin = world.plane().run_kubectl(&["delete", "networkpolicy", "--all", "--namespace", &ns]);
    assert!(format!("{:#}", admin.unwrap_err()).contains(ends));
    until_holds(&world, &ns, &Plan::of(PLATFORM)).await;
    end_pod(&world, &ns).await;
    until_gone(&world, &ns).await;
}

#[tokio::test]
async fn i5_protect_keeps_policies_until_pods_are_gone_where_each_controller_has_a_name_of_its_own() {
    policies_stay_until_the_pods_are_gone(Options::default()).await;
}

#[tokio::test]
async fn i5_protect_keeps_policies_until_pods_are_gone_where_all_controllers_have_one_name() {
    policies_stay_until_the_pods_are_gone(Options { shared_credentials: true, ..Options::default() }).await;
}

/// A controller that is refused says so in the namespace, with the right that it lacks.
#[tokio::test]
async fn i5_a_namespace_that_protect_keeps_from_going_says_why() {
    let world = World::on(Options::default()).await.unwrap();
    if world.plane().is_external() {
        return;
    }
    protect(&world).await;
    apply_baseline(&world, PLATFORM, &json!({})).await;
    let ns = world.namespace("stuck", &[]).await.unwrap();
    let rescue = policies_of(&break_glass(&world).await, &ns);
    create_fifty_of_ours(&rescue).await;
    until_refused(&policies_of(&world.admin(), &ns), "ours-1", &world).await;
    // As in a cluster whose namespace controller is not known by its rights.
    world.discard();
    let narrower = json!({ "op": "replace", "path": "/spec/validations/0/expression", "value": "false" });
    let policies = json!({ "target": { "kind": "ValidatingAdmissionPolicy", "name": "policy-baseline-protect-living" },
        "patch": json!([narrower]).to_string() });
    apply_patched(&world, "protect", &[policies]).unwrap();
    // Now it refuses also what names no living baseline.
    let elsewhere = world.namespace("probe", &[]).await.unwrap();
    forge(&policies_of(&break_glass(&world).await, &elsewhere), "probe", &json!({ "policybaseline.io/baseline": "none" })).await;
    until_refused(&policies_of(&world.admin(), &elsewhere), "probe", &world).await;
    namespaces(&world).delete(&ns, &DeleteParams::default()).await.unwrap();
    let says_why = async || {
        let conditions = namespaces(&world).get(&ns).await?.status.unwrap_or_default().conditions.unwrap_or_default();
        let why = conditions.into_iter().find(|c| c.type_ == "NamespaceDeletionContentFailure" && c.status == "True");
        let why = why.and_then(|c| c.message).unwrap_or_default();
        Ok::<_, kube::Error>(why.contains("protect-living") && why.contains("namespaces/finalize"))
    };
    world.eventually("the namespace says why", TIMEOUT, says_why).await.unwrap();
    // Break-glass ends it.
    rescue.delete_collection(&DeleteParams::default(), &ListParams::default()).await.unwrap();
    until_gone(&world, &ns).await;
}
