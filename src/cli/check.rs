//! `policy-baseline check`: shows which network plugin the cluster has, and what is known of it.

use std::time::Duration;

use clap::Args as ClapArgs;

use super::{
    cluster::{self, Connection},
    exit,
    output::{self, Output},
};
use crate::{
    cluster::{error::ApiProblem, plugins},
    policy::plugins::PluginJudgement,
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
    let found = tokio::time::timeout(patience, plugins::find(&clients.requests)).await;
    let found = found.map_err(|_| format!("not everything could be listed within {patience:?}"))?;
    found.map(|found| found.judge()).map_err(|(what, error)| {
        format!("cannot list {what}, so the network plugin is not known: {}", ApiProblem::of(&error).sentence(&address))
    })
}
