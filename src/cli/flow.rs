//! `policy-baseline explain flow`: says whether policies allow a flow, by which rule, and what is missing.

use std::{io::Read, path::Path, time::Duration};

use clap::Args as ClapArgs;

use super::{
    cluster::{self, Connection},
    output::{self, Output},
};
use crate::{
    api::text::shown,
    cluster::{
        error::ApiProblem,
        flow_objects::{self, FlowListError},
    },
    policy::{
        explain::WHO_GRANTS,
        flow::{AskedPort, CompiledPolicies, DUMP_COMMAND, FlowDecision, FlowDump, FlowEnd, FlowSnapshot},
    },
};

/// The exit code if the flow is denied, or if it is undecided.
const NOT_ALLOWED: u8 = 3;

#[derive(Debug, ClapArgs)]
pub struct FlowArgs {
    /// Who sends: NAMESPACE/POD or an IP address.
    #[arg(long, value_name = "SOURCE", value_parser = source)]
    from: FlowEnd,

    /// Who receives: NAMESPACE/POD, NAMESPACE/svc/NAME or an IP address.
    #[arg(long, value_name = "DESTINATION")]
    to: FlowEnd,

    /// The port of the destination: a number, or the name of a container port or Service port. TCP, unless it says UDP/PORT or SCTP/PORT.
    #[arg(long, value_name = "[TCP/]PORT")]
    port: AskedPort,

    /// Read no cluster, but this file (- is standard input). It is what this command writes:
    /// kubectl get ns,pods,svc,endpointslices,netpol -A -o json
    #[arg(long, value_name = "FILE", conflicts_with = "context")]
    dump: Option<String>,

    #[command(flatten)]
    connection: Connection,

    /// The format of the output.
    #[arg(long, short, value_name = "FORMAT", default_value = "text")]
    output: Output,

    /// How many seconds the API server may take to list everything.
    #[arg(long, value_name = "SECONDS", default_value_t = 15, value_parser = clap::value_parser!(u16).range(1..=600))]
    timeout: u16,
}

fn source(text: &str) -> Result<FlowEnd, String> {
    match text.parse()? {
        FlowEnd::Service { .. } => Err("a Service sends nothing; write NAMESPACE/POD or an IP address".into()),
        end @ (FlowEnd::Pod { .. } | FlowEnd::Address(_)) => Ok(end),
    }
}

/// Runs the subcommand. Returns the exit code.
pub fn run(args: &FlowArgs) -> Result<u8, String> {
    let FlowDump { objects, mut warnings, .. } = match &args.dump {
        Some(file) => read(file)?,
        None => cluster::block_on(list(args))?,
    };
    let snapshot: FlowSnapshot = objects.into_iter().collect();
    let compiled = CompiledPolicies::of(&snapshot);
    warnings.extend(snapshot.gaps().into_iter().chain(compiled.refused_parts()));
    for warning in warnings {
        output::warn(&warning);
    }
    let answer = compiled.answer(&args.from, &args.to, &args.port).map_err(|error| shown(&error.to_string()).into_owned())?;
    output::print(&args.output.of(&answer)?)?;
    Ok(if answer.decision == FlowDecision::Allowed { 0 } else { NOT_ALLOWED })
}

/// Reads a dump from a file, or from standard input.
fn read(file: &str) -> Result<FlowDump, String> {
    let text = match file {
        "-" => {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).map(|_| text)
        }
        file => std::fs::read_to_string(Path::new(file)),
    };
    let shown = if file == "-" { "standard input" } else { file };
    let text = text.map_err(|error| format!("cannot read {shown}: {error}"))?;
    FlowDump::read(&text).map_err(|error| format!("{shown} is no usable dump: {error}. Write one with: {DUMP_COMMAND}"))
}

async fn list(args: &FlowArgs) -> Result<FlowDump, String> {
    let (clients, address) = args.connection.reach().await?;
    let patience = Duration::from_secs(args.timeout.into());
    let listed = tokio::time::timeout(patience, flow_objects::list(&clients.requests)).await;
    let listed =
        listed.map_err(|_| format!("not everything could be listed within {patience:?}. --timeout sets more seconds"))?;
    listed.map_err(|FlowListError { resource, problem }| match problem {
        // The operator's own permissions are of no help here: it may not list all pods.
        ApiProblem::Forbidden(message) => format!("you may not list {resource}: {message}. {WHO_GRANTS}"),
        problem => format!("cannot list {resource}: {}", problem.sentence(&address)),
    })
}
