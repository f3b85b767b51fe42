//! Deletions that take effect only on the object that was seen.

use kube::api::{DeleteParams, Preconditions};

/// Deletes only the object with this uid and, if it is given, this resourceVersion.
pub fn only(uid: &str, resource_version: Option<String>) -> DeleteParams {
    let preconditions = Preconditions { uid: Some(uid.into()), resource_version };
    DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() }
}
