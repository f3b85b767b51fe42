//! An invalid baseline: the status says why, the operator freezes what the baseline holds, and other baselines are not affected (I7).

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use policy_baseline::PolicyBaselineStatus;
use policy_baseline_e2e::{TIMEOUT, World, skipped_without_audit_log};
use serde_json::{Value, json};

use crate::opt_outs::{create as create_opt_out, opt_out, opt_outs, seconds_from_now};
use crate::others::forged;
use crate::scene::{
    CARVEOUT, DENY_EGRESS, DENY_INGRESS, Plan, apply_baseline, baselines, condition, delete_baseline, fence, merge, policies_of,
    policy_writes, until_holds, until_only, until_ready, until_status, version, writes_since,
};
use crate::support::until_finalizer;

const GOOD: &str = "good";
const BROKEN: &str = "broken";
/// The label that the broken baseline selects.
const TEAM: (&str, &str) = ("team", "x");

fn selector() -> Value {
    json!({ "matchLabels": { TEAM.0: TEAM.1 } })
}

/// A selector that the CRD accepts although its label key is invalid.
fn impossible() -> Value {
    json!({ "matchLabels": { "Bad Key!": "x" } })
}

/// The status, once the baseline is stalled for that reason.
async fn until_stalled(world: &World, name: &str, reason: &str) -> PolicyBaselineStatus {
    let status = until_status(world, name, "stalled", |status| condition(status, "Stalled").status == "True").await;
    let [stalled, ready, reconciling] = ["Stalled", "Ready", "Reconciling"].map(|kind| condition(&status, kind));
    assert_eq!((stalled.reason.as_str(), ready.reason.as_str()), (reason, reason), "{name}: {}", stalled.message);
    assert_eq!((ready.status.as_str(), reconciling.status.as_str()), ("False", "False"), "{name}");
    assert_eq!(ready.message, stalled.message);
    status
}

/// Removes a rule from the schema of a field of the spec, or of the spec itself.
async fn without_rule(world: &World, field: &str, rule: &str) {
    let crds: Api<CustomResourceDefinition> = Api::all(world.admin());
    let name = "policybaselines.policybaseline.io";
    let mut crd = serde_json::to_value(crds.get(name).await.unwrap()).unwrap();
    let schema = crd.pointer_mut(&format!("/spec/versions/0/schema/openAPIV3Schema/properties/spec{field}")).unwrap();
    assert!(schema.as_object_mut().unwrap().remove(rule).is_some());
    let patch = Patch::Merge(json!({ "spec": { "versions": crd["spec"]["versions"] } }));
    crds.patch(name, &PatchParams::default(), &patch).await.unwrap();
}

/// Lets the API server accept any mode, as a CRD of a later version might.
async fn accept_any_mode(world: &World) {
    without_rule(world, "/properties/mode", "enum").await;
}

async fn version_of(world: &World, baseline: &str) -> String {
    baselines(world).get(baseline).await.unwrap().resource_version().unwrap()
}

#[tokio::test]
async fn i7_a_baseline_that_does_not_decode_is_stalled_and_delays_no_other() {
    let mut world = World::new().await.unwrap();
    world.discard();
    accept_any_mode(&world).await;
    apply_baseline(&world, GOOD, &json!({})).await;
    world.start_operator().await.unwrap();
    let later = crate::scene::baseline(BROKEN, &json!({ "mode": "Later", "priority": 10 }));
    world.eventually("any mode is accepted", TIMEOUT, async || world.try_apply_yaml(&later).await.map(|()| true)).await.unwrap();

    let message = condition(&until_stalled(&world, BROKEN, "Undecodable").await, "Stalled").message;
    for words in ["spec.mode", "Later", "kubectl explain policybaseline.spec"] {
        assert!(message.contains(words), "{message}");
    }
    fence(&world, &Plan::of(GOOD), &[]).await;
    until_ready(&world, GOOD).await;

    // After a restart the status is not written again, and the other baseline still works.
    let stored = version_of(&world, BROKEN).await;
    world.restart_operator().await.unwrap();
    fence(&world, &Plan::of(GOOD), &[]).await;
    until_status(&world, GOOD, "the fence is counted", |status| status.namespaces.protected == 2).await;
    assert_eq!(version_of(&world, BROKEN).await, stored);

    apply_baseline(&world, BROKEN, &json!({ "mode": "Enforce", "priority": 10 })).await;
    let status = until_ready(&world, BROKEN).await;
    assert_eq!(condition(&status, "Stalled").status, "False");
    fence(&world, &Plan::of(BROKEN), &[]).await;
}

#[tokio::test]
async fn a_baseline_that_is_stored_without_a_mode_is_stalled_with_one_sentence_and_writes_nothing() {
    if skipped_without_audit_log() {
        return;
    }
    let mut world = World::new().await.unwrap();
    world.discard();
    without_rule(&world, "", "required").await;
    apply_baseline(&world, GOOD, &json!({ "namespaceSelector": { "matchLabels": { "fence": "yes" } } })).await;
    world.start_operator().await.unwrap();
    // As by a client that does not validate: the API server drops the field that it does not know.
    let typo = json!({
        "apiVersion": "policybaseline.io/v1alpha1", "kind": "PolicyBaseline", "metadata": { "name": BROKEN },
        "spec": { "mod": "Audit", "namespaceSelector": selector() },
    });
    let typo = serde_json::from_value(typo).unwrap();
    let create = async || match baselines(&world).create(&PostParams::default(), &typo).await {
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(true),
        created => created.map(|_| true),
    };
    world.eventually("the API server accepts a spec without a mode", TIMEOUT, create).await.unwrap();
    let message = condition(&until_stalled(&world, BROKEN, "MissingMode").await, "Stalled").message;
    assert_eq!(message, "spec.mode is missing, so nothing is written or removed: write mode: Enforce or mode: Audit");

    let ns = world.namespace("open", &[TEAM]).await.unwrap();
    fence(&world, &Plan::of(GOOD), &[("fence", "yes")]).await;
    until_only(&world, &ns, &[]).await;
    apply_baseline(&world, BROKEN, &json!({ "namespaceSelector": selector() })).await;
    until_holds(&world, &ns, &Plan::of(BROKEN)).await;
}

#[tokio::test]
async fn i7_what_a_stalled_baseline_held_is_frozen_also_after_a_restart_and_until_it_is_mended() {
    if skipped_without_audit_log() {
        return;
    }
    let mut world = World::new().await.unwrap();
    apply_baseline(&world, GOOD, &json!({})).await;
    let all = ["DefaultDenyIngress", "DefaultDenyEgress", "MonitoringCarveout"];
    apply_baseline(&world, BROKEN, &json!({ "priority": 10, "namespaceSelector": selector(), "policies": all })).await;
    world.start_operator().await.unwrap();
    let ns = world.namespace("held", &[TEAM]).await.unwrap();
    let before = until_holds(&world, &ns, &Plan::of(BROKEN)).await;

    // A valid baseline would act on all of this at once: other names, fewer policies, other namespaces.
    let mark = world.audit().unwrap().mark();
    let broken = |selector: &Value| {
        json!({
            "priority": 10, "namespaceSelector": selector, "metadata": { "namePrefix": "pci-" },
            "policies": ["DefaultDenyIngress", "DefaultDenyEgress"],
        })
    };
    apply_baseline(&world, BROKEN, &broken(&impossible())).await;
    let status = until_stalled(&world, BROKEN, "InvalidSelector").await;
    assert_eq!(status.namespaces.selected, 1, "{:?}", status.namespaces);
    let policies = policies_of(&world.admin(), &ns);
    policies.delete(DENY_EGRESS, &DeleteParams::default()).await.unwrap();
    let opened = merge(&policies, DENY_INGRESS, "tenant", &json!({ "spec": { "ingress": [{}] } })).await;

    let frozen = async |world: &World| {
        fence(world, &Plan::of(GOOD), &[]).await;
        until_only(world, &ns, &[DENY_INGRESS, CARVEOUT]).await;
        for (name, wanted) in [(DENY_INGRESS, &opened), (CARVEOUT, &before[CARVEOUT])] {
            assert_eq!(version(&policies.get(name).await.unwrap()), version(wanted), "{name} was written to");
        }
        assert!(policy_writes(&writes_since(world, mark), &ns).is_empty());
        // The other baseline selects it too, but does not get it.
        let status = until_ready(world, GOOD).await;
        assert_eq!(status.namespaces.shadowed, 1, "{:?}", status.namespaces);
    };
    frozen(&world).await;
    world.restart_operator().await.unwrap();
    frozen(&world).await;
    until_stalled(&world, BROKEN, "InvalidSelector").await;

    // It cannot keep a namespace from others that it never held.
    let new = world.namespace("new", &[TEAM]).await.unwrap();
    until_holds(&world, &new, &Plan::of(GOOD)).await;

    apply_baseline(&world, BROKEN, &broken(&selector())).await;
    let mended = Plan::of(BROKEN).prefix("pci-").without("MonitoringCarveout");
    until_holds(&world, &ns, &mended).await;
    until_holds(&world, &new, &mended).await;
    let status = until_ready(&world, BROKEN).await;
    assert_eq!(condition(&status, "Stalled").status, "False");
    assert_eq!((status.namespaces.selected, status.namespaces.protected), (2, 2));
}

#[tokio::test]
async fn a_stalled_baseline_that_is_deleted_leaves_its_policies_to_the_next() {
    let mut world = World::new().await.unwrap();
    apply_baseline(&world, GOOD, &json!({})).await;
    apply_baseline(&world, BROKEN, &json!({ "priority": 10, "namespaceSelector": selector() })).await;
    world.start_operator().await.unwrap();
    let ns = world.namespace("held", &[TEAM]).await.unwrap();
    let before = until_holds(&world, &ns, &Plan::of(BROKEN)).await;
    apply_baseline(&world, BROKEN, &json!({ "priority": 10, "namespaceSelector": impossible() })).await;
    until_stalled(&world, BROKEN, "InvalidSelector").await;
    delete_baseline(&world, BROKEN).await;
    let after = until_holds(&world, &ns, &Plan::of(GOOD)).await;
    assert!(before.iter().all(|(name, policy)| policy.uid() == after[name].uid()));
}

#[tokio::test]
async fn a_stalled_baseline_that_would_delete_its_policies_waits_until_it_is_mended() {
    let mut world = World::new().await.unwrap();
    apply_baseline(&world, GOOD, &json!({ "priority": -1 })).await;
    let spec = |selector: &Value| json!({ "deletionPolicy": "Delete", "namespaceSelector": selector });
    apply_baseline(&world, BROKEN, &spec(&selector())).await;
    world.start_operator().await.unwrap();
    let ns = world.namespace("held", &[TEAM]).await.unwrap();
    let before = until_holds(&world, &ns, &Plan::of(BROKEN)).await;
    until_finalizer(&world, BROKEN).await;
    apply_baseline(&world, BROKEN, &spec(&impossible())).await;
    until_stalled(&world, BROKEN, "InvalidSelector").await;
    delete_baseline(&world, BROKEN).await;
    fence(&world, &Plan::of(GOOD), &[]).await;
    let still = until_holds(&world, &ns, &Plan::of(BROKEN)).await;
    assert!(before.iter().all(|(name, policy)| version(policy) == version(&still[name])));

    apply_baseline(&world, BROKEN, &spec(&selector())).await;
    world
        .eventually("the baseline is gone", TIMEOUT, async || {
            baselines(&world).get_opt(BROKEN).await.map(|found| found.is_none())
        })
        .await
        .unwrap();
    until_holds(&world, &ns, &Plan::of(GOOD)).await;
}

#[tokio::test]
async fn a_tenant_cannot_freeze_his_namespace_by_the_name_of_a_stalled_baseline() {
    let mut world = World::new().await.unwrap();
    apply_baseline(&world, GOOD, &json!({})).await;
    apply_baseline(&world, BROKEN, &json!({ "namespaceSelector": impossible() })).await;
    world.start_operator().await.unwrap();
    let ns = world.namespace("team", &[]).await.unwrap();
    until_holds(&world, &ns, &Plan::of(GOOD)).await;
    until_stalled(&world, BROKEN, "InvalidSelector").await;
    let tenant = crate::scene::tenant(&world, &[&ns]).await;
    let policies = policies_of(&tenant, &ns);
    merge(&policies, CARVEOUT, "tenant", &json!({ "metadata": { "labels": { "policybaseline.io/baseline": BROKEN } } })).await;
    merge(&policies, DENY_INGRESS, "tenant", &json!({ "spec": { "ingress": [{}] } })).await;
    fence(&world, &Plan::of(GOOD), &[]).await;
    until_holds(&world, &ns, &Plan::of(GOOD)).await;
}

/// Where nothing of ours stands, only a forged policy says whose a namespace is: after an opt-out, and before the first policy. The tenant
/// creates the policy while the baseline rests, or gives the labels to one that is older.
async fn a_policy_is_forged_in_the_name_of_one_that_rests(baseline: &Value) {
    let mut world = World::new().await.unwrap();
    apply_baseline(&world, GOOD, &json!({})).await;
    apply_baseline(&world, BROKEN, &json!({ "priority": 10, "namespaceSelector": selector() })).await;
    world.start_operator().await.unwrap();
    let ns = world.namespace("opted-out", &[]).await.unwrap();
    let tenant = crate::scene::tenant(&world, &[&ns]).await;
    let policies = policies_of(&tenant, &ns);
    let mut older = forged(&ns, "older", None);
    let labels = older.metadata.labels.take().unwrap();
    policies.create(&PostParams::default(), &older).await.unwrap();
    until_holds(&world, &ns, &Plan::of(GOOD).beside("older")).await;

    apply_baseline(&world, BROKEN, baseline).await;
    until_status(&world, BROKEN, "at rest", |status| status.resting_since_version.is_some()).await;
    let all = ["DefaultDenyIngress", "DefaultDenyEgress", "MonitoringCarveout"];
    create_opt_out(&world, &ns, &opt_out("all", &all, seconds_from_now(3600))).await;
    until_only(&world, &ns, &["older"]).await;

    world.stop_operator().unwrap();
    let new = world.namespace("new", &[]).await.unwrap();
    for ns in [&ns, &new] {
        policies_of(&world.admin(), ns).create(&PostParams::default(), &forged(ns, "forged", Some(BROKEN))).await.unwrap();
    }
    merge(&policies, "older", "tenant", &json!({ "metadata": { "labels": labels } })).await;
    merge(&policies, "older", "tenant", &json!({ "metadata": { "labels": { "policybaseline.io/baseline": BROKEN } } })).await;
    world.restart_operator().await.unwrap();
    until_holds(&world, &new, &Plan::of(GOOD).beside("forged")).await;
    opt_outs(&world.admin(), &ns).delete("all", &DeleteParams::default()).await.unwrap();
    until_holds(&world, &ns, &Plan::of(GOOD).beside("forged").beside("older")).await;
}

#[tokio::test]
async fn i7_a_policy_forged_in_the_name_of_a_stalled_baseline_keeps_no_namespace_open() {
    a_policy_is_forged_in_the_name_of_one_that_rests(&json!({ "priority": 10, "namespaceSelector": impossible() })).await;
}

#[tokio::test]
async fn i7_a_policy_forged_in_the_name_of_a_suspended_baseline_keeps_no_namespace_open() {
    let suspended = json!({ "priority": 10, "suspend": true, "namespaceSelector": selector() });
    a_policy_is_forged_in_the_name_of_one_that_rests(&suspended).await;
}

#[tokio::test]
async fn what_the_crd_cannot_see_is_told_with_a_reason_and_the_field() {
    let expression =
        |key: &str, value: &str| json!({ "matchExpressions": [{ "key": key, "operator": "In", "values": [value] }] });
    let port = |name: &str| json!({ "monitoring": { "ports": [{ "port": 9090 }, { "port": name }] } });
    let cases = [
        (json!({ "namespaceSelector": impossible() }), "InvalidSelector", "spec.namespaceSelector: \"Bad Key!\""),
        (
            json!({ "namespaceSelector": { "matchLabels": { "tier": "a/b" } } }),
            "InvalidSelector",
            "spec.namespaceSelector: \"a/b\"",
        ),
        (json!({ "namespaceSelector": expression("a b", "c") }), "InvalidSelector", "spec.namespaceSelector: \"a b\""),
        (
            json!({ "namespaceSelector": expression("tier", "not good") }),
            "InvalidSelector",
            "spec.namespaceSelector: \"not good\"",
        ),
        (json!({ "namespaceSelector": expression("Example.com/tier", "x") }), "InvalidSelector", "spec.namespaceSelector"),
        (
            json!({ "dns": { "peers": [{ "namespaceSelector": {}, "podSelector": impossible() }] } }),
            "InvalidSelector",
            "spec.dns.peers[0].podSelector: \"Bad Key!\"",
        ),
        (
            json!({ "dns": { "peers": [{ "namespaceSelector": impossible() }] } }),
            "InvalidSelector",
            "spec.dns.peers[0].namespaceSelector",
        ),
        (
            json!({ "monitoring": { "from": [{ "namespaceSelector": impossible(), "podSelector": {} }] } }),
            "InvalidSelector",
            "spec.monitoring.from[0].namespaceSelector",
        ),
        (
            json!({ "monitoring": { "from": [{ "namespaceSelector": selector(), "podSelector": impossible() }] } }),
            "InvalidSelector",
            "spec.monitoring.from[0].podSelector",
        ),
        (json!({ "monitoring": { "podSelector": impossible() } }), "InvalidSelector", "spec.monitoring.podSelector"),
        (json!({ "monitoring": { "namespaceSelector": impossible() } }), "InvalidSelector", "spec.monitoring.namespaceSelector"),
        (port("8080"), "InvalidPort", "spec.monitoring.ports[1]: a port is a number from 1 to 65535"),
        (port("Metrics"), "InvalidPort", "spec.monitoring.ports[1]"),
        (port("http--web"), "InvalidPort", "spec.monitoring.ports[1]"),
        (json!({ "metadata": { "labels": { "cost center": "7" } } }), "InvalidMetadata", "spec.metadata.labels: \"cost center\""),
        (json!({ "metadata": { "labels": { "owner": "net work" } } }), "InvalidMetadata", "spec.metadata.labels: \"net work\""),
        (
            json!({ "metadata": { "labels": { "app.kubernetes.io/instance": "x" } } }),
            "InvalidMetadata",
            "spec.metadata.labels: app.kubernetes.io/instance: another tool would take the policies for its own",
        ),
        (
            json!({ "metadata": { "annotations": { "my note": "x" } } }),
            "InvalidMetadata",
            "spec.metadata.annotations: \"my note\"",
        ),
        (
            json!({ "metadata": { "annotations": { "argocd.argoproj.io/tracking-id": "x" } } }),
            "InvalidMetadata",
            "spec.metadata.annotations: argocd.argoproj.io/tracking-id",
        ),
    ];
    let mut world = World::new().await.unwrap();
    apply_baseline(&world, GOOD, &json!({})).await;
    world.start_operator().await.unwrap();
    let name = |i: usize| format!("broken-{i:02}");
    for (i, (spec, ..)) in cases.iter().enumerate() {
        apply_baseline(&world, &name(i), spec).await;
    }
    for (i, (spec, reason, words)) in cases.iter().enumerate() {
        let message = condition(&until_stalled(&world, &name(i), reason).await, "Stalled").message;
        assert!(message.contains(words), "{spec}\n  should say {words:?}, but says\n  {message}");
        assert!(message.len() < 300, "{message}");
    }
    fence(&world, &Plan::of(GOOD), &[]).await;
    for i in 0..cases.len() {
        apply_baseline(&world, &name(i), &json!({ "mode": "Audit" })).await;
    }
    for i in 0..cases.len() {
        let status = until_ready(&world, &name(i)).await;
        assert_eq!(condition(&status, "Stalled").status, "False", "{}", name(i));
    }
}
