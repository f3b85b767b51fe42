//! The loop: events in, decisions by the engine, writes out. The only code that joins the parts to a runtime.
//! Ends when it is told to, or when a part ends that must not.

pub mod admin;
mod concurrency;
mod condition_gauges;
mod explain_once;
pub mod health;
pub mod metrics;
mod prometheus_text;

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{StreamExt, stream};
use jiff::Timestamp;
use tokio::task::{JoinError, JoinHandle, JoinSet};
use tracing::{info, warn};

use self::concurrency::ConcurrencyLimit;
pub use self::explain_once::{ViewError, ViewPoint, explain};
use crate::{
    api::Uid,
    cluster::{
        client::Clients,
        events::{self, Announcer},
        lease::{Election, Leadership},
        telemetry::Telemetry,
        watch,
        writer::{Writer, repair},
    },
    engine::{
        Engine, RolloutCounts,
        clock::Now,
        sample::MetricSample,
        writes::{Done, NamespaceLabelWrite, OptOutWrite, RevisionChange, RevisionWrite, StoredOptOut, StoredStatus, WriteError},
    },
    operator::{
        admin::Shown,
        health::{Health, REST},
        metrics::Metrics,
    },
};

/// Events that are seen together if they have come already: a look costs more than an event. About a millisecond of work.
const EVENTS_AT_ONCE: usize = 64;
/// How long writes in flight may take to end after the signal to stop, and how long the events may. With the release of the Lease,
/// which takes a second at most, the end comes within 5 s.
const DRAIN: Duration = Duration::from_secs(3);
const LAST_EVENTS: Duration = Duration::from_millis(500);

/// How the controller is set up.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The namespace that the operator runs in.
    pub namespace: String,
    /// The name of this instance, for events.
    pub instance: String,
    /// Whether namespaces are labelled once they are decided.
    pub label_namespaces: bool,
    /// The resolv.conf whose nameservers are those of pods, if there is one.
    pub resolv_conf: Option<PathBuf>,
}

/// Why the controller ended, when nobody told it to.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A watch ended.
    #[error("a watch ended, which it never should")]
    WatchEnded,
    /// A task ended.
    #[error("{0} ended, which it never should")]
    Ended(&'static str),
    /// A task panicked.
    #[error("{0} panicked: {1}")]
    Panicked(&'static str, String),
}

impl RunError {
    fn ended(task: &'static str, how: Result<(), JoinError>) -> Self {
        how.map_or_else(|error| Self::Panicked(task, panic_message(error)), |()| Self::Ended(task))
    }
}

fn panic_message(error: JoinError) -> String {
    let Ok(panic) = error.try_into_panic() else { return "it was cancelled".into() };
    let text = panic.downcast_ref::<String>().cloned().or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
    text.unwrap_or_else(|| "without a message".into())
}

enum Written {
    Namespace(Done, Duration),
    Status(Arc<str>, Arc<str>, Result<StoredStatus, WriteError>),
    Finalizer(Arc<str>, Result<(), WriteError>),
    OptOut(OptOutWrite, Result<StoredOptOut, WriteError>),
    Mark(NamespaceLabelWrite, Result<Option<String>, WriteError>),
    Revision(RevisionWrite, Result<Option<Uid>, WriteError>),
}

/// Runs until `stop` resolves, or until a part ends that must not. Then writes in flight are awaited, and the Lease is released.
/// Every task has ended when this returns.
pub async fn run(
    clients: &Clients,
    settings: Settings,
    election: Election,
    shown: Shown,
    stop: impl Future<Output = ()>,
) -> Result<(), RunError> {
    let Election { leadership, resign, task } = election;
    let telemetry: Arc<dyn Telemetry> = Arc::new(shown.clone());
    let writer = Writer::new(clients.requests.clone(), leadership.gate().clone(), telemetry.clone());
    let (announcer, publisher) = events::publisher(writer.clone(), settings.instance.clone(), telemetry.clone());
    let mut publisher = tokio::spawn(publisher);
    let mut elector = tokio::spawn(task);
    let mut in_flight = JoinSet::new();

    let outcome = tokio::select! {
        () = stop => Ok(()),
        error = work(clients, &settings, &writer, leadership, &announcer, &shown, &mut in_flight) => Err(error),
        ended = &mut publisher => Err(RunError::ended("the publisher of events", ended)),
        ended = &mut elector => Err(RunError::ended("the election", ended)),
    };

    info!(writes = in_flight.len(), "stopping");
    let drained = tokio::time::timeout(DRAIN, async { while in_flight.join_next().await.is_some() {} }).await;
    drop(announcer);
    end(publisher, LAST_EVENTS).await;
    if drained.is_ok() {
        let _ = resign.send(());
    } else {
        // What still may take effect must not meet another leader: the Lease is left to expire.
        warn!("some writes did not end in time; the lease is not released");
        drop(resign);
        in_flight.shutdown().await;
    }
    end(elector, DRAIN).await;
    outcome
}

/// Awaits a task, unless it has been joined already, and ends it if it takes longer.
async fn end(mut task: JoinHandle<()>, patience: Duration) {
    if !task.is_finished() && tokio::time::timeout(patience, &mut task).await.is_err() {
        task.abort();
        let _ = task.await;
    }
}

/// The loop. A standby sees and looks as the leader does, so that it can take over at once; only the leader writes.
async fn work(
    clients: &Clients,
    settings: &Settings,
    writer: &Writer,
    mut leadership: Leadership,
    announcer: &Announcer,
    shown: &Shown,
    in_flight: &mut JoinSet<Written>,
) -> RunError {
    let Shown { health, metrics } = shown;
    let telemetry: Arc<dyn Telemetry> = Arc::new(shown.clone());
    let namespace = &settings.namespace;
    let mut engine = Engine::new(namespace).discovering();
    if settings.label_namespaces {
        engine = engine.labelling();
    }
    let watched = watch::everything(&clients.watches, namespace, &telemetry);
    let dns = watch::everything_of_dns(&clients.watches, settings.resolv_conf.clone(), &telemetry);
    let mut seen = stream::select(watched, dns).ready_chunks(EVENTS_AT_ONCE);
    let mut window = ConcurrencyLimit::default();
    let mut jobs = 0;
    loop {
        let now = present();
        health.turned();
        engine.elect(leadership.is_leading(), now);
        metrics.set_leader(engine.leads());
        let has_news = engine.has_news();
        let more = engine.assess_dirty(now);
        if has_news {
            metrics.reconcile_took(now.instant.elapsed());
        }
        if let Some(until) = clients.pressure.take() {
            window.throttled(until, now.instant);
        }
        while window.has_room(jobs, now.instant)
            && let Some(job) = engine.next_job(now)
        {
            jobs += 1;
            let writer = writer.clone();
            in_flight.spawn(async move {
                let started = Instant::now();
                let done = repair(&writer, job).await;
                Written::Namespace(done, started.elapsed())
            });
        }
        send(&mut engine, writer, namespace, metrics, in_flight, now);
        // As policies: not while the apiserver asks for a pause.
        if window.opens().is_none_or(|at| at <= now.instant) {
            label(&mut engine, writer, in_flight, now);
        }
        for announcement in engine.take_announcements() {
            announcer.announce(announcement);
        }

        for happening in engine.take_happenings() {
            count(metrics, happening);
        }
        show(&mut engine, metrics, health);

        let later = engine.next_wake(now).into_iter().chain(window.opens().filter(|at| *at > now.instant)).min();
        let wake = if more { now.instant } else { later.map_or(now.instant + REST, |at| at.min(now.instant + REST)) };
        tokio::select! {
            events = seen.next() => match events {
                Some(events) => events.into_iter().for_each(|event| engine.on_event(event, present())),
                None => return RunError::WatchEnded,
            },
            Some(written) = in_flight.join_next() => match written {
                Ok(Written::Namespace(done, took)) => {
                    jobs -= 1;
                    window.ended(took, jobs);
                    engine.done(done, present());
                }
                Ok(Written::Status(name, uid, result)) => engine.status_written(&name, &uid, result, present()),
                Ok(Written::Finalizer(name, result)) => engine.finalizer_written(&name, result, present()),
                Ok(Written::OptOut(write, result)) => engine.opt_out_written(write, result, present()),
                Ok(Written::Mark(write, result)) => engine.mark_written(&write, result, present()),
                Ok(Written::Revision(write, result)) => engine.revision_written(write, result, present()),
                Err(error) => return RunError::ended("a write", Err(error)),
            },
            () = leadership.changed() => {}
            () = tokio::time::sleep_until(wake.into()) => {}
        }
    }
}

/// Labels namespaces that are decided.
fn label(engine: &mut Engine, writer: &Writer, in_flight: &mut JoinSet<Written>, now: Now) {
    for write in engine.mark_writes(now) {
        let writer = writer.clone();
        in_flight.spawn(async move {
            let result = writer.mark_namespace(&write).await;
            Written::Mark(write, result)
        });
    }
}

/// Sends the writes that are neither policies nor labels: statuses, finalizers, what opt-outs carry, and revisions.
fn send(
    engine: &mut Engine,
    writer: &Writer,
    namespace: &str,
    metrics: &Arc<Metrics>,
    in_flight: &mut JoinSet<Written>,
    now: Now,
) {
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
    for write in engine.opt_out_writes(now) {
        let writer = writer.clone();
        in_flight.spawn(async move {
            let result = writer.put_opt_out(&write).await;
            Written::OptOut(write, result)
        });
    }
    for write in engine.revisions(now) {
        let (writer, namespace) = (writer.clone(), namespace.to_owned());
        in_flight.spawn(async move {
            let result = match &write.what {
                RevisionChange::Store(revision) => writer.store_revision(&namespace, revision).await,
                RevisionChange::Delete(uid) => writer.delete_revision(&namespace, &write.object, uid).await.map(|()| None),
            };
            Written::Revision(write, result)
        });
    }
}

/// Brings the metrics up to date.
fn show(engine: &mut Engine, metrics: &Metrics, health: &Health) {
    metrics.set_namespaces(&engine.counts());
    metrics.set_conditions(engine.conditions());
    for (role, tally) in engine.opt_outs_in_force() {
        metrics.set_opt_outs(role, tally.in_force, tally.earliest);
    }
    health.waits_for(engine.waits());
    let RolloutCounts { moved, moving, waiting, paused } = engine.rollout_counts();
    metrics.set_rollouts([moved, moving, waiting], paused);
}

fn present() -> Now {
    Now { instant: Instant::now(), wall: Timestamp::now() }
}

fn count(metrics: &Metrics, happening: MetricSample) {
    match happening {
        MetricSample::Drift(class, role, after) => {
            metrics.drift(class, role);
            metrics.repair_took(after);
        }
        MetricSample::Repair(outcome) => metrics.repair(outcome),
        MetricSample::Protected(after) => metrics.protection_took(after),
        MetricSample::Contested(role) => metrics.contested(role),
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use http::{Request, Response};
    use kube::{Client, client::Body};
    use tower_test::mock;

    use super::*;
    use crate::{
        cluster::client::{Pressure, Stack},
        operator::health::Health,
    };

    /// Runs against an apiserver that never answers.
    async fn run_with(election: Election, stop: impl Future<Output = ()>) -> Result<(), RunError> {
        let (service, _handle) = mock::pair::<Request<Body>, Response<Body>>();
        let settings = Settings { namespace: "n".into(), instance: "i".into(), label_namespaces: false, resolv_conf: None };
        let client = Client::new(service, "default");
        let clients = Clients { requests: client.clone(), watches: client, stack: Stack::Http2, pressure: Pressure::default() };
        let shown = Shown { health: Arc::new(Health::new(&[])), metrics: Arc::default() };
        run(&clients, settings, election, shown, stop).await
    }

    #[tokio::test]
    async fn a_task_that_panics_or_ends_ends_the_run_with_the_reason() {
        let panics = Election { task: async { panic!("no more") }.boxed(), ..Election::none() };
        let error = run_with(panics, std::future::pending()).await.unwrap_err();
        assert_eq!(error.to_string(), "the election panicked: no more");
        let ends = Election { task: async {}.boxed(), ..Election::none() };
        let error = run_with(ends, std::future::pending()).await.unwrap_err();
        assert_eq!(error.to_string(), "the election ended, which it never should");
    }

    #[tokio::test]
    async fn the_signal_to_stop_ends_every_task() {
        let Election { leadership, resign, task } = Election::none();
        let (ended, end) = tokio::sync::oneshot::channel();
        let task = async move {
            task.await;
            let _ = ended.send(());
        };
        run_with(Election { leadership, resign, task: task.boxed() }, async {}).await.unwrap();
        assert_eq!(end.await, Ok(()));
    }
}
