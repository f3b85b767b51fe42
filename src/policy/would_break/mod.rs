//! Joins recorded flows with policies: which of the flows they would deny, grouped by workload, and which policies would let these through.
//! It keeps one entry for each pair of ends, not for each flow, so its memory does not grow with the length of a recording.

mod allows;
mod ends;
mod judged;
mod recorded;
mod report;
#[cfg(test)]
mod tests;
mod totals;

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
};

pub use self::report::{BrokenFlows, WouldBreak};
use self::{
    ends::RecordedEnds,
    judged::{JudgedFlows, TotalledFlow},
    recorded::{Columns, PassedOver, RecordedAt, RecordedEnd, RecordedFlow, RecordedLine},
    totals::FlowTotals,
};
use super::{
    flow::{Flow, FlowDecision, FlowSnapshot, IpFamily, Party},
    preview::PreviewedBaseline,
};
use crate::api::{label_query::LabelQuery, peers::Protocol};

/// How many lines that cannot be read are shown, and how much of each.
const SHOWN: usize = 3;
const SHOWN_CHARS: usize = 300;
/// How many different pairs of ends and ports are kept.
const MOST_FLOWS: usize = 200_000;

/// A recording, line by line, joined with what exists.
#[derive(Debug)]
pub struct Recording {
    ends: RecordedEnds,
    flows: HashMap<FlowKey, FlowTotals>,
    /// How many flows were dropped where they would arrive.
    dropped: HashMap<FlowKey, u64>,
    columns: Option<Columns>,
    /// The lines of the present file.
    lines_of_file: u64,
    lines: u64,
    passed: BTreeMap<PassedOver, u64>,
    broken: u64,
    broken_lines: Vec<String>,
    /// How many events were lost before they were recorded.
    lost: u64,
    /// Only flows of pods that it selects are judged.
    only: Option<LabelQuery>,
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
    pub fn new(snapshot: FlowSnapshot, baseline: Option<&PreviewedBaseline>) -> Self {
        Self {
            ends: RecordedEnds::new(snapshot, baseline),
            flows: HashMap::new(),
            dropped: HashMap::new(),
            columns: None,
            lines_of_file: 0,
            lines: 0,
            passed: BTreeMap::new(),
            broken: 0,
            broken_lines: Vec::new(),
            lost: 0,
            only: None,
        }
    }

    /// The same recording, of which only the flows of pods that a selector selects are judged.
    #[must_use]
    pub fn only(self, only: Option<LabelQuery>) -> Self {
        Self { only, ..self }
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
            Ok(RecordedLine::Lost(count)) => {
                self.lines += 1;
                self.lost = self.lost.saturating_add(count);
                self.pass(PassedOver::OtherEvent);
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
        self.pass_lines(why, 1);
    }

    fn pass_lines(&mut self, why: PassedOver, lines: u64) {
        if lines > 0 {
            *self.passed.entry(why).or_default() += lines;
        }
    }

    /// Notes a flow. One to the cluster IP of a Service that somebody wrote is one to each kind of pod behind that Service.
    fn flow(&mut self, flow: RecordedFlow) {
        let RecordedEnd::Address(address) = flow.to else { return self.flow_to_end(flow) };
        if !flow.is_written || !self.ends.is_cluster_ip(address) {
            return self.flow_to_end(flow);
        }
        let behind = self.ends.behind(address, (flow.protocol, flow.port));
        if behind.is_empty() {
            self.pass(PassedOver::NoBackend);
        }
        for (to, port) in behind {
            self.flow_to_end(RecordedFlow { to, port, ..flow.clone() });
        }
    }

    fn flow_to_end(&mut self, flow: RecordedFlow) {
        let RecordedFlow { at, count, seen, .. } = flow;
        match self.key(flow) {
            // It only matters which of the other flows did not arrive.
            found if at == RecordedAt::Dropped => {
                if let Ok((key, _)) = found
                    && (self.dropped.len() < MOST_FLOWS || self.dropped.contains_key(&key))
                {
                    let dropped = self.dropped.entry(key).or_default();
                    *dropped = dropped.saturating_add(count);
                }
                self.pass(PassedOver::Dropped);
            }
            Ok((key, _)) if self.flows.len() >= MOST_FLOWS && !self.flows.contains_key(&key) => self.pass(PassedOver::TooMany),
            Ok((key, outside)) => self.flows.entry(key).or_default().note(at, count, seen, outside),
            Err(why) => self.pass(why),
        }
    }

    /// Between which ends a flow is, and the address of the end that is no pod. An error is why it is passed over.
    fn key(&mut self, flow: RecordedFlow) -> Result<(FlowKey, Option<IpAddr>), PassedOver> {
        if let RecordedEnd::Address(address) = flow.to
            && self.ends.is_cluster_ip(address)
        {
            return Err(PassedOver::ClusterIp);
        }
        let addresses = [&flow.from, &flow.to].map(RecordedEnd::address);
        // Names that only begin alike are those of several pods.
        let is_one_pod = flow.from == flow.to && !flow.from.is_of_several();
        let RecordedFlow { protocol, port, .. } = flow;
        let [from, to] = [flow.from, flow.to].map(|end| self.ends.number(end));
        let (from, mut to) = (from?, to?);
        if from == to && !is_one_pod {
            to = self.ends.twin(to);
        }
        let outside = match [from, to].map(|end| self.ends.is_outside(end)) {
            [true, true] => return Err(PassedOver::NoPod),
            [true, false] => addresses[0],
            [false, true] => addresses[1],
            [false, false] => None,
        };
        let family = addresses.into_iter().flatten().next().map_or_else(|| self.ends.family(from), IpFamily::of);
        Ok((FlowKey { from, to, protocol, port, family }, outside))
    }

    /// Judges what was recorded.
    pub fn judge(mut self, baseline: Option<&PreviewedBaseline>) -> WouldBreak {
        let mut all: Vec<(FlowKey, FlowTotals)> = std::mem::take(&mut self.flows).into_iter().collect();
        let dropped_of = |key: &FlowKey| self.dropped.get(key).copied().unwrap_or_default();
        let is_dropped = |(key, totals): &(FlowKey, FlowTotals)| totals.only_left() && totals.count() <= dropped_of(key);
        let dropped: Vec<_> = all.extract_if(.., |one| is_dropped(one)).collect();
        self.pass_lines(PassedOver::Dropped, dropped.iter().map(|(_, totals)| totals.lines).sum());
        all.sort_by_key(|(key, _)| *key);
        let ends = self.ends.finish();
        let before = &ends.world;
        let flow = |(key, totals): (FlowKey, FlowTotals)| {
            let [from, to] = [key.from, key.to].map(|end| ends.party(end, key.family, totals.outside));
            TotalledFlow { flow: Flow { from, to, protocol: key.protocol, port: key.port }, family: key.family, totals }
        };
        let is_meant = |party: Party| {
            let pod = party.pod.and_then(|pod| before.pods.get(pod));
            self.only.as_ref().is_none_or(|only| pod.is_some_and(|pod| only.selects(&pod.labels)))
        };
        let flows = all.into_iter().map(flow).filter(|one| is_meant(one.flow.from) || is_meant(one.flow.to));
        let flows: Vec<TotalledFlow> = flows.collect();
        let count = |broken: &[BrokenFlows], is_it: fn(&BrokenFlows) -> bool| {
            broken.iter().filter(|flows| is_it(flows)).fold(0, |sum: u64, flows| sum.saturating_add(flows.count))
        };
        let JudgedFlows { broken, suggestions, allows, for_people, by_admin_tier } = judged::judge(before, baseline, &flows);
        let closed =
            |baseline: &PreviewedBaseline| before.all_namespaces().iter().filter(|one| !baseline.planned(one).is_empty()).count();
        let namespaces = baseline.map(closed);
        let mut warnings: Vec<String> = before.namespace_gap().into_iter().filter(|_| baseline.is_some()).collect();
        if namespaces == Some(0) {
            warnings.push(
                "the baseline selects none of these namespaces: look at namespaceSelector, excludeNamespaces and policies".into(),
            );
        }
        warnings.extend(baseline.and_then(|baseline| baseline.replaces(before)));
        if !ends.unknown.is_empty() {
            warnings.push(format!("nothing is known of these pods: {}", ends.unknown.join(", ")));
        }
        if self.lost > 0 {
            warnings.push(format!(
                "the network plugin lost {} events before they were recorded, so flows may be missing: record less at once, or enlarge its buffer",
                self.lost
            ));
        }
        warnings.extend(for_people);
        warnings.extend(by_admin_tier.iter().map(|policy| {
            format!(
                "the {policy} denies some of these flows before NetworkPolicies are asked, so no NetworkPolicy can allow them"
            )
        }));
        WouldBreak {
            baseline: baseline.map(|baseline| baseline.name().to_owned()),
            namespaces,
            lines: self.lines,
            flows: flows.iter().fold(0, |sum, one| sum.saturating_add(one.totals.count())),
            not_allowed: count(&broken, |flows| !flows.already),
            denied_already: count(&broken, |flows| flows.already && flows.decision == FlowDecision::Denied),
            undecided_already: count(&broken, |flows| flows.already && flows.decision == FlowDecision::Undecided),
            not_judged: self.passed.iter().filter(|(why, _)| why.is_unknown()).map(|(_, count)| count).sum::<u64>() + self.broken,
            broken,
            passed_over: self.passed,
            unreadable: self.broken,
            unreadable_lines: self.broken_lines,
            warnings,
            allows,
            suggestions,
        }
    }
}
