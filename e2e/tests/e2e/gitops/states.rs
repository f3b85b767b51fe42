//! States of objects as the operator wrote them, kept as Argo CD keeps them upstream: a file for each state, and a list of what is said of it.

use kube::api::DynamicObject;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{customization, golden, judge, lua, read, words};
use policy_baseline_e2e::gitops::{GitOpsQuestion, gitops_verdicts};
use policy_baseline_e2e::repo;

/// `health_test.yaml`.
#[derive(Debug, Deserialize, Serialize)]
pub struct HealthTests {
    pub tests: Vec<HealthTest>,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HealthTest {
    pub health_status: HealthStatus,
    pub input_path: String,
}

#[derive(Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct HealthStatus {
    pub status: String,
    #[serde(default)]
    pub message: String,
}

/// The states of one kind that were seen, each with what Argo CD, Flux, and Flux with expressions must say.
pub struct States {
    kind: &'static str,
    seen: Vec<(&'static str, Value, [&'static str; 3])>,
}

impl States {
    pub fn of(kind: &'static str) -> Self {
        Self { kind, seen: Vec::new() }
    }

    pub fn add(&mut self, name: &'static str, object: &DynamicObject, expected: [&'static str; 3]) {
        self.seen.push((name, serde_json::to_value(object).unwrap(), expected));
    }

    /// Shows every state to Argo CD and to Flux. Compares the states with the stored ones.
    pub fn judge(self) {
        let folder = customization(self.kind);
        let objects: Vec<Value> = self.seen.iter().map(|(_, object, _)| object.clone()).collect();
        let mut tests = Vec::new();
        for ((name, object, expected), verdicts) in self.seen.iter().zip(judge(self.kind, &objects)) {
            assert_eq!(words(&verdicts), *expected, "{name}: {verdicts:?}\n{}", serde_yaml::to_string(object).unwrap());
            // Argo CD asks no health check about an object that is being deleted.
            if object["metadata"]["deletionTimestamp"].is_string() {
                continue;
            }
            let input_path = format!("testdata/{name}.yaml");
            golden(&format!("{folder}/{input_path}"), &serde_yaml::to_string(&timeless(object)).unwrap());
            let message = without_times(&verdicts[0].message);
            tests.push(HealthTest { health_status: HealthStatus { status: verdicts[0].status.clone(), message }, input_path });
        }
        golden(&format!("{folder}/health_test.yaml"), &serde_yaml::to_string(&HealthTests { tests }).unwrap());
        let stored = std::fs::read_dir(repo().join(folder).join("testdata")).unwrap().count();
        let deleted = objects.iter().filter(|object| object["metadata"]["deletionTimestamp"].is_string()).count();
        assert_eq!(stored, objects.len() - deleted, "testdata holds states that were not seen");
    }
}

/// The object without what differs from run to run.
fn timeless(object: &Value) -> Value {
    let mut object = object.clone();
    let metadata = object["metadata"].as_object_mut().unwrap();
    metadata.retain(|key, _| ["generation", "name", "namespace", "labels", "annotations"].contains(&key.as_str()));
    replace_times(&mut object);
    if let Some(revision) = object["status"].pointer_mut("/rollout/revision") {
        *revision = "0".repeat(32).into();
    }
    object
}

fn replace_times(value: &mut Value) {
    match value {
        Value::String(text) => *text = without_times(text),
        Value::Array(all) => all.iter_mut().for_each(replace_times),
        Value::Object(all) => all.values_mut().for_each(replace_times),
        _ => {}
    }
}

/// The text with one and the same time in the place of each time, but for that of the default status.
fn without_times(text: &str) -> String {
    const SHAPE: &str = "0000-00-00T00:00:00Z";
    const DEFAULT: &str = "1970-01-01T00:00:00Z";
    let is_time = |part: &str| {
        let alike = |(a, b): (char, char)| if b == '0' { a.is_ascii_digit() } else { a == b };
        part.len() == SHAPE.len() && part != DEFAULT && part.chars().zip(SHAPE.chars()).all(alike)
    };
    let (mut rest, mut written) = (text, String::new());
    while let Some(first) = rest.chars().next() {
        let is_next = rest.get(..SHAPE.len()).is_some_and(is_time);
        let (taken, put) =
            if is_next { (SHAPE.len(), "2026-01-01T00:00:00Z") } else { (first.len_utf8(), &rest[..first.len_utf8()]) };
        written.push_str(put);
        rest = &rest[taken..];
    }
    written
}

/// What Argo CD's own test does with the folder of a health check.
#[test]
fn the_form_for_upstream_passes_the_test_of_upstream() {
    for kind in ["PolicyBaseline", "BaselineOptOut"] {
        let folder = customization(kind);
        let all: HealthTests = serde_yaml::from_str(&read(&format!("{folder}/health_test.yaml"))).unwrap();
        let object = |test: &HealthTest| serde_yaml::from_str(&read(&format!("{folder}/{}", test.input_path))).unwrap();
        let asked = all.tests.iter().map(|test| GitOpsQuestion { object: object(test), lua: Some(lua(kind)), expressions: None });
        let verdicts = gitops_verdicts(&asked.collect::<Vec<_>>()).unwrap();
        for (test, verdict) in all.tests.iter().zip(verdicts) {
            assert_eq!(verdict.error, "", "{}", test.input_path);
            let found = HealthStatus { status: verdict.status, message: verdict.message };
            assert_eq!(found, test.health_status, "{}", test.input_path);
        }
        let shown = |status: &str| all.tests.iter().filter(|test| test.health_status.status == status).count();
        for status in ["Healthy", "Progressing", "Degraded", "Suspended"] {
            assert!(shown(status) > 0, "{kind}: no state is {status}");
        }
    }
}
