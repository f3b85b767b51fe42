//! What was found in one namespace under one baseline.

use std::sync::Arc;

use crate::api::reason::FindingReason;

/// The state of a namespace under one baseline: it has exactly one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[cfg_attr(test, derive(strum::VariantArray))]
pub enum NamespaceState {
    /// Its policies are in place.
    Protected,
    /// Its policies are being written.
    Pending,
    /// It differs from the plan, and nothing is written: Audit.
    Drifted,
    /// A write failed.
    Failed,
    /// Older than the baseline, and only reported.
    Reported,
    /// Its ingress is left open, because the API server calls a Service there. The rest is in place.
    Held,
    /// Nothing is changed for now: the baseline is suspended or stalled, or waits for a confirmation.
    Frozen,
    /// Another baseline comes first: it is not selected.
    Shadowed,
}

/// An entry of a status: what is wrong in a namespace, or worth knowing.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Problem {
    /// The policy, when it concerns one.
    pub policy: Option<String>,
    /// Which of the closed set of reasons.
    pub reason: FindingReason,
    /// What it is, and what to do.
    pub message: String,
}

/// What was found in a namespace.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Finding {
    /// Its state.
    pub state: NamespaceState,
    /// What is wrong or worth knowing.
    pub problems: Vec<Problem>,
    /// The baselines of the same priority that select the namespace too: the names alone decide between them.
    pub ties: Vec<Arc<str>>,
}

impl Finding {
    /// A state without a problem.
    pub const fn fine(state: NamespaceState) -> Self {
        Self { state, problems: vec![], ties: vec![] }
    }

    /// A state with a problem.
    pub fn wrong(state: NamespaceState, problem: Problem) -> Self {
        Self { problems: vec![problem], ..Self::fine(state) }
    }

    /// Adds that the API server calls a Service there. A namespace that would be protected is held.
    pub fn hold(&mut self, notice: Problem) {
        if self.state == NamespaceState::Protected {
            self.state = NamespaceState::Held;
        }
        self.problems.push(notice);
    }
}
