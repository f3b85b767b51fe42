//! `policy-baseline explain flow`: says whether policies allow a flow, by which rule, and what is missing.

use clap::Args as ClapArgs;

use super::{
    cluster, exit,
    flow_input::FlowInput,
    output::{self, Output},
};
use crate::{
    api::{label_query::LabelQuery, text::shown},
    policy::flow::{AskedPort, CompiledPolicies, FlowDump, FlowEnd, FlowSnapshot},
};

#[derive(Debug, ClapArgs)]
pub struct FlowArgs {
    /// Who sends: NAMESPACE/POD, NAMESPACE/deploy/NAME for all pods of a workload (also sts, ds, rs, job and cronjob), or an IP address.
    #[arg(long, value_name = "SOURCE", required_unless_present = "selector")]
    from: Option<String>,

    /// Instead of --from: all pods with these labels in the namespace of -n send, such as -l app=web or -l 'app in (web,api),!canary'.
    #[arg(long, short = 'l', value_name = "SELECTOR", conflicts_with = "from", requires = "namespace")]
    selector: Option<LabelQuery>,

    #[command(flatten)]
    target: FlowTargetArgs,

    #[command(flatten)]
    input: FlowInput,

    /// The format of the output.
    #[arg(long, short, value_name = "FORMAT", default_value = "text")]
    output: Output,
}

/// Whom a flow goes to, and the namespace of both ends.
#[derive(Debug, ClapArgs)]
pub struct FlowTargetArgs {
    /// Who receives: NAMESPACE/POD, NAMESPACE/svc/NAME, NAMESPACE/deploy/NAME or an IP address.
    #[arg(long, value_name = "DESTINATION")]
    to: String,

    /// The namespace of ends that name none: then --from POD or deploy/NAME, and --to POD, svc/NAME or deploy/NAME.
    #[arg(long, short = 'n', value_name = "NAME", value_parser = cluster::namespace)]
    namespace: Option<String>,

    /// The port of the destination: a number, or the name of a container port or Service port. TCP, unless it says UDP/PORT or SCTP/PORT.
    #[arg(long, value_name = "[TCP/]PORT")]
    pub port: AskedPort,
}

impl FlowTargetArgs {
    /// Reads who sends.
    pub fn source(&self, from: &str) -> Result<FlowEnd, String> {
        FlowEnd::source(from, self.namespace.as_deref()).map_err(|error| format!("--from {from}: {error}"))
    }

    /// Reads who receives.
    pub fn destination(&self) -> Result<FlowEnd, String> {
        FlowEnd::read(&self.to, self.namespace.as_deref()).map_err(|error| format!("--to {}: {error}", self.to))
    }
}

/// Who sends. clap makes sure that the flags say so in one way.
fn sender(args: &FlowArgs) -> Result<FlowEnd, String> {
    if let (Some(labels), Some(namespace)) = (&args.selector, &args.target.namespace) {
        return Ok(FlowEnd::Labelled { namespace: namespace.clone(), labels: labels.clone() });
    }
    args.target.source(args.from.as_deref().unwrap_or_default())
}

/// Runs the subcommand. Returns the exit code.
pub fn run(args: &FlowArgs) -> Result<u8, String> {
    let (from, to) = (sender(args)?, args.target.destination()?);
    let FlowDump { objects, mut warnings, .. } = args.input.read_with_workloads(&[&from, &to])?;
    let snapshot: FlowSnapshot = objects.into_iter().collect();
    let compiled = CompiledPolicies::of(&snapshot);
    warnings.extend(snapshot.gaps().into_iter().chain(compiled.refused_parts()));
    for warning in warnings {
        output::warn(&warning);
    }
    let answer = compiled.answer(&from, &to, &args.target.port).map_err(|error| shown(&error.to_string()).into_owned())?;
    output::print(&args.output.of(&answer)?)?;
    Ok(if answer.is_allowed() { 0 } else { exit::FINDINGS })
}
