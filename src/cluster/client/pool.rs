//! Spreads streams over connections. A request above the server's limit of streams would wait until another stream ends.

use std::{
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use futures::future::BoxFuture;
use http::{Request, Response};
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::timeout;
use tower::{Service, ServiceExt};

/// The most streams on one connection. The API server allows 100.
pub const STREAMS: usize = 64;

/// How long a request waits for the first answer on its connection.
const FIRST_ANSWER: Duration = Duration::from_secs(1);

/// A pool of services, each with its own connection. It opens another one when all are full.
pub struct ConnectionPool<S> {
    open: Arc<dyn Fn() -> S + Send + Sync>,
    lanes: Arc<Mutex<Vec<PooledConnection<S>>>>,
}

#[derive(Clone)]
struct PooledConnection<S> {
    service: S,
    /// Each open stream holds a clone, so the reference count tells how many streams there are.
    streams: Arc<()>,
    opening: Arc<ConnectionOpening>,
}

/// Lets one request open the connection while the others wait for its answer. Each request that finds no connection would open one. A start
/// sends twenty requests at once, and the client would keep only one of their connections. When a connection breaks later, no request waits: each
/// may open its own.
#[derive(Default)]
struct ConnectionOpening {
    is_open: AtomicBool,
    turn: tokio::sync::Mutex<()>,
}

impl ConnectionOpening {
    /// Sends the request, at once if the connection is open or does not become open in time.
    async fn send<T, E>(&self, request: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        if self.is_open.load(Ordering::Acquire) {
            return request.await;
        }
        let turn = timeout(FIRST_ANSWER, self.turn.lock()).await;
        if self.is_open.load(Ordering::Acquire) {
            drop(turn);
            return request.await;
        }
        let response = request.await;
        self.is_open.fetch_or(response.is_ok(), Ordering::AcqRel);
        response
    }
}

impl<S> Clone for ConnectionPool<S> {
    fn clone(&self) -> Self {
        Self { open: Arc::clone(&self.open), lanes: Arc::clone(&self.lanes) }
    }
}

impl<S: Clone> ConnectionPool<S> {
    pub fn new(open: impl Fn() -> S + Send + Sync + 'static) -> Self {
        Self { open: Arc::new(open), lanes: Arc::default() }
    }

    /// Takes a place on the first connection that has room, or opens a new connection.
    fn place(&self) -> PooledConnection<S> {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        // A request that has just ended may still be counted for a moment. That is harmless.
        if let Some(lane) = lanes.iter().find(|lane| Arc::strong_count(&lane.streams) <= STREAMS) {
            return lane.clone();
        }
        let lane = PooledConnection { service: (self.open)(), streams: Arc::default(), opening: Arc::default() };
        lanes.push(lane.clone());
        lane
    }
}

impl<S, R, B> Service<Request<R>> for ConnectionPool<S>
where
    S: Service<Request<R>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send,
    R: Send + 'static,
{
    type Response = Response<Placed<B>>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Self::Response, S::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<R>) -> Self::Future {
        let PooledConnection { service, streams, opening } = self.place();
        Box::pin(async move {
            let response = opening.send(service.oneshot(request)).await?;
            Ok(response.map(|body| Placed { body, _place: streams }))
        })
    }
}

/// The body of a response. Dropping it frees its place.
pub struct Placed<B> {
    body: B,
    _place: Arc<()>,
}

impl<B: HttpBody + Unpin> HttpBody for Placed<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        sync::atomic::{AtomicUsize, Ordering},
    };

    use futures::FutureExt;
    use http_body_util::Empty;
    use hyper::body::Bytes;
    use tokio::{
        sync::{mpsc, oneshot},
        task::JoinHandle,
        time::Instant,
    };
    use tower::util::BoxCloneSyncService;

    use super::*;

    type Answers = BoxCloneSyncService<Request<()>, Response<Empty<Bytes>>, Infallible>;

    /// A pool whose answers show the number of their connection in the status, and a counter of opened connections.
    fn numbered() -> (ConnectionPool<Answers>, Arc<AtomicUsize>) {
        let opened = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&opened);
        let open = move || {
            let number = u16::try_from(count.fetch_add(1, Ordering::Relaxed)).unwrap();
            let answer = move |_| async move { Ok(Response::builder().status(200 + number).body(Empty::new()).unwrap()) };
            BoxCloneSyncService::new(tower::service_fn(answer))
        };
        (ConnectionPool::new(open), opened)
    }

    #[tokio::test]
    async fn a_full_connection_is_not_given_one_more_stream() {
        let (mut lanes, opened) = numbered();
        let mut open = Vec::new();
        for _ in 0..STREAMS {
            open.push(lanes.call(Request::new(())).await.unwrap());
        }
        assert!(open.iter().all(|response| response.status() == 200));
        assert_eq!(lanes.call(Request::new(())).await.unwrap().status(), 201);
        drop(open.pop());
        assert_eq!(lanes.call(Request::new(())).await.unwrap().status(), 200, "an ended stream makes room");
        assert_eq!(opened.load(Ordering::Relaxed), 2);
    }

    type Sent = mpsc::UnboundedReceiver<oneshot::Sender<()>>;

    /// A pool and the requests that were sent. Each is answered by hand, or fails when its sender is dropped.
    fn by_hand() -> (impl FnMut() -> JoinHandle<bool>, Sent) {
        let (sent, requests) = mpsc::unbounded_channel();
        let open = move || {
            let sent = sent.clone();
            BoxCloneSyncService::new(tower::service_fn(move |_: Request<()>| {
                let (answer, answered) = oneshot::channel();
                sent.send(answer).unwrap();
                async move { answered.await.map(|()| Response::new(Empty::<Bytes>::new())) }
            }))
        };
        let mut pool = ConnectionPool::new(open);
        (move || tokio::spawn(pool.call(Request::new(())).map(|response| response.is_ok())), requests)
    }

    async fn is_silent(requests: &mut Sent) -> bool {
        timeout(FIRST_ANSWER / 2, requests.recv()).await.is_err()
    }

    #[tokio::test(start_paused = true)]
    async fn while_a_connection_opens_requests_wait_for_its_first_answer_and_no_longer() {
        let (mut send, mut requests) = by_hand();
        let (broken, first, second) = (send(), send(), send());
        drop(requests.recv().await.unwrap());
        assert!(!broken.await.unwrap());
        let answer = requests.recv().await.unwrap();
        assert!(is_silent(&mut requests).await, "the connection is not open after an error");
        answer.send(()).unwrap();
        assert!(first.await.unwrap());
        let (_unanswered, third) = (requests.recv().await.unwrap(), send());
        requests.recv().await.unwrap().send(()).unwrap();
        assert!(third.await.unwrap() && !second.is_finished());
    }

    #[tokio::test(start_paused = true)]
    async fn a_first_request_without_an_answer_holds_nobody_up_for_long() {
        let ((mut send, mut requests), start) = (by_hand(), Instant::now());
        let (_first, _second, third) = (send(), send(), send());
        let _unanswered = (requests.recv().await.unwrap(), requests.recv().await.unwrap());
        assert_eq!(start.elapsed(), FIRST_ANSWER);
        requests.recv().await.unwrap().send(()).unwrap();
        assert!(third.await.unwrap());
        assert_eq!(start.elapsed(), FIRST_ANSWER);
    }

    #[tokio::test]
    async fn a_request_takes_its_place_before_it_is_answered_and_leaves_it_when_it_is_given_up() {
        let (mut lanes, opened) = numbered();
        let unanswered: Vec<_> = (0..STREAMS).map(|_| lanes.call(Request::new(()))).collect();
        assert_eq!(lanes.call(Request::new(())).await.unwrap().status(), 201);
        drop(unanswered);
        assert_eq!(lanes.call(Request::new(())).await.unwrap().status(), 200);
        assert_eq!(opened.load(Ordering::Relaxed), 2);
    }
}
