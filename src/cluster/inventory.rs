//! Reads everything that may belong to the operator, once. `engine/inventory.rs` says what of it is ours.

use std::time::Duration;

use k8s_openapi::{
    api::{
        admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding},
        apps::v1::{ControllerRevision, Deployment},
        coordination::v1::Lease,
        core::v1::Namespace,
        networking::v1::NetworkPolicy,
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{
    Api, Client, Resource,
    api::{ListParams, ObjectList},
};
use serde::de::DeserializeOwned;

use crate::{
    api::{
        lease,
        names::{BASELINES_CRD, INSTANCE, LABEL_APP, LABEL_BASELINE, LABEL_MANAGED_BY, MANAGER, OPT_OUTS_CRD},
    },
    cluster::{error::ApiProblem, lists},
    engine::inventory::ClusterContents,
};

/// The number of objects that one request lists.
const PAGE: u32 = 500;
/// How often a held Lease is read, to see whether its holder renews it.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// A resource that could not be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {resource}")]
pub struct ReadError {
    /// Its name.
    pub resource: &'static str,
    /// Why not.
    pub problem: ApiProblem,
}

impl ReadError {
    fn of(resource: &'static str) -> impl FnOnce(kube::Error) -> Self {
        move |error| Self { resource, problem: ApiProblem::of(&error) }
    }
}

/// Reads what may be ours.
///
/// The policies are read before the baselines: a baseline that somebody creates in between makes no policy look like an orphan.
pub async fn read(client: &Client, operator_namespace: &str) -> Result<ClusterContents, ReadError> {
    let in_operator_namespace = || Api::namespaced(client.clone(), operator_namespace);
    let labelled = ListParams::default().labels(&format!("{LABEL_APP}={MANAGER}"));
    let mut unread = Vec::new();
    let policies = list_metadata::<NetworkPolicy>(client, "networkpolicies").await?;
    let namespaces = list_metadata::<Namespace>(client, "namespaces").await?;
    let admission_bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(client.clone());
    let admission_bindings = admission_bindings.list_metadata(&labelled).await;
    let admission_bindings = unless_forbidden("validatingadmissionpolicybindings", admission_bindings, &mut unread)?;
    let admission_policies: Api<ValidatingAdmissionPolicy> = Api::all(client.clone());
    let admission_policies = admission_policies.list_metadata(&labelled).await;
    let admission_policies = unless_forbidden("validatingadmissionpolicies", admission_policies, &mut unread)?;
    let revisions: Api<ControllerRevision> = in_operator_namespace();
    let ours = ListParams::default().labels(&format!("{LABEL_MANAGED_BY}={MANAGER},{LABEL_BASELINE}"));
    let revisions = revisions.list(&ours).await.map_err(ReadError::of("controllerrevisions"))?.items;
    let leases = leases(client).await?;
    let opt_outs = list_custom(client, "baselineoptouts", OPT_OUTS_CRD).await?;
    let baselines = list_custom(client, "policybaselines", BASELINES_CRD).await?;
    let meta = |object: kube::core::PartialObjectMeta<_>| object.metadata;
    Ok(ClusterContents {
        operator_namespace: operator_namespace.into(),
        namespaces,
        policies,
        baselines,
        opt_outs,
        revisions,
        leases,
        admission_policies: admission_policies.into_iter().map(|object| object.metadata).collect(),
        admission_bindings: admission_bindings.into_iter().map(meta).collect(),
        unread,
    })
}

/// The Leases with our name. The field selector is what the operator's own permissions allow.
async fn leases(client: &Client) -> Result<Vec<Lease>, ReadError> {
    let named = ListParams::default().fields(&format!("metadata.name={}", lease::NAME));
    lists::list(client, None, &named).await.map_err(ReadError::of("leases"))
}

fn unless_forbidden<K: Clone>(
    resource: &'static str,
    listed: kube::Result<ObjectList<K>>,
    unread: &mut Vec<&'static str>,
) -> Result<Vec<K>, ReadError> {
    match listed {
        Ok(list) => Ok(list.items),
        Err(kube::Error::Api(status)) if status.is_forbidden() => {
            unread.push(resource);
            Ok(vec![])
        }
        Err(error) => Err(ReadError::of(resource)(error)),
    }
}

/// The metadata of all objects of a kind, page by page.
async fn list_metadata<K>(client: &Client, resource: &'static str) -> Result<Vec<ObjectMeta>, ReadError>
where
    K: Resource<DynamicType = ()>,
{
    let mut found = Vec::new();
    let mut page = ListParams::default().limit(PAGE);
    loop {
        let list = lists::list_metadata::<K>(client, None, &page).await.map_err(ReadError::of(resource))?;
        found.extend(list.items.iter().map(|object| object.meta().clone()));
        match list.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => page = page.continue_token(&token),
            None => return Ok(found),
        }
    }
}

/// All objects of a CRD; none if the CRD does not exist.
async fn list_custom<K>(client: &Client, resource: &'static str, crd: &str) -> Result<Vec<K>, ReadError>
where
    K: Resource<DynamicType = ()> + DeserializeOwned,
{
    match lists::list(client, None, &ListParams::default()).await {
        Ok(objects) => Ok(objects),
        // An API server that does not know the resource answers without a Status, so only the code is set.
        Err(kube::Error::Api(status)) if status.code == 404 => {
            // An API server that has just started may not serve a CRD yet. Only the CRD itself says that it does not exist.
            let crds: Api<CustomResourceDefinition> = Api::all(client.clone());
            let crd = crds.get_metadata_opt(crd).await.map_err(ReadError::of("customresourcedefinitions"))?;
            if crd.is_none() { Ok(vec![]) } else { Err(ReadError::of(resource)(kube::Error::Api(status))) }
        }
        Err(error) => Err(ReadError::of(resource)(error)),
    }
}

/// A sentence about a Deployment that wants an operator to run, in any namespace; `None` if there is none.
pub async fn wanted(client: &Client) -> Result<Option<String>, ReadError> {
    let api: Api<Deployment> = Api::all(client.clone());
    let labelled = ListParams::default().labels(&format!("{LABEL_APP}={MANAGER}"));
    let found = api.list(&labelled).await.map_err(ReadError::of("deployments"))?;
    let replicas = |deployment: &Deployment| deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    let wants = found.into_iter().find(|deployment| replicas(deployment) > 0);
    Ok(wants.map(|deployment| {
        let namespace = deployment.metadata.namespace.as_deref().unwrap_or_default();
        let name = deployment.metadata.name.as_deref().unwrap_or_default();
        format!(
            "the Deployment {namespace}/{name} wants {} replicas of the operator, and an operator that runs writes again what is removed. Stop it first: kubectl scale deployment -n {namespace} {name} --replicas=0",
            replicas(&deployment)
        )
    }))
}

/// The Leases that somebody holds: of the operator in this namespace, and of other installs. An install counts if a cluster administrator
/// has labelled its namespace.
pub fn held_leases(contents: &ClusterContents) -> Vec<Lease> {
    let is_install = |namespace: &str| {
        let meta = contents.namespaces.iter().find(|meta| meta.name.as_deref() == Some(namespace));
        meta.and_then(|meta| meta.labels.as_ref()).is_some_and(|labels| labels.contains_key(INSTANCE))
    };
    let counts = |lease: &&Lease| {
        let namespace = lease.metadata.namespace.as_deref().unwrap_or_default();
        !lease::record(lease).holder.is_empty() && (namespace == contents.operator_namespace || is_install(namespace))
    };
    contents.leases.iter().filter(counts).cloned().collect()
}

/// A sentence about an operator that renews one of these Leases; `None` if none is renewed while it is valid.
///
/// The time in a Lease is of the clock of another machine. So the Leases are watched here for as long as they are valid.
pub async fn renewed(client: &Client, held: Vec<Lease>) -> Result<Option<String>, ReadError> {
    let begun = tokio::time::Instant::now();
    let mut left: Vec<(Lease, tokio::time::Instant)> = held
        .into_iter()
        .map(|lease| {
            let until = begun + lease::record(&lease).duration;
            (lease, until)
        })
        .collect();
    while !left.is_empty() {
        tokio::time::sleep(LOOK_AGAIN).await;
        let now = leases(client).await?;
        let find = |of: &Lease| now.iter().find(|lease| lease.metadata.namespace == of.metadata.namespace);
        // A Lease that is gone or that nobody holds any more is no sign of an operator.
        left.retain(|(seen, _)| find(seen).is_some_and(|lease| !lease::record(lease).holder.is_empty()));
        if let Some((lease, _)) =
            left.iter().find(|(seen, _)| find(seen).is_some_and(|l| lease::version(l) != lease::version(seen)))
        {
            let namespace = lease.metadata.namespace.as_deref().unwrap_or_default();
            return Ok(Some(format!(
                "an operator runs: {} renews the Lease {namespace}/{}, and an operator that runs writes again what is removed. Stop it first",
                lease::record(lease).holder,
                lease::NAME
            )));
        }
        let read = tokio::time::Instant::now();
        left.retain(|(_, until)| *until > read);
    }
    Ok(None)
}
