//! The three policies, rendered once for each baseline: in a namespace only the namespace and the id differ.
//! Each spec contains all four fields, even empty ones. A field that we do not apply has no owner,
//! so somebody else could fill it and our next apply would not correct it.
//! One file: the three policies share their parts, and a third of the file is tests.

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

use crate::{
    api::{
        Role,
        baseline::{Dns, Monitoring, PolicyMetadata, Port, Protocol},
        names::{
            ANNOTATION_ABOUT, ANNOTATION_ASKED, ANNOTATION_KEYS, ANNOTATION_PLAN, LABEL_BASELINE, LABEL_ID, LABEL_MANAGED_BY,
            LABEL_ROLE, MANAGER,
        },
        selector::Selector,
    },
    policy::{
        digest::Digest,
        dns::{ClusterDns, DnsDestination},
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
    /// The role that it implements.
    pub role: Role,
    /// Set if this is the egress half of a carve-out: it lets the pods of the monitoring source with this index reach the scraped pods.
    pub source: Option<usize>,
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
    /// The hashes that identify this policy in the cluster.
    pub stamp: Stamp,
    /// The spec as JSON, serialised once for all namespaces.
    spec_text: Box<RawValue>,
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

/// Renders the policy of one role. `found` is the cluster's DNS, in addition to the DNS in the spec.
pub fn render(
    role: Role,
    baseline: &str,
    dns: &Dns,
    found: &ClusterDns,
    monitoring: &Monitoring,
    metadata: &PolicyMetadata,
) -> Rendered {
    let spec = match role {
        Role::DefaultDenyIngress => spec(&Selector::default(), "Ingress", vec![], vec![]),
        Role::DefaultDenyEgress => spec(&Selector::default(), "Egress", vec![], dns_rules(dns, found)),
        Role::MonitoringCarveout => spec(&exposing(monitoring), "Ingress", vec![scrape_rule(monitoring)], vec![]),
    };
    let asked = match role {
        Role::DefaultDenyIngress => Digest::NONE,
        Role::DefaultDenyEgress => Digest::of_json(&(dns.discovery, &dns.peers, further_ports(dns).collect::<Vec<_>>())),
        Role::MonitoringCarveout => {
            Digest::of_json(&(monitoring_sources(monitoring), exposing(monitoring), scraped_ports(monitoring)))
        }
    };
    dress(role, role.suffix(), None, (spec, asked), baseline, metadata)
}

/// Renders the egress policy that lets the pods of a monitoring source reach the pods that they scrape.
pub fn render_source(
    index: usize,
    sources: &Selector,
    baseline: &str,
    monitoring: &Monitoring,
    metadata: &PolicyMetadata,
) -> Rendered {
    let namespaces = monitoring.namespace_selector.clone().unwrap_or_default();
    let asked = Digest::of_json(&(sources, &namespaces, exposing(monitoring), scraped_ports(monitoring)));
    // An empty namespace selector beside a pod selector means: these pods in every namespace.
    let to = Some(vec![pods(&namespaces, &exposing(monitoring))]);
    let rule = NetworkPolicyEgressRule { to, ports: Some(scraped_ports(monitoring)) };
    let spec = spec(sources, "Egress", vec![], vec![rule]);
    let suffix = if index == 0 { SOURCE.to_owned() } else { format!("{SOURCE}-{}", index + 1) };
    dress(Role::MonitoringCarveout, &suffix, Some(index), (spec, asked), baseline, metadata)
}

fn dress(
    role: Role,
    suffix: &str,
    source: Option<usize>,
    (spec, asked): (NetworkPolicySpec, Digest),
    baseline: &str,
    metadata: &PolicyMetadata,
) -> Rendered {
    let mut labels = metadata.labels.clone();
    labels.extend([
        (LABEL_MANAGED_BY.into(), MANAGER.into()),
        (LABEL_BASELINE.into(), baseline.into()),
        (LABEL_ROLE.into(), role.into_str().into()),
    ]);
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
    Rendered { role, source, name, spec, labels, annotations, also, stamp, spec_text }
}

/// What a policy says to people who read it.
fn about(baseline: &str) -> String {
    format!(
        "Kept by PolicyBaseline {baseline}, which undoes edits. To allow more, add a NetworkPolicy of your own beside it. For an exception, ask for a BaselineOptOut."
    )
}

fn spec(
    pods: &Selector,
    direction: &str,
    ingress: Vec<NetworkPolicyIngressRule>,
    egress: Vec<NetworkPolicyEgressRule>,
) -> NetworkPolicySpec {
    NetworkPolicySpec {
        pod_selector: Some(pods.into()),
        policy_types: Some(vec![direction.into()]),
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
    fn a_source_reaches_the_exposing_pods_of_every_namespace_by_one_peer_with_both_selectors() {
        let b = checked("b", serde_json::json!({"monitoring": {"sourceEgress": "Enforce", "ports": [{"port": 9090}]}}));
        let source = &b.policies[3];
        assert_eq!(
            (source.role, source.source, &*source.name),
            (Role::MonitoringCarveout, Some(0), "baseline-monitoring-source")
        );
        let spec = &source.object("monitoring", None)["spec"];
        let exposing = serde_json::json!({"matchLabels": {"monitoring.io/expose-metrics": "true"}});
        let ports = b.policies[2].object("a", None)["spec"]["ingress"][0]["ports"].clone();
        assert_eq!(
            *spec,
            serde_json::json!({
                "podSelector": {"matchLabels": {"app": "prometheus"}}, "policyTypes": ["Egress"], "ingress": [],
                "egress": [{"to": [{"namespaceSelector": {}, "podSelector": exposing}], "ports": ports}],
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
                assert!(object["spec"].get(field).is_some(), "{} {field}", policy.role);
            }
        }
    }

    #[test]
    fn i8_dns_over_udp_and_tcp_is_in_every_egress_policy() {
        for spec in [serde_json::json!({}), serde_json::json!({"mode": "Audit", "dns": {"peers": [], "ports": []}})] {
            let b = checked("b", spec);
            let egress = &b.policies[1];
            assert_eq!(egress.role, Role::DefaultDenyEgress);
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
