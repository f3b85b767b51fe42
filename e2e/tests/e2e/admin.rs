//! The admin port and the log: what probes, Prometheus and people read.

use std::net::TcpListener;
use std::process::{Command, Output};

use k8s_openapi::api::rbac::v1::ClusterRole;
use kube::Api;
use kube::api::DeleteParams;
use policy_baseline_e2e::{Operator, TIMEOUT, World};
use serde_json::{Value, json};

use crate::admin_port::{address, get, get_as, metric};
use crate::lifecycle::{delete_crd, restore_crd};
use crate::scene::{Plan, apply_baseline, fence, policies_of, until_holds, until_ready};
use crate::writes_failing::set_rules;

const INGRESS: &str = "baseline-default-deny-ingress";

#[tokio::test]
async fn the_metrics_count_what_happens_in_the_cluster() {
    let mut world = World::new().await.unwrap();
    world.start_operator().await.unwrap();
    apply_baseline(&world, "platform", &json!({})).await;
    let ns = world.namespace("counted", &[]).await.unwrap();
    let plan = Plan::of("platform");
    until_holds(&world, &ns, &plan).await;
    policies_of(&world.admin(), &ns).delete(INGRESS, &DeleteParams::default()).await.unwrap();
    until_holds(&world, &ns, &plan).await;
    until_ready(&world, "platform").await;

    let address = address(&world).await;
    // The operator may not have received the responses to its last writes yet.
    let is_counted = async || {
        let text = get(&address, "/metrics").2;
        let counted = |series: &str| metric(&text, &format!("policy_baseline_{series}")) >= 1.0;
        counted("repairs_total{outcome=\"repaired\"}") && counted("namespaces{state=\"protected\"}")
    };
    world.eventually("the repair is counted", TIMEOUT, is_counted).await.unwrap();
    let adds_up = async || {
        let text = get(&address, "/metrics").2;
        let states = text.lines().filter(|line| line.starts_with("policy_baseline_namespaces{state="));
        let sum: u32 = states.map(|line| line.rsplit(' ').next().unwrap().parse::<u32>().unwrap()).sum();
        sum == until_ready(&world, "platform").await.namespaces.selected
    };
    world.eventually("the states add up to the selected namespaces", TIMEOUT, adds_up).await.unwrap();
    let (code, head, text) = get(&address, "/metrics");
    assert_eq!(code, 200);
    assert!(head.contains("content-type: text/plain; version=0.0.4; charset=utf-8"), "{head}");
    assert!(text.contains("# TYPE policy_baseline_drift_total counter\n") && !text.contains("# EOF"), "{text}");
    let (code, head, open_metrics) =
        get_as(&address, "/metrics", "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;q=0.3");
    assert_eq!(code, 200);
    assert!(head.contains("content-type: application/openmetrics-text; version=1.0.0; charset=utf-8"), "{head}");
    assert!(open_metrics.contains("# TYPE policy_baseline_drift counter\n") && open_metrics.ends_with("# EOF\n"));
    let count = |series: &str| metric(&text, &format!("policy_baseline_{series}"));
    assert!(count("namespaces{state=\"protected\"}") >= 1.0);
    assert!((count("namespaces{state=\"failed\"}")).abs() < f64::EPSILON);
    assert!(count("repairs_total{outcome=\"created\"}") >= 3.0);
    assert!(count("repairs_total{outcome=\"repaired\"}") >= 1.0);
    assert!(count("drift_total{class=\"missing\",role=\"default_deny_ingress\"}") >= 1.0);
    assert!(count("api_writes_total{verb=\"apply\",outcome=\"ok\"}") >= 4.0);
    assert!(count("api_writes_total{verb=\"status\",outcome=\"ok\"}") >= 1.0);
    let ready = |status: &str| count(&format!("condition{{baseline=\"platform\",type=\"ready\",status=\"{status}\"}}"));
    assert!((ready("true") - 1.0).abs() < f64::EPSILON && ready("false").abs() < f64::EPSILON);
    for histogram in ["drift_repair", "namespace_protection", "reconcile", "status_write"] {
        assert!(count(&format!("{histogram}_seconds_count")) >= 1.0, "{histogram}");
    }
    assert!(
        count("drift_repair_seconds_sum") < count("drift_repair_seconds_count") * 30.0,
        "a time since it was seen, not since ever"
    );
    assert_eq!(get(&address, "/livez"), get(&address, "/readyz"));
    assert_eq!(get(&address, "/livez").2, "ok\n");
    assert_eq!(get(&address, "/secrets").0, 404);
}

#[tokio::test]
async fn readyz_names_the_crd_that_it_waits_for() {
    let mut world = World::new().await.unwrap();
    if world.plane().is_external() {
        return; // It would delete the baselines of an external cluster.
    }
    delete_crd(&world).await;
    world.start_operator().await.unwrap();
    let address = address(&world).await;
    let waits = async || get(&address, "/readyz").2.contains("policybaselines: the API server does not know policybaselines");
    world.eventually("readyz names the CRD", TIMEOUT, waits).await.unwrap();
    assert_eq!((get(&address, "/readyz").0, get(&address, "/livez").0), (503, 200), "to wait is no reason for a restart");
    restore_crd(&world);
    world.eventually("it is ready", TIMEOUT, async || get(&address, "/readyz").0 == 200).await.unwrap();
}

#[tokio::test]
async fn readyz_names_the_permission_that_it_waits_for() {
    let mut world = World::new().await.unwrap();
    let shipped = Api::<ClusterRole>::all(world.admin()).get("policy-baseline").await.unwrap().rules.unwrap();
    let mut narrowed = shipped.clone();
    narrowed.retain(|rule| rule.resources.as_deref() != Some(&["namespaces".to_owned()]));
    set_rules(&world, &narrowed).await;
    world.start_operator().await.unwrap();
    let address = address(&world).await;
    let waits = async || get(&address, "/readyz").2.contains("namespaces: not allowed to list and watch namespaces");
    world.eventually("readyz names the permission", TIMEOUT, waits).await.unwrap();
    set_rules(&world, &shipped).await;
    world.eventually("it is ready", TIMEOUT, async || get(&address, "/readyz").0 == 200).await.unwrap();
}

#[tokio::test]
async fn an_admin_port_that_is_taken_is_told_and_ends_the_operator() {
    let world = World::new().await.unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = run(&world, &[&format!("--admin-address={address}")]).await;
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains(&format!("error: cannot listen on {address}")) && said.contains("--admin-address"), "{said}");
}

/// Runs the operator as a person starts it, without the additions of the harness. For commands that end by themselves.
async fn run(world: &World, args: &[&str]) -> Output {
    let kubeconfig = world.operator_kubeconfig().await.unwrap();
    let mut command = Command::new(Operator::binary().unwrap());
    command.arg("run").args(args).env("KUBECONFIG", kubeconfig).env("NO_PROXY", "127.0.0.1,localhost").env_remove("RUST_LOG");
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

#[tokio::test]
async fn a_log_that_is_piped_is_json_with_the_facts_as_fields() {
    let mut world = World::new().await.unwrap();
    world.start_operator_with(&["--log-format=json", "--log-level=info,policy_baseline=debug"]).await.unwrap();
    apply_baseline(&world, "platform", &json!({})).await;
    let ns = world.namespace("logged", &[]).await.unwrap();
    until_holds(&world, &ns, &Plan::of("platform")).await;
    fence(&world, &Plan::of("platform"), &[]).await;
    let log = world.operator().unwrap().log();
    let lines: Vec<Value> =
        log.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect();
    let created: Vec<&Value> =
        lines.iter().filter(|line| line["message"] == "policies created" && line["namespace"] == *ns).collect();
    let [created] = created[..] else { panic!("{log}") };
    assert!(created["policies"].as_str().unwrap().contains(INGRESS), "{created}");
    assert_eq!((&created["baseline"], &created["level"]), (&json!("platform"), &json!("INFO")));
    let picked_up: Vec<&Value> = lines.iter().filter(|line| line["message"] == "baseline picked up").collect();
    let [picked_up] = picked_up[..] else { panic!("{log}") };
    assert_eq!(
        (&picked_up["baseline"], &picked_up["generation"], &picked_up["mode"]),
        (&json!("platform"), &json!(1), &json!("Enforce"))
    );
    let repaired = lines.iter().find(|line| line["message"] == "drift repaired").unwrap();
    assert_eq!(repaired["class"], "Missing");
    assert!(!log.contains('\u{1b}'), "no colours where nobody sees them");
}

#[tokio::test]
async fn flags_that_make_no_sense_are_refused_in_a_sentence() {
    let world = World::new().await.unwrap();
    for (flag, says) in [
        ("--admin-address=8080", "write an IP address and a port, such as 0.0.0.0:8080 or [::]:8080"),
        ("--log-level=loud=very", "write off, error, warn, info, debug or trace"),
        ("--log-level=verbose", "write off, error, warn, info, debug or trace"),
        ("--log-format=xml", "[possible values: text, json]"),
        ("--operator-namespace=Team A", "write a namespace: at most 63 lower-case letters"),
    ] {
        let output = run(&world, &[flag]).await;
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{flag}: {said}");
        assert!(said.contains(says), "{flag}: {said}");
    }
}
