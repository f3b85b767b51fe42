//! Reads what `kubectl get -o json` writes. An object that cannot be read is named, and the rest is used.

use std::{
    collections::HashMap,
    hash::{BuildHasher, BuildHasherDefault, DefaultHasher},
};

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    cluster_policy::{CLUSTER_POLICY_GROUP, ClusterPolicyKind, UnreadClusterPolicy},
    cluster_policy_fields::ClusterPolicyFields,
    facts::{DumpFacts, FactHead},
    object_parts::DEFAULT_NAMESPACE,
    objects::{FlowNamespace, FlowObject, UnreadPolicy},
    owners::{FlowWorkload, WorkloadKind},
    snapshot::FlowSnapshot,
};
use crate::{
    api::names::{group_of, is_other_policy_kind},
    policy::plugins::{PluginsFound, SlimPlugin, daemon_set_names},
};

/// The command that writes a dump.
pub const DUMP_COMMAND: &str = "kubectl get ns,pods,svc,endpointslices,netpol -A -o json";

/// What a dump has.
#[derive(Debug, Default)]
pub struct FlowDump {
    pub objects: Vec<FlowObject>,
    /// One sentence about each thing that was not read, and what that means.
    pub warnings: Vec<String>,
    /// The token for the next page, if this is a page of a list.
    pub next: Option<String>,
    /// Where the cluster's DNS and its API server are.
    pub facts: DumpFacts,
    /// Policies of kinds that are not judged, by kind and name.
    pub other_policies: Vec<String>,
    /// Whether these are all: somebody looked for every such kind.
    pub others_are_complete: bool,
    /// What shows the network plugin; none if there is nothing that does.
    pub plugins: Option<PluginsFound>,
}

/// A list, or an object, of which only the head is read.
#[derive(Deserialize)]
struct Head<'a> {
    #[serde(rename = "apiVersion")]
    api_version: Option<String>,
    kind: Option<String>,
    #[serde(default)]
    metadata: HeadMetadata,
    #[serde(borrow)]
    items: Option<Vec<&'a RawValue>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct HeadMetadata {
    name: Option<String>,
    namespace: Option<String>,
    #[serde(rename = "continue")]
    next: Option<String>,
}

impl FlowDump {
    /// Reads a dump: one List or several, one after the other. An error says what is wrong, and where.
    pub fn read(text: &str) -> Result<Self, String> {
        let mut dump = Self::default();
        let mut seen = SeenObjects::default();
        let mut lists = 0;
        for list in serde_json::Deserializer::from_str(text).into_iter::<Head<'_>>() {
            let list = list.map_err(|error| broken(text, &error))?;
            let kind = list.kind.unwrap_or_default();
            let Some(of) = kind.strip_suffix("List") else {
                return Err(format!("it has an object of the kind {kind:?} where a List is expected"));
            };
            let of = (!of.is_empty()).then_some((list.api_version.as_deref(), of));
            for (item, number) in list.items.into_iter().flatten().zip(1..) {
                dump.add(item, number, of, &mut seen);
            }
            dump.next = list.metadata.next.filter(|token| !token.is_empty());
            lists += 1;
        }
        if lists == 0 { Err("it is empty".into()) } else { Ok(dump) }
    }

    /// Adds an object. In a list of one kind, the objects may not name their kind.
    fn add(&mut self, item: &RawValue, number: usize, of: Option<(Option<&str>, &str)>, seen: &mut SeenObjects) {
        let head = match read::<Head<'_>>(item) {
            Ok(head) => head,
            Err(error) => return self.warnings.push(format!("the object number {number} is left out: {error}")),
        };
        let group = head.api_version.as_deref().or(of.and_then(|(version, _)| version)).unwrap_or_default();
        let group = group_of(group);
        let kind = head.kind.as_deref().or(of.map(|(_, kind)| kind)).unwrap_or_default();
        if let HeadMetadata { name: Some(name), namespace: Some(namespace), .. } = &head.metadata {
            self.facts.note(&FactHead { group, kind, namespace, name }, item);
        }
        if let Some(kind) = WorkloadKind::of_object(group, kind) {
            self.objects.extend(head.metadata.name.map(|name| {
                let namespace = head.metadata.namespace.unwrap_or_else(|| DEFAULT_NAMESPACE.into());
                FlowObject::Workload(FlowWorkload { kind, namespace, name })
            }));
            return;
        }
        let of_cluster = ClusterPolicyKind::named(kind).filter(|_| group == CLUSTER_POLICY_GROUP);
        let object = match (group, kind) {
            ("", "Namespace") => read(item).map(FlowObject::Namespace),
            ("", "Pod") => read(item).map(FlowObject::Pod),
            ("", "Service") => read(item).map(FlowObject::Service),
            ("discovery.k8s.io", "EndpointSlice") => read(item).map(FlowObject::Slice),
            ("", "Node") => read(item).map(FlowObject::Node),
            ("networking.k8s.io", "NetworkPolicy") => read(item).map(FlowObject::Policy),
            ("apps", "DaemonSet") => {
                let is_known = head.metadata.name.as_deref().is_some_and(|name| daemon_set_names().any(|known| known == name));
                // One that cannot be read says nothing.
                if let Some(plugin) = is_known.then(|| read::<SlimPlugin>(item).ok()).flatten() {
                    self.plugins.get_or_insert_default().saw(plugin.into());
                }
                return;
            }
            (group, kind) => {
                if let Some(of) = of_cluster {
                    read::<ClusterPolicyFields>(item).and_then(|fields| fields.of_kind(of)).map(FlowObject::ClusterPolicy)
                } else {
                    if is_other_policy_kind(&format!("{}s.{group}", kind.to_lowercase())) {
                        let name = head.metadata.shown(number);
                        self.other_policies.push(format!("{kind} {name}"));
                        self.warnings.push(format!(
                            "the {kind} {name} is not judged: only NetworkPolicies and policies of the group {CLUSTER_POLICY_GROUP} are. It may decide otherwise"
                        ));
                    }
                    return;
                }
            }
        };
        if let Some(first) = seen.note((group, kind), &head.metadata, self.objects.len() + 1) {
            let name = head.metadata.shown(number);
            self.warnings.push(format!(
                "the {kind} {name} is given twice: as the object number {first}, and as number {}, of those that are read. Only the last one counts",
                self.objects.len() + 1
            ));
        }
        match object {
            Ok(object) => self.objects.push(object),
            Err(error) => {
                let name = head.metadata.shown(number);
                self.warnings.push(format!("the {kind} {name} is left out, because it cannot be read: {error}"));
                let HeadMetadata { name, namespace, .. } = head.metadata;
                let name = name.unwrap_or_else(|| format!("number {number}"));
                if let Some(kind) = of_cluster {
                    self.objects.push(FlowObject::UnreadClusterPolicy(UnreadClusterPolicy { kind, name }));
                } else if kind == "NetworkPolicy" {
                    let namespace = namespace.unwrap_or_else(|| DEFAULT_NAMESPACE.into());
                    self.objects.push(FlowObject::UnreadPolicy(UnreadPolicy { namespace, name }));
                }
            }
        }
    }

    /// Whether a policy selects nodes by their labels.
    pub fn names_nodes(&self) -> bool {
        self.objects.iter().any(|object| matches!(object, FlowObject::ClusterPolicy(policy) if policy.names_nodes()))
    }

    /// The namespaces, sorted.
    pub fn namespaces(self) -> Vec<FlowNamespace> {
        FlowSnapshot::from_iter(self.objects).namespaces
    }
}

/// The numbers of the objects that were read, by a hash of their kind, namespace and name: a dump may have very many.
#[derive(Default)]
struct SeenObjects {
    numbers: HashMap<u64, usize>,
    hasher: BuildHasherDefault<DefaultHasher>,
}

impl SeenObjects {
    /// Notes an object. Returns the number of the one before with the same kind, namespace and name.
    fn note(&mut self, kind: (&str, &str), metadata: &HeadMetadata, number: usize) -> Option<usize> {
        let name = metadata.name.as_deref()?;
        self.numbers.insert(self.hasher.hash_one((kind, metadata.namespace.as_deref(), name)), number)
    }
}

impl HeadMetadata {
    fn shown(&self, number: usize) -> String {
        match (&self.namespace, &self.name) {
            (Some(namespace), Some(name)) => format!("{namespace}/{name}"),
            (None, Some(name)) => name.clone(),
            (_, None) => format!("with the number {number} and without a name"),
        }
    }
}

/// Reads an object. An error names the field.
fn read<'de, T: Deserialize<'de>>(item: &'de RawValue) -> Result<T, String> {
    let mut from = serde_json::Deserializer::from_str(item.get());
    serde_path_to_error::deserialize(&mut from).map_err(|error| {
        // The line is one of the object, not of the file.
        let what = error.inner().to_string();
        let what = what.split(" at line ").next().unwrap_or_default().to_owned();
        let path = error.path().to_string();
        if path == "." { what } else { format!("{path}: {what}") }
    })
}

fn broken(text: &str, error: &serde_json::Error) -> String {
    let place = format!("line {}, column {}", error.line(), error.column());
    if error.is_eof() {
        return format!("it ends too early, at {place}");
    }
    let begins = text.trim_start().chars().next().unwrap_or_default();
    if begins == '[' {
        return "it is an array, and a List of Kubernetes is expected".into();
    }
    if begins != '{' {
        return format!("it is no JSON: it begins with {begins:?}");
    }
    let what = error.to_string();
    format!("{}, at {place}", what.split(" at line ").next().unwrap_or_default())
}
