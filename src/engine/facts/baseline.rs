//! A baseline as the watch delivers it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde::Deserialize;
use serde_json::Value;

use crate::{
    api::{
        PolicyBaseline, PolicyBaselineSpec, PolicyBaselineStatus,
        names::{CONFIRM_RELEASE, INSTANCE},
        resource_version,
    },
    policy::plan::{Baseline, BaselineError},
};

/// A baseline as the watch delivers it: spec and status are read apart, so that one that does not decode stops nothing else.
#[derive(Clone, Debug, Deserialize, Resource)]
#[resource(inherit = "PolicyBaseline")]
pub struct RawBaseline {
    /// Its metadata.
    pub metadata: ObjectMeta,
    #[serde(default)]
    pub spec: Value,
    #[serde(default)]
    pub status: Value,
}

impl RawBaseline {
    /// Decodes and checks the spec.
    pub fn check(&self, operator_namespace: &str) -> Result<Baseline, BaselineError> {
        let undecodable = |e: serde_path_to_error::Error<serde_json::Error>| {
            BaselineError::Undecodable(format!("spec.{}: {}", e.path(), e.inner()))
        };
        let spec: PolicyBaselineSpec = serde_path_to_error::deserialize(&self.spec).map_err(undecodable)?;
        Baseline::check(&PolicyBaseline { metadata: self.metadata.clone(), spec, status: None }, operator_namespace)
    }

    /// The generation whose release of many namespaces its owner means.
    pub fn confirmed(&self) -> Option<i64> {
        self.metadata.annotations.as_ref()?.get(CONFIRM_RELEASE)?.trim().parse().ok()
    }

    /// The namespace of the install that it belongs to, if it names one.
    pub fn instance(&self) -> Option<&str> {
        self.metadata.annotations.as_ref()?.get(INSTANCE).map(String::as_str)
    }

    /// The status that stands in the cluster, if it decodes.
    pub fn stored_status(&self) -> Option<PolicyBaselineStatus> {
        PolicyBaselineStatus::deserialize(&self.status).ok()
    }

    pub fn version(&self) -> u64 {
        resource_version(self.metadata.resource_version.as_deref())
    }

    pub fn finalizers(&self) -> Vec<String> {
        self.metadata.finalizers.clone().unwrap_or_default()
    }
}

/// Which install works on a baseline.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum InstallOwnership {
    /// This one, while it leads.
    #[default]
    Ours,
    /// None: it belongs to this one, which leaves the work to an older one, and says so in its status.
    Waits,
    /// Another one.
    Theirs,
}
