//! The normal form of a spec: two specs have the same normal form only if they mean the same.
//! The API server drops empty lists and fills in defaults, so neither is a difference. A rule with an empty `from`, `to` or
//! `ports` allows everything, so the rule itself must never be dropped.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::{
    api::networking::v1::{
        NetworkPolicyEgressRule, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec,
    },
    apimachinery::pkg::{apis::meta::v1::LabelSelector, util::intstr::IntOrString},
};
use serde::Serialize;

use crate::policy::digest::Digest;

/// The digest of the normal form; an absent spec counts as an empty one.
pub fn spec_digest(spec: Option<&NetworkPolicySpec>) -> Digest {
    let empty = NetworkPolicySpec::default();
    Digest::of_json(&Normal::from(spec.unwrap_or(&empty)))
}

#[derive(Serialize)]
struct Normal {
    pods: NormalSelector,
    types: BTreeSet<String>,
    ingress: Vec<NormalRule>,
    egress: Vec<NormalRule>,
}

#[derive(Serialize)]
struct NormalRule {
    peers: Vec<NormalPeer>,
    ports: Vec<NormalPort>,
}

#[derive(Serialize)]
struct NormalPeer {
    namespaces: Option<NormalSelector>,
    pods: Option<NormalSelector>,
    block: Option<(String, Vec<String>)>,
}

#[derive(Serialize)]
struct NormalPort {
    protocol: String,
    first: Option<IntOrString>,
    last: Option<i32>,
}

#[derive(Serialize)]
struct NormalSelector {
    equal: BTreeMap<String, String>,
    expressions: Vec<(String, String, Vec<String>)>,
}

impl From<&NetworkPolicySpec> for Normal {
    fn from(s: &NetworkPolicySpec) -> Self {
        let egress: Vec<NormalRule> = s.egress.iter().flatten().map(NormalRule::from).collect();
        let types = match &s.policy_types {
            Some(types) if !types.is_empty() => types.iter().cloned().collect(),
            // The API server fills in Ingress always, and Egress if there is an egress rule.
            _ => std::iter::once("Ingress").chain((!egress.is_empty()).then_some("Egress")).map(Into::into).collect(),
        };
        Self {
            pods: s.pod_selector.as_ref().map_or_else(|| NormalSelector::from(&LabelSelector::default()), NormalSelector::from),
            types,
            ingress: s.ingress.iter().flatten().map(NormalRule::from).collect(),
            egress,
        }
    }
}

impl From<&NetworkPolicyIngressRule> for NormalRule {
    fn from(r: &NetworkPolicyIngressRule) -> Self {
        Self::new(r.from.as_deref(), r.ports.as_deref())
    }
}

impl From<&NetworkPolicyEgressRule> for NormalRule {
    fn from(r: &NetworkPolicyEgressRule) -> Self {
        Self::new(r.to.as_deref(), r.ports.as_deref())
    }
}

impl NormalRule {
    fn new(peers: Option<&[NetworkPolicyPeer]>, ports: Option<&[NetworkPolicyPort]>) -> Self {
        Self {
            peers: peers.unwrap_or_default().iter().map(NormalPeer::from).collect(),
            ports: ports.unwrap_or_default().iter().map(NormalPort::from).collect(),
        }
    }
}

impl From<&NetworkPolicyPeer> for NormalPeer {
    fn from(p: &NetworkPolicyPeer) -> Self {
        Self {
            // An absent selector and an empty one differ: absent means this namespace, empty means all.
            namespaces: p.namespace_selector.as_ref().map(NormalSelector::from),
            pods: p.pod_selector.as_ref().map(NormalSelector::from),
            block: p.ip_block.as_ref().map(|b| (b.cidr.clone(), b.except.clone().unwrap_or_default())),
        }
    }
}

impl From<&NetworkPolicyPort> for NormalPort {
    fn from(p: &NetworkPolicyPort) -> Self {
        Self { protocol: p.protocol.clone().unwrap_or_else(|| "TCP".into()), first: p.port.clone(), last: p.end_port }
    }
}

impl From<&LabelSelector> for NormalSelector {
    fn from(s: &LabelSelector) -> Self {
        let expression = |r: &k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelectorRequirement| {
            (r.key.clone(), r.operator.clone(), r.values.clone().unwrap_or_default())
        };
        Self {
            equal: s.match_labels.clone().unwrap_or_default(),
            expressions: s.match_expressions.iter().flatten().map(expression).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn digest(spec: Value) -> Digest {
        spec_digest(Some(&serde_json::from_value(spec).unwrap()))
    }

    #[test]
    fn an_empty_list_of_rules_is_an_absent_one() {
        assert_eq!(
            digest(json!({"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [], "egress": []})),
            digest(json!({"podSelector": {}, "policyTypes": ["Ingress"]}))
        );
    }

    #[test]
    fn a_rule_with_an_empty_peer_list_is_not_an_absent_rule() {
        let closed = digest(json!({"podSelector": {}, "policyTypes": ["Ingress"], "ingress": []}));
        for open in [json!([{}]), json!([{"from": []}]), json!([{"ports": []}])] {
            assert_ne!(digest(json!({"podSelector": {}, "policyTypes": ["Ingress"], "ingress": open})), closed);
        }
    }

    #[test]
    fn the_hole_through_the_other_list_is_seen() {
        let closed = digest(json!({"podSelector": {}, "policyTypes": ["Ingress"]}));
        assert_ne!(digest(json!({"podSelector": {}, "policyTypes": ["Ingress"], "egress": [{}]})), closed);
        assert_ne!(digest(json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]})), closed);
    }

    #[test]
    fn an_empty_selector_is_not_an_absent_one_in_a_peer() {
        let peer = |p: Value| digest(json!({"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{"from": [p]}]}));
        assert_ne!(peer(json!({"podSelector": {}})), peer(json!({"podSelector": {}, "namespaceSelector": {}})));
        assert_eq!(peer(json!({"podSelector": {}})), peer(json!({"podSelector": {"matchLabels": {}, "matchExpressions": []}})));
    }

    #[test]
    fn the_default_protocol_is_filled_in() {
        let port = |p: Value| digest(json!({"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{"ports": [p]}]}));
        assert_eq!(port(json!({"port": 80})), port(json!({"port": 80, "protocol": "TCP"})));
        assert_ne!(port(json!({"port": 80})), port(json!({"port": 80, "protocol": "UDP"})));
        assert_ne!(port(json!({"port": 80})), port(json!({"port": "80"})));
        assert_ne!(port(json!({"port": 80})), port(json!({"port": 80, "endPort": 90})));
    }

    #[test]
    fn absent_policy_types_are_what_the_apiserver_fills_in() {
        assert_eq!(digest(json!({"podSelector": {}})), digest(json!({"podSelector": {}, "policyTypes": ["Ingress"]})));
        assert_eq!(
            digest(json!({"podSelector": {}, "egress": [{}]})),
            digest(json!({"podSelector": {}, "policyTypes": ["Egress", "Ingress"], "egress": [{}]}))
        );
    }

    #[test]
    fn an_absent_spec_selects_every_pod() {
        assert_eq!(spec_digest(None), digest(json!({"podSelector": {}, "policyTypes": ["Ingress"]})));
    }
}
