//! A rule should allow the traffic, and it is blocked.

use std::collections::BTreeSet;

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{
    case::{AskedCase, BOTH_WAYS, SymptomCase, id, is_denied_by_policies},
    cause::{CauseName, SymptomCause},
    missed_rules::{self, port_text},
    passes::{hiding_services, labels, shown},
    shared,
};
use crate::{
    api::peers::Protocol,
    policy::{
        flow::{
            AddressRange, DirectionVerdict, FlowDecision, FlowPod, JudgedFlow, MissedPart, NearMiss, RuleRef, Way, few, place,
        },
        lint::{LintRule, RuleView, rules_of, selects},
    },
};

/// The causes, in the order in which they are likely.
pub fn causes(case: &SymptomCase, asked: &AskedCase) -> Vec<SymptomCause> {
    let mut causes = vec![one_direction(case, asked), both_directions(case, asked)];
    causes.extend(near_misses(case, asked));
    causes.extend([
        shared::tier_denies(case, &asked.flows),
        address_of_pod_or_service(case, asked),
        source_address(case, asked),
        shared::no_endpoints(case, asked),
        shared::wrong_port(case, asked),
        shared::not_ready(case, asked),
        shared::no_shared_family(asked),
        end_port(case, asked),
        shared::undecided(case, &asked.flows),
        shared::other_kinds(case),
    ]);
    causes
}

/// The flows of which one direction is allowed and the other one denied, or both are denied.
fn denied<'a>(asked: &AskedCase<'a>, both: bool) -> Vec<JudgedFlow<'a>> {
    let is_denied = |flow: &&JudgedFlow| {
        let count = BOTH_WAYS.into_iter().filter(|way| flow.of(*way).decision() == FlowDecision::Denied).count();
        count == if both { 2 } else { 1 }
    };
    asked.flows.iter().filter(is_denied).cloned().collect()
}

fn one_direction(case: &SymptomCase, asked: &AskedCase) -> SymptomCause {
    let flows = denied(asked, false);
    let evidence = case.said_both_ways(&flows, is_denied_by_policies);
    let to_do = "the egress of the source and the ingress of the destination must both allow it: apply the policy below for the direction that is denied";
    SymptomCause::found_if(
        CauseName::OneDirection,
        evidence,
        to_do,
        "no flow is allowed in one direction and denied in the other",
    )
}

fn both_directions(case: &SymptomCase, asked: &AskedCase) -> SymptomCause {
    let flows = denied(asked, true);
    let evidence = case.said_both_ways(&flows, is_denied_by_policies);
    let to_do = "no rule that was read allows it. Look for a rule that was meant to below, or apply both policies below";
    SymptomCause::found_if(CauseName::BothDirections, evidence, to_do, "no flow is denied in both directions")
}

/// What keeps rules from allowing the flow.
#[derive(Default)]
struct Missed {
    named_port: Vec<String>,
    port_of_service: Vec<String>,
    other_port: Vec<String>,
    namespaces: Vec<String>,
    pods: Vec<String>,
}

impl Missed {
    fn count(&self) -> usize {
        [&self.named_port, &self.port_of_service, &self.other_port, &self.namespaces, &self.pods].into_iter().map(Vec::len).sum()
    }
}

fn near_misses(case: &SymptomCase, asked: &AskedCase) -> Vec<SymptomCause> {
    let mut found = Missed::default();
    let mut near = BTreeSet::new();
    for flow in &asked.flows {
        for way in BOTH_WAYS.into_iter().filter(|way| is_denied_by_policies(flow.of(*way))) {
            for miss in case.compiled.near_misses(&flow.flow, way) {
                let Some(rule) = rules_of(&miss.policy.spec, way).into_iter().nth(miss.rule) else { continue };
                let before = found.count();
                match miss.missed {
                    MissedPart::Ports => missed_port(case, (&miss, &rule), flow, &mut found),
                    MissedPart::Peers => missed_peers(case, (&miss, &rule), flow, &mut found),
                }
                if found.count() > before {
                    near.insert(way);
                }
            }
        }
    }
    let of = |name, evidence, to_do: &str, otherwise: &str| SymptomCause::found_if(name, evidence, to_do, otherwise);
    let mut causes = vec![
        of(
            CauseName::PortOfService,
            found.port_of_service,
            "name the port of the pods (targetPort of the Service) in the rule: a policy never sees the port of a Service",
            "no rule names the port of a Service instead of that of the pods",
        ),
        of(
            CauseName::NamedPort,
            found.named_port,
            "write the number, or give the container port this name. A name counts on each pod for itself",
            "no rule fails because of a named port",
        ),
        of(
            CauseName::OtherPort,
            found.other_port,
            "add this port and protocol to the rule",
            "no rule for this peer fails because of its ports",
        ),
        of(
            CauseName::NamespaceLabels,
            found.namespaces,
            "select the namespace by kubernetes.io/metadata.name, which each namespace has, or label it. Without namespaceSelector, a rule is about its own namespace",
            "no rule for this port fails because of the namespace",
        ),
        of(
            CauseName::PodLabels,
            found.pods,
            "if one of these rules is meant for this pod, change its podSelector, or the labels in the template of the pod",
            "no rule for this port fails because of labels of the pod",
        ),
    ];
    causes.extend(missed_rules::causes(case, asked, &near));
    causes
}

fn missed_port(case: &SymptomCase, (miss, rule): (&NearMiss, &RuleView), flow: &JudgedFlow, found: &mut Missed) {
    let JudgedFlow { flow, .. } = flow;
    let (protocol, number) = (flow.protocol, flow.port);
    let asked = format!("{} is reached on {} {number}", case.name(flow.to), protocol.into_str());
    let at = format!("{}: {}", id(miss.policy), rule.path);
    let destination = case.pod(flow.to);
    let mut others = Vec::new();
    for port in rule.ports {
        match &port.port {
            Some(IntOrString::String(name)) if Protocol::named(port.protocol.as_deref()) == Some(protocol) => {
                let here = destination.and_then(|pod| pod.ports.iter().find(|one| (one.protocol, &one.name) == (protocol, name)));
                let stands_for = match here {
                    Some(port) => format!("stands for {} there", port.number),
                    None => "is the name of no container port there".into(),
                };
                found.named_port.push(format!("{at} names the port {name:?}, which {stands_for}, and {asked}"));
            }
            Some(IntOrString::Int(first))
                if Protocol::named(port.protocol.as_deref()) == Some(protocol)
                    && leads_there(case, destination, (protocol, *first), number) =>
            {
                found.port_of_service.push(format!("{at} names the port {first} of the Service, and {asked}"));
            }
            _ => others.push(port_text(port)),
        }
    }
    if !others.is_empty() {
        found.other_port.push(format!("{at} allows this peer {}, and {asked}", few(&others)));
    }
}

/// Whether a Service leads from one port to another one of a pod.
fn leads_there(case: &SymptomCase, pod: Option<&FlowPod>, (protocol, from): (Protocol, i32), to: u16) -> bool {
    let Some(pod) = pod else { return false };
    let there = case.snapshot().services.iter().filter(|service| service.namespace == pod.namespace && !service.is_headless);
    let selecting = there.filter(|service| {
        !service.selector.is_empty() && service.selector.iter().all(|(key, value)| pod.labels.get(key) == Some(value))
    });
    let mut ports = selecting.flat_map(|service| &service.ports);
    ports.any(|port| {
        port.protocol == protocol && i32::from(port.number) == from && from != i32::from(to) && port.target_on(pod) == Some(to)
    })
}

fn missed_peers(case: &SymptomCase, (miss, rule): (&NearMiss, &RuleView), flow: &JudgedFlow, found: &mut Missed) {
    let (_, other) = flow.flow.ends(miss.way);
    let Some(pod) = case.pod(other) else { return };
    let peer_name = case.name(other);
    let of_namespace = case.namespace_labels(&pod.namespace);
    for (index, peer) in rule.peers.iter().enumerate().filter(|(_, peer)| peer.ip_block.is_none()) {
        let at = format!("{}: {}", id(miss.policy), rule.peer_path(index));
        let is_namespace = match &peer.namespace_selector {
            Some(selector) => selects(Some(selector), &of_namespace),
            None => pod.namespace == miss.policy.namespace,
        };
        let is_pod = selects(peer.pod_selector.as_ref(), &pod.labels);
        match (is_namespace, is_pod, &peer.namespace_selector) {
            (false, true, Some(selector)) => found.namespaces.push(format!(
                "{at} selects namespaces with {}, and {} of {peer_name} does not have these labels",
                shown(Some(selector)),
                pod.namespace
            )),
            (false, true, None) => {
                found.namespaces.push(format!(
                    "{at} has no namespaceSelector, so it selects pods of {} only, and {peer_name} is in {}",
                    miss.policy.namespace, pod.namespace
                ));
            }
            (true, false, _) => {
                found.pods.push(format!(
                    "{at} selects pods with {}, and {peer_name} has {}",
                    shown(peer.pod_selector.as_ref()),
                    labels(pod)
                ));
            }
            (true, true, _) | (false, false, _) => {}
        }
    }
}

fn address_of_pod_or_service(case: &SymptomCase, asked: &AskedCase) -> SymptomCause {
    let mut evidence = Vec::new();
    for way in BOTH_WAYS {
        for (_, policy) in case.isolating(&asked.flows, way) {
            let direction = format!("spec.{}", way.into_str());
            evidence.extend(case.linted(policy, &[LintRule::BlockOfPodsOrServices], &direction));
        }
        for flow in &asked.flows {
            evidence.extend(block_beside(case, asked, flow, way));
            let DirectionVerdict::Allowed { by } = flow.of(way) else { continue };
            let peer = flow.flow.ends(way).1;
            if peer.pod.is_some() && by.iter().all(|rule| case.compiled.is_by_address(way, rule)) {
                let rules: Vec<String> = by
                    .iter()
                    .map(|rule| format!("{}/{}: {}", rule.policy.namespace, rule.policy.name, place(way, rule)))
                    .collect();
                evidence.push(format!(
                    "only an ipBlock allows the {} for {}: {}. Some network plugins, such as Cilium, apply no ipBlock to pods",
                    way.into_str(),
                    case.name(peer),
                    few(&rules)
                ));
            }
        }
    }
    let to_do = "select the pods by their labels instead";
    let otherwise = "no ipBlock that applies to these pods names the address of a pod or of a Service";
    SymptomCause::found_if(CauseName::AddressOfPodOrService, evidence, to_do, otherwise)
}

/// Ranges that seem to name the other end: an exception cuts it out, or they name the Service and not its pods.
fn block_beside(case: &SymptomCase, asked: &AskedCase, flow: &JudgedFlow, way: Way) -> Vec<String> {
    let peer = flow.flow.ends(way).1;
    let (Some(address), true) = (peer.address, is_denied_by_policies(flow.of(way))) else { return vec![] };
    let name = case.name(peer);
    let cluster_ips = asked.service.filter(|_| way == Way::Egress).map(|service| (service, &service.addresses));
    let mut found = Vec::new();
    for (_, policy) in case.isolating(std::slice::from_ref(flow), way) {
        for rule in rules_of(&policy.spec, way) {
            for (index, peer) in rule.peers.iter().enumerate() {
                let Some(block) = &peer.ip_block else { continue };
                let except = block.except.as_deref().unwrap_or_default();
                let (Some(whole), Some(range)) = (AddressRange::of((&block.cidr, &[])), AddressRange::of((&block.cidr, except)))
                else {
                    continue;
                };
                let at = format!("{}: {}", id(policy), rule.peer_path(index));
                if whole.has(address) && !range.has(address) {
                    found.push(format!("{at} allows {}, and {name} ({address}) is in an exception of it", block.cidr));
                } else if let Some((service, of)) = &cluster_ips
                    && let Some(cluster_ip) = of.iter().find(|one| range.has(**one))
                    && !whole.has(address)
                {
                    found.push(format!(
                        "{at} allows {}, which contains the cluster IP {cluster_ip} of the Service {}/{}, and not {name} ({address}): policies see the address of the pod",
                        block.cidr, service.namespace, service.name
                    ));
                }
            }
        }
    }
    found
}

fn source_address(case: &SymptomCase, asked: &AskedCase) -> SymptomCause {
    let name = CauseName::SourceAddress;
    let mut evidence = Vec::new();
    let by_labels = |verdict: &DirectionVerdict| matches!(verdict, DirectionVerdict::PeerOnHostNetwork { .. });
    for flow in &asked.flows {
        let Some(pod) = case.pod(flow.flow.from).filter(|pod| pod.on_host_network) else { continue };
        if by_labels(&flow.ingress) || is_denied_by_policies(&flow.ingress) {
            let addresses: Vec<String> = pod.addresses.iter().map(ToString::to_string).collect();
            evidence.push(format!(
                "{}/{} is on the host network: it arrives with the address of its node ({}), and rules that select it by labels do not match",
                pod.namespace,
                pod.name,
                few(&addresses)
            ));
        }
    }
    let services = hiding_services(case, asked);
    let is_outside = asked.flows.iter().any(|flow| flow.flow.from.pod.is_none());
    if is_outside && !services.is_empty() {
        evidence.push(format!(
            "through {}, with externalTrafficPolicy: Cluster, a client from outside arrives with the address of a node, and not with its own",
            few(&services)
        ));
    }
    let to_do = "for a pod on the host network, and for clients that a node forwards, allow the addresses of the nodes with an ipBlock, or set externalTrafficPolicy: Local";
    let otherwise =
        "the source arrives with its own address, as far as the objects show. Gateways and proxies in between are not among them";
    SymptomCause::found_if(name, evidence, to_do, otherwise)
}

/// Only endPort opens this port.
fn end_port(case: &SymptomCase, asked: &AskedCase) -> SymptomCause {
    let mut evidence = Vec::new();
    for way in BOTH_WAYS {
        for flow in &asked.flows {
            let DirectionVerdict::Allowed { by } = flow.of(way) else { continue };
            let is_range = |policy: &RuleRef| {
                let spec = &case.policy(policy.policy)?.spec;
                let rules = rules_of(spec, way);
                let port = rules.get(policy.rule)?.ports.get(policy.port?)?;
                let first = matches!(&port.port, Some(IntOrString::Int(first)) if *first == i32::from(flow.flow.port));
                port.end_port.filter(|_| !first)
            };
            let last: Option<Vec<i32>> = by.iter().map(is_range).collect();
            if let Some(last) = last.and_then(|all| all.into_iter().max()) {
                evidence.push(format!(
                    "the {} is allowed only by a range of ports that ends with endPort: {last}. Some network plugins ignore endPort and open only the first port",
                    way.into_str()
                ));
            }
        }
    }
    if evidence.is_empty() {
        return SymptomCause::ruled_out(CauseName::EndPort, "no rule allows this port by endPort alone");
    }
    let to_know = "write this port as an entry of its own. If it works then, the network plugin ignores endPort";
    SymptomCause::not_known(CauseName::EndPort, evidence, to_know)
}
