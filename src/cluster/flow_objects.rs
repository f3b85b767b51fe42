//! Lists the objects that decide flows, once, page by page.

use std::collections::BTreeMap;

use k8s_openapi::api::{
    apps::v1::DaemonSet,
    core::v1::{Namespace, Node, Pod, Service},
    discovery::v1::EndpointSlice,
    networking::v1::NetworkPolicy,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{APIGroup, GroupVersionForDiscovery};
use kube::{
    Client, Resource,
    api::ListParams,
    core::{ObjectList, PartialObjectMeta, Request},
};

use super::error::ApiProblem;
use crate::{
    api::names::{group_of, is_other_policy_kind},
    policy::flow::{CLUSTER_POLICY_GROUP, ClusterPolicyKind, FlowDump, WorkloadKind},
};

/// The number of objects that one request lists.
const PAGE: u32 = 500;

/// A resource that could not be listed.
#[derive(Debug)]
pub struct FlowListError {
    /// Its name.
    pub resource: &'static str,
    /// Why not.
    pub problem: ApiProblem,
}

/// Lists everything that a dump has. The policies come first: for a pod that is created in between, they are not too old.
pub async fn list(client: &Client) -> Result<FlowDump, FlowListError> {
    let mut all = FlowDump::default();
    list_kind::<NetworkPolicy>(client, "networkpolicies", &mut all).await?;
    list_tiers(client, &mut all).await?;
    list_kind::<Namespace>(client, "namespaces", &mut all).await?;
    list_kind::<Pod>(client, "pods", &mut all).await?;
    list_kind::<Service>(client, "services", &mut all).await?;
    list_kind::<EndpointSlice>(client, "endpointslices", &mut all).await?;
    Ok(all)
}

/// Lists what shows more of the cluster's DNS than a dump needs to have. Without permission for it, a warning says what is not known.
pub async fn list_dns(client: &Client, all: &mut FlowDump) -> Result<(), FlowListError> {
    let listed = list_kind::<DaemonSet>(client, "daemonsets", all).await;
    unless_forbidden(listed, all, "it is not known whether NodeLocal DNSCache runs")
}

/// Lists the workloads of a kind in a namespace. Without permission for it, only a message is less exact: the pods of a workload name it.
pub async fn list_workloads(
    client: &Client,
    kind: WorkloadKind,
    namespace: &str,
    all: &mut FlowDump,
) -> Result<(), FlowListError> {
    let path = format!("/apis/{}/v1/namespaces/{namespace}/{}", kind.group(), kind.plural());
    match list_path(client, &path, kind.plural(), all).await {
        Err(FlowListError { problem: ApiProblem::Forbidden(_), .. }) => Ok(()),
        listed => listed,
    }
}

/// Lists what decides before NetworkPolicies and after them, of the kinds that the cluster has. Without permission for it, a warning says what is
/// not known.
async fn list_tiers(client: &Client, all: &mut FlowDump) -> Result<(), FlowListError> {
    let of_groups = |problem| FlowListError { resource: "API groups", problem };
    let kinds = match tier_paths(client).await {
        Ok(kinds) => kinds,
        Err(problem) => {
            let unknown = "it is not known whether policies decide before or after NetworkPolicies";
            return unless_forbidden(Err(of_groups(problem)), all, unknown);
        }
    };
    for (kind, path) in kinds {
        let listed = match list_path(client, &path, kind.plural(), all).await {
            // The CRD is gone by now.
            Err(FlowListError { problem: ApiProblem::Refused(404, _), .. }) => continue,
            listed => listed,
        };
        unless_forbidden(
            listed,
            all,
            &format!("what a {} decides before or after NetworkPolicies is not known", kind.into_str()),
        )?;
    }
    if all.names_nodes() {
        let listed = list_kind::<Node>(client, "nodes", all).await;
        unless_forbidden(listed, all, "what the policies that select nodes decide is not known")?;
    }
    Ok(())
}

/// Lists the names of policies of other kinds, which nothing here judges. Returns whether it found all.
pub async fn list_other_policies(client: &Client, all: &mut FlowDump) -> bool {
    let Ok(groups) = client.list_api_groups().await else { return false };
    // These are groups of Kubernetes itself, and policies of the tiers are listed already.
    let is_other = |group: &&APIGroup| group.name.contains('.') && !group.name.ends_with(".k8s.io");
    let versions: Vec<GroupVersionForDiscovery> = groups
        .groups
        .iter()
        .filter(is_other)
        .filter_map(|group| group.preferred_version.clone().or(group.versions.first().cloned()))
        .collect();
    let mut is_complete = true;
    for version in versions {
        let Ok(resources) = client.list_api_group_resources(&version.group_version).await else {
            is_complete = false;
            continue;
        };
        for resource in resources.resources {
            if resource.name.contains('/')
                || !is_other_policy_kind(&format!("{}.{}", resource.name, group_of(&version.group_version)))
            {
                continue;
            }
            match list_names(client, &format!("/apis/{}/{}", version.group_version, resource.name)).await {
                Ok(names) => all.other_policies.extend(names.into_iter().map(|name| format!("{} {name}", resource.kind))),
                Err(_) => all.other_policies.push(format!("{} (which could not be listed)", resource.kind)),
            }
        }
    }
    is_complete
}

/// The names of the first objects of a kind.
async fn list_names(client: &Client, path: &str) -> kube::Result<Vec<String>> {
    let request = Request::new(path).list_metadata(&ListParams::default().limit(PAGE)).map_err(kube::Error::BuildRequest)?;
    let listed: ObjectList<PartialObjectMeta> = client.request(request).await?;
    let name = |object: PartialObjectMeta| match (object.metadata.namespace, object.metadata.name.unwrap_or_default()) {
        (Some(namespace), name) => format!("{namespace}/{name}"),
        (None, name) => name,
    };
    Ok(listed.items.into_iter().map(name).collect())
}

/// The paths of the kinds of policies that decide before or after NetworkPolicies, as far as the cluster has them.
async fn tier_paths(client: &Client) -> Result<BTreeMap<ClusterPolicyKind, String>, ApiProblem> {
    let of = |error: kube::Error| ApiProblem::of(&error);
    let groups = client.list_api_groups().await.map_err(of)?.groups;
    let mut found = BTreeMap::new();
    for group in groups.into_iter().filter(|group| group.name == CLUSTER_POLICY_GROUP) {
        // Of a kind with several versions, the preferred one is listed. It is among the versions, too.
        let is_preferred = |version: &str| group.preferred_version.as_ref().is_some_and(|one| one.group_version == version);
        let others = group.versions.iter().filter(|version| !is_preferred(&version.group_version));
        for version in group.preferred_version.iter().chain(others) {
            let resources = client.list_api_group_resources(&version.group_version).await.map_err(of)?.resources;
            for resource in resources.into_iter().filter(|resource| !resource.name.contains('/')) {
                if let Some(kind) = ClusterPolicyKind::named(&resource.kind) {
                    found.entry(kind).or_insert_with(|| format!("/apis/{}/{}", version.group_version, resource.name));
                }
            }
        }
    }
    Ok(found)
}

/// Without permission, a warning says what is not known.
fn unless_forbidden(listed: Result<(), FlowListError>, all: &mut FlowDump, unknown: &str) -> Result<(), FlowListError> {
    match listed {
        Err(FlowListError { problem: ApiProblem::Forbidden(message), resource }) => {
            all.warnings.push(format!("you may not list {resource}, so {unknown}: {message}"));
            Ok(())
        }
        listed => listed,
    }
}

async fn list_kind<K: Resource<DynamicType = ()>>(
    client: &Client,
    resource: &'static str,
    all: &mut FlowDump,
) -> Result<(), FlowListError> {
    list_path(client, &K::url_path(&(), None), resource, all).await
}

async fn list_path(client: &Client, path: &str, resource: &'static str, all: &mut FlowDump) -> Result<(), FlowListError> {
    let failed = |problem| FlowListError { resource, problem };
    let mut page = ListParams::default().limit(PAGE);
    loop {
        let request = Request::new(path).list(&page).map_err(kube::Error::BuildRequest);
        let text = match request {
            Ok(request) => client.request_text(request).await,
            Err(error) => Err(error),
        };
        let text = text.map_err(|error| failed(ApiProblem::of(&error)))?;
        let FlowDump { objects, warnings, next, facts, other_policies, .. } =
            FlowDump::read(&text).map_err(|error| failed(ApiProblem::Other(error)))?;
        all.objects.extend(objects);
        all.warnings.extend(warnings);
        all.facts.extend(facts);
        all.other_policies.extend(other_policies);
        match next {
            Some(token) => page = page.continue_token(&token),
            None => return Ok(()),
        }
    }
}
