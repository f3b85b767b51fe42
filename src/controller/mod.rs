//! The loop: events in, decisions by the engine, writes out. The only code that joins the parts to a runtime.
//! Ends when it is told to, or when a part ends that must not.

mod engine;
#[cfg(test)]
mod engine_tests;
mod pace;
mod tracked;
mod watch;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures::StreamExt;
use jiff::Timestamp;
use tokio::task::JoinSet;
use tracing::{info, warn};

use self::engine::{Engine, Happening, Now};
use crate::{
    admin::Shown,
    apply::{StoredStatus, WriteError, Writer},
    client::Clients,
    events,
    health::REST,
    metrics::Metrics,
    reconcile::{Done, repair},
};

/// Namespaces that are written to at the same time. Each has up to three writes in flight.
const CONCURRENT_NAMESPACES: usize = 8;
/// How long writes in flight may take to end after the signal to stop.
const DRAIN: Duration = Duration::from_secs(4);

/// How the controller is set up.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The namespace that the operator runs in.
    pub namespace: String,
    /// The name of this instance, for events.
    pub instance: String,
}

/// Why the controller ended, when nobody told it to.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A watch ended.
    #[error("a watch ended, which it never should")]
    WatchEnded,
    /// A task panicked.
    #[error("a task panicked: {0}")]
    Panicked(#[source] tokio::task::JoinError),
}

enum Written {
    Namespace(Done),
    Status(Arc<str>, Arc<str>, Result<StoredStatus, WriteError>),
    Finalizer(Arc<str>, Result<(), WriteError>),
}

/// Runs until `stop` resolves. Writes in flight are awaited then.
pub async fn run(clients: &Clients, settings: Settings, shown: Shown, stop: impl Future<Output = ()>) -> Result<(), RunError> {
    let Shown { health, metrics } = shown;
    let writer = Writer::new(clients.requests.clone(), metrics.clone());
    let (announcer, publisher) = events::publisher(clients.requests.clone(), settings.instance, metrics.clone());
    let mut publisher = tokio::spawn(publisher);
    let mut seen = watch::everything(&clients.watches, &health, &metrics);
    let mut engine = Engine::new(settings.namespace);
    let mut in_flight: JoinSet<Written> = JoinSet::new();
    let mut jobs = 0;
    tokio::pin!(stop);

    loop {
        let now = present();
        health.turned();
        let has_news = engine.has_news();
        let more = engine.look(now);
        if has_news {
            metrics.reconcile_took(now.instant.elapsed());
        }
        while jobs < CONCURRENT_NAMESPACES
            && let Some(job) = engine.next_job(now)
        {
            jobs += 1;
            let writer = writer.clone();
            in_flight.spawn(async move { Written::Namespace(repair(&writer, job).await) });
        }
        for write in engine.statuses(now) {
            let (writer, metrics) = (writer.clone(), metrics.clone());
            in_flight.spawn(async move {
                let started = Instant::now();
                let result = writer.put_status(&write.name, &write.uid, &write.status).await;
                metrics.status_write_took(started.elapsed());
                Written::Status(write.name, write.uid, result)
            });
        }
        for write in engine.finalizers(now) {
            let writer = writer.clone();
            in_flight.spawn(async move {
                let result = writer.set_finalizer(&write.name, write.version, &write.present, write.wanted).await;
                Written::Finalizer(write.name, result)
            });
        }
        for announcement in engine.take_announcements() {
            announcer.announce(announcement);
        }

        for happening in engine.take_happenings() {
            count(&metrics, happening);
        }
        metrics.set_namespaces(&engine.counts());

        let wake = if more { now.instant } else { engine.next_wake(now).unwrap_or(now.instant + REST).min(now.instant + REST) };
        tokio::select! {
            () = &mut stop => break,
            event = seen.next() => engine.see(event.ok_or(RunError::WatchEnded)?, present()),
            Some(written) = in_flight.join_next() => {
                jobs -= take(&mut engine, written.map_err(RunError::Panicked)?);
            }
            ended = &mut publisher => return Err(ended.map_or_else(RunError::Panicked, |()| RunError::WatchEnded)),
            () = tokio::time::sleep_until(wake.into()) => {}
        }
    }

    info!(writes = in_flight.len(), "stopping");
    let drained = tokio::time::timeout(DRAIN, async { while in_flight.join_next().await.is_some() {} }).await;
    if drained.is_err() {
        warn!("some writes did not end in time");
    }
    drop(announcer);
    let _ = tokio::time::timeout(Duration::from_secs(1), publisher).await;
    Ok(())
}

/// Hands a result to the engine. Says how many jobs ended.
fn take(engine: &mut Engine, written: Written) -> usize {
    let now = present();
    match written {
        Written::Namespace(done) => {
            engine.done(done, now);
            1
        }
        Written::Status(name, uid, result) => {
            engine.status_written(&name, &uid, result, now);
            0
        }
        Written::Finalizer(name, result) => {
            engine.finalizer_written(&name, result, now);
            0
        }
    }
}

fn present() -> Now {
    Now { instant: Instant::now(), wall: Timestamp::now() }
}

fn count(metrics: &Metrics, happening: Happening) {
    match happening {
        Happening::Drift(class, role, after) => {
            metrics.drift(class, role);
            metrics.repair_took(after);
        }
        Happening::Repair(outcome) => metrics.repair(outcome),
        Happening::Protected(after) => metrics.protection_took(after),
    }
}
