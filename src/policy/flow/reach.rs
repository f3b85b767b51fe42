//! Which pods reach which on one port: all pairs at once, judged class by class, as rows of bits.

use std::{collections::HashMap, net::IpAddr, ops::Range};

use super::{
    cluster_policy::{PolicyTier, TierAction},
    compile::{CompiledPeer, CompiledPolicies},
    objects::FlowPod,
    rule_parts::{CompiledPort, Way},
    tiers::{CompiledTierPeer, CompiledTierRule},
};
use crate::api::peers::Protocol;

/// One bit for each class, or for each of other things that are numbered.
#[derive(Clone, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Row(Vec<u64>);

/// Which pods of the pod network reach which, on one port and over one address family.
#[derive(Debug)]
pub struct PodReach<'c, 'a> {
    compiled: &'c CompiledPolicies<'a>,
    /// For each class as destination, the classes that reach it.
    sources: Vec<Row>,
}

impl Row {
    /// A row of so many bits, all of them unset.
    pub fn new(classes: usize) -> Self {
        Self(vec![0; classes.div_ceil(64)])
    }

    fn full(classes: usize) -> Self {
        let mut row = Self::new(classes);
        row.set(0..u32::try_from(classes).unwrap_or(u32::MAX));
        row
    }

    /// Sets these bits.
    pub fn set(&mut self, range: Range<u32>) {
        let (start, end) = (range.start as usize, range.end as usize);
        for word in start / 64..end.div_ceil(64) {
            let (first, last) = (start.max(word * 64) - word * 64, end.min(word * 64 + 64) - word * 64);
            let upto = |bit: usize| if bit == 64 { u64::MAX } else { (1 << bit) - 1 };
            self.0[word] |= upto(last) & !upto(first);
        }
    }

    /// Unsets a bit.
    pub fn unset(&mut self, class: usize) {
        self.0[class / 64] &= !(1 << (class % 64));
    }

    /// Whether a bit is set.
    pub fn has(&self, class: usize) -> bool {
        self.0[class / 64] >> (class % 64) & 1 == 1
    }

    /// Adds the classes of another row that are in a third one too.
    pub fn add(&mut self, other: &Self, within: Option<&Self>) {
        for (word, (bits, more)) in self.0.iter_mut().zip(&other.0).enumerate() {
            *bits |= more & within.map_or(u64::MAX, |within| within.0[word]);
        }
    }

    /// Removes the classes of another row.
    fn remove(&mut self, other: &Self) {
        for (bits, others) in self.0.iter_mut().zip(&other.0) {
            *bits &= !others;
        }
    }

    /// Unsets the bits that are not set in another row.
    pub fn keep(&mut self, other: &Self) {
        self.0.iter_mut().zip(&other.0).for_each(|(bits, kept)| *bits &= kept);
    }

    /// Unsets the bits that are set in another row, and sets those that are set only there.
    pub fn differ(&mut self, other: &Self) {
        self.0.iter_mut().zip(&other.0).for_each(|(bits, others)| *bits ^= others);
    }

    /// The number of bits that are set.
    pub fn count(&self) -> u64 {
        self.0.iter().map(|bits| u64::from(bits.count_ones())).sum()
    }

    /// The classes, in ascending order.
    pub fn classes(&self) -> impl Iterator<Item = usize> {
        self.0.iter().enumerate().filter(|(_, bits)| **bits != 0).flat_map(|(word, bits)| {
            let mut left = *bits;
            std::iter::from_fn(move || {
                let bit = (left != 0).then_some(left.trailing_zeros() as usize)?;
                left &= left - 1;
                Some(word * 64 + bit)
            })
        })
    }
}

/// The question, and what every row needs.
#[derive(Debug)]
pub struct ReachQuestion<'a> {
    pub port: (Protocol, u16),
    /// One pod of each class.
    pub pods: Vec<&'a FlowPod>,
    /// For each range of addresses, the classes whose address of the family is in it.
    ranges: Vec<Row>,
    /// The classes that have the port under a name.
    names: HashMap<String, Row>,
    /// The classes on the pod network.
    pub covered: Row,
}

impl<'a> ReachQuestion<'a> {
    /// Which pods reach which on this port over IPv4, or IPv6?
    pub fn new(compiled: &CompiledPolicies<'a>, (protocol, port): (Protocol, u16), is_v6: bool) -> Self {
        let count = compiled.classes.count();
        let pods: Vec<&FlowPod> = compiled.classes.first_pods().map(|pod| &compiled.snapshot.pods[pod]).collect();
        let address = |pod: &FlowPod| pod.addresses.iter().copied().find(|address: &IpAddr| address.is_ipv6() == is_v6);
        let mut names: HashMap<String, Row> = HashMap::new();
        for (pod, class) in pods.iter().zip(0..) {
            for named in pod.ports.iter().filter(|named| (named.protocol, named.number) == (protocol, port)) {
                names.entry(named.name.clone()).or_insert_with(|| Row::new(count)).set(class..class + 1);
            }
        }
        let ranges = compiled.ranges.iter().map(|range| {
            let mut row = Row::new(count);
            for (_, class) in pods.iter().zip(0..).filter(|(pod, _)| address(pod).is_some_and(|address| range.has(address))) {
                row.set(class..class + 1);
            }
            row
        });
        let ranges = ranges.collect();
        let mut covered = Row::new(count);
        for (_, class) in pods.iter().zip(0..).filter(|(pod, _)| !pod.on_host_network) {
            covered.set(class..class + 1);
        }
        Self { port: (protocol, port), pods, ranges, names, covered }
    }
}

impl<'a> CompiledPolicies<'a> {
    /// Finds out which pods reach which on this port over IPv4, or IPv6.
    pub fn reach(&self, protocol: Protocol, port: u16, is_v6: bool) -> PodReach<'_, 'a> {
        let count = self.classes.count();
        let asked = ReachQuestion::new(self, (protocol, port), is_v6);
        let everybody = &asked.covered;

        // None: everybody.
        let egress: Vec<Option<Row>> = (0..count).map(|class| self.allowed(Way::Egress, class, &asked)).collect();
        let sources = (0..count).map(|to| {
            if asked.pods[to].on_host_network {
                return Row::new(count);
            }
            let mut row = Row::new(count);
            let allowed = self.allowed(Way::Ingress, to, &asked);
            row.add(allowed.as_ref().unwrap_or(everybody), Some(everybody));
            let denied: Vec<usize> =
                row.classes().filter(|from| egress[*from].as_ref().is_some_and(|row| !row.has(to))).collect();
            for from in denied {
                row.unset(from);
            }
            row
        });
        let sources = sources.collect();
        PodReach { compiled: self, sources }
    }

    /// The classes with which a class may exchange in one direction; none: everybody. Where it is not known what decides, nobody may.
    pub fn allowed(&self, way: Way, class: usize, asked: &ReachQuestion<'_>) -> Option<Row> {
        let is_open = self.isolating.of(way)[class].is_empty();
        let by_policies =
            if is_open { self.tier_row(PolicyTier::Baseline, way, class, asked, None) } else { self.row(way, class, asked) };
        self.tier_row(PolicyTier::Admin, way, class, asked, by_policies)
    }

    /// What a tier allows a class, if what follows it allows what is in `next`; none: everybody.
    fn tier_row(&self, tier: PolicyTier, way: Way, class: usize, asked: &ReachQuestion<'_>, next: Option<Row>) -> Option<Row> {
        let number = u32::try_from(class).unwrap_or(u32::MAX);
        if self.tiers.about(tier, number).is_empty() {
            return next;
        }
        let count = self.classes.count();
        // Who may be denied, and who may be left to what follows.
        let (mut denied, mut passed) = (Row::new(count), Row::new(count));
        let mut unmatched = Row::full(count);
        for kind in self.tiers.kinds(tier, number) {
            let mut of_kind = Row::full(count);
            for equals in self.tiers.by_priority(kind) {
                let before = of_kind.clone();
                for rules in equals.iter().map(|policy| self.tiers.policy(*policy).rules.of(way)) {
                    let mut left = before.clone();
                    for rule in rules {
                        let TierRuleRows { certain, possible } = self.tier_rule_rows(rule, way, class, asked);
                        match rule.action {
                            TierAction::Allow => {}
                            TierAction::Deny => denied.add(&possible, Some(&left)),
                            TierAction::Pass => passed.add(&possible, Some(&left)),
                        }
                        left.remove(&certain);
                    }
                    of_kind.keep(&left);
                }
            }
            unmatched.keep(&of_kind);
        }
        passed.add(&unmatched, None);
        let mut allowed = Row::full(count);
        allowed.remove(&denied);
        if let Some(next) = &next {
            passed.remove(next);
            allowed.remove(&passed);
        }
        (allowed != Row::full(count)).then_some(allowed)
    }

    fn tier_rule_rows(&self, rule: &CompiledTierRule<'_>, way: Way, class: usize, asked: &ReachQuestion<'_>) -> TierRuleRows {
        let count = self.classes.count();
        let Some(peers) = &rule.peers else { return TierRuleRows { certain: Row::full(count), possible: Row::full(count) } };
        let mut certain = Row::new(count);
        for peer in peers {
            match peer {
                CompiledTierPeer::Pods(set) => self.sets[*set as usize].ranges().for_each(|range| certain.set(range)),
                CompiledTierPeer::Addresses(ranges) => {
                    for range in ranges {
                        certain.add(&asked.ranges[*range as usize], None);
                    }
                }
                // No pod on the pod network has the address of a node.
                CompiledTierPeer::Nodes(_) | CompiledTierPeer::DomainNames => {}
            }
        }
        let names_domains = peers.iter().any(|peer| matches!(peer, CompiledTierPeer::DomainNames));
        let mut possible = if names_domains { Row::full(count) } else { certain.clone() };
        let ports = rule.ports.as_deref();
        let on_port = destinations(ports, way, class, asked);
        on_port.limit(&mut certain);
        if !ports.is_some_and(|ports| ports.iter().any(|port| matches!(port, CompiledPort::None))) {
            on_port.limit(&mut possible);
        }
        TierRuleRows { certain, possible }
    }

    /// The classes with which NetworkPolicies let a class exchange in one direction; none: everybody.
    fn row(&self, way: Way, class: usize, asked: &ReachQuestion<'_>) -> Option<Row> {
        let isolating = &self.isolating.of(way)[class];
        if isolating.is_empty() {
            return None;
        }
        let count = self.classes.count();
        let mut row = Row::new(count);
        let mut of_rule = Row::new(count);
        for rule in isolating.iter().flat_map(|policy| self.policies[*policy as usize].of(way).iter().flatten()) {
            let destinations = match destinations(rule.ports.as_deref(), way, class, asked) {
                RuleDestinations::Nobody => continue,
                RuleDestinations::Everybody => None,
                RuleDestinations::These(destinations) => Some(destinations),
            };
            let Some(peers) = &rule.peers else {
                row.add(&destinations?, None);
                continue;
            };
            of_rule.0.fill(0);
            for peer in peers {
                match peer {
                    CompiledPeer::Pods(set) => self.sets[*set as usize].ranges().for_each(|range| of_rule.set(range)),
                    CompiledPeer::Addresses(range) => of_rule.add(&asked.ranges[*range as usize], None),
                    CompiledPeer::Nobody => {}
                }
            }
            row.add(&of_rule, destinations.as_ref());
        }
        Some(row)
    }

    /// Whether NetworkPolicies let a class exchange with an address that no pod and no node has, in one direction.
    pub fn allows_address(&self, way: Way, class: usize, address: IpAddr, asked: &ReachQuestion<'_>) -> bool {
        let isolating = &self.isolating.of(way)[class];
        let mut rules = isolating.iter().flat_map(|policy| self.policies[*policy as usize].of(way).iter().flatten());
        let is_it = |peer: &CompiledPeer| match peer {
            CompiledPeer::Addresses(range) => self.ranges[*range as usize].has(address),
            CompiledPeer::Pods(_) | CompiledPeer::Nobody => false,
        };
        isolating.is_empty()
            || rules.any(|rule| {
                matches!(destinations(rule.ports.as_deref(), way, class, asked), RuleDestinations::Everybody)
                    && rule.peers.as_ref().is_none_or(|peers| peers.iter().any(is_it))
            })
    }
}

/// The destinations on which a rule is about the port. Only the name of a port tells destinations apart.
enum RuleDestinations {
    Nobody,
    Everybody,
    These(Row),
}

impl RuleDestinations {
    fn limit(&self, row: &mut Row) {
        match self {
            Self::Nobody => row.0.fill(0),
            Self::Everybody => {}
            Self::These(destinations) => row.keep(destinations),
        }
    }
}

/// Whom a rule of a tier matches for certain, and whom it may match: these and others.
struct TierRuleRows {
    certain: Row,
    possible: Row,
}

fn destinations(ports: Option<&[CompiledPort<'_>]>, way: Way, class: usize, asked: &ReachQuestion<'_>) -> RuleDestinations {
    let Some(ports) = ports else { return RuleDestinations::Everybody };
    let destination = (way == Way::Ingress).then(|| asked.pods[class]);
    if ports.iter().any(|port| port.matches(asked.port, destination)) {
        return RuleDestinations::Everybody;
    }
    if way == Way::Ingress {
        return RuleDestinations::Nobody;
    }
    let mut named: Option<Row> = None;
    for port in ports {
        if let CompiledPort::Name(protocol, name) = port
            && protocol.is_none_or(|protocol| protocol == asked.port.0)
            && let Some(row) = asked.names.get(*name)
        {
            named.get_or_insert_with(|| Row(vec![0; row.0.len()])).add(row, None);
        }
    }
    named.map_or(RuleDestinations::Nobody, RuleDestinations::These)
}

impl PodReach<'_, '_> {
    /// Whether a pod reaches another one. None: one of them has ended or is on the host network, or both are the same.
    pub fn allows(&self, from: usize, to: usize) -> Option<bool> {
        let is_covered = |pod: usize| self.compiled.snapshot.pods.get(pod).is_some_and(|pod| !pod.on_host_network);
        let (source, destination) = (self.compiled.classes.class(from)?, self.compiled.classes.class(to)?);
        let is_pair = from != to && is_covered(from) && is_covered(to);
        is_pair.then(|| self.sources[destination as usize].has(source as usize))
    }

    /// The number of ordered pairs of different pods of which the first reaches the second.
    pub fn pairs(&self) -> u64 {
        let sizes = self.compiled.classes.sizes();
        let of_row = |(to, row): (usize, &Row)| {
            let sources: u64 = row.classes().map(|from| sizes[from]).sum();
            // A pod and itself are no pair.
            sizes[to] * sources - if row.has(to) { sizes[to] } else { 0 }
        };
        self.sources.iter().enumerate().map(of_row).sum()
    }
}
