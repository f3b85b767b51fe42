//! Logs problems with the API server: one line for each problem, no matter how many requests have it, and one line when it is over.
//! It sees every answer and changes none.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use futures::future::BoxFuture;
use http::{Request, Response, StatusCode};
use kube::client::Body;
use tower::{BoxError, Service};
use tracing::{info, warn};

use crate::cluster::error::ApiProblem;

/// How long refusals are collected after the first one, to log them together.
const GATHER: Duration = Duration::from_secs(1);

/// A likely cause in a pod. A network plugin drops packets in silence.
const CUT_OFF: &str = ". The NetworkPolicy of the operator's own pod allows only some ports (manifests/default/network_policy.yaml): add the port of the API server's endpoints";

/// Logs the problems with one API server. All clones share their state.
#[derive(Clone, Debug)]
pub struct Reporter {
    address: Arc<str>,
    in_pod: bool,
    state: Arc<Mutex<ReportState>>,
}

#[derive(Debug, Default)]
struct ReportState {
    /// The current connection problem of each client.
    problems: BTreeMap<ClientUse, ApiProblem>,
    /// The resources whose list or watch is forbidden.
    refused: BTreeSet<String>,
    /// Those of them that a log line has named.
    logged: BTreeSet<String>,
    gathering: bool,
}

/// The purpose of a client.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum ClientUse {
    /// Reads and writes: requests whose answers end.
    Requests,
    /// Lists and watches.
    Watches,
}

impl Reporter {
    /// A reporter for the API server at this address. `in_pod`: this process runs in a pod, so a NetworkPolicy may cut it off.
    pub fn new(address: &str, in_pod: bool) -> Self {
        Self { address: address.into(), in_pod, state: Arc::default() }
    }

    fn change<T>(&self, change: impl FnOnce(&mut ReportState) -> T) -> T {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Handles an answer to a request for this path.
    fn answered(&self, by: ClientUse, path: &str, status: StatusCode) {
        if status == StatusCode::UNAUTHORIZED {
            return self.failed(by, ApiProblem::Unauthenticated);
        }
        if self.change(|state| state.recovers(by)) {
            info!(address = %self.address, "the API server answers again");
        }
        if by == ClientUse::Watches {
            let what = resource_of(path);
            if status == StatusCode::FORBIDDEN && self.change(|state| state.is_refused(&what)) {
                let reporter = self.clone();
                tokio::spawn(async move {
                    tokio::time::sleep(GATHER).await;
                    reporter.tell_refusals();
                });
            } else if status.is_success() && self.change(|state| state.is_allowed(&what)) {
                info!("the API server now allows to list and watch everything that it refused");
            }
        }
    }

    /// Handles a missing answer, or one that every other request would get too.
    fn failed(&self, by: ClientUse, problem: ApiProblem) {
        let sentence = problem.sentence(&self.address);
        let is_cut_off = matches!(problem, ApiProblem::Silent | ApiProblem::Unreachable(_));
        if self.change(|state| state.is_news(by, problem)) {
            warn!("{sentence}; trying again{}", if self.in_pod && is_cut_off { CUT_OFF } else { "" });
        }
    }

    fn tell_refusals(&self) {
        if let Some(refused) = self.change(ReportState::unlogged) {
            warn!(
                "the API server at {} does not allow this account to list and watch {refused} (403 Forbidden). Apply manifests/base, which grants that; /readyz names what is waited for",
                self.address.trim_end_matches('/')
            );
        }
    }
}

impl ReportState {
    /// Records a problem. Returns whether it is new: neither client has it at the moment.
    fn is_news(&mut self, by: ClientUse, problem: ApiProblem) -> bool {
        let is_known = self.problems.values().any(|known| *known == problem);
        self.problems.insert(by, problem);
        !is_known
    }

    /// Clears the problem of a client. Returns whether no client has a problem any more.
    fn recovers(&mut self, by: ClientUse) -> bool {
        self.problems.remove(&by).is_some() && self.problems.is_empty()
    }

    /// Records a refusal. Returns whether the caller must schedule a log line.
    fn is_refused(&mut self, what: &str) -> bool {
        self.refused.insert(what.to_owned()) && !std::mem::replace(&mut self.gathering, true)
    }

    /// Clears a refusal. Returns whether it was logged and no refusal is left.
    fn is_allowed(&mut self, what: &str) -> bool {
        self.refused.remove(what);
        self.logged.remove(what) && self.refused.is_empty()
    }

    /// The refused resources that are not logged yet, as a list.
    fn unlogged(&mut self) -> Option<String> {
        self.gathering = false;
        let new: Vec<String> = self.refused.difference(&self.logged).cloned().collect();
        self.logged.clone_from(&self.refused);
        (!new.is_empty()).then(|| new.join(", "))
    }
}

/// The resource in the path of a list or watch: `/apis/apps/v1/namespaces/kube-system/daemonsets` gives "daemonsets in kube-system".
fn resource_of(path: &str) -> String {
    let parts: Vec<&str> = path.split('/').collect();
    match parts[..] {
        [.., "namespaces", namespace, resource] => format!("{resource} in {namespace}"),
        [.., resource] => resource.to_owned(),
        [] => String::new(),
    }
}

/// A client that reports its answers.
#[derive(Clone, Debug)]
pub struct Reported<S> {
    inner: S,
    by: ClientUse,
    reporter: Reporter,
}

impl<S> Reported<S> {
    /// Wraps a client.
    pub const fn new(inner: S, by: ClientUse, reporter: Reporter) -> Self {
        Self { inner, by, reporter }
    }
}

impl<S, B> Service<Request<Body>> for Reported<S>
where
    S: Service<Request<Body>, Response = Response<B>, Error = BoxError>,
    S::Future: Send + 'static,
{
    type Response = Response<B>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Response<B>, BoxError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (by, reporter) = (self.by, self.reporter.clone());
        let path = request.uri().path().to_owned();
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = answer.await;
            match &answer {
                Ok(response) => reporter.answered(by, &path, response.status()),
                Err(error) => reporter.failed(by, ApiProblem::of_transport(error.as_ref())),
            }
            answer
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused() -> ApiProblem {
        ApiProblem::Unreachable("connection refused".into())
    }

    #[test]
    fn a_problem_is_news_once_until_it_changes_or_comes_again() {
        let mut state = ReportState::default();
        assert!(state.is_news(ClientUse::Watches, refused()));
        assert!(!state.is_news(ClientUse::Watches, refused()));
        assert!(!state.is_news(ClientUse::Requests, refused()), "the other client meets the same");
        assert!(state.is_news(ClientUse::Watches, ApiProblem::Unauthenticated));
        assert!(!state.recovers(ClientUse::Watches), "the other one does not work yet");
        assert!(state.recovers(ClientUse::Requests));
        assert!(!state.recovers(ClientUse::Requests));
        assert!(state.is_news(ClientUse::Watches, refused()));
    }

    #[test]
    fn refusals_are_gathered_and_each_is_named_once() {
        let mut state = ReportState::default();
        assert!(state.is_refused("pods"));
        assert!(!state.is_refused("leases"), "one line is to come already");
        assert_eq!(state.unlogged().as_deref(), Some("leases, pods"));
        assert!(!state.is_refused("pods"), "it was refused before");
        assert!(state.is_refused("services in kube-system"));
        assert_eq!(state.unlogged().as_deref(), Some("services in kube-system"));
        assert!(!state.is_allowed("pods") && !state.is_allowed("namespaces") && !state.is_allowed("leases"));
        assert!(state.is_allowed("services in kube-system"));
    }

    #[test]
    fn a_path_names_the_resource() {
        for (path, resource) in [
            ("/api/v1/namespaces", "namespaces"),
            ("/api/v1/pods", "pods"),
            ("/apis/apps/v1/namespaces/kube-system/daemonsets", "daemonsets in kube-system"),
        ] {
            assert_eq!(resource_of(path), resource);
        }
    }
}
