//! What a policy lets everybody do with the pods that it selects, however few these are. A baseline decides that for its own policies. What
//! the policies of others open is judged for all pods only.

use k8s_openapi::{api::networking::v1::NetworkPolicySpec, apimachinery::pkg::apis::meta::v1::LabelSelector};

use super::{
    judge::{OpenPorts, open_ports},
    opening::Peers,
    ports::PortLine,
    union::Union,
};
use crate::policy::digest::Digest;

/// Ports in more ranges than these count as all ports: what is kept of a policy stays small.
const MAX_RANGES: usize = 64;

/// What a policy opens to everybody, and for which pods.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct Wide {
    /// The digest of the podSelector; `None` if it selects every pod.
    pods: Option<Digest>,
    /// The ports on which everybody, or every pod of the cluster, may reach its pods.
    ingress: Box<[WideRange]>,
    /// The ports on which its pods may reach everybody, or every pod of the cluster; without the port of DNS.
    egress: Box<[WideRange]>,
    /// Whether its pods may reach every IPv4 address and every IPv6 address, at least on the ports of DNS.
    dns: [bool; 2],
}

/// Ports with the same peers, on the line of [`PortLine::EVERY`].
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
struct WideRange {
    peers: PeerSet,
    first: u128,
    last: u128,
}

/// Kinds of peers, each a bit.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
struct PeerSet(u8);

impl PeerSet {
    const EVERYBODY: Self = Self(0b1111);

    /// Everybody is all the others too.
    const fn of(peers: Peers) -> Self {
        match peers {
            Peers::EveryPod => Self(0b0001),
            Peers::EveryIpv6 => Self(0b0010),
            Peers::EveryIpv4 => Self(0b0100),
            Peers::Everybody => Self::EVERYBODY,
        }
    }

    const fn with(self, peers: Peers) -> Self {
        Self(self.0 | Self::of(peers).0)
    }

    const fn has(self, others: Self) -> bool {
        self.0 & others.0 == others.0
    }
}

impl Wide {
    /// Finds out what a policy opens. Rules that are too many to judge count as open to everybody on all ports.
    pub fn of(spec: &NetworkPolicySpec) -> Self {
        let [ingress, egress] = open_ports(spec).map(ranges);
        let peers = spec.egress.iter().flatten().flat_map(|rule| rule.to.iter().flatten());
        let blocks = peers.filter_map(|peer| peer.ip_block.as_ref()).filter(|block| block.cidr.ends_with("/0"));
        let [mut v4, mut v6] = [false; 2];
        blocks.for_each(|block| *(if block.cidr.contains(':') { &mut v6 } else { &mut v4 }) = true);
        let pods = spec.pod_selector.as_ref().and_then(digest);
        Self { pods, ingress, egress, dns: [v4, v6] }.without_needless()
    }

    /// What it opens in these directions, without DNS.
    #[must_use]
    pub fn within(self, ingress: bool, egress: bool) -> Self {
        let Self { pods, ingress: inwards, egress: outwards, .. } = self;
        let only = |ranges: Box<[WideRange]>, is: bool| if is { ranges } else { Box::default() };
        Self { pods, ingress: only(inwards, ingress), egress: only(outwards, egress), dns: [false; 2] }.without_needless()
    }

    /// Whether it opens nothing to everybody.
    pub fn is_none(&self) -> bool {
        self.ingress.is_empty() && self.egress.is_empty() && self.dns == [false; 2]
    }

    /// Whether the other one opens all ingress that this one opens: to the same peers, on the same ports, for the same pods.
    pub fn has_ingress_within(&self, other: &Self) -> bool {
        self.ingress.is_empty() || (self.has_pods_within(other) && are_within(&self.ingress, &other.ingress))
    }

    /// The same of egress, and of DNS.
    pub fn has_egress_within(&self, other: &Self) -> bool {
        let is_none = self.egress.is_empty() && self.dns == [false; 2];
        let dns_is_within = || self.dns.iter().zip(other.dns).all(|(this, other)| !*this || other);
        is_none || (self.has_pods_within(other) && dns_is_within() && are_within(&self.egress, &other.egress))
    }

    /// Whether it is for the same pods, or the other one is for all.
    fn has_pods_within(&self, other: &Self) -> bool {
        other.pods.is_none() || self.pods == other.pods
    }

    /// A policy that opens nothing to everybody is like any other one.
    fn without_needless(self) -> Self {
        if self.is_none() { Self::default() } else { self }
    }
}

/// The digest of a selector; `None` if it selects everything.
fn digest(selector: &LabelSelector) -> Option<Digest> {
    let labels = selector.match_labels.clone().unwrap_or_default();
    let expressions = selector.match_expressions.iter().flatten();
    let expressions: Vec<_> = expressions.map(|r| (&r.key, &r.operator, r.values.clone().unwrap_or_default())).collect();
    (!labels.is_empty() || !expressions.is_empty()).then(|| Digest::of_json(&(labels, expressions)))
}

/// The ranges of ports, in order; ports beside each other with the same peers are one range.
fn ranges(open: OpenPorts) -> Box<[WideRange]> {
    let OpenPorts::These(open) = open else { return everything(PeerSet::EVERYBODY) };
    let mut ranges: Vec<WideRange> = Vec::new();
    for (peers, (first, last)) in open {
        match ranges.last_mut() {
            Some(range) if range.first == first => range.peers = range.peers.with(peers),
            _ => ranges.push(WideRange { peers: PeerSet::of(peers), first, last }),
        }
    }
    ranges.dedup_by(|range, before| {
        let is_one = before.peers == range.peers && before.last + 1 == range.first;
        if is_one {
            before.last = range.last;
        }
        is_one
    });
    if ranges.len() > MAX_RANGES {
        return everything(ranges.iter().fold(PeerSet::default(), |all, range| PeerSet(all.0 | range.peers.0)));
    }
    ranges.into()
}

/// All ports.
fn everything(peers: PeerSet) -> Box<[WideRange]> {
    PortLine::EVERY.whole().map(|(first, last)| WideRange { peers, first, last }).collect()
}

/// Whether the others open all these ports to the same peers.
fn are_within(ranges: &[WideRange], others: &[WideRange]) -> bool {
    ranges.iter().all(|range| {
        let same = others.iter().filter(|other| other.peers.has(range.peers)).map(|other| (other.first, other.last));
        Union::of(same.collect()).within(range.first, range.last) == range.last - range.first + 1
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_policy_for_few_pods_may_open_them_to_everybody_and_dns_is_judged_apart() {
        let wide = |spec: serde_json::Value| {
            let Wide { ingress, egress, dns, .. } = Wide::of(&serde_json::from_value(spec).unwrap());
            (!ingress.is_empty(), !egress.is_empty(), dns != [false; 2])
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

    fn ingress(pods: serde_json::Value, rules: serde_json::Value) -> Wide {
        let spec = json!({"podSelector": pods, "policyTypes": ["Ingress"], "ingress": rules});
        Wide::of(&serde_json::from_value(spec).unwrap())
    }

    #[test]
    fn one_policy_is_within_another_if_that_one_opens_as_much_to_as_many_for_its_pods() {
        let every_pod = json!([{"namespaceSelector": {}}]);
        let v4 = json!([{"ipBlock": {"cidr": "0.0.0.0/0"}}]);
        let everybody = json!([{"ipBlock": {"cidr": "0.0.0.0/0"}}, {"ipBlock": {"cidr": "::/0"}}]);
        let (web, db) = (json!({"matchLabels": {"app": "web"}}), json!({"matchLabels": {"app": "db"}}));
        let rule = |peers: &serde_json::Value, first: i32, last: i32| json!({"from": peers, "ports": [{"port": first, "endPort": last}]});
        let halves = json!([
            rule(&json!([{"ipBlock": {"cidr": "0.0.0.0/1"}}]), 80, 90),
            rule(&json!([{"ipBlock": {"cidr": "128.0.0.0/1"}}]), 85, 95)
        ]);
        for (narrow, wide) in [
            (ingress(web.clone(), json!([rule(&v4, 80, 80)])), ingress(json!({}), json!([rule(&v4, 80, 80)]))),
            (ingress(web.clone(), json!([rule(&v4, 80, 80)])), ingress(web.clone(), json!([rule(&v4, 80, 81)]))),
            (ingress(web.clone(), json!([rule(&v4, 80, 80)])), ingress(web.clone(), json!([{"from": v4}]))),
            (ingress(web.clone(), json!([rule(&v4, 80, 80)])), ingress(web.clone(), json!([rule(&everybody, 80, 80)]))),
            (ingress(web.clone(), json!([rule(&every_pod, 80, 80)])), ingress(web.clone(), json!([{}]))),
            (ingress(web.clone(), halves), ingress(web.clone(), json!([rule(&v4, 85, 91)]))),
            (
                ingress(web.clone(), json!([{"from": v4, "ports": [{"port": "http"}]}])),
                ingress(web.clone(), json!([{"from": v4, "ports": [{}]}])),
            ),
        ] {
            assert!(narrow.has_ingress_within(&wide) && narrow.has_ingress_within(&narrow), "{narrow:?} {wide:?}");
            assert!(!wide.has_ingress_within(&narrow), "{wide:?} {narrow:?}");
        }
        let [one, other] = [web, db].map(|pods| ingress(pods, json!([rule(&v4, 80, 80)])));
        assert!(!one.has_ingress_within(&other) && !other.has_ingress_within(&one));
        // What opens nothing to everybody is within anything.
        assert!(ingress(json!({}), json!([])).has_ingress_within(&Wide::default()));
    }

    #[test]
    fn what_is_kept_of_a_policy_stays_small_however_many_ports_it_names() {
        let ports = |count: i32| (0..count).map(|n| json!({"port": 2 * n + 1})).collect::<Vec<_>>();
        let open = |count: i32| ingress(json!({}), json!([{"ports": ports(count)}]));
        let most = i32::try_from(MAX_RANGES).unwrap();
        assert_eq!(open(most).ingress.len(), MAX_RANGES);
        assert!(open(most + 1).ingress.len() < MAX_RANGES);
        assert!(open(most).has_ingress_within(&open(most + 1)));
    }
}
