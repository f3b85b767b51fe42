//! The watches. Each has a backoff of its own, logs its own errors and never ends; none can slow another down.
//! Objects become fingerprints as soon as they reach the engine; no store of objects exists.

use std::{
    fmt::Debug,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{
    Stream, StreamExt,
    stream::{self, BoxStream},
};
use k8s_openapi::api::{apps::v1::ControllerRevision, coordination::v1::Lease};
use kube::{
    Api, Client, Resource,
    core::Status,
};
use kube_runtime::{
    WatchStreamExt,
    utils::Backoff,
    watcher::{self, Event},
};
use serde::de::DeserializeOwned;
use tracing::{info, warn};

use super::{
    OPT_OUTS_WATCH, REVISIONS_WATCH,
    stream::{Watching, watch_dynamic},
};
use crate::{
    api::{
        SlimNamespace, SlimPolicy,
        backends::{Caller, ConfigurationKind, SlimApiService, SlimCrd, SlimMutating, SlimValidating},
        lease::NAME,
        names::{LABEL_BASELINE, LABEL_MANAGED_BY, MANAGER},
    },
    cluster::{error::chain, telemetry::Telemetry},
    engine::facts::{
        baseline::RawBaseline,
        event::{ListPhase, ListRefusal, Seen},
        opt_out::{RawOptOut, Unlisted},
    },
};

/// Everything that the operator watches, as one stream.
pub fn everything(
    client: &Client,
    own_namespace: &str,
    telemetry: &Arc<dyn Telemetry>,
) -> impl Stream<Item = Seen> + Send + use<> {
    let complaint = |what| WatchProblem::about(what, telemetry);
    let caller = |kind: ConfigurationKind| WatchProblem { kind: Some(kind), ..complaint(kind.resource()) };
    let all = watcher::Config::default;
    let namespaces = watch::<SlimNamespace>(client, complaint("namespaces"), all(), |event| match event {
        Event::Init => Seen::NamespaceList(ListPhase::Begin),
        Event::InitDone => Seen::NamespaceList(ListPhase::End),
        Event::InitApply(ns) | Event::Apply(ns) => Seen::Namespace(ns.metadata),
        Event::Delete(ns) => Seen::NamespaceGone(ns.metadata),
    });
    let policies = watch::<SlimPolicy>(client, complaint("networkpolicies"), all(), |event| match event {
        Event::Init => Seen::PolicyList(ListPhase::Begin),
        Event::InitDone => Seen::PolicyList(ListPhase::End),
        Event::InitApply(policy) | Event::Apply(policy) => Seen::Policy(Box::new(policy.into())),
        Event::Delete(policy) => Seen::PolicyGone(Box::new(policy.into())),
    });
    let baselines = watch_dynamic::<RawBaseline>(client, None, all());
    let baselines = told(
        baselines,
        complaint("policybaselines"),
        |_| None,
        |event| match event {
            Event::Init => Seen::BaselineList(ListPhase::Begin),
            Event::InitDone => Seen::BaselineList(ListPhase::End),
            Event::InitApply(baseline) | Event::Apply(baseline) => Seen::Baseline(Box::new(baseline)),
            Event::Delete(baseline) => Seen::BaselineGone(Box::new(baseline)),
        },
    );
    let opt_outs = watch_dynamic::<RawOptOut>(client, None, all());
    let opt_outs = told(opt_outs, complaint(OPT_OUTS_WATCH), unlisted, |event| match event {
        Event::Init => Seen::OptOutList(ListPhase::Begin),
        Event::InitDone => Seen::OptOutList(ListPhase::End),
        Event::InitApply(opt_out) | Event::Apply(opt_out) => Seen::OptOut(Box::new(opt_out)),
        Event::Delete(opt_out) => Seen::OptOutGone(Box::new(opt_out)),
    });
    let installs = all().fields(&format!("metadata.name={}", NAME));
    let installs = watch_dynamic::<Lease>(client, None, installs);
    let installs = told(
        installs,
        complaint("leases"),
        |_| None,
        |event| match event {
            Event::Init => Seen::InstallList(ListPhase::Begin),
            Event::InitDone => Seen::InstallList(ListPhase::End),
            Event::InitApply(lease) | Event::Apply(lease) => Seen::Install(Box::new(lease)),
            Event::Delete(lease) => Seen::InstallGone(Box::new(lease)),
        },
    );
    let webhooks = stream::select(
        callers(watch_dynamic::<SlimValidating>(client, None, all()), caller(SlimValidating::KIND)),
        callers(watch_dynamic::<SlimMutating>(client, None, all()), caller(SlimMutating::KIND)),
    );
    let services = callers(watch_dynamic::<SlimApiService>(client, None, all()), caller(SlimApiService::KIND));
    // CRDs are large: of each one no more is built up than is kept.
    let crds = Watching {
        api: Api::<SlimCrd>::all(client.clone()),
        kind: SlimCrd::kind(&()),
        config: all().page_size(LARGE_PAGE),
        streams: true,
    };
    let crds = callers(crds.events().boxed(), caller(SlimCrd::KIND));
    let callers = stream::select(webhooks, stream::select(services, crds));
    let own = all().labels(&format!("{LABEL_MANAGED_BY}={MANAGER},{LABEL_BASELINE}"));
    let revisions = watch_dynamic::<ControllerRevision>(client, Some(own_namespace), own);
    let forbidden = |error: &watcher::Error| (refusal(error)? == ListRefusal::Forbidden).then_some(Seen::RevisionsForbidden);
    let revisions = told(revisions, complaint(REVISIONS_WATCH), forbidden, |event| match event {
        Event::Init => Seen::RevisionList(ListPhase::Begin),
        Event::InitDone => Seen::RevisionList(ListPhase::End),
        Event::InitApply(revision) | Event::Apply(revision) => Seen::Revision(Box::new(revision)),
        Event::Delete(revision) => Seen::RevisionGone(Box::new(revision)),
    });
    stream::select(
        stream::select(namespaces, policies),
        stream::select(stream::select(baselines, installs), stream::select(stream::select(opt_outs, revisions), callers)),
    )
}

/// A cluster may have no CRD of opt-outs yet, and roles that know nothing of them.
fn unlisted(error: &watcher::Error) -> Option<Seen> {
    match refusal(error)? {
        ListRefusal::Unknown => Some(Seen::OptOutsUnlisted(Unlisted::Unknown)),
        ListRefusal::Forbidden => Some(Seen::OptOutsUnlisted(Unlisted::Forbidden)),
    }
}

/// So many CRDs come in a page, where lists come in pages.
const LARGE_PAGE: u32 = 50;

fn callers<K: Caller + 'static>(
    events: BoxStream<'static, watcher::Result<Event<K>>>,
    complaint: WatchProblem,
) -> BoxStream<'static, Seen> {
    told(
        events,
        complaint,
        |_| None,
        |event| match event {
            Event::Init => Seen::ConfigurationList(K::KIND, ListPhase::Begin),
            Event::InitDone => Seen::ConfigurationList(K::KIND, ListPhase::End),
            Event::InitApply(object) | Event::Apply(object) => Seen::Configuration(object.configuration()),
            Event::Delete(object) => Seen::ConfigurationGone(K::KIND, object.configuration().name),
        },
    )
}

/// A watch of objects of which there are many.
fn watch<K>(
    client: &Client,
    complaint: WatchProblem,
    config: watcher::Config,
    seen: fn(Event<K>) -> Seen,
) -> BoxStream<'static, Seen>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let watching = Watching { api: Api::all(client.clone()), kind: K::kind(&()), config, streams: true };
    told(watching.events().boxed(), complaint, |_| None, seen)
}

/// Tells of what goes wrong with a watch, and goes on; `failed` says what an error means.
fn told<K: 'static>(
    events: BoxStream<'static, watcher::Result<Event<K>>>,
    mut complaint: WatchProblem,
    failed: fn(&watcher::Error) -> Option<Seen>,
    seen: fn(Event<K>) -> Seen,
) -> BoxStream<'static, Seen> {
    events
        .backoff(WatchBackoff::default())
        .filter_map(move |event| {
            let seen = match event {
                Ok(event) => {
                    complaint.recovered(&event);
                    Some(seen(event))
                }
                Err(error) => {
                    let refused = complaint.failed(&error);
                    refused.or_else(|| failed(&error))
                }
            };
            futures::future::ready(seen)
        })
        .boxed()
}

/// Says once what is wrong with a watch, and once that it is well again; tells the probes.
pub(super) struct WatchProblem {
    what: &'static str,
    /// Of objects that are gone without where they cannot be listed.
    kind: Option<ConfigurationKind>,
    last: Option<String>,
    listed: bool,
    telemetry: Arc<dyn Telemetry>,
}

impl WatchProblem {
    pub fn about(what: &'static str, telemetry: &Arc<dyn Telemetry>) -> Self {
        Self { what, kind: None, last: None, listed: false, telemetry: telemetry.clone() }
    }

    /// Returns what the engine should know of it.
    pub fn failed(&mut self, error: &watcher::Error) -> Option<Seen> {
        let refusal = self.kind.zip(refusal(error));
        let text = explain(self.what, error, refusal.is_some());
        if self.last.as_ref() != Some(&text) {
            warn!(watch = self.what, "{text}");
            self.telemetry.watch_waits(self.what, &text);
            self.last = Some(text);
        }
        let (kind, refusal) = refusal?;
        self.telemetry.watch_listed(self.what);
        Some(Seen::ConfigurationsRefused(kind, refusal))
    }

    pub fn recovered<K>(&mut self, event: &Event<K>) {
        match event {
            Event::Init if self.listed => self.telemetry.watch_restarted(self.what),
            Event::InitDone => {
                self.listed = true;
                self.telemetry.watch_listed(self.what);
            }
            _ => {}
        }
        // `Init` comes before the request is sent.
        if !matches!(event, Event::Init) && self.last.take().is_some() {
            info!(watch = self.what, "the watch is well again");
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

/// Whether the apiserver says that it will not show it, and why. Anything else may be over in a moment.
pub fn refusal(error: &watcher::Error) -> Option<ListRefusal> {
    match answer(error)?.code {
        403 => Some(ListRefusal::Forbidden),
        404 => Some(ListRefusal::Unknown),
        _ => None,
    }
}

/// `optional` says that nothing waits for it.
pub fn explain(what: &str, error: &watcher::Error, optional: bool) -> String {
    match answer(error) {
        Some(s) if s.code == 404 && optional => format!("{what} are not known to the apiserver: there are none"),
        Some(s) if s.code == 403 && optional => {
            format!("not allowed to list and watch {what}; going on without. Apply manifests/base: {}", s.message)
        }
        Some(s) if s.code == 404 => {
            format!("{what} are not known to the apiserver; waiting. Install the CRDs with `kubectl apply -f crds/`")
        }
        Some(s) if s.code == 403 => format!("not allowed to list and watch {what}; waiting. Apply manifests/base: {}", s.message),
        _ => format!("{what} cannot be watched, trying again: {}", chain(error)),
    }
}

/// From a quarter of a second to three, so that a CRD or a permission that comes late is soon seen. A watch reports success before each
/// list that it tries, so only time without an error makes the next delay short again.
#[derive(Default)]
pub(super) struct WatchBackoff {
    failures: u32,
    last: Option<Instant>,
}

const WELL_AGAIN: Duration = Duration::from_secs(10);

impl Iterator for WatchBackoff {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let now = Instant::now();
        if self.last.replace(now).is_some_and(|last| now.duration_since(last) > WELL_AGAIN) {
            self.failures = 0;
        }
        let delay = Duration::from_millis(250).saturating_mul(1 << self.failures.min(4));
        self.failures = self.failures.saturating_add(1);
        Some(delay.min(Duration::from_secs(3)))
    }
}

impl Backoff for WatchBackoff {
    fn reset(&mut self) {}
}

#[cfg(test)]
mod tests {
    use http::{Request, Response};
    use kube::client::Body;
    use serde_json::json;
    use tower_test::mock;

    use super::*;
    use crate::cluster::telemetry::Recorded;

    fn quiet() -> Arc<dyn Telemetry> {
        Arc::new(Recorded::default())
    }

    /// What the watch of policies asks of an apiserver that refuses every version as too old.
    async fn asked(knows_streams: bool) -> Vec<&'static str> {
        let (service, mut server) = mock::pair::<Request<Body>, Response<Body>>();
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
            let (what, code, body) = if query.contains("sendInitialEvents") && knows_streams {
                let ends = json!({"resourceVersion": "7", "annotations": {"k8s.io/initial-events-end": "true"}});
                let bookmark = json!({"type": "BOOKMARK", "object": {"apiVersion": types["apiVersion"], "kind": types["kind"], "metadata": ends}});
                ("stream", 200, format!("{bookmark}\n").into())
            } else if query.contains("sendInitialEvents") {
                ("stream", 422, serde_json::to_vec(&refusal(422, "Invalid")).unwrap())
            } else if query.contains("watch=true") {
                ("watch", 410, serde_json::to_vec(&refusal(410, "Expired")).unwrap())
            } else {
                let list = json!({"apiVersion": types["apiVersion"], "kind": "NetworkPolicyList", "metadata": {"resourceVersion": "7"}, "items": []});
                ("list", 200, list.to_string().into())
            };
            asked.push(what);
            respond.send_response(Response::builder().status(code).body(Body::from(body)).unwrap());
        }
        watching.abort();
        asked
    }

    #[tokio::test(start_paused = true)]
    async fn what_may_not_be_listed_or_is_not_known_is_told_and_readiness_does_not_wait_for_it() {
        for (code, refusal) in [(403, ListRefusal::Forbidden), (404, ListRefusal::Unknown)] {
            let (service, mut server) = mock::pair::<Request<Body>, Response<Body>>();
            let recorded = Arc::new(Recorded::default());
            let telemetry: Arc<dyn Telemetry> = recorded.clone();
            let client = Client::new(service, "default");
            let mut seen = everything(&client, "own", &telemetry).boxed();
            let answering = tokio::spawn(async move {
                let mut silent = Vec::new();
                while let Some((request, respond)) = server.next_request().await {
                    if ["apiservices", "leases"].iter().any(|what| request.uri().path().ends_with(what)) {
                        let status = serde_json::to_vec(&Status { code, ..Status::default() }).unwrap();
                        respond.send_response(Response::builder().status(code).body(Body::from(status)).unwrap());
                    } else {
                        silent.push(respond);
                    }
                }
            });
            let told = loop {
                if let Some(Seen::ConfigurationsRefused(kind, refusal)) = seen.next().await {
                    break (kind, refusal);
                }
            };
            assert_eq!(told, (ConfigurationKind::ApiService, refusal));
            let waiting = recorded.lines();
            assert!(!waiting.contains(&"leases listed".to_owned()), "{waiting:?}");
            assert!(waiting.contains(&"apiservices listed".to_owned()), "{waiting:?}");
            answering.abort();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_whose_version_is_refused_as_too_old_begins_anew() {
        assert_eq!(asked(true).await, ["stream", "watch", "stream", "watch", "stream"]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_apiserver_that_knows_no_streaming_lists_is_asked_for_one_once() {
        assert_eq!(asked(false).await, ["stream", "list", "watch", "list", "watch"]);
    }

    #[test]
    fn delays_grow_also_when_a_list_begins_between_two_errors() {
        let mut backoff = WatchBackoff::default();
        let delays: Vec<_> = (0..6)
            .filter_map(|_| {
                backoff.reset();
                backoff.next()
            })
            .map(|delay| delay.as_millis())
            .collect();
        assert_eq!(delays, [250, 500, 1000, 2000, 3000, 3000]);
        backoff.last = Instant::now().checked_sub(WELL_AGAIN * 2);
        assert_eq!(backoff.next(), Some(Duration::from_millis(250)));
    }
}
