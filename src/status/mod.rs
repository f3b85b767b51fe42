//! From findings to a status. Counts incrementally, sees no client and no clock, and never fails.

mod conditions;
mod ledger;

pub use conditions::Health;
pub use ledger::{Finding, Ledger, Problem, State, drift_record};
