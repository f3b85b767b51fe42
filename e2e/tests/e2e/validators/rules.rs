//! kube-score judges what our manifests ask for: resources, probes, security contexts, who selects whom. Each exception has its reason.

use std::collections::BTreeSet;
use std::io::Write;
use std::process::{Command, Stdio};

use policy_baseline_e2e::{World, built};
use serde_json::Value;

use super::inputs::{PRODUCTION, chart};

/// Checks that the Deployment does not pass, and why it stays as it is.
const EXCEPTIONS: [(&str, &str); 6] = [
    (
        "container-image-pull-policy",
        "a node that has the image starts the operator also when the registry is down; the tag is fixed",
    ),
    ("container-resources", "a CPU limit would delay repairs; memory has a limit"),
    ("container-cpu-requests-equal-limits", "it has no CPU limit"),
    ("container-memory-requests-equal-limits", "it rests at a fraction of what a large cluster needs: docs/performance.md"),
    ("container-resource-requests-equal-limits", "the sum of the two above"),
    (
        "container-ephemeral-storage-request-and-limit",
        "it writes no file, and the kubelet rotates its log; a limit could only evict it",
    ),
];

/// Check and object of all that kube-score does not find good.
fn findings(yaml: &str) -> BTreeSet<(String, String)> {
    let mut tool = Command::new(built("validators", "kube-score").unwrap())
        .args(["score", "--output-format=json", "--all-default-optional", "--kubernetes-version=v1.36", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    tool.stdin.take().unwrap().write_all(yaml.as_bytes()).unwrap();
    let output = tool.wait_with_output().unwrap();
    let objects: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    assert!(!objects.is_empty());
    let mut found = BTreeSet::new();
    for object in objects {
        let name = ["/type_meta/kind", "/object_meta/name"].map(|at| object.pointer(at).unwrap().as_str().unwrap()).join("/");
        for check in object["checks"].as_array().unwrap() {
            if check["skipped"] != true && check["grade"].as_i64().unwrap() < GOOD {
                found.insert((check["check"]["id"].as_str().unwrap().to_owned(), name.clone()));
            }
        }
    }
    found
}

/// The best grade of kube-score.
const GOOD: i64 = 10;

#[tokio::test]
async fn kube_score_finds_nothing_but_what_has_a_reason() {
    let world = World::bare().await.unwrap();
    let build = |dir: &str| world.plane().run_kubectl(&["kustomize", dir]).unwrap();
    let named: BTreeSet<_> = EXCEPTIONS.map(|(check, _)| (check.to_owned(), "Deployment/policy-baseline".to_owned())).into();
    let default = build("manifests/default");
    for (what, yaml) in [
        ("default", &default),
        ("production", &build("manifests/production")),
        ("chart", &chart(&[])),
        ("chart, production", &chart(&[PRODUCTION])),
    ] {
        assert_eq!(findings(yaml), named, "{what}");
    }

    let budget = "maxUnavailable: 1\n  selector:\n    matchLabels:\n      app.kubernetes.io/name: ";
    for (right, wrong, check) in [
        ("readOnlyRootFilesystem: true", "readOnlyRootFilesystem: false", "container-security-context-readonlyrootfilesystem"),
        ("path: /livez", "path: /readyz", "pod-probes-identical"),
        ("replicas: 2", "replicas: 1", "deployment-replicas"),
        (&*format!("{budget}policy-baseline"), &*format!("{budget}other"), "deployment-has-poddisruptionbudget"),
    ] {
        let changed = default.replacen(right, wrong, 1);
        assert_ne!(changed, default, "{right}");
        let new: Vec<_> = findings(&changed).difference(&named).map(|(check, _)| check.clone()).collect();
        assert!(new.iter().any(|found| found == check), "{wrong}: {new:?}");
    }
}
