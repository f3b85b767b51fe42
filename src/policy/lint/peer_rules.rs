//! Rules about what a rule allows: everybody, everything, or others than it seems. And about the directions that a policy closes.

use k8s_openapi::{api::networking::v1::NetworkPolicyPeer, apimachinery::pkg::apis::meta::v1::LabelSelector};

use super::{
    case::{LintCase, RuleView, WAYS, rules_of, type_of},
    found::RuleHit,
    given::{is_empty, label_test, selects},
    rule::LintRule,
};
use crate::policy::flow::{Way, isolates};

/// What is wrong with the rules of a policy.
pub fn check(case: &LintCase) -> Vec<RuleHit> {
    let mut found = Vec::new();
    for rule in case.live_rules() {
        found.extend(openness(case, &rule));
        found.extend(or_instead_of_and(case, &rule));
        found.extend(rule.peers.iter().enumerate().filter_map(|(index, peer)| and_instead_of_or(case, &rule, index, peer)));
    }
    found.extend(WAYS.into_iter().filter_map(|way| without_type(case, way)));
    found.extend(by_accident(case));
    found
}

/// Empty peers, empty ports, and a rule that has neither.
fn openness(case: &LintCase, rule: &RuleView) -> Vec<RuleHit> {
    let mut found = Vec::new();
    let (side, verb) = match rule.way {
        Way::Ingress => ("from", "everybody may connect"),
        Way::Egress => ("to", "these pods may connect to everybody"),
    };
    let peers = format!("{}.{side}", rule.path);
    if case.is_empty_there(&peers) {
        let direction = rule.way.into_str();
        let message = format!("{side} is empty, which denies nothing: {verb}. Name the peers, or write {direction}: [] to deny");
        found.push(RuleHit::new(LintRule::EmptyPeers, peers, message));
    }
    let ports = format!("{}.ports", rule.path);
    if case.is_empty_there(&ports) {
        let message = "an empty list of ports denies nothing: every port is allowed. Name the ports, or leave the field out";
        found.push(RuleHit::new(LintRule::EmptyPorts, ports, message));
    }
    if found.is_empty() && rule.peers.is_empty() && rule.ports.is_empty() {
        let message = format!("this rule is empty, so {verb}, on every port. Name peers or ports; to deny, leave the rule out");
        found.push(RuleHit::new(LintRule::AllowsEverything, rule.path.clone(), message));
    }
    found
}

const fn only_namespaces(peer: &NetworkPolicyPeer) -> Option<&LabelSelector> {
    match peer {
        NetworkPolicyPeer { namespace_selector: Some(selector), pod_selector: None, ip_block: None } => Some(selector),
        _ => None,
    }
}

fn only_pods(peer: &NetworkPolicyPeer) -> Option<&LabelSelector> {
    match peer {
        NetworkPolicyPeer { namespace_selector: None, pod_selector: Some(selector), ip_block: None } => {
            Some(selector).filter(|selector| !is_empty(selector))
        }
        _ => None,
    }
}

/// A peer with a namespaceSelector and right behind it one with a podSelector, as a hyphen too many makes them.
fn or_instead_of_and(case: &LintCase, rule: &RuleView) -> Option<RuleHit> {
    let mut pairs = rule.peers.windows(2).enumerate();
    let (at, namespaces, pods) = pairs.find_map(|(at, both)| {
        let [one, other] = both else { return None };
        let namespaces = only_namespaces(one).or_else(|| only_namespaces(other))?;
        let pods = only_pods(other).or_else(|| only_pods(one))?;
        Some((at, namespaces, pods))
    })?;
    // Whoever lists more peers means a list; and pods of the own namespace may be meant where they exist.
    let is_whole_cluster = is_empty(namespaces);
    if !is_whole_cluster && (rule.peers.len() != 2 || case.has_own(pods)) {
        return None;
    }
    let second = rule.peer_path(at + 1);
    let whom = if is_whole_cluster { "every pod of the cluster" } else { "every pod of these namespaces" };
    let message = format!(
        "the hyphen makes this a second peer: {whom} is allowed, and also these pods of the policy's own namespace. For these pods in those namespaces, write both selectors in one entry, with one hyphen"
    );
    Some(RuleHit::new(LintRule::OrInsteadOfAnd, second, message))
}

/// A peer with both selectors that cannot match, where each alone could.
fn and_instead_of_or(case: &LintCase, rule: &RuleView, index: usize, peer: &NetworkPolicyPeer) -> Option<RuleHit> {
    let (Some(namespaces), Some(pods)) = (&peer.namespace_selector, &peer.pod_selector) else { return None };
    if is_empty(namespaces) || is_empty(pods) {
        return None;
    }
    let is_selected = |namespace: &str| selects(Some(namespaces), &case.given.labels_of(namespace));
    if case.policy.namespace.as_deref().is_some_and(is_selected) {
        return None;
    }
    // Of the selected namespaces, workloads are given, and none has these labels; but some in the policy's own namespace have them.
    let has_labels = label_test(Some(pods));
    let matches_there = case.candidates(peer)?.iter().any(|one| has_labels(&one.labels));
    if matches_there || !case.has_own(pods) {
        return None;
    }
    let message = "this entry selects nothing: these labels are on a workload of the policy's own namespace, and on none of the selected namespaces. To allow both, write two entries, each with its own hyphen";
    Some(RuleHit::new(LintRule::AndInsteadOfOr, format!("{}.podSelector", rule.peer_path(index)), message))
}

/// Rules of a direction that the policy does not close.
fn without_type(case: &LintCase, way: Way) -> Option<RuleHit> {
    let direction = way.into_str();
    if isolates(case.spec(), way) {
        return None;
    }
    let path = format!("spec.{direction}");
    let name = type_of(way);
    let has_types = case.spec().policy_types.as_ref().is_some_and(|types| !types.is_empty());
    let is_there = case.node.at(&path).is_some();
    let message = if !rules_of(case.spec(), way).is_empty() {
        format!("policyTypes does not name {name}, so these rules do nothing. Add {name} to policyTypes, or remove the rules")
    } else if is_there && !has_types {
        format!(
            "without policyTypes, an empty {direction} closes nothing: {direction} stays open. Write policyTypes: [Ingress, Egress], or only those that you mean"
        )
    } else {
        return None;
    };
    Some(RuleHit::new(LintRule::RulesWithoutPolicyType, path, message))
}

/// A direction that is closed although the policy is about the other one.
fn by_accident(case: &LintCase) -> Option<RuleHit> {
    let spec = case.spec();
    let has_rules = |way| !rules_of(spec, way).is_empty();
    let is_there = |way: Way| case.node.at(&format!("spec.{}", way.into_str())).is_some();
    let types = spec.policy_types.as_deref().unwrap_or_default();
    if types.is_empty() {
        // Without policyTypes, ingress is always closed.
        let is_about_egress = has_rules(Way::Egress) && !is_there(Way::Ingress);
        let message = "without policyTypes, every policy closes ingress, also this one, which has only egress rules: nobody may connect to these pods. Write policyTypes: [Egress]";
        return is_about_egress.then(|| RuleHit::new(LintRule::IsolatesByAccident, "spec.egress", message));
    }
    let (index, _) = types.iter().enumerate().find(|(_, one)| {
        let way = if *one == "Egress" { Way::Egress } else { Way::Ingress };
        let other = if way == Way::Egress { Way::Ingress } else { Way::Egress };
        !is_there(way) && has_rules(other) && isolates(spec, other)
    })?;
    let name = types.get(index)?;
    let direction = name.to_lowercase();
    let message = format!(
        "policyTypes names {name}, and there is no {direction} rule: all {direction} of these pods is denied. If that is meant, write {direction}: []; otherwise remove {name}"
    );
    Some(RuleHit::new(LintRule::IsolatesByAccident, format!("spec.policyTypes[{index}]"), message))
}
