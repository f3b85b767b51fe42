//! What is suggested for many ports, many addresses and many namespaces.

use serde_json::{Value, json};

use super::{baseline, hubble, judge, line, repeated, shop};
use crate::policy::{
    flow::{
        FlowDump,
        tests::{namespace, pod, policy, snapshot},
    },
    preview::PreviewedBaseline,
    would_break::WouldBreak,
};

#[test]
fn the_ports_of_two_workloads_are_one_line_and_one_policy_for_each_direction() {
    let objects = shop();
    let platform = baseline(&json!({}));
    let lines = ["80", "443", "UDP/53", "TCP/8080"].map(|port| line("shop/web-7d4b-1", "shop/db-0", port));
    let found = judge(&snapshot(&objects), &lines, Some(&platform));
    assert_eq!((found.not_allowed, found.broken.len(), found.suggestions.len()), (4, 1, 2), "{found}");
    assert!(found.to_string().contains("   TCP 80, 443, 8080, UDP 53   4 "), "{found}");
    assert_eq!(repeated(&objects, &found, &lines, Some(&platform)).not_allowed, 0);
    // Two addresses with a port each: one policy for both would open each port to the other address.
    let lines = [("203.0.113.7", "443"), ("203.0.113.8", "80")].map(|(to, port)| line("shop/web-7d4b-1", to, port));
    let found = judge(&snapshot(&objects), &lines, Some(&platform));
    assert_eq!((found.broken.len(), found.suggestions.len()), (2, 2), "{found}");
}

#[test]
fn a_scan_of_ports_is_one_line_and_no_policy() {
    let lines: Vec<String> = (1..=1000).map(|port| line("203.0.113.7", "shop/db-0", &port.to_string())).collect();
    let found = judge(&snapshot(&shop()), &lines, Some(&baseline(&json!({}))));
    assert_eq!((found.not_allowed, found.broken.len(), found.suggestions.len()), (1000, 1, 0));
    assert!(found.warnings[0].contains("more than 32 ports"), "{:?}", found.warnings);
}

#[test]
fn many_addresses_become_few_ranges_and_a_line_says_so() {
    let objects = shop();
    let platform = baseline(&json!({}));
    let lines: Vec<String> = (0..4_000_u32)
        .map(|number| hubble("web-7d4b-1", &[], &std::net::Ipv4Addr::from(0xCB00_0000 + number * 7).to_string(), false))
        .collect();
    let found = judge(&snapshot(&objects), &lines, Some(&platform));
    assert_eq!((found.not_allowed, found.broken.len(), found.suggestions.len()), (4_000, 1, 1));
    assert_eq!(
        found.suggestions[0].cautions,
        ["there are more than 32 addresses, so this policy opens ranges around them: 203.0.0.0/16"]
    );
    assert_eq!(repeated(&objects, &found, &lines, Some(&platform)).not_allowed, 0);
}

#[test]
fn addresses_in_the_middle_of_a_wide_range_are_judged_too() {
    // Only the pod without labels is isolated. The policy for it is one for every pod, and opens the edges of what another pod needs.
    let only =
        json!({"podSelector": {"matchExpressions": [{"key": "app", "operator": "DoesNotExist"}]}, "policyTypes": ["Egress"]});
    let mut objects = shop();
    objects.extend([pod("shop/bare", json!({}), &["10.0.0.30"]), policy("shop/only", only)]);
    let mut lines: Vec<String> = ["203.0.0.0", "203.0.255.255"].map(|edge| line("shop/bare", edge, "443")).into();
    lines.push(line("shop/web-7d4b-1", "203.0.0.0", "443"));
    lines.extend((0..40).map(|third| line("shop/web-7d4b-1", &format!("203.0.{}.9", third * 6), "443")));
    let found = judge(&snapshot(&objects), &lines, None);
    assert_eq!(found.not_allowed, 2, "{found}");
    let again = repeated(&objects, &found, &lines, None);
    assert_eq!(again.not_allowed, 0, "{again}");
}

#[test]
fn too_many_addresses_are_for_people_to_write() {
    let address = |number: u32| std::net::Ipv4Addr::from(0x0100_0001 + (number << 16)).to_string();
    let lines: Vec<String> = (0..40).map(|number| hubble("web-7d4b-1", &[], &address(number), false)).collect();
    let found = judge(&snapshot(&shop()), &lines, Some(&baseline(&json!({}))));
    assert_eq!((found.not_allowed, found.suggestions.len(), &*found.broken[0].to), (40, 0, "too many addresses"));
    assert!(found.warnings[0].contains("write the ranges of that service yourself"), "{:?}", found.warnings);
}

/// Three namespaces with a web server and its database, and what they talk with.
fn three_shops() -> Vec<Value> {
    let mut objects = vec![namespace("logs", json!({})), pod("logs/collector-1", json!({"app": "collector"}), &["10.0.9.1"])];
    for (name, number) in ["a", "b", "c"].into_iter().zip(1..) {
        objects.extend([
            namespace(name, json!({})),
            pod(&format!("{name}/web-1"), json!({"app": "web"}), &[&format!("10.0.{number}.1")]),
            pod(&format!("{name}/db-1"), json!({"app": "db"}), &[&format!("10.0.{number}.2")]),
        ]);
    }
    objects
}

/// The entry for `spec.allows`.
fn entries(found: &WouldBreak) -> Vec<Value> {
    found.allows.iter().map(|one| serde_json::to_value(&one.allow).unwrap()).collect()
}

#[test]
fn what_three_namespaces_need_is_an_allow_of_the_baseline() {
    let objects = three_shops();
    let lines: Vec<String> = ["a", "b", "c"]
        .iter()
        .flat_map(|name| {
            let web = format!("{name}/web-1");
            [
                line(&web, "logs/collector-1", "4318"),
                line(&web, &format!("{name}/db-1"), "5432"),
                line(&web, "203.0.113.7", "443"),
                line("192.0.2.1", &web, "8080"),
            ]
        })
        .collect();
    let platform = baseline(&json!({"excludeNamespaces": ["logs"]}));
    let found = judge(&snapshot(&objects), &lines, Some(&platform));
    assert_eq!((found.not_allowed, found.suggestions.len()), (12, 15), "{found}");
    let only = json!({"matchExpressions": [{"key": "kubernetes.io/metadata.name", "operator": "In", "values": ["a", "b", "c"]}]});
    let port = |number: u16| json!([{"protocol": "TCP", "port": number}]);
    let entry = |name: &str, way: Value| {
        let mut entry = json!({"name": name, "namespaceSelector": only, "acknowledgeOpen": false});
        entry.as_object_mut().unwrap().extend(way.as_object().unwrap().clone());
        entry
    };
    let collectors = json!({
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "logs"}},
        "podSelector": {"matchLabels": {"app": "collector"}},
    });
    let same = json!([{"sameNamespace": {}}]);
    assert_eq!(
        entries(&found),
        [
            entry(
                "same-namespace",
                json!({"ingress": [{"from": same, "ports": port(5432)}], "egress": [{"to": same, "ports": port(5432)}]})
            ),
            entry("to-logs", json!({"egress": [{"to": [collectors], "ports": port(4318)}]})),
            entry("from-addresses", json!({"ingress": [{"from": [{"ipBlock": {"cidr": "192.0.2.1/32"}}], "ports": port(8080)}]})),
            entry("to-addresses", json!({"egress": [{"to": [{"ipBlock": {"cidr": "203.0.113.7/32"}}], "ports": port(443)}]})),
        ]
    );
    assert!(found.allows.iter().all(|one| one.flows == 3 && one.namespaces.len() == 3), "{:?}", found.allows);
    assert!(
        found.to_string().contains("\n3 flows of a, b, c need the same. To allow it for all pods there, add this to spec.allows of the baseline:\n\n- egress:"),
        "{found}"
    );
    // The entries let through what the policies would.
    let opened = baseline(&json!({"excludeNamespaces": ["logs"], "allows": entries(&found)}));
    let again = judge(&snapshot(&objects), &lines, Some(&opened));
    assert_eq!((again.not_allowed, again.allows.len()), (0, 0), "{again}");
    // Two namespaces are no decision of the platform.
    let two: Vec<String> = lines.into_iter().filter(|line| !line.contains("c/web-1")).collect();
    assert_eq!(entries(&judge(&snapshot(&objects), &two, Some(&platform))), [json!(null); 0]);
    // Without a baseline there is nothing to add an entry to.
    assert_eq!(entries(&judge(&snapshot(&objects), &two, None)), [json!(null); 0]);
}

#[test]
fn an_allow_opens_only_the_ports_that_three_namespaces_need_and_counts_only_their_flows() {
    let to = |name: &str, port: &str| line(&format!("{name}/web-1"), "logs/collector-1", port);
    let platform = baseline(&json!({"excludeNamespaces": ["logs"]}));
    let found = |lines: &[String]| judge(&snapshot(&three_shops()), lines, Some(&platform));
    let each_its_own = [to("a", "5432"), to("b", "9187"), to("c", "22")];
    assert_eq!(entries(&found(&each_its_own)), [json!(null); 0]);
    let one_shared = [to("a", "4318"), to("b", "4318"), to("c", "4318"), to("c", "4318"), to("c", "22")];
    let shared = found(&one_shared);
    assert_eq!((shared.allows.len(), shared.allows[0].flows), (1, 4), "{shared}");
    assert_eq!(entries(&shared)[0]["egress"][0]["ports"], json!([{"protocol": "TCP", "port": 4318}]));
}

#[test]
fn the_metadata_service_of_a_cloud_is_not_opened_without_a_word() {
    let lines = [line("a/web-1", "169.254.169.254", "80")];
    let found = judge(&snapshot(&three_shops()), &lines, Some(&baseline(&json!({}))));
    let said = "169.254.169.254/32 is the metadata service of a cloud, which gives credentials of the node";
    assert!(found.suggestions[0].cautions[0].starts_with(said), "{found}");
}

#[test]
fn an_allow_for_many_namespaces_says_that_it_is_for_all() {
    let names: Vec<String> = (0..17).map(|number| format!("n{number}")).collect();
    let mut objects = three_shops();
    for name in &names {
        objects.extend([namespace(name, json!({})), pod(&format!("{name}/web-1"), json!({"app": "web"}), &[])]);
    }
    let lines: Vec<String> = names.iter().map(|name| line(&format!("{name}/web-1"), "logs/collector-1", "4318")).collect();
    let found = judge(&snapshot(&objects), &lines, Some(&baseline(&json!({"excludeNamespaces": ["logs"]}))));
    assert_eq!(entries(&found)[0]["namespaceSelector"], json!(null));
    let said = "To allow it for all pods in every namespace that the baseline selects, add this";
    assert!(found.to_string().contains(said), "{found}");
}

#[test]
fn a_pod_on_the_host_network_without_an_address_is_no_api_server() {
    let mut agent = pod("logs/agent-1", json!({"app": "agent"}), &[]);
    agent["spec"] = json!({"hostNetwork": true});
    let objects: Vec<Value> = three_shops().into_iter().chain([agent]).collect();
    let lines: Vec<String> = ["a", "b", "c"].iter().map(|name| line(&format!("{name}/web-1"), "logs/agent-1", "80")).collect();
    let found = judge(&snapshot(&objects), &lines, Some(&baseline(&json!({"excludeNamespaces": ["logs"]}))));
    assert_eq!((found.not_allowed, found.allows.len()), (3, 0), "{found}");
}

#[test]
fn an_allow_has_a_name_that_the_baseline_does_not_use() {
    let lines: Vec<String> =
        ["a", "b", "c"].iter().map(|name| line(&format!("{name}/web-1"), "logs/collector-1", "4318")).collect();
    let own = json!([{"name": "to-logs", "egress": [{"to": [{"ipBlock": {"cidr": "198.51.100.1/32"}}]}]}]);
    let platform = baseline(&json!({"excludeNamespaces": ["logs"], "allows": own}));
    let found = judge(&snapshot(&three_shops()), &lines, Some(&platform));
    assert_eq!(entries(&found)[0]["name"], "to-logs-2");
}

#[test]
fn flows_to_the_api_server_are_let_through_by_its_allow_and_not_by_its_addresses_today() {
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"namespace": "default", "name": "kubernetes"},
        "spec": {"clusterIP": "10.96.0.1", "clusterIPs": ["10.96.0.1"], "ports": [{"name": "https", "port": 443, "targetPort": 6443}]}});
    let slice = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"namespace": "default", "name": "kubernetes", "labels": {"kubernetes.io/service-name": "kubernetes"}},
        "endpoints": [{"addresses": ["192.168.0.10"]}, {"addresses": ["192.168.0.11"]}], "ports": [{"name": "https", "port": 6443}]});
    let objects: Vec<Value> = three_shops().into_iter().chain([service, slice]).collect();
    let dump = FlowDump::read(&json!({"kind": "List", "apiVersion": "v1", "items": objects}).to_string()).unwrap();
    let in_cluster = |spec: &Value| -> PreviewedBaseline { baseline(spec).in_cluster(&dump.facts, std::time::Instant::now()) };
    let lines = ["192.168.0.10", "192.168.0.11"].map(|address| line("a/web-1", address, "6443"));
    let found = judge(&snapshot(&objects), &lines, Some(&in_cluster(&json!({}))));
    assert_eq!((found.not_allowed, found.allows.len()), (2, 1), "{found}");
    let entry = &entries(&found)[0];
    assert_eq!((&entry["name"], &entry["egress"]), (&json!("kubernetes-api"), &json!([{"to": [{"kubernetesAPI": {}}]}])));
    let opened = in_cluster(&json!({"allows": entries(&found)}));
    assert_eq!(judge(&snapshot(&objects), &lines, Some(&opened)).not_allowed, 0);
    let other_port = [line("a/web-1", "192.168.0.10", "443")];
    assert_eq!(judge(&snapshot(&objects), &other_port, Some(&in_cluster(&json!({})))).allows.len(), 0);
}
