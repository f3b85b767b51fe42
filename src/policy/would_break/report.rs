//! The result of joining recorded flows with policies, for people and for machines.

use std::{collections::BTreeMap, fmt};

use jiff::Timestamp;
use serde::Serialize;

use super::recorded::PassedOver;
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
    /// Those of them that would be denied, or are undecided.
    pub not_allowed: u64,
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
    /// The policies that would let through everything that is denied.
    pub suggestions: Vec<Suggestion>,
}

/// Flows between two workloads that would break.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BrokenFlows {
    pub from: String,
    pub to: String,
    pub protocol: Protocol,
    pub port: u16,
    pub count: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_seen: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_seen: Option<Timestamp>,
    pub decision: FlowDecision,
    /// The policies that exist decide the same without the baseline.
    pub already: bool,
    /// The directions and policies that deny it: `egress shop/baseline-default-deny-egress`.
    pub by: Vec<String>,
}

impl fmt::Display for WouldBreak {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let by = match (&self.baseline, self.namespaces) {
            (Some(name), Some(count)) => {
                format!("once the baseline {name} is enforced. Namespaces with its policies: {count}")
            }
            _ => "by the policies that exist".into(),
        };
        match self.not_allowed {
            0 => writeln!(f, "nothing would break: of {0} recorded flows, {0} are allowed {by}", self.flows)?,
            count => writeln!(f, "of {} recorded flows, {count} are not allowed {by}", self.flows)?,
        }
        if self.not_judged > 0 {
            writeln!(f, "{} of {} lines could not be judged", self.not_judged, self.lines)?;
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
        let mut table = Table::new(["FROM", "TO", "PORT", "FLOWS", "FIRST", "LAST", "RESULT", "BY"]);
        for flows in &self.broken {
            let time = |at: Option<Timestamp>| at.and_then(|at| Timestamp::from_second(at.as_second()).ok());
            let time = |at| time(at).map(|at| at.to_string()).unwrap_or_default();
            table.row([
                shown(&flows.from).into_owned(),
                shown(&flows.to).into_owned(),
                format!("{} {}", flows.protocol.into_str(), flows.port),
                flows.count.to_string(),
                time(flows.first_seen),
                time(flows.last_seen),
                format!("{}{}", flows.decision.into_str(), if flows.already { " already" } else { "" }),
                shown(&few(&flows.by)).into_owned(),
            ]);
        }
        table.fmt(f)?;
        for suggestion in &self.suggestions {
            suggestion.fmt(f)?;
        }
        Ok(())
    }
}
