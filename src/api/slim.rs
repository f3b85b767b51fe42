//! The parts of namespaces and policies that are read from the API server: only what is compared. Most bytes of an object are
//! managedFields, of which only writer and time are used; the rest is skipped and never allocated.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::{
    api::{
        core::v1::Namespace,
        networking::v1::{NetworkPolicy, NetworkPolicySpec},
    },
    apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, ObjectMeta, OwnerReference, Time},
};
use kube::Resource;
use serde::{Deserialize, Deserializer};

use super::{lenient, policy_spec};

/// A namespace with only the metadata that select it and show its state.
#[derive(Clone, Debug, Deserialize, Resource)]
#[resource(inherit = "Namespace")]
#[serde(from = "NamespaceParts")]
pub struct SlimNamespace {
    /// Names, times and labels are filled in; all other fields are empty.
    pub metadata: ObjectMeta,
    /// The namespace is being deleted, and its fields prove that no pod is left there.
    pub pods_gone: bool,
    /// The namespace is being deleted, and since then the namespace controller has reported an error of the deletion.
    pub failing_since: Option<Timestamp>,
}

/// The fields of a namespace that are read.
#[derive(Deserialize)]
struct NamespaceParts {
    metadata: Identity,
    #[serde(default)]
    spec: ContentFinalizers,
    #[serde(default)]
    status: DeletionProgress,
}

/// What must be removed from a namespace before it can go.
#[derive(Default, Deserialize)]
struct ContentFinalizers {
    #[serde(default)]
    finalizers: Vec<String>,
}

/// What the namespace controller reports about the deletion.
#[derive(Default, Deserialize)]
struct DeletionProgress {
    #[serde(default)]
    conditions: Vec<NamespaceCondition>,
}

/// The fields of k8s-openapi's type that are read. That one cannot be deserialised without a time.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct NamespaceCondition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
    #[serde(default)]
    message: String,
    #[serde(default, deserialize_with = "lenient::time")]
    last_transition_time: Option<Time>,
}

impl From<NamespaceParts> for SlimNamespace {
    fn from(NamespaceParts { metadata, spec, status }: NamespaceParts) -> Self {
        let is_deleted = metadata.deletion_timestamp.is_some();
        let pods_gone = is_deleted && pods_are_gone(&spec.finalizers, &status.conditions);
        let failing_since = is_deleted.then(|| failing_since(&status.conditions)).flatten();
        Self { metadata: metadata.into(), pods_gone, failing_since }
    }
}

#[cfg(test)]
impl From<ObjectMeta> for SlimNamespace {
    fn from(metadata: ObjectMeta) -> Self {
        Self { metadata, pods_gone: false, failing_since: None }
    }
}

/// Whether a namespace that is being deleted has no pods any more (record 18). The namespace controller takes its finalizer off when all
/// content is gone. Before that, it names the kinds of objects that are left, but only once no pod is left: while it waits for pods, it
/// says that nothing remains. What it says after an error proves nothing.
fn pods_are_gone(finalizers: &[String], conditions: &[NamespaceCondition]) -> bool {
    let find = |kind: &str| conditions.iter().find(|c| c.kind == kind && c.status == "True");
    let failed = ["NamespaceDeletionContentFailure", "NamespaceDeletionDiscoveryFailure"].iter().any(|kind| find(kind).is_some());
    let names_others = || find("NamespaceContentRemaining").is_some_and(|left| !left.message.contains("pods. has "));
    !finalizers.iter().any(|finalizer| finalizer == CONTENT_FINALIZER) || (!failed && names_others())
}

/// Since when the deletion has failed, for whatever reason. The controller keeps the time of a condition while only its message changes.
fn failing_since(conditions: &[NamespaceCondition]) -> Option<Timestamp> {
    const ERRORS: [&str; 3] =
        ["NamespaceDeletionContentFailure", "NamespaceDeletionDiscoveryFailure", "NamespaceDeletionGroupVersionParsingFailure"];
    let failing = conditions.iter().filter(|c| ERRORS.contains(&&*c.kind) && c.status == "True");
    failing.filter_map(|condition| condition.last_transition_time.as_ref()).map(|at| at.0).min()
}

/// The namespace controller's own finalizer.
const CONTENT_FINALIZER: &str = "kubernetes";

/// A policy with its spec (of a very large one, the beginning), and with only the metadata that are compared.
#[derive(Clone, Debug, Deserialize, Resource)]
#[resource(inherit = "NetworkPolicy")]
pub struct SlimPolicy {
    #[serde(deserialize_with = "of_policy")]
    metadata: ObjectMeta,
    #[serde(default, deserialize_with = "policy_spec::read")]
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
    #[serde(default, deserialize_with = "lenient::time")]
    time: Option<Time>,
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
        meta.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH));
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
        let SlimNamespace { metadata: meta, pods_gone, failing_since } = serde_json::from_value(object).unwrap();
        assert_eq!((meta.name.as_deref(), meta.resource_version.as_deref()), (Some("a"), Some("7")));
        assert!(meta.labels.is_some() && meta.creation_timestamp.is_some() && meta.annotations.is_none());
        assert!(!pods_gone && failing_since.is_none());
    }

    #[test]
    fn i5_the_deletion_fails_since_the_oldest_error_that_lasts() {
        let since = |deleted: bool, conditions: &[(&str, &str, Option<i64>)]| {
            let time = |second: &i64| Timestamp::from_second(*second).unwrap().to_string();
            let condition = |(kind, status, at): &(&str, &str, Option<i64>)| json!({"type": kind, "status": status, "lastTransitionTime": at.as_ref().map(time)});
            let conditions: Vec<_> = conditions.iter().map(condition).collect();
            let mut object = json!({"metadata": {"name": "a"}, "status": {"conditions": conditions}});
            if deleted {
                object["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
            }
            serde_json::from_value::<SlimNamespace>(object).unwrap().failing_since.map(Timestamp::as_second)
        };
        let discovery = |status, at| ("NamespaceDeletionDiscoveryFailure", status, at);
        let content = |status, at| ("NamespaceDeletionContentFailure", status, at);
        let parsing = ("NamespaceDeletionGroupVersionParsingFailure", "True", Some(5));
        for (deleted, conditions, expected) in [
            (true, &[][..], None),
            (true, &[discovery("True", Some(7))], Some(7)),
            (true, &[discovery("True", Some(7)), content("True", Some(3)), parsing], Some(3)),
            (true, &[discovery("False", Some(1)), parsing], Some(5)),
            (true, &[discovery("Unknown", Some(1))], None),
            (true, &[discovery("True", None)], None),
            (true, &[("NamespaceContentRemaining", "True", Some(1))], None),
            (false, &[discovery("True", Some(7))], None),
        ] {
            assert_eq!(since(deleted, conditions), expected, "{deleted} {conditions:?}");
        }
    }

    #[test]
    fn i5_only_the_namespace_controller_proves_that_no_pods_are_left() {
        let gone = |deleted: bool, finalizers: &[&str], conditions: &[(&str, &str, &str)]| {
            let condition =
                |(kind, status, message): &(&str, &str, &str)| json!({"type": kind, "status": status, "message": message});
            let conditions: Vec<_> = conditions.iter().map(condition).collect();
            let mut object =
                json!({"metadata": {"name": "a"}, "spec": {"finalizers": finalizers}, "status": {"conditions": conditions}});
            if deleted {
                object["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
            }
            serde_json::from_value::<SlimNamespace>(object).unwrap().pods_gone
        };
        let left = |status, what: &'static str| ("NamespaceContentRemaining", status, what);
        let (maps, failed) = (left("True", "Some resources are remaining: configmaps. has 1 resource instances"), "True");
        // What it says while it waits for pods.
        let waits = left("False", "All content successfully removed");
        let own = &["kubernetes"][..];
        for (deleted, finalizers, conditions, expected) in [
            (false, own, &[][..], false),
            (false, &[], &[], false),
            (true, own, &[], false),
            (true, own, &[waits], false),
            (
                true,
                own,
                &[left(
                    "True",
                    "Some resources are remaining: configmaps. has 1 resource instances, pods. has 2 resource instances",
                )],
                false,
            ),
            (true, own, &[maps], true),
            (true, own, &[maps, ("NamespaceDeletionContentFailure", "False", "")], true),
            (true, own, &[maps, ("NamespaceDeletionContentFailure", failed, "pods")], false),
            (true, own, &[maps, ("NamespaceDeletionDiscoveryFailure", failed, "v1")], false),
            (true, &["example.com/other"], &[waits], true),
            (true, &[], &[], true),
        ] {
            assert_eq!(gone(deleted, finalizers, conditions), expected, "{deleted} {finalizers:?} {conditions:?}");
        }
    }
}
