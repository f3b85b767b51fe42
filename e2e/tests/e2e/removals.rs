//! The operator removes what is no longer planned, by uid and resourceVersion. It leaves everything that is not ours.

use kube::ResourceExt;
use kube::api::{DeleteParams, PostParams};
use policy_baseline_e2e::{TIMEOUT, skipped_without_audit_log, wait};
use serde_json::json;

use crate::repair::{PLATFORM, enforcing, protected};
use crate::scene::{
    CARVEOUT, DENY_EGRESS, DENY_INGRESS, Plan, apply_baseline, baselines, client_of, delete_baseline, events, fence, policies_of,
    policy_writes, tenant, until_event, until_holds, until_only, until_ready, version, writes_since,
};

/// The user of the operator, in CEL.
const BY_THE_OPERATOR: &str = r#"request.userInfo.username == "system:serviceaccount:policy-baseline-system:policy-baseline""#;

/// An admission policy under which policies are deleted only by uid and resourceVersion. `of`: whose deletions it judges, in CEL.
pub fn only_with_preconditions(of: &str) -> String {
    format!(
        "
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {{ name: preconditions }}
spec:
  failurePolicy: Fail
  matchConstraints:
    resourceRules:
    - {{ apiGroups: [networking.k8s.io], apiVersions: [v1], operations: [DELETE], resources: [networkpolicies] }}
  matchConditions:
  - {{ name: of-these, expression: '{of}' }}
  validations:
  - expression: >-
      has(request.options.preconditions) && has(request.options.preconditions.uid)
      && has(request.options.preconditions.resourceVersion)
    message: a delete without preconditions
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {{ name: preconditions }}
spec: {{ policyName: preconditions, validationActions: [Deny] }}
"
    )
}

#[tokio::test]
async fn after_a_change_of_prefix_the_new_policies_come_first_and_the_old_ones_go_by_uid_and_version() {
    if skipped_without_audit_log() {
        return;
    }
    let world = enforcing(&json!({})).await;
    world.apply_yaml(&only_with_preconditions(BY_THE_OPERATOR)).await.unwrap();
    let (ns, tenant) = protected(&world).await;
    let operator = policies_of(&client_of(&world.operator_kubeconfig().await.unwrap()).await, &ns);
    wait::eventually("a delete without preconditions is denied", TIMEOUT, async || {
        let dry_run = DeleteParams { dry_run: true, ..DeleteParams::default() };
        operator
            .delete(DENY_INGRESS, &dry_run)
            .await
            .err()
            .is_some_and(|err| err.to_string().contains("a delete without preconditions"))
    })
    .await
    .unwrap();

    let mark = world.audit().unwrap().mark();
    apply_baseline(&world, PLATFORM, &json!({ "metadata": { "namePrefix": "pci-" } })).await;
    until_holds(&world, &ns, &Plan::of(PLATFORM).prefix("pci-")).await;
    for policy in [DENY_INGRESS, DENY_EGRESS, CARVEOUT] {
        let event = until_event(&world, &tenant, &ns, "PolicyRemoved", policy).await;
        assert_eq!(event.type_.as_deref(), Some("Normal"));
    }
    let writes = writes_since(&world, mark);
    let told: Vec<_> = policy_writes(&writes, &ns).iter().map(|write| (write.verb.as_str(), write.code)).collect();
    assert_eq!(told, [("patch", 201), ("patch", 201), ("patch", 201), ("delete", 200), ("delete", 200), ("delete", 200)]);
    assert!(events(&tenant, &ns).await.iter().all(|event| event.reason.as_deref() == Some("PolicyRemoved")));
}

#[tokio::test]
async fn i4_copies_of_our_policies_and_policies_of_tenants_are_never_touched() {
    if skipped_without_audit_log() {
        return;
    }
    let world = enforcing(&json!({ "excludeNamespaces": ["left-out-*"] })).await;
    let (ns, _) = protected(&world).await;
    let elsewhere = world.namespace("left-out", &[]).await.unwrap();
    let tenant = tenant(&world, &[&ns, &elsewhere]).await;

    // A copy as `kubectl get -o yaml` and a new name make it: with our labels, annotations and managedFields.
    let mut original = policies_of(&tenant, &ns).get(DENY_INGRESS).await.unwrap();
    original.metadata.uid = None;
    original.metadata.resource_version = None;
    original.metadata.creation_timestamp = None;
    let named = |name: &str, namespace: &str| {
        let mut copy = original.clone();
        (copy.metadata.name, copy.metadata.namespace) = (Some(name.to_owned()), Some(namespace.to_owned()));
        copy
    };
    let mut own = named("allow-web", &ns);
    (own.metadata.labels, own.metadata.annotations, own.metadata.managed_fields) = (None, None, None);
    own.spec.get_or_insert_default().ingress = Some(vec![k8s_openapi::api::networking::v1::NetworkPolicyIngressRule::default()]);
    let mut theirs = Vec::new();
    for policy in [named("my-copy", &ns), named(DENY_INGRESS, &elsewhere), own] {
        let policies = policies_of(&tenant, &policy.namespace().unwrap());
        theirs.push(policies.create(&PostParams::default(), &policy).await.unwrap());
    }
    for copy in &theirs[..2] {
        assert_eq!(copy.labels(), original.labels());
        let managers: Vec<_> = copy.managed_fields().iter().filter_map(|entry| entry.manager.as_deref()).collect();
        assert!(managers.contains(&"policy-baseline"), "{managers:?}");
    }

    let mark = world.audit().unwrap().mark();
    let spec = |prefix: &str| {
        json!({
            "excludeNamespaces": ["left-out-*"], "dns": { "ports": [5353] }, "metadata": { "namePrefix": prefix }, "deletionPolicy": "Delete",
        })
    };
    let plan = Plan::of(PLATFORM).dns_port(5353);
    let with_theirs = |plan: &Plan| plan.clone().beside("my-copy").beside("allow-web");
    apply_baseline(&world, PLATFORM, &spec("baseline-")).await;
    until_holds(&world, &ns, &with_theirs(&plan)).await;
    apply_baseline(&world, PLATFORM, &spec("pci-")).await;
    until_holds(&world, &ns, &with_theirs(&plan.clone().prefix("pci-"))).await;
    policies_of(&tenant, &ns).delete("pci-default-deny-egress", &DeleteParams::default()).await.unwrap();
    until_event(&world, &tenant, &ns, "DriftRepaired", "pci-default-deny-egress").await;
    fence(&world, &plan.prefix("pci-"), &[]).await;
    // Ready means that the finalizer is set. The finalizer lets the deletion wait for the policies.
    until_ready(&world, PLATFORM).await;
    delete_baseline(&world, PLATFORM).await;
    until_only(&world, &ns, &["my-copy", "allow-web"]).await;
    world
        .eventually("the baseline is gone", TIMEOUT, async || {
            baselines(&world).get_opt(PLATFORM).await.map(|found| found.is_none())
        })
        .await
        .unwrap();

    for policy in &theirs {
        let now = policies_of(&tenant, &policy.namespace().unwrap()).get(&policy.name_any()).await.unwrap();
        assert_eq!(version(&now), version(policy), "{} was written to", policy.name_any());
    }
    let writes = writes_since(&world, mark);
    let written: Vec<_> = policy_writes(&writes, &ns).iter().map(|write| write.name.clone()).collect();
    assert!(!written.is_empty() && written.iter().all(|name| name != "my-copy" && name != "allow-web"), "{written:?}");
    assert!(policy_writes(&writes, &elsewhere).is_empty());
}
