//! The parts of namespaces and policies that are read from the API server: only what is compared. Most bytes of an object are
//! managedFields, of which only writer and time are used; the rest is skipped and never allocated.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::{
        core::v1::Namespace,
        networking::v1::{NetworkPolicy, NetworkPolicySpec},
    },
    apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, ObjectMeta, OwnerReference, Time},
};
use kube::Resource;
use serde::{Deserialize, Deserializer};

/// A namespace with only the metadata that select it and show its state.
#[derive(Clone, Debug, Deserialize, Resource)]
#[resource(inherit = "Namespace")]
pub struct SlimNamespace {
    /// Names, times and labels are filled in; all other fields are empty.
    #[serde(deserialize_with = "of_namespace")]
    pub metadata: ObjectMeta,
}

/// A policy with its spec, and with only the metadata that are compared.
#[derive(Clone, Debug, Deserialize, Resource)]
#[resource(inherit = "NetworkPolicy")]
pub struct SlimPolicy {
    #[serde(deserialize_with = "of_policy")]
    metadata: ObjectMeta,
    #[serde(default)]
    spec: Option<NetworkPolicySpec>,
}

impl From<SlimPolicy> for NetworkPolicy {
    fn from(SlimPolicy { metadata, spec }: SlimPolicy) -> Self {
        Self { metadata, spec }
    }
}

/// The metadata that identify an object and show its state.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Identity {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
    creation_timestamp: Option<Time>,
    deletion_timestamp: Option<Time>,
    labels: Option<BTreeMap<String, String>>,
}

impl From<Identity> for ObjectMeta {
    fn from(identity: Identity) -> Self {
        let Identity { name, namespace, uid, resource_version, creation_timestamp, deletion_timestamp, labels } = identity;
        Self { name, namespace, uid, resource_version, creation_timestamp, deletion_timestamp, labels, ..Self::default() }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PolicyMeta {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
    deletion_timestamp: Option<Time>,
    labels: Option<BTreeMap<String, String>>,
    annotations: Option<BTreeMap<String, String>>,
    finalizers: Option<Vec<String>>,
    owner_references: Option<Vec<OwnerReference>>,
    managed_fields: Option<Vec<FieldManager>>,
}

/// A writer, and the time of its last write.
#[derive(Deserialize)]
struct FieldManager {
    manager: Option<String>,
    time: Option<Time>,
}

fn of_namespace<'de, D: Deserializer<'de>>(from: D) -> Result<ObjectMeta, D::Error> {
    Identity::deserialize(from).map(Into::into)
}

fn of_policy<'de, D: Deserializer<'de>>(from: D) -> Result<ObjectMeta, D::Error> {
    let meta = PolicyMeta::deserialize(from)?;
    let writer = |FieldManager { manager, time }| ManagedFieldsEntry { manager, time, ..ManagedFieldsEntry::default() };
    Ok(ObjectMeta {
        name: meta.name,
        namespace: meta.namespace,
        uid: meta.uid,
        resource_version: meta.resource_version,
        deletion_timestamp: meta.deletion_timestamp,
        labels: meta.labels,
        annotations: meta.annotations,
        finalizers: meta.finalizers,
        owner_references: meta.owner_references,
        managed_fields: meta.managed_fields.map(|writers| writers.into_iter().map(writer).collect()),
        ..ObjectMeta::default()
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        policy::drift::{Fingerprint, Interner},
        testkit::{checked, observed},
    };

    #[test]
    fn what_is_passed_over_changes_no_fingerprint() {
        let mut policy = observed(&checked("b", json!({})).policies[1], "team-a");
        let fields = json!([
            {"manager": "policy-baseline", "operation": "Apply", "apiVersion": "networking.k8s.io/v1", "time": "2026-01-01T00:00:00Z",
                "fieldsType": "FieldsV1", "fieldsV1": {"f:metadata": {"f:labels": {"f:x": {}}}}},
            {"manager": "kubectl-edit", "operation": "Update", "time": "2026-01-02T00:00:00Z", "fieldsV1": {"f:spec": {}}},
        ]);
        let meta = &mut policy.metadata;
        meta.managed_fields = serde_json::from_value(fields).unwrap();
        meta.finalizers = Some(vec!["x.example/y".into()]);
        meta.owner_references = Some(vec![OwnerReference { name: "o".into(), ..OwnerReference::default() }]);
        meta.deletion_timestamp = Some(Time(jiff::Timestamp::UNIX_EPOCH));
        meta.generation = Some(3);
        let slim: SlimPolicy = serde_json::from_value(serde_json::to_value(&policy).unwrap()).unwrap();
        let print = |policy: &NetworkPolicy| Fingerprint::of(policy, &mut Interner::default());
        let read = print(&slim.into());
        assert_eq!(read, print(&policy));
        assert_eq!((read.who.as_deref(), read.pinned, read.terminating.is_some()), (Some("kubectl-edit"), true, true));
    }

    #[test]
    fn of_a_namespace_the_plan_reads_no_more_than_this() {
        let object = json!({
            "metadata": {"name": "a", "uid": "u", "resourceVersion": "7", "creationTimestamp": "2026-01-01T00:00:00Z", "labels": {"x": "y"},
                "annotations": {"large": "x"}, "managedFields": [{"manager": "kubectl", "fieldsV1": {"f:metadata": {}}}]},
            "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"},
        });
        let meta = serde_json::from_value::<SlimNamespace>(object).unwrap().metadata;
        assert_eq!((meta.name.as_deref(), meta.resource_version.as_deref()), (Some("a"), Some("7")));
        assert!(meta.labels.is_some() && meta.creation_timestamp.is_some() && meta.annotations.is_none());
    }
}
