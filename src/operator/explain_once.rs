//! One look at the cluster with the eyes of the operator: the same watches, the same engine, and no write.

use std::{path::PathBuf, sync::Arc, time::Duration};

use futures::{StreamExt, stream};

use super::{EVENTS_AT_ONCE, health::Health, present};
use crate::{
    cluster::{client::Clients, telemetry::Telemetry, watch},
    engine::Engine,
    operator::admin::Shown,
    policy::explain::Explanation,
};

/// How often the clock is looked at while something is waited for.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// From where it is looked.
#[derive(Clone, Debug)]
pub struct ViewPoint {
    /// The namespace of the operator.
    pub namespace: String,
    /// The resolv.conf of a pod; without one, the nameservers that the statuses tell are believed.
    pub resolv_conf: Option<PathBuf>,
}

/// Why a namespace could not be explained.
#[derive(Debug, thiserror::Error)]
pub enum ViewError {
    /// Something could not be listed.
    #[error("not everything could be listed within {0:?}:\n{1}")]
    NotListed(Duration, String),
    /// A watch ended.
    #[error("a watch ended, which it never should")]
    WatchEnded,
    /// There is no such namespace.
    #[error("there is no namespace {0:?}")]
    NotFound(String),
}

/// Says what an operator decides for a namespace.
pub async fn explain(clients: &Clients, from: ViewPoint, namespace: &str, patience: Duration) -> Result<Explanation, ViewError> {
    let telemetry: Arc<dyn Telemetry> = Arc::new(Shown { health: Arc::new(Health::new(&[])), metrics: Arc::default() });
    let in_a_pod = from.resolv_conf.is_some();
    let mut engine = Engine::new(&from.namespace).discovering();
    let watched = watch::everything(&clients.watches, &from.namespace, &telemetry);
    let dns = watch::everything_of_dns(&clients.watches, from.resolv_conf, &telemetry);
    let mut seen = stream::select(watched, dns).ready_chunks(EVENTS_AT_ONCE);
    let listing = async {
        loop {
            // What is not waited for without end is gone without when its time is over.
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
    listed.map_err(|_| ViewError::NotListed(patience, waits(&engine)))??;
    if !in_a_pod {
        engine.believe_told_nameservers(present());
    }
    engine.explain(namespace).ok_or_else(|| ViewError::NotFound(namespace.into()))
}
