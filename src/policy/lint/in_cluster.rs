//! The rules of `lint` for policies that are in a cluster already, with the pods and Services around them.

use super::{
    api_server, block_rules,
    case::LintCase,
    dns_rules,
    found::RuleHit,
    given::{GivenObjects, LintDocument, LintPolicy, LintWorkload},
    passed_over::refusal,
    peer_rules,
    rule::LintRule,
    tree::{TextPlace, YamlNode},
    workload_rules,
};
use crate::policy::flow::{FlowPolicy, FlowSnapshot};

/// The objects around policies.
pub struct ClusterLint {
    given: GivenObjects,
}

impl ClusterLint {
    /// Notes the pods, Services and namespaces of a snapshot.
    pub fn of(snapshot: &FlowSnapshot) -> Self {
        let mut given = GivenObjects::default();
        for (pod, document) in snapshot.pods.iter().zip(0..).filter(|(pod, _)| !pod.has_ended) {
            given.workloads.push(LintWorkload {
                document,
                namespace: Some(pod.namespace.clone()),
                labels: pod.labels.clone(),
                port_names: pod.ports.iter().map(|port| (port.name.clone(), port.protocol)).collect(),
                host_network: pod.on_host_network.then(|| "spec.hostNetwork".into()),
            });
            // The address of a pod on the host network is that of its node.
            let own = pod.addresses.iter().filter(|_| !pod.on_host_network);
            given.addresses.extend(own.map(|address| (*address, format!("Pod {}/{}", pod.namespace, pod.name))));
        }
        for service in &snapshot.services {
            let shown = format!("Service {}/{}", service.namespace, service.name);
            given.addresses.extend(service.addresses.iter().map(|address| (*address, shown.clone())));
        }
        let namespaces = snapshot.namespaces.iter();
        given.namespaces.extend(namespaces.map(|namespace| (namespace.name.clone(), namespace.labels.clone())));
        Self { given }
    }

    /// What the rules find in a policy. Whether other policies allow its pods DNS is not looked at.
    pub fn hits(&self, policy: &FlowPolicy) -> Vec<RuleHit> {
        let json = serde_json::json!({ "spec": &*policy.spec });
        let node = YamlNode::from_json(json, TextPlace::new(0, 0, 0));
        let (namespace, name) = (Some(policy.namespace.clone()), policy.name.clone());
        let policy = LintPolicy { document: 0, namespace, name, spec: (*policy.spec).clone() };
        let case = LintCase { policy: &policy, node: &node, given: &self.given };
        let mut found = peer_rules::check(&case);
        found.extend(dns_rules::check(&case, true));
        found.extend(block_rules::check(&case));
        found.extend(workload_rules::check(&case));
        found
    }
}

/// One sentence about each thing in a policy that the API server refuses: such a policy was written by hand. Host bits of ranges are none of
/// them, because API servers before Kubernetes 1.36 stored them.
pub fn refused_in(policy: &FlowPolicy) -> Vec<String> {
    let metadata = serde_json::json!({"metadata": {"namespace": policy.namespace, "name": policy.name}});
    let document = LintDocument {
        source: 0,
        node: YamlNode::from_json(metadata, TextPlace::new(0, 0, 0)),
        api_version: "networking.k8s.io/v1".into(),
        kind: "NetworkPolicy".into(),
    };
    let found = api_server::refused(&document, &policy.spec).into_iter().filter(|hit| hit.rule != LintRule::HostBitsSet);
    found.map(|hit| refusal(&document.shown(), &hit)).collect()
}
