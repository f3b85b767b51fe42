//! Answers a question about a flow: the verdict for each destination, and the policies that would allow what is denied.

use std::collections::BTreeSet;

use serde::Serialize;

use super::{
    ask::{AskedPort, FlowEnd},
    compile::CompiledPolicies,
    error::FlowError,
    judge::{DirectionVerdict, Flow, FlowDecision, RuleRef},
    objects::FlowPolicy,
    ranges::IpFamily,
    resolve::{AskedFlows, ServiceRoute, shown},
    rule_parts::Way,
    suggest::{Suggestion, Suggestions},
};

/// The answer to a question about a flow.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FlowAnswer<'a> {
    pub from: String,
    pub to: String,
    /// Protocol and port, as they were asked for.
    pub port: String,
    /// The worst decision of all destinations.
    pub decision: FlowDecision,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceRoute>,
    /// The destinations, grouped by what policies say about them.
    pub cases: Vec<FlowCase<'a>>,
    /// The policies that would allow everything that is denied.
    pub suggestions: Vec<Suggestion>,
}

/// Destinations about which the policies say the same.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FlowCase<'a> {
    pub from: String,
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
struct Judged<'a> {
    flow: Flow,
    egress: DirectionVerdict<'a>,
    ingress: DirectionVerdict<'a>,
}

impl Judged<'_> {
    fn says_the_same_as(&self, other: &Self) -> bool {
        self.egress == other.egress && self.ingress == other.ingress
    }

    fn decision(&self) -> FlowDecision {
        self.egress.decision().max(self.ingress.decision())
    }
}

impl<'a> CompiledPolicies<'a> {
    /// Answers a question.
    pub fn answer(&self, from: &FlowEnd, to: &FlowEnd, port: &AskedPort) -> Result<FlowAnswer<'a>, FlowError> {
        let AskedFlows { flows, service } = AskedFlows::find(self.snapshot, from, to, port)?;
        let judged: Vec<_> = flows.into_iter().map(|flow| self.judged(flow)).collect();
        let source = judged.first().map(|judged| shown(self.snapshot, judged.flow.from)).unwrap_or_default();
        let destination = match &service {
            Some(service) => format!("{}/svc/{}", service.namespace, service.name),
            None => judged.first().map(|judged| shown(self.snapshot, judged.flow.to)).unwrap_or_default(),
        };
        Ok(FlowAnswer {
            from: as_asked(from, source),
            to: as_asked(to, destination),
            port: port.to_string(),
            decision: judged.iter().map(Judged::decision).max().unwrap_or(FlowDecision::Undecided),
            service,
            suggestions: self.suggestions(&judged),
            cases: self.cases(&judged),
        })
    }

    fn judged(&self, flow: Flow) -> Judged<'a> {
        Judged { flow, egress: self.judge(&flow, Way::Egress), ingress: self.judge(&flow, Way::Ingress) }
    }

    fn cases(&self, judged: &[Judged<'a>]) -> Vec<FlowCase<'a>> {
        let family = |judged: &Judged| {
            let Flow { from, to, .. } = judged.flow;
            to.address.or(from.address).map_or(IpFamily::IPv4, IpFamily::of)
        };
        // Whether the policies say something else about the other address family of the same destination.
        let differs = |one: &Judged| {
            let is_other = |other: &&Judged| other.flow.to.pod == one.flow.to.pod && family(other) != family(one);
            one.flow.to.pod.is_some() && judged.iter().find(is_other).is_some_and(|other| !other.says_the_same_as(one))
        };
        let mut cases: Vec<FlowCase<'a>> = Vec::new();
        for one in judged {
            let family = differs(one).then(|| family(one).into());
            let to = shown(self.snapshot, one.flow.to);
            let is_same = |case: &&mut FlowCase| {
                (case.port, case.family, &case.egress, &case.ingress) == (one.flow.port, family, &one.egress, &one.ingress)
            };
            let notes = self.notes(one);
            if let Some(case) = cases.iter_mut().find(is_same) {
                if !case.to.contains(&to) {
                    case.to.push(to);
                }
                let new: Vec<String> = notes.into_iter().filter(|note| !case.notes.contains(note)).collect();
                case.notes.extend(new);
                continue;
            }
            cases.push(FlowCase {
                from: shown(self.snapshot, one.flow.from),
                to: vec![to],
                port: one.flow.port,
                family,
                decision: one.decision(),
                egress: one.egress.clone(),
                ingress: one.ingress.clone(),
                notes,
            });
        }
        cases
    }

    /// What may surprise about a flow.
    fn notes(&self, judged: &Judged<'_>) -> Vec<String> {
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
    fn is_by_address(&self, way: Way, by: &RuleRef<'_>) -> bool {
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
    fn suggestions(&self, judged: &[Judged<'_>]) -> Vec<Suggestion> {
        let mut all = Suggestions::default();
        let may_be_allowed = |one: &&Judged<'_>| !one.egress.is_denied_by_admin_tier() && !one.ingress.is_denied_by_admin_tier();
        for one in judged.iter().filter(may_be_allowed) {
            for (way, verdict) in [(Way::Egress, &one.egress), (Way::Ingress, &one.ingress)] {
                if verdict.decision() != FlowDecision::Denied {
                    continue;
                }
                all.push(Suggestion::of(self, &one.flow, way), self.snapshot);
            }
        }
        all.all
    }
}

/// An address together with what has it.
fn as_asked(asked: &FlowEnd, found: String) -> String {
    match asked {
        FlowEnd::Address(address) if address.to_string() != found => format!("{address} ({found})"),
        FlowEnd::Address(_) | FlowEnd::Pod { .. } | FlowEnd::Service { .. } => found,
    }
}
