//! The operator that is measured: the real binary as the shipped ServiceAccount, and the values from its admin port.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use jiff::Timestamp;
use tokio::time::{Instant, sleep};

use super::http;
use crate::cluster::ControlPlane;
use crate::operator::Operator;
use crate::paths;
use crate::wait::{TIMEOUT, eventually};

/// How often the admin port is polled for an event that is timed.
const LOOK: Duration = Duration::from_millis(2);
/// After this time without a write, the work counts as done. The operator writes a status at most once a second.
const QUIET: Duration = Duration::from_millis(1500);
/// The longest time that the last events and the status may take.
const SETTLE: Duration = Duration::from_mins(2);
/// The log filter: the address of the admin port, and warnings and errors.
const LOG: &str = "--log-level=warn,policy_baseline::cli::run=info";

pub struct Subject {
    operator: Operator,
    admin: String,
    /// Taken just before the process was started, from the monotonic clock and from the wall clock.
    pub started: Instant,
    pub started_at: Timestamp,
}

impl Subject {
    /// Starts the operator. Returns as soon as the admin port is open.
    pub async fn start(plane: &ControlPlane, kubeconfig: &Path) -> Result<Self> {
        let (started, started_at) = (Instant::now(), Timestamp::now());
        let image = fs::read_to_string(paths::repo().join("Containerfile")).context("read the Containerfile")?;
        let mut operator = Operator::start(plane, kubeconfig, &[LOG], &env_of_image(&image))?;
        loop {
            let log = operator.log();
            let line = log.lines().find(|line| line.contains("admin port is open"));
            if let Some(address) = line.and_then(|line| line.split("address=").nth(1)?.split_whitespace().next()) {
                let admin = address.to_owned();
                return Ok(Self { operator, admin, started, started_at });
            }
            ensure!(operator.is_running(), "the operator has ended:\n{log}");
            ensure!(started.elapsed() < TIMEOUT, "the operator does not say where its admin port is:\n{log}");
            sleep(LOOK).await;
        }
    }

    pub fn pid(&self) -> u32 {
        self.operator.pid()
    }

    /// Sends SIGTERM. The operator shuts down in order and releases the Lease.
    pub fn stop(mut self) -> Result<()> {
        let code = self.operator.stop()?;
        ensure!(code == 0, "the operator ended with {code}:\n{}", self.operator.log_tail(20));
        Ok(())
    }

    /// Waits until it is ready, and returns the time of that.
    pub async fn ready(&mut self, limit: Duration) -> Result<Instant> {
        self.look("is not ready", limit, async |this: &Self| Ok(http::is_ok(&this.get("/readyz").await?))).await
    }

    /// Waits until it counts that many namespaces as protected, and returns the time of that.
    pub async fn protected(&mut self, namespaces: usize, limit: Duration) -> Result<Instant> {
        let what = format!("does not count {namespaces} namespaces as protected");
        self.look(&what, limit, async |this: &Self| {
            let text = this.get("/metrics").await?;
            Ok(sum(&text, r#"policy_baseline_namespaces{state="protected"}"#) == namespaces as u64)
        })
        .await
    }

    /// Waits until it counts that many namespaces as protected and has written the last event and status.
    pub async fn settled(&mut self, namespaces: usize, limit: Duration) -> Result<()> {
        self.protected(namespaces, limit).await?;
        self.settle().await
    }

    /// Waits until it leads. It writes only with the Lease.
    pub async fn leads(&mut self) -> Result<()> {
        let leads = async |this: &Self| Ok(sum(&this.get("/metrics").await?, "policy_baseline_leader") == 1);
        self.look("does not lead", TIMEOUT, leads).await.map(drop)
    }

    /// Waits until nothing has been written for a while. The operator writes repairs, then events, then the status.
    pub async fn settle(&self) -> Result<()> {
        let mut last = (u64::MAX, Instant::now());
        eventually("the operator writes no more", SETTLE, async || {
            let writes = sum(&self.get("/metrics").await?, "policy_baseline_api_writes_total");
            if writes != last.0 {
                last = (writes, Instant::now());
            }
            anyhow::Ok(last.1.elapsed() >= QUIET)
        })
        .await
    }

    async fn look(&mut self, problem: &str, limit: Duration, there: impl AsyncFn(&Self) -> Result<bool>) -> Result<Instant> {
        let until = Instant::now() + limit;
        loop {
            if there(self).await? {
                return Ok(Instant::now());
            }
            if !self.operator.is_running() || Instant::now() > until {
                bail!("the operator {problem}; the end of its log:\n{}", self.operator.log_tail(20));
            }
            sleep(LOOK).await;
        }
    }

    async fn get(&self, path: &str) -> Result<String> {
        http::get(&self.admin, path).await
    }
}

/// The environment that the image sets: the operator is measured with it.
fn env_of_image(containerfile: &str) -> Vec<(&str, &str)> {
    containerfile.lines().filter_map(|line| line.strip_prefix("ENV ")?.split_once('=')).collect()
}

/// The sum of all series with this name.
fn sum(metrics: &str, series: &str) -> u64 {
    let lines = metrics.lines().filter(|line| line.strip_prefix(series).is_some_and(|rest| rest.starts_with([' ', '{'])));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_of_an_image_is_read() {
        assert_eq!(env_of_image("FROM scratch\nENV A=b=1:c=2\nENTRYPOINT [\"/x\"]\n"), [("A", "b=1:c=2")]);
    }

    #[test]
    fn series_of_one_name_are_added_up() {
        let text = "# TYPE x counter\nx_total{a=\"b\"} 3\nx_total{a=\"c\"} 4\nx_total_more 9\nleader 1\n";
        assert_eq!(sum(text, "x_total"), 7);
        assert_eq!(sum(text, "x_total{a=\"b\"}"), 3);
        assert_eq!(sum(text, "leader"), 1);
        assert_eq!(sum(text, "nothing"), 0);
    }
}
