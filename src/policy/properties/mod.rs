//! Properties that must hold for every baseline and every tampering, checked with random inputs.

mod allows;
mod cost;
mod dns;
mod tampering;

use std::sync::Arc;

use k8s_openapi::{api::networking::v1::NetworkPolicy, apimachinery::pkg::util::intstr::IntOrString};
use proptest::prelude::*;
use serde_json::{Value, json};
use strum::VariantArray;

use crate::{
    api::Role,
    policy::{
        drift::{Class, Drift, Fingerprint, Interner, Policies, Repair, diff, targets},
        plan::{Baseline, Baselines, Decision, Holdings},
    },
    testkit::{baseline_object, checked, namespace, observed},
};

fn label_pair() -> impl Strategy<Value = (String, String)> {
    ("[a-z]{1,8}", "[a-z0-9]{0,8}")
}

fn selector() -> impl Strategy<Value = Value> {
    let labels = prop::collection::btree_map("[a-z]{1,8}", "[a-z0-9]{0,8}", 0..3);
    let expression = (("[a-z]{1,8}", prop::sample::select(vec!["In", "NotIn", "Exists", "DoesNotExist"])), "[a-z]{1,5}")
        .prop_map(|((key, operator), value)| {
            let values: Vec<String> = if operator.ends_with("In") { vec![value] } else { vec![] };
            json!({"key": key, "operator": operator, "values": values})
        });
    (labels, prop::collection::vec(expression, 0..3)).prop_map(|(l, e)| json!({"matchLabels": l, "matchExpressions": e}))
}

fn dns() -> impl Strategy<Value = Value> {
    let pods = (selector(), selector()).prop_map(|(n, p)| json!({"namespaceSelector": n, "podSelector": p}));
    let block = any::<[u8; 4]>().prop_map(|[a, b, c, d]| json!({"ipBlock": {"cidr": format!("{a}.{b}.{c}.{d}/32")}}));
    (prop::collection::vec(prop_oneof![pods, block], 0..4), prop::collection::vec(1..=65535, 0..4))
        .prop_map(|(peers, ports)| json!({"peers": peers, "ports": ports}))
}

fn spec() -> impl Strategy<Value = Value> {
    let roles = prop::sample::subsequence(Role::VARIANTS.iter().map(Role::into_str).collect::<Vec<_>>(), 1..=3);
    let metadata = ("[a-z]{1,6}-", prop::collection::btree_map("[a-z]{1,6}", "[a-z]{0,6}", 0..3))
        .prop_map(|(prefix, labels)| json!({"namePrefix": prefix, "labels": labels, "annotations": labels}));
    let mode = prop::sample::select(vec!["Enforce", "Audit"]);
    let egress = prop::sample::select(vec!["Open", "Enforce"]);
    (selector(), dns(), roles, metadata, mode, any::<i32>(), selector(), egress).prop_map(
        |(namespaces, dns, policies, metadata, mode, priority, pods, egress)| {
            json!({
                "mode": mode, "priority": priority, "namespaceSelector": namespaces, "dns": dns, "policies": policies,
                "metadata": metadata, "monitoring": {"podSelector": pods, "sourceEgress": egress, "ports": [{"port": 9090}]}, "existingNamespaces": "Enforce",
            })
        },
    )
}

/// A random spec of a policy, as a tenant may write it.
fn tampered_spec() -> impl Strategy<Value = Value> {
    let peer = prop_oneof![
        selector().prop_map(|s| json!({"podSelector": s})),
        selector().prop_map(|s| json!({"namespaceSelector": s})),
        Just(json!({"ipBlock": {"cidr": "0.0.0.0/0"}})),
    ];
    let port = prop_oneof![Just(json!({"port": 53, "protocol": "UDP"})), Just(json!({"port": "metrics"})), Just(json!({}))];
    let peers = prop::option::of(prop::collection::vec(peer, 0..3));
    let ports = prop::option::of(prop::collection::vec(port, 0..3));
    let ingress = (peers.clone(), ports.clone()).prop_map(|(from, ports)| json!({"from": from, "ports": ports}));
    let egress = (peers, ports).prop_map(|(to, ports)| json!({"to": to, "ports": ports}));
    let types =
        prop::sample::select(vec![json!(null), json!([]), json!(["Ingress"]), json!(["Egress"]), json!(["Ingress", "Egress"])]);
    let rules = (prop::collection::vec(ingress, 0..2), prop::collection::vec(egress, 0..2));
    (selector(), types, rules)
        .prop_map(|(pods, types, (ingress, egress))| json!({"podSelector": pods, "policyTypes": types, "ingress": ingress, "egress": egress}))
}

fn drifts(baseline: &Baseline, objects: &[NetworkPolicy]) -> Vec<Drift> {
    let targets = targets(baseline);
    let planned = baseline.policies.iter().enumerate().filter_map(|(i, p)| targets.of(i, p));
    let mut texts = Interner::default();
    let prints: Policies =
        objects.iter().map(|o| (o.metadata.name.clone().unwrap().into(), Fingerprint::of(o, &mut texts))).collect();
    diff(planned, &prints, |_| true)
}

/// The spec as the API server stores it: without empty lists of rules.
fn stored(object: &NetworkPolicy) -> NetworkPolicy {
    let mut object = object.clone();
    if let Some(spec) = &mut object.spec {
        spec.ingress = spec.ingress.take().filter(|rules| !rules.is_empty());
        spec.egress = spec.egress.take().filter(|rules| !rules.is_empty());
    }
    object
}

proptest! {
    #[test]
    fn i1_what_was_applied_and_observed_is_no_drift(spec in spec()) {
        let baseline = checked("b", spec);
        let objects: Vec<_> = baseline.policies.iter().map(|p| stored(&observed(p, "team-a"))).collect();
        prop_assert_eq!(drifts(&baseline, &objects), []);
    }

    #[test]
    fn i8_every_egress_policy_allows_dns_over_udp_and_tcp_whatever_the_spec(spec in spec()) {
        let baseline = checked("b", spec);
        for policy in baseline.policies.iter().filter(|p| p.role() == Some(Role::DefaultDenyEgress)) {
            let rule = &policy.spec.egress.as_ref().unwrap()[0];
            prop_assert!(rule.to.as_ref().is_some_and(|to| !to.is_empty()), "an empty list of peers would open everything");
            for protocol in ["UDP", "TCP"] {
                let open = |p: &k8s_openapi::api::networking::v1::NetworkPolicyPort| {
                    p.port == Some(IntOrString::Int(53)) && p.protocol.as_deref() == Some(protocol) && p.end_port.is_none()
                };
                prop_assert!(rule.ports.iter().flatten().any(open));
            }
            prop_assert_eq!(policy.spec.policy_types.as_deref(), Some(&["Egress".to_owned()][..]));
        }
    }

    #[test]
    fn any_tampering_of_a_spec_is_seen_or_means_the_same(spec in spec(), tampered in tampered_spec(), which in 0usize..3) {
        let baseline = checked("b", spec);
        let which = which % baseline.policies.len();
        let mut objects: Vec<_> = baseline.policies.iter().map(|p| observed(p, "team-a")).collect();
        objects[which].spec = serde_json::from_value(tampered).unwrap();
        let same = tampering::meaning(objects[which].spec.as_ref()) == tampering::meaning(Some(&baseline.policies[which].spec));
        let classes: Vec<Class> = drifts(&baseline, &objects).iter().map(|d| d.class).collect();
        let expected = if same { vec![] } else { vec![Class::SpecChanged] };
        prop_assert_eq!(classes, expected);
    }

    #[test]
    fn a_foreign_label_is_no_drift_and_one_of_ours_is(spec in spec(), (key, value) in label_pair()) {
        let baseline = checked("b", spec);
        let asked_for = baseline.policies[0].labels.contains_key(&key);
        let mut objects: Vec<_> = baseline.policies.iter().map(|p| observed(p, "team-a")).collect();
        objects[0].metadata.labels.as_mut().unwrap().insert(format!("foreign-{key}"), value.clone());
        prop_assert_eq!(drifts(&baseline, &objects), []);
        objects[0].metadata.labels.as_mut().unwrap().insert(format!("policybaseline.io/{key}"), value);
        prop_assert_eq!(drifts(&baseline, &objects).len(), 1, "{}", asked_for);
    }

    #[test]
    fn i4_nothing_that_is_not_ours_is_ever_deleted(spec in spec(), name in "[a-z]{1,10}", (key, value) in label_pair()) {
        let baseline = checked("b", spec);
        let mut foreign = observed(&baseline.policies[0], "team-a");
        foreign.metadata.name = Some(format!("tenant.{name}"));
        foreign.metadata.labels.as_mut().unwrap().insert(key, value);
        let found = drifts(&baseline, &[foreign]);
        let deletes = found.iter().any(|d| matches!(d.fix, Repair::Delete { .. }));
        prop_assert!(!deletes);
    }

    #[test]
    fn exactly_one_enforce_baseline_applies_and_never_an_audit_one(specs in prop::collection::vec(spec(), 1..5), labels in prop::collection::btree_map("[a-z]{1,8}", "[a-z0-9]{0,8}", 0..3)) {
        let mut all = Baselines::default();
        for (i, spec) in specs.iter().enumerate() {
            all.insert(Arc::new(checked(&format!("b{i}"), spec.clone())));
        }
        let mut ns = namespace("team-a", &[]);
        ns.labels = labels.into_iter().collect();
        let candidates: Vec<_> = all.valid().iter().filter(|b| b.mode == crate::api::baseline::Mode::Enforce && b.selects(&ns)).collect();
        let verdict = all.decide(&ns, &Holdings::default());
        let best = candidates.iter().max_by_key(|b| (b.priority, std::cmp::Reverse(b.name.clone())));
        match (verdict.decision, best) {
            (Decision::Protected(winner), Some(best)) => {
                prop_assert_eq!(&winner.name, &best.name);
                prop_assert_eq!(verdict.shadowed.len() + 1, candidates.len());
            }
            (Decision::Unselected, None) => {}
            (decision, best) => prop_assert!(false, "{:?} {:?}", decision, best.map(|b| &b.name)),
        }
    }

    #[test]
    fn no_text_in_a_spec_makes_the_check_panic(text in "\\PC{0,80}", number in any::<i32>()) {
        let spec = json!({
            "excludeNamespaces": [text], "namespaceSelector": {"matchLabels": {text.clone(): text}}, "dns": {"ports": [number],
            "peers": [{"ipBlock": {"cidr": text, "except": [text]}}]}, "metadata": {"namePrefix": text, "labels": {text.clone(): text}},
            "monitoring": {"ports": [{"port": text, "endPort": number}]},
        });
        let _ = Baseline::check(&baseline_object("b", spec), "operator");
    }
}
