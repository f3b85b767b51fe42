//! What was found, as plans and statuses use it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use super::{KUBE_DNS, KUBE_SYSTEM, PORT};
use crate::api::baseline::{Discovery, DnsFound, DnsStatus, MAX_DNS_FOUND, MAX_DNS_NOTES};

/// The most peers that discovery adds to a policy.
const MAX_PEERS: usize = 64;
/// The most ports beside 53 that discovery adds to a policy.
const MAX_PORTS: usize = 8;
const MAX_SOURCE: usize = 256;
const MAX_WHAT: usize = 512;
const MAX_WORDS: usize = 1024;

/// What DNS requests go to.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Peer {
    /// Pods of a namespace, by labels; never without one.
    Pods {
        /// Their namespace.
        namespace: String,
        /// Their labels.
        labels: BTreeMap<String, String>,
    },
    /// One address.
    Address(IpAddr),
}

impl Peer {
    /// The address as a range of one.
    pub fn cidr(address: IpAddr) -> String {
        let length = if address.is_ipv4() { 32 } else { 128 };
        format!("{address}/{length}")
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

/// How what was found is ranked where not all of it has room.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Rank {
    /// What kubelet gives to pods.
    Nameserver,
    /// Pods by their labels.
    Pods,
    /// The address of a cache on the node.
    NodeLocal,
    /// The address of a Service.
    Service,
    /// The addresses behind a Service, where no labels match.
    Endpoint,
}

/// One place of DNS.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Found {
    /// What comes first.
    pub rank: Rank,
    /// What is allowed.
    pub peer: Peer,
    /// Its ports beside 53.
    pub ports: BTreeSet<u16>,
    /// Where it was found, for people.
    pub source: String,
    /// The namespace that it was found in.
    pub namespace: Option<&'static str>,
}

impl Found {
    /// Whether the other one, from the same source, allows all of this.
    pub fn is_part_of(&self, other: &Self) -> bool {
        self.source == other.source && self.peer == other.peer && self.ports.is_subset(&other.ports)
    }

    fn words(&self) -> String {
        let ports: Vec<String> = self.ports.iter().map(|port| format!(" and {port}")).collect();
        format!("{} on port {PORT}{}", self.peer.words(), ports.concat())
    }
}

/// The cluster's DNS, sorted and bounded.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ClusterDns {
    /// What to allow, and its ports beside 53.
    peers: Vec<(Peer, BTreeSet<u16>)>,
    /// Namespaces that a baseline must not close: DNS is there, or may be.
    namespaces: BTreeSet<&'static str>,
    found: Vec<DnsFound>,
    found_omitted: usize,
    left_out: usize,
    /// What no policy can express, with what to do.
    gaps: Vec<String>,
    notes: Vec<String>,
}

impl ClusterDns {
    /// Of what was found (and whether it is there no more, and only kept for a while), what cannot be expressed, and what is to be noted.
    /// `unsure` are namespaces of which it is not known whether DNS is there.
    pub fn new<'a>(
        all: impl IntoIterator<Item = (&'a Found, bool)>,
        unsure: impl IntoIterator<Item = &'static str>,
        gaps: impl IntoIterator<Item = String>,
        notes: impl IntoIterator<Item = String>,
    ) -> Self {
        let sorted: BTreeMap<&Found, bool> = all.into_iter().collect();
        let mut dns = Self { gaps: sort(gaps), notes: sort(notes), ..Self::default() };
        dns.namespaces = unsure.into_iter().chain(sorted.keys().filter_map(|found| found.namespace)).collect();
        let (mut ports, mut left_out) = (Ports::default(), BTreeSet::new());
        for (found, gone) in sorted {
            if let Some((_, known)) = dns.peers.iter_mut().find(|(peer, _)| *peer == found.peer) {
                known.extend(ports.admit(&found.ports));
            } else if dns.peers.len() < MAX_PEERS {
                dns.peers.push((found.peer.clone(), ports.admit(&found.ports)));
            } else {
                left_out.insert(&found.peer);
                continue;
            }
            if dns.found.len() < MAX_DNS_FOUND {
                let kept = if gone { " (gone, kept for 10 minutes)" } else { "" };
                let source = format!("{}{kept}", found.source);
                dns.found.push(DnsFound { source: cut(&source, MAX_SOURCE), what: cut(&found.words(), MAX_WHAT) });
            } else {
                dns.found_omitted += 1;
            }
        }
        dns.left_out = left_out.len();
        if !ports.refused.is_empty() {
            dns.gaps.push({
                let refused: Vec<String> = ports.refused.iter().map(ToString::to_string).collect();
                format!(
                    "DNS was found on more ports than the {MAX_PORTS} that fit beside {PORT}: add {} to spec.dns.ports",
                    refused.join(", ")
                )
            });
        }
        dns
    }

    /// What to allow, and its ports beside 53. At most 64 peers and 8 ports.
    pub fn peers(&self) -> &[(Peer, BTreeSet<u16>)] {
        &self.peers
    }

    /// Namespaces that a baseline must not close.
    pub fn namespaces(&self) -> impl Iterator<Item = &'static str> {
        self.namespaces.iter().copied()
    }

    /// Whether baselines plan the same with both.
    pub fn plans_as(&self, other: &Self) -> bool {
        self.peers == other.peers && self.namespaces == other.namespaces
    }

    /// What no policy can express, with what to do; none when all was expressed.
    pub fn gap(&self) -> Option<String> {
        (!self.gaps.is_empty()).then(|| self.gaps.join("; "))
    }

    /// What is allowed, in words and bounded, for the log.
    pub fn words(&self) -> String {
        let words: Vec<&str> = self.found.iter().map(|found| found.what.as_str()).collect();
        cut(&words.join("; "), MAX_WORDS)
    }

    /// What a status tells of it.
    pub fn status(&self) -> DnsStatus {
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let mut notes = self.notes.clone();
        if self.peers.is_empty() {
            let always =
                format!("no DNS was found: pods k8s-app={KUBE_DNS} in {KUBE_SYSTEM} on port {PORT} are allowed, as always");
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

/// Ports beside 53, at most so many.
#[derive(Default)]
struct Ports {
    admitted: BTreeSet<u16>,
    refused: BTreeSet<u16>,
}

impl Ports {
    /// Those of these that have room.
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

/// A text of at most so many characters.
fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.into();
    }
    text.chars().take(most - 1).chain(['…']).collect()
}
