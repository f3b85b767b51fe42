//! What is read of a node: its labels and its addresses, for policies that select nodes.

use std::{collections::BTreeMap, net::IpAddr};

use serde::Deserialize;

/// A node.
#[derive(Clone, Debug, Deserialize)]
#[serde(from = "NodeFields")]
pub struct FlowNode {
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub addresses: Vec<IpAddr>,
}

#[derive(Deserialize)]
struct NodeFields {
    metadata: NodeMetadata,
    status: Option<NodeStatus>,
}

#[derive(Deserialize)]
struct NodeMetadata {
    name: String,
    labels: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
struct NodeStatus {
    addresses: Option<Vec<NodeAddress>>,
}

#[derive(Deserialize)]
struct NodeAddress {
    address: String,
}

impl From<NodeFields> for FlowNode {
    fn from(NodeFields { metadata, status }: NodeFields) -> Self {
        let addresses = status.and_then(|status| status.addresses).into_iter().flatten();
        // Some are names.
        let parsed = addresses.filter_map(|one| one.address.parse::<IpAddr>().ok());
        Self {
            name: metadata.name,
            labels: metadata.labels.unwrap_or_default(),
            addresses: parsed.map(|address| address.to_canonical()).collect(),
        }
    }
}
