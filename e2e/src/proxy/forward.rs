//! One request: what a rule makes of it, and the way to the apiserver and back.

use std::sync::Arc;

use anyhow::{Context, Result};
use http::header::{ACCEPT_ENCODING, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderMap, TRANSFER_ENCODING, USER_AGENT};
use http::request::Parts;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use serde_json::json;
use tokio::time::sleep;

use super::asked::{Asked, Verb};
use super::rules::{Fault, Moment};
use super::{Release, Shared, Trouble, trouble, watch};
use crate::ControlPlane;

pub type Body = UnsyncBoxBody<Bytes, Trouble>;

/// What the client gets.
pub enum Answer {
    Response(Response<Body>),
    /// The stream ends without an answer, the connection stays.
    Nothing,
    /// The connection ends.
    Cut,
}

/// The way to the apiserver.
pub struct Upstream {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    authority: String,
}

impl Upstream {
    pub fn new(plane: &ControlPlane) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        let pem = std::fs::read(plane.authority()?).context("read the authority")?;
        for certificate in CertificateDer::pem_slice_iter(&pem) {
            roots.add(certificate.context("the authority")?).context("the authority")?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let versions = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().context("TLS")?;
        let tls = versions.with_root_certificates(roots).with_no_client_auth();
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_only().enable_all_versions().wrap_connector(tcp);
        let client = Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .http2_initial_stream_window_size(1 << 20)
            .http2_initial_connection_window_size(128 << 20)
            .build(connector);
        Ok(Self { client, authority: plane.address()? })
    }

    async fn send(&self, by: &str, parts: &Parts, body: Bytes) -> Result<Response<Incoming>, Trouble> {
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
        let uri: Uri = format!("https://{}{path}", self.authority).parse()?;
        let mut request = Request::builder().method(&parts.method).uri(uri).body(Full::new(body))?;
        *request.headers_mut() = end_to_end(&parts.headers);
        // Bodies are read here.
        request.headers_mut().remove(ACCEPT_ENCODING);
        if !by.is_empty() {
            request.headers_mut().insert(USER_AGENT, by.parse()?);
        }
        Ok(self.client.request(request).await?)
    }
}

/// What is not a matter of the single connection.
fn end_to_end(headers: &HeaderMap) -> HeaderMap {
    let mut kept = headers.clone();
    for name in [CONNECTION, HOST, TRANSFER_ENCODING, CONTENT_LENGTH] {
        kept.remove(name);
    }
    for name in ["keep-alive", "te", "upgrade", "proxy-connection"] {
        kept.remove(name);
    }
    kept
}

/// From the request to what its sender gets. A write that is under way takes place whether its sender lives or not.
pub async fn exchange(shared: Arc<Shared>, by: Arc<str>, request: Request<Incoming>) -> Result<Answer, Trouble> {
    let (parts, body) = request.into_parts();
    let asked = Asked::of(&parts.method, &parts.uri);
    let body = body.collect().await?.to_bytes();
    let (number, fault) = shared.decide(&asked, &by);
    let is_write = asked.is_write();
    let exchange = One { shared, by, asked, number, parts, body };
    if is_write { tokio::spawn(exchange.suffer(fault)).await? } else { exchange.suffer(fault).await }
}

struct One {
    shared: Arc<Shared>,
    by: Arc<str>,
    asked: Asked,
    number: usize,
    parts: Parts,
    body: Bytes,
}

impl One {
    async fn suffer(self, fault: Option<Fault>) -> Result<Answer, Trouble> {
        match fault {
            None => return self.forward().await,
            Some(Fault::Delay(by)) => {
                sleep(by).await;
                return self.forward().await;
            }
            Some(Fault::Hold(Moment::Before)) => {
                let how = self.shared.hold().await;
                let answer = if how == Release::Forward { self.whole().await.map(whole) } else { Ok(Answer::Cut) };
                self.shared.let_go();
                return answer;
            }
            Some(Fault::Stale) => {
                return match self.shared.remembered(&self.address()) {
                    Some(list) => Ok(whole(json_response(200, list, None))),
                    None => self.forward().await,
                };
            }
            Some(Fault::Cut(Moment::Before)) => return Ok(Answer::Cut),
            Some(Fault::Answer(code, Moment::Before)) => return Ok(whole(failure(code))),
            Some(Fault::Hold(Moment::After) | Fault::Cut(_) | Fault::Answer(..) | Fault::Truncate) => {}
        }
        // What is left goes wrong after it has taken place.
        let answer = self.whole().await?;
        match fault {
            Some(Fault::Cut(_)) => Ok(Answer::Cut),
            Some(Fault::Answer(code, _)) => Ok(whole(failure(code))),
            Some(Fault::Truncate) => {
                let (parts, body) = answer.into_parts();
                let half = body.slice(..body.len() / 2);
                Ok(whole(Response::from_parts(parts, half)))
            }
            _ => {
                let how = self.shared.hold().await;
                self.shared.let_go();
                Ok(if how == Release::Forward { whole(answer) } else { Answer::Cut })
            }
        }
    }

    /// The path and what selects objects, but not the page size and such.
    fn address(&self) -> String {
        self.parts.uri.path().to_owned()
    }

    async fn send(&self) -> Result<Response<Incoming>, Trouble> {
        let response = self.shared.upstream.send(&self.by, &self.parts, self.body.clone()).await;
        if let Ok(response) = &response {
            self.shared.answered(self.number, response.status().as_u16());
        }
        response
    }

    /// The whole answer of the apiserver.
    async fn whole(&self) -> Result<Response<Bytes>, Trouble> {
        let (parts, body) = self.send().await?.into_parts();
        let mut response = Response::new(body.collect().await?.to_bytes());
        *response.status_mut() = parts.status;
        *response.headers_mut() = end_to_end(&parts.headers);
        Ok(response)
    }

    async fn forward(self) -> Result<Answer, Trouble> {
        let remembers = self.asked.verb == Verb::List && self.shared.state().remembers;
        if remembers || self.asked.is_write() {
            let Ok(response) = self.whole().await else { return Ok(Answer::Nothing) };
            if remembers && response.status().is_success() {
                let address = self.address();
                self.shared.state().lists.entry(address).or_insert_with(|| response.body().clone());
            }
            return Ok(whole(response));
        }
        let Ok(response) = self.send().await else { return Ok(Answer::Nothing) };
        let (parts, body) = response.into_parts();
        let body = if self.asked.verb == Verb::Watch && parts.status.is_success() {
            watch::events(self.shared, self.asked, body)
        } else {
            body.map_err(Trouble::from).boxed_unsync()
        };
        let mut response = Response::new(body);
        *response.status_mut() = parts.status;
        *response.headers_mut() = end_to_end(&parts.headers);
        Ok(Answer::Response(response))
    }
}

fn whole(response: Response<Bytes>) -> Answer {
    Answer::Response(response.map(|body| Full::new(body).map_err(|never| match never {}).boxed_unsync()))
}

fn json_response(code: u16, body: Bytes, retry_after: Option<u32>) -> Response<Bytes> {
    let mut response = Response::new(body);
    *response.status_mut() = code.try_into().unwrap_or_default();
    response.headers_mut().insert(CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    if let Some(seconds) = retry_after {
        response.headers_mut().insert(http::header::RETRY_AFTER, seconds.into());
    }
    response
}

/// An answer as the apiserver gives it.
fn failure(code: u16) -> Response<Bytes> {
    let retry_after = (code == 429).then_some(1);
    json_response(code, status(code).to_string().into(), retry_after)
}

/// A Status of that code.
pub fn status(code: u16) -> serde_json::Value {
    let reason = match code {
        409 => "Conflict",
        410 => "Expired",
        429 => "TooManyRequests",
        503 => "ServiceUnavailable",
        504 => "Timeout",
        _ => "InternalError",
    };
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": format!("the proxy says {code}"), "reason": reason, "code": code,
    })
}

/// Nothing more, without an end.
pub fn broken() -> Trouble {
    trouble("the stream was cut")
}
