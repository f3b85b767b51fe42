//! Runs between two tests: removes everything that the first test made.
//!
//! In a control plane of our own it removes all namespaces with their contents, except the built-in ones and the operator's, and every
//! NetworkPolicy. In any cluster it removes all objects of our API group, and everything with the test label. In an external cluster it
//! touches nothing else.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use futures::stream::{self, StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, Patch, PatchParams};
use kube::core::{ApiResource, PartialObjectMeta};
use kube::discovery::{ApiCapabilities, ApiGroup, Discovery, Scope, verbs};
use kube::{Client, ResourceExt};
use serde_json::json;

use crate::cluster::{ControlPlane, components_on};
use crate::wait::eventually;
use crate::{SYSTEM_NAMESPACE, TEST_LABEL};

const CAP: Duration = Duration::from_mins(1);
const IN_FLIGHT: usize = 16;
const OUR_GROUP: &str = "policybaseline.io";
const KEPT_NAMESPACES: [&str; 5] = ["default", "kube-system", "kube-public", "kube-node-lease", SYSTEM_NAMESPACE];

/// The API server continues to apply an admission policy or webhook for a while after its deletion, and nothing shows when it stops.
const ADMISSION: [&str; 6] = [
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
    "MutatingAdmissionPolicy",
    "MutatingAdmissionPolicyBinding",
    "ValidatingWebhookConfiguration",
    "MutatingWebhookConfiguration",
];

#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    Clean,
    /// The control plane cannot be cleaned. Start another one.
    Replace,
}

pub async fn sweep(plane: &ControlPlane) -> Result<Outcome> {
    let client = plane.admin().await?;
    let sweeper = Sweeper { client, external: plane.is_external() };
    if !sweeper.external && sweeper.has_admission_config().await? {
        return Ok(Outcome::Replace);
    }
    eventually("what the last test left is gone", CAP, async || sweeper.pass().await).await?;
    Ok(Outcome::Clean)
}

struct Sweeper {
    client: Client,
    external: bool,
}

impl Sweeper {
    /// Deletes everything that it finds; the error names what that was. If it finds nothing, all is gone.
    async fn pass(&self) -> Result<bool> {
        let discovery = Discovery::new(self.client.clone()).run_aggregated().await.context("discovery")?;
        let resources: Vec<ApiResource> =
            discovery.groups().flat_map(ApiGroup::recommended_resources).filter_map(sweepable).collect();
        let namespaces = self.delete_namespaces().await?;
        // These namespaces are terminating now, so nothing new appears in them.
        let mut found: Vec<String> = stream::iter(&resources)
            .map(|resource| self.delete_doomed(resource, &namespaces))
            .buffer_unordered(IN_FLIGHT)
            .try_concat()
            .await?;
        if !self.external {
            self.finalize_namespaces().await?;
        }
        found.extend(namespaces.iter().map(|name| format!("Namespace {name}")));
        if found.is_empty() {
            return Ok(true);
        }
        found.truncate(5);
        bail!("{} …", found.join(", "))
    }

    async fn has_admission_config(&self) -> Result<bool> {
        let discovery = Discovery::new(self.client.clone()).filter(&["admissionregistration.k8s.io"]).run().await?;
        for (resource, _) in discovery.groups().flat_map(ApiGroup::recommended_resources) {
            if ADMISSION.contains(&resource.kind.as_str()) {
                let api: Api<DynamicObject> = Api::all_with(self.client.clone(), &resource);
                // The policies of the components stay, because every suite runs with them.
                let others = if components_on() { "app.kubernetes.io/name!=policy-baseline" } else { "" };
                if !api.list_metadata(&ListParams::default().labels(others).limit(1)).await?.items.is_empty() {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    async fn delete_namespaces(&self) -> Result<BTreeSet<String>> {
        let api: Api<Namespace> = Api::all(self.client.clone());
        let doomed = self.doomed_namespaces(&api).await?;
        let living = doomed.iter().filter(|ns| ns.metadata.deletion_timestamp.is_none());
        stream::iter(living.map(anyhow::Ok))
            .try_for_each_concurrent(IN_FLIGHT, async |ns| {
                gone(api.delete(&ns.name_any(), &DeleteParams::default()).await.map(drop))
            })
            .await?;
        Ok(doomed.iter().map(ResourceExt::name_any).collect())
    }

    /// The namespace controller waits five seconds before it acts. We have already emptied these namespaces, so we finalize them at
    /// once.
    async fn finalize_namespaces(&self) -> Result<()> {
        let api: Api<Namespace> = Api::all(self.client.clone());
        let doomed = self.doomed_namespaces(&api).await?;
        stream::iter(doomed.into_iter().map(anyhow::Ok))
            .try_for_each_concurrent(IN_FLIGHT, async |mut ns| {
                ns.spec.get_or_insert_default().finalizers = None;
                let uri = format!("/api/v1/namespaces/{}/finalize", ns.name_any());
                let request = http::Request::put(uri).body(serde_json::to_vec(&ns)?)?;
                gone(self.client.request::<Namespace>(request).await.map(drop))
            })
            .await
    }

    async fn doomed_namespaces(&self, api: &Api<Namespace>) -> Result<Vec<Namespace>> {
        let all = api.list(&ListParams::default()).await.context("list namespaces")?;
        let doomed = |ns: &Namespace| {
            if self.external { ns.labels().contains_key(TEST_LABEL) } else { !KEPT_NAMESPACES.contains(&ns.name_any().as_str()) }
        };
        Ok(all.into_iter().filter(doomed).collect())
    }

    async fn delete_doomed(&self, resource: &ApiResource, namespaces: &BTreeSet<String>) -> Result<Vec<String>> {
        let all: Api<DynamicObject> = Api::all_with(self.client.clone(), resource);
        let list = match all.list_metadata(&ListParams::default()).await {
            Ok(list) => list,
            // The CRD was deleted after the discovery.
            Err(kube::Error::Api(status)) if status.is_not_found() => return Ok(Vec::new()),
            Err(err) => return Err(err).with_context(|| format!("list {}", resource.plural)),
        };
        let doomed: Vec<_> = list.items.into_iter().filter(|object| self.is_doomed(resource, object, namespaces)).collect();
        let found = doomed.iter().map(|object| format!("{} {}", resource.kind, object.name_any())).collect();
        stream::iter(doomed.into_iter().map(anyhow::Ok))
            .try_for_each_concurrent(IN_FLIGHT, async |object| self.delete(resource, &object).await)
            .await?;
        Ok(found)
    }

    fn is_doomed(
        &self,
        resource: &ApiResource,
        object: &PartialObjectMeta<DynamicObject>,
        namespaces: &BTreeSet<String>,
    ) -> bool {
        let ours = resource.group == OUR_GROUP || object.labels().contains_key(TEST_LABEL);
        let inside = object.namespace().is_some_and(|namespace| {
            // In a control plane of our own, also objects whose namespace no longer exists.
            namespaces.contains(&namespace) || (!self.external && !KEPT_NAMESPACES.contains(&namespace.as_str()))
        });
        // The Lease of a killed operator would make the next one wait. The garbage collector would collect the revisions of a baseline
        // too late.
        let left = ["Lease", "ControllerRevision"].contains(&&*resource.kind);
        let left = left && object.namespace().as_deref() == Some(SYSTEM_NAMESPACE);
        ours || inside || left || (!self.external && resource.kind == "NetworkPolicy")
    }

    async fn delete(&self, resource: &ApiResource, object: &PartialObjectMeta<DynamicObject>) -> Result<()> {
        let api: Api<DynamicObject> = match object.namespace() {
            Some(namespace) => Api::namespaced_with(self.client.clone(), &namespace, resource),
            None => Api::all_with(self.client.clone(), resource),
        };
        let name = object.name_any();
        // A CRD keeps its own finalizer, because that deletes its objects too.
        if !object.finalizers().is_empty() && resource.kind != "CustomResourceDefinition" {
            let none = json!({ "metadata": { "finalizers": null } });
            gone(api.patch_metadata(&name, &PatchParams::default(), &Patch::Merge(none)).await.map(drop))?;
        }
        gone(api.delete(&name, &DeleteParams::background().grace_period(0)).await.map(drop))
            .with_context(|| format!("delete {} {name}", resource.kind))
    }
}

/// Skips Events, because they expire by themselves, and Namespaces, because they are handled elsewhere.
fn sweepable((resource, capabilities): (ApiResource, ApiCapabilities)) -> Option<ApiResource> {
    let able = capabilities.supports_operation(verbs::LIST) && capabilities.supports_operation(verbs::DELETE);
    let other = resource.kind == "Event" || (resource.kind == "Namespace" && capabilities.scope == Scope::Cluster);
    (able && !other).then_some(resource)
}

/// Ignores that an object is already gone.
fn gone(result: kube::Result<()>) -> Result<()> {
    match result {
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        other => other.map_err(Into::into),
    }
}
