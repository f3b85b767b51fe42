//! Finds what a policy opens although a baseline closes it: traffic with everybody, or with every pod of the cluster.
//! It looks only at policies for all or almost all pods of the namespace.
//! A rule that names its peers is the tenant's decision and is not reported.
//! One file: what a rule opens is one judgement, with the table of cases that shows it.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use k8s_openapi::{
    api::networking::v1::{NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec},
    apimachinery::pkg::{
        apis::meta::v1::{LabelSelector, LabelSelectorRequirement},
        util::intstr::IntOrString,
    },
};

use super::{
    block::{Block, Family},
    union::{Union, without},
};

/// The widest opening of a policy in each direction.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct Openings {
    /// Who may reach the pods; `None` if the policy opens nothing that concerns a baseline.
    pub ingress: Option<Opening>,
    /// Whom the pods may reach; `None` likewise.
    pub egress: Option<Opening>,
}

/// An opening. A wider opening compares as greater.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Opening {
    /// Who may reach the pods, or whom they may reach.
    pub peers: Peers,
    /// On which ports.
    pub ports: Ports,
    /// Which pods of the namespace are open.
    pub pods: Pods,
    /// The index of the first rule that is part of the opening.
    pub rule: u16,
}

/// The other side of an opening.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Peers {
    /// Every pod of the cluster, or almost every pod.
    EveryPod,
    /// Every IPv6 address.
    EveryIpv6,
    /// Every IPv4 address.
    EveryIpv4,
    /// Everybody, inside and outside of the cluster.
    Everybody,
}

/// The ports of an opening.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Ports {
    /// Some ports.
    Some,
    /// All ports of TCP and of UDP.
    All,
}

/// The pods that a policy selects.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Pods {
    /// All pods except those that carry some label.
    AlmostEvery,
    /// All pods.
    Every,
}

impl fmt::Display for Peers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::EveryPod => "every pod of the cluster",
            Self::EveryIpv6 => "every IPv6 address",
            Self::EveryIpv4 => "every IPv4 address",
            Self::Everybody => "everybody",
        })
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Some => "some ports",
            Self::All => "all ports",
        })
    }
}

impl fmt::Display for Pods {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AlmostEvery => "almost every pod",
            Self::Every => "every pod",
        })
    }
}

impl Openings {
    /// Finds the openings of a policy.
    pub fn of(spec: &NetworkPolicySpec) -> Self {
        let Some(pods) = breadth(spec.pod_selector.as_ref(), |_| false) else { return Self::default() };
        let types = spec.policy_types.as_deref().unwrap_or_default();
        // A policy ignores the rules of a direction that its policyTypes do not name.
        let is_about = |direction: &str| types.is_empty() || types.iter().any(|known| known == direction);
        let ingress = spec.ingress.iter().flatten().filter(|_| is_about("Ingress"));
        let egress = spec.egress.iter().flatten().filter(|_| is_about("Egress"));
        let ingress = ingress.enumerate().map(|(at, r)| Rule::new(at, r.from.as_deref(), r.ports.as_deref()));
        let egress = egress.enumerate().map(|(at, r)| Rule::new(at, r.to.as_deref(), r.ports.as_deref()));
        // DNS egress is always allowed, so it is not an opening.
        Self { ingress: widest(ingress, pods), egress: widest(egress.filter(|rule| !rule.is_dns()), pods) }
    }

    /// Whether the policy opens nothing that concerns a baseline.
    pub fn is_none(self) -> bool {
        self == Self::default()
    }
}

/// How many pods or namespaces a label selector selects: all, almost all, or (`None`) only those that meet a positive requirement.
/// Requirements for which `always_holds` returns true do not count.
fn breadth(selector: Option<&LabelSelector>, always_holds: impl Fn(&LabelSelectorRequirement) -> bool) -> Option<Pods> {
    let Some(selector) = selector else { return Some(Pods::Every) };
    let mut pods = Pods::Every;
    for requirement in selector.match_expressions.iter().flatten().filter(|requirement| !always_holds(requirement)) {
        match &*requirement.operator {
            "NotIn" | "DoesNotExist" => pods = Pods::AlmostEvery,
            _ => return None,
        }
    }
    selector.match_labels.as_ref().is_none_or(BTreeMap::is_empty).then_some(pods)
}

/// Whether a namespace selector leaves out almost no namespace. The API server labels each namespace with its name.
fn selects_almost_every_namespace(selector: &LabelSelector) -> bool {
    const NAME: &str = "kubernetes.io/metadata.name";
    breadth(Some(selector), |requirement| requirement.key == NAME && requirement.operator == "Exists").is_some()
}

/// One rule: peers and ports.
struct Rule<'a> {
    at: usize,
    peers: &'a [NetworkPolicyPeer],
    ports: &'a [NetworkPolicyPort],
}

/// The ports of a rule in a normal form, so that equal sets of ports compare as equal.
type Gates = BTreeSet<(String, PortRange)>;

#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum PortRange {
    Numbers(i32, i32),
    Name(String),
}

impl<'a> Rule<'a> {
    fn new(at: usize, peers: Option<&'a [NetworkPolicyPeer]>, ports: Option<&'a [NetworkPolicyPort]>) -> Self {
        Self { at, peers: peers.unwrap_or_default(), ports: ports.unwrap_or_default() }
    }

    fn is_dns(&self) -> bool {
        let is_dns = |port: &NetworkPolicyPort| {
            port.port == Some(IntOrString::Int(53)) && port.end_port.is_none_or(|end| end == 53) && protocol(port) != "SCTP"
        };
        !self.ports.is_empty() && self.ports.iter().all(is_dns)
    }

    /// The ports of the rule; `None` if the rule opens all ports.
    fn gates(&self) -> Option<Gates> {
        let range = |port: &NetworkPolicyPort| match &port.port {
            None => PortRange::Numbers(1, 65535),
            Some(IntOrString::Int(first)) => PortRange::Numbers(*first, port.end_port.unwrap_or(*first)),
            Some(IntOrString::String(name)) => PortRange::Name(name.clone()),
        };
        let gates: Gates = self.ports.iter().map(|port| (protocol(port).to_owned(), range(port))).collect();
        let is_whole = |protocol: &str| {
            // The ranges are sorted by their first port.
            let numbers = gates.iter().filter(|(of, _)| of == protocol).filter_map(|(_, range)| match range {
                PortRange::Numbers(first, last) => Some((*first, *last)),
                PortRange::Name(_) => None,
            });
            numbers.fold(0, |open, (first, last)| if first <= open + 1 { open.max(last) } else { open }) >= 65535
        };
        let all = self.ports.is_empty() || (is_whole("TCP") && is_whole("UDP"));
        (!all).then_some(gates)
    }
}

fn protocol(port: &NetworkPolicyPort) -> &str {
    port.protocol.as_deref().unwrap_or("TCP")
}

/// The peers of several rules, each kind with the index of its first rule.
#[derive(Default)]
struct Reach {
    everybody: Option<usize>,
    every_pod: Option<usize>,
    v4: Ranges,
    v6: Ranges,
}

#[derive(Default)]
struct Ranges {
    ranges: Vec<(u128, u128)>,
    first_rule: Option<usize>,
}

impl Reach {
    fn add(&mut self, rule: &Rule) {
        if rule.peers.is_empty() {
            self.everybody.get_or_insert(rule.at);
        }
        for peer in rule.peers {
            if let Some(block) = &peer.ip_block {
                let Some(range) = Block::parse(&block.cidr) else { continue };
                let exceptions = block.except.iter().flatten().filter_map(|text| Block::parse(text));
                let ranges = match range.family() {
                    Family::V4 => &mut self.v4,
                    Family::V6 => &mut self.v6,
                };
                ranges.ranges.extend(without(&range, exceptions));
                ranges.first_rule.get_or_insert(rule.at);
            } else if let Some(namespaces) = &peer.namespace_selector {
                let every_pod = breadth(peer.pod_selector.as_ref(), |_| false).is_some();
                if every_pod && selects_almost_every_namespace(namespaces) {
                    self.every_pod.get_or_insert(rule.at);
                }
            }
        }
    }

    fn added_up(self) -> Added {
        let Self { everybody, every_pod, v4, v6 } = self;
        let sum = |ranges: Ranges| (Union::of(ranges.ranges), ranges.first_rule);
        Added { everybody, every_pod, v4: sum(v4), v6: sum(v6) }
    }
}

#[derive(Default)]
struct Added {
    everybody: Option<usize>,
    every_pod: Option<usize>,
    v4: (Union, Option<usize>),
    v6: (Union, Option<usize>),
}

impl Added {
    /// The peers that both open together, with the index of the first rule.
    fn peers(&self, other: &Self) -> Option<(Peers, usize)> {
        let first = |a: Option<usize>, b: Option<usize>| a.into_iter().chain(b).min();
        let whole = |a: &(Union, Option<usize>), b: &(Union, Option<usize>), family| {
            is_whole(&a.0, &b.0, family).then(|| first(a.1, b.1)).flatten()
        };
        let v4 = whole(&self.v4, &other.v4, Family::V4);
        let v6 = whole(&self.v6, &other.v6, Family::V6);
        let by_blocks = v4.zip(v6).map(|(a, b)| a.min(b));
        let everybody = first(self.everybody, other.everybody).or(by_blocks).map(|rule| (Peers::Everybody, rule));
        everybody
            .or(v4.map(|rule| (Peers::EveryIpv4, rule)))
            .or(v6.map(|rule| (Peers::EveryIpv6, rule)))
            .or_else(|| first(self.every_pod, other.every_pod).map(|rule| (Peers::EveryPod, rule)))
    }
}

/// Whether the ranges leave out at most a /8: an exception for a few addresses closes nothing. The private networks together are
/// larger than that, so a rule for the internet without them does not count as open to everybody.
fn is_whole(ranges: &Union, more: &Union, family: Family) -> bool {
    ranges.left_out(more, family) <= family.last() >> 8
}

/// The widest opening that the rules make together. Rules add up if they have the same ports; a rule for all ports adds to each.
fn widest<'a>(rules: impl Iterator<Item = Rule<'a>>, pods: Pods) -> Option<Opening> {
    let mut by_ports: BTreeMap<Option<Gates>, Reach> = BTreeMap::new();
    for rule in rules {
        by_ports.entry(rule.gates()).or_default().add(&rule);
    }
    let by_all = by_ports.remove(&None).map(Reach::added_up);
    let opening =
        |(peers, rule): (Peers, usize), ports| Opening { peers, ports, pods, rule: u16::try_from(rule).unwrap_or(u16::MAX) };
    let nobody = Added::default();
    let all = by_all.as_ref().unwrap_or(&nobody);
    let by_some = by_ports.into_values().map(Reach::added_up);
    let some = by_some.filter_map(|reach| Some(opening(reach.peers(all)?, Ports::Some)));
    let all = all.peers(&nobody).map(|peers| opening(peers, Ports::All));
    some.chain(all).max_by_key(|o| (o.peers, o.ports, Reverse(o.rule)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn openings(spec: Value) -> Openings {
        Openings::of(&serde_json::from_value(spec).unwrap())
    }

    /// The opening of ingress rules for all pods. Checks that the same rules as egress rules open the same.
    fn opened(rules: Value) -> Option<String> {
        let told = |opening: Option<Opening>| opening.map(|o| format!("[{}] {} on {}", o.rule, o.peers, o.ports));
        let outward = Value::Array(
            rules.as_array().unwrap().iter().map(|r| json!({"to": r.get("from"), "ports": r.get("ports")})).collect(),
        );
        let ingress = told(openings(json!({"podSelector": {}, "policyTypes": ["Ingress"], "ingress": rules})).ingress);
        let egress = told(openings(json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": outward})).egress);
        assert_eq!(ingress, egress);
        ingress
    }

    fn blocks(cidrs: &[&str]) -> Value {
        cidrs.iter().map(|cidr| json!({"ipBlock": {"cidr": cidr}})).collect()
    }

    #[test]
    fn a_rule_without_peers_is_for_everybody() {
        for rule in [json!({}), json!({"from": []}), json!({"from": null, "ports": []})] {
            assert_eq!(opened(json!([rule])).as_deref(), Some("[0] everybody on all ports"));
        }
        assert_eq!(opened(json!([])), None);
        assert_eq!(opened(json!([{"ports": [{"port": 8080}]}])).as_deref(), Some("[0] everybody on some ports"));
    }

    #[test]
    fn a_rule_that_names_who_may_talk_opens_nothing() {
        for peer in [
            json!({"podSelector": {}}),
            json!({"podSelector": {"matchLabels": {"app": "web"}}, "namespaceSelector": {}}),
            json!({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}),
            json!({"namespaceSelector": {"matchExpressions": [{"key": "team", "operator": "Exists"}]}}),
            json!({"ipBlock": {"cidr": "10.0.0.0/8"}}),
            json!({"ipBlock": {"cidr": "0.0.0.0/0", "except": ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"]}}),
            json!({"ipBlock": {"cidr": "::/0", "except": ["fc00::/7"]}}),
            json!({"ipBlock": {"cidr": "nonsense"}}),
        ] {
            assert_eq!(opened(json!([{"from": [peer]}])), None, "{peer}");
        }
    }

    #[test]
    fn an_empty_selector_of_namespaces_is_every_pod_of_the_cluster() {
        let name = json!({"key": "kubernetes.io/metadata.name", "operator": "Exists"});
        let negative = json!({"key": "env", "operator": "NotIn", "values": ["prod"]});
        for peer in [
            json!({"namespaceSelector": {}}),
            json!({"namespaceSelector": {}, "podSelector": {}}),
            json!({"namespaceSelector": {"matchExpressions": [name]}}),
            json!({"namespaceSelector": {"matchExpressions": [negative, name]}, "podSelector": {"matchExpressions": [negative]}}),
        ] {
            let told = opened(json!([{"from": [{"podSelector": {}}, peer]}]));
            assert_eq!(told.as_deref(), Some("[0] every pod of the cluster on all ports"), "{peer}");
        }
    }

    #[test]
    fn blocks_are_judged_by_what_they_add_up_to() {
        let told = |cidrs: &[&str]| opened(json!([{"from": blocks(cidrs)}]));
        assert_eq!(told(&["0.0.0.0/0"]).as_deref(), Some("[0] every IPv4 address on all ports"));
        assert_eq!(told(&["::/0"]).as_deref(), Some("[0] every IPv6 address on all ports"));
        assert_eq!(told(&["::/0", "0.0.0.0/0"]).as_deref(), Some("[0] everybody on all ports"));
        assert_eq!(told(&["0.0.0.0/1", "128.0.0.0/1"]).as_deref(), Some("[0] every IPv4 address on all ports"));
        assert_eq!(told(&["128.0.0.0/1", "0.0.0.0/2", "64.0.0.0/2"]).as_deref(), Some("[0] every IPv4 address on all ports"));
        assert_eq!(told(&["0.0.0.0/1", "128.0.0.0/2"]), None);
        // Blocks of several rules add up too; the index is that of the first rule.
        let rules = json!([{"from": [{"podSelector": {}}], "ports": [{"port": 1}]}, {"from": blocks(&["0.0.0.0/1"])}, {"from": blocks(&["128.0.0.0/1"])}]);
        assert_eq!(opened(rules).as_deref(), Some("[1] every IPv4 address on all ports"));
    }

    #[test]
    fn an_exception_for_a_few_addresses_closes_nothing() {
        let told = |except: &[&str]| opened(json!([{"from": [{"ipBlock": {"cidr": "0.0.0.0/0", "except": except}}]}]));
        assert!(told(&["192.0.2.1/32"]).is_some());
        assert!(told(&["192.168.0.0/16", "172.16.0.0/12"]).is_some());
        assert_eq!(told(&["10.0.0.0/8"]), None);
        // Another block may contain what one block leaves out.
        let rules = json!([{"from": [{"ipBlock": {"cidr": "0.0.0.0/0", "except": ["10.0.0.0/8"]}}, {"ipBlock": {"cidr": "10.0.0.0/8"}}]}]);
        assert_eq!(opened(rules).as_deref(), Some("[0] every IPv4 address on all ports"));
    }

    #[test]
    fn ports_are_judged_by_what_they_add_up_to() {
        let on = |ports: Value| opened(json!([{"ports": ports}]));
        let range = |protocol: &str, first: i32, last: i32| json!({"protocol": protocol, "port": first, "endPort": last});
        assert_eq!(on(json!([{"protocol": "TCP"}, {"protocol": "UDP"}])).as_deref(), Some("[0] everybody on all ports"));
        let all = json!([range("TCP", 1, 30000), range("TCP", 30001, 65535), range("UDP", 1, 65535)]);
        assert_eq!(on(all).as_deref(), Some("[0] everybody on all ports"));
        for some in
            [json!([{"protocol": "TCP"}]), json!([{"port": "http"}]), json!([range("TCP", 2, 65535), {"protocol": "UDP"}])]
        {
            assert_eq!(on(some).as_deref(), Some("[0] everybody on some ports"));
        }
        // Half of the addresses on one port and half on another port is not everybody on any port.
        let halves = |one: i32, other: i32| {
            opened(
                json!([{"from": blocks(&["0.0.0.0/1"]), "ports": [{"port": one}]}, {"from": blocks(&["128.0.0.0/1"]), "ports": [{"port": other}]}]),
            )
        };
        assert_eq!(halves(80, 81), None);
        assert_eq!(halves(80, 80).as_deref(), Some("[0] every IPv4 address on some ports"));
        // A rule for all ports counts on each port.
        let rules = json!([{"from": blocks(&["0.0.0.0/1"])}, {"from": blocks(&["128.0.0.0/1"]), "ports": [{"port": 80}]}]);
        assert_eq!(opened(rules).as_deref(), Some("[0] every IPv4 address on some ports"));
    }

    #[test]
    fn a_wider_opening_is_told_before_a_narrower_one() {
        let rules = json!([{"from": [{"namespaceSelector": {}}]}, {"ports": [{"port": 80}]}, {}]);
        assert_eq!(opened(rules).as_deref(), Some("[2] everybody on all ports"));
    }

    #[test]
    fn only_a_selector_of_all_pods_or_almost_all_opens_a_namespace() {
        let pods = |selector: Value| {
            openings(json!({"podSelector": selector, "policyTypes": ["Ingress"], "ingress": [{}]})).ingress.map(|o| o.pods)
        };
        assert_eq!(pods(json!({})), Some(Pods::Every));
        assert_eq!(pods(json!({"matchLabels": {}, "matchExpressions": []})), Some(Pods::Every));
        for operator in ["NotIn", "DoesNotExist"] {
            let selector = json!({"matchExpressions": [{"key": "a", "operator": operator, "values": ["b"]}]});
            assert_eq!(pods(selector), Some(Pods::AlmostEvery));
        }
        assert_eq!(pods(json!({"matchLabels": {"app": "web"}})), None);
        assert_eq!(pods(json!({"matchExpressions": [{"key": "a", "operator": "Exists"}]})), None);
    }

    #[test]
    fn rules_of_a_direction_that_the_policy_is_not_about_open_nothing() {
        let both = |types: Value| openings(json!({"podSelector": {}, "policyTypes": types, "ingress": [{}], "egress": [{}]}));
        let Openings { ingress, egress } = both(json!(["Ingress"]));
        assert!(ingress.is_some() && egress.is_none());
        let Openings { ingress, egress } = both(json!(["Egress"]));
        assert!(ingress.is_none() && egress.is_some());
        let Openings { ingress, egress } = both(json!([]));
        assert!(ingress.is_some() && egress.is_some());
    }

    #[test]
    fn dns_for_everybody_re_opens_nothing() {
        let out = |ports: Value| {
            openings(json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": [{"ports": ports}, {"ports": ports}]})).egress
        };
        assert_eq!(out(json!([{"port": 53}, {"port": 53, "protocol": "UDP"}])), None);
        assert!(out(json!([{"port": 53}, {"port": 443}])).is_some_and(|o| o.rule == 0));
        let second = openings(json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": [{"ports": [{"port": 53}]}, {}]}));
        assert_eq!(second.egress.map(|o| o.rule), Some(1));
    }

    proptest! {
        #[test]
        fn splitting_a_block_changes_nothing(at in prop::collection::vec(any::<prop::sample::Index>(), 0..40), seed in any::<bool>()) {
            // 0.0.0.0/0 is split at random: all pieces together are still the whole, but without one piece of a /8 or more they are not.
            let mut pieces = vec![(0_u32, 0_u32)];
            for index in at {
                let (first, length) = pieces.swap_remove(index.index(pieces.len()));
                let half = 1_u32.checked_shl(31 - length.min(31)).unwrap_or(0);
                pieces.extend(if length < 8 { vec![(first, length + 1), (first | half, length + 1)] } else { vec![(first, length)] });
            }
            let texts: Vec<String> = pieces.iter().map(|(a, l)| format!("{}/{l}", std::net::Ipv4Addr::from_bits(*a))).collect();
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            let is_open = |texts: &[&str]| opened(json!([{"from": blocks(texts)}])).is_some();
            prop_assert!(is_open(&texts));
            let less = if seed { &texts[1..] } else { &texts[..texts.len() - 1] };
            prop_assert!(less.is_empty() || !is_open(less));
        }
    }
}
