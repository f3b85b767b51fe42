//! The sources of DNS facts, and what follows from them. The order of their events does not change the result.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::{Duration, Instant},
};

use strum::{IntoStaticStr, VariantArray};

use super::{
    KUBE_DNS, KUBE_SYSTEM, NODE_LOCAL, OPENSHIFT_DNS, OPENSHIFT_NAME, PORT,
    found::{DnsDestination, DnsGap, DnsGapKind, DnsPlace, DnsRank},
    objects::{DaemonSetFacts, Object, PodFacts, ServiceFacts, SliceFacts, TargetPort, is_usable},
    resolv,
};
use crate::policy::listing::Listing;

/// How long a source must be refused before it counts as unreadable. An API server that has just started refuses everything.
const REFUSED: Duration = Duration::from_secs(5);
/// The same for a source that was read before. Its earlier objects stay valid, so there is no hurry.
const REFUSED_LATER: Duration = Duration::from_secs(30);
/// The address of NodeLocal DNSCache if its arguments do not give one.
const NODE_LOCAL_ADDRESS: &str = "169.254.20.10";

/// Where the operator looks for DNS.
#[derive(Clone, Copy, Debug, Eq, IntoStaticStr, Ord, PartialEq, PartialOrd, VariantArray)]
#[strum(const_into_str)]
pub enum Source {
    /// The resolv.conf that kubelet gave to the operator's own pod.
    #[strum(serialize = "resolv.conf")]
    ResolvConf,
    /// The Services of kube-system.
    #[strum(serialize = "services in kube-system")]
    Services,
    /// The EndpointSlices of kube-system.
    #[strum(serialize = "endpointslices in kube-system")]
    Slices,
    /// The pods of kube-system with the label `k8s-app=kube-dns`.
    #[strum(serialize = "kube-dns pods in kube-system")]
    Pods,
    /// The DaemonSet of NodeLocal DNSCache.
    #[strum(serialize = "daemonset kube-system/node-local-dns")]
    NodeLocal,
    /// OpenShift's DNS Service.
    #[strum(serialize = "service openshift-dns/dns-default")]
    OpenShiftService,
    /// The DaemonSet behind OpenShift's DNS Service.
    #[strum(serialize = "daemonset openshift-dns/dns-default")]
    OpenShiftDaemonSet,
}

/// An event of a source.
#[derive(Clone, Debug)]
pub enum DnsEvent {
    /// The object with this name was added or changed.
    Seen(Source, String, Object),
    /// The object with this name was deleted.
    Gone(Source, String),
    /// A list (or relist) begins.
    ListBegins(Source),
    /// The list is complete: objects that it did not contain are gone.
    ListEnds(Source),
    /// The source cannot be read, with the cause. Its earlier objects stay valid.
    Unreadable(Source, String),
    /// The text of the resolv.conf.
    ResolvConf(String),
}

/// What a status calls the source of the nameservers.
pub const OPERATORS_RESOLV_CONF: &str = "resolv.conf of the operator";
/// What a status calls NodeLocal DNSCache.
pub const NODE_LOCAL_SOURCE: &str = "DaemonSet kube-system/node-local-dns";
/// What a status calls the Services of kube-system, before their names.
pub const SERVICE_OF_KUBE_SYSTEM: &str = "Service kube-system/";
/// What a status calls the Services of OpenShift's DNS, before their names.
pub const SERVICE_OF_OPENSHIFT: &str = "Service openshift-dns/";

/// The state of one source.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
struct Said {
    objects: BTreeMap<String, Object>,
    listing: Listing<String>,
    /// A list of the source was complete at least once.
    known: bool,
    /// Why the source is refused, and since when.
    refused: Option<(String, Instant)>,
}

/// The state of all sources.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
pub struct Sources {
    said: BTreeMap<Source, Said>,
    nameservers: Vec<IpAddr>,
    /// What the stored statuses said of DNS. Places count while a source is not read that would say whether they still exist.
    recalled: BTreeSet<DnsPlace>,
}

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
    /// Applies an event of a source. Returns whether it changes anything.
    pub fn hear(&mut self, news: DnsEvent, now: Instant) -> bool {
        match news {
            DnsEvent::Seen(source, name, object) => {
                let said = self.of(source);
                said.listing.names(|| name.clone());
                let is_well_again = said.refused.take().is_some();
                said.objects.insert(name, object.clone()).as_ref() != Some(&object) || is_well_again
            }
            DnsEvent::Gone(source, name) => {
                let said = self.of(source);
                let is_well_again = said.refused.take().is_some();
                said.objects.remove(&name).is_some() || is_well_again
            }
            DnsEvent::ListBegins(source) => {
                self.of(source).listing.begin();
                false
            }
            DnsEvent::ListEnds(source) => {
                let said = self.of(source);
                let listed = said.listing.end().unwrap_or_default();
                let before = said.objects.len();
                said.objects.retain(|name, _| listed.contains(name));
                said.is_read() || said.objects.len() != before
            }
            DnsEvent::Unreadable(source, why) => {
                let said = self.of(source);
                let since = said.refused.as_ref().map_or(now, |(_, since)| *since);
                said.refused.replace((why.clone(), since)) != Some((why, since))
            }
            DnsEvent::ResolvConf(text) => {
                let nameservers = resolv::nameservers(&text);
                let is_new = self.of(Source::ResolvConf).is_read();
                std::mem::replace(&mut self.nameservers, nameservers) != self.nameservers || is_new
            }
        }
    }

    /// Whether each source is either completely read or counts as unreadable.
    pub fn are_known(&self, now: Instant) -> bool {
        self.silent(now).next().is_none()
    }

    /// When the next refused source will count as unreadable, if it sends no event before.
    pub fn next(&self, now: Instant) -> Option<Instant> {
        self.said.values().filter_map(Said::is_refused_at).filter(|at| *at > now).min()
    }

    /// The sources that are neither completely read nor count as unreadable.
    pub fn silent(&self, now: Instant) -> impl Iterator<Item = Source> {
        let is_heard = move |said: &Said| said.known || said.why_refused(now).is_some();
        Source::VARIANTS.iter().copied().filter(move |source| !self.said.get(source).is_some_and(is_heard))
    }

    /// The sources that were never completely read, for any reason.
    pub fn unread(&self) -> impl Iterator<Item = Source> {
        Source::VARIANTS.iter().copied().filter(|source| !self.said.get(source).is_some_and(|said| said.known))
    }

    /// Remembers what stored statuses say of DNS: a source that cannot be read must not take away what it said before.
    pub fn recall(&mut self, told: impl IntoIterator<Item = DnsPlace>) {
        let mut recalled = std::mem::take(&mut self.recalled);
        recalled.retain(|place| self.is_unsure_of(place));
        recalled.extend(told);
        self.recalled = recalled;
    }

    /// Whether a source was never completely read that would say whether the place exists.
    fn is_unsure_of(&self, place: &DnsPlace) -> bool {
        self.unread().any(|source| place.known_by().contains(&source))
    }

    /// Derives the DNS places, gaps and notes from the present state of the sources.
    pub fn derive(&self, now: Instant) -> Derived {
        let mut derived = Derived::default();
        self.derive_nameservers(&mut derived);
        for (name, service) in self.services(Source::Services) {
            let is_nameserver = service.addresses.iter().any(|address| self.nameservers.contains(address));
            if service.labelled || name == KUBE_DNS || is_nameserver {
                self.derive_service(KUBE_SYSTEM, name, service, &mut derived);
            }
        }
        for (name, service) in self.services(Source::OpenShiftService).filter(|(name, _)| *name == OPENSHIFT_NAME) {
            self.derive_service(OPENSHIFT_DNS, name, service, &mut derived);
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
        derived.found.extend(recalled);
        if !self.said.get(&Source::OpenShiftService).is_some_and(|said| said.known) {
            derived.unsure.insert(OPENSHIFT_DNS);
        }
        derived
    }

    fn of(&mut self, source: Source) -> &mut Said {
        self.said.entry(source).or_default()
    }

    fn objects(&self, source: Source) -> impl Iterator<Item = (&str, &Object)> {
        self.said.get(&source).into_iter().flat_map(|said| &said.objects).map(|(name, object)| (name.as_str(), object))
    }

    fn services(&self, source: Source) -> impl Iterator<Item = (&str, &ServiceFacts)> {
        self.objects(source).filter_map(|(name, object)| match object {
            Object::Service(service) => Some((name, service)),
            Object::Slice(_) | Object::Pod(_) | Object::DaemonSet(_) => None,
        })
    }

    fn slices<'a>(&'a self, namespace: &'a str, service: &'a str) -> impl Iterator<Item = &'a SliceFacts> {
        self.objects(Source::Slices).filter_map(move |(_, object)| match object {
            Object::Slice(slice) if namespace == KUBE_SYSTEM && slice.service == service => Some(slice),
            Object::Slice(_) | Object::Service(_) | Object::Pod(_) | Object::DaemonSet(_) => None,
        })
    }

    /// The running pods behind a Service, as far as they are watched.
    fn pods<'a>(&'a self, namespace: &'a str, service: &'a ServiceFacts) -> impl Iterator<Item = &'a PodFacts> {
        let is_behind = |pod: &PodFacts| service.selector.iter().all(|(key, value)| pod.labels.get(key) == Some(value));
        self.objects(Source::Pods).filter_map(move |(_, object)| match object {
            Object::Pod(pod) if namespace == KUBE_SYSTEM && !pod.has_ended && is_behind(pod) => Some(pod),
            Object::Pod(_) | Object::Service(_) | Object::Slice(_) | Object::DaemonSet(_) => None,
        })
    }

    fn daemon_set(&self, source: Source, name: &str) -> Option<&DaemonSetFacts> {
        match self.said.get(&source)?.objects.get(name)? {
            Object::DaemonSet(facts) => Some(facts),
            Object::Service(_) | Object::Slice(_) | Object::Pod(_) => None,
        }
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

impl Derived {
    fn unreadable(&mut self, source: Source, why: &str) {
        let message = format!("{}: {why}", source.into_str());
        self.gaps.insert(DnsGap { kind: DnsGapKind::NotReadable, message: message.clone() });
        self.notes.insert(message);
    }

    fn not_expressible(&mut self, message: String) {
        self.gaps.insert(DnsGap { kind: DnsGapKind::NotExpressible, message });
    }
}

impl Said {
    /// The source was read completely. Returns whether that changes anything.
    fn is_read(&mut self) -> bool {
        !std::mem::replace(&mut self.known, true) | self.refused.take().is_some()
    }

    /// When the source counts as unreadable; `None` if it is not refused.
    fn is_refused_at(&self) -> Option<Instant> {
        let patience = if self.known { REFUSED_LATER } else { REFUSED };
        self.refused.as_ref().map(|(_, since)| *since + patience)
    }

    fn why_refused(&self, now: Instant) -> Option<&str> {
        let (why, _) = self.refused.as_ref().filter(|_| self.is_refused_at().is_some_and(|at| at <= now))?;
        Some(why)
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
