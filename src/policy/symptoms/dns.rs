//! Names resolve late or not at all: what stands between a pod and its DNS.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    case::{SymptomCase, id, is_denied_by_policies},
    cause::{CauseName, SymptomCause},
    shared,
};
use crate::{
    api::peers::Protocol,
    policy::{
        dns::{APP_LABEL, KUBE_SYSTEM, NODE_LOCAL, NODE_LOCAL_ADDRESS, PORT},
        flow::{
            AllowedToo, AskedFlows, AskedPort, DirectionVerdict, Flow, FlowDecision, FlowEnd, FlowError, FlowPod, FlowPolicy,
            FlowService, JudgedFlow, NumberOrName, PodNameservers, Suggestion, Suggestions, Way, few,
        },
        lint::{LintRule, is_for_dns, rules_of},
    },
};

/// Names that NodeLocal DNSCache has as a label, and as the beginning of its pods' names.
const NODE_LOCAL_NAMES: [&str; 2] = [NODE_LOCAL, "nodelocaldns"];

/// What was found out about the DNS of pods.
pub struct DnsFindings<'a> {
    pub causes: Vec<SymptomCause>,
    pub suggestions: Vec<Suggestion>,
    udp: Vec<JudgedFlow<'a>>,
    tcp: Vec<JudgedFlow<'a>>,
}

/// The requests of pods to their DNS.
#[derive(Default)]
struct DnsRequests<'a> {
    udp: Vec<JudgedFlow<'a>>,
    tcp: Vec<JudgedFlow<'a>>,
    /// The DNS Services that pods ask.
    services: Vec<&'a FlowService>,
    /// Why a request leads nowhere.
    nowhere: Vec<String>,
    /// Pods that ask nameservers which no object names.
    of_nodes: Vec<String>,
    /// Pods that ask nameservers of their own.
    own: Vec<String>,
}

/// Checks the DNS of these pods.
pub fn check<'a>(case: &SymptomCase<'a>, askers: &[usize]) -> DnsFindings<'a> {
    let requests = requests(case, askers);
    let causes = vec![
        egress_denied(case, &requests),
        over_udp_only(case, &requests.udp, &requests.tcp),
        selects_nothing(case, askers),
        port_of_service(case, &requests),
        ingress_denied(case, &requests),
        not_ready(case, &requests),
        node_local(case, askers),
        own_nameservers(&requests),
        shared::tier_denies(case, &all(&requests)),
        shared::undecided(case, &all(&requests)),
        shared::other_kinds(case),
        search_domains(),
    ];
    DnsFindings { causes, suggestions: suggestions(case, &requests), udp: requests.udp, tcp: requests.tcp }
}

impl DnsFindings<'_> {
    /// DNS is allowed over UDP only: then names with large answers do not resolve, and others do.
    pub fn over_udp_only(&self, case: &SymptomCase) -> SymptomCause {
        over_udp_only(case, &self.udp, &self.tcp)
    }
}

fn all<'a>(requests: &DnsRequests<'a>) -> Vec<JudgedFlow<'a>> {
    requests.udp.iter().chain(&requests.tcp).cloned().collect()
}

fn requests<'a>(case: &SymptomCase<'a>, askers: &[usize]) -> DnsRequests<'a> {
    let snapshot = case.snapshot();
    let mut requests = DnsRequests::default();
    let services: Vec<&FlowService> =
        snapshot.services.iter().filter(|one| one.is_dns && one.ports.iter().any(|port| port.number == PORT)).collect();
    for asker in askers {
        let pod = &snapshot.pods[*asker];
        let shown = format!("{}/{}", pod.namespace, pod.name);
        let from = FlowEnd::Pod { namespace: pod.namespace.clone(), name: pod.name.clone() };
        let asked: Vec<FlowEnd> = match &pod.life.nameservers {
            PodNameservers::OfCluster => {
                requests.services.clone_from(&services);
                let of = |one: &&FlowService| FlowEnd::Service { namespace: one.namespace.clone(), name: one.name.clone() };
                services.iter().map(of).collect()
            }
            PodNameservers::OfNode => {
                requests.of_nodes.push(shown);
                continue;
            }
            PodNameservers::Own(addresses) => {
                requests
                    .own
                    .push(format!("{shown} asks {}", few(&addresses.iter().map(ToString::to_string).collect::<Vec<_>>())));
                addresses.iter().copied().map(FlowEnd::Address).collect()
            }
        };
        for to in &asked {
            for protocol in [Protocol::UDP, Protocol::TCP] {
                let port = AskedPort { protocol, port: NumberOrName::Number(PORT) };
                match AskedFlows::find(snapshot, &from, to, &port) {
                    Ok(found) => {
                        let judged = found.flows.into_iter().map(|flow| case.compiled.judged(flow));
                        if protocol == Protocol::UDP { requests.udp.extend(judged) } else { requests.tcp.extend(judged) }
                    }
                    Err(error @ FlowError::NothingBehind { .. }) => requests.nowhere.push(error.to_string()),
                    // A Service over UDP alone, and a family that the pod does not have: there is no such request.
                    Err(_) => {}
                }
            }
        }
    }
    requests
}

fn egress_denied(case: &SymptomCase, requests: &DnsRequests) -> SymptomCause {
    let name = CauseName::EgressDeniesDns;
    if requests.udp.is_empty() && requests.tcp.is_empty() {
        let why = if requests.services.is_empty() && requests.own.is_empty() && requests.of_nodes.is_empty() {
            "no DNS Service is among the objects: none is named kube-dns or coredns in kube-system, has the label k8s-app=kube-dns there, or is openshift-dns/dns-default"
        } else {
            "no request for a name could be judged"
        };
        let to_know = "ask about the address in the resolv.conf of the pod: policy-baseline explain flow --from POD --to ADDRESS --port UDP/53";
        return SymptomCause::not_known(name, vec![why.into()], to_know);
    }
    let mut evidence = case.said(&requests.udp, Way::Egress, is_denied_by_policies);
    let is_allowed = |flow: &JudgedFlow| flow.egress.decision() == FlowDecision::Allowed;
    if !evidence.is_empty() && requests.tcp.iter().any(is_allowed) {
        evidence.push("TCP 53 is allowed. In a policy, a port without protocol is TCP, and resolvers ask over UDP first".into());
    }
    let to_do = "allow UDP and TCP 53 to the DNS pods: apply the policy below. With a baseline, DNS is always allowed";
    SymptomCause::found_if(name, evidence, to_do, "the egress to the DNS of the pod is allowed over UDP")
}

fn over_udp_only(case: &SymptomCase, udp: &[JudgedFlow], tcp: &[JudgedFlow]) -> SymptomCause {
    let is_udp_allowed = udp.iter().any(|flow| flow.egress.decision() == FlowDecision::Allowed);
    let mut evidence = case.said(tcp, Way::Egress, is_denied_by_policies);
    if !is_udp_allowed {
        evidence.clear();
    }
    let to_do = "add {port: 53, protocol: TCP} beside UDP 53 in the rule for DNS: answers that do not fit into a packet are asked for again over TCP";
    SymptomCause::found_if(CauseName::DnsOverUdpOnly, evidence, to_do, "DNS over TCP is decided as DNS over UDP")
}

/// The policies that isolate these pods for egress, each once.
fn egress_policies<'a>(case: &SymptomCase<'a>, askers: &[usize]) -> BTreeMap<u32, &'a FlowPolicy> {
    let numbers = askers.iter().flat_map(|asker| case.compiled.isolating(*asker, Way::Egress));
    numbers.filter_map(|number| Some((*number, case.snapshot().policies.get(*number as usize)?))).collect()
}

fn selects_nothing(case: &SymptomCase, askers: &[usize]) -> SymptomCause {
    let mut evidence = Vec::new();
    for (number, policy) in egress_policies(case, askers) {
        for (index, rule) in rules_of(&policy.spec, Way::Egress).iter().enumerate().filter(|(_, rule)| is_for_dns(rule)) {
            let empty = (0..rule.peers.len()).filter(|peer| case.compiled.selects_no_pod(number, Way::Egress, index, *peer));
            for peer in empty {
                let path = rule.peer_path(peer);
                let linted = case.linted(policy, &[LintRule::DnsRuleSelectsNothing], &path);
                if !linted.is_empty() {
                    evidence.extend(linted);
                } else if rule.peers.get(peer).is_some_and(|peer| peer.namespace_selector.is_none()) {
                    let own = &policy.namespace;
                    evidence.push(format!(
                        "{}: {path} has no namespaceSelector, so it selects pods of {own} only, and none has these labels",
                        id(policy)
                    ));
                } else {
                    evidence
                        .push(format!("{}: {path} selects no pod: no namespace, or no pod there, has these labels", id(policy)));
                }
            }
        }
    }
    let to_do = "compare the selectors with kubectl get namespaces --show-labels and kubectl -n kube-system get pods --show-labels. Most clusters need kubernetes.io/metadata.name: kube-system and k8s-app: kube-dns in one entry";
    let otherwise = "each rule for DNS that applies to the pod selects pods, or there is none";
    SymptomCause::found_if(CauseName::DnsRuleSelectsNothing, evidence, to_do, otherwise)
}

fn port_of_service(case: &SymptomCase, requests: &DnsRequests) -> SymptomCause {
    let mut evidence = Vec::new();
    for one in all(requests).iter().filter(|one| one.flow.port != PORT && is_denied_by_policies(&one.egress)) {
        let at_53 = case.compiled.judge(&Flow { port: PORT, ..one.flow }, Way::Egress);
        if let DirectionVerdict::Allowed { by } = at_53 {
            let protocol = one.flow.protocol.into_str();
            let by: Vec<String> = by.iter().map(|rule| format!("{}/{}", rule.policy.namespace, rule.policy.name)).collect();
            evidence.push(format!(
                "{} allows {protocol} 53, but {} listens on {protocol} {}: a policy sees the port of the pod, and not that of the Service",
                few(&by),
                case.name(one.flow.to),
                one.flow.port
            ));
        }
    }
    let to_do = "name the port of the DNS pods (targetPort of the DNS Service) in the rule";
    SymptomCause::found_if(CauseName::DnsPortOfService, evidence, to_do, "no rule fails because of another port of the DNS pods")
}

fn ingress_denied(case: &SymptomCase, requests: &DnsRequests) -> SymptomCause {
    let evidence = case.said(&all(requests), Way::Ingress, is_denied_by_policies);
    let to_do = "let every namespace reach UDP and TCP 53 of the DNS pods: change the policy, or apply the one below";
    SymptomCause::found_if(CauseName::IngressOfDnsDenies, evidence, to_do, "no NetworkPolicy denies the ingress of the DNS pods")
}

fn not_ready(case: &SymptomCase, requests: &DnsRequests) -> SymptomCause {
    let mut evidence = Vec::new();
    let mut ready = Vec::new();
    for service in &requests.services {
        let of = shared::endpoints(case.snapshot(), service);
        let shown = format!("{}/{}", service.namespace, service.name);
        if of.ready.is_empty() {
            let unready: Vec<String> = of.unready.into_iter().chain(of.terminating).collect();
            let others = if unready.is_empty() { "it has none at all".into() } else { few(&unready) };
            evidence.push(format!("the Service {shown} has no ready endpoint: {others}"));
        } else {
            ready.push(format!("{shown} leads to {}", few(&of.ready)));
        }
    }
    // A second DNS Service without endpoints, as some add-ons leave one behind, is no cause while another one answers.
    if !ready.is_empty() {
        evidence.clear();
    }
    if requests.udp.is_empty() {
        evidence.extend(requests.nowhere.iter().cloned());
    }
    if requests.services.is_empty() && evidence.is_empty() {
        return SymptomCause::ruled_out(CauseName::DnsNotReady, "no DNS Service of the cluster was judged");
    }
    let to_do = "kubectl -n kube-system get pods -l k8s-app=kube-dns shows their state, and kubectl describe pod says why";
    SymptomCause::found_if(CauseName::DnsNotReady, evidence, to_do, ready.join("; "))
}

fn node_local(case: &SymptomCase, askers: &[usize]) -> SymptomCause {
    let name = CauseName::NodeLocalDns;
    let snapshot = case.snapshot();
    let is_cache = |pod: &FlowPod| {
        let label = pod.labels.get(APP_LABEL);
        NODE_LOCAL_NAMES.iter().any(|known| label.is_some_and(|label| label == known) || pod.name.starts_with(*known))
    };
    let caches: Vec<(usize, &FlowPod)> =
        snapshot.pods_of(KUBE_SYSTEM).filter(|(_, pod)| !pod.has_ended && is_cache(pod)).collect();
    let Some((_, first)) = caches.first() else {
        return SymptomCause::ruled_out(name, "NodeLocal DNSCache does not run, as far as the objects show");
    };
    let shown = format!("{}/{}", first.namespace, first.name);
    let mut evidence = Vec::new();
    for asker in askers {
        let pod = &snapshot.pods[*asker];
        let from = FlowEnd::Pod { namespace: pod.namespace.clone(), name: pod.name.clone() };
        // On the host network it listens on an address of its own. Otherwise the network plugin leads requests to its pod on the same node.
        let to = if first.on_host_network {
            NODE_LOCAL_ADDRESS.parse().ok().map(FlowEnd::Address)
        } else {
            let same = caches.iter().find(|(_, cache)| cache.node == pod.node).map_or(*first, |(_, cache)| *cache);
            Some(FlowEnd::Pod { namespace: same.namespace.clone(), name: same.name.clone() })
        };
        let port = AskedPort { protocol: Protocol::UDP, port: NumberOrName::Number(PORT) };
        let Some(Ok(found)) = to.map(|to| AskedFlows::find(snapshot, &from, &to, &port)) else { continue };
        let judged: Vec<JudgedFlow> = found.flows.into_iter().map(|flow| case.compiled.judged(flow)).collect();
        evidence.extend(case.said(&judged, Way::Egress, is_denied_by_policies));
    }
    if !evidence.is_empty() {
        evidence.insert(0, format!("NodeLocal DNSCache runs ({shown}), and pods ask it at {NODE_LOCAL_ADDRESS} or through it"));
    }
    let to_do = format!(
        "allow UDP and TCP 53 to {NODE_LOCAL_ADDRESS}/32, or to the address after -localip in the arguments of its DaemonSet"
    );
    SymptomCause::found_if(name, evidence, to_do, format!("the policies allow NodeLocal DNSCache ({shown})"))
}

fn own_nameservers(requests: &DnsRequests) -> SymptomCause {
    let name = CauseName::OwnNameservers;
    if !requests.of_nodes.is_empty() {
        let why = vec![format!(
            "{}: by dnsPolicy, or because it is on the host network, the pod asks the nameservers of its node. No object names these",
            few(&requests.of_nodes)
        )];
        let to_know = "kubectl exec POD -- cat /etc/resolv.conf, and then: policy-baseline explain flow --from POD --to ADDRESS --port UDP/53";
        return SymptomCause::not_known(name, why, to_know);
    }
    let is_denied = requests.udp.iter().any(|flow| flow.decision() == FlowDecision::Denied);
    let evidence = if is_denied { requests.own.clone() } else { vec![] };
    let otherwise = if requests.own.is_empty() {
        "the pod asks the DNS of the cluster".into()
    } else {
        format!("the policies let it reach its nameservers: {}", requests.own.join("; "))
    };
    SymptomCause::found_if(name, evidence, "allow UDP and TCP 53 to these addresses, or set dnsPolicy: ClusterFirst", otherwise)
}

/// What no object shows.
fn search_domains() -> SymptomCause {
    let why = vec![
        "with ndots: 5, a resolver asks for a name with fewer than five dots in each search domain first, and no object shows how long these answers take".into(),
    ];
    let to_know = "compare in the pod: time nslookup NAME, and time nslookup NAME. with a dot at its end. If only the second one is fast, write the dot or set dnsConfig.options ndots";
    SymptomCause::not_known(CauseName::SearchDomains, why, to_know)
}

/// The policies that would allow DNS.
fn suggestions(case: &SymptomCase, requests: &DnsRequests) -> Vec<Suggestion> {
    let mut found = Suggestions::default();
    let ports: BTreeSet<(Protocol, u16)> =
        all(requests).iter().map(|one| (one.flow.protocol, one.flow.port)).filter(|(_, port)| *port > 0).collect();
    for one in all(requests) {
        for way in [Way::Egress, Way::Ingress] {
            if !is_denied_by_policies(one.of(way)) {
                continue;
            }
            // Both protocols of this destination.
            let same: BTreeSet<_> = ports.iter().copied().filter(|(_, port)| *port == one.flow.port).collect();
            let too = AllowedToo { ports: same, ..AllowedToo::default() };
            found.push(Suggestion::for_many(case.compiled, &one.flow, way, too), case.snapshot());
        }
    }
    found.all
}
