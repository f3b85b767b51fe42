//! The NetworkPolicies of others in the cluster. They have realistic managedFields and are in namespaces that no baseline selects.

use anyhow::{Context, Result};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::Resource;
use kube::api::{Patch, PatchParams, PostParams};
use kube::core::Request as Requests;
use serde_json::{Value, json};

use super::raw::{Raw, each};
use super::side::Group;

/// The number of policies in one namespace.
const TOGETHER: usize = 10;
const IN_FLIGHT: usize = 16;

/// Creates more of these policies, until there are `to` instead of `from`.
pub async fn grow(raw: &Raw, from: usize, to: usize) -> Result<()> {
    let namespaces = (from / TOGETHER)..to.div_ceil(TOGETHER);
    each(namespaces, IN_FLIGHT, async |group| {
        let namespace = format!("standing-{group:05}");
        let policies = (group * TOGETHER).max(from)..((group + 1) * TOGETHER).min(to);
        if policies.start == group * TOGETHER {
            raw.create(&namespace, Group::Raw).await?;
        }
        for number in policies {
            write(raw, &namespace, number).await.with_context(|| format!("a policy of others in {namespace}"))?;
        }
        Ok(())
    })
    .await
}

/// Three field managers write each policy: an installer, a GitOps tool, and a person who edits by hand.
async fn write(raw: &Raw, namespace: &str, number: usize) -> Result<()> {
    let name = format!("allow-{number:05}");
    let requests = Requests::new(NetworkPolicy::url_path(&(), Some(namespace)));
    let installed = PostParams { field_manager: Some("helm".to_owned()), ..PostParams::default() };
    raw.send(requests.create(&installed, serde_json::to_vec(&policy(&name, number))?)?).await?;
    let kept = PatchParams::apply("argocd-controller").force();
    raw.send(requests.patch(&name, &kept, &Patch::Apply(tracked(&name, number)))?).await?;
    let edited = PatchParams { field_manager: Some("kubectl-edit".to_owned()), ..PatchParams::default() };
    let note = json!({ "metadata": { "annotations": { "example.com/reviewed-by": "network" } } });
    raw.send(requests.patch(&name, &edited, &Patch::Merge(note))?).await.map(drop)
}

fn policy(name: &str, number: usize) -> Value {
    let peer = |app: &str| json!({ "podSelector": { "matchLabels": { "app.kubernetes.io/name": app } } });
    let port = |port: usize| json!({ "protocol": "TCP", "port": port });
    json!({
        "metadata": {
            "name": name,
            "labels": { "app.kubernetes.io/name": name, "app.kubernetes.io/managed-by": "Helm", "helm.sh/chart": "app-1.2.3" },
            "annotations": { "meta.helm.sh/release-name": name },
        },
        "spec": {
            "podSelector": { "matchLabels": { "app.kubernetes.io/name": name } },
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [{ "from": [peer("gateway"), peer("jobs")], "ports": [port(8000 + number % 1000)] }],
            "egress": [{ "to": [{ "ipBlock": { "cidr": "10.20.0.0/16", "except": ["10.20.30.0/24"] } }], "ports": [port(5432)] }],
        },
    })
}

fn tracked(name: &str, number: usize) -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {
            "name": name,
            "labels": { "team": format!("team-{}", number % 50) },
            "annotations": { "argocd.argoproj.io/tracking-id": format!("apps:networking.k8s.io/NetworkPolicy:{name}") },
        },
        "spec": { "podSelector": { "matchLabels": { "app.kubernetes.io/name": name } }, "policyTypes": ["Ingress", "Egress"] },
    })
}
