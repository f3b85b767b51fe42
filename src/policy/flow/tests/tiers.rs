//! Each promise of the API of network-policy-api v0.3.0, as a test of its name.

use serde_json::{Value, json};

use super::{
    CompiledPolicies, FlowDump, FlowSnapshot, Protocol, Way, cluster_policy, flow, node, pod, policy, rules::base, said, says,
    snapshot, with_ports,
};

const ANP: &str = "AdminNetworkPolicy";
const BANP: &str = "BaselineAdminNetworkPolicy";
const CNP: &str = "ClusterNetworkPolicy";

/// The world of [`base`], and these objects.
fn world(more: &[Value]) -> FlowSnapshot {
    snapshot(&base().into_iter().chain(more.iter().cloned()).collect::<Vec<_>>())
}

/// A rule about all pods.
fn rule(action: &str, peers: &str) -> Value {
    json!({"action": action, peers: [{"namespaces": {}}]})
}

/// An Admin tier policy about all pods.
fn anp(name: &str, priority: i64, ingress: Value) -> Value {
    cluster_policy(ANP, name, json!({"priority": priority, "subject": {"namespaces": {}}, "ingress": ingress}))
}

/// The same as a ClusterNetworkPolicy of a tier.
fn cnp(name: &str, tier: &str, priority: i64, ingress: Value) -> Value {
    cluster_policy(CNP, name, json!({"tier": tier, "priority": priority, "subject": {"namespaces": {}}, "ingress": ingress}))
}

fn banp(ingress: Value) -> Value {
    cluster_policy(BANP, "default", json!({"subject": {"namespaces": {}}, "ingress": ingress}))
}

/// What the ingress of `shop/db` from `shop/web` says in a world with these objects.
fn ingress(more: &[Value], port: u16) -> String {
    says(&world(more), Way::Ingress, "shop/web", "shop/db", port)
}

/// What the egress of `shop/web` says, with one ClusterNetworkPolicy that has this rule.
fn egress(rule: Value, to: &str, port: (Protocol, u16)) -> String {
    let world = world(&[cluster_policy(
        CNP,
        "p",
        json!({"tier": "Admin", "priority": 1, "subject": {"namespaces": {}}, "egress": [rule]}),
    )]);
    said(&CompiledPolicies::of(&world).judge(&flow(&world, "shop/web", to, port), Way::Egress))
}

fn closed() -> Value {
    policy("shop/closed", json!({"podSelector": {}, "policyTypes": ["Ingress"]}))
}

fn open() -> Value {
    policy("shop/open", json!({"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{}]}))
}

#[test]
fn the_admin_tier_decides_before_network_policies() {
    for admin in [anp("p", 1, json!([rule("Deny", "from")])), cnp("p", "Admin", 1, json!([rule("Deny", "from")]))] {
        assert_eq!(ingress(&[admin, open()], 80), "denied by p rule0 peer0");
    }
    for admin in [anp("p", 1, json!([rule("Allow", "from")])), cnp("p", "Admin", 1, json!([rule("Accept", "from")]))] {
        assert_eq!(ingress(&[admin, closed()], 80), "allowed by p rule0 peer0");
    }
}

#[test]
fn pass_skips_the_rest_of_the_admin_tier_and_leaves_the_flow_to_network_policies() {
    let pass = |name: &str| cnp(name, "Admin", 1, json!([rule("Pass", "from"), rule("Deny", "from")]));
    let deny = cnp("z", "Admin", 2, json!([rule("Deny", "from")]));
    assert_eq!(ingress(&[pass("a"), deny.clone(), open()], 80), "allowed by shop/open rule0");
    assert_eq!(ingress(&[pass("a"), deny.clone(), closed()], 80), "denied by shop/closed");
    assert_eq!(ingress(&[pass("a"), deny], 80), "not isolated", "the default of Kubernetes");
}

#[test]
fn the_baseline_tier_decides_only_where_no_network_policy_isolates_the_pod_in_that_direction() {
    for deny in [banp(json!([rule("Deny", "from")])), cnp("default", "Baseline", 5, json!([rule("Deny", "from")]))] {
        assert_eq!(ingress(std::slice::from_ref(&deny), 80), "denied by default rule0 peer0");
        assert_eq!(ingress(&[deny.clone(), open()], 80), "allowed by shop/open rule0");
        let egress_only = policy("shop/egress", json!({"podSelector": {}, "policyTypes": ["Egress"]}));
        assert_eq!(ingress(&[deny.clone(), egress_only], 80), "denied by default rule0 peer0", "not isolated for ingress");
        let pass = anp("p", 1, json!([rule("Pass", "from")]));
        assert_eq!(ingress(&[deny, pass], 80), "denied by default rule0 peer0", "what passes comes here too");
    }
    for allow in [banp(json!([rule("Allow", "from")])), cnp("default", "Baseline", 5, json!([rule("Accept", "from")]))] {
        assert_eq!(ingress(std::slice::from_ref(&allow), 80), "allowed by default rule0 peer0");
        assert_eq!(ingress(&[allow, closed()], 80), "denied by shop/closed");
    }
    let pass = cnp("default", "Baseline", 5, json!([rule("Pass", "from"), rule("Deny", "from")]));
    assert_eq!(ingress(&[pass], 80), "not isolated", "after the last tier there is only the default");
}

#[test]
fn there_is_no_implicit_isolation() {
    let only_80 =
        json!([{"action": "Accept", "from": [{"namespaces": {}}], "protocols": [{"tcp": {"destinationPort": {"number": 80}}}]}]);
    let tiers = ["Admin", "Baseline"].map(|tier| cnp(&tier.to_lowercase(), tier, 1, only_80.clone()));
    assert_eq!(ingress(&tiers, 80), "allowed by admin rule0 peer0 port0");
    assert_eq!(ingress(&tiers, 81), "not isolated");
    let world = world(&tiers);
    assert_eq!(says(&world, Way::Egress, "shop/web", "shop/db", 81), "not isolated", "it has no rule for egress");
}

#[test]
fn policies_with_a_lower_priority_value_decide_first_and_rules_in_their_order() {
    for [first, second] in [["a", "z"], ["z", "a"]] {
        let policies = [
            cnp(second, "Admin", 10, json!([rule("Accept", "from")])),
            cnp(
                first,
                "Admin",
                2,
                json!([{"name": "all", "action": "Deny", "from": [{"namespaces": {}}]}, rule("Accept", "from")]),
            ),
        ];
        assert_eq!(ingress(&policies, 80), format!("denied by {first} rule0 peer0"));
    }
}

#[test]
fn of_policies_with_the_same_priority_any_may_decide() {
    let of = |name: &str, action: &str| cnp(name, "Admin", 1, json!([rule(action, "from")]));
    let unclear = "unclear a rule0 peer0 Deny None, b rule0 peer0 Allow None";
    assert_eq!(ingress(&[of("a", "Deny"), of("b", "Accept")], 80), unclear);
    assert_eq!(ingress(&[of("a", "Deny"), of("b", "Deny")], 80), "denied by a rule0 peer0, b rule0 peer0");
    let other = cnp("b", "Admin", 1, json!([{"action": "Accept", "from": [{"namespaces": {"matchLabels": {"team": "none"}}}]}]));
    assert_eq!(ingress(&[of("a", "Deny"), other], 80), "denied by a rule0 peer0", "only one of them matches");
    let pass = [of("a", "Deny"), of("b", "Pass")];
    assert_eq!(ingress(&pass, 80), "unclear a rule0 peer0 Deny None, b rule0 peer0 Pass None");
    assert_eq!(ingress(&[&pass[..], &[closed()]].concat(), 80), "denied by shop/closed", "denied by either way");
}

#[test]
fn between_the_two_kinds_of_the_admin_tier_no_order_is_defined() {
    let policies = [anp("a", 1, json!([rule("Deny", "from")])), cnp("c", "Admin", 900, json!([rule("Accept", "from")]))];
    assert_eq!(ingress(&policies, 80), "unclear a rule0 peer0 Deny None, c rule0 peer0 Allow None");
}

#[test]
fn a_subject_is_all_pods_of_namespaces_or_pods_of_namespaces() {
    let of = |subject: Value, to: &str| {
        let spec = json!({"tier": "Admin", "priority": 1, "subject": subject, "ingress": [rule("Deny", "from")]});
        says(&world(&[cluster_policy(CNP, "p", spec)]), Way::Ingress, "ops/tool", to, 80)
    };
    let denied = "denied by p rule0 peer0";
    let team = |team: &str| json!({"matchLabels": {"team": team}});
    let db = json!({"matchLabels": {"app": "db"}});
    assert_eq!(of(json!({"namespaces": {}}), "shop/db"), denied);
    assert_eq!(of(json!({"namespaces": team("a")}), "shop/db"), denied);
    assert_eq!(of(json!({"namespaces": team("b")}), "shop/db"), "not isolated");
    for (subject, of_db, of_web) in [
        (json!({"namespaceSelector": team("a"), "podSelector": db}), denied, "not isolated"),
        (json!({"namespaceSelector": {}, "podSelector": {}}), denied, denied),
        (json!({"podSelector": db}), denied, "not isolated"),
        (json!({"namespaceSelector": team("b"), "podSelector": db}), "not isolated", "not isolated"),
    ] {
        assert_eq!(
            [of(json!({"pods": subject}), "shop/db"), of(json!({"pods": subject}), "shop/web")],
            [of_db, of_web],
            "{subject}"
        );
    }
}

#[test]
fn peers_are_joined_by_or_and_peers_with_ports_by_and() {
    let team = |team: &str| json!({"namespaces": {"matchLabels": {"team": team}}});
    let tool = json!({"pods": {"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": "db"}}}});
    let of = |to: &str, port: u16| {
        let on = json!([{"tcp": {"destinationPort": {"number": 80}}}, {"tcp": {"destinationPort": {"number": 81}}}]);
        egress(json!({"action": "Deny", "to": [team("b"), tool], "protocols": on}), to, (Protocol::TCP, port))
    };
    assert_eq!(of("ops/tool", 80), "denied by p rule0 peer0 port0");
    assert_eq!(of("shop/db", 81), "denied by p rule0 peer1 port1");
    assert_eq!(of("shop/db", 82), "not isolated");
    assert_eq!(of("1.2.3.4", 80), "not isolated", "no pod");
}

#[test]
fn networks_match_addresses_of_pods_too_and_no_other_family() {
    let of = |to: &str| {
        egress(json!({"action": "Deny", "to": [{"networks": ["1.2.3.0/24", "10.0.0.0/24"]}]}), to, (Protocol::TCP, 80))
    };
    for to in ["1.2.3.4", "shop/db"] {
        assert_eq!(of(to), "denied by p rule0 peer0", "{to}");
    }
    for to in ["1.2.4.4", "ops/tool", "2001:db8::1"] {
        assert_eq!(of(to), "not isolated", "{to}");
    }
}

#[test]
fn ports_of_the_first_version_are_numbers_ranges_and_names() {
    for (port, on, is_denied) in [
        (json!({"portNumber": {"protocol": "TCP", "port": 80}}), (Protocol::TCP, 80), true),
        (json!({"portNumber": {"port": 80}}), (Protocol::TCP, 80), true),
        (json!({"portNumber": {"protocol": "UDP", "port": 80}}), (Protocol::TCP, 80), false),
        (json!({"portNumber": {"protocol": "SCTP", "port": 80}}), (Protocol::SCTP, 80), true),
        (json!({"portRange": {"protocol": "TCP", "start": 80, "end": 90}}), (Protocol::TCP, 90), true),
        (json!({"portRange": {"start": 80, "end": 90}}), (Protocol::TCP, 91), false),
        (json!({"portRange": {"start": 90, "end": 80}}), (Protocol::TCP, 85), false),
        (json!({"namedPort": "sql"}), (Protocol::TCP, 5432), true),
        (json!({"namedPort": "sql"}), (Protocol::TCP, 9000), false),
        (json!({"namedPort": "sql"}), (Protocol::UDP, 5432), false),
    ] {
        let rules = json!([{"action": "Deny", "from": [{"namespaces": {}}], "ports": [port]}]);
        let world = world(&[anp("p", 1, rules)]);
        let verdict = said(&CompiledPolicies::of(&world).judge(&flow(&world, "ops/tool", "shop/db", on), Way::Ingress));
        assert_eq!(verdict, if is_denied { "denied by p rule0 peer0 port0" } else { "not isolated" }, "{port} {on:?}");
    }
}

#[test]
fn protocols_of_later_versions_are_protocols_with_or_without_ports_and_names() {
    for (protocol, on, is_denied) in [
        (json!({"tcp": {"destinationPort": {"number": 80}}}), (Protocol::TCP, 80), true),
        (json!({"udp": {"destinationPort": {"number": 80}}}), (Protocol::TCP, 80), false),
        (json!({"udp": {"destinationPort": {"number": 80}}}), (Protocol::UDP, 80), true),
        (json!({"tcp": {"destinationPort": {"range": {"start": 80, "end": 90}}}}), (Protocol::TCP, 85), true),
        (json!({"tcp": {"destinationPort": {"range": {"start": 80, "end": 90}}}}), (Protocol::TCP, 79), false),
        (json!({"sctp": {}}), (Protocol::SCTP, 7), true),
        (json!({"sctp": {}}), (Protocol::TCP, 7), false),
        (json!({"destinationNamedPort": "sql"}), (Protocol::TCP, 5432), true),
        (json!({"destinationNamedPort": "sql"}), (Protocol::TCP, 80), false),
    ] {
        let rule = json!({"action": "Deny", "to": [{"namespaces": {}}], "protocols": [protocol]});
        let expected = if is_denied { "denied by p rule0 peer0 port0" } else { "not isolated" };
        assert_eq!(egress(rule, "shop/db", on), expected, "{protocol} {on:?}");
    }
}

#[test]
fn the_version_that_a_cluster_stores_is_read_as_well() {
    let mut stored = cnp("p", "Admin", 1, json!([rule("Deny", "from")]));
    stored["apiVersion"] = "policy.networking.k8s.io/v1beta1".into();
    assert_eq!(ingress(&[stored], 80), "denied by p rule0 peer0");
}

#[test]
fn pods_on_the_host_network_are_neither_subjects_nor_peers_but_networks_and_nodes_have_their_address() {
    let mut agent = pod("ops/agent", json!({}), &["192.168.0.9"]);
    agent["spec"] = json!({"hostNetwork": true, "nodeName": "node-9"});
    let of = |to: Value, more: &[Value]| {
        let rule = json!([{"action": "Deny", "to": [to]}]);
        let spec = json!({"tier": "Admin", "priority": 1, "subject": {"namespaces": {}}, "egress": rule, "ingress": [{"action": "Deny", "from": [{"namespaces": {}}]}]});
        let world = world(&[&[cluster_policy(CNP, "p", spec), agent.clone()], more].concat());
        let says = |way, from, to| says(&world, way, from, to, 80);
        assert_eq!(says(Way::Ingress, "shop/web", "ops/agent"), "not isolated", "no subject");
        assert_eq!(says(Way::Ingress, "ops/agent", "shop/web"), "not isolated", "no peer");
        says(Way::Egress, "shop/web", "ops/agent")
    };
    assert_eq!(of(json!({"namespaces": {}}), &[]), "not isolated");
    assert_eq!(of(json!({"networks": ["192.168.0.0/24"]}), &[]), "denied by p rule0 peer0");
    assert_eq!(of(json!({"nodes": {}}), &[node("node-9", json!({}), &["192.168.0.9"])]), "denied by p rule0 peer0");
}

#[test]
fn nodes_are_selected_by_their_labels_and_unknown_nodes_leave_the_answer_open() {
    let of = |to: &str, more: &[Value]| {
        let rule = json!([{"action": "Deny", "to": [{"nodes": {"matchLabels": {"pool": "db"}}}]}]);
        let spec = json!({"tier": "Admin", "priority": 1, "subject": {"namespaces": {}}, "egress": rule});
        let world = world(&[&[cluster_policy(CNP, "p", spec)], more].concat());
        let gaps = world.gaps();
        assert_eq!(
            gaps.iter().any(|gap| gap.starts_with("the ClusterNetworkPolicy p selects nodes, and ")),
            more.is_empty(),
            "{gaps:?}"
        );
        says(&world, Way::Egress, "shop/web", to, 80)
    };
    let nodes = [node("one", json!({"pool": "db"}), &["192.168.0.8", "fd01::8"]), node("two", json!({}), &["192.168.0.9"])];
    assert_eq!(of("192.168.0.8", &nodes), "denied by p rule0 peer0");
    assert_eq!(of("192.168.0.9", &nodes), "not isolated");
    assert_eq!(of("192.168.0.9", &[]), "unclear p rule0 peer0 Deny Some(Nodes)");
    assert_eq!(of("shop/db", &[]), "not isolated", "a pod on the pod network is no node");
}

#[test]
fn domain_names_leave_the_answer_open_unless_what_follows_says_the_same() {
    let of = |action: &str| {
        let names = json!({"action": action, "to": [{"domainNames": ["*.example.com"]}]});
        let rules = json!([names, {"action": "Deny", "to": [{"networks": ["0.0.0.0/0"]}]}]);
        let spec = json!({"tier": "Admin", "priority": 1, "subject": {"namespaces": {}}, "egress": rules});
        says(&world(&[cluster_policy(CNP, "p", spec)]), Way::Egress, "shop/web", "1.2.3.4", 443)
    };
    assert_eq!(of("Accept"), "unclear p rule0 peer0 Allow Some(DomainNames), p rule1 peer0 Deny None");
    assert_eq!(of("Deny"), "denied by p rule1 peer0");
}

#[test]
fn a_peer_that_is_not_known_closes() {
    for (rule, expected) in [
        (json!({"action": "Accept", "from": [{"services": {}}, {"namespaces": {}}]}), "denied by shop/closed"),
        (
            json!({"action": "Deny", "from": [{"services": {}}], "protocols": [{"udp": {"destinationPort": {"number": 1}}}]}),
            "denied by p rule0",
        ),
        (json!({"action": "Pass", "from": [{}]}), "denied by p rule0"),
        (json!({"action": "Deny", "from": [{"networks": ["10.0.0.0/8"]}]}), "denied by p rule0"),
    ] {
        let objects = [cnp("p", "Admin", 1, json!([rule])), closed()];
        assert_eq!(ingress(&objects, 80), expected, "{rule}");
        let world = world(&objects);
        let closes = if rule["action"] == "Accept" { "matches nothing" } else { "denies everything" };
        assert_eq!(
            CompiledPolicies::of(&world).refused_parts(),
            [format!("the ClusterNetworkPolicy p: spec.ingress[0].from[0] is not known, so the rule {closes}")]
        );
    }
}

#[test]
fn a_port_that_is_not_known_leaves_the_answer_open() {
    let rule = json!({"action": "Deny", "from": [{"namespaces": {}}], "protocols": [{"icmp": {}}, {"tcp": {"destinationPort": {"number": 80}}}]});
    let world = world(&[cnp("p", "Admin", 1, json!([rule]))]);
    assert_eq!(says(&world, Way::Ingress, "shop/web", "shop/db", 80), "denied by p rule0 peer0 port1");
    assert_eq!(says(&world, Way::Ingress, "shop/web", "shop/db", 81), "unclear p rule0 peer0 port0 Deny Some(Port)");
    assert_eq!(
        CompiledPolicies::of(&world).refused_parts(),
        ["the ClusterNetworkPolicy p: spec.ingress[0].protocols[0] is not known, so it is not known what the rule matches"]
    );
}

#[test]
fn a_pod_that_connects_to_itself_is_subject_to_nothing() {
    let everything = json!([{"action": "Deny", "from": [{"namespaces": {}}]}]);
    let world = world(&[cnp("p", "Admin", 1, everything)]);
    assert_eq!(says(&world, Way::Ingress, "shop/db", "shop/db", 80), "itself");
}

#[test]
fn network_policies_except_the_own_node_and_the_tiers_do_not() {
    let deny = |tier: &str| {
        let rules = json!([{"action": "Deny", "to": [{"networks": ["192.168.0.0/16"]}]}]);
        cluster_policy(CNP, "p", json!({"tier": tier, "priority": 1, "subject": {"namespaces": {}}, "egress": rules}))
    };
    let says = |more: &[Value]| says(&world(more), Way::Egress, "shop/web", "192.168.0.1", 10250);
    let closed = policy("shop/closed", json!({"podSelector": {}, "policyTypes": ["Egress"]}));
    assert_eq!(says(std::slice::from_ref(&closed)), "own node");
    assert_eq!(says(&[deny("Admin"), closed.clone()]), "denied by p rule0 peer0");
    assert_eq!(says(&[deny("Baseline")]), "denied by p rule0 peer0");
    assert_eq!(says(&[deny("Baseline"), closed]), "own node", "the NetworkPolicy makes the final decision");
}

#[test]
fn a_policy_of_a_tier_that_could_not_be_read_leaves_open_what_it_may_decide() {
    let read = |unread: Value, more: &[Value]| {
        let objects: Vec<Value> = base().into_iter().chain([unread]).chain(more.iter().cloned()).collect();
        let dump = FlowDump::read(&json!({"kind": "List", "items": objects}).to_string()).unwrap();
        let warnings = dump.warnings;
        (says(&dump.objects.into_iter().collect(), Way::Ingress, "shop/web", "shop/db", 80), warnings)
    };
    let (said, warnings) = read(cluster_policy(CNP, "odd", json!({"priority": 1, "subject": {"namespaces": {}}})), &[open()]);
    assert_eq!(said, "unread ClusterNetworkPolicy odd");
    assert_eq!(warnings, ["the ClusterNetworkPolicy odd is left out, because it cannot be read: spec: missing field `tier`"]);
    let odd = json!({"priority": 1, "subject": {"namespaces": {}}, "ingress": [{"action": "Log", "from": []}]});
    let (said, warnings) = read(cluster_policy(ANP, "odd", odd), &[open()]);
    assert_eq!(said, "unread AdminNetworkPolicy odd");
    assert!(warnings[0].contains("spec.ingress[0].action: unknown variant `Log`"), "{warnings:?}");
    let both = json!({"subject": {"namespaces": {}, "pods": {}}});
    let (said, warnings) = read(cluster_policy(BANP, "default", both.clone()), &[]);
    assert_eq!(said, "unread BaselineAdminNetworkPolicy default");
    assert!(warnings[0].ends_with("spec.subject: it needs either `namespaces` or `pods`"), "{warnings:?}");
    let (said, _) = read(cluster_policy(BANP, "default", both), &[open()]);
    assert_eq!(said, "allowed by shop/open rule0", "the NetworkPolicy decides before it");
}

#[test]
fn a_named_port_of_the_first_version_is_one_of_the_destination() {
    let rules = json!([{"action": "Deny", "to": [{"namespaces": {}}], "ports": [{"namedPort": "web"}]}]);
    let spec = json!({"priority": 1, "subject": {"namespaces": {}}, "egress": rules});
    let server = with_ports(pod("shop/server", json!({}), &["10.0.0.7"]), &[("web", 8080)]);
    let world = world(&[cluster_policy(ANP, "p", spec), server]);
    assert_eq!(says(&world, Way::Egress, "shop/web", "shop/server", 8080), "denied by p rule0 peer0 port0");
    assert_eq!(says(&world, Way::Egress, "shop/server", "shop/web", 8080), "not isolated", "the name of the source's port");
    assert_eq!(says(&world, Way::Egress, "shop/web", "shop/server", 80), "not isolated");
}
