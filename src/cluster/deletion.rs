//! Deletions that take effect only on the object that was seen.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{DeleteParams, Preconditions};

use crate::api::lenient;

/// What answers a deletion: a Status, or the object that is still there because a finalizer holds it.
#[derive(Default, serde::Deserialize)]
pub struct AnswerMeta {
    /// The metadata of the object; empty in a Status.
    #[serde(default, deserialize_with = "lenient::metadata")]
    pub metadata: ObjectMeta,
}

/// Deletes only the object with this uid and, if it is given, this resourceVersion.
pub fn only(uid: &str, resource_version: Option<String>) -> DeleteParams {
    let preconditions = Preconditions { uid: Some(uid.into()), resource_version };
    DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() }
}
