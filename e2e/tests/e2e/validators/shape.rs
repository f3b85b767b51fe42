//! Every manifest has the shape that the API server knows: kubeconform says so without a cluster, and kubectl asks the API server.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

use policy_baseline_e2e::{World, built};
use serde::Deserialize;
use tempfile::TempDir;

use super::inputs::{Inputs, documents, inputs, prepared};
use super::schemas::{location, write_schemas};

/// One typo for each way to be wrong: where, what is right, what is typed instead, and what both tools name.
const TYPOS: [(&str, &str, &str, &str); 5] = [
    ("manifests/install.yaml", "        readinessProbe:", "        readynessProbe:", "readynessProbe"),
    ("manifests/default/service.yaml", "port: 8080", "port: '8080a'", "port"),
    ("manifests/samples/minimal.yaml", "mode: Enforce", "mode: Enforced", "mode"),
    ("manifests/samples/gitops/flux/production.yaml", "  prune: true", "  prunes: true", "prunes"),
    ("manifests/monitoring/pod-monitor/pod_monitor.yaml", "port: metrics", "prot: metrics", "prot"),
];

#[derive(Deserialize)]
struct Report {
    resources: Vec<Judged>,
}

#[derive(Deserialize)]
struct Judged {
    filename: String,
    kind: String,
    status: String,
    msg: String,
}

/// What kubeconform says of each object.
fn kubeconform(schemas: &TempDir, inputs: &Inputs) -> Vec<Judged> {
    let dir = tempfile::tempdir().unwrap();
    for (name, yaml) in inputs {
        fs::write(dir.path().join(name.replace(['/', ' ', ','], "_") + ".yaml"), yaml).unwrap();
    }
    let output = Command::new(built("validators", "kubeconform").unwrap())
        .args(["-strict", "-verbose", "-output", "json", "-schema-location", &location(schemas.path())])
        .arg(dir.path())
        .output()
        .unwrap();
    let report: Report = serde_json::from_slice(&output.stdout).unwrap_or_else(|err| {
        panic!("{err}: {}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
    });
    report.resources
}

/// What the API server says of a manifest, without storing it. Empty if there is no error and no warning.
fn kubectl(world: &World, yaml: &str) -> String {
    let args = ["apply", "--server-side", "--force-conflicts", "--dry-run=server", "--validate=strict", "-f", "-"];
    let mut kubectl =
        world.plane().kubectl().args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    kubectl.stdin.take().unwrap().write_all(yaml.as_bytes()).unwrap();
    let output = kubectl.wait_with_output().unwrap();
    assert_eq!(output.status.success(), output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stderr).unwrap()
}

#[tokio::test]
async fn kubeconform_and_the_api_server_accept_every_manifest_and_refuse_each_typo() {
    let world = prepared().await;
    let inputs = inputs(&world);
    let objects: Vec<_> = inputs.values().flat_map(|yaml| documents(yaml)).collect();
    assert!(inputs.len() > 60, "{:?}", inputs.keys());
    let schemas = tempfile::tempdir().unwrap();
    write_schemas(&world, &objects, schemas.path()).await;

    let judged = kubeconform(&schemas, &inputs);
    let wrong: Vec<String> = judged
        .iter()
        .filter(|one| one.status != "statusValid")
        .map(|one| format!("{} {}: {} {}", one.filename, one.kind, one.status, one.msg))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(judged.len(), objects.len());

    let namespaces = objects.iter().filter_map(|object| object["metadata"]["namespace"].as_str()).collect::<BTreeSet<_>>();
    for namespace in namespaces {
        // Some are there already.
        let _ = world.plane().run_kubectl(&["create", "namespace", namespace]);
    }
    for (name, yaml) in &inputs {
        assert_eq!(kubectl(&world, yaml), "", "{name}");
    }

    for (name, right, typed, named) in TYPOS {
        let yaml = inputs[name].replacen(right, typed, 1);
        assert_ne!(yaml, inputs[name], "{name} has no {right}");
        let wrong = Inputs::from([(name.to_owned(), yaml.clone())]);
        let judged = kubeconform(&schemas, &wrong);
        let refused: Vec<&Judged> = judged.iter().filter(|one| one.status == "statusInvalid").collect();
        assert!(!refused.is_empty() && refused.iter().any(|one| one.msg.contains(named)), "kubeconform, {name}: {typed}");
        let said = kubectl(&world, &yaml);
        assert!(said.contains(named), "kubectl, {name}: {said}");
    }
}
