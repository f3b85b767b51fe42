//! Before a baseline is enforced: `render` writes exactly what the operator would store, and `would-break` finds the recorded flows that it
//! would deny.

use std::path::Path;
use std::process::{Command, Output};

use kube::api::ListParams;
use policy_baseline_e2e::{Operator, World};
use serde_json::{Value, json};

use crate::explain_flow::{running, said, viewer};
use crate::scene::{apply_baseline, baseline, policies_of, until_ready};
use crate::support::{TEAM, team};

/// Runs a command with this kubeconfig, or without a cluster.
pub async fn run(kubeconfig: Option<&Path>, args: &[&str]) -> Output {
    let mut command = Command::new(Operator::binary().unwrap());
    command.args(args).env("NO_PROXY", "127.0.0.1,localhost");
    command.env("KUBECONFIG", kubeconfig.unwrap_or(Path::new("/no/kubeconfig")));
    tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap()
}

/// A spec that uses every part that becomes a policy.
fn spec() -> Value {
    json!({
        "namespaceSelector": team("a"), "existingNamespaces": "Enforce",
        "dns": { "peers": [{ "ipBlock": { "cidr": "10.99.0.10/32" } }], "ports": [5353] },
        "monitoring": {
            "from": [{ "namespaceSelector": { "matchLabels": { "role": "monitoring" } }, "podSelector": {} }],
            "ports": [{ "port": 9090 }], "sourceEgress": "Enforce",
        },
        "metadata": { "namePrefix": "platform-", "labels": { "owner": "platform" } },
        "allows": [
            { "name": "within", "ingress": [{ "from": [{ "sameNamespace": {} }] }], "egress": [{ "to": [{ "sameNamespace": {} }] }] },
            { "name": "proxy", "egress": [{ "to": [{ "ipBlock": { "cidr": "192.0.2.0/24" } }], "ports": [{ "port": 3128 }] }] },
            { "name": "api", "egress": [{ "to": [{ "kubernetesAPI": {} }] }] },
        ],
    })
}

/// A spec as the API server shows it.
fn without_empty_lists(spec: &Value) -> Value {
    spec.as_object()
        .unwrap()
        .iter()
        .filter(|(_, value)| **value != json!([]))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

#[tokio::test]
async fn render_writes_exactly_what_the_operator_stores() {
    let mut world = World::new().await.unwrap();
    world.start_operator().await.unwrap();
    let mut namespaces = Vec::new();
    for (prefix, labels) in
        [("shop", &[(TEAM, "a")][..]), ("watch", &[(TEAM, "a"), ("role", "monitoring")]), ("other", &[(TEAM, "b")])]
    {
        namespaces.push(world.namespace(prefix, labels).await.unwrap());
    }
    apply_baseline(&world, "platform", &spec()).await;
    until_ready(&world, "platform").await;
    let file = world.plane().state_dir().join("baseline.yaml");
    std::fs::write(&file, baseline("platform", &spec())).unwrap();
    let (viewer, kubeconfig) = viewer(&world).await;
    let file = file.to_str().unwrap();

    let output = run(Some(&kubeconfig), &["render", "-f", file, "-o", "json"]).await;
    let list: Value = serde_json::from_str(&said(&output, 0)).unwrap();
    let rendered = |namespace: &str| -> Vec<Value> {
        let is_there = |policy: &&Value| policy["metadata"]["namespace"] == namespace;
        let mut found: Vec<Value> = list["items"].as_array().unwrap().iter().filter(is_there).cloned().collect();
        found.sort_by_key(|policy| policy["metadata"]["name"].to_string());
        found
    };
    for namespace in &namespaces {
        let stored = policies_of(&world.admin(), namespace).list(&ListParams::default()).await.unwrap();
        let stored: Vec<Value> = stored.into_iter().map(|policy| serde_json::to_value(policy).unwrap()).collect();
        let rendered = rendered(namespace);
        assert_eq!(rendered.len(), stored.len(), "{namespace}");
        for (one, other) in rendered.iter().zip(&stored) {
            assert_eq!(without_empty_lists(&one["spec"]), other["spec"]);
            for field in ["name", "labels", "annotations"] {
                assert_eq!(one["metadata"][field], other["metadata"][field], "{field}");
            }
        }
    }
    assert_eq!([0, 1, 2].map(|index| rendered(&namespaces[index]).len()), [6, 7, 0]);

    let only = ["render", "-f", file, "-n", &namespaces[2]];
    let output = run(None, &only).await;
    assert_eq!(said(&output, 0), "", "a name alone has no team");
    assert!(String::from_utf8_lossy(&output.stderr).contains("gets no policy from the baseline platform"));
    world.plane().run_kubectl(&["delete", "clusterrolebinding", &viewer]).unwrap();
}

#[tokio::test]
async fn would_break_finds_what_a_baseline_denies_and_nothing_once_its_suggestions_are_there() {
    let mut world = World::new().await.unwrap();
    let shop = world.namespace("shop", &[(TEAM, "a")]).await.unwrap();
    let ops = world.namespace("ops", &[(TEAM, "b")]).await.unwrap();
    for (namespace, name, address) in [(&shop, "web", "10.200.0.1"), (&shop, "db", "10.200.0.2"), (&ops, "tool", "10.200.1.1")] {
        running(&world, namespace, name, address).await;
    }
    let dir = world.plane().state_dir().to_owned();
    let (flows, manifest) = (dir.join("flows.csv"), dir.join("closing.yaml"));
    let lines = [
        format!("{shop}/web,{shop}/db,8080,7"),
        format!("{ops}/tool,10.200.0.1,8080,2"),
        format!("{ops}/tool,203.0.113.7,443,1"),
    ];
    std::fs::write(&flows, format!("from,to,port,count\n{}\n", lines.join("\n"))).unwrap();
    let spec = json!({ "namespaceSelector": team("a"), "existingNamespaces": "Enforce" });
    std::fs::write(&manifest, baseline("closing", &spec)).unwrap();
    let (flows, manifest) = (flows.to_str().unwrap(), manifest.to_str().unwrap());
    let (viewer, kubeconfig) = viewer(&world).await;
    let judged = async |args: &[&str], code: i32| -> Value {
        let args = [&["would-break", "-o", "json", "--flows", flows], args].concat();
        serde_json::from_str(&said(&run(Some(&kubeconfig), &args).await, code)).unwrap()
    };

    let plan = judged(&["-f", manifest], 1).await;
    assert_eq!((&plan["flows"], &plan["notAllowed"], &plan["namespaces"]), (&json!(10), &json!(9), &json!(1)), "{plan}");
    assert_eq!(judged(&[], 0).await["notAllowed"], 0, "nothing is closed yet");

    // The prediction is what happens.
    world.start_operator().await.unwrap();
    apply_baseline(&world, "closing", &spec).await;
    until_ready(&world, "closing").await;
    let happened = judged(&[], 1).await;
    assert_eq!(happened["broken"], plan["broken"]);

    for suggestion in plan["suggestions"].as_array().unwrap() {
        world.apply_yaml(&suggestion["policy"].to_string()).await.unwrap();
    }
    for args in [&[][..], &["-f", manifest]] {
        assert_eq!(judged(args, 0).await["notAllowed"], 0, "{args:?}");
    }
    world.plane().run_kubectl(&["delete", "clusterrolebinding", &viewer]).unwrap();
}
