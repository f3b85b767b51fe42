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
use k8s_openapi::{
    api::{apps::v1::ControllerRevision, coordination::v1::Lease},
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, Client, Resource,
    core::{PartialObjectMeta, Status},
    runtime::{
        WatchStreamExt,
        utils::Backoff,
        watcher::{self, Event},
    },
};
use serde::de::DeserializeOwned;
use tracing::{info, warn};

use super::{
    engine::{ListPhase, Seen},
    tracked::RawBaseline,
};
use crate::{
    api::{
        SlimNamespace, SlimPolicy,
        names::{LABEL_BASELINE, LABEL_MANAGED_BY, MANAGER},
    },
    apply::chain,
    client::Watching,
    health::Health,
    lease,
    metrics::{Metrics, OPTIONAL_WATCH, REVISIONS_WATCH},
};

/// Everything that the operator watches, as one stream.
pub fn everything(
    client: &Client,
    own_namespace: &str,
    health: &Arc<Health>,
    metrics: &Arc<Metrics>,
) -> impl Stream<Item = Seen> + Send + use<> {
    let complaint = |what| Complaint { what, last: None, listed: false, health: health.clone(), metrics: metrics.clone() };
    let all = watcher::Config::default;
    let namespaces = watch::<SlimNamespace>(client, all(), complaint("namespaces"), |event| match event {
        Event::Init => Seen::NamespaceList(ListPhase::Begin),
        Event::InitDone => Seen::NamespaceList(ListPhase::End),
        Event::InitApply(ns) | Event::Apply(ns) => Seen::Namespace(ns.metadata),
        Event::Delete(ns) => Seen::NamespaceGone(ns.metadata),
    });
    let policies = watch::<SlimPolicy>(client, all(), complaint("networkpolicies"), |event| match event {
        Event::Init => Seen::PolicyList(ListPhase::Begin),
        Event::InitDone => Seen::PolicyList(ListPhase::End),
        Event::InitApply(policy) | Event::Apply(policy) => Seen::Policy(Box::new(policy.into())),
        Event::Delete(policy) => Seen::PolicyGone(Box::new(policy.into())),
    });
    let baselines = watch::<RawBaseline>(client, all(), complaint("policybaselines"), |event| match event {
        Event::Init => Seen::BaselineList(ListPhase::Begin),
        Event::InitDone => Seen::BaselineList(ListPhase::End),
        Event::InitApply(baseline) | Event::Apply(baseline) => Seen::Baseline(Box::new(baseline)),
        Event::Delete(baseline) => Seen::BaselineGone(Box::new(baseline)),
    });
    let installs = all().fields(&format!("metadata.name={}", lease::NAME));
    let installs = watch::<Lease>(client, installs, complaint("leases"), |event| match event {
        Event::Init => Seen::InstallList(ListPhase::Begin),
        Event::InitDone => Seen::InstallList(ListPhase::End),
        Event::InitApply(lease) | Event::Apply(lease) => Seen::Install(Box::new(lease)),
        Event::Delete(lease) => Seen::InstallGone(Box::new(lease)),
    });
    // Of CRDs, which can be large, the metadata only.
    let others =
        watch::<PartialObjectMeta<CustomResourceDefinition>>(client, all(), complaint(OPTIONAL_WATCH), |event| match event {
            Event::Init => Seen::CrdList(ListPhase::Begin),
            Event::InitDone => Seen::CrdList(ListPhase::End),
            Event::InitApply(crd) | Event::Apply(crd) => Seen::Crd(crd.metadata.name.unwrap_or_default()),
            Event::Delete(crd) => Seen::CrdGone(crd.metadata.name.unwrap_or_default()),
        });
    let own = all().labels(&format!("{LABEL_MANAGED_BY}={MANAGER},{LABEL_BASELINE}"));
    let revisions = Api::<ControllerRevision>::namespaced(client.clone(), own_namespace);
    let revisions = watch_some(
        revisions,
        own,
        complaint(REVISIONS_WATCH),
        |event| match event {
            Event::Init => Seen::RevisionList(ListPhase::Begin),
            Event::InitDone => Seen::RevisionList(ListPhase::End),
            Event::InitApply(revision) | Event::Apply(revision) => Seen::Revision(Box::new(revision)),
            Event::Delete(revision) => Seen::RevisionGone(Box::new(revision)),
        },
        |error| matches!(refusal(error), Some(status) if status.code == 403).then_some(Seen::RevisionsForbidden),
    );
    let others = stream::select(others, revisions);
    stream::select(stream::select(namespaces, policies), stream::select(stream::select(baselines, installs), others))
}

fn watch<K>(
    client: &Client,
    config: watcher::Config,
    complaint: Complaint,
    seen: fn(Event<K>) -> Seen,
) -> BoxStream<'static, Seen>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    watch_some(Api::all(client.clone()), config, complaint, seen, |_| None)
}

/// The same, of one namespace, or where an error is news too.
fn watch_some<K>(
    api: Api<K>,
    config: watcher::Config,
    mut complaint: Complaint,
    seen: fn(Event<K>) -> Seen,
    failed: fn(&watcher::Error) -> Option<Seen>,
) -> BoxStream<'static, Seen>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    Watching { api, config, streams: true }
        .events()
        .backoff(WatchBackoff::default())
        .filter_map(move |event| {
            let seen = match event {
                Ok(event) => {
                    complaint.recovered(&event);
                    Some(seen(event))
                }
                Err(error) => {
                    complaint.failed(&error);
                    failed(&error)
                }
            };
            futures::future::ready(seen)
        })
        .boxed()
}

/// Says once what is wrong with a watch, and once that it is well again; tells the probes.
struct Complaint {
    what: &'static str,
    last: Option<String>,
    listed: bool,
    health: Arc<Health>,
    metrics: Arc<Metrics>,
}

impl Complaint {
    fn failed(&mut self, error: &watcher::Error) {
        let text = explain(self.what, error);
        if self.last.as_ref() != Some(&text) {
            warn!(watch = self.what, "{text}");
            self.health.waits(self.what, &text);
            self.last = Some(text);
        }
    }

    fn recovered<K>(&mut self, event: &Event<K>) {
        match event {
            Event::Init if self.listed => self.metrics.watch_restarted(self.what),
            Event::InitDone => {
                self.listed = true;
                self.health.listed(self.what);
            }
            _ => {}
        }
        // `Init` comes before the request is sent.
        if !matches!(event, Event::Init) && self.last.take().is_some() {
            info!(watch = self.what, "the watch is well again");
        }
    }
}

/// What the apiserver said when it refused a list or a watch.
const fn refusal(error: &watcher::Error) -> Option<&Status> {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status)) => Some(status),
        _ => None,
    }
}

fn explain(what: &str, error: &watcher::Error) -> String {
    match refusal(error) {
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
struct WatchBackoff {
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

    /// What the watch of policies asks of an apiserver that refuses every version as too old.
    async fn asked(knows_streams: bool) -> Vec<&'static str> {
        let (service, mut server) = mock::pair::<Request<Body>, Response<Body>>();
        let client = Client::new(service, "default");
        let mut seen = everything(&client, "operator", &Arc::new(Health::new(&[])), &Arc::default()).boxed();
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
