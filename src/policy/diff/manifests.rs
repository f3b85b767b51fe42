//! Reads manifests: the policies and the baseline of one version, and the pods that workloads would have.

use std::collections::HashMap;

use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::{
    api::names::{group_of, is_other_policy_kind},
    policy::{
        flow::{FlowDump, FlowNamespace, FlowObject, FlowPod, FlowPolicy},
        preview::{PreviewedBaseline, all_objects},
    },
};

/// The policies of one version, and its baseline.
#[derive(Debug, Default)]
pub struct DiffSide {
    pub policies: Vec<FlowPolicy>,
    pub baseline: Option<PreviewedBaseline>,
    /// One sentence about each object that is not judged.
    pub warnings: Vec<String>,
}

/// The most pods that stand for a workload.
const MOST_PODS: usize = 2;

/// Pods and namespaces of manifests. No cluster has given them addresses.
#[derive(Debug, Default)]
pub struct WorkloadManifests {
    dump: FlowDump,
    /// The kinds of the workloads of each name, by namespace and name.
    kinds: HashMap<(String, String), Vec<String>>,
}

/// What an object is called in a message.
fn name_of(object: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (kind, metadata) = (text(&object["kind"]), &object["metadata"]);
    match (text(&metadata["namespace"]), text(&metadata["name"])) {
        (namespace, name) if namespace.is_empty() => format!("the {kind} {name}"),
        (namespace, name) => format!("the {kind} {namespace}/{name}"),
    }
}

/// The API group and the kind.
fn group_and_kind(object: &Value) -> (&str, &str) {
    let version = object["apiVersion"].as_str().unwrap_or_default();
    (group_of(version), object["kind"].as_str().unwrap_or_default())
}

fn read<T: DeserializeOwned>(object: &Value) -> Result<T, String> {
    serde_path_to_error::deserialize(object).map_err(|error| format!("{}: {}: {}", name_of(object), error.path(), error.inner()))
}

/// Puts an object without a namespace into this one.
fn into_namespace(object: &mut Value, namespace: &str) -> Result<(), String> {
    if !object["metadata"].is_object() {
        return Err(format!("{}: metadata is no object: write metadata: {{name: NAME}}", name_of(object)));
    }
    if object["metadata"]["namespace"].as_str().is_none_or(str::is_empty) {
        object["metadata"]["namespace"] = namespace.into();
    }
    Ok(())
}

impl DiffSide {
    /// Whether it has objects of this API group and kind.
    pub fn reads(group: &str, kind: &str) -> bool {
        matches!((group, kind), ("networking.k8s.io", "NetworkPolicy") | (_, "PolicyBaseline"))
    }

    /// Adds what a text of YAML or JSON has. Objects without a namespace are in this one. An error names the object.
    pub fn add(&mut self, text: &str, namespace: &str, operator_namespace: &str) -> Result<(), String> {
        for mut object in all_objects(text).map_err(|error| error.to_string())? {
            match group_and_kind(&object) {
                ("networking.k8s.io", "NetworkPolicy") => {
                    into_namespace(&mut object, namespace)?;
                    self.policies.push(read(&object)?);
                }
                ("extensions", "NetworkPolicy") => {
                    return Err(format!(
                        "{}: no API server takes extensions/v1beta1 any more: write networking.k8s.io/v1",
                        name_of(&object)
                    ));
                }
                (_, "PolicyBaseline") => {
                    if let Some(other) = &self.baseline {
                        return Err(format!(
                            "{} is the second baseline beside {}. Give one: only the operator decides between several",
                            name_of(&object),
                            other.name()
                        ));
                    }
                    let baseline = PreviewedBaseline::read(&object.to_string(), operator_namespace);
                    self.baseline = Some(baseline.map_err(|error| format!("{}: {error}", name_of(&object)))?);
                }
                (group, kind) if is_other_policy_kind(&format!("{}s.{group}", kind.to_lowercase())) => {
                    self.warnings.push(format!(
                        "{} is not compared: only NetworkPolicies and baselines are. It may decide otherwise",
                        name_of(&object)
                    ));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Whether it has nothing to judge.
    pub const fn is_empty(&self) -> bool {
        self.policies.is_empty() && self.baseline.is_none()
    }
}

impl WorkloadManifests {
    /// Whether it has objects of this API group and kind.
    pub fn reads(group: &str, kind: &str) -> bool {
        (group, kind) == ("", "Namespace") || template_of(group, kind).is_some()
    }

    /// Adds the pods of the workloads, and the namespaces, of a text of YAML or JSON.
    pub fn add(&mut self, text: &str, namespace: &str) -> Result<(), String> {
        for mut object in all_objects(text).map_err(|error| error.to_string())? {
            let (group, kind) = group_and_kind(&object);
            if (group, kind) == ("", "Namespace") {
                self.dump.objects.push(FlowObject::Namespace(read::<FlowNamespace>(&object)?));
                continue;
            }
            let Some(path) = template_of(group, kind) else { continue };
            let template = object.pointer(path).cloned().unwrap_or_default();
            into_namespace(&mut object, namespace)?;
            let first = self.first_number(&object);
            for number in first..first + pods_of(&object) {
                let pod = pod(&object, &template, number);
                self.dump.objects.push(FlowObject::Pod(read::<FlowPod>(&pod)?));
            }
        }
        Ok(())
    }

    /// The number of the first pod of a workload. Workloads of several kinds may have one name, and each has pods of its own. One that is given
    /// twice replaces itself.
    fn first_number(&mut self, object: &Value) -> usize {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (metadata, kind) = (&object["metadata"], text(&object["kind"]));
        let kinds = self.kinds.entry((text(&metadata["namespace"]), text(&metadata["name"]))).or_default();
        let known = kinds.iter().position(|known| *known == kind).unwrap_or_else(|| {
            kinds.push(kind);
            kinds.len() - 1
        });
        known * MOST_PODS + 1
    }

    /// The objects, as those of a dump. None if there is no pod.
    pub fn dump(self) -> Option<FlowDump> {
        let has_pods = self.dump.objects.iter().any(|object| matches!(object, FlowObject::Pod(_)));
        has_pods.then_some(self.dump)
    }
}

/// Where the template of the pods of a kind is, as a JSON pointer; none if it is no workload.
fn template_of(group: &str, kind: &str) -> Option<&'static str> {
    match (group, kind) {
        ("", "Pod") => Some(""),
        ("apps", "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet")
        | ("", "ReplicationController")
        | ("batch", "Job") => Some("/spec/template"),
        ("batch", "CronJob") => Some("/spec/jobTemplate/spec/template"),
        _ => None,
    }
}

/// How many pods stand for a workload: two, so that the flows between its own pods are judged too. A job and a pod are one.
fn pods_of(object: &Value) -> usize {
    if matches!(object["kind"].as_str(), Some("Pod" | "Job" | "CronJob")) { 1 } else { MOST_PODS }
}

/// A pod of a workload. What stands behind `~` in its name tells it apart from the others.
fn pod(object: &Value, template: &Value, number: usize) -> Value {
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    json!({
        "kind": "Pod",
        "metadata": {
            "name": format!("{name}~{number}"), "namespace": object["metadata"]["namespace"],
            "labels": template["metadata"]["labels"],
        },
        "spec": if template["spec"].is_null() { json!({}) } else { template["spec"].clone() },
        "status": {"phase": "Running"},
    })
}
