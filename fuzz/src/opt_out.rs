//! A BaselineOptOut, of this version or any other. Either it is in force exactly within its limits and its time, or the verdict says
//! why not.

use jiff::{SignedDuration, Timestamp};
use policy_baseline::{
    Baseline, BaselineOptOut, BaselineOptOutSpec, Namespace, NamespaceName, NamespaceOptOuts, OptOut, OptOutVerdict,
    PolicyBaseline, RawOptOut, Role, Ruling, verdict,
};
use serde_json::{Value, json};
use strum::VariantArray;

use crate::{OPERATOR, watched};

/// The result for an opt-out that cannot be decoded.
const UNDECODABLE: &str = "Undecodable";
/// The result for an opt-out that is in force from its creation on.
const WITHIN_LIMITS: &str = "WithinLimits";
/// The longest duration of a baseline without limits in its spec.
const LONGEST: SignedDuration = SignedDuration::from_hours(720);
/// The longest duration of the narrow baseline.
const SHORT: SignedDuration = SignedDuration::from_hours(1);

/// Checks everything that must hold for an opt-out. Returns the verdict at its creation, under a baseline that does not set `optOuts`.
/// None if not even its metadata can be decoded.
///
/// # Panics
///
/// If a property does not hold.
pub fn opt_out(bytes: &[u8]) -> Option<&'static str> {
    if let Some(delivered) = watched::<RawOptOut>(bytes)
        && let Err(error) = delivered.check()
    {
        is_a_sentence(&error);
    }
    let value: Value = serde_json::from_slice(bytes).ok()?;
    let raw: RawOptOut = serde_json::from_value(value.clone()).ok()?;
    let checked = raw.check();
    if let Ok(whole) = serde_json::from_value::<BaselineOptOut>(value) {
        assert_eq!(OptOut::check(&whole), checked, "spec and object are judged alike");
        spec_is_stable(&whole.spec);
    }
    match checked {
        Ok(opt_out) => Some(holds(&opt_out)),
        Err(error) => {
            is_a_sentence(&error);
            Some(UNDECODABLE)
        }
    }
}

fn spec_is_stable(spec: &BaselineOptOutSpec) {
    let encode = |spec: &BaselineOptOutSpec| serde_json::to_value(spec).expect("a spec is JSON");
    let value = encode(spec);
    // A time in a year that no API server accepts cannot be read back.
    let Ok(again) = serde_json::from_value::<BaselineOptOutSpec>(value.clone()) else { return };
    assert_eq!(encode(&again), value);
}

fn is_a_sentence(text: &str) {
    assert!(text.split_whitespace().count() > 3, "{text} is no sentence");
}

fn baseline(opt_outs: &Value) -> Baseline {
    let object = json!({
        "apiVersion": "policybaseline.io/v1alpha1", "kind": "PolicyBaseline", "metadata": {"name": "platform"},
        "spec": {"mode": "Enforce", "optOuts": opt_outs},
    });
    let object: PolicyBaseline = serde_json::from_value(object).expect("a baseline of our own");
    Baseline::check(&object, OPERATOR).expect("a baseline of our own")
}

fn holds(opt_out: &OptOut) -> &'static str {
    assert!(!opt_out.roles.is_empty() && opt_out.expires.subsec_nanosecond() == 0);
    let silent = baseline(&Value::Null);
    let narrow = baseline(&json!({"maxDuration": "1h", "allowedPolicies": ["MonitoringCarveout"]}));
    for now in moments(opt_out) {
        for ruling in [Ruling::Nobody, Ruling::Reports("platform"), Ruling::Freezes("platform", false)] {
            assert_eq!(judged(opt_out, ruling, now).until(), None, "{ruling:?} has nothing to do without");
        }
        let frozen = judged(opt_out, Ruling::Freezes("platform", true), now);
        assert_eq!(frozen.until().is_some(), now < opt_out.expires, "what was in force stays while all is held");
        let within = opt_out.expires <= opt_out.created.checked_add(LONGEST).unwrap_or(Timestamp::MAX);
        keeps_to_its_roles_and_its_time(opt_out, &silent, within, now);
        let allowed = opt_out.roles.contains(Role::MonitoringCarveout)
            && ![Role::DefaultDenyIngress, Role::DefaultDenyEgress].iter().any(|role| opt_out.roles.contains(*role));
        let within = allowed && opt_out.expires <= opt_out.created.checked_add(SHORT).unwrap_or(Timestamp::MAX);
        keeps_to_its_roles_and_its_time(opt_out, &narrow, within, now);
    }
    match judged(opt_out, Ruling::Enforces(&silent), opt_out.created) {
        OptOutVerdict::InForce(..) => WITHIN_LIMITS,
        OptOutVerdict::NotInForce(why, _) => why.into_str(),
    }
}

/// The moments at which the verdict may change.
fn moments(opt_out: &OptOut) -> impl Iterator<Item = Timestamp> {
    let around = |at: Timestamp| [-1, 0, 1].map(|seconds| at.checked_add(SignedDuration::from_secs(seconds)).unwrap_or(at));
    let all = around(opt_out.created).into_iter().chain(around(opt_out.expires));
    all.chain([Timestamp::MIN, Timestamp::UNIX_EPOCH, Timestamp::MAX])
}

fn judged(opt_out: &OptOut, ruling: Ruling, now: Timestamp) -> OptOutVerdict {
    if let Ok(later) = opt_out.created.checked_add(SignedDuration::from_secs(1)) {
        assert_eq!(verdict(opt_out, later, ruling, now).until(), None, "in force in a namespace that is younger");
    }
    let verdict = verdict(opt_out, opt_out.created, ruling, now);
    let (OptOutVerdict::InForce(_, message) | OptOutVerdict::NotInForce(_, message)) = &verdict;
    is_a_sentence(message);
    assert!(verdict.until().is_none_or(|until| now < until && until == opt_out.expires), "in force beyond its end");
    verdict
}

/// The opt-out is in force exactly within its limits and its time. Then exactly its roles are not planned, and verdict and plan agree.
fn keeps_to_its_roles_and_its_time(opt_out: &OptOut, baseline: &Baseline, within: bool, now: Timestamp) {
    let verdict = judged(opt_out, Ruling::Enforces(baseline), now);
    assert_eq!(verdict.until().is_some(), within && now < opt_out.expires, "{verdict:?} at {now}");
    let opt_outs: NamespaceOptOuts = [opt_out.clone()].into_iter().filter(|o| !o.is_over(now)).collect();
    let labels = [("kubernetes.io/metadata.name", "team-a")].into_iter().collect();
    let namespace = Namespace { opt_outs, ..Namespace::new(NamespaceName::observed("team-a"), labels, Timestamp::UNIX_EPOCH) };
    let planned: Vec<Role> = baseline.planned(&namespace).filter_map(|(_, policy)| policy.role()).collect();
    for role in Role::VARIANTS.iter().copied() {
        let takes_away = |role| verdict.until().is_some() && opt_out.roles.contains(role);
        // Where ingress is open, the carve-out would close it for the pods that it selects.
        let is_away = takes_away(role) || (role == Role::MonitoringCarveout && takes_away(Role::DefaultDenyIngress));
        assert_eq!(planned.contains(&role), !is_away, "{role:?} at {now}");
    }
}
