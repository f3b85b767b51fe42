//! What a rule finds in an object.

use super::rule::LintRule;

/// What a rule found, before it has a place.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct RuleHit {
    pub rule: LintRule,
    /// The field.
    pub path: String,
    /// Its key is wrong, and not its value.
    pub is_key: bool,
    pub message: String,
}

impl RuleHit {
    pub fn new(rule: LintRule, path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { rule, path: path.into(), is_key: false, message: message.into() }
    }

    /// The same, about the key of the field.
    #[must_use]
    pub fn of_key(self) -> Self {
        Self { is_key: true, ..self }
    }
}
