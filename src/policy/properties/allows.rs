//! What must hold for every set of allows, in every namespace: nothing is opened to more than the spec names, and nothing is closed by an
//! allow.

use std::collections::BTreeSet;

use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::{Value, json};
use strum::VariantArray;

use super::selector;
use crate::{
    api::{Purpose, Role},
    policy::{
        drift::{Fingerprint, Interner, Policies, diff, targets},
        plan::{Baseline, Namespace, OptOut, PolicyScope},
    },
    testkit::{checked, namespace, observed},
};

fn ports() -> impl Strategy<Value = Option<Value>> {
    prop::option::of(
        prop::collection::vec(1..=65535, 1..4).prop_map(|ports| ports.iter().map(|port| json!({"port": port})).collect()),
    )
}

fn peer() -> impl Strategy<Value = Value> {
    prop_oneof![
        selector().prop_map(|pods| json!({"sameNamespace": {"podSelector": pods}})),
        Just(json!({"sameNamespace": {}})),
        (selector(), prop::option::of(selector())).prop_map(|(namespaces, pods)| match pods {
            Some(pods) => json!({"namespaceSelector": namespaces, "podSelector": pods}),
            None => json!({"namespaceSelector": namespaces}),
        }),
        any::<[u8; 4]>().prop_map(|[a, b, c, d]| json!({"ipBlock": {"cidr": format!("{a}.{b}.{c}.{d}/32")}})),
        Just(json!({"ipBlock": {"cidr": "0.0.0.0/0", "except": ["10.0.0.0/8"]}})),
    ]
}

fn rule(list: &'static str) -> impl Strategy<Value = Value> {
    (prop::collection::vec(peer(), 1..4), ports()).prop_map(move |(peers, ports)| {
        let mut rule = json!({list: peers});
        if let Some(ports) = ports {
            rule["ports"] = ports;
        }
        rule
    })
}

fn allow() -> impl Strategy<Value = Value> {
    let api = Just(json!({"to": [{"kubernetesAPI": {}}]}));
    let egress = prop_oneof![3 => rule("to"), 1 => api];
    let rules = (prop::collection::vec(rule("from"), 0..3), prop::collection::vec(egress, 0..3));
    let rules = rules.prop_filter("an allow has rules", |(ingress, egress)| !ingress.is_empty() || !egress.is_empty());
    let namespaces = prop::sample::select(vec![json!({}), json!({"matchLabels": {"tier": "prod"}})]);
    (rules, selector(), namespaces).prop_map(|((ingress, egress), pods, namespaces)| {
        let mut allow = json!({"podSelector": pods, "namespaceSelector": namespaces, "acknowledgeOpen": true});
        for (direction, rules) in [("ingress", ingress), ("egress", egress)] {
            if !rules.is_empty() {
                allow[direction] = rules.into();
            }
        }
        allow
    })
}

/// A baseline with allows and some of the roles.
fn spec() -> impl Strategy<Value = Value> {
    let roles = prop::sample::subsequence(Role::VARIANTS.iter().map(Role::into_str).collect::<Vec<_>>(), 1..=3);
    (prop::collection::vec(allow(), 0..4), roles).prop_map(|(mut allows, roles)| {
        allows.iter_mut().enumerate().for_each(|(i, allow)| allow["name"] = format!("allow-{i}").into());
        json!({"allows": allows, "policies": roles})
    })
}

/// A namespace: its labels, opt-outs and callers vary.
fn place() -> impl Strategy<Value = Namespace> {
    let roles = prop::sample::subsequence(Role::VARIANTS.iter().map(Role::into_str).collect::<Vec<_>>(), 0..=3);
    (any::<bool>(), any::<bool>(), any::<bool>(), roles).prop_map(|(is_prod, is_monitoring, serves, roles)| {
        let labels: &[(&str, &str)] = if is_prod { &[("tier", "prod")] } else { &[] };
        let mut ns = namespace(if is_monitoring { "monitoring" } else { "team-a" }, labels);
        ns.serves = serves.then(|| std::sync::Arc::new("a webhook is".to_owned()));
        if !roles.is_empty() {
            let object = json!({"apiVersion": "policybaseline.io/v1alpha1", "kind": "BaselineOptOut",
                "metadata": {"name": "o", "namespace": "a", "creationTimestamp": Timestamp::UNIX_EPOCH},
                "spec": {"policies": roles, "reason": "a reason of twenty characters", "expiresAt": "1970-01-02T00:00:00Z"}});
            let opt_out = OptOut::check(&serde_json::from_value(object).unwrap()).unwrap();
            ns.opt_outs = [opt_out].into_iter().collect();
        }
        ns
    })
}

/// The directions that a policy names, and which of them the planned default-denies close.
fn is_closed(baseline: &Baseline, ns: &Namespace, direction: &str) -> bool {
    let deny = if direction == "Ingress" { Role::DefaultDenyIngress } else { Role::DefaultDenyEgress };
    baseline.planned(ns).any(|(_, policy)| policy.role() == Some(deny) && policy.scope == PolicyScope::Role)
}

proptest! {
    #[test]
    fn no_policy_closes_a_direction_that_the_plan_leaves_open(spec in spec(), ns in place()) {
        let baseline = checked("b", spec);
        for (_, policy) in baseline.planned(&ns) {
            for direction in policy.spec.policy_types.as_deref().unwrap() {
                prop_assert!(is_closed(&baseline, &ns, direction), "{} in {:?}", policy.name, ns);
            }
        }
    }

    #[test]
    fn every_allow_is_planned_where_it_is_for_and_otherwise_it_is_said_why(spec in spec(), ns in place()) {
        let baseline = checked("b", spec.clone());
        for allow in spec["allows"].as_array().unwrap() {
            let name = allow["name"].as_str().unwrap();
            let is_for = allow["namespaceSelector"] == json!({}) || ns.labels.get("tier") == Some("prod");
            let wanted: Vec<&str> = [("ingress", "Ingress"), ("egress", "Egress")].into_iter()
                .filter(|(rules, direction)| is_for && allow.get(rules).is_some() && is_closed(&baseline, &ns, direction))
                .map(|(_, direction)| direction).collect();
            let found: Vec<_> = baseline.planned(&ns).filter(|(_, policy)| policy.name == format!("baseline-allow-{name}")).collect();
            let types: Vec<&str> = found.iter().flat_map(|(_, policy)| policy.spec.policy_types.iter().flatten()).map(String::as_str).collect();
            prop_assert_eq!(&types, &wanted);
            let all = ["ingress", "egress"].iter().filter(|rules| allow.get(rules).is_some()).count();
            let why = baseline.unplanned_allows(&ns).find(|(purpose, ..)| matches!(purpose, Purpose::Allow(of) if of.as_str() == name));
            prop_assert_eq!(why.is_some(), wanted.len() < all);
            prop_assert_eq!(why.is_none_or(|(_, is_partly_planned, _)| is_partly_planned), !wanted.is_empty());
        }
    }

    #[test]
    fn i8_dns_comes_first_in_every_egress_policy_that_is_planned(spec in spec(), ns in place()) {
        let baseline = checked("b", spec);
        for (_, policy) in baseline.planned(&ns) {
            let rules = policy.spec.egress.as_deref().unwrap();
            let is_of_egress = policy.spec.policy_types.as_ref().unwrap().iter().any(|kind| kind == "Egress");
            prop_assert_eq!(is_of_egress, !rules.is_empty());
            let Some(first) = rules.first() else { continue };
            let ports: BTreeSet<String> = first.ports.iter().flatten().map(|port| format!("{:?} {:?}", port.protocol, port.port)).collect();
            prop_assert!(ports.contains("Some(\"UDP\") Some(Int(53))") && ports.contains("Some(\"TCP\") Some(Int(53))"));
            prop_assert!(serde_json::to_string(&first.to.as_ref().unwrap()[0]).unwrap().contains("kube-dns"));
        }
    }

    #[test]
    fn no_rule_has_an_empty_list_and_no_name_is_planned_twice(spec in spec(), ns in place()) {
        let baseline = checked("b", spec);
        let mut names = BTreeSet::new();
        for (_, policy) in baseline.planned(&ns) {
            prop_assert!(names.insert(&policy.name));
            let ingress = policy.spec.ingress.iter().flatten().map(|rule| (&rule.from, &rule.ports));
            for (peers, ports) in ingress.chain(policy.spec.egress.iter().flatten().map(|rule| (&rule.to, &rule.ports))) {
                prop_assert!(peers.as_ref().is_some_and(|peers| !peers.is_empty()));
                prop_assert!(ports.as_ref().is_none_or(|ports| !ports.is_empty()));
            }
        }
    }

    #[test]
    fn i1_what_is_planned_and_observed_is_no_drift_with_allows(spec in spec(), ns in place()) {
        let baseline = checked("b", spec);
        let (targets, mut texts) = (targets(&baseline), Interner::default());
        let objects = baseline.planned(&ns).map(|(_, policy)| observed(policy, "team-a"));
        let prints: Policies = objects.map(|o| (o.metadata.name.clone().unwrap().into(), Fingerprint::of(&o, &mut texts))).collect();
        let planned = baseline.planned(&ns).filter_map(|(index, policy)| targets.of(index, policy));
        prop_assert_eq!(diff(planned, &prints, |_| true), []);
    }
}
