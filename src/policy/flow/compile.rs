//! NetworkPolicies in a form that is fast to ask: selectors are sets of classes, and each class knows the policies that isolate it.

use k8s_openapi::api::networking::v1::{IPBlock, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec};

use super::{
    classes::{ClassSet, Classes},
    cluster_policy::ClusterPolicy,
    objects::FlowPolicy,
    ranges::{AddressRange, KnownRanges, range_text},
    rule_parts::{BothWays, CompiledPort, EVERYTHING, PeerSets, SelectedPods, Way},
    selector::{LabelTests, Symbols},
    snapshot::FlowSnapshot,
    tiers::CompiledTiers,
};

/// All policies of a snapshot, compiled.
#[derive(Debug)]
pub struct CompiledPolicies<'a> {
    pub snapshot: &'a FlowSnapshot,
    pub classes: Classes<'a>,
    /// In the order of the snapshot's policies.
    pub policies: Vec<BothWays<Option<Vec<CompiledRule<'a>>>>>,
    /// For each class the policies that isolate it, by number.
    pub isolating: BothWays<Vec<Vec<u32>>>,
    /// What decides before NetworkPolicies, and after them.
    pub tiers: CompiledTiers<'a>,
    pub sets: Vec<ClassSet>,
    pub ranges: Vec<AddressRange>,
}

/// A rule. It allows what matches one of its peers and one of its ports.
#[derive(Debug)]
pub struct CompiledRule<'a> {
    /// None: everybody, because the list is absent or empty.
    pub peers: Option<Vec<CompiledPeer>>,
    /// None: every port, because the list is absent or empty.
    pub ports: Option<Vec<CompiledPort<'a>>>,
}

/// A peer of a rule.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum CompiledPeer {
    /// The pods of a set of classes, by its number.
    Pods(u32),
    /// The addresses of a range, by its number.
    Addresses(u32),
    /// The API server takes no such peer.
    Nobody,
}

impl<'a> CompiledPolicies<'a> {
    /// Compiles the policies of a snapshot.
    pub fn of(snapshot: &'a FlowSnapshot) -> Self {
        Self::with_ranges(snapshot, snapshot.policies.iter())
    }

    /// Compiles the policies of two snapshots with the same pods, namespaces and policies of the tiers. Both have the same classes and ranges, with the same numbers.
    pub fn pair(one: &'a FlowSnapshot, other: &'a FlowSnapshot) -> [Self; 2] {
        [one, other].map(|snapshot| Self::with_ranges(snapshot, one.policies.iter().chain(&other.policies)))
    }

    /// Compiles the policies of a snapshot. Its classes are those that the ranges of these policies tell apart.
    fn with_ranges(snapshot: &'a FlowSnapshot, of: impl Iterator<Item = &'a FlowPolicy>) -> Self {
        let mut symbols = Symbols::default();
        let ranges = known_ranges(of, &snapshot.cluster_policies);
        let classes = Classes::of(snapshot, &ranges.all, &mut symbols);
        let mut sets = PeerSets::new(&classes, &mut symbols);
        let mut isolating = BothWays { egress: vec![vec![]; classes.count()], ingress: vec![vec![]; classes.count()] };
        let mut policies = Vec::with_capacity(snapshot.policies.len());
        for (policy, number) in snapshot.policies.iter().zip(0..) {
            let mut rules = |rules: Vec<RuleParts<'a>>| -> Vec<_> {
                rules.into_iter().map(|rule| sets.rule(policy, &rule, &ranges)).collect()
            };
            let compiled = BothWays {
                egress: isolates(&policy.spec, Way::Egress).then(|| rules(egress(&policy.spec))),
                ingress: isolates(&policy.spec, Way::Ingress).then(|| rules(ingress(&policy.spec))),
            };
            let pods = LabelTests::of(policy.spec.pod_selector.as_ref().unwrap_or(&EVERYTHING), sets.symbols);
            for class in classes.in_namespace(&policy.namespace, &pods).iter() {
                for way in [Way::Egress, Way::Ingress].into_iter().filter(|way| compiled.of(*way).is_some()) {
                    isolating.of_mut(way)[class as usize].push(number);
                }
            }
            policies.push(compiled);
        }
        let tiers = CompiledTiers::of(snapshot, &mut sets, &ranges);
        let sets = sets.sets;
        Self { snapshot, classes, policies, isolating, tiers, sets, ranges: ranges.all }
    }
}

impl CompiledPolicies<'_> {
    /// One sentence about each part of a policy that the API server would refuse. Such a part allows nothing here.
    pub fn refused_parts(&self) -> Vec<String> {
        let mut all = Vec::new();
        for (policy, compiled) in self.snapshot.policies.iter().zip(&self.policies) {
            for way in [Way::Egress, Way::Ingress] {
                for (rule, index) in compiled.of(way).iter().flatten().zip(0..) {
                    let mut say = |place: String| {
                        let (namespace, name) = (&policy.namespace, &policy.name);
                        all.push(format!(
                            "the NetworkPolicy {namespace}/{name}: {place} is no valid entry, so it allows nothing"
                        ));
                    };
                    let nobody = rule.peers.iter().flatten().zip(0..).filter(|(peer, _)| matches!(peer, CompiledPeer::Nobody));
                    nobody.for_each(|(_, at)| say(way.place(index, Some(at), None)));
                    let no_port = rule.ports.iter().flatten().zip(0..).filter(|(port, _)| matches!(port, CompiledPort::None));
                    no_port.for_each(|(_, at)| say(way.place(index, None, Some(("ports", at)))));
                }
            }
        }
        all.extend(self.tiers.refused_parts());
        all
    }
}

/// The ranges that policies name, each once.
pub fn known_ranges<'a>(policies: impl Iterator<Item = &'a FlowPolicy>, of_tiers: &'a [ClusterPolicy]) -> KnownRanges<'a> {
    let mut ranges = KnownRanges::default();
    policies.flat_map(blocks).for_each(|block| ranges.add(range_text(block)));
    of_tiers.iter().flat_map(ClusterPolicy::networks).for_each(|text| ranges.add((text, &[])));
    ranges
}

/// Whether a policy isolates the pods that it selects. Without policyTypes it isolates for ingress, and with egress rules for egress too.
pub fn isolates(spec: &NetworkPolicySpec, way: Way) -> bool {
    match (spec.policy_types.as_deref().unwrap_or_default(), way) {
        ([], Way::Ingress) => true,
        ([], Way::Egress) => spec.egress.as_ref().is_some_and(|rules| !rules.is_empty()),
        (types, Way::Ingress) => types.iter().any(|one| one == "Ingress"),
        (types, Way::Egress) => types.iter().any(|one| one == "Egress"),
    }
}

/// The lists of a rule.
struct RuleParts<'a> {
    peers: Option<&'a Vec<NetworkPolicyPeer>>,
    ports: Option<&'a Vec<NetworkPolicyPort>>,
}

fn egress(spec: &NetworkPolicySpec) -> Vec<RuleParts<'_>> {
    spec.egress.iter().flatten().map(|rule| RuleParts { peers: rule.to.as_ref(), ports: rule.ports.as_ref() }).collect()
}

fn ingress(spec: &NetworkPolicySpec) -> Vec<RuleParts<'_>> {
    spec.ingress.iter().flatten().map(|rule| RuleParts { peers: rule.from.as_ref(), ports: rule.ports.as_ref() }).collect()
}

/// A list with entries. An empty list means the same as none: everybody, or every port.
fn filled<T>(list: Option<&Vec<T>>) -> Option<&Vec<T>> {
    list.filter(|list| !list.is_empty())
}

/// The ranges that a policy names.
fn blocks(policy: &FlowPolicy) -> impl Iterator<Item = &IPBlock> {
    let rules = egress(&policy.spec).into_iter().chain(ingress(&policy.spec));
    rules.filter_map(|rule| rule.peers).flatten().filter_map(|peer| peer.ip_block.as_ref())
}

impl<'a> PeerSets<'a, '_> {
    fn rule(&mut self, policy: &'a FlowPolicy, rule: &RuleParts<'a>, ranges: &KnownRanges<'_>) -> CompiledRule<'a> {
        CompiledRule {
            peers: filled(rule.peers).map(|peers| peers.iter().map(|peer| self.peer(policy, peer, ranges)).collect()),
            ports: filled(rule.ports).map(|ports| ports.iter().map(CompiledPort::of).collect()),
        }
    }

    fn peer(&mut self, policy: &'a FlowPolicy, peer: &'a NetworkPolicyPeer, ranges: &KnownRanges<'_>) -> CompiledPeer {
        let pods = peer.pod_selector.as_ref();
        let selected = match (&peer.ip_block, &peer.namespace_selector, pods) {
            (Some(block), None, None) => {
                return ranges.number(range_text(block)).map_or(CompiledPeer::Nobody, CompiledPeer::Addresses);
            }
            (None, Some(namespaces), pods) => {
                let namespaces = LabelTests::of(namespaces, self.symbols);
                SelectedPods::Of(namespaces, LabelTests::of(pods.unwrap_or(&EVERYTHING), self.symbols))
            }
            (None, None, Some(pods)) => SelectedPods::Own(&policy.namespace, LabelTests::of(pods, self.symbols)),
            (Some(_), ..) | (None, None, None) => return CompiledPeer::Nobody,
        };
        CompiledPeer::Pods(self.number(selected))
    }
}
