//! Measurement 6: a start of the operator when everything is in place, compared with a paged list of the same objects. Then the same
//! once more through a relay that counts bytes.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::{Namespace, Service};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::ListParams;
use kube::core::Request as Requests;
use kube::{Client, Resource};
use policy_baseline::PolicyBaseline;
use serde::Deserialize;
use serde::de::IgnoredAny;
use tokio::time::Instant;

use super::figures::{Point, milliseconds};
use super::numbers::{count, megabytes};
use super::proc;
use super::relay::Relay;
use super::setup::{Bench, connect};
use super::side::{Group, Side};
use super::subject::Subject;
use crate::audit::AuditEntry;
use crate::world::World;

/// How long a cold start may take.
const LIMIT: Duration = Duration::from_mins(3);
/// The page size of the operator's own lists.
const PAGE: u32 = 500;

impl Bench {
    /// Measures `pairs` pairs of a cold start and a list. Which of the two comes first alternates. No operator may run before this, and
    /// none runs after it.
    pub async fn cold_starts(&mut self, pairs: usize, point: &mut Point) -> Result<()> {
        for _ in 0..pairs {
            // The order alternates across rounds as well.
            if point.cold_start.len().is_multiple_of(2) {
                self.list(point).await?;
                self.cold_start(point).await?;
            } else {
                self.cold_start(point).await?;
                self.list(point).await?;
            }
        }
        self.count_bytes(point).await
    }

    async fn cold_start(&mut self, point: &mut Point) -> Result<()> {
        self.raw.collect_garbage().await?;
        let audit = self.plane.audit().context("no audit log")?;
        let mark = audit.mark();
        let (subject, ready, assessed) = self.start_cold(&self.kubeconfig, point.namespaces).await?;
        let started = subject.started;
        point.cold_start.took(Side::Ours, assessed.max(ready) - started);
        point.ready.push(milliseconds(ready - started));
        subject.settle().await?;
        point.resident_start.push(megabytes(proc::resident(subject.pid())?));
        let started_at = subject.started_at;
        subject.stop()?;

        // A watch is in the audit log once it has ended.
        let entries = by_operator(audit.since(mark)?);
        let first = entries.iter().filter(|entry| entry.verb == "watch").map(|entry| entry.timestamp).min();
        let first = first.context("the operator has watched nothing")?;
        point.first_watch.push((first.as_duration() - started_at.as_duration()).as_secs_f64() * 1000.0);
        let writes: Vec<_> = entries.iter().filter(|entry| entry.is_write() && entry.resource != "leases").collect();
        for write in &writes {
            self.progress.note(&format!("a restart wrote: {} {} {}", write.verb, write.uri, write.code));
        }
        point.restart_writes = point.restart_writes.max(writes.len());
        point.restart_requests = tally(&entries);
        Ok(())
    }

    /// Starts a new process. Returns when it was ready, and when it had counted all namespaces.
    async fn start_cold(&self, kubeconfig: &Path, protected: usize) -> Result<(Subject, Instant, Instant)> {
        let mut subject = Subject::start(&self.plane, kubeconfig).await?;
        let ready = subject.ready(LIMIT).await?;
        let assessed = subject.protected(protected, LIMIT).await?;
        Ok((subject, ready, assessed))
    }

    /// The same once more through a relay. It is separate because the relay slows down the side that is measured.
    async fn count_bytes(&self, point: &mut Point) -> Result<()> {
        let relay = Relay::open(&self.kubeconfig).await?;
        let (subject, ..) = self.start_cold(&relay.kubeconfig(&self.kubeconfig)?, point.namespaces).await?;
        point.cold_bytes.add(Side::Ours, bytes(&relay));
        subject.stop()?;
        let admin = self.plane.admin_kubeconfig();
        let relay = Relay::open(admin).await?;
        everything(&relay.kubeconfig(admin)?).await?;
        point.cold_bytes.add(Side::Raw, bytes(&relay));
        Ok(())
    }

    /// The raw side. It uses new connections, as the operator does.
    async fn list(&self, point: &mut Point) -> Result<()> {
        self.raw.collect_garbage().await?;
        let (took, (namespaces, services, policies, baselines)) = everything(self.plane.admin_kubeconfig()).await?;
        point.cold_start.took(Side::Raw, took);
        let expected = (self.foreign + point.policies * point.namespaces, Group::OURS.len());
        ensure!(
            namespaces > point.namespaces && services > point.services && (policies, baselines) == expected,
            "the cluster does not hold what it should: {namespaces} namespaces, {services} Services, {policies} policies, {baselines} baselines"
        );
        Ok(())
    }
}

/// Lists namespaces, Services, policies and baselines page by page. Returns how long that took, and the number of each.
async fn everything(kubeconfig: &Path) -> Result<(Duration, (usize, usize, usize, usize))> {
    let client = connect(kubeconfig).await?.watches;
    let started = Instant::now();
    let counts = tokio::try_join!(
        pages(&client, Namespace::url_path(&(), None), true),
        pages(&client, Service::url_path(&(), None), true),
        pages(&client, NetworkPolicy::url_path(&(), None), false),
        pages(&client, PolicyBaseline::url_path(&(), None), false),
    )?;
    Ok((started.elapsed(), counts))
}

fn bytes(relay: &Relay) -> f64 {
    count(usize::try_from(relay.received()).unwrap_or(usize::MAX))
}

/// The requests of the operator.
pub fn by_operator(entries: Vec<AuditEntry>) -> Vec<AuditEntry> {
    let user = World::operator_user();
    entries.into_iter().filter(|entry| entry.user == user).collect()
}

/// The number of requests of each kind.
fn tally(entries: &[AuditEntry]) -> BTreeMap<String, usize> {
    let mut tally = BTreeMap::new();
    for entry in entries {
        *tally.entry(format!("{} {}", entry.verb, entry.resource)).or_default() += 1;
    }
    tally
}

#[derive(Deserialize)]
struct Page {
    metadata: PageMetadata,
    items: Vec<IgnoredAny>,
}

#[derive(Deserialize)]
struct PageMetadata {
    #[serde(rename = "continue")]
    next: Option<String>,
}

/// Lists page by page. Keeps only the number of items.
async fn pages(client: &Client, path: String, metadata_only: bool) -> Result<usize> {
    let requests = Requests::new(path);
    let mut params = ListParams::default().limit(PAGE);
    let mut items = 0;
    loop {
        let request = if metadata_only { requests.list_metadata(&params) } else { requests.list(&params) };
        let page: Page = serde_json::from_str(&client.request_text(request?).await?)?;
        items += page.items.len();
        match page.metadata.next.filter(|next| !next.is_empty()) {
            Some(next) => params = params.continue_token(&next),
            None => return Ok(items),
        }
    }
}
