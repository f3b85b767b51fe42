//! What is read of the objects that decide a flow, and nothing else.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use jiff::Timestamp;
use k8s_openapi::api::networking::v1::NetworkPolicySpec;
use serde::{Deserialize, Serialize};

use super::{
    cluster_policy::{ClusterPolicy, UnreadClusterPolicy},
    node::FlowNode,
    object_parts::{IpFamily, NameAndLabels, ObjectEdits, addresses, null_as_none},
    owners::{FlowWorkload, PodOwner},
    pod_life::{DnsConfigFields, PodConditionFields, PodLife},
    service_objects::{FlowService, FlowSlice},
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
    /// All container ports, with and without a name. They open nothing, and policies do not see them.
    pub declared: Vec<(Protocol, u16)>,
    pub on_host_network: bool,
    pub node: Option<String>,
    /// The addresses of its node.
    pub node_addresses: Vec<IpAddr>,
    /// Its phase is Succeeded or Failed.
    pub has_ended: bool,
    pub owner: Option<PodOwner>,
    pub life: PodLife,
}

impl FlowPod {
    /// Its namespace and name, as people write them.
    pub fn id(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

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

/// A NetworkPolicy.
#[derive(Clone, Debug, Deserialize)]
#[serde(from = "PolicyFields")]
pub struct FlowPolicy {
    pub namespace: String,
    pub name: String,
    /// The baseline that wrote it, by its label.
    pub baseline: Option<String>,
    /// When it was created; none in a manifest.
    pub created: Option<Timestamp>,
    /// What was changed since then.
    pub edits: ObjectEdits,
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
struct PolicyFields {
    metadata: NameAndLabels,
    spec: Option<NetworkPolicySpec>,
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
    dns_policy: String,
    #[serde(deserialize_with = "null_as_none")]
    dns_config: DnsConfigFields,
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
    #[serde(deserialize_with = "null_as_none")]
    conditions: Vec<PodConditionFields>,
}

#[derive(Deserialize)]
struct AddressField {
    ip: String,
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
        let owner = metadata.owner();
        let life =
            PodLife::of(&metadata, &status.phase, &status.conditions, (&spec.dns_policy, &spec.dns_config), spec.host_network);
        let (namespace, name, labels) = metadata.parts();
        // An init container that always restarts runs beside the others.
        let sidecars = spec.init_containers.iter().filter(|container| container.restart_policy.as_deref() == Some("Always"));
        let ports = spec.containers.iter().chain(sidecars).flat_map(|container| &container.ports);
        let declared = ports.clone().filter_map(|port| Some((Protocol::named(port.protocol.as_deref())?, port.container_port)));
        let declared = declared.collect();
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
            declared,
            on_host_network: spec.host_network,
            node: spec.node_name,
            node_addresses: addresses(host_ips.chain([&status.host_ip])),
            has_ended: ["Succeeded", "Failed"].contains(&&*status.phase),
            owner,
            life,
        }
    }
}

impl From<PolicyFields> for FlowPolicy {
    fn from(PolicyFields { metadata, spec }: PolicyFields) -> Self {
        let (created, edits) = (metadata.created(), metadata.edits());
        let (namespace, name, mut labels) = metadata.parts();
        Self {
            namespace,
            name,
            baseline: labels.remove(LABEL_BASELINE),
            created,
            edits,
            spec: Arc::new(spec.unwrap_or_default()),
        }
    }
}
