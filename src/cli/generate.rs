//! `policy-baseline completion` and `policy-baseline man`: what shells and `man` need to know of the commands.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Command, ValueEnum};
use clap_complete::Shell;

use super::output;

/// The name under which shells know the program.
const PROGRAM: &str = "policy-baseline";
/// The same without a hyphen. With one, clap_complete writes scripts for bash that complete no flag of a subcommand:
/// <https://github.com/clap-rs/clap/issues/6421>.
const PLAIN_PROGRAM: &str = "policybaseline";

#[derive(Debug, ClapArgs)]
pub struct CompletionArgs {
    /// The shell.
    #[arg(value_name = "SHELL")]
    shell: CompletedShell,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum CompletedShell {
    Bash,
    Zsh,
    Fish,
}

#[derive(Debug, ClapArgs)]
pub struct ManArgs {
    /// The folder to write to.
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,
}

/// Prints the completions for a shell.
pub fn completion(args: &CompletionArgs, mut command: Command) -> Result<(), String> {
    let shell = match args.shell {
        CompletedShell::Bash => Shell::Bash,
        CompletedShell::Zsh => Shell::Zsh,
        CompletedShell::Fish => Shell::Fish,
    };
    let name = if shell == Shell::Bash { PLAIN_PROGRAM } else { PROGRAM };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, name, &mut script);
    // The last lines register the functions for a program of this name.
    let script = String::from_utf8_lossy(&script).replace(&format!(" {PLAIN_PROGRAM}\n"), &format!(" {PROGRAM}\n"));
    output::print(&script)
}

/// Writes a man page for each command.
pub fn man(args: &ManArgs, command: Command) -> Result<(), String> {
    let failed = |error| format!("cannot write to {}: {error}", args.folder.display());
    std::fs::create_dir_all(&args.folder).map_err(failed)?;
    clap_mangen::generate_to(command, &args.folder).map_err(failed)
}
