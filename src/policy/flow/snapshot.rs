//! The objects that decide flows, at one moment: each once, sorted by name, so that their order in the input decides nothing.

use std::{collections::BTreeSet, net::IpAddr};

use super::{
    cluster_policy::{ClusterPolicy, UnreadClusterPolicy},
    node::FlowNode,
    objects::{FlowNamespace, FlowObject, FlowPod, FlowPolicy, PolicyRef, UnreadPolicy},
    owners::FlowWorkload,
    service_objects::{FlowService, FlowSlice},
};

/// All objects that decide flows.
#[derive(Clone, Debug, Default)]
pub struct FlowSnapshot {
    pub namespaces: Vec<FlowNamespace>,
    pub pods: Vec<FlowPod>,
    pub services: Vec<FlowService>,
    pub slices: Vec<FlowSlice>,
    pub policies: Vec<FlowPolicy>,
    pub unread_policies: Vec<UnreadPolicy>,
    /// The policies of the Admin tier and of the Baseline tier.
    pub cluster_policies: Vec<ClusterPolicy>,
    pub unread_cluster_policies: Vec<UnreadClusterPolicy>,
    /// Empty if they were not listed.
    pub nodes: Vec<FlowNode>,
    /// Empty if they were not listed.
    pub workloads: Vec<FlowWorkload>,
}

impl FromIterator<FlowObject> for FlowSnapshot {
    /// Of two objects with the same name, the later one counts.
    fn from_iter<T: IntoIterator<Item = FlowObject>>(objects: T) -> Self {
        let mut all = Self::default();
        for object in objects {
            match object {
                FlowObject::Namespace(namespace) => all.namespaces.push(namespace),
                FlowObject::Pod(pod) => all.pods.push(pod),
                FlowObject::Service(service) => all.services.push(service),
                FlowObject::Slice(slice) => all.slices.push(slice),
                FlowObject::Policy(policy) => all.policies.push(policy),
                FlowObject::UnreadPolicy(policy) => all.unread_policies.push(policy),
                FlowObject::ClusterPolicy(policy) => all.cluster_policies.push(policy),
                FlowObject::UnreadClusterPolicy(policy) => all.unread_cluster_policies.push(policy),
                FlowObject::Node(node) => all.nodes.push(node),
                FlowObject::Workload(workload) => all.workloads.push(workload),
            }
        }
        sort(&mut all.namespaces, |one| ("", &one.name));
        sort(&mut all.pods, |one| (&one.namespace, &one.name));
        sort(&mut all.services, |one| (&one.namespace, &one.name));
        sort(&mut all.slices, |one| (&one.namespace, &one.name));
        sort(&mut all.policies, |one| (&one.namespace, &one.name));
        sort(&mut all.unread_policies, |one| (&one.namespace, &one.name));
        sort(&mut all.cluster_policies, |one| (one.kind.into_str(), &one.name));
        sort(&mut all.unread_cluster_policies, |one| (one.kind.into_str(), &one.name));
        sort(&mut all.nodes, |one| ("", &one.name));
        all
    }
}

/// Sorts by a key, and keeps the last of those with the same key.
fn sort<T>(all: &mut Vec<T>, key: impl Fn(&T) -> (&str, &str)) {
    // It is stable, so the last one comes first here, and the first one is kept.
    all.reverse();
    all.sort_by(|one, other| key(one).cmp(&key(other)));
    all.dedup_by(|one, other| key(one) == key(other));
}

impl FlowSnapshot {
    /// Adds pods. The numbers of the others change.
    pub fn add_pods(&mut self, pods: Vec<FlowPod>) {
        self.pods.extend(pods);
        sort(&mut self.pods, |one| (&one.namespace, &one.name));
    }

    /// Adds namespaces.
    pub fn add_namespaces(&mut self, namespaces: impl Iterator<Item = FlowNamespace>) {
        self.namespaces.extend(namespaces);
        sort(&mut self.namespaces, |one| ("", &one.name));
    }

    /// Whether a namespace is among the objects.
    pub fn has_namespace(&self, name: &str) -> bool {
        self.namespaces.binary_search_by(|one| (*one.name).cmp(name)).is_ok()
    }

    /// Adds policies.
    pub fn add_policies(&mut self, policies: impl Iterator<Item = FlowPolicy>) {
        self.policies.extend(policies);
        sort(&mut self.policies, |one| (&one.namespace, &one.name));
    }

    /// Replaces all policies of a baseline, and in the namespaces that it closes those of other baselines: only one applies there.
    pub fn replace_policies(&mut self, baseline: &str, by: Vec<FlowPolicy>) {
        let closed: BTreeSet<&str> = by.iter().map(|policy| &*policy.namespace).collect();
        self.policies.retain(|policy| match policy.baseline.as_deref() {
            Some(name) => name != baseline && !closed.contains(&*policy.namespace),
            None => true,
        });
        self.add_policies(by.into_iter());
    }

    /// The number of a pod.
    pub fn pod(&self, namespace: &str, name: &str) -> Option<usize> {
        self.pods.binary_search_by(|pod| (&*pod.namespace, &*pod.name).cmp(&(namespace, name))).ok()
    }

    /// The pods of a namespace, with their numbers.
    pub fn pods_of(&self, namespace: &str) -> impl Iterator<Item = (usize, &FlowPod)> {
        let first = self.pods.partition_point(|pod| &*pod.namespace < namespace);
        self.pods.iter().enumerate().skip(first).take_while(move |(_, pod)| pod.namespace == namespace)
    }

    /// The pod with this address on the pod network. The address of a pod that has ended may belong to another one by now.
    pub fn pod_at(&self, address: IpAddr) -> Option<usize> {
        let is_there = |pod: &FlowPod| !pod.on_host_network && !pod.has_ended && pod.addresses.contains(&address);
        self.pods.iter().position(is_there)
    }

    /// A Service.
    pub fn service(&self, namespace: &str, name: &str) -> Option<&FlowService> {
        let found = self.services.binary_search_by(|one| (&*one.namespace, &*one.name).cmp(&(namespace, name))).ok()?;
        self.services.get(found)
    }

    /// The Service with this cluster IP.
    pub fn service_at(&self, address: IpAddr) -> Option<&FlowService> {
        self.services.iter().find(|service| service.addresses.contains(&address))
    }

    /// The pods that a Service selects and that have not ended, with their numbers.
    pub fn pods_behind<'a>(&'a self, service: &'a FlowService) -> impl Iterator<Item = (usize, &'a FlowPod)> {
        let has = |pod: &FlowPod| service.selector.iter().all(|(key, value)| pod.labels.get(key) == Some(value));
        let all = self.pods_of(&service.namespace).filter(|_| !service.selector.is_empty());
        all.filter(move |(_, pod)| !pod.has_ended && has(pod))
    }

    /// The EndpointSlices of a Service.
    pub fn slices_of<'a>(&'a self, service: &'a FlowService) -> impl Iterator<Item = &'a FlowSlice> {
        self.slices.iter().filter(|slice| slice.namespace == service.namespace && slice.service == service.name)
    }

    /// A policy.
    pub fn policy(&self, namespace: &str, name: &str) -> Option<&FlowPolicy> {
        let found = self.policies.binary_search_by(|one| (&*one.namespace, &*one.name).cmp(&(namespace, name))).ok()?;
        self.policies.get(found)
    }

    /// Whether a policy of this name exists.
    pub fn has_policy(&self, namespace: &str, name: &str) -> bool {
        self.policy(namespace, name).is_some()
    }

    /// The policies of a namespace that could not be read.
    pub fn unread_policies_of(&self, namespace: &str) -> impl Iterator<Item = PolicyRef<'_>> {
        let there = self.unread_policies.iter().filter(move |one| one.namespace == namespace);
        there.map(|one| PolicyRef { namespace: &one.namespace, name: &one.name })
    }

    /// One sentence about each kind of object that is missing, and what that means.
    pub fn gaps(&self) -> Vec<String> {
        let mut gaps = Vec::new();
        if self.policies.is_empty() && self.unread_policies.is_empty() && !self.has_tiers() {
            gaps.push("there is no NetworkPolicy among the objects, so none denies anything".into());
        }
        gaps.extend(self.namespace_gap());
        let by_nodes = self.cluster_policies.iter().filter(|policy| self.nodes.is_empty() && policy.names_nodes());
        gaps.extend(by_nodes.map(|policy| {
            format!("the {} selects nodes, and no node is among the objects, so what it says of addresses outside of the pod network is not known", policy.policy())
        }));
        gaps
    }

    /// Whether there is a policy of the Admin tier or of the Baseline tier.
    pub const fn has_tiers(&self) -> bool {
        !self.cluster_policies.is_empty() || !self.unread_cluster_policies.is_empty()
    }

    /// One sentence about the namespaces that are missing, and what that means.
    pub fn namespace_gap(&self) -> Option<String> {
        let unknown = self.unknown_namespaces();
        let names = unknown.join(", ");
        let gap = format!("these namespaces are not among the objects, so of their labels only the name is known: {names}");
        (!unknown.is_empty()).then_some(gap)
    }

    /// All namespaces, also those of which only the name is known.
    pub fn all_namespaces(&self) -> Vec<FlowNamespace> {
        let unknown = self.unknown_namespaces().into_iter().map(FlowNamespace::named);
        self.namespaces.iter().cloned().chain(unknown).collect()
    }

    /// The names of the namespaces of pods and policies that are not among the namespaces: their labels are not known.
    pub fn unknown_namespaces(&self) -> Vec<&str> {
        let used = self.pods.iter().map(|pod| &*pod.namespace).chain(self.policies.iter().map(|policy| &*policy.namespace));
        let used: BTreeSet<&str> = used.collect();
        used.into_iter().filter(|name| !self.has_namespace(name)).collect()
    }
}
