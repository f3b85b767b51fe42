//! The sources of DNS facts. The order of their events does not change what is known afterwards.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::{Duration, Instant},
};

use strum::{IntoStaticStr, VariantArray};

use super::{
    KUBE_DNS, KUBE_SYSTEM, OPENSHIFT_DNS, OPENSHIFT_NAME,
    found::DnsPlace,
    objects::{DaemonSetFacts, Object, PodFacts, ServiceFacts, SliceFacts, is_usable},
    resolv,
};
use crate::policy::listing::Listing;

/// How long a source must be refused before it counts as unreadable. An API server that has just started refuses everything.
const REFUSED: Duration = Duration::from_secs(5);
/// The same for a source that was read before. Its earlier objects stay valid, so there is no hurry.
const REFUSED_LATER: Duration = Duration::from_secs(30);

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
pub(super) struct Said {
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
    pub(super) said: BTreeMap<Source, Said>,
    pub(super) nameservers: Vec<IpAddr>,
    /// What the stored statuses said of DNS. Places count while a source is not read that would say whether they still exist.
    pub(super) recalled: BTreeSet<DnsPlace>,
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
        Source::VARIANTS.iter().copied().filter(|source| !self.is_read(*source))
    }

    /// Whether the source was completely read.
    pub(super) fn is_read(&self, source: Source) -> bool {
        self.said.get(&source).is_some_and(|said| said.known)
    }

    fn of(&mut self, source: Source) -> &mut Said {
        self.said.entry(source).or_default()
    }

    pub(super) fn objects(&self, source: Source) -> impl Iterator<Item = (&str, &Object)> {
        self.said.get(&source).into_iter().flat_map(|said| &said.objects).map(|(name, object)| (name.as_str(), object))
    }

    pub(super) fn services(&self, source: Source) -> impl Iterator<Item = (&str, &ServiceFacts)> {
        self.objects(source).filter_map(|(name, object)| match object {
            Object::Service(service) => Some((name, service)),
            Object::Slice(_) | Object::Pod(_) | Object::DaemonSet(_) => None,
        })
    }

    /// The Services that are DNS, each with its namespace and name. Where no nameserver is known, OpenShift's is one by its name.
    pub(super) fn dns_services<'a>(
        &'a self,
        nameservers: &BTreeSet<IpAddr>,
    ) -> impl Iterator<Item = (&'static str, &'a str, &'a ServiceFacts)> {
        let is_nameserver = |service: &ServiceFacts| service.addresses.iter().any(|address| nameservers.contains(address));
        let of_kube_system = self.services(Source::Services);
        let of_kube_system =
            of_kube_system.filter(move |(name, service)| service.labelled || *name == KUBE_DNS || is_nameserver(service));
        let by_name = !nameservers.iter().copied().any(is_usable);
        let of_openshift = self.services(Source::OpenShiftService).filter(|(name, _)| *name == OPENSHIFT_NAME);
        let of_openshift = of_openshift.filter(move |(_, service)| by_name || is_nameserver(service));
        let of_kube_system = of_kube_system.map(|(name, service)| (KUBE_SYSTEM, name, service));
        of_kube_system.chain(of_openshift.map(|(name, service)| (OPENSHIFT_DNS, name, service)))
    }

    pub(super) fn slices<'a>(&'a self, namespace: &'a str, service: &'a str) -> impl Iterator<Item = &'a SliceFacts> {
        self.objects(Source::Slices).filter_map(move |(_, object)| match object {
            Object::Slice(slice) if namespace == KUBE_SYSTEM && slice.service == service => Some(slice),
            Object::Slice(_) | Object::Service(_) | Object::Pod(_) | Object::DaemonSet(_) => None,
        })
    }

    /// The running pods behind a Service, as far as they are watched.
    pub(super) fn pods<'a>(&'a self, namespace: &'a str, service: &'a ServiceFacts) -> impl Iterator<Item = &'a PodFacts> {
        let is_behind = |pod: &PodFacts| service.selector.iter().all(|(key, value)| pod.labels.get(key) == Some(value));
        self.objects(Source::Pods).filter_map(move |(_, object)| match object {
            Object::Pod(pod) if namespace == KUBE_SYSTEM && !pod.has_ended && is_behind(pod) => Some(pod),
            Object::Pod(_) | Object::Service(_) | Object::Slice(_) | Object::DaemonSet(_) => None,
        })
    }

    /// Whether a running pod of DNS that is watched has this address. No tenant can create pods in kube-system.
    pub(super) fn has_dns_pod_at(&self, address: IpAddr) -> bool {
        self.objects(Source::Pods).any(|(_, object)| match object {
            Object::Pod(pod) => !pod.has_ended && pod.addresses.contains(&address),
            Object::Service(_) | Object::Slice(_) | Object::DaemonSet(_) => false,
        })
    }

    pub(super) fn daemon_set(&self, source: Source, name: &str) -> Option<&DaemonSetFacts> {
        match self.said.get(&source)?.objects.get(name)? {
            Object::DaemonSet(facts) => Some(facts),
            Object::Service(_) | Object::Slice(_) | Object::Pod(_) => None,
        }
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

    pub(super) fn why_refused(&self, now: Instant) -> Option<&str> {
        let (why, _) = self.refused.as_ref().filter(|_| self.is_refused_at().is_some_and(|at| at <= now))?;
        Some(why)
    }
}
