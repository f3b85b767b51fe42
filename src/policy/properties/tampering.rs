//! Every change of a policy by a tenant is either detected or does not change its meaning. This module defines the meaning
//! a second time, on plain JSON and following the API documentation, independent of the operator's normal form.

use std::collections::BTreeSet;

use k8s_openapi::api::networking::v1::{NetworkPolicy, NetworkPolicySpec};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::{drifts, spec};
use crate::{
    api::names::LABEL_ID,
    policy::drift::{Class, Repair},
    testkit::{checked, observed},
};

/// The value of a field; null if it is absent.
fn field<'a>(object: &'a Value, name: &str) -> &'a Value {
    object.get(name).unwrap_or(&Value::Null)
}

fn or(value: &Value, default: Value) -> Value {
    if value.is_null() { default } else { value.clone() }
}

fn list(value: &Value, item: impl Fn(&Value) -> Value) -> Value {
    value.as_array().into_iter().flatten().map(item).collect()
}

fn optional(value: &Value, then: impl Fn(&Value) -> Value) -> Value {
    if value.is_null() { Value::Null } else { then(value) }
}

fn selector(value: &Value) -> Value {
    let requirement = |r: &Value| json!({"key": or(field(r, "key"), json!("")), "operator": or(field(r, "operator"), json!("")), "values": or(field(r, "values"), json!([]))});
    json!({
        "matchLabels": or(field(value, "matchLabels"), json!({})),
        "matchExpressions": list(field(value, "matchExpressions"), requirement),
    })
}

fn peer(value: &Value) -> Value {
    let block = |b: &Value| json!({"cidr": or(field(b, "cidr"), json!("")), "except": or(field(b, "except"), json!([]))});
    json!({
        "namespaceSelector": optional(field(value, "namespaceSelector"), selector),
        "podSelector": optional(field(value, "podSelector"), selector),
        "ipBlock": optional(field(value, "ipBlock"), block),
    })
}

fn port(value: &Value) -> Value {
    json!({"protocol": or(field(value, "protocol"), json!("TCP")), "port": field(value, "port"), "endPort": field(value, "endPort")})
}

/// The meaning of a spec: absent lists are empty, absent fields have their defaults.
pub fn meaning(spec: Option<&NetworkPolicySpec>) -> Value {
    let value = spec.map_or_else(|| json!({}), |spec| serde_json::to_value(spec).unwrap());
    let rules = |name: &str, peers: &str| {
        list(
            field(&value, name),
            |rule| json!({"peers": list(field(rule, peers), peer), "ports": list(field(rule, "ports"), port)}),
        )
    };
    let (ingress, egress) = (rules("ingress", "from"), rules("egress", "to"));
    let named: BTreeSet<&str> = field(&value, "policyTypes").as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let types = if !named.is_empty() {
        named
    } else if egress == json!([]) {
        ["Ingress"].into()
    } else {
        ["Egress", "Ingress"].into()
    };
    json!({"pods": selector(field(&value, "podSelector")), "types": types, "ingress": ingress, "egress": egress})
}

#[derive(Clone, Debug)]
enum Change {
    Remove,
    Replace(Value),
    /// Duplicates the item at the path, if the path leads to an item of a list.
    Duplicate,
    Insert(String, Value),
}

fn value() -> impl Strategy<Value = Value> {
    let values = json!([
        null, [], {}, "", "TCP", "UDP", "SCTP", "metrics", "Ingress", "Egress", "In", "Exists", 0, 53, 9090, true, [{}], [""], ["Ingress"],
        ["Egress"], ["Egress", "Ingress"], ["Ingress", "Ingress"], {"matchLabels": {}}, {"matchLabels": {"a": "b"}},
        {"matchExpressions": []}, {"matchExpressions": [{"key": "a", "operator": "Exists"}]}, {"podSelector": {}},
        {"namespaceSelector": {}}, [{"podSelector": {}}], {"ipBlock": {"cidr": "0.0.0.0/0"}}, [{"ipBlock": {"cidr": "0.0.0.0/0"}}],
        {"port": 53}, [{"port": 53, "protocol": "TCP"}], {"from": []}, {"to": null, "ports": []}, [{"from": [], "ports": []}], [{"to": []}],
    ]);
    prop::sample::select(values.as_array().unwrap().clone())
}

fn key() -> impl Strategy<Value = String> {
    let keys = [
        "podSelector",
        "policyTypes",
        "ingress",
        "egress",
        "from",
        "to",
        "ports",
        "port",
        "protocol",
        "endPort",
        "namespaceSelector",
        "ipBlock",
        "cidr",
        "except",
        "matchLabels",
        "matchExpressions",
        "key",
        "operator",
        "values",
        "later",
    ];
    prop::sample::select(keys.map(str::to_owned).to_vec())
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        Just(Change::Remove),
        value().prop_map(Change::Replace),
        Just(Change::Duplicate),
        (key(), value()).prop_map(|(key, value)| Change::Insert(key, value)),
    ]
}

/// The paths of a value and of everything inside it.
fn paths(value: &Value, at: &str, found: &mut Vec<String>) {
    found.push(at.to_owned());
    match value {
        Value::Object(fields) => {
            fields.iter().for_each(|(k, v)| paths(v, &format!("{at}/{}", k.replace('~', "~0").replace('/', "~1")), found));
        }
        Value::Array(items) => items.iter().enumerate().for_each(|(i, v)| paths(v, &format!("{at}/{i}"), found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn apply(spec: &mut Value, path: &str, change: &Change) {
    let within = path.rsplit_once('/').map(|(parent, last)| (parent, last.replace("~1", "/").replace("~0", "~")));
    match (change, within) {
        (Change::Insert(key, value), _) => match spec.pointer_mut(path) {
            Some(Value::Object(fields)) => drop(fields.insert(key.clone(), value.clone())),
            Some(Value::Array(items)) => items.insert(items.len() / 2, value.clone()),
            _ => {}
        },
        (Change::Replace(value), _) => *spec.pointer_mut(path).unwrap() = value.clone(),
        (Change::Remove | Change::Duplicate, None) => *spec = Value::Object(Map::new()),
        (Change::Remove | Change::Duplicate, Some((parent, last))) => match spec.pointer_mut(parent) {
            Some(Value::Array(items)) => {
                let at: usize = last.parse().unwrap();
                let item = items.remove(at);
                if matches!(change, Change::Duplicate) {
                    items.insert(at, item.clone());
                    items.insert(at, item);
                }
            }
            Some(Value::Object(fields)) if matches!(change, Change::Remove) => drop(fields.remove(&last)),
            _ => {}
        },
    }
}

/// A baseline, and its policies as they are stored in the cluster.
fn policies(spec: Value) -> (crate::policy::plan::Baseline, Vec<NetworkPolicy>) {
    let baseline = checked("b", spec);
    let objects = baseline.policies.iter().map(|p| observed(p, "team-a")).collect();
    (baseline, objects)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn any_change_anywhere_in_a_spec_is_seen_or_means_the_same(
        spec in spec(),
        which in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), change()), 1..4),
    ) {
        let (baseline, mut objects) = policies(spec);
        let which = which.index(objects.len());
        let planned = objects[which].spec.clone();
        let mut tampered = serde_json::to_value(&planned).unwrap();
        for (place, change) in &changes {
            let mut places = Vec::new();
            paths(&tampered, "", &mut places);
            apply(&mut tampered, &places[place.index(places.len())], change);
        }
        // The API server refuses a value of the wrong type.
        let Ok(tampered) = serde_json::from_value::<Option<NetworkPolicySpec>>(tampered) else { return Ok(()) };
        let same = meaning(tampered.as_ref()) == meaning(planned.as_ref());
        objects[which].spec = tampered;
        let found: Vec<(usize, Class)> = drifts(&baseline, &objects).iter().map(|d| match &d.fix {
            Repair::Apply { index, uid: Some(_), .. } => (*index, d.class),
            other => panic!("{other:?}"),
        }).collect();
        prop_assert_eq!(found, if same { vec![] } else { vec![(which, Class::SpecChanged)] });
    }

    #[test]
    fn any_change_of_a_key_of_ours_is_seen(
        spec in spec(),
        which in any::<prop::sample::Index>(),
        key in any::<prop::sample::Index>(),
        value in prop::option::of("[a-z0-9]{0,8}"),
    ) {
        let (baseline, mut objects) = policies(spec);
        let which = which.index(objects.len());
        let planned = &baseline.policies[which];
        let labels = planned.labels.keys().chain([&LABEL_ID.to_owned()]).map(|key| (true, key.clone())).collect::<Vec<_>>();
        let annotations = planned.annotations.keys().map(|key| (false, key.clone()));
        let keys: Vec<(bool, String)> = labels.into_iter().chain(annotations).collect();
        let (is_label, key) = &keys[key.index(keys.len())];
        let meta = &mut objects[which].metadata;
        let map = if *is_label { meta.labels.as_mut() } else { meta.annotations.as_mut() }.unwrap();
        let former = map.remove(key);
        prop_assert!(former.is_some());
        map.extend(value.clone().map(|value| (key.clone(), value)));
        let found = drifts(&baseline, &objects);
        if former == value {
            prop_assert_eq!(found, []);
        } else {
            prop_assert_eq!(found.len(), 1, "{}", key);
            prop_assert!(matches!(&found[0].fix, Repair::Apply { index, uid: Some(_), .. } if *index == which), "{:?}", found);
        }
    }
}

#[test]
fn what_means_the_same_does_and_a_hole_does_not() {
    let means = |spec: Value| meaning(serde_json::from_value::<Option<NetworkPolicySpec>>(spec).unwrap().as_ref());
    let closed = means(json!({"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [], "egress": []}));
    for same in [json!(null), json!({}), json!({"podSelector": {"matchLabels": {}}, "egress": null, "policyTypes": []})] {
        assert_eq!(means(same), closed);
    }
    for hole in [json!({"ingress": [{}]}), json!({"egress": [{}]}), json!({"policyTypes": ["Egress"]})] {
        assert_ne!(means(hole), closed);
    }
}
