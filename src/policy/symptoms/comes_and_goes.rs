//! Sometimes it works: what differs between the pods behind a Service, the replicas of the source, address families and nodes.

use std::collections::BTreeMap;

use super::{
    case::{AskedCase, BOTH_WAYS, SymptomCase},
    cause::{CauseName, SymptomCause},
    dns, shared,
    times::young_policy,
};
use crate::policy::{
    flow::{DirectionVerdict, Flow, FlowDecision, IpFamily, JudgedFlow, Party, few, workload},
    lint::LintRule,
};

/// The causes, in the order in which they are likely.
pub fn causes(case: &SymptomCase, asked: &AskedCase) -> Vec<SymptomCause> {
    let mut causes = vec![
        endpoints_differ(case, asked),
        endpoints_not_ready(case, asked),
        sources_differ(case, asked),
        families_differ(case, asked),
        dns_over_udp_only(case, asked),
        nodes_differ(case, asked),
        mutable_labels(case, asked),
        young_policy(case, asked),
    ];
    causes.extend([shared::undecided(case, &asked.flows), shared::other_kinds(case)]);
    causes
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

fn endpoints_differ(case: &SymptomCase, asked: &AskedCase) -> SymptomCause {
    let name = CauseName::EndpointsDiffer;
    let of = worst(asked.flows.iter().map(|flow| (flow.decision(), with_labels(case, flow.flow.to))));
    let evidence = groups(of, "to");
    let to_do = "select the pods in policies by the labels that the Service selects too, which all pods behind it have. Pods on the host network are not covered by policies";
    let otherwise = if asked.service.is_some() {
        "each pod behind the Service is decided alike"
    } else {
        "the destination is one pod or address"
    };
    SymptomCause::found_if(name, evidence, to_do, otherwise)
}

fn endpoints_not_ready(case: &SymptomCase, asked: &AskedCase) -> SymptomCause {
    let name = CauseName::EndpointsNotReady;
    if asked.service.is_none() {
        return shared::not_ready(case, asked).renamed(name);
    }
    let mut evidence = Vec::new();
    let mut ready = Vec::new();
    if let Some(service) = asked.service {
        let of = shared::endpoints(case.snapshot(), service);
        for (state, names) in [("not ready", of.unready), ("being deleted", of.terminating)] {
            if !names.is_empty() {
                evidence.push(format!("{state}: {}", few(&names)));
            }
        }
        if of.ready.is_empty() {
            evidence.push("no endpoint is ready".into());
        }
        ready = of.ready;
    }
    let to_do = "kubectl describe pod shows why a probe fails. Let programs close only after they were taken out of the endpoints (preStop)";
    SymptomCause::found_if(name, evidence, to_do, format!("each endpoint is ready: {}", few(&ready)))
}

/// The pods of the same workload as a source, and the source itself.
fn replicas(case: &SymptomCase, source: usize) -> Vec<usize> {
    let snapshot = case.snapshot();
    let own = &snapshot.pods[source];
    let of = workload(own);
    let alike = snapshot.pods_of(&own.namespace).filter(|(_, pod)| !pod.has_ended && !pod.labels.is_empty());
    let mut found: Vec<usize> = alike.filter(|(_, pod)| workload(pod) == of).map(|(number, _)| number).collect();
    // Releases of a workload differ in more labels. The name of its application is the same.
    let app = |labels: &BTreeMap<String, String>| {
        ["app.kubernetes.io/name", "app", "k8s-app"].iter().find_map(|key| labels.get(*key).cloned())
    };
    if let Some(name) = app(&own.labels) {
        let more = snapshot.pods_of(&own.namespace).filter(|(_, pod)| !pod.has_ended && app(&pod.labels).as_ref() == Some(&name));
        found.extend(more.map(|(number, _)| number));
    }
    found.push(source);
    found.sort_unstable();
    found.dedup();
    found
}

fn sources_differ(case: &SymptomCase, asked: &AskedCase) -> SymptomCause {
    let name = CauseName::SourcesDiffer;
    let Some(source) = asked.flows.iter().find_map(|flow| flow.flow.from.pod) else {
        return SymptomCause::ruled_out(name, "the source is no pod of the cluster");
    };
    let replicas = replicas(case, source);
    let mut judged = Vec::new();
    for pod in &replicas {
        for JudgedFlow { flow, .. } in &asked.flows {
            let family = flow.from.address.or(flow.to.address).map_or(IpFamily::IPv4, IpFamily::of);
            let from = Party { pod: Some(*pod), address: case.snapshot().pods[*pod].address_of(family) };
            if from.address.is_none() && flow.from.address.is_some() {
                continue;
            }
            let decision = case.compiled.judged(Flow { from, ..*flow }).decision();
            judged.push((decision, with_labels(case, from)));
        }
    }
    let evidence = groups(worst(judged.into_iter()), "from");
    let to_do = "give the replicas the same labels, in one template, and select them by a label that all have";
    let otherwise = format!("each of the {} replicas of the source among the objects is decided alike", replicas.len());
    let otherwise = if replicas.len() > 1 { otherwise } else { "the source has no other replica among the objects".into() };
    SymptomCause::found_if(name, evidence, to_do, otherwise)
}

fn families_differ(case: &SymptomCase, asked: &AskedCase) -> SymptomCause {
    let mut by_destination: BTreeMap<String, Vec<(FlowDecision, String)>> = BTreeMap::new();
    for flow in asked.flows.iter().filter(|flow| flow.flow.to.pod.is_some()) {
        let Some(address) = flow.flow.to.address.or(flow.flow.from.address) else { continue };
        let family: &str = IpFamily::of(address).into();
        by_destination.entry(case.name(flow.flow.to)).or_default().push((flow.decision(), family.to_owned()));
    }
    let mut evidence = Vec::new();
    for (destination, decisions) in by_destination {
        let found = groups(decisions.into_iter(), "over");
        if !found.is_empty() {
            evidence.push(format!("to {destination}: {}", found.join("; ")));
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

fn dns_over_udp_only(case: &SymptomCase, asked: &AskedCase) -> SymptomCause {
    match asked.flows.iter().find_map(|flow| flow.flow.from.pod) {
        Some(source) => dns::check(case, &[source]).over_udp_only(case),
        None => SymptomCause::ruled_out(CauseName::DnsOverUdpOnly, "the source is no pod of the cluster"),
    }
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
