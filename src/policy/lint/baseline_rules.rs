//! Rules about a policy beside a baseline: what the operator would say of it, before it is applied.

use k8s_openapi::api::networking::v1::NetworkPolicyPeer;

use super::{
    case::{LintCase, rules_of},
    dns_rules,
    found::RuleHit,
    given::{is_empty, selects},
    rule::LintRule,
};
use crate::{
    api::{Role, names::LABEL_MANAGED_BY},
    policy::{
        flow::{FlowNamespace, Way, isolates},
        netpol::{NAME_LABEL, Openings},
        plan::Rendered,
        preview::PreviewedBaseline,
    },
};

const CANNOT_CLOSE: &str = "NetworkPolicies only add, so the baseline cannot close that: narrow this policy or remove it";

/// What is wrong with a policy where a baseline applies, and with its DNS where none does.
pub fn check(case: &LintCase, baseline: Option<&PreviewedBaseline>) -> Vec<RuleHit> {
    let planned = baseline.zip(case.policy.namespace.as_deref()).map(|(baseline, name)| {
        let namespace = FlowNamespace { name: name.into(), labels: case.given.labels_of(name) };
        (baseline, baseline.planned(&namespace), namespace)
    });
    let Some((baseline, planned, namespace)) = planned else { return dns_rules::check(case, false) };
    if planned.is_empty() {
        // The monitoring is often in a namespace that the baseline does not select.
        let carve_out = blocks_carve_out(case, baseline, &planned, &namespace);
        return dns_rules::check(case, false).into_iter().chain(carve_out).collect();
    }
    let plans = |role| planned.iter().any(|policy| policy.role() == Some(role));
    let is_planned = planned.iter().any(|policy| policy.name == case.policy.name);
    let mut found = dns_rules::check(case, plans(Role::DefaultDenyEgress));
    for hit in found.iter_mut().filter(|hit| hit.rule == LintRule::EgressWithoutDns) {
        hit.rule = LintRule::CutsOffDns;
        hit.message = format!(
            "the baseline {} does not close egress in this namespace, so it allows no DNS there either. This policy closes egress, and names do not resolve. Allow UDP and TCP 53 to k8s-app=kube-dns in kube-system",
            baseline.name()
        );
    }
    if is_planned {
        // What the baseline itself would write there is as planned.
        let is_written = case.node.labels("metadata.labels").contains_key(LABEL_MANAGED_BY);
        let message = format!(
            "the baseline {} plans a policy of this name, so the operator takes this one over and replaces its spec. Choose another name",
            baseline.name()
        );
        found.extend((!is_written).then(|| RuleHit::new(LintRule::TakesPlannedName, "metadata.name", message)));
        return found;
    }
    let Openings { ingress, egress, .. } = Openings::of(case.spec());
    if let Some(opening) = ingress.filter(|_| plans(Role::DefaultDenyIngress)) {
        let path = format!("spec.ingress[{}]", opening.rule);
        let message = format!("this lets {} reach {} on {}; {CANNOT_CLOSE}", opening.peers, opening.pods, opening.ports);
        found.push(RuleHit::new(LintRule::OpensBaseline, path, message));
    }
    if let Some(opening) = egress.filter(|_| plans(Role::DefaultDenyEgress)) {
        let path = format!("spec.egress[{}]", opening.rule);
        let message = format!("this lets {} reach {} on {}; {CANNOT_CLOSE}", opening.pods, opening.peers, opening.ports);
        found.push(RuleHit::new(LintRule::OpensBaseline, path, message));
    }
    found.extend(blocks_carve_out(case, baseline, &planned, &namespace));
    found
}

/// A policy that closes the egress of the pods that scrape, and does not let them reach what they scrape.
fn blocks_carve_out(
    case: &LintCase,
    baseline: &PreviewedBaseline,
    planned: &[&Rendered],
    namespace: &FlowNamespace,
) -> Option<RuleHit> {
    if !isolates(case.spec(), Way::Egress) || planned.iter().any(|policy| policy.is_of_a_source()) {
        return None;
    }
    let own = case.spec().pod_selector.as_ref();
    let scrapes = baseline.scrapers_in(namespace).into_iter().find(|pods| {
        let labels = pods.match_labels.clone().unwrap_or_default();
        own.is_none_or(is_empty) || selects(own, &labels)
    })?;
    // Which namespaces have pods to scrape is not known, so whoever names namespaces is believed.
    let may_be_scraped = |peer: &NetworkPolicyPeer| {
        let namespaces = peer.namespace_selector.as_ref();
        namespaces
            .is_some_and(|one| !one.match_labels.iter().flatten().any(|(key, value)| key == NAME_LABEL && value == "kube-system"))
    };
    let policies = case.given.policies_of(case.policy.namespace.as_deref());
    let mut rules = policies.flat_map(|policy| rules_of(&policy.spec, Way::Egress));
    if rules.any(|rule| rule.peers.is_empty() || rule.peers.iter().any(may_be_scraped)) {
        return None;
    }
    let labels = scrapes.match_labels.unwrap_or_default().into_iter().map(|(key, value)| format!("{key}={value}"));
    let labels: Vec<String> = labels.collect();
    let or_else = if planned.is_empty() { "" } else { ", or set spec.monitoring.sourceEgress: Enforce in the baseline" };
    let message = format!(
        "the baseline {} lets the pods {} of this namespace scrape others, and this policy closes their egress: nothing is scraped. Allow egress to the scraped pods{or_else}",
        baseline.name(),
        labels.join(",")
    );
    Some(RuleHit::new(LintRule::BlocksCarveOut, "spec.podSelector", message))
}
