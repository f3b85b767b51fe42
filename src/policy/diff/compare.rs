//! Compares two worlds with the same pods. Only pods whose policies differ can send or receive something else, so the rest is not looked at.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::networking::v1::NetworkPolicySpec;

use super::{
    addresses::AddressSpans,
    changes::{ChangeKey, CollectedChanges, ComparedEnds, Deciders, OtherEnd},
    ports::{PortClass, PortClasses, TooManyPorts},
    report::{FlowChange, FlowDiff},
    unseen::UnseenChanges,
    workloads::ComparedWorkloads,
};
use crate::{
    api::label_query::LabelQuery,
    policy::flow::{
        CompiledPolicies, DirectionVerdict, Flow, FlowDecider, FlowDecision, FlowSnapshot, IpFamily, Party, ReachQuestion, Row,
        Way, few, place,
    },
};

/// Finds the flows that the new world decides differently. At most so many rows are shown of what is newly allowed, and of what is newly denied.
/// With a selector, only flows of workloads with pods that it selects are compared.
pub fn compare(
    old: &FlowSnapshot,
    new: &FlowSnapshot,
    limit: usize,
    only: Option<&LabelQuery>,
) -> Result<FlowDiff, TooManyPorts> {
    let [old_compiled, new_compiled] = CompiledPolicies::pair(old, new);
    let workloads = ComparedWorkloads::of(new, &new_compiled, only);
    let addresses = AddressSpans::of(new, &new_compiled.ranges);
    let PortClasses { all: ports, are_of_peers } = PortClasses::of(new, [&old_compiled, &new_compiled])?;
    let families = families(new);
    let same = SamePolicies::of(old, new);
    let unseen = UnseenChanges::of([&old_compiled, &new_compiled], &same.is_same, &workloads);
    let mut comparison = Comparison {
        worlds: [&old_compiled, &new_compiled],
        deciding: [&old_compiled, &new_compiled].map(FlowDecider::of),
        first_pods: new_compiled.classes.first_pods().collect(),
        changed: [Way::Egress, Way::Ingress].map(|way| changed_classes([&old_compiled, &new_compiled], &same, way)),
        workloads: &workloads,
        addresses: &addresses,
        deciders: Deciders::default(),
        names_rules: !are_of_peers,
        isolated_by: [(); 2].map(|()| vec![None; new_compiled.classes.count()]),
        found: CollectedChanges::default(),
    };
    for (class, number) in ports.iter().zip(0..) {
        for family in &families {
            comparison.compare_pods(class, number, *family);
        }
        comparison.compare_addresses(class, number);
    }
    let Comparison { found, deciders, .. } = comparison;
    let ends =
        ComparedEnds { workloads: &workloads, addresses: &addresses, ports: &ports, deciders: &deciders, families: &families };
    let [newly_allowed, newly_denied] = found.group(&ends, limit);
    Ok(FlowDiff {
        selector: only.map(ToString::to_string),
        pods: workloads.pods,
        workloads: workloads.count(),
        pods_on_host_network: workloads.on_host_network,
        added_policies: same.added,
        removed_policies: same.removed,
        changed_policies: same.changed,
        unseen_policies: unseen.policies,
        newly_allowed,
        newly_denied,
        warnings: [&old_compiled, &new_compiled]
            .into_iter()
            .flat_map(CompiledPolicies::refused_parts)
            .chain(unseen.sentences)
            .collect(),
    })
}

/// The families that pods have. Pods without addresses are judged once.
fn families(snapshot: &FlowSnapshot) -> Vec<IpFamily> {
    let found: BTreeSet<IpFamily> = snapshot
        .pods
        .iter()
        .filter(|pod| !pod.on_host_network)
        .flat_map(|pod| &pod.addresses)
        .map(|address| IpFamily::of(*address))
        .collect();
    if found.is_empty() { vec![IpFamily::IPv4] } else { found.into_iter().collect() }
}

/// Which policies are the same in both worlds.
struct SamePolicies {
    /// For each policy of the old world, and of the new one.
    is_same: [Vec<bool>; 2],
    added: usize,
    removed: usize,
    changed: usize,
}

impl SamePolicies {
    fn of(old: &FlowSnapshot, new: &FlowSnapshot) -> Self {
        let specs = |snapshot| -> BTreeMap<PolicyKey<'_>, &NetworkPolicySpec> { policies(snapshot).collect() };
        let (olds, news) = (specs(old), specs(new));
        let flags = |own, others: &BTreeMap<PolicyKey<'_>, &NetworkPolicySpec>| -> Vec<bool> {
            policies(own).map(|(name, spec)| others.get(&name).is_some_and(|other| *other == spec)).collect()
        };
        let only_in = |one: &BTreeMap<PolicyKey<'_>, _>, other: &BTreeMap<PolicyKey<'_>, _>| {
            one.keys().filter(|name| !other.contains_key(*name)).count()
        };
        Self {
            is_same: [flags(old, &news), flags(new, &olds)],
            added: only_in(&news, &olds),
            removed: only_in(&olds, &news),
            changed: olds.iter().filter(|(name, spec)| news.get(*name).is_some_and(|other| other != *spec)).count(),
        }
    }
}

/// The namespace and the name of a policy.
type PolicyKey<'a> = (&'a str, &'a str);

fn policies(snapshot: &FlowSnapshot) -> impl Iterator<Item = (PolicyKey<'_>, &NetworkPolicySpec)> {
    snapshot.policies.iter().map(|policy| ((&*policy.namespace, &*policy.name), &*policy.spec))
}

/// The classes that other policies isolate in the new world, in one direction.
fn changed_classes(worlds: [&CompiledPolicies<'_>; 2], same: &SamePolicies, way: Way) -> Row {
    let mut changed = Row::new(worlds[0].classes.count());
    for (world, is_same) in worlds.into_iter().zip(&same.is_same) {
        for (policies, class) in world.isolating.of(way).iter().zip(0..) {
            if policies.iter().any(|policy| !is_same[*policy as usize]) {
                changed.set(class..class + 1);
            }
        }
    }
    changed
}

/// The comparison of two worlds.
struct Comparison<'c, 'a> {
    /// The old and the new one.
    worlds: [&'c CompiledPolicies<'a>; 2],
    deciding: [FlowDecider<'c, 'a>; 2],
    /// The first pod of each class.
    first_pods: Vec<usize>,
    /// The classes whose policies differ, for egress and ingress.
    changed: [Row; 2],
    workloads: &'c ComparedWorkloads,
    addresses: &'c AddressSpans,
    deciders: Deciders,
    /// Each class of ports has the same rules.
    names_rules: bool,
    /// The texts of the policies that isolate a class in the new world, for egress and ingress, by class.
    isolated_by: [Vec<Option<u32>>; 2],
    found: CollectedChanges,
}

/// What both worlds allow on one port, as rows of classes.
struct BothRows {
    /// For each class as source: the destinations that its egress allows, in the old and the new world.
    egress: [Vec<Option<Row>>; 2],
    /// For each class as source: the destinations whose ingress allows it.
    ingress: [Vec<Row>; 2],
}

impl<'a> Comparison<'_, 'a> {
    fn count(&self) -> usize {
        self.worlds[0].classes.count()
    }

    /// Compares all flows between pods, on one class of ports.
    fn compare_pods(&mut self, ports: &PortClass, number: usize, family: IpFamily) {
        let asked = ReachQuestion::new(self.worlds[0], ports.sample, family == IpFamily::IPv6);
        // The pods that have an address of the family, and those without any address.
        let mut present = asked.covered.clone();
        for (class, pod) in asked.pods.iter().enumerate() {
            if !pod.addresses.is_empty() && !pod.addresses.iter().any(|address| IpFamily::of(*address) == family) {
                present.unset(class);
            }
        }
        let Some(rows) = self.rows(&asked, &present) else { return };
        let sizes = self.worlds[0].classes.sizes();
        let mut found: BTreeMap<u32, BTreeMap<ChangeKey, Row>> = BTreeMap::new();
        for from in present.classes() {
            let Some(workload) = self.workloads.of_class[from] else { continue };
            let allowed = [0, 1].map(|world: usize| {
                let mut row = rows.ingress[world][from].clone();
                if let Some(egress) = &rows.egress[world][from] {
                    row.keep(egress);
                }
                row
            });
            let found = found.entry(workload).or_default();
            let mut differing = allowed[0].clone();
            differing.differ(&allowed[1]);
            differing.keep(&present);
            if sizes[from] == 1 {
                // A pod and itself are no pair.
                differing.unset(from);
            }
            for to in differing.classes() {
                let Some(destination) = self.workloads.of_class[to] else { continue };
                if !self.workloads.is_asked(workload) && !self.workloads.is_asked(destination) {
                    continue;
                }
                let change = if allowed[1].has(to) { FlowChange::Allowed } else { FlowChange::Denied };
                let is_allowed = |world: usize| {
                    (rows.egress[world][from].as_ref().is_none_or(|row| row.has(to)), rows.ingress[world][from].has(to))
                };
                let ((old_egress, old_ingress), (new_egress, new_ingress)) = (is_allowed(0), is_allowed(1));
                let [from_party, to_party] = self.parties(from, to, family);
                let flow = Flow { from: from_party, to: to_party, protocol: ports.sample.0, port: ports.sample.1 };
                let egress = (old_egress != new_egress).then(|| self.decider(Way::Egress, from, change, &flow));
                let ingress = (old_ingress != new_ingress).then(|| self.decider(Way::Ingress, to, change, &flow));
                let key = ChangeKey { change, egress, ingress, with: OtherEnd::Pods(family) };
                let row = found.entry(key).or_insert_with(|| Row::new(self.workloads.count()));
                row.set(destination..destination + 1);
            }
        }
        for (workload, changes) in found {
            self.found.add(workload, number, changes);
        }
    }

    /// What both worlds allow on a port. None: the pods whose policies differ may do the same in both.
    fn rows(&self, asked: &ReachQuestion<'a>, present: &Row) -> Option<BothRows> {
        let count = self.count();
        let [changed_egress, changed_ingress] = &self.changed;
        let of_changed = |way: Way, changed: &Row| -> BTreeMap<usize, [Option<Row>; 2]> {
            changed.classes().map(|class| (class, self.worlds.map(|world| world.allowed(way, class, asked)))).collect()
        };
        let (mut egress, mut ingress) = (of_changed(Way::Egress, changed_egress), of_changed(Way::Ingress, changed_ingress));
        if egress.values().chain(ingress.values()).all(|[old, new]| old == new) {
            return None;
        }
        let rows = |way: Way, changed: &mut BTreeMap<usize, [Option<Row>; 2]>| -> [Vec<Option<Row>>; 2] {
            let of_class = |class| {
                changed.remove(&class).unwrap_or_else(|| {
                    let row = self.worlds[0].allowed(way, class, asked);
                    [row.clone(), row]
                })
            };
            let (old, new) = (0..count).map(of_class).map(|[old, new]| (old, new)).unzip();
            [old, new]
        };
        let by_destination = rows(Way::Ingress, &mut ingress);
        let ingress = by_destination.map(|rows| {
            let mut everybody = present.clone();
            rows.iter().enumerate().filter(|(_, row)| row.is_some()).for_each(|(class, _)| everybody.unset(class));
            let mut by_source = vec![everybody; count];
            for (to, row) in rows.iter().zip(0..).filter_map(|(row, to)| Some((to, row.as_ref()?))) {
                row.classes().for_each(|from| by_source[from].set(to..to + 1));
            }
            by_source
        });
        Some(BothRows { egress: rows(Way::Egress, &mut egress), ingress })
    }

    /// Compares all flows between pods and addresses, on one class of ports.
    fn compare_addresses(&mut self, ports: &PortClass, number: usize) {
        // No rule selects an address by the family of a pod.
        let asked = ReachQuestion::new(self.worlds[0], ports.sample, false);
        let mut found: BTreeMap<u32, BTreeMap<ChangeKey, Row>> = BTreeMap::new();
        for (way, with, index) in [(Way::Egress, OtherEnd::To, 0), (Way::Ingress, OtherEnd::From, 1)] {
            let classes: Vec<usize> = self.changed[index].classes().filter(|class| asked.covered.has(*class)).collect();
            for class in classes {
                let workload = self.workloads.of_class[class].filter(|workload| self.workloads.is_asked(*workload));
                let Some(workload) = workload else { continue };
                for (span, end) in self.addresses.0.iter().zip(0..) {
                    let outside = Party { pod: None, address: Some(span.sample) };
                    let own = self.party(self.first_pods[class], IpFamily::of(span.sample));
                    let (from, to) = if way == Way::Egress { (own, outside) } else { (outside, own) };
                    let flow = Flow { from, to, protocol: ports.sample.0, port: ports.sample.1 };
                    let [old, new] = [0, 1].map(|index: usize| {
                        let world = self.worlds[index];
                        if world.snapshot.cluster_policies.is_empty() {
                            world.allows_address(way, class, span.sample, &asked)
                        } else {
                            self.deciding[index].direction(&flow, way) == FlowDecision::Allowed
                        }
                    });
                    if old == new {
                        continue;
                    }
                    let change = if new { FlowChange::Allowed } else { FlowChange::Denied };
                    let decider = Some(self.decider(way, class, change, &flow));
                    let (egress, ingress) = if way == Way::Egress { (decider, None) } else { (None, decider) };
                    let key = ChangeKey { change, egress, ingress, with };
                    let row = found.entry(workload).or_default().entry(key).or_insert_with(|| Row::new(self.addresses.0.len()));
                    row.set(end..end + 1);
                }
            }
        }
        for (workload, changes) in found {
            self.found.add(workload, number, changes);
        }
    }

    /// What decides a flow in one direction in the new world. All policies of a direction are in the namespace of its pod.
    fn decider(&mut self, way: Way, class: usize, change: FlowChange, flow: &Flow) -> u32 {
        let new = self.worlds[1];
        let is_judged = change == FlowChange::Allowed || !new.snapshot.cluster_policies.is_empty();
        match is_judged.then(|| new.judge(flow, way)) {
            Some(DirectionVerdict::AllowedByTier { by } | DirectionVerdict::DeniedByTier { by }) => {
                let policies: Vec<String> = by.iter().map(|rule| rule.policy.to_string()).collect();
                return self.deciders.number(few(&policies));
            }
            Some(DirectionVerdict::Allowed { by }) if change == FlowChange::Allowed => {
                let mut rules: Vec<String> = if self.names_rules {
                    by.iter().map(|rule| format!("{} {}", rule.policy.name, place(way, rule))).collect()
                } else {
                    by.iter().map(|rule| rule.policy.name.to_owned()).collect()
                };
                rules.dedup();
                return self.deciders.number(few(&rules));
            }
            _ => {}
        }
        let isolating = &new.isolating.of(way)[class];
        let deciders = &mut self.deciders;
        let [of_egress, of_ingress] = &mut self.isolated_by;
        let known = if way == Way::Egress { &mut of_egress[class] } else { &mut of_ingress[class] };
        *known.get_or_insert_with(|| {
            let policies = isolating.iter().filter_map(|policy| new.snapshot.policies.get(*policy as usize));
            let names: Vec<String> = policies.map(|policy| policy.name.clone()).collect();
            deciders.number(if names.is_empty() { "no policy isolates it".into() } else { few(&names) })
        })
    }

    /// A pod, with its address of the family.
    fn party(&self, pod: usize, family: IpFamily) -> Party {
        Party { pod: Some(pod), address: self.worlds[1].snapshot.pods[pod].address_of(family) }
    }

    /// A pod of each class: two different ones.
    fn parties(&self, from: usize, to: usize, family: IpFamily) -> [Party; 2] {
        let classes = &self.worlds[1].classes;
        let (first, mut second) = (self.first_pods[from], self.first_pods[to]);
        if from == to {
            let is_of_class = |pod: &usize| classes.class(*pod).is_some_and(|class| class as usize == to);
            second = (first + 1..self.worlds[1].snapshot.pods.len()).find(is_of_class).unwrap_or(second);
        }
        [first, second].map(|pod| self.party(pod, family))
    }
}
