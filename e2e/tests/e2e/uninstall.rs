//! `policy-baseline uninstall`: everything that is ours goes in the right order, and what stays is said.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::api::{Api, DeleteParams, ListParams, PostParams};
use kube::{Client, ResourceExt};
use policy_baseline::BaselineOptOut;
use policy_baseline_e2e::{SYSTEM_NAMESPACE, TIMEOUT, World, skipped_without_audit_log};
use serde_json::json;

use crate::admission::protect;
use crate::list_managed::{as_admin, succeeds};
use crate::removals::only_with_preconditions;
use crate::repair::{PLATFORM, enforcing, protected};
use crate::scene::{
    DENY_EGRESS, DENY_INGRESS, Plan, apply_baseline, baselines, delete_baseline, merge, policies_of, until_holds, until_only,
    until_ready,
};
use crate::support::{label, namespaces, stored, versions};

const BASELINES_CRD: &str = "policybaselines.policybaseline.io";
const DECIDED: &str = "policybaseline.io/decided";

/// A tenant's policy with a name like ours and no label of ours.
async fn similar_policy(tenant: &Client, namespace: &str) -> NetworkPolicy {
    let own =
        json!({ "metadata": { "name": "baseline-default-deny" }, "spec": { "podSelector": {}, "policyTypes": ["Ingress"] } });
    let own = serde_json::from_value(own).unwrap();
    policies_of(tenant, namespace).create(&PostParams::default(), &own).await.unwrap()
}

/// The resourceVersion of everything that is ours.
async fn everything(world: &World, namespace: &str) -> BTreeMap<String, (String, String)> {
    let policies = stored(world, namespace).await;
    let mut all: BTreeMap<String, (String, String)> =
        versions(&policies).into_iter().map(|(name, version)| (name.to_owned(), version)).collect();
    let of = |meta: &kube::core::ObjectMeta| (meta.uid.clone().unwrap(), meta.resource_version.clone().unwrap());
    for baseline in baselines(world).list(&ListParams::default()).await.unwrap() {
        all.insert(format!("baseline {}", baseline.name_any()), of(&baseline.metadata));
    }
    let leases: Api<Lease> = Api::namespaced(world.admin(), SYSTEM_NAMESPACE);
    for lease in leases.list(&ListParams::default()).await.unwrap() {
        all.insert(format!("lease {}", lease.name_any()), of(&lease.metadata));
    }
    all
}

#[tokio::test]
async fn i10_with_no_operator_left_a_deletion_hangs_on_the_finalizer_and_uninstall_ends_it_and_keeps_the_policies() {
    let mut world = enforcing(&json!({ "deletionPolicy": "Delete" })).await;
    let (ns, tenant) = protected(&world).await;
    let own = similar_policy(&tenant, &ns).await;
    until_ready(&world, PLATFORM).await;
    world.stop_operator().unwrap();
    let delete = ["delete", "policybaseline", PLATFORM, "--timeout=1s"];
    // kubectl needs some seconds on a busy machine before it only waits.
    let hangs = world.plane().kubectl().args(delete).output().unwrap();
    let said = String::from_utf8_lossy(&hangs.stderr).into_owned();
    assert!(!hangs.status.success() && said.contains("timed out waiting for the condition"), "{said}");

    let before = everything(&world, &ns).await;
    let dry = succeeds(&world, &["uninstall", "--policies=remove"]).await;
    assert!(dry.starts_with("This is a dry run: nothing is changed.\n"), "{dry}");
    let steps = [
        format!("delete NetworkPolicy {ns}/{DENY_INGRESS}"),
        format!("remove the finalizer policybaseline.io/delete-policies of PolicyBaseline {PLATFORM}"),
        format!("delete PolicyBaseline {PLATFORM}"),
        format!("delete Lease {SYSTEM_NAMESPACE}/policy-baseline"),
    ];
    let places: Vec<usize> = steps.iter().map(|step| dry.find(step).unwrap_or_else(|| panic!("no {step:?} in\n{dry}"))).collect();
    assert!(places.is_sorted(), "in that order: {dry}");
    assert_eq!(everything(&world, &ns).await, before, "a dry run changes nothing");

    let done = succeeds(&world, &["uninstall", "--yes"]).await;
    assert_eq!(baselines(&world).get_opt(PLATFORM).await.unwrap(), None, "{done}");
    let kept = stored(&world, &ns).await;
    assert!(versions(&kept).into_iter().all(|(name, version)| before[name] == version), "the policies stay untouched");
    assert_eq!(kept.len(), 4);
    assert!(done.contains("- 3 policies in 1 namespace: these namespaces stay closed"), "{done}");
    assert!(succeeds(&world, &["uninstall", "--yes"]).await.contains("There was nothing to remove."), "a second time");

    // The command that it names for later.
    assert!(done.contains("    policy-baseline uninstall --orphans --yes\n"), "{done}");
    succeeds(&world, &["uninstall", "--orphans", "--yes"]).await;
    until_only(&world, &ns, &["baseline-default-deny"]).await;
    assert_eq!(stored(&world, &ns).await["baseline-default-deny"], own, "no label of ours: it stays untouched");
}

#[tokio::test]
async fn uninstall_refuses_while_an_operator_runs_and_waits_for_the_lease_of_one_that_was_killed() {
    let mut world = World::new().await.unwrap();
    apply_baseline(&world, PLATFORM, &json!({ "deletionPolicy": "Delete" })).await;
    world.start_operator_with(&["--lease-duration=3s"]).await.unwrap();
    let (ns, _) = protected(&world).await;
    until_ready(&world, PLATFORM).await;
    let held = stored(&world, &ns).await;

    let dry = succeeds(&world, &["uninstall"]).await;
    assert!(dry.contains(&format!("holds the Lease {SYSTEM_NAMESPACE}/policy-baseline. If it renews")), "{dry}");
    let refused = as_admin(&world, &["uninstall", "--yes", "--policies=remove"]).await;
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(2), "{said}");
    assert!(said.contains("error: nothing was removed: an operator runs: ") && said.contains(" renews the Lease "), "{said}");
    assert_eq!(stored(&world, &ns).await, held);
    assert!(baselines(&world).get_opt(PLATFORM).await.unwrap().is_some());

    world.kill_operator().unwrap();
    let labels = json!({ "app.kubernetes.io/name": "policy-baseline" });
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "renamed", "namespace": ns, "labels": labels },
        "spec": { "replicas": 1, "selector": { "matchLabels": labels }, "template": { "metadata": { "labels": labels },
            "spec": { "containers": [{ "name": "operator", "image": "policy-baseline" }] } } },
    });
    world.apply_yaml(&deployment.to_string()).await.unwrap();
    let refused = as_admin(&world, &["uninstall", "--yes", "--policies=remove"]).await;
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.ends_with(&format!("kubectl scale deployment -n {ns} renamed --replicas=0\n")), "in any namespace: {said}");
    assert_eq!(stored(&world, &ns).await, held);
    world.plane().run_kubectl(&["scale", "deployment", "-n", &ns, "renamed", "--replicas=0"]).unwrap();
    let done = succeeds(&world, &["uninstall", "--yes", "--policies=remove"]).await;
    assert!(done.contains(&format!("deleted PolicyBaseline {PLATFORM}\n")), "{done}");
    until_only(&world, &ns, &[]).await;
}

#[tokio::test]
async fn uninstall_removes_everything_under_every_component_and_then_the_manifests_are_deleted_without_hanging() {
    let mut world = World::new().await.unwrap();
    world.discard();
    apply_baseline(&world, PLATFORM, &json!({ "deletionPolicy": "Delete", "rollout": {} })).await;
    world.start_operator().await.unwrap();
    let ns = world.namespace("team", &[]).await.unwrap();
    let expires = Timestamp::now() + SignedDuration::from_hours(2);
    let opt_out = json!({
        "apiVersion": "policybaseline.io/v1alpha1", "kind": "BaselineOptOut", "metadata": { "name": "load-test", "namespace": ns },
        "spec": {
            "policies": ["DefaultDenyEgress"], "reason": "the load test calls the partner's sandbox",
            "expiresAt": expires.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        },
    });
    world.apply_yaml(&opt_out.to_string()).await.unwrap();
    until_holds(&world, &ns, &Plan::of(PLATFORM).asked().without("DefaultDenyEgress")).await;
    until_ready(&world, PLATFORM).await;
    let revisions: Api<ControllerRevision> = Api::namespaced(world.admin(), SYSTEM_NAMESPACE);
    let is_stored = async || revisions.list(&ListParams::default()).await.map(|list| !list.items.is_empty());
    world.eventually("a revision is stored", TIMEOUT, is_stored).await.unwrap();
    world.stop_operator().unwrap();
    label(&world, &ns, DECIDED, Some("protected")).await;
    let mut copy = stored(&world, &ns).await.remove(DENY_INGRESS).unwrap();
    (copy.metadata.name, copy.metadata.uid, copy.metadata.resource_version) = (Some("my-copy".to_owned()), None, None);
    policies_of(&world.admin(), &ns).create(&PostParams::default(), &copy).await.unwrap();

    world.plane().run_kubectl(&["apply", "--server-side", "--force-conflicts", "-k", "manifests/default"]).unwrap();
    world.plane().run_kubectl(&["apply", "--server-side", "-k", "manifests/components/protect"]).unwrap();
    world.eventually("protect is in force", TIMEOUT, async || protect::is_in_force(&world).await).await.unwrap();
    let all = ["uninstall", "--yes", "--policies=remove"];
    let refused = as_admin(&world, &all).await;
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    let command = format!("kubectl scale deployment -n {SYSTEM_NAMESPACE} policy-baseline --replicas=0\n");
    assert!(refused.status.code() == Some(2) && said.ends_with(&command), "{said}");
    let command: Vec<&str> = command.split_whitespace().skip(1).collect();
    world.plane().run_kubectl(&command).unwrap();

    let done = succeeds(&world, &all).await;
    for gone in [
        "deleted ValidatingAdmissionPolicyBinding policy-baseline-protect-policies\n".to_owned(),
        format!("deleted NetworkPolicy {ns}/{DENY_INGRESS}\n"),
        format!("deleted BaselineOptOut {ns}/load-test\n"),
        format!("deleted ControllerRevision {SYSTEM_NAMESPACE}/{PLATFORM}-"),
        format!("deleted Lease {SYSTEM_NAMESPACE}/policy-baseline\n"),
        format!("removed the label {DECIDED} of Namespace {ns}\n"),
        format!("    kubectl delete networkpolicy -n {ns} my-copy\n"),
    ] {
        assert!(done.contains(&gone), "no {gone:?} in\n{done}");
    }
    until_only(&world, &ns, &["my-copy"]).await;
    assert!(!namespaces(&world).get(&ns).await.unwrap().labels().contains_key(DECIDED));
    let opt_outs: Api<BaselineOptOut> = Api::all(world.admin());
    assert!(opt_outs.list(&ListParams::default()).await.unwrap().items.is_empty());
    let left = succeeds(&world, &["list-managed"]).await;
    assert!(left.starts_with("0 policies in 0 namespaces: ") && left.contains("; 0 other objects\n"), "{left}");

    world.plane().run_kubectl(&["delete", "-k", "manifests/default", "--timeout=60s"]).unwrap();
    let left = succeeds(&world, &["list-managed"]).await;
    assert!(left.starts_with("0 policies in 0 namespaces: "), "also without the CRDs: {left}");
}

#[tokio::test]
async fn when_the_deletion_of_the_manifests_hangs_because_no_operator_is_left_uninstall_lets_it_end() {
    let mut world = enforcing(&json!({ "deletionPolicy": "Delete" })).await;
    world.discard();
    let (ns, _) = protected(&world).await;
    until_ready(&world, PLATFORM).await;
    world.stop_operator().unwrap();
    let hangs = world.plane().kubectl().args(["delete", "-k", "manifests/base", "--timeout=15s"]).output().unwrap();
    let said = String::from_utf8_lossy(&hangs.stderr).into_owned();
    assert!(!hangs.status.success() && said.contains("timed out waiting for the condition"), "{said}");
    let crds: Api<CustomResourceDefinition> = Api::all(world.admin());
    assert!(crds.get(BASELINES_CRD).await.unwrap().metadata.deletion_timestamp.is_some());

    let done = succeeds(&world, &["uninstall", "--yes"]).await;
    assert!(done.contains("- 3 policies in 1 namespace: these namespaces stay closed"), "{done}");
    let is_gone = async || crds.get_metadata_opt(BASELINES_CRD).await.map(|crd| crd.is_none());
    world.eventually("the CRD is gone", TIMEOUT, is_gone).await.unwrap();
    succeeds(&world, &["uninstall", "--orphans", "--yes"]).await;
    until_only(&world, &ns, &[]).await;
}

#[tokio::test]
async fn what_cannot_be_removed_is_reported_by_name_and_the_rest_goes_and_a_second_run_completes_it() {
    let mut world = enforcing(&json!({ "deletionPolicy": "Delete" })).await;
    let (ns, _) = protected(&world).await;
    until_ready(&world, PLATFORM).await;
    world.stop_operator().unwrap();
    let policies = policies_of(&world.admin(), &ns);
    merge(&policies, DENY_EGRESS, "somebody", &json!({ "metadata": { "finalizers": ["example.com/held"] } })).await;

    let all = ["uninstall", "--yes", "--policies=remove"];
    let output = as_admin(&world, &all).await;
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    let why = "it is being deleted, and waits for the owner of the finalizer example.com/held";
    assert_eq!(said, format!("error: cannot delete NetworkPolicy {ns}/{DENY_EGRESS}: {why}\n"));
    until_only(&world, &ns, &[DENY_EGRESS]).await;
    assert_eq!(baselines(&world).get_opt(PLATFORM).await.unwrap(), None);

    merge(&policies, DENY_EGRESS, "somebody", &json!({ "metadata": { "finalizers": null } })).await;
    until_only(&world, &ns, &[]).await;
    assert!(succeeds(&world, &all).await.contains("There was nothing to remove."));
}

#[tokio::test]
async fn i4_every_policy_is_deleted_by_uid_and_version_and_an_orphan_only_if_no_baseline_has_its_name() {
    if skipped_without_audit_log() {
        return;
    }
    let mut world = enforcing(&json!({})).await;
    let (ns, _) = protected(&world).await;
    world.stop_operator().unwrap();
    world.apply_yaml(&only_with_preconditions("true")).await.unwrap();
    let policies = policies_of(&world.admin(), &ns);
    world
        .eventually("a delete without preconditions is denied", TIMEOUT, async || {
            let dry_run = DeleteParams { dry_run: true, ..DeleteParams::default() };
            let denied = policies.delete(DENY_INGRESS, &dry_run).await.err();
            denied.is_some_and(|err| err.to_string().contains("a delete without preconditions"))
        })
        .await
        .unwrap();
    let held = stored(&world, &ns).await;
    let text = succeeds(&world, &["uninstall", "--orphans", "--yes"]).await;
    assert!(text.contains("There was nothing to remove."), "their baseline exists: {text}");
    assert_eq!(stored(&world, &ns).await, held);

    delete_baseline(&world, PLATFORM).await;
    assert!(succeeds(&world, &["uninstall", "--orphans", "--yes"]).await.contains("Done: 3 steps."));
    until_only(&world, &ns, &[]).await;
}
