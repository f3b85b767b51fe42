//! The policies of the Admin tier and of the Baseline tier in a form that is fast to ask: each class knows those that are about it, in the order
//! in which they decide.

use std::net::IpAddr;

use super::{
    cluster_policy::{ClusterPolicy, NamespacedPods, PolicyTier, TierAction, TierPeer, TierRule},
    node::FlowNode,
    ranges::{AddressRange, KnownRanges},
    rule_parts::{BothWays, CompiledPort, PeerSets, SelectedPods, Way},
    selector::{LabelNumbers, LabelTests},
    snapshot::FlowSnapshot,
};

/// The policies of both tiers, compiled.
#[derive(Debug, Default)]
pub struct CompiledTiers<'a> {
    /// In the order of the snapshot.
    policies: Vec<CompiledTierPolicy<'a>>,
    /// For each class the policies that are about it, by number. Empty if there is no policy at all.
    admin: Vec<Vec<u32>>,
    baseline: Vec<Vec<u32>>,
}

/// A policy of a tier.
#[derive(Debug)]
pub struct CompiledTierPolicy<'a> {
    pub policy: &'a ClusterPolicy,
    pub rules: BothWays<Vec<CompiledTierRule<'a>>>,
}

/// A rule of a tier.
#[derive(Debug)]
pub struct CompiledTierRule<'a> {
    pub name: Option<&'a str>,
    pub action: TierAction,
    /// None: everybody.
    pub peers: Option<Vec<CompiledTierPeer>>,
    /// None: every port.
    pub ports: Option<Vec<CompiledPort<'a>>>,
}

/// A peer of such a rule.
#[derive(Debug)]
pub enum CompiledTierPeer {
    /// The pods of a set of classes, by its number. Those on the host network do not count.
    Pods(u32),
    /// The addresses of ranges, by their numbers.
    Addresses(Vec<u32>),
    /// The addresses of nodes. None: the nodes are not known.
    Nodes(Option<Vec<IpAddr>>),
    /// The addresses of names, which are not known.
    DomainNames,
}

impl<'a> CompiledTiers<'a> {
    /// Compiles the policies of a snapshot.
    pub fn of(snapshot: &'a FlowSnapshot, sets: &mut PeerSets<'a, '_>, ranges: &KnownRanges<'_>) -> Self {
        let all = &snapshot.cluster_policies;
        if all.is_empty() {
            return Self::default();
        }
        let mut nodes = Vec::new();
        if all.iter().any(ClusterPolicy::names_nodes) {
            nodes.extend(snapshot.nodes.iter().map(|node| (node, LabelNumbers::of(&node.labels, None, sets.symbols))));
        }
        let mut parts = TierParts { sets, ranges, nodes };
        let compiled = |policy: &'a ClusterPolicy| {
            let mut rules = |rules: &'a [TierRule]| rules.iter().map(|rule| parts.rule(rule)).collect();
            CompiledTierPolicy { policy, rules: BothWays { egress: rules(&policy.egress), ingress: rules(&policy.ingress) } }
        };
        let policies: Vec<CompiledTierPolicy<'a>> = all.iter().map(compiled).collect();

        let classes = sets.classes;
        let on_host_network: Vec<bool> = classes.first_pods().map(|pod| snapshot.pods[pod].on_host_network).collect();
        let [mut admin, mut baseline] = [vec![vec![]; classes.count()], vec![vec![]; classes.count()]];
        let mut order: Vec<(u32, &ClusterPolicy)> = (0..).zip(all).collect();
        order.sort_by_key(|(_, policy)| policy.precedence());
        for (number, policy) in order {
            let of_class = match policy.tier {
                PolicyTier::Admin => &mut admin,
                PolicyTier::Baseline => &mut baseline,
            };
            let [namespaces, pods] = selector_tests(&policy.subject, sets);
            // A policy is not about pods on the host network.
            for class in classes.in_namespaces(&namespaces, &pods).iter().filter(|class| !on_host_network[*class as usize]) {
                of_class[class as usize].push(number);
            }
        }
        Self { policies, admin, baseline }
    }

    /// The policies of a tier that are about a class, in the order in which they decide.
    pub fn about(&self, tier: PolicyTier, class: u32) -> &[u32] {
        let of_class = match tier {
            PolicyTier::Admin => &self.admin,
            PolicyTier::Baseline => &self.baseline,
        };
        of_class.get(class as usize).map(|policies| &**policies).unwrap_or_default()
    }

    /// The policies of a tier that are about a class, apart by kind.
    pub fn kinds(&self, tier: PolicyTier, class: u32) -> impl Iterator<Item = &[u32]> {
        self.about(tier, class).chunk_by(|one, other| self.policy(*one).policy.kind == self.policy(*other).policy.kind)
    }

    /// The policies of a kind, in the order in which they decide, with those of the same priority together.
    pub fn by_priority<'n>(&self, kind: &'n [u32]) -> impl Iterator<Item = &'n [u32]> {
        kind.chunk_by(|one, other| self.policy(*one).policy.priority == self.policy(*other).policy.priority)
    }

    /// The lists of ports of all rules.
    pub fn port_lists(&self) -> impl Iterator<Item = &[CompiledPort<'a>]> {
        let rules = self.policies.iter().flat_map(|policy| policy.rules.egress.iter().chain(&policy.rules.ingress));
        rules.filter_map(|rule| rule.ports.as_deref())
    }

    /// A policy, by its number.
    pub fn policy(&self, number: u32) -> &CompiledTierPolicy<'a> {
        &self.policies[number as usize]
    }

    /// One sentence about each part of a rule that is not known here, or that the API server would refuse.
    pub fn refused_parts(&self) -> Vec<String> {
        let mut all = Vec::new();
        for CompiledTierPolicy { policy, rules } in &self.policies {
            for (way, list) in [(Way::Egress, &policy.egress), (Way::Ingress, &policy.ingress)] {
                for ((rule, compiled), index) in list.iter().zip(rules.of(way)).zip(0..) {
                    let mut say = |place: String, what: &str| all.push(format!("the {}: {place} {what}", policy.policy()));
                    for (peer, at) in rule.peers.iter().zip(0..) {
                        let place = way.place(index, Some(at), None);
                        match peer {
                            TierPeer::Unknown if rule.action == TierAction::Allow => {
                                say(place, "is not known, so the rule matches nothing");
                            }
                            TierPeer::Unknown => say(place, "is not known, so the rule denies everything"),
                            TierPeer::Networks(networks) => {
                                for (text, entry) in networks.iter().zip(0..).filter(|(text, _)| !AddressRange::is_valid(text)) {
                                    say(
                                        format!("{place}.networks[{entry}]"),
                                        &format!("is {text:?}: no range, so it matches nothing"),
                                    );
                                }
                            }
                            TierPeer::Pods(_) | TierPeer::Nodes(_) | TierPeer::DomainNames => {}
                        }
                    }
                    let no_port = compiled.ports.iter().flatten().zip(0..).filter(|(port, _)| matches!(port, CompiledPort::None));
                    for (_, at) in no_port {
                        let place = way.place(index, None, Some((policy.kind.ports(), at)));
                        say(place, "is not known, so it is not known what the rule matches");
                    }
                }
            }
        }
        all
    }
}

fn selector_tests<'a>(selected: &'a NamespacedPods, sets: &mut PeerSets<'a, '_>) -> [LabelTests; 2] {
    [&selected.namespace_selector, &selected.pod_selector].map(|selector| LabelTests::of(selector, sets.symbols))
}

/// What peers of rules are compiled with.
struct TierParts<'a, 'c, 's> {
    sets: &'s mut PeerSets<'a, 'c>,
    ranges: &'s KnownRanges<'s>,
    nodes: Vec<(&'a FlowNode, LabelNumbers)>,
}

impl<'a> TierParts<'a, '_, '_> {
    fn rule(&mut self, rule: &'a TierRule) -> CompiledTierRule<'a> {
        if rule.peers.iter().any(|peer| matches!(peer, TierPeer::Unknown)) {
            // The API demands this of everybody who does not know a field of a peer.
            let (action, peers) = match rule.action {
                TierAction::Allow => (TierAction::Allow, Some(vec![])),
                TierAction::Deny | TierAction::Pass => (TierAction::Deny, None),
            };
            return CompiledTierRule { name: rule.name.as_deref(), action, peers, ports: None };
        }
        CompiledTierRule {
            name: rule.name.as_deref(),
            action: rule.action,
            peers: Some(rule.peers.iter().filter_map(|peer| self.peer(peer)).collect()),
            ports: (!rule.ports.is_empty()).then(|| rule.ports.iter().map(CompiledPort::of_tier).collect()),
        }
    }

    fn peer(&mut self, peer: &'a TierPeer) -> Option<CompiledTierPeer> {
        Some(match peer {
            TierPeer::Pods(selected) => {
                let [namespaces, pods] = selector_tests(selected, self.sets);
                CompiledTierPeer::Pods(self.sets.number(SelectedPods::Of(namespaces, pods)))
            }
            TierPeer::Networks(networks) => {
                let numbers = networks.iter().filter_map(|text| self.ranges.number((text, &[])));
                CompiledTierPeer::Addresses(numbers.collect())
            }
            TierPeer::Nodes(_) if self.nodes.is_empty() => CompiledTierPeer::Nodes(None),
            TierPeer::Nodes(selector) => {
                let tests = LabelTests::of(selector, self.sets.symbols);
                let selected = self.nodes.iter().filter(|(_, labels)| tests.select(labels));
                CompiledTierPeer::Nodes(Some(selected.flat_map(|(node, _)| node.addresses.iter().copied()).collect()))
            }
            TierPeer::DomainNames => CompiledTierPeer::DomainNames,
            TierPeer::Unknown => return None,
        })
    }
}
