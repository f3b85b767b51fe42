//! operator-limits: what somebody who has stolen the operator's token can write. The thief here really uses a token of the ServiceAccount, with
//! the shipped RBAC.

use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::Client;
use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::ApiResource;
use policy_baseline::{BaselineOptOut, PolicyBaseline};
use policy_baseline_e2e::{SYSTEM_NAMESPACE, TIMEOUT, World, skipped_without_audit_log};
use serde_json::{Value, json};

use super::{break_glass, choose, denied};
use crate::opt_outs;
use crate::rbac::{refused_since, use_every_permission};
use crate::repair::PLATFORM;
use crate::scene::{DENY_INGRESS, apply_baseline, client_of, policies_of, until_may_operate};

/// A change of an event.
type Change = fn(&mut Value);

const ID: &str = "0123456789abcdef0123456789abcdef";

async fn thief(world: &World) -> Client {
    client_of(&world.operator_kubeconfig().await.unwrap()).await
}

/// The component, which is in force for all kinds that it checks.
pub async fn limited(world: &World) {
    let thief = thief(world).await;
    let ns = world.namespace("probe", &[]).await.unwrap();
    until_may_operate(world, &thief, SYSTEM_NAMESPACE).await;
    apply_baseline(world, "probe", &json!({ "mode": "Audit" })).await;
    let dry = || PostParams { dry_run: true, ..PostParams::default() };
    let is_in_force = async || {
        let labelled = Patch::Merge(json!({ "metadata": { "labels": { "probe": "1" } } }));
        let patch = PatchParams { dry_run: true, ..PatchParams::default() };
        let baselines = Api::<DynamicObject>::all_with(thief.clone(), &ApiResource::erase::<PolicyBaseline>(&()));
        is_refused(policies_of(&thief, &ns).create(&dry(), &policy("probe", &json!({}))).await)
            && is_refused(baselines.patch("probe", &patch, &labelled).await)
            && is_refused(leases(&thief).create(&dry(), &lease("probe")).await)
            && is_refused(
                events(&thief, &ns).create(&dry(), &event(&ns, |event| event["regarding"]["kind"] = "Pod".into())).await,
            )
    };
    choose(world, "operator-limits", is_in_force).await;
}

fn is_refused<T>(result: kube::Result<T>) -> bool {
    result.is_err_and(|err| err.to_string().contains("policy-baseline-operator-limits-"))
}

fn policy(name: &str, labels: &Value) -> NetworkPolicy {
    let policy = json!({ "metadata": { "name": name, "labels": labels }, "spec": { "podSelector": {}, "ingress": [{}] } });
    serde_json::from_value(policy).unwrap()
}

/// The labels of a policy of the operator, with one of them changed, or taken off.
fn labels(key: &str, value: Value) -> Value {
    let mut labels = json!({
        "app.kubernetes.io/managed-by": "policy-baseline", "policybaseline.io/baseline": PLATFORM,
        "policybaseline.io/role": "DefaultDenyIngress", "policybaseline.io/id": ID,
    });
    labels[key] = value;
    labels.as_object_mut().unwrap().retain(|_, value| !value.is_null());
    labels
}

fn leases(client: &Client) -> Api<Lease> {
    Api::namespaced(client.clone(), SYSTEM_NAMESPACE)
}

fn lease(name: &str) -> Lease {
    serde_json::from_value(json!({ "metadata": { "name": name }, "spec": { "holderIdentity": "thief" } })).unwrap()
}

fn events(client: &Client, namespace: &str) -> Api<Event> {
    Api::namespaced(client.clone(), namespace)
}

/// An event as the operator writes it, with a change.
fn event(namespace: &str, change: impl FnOnce(&mut Value)) -> Event {
    let mut event = json!({
        "metadata": { "name": World::unique("event") }, "eventTime": "2026-01-01T00:00:00.000000Z", "type": "Warning",
        "reportingController": "policybaseline.io/policy-baseline", "reportingInstance": "thief", "reason": "DriftRepaired",
        "action": "Repair", "note": "repaired",
        "regarding": { "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "name": "any", "namespace": namespace },
    });
    change(&mut event);
    serde_json::from_value(event).unwrap()
}

fn revisions(client: &Client) -> Api<ControllerRevision> {
    Api::namespaced(client.clone(), SYSTEM_NAMESPACE)
}

fn revision(name: &str, labels: &Value, owner: &Value) -> ControllerRevision {
    let revision = json!({ "metadata": { "name": name, "labels": labels, "ownerReferences": owner }, "revision": 1, "data": {} });
    serde_json::from_value(revision).unwrap()
}

#[tokio::test]
async fn operator_limits_lets_the_operator_do_all_that_it_does() {
    if skipped_without_audit_log() {
        return;
    }
    let mut world = World::new().await.unwrap();
    limited(&world).await;
    let mark = world.audit().unwrap().mark();
    use_every_permission(&mut world).await;
    let refused = refused_since(&world, mark);
    assert!(refused.is_empty(), "{refused:#?}");
}

#[tokio::test]
async fn operator_limits_lets_a_thief_write_no_network_policy_of_others() {
    let world = World::new().await.unwrap();
    let ns = world.namespace("team", &[]).await.unwrap();
    let new = PostParams::default();
    policies_of(&world.admin(), &ns).create(&new, &policy("of-a-tenant", &json!({}))).await.unwrap();
    limited(&world).await;
    let policies = policies_of(&thief(&world).await, &ns);
    let only_its_own = "the operator of policy-baseline writes and deletes only NetworkPolicies with its labels";
    for (what, labels) in [
        ("no labels", json!({})),
        ("only a prefix", json!({ "policybaseline.io/x": "y" })),
        ("another manager", labels("app.kubernetes.io/managed-by", json!("Helm"))),
        ("no baseline", labels("policybaseline.io/baseline", Value::Null)),
        ("an empty baseline", labels("policybaseline.io/baseline", json!(""))),
        ("no id", labels("policybaseline.io/id", Value::Null)),
        ("no hash", labels("policybaseline.io/id", json!("mine"))),
    ] {
        let said = denied(what, policies.create(&new, &policy(DENY_INGRESS, &labels)).await);
        assert!(said.starts_with(only_its_own), "{what}: {said}");
    }
    let right = labels("policybaseline.io/id", json!(ID));
    let another_role = |role: &str| labels("policybaseline.io/role", json!(role));
    let allow = |name: &str| {
        let mut labels = another_role("Allow");
        labels["policybaseline.io/allow"] = json!(name);
        labels
    };
    for (name, labels) in [
        ("baseline-allow-web", &another_role("Allow")),
        ("baseline-allow-web", &allow("api")),
        (DENY_INGRESS, &allow("web")),
        ("open", &right),
        ("default-deny-ingress-open", &right),
        ("baseline-default-deny-egress", &right),
        (DENY_INGRESS, &another_role("DefaultDenyEgress")),
        (DENY_INGRESS, &another_role("MonitoringCarveout")),
        (DENY_INGRESS, &another_role("Other")),
        ("baseline-monitoring-source-x", &another_role("MonitoringCarveout")),
    ] {
        let said = denied(name, policies.create(&new, &policy(name, labels)).await);
        assert!(said.ends_with("whose name ends as their label policybaseline.io/role says"), "{name}: {said}");
    }
    // What is of a tenant stays as it is.
    let opened = Patch::Merge(json!({ "spec": { "podSelector": { "matchLabels": { "a": "b" } } } }));
    assert!(denied("patch", policies.patch("of-a-tenant", &PatchParams::default(), &opened).await).starts_with(only_its_own));
    assert!(denied("delete", policies.delete("of-a-tenant", &DeleteParams::default()).await).starts_with(only_its_own));
    let taken = Patch::Merge(json!({ "metadata": { "labels": right } }));
    denied("take over", policies.patch("of-a-tenant", &PatchParams::default(), &taken).await);

    // What looks like a policy of the operator. It stays one.
    policies.create(&new, &policy("own-allow-web", &allow("web"))).await.unwrap();
    policies.delete("own-allow-web", &DeleteParams::default()).await.unwrap();
    for (name, role) in [
        (DENY_INGRESS, "DefaultDenyIngress"),
        ("own-default-deny-egress", "DefaultDenyEgress"),
        ("own-monitoring-carveout", "MonitoringCarveout"),
        ("own-monitoring-source", "MonitoringCarveout"),
        ("own-monitoring-source-12", "MonitoringCarveout"),
    ] {
        policies.create(&new, &policy(name, &another_role(role))).await.unwrap();
        let stripped = Patch::Merge(json!({ "metadata": { "labels": null } }));
        assert!(denied(name, policies.patch(name, &PatchParams::default(), &stripped).await).starts_with(only_its_own));
        policies.delete(name, &DeleteParams::default()).await.unwrap();
    }
    // Others are not concerned.
    policies_of(&world.admin(), &ns).delete("of-a-tenant", &DeleteParams::default()).await.unwrap();
}

#[tokio::test]
async fn operator_limits_lets_a_thief_change_no_baseline_and_no_opt_out() {
    let world = World::new().await.unwrap();
    let ns = world.namespace("team", &[]).await.unwrap();
    apply_baseline(&world, PLATFORM, &json!({})).await;
    opt_outs::create(&world, &ns, &opt_outs::opt_out("partner", &["DefaultDenyEgress"], opt_outs::seconds_from_now(600))).await;
    limited(&world).await;
    let thief = thief(&world).await;
    let baselines = Api::<DynamicObject>::all_with(thief.clone(), &ApiResource::erase::<PolicyBaseline>(&()));
    let opt_outs = Api::<DynamicObject>::namespaced_with(thief, &ns, &ApiResource::erase::<BaselineOptOut>(&()));
    let as_operator = PatchParams::default();
    let owned =
        json!([{ "apiVersion": "v1", "kind": "ConfigMap", "name": "none", "uid": "0f9e8d7c-6b5a-4321-8765-00ffabcdef12" }]);
    let metadata = [
        json!({ "metadata": { "labels": { "a": "b" } } }),
        json!({ "metadata": { "annotations": { "policybaseline.io/confirm-release": "1" } } }),
        json!({ "metadata": { "finalizers": ["example.com/held"] } }),
        json!({ "metadata": { "ownerReferences": owned } }),
    ];
    let of_baseline = [
        json!({ "spec": { "suspend": true } }),
        json!({ "spec": { "mode": "Audit" } }),
        json!({ "metadata": { "labels": { "policybaseline.io/opt-out": "in-force" } } }),
        json!({ "metadata": { "finalizers": ["policybaseline.io/delete-policies", "example.com/held"] } }),
    ];
    for change in metadata.iter().chain(&of_baseline) {
        let said = denied(&change.to_string(), baselines.patch(PLATFORM, &as_operator, &Patch::Merge(change)).await);
        assert!(said.contains("changes nothing in a baseline but its finalizer and the status"), "{change}: {said}");
    }
    let of_opt_out = [
        json!({ "spec": { "expiresAt": "2099-01-01T00:00:00Z" } }),
        json!({ "metadata": { "labels": { "policybaseline.io/opt-out": "forever" } } }),
        json!({ "metadata": { "finalizers": ["policybaseline.io/delete-policies"] } }),
    ];
    for change in metadata.iter().chain(&of_opt_out) {
        let said = denied(&change.to_string(), opt_outs.patch("partner", &as_operator, &Patch::Merge(change)).await);
        assert!(said.contains("nothing in an opt-out but its label and the status"), "{change}: {said}");
    }
    // The operator's own marks, there and back.
    for finalizers in [json!(["policybaseline.io/delete-policies"]), Value::Null] {
        let marked = Patch::Merge(json!({ "metadata": { "finalizers": finalizers } }));
        baselines.patch(PLATFORM, &as_operator, &marked).await.unwrap();
    }
    for label in [json!("in-force"), Value::Null] {
        let marked = Patch::Merge(json!({ "metadata": { "labels": { "policybaseline.io/opt-out": label } } }));
        opt_outs.patch("partner", &as_operator, &marked).await.unwrap();
    }
    // An apply of an object that does not exist would create it. RBAC refuses that already.
    let created = Patch::Apply(
        json!({ "apiVersion": "policybaseline.io/v1alpha1", "kind": "PolicyBaseline", "spec": { "mode": "Audit" } }),
    );
    assert!(baselines.patch("new", &PatchParams::apply("thief").force(), &created).await.is_err());
    let everything_else = Patch::Merge(json!({ "spec": { "suspend": true } }));
    let rescue = break_glass(&world).await;
    let baselines = Api::<DynamicObject>::all_with(rescue, &ApiResource::erase::<PolicyBaseline>(&()));
    baselines.patch(PLATFORM, &as_operator, &everything_else).await.unwrap();
}

#[tokio::test]
async fn operator_limits_lets_a_thief_keep_no_other_lease_and_revision_and_report_nothing_about_others() {
    let world = World::new().await.unwrap();
    let ns = world.namespace("team", &[]).await.unwrap();
    limited(&world).await;
    let thief = thief(&world).await;
    let new = PostParams::default();
    denied("lease", leases(&thief).create(&new, &lease("other")).await);

    let ours = json!({ "app.kubernetes.io/managed-by": "policy-baseline", "policybaseline.io/baseline": PLATFORM });
    let owner = |kind: &str, name: &str| {
        let version = if kind == "PolicyBaseline" { "policybaseline.io/v1alpha1" } else { "v1" };
        json!([{ "apiVersion": version, "kind": kind, "name": name, "uid": "0f9e8d7c-6b5a-4321-8765-00ffabcdef12" }])
    };
    let baseline = owner("PolicyBaseline", PLATFORM);
    for (what, refused) in [
        ("no labels", revision(&format!("{PLATFORM}-1"), &json!({}), &baseline)),
        ("another name", revision("web-1", &ours, &baseline)),
        ("another owner", revision(&format!("{PLATFORM}-1"), &ours, &owner("ConfigMap", PLATFORM))),
        ("another baseline", revision(&format!("{PLATFORM}-1"), &ours, &owner("PolicyBaseline", "other"))),
    ] {
        denied(what, revisions(&thief).create(&new, &refused).await);
    }
    // Of a DaemonSet or a StatefulSet in the same namespace.
    let of_others = revision(&World::unique("web"), &json!({}), &Value::Null);
    let of_others = revisions(&world.admin()).create(&new, &of_others).await.unwrap().metadata.name.unwrap();
    denied("delete", revisions(&thief).delete(&of_others, &DeleteParams::default()).await);
    revisions(&world.admin()).delete(&of_others, &DeleteParams::default()).await.unwrap();

    let changes: [(&str, Change); 4] = [
        ("about a pod", |event| event["regarding"]["kind"] = "Pod".into()),
        ("about nothing", |event| event["regarding"].as_object_mut().unwrap().retain(|key, _| key == "namespace")),
        ("about a policy of another group", |event| event["regarding"]["apiVersion"] = "cilium.io/v2".into()),
        ("in the name of another", |event| event["reportingController"] = "kubelet".into()),
    ];
    for (what, change) in changes {
        denied(what, events(&thief, &ns).create(&new, &event(&ns, change)).await);
    }
    events(&thief, &ns).create(&new, &event(&ns, |_| ())).await.unwrap();
    let of_opt_out = |event: &mut Value| {
        event["regarding"]["apiVersion"] = "policybaseline.io/v1alpha1".into();
        event["regarding"]["kind"] = "BaselineOptOut".into();
    };
    events(&thief, &ns).create(&new, &event(&ns, of_opt_out)).await.unwrap();
    world
        .eventually("others report what they like", TIMEOUT, async || {
            let by_another = event(&ns, |event| event["reportingController"] = "example.com/another".into());
            events(&world.admin(), &ns).create(&new, &by_another).await.is_ok()
        })
        .await
        .unwrap();
}
