//! The state of the proxy, and its decision about each request.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hyper::body::Bytes;
use jiff::Timestamp;
use serde_json::Value;
use tokio::sync::watch as signal;

use super::asked::Asked;
use super::rules::{EventFault, Fault, Moment, Rule};
use super::upstream::Upstream;

/// One request. The proxy keeps them in the order in which they arrived.
#[derive(Debug, Clone)]
pub struct Exchange {
    pub asked: Asked,
    /// The name of the client, as set by [`Proxy::call`] before it connected.
    pub by: Arc<str>,
    pub fault: Option<Fault>,
    /// When the request arrived.
    pub at: Timestamp,
    /// The status code of the API server. None if it has not answered yet, or did not get the request.
    pub code: Option<u16>,
}

/// What happens to a request that was held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Release {
    /// It is forwarded, even if the client no longer waits for it.
    Forward,
    /// It is dropped.
    Discard,
}

#[derive(Default)]
pub struct State {
    pub client: Arc<str>,
    pub rules: Vec<Rule<Fault>>,
    pub event_rules: Vec<Rule<EventFault>>,
    pub exchanges: Vec<Exchange>,
    pub struck: usize,
    pub held: usize,
    /// Act like an older API server that does not understand a request for a streaming list.
    pub knows_no_streams: bool,
    pub remembers: bool,
    pub lists: BTreeMap<String, Bytes>,
}

pub struct Shared {
    pub state: Mutex<State>,
    pub upstream: Upstream,
    /// How many times all connections were cut, and all watches.
    pub connections: signal::Sender<usize>,
    pub watches: signal::Sender<usize>,
    pub released: signal::Sender<(usize, Release)>,
}

impl Shared {
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records a request, and decides which fault it gets.
    pub fn decide(&self, asked: &Asked, by: &Arc<str>) -> (usize, Option<Fault>) {
        let mut state = self.state();
        let fault = if state.knows_no_streams && asked.streams_a_list {
            Some(Fault::Answer(422, Moment::Before))
        } else {
            let fault = state.rules.iter_mut().find_map(|rule| rule.strike(asked, &Value::Null));
            state.struck += usize::from(fault.is_some());
            fault
        };
        state.exchanges.push(Exchange { asked: asked.clone(), by: Arc::clone(by), fault, at: Timestamp::now(), code: None });
        (state.exchanges.len() - 1, fault)
    }

    pub fn decide_event(&self, asked: &Asked, line: &[u8]) -> Option<EventFault> {
        let mut state = self.state();
        if state.event_rules.is_empty() {
            return None;
        }
        let event = serde_json::from_slice(line).unwrap_or_default();
        let fault = state.event_rules.iter_mut().find_map(|rule| rule.strike(asked, &event));
        state.struck += usize::from(fault.is_some());
        fault
    }

    pub fn answered(&self, number: usize, code: u16) {
        self.state().exchanges[number].code = Some(code);
    }

    /// The first response to that list, if it is remembered.
    pub fn remembered(&self, address: &str) -> Option<Bytes> {
        self.state().lists.get(address).cloned()
    }

    /// Counts a held request until the result is dropped: by then it has been released, or its client has given up.
    pub fn held(&self) -> Held<'_> {
        self.state().held += 1;
        Held(self)
    }

    pub async fn until_released(&self) -> Release {
        let mut released = self.released.subscribe();
        match released.changed().await {
            Ok(()) => released.borrow().1,
            Err(_) => Release::Discard,
        }
    }
}

/// A held request.
pub struct Held<'a>(&'a Shared);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.state().held -= 1;
    }
}
