//! What Argo CD and Flux say of an object: the Lua interpreter of the one, kstatus and the expressions of the other. `e2e/gitops` builds them
//! into one program. It also brings the CRDs of both.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::paths;

/// An object, and what judges it: kstatus if there is nothing else.
#[derive(Clone, Debug, Default, Serialize)]
pub struct GitOpsQuestion {
    pub object: Value,
    /// A health check for Argo CD.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lua: Option<String>,
    /// An entry of `spec.healthCheckExprs` of a Kustomization of Flux.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expressions: Option<Value>,
}

/// A verdict, or the error that there was instead.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct GitOpsVerdict {
    pub status: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub error: String,
}

/// The folder with the CRDs of Argo CD and Flux.
pub fn gitops_crds() -> Result<PathBuf> {
    paths::built("gitops", "crds")
}

/// Asks each question. The verdicts have the same order.
pub fn gitops_verdicts(questions: &[GitOpsQuestion]) -> Result<Vec<GitOpsVerdict>> {
    let mut child = Command::new(paths::built("gitops", "policy-gitops")?)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("start policy-gitops")?;
    let mut stdin = child.stdin.take().context("policy-gitops has no stdin")?;
    let asked = serde_json::to_vec(&questions)?;
    let output = thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(&asked));
        child.wait_with_output()
    })?;
    ensure!(output.status.success(), "policy-gitops failed: {}", output.status);
    let verdicts: Vec<GitOpsVerdict> = serde_json::from_slice(&output.stdout)?;
    ensure!(verdicts.len() == questions.len(), "{} verdicts for {} questions", verdicts.len(), questions.len());
    Ok(verdicts)
}
