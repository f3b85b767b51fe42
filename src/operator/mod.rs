//! The main loop: receives events, lets the engine decide, and sends writes. Only this code connects the parts to a runtime.
//! It ends on the signal to stop, or when a part ends unexpectedly.

pub mod admin;
mod announcements;
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

use futures::{FutureExt, StreamExt, stream};
use jiff::Timestamp;
use tokio::{
    sync::oneshot,
    task::{JoinError, JoinHandle, JoinSet},
};
use tracing::{info, warn};

pub use self::explain_once::{ViewPoint, explain};
use self::{announcements::Announcements, concurrency::ConcurrencyLimit};
use crate::{
    api::other_tools::OtherTools,
    cluster::{
        client::Clients,
        events,
        lease::{Election, ElectionEnd, Leadership},
        telemetry::Telemetry,
        watch,
        writer::Writer,
    },
    engine::{
        Engine, RolloutCounts,
        clock::Now,
        facts::relist::WhyListAgain,
        outbox::{Write, Written},
    },
    operator::{
        admin::Shown,
        health::{Health, REST},
        metrics::Metrics,
    },
};

/// The most events that one round of the loop takes together: a round costs more than an event. This is about a millisecond of work.
const EVENTS_AT_ONCE: usize = 64;
/// How long the operator waits for writes in flight after the signal to stop. `LAST_EVENTS` is the same for events. With the release
/// of the Lease, which takes at most a second, the process ends within 5 s.
const DRAIN: Duration = Duration::from_secs(3);
const LAST_EVENTS: Duration = Duration::from_millis(500);

/// The settings of the operator.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The namespace that the operator runs in.
    pub namespace: String,
    /// The name of this instance, for events.
    pub instance: String,
    /// Whether to label namespaces once the operator has decided for them.
    pub label_namespaces: bool,
    /// The resolv.conf with the nameservers of pods, if there is one.
    pub resolv_conf: Option<PathBuf>,
    /// The tools whose marks on policies are known.
    pub tools: Arc<OtherTools>,
}

/// Why the operator ended without a signal.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A watch ended.
    #[error("a watch ended unexpectedly")]
    WatchEnded,
    /// A task ended.
    #[error("{0} ended unexpectedly")]
    Ended(&'static str),
    /// A task panicked.
    #[error("{0} panicked: {1}")]
    Panicked(&'static str, String),
    /// What this run knows may be wrong, and no watch will correct it: another run has to list everything.
    #[error(transparent)]
    ListAgain(WhyListAgain),
    /// What this run knows may be wrong: another run has to list everything.
    #[error("the API server went back to an older state: it showed resourceVersion {seen} before, and shows {found} now")]
    WentBack {
        /// Seen before.
        seen: u64,
        /// In the latest answer.
        found: u64,
    },
}

impl RunError {
    /// Whether the API server went back to an older state.
    pub const fn is_history_reset(&self) -> bool {
        matches!(self, Self::WentBack { .. } | Self::ListAgain(WhyListAgain::WentBack { .. }))
    }

    fn ended<T>(task: &'static str, how: Result<T, JoinError>) -> Self {
        how.map_or_else(|error| Self::Panicked(task, panic_message(error)), |_| Self::Ended(task))
    }

    fn election_ended(how: Result<ElectionEnd, JoinError>) -> Self {
        match how {
            Ok(ElectionEnd::WentBack { seen, found }) => Self::WentBack { seen, found },
            how => Self::ended("the election", how),
        }
    }
}

fn panic_message(error: JoinError) -> String {
    let Ok(panic) = error.try_into_panic() else { return "it was cancelled".into() };
    let text = panic.downcast_ref::<String>().cloned().or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
    text.unwrap_or_else(|| "without a message".into())
}

/// A finished write, and how long it took.
struct SentWrite {
    written: Written,
    took: Duration,
}

/// Runs until `stop` resolves or a part ends unexpectedly. Then waits for the writes in flight, and releases the Lease.
/// All tasks have ended when this returns.
pub async fn run(
    clients: &Clients,
    settings: Settings,
    election: Election,
    shown: Shown,
    stop: impl Future<Output = ()>,
) -> Result<(), RunError> {
    let Election { leadership, resign, task } = election;
    let telemetry: Arc<dyn Telemetry> = Arc::new(shown.clone());
    let writer = Writer::new(clients.requests.clone(), leadership.gate().clone(), telemetry.clone()).knowing(&settings.tools);
    let (announcer, publisher) = events::publisher(writer.clone(), settings.instance.clone(), telemetry.clone());
    let mut publisher = tokio::spawn(publisher);
    let mut elector = tokio::spawn(task);
    let gate = leadership.gate().clone();
    let mut in_flight = JoinSet::new();
    let mut announcements = Announcements::new(announcer);

    let outcome = tokio::select! {
        () = stop => Ok(()),
        error = work(clients, &settings, &writer, leadership, &mut announcements, &shown, &mut in_flight) => Err(error),
        ended = &mut publisher => Err(RunError::ended("the publisher of Events", ended)),
        ended = &mut elector => Err(RunError::election_ended(ended)),
    };

    if outcome.is_err() {
        // A job in flight must not go on to its removals: what they were decided by may be wrong.
        gate.shut();
    }
    let what = if outcome.is_ok() { "policy-baseline is stopping" } else { "this run is ending" };
    info!(writes = in_flight.len(), "{what}");
    let drained = tokio::time::timeout(DRAIN, async { while in_flight.join_next().await.is_some() {} }).await;
    announcements.finish();
    end(publisher, LAST_EVENTS).await;
    if drained.is_ok() {
        let _ = resign.send(());
    } else {
        // A write may still take effect. No other leader may exist then, so the Lease is not released but expires.
        warn!("some writes did not end in time: the Lease is not released, and expires");
        drop(resign);
        in_flight.shutdown().await;
    }
    end(elector, DRAIN).await;
    outcome
}

/// Waits for a task, unless it has finished already, and aborts it if it takes longer than `patience`.
async fn end<T>(mut task: JoinHandle<T>, patience: Duration) {
    if !task.is_finished() && tokio::time::timeout(patience, &mut task).await.is_err() {
        task.abort();
        let _ = task.await;
    }
}

/// The loop. A standby watches and assesses like the leader, so that it can take over immediately. Only the leader writes.
async fn work(
    clients: &Clients,
    settings: &Settings,
    writer: &Writer,
    mut leadership: Leadership,
    announcements: &mut Announcements,
    shown: &Shown,
    in_flight: &mut JoinSet<SentWrite>,
) -> RunError {
    let Shown { health, metrics } = shown;
    let telemetry: Arc<dyn Telemetry> = Arc::new(shown.clone());
    let namespace = &settings.namespace;
    let mut engine = Engine::new(namespace).discovering().looking_for_plugins().knowing(&settings.tools);
    if settings.label_namespaces {
        engine = engine.labelling();
    }
    let watched = watch::everything_to_decide(clients, namespace, settings.resolv_conf.clone(), &telemetry);
    // The lists of plugins would compete with those that protection waits for, so they begin after these.
    let (begin, begins) = oneshot::channel();
    let mut begin = Some(begin);
    let plugins = watch::everything_of_plugins(&clients.requests, begins.map(drop), &telemetry);
    let mut seen = stream::select(watched, plugins).ready_chunks(EVENTS_AT_ONCE);
    let mut window = ConcurrencyLimit::default();
    let mut jobs = 0;
    loop {
        let now = present();
        health.turned();
        if let Some(why) = engine.must_list_again() {
            return RunError::ListAgain(why);
        }
        leadership.may_lead(engine.may_lead(now));
        engine.elect(leadership.is_leading(), now);
        metrics.set_leader(engine.leads());
        let has_news = engine.has_news();
        let more = engine.assess_dirty(now);
        if engine.is_synced()
            && !more
            && let Some(begin) = begin.take()
        {
            // Nobody receives it when the watches have ended, and then this run ends too.
            let _ = begin.send(());
        }
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
            send(writer, Write::Policies(job), in_flight);
        }
        let is_paused = window.opens().is_some_and(|at| at > now.instant);
        for write in engine.writes(now, is_paused) {
            send(writer, write, in_flight);
        }
        announcements.publish(engine.take_announcements(), jobs, now.instant);

        for sample in engine.take_samples() {
            metrics.count(sample);
        }
        show(&mut engine, metrics, health);

        let later = engine
            .next_wake(now)
            .into_iter()
            .chain(announcements.wakes())
            .chain(window.opens().filter(|at| *at > now.instant))
            .min();
        let wake = if more { now.instant } else { later.map_or(now.instant + REST, |at| at.min(now.instant + REST)) };
        tokio::select! {
            events = seen.next() => match events {
                Some(events) => events.into_iter().for_each(|event| engine.on_event(event, present())),
                None => return RunError::WatchEnded,
            },
            Some(sent) = in_flight.join_next() => {
                // All that have ended: each turn of the loop costs more than a result.
                let mut ended = Some(sent);
                while let Some(sent) = ended {
                    let SentWrite { written, took } = match sent {
                        Ok(sent) => sent,
                        Err(error) => return RunError::ended::<()>("a write", Err(error)),
                    };
                    match written {
                        Written::Policies(_) => {
                            jobs -= 1;
                            window.ended(took, jobs);
                        }
                        Written::Status(..) => metrics.status_write_took(took),
                        _ => {}
                    }
                    engine.written(written, present());
                    ended = in_flight.try_join_next();
                }
            }
            () = leadership.changed() => {}
            () = tokio::time::sleep_until(wake.into()) => {}
        }
    }
}

/// Starts a write that runs concurrently with the others.
fn send(writer: &Writer, write: Write, in_flight: &mut JoinSet<SentWrite>) {
    let writer = writer.clone();
    in_flight.spawn(async move {
        let started = Instant::now();
        let written = writer.send(write).await;
        SentWrite { written, took: started.elapsed() }
    });
}

/// Updates metrics and health from the engine.
fn show(engine: &mut Engine, metrics: &Metrics, health: &Health) {
    metrics.set_namespaces(&engine.counts());
    metrics.set_conditions(engine.conditions());
    for (role, tally) in engine.opt_outs_in_force() {
        metrics.set_opt_outs(role, tally.in_force, tally.earliest);
    }
    metrics.set_missing_fields(engine.missing_fields());
    metrics.set_orphans(engine.orphans());
    metrics.set_waits_for_install(engine.waits_for_install());
    health.waits_for(engine.waits());
    let RolloutCounts { moved, moving, waiting, paused } = engine.rollout_counts();
    metrics.set_rollouts([moved, moving, waiting], paused);
}

fn present() -> Now {
    Now { instant: Instant::now(), wall: Timestamp::now() }
}

#[cfg(test)]
mod tests {
    use http::{Request, Response};
    use kube::{Client, client::Body};
    use tower_test::mock;

    use super::*;
    use crate::{
        cluster::client::{Pressure, Stack},
        operator::health::Health,
    };

    /// Runs the operator with an API server that never answers.
    async fn run_with(election: Election, stop: impl Future<Output = ()>) -> Result<(), RunError> {
        let (service, _handle) = mock::pair::<Request<Body>, Response<Body>>();
        let settings = Settings {
            namespace: "n".into(),
            instance: "i".into(),
            label_namespaces: false,
            resolv_conf: None,
            tools: Arc::default(),
        };
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
        let ends = Election { task: async { ElectionEnd::Resigned }.boxed(), ..Election::none() };
        let error = run_with(ends, std::future::pending()).await.unwrap_err();
        assert_eq!(error.to_string(), "the election ended unexpectedly");
    }

    #[tokio::test]
    async fn i15_a_lease_that_is_older_than_before_ends_the_run() {
        let older = ElectionEnd::WentBack { seen: 840, found: 299 };
        let back = Election { task: async move { older }.boxed(), ..Election::none() };
        let error = run_with(back, std::future::pending()).await.unwrap_err();
        assert!(matches!(error, RunError::WentBack { seen: 840, found: 299 }), "{error}");
    }

    #[tokio::test]
    async fn the_signal_to_stop_ends_every_task() {
        let Election { leadership, resign, task } = Election::none();
        let (ended, end) = oneshot::channel();
        let task = async move {
            let how = task.await;
            let _ = ended.send(());
            how
        };
        run_with(Election { leadership, resign, task: task.boxed() }, async {}).await.unwrap();
        assert_eq!(end.await, Ok(()));
    }
}
