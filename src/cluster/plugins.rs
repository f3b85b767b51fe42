//! Finds the network plugin of a cluster, once.

use futures::future::try_join_all;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{Api, Client, ResourceExt, api::ListParams};

use crate::policy::plugins::{PluginsFound, SlimPlugin, daemon_set_names};

/// Lists what shows the network plugin. An error comes with what could not be listed.
pub async fn find(client: &Client) -> Result<PluginsFound, (&'static str, kube::Error)> {
    let daemon_sets: Api<SlimPlugin> = Api::all(client.clone());
    let list = async |name: &'static str| daemon_sets.list(&ListParams::default().fields(&format!("metadata.name={name}"))).await;
    let listed =
        try_join_all(daemon_set_names().map(list)).await.map_err(|error| ("the DaemonSets of network plugins", error))?;
    let mut found = PluginsFound::default();
    listed.into_iter().flatten().for_each(|daemon_set| found.saw(daemon_set.into()));
    if found.has_daemon_sets() {
        return Ok(found);
    }
    let crds: Api<CustomResourceDefinition> = Api::all(client.clone());
    let crds = crds.list_metadata(&ListParams::default()).await.map_err(|error| ("CRDs", error))?;
    crds.iter().for_each(|crd| found.crd(&crd.name_any(), true));
    Ok(found)
}
