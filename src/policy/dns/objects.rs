//! The facts that are read from objects to find DNS, and nothing else. Invalid labels and unusable addresses are ignored.
//! One file: what is read of a kind of object is beside the form in which it is watched.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
};

use k8s_openapi::{
    api::{
        apps::v1::DaemonSet,
        core::v1::{Pod, Service},
        discovery::v1::EndpointSlice,
    },
    apimachinery::pkg::{apis::meta::v1::ObjectMeta, util::intstr::IntOrString},
};
use kube::Resource;
use serde::{Deserialize, Deserializer};

use super::{APP_LABEL, KUBE_DNS, PORT};
use crate::api::names;

type LabelMap = BTreeMap<String, String>;

/// The DNS facts of one object.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Object {
    /// A Service.
    Service(ServiceFacts),
    /// An EndpointSlice of a Service.
    Slice(SliceFacts),
    /// A pod.
    Pod(PodFacts),
    /// A DaemonSet.
    DaemonSet(DaemonSetFacts),
}

/// The DNS facts of a Service.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ServiceFacts {
    /// It carries the label `k8s-app=kube-dns`.
    pub labelled: bool,
    /// Its cluster IPs; empty if it is headless.
    pub addresses: Vec<IpAddr>,
    /// Its type is ExternalName: it is an alias of an external name.
    pub is_external: bool,
    /// The labels of its pods; empty if it has no selector.
    pub selector: LabelMap,
    /// The target port of each of its ports 53, by port name.
    pub targets: BTreeMap<String, TargetPort>,
}

/// The container port to which a Service port leads.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum TargetPort {
    /// The port number.
    Number(u16),
    /// The name of a container port.
    Named(String),
}

/// The DNS facts of an EndpointSlice.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct SliceFacts {
    /// The name of its Service.
    pub service: String,
    /// The addresses of its endpoints.
    pub addresses: Vec<IpAddr>,
    /// The port numbers, by the name of the Service port.
    pub ports: BTreeMap<String, u16>,
}

/// The DNS facts of a pod.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct PodFacts {
    /// The labels of the pod.
    pub labels: LabelMap,
    /// It uses the addresses of its node.
    pub on_host_network: bool,
    /// Its phase is Succeeded or Failed.
    pub has_ended: bool,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// The container ports, by name.
    pub ports: BTreeMap<String, u16>,
}

impl PodFacts {
    /// Whether the pod has this address, and defines this port.
    pub fn answers_at(&self, address: IpAddr, port: u16) -> bool {
        self.addresses.contains(&address) && self.ports.values().any(|of_pod| *of_pod == port)
    }
}

/// The DNS facts of a DaemonSet.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct DaemonSetFacts {
    /// The labels of its pods.
    pub labels: LabelMap,
    /// Its pods use the addresses of their nodes.
    pub on_host_network: bool,
    /// The container ports of its pods, by name.
    pub ports: BTreeMap<String, u16>,
    /// The addresses in its `-localip` argument.
    pub local: Vec<IpAddr>,
}

/// The watched form of a Service.
#[derive(Clone, Debug, Deserialize, Resource)]
#[resource(inherit = "Service")]
pub struct SlimService {
    #[serde(deserialize_with = "named")]
    metadata: ObjectMeta,
    #[serde(default)]
    spec: ServiceSpec,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ServiceSpec {
    #[serde(rename = "clusterIP")]
    cluster_ip: Option<String>,
    #[serde(rename = "clusterIPs")]
    cluster_ips: Vec<String>,
    r#type: Option<String>,
    selector: LabelMap,
    ports: Vec<ServicePort>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ServicePort {
    #[serde(default)]
    name: String,
    port: i64,
    #[serde(default)]
    target_port: Option<IntOrString>,
}

/// The watched form of an EndpointSlice.
#[derive(Clone, Debug, Deserialize, Resource)]
#[resource(inherit = "EndpointSlice")]
pub struct SlimSlice {
    #[serde(deserialize_with = "named")]
    metadata: ObjectMeta,
    #[serde(default)]
    endpoints: Option<Vec<Endpoint>>,
    #[serde(default)]
    ports: Option<Vec<SlicePort>>,
}

#[derive(Clone, Debug, Deserialize)]
struct Endpoint {
    #[serde(default)]
    addresses: Vec<String>,
}

#[derive(Clone, Debug, Deserialize)]
struct SlicePort {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    port: Option<i64>,
}

/// The watched form of a pod.
#[derive(Clone, Debug, Deserialize, Resource)]
#[resource(inherit = "Pod")]
pub struct SlimPod {
    #[serde(deserialize_with = "named")]
    metadata: ObjectMeta,
    #[serde(default)]
    spec: PodSpec,
    #[serde(default)]
    status: PodStatus,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PodSpec {
    host_network: bool,
    containers: Vec<Container>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct PodStatus {
    phase: String,
    #[serde(rename = "podIP")]
    pod_ip: String,
    #[serde(rename = "podIPs")]
    pod_ips: Vec<PodIp>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct PodIp {
    ip: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Container {
    ports: Vec<ContainerPort>,
    command: Vec<String>,
    args: Vec<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ContainerPort {
    name: String,
    container_port: i64,
}

/// The watched form of a DaemonSet.
#[derive(Clone, Debug, Deserialize, Resource)]
#[resource(inherit = "DaemonSet")]
pub struct SlimDaemonSet {
    #[serde(deserialize_with = "named")]
    metadata: ObjectMeta,
    #[serde(default)]
    spec: DaemonSetSpec,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct DaemonSetSpec {
    selector: DaemonSetSelector,
    template: PodTemplate,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct DaemonSetSelector {
    match_labels: LabelMap,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct PodTemplate {
    metadata: TemplateMeta,
    spec: PodSpec,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct TemplateMeta {
    labels: LabelMap,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Named {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
    labels: Option<LabelMap>,
}

/// Reads the parts of metadata that are needed. Times are left out, because some cannot be read.
pub fn named<'de, D: Deserializer<'de>>(from: D) -> Result<ObjectMeta, D::Error> {
    let Named { name, namespace, uid, resource_version, labels } = Named::deserialize(from)?;
    Ok(ObjectMeta { name, namespace, uid, resource_version, labels, ..ObjectMeta::default() })
}

impl From<SlimService> for Object {
    fn from(SlimService { metadata, spec }: SlimService) -> Self {
        let single: Vec<String> = spec.cluster_ip.into_iter().collect();
        let own = if spec.cluster_ips.is_empty() { single } else { spec.cluster_ips };
        let target = |port: &ServicePort| match &port.target_port {
            Some(IntOrString::String(name)) => Some(TargetPort::Named(name.clone())),
            Some(IntOrString::Int(number)) => port_number(i64::from(*number)).map(TargetPort::Number),
            None => Some(TargetPort::Number(PORT)),
        };
        let dns_ports = spec.ports.iter().filter(|port| port.port == i64::from(PORT));
        Self::Service(ServiceFacts {
            labelled: metadata.labels.as_ref().and_then(|labels| labels.get(APP_LABEL)).is_some_and(|app| app == KUBE_DNS),
            addresses: addresses(own.iter().map(String::as_str)),
            is_external: spec.r#type.as_deref() == Some("ExternalName"),
            selector: labels(spec.selector),
            targets: dns_ports.filter_map(|port| Some((port.name.clone(), target(port)?))).collect(),
        })
    }
}

impl From<SlimSlice> for Object {
    fn from(SlimSlice { metadata, endpoints, ports }: SlimSlice) -> Self {
        let service = metadata.labels.unwrap_or_default().remove("kubernetes.io/service-name").unwrap_or_default();
        let endpoints = endpoints.unwrap_or_default();
        let numbered = |port: SlicePort| Some((port.name.unwrap_or_default(), port_number(port.port?)?));
        Self::Slice(SliceFacts {
            service,
            addresses: addresses(endpoints.iter().flat_map(|endpoint| &endpoint.addresses).map(String::as_str)),
            ports: ports.unwrap_or_default().into_iter().filter_map(numbered).collect(),
        })
    }
}

impl From<SlimPod> for Object {
    fn from(SlimPod { metadata, spec, status }: SlimPod) -> Self {
        Self::Pod(PodFacts {
            labels: metadata.labels.unwrap_or_default(),
            on_host_network: spec.host_network,
            has_ended: ["Succeeded", "Failed"].contains(&&*status.phase),
            addresses: addresses(status.pod_ips.iter().map(|ip| &*ip.ip).chain([&*status.pod_ip])),
            ports: container_ports(&spec),
        })
    }
}

impl From<SlimDaemonSet> for Object {
    fn from(SlimDaemonSet { spec: DaemonSetSpec { selector, template }, .. }: SlimDaemonSet) -> Self {
        let selected = labels(selector.match_labels);
        let words: Vec<&str> =
            template.spec.containers.iter().flat_map(|c| c.command.iter().chain(&c.args)).map(String::as_str).collect();
        Self::DaemonSet(DaemonSetFacts {
            labels: if selected.is_empty() { labels(template.metadata.labels) } else { selected },
            on_host_network: template.spec.host_network,
            ports: container_ports(&template.spec),
            local: addresses(local_addresses(&words)),
        })
    }
}

fn container_ports(spec: &PodSpec) -> BTreeMap<String, u16> {
    let ports = spec.containers.iter().flat_map(|container| &container.ports);
    ports.filter_map(|port| Some((port.name.clone(), port_number(port.container_port)?))).collect()
}

/// The addresses in the `-localip` argument, separated by commas, as NodeLocal DNSCache parses it.
fn local_addresses<'a>(words: &[&'a str]) -> impl Iterator<Item = &'a str> {
    let mut value = "";
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let flag = word.trim_start_matches('-');
        if flag == "localip" && flag != *word {
            value = words.next().copied().unwrap_or_default();
        } else if let Some(after) = flag.strip_prefix("localip=") {
            value = after;
        }
    }
    value.split(',').map(str::trim)
}

/// Whether a pod can send a packet to this address.
pub fn is_usable(address: IpAddr) -> bool {
    let never = address.is_unspecified() || address.is_loopback() || address.is_multicast();
    !never && address != IpAddr::V4(Ipv4Addr::BROADCAST)
}

/// Whether the address belongs to no one on the internet: RFC 1918, RFC 6598 (shared), link-local, or unique local.
pub fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let [first, second, ..] = v4.octets();
            v4.is_private() || v4.is_link_local() || (first == 100 && (64..128).contains(&second))
        }
        IpAddr::V6(v6) => v6.is_unique_local() || v6.is_unicast_link_local(),
    }
}

/// Parses addresses into sorted, unique ones in canonical form. Ignores what is not a usable address.
fn addresses<'a>(texts: impl Iterator<Item = &'a str>) -> Vec<IpAddr> {
    let parsed = texts.filter_map(|text| text.parse::<IpAddr>().ok()).map(|address| address.to_canonical());
    let sorted: BTreeSet<IpAddr> = parsed.filter(|address| is_usable(*address)).collect();
    sorted.into_iter().collect()
}

/// The labels, if all of them are valid. If one is invalid, none are used, because fewer labels would select more pods.
pub fn labels(labels: LabelMap) -> LabelMap {
    let is_label =
        |(key, value): (&String, &String)| names::check_label_key(key).is_ok() && names::check_label_value(value).is_ok();
    if labels.iter().all(is_label) { labels } else { LabelMap::new() }
}

fn port_number(number: i64) -> Option<u16> {
    u16::try_from(number).ok().filter(|port| *port != 0)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn daemon_set(args: Value) -> DaemonSetFacts {
        let object = json!({"metadata": {"name": "node-local-dns"}, "spec": {"template": {
            "metadata": {"labels": {"k8s-app": "node-local-dns"}}, "spec": {"containers": [{"args": args}]}}}});
        match serde_json::from_value::<SlimDaemonSet>(object).unwrap().into() {
            Object::DaemonSet(facts) => facts,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_local_addresses_are_read_in_every_form_of_the_flag() {
        let local = |args: Value| daemon_set(args).local.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        for (args, want) in [
            (json!(["-localip", "169.254.20.10,10.96.0.10", "-conf", "/etc/Corefile"]), "10.96.0.10 169.254.20.10"),
            (json!(["--localip=169.254.20.11"]), "169.254.20.11"),
            (json!(["-localip", "fd00:90::a, 169.254.20.10"]), "169.254.20.10 fd00:90::a"),
            (json!(["-localip"]), ""),
            (json!(["-localip", "nonsense"]), ""),
            (json!(["-conf", "localip"]), ""),
        ] {
            assert_eq!(local(args.clone()), want, "{args}");
        }
    }

    #[test]
    fn private_addresses_are_told_from_those_of_the_internet() {
        let is = |text: &str| is_private(text.parse().unwrap());
        let private =
            "10.0.0.1 172.16.0.1 172.31.255.255 192.168.1.1 100.64.0.1 100.127.255.255 169.254.20.10 fd00::a fc00::1 fe80::1";
        assert!(private.split(' ').all(is));
        let public =
            "9.9.9.9 172.15.0.1 172.32.0.1 192.167.1.1 100.63.0.1 100.128.0.1 34.118.224.10 192.0.2.1 2001:db8::1 fec0::1";
        assert!(!public.split(' ').any(is));
    }

    #[test]
    fn what_no_policy_may_name_is_not_taken() {
        let kept = addresses(
            ["0.0.0.0", "::", "127.0.0.53", "::1", "224.0.0.251", "255.255.255.255", "None", "10.0.0.10", "::ffff:10.0.0.10"]
                .into_iter(),
        );
        assert_eq!(kept, ["10.0.0.10".parse::<IpAddr>().unwrap()]);
        let bad: LabelMap = [("k8s-app".into(), "kube-dns".into()), ("no key!".into(), "x".into())].into();
        assert_eq!(labels(bad), LabelMap::new());
        assert_eq!((port_number(0), port_number(65536), port_number(5353)), (None, None, Some(5353)));
    }
}
