//! Decides flows without saying why: the same verdicts as `judge.rs`, without names and without an allocation for each flow. For each list of
//! policies that isolates pods, the rules are joined once, so that what several policies repeat is compared once.

use std::{
    cell::OnceCell,
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    net::IpAddr,
};

use super::{
    cluster_policy::{PolicyTier, UnreadClusterPolicy},
    compile::{CompiledPeer, CompiledPolicies},
    judge::{Flow, FlowDecision, Party},
    objects::FlowPod,
    ranges::AddressSet,
    rule_parts::{BothWays, CompiledPort, Way},
    tier_judge::{TierQuestion, TierTally},
};
use crate::api::peers::Protocol;

/// Decides flows by compiled policies. It pays for itself where many flows are decided.
#[derive(Debug)]
pub struct FlowDecider<'c, 'a> {
    compiled: &'c CompiledPolicies<'a>,
    /// In the order of the snapshot.
    pods: Vec<DecidedPod>,
    isolating: BothWays<IsolatingLists<'c, 'a>>,
    /// A policy could not be read that may be of the Admin tier, or that is of the Baseline tier.
    has_unread_admin: bool,
    has_unread_baseline: bool,
}

/// What is compared of a pod.
#[derive(Clone, Copy, Debug)]
struct DecidedPod {
    /// None: it has ended.
    class: Option<u32>,
    /// The number of its node.
    node: Option<u32>,
    on_host_network: bool,
    /// Policies of its namespace could not be read.
    has_unread: bool,
}

/// The lists of policies that isolate pods in one direction, each once.
#[derive(Debug)]
struct IsolatingLists<'c, 'a> {
    /// For each class the number of its list.
    of_class: Vec<u32>,
    lists: Vec<(&'c [u32], OnceCell<Vec<JoinedRule<'a>>>)>,
}

/// All rules of a list of policies that have the same ports.
#[derive(Debug, Default)]
struct JoinedRule<'a> {
    /// None: every port.
    ports: Option<Vec<CompiledPort<'a>>>,
    is_for_everybody: bool,
    /// The sets of classes, by number.
    sets: Vec<u32>,
    addresses: AddressSet,
}

/// Whether rules allow a flow.
#[derive(Clone, Copy, PartialEq)]
enum Allows {
    No,
    /// Only by the labels of a pod on the host network.
    ByLabels,
    Yes,
}

/// A flow in one direction, as rules see it.
#[derive(Clone, Copy)]
struct SeenFlow<'s> {
    port: (Protocol, u16),
    destination: Option<&'s FlowPod>,
    peer_class: Option<u32>,
    peer_address: Option<IpAddr>,
    peer_on_host_network: bool,
}

impl<'c, 'a> FlowDecider<'c, 'a> {
    /// Prepares what decides flows.
    pub fn of(compiled: &'c CompiledPolicies<'a>) -> Self {
        let snapshot = compiled.snapshot;
        let unread: HashSet<&str> = snapshot.unread_policies.iter().map(|policy| &*policy.namespace).collect();
        let mut nodes: HashMap<&str, u32> = HashMap::new();
        let pods = snapshot.pods.iter().enumerate().map(|(number, pod)| {
            let next = u32::try_from(nodes.len()).unwrap_or(u32::MAX);
            DecidedPod {
                class: compiled.classes.class(number),
                node: pod.node.as_deref().map(|node| *nodes.entry(node).or_insert(next)),
                on_host_network: pod.on_host_network,
                has_unread: unread.contains(&*pod.namespace),
            }
        });
        let unread_tiers = &snapshot.unread_cluster_policies;
        Self {
            compiled,
            pods: pods.collect(),
            isolating: BothWays {
                egress: IsolatingLists::of(&compiled.isolating.egress),
                ingress: IsolatingLists::of(&compiled.isolating.ingress),
            },
            has_unread_admin: unread_tiers.iter().any(UnreadClusterPolicy::may_be_of_admin_tier),
            has_unread_baseline: unread_tiers.iter().any(|one| !one.may_be_of_admin_tier()),
        }
    }

    /// Decides a flow.
    pub fn decides(&self, flow: &Flow) -> FlowDecision {
        match self.direction(flow, Way::Egress) {
            // Nothing is worse.
            FlowDecision::Denied => FlowDecision::Denied,
            egress @ (FlowDecision::Allowed | FlowDecision::Undecided) => egress.max(self.direction(flow, Way::Ingress)),
        }
    }

    /// Decides a flow in one direction: the egress of its source, or the ingress of its destination.
    pub fn direction(&self, flow: &Flow, way: Way) -> FlowDecision {
        let (own, peer) = flow.ends(way);
        let pod = |party: Party| self.pods.get(party.pod?);
        let Some(own_pod) = pod(own) else { return FlowDecision::Allowed };
        let peer_pod = pod(peer);
        let Some(class) = own_pod.class.filter(|_| peer_pod.is_none_or(|pod| pod.class.is_some())) else {
            return FlowDecision::Undecided;
        };
        if own.pod == peer.pod {
            return FlowDecision::Allowed;
        }
        let (is_open, rules) = self.isolating.of(way).rules(class, self.compiled, way);
        let by_policies = || {
            if self.is_own_node(own, own_pod, peer, peer_pod) {
                return FlowDecision::Allowed;
            }
            let seen = SeenFlow {
                port: (flow.protocol, flow.port),
                destination: flow.to.pod.and_then(|pod| self.compiled.snapshot.pods.get(pod)),
                peer_class: peer_pod.and_then(|pod| pod.class),
                peer_address: peer.address,
                peer_on_host_network: peer_pod.is_some_and(|pod| pod.on_host_network),
            };
            match self.allows(rules, &seen) {
                Allows::Yes => FlowDecision::Allowed,
                _ if own_pod.has_unread => FlowDecision::Undecided,
                _ if is_open => FlowDecision::Allowed,
                _ if own_pod.on_host_network => FlowDecision::Undecided,
                Allows::ByLabels => FlowDecision::Undecided,
                Allows::No => FlowDecision::Denied,
            }
        };
        match self.compiled.tier_question(flow, way) {
            Some(asked) => self.by_tiers(&asked, is_open, by_policies),
            None => by_policies(),
        }
    }

    /// Decides by the Admin tier, then by NetworkPolicies, and then, unless one of these isolates the pod, by the Baseline tier.
    fn by_tiers(&self, asked: &TierQuestion<'_>, is_open: bool, by_policies: impl FnOnce() -> FlowDecision) -> FlowDecision {
        if self.has_unread_admin {
            return FlowDecision::Undecided;
        }
        self.compiled.tier_tally(PolicyTier::Admin, asked).decision(|| {
            let decision = by_policies();
            // Of an open pod, only a policy that could not be read leaves a flow undecided.
            if !is_open || decision == FlowDecision::Undecided {
                return decision;
            }
            if self.has_unread_baseline {
                return FlowDecision::Undecided;
            }
            self.compiled.tier_tally(PolicyTier::Baseline, asked).decision(|| decision)
        })
    }

    fn is_own_node(&self, own: Party, own_pod: &DecidedPod, peer: Party, peer_pod: Option<&DecidedPod>) -> bool {
        match (peer_pod, peer.address) {
            (Some(peer_pod), _) => {
                (own_pod.on_host_network || peer_pod.on_host_network) && own_pod.node.is_some() && own_pod.node == peer_pod.node
            }
            (None, Some(address)) => {
                let pod = own.pod.and_then(|pod| self.compiled.snapshot.pods.get(pod));
                pod.is_some_and(|pod| pod.node_addresses.contains(&address))
            }
            (None, None) => false,
        }
    }

    fn allows(&self, rules: &[JoinedRule<'_>], seen: &SeenFlow<'_>) -> Allows {
        let mut found = Allows::No;
        for rule in rules {
            if let Some(ports) = &rule.ports
                && !ports.iter().any(|port| port.matches(seen.port, seen.destination))
            {
                continue;
            }
            if rule.is_for_everybody || seen.peer_address.is_some_and(|address| rule.addresses.has(address)) {
                return Allows::Yes;
            }
            let has = |class: u32| rule.sets.iter().any(|set| self.compiled.sets[*set as usize].has(class));
            if seen.peer_class.is_some_and(has) {
                if !seen.peer_on_host_network {
                    return Allows::Yes;
                }
                found = Allows::ByLabels;
            }
        }
        found
    }
}

impl<'c, 'a> IsolatingLists<'c, 'a> {
    fn of(of_class: &'c [Vec<u32>]) -> Self {
        let mut numbers: HashMap<&[u32], u32> = HashMap::new();
        let mut lists = Vec::new();
        let number = |list: &'c Vec<u32>| {
            *numbers.entry(list).or_insert_with(|| {
                lists.push((&**list, OnceCell::new()));
                u32::try_from(lists.len() - 1).unwrap_or(u32::MAX)
            })
        };
        Self { of_class: of_class.iter().map(number).collect(), lists }
    }

    /// Whether nothing isolates a class, and the rules of the policies that do.
    fn rules(&self, class: u32, compiled: &CompiledPolicies<'a>, way: Way) -> (bool, &[JoinedRule<'a>]) {
        let (list, rules) = &self.lists[self.of_class[class as usize] as usize];
        (list.is_empty(), rules.get_or_init(|| joined(list, compiled, way)))
    }
}

/// The rules of policies. Those with the same ports are one.
fn joined<'a>(policies: &[u32], compiled: &CompiledPolicies<'a>, way: Way) -> Vec<JoinedRule<'a>> {
    #[derive(Default)]
    struct JoinedPeers {
        is_for_everybody: bool,
        sets: BTreeSet<u32>,
        ranges: BTreeSet<u32>,
    }
    let mut by_ports: BTreeMap<Option<Vec<CompiledPort<'a>>>, JoinedPeers> = BTreeMap::new();
    for rule in policies.iter().flat_map(|policy| compiled.policies[*policy as usize].of(way).iter().flatten()) {
        let ports = rule.ports.as_ref().map(|ports| {
            let mut ports = ports.clone();
            ports.sort_unstable();
            ports.dedup();
            ports
        });
        let of_ports = by_ports.entry(ports).or_default();
        let Some(peers) = &rule.peers else {
            of_ports.is_for_everybody = true;
            continue;
        };
        for peer in peers {
            match peer {
                CompiledPeer::Pods(set) => of_ports.sets.extend([*set]),
                CompiledPeer::Addresses(range) => of_ports.ranges.extend([*range]),
                CompiledPeer::Nobody => {}
            }
        }
    }
    let rule = |(ports, JoinedPeers { is_for_everybody, sets, ranges })| JoinedRule {
        ports,
        is_for_everybody,
        sets: sets.into_iter().collect(),
        addresses: AddressSet::of(ranges.iter().map(|range| &compiled.ranges[*range as usize])),
    };
    by_ports.into_iter().map(rule).collect()
}

impl TierTally {
    /// What the tier decides, if it does so with certainty, or else what decides where the tier does not.
    fn decision(self, next: impl FnOnce() -> FlowDecision) -> FlowDecision {
        let next = self.may_pass.then(next);
        match (self.may_allow, self.may_deny, next) {
            (false, false, next) => next.unwrap_or(FlowDecision::Allowed),
            (true, false, None | Some(FlowDecision::Allowed)) => FlowDecision::Allowed,
            (false, true, None | Some(FlowDecision::Denied)) => FlowDecision::Denied,
            (true, true, _) | (true, false, Some(_)) | (false, true, Some(_)) => FlowDecision::Undecided,
        }
    }
}
