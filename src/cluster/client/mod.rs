//! The connections to the API server: HTTP/2 where possible, otherwise kube's own stack, and a limited number of retries.
//! This code decides nothing about the cluster. Watches have their own client, so that their open streams cannot delay a write.

mod http2;
mod pool;
mod pressure;
mod report;
mod retry;
mod trust;

use std::time::Duration;

use http::{Request, Response, uri::Scheme};
use hyper::body::{Body as HttpBody, Bytes};
use kube::{
    Client, Config,
    client::{Body, ClientBuilder},
};
use tower::{BoxError, Service, ServiceBuilder, retry::RetryLayer, service_fn, timeout::TimeoutLayer};
use tracing::info;

pub use self::pressure::Pressure;
use self::{
    report::{ClientUse, Reported, Reporter},
    retry::RetryPolicy,
};

/// How long the response headers of a request may take. This is longer than the API server may work on a write.
const REQUEST_HEADERS: Duration = Duration::from_secs(7);
/// The same for lists and watches. Without it, a request would wait forever for a connection that hangs in its TLS handshake.
const WATCH_HEADERS: Duration = Duration::from_secs(30);

/// The clients of one API server.
#[derive(Clone)]
pub struct Clients {
    /// For reads and writes: requests whose answers end.
    pub requests: Client,
    /// For lists and watches only.
    pub watches: Client,
    /// The HTTP stack that both use.
    pub stack: Stack,
    /// The pauses that the API server asked for in answers to requests.
    pub pressure: Pressure,
}

impl std::fmt::Debug for Clients {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Clients").field("stack", &self.stack).finish_non_exhaustive()
    }
}

/// The HTTP stack of the clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stack {
    /// Few connections with many streams each. HTTP/1.1 if the server does not support HTTP/2.
    Http2,
    /// kube's own stack: one connection for each request in flight.
    Http1 {
        /// Why HTTP/2 is not used.
        because: &'static str,
    },
}

impl Stack {
    /// Chooses the stack for a configuration.
    fn of(config: &Config) -> Self {
        if config.proxy_url.is_some() {
            Self::Http1 { because: "a proxy is configured" }
        } else if config.cluster_url.scheme() != Some(&Scheme::HTTPS) {
            Self::Http1 { because: "the address of the API server is not https" }
        } else {
            Self::Http2
        }
    }
}

/// Why the clients could not be created.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// kube refuses the configuration.
    #[error("the kubeconfig cannot be used")]
    Config(#[from] kube::Error),
    /// The certificate authority cannot be read or used.
    #[error("the certificate authority of the API server cannot be used")]
    Authority(#[from] rustls::Error),
    /// The configured server name is not a valid name.
    #[error("tls-server-name {0:?} is not a valid server name")]
    ServerName(String),
}

/// Creates the clients. The first requests open the connections.
pub fn connect(mut config: Config) -> Result<Clients, ConnectError> {
    let stack = Stack::of(&config);
    match stack {
        Stack::Http2 => info!(stack = "http2", "talking to the API server"),
        Stack::Http1 { because } => info!(stack = "http1", because, "talking to the API server"),
    }
    let reporter = Reporter::new(&config.cluster_url.to_string(), std::env::var_os("KUBERNETES_SERVICE_HOST").is_some());
    let clients = ClientBase { namespace: config.default_namespace.clone(), reporter };
    let pressure = Pressure::default();
    let (requests, watches) = match stack {
        Stack::Http2 => {
            let (for_requests, for_watches) = http2::stacks(&config)?;
            (clients.requests(for_requests, &pressure), clients.watches(for_watches))
        }
        Stack::Http1 { .. } => {
            // In this stack each request in flight has its own connection, so one client is enough for both uses.
            config.default_retry = false;
            let shared = ClientBuilder::try_from(config)?.build();
            let send = service_fn(move |request| {
                let shared = shared.clone();
                async move { shared.send(request).await.map_err(BoxError::from) }
            });
            (clients.requests(send.clone(), &pressure), clients.watches(send))
        }
    };
    Ok(Clients { requests, watches, stack, pressure })
}

/// The common parts of both clients.
struct ClientBase {
    namespace: String,
    reporter: Reporter,
}

impl ClientBase {
    fn requests<S, B>(&self, service: S, pressure: &Pressure) -> Client
    where
        S: Service<Request<Body>, Response = Response<B>, Error = BoxError> + Clone + Send + 'static,
        S::Future: Send + 'static,
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let patience = RetryPolicy::new(pressure.clone());
        let layers = ServiceBuilder::new().layer(RetryLayer::new(patience)).layer(TimeoutLayer::new(REQUEST_HEADERS));
        Client::new(Reported::new(layers.service(service), ClientUse::Requests, self.reporter.clone()), self.namespace.clone())
    }

    /// No retry layer: kube's watcher retries by itself, with its own delays.
    fn watches<S, B>(&self, service: S) -> Client
    where
        S: Service<Request<Body>, Response = Response<B>, Error = BoxError> + Send + 'static,
        S::Future: Send + 'static,
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let layers = ServiceBuilder::new().map_request(of_most_recent).layer(TimeoutLayer::new(WATCH_HEADERS));
        Client::new(Reported::new(layers.service(service), ClientUse::Watches, self.reporter.clone()), self.namespace.clone())
    }
}

/// Makes a streaming list return the most recent state. kube asks for any version, and a lagging API server may return an old one.
fn of_most_recent<B>(mut request: Request<B>) -> Request<B> {
    let uri = request.uri();
    let Some(query) = uri.query().filter(|query| query.contains("sendInitialEvents=true")) else { return request };
    let kept: Vec<&str> = query.split('&').filter(|pair| *pair != "resourceVersion=0").collect();
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = format!("{}?{}", uri.path(), kept.join("&")).parse().ok();
    if let Ok(uri) = http::Uri::from_parts(parts) {
        *request.uri_mut() = uri;
    }
    request
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use super::*;

    fn base() -> ClientBase {
        ClientBase { namespace: "default".into(), reporter: Reporter::new("https://10.0.0.1:6443", false) }
    }

    fn config(url: &str) -> Config {
        Config::new(url.parse().unwrap())
    }

    #[test]
    fn a_streaming_list_asks_for_the_most_recent_state_and_a_watch_goes_on_from_its_own() {
        let uri = |uri: &str| of_most_recent(Request::get(uri).body(()).unwrap()).uri().to_string();
        assert_eq!(
            uri("/api/v1/namespaces?&watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&resourceVersion=0"),
            "/api/v1/namespaces?&watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan"
        );
        for same in ["/api/v1/namespaces?watch=true&resourceVersion=0", "/api/v1/namespaces", "/a?watch=true&resourceVersion=70"]
        {
            assert_eq!(uri(same), same);
        }
    }

    #[test]
    fn http2_is_for_https_without_a_proxy() {
        assert_eq!(Stack::of(&config("https://10.0.0.1:6443")), Stack::Http2);
        assert!(matches!(Stack::of(&config("http://127.0.0.1:8001")), Stack::Http1 { because } if because.contains("https")));
        let mut proxied = config("https://10.0.0.1:6443");
        proxied.proxy_url = Some("http://proxy:3128".parse().unwrap());
        assert!(matches!(Stack::of(&proxied), Stack::Http1 { because } if because.contains("proxy")));
    }

    #[tokio::test]
    async fn an_authority_that_is_none_is_told() {
        let file = std::env::temp_dir().join("policy-baseline-no-such-ca.crt");
        let mut config = config("https://10.0.0.1:6443");
        config.root_cert = Some(Vec::new());
        config.root_cert_file = Some(file);
        assert!(connect(config).is_err());
    }

    /// A server that accepts each connection and closes it immediately. Counts the connections.
    fn hangs_up() -> (String, Arc<AtomicUsize>) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let connections = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&connections);
        std::thread::spawn(move || {
            while let Ok(stream) = listener.accept() {
                count.fetch_add(1, Ordering::Relaxed);
                drop(stream);
            }
        });
        (address, connections)
    }

    #[tokio::test]
    async fn on_both_stacks_requests_are_tried_again_and_watches_leave_that_to_the_watcher() {
        for (scheme, stack) in [("https", "Http2"), ("http", "Http1")] {
            for (is_watch, tries) in [(false, 5), (true, 1)] {
                let (address, connections) = hangs_up();
                let clients = connect(config(&format!("{scheme}://{address}"))).unwrap();
                assert!(format!("{clients:?}").contains(stack));
                let client = if is_watch { clients.watches } else { clients.requests };
                client.request_text(Request::get("/version").body(Vec::new()).unwrap()).await.unwrap_err();
                assert_eq!(connections.load(Ordering::Relaxed), tries, "{scheme}, watch: {is_watch}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_is_given_up_in_its_pause_is_not_sent_again() {
        let (service, mut server) = tower_test::mock::pair::<Request<Body>, Response<Body>>();
        let client = base().requests(service, &Pressure::default());
        let call = tokio::spawn(async move {
            let request = Request::get("/version").body(Vec::new()).unwrap();
            tokio::time::timeout(Duration::from_secs(1), client.request_text(request)).await
        });
        let busy = Response::builder().status(429).header("retry-after", "3").body(Body::empty()).unwrap();
        server.next_request().await.unwrap().1.send_response(busy);
        assert!(call.await.unwrap().is_err(), "given up");
        assert!(server.next_request().await.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_does_not_begin_in_time_is_given_up_and_not_asked_for_again() {
        let (service, mut server) = tower_test::mock::pair::<Request<Body>, Response<Body>>();
        let client = base().requests(service, &Pressure::default());
        let start = tokio::time::Instant::now();
        let call = tokio::spawn(async move {
            let request = Request::get("/version").body(Vec::new()).unwrap();
            tokio::time::timeout(WATCH_HEADERS, client.request_text(request)).await
        });
        let _silent = server.next_request().await.unwrap();
        assert!(call.await.unwrap().is_ok_and(|answer| answer.is_err()));
        assert_eq!(start.elapsed().as_secs(), REQUEST_HEADERS.as_secs());
        assert!(server.next_request().await.is_none());
    }

    #[tokio::test]
    async fn a_server_name_that_is_none_is_told() {
        let mut config = config("https://10.0.0.1:6443");
        config.tls_server_name = Some("not a name".into());
        assert_eq!(connect(config).unwrap_err().to_string(), "tls-server-name \"not a name\" is not a valid server name");
    }
}
