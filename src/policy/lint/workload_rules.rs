//! Rules about ports and selectors, with the workloads that are given.

use std::collections::BTreeSet;

use k8s_openapi::{
    api::networking::v1::{NetworkPolicyPeer, NetworkPolicyPort},
    apimachinery::pkg::{apis::meta::v1::LabelSelector, util::intstr::IntOrString},
};

use super::{
    case::{LintCase, RuleView},
    found::RuleHit,
    given::{LintWorkload, is_empty, label_test},
    rule::LintRule,
};
use crate::{
    api::peers::Protocol,
    policy::flow::{Way, few},
};

/// More ports than the passive ports of a file server or the node ports of a cluster.
const MANY_PORTS: i32 = 4_096;
/// Labels that tools change with each release.
pub const MUTABLE: [&str; 10] = [
    "app.kubernetes.io/version",
    "chart",
    "commit",
    "controller-revision-hash",
    "git-sha",
    "helm.sh/chart",
    "pod-template-generation",
    "pod-template-hash",
    "track",
    "version",
];

/// What is wrong with the ports and selectors of a policy.
pub fn check(case: &LintCase) -> Vec<RuleHit> {
    let mut found = mutable_labels(case);
    found.extend(selects_none(case));
    for rule in case.live_rules() {
        for (index, port) in rule.ports.iter().enumerate() {
            let path = format!("{}.ports[{index}]", rule.path);
            found.extend(wide_range(&path, port));
            found.extend(unknown_name(case, &rule, &path, port));
        }
        for (index, peer) in rule.peers.iter().enumerate() {
            found.extend(peer_selects_none(case, &rule.peer_path(index), peer));
        }
    }
    found
}

/// The given workloads on the host network that the policy selects, each with the field that says so.
pub fn on_host_network<'a>(case: &LintCase<'a>) -> Vec<(&'a LintWorkload, &'a str)> {
    selected(case).filter_map(|workload| Some((workload, workload.host_network.as_deref()?))).collect()
}

/// What is said of a workload on the host network that these policies select.
pub fn on_host_message(policies: &[&str]) -> String {
    format!(
        "policies do not apply to pods on the host network, so this one is as open as its node, although it is selected by {}",
        few(policies)
    )
}

/// The given workloads that the policy selects.
fn selected<'a>(case: &LintCase<'a>) -> impl Iterator<Item = &'a LintWorkload> {
    let is_selected = label_test(case.spec().pod_selector.as_ref());
    let there = case.given.workloads_of(case.policy.namespace.as_deref());
    there.filter(move |workload| is_selected(&workload.labels))
}

fn wide_range(path: &str, port: &NetworkPolicyPort) -> Option<RuleHit> {
    let (Some(IntOrString::Int(first)), Some(last)) = (&port.port, port.end_port) else { return None };
    let count = last - first + 1;
    let message =
        format!("this opens {count} ports. Name the ports that are used, or leave port and endPort out if all are meant");
    (count > MANY_PORTS).then(|| RuleHit::new(LintRule::WidePortRange, format!("{path}.endPort"), message))
}

/// A name of a port that none of the workloads has on which it would have to be.
fn unknown_name(case: &LintCase, rule: &RuleView, path: &str, port: &NetworkPolicyPort) -> Option<RuleHit> {
    let (Some(IntOrString::String(name)), Some(protocol)) = (&port.port, Protocol::named(port.protocol.as_deref())) else {
        return None;
    };
    let targets: Vec<&LintWorkload> = match rule.way {
        Way::Ingress => selected(case).collect(),
        // Each peer must be known: an unknown one may have the port.
        Way::Egress => {
            let known: Option<Vec<Vec<&LintWorkload>>> =
                rule.peers.iter().map(|peer| peers(case, peer).filter(|known| !known.is_empty())).collect();
            known?.into_iter().flatten().collect()
        }
    };
    let named = |workload: &LintWorkload| workload.port_names.iter().any(|(known, of)| (known, *of) == (name, protocol));
    if targets.is_empty() || targets.iter().any(|workload| named(workload)) {
        return None;
    }
    let has: BTreeSet<&str> = targets.iter().flat_map(|one| &one.port_names).map(|(name, _)| &**name).collect();
    let has: Vec<&str> = has.into_iter().collect();
    let others =
        if has.is_empty() { "They name no ports: write a number".into() } else { format!("They have: {}", has.join(", ")) };
    let message = format!(
        "none of the given workloads has a {} port named {name:?}, so this allows nothing. {others}",
        protocol.into_str()
    );
    Some(RuleHit::new(LintRule::UnknownPortName, format!("{path}.port"), message))
}

fn selects_none(case: &LintCase) -> Option<RuleHit> {
    let there: Vec<&LintWorkload> = case.given.workloads_of(case.policy.namespace.as_deref()).collect();
    let selector = case.spec().pod_selector.as_ref().filter(|selector| !is_empty(selector))?;
    if there.is_empty() || selected(case).next().is_some() {
        return None;
    }
    if let Some(hit) = typo("spec.podSelector", selector, &there) {
        return Some(hit);
    }
    let message = format!("none of the {} given workloads of this namespace has these labels", there.len());
    Some(RuleHit::new(LintRule::SelectsNoWorkload, "spec.podSelector", message))
}

/// A label that no workload has, and that differs in few letters from one that a workload has.
fn typo(path: &str, selector: &LabelSelector, there: &[&LintWorkload]) -> Option<RuleHit> {
    selector.match_labels.iter().flatten().find_map(|(key, value)| {
        let known: BTreeSet<&str> = there.iter().filter_map(|one| one.labels.get(key)).map(String::as_str).collect();
        if known.contains(&**value) {
            return None;
        }
        let near = known.iter().filter(|known| is_near(value, known)).min_by_key(|known| letters_apart(value, known))?;
        let message =
            format!("no given workload has {key}={value}, but one has {key}={near}: this selects nothing. Is it a typo?");
        Some(RuleHit::new(LintRule::LabelTypo, format!("{path}.matchLabels[{key}]"), message))
    })
}

fn letters_apart(one: &str, other: &str) -> usize {
    strsim::damerau_levenshtein(one, other)
}

/// Whether two values differ so little that one may be a typo of the other. Numbers are no typos: db-1 is not db-2.
fn is_near(one: &str, other: &str) -> bool {
    let without_digits = |text: &str| text.chars().filter(|c| !c.is_ascii_digit()).collect::<String>();
    let apart = letters_apart(one, other);
    apart <= 2 && apart * 3 <= one.len().min(other.len()) && without_digits(one) != without_digits(other)
}

/// The given workloads that a peer selects; none if it may select others.
fn peers<'a>(case: &LintCase<'a>, peer: &NetworkPolicyPeer) -> Option<Vec<&'a LintWorkload>> {
    if peer.ip_block.is_some() {
        return None;
    }
    let is_selected = label_test(peer.pod_selector.as_ref());
    Some(case.candidates(peer)?.into_iter().filter(|workload| is_selected(&workload.labels)).collect())
}

/// A peer that selects none of the workloads of namespaces whose workloads are given.
fn peer_selects_none(case: &LintCase, path: &str, peer: &NetworkPolicyPeer) -> Option<RuleHit> {
    let selector = peer.pod_selector.as_ref().filter(|selector| !is_empty(selector))?;
    let selected = peers(case, peer)?;
    // With both selectors, another rule says more if the own namespace has such pods.
    if !selected.is_empty() || (peer.namespace_selector.is_some() && case.has_own(selector)) {
        return None;
    }
    if let Some(hit) = typo(&format!("{path}.podSelector"), selector, &case.candidates(peer)?) {
        return Some(hit);
    }
    let message = "none of the given workloads that this could select has these labels";
    Some(RuleHit::new(LintRule::PeerSelectsNoWorkload, format!("{path}.podSelector"), message))
}

fn mutable_labels(case: &LintCase) -> Vec<RuleHit> {
    let mut found = Vec::new();
    let mut check = |path: String, selector: Option<&LabelSelector>| {
        let Some(selector) = selector else { return };
        let labels = selector.match_labels.iter().flatten().map(|(key, _)| (key, format!("{path}.matchLabels[{key}]")));
        let expressions = selector.match_expressions.iter().flatten().enumerate();
        let expressions = expressions.map(|(index, one)| (&one.key, format!("{path}.matchExpressions[{index}].key")));
        for (key, path) in labels.chain(expressions).filter(|(key, _)| MUTABLE.contains(&&***key)) {
            let message = format!(
                "{key} changes with a release, and then this selects nothing. Select by a label that stays, such as app.kubernetes.io/name"
            );
            found.push(RuleHit::new(LintRule::MutableLabel, path, message));
        }
    };
    check("spec.podSelector".into(), case.spec().pod_selector.as_ref());
    for rule in case.rules() {
        for (index, peer) in rule.peers.iter().enumerate() {
            check(format!("{}.podSelector", rule.peer_path(index)), peer.pod_selector.as_ref());
        }
    }
    found
}
