//! Decides whether an opt-out is in force. The operator and everything else use this one function. The time is an argument.

use jiff::Timestamp;

use super::{Baseline, OptOut};
use crate::api::reason::OptOutRefusal;

/// What the plan decides for the namespace of an opt-out.
#[derive(Clone, Copy, Debug)]
pub enum Ruling<'a> {
    /// No baseline enforces anything there.
    Nobody,
    /// The namespace is older than the baseline with this name, which only reports it.
    Reports(&'a str),
    /// The operator enforces this baseline there.
    Enforces(&'a Baseline),
    /// The baseline with this name freezes the namespace. The flag says whether the opt-out was in force before that.
    Freezes(&'a str, bool),
}

/// Whether an opt-out is in force.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum OptOutVerdict {
    /// In force until this time; the message explains what that means.
    InForce(Timestamp, String),
    /// Not in force, with the reason and a message.
    NotInForce(OptOutRefusal, String),
}

impl OptOutVerdict {
    /// Why its spec keeps the opt-out from ever being in force, in words. `None` if something else does, or nothing.
    pub fn mistake(&self, opt_out: &OptOut) -> Option<(OptOutRefusal, &str)> {
        let Self::NotInForce(refusal, message) = self else { return None };
        let is_mistake = match refusal {
            OptOutRefusal::TooLong | OptOutRefusal::PolicyNotAllowed => true,
            OptOutRefusal::Expired => opt_out.was_over_at_once(),
            _ => false,
        };
        is_mistake.then_some((*refusal, message))
    }

    /// When the opt-out ends; `None` if it is not in force.
    pub const fn until(&self) -> Option<Timestamp> {
        match self {
            Self::InForce(until, _) => Some(*until),
            Self::NotInForce(..) => None,
        }
    }
}

/// Decides whether an opt-out is in force at `now` in its namespace, which was created at `namespace`.
pub fn verdict(opt_out: &OptOut, namespace: Timestamp, ruling: Ruling, now: Timestamp) -> OptOutVerdict {
    let OptOut { roles, created, expires, .. } = opt_out;
    if opt_out.is_older_than(namespace) {
        let message = format!(
            "it was created at {created}, before this namespace ({namespace}): it belongs to an earlier namespace of the same name. Delete it; if this namespace needs the exception too, create a new one"
        );
        return OptOutVerdict::NotInForce(OptOutRefusal::OlderThanNamespace, message);
    }
    if opt_out.is_over(now) {
        let message = match ruling {
            Ruling::Freezes(baseline, _) => {
                format!("it expired at {expires}; baseline {baseline} changes nothing here until it continues")
            }
            _ if opt_out.was_over_at_once() => {
                let example = match ruling {
                    Ruling::Enforces(Baseline { opt_outs: limits, .. }) => format!(", as in {}", limits.example(opt_out)),
                    _ => String::new(),
                };
                format!(
                    "spec.expiresAt is {expires}, which was over when this opt-out was created, so it was never in force: create a new one with a later time{example}"
                )
            }
            Ruling::Nobody | Ruling::Reports(_) => {
                format!("it expired at {expires}; if the exception is still needed, create a new one")
            }
            Ruling::Enforces(_) => format!(
                "it expired at {expires}, and {roles} applies here again; if the exception is still needed, create a new one"
            ),
        };
        return OptOutVerdict::NotInForce(OptOutRefusal::Expired, message);
    }
    let in_force =
        |more: &str| OptOutVerdict::InForce(*expires, format!("{roles} does not apply to this namespace until {expires}{more}"));
    match ruling {
        Ruling::Nobody => {
            let message = "no baseline enforces policies in this namespace, so there is nothing to opt out of".into();
            OptOutVerdict::NotInForce(OptOutRefusal::NoBaseline, message)
        }
        Ruling::Reports(baseline) => {
            let message = format!(
                "this namespace is older than baseline {baseline}, which only reports it, so there is nothing to opt out of"
            );
            OptOutVerdict::NotInForce(OptOutRefusal::ExistingNamespace, message)
        }
        Ruling::Freezes(baseline, true) => {
            in_force(&format!("; baseline {baseline} changes nothing here, even after that time, until it continues"))
        }
        Ruling::Freezes(baseline, false) => {
            let message = format!(
                "baseline {baseline} is suspended, stalled or awaiting confirmation, and changes nothing here until it continues"
            );
            OptOutVerdict::NotInForce(OptOutRefusal::BaselineFrozen, message)
        }
        Ruling::Enforces(Baseline { name, opt_outs: limits, .. }) => match limits.refuse(opt_out) {
            None => in_force(""),
            Some(refusal) => OptOutVerdict::NotInForce(refusal, limits.explain(opt_out, refusal, name)),
        },
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::testkit::{checked, namespace};
    use crate::{
        api::{BaselineOptOut, Role, baseline::OptOutLimits},
        policy::plan::opt_out::Limits,
    };

    const CREATED: i64 = 1_000_000;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn object(roles: &Value, expires: Timestamp) -> BaselineOptOut {
        let object = json!({
            "apiVersion": "policybaseline.io/v1alpha1", "kind": "BaselineOptOut",
            "metadata": {"name": "o", "namespace": "a", "creationTimestamp": at(CREATED)},
            "spec": {"policies": roles, "reason": "a reason of twenty characters", "expiresAt": expires},
        });
        serde_json::from_value(object).unwrap()
    }

    fn opt_out(roles: &Value, hours: i64) -> OptOut {
        OptOut::check(&object(roles, at(CREATED + hours * 3_600))).unwrap()
    }

    fn tell(verdict: &OptOutVerdict) -> String {
        match verdict {
            OptOutVerdict::InForce(until, _) => format!("until {}", until.as_second() - CREATED),
            OptOutVerdict::NotInForce(refusal, _) => refusal.into_str().into(),
        }
    }

    fn under(limits: Value, opt_out: &OptOut, second: i64) -> String {
        let baseline = checked("b", json!({"optOuts": limits}));
        tell(&verdict(opt_out, at(CREATED), Ruling::Enforces(&baseline), at(CREATED + second)))
    }

    #[test]
    fn it_is_in_force_until_the_very_second_in_which_it_expires_whatever_the_clock_did_before() {
        let o = opt_out(&json!(["DefaultDenyEgress"]), 1);
        for (second, says) in
            [(0, "until 3600"), (3_599, "until 3600"), (3_600, "Expired"), (i64::from(u32::MAX), "Expired"), (-5, "until 3600")]
        {
            assert_eq!(under(json!({}), &o, second), says, "{second}");
        }
        let almost = Timestamp::from_millisecond((CREATED + 3_600) * 1_000 - 1).unwrap();
        assert!(!o.is_over(almost) && o.is_over(o.expires));
    }

    #[test]
    fn one_that_is_older_than_its_namespace_counts_for_an_earlier_namespace_of_that_name() {
        let o = opt_out(&json!(["DefaultDenyEgress"]), 1);
        let baseline = checked("b", json!({}));
        let ruled = |namespace: i64| verdict(&o, at(CREATED + namespace), Ruling::Enforces(&baseline), at(CREATED + 10));
        // The API server's times have whole seconds, so one of the same second counts.
        assert_eq!([-1, 0].map(|namespace| tell(&ruled(namespace))), ["until 3600", "until 3600"]);
        let OptOutVerdict::NotInForce(OptOutRefusal::OlderThanNamespace, message) = ruled(1) else { panic!() };
        assert!(
            message.starts_with("it was created at 1970-01-12T13:46:40Z, before this namespace (1970-01-12T13:46:41Z)"),
            "{message}"
        );
    }

    #[test]
    fn an_end_with_a_fraction_counts_in_whole_seconds() {
        let end = Timestamp::from_millisecond((CREATED + 60) * 1_000 + 999).unwrap();
        assert_eq!(OptOut::check(&object(&json!(["DefaultDenyEgress"]), end)).unwrap().expires, at(CREATED + 60));
    }

    #[test]
    fn it_may_last_as_long_as_the_baseline_allows_from_its_creation() {
        let role = json!(["DefaultDenyEgress"]);
        for (limit, hours, says) in [
            (json!({}), 720, "until 2592000"),
            (json!({}), 721, "TooLong"),
            (json!({"maxDuration": "1h"}), 1, "until 3600"),
            (json!({"maxDuration": "59m59s"}), 1, "TooLong"),
            (json!({"maxDuration": "999999h"}), 999_999, "until 3599996400"),
        ] {
            assert_eq!(under(limit.clone(), &opt_out(&role, hours), 0), says, "{limit} {hours}");
        }
        // An extension also counts from the creation time, even if it is requested late.
        assert_eq!(under(json!({"maxDuration": "2h"}), &opt_out(&role, 3), 3_600), "TooLong");
        let far = OptOut { expires: Timestamp::MAX, created: Timestamp::MAX, ..opt_out(&role, 1) };
        assert_eq!(under(json!({}), &far, 0), format!("until {}", Timestamp::MAX.as_second() - CREATED));
    }

    #[test]
    fn one_role_that_is_not_allowed_makes_all_of_it_not_in_force() {
        let both = opt_out(&json!(["DefaultDenyIngress", "DefaultDenyEgress"]), 1);
        assert_eq!(under(json!({"allowedPolicies": ["DefaultDenyEgress"]}), &both, 0), "PolicyNotAllowed");
        assert_eq!(under(json!({"allowedPolicies": []}), &both, 0), "PolicyNotAllowed");
        assert_eq!(under(json!({"allowedPolicies": ["DefaultDenyEgress", "DefaultDenyIngress"]}), &both, 0), "until 3600");
        let baseline = checked("b", json!({"optOuts": {"allowedPolicies": ["DefaultDenyEgress"]}}));
        let mut ns = namespace("a", &[]);
        ns.opt_outs = [both.clone()].into_iter().collect();
        assert_eq!((baseline.planned(&ns).count(), baseline.opted_out(&ns).count()), (3, 0));
        let OptOutVerdict::NotInForce(_, message) = verdict(&both, at(0), Ruling::Enforces(&baseline), at(0)) else { panic!() };
        assert!(message.contains("allows no opt-out from DefaultDenyIngress, only from DefaultDenyEgress"), "{message}");
    }

    #[test]
    fn the_plan_does_without_the_roles_that_are_in_force_and_tells_the_last_end_of_each() {
        let baseline = checked("b", json!({}));
        let mut ns = namespace("a", &[]);
        let two = [opt_out(&json!(["DefaultDenyEgress"]), 2), opt_out(&json!(["DefaultDenyEgress", "MonitoringCarveout"]), 1)];
        ns.opt_outs = two.into_iter().collect();
        let planned: Vec<Role> = baseline.planned(&ns).filter_map(|(_, policy)| policy.role()).collect();
        assert_eq!(planned, [Role::DefaultDenyIngress]);
        let ends: Vec<_> = baseline.opted_out(&ns).map(|(p, o)| (p.role().unwrap(), o.expires.as_second() - CREATED)).collect();
        assert_eq!(ends, [(Role::DefaultDenyEgress, 7_200), (Role::MonitoringCarveout, 3_600)]);
        // A role that is not planned anyway does not count as opted out.
        let monitoring = namespace("monitoring", &[]);
        let ns = crate::policy::plan::Namespace { opt_outs: ns.opt_outs, ..monitoring };
        assert_eq!(baseline.opted_out(&ns).count(), 1);
    }

    #[test]
    fn where_nothing_is_enforced_it_is_not_in_force_and_where_everything_is_frozen_it_stays_what_it_was() {
        let o = opt_out(&json!(["DefaultDenyEgress"]), 1);
        for (ruling, says) in [
            (Ruling::Nobody, "NoBaseline"),
            (Ruling::Reports("b"), "ExistingNamespace"),
            (Ruling::Freezes("b", false), "BaselineFrozen"),
            (Ruling::Freezes("b", true), "until 3600"),
        ] {
            assert_eq!(tell(&verdict(&o, at(0), ruling, at(CREATED))), says);
            assert_eq!(tell(&verdict(&o, at(0), ruling, o.expires)), "Expired");
            assert_eq!(tell(&verdict(&o, at(CREATED + 1), ruling, at(CREATED))), "OlderThanNamespace");
        }
    }

    #[test]
    fn one_that_was_over_at_once_says_so_whoever_applies_there_unless_all_is_frozen() {
        let baseline = checked("b", json!({}));
        let says = |hours: i64, ruling: Ruling| {
            let o = opt_out(&json!(["DefaultDenyEgress"]), hours);
            match verdict(&o, at(CREATED), ruling, at(CREATED + 7_200)) {
                OptOutVerdict::NotInForce(OptOutRefusal::Expired, message) => message,
                other => panic!("{other:?}"),
            }
        };
        for ruling in [Ruling::Nobody, Ruling::Reports("b"), Ruling::Enforces(&baseline)] {
            let message = says(-1, ruling);
            assert!(message.contains("it was never in force: create a new one with a later time"), "{message}");
            let applies = says(1, ruling).contains("DefaultDenyEgress applies here again");
            assert_eq!(applies, matches!(ruling, Ruling::Enforces(_)));
        }
        assert!(says(-1, Ruling::Freezes("b", false)).contains("baseline b changes nothing here"));
    }

    #[test]
    fn what_a_looser_crd_lets_in_is_refused_with_the_field() {
        let end = at(CREATED + 60);
        let error = |object: &BaselineOptOut| OptOut::check(object).unwrap_err();
        assert!(error(&object(&json!([]), end)).starts_with("spec.policies: name at least one"));
        let mut short = object(&json!(["DefaultDenyEgress"]), end);
        short.spec.reason = "   because             ".into();
        assert!(error(&short).starts_with("spec.reason: say in at least 20 characters"));
    }

    #[test]
    fn a_limit_that_is_no_duration_is_named() {
        let limits = |text: &str| OptOutLimits { max_duration: Some(text.into()), allowed_policies: None };
        assert_eq!(Limits::check(Some(&limits("0h0m"))).unwrap_err(), "0h0m");
    }
}
