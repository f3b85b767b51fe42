//! An opt-out as the watch delivers it.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde::Deserialize;
use serde_json::Value;

use super::baseline::spec_hash;
use crate::{
    api::{BaselineOptOut, BaselineOptOutSpec, NamespaceName, Roles, resource_version},
    policy::plan::OptOut,
};

/// An opt-out as the watch delivers it. Spec and status are decoded later, so one that does not decode cannot stop the watch.
#[derive(Clone, Debug, Deserialize, Resource)]
#[resource(inherit = "BaselineOptOut")]
pub struct RawOptOut {
    /// The metadata of the object.
    pub metadata: ObjectMeta,
    #[serde(default)]
    pub spec: Value,
    #[serde(default)]
    pub status: Value,
}

impl RawOptOut {
    /// Decodes and checks the spec. The error says what is wrong with it.
    pub fn check(&self) -> Result<OptOut, String> {
        let spec: BaselineOptOutSpec =
            serde_path_to_error::deserialize(&self.spec).map_err(|e| format!("spec.{}: {}", e.path(), e.inner()))?;
        OptOut::check(&BaselineOptOut { metadata: self.metadata.clone(), spec, status: None })
    }

    pub fn key(&self) -> Option<Key> {
        Some((NamespaceName::observed(self.metadata.namespace.as_deref()?), self.metadata.name.as_deref()?.into()))
    }

    /// Tells specs apart.
    pub fn spec_hash(&self) -> u64 {
        spec_hash(&self.spec)
    }

    pub fn version(&self) -> u64 {
        resource_version(self.metadata.resource_version.as_deref())
    }
}

pub type Key = (NamespaceName, Arc<str>);

/// The roles of the baseline that applies to a namespace, by what the namespace holds.
#[derive(Clone, Copy, Debug, Default)]
pub struct RolesFound {
    /// A policy of that role is there, or is being deleted.
    pub there: Roles,
    /// A policy of that role is planned, and is not there.
    pub missing: Roles,
}

/// How many opt-outs that name a role are in force, and when the first of them ends.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Tally {
    /// The number of opt-outs in force.
    pub in_force: u32,
    /// When the first of them ends; `None` if none is in force.
    pub earliest: Option<Timestamp>,
}
