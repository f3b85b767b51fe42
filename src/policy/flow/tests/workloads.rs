//! Flows from and to all pods of a workload, and of all pods with some labels.

use serde_json::{Value, json};

use super::{
    CompiledPolicies, FlowDecision,
    answers::{shop, text, with},
    pod, policy, snapshot, with_ports,
};
use crate::{policy::flow::FlowEnd, testkit::golden};

/// The pod as an object of this kind and name created it.
fn owned(mut pod: Value, kind: &str, name: &str) -> Value {
    pod["metadata"]["ownerReferences"] = json!([
        {"apiVersion": "v1", "kind": "ConfigMap", "name": "other"},
        {"apiVersion": "v1", "kind": kind, "name": name, "controller": true},
    ]);
    pod
}

/// A Deployment with two pods that are alike and one of the former version, with another label, and a StatefulSet.
fn world() -> Vec<Value> {
    let mut objects: Vec<Value> = shop().into_iter().filter(|object| object["kind"] != "Pod").collect();
    let web = |name: &str, hash: &str, labels: Value, last: u8| {
        let pod = pod(&format!("shop/{name}"), labels, &[&format!("10.0.0.{last}")]);
        owned(pod, "ReplicaSet", &format!("web-{hash}"))
    };
    let new = || json!({"app": "web", "pod-template-hash": "b"});
    objects.extend([
        web("web-b-1", "b", new(), 11),
        web("web-b-2", "b", new(), 12),
        web("web-a-1", "a", json!({"app": "web-old", "pod-template-hash": "a"}), 13),
    ]);
    objects.extend([1, 2].map(|number| {
        let pod = pod(&format!("shop/db-{number}"), json!({"app": "db"}), &[&format!("10.0.0.{number}")]);
        owned(with_ports(pod, &[("sql", 5432)]), "StatefulSet", "db")
    }));
    let mut ended = owned(pod("shop/import-1", json!({"app": "import"}), &["10.0.0.40"]), "Job", "import-29400000");
    ended["status"]["phase"] = "Succeeded".into();
    objects.push(ended);
    objects
}

fn error(objects: &[Value], from: &str, to: &str) -> String {
    with(objects, (from, to, "5432"), |answer| answer.map(|answer| answer.to_string()).unwrap_err())
}

#[test]
fn pods_that_are_decided_alike_are_one_answer_and_those_that_differ_are_named() {
    let shown = text(&world(), ("shop/deploy/web", "shop/sts/db", "sql"));
    golden("src/policy/flow/golden/workloads.txt", &shown);
    let first = "shop/deploy/web (3 pods) to shop/sts/db (2 pods), TCP sql: denied, but not for every pod, destination or address family\n";
    assert!(shown.starts_with(first), "{shown}");
    assert!(shown.contains("\nfrom shop/web-b-1, shop/web-b-2 to shop/db-1, shop/db-2, port 5432: allowed\n"), "{shown}");
    assert!(shown.contains("\nfrom shop/web-a-1 to shop/db-1, shop/db-2, port 5432: denied\n"), "{shown}");
    let alike: Vec<Value> = world().into_iter().filter(|object| object["metadata"]["name"] != "web-a-1").collect();
    let shown = text(&alike, ("shop/deploy/web", "shop/sts/db", "sql"));
    assert!(shown.starts_with("shop/deploy/web (2 pods) to shop/sts/db (2 pods), TCP sql: allowed\n\nDIRECTION"), "{shown}");
    assert!(shown.contains("egress of shop/web-b-1, shop/web-b-2 "), "{shown}");
    let of_one = text(&alike, ("shop/rs/web-b", "shop/db-1", "sql"));
    assert!(of_one.starts_with("shop/rs/web-b (2 pods) to shop/db-1, TCP sql: allowed\n"), "{of_one}");
}

#[test]
fn the_decision_is_the_worst_of_all_pods() {
    let decided = |from: &str| with(&world(), (from, "shop/svc/db", "5432"), |answer| answer.unwrap().decision);
    assert_eq!(decided("shop/deploy/web"), FlowDecision::Denied);
    assert_eq!(decided("shop/rs/web-b"), FlowDecision::Allowed);
}

#[test]
fn what_a_pod_sends_to_itself_is_left_out_among_several() {
    let closed = policy("shop/db", json!({"podSelector": {"matchLabels": {"app": "db"}}, "policyTypes": ["Ingress"]}));
    let is_other = |object: &Value| object["kind"] != "NetworkPolicy" || object["metadata"]["name"] != "db";
    let objects: Vec<Value> = world().into_iter().filter(is_other).chain([closed]).collect();
    let shown = text(&objects, ("shop/sts/db", "shop/sts/db", "5432"));
    assert!(shown.starts_with("shop/sts/db (2 pods) to shop/sts/db (2 pods), TCP 5432: denied\n\nDIRECTION"), "{shown}");
    let alone = text(&objects, ("shop/db-1", "shop/sts/db", "5432"));
    assert!(alone.contains("to shop/db-1, port 5432: allowed"), "a pod that is named is judged as for a Service: {alone}");
}

#[test]
fn sources_that_reach_other_destinations_are_told_apart() {
    // Each agent is on the host network of the node of one database.
    let mut objects = world();
    for object in &mut objects {
        if let Some(number) = object["metadata"]["name"].as_str().and_then(|name| name.strip_prefix("db-")).map(str::to_owned) {
            object["spec"]["nodeName"] = format!("node-{number}").into();
        }
    }
    objects.extend([1, 2].map(|number| {
        let mut agent = pod(&format!("shop/agent-{number}"), json!({"app": "agent"}), &[&format!("192.168.0.{number}")]);
        agent["spec"] = json!({"hostNetwork": true, "nodeName": format!("node-{number}")});
        owned(agent, "DaemonSet", "agent")
    }));
    let shown = text(&objects, ("shop/ds/agent", "shop/sts/db", "5432"));
    for expected in [
        "from shop/agent-1 to shop/db-1, port 5432: allowed",
        "from shop/agent-1 to shop/db-2, port 5432: denied",
        "from shop/agent-2 to shop/db-1, port 5432: denied",
        "from shop/agent-2 to shop/db-2, port 5432: allowed",
    ] {
        assert!(shown.contains(expected), "{expected}: {shown}");
    }
}

#[test]
fn a_workload_without_pods_is_no_answer_and_says_why() {
    let mut objects = world();
    for (from, expected) in [
        ("shop/deploy/api", "there is no Deployment shop/api, or it has no pods. In \"shop\" there are: web"),
        (
            "shop/ds/web",
            "there is no DaemonSet shop/web, or it has no pods. The namespace \"shop\" has no DaemonSet at all: check its name, and whether you may list it",
        ),
        ("shop/cronjob/import", "all pods of the CronJob shop/import have ended, so there is no traffic. Name pods that run"),
    ] {
        assert_eq!(error(&objects, from, "shop/db-1"), expected);
    }
    objects.extend(["web", "api"].map(
        |name| json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"namespace": "shop", "name": name}, "spec": {}}),
    ));
    for (from, expected) in [
        (
            "shop/deploy/api",
            "the Deployment shop/api has no pods, so it has no traffic. Find out why: kubectl describe deploy/api -n shop",
        ),
        ("shop/deploy/ap", "there is no Deployment shop/ap. In \"shop\" there are: api, web"),
    ] {
        assert_eq!(error(&objects, from, "shop/db-1"), expected);
    }
    let named = "no container of shop/web-a-1 has a TCP port named \"sql\". It names no ports: write a number";
    let asked = with(&objects, ("shop/db-1", "shop/deploy/web", "sql"), |answer| answer.map(|_| ()).unwrap_err());
    assert_eq!(asked, named);
}

#[test]
fn a_port_that_some_pods_name_otherwise_is_judged_for_the_others_and_these_are_named() {
    let mut objects = world();
    let old = owned(with_ports(pod("shop/db-0", json!({"app": "db"}), &["10.0.0.50"]), &[("pg", 5432)]), "StatefulSet", "db");
    objects.push(old);
    with(&objects, ("shop/rs/web-b", "shop/sts/db", "sql"), |answer| {
        let answer = answer.unwrap();
        assert_eq!((answer.decision, answer.is_allowed()), (FlowDecision::Allowed, false));
        assert_eq!(answer.without_port, ["shop/db-0"]);
        let shown = answer.to_string();
        let first = "shop/rs/web-b (2 pods) to shop/sts/db (3 pods), TCP sql: allowed, but not for every pod, destination or address family\nthese pods have no container port of that name, so no flow to them is judged: shop/db-0\n\nDIRECTION";
        assert!(shown.starts_with(first), "{shown}");
        assert!(!shown.contains("of shop/db-0"), "{shown}");
        assert_eq!(serde_json::to_value(&answer).unwrap()["withoutPort"], json!(["shop/db-0"]));
    });
    with(&world(), ("shop/rs/web-b", "shop/sts/db", "sql"), |answer| assert!(answer.unwrap().is_allowed()));
}

#[test]
fn all_pods_with_some_labels_are_a_source() {
    let world = snapshot(&world());
    let compiled = CompiledPolicies::of(&world);
    let answer = |labels: &str| {
        let from = FlowEnd::Labelled { namespace: "shop".into(), labels: labels.parse().unwrap() };
        let answer = compiled.answer(&from, &"shop/db-1".parse().unwrap(), &"5432".parse().unwrap());
        answer.map(|answer| answer.to_string()).map_err(|error| error.to_string())
    };
    let shown = answer("app=web").unwrap();
    assert!(shown.starts_with("the pods of shop with app=web (2 pods) to shop/db-1, TCP 5432: allowed\n"), "{shown}");
    let shown = answer("app in (web,web-old)").unwrap();
    assert!(shown.contains("\nfrom shop/web-a-1 to shop/db-1, port 5432: denied\n"), "{shown}");
    let nothing =
        "app=x selects nothing in \"shop\": none of 5 pods has such labels. List them: kubectl get pods -n shop --show-labels";
    assert_eq!(answer("app=x"), Err(nothing.into()));
    assert_eq!(
        answer("app=import"),
        Err("all pods of shop with app=import have ended, so there is no traffic. Name pods that run".into())
    );
}

#[test]
fn of_many_pods_the_workload_and_the_number_are_named() {
    let mut objects = world();
    objects.extend((0..40).map(|number| {
        let name = format!("shop/checkout-with-a-long-name-{number:02}");
        owned(pod(&name, json!({"app": "checkout"}), &[&format!("10.0.7.{number}")]), "StatefulSet", "checkout")
    }));
    objects.push(owned(pod("shop/checkout-old", json!({"app": "web"}), &["10.0.8.1"]), "StatefulSet", "checkout"));
    let shown = text(&objects, ("shop/sts/checkout", "shop/db-1", "5432"));
    let from = "\nfrom 40 pods of shop/sts/checkout (shop/checkout-with-a-long-name-00, shop/checkout-with-a-long-name-01, shop/checkout-with-a-long-name-02 and 37 more) to shop/db-1, port 5432: denied\n";
    assert!(shown.contains(from), "{shown}");
    assert!(shown.contains("\negress of 40 pods of shop/sts/checkout   allowed"), "{shown}");
    assert!(shown.contains("\nfrom shop/checkout-old to shop/db-1, port 5432: allowed\n"), "{shown}");
    let world = snapshot(&objects);
    let answer = |labels: &str| {
        let from = FlowEnd::Labelled { namespace: "shop".into(), labels: labels.parse().unwrap() };
        let compiled = CompiledPolicies::of(&world);
        let answer = compiled.answer(&from, &"shop/db-1".parse().unwrap(), &"5432".parse().unwrap()).unwrap();
        answer.to_string()
    };
    assert!(answer("app=checkout").contains("\negress of 40 pods of shop with app=checkout   allowed"));
    let all = answer("");
    assert!(all.starts_with("the pods of shop (46 pods) to shop/db-1, TCP 5432: denied, but not for every pod"), "{all}");
    assert!(all.contains("\negress of 42 pods of shop   allowed"), "{all}");
    for line in all.lines() {
        assert!(line.matches("shop/checkout-with").count() <= 3, "{line}");
    }
}

#[test]
fn no_name_ends_a_line() {
    let mut objects = world();
    let odd = |name: &str| pod(&format!("shop/{name}"), json!({"app": "odd"}), &["10.0.7.1"]);
    objects.push(odd("a\nall is: allowed"));
    objects.push(policy("shop/b\nc", json!({"podSelector": {"matchLabels": {"app": "db"}}, "policyTypes": ["Ingress"]})));
    let mut svc = super::answers::service("shop/odd", json!({"clusterIPs": ["10.96.0.9"], "selector": {"app": "odd"}}));
    svc["spec"]["ports"] = json!([{"port": 80}]);
    objects.push(svc);
    for (from, to, port) in [
        ("shop/a\nall is: allowed", "shop/db-1", "5432"),
        ("shop/db-1", "shop/a\nall is: allowed", "5432"),
        ("shop/db-1", "shop/svc/odd", "80"),
    ] {
        let shown = text(&objects, (from, to, port));
        assert!(shown.contains("shop/a all is: allowed") && !shown.contains("\nall is"), "{shown}");
        assert!(!shown.contains("\nc"), "{shown}");
    }
}
