//! Judges a flow: whether policies allow it in each direction, and which rule of which policy does, or which policies deny it.

use std::net::IpAddr;

use serde::Serialize;
use strum::IntoStaticStr;

use super::{
    compile::{CompiledPeer, CompiledPolicies, CompiledPort, CompiledRule, Way},
    objects::{FlowPod, PolicyRef},
};
use crate::api::peers::Protocol;

/// A flow.
#[derive(Clone, Copy, Debug)]
pub struct Flow {
    pub from: Party,
    pub to: Party,
    pub protocol: Protocol,
    /// The port of the destination.
    pub port: u16,
}

/// One end of a flow: a pod, or an address that no pod of the pod network has.
#[derive(Clone, Copy, Debug)]
pub struct Party {
    /// The number of the pod in the snapshot.
    pub pod: Option<usize>,
    /// The address; none for a pod that has none yet.
    pub address: Option<IpAddr>,
}

/// What the policies say about a flow in one direction.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(tag = "result", rename_all = "camelCase")]
pub enum DirectionVerdict<'a> {
    /// The pod is selected by no policy for this direction, so everything is allowed.
    NotIsolated,
    /// These rules allow the flow.
    Allowed { by: Vec<RuleRef<'a>> },
    /// These policies isolate the pod, and no rule of them allows the flow.
    Denied { by: Vec<PolicyRef<'a>> },
    /// One end is a pod, and the other one is its node. That is always allowed.
    OwnNode,
    /// The pod talks to itself. That is always allowed.
    Itself,
    /// This end is no pod, so no policy is about it.
    NotAPod,
    /// The pod is on the host network, and its policies deny the flow. Kubernetes does not define what they mean for it.
    OnHostNetwork,
    /// The other end is a pod on the host network. These rules select it by labels, which only some network plugins apply to such pods.
    PeerOnHostNetwork { by: Vec<RuleRef<'a>> },
    /// No rule that was read allows the flow. These policies could not be read: they may isolate the pod, or allow the flow.
    Unread { by: Vec<PolicyRef<'a>> },
    /// One of the pods has ended, so there is no such flow.
    Ended,
}

/// Whether a flow is allowed.
#[derive(Clone, Copy, Debug, Eq, IntoStaticStr, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "camelCase")]
#[strum(const_into_str, serialize_all = "lowercase")]
pub enum FlowDecision {
    /// Both directions are allowed.
    Allowed,
    /// Kubernetes does not define what the policies mean for this flow, or not all of them could be read.
    Undecided,
    /// At least one direction is denied.
    Denied,
}

/// A rule of a policy, and the entries of its lists that match.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
pub struct RuleRef<'a> {
    #[serde(flatten)]
    pub policy: PolicyRef<'a>,
    /// The index of the rule.
    pub rule: usize,
    /// The index of the peer; none if the rule names no peers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer: Option<usize>,
    /// The index of the port; none if the rule names no ports.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<usize>,
}

impl<'a> DirectionVerdict<'a> {
    /// Which policies stand in the way; none for a reason that is no policy.
    pub fn blamed(&self) -> impl Iterator<Item = Option<PolicyRef<'a>>> {
        let blamed: Vec<Option<PolicyRef<'a>>> = match self {
            Self::NotIsolated | Self::Allowed { .. } | Self::OwnNode | Self::Itself | Self::NotAPod => vec![],
            Self::Denied { by } | Self::Unread { by } => by.iter().copied().map(Some).collect(),
            Self::PeerOnHostNetwork { by } => by.iter().map(|rule| Some(rule.policy)).collect(),
            Self::OnHostNetwork | Self::Ended => vec![None],
        };
        blamed.into_iter()
    }

    /// Whether this direction is allowed.
    pub const fn decision(&self) -> FlowDecision {
        match self {
            Self::NotIsolated | Self::Allowed { .. } | Self::OwnNode | Self::Itself | Self::NotAPod => FlowDecision::Allowed,
            Self::OnHostNetwork | Self::PeerOnHostNetwork { .. } | Self::Unread { .. } | Self::Ended => FlowDecision::Undecided,
            Self::Denied { .. } => FlowDecision::Denied,
        }
    }
}

impl<'a> CompiledPolicies<'a> {
    /// Judges a flow in one direction: the egress of its source, or the ingress of its destination.
    pub fn judge(&self, flow: &Flow, way: Way) -> DirectionVerdict<'a> {
        let (own, peer) = match way {
            Way::Egress => (flow.from, flow.to),
            Way::Ingress => (flow.to, flow.from),
        };
        let pod = |party: Party| self.snapshot.pods.get(party.pod?);
        let Some(own_pod) = pod(own) else { return DirectionVerdict::NotAPod };
        let peer_pod = pod(peer);
        let class = own.pod.and_then(|pod| self.classes.class(pod));
        let Some(class) = class.filter(|_| peer_pod.is_none_or(|pod| !pod.has_ended)) else { return DirectionVerdict::Ended };
        if own.pod == peer.pod {
            return DirectionVerdict::Itself;
        }
        if is_own_node(own_pod, peer, peer_pod) {
            return DirectionVerdict::OwnNode;
        }
        let isolating = &self.isolating.of(way)[class as usize];
        let seen = SeenPeer {
            class: peer.pod.and_then(|pod| self.classes.class(pod)),
            address: peer.address,
            is_by_labels: peer_pod.is_some_and(|pod| pod.on_host_network),
        };
        let (by, by_labels) = self.allowing_rules(isolating, flow, way, &seen);
        let unread: Vec<_> = self.snapshot.unread_policies_of(&own_pod.namespace).collect();
        match (by.is_empty(), by_labels.is_empty()) {
            (false, _) => DirectionVerdict::Allowed { by },
            (true, _) if !unread.is_empty() => DirectionVerdict::Unread { by: unread },
            (true, _) if isolating.is_empty() => DirectionVerdict::NotIsolated,
            // A network plugin may ignore policies for such a pod, and may apply them.
            (true, _) if own_pod.on_host_network => DirectionVerdict::OnHostNetwork,
            (true, false) => DirectionVerdict::PeerOnHostNetwork { by: by_labels },
            (true, true) => DirectionVerdict::Denied { by: isolating.iter().filter_map(|number| self.policy(*number)).collect() },
        }
    }

    /// The rules of these policies that allow a flow, and those that do so only by the labels of a pod on the host network.
    fn allowing_rules(&self, isolating: &[u32], flow: &Flow, way: Way, seen: &SeenPeer) -> (Vec<RuleRef<'a>>, Vec<RuleRef<'a>>) {
        let destination = flow.to.pod.and_then(|pod| self.snapshot.pods.get(pod));
        let (mut by, mut by_labels) = (Vec::new(), Vec::new());
        for (policy, number) in isolating.iter().filter_map(|number| Some((self.policy(*number)?, *number as usize))) {
            for (rule, index) in self.policies[number].of(way).iter().flatten().zip(0..) {
                let Some(port) = rule.port(flow, destination) else { continue };
                let Some((peer, is_by_labels)) = self.peer(rule, seen) else { continue };
                let rule = RuleRef { policy, rule: index, peer: peer.index(), port: port.index() };
                if is_by_labels { by_labels.push(rule) } else { by.push(rule) }
            }
        }
        (by, by_labels)
    }

    fn policy(&self, number: u32) -> Option<PolicyRef<'a>> {
        let policy = self.snapshot.policies.get(number as usize)?;
        Some(PolicyRef { namespace: &policy.namespace, name: &policy.name })
    }

    /// The peer of a rule that matches, and whether only the labels of a pod on the host network match. None: no peer matches. Of several,
    /// it is the first one that selects pods by labels: an address changes with the pod.
    fn peer(&self, rule: &CompiledRule<'_>, seen: &SeenPeer) -> Option<(ListMatch, bool)> {
        let Some(peers) = &rule.peers else { return Some((ListMatch::NoList, false)) };
        let matches = |kind: &CompiledPeer| match kind {
            CompiledPeer::Pods(set) => seen.class.is_some_and(|class| self.sets[*set as usize].has(class)),
            CompiledPeer::Addresses(range) => seen.address.is_some_and(|address| self.ranges[*range as usize].has(address)),
            CompiledPeer::Nobody => false,
        };
        let is_by_labels = |kind: &CompiledPeer| seen.is_by_labels && matches!(kind, CompiledPeer::Pods(_));
        let rank = |kind: &CompiledPeer| match kind {
            kind if is_by_labels(kind) => 2,
            CompiledPeer::Pods(_) => 0,
            CompiledPeer::Addresses(_) | CompiledPeer::Nobody => 1,
        };
        let all = peers.iter().enumerate().filter(|(_, kind)| matches(kind));
        let (index, kind) = all.min_by_key(|(_, kind)| rank(kind))?;
        Some((ListMatch::Entry(index), is_by_labels(kind)))
    }
}

/// What matches in a list of peers or ports.
#[derive(Clone, Copy)]
enum ListMatch {
    /// The rule has no such list, so everything matches.
    NoList,
    /// The entry with this index.
    Entry(usize),
}

impl ListMatch {
    const fn index(self) -> Option<usize> {
        match self {
            Self::NoList => None,
            Self::Entry(index) => Some(index),
        }
    }
}

/// The other end of a flow, as peers of rules see it.
struct SeenPeer {
    class: Option<u32>,
    address: Option<IpAddr>,
    /// It is a pod on the host network: most network plugins see the address of its node, and not its labels.
    is_by_labels: bool,
}

/// Whether one end is the node of the other: by its address, or because it is a pod on the host network of that node.
fn is_own_node(own: &FlowPod, peer: Party, peer_pod: Option<&FlowPod>) -> bool {
    match peer_pod {
        None => peer.address.is_some_and(|address| own.node_addresses.contains(&address)),
        Some(pod) => (own.on_host_network || pod.on_host_network) && own.node.is_some() && own.node == pod.node,
    }
}

impl CompiledRule<'_> {
    /// The first port of the rule that matches. None: no port matches.
    fn port(&self, flow: &Flow, destination: Option<&FlowPod>) -> Option<ListMatch> {
        let Some(ports) = &self.ports else { return Some(ListMatch::NoList) };
        ports.iter().position(|port| port.matches((flow.protocol, flow.port), destination)).map(ListMatch::Entry)
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
                    pod.ports.iter().any(|port| port.number == number && port.protocol == protocol && port.name == name)
                };
                protocol == of && destination.is_some_and(has)
            }
            Self::None => false,
        }
    }
}
