//! The HTTP/2 stack. Pings detect a server that no longer answers. The flow-control windows keep unread streams from blocking others.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use http::{Request, Response, Version};
use hyper::body::Incoming;
use hyper_rustls::{FixedServerNameResolver, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use kube::{
    Config,
    client::{Body, ConfigExt, middleware::AuthLayer},
};
use tower::{BoxError, Service, ServiceBuilder, ServiceExt};
use tracing::info;

use super::{
    ConnectError,
    pool::{ConnectionPool, Placed, STREAMS},
    trust,
};

const CONNECT: Duration = Duration::from_secs(5);
/// A ping is sent after this much silence, even without a request in progress.
const PING: Duration = Duration::from_secs(10);
/// A connection is dead if its ping is not answered in this time.
const PONG: Duration = Duration::from_secs(5);
/// How many unread bytes one stream may have.
const STREAM_WINDOW: u32 = 1 << 20;
/// The same for all streams of a connection. It is large enough that unread streams together cannot fill it.
const CONNECTION_WINDOW: u32 = 128 << 20;
const _: () = assert!(STREAMS < (CONNECTION_WINDOW / STREAM_WINDOW) as usize);

/// Two stacks that share credentials but no connections.
pub fn stacks(config: &Config) -> Result<(impl Http2Stack, impl Http2Stack), ConnectError> {
    // Create this once for both stacks: an exec plugin runs here, and may ask the user something.
    let auth = config.auth_layer()?;
    let connector = connector(config)?;
    let said = Arc::new(AtomicBool::new(false));
    Ok((stack(config, auth.as_ref(), connector.clone(), Arc::clone(&said))?, stack(config, auth.as_ref(), connector, said)?))
}

/// The service type of a stack, as the layers around it see it.
pub trait Http2Stack:
    Service<Request<Body>, Response = Response<Placed<Incoming>>, Error = BoxError, Future: Send> + Clone + Send + 'static
{
}

impl<S> Http2Stack for S where
    S: Service<Request<Body>, Response = Response<Placed<Incoming>>, Error = BoxError, Future: Send> + Clone + Send + 'static
{
}

fn stack(
    config: &Config,
    auth: Option<&AuthLayer>,
    connector: HttpsConnector<HttpConnector>,
    said: Arc<AtomicBool>,
) -> Result<impl Http2Stack + use<>, ConnectError> {
    let lanes = ConnectionPool::new(move || connection(connector.clone()));
    let lanes = lanes.map_response(move |response| {
        if response.version() != Version::HTTP_2 && !said.swap(true, Ordering::Relaxed) {
            info!(stack = "http1", because = "the server does not speak HTTP/2", "talking to the API server");
        }
        response
    });
    let layers = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(auth)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from);
    Ok(layers.service(lanes))
}

fn connector(config: &Config) -> Result<HttpsConnector<HttpConnector>, ConnectError> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(CONNECT));
    let mut tls = config.rustls_client_config()?;
    if let Some(file) = &config.root_cert_file
        && !config.accept_invalid_certs
    {
        trust::follow(&mut tls, file.clone())?;
    }
    let mut builder = HttpsConnectorBuilder::new().with_tls_config(tls).https_only();
    if let Some(name) = &config.tls_server_name {
        let name = name.clone().try_into().map_err(|_| ConnectError::ServerName(name.clone()))?;
        builder = builder.with_server_name_resolver(FixedServerNameResolver::new(name));
    }
    // A server or proxy that does not support HTTP/2 selects HTTP/1.1.
    Ok(builder.enable_all_versions().wrap_connector(tcp))
}

/// A client that keeps one connection open without a time limit, if the server speaks HTTP/2.
fn connection(connector: HttpsConnector<HttpConnector>) -> Client<HttpsConnector<HttpConnector>, Body> {
    Client::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(None)
        .http2_keep_alive_interval(PING)
        .http2_keep_alive_timeout(PONG)
        .http2_keep_alive_while_idle(true)
        .http2_initial_stream_window_size(STREAM_WINDOW)
        .http2_initial_connection_window_size(CONNECTION_WINDOW)
        .build(connector)
}
