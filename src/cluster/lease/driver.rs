//! Carries out the decisions of the elector: reads, writes and watches the Lease, and opens and closes the fence for writes.
//! The watch allows a takeover immediately after a release. Only one request runs at a time, with a bounded timeout.
//! One file: reading, writing, watching and publishing share one state and its order.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{
    FutureExt, StreamExt,
    future::{BoxFuture, OptionFuture},
};
use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
};
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
};
use kube_runtime::{
    WatchStreamExt,
    utils::Backoff,
    watcher::{self, Event},
};
use tokio::{
    sync::{oneshot, watch},
    time::timeout,
};
use tracing::{debug, info, warn};

use super::{Elector, Move, Timing};
use crate::{
    api::lease::{LeaseRecord, record, version},
    cluster::{error::ApiProblem, fence::WriteFence, watch::stream::Watching},
};

/// The longest timeout of a request.
const LONGEST_ATTEMPT: Duration = Duration::from_secs(5);
/// The timeout of the release. The process cannot end before the release does.
const RELEASE: Duration = Duration::from_secs(1);
/// The delay between taking over and the first write. In this time our watches deliver the last writes of the former leader.
const SETTLE: Duration = Duration::from_millis(250);

/// The settings of an election.
#[derive(Clone, Debug)]
pub struct LeaseConfig {
    /// The namespace of the Lease.
    pub namespace: String,
    /// The name of the Lease.
    pub name: String,
    /// The identity of this instance. No other instance may use it, not even a later one.
    pub identity: String,
    /// Lease duration, renewal deadline and retry period.
    pub timing: Timing,
    /// No attempt to lead before that time, if there is one.
    pub not_before: Option<Instant>,
}

/// Tells whether this instance leads.
#[derive(Clone, Debug)]
pub struct Leadership {
    gate: WriteFence,
    led: watch::Receiver<bool>,
    may_lead: Arc<watch::Sender<bool>>,
}

impl Leadership {
    /// The leadership of an instance without an election.
    pub(super) fn always(gate: WriteFence, led: watch::Receiver<bool>) -> Self {
        Self { gate, led, may_lead: Arc::default() }
    }

    /// The fence that every write has to pass.
    pub const fn gate(&self) -> &WriteFence {
        &self.gate
    }

    /// Whether this instance may decide on writes now.
    pub fn is_leading(&self) -> bool {
        *self.led.borrow() && self.gate.is_open()
    }

    /// Says whether this instance knows enough to lead (I16). It does not until this is called.
    pub fn may_lead(&self, may_lead: bool) {
        self.may_lead.send_if_modified(|before| std::mem::replace(before, may_lead) != may_lead);
    }

    /// Waits until the result of [`Self::is_leading`] may have changed.
    pub async fn changed(&mut self) {
        if self.led.changed().await.is_err() {
            // The sender is gone, so there are no more changes.
            std::future::pending::<()>().await;
        }
    }
}

/// Participation of this instance in an election.
pub struct Election {
    /// Tells whether this instance leads.
    pub leadership: Leadership,
    /// Send to it to release the Lease and end the task. Drop it to end the task and let the Lease expire.
    pub resign: oneshot::Sender<()>,
    /// The task that takes part in the election. It ends after `resign` is used or dropped, or when the API server went back to an older
    /// state.
    pub task: BoxFuture<'static, ElectionEnd>,
}

/// Why an election ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ElectionEnd {
    /// As requested.
    Resigned,
    /// The API server answered with something that is older than what it showed before: its data was restored from a backup. Everything
    /// that this instance knows may be wrong.
    WentBack {
        /// The resourceVersion that was seen before.
        seen: u64,
        /// The resourceVersion in the answer.
        found: u64,
    },
}

impl ElectionEnd {
    /// The end, if an answer shows a lower version than was seen before. 0 is no answer, or a version that is no number.
    pub(super) fn if_older(seen: u64, found: u64) -> Option<Self> {
        (0 < found && found < seen).then_some(Self::WentBack { seen, found })
    }
}

impl std::fmt::Debug for Election {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Election").field("leadership", &self.leadership).finish_non_exhaustive()
    }
}

impl Election {
    /// No election: this instance always leads, and asks nobody for anything.
    #[cfg(test)]
    pub fn none() -> Self {
        let (resign, resigned) = oneshot::channel();
        let leadership = Leadership::always(WriteFence::open(), watch::channel(true).1);
        Self { leadership, resign, task: resigned.map(|_| ElectionEnd::Resigned).boxed() }
    }
}

/// Takes part in an election until [`Election::resign`] is used or dropped.
pub fn stand(client: &Client, seat: LeaseConfig) -> Election {
    let gate = WriteFence::closed(seat.timing.longest_write());
    let (leads, led) = watch::channel(false);
    let (resign, resigned) = oneshot::channel();
    let (may_lead, allowed) = watch::channel(false);
    let leadership = Leadership { gate: gate.clone(), led, may_lead: Arc::new(may_lead) };
    let sign = LeadershipPublisher { gate, leads, from: None };
    let clerk = LeaseDriver {
        leases: Api::namespaced(client.clone(), &seat.namespace),
        elector: Elector::new(seat.identity.clone(), seat.timing).not_before(seat.not_before),
        allowed,
        latest: None,
        acquired: MicroTime(Timestamp::now()),
        writing: LeaseProblem::default(),
        watching: LeaseProblem::default(),
        seat,
    };
    Election { leadership, resign, task: clerk.elect(sign, resigned).boxed() }
}

/// Publishes whether this instance leads, through the fence and a channel.
struct LeadershipPublisher {
    gate: WriteFence,
    leads: watch::Sender<bool>,
    /// When this instance starts to decide, while it holds the Lease.
    from: Option<Instant>,
}

impl LeadershipPublisher {
    fn set(&mut self, elector: &Elector, now: Instant) {
        let term = elector.term(now);
        self.gate.set(term);
        self.from = term.and(self.from).or_else(|| term.map(|_| if elector.succeeds() { now + SETTLE } else { now }));
        let leads = self.from.is_some_and(|from| from <= now);
        if self.leads.send_if_modified(|led| std::mem::replace(led, leads) != leads) {
            if leads {
                info!("this instance leads");
            } else {
                warn!("this instance no longer leads");
            }
        }
    }

    fn take_down(&mut self) {
        self.gate.set(None);
        let _ = self.leads.send_replace(false);
    }
}

/// A finished request and its result.
enum Tried {
    Looked(Instant, u64, Result<Option<Lease>, Trouble>),
    Wrote(LeaseRecord, Instant, u64, Result<Lease, Trouble>),
}

impl Tried {
    /// Whether the answer is older than what was known when the request was sent. The API server answers both requests with the most
    /// recent state, so its data was replaced by older data.
    fn went_back(&self) -> Option<ElectionEnd> {
        let (known, found) = match self {
            Self::Looked(_, known, Ok(Some(lease))) | Self::Wrote(_, _, known, Ok(lease)) => (*known, version(lease)),
            Self::Looked(..) | Self::Wrote(..) => return None,
        };
        ElectionEnd::if_older(known, found)
    }
}

enum Trouble {
    /// Another instance wrote the Lease in between.
    Conflict,
    /// The request failed for another reason.
    Failed(LeaseTrouble),
}

struct LeaseTrouble {
    /// What is wrong, and what the user can do about it.
    what: String,
    /// The text of the API server's answer.
    said: String,
    /// Another log line already reports it, so this one is logged at debug level.
    is_minor: bool,
}

enum LeaseNews {
    Resigned(bool),
    Sighting(Option<Result<Event<Lease>, watcher::Error>>),
    Tried(Tried),
    Time,
}

struct LeaseDriver {
    seat: LeaseConfig,
    leases: Api<Lease>,
    elector: Elector,
    /// Whether this instance may lead.
    allowed: watch::Receiver<bool>,
    /// The Lease as it was last seen. Its metadata is kept, because others may write into it.
    latest: Option<Lease>,
    acquired: MicroTime,
    writing: LeaseProblem,
    watching: LeaseProblem,
}

impl LeaseDriver {
    async fn elect(mut self, mut sign: LeadershipPublisher, mut resigned: oneshot::Receiver<()>) -> ElectionEnd {
        let config = watcher::Config::default().fields(&format!("metadata.name={}", self.seat.name));
        let watching =
            Watching { api: self.leases.clone(), kind: "Lease".into(), config, streams: false, lists_after_refusal: false };
        let mut sightings = watching.events().backoff(Steady(self.seat.timing.retry)).boxed();
        let mut attempt: Option<BoxFuture<'static, Tried>> = None;
        let release = loop {
            let now = Instant::now();
            let may_lead = *self.allowed.borrow_and_update();
            let mut next_attempt = None;
            if attempt.is_none() {
                match if may_lead { self.elector.next(now) } else { self.elector.step_down(now) } {
                    Move::Wait(at) => next_attempt = Some(at),
                    Move::Look => attempt = Some(self.look()),
                    Move::Write(record, over) => attempt = Some(self.write(record, over)),
                }
            }
            sign.set(&self.elector, now);
            let wakes = [self.elector.term(now), sign.from.filter(|from| *from > now), next_attempt];
            let wake = wakes.into_iter().flatten().min();
            let news = tokio::select! {
                asked = &mut resigned => LeaseNews::Resigned(asked.is_ok()),
                sighting = sightings.next() => LeaseNews::Sighting(sighting),
                Some(tried) = OptionFuture::from(attempt.as_mut()) => LeaseNews::Tried(tried),
                Some(()) = OptionFuture::from(wake.map(|at| tokio::time::sleep_until(at.into()))) => LeaseNews::Time,
                Ok(()) = self.allowed.changed() => LeaseNews::Time,
            };
            // Publish first: the term may have ended while this loop waited.
            sign.set(&self.elector, Instant::now());
            match news {
                LeaseNews::Resigned(release) => break release,
                LeaseNews::Sighting(Some(sighting)) => self.saw(sighting),
                LeaseNews::Sighting(None) => return ElectionEnd::Resigned,
                LeaseNews::Tried(tried) => {
                    attempt = None;
                    if let Some(end) = tried.went_back() {
                        sign.take_down();
                        return end;
                    }
                    self.tried(tried);
                }
                LeaseNews::Time => {}
            }
        };
        sign.take_down();
        if release && timeout(RELEASE, self.release(attempt)).await.is_err() {
            warn!("the Lease was not released: the API server did not answer in time");
        }
        ElectionEnd::Resigned
    }

    fn saw(&mut self, sighting: Result<Event<Lease>, watcher::Error>) {
        let now = Instant::now();
        match sighting {
            Ok(Event::InitApply(lease) | Event::Apply(lease)) => {
                self.elector.saw(record(&lease), version(&lease), now);
                self.keep(lease);
            }
            Ok(Event::Delete(lease)) => self.elector.saw_deleted(version(&lease), now),
            Ok(Event::InitDone) => self.watching.over(),
            Ok(Event::Init) => {}
            Err(error) => {
                let problem = ApiProblem::of_watch(&error);
                let is_minor = problem.is_of_connection() || matches!(problem, ApiProblem::Forbidden(_));
                let what = "the Lease cannot be watched, trying again".to_owned();
                self.watching.tell(LeaseTrouble { what, said: problem.summary(), is_minor });
            }
        }
    }

    fn tried(&mut self, tried: Tried) {
        let now = Instant::now();
        match tried {
            Tried::Looked(sent, _, Ok(found)) => {
                self.elector.looked(found.as_ref().map(|lease| (record(lease), version(lease))), sent, now);
                if let Some(lease) = found {
                    self.keep(lease);
                }
            }
            Tried::Wrote(record, sent, _, Ok(lease)) => {
                self.elector.wrote(record, version(&lease), sent);
                self.keep(lease);
                self.writing.over();
            }
            Tried::Wrote(.., Err(Trouble::Conflict)) => {
                debug!("another instance wrote the Lease");
                self.elector.conflicted(now);
            }
            Tried::Looked(.., Err(Trouble::Conflict)) => self.elector.failed(now),
            Tried::Looked(.., Err(Trouble::Failed(trouble))) | Tried::Wrote(.., Err(Trouble::Failed(trouble))) => {
                self.writing.tell(trouble);
                self.elector.failed(now);
            }
        }
    }

    fn keep(&mut self, lease: Lease) {
        if self.latest.as_ref().is_some_and(|latest| version(latest) > version(&lease)) {
            return;
        }
        let holder = |lease: Option<&Lease>| lease.map(|l| record(l).holder).unwrap_or_default();
        let holds = holder(Some(&lease));
        if holds != holder(self.latest.as_ref()) && !holds.is_empty() && holds != self.seat.identity {
            info!(leader = holds, "another instance leads; this one is ready to take over");
        }
        self.latest = Some(lease);
    }

    fn patience(&self) -> Duration {
        self.seat.timing.margin().min(LONGEST_ATTEMPT)
    }

    fn look(&self) -> BoxFuture<'static, Tried> {
        let (leases, name, patience, about) = (self.leases.clone(), self.seat.name.clone(), self.patience(), self.about());
        let (sent, known) = (Instant::now(), self.elector.version());
        async move { Tried::Looked(sent, known, judged(timeout(patience, leases.get_opt(&name)).await, &about)) }.boxed()
    }

    fn write(&mut self, record: LeaseRecord, over: Option<u64>) -> BoxFuture<'static, Tried> {
        let now = MicroTime(Timestamp::now());
        if self.elector.holder() != Some(&*self.seat.identity) {
            self.acquired = now.clone();
        }
        let lease = self.lease(&record, over, now);
        let (leases, name, patience, about) = (self.leases.clone(), self.seat.name.clone(), self.patience(), self.about());
        let (sent, known) = (Instant::now(), self.elector.version());
        async move {
            let params = PostParams::default();
            let answer = match over {
                None => timeout(patience, leases.create(&params, &lease)).await,
                Some(_) => timeout(patience, leases.replace(&name, &params, &lease)).await,
            };
            Tried::Wrote(record, sent, known, judged(answer, &about))
        }
        .boxed()
    }

    fn lease(&self, record: &LeaseRecord, over: Option<u64>, now: MicroTime) -> Lease {
        let seen = self.latest.as_ref().filter(|latest| over == Some(version(latest)));
        let metadata = seen.map(|latest| ObjectMeta { managed_fields: None, ..latest.metadata.clone() });
        let metadata = metadata.unwrap_or_else(|| ObjectMeta {
            name: Some(self.seat.name.clone()),
            resource_version: over.map(|version| version.to_string()),
            ..ObjectMeta::default()
        });
        let spec = LeaseSpec {
            holder_identity: Some(record.holder.clone()),
            lease_duration_seconds: i32::try_from(record.duration.as_secs()).ok(),
            lease_transitions: Some(record.transitions),
            acquire_time: Some(self.acquired.clone()),
            renew_time: Some(now),
            ..LeaseSpec::default()
        };
        Lease { metadata, spec: Some(spec) }
    }

    /// Releases the Lease if this instance holds it. First waits for a renewal that is in progress.
    async fn release(mut self, attempt: Option<BoxFuture<'static, Tried>>) {
        if let Some(attempt) = attempt {
            let tried = attempt.await;
            self.tried(tried);
        }
        while let Some((released, over)) = self.elector.release() {
            match self.write(released, Some(over)).await {
                Tried::Wrote(.., Ok(_)) => {
                    info!("the Lease is released");
                    return;
                }
                Tried::Wrote(.., Err(Trouble::Conflict)) => {
                    let seen = self.look().await;
                    self.tried(seen);
                }
                Tried::Wrote(.., Err(Trouble::Failed(LeaseTrouble { what, said, .. }))) => {
                    warn!("the Lease was not released: {what}: {said}");
                    return;
                }
                Tried::Looked(..) => return,
            }
        }
    }

    fn about(&self) -> String {
        format!("{}/{}", self.seat.namespace, self.seat.name)
    }
}

fn judged<T>(answer: Result<kube::Result<T>, tokio::time::error::Elapsed>, lease: &str) -> Result<T, Trouble> {
    let trouble = |what: &str, said, is_minor| {
        let what = format!("Lease {lease}: {what}");
        Trouble::Failed(LeaseTrouble { what, said, is_minor })
    };
    let failed = |what: &str, said| trouble(what, said, false);
    let status = match answer {
        Ok(Ok(found)) => return Ok(found),
        Ok(Err(kube::Error::Api(status))) => status,
        Ok(Err(error)) => {
            let problem = ApiProblem::of(&error);
            return Err(trouble("no answer, trying again", problem.summary(), problem.is_of_connection()));
        }
        Err(_) => return Err(failed("no answer, trying again", "the API server does not answer in time".into())),
    };
    Err(match status.code {
        404 if status.message.contains("namespaces \"") => failed(
            "its namespace does not exist, and nothing is written without the Lease; create the namespace, or name another with --operator-namespace; an instance that runs alone needs no Lease with --leader-elect=false",
            status.message.clone(),
        ),
        // Another instance wrote, created or deleted the Lease in between.
        404 | 409 => Trouble::Conflict,
        403 => failed(
            "access is forbidden, and nothing is written without the Lease; apply manifests/base; an instance that runs alone needs no Lease with --leader-elect=false",
            status.message.clone(),
        ),
        401 => trouble("refused, trying again", status.message.clone(), true),
        _ => failed("refused, trying again", status.message.clone()),
    })
}

/// Logs a problem once, even if the API server words it differently each time, and logs once when it is over.
#[derive(Default)]
struct LeaseProblem(Option<String>);

impl LeaseProblem {
    fn tell(&mut self, LeaseTrouble { what, said, is_minor }: LeaseTrouble) {
        if is_minor {
            debug!("{what}: {said}");
        } else if self.0.as_ref() != Some(&what) {
            warn!("{what}: {said}");
            self.0 = Some(what);
        }
    }

    fn over(&mut self) {
        if self.0.take().is_some() {
            info!("the Lease can be read and written again");
        }
    }
}

/// A backoff with a constant delay.
struct Steady(Duration);

impl Iterator for Steady {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        Some(self.0)
    }
}

impl Backoff for Steady {
    fn reset(&mut self) {}
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    fn told(code: u16, message: &str) -> String {
        let status = Status { code, message: message.into(), ..Status::default() };
        match judged::<()>(Ok(Err(kube::Error::Api(Box::new(status)))), "ns/name") {
            Ok(()) => "nothing".into(),
            Err(Trouble::Conflict) => "conflict".into(),
            Err(Trouble::Failed(LeaseTrouble { what, said, .. })) => format!("{what}: {said}"),
        }
    }

    #[test]
    fn what_is_wrong_with_the_lease_is_told_with_what_to_do() {
        assert_eq!(told(409, "the object has been modified"), "conflict");
        assert_eq!(told(404, "leases.coordination.k8s.io \"name\" not found"), "conflict");
        assert!(told(404, "namespaces \"ns\" not found").contains("create the namespace"));
        assert!(told(403, "no").contains("apply manifests/base"));
        assert!(told(500, "etcd is down").ends_with("trying again: etcd is down"));
    }

    #[test]
    fn a_lease_of_any_shape_is_read() {
        let empty = Lease::default();
        assert_eq!(record(&empty), LeaseRecord { holder: String::new(), duration: Duration::from_secs(1), transitions: 0 });
        assert_eq!(version(&empty), 0);
        let spec = LeaseSpec { holder_identity: Some("x".into()), lease_duration_seconds: Some(-1), ..LeaseSpec::default() };
        assert_eq!(record(&Lease { spec: Some(spec), ..Lease::default() }).duration, Duration::from_secs(1));
    }
}
