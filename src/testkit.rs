//! Builders for tests. They are not compiled into the operator.

use jiff::Timestamp;
use k8s_openapi::api::networking::v1::NetworkPolicy;

use crate::{
    api::{NamespaceName, PolicyBaseline},
    policy::plan::{Baseline, Namespace, Rendered},
};

/// The creation time of `namespace`, in seconds since the epoch.
const NAMESPACE_CREATED: i64 = 200;

pub fn baseline_object(name: &str, spec: serde_json::Value) -> PolicyBaseline {
    let mut spec = spec;
    if spec.get("mode").is_none() {
        spec["mode"] = "Enforce".into();
    }
    if spec.get("policies").is_none() {
        spec["policies"] = serde_json::json!(["DefaultDenyIngress", "DefaultDenyEgress", "MonitoringCarveout"]);
    }
    let object = serde_json::json!({
        "apiVersion": "policybaseline.io/v1alpha1", "kind": "PolicyBaseline", "spec": spec,
        "metadata": {"name": name, "uid": format!("uid-{name}"), "generation": 1, "creationTimestamp": "1970-01-01T00:00:00Z"},
    });
    serde_json::from_value(object).unwrap()
}

pub fn checked(name: &str, spec: serde_json::Value) -> Baseline {
    Baseline::check(&baseline_object(name, spec), "policy-baseline-system").unwrap()
}

pub fn checked_at(name: &str, created: i64, spec: serde_json::Value) -> Baseline {
    let mut baseline = checked(name, spec);
    baseline.created = Timestamp::from_second(created).unwrap();
    baseline
}

pub fn namespace(name: &str, labels: &[(&str, &str)]) -> Namespace {
    let labels = labels.iter().chain([&("kubernetes.io/metadata.name", name)]).copied().collect();
    Namespace::new(NamespaceName::observed(name), labels, Timestamp::from_second(NAMESPACE_CREATED).unwrap())
}

/// A planned policy as the API server would return it.
pub fn observed(policy: &Rendered, namespace: &str) -> NetworkPolicy {
    let uid = format!("uid-{namespace}-{}", policy.name);
    let mut object = policy.object(namespace, Some(&uid));
    object["metadata"]["resourceVersion"] = "1".into();
    serde_json::from_value(object).unwrap()
}

/// Compares `actual` with a file of the repository; with `GOLDEN=accept` in the environment, writes the file instead.
pub fn golden(path: &str, actual: &str) {
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if std::env::var("GOLDEN").as_deref() == Ok("accept") {
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, actual).unwrap();
        return;
    }
    let expected = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(expected == actual, "{path} differs; GOLDEN=accept rewrites it. Now it is:\n{actual}");
}

pub fn deleting(mut baseline: Baseline) -> Baseline {
    baseline.deleting = true;
    baseline
}
