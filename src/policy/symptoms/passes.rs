//! A policy is there, and traffic flows that it should deny.

use k8s_openapi::{api::networking::v1::NetworkPolicyPeer, apimachinery::pkg::apis::meta::v1::LabelSelector};

use super::{
    case::{AskedCase, BOTH_WAYS, SymptomCase, id},
    cause::{CauseName, SymptomCause},
    shared,
    times::open_connection,
};
use crate::{
    api::reason::state,
    policy::{
        flow::{DirectionVerdict, FlowDecision, FlowPod, FlowPolicy, FlowService, JudgedFlow, RuleRef, Way, few, isolates},
        lint::{LintRule, is_empty, rules_of, selects, type_of},
    },
};

/// The rules of `lint` about a policy that allows more than it seems to.
const TOO_WIDE: [LintRule; 4] = [LintRule::AllowsEverything, LintRule::EmptyPeers, LintRule::EmptyPorts, LintRule::BroadCidr];

/// The causes, in the order in which they are likely. `named` is the policy that should deny, if one was named.
pub fn causes(case: &SymptomCase, asked: &AskedCase, named: &[&FlowPolicy]) -> Vec<SymptomCause> {
    let mut causes = meant(case, asked, named);
    causes.extend([
        allowed_by_rule(case, asked),
        allows_everybody(case, asked),
        or_instead_of_and(case, asked),
        host_network(case, asked),
        own_node(case, asked),
        plugin_ignores(case),
        open_connection(case, asked),
        hidden_client(case, asked),
        tier_allows(case, asked),
        shared::undecided(case, &asked.flows),
        shared::other_kinds(case),
    ]);
    causes
}

/// The flows that pass: what lets one direction of another flow through is no cause, because the other direction denies it.
fn passing<'c, 'a>(asked: &'c AskedCase<'a>) -> impl Iterator<Item = &'c JudgedFlow<'a>> + Clone {
    asked.flows.iter().filter(|flow| flow.decision() == FlowDecision::Allowed)
}

/// What keeps the policies that may be meant from the pods of this flow.
#[derive(Default)]
struct NotAbout {
    no_pod: Vec<String>,
    others: Vec<String>,
    types: Vec<String>,
}

fn meant(case: &SymptomCase, asked: &AskedCase, named: &[&FlowPolicy]) -> Vec<SymptomCause> {
    let mut found = NotAbout::default();
    for way in BOTH_WAYS {
        // A policy that is named is meant, whatever else denies the flow.
        for flow in asked.flows.iter().filter(|flow| !named.is_empty() || flow.decision() == FlowDecision::Allowed) {
            let Some(own) = case.pod(flow.flow.ends(way).0) else { continue };
            let is_open = matches!(flow.of(way), DirectionVerdict::NotIsolated | DirectionVerdict::AllowedByTier { .. });
            let there = case.snapshot().policies.iter().filter(|policy| policy.namespace == own.namespace);
            for policy in there.filter(|policy| named.is_empty() || named.iter().any(|one| std::ptr::eq(*one, *policy))) {
                not_about(case, (policy, !named.is_empty()), (own, way, is_open), &mut found);
            }
        }
    }
    // Without any policy about the destination, that alone is why it is open.
    let open = passing(asked).filter(|flow| flow.ingress == DirectionVerdict::NotIsolated);
    let open: Vec<String> = open.map(|flow| format!("no policy isolates {} for ingress", case.name(flow.flow.to))).collect();
    if found.no_pod.is_empty() && found.types.is_empty() {
        found.others.extend(open);
    }
    // A named policy that selects one end is meant for that one.
    if !named.is_empty() {
        let ends = shared::ends(case, asked);
        if named.iter().any(|policy| ends.iter().any(|pod| is_selected(policy, pod))) {
            found.others.clear();
        }
    }
    vec![
        SymptomCause::found_if(
            CauseName::SelectsNoPod,
            found.no_pod,
            "compare podSelector with kubectl get pods --show-labels. A policy selects only pods of its own namespace",
            "each policy that may be meant selects pods",
        ),
        SymptomCause::found_if(
            CauseName::SelectsOtherPods,
            found.others,
            "change podSelector so that it selects this pod, or give the pod these labels in its template",
            "the pods are selected by the policies that may be meant",
        ),
        SymptomCause::found_if(
            CauseName::PolicyTypes,
            found.types,
            "add the direction to policyTypes",
            "no policy that selects the pods has rules for a direction that its policyTypes leave out",
        ),
    ]
}

fn is_selected(policy: &FlowPolicy, pod: &FlowPod) -> bool {
    policy.namespace == pod.namespace && selects(policy.spec.pod_selector.as_ref(), &pod.labels)
}

fn not_about(
    case: &SymptomCase,
    (policy, is_named): (&FlowPolicy, bool),
    (own, way, is_open): (&FlowPod, Way, bool),
    found: &mut NotAbout,
) {
    let selector = policy.spec.pod_selector.as_ref();
    let pod = own.id();
    if !selects(selector, &own.labels) {
        let mut there = case.snapshot().pods_of(&policy.namespace).filter(|(_, pod)| !pod.has_ended);
        let is_about = is_named || (is_open && isolates(&policy.spec, way));
        if !there.any(|(_, pod)| selects(selector, &pod.labels)) {
            if is_about {
                found.no_pod.push(format!(
                    "{} selects pods with {}, and {} has none",
                    id(policy),
                    shown(selector),
                    policy.namespace
                ));
            }
        } else if is_about {
            found.others.push(format!("{} selects pods with {}, and {pod} has {}", id(policy), shown(selector), labels(own)));
        }
        return;
    }
    let direction = way.into_str();
    if isolates(&policy.spec, way) || !is_open {
        return;
    }
    let has_rules = !rules_of(&policy.spec, way).is_empty();
    if has_rules || (way == Way::Ingress && is_only_policy(case, own)) {
        let other = if way == Way::Egress { Way::Ingress } else { Way::Egress };
        let rules = if has_rules { format!(", so its {direction} rules do nothing") } else { String::new() };
        found.types.push(format!(
            "{} selects {pod}, but closes only {}: policyTypes does not name {}{rules}",
            id(policy),
            other.into_str(),
            type_of(way)
        ));
    }
}

/// Whether no policy isolates a pod for ingress.
fn is_only_policy(case: &SymptomCase, own: &FlowPod) -> bool {
    let number = case.snapshot().pod(&own.namespace, &own.name);
    number.is_some_and(|number| case.compiled.isolating(number, Way::Ingress).is_empty())
}

/// A selector in words.
pub fn shown(selector: Option<&LabelSelector>) -> String {
    let Some(selector) = selector.filter(|selector| !is_empty(selector)) else { return "any labels".into() };
    let labels = selector.match_labels.iter().flatten().map(|(key, value)| format!("{key}={value}"));
    let expressions = selector.match_expressions.iter().flatten().map(|one| {
        let values = one.values.as_deref().unwrap_or_default().join(", ");
        match &*one.operator {
            "In" => format!("{} in ({values})", one.key),
            "NotIn" => format!("{} not in ({values})", one.key),
            "Exists" => one.key.clone(),
            "DoesNotExist" => format!("no {}", one.key),
            other => format!("{} {other}", one.key),
        }
    });
    labels.chain(expressions).collect::<Vec<_>>().join(",")
}

/// The labels of a pod in words.
pub fn labels(pod: &FlowPod) -> String {
    let all: Vec<String> = pod.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    if all.is_empty() { "no labels".into() } else { few(&all) }
}

/// The rules that allow the flows, with their policies, each once.
fn allowing<'a>(case: &SymptomCase<'a>, asked: &AskedCase<'a>) -> Vec<(Way, RuleRef<'a>, &'a FlowPolicy)> {
    let mut found: Vec<(Way, RuleRef, &FlowPolicy)> = Vec::new();
    for way in BOTH_WAYS {
        for flow in passing(asked) {
            let DirectionVerdict::Allowed { by } = flow.of(way) else { continue };
            for rule in by {
                let policy = case.policy(rule.policy);
                if let Some(policy) = policy.filter(|_| !found.iter().any(|(of, one, _)| (*of, one) == (way, rule))) {
                    found.push((way, *rule, policy));
                }
            }
        }
    }
    found
}

fn allowed_by_rule(case: &SymptomCase, asked: &AskedCase) -> SymptomCause {
    let is_allowed = |verdict: &DirectionVerdict| matches!(verdict, DirectionVerdict::Allowed { .. });
    let evidence = case.said_both_ways(passing(asked), is_allowed);
    let to_do = "policies add up: what one of them allows, no other can deny. Take this rule away, or narrow it";
    SymptomCause::found_if(CauseName::AllowedByRule, evidence, to_do, "no rule of a NetworkPolicy allows it")
}

fn allows_everybody(case: &SymptomCase, asked: &AskedCase) -> SymptomCause {
    let mut evidence = Vec::new();
    for (way, rule, policy) in allowing(case, asked) {
        let path = way.place(rule.rule, None, None);
        let linted = case.linted(policy, &TOO_WIDE, &path);
        let view = rules_of(&policy.spec, way).into_iter().nth(rule.rule);
        let peer = view.as_ref().and_then(|view| view.peers.get(rule.peer?));
        let (side, everybody) = match way {
            Way::Egress => ("to", "the pod may connect to everybody"),
            Way::Ingress => ("from", "everybody may connect"),
        };
        if !linted.is_empty() {
            evidence.extend(linted);
        } else if rule.peer.is_none() {
            evidence.push(format!("{}: {path} has no {side}, so {everybody}", id(policy)));
        } else if let Some(whom) = peer.and_then(every) {
            evidence.push(format!("{}: {} selects {whom}", id(policy), way.place(rule.rule, rule.peer, None)));
        }
    }
    let to_do = "name the peers and ports that are meant. To deny, leave the rule out: an empty list allows";
    SymptomCause::found_if(CauseName::AllowsEverybody, evidence, to_do, "the rules that allow it name peers and ports")
}

/// Whom a peer selects, if its selectors are empty.
fn every(peer: &NetworkPolicyPeer) -> Option<&'static str> {
    let is_all_pods = peer.pod_selector.as_ref().is_none_or(is_empty);
    match &peer.namespace_selector {
        _ if peer.ip_block.is_some() || !is_all_pods => None,
        Some(namespaces) if is_empty(namespaces) => Some("every pod of every namespace"),
        Some(_) => None,
        None => Some("every pod of its own namespace"),
    }
}

fn or_instead_of_and(case: &SymptomCase, asked: &AskedCase) -> SymptomCause {
    let mut evidence = Vec::new();
    for (way, rule, policy) in allowing(case, asked) {
        evidence.extend(case.linted(policy, &[LintRule::OrInsteadOfAnd], &way.place(rule.rule, None, None)));
    }
    let to_do = "write namespaceSelector and podSelector in one entry, with one hyphen";
    SymptomCause::found_if(CauseName::OrInsteadOfAnd, evidence, to_do, "no rule that allows it looks like this mistake")
}

fn host_network(case: &SymptomCase, asked: &AskedCase) -> SymptomCause {
    let ends = shared::ends(case, asked);
    let on_host = ends.iter().filter(|pod| pod.on_host_network);
    let evidence = on_host.map(|pod| {
        format!("{}/{} is on the host network of {}", pod.namespace, pod.name, pod.node.as_deref().unwrap_or("its node"))
    });
    let to_do = "most network plugins ignore policies for such pods. Take hostNetwork out of the pod, or use host policies of the network plugin";
    SymptomCause::found_if(CauseName::HostNetwork, evidence.collect(), to_do, "no pod of this flow is on the host network")
}

fn own_node(case: &SymptomCase, asked: &AskedCase) -> SymptomCause {
    let is_it = |verdict: &DirectionVerdict| matches!(verdict, DirectionVerdict::OwnNode | DirectionVerdict::Itself);
    let not_denied = asked.flows.iter().filter(|flow| flow.decision() != FlowDecision::Denied);
    let evidence = case.said_both_ways(not_denied, is_it);
    let to_do = "nothing: no NetworkPolicy denies this. Test from a pod on another node";
    SymptomCause::found_if(CauseName::OwnNode, evidence, to_do, "no end is the node of the other")
}

fn plugin_ignores(case: &SymptomCase) -> SymptomCause {
    let name = CauseName::PluginIgnores;
    let Some(plugin) = &case.around.plugin else {
        let why = vec!["the objects do not show the network plugin".into()];
        return SymptomCause::not_known(name, why, "policy-baseline check finds it, with a cluster");
    };
    if plugin.enforces {
        return SymptomCause::ruled_out(name, plugin.message.clone());
    }
    if plugin.reason == state::PLUGIN_IGNORES_POLICIES {
        let to_do = "install a network plugin that enforces policies, or switch it on: docs/network-plugins.md";
        return SymptomCause::found_if(name, vec![plugin.message.clone()], to_do, "");
    }
    let to_know = "deny a test pod everything, and send a packet";
    SymptomCause::not_known(name, vec![plugin.message.clone()], to_know)
}

/// Services that hide the client's address.
pub fn hiding_services(case: &SymptomCase, asked: &AskedCase) -> Vec<String> {
    let is_behind = |service: &&FlowService| {
        let is_end = |number: usize| asked.flows.iter().any(|flow| flow.flow.to.pod == Some(number));
        service.hides_clients && case.snapshot().pods_behind(service).any(|(number, _)| is_end(number))
    };
    let services = case.snapshot().services.iter().filter(is_behind);
    services.map(FlowService::id).collect()
}

fn hidden_client(case: &SymptomCase, asked: &AskedCase) -> SymptomCause {
    let name = CauseName::HiddenClient;
    if asked.flows.iter().any(|flow| flow.flow.from.pod.is_some()) {
        return SymptomCause::ruled_out(name, "the source is a pod, which arrives with its own address");
    }
    let services = hiding_services(case, asked);
    if services.is_empty() {
        return SymptomCause::ruled_out(
            name,
            "no Service with a port outside of the cluster and externalTrafficPolicy: Cluster leads to the destination",
        );
    }
    let evidence = format!(
        "through {}, with externalTrafficPolicy: Cluster, the client arrives with the address of a node. The node of a pod always reaches it",
        few(&services)
    );
    let to_do = "set externalTrafficPolicy: Local, so that policies see the address of the client";
    SymptomCause::found_if(name, vec![evidence], to_do, "")
}

fn tier_allows(case: &SymptomCase, asked: &AskedCase) -> SymptomCause {
    let is_it = |verdict: &DirectionVerdict| matches!(verdict, DirectionVerdict::AllowedByTier { .. });
    let evidence = case.said_both_ways(passing(asked), is_it);
    let to_do = "ask whoever owns this policy. What the Admin tier allows, no NetworkPolicy denies. One that isolates the pod ends the Baseline tier for it";
    SymptomCause::found_if(CauseName::TierAllows, evidence, to_do, "no policy of a tier allows it")
}
