//! The result of joining recorded flows with policies, for people and for machines.

use std::{collections::BTreeMap, fmt};

use jiff::Timestamp;
use serde::Serialize;

use super::{allows::SuggestedAllow, recorded::PassedOver};
use crate::{
    api::{peers::Protocol, text::shown},
    policy::{
        flow::{FlowDecision, Suggestion, few},
        table::Table,
    },
};

/// Which recorded flows policies would deny.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WouldBreak {
    /// The baseline that was joined with the existing policies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub baseline: Option<String>,
    /// In how many namespaces it plans policies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespaces: Option<usize>,
    /// The lines that were read.
    pub lines: u64,
    /// The flows that were judged.
    pub flows: u64,
    /// Those of them that would be denied, or are undecided, and are not today.
    pub not_allowed: u64,
    /// Those of them that the policies that exist deny without the baseline.
    pub denied_already: u64,
    /// Those of them that are undecided with and without the baseline: it is not defined, or not known, what the policies mean for them.
    pub undecided_already: u64,
    /// The lines that could not be judged, and that may be about further ones.
    pub not_judged: u64,
    /// These, grouped by workload.
    pub broken: Vec<BrokenFlows>,
    /// How many lines were passed over, and why.
    pub passed_over: BTreeMap<PassedOver, u64>,
    /// How many lines could not be read.
    pub unreadable: u64,
    /// The first of them, and why.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unreadable_lines: Vec<String>,
    /// What makes the answer doubtful: one sentence each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// Entries of the baseline's `spec.allows` for what several namespaces need, instead of some of the policies.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allows: Vec<SuggestedAllow>,
    /// The policies that would let through everything that is denied, and that is not denied already.
    pub suggestions: Vec<Suggestion>,
}

/// Flows between two workloads that would break.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BrokenFlows {
    pub from: String,
    pub to: String,
    /// The ports of the destination.
    pub ports: Vec<RecordedPort>,
    pub count: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_seen: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_seen: Option<Timestamp>,
    pub decision: FlowDecision,
    /// The policies that exist decide the same without the baseline.
    pub already: bool,
    /// The directions and policies that deny it: `egress baseline-default-deny-egress`. Such a policy is in the namespace of the pod that
    /// sends, and for `ingress` of the pod that receives.
    pub by: Vec<String>,
}

impl fmt::Display for SuggestedAllow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut allow = serde_json::to_value(&self.allow).map_err(|_| fmt::Error)?;
        // It is the default.
        allow.as_object_mut().map(|fields| fields.remove("acknowledgeOpen"));
        let yaml = serde_yaml::to_string(&[allow]).map_err(|_| fmt::Error)?;
        let namespaces: Vec<String> = self.namespaces.iter().map(|name| shown(name).into_owned()).collect();
        let (flows, namespaces) = (self.flows, few(&namespaces));
        let place = match self.allow.namespace_selector {
            Some(_) => "there",
            None => "in every namespace that the baseline selects",
        };
        write!(
            f,
            "\n{flows} flows of {namespaces} need the same. To allow it for all pods {place}, add this to spec.allows of the baseline:\n\n{yaml}"
        )
    }
}

/// A port of a destination.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct RecordedPort {
    pub protocol: Protocol,
    pub number: u16,
}

/// The protocols and ports: `TCP 80, 443, UDP 53`.
fn ports(all: &[RecordedPort]) -> String {
    let protocols = all.chunk_by(|one, other| one.protocol == other.protocol);
    let words = protocols.map(|ports| {
        let numbers: Vec<String> = ports.iter().map(|port| port.number.to_string()).collect();
        format!("{} {}", ports[0].protocol.into_str(), few(&numbers))
    });
    words.collect::<Vec<_>>().join(", ")
}

impl fmt::Display for WouldBreak {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let by = match (&self.baseline, self.namespaces) {
            (Some(name), Some(count)) => {
                format!("once the baseline {name} is enforced. Namespaces with its policies: {count}")
            }
            _ => "by the policies that exist".into(),
        };
        match (self.not_allowed, self.flows) {
            (0, 0) => writeln!(f, "no flow was judged")?,
            (0, flows) if self.not_judged == 0 && self.undecided_already == 0 => {
                writeln!(f, "nothing would break: of {flows} recorded flows, none would be denied {by}")?;
            }
            (0, flows) => {
                writeln!(f, "nothing that was judged would break: of {flows} recorded flows, none would be denied {by}")?;
            }
            (count, flows) => writeln!(f, "of {flows} recorded flows, {count} would not be allowed {by}")?,
        }
        if self.denied_already > 0 {
            writeln!(f, "{} are denied already, by policies that exist: nothing is suggested for these", self.denied_already)?;
        }
        if self.undecided_already > 0 {
            writeln!(f, "{} are undecided, with and without the baseline", self.undecided_already)?;
        }
        if self.not_judged > 0 {
            writeln!(f, "{} of {} lines could not be judged", self.not_judged, self.lines)?;
        }
        for warning in &self.warnings {
            writeln!(f, "Attention: {}", shown(warning))?;
        }
        if self.unreadable > 0 {
            writeln!(f, "not read: {} of {} lines", self.unreadable, self.lines)?;
            for line in &self.unreadable_lines {
                writeln!(f, "  {}", shown(line))?;
            }
        }
        let mut passed = Table::new(["LINES", "PASSED OVER"]);
        for (why, count) in &self.passed_over {
            passed.row([count.to_string(), why.into_str().into()]);
        }
        passed.fmt(f)?;
        let mut table = Table::new(["RESULT", "FROM", "TO", "PORTS", "FLOWS", "LAST SEEN", "BY"]);
        for flows in &self.broken {
            let last = flows.last_seen.and_then(|at| Timestamp::from_second(at.as_second()).ok());
            table.row([
                format!("{}{}", flows.decision.into_str(), if flows.already { " already" } else { "" }),
                shown(&flows.from).into_owned(),
                shown(&flows.to).into_owned(),
                ports(&flows.ports),
                flows.count.to_string(),
                last.map(|at| at.to_string()).unwrap_or_default(),
                shown(&few(&flows.by)).into_owned(),
            ]);
        }
        table.fmt(f)?;
        for one in &self.allows {
            one.fmt(f)?;
        }
        if self.baseline.is_some() && !self.suggestions.is_empty() {
            writeln!(
                f,
                "\nApply these policies and the baseline in one step: until the baseline is there, they isolate pods that are open, and allow DNS only where it was recorded."
            )?;
        }
        for suggestion in &self.suggestions {
            suggestion.fmt(f)?;
        }
        Ok(())
    }
}
