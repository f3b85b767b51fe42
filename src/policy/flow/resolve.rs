//! Finds the pods, addresses and ports that a question is about: a Service leads to its pods, and the name of a port to a number.

use std::net::IpAddr;

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde::Serialize;

use super::{
    ask::{AskedPort, FlowEnd, NumberOrName},
    error::FlowError,
    judge::{Flow, Party},
    object_parts::IpFamily,
    objects::FlowPod,
    service_objects::{FlowService, FlowServicePort},
    snapshot::FlowSnapshot,
    workload_pods::{labelled, of_workload},
};
use crate::api::peers::Protocol;

/// How a Service leads to its destinations.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceRoute {
    pub namespace: String,
    pub name: String,
    /// How it leads from its port to the destinations, in words.
    pub route: String,
    /// The pods that it selects and to which it does not lead, because they have no container port of the name that it names.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub without_port: Vec<String>,
}

/// The flows that a question is about.
#[derive(Debug)]
pub struct AskedFlows {
    pub flows: Vec<Flow>,
    pub service: Option<ServiceRoute>,
    /// The number of pods at each end that stands for all pods of a workload, or for all with some labels.
    pub sources: Option<usize>,
    pub destinations: Option<usize>,
    /// The pods at that end that have no container port of the name that was asked for. No flow leads to them.
    pub without_port: Vec<String>,
}

/// The destinations with their ports.
type Destinations = Vec<(Party, u16)>;

impl AskedFlows {
    /// Finds the flows.
    pub fn find(snapshot: &FlowSnapshot, from: &FlowEnd, to: &FlowEnd, port: &AskedPort) -> Result<Self, FlowError> {
        let of_pods = |pods: Vec<usize>| pods.into_iter().map(|pod| Party { pod: Some(pod), address: None }).collect::<Vec<_>>();
        let sources: Vec<Party> = match from {
            FlowEnd::Pod { .. } | FlowEnd::Workload { .. } | FlowEnd::Labelled { .. } => of_pods(pods_at(snapshot, from)?),
            FlowEnd::Service { .. } => return Err(FlowError::FromService(from.to_string())),
            FlowEnd::Address(address) => {
                if let Some(service) = snapshot.service_at(*address) {
                    let name = format!("{address} ({}/svc/{})", service.namespace, service.name);
                    return Err(FlowError::FromService(name));
                }
                vec![at(snapshot, *address)]
            }
        };
        let service = match to {
            FlowEnd::Service { namespace, name } => Some(find_service(snapshot, namespace, name)?),
            FlowEnd::Address(address) => snapshot.service_at(*address),
            FlowEnd::Pod { .. } | FlowEnd::Workload { .. } | FlowEnd::Labelled { .. } => None,
        };
        let families: &[IpFamily] = match (to, service) {
            (FlowEnd::Address(address), Some(_)) => &[IpFamily::of(*address)],
            (_, Some(service)) => &service.families,
            (_, None) => &[IpFamily::IPv4, IpFamily::IPv6],
        };
        let mut without_port = Vec::new();
        let mut of_many = |pods: Vec<usize>| of_many(snapshot, of_pods(pods), port, &mut without_port).map(|all| (all, None));
        let (destinations, service): (Destinations, _) = match (to, service) {
            (_, Some(service)) => {
                let (destinations, route) = of_service(snapshot, service, port)?;
                (destinations, Some(route))
            }
            (FlowEnd::Pod { namespace, name }, None) => {
                (vec![of_party(snapshot, running(snapshot, namespace, name)?, port)?], None)
            }
            (FlowEnd::Workload { kind, namespace, name }, None) => of_many(of_workload(snapshot, *kind, namespace, name)?)?,
            (FlowEnd::Labelled { namespace, labels }, None) => of_many(labelled(snapshot, namespace, labels)?)?,
            (FlowEnd::Address(address), None) => (vec![of_party(snapshot, at(snapshot, *address), port)?], None),
            (FlowEnd::Service { namespace, name }, None) => return Err(FlowError::no_service(snapshot, namespace, name)),
        };
        // Among several pods, what each sends to itself is no question.
        let is_left_out = |from: &Party, to: &Party| sources.len() > 1 && from.pod.is_some() && from.pod == to.pod;
        let mut flows = Vec::new();
        for source in &sources {
            let others: Vec<_> = destinations.iter().filter(|(to, _)| !is_left_out(source, to)).collect();
            let before = flows.len();
            for (destination, number) in &others {
                if source.pod.is_none() && destination.pod.is_none() {
                    return Err(FlowError::NoPodAtAll(shown(snapshot, *source), shown(snapshot, *destination)));
                }
                let pairs = by_family(snapshot, *source, *destination);
                if pairs.is_empty() {
                    return Err(FlowError::NoSharedFamily(shown(snapshot, *source), shown(snapshot, *destination)));
                }
                let is_served =
                    |(_, to): &(Party, Party)| to.address.is_none_or(|address| families.contains(&IpFamily::of(address)));
                let served = pairs.into_iter().filter(is_served);
                flows.extend(served.map(|(from, to)| Flow { from, to, protocol: port.protocol, port: *number }));
            }
            if flows.len() == before && !others.is_empty() {
                let families = families.iter().map(Into::into).collect();
                return Err(FlowError::NoFamilyOfService { from: shown(snapshot, *source), to: to.to_string(), families });
            }
        }
        let stands_for_many = |end: &FlowEnd| matches!(end, FlowEnd::Workload { .. } | FlowEnd::Labelled { .. });
        Ok(Self {
            flows,
            service,
            sources: stands_for_many(from).then_some(sources.len()),
            destinations: stands_for_many(to).then_some(destinations.len() + without_port.len()),
            without_port,
        })
    }
}

/// The pods that an end names; none if it is a Service or an address.
pub fn pods_at(snapshot: &FlowSnapshot, end: &FlowEnd) -> Result<Vec<usize>, FlowError> {
    match end {
        FlowEnd::Pod { namespace, name } => Ok(running(snapshot, namespace, name)?.pod.into_iter().collect()),
        FlowEnd::Workload { kind, namespace, name } => of_workload(snapshot, *kind, namespace, name),
        FlowEnd::Labelled { namespace, labels } => labelled(snapshot, namespace, labels),
        FlowEnd::Service { .. } | FlowEnd::Address(_) => Ok(vec![]),
    }
}

/// The pods and addresses behind a port of the Service with this cluster IP, each with the port there. None if that is not known.
pub fn service_targets(snapshot: &FlowSnapshot, cluster_ip: IpAddr, (protocol, port): (Protocol, u16)) -> Vec<(Party, u16)> {
    let asked = AskedPort { protocol, port: NumberOrName::Number(port) };
    let service = snapshot.service_at(cluster_ip);
    service.and_then(|service| of_service(snapshot, service, &asked).ok()).map(|(found, _)| found).unwrap_or_default()
}

/// A pod that has not ended.
fn running(snapshot: &FlowSnapshot, namespace: &str, name: &str) -> Result<Party, FlowError> {
    let Some(pod) = snapshot.pod(namespace, name) else { return Err(FlowError::no_pod(snapshot, namespace, name)) };
    if snapshot.pods[pod].has_ended {
        return Err(FlowError::PodEnded(format!("{namespace}/{name}")));
    }
    Ok(Party { pod: Some(pod), address: None })
}

/// The pod with this address, or only the address.
fn at(snapshot: &FlowSnapshot, address: IpAddr) -> Party {
    Party { pod: snapshot.pod_at(address), address: Some(address) }
}

fn find_service<'a>(snapshot: &'a FlowSnapshot, namespace: &str, name: &str) -> Result<&'a FlowService, FlowError> {
    snapshot.service(namespace, name).ok_or_else(|| FlowError::no_service(snapshot, namespace, name))
}

/// The name of a party: of the pod, or the address.
pub fn shown(snapshot: &FlowSnapshot, party: Party) -> String {
    match (party.pod.and_then(|pod| snapshot.pods.get(pod)), party.address) {
        (Some(pod), _) => pod.id(),
        (None, Some(address)) => address.to_string(),
        (None, None) => String::new(),
    }
}

/// A destination that is named itself.
fn of_party(snapshot: &FlowSnapshot, party: Party, port: &AskedPort) -> Result<(Party, u16), FlowError> {
    let number = match (&port.port, party.pod) {
        (NumberOrName::Number(number), _) => *number,
        (NumberOrName::Name(name), None) => return Err(FlowError::NamedPortOfAddress(shown(snapshot, party), name.clone())),
        (NumberOrName::Name(name), Some(pod)) => {
            let pod = &snapshot.pods[pod];
            container_port(pod, port.protocol, name).ok_or_else(|| FlowError::no_port_of_pod(pod, port.protocol, name))?
        }
    };
    Ok((party, number))
}

/// Destinations that are named together. Those that have no port of that name are named; an error says that none has one.
fn of_many(
    snapshot: &FlowSnapshot,
    parties: Vec<Party>,
    port: &AskedPort,
    without_port: &mut Vec<String>,
) -> Result<Destinations, FlowError> {
    let (mut found, mut first_error) = (Vec::new(), None);
    for party in parties {
        match of_party(snapshot, party, port) {
            Ok(destination) => found.push(destination),
            Err(error) => {
                without_port.push(shown(snapshot, party));
                first_error.get_or_insert(error);
            }
        }
    }
    match first_error {
        Some(error) if found.is_empty() => Err(error),
        _ => Ok(found),
    }
}

/// The number of a container port.
fn container_port(pod: &FlowPod, protocol: Protocol, name: &str) -> Option<u16> {
    pod.ports.iter().find(|port| port.protocol == protocol && port.name == name).map(|port| port.number)
}

impl FlowServicePort {
    /// The number of the port on a pod to which it leads. None: no container has a port of that name.
    pub fn target_on(&self, pod: &FlowPod) -> Option<u16> {
        match &self.target {
            IntOrString::Int(number) => u16::try_from(*number).ok(),
            IntOrString::String(name) => container_port(pod, self.protocol, name),
        }
    }
}

/// The pods or addresses behind a Service.
fn of_service(
    snapshot: &FlowSnapshot,
    service: &FlowService,
    port: &AskedPort,
) -> Result<(Destinations, ServiceRoute), FlowError> {
    let shown_name = service.id();
    if let Some(alias) = &service.external_name {
        return Err(FlowError::ExternalName(shown_name, alias.clone()));
    }
    let mut route = ServiceRoute {
        namespace: service.namespace.clone(),
        name: service.name.clone(),
        route: String::new(),
        without_port: vec![],
    };
    let labels: Vec<String> = service.selector.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let labels = labels.join(",");
    let found = match &port.port {
        // Nobody translates its ports.
        NumberOrName::Number(number) if service.is_headless && service.selector.is_empty() => {
            route.route = format!("it is headless, so port {number} means that port of the addresses in its EndpointSlices");
            let addresses = snapshot.slices_of(service).flat_map(|slice| &slice.addresses);
            addresses.map(|address| (at(snapshot, *address), *number)).collect()
        }
        NumberOrName::Number(number) if service.is_headless => {
            route.route = format!("it is headless, so port {number} means that port of the pods with {labels}");
            snapshot.pods_behind(service).map(|(pod, _)| (Party { pod: Some(pod), address: None }, *number)).collect()
        }
        NumberOrName::Number(_) | NumberOrName::Name(_) => {
            let of = find_port(service, port)?;
            if service.selector.is_empty() {
                route.route =
                    format!("port {} leads to the addresses in its EndpointSlices, because it has no selector", of.number);
                endpoints(snapshot, service, of)
            } else {
                let target = match &of.target {
                    IntOrString::Int(number) => format!("port {number}"),
                    IntOrString::String(name) => format!("the container port {name:?}"),
                };
                route.route = format!("port {} leads to {target} of the pods with {labels}", of.number);
                targets(snapshot, service, of, &mut route.without_port)
            }
        }
    };
    if found.is_empty() {
        return Err(FlowError::NothingBehind { service: shown_name, route: route.route, without_port: route.without_port });
    }
    Ok((found, route))
}

fn find_port<'a>(service: &'a FlowService, port: &AskedPort) -> Result<&'a FlowServicePort, FlowError> {
    let is_asked = |of: &&FlowServicePort| {
        of.protocol == port.protocol
            && match &port.port {
                NumberOrName::Number(number) => of.number == *number,
                NumberOrName::Name(name) => of.name.as_ref() == Some(name),
            }
    };
    service.ports.iter().find(is_asked).ok_or_else(|| FlowError::no_port_of_service(service, port))
}

/// The pods behind a port of a Service.
fn targets(snapshot: &FlowSnapshot, service: &FlowService, of: &FlowServicePort, without_port: &mut Vec<String>) -> Destinations {
    let mut found = Vec::new();
    for (number, pod) in snapshot.pods_behind(service) {
        match of.target_on(pod) {
            Some(target) => found.push((Party { pod: Some(number), address: None }, target)),
            None => without_port.push(pod.id()),
        }
    }
    found
}

fn endpoints(snapshot: &FlowSnapshot, service: &FlowService, of: &FlowServicePort) -> Destinations {
    let name = of.name.as_deref().unwrap_or_default();
    let mut found = Vec::new();
    for slice in snapshot.slices_of(service) {
        for (_, _, number) in slice.ports.iter().filter(|(port, protocol, _)| port == name && *protocol == of.protocol) {
            found.extend(slice.addresses.iter().map(|address| (at(snapshot, *address), *number)));
        }
    }
    found
}

/// The two ends with addresses, once for each address family that both have. A pod that has no address yet is judged without one.
fn by_family(snapshot: &FlowSnapshot, from: Party, to: Party) -> Vec<(Party, Party)> {
    let addresses = |party: Party| match (party.address, party.pod) {
        (Some(address), _) => vec![address],
        (None, Some(pod)) => snapshot.pods[pod].addresses.clone(),
        (None, None) => vec![],
    };
    let (sources, destinations) = (addresses(from), addresses(to));
    let with = |party: Party, address: IpAddr| Party { address: Some(address), ..party };
    match (&*sources, &*destinations) {
        ([], []) => return vec![(from, to)],
        (some, []) => return some.iter().map(|address| (with(from, *address), to)).collect(),
        ([], some) => return some.iter().map(|address| (from, with(to, *address))).collect(),
        _ => {}
    }
    let of_family = |family: IpFamily| {
        let first = |addresses: &[IpAddr]| addresses.iter().copied().find(|address| IpFamily::of(*address) == family);
        Some((with(from, first(&sources)?), with(to, first(&destinations)?)))
    };
    [IpFamily::IPv4, IpFamily::IPv6].into_iter().filter_map(of_family).collect()
}
