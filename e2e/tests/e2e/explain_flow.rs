//! `policy-baseline explain flow`: whether policies allow a flow, from the cluster and from a dump of it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{Patch, PatchParams};
use policy_baseline_e2e::{Operator, TIMEOUT, World};
use serde_json::{Value, json};

use crate::scene::{Plan, apply_baseline, can_i, until_holds};
use crate::support::{TEAM, team};

/// Runs `explain flow` with this kubeconfig, or without a cluster.
async fn explain(kubeconfig: Option<&Path>, args: &[&str], input: Stdio) -> Output {
    let mut command = Command::new(Operator::binary().unwrap());
    command.args(["explain", "flow"]).args(args).env("NO_PROXY", "127.0.0.1,localhost").stdin(input);
    command.env("KUBECONFIG", kubeconfig.unwrap_or(Path::new("/no/kubeconfig")));
    tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap()
}

pub fn said(output: &Output, code: i32) -> String {
    assert_eq!(output.status.code(), Some(code), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// A user who may read everything, and nothing else: the name, and the kubeconfig.
pub async fn viewer(world: &World) -> (String, PathBuf) {
    let viewer = World::unique("viewer");
    let create = ["create", "clusterrolebinding", &viewer, "--clusterrole=view", &format!("--user={viewer}")];
    world.plane().run_kubectl(&create).unwrap();
    let client = world.user(&viewer, &[]).await.unwrap();
    let may = async || can_i(&client, "list", "networking.k8s.io", "networkpolicies", None).await;
    world.eventually("a viewer may list policies", TIMEOUT, may).await.unwrap();
    let kubeconfig = world.plane().user_kubeconfig(&viewer, &[]).unwrap();
    (viewer, kubeconfig)
}

/// A pod that runs at this address. No kubelet has started it.
pub async fn running(world: &World, namespace: &str, name: &str, address: &str) {
    let account =
        json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": "default", "namespace": namespace } });
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": name, "namespace": namespace, "labels": { "app": name, "pod-template-hash": "7d9f" } },
        "spec": { "containers": [{ "name": "c", "image": "c", "ports": [{ "name": "http", "containerPort": 8080 }] }] },
    });
    for object in [account, pod] {
        world.apply_yaml(&object.to_string()).await.unwrap();
    }
    let status = json!({ "status": { "phase": "Running", "podIP": address, "podIPs": [{ "ip": address }] } });
    let api: Api<Pod> = Api::namespaced(world.admin(), namespace);
    api.patch_status(name, &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
}

#[tokio::test]
async fn a_viewer_learns_what_denies_a_flow_and_the_suggested_policies_allow_it() {
    let mut world = World::new().await.unwrap();
    apply_baseline(&world, "platform", &json!({ "namespaceSelector": team("a") })).await;
    world.start_operator().await.unwrap();
    let shop = world.namespace("shop", &[(TEAM, "a")]).await.unwrap();
    let ops = world.namespace("ops", &[(TEAM, "a")]).await.unwrap();
    for namespace in [&shop, &ops] {
        until_holds(&world, namespace, &Plan::of("platform")).await;
    }
    running(&world, &shop, "web", "10.200.0.1").await;
    running(&world, &ops, "tool", "10.200.1.1").await;
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": { "name": "web", "namespace": shop },
        "spec": { "selector": { "app": "web" }, "ports": [{ "port": 80, "targetPort": "http" }] },
    });
    world.apply_yaml(&service.to_string()).await.unwrap();

    let (viewer, kubeconfig) = viewer(&world).await;
    let (from, to) = (format!("--from={ops}/tool"), format!("--to={shop}/svc/web"));
    let asked = [&*from, &*to, "--port=80"];
    let text = said(&explain(Some(&kubeconfig), &asked, Stdio::null()).await, 1);
    assert!(text.starts_with(&format!("{ops}/tool to {shop}/svc/web, TCP 80: denied\n")), "{text}");
    assert!(text.contains("port 80 leads to the container port \"http\" of the pods with app=web\n"), "{text}");
    for isolating in [format!("{ops}/baseline-default-deny-egress"), format!("{shop}/baseline-default-deny-ingress")] {
        assert!(text.lines().any(|line| line.contains("denied") && line.contains(&isolating)), "{isolating} {text}");
    }

    // A dump says the same, from a file or from standard input, and without a cluster.
    let dump = world.plane().run_kubectl(&["get", "ns,pods,svc,endpointslices,netpol", "-A", "-o", "json"]).unwrap();
    let file = world.plane().state_dir().join("dump.json");
    std::fs::write(&file, dump).unwrap();
    let of_file = [&asked[..], &["--dump", file.to_str().unwrap()]].concat();
    assert_eq!(said(&explain(None, &of_file, Stdio::null()).await, 1), text);
    let input = std::fs::File::open(&file).unwrap();
    assert_eq!(said(&explain(None, &[&asked[..], &["--dump=-"]].concat(), input.into()).await, 1), text);

    let json = said(&explain(Some(&kubeconfig), &[&asked[..], &["--output=json"]].concat(), Stdio::null()).await, 1);
    let json: Value = serde_json::from_str(&json).unwrap();
    let suggestions = json["suggestions"].as_array().unwrap();
    assert_eq!(suggestions.len(), 2, "one for each direction: {json}");
    for suggestion in suggestions {
        world.apply_yaml(&suggestion["policy"].to_string()).await.unwrap();
    }
    let text = said(&explain(Some(&kubeconfig), &asked, Stdio::null()).await, 0);
    assert!(text.contains("TCP 80: allowed\n") && text.contains(&format!("{shop}/allow-web-from-{ops}-tool-8080")), "{text}");
    world.plane().run_kubectl(&["delete", "clusterrolebinding", &viewer]).unwrap();
}

#[tokio::test]
async fn dns_of_a_closed_namespace_is_allowed_by_the_policy_of_the_operator() {
    let mut world = World::new().await.unwrap();
    let dns = json!({ "ipBlock": { "cidr": "10.99.0.10/32" } });
    apply_baseline(&world, "platform", &json!({ "namespaceSelector": team("a"), "dns": { "peers": [dns] } })).await;
    world.start_operator().await.unwrap();
    let shop = world.namespace("shop", &[(TEAM, "a")]).await.unwrap();
    until_holds(&world, &shop, &Plan::of("platform").dns_peer(&dns)).await;
    running(&world, &shop, "web", "10.200.0.1").await;
    let admin = world.plane().admin_kubeconfig().to_owned();
    let from = format!("--from={shop}/web");
    let asked = async |port: &str| explain(Some(&admin), &[&from, "--to=10.99.0.10", "--port", port], Stdio::null()).await;
    assert!(said(&asked("80").await, 1).contains("TCP 80: denied\n"));
    let text = said(&asked("UDP/53").await, 0);
    assert!(text.contains(&format!("{shop}/baseline-default-deny-egress")) && text.contains("spec.egress["), "{text}");
}

/// A CRD of ClusterNetworkPolicies with two versions, as the project publishes it, without its schema.
fn crd_of_tiers() -> String {
    let version = |name: &str| {
        let schema = json!({ "openAPIV3Schema": { "type": "object", "x-kubernetes-preserve-unknown-fields": true } });
        json!({ "name": name, "served": true, "storage": name == "v1beta1", "schema": schema })
    };
    let crd = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": { "name": TIERS, "annotations": { "api-approved.kubernetes.io": "unapproved, only for this test" } },
        "spec": {
            "group": "policy.networking.k8s.io", "scope": "Cluster",
            "names": { "plural": "clusternetworkpolicies", "singular": "clusternetworkpolicy", "kind": "ClusterNetworkPolicy" },
            "versions": [version("v1alpha2"), version("v1beta1")],
        },
    });
    crd.to_string()
}

const TIERS: &str = "clusternetworkpolicies.policy.networking.k8s.io";

#[tokio::test]
async fn policies_of_the_admin_tier_are_read_where_their_kind_exists_and_without_permission_that_is_said() {
    let world = World::new().await.unwrap();
    world.discard();
    let shop = world.namespace("shop", &[]).await.unwrap();
    running(&world, &shop, "web", "10.200.0.1").await;
    running(&world, &shop, "db", "10.200.0.2").await;
    let (viewer, kubeconfig) = viewer(&world).await;
    let (from, to) = (format!("--from={shop}/web"), format!("--to={shop}/db"));
    let asked = [&*from, &*to, "--port=5432"];
    let ask = async |kubeconfig: &Path| explain(Some(kubeconfig), &asked, Stdio::null()).await;
    assert!(said(&ask(&kubeconfig).await, 0).contains("TCP 5432: allowed\n"), "the cluster does not have the kind");

    world.apply_yaml(&crd_of_tiers()).await.unwrap();
    let deny = json!([{ "action": "Deny", "from": [{ "namespaces": {} }] }]);
    let subject = json!({ "namespaces": { "matchLabels": { "kubernetes.io/metadata.name": shop } } });
    let guard = json!({
        "apiVersion": "policy.networking.k8s.io/v1alpha2", "kind": "ClusterNetworkPolicy", "metadata": { "name": "guard" },
        "spec": { "tier": "Admin", "priority": 1, "subject": subject, "ingress": deny },
    });
    let apply = async || world.try_apply_yaml(&guard.to_string()).await;
    world.eventually("the kind is served", TIMEOUT, async || anyhow::Ok(apply().await.is_ok())).await.unwrap();
    let is_denied = async || anyhow::Ok(ask(&kubeconfig).await.status.code() == Some(1));
    world.eventually("the policy is read", TIMEOUT, is_denied).await.unwrap();
    let text = said(&ask(&kubeconfig).await, 1);
    let rule = "ClusterNetworkPolicy guard   spec.ingress[0].from[0] denies it, before NetworkPolicies are asked\n";
    assert!(text.contains(rule) && text.contains("note: no NetworkPolicy can allow the ingress, because "), "{text}");

    // A dump that has the kind says the same.
    let all = format!("ns,pods,svc,endpointslices,netpol,{TIERS}");
    let dump = world.plane().run_kubectl(&["get", &all, "-A", "-o", "json"]).unwrap();
    let file = world.plane().state_dir().join("tiers.json");
    std::fs::write(&file, dump).unwrap();
    assert_eq!(said(&explain(None, &[&asked[..], &["--dump", file.to_str().unwrap()]].concat(), Stdio::null()).await, 1), text);

    // Somebody who may list everything else.
    let partly = World::unique("partly");
    let resources = "--resource=namespaces,pods,services,endpointslices.discovery.k8s.io,networkpolicies.networking.k8s.io";
    world.plane().run_kubectl(&["create", "clusterrole", &partly, "--verb=list", resources]).unwrap();
    let bind = ["create", "clusterrolebinding", &partly, &format!("--clusterrole={partly}"), &format!("--user={partly}")];
    world.plane().run_kubectl(&bind).unwrap();
    let client = world.user(&partly, &[]).await.unwrap();
    let may = async || can_i(&client, "list", "networking.k8s.io", "networkpolicies", None).await;
    world.eventually("the user may list policies", TIMEOUT, may).await.unwrap();
    let output = ask(&world.plane().user_kubeconfig(&partly, &[]).unwrap()).await;
    assert!(said(&output, 0).contains("TCP 5432: allowed\n"));
    let warned = String::from_utf8_lossy(&output.stderr).into_owned();
    let unknown = "you may not list clusternetworkpolicies, so what a ClusterNetworkPolicy decides before or after NetworkPolicies is not known: ";
    assert!(warned.contains(unknown) && warned.matches("you may not").count() == 1, "{warned}");
    for [kind, name] in
        [["clusterrolebinding", &*viewer], ["clusterrolebinding", &*partly], ["clusterrole", &*partly], ["crd", TIERS]]
    {
        world.plane().run_kubectl(&["delete", kind, name]).unwrap();
    }
}

#[tokio::test]
async fn whoever_may_not_list_policies_is_told_who_can_grant_it() {
    let world = World::new().await.unwrap();
    let kubeconfig = world.plane().service_account_kubeconfig("default", "default").await.unwrap();
    let output = explain(Some(&kubeconfig), &["--from=a/b", "--to=c/d", "--port=80"], Stdio::null()).await;
    assert_eq!(output.status.code(), Some(2));
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(error.starts_with("error: you may not list networkpolicies: ") && error.lines().count() == 1, "{error}");
    assert!(error.contains("kubectl create clusterrolebinding NAME --clusterrole=view --user=YOU"), "{error}");
}
