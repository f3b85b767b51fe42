//! AdminNetworkPolicies and a BaselineAdminNetworkPolicy for random worlds, and what kube-network-policies reads differently in them.

use std::collections::BTreeSet;

use policy_baseline_e2e::Dice;
use policy_baseline_e2e::reference::ReferenceWorld;
use serde_json::{Map, Value, json};

use super::worlds::{Choices, KEYS, namespace_selector, selector};

/// The label by which a changed world tells apart the pods that a NetworkPolicy selects. No world has it.
const SELECTED: &str = "selected-by-a-policy";

/// Adds policies of both tiers. Their peers and ports are those of the standard version of the API.
pub fn add(dice: &mut Dice, world: &mut ReferenceWorld) {
    for number in 0..dice.between(0, 3) {
        let mut spec = spec(dice, &["Allow", "Deny", "Pass"]);
        spec.insert("priority".into(), dice.below(3).into());
        world.admin_policies.push(policy("AdminNetworkPolicy", &format!("admin-{number}"), &spec));
    }
    if dice.once_in(2) {
        let spec = spec(dice, &["Allow", "Deny"]);
        world.admin_policies.push(policy("BaselineAdminNetworkPolicy", "default", &spec));
    }
}

fn policy(kind: &str, name: &str, spec: &Map<String, Value>) -> Value {
    json!({"apiVersion": "policy.networking.k8s.io/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec})
}

fn spec(dice: &mut Dice, actions: &[&'static str]) -> Map<String, Value> {
    let mut spec = Map::new();
    spec.insert("subject".into(), pods(dice));
    for (list, peers) in [("ingress", "from"), ("egress", "to")] {
        let rules: Vec<Value> = (0..dice.below(4)).map(|_| rule(dice, actions, peers)).collect();
        if !rules.is_empty() {
            spec.insert(list.into(), rules.into());
        }
    }
    spec
}

fn rule(dice: &mut Dice, actions: &[&'static str], peers: &str) -> Value {
    let mut rule = json!({"action": dice.pick(actions)});
    rule[peers] =
        (0..dice.between(1, 3)).map(|_| if peers == "to" && dice.once_in(3) { networks(dice) } else { pods(dice) }).collect();
    if dice.once_in(2) {
        rule["ports"] = (0..dice.between(1, 2)).map(|_| port(dice)).collect();
    }
    rule
}

/// A subject, or a peer.
fn pods(dice: &mut Dice) -> Value {
    if dice.once_in(2) {
        return json!({"namespaces": namespace_selector(dice)});
    }
    json!({"pods": {"namespaceSelector": namespace_selector(dice), "podSelector": selector(dice, &KEYS)}})
}

fn networks(dice: &mut Dice) -> Value {
    const NETWORKS: [&str; 6] = ["0.0.0.0/0", "10.0.0.0/30", "192.168.0.0/24", "8.8.8.8/32", "::/0", "fd00::/126"];
    let some: BTreeSet<&str> = (0..dice.between(1, 2)).map(|_| dice.pick(&NETWORKS)).collect();
    json!({"networks": some})
}

fn port(dice: &mut Dice) -> Value {
    let protocol = dice.pick(&["TCP", "UDP", "SCTP"]);
    match dice.below(3) {
        0 => json!({"portRange": {"protocol": protocol, "start": dice.between(1, 80), "end": dice.between(81, 82)}}),
        _ => json!({"portNumber": {"protocol": protocol, "port": dice.between(79, 82)}}),
    }
}

/// Of two policies with the same priority, the one whose name comes first decides.
pub fn names_decide_between_equal_priorities(world: &mut ReferenceWorld) {
    let mut all: Vec<&mut Value> = world.admin_policies.iter_mut().filter(|policy| policy["spec"]["priority"].is_u64()).collect();
    all.sort_by_key(|policy| (policy["spec"]["priority"].as_u64(), policy["metadata"]["name"].to_string()));
    for (policy, number) in all.into_iter().zip(0_u64..) {
        policy["spec"]["priority"] = number.into();
    }
}

/// The Baseline tier is not about pods that a NetworkPolicy selects, for whichever direction.
pub fn any_policy_ends_the_baseline_tier(world: &mut ReferenceWorld) {
    let Some(baseline) = world.admin_policies.iter_mut().find(|policy| policy["kind"] == "BaselineAdminNetworkPolicy") else {
        return;
    };
    let subject = &mut baseline["spec"]["subject"];
    if subject["pods"].is_null() {
        *subject = json!({"pods": {"namespaceSelector": subject["namespaces"], "podSelector": {}}});
    }
    let selector = &mut subject["pods"]["podSelector"];
    let mut expressions = selector["matchExpressions"].as_array().cloned().unwrap_or_default();
    expressions.push(json!({"key": SELECTED, "operator": "DoesNotExist"}));
    selector["matchExpressions"] = expressions.into();
    let policies: Vec<Value> = world.objects.iter().filter(|object| object["kind"] == "NetworkPolicy").cloned().collect();
    for pod in world.objects.iter_mut().filter(|object| object["kind"] == "Pod") {
        let selects = |policy: &Value| {
            policy["metadata"]["namespace"] == pod["metadata"]["namespace"]
                && selects(&policy["spec"]["podSelector"], &pod["metadata"]["labels"])
        };
        if policies.iter().any(selects) {
            pod["metadata"]["labels"][SELECTED] = "".into();
        }
    }
}

fn selects(selector: &Value, labels: &Value) -> bool {
    let meets = |expression: &Value| {
        let label = &labels[expression["key"].as_str().unwrap()];
        let is_in = expression["values"].as_array().is_some_and(|values| values.contains(label));
        match expression["operator"].as_str().unwrap() {
            "In" => is_in,
            "NotIn" => !is_in,
            "Exists" => !label.is_null(),
            _ => label.is_null(),
        }
    };
    let has = |(key, value): (&String, &Value)| labels[key] == *value;
    selector["matchLabels"].as_object().is_none_or(|all| all.iter().all(has))
        && selector["matchExpressions"].as_array().is_none_or(|all| all.iter().all(meets))
}

/// Only what NetworkPolicies say.
pub fn without_tiers(world: &mut ReferenceWorld) {
    world.admin_policies.clear();
}
