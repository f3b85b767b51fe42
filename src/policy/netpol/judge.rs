//! Finds what a policy opens although a baseline closes it: traffic with everybody, or with every pod of the cluster.
//! It looks only at policies for all or almost all pods of the namespace.
//! A rule that names its peers is the tenant's decision and is not reported.
//! One file: what a rule opens is one judgement, with the table of cases that shows it.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::networking::v1::{NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec},
    apimachinery::pkg::{
        apis::meta::v1::{LabelSelector, LabelSelectorRequirement},
        util::intstr::IntOrString,
    },
};

use super::{
    block::{Block, Family},
    census::NAME_LABEL,
    opening::{Opening, Openings, Peers, Pods, Ports},
    ports::PortLine,
    share::{DirectionShares, LabelRoom, NamedNamespaces, Shares},
    sweep::{Group, Swept, sweep},
    union::Union,
};
use crate::api::{names::LABEL_DECIDED, policy_spec::MOST_READ};

impl Openings {
    /// Finds the openings of a policy.
    pub fn of(spec: &NetworkPolicySpec) -> Self {
        judge(spec).0
    }
}

/// Finds the openings of a policy, and what it opens in part; `None`: nothing that others could make whole.
pub fn judge(spec: &NetworkPolicySpec) -> (Openings, Option<Shares>) {
    let Some(pods) = breadth(spec.pod_selector.as_ref(), |_| false) else { return (Openings::default(), None) };
    let types = spec.policy_types.as_deref().unwrap_or_default();
    // A policy ignores the rules of a direction that its policyTypes do not name.
    let is_about = |direction: &str| types.is_empty() || types.iter().any(|known| known == direction);
    let mut ingress = ingress(spec).filter(|_| is_about("Ingress"));
    let mut egress = egress(spec).filter(|_| is_about("Egress"));
    let is_large = has_more_entries(spec, MAX_ENTRIES);
    let mut room = LabelRoom::default();
    let mut judge = |rules: &mut dyn Iterator<Item = Rule>, is_dns_allowed: bool| {
        if is_large {
            (widest_rule(rules, is_dns_allowed), DirectionShares::default())
        } else {
            widest(&rules.collect::<Vec<_>>(), is_dns_allowed, &mut room)
        }
    };
    let opening = |swept: &Swept| {
        let (peers, ports, rule) = swept.widest?;
        Some(Opening { peers, ports, pods, rule: u16::try_from(rule).unwrap_or(u16::MAX) })
    };
    // DNS egress is always allowed, so it is not an opening.
    let (inwards, ingress) = judge(&mut ingress, false);
    let (outwards, egress) = judge(&mut egress, true);
    let openings = Openings {
        ingress: opening(&inwards),
        egress: opening(&outwards),
        is_ingress_too_large: inwards.is_too_large,
        is_egress_too_large: outwards.is_too_large,
    };
    let shares = Shares { pods, ingress, egress };
    (openings, Some(shares).filter(|shares| !shares.is_empty()))
}

fn ingress(spec: &NetworkPolicySpec) -> impl Iterator<Item = Rule<'_>> {
    spec.ingress.iter().flatten().map(|rule| Rule::new(rule.from.as_deref(), rule.ports.as_deref()))
}

fn egress(spec: &NetworkPolicySpec) -> impl Iterator<Item = Rule<'_>> {
    spec.egress.iter().flatten().map(|rule| Rule::new(rule.to.as_deref(), rule.ports.as_deref()))
}

/// A spec with more entries is too large: of its rules, only those are judged that need no sum. One more entry is read, so that this shows.
pub const MAX_ENTRIES: usize = MOST_READ - 1;

/// Whether a spec has more than so many rules, peers, exceptions and ports.
pub fn has_more_entries(spec: &NetworkPolicySpec, most: usize) -> bool {
    let except = |peer: &NetworkPolicyPeer| peer.ip_block.as_ref().map_or(0, |block| block.except.as_ref().map_or(0, Vec::len));
    let size = |rule: Rule| 1 + rule.ports.len() + rule.peers.iter().map(|peer| 1 + except(peer)).sum::<usize>();
    // It stops as soon as there are too many.
    ingress(spec).chain(egress(spec)).map(size).try_fold(most, usize::checked_sub).is_none()
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

/// Whether a namespace selector leaves out almost no namespace. The API server labels each namespace with its name. With
/// `--label-namespaces`, the operator labels each with what it decided; without, nobody asks for that label.
fn selects_almost_every_namespace(selector: &LabelSelector) -> bool {
    breadth(Some(selector), is_met_everywhere).is_some()
}

fn is_met_everywhere(requirement: &LabelSelectorRequirement) -> bool {
    requirement.operator == "Exists" && [NAME_LABEL, LABEL_DECIDED].contains(&&*requirement.key)
}

/// One rule: peers and ports.
struct Rule<'a> {
    peers: &'a [NetworkPolicyPeer],
    ports: &'a [NetworkPolicyPort],
}

impl<'a> Rule<'a> {
    fn new(peers: Option<&'a [NetworkPolicyPeer]>, ports: Option<&'a [NetworkPolicyPort]>) -> Self {
        Self { peers: peers.unwrap_or_default(), ports: ports.unwrap_or_default() }
    }

    /// Whether the rule has peers outside of its own namespace.
    fn may_open(&self) -> bool {
        let is_outside = |peer: &NetworkPolicyPeer| peer.ip_block.is_some() || peer.namespace_selector.is_some();
        self.peers.is_empty() || self.peers.iter().any(is_outside)
    }

    fn is_dns(&self) -> bool {
        let is_dns = |port: &NetworkPolicyPort| {
            let is_only = port.port == Some(IntOrString::Int(53)) && port.end_port.is_none_or(|end| end == 53);
            is_only && port.protocol.as_deref() != Some("SCTP")
        };
        !self.ports.is_empty() && self.ports.iter().all(is_dns)
    }
}

/// Whether the peer is every pod of the cluster, or almost every pod, by its selectors.
fn is_every_pod(peer: &NetworkPolicyPeer) -> bool {
    let namespaces = peer.namespace_selector.as_ref().filter(|_| peer.ip_block.is_none());
    namespaces.is_some_and(selects_almost_every_namespace) && breadth(peer.pod_selector.as_ref(), |_| false).is_some()
}

/// The peers of rules with the same ports, each kind with the index of its first rule.
#[derive(Default)]
struct Reach {
    everybody: Option<usize>,
    every_pod: Option<usize>,
    v4: Ranges,
    v6: Ranges,
    named: (NamedNamespaces, Option<usize>),
}

#[derive(Default)]
struct Ranges {
    ranges: Vec<(u128, u128)>,
    first_rule: Option<usize>,
}

impl Reach {
    fn add(&mut self, at: usize, rule: &Rule) {
        if rule.peers.is_empty() {
            self.everybody.get_or_insert(at);
        }
        for peer in rule.peers {
            if let Some(block) = &peer.ip_block {
                let Some(range) = Block::parse(&block.cidr) else { continue };
                let except = block.except.iter().flatten().filter_map(|text| Block::parse(text));
                let except = except.filter(|except| except.family() == range.family()).map(|except| except.range());
                let except: Vec<_> = except.collect();
                let Ranges { ranges, first_rule } = match range.family() {
                    Family::V4 => &mut self.v4,
                    Family::V6 => &mut self.v6,
                };
                if except.is_empty() {
                    ranges.push(range.range());
                } else {
                    ranges.extend(Union::of(vec![range.range()]).without(&Union::of(except)).ranges());
                }
                first_rule.get_or_insert(at);
            } else if is_every_pod(peer) {
                self.every_pod.get_or_insert(at);
            } else if let Some(selector) = &peer.namespace_selector
                && breadth(peer.pod_selector.as_ref(), |_| false).is_some()
            {
                let (sets, first_rule) = &mut self.named;
                sets.add(selector, is_met_everywhere);
                first_rule.get_or_insert(at);
            }
        }
    }

    fn group(self, ports: Vec<(u128, u128)>) -> (Group, NamedNamespaces) {
        let Self { everybody, every_pod, v4, v6, named: (sets, named) } = self;
        let sum = |Ranges { ranges, first_rule }| (Union::of(ranges), first_rule);
        // Which namespaces there are is not known here.
        let named = (Union::default(), named);
        (Group { ports, everybody, every_pod, v4: sum(v4), v6: sum(v6), named }, sets)
    }
}

/// The ports that a policy opens to everybody or to every pod of the cluster.
pub enum OpenPorts {
    /// These, on the line of [`PortLine::EVERY`] and in order. Ports that are open to several kinds of peers are named for each.
    These(Vec<(Peers, (u128, u128))>),
    /// The rules are too many to judge.
    TooMany,
}

/// The ports that a policy opens for the pods that it selects, however few these are: by ingress, and by egress without DNS.
pub fn open_ports(spec: &NetworkPolicySpec) -> [OpenPorts; 2] {
    let types = spec.policy_types.as_deref().unwrap_or_default();
    let is_about = |direction: &str| types.is_empty() || types.iter().any(|known| known == direction);
    let is_large = has_more_entries(spec, MAX_ENTRIES);
    let open = |rules: Vec<Rule>, is_dns_allowed: bool| {
        if is_large && !rules.is_empty() {
            return OpenPorts::TooMany;
        }
        let ((always, _), switched) = groups(&rules, PortLine::EVERY);
        let switched: Vec<Group> = switched.into_iter().map(|(group, _)| group).collect();
        let mut these = Vec::new();
        let swept = sweep(PortLine::EVERY, &always, &switched, is_dns_allowed, &[], |peers, ports| these.push((peers, ports)));
        if swept.is_too_large { OpenPorts::TooMany } else { OpenPorts::These(these) }
    };
    let inwards = ingress(spec).filter(|_| is_about("Ingress")).collect();
    let outwards = egress(spec).filter(|_| is_about("Egress")).collect();
    [open(inwards, false), open(outwards, true)]
}

/// Rules with the same ports, and the namespaces that they name by labels.
type NamedGroup = (Group, NamedNamespaces);

/// The rules for all ports, and the other ones by their ports.
fn groups(rules: &[Rule], line: PortLine) -> (NamedGroup, Vec<NamedGroup>) {
    let mut by_ports: BTreeMap<Option<Vec<(u128, u128)>>, Reach> = BTreeMap::new();
    for (at, rule) in rules.iter().enumerate().filter(|(_, rule)| rule.may_open()) {
        by_ports.entry(line.place(rule.ports)).or_default().add(at, rule);
    }
    let always = by_ports.remove(&None).unwrap_or_default().group(vec![]);
    (always, by_ports.into_iter().map(|(ports, reach)| reach.group(ports.unwrap_or_default())).collect())
}

/// The widest opening that the rules make together, and what they open in part. Rules add up on each port that they share.
fn widest(rules: &[Rule], is_dns_allowed: bool, room: &mut LabelRoom) -> (Swept, DirectionShares) {
    let line = PortLine::of(rules.iter().flat_map(|rule| rule.ports));
    let ((always, sets), switched) = groups(rules, line);
    let (switched, switched_sets): (Vec<Group>, Vec<NamedNamespaces>) = switched.into_iter().unzip();
    let swept = sweep(line, &always, &switched, is_dns_allowed, &[], |_, _| {});
    if swept.widest.is_some_and(|(peers, ports, _)| (peers, ports) == (Peers::Everybody, Ports::All)) {
        return (swept, DirectionShares::default());
    }
    // Rules for DNS alone count for nothing.
    let dns: Vec<u128> = line.dns().filter(|_| is_dns_allowed).collect();
    let is_dns = |group: &Group| group.ports.iter().all(|(first, last)| first == last && dns.contains(first));
    let switched = switched.into_iter().zip(switched_sets).filter(|(group, _)| !is_dns(group));
    let all = [(always, true, sets)].into_iter().chain(switched.map(|(group, sets)| (group, false, sets)));
    (swept, DirectionShares::of(all, room))
}

/// The widest opening of a single rule without blocks. It takes one look at each rule.
fn widest_rule(rules: &mut dyn Iterator<Item = Rule<'_>>, is_dns_allowed: bool) -> Swept {
    let mut widest: Option<(Peers, Ports, usize)> = None;
    let mut is_empty = true;
    for (at, rule) in rules.enumerate() {
        is_empty = false;
        let peers = match rule.peers {
            [] => Some(Peers::Everybody),
            peers => peers.iter().any(is_every_pod).then_some(Peers::EveryPod),
        };
        let ports = if rule.ports.is_empty() { Ports::All } else { Ports::Some };
        let Some(peers) = peers.filter(|_| !is_dns_allowed || !rule.is_dns()) else { continue };
        if widest.is_none_or(|(known, on, _)| (peers, ports) > (known, on)) {
            widest = Some((peers, ports, at));
        }
        // Nothing is wider, so the other rules do not matter.
        if (peers, ports) == (Peers::Everybody, Ports::All) {
            return Swept { widest, is_too_large: false };
        }
    }
    Swept { widest, is_too_large: !is_empty }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::policy::netpol::sweep::MAX_SWITCHED;

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
            json!({"ipBlock": {"cidr": "fc00::/7"}}),
            json!({"ipBlock": {"cidr": "2000::/4"}}),
            json!({"ipBlock": {"cidr": "nonsense"}}),
        ] {
            assert_eq!(opened(json!([{"from": [peer]}])), None, "{peer}");
        }
    }

    #[test]
    fn an_empty_selector_of_namespaces_is_every_pod_of_the_cluster() {
        let name = json!({"key": "kubernetes.io/metadata.name", "operator": "Exists"});
        let decided = json!({"key": "policybaseline.io/decided", "operator": "Exists"});
        let negative = json!({"key": "env", "operator": "NotIn", "values": ["prod"]});
        for peer in [
            json!({"namespaceSelector": {}}),
            json!({"namespaceSelector": {"matchExpressions": [decided]}}),
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
    fn an_exception_for_addresses_that_no_peer_has_closes_nothing() {
        let told = |cidr: &str, except: &[&str]| opened(json!([{"from": [{"ipBlock": {"cidr": cidr, "except": except}}]}]));
        let (v4, v6) = (Some("[0] every IPv4 address on all ports"), Some("[0] every IPv6 address on all ports"));
        let private = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"];
        for (cidr, except, expected) in [
            ("0.0.0.0/0", &["224.0.0.0/3"][..], v4),
            ("0.0.0.0/0", &["224.0.0.0/4", "240.0.0.0/4"], v4),
            ("0.0.0.0/0", &["0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3"], v4),
            ("0.0.0.0/0", &["224.0.0.0/3", "192.0.2.0/24"], v4),
            // What is left of 192.0.0.0/2 is 192.0.0.0/3. A private network is in it, so this is not every pod either.
            ("0.0.0.0/0", &["192.0.0.0/2"], None),
            ("0.0.0.0/0", &[&private[..], &["224.0.0.0/3"]].concat(), None),
            ("::/0", &["ff00::/8"], v6),
            ("::/0", &["fe80::/10", "ff00::/8", "::1/128"], v6),
            ("::/0", &["2000::/8", "ff00::/8", "::1/128"], None),
            ("::/0", &["fc00::/7"], v6),
            ("2000::/3", &[], v6),
            ("2000::/3", &["2001:db8::/32"], v6),
            ("2000::/3", &["2000::/8"], None),
        ] {
            assert_eq!(told(cidr, except).as_deref(), expected, "{cidr} {except:?}");
        }
        assert_eq!(told("224.0.0.0/3", &[]), None);
    }

    #[test]
    fn all_private_networks_together_are_every_pod_of_the_cluster() {
        let told = |cidrs: &[&str]| opened(json!([{"from": blocks(cidrs)}]));
        let all = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10"];
        assert_eq!(told(&all).as_deref(), Some("[0] every pod of the cluster on all ports"));
        for left_out in 0..all.len() {
            let some: Vec<&str> = all.iter().enumerate().filter(|(at, _)| *at != left_out).map(|(_, cidr)| *cidr).collect();
            assert_eq!(told(&some), None, "{some:?}");
        }
        let split = ["10.0.0.0/9", "10.128.0.0/9", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10"];
        assert_eq!(told(&split).as_deref(), Some("[0] every pod of the cluster on all ports"));
        let with_exceptions = |cidr: &str, except: &[&str]| {
            let block = json!({"ipBlock": {"cidr": cidr, "except": except}});
            opened(json!([{"from": [block]}, {"from": blocks(&all[1..])}]))
        };
        let every_pod = Some("[0] every pod of the cluster on all ports");
        assert_eq!(with_exceptions("10.0.0.0/8", &["10.96.0.0/17"]).as_deref(), every_pod);
        assert_eq!(with_exceptions("10.0.0.0/8", &["10.96.0.0/16"]), None);
        // A rule for so much of the internet that the private networks are in it.
        let wide = json!([{"from": [{"ipBlock": {"cidr": "0.0.0.0/0", "except": ["11.0.0.0/8"]}}]}]);
        assert_eq!(opened(wide).as_deref(), every_pod);
    }

    #[test]
    fn rules_add_up_on_each_port_that_they_share() {
        let rule = |cidr: &str, ports: &[i32]| json!({"from": blocks(&[cidr]), "ports": ports.iter().map(|port| json!({"port": port})).collect::<Value>()});
        let (lower, upper) = ("0.0.0.0/1", "128.0.0.0/1");
        let v4 = Some("[0] every IPv4 address on some ports");
        for (one, other, expected) in [
            (&[80, 443][..], &[80, 443, 81][..], v4),
            (&[80, 443], &[443, 8443], v4),
            (&[80, 443], &[81, 444], None),
            (&[80], &[], v4),
        ] {
            let rules = if other.is_empty() {
                json!([rule(lower, one), {"from": blocks(&[upper])}])
            } else {
                json!([rule(lower, one), rule(upper, other)])
            };
            assert_eq!(opened(rules).as_deref(), expected, "{one:?} {other:?}");
        }
        let range =
            |cidr: &str, first: i32, last: i32| json!({"from": blocks(&[cidr]), "ports": [{"port": first, "endPort": last}]});
        assert_eq!(opened(json!([range(lower, 1, 1000), range(upper, 1000, 2000)])).as_deref(), v4);
        assert_eq!(opened(json!([range(lower, 1, 999), range(upper, 1000, 2000)])), None);
        // Three rules, of which no two have the same ports.
        let quarters = json!([rule(lower, &[80, 1]), rule("128.0.0.0/2", &[80, 2]), rule("192.0.0.0/2", &[80, 3])]);
        assert_eq!(opened(quarters).as_deref(), v4);
        let everybody = json!([rule("0.0.0.0/0", &[80, 81]), rule("::/0", &[81, 82])]);
        assert_eq!(opened(everybody).as_deref(), Some("[0] everybody on some ports"));
        let apart = json!([rule("0.0.0.0/0", &[80]), rule("::/0", &[82])]);
        assert_eq!(opened(apart).as_deref(), v4);
        // A name may be any number, so it is compared only with itself and with all ports.
        let named = |cidr: &str, name: &str| json!({"from": blocks(&[cidr]), "ports": [{"port": name}]});
        assert_eq!(opened(json!([named(lower, "http"), rule(upper, &[80])])), None);
        assert_eq!(opened(json!([named(lower, "http"), named(upper, "http")])).as_deref(), v4);
        let all_tcp = json!({"from": blocks(&[upper]), "ports": [{"port": 1, "endPort": 65535}]});
        assert_eq!(opened(json!([named(lower, "http"), all_tcp])).as_deref(), v4);
    }

    #[test]
    fn rules_for_different_ports_are_for_all_ports_together() {
        let range = |protocol: &str, first: i32, last: i32| json!({"protocol": protocol, "port": first, "endPort": last});
        let rules =
            |last: i32| json!([{"ports": [range("TCP", 1, 30000), {"protocol": "UDP"}]}, {"ports": [range("TCP", 20000, last)]}]);
        assert_eq!(opened(rules(65535)).as_deref(), Some("[0] everybody on all ports"));
        assert_eq!(opened(rules(65534)).as_deref(), Some("[0] everybody on some ports"));
    }

    #[test]
    fn i7_a_policy_with_too_many_blocks_is_not_judged_by_them_and_says_so() {
        let pieces = |from: u32, count: u32| -> Vec<String> {
            (0..count).map(|n| std::net::Ipv4Addr::from_bits((from + n) << 18).to_string() + "/14").collect()
        };
        let (lower, upper) = (pieces(0, 0x2000), pieces(0x2000, 0x2000));
        let rule = |cidrs: &[String], ports: Value| {
            // Every second block comes with a rule of its own, so that neighbours are not one range.
            let half = |skip: usize| {
                cidrs.iter().skip(skip).step_by(2).map(|cidr| json!({"ipBlock": {"cidr": cidr}})).collect::<Value>()
            };
            [
                json!({"from": half(0), "ports": ports}),
                json!({"from": half(1), "ports": [{"port": 1, "endPort": 9}, {"port": 20}]}),
            ]
        };
        let judged = |further: Value| {
            let rules =
                [rule(&lower, json!([{"port": 1}, {"port": 30}])), rule(&upper, json!([{"port": 1}, {"port": 40}]))].concat();
            let rules: Value = rules.into_iter().chain(further.as_array().unwrap().clone()).collect();
            let Openings { ingress, is_ingress_too_large, .. } =
                openings(json!({"podSelector": {}, "policyTypes": ["Ingress"], "ingress": rules}));
            (ingress.map(|o| format!("[{}] {} on {}", o.rule, o.peers, o.ports)), is_ingress_too_large)
        };
        assert!(lower.len() + upper.len() < MAX_ENTRIES && (lower.len() + upper.len()) * 3 / 2 > MAX_SWITCHED);
        assert_eq!(judged(json!([])), (None, true));
        // What needs no sum is found anyway.
        assert_eq!(
            judged(json!([{"from": [{"namespaceSelector": {}}]}])),
            (Some("[4] every pod of the cluster on all ports".into()), true)
        );
        assert_eq!(
            judged(json!([{"from": blocks(&["0.0.0.0/0"])}])),
            (Some("[4] every IPv4 address on all ports".into()), false)
        );
        // If even all rules together leave out much, their number does not matter.
        let openings =
            openings(json!({"podSelector": {}, "policyTypes": ["Ingress"], "ingress": rule(&upper, json!([{"port": 1}]))}));
        assert!(openings.is_none());
    }

    #[test]
    fn i7_of_a_policy_with_too_many_entries_each_rule_is_judged_alone() {
        let judged = |further: Value| {
            let rules = vec![json!({"to": [{"podSelector": {}}]}); MAX_ENTRIES / 2 + 1];
            let rules: Value = rules.into_iter().chain(further.as_array().unwrap().clone()).collect();
            let opens = openings(json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": rules}));
            (opens.egress.map(|o| format!("{} on {}", o.peers, o.ports)), opens.is_egress_too_large, opens.is_ingress_too_large)
        };
        let every_pod = json!({"to": [{"namespaceSelector": {}}]});
        assert_eq!(judged(json!([])), (None, true, false));
        assert_eq!(judged(json!([{"to": blocks(&["0.0.0.0/0"])}])), (None, true, false));
        assert_eq!(judged(json!([{"ports": [{"port": 53}]}])), (None, true, false));
        assert_eq!(judged(json!([every_pod])), (Some("every pod of the cluster on all ports".into()), true, false));
        assert_eq!(judged(json!([every_pod, {"ports": [{"port": 80}]}])), (Some("everybody on some ports".into()), true, false));
        assert_eq!(judged(json!([every_pod, {}])), (Some("everybody on all ports".into()), false, false));
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
        let Openings { ingress, egress, .. } = both(json!(["Ingress"]));
        assert!(ingress.is_some() && egress.is_none());
        let Openings { ingress, egress, .. } = both(json!(["Egress"]));
        assert!(ingress.is_none() && egress.is_some());
        let Openings { ingress, egress, .. } = both(json!([]));
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
            // 0.0.0.0/0 is split at random: all pieces together are still the whole. Without one piece of a /8 or more they are not, unless
            // peers have less than a /8 of addresses in it.
            let mut pieces = vec![(0_u32, 0_u32)];
            for index in at {
                let (first, length) = pieces.swap_remove(index.index(pieces.len()));
                let half = 1_u32.checked_shl(31 - length.min(31)).unwrap_or(0);
                pieces.extend(if length < 8 { vec![(first, length + 1), (first | half, length + 1)] } else { vec![(first, length)] });
            }
            let is_v4 = |pieces: &[(u32, u32)]| {
                let texts: Vec<String> = pieces.iter().map(|(a, l)| format!("{}/{l}", std::net::Ipv4Addr::from_bits(*a))).collect();
                let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
                opened(json!([{"from": blocks(&texts)}])).is_some_and(|told| told.contains("every IPv4 address"))
            };
            prop_assert!(is_v4(&pieces));
            let (first, length) = if seed { pieces.remove(0) } else { pieces.pop().unwrap() };
            let has_few_peers = first >= 0xe000_0000 || length == 8 && [0, 127, 169].contains(&(first >> 24));
            prop_assert_eq!(is_v4(&pieces), !pieces.is_empty() && has_few_peers);
        }
    }
}
