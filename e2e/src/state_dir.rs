//! The directory of one control plane.

use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::{Context, Result};

use crate::{paths, process};

/// The directory of one control plane. It is removed with the control plane, unless a test failed or somebody wants to inspect it.
#[derive(Debug)]
pub struct StateDir {
    pub path: PathBuf,
    pub keep: AtomicBool,
}

impl StateDir {
    pub fn create() -> Result<Self> {
        Self::with_prefix("cp-")
    }

    /// For an external cluster. No guard removes this directory, so the next call removes those of processes that have ended.
    pub fn create_external() -> Result<Self> {
        for entry in fs::read_dir(paths::state_root()?).context("read the state directories")?.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let pid = name.strip_prefix("external-").and_then(|rest| rest.split('-').next()?.parse().ok());
            if pid.is_some_and(|pid| !process::alive(pid)) {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
        Self::with_prefix(&format!("external-{}-", std::process::id()))
    }

    fn with_prefix(prefix: &str) -> Result<Self> {
        let root = paths::state_root()?;
        let private = fs::Permissions::from_mode(0o700);
        let made = tempfile::Builder::new().prefix(prefix).permissions(private).tempdir_in(&root);
        let dir = made.context("make a state directory")?;
        Ok(Self { path: dir.keep(), keep: AtomicBool::new(false) })
    }
}

impl Drop for StateDir {
    fn drop(&mut self) {
        if keep_always() || self.keep.load(Ordering::Relaxed) || thread::panicking() {
            eprintln!("logs are kept in {}", self.path.display());
            if !keep_always() {
                let _ = fs::remove_dir_all(self.path.join("etcd"));
            }
        } else if let Err(err) = fs::remove_dir_all(&self.path) {
            eprintln!("cannot remove {}: {err}", self.path.display());
        }
    }
}

pub fn keep_always() -> bool {
    env::var_os("E2E_KEEP").is_some_and(|value| value == "1")
}
