//! Pods and their nodes, and pods on the host network.

use serde_json::{Value, json};

use super::{
    Way, pod, policy,
    rules::{DENIED, base},
    says, snapshot,
};

#[test]
fn traffic_from_the_pods_own_node_is_always_allowed() {
    let closed = json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]});
    let mut on_node = pod("ops/agent", json!({}), &["192.168.0.1"]);
    on_node["spec"]["hostNetwork"] = json!(true);
    let mut elsewhere = on_node.clone();
    elsewhere["metadata"]["name"] = "remote".into();
    elsewhere["spec"]["nodeName"] = "node-2".into();
    elsewhere["status"]["podIPs"] = json!([{"ip": "192.168.0.2"}]);
    let world = snapshot(&base().into_iter().chain([policy("shop/p", closed), on_node, elsewhere]).collect::<Vec<_>>());
    for (from, expected) in
        [("192.168.0.1", "own node"), ("ops/agent", "own node"), ("192.168.0.2", DENIED), ("ops/remote", DENIED)]
    {
        assert_eq!(says(&world, Way::Ingress, from, "shop/db", 80), expected, "{from}");
    }
    assert_eq!(says(&world, Way::Egress, "shop/db", "192.168.0.1", 10250), "own node");
    assert_eq!(says(&world, Way::Egress, "shop/db", "ops/agent", 80), "own node");
    for (way, from, to) in [(Way::Egress, "ops/agent", "shop/db"), (Way::Ingress, "shop/db", "ops/agent")] {
        assert_eq!(says(&world, way, from, to, 80), "own node", "the same flow, judged for the pod that is on the node");
    }
}

#[test]
fn for_a_pod_on_the_host_network_policies_mean_nothing_certain() {
    let host = |id: &str, labels: Value| {
        let mut pod = pod(id, labels, &["192.168.0.9"]);
        pod["spec"] = json!({"hostNetwork": true, "nodeName": "node-9"});
        pod
    };
    let rules = json!([
        {"from": [{"podSelector": {"matchLabels": {"app": "agent"}}}], "ports": [{"port": 80}]},
        {"from": [{"podSelector": {"matchLabels": {"app": "agent"}}}, {"ipBlock": {"cidr": "192.168.0.0/24"}}], "ports": [{"port": 81}]},
        {"ports": [{"port": 83}]},
    ]);
    let spec = json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"], "ingress": rules});
    let agent = host("shop/agent", json!({"app": "agent"}));
    let open = snapshot(&base().into_iter().chain([agent.clone()]).collect::<Vec<_>>());
    for way in [Way::Egress, Way::Ingress] {
        assert_eq!(says(&open, way, "shop/agent", "shop/db", 80), "not isolated", "no policy could be applied to it");
        assert_eq!(says(&open, way, "shop/db", "shop/agent", 80), "not isolated");
    }
    let world = snapshot(&base().into_iter().chain([policy("shop/p", spec), agent]).collect::<Vec<_>>());
    assert_eq!(says(&world, Way::Egress, "shop/agent", "shop/db", 80), "on the host network");
    assert_eq!(says(&world, Way::Ingress, "ops/tool", "shop/agent", 80), "on the host network");
    assert_eq!(
        says(&world, Way::Ingress, "1.2.3.4", "shop/agent", 83),
        "allowed by shop/p rule2 port0",
        "allowed whether policies apply to it or not"
    );
    assert_eq!(
        says(&world, Way::Ingress, "shop/agent", "shop/db", 80),
        "undecided by shop/p rule0 peer0 port0",
        "only by its labels"
    );
    assert_eq!(says(&world, Way::Ingress, "shop/agent", "shop/db", 81), "allowed by shop/p rule1 peer1 port0", "by its address");
    assert_eq!(says(&world, Way::Ingress, "shop/agent", "shop/db", 82), DENIED, "neither by labels nor by address");
}
