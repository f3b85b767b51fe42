//! The requests of pods for names: whom each pod asks, and what the policies say about it over UDP and over TCP.

use std::{collections::BTreeSet, net::IpAddr};

use super::case::SymptomCase;
use crate::{
    api::peers::Protocol,
    policy::{
        dns::PORT,
        flow::{
            AskedFlows, AskedPort, FlowEnd, FlowError, FlowService, FlowSnapshot, JudgedFlow, NumberOrName, PodNameservers, few,
        },
    },
};

/// A pod, and one place that it asks for names over one address family.
#[derive(Clone, Debug)]
pub struct DnsPath<'a> {
    pub asker: usize,
    /// It is a nameserver that the pod names itself, and not the DNS of the cluster.
    pub is_own: bool,
    pub udp: Option<JudgedFlow<'a>>,
    pub tcp: Option<JudgedFlow<'a>>,
}

/// The requests of pods to their DNS.
#[derive(Debug, Default)]
pub struct DnsRequests<'a> {
    pub paths: Vec<DnsPath<'a>>,
    /// The DNS Services that pods ask.
    pub services: Vec<&'a FlowService>,
    /// Why a request leads nowhere.
    pub nowhere: Vec<String>,
    /// Pods that ask nameservers which no object names.
    pub of_nodes: Vec<String>,
    /// Pods that ask nameservers of their own.
    pub own: Vec<String>,
}

impl<'a> DnsRequests<'a> {
    /// Finds and judges the requests of these pods.
    pub fn of(case: &SymptomCase<'a>, askers: &[usize]) -> Self {
        let snapshot = case.snapshot();
        let mut requests = Self::default();
        let is_dns = |one: &&FlowService| one.is_dns && one.ports.iter().any(|port| port.number == PORT);
        let services: Vec<&FlowService> = snapshot.services.iter().filter(is_dns).collect();
        for asker in askers {
            let pod = &snapshot.pods[*asker];
            let shown = pod.id();
            match &pod.life.nameservers {
                PodNameservers::OfCluster => {
                    requests.services.clone_from(&services);
                    for one in &services {
                        let to = FlowEnd::Service { namespace: one.namespace.clone(), name: one.name.clone() };
                        requests.ask(case, *asker, &to, false);
                    }
                }
                PodNameservers::OfNode => requests.of_nodes.push(shown),
                PodNameservers::Own(addresses) => {
                    let mut own = Vec::new();
                    for address in addresses {
                        let of_cluster = dns_service_at(snapshot, *address);
                        match of_cluster {
                            Some(service) if requests.services.iter().any(|known| std::ptr::eq(*known, service)) => {}
                            Some(service) => requests.services.push(service),
                            None => own.push(address.to_string()),
                        }
                        requests.ask(case, *asker, &FlowEnd::Address(*address), of_cluster.is_none());
                    }
                    if !own.is_empty() {
                        requests.own.push(format!("{shown} asks {}", few(&own)));
                    }
                }
            }
        }
        requests
    }

    /// Adds the requests of a pod to one place.
    fn ask(&mut self, case: &SymptomCase<'a>, asker: usize, to: &FlowEnd, is_own: bool) {
        let snapshot = case.snapshot();
        let pod = &snapshot.pods[asker];
        let from = FlowEnd::Pod { namespace: pod.namespace.clone(), name: pod.name.clone() };
        let mut paths: Vec<DnsPath> = Vec::new();
        for protocol in [Protocol::UDP, Protocol::TCP] {
            let port = AskedPort { protocol, port: NumberOrName::Number(PORT) };
            let found = match AskedFlows::find(snapshot, &from, to, &port) {
                Ok(found) => found.flows,
                Err(error @ FlowError::NothingBehind { .. }) => {
                    self.nowhere.push(error.to_string());
                    continue;
                }
                // A Service over UDP alone, and a family that the pod does not have: there is no such request.
                Err(_) => continue,
            };
            for flow in found {
                let judged = case.compiled.judged(flow);
                let ends = |one: &JudgedFlow| (one.flow.from.address, one.flow.to.pod, one.flow.to.address);
                if protocol == Protocol::UDP {
                    paths.push(DnsPath { asker, is_own, udp: Some(judged), tcp: None });
                    continue;
                }
                let same = paths.iter_mut().find(|path| path.udp.as_ref().is_some_and(|udp| ends(udp) == ends(&judged)));
                match same {
                    Some(path) => path.tcp = Some(judged),
                    None => paths.push(DnsPath { asker, is_own, udp: None, tcp: Some(judged) }),
                }
            }
        }
        self.paths.extend(paths);
    }

    /// The requests over UDP.
    pub fn udp(&self) -> impl Iterator<Item = &JudgedFlow<'a>> {
        self.paths.iter().filter_map(|path| path.udp.as_ref())
    }

    /// All requests, first those over UDP.
    pub fn all(&self) -> impl Iterator<Item = &JudgedFlow<'a>> {
        self.udp().chain(self.paths.iter().filter_map(|path| path.tcp.as_ref()))
    }

    /// The ports on which the DNS is reached, in words: 53, unless the DNS pods listen on another one.
    pub fn ports(&self) -> String {
        let ports: BTreeSet<u16> = self.all().map(|one| one.flow.port).filter(|port| *port > 0).collect();
        if ports.is_empty() {
            return PORT.to_string();
        }
        ports.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ")
    }
}

/// The DNS Service of the cluster with this cluster IP.
fn dns_service_at(snapshot: &FlowSnapshot, address: IpAddr) -> Option<&FlowService> {
    snapshot.service_at(address).filter(|service| service.is_dns)
}
