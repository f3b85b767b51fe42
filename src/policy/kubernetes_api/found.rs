//! Where the API server was found, in the form that plans and statuses use.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use strum::{IntoStaticStr, VariantArray};

use crate::{
    api::{
        baseline::{KubernetesApiFound, KubernetesApiStatus, MAX_API_FOUND, MAX_API_NOTES},
        text::cut,
    },
    policy::dns::{DnsDestination, is_usable},
};

const MAX_NOTE: usize = 512;
/// What follows a place that is gone, in a status.
const GONE: &str = " (gone, kept for 10 minutes)";

/// An address of the API server, with a port of TCP.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct ApiDestination {
    /// The address.
    pub address: IpAddr,
    /// The port.
    pub port: u16,
}

impl ApiDestination {
    /// The destination, as a status says it. [`ApiPlace::told`] reads this.
    pub fn words(&self) -> String {
        format!("{} on port {}", DnsDestination::cidr(self.address), self.port)
    }
}

/// Whether the API server may have this address. No packet to a link-local address leaves its link, and clouds give credentials at
/// 169.254.169.254.
pub fn may_be_api(address: IpAddr) -> bool {
    let is_link_local = match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    is_usable(address) && !is_link_local
}

/// The object that names an address.
#[derive(Clone, Copy, Debug, Eq, IntoStaticStr, Ord, PartialEq, PartialOrd, VariantArray)]
#[strum(const_into_str)]
pub enum ApiObject {
    /// The Service.
    #[strum(serialize = "Service default/kubernetes")]
    Service,
    /// The EndpointSlice.
    #[strum(serialize = "EndpointSlice default/kubernetes")]
    Slice,
}

/// A destination, and where it was found.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct ApiPlace {
    /// The object that names it.
    pub source: ApiObject,
    /// The destination.
    pub destination: ApiDestination,
}

impl ApiPlace {
    fn entry(self, is_gone: bool) -> KubernetesApiFound {
        let gone = if is_gone { GONE } else { "" };
        KubernetesApiFound { source: format!("{}{gone}", self.source.into_str()), what: self.destination.words() }
    }

    /// The place that an entry of a status describes, and whether it is gone and only kept. `None` if the entry has another form.
    pub fn told(KubernetesApiFound { source, what }: &KubernetesApiFound) -> Option<(Self, bool)> {
        let (source, is_gone) = source.strip_suffix(GONE).map_or((source.as_str(), false), |source| (source, true));
        let source = [ApiObject::Service, ApiObject::Slice].into_iter().find(|kind| kind.into_str() == source)?;
        let (cidr, port) = what.split_once(" on port ")?;
        let address: IpAddr = cidr.split_once('/')?.0.parse().ok()?;
        let port = port.parse().ok().filter(|port| *port != 0)?;
        let destination = ApiDestination { address, port };
        (may_be_api(address) && destination.words() == *what).then_some((Self { source, destination }, is_gone))
    }
}

/// Why an allow with `kubernetesAPI` may not let pods reach the API server.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ApiGap {
    /// The reason of the condition.
    pub reason: &'static str,
    /// What is missing, and what to do.
    pub message: String,
}

/// The API server of the cluster: a limited number of addresses and ports.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ClusterApi {
    /// The addresses, by port.
    by_port: BTreeMap<u16, BTreeSet<IpAddr>>,
    found: Vec<KubernetesApiFound>,
    left_out: usize,
    /// The objects that could not be read, each with the cause.
    unread: BTreeMap<ApiObject, String>,
}

impl ClusterApi {
    /// Builds it from the places (with true if a place is gone and only kept), and the objects that could not be read.
    pub fn new(places: impl IntoIterator<Item = (ApiPlace, bool)>, unread: BTreeMap<ApiObject, String>) -> Self {
        let mut sorted: Vec<(bool, ApiPlace)> = places.into_iter().map(|(place, is_gone)| (is_gone, place)).collect();
        sorted.sort_unstable();
        let left_out = sorted.len().saturating_sub(MAX_API_FOUND);
        sorted.truncate(MAX_API_FOUND);
        let mut by_port: BTreeMap<u16, BTreeSet<IpAddr>> = BTreeMap::new();
        for (_, ApiPlace { destination: ApiDestination { address, port }, .. }) in &sorted {
            by_port.entry(*port).or_default().insert(*address);
        }
        let found = sorted.into_iter().map(|(is_gone, place)| place.entry(is_gone)).collect();
        Self { by_port, found, left_out, unread }
    }

    /// The addresses, by port; neither is ever empty within an entry.
    pub const fn by_port(&self) -> &BTreeMap<u16, BTreeSet<IpAddr>> {
        &self.by_port
    }

    /// Whether baselines plan the same policies with both.
    pub fn plans_as(&self, other: &Self) -> bool {
        self.by_port == other.by_port
    }

    /// The destinations as text for the log.
    pub fn words(&self) -> String {
        self.found.iter().map(|found| found.what.as_str()).collect::<Vec<_>>().join("; ")
    }

    /// What is missing; `None` if nothing is.
    pub fn gap(&self) -> Option<ApiGap> {
        let unread: Vec<&str> = self.unread.keys().map(ApiObject::into_str).collect();
        let unread = unread.join(" and ");
        if self.by_port.is_empty() {
            let why = if unread.is_empty() {
                "the Service and the EndpointSlice default/kubernetes name no address".to_owned()
            } else {
                format!("{unread} cannot be read (apply manifests/base)")
            };
            let message = format!(
                "no address of the API server is known: {why}. Until then, allows with kubernetesAPI open nothing; write its addresses as ipBlock if it is elsewhere"
            );
            return Some(ApiGap { reason: "KubernetesAPINotFound", message });
        }
        if !unread.is_empty() {
            let message = format!("cannot be read: {unread} (apply manifests/base). What was found there before stays allowed");
            return Some(ApiGap { reason: "KubernetesAPINotReadable", message });
        }
        let left_out = self.left_out;
        (left_out > 0).then(|| ApiGap {
            reason: "KubernetesAPILeftOut",
            message: format!("{left_out} addresses of the API server do not fit beside the {MAX_API_FOUND} that a policy allows"),
        })
    }

    /// The part of a baseline's status about the API server.
    pub fn status(&self) -> KubernetesApiStatus {
        let notes = self.unread.iter().take(MAX_API_NOTES);
        let notes = notes.map(|(kind, why)| cut(&format!("{}: {why}", kind.into_str()), MAX_NOTE));
        KubernetesApiStatus { found: self.found.clone(), notes: notes.collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(source: ApiObject, address: [u8; 4], port: u16) -> ApiPlace {
        ApiPlace { source, destination: ApiDestination { address: address.into(), port } }
    }

    #[test]
    fn what_a_status_says_is_read_back_and_whether_it_is_gone() {
        let all = [
            place(ApiObject::Service, [10, 96, 0, 1], 443),
            place(ApiObject::Slice, [192, 0, 2, 9], 6443),
            ApiPlace {
                source: ApiObject::Slice,
                destination: ApiDestination { address: "fd00::9".parse().unwrap(), port: 6443 },
            },
        ];
        for one in all {
            let told = |is_gone| ApiPlace::told(&ClusterApi::new([(one, is_gone)], BTreeMap::new()).status().found[0]);
            assert_eq!((told(false), told(true)), (Some((one, false)), Some((one, true))));
        }
    }

    #[test]
    fn i16_what_has_another_form_opens_nothing() {
        let service = "Service default/kubernetes";
        for (source, what) in [
            ("Service team-a/kubernetes", "10.96.0.1/32 on port 443"),
            (service, "10.96.0.0/24 on port 443"),
            (service, "0.0.0.0/0 on port 443"),
            (service, "127.0.0.1/32 on port 443"),
            (service, "169.254.169.254/32 on port 80"),
            (service, "fe80::1/128 on port 443"),
            ("Service default/kubernetes (gone)", "10.96.0.1/32 on port 443"),
            (service, "10.96.0.1/32 on port 0"),
            (service, "10.96.0.1/32 on port 443 and 444"),
            (service, "10.96.0.1 on port 443"),
            (service, ""),
        ] {
            let found = KubernetesApiFound { source: source.into(), what: what.into() };
            assert_eq!(ApiPlace::told(&found), None, "{source}: {what}");
        }
    }

    #[test]
    fn i11_more_addresses_than_fit_are_counted_and_those_that_exist_come_first() {
        let many = (0..100).map(|last| (place(ApiObject::Service, [10, 0, 0, last], 443), true));
        let here = place(ApiObject::Slice, [192, 0, 2, 1], 6443);
        let api = ClusterApi::new(many.chain([(here, false)]), BTreeMap::new());
        assert_eq!((api.by_port()[&443].len(), api.by_port()[&6443].len()), (MAX_API_FOUND - 1, 1));
        assert_eq!(api.gap().unwrap().reason, "KubernetesAPILeftOut");
        assert_eq!(api.status().found.len(), MAX_API_FOUND);
    }

    #[test]
    fn a_gap_says_whether_anything_is_allowed() {
        let refused: BTreeMap<_, _> = [(ApiObject::Slice, "forbidden".to_owned())].into();
        let reason = |api: &ClusterApi| api.gap().map(|gap| gap.reason);
        assert_eq!(reason(&ClusterApi::default()), Some("KubernetesAPINotFound"));
        let found = [(place(ApiObject::Service, [10, 96, 0, 1], 443), false)];
        assert_eq!(reason(&ClusterApi::new(found, refused.clone())), Some("KubernetesAPINotReadable"));
        assert_eq!(reason(&ClusterApi::new([], refused)), Some("KubernetesAPINotFound"));
        assert_eq!(reason(&ClusterApi::new(found, BTreeMap::new())), None);
    }
}
