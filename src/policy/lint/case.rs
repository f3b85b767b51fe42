//! A policy with everything that the rules for policies look at.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::networking::v1::{NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec},
    apimachinery::pkg::{apis::meta::v1::LabelSelector, util::intstr::IntOrString},
};

use super::{
    given::{GivenObjects, LintPolicy, LintWorkload, label_test},
    tree::{YamlNode, YamlValue},
};
use crate::{
    api::peers::Protocol,
    policy::flow::{Way, isolates},
};

/// A policy, its text, and the objects around it.
pub struct LintCase<'a> {
    pub policy: &'a LintPolicy,
    pub node: &'a YamlNode,
    pub given: &'a GivenObjects,
}

/// A rule of a policy.
pub struct RuleView<'a> {
    pub way: Way,
    /// Its path, such as `spec.ingress[0]`.
    pub path: String,
    pub peers: &'a [NetworkPolicyPeer],
    pub ports: &'a [NetworkPolicyPort],
}

pub const WAYS: [Way; 2] = [Way::Ingress, Way::Egress];

/// The name of a direction in policyTypes.
pub const fn type_of(way: Way) -> &'static str {
    match way {
        Way::Ingress => "Ingress",
        Way::Egress => "Egress",
    }
}

/// The rules of a spec.
pub fn rules_of(spec: &NetworkPolicySpec, way: Way) -> Vec<RuleView<'_>> {
    let rules = way.rules(spec).into_iter().enumerate();
    rules.map(|(index, (peers, ports))| RuleView { way, path: way.place(index, None, None), peers, ports }).collect()
}

impl RuleView<'_> {
    /// The name of its list of peers.
    pub const fn side(&self) -> &'static str {
        match self.way {
            Way::Ingress => "from",
            Way::Egress => "to",
        }
    }

    /// The path of a peer.
    pub fn peer_path(&self, index: usize) -> String {
        format!("{}.{}[{index}]", self.path, self.side())
    }

    /// Whether it allows a port of a protocol.
    pub fn allows_port(&self, protocol: Protocol, number: i32) -> bool {
        self.ports.is_empty() || self.ports.iter().any(|port| covers_port(port, protocol, number))
    }
}

/// Whether an entry of a list of ports covers a port.
pub fn covers_port(port: &NetworkPolicyPort, protocol: Protocol, number: i32) -> bool {
    Protocol::named(port.protocol.as_deref()) == Some(protocol)
        && match &port.port {
            None => true,
            Some(IntOrString::Int(first)) => (*first..=port.end_port.unwrap_or(*first)).contains(&number),
            Some(IntOrString::String(_)) => false,
        }
}

impl<'a> LintCase<'a> {
    /// Its spec.
    pub fn spec(&self) -> &'a NetworkPolicySpec {
        &self.policy.spec
    }

    /// All rules, also those of a direction that it does not close.
    pub fn rules(&self) -> impl Iterator<Item = RuleView<'a>> {
        WAYS.into_iter().flat_map(|way| rules_of(&self.policy.spec, way))
    }

    /// The rules of the directions that it closes: the others do nothing.
    pub fn live_rules(&self) -> impl Iterator<Item = RuleView<'a>> {
        self.rules().filter(|rule| isolates(&self.policy.spec, rule.way))
    }

    /// Whether a given workload of the policy's own namespace has these labels.
    pub fn has_own(&self, selector: &LabelSelector) -> bool {
        let is_selected = label_test(Some(selector));
        self.given.workloads_of(self.policy.namespace.as_deref()).any(|one| is_selected(&one.labels))
    }

    /// The given workloads of the namespaces that a peer selects; none if there is none.
    pub fn candidates(&self, peer: &NetworkPolicyPeer) -> Option<Vec<&'a LintWorkload>> {
        let own = self.policy.namespace.as_deref();
        let is_selected = label_test(peer.namespace_selector.as_ref());
        let mut known: BTreeMap<&str, bool> = BTreeMap::new();
        let mut in_namespace = |workload: &&'a LintWorkload| {
            let name = workload.namespace.as_deref();
            if peer.namespace_selector.is_none() {
                return name == own;
            }
            // Whatever the labels of a namespace are that is not given, its name is known.
            name.is_some_and(|name| *known.entry(name).or_insert_with(|| is_selected(&self.given.labels_of(name))))
        };
        let there: Vec<&LintWorkload> = self.given.workloads.iter().filter(|workload| in_namespace(workload)).collect();
        (!there.is_empty()).then_some(there)
    }

    /// Whether a field is there with nothing in it: an empty list, or nothing after the colon.
    pub fn is_empty_there(&self, path: &str) -> bool {
        self.node.at(path).is_some_and(|node| match &node.value {
            YamlValue::Null => true,
            YamlValue::List(items) => items.is_empty(),
            _ => false,
        })
    }
}
