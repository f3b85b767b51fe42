//! `policy-baseline list-managed`: lists everything in the cluster that is ours.

use clap::{Args as ClapArgs, ValueEnum};
use jiff::Timestamp;

use super::{
    cluster::{self, Cluster},
    output::{self, Output},
};
use crate::{api::label_query::LabelQuery, cluster::inventory};

#[derive(Debug, ClapArgs)]
pub struct ListManagedArgs {
    #[command(flatten)]
    cluster: Cluster,

    /// Only policies that no baseline plans: their baseline does not exist, or does not plan them there any more, or they only have its labels.
    #[arg(long)]
    orphans: bool,

    /// Only what is in this namespace.
    #[arg(long, short = 'n', value_name = "NAME", value_parser = cluster::namespace)]
    namespace: Option<String>,

    /// Only objects with these labels, such as -l policybaseline.io/baseline=platform.
    #[arg(long, short = 'l', value_name = "SELECTOR")]
    selector: Option<LabelQuery>,

    /// What is in all namespaces. That is the default.
    #[arg(long, short = 'A', conflicts_with = "namespace")]
    all_namespaces: bool,

    /// The format of the output.
    #[arg(long, short, value_name = "FORMAT", default_value = "text")]
    output: ListOutput,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ListOutput {
    /// For people.
    #[value(aliases = ["table", "wide"])]
    Text,
    /// For machines.
    Json,
    /// For people and machines.
    Yaml,
    /// The resource and the name of each object, as kubectl takes them.
    Name,
}

/// Runs the subcommand.
pub fn run(args: &ListManagedArgs) -> Result<(), String> {
    let found = cluster::block_on(async {
        let (clients, address) = args.cluster.reach().await?;
        if let Some(missing) = cluster::missing_crds(&clients.requests).await {
            output::warn(missing);
        }
        let read = inventory::read(&clients.requests, &args.cluster.operator_namespace()).await;
        read.map_err(|error| cluster::unread(&error, &address))
    })?;
    let inventory = found.inventory(Timestamp::now());
    let inventory = if args.orphans { inventory.orphans() } else { inventory };
    let inventory = match &args.namespace {
        Some(namespace) => inventory.within(namespace),
        None => inventory,
    };
    let inventory = match &args.selector {
        Some(labels) => inventory.labelled(labels),
        None => inventory,
    };
    output::print(&match args.output {
        ListOutput::Text => Output::Text.of(&inventory)?,
        ListOutput::Json => Output::Json.of(&inventory)?,
        ListOutput::Yaml => Output::Yaml.of(&inventory)?,
        ListOutput::Name => inventory.names(),
    })
}
