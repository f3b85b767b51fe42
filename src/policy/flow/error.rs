//! Why a question about a flow has no answer. Each message says what is wrong and what to write.

use super::{
    ask::{AskedPort, is_kind, kind_without_namespace},
    objects::FlowPod,
    service_objects::FlowService,
    snapshot::FlowSnapshot,
};
use crate::{api::peers::Protocol, policy::table::counted};

/// The number of names that a message lists.
const SHOWN: usize = 8;

/// Why a question about a flow has no answer.
#[derive(Debug, thiserror::Error)]
pub enum FlowError {
    #[error("there is no pod {pod}. {others}")]
    NoPod { pod: String, others: String },
    #[error("the pod {0} has ended, so it has no traffic. Name a pod that runs")]
    PodEnded(String),
    #[error("{}", no_workload(workload, *is_known, others))]
    NoWorkload { workload: String, is_known: bool, others: String },
    #[error("the {workload} has no pods, so it has no traffic. Find out why: kubectl describe {describe}")]
    NoPodsOfWorkload { workload: String, describe: String },
    #[error("all pods of {0} have ended, so there is no traffic. Name pods that run")]
    AllEnded(String),
    #[error("{}", nothing_selected(namespace, labels, *pods))]
    NothingSelected { namespace: String, labels: String, pods: usize },
    #[error("there is no Service {service}. {others}")]
    NoService { service: String, others: String },
    #[error("{0} is a Service, and a Service sends nothing. After --from, name a pod or an address")]
    FromService(String),
    #[error("the Service {0} is an alias for {1:?}, outside of the cluster. After --to, name an address of it")]
    ExternalName(String, String),
    #[error("the Service {service} has no port {port}. {others}")]
    NoPortOfService { service: String, port: String, others: String },
    #[error("no container of {pod} has a {protocol} port named {name:?}. {others}")]
    NoPortOfPod { pod: String, protocol: &'static str, name: String, others: String },
    #[error("{0} is the address of no pod, so nothing says which port {1:?} is. After --port, write a number")]
    NamedPortOfAddress(String, String),
    #[error("{}", nothing_behind(service, route, without_port))]
    NothingBehind { service: String, route: String, without_port: Vec<String> },
    #[error("neither {0} nor {1} is a pod, so no NetworkPolicy decides about this flow. Name at least one pod")]
    NoPodAtAll(String, String),
    #[error("{0} and {1} have no address of the same family (IPv4 or IPv6), so there is no such flow")]
    NoSharedFamily(String, String),
    #[error("{to} is reached over {} only, and {from} has no such address, so there is no such flow", .families.join(" and "))]
    NoFamilyOfService { from: String, to: String, families: Vec<&'static str> },
}

impl FlowError {
    /// An unknown pod, with the pods that exist there.
    pub fn no_pod(snapshot: &FlowSnapshot, namespace: &str, name: &str) -> Self {
        let names: Vec<&str> = snapshot.pods_of(namespace).map(|(_, pod)| &*pod.name).collect();
        if names.is_empty() && !snapshot.has_namespace(namespace) && is_kind(namespace) {
            return Self::NoPod {
                pod: format!("{namespace}/{name}"),
                others: format!("Perhaps {}", kind_without_namespace(namespace, name)),
            };
        }
        Self::NoPod { pod: format!("{namespace}/{name}"), others: others("pod", namespace, &names) }
    }

    /// An unknown workload, with those of its kind that exist there. It is known that there is none if all of them were listed.
    pub fn no_workload(workload: String, is_known: bool, (kind, namespace): (&str, &str), names: &[&str]) -> Self {
        Self::NoWorkload { workload, is_known, others: others(kind, namespace, names) }
    }

    /// An unknown Service, with the Services that exist there.
    pub fn no_service(snapshot: &FlowSnapshot, namespace: &str, name: &str) -> Self {
        let there = snapshot.services.iter().filter(|service| service.namespace == namespace);
        let names: Vec<&str> = there.map(|service| &*service.name).collect();
        Self::NoService { service: format!("{namespace}/{name}"), others: others("Service", namespace, &names) }
    }

    /// A port that the Service does not have, with the ports that it has.
    pub fn no_port_of_service(service: &FlowService, port: &AskedPort) -> Self {
        let shown = service.ports.iter().map(|port| {
            let name = port.name.as_ref().map(|name| format!(" ({name})")).unwrap_or_default();
            format!("{} {}{name}", port.protocol.into_str(), port.number)
        });
        let others = its_ports(&shown.collect::<Vec<_>>());
        Self::NoPortOfService { service: service.id(), port: port.to_string(), others }
    }

    /// A name of a port that the pod does not have, with the names that it has.
    pub fn no_port_of_pod(pod: &FlowPod, protocol: Protocol, name: &str) -> Self {
        let shown = pod.ports.iter().map(|port| format!("{} {} ({})", port.protocol.into_str(), port.name, port.number));
        let others = its_ports(&shown.collect::<Vec<_>>());
        let pod = pod.id();
        Self::NoPortOfPod { pod, protocol: protocol.into_str(), name: name.into(), others }
    }
}

fn others(kind: &str, namespace: &str, names: &[&str]) -> String {
    if names.is_empty() {
        return format!("The namespace {namespace:?} has no {kind} at all: check its name, and whether you may list it");
    }
    let more = if names.len() > SHOWN { ", …" } else { "" };
    format!("In {namespace:?} there are: {}{more}", names[..names.len().min(SHOWN)].join(", "))
}

fn no_workload(workload: &str, is_known: bool, others: &str) -> String {
    let or_no_pods = if is_known { "" } else { ", or it has no pods" };
    format!("there is no {workload}{or_no_pods}. {others}")
}

fn nothing_selected(namespace: &str, labels: &str, pods: usize) -> String {
    if labels.is_empty() {
        return format!("no pod runs in {namespace:?}: check the name of the namespace, and whether you may list its pods");
    }
    let why = match pods {
        0 => "no pod runs there: check the name of the namespace, and whether you may list its pods".into(),
        pods => format!(
            "none of {} has such labels. List them: kubectl get pods -n {namespace} --show-labels",
            counted(pods as u64, "pod", "pods")
        ),
    };
    format!("{labels} selects nothing in {namespace:?}: {why}")
}

fn its_ports(ports: &[String]) -> String {
    if ports.is_empty() { "It names no ports: write a number".into() } else { format!("It has: {}", ports.join(", ")) }
}

fn nothing_behind(service: &str, route: &str, without_port: &[String]) -> String {
    let why = if without_port.is_empty() { "and there is none that runs" } else { "and no pod has that container port" };
    format!("nothing answers behind the Service {service}: {route}, {why}")
}
