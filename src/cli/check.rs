//! `policy-baseline check`: shows which network plugin the cluster has, and what is known of it.

use std::time::Duration;

use clap::Args as ClapArgs;
use futures::future::try_join_all;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{Api, Client, ResourceExt, api::ListParams};

use super::{
    cluster::{self, Connection},
    exit,
    output::{self, Output},
};
use crate::{
    cluster::error::ApiProblem,
    policy::plugins::{PluginJudgement, PluginsFound, SlimPlugin, daemon_set_names},
};

#[derive(Debug, ClapArgs)]
pub struct CheckArgs {
    #[command(flatten)]
    connection: Connection,

    /// The format of the output.
    #[arg(long, short, value_name = "FORMAT", default_value = "text")]
    output: Output,

    /// How many seconds the API server may take to list everything.
    #[arg(long, value_name = "SECONDS", default_value_t = 15, value_parser = clap::value_parser!(u16).range(1..=600))]
    timeout: u16,
}

/// Runs the subcommand. Returns the exit code.
pub fn run(args: &CheckArgs) -> Result<u8, String> {
    let found = cluster::block_on(check(args))?;
    output::print(&args.output.of(&found)?)?;
    Ok(if found.enforces { 0 } else { exit::FINDINGS })
}

async fn check(args: &CheckArgs) -> Result<PluginJudgement, String> {
    let (clients, address) = args.connection.reach().await?;
    let patience = Duration::from_secs(args.timeout.into());
    let found = tokio::time::timeout(patience, find(&clients.requests)).await;
    let found = found.map_err(|_| format!("not everything could be listed within {patience:?}"))?;
    found.map(|found| found.judge()).map_err(|(what, error)| {
        format!("cannot list {what}, so the network plugin is not known: {}", ApiProblem::of(&error).sentence(&address))
    })
}

/// Lists what shows the network plugin. An error comes with what could not be listed.
async fn find(client: &Client) -> Result<PluginsFound, (&'static str, kube::Error)> {
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
