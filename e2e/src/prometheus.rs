//! The real Prometheus, with the shipped rules. `e2e/prometheus` builds it, and promtool, which also asks it.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::cluster::ControlPlane;
use crate::paths;
use crate::process::{Guarded, Program};
use crate::wait::{TIMEOUT, eventually};

/// The job of all targets.
pub const JOB: &str = "policy-baseline";

/// A folder with `rules.yaml`: the rules of the shipped PrometheusRule, in the form that Prometheus reads.
fn with_rules() -> Result<TempDir> {
    let shipped = fs::read_to_string(paths::repo().join("manifests/monitoring/alerts/rules.yaml"))?;
    let shipped: Value = serde_yaml::from_str(&shipped)?;
    let dir = tempfile::tempdir()?;
    fs::write(dir.path().join("rules.yaml"), serde_yaml::to_string(&shipped["spec"])?)?;
    Ok(dir)
}

/// The CRDs of prometheus-operator whose kinds we ship.
pub fn crds() -> Vec<PathBuf> {
    let dir = paths::repo().join("target/prometheus/bin");
    ["podmonitors", "prometheusrules", "servicemonitors"].map(|kind| dir.join(kind).with_extension("yaml")).into()
}

/// promtool, to be given arguments.
pub fn promtool() -> Result<Command> {
    Ok(Command::new(paths::built("prometheus", "promtool")?))
}

/// What promtool says about the syntax of the shipped rules, and about their tests.
pub fn check_rules() -> Result<[Output; 2]> {
    let dir = with_rules()?;
    fs::copy(paths::repo().join("e2e/prometheus/alerts_test.yaml"), dir.path().join("alerts_test.yaml"))?;
    let run = |args: &[&str]| promtool()?.args(args).current_dir(dir.path()).output().context("run promtool");
    Ok([run(&["check", "rules", "--lint=all", "--lint-fatal", "rules.yaml"])?, run(&["test", "rules", "alerts_test.yaml"])?])
}

/// A series and its value.
#[derive(Clone, Debug, Deserialize)]
pub struct Sample {
    pub metric: BTreeMap<String, String>,
    /// The time, and the number as text.
    value: (f64, String),
}

impl Sample {
    pub fn number(&self) -> f64 {
        self.value.1.parse().unwrap_or(f64::NAN)
    }
}

#[derive(Debug)]
pub struct Prometheus {
    address: String,
    // Ends before its folder goes.
    _process: Guarded,
    _dir: TempDir,
}

impl Prometheus {
    /// Starts Prometheus with the shipped rules. It scrapes these addresses, and evaluates the rules, each second.
    pub async fn start(plane: &ControlPlane, targets: &[&str], namespace: &str) -> Result<Self> {
        let dir = with_rules()?;
        let config = dir.path().join("prometheus.yaml");
        let written = json!({
            "global": { "scrape_interval": "1s", "evaluation_interval": "1s" },
            "rule_files": ["rules.yaml"],
            "scrape_configs": [{ "job_name": JOB, "static_configs": [{ "targets": targets, "labels": { "namespace": namespace } }] }],
        });
        fs::write(&config, written.to_string())?;
        let process = Guarded::spawn(Program {
            name: "prometheus",
            path: paths::built("prometheus", "prometheus")?,
            args: vec![
                format!("--config.file={}", config.display()),
                format!("--storage.tsdb.path={}", dir.path().join("data").display()),
                "--web.listen-address=127.0.0.1:0".to_owned(),
            ],
            // Everything is on loopback, so ignore the proxies of the environment.
            env: vec![("NO_PROXY".to_owned(), "127.0.0.1,localhost".to_owned()), ("GOMAXPROCS".to_owned(), "1".to_owned())],
            log: plane.state_dir().join(format!("prometheus-{}.log", plane.next_number())),
            grace: Duration::from_secs(2),
            remove: None,
        })?;
        let log = process.log_path().to_owned();
        let named = async || {
            let log = fs::read_to_string(&log).map_err(|err| err.to_string())?;
            let line = log.lines().find(|line| line.contains("msg=\"Listening on\"")).ok_or_else(|| log.clone())?;
            let address = line.split_whitespace().find_map(|part| part.strip_prefix("address="));
            address.and_then(|address| address.parse::<SocketAddr>().ok()).map(Some).ok_or_else(|| line.to_owned())
        };
        let address = eventually("Prometheus names its address", TIMEOUT, named).await?;
        Ok(Self { address: format!("http://{address}"), _process: process, _dir: dir })
    }

    /// The series of an expression at present.
    pub fn query(&self, expression: &str) -> Result<Vec<Sample>> {
        let output = promtool()?
            .args(["query", "instant", "--format=json", &self.address, expression])
            .env("NO_PROXY", "127.0.0.1")
            .output()
            .context("run promtool")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{expression}: {said}");
        serde_json::from_slice(&output.stdout)
            .with_context(|| format!("{expression}: {}", String::from_utf8_lossy(&output.stdout)))
    }
}
