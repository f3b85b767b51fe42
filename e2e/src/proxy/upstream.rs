//! The connection to the API server.

use std::sync::Arc;

use anyhow::{Context, Result};
use http::header::{ACCEPT_ENCODING, CONNECTION, CONTENT_LENGTH, HOST, HeaderMap, TRANSFER_ENCODING, USER_AGENT};
use http::request::Parts;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use super::answer::Trouble;
use crate::ControlPlane;

/// The connection to the API server.
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

    pub async fn send(&self, by: &str, parts: &Parts, body: Bytes) -> Result<Response<Incoming>, Trouble> {
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
        let uri: Uri = format!("https://{}{path}", self.authority).parse()?;
        let mut request = Request::builder().method(&parts.method).uri(uri).body(Full::new(body))?;
        *request.headers_mut() = end_to_end(&parts.headers);
        // The proxy reads the bodies, so they must not be compressed.
        request.headers_mut().remove(ACCEPT_ENCODING);
        if !by.is_empty() {
            request.headers_mut().insert(USER_AGENT, by.parse()?);
        }
        Ok(self.client.request(request).await?)
    }
}

/// The headers that do not belong to a single connection.
pub fn end_to_end(headers: &HeaderMap) -> HeaderMap {
    let mut kept = headers.clone();
    for name in [CONNECTION, HOST, TRANSFER_ENCODING, CONTENT_LENGTH] {
        kept.remove(name);
    }
    for name in ["keep-alive", "te", "upgrade", "proxy-connection"] {
        kept.remove(name);
    }
    kept
}
