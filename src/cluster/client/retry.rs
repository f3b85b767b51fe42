//! Decides which requests are retried, when, and for how long. A request is not retried if a second execution could do harm.

use std::{
    error::Error as StdError,
    hash::{BuildHasher, RandomState},
    time::Duration,
};

use http::{HeaderMap, Method, Request, Response, StatusCode, header::RETRY_AFTER};
use hyper_util::client::legacy;
use kube::client::Body;
use tokio::time::{Instant, Sleep, sleep_until};
use tower::{BoxError, retry::Policy};
use tracing::debug;

use super::Pressure;

/// How often a request is retried.
const RETRIES: u32 = 4;
/// The pause before the first retry. It doubles for each further retry.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The latest retry, counted from the first attempt. Together with the time that the API server may take for a write,
/// the answer still comes before the writer gives up.
const PATIENCE: Duration = Duration::from_secs(4);

/// The retry state of one request.
#[derive(Clone)]
pub struct RetryPolicy {
    retries: u32,
    until: Option<Instant>,
    pressure: Pressure,
}

impl RetryPolicy {
    /// The state before the first attempt. `pressure` receives the pauses that the API server asks for.
    pub const fn new(pressure: Pressure) -> Self {
        Self { retries: 0, until: None, pressure }
    }
}

impl<B> Policy<Request<Body>, Response<B>, BoxError> for RetryPolicy {
    type Future = Sleep;

    fn retry(&mut self, request: &mut Request<Body>, result: &mut Result<Response<B>, BoxError>) -> Option<Sleep> {
        let asked = match result {
            Ok(response) => {
                let asked = pause_asked_for(response.status(), response.headers())?;
                self.pressure.told(asked);
                asked
            }
            Err(error) => may_be_sent_again(request.method(), error.as_ref()).then_some(Duration::ZERO)?,
        };
        if self.retries == RETRIES {
            return None;
        }
        let pause = asked.checked_add(jittered(FIRST_PAUSE * (1 << self.retries)))?;
        let at = Instant::now().checked_add(pause).filter(|at| self.until.is_some_and(|until| *at <= until))?;
        self.retries += 1;
        debug!(method = %request.method(), path = request.uri().path(), ?pause, "request is sent again");
        Some(sleep_until(at))
    }

    fn clone_request(&mut self, request: &Request<Body>) -> Option<Request<Body>> {
        // This also runs for the policy that is cloned for each request. That one always has `retries == 0`.
        if self.retries == 0 {
            self.until = Instant::now().checked_add(PATIENCE);
        }
        let mut copy = Request::new(request.body().try_clone()?);
        copy.method_mut().clone_from(request.method());
        copy.uri_mut().clone_from(request.uri());
        copy.headers_mut().clone_from(request.headers());
        copy.extensions_mut().clone_from(request.extensions());
        *copy.version_mut() = request.version();
        Some(copy)
    }
}

/// How long the server asks us to wait. `None` if the request must not be retried.
fn pause_asked_for(status: StatusCode, headers: &HeaderMap) -> Option<Duration> {
    let asked = headers.get(RETRY_AFTER).and_then(|v| v.to_str().ok()?.trim().parse().ok()).map(Duration::from_secs);
    match status {
        StatusCode::TOO_MANY_REQUESTS => Some(asked.unwrap_or_default()),
        StatusCode::SERVICE_UNAVAILABLE => asked,
        _ => None,
    }
}

/// A request without a connection was not sent, so it may be retried. A request that was lost on the way may have taken effect,
/// so it is retried only if a second execution is harmless. Timeouts and missing credentials are not connection errors: no retry.
fn may_be_sent_again(method: &Method, error: &(dyn StdError + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<legacy::Error>() {
            // All our patches are either applies, or carry a precondition.
            return error.is_connect() || method.is_idempotent() || *method == Method::PATCH;
        }
        cause = error.source();
    }
    false
}

/// A random pause from half to all of the given one, so that requests that failed together are not retried together.
fn jittered(pause: Duration) -> Duration {
    let share = u32::try_from(RandomState::new().hash_one(()) % 1000).unwrap_or_default();
    pause / 2 + pause / 2 * share / 1000
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use tower::{Service, ServiceBuilder, ServiceExt, retry::RetryLayer, service_fn};
    use tower_test::mock::{self, Handle};

    use super::*;

    const EVERY: [(u16, Option<&str>); 5] = [(429, Some("0")), (429, None), (503, Some("0")), (429, Some("x")), (429, Some("0"))];

    type Server = Handle<Request<Body>, Response<Body>>;

    fn patched() -> Request<Body> {
        Request::patch("/x?force=true").header("accept", "a").body(Body::from(b"body".to_vec())).unwrap()
    }

    /// Sends a request to a scripted server. Returns the last status, and the time of each attempt.
    async fn sent(request: Request<Body>, answers: &[(u16, Option<&str>)]) -> (u16, Vec<Duration>) {
        let (service, mut server): (_, Server) = mock::pair();
        let start = Instant::now();
        let client = ServiceBuilder::new().layer(RetryLayer::new(RetryPolicy::new(Pressure::default()))).service(service);
        let mut call = tokio::spawn(client.oneshot(request));
        let mut times = Vec::new();
        for (code, after) in answers {
            let Some((request, respond)) = server.next_request().await else { break };
            times.push(start.elapsed());
            let (parts, body) = request.into_parts();
            assert_eq!((parts.uri.to_string().as_str(), &parts.headers["accept"]), ("/x?force=true", &"a".parse().unwrap()));
            assert_eq!(body.collect().await.unwrap().to_bytes(), b"body".as_slice());
            let mut response = Response::builder().status(*code);
            if let Some(after) = after {
                response = response.header("retry-after", *after);
            }
            respond.send_response(response.body(Body::empty()).unwrap());
        }
        tokio::select! {
            biased;
            answer = &mut call => (answer.unwrap().unwrap().status().as_u16(), times),
            Some(_) = server.next_request() => panic!("one request more"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_throttled_request_is_sent_again_as_it_was_until_it_is_taken() {
        let (status, times) = sent(patched(), &[(429, Some("1")), (503, Some("1")), (201, None)]).await;
        assert_eq!((status, times.len()), (201, 3));
    }

    #[tokio::test(start_paused = true)]
    async fn retry_after_is_followed_and_never_undercut() {
        let (_, times) = sent(patched(), &[(429, Some("2")), (200, None)]).await;
        assert!(times[1] > Duration::from_secs(2) && times[1] < Duration::from_millis(2150), "{times:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn retries_end_by_number_and_the_last_answer_is_handed_on() {
        let (status, times) = sent(patched(), &EVERY).await;
        assert_eq!((status, times.len()), (429, 5));
        assert!(times.windows(2).all(|pair| pair[1] > pair[0]), "{times:?}");
        assert!(times[4] < Duration::from_secs(2), "{times:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn retries_end_by_time_and_a_pause_that_would_be_too_long_is_not_begun() {
        let (status, times) = sent(patched(), &[(429, Some("1")); 10]).await;
        assert_eq!(status, 429);
        assert!(times.len() > 2 && *times.last().unwrap() <= PATIENCE, "{times:?}");
        for long in ["5", "18446744073709551615"] {
            assert_eq!(sent(patched(), &[(429, Some(long))]).await.1.len(), 1, "{long}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_server_does_not_ask_for_again_is_sent_once() {
        for code in [200, 401, 403, 404, 409, 422, 500, 503, 504] {
            assert_eq!(sent(patched(), &[(code, None)]).await.0, code);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_differ() {
        let all: std::collections::BTreeSet<_> = (0..100).map(|_| jittered(FIRST_PAUSE)).collect();
        assert!(all.len() > 20 && *all.first().unwrap() >= FIRST_PAUSE / 2 && *all.last().unwrap() <= FIRST_PAUSE, "{all:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn the_patience_of_one_request_is_not_that_of_the_next() {
        let (service, mut server): (_, Server) = mock::pair();
        let mut client = ServiceBuilder::new().layer(RetryLayer::new(RetryPolicy::new(Pressure::default()))).service(service);
        tokio::spawn(async move {
            let mut codes = [200, 429, 200].into_iter();
            while let Some((_, respond)) = server.next_request().await {
                let code = codes.next().unwrap();
                respond.send_response(Response::builder().status(code).body(Body::empty()).unwrap());
            }
        });
        assert_eq!(client.ready().await.unwrap().call(patched()).await.unwrap().status(), 200);
        tokio::time::advance(PATIENCE * 2).await;
        assert_eq!(client.ready().await.unwrap().call(patched()).await.unwrap().status(), 200);
    }

    /// Sends to a closed port, or to a server that closes each connection. Returns the number of attempts.
    async fn lost(method: Method, hangs_up: bool) -> usize {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let uri = format!("http://{}/x", listener.local_addr().unwrap());
        if hangs_up {
            std::thread::spawn(move || {
                while let Ok((mut stream, _)) = listener.accept() {
                    let _ = std::io::Read::read(&mut stream, &mut [0; 1024]);
                }
            });
        } else {
            drop(listener);
        }
        let executor = hyper_util::rt::TokioExecutor::new();
        let http: legacy::Client<_, Body> = legacy::Client::builder(executor).build_http();
        let count = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let counted = std::sync::Arc::clone(&count);
        let send = service_fn(move |request: Request<Body>| {
            count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let answer = http.request(request);
            async move { answer.await.map_err(BoxError::from) }
        });
        let client = ServiceBuilder::new().layer(RetryLayer::new(RetryPolicy::new(Pressure::default()))).service(send);
        let request = Request::builder().method(method).uri(uri).body(Body::empty()).unwrap();
        assert!(client.oneshot(request).await.is_err());
        counted.load(std::sync::atomic::Ordering::Relaxed)
    }

    #[tokio::test]
    async fn a_request_that_found_no_connection_is_sent_again_whatever_it_is() {
        assert_eq!(lost(Method::POST, false).await, 1 + RETRIES as usize);
    }

    #[tokio::test]
    async fn a_request_whose_answer_was_lost_is_sent_again_if_it_can_be_done_twice() {
        assert_eq!(lost(Method::PATCH, true).await, 1 + RETRIES as usize);
        assert_eq!(lost(Method::DELETE, true).await, 1 + RETRIES as usize);
        assert_eq!(lost(Method::POST, true).await, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn an_error_that_is_not_of_the_connection_is_not_tried_again() {
        let (service, mut server): (_, Server) = mock::pair();
        let client = ServiceBuilder::new().layer(RetryLayer::new(RetryPolicy::new(Pressure::default()))).service(service);
        let call = tokio::spawn(client.oneshot(patched()));
        server.next_request().await.unwrap().1.send_error("no credentials");
        assert_eq!(call.await.unwrap().unwrap_err().to_string(), "no credentials");
        assert!(server.next_request().await.is_none());
    }
}
