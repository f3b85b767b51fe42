//! Joins recorded flows with policies: which of the flows they would deny, grouped by workload, and which policies would let these through.
//! It keeps one entry for each pair of ends, not for each flow, so its memory does not grow with the length of a recording.

mod judged;
mod recorded;
mod report;
#[cfg(test)]
mod tests;
mod totals;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    net::IpAddr,
};

pub use self::report::{BrokenFlows, WouldBreak};
use self::{
    judged::{JudgedFlows, TOO_MANY, TotalledFlow},
    recorded::{Columns, PassedOver, RecordedEnd, RecordedFlow, RecordedLine, RecordedPod},
    totals::FlowTotals,
};
use super::{
    flow::{AddressCover, AddressRange, CompiledPolicies, Flow, FlowPod, FlowSnapshot, IpFamily, Party},
    preview::PreviewedBaseline,
};
use crate::api::peers::Protocol;

/// How many lines that cannot be read are shown, and how much of each.
const SHOWN: usize = 3;
const SHOWN_CHARS: usize = 300;
/// How many different pairs of ends and ports are kept.
const MOST_FLOWS: usize = 200_000;
/// How many addresses are remembered with what the policies say of them.
const MOST_REMEMBERED: usize = 100_000;

/// A recording, line by line, joined with what exists.
#[derive(Debug)]
pub struct Recording {
    snapshot: FlowSnapshot,
    /// The ranges that policies name. No policy tells two addresses apart that are in the same ranges.
    ranges: Vec<AddressRange>,
    nodes: HashSet<IpAddr>,
    services: HashSet<IpAddr>,
    /// Which pod has an address now.
    pods_at: HashMap<IpAddr, usize>,
    /// The numbers of ends that are addresses, for the addresses that were seen last.
    outside: HashMap<IpAddr, usize>,
    /// The pods that only the recording knows, one for each set of labels.
    new_pods: Vec<FlowPod>,
    numbers: HashMap<EndKey, usize>,
    ends: Vec<KnownEnd>,
    flows: HashMap<FlowKey, FlowTotals>,
    columns: Option<Columns>,
    /// The lines of the present file.
    lines_of_file: u64,
    lines: u64,
    passed: BTreeMap<PassedOver, u64>,
    broken: u64,
    broken_lines: Vec<String>,
    /// The first pods of which nothing is known.
    unknown: Vec<String>,
}

#[derive(Debug, Eq, Hash, PartialEq)]
enum EndKey {
    /// A pod that exists, or several that are recorded by the beginning of their names.
    Named(String, String),
    /// Pods that are gone, by their namespace and labels, and by the beginning of their names if only that is recorded.
    Gone(String, BTreeMap<String, String>, String),
    /// The other one of two such pods.
    Twin(usize),
    /// An address outside of the pods: the ranges that contain it, and itself if it is the address of a node.
    Outside(Vec<usize>, IpFamily, Option<IpAddr>),
}

#[derive(Clone, Copy, Debug)]
enum KnownEnd {
    /// The number of the pod.
    Pod(usize),
    /// The number of the pod among the new ones.
    New(usize),
    /// Addresses that no policy tells apart. They are of one family.
    Outside(IpFamily),
}

#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
struct FlowKey {
    from: usize,
    to: usize,
    protocol: Protocol,
    port: u16,
    family: IpFamily,
}

impl Recording {
    /// A recording of which nothing was read, joined with the objects that exist and with a baseline that does not exist yet.
    pub fn new(mut snapshot: FlowSnapshot, baseline: Option<&PreviewedBaseline>) -> Self {
        let mut pods_at = HashMap::new();
        for (number, pod) in snapshot.pods.iter_mut().enumerate() {
            if !pod.has_ended && !pod.on_host_network {
                pods_at.extend(pod.addresses.iter().map(|address| (*address, number)));
            }
            // A pod that has ended by now had traffic. It is judged as if it ran, but its address may belong to another pod.
            pod.has_ended = false;
        }
        let services = snapshot.services.iter().flat_map(|service| service.addresses.iter().copied()).collect();
        let nodes = snapshot.pods.iter().flat_map(|pod| pod.node_addresses.iter().copied()).collect();
        let policies = baseline.map(PreviewedBaseline::all_policies).unwrap_or_default();
        let planned = FlowSnapshot { policies, ..FlowSnapshot::default() };
        let mut ranges = CompiledPolicies::of(&snapshot).ranges;
        ranges.extend(CompiledPolicies::of(&planned).ranges);
        Self {
            snapshot,
            ranges,
            nodes,
            services,
            pods_at,
            outside: HashMap::new(),
            new_pods: Vec::new(),
            numbers: HashMap::new(),
            ends: Vec::new(),
            flows: HashMap::new(),
            columns: None,
            lines_of_file: 0,
            lines: 0,
            passed: BTreeMap::new(),
            broken: 0,
            broken_lines: Vec::new(),
            unknown: Vec::new(),
        }
    }

    /// A new file begins. Its format may be another one.
    pub fn begin_file(&mut self) {
        self.columns = None;
        self.lines_of_file = 0;
    }

    /// Reads a line. `place` says where it is. An error means that the file has none of the formats.
    pub fn line(&mut self, line: &str, place: impl Fn() -> String) -> Result<(), String> {
        let line = line.trim_start_matches('\u{feff}').trim();
        if line.is_empty() || line.starts_with('#') {
            return Ok(());
        }
        let is_first = self.lines_of_file == 0;
        self.lines_of_file += 1;
        let read = match &self.columns {
            Some(columns) => columns.flow(line),
            None if line.starts_with('{') => RecordedLine::read_json(line),
            // The first line of a file that was cut is the rest of one.
            None if is_first && !line.ends_with('}') => {
                self.columns = Some(Columns::read(line)?);
                return Ok(());
            }
            None => Err("it is no JSON object".into()),
        };
        match read {
            Ok(RecordedLine::Flow(flow)) => {
                self.lines += 1;
                self.flow(*flow);
            }
            Ok(RecordedLine::Passed(why)) => {
                self.lines += 1;
                self.pass(why);
            }
            Err(why) => self.unreadable(&format!("{}: {why}", place())),
        }
        Ok(())
    }

    /// Counts a line that cannot be read.
    pub fn unreadable(&mut self, what: &str) {
        self.lines += 1;
        self.broken += 1;
        if self.broken_lines.len() < SHOWN {
            self.broken_lines.push(what.chars().take(SHOWN_CHARS).collect());
        }
    }

    fn pass(&mut self, why: PassedOver) {
        *self.passed.entry(why).or_default() += 1;
    }

    fn flow(&mut self, flow: RecordedFlow) {
        let RecordedFlow { from, to, protocol, port, count, seen } = flow;
        if let RecordedEnd::Address(address) = to
            && self.services.contains(&address)
        {
            return self.pass(PassedOver::ClusterIp);
        }
        let addresses = [&from, &to].map(RecordedEnd::address);
        // Names that only begin alike are those of several pods.
        let is_one_pod = from == to && !from.is_of_several();
        let (Some(from), Some(mut to)) = (self.end(from), self.end(to)) else { return self.pass(PassedOver::UnknownPod) };
        if from == to && !is_one_pod {
            to = self.twin(to);
        }
        let outside = match [from, to].map(|end| matches!(self.ends[end], KnownEnd::Outside(_))) {
            [true, true] => return self.pass(PassedOver::NoPod),
            [true, false] => addresses[0],
            [false, true] => addresses[1],
            [false, false] => None,
        };
        let family = addresses.into_iter().flatten().next().map_or_else(|| self.family_of(from), IpFamily::of);
        let mut totals = FlowTotals { count, seen, outside, addresses: AddressCover::default() };
        if let Some(address) = outside {
            totals.addresses.add(address);
        }
        let key = FlowKey { from, to, protocol, port, family };
        if self.flows.len() >= MOST_FLOWS && !self.flows.contains_key(&key) {
            return self.pass(PassedOver::TooMany);
        }
        self.flows.entry(key).or_default().join(&totals);
    }

    fn family_of(&self, end: usize) -> IpFamily {
        let first = match self.ends[end] {
            KnownEnd::Outside(family) => return family,
            KnownEnd::Pod(pod) => self.snapshot.pods[pod].addresses.first().copied(),
            KnownEnd::New(pod) => self.new_pods[pod].addresses.first().copied(),
        };
        first.map_or(IpFamily::IPv4, IpFamily::of)
    }

    /// The number of an end. None: nothing is known of the pod.
    fn end(&mut self, end: RecordedEnd) -> Option<usize> {
        match end {
            RecordedEnd::Address(address) => {
                if let Some(pod) = self.pods_at.get(&address) {
                    return Some(self.number_of_pod(*pod));
                }
                if let Some(known) = self.outside.get(&address) {
                    return Some(*known);
                }
                let ranges = self.ranges.iter().enumerate().filter(|(_, range)| range.has(address)).map(|(number, _)| number);
                let key = EndKey::Outside(ranges.collect(), IpFamily::of(address), self.nodes.get(&address).copied());
                let number = self.number(key, KnownEnd::Outside(IpFamily::of(address)));
                if self.outside.len() >= MOST_REMEMBERED {
                    self.outside.clear();
                }
                self.outside.insert(address, number);
                Some(number)
            }
            RecordedEnd::Pod(pod) => {
                let named = EndKey::Named(pod.namespace.clone(), pod.name.clone());
                if let Some(known) = self.numbers.get(&named) {
                    return Some(*known);
                }
                if let Some(found) = self.snapshot.pod(&pod.namespace, &pod.name) {
                    return Some(self.number_of_pod(found));
                }
                self.number_of_gone(pod)
            }
        }
    }

    fn number(&mut self, key: EndKey, end: KnownEnd) -> usize {
        let ends = &mut self.ends;
        *self.numbers.entry(key).or_insert_with(|| {
            ends.push(end);
            ends.len() - 1
        })
    }

    fn number_of_pod(&mut self, pod: usize) -> usize {
        let FlowPod { namespace, name, .. } = &self.snapshot.pods[pod];
        self.number(EndKey::Named(namespace.clone(), name.clone()), KnownEnd::Pod(pod))
    }

    /// For a pod that is not among the objects: a new one with the labels of its workload. None: no labels are known.
    fn number_of_gone(&mut self, recorded: RecordedPod) -> Option<usize> {
        let RecordedPod { namespace, name, labels, address } = recorded;
        let prefix = name.strip_suffix('*').unwrap_or_default().to_owned();
        if labels.is_none() && prefix.is_empty() {
            return self.forget(&namespace, &name);
        }
        let labels_known = labels.is_some();
        let labels = labels.unwrap_or_default();
        let key = EndKey::Gone(namespace.clone(), labels.clone(), prefix.clone());
        if let Some(known) = self.numbers.get(&key) {
            return Some(*known);
        }
        // A recording may leave out labels. A pod of the same workload has all of them.
        let is_alike = |pod: &FlowPod| {
            let has = |(key, value): (&String, &String)| pod.labels.get(key) == Some(value);
            let is_named =
                || pod.name.strip_prefix(&*prefix).is_some_and(|rest| prefix.is_empty() || !rest.trim_matches('-').contains('-'));
            !pod.on_host_network && labels.iter().all(has) && is_named() && !(labels.is_empty() && prefix.is_empty())
        };
        let alike = self.snapshot.pods_of(&namespace).map(|(_, pod)| pod).filter(|pod| is_alike(pod));
        let alike = alike.min_by_key(|pod| pod.labels.len());
        if alike.is_none() && !labels_known {
            return self.forget(&namespace, &name);
        }
        let (labels, ports) = alike.map_or((labels, vec![]), |pod| (pod.labels.clone(), pod.ports.clone()));
        let number = self.new_pods.len();
        // Its own name, because several pods that are gone may be recorded with one.
        let name = if prefix.is_empty() { name } else { prefix };
        let name = format!("{}~{number}", name.trim_end_matches('-'));
        let addresses = address.into_iter().collect();
        self.new_pods.push(FlowPod { namespace, name, labels, addresses, ports, ..FlowPod::default() });
        Some(self.number(key, KnownEnd::New(number)))
    }

    /// Notes a pod of which nothing is known.
    fn forget(&mut self, namespace: &str, name: &str) -> Option<usize> {
        let pod = format!("{namespace}/{name}");
        if self.unknown.len() < SHOWN && !self.unknown.contains(&pod) {
            self.unknown.push(pod);
        }
        None
    }

    /// Another pod like this one: two pods of a workload are not one pod.
    fn twin(&mut self, end: usize) -> usize {
        let key = EndKey::Twin(end);
        if let Some(known) = self.numbers.get(&key) {
            return *known;
        }
        // A pod that exists is only found by its own name or address.
        let KnownEnd::New(pod) = self.ends[end] else { return end };
        let pod = &self.new_pods[pod];
        let number = self.new_pods.len();
        let twin = FlowPod { name: format!("{}~{number}", pod.name), ..pod.clone() };
        self.new_pods.push(twin);
        self.number(key, KnownEnd::New(number))
    }

    /// Judges what was recorded.
    pub fn judge(self, baseline: Option<&PreviewedBaseline>) -> WouldBreak {
        let mut before = self.snapshot;
        let names: Vec<(String, String)> =
            before.pods.iter().chain(&self.new_pods).map(|pod| (pod.namespace.clone(), pod.name.clone())).collect();
        let existing = before.pods.len();
        before.add_pods(self.new_pods);
        let party = |end: usize, family: IpFamily, outside: Option<IpAddr>| {
            let pod = match self.ends[end] {
                KnownEnd::Outside(_) => return Party { pod: None, address: outside },
                KnownEnd::Pod(pod) => pod,
                KnownEnd::New(pod) => existing + pod,
            };
            let (namespace, name) = &names[pod];
            let pod = before.pod(namespace, name);
            let addresses = pod.map(|pod| &*before.pods[pod].addresses).unwrap_or_default();
            Party { pod, address: addresses.iter().copied().find(|address| IpFamily::of(*address) == family) }
        };
        let mut all: Vec<(FlowKey, FlowTotals)> = self.flows.into_iter().collect();
        all.sort_by_key(|(key, _)| *key);
        let flow = |(key, totals): (FlowKey, FlowTotals)| {
            let [from, to] = [key.from, key.to].map(|end| party(end, key.family, totals.outside));
            TotalledFlow { flow: Flow { from, to, protocol: key.protocol, port: key.port }, family: key.family, totals }
        };
        let flows: Vec<TotalledFlow> = all.into_iter().map(flow).collect();
        let count = |broken: &[BrokenFlows], is_it: fn(&BrokenFlows) -> bool| {
            broken.iter().filter(|flows| is_it(flows)).fold(0, |sum: u64, flows| sum.saturating_add(flows.count))
        };
        let JudgedFlows { broken, suggestions } = judged::judge(&before, baseline, &flows);
        let closed =
            |baseline: &PreviewedBaseline| before.all_namespaces().iter().filter(|one| !baseline.planned(one).is_empty()).count();
        let namespaces = baseline.map(closed);
        let mut warnings: Vec<String> = before.namespace_gap().into_iter().filter(|_| baseline.is_some()).collect();
        if namespaces == Some(0) {
            warnings.push(
                "the baseline selects none of these namespaces: look at namespaceSelector, excludeNamespaces and policies".into(),
            );
        }
        if !self.unknown.is_empty() {
            warnings.push(format!("nothing is known of these pods: {}", self.unknown.join(", ")));
        }
        if broken.iter().any(|flows| flows.to == TOO_MANY || flows.from == TOO_MANY) {
            warnings.push(
                "where there are too many addresses, nothing is suggested: write the ranges of that service yourself".into(),
            );
        }
        WouldBreak {
            baseline: baseline.map(|baseline| baseline.name().to_owned()),
            namespaces,
            lines: self.lines,
            flows: flows.iter().fold(0, |sum, one| sum.saturating_add(one.totals.count)),
            not_allowed: count(&broken, |flows| !flows.already),
            denied_already: count(&broken, |flows| flows.already),
            not_judged: self.passed.iter().filter(|(why, _)| why.is_unknown()).map(|(_, count)| count).sum::<u64>() + self.broken,
            broken,
            passed_over: self.passed,
            unreadable: self.broken,
            unreadable_lines: self.broken_lines,
            warnings,
            suggestions,
        }
    }
}
