//! Names resolve late or not at all: what stands between a pod and its DNS.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    case::{SymptomCase, id, is_denied_by_policies},
    cause::{CauseName, SymptomCause},
    dns_requests::{DnsPath, DnsRequests},
    shared,
};
use crate::{
    api::peers::Protocol,
    policy::{
        dns::{APP_LABEL, KUBE_SYSTEM, NODE_LOCAL, NODE_LOCAL_ADDRESS, PORT},
        flow::{
            AllowedToo, AskedFlows, AskedPort, DirectionVerdict, Flow, FlowDecision, FlowEnd, FlowPod, FlowPolicy, FlowService,
            JudgedFlow, NumberOrName, PodNameservers, Suggestion, Suggestions, Way, few,
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
    /// The worst decision of all requests.
    pub decision: Option<FlowDecision>,
    requests: DnsRequests<'a>,
}

/// Checks the DNS of these pods.
pub fn check<'a>(case: &SymptomCase<'a>, askers: &[usize]) -> DnsFindings<'a> {
    let requests = DnsRequests::of(case, askers);
    let flows: Vec<JudgedFlow> = requests.all().cloned().collect();
    let of_requests = [
        egress_denied(case, &requests),
        over_udp_only(case, &requests),
        selects_nothing(case, &requests),
        port_of_service(case, &requests),
        ingress_denied(case, &requests),
    ];
    let of_tiers = [shared::tier_denies(case, &flows), shared::undecided(case, &flows)];
    let judged = |cause: SymptomCause| {
        if flows.is_empty() { cause.not_ruled_out(&no_request(&requests), HOW_TO_KNOW_DNS) } else { cause }
    };
    let mut causes: Vec<SymptomCause> = of_requests.into_iter().map(judged).collect();
    causes.extend([not_ready(case, &requests), node_local(case, askers), own_nameservers(case, &requests)]);
    causes.extend(of_tiers.into_iter().map(judged));
    causes.extend([shared::other_kinds(case), search_domains()]);
    let decision = flows.iter().map(JudgedFlow::decision).max();
    DnsFindings { causes, suggestions: suggestions(case, &requests), decision, requests }
}

/// How to find out whom a pod asks, and whether it may.
const HOW_TO_KNOW_DNS: &str =
    "ask about the address in the resolv.conf of the pod: policy-baseline explain flow --from POD --to ADDRESS --port UDP/53";

/// Why no request was judged.
fn no_request(requests: &DnsRequests) -> String {
    if requests.services.is_empty() && requests.own.is_empty() && requests.of_nodes.is_empty() {
        return "no DNS Service is among the objects: none is named kube-dns or coredns in kube-system, has the label k8s-app=kube-dns there, or is openshift-dns/dns-default".into();
    }
    "no request for a name could be judged".into()
}

impl DnsFindings<'_> {
    /// DNS is allowed over UDP only: then names with large answers do not resolve, and others do.
    pub fn over_udp_only(&self, case: &SymptomCase) -> SymptomCause {
        let found = over_udp_only(case, &self.requests);
        if self.is_known() { found } else { found.not_ruled_out(&no_request(&self.requests), HOW_TO_KNOW_DNS) }
    }

    /// Some of the places that a pod asks are denied to it, and others are not: then names resolve now and then.
    pub fn pods_differ(&self, case: &SymptomCase) -> SymptomCause {
        let mut evidence = Vec::new();
        let askers: BTreeSet<usize> = self.requests.paths.iter().map(|path| path.asker).collect();
        for asker in askers {
            let of_pod = self.requests.paths.iter().filter(|path| path.asker == asker);
            let udp: Vec<&JudgedFlow> = of_pod.filter_map(|path| path.udp.as_ref()).collect();
            let with = |decision: FlowDecision| -> Vec<String> {
                let names: BTreeSet<String> =
                    udp.iter().filter(|flow| flow.decision() == decision).map(|flow| case.name(flow.flow.to)).collect();
                names.into_iter().collect()
            };
            let (allowed, mut denied) = (with(FlowDecision::Allowed), with(FlowDecision::Denied));
            denied.retain(|name| !allowed.contains(name));
            if let (Some(first), [_, ..], [_, ..]) = (udp.first(), &*allowed, &*denied) {
                let from = case.name(first.flow.from);
                evidence.push(format!("{from} may ask {}, and is denied to ask {}", few(&allowed), few(&denied)));
            }
        }
        let name = CauseName::DnsPodsDiffer;
        if !self.is_known() {
            return SymptomCause::not_known(name, vec![no_request(&self.requests)], HOW_TO_KNOW_DNS);
        }
        let to_do = "select the DNS pods by a label that all of them have: k8s-app: kube-dns, with kubernetes.io/metadata.name: kube-system";
        SymptomCause::found_if(name, evidence, to_do, "the policies treat all DNS pods alike")
    }

    /// Whether a request was judged.
    pub const fn is_known(&self) -> bool {
        !self.requests.paths.is_empty()
    }

    /// Whether all requests are denied, over UDP and over TCP: then no name resolves.
    pub fn is_denied(&self) -> bool {
        let is_denied = |flow: &Option<JudgedFlow>| flow.as_ref().is_none_or(|flow| flow.decision() == FlowDecision::Denied);
        self.is_known() && self.requests.paths.iter().all(|path| is_denied(&path.udp) && is_denied(&path.tcp))
    }
}

fn egress_denied(case: &SymptomCase, requests: &DnsRequests) -> SymptomCause {
    let name = CauseName::EgressDeniesDns;
    let mut evidence = case.said(requests.udp(), Way::Egress, is_denied_by_policies);
    let is_tcp_only = |path: &DnsPath| {
        path.udp.as_ref().is_some_and(|udp| is_denied_by_policies(&udp.egress))
            && path.tcp.as_ref().is_some_and(|tcp| tcp.egress.decision() == FlowDecision::Allowed)
    };
    if requests.paths.iter().any(is_tcp_only) {
        let port = requests.ports();
        evidence.push(format!(
            "TCP {port} is allowed. In a policy, a port without protocol is TCP, and resolvers ask over UDP first"
        ));
    }
    let to_do = format!(
        "allow UDP and TCP {} to the DNS pods: apply the policy below. With a baseline, DNS is always allowed",
        requests.ports()
    );
    SymptomCause::found_if(name, evidence, to_do, "no NetworkPolicy denies the egress to the DNS of the pod over UDP")
}

fn over_udp_only(case: &SymptomCase, requests: &DnsRequests) -> SymptomCause {
    let is_udp_allowed = |path: &&DnsPath| path.udp.as_ref().is_some_and(|udp| udp.decision() == FlowDecision::Allowed);
    let tcp = requests.paths.iter().filter(is_udp_allowed).filter_map(|path| path.tcp.as_ref());
    let is_denied = |verdict: &DirectionVerdict| verdict.decision() == FlowDecision::Denied;
    let evidence = case.said_both_ways(tcp, is_denied);
    let port = requests.ports();
    let to_do = format!(
        "add {{port: {port}, protocol: TCP}} beside UDP {port} in the rule for DNS: answers that do not fit into a packet are asked for again over TCP"
    );
    SymptomCause::found_if(CauseName::DnsOverUdpOnly, evidence, to_do, "no DNS that is allowed over UDP is denied over TCP")
}

/// The policies that isolate these pods for egress, each once.
fn egress_policies<'a>(case: &SymptomCase<'a>, askers: &[usize]) -> BTreeMap<u32, &'a FlowPolicy> {
    let numbers = askers.iter().flat_map(|asker| case.compiled.isolating(*asker, Way::Egress));
    numbers.filter_map(|number| Some((*number, case.snapshot().policies.get(*number as usize)?))).collect()
}

fn selects_nothing(case: &SymptomCase, requests: &DnsRequests) -> SymptomCause {
    // Where DNS is allowed all the same, such a rule does no harm.
    let is_denied = |flow: &Option<JudgedFlow>| flow.as_ref().is_some_and(|flow| is_denied_by_policies(&flow.egress));
    let denied = requests.paths.iter().filter(|path| is_denied(&path.udp) || is_denied(&path.tcp));
    let askers: Vec<usize> = denied.map(|path| path.asker).collect();
    let mut evidence = Vec::new();
    for (number, policy) in egress_policies(case, &askers) {
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
    let otherwise = if askers.is_empty() {
        "no NetworkPolicy denies the egress to the DNS of the pod"
    } else {
        "each rule for DNS that applies to the pod selects pods, or there is none"
    };
    SymptomCause::found_if(CauseName::DnsRuleSelectsNothing, evidence, to_do, otherwise)
}

fn port_of_service(case: &SymptomCase, requests: &DnsRequests) -> SymptomCause {
    let mut evidence = Vec::new();
    for one in requests.all().filter(|one| one.flow.port != PORT && is_denied_by_policies(&one.egress)) {
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
    let evidence = case.said(requests.all(), Way::Ingress, is_denied_by_policies);
    let to_do = format!(
        "let every namespace reach UDP and TCP {} of the DNS pods: change the policy, or apply the one below",
        requests.ports()
    );
    SymptomCause::found_if(CauseName::IngressOfDnsDenies, evidence, to_do, "no NetworkPolicy denies the ingress of the DNS pods")
}

fn not_ready(case: &SymptomCase, requests: &DnsRequests) -> SymptomCause {
    let mut evidence = Vec::new();
    let mut ready = Vec::new();
    for service in &requests.services {
        let of = shared::endpoints(case.snapshot(), service);
        let shown = service.id();
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
    if requests.paths.is_empty() {
        evidence.extend(requests.nowhere.iter().cloned());
    }
    let is_listed = |service: &&FlowService| {
        let snapshot = case.snapshot();
        snapshot.slices_of(service).next().is_some() || snapshot.pods_of(&service.namespace).next().is_some()
    };
    if requests.services.is_empty() && !requests.own.is_empty() {
        return SymptomCause::ruled_out(CauseName::DnsNotReady, "the pod does not ask the DNS of the cluster");
    }
    if !requests.services.iter().any(is_listed) {
        let why = vec!["neither the DNS pods nor the endpoints of a DNS Service that the pod asks are among the objects".into()];
        let to_know = "kubectl -n kube-system get pods,endpointslices shows whether the DNS pods are ready";
        return SymptomCause::not_known(CauseName::DnsNotReady, why, to_know);
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
        if snapshot.pods_of(KUBE_SYSTEM).next().is_none() {
            let why =
                vec!["no pod of kube-system is among the objects, so they do not show whether NodeLocal DNSCache runs".into()];
            return SymptomCause::not_known(name, why, "kubectl -n kube-system get daemonsets");
        }
        return SymptomCause::ruled_out(name, "NodeLocal DNSCache does not run, as far as the objects show");
    };
    let shown = first.id();
    let mut evidence = Vec::new();
    // It stands between a pod and the DNS of the cluster. Pods with other nameservers do not ask it.
    let of_cluster = askers.iter().filter_map(|asker| snapshot.pods.get(*asker));
    for pod in of_cluster.filter(|pod| pod.life.nameservers == PodNameservers::OfCluster) {
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
    SymptomCause::found_if(
        name,
        evidence,
        to_do,
        format!("the policies allow NodeLocal DNSCache ({shown}), or the pod does not ask it"),
    )
}

fn own_nameservers(case: &SymptomCase, requests: &DnsRequests) -> SymptomCause {
    let name = CauseName::OwnNameservers;
    let own = requests.paths.iter().filter(|path| path.is_own).flat_map(|path| path.udp.iter().chain(&path.tcp));
    let denied = own.filter(|flow| flow.decision() == FlowDecision::Denied);
    let denied: BTreeSet<String> =
        denied.map(|flow| format!("{} asks {}, which is denied", case.name(flow.flow.from), case.name(flow.flow.to))).collect();
    if denied.is_empty() && !requests.of_nodes.is_empty() {
        let why = vec![format!(
            "{}: by dnsPolicy, or because it is on the host network, the pod asks the nameservers of its node. No object names these",
            few(&requests.of_nodes)
        )];
        let to_know = "kubectl exec POD -- cat /etc/resolv.conf, and then: policy-baseline explain flow --from POD --to ADDRESS --port UDP/53";
        return SymptomCause::not_known(name, why, to_know);
    }
    let otherwise = if requests.own.is_empty() {
        "the pod asks the DNS of the cluster".into()
    } else {
        format!("no policy denies these nameservers: {}", requests.own.join("; "))
    };
    let to_do = "allow UDP and TCP 53 to these addresses, or set dnsPolicy: ClusterFirst";
    SymptomCause::found_if(name, denied.into_iter().collect(), to_do, otherwise)
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
        requests.all().map(|one| (one.flow.protocol, one.flow.port)).filter(|(_, port)| *port > 0).collect();
    for one in requests.all() {
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
