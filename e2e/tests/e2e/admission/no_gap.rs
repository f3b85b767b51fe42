//! no-gap: no pod can be created in a namespace before the operator has decided about it. The operator labels the namespaces it has
//! decided about.

use std::time::Instant;

use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetCondition};
use k8s_openapi::api::core::v1::{Namespace, Pod, ServiceAccount};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt};
use policy_baseline_e2e::{EVERYTHING, Options, SYSTEM_NAMESPACE, TEST_LABEL, TIMEOUT, World};
use serde_json::{Value, json};

use super::workloads::mirror_of;
use super::{DECIDED, a_node, break_glass, denied, protect};
use crate::opt_outs;
use crate::repair::PLATFORM;
use crate::scene::{
    DENY_EGRESS, DENY_INGRESS, Plan, apply_baseline, can_i, client_of, policies_of, tenant, until_holds, writes_since,
};
use crate::support::{a_second_later, label, namespaces};

pub const LABELLING: &str = "--label-namespaces";

/// A pod that every security level allows.
pub fn pod(name: &str) -> Pod {
    let restricted = json!({ "allowPrivilegeEscalation": false, "runAsNonRoot": true,
        "capabilities": { "drop": ["ALL"] }, "seccompProfile": { "type": "RuntimeDefault" } });
    let container = json!({ "name": "web", "image": "web", "securityContext": restricted });
    serde_json::from_value(json!({ "metadata": { "name": name }, "spec": { "containers": [container] } })).unwrap()
}

async fn create(client: &Client, namespace: &str, name: &str) -> kube::Result<Pod> {
    Api::<Pod>::namespaced(client.clone(), namespace).create(&PostParams::default(), &pod(name)).await
}

/// A namespace in which pods could be created if the component were not installed.
pub async fn namespace(world: &World, prefix: &str, labels: &[(&str, &str)]) -> String {
    let name = world.namespace(prefix, labels).await.unwrap();
    until_pods_can_have_an_account(world, &name).await;
    name
}

async fn until_pods_can_have_an_account(world: &World, namespace: &str) {
    let accounts: Api<ServiceAccount> = Api::namespaced(world.admin(), namespace);
    let is_there = async || accounts.get_opt("default").await.map(|found| found.is_some());
    world.eventually("pods can have an account", TIMEOUT, is_there).await.unwrap();
}

/// Installs every component together with the operator's manifests, and waits until no-gap and protect are in force.
pub async fn no_gap(world: &World) {
    world.plane().run_kubectl(&["apply", "--server-side", "--force-conflicts", "-k", EVERYTHING]).unwrap();
    let probe = namespace(world, "probe", &[]).await;
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    let pods: Api<Pod> = Api::namespaced(world.admin(), &probe);
    let is_shut = async || pods.create(&dry, &pod("probe")).await.is_err();
    world.eventually("no-gap is in force", TIMEOUT, is_shut).await.unwrap();
    world.eventually("protect is in force", TIMEOUT, async || protect::is_in_force(world).await).await.unwrap();
    let operator = client_of(&world.operator_kubeconfig().await.unwrap()).await;
    let may = async || can_i(&operator, "patch", "", "namespaces", None).await;
    world.eventually("the operator may label namespaces", TIMEOUT, may).await.unwrap();
}

/// What the label says, if it names the uid of its namespace; else the whole value.
async fn decided(world: &World, namespace: &str) -> Option<String> {
    let namespace = namespaces(world).get(namespace).await.unwrap();
    let value = namespace.labels().get(DECIDED)?;
    let own = value.strip_suffix(&format!("-{}", namespace.uid().unwrap()));
    Some(own.unwrap_or(value).to_owned())
}

pub async fn until_decided(world: &World, namespace: &str, wanted: &str) {
    world
        .eventually(&format!("{namespace} is {wanted}"), TIMEOUT, async || {
            let found = decided(world, namespace).await;
            if found.as_deref() == Some(wanted) { Ok(true) } else { Err(format!("it is {found:?}")) }
        })
        .await
        .unwrap();
}

/// Tries until a pod is admitted.
pub async fn until_let_in(world: &World, client: &Client, namespace: &str) -> Pod {
    world
        .eventually(&format!("a pod is let in to {namespace}"), TIMEOUT, async || match create(client, namespace, "web").await {
            Ok(pod) => Ok(Some(pod)),
            Err(kube::Error::Api(status)) if status.code == 403 => Ok(None),
            Err(error) => Err(error),
        })
        .await
        .unwrap()
}

fn revision(object: &impl ResourceExt) -> u64 {
    object.resource_version().unwrap().parse().unwrap()
}

#[tokio::test]
async fn no_gap_lets_no_pod_in_before_every_policy_is_in_place() {
    let mut world = World::new().await.unwrap();
    no_gap(&world).await;
    apply_baseline(&world, PLATFORM, &json!({})).await;
    let waiting = namespace(&world, "waiting", &[]).await;
    let tenant_of_it = tenant(&world, &[&waiting]).await;
    let says = format!(
        "pods can be created in namespace {waiting} once its baseline is in place: try again in a moment. If this lasts, ask your platform team: the namespace has no label policybaseline.io/decided with its own uid"
    );
    for who in [&tenant_of_it, &world.admin()] {
        assert_eq!(denied("the operator is down", create(who, &waiting, "web").await), says);
    }
    a_second_later(&world).await;
    world.start_operator_with(&[LABELLING]).await.unwrap();
    // This namespace is older than the process, but younger than the baseline.
    let mut all = vec![waiting];
    for _ in 0..5 {
        all.push(world.namespace("new", &[]).await.unwrap());
    }
    for ns in &all {
        until_pods_can_have_an_account(&world, ns).await;
        let first = until_let_in(&world, &tenant(&world, &[ns]).await, ns).await;
        let held = until_holds(&world, ns, &Plan::of(PLATFORM)).await;
        for (name, policy) in held {
            assert!(revision(&policy) < revision(&first), "{name} came after the first pod");
        }
        assert_eq!(decided(&world, ns).await.as_deref(), Some("protected"));
    }
}

#[tokio::test]
async fn no_gap_lets_pods_in_where_nothing_is_planned() {
    let mut world = World::new().await.unwrap();
    no_gap(&world).await;
    let old = namespace(&world, "old", &[]).await;
    a_second_later(&world).await;
    let excluded = World::unique("excluded");
    apply_baseline(&world, PLATFORM, &json!({ "excludeNamespaces": [excluded] })).await;
    apply_baseline(
        &world,
        "trial",
        &json!({ "mode": "Audit", "priority": 7, "namespaceSelector": { "matchLabels": { "team": "trial" } } }),
    )
    .await;
    world.start_operator_with(&[LABELLING]).await.unwrap();
    world.namespace_named(&excluded, &[]).await.unwrap();
    until_pods_can_have_an_account(&world, &excluded).await;
    for ns in [&old, &excluded] {
        until_let_in(&world, &world.admin(), ns).await;
        assert_eq!(decided(&world, ns).await.as_deref(), Some("exempt"), "{ns}");
    }
    // A baseline in mode Audit does not own the namespace.
    let audited = namespace(&world, "audited", &[("team", "trial")]).await;
    until_let_in(&world, &world.admin(), &audited).await;
    assert_eq!(decided(&world, &audited).await.as_deref(), Some("protected"));
    // Now existing namespaces are enforced too: they go from open to closed, without a phase in which pods are refused.
    apply_baseline(&world, PLATFORM, &json!({ "excludeNamespaces": [excluded], "existingNamespaces": "Enforce" })).await;
    until_decided(&world, &old, "protected").await;
    until_holds(&world, &old, &Plan::of(PLATFORM)).await;
}

#[tokio::test]
async fn no_gap_lets_pods_in_where_everything_is_opted_out() {
    let mut world = World::new().await.unwrap();
    no_gap(&world).await;
    apply_baseline(&world, PLATFORM, &json!({})).await;
    world.start_operator_with(&[LABELLING]).await.unwrap();
    for (roles, wanted) in [
        (&["DefaultDenyEgress"][..], "protected"),
        (&["DefaultDenyIngress", "DefaultDenyEgress", "MonitoringCarveout"][..], "exempt"),
    ] {
        let ns = namespace(&world, "partner", &[]).await;
        opt_outs::create(&world, &ns, &opt_outs::opt_out("partner", roles, opt_outs::seconds_from_now(600))).await;
        until_let_in(&world, &world.admin(), &ns).await;
        until_decided(&world, &ns, wanted).await;
    }
}

#[tokio::test]
async fn no_gap_never_holds_up_the_system_the_operator_or_what_nodes_mirror() {
    let world = World::new().await.unwrap();
    no_gap(&world).await;
    for ns in ["kube-system", "kube-public", "kube-node-lease", SYSTEM_NAMESPACE] {
        until_pods_can_have_an_account(&world, ns).await;
        create(&world.admin(), ns, "web").await.unwrap();
        Api::<Pod>::namespaced(world.admin(), ns).delete("web", &DeleteParams::default().grace_period(0)).await.unwrap();
    }
    let ns = namespace(&world, "shut", &[]).await;
    let node = a_node(&world).await;
    let mut mirror = mirror_of(pod("static"));
    let by = |client: &Client| Api::<Pod>::namespaced(client.clone(), &ns);
    by(&node).create(&PostParams::default(), &mirror).await.unwrap();
    denied("no mirror", create(&node, &ns, "web").await);
    mirror.metadata.name = Some("forged".into());
    denied("forged", by(&tenant(&world, &[&ns]).await).create(&PostParams::default(), &mirror).await);
    create(&break_glass(&world).await, &ns, "rescue").await.unwrap();
    // Other objects, and namespaces themselves, are not affected.
    world.plane().run_kubectl(&["-n", &ns, "create", "configmap", "any"]).unwrap();
}

#[tokio::test]
async fn no_gap_keeps_pods_coming_where_it_is_decided_while_the_operator_is_down() {
    let mut world = World::new().await.unwrap();
    no_gap(&world).await;
    apply_baseline(&world, PLATFORM, &json!({})).await;
    world.start_operator_with(&[LABELLING]).await.unwrap();
    let before = namespace(&world, "before", &[]).await;
    until_let_in(&world, &world.admin(), &before).await;
    world.stop_operator().unwrap();
    let meanwhile = namespace(&world, "meanwhile", &[]).await;
    create(&world.admin(), &before, "another").await.unwrap();
    denied("nobody decides", create(&world.admin(), &meanwhile, "web").await);
    // This also holds while a policy is missing; it is repaired when the operator is back. The label shows the decision, not the
    // current state.
    policies_of(&break_glass(&world).await, &before).delete(DENY_INGRESS, &DeleteParams::default()).await.unwrap();
    create(&world.admin(), &before, "a-third").await.unwrap();
    world.start_operator_with(&[LABELLING]).await.unwrap();
    until_let_in(&world, &world.admin(), &meanwhile).await;
    until_holds(&world, &before, &Plan::of(PLATFORM)).await;
}

#[tokio::test]
async fn no_gap_lets_no_pod_in_by_a_label_that_a_backup_brings_back() {
    let mut world = World::new().await.unwrap();
    no_gap(&world).await;
    apply_baseline(&world, PLATFORM, &json!({})).await;
    world.start_operator_with(&[LABELLING]).await.unwrap();
    let lost = namespace(&world, "lost", &[]).await;
    until_decided(&world, &lost, "protected").await;
    let label = namespaces(&world).get(&lost).await.unwrap().labels()[DECIDED].clone();
    world.stop_operator().unwrap();
    // A tenant who may create namespaces restores one. The component protect does not mind, because the label proves nothing.
    let restored = namespace(&world, "restored", &[(DECIDED, &label)]).await;
    let says = denied("a copy", create(&world.admin(), &restored, "web").await);
    assert!(says.contains("has no label policybaseline.io/decided with its own uid"), "{says}");
    for made_up in ["protected", "exempt", "protected-0"] {
        let ns = namespace(&world, "forged", &[(DECIDED, made_up)]).await;
        denied(made_up, create(&world.admin(), &ns, "web").await);
    }
    world.start_operator_with(&[LABELLING]).await.unwrap();
    until_let_in(&world, &world.admin(), &restored).await;
    assert_eq!(decided(&world, &restored).await.as_deref(), Some("protected"));
}

/// Prints the numbers for docs/admission.md.
#[tokio::test]
async fn no_gap_makes_workloads_wait_and_their_controllers_try_again() {
    let mut world = World::on(Options { more_controllers: vec!["replicaset-controller"], ..Options::default() }).await.unwrap();
    no_gap(&world).await;
    apply_baseline(&world, PLATFORM, &json!({})).await;
    let ns = namespace(&world, "team", &[]).await;
    let template = json!({ "metadata": { "labels": { "app": "web" } },
        "spec": { "containers": [{ "name": "web", "image": "web" }] } });
    let set = json!({ "metadata": { "name": "web" },
        "spec": { "replicas": 3, "selector": { "matchLabels": { "app": "web" } }, "template": template } });
    let sets: Api<ReplicaSet> = Api::namespaced(world.admin(), &ns);
    sets.create(&PostParams::default(), &serde_json::from_value(set).unwrap()).await.unwrap();
    let (shut, refused) = (Instant::now(), async || {
        let status = sets.get_status("web").await?.status.unwrap_or_default();
        let says = |c: &ReplicaSetCondition| {
            c.type_ == "ReplicaFailure" && c.message.as_deref().is_some_and(|text| text.contains("once its baseline is in place"))
        };
        Ok::<_, kube::Error>(status.conditions.unwrap_or_default().iter().any(says))
    });
    world.eventually("the ReplicaSet says why it has no pods", TIMEOUT, refused).await.unwrap();
    world.start_operator_with(&[LABELLING]).await.unwrap();
    until_decided(&world, &ns, "protected").await;
    let (gap, open) = (shut.elapsed(), Instant::now());
    let pods: Api<Pod> = Api::namespaced(world.admin(), &ns);
    let all = async || Ok::<_, kube::Error>(pods.list(&ListParams::default()).await?.items.len() == 3);
    world.eventually("its controller has tried again", TIMEOUT, all).await.unwrap();
    println!("shut for {gap:?}, all pods {:?} later", open.elapsed());
}

#[tokio::test]
async fn no_gap_lets_the_operator_label_namespaces_and_do_nothing_else_to_them() {
    let mut world = World::new().await.unwrap();
    no_gap(&world).await;
    let ns = namespace(&world, "team", &[]).await;
    let operator = client_of(&world.operator_kubeconfig().await.unwrap()).await;
    let api: Api<Namespace> = Api::all(operator);
    let patch = async |what: Value| api.patch(&ns, &PatchParams::default(), &Patch::Merge(what)).await;
    let says = "of a namespace, the operator of policy-baseline changes the label policybaseline.io/decided and nothing else";
    for (what, change) in [
        ("another label", json!({ "labels": { "pod-security.kubernetes.io/enforce": "privileged" } })),
        ("a label taken off", json!({ "labels": { "kubernetes.io/metadata.name": null, TEST_LABEL: null } })),
        ("another label as well", json!({ "labels": { DECIDED: "exempt", "team": "x" } })),
        ("an annotation", json!({ "annotations": { "scheduler.alpha.kubernetes.io/node-selector": "x=y" } })),
        ("a finalizer", json!({ "finalizers": ["example.com/held"] })),
        (
            "an owner",
            json!({ "ownerReferences": [{ "apiVersion": "v1", "kind": "Namespace", "name": "default", "uid": "0f9e8d7c-6b5a-4321-8765-00ffabcdef12" }] }),
        ),
    ] {
        assert_eq!(denied(what, patch(json!({ "metadata": change })).await), says, "{what}");
    }
    patch(json!({ "metadata": { "labels": { DECIDED: "exempt" } } })).await.unwrap();
    label_by_hand(&world, &ns).await;
    world.start_operator_with(&[LABELLING]).await.unwrap();
    until_decided(&world, &ns, "exempt").await;
}

/// Checks that an admin may not remove the label. Then removes it as a member of the break-glass group.
async fn label_by_hand(world: &World, ns: &str) {
    let by_hand = Patch::Merge(json!({ "metadata": { "labels": { DECIDED: null } } }));
    denied("by hand", namespaces(world).patch(ns, &PatchParams::default(), &by_hand).await);
    let rescue: Api<Namespace> = Api::all(break_glass(world).await);
    rescue.patch(ns, &PatchParams::default(), &by_hand).await.unwrap();
}

#[tokio::test]
async fn i2_labels_are_written_once_and_a_restart_writes_none() {
    let mut world = World::new().await.unwrap();
    no_gap(&world).await;
    apply_baseline(&world, PLATFORM, &json!({ "namespaceSelector": { "matchLabels": { "team": "x" } } })).await;
    world.start_operator_with(&[LABELLING]).await.unwrap();
    let ns = namespace(&world, "team", &[("team", "x")]).await;
    let other = namespace(&world, "other", &[]).await;
    until_decided(&world, &ns, "protected").await;
    until_decided(&world, &other, "exempt").await;
    until_holds(&world, &ns, &Plan::of(PLATFORM)).await;
    let mark = world.audit().unwrap().mark();
    world.restart_operator().await.unwrap();
    let new = namespace(&world, "new", &[("team", "x")]).await;
    until_decided(&world, &new, "protected").await;
    let labelled = |of: &str| {
        let writes = writes_since(&world, mark);
        writes.iter().filter(|entry| entry.resource == "namespaces" && entry.name == of).count()
    };
    world.eventually("the audit log has caught up", TIMEOUT, async || labelled(&new) > 0).await.unwrap();
    assert_eq!((labelled(&ns), labelled(&other), labelled(&new)), (0, 0, 1));
    // A different decision gives a different label.
    label(&world, &ns, "team", None).await;
    until_decided(&world, &ns, "exempt").await;
    label(&world, &ns, "team", Some("x")).await;
    until_decided(&world, &ns, "protected").await;
    let held = until_holds(&world, &ns, &Plan::of(PLATFORM)).await;
    assert!(held.contains_key(DENY_EGRESS));
}

#[tokio::test]
async fn i9_without_the_permission_to_label_policies_are_written_as_ever() {
    let mut world = World::new().await.unwrap();
    apply_baseline(&world, PLATFORM, &json!({})).await;
    world.start_operator_with(&[LABELLING]).await.unwrap();
    for _ in 0..3 {
        let ns = world.namespace("team", &[]).await.unwrap();
        until_holds(&world, &ns, &Plan::of(PLATFORM)).await;
    }
    let log = || world.operator().unwrap().log();
    let told = async || log().contains("a namespace cannot be labelled with policybaseline.io/decided");
    world.eventually("it is told", TIMEOUT, told).await.unwrap();
    assert_eq!(log().matches("cannot be labelled").count(), 1, "once for all of them");
}
