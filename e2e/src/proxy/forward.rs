//! Handles one request: applies a rule, forwards the request to the API server, and returns the response.

use std::sync::Arc;

use anyhow::Result;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response};
use tokio::time::sleep;

use super::answer::{Body, Trouble, status};
use super::asked::{Asked, Verb};
use super::rules::{Fault, Moment};
use super::shared::{Release, Shared};
use super::upstream::end_to_end;
use super::watch;

/// What the client receives.
pub enum Answer {
    Response(Response<Body>),
    /// No response. Only this stream ends; with HTTP/2 the connection stays.
    Nothing,
    /// The connection is closed.
    Cut,
}

/// Handles a request until the client has its answer. A write runs in its own task, so it continues even if the client is gone.
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
                let shared = self.shared.clone();
                let _held = shared.held();
                let how = shared.until_released().await;
                return if how == Release::Forward { self.forward().await } else { Ok(Answer::Cut) };
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
        // The remaining faults happen after the API server has handled the request.
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
                let _held = self.shared.held();
                let how = self.shared.until_released().await;
                Ok(if how == Release::Forward { whole(answer) } else { Answer::Cut })
            }
        }
    }

    /// The key of a remembered list: the path, without the query.
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

    /// The whole response of the API server.
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

/// An error response as the API server sends it.
fn failure(code: u16) -> Response<Bytes> {
    let retry_after = (code == 429).then_some(1);
    json_response(code, status(code).to_string().into(), retry_after)
}
