//! What a person asks about: the two ends of a flow and its port, as they are written on the command line.

use std::{fmt, net::IpAddr, str::FromStr};

use strum::VariantArray;

use super::owners::WorkloadKind;
use crate::api::{label_query::LabelQuery, names::is_dns_label, peers::Protocol};

/// One end of a flow, as it is asked for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum FlowEnd {
    Pod {
        namespace: String,
        name: String,
    },
    Service {
        namespace: String,
        name: String,
    },
    Address(IpAddr),
    /// All pods of a workload.
    Workload {
        kind: WorkloadKind,
        namespace: String,
        name: String,
    },
    /// All pods of a namespace with these labels.
    Labelled {
        namespace: String,
        labels: LabelQuery,
    },
}

/// What may stand between a namespace and a name.
#[derive(Clone, Copy)]
enum EndKind {
    Pod,
    Service,
    Workload(WorkloadKind),
}

impl EndKind {
    fn spelled(text: &str) -> Option<Self> {
        match text {
            "pod" | "pods" | "po" => Some(Self::Pod),
            "svc" | "service" | "services" => Some(Self::Service),
            _ => WorkloadKind::spelled(text).map(Self::Workload),
        }
    }
}

/// The port of a flow, as it is asked for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AskedPort {
    pub protocol: Protocol,
    pub port: NumberOrName,
}

/// A port: a number, or the name of a container port, or of a port of a Service.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum NumberOrName {
    Number(u16),
    Name(String),
}

impl FromStr for FlowEnd {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::parsed(text, EndSide::Destination)
    }
}

/// Which end of a flow it is. A Service sends nothing.
#[derive(Clone, Copy)]
enum EndSide {
    Source,
    Destination,
}

impl EndSide {
    /// What can be written.
    const fn forms(self) -> &'static str {
        match self {
            Self::Source => {
                "write NAMESPACE/POD, NAMESPACE/deploy/NAME or an IP address, for example shop/web-0, shop/deploy/web or 10.0.0.1"
            }
            Self::Destination => {
                "write NAMESPACE/POD, NAMESPACE/svc/NAME, NAMESPACE/deploy/NAME or an IP address, for example shop/web-0, shop/svc/web, shop/deploy/web or 10.0.0.1"
            }
        }
    }

    /// The kinds that have pods.
    fn kinds(self) -> String {
        let service = match self {
            Self::Source => "",
            Self::Destination => "svc, ",
        };
        format!("pod, {service}{}", WorkloadKind::short_names())
    }
}

impl FlowEnd {
    /// Reads who receives. Without a namespace of its own, an end is in this one: `POD`, `svc/NAME` or `deploy/NAME`.
    pub fn read(text: &str, namespace: Option<&str>) -> Result<Self, String> {
        Self::within(text, namespace, EndSide::Destination)
    }

    /// Reads who sends, in the same way.
    pub fn source(text: &str, namespace: Option<&str>) -> Result<Self, String> {
        match Self::within(text, namespace, EndSide::Source)? {
            Self::Service { namespace, name } => Err(format!(
                "a Service sends nothing; write NAMESPACE/POD, NAMESPACE/deploy/NAME or an IP address. The pods behind it: kubectl get endpointslices -n {namespace} -l kubernetes.io/service-name={name} -o wide"
            )),
            end => Ok(end),
        }
    }

    fn within(text: &str, namespace: Option<&str>, side: EndSide) -> Result<Self, String> {
        let is_short = match text.split_once('/') {
            None => text.parse::<IpAddr>().is_err(),
            Some((kind, name)) => is_kind(kind) && !name.contains('/'),
        };
        match namespace {
            Some(namespace) if is_short => Self::parsed(&format!("{namespace}/{text}"), side),
            _ => Self::parsed(text, side),
        }
    }

    fn parsed(text: &str, side: EndSide) -> Result<Self, String> {
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self::Address(address.to_canonical()));
        }
        let parts: Vec<&str> = text.split('/').collect();
        let (namespace, kind, name) = match *parts {
            [namespace, name] => (namespace, "pod", name),
            [namespace, kind, name] => (namespace, kind, name),
            _ => return Err(side.forms().into()),
        };
        if name.is_empty() {
            return Err(side.forms().into());
        }
        if !is_dns_label(namespace) {
            let lower = namespace.to_ascii_lowercase();
            return Err(match &*parts {
                [_, _] if is_kind(namespace) => kind_without_namespace(namespace, name),
                _ if is_dns_label(&lower) => {
                    format!("a namespace has lower-case letters: write {lower}{}", &text[namespace.len()..])
                }
                _ => side.forms().into(),
            });
        }
        let Some(kind) = EndKind::spelled(kind) else {
            return Err(format!("{kind:?} has no pods: write one of {}", side.kinds()));
        };
        let (namespace, name) = (namespace.to_owned(), name.to_owned());
        Ok(match kind {
            EndKind::Pod => Self::Pod { namespace, name },
            EndKind::Service => Self::Service { namespace, name },
            EndKind::Workload(kind) => Self::Workload { kind, namespace, name },
        })
    }
}

/// Whether a text is a kind of an end.
pub fn is_kind(text: &str) -> bool {
    EndKind::spelled(text).is_some()
}

/// What to write instead of a kind and a name.
pub fn kind_without_namespace(kind: &str, name: &str) -> String {
    format!("{kind} is a kind, and the namespace is missing: write -n NAMESPACE, or NAMESPACE/{kind}/{name}")
}

impl FlowEnd {
    /// Whose pods these are, if it stands for several.
    pub fn group(&self) -> Option<String> {
        match self {
            Self::Workload { .. } => Some(self.to_string()),
            Self::Labelled { namespace, labels } if labels.is_empty() => Some(namespace.clone()),
            Self::Labelled { namespace, labels } => Some(format!("{namespace} with {labels}")),
            Self::Pod { .. } | Self::Service { .. } | Self::Address(_) => None,
        }
    }
}

impl fmt::Display for FlowEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pod { namespace, name } => write!(f, "{namespace}/{name}"),
            Self::Service { namespace, name } => write!(f, "{namespace}/svc/{name}"),
            Self::Address(address) => address.fmt(f),
            Self::Workload { kind, namespace, name } => write!(f, "{namespace}/{}/{name}", kind.short_name()),
            Self::Labelled { namespace, labels } if labels.is_empty() => write!(f, "the pods of {namespace}"),
            Self::Labelled { namespace, labels } => write!(f, "the pods of {namespace} with {labels}"),
        }
    }
}

impl FromStr for AskedPort {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "write a port with or without its protocol (TCP, UDP, SCTP): 443, UDP/53, or a name such as http";
        let protocol = |text: &str| Protocol::VARIANTS.iter().copied().find(|one| one.into_str().eq_ignore_ascii_case(text));
        let (protocol, port) = match text.split_once('/') {
            None => (Protocol::TCP, text),
            // kubectl writes 443/TCP.
            Some((one, other)) => match (protocol(one), protocol(other)) {
                (Some(protocol), _) => (protocol, other),
                (None, Some(protocol)) => (protocol, one),
                (None, None) => return Err(wrong().into()),
            },
        };
        let port = match port.parse::<u16>() {
            Ok(1..) => NumberOrName::Number(port.parse().map_err(|_| wrong())?),
            Err(_) if is_port_name(port) => NumberOrName::Name(port.into()),
            _ => return Err(wrong().into()),
        };
        Ok(Self { protocol, port })
    }
}

/// Whether Kubernetes takes this name of a port. The name of a port of a Service may be longer than that of a container.
fn is_port_name(text: &str) -> bool {
    is_dns_label(text) && text.bytes().any(|byte| byte.is_ascii_lowercase())
}

impl fmt::Display for AskedPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = self.protocol.into_str();
        match &self.port {
            NumberOrName::Number(number) => write!(f, "{protocol} {number}"),
            NumberOrName::Name(name) => write!(f, "{protocol} {name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_a_pod_a_service_or_an_address() {
        let pod = |namespace: &str, name: &str| Ok(FlowEnd::Pod { namespace: namespace.into(), name: name.into() });
        assert_eq!("shop/web-0".parse(), pod("shop", "web-0"));
        assert_eq!("shop/pod/web.0".parse(), pod("shop", "web.0"));
        let service = FlowEnd::Service { namespace: "shop".into(), name: "web".into() };
        assert_eq!("shop/svc/web".parse().as_ref(), Ok(&service));
        assert_eq!("shop/service/web".parse().as_ref(), Ok(&service));
        for (text, shown) in [("10.0.0.1", "10.0.0.1"), ("FD00::1", "fd00::1"), ("::ffff:10.0.0.1", "10.0.0.1")] {
            assert_eq!(text.parse::<FlowEnd>().unwrap().to_string(), shown);
        }
        for wrong in ["", "web", "shop/", "/web", "a_b/web", "a/b/c/d", "10.0.0.1/32", "10.0.0"] {
            let error = wrong.parse::<FlowEnd>().unwrap_err();
            assert!(error.starts_with("write NAMESPACE/POD, "), "{wrong}: {error}");
        }
        assert_eq!(
            "shop/cm/web".parse::<FlowEnd>(),
            Err("\"cm\" has no pods: write one of pod, svc, deploy, sts, ds, rs, job, cronjob".into())
        );
    }

    #[test]
    fn what_is_wrong_with_an_end_is_said_for_its_side() {
        for (text, expected) in [
            ("Shop/web", "a namespace has lower-case letters: write shop/web"),
            ("Shop/svc/db", "a namespace has lower-case letters: write shop/svc/db"),
            (
                "Deployment/web",
                "Deployment is a kind, and the namespace is missing: write -n NAMESPACE, or NAMESPACE/Deployment/web",
            ),
        ] {
            assert_eq!(FlowEnd::read(text, None), Err(expected.to_owned()));
            assert_eq!(FlowEnd::source(text, None), Err(expected.to_owned()));
        }
        let source = |text: &str| FlowEnd::source(text, None).unwrap_err();
        assert!(source("web").starts_with("write NAMESPACE/POD, NAMESPACE/deploy/NAME or an IP address"));
        assert_eq!(source("shop/cm/web"), "\"cm\" has no pods: write one of pod, deploy, sts, ds, rs, job, cronjob");
        assert!(source("shop/svc/web").starts_with("a Service sends nothing; write "));
        assert_eq!(FlowEnd::source("deploy/web", Some("shop")).unwrap().to_string(), "shop/deploy/web");
    }

    #[test]
    fn a_workload_is_spelled_as_for_kubectl() {
        for (kind, spellings) in [
            ("deploy", &["deploy", "deployment", "deployments", "deployment.apps", "deployments.apps", "Deployment"][..]),
            ("sts", &["sts", "statefulset", "statefulsets", "statefulsets.apps"]),
            ("ds", &["ds", "daemonset", "daemonsets"]),
            ("rs", &["rs", "replicaset", "replicasets.apps"]),
            ("job", &["job", "jobs", "job.batch"]),
            ("cronjob", &["cj", "cronjob", "cronjobs.batch"]),
        ] {
            for spelling in spellings {
                let shown = format!("shop/{kind}/web");
                assert_eq!(format!("shop/{spelling}/web").parse::<FlowEnd>().unwrap().to_string(), shown);
                assert_eq!(FlowEnd::read(&format!("{spelling}/web"), Some("shop")).unwrap().to_string(), shown);
            }
        }
        assert!("shop/deploy.batch/web".parse::<FlowEnd>().is_err());
    }

    #[test]
    fn an_end_without_a_namespace_is_in_the_given_one() {
        let read = |text: &str| FlowEnd::read(text, Some("shop")).map(|end| end.to_string());
        for (text, shown) in [
            ("web-0", "shop/web-0"),
            ("svc/db", "shop/svc/db"),
            ("pod/web-0", "shop/web-0"),
            ("other/web-0", "other/web-0"),
            ("other/svc/db", "other/svc/db"),
            ("10.0.0.1", "10.0.0.1"),
        ] {
            assert_eq!(read(text).as_deref(), Ok(shown));
        }
        assert!(FlowEnd::read("web-0", None).is_err() && read("").is_err());
        assert_eq!(
            FlowEnd::read("svc/db", None).map(|end| end.to_string()).as_deref(),
            Ok("svc/db"),
            "a pod of the namespace svc"
        );
    }

    #[test]
    fn a_port_is_a_number_or_a_name_and_tcp_unless_it_says_otherwise() {
        for (text, shown) in [
            ("443", "TCP 443"),
            ("UDP/53", "UDP 53"),
            ("53/udp", "UDP 53"),
            ("sctp/9", "SCTP 9"),
            ("http", "TCP http"),
            ("TCP/http2", "TCP http2"),
            ("65535", "TCP 65535"),
        ] {
            assert_eq!(text.parse::<AskedPort>().unwrap().to_string(), shown, "{text}");
        }
        for wrong in ["", "0", "65536", "-1", "ICMP/1", "TCP/", "TCP/0", "80-90", "Http", "TCP/80/80"] {
            let error = wrong.parse::<AskedPort>().unwrap_err();
            assert!(error.starts_with("write a port "), "{wrong}: {error}");
        }
    }
}
