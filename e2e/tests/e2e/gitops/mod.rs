//! Argo CD and Flux beside the operator: what they make of its statuses, whether they prune its policies, and the files that we ship for them.

mod baselines;
mod opt_outs;
mod page;
mod sandbox;
mod states;
mod tracking;

use policy_baseline_e2e::gitops::{GitOpsQuestion, GitOpsVerdict, gitops_verdicts};
use policy_baseline_e2e::repo;
use serde::Deserialize;
use serde_json::Value;

const SAMPLES: &str = "manifests/samples/gitops";

fn read(path: &str) -> String {
    std::fs::read_to_string(repo().join(path)).unwrap_or_else(|err| panic!("{path}: {err}"))
}

/// Compares text with a file of the repository. With `GOLDEN=accept` in the environment, it writes the file instead.
fn golden(path: &str, text: &str) {
    if std::env::var("GOLDEN").as_deref() == Ok("accept") {
        std::fs::create_dir_all(repo().join(path).parent().unwrap()).unwrap();
        std::fs::write(repo().join(path), text).unwrap();
        return;
    }
    let stored = std::fs::read_to_string(repo().join(path)).unwrap_or_default();
    assert!(stored == text, "{path} differs; GOLDEN=accept rewrites it. Now it is:\n{text}");
}

fn documents(text: &str) -> Vec<Value> {
    serde_yaml::Deserializer::from_str(text).map(|document| Value::deserialize(document).unwrap()).collect()
}

/// The folder of a kind, in the form that Argo CD accepts upstream.
fn customization(kind: &str) -> String {
    format!("e2e/gitops/resource_customizations/policybaseline.io/{kind}")
}

/// The health check of a kind for Argo CD.
fn lua(kind: &str) -> String {
    read(&format!("{}/health.lua", customization(kind)))
}

/// The expressions by which the sample for Flux judges a kind.
fn expressions(kind: &str) -> Value {
    let all = documents(&read(&format!("{SAMPLES}/flux/production.yaml")));
    let checks = all.iter().filter_map(|object| object["spec"]["healthCheckExprs"].as_array()).flatten();
    checks.into_iter().find(|check| check["kind"] == kind).cloned().unwrap()
}

/// What Argo CD says with our health check, Flux by itself, and Flux with the expressions of our sample.
fn judge(kind: &str, objects: &[Value]) -> Vec<[GitOpsVerdict; 3]> {
    let (lua, expressions) = (lua(kind), expressions(kind));
    let asked = objects.iter().flat_map(|object| {
        let plain = GitOpsQuestion { object: object.clone(), ..GitOpsQuestion::default() };
        [
            GitOpsQuestion { lua: Some(lua.clone()), ..plain.clone() },
            plain.clone(),
            GitOpsQuestion { expressions: Some(expressions.clone()), ..plain },
        ]
    });
    let answers = gitops_verdicts(&asked.collect::<Vec<_>>()).unwrap();
    answers.chunks(3).map(|three| <[GitOpsVerdict; 3]>::try_from(three.to_vec()).unwrap()).collect()
}

fn words(verdicts: &[GitOpsVerdict; 3]) -> [&str; 3] {
    verdicts.each_ref().map(|verdict| if verdict.error.is_empty() { &*verdict.status } else { "error" })
}
