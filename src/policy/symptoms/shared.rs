//! Causes that several symptoms share: a direction is denied, a tier decides, a Service has no endpoint, a pod is not ready.

use std::net::IpAddr;

use super::{
    case::{AskedCase, SymptomCase, is_denied_by_policies, is_denied_by_tier, is_undecided},
    cause::{CauseName, SymptomCause},
};
use crate::policy::flow::{FlowError, FlowPod, FlowService, FlowSnapshot, JudgedFlow, NumberOrName, UnreadyPods, Way, few};

/// Nothing can be judged, because there is no flow.
pub const NO_FLOW: &str = "no flow could be judged, because of another cause that was found";
/// What would make it known.
pub const AFTER_NO_FLOW: &str = "remove that cause, and ask again";

/// NetworkPolicies deny a direction.
pub fn denied(case: &SymptomCase, asked: &AskedCase, way: Way) -> SymptomCause {
    let (name, end) = match way {
        Way::Egress => (CauseName::EgressDenied, "source"),
        Way::Ingress => (CauseName::IngressDenied, "destination"),
    };
    if asked.flows.is_empty() {
        return SymptomCause::not_known(name, vec![NO_FLOW.into()], AFTER_NO_FLOW);
    }
    let direction = way.into_str();
    let to_do = format!("if this traffic is meant to be, apply the policy below for the {direction}");
    let evidence = case.said(&asked.flows, way, is_denied_by_policies);
    SymptomCause::found_if(name, evidence, to_do, format!("no NetworkPolicy denies the {direction} of the {end}"))
}

/// A tier denies.
pub fn tier_denies(case: &SymptomCase, flows: &[JudgedFlow]) -> SymptomCause {
    let evidence = case.said_both_ways(flows, is_denied_by_tier);
    let otherwise = if case.snapshot().has_tiers() {
        "the policies of the Admin tier and of the Baseline tier do not deny it"
    } else {
        "there is no AdminNetworkPolicy, BaselineAdminNetworkPolicy or ClusterNetworkPolicy among the objects"
    };
    let to_do = "ask whoever owns this policy for a rule that allows it. No NetworkPolicy overrules the Admin tier; one that allows this flow ends the Baseline tier for the pod";
    SymptomCause::found_if(CauseName::TierDenies, evidence, to_do, otherwise)
}

/// It is not decided.
pub fn undecided(case: &SymptomCase, flows: &[JudgedFlow]) -> SymptomCause {
    let evidence = case.said_both_ways(flows, is_undecided);
    if evidence.is_empty() {
        return SymptomCause::ruled_out(CauseName::Undecided, "each policy that decides was read, and its meaning is defined");
    }
    let to_know =
        "try the connection with a pod that is not on the host network. If a policy could not be read, repair it and ask again";
    SymptomCause::not_known(CauseName::Undecided, evidence, to_know)
}

/// Policies of other kinds.
pub fn other_kinds(case: &SymptomCase) -> SymptomCause {
    let around = case.around;
    if !around.other_policies.is_empty() {
        let evidence = vec![format!("there are policies that this command does not judge: {}", few(&around.other_policies))];
        let to_know = "read these policies, or ask their network plugin which policy decides about this flow";
        return SymptomCause::not_known(CauseName::OtherKinds, evidence, to_know);
    }
    if around.others_are_complete {
        return SymptomCause::ruled_out(CauseName::OtherKinds, "the cluster has no policies of other kinds");
    }
    let to_know = "look for their kinds: kubectl api-resources | grep -i networkpolic. A dump with them, or a run with a cluster, names them";
    SymptomCause::not_known(CauseName::OtherKinds, vec!["the objects do not show whether such policies exist".into()], to_know)
}

/// The endpoints of a Service.
#[derive(Default)]
pub struct ServiceEndpoints {
    pub ready: Vec<String>,
    pub unready: Vec<String>,
    pub terminating: Vec<String>,
}

/// Finds the endpoints of a Service: those of its EndpointSlices, or without slices the pods that it selects.
pub fn endpoints(snapshot: &FlowSnapshot, service: &FlowService) -> ServiceEndpoints {
    let mut found = ServiceEndpoints::default();
    let shown = |address: &IpAddr| match snapshot.pod_at(*address) {
        Some(pod) => snapshot.pods[pod].id(),
        None => address.to_string(),
    };
    let mut has_slices = false;
    for slice in snapshot.slices_of(service) {
        has_slices = true;
        for address in &slice.addresses {
            let list = if slice.terminating.contains(address) {
                &mut found.terminating
            } else if slice.unready.contains(address) {
                &mut found.unready
            } else {
                &mut found.ready
            };
            let name = shown(address);
            // A pod has one address in each slice.
            if !list.contains(&name) {
                list.push(name);
            }
        }
    }
    if !has_slices {
        for (_, pod) in snapshot.pods_behind(service) {
            let list = if pod.life.is_terminating {
                &mut found.terminating
            } else if is_not_ready(pod) && service.unready == UnreadyPods::LeftOut {
                &mut found.unready
            } else {
                &mut found.ready
            };
            list.push(pod.id());
        }
    }
    found
}

fn is_not_ready(pod: &FlowPod) -> bool {
    pod.life.is_pending || pod.life.is_ready == Some(false)
}

/// The Service leads to no pod that is ready.
pub fn no_endpoints(case: &SymptomCase, asked: &AskedCase) -> SymptomCause {
    let name = CauseName::NoEndpoints;
    let Some(service) = asked.service else {
        return SymptomCause::ruled_out(name, "the destination is no Service");
    };
    let shown = service.id();
    let mut evidence: Vec<String> = asked
        .problem
        .iter()
        .filter(|problem| matches!(problem, FlowError::NothingBehind { .. }))
        .map(ToString::to_string)
        .collect();
    let ServiceEndpoints { ready, unready, terminating } = endpoints(case.snapshot(), service);
    if ready.is_empty() && evidence.is_empty() {
        let others = [("not ready", unready), ("being deleted", terminating)].into_iter().filter(|(_, pods)| !pods.is_empty());
        let others: Vec<String> = others.map(|(state, pods)| format!("{state}: {}", few(&pods))).collect();
        let others = if others.is_empty() { "it has no endpoint at all".into() } else { others.join("; ") };
        evidence.push(format!("the Service {shown} has no ready endpoint: {others}"));
    }
    let to_do = format!(
        "compare spec.selector and targetPort of the Service with the labels and ports of the pods, and look at their readiness: kubectl -n {} get endpointslices -l kubernetes.io/service-name={}",
        service.namespace, service.name
    );
    SymptomCause::found_if(name, evidence, to_do, format!("the Service {shown} has ready endpoints: {}", few(&ready)))
}

/// What keeps a pod from answering.
fn state_of(pod: &FlowPod) -> Option<&'static str> {
    match &pod.life {
        life if life.is_terminating => Some("is being deleted"),
        life if life.is_pending => Some("is pending"),
        life if life.is_ready == Some(false) => Some("is not ready"),
        _ => None,
    }
}

/// Those of the pods that receive that are not ready, and whether these are all that receive. None: the objects do not say it.
pub fn unready_destinations(case: &SymptomCase, asked: &AskedCase) -> Option<(Vec<String>, bool)> {
    let pods = case.pods(asked.destinations());
    let unready: Vec<String> = pods.iter().filter_map(|pod| state_of(pod).map(|state| format!("{} {state}", pod.id()))).collect();
    let is_silent = |pod: &&FlowPod| pod.life.is_ready.is_none();
    let is_all = unready.len() == pods.len();
    (!unready.is_empty() || !pods.iter().all(is_silent)).then_some((unready, is_all))
}

/// The source does not run, or nothing that receives is ready. A source sends before it is ready, and one ready endpoint answers for all.
pub fn not_ready(case: &SymptomCase, asked: &AskedCase) -> SymptomCause {
    let name = CauseName::NotReady;
    let to_do = "kubectl describe pod says why: look at its events and at its readiness probe";
    let mut evidence: Vec<String> =
        asked.problem.iter().filter(|problem| matches!(problem, FlowError::PodEnded(_))).map(ToString::to_string).collect();
    let pending = case.pods(asked.sources()).into_iter().filter(|pod| pod.life.is_pending);
    evidence.extend(pending.map(|pod| format!("{} is pending", pod.id())));
    let known = unready_destinations(case, asked);
    let Some((unready, is_all)) = known else {
        if evidence.is_empty() && asked.flows.iter().any(|flow| flow.flow.to.pod.is_some()) {
            let why = vec!["the objects do not say whether the pods are ready".into()];
            return SymptomCause::not_known(name, why, "kubectl get pods -o wide");
        }
        return SymptomCause::found_if(name, evidence, to_do, "no pod that receives is among the objects");
    };
    if !is_all {
        return SymptomCause::found_if(name, evidence, to_do, "the source runs, and a pod that receives is ready");
    }
    if !unready.is_empty()
        && asked.service.is_some_and(|service| service.unready == UnreadyPods::Published)
        && evidence.is_empty()
    {
        let to_know =
            "look whether the program answers: this Service leads to pods that are not ready (publishNotReadyAddresses)";
        return SymptomCause::not_known(name, unready, to_know);
    }
    evidence.extend(unready);
    SymptomCause::found_if(name, evidence, to_do, "the pods run and are ready")
}

/// The pods at the ends, each once.
pub fn ends<'a>(case: &SymptomCase<'a>, asked: &AskedCase) -> Vec<&'a FlowPod> {
    case.pods(&asked.sources() | &asked.destinations())
}

/// The port is that of a Service and not of the pod, or neither has it.
pub fn wrong_port(case: &SymptomCase, asked: &AskedCase) -> SymptomCause {
    let is_it = |problem: &&FlowError| matches!(problem, FlowError::NoPortOfService { .. } | FlowError::NoPortOfPod { .. });
    let mut evidence: Vec<String> = asked.problem.iter().filter(is_it).map(ToString::to_string).collect();
    if let (None, NumberOrName::Number(port)) = (asked.service, &asked.port.port) {
        evidence.extend(services_with_other_target(case, asked, *port));
    }
    let to_do =
        "connect to a port that the destination has. Behind a Service, policies see the port of the pod, which is targetPort";
    SymptomCause::found_if(
        CauseName::WrongPort,
        evidence,
        to_do,
        "the port is one of the destination, as far as the objects show",
    )
}

/// Services that lead from the port that was asked for to another one of the pod.
fn services_with_other_target(case: &SymptomCase, asked: &AskedCase, port: u16) -> Vec<String> {
    let mut found = Vec::new();
    for flow in &asked.flows {
        let Some(pod) = case.pod(flow.flow.to) else { continue };
        let there = case.snapshot().services.iter().filter(|service| service.namespace == pod.namespace);
        for service in there.filter(|service| !service.is_headless && !service.selector.is_empty()) {
            if !service.selector.iter().all(|(key, value)| pod.labels.get(key) == Some(value)) {
                continue;
            }
            // The pod listens there, too.
            if pod.declared.contains(&(asked.port.protocol, port)) {
                continue;
            }
            for of in service.ports.iter().filter(|of| of.number == port && of.protocol == asked.port.protocol) {
                if let Some(target) = of.target_on(pod).filter(|target| *target != port) {
                    found.push(format!(
                        "{} is reached on port {target}: the Service {}/{} leads from its port {port} to it",
                        pod.id(),
                        service.namespace,
                        service.name
                    ));
                }
            }
        }
    }
    found
}

/// The two ends have no address family in common.
pub fn no_shared_family(asked: &AskedCase) -> SymptomCause {
    let is_it = |problem: &&FlowError| matches!(problem, FlowError::NoSharedFamily(..) | FlowError::NoFamilyOfService { .. });
    let evidence = asked.problem.iter().filter(is_it).map(ToString::to_string).collect();
    let to_do = "give both ends an address of the same family, or set ipFamilyPolicy: PreferDualStack on the Service";
    SymptomCause::found_if(CauseName::NoSharedFamily, evidence, to_do, "both ends have addresses of the same family")
}
