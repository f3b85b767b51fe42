//! Rules about DNS: pods whose egress is closed need it, over UDP and over TCP, to pods that exist.

use k8s_openapi::{
    api::networking::v1::{NetworkPolicyPeer, NetworkPolicyPort},
    apimachinery::pkg::{apis::meta::v1::LabelSelector, util::intstr::IntOrString},
};

use super::{
    case::{LintCase, RuleView, rules_of},
    found::RuleHit,
    given::{LintPolicy, is_empty, label_test, selects},
    rule::LintRule,
};
use crate::{
    api::peers::Protocol,
    policy::{
        flow::{Way, isolates},
        netpol::NAME_LABEL,
    },
};

/// The ports of DNS pods: OpenShift has the second one.
const DNS_PORTS: [i32; 2] = [53, 5353];
/// The names that DNS pods give their ports.
const DNS_PORT_NAMES: [&str; 3] = ["dns", "dns-tcp", "dns-udp"];
/// Where DNS pods run.
const DNS_NAMESPACES: [&str; 2] = ["kube-system", "openshift-dns"];
/// Keys with which people try to name a namespace, although Kubernetes sets none of them.
const NO_NAME_LABELS: [&str; 4] = ["name", "namespace", "kubernetes.io/name", "metadata.name"];
/// Labels that people try for DNS, and that no installer sets. (Some charts label CoreDNS k8s-app=coredns.)
const NO_DNS_LABELS: [(&str, &str); 2] = [("app", "kube-dns"), ("k8s-app", "core-dns")];

/// The protocols over which DNS is allowed.
#[derive(Clone, Copy, Default)]
struct DnsOver {
    udp: bool,
    tcp: bool,
}

/// What is wrong with the DNS of a policy. `is_planned`: a baseline allows DNS there.
pub fn check(case: &LintCase, is_planned: bool) -> Vec<RuleHit> {
    let mut found = Vec::new();
    if !isolates(case.spec(), Way::Egress) {
        return found;
    }
    let own = rules_of(case.spec(), Way::Egress);
    for rule in own.iter().filter(|rule| is_for_dns(rule)) {
        found.extend(rule.peers.iter().enumerate().filter_map(|(index, peer)| selects_nothing(case, rule, index, peer)));
    }
    if is_planned || !found.is_empty() {
        return found;
    }
    match dns_over(case) {
        DnsOver { udp: false, tcp } => {
            let types = case.spec().policy_types.iter().flatten().position(|one| one == "Egress");
            let path = types.map_or_else(|| "spec.egress".to_owned(), |index| format!("spec.policyTypes[{index}]"));
            let (path, message) = match entry(&own, Protocol::TCP).filter(|_| tcp) {
                Some(path) => (path, "DNS is allowed over TCP and not over UDP, which resolvers try first: without protocol, a port is TCP. Add {port: 53, protocol: UDP}".to_owned()),
                None => (path, "the egress of these pods is closed, and none of the given policies allows them DNS: names do not resolve. Allow UDP and TCP 53 to k8s-app=kube-dns in kube-system".to_owned()),
            };
            found.push(RuleHit::new(LintRule::EgressWithoutDns, path, message));
        }
        DnsOver { udp: true, tcp: false } => {
            if let Some(path) = entry(&own, Protocol::UDP) {
                let message = "DNS is allowed over UDP and not over TCP: answers that do not fit into a packet fail. Add {port: 53, protocol: TCP}";
                found.push(RuleHit::new(LintRule::DnsOverUdpOnly, path, message));
            }
        }
        DnsOver { udp: true, tcp: true } => {}
    }
    found
}

/// Over what the policies that select the same pods allow DNS together.
fn dns_over(case: &LintCase) -> DnsOver {
    let own = &case.policy.spec.pod_selector;
    let covers = |other: &&LintPolicy| {
        let selector = other.spec.pod_selector.as_ref();
        selector.is_none_or(is_empty) || other.spec.pod_selector == *own || is_implied(selector, own.as_ref())
    };
    let others = case.given.policies_of(case.policy.namespace.as_deref()).filter(covers);
    let mut over = DnsOver::default();
    for policy in others.filter(|policy| isolates(&policy.spec, Way::Egress)) {
        for rule in rules_of(&policy.spec, Way::Egress).iter().filter(|rule| may_reach_dns(rule)) {
            let allows = |protocol| {
                DNS_PORTS.iter().any(|port| rule.allows_port(protocol, *port))
                    || rule
                        .ports
                        .iter()
                        .any(|port| is_dns_name(port) && Protocol::named(port.protocol.as_deref()) == Some(protocol))
            };
            over.udp |= allows(Protocol::UDP);
            over.tcp |= allows(Protocol::TCP);
        }
    }
    over
}

/// Whether every pod that the second selector selects is selected by the first one too, as far as their labels show it.
fn is_implied(other: Option<&LabelSelector>, own: Option<&LabelSelector>) -> bool {
    let (Some(other), Some(own)) = (other, own) else { return false };
    let own_labels = own.match_labels.clone().unwrap_or_default();
    let has = |key: &String, value: &String| own_labels.get(key) == Some(value);
    let labels = other.match_labels.iter().flatten().all(|(key, value)| has(key, value));
    let own_expressions = own.match_expressions.as_deref().unwrap_or_default();
    let expressions = other.match_expressions.iter().flatten().all(|one| {
        let values = one.values.as_deref().unwrap_or_default();
        let by_label = own_labels.get(&one.key).is_some_and(|value| match &*one.operator {
            "In" => values.contains(value),
            "NotIn" => !values.contains(value),
            "Exists" => true,
            _ => false,
        });
        by_label || own_expressions.contains(one)
    });
    labels && expressions
}

fn is_dns_name(port: &NetworkPolicyPort) -> bool {
    matches!(&port.port, Some(IntOrString::String(name)) if DNS_PORT_NAMES.contains(&&**name))
}

/// Whether an entry is for a DNS port and nothing else.
fn is_dns_port(port: &NetworkPolicyPort) -> bool {
    let is_number = matches!(&port.port, Some(IntOrString::Int(53)));
    (is_number && port.end_port.is_none_or(|end| end == 53)) || is_dns_name(port)
}

/// Whether a rule is for DNS and nothing else.
pub fn is_for_dns(rule: &RuleView) -> bool {
    !rule.ports.is_empty() && rule.ports.iter().all(is_dns_port)
}

/// Whether the peers of a rule may have DNS among them. A rule that names port 53 is about DNS, whoever its peers are.
fn may_reach_dns(rule: &RuleView) -> bool {
    let is_dns_namespace = |selector: &LabelSelector| {
        DNS_NAMESPACES.iter().any(|name| selects(Some(selector), &[(NAME_LABEL.to_owned(), (*name).to_owned())].into()))
    };
    let may_be_dns = |peer: &NetworkPolicyPeer| {
        let is_all = peer.ip_block.as_ref().is_some_and(|block| block.cidr.ends_with("/0") && block.except.is_none());
        is_all || peer.namespace_selector.as_ref().is_some_and(is_dns_namespace)
    };
    rule.peers.is_empty() || rule.ports.iter().any(is_dns_port) || rule.peers.iter().any(may_be_dns)
}

/// The entry for port 53 over a protocol.
fn entry(rules: &[RuleView], protocol: Protocol) -> Option<String> {
    rules.iter().find_map(|rule| {
        let is_it = |port: &NetworkPolicyPort| is_dns_port(port) && Protocol::named(port.protocol.as_deref()) == Some(protocol);
        rule.ports.iter().position(is_it).map(|index| format!("{}.ports[{index}]", rule.path))
    })
}

/// A peer of a rule for DNS whose labels no DNS pod has.
fn selects_nothing(case: &LintCase, rule: &RuleView, index: usize, peer: &NetworkPolicyPeer) -> Option<RuleHit> {
    let path = rule.peer_path(index);
    let labels =
        |selector: Option<&LabelSelector>| selector.and_then(|selector| selector.match_labels.clone()).unwrap_or_default();
    let hit =
        |field: &str, message: String| Some(RuleHit::new(LintRule::DnsRuleSelectsNothing, format!("{path}.{field}"), message));
    let namespaces = labels(peer.namespace_selector.as_ref());
    let is_given = || {
        let is_selected = label_test(peer.namespace_selector.as_ref());
        case.given.namespaces.values().any(is_selected)
    };
    if let Some((key, value)) = namespaces.iter().find(|(key, _)| NO_NAME_LABELS.contains(&&***key)).filter(|_| !is_given()) {
        let message = format!(
            "no namespace has the label {key}={value} unless somebody sets it, so this selects no DNS. Write {NAME_LABEL}: {value}"
        );
        return hit(&format!("namespaceSelector.matchLabels[{key}]"), message);
    }
    let pods = labels(peer.pod_selector.as_ref());
    let has_pods = || {
        let is_selected = label_test(peer.pod_selector.as_ref());
        case.given.workloads.iter().any(|workload| is_selected(&workload.labels))
    };
    let no_dns = pods.iter().find(|(key, value)| NO_DNS_LABELS.contains(&(&***key, &***value)));
    if let Some((key, value)) = no_dns.filter(|_| !has_pods()) {
        let message = format!(
            "DNS pods do not have the label {key}={value}, so this selects no DNS. Write k8s-app: kube-dns: CoreDNS has that label too"
        );
        return hit(&format!("podSelector.matchLabels[{key}]"), message);
    }
    let is_kube_dns = pods.get("k8s-app").is_some_and(|value| value == "kube-dns");
    let is_elsewhere = case.policy.namespace.as_deref() != Some("kube-system");
    if is_kube_dns && peer.namespace_selector.is_none() && is_elsewhere && !has_pods() {
        let message = "without namespaceSelector this selects pods of the policy's own namespace, and DNS runs in kube-system. Write namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: kube-system}} in the same entry";
        return hit("podSelector", message.into());
    }
    None
}
