//! What the rules of all kinds of policies are compiled to: a direction, ports, and sets of classes of pods.

use std::collections::HashMap;

use k8s_openapi::{
    api::networking::v1::{NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec},
    apimachinery::pkg::{apis::meta::v1::LabelSelector, util::intstr::IntOrString},
};
use strum::IntoStaticStr;

use super::{
    classes::{ClassSet, Classes},
    cluster_policy::TierPort,
    objects::FlowPod,
    selector::{LabelTests, Symbols},
};
use crate::api::peers::Protocol;

/// The direction of the traffic that a policy is about.
#[derive(Clone, Copy, Debug, Eq, IntoStaticStr, Ord, PartialEq, PartialOrd)]
#[strum(const_into_str, serialize_all = "lowercase")]
pub enum Way {
    /// What a pod sends.
    Egress,
    /// What a pod receives.
    Ingress,
}

impl Way {
    /// The entries of a policy that match, as a path: `spec.ingress[0].from[1] with ports[0]`.
    pub fn place(self, rule: usize, peer: Option<usize>, port: Option<(&str, usize)>) -> String {
        let (rules, peers) = match self {
            Self::Egress => ("egress", "to"),
            Self::Ingress => ("ingress", "from"),
        };
        let in_peers = peer.map(|index| format!(".{peers}[{index}]")).unwrap_or_default();
        let in_ports = port.map(|(ports, index)| format!("{ports}[{index}]"));
        let in_ports = match (in_ports, peer) {
            (Some(port), Some(_)) => format!(" with {port}"),
            (Some(port), None) => format!(".{port}"),
            (None, _) => String::new(),
        };
        format!("spec.{rules}[{rule}]{in_peers}{in_ports}")
    }

    /// The peers and the ports of each rule of this direction. Empty lists stand for absent ones, too.
    pub fn rules(self, spec: &NetworkPolicySpec) -> Vec<(&[NetworkPolicyPeer], &[NetworkPolicyPort])> {
        fn list<T>(list: Option<&Vec<T>>) -> &[T] {
            list.map(Vec::as_slice).unwrap_or_default()
        }
        let egress = || spec.egress.iter().flatten().map(|rule| (list(rule.to.as_ref()), list(rule.ports.as_ref())));
        let ingress = || spec.ingress.iter().flatten().map(|rule| (list(rule.from.as_ref()), list(rule.ports.as_ref())));
        match self {
            Self::Egress => egress().collect(),
            Self::Ingress => ingress().collect(),
        }
    }
}

/// One value for each direction.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct BothWays<T> {
    pub egress: T,
    pub ingress: T,
}

impl<T> BothWays<T> {
    /// The value of a direction.
    pub const fn of(&self, way: Way) -> &T {
        match way {
            Way::Egress => &self.egress,
            Way::Ingress => &self.ingress,
        }
    }

    /// The same, to be changed.
    pub const fn of_mut(&mut self, way: Way) -> &mut T {
        match way {
            Way::Egress => &mut self.egress,
            Way::Ingress => &mut self.ingress,
        }
    }
}

/// Ports of a rule.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum CompiledPort<'a> {
    /// Every port of a protocol.
    Every(Protocol),
    /// From the first to the last number.
    Numbers(Protocol, u16, u16),
    /// The container ports of the destination with this name; none: of any protocol.
    Name(Option<Protocol>, &'a str),
    /// The API server takes no such port.
    None,
}

impl<'a> CompiledPort<'a> {
    /// The port of a NetworkPolicy.
    pub fn of(port: &'a NetworkPolicyPort) -> Self {
        let Some(protocol) = Protocol::named(port.protocol.as_deref()) else { return Self::None };
        let number = |number: i32| u16::try_from(number).ok().filter(|number| *number > 0);
        match (&port.port, port.end_port) {
            (None, None) => Self::Every(protocol),
            (Some(IntOrString::String(name)), None) => Self::Name(Some(protocol), name),
            (Some(IntOrString::Int(first)), last) => match (number(*first), number(last.unwrap_or(*first))) {
                (Some(first), Some(last)) => Self::Numbers(protocol, first, last),
                _ => Self::None,
            },
            (None | Some(IntOrString::String(_)), Some(_)) => Self::None,
        }
    }

    /// The port of a policy of a tier.
    pub fn of_tier(port: &'a TierPort) -> Self {
        match port {
            TierPort::Every(protocol) => Self::Every(*protocol),
            TierPort::Numbers(protocol, first, last) => Self::Numbers(*protocol, *first, *last),
            TierPort::Name(name) => Self::Name(None, name),
            TierPort::Unknown => Self::None,
        }
    }
}

impl CompiledPort<'_> {
    /// Whether it is about this port of a destination, which may be a pod.
    pub fn matches(&self, (of, number): (Protocol, u16), destination: Option<&FlowPod>) -> bool {
        match *self {
            Self::Every(protocol) => protocol == of,
            Self::Numbers(protocol, first, last) => protocol == of && (first..=last).contains(&number),
            Self::Name(protocol, name) => {
                let has = |pod: &FlowPod| {
                    pod.ports.iter().any(|port| port.number == number && port.protocol == of && port.name == name)
                };
                protocol.is_none_or(|protocol| protocol == of) && destination.is_some_and(has)
            }
            Self::None => false,
        }
    }
}

/// A selector that selects everything.
pub static EVERYTHING: LabelSelector = LabelSelector { match_expressions: None, match_labels: None };

/// The sets of classes that peers select, each once.
#[derive(Debug)]
pub struct PeerSets<'a, 'c> {
    pub classes: &'c Classes<'a>,
    pub symbols: &'c mut Symbols<'a>,
    known: HashMap<SelectedPods<'a>, u32>,
    pub sets: Vec<ClassSet>,
}

/// What the selectors of a peer select.
#[derive(Debug, Eq, Hash, PartialEq)]
pub enum SelectedPods<'a> {
    /// Pods of the policy's own namespace.
    Own(&'a str, LabelTests),
    /// Pods of the selected namespaces.
    Of(LabelTests, LabelTests),
}

impl<'a, 'c> PeerSets<'a, 'c> {
    /// No set yet.
    pub fn new(classes: &'c Classes<'a>, symbols: &'c mut Symbols<'a>) -> Self {
        Self { classes, symbols, known: HashMap::new(), sets: Vec::new() }
    }

    /// The number of a set.
    pub fn number(&mut self, selected: SelectedPods<'a>) -> u32 {
        let (classes, sets) = (self.classes, &mut self.sets);
        *self.known.entry(selected).or_insert_with_key(|selected| {
            let set = match selected {
                SelectedPods::Own(namespace, pods) => classes.in_namespace(namespace, pods),
                SelectedPods::Of(namespaces, pods) => classes.in_namespaces(namespaces, pods),
            };
            sets.push(set);
            u32::try_from(sets.len() - 1).unwrap_or(u32::MAX)
        })
    }
}
