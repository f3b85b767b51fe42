//! Derives from the sources where DNS is. The result says nothing about the order of events.
//! One file: each rule is beside the objects that it reads, and a third of the file is tests.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Instant,
};

use super::{
    KUBE_DNS, KUBE_SYSTEM, NODE_LOCAL, OPENSHIFT_DNS, OPENSHIFT_NAME, PORT,
    found::{DnsDestination, DnsPlace, DnsRank},
    gap::{DnsGap, DnsGapKind},
    objects::{DaemonSetFacts, ServiceFacts, TargetPort, is_private, is_usable},
    sources::{NODE_LOCAL_SOURCE, OPERATORS_RESOLV_CONF, SERVICE_OF_KUBE_SYSTEM, SERVICE_OF_OPENSHIFT, Source, Sources},
};

/// The address of NodeLocal DNSCache if its arguments do not give one.
pub const NODE_LOCAL_ADDRESS: &str = "169.254.20.10";
/// A message names at most this many addresses.
const ADDRESSES_TOLD: usize = 5;
/// A message names at most this many ports.
const PORTS_TOLD: usize = 8;

/// What follows from the sources.
#[derive(Debug, Default)]
pub struct Derived {
    /// The DNS places that exist.
    pub found: BTreeSet<DnsPlace>,
    /// Namespaces whose source is not read yet, so DNS may run there. This doubt ends when the source is read.
    pub unread: BTreeSet<&'static str>,
    /// Namespaces with a Service that may be DNS. [`super::Memory`] keeps this doubt as it keeps a place.
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
        for (namespace, name, service) in self.dns_services(&nameservers) {
            self.derive_service((namespace, name), service, &nameservers, &mut derived);
        }
        self.derive_doubts_of_openshift(&nameservers, &mut derived);
        if let Some(cache) = self.daemon_set(Source::NodeLocal, NODE_LOCAL) {
            derive_node_local(cache, &nameservers, &mut derived);
        }
        for (source, said) in &self.said {
            if let Some(why) = said.why_refused(now) {
                derived.unreadable(*source, why);
            }
        }
        for source in self.silent(now) {
            derived.unreadable(source, "not read yet, waiting");
        }
        // Whoever may write a status must not open the internet with it.
        let is_allowed = |place: &&DnsPlace| match place.peer.address() {
            Some(address) if place.rank != DnsRank::Nameserver => {
                is_expected(address, &nameservers) || self.has_dns_pod_at(address)
            }
            _ => true,
        };
        let recalled = self.recalled.iter().filter(|place| self.is_unsure_of(place)).filter(is_allowed);
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
            derived.unread.insert(OPENSHIFT_DNS);
        }
        derived
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

    /// In a cluster that is not OpenShift, anybody who may create namespaces can create one of this name. What pods are given as nameserver
    /// is not theirs to choose. Where no nameserver is known, only the name tells: then pods of OpenShift keep their DNS.
    fn derive_doubts_of_openshift(&self, nameservers: &BTreeSet<IpAddr>, derived: &mut Derived) {
        let Some((name, service)) = self.services(Source::OpenShiftService).find(|(name, _)| *name == OPENSHIFT_NAME) else {
            return;
        };
        if service.is_external || service.targets.is_empty() || service.addresses.iter().any(|own| nameservers.contains(own)) {
            return;
        }
        if nameservers.iter().copied().any(is_usable) {
            let gap = format!(
                "{SERVICE_OF_OPENSHIFT}{name} is not taken as DNS, because no address of it is a nameserver of pods: if it is DNS, name its pods in spec.dns.peers"
            );
            derived.notes.insert(gap.clone());
            derived.not_expressible(gap);
        } else {
            // It may have no place: no selector, and no address that counts.
            derived.unsure.insert(OPENSHIFT_DNS);
            derived.not_expressible(format!(
                "{SERVICE_OF_OPENSHIFT}{name} is taken as DNS by its name alone, because no nameserver of pods is known: let --resolv-conf name a resolv.conf of pods"
            ));
        }
    }

    fn derive_service(
        &self,
        (namespace, name): (&'static str, &str),
        service: &ServiceFacts,
        nameservers: &BTreeSet<IpAddr>,
        derived: &mut Derived,
    ) {
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
        let (own, refused): (Vec<IpAddr>, Vec<IpAddr>) =
            service.addresses.iter().copied().partition(|own| is_expected(*own, nameservers));
        derived.found.extend(own.into_iter().map(|own| found(DnsRank::Service, DnsDestination::Address(own), BTreeSet::new())));
        for address in refused {
            let note = format!(
                "the address {address} of {source} is neither private nor a nameserver of pods, and is not allowed: if pods use it, add it to spec.dns.peers"
            );
            derived.notes.insert(note);
        }
        let daemon_set = self.daemon_set(Source::OpenShiftDaemonSet, name).filter(|_| namespace == OPENSHIFT_DNS);
        let on_host_network = self.pods(namespace, service).any(|pod| pod.on_host_network)
            || daemon_set.is_some_and(|daemon_set| daemon_set.on_host_network);
        if !service.selector.is_empty() {
            let ports = self.target_ports(namespace, name, service, derived);
            let peer = DnsDestination::Pods { namespace: namespace.into(), labels: service.selector.clone() };
            derived.found.insert(found(DnsRank::Pods, peer, ports));
            if !on_host_network {
                return;
            }
            let gap = format!(
                "pods of {source} are on the host network, where pod labels do not match: add the addresses of their nodes to spec.dns.peers as ipBlock, or move them off the host network (meanwhile their present addresses are allowed, as far as they can be read)"
            );
            derived.not_expressible(gap);
        }
        let endpoints = self.endpoints(namespace, name, service);
        if endpoints.is_empty() && service.selector.is_empty() {
            let gap = format!(
                "{source} selects no pods, and its endpoints cannot be read: add its pods or their addresses to spec.dns.peers"
            );
            derived.not_expressible(gap);
        }
        let (mut outside, mut unanswered) = (Vec::new(), BTreeSet::new());
        for (address, ports) in endpoints {
            if !is_expected(address, nameservers) && !self.has_dns_pod_at(address) {
                outside.push(address.to_string());
                continue;
            }
            let is_answered = |port: &u16| self.pods(namespace, service).any(|pod| pod.answers_at(address, *port));
            let (answered, others): (BTreeSet<u16>, BTreeSet<u16>) = ports.into_iter().partition(is_answered);
            unanswered.extend(others);
            derived.found.insert(found(DnsRank::Endpoint, DnsDestination::Address(address), answered));
        }
        if !outside.is_empty() {
            let more = outside.len().checked_sub(ADDRESSES_TOLD).filter(|more| *more > 0);
            let more = more.map(|more| format!(" and {more} more")).unwrap_or_default();
            outside.truncate(ADDRESSES_TOLD);
            let gap = format!(
                "endpoints of {source} are neither private addresses nor nameservers of pods nor addresses of DNS pods: add {}{more} to spec.dns.peers as ipBlock if they are DNS",
                outside.join(", ")
            );
            derived.not_expressible(gap);
        }
        derived.unanswered(&source, &unanswered);
    }

    /// The addresses of a Service's EndpointSlices with a port of DNS. Each has the ports of its own slices other than 53.
    pub(super) fn endpoints(&self, namespace: &str, name: &str, service: &ServiceFacts) -> BTreeMap<IpAddr, BTreeSet<u16>> {
        let mut endpoints: BTreeMap<IpAddr, BTreeSet<u16>> = BTreeMap::new();
        for slice in self.slices(namespace, name) {
            let of_dns = slice.ports.iter().filter(|(port, _)| service.targets.contains_key(*port));
            let ports: BTreeSet<u16> = of_dns.map(|(_, number)| *number).collect();
            for address in slice.addresses.iter().filter(|_| !ports.is_empty()) {
                endpoints.entry(*address).or_default().extend(ports.iter().filter(|port| **port != PORT));
            }
        }
        endpoints
    }

    /// The ports other than 53 on which the pods behind a Service answer: policies match these, not the ports of the Service. Only ports
    /// that a pod or a DaemonSet defines count: a Service or an EndpointSlice can name any port of a pod that is not DNS. A named port is
    /// resolved to its number. Network plugins differ in what a named port means in an egress rule, and it means nothing with addresses.
    fn target_ports(&self, namespace: &str, name: &str, service: &ServiceFacts, derived: &mut Derived) -> BTreeSet<u16> {
        let daemon_set = self.daemon_set(Source::OpenShiftDaemonSet, name).filter(|_| namespace == OPENSHIFT_DNS);
        let of_pods = self.pods(namespace, service).flat_map(|pod| &pod.ports);
        let answered: BTreeSet<(&str, u16)> =
            of_pods.chain(daemon_set.into_iter().flat_map(|set| &set.ports)).map(|(name, port)| (&**name, *port)).collect();
        let is_answered = |port: u16| port == PORT || answered.iter().any(|(_, number)| *number == port);
        let (mut ports, mut unanswered) = (BTreeSet::new(), BTreeSet::new());
        for (port, target) in &service.targets {
            let numbers: BTreeSet<u16> = match target {
                TargetPort::Number(number) => [*number].into(),
                TargetPort::Named(target) => {
                    let defined = answered.iter().filter(|(name, _)| **name == **target).map(|(_, number)| *number);
                    defined.chain(self.slices(namespace, name).filter_map(|slice| slice.ports.get(port)).copied()).collect()
                }
            };
            if let (TargetPort::Named(target), true) = (target, numbers.is_empty()) {
                let gap = format!(
                    "Service {namespace}/{name} targets the port named {target:?}, whose number is not known: add it to spec.dns.ports"
                );
                derived.not_expressible(gap);
            }
            let (of_dns, others): (Vec<u16>, Vec<u16>) = numbers.into_iter().partition(|number| is_answered(*number));
            ports.extend(of_dns);
            unanswered.extend(others);
        }
        derived.unanswered(&format!("Service {namespace}/{name}"), &unanswered);
        ports.remove(&PORT);
        ports
    }
}

/// Whether DNS may be at this address, whoever says so: it belongs to no one on the internet, or pods are given it as nameserver.
fn is_expected(address: IpAddr, nameservers: &BTreeSet<IpAddr>) -> bool {
    is_private(address) || nameservers.contains(&address)
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

    /// A Service or its EndpointSlices name these ports, and no pod or DaemonSet that is known defines them.
    fn unanswered(&mut self, source: &str, ports: &BTreeSet<u16>) {
        if !ports.is_empty() {
            let ports: Vec<String> = ports.iter().take(PORTS_TOLD).map(ToString::to_string).collect();
            self.not_expressible(format!(
                "{source} leads to ports that no DNS pod and no DaemonSet defines, and they are not allowed: add {} to spec.dns.ports if DNS answers there",
                ports.join(", ")
            ));
        }
    }

    fn not_expressible(&mut self, message: String) {
        self.gaps.insert(DnsGap { kind: DnsGapKind::NotExpressible, message });
    }
}

/// Allows both the local address and the pods: pods on the host network match by address, other pods match by labels
/// (Cilium's local redirect).
fn derive_node_local(cache: &DaemonSetFacts, nameservers: &BTreeSet<IpAddr>, derived: &mut Derived) {
    let source = || NODE_LOCAL_SOURCE.to_owned();
    let found = |rank, peer, ports| DnsPlace { rank, peer, ports, source: source(), namespace: Some(KUBE_SYSTEM) };
    let default = || NODE_LOCAL_ADDRESS.parse().into_iter().collect();
    let addresses: Vec<IpAddr> = if cache.local.is_empty() { default() } else { cache.local.clone() };
    for address in addresses {
        if is_expected(address, nameservers) {
            derived.found.insert(found(DnsRank::NodeLocal, DnsDestination::Address(address), BTreeSet::new()));
        } else {
            let note = format!(
                "{address} in the arguments of {NODE_LOCAL_SOURCE} is neither private nor a nameserver of pods, and is not allowed"
            );
            derived.notes.insert(note);
        }
    }
    if !cache.labels.is_empty() {
        let of_dns = cache.ports.iter().filter(|(name, port)| name.starts_with("dns") && **port != PORT);
        let ports = of_dns.map(|(_, port)| *port).collect();
        let peer = DnsDestination::Pods { namespace: KUBE_SYSTEM.into(), labels: cache.labels.clone() };
        derived.found.insert(found(DnsRank::Pods, peer, ports));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::policy::dns::{DnsEvent, Object, SlimDaemonSet, SlimPod, SlimService, SlimSlice};

    /// What follows from these objects and this nameserver, once every source is read.
    fn derive(objects: &[(Source, Value)], nameserver: &str) -> Derived {
        let (mut sources, now) = (Sources::default(), Instant::now());
        for source in <Source as strum::VariantArray>::VARIANTS {
            sources.hear(DnsEvent::ListBegins(*source), now);
            for (of, object) in objects.iter().filter(|(of, _)| of == source) {
                let (name, read) = (object["metadata"]["name"].as_str().unwrap().to_owned(), object.clone());
                let object: Object = match of {
                    Source::Services | Source::OpenShiftService => serde_json::from_value::<SlimService>(read).unwrap().into(),
                    Source::Slices => serde_json::from_value::<SlimSlice>(read).unwrap().into(),
                    Source::Pods => serde_json::from_value::<SlimPod>(read).unwrap().into(),
                    Source::NodeLocal | Source::OpenShiftDaemonSet => {
                        serde_json::from_value::<SlimDaemonSet>(read).unwrap().into()
                    }
                    Source::ResolvConf => unreachable!(),
                };
                sources.hear(DnsEvent::Seen(*of, name, object), now);
            }
            sources.hear(DnsEvent::ListEnds(*source), now);
        }
        sources.hear(DnsEvent::ResolvConf(format!("nameserver {nameserver}\n")), now);
        sources.derive(now)
    }

    /// The places but for the nameserver, as a status says them.
    fn places(derived: &Derived) -> Vec<String> {
        derived.found.iter().filter(|place| place.namespace.is_some()).map(DnsPlace::words).collect()
    }

    fn gaps(derived: &Derived) -> String {
        derived.gaps.iter().map(|gap| &*gap.message).collect::<Vec<_>>().join("\n")
    }

    fn service(spec: Value) -> (Source, Value) {
        (Source::Services, json!({"metadata": {"name": "kube-dns", "labels": {"k8s-app": "kube-dns"}}, "spec": spec}))
    }

    fn slice(name: &str, address: &str, port: (&str, u16)) -> (Source, Value) {
        let object = json!({"metadata": {"name": name, "labels": {"kubernetes.io/service-name": "kube-dns"}},
            "endpoints": [{"addresses": [address]}], "ports": [{"name": port.0, "port": port.1}]});
        (Source::Slices, object)
    }

    fn pod(address: &str, port: u16) -> (Source, Value) {
        let object = json!({"metadata": {"name": "p", "labels": {"k8s-app": "kube-dns"}}, "status": {"podIP": address},
            "spec": {"containers": [{"ports": [{"name": "dns", "containerPort": port}]}]}});
        (Source::Pods, object)
    }

    #[test]
    fn a_port_is_allowed_only_where_a_pod_defines_it_and_a_service_or_a_slice_alone_opens_none() {
        let selected = |target: Value| {
            service(json!({"selector": {"k8s-app": "kube-dns"}, "ports": [{"name": "dns", "port": 53, "targetPort": target}]}))
        };
        for (target, objects, allowed, is_gap) in [
            (json!(53), vec![], "53", false),
            (json!(1053), vec![pod("10.244.0.3", 1053)], "53 and 1053", false),
            (json!(6443), vec![pod("10.244.0.3", 1053)], "53", true),
            (json!("dns"), vec![pod("10.244.0.3", 1053)], "53 and 1053", false),
            (json!("dns"), vec![slice("s", "10.244.0.3", ("dns", 53))], "53", false),
            (json!("dns"), vec![slice("s", "10.244.0.3", ("dns", 6443))], "53", true),
            (json!("dns"), vec![], "53", true),
        ] {
            let derived = derive(&[vec![selected(target.clone())], objects].concat(), "10.96.0.10");
            assert_eq!(places(&derived), [format!("pods k8s-app=kube-dns in kube-system on port {allowed}")], "{target}");
            assert_eq!(!derived.gaps.is_empty(), is_gap, "{target}: {}", gaps(&derived));
        }
    }

    #[test]
    fn dns_of_openshift_is_taken_by_its_name_only_while_no_nameserver_is_known_and_is_a_gap_unless_it_is_a_nameserver() {
        let object = json!({"metadata": {"name": "dns-default"}, "spec": {"clusterIP": "172.30.0.10", "selector": {"a": "b"}, "ports": [{"port": 53}]}});
        let objects = [(Source::OpenShiftService, object)];
        let all = ["pods a=b in openshift-dns on port 53", "172.30.0.10/32 on port 53"];
        for (nameserver, allowed, is_unsure, gap) in [
            ("172.30.0.10", &all[..], false, None),
            ("10.96.0.10", &[], false, Some("is not taken as DNS")),
            ("", &all, true, Some("by its name alone")),
            ("127.0.0.53", &all, true, Some("by its name alone")),
        ] {
            let derived = derive(&objects, nameserver);
            assert_eq!(
                (places(&derived), derived.unsure.contains(OPENSHIFT_DNS)),
                (allowed.iter().map(ToString::to_string).collect(), is_unsure),
                "{nameserver}"
            );
            assert_eq!(
                (gaps(&derived).contains(gap.unwrap_or_default()), derived.gaps.len()),
                (true, usize::from(gap.is_some())),
                "{nameserver}"
            );
        }
        // A Service without ports of DNS is no DNS, whatever its name is.
        let no_dns = json!({"metadata": {"name": "dns-default"}, "spec": {"clusterIP": "172.30.0.10", "selector": {"a": "b"}, "ports": [{"port": 9154}]}});
        let derived = derive(&[(Source::OpenShiftService, no_dns)], "");
        assert_eq!((derived.found.len(), derived.gaps.len(), derived.unsure.len()), (0, 0, 0));
        // One with a port of DNS may be DNS, also if it names no place.
        for spec in [
            json!({"clusterIP": "None", "ports": [{"port": 53}]}),
            json!({"clusterIP": "34.118.224.10", "ports": [{"port": 53}]}),
        ] {
            let nowhere = json!({"metadata": {"name": "dns-default"}, "spec": spec});
            let derived = derive(&[(Source::OpenShiftService, nowhere.clone())], "");
            assert_eq!((derived.found.len(), derived.unsure.contains(OPENSHIFT_DNS)), (0, true), "{spec}");
            let derived = derive(&[(Source::OpenShiftService, nowhere)], "10.96.0.10");
            assert!(derived.unsure.is_empty(), "{spec}: the nameserver of pods is another");
        }
        // Before the resolv.conf is read, no nameserver is known either.
        let mut sources = Sources::default();
        let service = serde_json::from_value::<SlimService>(objects[0].1.clone()).unwrap().into();
        sources.hear(DnsEvent::Seen(Source::OpenShiftService, "dns-default".into(), service), Instant::now());
        assert_eq!(places(&sources.derive(Instant::now())), all);
    }

    #[test]
    fn each_endpoint_has_its_own_ports_and_those_of_the_internet_are_not_allowed() {
        let alone = service(json!({"ports": [{"name": "dns", "port": 53}, {"name": "other", "port": 443}]}));
        let objects = [
            alone,
            slice("dns", "10.0.0.5", ("dns", 1053)),
            slice("forged", "10.0.0.6", ("dns", 6443)),
            slice("metrics", "10.0.0.7", ("other", 9153)),
            slice("anywhere", "198.51.100.1", ("dns", 53)),
            pod("10.0.0.5", 1053),
        ];
        let derived = derive(&objects, "10.96.0.10");
        assert_eq!(places(&derived), ["10.0.0.5/32 on port 53 and 1053", "10.0.0.6/32 on port 53"]);
        let gaps = gaps(&derived);
        assert!(gaps.contains("add 198.51.100.1 to spec.dns.peers") && gaps.contains("add 6443 to spec.dns.ports"), "{gaps}");
        // An endpoint that is the address of a DNS pod is allowed: nodes can have addresses of the internet.
        let with_pod = [&objects[..5], &[pod("198.51.100.1", 53)]].concat();
        let derived = derive(&with_pod, "10.96.0.10");
        assert!(places(&derived).contains(&"198.51.100.1/32 on port 53".to_owned()), "{:?}", places(&derived));
        assert!(!self::gaps(&derived).contains("198.51.100.1"), "{:?}", derived.gaps);
        // A nameserver of pods is allowed wherever it is.
        assert!(places(&derive(&objects, "198.51.100.1")).contains(&"198.51.100.1/32 on port 53".to_owned()));
    }

    #[test]
    fn an_address_of_the_internet_is_allowed_only_as_a_nameserver_whoever_names_it() {
        let objects = [
            service(json!({"clusterIPs": ["34.118.224.10", "10.96.0.10"], "selector": {"a": "b"}, "ports": [{"port": 53}]})),
            (
                Source::NodeLocal,
                json!({"metadata": {"name": "node-local-dns"}, "spec": {"template": {"spec": {"containers": [
                {"args": ["-localip", "169.254.20.10,198.51.100.1,34.118.224.10"]}]}}}}),
            ),
        ];
        let derived = derive(&objects, "10.96.0.10");
        let all = places(&derived).join("; ");
        assert_eq!(all, "pods a=b in kube-system on port 53; 10.96.0.10/32 on port 53; 169.254.20.10/32 on port 53");
        assert_eq!(derived.notes.len(), 3, "{:?}", derived.notes);
        let all = places(&derive(&objects, "34.118.224.10")).join("; ");
        assert!(all.contains("34.118.224.10/32") && !all.contains("198.51.100.1"), "{all}");
    }
}
