//! The result of comparing one namespace with one baseline.

use std::sync::Arc;

use crate::api::reason::FindingReason;

/// The state of a namespace under one baseline. A namespace has exactly one state.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[cfg_attr(test, derive(strum::VariantArray))]
pub enum NamespaceState {
    /// All planned policies are in place.
    Protected,
    /// The operator is writing the policies.
    Pending,
    /// The namespace differs from the plan, and the operator does not write, because the mode is Audit.
    Drifted,
    /// A write was refused or failed.
    Failed,
    /// The namespace is being deleted and lacks planned policies, which nobody can create there. Pods may still run there.
    Unprotected,
    /// The same, but the deletion has failed for so long that the baseline no longer waits for the namespace. Counted as unprotected too.
    Stuck,
    /// The namespace is older than the baseline, which only reports it.
    Reported,
    /// It is left open because the API server calls a Service there: in both directions, or in ingress only if an allow lets all its pods reach
    /// the API server. All that is planned is in place.
    Held,
    /// The operator changes nothing for now: the baseline is suspended, stalled or awaits confirmation. Or a finalizer keeps what was removed.
    Frozen,
    /// Another baseline has a higher precedence, so this one does not count the namespace as selected.
    Shadowed,
}

/// An entry of a status: a violation or a notice about a namespace.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Problem {
    /// The policy, if the entry is about one.
    pub policy: Option<String>,
    /// One of a fixed set of reasons.
    pub reason: FindingReason,
    /// What it is, and what the user can do about it.
    pub message: String,
}

/// The result for one namespace.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Finding {
    /// The one state that is counted.
    pub state: NamespaceState,
    /// The violations and notices.
    pub problems: Vec<Problem>,
    /// The baselines of the same priority that also select the namespace. Only the names decide between them.
    pub ties: Vec<Arc<str>>,
}

impl Finding {
    /// A result without problems.
    pub const fn fine(state: NamespaceState) -> Self {
        Self { state, problems: vec![], ties: vec![] }
    }

    /// A result with one problem.
    pub fn wrong(state: NamespaceState, problem: Problem) -> Self {
        Self { problems: vec![problem], ..Self::fine(state) }
    }

    /// Adds the notice that the API server calls a Service there. The state Protected becomes Held.
    pub fn hold(&mut self, notice: Problem) {
        if self.state == NamespaceState::Protected {
            self.state = NamespaceState::Held;
        }
        self.problems.push(notice);
    }
}
