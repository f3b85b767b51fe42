//! The API server cannot be reached, or rejects the credentials: one line says so, with the address, the answer, and what to do.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Instant;
use std::{fs, slice};

use policy_baseline_e2e::proxy::{Fault, Moment, When};
use policy_baseline_e2e::{Operator, TIMEOUT, World, repo};
use serde_json::{Value, json};

use crate::admin_port::{address_of, get, metric};
use crate::faults::{PLATFORM, behind_a_proxy};
use crate::scene::{Plan, apply_baseline, until_holds};
use crate::support::took;

/// So many attempts fail before the lines are counted.
const ATTEMPTS: usize = 20;

/// A kubeconfig of the operator with one change. Returns its path, and the address in it.
async fn kubeconfig(world: &World, file: &str, change: impl FnOnce(&mut Value)) -> (PathBuf, String) {
    let path = world.operator_kubeconfig().await.unwrap();
    let mut config: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    change(&mut config);
    let path = world.plane().state_dir().join(file);
    fs::write(&path, config.to_string()).unwrap();
    (path, config["clusters"][0]["cluster"]["server"].as_str().unwrap().to_owned())
}

async fn run(kubeconfig: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(Operator::binary().unwrap());
    command.args(args).env("KUBECONFIG", kubeconfig).env("NO_PROXY", "127.0.0.1,localhost").env_remove("RUST_LOG");
    tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap()
}

#[tokio::test]
async fn each_subcommand_says_in_one_line_that_there_is_no_cluster_or_that_the_token_or_the_context_is_wrong() {
    let world = World::new().await.unwrap();
    let nobody = |config: &mut Value| config["clusters"][0]["cluster"]["server"] = json!("https://127.0.0.1:1");
    let wrong = |config: &mut Value| config["users"][0]["user"] = json!({ "token": "wrong" });
    // Connections to it are made, and nobody ever answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let nothing = |config: &mut Value| config["clusters"][0]["cluster"]["server"] = json!(format!("https://127.0.0.1:{port}"));
    let refused = ["cannot be reached: connection refused", "Check that it runs"];
    let no_answer = ["does not answer in time", "Check its load"];
    let unauthorized = ["rejects the credentials (401 Unauthorized)", "renew it"];
    let examples = repo().join("docs/examples");
    let example = |name: &str| examples.join(name).to_str().unwrap().to_owned();
    let (baseline, flows) = (example("baseline.yaml"), example("flows.csv"));
    let commands = [
        &["explain", "namespace", "default"][..],
        &["explain", "flow", "--from=a/b", "--to=c/d", "--port=80"],
        &["render", "-f", &baseline],
        &["would-break", "-f", &baseline, "--flows", &flows],
        &["diff", "-f", &baseline, "-f", &baseline],
        &["check"],
        &["list-managed"],
        &["uninstall"],
    ];
    for ((path, address), says) in [
        (kubeconfig(&world, "nobody", nobody).await, refused),
        (kubeconfig(&world, "nothing", nothing).await, no_answer),
        (kubeconfig(&world, "wrong", wrong).await, unauthorized),
    ] {
        for args in commands {
            let start = Instant::now();
            let output = run(&path, args).await;
            took(&format!("{} says that there is no cluster", args[0]), start);
            let said = String::from_utf8(output.stderr).unwrap();
            assert_eq!((output.status.code(), said.lines().count()), (Some(2), 1), "{args:?}: {said}");
            assert!(said.starts_with("error: ") && output.stdout.is_empty(), "{args:?}: {said}");
            for words in says.iter().chain(slice::from_ref(&&*address)) {
                assert!(said.contains(words), "{args:?}: {words}: {said}");
            }
        }
    }
    let path = world.operator_kubeconfig().await.unwrap();
    let config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let output = run(&path, &["explain", "namespace", "default", "--context=nope"]).await;
    let there_is = config["contexts"][0]["name"].as_str().unwrap();
    let expected = format!("error: the kubeconfig has no context \"nope\"; it has these: {there_is}\n");
    assert_eq!((output.status.code(), String::from_utf8(output.stderr).unwrap()), (Some(2), expected));
}

#[tokio::test]
async fn i9_an_operator_whose_token_is_rejected_logs_that_once_however_often_it_tries() {
    let Some((mut world, proxy)) = behind_a_proxy().await else { return };
    proxy.on(|_| true, When::Always, Fault::Answer(401, Moment::Before));
    world.start_operator().await.unwrap();
    let log = || world.operator().unwrap().log();
    world.eventually("it says so", TIMEOUT, async || log().contains(" WARN ")).await.unwrap();
    // All its watches began at once, so some attempts were answered before the line.
    let before = proxy.struck();
    world.eventually("it tries and tries", TIMEOUT, async || proxy.struck() >= before + ATTEMPTS).await.unwrap();
    let log = log();
    let [told] = log.lines().filter(|line| line.contains(" WARN ")).collect::<Vec<_>>()[..] else { panic!("{log}") };
    assert!(told.contains("rejects the credentials (401 Unauthorized)") && told.contains("renew it"), "{told}");

    proxy.calm();
    let team = world.namespace("team", &[]).await.unwrap();
    until_holds(&world, &team, &Plan::of(PLATFORM)).await;
    assert_eq!(world.operator().unwrap().log().matches("the API server answers again").count(), 1);
}

/// In a pod, the cause may be a NetworkPolicy: the one that `manifests/default` adds for the operator.
#[tokio::test]
async fn an_operator_that_is_cut_off_names_the_address_and_its_own_network_policy_and_its_metrics_show_that_nobody_leads() {
    let world = World::new().await.unwrap();
    if world.plane().is_external() {
        return;
    }
    apply_baseline(&world, PLATFORM, &json!({})).await;
    // So that the namespace is newer.
    crate::support::a_second_later(&world).await;
    let (path, server) = kubeconfig(&world, "in-a-pod", |_| ()).await;
    let in_a_pod = [("KUBERNETES_SERVICE_HOST", "10.96.0.1")];
    let operator = Operator::start(world.plane(), &path, &["--lease-duration=3s"], &in_a_pod).unwrap();
    let team = world.namespace("team", &[]).await.unwrap();
    until_holds(&world, &team, &Plan::of(PLATFORM)).await;
    let address = address_of(&world, &operator).await;
    let leads = || metric(&get(&address, "/metrics").2, "policy_baseline_leader") > 0.0;
    assert!(leads());

    world.plane().kill_apiserver().unwrap();
    // The alert of docs/monitoring.md watches this metric. The probes succeed all the same.
    world.eventually("nobody leads", TIMEOUT, async || !leads()).await.unwrap();
    let cannot = format!("the API server at {server} cannot be reached: connection refused");
    world.eventually("it says so", TIMEOUT, async || operator.log().contains(&cannot)).await.unwrap();
    assert_eq!(["/livez", "/readyz"].map(|path| get(&address, path).0), [200, 200]);
    let log = operator.log();
    let told: Vec<&str> = log.lines().filter(|line| line.contains(&cannot)).collect();
    let [told] = told[..] else { panic!("{log}") };
    assert!(told.contains("NetworkPolicy of the operator's own pod") && told.contains("network_policy.yaml"), "{told}");

    world.plane().start_apiserver().await.unwrap();
    let start = Instant::now();
    world.eventually("it leads again", TIMEOUT, async || leads()).await.unwrap();
    let new = world.namespace("new", &[]).await.unwrap();
    until_holds(&world, &new, &Plan::of(PLATFORM)).await;
    took("a namespace is protected after the API server is back", start);
}
