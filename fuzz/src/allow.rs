//! An allow of a baseline. Whatever it contains: either the operator refuses it with a sentence, or its policies name who may talk, carry DNS,
//! and open nothing to everybody unless the allow says so.

use policy_baseline::{Baseline, Openings, PolicyBaselineSpec, Purpose, RawBaseline};
use serde_json::{Value, json};

use crate::{OPERATOR, baseline::is_planned_safely};

/// The result for a valid allow.
const VALID: &str = "Valid";

/// Checks everything that must hold for an allow. The input is one entry of `spec.allows`, as JSON. Returns the reason that the status of
/// its baseline gives. None if the input is no JSON.
///
/// # Panics
///
/// If a property does not hold.
pub fn allow(bytes: &[u8]) -> Option<&'static str> {
    let allow: Value = serde_json::from_slice(bytes).ok()?;
    let valid = match check(&json!([allow])) {
        Ok(baseline) => baseline,
        Err(reason) => return Some(reason),
    };
    is_planned_safely(&valid);
    if !allow["acknowledgeOpen"].as_bool().unwrap_or_default() {
        opens_to_nobody_unnamed(&valid);
    }
    assert_eq!(check(&json!([allow, allow])).err(), Some("InvalidAllow"), "two allows of one name");
    Some(VALID)
}

/// Checks a baseline with these allows. An error is the reason that its status gives.
fn check(allows: &Value) -> Result<Baseline, &'static str> {
    let object = json!({
        "apiVersion": "policybaseline.io/v1alpha1", "kind": "PolicyBaseline",
        "metadata": {"name": "b", "uid": "u", "creationTimestamp": "2020-01-01T00:00:00Z"},
        "spec": {"mode": "Enforce", "allows": allows},
    });
    let raw: RawBaseline = serde_json::from_value(object.clone()).expect("whatever its spec is, it has metadata");
    if let Ok(spec) = serde_json::from_value::<PolicyBaselineSpec>(object["spec"].clone()) {
        let again = serde_json::to_value(&spec).expect("a spec is JSON");
        assert_eq!(serde_json::from_value::<PolicyBaselineSpec>(again).expect("what was encoded decodes"), spec);
    }
    raw.check(OPERATOR).map_err(|error| {
        let names_the_field = error.to_string().starts_with("spec.allows[") || error.reason() == "Undecodable";
        assert!(names_the_field, "{error} names no field of the allow");
        error.reason()
    })
}

fn opens_to_nobody_unnamed(baseline: &Baseline) {
    for policy in baseline.policies.iter().filter(|policy| matches!(policy.purpose, Purpose::Allow(_))) {
        let mut spec = policy.spec.clone();
        spec.pod_selector = None;
        assert!(Openings::of(&spec).is_none(), "{}: {:?}", policy.name, Openings::of(&spec));
    }
}
