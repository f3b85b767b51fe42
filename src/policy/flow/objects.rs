//! What is read of the objects that decide a flow, and nothing else: a Service is its addresses, its selector and its ports.

use std::{
    collections::{BTreeMap, HashSet},
    net::IpAddr,
    sync::Arc,
};

use k8s_openapi::{api::networking::v1::NetworkPolicySpec, apimachinery::pkg::util::intstr::IntOrString};
use serde::{Deserialize, Deserializer, Serialize};

use super::{
    cluster_policy::{ClusterPolicy, UnreadClusterPolicy},
    node::FlowNode,
    owners::{FlowWorkload, OwnerFields, PodOwner, controller},
    ranges::IpFamily,
};
use crate::{
    api::{names::LABEL_BASELINE, peers::Protocol},
    policy::netpol::NAME_LABEL,
};

/// An object that decides a flow.
#[derive(Clone, Debug)]
pub enum FlowObject {
    Namespace(FlowNamespace),
    Pod(FlowPod),
    Service(FlowService),
    Slice(FlowSlice),
    Policy(FlowPolicy),
    UnreadPolicy(UnreadPolicy),
    ClusterPolicy(ClusterPolicy),
    UnreadClusterPolicy(UnreadClusterPolicy),
    Node(FlowNode),
    Workload(FlowWorkload),
}

/// A namespace.
#[derive(Clone, Debug, Deserialize)]
#[serde(from = "NamespaceFields")]
pub struct FlowNamespace {
    pub name: String,
    pub labels: BTreeMap<String, String>,
}

impl FlowNamespace {
    /// A namespace of which only the name is known.
    pub fn named(name: &str) -> Self {
        Self { name: name.into(), labels: [(NAME_LABEL.to_owned(), name.to_owned())].into() }
    }
}

/// A pod.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(from = "PodFields")]
pub struct FlowPod {
    pub namespace: String,
    pub name: String,
    pub labels: BTreeMap<String, String>,
    /// At most one of each family.
    pub addresses: Vec<IpAddr>,
    /// The container ports that have a name, sorted.
    pub ports: Vec<ContainerPortName>,
    pub on_host_network: bool,
    pub node: Option<String>,
    /// The addresses of its node.
    pub node_addresses: Vec<IpAddr>,
    /// Its phase is Succeeded or Failed.
    pub has_ended: bool,
    pub owner: Option<PodOwner>,
}

impl FlowPod {
    /// Its address of a family.
    pub fn address_of(&self, family: IpFamily) -> Option<IpAddr> {
        self.addresses.iter().copied().find(|address| IpFamily::of(*address) == family)
    }
}

/// A container port with a name.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct ContainerPortName {
    pub name: String,
    pub protocol: Protocol,
    pub number: u16,
}

/// A Service.
#[derive(Clone, Debug, Deserialize)]
#[serde(from = "ServiceFields")]
pub struct FlowService {
    pub namespace: String,
    pub name: String,
    /// Its cluster IPs; none if it is headless.
    pub addresses: Vec<IpAddr>,
    /// The address families over which it is reached.
    pub families: Vec<IpFamily>,
    /// Its name leads to the addresses of its pods.
    pub is_headless: bool,
    /// The name outside of the cluster for which it stands, if its type is ExternalName.
    pub external_name: Option<String>,
    /// The labels of its pods; none if somebody else writes its endpoints.
    pub selector: BTreeMap<String, String>,
    pub ports: Vec<FlowServicePort>,
}

/// A port of a Service.
#[derive(Clone, Debug)]
pub struct FlowServicePort {
    pub name: Option<String>,
    pub protocol: Protocol,
    pub number: u16,
    /// The port of the pods: a number, or the name of a container port.
    pub target: IntOrString,
}

/// Endpoints of a Service.
#[derive(Clone, Debug, Deserialize)]
#[serde(from = "SliceFields")]
pub struct FlowSlice {
    pub namespace: String,
    pub name: String,
    /// The name of the Service.
    pub service: String,
    pub addresses: Vec<IpAddr>,
    /// The numbers of the ports, by the name of the Service's port.
    pub ports: Vec<(String, Protocol, u16)>,
}

/// A NetworkPolicy.
#[derive(Clone, Debug, Deserialize)]
#[serde(from = "PolicyFields")]
pub struct FlowPolicy {
    pub namespace: String,
    pub name: String,
    /// The baseline that wrote it, by its label.
    pub baseline: Option<String>,
    pub spec: Arc<NetworkPolicySpec>,
}

/// A policy.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
pub struct PolicyRef<'a> {
    pub namespace: &'a str,
    pub name: &'a str,
}

/// A NetworkPolicy that could not be read.
#[derive(Clone, Debug)]
pub struct UnreadPolicy {
    pub namespace: String,
    pub name: String,
}

/// The label of an EndpointSlice that names its Service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// The cluster IP of a headless Service.
const NO_CLUSTER_IP: &str = "None";
/// Where a namespaced object is that names no namespace.
pub const DEFAULT_NAMESPACE: &str = "default";

#[derive(Deserialize)]
struct NamespaceFields {
    metadata: NameAndLabels,
}

#[derive(Deserialize)]
struct PodFields {
    metadata: NameAndLabels,
    #[serde(default)]
    spec: PodSpecFields,
    #[serde(default)]
    status: PodStatusFields,
}

#[derive(Deserialize)]
struct ServiceFields {
    metadata: NameAndLabels,
    #[serde(default)]
    spec: ServiceSpecFields,
}

#[derive(Deserialize)]
struct SliceFields {
    metadata: NameAndLabels,
    #[serde(default, deserialize_with = "null_as_none")]
    endpoints: Vec<EndpointFields>,
    #[serde(default, deserialize_with = "null_as_none")]
    ports: Vec<SlicePortFields>,
}

#[derive(Deserialize)]
struct PolicyFields {
    metadata: NameAndLabels,
    spec: Option<NetworkPolicySpec>,
}

#[derive(Deserialize)]
struct NameAndLabels {
    name: String,
    namespace: Option<String>,
    labels: Option<BTreeMap<String, String>>,
    #[serde(rename = "ownerReferences")]
    owners: Option<Vec<OwnerFields>>,
}

impl NameAndLabels {
    /// The namespace, the name and the labels of a namespaced object.
    fn parts(self) -> (String, String, BTreeMap<String, String>) {
        (self.namespace.unwrap_or_else(|| DEFAULT_NAMESPACE.into()), self.name, self.labels.unwrap_or_default())
    }
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PodSpecFields {
    node_name: Option<String>,
    host_network: bool,
    #[serde(deserialize_with = "null_as_none")]
    containers: Vec<ContainerFields>,
    #[serde(deserialize_with = "null_as_none")]
    init_containers: Vec<ContainerFields>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ContainerFields {
    restart_policy: Option<String>,
    #[serde(deserialize_with = "null_as_none")]
    ports: Vec<ContainerPortFields>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ContainerPortFields {
    name: Option<String>,
    protocol: Option<String>,
    container_port: u16,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PodStatusFields {
    phase: String,
    #[serde(rename = "podIP")]
    pod_ip: String,
    #[serde(rename = "podIPs", deserialize_with = "null_as_none")]
    pod_ips: Vec<AddressField>,
    #[serde(rename = "hostIP")]
    host_ip: String,
    #[serde(rename = "hostIPs", deserialize_with = "null_as_none")]
    host_ips: Vec<AddressField>,
}

#[derive(Deserialize)]
struct AddressField {
    ip: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ServiceSpecFields {
    #[serde(rename = "type")]
    kind: String,
    #[serde(rename = "clusterIP")]
    cluster_ip: String,
    #[serde(rename = "clusterIPs", deserialize_with = "null_as_none")]
    cluster_ips: Vec<String>,
    #[serde(deserialize_with = "null_as_none")]
    ip_families: Vec<String>,
    external_name: String,
    #[serde(deserialize_with = "null_as_none")]
    selector: BTreeMap<String, String>,
    #[serde(deserialize_with = "null_as_none")]
    ports: Vec<ServicePortFields>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ServicePortFields {
    name: Option<String>,
    protocol: Option<String>,
    port: u16,
    target_port: Option<IntOrString>,
}

#[derive(Deserialize)]
struct EndpointFields {
    #[serde(default)]
    addresses: Vec<String>,
}

#[derive(Deserialize)]
struct SlicePortFields {
    name: Option<String>,
    protocol: Option<String>,
    port: Option<u16>,
}

/// Some objects have `null` where others have nothing.
fn null_as_none<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(from: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

/// The addresses in these texts, each once. What is no address, such as the cluster IP `None`, is left out.
fn addresses<'a>(texts: impl IntoIterator<Item = &'a String>) -> Vec<IpAddr> {
    let parsed = texts.into_iter().filter_map(|text| text.parse::<IpAddr>().ok());
    let mut seen = HashSet::new();
    parsed.map(|address| address.to_canonical()).filter(|address| seen.insert(*address)).collect()
}

impl From<NamespaceFields> for FlowNamespace {
    fn from(NamespaceFields { metadata }: NamespaceFields) -> Self {
        // The API server gives each namespace a label with its name. A manifest may not have it.
        let mut labels = metadata.labels.unwrap_or_default();
        labels.entry(NAME_LABEL.into()).or_insert_with(|| metadata.name.clone());
        Self { name: metadata.name, labels }
    }
}

impl From<PodFields> for FlowPod {
    fn from(PodFields { mut metadata, spec, status }: PodFields) -> Self {
        let owner = metadata.owners.take().and_then(controller);
        let (namespace, name, labels) = metadata.parts();
        // An init container that always restarts runs beside the others.
        let sidecars = spec.init_containers.iter().filter(|container| container.restart_policy.as_deref() == Some("Always"));
        let ports = spec.containers.iter().chain(sidecars).flat_map(|container| &container.ports);
        let named = ports.filter_map(|port| {
            let protocol = Protocol::named(port.protocol.as_deref())?;
            Some(ContainerPortName { name: port.name.clone()?, protocol, number: port.container_port })
        });
        let mut ports: Vec<_> = named.collect();
        ports.sort();
        let ips = status.pod_ips.iter().map(|field| &field.ip);
        let host_ips = status.host_ips.iter().map(|field| &field.ip);
        Self {
            namespace,
            name,
            labels,
            addresses: addresses(ips.chain([&status.pod_ip])),
            ports,
            on_host_network: spec.host_network,
            node: spec.node_name,
            node_addresses: addresses(host_ips.chain([&status.host_ip])),
            has_ended: ["Succeeded", "Failed"].contains(&&*status.phase),
            owner,
        }
    }
}

impl From<ServiceFields> for FlowService {
    fn from(ServiceFields { metadata, spec }: ServiceFields) -> Self {
        let (namespace, name, _) = metadata.parts();
        let port = |port: ServicePortFields| {
            let protocol = Protocol::named(port.protocol.as_deref())?;
            let target = port.target_port.unwrap_or(IntOrString::Int(port.port.into()));
            Some(FlowServicePort { name: port.name, protocol, number: port.port, target })
        };
        let addresses = addresses(spec.cluster_ips.iter().chain([&spec.cluster_ip]));
        let named = [IpFamily::IPv4, IpFamily::IPv6].into_iter().filter(|family| {
            let text: &str = family.into();
            // A manifest that was never applied names none. The cluster may give it any.
            (spec.ip_families.is_empty() && addresses.is_empty())
                || spec.ip_families.iter().any(|one| one == text)
                || addresses.iter().any(|address| IpFamily::of(*address) == *family)
        });
        Self {
            namespace,
            name,
            families: named.collect(),
            is_headless: spec.cluster_ips.iter().chain([&spec.cluster_ip]).any(|address| address == NO_CLUSTER_IP),
            addresses,
            external_name: (spec.kind == "ExternalName").then_some(spec.external_name),
            selector: spec.selector,
            ports: spec.ports.into_iter().filter_map(port).collect(),
        }
    }
}

impl From<SliceFields> for FlowSlice {
    fn from(SliceFields { metadata, endpoints, ports }: SliceFields) -> Self {
        let (namespace, name, mut labels) = metadata.parts();
        let port =
            |port: SlicePortFields| Some((port.name.unwrap_or_default(), Protocol::named(port.protocol.as_deref())?, port.port?));
        Self {
            namespace,
            name,
            service: labels.remove(SERVICE_NAME).unwrap_or_default(),
            addresses: addresses(endpoints.iter().flat_map(|endpoint| &endpoint.addresses)),
            ports: ports.into_iter().filter_map(port).collect(),
        }
    }
}

impl From<PolicyFields> for FlowPolicy {
    fn from(PolicyFields { metadata, spec }: PolicyFields) -> Self {
        let (namespace, name, mut labels) = metadata.parts();
        Self { namespace, name, baseline: labels.remove(LABEL_BASELINE), spec: Arc::new(spec.unwrap_or_default()) }
    }
}
