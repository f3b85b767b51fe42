//! The `BaselineOptOut` resource: a documented exception with an end.
//! `kubectl explain` prints these doc comments.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strum::VariantArray;

use super::{
    names::Role,
    reason::OPT_OUT_IN_FORCE,
    schema::{IS_TIME, WRITE_TIME, not_processed, policies, time},
    text,
};

/// The minimum length of a reason, in characters without surrounding spaces.
pub const SHORTEST_REASON: usize = 20;

/// Which policies are taken away from this namespace, why, and until when.
#[derive(CustomResource, KubeSchema, Clone, Debug, Deserialize, PartialEq, Serialize)]
#[kube(
    group = "policybaseline.io",
    version = "v1alpha1",
    kind = "BaselineOptOut",
    plural = "baselineoptouts",
    shortname = "pbo",
    category = "policies",
    namespaced,
    status = "BaselineOptOutStatus",
    derive = "PartialEq",
    doc = "BaselineOptOut takes policies of the baseline away from its namespace for a limited time: a documented exception. Without a default-deny the namespace is open. It counts within the limits that the baseline sets in spec.optOuts, and the condition InForce says whether it does.",
    validation = Rule::new("size(self.metadata.name) <= 63").message("metadata.name: use at most 63 characters"),
    printcolumn(name = "Policies", type_ = "string", json_path = ".spec.policies", description = "The policies that the namespace does without"),
    printcolumn(name = "In Force", type_ = "string", json_path = ".status.conditions[?(@.type=='InForce')].status", description = "Whether the policies are away"),
    printcolumn(name = "Expires", type_ = "string", json_path = ".spec.expiresAt", description = "When they come back"),
    printcolumn(name = "Approved By", type_ = "string", json_path = ".spec.approvedBy", description = "Who allowed it"),
    printcolumn(name = "Ticket", type_ = "string", json_path = ".spec.ticket", description = "Where it was decided"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".spec.reason", description = "Why the namespace needs it"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "State", type_ = "string", json_path = ".status.conditions[?(@.type=='InForce')].reason", description = "Why it is in force, or is not", priority = 1)
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(!deny_unknown_fields)]
pub struct BaselineOptOutSpec {
    /// The policies that are taken away here, at least one of DefaultDenyIngress, DefaultDenyEgress and MonitoringCarveout. Without
    /// DefaultDenyEgress, everything may go out.
    #[schemars(schema_with = "policies")]
    #[x_kube(
        validation = Rule::new("size(self) > 0").message("name at least one policy"),
        validation = Rule::new("self.all(p, self.exists_one(q, q == p))").message("name each policy once")
    )]
    pub policies: Vec<Role>,

    /// Why the namespace needs this, in at least 20 characters, for whoever reviews it.
    #[schemars(length(max = 1024))]
    #[x_kube(
        validation = Rule::new("size(self.trim()) >= 20").message("say in at least 20 characters why the namespace needs this, for whoever reviews it"),
        validation = Rule::new(text::IS_VISIBLE).message(text::WRITE_VISIBLE)
    )]
    pub reason: String,

    /// When the policies come back, to the second: a time with its zone, as in 2026-03-01T00:00:00Z, and no duration such as 14d. The baseline limits the time from the creation of this
    /// object (spec.optOuts.maxDuration, 30 days if it is absent). To extend it beyond that, create a new object.
    #[schemars(schema_with = "time")]
    #[x_kube(validation = Rule::new(IS_TIME).message(WRITE_TIME))]
    pub expires_at: Time,

    /// Who allowed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    #[x_kube(validation = Rule::new(text::IS_VISIBLE).message(text::WRITE_VISIBLE))]
    pub approved_by: Option<String>,

    /// Where it was decided: the number or the address of a ticket, for example.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    #[x_kube(validation = Rule::new(text::IS_VISIBLE).message(text::WRITE_VISIBLE))]
    pub ticket: Option<String>,
}

/// Whether it is in force.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("default" = not_processed(OPT_OUT_IN_FORCE, "BaselineOptOut")))]
pub struct BaselineOptOutStatus {
    /// The generation of the spec that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// InForce: whether the policies are away, and if not, why.
    #[serde(default)]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// When it was in force for the first time under the baseline that applies there. Absent: it never was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_in_force: Option<Time>,
    /// Which events have announced its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub announced: Option<Announced>,
}

/// Which events have announced the end of an opt-out.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Announced {
    /// The end that they announced.
    pub expires_at: Time,
    /// The steps that were announced, or that were over when this end was set.
    #[serde(default)]
    #[schemars(length(max = 3))]
    pub steps: Vec<ExpiryNotice>,
}

/// When the end of an opt-out is announced.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, Ord, PartialEq, PartialOrd, Serialize, VariantArray)]
pub enum ExpiryNotice {
    /// A day ahead.
    DayAhead,
    /// An hour ahead.
    HourAhead,
    /// When it is over.
    Expired,
}

impl ExpiryNotice {
    /// How many seconds before the end this event is sent.
    pub const fn seconds_ahead(self) -> i64 {
        match self {
            Self::DayAhead => 86_400,
            Self::HourAhead => 3_600,
            Self::Expired => 0,
        }
    }
}
