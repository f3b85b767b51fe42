//! One look at the cluster with the eyes of the operator: the same watches, the same engine, and no write.

use std::{sync::Arc, time::Duration};

use futures::StreamExt;

use super::{EVENTS_AT_ONCE, engine::Engine, present, watch};
use crate::{client::Clients, explain::Explanation, health::Health, metrics::WATCHES};

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

/// Says what an operator in the namespace `own` decides for a namespace.
pub async fn explain(clients: &Clients, own: &str, namespace: &str, patience: Duration) -> Result<Explanation, ViewError> {
    let health = Arc::new(Health::new(&WATCHES));
    let metrics = Arc::default();
    let mut engine = Engine::new(own);
    let mut seen = watch::everything(&clients.watches, &health, &metrics).ready_chunks(EVENTS_AT_ONCE);
    let listing = async {
        while !engine.is_synced() {
            let events = seen.next().await.ok_or(ViewError::WatchEnded)?;
            for event in events {
                engine.see(event, present());
            }
        }
        Ok(())
    };
    tokio::time::timeout(patience, listing).await.map_err(|_| ViewError::NotListed(patience, health.waiting()))??;
    engine.explain(namespace).ok_or_else(|| ViewError::NotFound(namespace.into()))
}
