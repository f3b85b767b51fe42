//! From findings to a status. Counts incrementally, sees no client and no clock, and never fails.

mod conditions;
mod ledger;

pub use conditions::{ConditionInputs, Going, MAX_MESSAGE};
pub use ledger::{Finding, Ledger, NamespaceState, Problem, drift_record};
