//! Answers a question about a flow: the verdict for each destination, and the policies that would allow what is denied.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    net::IpAddr,
};

use serde::Serialize;

use super::{
    ask::{AskedPort, FlowEnd},
    compile::CompiledPolicies,
    error::FlowError,
    judge::{DirectionVerdict, Flow, FlowDecision, Party, RuleRef},
    object_parts::IpFamily,
    objects::FlowPolicy,
    resolve::{AskedFlows, ServiceRoute, shown},
    rule_parts::Way,
    suggest::{Suggestion, Suggestions, pod_by_labels},
};
use crate::policy::table::counted;

/// How many notes there are about flows of which policies say the same. More of them would only name more pods.
const MOST_NOTES: usize = 8;

/// The answer to a question about a flow.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FlowAnswer<'a> {
    pub from: String,
    pub to: String,
    /// Protocol and port, as they were asked for.
    pub port: String,
    /// The worst decision of all sources and destinations.
    pub decision: FlowDecision,
    /// Whether the source stands for several pods.
    #[serde(skip)]
    pub has_sources: bool,
    /// What each end is called that stands for several pods: a workload, or a namespace and labels.
    #[serde(skip)]
    pub groups: [Option<String>; 2],
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceRoute>,
    /// The pods of the destination that have no container port of the name that was asked for. No flow to them was judged.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub without_port: Vec<String>,
    /// The sources and destinations, grouped by what policies say about them.
    pub cases: Vec<FlowCase<'a>>,
    /// The policies that would allow everything that is denied.
    pub suggestions: Vec<Suggestion>,
}

/// Sources and destinations about which the policies say the same. What a source sends to itself is left out.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FlowCase<'a> {
    pub from: Vec<String>,
    pub to: Vec<String>,
    pub port: u16,
    /// The address family, if the policies say something else about the other one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub family: Option<&'static str>,
    pub decision: FlowDecision,
    pub egress: DirectionVerdict<'a>,
    pub ingress: DirectionVerdict<'a>,
    /// What may surprise.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// A flow and what the policies say about it.
#[derive(Clone, Debug)]
pub struct JudgedFlow<'a> {
    pub flow: Flow,
    pub egress: DirectionVerdict<'a>,
    pub ingress: DirectionVerdict<'a>,
}

impl FlowAnswer<'_> {
    /// Whether every flow that was asked for is allowed.
    pub fn is_allowed(&self) -> bool {
        self.decision == FlowDecision::Allowed && self.without_port.is_empty()
    }
}

impl<'a> JudgedFlow<'a> {
    /// What the policies say in a direction.
    pub const fn of(&self, way: Way) -> &DirectionVerdict<'a> {
        match way {
            Way::Egress => &self.egress,
            Way::Ingress => &self.ingress,
        }
    }

    fn says_the_same_as(&self, other: &Self) -> bool {
        self.egress == other.egress && self.ingress == other.ingress
    }

    /// Whether both directions are allowed.
    pub fn decision(&self) -> FlowDecision {
        self.egress.decision().max(self.ingress.decision())
    }

    fn pair(&self) -> PairKey {
        (CaseEnd::of(self.flow.from), CaseEnd::of(self.flow.to), self.flow.port)
    }

    fn family(&self) -> IpFamily {
        self.flow.to.address.or(self.flow.from.address).map_or(IpFamily::IPv4, IpFamily::of)
    }
}

/// An end of flows over both families.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum CaseEnd {
    Pod(usize),
    Address(Option<IpAddr>),
}

/// The source, the destination and the port.
type PairKey = (CaseEnd, CaseEnd, u16);

impl CaseEnd {
    fn of(party: Party) -> Self {
        party.pod.map_or(Self::Address(party.address), Self::Pod)
    }

    const fn party(&self) -> Party {
        match *self {
            Self::Pod(pod) => Party { pod: Some(pod), address: None },
            Self::Address(address) => Party { pod: None, address },
        }
    }
}

/// Flows about which policies say the same.
struct AlikeFlows<'j, 'a> {
    first: &'j JudgedFlow<'a>,
    family: Option<&'static str>,
    /// Each source with its destinations.
    ends: Vec<(CaseEnd, Vec<CaseEnd>)>,
    seen: HashSet<(CaseEnd, CaseEnd)>,
    notes: Vec<String>,
}

impl AlikeFlows<'_, '_> {
    /// Adds a flow. Those of a source follow each other.
    fn add(&mut self, one: &JudgedFlow<'_>) {
        let (from, to) = (CaseEnd::of(one.flow.from), CaseEnd::of(one.flow.to));
        if !self.seen.insert((from, to)) {
            return;
        }
        match self.ends.last_mut() {
            Some((source, destinations)) if *source == from => destinations.push(to),
            _ => self.ends.push((from, vec![to])),
        }
    }

    /// Sources and destinations of which each source sends to each destination but itself.
    fn blocks(&self) -> Vec<(Vec<CaseEnd>, Vec<CaseEnd>)> {
        let (mut all, mut listed) = (Vec::new(), HashSet::new());
        for to in self.ends.iter().flat_map(|(_, destinations)| destinations) {
            if listed.insert(*to) {
                all.push(*to);
            }
        }
        let is_whole = |(from, to): &(CaseEnd, Vec<CaseEnd>)| {
            let has_itself = listed.contains(from) && !self.seen.contains(&(*from, *from));
            to.len() + usize::from(has_itself) == all.len()
        };
        if self.ends.iter().all(is_whole) {
            return vec![(self.ends.iter().map(|(from, _)| *from).collect(), all)];
        }
        let mut blocks: Vec<(Vec<CaseEnd>, Vec<CaseEnd>)> = Vec::new();
        for (from, destinations) in &self.ends {
            match blocks.iter_mut().find(|(_, others)| others == destinations) {
                Some((sources, _)) => sources.push(*from),
                None => blocks.push((vec![*from], destinations.clone())),
            }
        }
        blocks
    }
}

impl<'a> CompiledPolicies<'a> {
    /// Answers a question.
    pub fn answer(&self, from: &FlowEnd, to: &FlowEnd, port: &AskedPort) -> Result<FlowAnswer<'a>, FlowError> {
        let AskedFlows { flows, service, sources, destinations, without_port } = AskedFlows::find(self.snapshot, from, to, port)?;
        let judged: Vec<_> = flows.into_iter().map(|flow| self.judged(flow)).collect();
        let first =
            |end: fn(&Flow) -> Party| judged.first().map(|judged| shown(self.snapshot, end(&judged.flow))).unwrap_or_default();
        let destination = match &service {
            Some(service) => format!("{}/svc/{}", service.namespace, service.name),
            None => first(|flow| flow.to),
        };
        Ok(FlowAnswer {
            from: as_asked(from, first(|flow| flow.from), sources),
            to: as_asked(to, destination, destinations),
            port: port.to_string(),
            decision: judged.iter().map(JudgedFlow::decision).max().unwrap_or(FlowDecision::Undecided),
            has_sources: sources.is_some_and(|sources| sources > 1),
            groups: [from, to].map(FlowEnd::group),
            service,
            without_port,
            suggestions: self.suggestions(&judged),
            cases: self.cases(&judged),
        })
    }

    /// Judges both directions of a flow.
    pub fn judged(&self, flow: Flow) -> JudgedFlow<'a> {
        JudgedFlow { flow, egress: self.judge(&flow, Way::Egress), ingress: self.judge(&flow, Way::Ingress) }
    }

    fn cases(&self, judged: &[JudgedFlow<'a>]) -> Vec<FlowCase<'a>> {
        let mut of_pair: HashMap<PairKey, [Option<usize>; 2]> = HashMap::new();
        for (one, index) in judged.iter().zip(0..) {
            of_pair.entry(one.pair()).or_default()[usize::from(one.family() == IpFamily::IPv6)].get_or_insert(index);
        }
        // Whether the policies say something else about the other address family of the same pods.
        let differs = |one: &JudgedFlow| {
            let other = of_pair.get(&one.pair()).and_then(|both| both[usize::from(one.family() == IpFamily::IPv4)]);
            one.flow.to.pod.is_some() && other.is_some_and(|other| !judged[other].says_the_same_as(one))
        };
        let mut alike: Vec<AlikeFlows<'_, 'a>> = Vec::new();
        for one in judged {
            let family = differs(one).then(|| one.family().into());
            let is_same = |other: &AlikeFlows| {
                (other.first.flow.port, other.family) == (one.flow.port, family) && other.first.says_the_same_as(one)
            };
            let found = alike.iter().position(is_same).unwrap_or_else(|| {
                alike.push(AlikeFlows { first: one, family, ends: vec![], seen: HashSet::new(), notes: vec![] });
                alike.len() - 1
            });
            let of = &mut alike[found];
            of.add(one);
            if of.notes.len() < MOST_NOTES {
                let new: Vec<String> = self.notes(one).into_iter().filter(|note| !of.notes.contains(note)).collect();
                of.notes.extend(new);
            }
        }
        let name = |end: &CaseEnd| shown(self.snapshot, end.party());
        let case = |of: AlikeFlows<'_, 'a>| {
            let AlikeFlows { first, family, ref notes, .. } = of;
            let cases: Vec<_> = of
                .blocks()
                .into_iter()
                .map(|(from, to)| FlowCase {
                    from: from.iter().map(name).collect(),
                    to: to.iter().map(name).collect(),
                    port: first.flow.port,
                    family,
                    decision: first.decision(),
                    egress: first.egress.clone(),
                    ingress: first.ingress.clone(),
                    notes: notes.clone(),
                })
                .collect();
            cases
        };
        alike.into_iter().flat_map(case).collect()
    }

    /// What may surprise about a flow.
    fn notes(&self, judged: &JudgedFlow<'_>) -> Vec<String> {
        let mut notes = Vec::new();
        for (way, verdict, peer) in
            [(Way::Egress, &judged.egress, judged.flow.to), (Way::Ingress, &judged.ingress, judged.flow.from)]
        {
            let name = shown(self.snapshot, peer);
            if let DirectionVerdict::Allowed { by } = verdict
                && peer.pod.is_some()
                && by.iter().all(|rule| self.is_by_address(way, rule))
            {
                notes.push(format!("only an ipBlock allows this, by the address of {name}. The address changes with the pod, and some network plugins, such as Cilium, apply no ipBlock to pods"));
            }
        }
        for (way, verdict) in [(Way::Egress, &judged.egress), (Way::Ingress, &judged.ingress)] {
            let direction = way.into_str();
            if let Some(rule) = self.passing_rule(&judged.flow, way) {
                notes.push(format!("the {} passes the {direction} on to NetworkPolicies, by {}", rule.policy, rule.place(way)));
            }
            if let DirectionVerdict::DeniedByTier { by } = verdict
                && verdict.is_denied_by_admin_tier()
            {
                let names: BTreeSet<String> = by.iter().map(|rule| format!("the {}", rule.policy)).collect();
                let names: Vec<String> = names.into_iter().collect();
                notes.push(format!(
                    "no NetworkPolicy can allow the {direction}, because {} decides first. To allow it, change that policy",
                    names.join(" or ")
                ));
            }
        }
        let (from, to) = (judged.flow.from, judged.flow.to);
        if from.pod != to.pod && (from.address.is_none() || to.address.is_none()) {
            let (from, to) = (shown(self.snapshot, from), shown(self.snapshot, to));
            notes.push(format!("{from} or {to} has no address yet, so no ipBlock was compared"));
        }
        notes
    }

    /// Whether the peer that matches is an `ipBlock`.
    pub fn is_by_address(&self, way: Way, by: &RuleRef<'_>) -> bool {
        let policies = &self.snapshot.policies;
        let is_it = |one: &&FlowPolicy| (&*one.namespace, &*one.name) == (by.policy.namespace, by.policy.name);
        let Some((policy, peer)) = policies.iter().find(is_it).zip(by.peer) else { return false };
        let peers = match way {
            Way::Egress => policy.spec.egress.iter().flatten().nth(by.rule).and_then(|rule| rule.to.as_ref()),
            Way::Ingress => policy.spec.ingress.iter().flatten().nth(by.rule).and_then(|rule| rule.from.as_ref()),
        };
        peers.and_then(|peers| peers.get(peer)).is_some_and(|peer| peer.ip_block.is_some())
    }

    /// A policy for each direction that denies, each once. None for a flow that the Admin tier denies: no NetworkPolicy can allow it.
    pub fn suggestions(&self, judged: &[JudgedFlow<'_>]) -> Vec<Suggestion> {
        let mut all = Suggestions::default();
        let mut seen = HashSet::new();
        let may_be_allowed =
            |one: &&JudgedFlow<'_>| !one.egress.is_denied_by_admin_tier() && !one.ingress.is_denied_by_admin_tier();
        for one in judged.iter().filter(may_be_allowed) {
            for (way, verdict) in [(Way::Egress, &one.egress), (Way::Ingress, &one.ingress)] {
                if verdict.decision() != FlowDecision::Denied {
                    continue;
                }
                // Pods of a class get the same policy.
                let (own, peer) = one.flow.ends(way);
                let class = |party: Party| party.pod.and_then(|pod| self.classes.class(pod));
                let by_labels = pod_by_labels(self.snapshot, peer).and_then(|_| class(peer));
                let address = if by_labels.is_none() { peer.address } else { None };
                if seen.insert((way == Way::Egress, class(own), by_labels, address, one.flow.port)) {
                    all.push(Suggestion::of(self, &one.flow, way), self.snapshot);
                }
            }
        }
        all.all
    }
}

/// An address together with what has it, and what stands for several pods together with their number.
fn as_asked(asked: &FlowEnd, found: String, pods: Option<usize>) -> String {
    match (asked, pods) {
        (FlowEnd::Address(address), _) if address.to_string() != found => format!("{address} ({found})"),
        (asked, Some(pods)) => format!("{asked} ({})", counted(pods as u64, "pod", "pods")),
        _ => found,
    }
}
