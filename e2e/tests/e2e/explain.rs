//! `policy-baseline explain namespace NAME`: what the operator decides there, and why.

use std::process::{Command, Output};

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::api::PostParams;
use policy_baseline_e2e::{Operator, SYSTEM_NAMESPACE, TIMEOUT, World, skipped_without_audit_log};
use serde_json::{Value, json};

use crate::scene::{
    CARVEOUT, DENY_EGRESS, DENY_INGRESS, Plan, apply_baseline, can_i, policies_of, until_event, until_holds, until_ready,
    until_status,
};
use crate::support::{TEAM, Writes, a_second_later, team};

/// Runs `explain` as the operator's ServiceAccount, with the shipped permissions.
async fn explain(world: &World, args: &[&str]) -> Output {
    let mut command = Command::new(Operator::binary().unwrap());
    command.args(["explain", "namespace"]).args(args).env("NO_PROXY", "127.0.0.1,localhost");
    command.env("KUBECONFIG", world.operator_kubeconfig().await.unwrap()).env("POD_NAMESPACE", SYSTEM_NAMESPACE);
    tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap()
}

/// The output for a protected namespace.
async fn explained(world: &World, namespace: &str) -> String {
    printed(world, namespace, 0).await
}

/// The output for a namespace that is not protected.
pub async fn explained_as_open(world: &World, namespace: &str) -> String {
    printed(world, namespace, 1).await
}

async fn printed(world: &World, namespace: &str, code: i32) -> String {
    let output = explain(world, &[namespace]).await;
    assert_eq!(output.status.code(), Some(code), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The cells of the row with this first cell. At least three spaces separate columns.
fn row(text: &str, begins: &str) -> Vec<String> {
    let is_it = |line: &&str| line.split("   ").next() == Some(begins);
    let line = text.lines().find(is_it).unwrap_or_else(|| panic!("no row of {begins} in\n{text}"));
    line.split("   ").map(str::trim).filter(|cell| !cell.is_empty()).map(str::to_owned).collect()
}

#[tokio::test]
async fn a_namespace_is_explained_in_one_screen_with_every_baseline_and_why() {
    let mut world = World::new().await.unwrap();
    let old = world.namespace("old", &[(TEAM, "a")]).await.unwrap();
    a_second_later(&world).await;
    let of = |priority: i32| json!({ "namespaceSelector": team("a"), "priority": priority });
    apply_baseline(&world, "platform", &of(10)).await;
    apply_baseline(&world, "general", &json!({ "metadata": { "namePrefix": "general-" } })).await;
    apply_baseline(&world, "trial", &json!({ "mode": "Audit", "metadata": { "namePrefix": "trial-" } })).await;
    apply_baseline(&world, "others", &json!({ "namespaceSelector": team("b") })).await;
    apply_baseline(
        &world,
        "broken",
        &json!({ "dns": { "peers": [{ "namespaceSelector": { "matchLabels": { "Bad Key!": "x" } } }] } }),
    )
    .await;
    world.start_operator().await.unwrap();
    let ns = world.namespace("explained", &[(TEAM, "a")]).await.unwrap();
    until_holds(&world, &ns, &Plan::of("platform")).await;

    let text = explained(&world, &ns).await;
    assert!(text.starts_with(&format!("{ns}: platform applies, and the namespace holds exactly what is planned\n")), "{text}");
    assert_eq!(
        row(&text, "platform")[1..],
        ["10", "Enforce", "applies", "the highest priority of the 2 that select it"],
        "{text}"
    );
    assert_eq!(row(&text, "general")[1..], ["0", "Enforce", "shadowed", "platform comes first"], "{text}");
    assert_eq!(row(&text, "trial")[1..4], ["0", "Audit", "audits"], "{text}");
    assert!(row(&text, "trial")[4].contains("create trial-default-deny-ingress"), "{text}");
    assert!(row(&text, "others")[4].starts_with("its labels do not match: namespaces with"), "{text}");
    assert!(row(&text, "broken")[2].starts_with("it is stalled: spec.dns.peers[0]"), "{text}");
    for name in [DENY_INGRESS, DENY_EGRESS, CARVEOUT] {
        let cells = row(&text, name);
        assert_eq!(cells[3], "as planned", "{text}");
        assert!(cells[2].parse::<Timestamp>().is_ok(), "since when: {text}");
    }
    assert!(text.lines().count() < 25 && !text.contains('\u{1b}'), "one screen, and no colour in a pipe: {text}");
    assert!(!text.contains("not read: "), "the operator may read everything: {text}");

    let text = explained_as_open(&world, &old).await;
    assert!(
        text.contains(
            "platform only reports this namespace, because the namespace is older; existingNamespaces: Enforce would close it"
        ),
        "{text}"
    );
    assert_eq!(row(&text, DENY_INGRESS)[2], "would be created", "{text}");
    assert!(row(&text, "ExistingNamespace")[2].parse::<Timestamp>().is_ok(), "since when: {text}");

    let text = explained_as_open(&world, "kube-system").await;
    assert!(text.starts_with("kube-system: no baseline applies\n"), "{text}");
    assert!(row(&text, "general")[4].contains("kube-system is always excluded"), "{text}");
}

#[tokio::test]
async fn what_is_wrong_is_explained_and_what_is_held_says_by_whom() {
    let mut world = World::new().await.unwrap();
    apply_baseline(&world, "platform", &json!({ "namespaceSelector": team("a") })).await;
    world.start_operator().await.unwrap();
    let ns = world.namespace("explained", &[(TEAM, "a"), ("kubernetes.io/metadata.name", "x")]).await.unwrap();
    until_holds(&world, &ns, &Plan::of("platform")).await;
    until_ready(&world, "platform").await;
    let open =
        json!({ "metadata": { "name": "open" }, "spec": { "podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{}] } });
    let open = serde_json::from_value(open).unwrap();
    policies_of(&world.admin(), &ns).create(&PostParams::default(), &open).await.unwrap();
    until_event(&world, &world.admin(), &ns, "BaselineBypassed", "open").await;
    until_status(&world, "platform", "one is bypassed", |status| status.namespaces.bypassed == 1).await;
    let text = explained(&world, &ns).await;
    assert!(text.starts_with(&format!("{ns}: platform applies, but another policy opens what it closes\n")), "{text}");
    assert_eq!(row(&text, "Bypassed")[1..3], ["open", "platform"], "{text}");
    assert_eq!(row(&text, "open")[2], "of somebody else", "{text}");

    let expires = Timestamp::now() + SignedDuration::from_hours(2);
    let opt_out = json!({
        "apiVersion": "policybaseline.io/v1alpha1", "kind": "BaselineOptOut", "metadata": { "name": "load-test", "namespace": ns },
        "spec": {
            "policies": ["DefaultDenyEgress"], "reason": "the load test calls the partner's sandbox", "approvedBy": "the platform team",
            "expiresAt": expires.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        },
    });
    world.apply_yaml(&opt_out.to_string()).await.unwrap();
    until_holds(&world, &ns, &Plan::of("platform").without("DefaultDenyEgress").beside("open")).await;
    let text = explained(&world, &ns).await;
    let told =
        text.lines().find(|line| line.contains("not planned: opt-out load-test until")).unwrap_or_else(|| panic!("{text}"));
    assert!(told.contains("DefaultDenyEgress") && told.ends_with("approved by the platform team"), "{text}");

    apply_baseline(&world, "platform", &json!({ "namespaceSelector": team("a"), "suspend": true })).await;
    until_status(&world, "platform", "suspended", |status| status.conditions.iter().any(|c| c.reason == "Suspended")).await;
    let text = explained_as_open(&world, &ns).await;
    assert!(text.contains("platform applies, but changes nothing here for now"), "{text}");
    assert_eq!(row(&text, "platform")[3..], ["freezes", "suspend: true"], "{text}");
}

#[tokio::test]
async fn explaining_writes_nothing_speaks_json_and_ends_with_a_sentence_when_it_cannot() {
    if skipped_without_audit_log() {
        return;
    }
    let world = World::new().await.unwrap();
    let writes = Writes::from_now(&world);
    let json = explain(&world, &["default", "--output=json"]).await;
    assert_eq!(json.status.code(), Some(1), "it is not protected");
    let json: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!((&json["namespace"], &json["verdict"]), (&json!("default"), &json!("no baseline applies")));
    assert_eq!(json["protected"], false);
    let unknown = explain(&world, &["no-such-namespace"]).await;
    assert_eq!(unknown.status.code(), Some(2));
    assert_eq!(String::from_utf8_lossy(&unknown.stderr), "error: there is no namespace \"no-such-namespace\"\n");
    let mistyped = explain(&world, &["Team A"]).await;
    assert_eq!(mistyped.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&mistyped.stderr).contains("lower-case letters, digits and '-'"));
    assert_eq!(writes.all(), [], "an explanation writes nothing, no Lease either");
}

#[tokio::test]
async fn whoever_may_not_list_is_told_what_is_missing() {
    let world = World::new().await.unwrap();
    let kubeconfig = world.plane().service_account_kubeconfig("default", "default").await.unwrap();
    let mut command = Command::new(Operator::binary().unwrap());
    command.args(["explain", "namespace", "default", "--timeout=8"]).env("KUBECONFIG", kubeconfig);
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        said.contains("not everything could be listed within 8s: you may not list and watch namespaces, networkpolicies, "),
        "{said}"
    );
    assert!(
        said.contains(". A cluster administrator can grant that: kubectl create clusterrolebinding NAME --clusterrole=view"),
        "{said}"
    );
    assert_eq!(said.lines().count(), 1, "{said}");
}

/// Does what the message of `explain` recommends.
#[tokio::test]
async fn whoever_may_view_the_cluster_may_explain_a_namespace_and_may_change_nothing() {
    let mut world = World::new().await.unwrap();
    apply_baseline(&world, "platform", &json!({ "rollout": {} })).await;
    world.start_operator().await.unwrap();
    let ns = world.namespace("explained", &[]).await.unwrap();
    until_holds(&world, &ns, &Plan::of("platform").asked_or_not()).await;
    until_ready(&world, "platform").await;
    let viewer = World::unique("viewer");
    let binding = World::unique("viewer");
    let create = ["create", "clusterrolebinding", &binding, "--clusterrole=view", &format!("--user={viewer}")];
    world.plane().run_kubectl(&create).unwrap();
    let client = world.user(&viewer, &[]).await.unwrap();
    let (ours, opt_outs) = ("policybaselines", "baselineoptouts");
    let may = async || can_i(&client, "list", "policybaseline.io", ours, None).await;
    world.eventually("a viewer may list baselines", TIMEOUT, may).await.unwrap();
    for (verb, resource, is_allowed) in
        [("get", opt_outs, true), ("create", opt_outs, false), ("patch", ours, false), ("delete", opt_outs, false)]
    {
        assert_eq!(can_i(&client, verb, "policybaseline.io", resource, None).await.unwrap(), is_allowed, "{verb} {resource}");
    }
    let mut command = Command::new(Operator::binary().unwrap());
    command.args(["explain", "namespace", &ns]).env("KUBECONFIG", world.plane().user_kubeconfig(&viewer, &[]).unwrap());
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{text} {}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("platform applies, and the namespace holds exactly what is planned\n"), "{text}");
    assert!(!text.contains("not read: "), "{text}");
    world.plane().run_kubectl(&["delete", "clusterrolebinding", &binding]).unwrap();
}

#[tokio::test]
async fn whoever_may_not_read_everything_is_told_what_may_be_false() {
    let world = World::new().await.unwrap();
    world.discard();
    apply_baseline(&world, "platform", &json!({ "rollout": {} })).await;
    // So that the namespace is newer.
    a_second_later(&world).await;
    let ns = world.namespace("explained", &[]).await.unwrap();
    let rule =
        |group: &str, resources: Value| json!({ "apiGroups": [group], "resources": resources, "verbs": ["list", "watch"] });
    let rules = [
        rule("", json!(["namespaces", "services", "pods"])),
        rule("networking.k8s.io", json!(["networkpolicies"])),
        rule("policybaseline.io", json!(["policybaselines", "baselineoptouts"])),
        rule("coordination.k8s.io", json!(["leases"])),
        rule("discovery.k8s.io", json!(["endpointslices"])),
        rule("apiregistration.k8s.io", json!(["apiservices"])),
        rule("apiextensions.k8s.io", json!(["customresourcedefinitions"])),
    ];
    let api = "rbac.authorization.k8s.io";
    let reader =
        json!({ "apiVersion": format!("{api}/v1"), "kind": "ClusterRole", "metadata": { "name": "reader" }, "rules": rules });
    let binding = json!({
        "apiVersion": format!("{api}/v1"), "kind": "ClusterRoleBinding", "metadata": { "name": "reader" },
        "roleRef": { "apiGroup": api, "kind": "ClusterRole", "name": "reader" },
        "subjects": [{ "kind": "ServiceAccount", "name": "default", "namespace": "default" }],
    });
    for object in [reader, binding] {
        world.apply_yaml(&object.to_string()).await.unwrap();
    }
    let kubeconfig = world.plane().service_account_kubeconfig("default", "default").await.unwrap();
    let as_reader = async |output: &str| {
        let mut command = Command::new(Operator::binary().unwrap());
        command.args(["explain", "namespace", &ns, "--timeout=60", output]).env("KUBECONFIG", &kubeconfig);
        command.env("NO_PROXY", "127.0.0.1,localhost").env("POD_NAMESPACE", SYSTEM_NAMESPACE);
        let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
        assert_eq!(output.status.code(), Some(1), "nothing is in place: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let text = as_reader("--output=text").await;
    let unread: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("not read: ")?.split(": ").next()).collect();
    let webhooks = "validatingwebhookconfigurations, mutatingwebhookconfigurations";
    let dns = "daemonset kube-system/node-local-dns, daemonset openshift-dns/dns-default";
    assert_eq!(unread, ["controllerrevisions", webhooks, dns], "{text}");
    let granted = "You may lack the permission to read that. A cluster administrator can grant that: kubectl create clusterrolebinding NAME --clusterrole=view --user=YOU";
    assert!(text.lines().any(|line| line == granted), "{text}");
    let json: Value = serde_json::from_str(&as_reader("--output=json").await).unwrap();
    assert_eq!(json["unread"][1]["resources"], json!(webhooks.split(", ").collect::<Vec<_>>()), "{json}");
    assert!(json["unread"][0]["means"].as_str().unwrap().contains("still has its former policies"), "{json}");
}
