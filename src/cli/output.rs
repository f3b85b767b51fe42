//! What the subcommands print.

use std::io::Write;

use clap::ValueEnum;
use serde::Serialize;

use crate::api::text::shown;

/// The format of a result.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Output {
    /// For people.
    #[value(aliases = ["table", "wide"])]
    Text,
    /// For machines.
    Json,
    /// For people and machines.
    Yaml,
}

impl Output {
    /// A result in this format.
    pub fn of<T: ToString + Serialize>(self, result: &T) -> Result<String, String> {
        match self {
            Self::Text => Ok(lines_shown(&result.to_string())),
            Self::Yaml => serde_yaml::to_string(result).map_err(|e| format!("it does not serialise: {e}")),
            Self::Json => Ok(serde_json::to_string_pretty(result).map_err(|e| format!("it does not serialise: {e}"))? + "\n"),
        }
    }
}

/// A text of several lines in which nothing that others wrote can move the cursor, turn a line, or hide.
pub fn lines_shown(text: &str) -> String {
    let lines: Vec<_> = text.split('\n').map(shown).collect();
    lines.join("\n")
}

/// Writes a warning to stderr. It is not an error if nobody can read it.
pub fn warn(warning: &str) {
    let _ = writeln!(std::io::stderr(), "warning: {}", shown(warning));
}

/// Writes a note to stderr. It is not an error if nobody can read it.
pub fn note(note: &str) {
    let _ = writeln!(std::io::stderr(), "note: {}", shown(note));
}

/// Writes an error to stderr. It is not an error if nobody can read it.
pub fn error(error: &str) {
    let _ = writeln!(std::io::stderr(), "error: {}", shown(error));
}

/// Prints a text. It is not an error if a reader such as `head` closes the pipe early.
pub fn print(text: &str) -> Result<(), String> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => Err(format!("cannot write to standard output: {e}")),
        _ => Ok(()),
    }
}
