//! The rollout of a change in waves: the part of the spec, and its progress in the status.
//! `kubectl explain` prints these doc comments.

use k8s_openapi::apimachinery::pkg::{apis::meta::v1::Time, util::intstr::IntOrString};
use kube::KubeSchema;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize};

use super::{schema::count, selector::Selector};

/// Brings a change of the policies out in waves. It stops by itself when writes fail in too many namespaces.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(!deny_unknown_fields)]
#[x_kube(
    validation = Rule::new("!has(self.maxNamespacesPerWave) || (type(self.maxNamespacesPerWave) == int ? self.maxNamespacesPerWave >= 1 : self.maxNamespacesPerWave.matches('^([1-9][0-9]?|100)%$'))")
        .message("maxNamespacesPerWave: a number from 1 on, or a share from 1% to 100%"),
    validation = Rule::new("!has(self.canarySelector) || (has(self.canarySelector.matchLabels) && size(self.canarySelector.matchLabels) > 0) || (has(self.canarySelector.matchExpressions) && size(self.canarySelector.matchExpressions) > 0)")
        .message("canarySelector must not be empty: {} would make every namespace a canary")
)]
pub struct Rollout {
    /// How many namespaces a wave has: a number, or a share of the namespaces that the change concerns, rounded up. Default: 10%.
    #[serde(default = "default_share", deserialize_with = "share_or_default")]
    #[schemars(schema_with = "share")]
    pub max_namespaces_per_wave: IntOrString,
    /// The time between two waves, from when the last namespace of a wave has its new policies. Hours, minutes and seconds, such as 10m or
    /// 1h30m; at most 720h. Default: 5m.
    #[serde(default = "default_interval")]
    #[schemars(schema_with = "interval")]
    #[x_kube(validation = Rule::new("self.matches('^([0-9]{1,7}[hms])+$') && duration(self) <= duration('720h')")
        .message("write hours, minutes and seconds, such as 10m or 1h30m; at most 720h"))]
    pub interval: String,
    /// Namespaces that go first, all together, as a wave of their own. Not {}. Absent: no namespace goes first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary_selector: Option<Selector>,
    /// In so many namespaces the writes may fail. One more pauses the rollout until the spec is edited. Default: 0.
    #[serde(default)]
    #[schemars(schema_with = "count")]
    pub max_failures: u32,
}

impl Default for Rollout {
    fn default() -> Self {
        Self { max_namespaces_per_wave: default_share(), interval: default_interval(), canary_selector: None, max_failures: 0 }
    }
}

/// How far a rollout is.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RolloutStatus {
    /// The revision that goes out. The name of its ControllerRevision ends in it.
    #[serde(default)]
    #[schemars(length(max = 64))]
    pub revision: String,
    /// Namespaces that the change concerns.
    #[serde(default)]
    #[schemars(schema_with = "count")]
    pub total: u32,
    /// Namespaces that got the new policies.
    #[serde(default)]
    #[schemars(schema_with = "count")]
    pub moved: u32,
    /// Waves that have begun.
    #[serde(default)]
    #[schemars(schema_with = "count")]
    pub waves: u32,
    /// When the next wave begins; absent while one is under way, after the last one, and while the rollout is paused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_wave_at: Option<Time>,
}

fn default_share() -> IntOrString {
    IntOrString::String("10%".into())
}

/// The schema has no type for this field, so it admits null; null means the default.
fn share_or_default<'de, D: Deserializer<'de>>(deserializer: D) -> Result<IntOrString, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_else(default_share))
}

fn default_interval() -> String {
    "5m".into()
}

fn share(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"x-kubernetes-int-or-string": true, "default": default_share()})
}

fn interval(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "maxLength": 32, "default": default_interval()})
}
