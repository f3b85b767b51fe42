//! Carries out the removals of `policy-baseline uninstall`. A person starts them, while no operator runs, so they pass no fence.
//! Every deletion names the uid that was seen, and that of a policy its version too.

use std::time::Duration;

use futures::{Stream, StreamExt, stream};
use http::Request;
use k8s_openapi::api::{
    admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding},
    apps::v1::ControllerRevision,
    coordination::v1::Lease,
    core::v1::Namespace,
    networking::v1::NetworkPolicy,
};
use kube::{
    Client, Resource,
    api::{GetParams, Patch, PatchParams},
    core::Request as Requests,
};
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{deletion::only, error::ApiProblem};
use crate::{
    api::{
        BaselineOptOut, PolicyBaseline,
        lenient::AnyObject,
        names::{FINALIZER, LABEL_DECIDED},
    },
    policy::inventory::{Act, ManagedKind, ManagedObject, Removal},
};

/// The requests that are sent at the same time.
const AT_ONCE: usize = 8;
/// The API server applies an admission policy for a while after its deletion. For so long a removal that it denies is sent again.
const ADMISSION_ENDS: Duration = Duration::from_secs(20);
/// The wait before a removal is sent again.
const AGAIN: Duration = Duration::from_millis(250);
/// How often a finalizer is removed from an object that somebody changes at the same time.
const ATTEMPTS: usize = 5;
/// The text in the message of the API server if one of our admission policies denies a request.
const OUR_DENIAL: &str = "ValidatingAdmissionPolicy 'policy-baseline-";

/// The result of one removal. The error says in words why it failed.
#[derive(Debug)]
pub struct Removed {
    /// What was to be done.
    pub removal: Removal,
    /// Whether it was done.
    pub result: Result<(), String>,
}

/// Carries out the removals in order. Removals of the same kind are sent at the same time. A failure does not end the others.
pub fn carry_out(client: &Client, removals: &[Removal]) -> impl Stream<Item = Removed> + use<> {
    let removes_admission = removals.iter().any(|removal| removal.object.kind == ManagedKind::ValidatingAdmissionPolicyBinding);
    let denied_until = Instant::now() + if removes_admission { ADMISSION_ENDS } else { Duration::ZERO };
    let stages: Vec<Vec<Removal>> = removals.chunk_by(Removal::is_beside).map(<[Removal]>::to_vec).collect();
    let client = client.clone();
    let send = move |removal: Removal| {
        let client = client.clone();
        async move {
            let result = remove(&client, &removal, denied_until).await;
            Removed { removal, result }
        }
    };
    stream::iter(stages).flat_map(move |stage| stream::iter(stage).map(send.clone()).buffered(AT_ONCE))
}

async fn remove(client: &Client, removal: &Removal, denied_until: Instant) -> Result<(), String> {
    loop {
        let result = match removal.act {
            Act::Delete => delete(client, &removal.object).await,
            Act::RemoveFinalizer => remove_finalizer(client, &removal.object).await,
            Act::RemoveLabel => remove_label(client, &removal.object).await,
        };
        match result {
            Err(Failed::Denied(_)) if Instant::now() < denied_until => tokio::time::sleep(AGAIN).await,
            Err(Failed::Gone) | Ok(()) => return Ok(()),
            Err(Failed::Denied(why) | Failed::Other(why)) => return Err(why),
            Err(Failed::Changed) => {
                return Err("it has changed since it was listed, so it is left alone: run the command again".into());
            }
        }
    }
}

/// Why a request failed.
enum Failed {
    /// The object does not exist any more.
    Gone,
    /// Somebody changed or replaced the object.
    Changed,
    /// An admission policy of ours denied it.
    Denied(String),
    /// Any other reason.
    Other(String),
}

fn classify(error: &kube::Error) -> Failed {
    match error {
        kube::Error::Api(status) if status.code == 404 => Failed::Gone,
        kube::Error::Api(status) if status.code == 409 => Failed::Changed,
        kube::Error::Api(status) if status.message.contains(OUR_DENIAL) => Failed::Denied(status.message.clone()),
        error => Failed::Other(ApiProblem::of(error).summary()),
    }
}

async fn send<T: DeserializeOwned>(
    client: &Client,
    request: Result<Request<Vec<u8>>, kube::core::request::Error>,
) -> Result<T, Failed> {
    let request = request.map_err(|error| Failed::Other(error.to_string()))?;
    client.request(request).await.map_err(|error| classify(&error))
}

fn requests(object: &ManagedObject) -> Requests {
    let namespace = object.namespace.as_deref();
    Requests::new(match object.kind {
        ManagedKind::ValidatingAdmissionPolicyBinding => ValidatingAdmissionPolicyBinding::url_path(&(), namespace),
        ManagedKind::ValidatingAdmissionPolicy => ValidatingAdmissionPolicy::url_path(&(), namespace),
        ManagedKind::NetworkPolicy => NetworkPolicy::url_path(&(), namespace),
        ManagedKind::PolicyBaseline => PolicyBaseline::url_path(&(), namespace),
        ManagedKind::BaselineOptOut => BaselineOptOut::url_path(&(), namespace),
        ManagedKind::ControllerRevision => ControllerRevision::url_path(&(), namespace),
        ManagedKind::Lease => Lease::url_path(&(), namespace),
        ManagedKind::Namespace => Namespace::url_path(&(), namespace),
    })
}

async fn delete(client: &Client, object: &ManagedObject) -> Result<(), Failed> {
    // Only the content of a policy decides that it is ours. Others change all the time what does not matter here, such as a status.
    let version = (object.kind == ManagedKind::NetworkPolicy).then(|| object.resource_version.clone());
    let params = only(&object.uid, version);
    let answer: AnyObject = send(client, requests(object).delete(&object.name, &params)).await?;
    let meta = answer.meta();
    let held = meta.finalizers.as_ref().filter(|finalizers| meta.deletion_timestamp.is_some() && !finalizers.is_empty());
    held.map_or(Ok(()), |finalizers| {
        let why = format!("it is being deleted, and waits for the owner of the finalizer {}", finalizers.join(", "));
        Err(Failed::Other(why))
    })
}

async fn remove_finalizer(client: &Client, object: &ManagedObject) -> Result<(), Failed> {
    let is_other = |finalizer: &String| finalizer != FINALIZER;
    let (mut finalizers, mut version) = (object.finalizers.clone(), object.resource_version.clone());
    for _ in 0..ATTEMPTS {
        let kept: Vec<&String> = finalizers.iter().filter(|f| is_other(f)).collect();
        let patch = json!({"metadata": {"uid": object.uid, "resourceVersion": version, "finalizers": kept}});
        match patch_object(client, object, &patch).await {
            Err(Failed::Changed) => {}
            result => return result,
        }
        let now: AnyObject = send(client, requests(object).get(&object.name, &GetParams::default())).await?;
        let now = now.meta();
        if now.uid.as_ref() != Some(&object.uid) {
            return Err(Failed::Changed);
        }
        (finalizers, version) = (now.finalizers.clone().unwrap_or_default(), now.resource_version.clone().unwrap_or_default());
    }
    Err(Failed::Changed)
}

async fn remove_label(client: &Client, object: &ManagedObject) -> Result<(), Failed> {
    let patch = json!({"metadata": {"uid": object.uid, "labels": {LABEL_DECIDED: null}}});
    patch_object(client, object, &patch).await
}

async fn patch_object(client: &Client, object: &ManagedObject, patch: &Value) -> Result<(), Failed> {
    let request = requests(object).patch(&object.name, &PatchParams::default(), &Patch::Merge(patch));
    send::<IgnoredAny>(client, request).await.map(drop)
}
