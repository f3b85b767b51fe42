//! What the other engines read differently from the API reference, or do not read at all.
//!
//! Each exception is a change of the world: of what we read into what they read. Our engine, asked about the world after all changes, must
//! say exactly what the other one says, about every flow. So an exception hides nothing else.

use std::collections::BTreeSet;

use policy_baseline_e2e::reference::{ReferenceWorld, WorldParty};
use serde_json::{Value, json};

use super::tiers;

/// An engine with which ours is compared.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reference {
    Cyclonus,
    KubeNetworkPolicies,
}

impl Reference {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cyclonus => "cyclonus",
            Self::KubeNetworkPolicies => "kube-network-policies",
        }
    }
}

/// Something that an engine reads differently.
pub struct Exception {
    pub name: &'static str,
    /// What it does, and what the API reference says.
    pub why: &'static str,
    pub of: &'static [Reference],
    /// The unit test that pins what ours does.
    pub pinned: &'static str,
    /// Makes a world of what that engine reads.
    pub rewrite: fn(&mut ReferenceWorld),
}

pub static EXCEPTIONS: [Exception; 12] = [
    Exception {
        name: "an empty list of rules",
        why: "kube-network-policies lets `ingress: []` and `egress: []` allow everything; by the reference they allow nothing",
        of: &[Reference::KubeNetworkPolicies],
        pinned: "without_rules_nothing_is_allowed_and_an_empty_rule_allows_everything",
        rewrite: an_empty_list_of_rules_allows_everything,
    },
    Exception {
        name: "a pod and its node",
        why: "neither engine knows nodes; by the reference, traffic between a pod and its own node is always allowed",
        of: &[Reference::Cyclonus, Reference::KubeNetworkPolicies],
        pinned: "traffic_from_the_pods_own_node_is_always_allowed",
        rewrite: without_nodes,
    },
    Exception {
        name: "a pod and itself",
        why: "both engines apply policies to it; Kubernetes says that a pod cannot block access to itself",
        of: &[Reference::Cyclonus, Reference::KubeNetworkPolicies],
        pinned: "a_pod_always_reaches_itself",
        rewrite: each_pod_has_a_double,
    },
    Exception {
        name: "a pod on the host network, read as its node",
        why: "kube-network-policies sees only the address of the node; the reference leaves that open, so ours is undecided",
        of: &[Reference::KubeNetworkPolicies],
        pinned: "for_a_pod_on_the_host_network_policies_mean_nothing_certain",
        rewrite: without_pods_on_the_host_network,
    },
    Exception {
        name: "a pod on the host network, read as any other pod",
        why: "cyclonus does not read hostNetwork; the reference leaves open what policies mean for such a pod, so ours is undecided",
        of: &[Reference::Cyclonus],
        pinned: "for_a_pod_on_the_host_network_policies_mean_nothing_certain",
        rewrite: without_host_network,
    },
    Exception {
        name: "a NotIn for a label that is absent",
        why: "cyclonus lets NotIn select nothing that lacks the label; the reference of LabelSelector selects it",
        of: &[Reference::Cyclonus],
        pinned: "not_in_selects_a_pod_that_lacks_the_label",
        rewrite: not_in_needs_the_label,
    },
    Exception {
        name: "a label with an empty value",
        why: "cyclonus takes an absent label for one with an empty value; to the reference they are two things",
        of: &[Reference::Cyclonus],
        pinned: "a_label_with_an_empty_value_is_not_an_absent_label",
        rewrite: an_empty_value_is_an_absent_label,
    },
    Exception {
        name: "several names for one port",
        why: "cyclonus takes one name for the port of a flow; a pod may give a port several names",
        of: &[Reference::Cyclonus],
        pinned: "each_name_of_a_port_is_a_name_of_it",
        rewrite: one_name_for_a_port,
    },
    Exception {
        name: "a named port of a sidecar",
        why: "kube-network-policies reads no ports of init containers; one that always restarts runs beside the others",
        of: &[Reference::KubeNetworkPolicies],
        pinned: "a_port_of_a_sidecar_has_a_name_and_one_of_another_init_container_has_none",
        rewrite: without_init_containers,
    },
    Exception {
        name: "the Admin tier and the Baseline tier",
        why: "cyclonus reads only NetworkPolicies",
        of: &[Reference::Cyclonus],
        pinned: "the_admin_tier_decides_before_network_policies",
        rewrite: tiers::without_tiers,
    },
    Exception {
        name: "two AdminNetworkPolicies with the same priority",
        why: "kube-network-policies asks them in the order of their names; the API lets a network plugin choose, so ours is undecided",
        of: &[Reference::KubeNetworkPolicies],
        pinned: "of_policies_with_the_same_priority_any_may_decide",
        rewrite: tiers::names_decide_between_equal_priorities,
    },
    Exception {
        name: "a NetworkPolicy for the other direction, and the Baseline tier",
        why: "kube-network-policies ends the tier for a pod in both directions; a NetworkPolicy isolates a pod, and so decides, by direction",
        of: &[Reference::KubeNetworkPolicies],
        pinned: "the_baseline_tier_decides_only_where_no_network_policy_isolates_the_pod_in_that_direction",
        rewrite: tiers::any_policy_ends_the_baseline_tier,
    },
];

/// The exceptions of an engine.
pub fn exceptions_of(reference: Reference) -> Vec<&'static Exception> {
    EXCEPTIONS.iter().filter(|one| one.of.contains(&reference)).collect()
}

fn of_kind<'a>(world: &'a mut ReferenceWorld, kind: &'a str) -> impl Iterator<Item = &'a mut Value> {
    world.objects.iter_mut().filter(move |object| object["kind"] == kind)
}

/// Changes every label selector of every policy.
fn each_selector(world: &mut ReferenceWorld, change: &impl Fn(&mut Value)) {
    of_kind(world, "NetworkPolicy").for_each(|policy| each_selector_in(&mut policy["spec"], change));
}

fn each_selector_in(value: &mut Value, change: &impl Fn(&mut Value)) {
    match value {
        Value::Array(all) => all.iter_mut().for_each(|one| each_selector_in(one, change)),
        Value::Object(fields) => {
            for (name, field) in fields {
                if name == "podSelector" || name == "namespaceSelector" { change(field) } else { each_selector_in(field, change) }
            }
        }
        _ => {}
    }
}

fn add_expression(selector: &mut Value, expression: Value) {
    let there = selector["matchExpressions"].as_array().cloned().unwrap_or_default();
    selector["matchExpressions"] = there.into_iter().chain([expression]).collect();
}

fn not_in_needs_the_label(world: &mut ReferenceWorld) {
    each_selector(world, &|selector| {
        let expressions = selector["matchExpressions"].as_array().cloned().unwrap_or_default();
        for expression in expressions.iter().filter(|one| one["operator"] == "NotIn") {
            add_expression(selector, json!({"key": expression["key"], "operator": "Exists"}));
        }
    });
}

fn an_empty_value_is_an_absent_label(world: &mut ReferenceWorld) {
    // A label is absent or empty if it has none of the other values.
    let labels = world.objects.iter().filter_map(|object| object["metadata"]["labels"].as_object()).flat_map(|all| all.values());
    let values: BTreeSet<&str> = labels.filter_map(Value::as_str).filter(|value| !value.is_empty()).collect();
    let values = json!(values);
    each_selector(world, &|selector| {
        let Some(labels) = selector.get_mut("matchLabels").and_then(Value::as_object_mut) else { return };
        let keys: Vec<String> = labels.iter().filter(|(_, value)| *value == "").map(|(key, _)| key.clone()).collect();
        labels.retain(|_, value| value != "");
        for key in keys {
            add_expression(selector, json!({"key": key, "operator": "NotIn", "values": values}));
        }
    });
}

fn one_name_for_a_port(world: &mut ReferenceWorld) {
    for pod in of_kind(world, "Pod") {
        let mut seen = BTreeSet::new();
        for list in ["containers", "initContainers"] {
            for container in pod["spec"].get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
                if list == "initContainers" && container["restartPolicy"] != "Always" {
                    continue;
                }
                for port in container.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten() {
                    let number = port["containerPort"].as_u64();
                    let protocol = port["protocol"].as_str().unwrap_or("TCP").to_owned();
                    let Some(fields) = port.as_object_mut() else { continue };
                    if fields.contains_key("name") && !seen.insert((number, protocol)) {
                        fields.remove("name");
                    }
                }
            }
        }
    }
}

fn an_empty_list_of_rules_allows_everything(world: &mut ReferenceWorld) {
    for policy in of_kind(world, "NetworkPolicy") {
        for list in ["ingress", "egress"] {
            if policy["spec"].get(list).and_then(Value::as_array).is_some_and(Vec::is_empty) {
                // With a rule, a policy without types would isolate for egress too.
                if list == "egress" && policy["spec"]["policyTypes"].as_array().is_none_or(Vec::is_empty) {
                    policy["spec"]["policyTypes"] = json!(["Ingress"]);
                }
                policy["spec"][list] = json!([{}]);
            }
        }
    }
}

fn without_init_containers(world: &mut ReferenceWorld) {
    of_kind(world, "Pod").filter_map(|pod| pod["spec"].as_object_mut()).for_each(|spec| drop(spec.remove("initContainers")));
}

fn without_nodes(world: &mut ReferenceWorld) {
    for pod in of_kind(world, "Pod") {
        for (part, fields) in [("spec", &["nodeName"][..]), ("status", &["hostIP", "hostIPs"])] {
            let Some(part) = pod[part].as_object_mut() else { continue };
            part.retain(|name, _| !fields.contains(&&**name));
        }
    }
}

/// What a pod sends to itself is what another pod sends that is in everything like it.
fn each_pod_has_a_double(world: &mut ReferenceWorld) {
    let double = |name: &str| format!("{name}-double");
    let pods: Vec<Value> = of_kind(world, "Pod").map(|pod| pod.clone()).collect();
    for mut pod in pods {
        pod["metadata"]["name"] = double(pod["metadata"]["name"].as_str().unwrap()).into();
        world.objects.push(pod);
    }
    for at in 0..world.flows.len() {
        let [from, to, port] = world.flows[at];
        if let Some(pod) = &world.parties[from].pod
            && world.parties[to].pod.as_ref() == Some(pod)
        {
            let twin = WorldParty { pod: Some(double(pod)), ..world.parties[from].clone() };
            world.flows[at] = [world.parties.len(), to, port];
            world.parties.push(twin);
        }
    }
}

fn without_host_network(world: &mut ReferenceWorld) {
    of_kind(world, "Pod").filter_map(|pod| pod["spec"].as_object_mut()).for_each(|spec| drop(spec.remove("hostNetwork")));
}

fn without_pods_on_the_host_network(world: &mut ReferenceWorld) {
    world.objects.retain(|object| object["spec"]["hostNetwork"] != true);
}
