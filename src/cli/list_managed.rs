//! `policy-baseline list-managed`: lists everything in the cluster that is ours.

use clap::Args as ClapArgs;
use jiff::Timestamp;

use super::{
    cluster::{self, Cluster},
    output::{self, Output},
};
use crate::cluster::inventory;

#[derive(Debug, ClapArgs)]
pub struct ListManagedArgs {
    #[command(flatten)]
    cluster: Cluster,

    /// Only policies that no baseline plans: their baseline does not exist, or does not plan them there any more, or they only have its labels.
    #[arg(long)]
    orphans: bool,

    /// The format of the output.
    #[arg(long, short, value_name = "FORMAT", default_value = "text")]
    output: Output,
}

/// Runs the subcommand.
pub fn run(args: &ListManagedArgs) -> Result<(), String> {
    let found = cluster::block_on(async {
        let (clients, address) = args.cluster.reach().await?;
        let read = inventory::read(&clients.requests, &args.cluster.operator_namespace()).await;
        read.map_err(|error| cluster::unread(&error, &address))
    })?;
    let inventory = found.inventory(Timestamp::now());
    let inventory = if args.orphans { inventory.orphans() } else { inventory };
    output::print(&args.output.of(&inventory)?)
}
