//! Flow logs of Calico in JSON. The fields are those of <https://docs.tigera.io/calico-enterprise/latest/observability/elastic/flow/datatypes>.

use std::borrow::Cow;

use jiff::Timestamp;
use serde::Deserialize;

use super::{PassedOver, RecordedAt, RecordedEnd, RecordedFlow, RecordedLine, RecordedPod, address, broken};
use crate::api::peers::Protocol;

#[derive(Deserialize)]
struct CalicoFlow<'a> {
    #[serde(borrow, default)]
    action: Cow<'a, str>,
    /// `src` or `dst`. A flow between two pods is logged at both ends.
    #[serde(borrow, default)]
    reporter: Cow<'a, str>,
    start_time: Option<i64>,
    end_time: Option<i64>,
    proto: Option<CalicoProtocol<'a>>,
    dest_port: Option<u16>,
    num_flows: Option<u64>,
    #[serde(borrow, default)]
    source_type: Cow<'a, str>,
    #[serde(borrow, default)]
    source_namespace: Cow<'a, str>,
    #[serde(borrow, default)]
    source_name: Cow<'a, str>,
    #[serde(borrow, default)]
    source_name_aggr: Cow<'a, str>,
    #[serde(borrow)]
    source_ip: Option<Cow<'a, str>>,
    source_labels: Option<CalicoLabels<'a>>,
    #[serde(borrow, default)]
    dest_type: Cow<'a, str>,
    #[serde(borrow, default)]
    dest_namespace: Cow<'a, str>,
    #[serde(borrow, default)]
    dest_name: Cow<'a, str>,
    #[serde(borrow, default)]
    dest_name_aggr: Cow<'a, str>,
    #[serde(borrow)]
    dest_ip: Option<Cow<'a, str>>,
    dest_labels: Option<CalicoLabels<'a>>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum CalicoProtocol<'a> {
    Number(u8),
    #[serde(borrow)]
    Name(Cow<'a, str>),
}

#[derive(Deserialize)]
struct CalicoLabels<'a> {
    #[serde(borrow, default)]
    labels: Vec<Cow<'a, str>>,
}

/// One end, as it is logged.
struct CalicoEnd<'a> {
    kind: &'a str,
    namespace: &'a str,
    name: &'a str,
    prefix: &'a str,
    ip: Option<&'a str>,
    labels: Option<CalicoLabels<'a>>,
}

/// What stands where nothing is known.
const NOTHING: [&str; 2] = ["", "-"];

impl CalicoEnd<'_> {
    /// The pod, or the address. None: several addresses are logged as one, without any of them.
    fn read(self) -> Option<RecordedEnd> {
        let ip = self.ip.and_then(address);
        if self.kind != "wep" || NOTHING.contains(&self.namespace) {
            return ip.map(RecordedEnd::Address);
        }
        let name = [self.name, self.prefix].into_iter().find(|name| !NOTHING.contains(name)).unwrap_or_default();
        let labels = self.labels.map(|labels| labels.labels.iter().filter_map(|label| own_label(label)).collect());
        let namespace = self.namespace.to_owned();
        Some(RecordedEnd::Pod(RecordedPod { namespace, name: name.into(), labels, address: ip, ..RecordedPod::default() }))
    }
}

/// A label that the pod has. Calico adds some of its own.
fn own_label(label: &str) -> Option<(String, String)> {
    let (key, value) = label.split_once('=')?;
    let prefix = key.split_once('/').map_or("", |(prefix, _)| prefix);
    let is_added = prefix == "projectcalico.org" || prefix.ends_with(".projectcalico.org");
    (!is_added).then(|| (key.to_owned(), value.to_owned()))
}

/// Reads a flow.
pub fn read(json: &str) -> Result<RecordedLine, String> {
    let flow: CalicoFlow<'_> = serde_json::from_str(json).map_err(|error| broken(&error))?;
    let passed = |why| Ok(RecordedLine::Passed(why));
    let recorded_at = match (&*flow.action, &*flow.reporter) {
        ("allow", "src") => RecordedAt::Source,
        ("allow", "dst") => RecordedAt::Destination,
        ("deny", "src") => return passed(PassedOver::Dropped),
        ("deny", "dst") => RecordedAt::Dropped,
        ("allow" | "deny", other) => return Err(format!("reporter is {other:?}; it is src or dst")),
        (other, _) => return Err(format!("action is {other:?}; it is allow or deny")),
    };
    let protocol = match &flow.proto {
        Some(CalicoProtocol::Number(6)) => Some(Protocol::TCP),
        Some(CalicoProtocol::Number(17)) => Some(Protocol::UDP),
        Some(CalicoProtocol::Number(132)) => Some(Protocol::SCTP),
        Some(CalicoProtocol::Name(name)) => Protocol::named(Some(&name.to_uppercase())),
        Some(CalicoProtocol::Number(_)) | None => None,
    };
    let (Some(protocol), Some(port @ 1..)) = (protocol, flow.dest_port) else { return passed(PassedOver::NoPort) };
    let source = CalicoEnd {
        kind: &flow.source_type,
        namespace: &flow.source_namespace,
        name: &flow.source_name,
        prefix: &flow.source_name_aggr,
        ip: flow.source_ip.as_deref(),
        labels: flow.source_labels,
    };
    let destination = CalicoEnd {
        kind: &flow.dest_type,
        namespace: &flow.dest_namespace,
        name: &flow.dest_name,
        prefix: &flow.dest_name_aggr,
        ip: flow.dest_ip.as_deref(),
        labels: flow.dest_labels,
    };
    let (Some(from), Some(to)) = (source.read(), destination.read()) else { return passed(PassedOver::NoAddress) };
    let at = |seconds: Option<i64>| seconds.and_then(|seconds| Timestamp::from_second(seconds).ok());
    Ok(RecordedLine::Flow(Box::new(RecordedFlow {
        from,
        to,
        protocol,
        port,
        count: flow.num_flows.unwrap_or(1).max(1),
        seen: at(flow.start_time).zip(at(flow.end_time)),
        at: recorded_at,
        is_written: false,
    })))
}
