//! Lists the objects that decide flows, once, page by page.

use k8s_openapi::api::{
    apps::v1::DaemonSet,
    core::v1::{Namespace, Pod, Service},
    discovery::v1::EndpointSlice,
    networking::v1::NetworkPolicy,
};
use kube::{Client, Resource, api::ListParams, core::Request};

use super::error::ApiProblem;
use crate::policy::flow::FlowDump;

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
    list_kind::<Namespace>(client, "namespaces", &mut all).await?;
    list_kind::<Pod>(client, "pods", &mut all).await?;
    list_kind::<Service>(client, "services", &mut all).await?;
    list_kind::<EndpointSlice>(client, "endpointslices", &mut all).await?;
    Ok(all)
}

/// Lists what shows more of the cluster's DNS than a dump needs to have. Without permission for it, a warning says what is not known.
pub async fn list_dns(client: &Client, all: &mut FlowDump) -> Result<(), FlowListError> {
    match list_kind::<DaemonSet>(client, "daemonsets", all).await {
        Err(FlowListError { problem: ApiProblem::Forbidden(message), .. }) => {
            all.warnings
                .push(format!("you may not list daemonsets, so it is not known whether NodeLocal DNSCache runs: {message}"));
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
    let failed = |problem| FlowListError { resource, problem };
    let mut page = ListParams::default().limit(PAGE);
    loop {
        let request = Request::new(K::url_path(&(), None)).list(&page).map_err(kube::Error::BuildRequest);
        let text = match request {
            Ok(request) => client.request_text(request).await,
            Err(error) => Err(error),
        };
        let text = text.map_err(|error| failed(ApiProblem::of(&error)))?;
        let FlowDump { objects, warnings, next, facts } =
            FlowDump::read(&text).map_err(|error| failed(ApiProblem::Other(error)))?;
        all.objects.extend(objects);
        all.warnings.extend(warnings);
        all.facts.extend(facts);
        match next {
            Some(token) => page = page.continue_token(&token),
            None => return Ok(()),
        }
    }
}
