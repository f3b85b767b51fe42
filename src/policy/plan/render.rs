//! The policies of a baseline, rendered once for all namespaces: in a namespace only the namespace and the id differ.
//! Each spec contains all four fields, even empty ones. A field that we do not apply has no owner,
//! so somebody else could fill it and our next apply would not correct it.
//! One file: the policies share their parts, and a third of the file is tests.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
};

use k8s_openapi::{
    api::networking::v1::{
        IPBlock, NetworkPolicyEgressRule, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec,
    },
    apimachinery::pkg::util::intstr::IntOrString,
};
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

use super::allow::{AllowRule, CheckedAllow, Directions};
use crate::{
    api::{
        Purpose, Role,
        baseline::{Dns, Monitoring, PolicyMetadata},
        names::{
            ANNOTATION_ABOUT, ANNOTATION_ASKED, ANNOTATION_KEYS, ANNOTATION_PLAN, LABEL_BASELINE, LABEL_ID, LABEL_MANAGED_BY,
            MANAGER,
        },
        peers::{Port, Protocol},
        selector::Selector,
    },
    policy::{
        digest::Digest,
        dns::{ClusterDns, DnsDestination},
        kubernetes_api::ClusterApi,
        netpol::Wide,
    },
};

const API_VERSION: &str = "networking.k8s.io/v1";
const KIND: &str = "NetworkPolicy";
/// The names of the policies for monitoring sources, after the baseline's prefix.
const SOURCE: &str = "monitoring-source";
const DEFAULT_PREFIX: &str = "baseline-";
/// The label that the API server gives every namespace: its name.
pub const METADATA_NAME: &str = "kubernetes.io/metadata.name";
const DNS_PORT: i32 = 53;

/// One policy of a baseline, for any namespace.
#[derive(Clone, Debug)]
pub struct Rendered {
    /// What it is for.
    pub purpose: Purpose,
    /// What decides where it is planned, beside its purpose.
    pub scope: PolicyScope,
    /// The name of the object, with the prefix.
    pub name: String,
    /// The spec, with all four fields.
    pub spec: NetworkPolicySpec,
    /// The labels, without the id label.
    pub labels: BTreeMap<String, String>,
    /// The annotations that are written.
    pub annotations: BTreeMap<String, String>,
    /// The annotations in the other form, with or without the hash of what was asked for. A policy in the cluster with these is also
    /// as planned. So the operator does not rewrite it only because its baseline got or lost a rollout.
    pub also: BTreeMap<String, String>,
    /// What it opens to everybody, by the decision of the baseline.
    pub wide: Wide,
    /// The hashes that identify this policy in the cluster.
    pub stamp: Stamp,
    /// The spec as JSON, serialised once for all namespaces.
    spec_text: Box<RawValue>,
}

/// What decides in which namespaces a policy is planned, beside its purpose.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PolicyScope {
    /// Nothing else.
    Role,
    /// It is the egress half of a carve-out: it lets the pods of the monitoring source with this index reach the scraped pods.
    Source(usize),
    /// It is the allow with this index, where exactly these of its directions are closed. All forms of an allow have the same name.
    Allow(usize, Directions),
}

/// The hashes that a policy in the cluster carries, to show which plan it was written for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Stamp {
    /// The hash of the plan, without the annotation for what was asked for.
    pub plan: String,
    /// The hash of the plan, with that annotation.
    pub traced: String,
    /// The hash of what the spec asks for.
    pub asked: String,
}

impl Stamp {
    /// Whether `hash` is the hash of this plan in either form.
    pub fn is_plan(&self, hash: &str) -> bool {
        self.plan == hash || self.traced == hash
    }
}

/// The request body that applies a policy in a namespace.
#[derive(Debug, Serialize)]
pub struct Body<'a> {
    #[serde(rename = "apiVersion")]
    api_version: &'static str,
    kind: &'static str,
    metadata: Metadata<'a>,
    spec: &'a RawValue,
}

#[derive(Debug, Serialize)]
struct Metadata<'a> {
    name: &'a str,
    namespace: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<&'a str>,
    labels: BTreeMap<&'a str, Cow<'a, str>>,
    annotations: &'a BTreeMap<String, String>,
}

/// The id of a policy: a digest of namespace and name. A copy of the policy in another place has the wrong id.
pub fn own_id(namespace: &str, name: &str) -> String {
    Digest::of_texts([namespace, name]).to_string()
}

impl Rendered {
    /// The role that it implements; `None` of an allow.
    pub const fn role(&self) -> Option<Role> {
        self.purpose.role()
    }

    /// The directions in which it isolates the pods that it selects.
    pub fn isolates(&self) -> Directions {
        let has = |direction: &str| self.spec.policy_types.iter().flatten().any(|kind| kind == direction);
        Directions { ingress: has("Ingress"), egress: has("Egress") }
    }

    /// Whether it lets the pods of a monitoring source reach what they scrape.
    pub const fn is_of_a_source(&self) -> bool {
        matches!(self.scope, PolicyScope::Source(_))
    }

    /// The request body that applies this policy in a namespace. With a uid, the request can only change that object, not create one.
    pub fn body<'a>(&'a self, namespace: &'a str, uid: Option<&'a str>) -> Body<'a> {
        Body { api_version: API_VERSION, kind: KIND, metadata: self.metadata(namespace, uid), spec: &self.spec_text }
    }

    /// The same content as a JSON value, to read from.
    pub fn object(&self, namespace: &str, uid: Option<&str>) -> serde_json::Value {
        let metadata = self.metadata(namespace, uid);
        serde_json::json!({"apiVersion": API_VERSION, "kind": KIND, "metadata": metadata, "spec": self.spec})
    }

    /// The same policy with the annotation for what was asked for.
    #[must_use]
    pub fn traced(mut self) -> Self {
        if !self.annotations.contains_key(ANNOTATION_ASKED) {
            std::mem::swap(&mut self.annotations, &mut self.also);
        }
        self
    }

    fn metadata<'a>(&'a self, namespace: &'a str, uid: Option<&'a str>) -> Metadata<'a> {
        let mut labels: BTreeMap<&str, Cow<str>> = self.labels.iter().map(|(k, v)| (&**k, v.into())).collect();
        labels.insert(LABEL_ID, own_id(namespace, &self.name).into());
        Metadata { name: &self.name, namespace, uid, labels, annotations: &self.annotations }
    }
}

/// What the policies of a baseline are rendered from.
pub struct RenderInputs<'a> {
    /// The name of the baseline.
    pub baseline: &'a str,
    /// The roles that it plans.
    pub roles: &'a [Role],
    /// The DNS in the spec.
    pub dns: &'a Dns,
    /// The cluster's DNS, in addition to the DNS in the spec.
    pub found: &'a ClusterDns,
    /// The API server of the cluster.
    pub api: &'a ClusterApi,
    /// The monitoring of the spec.
    pub monitoring: &'a Monitoring,
    /// Whether the pods of monitoring sources need policies of their own.
    pub closes_sources: bool,
    /// The allows of the spec.
    pub allows: &'a [CheckedAllow],
    /// Names, labels and annotations.
    pub metadata: &'a PolicyMetadata,
}

impl RenderInputs<'_> {
    /// Renders all policies. How many there are, and in which order, does not depend on what was found in the cluster.
    pub fn render(&self) -> Vec<Rendered> {
        let roles = self.roles.iter().map(|role| self.role(*role));
        let sources = if self.closes_sources { monitoring_sources(self.monitoring) } else { vec![] };
        let sources = sources.iter().enumerate().map(|(i, (_, pods))| self.source(i, pods)).collect::<Vec<_>>();
        let allows = self.allows.iter().enumerate();
        let allows = allows.flat_map(|(i, allow)| allow.directions().parts().map(move |part| self.allow(i, allow, part)));
        roles.chain(sources).chain(allows).collect()
    }

    /// The policy of one role.
    fn role(&self, role: Role) -> Rendered {
        let monitoring = self.monitoring;
        let spec = match role {
            Role::DefaultDenyIngress => spec(&Selector::default(), INGRESS, vec![], vec![]),
            Role::DefaultDenyEgress => spec(&Selector::default(), EGRESS, vec![], self.dns_rules()),
            Role::MonitoringCarveout => spec(&exposing(monitoring), INGRESS, vec![scrape_rule(monitoring)], vec![]),
        };
        let asked = match role {
            Role::DefaultDenyIngress => Digest::NONE,
            Role::DefaultDenyEgress => Digest::of_json(&self.asked_dns()),
            Role::MonitoringCarveout => {
                Digest::of_json(&(monitoring_sources(monitoring), exposing(monitoring), scraped_ports(monitoring)))
            }
        };
        // The scrapes of monitoring are no opening: they are for few ports of pods that ask for them.
        let wide = if role == Role::MonitoringCarveout { Wide::default() } else { Wide::of(&spec) };
        Rendered { wide, ..self.dress(role.into(), role.suffix(), PolicyScope::Role, (spec, asked)) }
    }

    /// The egress policy that lets the pods of a monitoring source reach the pods that they scrape.
    fn source(&self, index: usize, sources: &Selector) -> Rendered {
        let monitoring = self.monitoring;
        let namespaces = monitoring.namespace_selector.clone().unwrap_or_default();
        let asked = (sources, &namespaces, exposing(monitoring), scraped_ports(monitoring), self.asked_dns());
        let asked = Digest::of_json(&asked);
        // An empty namespace selector beside a pod selector means: these pods in every namespace.
        let to = Some(vec![pods(&namespaces, &exposing(monitoring))]);
        let mut rules = self.dns_rules();
        rules.push(NetworkPolicyEgressRule { to, ports: Some(scraped_ports(monitoring)) });
        let spec = spec(sources, EGRESS, vec![], rules);
        let suffix = if index == 0 { SOURCE.to_owned() } else { format!("{SOURCE}-{}", index + 1) };
        self.dress(Role::MonitoringCarveout.into(), &suffix, PolicyScope::Source(index), (spec, asked))
    }

    /// The policy of an allow where these of its directions are closed. It says nothing about another direction, which it would close.
    fn allow(&self, index: usize, allow: &CheckedAllow, part: Directions) -> Rendered {
        let ingress: Vec<NetworkPolicyIngressRule> =
            if part.ingress { allow.ingress.iter().map(AllowRule::ingress).collect() } else { vec![] };
        let asked_egress: Vec<_> = allow.egress.iter().filter(|_| part.egress).map(|rule| (rule.egress(), rule.to_api)).collect();
        let asked_dns = part.egress.then(|| self.asked_dns());
        let asked = Digest::of_json(&(&allow.pods, part.ingress, &ingress, part.egress, &asked_egress, &asked_dns));
        let mut egress = if part.egress { self.dns_rules() } else { vec![] };
        egress.extend(
            asked_egress.into_iter().map(|(rule, _)| rule).filter(|rule| rule.to.as_ref().is_some_and(|to| !to.is_empty())),
        );
        if part.egress && allow.needs_api() {
            egress.extend(api_rules(self.api));
        }
        let spec = spec(&allow.pods, part, ingress, egress);
        let purpose = Purpose::Allow(allow.name.clone());
        let wide = allow.wide.clone().within(part.ingress, part.egress);
        Rendered { wide, ..self.dress(purpose.clone(), &purpose.suffix(), PolicyScope::Allow(index, part), (spec, asked)) }
    }

    /// What the spec asks for as DNS, in the form that is hashed.
    fn asked_dns(&self) -> impl Serialize {
        (self.dns.discovery, &self.dns.peers, further_ports(self.dns).copied().collect::<Vec<i32>>())
    }

    fn dns_rules(&self) -> Vec<NetworkPolicyEgressRule> {
        dns_rules(self.dns, self.found)
    }

    fn dress(&self, purpose: Purpose, suffix: &str, scope: PolicyScope, (spec, asked): (NetworkPolicySpec, Digest)) -> Rendered {
        let Self { baseline, metadata, .. } = *self;
        let mut labels = metadata.labels.clone();
        labels.extend([(LABEL_MANAGED_BY.into(), MANAGER.into()), (LABEL_BASELINE.into(), baseline.into())]);
        labels.extend(purpose.labels());
        let mut annotations = metadata.annotations.clone();
        annotations.insert(ANNOTATION_ABOUT.into(), about(baseline));
        if let Some(keys) = extra_keys(metadata) {
            annotations.insert(ANNOTATION_KEYS.into(), keys);
        }
        let plan = |annotations: &_| Digest::of_json(&(&spec, &labels, annotations)).to_string();
        let mut also = annotations.clone();
        let asked = Digest::of_json(&(asked.to_string(), &metadata.labels, &metadata.annotations)).to_string();
        also.insert(ANNOTATION_ASKED.into(), asked.clone());
        // The plan hash covers the annotation for what was asked for. If somebody removes the annotation, the hash no longer fits.
        let stamp = Stamp { plan: plan(&annotations), traced: plan(&also), asked };
        annotations.insert(ANNOTATION_PLAN.into(), stamp.plan.clone());
        also.insert(ANNOTATION_PLAN.into(), stamp.traced.clone());
        let name = format!("{}{}", metadata.name_prefix.as_deref().unwrap_or(DEFAULT_PREFIX), suffix);
        // A spec has string keys and only numbers that JSON can express, so serialising it cannot fail.
        let spec_text = to_raw_value(&spec).unwrap_or_else(|_| RawValue::NULL.to_owned());
        Rendered { purpose, scope, name, spec, labels, annotations, also, wide: Wide::default(), stamp, spec_text }
    }
}

/// What a policy says to people who read it.
fn about(baseline: &str) -> String {
    format!(
        "Kept by PolicyBaseline {baseline}, which undoes edits. To allow more, add a NetworkPolicy of your own beside it. For an exception, ask for a BaselineOptOut."
    )
}

const INGRESS: Directions = Directions { ingress: true, egress: false };
const EGRESS: Directions = Directions { ingress: false, egress: true };

fn spec(
    pods: &Selector,
    directions: Directions,
    ingress: Vec<NetworkPolicyIngressRule>,
    egress: Vec<NetworkPolicyEgressRule>,
) -> NetworkPolicySpec {
    let types = [directions.ingress.then_some("Ingress"), directions.egress.then_some("Egress")];
    NetworkPolicySpec {
        pod_selector: Some(pods.into()),
        policy_types: Some(types.into_iter().flatten().map(Into::into).collect()),
        ingress: Some(ingress),
        egress: Some(egress),
    }
}

fn label(key: &str, value: &str) -> Selector {
    Selector { match_labels: [(key.to_owned(), value.to_owned())].into(), match_expressions: vec![] }
}

fn pods(namespaces: &Selector, pods: &Selector) -> NetworkPolicyPeer {
    NetworkPolicyPeer { namespace_selector: Some(namespaces.into()), pod_selector: Some(pods.into()), ip_block: None }
}

/// One rule for all peers, on port 53 and the ports of the spec. Then, for each other port on which DNS was found,
/// a rule for the peers that answer on that port.
fn dns_rules(dns: &Dns, found: &ClusterDns) -> Vec<NetworkPolicyEgressRule> {
    let mut to = vec![pods(&label(METADATA_NAME, "kube-system"), &label("k8s-app", "kube-dns"))];
    let found_peers = found.peers().keys().map(discovered);
    for peer in dns.peers.iter().map(NetworkPolicyPeer::from).chain(found_peers) {
        if !to.contains(&peer) {
            to.push(peer);
        }
    }
    let mut numbers = vec![DNS_PORT];
    numbers.extend(further_ports(dns));
    let further: BTreeSet<i32> = found.peers().values().flatten().map(|port| i32::from(*port)).collect();
    let further = further.into_iter().filter(|port| !numbers.contains(port)).map(|number| {
        let answers = |(_, ports): &(&DnsDestination, &BTreeSet<u16>)| ports.iter().any(|port| i32::from(*port) == number);
        let to = found.peers().iter().filter(answers).map(|(peer, _)| discovered(peer)).collect();
        NetworkPolicyEgressRule { to: Some(to), ports: Some(udp_and_tcp(&[number])) }
    });
    let further: Vec<NetworkPolicyEgressRule> = further.collect();
    let first = NetworkPolicyEgressRule { to: Some(to), ports: Some(udp_and_tcp(&numbers)) };
    [first].into_iter().chain(further).collect()
}

fn further_ports(dns: &Dns) -> impl Iterator<Item = &i32> {
    dns.ports.iter().filter(|port| **port != DNS_PORT)
}

fn udp_and_tcp(numbers: &[i32]) -> Vec<NetworkPolicyPort> {
    let port = |number: i32, protocol: &str| NetworkPolicyPort {
        port: Some(IntOrString::Int(number)),
        protocol: Some(protocol.into()),
        end_port: None,
    };
    numbers.iter().flat_map(|number| [port(*number, "UDP"), port(*number, "TCP")]).collect()
}

/// A rule for each port of the API server, with all addresses that have it.
fn api_rules(api: &ClusterApi) -> impl Iterator<Item = NetworkPolicyEgressRule> {
    api.by_port().iter().map(|(port, addresses)| NetworkPolicyEgressRule {
        to: Some(addresses.iter().map(|address| discovered(&DnsDestination::Address(*address))).collect()),
        ports: Some(vec![NetworkPolicyPort {
            port: Some(IntOrString::Int((*port).into())),
            protocol: Some("TCP".into()),
            end_port: None,
        }]),
    })
}

fn discovered(peer: &DnsDestination) -> NetworkPolicyPeer {
    match peer {
        DnsDestination::Pods { namespace, labels } => {
            let labels = Selector { match_labels: labels.clone(), match_expressions: vec![] };
            pods(&label(METADATA_NAME, namespace), &labels)
        }
        DnsDestination::Address(address) => {
            let block = IPBlock { cidr: DnsDestination::cidr(*address), except: None };
            NetworkPolicyPeer { ip_block: Some(block), ..NetworkPolicyPeer::default() }
        }
    }
}

fn scrape_rule(monitoring: &Monitoring) -> NetworkPolicyIngressRule {
    NetworkPolicyIngressRule {
        from: Some(monitoring_sources(monitoring).iter().map(|(n, p)| pods(n, p)).collect()),
        ports: Some(scraped_ports(monitoring)),
    }
}

/// The label selector of the pods that may be scraped.
fn exposing(monitoring: &Monitoring) -> Selector {
    monitoring.pod_selector.clone().unwrap_or_else(|| label("monitoring.io/expose-metrics", "true"))
}

fn scraped_ports(monitoring: &Monitoring) -> Vec<NetworkPolicyPort> {
    let tcp = |port| Port { protocol: Protocol::TCP, port, end_port: None };
    let default_ports =
        || vec![tcp(IntOrString::String("metrics".into())), tcp(IntOrString::Int(8080)), tcp(IntOrString::Int(9090))];
    monitoring.ports.clone().unwrap_or_else(default_ports).iter().map(Into::into).collect()
}

/// The sources as pairs of namespace selector and pod selector. Never empty for a checked spec.
pub fn monitoring_sources(monitoring: &Monitoring) -> Vec<(Selector, Selector)> {
    match &monitoring.from {
        // Prometheus as many write it by hand, and as prometheus-operator and its charts label it.
        None => [label("app", "prometheus"), label("app.kubernetes.io/name", "prometheus")]
            .map(|pods| (label(METADATA_NAME, "monitoring"), pods))
            .into(),
        Some(from) => from.iter().filter_map(|s| Some((s.namespace_selector.clone()?, s.pod_selector.clone()?))).collect(),
    }
}

fn extra_keys(metadata: &PolicyMetadata) -> Option<String> {
    let labels = metadata.labels.keys().map(|k| format!("l:{k}"));
    let annotations = metadata.annotations.keys().map(|k| format!("a:{k}"));
    let keys: Vec<String> = labels.chain(annotations).collect();
    (!keys.is_empty()).then(|| keys.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testkit::{checked, golden};

    #[test]
    fn the_default_policies_are_as_published() {
        golden("src/policy/plan/golden/default.yaml", &rendered(serde_json::json!({})));
    }

    #[test]
    fn the_customised_policies_are_as_published() {
        let spec = serde_json::from_str(include_str!("golden/custom.json")).unwrap();
        golden("src/policy/plan/golden/custom.yaml", &rendered(spec));
    }

    #[test]
    fn the_policies_of_monitoring_sources_are_as_published() {
        let spec = serde_json::from_str(include_str!("golden/sources.json")).unwrap();
        golden("src/policy/plan/golden/sources.yaml", &rendered(spec));
    }

    #[test]
    fn every_policy_says_whose_it_is_what_to_do_instead_of_an_edit_and_how_to_get_an_exception() {
        let spec = serde_json::json!({
            "monitoring": {"sourceEgress": "Enforce", "ports": [{"port": 9090}]},
            "metadata": {"annotations": {"example.com/exceptions": "https://wiki.example.com/network-exceptions"}},
            "allows": [{"name": "same", "ingress": [{"from": [{"sameNamespace": {}}]}]}],
        });
        let policies = checked("platform", spec).policies;
        assert_eq!(policies.len(), 6, "the three, both sources and the allow");
        for policy in &policies {
            let object = policy.object("a", None);
            let annotations = &object["metadata"]["annotations"];
            let says = "Kept by PolicyBaseline platform, which undoes edits. To allow more, add a NetworkPolicy of your own beside it. For an exception, ask for a BaselineOptOut.";
            assert_eq!(annotations["policybaseline.io/about"], says, "{}", policy.name);
            assert_eq!(annotations["example.com/exceptions"], "https://wiki.example.com/network-exceptions", "where to ask");
        }
    }

    #[test]
    fn a_source_reaches_the_exposing_pods_of_every_namespace_by_one_peer_with_both_selectors() {
        let b = checked("b", serde_json::json!({"monitoring": {"sourceEgress": "Enforce", "ports": [{"port": 9090}]}}));
        let source = &b.policies[3];
        assert_eq!(
            (source.role(), source.scope, &*source.name),
            (Some(Role::MonitoringCarveout), PolicyScope::Source(0), "baseline-monitoring-source")
        );
        let spec = &source.object("monitoring", None)["spec"];
        let exposing = serde_json::json!({"matchLabels": {"monitoring.io/expose-metrics": "true"}});
        let ports = b.policies[2].object("a", None)["spec"]["ingress"][0]["ports"].clone();
        let dns = b.policies[1].object("a", None)["spec"]["egress"][0].clone();
        assert_eq!(
            *spec,
            serde_json::json!({
                "podSelector": {"matchLabels": {"app": "prometheus"}}, "policyTypes": ["Egress"], "ingress": [],
                "egress": [dns, {"to": [{"namespaceSelector": {}, "podSelector": exposing}], "ports": ports}],
            })
        );
    }

    fn rendered(spec: serde_json::Value) -> String {
        let documents =
            checked("platform", spec).policies.into_iter().map(|p| serde_yaml::to_string(&p.object("team-a", None)).unwrap());
        documents.collect::<Vec<_>>().join("---\n")
    }

    #[test]
    fn all_four_fields_of_every_spec_are_written_out() {
        for policy in
            checked("b", serde_json::json!({"monitoring": {"sourceEgress": "Enforce", "ports": [{"port": 9090}]}})).policies
        {
            let object = policy.object("team-a", None);
            for field in ["podSelector", "policyTypes", "ingress", "egress"] {
                assert!(object["spec"].get(field).is_some(), "{} {field}", policy.purpose);
            }
        }
    }

    #[test]
    fn i8_dns_over_udp_and_tcp_is_in_every_egress_policy() {
        for spec in [serde_json::json!({}), serde_json::json!({"mode": "Audit", "dns": {"peers": [], "ports": []}})] {
            let b = checked("b", spec);
            let egress = &b.policies[1];
            assert_eq!(egress.role(), Some(Role::DefaultDenyEgress));
            let rules = egress.spec.egress.as_ref().unwrap();
            let ports: Vec<_> =
                rules[0].ports.iter().flatten().map(|p| (p.protocol.clone().unwrap(), p.port.clone().unwrap())).collect();
            assert_eq!(ports, [("UDP".to_owned(), IntOrString::Int(53)), ("TCP".to_owned(), IntOrString::Int(53))]);
            assert!(!rules[0].to.as_ref().unwrap().is_empty());
        }
    }

    #[test]
    fn a_uid_is_carried_only_when_given() {
        let b = checked("b", serde_json::json!({}));
        assert!(b.policies[0].object("a", None)["metadata"].get("uid").is_none());
        assert_eq!(b.policies[0].object("a", Some("u"))["metadata"]["uid"], "u");
    }

    #[test]
    fn what_is_sent_is_the_object() {
        let b = checked("b", serde_json::json!({"metadata": {"labels": {"owner": "x"}, "annotations": {"n": "\"é"}}}));
        for (policy, uid) in b.policies.iter().zip([None, Some("u"), None]) {
            let sent: serde_json::Value = serde_json::from_slice(&serde_json::to_vec(&policy.body("a", uid)).unwrap()).unwrap();
            assert_eq!(sent, policy.object("a", uid));
        }
    }

    #[test]
    fn what_was_asked_for_tells_edits_of_a_policy_apart_and_knows_no_others() {
        let asked = |spec| checked("b", spec).policies.into_iter().map(|p| p.stamp.asked).collect::<Vec<_>>();
        let before = asked(serde_json::json!({}));
        let same = serde_json::json!({"dns": {"ports": [53]}, "monitoring": {"ports": [
            {"port": "metrics"}, {"port": 8080}, {"port": 9090}]}, "priority": 5, "rollout": {}});
        assert_eq!(asked(same), before, "that is what it asks for anyway");
        for (spec, changed) in [
            (serde_json::json!({"dns": {"ports": [5353]}}), [false, true, false]),
            (serde_json::json!({"dns": {"discovery": "Static"}}), [false, true, false]),
            (serde_json::json!({"dns": {"peers": [{"ipBlock": {"cidr": "10.0.0.9/32"}}]}}), [false, true, false]),
            (serde_json::json!({"monitoring": {"ports": [{"port": 1}]}}), [false, false, true]),
            (serde_json::json!({"monitoring": {"podSelector": {"matchLabels": {"a": "b"}}}}), [false, false, true]),
            (serde_json::json!({"monitoring": {"sourceEgress": "Enforce", "ports": [{"port": 9090}]}}), [false, false, true]),
            (serde_json::json!({"metadata": {"labels": {"a": "b"}}}), [true, true, true]),
            (serde_json::json!({"metadata": {"annotations": {"a": "b"}}}), [true, true, true]),
        ] {
            let now = asked(spec.clone());
            assert_eq!([0, 1, 2].map(|i| now[i] != before[i]), changed, "{spec}");
        }
    }

    #[test]
    fn only_the_policies_of_a_rollout_say_what_was_asked_for_and_the_rest_of_them_is_the_same() {
        let (without, with) = (checked("b", serde_json::json!({})), checked("b", serde_json::json!({"rollout": {}})));
        for (without, with) in without.policies.iter().zip(&with.policies) {
            assert_eq!((&without.annotations, &without.also, &without.stamp), (&with.also, &with.annotations, &with.stamp));
            assert_eq!(with.annotations[ANNOTATION_ASKED], with.stamp.asked);
            assert!(!without.annotations.contains_key(ANNOTATION_ASKED));
        }
    }

    #[test]
    fn the_plan_hash_follows_the_policy_and_not_the_generation() {
        let a = checked("b", serde_json::json!({}));
        let b = checked("b", serde_json::json!({"priority": 5, "dns": {"ports": [5353]}}));
        let hash = |r: &Rendered| r.annotations[ANNOTATION_PLAN].clone();
        assert_eq!(hash(&a.policies[0]), hash(&b.policies[0]));
        assert_ne!(hash(&a.policies[1]), hash(&b.policies[1]));
    }
}
