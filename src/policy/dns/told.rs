//! Reads places of DNS back from what a stored status says of them. Only the operator writes statuses, so no tenant can add a place.
//! What does not have exactly the form that the operator writes is ignored.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use super::{
    KUBE_SYSTEM, OPENSHIFT_DNS, PORT,
    found::{DnsDestination, DnsPlace, DnsRank},
    objects::{is_usable, labels},
    sources::{NODE_LOCAL_SOURCE, OPERATORS_RESOLV_CONF, SERVICE_OF_KUBE_SYSTEM, SERVICE_OF_OPENSHIFT, Source},
};
use crate::api::baseline::DnsFound;

impl DnsPlace {
    /// The place that an entry of a status describes. `None` if the entry has another form, or says that the place is gone.
    pub fn told(DnsFound { source, what }: &DnsFound) -> Option<Self> {
        // Only what was kept after it was gone has a remark in brackets.
        if source.contains(" (") {
            return None;
        }
        let (peer, ports) = what.split_once(" on port ")?;
        let (first, further) = ports.split_once(" and ").map_or((ports, None), |(first, further)| (first, Some(further)));
        if first.parse() != Ok(PORT) {
            return None;
        }
        let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port != 0);
        let ports: BTreeSet<u16> = further.iter().flat_map(|further| further.split(" and ")).map(port).collect::<Option<_>>()?;
        let namespace = match &**source {
            OPERATORS_RESOLV_CONF => None,
            _ if source == NODE_LOCAL_SOURCE || source.starts_with(SERVICE_OF_KUBE_SYSTEM) => Some(KUBE_SYSTEM),
            _ if source.starts_with(SERVICE_OF_OPENSHIFT) => Some(OPENSHIFT_DNS),
            _ => return None,
        };
        let peer = destination(peer)?;
        let rank = match &peer {
            DnsDestination::Pods { namespace: of, .. } => (Some(&**of) == namespace).then_some(DnsRank::Pods)?,
            DnsDestination::Address(_) if namespace.is_none() => DnsRank::Nameserver,
            DnsDestination::Address(_) if source == NODE_LOCAL_SOURCE => DnsRank::NodeLocal,
            DnsDestination::Address(_) => DnsRank::Service,
        };
        Some(Self { rank, peer, ports, source: source.clone(), namespace })
    }

    /// The source that names the place.
    pub fn named_by(&self) -> Source {
        match &*self.source {
            OPERATORS_RESOLV_CONF => Source::ResolvConf,
            NODE_LOCAL_SOURCE => Source::NodeLocal,
            of if of.starts_with(SERVICE_OF_OPENSHIFT) => Source::OpenShiftService,
            _ => Source::Services,
        }
    }
}

fn destination(text: &str) -> Option<DnsDestination> {
    if let Some(pods) = text.strip_prefix("pods ") {
        let (pairs, namespace) = pods.split_once(" in ")?;
        let pair = |pair: &str| pair.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned()));
        let pairs: BTreeMap<String, String> = pairs.split(',').map(pair).collect::<Option<_>>()?;
        let labels = labels(pairs);
        return (!labels.is_empty()).then(|| DnsDestination::Pods { namespace: namespace.to_owned(), labels });
    }
    let (address, _) = text.split_once('/')?;
    let address: IpAddr = address.parse().ok()?;
    (is_usable(address) && DnsDestination::cidr(address) == text).then_some(DnsDestination::Address(address))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(source: &str, what: &str) -> Option<DnsPlace> {
        DnsPlace::told(&DnsFound { source: source.into(), what: what.into() })
    }

    #[test]
    fn what_a_status_says_of_a_place_is_read_back() {
        for (source, what, rank, namespace) in [
            (OPERATORS_RESOLV_CONF, "10.96.0.10/32 on port 53", DnsRank::Nameserver, None),
            (
                "Service kube-system/kube-dns",
                "pods a=b,k8s-app=kube-dns in kube-system on port 53",
                DnsRank::Pods,
                Some(KUBE_SYSTEM),
            ),
            ("Service kube-system/kube-dns", "fd00::a/128 on port 53 and 1053 and 5353", DnsRank::Service, Some(KUBE_SYSTEM)),
            (NODE_LOCAL_SOURCE, "169.254.20.10/32 on port 53", DnsRank::NodeLocal, Some(KUBE_SYSTEM)),
            (
                "Service openshift-dns/dns-default",
                "pods a= in openshift-dns on port 53 and 5353",
                DnsRank::Pods,
                Some(OPENSHIFT_DNS),
            ),
        ] {
            let place = told(source, what).unwrap_or_else(|| panic!("{what}"));
            assert_eq!((place.words(), &*place.source, place.rank, place.namespace), (what.into(), source, rank, namespace));
            assert_eq!(told(&format!("{source} (gone, kept for 10 minutes)"), what), None);
        }
    }

    #[test]
    fn i16_what_has_another_form_opens_nothing() {
        let kube_dns = "Service kube-system/kube-dns";
        for (source, what) in [
            ("somewhere", "10.96.0.10/32 on port 53"),
            (kube_dns, "0.0.0.0/0 on port 53"),
            (kube_dns, "10.0.0.0/8 on port 53"),
            (kube_dns, "127.0.0.1/32 on port 53"),
            (kube_dns, "10.96.0.10/32 on port 54"),
            (kube_dns, "10.96.0.10/32 on port 53 and 0"),
            (kube_dns, "10.96.0.10/32 on port 53 and 70000"),
            (kube_dns, "10.96.0.10/32 on port 53…"),
            (kube_dns, "pods  in kube-system on port 53"),
            (kube_dns, "pods no key=x in kube-system on port 53"),
            (kube_dns, "pods a=b in team-a on port 53"),
            (kube_dns, "pods a=b in openshift-dns on port 53"),
            (OPERATORS_RESOLV_CONF, "pods a=b in kube-system on port 53"),
            (kube_dns, ""),
        ] {
            assert_eq!(told(source, what), None, "{source}: {what}");
        }
    }

    #[test]
    fn the_source_that_names_a_place_is_known() {
        for (source, named_by) in [
            (OPERATORS_RESOLV_CONF, Source::ResolvConf),
            (NODE_LOCAL_SOURCE, Source::NodeLocal),
            ("Service kube-system/kube-dns", Source::Services),
            ("Service openshift-dns/dns-default", Source::OpenShiftService),
        ] {
            assert_eq!(told(source, "10.0.0.1/32 on port 53").unwrap().named_by(), named_by);
        }
    }
}
