//! Kubeconfigs: that of an external cluster, and those that the harness writes.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::{Value, json};

use crate::pki::Files;

/// The kubeconfig of an external cluster, if the suites are to run there.
pub fn external_kubeconfig() -> Option<PathBuf> {
    env::var_os("E2E_KUBECONFIG").filter(|path| !path.is_empty()).map(PathBuf::from)
}

/// A client that returns an error at once, without retries. Retries are up to the test.
pub async fn client(kubeconfig: &Path, impersonate: Option<(&str, &[&str])>) -> Result<Client> {
    let config = Kubeconfig::read_from(kubeconfig).with_context(|| format!("read {}", kubeconfig.display()))?;
    let mut config = Config::from_custom_kubeconfig(config, &KubeConfigOptions::default())
        .await
        .with_context(|| format!("use {}", kubeconfig.display()))?;
    config.default_retry = false;
    // Everything is on loopback, so ignore the proxies of the environment.
    config.proxy_url = None;
    config.connect_timeout = Some(Duration::from_secs(5));
    if let Some((user, groups)) = impersonate {
        config.headers.push(("impersonate-user".parse()?, user.parse()?));
        for group in groups {
            config.headers.push(("impersonate-group".parse()?, group.parse()?));
        }
    }
    Client::try_from(config).context("make a client")
}

pub fn write_kubeconfig(dir: &Path, file: &str, cluster: &Value, user: &Value) -> Result<PathBuf> {
    let path = dir.join(format!("{file}.kubeconfig"));
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{ "name": "e2e", "cluster": cluster }],
        "users": [{ "name": "e2e", "user": user }],
        "contexts": [{ "name": "e2e", "context": { "cluster": "e2e", "user": "e2e" } }],
        "current-context": "e2e",
    });
    fs::write(&path, config.to_string()).with_context(|| format!("write {}", path.display()))?;
    Ok(path)
}

pub fn certificate_user(files: &Files) -> Value {
    json!({ "client-certificate": files.certificate, "client-key": files.key })
}

pub fn current_context(config: &Kubeconfig) -> Result<kube::config::Context> {
    let name = config.current_context.as_deref().context("E2E_KUBECONFIG has no current-context")?;
    let context = config.contexts.iter().find(|context| context.name == name);
    context.and_then(|context| context.context.clone()).with_context(|| format!("E2E_KUBECONFIG has no context {name}"))
}

pub fn file_name(user: &str) -> String {
    user.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect()
}
