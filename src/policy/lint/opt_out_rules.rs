//! Rules about an opt-out beside a baseline: what the operator would say of it, once it is created.

use jiff::Timestamp;

use super::{
    custom,
    found::RuleHit,
    given::{GivenObjects, LintDocument},
    rule::LintRule,
};
use crate::{
    api::reason::OptOutRefusal,
    policy::{flow::FlowNamespace, preview::PreviewedBaseline},
};

/// Why the baseline does not allow an opt-out. Where it does not apply, another one may.
pub fn check(document: &LintDocument, given: &GivenObjects, baseline: &PreviewedBaseline, now: Timestamp) -> Option<RuleHit> {
    let name = document.namespace()?;
    let namespace = FlowNamespace { name: name.into(), labels: given.labels_of(name) };
    let (refusal, message) = baseline.refuses(&custom::opt_out(document)?, &namespace, now)?;
    let field = if refusal == OptOutRefusal::PolicyNotAllowed { "spec.policies" } else { "spec.expiresAt" };
    Some(RuleHit::new(LintRule::OptOutNotAllowed, field, message))
}
