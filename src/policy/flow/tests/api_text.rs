//! A second evaluator, as naive as possible: it follows the text of the API reference line by line, without classes, numbers or sets.

use std::{collections::BTreeMap, net::IpAddr};

use ipnet::IpNet;
use k8s_openapi::{
    api::networking::v1::{NetworkPolicyPeer, NetworkPolicyPort},
    apimachinery::pkg::{apis::meta::v1::LabelSelector, util::intstr::IntOrString},
};

use super::{Flow, FlowSnapshot, Party, Way};
use crate::policy::flow::objects::{FlowPod, FlowPolicy};

/// What the text says about one direction of a flow.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Text {
    Allowed,
    Denied,
    Undefined,
}

/// Follows the text.
pub fn follow(snapshot: &FlowSnapshot, flow: &Flow, way: Way) -> Text {
    let (own, peer) = if way == Way::Egress { (flow.from, flow.to) } else { (flow.to, flow.from) };
    let Some(own_pod) = own.pod.map(|pod| &snapshot.pods[pod]) else { return Text::Allowed };
    let peer_pod = peer.pod.map(|pod| &snapshot.pods[pod]);
    if own_pod.has_ended || peer_pod.is_some_and(|pod| pod.has_ended) {
        return Text::Undefined;
    }
    // "A pod cannot block access to itself."
    if own.pod == peer.pod {
        return Text::Allowed;
    }
    // "... OR if the traffic source is the pod's local node"
    let is_local_node = match peer_pod {
        Some(pod) => (pod.on_host_network || own_pod.on_host_network) && pod.node == own_pod.node,
        None => own_pod.node_addresses.contains(&peer.address.unwrap()),
    };
    if is_local_node {
        return Text::Allowed;
    }
    // "NetworkPolicy behaviour for hostNetwork pods is undefined": a plugin treats such a pod as any other, or as its node.
    let mut possible = vec![allows(snapshot, own_pod, peer, flow, way)];
    if peer_pod.is_some_and(|pod| pod.on_host_network) {
        possible.push(allows(snapshot, own_pod, Party { pod: None, ..peer }, flow, way));
    }
    if own_pod.on_host_network {
        // Policies are not about a node.
        possible.push(true);
    }
    match (possible.contains(&true), possible.contains(&false)) {
        (true, true) => Text::Undefined,
        (true, false) => Text::Allowed,
        (false, _) => Text::Denied,
    }
}

/// Whether a NetworkPolicy isolates a pod.
pub fn isolates(snapshot: &FlowSnapshot, own: &FlowPod, way: Way) -> bool {
    snapshot.policies.iter().any(|policy| applies(policy, own, way))
}

fn applies(policy: &FlowPolicy, own: &FlowPod, way: Way) -> bool {
    let spec = &policy.spec;
    let types = spec.policy_types.clone().unwrap_or_default();
    let is_about = if types.is_empty() {
        way == Way::Ingress || spec.egress.as_ref().is_some_and(|rules| !rules.is_empty())
    } else {
        types.contains(&if way == Way::Egress { "Egress".to_owned() } else { "Ingress".to_owned() })
    };
    policy.namespace == own.namespace && is_about && selects(spec.pod_selector.as_ref(), &own.labels)
}

fn allows(snapshot: &FlowSnapshot, own: &FlowPod, peer: Party, flow: &Flow, way: Way) -> bool {
    let policies: Vec<&FlowPolicy> = snapshot.policies.iter().filter(|policy| applies(policy, own, way)).collect();
    // "Traffic is allowed to a pod if there are no NetworkPolicies selecting the pod ... OR if the traffic matches at least one rule across
    // all of the NetworkPolicy objects whose podSelector matches the pod."
    policies.is_empty() || policies.iter().any(|policy| has_rule(snapshot, policy, peer, flow, way))
}

fn has_rule(snapshot: &FlowSnapshot, policy: &FlowPolicy, peer: Party, flow: &Flow, way: Way) -> bool {
    let matches = |peers: &Option<Vec<NetworkPolicyPeer>>, ports: &Option<Vec<NetworkPolicyPort>>| {
        let (peers, ports) = (peers.clone().unwrap_or_default(), ports.clone().unwrap_or_default());
        let is_peer = peers.is_empty() || peers.iter().any(|one| is_peer(snapshot, policy, one, peer));
        is_peer && (ports.is_empty() || ports.iter().any(|one| is_port(snapshot, one, flow)))
    };
    match way {
        Way::Egress => policy.spec.egress.iter().flatten().any(|rule| matches(&rule.to, &rule.ports)),
        Way::Ingress => policy.spec.ingress.iter().flatten().any(|rule| matches(&rule.from, &rule.ports)),
    }
}

fn is_peer(snapshot: &FlowSnapshot, policy: &FlowPolicy, one: &NetworkPolicyPeer, peer: Party) -> bool {
    if let Some(block) = &one.ip_block {
        let is_in = |cidr: &String| cidr.parse::<IpNet>().unwrap().contains(&peer.address.unwrap());
        return is_in(&block.cidr) && !block.except.iter().flatten().any(is_in);
    }
    let Some(pod) = peer.pod.map(|pod| &snapshot.pods[pod]) else { return false };
    let is_namespace = match &one.namespace_selector {
        None => pod.namespace == policy.namespace,
        Some(selector) => {
            let namespace = snapshot.namespaces.iter().find(|namespace| namespace.name == pod.namespace).unwrap();
            selects(Some(selector), &namespace.labels)
        }
    };
    is_namespace && selects(one.pod_selector.as_ref(), &pod.labels)
}

fn is_port(snapshot: &FlowSnapshot, one: &NetworkPolicyPort, flow: &Flow) -> bool {
    let protocol = one.protocol.as_deref().unwrap_or("TCP");
    let is_number = match &one.port {
        None => true,
        Some(IntOrString::Int(first)) => (*first..=one.end_port.unwrap_or(*first)).contains(&i32::from(flow.port)),
        Some(IntOrString::String(name)) => {
            let pod = flow.to.pod.map(|pod| &snapshot.pods[pod]);
            let is_it = |port: &crate::policy::flow::objects::ContainerPortName| {
                port.name == *name && port.number == flow.port && port.protocol.into_str() == protocol
            };
            pod.is_some_and(|pod| pod.ports.iter().any(is_it))
        }
    };
    protocol == flow.protocol.into_str() && is_number
}

/// Whether a selector selects an object with these labels.
pub fn selects(selector: Option<&LabelSelector>, labels: &BTreeMap<String, String>) -> bool {
    let Some(selector) = selector else { return true };
    let has_labels = selector.match_labels.iter().flatten().all(|(key, value)| labels.get(key) == Some(value));
    let meets = |requirement: &k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelectorRequirement| {
        let (value, values) = (labels.get(&requirement.key), requirement.values.clone().unwrap_or_default());
        match &*requirement.operator {
            "In" => value.is_some_and(|value| values.contains(value)),
            "NotIn" => !value.is_some_and(|value| values.contains(value)),
            "Exists" => value.is_some(),
            "DoesNotExist" => value.is_none(),
            other => panic!("{other}"),
        }
    };
    has_labels && selector.match_expressions.iter().flatten().all(meets)
}

/// Parses an address.
pub fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}
