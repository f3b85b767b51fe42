//! The annotated sample shows every field of the API, and every sample is valid for the operator.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::{fs, path::PathBuf};

use policy_baseline::{Baseline, PolicyBaseline};
use serde_json::Value;

fn read(path: &str) -> Value {
    let text = fs::read_to_string(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap();
    serde_yaml::from_str(&text).unwrap()
}

/// The fields of the schema that the sample does not show. For a list, one of its elements must show them. The fields of a selector are
/// shown once, elsewhere.
fn missing(schema: &Value, shown: &[&Value], path: &str) -> Vec<String> {
    if let Some(items) = schema.get("items") {
        let elements: Vec<&Value> = shown.iter().filter_map(|v| v.as_array()).flatten().collect();
        return missing(items, &elements, &format!("{path}[]"));
    }
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else { return vec![] };
    if properties.contains_key("matchLabels") {
        return vec![];
    }
    let field = |(name, schema): (&String, &Value)| {
        let path = format!("{path}.{name}");
        let values: Vec<&Value> = shown.iter().filter_map(|v| v.get(name)).collect();
        if values.is_empty() { vec![path] } else { missing(schema, &values, &path) }
    };
    properties.iter().flat_map(field).collect()
}

#[test]
fn the_annotated_sample_shows_every_field() {
    let crd = read("crds/policybaselines.policybaseline.io.yaml");
    let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    let sample = read("manifests/samples/annotated.yaml");
    let mut missing = missing(schema, &[&sample["spec"]], "spec");
    // An ipBlock with exceptions is rare for DNS, so it is left to `kubectl explain`. The API server is no source of ingress.
    missing.retain(|path| path != "spec.dns.peers[].ipBlock.except" && path != "spec.allows[].ingress[].from[].kubernetesAPI");
    assert_eq!(missing, [] as [&str; 0]);
    for part in ["matchLabels", "matchExpressions"] {
        assert!(sample["spec"]["namespaceSelector"].get(part).is_some(), "{part}");
    }
}

#[test]
fn every_sample_is_valid_for_the_operator() {
    for sample in ["minimal", "annotated", "pci-strict", "dns", "in-waves"] {
        let object: PolicyBaseline = serde_json::from_value(read(&format!("manifests/samples/{sample}.yaml"))).unwrap();
        Baseline::check(&object, "policy-baseline-system").unwrap_or_else(|e| panic!("{sample}: {e}"));
    }
}

#[test]
fn every_sample_of_an_allow_is_valid_for_the_operator_and_has_a_section_in_the_docs() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("docs/allows.md")).unwrap();
    let mut seen = 0;
    for file in fs::read_dir(root.join("manifests/samples/allows")).unwrap().map(|entry| entry.unwrap().file_name()) {
        let name = file.to_string_lossy().into_owned();
        let path = format!("manifests/samples/allows/{name}");
        let object: PolicyBaseline = serde_json::from_value(read(&path)).unwrap();
        Baseline::check(&object, "policy-baseline-system").unwrap_or_else(|e| panic!("{name}: {e}"));
        assert!(page.contains(&format!("(../{path})")), "docs/allows.md has no section for {name}");
        assert!(fs::read_to_string(root.join(&path)).unwrap().starts_with("# "), "{name} does not say what it opens");
        seen += 1;
    }
    assert_eq!(seen, 12);
}

#[test]
fn the_page_on_rollouts_shows_the_sample() {
    let text = |path: &str| fs::read_to_string(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap();
    assert!(text("docs/rollout.md").contains(&format!("```yaml\n{}```", text("manifests/samples/in-waves.yaml"))));
}
