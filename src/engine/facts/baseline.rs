//! A baseline as the watch delivers it.

use std::hash::{DefaultHasher, Hash, Hasher};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde::Deserialize;
use serde_json::Value;

use crate::{
    api::{
        PolicyBaseline, PolicyBaselineSpec, PolicyBaselineStatus,
        names::{CONFIRM_RELEASE, INSTANCE},
        other_tools::OtherTools,
        resource_version,
        schema::is_not_processed,
    },
    policy::plan::{Baseline, BaselineError},
};

/// A baseline as the watch delivers it. Spec and status are decoded later, so one that does not decode cannot stop the watch.
#[derive(Clone, Debug, Deserialize, Resource)]
#[resource(inherit = "PolicyBaseline")]
pub struct RawBaseline {
    /// The metadata of the object.
    pub metadata: ObjectMeta,
    #[serde(default)]
    pub spec: Value,
    #[serde(default)]
    pub status: Value,
}

impl RawBaseline {
    /// [`Self::check_with`], with no other tools than those that are known.
    pub fn check(&self, operator_namespace: &str) -> Result<Baseline, BaselineError> {
        self.check_with(operator_namespace, &OtherTools::default())
    }

    /// Decodes and checks the spec. A spec without a mode means nothing: `mod: Audit` must not mean Enforce.
    pub fn check_with(&self, operator_namespace: &str, tools: &OtherTools) -> Result<Baseline, BaselineError> {
        if self.spec.get("mode").is_none_or(Value::is_null) {
            return Err(BaselineError::MissingMode);
        }
        let undecodable = |e: serde_path_to_error::Error<serde_json::Error>| {
            BaselineError::Undecodable(format!("spec.{}: {}", e.path(), e.inner()))
        };
        let spec: PolicyBaselineSpec = serde_path_to_error::deserialize(&self.spec).map_err(undecodable)?;
        Baseline::check_with(&PolicyBaseline { metadata: self.metadata.clone(), spec, status: None }, operator_namespace, tools)
    }

    /// The generation whose release of many namespaces the owner confirmed. `None` without a valid annotation.
    pub fn confirmed(&self) -> Option<i64> {
        self.metadata.annotations.as_ref()?.get(CONFIRM_RELEASE)?.trim().parse().ok()
    }

    /// The namespace of the install that the baseline belongs to, from its annotation. `None` if it names none.
    pub fn instance(&self) -> Option<&str> {
        self.metadata.annotations.as_ref()?.get(INSTANCE).map(String::as_str)
    }

    /// The stored status; `None` if it does not decode, or is the one of an object that no operator has processed yet.
    pub fn stored_status(&self) -> Option<PolicyBaselineStatus> {
        PolicyBaselineStatus::deserialize(&self.status).ok().filter(|status| !is_not_processed(&status.conditions))
    }

    /// Tells specs apart.
    pub fn spec_hash(&self) -> u64 {
        spec_hash(&self.spec)
    }

    pub fn version(&self) -> u64 {
        resource_version(self.metadata.resource_version.as_deref())
    }

    pub fn finalizers(&self) -> Vec<String> {
        self.metadata.finalizers.clone().unwrap_or_default()
    }
}

/// Tells specs apart that have the same generation.
pub fn spec_hash(spec: &Value) -> u64 {
    let mut hasher = DefaultHasher::new();
    spec.hash(&mut hasher);
    hasher.finish()
}

/// Which install works on a baseline.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum InstallOwnership {
    /// This install, while it leads.
    #[default]
    Ours,
    /// No install. The baseline belongs to this install, which leaves the work to an older one and reports that in the status.
    Waits,
    /// Another install, which is alive.
    Theirs,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_spec_without_a_mode_is_refused_in_one_sentence_and_does_not_mean_enforce() {
        for spec in [json!({}), json!(null), json!({"mod": "Audit"}), json!({"mode": null})] {
            let raw: RawBaseline = serde_json::from_value(json!({"metadata": {"name": "b"}, "spec": spec})).unwrap();
            let error = raw.check("operator").unwrap_err();
            assert_eq!(error.reason(), "MissingMode", "{spec}");
            assert_eq!(
                error.to_string(),
                "spec.mode is missing, so nothing is written or removed: write mode: Enforce or mode: Audit"
            );
        }
    }

    #[test]
    fn a_field_of_a_later_version_is_refused_where_ignoring_it_would_select_or_open_more() {
        let check = |mut spec: Value| {
            spec["mode"] = "Enforce".into();
            let object = json!({"apiVersion": "policybaseline.io/v1alpha1", "kind": "PolicyBaseline", "metadata": {"name": "b"}, "spec": spec});
            let raw: RawBaseline = serde_json::from_value(object).unwrap();
            raw.check("operator").map(|_| ()).map_err(|error| error.to_string())
        };
        let pods = json!({"namespaceSelector": {"matchLabels": {"a": "b"}}, "podSelector": {"matchLabels": {"a": "b"}}});
        let with = |mut object: Value| {
            object["later"] = json!("x");
            object
        };
        for (place, spec) in [
            ("spec.namespaceSelector", json!({"namespaceSelector": with(json!({}))})),
            (
                "spec.namespaceSelector.matchExpressions[0]",
                json!({"namespaceSelector": {"matchExpressions": [with(json!({"key": "a", "operator": "Exists"}))]}}),
            ),
            ("spec.monitoring.from[0]", json!({"monitoring": {"from": [with(pods.clone())]}})),
            ("spec.monitoring.ports[0]", json!({"monitoring": {"ports": [with(json!({"port": 9090}))]}})),
            ("spec.dns.peers[0]", json!({"dns": {"peers": [with(pods)]}})),
            ("spec.dns.peers[0].ipBlock", json!({"dns": {"peers": [{"ipBlock": with(json!({"cidr": "10.0.0.0/8"}))}]}})),
        ] {
            let error = check(spec).unwrap_err();
            assert!(error.contains(place) && error.contains("unknown field `later`"), "{place}: {error}");
        }
        // A default that a later CRD fills in must not stall a baseline.
        assert_eq!(check(with(json!({"dns": with(json!({})), "metadata": with(json!({}))}))), Ok(()));
    }
}
