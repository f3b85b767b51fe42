//! Every command that reads a cluster, with 2,000 namespaces, 20,000 pods and 6,000 policies, as somebody who may only look. It prints how long
//! each command took.

use std::path::Path;
use std::process::{Command, Output};
use std::time::Instant;

use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::{Namespace, Pod, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::PostParams;
use kube::{Api, Client};
use policy_baseline_e2e::{Operator, World};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::explain_flow::viewer;
use crate::scene::baseline;

const NAMESPACES: usize = 2_000;
const PODS: usize = 10;
const APPS: usize = 5;
/// How many requests are in flight while the cluster is filled.
const IN_FLIGHT: usize = 96;
/// The exit code of a command that found something.
const FINDINGS: i32 = 1;

fn object<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn name(number: usize) -> String {
    format!("shop-{number:04}")
}

/// A policy of a team: each application accepts the next one at one port.
fn own_policy(app: usize) -> NetworkPolicy {
    object(json!({
        "metadata": { "name": format!("app-{app}") },
        "spec": {
            "podSelector": { "matchLabels": { "app": format!("app-{app}") } },
            "ingress": [{
                "from": [{ "podSelector": { "matchLabels": { "app": format!("app-{}", (app + 1) % APPS) } } }],
                "ports": [{ "port": 8080 }],
            }],
        },
    }))
}

async fn fill_namespace(client: Client, number: usize) -> kube::Result<()> {
    let (name, params) = (name(number), PostParams::default());
    let labels = json!({ "team": if number.is_multiple_of(2) { "a" } else { "b" } });
    let namespace = object(json!({ "metadata": { "name": name, "labels": labels } }));
    Api::<Namespace>::all(client.clone()).create(&params, &namespace).await?;
    let account = object(json!({ "metadata": { "name": "default" } }));
    match Api::<ServiceAccount>::namespaced(client.clone(), &name).create(&params, &account).await {
        Ok(_) => {}
        // The controller manager was faster.
        Err(kube::Error::Api(status)) if status.is_already_exists() => {}
        Err(error) => return Err(error),
    }
    let pods: Api<Pod> = Api::namespaced(client.clone(), &name);
    for pod in 0..PODS {
        let pod = object(json!({
            "metadata": { "name": format!("pod-{pod}"), "labels": { "app": format!("app-{}", pod % APPS), "pod-template-hash": "7d9f" } },
            "spec": { "containers": [{ "name": "c", "image": "c", "ports": [{ "name": "http", "containerPort": 8080 }] }] },
        }));
        pods.create(&params, &pod).await?;
    }
    let policies: Api<NetworkPolicy> = Api::namespaced(client, &name);
    for app in 0..3 {
        policies.create(&params, &own_policy(app)).await?;
    }
    Ok(())
}

async fn run(kubeconfig: &Path, args: &[&str]) -> Output {
    let started = Instant::now();
    let mut command = Command::new(Operator::binary().unwrap());
    command.args(args).env("NO_PROXY", "127.0.0.1,localhost").env("KUBECONFIG", kubeconfig);
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    println!("{:>6} ms  {} {}", started.elapsed().as_millis(), args[0], args.get(1).copied().unwrap_or_default());
    output
}

#[tokio::test]
async fn every_command_answers_somebody_who_may_only_look_at_a_large_cluster() {
    let world = World::new().await.unwrap();
    world.discard();
    let fill = stream::iter(0..NAMESPACES).map(|number| Ok(fill_namespace(world.admin(), number)));
    fill.try_buffer_unordered(IN_FLIGHT).try_collect::<()>().await.unwrap();
    let (_, kubeconfig) = viewer(&world).await;
    let dir = world.plane().state_dir().to_owned();
    let (flows, manifest) = (dir.join("flows.csv"), dir.join("closing.yaml"));
    let lines: Vec<String> = (0..NAMESPACES)
        .map(|number| format!("{}/pod-1,{}/pod-0,8080", name(number), name(number)))
        .chain((0..NAMESPACES).map(|number| format!("{}/pod-0,203.0.113.7,443", name(number))))
        .collect();
    std::fs::write(&flows, format!("from,to,port\n{}\n", lines.join("\n"))).unwrap();
    let spec = json!({ "namespaceSelector": { "matchLabels": { "team": "a" } }, "existingNamespaces": "Enforce" });
    std::fs::write(&manifest, baseline("closing", &spec)).unwrap();
    let (flows, manifest) = (flows.to_str().unwrap(), manifest.to_str().unwrap());
    let answer = async |args: &[&str], code: i32| -> Value {
        let output = run(&kubeconfig, args).await;
        assert_eq!(output.status.code(), Some(code), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    };

    let flow = |from: &str, to: &str| {
        ["explain", "flow", "--from", from, "--to", to, "--port", "8080", "-o", "json"].map(ToOwned::to_owned)
    };
    for (from, to, decision, code) in
        [("shop-0000/pod-1", "shop-0000/pod-0", "allowed", 0), ("shop-1999/pod-1", "shop-0000/pod-0", "denied", FINDINGS)]
    {
        let args = flow(from, to);
        let answer = answer(&args.each_ref().map(String::as_str), code).await;
        assert_eq!(answer["decision"], decision, "{from} {to}");
    }

    let symptoms: [(&str, &[&str], i32); 5] = [
        ("dns-hangs", &[], 0),
        ("blocked", &["--to", "shop-0000/pod-0", "--port", "8080"], FINDINGS),
        ("passes", &["--to", "shop-0000/pod-0", "--port", "8080"], 0),
        ("blocked-though-allowed", &["--to", "shop-0000/pod-0", "--port", "8080"], FINDINGS),
        // No kubelet runs, so the pods are pending.
        ("comes-and-goes", &["--to", "shop-0000/pod-0", "--port", "8080"], FINDINGS),
    ];
    for (name, more, code) in symptoms {
        let args = [&["explain", "symptom", name, "--from", "shop-1999/pod-1", "-o", "json"], more].concat();
        assert_eq!(answer(&args, code).await["symptom"], name);
    }

    let broken = answer(&["would-break", "-o", "json", "--flows", flows, "-f", manifest], FINDINGS).await;
    // In half of the namespaces, both flows are denied: the egress of both, and the ingress of none that its own policy allows.
    let expected = (2 * NAMESPACES, NAMESPACES, NAMESPACES / 2);
    let counts = ["flows", "notAllowed", "namespaces"].map(|field| broken[field].as_u64().unwrap());
    assert_eq!(counts.map(|count| usize::try_from(count).unwrap()), [expected.0, expected.1, expected.2]);

    let rendered = answer(&["render", "-o", "json", "-f", manifest], 0).await;
    assert_eq!(rendered["items"].as_array().unwrap().len(), 3 * NAMESPACES / 2);

    // A policy of one namespace is taken away.
    let (old, new) = (dir.join("old.json"), dir.join("new"));
    let mut policy = own_policy(0);
    policy.metadata.namespace = Some(name(0));
    std::fs::write(&old, serde_json::to_string(&policy).unwrap()).unwrap();
    std::fs::create_dir(&new).unwrap();
    let diff = ["diff", "-o", "json", "-f", old.to_str().unwrap(), "-f", new.to_str().unwrap()];
    let changed = answer(&diff, FINDINGS).await;
    assert_eq!((&changed["pods"], &changed["newlyDenied"]["pairs"]), (&json!(NAMESPACES * PODS), &json!(0)), "{changed}");

    let plan = answer(&["explain", "namespace", "shop-0000", "-o", "json"], FINDINGS).await;
    assert_eq!(plan["namespace"], "shop-0000", "no baseline exists yet: {plan}");
    // `view` allows to list neither CRDs nor Leases.
    let admin = world.plane().admin_kubeconfig().to_owned();
    for (args, code) in [(["check", "-o", "json"], FINDINGS), (["list-managed", "-o", "json"], 0)] {
        let output = run(&admin, &args).await;
        assert_eq!(output.status.code(), Some(code), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
}
