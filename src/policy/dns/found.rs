//! The DNS destinations that were found, in the form that plans and statuses use.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use super::{
    APP_LABEL, KUBE_DNS, KUBE_SYSTEM, PORT,
    gap::{DnsGap, DnsGapKind},
};
use crate::api::{
    baseline::{Discovery, DnsFound, DnsStatus, MAX_DNS_FOUND, MAX_DNS_NOTES},
    text::cut,
};

/// The most peers that discovery adds to a policy.
const MAX_PEERS: usize = 64;
/// The most ports beside 53 that discovery adds to a policy.
const MAX_PORTS: usize = 8;
const MAX_SOURCE: usize = 256;
const MAX_WHAT: usize = 512;
const MAX_WORDS: usize = 1024;

/// Where pods send DNS requests.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum DnsDestination {
    /// Pods of a namespace, by labels; the labels are never empty.
    Pods {
        /// The namespace of the pods.
        namespace: String,
        /// The labels of the pods.
        labels: BTreeMap<String, String>,
    },
    /// One address.
    Address(IpAddr),
}

impl DnsDestination {
    /// The CIDR of a single address.
    pub fn cidr(address: IpAddr) -> String {
        let length = if address.is_ipv4() { 32 } else { 128 };
        format!("{address}/{length}")
    }

    /// The address; `None` of pods.
    pub const fn address(&self) -> Option<IpAddr> {
        match self {
            Self::Pods { .. } => None,
            Self::Address(address) => Some(*address),
        }
    }

    fn words(&self) -> String {
        match self {
            Self::Pods { namespace, labels } => {
                let labels: Vec<String> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
                format!("pods {} in {namespace}", labels.join(","))
            }
            Self::Address(address) => Self::cidr(*address),
        }
    }
}

/// The rank of a destination: if there is no room for all, smaller ranks are kept. Below [`Self::Needed`], those that were known first are
/// kept.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum DnsRank {
    /// A nameserver that kubelet gives to pods.
    Nameserver,
    /// A part of what a nameserver leads to, or of the Service kube-dns.
    Needed,
    /// Pods, selected by labels.
    Pods,
    /// The address of a DNS cache on the node.
    NodeLocal,
    /// The address of a Service.
    Service,
    /// An address behind a Service, if labels do not match its pods.
    Endpoint,
}

/// One DNS destination, and where it was found.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct DnsPlace {
    /// Sorts the places: smaller ranks come first.
    pub rank: DnsRank,
    /// The destination to allow.
    pub peer: DnsDestination,
    /// Its ports other than 53.
    pub ports: BTreeSet<u16>,
    /// Where it was found, as text for people.
    pub source: String,
    /// The namespace in which it was found; `None` for a nameserver.
    pub namespace: Option<&'static str>,
}

impl DnsPlace {
    /// Whether `other` has the same source and destination and at least these ports.
    pub fn is_part_of(&self, other: &Self) -> bool {
        self.source == other.source && self.peer == other.peer && self.ports.is_subset(&other.ports)
    }

    /// The destination and the ports, as a status says them. [`Self::told`] reads this.
    pub fn words(&self) -> String {
        let ports: Vec<String> = self.ports.iter().map(|port| format!(" and {port}")).collect();
        format!("{} on port {PORT}{}", self.peer.words(), ports.concat())
    }

    /// Its place in the order in which room is given. `first`: when its destination became known.
    pub fn order(&self, first: u64) -> (DnsRank, u64, &Self) {
        (self.rank.min(DnsRank::Pods), first, self)
    }

    fn entry(&self, is_gone: bool) -> DnsFound {
        let kept = if is_gone { " (gone, kept for 10 minutes)" } else { "" };
        let source = format!("{}{kept}", self.source);
        DnsFound { source: cut(&source, MAX_SOURCE), what: cut(&self.words(), MAX_WHAT) }
    }
}

/// What is remembered of a place.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Remembered {
    /// It no longer exists, and is kept for a while.
    pub is_gone: bool,
    /// Its place in the order in which destinations became known.
    pub first: u64,
}

/// The cluster's DNS, sorted and limited in size.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ClusterDns {
    /// The destinations to allow, each with its ports other than 53.
    peers: BTreeMap<DnsDestination, BTreeSet<u16>>,
    /// Those of them without which pods may have no DNS.
    needed: BTreeMap<DnsDestination, BTreeSet<u16>>,
    /// Namespaces that a baseline must not close, because DNS runs there or may run there.
    namespaces: BTreeSet<&'static str>,
    found: Vec<DnsFound>,
    found_omitted: usize,
    left_out: usize,
    /// What policies do not allow, or what is not known. Sorted, the worst first.
    gaps: BTreeSet<DnsGap>,
    notes: Vec<String>,
}

impl ClusterDns {
    /// Builds it from the places that were found, the gaps that no policy can express, and notes. `unsure` are namespaces for which it is
    /// unknown whether DNS runs there. [`super::Memory::remember`] is the way to it from the sources.
    pub fn new<'a>(
        all: impl IntoIterator<Item = (&'a DnsPlace, Remembered)>,
        unsure: impl IntoIterator<Item = &'static str>,
        gaps: impl IntoIterator<Item = DnsGap>,
        notes: impl IntoIterator<Item = String>,
    ) -> Self {
        let mut sorted: Vec<(&DnsPlace, Remembered)> = all.into_iter().collect();
        sorted.sort_by_key(|(found, remembered)| found.order(remembered.first));
        let mut dns = Self { gaps: gaps.into_iter().collect(), notes: sort(notes), ..Self::default() };
        dns.namespaces = unsure.into_iter().chain(sorted.iter().filter_map(|(found, _)| found.namespace)).collect();
        let (mut ports, mut left_out) = (DnsPorts::default(), BTreeSet::new());
        let (mut first, mut further) = (Vec::new(), Vec::new());
        for (found, Remembered { is_gone: gone, .. }) in sorted {
            if let Some(known) = dns.peers.get_mut(&found.peer) {
                known.extend(ports.admit(&found.ports));
                further.push((found, gone));
            } else if dns.peers.len() < MAX_PEERS {
                dns.peers.insert(found.peer.clone(), ports.admit(&found.ports));
                first.push((found, gone));
            } else {
                left_out.insert(&found.peer);
                continue;
            }
            if found.rank <= DnsRank::Needed {
                dns.needed.entry(found.peer.clone()).or_default().extend(ports.admit(&found.ports));
            }
        }
        dns.left_out = left_out.len();
        if dns.left_out > 0 {
            let message = format!(
                "{} places of DNS do not fit beside the {MAX_PEERS} that a policy allows. Those that nameservers lead to come first, then those that were found first. Take the label {APP_LABEL}={KUBE_DNS} from Services in {KUBE_SYSTEM} that are not DNS, or set spec.dns.discovery to Static",
                dns.left_out
            );
            dns.gaps.insert(DnsGap { kind: DnsGapKind::LeftOut, message });
        }
        // The status shows each peer before it shows one a second time: a restart reads it.
        dns.found_omitted = (first.len() + further.len()).saturating_sub(MAX_DNS_FOUND);
        further.truncate(MAX_DNS_FOUND.saturating_sub(first.len()));
        let shown: BTreeMap<&DnsPlace, bool> = first.into_iter().chain(further).collect();
        dns.found = shown.into_iter().map(|(found, gone)| found.entry(gone)).collect();
        if !ports.refused.is_empty() {
            let refused: Vec<String> = ports.refused.iter().map(ToString::to_string).collect();
            let message = format!(
                "DNS was found on more ports than the {MAX_PORTS} that fit beside {PORT}: add {} to spec.dns.ports",
                refused.join(", ")
            );
            dns.gaps.insert(DnsGap { kind: DnsGapKind::NotExpressible, message });
        }
        dns
    }

    /// The destinations to allow, each with its ports other than 53. At most 64 destinations and 8 ports. Their order does not depend on
    /// where they were found: a restart writes the same policies.
    pub const fn peers(&self) -> &BTreeMap<DnsDestination, BTreeSet<u16>> {
        &self.peers
    }

    /// Namespaces that a baseline must not close, because DNS runs there or may run there.
    pub fn namespaces(&self) -> impl Iterator<Item = &'static str> {
        self.namespaces.iter().copied()
    }

    /// Whether baselines plan the same policies with both.
    pub fn plans_as(&self, other: &Self) -> bool {
        self.peers == other.peers && self.namespaces == other.namespaces
    }

    /// Whether the parts are the same without which pods may have no DNS.
    pub fn needs_as(&self, other: &Self) -> bool {
        self.needed == other.needed && self.namespaces == other.namespaces
    }

    /// What policies do not allow, or what is not known, and what the user can do about it. The kind is the worst of all. `None` if
    /// there is no gap.
    pub fn gap(&self) -> Option<DnsGap> {
        let DnsGap { kind, .. } = self.gaps.first()?;
        let (unread, others): (Vec<&DnsGap>, Vec<&DnsGap>) =
            self.gaps.iter().partition(|gap| gap.kind == DnsGapKind::NotReadable);
        let messages = |gaps: Vec<&DnsGap>| gaps.into_iter().map(|gap| gap.message.clone()).collect::<Vec<_>>();
        let unread = (!unread.is_empty()).then(|| {
            let sources = messages(unread).join(", ");
            format!("cannot be read: {sources}. What was found there before stays allowed. status.dns.notes says why")
        });
        Some(DnsGap { kind: *kind, message: unread.into_iter().chain(messages(others)).collect::<Vec<_>>().join("; ") })
    }

    /// The gaps as text for the log; empty if there is none. The watches log by themselves what they cannot read.
    pub fn gaps_to_log(&self) -> String {
        let messages = self.gaps.iter().filter(|gap| gap.kind != DnsGapKind::NotReadable).map(|gap| &*gap.message);
        messages.collect::<Vec<_>>().join("; ")
    }

    /// The allowed destinations as text for the log, at most 1024 characters.
    pub fn words(&self) -> String {
        let words: Vec<&str> = self.found.iter().map(|found| found.what.as_str()).collect();
        cut(&words.join("; "), MAX_WORDS)
    }

    /// The part of a baseline's status about DNS.
    pub fn status(&self) -> DnsStatus {
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let mut notes = self.notes.clone();
        if self.peers.is_empty() {
            let always = format!("no DNS was found: only pods k8s-app={KUBE_DNS} in {KUBE_SYSTEM} on port {PORT} are allowed");
            notes.insert(0, always);
        }
        notes.truncate(MAX_DNS_NOTES);
        DnsStatus {
            discovery: Discovery::Auto,
            found: self.found.clone(),
            found_omitted: count(self.found_omitted),
            left_out: count(self.left_out),
            notes: notes.iter().map(|note| cut(note, MAX_WHAT)).collect(),
        }
    }
}

/// Collects ports other than 53, up to a limit.
#[derive(Default)]
struct DnsPorts {
    admitted: BTreeSet<u16>,
    refused: BTreeSet<u16>,
}

impl DnsPorts {
    /// Admits these ports while there is room, and returns those of them that are admitted.
    fn admit(&mut self, ports: &BTreeSet<u16>) -> BTreeSet<u16> {
        for port in ports {
            let has_room = self.admitted.len() < MAX_PORTS || self.admitted.contains(port);
            if has_room {
                self.admitted.insert(*port)
            } else {
                self.refused.insert(*port)
            };
        }
        ports.intersection(&self.admitted).copied().collect()
    }
}

fn sort(texts: impl IntoIterator<Item = String>) -> Vec<String> {
    texts.into_iter().collect::<BTreeSet<String>>().into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8, ports: &[u16]) -> DnsPlace {
        DnsPlace {
            rank: DnsRank::Service,
            peer: DnsDestination::Address([10, 0, 0, last].into()),
            ports: ports.iter().copied().collect(),
            source: "Service kube-system/kube-dns".into(),
            namespace: Some(KUBE_SYSTEM),
        }
    }

    fn of(all: &[DnsPlace]) -> ClusterDns {
        ClusterDns::new(all.iter().map(|found| (found, Remembered::default())), [], [], [])
    }

    #[test]
    fn what_has_no_room_is_counted_and_the_nameservers_of_pods_come_first() {
        let mut all: Vec<DnsPlace> = (0..100).map(|last| address(last, &[])).collect();
        all.push(DnsPlace { rank: DnsRank::Nameserver, source: "resolv.conf".into(), ..address(200, &[]) });
        let dns = of(&all);
        assert_eq!(dns.peers().len(), 64);
        assert!(dns.peers().contains_key(&address(200, &[]).peer));
        let status = dns.status();
        assert_eq!((status.found.len(), status.found_omitted, status.left_out), (64, 0, 37));
        let gap = dns.gap().unwrap();
        assert_eq!(gap.kind, DnsGapKind::LeftOut);
        assert!(gap.message.starts_with("37 places of DNS do not fit") && gap.message.contains("Static"), "{}", gap.message);
    }

    #[test]
    fn what_nameservers_lead_to_and_what_was_known_first_keeps_its_place() {
        let needed = DnsPlace { rank: DnsRank::Needed, ..address(250, &[1000]) };
        let known = address(240, &[1001]);
        let many: Vec<DnsPlace> = (0..100).map(|last| address(last, &[2000 + u16::from(last)])).collect();
        let later = |first| move |place| (place, Remembered { is_gone: false, first });
        let all = [&needed].into_iter().map(later(3)).chain([&known].into_iter().map(later(1))).chain(many.iter().map(later(2)));
        let dns = ClusterDns::new(all, [], [], []);
        assert_eq!((dns.peers()[&needed.peer].len(), dns.peers()[&known.peer].len(), dns.peers().len()), (1, 1, 64));
        let alone = ClusterDns::new([(&needed, Remembered::default())], [], [], []);
        assert!(dns.needs_as(&alone) && !dns.plans_as(&alone));
    }

    #[test]
    fn a_peer_that_several_sources_name_is_one_with_the_ports_of_all() {
        let other = DnsPlace { source: "another".into(), ..address(1, &[5353]) };
        let dns = of(&[address(1, &[1053]), other]);
        assert_eq!(*dns.peers(), [(address(1, &[]).peer, [1053, 5353].into())].into());
        assert_eq!((dns.status().found.len(), dns.gap()), (2, None));
    }

    #[test]
    fn ports_that_have_no_room_are_named() {
        let dns = of(&[address(1, &[1, 2, 3, 4, 5]), address(2, &[5, 6, 7, 8, 9, 10])]);
        let ports: BTreeSet<u16> = dns.peers().values().flatten().copied().collect();
        assert_eq!(ports, (1..=8).collect());
        assert!(dns.gap().unwrap().message.ends_with("add 9, 10 to spec.dns.ports"));
    }

    #[test]
    fn a_status_tells_what_is_only_kept() {
        let found = address(1, &[1053]);
        let dns = ClusterDns::new([(&found, Remembered { is_gone: true, first: 0 })], [], [], []);
        let told = &dns.status().found[0];
        assert_eq!(told.source, "Service kube-system/kube-dns (gone, kept for 10 minutes)");
        assert_eq!(told.what, "10.0.0.1/32 on port 53 and 1053");
        let there = of(&[found]);
        assert!(dns != there && dns.plans_as(&there), "that alone plans nothing anew");
    }

    #[test]
    fn the_worst_gap_gives_the_reason_and_all_are_told() {
        let gap = |kind, message: &str| DnsGap { kind, message: message.into() };
        let gaps = [
            gap(DnsGapKind::NotExpressible, "an alias"),
            gap(DnsGapKind::NotReadable, "services"),
            gap(DnsGapKind::NotReadable, "pods"),
        ];
        let dns = ClusterDns::new([], [], gaps, []);
        let told = dns.gap().unwrap();
        assert_eq!(told.kind.reason(), "DNSNotReadable");
        assert!(told.message.starts_with("cannot be read: pods, services. ") && told.message.ends_with("; an alias"), "{told:?}");
        assert_eq!((dns.gaps_to_log(), ClusterDns::default().gap()), ("an alias".to_owned(), None));
    }
}
