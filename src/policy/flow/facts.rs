//! Where the cluster's DNS and its API server are, as far as the objects of a dump show it. The operator watches the same objects, and reads
//! the resolv.conf of a pod.

use std::time::Instant;

use serde::de::DeserializeOwned;
use strum::VariantArray;

use crate::policy::{
    dns::{
        APP_LABEL, ClusterDns, DnsEvent, KUBE_DNS, KUBE_SYSTEM, Memory, NODE_LOCAL, OPENSHIFT_DNS, OPENSHIFT_NAME, Object,
        SlimDaemonSet, SlimPod, SlimService, SlimSlice, Source, Sources,
    },
    kubernetes_api::{self, ApiEvent, ApiObject, ApiService, ApiSlice, ApiSources, ClusterApi},
};

/// What the objects say.
#[derive(Debug, Default)]
pub struct DumpFacts {
    dns: Vec<DnsEvent>,
    api: Vec<ApiEvent>,
}

/// The head of an object.
#[derive(Clone, Copy, Debug)]
pub struct FactHead<'a> {
    pub group: &'a str,
    pub kind: &'a str,
    pub namespace: &'a str,
    pub name: &'a str,
}

impl DumpFacts {
    /// Notes an object, if it is one that the operator watches too.
    pub fn note(&mut self, head: &FactHead<'_>, object: &serde_json::value::RawValue) {
        self.dns.extend(dns_event(head, object));
        if (head.namespace, head.name) == (kubernetes_api::NAMESPACE, kubernetes_api::NAME) {
            let destinations = match (head.group, head.kind) {
                ("", "Service") => read(object).map(|one: ApiService| (ApiObject::Service, one.destinations())),
                ("discovery.k8s.io", "EndpointSlice") => read(object).map(|one: ApiSlice| (ApiObject::Slice, one.destinations())),
                _ => None,
            };
            self.api.extend(destinations.map(|(of, destinations)| ApiEvent::Seen(of, destinations)));
        }
    }

    /// Adds what further objects say.
    pub fn extend(&mut self, more: Self) {
        self.dns.extend(more.dns);
        self.api.extend(more.api);
    }

    /// The cluster's DNS.
    pub fn dns(&self, now: Instant) -> ClusterDns {
        let mut sources = Sources::default();
        // What a dump does not have counts as absent: there is nothing to wait for.
        sources.hear(DnsEvent::ResolvConf(String::new()), now);
        let listed = || Source::VARIANTS.iter().copied().filter(|source| *source != Source::ResolvConf);
        let seen = self.dns.iter().cloned();
        for event in listed().map(DnsEvent::ListBegins).chain(seen).chain(listed().map(DnsEvent::ListEnds)) {
            sources.hear(event, now);
        }
        Memory::default().remember(sources.derive(now), now)
    }

    /// The API server.
    pub fn api(&self, now: Instant) -> ClusterApi {
        let mut sources = ApiSources::default();
        self.api.iter().for_each(|event| sources.hear(event.clone(), now));
        sources.derive(now)
    }
}

fn dns_event(head: &FactHead<'_>, object: &serde_json::value::RawValue) -> Option<DnsEvent> {
    let is_dns = |object: &Object| match object {
        Object::Pod(pod) => pod.labels.get(APP_LABEL).is_some_and(|app| app == KUBE_DNS),
        _ => false,
    };
    let (source, object) = match (head.group, head.kind, head.namespace) {
        ("", "Service", KUBE_SYSTEM) => (Source::Services, read::<SlimService>(object)?.into()),
        ("", "Service", OPENSHIFT_DNS) if head.name == OPENSHIFT_NAME => {
            (Source::OpenShiftService, read::<SlimService>(object)?.into())
        }
        ("discovery.k8s.io", "EndpointSlice", KUBE_SYSTEM) => (Source::Slices, read::<SlimSlice>(object)?.into()),
        ("", "Pod", KUBE_SYSTEM) => (Source::Pods, Some(read::<SlimPod>(object)?.into()).filter(is_dns)?),
        ("apps", "DaemonSet", KUBE_SYSTEM) if head.name == NODE_LOCAL => {
            (Source::NodeLocal, read::<SlimDaemonSet>(object)?.into())
        }
        ("apps", "DaemonSet", OPENSHIFT_DNS) if head.name == OPENSHIFT_NAME => {
            (Source::OpenShiftDaemonSet, read::<SlimDaemonSet>(object)?.into())
        }
        _ => return None,
    };
    Some(DnsEvent::Seen(source, head.name.to_owned(), object))
}

/// An object that cannot be read says nothing. `FlowDump` warns of it.
fn read<T: DeserializeOwned>(object: &serde_json::value::RawValue) -> Option<T> {
    serde_json::from_str(object.get()).ok()
}
