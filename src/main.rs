//! Parse, run, exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    policy_baseline::main()
}
