//! Lists that no object can break: of each object, the times that cannot be read are left out.

use kube::{
    Client, Resource,
    api::{ListParams, ObjectList},
    core::Request,
};
use serde::de::DeserializeOwned;

use crate::api::lenient::AnyObject;

/// The objects of a kind, in one namespace or in all.
pub async fn list<K>(client: &Client, namespace: Option<&str>, params: &ListParams) -> kube::Result<Vec<K>>
where
    K: Resource<DynamicType = ()> + DeserializeOwned,
{
    let request = Request::new(K::url_path(&(), namespace)).list(params).map_err(kube::Error::BuildRequest)?;
    let listed: ObjectList<AnyObject> = client.request(request).await?;
    let objects = listed.items.into_iter().map(|object| K::deserialize(object.value));
    objects.collect::<Result<_, _>>().map_err(kube::Error::SerdeError)
}

/// One page of objects of a kind, in one namespace or in all, with their metadata only.
pub async fn list_metadata<K>(
    client: &Client,
    namespace: Option<&str>,
    params: &ListParams,
) -> kube::Result<ObjectList<AnyObject>>
where
    K: Resource<DynamicType = ()>,
{
    let request = Request::new(K::url_path(&(), namespace)).list_metadata(params).map_err(kube::Error::BuildRequest)?;
    client.request(request).await
}
