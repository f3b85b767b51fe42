//! The connections of clients: TLS, then HTTP/2 or HTTP/1.1.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio_rustls::TlsAcceptor;

use super::answer::{Body, Trouble, trouble};
use super::forward::{Answer, exchange};
use super::shared::Shared;
use crate::ControlPlane;

/// Uses the certificate of the API server. So a client that trusts the API server trusts the proxy.
pub fn acceptor(plane: &ControlPlane) -> Result<TlsAcceptor> {
    let (certificate, key) = plane.serving()?;
    let read = |path: &Path| fs::read(path).with_context(|| format!("read {}", path.display()));
    let chain = CertificateDer::pem_slice_iter(&read(certificate)?).collect::<Result<Vec<_>, _>>().context("certificate")?;
    let key = PrivateKeyDer::from_pem_slice(&read(key)?).context("key")?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let versions = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().context("TLS")?;
    let mut config = versions.with_no_client_auth().with_single_cert(chain, key).context("TLS")?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

pub async fn run(listener: std::net::TcpListener, acceptor: TlsAcceptor, shared: Arc<Shared>) {
    let Ok(listener) = TcpListener::from_std(listener) else { return };
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let (acceptor, shared) = (acceptor.clone(), Arc::clone(&shared));
        tokio::spawn(async move {
            // A client that is killed leaves broken connections. That is not an error of the proxy.
            let _ = connection(stream, acceptor, shared).await;
        });
    }
}

async fn connection(stream: TcpStream, acceptor: TlsAcceptor, shared: Arc<Shared>) -> Result<(), Trouble> {
    let mut cuts = shared.connections.subscribe();
    let by = Arc::clone(&shared.state().client);
    let cut = Arc::new(Notify::new());
    stream.set_nodelay(true)?;
    let stream = acceptor.accept(stream).await?;
    let service = {
        let cut = Arc::clone(&cut);
        service_fn(move |request| answer(Arc::clone(&shared), Arc::clone(&by), Arc::clone(&cut), request))
    };
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new());
    builder.http2().timer(TokioTimer::new()).adaptive_window(true).max_concurrent_streams(1000);
    let served = builder.serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        ended = served => ended,
        () = cut.notified() => Ok(()),
        _ = cuts.changed() => Ok(()),
    }
}

async fn answer(
    shared: Arc<Shared>,
    by: Arc<str>,
    cut: Arc<Notify>,
    request: Request<Incoming>,
) -> Result<Response<Body>, Trouble> {
    match exchange(shared, by, request).await? {
        Answer::Response(response) => Ok(response),
        Answer::Nothing => Err(trouble("no answer")),
        Answer::Cut => {
            cut.notify_one();
            // Waits forever. The task ends together with the connection.
            std::future::pending().await
        }
    }
}
