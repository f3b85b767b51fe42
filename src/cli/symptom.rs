//! `policy-baseline explain symptom`: checks the causes of what a person sees.

use clap::{Args as ClapArgs, Subcommand};

use super::{
    cluster, examples, exit,
    flow::FlowTargetArgs,
    flow_input::FlowInput,
    output::{self, Output},
};
use crate::{
    api::{names::is_dns_label, text::shown},
    policy::{
        flow::{CompiledPolicies, FlowEnd, FlowSnapshot},
        symptoms::{
            DnsAskers, Symptom, SymptomAnswer, SymptomError, SymptomSurroundings, TrafficQuestion, dns_hangs, of_traffic,
        },
    },
};

#[derive(Debug, ClapArgs)]
pub struct SymptomArgs {
    #[command(subcommand)]
    symptom: SymptomCommand,
}

#[derive(Debug, Subcommand)]
enum SymptomCommand {
    /// Names resolve late or not at all: checks what stands between a pod and its DNS.
    ///
    /// Each cause is found, ruled out, or not known. It reads objects, sends no packet and writes nothing. With --dump it needs no cluster.
    ///
    /// Exit codes: 0 if no cause is found; 1 if one is, or if it is undecided; 2 if the objects cannot be read, there is no such pod, or a flag is wrong.
    #[command(after_help = examples::SYMPTOM_DNS_HANGS)]
    DnsHangs(DnsArgs),
    /// Two ends should talk, and cannot: checks policies, Services, ports, readiness and DNS.
    ///
    /// Each cause is found, ruled out, or not known. It reads objects, sends no packet and writes nothing. With --dump it needs no cluster.
    ///
    /// Exit codes: 0 if no cause is found; 1 if one is, or if it is undecided; 2 if the objects cannot be read, there is no such pod or Service, or a flag is wrong.
    #[command(after_help = examples::SYMPTOM_BLOCKED)]
    Blocked(TrafficArgs),
    /// A policy is there, and traffic flows: checks what lets it through.
    ///
    /// Each cause is found, ruled out, or not known. It reads objects, sends no packet and writes nothing. With --dump it needs no cluster.
    ///
    /// Exit codes: 0 if no cause is found; 1 if one is, or if it is undecided; 2 if the objects cannot be read, there is no such pod, Service or policy, or a flag is
    /// wrong.
    #[command(after_help = examples::SYMPTOM_PASSES)]
    Passes(PassesArgs),
    /// A rule should allow the traffic, and it is blocked: checks why the rule does not match, and what else denies it.
    ///
    /// Each cause is found, ruled out, or not known. It reads objects, sends no packet and writes nothing. With --dump it needs no cluster.
    ///
    /// Exit codes: 0 if no cause is found; 1 if one is, or if it is undecided; 2 if the objects cannot be read, there is no such pod or Service, or a flag is wrong.
    #[command(after_help = examples::SYMPTOM_BLOCKED_THOUGH_ALLOWED)]
    BlockedThoughAllowed(TrafficArgs),
    /// The problem comes and goes: checks what differs between pods, replicas, address families and nodes.
    ///
    /// Each cause is found, ruled out, or not known. It reads objects, sends no packet and writes nothing. With --dump it needs no cluster.
    ///
    /// Exit codes: 0 if no cause is found; 1 if one is, or if it is undecided; 2 if the objects cannot be read, there is no such pod or Service, or a flag is wrong.
    #[command(after_help = examples::SYMPTOM_COMES_AND_GOES)]
    ComesAndGoes(TrafficArgs),
}

#[derive(Debug, ClapArgs)]
struct DnsArgs {
    /// Who asks for names: NAMESPACE/POD, or NAMESPACE/deploy/NAME for all pods of a workload. Without it, all pods of the namespace of -n.
    #[arg(long, value_name = "POD", required_unless_present_any = ["namespace", "selector"])]
    from: Option<String>,

    /// The namespace of the pod, if --from names none.
    #[arg(long, short = 'n', value_name = "NAME", value_parser = cluster::namespace)]
    namespace: Option<String>,

    #[command(flatten)]
    common: CommonArgs,
}

#[derive(Debug, ClapArgs)]
struct TrafficArgs {
    /// Who sends: NAMESPACE/POD, NAMESPACE/deploy/NAME or an IP address.
    #[arg(long, value_name = "SOURCE", required_unless_present = "selector")]
    from: Option<String>,

    #[command(flatten)]
    target: FlowTargetArgs,

    #[command(flatten)]
    common: CommonArgs,
}

#[derive(Debug, ClapArgs)]
struct PassesArgs {
    /// The policy that should deny it: NAME or NAMESPACE/NAME. Without it, every policy of the namespaces of both ends may be meant.
    #[arg(long, value_name = "POLICY", value_parser = policy_name)]
    policy: Option<NamedPolicy>,

    #[command(flatten)]
    traffic: TrafficArgs,
}

#[derive(Debug, ClapArgs)]
struct CommonArgs {
    #[command(flatten)]
    input: FlowInput,

    /// `explain flow` takes labels, so people write them here, too.
    #[arg(long, short = 'l', value_name = "SELECTOR", hide = true)]
    selector: Option<String>,

    /// The format of the output.
    #[arg(long, short, value_name = "FORMAT", default_value = "text")]
    output: Output,
}

/// A policy, and its namespace if one was given.
#[derive(Clone, Debug)]
struct NamedPolicy {
    namespace: Option<String>,
    name: String,
}

fn policy_name(text: &str) -> Result<NamedPolicy, String> {
    let (namespace, name) = match text.split_once('/') {
        Some((namespace, name)) => (Some(namespace.to_owned()), name),
        None => (None, text),
    };
    if name.is_empty() || name.contains('/') || namespace.as_deref().is_some_and(|namespace| !is_dns_label(namespace)) {
        return Err("write NAME or NAMESPACE/NAME, for example shop/db-from-web".into());
    }
    Ok(NamedPolicy { namespace, name: name.into() })
}

/// Runs the subcommand. Returns the exit code.
pub fn run(args: &SymptomArgs) -> Result<u8, String> {
    match &args.symptom {
        SymptomCommand::DnsHangs(args) => dns(args),
        SymptomCommand::Blocked(args) => traffic(args, Symptom::Blocked, None),
        SymptomCommand::Passes(args) => traffic(&args.traffic, Symptom::Passes, args.policy.as_ref()),
        SymptomCommand::BlockedThoughAllowed(args) => traffic(args, Symptom::BlockedThoughAllowed, None),
        SymptomCommand::ComesAndGoes(args) => traffic(args, Symptom::ComesAndGoes, None),
    }
}

/// Labels name no source here.
fn without_labels(args: &CommonArgs) -> Result<(), String> {
    match &args.selector {
        None => Ok(()),
        Some(labels) => Err(format!(
            "-l {labels}: this command takes no labels; write --from NAMESPACE/POD, or --from NAMESPACE/deploy/NAME for all pods of a workload. The pods with these labels: kubectl get pods -A -l '{labels}'"
        )),
    }
}

fn dns(args: &DnsArgs) -> Result<u8, String> {
    without_labels(&args.common)?;
    let namespace = args.namespace.as_deref();
    let askers = match (&args.from, namespace) {
        (Some(from), namespace) => {
            let wrong = |error: &str| format!("--from {from}: {error}");
            match FlowEnd::source(from, namespace).map_err(|error| wrong(&error))? {
                FlowEnd::Address(_) => {
                    return Err(wrong("only pods ask for names; write NAMESPACE/POD or NAMESPACE/deploy/NAME"));
                }
                pods => DnsAskers::Pods(pods),
            }
        }
        (None, Some(namespace)) => DnsAskers::Namespace(namespace.to_owned()),
        (None, None) => return Err("write --from NAMESPACE/POD, or -n NAMESPACE for all its pods".into()),
    };
    answer(&args.common, |compiled, around| dns_hangs(compiled, around, &askers))
}

fn traffic(args: &TrafficArgs, symptom: Symptom, policy: Option<&NamedPolicy>) -> Result<u8, String> {
    without_labels(&args.common)?;
    let (from, to) = (args.target.source(args.from.as_deref().unwrap_or_default())?, args.target.destination()?);
    let policy = policy.map(|policy| (policy.namespace.clone(), policy.name.clone()));
    let question = TrafficQuestion { symptom, from, to, port: args.target.port.clone(), policy };
    answer(&args.common, |compiled, around| of_traffic(compiled, around, &question))
}

/// Reads the objects, and prints the answer. Returns the exit code.
fn answer(
    args: &CommonArgs,
    ask: impl FnOnce(&CompiledPolicies, &SymptomSurroundings) -> Result<SymptomAnswer, SymptomError>,
) -> Result<u8, String> {
    let (dump, around) = args.input.read_with_surroundings()?;
    let snapshot: FlowSnapshot = dump.objects.into_iter().collect();
    let compiled = CompiledPolicies::of(&snapshot);
    for warning in dump.warnings.into_iter().chain(snapshot.gaps()).chain(compiled.refused_parts()) {
        output::warn(&warning);
    }
    let answer = ask(&compiled, &around).map_err(|error| shown(&error.to_string()).into_owned())?;
    output::print(&args.output.of(&answer)?)?;
    Ok(if answer.is_found() || answer.is_undecided() { exit::FINDINGS } else { 0 })
}
