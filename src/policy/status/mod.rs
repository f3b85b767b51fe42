//! From findings to a status. Counts incrementally, sees no client and no clock, and never fails.

mod conditions;
mod finding;
mod ledger;
mod samples;

pub use conditions::{ConditionInputs, Going, MAX_MESSAGE};
pub use finding::{Finding, NamespaceState, Problem};
pub use ledger::{Ledger, drift_record};
