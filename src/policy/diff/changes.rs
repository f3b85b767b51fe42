//! Collects the flows that change, one port class after the other, and groups those that change alike.

use std::collections::{BTreeMap, HashMap};

use super::{
    addresses::AddressSpans,
    ports::{PortClass, port_names},
    report::{ChangedFlows, DecidedDirection, FlowChange, FlowChanges},
    workloads::{ComparedWorkloads, FlowEnds},
};
use crate::policy::flow::{IpFamily, Row, Way};

/// Who decides in a direction, by the number of its text.
pub type Decider = Option<u32>;

/// What flows have in common that change alike, on one port class.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ChangeKey {
    pub change: FlowChange,
    pub egress: Decider,
    pub ingress: Decider,
    pub with: OtherEnd,
}

/// The other end of flows, seen from a workload.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum OtherEnd {
    /// Workloads, to which it sends over this family.
    Pods(IpFamily),
    /// Addresses, to which it sends.
    To,
    /// Addresses, from which it receives.
    From,
}

/// The texts of deciders, each once.
#[derive(Debug, Default)]
pub struct Deciders {
    numbers: HashMap<String, u32>,
    texts: Vec<String>,
}

impl Deciders {
    /// The number of a text.
    pub fn number(&mut self, text: String) -> u32 {
        let next = u32::try_from(self.texts.len()).unwrap_or(u32::MAX);
        *self.numbers.entry(text).or_insert_with_key(|text| {
            self.texts.push(text.clone());
            next
        })
    }

    fn text(&self, number: u32) -> String {
        self.texts.get(number as usize).cloned().unwrap_or_default()
    }
}

/// The ports, and for flows between pods the families, on which flows change.
type PortsOf = BTreeMap<usize, Vec<IpFamily>>;
/// Flows of one workload: what they have in common, and the other ends.
type OfWorkload = (FlowChange, Decider, Decider, OtherKind, Row);

/// The port classes on which flows change over the same families.
type PortsByFamily = Vec<(Vec<IpFamily>, Vec<usize>)>;

/// The kind of the other end, without the family.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
enum OtherKind {
    Pods,
    To,
    From,
}

/// All changes that were found so far.
#[derive(Debug, Default)]
pub struct CollectedChanges {
    /// For each workload, by port class.
    found: BTreeMap<u32, BTreeMap<OfWorkload, PortsOf>>,
}

impl CollectedChanges {
    /// Adds the changes of one workload on one port class. Each row has the other ends: workloads or addresses.
    pub fn add(&mut self, workload: u32, ports: usize, changes: BTreeMap<ChangeKey, Row>) {
        for (key, ends) in changes {
            let (kind, family) = match key.with {
                OtherEnd::Pods(family) => (OtherKind::Pods, Some(family)),
                OtherEnd::To => (OtherKind::To, None),
                OtherEnd::From => (OtherKind::From, None),
            };
            let of_workload = self.found.entry(workload).or_default();
            let of_ends = of_workload.entry((key.change, key.egress, key.ingress, kind, ends)).or_default();
            of_ends.entry(ports).or_default().extend(family);
        }
    }

    /// Groups the workloads whose flows change alike.
    pub fn group(self, of: &ComparedEnds<'_>, limit: usize) -> [FlowChanges; 2] {
        let mut pairs: BTreeMap<FlowChange, u64> = BTreeMap::new();
        let mut groups: BTreeMap<(OfWorkload, PortsByFamily), Row> = BTreeMap::new();
        for (workload, found) in self.found {
            let mut ends: BTreeMap<(FlowChange, OtherKind), Row> = BTreeMap::new();
            for ((change, egress, ingress, kind, row), ports) in found {
                let count = if kind == OtherKind::Pods { of.workloads.count() } else { of.addresses.0.len() };
                ends.entry((change, kind)).or_insert_with(|| Row::new(count)).add(&row, None);
                let mut by_family: BTreeMap<Vec<IpFamily>, Vec<usize>> = BTreeMap::new();
                for (class, families) in ports {
                    by_family.entry(families).or_default().push(class);
                }
                let key = ((change, egress, ingress, kind, of.with_itself(workload, kind, row)), by_family.into_iter().collect());
                let froms = groups.entry(key).or_insert_with(|| Row::new(of.workloads.count()));
                froms.set(workload..workload + 1);
            }
            for ((change, kind), row) in ends {
                // All addresses together are one end.
                *pairs.entry(change).or_default() += if kind == OtherKind::Pods { row.count() } else { 1 };
            }
        }
        let mut rows: BTreeMap<FlowChange, Vec<ChangedFlows>> = BTreeMap::new();
        for (((change, egress, ingress, kind, others), by_family), workloads) in groups {
            for (families, classes) in by_family {
                let row = of.changed((egress, ingress), kind, &others, &workloads, &families, &classes);
                rows.entry(change).or_default().push(row);
            }
        }
        [FlowChange::Allowed, FlowChange::Denied].map(|change| {
            let mut rows = rows.remove(&change).unwrap_or_default();
            rows.sort_by(|one, other| (&one.from, &one.to, &one.ports).cmp(&(&other.from, &other.to, &other.ports)));
            let more = rows.len().saturating_sub(limit);
            rows.truncate(limit);
            FlowChanges { pairs: pairs.get(&change).copied().unwrap_or_default(), rows, more_rows: more }
        })
    }
}

/// What numbers stand for.
#[derive(Debug)]
pub struct ComparedEnds<'c> {
    pub workloads: &'c ComparedWorkloads,
    pub addresses: &'c AddressSpans,
    pub ports: &'c [PortClass],
    pub deciders: &'c Deciders,
    /// The families over which pods reach each other.
    pub families: &'c [IpFamily],
}

impl ComparedEnds<'_> {
    /// A workload with one pod has no flow to itself. So it may count as one of the others, if that makes it like its neighbours.
    fn with_itself(&self, workload: u32, kind: OtherKind, mut others: Row) -> Row {
        if kind == OtherKind::Pods && self.workloads.is_alone(workload) && others.count() > 1 {
            others.set(workload..workload + 1);
        }
        others
    }

    fn changed(
        &self,
        (egress, ingress): (Decider, Decider),
        kind: OtherKind,
        others: &Row,
        workloads: &Row,
        families: &[IpFamily],
        classes: &[usize],
    ) -> ChangedFlows {
        let mut others = others.clone();
        let alone: Vec<usize> = workloads.classes().collect();
        if let ([one], OtherKind::Pods) = (&*alone, kind)
            && u32::try_from(*one).is_ok_and(|workload| self.workloads.is_alone(workload))
        {
            others.unset(*one);
        }
        let own = self.workloads.ends(workloads);
        let addresses = || FlowEnds::first(self.addresses.names(&others));
        let (from, to) = match kind {
            OtherKind::Pods => (own, self.workloads.ends(&others)),
            OtherKind::To => (own, addresses()),
            OtherKind::From => (addresses(), own),
        };
        let directions = [(Way::Egress, egress), (Way::Ingress, ingress)].into_iter();
        ChangedFlows {
            from,
            to,
            ports: port_names(classes.iter().filter_map(|class| self.ports.get(*class))),
            only_over: match families {
                [family] if self.families.len() > 1 => Some((*family).into()),
                _ => None,
            },
            decided: directions
                .filter_map(|(way, by)| Some(DecidedDirection { direction: way.into_str(), by: self.deciders.text(by?) }))
                .collect(),
        }
    }
}
