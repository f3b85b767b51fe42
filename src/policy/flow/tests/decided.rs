//! A flow is decided without names as it is judged with them.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{
    CompiledPolicies, Flow, FlowDecision, FlowSnapshot, Party, Protocol, Way, decision, flow, pod, policy,
    properties::{flows, objects},
    snapshot,
    tier_properties::worlds,
};
use crate::policy::flow::{ClusterPolicyKind, FlowDecider, cluster_policy::UnreadClusterPolicy, objects::UnreadPolicy};

/// The flows of a world, and some whose ends have no address, or one that is not theirs.
fn more_flows(snapshot: &FlowSnapshot) -> Vec<Flow> {
    let mut all = flows(snapshot);
    let of_others: Vec<Flow> = all
        .iter()
        .step_by(3)
        .flat_map(|flow| {
            let with = |party: Party, address| if party.pod.is_some() { Party { address, ..party } } else { party };
            let without = Flow { from: with(flow.from, None), to: with(flow.to, None), ..*flow };
            let swapped = Flow { from: with(flow.from, flow.to.address), to: with(flow.to, flow.from.address), ..*flow };
            [without, swapped]
        })
        .collect();
    all.extend(of_others);
    all
}

fn check(snapshot: &FlowSnapshot) -> Result<(), TestCaseError> {
    let compiled = CompiledPolicies::of(snapshot);
    let decider = FlowDecider::of(&compiled);
    for flow in more_flows(snapshot) {
        for way in [Way::Egress, Way::Ingress] {
            let verdict = compiled.judge(&flow, way);
            prop_assert_eq!(decider.direction(&flow, way), verdict.decision(), "{:?} {:?} {:?}", flow, way, verdict);
        }
        prop_assert_eq!(decider.decides(&flow), decision(&compiled, &flow));
    }
    Ok(())
}

/// What could not be read.
fn unread() -> impl Strategy<Value = (Option<&'static str>, Option<ClusterPolicyKind>)> {
    let namespace = prop::option::weighted(0.3, prop::sample::select(vec!["a", "b", "c"]));
    let kind = prop::sample::select(vec![ClusterPolicyKind::Admin, ClusterPolicyKind::BaselineAdmin, ClusterPolicyKind::Cluster]);
    (namespace, prop::option::weighted(0.2, kind))
}

/// The world without what could not be read.
fn with_unread(objects: &[Value], (namespace, kind): (Option<&str>, Option<ClusterPolicyKind>)) -> FlowSnapshot {
    let mut snapshot = snapshot(objects);
    snapshot
        .unread_policies
        .extend(namespace.map(|namespace| UnreadPolicy { namespace: namespace.into(), name: "broken".into() }));
    snapshot.unread_cluster_policies.extend(kind.map(|kind| UnreadClusterPolicy { kind, name: "broken".into() }));
    snapshot
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn a_flow_is_decided_as_it_is_judged(objects in objects(), unread in unread()) {
        check(&with_unread(&objects, unread))?;
    }

    #[test]
    fn a_flow_is_decided_as_it_is_judged_with_tiers_too(objects in worlds(), unread in unread()) {
        check(&with_unread(&objects, unread))?;
    }
}

#[test]
fn rules_with_the_same_ports_are_one_and_each_of_their_peers_counts() {
    let allows = |peers: Value| json!({"podSelector": {}, "ingress": [{"from": peers, "ports": [{"port": 80}]}]});
    let world = snapshot(&[
        pod("a/web", json!({"app": "web"}), &["10.0.0.1"]),
        pod("a/api", json!({"app": "api"}), &["10.0.0.2"]),
        pod("a/job", json!({"app": "job"}), &["10.0.0.3"]),
        policy("a/one", allows(json!([{"podSelector": {"matchLabels": {"app": "api"}}}]))),
        policy("a/two", allows(json!([{"ipBlock": {"cidr": "10.0.0.3/32"}}]))),
    ]);
    let compiled = CompiledPolicies::of(&world);
    let decider = FlowDecider::of(&compiled);
    let of = |from: &str, port: u16| decider.decides(&flow(&world, from, "a/web", (Protocol::TCP, port)));
    assert_eq!([of("a/api", 80), of("a/job", 80)], [FlowDecision::Allowed; 2]);
    assert_eq!([of("8.8.8.8", 80), of("a/api", 81)], [FlowDecision::Denied; 2]);
}
