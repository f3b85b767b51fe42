//! From findings to a status. Counts incrementally, sees no client and no clock, and never fails.

mod conditions;
mod ledger;

pub use conditions::{Going, Health, MAX_MESSAGE};
pub use ledger::{Finding, Ledger, Problem, State, drift_record};
