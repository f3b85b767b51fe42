//! An allow of a baseline. Whatever it contains: either the operator refuses it with a sentence, or its policies name who may talk, carry DNS,
//! and open nothing to everybody unless the allow says so.

use policy_baseline::{Baseline, Openings, PolicyBaseline, Purpose};
use serde_json::{Value, json};

use crate::{OPERATOR, baseline::is_planned_safely};

/// The result for a valid allow.
const VALID: &str = "Valid";

/// Checks everything that must hold for an allow. The input is one entry of `spec.allows`, as JSON. Returns the reason that the status of
/// its baseline gives. None if the input is no JSON, or has not the form of an allow.
///
/// # Panics
///
/// If a property does not hold.
pub fn allow(bytes: &[u8]) -> Option<&'static str> {
    let allow: Value = serde_json::from_slice(bytes).ok()?;
    let checked = check(&json!([allow]))?;
    let valid = match checked {
        Ok(baseline) => baseline,
        Err(reason) => return Some(reason),
    };
    is_planned_safely(&valid);
    if !allow["acknowledgeOpen"].as_bool().unwrap_or_default() {
        opens_to_nobody_unnamed(&valid);
    }
    let twice = check(&json!([allow, allow])).expect("it has the form of an allow");
    assert_eq!(twice.err(), Some("InvalidAllow"), "two allows of one name");
    Some(VALID)
}

/// Checks a baseline with these allows. None if they have another form.
fn check(allows: &Value) -> Option<Result<Baseline, &'static str>> {
    let object = json!({
        "apiVersion": "policybaseline.io/v1alpha1", "kind": "PolicyBaseline",
        "metadata": {"name": "b", "uid": "u", "creationTimestamp": "2020-01-01T00:00:00Z"},
        "spec": {"mode": "Enforce", "allows": allows},
    });
    let object: PolicyBaseline = serde_json::from_value(object).ok()?;
    let again = serde_json::to_value(&object.spec).expect("a spec is JSON");
    assert_eq!(
        serde_json::from_value::<policy_baseline::PolicyBaselineSpec>(again).expect("what was encoded decodes"),
        object.spec
    );
    Some(Baseline::check(&object, OPERATOR).map_err(|error| {
        assert!(error.to_string().starts_with("spec.allows["), "{error} names no field of the allow");
        error.reason()
    }))
}

fn opens_to_nobody_unnamed(baseline: &Baseline) {
    for policy in baseline.policies.iter().filter(|policy| matches!(policy.purpose, Purpose::Allow(_))) {
        let mut spec = policy.spec.clone();
        spec.pod_selector = None;
        assert!(Openings::of(&spec).is_none(), "{}: {:?}", policy.name, Openings::of(&spec));
    }
}
