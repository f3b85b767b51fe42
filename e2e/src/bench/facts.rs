//! What belongs to a result: the versions, the commit and the machine.

use std::process::Command;
use std::thread::available_parallelism;
use std::time::Duration;

use anyhow::Result;
use http::Request;
use serde_json::Value;

use super::raw::Raw;
use crate::operator::Operator;
use crate::paths;

#[derive(Clone, Debug, Default)]
pub struct Facts {
    pub kubernetes: String,
    pub operator: String,
    pub rustc: String,
    /// The commit of the sources, with `-dirty` if the sources differ from it.
    pub commit: String,
    pub cores: usize,
    /// The size of the binary, in bytes.
    pub binary: u64,
    /// The number of namespaces at which the raw client worked at the same time.
    pub in_flight: usize,
    pub foreign: usize,
    pub took: Duration,
}

impl Facts {
    pub async fn gather(raw: &Raw, in_flight: usize, foreign: usize, took: Duration) -> Result<Self> {
        let version: Value = serde_json::from_str(&raw.send(Request::get("/version").body(Vec::new())?).await?)?;
        let operator = Operator::binary()?;
        Ok(Self {
            kubernetes: version["gitVersion"].as_str().unwrap_or("unknown").to_owned(),
            operator: said(Command::new(&operator).arg("--version")),
            rustc: said(Command::new("rustc").arg("--version")),
            commit: said(Command::new("git").args(["describe", "--always", "--abbrev=12", "--exclude=*", "--dirty"])),
            cores: available_parallelism().map_or(0, usize::from),
            binary: std::fs::metadata(operator)?.len(),
            in_flight,
            foreign,
            took,
        })
    }
}

/// The output of a command. Some machines have neither Git nor rustc.
fn said(command: &mut Command) -> String {
    let output = command.current_dir(paths::repo()).output().ok().filter(|output| output.status.success());
    output.map_or_else(|| "unknown".to_owned(), |output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
