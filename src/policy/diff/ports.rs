//! The ports of all protocols, cut where a policy of either version cuts them. Ports that every rule treats alike are one class, and are judged
//! once.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use strum::VariantArray;

use crate::{
    api::peers::Protocol,
    policy::flow::{CompiledPeer, CompiledPolicies, CompiledPort, FlowPod, FlowSnapshot},
};

/// The last port.
const LAST: u16 = u16::MAX;
/// The most entries that a text lists before it names the other ports instead.
const FEW: usize = 4;

/// If rules have more different lists of ports, those that a policy allows to the same peers are taken together.
const MANY_LISTS: usize = 256;
/// The most classes that are compared: each is compared for all pods.
const MOST_CLASSES: usize = 4_096;

/// The most entries that people are shown.
const MOST_SHOWN: usize = 8;

/// Ports of one protocol, from the first to the last.
type PortSpan = (Protocol, u16, u16);

/// Ports that no rule tells apart.
#[derive(Clone, Debug)]
pub struct PortClass {
    /// One of them.
    pub sample: (Protocol, u16),
    spans: Vec<PortSpan>,
}

/// All classes of ports.
#[derive(Debug)]
pub struct PortClasses {
    /// Together they are all ports.
    pub all: Vec<PortClass>,
    /// Ports that different rules allow to the same peers may be one class.
    pub are_of_peers: bool,
}

/// Why the ports of two versions are not compared.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "the policies treat more than {MOST_CLASSES} sets of ports differently, and to compare each of them takes too long. Write ranges of ports (endPort), or compare fewer policies at once"
)]
pub struct TooManyPorts;

/// What rules see of a port: the lists of ports that have it, and the names that pods give it.
type PortSignature<'a> = (Vec<usize>, BTreeSet<(&'a str, u16, Protocol)>);
/// Which lists begin and end at a port.
type PortEdges = BTreeMap<u32, Vec<(usize, bool)>>;

impl PortClasses {
    /// Finds all classes.
    pub fn of(snapshot: &FlowSnapshot, compiled: [&CompiledPolicies<'_>; 2]) -> Result<Self, TooManyPorts> {
        let entries = || compiled.into_iter().flat_map(entries).flatten();
        let mut lists: BTreeSet<Vec<PortSpan>> = compiled.into_iter().flat_map(entries_spans).collect();
        let are_of_peers = lists.len() > MANY_LISTS;
        if are_of_peers {
            lists = compiled.into_iter().flat_map(spans_by_peers).collect();
        }
        let names: BTreeSet<&str> = entries().filter_map(name).collect();
        let of_pods: BTreeSet<(Protocol, u16, &str)> = snapshot
            .pods
            .iter()
            .filter(|pod| !pod.has_ended)
            .flat_map(|pod: &FlowPod| &pod.ports)
            .filter(|port| port.number > 0 && names.contains(&*port.name))
            .map(|port| (port.protocol, port.number, &*port.name))
            .collect();
        let mut classes: BTreeMap<PortSignature<'_>, PortClass> = BTreeMap::new();
        for protocol in Protocol::VARIANTS.iter().copied() {
            let edges = edges(&lists, &of_pods, protocol);
            let ends = edges.keys().skip(1).map(|next| next - 1).chain([LAST.into()]);
            let mut matching = BTreeSet::new();
            for ((first, changes), last) in edges.iter().zip(ends) {
                for (list, begins) in changes {
                    _ = if *begins { matching.insert(*list) } else { matching.remove(list) };
                }
                // Behind the last port, lists only end.
                let (Ok(first), Ok(last)) = (u16::try_from(*first), u16::try_from(last)) else { continue };
                let given =
                    of_pods.range((protocol, first, "")..).take_while(|(of, number, _)| (*of, *number) == (protocol, first));
                let signature =
                    (matching.iter().copied().collect(), given.map(|(of, number, name)| (*name, *number, *of)).collect());
                let class = classes.entry(signature).or_insert_with(|| PortClass { sample: (protocol, first), spans: vec![] });
                class.spans.push((protocol, first, last));
                if classes.len() > MOST_CLASSES {
                    return Err(TooManyPorts);
                }
            }
        }
        let mut all: Vec<PortClass> = classes.into_values().collect();
        all.sort_by_key(|class| class.sample);
        Ok(Self { all, are_of_peers })
    }
}

/// Where the ports of a protocol are cut.
fn edges(lists: &BTreeSet<Vec<PortSpan>>, of_pods: &BTreeSet<(Protocol, u16, &str)>, protocol: Protocol) -> PortEdges {
    let mut edges = PortEdges::from([(1, vec![])]);
    for (list, number) in lists.iter().zip(0..) {
        for (_, first, last) in list.iter().filter(|(of, ..)| *of == protocol) {
            edges.entry(u32::from(*first)).or_default().push((number, true));
            edges.entry(u32::from(*last) + 1).or_default().push((number, false));
        }
    }
    for (_, number, _) in of_pods.iter().filter(|(of, ..)| *of == protocol) {
        edges.entry(u32::from(*number)).or_default();
        edges.entry(u32::from(*number) + 1).or_default();
    }
    edges
}

/// The lists of ports of all rules.
fn entries<'c, 'a>(compiled: &'c CompiledPolicies<'a>) -> impl Iterator<Item = &'c [CompiledPort<'a>]> {
    let both = compiled.policies.iter().flat_map(|policy| [&policy.egress, &policy.ingress]);
    let lists = both.flat_map(|rules| rules.iter().flatten()).filter_map(|rule| rule.ports.as_deref());
    lists.chain(compiled.tiers.port_lists())
}

fn entries_spans(compiled: &CompiledPolicies<'_>) -> impl Iterator<Item = Vec<PortSpan>> {
    entries(compiled).map(|list| spans(list.iter()))
}

/// The ports that each policy allows to the same peers, whichever of its rules does that.
fn spans_by_peers(compiled: &CompiledPolicies<'_>) -> Vec<Vec<PortSpan>> {
    let mut found: Vec<Vec<PortSpan>> = compiled.tiers.port_lists().map(|list| spans(list.iter())).collect();
    for rules in compiled.policies.iter().flat_map(|policy| [&policy.egress, &policy.ingress]) {
        let mut by_peers: HashMap<Option<&[CompiledPeer]>, Vec<&CompiledPort<'_>>> = HashMap::new();
        for rule in rules.iter().flatten() {
            by_peers.entry(rule.peers.as_deref()).or_default().extend(rule.ports.iter().flatten());
        }
        found.extend(by_peers.into_values().map(|ports| spans(ports.into_iter())));
    }
    found
}

/// The numbers of ports, without those that only a name has.
fn spans<'c, 'a: 'c>(ports: impl Iterator<Item = &'c CompiledPort<'a>>) -> Vec<PortSpan> {
    let span = |port: &CompiledPort<'_>| match *port {
        CompiledPort::Every(protocol) => Some((protocol, 1, LAST)),
        CompiledPort::Numbers(protocol, first, last) => (first <= last).then_some((protocol, first, last)),
        CompiledPort::Name(..) | CompiledPort::None => None,
    };
    let mut spans: Vec<PortSpan> = ports.filter_map(span).collect();
    spans.sort_unstable();
    joined(spans)
}

const fn name<'a>(entry: &CompiledPort<'a>) -> Option<&'a str> {
    match entry {
        CompiledPort::Name(_, name) => Some(name),
        CompiledPort::Every(_) | CompiledPort::Numbers(..) | CompiledPort::None => None,
    }
}

/// The ports of some classes for people: `TCP 80, 8000-8080, UDP`, or `every port except UDP 53`.
pub fn port_names<'a>(classes: impl Iterator<Item = &'a PortClass>) -> String {
    let mut spans: Vec<PortSpan> = classes.flat_map(|class| class.spans.iter().copied()).collect();
    spans.sort_unstable();
    let joined = joined(spans);
    let others = others(&joined);
    match others.len() {
        0 => "every port".into(),
        1..=FEW if others.len() < joined.len() => format!("every port except {}", spans_named(&others)),
        _ => spans_named(&joined),
    }
}

/// What overlaps, and neighbours, as one.
fn joined(sorted: Vec<PortSpan>) -> Vec<PortSpan> {
    let mut joined: Vec<PortSpan> = Vec::new();
    for (protocol, first, last) in sorted {
        match joined.last_mut() {
            Some((of, _, end)) if *of == protocol && first <= end.saturating_add(1) => *end = last.max(*end),
            _ => joined.push((protocol, first, last)),
        }
    }
    joined
}

/// The ports that are not among these.
fn others(sorted: &[PortSpan]) -> Vec<PortSpan> {
    let mut others = Vec::new();
    for protocol in Protocol::VARIANTS.iter().copied() {
        let mut next = Some(1);
        for (_, first, last) in sorted.iter().copied().filter(|(of, ..)| *of == protocol) {
            others.extend(next.filter(|next| *next < first).map(|next| (protocol, next, first - 1)));
            next = last.checked_add(1);
        }
        others.extend(next.map(|next| (protocol, next, LAST)));
    }
    others
}

/// The first ports of a text with ports, and how many more entries there are.
pub fn few_ports(ports: &str) -> String {
    let entries: Vec<&str> = ports.split(", ").collect();
    match entries.len().saturating_sub(MOST_SHOWN) {
        0 => ports.to_owned(),
        more => format!("{} and {more} more", entries[..MOST_SHOWN].join(", ")),
    }
}

fn spans_named(spans: &[PortSpan]) -> String {
    let mut before = None;
    let part = |(protocol, first, last): &PortSpan| {
        let of = if before.replace(*protocol) == Some(*protocol) { "" } else { protocol.into_str() };
        let numbers = match (*first, *last) {
            (1, LAST) => String::new(),
            (first, last) if first == last => first.to_string(),
            (first, last) => format!("{first}-{last}"),
        };
        [of, &*numbers].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
    };
    spans.iter().map(part).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::policy::flow::tests::{pod, policy, snapshot, with_ports};

    /// The classes of the ports of one policy, as texts.
    fn classes(ports: Value, pods: &[Value]) -> Vec<String> {
        let closing = policy("a/n", json!({"podSelector": {}, "ingress": [{"ports": ports}]}));
        let world = snapshot(&[pods, &[closing]].concat());
        let compiled = CompiledPolicies::of(&world);
        let found = PortClasses::of(&world, [&compiled; 2]).unwrap();
        assert!(!found.are_of_peers);
        found.all.iter().map(|class| port_names(std::iter::once(class))).collect()
    }

    /// How many classes rules have, each with one port, or why they are not compared.
    fn of_rules(rules: Vec<Value>) -> Result<(usize, bool), TooManyPorts> {
        let world = snapshot(&[policy("a/n", json!({"podSelector": {}, "ingress": rules}))]);
        let compiled = CompiledPolicies::of(&world);
        PortClasses::of(&world, [&compiled; 2]).map(|found| (found.all.len(), found.are_of_peers))
    }

    #[test]
    fn very_many_ports_are_few_classes_if_the_same_peers_may_use_them_and_too_many_are_refused() {
        let ports: Vec<Value> = (1..=u16::MAX).step_by(2).map(|port| json!({"port": port})).collect();
        assert_eq!(of_rules(vec![json!({"ports": ports})]), Ok((2, false)));
        let of_one_peer = |port: u16| json!({"ports": [{"port": port}], "from": [{"podSelector": {}}]});
        assert_eq!(of_rules((1..=u16::MAX).step_by(2).map(of_one_peer).collect()), Ok((2, true)));
        let of_own_peer =
            |port: u16| json!({"ports": [{"port": port}], "from": [{"podSelector": {"matchLabels": {"a": port.to_string()}}}]});
        assert_eq!(of_rules((1..=300).map(of_own_peer).collect()).unwrap(), (301, true), "nobody may be mixed up");
        let wide = |port: u16| json!({"ports": [{"port": port, "endPort": 65535}], "from": [{"podSelector": {"matchLabels": {"a": port.to_string()}}}]});
        assert_eq!(of_rules((1..=5_000).map(wide).collect()), Err(TooManyPorts));
    }

    #[test]
    fn ports_that_no_rule_tells_apart_are_one_class() {
        assert_eq!(classes(json!([]), &[]), ["every port"]);
        assert_eq!(classes(json!([{"port": 80}]), &[]), ["every port except TCP 80", "TCP 80"]);
        assert_eq!(classes(json!([{"port": 80, "endPort": 90}]), &[]), ["every port except TCP 80-90", "TCP 80-90"]);
        let two = classes(json!([{"port": 53}, {"port": 53, "protocol": "UDP"}]), &[]);
        assert_eq!(two, ["every port except TCP 53, UDP 53", "TCP 53, UDP 53"]);
        let parts = classes(json!([{"port": 1, "endPort": 10}, {"port": 5, "endPort": 65535}, {"protocol": "UDP"}]), &[]);
        assert_eq!(parts, ["every port except SCTP", "SCTP"]);
    }

    #[test]
    fn a_named_port_is_a_class_where_a_pod_has_it() {
        let pods = [
            with_ports(pod("a/p", json!({}), &[]), &[("web", 8080), ("other", 9)]),
            with_ports(pod("a/q", json!({}), &[]), &[("web", 80)]),
        ];
        assert_eq!(classes(json!([{"port": "web"}]), &pods), ["every port except TCP 80, 8080", "TCP 80", "TCP 8080"]);
        assert_eq!(classes(json!([{"port": "web"}]), &[]), ["every port"], "nobody has it");
    }

    #[test]
    fn a_long_list_of_ports_is_cut_for_people() {
        assert_eq!(few_ports("TCP 1, 3, 5, 7, 9, 11, 13, 15"), "TCP 1, 3, 5, 7, 9, 11, 13, 15");
        assert_eq!(few_ports("TCP 1, 3, 5, 7, 9, 11, 13, 15, UDP 1, 2"), "TCP 1, 3, 5, 7, 9, 11, 13, 15 and 2 more");
        assert_eq!(few_ports("every port except TCP 80, UDP 53"), "every port except TCP 80, UDP 53");
    }

    #[test]
    fn the_first_and_the_last_port_are_ports() {
        let edges = classes(json!([{"port": 1}, {"port": 65535}]), &[]);
        assert_eq!(edges, ["TCP 1, 65535", "every port except TCP 1, 65535"]);
    }
}
