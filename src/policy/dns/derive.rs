//! Derives from the sources where DNS is. The result says nothing about the order of events.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Instant,
};

use super::{
    KUBE_DNS, KUBE_SYSTEM, NODE_LOCAL, OPENSHIFT_DNS, OPENSHIFT_NAME, PORT,
    found::{DnsDestination, DnsPlace, DnsRank},
    gap::{DnsGap, DnsGapKind},
    objects::{DaemonSetFacts, ServiceFacts, TargetPort, is_usable},
    sources::{NODE_LOCAL_SOURCE, OPERATORS_RESOLV_CONF, SERVICE_OF_KUBE_SYSTEM, SERVICE_OF_OPENSHIFT, Source, Sources},
};

/// The address of NodeLocal DNSCache if its arguments do not give one.
const NODE_LOCAL_ADDRESS: &str = "169.254.20.10";

/// What follows from the sources.
#[derive(Debug, Default)]
pub struct Derived {
    /// The DNS places that exist.
    pub found: BTreeSet<DnsPlace>,
    /// Namespaces for which it is not known yet whether DNS runs there.
    pub unsure: BTreeSet<&'static str>,
    /// What no policy can express, and what the user can do about it.
    pub gaps: BTreeSet<DnsGap>,
    /// Which sources could not be read, and what was not used.
    pub notes: BTreeSet<String>,
}

impl Sources {
    /// Derives the DNS places, gaps and notes from the present state of the sources.
    pub fn derive(&self, now: Instant) -> Derived {
        let mut derived = Derived::default();
        self.derive_nameservers(&mut derived);
        let nameservers = self.known_nameservers();
        let is_nameserver = |service: &ServiceFacts| service.addresses.iter().any(|address| nameservers.contains(address));
        for (name, service) in self.services(Source::Services) {
            if service.labelled || name == KUBE_DNS || is_nameserver(service) {
                self.derive_service(KUBE_SYSTEM, name, service, &mut derived);
            }
        }
        // In a cluster that is not OpenShift, anybody who may create namespaces can create one of this name. What pods are given as
        // nameserver is not theirs to choose.
        for (name, service) in self.services(Source::OpenShiftService).filter(|(name, _)| *name == OPENSHIFT_NAME) {
            if is_nameserver(service) {
                self.derive_service(OPENSHIFT_DNS, name, service, &mut derived);
            } else if self.is_read(Source::ResolvConf) {
                let note = format!(
                    "{SERVICE_OF_OPENSHIFT}{name} is not taken as DNS, because no address of it is a nameserver of pods: if it is DNS, name its pods in spec.dns.peers"
                );
                derived.notes.insert(note);
            } else {
                derived.unsure.insert(OPENSHIFT_DNS);
            }
        }
        if let Some(cache) = self.daemon_set(Source::NodeLocal, NODE_LOCAL) {
            derive_node_local(cache, &mut derived);
        }
        for (source, said) in &self.said {
            if let Some(why) = said.why_refused(now) {
                derived.unreadable(*source, why);
            }
        }
        for source in self.silent(now) {
            derived.unreadable(source, "not read yet, waiting");
        }
        let recalled = self.recalled.iter().filter(|place| self.is_unsure_of(place));
        let recalled: Vec<DnsPlace> =
            recalled.filter(|place| !derived.found.iter().any(|found| place.is_part_of(found))).cloned().collect();
        let needed = needed(&derived.found, &nameservers);
        derived.found.extend(recalled);
        let ranked = |place: DnsPlace| {
            let is_needed = place.rank != DnsRank::Nameserver && needed.contains(&place.source);
            DnsPlace { rank: if is_needed { DnsRank::Needed } else { place.rank }, ..place }
        };
        derived.found = std::mem::take(&mut derived.found).into_iter().map(ranked).collect();
        if !self.is_read(Source::OpenShiftService) {
            derived.unsure.insert(OPENSHIFT_DNS);
        }
        derived
    }

    /// The nameservers of pods: those of the resolv.conf, or while that cannot be read, those that it named before.
    fn known_nameservers(&self) -> BTreeSet<IpAddr> {
        let recalled = self.recalled.iter().filter(|place| place.rank == DnsRank::Nameserver && self.is_unsure_of(place));
        let recalled = recalled.filter_map(|place| place.peer.address());
        self.nameservers.iter().map(IpAddr::to_canonical).chain(recalled).collect()
    }

    fn derive_nameservers(&self, derived: &mut Derived) {
        for address in self.nameservers.iter().map(IpAddr::to_canonical) {
            if is_usable(address) {
                let source = OPERATORS_RESOLV_CONF.to_owned();
                let peer = DnsDestination::Address(address);
                derived.found.insert(DnsPlace {
                    rank: DnsRank::Nameserver,
                    peer,
                    ports: BTreeSet::new(),
                    source,
                    namespace: None,
                });
            } else {
                let note = format!(
                    "nameserver {address} in the operator's resolv.conf is not an address that pods can reach, and is not allowed"
                );
                derived.notes.insert(note);
            }
        }
    }

    fn derive_service(&self, namespace: &'static str, name: &str, service: &ServiceFacts, derived: &mut Derived) {
        let source = format!("Service {namespace}/{name}");
        if service.is_external {
            let gap = format!("{source} is of type ExternalName: add its addresses to spec.dns.peers as ipBlock");
            derived.not_expressible(gap);
            return;
        }
        if service.targets.is_empty() {
            // For example a Service for metrics.
            return;
        }
        let found = |rank, peer, ports| DnsPlace { rank, peer, ports, source: source.clone(), namespace: Some(namespace) };
        for address in &service.addresses {
            derived.found.insert(found(DnsRank::Service, DnsDestination::Address(*address), BTreeSet::new()));
        }
        let ports = self.target_ports(namespace, name, service, derived);
        let daemon_set = self.daemon_set(Source::OpenShiftDaemonSet, name).filter(|_| namespace == OPENSHIFT_DNS);
        let on_host_network = self.pods(namespace, service).any(|pod| pod.on_host_network)
            || daemon_set.is_some_and(|daemon_set| daemon_set.on_host_network);
        if !service.selector.is_empty() {
            let peer = DnsDestination::Pods { namespace: namespace.into(), labels: service.selector.clone() };
            derived.found.insert(found(DnsRank::Pods, peer, ports.clone()));
            if !on_host_network {
                return;
            }
            let gap = format!(
                "pods of {source} are on the host network, where pod labels do not match: add the addresses of their nodes to spec.dns.peers as ipBlock, or move them off the host network (meanwhile their present addresses are allowed, as far as they can be read)"
            );
            derived.not_expressible(gap);
        }
        let endpoints: BTreeSet<IpAddr> =
            self.slices(namespace, name).flat_map(|slice| slice.addresses.iter().copied()).collect();
        if endpoints.is_empty() && service.selector.is_empty() {
            let gap = format!(
                "{source} selects no pods, and its endpoints cannot be read: add its pods or their addresses to spec.dns.peers"
            );
            derived.not_expressible(gap);
        }
        derived.found.extend(
            endpoints.into_iter().map(|address| found(DnsRank::Endpoint, DnsDestination::Address(address), ports.clone())),
        );
    }

    /// The ports other than 53 on which the pods behind a Service answer: policies match these, not the ports of the Service.
    /// A named port is resolved to its number. Network plugins differ in what a named port means in an egress rule,
    /// and it means nothing with addresses.
    fn target_ports(&self, namespace: &str, name: &str, service: &ServiceFacts, derived: &mut Derived) -> BTreeSet<u16> {
        let mut ports = BTreeSet::new();
        for (port, target) in &service.targets {
            let of_slices = self.slices(namespace, name).filter_map(|slice| slice.ports.get(port)).copied();
            let target = match target {
                TargetPort::Number(number) => {
                    // For a Service without a selector, its EndpointSlices decide.
                    ports.extend(of_slices.filter(|_| service.selector.is_empty()));
                    ports.insert(*number);
                    continue;
                }
                TargetPort::Named(target) => target,
            };
            let of_pods = self.pods(namespace, service).filter_map(|pod| pod.ports.get(target)).copied();
            let daemon_set = self.daemon_set(Source::OpenShiftDaemonSet, name).filter(|_| namespace == OPENSHIFT_DNS);
            let of_daemon_set = daemon_set.and_then(|daemon_set| daemon_set.ports.get(target)).copied();
            let numbers: BTreeSet<u16> = of_slices.chain(of_pods).chain(of_daemon_set).collect();
            if numbers.is_empty() {
                let gap = format!(
                    "Service {namespace}/{name} targets the port named {target:?}, whose number is not known: add it to spec.dns.ports"
                );
                derived.not_expressible(gap);
            }
            ports.extend(numbers);
        }
        ports.remove(&PORT);
        ports
    }
}

/// The sources without which pods may have no DNS: the Service kube-dns, and those whose own address is a nameserver. Endpoints do not
/// count: a Service of anybody can have the address of a nameserver among them.
fn needed(found: &BTreeSet<DnsPlace>, nameservers: &BTreeSet<IpAddr>) -> BTreeSet<String> {
    let own = found.iter().filter(|place| matches!(place.rank, DnsRank::Service | DnsRank::NodeLocal));
    let leads = own.filter(|place| place.peer.address().is_some_and(|address| nameservers.contains(&address)));
    leads.map(|place| place.source.clone()).chain([format!("{SERVICE_OF_KUBE_SYSTEM}{KUBE_DNS}")]).collect()
}

impl Derived {
    fn unreadable(&mut self, source: Source, why: &str) {
        self.gaps.insert(DnsGap { kind: DnsGapKind::NotReadable, message: source.into_str().to_owned() });
        self.notes.insert(format!("{}: {why}", source.into_str()));
    }

    fn not_expressible(&mut self, message: String) {
        self.gaps.insert(DnsGap { kind: DnsGapKind::NotExpressible, message });
    }
}

/// Allows both the local address and the pods: pods on the host network match by address, other pods match by labels
/// (Cilium's local redirect).
fn derive_node_local(cache: &DaemonSetFacts, derived: &mut Derived) {
    let source = || NODE_LOCAL_SOURCE.to_owned();
    let found = |rank, peer, ports| DnsPlace { rank, peer, ports, source: source(), namespace: Some(KUBE_SYSTEM) };
    let default = || NODE_LOCAL_ADDRESS.parse().into_iter().collect();
    let addresses: Vec<IpAddr> = if cache.local.is_empty() { default() } else { cache.local.clone() };
    let addresses =
        addresses.into_iter().map(|address| found(DnsRank::NodeLocal, DnsDestination::Address(address), BTreeSet::new()));
    derived.found.extend(addresses);
    if !cache.labels.is_empty() {
        let of_dns = cache.ports.iter().filter(|(name, port)| name.starts_with("dns") && **port != PORT);
        let ports = of_dns.map(|(_, port)| *port).collect();
        let peer = DnsDestination::Pods { namespace: KUBE_SYSTEM.into(), labels: cache.labels.clone() };
        derived.found.insert(found(DnsRank::Pods, peer, ports));
    }
}
