//! Drift of every class, made by tenants as far as they can, and how the operator repairs it.
//! One file: the tests share their scene.

use std::collections::BTreeMap;

use futures::future::join_all;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt};
use policy_baseline::PolicyBaselineStatus;
use policy_baseline_e2e::{AuditEntry, TIMEOUT, World, skipped_without_audit_log};
use serde_json::{Value, json};

use crate::scene::{
    CARVEOUT, DENY_EGRESS, DENY_INGRESS, Plan, apply_baseline, condition, events, fence, merge, policies_of, policy_writes,
    tenant, until_event, until_holds, until_status, until_status_within, version, writes_since,
};

pub const PLATFORM: &str = "platform";

/// What a tenant does to one policy in one of the tenant's namespaces.
struct Case {
    what: &'static str,
    policy: &'static str,
    patch: Value,
}

/// A case, and its namespace with the policies as they were before.
struct Scene {
    case: Case,
    namespace: String,
    before: BTreeMap<String, NetworkPolicy>,
}

impl Scene {
    fn uid_before(&self) -> Option<String> {
        self.before[self.case.policy].uid()
    }
}

/// Starts the operator, and applies a baseline with that spec.
pub async fn enforcing(spec: &Value) -> World {
    let mut world = World::new().await.unwrap();
    apply_baseline(&world, PLATFORM, spec).await;
    world.start_operator().await.unwrap();
    world
}

/// A namespace that holds its plan, and a tenant who may edit there.
pub async fn protected(world: &World) -> (String, Client) {
    let namespace = world.namespace("team", &[]).await.unwrap();
    let tenant = tenant(world, &[&namespace]).await;
    until_holds(world, &namespace, &Plan::of(PLATFORM)).await;
    (namespace, tenant)
}

/// A protected namespace for each case. One tenant tampers with all of them.
async fn tampered(world: &World, cases: Vec<Case>, manager: &str) -> (Vec<Scene>, Client) {
    let namespaces = join_all(cases.iter().map(|_| world.namespace("team", &[]))).await;
    let namespaces: Vec<String> = namespaces.into_iter().map(Result::unwrap).collect();
    let tenant = tenant(world, &namespaces.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let plan = Plan::of(PLATFORM);
    let before = join_all(namespaces.iter().map(|namespace| until_holds(world, namespace, &plan))).await;
    let scenes: Vec<Scene> = cases
        .into_iter()
        .zip(namespaces)
        .zip(before)
        .map(|((case, namespace), before)| Scene { case, namespace, before })
        .collect();
    for Scene { case, namespace, before } in &scenes {
        let stored = merge(&policies_of(&tenant, namespace), case.policy, manager, &case.patch).await;
        assert_ne!(version(&stored), version(&before[case.policy]), "{}: nothing was tampered with", case.what);
    }
    (scenes, tenant)
}

/// The note of the event with this reason about this policy. It must be the only event in the namespace.
async fn only_event(tenant: &Client, namespace: &str, reason: &str, policy: &str) -> String {
    let all = events(tenant, namespace).await;
    let [event] = &all[..] else { panic!("{:?}", all.iter().map(|event| (&event.reason, &event.message)).collect::<Vec<_>>()) };
    assert_eq!((event.reason.as_deref(), event.involved_object.name.as_deref()), (Some(reason), Some(policy)));
    event.message.clone().unwrap()
}

/// Asserts that there are only these writes: the one that created the policy, the apply that repaired it, and at most one patch for
/// what an apply cannot remove.
fn assert_few_writes(writes: &[AuditEntry], scene: &Scene) {
    let own = policy_writes(writes, &scene.namespace).into_iter().filter(|write| write.name == scene.case.policy);
    let told: Vec<_> = own.map(|write| (write.verb.as_str(), write.code)).collect();
    let few = [("patch", 201), ("patch", 200), ("patch", 200)];
    assert!(told == few || told == few[..2], "{}: {told:?}", scene.case.what);
}

fn case(what: &'static str, policy: &'static str, patch: Value) -> Case {
    Case { what, policy, patch }
}

// Missing.

#[tokio::test]
async fn a_deleted_policy_is_restored_and_everybody_is_told() {
    let world = enforcing(&json!({})).await;
    let (ns, tenant) = protected(&world).await;
    let policies = policies_of(&tenant, &ns);
    let gone = policies.get(DENY_EGRESS).await.unwrap();
    policies.delete(DENY_EGRESS, &DeleteParams::default()).await.unwrap();

    let event = until_event(&world, &tenant, &ns, "DriftRepaired", DENY_EGRESS).await;
    let restored = &until_holds(&world, &ns, &Plan::of(PLATFORM)).await[DENY_EGRESS];
    assert_ne!(restored.uid(), gone.uid());
    let regarding = &event.involved_object;
    assert_eq!((&regarding.uid, regarding.namespace.as_ref()), (&restored.uid(), Some(&ns)));
    assert_eq!(event.type_.as_deref(), Some("Warning"));
    let note = event.message.unwrap();
    assert!(note.contains("Missing") && note.contains("unknown"), "{note}");

    let status = until_status(&world, PLATFORM, "a drift in the namespace", |status| {
        status.recent_drift.iter().any(|drift| drift.namespace == ns)
    })
    .await;
    let [drift] = &status.recent_drift[..] else { panic!("{:?}", status.recent_drift) };
    assert_eq!((drift.policy.as_str(), drift.class.as_str()), (DENY_EGRESS, "Missing"));
    assert_eq!((drift.field_manager.as_str(), drift.action.as_str()), ("unknown", "created again"));
}

#[tokio::test]
async fn policies_that_are_deleted_all_at_once_are_all_restored() {
    let world = enforcing(&json!({})).await;
    let (ns, tenant) = protected(&world).await;
    let before = until_holds(&world, &ns, &Plan::of(PLATFORM)).await;
    policies_of(&tenant, &ns).delete_collection(&DeleteParams::default(), &ListParams::default()).await.unwrap();
    for policy in before.keys() {
        until_event(&world, &tenant, &ns, "DriftRepaired", policy).await;
    }
    let after = until_holds(&world, &ns, &Plan::of(PLATFORM)).await;
    assert!(before.iter().all(|(name, policy)| policy.uid() != after[name].uid()));
}

#[tokio::test]
async fn a_policy_deleted_in_the_foreground_is_restored_once_the_garbage_collector_lets_go() {
    let world = enforcing(&json!({})).await;
    let (ns, tenant) = protected(&world).await;
    let policies = policies_of(&tenant, &ns);
    let gone = policies.get(DENY_INGRESS).await.unwrap();
    policies.delete(DENY_INGRESS, &DeleteParams::foreground()).await.unwrap();
    world
        .eventually("the policy is another one", TIMEOUT, async || {
            policies.get_opt(DENY_INGRESS).await.map(|found| found.is_some_and(|policy| policy.uid() != gone.uid()))
        })
        .await
        .unwrap();
    until_holds(&world, &ns, &Plan::of(PLATFORM)).await;
}

// SpecChanged.

fn spec_cases() -> Vec<Case> {
    let dns_pods = json!([{
        "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": "kube-system" } },
        "podSelector": { "matchLabels": { "k8s-app": "kube-dns" } },
    }]);
    let dns_over_tcp_only = json!([{ "to": dns_pods, "ports": [{ "port": 53, "protocol": "TCP" }] }]);
    let scraped_by_all = json!([{ "from": [{ "namespaceSelector": {} }], "ports": [{ "port": 9090, "protocol": "TCP" }] }]);
    vec![
        case("all may come in", DENY_INGRESS, json!({ "spec": { "ingress": [{}] } })),
        case("an empty from", DENY_INGRESS, json!({ "spec": { "ingress": [{ "from": [] }] } })),
        case(
            "the hole through the other list",
            DENY_INGRESS,
            json!({ "spec": { "egress": [{}], "policyTypes": ["Ingress", "Egress"] } }),
        ),
        case("another direction", DENY_INGRESS, json!({ "spec": { "policyTypes": ["Egress"] } })),
        case("a narrowed selector", DENY_INGRESS, json!({ "spec": { "podSelector": { "matchLabels": { "no": "pod" } } } })),
        case("no DNS", DENY_EGRESS, json!({ "spec": { "egress": null } })),
        case("all may go out", DENY_EGRESS, json!({ "spec": { "egress": [{}] } })),
        case("DNS over TCP only", DENY_EGRESS, json!({ "spec": { "egress": dns_over_tcp_only } })),
        case("other ports and sources", CARVEOUT, json!({ "spec": { "ingress": scraped_by_all } })),
        case("every pod is scraped", CARVEOUT, json!({ "spec": { "podSelector": { "matchLabels": null } } })),
    ]
}

#[tokio::test]
async fn i3_a_changed_spec_is_put_right_in_place_by_one_write() {
    if skipped_without_audit_log() {
        return;
    }
    let world = enforcing(&json!({})).await;
    let mark = world.audit().unwrap().mark();
    let (scenes, tenant) = tampered(&world, spec_cases(), "kubectl-edit").await;
    fence(&world, &Plan::of(PLATFORM), &[]).await;

    let writes = writes_since(&world, mark);
    for scene in &scenes {
        let (what, policy) = (scene.case.what, scene.case.policy);
        let after = until_holds(&world, &scene.namespace, &Plan::of(PLATFORM)).await;
        assert_eq!(after[policy].uid(), scene.uid_before(), "{what}");
        let others = after.iter().filter(|(name, _)| *name != policy);
        for (name, other) in others {
            assert_eq!(version(other), version(&scene.before[name]), "{what}: {name} was written without need");
        }
        // The write that created it, and the write that repaired it.
        let writes: Vec<_> = policy_writes(&writes, &scene.namespace).into_iter().filter(|write| write.name == policy).collect();
        let told: Vec<_> = writes.iter().map(|write| (write.verb.as_str(), write.code)).collect();
        assert_eq!(told, [("patch", 201), ("patch", 200)], "{what}");
        // A removed field leaves no trace of who removed it.
        let who = if what == "no DNS" { "unknown" } else { "kubectl-edit" };
        let note = only_event(&tenant, &scene.namespace, "DriftRepaired", policy).await;
        assert!(note.contains("SpecChanged") && note.contains(who), "{what}: {note}");
    }

    // The fence's own deletion is the newest, and the status shows ten.
    let last = &scenes.last().unwrap().namespace;
    let status = until_status(&world, PLATFORM, "ten drifts", |status| status.recent_drift.len() == 10).await;
    let drift = status.recent_drift.iter().find(|drift| &drift.namespace == last).unwrap();
    assert_eq!(
        (drift.class.as_str(), drift.field_manager.as_str(), drift.action.as_str()),
        ("SpecChanged", "kubectl-edit", "restored")
    );
}

#[tokio::test]
async fn i13_a_tenant_who_borrows_our_field_manager_is_repaired_all_the_same() {
    let world = enforcing(&json!({})).await;
    let (scenes, tenant) = tampered(&world, spec_cases(), "policy-baseline").await;
    for scene in &scenes {
        let after = until_holds(&world, &scene.namespace, &Plan::of(PLATFORM)).await;
        assert_eq!(after[scene.case.policy].uid(), scene.uid_before(), "{}", scene.case.what);
    }

    // An apply under our field manager also removes the fields that it does not contain: our labels.
    let ns = &scenes[0].namespace;
    let policies = policies_of(&tenant, ns);
    let open = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": { "name": DENY_INGRESS },
        "spec": { "podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{}] },
    });
    let stored =
        policies.patch(DENY_INGRESS, &PatchParams::apply("policy-baseline").force(), &Patch::Apply(&open)).await.unwrap();
    assert!(stored.labels().is_empty(), "{:?}", stored.labels());
    until_event(&world, &tenant, ns, "PolicyAdopted", DENY_INGRESS).await;
    let after = until_holds(&world, ns, &Plan::of(PLATFORM)).await;
    assert_eq!(after[DENY_INGRESS].uid(), scenes[0].uid_before());
}

#[tokio::test]
async fn wiped_managed_fields_do_not_keep_a_changed_spec_alive() {
    let world = enforcing(&json!({})).await;
    let (ns, tenant) = protected(&world).await;
    let policies = policies_of(&tenant, &ns);
    let before = policies.get(DENY_INGRESS).await.unwrap();
    let wiped = merge(&policies, DENY_INGRESS, "tenant", &json!({ "metadata": { "managedFields": [{}] } })).await;
    assert!(wiped.metadata.managed_fields.is_none(), "{:?}", wiped.metadata.managed_fields);
    let hole = json!({ "spec": { "ingress": [{}], "egress": [{}], "policyTypes": ["Ingress", "Egress"] } });
    merge(&policies, DENY_INGRESS, "tenant", &hole).await;
    let after = until_holds(&world, &ns, &Plan::of(PLATFORM)).await;
    assert_eq!(after[DENY_INGRESS].uid(), before.uid());
}

// MetadataChanged.

#[tokio::test]
async fn our_own_keys_are_put_right_and_those_of_others_stay() {
    if skipped_without_audit_log() {
        return;
    }
    let world = enforcing(&json!({})).await;
    let labels = |labels: Value| json!({ "metadata": { "labels": labels, "annotations": { "team.example/note": "ours" } } });
    let annotations = |annotations: Value| json!({ "metadata": { "labels": { "team": "a" }, "annotations": annotations } });
    let cases = vec![
        case("another role", DENY_EGRESS, labels(json!({ "policybaseline.io/role": "x", "team": "a" }))),
        case("another baseline", DENY_EGRESS, labels(json!({ "policybaseline.io/baseline": "nobody", "team": "a" }))),
        case("one label of ours too many", DENY_EGRESS, labels(json!({ "policybaseline.io/x": "y", "team": "a" }))),
        case(
            "nothing for people",
            CARVEOUT,
            annotations(json!({ "policybaseline.io/about": null, "team.example/note": "ours" })),
        ),
        case("no plan", CARVEOUT, annotations(json!({ "policybaseline.io/plan": null, "team.example/note": "ours" }))),
        case("another plan", CARVEOUT, annotations(json!({ "policybaseline.io/plan": "0", "team.example/note": "ours" }))),
        case(
            "one annotation of ours too many",
            CARVEOUT,
            annotations(json!({ "policybaseline.io/x": "y", "team.example/note": "ours" })),
        ),
        case("a list of keys", CARVEOUT, annotations(json!({ "policybaseline.io/keys": "l:x", "team.example/note": "ours" }))),
    ];
    let mark = world.audit().unwrap().mark();
    let (scenes, tenant) = tampered(&world, cases, "tenant").await;
    fence(&world, &Plan::of(PLATFORM), &[]).await;
    let writes = writes_since(&world, mark);
    for scene in &scenes {
        let (what, policy) = (scene.case.what, scene.case.policy);
        let note = only_event(&tenant, &scene.namespace, "DriftRepaired", policy).await;
        assert!(note.contains("MetadataChanged"), "{what}: {note}");
        assert_few_writes(&writes, scene);
        let after = &until_holds(&world, &scene.namespace, &Plan::of(PLATFORM)).await[policy];
        assert_eq!(after.uid(), scene.uid_before(), "{what}");
        assert_eq!(after.labels().get("team").map(String::as_str), Some("a"), "{what}");
        assert_eq!(after.annotations().get("team.example/note").map(String::as_str), Some("ours"), "{what}");
    }
}

#[tokio::test]
async fn a_forged_list_of_keys_makes_no_repair_fail() {
    let world = enforcing(&json!({})).await;
    let forged = |keys: &str| json!({ "metadata": { "annotations": { "policybaseline.io/keys": keys } } });
    let cases = vec![
        case("our id", DENY_INGRESS, forged("l:policybaseline.io/id")),
        case("who manages it", DENY_INGRESS, forged("l:app.kubernetes.io/managed-by")),
        case("our plan", DENY_INGRESS, forged("a:policybaseline.io/plan")),
        case("no key at all", DENY_INGRESS, forged(",l:,a:,:,l:~1,x")),
    ];
    let (scenes, tenant) = tampered(&world, cases, "tenant").await;
    fence(&world, &Plan::of(PLATFORM), &[]).await;
    for Scene { case, namespace, .. } in &scenes {
        until_holds(&world, namespace, &Plan::of(PLATFORM)).await;
        let told: Vec<_> = events(&tenant, namespace).await.into_iter().map(|event| event.reason).collect();
        assert_eq!(told, [Some("DriftRepaired".to_owned())], "{}", case.what);
    }
}

#[tokio::test]
async fn a_label_that_only_a_tenant_cares_for_is_no_drift() {
    if skipped_without_audit_log() {
        return;
    }
    let world = enforcing(&json!({})).await;
    let (ns, tenant) = protected(&world).await;
    let mark = world.audit().unwrap().mark();
    let policies = policies_of(&tenant, &ns);
    let own = json!({ "metadata": { "labels": { "app.kubernetes.io/name": "shop" }, "annotations": { "a": "b" } } });
    let stored = merge(&policies, DENY_INGRESS, "tenant", &own).await;
    fence(&world, &Plan::of(PLATFORM), &[]).await;
    assert_eq!(version(&policies.get(DENY_INGRESS).await.unwrap()), version(&stored));
    assert!(policy_writes(&writes_since(&world, mark), &ns).is_empty());
}

#[tokio::test]
async fn a_label_that_the_baseline_drops_goes_also_where_managed_fields_were_wiped() {
    let world = enforcing(&json!({ "metadata": { "labels": { "owner": "security", "tier": "base" } } })).await;
    let both = Plan::of(PLATFORM).label("owner", "security").label("tier", "base");
    let ns = world.namespace("team", &[]).await.unwrap();
    let tenant = tenant(&world, &[&ns]).await;
    let before = until_holds(&world, &ns, &both).await;
    let policies = policies_of(&tenant, &ns);
    for name in [DENY_INGRESS, CARVEOUT] {
        let wiped = merge(&policies, name, "tenant", &json!({ "metadata": { "managedFields": [{}] } })).await;
        assert!(wiped.metadata.managed_fields.is_none());
    }
    fence(&world, &both, &[]).await;

    apply_baseline(&world, PLATFORM, &json!({ "metadata": { "labels": { "tier": "base" } } })).await;
    let one = Plan::of(PLATFORM).label("tier", "base");
    world
        .eventually("the label is gone", TIMEOUT, async || {
            let found = policies.list(&ListParams::default()).await?;
            Ok::<_, kube::Error>(found.iter().all(|policy| !policy.labels().contains_key("owner")))
        })
        .await
        .unwrap();
    let after = until_holds(&world, &ns, &one).await;
    assert!(before.iter().all(|(name, policy)| policy.uid() == after[name].uid()));

    // A change of the plan is not drift, so these namespaces have no events.
    fence(&world, &one, &[]).await;
    assert!(events(&tenant, &ns).await.is_empty(), "{:?}", events(&tenant, &ns).await);
}

#[tokio::test]
async fn a_baseline_that_is_edited_again_and_again_is_nobodys_drift() {
    let world = enforcing(&json!({})).await;
    let namespaces = join_all((0..20).map(|_| world.namespace("team", &[]))).await;
    let namespaces: Vec<String> = namespaces.into_iter().map(Result::unwrap).collect();
    for ns in &namespaces {
        until_holds(&world, ns, &Plan::of(PLATFORM)).await;
    }
    for port in 5300..5320 {
        apply_baseline(&world, PLATFORM, &json!({ "dns": { "ports": [port] } })).await;
    }
    let last = Plan::of(PLATFORM).dns_port(5319);
    for ns in &namespaces {
        until_holds(&world, ns, &last).await;
    }
    fence(&world, &last, &[]).await;
    for ns in &namespaces {
        let told = events(&world.admin(), ns).await;
        assert!(told.is_empty(), "{:?}: {:?}", told[0].reason, told[0].message);
    }
    let status = until_status(&world, PLATFORM, "the fence's drift", |status| !status.recent_drift.is_empty()).await;
    assert_eq!(status.recent_drift.len(), 1, "{:?}", status.recent_drift);
}

// Unmanaged.

#[tokio::test]
async fn a_planned_name_that_is_taken_is_adopted_in_place() {
    let mut world = World::new().await.unwrap();
    apply_baseline(&world, PLATFORM, &json!({})).await;
    // So that the namespace is newer.
    crate::support::a_second_later(&world).await;
    let ns = world.namespace("team", &[]).await.unwrap();
    let tenant = tenant(&world, &[&ns]).await;
    let policies = policies_of(&tenant, &ns);
    let foreign: NetworkPolicy = serde_json::from_value(json!({
        "metadata": { "name": DENY_INGRESS, "labels": { "team": "a" } },
        "spec": { "podSelector": { "matchLabels": { "app": "web" } }, "ingress": [{}], "egress": [{}], "policyTypes": ["Ingress", "Egress"] },
    }))
    .unwrap();
    let params = PostParams { field_manager: Some("helm".to_owned()), ..PostParams::default() };
    let foreign = policies.create(&params, &foreign).await.unwrap();
    world.start_operator().await.unwrap();

    let event = until_event(&world, &tenant, &ns, "PolicyAdopted", DENY_INGRESS).await;
    assert_eq!(event.involved_object.uid, foreign.uid());
    // The former spec is kept in the event.
    let note = event.message.unwrap();
    let (_, before) = note.split_once("before: ").unwrap();
    let before: Value = serde_json::from_str(before).unwrap();
    assert_eq!(before["spec"], serde_json::to_value(&foreign.spec).unwrap(), "{note}");
    assert_eq!(before["labels"], json!({ "team": "a" }), "{note}");
    let adopted = &until_holds(&world, &ns, &Plan::of(PLATFORM)).await[DENY_INGRESS];
    assert_eq!(adopted.uid(), foreign.uid());
    assert_eq!(adopted.labels().get("team").map(String::as_str), Some("a"));
    let status = until_status(&world, PLATFORM, "a drift", |status| !status.recent_drift.is_empty()).await;
    let [drift] = &status.recent_drift[..] else { panic!("{:?}", status.recent_drift) };
    assert_eq!((drift.class.as_str(), drift.field_manager.as_str(), drift.action.as_str()), ("Unmanaged", "helm", "adopted"));
}

#[tokio::test]
async fn policies_that_lost_their_labels_are_adopted_again() {
    let world = enforcing(&json!({})).await;
    let (ns, tenant) = protected(&world).await;
    let before = until_holds(&world, &ns, &Plan::of(PLATFORM)).await;
    let policies = policies_of(&tenant, &ns);
    merge(&policies, DENY_INGRESS, "tenant", &json!({ "metadata": { "labels": null } })).await;
    merge(&policies, DENY_EGRESS, "tenant", &json!({ "metadata": { "labels": null, "annotations": null } })).await;
    merge(&policies, CARVEOUT, "tenant", &json!({ "metadata": { "labels": { "policybaseline.io/id": "x" } } })).await;
    for (name, policy) in &before {
        until_event(&world, &tenant, &ns, "PolicyAdopted", name).await;
        let after = until_holds(&world, &ns, &Plan::of(PLATFORM)).await;
        assert_eq!(after[name].uid(), policy.uid());
    }
}

// Pinned.

#[tokio::test]
async fn what_could_make_another_tool_delete_a_policy_is_taken_off() {
    if skipped_without_audit_log() {
        return;
    }
    let world = enforcing(&json!({})).await;
    let labels = |key: &str| json!({ "metadata": { "labels": { key: "shop", "team": "a" } } });
    let annotations = |key: &str| json!({ "metadata": { "annotations": { key: "shop" }, "labels": { "team": "a" } } });
    let cases = vec![
        case("the label of Helm and Argo CD", DENY_EGRESS, labels("app.kubernetes.io/instance")),
        case("the label of Flux", DENY_EGRESS, labels("kustomize.toolkit.fluxcd.io/name")),
        case("the label of an ApplySet", DENY_EGRESS, labels("applyset.kubernetes.io/part-of")),
        case("the annotation of Argo CD", CARVEOUT, annotations("argocd.argoproj.io/tracking-id")),
        case("the annotation of Helm", CARVEOUT, annotations("meta.helm.sh/release-name")),
        case("the annotation of kpt", CARVEOUT, annotations("config.k8s.io/owning-inventory")),
        case("the label of HNC", DENY_INGRESS, labels("hnc.x-k8s.io/inherited-from")),
        case("the label of Capsule", DENY_INGRESS, labels("capsule.clastix.io/network-policy")),
        case("the label of Sveltos", DENY_INGRESS, labels("projectsveltos.io/reference-name")),
        case("the time of Kyverno", DENY_INGRESS, labels("cleanup.kyverno.io/ttl")),
        case("the time of kube-janitor", CARVEOUT, annotations("janitor/ttl")),
        case("the time of k8s-ttl-controller", CARVEOUT, annotations("k8s-ttl-controller.twin.sh/ttl")),
    ];
    let mark = world.audit().unwrap().mark();
    let (scenes, tenant) = tampered(&world, cases, "tenant").await;
    fence(&world, &Plan::of(PLATFORM), &[]).await;
    let writes = writes_since(&world, mark);
    for scene in &scenes {
        let (what, policy) = (scene.case.what, scene.case.policy);
        let note = only_event(&tenant, &scene.namespace, "DriftRepaired", policy).await;
        assert!(note.contains("Pinned"), "{what}: {note}");
        assert_few_writes(&writes, scene);
        let after = &until_holds(&world, &scene.namespace, &Plan::of(PLATFORM)).await[policy];
        assert_eq!(after.uid(), scene.uid_before(), "{what}");
        let foreign: Vec<_> = after.labels().keys().filter(|key| !key.starts_with("policybaseline.io/")).collect();
        assert_eq!(foreign, ["app.kubernetes.io/managed-by", "team"], "{what}");
        let keys: Vec<_> = after.annotations().keys().collect();
        assert_eq!(keys, ["policybaseline.io/about", "policybaseline.io/plan"], "{what}");
    }
}

#[tokio::test]
async fn a_flag_names_further_tools_whose_keys_are_taken_off() {
    let mut world = World::new().await.unwrap();
    apply_baseline(&world, PLATFORM, &json!({})).await;
    world.start_operator_with(&["--tracking-domains=gitops.example.com, other.example.com"]).await.unwrap();
    let (ns, tenant) = protected(&world).await;
    let pinned = json!({ "metadata": {
        "labels": { "gitops.example.com/owner": "shop", "team": "a" },
        "annotations": { "v2.other.example.com/owner": "shop" },
    } });
    merge(&policies_of(&tenant, &ns), DENY_INGRESS, "tenant", &pinned).await;
    let unpinned = async || {
        let after = policies_of(&world.admin(), &ns).get(DENY_INGRESS).await.unwrap();
        after.labels().contains_key("team")
            && !after.labels().contains_key("gitops.example.com/owner")
            && !after.annotations().contains_key("v2.other.example.com/owner")
    };
    world.eventually("the keys are taken off", TIMEOUT, unpinned).await.unwrap();

    // A baseline with such a key would be repaired for ever.
    apply_baseline(&world, PLATFORM, &json!({ "metadata": { "labels": { "gitops.example.com/owner": "platform" } } })).await;
    until_status(&world, PLATFORM, "the key is refused", |status| {
        let stalled = condition(status, "Stalled");
        stalled.reason == "InvalidMetadata" && stalled.message.contains("gitops.example.com/owner")
    })
    .await;
}

#[tokio::test]
async fn i2_finalizers_of_others_stay_and_nothing_comes_of_them_but_a_notice() {
    if skipped_without_audit_log() {
        return;
    }
    let world = enforcing(&json!({})).await;
    let (ns, tenant) = protected(&world).await;
    let policies = policies_of(&tenant, &ns);
    // Of a network plugin that needs it, of a controller that puts one on every policy, and of nobody.
    let finalizers = ["networking.k8s.aws/resources", "policies.networking.k8s.io/finalizer", "tenant.example/keep"];
    fence(&world, &Plan::of(PLATFORM), &[]).await;
    let mark = world.audit().unwrap().mark();
    for _ in 0..10 {
        for policy in [DENY_INGRESS, DENY_EGRESS, CARVEOUT] {
            for all in [json!(finalizers), json!([])] {
                merge(&policies, policy, "tenant", &json!({ "metadata": { "finalizers": all } })).await;
            }
        }
    }
    for policy in [DENY_INGRESS, DENY_EGRESS, CARVEOUT] {
        merge(&policies, policy, "tenant", &json!({ "metadata": { "finalizers": finalizers } })).await;
    }
    let of_it = |status: &PolicyBaselineStatus| status.notices.iter().find(|n| n.namespace == ns && n.policy.is_none()).cloned();
    let status = until_status(&world, PLATFORM, "a notice", |status| of_it(status).is_some()).await;
    let notice = of_it(&status).unwrap();
    assert_eq!(notice.reason.into_str(), "ForeignFinalizer");
    assert!(finalizers.iter().all(|name| notice.message.contains(name)), "{}", notice.message);
    // The fence made a drift of its own.
    assert!(status.recent_drift.iter().all(|drift| drift.namespace != ns), "{:?}", status.recent_drift);
    assert!(status.violations.is_empty(), "{:?}", status.violations);
    assert_eq!(condition(&status, "Ready").status, "True");
    assert!(policy_writes(&writes_since(&world, mark), &ns).is_empty());
    assert!(events(&tenant, &ns).await.is_empty());

    // A repair of the rules takes no finalizer away.
    let before = merge(&policies, DENY_INGRESS, "tenant", &json!({ "spec": { "ingress": [{}] } })).await;
    until_event(&world, &tenant, &ns, "DriftRepaired", DENY_INGRESS).await;
    let after = policies.get(DENY_INGRESS).await.unwrap();
    assert_eq!((after.uid(), after.finalizers()), (before.uid(), finalizers.map(str::to_owned).as_slice()));
    assert!(after.spec.unwrap_or_default().ingress.is_none());
    for policy in [DENY_INGRESS, DENY_EGRESS, CARVEOUT] {
        merge(&policies, policy, "tenant", &json!({ "metadata": { "finalizers": null } })).await;
    }
    until_status(&world, PLATFORM, "no notice", |status| status.notices.iter().all(|notice| notice.namespace != ns)).await;
    until_holds(&world, &ns, &Plan::of(PLATFORM)).await;
}

#[tokio::test]
async fn a_tenant_who_never_stops_writing_makes_no_repair_fail() {
    let world = enforcing(&json!({})).await;
    let (ns, tenant) = protected(&world).await;
    let policies = policies_of(&tenant, &ns);
    let before = policies.get(DENY_INGRESS).await.unwrap();
    for i in 0..200 {
        let pin = json!({ "metadata": {
            "labels": { "app.kubernetes.io/instance": "shop" }, "annotations": { "count": i.to_string() },
        } });
        merge(&policies, DENY_INGRESS, "tenant", &pin).await;
    }
    let after = until_holds(&world, &ns, &Plan::of(PLATFORM)).await;
    assert_eq!(after[DENY_INGRESS].uid(), before.uid());
    fence(&world, &Plan::of(PLATFORM), &[]).await;
    let failed: Vec<_> =
        events(&tenant, &ns).await.into_iter().filter(|event| event.reason.as_deref() == Some("RepairFailed")).collect();
    assert!(failed.is_empty(), "{:?}", failed[0].message);
}

#[tokio::test]
async fn a_mountain_of_annotations_keeps_no_hole_open() {
    // The largest size of all annotations that the API server accepts, keys and values together.
    const MOST: usize = 256 * 1024;
    let world = enforcing(&json!({})).await;
    let (ns, tenant) = protected(&world).await;
    let policies = policies_of(&tenant, &ns);
    let before = policies.get(DENY_INGRESS).await.unwrap();
    let annotations = json!({ "policybaseline.io/plan": null, "policybaseline.io/about": null, "a": "x".repeat(MOST - 1) });
    let mountain = json!({ "metadata": { "annotations": annotations }, "spec": { "ingress": [{}] } });
    merge(&policies, DENY_INGRESS, "tenant", &mountain).await;
    let after = until_holds(&world, &ns, &Plan::of(PLATFORM)).await;
    assert_eq!(after[DENY_INGRESS].uid(), before.uid());
}

#[tokio::test]
async fn an_owner_that_does_not_exist_takes_no_policy_with_it() {
    let world = enforcing(&json!({})).await;
    let (ns, tenant) = protected(&world).await;
    let owners = json!([{
        "apiVersion": "v1", "kind": "ConfigMap", "name": "none", "uid": "00000000-0000-0000-0000-000000000001",
    }]);
    for policy in [DENY_INGRESS, DENY_EGRESS, CARVEOUT] {
        let orphaned = json!({ "metadata": { "ownerReferences": owners } });
        let patch = PatchParams { field_manager: Some("tenant".to_owned()), ..PatchParams::default() };
        policies_of(&tenant, &ns).patch(policy, &patch, &Patch::Merge(&orphaned)).await.unwrap();
    }
    // When the garbage collector has collected this later object, it has also handled the earlier ones.
    let maps: Api<ConfigMap> = Api::namespaced(tenant.clone(), &ns);
    let later = json!({ "metadata": { "name": "later", "ownerReferences": owners } });
    maps.create(&PostParams::default(), &serde_json::from_value(later).unwrap()).await.unwrap();
    world
        .eventually("the later one is collected", TIMEOUT, async || maps.get_opt("later").await.map(|map| map.is_none()))
        .await
        .unwrap();
    for policy in [DENY_INGRESS, DENY_EGRESS, CARVEOUT] {
        until_event(&world, &tenant, &ns, "DriftRepaired", policy).await;
    }
    until_holds(&world, &ns, &Plan::of(PLATFORM)).await;
    fence(&world, &Plan::of(PLATFORM), &[]).await;
    until_holds(&world, &ns, &Plan::of(PLATFORM)).await;
}

// Terminating.

#[tokio::test]
async fn a_policy_that_a_finalizer_holds_keeps_its_rules_and_is_created_anew_when_it_is_gone() {
    if skipped_without_audit_log() {
        return;
    }
    let mut world = enforcing(&json!({})).await;
    let (ns, tenant) = protected(&world).await;
    let policies = policies_of(&tenant, &ns);
    world.stop_operator().unwrap();
    let pinned =
        merge(&policies, DENY_INGRESS, "tenant", &json!({ "metadata": { "finalizers": ["tenant.example/keep"] } })).await;
    policies.delete(DENY_INGRESS, &DeleteParams::default()).await.unwrap();
    let mark = world.audit().unwrap().mark();
    world.restart_operator().await.unwrap();

    let open = json!({ "spec": { "ingress": [{}], "egress": [{}], "policyTypes": ["Ingress", "Egress"] } });
    merge(&policies, DENY_INGRESS, "tenant", &open).await;
    world
        .eventually("the rules are put right", TIMEOUT, async || {
            let spec = policies.get(DENY_INGRESS).await?.spec.unwrap_or_default();
            Ok::<_, kube::Error>(
                spec.ingress.is_none() && spec.egress.is_none() && spec.policy_types == Some(vec!["Ingress".to_owned()]),
            )
        })
        .await
        .unwrap();
    fence(&world, &Plan::of(PLATFORM), &[]).await;
    let going = policies.get(DENY_INGRESS).await.unwrap();
    assert_eq!((going.uid(), going.finalizers()), (pinned.uid(), ["tenant.example/keep".to_owned()].as_slice()));
    assert!(going.metadata.deletion_timestamp.is_some());
    // One write corrected the rules. The operator did not delete anything again.
    let writes = writes_since(&world, mark);
    let told: Vec<_> = policy_writes(&writes, &ns).iter().map(|write| (write.verb.as_str(), write.code)).collect();
    assert_eq!(told, [("patch", 200)]);

    // After a minute the operator names the finalizer. The rules are as planned, so the baseline is ready.
    let of_it = |status: &PolicyBaselineStatus| status.violations.iter().find(|violation| violation.namespace == ns).cloned();
    let names_it = |status: &PolicyBaselineStatus| of_it(status).is_some();
    let status = until_status_within(&world, PLATFORM, "a violation in the namespace", TIMEOUT * 4, names_it).await;
    let violation = of_it(&status).unwrap();
    assert_eq!((violation.reason.into_str(), violation.policy.as_deref()), ("Terminating", Some(DENY_INGRESS)));
    assert!(violation.message.contains("tenant.example/keep"), "{}", violation.message);
    assert_eq!((status.namespaces.pending, &*condition(&status, "Ready").status), (0, "True"));

    merge(&policies, DENY_INGRESS, "tenant", &json!({ "metadata": { "finalizers": null } })).await;
    let after = until_holds(&world, &ns, &Plan::of(PLATFORM)).await;
    assert_ne!(after[DENY_INGRESS].uid(), pinned.uid());
    until_status(&world, PLATFORM, "nothing pending", |status| {
        status.namespaces.pending == 0 && status.violations.iter().all(|violation| violation.namespace != ns)
    })
    .await;
}
