//! Sometimes it works: what differs between the pods behind a Service, the replicas of the source, address families and nodes.

use std::collections::BTreeMap;

use super::{
    case::{AskedCase, BOTH_WAYS, SymptomCase},
    cause::{CauseName, SymptomCause},
    dns,
    passes::hiding_services,
    shared,
    times::young_policy,
};
use crate::policy::{
    flow::{DirectionVerdict, Flow, FlowDecision, FlowEnd, FlowPod, IpFamily, JudgedFlow, Party, few},
    lint::{LintRule, MUTABLE},
};

/// The causes, in the order in which they are likely.
pub fn causes(case: &SymptomCase, asked: &AskedCase) -> Vec<SymptomCause> {
    let sources = sources_differ(case, asked);
    let mut causes = vec![
        always_denied(case, asked, &sources),
        endpoints_differ(case, asked),
        endpoints_not_ready(case, asked),
        sources,
        families_differ(case, asked),
    ];
    causes.extend(of_dns(case, asked));
    causes.extend([nodes_differ(case, asked), mutable_labels(case, asked), young_policy(case, asked)]);
    causes.extend([shared::undecided(case, &asked.flows), shared::other_kinds(case)]);
    causes
}

/// It does not come and go at all.
fn always_denied(case: &SymptomCase, asked: &AskedCase, sources: &SymptomCause) -> SymptomCause {
    let name = CauseName::AlwaysDenied;
    let is_denied = |flow: &JudgedFlow| flow.decision() == FlowDecision::Denied;
    if !asked.flows.iter().all(is_denied) {
        return SymptomCause::ruled_out(name, "the policies do not always deny it");
    }
    if sources.is_found() {
        return SymptomCause::ruled_out(name, "the policies do not deny every replica of the source");
    }
    if is_behind_node(case, asked) {
        return SymptomCause::ruled_out(name, "on the node of the pod, the client arrives with an address that always passes");
    }
    let deny = |verdict: &DirectionVerdict| verdict.decision() == FlowDecision::Denied;
    let evidence = case.said_both_ways(&asked.flows, deny);
    let (from, to, port) = (asked.from, asked.to, asked.port);
    let port = port.to_string().replace(' ', "/");
    let to_do = format!("policy-baseline explain symptom blocked --from {from} --to {to} --port {port} says why");
    SymptomCause::found_if(name, evidence, to_do, "no flow was judged")
}

/// Whether the client comes from outside through a Service that hides its address.
fn is_behind_node(case: &SymptomCase, asked: &AskedCase) -> bool {
    asked.flows.iter().any(|flow| flow.flow.from.pod.is_none()) && !hiding_services(case, asked).is_empty()
}

/// One line for each decision, with the names that have it. None if there is only one decision.
fn groups(of: impl Iterator<Item = (FlowDecision, String)>, verb: &str) -> Vec<String> {
    let mut by_decision: BTreeMap<FlowDecision, Vec<String>> = BTreeMap::new();
    for (decision, name) in of {
        let names = by_decision.entry(decision).or_default();
        if !names.contains(&name) {
            names.push(name);
        }
    }
    if by_decision.len() < 2 {
        return vec![];
    }
    by_decision.into_iter().map(|(decision, names)| format!("{} {verb} {}", decision.into_str(), few(&names))).collect()
}

/// The worst decision for each name.
fn worst(of: impl Iterator<Item = (FlowDecision, String)>) -> impl Iterator<Item = (FlowDecision, String)> {
    let mut all: BTreeMap<String, FlowDecision> = BTreeMap::new();
    for (decision, name) in of {
        let known = all.entry(name).or_insert(decision);
        *known = decision.max(*known);
    }
    all.into_iter().map(|(name, decision)| (decision, name))
}

fn with_labels(case: &SymptomCase, party: Party) -> String {
    let name = case.name(party);
    match case.pod(party) {
        Some(pod) if pod.on_host_network => format!("{name} (on the host network)"),
        Some(pod) if !pod.labels.is_empty() => {
            let labels: Vec<String> = pod.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
            format!("{name} ({})", labels.join(","))
        }
        Some(_) | None => name,
    }
}

/// What differs within each of several groups: without the name of the group if the same differs in each of them.
fn in_groups(groups: BTreeMap<String, Vec<(FlowDecision, String)>>, verb: &str) -> Vec<String> {
    let said: Vec<(String, Vec<String>)> =
        groups.into_iter().map(|(group, of)| (group, self::groups(worst(of.into_iter()), verb))).collect();
    match said.split_first() {
        Some(((_, first), others)) if others.iter().all(|(_, other)| other == first) => first.clone(),
        _ => {
            let differing = said.into_iter().filter(|(_, lines)| !lines.is_empty());
            differing.map(|(group, lines)| format!("{group}: {}", lines.join("; "))).collect()
        }
    }
}

fn endpoints_differ(case: &SymptomCase, asked: &AskedCase) -> SymptomCause {
    let name = CauseName::EndpointsDiffer;
    let mut by_source: BTreeMap<String, Vec<(FlowDecision, String)>> = BTreeMap::new();
    for flow in &asked.flows {
        let source = format!("from {}", case.name(flow.flow.from));
        by_source.entry(source).or_default().push((flow.decision(), with_labels(case, flow.flow.to)));
    }
    let evidence = in_groups(by_source, "to");
    let to_do = "select the pods in policies by the labels that the Service selects too, which all pods behind it have. Pods on the host network are not covered by policies";
    let otherwise = if asked.service.is_some() {
        "each pod behind the Service is decided alike"
    } else {
        "each pod or address of the destination is decided alike"
    };
    SymptomCause::found_if(name, evidence, to_do, otherwise)
}

fn endpoints_not_ready(case: &SymptomCase, asked: &AskedCase) -> SymptomCause {
    let name = CauseName::EndpointsNotReady;
    let to_do = "kubectl describe pod shows why a probe fails. Let programs close only after they were taken out of the endpoints (preStop)";
    let Some(service) = asked.service else {
        let Some((unready, _)) = shared::unready_destinations(case, asked) else {
            if asked.flows.iter().any(|flow| flow.flow.to.pod.is_some()) {
                let why = vec!["the objects do not say whether the pods are ready".into()];
                return SymptomCause::not_known(name, why, "kubectl get pods -o wide");
            }
            return shared::not_ready(case, asked).renamed(name);
        };
        return SymptomCause::found_if(name, unready, to_do, "each pod that receives is ready");
    };
    let mut evidence = Vec::new();
    let of = shared::endpoints(case.snapshot(), service);
    for (state, names) in [("not ready", of.unready), ("being deleted", of.terminating)] {
        if !names.is_empty() {
            evidence.push(format!("{state}: {}", few(&names)));
        }
    }
    if of.ready.is_empty() {
        evidence.push("no endpoint is ready".into());
    }
    SymptomCause::found_if(name, evidence, to_do, format!("each endpoint is ready: {}", few(&of.ready)))
}

/// The pods that the source may be: those that were asked for, or the replicas of the pod that was asked for, without the destination.
fn replicas(case: &SymptomCase, asked: &AskedCase, source: usize) -> Vec<usize> {
    let snapshot = case.snapshot();
    if !matches!(asked.from, FlowEnd::Pod { .. } | FlowEnd::Address(_)) {
        return asked.sources().into_iter().collect();
    }
    let own = &snapshot.pods[source];
    let is_destination = |number: usize| asked.flows.iter().any(|flow| flow.flow.to.pod == Some(number));
    let alike = snapshot.pods_of(&own.namespace).filter(|(_, pod)| !pod.has_ended && is_replica(own, pod));
    alike.map(|(number, _)| number).filter(|number| *number == source || !is_destination(*number)).collect()
}

/// Whether two pods are replicas of one workload: of the same owner, or, if somebody created them by hand, with the same labels. Labels that
/// change with each release do not count.
fn is_replica(one: &FlowPod, other: &FlowPod) -> bool {
    match (&one.owner, &other.owner) {
        (Some(owner), Some(of_other)) => owner.is_of_same_workload(&one.labels, (of_other, &other.labels)),
        (None, None) => {
            let lasting = |pod: &FlowPod| -> Vec<(String, String)> {
                let labels = pod.labels.iter().filter(|(key, _)| !MUTABLE.contains(&key.as_str()));
                labels.map(|(key, value)| (key.clone(), value.clone())).collect()
            };
            let labels = lasting(one);
            !labels.is_empty() && labels == lasting(other)
        }
        (Some(_), None) | (None, Some(_)) => false,
    }
}

fn sources_differ(case: &SymptomCase, asked: &AskedCase) -> SymptomCause {
    let name = CauseName::SourcesDiffer;
    let Some(source) = asked.flows.iter().find_map(|flow| flow.flow.from.pod) else {
        return SymptomCause::ruled_out(name, "the source is no pod of the cluster");
    };
    let mut replicas = replicas(case, asked, source);
    if !replicas.contains(&source) {
        replicas.push(source);
    }
    let mut by_destination: BTreeMap<String, Vec<(FlowDecision, String)>> = BTreeMap::new();
    for pod in &replicas {
        for JudgedFlow { flow, .. } in asked.flows.iter().filter(|flow| flow.flow.to.pod != Some(*pod)) {
            let family = flow.from.address.or(flow.to.address).map_or(IpFamily::IPv4, IpFamily::of);
            let from = Party { pod: Some(*pod), address: case.snapshot().pods[*pod].address_of(family) };
            if from.address.is_none() && flow.from.address.is_some() {
                continue;
            }
            let decision = case.compiled.judged(Flow { from, ..*flow }).decision();
            let destination = format!("to {}", case.name(flow.to));
            by_destination.entry(destination).or_default().push((decision, with_labels(case, from)));
        }
    }
    let evidence = in_groups(by_destination, "from");
    let to_do = "give the replicas the same labels, in one template, and select them by a label that all have";
    let otherwise = format!("each of the {} replicas of the source among the objects is decided alike", replicas.len());
    let otherwise = if replicas.len() > 1 { otherwise } else { "the source has no other replica among the objects".into() };
    SymptomCause::found_if(name, evidence, to_do, otherwise)
}

fn families_differ(case: &SymptomCase, asked: &AskedCase) -> SymptomCause {
    let mut by_ends: BTreeMap<(String, String), Vec<(FlowDecision, String)>> = BTreeMap::new();
    for flow in asked.flows.iter().filter(|flow| flow.flow.to.pod.is_some()) {
        let Some(address) = flow.flow.to.address.or(flow.flow.from.address) else { continue };
        let family: &str = IpFamily::of(address).into();
        let ends = (case.name(flow.flow.from), case.name(flow.flow.to));
        by_ends.entry(ends).or_default().push((flow.decision(), family.to_owned()));
    }
    let has_sources = by_ends.keys().any(|(source, _)| by_ends.keys().any(|(other, _)| source != other));
    let mut evidence = Vec::new();
    for ((source, destination), decisions) in by_ends {
        let found = groups(decisions.into_iter(), "over");
        if !found.is_empty() {
            let from = if has_sources { format!("from {source} ") } else { String::new() };
            evidence.push(format!("{from}to {destination}: {}", found.join("; ")));
        }
    }
    let to_do = "a client tries one family first and may fall back late. Select pods by labels, or name ranges of both families";
    SymptomCause::found_if(
        CauseName::FamiliesDiffer,
        evidence,
        to_do,
        "both address families are decided alike, or there is one only",
    )
}

fn of_dns(case: &SymptomCase, asked: &AskedCase) -> Vec<SymptomCause> {
    let sources: Vec<usize> = asked.sources().into_iter().collect();
    if sources.is_empty() {
        let names = [CauseName::DnsOverUdpOnly, CauseName::DnsPodsDiffer];
        return names.into_iter().map(|name| SymptomCause::ruled_out(name, "the source is no pod of the cluster")).collect();
    }
    let dns = dns::check(case, &sources);
    vec![dns.over_udp_only(case), dns.pods_differ(case)]
}

fn nodes_differ(case: &SymptomCase, asked: &AskedCase) -> SymptomCause {
    let is_own_node = |flow: &&JudgedFlow| BOTH_WAYS.iter().any(|way| matches!(flow.of(*way), DirectionVerdict::OwnNode));
    let (same, others): (Vec<&JudgedFlow>, Vec<&JudgedFlow>) = asked.flows.iter().partition(is_own_node);
    let others_fail = others.iter().any(|flow| flow.decision() != FlowDecision::Allowed);
    let names = |flows: &[&JudgedFlow]| {
        let mut names: Vec<String> = flows.iter().map(|flow| case.name(flow.flow.to)).collect();
        names.dedup();
        few(&names)
    };
    let mut evidence = Vec::new();
    if !same.is_empty() && others_fail {
        evidence.push(format!(
            "{} is on the node of the other end, which always passes, and {} is not",
            names(&same),
            names(&others)
        ));
    }
    if evidence.is_empty() && is_behind_node(case, asked) {
        let why = format!(
            "through {}, with externalTrafficPolicy: Cluster, the client arrives with the address of a node. The node of a pod always reaches it, and the policies decide about the other nodes",
            few(&hiding_services(case, asked))
        );
        let to_know = "connect through each node on its own. If only the node of the pod answers, allow the address range of the nodes, or set externalTrafficPolicy: Local";
        return SymptomCause::not_known(CauseName::NodesDiffer, vec![why], to_know);
    }
    let to_do =
        "allow the address range of the nodes, or take hostNetwork out of the pod. From the same node, policies deny nothing";
    SymptomCause::found_if(CauseName::NodesDiffer, evidence, to_do, "it does not depend on the node")
}

fn mutable_labels(case: &SymptomCase, asked: &AskedCase) -> SymptomCause {
    let mut evidence = Vec::new();
    for way in BOTH_WAYS {
        for (_, policy) in case.isolating(&asked.flows, way) {
            evidence.extend(case.linted(policy, &[LintRule::MutableLabel], ""));
        }
    }
    let to_do = "select by a label that stays, such as app.kubernetes.io/name: during a release, both versions run";
    SymptomCause::found_if(CauseName::MutableLabels, evidence, to_do, "no policy that applies selects by such a label")
}
