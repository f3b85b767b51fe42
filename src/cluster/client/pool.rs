//! Spreads streams over connections. A request above the server's limit of streams would wait until another stream ends.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use futures::future::BoxFuture;
use http::{Request, Response};
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tower::{Service, ServiceExt};

/// The most streams on one connection. The API server allows 100.
pub const STREAMS: usize = 64;

/// A pool of services, each with its own connection. It opens another one when all are full.
pub struct ConnectionPool<S> {
    open: Arc<dyn Fn() -> S + Send + Sync>,
    lanes: Arc<Mutex<Vec<PooledConnection<S>>>>,
}

struct PooledConnection<S> {
    service: S,
    /// Each open stream holds a clone, so the reference count tells how many streams there are.
    streams: Arc<()>,
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
    fn place(&self) -> (S, Arc<()>) {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        // A request that has just ended may still be counted for a moment. That is harmless.
        if let Some(lane) = lanes.iter().find(|lane| Arc::strong_count(&lane.streams) <= STREAMS) {
            return (lane.service.clone(), Arc::clone(&lane.streams));
        }
        let lane = PooledConnection { service: (self.open)(), streams: Arc::new(()) };
        let place = (lane.service.clone(), Arc::clone(&lane.streams));
        lanes.push(lane);
        place
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
        let (service, place) = self.place();
        Box::pin(async move {
            let response = service.oneshot(request).await?;
            Ok(response.map(|body| Placed { body, _place: place }))
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

    use http_body_util::Empty;
    use hyper::body::Bytes;
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
