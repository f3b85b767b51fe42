//! What must hold in every world with policies of the Admin tier and of the Baseline tier.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{
    CompiledPolicies, FlowDecision, Party, Protocol, Way,
    api_text::Text,
    cluster_policy, decision, node,
    properties::{ends, flows, labels, objects, selector},
    snapshot, tier_text,
};
use crate::policy::flow::{AskedPort, Flow};

fn selected() -> impl Strategy<Value = Value> {
    prop_oneof![
        selector().prop_map(|namespaces| json!({"namespaces": namespaces})),
        (selector(), selector())
            .prop_map(|(namespaces, pods)| json!({"pods": {"namespaceSelector": namespaces, "podSelector": pods}})),
    ]
}

fn peer(way: Way) -> BoxedStrategy<Value> {
    let unknown = Just(json!({"services": {}}));
    if way == Way::Ingress {
        return prop_oneof![12 => selected(), 1 => unknown].boxed();
    }
    let networks =
        prop::sample::subsequence(vec!["0.0.0.0/0", "10.0.0.0/30", "fd00::/120", "192.168.0.0/24", "8.8.8.8/32"], 1..3);
    prop_oneof![
        12 => selected(),
        6 => networks.prop_map(|networks| json!({"networks": networks})),
        3 => selector().prop_map(|nodes| json!({"nodes": nodes})),
        1 => Just(json!({"domainNames": ["*.example.com"]})),
        1 => unknown,
    ]
    .boxed()
}

/// Ports in the form of the first version, and in that of the later ones.
fn port(is_first: bool) -> impl Strategy<Value = Value> {
    let first = vec![
        json!({"portNumber": {"port": 80}}),
        json!({"portNumber": {"protocol": "UDP", "port": 81}}),
        json!({"portRange": {"protocol": "TCP", "start": 81, "end": 90}}),
        json!({"portRange": {"protocol": "SCTP", "start": 1, "end": 65535}}),
        json!({"namedPort": "web"}),
    ];
    let later = vec![
        json!({"tcp": {"destinationPort": {"number": 80}}}),
        json!({"udp": {"destinationPort": {"number": 81}}}),
        json!({"tcp": {"destinationPort": {"range": {"start": 81, "end": 90}}}}),
        json!({"sctp": {}}),
        json!({"destinationNamedPort": "web"}),
        json!({"icmp": {}}),
    ];
    prop::sample::select(if is_first { first } else { later })
}

fn rules(kind: &'static str, way: Way) -> impl Strategy<Value = Value> {
    let actions = match kind {
        "AdminNetworkPolicy" => vec!["Allow", "Deny", "Pass"],
        "BaselineAdminNetworkPolicy" => vec!["Allow", "Deny"],
        _ => vec!["Accept", "Deny", "Pass"],
    };
    let is_first = kind != "ClusterNetworkPolicy";
    let (peers, ports) = (if way == Way::Egress { "to" } else { "from" }, if is_first { "ports" } else { "protocols" });
    let rule = (
        prop::sample::select(actions),
        prop::collection::vec(peer(way), 1..3),
        prop::option::of(prop::collection::vec(port(is_first), 1..3)),
    );
    prop::collection::vec(rule.prop_map(move |(action, of, on)| json!({"action": action, peers: of, ports: on})), 0..3)
        .prop_map(Value::from)
}

fn policy() -> impl Strategy<Value = Value> {
    let kind = prop::sample::select(vec![
        "AdminNetworkPolicy",
        "ClusterNetworkPolicy",
        "ClusterNetworkPolicy",
        "BaselineAdminNetworkPolicy",
    ]);
    kind.prop_flat_map(|kind| {
        let tier = prop::sample::select(vec!["Admin", "Baseline"]);
        (0..3_i64, tier, selected(), rules(kind, Way::Egress), rules(kind, Way::Ingress)).prop_map(
            move |(priority, tier, subject, egress, ingress)| {
                let mut spec = json!({"subject": subject, "egress": egress, "ingress": ingress});
                if kind != "BaselineAdminNetworkPolicy" {
                    spec["priority"] = priority.into();
                }
                if kind == "ClusterNetworkPolicy" {
                    spec["tier"] = tier.into();
                }
                cluster_policy(kind, "default", spec)
            },
        )
    })
}

/// Random worlds with policies of both tiers. In half of them the nodes are known.
pub fn worlds() -> impl Strategy<Value = Vec<Value>> {
    let nodes = (any::<bool>(), labels(), labels()).prop_map(|(are_known, one, other)| {
        if are_known { vec![node("node-1", one, &["192.168.0.1"]), node("node-2", other, &["192.168.0.2"])] } else { vec![] }
    });
    (objects(), prop::collection::vec(policy(), 0..4), nodes).prop_map(|(mut all, policies, nodes)| {
        for (mut policy, number) in policies.into_iter().zip(0..) {
            // There is only one BaselineAdminNetworkPolicy.
            if policy["kind"] != "BaselineAdminNetworkPolicy" {
                policy["metadata"]["name"] = format!("p{number}").into();
            } else if all.iter().any(|other| other["kind"] == policy["kind"]) {
                continue;
            }
            all.push(policy);
        }
        all.extend(nodes);
        all
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn the_engine_says_what_the_text_of_the_tiers_says(objects in worlds()) {
        let snapshot = snapshot(&objects);
        let compiled = CompiledPolicies::of(&snapshot);
        for flow in flows(&snapshot) {
            for way in [Way::Egress, Way::Ingress] {
                let expected = match tier_text::follow(&objects, &snapshot, &flow, way) {
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
    fn all_pairs_at_once_are_what_each_pair_is_alone_with_tiers_too(objects in worlds()) {
        let snapshot = snapshot(&objects);
        let compiled = CompiledPolicies::of(&snapshot);
        for (protocol, port, is_v6) in [(Protocol::TCP, 80, false), (Protocol::TCP, 81, true), (Protocol::SCTP, 81, false)] {
            let reach = compiled.reach(protocol, port, is_v6);
            for (from, to) in (0..snapshot.pods.len()).flat_map(|from| (0..snapshot.pods.len()).map(move |to| (from, to))) {
                let address = |pod: usize| snapshot.pods[pod].addresses.iter().copied().find(|address| address.is_ipv6() == is_v6);
                let party = |pod: usize| Party { pod: Some(pod), address: address(pod) };
                let flow = Flow { from: party(from), to: party(to), protocol, port };
                let pods = [from, to].map(|pod| &snapshot.pods[pod]);
                let is_pair = from != to && pods.iter().all(|pod| !pod.on_host_network && !pod.has_ended);
                let expected = is_pair.then(|| decision(&compiled, &flow) == FlowDecision::Allowed);
                prop_assert_eq!(reach.allows(from, to), expected, "{:?}", flow);
            }
        }
    }

    #[test]
    fn a_suggestion_helps_unless_the_admin_tier_denies_and_then_there_is_none(objects in worlds()) {
        let before = snapshot(&objects);
        let compiled = CompiledPolicies::of(&before);
        for flow in flows(&before).into_iter().filter(|flow| decision(&compiled, flow) == FlowDecision::Denied).step_by(7) {
            let (from, to) = ends(&before, &flow);
            let port: AskedPort = format!("{}/{}", flow.protocol.into_str(), flow.port).parse().unwrap();
            let answer = compiled.answer(&from, &to, &port).unwrap();
            let suggested = answer.suggestions.iter().map(|suggestion| serde_json::to_value(&suggestion.policy).unwrap());
            let after = snapshot(&objects.iter().cloned().chain(suggested).collect::<Vec<_>>());
            let decided = decision(&CompiledPolicies::of(&after), &flow);
            let is_final = [Way::Egress, Way::Ingress].iter().any(|way| compiled.judge(&flow, *way).is_denied_by_admin_tier());
            prop_assert_eq!(decided == FlowDecision::Denied, is_final, "{:?} {:?}", flow, answer.suggestions);
        }
    }

    #[test]
    fn no_text_in_a_policy_of_a_tier_breaks_the_engine(text in "\\PC{0,20}", number in any::<i64>()) {
        let pods = json!({"namespaceSelector": {"matchLabels": {text.clone(): text}}, "podSelector": {"matchExpressions": [{"key": text, "operator": text, "values": [text]}]}});
        let ports = json!([{"portNumber": {"port": number, "protocol": text}}, {"portRange": {"start": number, "end": number.wrapping_add(1)}}, {"namedPort": text}]);
        let protocols = json!([{"tcp": {"destinationPort": {"number": number}}}, {"udp": {"destinationPort": {}}}, {"destinationNamedPort": text}]);
        let peers = json!([{"networks": [text]}, {"pods": pods}, {"domainNames": [text]}, {"nodes": {"matchLabels": {text.clone(): text}}}]);
        let of = |kind, ports: &str, on: &Value| {
            let rules = json!([{"name": text, "action": "Deny", "to": peers, ports: on}]);
            cluster_policy(kind, &text, json!({"tier": "Admin", "priority": 1, "subject": {"namespaces": {}}, "egress": rules}))
        };
        let objects = [
            super::pod("a/p", json!({}), &["10.0.0.1"]), super::pod("a/q", json!({}), &["10.0.0.2"]),
            of("AdminNetworkPolicy", "ports", &ports), of("ClusterNetworkPolicy", "protocols", &protocols),
        ];
        let snapshot = snapshot(&objects);
        let compiled = CompiledPolicies::of(&snapshot);
        compiled.refused_parts();
        for flow in flows(&snapshot) {
            decision(&compiled, &flow);
        }
        compiled.answer(&"a/p".parse().unwrap(), &"a/q".parse().unwrap(), &"80".parse().unwrap()).unwrap().to_string();
    }
}
