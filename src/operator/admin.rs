//! The admin port: `/livez`, `/readyz` and `/metrics`. Read-only.

use std::{net::SocketAddr, sync::Arc};

use axum::{
    Router,
    extract::State,
    http::{
        HeaderMap, StatusCode,
        header::{ACCEPT, CONTENT_TYPE},
    },
    response::IntoResponse,
    routing::get,
};
use tokio::{net::TcpListener, runtime::Handle};

use super::{health::Health, metrics::Metrics, prometheus_text::Format};
use crate::cluster::{
    telemetry::{Telemetry, Verb, WriteOutcome},
    watch::WATCHES,
};

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The data that the port serves.
#[derive(Clone, Debug)]
pub struct Shown {
    /// For `/livez` and `/readyz`.
    pub health: Arc<Health>,
    /// For `/metrics`.
    pub metrics: Arc<Metrics>,
}

impl Shown {
    /// Everything is forgotten and listed again, and this instance does not lead.
    pub fn starts_anew(&self) {
        self.health.starts_anew(&WATCHES);
        self.metrics.set_leader(false);
    }
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

/// Binds the port. Returns the bound address, and the server future, which does not end.
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
        .route("/metrics", get(async |State(shown): State<Shown>, headers: HeaderMap| metrics(&shown.metrics, &headers)))
        .with_state(shown)
}

fn metrics(metrics: &Metrics, headers: &HeaderMap) -> impl IntoResponse + use<> {
    metrics.set_tasks(Handle::current().metrics().num_alive_tasks());
    let format = accepted(headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()));
    let content_type = match format {
        Format::OpenMetrics => OPEN_METRICS,
        Format::Text => TEXT,
    };
    ([(CONTENT_TYPE, content_type)], metrics.text(format))
}

/// OpenMetrics, if the client accepts it and does not prefer text.
fn accepted<'a>(accept: impl Iterator<Item = &'a str>) -> Format {
    let (mut open_metrics, mut text) = (0.0, 0.0);
    for entry in accept.flat_map(|value| value.split(',')) {
        let mut parts = entry.split(';').map(str::trim);
        let media_type = parts.next().unwrap_or_default().to_ascii_lowercase();
        let parameters: Vec<(&str, &str)> = parts.filter_map(|part| part.split_once('=')).collect();
        let parameter = |name: &str| {
            let found = parameters.iter().find(|(key, _)| key.trim().eq_ignore_ascii_case(name));
            found.map(|(_, value)| value.trim().trim_matches('"'))
        };
        let quality = parameter("q").map_or(1.0, |q| q.parse::<f32>().unwrap_or(0.0));
        let is_known = parameter("version").is_none_or(|version| version == "1.0.0" || version == "0.0.1");
        match &*media_type {
            "application/openmetrics-text" if is_known => open_metrics = quality.max(open_metrics),
            "text/plain" => text = quality.max(text),
            _ => {}
        }
    }
    if open_metrics > 0.0 && open_metrics >= text { Format::OpenMetrics } else { Format::Text }
}

fn answer(problem: Option<String>, code: StatusCode) -> impl IntoResponse {
    match problem.filter(|problem| !problem.is_empty()) {
        None => (StatusCode::OK, "ok\n".to_owned()),
        Some(problem) => (code, format!("{}\n", problem.trim_end())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_client_says_which_format_it_reads() {
        let prometheus = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        for (accept, format) in [
            (vec![], Format::Text),
            (vec!["*/*"], Format::Text),
            (vec!["text/html, */*"], Format::Text),
            (vec!["text/plain;version=0.0.4"], Format::Text),
            (vec![prometheus], Format::OpenMetrics),
            (vec!["application/openmetrics-text"], Format::OpenMetrics),
            (vec!["text/plain;q=0.3", "Application/OpenMetrics-Text; version=1.0.0; q=0.6"], Format::OpenMetrics),
            (vec!["application/openmetrics-text;q=0"], Format::Text),
            (vec!["application/openmetrics-text;q=0.1,text/plain"], Format::Text),
            (vec!["application/openmetrics-text;version=2.0.0"], Format::Text),
        ] {
            assert_eq!(accepted(accept.iter().copied()), format, "{accept:?}");
        }
    }
}
