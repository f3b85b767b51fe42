//! The command line: flags as typed, then settings as meant, then work. One file for each subcommand.

mod crd;
mod run;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Default-deny NetworkPolicies with DNS allowed, in every namespace, kept there.
#[derive(Debug, Parser)]
#[command(name = "policy-baseline", version, about, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the operator until SIGTERM or SIGINT.
    Run(run::Args),
    /// Prints the CustomResourceDefinition as YAML.
    Crd,
}

/// Runs what the command line asks for.
pub fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Run(args) => run::run(args),
        Command::Crd => crd::print(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::FAILURE
        }
    }
}
