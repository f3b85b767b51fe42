//! What the proxy knows, and what it decides about each request.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hyper::body::Bytes;
use jiff::Timestamp;
use serde_json::Value;
use tokio::sync::watch as signal;

use super::asked::Asked;
use super::rules::{EventFault, Fault, Moment, Rule};
use super::upstream::Upstream;

/// One request, in the order in which they came.
#[derive(Debug, Clone)]
pub struct Exchange {
    pub asked: Asked,
    /// The client, as [`Proxy::call`] named it when it connected.
    pub by: Arc<str>,
    pub fault: Option<Fault>,
    /// When it came.
    pub at: Timestamp,
    /// What the API server answered; None while it has not, or was not asked.
    pub code: Option<u16>,
}

/// What becomes of a request that was held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Release {
    /// It goes on, whether anybody still waits for it or not.
    Forward,
    /// It is lost.
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
    /// As an API server of old: a streaming list is a request that it does not understand.
    pub knows_no_streams: bool,
    pub remembers: bool,
    pub lists: BTreeMap<String, Bytes>,
}

pub struct Shared {
    pub state: Mutex<State>,
    pub upstream: Upstream,
    /// How often all connections were cut, and all watches.
    pub connections: signal::Sender<usize>,
    pub watches: signal::Sender<usize>,
    pub released: signal::Sender<(usize, Release)>,
}

impl Shared {
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a request, and what is to become of it.
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

    /// The first answer to that list, if lists are remembered.
    pub fn remembered(&self, address: &str) -> Option<Bytes> {
        self.state().lists.get(address).cloned()
    }

    pub async fn hold(&self) -> Release {
        let mut released = self.released.subscribe();
        self.state().held += 1;
        match released.changed().await {
            Ok(()) => released.borrow().1,
            Err(_) => Release::Discard,
        }
    }

    pub fn let_go(&self) {
        self.state().held -= 1;
    }
}
