//! Whether the API server serves the custom kinds.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, CustomResourceDefinitionCondition,
};
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, ListParams};
use kube::{Client, Resource};

pub fn is_established(crd: &CustomResourceDefinition) -> bool {
    let conditions = crd.status.as_ref().and_then(|status| status.conditions.as_ref());
    let established =
        |condition: &CustomResourceDefinitionCondition| condition.type_ == "Established" && condition.status == "True";
    crd.meta().deletion_timestamp.is_none() && conditions.is_some_and(|all| all.iter().any(established))
}

/// Lists every version of these kinds once. The error is that of the first that is not served.
///
/// The API server creates the storage of a custom kind at the first request, after the condition Established and after `/readyz`. It
/// answers 429 until the cache of that kind is filled. kubectl sends such a request again, the client of the tests does not.
pub async fn list_each(client: &Client, crds: impl IntoIterator<Item = &CustomResourceDefinition>) -> kube::Result<()> {
    for crd in crds {
        for version in crd.spec.versions.iter().filter(|version| version.served) {
            let names = &crd.spec.names;
            let kind = GroupVersionKind::gvk(&crd.spec.group, &version.name, &names.kind);
            let resource = ApiResource::from_gvk_with_plural(&kind, &names.plural);
            Api::<DynamicObject>::all_with(client.clone(), &resource).list(&ListParams::default()).await?;
        }
    }
    Ok(())
}
