//! What no policy sees of a pod: whether it is ready, since when it exists, and whom it asks for names.

use std::net::IpAddr;

use jiff::Timestamp;
use serde::Deserialize;

use super::object_parts::{NameAndLabels, addresses, null_as_none};

/// The state of a pod, and its DNS.
#[derive(Clone, Debug, Default)]
pub struct PodLife {
    /// None in a manifest.
    pub created: Option<Timestamp>,
    /// Its condition Ready; none if it has no such condition.
    pub is_ready: Option<bool>,
    pub is_pending: bool,
    pub is_terminating: bool,
    pub nameservers: PodNameservers,
}

/// Whom a pod asks for names.
#[derive(Clone, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub enum PodNameservers {
    /// The DNS of the cluster.
    #[default]
    OfCluster,
    /// The nameservers of its node, which no object names.
    OfNode,
    /// These, and no others.
    Own(Vec<IpAddr>),
}

/// The DNS that a pod names itself.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct DnsConfigFields {
    #[serde(deserialize_with = "null_as_none")]
    nameservers: Vec<String>,
}

/// A condition of a pod.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct PodConditionFields {
    #[serde(rename = "type")]
    kind: String,
    status: String,
}

impl PodLife {
    /// Reads the fields of a pod.
    pub fn of(
        metadata: &NameAndLabels,
        phase: &str,
        conditions: &[PodConditionFields],
        (dns_policy, dns_config): (&str, &DnsConfigFields),
        on_host_network: bool,
    ) -> Self {
        let ready = conditions.iter().find(|condition| condition.kind == "Ready");
        Self {
            created: metadata.created(),
            is_ready: ready.map(|condition| condition.status == "True"),
            is_pending: phase == "Pending",
            is_terminating: metadata.is_terminating(),
            nameservers: match dns_policy {
                "None" => PodNameservers::Own(addresses(&dns_config.nameservers)),
                "Default" => PodNameservers::OfNode,
                "ClusterFirst" if on_host_network => PodNameservers::OfNode,
                _ => PodNameservers::OfCluster,
            },
        }
    }
}
