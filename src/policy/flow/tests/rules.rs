//! Each promise of the API reference of NetworkPolicy v1, as a test of its name.

use serde_json::{Value, json};

use super::{
    CompiledPolicies, FlowDump, FlowSnapshot, Protocol, Way, flow, namespace, pod, policy, said, says, snapshot, with_ports,
};

/// Two namespaces: `shop` with `web` and `db`, and `ops` with `tool`.
pub fn base() -> Vec<Value> {
    vec![
        namespace("shop", json!({"team": "a"})),
        namespace("ops", json!({"team": "b"})),
        pod("shop/web", json!({"app": "web", "tier": "front"}), &["10.0.0.1", "fd00::1"]),
        with_ports(pod("shop/db", json!({"app": "db"}), &["10.0.0.2", "fd00::2"]), &[("sql", 5432), ("admin", 9000)]),
        pod("ops/tool", json!({"app": "web"}), &["10.0.1.1", "fd00::101"]),
    ]
}

fn world(specs: &[(&str, Value)]) -> FlowSnapshot {
    let policies = specs.iter().map(|(id, spec)| policy(id, spec.clone()));
    snapshot(&base().into_iter().chain(policies).collect::<Vec<_>>())
}

/// What the ingress of `shop/db` says, with one policy that has these `ingress` rules.
fn ingress(rules: Value, from: &str, port: u16) -> String {
    let spec = json!({"podSelector": {"matchLabels": {"app": "db"}}, "policyTypes": ["Ingress"], "ingress": rules});
    says(&world(&[("shop/p", spec)]), Way::Ingress, from, "shop/db", port)
}

/// What the egress of `shop/web` says, with one policy that has these `egress` rules.
fn egress(rules: Value, to: &str, port: u16) -> String {
    let spec = json!({"podSelector": {"matchLabels": {"app": "web"}}, "policyTypes": ["Egress"], "egress": rules});
    says(&world(&[("shop/p", spec)]), Way::Egress, "shop/web", to, port)
}

const ALLOWED: &str = "allowed by shop/p rule0";
/// What the one policy says.
pub const DENIED: &str = "denied by shop/p";

#[test]
fn a_pod_that_no_policy_selects_is_not_isolated() {
    let world = world(&[("shop/p", json!({"podSelector": {"matchLabels": {"app": "db"}}}))]);
    assert_eq!(says(&world, Way::Ingress, "shop/db", "shop/web", 80), "not isolated");
    assert_eq!(says(&world, Way::Ingress, "shop/web", "shop/db", 80), DENIED);
    assert_eq!(
        says(&world, Way::Egress, "shop/db", "shop/web", 80),
        "not isolated",
        "a policy without egress isolates one direction"
    );
}

#[test]
fn a_policy_selects_only_pods_of_its_own_namespace() {
    let world = world(&[("shop/p", json!({"podSelector": {}}))]);
    assert_eq!(says(&world, Way::Ingress, "shop/web", "ops/tool", 80), "not isolated");
}

#[test]
fn an_empty_or_absent_pod_selector_selects_every_pod_of_the_namespace() {
    for spec in [json!({"podSelector": {}}), json!({}), json!({"podSelector": null}), json!({"podSelector": {"matchLabels": {}}})]
    {
        let world = world(&[("shop/p", spec.clone())]);
        assert_eq!(says(&world, Way::Ingress, "ops/tool", "shop/web", 80), DENIED, "{spec}");
        assert_eq!(says(&world, Way::Ingress, "ops/tool", "shop/db", 80), DENIED, "{spec}");
    }
}

#[test]
fn policies_only_add_up_and_their_order_decides_nothing() {
    let closed = json!({"podSelector": {}, "policyTypes": ["Ingress"]});
    let open = json!({"podSelector": {}, "ingress": [{}]});
    for names in [["shop/a", "shop/z"], ["shop/z", "shop/a"]] {
        let world = world(&[(names[0], closed.clone()), (names[1], open.clone())]);
        assert_eq!(says(&world, Way::Ingress, "ops/tool", "shop/db", 80), format!("allowed by {} rule0", names[1]));
    }
}

#[test]
fn a_denied_flow_names_every_policy_that_isolates() {
    let closed = json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]});
    let world = world(&[("shop/z", closed.clone()), ("shop/a", closed.clone()), ("ops/a", closed)]);
    assert_eq!(says(&world, Way::Ingress, "ops/tool", "shop/db", 80), "denied by shop/a, shop/z");
    assert_eq!(says(&world, Way::Egress, "ops/tool", "shop/db", 80), "denied by ops/a");
}

#[test]
fn an_allowed_flow_names_every_rule_that_allows_it() {
    let rules = json!([{"from": [{"podSelector": {"matchLabels": {"app": "x"}}}, {"namespaceSelector": {}}], "ports": [{"port": 1}, {"port": 80}]}, {}]);
    assert_eq!(ingress(rules, "ops/tool", 80), "allowed by shop/p rule0 peer1 port1, shop/p rule1");
}

#[test]
fn policy_types_default_to_ingress_and_with_egress_rules_to_both() {
    for (types, rules, isolates_ingress, isolates_egress) in [
        (json!(null), json!(null), true, false),
        (json!([]), json!([]), true, false),
        (json!(null), json!([{"ports": [{"port": 1}]}]), true, true),
        (json!([]), json!([{"ports": [{"port": 1}]}]), true, true),
        (json!(["Egress"]), json!(null), false, true),
        (json!(["Ingress"]), json!([{}]), true, false),
        (json!(["Ingress", "Egress"]), json!([]), true, true),
    ] {
        let world = world(&[("shop/p", json!({"podSelector": {}, "policyTypes": types, "egress": rules}))]);
        let isolates = |way, from: &str, to: &str| says(&world, way, from, to, 80) == DENIED;
        assert_eq!(isolates(Way::Ingress, "ops/tool", "shop/db"), isolates_ingress, "{types} {rules}");
        assert_eq!(isolates(Way::Egress, "shop/db", "ops/tool"), isolates_egress, "{types} {rules}");
    }
}

#[test]
fn rules_of_a_direction_that_policy_types_leave_out_are_ignored() {
    let world = world(&[("shop/p", json!({"podSelector": {}, "policyTypes": ["Egress"], "ingress": []}))]);
    assert_eq!(says(&world, Way::Ingress, "ops/tool", "shop/db", 80), "not isolated");
}

#[test]
fn without_rules_nothing_is_allowed_and_an_empty_rule_allows_everything() {
    for (rules, expected) in [
        (json!(null), DENIED),
        (json!([]), DENIED),
        (json!([{}]), ALLOWED),
        (json!([{"from": [], "ports": []}]), ALLOWED),
        (json!([{"from": null, "ports": null}]), ALLOWED),
    ] {
        assert_eq!(ingress(rules.clone(), "ops/tool", 80), expected, "{rules}");
        assert_eq!(ingress(rules.clone(), "1.2.3.4", 80), expected, "{rules}");
    }
    assert_eq!(egress(json!([{"to": []}]), "1.2.3.4", 80), ALLOWED);
    assert_eq!(egress(json!([]), "1.2.3.4", 80), DENIED);
}

#[test]
fn peers_of_a_rule_are_joined_by_or_and_peers_with_ports_by_and() {
    let rules = json!([{"from": [{"podSelector": {"matchLabels": {"app": "x"}}}, {"ipBlock": {"cidr": "1.2.3.4/32"}}], "ports": [{"port": 80}]}]);
    assert_eq!(ingress(rules.clone(), "1.2.3.4", 80), "allowed by shop/p rule0 peer1 port0");
    assert_eq!(ingress(rules.clone(), "1.2.3.4", 81), DENIED);
    assert_eq!(ingress(rules, "1.2.3.5", 80), DENIED);
}

#[test]
fn a_pod_selector_alone_means_pods_of_the_policys_namespace() {
    let rules = json!([{"from": [{"podSelector": {"matchLabels": {"app": "web"}}}]}]);
    assert_eq!(ingress(rules.clone(), "shop/web", 80), "allowed by shop/p rule0 peer0");
    assert_eq!(ingress(rules.clone(), "ops/tool", 80), DENIED);
    assert_eq!(ingress(rules, "10.0.0.1", 80), DENIED, "an address that is not known as a pod has no labels");
    assert_eq!(ingress(json!([{"from": [{"podSelector": {}}]}]), "ops/tool", 80), DENIED);
}

#[test]
fn a_namespace_selector_alone_means_all_pods_of_these_namespaces() {
    let rules = json!([{"from": [{"namespaceSelector": {"matchLabels": {"team": "b"}}}]}]);
    assert_eq!(ingress(rules.clone(), "ops/tool", 80), "allowed by shop/p rule0 peer0");
    assert_eq!(ingress(rules, "shop/web", 80), DENIED);
    for from in ["ops/tool", "shop/web"] {
        assert_eq!(ingress(json!([{"from": [{"namespaceSelector": {}}]}]), from, 80), "allowed by shop/p rule0 peer0");
    }
    assert_eq!(ingress(json!([{"from": [{"namespaceSelector": {}}]}]), "1.2.3.4", 80), DENIED);
}

#[test]
fn both_selectors_in_one_peer_are_joined_by_and() {
    let both = |namespace: &str, app: &str| json!([{"from": [{"namespaceSelector": {"matchLabels": {"team": namespace}}, "podSelector": {"matchLabels": {"app": app}}}]}]);
    assert_eq!(ingress(both("b", "web"), "ops/tool", 80), "allowed by shop/p rule0 peer0");
    assert_eq!(ingress(both("b", "db"), "ops/tool", 80), DENIED);
    assert_eq!(ingress(both("a", "web"), "ops/tool", 80), DENIED);
    let apart = json!([{"from": [{"namespaceSelector": {"matchLabels": {"team": "b"}}}, {"podSelector": {"matchLabels": {"app": "web"}}}]}]);
    assert_eq!(ingress(apart.clone(), "ops/tool", 80), "allowed by shop/p rule0 peer0", "two peers: one is enough");
    assert_eq!(ingress(apart, "shop/web", 80), "allowed by shop/p rule0 peer1");
}

#[test]
fn every_namespace_has_the_label_with_its_name() {
    let rules = json!([{"from": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "ops"}}}]}]);
    assert_eq!(ingress(rules.clone(), "ops/tool", 80), "allowed by shop/p rule0 peer0");
    let without = snapshot(&[
        pod("shop/db", json!({"app": "db"}), &["10.0.0.2"]),
        pod("ops/tool", json!({}), &["10.0.1.1"]),
        policy("shop/p", json!({"podSelector": {}, "ingress": rules})),
    ]);
    assert_eq!(says(&without, Way::Ingress, "ops/tool", "shop/db", 80), "allowed by shop/p rule0 peer0");
    assert_eq!(
        without.gaps(),
        ["these namespaces are not among the objects, so of their labels only the name is known: ops, shop"]
    );
}

#[test]
fn match_expressions_are_in_not_in_exists_and_does_not_exist() {
    for (expression, matches) in [
        (json!({"key": "tier", "operator": "In", "values": ["back", "front"]}), true),
        (json!({"key": "tier", "operator": "In", "values": ["back"]}), false),
        (json!({"key": "none", "operator": "In", "values": ["front"]}), false),
        (json!({"key": "tier", "operator": "NotIn", "values": ["back"]}), true),
        (json!({"key": "tier", "operator": "NotIn", "values": ["front", "back"]}), false),
        (json!({"key": "none", "operator": "NotIn", "values": ["front"]}), true),
        (json!({"key": "tier", "operator": "Exists"}), true),
        (json!({"key": "none", "operator": "Exists"}), false),
        (json!({"key": "tier", "operator": "DoesNotExist"}), false),
        (json!({"key": "none", "operator": "DoesNotExist"}), true),
        (json!({"key": "tier", "operator": "Gt", "values": ["1"]}), false),
    ] {
        let rules = json!([{"from": [{"podSelector": {"matchLabels": {"app": "web"}, "matchExpressions": [expression]}}]}]);
        let expected = if matches { "allowed by shop/p rule0 peer0" } else { DENIED };
        assert_eq!(ingress(rules, "shop/web", 80), expected, "{expression}");
    }
}

#[test]
fn an_ip_block_is_a_range_without_its_exceptions_in_both_families() {
    let v4 = json!([{"from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16", "10.2.0.0/16"]}}]}]);
    let v6 = json!([{"from": [{"ipBlock": {"cidr": "fd00::/8", "except": ["fd00:1::/32"]}}]}]);
    for (rules, from, is_allowed) in [
        (&v4, "10.9.0.1", true),
        (&v4, "10.1.0.1", false),
        (&v4, "10.2.255.255", false),
        (&v4, "11.0.0.1", false),
        (&v4, "fd00::1", false),
        (&v6, "fd00::1", true),
        (&v6, "fd00:1::1", false),
        (&v6, "fe00::1", false),
        (&v6, "10.9.0.1", false),
    ] {
        let expected = if is_allowed { "allowed by shop/p rule0 peer0" } else { DENIED };
        assert_eq!(ingress(rules.clone(), from, 80), expected, "{rules} {from}");
    }
    let everybody = json!([{"to": [{"ipBlock": {"cidr": "0.0.0.0/0"}}]}]);
    assert_eq!(egress(everybody.clone(), "8.8.8.8", 53), "allowed by shop/p rule0 peer0");
    assert_eq!(egress(everybody, "2001:db8::1", 53), DENIED);
}

#[test]
fn an_ip_block_is_compared_with_the_address_of_a_pod_too() {
    let rules = json!([{"from": [{"ipBlock": {"cidr": "10.0.0.0/24"}}]}]);
    assert_eq!(ingress(rules.clone(), "shop/web", 80), "allowed by shop/p rule0 peer0");
    assert_eq!(ingress(rules, "ops/tool", 80), DENIED);
}

#[test]
fn ports_are_numbers_ranges_and_protocols() {
    let of = |ports: Value| json!([{"ports": ports}]);
    for (ports, port, is_allowed) in [
        (json!([{"port": 80}]), (Protocol::TCP, 80), true),
        (json!([{"port": 80}]), (Protocol::UDP, 80), false),
        (json!([{"port": 80, "protocol": "SCTP"}]), (Protocol::SCTP, 80), true),
        (json!([{"port": 80, "protocol": "SCTP"}]), (Protocol::TCP, 80), false),
        (json!([{"protocol": "UDP"}]), (Protocol::UDP, 1), true),
        (json!([{"protocol": "UDP"}]), (Protocol::TCP, 1), false),
        (json!([{}]), (Protocol::TCP, 65535), true),
        (json!([{"port": 80, "endPort": 90}]), (Protocol::TCP, 80), true),
        (json!([{"port": 80, "endPort": 90}]), (Protocol::TCP, 90), true),
        (json!([{"port": 80, "endPort": 90}]), (Protocol::TCP, 91), false),
        (json!([{"port": 80, "endPort": 90}]), (Protocol::TCP, 79), false),
        (json!([{"port": 79}, {"port": 81}]), (Protocol::TCP, 80), false),
        // An API server takes no such ports.
        (json!([{"port": 90, "endPort": 80}]), (Protocol::TCP, 85), false),
        (json!([{"port": "sql", "endPort": 9000}]), (Protocol::TCP, 5432), false),
        (json!([{"port": 80, "protocol": "ICMP"}]), (Protocol::TCP, 80), false),
    ] {
        let world = world(&[("shop/p", json!({"podSelector": {"matchLabels": {"app": "db"}}, "ingress": of(ports.clone())}))]);
        let verdict = CompiledPolicies::of(&world).judge(&flow(&world, "ops/tool", "shop/db", port), Way::Ingress);
        assert_eq!(said(&verdict).starts_with("allowed"), is_allowed, "{ports} {port:?}");
    }
}

#[test]
fn a_named_port_is_the_container_port_of_the_destination_in_both_directions() {
    let rules = |name: &str| json!([{"ports": [{"port": name}]}]);
    assert_eq!(ingress(rules("sql"), "ops/tool", 5432), "allowed by shop/p rule0 port0");
    assert_eq!(ingress(rules("sql"), "ops/tool", 9000), DENIED);
    assert_eq!(ingress(rules("web"), "ops/tool", 5432), DENIED);
    assert_eq!(egress(rules("sql"), "shop/db", 5432), "allowed by shop/p rule0 port0");
    assert_eq!(egress(rules("sql"), "shop/db", 9000), DENIED);
    assert_eq!(egress(rules("sql"), "1.2.3.4", 5432), DENIED, "an address has no named ports");
    let udp = json!([{"ports": [{"port": "sql", "protocol": "UDP"}]}]);
    assert_eq!(ingress(udp, "ops/tool", 5432), DENIED, "the container port is of TCP");
}

#[test]
fn a_port_of_a_sidecar_has_a_name_and_one_of_another_init_container_has_none() {
    let of = |restart: Value| {
        let mut db = pod("shop/db", json!({"app": "db"}), &["10.0.0.2"]);
        db["spec"]["initContainers"] = json!([{"restartPolicy": restart, "ports": [{"name": "proxy", "containerPort": 15001}]}]);
        let rules = json!({"podSelector": {}, "ingress": [{"ports": [{"port": "proxy"}]}]});
        let world =
            snapshot(&[namespace("shop", json!({})), db, pod("shop/web", json!({}), &["10.0.0.1"]), policy("shop/p", rules)]);
        says(&world, Way::Ingress, "shop/web", "shop/db", 15001)
    };
    assert_eq!(of(json!("Always")), "allowed by shop/p rule0 port0");
    assert_eq!(of(json!(null)), DENIED);
}

#[test]
fn of_two_peers_that_match_the_one_by_labels_is_named() {
    let web = json!({"podSelector": {"matchLabels": {"app": "web"}}});
    let from = json!([{"ipBlock": {"cidr": "0.0.0.0/0"}}, web, {"podSelector": {}}]);
    let world = world(&[("shop/p", json!({"podSelector": {}, "ingress": [{"from": from}]}))]);
    assert_eq!(says(&world, Way::Ingress, "shop/web", "shop/db", 80), "allowed by shop/p rule0 peer1");
    assert_eq!(says(&world, Way::Ingress, "1.2.3.4", "shop/db", 80), "allowed by shop/p rule0 peer0");
}

#[test]
fn a_policy_that_could_not_be_read_leaves_its_namespace_undecided_unless_another_one_allows_the_flow() {
    let unread = json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"namespace": "shop", "name": "odd"}, "spec": {"ingress": {}}});
    let allow = policy("shop/p", json!({"podSelector": {"matchLabels": {"app": "db"}}, "ingress": [{"ports": [{"port": 80}]}]}));
    let objects: Vec<Value> = base().into_iter().chain([unread, allow]).collect();
    let dump = FlowDump::read(&json!({"kind": "List", "items": objects}).to_string()).unwrap();
    let world: FlowSnapshot = dump.objects.into_iter().collect();
    let ingress = |to: &str, port: u16| says(&world, Way::Ingress, "ops/tool", to, port);
    assert_eq!(ingress("shop/db", 80), "allowed by shop/p rule0 port0", "no policy takes that back");
    assert_eq!(ingress("shop/db", 81), "unread shop/odd", "it may allow this");
    assert_eq!(ingress("shop/web", 81), "unread shop/odd", "it may isolate this pod");
    assert_eq!(says(&world, Way::Egress, "ops/tool", "shop/web", 81), "not isolated", "another namespace");
}

#[test]
fn a_pod_always_reaches_itself() {
    let world = world(&[("shop/p", json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}))]);
    for way in [Way::Egress, Way::Ingress] {
        assert_eq!(says(&world, way, "shop/db", "shop/db", 80), "itself");
    }
}

#[test]
fn a_pod_that_has_ended_has_no_traffic_and_its_address_is_not_its_own_any_more() {
    for phase in ["Succeeded", "Failed"] {
        let mut job = pod("shop/job", json!({"app": "job"}), &["10.0.0.9"]);
        job["status"]["phase"] = phase.into();
        let world = snapshot(&base().into_iter().chain([job]).collect::<Vec<_>>());
        assert_eq!(says(&world, Way::Egress, "shop/job", "shop/db", 80), "ended");
        assert_eq!(says(&world, Way::Ingress, "shop/job", "shop/db", 80), "ended");
        assert_eq!(world.pod_at("10.0.0.9".parse().unwrap()), None);
        assert_eq!(world.pod_at("10.0.0.2".parse().unwrap()), world.pod("shop", "db"));
    }
}

#[test]
fn an_end_that_is_no_pod_is_about_no_policy() {
    let world = world(&[]);
    assert_eq!(says(&world, Way::Egress, "1.2.3.4", "shop/db", 80), "not a pod");
    assert_eq!(says(&world, Way::Ingress, "shop/db", "1.2.3.4", 80), "not a pod");
}

#[test]
fn what_an_api_server_refuses_allows_nothing_and_is_named() {
    let rules = json!([
        {"from": [{"ipBlock": {"cidr": "nonsense"}}, {}, {"ipBlock": {"cidr": "0.0.0.0/0"}, "podSelector": {}}], "ports": [{"port": 80}]},
        {"ports": [{"port": 0}, {"port": 80, "protocol": "tcp"}]},
    ]);
    assert_eq!(ingress(rules.clone(), "10.0.0.1", 80), DENIED);
    let world = world(&[("shop/p", json!({"podSelector": {}, "ingress": rules}))]);
    let said = CompiledPolicies::of(&world).refused_parts();
    let parts: Vec<&str> = said.iter().filter_map(|text| text.split(" is no valid entry").next()?.split(": ").nth(1)).collect();
    assert_eq!(
        parts,
        [
            "spec.ingress[0].from[0]",
            "spec.ingress[0].from[1]",
            "spec.ingress[0].from[2]",
            "spec.ingress[1].ports[0]",
            "spec.ingress[1].ports[1]"
        ]
    );
}
