//! The directions in which a policy lets everybody talk to the pods that it selects, however few these are. A baseline decides that for its
//! own policies. What the policies of others open is judged for all pods only.

use k8s_openapi::api::networking::v1::NetworkPolicySpec;

use super::opening::Openings;

/// What a policy opens to everybody.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct Wide {
    /// Everybody, or every pod of the cluster, may reach its pods.
    pub ingress: bool,
    /// Its pods may reach everybody, or every pod of the cluster, on more than the ports of DNS.
    pub egress: bool,
    /// Its pods may reach every address, at least on the ports of DNS.
    pub dns: bool,
}

impl Wide {
    /// Finds out what a policy opens. Rules that are too many to judge count as open.
    pub fn of(spec: &NetworkPolicySpec) -> Self {
        let for_every_pod = NetworkPolicySpec { pod_selector: None, ..spec.clone() };
        let Openings { ingress, egress, is_ingress_too_large, is_egress_too_large } = Openings::of(&for_every_pod);
        let peers = spec.egress.iter().flatten().flat_map(|rule| rule.to.iter().flatten());
        let blocks = peers.filter_map(|peer| peer.ip_block.as_ref());
        Self {
            ingress: ingress.is_some() || is_ingress_too_large,
            egress: egress.is_some() || is_egress_too_large,
            dns: blocks.into_iter().any(|block| block.cidr.ends_with("/0")),
        }
    }

    /// Whether it opens nothing to everybody.
    pub fn is_none(self) -> bool {
        self == Self::default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_policy_for_few_pods_may_open_them_to_everybody_and_dns_is_judged_apart() {
        let wide = |spec: serde_json::Value| {
            let Wide { ingress, egress, dns } = Wide::of(&serde_json::from_value(spec).unwrap());
            (ingress, egress, dns)
        };
        let pods = json!({"matchLabels": {"expose": "web"}});
        let dns = json!([{"protocol": "UDP", "port": 53}]);
        for (spec, expected) in [
            (json!({"podSelector": pods, "policyTypes": ["Ingress"], "ingress": [{}]}), (true, false, false)),
            (
                json!({"podSelector": pods, "policyTypes": ["Ingress"], "ingress": [{"from": [{"podSelector": {}}]}]}),
                (false, false, false),
            ),
            (json!({"policyTypes": ["Egress"], "egress": [{"to": [{"ipBlock": {"cidr": "0.0.0.0/0"}}]}]}), (false, true, true)),
            (
                json!({"policyTypes": ["Egress"], "egress": [{"to": [{"ipBlock": {"cidr": "::/0"}}], "ports": dns}]}),
                (false, false, true),
            ),
            (
                json!({"policyTypes": ["Egress"], "egress": [{"to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}], "ports": dns}]}),
                (false, false, false),
            ),
        ] {
            assert_eq!(wide(spec.clone()), expected, "{spec}");
        }
    }
}
