//! The Leases of installs as one stream of events, each with the answer of the API server to this question: may the ServiceAccount of an
//! install in that namespace write NetworkPolicies everywhere?

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{
    Stream, StreamExt,
    stream::{self, BoxStream},
};
use k8s_openapi::api::{
    authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec},
    coordination::v1::Lease,
};
use kube::{Api, Client, api::PostParams};
use kube_runtime::watcher::{self, Event as Watched};
use tracing::debug;

use super::{
    kinds::{WatchProblem, changes},
    stream::watch_dynamic,
};
use crate::{
    api::{lease::NAME, names::MANAGER},
    cluster::telemetry::Telemetry,
    engine::facts::{event::Event, installs::InstallLease, readiness::WatchedSet},
};

/// For so long an answer counts. An install that gets its permissions while it runs counts after that time.
const ANSWER_COUNTS: Duration = Duration::from_mins(1);
/// From so many answers on, those that count no more are dropped.
const MANY: usize = 256;

/// The events of the Leases of all installs.
pub fn everything(
    watches: &Client,
    requests: &Client,
    own_namespace: &str,
    telemetry: &Arc<dyn Telemetry>,
) -> impl Stream<Item = Event> + Send + use<> {
    let set = WatchedSet::Installs;
    let named = watcher::Config::default().fields(&format!("metadata.name={NAME}"));
    let leases = watch_dynamic::<Lease>(watches, None, named);
    let leases = reviewed(leases, Reviews::new(requests, own_namespace));
    changes(leases, WatchProblem::about(set.as_str(), set.is_optional(), telemetry), Box::new, Event::Install)
}

fn reviewed(
    leases: BoxStream<'static, watcher::Result<Watched<Lease>>>,
    reviews: Reviews,
) -> BoxStream<'static, watcher::Result<Watched<InstallLease>>> {
    let next = async |(mut leases, mut reviews): (BoxStream<'static, _>, Reviews)| {
        let event = match leases.next().await? {
            Ok(Watched::Apply(lease)) => Ok(Watched::Apply(reviews.of(lease).await)),
            Ok(Watched::InitApply(lease)) => Ok(Watched::InitApply(reviews.of(lease).await)),
            // What it may do does not matter any more.
            Ok(Watched::Delete(lease)) => Ok(Watched::Delete(InstallLease { lease, may_write: false })),
            Ok(Watched::Init) => Ok(Watched::Init),
            Ok(Watched::InitDone) => Ok(Watched::InitDone),
            Err(error) => Err(error),
        };
        Some((event, (leases, reviews)))
    };
    stream::unfold((leases, reviews), next).boxed()
}

/// The answers of the API server, by namespace.
struct Reviews {
    api: Api<SubjectAccessReview>,
    own_namespace: String,
    answers: HashMap<String, (bool, Instant)>,
}

impl Reviews {
    fn new(requests: &Client, own_namespace: &str) -> Self {
        Self { api: Api::all(requests.clone()), own_namespace: own_namespace.into(), answers: HashMap::new() }
    }

    async fn of(&mut self, lease: Lease) -> InstallLease {
        let namespace = lease.metadata.namespace.as_deref().unwrap_or_default();
        let may_write = namespace == self.own_namespace || self.may_write(namespace).await;
        InstallLease { lease, may_write }
    }

    async fn may_write(&mut self, namespace: &str) -> bool {
        let now = Instant::now();
        if let Some((answer, until)) = self.answers.get(namespace)
            && *until > now
        {
            return *answer;
        }
        match self.api.create(&PostParams::default(), &question(namespace)).await {
            Ok(review) => {
                let answer = review.status.is_some_and(|status| status.allowed);
                if self.answers.len() >= MANY {
                    self.answers.retain(|_, (_, until)| *until > now);
                }
                self.answers.insert(namespace.into(), (answer, now + ANSWER_COUNTS));
                answer
            }
            // Two installs that both write do more harm than one that waits, and says so.
            Err(error) => {
                debug!(namespace, "cannot ask what the holder of a Lease may do, so it counts as an install: {error}");
                true
            }
        }
    }
}

/// Whether the ServiceAccount of an install in this namespace may write NetworkPolicies everywhere.
fn question(namespace: &str) -> SubjectAccessReview {
    let attributes = ResourceAttributes {
        verb: Some("patch".into()),
        group: Some("networking.k8s.io".into()),
        resource: Some("networkpolicies".into()),
        ..ResourceAttributes::default()
    };
    let groups = ["system:authenticated".into(), "system:serviceaccounts".into(), format!("system:serviceaccounts:{namespace}")];
    SubjectAccessReview {
        spec: SubjectAccessReviewSpec {
            // The name that the manifests give to the ServiceAccount.
            user: Some(format!("system:serviceaccount:{namespace}:{MANAGER}")),
            groups: Some(groups.into()),
            resource_attributes: Some(attributes),
            ..SubjectAccessReviewSpec::default()
        },
        ..SubjectAccessReview::default()
    }
}
