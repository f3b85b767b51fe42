//! The answer to a question about a symptom, and how people read it.

use std::fmt;

use serde::Serialize;
use strum::IntoStaticStr;

use super::cause::{CauseName, CauseState, SymptomCause};
use crate::policy::{
    flow::{FlowDecision, Suggestion},
    table::counted,
};

/// What a person sees.
#[derive(Clone, Copy, Debug, Eq, IntoStaticStr, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[strum(const_into_str, serialize_all = "kebab-case")]
pub enum Symptom {
    /// Names resolve late, or not at all.
    DnsHangs,
    /// Two ends should talk, and cannot.
    Blocked,
    /// A policy is there, and traffic flows.
    Passes,
    /// A rule should allow the traffic, and it is blocked.
    BlockedThoughAllowed,
    /// Sometimes it works.
    ComesAndGoes,
}

impl Symptom {
    /// Where to look if no cause was found.
    fn elsewhere(self, causes: &[SymptomCause]) -> String {
        let is_open = |name: CauseName| causes.iter().any(|cause| cause.cause == name && cause.state == CauseState::NotKnown);
        match self {
            Self::DnsHangs => {
                "Nothing that was read of policies and of the DNS Service stands in the way. Look at what is not known, and then outside of policies: search domains (ndots), the log and the load of the DNS pods, and the upstream nameservers".into()
            }
            Self::Blocked | Self::BlockedThoughAllowed => {
                "No policy that was read stands in the way. Look at what is not known, and then outside of policies: whether the program listens on this port and on all addresses, and firewalls of the nodes or of the cloud".into()
            }
            Self::Passes => {
                let often = [
                    (CauseName::OpenConnection, "the connection is older than the policy"),
                    (CauseName::PluginIgnores, "the network plugin does not enforce policies"),
                ];
                let often: Vec<&str> = often.into_iter().filter(|(name, _)| is_open(*name)).map(|(_, what)| what).collect();
                let most_often = if often.is_empty() { String::new() } else { format!(": most often {}", often.join(", or ")) };
                format!("No policy that was read lets this traffic through. Look at what is not known{most_often}")
            }
            Self::ComesAndGoes => {
                "The policies treat all pods alike. Look at what is not known, and then outside of policies: restarts, probes and load of the pods, and single nodes".into()
            }
        }
    }
}

/// The causes of a symptom.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SymptomAnswer {
    pub symptom: Symptom,
    /// Whose symptom it is.
    pub of: String,
    /// The worst decision of all flows that were judged; none if there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decision: Option<FlowDecision>,
    /// Those that were found come first, then what is not known. Within these, in the order in which they are likely.
    pub causes: Vec<SymptomCause>,
    /// The policies that would allow what is denied.
    pub suggestions: Vec<Suggestion>,
}

impl SymptomAnswer {
    /// Sorts the causes.
    pub fn new(
        symptom: Symptom,
        (of, decision): (String, Option<FlowDecision>),
        mut causes: Vec<SymptomCause>,
        suggestions: Vec<Suggestion>,
    ) -> Self {
        causes.sort_by_key(|cause| cause.state);
        Self { symptom, of, decision, causes, suggestions }
    }

    /// Whether it is not decided what the policies mean for a flow, and they deny none.
    pub fn is_undecided(&self) -> bool {
        self.decision == Some(FlowDecision::Undecided)
    }

    /// Where to look.
    fn elsewhere(&self) -> String {
        match self.decision {
            None => "No flow could be judged. Look at what is not known".into(),
            Some(FlowDecision::Undecided) => {
                "It is not defined what the policies mean for this flow, or not all of them could be read. Look at what is not known".into()
            }
            Some(FlowDecision::Allowed | FlowDecision::Denied) => self.symptom.elsewhere(&self.causes),
        }
    }

    /// Whether a cause was found.
    pub fn is_found(&self) -> bool {
        self.causes.iter().any(SymptomCause::is_found)
    }

    fn of_state(&self, state: CauseState) -> impl Iterator<Item = &SymptomCause> {
        self.causes.iter().filter(move |cause| cause.state == state)
    }
}

impl fmt::Display for SymptomAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.symptom.into_str();
        let undecided = if self.is_undecided() { "undecided, " } else { "" };
        match self.of_state(CauseState::Found).count() {
            0 => writeln!(f, "{name}: {}: {undecided}no cause found\n\n{}.", self.of, self.elsewhere())?,
            found => writeln!(f, "{name}: {}: {undecided}{} found", self.of, counted(found as u64, "cause", "causes"))?,
        }
        for cause in self.of_state(CauseState::Found) {
            write_cause(f, "FOUND", cause, "do")?;
        }
        for cause in self.of_state(CauseState::NotKnown) {
            write_cause(f, "NOT KNOWN", cause, "to know it")?;
        }
        let mut ruled_out = self.of_state(CauseState::RuledOut).peekable();
        if ruled_out.peek().is_some() {
            writeln!(f, "\nRULED OUT")?;
        }
        for cause in ruled_out {
            writeln!(f, "  {}: {}", cause.cause.into_str(), cause.evidence.join("; "))?;
        }
        for suggestion in &self.suggestions {
            suggestion.fmt(f)?;
        }
        Ok(())
    }
}

fn write_cause(f: &mut fmt::Formatter<'_>, state: &str, cause: &SymptomCause, next: &str) -> fmt::Result {
    writeln!(f, "\n{state}: {} ({})", cause.what, cause.cause.into_str())?;
    for line in &cause.evidence {
        writeln!(f, "  {line}")?;
    }
    if !cause.next.is_empty() {
        writeln!(f, "  {next}: {}", cause.next)?;
    }
    Ok(())
}
