//! What the stored statuses said of DNS. A recalled place counts only while no source says whether the place exists.

use std::{collections::BTreeSet, net::IpAddr};

use super::{
    KUBE_SYSTEM, OPENSHIFT_DNS,
    found::{DnsDestination, DnsPlace, DnsRank},
    objects::ServiceFacts,
    sources::{SERVICE_OF_KUBE_SYSTEM, SERVICE_OF_OPENSHIFT, Source, Sources},
};

impl Sources {
    /// Remembers what stored statuses say of DNS: a source that cannot be read must not take away what it said before.
    pub fn recall(&mut self, told: impl IntoIterator<Item = DnsPlace>) {
        let mut recalled = std::mem::take(&mut self.recalled);
        recalled.retain(|place| self.is_unsure_of(place));
        recalled.extend(told);
        self.recalled = recalled;
    }

    /// The nameservers of pods: those of the resolv.conf, or while that cannot be read, those that it named before.
    pub(super) fn known_nameservers(&self) -> BTreeSet<IpAddr> {
        let is_unread = !self.is_read(Source::ResolvConf);
        let recalled = self.recalled.iter().filter(|place| is_unread && place.rank == DnsRank::Nameserver);
        let recalled = recalled.filter_map(|place| place.peer.address());
        self.nameservers.iter().map(IpAddr::to_canonical).chain(recalled).collect()
    }

    /// Whether a source is unread that would say whether the place exists. The source that names the place says it. If that source is a
    /// Service that is DNS, others may have to add what only they know: further ports, and endpoints.
    pub(super) fn is_unsure_of(&self, place: &DnsPlace) -> bool {
        if !self.is_read(place.named_by()) {
            return true;
        }
        let Some((name, service)) = self.dns_service_of(place) else { return false };
        match &place.peer {
            DnsDestination::Pods { labels, .. } => {
                let is_openshift = place.namespace == Some(OPENSHIFT_DNS);
                let of_ports = if is_openshift { Source::OpenShiftDaemonSet } else { Source::Pods };
                service.selector == *labels && !place.ports.is_empty() && !self.is_read(of_ports)
            }
            DnsDestination::Address(address) => {
                place.namespace == Some(KUBE_SYSTEM) && self.may_be_endpoint(*address, name, service)
            }
        }
    }

    /// The Service that a recalled place names, if it exists and is DNS.
    fn dns_service_of(&self, place: &DnsPlace) -> Option<(&str, &ServiceFacts)> {
        let prefixes = [(KUBE_SYSTEM, SERVICE_OF_KUBE_SYSTEM), (OPENSHIFT_DNS, SERVICE_OF_OPENSHIFT)];
        let (of, name) = prefixes.iter().find_map(|(of, prefix)| Some((*of, place.source.strip_prefix(prefix)?)))?;
        let nameservers = self.known_nameservers();
        let mut services = self.dns_services(&nameservers);
        services.find(|(namespace, own, _)| (*namespace, *own) == (of, name)).map(|(_, own, service)| (own, service))
    }

    /// Whether a source is unread that would say whether the address is an endpoint that counts. Endpoints count if labels do not match
    /// the pods: without a selector, or on the host network. Pods tell that, and the ports.
    fn may_be_endpoint(&self, address: IpAddr, name: &str, service: &ServiceFacts) -> bool {
        let (pods, slices) = (self.is_read(Source::Pods), self.is_read(Source::Slices));
        let can_count = !pods || service.selector.is_empty() || self.pods(KUBE_SYSTEM, service).any(|pod| pod.on_host_network);
        can_count && (!slices || (!pods && self.endpoints(KUBE_SYSTEM, name, service).contains_key(&address)))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use serde_json::{Value, json};
    use strum::VariantArray;

    use super::*;
    use crate::{
        api::baseline::DnsFound,
        policy::dns::{DnsEvent, Object, SlimPod, SlimService, SlimSlice},
    };

    const KUBE_DNS: &str = "Service kube-system/kube-dns";
    const OPENSHIFT: &str = "Service openshift-dns/dns-default";

    fn service(spec: Value) -> Object {
        serde_json::from_value::<SlimService>(json!({"metadata": {"name": "s"}, "spec": spec})).unwrap().into()
    }

    fn slice(address: &str) -> Object {
        let object = json!({"metadata": {"name": "s", "labels": {"kubernetes.io/service-name": "kube-dns"}},
            "endpoints": [{"addresses": [address]}], "ports": [{"port": 53}]});
        serde_json::from_value::<SlimSlice>(object).unwrap().into()
    }

    fn pod(on_host_network: bool) -> Object {
        let object = json!({"metadata": {"name": "p", "labels": {"a": "b"}}, "spec": {"hostNetwork": on_host_network}});
        serde_json::from_value::<SlimPod>(object).unwrap().into()
    }

    /// Whether what a status said of this source is still allowed after all sources but these were read, with these objects.
    fn is_kept(source: &str, what: &str, unread: &[Source], objects: &[(Source, &str, Object)]) -> bool {
        let (mut sources, now) = (Sources::default(), Instant::now());
        let place = DnsPlace::told(&DnsFound { source: source.into(), what: what.into() }).unwrap();
        sources.recall([place.clone()]);
        for source in Source::VARIANTS.iter().filter(|source| !unread.contains(source)) {
            sources.hear(DnsEvent::ListBegins(*source), now);
            for (of, name, object) in objects.iter().filter(|(of, ..)| of == source) {
                sources.hear(DnsEvent::Seen(*of, (*name).to_owned(), object.clone()), now);
            }
            sources.hear(DnsEvent::ListEnds(*source), now);
        }
        if !unread.contains(&Source::ResolvConf) {
            sources.hear(DnsEvent::ResolvConf("nameserver 10.96.0.10\n".into()), now);
        }
        let found = sources.derive(now).found;
        found.iter().any(|found| found.source == source && found.peer == place.peer && place.ports.is_subset(&found.ports))
    }

    #[test]
    fn a_recalled_place_goes_as_soon_as_the_source_that_names_it_is_read() {
        let selecting = || {
            let spec = json!({"clusterIP": "10.96.0.10", "selector": {"a": "b"}, "ports": [{"port": 53}]});
            (Source::Services, "kube-dns", service(spec))
        };
        let alone = || (Source::Services, "kube-dns", service(json!({"ports": [{"port": 53}]})));
        let others =
            || (Source::OpenShiftService, "dns-default", service(json!({"selector": {"a": "b"}, "ports": [{"port": 53}]})));
        let (old, pods) = ("10.0.0.5/32 on port 53", "pods a=b in kube-system on port 53");
        let (further, of_openshift) =
            ("pods a=b in kube-system on port 53 and 1053", "pods a=b in openshift-dns on port 53 and 5353");
        let (services, slices, of_pods) = (Source::Services, Source::Slices, Source::Pods);
        for (source, what, unread, objects, kept) in [
            // The Service is not read, or does not exist.
            (KUBE_DNS, old, vec![services], vec![], true),
            (KUBE_DNS, pods, vec![services], vec![], true),
            (KUBE_DNS, old, vec![slices, of_pods], vec![], false),
            (KUBE_DNS, further, vec![slices, of_pods], vec![], false),
            // Further ports wait for pods, and only with the selector of the Service.
            (KUBE_DNS, further, vec![of_pods], vec![selecting()], true),
            (KUBE_DNS, further, vec![slices], vec![selecting()], false),
            (KUBE_DNS, "pods c=d in kube-system on port 53 and 1053", vec![of_pods], vec![selecting()], false),
            // Endpoints wait for slices, where they count.
            (KUBE_DNS, old, vec![slices], vec![selecting()], false),
            (KUBE_DNS, old, vec![slices], vec![selecting(), (of_pods, "p", pod(false))], false),
            (KUBE_DNS, old, vec![slices], vec![selecting(), (of_pods, "p", pod(true))], true),
            (KUBE_DNS, old, vec![slices], vec![alone()], true),
            (KUBE_DNS, old, vec![slices, of_pods], vec![selecting()], true),
            (KUBE_DNS, old, vec![of_pods], vec![selecting()], false),
            (KUBE_DNS, old, vec![of_pods], vec![selecting(), (slices, "s", slice("10.0.0.5"))], true),
            // Other sources say nothing of it.
            (KUBE_DNS, old, vec![Source::ResolvConf, Source::NodeLocal, Source::OpenShiftService], vec![], false),
            // A Service in openshift-dns that is not DNS keeps nothing.
            (OPENSHIFT, of_openshift, vec![Source::OpenShiftService], vec![], true),
            (OPENSHIFT, of_openshift, vec![Source::OpenShiftDaemonSet], vec![], false),
            (OPENSHIFT, of_openshift, vec![Source::OpenShiftDaemonSet], vec![others()], false),
            (OPENSHIFT, of_openshift, vec![Source::OpenShiftDaemonSet, Source::ResolvConf], vec![others()], true),
        ] {
            assert_eq!(is_kept(source, what, &unread, &objects), kept, "{what}, without {unread:?}, with {objects:?}");
        }
    }
}
