//! Flows of Hubble: what `hubble observe -o jsonpb` prints, and what the Cilium agent exports. The fields are those of
//! <https://github.com/cilium/cilium/blob/main/api/v1/flow/flow.proto>.

use std::{borrow::Cow, collections::BTreeMap};

use serde::Deserialize;

use super::{PassedOver, RecordedAt, RecordedEnd, RecordedFlow, RecordedLine, RecordedPod, address, broken, time};
use crate::api::peers::Protocol;

#[derive(Deserialize)]
struct HubbleFlow<'a> {
    #[serde(borrow, default)]
    time: Cow<'a, str>,
    #[serde(borrow, default)]
    verdict: Cow<'a, str>,
    #[serde(borrow, default, rename = "Type")]
    kind: Cow<'a, str>,
    is_reply: Option<bool>,
    /// The field before `is_reply`. It is absent if it is false.
    reply: Option<bool>,
    #[serde(borrow, rename = "IP")]
    ip: Option<HubbleAddresses<'a>>,
    l4: Option<HubbleLayer4>,
    /// `EGRESS` or `INGRESS`, as seen from the pod at which it was recorded.
    #[serde(borrow, default)]
    traffic_direction: Cow<'a, str>,
    /// Where the agent saw the packet. It goes `TO_ENDPOINT` once the policies of the destination let it through.
    #[serde(borrow, default)]
    trace_observation_point: Cow<'a, str>,
    #[serde(borrow, default)]
    source: HubbleEndpoint<'a>,
    #[serde(borrow, default)]
    destination: HubbleEndpoint<'a>,
}

#[derive(Deserialize)]
struct HubbleAddresses<'a> {
    #[serde(borrow, default)]
    source: Cow<'a, str>,
    #[serde(borrow, default)]
    destination: Cow<'a, str>,
}

#[derive(Deserialize)]
#[serde(rename_all = "UPPERCASE")]
struct HubbleLayer4 {
    tcp: Option<HubblePorts>,
    udp: Option<HubblePorts>,
    sctp: Option<HubblePorts>,
}

#[derive(Deserialize)]
struct HubblePorts {
    #[serde(default)]
    destination_port: u16,
    flags: Option<HubbleTcpFlags>,
}

#[derive(Deserialize)]
#[serde(rename_all = "UPPERCASE", default)]
#[derive(Default)]
struct HubbleTcpFlags {
    syn: bool,
    ack: bool,
}

#[derive(Default, Deserialize)]
struct HubbleEndpoint<'a> {
    #[serde(borrow, default)]
    namespace: Cow<'a, str>,
    #[serde(borrow, default)]
    pod_name: Cow<'a, str>,
    #[serde(borrow, default)]
    labels: Vec<Cow<'a, str>>,
}

/// What Cilium writes before the labels of a pod's namespace.
const OF_NAMESPACE: &str = "io.cilium.k8s.namespace.labels.";

impl HubbleEndpoint<'_> {
    fn has(&self, reserved: &str) -> bool {
        self.labels.iter().any(|label| label.strip_prefix("reserved:") == Some(reserved))
    }

    /// The labels of the pod. Cilium adds some of its own, and leaves out some that Kubernetes sets.
    fn pod(&self, ip: &str) -> RecordedPod {
        let mut labels = BTreeMap::new();
        let mut namespace_labels = BTreeMap::new();
        for label in self.labels.iter().filter_map(|label| label.strip_prefix("k8s:")) {
            let (key, value) = label.split_once('=').unwrap_or((label, ""));
            if let Some(key) = key.strip_prefix(OF_NAMESPACE) {
                namespace_labels.insert(key.to_owned(), value.to_owned());
            } else if !key.starts_with("io.cilium.") && key != "io.kubernetes.pod.namespace" {
                labels.insert(key.to_owned(), value.to_owned());
            }
        }
        RecordedPod {
            namespace: self.namespace().unwrap_or_default().to_owned(),
            name: self.pod_name.clone().into_owned(),
            labels: Some(labels),
            namespace_labels,
            address: address(ip),
        }
    }

    /// The namespace of the pod; none if it is no pod. An agent may know the labels of a pod, and not its name.
    fn namespace(&self) -> Option<&str> {
        let by_label = || self.labels.iter().find_map(|label| label.strip_prefix("k8s:io.kubernetes.pod.namespace="));
        if self.namespace.is_empty() { by_label() } else { Some(&self.namespace) }
    }
}

/// How many events an agent says that it lost: at least one, if it does not say how many.
pub fn lost(json: &str) -> u64 {
    let event: serde_json::Value = serde_json::from_str(json).unwrap_or_default();
    let count = &event["num_events_lost"];
    // In the JSON of protobuf, a large number is a text.
    count.as_u64().or_else(|| count.as_str()?.parse().ok()).unwrap_or(1).max(1)
}

/// Reads a flow.
pub fn read(json: &str) -> Result<RecordedLine, String> {
    let flow: HubbleFlow<'_> = serde_json::from_str(json).map_err(|error| broken(&error))?;
    let passed = |why| Ok(RecordedLine::Passed(why));
    if !["", "L3_L4"].contains(&&*flow.kind) {
        return passed(PassedOver::OtherEvent);
    }
    let is_at_destination = flow.trace_observation_point == "TO_ENDPOINT" || flow.traffic_direction != "EGRESS";
    let recorded_at = match &*flow.verdict {
        "FORWARDED" | "REDIRECTED" | "AUDIT" | "TRACED" if is_at_destination => RecordedAt::Destination,
        "FORWARDED" | "REDIRECTED" | "AUDIT" | "TRACED" => RecordedAt::Source,
        "DROPPED" if flow.traffic_direction == "INGRESS" => RecordedAt::Dropped,
        "DROPPED" | "ERROR" => return passed(PassedOver::Dropped),
        _ => return passed(PassedOver::OtherEvent),
    };
    let (Some(ip), Some(l4)) = (&flow.ip, flow.l4) else { return passed(PassedOver::NoPort) };
    let (protocol, ports) = match (l4.tcp, l4.udp, l4.sctp) {
        (Some(ports), None, None) => (Protocol::TCP, ports),
        (None, Some(ports), None) => (Protocol::UDP, ports),
        (None, None, Some(ports)) => (Protocol::SCTP, ports),
        _ => return passed(PassedOver::NoPort),
    };
    if ports.destination_port == 0 {
        return passed(PassedOver::NoPort);
    }
    let by_flags = ports.flags.map(|HubbleTcpFlags { syn, ack }| (syn, ack));
    match (flow.is_reply, flow.reply, by_flags) {
        (Some(false), ..) | (None, None | Some(false), Some((true, false))) => {}
        // An agent does not know this of a packet that it dropped. A dropped reply goes to a port that no flow opens.
        (None, None, None | Some((false, _))) if recorded_at == RecordedAt::Dropped => {}
        (Some(true), ..) | (None, Some(true), _) | (None, _, Some((true, true))) => return passed(PassedOver::Reply),
        (None, ..) => return passed(PassedOver::NoDirection),
    }
    // `host` is the node of the agent that recorded it.
    let is_of_node = |end: &HubbleEndpoint<'_>| end.has("host") || end.has("health");
    if is_of_node(&flow.source) || is_of_node(&flow.destination) {
        return passed(PassedOver::Node);
    }
    let end = |end: &HubbleEndpoint<'_>, ip: &str| {
        if end.namespace().is_some() {
            return Ok(RecordedEnd::Pod(end.pod(ip)));
        }
        address(ip).map(RecordedEnd::Address).ok_or_else(|| format!("IP has {ip:?}, which is no address"))
    };
    Ok(RecordedLine::Flow(Box::new(RecordedFlow {
        from: end(&flow.source, &ip.source)?,
        to: end(&flow.destination, &ip.destination)?,
        protocol,
        port: ports.destination_port,
        count: 1,
        seen: time(&flow.time).map(|at| (at, at)),
        at: recorded_at,
        is_written: false,
    })))
}
