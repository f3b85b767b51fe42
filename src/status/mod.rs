//! From findings to a status. Counts incrementally, sees no client and no clock, and never fails.

mod conditions;
mod ledger;

pub use conditions::{Going, Health};
pub use ledger::{Finding, Ledger, Problem, State, drift_record};

/// A text of at most so many characters.
fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.into();
    }
    text.chars().take(most - 1).chain(['…']).collect()
}
