//! The paths of the repository, of the built binaries, and of the state of the running control planes.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// The root of the repository.
pub fn repo() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest).to_owned()
}

/// The directory that contains one directory for each control plane.
pub fn state_root() -> Result<PathBuf> {
    let root = repo().join("target/e2e");
    fs::create_dir_all(&root).with_context(|| format!("create {}", root.display()))?;
    Ok(root)
}

/// The directory that contains etcd, kube-apiserver, kube-controller-manager and kubectl.
pub fn control_plane_binaries() -> Result<PathBuf> {
    let dir = match env::var_os("KUBEBUILDER_ASSETS") {
        Some(assets) if !assets.is_empty() => PathBuf::from(assets),
        _ => repo().join("target/controlplane/bin"),
    };
    for name in ["etcd", "kube-apiserver", "kube-controller-manager", "kubectl"] {
        if !dir.join(name).is_file() {
            bail!("{} is missing: run e2e/controlplane/build.sh first", dir.join(name).display());
        }
    }
    Ok(dir)
}

/// What `make TOOL` has built: a file or a folder of `target/TOOL/bin`.
pub fn built(tool: &str, name: &str) -> Result<PathBuf> {
    let path = repo().join("target").join(tool).join("bin").join(name);
    if !path.exists() {
        bail!("{} is missing: run make {tool} first", path.display());
    }
    Ok(path)
}

/// A binary of this workspace: next to the running one, or one directory up if the running one is a test in `deps/`.
pub fn sibling(name: &str) -> Result<PathBuf> {
    let me = env::current_exe().context("find the running executable")?;
    me.ancestors()
        .skip(1)
        .take(2)
        .map(|dir| dir.join(name))
        .find(|path| path.is_file())
        .with_context(|| format!("{name} is not beside {}: run `make build` first", me.display()))
}

/// The last lines of a log, for an error message.
pub fn tail(path: &Path, lines: usize) -> String {
    let text = fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}
