//! The network plugin: what the status and `policy-baseline check` say of it. No kubelet runs, so the DaemonSets have no pods.

use std::path::PathBuf;
use std::process::{Command, Output};

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::rbac::v1::ClusterRole;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use policy_baseline::PolicyBaselineStatus;
use policy_baseline_e2e::{AuditEntry, Operator, TIMEOUT, World, skipped_without_audit_log};
use serde_json::{Value, json};

use crate::repair::PLATFORM;
use crate::scene::{Plan, apply_baseline, can_i, client_of, condition, until_holds, until_status};
use crate::support::{TEAM, Writes, fence_of_its_own, team};

const FLANNEL: (&str, &str) = ("kube-flannel", "kube-flannel-ds");

/// The DaemonSet of a network plugin. `containers`: the name of each, and its arguments.
fn daemon_set((namespace, name): (&str, &str), containers: &[(&str, &[&str])]) -> String {
    let labels = json!({ "app": name });
    let container = |(name, args): &(&str, &[&str])| json!({ "name": name, "image": "none", "args": args });
    let containers: Vec<Value> = containers.iter().map(container).collect();
    let object = json!({
        "apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": { "namespace": namespace, "name": name },
        "spec": {
            "selector": { "matchLabels": labels },
            "template": { "metadata": { "labels": labels }, "spec": { "containers": containers } },
        },
    });
    object.to_string()
}

async fn delete(world: &World, (namespace, name): (&str, &str)) {
    Api::<DaemonSet>::namespaced(world.admin(), namespace).delete(name, &DeleteParams::default()).await.unwrap();
}

/// The condition, once it has this status and reason, and Ready is what it is without it.
async fn until_told(world: &World, status: &str, reason: &str) -> Condition {
    let kind = "EnforcementUnknown";
    let is_told = |all: &PolicyBaselineStatus| {
        let told = condition(all, kind);
        told.status == status && told.reason == reason && condition(all, "Ready").status == "True"
    };
    condition(&until_status(world, PLATFORM, &format!("{kind}={status} {reason}"), is_told).await, kind)
}

/// Runs `check` with this kubeconfig.
async fn check(kubeconfig: PathBuf) -> Output {
    let mut command = Command::new(Operator::binary().unwrap());
    command.args(["check", "--timeout=60"]).env("KUBECONFIG", kubeconfig).env("NO_PROXY", "127.0.0.1,localhost");
    tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap()
}

/// What `check` prints and its exit code, as the operator's ServiceAccount.
async fn checked(world: &World) -> (String, Option<i32>) {
    let output = check(world.operator_kubeconfig().await.unwrap()).await;
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    (String::from_utf8(output.stdout).unwrap(), output.status.code())
}

/// The status and `check` say the same.
async fn until_both_say(world: &World, status: &str, reason: &str) -> String {
    let told = until_told(world, status, reason).await;
    let expected = (format!("network plugin: {reason}\n{}\n", told.message), Some(i32::from(status != "False")));
    assert_eq!(checked(world).await, expected);
    told.message
}

#[tokio::test]
async fn a_network_plugin_that_enforces_nothing_is_told_in_the_status_and_by_check() {
    let mut world = World::new().await.unwrap();
    world.discard();
    apply_baseline(&world, PLATFORM, &json!({})).await;
    world.start_operator().await.unwrap();
    let nothing = until_both_say(&world, "True", "NoPluginKnown").await;
    assert!(["Flannel", "`ptp`", "`bridge`", "packets"].iter().all(|word| nothing.contains(word)), "{nothing}");

    world.namespace_named(FLANNEL.0, &[]).await.unwrap();
    world.apply_yaml(&daemon_set(FLANNEL, &[("kube-flannel", &["--ip-masq"])])).await.unwrap();
    let flannel = until_both_say(&world, "True", "PluginIgnoresPolicies").await;
    assert!(flannel.contains("kube-flannel/kube-flannel-ds: Flannel enforces no NetworkPolicies"), "{flannel}");

    // An enforcer beside it counts, and only while it enforces.
    let router = ("kube-system", "kube-router");
    world.apply_yaml(&daemon_set(router, &[("kube-router", &["--run-firewall=true"])])).await.unwrap();
    let both = until_both_say(&world, "False", "PluginEnforces").await;
    assert!(both.contains("kube-system/kube-router") && both.contains("Flannel") && both.contains("packets"), "{both}");
    world.apply_yaml(&daemon_set(router, &[("kube-router", &["--run-firewall=false"])])).await.unwrap();
    until_both_say(&world, "True", "PluginIgnoresPolicies").await;
    delete(&world, router).await;
    let canal = ("kube-system", "canal");
    world.apply_yaml(&daemon_set(canal, &[("calico-node", &[]), ("kube-flannel", &[])])).await.unwrap();
    // Each name is listed by itself.
    let is_forgotten =
        |all: &PolicyBaselineStatus| !condition(all, "EnforcementUnknown").message.contains("kube-system/kube-router");
    until_status(&world, PLATFORM, "kube-router is forgotten", is_forgotten).await;
    until_both_say(&world, "False", "PluginEnforces").await;
    delete(&world, canal).await;
    until_both_say(&world, "True", "PluginIgnoresPolicies").await;
    world.apply_yaml(&daemon_set(FLANNEL, &[("kube-flannel", &[]), ("kube-network-policies", &[])])).await.unwrap();
    until_both_say(&world, "False", "PluginEnforces").await;

    // What nobody can see may be off.
    delete(&world, FLANNEL).await;
    world.apply_yaml(&daemon_set(("kube-system", "kindnet"), &[("kindnet-cni", &[])])).await.unwrap();
    until_both_say(&world, "True", "PluginMayIgnorePolicies").await;
}

#[tokio::test]
async fn i2_a_restart_looks_for_the_network_plugin_again_and_writes_nothing() {
    if skipped_without_audit_log() {
        return;
    }
    let mut world = World::new().await.unwrap();
    world.discard();
    world.apply_yaml(&daemon_set(("kube-system", "cilium"), &[("cilium-agent", &[])])).await.unwrap();
    apply_baseline(&world, PLATFORM, &json!({ "namespaceSelector": team("a") })).await;
    world.start_operator().await.unwrap();
    let ns = world.namespace("team", &[(TEAM, "a")]).await.unwrap();
    until_holds(&world, &ns, &Plan::of(PLATFORM)).await;
    until_told(&world, "False", "PluginEnforces").await;
    until_status(&world, PLATFORM, "it is protected", |status| status.namespaces.protected == 1).await;
    assert_eq!(world.stop_operator().unwrap(), 0);
    let writes = Writes::from_now(&world);
    world.restart_operator().await.unwrap();
    let has_looked = async || {
        let log = world.operator().unwrap().log();
        if log.contains("the network plugin: DaemonSet kube-system/cilium") { Ok(true) } else { Err(log) }
    };
    world.eventually("it has looked", TIMEOUT, has_looked).await.unwrap();
    // Another baseline has its status, so statuses are written again.
    fence_of_its_own(&world).await;
    let about = |write: &AuditEntry| write.name == PLATFORM || write.namespace == ns;
    assert_eq!(writes.all().into_iter().filter(about).collect::<Vec<_>>(), []);
}

#[tokio::test]
async fn i16_whoever_may_not_list_the_daemon_sets_says_so_and_works() {
    let mut world = World::new().await.unwrap();
    world.discard();
    world.apply_yaml(&daemon_set(("kube-system", "cilium"), &[("cilium-agent", &[])])).await.unwrap();
    let roles: Api<ClusterRole> = Api::all(world.admin());
    let shipped = roles.get("policy-baseline").await.unwrap().rules.unwrap();
    let set_rules = async |rules: &[k8s_openapi::api::rbac::v1::PolicyRule]| {
        let patch = Patch::Merge(json!({ "rules": rules }));
        roles.patch("policy-baseline", &PatchParams::default(), &patch).await.unwrap();
    };
    let mut narrowed = shipped.clone();
    narrowed.retain(|rule| !rule.resource_names.iter().flatten().any(|name| name == "cilium"));
    set_rules(&narrowed).await;
    let client = client_of(&world.operator_kubeconfig().await.unwrap()).await;
    let may_not = async || {
        let daemon_sets: Api<DaemonSet> = Api::all(client.clone());
        let listed = daemon_sets.list(&kube::api::ListParams::default().fields("metadata.name=cilium")).await;
        Ok::<_, kube::Error>(matches!(listed, Err(kube::Error::Api(status)) if status.code == 403))
    };
    world.eventually("it may not list DaemonSets", TIMEOUT, may_not).await.unwrap();
    assert!(can_i(&client, "list", "", "namespaces", None).await.unwrap());

    apply_baseline(&world, PLATFORM, &json!({})).await;
    world.start_operator().await.unwrap();
    let ns = world.namespace("team", &[]).await.unwrap();
    until_holds(&world, &ns, &Plan::of(PLATFORM)).await;
    let told = until_told(&world, "True", "NotListed").await;
    assert!(told.message.contains("could not be listed") && told.message.contains("Flannel"), "{}", told.message);
    let output = check(world.operator_kubeconfig().await.unwrap()).await;
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.starts_with("error: cannot list the DaemonSets of network plugins") && said.contains("forbidden"), "{said}");
    assert!(said.lines().count() == 1 && output.stdout.is_empty(), "{said}");

    // The watches ask again by themselves.
    set_rules(&shipped).await;
    until_told(&world, "False", "PluginEnforces").await;
}
