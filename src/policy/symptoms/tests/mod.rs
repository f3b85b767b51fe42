//! Each cause in a world where it is found, and in one where it is ruled out.

mod dns;
mod ends;
mod random;
mod rules;
mod texts;
mod traffic;

use serde_json::{Value, json};

use super::{
    DnsAskers, Symptom, SymptomAnswer, SymptomSurroundings, TrafficQuestion,
    cause::{CauseName, CauseState},
    dns_hangs, of_traffic,
};
use crate::policy::flow::{
    CompiledPolicies, FlowEnd,
    tests::{namespace, pod, policy, snapshot, with_ports},
};

/// A ready pod that was created before, with its own node.
fn ready(id: &str, labels: Value, addresses: &[&str], node: &str) -> Value {
    let mut pod = pod(id, labels, addresses);
    pod["metadata"]["creationTimestamp"] = "2026-01-02T00:00:00Z".into();
    pod["spec"]["nodeName"] = node.into();
    pod["status"]["conditions"] = json!([{"type": "Ready", "status": "True"}]);
    pod["status"]["hostIPs"] = json!([{"ip": if node == "node-1" { "192.168.0.1" } else { "192.168.0.2" }}]);
    pod
}

/// A policy that is older than the pods.
fn old(id: &str, spec: Value) -> Value {
    let mut policy = policy(id, spec);
    policy["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z".into();
    policy
}

fn service(id: &str, spec: Value) -> Value {
    let (namespace, name) = id.split_once('/').unwrap();
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"namespace": namespace, "name": name}, "spec": spec})
}

/// The endpoints of a Service, all ready.
fn slice(service: &str, addresses: &[&str]) -> Value {
    let (namespace, name) = service.split_once('/').unwrap();
    let endpoints: Vec<Value> =
        addresses.iter().map(|address| json!({"addresses": [address], "conditions": {"ready": true}})).collect();
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"namespace": namespace, "name": format!("{name}-1"), "labels": {"kubernetes.io/service-name": name}},
        "addressType": "IPv4", "endpoints": endpoints, "ports": [],
    })
}

const DNS_PORTS: [(&str, u16); 2] = [("UDP", 53), ("TCP", 53)];

fn dns_peer() -> Value {
    json!({
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}},
        "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}},
    })
}

fn ports(of: &[(&str, u16)]) -> Value {
    of.iter().map(|(protocol, port)| json!({"protocol": protocol, "port": port})).collect()
}

/// A closed shop in which everything works: its web server reaches its database and DNS.
fn shop() -> Vec<Value> {
    let mut coredns = ready("kube-system/coredns-1", json!({"k8s-app": "kube-dns"}), &["10.0.9.1"], "node-2");
    coredns["spec"]["containers"][0]["ports"] = json!([
        {"name": "dns", "containerPort": 53, "protocol": "UDP"}, {"name": "dns-tcp", "containerPort": 53, "protocol": "TCP"},
    ]);
    let db = |number: u16| {
        let pod = ready(&format!("shop/db-{number}"), json!({"app": "db"}), &[&format!("10.0.0.{number}")], "node-2");
        with_ports(pod, &[("sql", 5432)])
    };
    vec![
        namespace("kube-system", json!({})),
        namespace("shop", json!({"team": "shop"})),
        namespace("reports", json!({"team": "reports"})),
        coredns,
        service(
            "kube-system/kube-dns",
            json!({"clusterIP": "10.96.0.10", "selector": {"k8s-app": "kube-dns"}, "ports": [
                {"name": "dns", "protocol": "UDP", "port": 53, "targetPort": 53},
                {"name": "dns-tcp", "protocol": "TCP", "port": 53, "targetPort": 53},
            ]}),
        ),
        slice("kube-system/kube-dns", &["10.0.9.1"]),
        ready("shop/web-1", json!({"app": "web"}), &["10.0.0.9"], "node-1"),
        db(1),
        db(2),
        ready("reports/nightly-1", json!({"app": "nightly"}), &["10.0.1.1"], "node-1"),
        service(
            "shop/db",
            json!({"clusterIP": "10.96.0.7", "selector": {"app": "db"}, "ports": [{"port": 5432, "targetPort": "sql"}]}),
        ),
        slice("shop/db", &["10.0.0.1", "10.0.0.2"]),
        old("shop/deny-all", json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]})),
        old(
            "shop/dns",
            json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": [{"to": [dns_peer()], "ports": ports(&DNS_PORTS)}]}),
        ),
        old(
            "shop/web-to-db",
            json!({"podSelector": {"matchLabels": {"app": "web"}}, "policyTypes": ["Egress"], "egress": [
                {"to": [{"podSelector": {"matchLabels": {"app": "db"}}}], "ports": [{"port": 5432}]},
            ]}),
        ),
        old(
            "shop/db-from-web",
            json!({"podSelector": {"matchLabels": {"app": "db"}}, "policyTypes": ["Ingress"], "ingress": [
                {"from": [{"podSelector": {"matchLabels": {"app": "web"}}}], "ports": [{"port": 5432}]},
            ]}),
        ),
    ]
}

/// The object of a kind in the shop.
fn object<'a>(objects: &'a mut [Value], kind: &str, id: &str) -> &'a mut Value {
    let is_it = |one: &&mut Value| {
        let namespace = one["metadata"]["namespace"].as_str().unwrap_or_default();
        one["kind"] == kind && format!("{namespace}/{}", one["metadata"]["name"].as_str().unwrap()) == id
    };
    objects.iter_mut().find(is_it).unwrap_or_else(|| panic!("there is no {kind} {id}"))
}

fn netpol<'a>(objects: &'a mut [Value], id: &str) -> &'a mut Value {
    object(objects, "NetworkPolicy", id)
}

/// The shop with changes.
fn changed(change: impl FnOnce(&mut Vec<Value>)) -> Vec<Value> {
    let mut objects = shop();
    change(&mut objects);
    objects
}

fn nothing_else() -> SymptomSurroundings {
    SymptomSurroundings { plugin: None, other_policies: vec![], others_are_complete: true }
}

fn dns_answer(objects: &[Value], askers: &DnsAskers) -> Result<SymptomAnswer, String> {
    let snapshot = snapshot(objects);
    dns_hangs(&CompiledPolicies::of(&snapshot), &nothing_else(), askers).map_err(|error| error.to_string())
}

/// The DNS of a pod.
fn dns_of(objects: &[Value], pod: &str) -> SymptomAnswer {
    let (namespace, name) = pod.split_once('/').unwrap();
    dns_answer(objects, &DnsAskers::Pods(FlowEnd::Pod { namespace: namespace.into(), name: name.into() })).unwrap()
}

fn try_traffic(
    objects: &[Value],
    around: &SymptomSurroundings,
    symptom: Symptom,
    (from, to, port): (&str, &str, &str),
    policy: Option<&str>,
) -> Result<SymptomAnswer, String> {
    let snapshot = snapshot(objects);
    let policy = policy.map(|policy| match policy.split_once('/') {
        Some((namespace, name)) => (Some(namespace.to_owned()), name.to_owned()),
        None => (None, policy.to_owned()),
    });
    let question =
        TrafficQuestion { symptom, from: from.parse().unwrap(), to: to.parse().unwrap(), port: port.parse().unwrap(), policy };
    of_traffic(&CompiledPolicies::of(&snapshot), around, &question).map_err(|error| error.to_string())
}

fn traffic(objects: &[Value], symptom: Symptom, asked: (&str, &str, &str)) -> SymptomAnswer {
    try_traffic(objects, &nothing_else(), symptom, asked, None).unwrap()
}

/// The state of a cause, and its evidence in one line.
fn state(answer: &SymptomAnswer, of: CauseName) -> (CauseState, String) {
    let cause = answer.causes.iter().find(|cause| cause.cause == of).unwrap_or_else(|| panic!("{of:?} was not checked"));
    assert_eq!(cause.next.is_empty(), cause.state == CauseState::RuledOut, "{cause:?}");
    (cause.state, cause.evidence.join("; "))
}

/// The causes that were found.
fn found(answer: &SymptomAnswer) -> Vec<CauseName> {
    answer.causes.iter().filter(|cause| cause.is_found()).map(|cause| cause.cause).collect()
}

/// A cause is found, and its evidence says this.
#[track_caller]
fn is_found(answer: &SymptomAnswer, of: CauseName, evidence: &str) {
    let (state, said) = state(answer, of);
    assert_eq!(state, CauseState::Found, "{of:?}: {said}");
    assert!(said.contains(evidence), "{of:?}: {said}");
}

/// A cause is ruled out.
#[track_caller]
fn is_ruled_out(answer: &SymptomAnswer, of: CauseName) {
    let (state, said) = state(answer, of);
    assert_eq!(state, CauseState::RuledOut, "{of:?}: {said}");
}

/// Whether a cause is one is not known.
#[track_caller]
fn is_not_known(answer: &SymptomAnswer, of: CauseName, why: &str) {
    let (state, said) = state(answer, of);
    assert_eq!(state, CauseState::NotKnown, "{of:?}: {said}");
    assert!(said.contains(why), "{of:?}: {said}");
}
