//! What is read of Services and of their endpoints.

use std::{collections::BTreeMap, net::IpAddr};

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde::Deserialize;

use super::object_parts::{IpFamily, NameAndLabels, addresses, null_as_none};
use crate::{
    api::peers::Protocol,
    policy::dns::{APP_LABEL, KUBE_DNS, KUBE_SYSTEM, OPENSHIFT_DNS, OPENSHIFT_NAME},
};

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
    /// It leads to the DNS of the cluster, by its name or label.
    pub is_dns: bool,
    /// Who connects from outside of the cluster arrives with the address of a node.
    pub hides_clients: bool,
    pub unready: UnreadyPods,
}

/// Whether a Service leads to pods that are not ready.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum UnreadyPods {
    LeftOut,
    /// By publishNotReadyAddresses.
    Published,
}

/// The names of DNS Services in kube-system.
const DNS_NAMES: [&str; 2] = [KUBE_DNS, "coredns"];

impl FlowService {
    /// Its namespace and name, as people write them.
    pub fn id(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
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
    /// Those of the addresses that are not ready.
    pub unready: Vec<IpAddr>,
    /// Those of the addresses whose pods are being deleted.
    pub terminating: Vec<IpAddr>,
    /// The numbers of the ports, by the name of the Service's port.
    pub ports: Vec<(String, Protocol, u16)>,
}

/// The label of an EndpointSlice that names its Service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// The cluster IP of a headless Service.
const NO_CLUSTER_IP: &str = "None";

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
    external_traffic_policy: String,
    publish_not_ready_addresses: bool,
    #[serde(rename = "externalIPs", deserialize_with = "null_as_none")]
    external_ips: Vec<String>,
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
    #[serde(default, deserialize_with = "null_as_none")]
    conditions: EndpointConditionFields,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct EndpointConditionFields {
    ready: Option<bool>,
    terminating: Option<bool>,
}

#[derive(Deserialize)]
struct SlicePortFields {
    name: Option<String>,
    protocol: Option<String>,
    port: Option<u16>,
}

impl From<ServiceFields> for FlowService {
    fn from(ServiceFields { metadata, spec }: ServiceFields) -> Self {
        let (namespace, name, labels) = metadata.parts();
        let is_dns = match &*namespace {
            KUBE_SYSTEM => DNS_NAMES.contains(&&*name) || labels.get(APP_LABEL).is_some_and(|app| app == KUBE_DNS),
            OPENSHIFT_DNS => name == OPENSHIFT_NAME,
            _ => false,
        };
        let is_open_outside = ["NodePort", "LoadBalancer"].contains(&&*spec.kind) || !spec.external_ips.is_empty();
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
            is_dns,
            hides_clients: is_open_outside && spec.external_traffic_policy != "Local",
            unready: if spec.publish_not_ready_addresses { UnreadyPods::Published } else { UnreadyPods::LeftOut },
        }
    }
}

impl From<SliceFields> for FlowSlice {
    fn from(SliceFields { metadata, endpoints, ports }: SliceFields) -> Self {
        let (namespace, name, mut labels) = metadata.parts();
        let port =
            |port: SlicePortFields| Some((port.name.unwrap_or_default(), Protocol::named(port.protocol.as_deref())?, port.port?));
        let of = |is_it: fn(&EndpointConditionFields) -> bool| {
            let them = endpoints.iter().filter(|endpoint| is_it(&endpoint.conditions));
            addresses(them.flat_map(|endpoint| &endpoint.addresses))
        };
        Self {
            namespace,
            name,
            // Where nothing is said, an endpoint is ready.
            unready: of(|conditions| conditions.ready == Some(false)),
            terminating: of(|conditions| conditions.terminating == Some(true)),
            service: labels.remove(SERVICE_NAME).unwrap_or_default(),
            addresses: addresses(endpoints.iter().flat_map(|endpoint| &endpoint.addresses)),
            ports: ports.into_iter().filter_map(port).collect(),
        }
    }
}
