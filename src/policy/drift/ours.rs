//! Whether a policy is ours, judged by its metadata.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::{
    api::names::{DOMAIN, LABEL_ID, LABEL_MANAGED_BY, MANAGER},
    policy::plan::own_id,
};

/// Whether a policy is ours: it has our label, and the id for its own namespace and name.
pub fn is_ours(meta: &ObjectMeta) -> bool {
    let (namespace, name) = (meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default());
    let label = |key: &str| meta.labels.as_ref().and_then(|labels| labels.get(key)).map(String::as_str);
    label(LABEL_MANAGED_BY) == Some(MANAGER) && label(LABEL_ID).is_some_and(|id| id == own_id(namespace, name))
}

/// Whether a policy has labels of ours. Without the right id, it is a copy, or somebody changed its labels.
pub fn has_our_labels(meta: &ObjectMeta) -> bool {
    let is_of_ours = |(key, value): (&String, &String)| key.starts_with(DOMAIN) || (key == LABEL_MANAGED_BY && value == MANAGER);
    meta.labels.iter().flatten().any(is_of_ours)
}
