//! The command line: parses the flags, converts them to settings, and starts the work. One file for each subcommand.

mod check;
mod cluster;
mod crd;
mod diff;
mod examples;
mod exit;
mod explain;
mod flow;
mod flow_input;
mod generate;
mod lint;
mod list_managed;
mod manifest_files;
mod other_tools;
mod output;
mod render;
mod run;
mod symptom;
mod uninstall;
mod would_break;

use std::{io::Write, path::Path, process::ExitCode};

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

/// The name under which kubectl finds a plugin that is called `kubectl baseline`.
const PLUGIN: &str = "kubectl-baseline";

/// Keeps default-deny NetworkPolicies, with DNS allowed, in every namespace.
#[derive(Debug, Parser)]
#[command(name = "policy-baseline", version, about, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the operator until SIGTERM or SIGINT.
    ///
    /// The first signal stops it within 5 s: writes in flight end, and the Lease is released. A second signal stops it at once.
    ///
    /// Exit codes: 0 after the first signal; 128 plus the number of the signal after a second one; 1 after an internal failure, with the
    /// reason on stderr; 2 for a wrong flag.
    #[command(after_help = examples::RUN)]
    Run(run::RunArgs),
    /// Shows what the operator plans in a namespace and why, whether policies allow a flow, or the causes of a symptom.
    Explain(explain::ExplainArgs),
    /// Writes the policies that a baseline plans, without an operator: for manifests in a repository, or to try them first.
    ///
    /// They are exactly what the operator would store, for the namespaces of a cluster, of a dump, of a file, or for those that are named. Without a
    /// cluster or a dump, the DNS of the cluster is not known, and the policies allow the DNS of the spec and of kube-system. Opt-outs are not
    /// considered, and neither is whether the API server calls a Service in a namespace. It writes nothing to the cluster.
    ///
    /// Exit codes: 0; 2 if the baseline or the objects cannot be read, no namespace has the labels of --selector, or a flag is wrong.
    #[command(after_help = examples::RENDER)]
    Render(render::RenderArgs),
    /// Says which recorded flows a baseline would deny, before it is enforced, and which policies would let them through.
    ///
    /// It joins flows that the network plugin recorded with the policies that the baseline plans. It takes the baseline as enforced in every
    /// namespace that it selects. Without a baseline it judges the policies that exist. It sends no packet and writes nothing. The ClusterRole view,
    /// bound by a ClusterRoleBinding, is enough. With --dump it needs no cluster.
    ///
    /// Exit codes: 0 if every flow is allowed; 1 if one is denied or undecided; 2 if the recording, the baseline or the objects cannot be read,
    /// or a flag is wrong.
    #[command(after_help = examples::WOULD_BREAK)]
    WouldBreak(would_break::WouldBreakArgs),
    /// Shows which flows two versions of policies, or of a baseline, decide differently, by workload.
    ///
    /// The pods are the same for both: those of the cluster, of a dump, or of manifests with workloads. What else exists there applies to both.
    /// A baseline counts as enforced in every namespace that it selects. It sends no packet and writes nothing.
    ///
    /// Exit codes: 0 if every flow is decided as before; 1 if one is newly allowed or newly denied; 2 if something cannot be read, or for a
    /// wrong flag.
    #[command(after_help = examples::DIFF)]
    Diff(diff::DiffArgs),
    /// Finds mistakes in NetworkPolicies, PolicyBaselines and BaselineOptOuts, before they reach a cluster.
    ///
    /// It reads files, folders and standard input: YAML, JSON, Lists, several documents, and what kustomize and helm write. It finds what the API
    /// server refuses, in its words, and what is allowed but does not do what it seems to do. If workloads, Services or namespaces are given
    /// too, it looks whether selectors, port names and addresses fit to them. docs/lint.md has every rule, with examples.
    ///
    /// In a folder it leaves out the templates of Helm charts, and the patches that a kustomization names. Annotate an object to ignore a rule:
    /// policybaseline.io/lint-ignore: RULE=reason.
    ///
    /// Exit codes: 0 if nothing of the severity of --fail-on or worse is found; 1 if something is; 2 if a file cannot be read, or for a wrong
    /// flag.
    #[command(after_help = examples::LINT)]
    Lint(lint::LintArgs),
    /// Looks for the network plugin, and says what is known of it: whether it enforces NetworkPolicies or ignores them.
    ///
    /// It finds the plugin by the name of its DaemonSet, or by its CRDs, and reads the switches in the arguments of its pods. It sends no
    /// packets, and only packets prove that policies are enforced. It needs permission to list DaemonSets of these names, and CRDs, as in
    /// manifests/base/rbac.yaml. It writes nothing.
    ///
    /// Exit codes: 0 if a plugin was found that enforces policies; 1 if it ignores them, may ignore them, or is not known; 2 if the cluster
    /// cannot be read, or a flag is wrong.
    #[command(after_help = examples::CHECK)]
    Check(check::CheckArgs),
    /// Lists everything in the cluster that belongs to the operator, and which policies no baseline plans.
    ///
    /// It lists the policies with the operator's labels in all namespaces, also those of a former namePrefix. It also lists baselines, opt-outs,
    /// stored revisions, the Lease, labels of namespaces, and admission policies. It writes nothing, and no operator has to run.
    ///
    /// Exit codes: 0; 2 if the cluster cannot be read, or a flag is wrong.
    #[command(after_help = examples::LIST_MANAGED)]
    ListManaged(list_managed::ListManagedArgs),
    /// Removes what belongs to the operator, in the right order, and says what stays. Without --yes it changes nothing.
    ///
    /// The order: admission policies, policies (with --policies=remove), finalizers, baselines, opt-outs, revisions, Lease, labels of namespaces.
    /// It refuses to begin while an operator runs. If it was aborted or something failed, run it again. docs/uninstall.md has all steps.
    ///
    /// Exit codes: 0 if everything is removed, and after a dry run; 1 if something could not be removed; 2 if the cluster cannot be read, an
    /// operator runs, or a flag is wrong.
    #[command(after_help = examples::UNINSTALL)]
    Uninstall(uninstall::UninstallArgs),
    /// Prints the CustomResourceDefinitions as YAML.
    #[command(after_help = examples::CRD)]
    Crd,
    /// Prints the completions for a shell.
    #[command(after_help = examples::COMPLETION)]
    Completion(generate::CompletionArgs),
    /// Writes man pages.
    #[command(hide = true)]
    Man(generate::ManArgs),
}

/// Parses the command line. Under the name of a plugin, the usage lines show how kubectl calls it.
fn parse() -> Cli {
    let called = std::env::args_os().next();
    let is_plugin = called.as_deref().and_then(|path| Path::new(path).file_stem()).is_some_and(|name| name == PLUGIN);
    let mut command = Cli::command().mut_subcommand("run", with_former_flags);
    if is_plugin {
        command = command.bin_name("kubectl baseline");
    }
    let matches = command.get_matches_mut();
    Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.format(&mut command).exit())
}

/// Deployments of an earlier version still run the operator with `--namespace`.
fn with_former_flags(run: clap::Command) -> clap::Command {
    run.mut_arg("operator_namespace", |flag| flag.alias("namespace"))
}

/// Parses the command line and runs the subcommand.
pub fn main() -> ExitCode {
    let command = parse().command;
    // The operator ends with another code after an internal failure: Kubernetes restarts it after any of them.
    let failure = if matches!(command, Command::Run(_)) { ExitCode::FAILURE } else { ExitCode::from(exit::COULD_NOT_RUN) };
    let result = match command {
        Command::Run(args) => run::run(args),
        Command::Explain(args) => explain::run(args),
        Command::Render(args) => render::run(&args).map(|()| 0),
        Command::WouldBreak(args) => would_break::run(&args),
        Command::Diff(args) => diff::run(&args),
        Command::Lint(args) => lint::run(&args),
        Command::Check(args) => check::run(&args),
        Command::ListManaged(args) => list_managed::run(&args).map(|()| 0),
        Command::Uninstall(args) => uninstall::run(&args),
        Command::Crd => crd::print().map(|()| 0),
        Command::Completion(args) => generate::completion(&args, Cli::command()).map(|()| 0),
        Command::Man(args) => generate::man(&args, Cli::command()).map(|()| 0),
    };
    match result {
        Ok(code) => ExitCode::from(code),
        Err(message) => {
            // The exit code must not depend on whether stderr can be written.
            let _ = writeln!(std::io::stderr(), "error: {}", output::lines_shown(&message));
            failure
        }
    }
}
