//! A second evaluator of the tiers, as naive as possible: it follows the text of the API in the objects themselves. Where the text leaves a choice,
//! or the objects do not have what a rule needs, it tries every possibility.

use std::collections::BTreeSet;

use ipnet::IpNet;
use serde_json::Value;

use super::{
    Flow, FlowSnapshot, Way,
    api_text::{self, Text, isolates, selects},
};
use crate::policy::flow::objects::FlowPod;

/// A flow in one direction, and all objects as they are written.
struct Case<'a> {
    objects: &'a [Value],
    snapshot: &'a FlowSnapshot,
    flow: &'a Flow,
    way: Way,
    own: &'a FlowPod,
    peer: Option<&'a FlowPod>,
}

/// Follows the text for the tiers, and for NetworkPolicies.
pub fn follow(objects: &[Value], snapshot: &FlowSnapshot, flow: &Flow, way: Way) -> Text {
    let by_policies = api_text::follow(snapshot, flow, way);
    let (own, peer) = if way == Way::Egress { (flow.from, flow.to) } else { (flow.to, flow.from) };
    let Some(own_pod) = own.pod.map(|pod| &snapshot.pods[pod]) else { return by_policies };
    let peer_pod = peer.pod.map(|pod| &snapshot.pods[pod]);
    let has_ended = own_pod.has_ended || peer_pod.is_some_and(|pod| pod.has_ended);
    // "Note that host-networked pods are not included in subject selection."
    // "A Pod connecting directly to its own Pod IP is never subject to ClusterNetworkPolicy enforcement."
    if has_ended || own_pod.on_host_network || own.pod == peer.pod {
        return by_policies;
    }
    let case = Case { objects, snapshot, flow, way, own: own_pod, peer: peer_pod };
    let mut possible = BTreeSet::new();
    for admin in case.actions("Admin") {
        match admin {
            Some(action) if action != "Pass" => possible.insert(action != "Deny"),
            // "v1.NetworkPolicy always makes a final decision for selected pods."
            _ if isolates(snapshot, own_pod, way) => match by_policies {
                Text::Allowed => possible.insert(true),
                Text::Denied => possible.insert(false),
                Text::Undefined => return Text::Undefined,
            },
            // "If a given connection wasn't allowed or denied by any of the tiers, the default kubernetes policy is applied"
            _ => {
                possible.extend(case.actions("Baseline").into_iter().map(|action| action != Some("Deny")));
                false
            }
        };
    }
    match (possible.contains(&true), possible.contains(&false)) {
        (true, true) => Text::Undefined,
        (true, false) => Text::Allowed,
        (false, _) => Text::Denied,
    }
}

impl<'a> Case<'a> {
    /// What the tier may do: the action of the rule that decides, or none.
    fn actions(&self, tier: &str) -> BTreeSet<Option<&'a str>> {
        let of_tier = |object: &Value| match object["kind"].as_str().unwrap() {
            "AdminNetworkPolicy" => tier == "Admin",
            "BaselineAdminNetworkPolicy" => tier == "Baseline",
            "ClusterNetworkPolicy" => object["spec"]["tier"] == tier,
            _ => false,
        };
        let policies: Vec<&Value> = self.objects.iter().filter(|object| of_tier(object)).collect();
        let mut found = BTreeSet::new();
        for order in orders(&policies) {
            // One bit for each rule of which nobody knows whether it matches.
            for guesses in 0..64 {
                let (action, asked) = self.action(&order, guesses);
                found.insert(action);
                if guesses + 1 == 1 << asked {
                    break;
                }
            }
        }
        found
    }

    /// The action of the first rule that matches, with these guesses, and how many guesses there can be.
    fn action(&self, policies: &[&'a Value], guesses: u32) -> (Option<&'a str>, u32) {
        let mut unknown = 0;
        let mut decided = None;
        for policy in policies {
            let spec = &policy["spec"];
            let subject = &spec["subject"];
            if !self.is_pod(subject, self.own) {
                continue;
            }
            let list = if self.way == Way::Egress { "egress" } else { "ingress" };
            for rule in spec[list].as_array().into_iter().flatten() {
                let action = rule["action"].as_str().unwrap();
                let known = ["namespaces", "pods", "nodes", "networks", "domainNames"];
                let peers = rule[if self.way == Way::Egress { "to" } else { "from" }].as_array().unwrap();
                // "For "Allow" rules, "fail closed" means: "treat the rule as matching no traffic". For "Deny" and "Pass" rules, "fail
                // closed" means: "treat the rule as a 'Deny all' rule"."
                if peers.iter().any(|peer| known.iter().all(|field| peer[field].is_null())) {
                    if action != "Allow" && action != "Accept" {
                        decided = decided.or(Some("Deny"));
                    }
                    continue;
                }
                let matches = match (self.is_any_peer(peers), self.is_any_port(rule)) {
                    (Some(false), _) | (_, Some(false)) => false,
                    (Some(true), Some(true)) => true,
                    (None, _) | (_, None) => {
                        unknown += 1;
                        guesses >> (unknown - 1) & 1 == 1
                    }
                };
                if matches {
                    decided = decided.or(Some(action));
                }
            }
        }
        (decided, unknown)
    }

    fn is_any_peer(&self, peers: &[Value]) -> Option<bool> {
        any(peers.iter().map(|peer| {
            let address = if self.way == Way::Egress { self.flow.to.address } else { self.flow.from.address }.unwrap();
            let is_pod = self.peer.is_some_and(|pod| !pod.on_host_network);
            if !peer["nodes"].is_null() {
                let nodes: Vec<&Value> = self.objects.iter().filter(|object| object["kind"] == "Node").collect();
                let selector = serde_json::from_value(peer["nodes"].clone()).unwrap();
                let is_it = |node: &&&Value| {
                    let labels = serde_json::from_value(node["metadata"]["labels"].clone()).unwrap();
                    let has =
                        node["status"]["addresses"].as_array().unwrap().iter().any(|one| one["address"] == address.to_string());
                    selects(Some(&selector), &labels) && has
                };
                return if is_pod || !nodes.is_empty() { Some(!is_pod && nodes.iter().any(|node| is_it(&node))) } else { None };
            }
            if let Some(networks) = peer["networks"].as_array() {
                return Some(networks.iter().any(|one| one.as_str().unwrap().parse::<IpNet>().unwrap().contains(&address)));
            }
            if !peer["domainNames"].is_null() {
                return None;
            }
            // "Note that host-networked pods are not included in this type of peer."
            Some(is_pod && self.is_pod(peer, self.peer.unwrap()))
        }))
    }

    /// Whether a pod is one of `namespaces` or `pods`.
    fn is_pod(&self, selected: &Value, pod: &FlowPod) -> bool {
        let (of_namespaces, of_pods) = match selected["pods"].as_object() {
            None => (selected["namespaces"].clone(), Value::Null),
            Some(pods) => (pods["namespaceSelector"].clone(), pods["podSelector"].clone()),
        };
        let [of_namespaces, of_pods] = [of_namespaces, of_pods].map(|selector| serde_json::from_value(selector).unwrap());
        let namespace = self.snapshot.namespaces.iter().find(|one| one.name == pod.namespace).unwrap();
        selects(Option::as_ref(&of_namespaces), &namespace.labels) && selects(Option::as_ref(&of_pods), &pod.labels)
    }

    fn is_any_port(&self, rule: &Value) -> Option<bool> {
        let ports = [&rule["ports"], &rule["protocols"]].into_iter().find_map(Value::as_array);
        // "If Ports is not set then the rule does not filter traffic via port."
        ports.map_or(Some(true), |ports| any(ports.iter().map(|port| self.is_port(port))))
    }

    fn is_port(&self, port: &Value) -> Option<bool> {
        let (number, protocol) = (u64::from(self.flow.port), self.flow.protocol.into_str());
        let in_range = |range: &Value| (range["start"].as_u64().unwrap()..=range["end"].as_u64().unwrap()).contains(&number);
        let is_protocol = |of: &Value| of["protocol"].as_str().unwrap_or("TCP") == protocol;
        if let Some(name) = [&port["namedPort"], &port["destinationNamedPort"]].into_iter().find_map(Value::as_str) {
            let has_name = |one: &crate::policy::flow::objects::ContainerPortName| {
                one.name == name && one.protocol == self.flow.protocol && one.number == self.flow.port
            };
            return Some(self.flow.to.pod.is_some_and(|pod| self.snapshot.pods[pod].ports.iter().any(has_name)));
        }
        let number_is = &port["portNumber"];
        if !number_is.is_null() {
            return Some(is_protocol(number_is) && number_is["port"] == number);
        }
        if !port["portRange"].is_null() {
            return Some(is_protocol(&port["portRange"]) && in_range(&port["portRange"]));
        }
        let of = ["tcp", "udp", "sctp"].into_iter().find(|of| !port[*of].is_null())?;
        let on = &port[of]["destinationPort"];
        let matches = on.is_null() || on["number"] == number || (!on["range"].is_null() && in_range(&on["range"]));
        Some(of.to_uppercase() == protocol && matches)
    }
}

/// Whether one of them is true, as far as that is known.
fn any(all: impl Iterator<Item = Option<bool>>) -> Option<bool> {
    let all: Vec<Option<bool>> = all.collect();
    if all.contains(&Some(true)) {
        Some(true)
    } else if all.contains(&None) {
        None
    } else {
        Some(false)
    }
}

/// Every order in which policies may decide: the text orders only those of one kind, by their priority.
fn orders<'a>(policies: &[&'a Value]) -> Vec<Vec<&'a Value>> {
    if policies.is_empty() {
        return vec![vec![]];
    }
    let mut all = Vec::new();
    for (at, first) in policies.iter().enumerate() {
        let is_before = |other: &&&Value| {
            other["kind"] == first["kind"] && other["spec"]["priority"].as_i64() < first["spec"]["priority"].as_i64()
        };
        if policies.iter().any(|other| is_before(&other)) {
            continue;
        }
        let mut rest = policies.to_vec();
        rest.remove(at);
        all.extend(orders(&rest).into_iter().map(|rest| [&[*first][..], &rest].concat()));
    }
    all
}
