//! Tests of the meaning of NetworkPolicies: each rule of the API reference, random worlds, and what a person reads.

mod answers;
mod api_text;
mod decided;
mod nodes;
pub mod properties;
mod references;
mod rules;
mod suggestions;
pub mod tier_properties;
mod tier_text;
mod tiers;
mod workloads;

use std::net::IpAddr;

use serde_json::{Value, json};

use super::{
    CompiledPolicies, FlowDump, FlowSnapshot, Way,
    judge::{DirectionVerdict, Flow, FlowDecision, Party},
    tier_judge::{TierRuleRef, TierRuling},
};
use crate::api::peers::Protocol;

/// Reads objects as a dump has them.
pub fn snapshot(objects: &[Value]) -> FlowSnapshot {
    let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
    let dump = FlowDump::read(&list.to_string()).unwrap();
    assert_eq!(dump.warnings, [] as [&str; 0]);
    dump.objects.into_iter().collect()
}

/// A namespace.
pub fn namespace(name: &str, mut labels: Value) -> Value {
    labels["kubernetes.io/metadata.name"] = name.into();
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
}

/// A pod `namespace/name` with these addresses.
pub fn pod(id: &str, labels: Value, addresses: &[&str]) -> Value {
    let (namespace, name) = id.split_once('/').unwrap();
    let ips: Vec<Value> = addresses.iter().map(|ip| json!({"ip": ip})).collect();
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"namespace": namespace, "name": name, "labels": labels},
        "spec": {"nodeName": "node-1", "containers": [{"name": "c"}]},
        "status": {"phase": "Running", "podIPs": ips, "hostIPs": [{"ip": "192.168.0.1"}]},
    })
}

/// The pod with these named TCP ports.
pub fn with_ports(mut pod: Value, ports: &[(&str, u16)]) -> Value {
    let ports: Value = ports.iter().map(|(name, number)| json!({"name": name, "containerPort": number})).collect();
    pod["spec"]["containers"][0]["ports"] = ports;
    pod
}

/// A policy `namespace/name`.
pub fn policy(id: &str, spec: Value) -> Value {
    let (namespace, name) = id.split_once('/').unwrap();
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"namespace": namespace, "name": name}, "spec": spec,
    })
}

/// An AdminNetworkPolicy, BaselineAdminNetworkPolicy or ClusterNetworkPolicy.
pub fn cluster_policy(kind: &str, name: &str, spec: Value) -> Value {
    let version = if kind == "ClusterNetworkPolicy" { "v1alpha2" } else { "v1alpha1" };
    json!({"apiVersion": format!("policy.networking.k8s.io/{version}"), "kind": kind, "metadata": {"name": name}, "spec": spec})
}

/// A node.
pub fn node(name: &str, labels: Value, addresses: &[&str]) -> Value {
    let addresses: Vec<Value> = addresses.iter().map(|address| json!({"type": "InternalIP", "address": address})).collect();
    json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}, "status": {"addresses": addresses}})
}

/// A pod by its name, with the address of its first family, or an address.
fn party(snapshot: &FlowSnapshot, text: &str) -> Party {
    if let Some((namespace, name)) = text.split_once('/') {
        let pod = snapshot.pod(namespace, name).unwrap();
        return Party { pod: Some(pod), address: snapshot.pods[pod].addresses.first().copied() };
    }
    Party { pod: None, address: Some(text.parse::<IpAddr>().unwrap()) }
}

fn flow(snapshot: &FlowSnapshot, from: &str, to: &str, port: (Protocol, u16)) -> Flow {
    Flow { from: party(snapshot, from), to: party(snapshot, to), protocol: port.0, port: port.1 }
}

/// What policies say about a flow, in words: `allowed by a/b egress[0].to[1].ports[2]`, `denied by a/b a/c`, `not isolated`.
fn said(verdict: &DirectionVerdict<'_>) -> String {
    let policy = |policy: &super::objects::PolicyRef<'_>| format!("{}/{}", policy.namespace, policy.name);
    let entry = |name: &str, index: Option<usize>| index.map(|index| format!(" {name}{index}")).unwrap_or_default();
    let tier_rules = |by: &[TierRuleRef<'_>]| {
        let rule = |rule: &TierRuleRef<'_>| {
            format!("{} rule{}{}{}", rule.policy.name, rule.rule, entry("peer", rule.peer), entry("port", rule.port))
        };
        by.iter().map(rule).collect::<Vec<_>>().join(", ")
    };
    let rules = |by: &[super::judge::RuleRef<'_>]| -> String {
        let rule = |rule: &super::judge::RuleRef<'_>| {
            format!("{} rule{}{}{}", policy(&rule.policy), rule.rule, entry("peer", rule.peer), entry("port", rule.port))
        };
        by.iter().map(rule).collect::<Vec<_>>().join(", ")
    };
    match verdict {
        DirectionVerdict::Allowed { by } => format!("allowed by {}", rules(by)),
        DirectionVerdict::PeerOnHostNetwork { by } => format!("undecided by {}", rules(by)),
        DirectionVerdict::Denied { by } => format!("denied by {}", by.iter().map(policy).collect::<Vec<_>>().join(", ")),
        DirectionVerdict::Unread { by } => format!("unread {}", by.iter().map(policy).collect::<Vec<_>>().join(", ")),
        DirectionVerdict::AllowedByTier { by } => format!("allowed by {}", tier_rules(by)),
        DirectionVerdict::DeniedByTier { by } => format!("denied by {}", tier_rules(by)),
        DirectionVerdict::Unclear { by } => {
            let ruling = |one: &TierRuling<'_>| format!("{} {:?} {:?}", tier_rules(&[one.rule]), one.action, one.doubt);
            format!("unclear {}", by.iter().map(ruling).collect::<Vec<_>>().join(", "))
        }
        DirectionVerdict::UnreadTier { by } => {
            format!("unread {}", by.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))
        }
        DirectionVerdict::NotIsolated => "not isolated".into(),
        DirectionVerdict::OwnNode => "own node".into(),
        DirectionVerdict::Itself => "itself".into(),
        DirectionVerdict::NotAPod => "not a pod".into(),
        DirectionVerdict::OnHostNetwork => "on the host network".into(),
        DirectionVerdict::Ended => "ended".into(),
    }
}

/// What policies say in one direction about a flow to a TCP port.
fn says(snapshot: &FlowSnapshot, way: Way, from: &str, to: &str, port: u16) -> String {
    said(&CompiledPolicies::of(snapshot).judge(&flow(snapshot, from, to, (Protocol::TCP, port)), way))
}

fn decision(compiled: &CompiledPolicies<'_>, flow: &Flow) -> FlowDecision {
    compiled.judge(flow, Way::Egress).decision().max(compiled.judge(flow, Way::Ingress).decision())
}
