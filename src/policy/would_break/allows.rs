//! Entries of `spec.allows` for what several namespaces need: one decision of the platform, instead of a policy in each namespace.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde::Serialize;

use crate::{
    api::{
        AllowName,
        allows::{Allow, AllowPeer, EgressAllow, IngressAllow, KubernetesApiPeer},
        peers::{IpBlock, Port, Protocol, SameNamespace},
        selector::{Operator, Requirement, Selector},
    },
    policy::{
        flow::{BothWays, Way},
        netpol::NAME_LABEL,
    },
};

/// The fewest namespaces that make it a decision of the platform.
const MANY: usize = 3;
/// The longest lists of the CRD.
const MOST_PORTS: usize = 16;
const MOST_PEERS: usize = 8;
const MOST_NAMESPACES: usize = 16;

/// The other end of flows of several namespaces.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum SharedPeer {
    /// Each namespace itself.
    SameNamespace,
    /// The API server.
    KubernetesApi,
    /// Pods of another namespace, by these labels.
    Pods(String, BTreeMap<String, String>),
    /// Ranges of addresses, and the ports at them: what is open at one of them should not be open at others.
    Addresses(Vec<String>, BTreeSet<(Protocol, u16)>),
}

/// An entry of `spec.allows` that would let through flows of several namespaces.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SuggestedAllow {
    pub allow: Allow,
    /// How many of the recorded flows need it.
    pub flows: u64,
    /// The namespaces with these flows.
    pub namespaces: BTreeSet<String>,
}

/// What several namespaces need: for each peer and direction, for each port, how many flows each namespace has. Within a namespace, both
/// directions are one entry, which has none.
#[derive(Debug, Default)]
pub struct SharedNeeds(BTreeMap<(SharedPeer, Option<Way>), FlowsByPort>);

type FlowsByPort = BTreeMap<(Protocol, u16), FlowsByNamespace>;

/// The flows of each namespace, by direction. A flow within a namespace may be denied in both.
type FlowsByNamespace = BTreeMap<String, BothWays<u64>>;

/// What the same namespaces need of a peer.
#[derive(Debug, Default)]
struct SharedNeed {
    flows: u64,
    namespaces: BTreeSet<String>,
    ports: BTreeSet<(Protocol, u16)>,
}

impl SharedNeeds {
    /// Notes flows between pods of a namespace and a peer, in the direction that is denied.
    pub fn note(&mut self, namespace: &str, peer: &SharedPeer, way: Way, flows: &BTreeMap<(Protocol, u16), u64>) {
        let of_peer = (*peer != SharedPeer::SameNamespace).then_some(way);
        let of_peer = self.0.entry((peer.clone(), of_peer)).or_default();
        for (port, count) in flows {
            let noted = of_peer.entry(*port).or_default().entry(namespace.to_owned()).or_default().of_mut(way);
            *noted = noted.saturating_add(*count);
        }
    }

    /// The entries, for what enough namespaces need.
    ///
    /// `taken` are the names that no entry may have.
    pub fn allows(self, taken: impl Iterator<Item = String>) -> Vec<SuggestedAllow> {
        let mut names: BTreeSet<String> = taken.collect();
        let mut all = Vec::new();
        for ((peer, way), ports) in self.0 {
            // Ports that other namespaces need are an entry of their own: no port is opened to a namespace that does not need it.
            let mut needs: BTreeMap<BTreeSet<String>, SharedNeed> = BTreeMap::new();
            for (port, of_port) in ports {
                let namespaces: BTreeSet<String> = of_port.keys().cloned().collect();
                // The addresses of the API server change, and the operator follows them. All its ports are found, too.
                if peer != SharedPeer::KubernetesApi && namespaces.len() < MANY {
                    continue;
                }
                let key = if peer == SharedPeer::KubernetesApi { BTreeSet::new() } else { namespaces.clone() };
                let need = needs.entry(key).or_default();
                need.flows = of_port.values().fold(need.flows, |sum, both| sum.saturating_add(both.egress.max(both.ingress)));
                need.namespaces.extend(namespaces);
                need.ports.insert(port);
            }
            let is_too_long = |need: &SharedNeed| match &peer {
                SharedPeer::KubernetesApi => false,
                SharedPeer::Addresses(cidrs, _) if cidrs.len() > MOST_PEERS => true,
                SharedPeer::SameNamespace | SharedPeer::Pods(..) | SharedPeer::Addresses(..) => need.ports.len() > MOST_PORTS,
            };
            let needs = needs.into_values().filter(|need| !is_too_long(need));
            all.extend(needs.map(|need| need.allow(peer.clone(), way, &mut names)));
        }
        all
    }
}

impl SharedNeed {
    fn allow(self, peer: SharedPeer, way: Option<Way>, names: &mut BTreeSet<String>) -> SuggestedAllow {
        let number = |(protocol, port): &(Protocol, u16)| Port {
            protocol: *protocol,
            port: IntOrString::Int((*port).into()),
            end_port: None,
        };
        let ports: Option<Vec<Port>> = Some(self.ports.iter().map(number).collect());
        let to_or_from = match way {
            Some(Way::Egress) => "to-",
            Some(Way::Ingress) => "from-",
            None => "",
        };
        let (name, peers, ports) = match peer {
            SharedPeer::SameNamespace => {
                let same = AllowPeer { same_namespace: Some(SameNamespace::default()), ..AllowPeer::default() };
                ("same-namespace".to_owned(), vec![same], ports)
            }
            SharedPeer::KubernetesApi => {
                let api = AllowPeer { kubernetes_api: Some(KubernetesApiPeer::default()), ..AllowPeer::default() };
                ("kubernetes-api".to_owned(), vec![api], None)
            }
            SharedPeer::Pods(namespace, labels) => {
                let of = Selector { match_labels: [(NAME_LABEL.to_owned(), namespace.clone())].into(), ..Selector::default() };
                let pods = (!labels.is_empty()).then(|| Selector { match_labels: labels, ..Selector::default() });
                let pods = AllowPeer { namespace_selector: Some(of), pod_selector: pods, ..AllowPeer::default() };
                (format!("{to_or_from}{namespace}"), vec![pods], ports)
            }
            SharedPeer::Addresses(cidrs, _) => {
                let block = |cidr| AllowPeer { ip_block: Some(IpBlock { cidr, except: vec![] }), ..AllowPeer::default() };
                (format!("{to_or_from}addresses"), cidrs.into_iter().map(block).collect(), ports)
            }
        };
        let (ingress, egress) = match way {
            Some(Way::Egress) => (None, Some(peers)),
            Some(Way::Ingress) => (Some(peers), None),
            None => (Some(peers.clone()), Some(peers)),
        };
        let namespace_selector = (self.namespaces.len() <= MOST_NAMESPACES).then(|| Selector {
            match_expressions: vec![Requirement {
                key: NAME_LABEL.into(),
                operator: Operator::In,
                values: self.namespaces.iter().cloned().collect(),
            }],
            ..Selector::default()
        });
        let allow = Allow {
            name: free_name(&name, names),
            namespace_selector,
            ingress: ingress.map(|from| vec![IngressAllow { from: Some(from), ports: ports.clone() }]),
            egress: egress.map(|to| vec![EgressAllow { to: Some(to), ports }]),
            ..Allow::default()
        };
        SuggestedAllow { allow, flows: self.flows, namespaces: self.namespaces }
    }
}

/// A name that an allow may have, and that none of these has.
fn free_name(wanted: &str, names: &mut BTreeSet<String>) -> String {
    let cut = |room: usize| wanted[..wanted.len().min(room)].trim_end_matches('-').to_owned();
    let numbered = (2_u32..).map(|number| {
        let end = format!("-{number}");
        format!("{}{end}", cut(AllowName::MOST - end.len()))
    });
    let is_free = |name: &String| AllowName::parse(name).is_some() && !names.contains(name);
    let name = std::iter::once(cut(AllowName::MOST)).chain(numbered).find(is_free).unwrap_or_default();
    names.insert(name.clone());
    name
}
