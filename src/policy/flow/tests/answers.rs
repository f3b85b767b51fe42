//! What a person reads: the screen, Services, errors, broken dumps, and the policies that would allow a flow.

use serde_json::{Value, json};

use super::{CompiledPolicies, FlowDecision, FlowDump, FlowSnapshot, namespace, pod, policy, snapshot, with_ports};
use crate::{policy::flow::answer::FlowAnswer, testkit::golden};

/// A Service `namespace/name`.
pub fn service(id: &str, spec: Value) -> Value {
    let (namespace, name) = id.split_once('/').unwrap();
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"namespace": namespace, "name": name}, "spec": spec})
}

/// A shop: its pods are closed but for one rule.
pub fn shop() -> Vec<Value> {
    let deny = json!({"podSelector": {}, "policyTypes": ["Ingress"]});
    let web = json!({"podSelector": {"matchLabels": {"app": "db"}}, "ingress": [
        {"from": [{"podSelector": {"matchLabels": {"app": "web"}}}], "ports": [{"port": "sql"}]},
    ]});
    let sql = [("sql", 5432), ("metrics", 9187)];
    let db = |number: u16| {
        let id = format!("shop/db-{number}");
        let labels = json!({"app": "db", "apps.kubernetes.io/pod-index": number.to_string()});
        with_ports(pod(&id, labels, &[&format!("10.0.0.{number}"), &format!("fd00::{number}")]), &sql)
    };
    vec![
        namespace("shop", json!({})),
        namespace("ops", json!({})),
        pod("shop/web-1", json!({"app": "web", "pod-template-hash": "7d9f"}), &["10.0.0.9", "fd00::9"]),
        db(1),
        db(2),
        pod("ops/tool", json!({"app": "tool"}), &["10.0.1.1"]),
        policy("shop/default-deny-ingress", deny),
        policy("shop/db", web),
        policy("ops/default-deny-egress", json!({"podSelector": {}, "policyTypes": ["Egress"]})),
        service(
            "shop/db",
            json!({"clusterIPs": ["10.96.0.7"], "selector": {"app": "db"}, "ports": [
                {"name": "sql", "port": 5432, "targetPort": "sql"}, {"name": "metrics", "port": 80, "targetPort": 9187},
            ]}),
        ),
    ]
}

/// Looks at the answer to a question: from, to, port.
pub fn with<T>(
    objects: &[Value],
    (from, to, port): (&str, &str, &str),
    look: impl FnOnce(Result<FlowAnswer<'_>, String>) -> T,
) -> T {
    let snapshot = snapshot(objects);
    let compiled = CompiledPolicies::of(&snapshot);
    let answer = compiled.answer(&from.parse().unwrap(), &to.parse().unwrap(), &port.parse().unwrap());
    look(answer.map_err(|error| error.to_string()))
}

/// The answer as a person reads it.
pub fn text(objects: &[Value], asked: (&str, &str, &str)) -> String {
    with(objects, asked, |answer| answer.unwrap().to_string())
}

fn error(objects: &[Value], asked: (&str, &str, &str)) -> String {
    with(objects, asked, |answer| answer.map(|answer| answer.to_string()).unwrap_err())
}

fn decided(objects: &[Value], asked: (&str, &str, &str)) -> FlowDecision {
    with(objects, asked, |answer| answer.unwrap().decision)
}

#[test]
fn an_allowed_flow_names_the_rule_and_a_denied_one_what_would_allow_it() {
    let objects = shop();
    golden("src/policy/flow/golden/allowed.txt", &text(&objects, ("shop/web-1", "shop/db-1", "5432")));
    golden("src/policy/flow/golden/denied.txt", &text(&objects, ("ops/tool", "shop/db-1", "5432")));
    let json =
        with(&objects, ("ops/tool", "shop/db-1", "5432"), |answer| serde_json::to_string_pretty(&answer.unwrap()).unwrap());
    golden("src/policy/flow/golden/denied.json", &(json + "\n"));
}

#[test]
fn a_service_is_judged_for_each_pod_that_it_leads_to() {
    let mut objects = shop();
    objects.push(pod("shop/db-3", json!({"app": "db"}), &["10.0.0.3"]));
    golden("src/policy/flow/golden/service.txt", &text(&objects, ("shop/web-1", "shop/svc/db", "sql")));
    assert_eq!(decided(&objects, ("shop/web-1", "10.96.0.7", "5432")), FlowDecision::Allowed, "by its cluster IP");
    assert_eq!(decided(&objects, ("shop/web-1", "shop/svc/db", "80")), FlowDecision::Denied, "the container port 9187 is closed");
    let shown = text(&objects, ("shop/web-1", "10.96.0.7", "5432"));
    assert!(shown.starts_with("shop/web-1 to 10.96.0.7 (shop/svc/db), TCP 5432: allowed\n"), "{shown}");
}

#[test]
fn a_service_without_a_selector_leads_to_the_addresses_of_its_endpoint_slices() {
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"namespace": "shop", "name": "legacy-1", "labels": {"kubernetes.io/service-name": "legacy"}},
        "endpoints": [{"addresses": ["192.0.2.1"]}, {"addresses": ["10.0.0.1"]}], "ports": [{"name": "", "protocol": "TCP", "port": 5432}],
    });
    let mut objects = shop();
    objects.extend([service("shop/legacy", json!({"clusterIPs": ["10.96.0.8"], "ports": [{"port": 1521}]})), slice]);
    let shown = text(&objects, ("shop/web-1", "shop/svc/legacy", "1521"));
    assert!(
        shown.contains("\nto 192.0.2.1, port 5432: allowed\n") && shown.contains("\nto shop/db-1, port 5432: allowed\n"),
        "{shown}"
    );
}

#[test]
fn nobody_translates_the_ports_of_a_headless_service() {
    let headless = |selector: Value| {
        let ports = json!([{"name": "sql", "port": 5432, "targetPort": 9187}]);
        service("shop/direct", json!({"clusterIP": "None", "selector": selector, "ports": ports}))
    };
    let objects: Vec<Value> = shop().into_iter().chain([headless(json!({"app": "db"}))]).collect();
    assert_eq!(decided(&objects, ("shop/web-1", "shop/svc/direct", "5432")), FlowDecision::Allowed, "and not at 9187");
    assert_eq!(decided(&objects, ("shop/web-1", "shop/svc/direct", "9999")), FlowDecision::Denied, "it needs no such port");
    assert_eq!(decided(&objects, ("shop/web-1", "shop/svc/direct", "sql")), FlowDecision::Denied, "its SRV record names 9187");
    let shown = text(&objects, ("shop/web-1", "shop/svc/direct", "5432"));
    let route = "the Service shop/direct: it is headless, so port 5432 means that port of the pods with app=db\n";
    assert!(shown.contains(route), "{shown}");

    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"namespace": "shop", "name": "direct-1", "labels": {"kubernetes.io/service-name": "direct"}},
        "endpoints": [{"addresses": ["10.0.0.1"]}], "ports": [{"name": "sql", "protocol": "TCP", "port": 9187}],
    });
    let objects: Vec<Value> = shop().into_iter().chain([headless(json!({})), slice]).collect();
    assert_eq!(decided(&objects, ("shop/web-1", "shop/svc/direct", "5432")), FlowDecision::Allowed);
}

#[test]
fn a_service_is_judged_only_over_its_own_address_families() {
    let v4 =
        json!({"podSelector": {"matchLabels": {"app": "db"}}, "ingress": [{"from": [{"ipBlock": {"cidr": "10.0.0.9/32"}}]}]});
    let of = |fields: Value| {
        let mut spec = json!({"selector": {"app": "db"}, "ports": [{"port": 9187}]});
        spec.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        let objects: Vec<Value> =
            shop().into_iter().chain([policy("shop/v4", v4.clone()), service("shop/metrics", spec)]).collect();
        let asked = |to: &str| decided(&objects, ("shop/web-1", to, "9187"));
        (asked("shop/svc/metrics"), asked("10.96.0.9"))
    };
    let (allowed, denied) = (FlowDecision::Allowed, FlowDecision::Denied);
    assert_eq!(of(json!({"clusterIPs": ["10.96.0.9"], "ipFamilies": ["IPv4"]})), (allowed, allowed));
    assert_eq!(of(json!({"clusterIPs": ["10.96.0.9"]})), (allowed, allowed), "by its cluster IP");
    assert_eq!(of(json!({"clusterIPs": ["10.96.0.9", "fd01::9"], "ipFamilies": ["IPv4", "IPv6"]})), (denied, allowed));
}

#[test]
fn an_address_of_a_pod_is_that_pod() {
    let shown = text(&shop(), ("10.0.0.9", "10.0.0.1", "sql"));
    assert!(shown.starts_with("10.0.0.9 (shop/web-1) to 10.0.0.1 (shop/db-1), TCP sql: allowed\n"), "{shown}");
}

#[test]
fn both_families_are_judged_and_shown_apart_only_if_they_differ() {
    let mut objects = shop();
    let v6 =
        json!({"podSelector": {"matchLabels": {"app": "db"}}, "ingress": [{"from": [{"ipBlock": {"cidr": "fd00::9/128"}}]}]});
    objects.push(policy("shop/v6", v6));
    let shown = text(&objects, ("shop/web-1", "shop/db-1", "9187"));
    assert!(shown.starts_with("shop/web-1 to shop/db-1, TCP 9187: denied, but not for every destination"), "{shown}");
    assert!(shown.contains("\nto shop/db-1, port 9187 over IPv4: denied\n"), "{shown}");
    assert!(shown.contains("\nto shop/db-1, port 9187 over IPv6: allowed\n"), "{shown}");
    assert!(shown.contains("note: only an ipBlock allows this, by the address of shop/web-1. "), "{shown}");
    let by_both = json!([{"ipBlock": {"cidr": "::/0"}}, {"podSelector": {"matchLabels": {"app": "web"}}}]);
    let by_both = json!({"podSelector": {"matchLabels": {"app": "db"}}, "ingress": [{"from": by_both}]});
    let more: Vec<Value> = objects.iter().cloned().chain([policy("shop/both", by_both)]).collect();
    let shown = text(&more, ("shop/web-1", "shop/db-1", "9187"));
    assert!(!shown.contains("note: "), "labels allow it too: {shown}");
    let shown = text(&objects, ("shop/web-1", "shop/db-1", "5432"));
    assert!(shown.contains("over IPv6"), "one more rule allows it there: {shown}");
}

#[test]
fn a_pod_on_the_host_network_is_undecided_and_says_why() {
    let mut agent = pod("shop/agent", json!({"app": "web"}), &["192.168.0.9"]);
    agent["spec"] = json!({"hostNetwork": true, "nodeName": "node-9"});
    let closed = policy("shop/default-deny-egress", json!({"podSelector": {}, "policyTypes": ["Egress"]}));
    let objects: Vec<Value> = shop().into_iter().chain([agent, closed]).collect();
    golden("src/policy/flow/golden/host-network.txt", &text(&objects, ("shop/agent", "shop/db-1", "5432")));
    assert_eq!(decided(&objects, ("shop/agent", "shop/db-1", "5432")), FlowDecision::Undecided);
}

#[test]
fn a_kind_in_the_place_of_a_namespace_says_what_to_write() {
    let expected = "there is no pod deploy/web. Perhaps deploy is a kind, and the namespace is missing: write -n NAMESPACE, or NAMESPACE/deploy/web";
    let asked = ("deploy/web", "shop/db-1", "80");
    assert_eq!(with(&shop(), asked, |answer| answer.map(|_| ()).unwrap_err()), expected);
    let with_namespace: Vec<Value> = shop().into_iter().chain([namespace("deploy", json!({}))]).collect();
    let error = with(&with_namespace, asked, |answer| answer.map(|_| ()).unwrap_err());
    assert!(error.starts_with("there is no pod deploy/web. The namespace \"deploy\" has no pod at all"), "{error}");
}

#[test]
fn what_cannot_be_answered_says_what_is_wrong_and_what_to_write() {
    let mut ended = pod("shop/job", json!({}), &["10.0.0.77"]);
    ended["status"]["phase"] = "Succeeded".into();
    let alias = json!({"type": "ExternalName", "externalName": "db.example.com"});
    let idle = json!({"selector": {"app": "none"}, "ports": [{"port": 80}]});
    let named = json!({"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": "http"}]});
    let six = json!({"clusterIPs": ["fd01::7"], "selector": {"app": "mixed"}, "ports": [{"port": 80}]});
    let mut objects = shop();
    objects.extend([ended, service("shop/alias", alias), service("shop/idle", idle), service("shop/named", named)]);
    objects.extend([service("shop/six", six), pod("shop/mixed", json!({"app": "mixed"}), &["10.0.0.50", "fd00::50"])]);
    for (from, to, port, expected) in [
        ("shop/web", "shop/db-1", "80", "there is no pod shop/web. In \"shop\" there are: db-1, db-2, job, mixed, web-1"),
        (
            "shops/web",
            "shop/db-1",
            "80",
            "there is no pod shops/web. The namespace \"shops\" has no pod at all: check its name, and whether you may list it",
        ),
        ("shop/web-1", "shop/svc/dbs", "80", "there is no Service shop/dbs. In \"shop\" there are: alias, db, idle, named, six"),
        (
            "shop/svc/db",
            "shop/web-1",
            "80",
            "shop/svc/db is a Service, and a Service sends nothing. After --from, name a pod or an address",
        ),
        (
            "10.96.0.7",
            "shop/web-1",
            "80",
            "10.96.0.7 (shop/svc/db) is a Service, and a Service sends nothing. After --from, name a pod or an address",
        ),
        (
            "ops/tool",
            "shop/svc/six",
            "80",
            "shop/svc/six is reached over IPv6 only, and ops/tool has no such address, so there is no such flow",
        ),
        ("shop/job", "shop/db-1", "80", "the pod shop/job has ended, so it has no traffic. Name a pod that runs"),
        (
            "shop/web-1",
            "shop/svc/alias",
            "80",
            "the Service shop/alias is an alias for \"db.example.com\", outside of the cluster. After --to, name an address of it",
        ),
        ("shop/web-1", "shop/svc/db", "81", "the Service shop/db has no port TCP 81. It has: TCP 5432 (sql), TCP 80 (metrics)"),
        (
            "shop/web-1",
            "shop/svc/db",
            "UDP/80",
            "the Service shop/db has no port UDP 80. It has: TCP 5432 (sql), TCP 80 (metrics)",
        ),
        (
            "shop/web-1",
            "shop/svc/idle",
            "80",
            "nothing answers behind the Service shop/idle: port 80 leads to port 80 of the pods with app=none, and there is none that runs",
        ),
        (
            "shop/web-1",
            "shop/svc/named",
            "80",
            "nothing answers behind the Service shop/named: port 80 leads to the container port \"http\" of the pods with app=web, and no pod has that container port",
        ),
        (
            "shop/web-1",
            "shop/db-1",
            "http",
            "no container of shop/db-1 has a TCP port named \"http\". It has: TCP metrics (9187), TCP sql (5432)",
        ),
        (
            "shop/db-1",
            "shop/web-1",
            "http",
            "no container of shop/web-1 has a TCP port named \"http\". It names no ports: write a number",
        ),
        (
            "shop/web-1",
            "1.2.3.4",
            "http",
            "1.2.3.4 is the address of no pod, so nothing says which port \"http\" is. After --port, write a number",
        ),
        (
            "1.2.3.4",
            "1.2.3.5",
            "80",
            "neither 1.2.3.4 nor 1.2.3.5 is a pod, so no NetworkPolicy decides about this flow. Name at least one pod",
        ),
        (
            "ops/tool",
            "2001:db8::1",
            "80",
            "ops/tool and 2001:db8::1 have no address of the same family (IPv4 or IPv6), so there is no such flow",
        ),
    ] {
        assert_eq!(error(&objects, (from, to, port)), expected);
    }
}

#[test]
fn a_pod_without_an_address_is_judged_by_its_labels() {
    let mut objects = shop();
    objects.push(pod("shop/web-2", json!({"app": "web"}), &[]));
    let shown = text(&objects, ("shop/web-2", "shop/db-1", "5432"));
    assert!(shown.contains("TCP 5432: allowed\n"), "{shown}");
    let db =
        json!({"podSelector": {"matchLabels": {"app": "web"}}, "ingress": [{"from": [{"ipBlock": {"cidr": "10.0.0.1/32"}}]}]});
    objects.push(policy("shop/from-db", db));
    let both = text(&objects, ("shop/db-1", "shop/web-2", "80"));
    assert!(both.contains("\nto shop/web-2, port 80 over IPv4: allowed\n"), "the known address counts: {both}");
    assert!(both.contains("\nto shop/web-2, port 80 over IPv6: denied\n"), "{both}");
    assert!(shown.ends_with("note: shop/web-2 or shop/db-1 has no address yet, so no ipBlock was compared\n"), "{shown}");
}

fn read(text: &str) -> Result<(FlowSnapshot, Vec<String>), String> {
    FlowDump::read(text).map(|dump| (dump.objects.into_iter().collect(), dump.warnings))
}

#[test]
fn a_dump_that_cannot_be_read_says_what_is_wrong_and_where() {
    for (text, expected) in [
        ("", "it is empty"),
        ("\n", "it is empty"),
        ("apiVersion: v1\nkind: List\n", "it is no JSON: it begins with 'a'"),
        ("[]", "it is an array, and a List of Kubernetes is expected"),
        ("error: You must be logged in", "it is no JSON: it begins with 'e'"),
        ("{\"kind\": \"List\", \"items\": [{\"kind\":", "it ends too early, at line 1, column 35"),
        ("{\"kind\": \"List\",\n \"items\": [}", "expected value, at line 2, column 12"),
        ("{\"kind\": \"Pod\", \"metadata\": {\"name\": \"a\"}}", "it has an object of the kind \"Pod\" where a List is expected"),
        ("{\"kind\": \"List\", \"items\": {}}", "invalid type: map, expected a sequence, at line 1, column 26"),
    ] {
        assert_eq!(read(text).unwrap_err(), expected, "{text}");
    }
}

#[test]
fn an_object_that_cannot_be_read_is_named_and_the_rest_is_used() {
    let objects = json!([
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"namespace": "a", "name": "odd"}, "spec": {"containers": [{"ports": [{"containerPort": "x"}]}]}},
        {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"namespace": "a", "name": "odd"}, "spec": {"ingress": {}}},
        {"apiVersion": "v1", "kind": "Pod"},
        7,
        {"apiVersion": "policy.networking.k8s.io/v1alpha1", "kind": "AdminNetworkPolicy", "metadata": {"name": "tier"}},
        {"apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy", "metadata": {"namespace": "a", "name": "c"}},
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": "a", "name": "c"}},
        pod("a/good", json!({}), &["10.0.0.1"]),
    ]);
    let (snapshot, warnings) = read(&json!({"kind": "List", "items": objects}).to_string()).unwrap();
    assert_eq!(snapshot.pods.len(), 1);
    assert_eq!(
        warnings,
        [
            "the Pod a/odd is left out, because it cannot be read: spec.containers[0].ports[0].containerPort: invalid type: string \"x\", expected u16",
            "the NetworkPolicy a/odd is left out, because it cannot be read: spec.ingress: invalid type: map, expected a sequence",
            "the Pod with the number 3 and without a name is left out, because it cannot be read: missing field `metadata`",
            "the object number 4 is left out: invalid type: integer `7`, expected struct Head",
            "the AdminNetworkPolicy tier is left out, because it cannot be read: missing field `spec`",
            "the CiliumNetworkPolicy a/c is not judged: only NetworkPolicies and policies of the group policy.networking.k8s.io are. It may decide otherwise",
        ]
    );
}

#[test]
fn a_list_of_one_kind_and_several_lists_in_a_row_are_read_too() {
    let pods = json!({"apiVersion": "v1", "kind": "PodList", "metadata": {"continue": "token"}, "items": [{"metadata": {"namespace": "a", "name": "p"}}]});
    let policies = json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicyList", "items": [{"metadata": {"namespace": "a", "name": "n"}}]});
    let dump = FlowDump::read(&format!("{pods}\n{policies}")).unwrap();
    assert_eq!((dump.objects.len(), dump.warnings, dump.next), (2, vec![], None));
    assert_eq!(FlowDump::read(&pods.to_string()).unwrap().next.as_deref(), Some("token"));
}

#[test]
fn an_object_that_a_dump_has_twice_is_named() {
    let objects =
        json!([pod("a/p", json!({"app": "old"}), &[]), pod("b/p", json!({}), &[]), pod("a/p", json!({"app": "new"}), &[])]);
    let (snapshot, warnings) = read(&json!({"kind": "List", "items": objects}).to_string()).unwrap();
    assert_eq!((snapshot.pods.len(), &*snapshot.pods[0].labels["app"]), (2, "new"));
    let sentence =
        "the Pod a/p is given twice: as the object number 1, and as number 3, of those that are read. Only the last one counts";
    assert_eq!(warnings, [sentence]);
}
