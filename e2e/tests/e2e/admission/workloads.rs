//! Pods, and the workloads that make them.

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::PostParams;
use serde_json::{Value, json};

/// Creates nothing.
pub fn dry() -> PostParams {
    PostParams { dry_run: true, ..PostParams::default() }
}

/// The pod as a node shows a static pod that it runs.
pub fn mirror_of(mut pod: Pod) -> Pod {
    pod.annotations_mut().insert("kubernetes.io/config.mirror".into(), "hash".into());
    pod.spec.as_mut().unwrap().node_name = Some("node-1".into());
    pod
}

/// One object named `web` of each kind with a template of pods: its kind, the path at which it is created, and the object.
pub fn workloads(ns: &str, template: &Value) -> [(&'static str, String, Value); 5] {
    let selector = json!({ "matchLabels": { "app": "web" } });
    let mut once = template.clone();
    once["spec"]["restartPolicy"] = json!("Never");
    [
        ("Deployment", "apps/v1", "deployments", json!({ "selector": selector, "template": template })),
        ("StatefulSet", "apps/v1", "statefulsets", json!({ "serviceName": "web", "selector": selector, "template": template })),
        ("DaemonSet", "apps/v1", "daemonsets", json!({ "selector": selector, "template": template })),
        ("Job", "batch/v1", "jobs", json!({ "template": once })),
        ("CronJob", "batch/v1", "cronjobs", json!({ "schedule": "0 0 * * *", "jobTemplate": { "spec": { "template": once } } })),
    ]
    .map(|(kind, version, plural, spec)| {
        let object = json!({ "apiVersion": version, "kind": kind, "metadata": { "name": "web" }, "spec": spec });
        (kind, format!("/apis/{version}/namespaces/{ns}/{plural}"), object)
    })
}
