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
    policy::{flow::Way, netpol::NAME_LABEL},
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

/// What several namespaces need.
#[derive(Debug, Default)]
pub struct SharedNeeds(BTreeMap<(SharedPeer, &'static str), SharedNeed>);

#[derive(Debug, Default)]
struct SharedNeed {
    flows: u64,
    namespaces: BTreeSet<String>,
    ports: BTreeSet<(Protocol, u16)>,
}

impl SharedNeeds {
    /// Notes flows between pods of a namespace and a peer, in the direction that is denied.
    pub fn note(&mut self, namespace: &str, peer: SharedPeer, way: Way, ports: &BTreeSet<(Protocol, u16)>, flows: u64) {
        // Within a namespace, both directions are denied, and one entry allows both.
        let way = if peer == SharedPeer::SameNamespace { "" } else { way.into_str() };
        let need = self.0.entry((peer, way)).or_default();
        need.flows = need.flows.saturating_add(flows);
        need.namespaces.insert(namespace.to_owned());
        need.ports.extend(ports);
    }

    /// The entries, for what enough namespaces need.
    ///
    /// `taken` are the names that no entry may have.
    pub fn allows(self, taken: impl Iterator<Item = String>) -> Vec<SuggestedAllow> {
        let mut names: BTreeSet<String> = taken.collect();
        let is_shared = |peer: &SharedPeer, need: &SharedNeed| match peer {
            // Its addresses change, and the operator follows them.
            SharedPeer::KubernetesApi => true,
            SharedPeer::Addresses(cidrs, _) if cidrs.len() > MOST_PEERS => false,
            SharedPeer::SameNamespace | SharedPeer::Pods(..) | SharedPeer::Addresses(..) => {
                need.namespaces.len() >= MANY && need.ports.len() <= MOST_PORTS
            }
        };
        let shared = self.0.into_iter().filter(|((peer, _), need)| is_shared(peer, need));
        shared.map(|((peer, way), need)| need.allow(peer, way, &mut names)).collect()
    }
}

impl SharedNeed {
    fn allow(self, peer: SharedPeer, way: &str, names: &mut BTreeSet<String>) -> SuggestedAllow {
        let number = |(protocol, port): &(Protocol, u16)| Port {
            protocol: *protocol,
            port: IntOrString::Int((*port).into()),
            end_port: None,
        };
        let ports: Option<Vec<Port>> = Some(self.ports.iter().map(number).collect());
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
                (namespace, vec![pods], ports)
            }
            SharedPeer::Addresses(cidrs, _) => {
                let block = |cidr| AllowPeer { ip_block: Some(IpBlock { cidr, except: vec![] }), ..AllowPeer::default() };
                ("addresses".to_owned(), cidrs.into_iter().map(block).collect(), ports)
            }
        };
        let prefix = match way {
            "egress" if name != "kubernetes-api" => "to-",
            "ingress" => "from-",
            _ => "",
        };
        let (ingress, egress) = match way {
            "egress" => (None, Some(peers)),
            "ingress" => (Some(peers), None),
            _ => (Some(peers.clone()), Some(peers)),
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
            name: free_name(&format!("{prefix}{name}"), names),
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
