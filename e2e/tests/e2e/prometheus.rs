//! The shipped alerts and the dashboard in the real Prometheus, which scrapes the real operator. And the objects for prometheus-operator,
//! with its CRDs.

use std::fs;
use std::io::Write as _;
use std::process::{Output, Stdio};

use policy_baseline_e2e::prometheus::{JOB, Prometheus, Sample, check_rules, crds, promtool};
use policy_baseline_e2e::{SYSTEM_NAMESPACE, TIMEOUT, World, repo};
use serde_json::{Value, json};

use crate::admin_port::{address, address_of, get};
use crate::opt_outs::{create as create_opt_out, opt_out, seconds_from_now, until_says};
use crate::others::{create, fight};
use crate::scene::{DENY_INGRESS, Plan, apply_baseline, condition, until_holds, until_ready, until_status};
use crate::support::a_second_later;

const PLATFORM: &str = "platform";

pub fn shipped(file: &str) -> String {
    fs::read_to_string(repo().join("manifests/monitoring").join(file)).unwrap()
}

pub fn said(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text).into_owned()).concat()
}

/// The expressions of all alerts, and those of all panels with every variable set to all.
fn expressions() -> [Vec<String>; 2] {
    let rule: Value = serde_yaml::from_str(&shipped("alerts/rules.yaml")).unwrap();
    let rules = rule["spec"]["groups"].as_array().unwrap().iter().flat_map(|group| group["rules"].as_array().unwrap());
    let board: Value = serde_json::from_str(&shipped("dashboard/policy-baseline.json")).unwrap();
    let panels = board["panels"].as_array().unwrap().iter().flat_map(|panel| panel["targets"].as_array().unwrap());
    let fill = |text: &str| text.replace("$job", ".*").replace("$namespace", ".*").replace("$__rate_interval", "1m");
    [
        rules.map(|rule| rule["expr"].as_str().unwrap().to_owned()).collect(),
        panels.map(|t| fill(t["expr"].as_str().unwrap())).collect(),
    ]
}

/// The names of our metrics in an expression.
fn metrics_in(expression: &str) -> Vec<String> {
    let words = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("policy_baseline_")).map(str::to_owned).collect()
}

#[test]
fn each_alert_fires_when_it_should_and_is_silent_when_it_should_not() {
    let outputs = check_rules().unwrap();
    for output in &outputs {
        assert!(output.status.success(), "{}", said(output));
    }
    let alerts = expressions()[0].len();
    assert!(said(&outputs[0]).contains(&format!("SUCCESS: {alerts} rules found")), "{}", said(&outputs[0]));
}

async fn until_alert(world: &World, prometheus: &Prometheus, name: &str, state: &str) -> Sample {
    let query = format!("ALERTS{{alertname=\"{name}\", alertstate=\"{state}\"}}");
    let there = async || {
        let mut found = prometheus.query(&query)?;
        anyhow::ensure!(found.len() < 2, "one alert for the install, not one for each instance: {found:?}");
        anyhow::Ok(found.pop())
    };
    world.eventually(&format!("{name} is {state}"), TIMEOUT, there).await.unwrap()
}

/// Two instances; a baseline with an old namespace, a bypass, an opt-out and a policy that somebody fights for; one that is stalled and
/// one that is suspended.
#[tokio::test]
async fn prometheus_finds_in_the_operator_what_alerts_and_dashboard_ask_for() {
    let mut world = World::new().await.unwrap();
    world.namespace("old", &[]).await.unwrap();
    a_second_later(&world).await;
    apply_baseline(&world, PLATFORM, &json!({})).await;
    world.start_operator().await.unwrap();
    let standby = world.another_operator(&[]).await.unwrap();
    let targets = [address(&world).await, address_of(&world, &standby).await];
    let prometheus = Prometheus::start(world.plane(), &[&targets[0], &targets[1]], SYSTEM_NAMESPACE).await.unwrap();
    let scraped = async || anyhow::Ok(prometheus.query("policy_baseline_contested_total == 0")?.len() > 8);
    world.eventually("both instances were scraped", TIMEOUT, scraped).await.unwrap();

    let team = world.namespace("team", &[]).await.unwrap();
    until_holds(&world, &team, &Plan::of(PLATFORM)).await;
    let open = json!({ "podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{}] });
    create(&world.admin(), &team, "open", &open).await;
    let exempt = world.namespace("exempt", &[]).await.unwrap();
    create_opt_out(&world, &exempt, &opt_out("partner", &["DefaultDenyEgress"], seconds_from_now(7200))).await;
    until_says(&world, &exempt, "partner", "True WithinLimits").await;
    fight(&world.admin(), &team, DENY_INGRESS, &json!({ "spec": { "ingress": [{}] } }), 6).await;
    let other = |more: Value| {
        let mut spec = json!({ "priority": 10, "namespaceSelector": { "matchLabels": { "of": "others" } } });
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        spec
    };
    apply_baseline(&world, "broken", &other(json!({ "namespaceSelector": { "matchLabels": { "Bad Key!": "x" } } }))).await;
    apply_baseline(&world, "resting", &other(json!({ "suspend": true }))).await;
    until_status(&world, "broken", "stalled", |status| condition(status, "Stalled").status == "True").await;
    until_status(&world, "resting", "suspended", |status| condition(status, "Suspended").status == "True").await;

    for (name, state) in [
        ("PolicyBaselineDriftContested", "firing"),
        ("PolicyBaselineOptOutEndsSoon", "firing"),
        ("PolicyBaselineBypassed", "pending"),
        ("PolicyBaselineExistingNamespacesOpen", "pending"),
        ("PolicyBaselineStalled", "pending"),
        ("PolicyBaselineSuspended", "pending"),
    ] {
        let alert = until_alert(&world, &prometheus, name, state).await;
        assert_eq!((&*alert.metric["job"], &*alert.metric["namespace"]), (JOB, SYSTEM_NAMESPACE));
        assert!(!alert.metric.contains_key("instance"), "{alert:?}");
    }
    let leads = async || anyhow::Ok(prometheus.query("ALERTS{alertname=\"PolicyBaselineNoLeader\"}")?.is_empty());
    world.eventually("the leader is seen", TIMEOUT, leads).await.unwrap();
    // The standby counts the bypass too, and it is shown once.
    let bypassed = async || {
        let all = prometheus.query("sum(policy_baseline_namespaces_bypassed)")?;
        let shown = prometheus.query(expressions()[1].iter().find(|panel| panel.contains("_bypassed")).unwrap())?;
        let number = |samples: &[Sample]| samples.first().map(Sample::number);
        anyhow::ensure!((number(&all), number(&shown)) == (Some(2.0), Some(1.0)), "{all:?} {shown:?}");
        anyhow::Ok(true)
    };
    world.eventually("two instances count one bypass", TIMEOUT, bypassed).await.unwrap();

    let [alerts, panels] = expressions();
    let names: Vec<String> = alerts.iter().chain(&panels).flat_map(|expression| metrics_in(expression)).collect();
    for expression in names.iter().chain(&panels) {
        let has_data = async || anyhow::Ok(!prometheus.query(expression)?.is_empty());
        world.eventually(&format!("there is data for {expression}"), TIMEOUT, has_data).await.unwrap();
    }
    assert!(prometheus.query("policy_baseline_no_such_metric").unwrap().is_empty());
    let down = prometheus.query("up == 0 or scrape_samples_scraped == 0").unwrap();
    assert!(down.is_empty(), "{down:?}");
}

#[tokio::test]
async fn the_metrics_keep_to_the_conventions_of_prometheus() {
    let mut world = World::new().await.unwrap();
    apply_baseline(&world, PLATFORM, &json!({})).await;
    world.start_operator().await.unwrap();
    until_ready(&world, PLATFORM).await;
    let text = get(&address(&world).await, "/metrics").2;
    assert!(text.contains("\npolicy_baseline_condition{"), "{text}");
    let check = |text: &str| {
        let mut tool =
            promtool().unwrap().args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        tool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        tool.wait_with_output().unwrap()
    };
    let output = check(&text);
    assert!(output.status.success(), "{}", said(&output));
    assert!(!check(&text.replace("_drift_total", "_drift")).status.success(), "a counter without _total is refused");
}

#[tokio::test]
async fn the_crds_of_prometheus_operator_accept_the_components() {
    let world = World::new().await.unwrap();
    world.discard();
    let kubectl = |args: &[&str]| world.plane().kubectl().args(args).output().unwrap();
    for file in crds() {
        let applied = kubectl(&["apply", "--server-side", "-f", file.to_str().unwrap()]);
        assert!(applied.status.success(), "{}", said(&applied));
    }
    let waited = kubectl(&["wait", "--for=condition=Established", "--timeout=30s", "crd", "--all"]);
    assert!(waited.status.success(), "{}", said(&waited));
    for component in ["alerts", "service-monitor", "pod-monitor"] {
        let dir = format!("manifests/monitoring/{component}");
        let applied = async || {
            let output = kubectl(&["apply", "--server-side", "--validate=strict", "-k", &dir]);
            if output.status.success() && output.stderr.is_empty() { Ok(true) } else { Err(said(&output)) }
        };
        world.eventually(&dir, TIMEOUT, applied).await.unwrap();
    }
    let typo = world.plane().state_dir().join("typo.yaml");
    fs::write(&typo, shipped("pod-monitor/pod_monitor.yaml").replace("port: metrics", "prot: metrics")).unwrap();
    let refused = kubectl(&["apply", "--server-side", "--validate=strict", "-f", typo.to_str().unwrap()]);
    assert!(!refused.status.success() && said(&refused).contains("prot"), "{}", said(&refused));
}
