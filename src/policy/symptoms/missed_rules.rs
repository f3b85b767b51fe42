//! Rules that would allow a flow if their policy were about the pod, and rules that miss the flow in more than one part.

use std::collections::BTreeSet;

use k8s_openapi::{
    api::networking::v1::{NetworkPolicyPeer, NetworkPolicyPort},
    apimachinery::pkg::util::intstr::IntOrString,
};

use super::{
    case::{AskedCase, BOTH_WAYS, SymptomCase, id, is_denied_by_policies},
    cause::{CauseName, SymptomCause},
    passes::{labels, shown},
};
use crate::policy::{
    flow::{AddressRange, CompiledPort, FlowPod, FlowPolicy, JudgedFlow, Party, Way, few, isolates},
    lint::{RuleView, is_empty, rules_of, selects, type_of},
};

/// The causes of rules that belong to policies which are not about the pod, and of rules that miss more than one part.
/// `near` are the directions in which a rule misses one part alone.
pub fn causes(case: &SymptomCase, asked: &AskedCase, near: &BTreeSet<Way>) -> Vec<SymptomCause> {
    let mut found = Elsewhere::default();
    let mut nearest = Vec::new();
    for flow in &asked.flows {
        for way in BOTH_WAYS.into_iter().filter(|way| is_denied_by_policies(flow.of(*way))) {
            let before = found.count();
            elsewhere(case, flow, way, &mut found);
            if found.count() == before && !near.contains(&way) {
                nearest.extend(nearest_rule(case, flow, way));
            }
        }
    }
    let of_pods = if found.certain.is_empty() && !found.perhaps.is_empty() {
        let to_know =
            "if one of these policies is meant for this pod, change its podSelector, or the labels in the template of the pod";
        SymptomCause::not_known(CauseName::SelectsOtherPods, found.perhaps, to_know)
    } else {
        SymptomCause::found_if(
            CauseName::SelectsOtherPods,
            found.certain,
            "change podSelector so that it selects this pod, and write the policy into the namespace of the pods that it is about",
            "no rule of a policy for other pods would allow it",
        )
    };
    let of_types = SymptomCause::found_if(
        CauseName::PolicyTypes,
        found.types,
        "add the direction to policyTypes",
        "no policy that selects the pods has rules for a direction that its policyTypes leave out",
    );
    let of_nearest = if nearest.is_empty() {
        SymptomCause::ruled_out(CauseName::NearestRule, "no rule misses this flow in several parts and matches another part")
    } else {
        let to_know = "if this rule is meant for this flow, change all that it misses";
        SymptomCause::not_known(CauseName::NearestRule, nearest, to_know)
    };
    vec![of_pods, of_types, of_nearest]
}

/// Rules that would allow a flow, in policies that are not about the pod.
#[derive(Default)]
struct Elsewhere {
    /// The policy selects no pod at all, so it is meant for another one.
    certain: Vec<String>,
    perhaps: Vec<String>,
    types: Vec<String>,
}

impl Elsewhere {
    const fn count(&self) -> usize {
        self.certain.len() + self.perhaps.len() + self.types.len()
    }
}

fn elsewhere(case: &SymptomCase, flow: &JudgedFlow, way: Way, found: &mut Elsewhere) {
    let (own, peer) = flow.flow.ends(way);
    let Some(own) = case.pod(own) else { return };
    let of_peer = case.pod(peer).map(|pod| &*pod.namespace);
    let name = own.id();
    for policy in &case.snapshot().policies {
        let is_own = policy.namespace == own.namespace;
        let is_of_peer = of_peer == Some(&*policy.namespace);
        if !is_own && !is_of_peer {
            continue;
        }
        let selector = policy.spec.pod_selector.as_ref();
        let is_selected = selects(selector, &own.labels);
        let is_about_all = selector.is_none_or(is_empty);
        // Of the other namespace, only what names the labels of this pod can be meant for it.
        let can_be_meant = if is_own { true } else { is_selected && !is_about_all };
        let is_isolating = is_own && is_selected && isolates(&policy.spec, way);
        if is_isolating || !can_be_meant {
            continue;
        }
        let rules = rules_of(&policy.spec, way);
        let Some(rule) = rules.iter().find(|rule| missed(case, policy, rule, flow).parts.is_empty()) else { continue };
        let at = format!("{}: {} would allow it", id(policy), rule.path);
        if is_own && is_selected {
            found.types.push(format!("{at}, but policyTypes does not name {}", type_of(way)));
            continue;
        }
        let mut there = case.snapshot().pods_of(&policy.namespace).filter(|(_, pod)| !pod.has_ended);
        let is_certain = !there.any(|(_, pod)| selects(selector, &pod.labels));
        let line = if is_own {
            format!("{at}, but it selects pods with {}, and {name} has {}", shown(selector), labels(own))
        } else {
            format!(
                "{at}, but a policy selects pods of its own namespace only, {}, and {name} is in {}",
                policy.namespace, own.namespace
            )
        };
        if is_certain { found.certain.push(line) } else { found.perhaps.push(line) }
    }
}

/// What a rule misses of a flow.
#[derive(Default)]
struct MissedParts {
    parts: Vec<String>,
    /// How many parts of the rule match.
    hits: usize,
}

/// The rule that misses the fewest parts, if it matches one.
fn nearest_rule(case: &SymptomCase, flow: &JudgedFlow, way: Way) -> Option<String> {
    let mut best: Option<(usize, String)> = None;
    for (_, policy) in case.isolating(std::slice::from_ref(flow), way) {
        for rule in rules_of(&policy.spec, way) {
            let MissedParts { parts, hits } = missed(case, policy, &rule, flow);
            let is_better = best.as_ref().is_none_or(|(count, _)| parts.len() < *count);
            if hits > 0 && parts.len() > 1 && is_better {
                best = Some((
                    parts.len(),
                    format!("{}: {} misses this flow in {} parts: {}", id(policy), rule.path, parts.len(), parts.join("; and ")),
                ));
            }
        }
    }
    best.map(|(_, line)| line)
}

fn missed(case: &SymptomCase, policy: &FlowPolicy, rule: &RuleView, flow: &JudgedFlow) -> MissedParts {
    let other = flow.flow.ends(rule.way).1;
    let of_peers = rule.peers.iter().map(|peer| missed_by_peer(case, policy, peer, other));
    let mut missed = of_peers.min_by_key(|missed| missed.parts.len()).unwrap_or(MissedParts { parts: vec![], hits: 1 });
    let (protocol, number) = (flow.flow.protocol, flow.flow.port);
    let destination = case.pod(flow.flow.to);
    let is_port = |port: &CompiledPort| port.matches((protocol, number), destination);
    if rule.ports.is_empty() || rule.ports.iter().map(CompiledPort::of).any(|port| is_port(&port)) {
        missed.hits += 1;
    } else {
        let ports: Vec<String> = rule.ports.iter().map(port_text).collect();
        let to = case.name(flow.flow.to);
        missed.parts.push(format!("it allows {}, and {to} is reached on {} {number}", few(&ports), protocol.into_str()));
    }
    missed
}

fn missed_by_peer(case: &SymptomCase, policy: &FlowPolicy, peer: &NetworkPolicyPeer, other: Party) -> MissedParts {
    let mut missed = MissedParts::default();
    let name = case.name(other);
    if let Some(block) = &peer.ip_block {
        let range = AddressRange::of((&block.cidr, block.except.as_deref().unwrap_or_default()));
        if range.is_some_and(|range| other.address.is_some_and(|address| range.has(address))) {
            missed.hits += 1;
        } else {
            missed.parts.push(format!("its ipBlock {} does not contain {name}", block.cidr));
        }
        return missed;
    }
    let Some(pod) = case.pod(other) else {
        missed.parts.push(format!("it selects pods, and {name} is an address"));
        return missed;
    };
    part(&mut missed, is_in_namespace(case, policy, peer, pod), || match &peer.namespace_selector {
        Some(selector) => {
            format!("it selects namespaces with {}, and {} does not have these labels", shown(Some(selector)), pod.namespace)
        }
        None => format!("it selects pods of {} only, and {name} is in {}", policy.namespace, pod.namespace),
    });
    part(&mut missed, selects(peer.pod_selector.as_ref(), &pod.labels), || {
        format!("it selects pods with {}, and {name} has {}", shown(peer.pod_selector.as_ref()), labels(pod))
    });
    missed
}

fn part(missed: &mut MissedParts, is_hit: bool, what: impl Fn() -> String) {
    if is_hit { missed.hits += 1 } else { missed.parts.push(what()) }
}

fn is_in_namespace(case: &SymptomCase, policy: &FlowPolicy, peer: &NetworkPolicyPeer, pod: &FlowPod) -> bool {
    match &peer.namespace_selector {
        Some(selector) => selects(Some(selector), &case.namespace_labels(&pod.namespace)),
        None => pod.namespace == policy.namespace,
    }
}

/// A port of a rule in words.
pub fn port_text(port: &NetworkPolicyPort) -> String {
    let protocol = port.protocol.as_deref().unwrap_or("TCP");
    match (&port.port, port.end_port) {
        (None, _) => protocol.into(),
        (Some(IntOrString::Int(number)), None) => format!("{protocol} {number}"),
        (Some(IntOrString::Int(number)), Some(last)) => format!("{protocol} {number} to {last}"),
        (Some(IntOrString::String(name)), _) => format!("{protocol} {name:?}"),
    }
}
