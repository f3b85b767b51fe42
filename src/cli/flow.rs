//! `policy-baseline explain flow`: says whether policies allow a flow, by which rule, and what is missing.

use clap::Args as ClapArgs;

use super::{
    cluster, exit,
    flow_input::FlowInput,
    output::{self, Output},
};
use crate::{
    api::text::shown,
    policy::flow::{AskedPort, CompiledPolicies, FlowDecision, FlowDump, FlowEnd, FlowSnapshot},
};

#[derive(Debug, ClapArgs)]
pub struct FlowArgs {
    /// Who sends: NAMESPACE/POD or an IP address.
    #[arg(long, value_name = "SOURCE")]
    from: String,

    /// Who receives: NAMESPACE/POD, NAMESPACE/svc/NAME or an IP address.
    #[arg(long, value_name = "DESTINATION")]
    to: String,

    /// The namespace of ends that name none: then --from POD, and --to POD or svc/NAME.
    #[arg(long, short = 'n', value_name = "NAME", value_parser = cluster::namespace)]
    namespace: Option<String>,

    /// The port of the destination: a number, or the name of a container port or Service port. TCP, unless it says UDP/PORT or SCTP/PORT.
    #[arg(long, value_name = "[TCP/]PORT")]
    port: AskedPort,

    #[command(flatten)]
    input: FlowInput,

    /// The format of the output.
    #[arg(long, short, value_name = "FORMAT", default_value = "text")]
    output: Output,
}

fn source(text: &str, namespace: Option<&str>) -> Result<FlowEnd, String> {
    match FlowEnd::read(text, namespace)? {
        FlowEnd::Service { .. } => Err("a Service sends nothing; write NAMESPACE/POD or an IP address".into()),
        end @ (FlowEnd::Pod { .. } | FlowEnd::Address(_)) => Ok(end),
    }
}

/// Runs the subcommand. Returns the exit code.
pub fn run(args: &FlowArgs) -> Result<u8, String> {
    let namespace = args.namespace.as_deref();
    let from = source(&args.from, namespace).map_err(|error| format!("--from {}: {error}", args.from))?;
    let to = FlowEnd::read(&args.to, namespace).map_err(|error| format!("--to {}: {error}", args.to))?;
    let FlowDump { objects, mut warnings, .. } = args.input.read()?;
    let snapshot: FlowSnapshot = objects.into_iter().collect();
    let compiled = CompiledPolicies::of(&snapshot);
    warnings.extend(snapshot.gaps().into_iter().chain(compiled.refused_parts()));
    for warning in warnings {
        output::warn(&warning);
    }
    let answer = compiled.answer(&from, &to, &args.port).map_err(|error| shown(&error.to_string()).into_owned())?;
    output::print(&args.output.of(&answer)?)?;
    Ok(if answer.decision == FlowDecision::Allowed { 0 } else { exit::FINDINGS })
}
