//! Turns findings into a status. Keeps counts incrementally, uses no client and no clock, and cannot fail.

mod allows;
mod conditions;
mod finding;
mod inputs;
mod ledger;
mod samples;

pub use allows::AllowFacts;
pub use conditions::MAX_MESSAGE;
pub use finding::{Finding, NamespaceState, Problem};
pub use inputs::{ConditionInputs, Going};
pub use ledger::{Ledger, drift_record};
