//! Measurement 7: the cost of the operator while nothing happens.

use std::time::Duration;

use anyhow::{Context, Result};
use tokio::time::{Instant, sleep};

use super::cold::by_operator;
use super::figures::Rest;
use super::numbers::{median, megabytes};
use super::proc;
use super::setup::Bench;
use super::subject::Subject;

/// CPU time is measured in parts of this length.
const PART: Duration = Duration::from_secs(10);

impl Bench {
    /// Measures for `time`, starting after the last write.
    pub async fn rest(&self, subject: &Subject, time: Duration) -> Result<Rest> {
        subject.settle().await?;
        let audit = self.plane.audit().context("no audit log")?;
        let (mark, started, mut parts) = (audit.mark(), Instant::now(), Vec::new());
        while started.elapsed() < time {
            let before = proc::cpu(subject.pid())?;
            sleep(PART).await;
            parts.push(proc::cpu(subject.pid())?.saturating_sub(before).as_secs_f64());
        }
        let seconds = started.elapsed().as_secs_f64();
        let (lease, others): (Vec<_>, Vec<_>) = by_operator(audit.since(mark)?)
            .into_iter()
            .filter(|entry| entry.verb != "watch")
            .partition(|entry| entry.resource == "leases");
        Ok(Rest {
            seconds,
            cpu_seconds: parts.iter().sum(),
            cpu_part_seconds: median(&parts),
            resident: megabytes(proc::resident(subject.pid())?),
            anonymous: megabytes(proc::anonymous(subject.pid())?),
            requests: others.len(),
            lease_requests: lease.len(),
        })
    }
}
