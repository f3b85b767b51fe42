//! The ports of all protocols, cut where a policy of either version cuts them. Ports that every rule treats alike are one class, and are judged
//! once.

use std::collections::{BTreeMap, BTreeSet};

use strum::VariantArray;

use crate::{
    api::peers::Protocol,
    policy::flow::{CompiledPolicies, CompiledPort, FlowPod, FlowSnapshot},
};

/// The last port.
const LAST: u16 = u16::MAX;
/// The most entries that a text lists before it names the other ports instead.
const FEW: usize = 4;

/// Ports of one protocol, from the first to the last.
type PortSpan = (Protocol, u16, u16);

/// Ports that no rule tells apart.
#[derive(Clone, Debug)]
pub struct PortClass {
    /// One of them.
    pub sample: (Protocol, u16),
    spans: Vec<PortSpan>,
}

/// What rules see of a port: the lists of ports that have it, and the names that pods give it.
type PortSignature<'a> = (Vec<usize>, BTreeSet<(&'a str, u16, Protocol)>);

impl PortClass {
    /// All classes. Together they are all ports.
    pub fn all(snapshot: &FlowSnapshot, compiled: [&CompiledPolicies<'_>; 2]) -> Vec<Self> {
        let lists: BTreeSet<&[CompiledPort<'_>]> = compiled.into_iter().flat_map(lists).collect();
        let entries: BTreeSet<CompiledPort<'_>> = lists.iter().copied().flatten().copied().collect();
        let names: BTreeSet<&str> = entries.iter().filter_map(name).collect();
        let of_pods: BTreeSet<(Protocol, u16, &str)> = snapshot
            .pods
            .iter()
            .filter(|pod| !pod.has_ended)
            .flat_map(|pod: &FlowPod| &pod.ports)
            .filter(|port| port.number > 0 && names.contains(&*port.name))
            .map(|port| (port.protocol, port.number, &*port.name))
            .collect();
        let mut classes: BTreeMap<PortSignature<'_>, Self> = BTreeMap::new();
        for protocol in Protocol::VARIANTS.iter().copied() {
            let mut firsts = BTreeSet::from([1]);
            let numbers = entries.iter().filter_map(|entry| numbers(entry, protocol));
            let of_names = of_pods.iter().filter(|(of, ..)| *of == protocol).map(|(_, number, _)| (*number, *number));
            for (first, last) in numbers.chain(of_names) {
                firsts.insert(first);
                firsts.extend(last.checked_add(1));
            }
            let firsts: Vec<u16> = firsts.into_iter().collect();
            let ends = firsts.iter().skip(1).map(|next| next - 1).chain([LAST]);
            for (first, last) in firsts.iter().copied().zip(ends) {
                // Whether it has this port of every destination.
                let has_it = |list: &[CompiledPort<'_>]| list.iter().any(|entry| entry.matches((protocol, first), None));
                let matching = lists.iter().enumerate().filter(|(_, list)| has_it(list));
                let given =
                    of_pods.range((protocol, first, "")..).take_while(|(of, number, _)| (*of, *number) == (protocol, first));
                let signature =
                    (matching.map(|(index, _)| index).collect(), given.map(|(of, number, name)| (*name, *number, *of)).collect());
                let class = classes.entry(signature).or_insert_with(|| Self { sample: (protocol, first), spans: vec![] });
                class.spans.push((protocol, first, last));
            }
        }
        let mut all: Vec<Self> = classes.into_values().collect();
        all.sort_by_key(|class| class.sample);
        all
    }
}

/// The lists of ports of all rules.
fn lists<'c, 'a>(compiled: &'c CompiledPolicies<'a>) -> impl Iterator<Item = &'c [CompiledPort<'a>]> {
    let both = compiled.policies.iter().flat_map(|policy| [&policy.egress, &policy.ingress]);
    let lists = both.flat_map(|rules| rules.iter().flatten()).filter_map(|rule| rule.ports.as_deref());
    lists.chain(compiled.tiers.port_lists())
}

const fn name<'a>(entry: &CompiledPort<'a>) -> Option<&'a str> {
    match entry {
        CompiledPort::Name(_, name) => Some(name),
        CompiledPort::Every(_) | CompiledPort::Numbers(..) | CompiledPort::None => None,
    }
}

fn numbers(entry: &CompiledPort<'_>, of: Protocol) -> Option<(u16, u16)> {
    match *entry {
        CompiledPort::Numbers(protocol, first, last) => (protocol == of && first <= last).then_some((first, last)),
        CompiledPort::Every(_) | CompiledPort::Name(..) | CompiledPort::None => None,
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

/// Neighbours as one.
fn joined(sorted: Vec<PortSpan>) -> Vec<PortSpan> {
    let mut joined: Vec<PortSpan> = Vec::new();
    for (protocol, first, last) in sorted {
        match joined.last_mut() {
            Some((of, _, end)) if *of == protocol && end.checked_add(1) == Some(first) => *end = last,
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
        PortClass::all(&world, [&compiled; 2]).iter().map(|class| port_names(std::iter::once(class))).collect()
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
    fn the_first_and_the_last_port_are_ports() {
        let edges = classes(json!([{"port": 1}, {"port": 65535}]), &[]);
        assert_eq!(edges, ["TCP 1, 65535", "every port except TCP 1, 65535"]);
    }
}
