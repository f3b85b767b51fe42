//! Finalizers of others on policies that somebody deleted: which the operator removes, and which it only reports.

use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, PostParams};
use policy_baseline::PolicyBaselineStatus;
use policy_baseline_e2e::{TIMEOUT, World, skipped_without_audit_log};
use serde_json::json;

use crate::admission::operator_limits::limited;
use crate::others::forged;
use crate::repair::{PLATFORM, enforcing, protected};
use crate::scene::{
    CARVEOUT, DENY_EGRESS, DENY_INGRESS, Plan, condition, fence, merge, policies_of, policy_writes, tenant, until_event,
    until_holds, until_only, until_status, until_status_within, writes_since,
};
use crate::support::{TEAM, label, team};

/// Of the network plugin of EKS, which is in no control plane of the tests.
const EKS: &str = "networking.k8s.aws/resources";
const KEEP: &str = "tenant.example/keep";
const ENDPOINTS: &str = "policyendpoints.networking.k8s.aws";

/// Somebody deletes a policy that these finalizers keep.
async fn delete_kept(policies: &Api<NetworkPolicy>, name: &str, finalizers: &[&str]) -> NetworkPolicy {
    let kept = merge(policies, name, "tenant", &json!({ "metadata": { "finalizers": finalizers } })).await;
    policies.delete(name, &DeleteParams::default()).await.unwrap();
    kept
}

/// Waits until the object is gone and the operator has created the policy again. It may take a minute until the operator acts.
async fn until_created_again(world: &World, policies: &Api<NetworkPolicy>, before: &NetworkPolicy) {
    let is_new = async || {
        let now = policies.get_opt(&before.name_any()).await?;
        Ok::<_, kube::Error>(now.is_some_and(|policy| policy.uid() != before.uid()))
    };
    world.eventually("the policy is created again", TIMEOUT * 4, is_new).await.unwrap();
}

/// What is wrong with policies in the namespace: reason, policy and message.
fn wrong<'a>(status: &'a PolicyBaselineStatus, ns: &str) -> Vec<(&'static str, &'a str, &'a str)> {
    let of_it = status.violations.iter().filter(|violation| violation.namespace == ns);
    let mut all: Vec<_> =
        of_it.map(|v| (v.reason.into_str(), v.policy.as_deref().unwrap_or_default(), v.message.as_str())).collect();
    all.sort_unstable();
    all
}

#[tokio::test]
async fn i4_a_finalizer_whose_owner_is_absent_is_removed_from_a_deleted_policy() {
    if skipped_without_audit_log() {
        return;
    }
    let world = enforcing(&json!({ "namespaceSelector": team("a") })).await;
    limited(&world).await;
    let ns = world.namespace("kept", &[(TEAM, "a")]).await.unwrap();
    let left = world.namespace("left", &[(TEAM, "a")]).await.unwrap();
    let tenant = tenant(&world, &[&ns, &left]).await;
    let (policies, left_policies) = (policies_of(&tenant, &ns), policies_of(&tenant, &left));
    let before = until_holds(&world, &ns, &Plan::of(PLATFORM)).await;
    until_holds(&world, &left, &Plan::of(PLATFORM)).await;

    let mark = world.audit().unwrap().mark();
    // The operator deletes these policies itself, because the namespace leaves the baseline.
    merge(&left_policies, CARVEOUT, "tenant", &json!({ "metadata": { "finalizers": [EKS] } })).await;
    label(&world, &left, TEAM, None).await;
    let ingress = delete_kept(&policies, DENY_INGRESS, &[EKS]).await;
    delete_kept(&policies, DENY_EGRESS, &[KEEP, EKS]).await;
    delete_kept(&policies, CARVEOUT, &[KEEP]).await;

    until_created_again(&world, &policies, &ingress).await;
    until_only(&world, &left, &[]).await;
    for (ns, policy) in [(&ns, DENY_INGRESS), (&ns, DENY_EGRESS), (&left, CARVEOUT)] {
        let event = until_event(&world, &tenant, ns, "FinalizerRemoved", policy).await;
        let note = event.message.unwrap();
        assert!(note.contains(EKS) && note.contains("no CRD of the group networking.k8s.aws"), "{note}");
    }
    until_event(&world, &tenant, &ns, "DriftRepaired", DENY_INGRESS).await;
    let told = |status: &PolicyBaselineStatus| {
        let all = wrong(status, &ns);
        let told: Vec<_> = all.iter().map(|(reason, policy, _)| (*reason, *policy)).collect();
        told == [("Terminating", DENY_EGRESS), ("Terminating", CARVEOUT)]
            && all.iter().all(|(_, _, message)| !message.contains(EKS))
            && status.namespaces.pending == 0
            && wrong(status, &left).is_empty()
    };
    let status = until_status(&world, PLATFORM, "two policies are kept", told).await;
    assert!(wrong(&status, &ns).iter().all(|(_, _, message)| message.contains(KEEP) && !message.contains(EKS)));
    assert_eq!((status.namespaces.pending, &*condition(&status, "Ready").status), (0, "True"));

    fence(&world, &Plan::of(PLATFORM), &[(TEAM, "a")]).await;
    for policy in [DENY_EGRESS, CARVEOUT] {
        let now = policies.get(policy).await.unwrap();
        assert_eq!((now.uid(), now.finalizers()), (before[policy].uid(), [KEEP.to_owned()].as_slice()));
    }
    // One write for each finalizer, and one that creates a policy again. The component operator-limits refused none.
    let writes = writes_since(&world, mark);
    let mut of_it: Vec<_> = policy_writes(&writes, &ns).iter().map(|w| (w.name.as_str(), w.verb.as_str(), w.code)).collect();
    of_it.sort_unstable();
    assert_eq!(of_it, [(DENY_EGRESS, "patch", 200), (DENY_INGRESS, "patch", 200), (DENY_INGRESS, "patch", 201)]);
    let of_left: Vec<_> = policy_writes(&writes, &left).iter().map(|write| (write.verb.as_str(), write.code)).collect();
    assert_eq!(of_left, [("delete", 200), ("delete", 200), ("delete", 200), ("patch", 200)]);
    for policy in [DENY_EGRESS, CARVEOUT] {
        merge(&policies, policy, "tenant", &json!({ "metadata": { "finalizers": null } })).await;
    }
    until_holds(&world, &ns, &Plan::of(PLATFORM)).await;
}

#[tokio::test]
async fn i4_a_forged_policy_is_told_while_a_finalizer_delays_its_removal_and_keeps_no_baseline_from_being_ready() {
    let world = enforcing(&json!({})).await;
    let (ns, tenant) = protected(&world).await;
    let policies = policies_of(&tenant, &ns);
    delete_kept(&policies, DENY_EGRESS, &[KEEP]).await;
    // A policy that a living baseline does not plan is removed, but only when everything planned is there.
    policies.create(&PostParams::default(), &forged(&ns, "forged", Some(PLATFORM))).await.unwrap();
    let is_told =
        |status: &PolicyBaselineStatus| wrong(status, &ns).iter().any(|told| (told.0, told.1) == ("Bypassed", "forged"));
    until_status(&world, PLATFORM, "the forged policy is told", is_told).await;
    until_event(&world, &tenant, &ns, "BaselineBypassed", "forged").await;

    let is_ready = |status: &PolicyBaselineStatus| condition(status, "Ready").status == "True";
    let status = until_status_within(&world, PLATFORM, "ready", TIMEOUT * 4, is_ready).await;
    assert!(is_told(&status), "{:?}", status.violations);
    merge(&policies, DENY_EGRESS, "tenant", &json!({ "metadata": { "finalizers": null } })).await;
    until_holds(&world, &ns, &Plan::of(PLATFORM)).await;
}

#[tokio::test]
async fn i16_a_finalizer_whose_owner_may_be_in_the_cluster_stays_and_is_reported_until_its_crd_is_gone() {
    if skipped_without_audit_log() {
        return;
    }
    let mut world = World::new().await.unwrap();
    world.discard();
    let crd = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": { "name": ENDPOINTS },
        "spec": {
            "group": "networking.k8s.aws", "scope": "Namespaced",
            "names": { "plural": "policyendpoints", "singular": "policyendpoint", "kind": "PolicyEndpoint" },
            "versions": [{ "name": "v1alpha1", "served": true, "storage": true,
                "schema": { "openAPIV3Schema": { "type": "object", "x-kubernetes-preserve-unknown-fields": true } } }],
        },
    });
    world.apply_yaml(&crd.to_string()).await.unwrap();
    crate::scene::apply_baseline(&world, PLATFORM, &json!({})).await;
    world.start_operator().await.unwrap();
    let (ns, tenant) = protected(&world).await;
    let policies = policies_of(&tenant, &ns);
    let mark = world.audit().unwrap().mark();
    let kept = delete_kept(&policies, DENY_INGRESS, &[EKS]).await;

    let is_told = |status: &PolicyBaselineStatus| !wrong(status, &ns).is_empty();
    let status = until_status_within(&world, PLATFORM, "the finalizer", TIMEOUT * 4, is_told).await;
    let [(reason, policy, message)] = wrong(&status, &ns)[..] else { panic!("{:?}", status.violations) };
    assert_eq!((reason, policy), ("Terminating", DENY_INGRESS));
    assert!(message.contains(EKS) && message.contains("Whoever put them there must remove them"), "{message}");
    assert_eq!((status.namespaces.pending, &*condition(&status, "Ready").status), (0, "True"));
    fence(&world, &Plan::of(PLATFORM), &[]).await;
    let now = policies.get(DENY_INGRESS).await.unwrap();
    assert_eq!((now.uid(), now.finalizers()), (kept.uid(), [EKS.to_owned()].as_slice()));
    assert!(policy_writes(&writes_since(&world, mark), &ns).is_empty());

    let crds: Api<CustomResourceDefinition> = Api::all(world.admin());
    crds.delete(ENDPOINTS, &DeleteParams::default()).await.unwrap();
    until_created_again(&world, &policies, &kept).await;
    until_event(&world, &tenant, &ns, "FinalizerRemoved", DENY_INGRESS).await;
    until_status(&world, PLATFORM, "nothing is wrong", |status| wrong(status, &ns).is_empty()).await;
}
