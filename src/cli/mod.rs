//! The command line: parses the flags, converts them to settings, and starts the work. One file for each subcommand.

mod check;
mod cluster;
mod crd;
mod explain;
mod flow;
mod list_managed;
mod other_tools;
mod output;
mod run;
mod uninstall;

use std::{io::Write, process::ExitCode};

use clap::{Parser, Subcommand};

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
    Run(run::RunArgs),
    /// Shows what the operator plans in a namespace and why, or whether policies allow a flow.
    Explain(explain::ExplainArgs),
    /// Looks for the network plugin, and says what is known of it: whether it enforces NetworkPolicies or ignores them.
    ///
    /// It finds the plugin by the name of its DaemonSet, or by its CRDs, and reads the switches in the arguments of its pods. It sends no
    /// packets, and only packets prove that policies are enforced. It needs permission to list DaemonSets of these names, and CRDs, as in
    /// manifests/base/rbac.yaml. It writes nothing.
    ///
    /// Exit codes: 0 if a plugin was found that enforces policies; 3 if it ignores them, may ignore them, or is not known; 1 if the cluster
    /// cannot be read; 2 for a wrong flag.
    Check(check::CheckArgs),
    /// Lists everything in the cluster that belongs to the operator, and which policies no baseline plans.
    ///
    /// It lists the policies with the operator's labels in all namespaces, also those of a former namePrefix. It also lists baselines, opt-outs,
    /// stored revisions, the Lease, labels of namespaces, and admission policies. It writes nothing, and no operator has to run.
    ///
    /// Exit codes: 0; 1 if the cluster cannot be read; 2 for a wrong flag.
    ListManaged(list_managed::ListManagedArgs),
    /// Removes what belongs to the operator, in the right order, and says what stays. Without --yes it changes nothing.
    ///
    /// The order: admission policies, policies (with --policies=remove), finalizers, baselines, opt-outs, revisions, Lease, labels of namespaces.
    /// It refuses to begin while an operator runs. If it was aborted or something failed, run it again. docs/uninstall.md has all steps.
    ///
    /// Exit codes: 0 if everything is removed, and after a dry run; 1 if something could not be removed, the cluster cannot be read, or an
    /// operator runs; 2 for a wrong flag.
    Uninstall(uninstall::UninstallArgs),
    /// Prints the CustomResourceDefinitions as YAML.
    Crd,
}

/// Parses the command line and runs the subcommand.
pub fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Run(args) => run::run(args),
        Command::Explain(args) => explain::run(args),
        Command::Check(args) => check::run(&args),
        Command::ListManaged(args) => list_managed::run(&args).map(|()| 0),
        Command::Uninstall(args) => uninstall::run(&args),
        Command::Crd => crd::print().map(|()| 0),
    };
    match result {
        Ok(code) => ExitCode::from(code),
        Err(message) => {
            // The exit code must not depend on whether stderr can be written.
            let _ = writeln!(std::io::stderr(), "error: {message}");
            ExitCode::FAILURE
        }
    }
}
