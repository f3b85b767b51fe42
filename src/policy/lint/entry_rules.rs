//! Rules about entries of lists: those that are there twice, and those that another one covers.

use k8s_openapi::{
    api::networking::v1::{NetworkPolicyPeer, NetworkPolicyPort},
    apimachinery::pkg::util::intstr::IntOrString,
};

use super::{
    case::{LintCase, RuleView, WAYS, rules_of},
    found::RuleHit,
    given::is_empty,
    rule::LintRule,
};
use crate::{
    api::peers::Protocol,
    policy::netpol::{Block, has_more_entries},
};

/// In a larger policy, not every entry is compared with every other one.
const MOST_COMPARED: usize = 1_000;

/// What is there twice, or is covered. `refused` are the fields that the API server refuses: the entries that have them are not compared.
pub fn check(case: &LintCase, refused: &[String]) -> Vec<RuleHit> {
    let mut found = Vec::new();
    if has_more_entries(case.spec(), MOST_COMPARED) {
        return found;
    }
    let is_taken = |path: &str| {
        let is_in = |field: &String| field.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']));
        !refused.iter().any(is_in)
    };
    for way in WAYS {
        let rules = rules_of(case.spec(), way);
        let taken: Vec<&RuleView> = rules.iter().filter(|rule| is_taken(&rule.path)).collect();
        found.extend(covered(
            &taken,
            |rule| rule.path.clone(),
            |one, other| same_rule(one, other),
            |one, other| rule_covers(one, other),
        ));
        for rule in &rules {
            let peers = rule.peers.iter().enumerate().map(|(index, peer)| (rule.peer_path(index), peer));
            let peers: Vec<(String, &NetworkPolicyPeer)> = peers.filter(|(path, _)| is_taken(path)).collect();
            found.extend(covered(
                &peers,
                |(path, _)| path.clone(),
                |one, other| one.1 == other.1,
                |one, other| peer_covers(one.1, other.1),
            ));
            let port = |(index, port)| (format!("{}.ports[{index}]", rule.path), port);
            let ports = rule.ports.iter().enumerate().map(port).filter(|(path, _)| is_taken(path));
            let ports: Vec<(String, &NetworkPolicyPort)> = ports.collect();
            found.extend(covered(
                &ports,
                |(path, _)| path.clone(),
                |one, other| same_port(one.1, other.1),
                |one, other| port_covers(one.1, other.1),
            ));
        }
    }
    found
}

/// Of each entry, the first other one that is the same or covers it.
fn covered<T>(
    all: &[T],
    path: impl Fn(&T) -> String,
    is_same: impl Fn(&T, &T) -> bool,
    covers: impl Fn(&T, &T) -> bool,
) -> Vec<RuleHit> {
    let mut found = Vec::new();
    for (at, one) in all.iter().enumerate() {
        let first = all.get(..at).into_iter().flatten().find(|other| is_same(other, one));
        if let Some(first) = first {
            let message = format!("this is the same as {}. Remove one of both", path(first));
            found.push(RuleHit::new(LintRule::DuplicateEntry, path(one), message));
            continue;
        }
        // Of two that cover each other, the second one is named.
        let is_wider = |other_at: usize, other: &T| {
            other_at != at && !is_same(other, one) && covers(other, one) && (other_at < at || !covers(one, other))
        };
        let wider = all.iter().enumerate().find(|(other_at, other)| is_wider(*other_at, other));
        if let Some((_, wider)) = wider {
            let message = format!("{} allows this already, so this entry does nothing. Remove one of both", path(wider));
            found.push(RuleHit::new(LintRule::ShadowedEntry, path(one), message));
        }
    }
    found
}

fn same_rule(one: &RuleView, other: &RuleView) -> bool {
    one.peers == other.peers && one.ports == other.ports
}

/// Whether a rule covers another one: each of its peers and ports.
fn rule_covers(wide: &RuleView, narrow: &RuleView) -> bool {
    let peers = wide.peers.is_empty()
        || (!narrow.peers.is_empty()
            && narrow.peers.iter().all(|one| wide.peers.iter().any(|peer| peer == one || peer_covers(peer, one))));
    let ports = wide.ports.is_empty()
        || (!narrow.ports.is_empty()
            && narrow.ports.iter().all(|one| wide.ports.iter().any(|port| same_port(port, one) || port_covers(port, one))));
    peers && ports
}

/// Whether a peer covers another one. Of selectors, only empty ones are compared.
fn peer_covers(wide: &NetworkPolicyPeer, narrow: &NetworkPolicyPeer) -> bool {
    match (&wide.ip_block, &narrow.ip_block) {
        (Some(wide), Some(narrow)) => {
            let has_except = wide.except.as_ref().is_some_and(|except| !except.is_empty());
            let (Some(whole), Some(part)) = (Block::parse(&wide.cidr), Block::parse(&narrow.cidr)) else { return false };
            !has_except && (whole == part || whole.has_part(&part))
        }
        (None, None) => {
            let is_every_pod = wide.pod_selector.as_ref().is_none_or(is_empty);
            let same_namespaces = wide.namespace_selector == narrow.namespace_selector;
            let every_namespace = wide.namespace_selector.as_ref().is_some_and(is_empty);
            let same_pods = wide.pod_selector == narrow.pod_selector && wide.pod_selector.is_some();
            (is_every_pod && (same_namespaces || every_namespace)) || (same_pods && every_namespace)
        }
        _ => false,
    }
}

fn protocol(port: &NetworkPolicyPort) -> Option<Protocol> {
    Protocol::named(port.protocol.as_deref())
}

/// The numbers of an entry, if it has numbers: all of them if it names no port.
fn numbers(port: &NetworkPolicyPort) -> Option<(i32, i32)> {
    match &port.port {
        None => Some((1, 65_535)),
        Some(IntOrString::Int(first)) => Some((*first, port.end_port.unwrap_or(*first))),
        Some(IntOrString::String(_)) => None,
    }
}

fn same_port(one: &NetworkPolicyPort, other: &NetworkPolicyPort) -> bool {
    let same_name = one.port == other.port && numbers(one).is_none();
    protocol(one) == protocol(other) && (same_name || (numbers(one).is_some() && numbers(one) == numbers(other)))
}

fn port_covers(wide: &NetworkPolicyPort, narrow: &NetworkPolicyPort) -> bool {
    let has_numbers = numbers(wide)
        .is_some_and(|(first, last)| numbers(narrow).map_or(wide.port.is_none(), |(from, to)| first <= from && to <= last));
    protocol(wide) == protocol(narrow) && has_numbers
}
