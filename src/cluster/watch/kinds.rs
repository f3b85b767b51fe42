//! The watches of the main resources. Each has its own backoff, logs its own errors and never ends, so no watch slows down another.
//! The engine turns objects into fingerprints when they arrive; there is no store of objects.

use std::{fmt::Debug, sync::Arc};

use futures::{
    Stream, StreamExt,
    stream::{self, BoxStream},
};
use k8s_openapi::api::apps::v1::ControllerRevision;
use kube::{Api, Client, Resource, core::Status};
use kube_runtime::{WatchStreamExt, watcher};
use serde::de::DeserializeOwned;
use tracing::{debug, info, warn};

use super::{
    backoff::WatchBackoff,
    services::only_new_names,
    stream::{Watching, watch_dynamic},
};
use crate::{
    api::{
        SlimNamespace, SlimPolicy,
        backends::{Caller, ExistingService, SlimApiService, SlimCrd, SlimMutating, SlimValidating},
        names::{LABEL_BASELINE, LABEL_MANAGED_BY, MANAGER},
    },
    cluster::{error::ApiProblem, telemetry::Telemetry},
    engine::facts::{
        baseline::RawBaseline,
        event::{Change, Event, ListRefusal},
        opt_out::RawOptOut,
        readiness::WatchedSet,
    },
};

/// The events of the main watches as one stream, except the Leases of installs.
pub fn everything(
    client: &Client,
    own_namespace: &str,
    telemetry: &Arc<dyn Telemetry>,
) -> impl Stream<Item = Event> + Send + use<> {
    let problem = |set: WatchedSet| WatchProblem::about(set.as_str(), set.is_optional(), telemetry);
    let all = watcher::Config::default;
    let namespaces = events_of::<SlimNamespace>(client, all());
    let namespaces = changes(namespaces, problem(WatchedSet::Namespaces), |ns| ns, Event::Namespace);
    let policies = events_of::<SlimPolicy>(client, all());
    let policies = changes(policies, problem(WatchedSet::Policies), |policy| Box::new(policy.into()), Event::Policy);
    let baselines = watch_dynamic::<RawBaseline>(client, None, all());
    let baselines = changes(baselines, problem(WatchedSet::Baselines), Box::new, Event::Baseline);
    let opt_outs = watch_dynamic::<RawOptOut>(client, None, all());
    let opt_outs = changes(opt_outs, problem(WatchedSet::OptOuts), Box::new, Event::OptOut);
    let caller = |kind| problem(WatchedSet::Callers(kind));
    let validating = callers(watch_dynamic::<SlimValidating>(client, None, all()), caller(SlimValidating::KIND));
    let mutating = callers(watch_dynamic::<SlimMutating>(client, None, all()), caller(SlimMutating::KIND));
    let services = callers(watch_dynamic::<SlimApiService>(client, None, all()), caller(SlimApiService::KIND));
    // CRDs are large. They are deserialised directly into the few fields that are kept. After a refusal only a list proves which exist.
    let crds = Watching { lists_after_refusal: true, ..watching::<SlimCrd>(client, all().page_size(LARGE_PAGE)) };
    let crds = callers(crds.events().boxed(), caller(SlimCrd::KIND));
    // A typed watch, because only that transfers nothing but metadata.
    let existing = Watching { lists_after_refusal: true, ..watching::<ExistingService>(client, all()) };
    let existing = only_new_names(callers(existing.events().boxed(), caller(ExistingService::KIND)));
    let own = all().labels(&format!("{LABEL_MANAGED_BY}={MANAGER},{LABEL_BASELINE}"));
    let revisions = watch_dynamic::<ControllerRevision>(client, Some(own_namespace), own);
    let revisions = changes(revisions, problem(WatchedSet::Revisions), Box::new, Event::Revision);
    // This polls only the streams that are ready, not all streams for each event.
    stream::select_all([namespaces, policies, baselines, opt_outs, revisions, validating, mutating, services, crds, existing])
}

/// The number of CRDs in a page, when a list comes in pages.
const LARGE_PAGE: u32 = 50;

fn callers<K: Caller + 'static>(
    events: BoxStream<'static, watcher::Result<watcher::Event<K>>>,
    problem: WatchProblem,
) -> BoxStream<'static, Event> {
    changes(events, problem, Caller::configuration, |change| Event::Configuration(K::KIND, change))
}

/// The events of a watch whose objects are many or large.
fn events_of<K>(client: &Client, config: watcher::Config) -> BoxStream<'static, watcher::Result<watcher::Event<K>>>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    watching(client, config).events().boxed()
}

fn watching<K>(client: &Client, config: watcher::Config) -> Watching<K>
where
    K: Resource<DynamicType = ()>,
{
    Watching { api: Api::all(client.clone()), kind: K::kind(&()), config, streams: true, lists_after_refusal: false }
}

/// Turns watch events into changes. An error becomes a change too, and the watch continues.
pub(super) fn changes<K: 'static, T: 'static>(
    events: BoxStream<'static, watcher::Result<watcher::Event<K>>>,
    problem: WatchProblem,
    keep: fn(K) -> T,
    event: fn(Change<T>) -> Event,
) -> BoxStream<'static, Event> {
    changes_after(WatchBackoff::default(), events, problem, keep, event)
}

/// The same, with other delays after errors.
pub(super) fn changes_after<K: 'static, T: 'static>(
    backoff: WatchBackoff,
    events: BoxStream<'static, watcher::Result<watcher::Event<K>>>,
    mut problem: WatchProblem,
    keep: fn(K) -> T,
    event: impl Fn(Change<T>) -> Event + Send + 'static,
) -> BoxStream<'static, Event> {
    events
        .backoff(backoff)
        .map(move |change| {
            event(match change {
                Ok(change) => {
                    problem.recovered(&change);
                    match change {
                        watcher::Event::Init => Change::ListBegan,
                        watcher::Event::InitApply(object) | watcher::Event::Apply(object) => Change::Applied(keep(object)),
                        watcher::Event::Delete(object) => Change::Deleted(keep(object)),
                        watcher::Event::InitDone => Change::ListDone,
                    }
                }
                Err(error) => {
                    let (refusal, text) = problem.failed(&error);
                    Change::Refused(refusal, text)
                }
            })
        })
        .boxed()
}

/// Logs a problem of a watch once, and logs once when the watch works again.
pub(super) struct WatchProblem {
    what: &'static str,
    /// If the set cannot be listed, the operator continues without it.
    is_optional: bool,
    last: Option<String>,
    listed: bool,
    /// The last problem was logged as a warning.
    warned: bool,
    telemetry: Arc<dyn Telemetry>,
}

impl WatchProblem {
    pub fn about(what: &'static str, is_optional: bool, telemetry: &Arc<dyn Telemetry>) -> Self {
        Self { what, is_optional, last: None, listed: false, warned: false, telemetry: telemetry.clone() }
    }

    /// Records an error. Returns why the set cannot be listed, as a value and as text.
    pub fn failed(&mut self, error: &watcher::Error) -> (ListRefusal, String) {
        let refusal = refusal(error);
        let text = explain(self.what, error, self.is_optional);
        if self.last.as_ref() != Some(&text) {
            // The client already logs problems that affect every watch, and missing permissions.
            if is_reported_by_the_client(error) {
                debug!(watch = self.what, "{text}");
            } else {
                warn!(watch = self.what, "{text}");
                self.warned = true;
            }
            self.last = Some(text.clone());
        }
        (refusal, text)
    }

    pub fn recovered<K>(&mut self, event: &watcher::Event<K>) {
        match event {
            watcher::Event::Init if self.listed => self.telemetry.watch_restarted(self.what),
            watcher::Event::InitDone => self.listed = true,
            _ => {}
        }
        // `Init` comes before the request is sent, and a list can fail after some of its objects: then each attempt would be over at once.
        let is_unfinished = matches!(event, watcher::Event::Init | watcher::Event::InitApply(_));
        if !is_unfinished && self.last.take().is_some() && std::mem::take(&mut self.warned) {
            info!(watch = self.what, "the watch works again");
        }
    }
}

/// Whether this needs no warning here: the client logs it, or the next attempt continues the watch where it ended.
fn is_reported_by_the_client(error: &watcher::Error) -> bool {
    match error {
        watcher::Error::WatchFailed(_) => true,
        watcher::Error::WatchError(status) => status.code == 410,
        error => {
            let problem = ApiProblem::of_watch(error);
            problem.is_of_connection() || matches!(problem, ApiProblem::Forbidden(_))
        }
    }
}

fn answer(error: &watcher::Error) -> Option<&Status> {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status)) => Some(status),
        _ => None,
    }
}

/// Why the set cannot be listed.
fn refusal(error: &watcher::Error) -> ListRefusal {
    match answer(error).map(|status| status.code) {
        Some(403) => ListRefusal::Forbidden,
        Some(404) => ListRefusal::Unknown,
        _ => ListRefusal::Unavailable,
    }
}

/// Describes the error. `optional`: the operator continues without this set.
fn explain(what: &str, error: &watcher::Error, optional: bool) -> String {
    match answer(error) {
        Some(s) if s.code == 404 && optional => format!("the API server does not know {what}: there are none"),
        Some(s) if s.code == 403 && optional => {
            format!("not allowed to list and watch {what}; continuing without them. Apply manifests/base: {}", s.message)
        }
        Some(s) if s.code == 404 => {
            format!("the API server does not know {what}; waiting. Install the CRDs with `kubectl apply -f crds/`")
        }
        Some(s) if s.code == 403 => format!("not allowed to list and watch {what}; waiting. Apply manifests/base: {}", s.message),
        _ => format!("{what} cannot be watched, trying again: {}", ApiProblem::of_watch(error).summary()),
    }
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, time::Duration};

    use http::{Request, Response};
    use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
    use hyper::body::{Bytes, Frame};
    use kube::client::Body;
    use serde_json::json;
    use tower_test::mock;

    use super::*;
    use crate::{api::backends::ConfigurationKind, cluster::telemetry::Recorded};

    fn quiet() -> Arc<dyn Telemetry> {
        Arc::new(Recorded::default())
    }

    /// How an API server answers lists.
    #[derive(Clone, Copy, PartialEq)]
    enum Lists {
        Streamed,
        /// It refuses streaming lists.
        Paged,
        /// A streaming list never ends, and a list in pages fails.
        Lost,
        /// A streaming list never ends, because its bookmark is lost, and goes on with events.
        Busy,
    }

    /// The requests that the watch of policies sends to an API server that refuses every version as too old.
    async fn asked(lists: Lists) -> Vec<&'static str> {
        let (service, mut server) = mock::pair::<Request<Body>, Response<BoxBody<Bytes, Infallible>>>();
        let client = Client::new(service, "default");
        let mut seen = everything(&client, "operator", &quiet()).boxed();
        let watching = tokio::spawn(async move { while seen.next().await.is_some() {} });
        let (mut asked, mut silent) = (Vec::new(), Vec::new());
        while asked.len() < 5 {
            let (request, respond) = server.next_request().await.unwrap();
            if !request.uri().path().ends_with("/networkpolicies") {
                silent.push(respond);
                continue;
            }
            let query = request.uri().query().unwrap_or_default();
            let refusal = |code, reason: &str| Status { code, reason: reason.into(), ..Status::default() };
            let types = json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy"});
            let (what, code, body): (_, _, Vec<u8>) = if query.contains("sendInitialEvents") && lists == Lists::Lost {
                let silence = stream::pending::<Result<Frame<Bytes>, Infallible>>();
                asked.push("stream");
                respond.send_response(Response::new(BodyExt::boxed(StreamBody::new(silence))));
                continue;
            } else if query.contains("sendInitialEvents") && lists == Lists::Busy {
                let policy = json!({"apiVersion": types["apiVersion"], "kind": types["kind"], "metadata": {"name": "p", "namespace": "a"}});
                let event = Bytes::from(format!("{}\n", json!({"type": "MODIFIED", "object": policy})));
                let ticks = tokio::time::interval(Duration::from_secs(5));
                let events = stream::unfold((ticks, event), async |(mut ticks, event)| {
                    ticks.tick().await;
                    Some((Ok::<_, Infallible>(Frame::data(event.clone())), (ticks, event)))
                });
                asked.push("stream");
                respond.send_response(Response::new(BodyExt::boxed(StreamBody::new(events))));
                continue;
            } else if query.contains("sendInitialEvents") && lists == Lists::Streamed {
                let ends = json!({"resourceVersion": "7", "annotations": {"k8s.io/initial-events-end": "true"}});
                let bookmark = json!({"type": "BOOKMARK", "object": {"apiVersion": types["apiVersion"], "kind": types["kind"], "metadata": ends}});
                ("stream", 200, format!("{bookmark}\n").into())
            } else if query.contains("sendInitialEvents") {
                ("stream", 422, serde_json::to_vec(&refusal(422, "Invalid")).unwrap())
            } else if query.contains("watch=true") {
                ("watch", 410, serde_json::to_vec(&refusal(410, "Expired")).unwrap())
            } else if lists == Lists::Lost {
                ("list", 500, serde_json::to_vec(&refusal(500, "InternalError")).unwrap())
            } else {
                let list = json!({"apiVersion": types["apiVersion"], "kind": "NetworkPolicyList", "metadata": {"resourceVersion": "7"}, "items": []});
                ("list", 200, list.to_string().into())
            };
            asked.push(what);
            respond.send_response(Response::builder().status(code).body(Full::from(body).boxed()).unwrap());
        }
        watching.abort();
        asked
    }

    #[tokio::test(start_paused = true)]
    async fn what_may_not_be_listed_or_is_not_known_is_told_and_readiness_does_not_wait_for_it() {
        let all = [(403, ListRefusal::Forbidden), (404, ListRefusal::Unknown), (500, ListRefusal::Unavailable)];
        for (code, refusal) in all {
            let (service, mut server) = mock::pair::<Request<Body>, Response<Body>>();
            let client = Client::new(service, "default");
            let mut seen = everything(&client, "own", &quiet()).boxed();
            let answering = tokio::spawn(async move {
                let mut silent = Vec::new();
                while let Some((request, respond)) = server.next_request().await {
                    if ["apiservices", "baselineoptouts"].iter().any(|what| request.uri().path().ends_with(what)) {
                        let status = serde_json::to_vec(&Status { code, ..Status::default() }).unwrap();
                        respond.send_response(Response::builder().status(code).body(Body::from(status)).unwrap());
                    } else {
                        silent.push(respond);
                    }
                }
            });
            let (mut services, mut opt_outs) = (None, None);
            while services.is_none() || opt_outs.is_none() {
                match seen.next().await.unwrap() {
                    Event::Configuration(ConfigurationKind::ApiService, Change::Refused(refusal, why)) => {
                        services = Some((refusal, why));
                    }
                    Event::OptOut(Change::Refused(refusal, why)) => opt_outs = Some((refusal, why)),
                    _ => {}
                }
            }
            let ((of_services, services), (of_opt_outs, opt_outs)) = (services.unwrap(), opt_outs.unwrap());
            assert_eq!((of_services, of_opt_outs), (refusal, refusal));
            assert_eq!(
                (services.contains("waiting"), opt_outs.contains("waiting")),
                (false, code != 500),
                "{services}, {opt_outs}"
            );
            answering.abort();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn of_services_nothing_but_metadata_is_transferred() {
        let (service, mut server) = mock::pair::<Request<Body>, Response<Body>>();
        let mut seen = everything(&Client::new(service, "default"), "own", &quiet()).boxed();
        let watching = tokio::spawn(async move { while seen.next().await.is_some() {} });
        let mut silent = Vec::new();
        let accepts = loop {
            let (request, respond) = server.next_request().await.unwrap();
            if request.uri().path().ends_with("/services") {
                break request.headers()["accept"].to_str().unwrap().to_owned();
            }
            silent.push(respond);
        };
        assert!(accepts.contains("as=PartialObjectMetadata"), "{accepts}");
        watching.abort();
    }

    #[test]
    fn i9_a_list_that_fails_half_way_again_and_again_is_one_problem() {
        let mut problem = WatchProblem::about("networkpolicies", false, &quiet());
        let busy = || watcher::Error::InitialListFailed(kube::Error::Api(Status { code: 500, ..Status::default() }.boxed()));
        for _ in 0..3 {
            problem.recovered::<()>(&watcher::Event::Init);
            problem.recovered(&watcher::Event::InitApply(()));
            assert!(problem.failed(&busy()).0 == ListRefusal::Unavailable && problem.warned && problem.last.is_some());
            problem.recovered::<()>(&watcher::Event::Init);
            problem.recovered(&watcher::Event::InitApply(()));
            assert!(problem.warned && problem.last.is_some(), "it is not over before the list is complete");
        }
        problem.recovered::<()>(&watcher::Event::InitDone);
        assert!(!problem.warned && problem.last.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_whose_version_is_refused_as_too_old_begins_anew() {
        assert_eq!(asked(Lists::Streamed).await, ["stream", "watch", "stream", "watch", "stream"]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_apiserver_that_knows_no_streaming_lists_is_asked_for_one_once() {
        assert_eq!(asked(Lists::Paged).await, ["stream", "list", "watch", "list", "watch"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_streaming_list_whose_end_is_lost_comes_in_pages_though_events_never_stop() {
        assert_eq!(asked(Lists::Busy).await, ["stream", "list", "watch", "list", "watch"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_list_in_pages_that_fails_too_says_nothing_of_streaming_lists() {
        assert_eq!(asked(Lists::Lost).await, ["stream", "list", "stream", "list", "stream"]);
    }
}
