//! Flows that a network plugin recorded: what one line says, in each of the formats. A line that says nothing about a policy is passed over
//! for a reason, and a line that cannot be read has a sentence that says why.

mod calico;
mod hubble;
mod simple;

use std::{collections::BTreeMap, net::IpAddr};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use strum::{IntoStaticStr, VariantArray};

use crate::api::peers::Protocol;
pub use simple::Columns;

/// A flow that was recorded.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RecordedFlow {
    /// Who opened it.
    pub from: RecordedEnd,
    pub to: RecordedEnd,
    pub protocol: Protocol,
    /// The port of the destination.
    pub port: u16,
    /// How many flows the line stands for.
    pub count: u64,
    /// When it was first and last seen.
    pub seen: Option<(Timestamp, Timestamp)>,
    pub at: RecordedAt,
    /// Somebody wrote it, or a tool that sees packets before their address is translated: the destination may be the cluster IP of a Service.
    pub is_written: bool,
}

/// Where a flow was recorded. A flow between two pods may be recorded at both ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RecordedAt {
    /// Where it begins. Whether it arrives is recorded at the other end, if at all.
    Source,
    /// Where it arrives, or at a place that is not known.
    Destination,
    /// Where it would arrive, and was dropped.
    Dropped,
}

/// One end of a recorded flow.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum RecordedEnd {
    Pod(RecordedPod),
    Address(IpAddr),
}

impl RecordedEnd {
    /// Whether it stands for several pods.
    pub fn is_of_several(&self) -> bool {
        matches!(self, Self::Pod(pod) if pod.name.ends_with('*') || pod.name.is_empty())
    }

    /// Its address, if it is recorded.
    pub const fn address(&self) -> Option<IpAddr> {
        match self {
            Self::Pod(pod) => pod.address,
            Self::Address(address) => Some(*address),
        }
    }
}

/// A pod, as a recording knows it. It may be gone by now.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct RecordedPod {
    pub namespace: String,
    /// Its name. Some recordings write only how the names of several pods begin: then it ends with `*`.
    pub name: String,
    /// The labels that were recorded; some plugins leave out some. None: the recording has no labels at all.
    pub labels: Option<BTreeMap<String, String>>,
    /// The labels of its namespace, if they were recorded.
    pub namespace_labels: BTreeMap<String, String>,
    pub address: Option<IpAddr>,
}

/// Why a line is about no flow that policies would deny.
#[derive(Clone, Copy, Debug, Eq, IntoStaticStr, Ord, PartialEq, PartialOrd, Serialize, VariantArray)]
#[serde(rename_all = "camelCase")]
#[strum(const_into_str)]
pub enum PassedOver {
    /// A policy decides about the first packet of a connection, and lets its replies through.
    #[strum(serialize = "replies")]
    Reply,
    /// It did not arrive, so nothing can break.
    #[strum(serialize = "dropped already when they were recorded")]
    Dropped,
    /// A pod and its own node, such as the probes of kubelet, or the health checks of the plugin.
    #[strum(serialize = "between a pod and its own node, or health checks of the network plugin")]
    Node,
    /// ICMP and the like. What policies mean for these is not defined.
    #[strum(serialize = "without a port, such as ICMP")]
    NoPort,
    /// It is not recorded which end opened the connection.
    #[strum(serialize = "without a direction: whether it is a reply is not recorded")]
    NoDirection,
    /// A packet to a Service, before the address is translated. Policies see the pod.
    #[strum(serialize = "to the cluster IP of a Service: only the flow to its pod counts")]
    ClusterIp,
    /// Somebody wrote such a flow, and nothing is known behind that port of the Service.
    #[strum(serialize = "to the cluster IP of a Service, behind whose port no pod and no address is known")]
    NoBackend,
    /// No pod takes part.
    #[strum(serialize = "between two addresses that are no pods")]
    NoPod,
    /// The plugin recorded several addresses as one, and none of them.
    #[strum(serialize = "without the address that is no pod: record it (Calico: flowLogsFileAggregationKindForAllowed: 1)")]
    NoAddress,
    /// The recording has more different pairs of ends and ports than are kept.
    #[strum(serialize = "beyond the number of different pairs of ends and ports that are kept")]
    TooMany,
    /// The objects lack the pod, and the line has no labels of it.
    #[strum(serialize = "of pods that are not among the objects, and whose labels are not recorded")]
    UnknownPod,
    /// Events of another layer, lost events, and the state of an agent.
    #[strum(serialize = "that describe no packet of layer 3 or 4")]
    OtherEvent,
}

impl PassedOver {
    /// Whether such a line may be about a flow that would be denied.
    pub const fn is_unknown(self) -> bool {
        match self {
            Self::NoDirection | Self::NoBackend | Self::NoAddress | Self::TooMany | Self::UnknownPod => true,
            Self::Reply | Self::Dropped | Self::Node | Self::NoPort | Self::ClusterIp | Self::NoPod | Self::OtherEvent => false,
        }
    }
}

/// What a line says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum RecordedLine {
    Flow(Box<RecordedFlow>),
    Passed(PassedOver),
    /// So many events were lost before they were recorded.
    Lost(u64),
}

/// The formats of one line of JSON, told apart by their fields.
#[derive(Deserialize)]
struct Shape<'a> {
    #[serde(borrow)]
    flow: Option<&'a serde_json::value::RawValue>,
    #[serde(borrow)]
    verdict: Option<&'a serde_json::value::RawValue>,
    #[serde(borrow)]
    from: Option<&'a serde_json::value::RawValue>,
    #[serde(borrow)]
    reporter: Option<&'a serde_json::value::RawValue>,
    #[serde(borrow)]
    lost_events: Option<&'a serde_json::value::RawValue>,
    #[serde(borrow)]
    node_status: Option<&'a serde_json::value::RawValue>,
}

impl RecordedLine {
    /// Reads a line of JSON in any of the formats. An error says what is wrong, and what a line may be.
    pub fn read_json(line: &str) -> Result<Self, String> {
        let shape: Shape<'_> = serde_json::from_str(line).map_err(|error| broken(&error))?;
        if let Some(flow) = shape.flow {
            return hubble::read(flow.get());
        }
        if shape.verdict.is_some() {
            return hubble::read(line);
        }
        if shape.from.is_some() {
            return simple::read_json(line);
        }
        if shape.reporter.is_some() {
            return calico::read(line);
        }
        if let Some(lost) = shape.lost_events {
            return Ok(Self::Lost(hubble::lost(lost.get())));
        }
        if shape.node_status.is_some() {
            return Ok(Self::Passed(PassedOver::OtherEvent));
        }
        Err("it has none of the fields flow (Hubble), reporter (Calico) and from (the format of this command)".into())
    }
}

/// What is wrong with the JSON of a line.
fn broken(error: &serde_json::Error) -> String {
    if error.is_eof() {
        return format!("it ends too early, after column {}", error.column());
    }
    let what = error.to_string();
    format!("{}, at column {}", what.split(" at line ").next().unwrap_or_default(), error.column())
}

/// Reads a time. What is no time counts as none: a flow matters whenever it was.
fn time(text: &str) -> Option<Timestamp> {
    text.parse().ok()
}

fn address(text: &str) -> Option<IpAddr> {
    text.parse::<IpAddr>().ok().map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests;
