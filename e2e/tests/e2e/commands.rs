//! The commands on a real cluster: the examples of their help, a cluster without the CRDs, and a user who may read nothing.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use kube::Api;
use kube::api::ListParams;
use policy_baseline::PolicyBaseline;
use policy_baseline_e2e::{Operator, TIMEOUT, World, repo};
use serde_json::{Value, json};

use crate::explain_flow::{running, said};

fn examples_of_docs(name: &str) -> PathBuf {
    repo().join("docs/examples").join(name)
}

async fn output(mut command: Command) -> Output {
    tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap()
}

/// Runs a command with this kubeconfig.
async fn run(kubeconfig: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(Operator::binary().unwrap());
    command.args(args).env("KUBECONFIG", kubeconfig).env("NO_PROXY", "127.0.0.1,localhost");
    output(command).await
}

/// The commands that have examples. `run` does not end by itself: the other suites start it.
const COMMANDS: [&[&str]; 15] = [
    &["explain", "namespace"],
    &["explain", "flow"],
    &["render"],
    &["explain", "symptom", "dns-hangs"],
    &["explain", "symptom", "blocked"],
    &["explain", "symptom", "passes"],
    &["explain", "symptom", "blocked-though-allowed"],
    &["explain", "symptom", "comes-and-goes"],
    &["would-break"],
    &["diff"],
    &["check"],
    &["list-managed"],
    &["uninstall"],
    &["crd"],
    &["completion"],
];

/// The examples of a help text. A line that ends with a backslash goes on in the next one.
fn examples(help: &str) -> Vec<String> {
    let (_, list) = help.split_once("Example").and_then(|(_, rest)| rest.split_once(":\n")).unwrap();
    let joined = list.replace("\\\n", "");
    joined.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

/// The same objects where the pods of `shop` belong to workloads. On the control plane its controllers would remove or replace such pods.
fn of_workloads(objects: &str) -> String {
    let labelled = objects.replace(r#""app": "web-0""#, r#""app": "web""#).replace(r#""app": "db-0""#, r#""app": "db""#);
    let mut list: Value = serde_json::from_str(&labelled).unwrap();
    let mut owned = 0;
    for object in list["items"].as_array_mut().unwrap() {
        let controller = match object["metadata"]["name"].as_str() {
            Some("web-0") => json!({ "kind": "ReplicaSet", "name": "web-7d9f", "controller": true }),
            Some("db-0") => json!({ "kind": "StatefulSet", "name": "db", "controller": true }),
            _ => continue,
        };
        object["metadata"]["ownerReferences"] = json!([controller]);
        object["spec"]["containers"][0]["ports"][0]["name"] = "sql".into();
        owned += 1;
    }
    assert_eq!(owned, 2);
    list.to_string()
}

#[tokio::test]
async fn each_example_of_the_help_runs_on_a_cluster() {
    let world = World::new().await.unwrap();
    // The examples name a namespace that other tests do not expect.
    world.discard();
    world.namespace_named("shop", &[("team", "shop")]).await.unwrap();
    running(&world, "shop", "web-0", "10.200.0.1").await;
    running(&world, "shop", "db-0", "10.200.0.2").await;
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": { "name": "db", "namespace": "shop" },
        "spec": { "selector": { "app": "db-0" }, "ports": [{ "name": "sql", "port": 5432, "targetPort": 8080 }] },
    });
    world.apply_yaml(&service.to_string()).await.unwrap();
    let policy = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": { "name": "db-from-web", "namespace": "shop" },
        "spec": { "podSelector": { "matchLabels": { "app": "db-0" } }, "ingress": [{ "from": [{ "podSelector": {} }] }] },
    });
    world.apply_yaml(&policy.to_string()).await.unwrap();

    let stage = world.plane().state_dir().join("examples");
    for (from, to) in [
        ("baseline.yaml", "baseline.yaml"),
        ("baseline-allows.yaml", "new-baseline.yaml"),
        ("flows.csv", "flows.csv"),
        ("diff/workloads.yaml", "workloads.yaml"),
        ("diff/old/shop.yaml", "old/shop.yaml"),
        ("diff/new/shop.yaml", "new/shop.yaml"),
    ] {
        let to = stage.join(to);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        let text = fs::read_to_string(examples_of_docs(from)).unwrap();
        fs::write(to, text.replace("web-7d4b-1", "web-0").replace("kube-system/coredns-5f9c-1", "10.200.1.1")).unwrap();
    }
    let objects = world.plane().run_kubectl(&["get", "ns,pods,svc,endpointslices,netpol", "-A", "-o", "json"]).unwrap();
    fs::write(stage.join("dump.json"), of_workloads(&objects)).unwrap();
    fs::write(stage.join("namespaces.yaml"), world.plane().run_kubectl(&["get", "ns", "-o", "yaml"]).unwrap()).unwrap();
    let bin = stage.join("bin");
    fs::create_dir_all(&bin).unwrap();
    let kubectl = world.plane().kubectl();
    symlink(Operator::binary().unwrap(), bin.join("policy-baseline")).unwrap();
    symlink(kubectl.get_program(), bin.join("kubectl")).unwrap();
    // No node of this cluster records flows.
    fs::write(bin.join("hubble"), "#!/bin/sh\nexec cat flows.csv\n").unwrap();
    fs::set_permissions(bin.join("hubble"), fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());

    for command in COMMANDS {
        let help = said(&run(Path::new("/no/kubeconfig"), &[command, &["--help"]].concat()).await, 0);
        for example in examples(&help) {
            let mut shell = Command::new("bash");
            shell.args(["-o", "pipefail", "-c", &example]).current_dir(&stage).env("PATH", &path);
            shell
                .envs(kubectl.get_envs().filter_map(|(name, value)| Some((name, value?))))
                .env("NO_PROXY", "127.0.0.1,localhost");
            let output = output(shell).await;
            let error = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(matches!(output.status.code(), Some(0 | 1)) && !error.contains("error: "), "{example}: {error}");
        }
    }
}

#[tokio::test]
async fn without_the_crds_each_command_answers_or_says_so() {
    let world = World::bare().await.unwrap();
    // An earlier test may have installed them.
    world.discard();
    let crds = ["policybaselines.policybaseline.io", "baselineoptouts.policybaseline.io"];
    world.plane().run_kubectl(&[&["delete", "crd", "--ignore-not-found"], &crds[..]].concat()).unwrap();
    let baselines: Api<PolicyBaseline> = Api::all(world.admin());
    let are_unknown = async || baselines.list(&ListParams::default()).await.is_err();
    world.eventually("the API server knows no baselines", TIMEOUT, are_unknown).await.unwrap();
    let kubeconfig = world.plane().admin_kubeconfig().to_owned();
    let (baseline, flows) = (examples_of_docs("baseline.yaml"), examples_of_docs("flows.csv"));
    let (baseline, flows) = (baseline.to_str().unwrap(), flows.to_str().unwrap());
    let ns = world.namespace("team", &[]).await.unwrap();
    running(&world, &ns, "web", "10.200.0.1").await;
    running(&world, &ns, "db", "10.200.0.2").await;
    let recording = world.plane().state_dir().join("flows.csv");
    fs::write(&recording, fs::read_to_string(flows).unwrap() + &format!("{ns}/web,{ns}/db,80,1,\n")).unwrap();
    let (from, to) = (format!("--from={ns}/web"), format!("--to={ns}/db"));
    let answers: [(&[&str], i32); 5] = [
        (&["explain", "flow", &from, &to, "--port=80"], 0),
        (&["render", "-f", baseline], 0),
        (&["would-break", "-f", baseline, "--flows", recording.to_str().unwrap()], 1),
        (&["diff", "-f", baseline, "-f", baseline], 0),
        (&["uninstall"], 0),
    ];
    for (args, code) in answers {
        assert!(!said(&run(&kubeconfig, args).await, code).is_empty(), "{args:?}");
    }
    let missing = "the cluster has no CRDs of policy-baseline, so there is no baseline and no opt-out. Install them with: ";
    for (args, code, level, says) in
        [(&["explain", "namespace", &ns][..], 2, "error", ""), (&["list-managed"], 0, "warning", "0 policies in 0 namespaces: ")]
    {
        let output = run(&kubeconfig, args).await;
        assert!(said(&output, code).starts_with(says), "{args:?}");
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(error.starts_with(&format!("{level}: {missing}")) && error.lines().count() == 1, "{args:?}: {error}");
    }
}

#[tokio::test]
async fn whoever_may_read_nothing_is_told_by_each_command_what_is_missing() {
    let world = World::new().await.unwrap();
    let kubeconfig = world.plane().service_account_kubeconfig("default", "default").await.unwrap();
    let (baseline, flows) = (examples_of_docs("baseline.yaml"), examples_of_docs("flows.csv"));
    let (baseline, flows) = (baseline.to_str().unwrap(), flows.to_str().unwrap());
    for (args, says) in [
        (&["render", "-f", baseline][..], "you may not list networkpolicies: "),
        (&["would-break", "-f", baseline, "--flows", flows], "you may not list networkpolicies: "),
        (&["diff", "-f", baseline, "-f", baseline], "you may not list networkpolicies: "),
        (&["check"], "cannot list the DaemonSets of network plugins, so the network plugin is not known: "),
        (&["list-managed"], "cannot read networkpolicies: "),
        (&["uninstall"], "cannot read networkpolicies: "),
    ] {
        let output = run(&kubeconfig, args).await;
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!((output.status.code(), error.lines().count(), output.stdout.len()), (Some(2), 1, 0), "{args:?}: {error}");
        assert!(error.starts_with(&format!("error: {says}")) && error.contains("forbidden"), "{args:?}: {error}");
    }
}
