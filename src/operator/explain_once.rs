//! Reads the cluster once, as the operator does: the same watches, the same engine, and no writes.

use std::{path::PathBuf, sync::Arc, time::Duration};

use futures::StreamExt;

use super::{EVENTS_AT_ONCE, health::Health, present};
use crate::{
    api::other_tools::OtherTools,
    cluster::{client::Clients, telemetry::Telemetry, watch},
    engine::Engine,
    operator::admin::Shown,
    policy::explain::{Explanation, WHO_GRANTS},
};

/// How often the time limits of the engine are checked while no event comes.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// The settings of the operator whose view is shown.
#[derive(Clone, Debug)]
pub struct ViewPoint {
    /// The namespace of the operator.
    pub namespace: String,
    /// The resolv.conf of a pod. If there is none, the nameservers in the statuses of baselines are used.
    pub resolv_conf: Option<PathBuf>,
    /// The tools whose marks on policies are known.
    pub tools: Arc<OtherTools>,
}

/// Why a namespace could not be explained.
#[derive(Debug, thiserror::Error)]
pub enum ViewError {
    /// A resource could not be listed in time.
    #[error("not everything could be listed within {0:?}: {1}")]
    NotListed(Duration, String),
    /// A watch ended.
    #[error("a watch ended unexpectedly")]
    WatchEnded,
    /// There is no such namespace.
    #[error("there is no namespace {0:?}")]
    NotFound(String),
}

/// Joins the lines about the watches into one, and combines all watches that are not allowed.
fn in_one_line(waiting: &str) -> String {
    let is_refused = |line: &&str| line.contains(": not allowed to list and watch ");
    let (refused, others): (Vec<&str>, Vec<&str>) = waiting.lines().partition(is_refused);
    let names: Vec<&str> = refused.iter().filter_map(|line| line.split(':').next()).collect();
    let refused = (!names.is_empty()).then(|| format!("you may not list and watch {}. {WHO_GRANTS}", names.join(", ")));
    let all: Vec<String> = refused.into_iter().chain(others.into_iter().map(Into::into)).collect();
    all.join("; ")
}

/// Explains what an operator would decide for a namespace. `patience` limits the time to list everything.
pub async fn explain(clients: &Clients, from: ViewPoint, namespace: &str, patience: Duration) -> Result<Explanation, ViewError> {
    let telemetry: Arc<dyn Telemetry> = Arc::new(Shown { health: Arc::new(Health::new(&[])), metrics: Arc::default() });
    let in_a_pod = from.resolv_conf.is_some();
    let mut engine = Engine::new(&from.namespace).discovering().knowing(&from.tools);
    let seen = watch::everything_to_decide(clients, &from.namespace, from.resolv_conf, &telemetry);
    let mut seen = seen.ready_chunks(EVENTS_AT_ONCE);
    let listing = async {
        loop {
            // The engine waits for some sources only for a limited time, and then continues without them.
            engine.assess_dirty(present());
            if engine.is_synced() {
                return Ok(());
            }
            tokio::select! {
                events = seen.next() => {
                    for event in events.ok_or(ViewError::WatchEnded)? {
                        engine.on_event(event, present());
                    }
                }
                () = tokio::time::sleep(LOOK_AGAIN) => {}
            }
        }
    };
    let listed = tokio::time::timeout(patience, listing).await;
    let waits = |engine: &Engine| engine.waits().collect::<Vec<_>>().join("\n");
    listed.map_err(|_| ViewError::NotListed(patience, in_one_line(&waits(&engine))))??;
    if !in_a_pod {
        engine.believe_told_nameservers(present());
    }
    engine.explain(namespace, present()).ok_or_else(|| ViewError::NotFound(namespace.into()))
}

#[cfg(test)]
mod tests {
    use super::in_one_line;

    #[test]
    fn what_may_not_be_listed_is_said_once() {
        let waiting = "namespaces: not allowed to list and watch namespaces; waiting. Apply manifests/base: no\nleases: not listed yet\npods: not allowed to list and watch pods; waiting. Apply manifests/base: no";
        assert_eq!(
            in_one_line(waiting),
            "you may not list and watch namespaces, pods. A cluster administrator can grant that: kubectl create clusterrolebinding NAME --clusterrole=view --user=YOU; leases: not listed yet"
        );
        assert_eq!(in_one_line("leases: not listed yet"), "leases: not listed yet");
    }
}
