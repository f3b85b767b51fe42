//! What people install to watch the operator, and the commands of the runbooks. The suite `prometheus` runs the alerts.

use std::fs;

use policy_baseline_e2e::{SYSTEM_NAMESPACE, World, repo};
use serde_json::{Value, json};

use crate::docs::page;
use crate::prometheus::{said, shipped};
use crate::samples::{commands, yaml_blocks};
use crate::scene::{apply_baseline, until_ready};
use crate::support::shell;

#[tokio::test]
async fn the_components_are_built_with_the_operator_as_the_page_says() {
    let world = World::new().await.unwrap();
    let dir = tempfile::tempdir_in(repo().join("target")).unwrap();
    let manifests = "../../manifests";
    let page = page("monitoring.md");
    let block = yaml_blocks(&page).into_iter().find(|block| block.contains("../monitoring/alerts")).unwrap();
    let pod = block.replace("service-monitor", "pod-monitor");
    for (text, kind) in [(block, "ServiceMonitor"), (pod, "PodMonitor")] {
        let text = text
            .replace("../default", &format!("{manifests}/default"))
            .replace("../monitoring", &format!("{manifests}/monitoring"));
        fs::write(dir.path().join("kustomization.yaml"), text).unwrap();
        let built = world.plane().kubectl().arg("kustomize").arg(dir.path()).output().unwrap();
        assert!(built.status.success(), "{}", said(&built));
        let built = said(&built);
        let documents: Vec<Value> = built.split("\n---\n").map(|document| serde_yaml::from_str(document).unwrap()).collect();
        let of = |kind: &str| documents.iter().find(|object| object["kind"] == kind).unwrap_or_else(|| panic!("no {kind}"));
        for kind in ["PrometheusRule", kind] {
            assert_eq!(of(kind)["metadata"]["labels"]["release"], "kube-prometheus-stack");
            assert_eq!(of(kind)["metadata"]["namespace"], SYSTEM_NAMESPACE);
        }
        // What is selected, and the port that is named, exist.
        let container = &of("Deployment")["spec"]["template"]["spec"]["containers"][0];
        let (selected, ports, endpoints) = match kind {
            "ServiceMonitor" => (of("Service"), &of("Service")["spec"]["ports"], "endpoints"),
            _ => (&of("Deployment")["spec"]["template"], &container["ports"], "podMetricsEndpoints"),
        };
        let monitor = &of(kind)["spec"];
        for (key, value) in monitor["selector"]["matchLabels"].as_object().unwrap() {
            assert_eq!(selected["metadata"]["labels"][key], *value);
        }
        assert_eq!(monitor[endpoints][0]["port"], ports[0]["name"]);
        let board = documents.iter().find(|object| object["metadata"]["name"] == "policy-baseline-dashboard").unwrap();
        assert_eq!(board["metadata"]["labels"]["grafana_dashboard"], "1");
        assert_eq!(board["data"]["policy-baseline.json"].as_str().unwrap(), shipped("dashboard/policy-baseline.json"));
    }
}

/// The commands of the runbooks that read objects of the API server. The others need pods.
#[tokio::test]
async fn the_commands_of_the_runbooks_exist() {
    let mut world = World::new().await.unwrap();
    apply_baseline(&world, "platform", &json!({})).await;
    world.start_operator().await.unwrap();
    until_ready(&world, "platform").await;
    let mut ran = 0;
    for command in commands(&page("runbooks/alerts.md")).iter().filter(|command| command.starts_with("kubectl get ")) {
        let output = shell(&world, command).output().unwrap();
        let empty = |line: &str| line.starts_with("No resources found");
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() && errors.lines().all(empty), "{command}: {errors}");
        ran += 1;
    }
    assert!(ran > 15, "{ran}");
}
