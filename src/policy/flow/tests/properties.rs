//! What must hold in every world: the engine agrees with the text of the API, policies only add up, and classes hide nothing.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{
    CompiledPolicies, Flow, FlowDecision, FlowSnapshot, Party, Protocol, Way,
    api_text::{self, Text, address},
    decision, namespace, pod, policy, snapshot, with_ports,
};
use crate::policy::flow::{AskedPort, FlowDump, FlowEnd};

const NAMESPACES: [&str; 3] = ["a", "b", "c"];
/// Addresses that are no pod's, one of them that of a node.
const OUTSIDE: [&str; 4] = ["10.0.0.200", "192.168.0.1", "8.8.8.8", "fd00::200"];

pub fn labels() -> impl Strategy<Value = Value> {
    prop::collection::btree_map("[xy]", "[12]", 0..3).prop_map(|labels| json!(labels))
}

pub fn selector() -> impl Strategy<Value = Value> {
    let operator = prop::sample::select(vec!["In", "NotIn", "Exists", "DoesNotExist"]);
    let expression = ("[xyz]", operator, prop::collection::vec("[12]", 1..3)).prop_map(|(key, operator, values)| {
        let values = if operator.ends_with("In") { values } else { vec![] };
        json!({"key": key, "operator": operator, "values": values})
    });
    (prop::collection::btree_map("[xy]", "[12]", 0..2), prop::collection::vec(expression, 0..2))
        .prop_map(|(labels, expressions)| json!({"matchLabels": labels, "matchExpressions": expressions}))
}

fn peer() -> impl Strategy<Value = Value> {
    let block = prop::sample::select(vec![
        json!({"cidr": "0.0.0.0/0"}),
        json!({"cidr": "10.0.0.0/30"}),
        json!({"cidr": "10.0.0.0/24", "except": ["10.0.0.4/30", "10.0.0.1/32"]}),
        json!({"cidr": "fd00::/120", "except": ["fd00::2/127"]}),
        json!({"cidr": "8.8.8.8/32"}),
    ]);
    prop_oneof![
        block.prop_map(|block| json!({"ipBlock": block})),
        selector().prop_map(|pods| json!({"podSelector": pods})),
        selector().prop_map(|namespaces| json!({"namespaceSelector": namespaces})),
        (selector(), selector()).prop_map(|(namespaces, pods)| json!({"namespaceSelector": namespaces, "podSelector": pods})),
    ]
}

fn port() -> impl Strategy<Value = Value> {
    prop::sample::select(vec![
        json!({}),
        json!({"port": 80}),
        json!({"port": "web"}),
        json!({"port": "web", "protocol": "UDP"}),
        json!({"port": 79, "endPort": 81}),
        json!({"protocol": "UDP"}),
        json!({"protocol": "SCTP", "port": 81}),
    ])
}

fn rules(peers: &'static str) -> impl Strategy<Value = Value> {
    let list = |of: BoxedStrategy<Value>| prop::option::of(prop::collection::vec(of, 0..3));
    let rule = (list(peer().boxed()), list(port().boxed())).prop_map(move |(of, ports)| json!({peers: of, "ports": ports}));
    prop::option::of(prop::collection::vec(rule, 0..3)).prop_map(|rules| json!(rules))
}

fn spec() -> impl Strategy<Value = Value> {
    let types =
        prop::sample::select(vec![json!(null), json!([]), json!(["Ingress"]), json!(["Egress"]), json!(["Ingress", "Egress"])]);
    (selector(), types, rules("from"), rules("to")).prop_map(
        |(pods, types, ingress, egress)| json!({"podSelector": pods, "policyTypes": types, "ingress": ingress, "egress": egress}),
    )
}

/// What may be special about a pod.
#[derive(Clone, Copy, Debug)]
enum Special {
    Nothing,
    HostNetwork,
    Ended,
}

/// Random worlds.
pub fn objects() -> impl Strategy<Value = Vec<Value>> {
    let special = prop_oneof![8 => Just(Special::Nothing), 1 => Just(Special::HostNetwork), 1 => Just(Special::Ended)];
    let pods = prop::collection::vec((prop::sample::select(&NAMESPACES[..]), labels(), 0..3_u16, special, 1..3_u8), 1..9);
    let policies = prop::collection::vec((prop::sample::select(&NAMESPACES[..]), spec()), 0..5);
    (prop::collection::vec(labels(), 3), pods, policies).prop_map(|(labels, pods, policies)| {
        let namespaces = NAMESPACES.iter().zip(labels).map(|(name, labels)| namespace(name, labels));
        let pods = pods.into_iter().enumerate().map(|(number, (of, labels, named, special, node))| {
            let (v4, v6) = (format!("10.0.0.{number}"), format!("fd00::{number}"));
            let pod = pod(&format!("{of}/p{number}"), labels, &[&v4, &v6]);
            // No port, or a named one of the number 80 or 81.
            let mut pod = if named == 0 { pod } else { with_ports(pod, &[("web", 79 + named)]) };
            pod["spec"]["nodeName"] = format!("node-{node}").into();
            pod["status"]["hostIPs"] = json!([{"ip": format!("192.168.0.{node}")}]);
            match special {
                Special::Nothing => {}
                Special::HostNetwork => pod["spec"]["hostNetwork"] = json!(true),
                Special::Ended => pod["status"]["phase"] = json!("Succeeded"),
            }
            pod
        });
        let policies = policies.into_iter().enumerate().map(|(number, (of, spec))| policy(&format!("{of}/n{number}"), spec));
        namespaces.chain(pods).chain(policies).collect()
    })
}

/// All flows between pods and addresses, over both families.
pub fn flows(snapshot: &FlowSnapshot) -> Vec<Flow> {
    let pods = (0..snapshot.pods.len()).flat_map(|pod| {
        snapshot.pods[pod].addresses.iter().map(move |address| Party { pod: Some(pod), address: Some(*address) })
    });
    let outside = OUTSIDE.map(|text| Party { pod: None, address: Some(address(text)) });
    let parties: Vec<Party> = pods.chain(outside).collect();
    let ports = [(Protocol::TCP, 80), (Protocol::TCP, 81), (Protocol::UDP, 81), (Protocol::SCTP, 81)];
    let is_v4 = |party: &Party| party.address.unwrap().is_ipv4();
    let mut all = Vec::new();
    for from in &parties {
        for to in parties.iter().filter(|to| is_v4(to) == is_v4(from)) {
            all.extend(ports.map(|(protocol, port)| Flow { from: *from, to: *to, protocol, port }));
        }
    }
    all
}

/// All flows, as somebody would write them down.
pub fn flow_texts(snapshot: &FlowSnapshot) -> Vec<[String; 3]> {
    let end = |party: Party| match party.pod.map(|pod| &snapshot.pods[pod]) {
        Some(pod) => format!("{}/{}", pod.namespace, pod.name),
        None => party.address.unwrap().to_string(),
    };
    let text = |flow: Flow| [end(flow.from), end(flow.to), format!("{}/{}", flow.protocol.into_str(), flow.port)];
    flows(snapshot).into_iter().map(text).collect()
}

/// The policies of the objects, and the others.
fn apart(objects: Vec<Value>) -> (Vec<Value>, Vec<Value>) {
    objects.into_iter().partition(|object| object["kind"] == "NetworkPolicy")
}

pub fn ends(snapshot: &FlowSnapshot, flow: &Flow) -> (FlowEnd, FlowEnd) {
    let end = |party: Party| match party.pod {
        Some(pod) => FlowEnd::Pod { namespace: snapshot.pods[pod].namespace.clone(), name: snapshot.pods[pod].name.clone() },
        None => FlowEnd::Address(party.address.unwrap()),
    };
    (end(flow.from), end(flow.to))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn the_engine_says_what_the_text_of_the_api_says(objects in objects()) {
        let snapshot = snapshot(&objects);
        let compiled = CompiledPolicies::of(&snapshot);
        for flow in flows(&snapshot) {
            for way in [Way::Egress, Way::Ingress] {
                let expected = match api_text::follow(&snapshot, &flow, way) {
                    Text::Allowed => FlowDecision::Allowed,
                    Text::Denied => FlowDecision::Denied,
                    Text::Undefined => FlowDecision::Undecided,
                };
                let verdict = compiled.judge(&flow, way);
                prop_assert_eq!(verdict.decision(), expected, "{:?} {:?} {:?}", flow, way, verdict);
            }
        }
    }

    #[test]
    fn a_policy_that_only_isolates_never_allows_more(objects in objects(), of in prop::sample::select(&NAMESPACES[..]), pods in selector()) {
        let before = snapshot(&objects);
        let closed = policy(&format!("{of}/closed"), json!({"podSelector": pods, "policyTypes": ["Ingress", "Egress"]}));
        let after = snapshot(&objects.into_iter().chain([closed]).collect::<Vec<_>>());
        let (before_compiled, after_compiled) = (CompiledPolicies::of(&before), CompiledPolicies::of(&after));
        for flow in flows(&before) {
            prop_assert!(decision(&after_compiled, &flow) >= decision(&before_compiled, &flow), "{:?}", flow);
        }
    }

    #[test]
    fn a_rule_more_never_allows_less(objects in objects(), which in any::<prop::sample::Index>(), from in rules("from"), to in rules("to")) {
        let (mut policies, others) = apart(objects);
        prop_assume!(!policies.is_empty());
        let with = |policies: &[Value]| snapshot(&others.iter().chain(policies).cloned().collect::<Vec<_>>());
        let at = which.index(policies.len());
        let spec = &mut policies[at]["spec"];
        // A policy without types would isolate egress only because of the new rule.
        if spec["policyTypes"].as_array().is_none_or(Vec::is_empty) {
            spec["policyTypes"] = json!(["Ingress", "Egress"]);
        }
        let before = with(&policies);
        let spec = &mut policies[at]["spec"];
        for (list, more) in [("ingress", from), ("egress", to)] {
            let mut rules = spec[list].as_array().cloned().unwrap_or_default();
            rules.extend(more.as_array().cloned().unwrap_or_default());
            spec[list] = json!(rules);
        }
        let after = with(&policies);
        let (before_compiled, after_compiled) = (CompiledPolicies::of(&before), CompiledPolicies::of(&after));
        for flow in flows(&before) {
            prop_assert!(decision(&after_compiled, &flow) <= decision(&before_compiled, &flow), "{:?}", flow);
        }
    }

    #[test]
    fn the_order_of_objects_decides_nothing(objects in objects()) {
        let forwards = snapshot(&objects);
        let backwards = snapshot(&objects.into_iter().rev().collect::<Vec<_>>());
        let (one, other) = (CompiledPolicies::of(&forwards), CompiledPolicies::of(&backwards));
        for flow in flows(&forwards) {
            for way in [Way::Egress, Way::Ingress] {
                prop_assert_eq!(one.judge(&flow, way), other.judge(&flow, way));
            }
        }
    }

    #[test]
    fn two_pods_of_a_class_are_judged_alike(objects in objects()) {
        // Each pod twice, so that there are classes with several pods.
        let (policies, others) = apart(objects);
        let twice = others.iter().filter(|object| object["kind"] == "Pod").map(|pod| {
            let mut twin = pod.clone();
            twin["metadata"]["name"] = format!("{}-twin", pod["metadata"]["name"].as_str().unwrap()).into();
            twin
        });
        let all: Vec<Value> = policies.iter().chain(&others).cloned().chain(twice).collect();
        let snapshot = snapshot(&all);
        let compiled = CompiledPolicies::of(&snapshot);
        let classes = &compiled.classes;
        let of_class = |class: u32| (0..snapshot.pods.len()).filter(move |pod| classes.class(*pod) == Some(class));
        for flow in flows(&snapshot) {
            let (Some(from), Some(to)) = (flow.from.pod, flow.to.pod) else { continue };
            let (Some(from_class), Some(to_class)) = (compiled.classes.class(from), compiled.classes.class(to)) else { continue };
            if from == to || [from, to].iter().any(|pod| snapshot.pods[*pod].on_host_network) {
                continue;
            }
            // The first two pods of the classes stand for all others.
            let first = of_class(from_class).next().unwrap();
            let second = of_class(to_class).find(|pod| *pod != first).unwrap();
            let is_v4 = flow.from.address.unwrap().is_ipv4();
            let stand_in = |pod: usize| Party { pod: Some(pod), address: snapshot.pods[pod].addresses.iter().copied().find(|one| one.is_ipv4() == is_v4) };
            let of_classes = Flow { from: stand_in(first), to: stand_in(second), ..flow };
            for way in [Way::Egress, Way::Ingress] {
                prop_assert_eq!(compiled.judge(&flow, way), compiled.judge(&of_classes, way), "{:?}", flow);
            }
        }
    }

    #[test]
    fn all_pairs_at_once_are_what_each_pair_is_alone(objects in objects()) {
        let snapshot = snapshot(&objects);
        let compiled = CompiledPolicies::of(&snapshot);
        for (protocol, port, is_v6) in [(Protocol::TCP, 80, false), (Protocol::TCP, 81, true), (Protocol::UDP, 81, false)] {
            let reach = compiled.reach(protocol, port, is_v6);
            let mut pairs = 0;
            for (from, to) in (0..snapshot.pods.len()).flat_map(|from| (0..snapshot.pods.len()).map(move |to| (from, to))) {
                let address = |pod: usize| snapshot.pods[pod].addresses.iter().copied().find(|address| address.is_ipv6() == is_v6);
                let party = |pod: usize| Party { pod: Some(pod), address: address(pod) };
                let flow = Flow { from: party(from), to: party(to), protocol, port };
                let pods = [from, to].map(|pod| &snapshot.pods[pod]);
                let is_pair = from != to && pods.iter().all(|pod| !pod.on_host_network && !pod.has_ended);
                let expected = is_pair.then(|| decision(&compiled, &flow) == FlowDecision::Allowed);
                prop_assert_eq!(reach.allows(from, to), expected, "{:?}", flow);
                pairs += u64::from(expected == Some(true));
            }
            prop_assert_eq!(reach.pairs(), pairs);
        }
    }

    #[test]
    fn the_suggested_policies_allow_what_was_denied(objects in objects()) {
        let before = snapshot(&objects);
        let compiled = CompiledPolicies::of(&before);
        // Each fifth one, because every flow compiles a world of its own.
        for flow in flows(&before).into_iter().filter(|flow| decision(&compiled, flow) == FlowDecision::Denied).step_by(5) {
            let (from, to) = ends(&before, &flow);
            let port: AskedPort = format!("{}/{}", flow.protocol.into_str(), flow.port).parse().unwrap();
            let answer = compiled.answer(&from, &to, &port).unwrap();
            prop_assert!(!answer.suggestions.is_empty(), "{:?}", flow);
            let suggested = answer.suggestions.iter().map(|suggestion| serde_json::to_value(&suggestion.policy).unwrap());
            let after = snapshot(&objects.iter().cloned().chain(suggested).collect::<Vec<_>>());
            prop_assert_eq!(after.policies.len(), before.policies.len() + answer.suggestions.len(), "none replaces another");
            let decided = decision(&CompiledPolicies::of(&after), &flow);
            // A pod on the host network stays undecided in the other direction.
            prop_assert!(decided < FlowDecision::Denied, "{:?} {:?}", flow, answer.suggestions);
        }
    }

    #[test]
    fn no_text_in_an_object_breaks_the_engine(text in "\\PC{0,20}", number in any::<i32>()) {
        let selector = json!({"matchLabels": {text.clone(): text}, "matchExpressions": [{"key": text, "operator": text, "values": [text]}]});
        let peers = json!([{"ipBlock": {"cidr": text, "except": [text]}}, {"podSelector": selector}, {"namespaceSelector": selector}]);
        let ports = json!([{"port": number, "endPort": number.wrapping_add(1), "protocol": text}, {"port": text}]);
        let spec = json!({"podSelector": {}, "policyTypes": [text], "ingress": [{"from": peers, "ports": ports}], "egress": [{"to": peers}]});
        let objects = [pod("a/p", json!({text.clone(): text}), &[&text]), policy("a/n", spec)];
        let snapshot = snapshot(&objects);
        let compiled = CompiledPolicies::of(&snapshot);
        compiled.refused_parts();
        for flow in flows(&snapshot) {
            decision(&compiled, &flow);
        }
    }
}

#[test]
fn of_two_objects_with_one_name_the_later_one_counts() {
    let read = |phase: &str| {
        let mut pod = pod("a/p", json!({}), &["10.0.0.1"]);
        pod["status"]["phase"] = phase.into();
        pod
    };
    let list = json!({"apiVersion": "v1", "kind": "List", "items": [read("Running"), read("Failed")]});
    let dump = FlowDump::read(&list.to_string()).unwrap();
    assert!(dump.warnings[0].starts_with("the Pod a/p is given twice"), "{:?}", dump.warnings);
    let snapshot: FlowSnapshot = dump.objects.into_iter().collect();
    assert!(snapshot.pods.len() == 1 && snapshot.pods[0].has_ended);
}
