//! Recorded flows joined with a baseline: each flow that it would deny is found, and no other, and what is suggested lets all of them through.

mod recordings;
mod suggestions;
mod tiers;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{BrokenFlows, Recording, WouldBreak};
use crate::{
    policy::{
        flow::{
            FlowDecision, FlowDump, FlowSnapshot,
            tests::{
                namespace, pod, policy,
                properties::{flow_texts, objects},
                snapshot, with_ports,
            },
        },
        preview::PreviewedBaseline,
    },
    testkit::golden,
};

fn baseline(spec: &Value) -> PreviewedBaseline {
    let mut spec = spec.clone();
    spec["mode"] = "Enforce".into();
    let object = json!({"apiVersion": "policybaseline.io/v1alpha1", "kind": "PolicyBaseline", "metadata": {"name": "platform"}, "spec": spec});
    PreviewedBaseline::read(&object.to_string(), "policy-baseline-system").unwrap()
}

fn judge(world: &FlowSnapshot, lines: &[String], baseline: Option<&PreviewedBaseline>) -> WouldBreak {
    let mut recording = Recording::new(world.clone(), baseline);
    for (line, number) in lines.iter().zip(1..) {
        recording.line(line, || format!("flows.json, line {number}")).unwrap();
    }
    recording.judge(baseline)
}

/// A shop without policies, its DNS, and monitoring.
fn shop() -> Vec<Value> {
    let web = |number: u16, hash: &str| {
        let labels = json!({"app": "web", "pod-template-hash": hash});
        pod(&format!("shop/web-{hash}-{number}"), labels, &[&format!("10.0.0.{number}")])
    };
    vec![
        namespace("shop", json!({})),
        namespace("kube-system", json!({})),
        web(1, "7d4b"),
        web(2, "7d4b"),
        with_ports(pod("shop/db-0", json!({"app": "db"}), &["10.0.0.9"]), &[("sql", 5432)]),
        with_ports(pod("kube-system/coredns-1", json!({"k8s-app": "kube-dns"}), &["10.0.1.1"]), &[("dns", 8053)]),
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"namespace": "shop", "name": "db"},
            "spec": {"clusterIPs": ["10.96.0.7"], "selector": {"app": "db"}, "ports": [{"port": 5432}]}}),
    ]
}

fn line(from: &str, to: &str, port: &str) -> String {
    json!({"from": from, "to": to, "port": port, "time": "2026-11-30T10:00:00Z"}).to_string()
}

fn hubble(pod_name: &str, labels: &[&str], to: &str, is_reply: bool) -> String {
    let flow = json!({
        "time": "2026-11-30T11:30:00.5Z", "verdict": "FORWARDED", "is_reply": is_reply,
        "IP": {"source": "10.0.0.77", "destination": to}, "l4": {"TCP": {"destination_port": 443}},
        "source": {"namespace": "shop", "pod_name": pod_name, "labels": labels}, "destination": {"labels": ["reserved:world"]},
    });
    json!({"flow": flow}).to_string()
}

/// Applies what is suggested, and judges again.
fn repeated(objects: &[Value], found: &WouldBreak, lines: &[String], baseline: Option<&PreviewedBaseline>) -> WouldBreak {
    let suggested = found.suggestions.iter().map(|suggestion| serde_json::to_value(&suggestion.policy).unwrap());
    let after = snapshot(&objects.iter().cloned().chain(suggested).collect::<Vec<_>>());
    judge(&after, lines, baseline)
}

#[test]
fn each_flow_that_a_baseline_would_deny_is_found_and_no_other() {
    let objects = shop();
    let platform = baseline(&json!({}));
    let lines = [
        line("shop/web-7d4b-1", "shop/db-0", "5432"),
        line("shop/web-7d4b-2", "10.0.0.9", "5432"),
        line("shop/web-7d4b-1", "kube-system/coredns-1", "UDP/53"),
        hubble("web-7d4b-1", &["k8s:app=web"], "10.96.0.7", false),
        line("192.0.2.1", "192.0.2.2", "80"),
        line("shop/gone", "shop/db-0", "5432"),
        hubble("web-58c9-1", &["k8s:app=web"], "203.0.113.7", false),
        hubble("web-58c9-1", &["k8s:app=web"], "203.0.113.8", false),
        hubble("nightly-1", &["k8s:app=nightly"], "203.0.113.8", false),
        hubble("web-58c9-1", &["k8s:app=web"], "203.0.113.7", true),
        "{\"flow\": {".to_owned(),
    ];
    let found = judge(&snapshot(&objects), &lines, Some(&platform));
    golden("src/policy/would_break/golden.txt", &found.to_string());
    assert_eq!((found.flows, found.not_allowed, found.unreadable), (6, 5, 1));
    let again = repeated(&objects, &found, &lines, Some(&platform));
    assert_eq!((again.not_allowed, again.suggestions.len()), (0, 0), "{again}");
    assert!(again.to_string().starts_with(
        "nothing that was judged would break: of 6 recorded flows, none would be denied once the baseline platform"
    ));
}

#[test]
fn without_a_baseline_the_policies_that_exist_are_judged() {
    let closed = policy("shop/closed", json!({"podSelector": {"matchLabels": {"app": "db"}}}));
    let objects: Vec<Value> = shop().into_iter().chain([closed]).collect();
    let lines = [line("shop/web-7d4b-1", "shop/db-0", "5432"), line("shop/db-0", "shop/web-7d4b-1", "80")];
    let found = judge(&snapshot(&objects), &lines, None);
    assert_eq!((found.flows, found.not_allowed), (2, 1));
    assert_eq!(found.broken[0].by, ["ingress closed"]);
    // With a baseline, what is denied already is told apart from what the baseline would deny.
    let found = judge(&snapshot(&objects), &lines, Some(&baseline(&json!({"policies": ["DefaultDenyIngress"]}))));
    let told: Vec<(&str, bool)> = found.broken.iter().map(|flows| (&*flows.from, flows.already)).collect();
    assert_eq!(told, [("shop/db", false), ("shop/web", true)]);
}

#[test]
fn a_new_version_of_a_baseline_replaces_the_policies_of_the_former_one() {
    let allow =
        json!([{"name": "db", "ingress": [{"from": [{"sameNamespace": {}}]}], "egress": [{"to": [{"sameNamespace": {}}]}]}]);
    let [old, new] = [baseline(&json!({"allows": allow})), baseline(&json!({}))];
    let world = snapshot(&shop());
    let shop_namespace = world.namespaces.iter().find(|one| one.name == "shop").unwrap();
    let stored: Vec<Value> = old.planned(shop_namespace).into_iter().map(|planned| planned.object("shop", None)).collect();
    assert_eq!(stored.len(), 4);
    let lines = [line("shop/web-7d4b-1", "shop/db-0", "5432")];
    let installed = snapshot(&shop().into_iter().chain(stored).collect::<Vec<_>>());
    assert_eq!(judge(&installed, &lines, None).not_allowed, 0);
    assert_eq!(judge(&installed, &lines, Some(&old)).not_allowed, 0);
    assert_eq!(judge(&installed, &lines, Some(&new)).not_allowed, 1, "the allow would be gone");
}

#[test]
fn what_a_suggestion_would_deny_is_let_through_by_another_one() {
    // Only the pod without labels is isolated. A policy for it is one for every pod of the namespace.
    let only = json!({"podSelector": {"matchExpressions": [{"key": "app", "operator": "DoesNotExist"}]}});
    let mut objects = shop();
    objects.extend([pod("shop/bare", json!({}), &["10.0.0.30"]), policy("shop/only", only)]);
    let lines = [line("192.0.2.1", "shop/bare", "80"), line("192.0.2.1", "shop/db-0", "5432")];
    let found = judge(&snapshot(&objects), &lines, None);
    assert_eq!((found.not_allowed, found.suggestions.len()), (1, 2));
    assert_eq!(repeated(&objects, &found, &lines, None).not_allowed, 0);
}

#[test]
fn the_suggestions_deny_nothing_before_the_baseline_is_there() {
    let objects = shop();
    let lines = [line("shop/web-7d4b-1", "shop/db-0", "5432"), line("shop/web-7d4b-1", "kube-system/coredns-1", "UDP/53")];
    let found = judge(&snapshot(&objects), &lines, Some(&baseline(&json!({}))));
    assert_eq!((found.not_allowed, found.suggestions.len()), (1, 3), "DNS is in no baseline yet: {found}");
    assert_eq!(repeated(&objects, &found, &lines, None).not_allowed, 0);
}

#[test]
fn of_several_baselines_only_the_previewed_one_counts_where_it_applies() {
    let allow =
        json!([{"name": "db", "ingress": [{"from": [{"sameNamespace": {}}]}], "egress": [{"to": [{"sameNamespace": {}}]}]}]);
    let mut other = policy(
        "shop/baseline-allow-db",
        json!({"podSelector": {}, "ingress": [{}], "egress": [{}], "policyTypes": ["Ingress", "Egress"]}),
    );
    other["metadata"]["labels"] = json!({"policybaseline.io/baseline": "old"});
    let installed = snapshot(&shop().into_iter().chain([other]).collect::<Vec<_>>());
    let lines = [line("shop/web-7d4b-1", "shop/db-0", "5432")];
    let replaced = judge(&installed, &lines, Some(&baseline(&json!({}))));
    assert_eq!(replaced.not_allowed, 1);
    assert_eq!(
        replaced.warnings,
        [
            "in 1 namespace other baselines have policies (old), and the baseline platform is judged as if it replaced them. The operator does that only if its priority is higher. Compare spec.priority"
        ]
    );
    assert_eq!(judge(&installed, &lines, Some(&baseline(&json!({"allows": allow})))).not_allowed, 0);
    let elsewhere = judge(&installed, &lines, Some(&baseline(&json!({"excludeNamespaces": ["shop"]}))));
    assert!(!elsewhere.warnings.iter().any(|warning| warning.contains("priority")), "{:?}", elsewhere.warnings);
}

#[test]
fn pods_on_the_host_network_are_let_in_by_all_their_addresses() {
    let host = |node: u8| {
        let mut nginx = pod(&format!("ingress/nginx-{node}"), json!({"app": "nginx"}), &[&format!("192.168.9.{node}")]);
        nginx["spec"] = json!({"hostNetwork": true, "nodeName": format!("node-9{node}")});
        nginx
    };
    let objects: Vec<Value> = shop().into_iter().chain([namespace("ingress", json!({})), host(1), host(2)]).collect();
    let lines = [line("ingress/nginx-1", "shop/db-0", "80"), line("ingress/nginx-2", "shop/db-0", "80")];
    let platform = baseline(&json!({"excludeNamespaces": ["ingress"]}));
    let found = judge(&snapshot(&objects), &lines, Some(&platform));
    assert_eq!((found.not_allowed, found.suggestions.len()), (2, 1), "{found}");
    assert_eq!(repeated(&objects, &found, &lines, Some(&platform)).not_allowed, 0);
}

#[test]
fn an_address_that_a_policy_names_is_judged_apart_from_the_others() {
    let allow = json!([{"name": "api", "egress": [{"to": [{"ipBlock": {"cidr": "203.0.113.7/32"}}]}]}]);
    let found = |addresses: [&str; 2]| {
        let lines = addresses.map(|address| hubble("web-7d4b-1", &[], address, false));
        judge(&snapshot(&shop()), &lines, Some(&baseline(&json!({"allows": allow})))).not_allowed
    };
    assert_eq!(found(["203.0.113.7", "203.0.113.7"]), 0);
    assert_eq!(found(["203.0.113.7", "203.0.113.8"]), 1);
    assert_eq!(found(["203.0.113.8", "203.0.113.7"]), 1);
}

#[test]
fn the_dns_of_a_cluster_is_found_in_its_dump() {
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"namespace": "kube-system", "name": "kube-dns", "labels": {"k8s-app": "kube-dns"}},
        "spec": {"clusterIP": "10.96.0.10", "clusterIPs": ["10.96.0.10"], "selector": {"k8s-app": "kube-dns"},
            "ports": [{"name": "dns", "port": 53, "protocol": "UDP", "targetPort": 8053}]}});
    let objects: Vec<Value> = shop().into_iter().chain([service]).collect();
    let dump = FlowDump::read(&json!({"kind": "List", "apiVersion": "v1", "items": objects}).to_string()).unwrap();
    let lines = [line("shop/db-0", "kube-system/coredns-1", "UDP/8053")];
    let denied = |baseline: &PreviewedBaseline| judge(&snapshot(&objects), &lines, Some(baseline)).not_allowed;
    let unaware = baseline(&json!({}));
    assert_eq!(denied(&unaware), 1);
    assert_eq!(denied(&unaware.in_cluster(&dump.facts, std::time::Instant::now())), 0, "the pods answer at 8053");

    let cache = json!({"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"namespace": "kube-system", "name": "node-local-dns"},
        "spec": {"selector": {"matchLabels": {"k8s-app": "node-local-dns"}}, "template": {"metadata": {"labels": {"k8s-app": "node-local-dns"}},
            "spec": {"hostNetwork": true, "containers": [{"args": ["-localip", "169.254.20.10"]}]}}}});
    let objects: Vec<Value> = shop().into_iter().chain([cache]).collect();
    let dump = FlowDump::read(&json!({"kind": "List", "apiVersion": "v1", "items": objects}).to_string()).unwrap();
    let local = [line("shop/db-0", "169.254.20.10", "UDP/53")];
    let aware = baseline(&json!({})).in_cluster(&dump.facts, std::time::Instant::now());
    assert_eq!(judge(&snapshot(&objects), &local, Some(&aware)).not_allowed, 0);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn after_the_suggestions_no_recorded_flow_is_denied(objects in objects(), closes in any::<bool>()) {
        let world = snapshot(&objects);
        let lines: Vec<String> = flow_texts(&world).into_iter().map(|[from, to, port]| line(&from, &to, &port)).collect();
        let platform = closes.then(|| baseline(&json!({})));
        let found = judge(&world, &lines, platform.as_ref());
        let again = repeated(&objects, &found, &lines, platform.as_ref());
        let is_new = |flows: &&BrokenFlows| flows.decision == FlowDecision::Denied && !flows.already;
        let denied = |found: &WouldBreak| found.broken.iter().filter(is_new).count();
        prop_assert_eq!(denied(&again), 0, "{}", again);
        prop_assert_eq!(again.flows, found.flows);
    }
}
