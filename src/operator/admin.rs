//! The admin port: `/livez`, `/readyz` and `/metrics`. Reads only.

use std::{net::SocketAddr, sync::Arc};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::IntoResponse,
    routing::get,
};
use tokio::{net::TcpListener, runtime::Handle};

use super::{health::Health, metrics::Metrics};
use crate::cluster::telemetry::{Telemetry, Verb, WriteOutcome};

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What the port shows.
#[derive(Clone, Debug)]
pub struct Shown {
    /// For the probes.
    pub health: Arc<Health>,
    /// For Prometheus.
    pub metrics: Arc<Metrics>,
}

impl Telemetry for Shown {
    fn write_ended(&self, verb: Verb, answer: WriteOutcome) {
        self.metrics.write(verb, answer);
    }

    fn event_dropped(&self) {
        self.metrics.event_dropped();
    }

    fn watch_restarted(&self, watch: &'static str) {
        self.metrics.watch_restarted(watch);
    }
}

/// Takes the port. Returns the address, and the server, which never ends.
pub async fn open(address: SocketAddr, shown: Shown) -> std::io::Result<(SocketAddr, impl Future<Output = std::io::Result<()>>)> {
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    Ok((address, async move { axum::serve(listener, router(shown)).await }))
}

fn router(shown: Shown) -> Router {
    Router::new()
        .route("/livez", get(async |State(shown): State<Shown>| answer(shown.health.stuck(), StatusCode::INTERNAL_SERVER_ERROR)))
        .route(
            "/readyz",
            get(async |State(shown): State<Shown>| answer(Some(shown.health.waiting()), StatusCode::SERVICE_UNAVAILABLE)),
        )
        .route("/metrics", get(async |State(shown): State<Shown>| ([(CONTENT_TYPE, OPEN_METRICS)], metrics(&shown.metrics))))
        .with_state(shown)
}

fn metrics(metrics: &Metrics) -> String {
    metrics.set_tasks(Handle::current().metrics().num_alive_tasks());
    metrics.text()
}

fn answer(problem: Option<String>, code: StatusCode) -> impl IntoResponse {
    match problem.filter(|problem| !problem.is_empty()) {
        None => (StatusCode::OK, "ok\n".to_owned()),
        Some(problem) => (code, format!("{}\n", problem.trim_end())),
    }
}
