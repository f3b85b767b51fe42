//! The exit codes of all commands but `run`. 0: nothing was found.

/// Something was found: a flow that is not allowed, a namespace that is not protected, a difference.
pub const FINDINGS: u8 = 1;
/// The command could not run: a wrong flag, an input or a cluster that cannot be read. clap exits with it, too.
pub const COULD_NOT_RUN: u8 = 2;
