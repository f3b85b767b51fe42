//! The Helm chart, with the real Helm on the real API server. `make helm` builds Helm.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Output};

use policy_baseline_e2e::{World, built};
use serde::Deserialize;
use serde_json::Value;

mod adopt;
mod lifecycle;
mod names;
mod page;
mod same;
mod values;

const CHART: &str = "manifests/helm";
const RELEASE: &str = "policy-baseline";
const KEEP: &str = "helm.sh/resource-policy";

pub fn binary() -> PathBuf {
    built("helm", "helm").unwrap()
}

/// A program of the administrator of this control plane, in the root of the repository.
pub fn as_admin(world: &World, mut program: Command) -> Command {
    let kubectl = world.plane().kubectl();
    program.envs(kubectl.get_envs().filter_map(|(name, value)| Some((name, value?))));
    for dir in ["CACHE", "CONFIG", "DATA"] {
        program.env(format!("HELM_{dir}_HOME"), world.plane().state_dir().join("helm").join(dir));
    }
    program.env("NO_PROXY", "127.0.0.1,localhost").current_dir(kubectl.get_current_dir().unwrap());
    program
}

fn output(world: &World, args: &[&str]) -> Output {
    as_admin(world, Command::new(binary())).args(args).output().unwrap()
}

/// Runs Helm, which must succeed. Returns what it printed.
fn helm(world: &World, args: &[&str]) -> String {
    let output = output(world, args);
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    assert!(output.status.success(), "helm {}: {}", args.join(" "), said[1]);
    said.concat()
}

/// Runs Helm, which must fail. Returns what it said.
fn refused(world: &World, args: &[&str]) -> String {
    let output = output(world, args);
    assert!(!output.status.success(), "helm {}", args.join(" "));
    String::from_utf8(output.stderr).unwrap()
}

/// Objects by kind, namespace and name.
type Objects = BTreeMap<String, Value>;

/// The objects of a stream of documents, without what only Helm reads.
fn objects(yaml: &str) -> Objects {
    let mut found = Objects::new();
    for document in serde_yaml::Deserializer::from_str(yaml) {
        let mut object = with_whole_numbers(Value::deserialize(document).unwrap());
        if object.is_null() {
            continue;
        }
        let metadata = object["metadata"].as_object_mut().unwrap();
        if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
            annotations.remove(KEEP);
            if annotations.is_empty() {
                metadata.remove("annotations");
            }
        }
        let key = ["kind", "namespace", "name"].map(|field| match field {
            "kind" => object["kind"].as_str().unwrap(),
            _ => object["metadata"][field].as_str().unwrap_or("-"),
        });
        let former = found.insert(key.join("/"), object.clone());
        assert_eq!(former, None, "{key:?} is there twice");
    }
    found
}

/// kustomize writes 65535.0 as 65535.
fn with_whole_numbers(value: Value) -> Value {
    match value {
        Value::Object(fields) => fields.into_iter().map(|(key, value)| (key, with_whole_numbers(value))).collect(),
        Value::Array(values) => values.into_iter().map(with_whole_numbers).collect(),
        Value::Number(number) => {
            let whole = number.as_f64().filter(|value| number.is_f64() && value.fract() == 0.0);
            whole.map_or_else(|| number.into(), |value| format!("{value:.0}").parse::<i64>().unwrap().into())
        }
        other => other,
    }
}

/// What the chart makes of these arguments.
fn rendered(world: &World, args: &[&str]) -> String {
    let output = output(world, &[&["template", RELEASE, CHART], args].concat());
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Fails with the first difference. The objects are large, so it does not print all.
fn assert_same(chart: &Objects, kustomize: &Objects, what: &str) {
    let names = |objects: &Objects| objects.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(chart), names(kustomize), "{what}");
    for (name, object) in chart {
        if let Some((at, of_chart, of_kustomize)) = difference(object, &kustomize[name], String::new()) {
            panic!("{what}: {name}{at}: the chart has {of_chart}, kustomize has {of_kustomize}");
        }
    }
}

fn difference(left: &Value, right: &Value, at: String) -> Option<(String, Value, Value)> {
    match (left, right) {
        (Value::Object(a), Value::Object(b)) => {
            let keys = a.keys().chain(b.keys().filter(|key| !a.contains_key(*key)));
            keys.into_iter().find_map(|key| difference(&left[key], &right[key], format!("{at}/{key}")))
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            a.iter().zip(b).enumerate().find_map(|(place, (a, b))| difference(a, b, format!("{at}/{place}")))
        }
        _ => (left != right).then(|| (at, left.clone(), right.clone())),
    }
}
