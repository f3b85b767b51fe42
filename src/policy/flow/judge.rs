//! Judges a flow: whether policies allow it in each direction, and which rule of which policy does, or which policies deny it.

use std::{fmt, net::IpAddr};

use serde::Serialize;
use strum::IntoStaticStr;

use super::{
    cluster_policy::{ClusterPolicyRef, PolicyTier, TierAction, UnreadClusterPolicy},
    compile::{CompiledPeer, CompiledPolicies, CompiledRule},
    objects::{FlowPod, PolicyRef},
    rule_parts::Way,
    tier_judge::{TierOutcome, TierQuestion, TierRuleRef, TierRuling},
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

impl Flow {
    /// The end that a direction is about, and the other one.
    pub const fn ends(&self, way: Way) -> (Party, Party) {
        match way {
            Way::Egress => (self.from, self.to),
            Way::Ingress => (self.to, self.from),
        }
    }
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
    /// These rules of the Admin tier, or of the Baseline tier, allow the flow.
    AllowedByTier { by: Vec<TierRuleRef<'a>> },
    /// These rules of the Admin tier, or of the Baseline tier, deny the flow.
    DeniedByTier { by: Vec<TierRuleRef<'a>> },
    /// Any of these rules of a tier may decide, and they do not all decide alike. Where none of them matches for certain, what follows decides.
    Unclear { by: Vec<TierRuling<'a>> },
    /// These policies of a tier could not be read. They may allow or deny the flow.
    UnreadTier { by: Vec<ClusterPolicyRef<'a>> },
    /// One of the pods has ended, so there is no such flow.
    Ended,
}

/// What stands in the way of a flow.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Blame<'a> {
    Policy(PolicyRef<'a>),
    ClusterPolicy(ClusterPolicyRef<'a>),
    /// A pod is on the host network, or has ended.
    NoPolicy,
}

impl fmt::Display for Blame<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Policy(policy) => write!(f, "{}/{}", policy.namespace, policy.name),
            Self::ClusterPolicy(policy) => policy.fmt(f),
            Self::NoPolicy => f.write_str("on the host network"),
        }
    }
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
    /// What stands in the way.
    pub fn blamed(&self) -> Vec<Blame<'a>> {
        match self {
            Self::NotIsolated
            | Self::Allowed { .. }
            | Self::AllowedByTier { .. }
            | Self::OwnNode
            | Self::Itself
            | Self::NotAPod => vec![],
            Self::Denied { by } | Self::Unread { by } => by.iter().copied().map(Blame::Policy).collect(),
            Self::PeerOnHostNetwork { by } => by.iter().map(|rule| Blame::Policy(rule.policy)).collect(),
            Self::DeniedByTier { by } => by.iter().map(|rule| Blame::ClusterPolicy(rule.policy)).collect(),
            Self::Unclear { by } => by.iter().map(|ruling| Blame::ClusterPolicy(ruling.rule.policy)).collect(),
            Self::UnreadTier { by } => by.iter().copied().map(Blame::ClusterPolicy).collect(),
            Self::OnHostNetwork | Self::Ended => vec![Blame::NoPolicy],
        }
    }

    /// Whether this direction is allowed.
    pub const fn decision(&self) -> FlowDecision {
        match self {
            Self::NotIsolated
            | Self::Allowed { .. }
            | Self::AllowedByTier { .. }
            | Self::OwnNode
            | Self::Itself
            | Self::NotAPod => FlowDecision::Allowed,
            Self::OnHostNetwork
            | Self::PeerOnHostNetwork { .. }
            | Self::Unread { .. }
            | Self::Unclear { .. }
            | Self::UnreadTier { .. }
            | Self::Ended => FlowDecision::Undecided,
            Self::Denied { .. } | Self::DeniedByTier { .. } => FlowDecision::Denied,
        }
    }

    /// Whether a rule denies the flow that no NetworkPolicy can overrule.
    pub fn is_denied_by_admin_tier(&self) -> bool {
        matches!(self, Self::DeniedByTier { by } if by.iter().any(|rule| rule.tier == PolicyTier::Admin))
    }

    /// What a tier decides, if it does so with certainty, or else what decides where the tier does not.
    fn after(TierOutcome { rulings, may_match_none }: TierOutcome<'a>, next: impl FnOnce() -> Self) -> Self {
        let passes = may_match_none || rulings.iter().any(|ruling| ruling.action == TierAction::Pass);
        let next = passes.then(next);
        let allows = |ruling: &&TierRuling<'_>| ruling.action == TierAction::Allow;
        let denies = |ruling: &&TierRuling<'_>| ruling.action == TierAction::Deny;
        let of_next = next.as_ref().map(Self::decision);
        let (may_allow, may_deny) = (rulings.iter().any(|one| allows(&one)), rulings.iter().any(|one| denies(&one)));
        let certain = |is_it: &dyn Fn(&&TierRuling<'a>) -> bool| rulings.iter().filter(is_it).map(|ruling| ruling.rule).collect();
        match (may_allow, may_deny, of_next) {
            (false, false, _) | (true, false, Some(FlowDecision::Allowed)) | (false, true, Some(FlowDecision::Denied)) => {
                next.unwrap_or(Self::NotIsolated)
            }
            (true, false, None) => Self::AllowedByTier { by: certain(&|one| allows(one) && one.doubt.is_none()) },
            (false, true, None) => Self::DeniedByTier { by: certain(&|one| denies(one) && one.doubt.is_none()) },
            (true, true, _) | (true, false, Some(_)) | (false, true, Some(_)) => Self::Unclear { by: rulings },
        }
    }
}

impl<'a> CompiledPolicies<'a> {
    /// Judges a flow in one direction: the egress of its source, or the ingress of its destination.
    pub fn judge(&self, flow: &Flow, way: Way) -> DirectionVerdict<'a> {
        let (own, peer) = flow.ends(way);
        let pod = |party: Party| self.snapshot.pods.get(party.pod?);
        let Some(own_pod) = pod(own) else { return DirectionVerdict::NotAPod };
        let peer_pod = pod(peer);
        let class = own.pod.and_then(|pod| self.classes.class(pod));
        let Some(class) = class.filter(|_| peer_pod.is_none_or(|pod| !pod.has_ended)) else { return DirectionVerdict::Ended };
        if own.pod == peer.pod {
            return DirectionVerdict::Itself;
        }
        let seen = self.seen_peer(peer);
        let isolating = &self.isolating.of(way)[class as usize];
        let by_policies = || {
            if is_own_node(own_pod, peer, peer_pod) {
                return DirectionVerdict::OwnNode;
            }
            self.judge_by_policies((own_pod, isolating), flow, way, &seen)
        };
        match self.tier_question(flow, way) {
            Some(asked) => self.judge_by_tiers(&asked, isolating.is_empty(), by_policies),
            None => by_policies(),
        }
    }

    /// The rule of the Admin tier that leaves a flow to NetworkPolicies, if it is certain that one does.
    pub fn passing_rule(&self, flow: &Flow, way: Way) -> Option<TierRuleRef<'a>> {
        self.tier_outcome(PolicyTier::Admin, &self.tier_question(flow, way)?).passing()
    }

    /// What the tiers are asked. None: there are no tiers, or they are not about this flow.
    pub fn tier_question(&self, flow: &Flow, way: Way) -> Option<TierQuestion<'a>> {
        if !self.snapshot.has_tiers() {
            return None;
        }
        let (own, peer) = flow.ends(way);
        let pod = |party: Party| self.snapshot.pods.get(party.pod?);
        let is_about = pod(own).is_some_and(|pod| !pod.on_host_network) && own.pod != peer.pod;
        let peer_class = peer.pod.and_then(|pod| self.classes.class(pod));
        let is_on_pod_network = pod(peer).is_some_and(|pod| !pod.on_host_network);
        let class = own.pod.and_then(|pod| self.classes.class(pod)).filter(|_| is_about)?;
        Some(TierQuestion {
            way,
            class,
            port: (flow.protocol, flow.port),
            destination: pod(flow.to),
            peer_class: peer_class.filter(|_| is_on_pod_network),
            peer_address: peer.address,
            may_be_node: !is_on_pod_network,
        })
    }

    /// Judges a flow by the Admin tier, then by NetworkPolicies, and then, unless one of these isolates the pod, by the Baseline tier.
    fn judge_by_tiers(
        &self,
        asked: &TierQuestion<'_>,
        is_open: bool,
        by_policies: impl Fn() -> DirectionVerdict<'a>,
    ) -> DirectionVerdict<'a> {
        let unread = |is_it: fn(&UnreadClusterPolicy) -> bool| {
            let all = self.snapshot.unread_cluster_policies.iter().filter(|one| is_it(one)).map(UnreadClusterPolicy::policy);
            Some(all.collect::<Vec<_>>()).filter(|all| !all.is_empty()).map(|by| DirectionVerdict::UnreadTier { by })
        };
        if let Some(unread) = unread(UnreadClusterPolicy::may_be_of_admin_tier) {
            return unread;
        }
        DirectionVerdict::after(self.tier_outcome(PolicyTier::Admin, asked), || {
            let verdict = by_policies();
            if !is_open || matches!(verdict, DirectionVerdict::Unread { .. }) {
                return verdict;
            }
            let unread = unread(|one| !one.may_be_of_admin_tier());
            unread.unwrap_or_else(|| DirectionVerdict::after(self.tier_outcome(PolicyTier::Baseline, asked), || verdict))
        })
    }

    /// Judges a flow by the NetworkPolicies that isolate a pod.
    fn judge_by_policies(
        &self,
        (own_pod, isolating): (&FlowPod, &[u32]),
        flow: &Flow,
        way: Way,
        seen: &SeenPeer,
    ) -> DirectionVerdict<'a> {
        let (by, by_labels) = self.allowing_rules(isolating, flow, way, seen);
        let unread: Vec<_> = self.snapshot.unread_policies_of(&own_pod.namespace).collect();
        match (by.is_empty(), by_labels.is_empty()) {
            (false, _) => DirectionVerdict::Allowed { by },
            (true, _) if !unread.is_empty() => DirectionVerdict::Unread { by: unread },
            (true, _) if isolating.is_empty() => DirectionVerdict::NotIsolated,
            // A network plugin may ignore policies for such a pod, and may apply them.
            (true, _) if own_pod.on_host_network => DirectionVerdict::OnHostNetwork,
            (true, false) => DirectionVerdict::PeerOnHostNetwork { by: by_labels },
            (true, true) => {
                // In one allocation: most flows in a closed cluster end here.
                let mut by = Vec::with_capacity(isolating.len());
                by.extend(isolating.iter().filter_map(|number| self.policy(*number)));
                DirectionVerdict::Denied { by }
            }
        }
    }

    /// The rules of these policies that allow a flow, and those that do so only by the labels of a pod on the host network.
    fn allowing_rules(&self, isolating: &[u32], flow: &Flow, way: Way, seen: &SeenPeer) -> (Vec<RuleRef<'a>>, Vec<RuleRef<'a>>) {
        let destination = flow.to.pod.and_then(|pod| self.snapshot.pods.get(pod));
        let (mut by, mut by_labels) = (Vec::new(), Vec::new());
        for number in isolating {
            for (rule, index) in self.policies[*number as usize].of(way).iter().flatten().zip(0..) {
                let Some(port) = rule.port(flow, destination) else { continue };
                let Some((peer, is_by_labels)) = self.peer(rule, seen) else { continue };
                let Some(policy) = self.policy(*number) else { continue };
                let rule = RuleRef { policy, rule: index, peer: peer.index(), port: port.index() };
                if is_by_labels { by_labels.push(rule) } else { by.push(rule) }
            }
        }
        (by, by_labels)
    }

    /// The other end of a flow, as peers of rules see it.
    pub fn seen_peer(&self, peer: Party) -> SeenPeer {
        let pod = peer.pod.and_then(|pod| self.snapshot.pods.get(pod));
        SeenPeer {
            class: peer.pod.and_then(|pod| self.classes.class(pod)),
            address: peer.address,
            is_by_labels: pod.is_some_and(|pod| pod.on_host_network),
        }
    }

    /// A policy, by its number.
    pub fn policy(&self, number: u32) -> Option<PolicyRef<'a>> {
        let policy = self.snapshot.policies.get(number as usize)?;
        Some(PolicyRef { namespace: &policy.namespace, name: &policy.name })
    }

    /// The peer of a rule that matches, and whether only the labels of a pod on the host network match. None: no peer matches. Of several,
    /// it is the first one that selects pods by labels: an address changes with the pod.
    pub fn peer(&self, rule: &CompiledRule<'_>, seen: &SeenPeer) -> Option<(ListMatch, bool)> {
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
#[derive(Clone, Copy, Debug)]
pub enum ListMatch {
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
#[derive(Debug)]
pub struct SeenPeer {
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
    pub fn port(&self, flow: &Flow, destination: Option<&FlowPod>) -> Option<ListMatch> {
        let Some(ports) = &self.ports else { return Some(ListMatch::NoList) };
        ports.iter().position(|port| port.matches((flow.protocol, flow.port), destination)).map(ListMatch::Entry)
    }
}
