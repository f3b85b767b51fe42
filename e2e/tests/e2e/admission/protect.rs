//! protect: only the operator and the break-glass group may change the operator's objects. The deletion of namespaces still works.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt};
use policy_baseline_e2e::{Options, TIMEOUT, World};
use serde_json::{Value, json};

use super::{DECIDED, break_glass, choose, create_fifty_of_ours, denied, owned_by_nothing};
use crate::opt_outs;
use crate::repair::PLATFORM;
use crate::scene::{DENY_INGRESS, Plan, apply_baseline, baseline, can_i, policies_of, tenant, until_holds};
use crate::support::{namespaces, remove_baseline, until_gone, versions};

const BASELINES_CRD: &str = "policybaselines.policybaseline.io";

pub async fn protect(world: &World) {
    choose(world, "protect", async || is_in_force(world).await).await;
}

pub async fn is_in_force(world: &World) -> bool {
    let policy = json!({ "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "spec": { "podSelector": {} },
        "metadata": { "name": "probe", "labels": { "policybaseline.io/probe": "1" } } });
    let policy: NetworkPolicy = serde_json::from_value(policy).unwrap();
    let marked = Patch::Merge(json!({ "metadata": { "labels": { DECIDED: World::unique("probe") } } }));
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    let policy = policies_of(&world.admin(), "default").create(&dry, &policy).await;
    let dry = PatchParams { dry_run: true, ..PatchParams::default() };
    let namespace = namespaces(world).patch("default", &dry, &marked).await;
    policy.is_err() && namespace.is_err()
}

/// A namespace with its policies, under the component, while the operator runs.
async fn protected() -> (World, String, BTreeMap<String, NetworkPolicy>) {
    let mut world = World::new().await.unwrap();
    protect(&world).await;
    apply_baseline(&world, PLATFORM, &json!({})).await;
    world.start_operator().await.unwrap();
    let ns = world.namespace("team", &[]).await.unwrap();
    let held = until_holds(&world, &ns, &Plan::of(PLATFORM)).await;
    (world, ns, held)
}

/// Waits until a policy was created again.
async fn until_there_again(world: &World, policies: &Api<NetworkPolicy>, before: &NetworkPolicy) {
    let is_there = async || {
        let policy = policies.get_opt(&before.name_any()).await?;
        Ok::<_, kube::Error>(policy.is_some_and(|policy| policy.uid() != before.uid()))
    };
    world.eventually("it is there again", TIMEOUT, is_there).await.unwrap();
}

#[tokio::test]
async fn protect_denies_every_way_to_touch_what_is_ours_to_tenants_and_to_cluster_admins() {
    let (world, ns, held) = protected().await;
    let before = versions(&held).into_iter().map(|(name, of)| (name.to_owned(), of)).collect::<BTreeMap<_, _>>();
    let tenant = tenant(&world, &[&ns]).await;
    let belongs = format!(
        "NetworkPolicy {DENY_INGRESS} belongs to baseline {PLATFORM}: to allow more, add a NetworkPolicy of your own beside it"
    );
    for who in [tenant, world.admin()] {
        let policies = policies_of(&who, &ns);
        let patch = async |what: Value| policies.patch(DENY_INGRESS, &PatchParams::default(), &Patch::Merge(what)).await;
        for (what, result) in [
            ("spec", patch(json!({ "spec": { "ingress": [{}] } })).await),
            ("finalizer", patch(json!({ "metadata": { "finalizers": ["example.com/held"] } })).await),
            ("owner", patch(owned_by_nothing()).await),
            ("labels", patch(json!({ "metadata": { "labels": null } })).await),
            ("one label", patch(json!({ "metadata": { "labels": { "policybaseline.io/role": null } } })).await),
            ("annotation", patch(json!({ "metadata": { "annotations": { "policybaseline.io/plan": null } } })).await),
        ] {
            assert!(denied(what, result).starts_with(&belongs), "{what}");
        }
        assert!(denied("delete", policies.delete(DENY_INGRESS, &DeleteParams::default()).await).starts_with(&belongs));
        let all = policies.delete_collection(&DeleteParams::default(), &ListParams::default()).await;
        assert!(denied("deletecollection", all).contains(" belongs to baseline "));
        // A tenant may write policies, as long as they do not have our labels.
        let own = json!({ "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
            "metadata": { "name": "own" }, "spec": { "podSelector": {} } });
        policies.create(&PostParams::default(), &serde_json::from_value(own.clone()).unwrap()).await.unwrap();
        for labels in
            [json!({ "policybaseline.io/baseline": PLATFORM }), json!({ "app.kubernetes.io/managed-by": "policy-baseline" })]
        {
            let patch = Patch::Merge(json!({ "metadata": { "labels": labels } }));
            let said = denied("own", policies.patch("own", &PatchParams::default(), &patch).await);
            assert!(said.starts_with("NetworkPolicy own: the operator of policy-baseline alone sets labels"), "{said}");
            let mut disguised = own.clone();
            disguised["metadata"] = json!({ "name": "disguised", "labels": labels });
            let created = policies.create(&PostParams::default(), &serde_json::from_value(disguised).unwrap()).await;
            assert!(denied("disguised", created).starts_with("NetworkPolicy disguised: "));
        }
        policies.delete("own", &DeleteParams::default()).await.unwrap();
    }
    let after = until_holds(&world, &ns, &Plan::of(PLATFORM)).await;
    let after = versions(&after).into_iter().map(|(name, of)| (name.to_owned(), of)).collect::<BTreeMap<_, _>>();
    assert_eq!(after, before, "nothing was written");
}

#[tokio::test]
async fn protect_lets_break_glass_in_and_the_operator_repairs_what_it_did() {
    let (world, ns, held) = protected().await;
    let policies = policies_of(&break_glass(&world).await, &ns);
    policies.delete(DENY_INGRESS, &DeleteParams::default()).await.unwrap();
    until_there_again(&world, &policies, &held[DENY_INGRESS]).await;
    until_holds(&world, &ns, &Plan::of(PLATFORM)).await;
}

#[tokio::test]
async fn protect_lets_go_what_is_going_and_lets_the_plugin_of_eks_hold_what_it_enforces() {
    const EKS: &str = "networking.k8s.aws/resources";
    let (world, ns, held) = protected().await;
    let tenant = policies_of(&tenant(&world, &[&ns]).await, &ns);
    let patch = async |what: Value| tenant.patch(DENY_INGRESS, &PatchParams::default(), &Patch::Merge(what)).await;
    let finalizers = |all: Value| json!({ "metadata": { "finalizers": all } });
    for known in ["crd.projectcalico.org/held", "cilium.io/held", "policies.networking.k8s.io/finalizer", EKS] {
        patch(finalizers(json!([known]))).await.unwrap();
    }
    denied("not of a known controller", patch(finalizers(json!([EKS, "notcilium.io/held"]))).await);
    denied("another", patch(finalizers(json!([EKS, "example.com/held"]))).await);
    let mut more = finalizers(json!([]));
    more["spec"] = json!({ "ingress": [{}] });
    denied("and the rules", patch(more).await);
    patch(finalizers(json!([]))).await.unwrap();
    // The break-glass group deletes a policy that a finalizer holds. Its holder can remove the finalizer: first the garbage collector,
    // after a foreground deletion; then the plugin of EKS.
    let rescue = policies_of(&break_glass(&world).await, &ns);
    rescue.delete(DENY_INGRESS, &DeleteParams::foreground()).await.unwrap();
    until_there_again(&world, &rescue, &held[DENY_INGRESS]).await;
    let anew = until_holds(&world, &ns, &Plan::of(PLATFORM)).await;
    patch(finalizers(json!([EKS]))).await.unwrap();
    rescue.delete(DENY_INGRESS, &DeleteParams::default()).await.unwrap();
    let gone = patch(finalizers(json!([]))).await.unwrap();
    assert_eq!(gone.uid(), anew[DENY_INGRESS].uid());
    until_holds(&world, &ns, &Plan::of(PLATFORM)).await;
}

#[tokio::test]
async fn protect_keeps_the_label_of_namespaces_by_each_of_the_three_ways() {
    let world = World::new().await.unwrap();
    protect(&world).await;
    let name = world.namespace("team", &[]).await.unwrap();
    let api = namespaces(&world);
    let label = |value: Value| Patch::Merge(json!({ "metadata": { "labels": { DECIDED: value } } }));
    let params = PatchParams::default();
    let alone = "the operator of policy-baseline alone sets the label policybaseline.io/decided: leave it as it is";
    let finalize = async |value: Option<&str>| {
        let mut namespace = api.get(&name).await.unwrap();
        let labels = namespace.metadata.labels.get_or_insert_default();
        match value {
            Some(value) => labels.insert(DECIDED.into(), value.into()),
            None => labels.remove(DECIDED),
        };
        api.replace_subresource("finalize", &name, &PostParams::default(), &namespace).await
    };
    assert_eq!(denied("namespaces", api.patch(&name, &params, &label(json!("exempt"))).await), alone);
    assert_eq!(denied("namespaces/status", api.patch_status(&name, &params, &label(json!("exempt"))).await), alone);
    assert_eq!(denied("namespaces/finalize", finalize(Some("exempt")).await), alone);
    let rescue: Api<Namespace> = Api::all(break_glass(&world).await);
    rescue.patch(&name, &params, &label(json!("exempt"))).await.unwrap();
    // A new namespace may have one, because it names no uid that is its own.
    let copied = world.namespace("copied", &[(DECIDED, "exempt")]).await.unwrap();
    assert_eq!(denied("taken off a copy", api.patch(&copied, &params, &label(Value::Null)).await), alone);
    // A label that is set cannot be changed or removed.
    assert_eq!(denied("another", api.patch(&name, &params, &label(json!("protected"))).await), alone);
    assert_eq!(denied("taken off", api.patch(&name, &params, &label(Value::Null)).await), alone);
    assert_eq!(denied("taken off by status", api.patch_status(&name, &params, &label(Value::Null)).await), alone);
    assert_eq!(denied("taken off by finalize", finalize(None).await), alone);
    // The owner may change every other label.
    let other = Patch::Merge(json!({ "metadata": { "labels": { "team": "sre" } } }));
    api.patch(&name, &params, &other).await.unwrap();
    rescue.patch(&name, &params, &label(Value::Null)).await.unwrap();
}

#[tokio::test]
async fn protect_leaves_opt_outs_to_their_owners_but_for_what_the_operator_says_of_them() {
    let (world, ns, _) = protected().await;
    opt_outs::create(&world, &ns, &opt_outs::opt_out("partner", &["DefaultDenyEgress"], opt_outs::seconds_from_now(600))).await;
    until_holds(&world, &ns, &Plan::of(PLATFORM).without("DefaultDenyEgress")).await;
    let api = opt_outs::opt_outs(&world.admin(), &ns);
    let patch = async |what: Value| api.patch("partner", &PatchParams::default(), &Patch::Merge(what)).await;
    let label = |value: Value| json!({ "metadata": { "labels": { "policybaseline.io/opt-out": value } } });
    let alone = "the operator of policy-baseline alone sets the label policybaseline.io/opt-out: leave it as it is";
    world
        .eventually("it is labelled", TIMEOUT, async || {
            Ok::<_, kube::Error>(api.get("partner").await?.labels().contains_key("policybaseline.io/opt-out"))
        })
        .await
        .unwrap();
    assert_eq!(denied("taken off", patch(label(Value::Null)).await), alone);
    let status = Patch::Merge(json!({ "status": { "firstInForce": "2026-01-01T00:00:00Z" } }));
    let said = denied("status", api.patch_status("partner", &PatchParams::default(), &status).await);
    assert_eq!(said, "the operator of policy-baseline alone writes the status of an opt-out");
    patch(json!({ "spec": { "ticket": "SEC-7" } })).await.unwrap();
    api.delete("partner", &DeleteParams::default()).await.unwrap();
    until_holds(&world, &ns, &Plan::of(PLATFORM)).await;
}

/// A policy with these labels, as a tenant forges it before `protect` is on.
pub async fn forge(policies: &Api<NetworkPolicy>, name: &str, labels: &Value) {
    let policy = json!({ "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": { "name": name, "labels": labels }, "spec": { "podSelector": {}, "policyTypes": ["Ingress"] } });
    policies.create(&PostParams::default(), &serde_json::from_value(policy).unwrap()).await.unwrap();
}

/// Tries to delete a policy, and stores nothing.
pub async fn try_delete(policies: &Api<NetworkPolicy>, name: &str) -> kube::Result<()> {
    policies.delete(name, &DeleteParams::default().dry_run()).await.map(drop)
}

/// Waits until nobody but the operator and the break-glass group may delete this policy.
pub async fn until_refused(policies: &Api<NetworkPolicy>, name: &str, world: &World) {
    let is_refused = async || try_delete(policies, name).await.is_err_and(|err| err.to_string().contains("protect-living"));
    world.eventually(&format!("{name} is protected"), TIMEOUT, is_refused).await.unwrap();
}

async fn until_let_go(policies: &Api<NetworkPolicy>, name: &str, world: &World) {
    let is_let_go = async || try_delete(policies, name).await.is_ok();
    world.eventually(&format!("{name} can be deleted"), TIMEOUT, is_let_go).await.unwrap();
}

/// A user who may do this with the NetworkPolicies of all namespaces, and nothing else.
pub async fn keeper_of_policies(world: &World, verbs: &[&str]) -> Client {
    let name = World::unique("keeper");
    let client = world.user(&name, &[]).await.unwrap();
    let role = json!({ "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": { "name": name },
        "rules": [{ "apiGroups": ["networking.k8s.io"], "resources": ["networkpolicies"], "verbs": verbs }] });
    let binding = json!({ "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": { "name": name },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name },
        "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": name }] });
    for object in [role, binding] {
        world.apply_yaml(&object.to_string()).await.unwrap();
    }
    let may = async || can_i(&client, verbs[0], "networking.k8s.io", "networkpolicies", None).await;
    world.eventually("the keeper has the right", TIMEOUT, may).await.unwrap();
    client
}

#[tokio::test]
async fn protect_lets_cluster_admins_delete_what_names_no_living_baseline() {
    let world = World::new().await.unwrap();
    let ns = world.namespace("team", &[]).await.unwrap();
    let tenant = policies_of(&tenant(&world, &[&ns]).await, &ns);
    apply_baseline(&world, PLATFORM, &json!({})).await;
    let orphans = [
        ("gone", json!({ "policybaseline.io/baseline": "nonexistent" })),
        ("empty", json!({ "policybaseline.io/baseline": "" })),
        ("no-baseline", json!({ "policybaseline.io/x": "y" })),
        ("managed", json!({ "app.kubernetes.io/managed-by": "policy-baseline" })),
    ];
    for (name, labels) in &orphans {
        forge(&tenant, name, labels).await;
    }
    forge(&tenant, "living", &json!({ "policybaseline.io/baseline": PLATFORM })).await;
    forge(&tenant, "later", &json!({ "policybaseline.io/baseline": "later" })).await;
    protect(&world).await;

    let admin = policies_of(&world.admin(), &ns);
    let keeper = policies_of(&keeper_of_policies(&world, &["delete"]).await, &ns);
    until_refused(&admin, "living", &world).await;
    denied("living", try_delete(&keeper, "living").await);
    denied("living", try_delete(&tenant, "living").await);
    for (name, _) in &orphans {
        denied(name, try_delete(&tenant, name).await);
        try_delete(&keeper, name).await.unwrap();
        // Nobody may keep it and change it.
        let opened = Patch::Merge(json!({ "spec": { "ingress": [{}] } }));
        denied(name, admin.patch(name, &PatchParams::default(), &opened).await);
        let renamed = Patch::Merge(json!({ "metadata": { "labels": null } }));
        denied(name, admin.patch(name, &PatchParams::default(), &renamed).await);
    }
    let said = denied("gone", try_delete(&tenant, "gone").await);
    assert!(said.ends_with("if there is no such baseline, a cluster administrator can delete it"), "{said}");
    // A collection is refused as long as it holds a policy of a living baseline.
    let dry = DeleteParams::default().dry_run();
    denied("all", admin.delete_collection(&dry, &ListParams::default()).await);

    // Baselines come and go. The policy is evaluated for each of them.
    until_let_go(&admin, "later", &world).await;
    for number in 0..30 {
        apply_baseline(&world, &format!("another-{number}"), &json!({ "mode": "Audit" })).await;
    }
    apply_baseline(&world, "later", &json!({ "mode": "Audit" })).await;
    until_refused(&admin, "later", &world).await;
    try_delete(&admin, "gone").await.unwrap();
    remove_baseline(&world, PLATFORM).await;
    until_let_go(&admin, "living", &world).await;
    denied("later", try_delete(&admin, "later").await);
    for (name, _) in &orphans {
        admin.delete(name, &DeleteParams::default()).await.unwrap();
    }
}

#[tokio::test]
async fn protect_lets_namespaces_and_orphans_go_without_the_crd_and_sees_baselines_once_it_is_back() {
    let world = World::new().await.unwrap();
    if world.plane().is_external() {
        return;
    }
    world.discard();
    let (ns, going) = (world.namespace("team", &[]).await.unwrap(), world.namespace("going", &[]).await.unwrap());
    let admin = policies_of(&world.admin(), &ns);
    for policies in [&admin, &policies_of(&world.admin(), &going)] {
        forge(policies, "ours", &json!({ "policybaseline.io/baseline": PLATFORM })).await;
    }
    let crds: Api<CustomResourceDefinition> = Api::all(world.admin());
    let crd = crds.get(BASELINES_CRD).await.unwrap();
    crds.delete(BASELINES_CRD, &DeleteParams::default()).await.unwrap();
    let is_gone = async || crds.get_opt(BASELINES_CRD).await.map(|found| found.is_none());
    world.eventually("the CRD is gone", TIMEOUT, is_gone).await.unwrap();
    // The API server knows no CRD of this kind when it reads the component, and none after a restart.
    protect(&world).await;
    try_delete(&admin, "ours").await.unwrap();
    namespaces(&world).delete(&going, &DeleteParams::default()).await.unwrap();
    until_gone(&world, &going).await;
    world.plane().stop_apiserver().unwrap();
    world.plane().start_apiserver().await.unwrap();
    world.eventually("protect is in force", TIMEOUT, async || is_in_force(&world).await).await.unwrap();
    try_delete(&admin, "ours").await.unwrap();

    let mut again = CustomResourceDefinition { status: None, ..crd };
    again.metadata = ObjectMeta { name: again.metadata.name, ..ObjectMeta::default() };
    crds.create(&PostParams::default(), &again).await.unwrap();
    let applied = async || world.try_apply_yaml(&baseline(PLATFORM, &json!({}))).await.is_ok();
    world.eventually("baselines are served again", TIMEOUT, applied).await.unwrap();
    // The API server looks for new kinds every 30 s.
    let is_refused = async || try_delete(&admin, "ours").await.is_err();
    world.eventually("the baseline is seen", 3 * TIMEOUT, is_refused).await.unwrap();
}

/// With one identity for each controller, or one for all.
async fn a_namespace_goes_with_all_its_policies(options: Options) {
    let world = World::on(options).await.unwrap();
    protect(&world).await;
    // Otherwise they would be orphans, which the garbage collector may delete.
    apply_baseline(&world, PLATFORM, &json!({})).await;
    let ns = world.namespace("full", &[]).await.unwrap();
    let rescue = policies_of(&break_glass(&world).await, &ns);
    create_fifty_of_ours(&rescue).await;
    until_refused(&policies_of(&world.admin(), &ns), "ours-1", &world).await;
    // A user who may set an owner on a policy could have it garbage-collected. So the component does not trust the garbage collector
    // either.
    rescue.patch("ours-0", &PatchParams::default(), &Patch::Merge(owned_by_nothing())).await.unwrap();
    let audit = world.audit().unwrap();
    let mark = audit.mark();
    world
        .eventually("the garbage collector was refused", TIMEOUT, async || {
            let entries = audit.since(mark)?;
            anyhow::Ok(entries.iter().any(|e| e.verb == "delete" && e.resource == "networkpolicies" && e.code == 403))
        })
        .await
        .unwrap();
    assert_eq!(rescue.list(&ListParams::default()).await.unwrap().items.len(), 50);
    // Only the namespace controller deletes the contents here.
    namespaces(&world).delete(&ns, &DeleteParams::default()).await.unwrap();
    until_gone(&world, &ns).await;
}

#[tokio::test]
async fn a_namespace_with_fifty_policies_goes_where_each_controller_has_a_name_of_its_own() {
    a_namespace_goes_with_all_its_policies(Options::default()).await;
}

#[tokio::test]
async fn a_namespace_with_fifty_policies_goes_where_all_controllers_have_one_name() {
    a_namespace_goes_with_all_its_policies(Options { shared_credentials: true, ..Options::default() }).await;
}
