//! Faults, and when they happen. For each request, the first rule that strikes decides.

use std::fmt::{self, Debug, Formatter};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::asked::Asked;
use crate::dice::Dice;

/// Before the request reaches the API server, or after the API server has handled it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    Before,
    After,
}

/// A fault for one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The request is forwarded after this time.
    Delay(Duration),
    /// The connection is cut, with all requests on it.
    Cut(Moment),
    /// The proxy answers with this code.
    Answer(u16, Moment),
    /// The response body is cut in half, but looks complete to the client.
    Truncate,
    /// The request waits until it is released.
    Hold(Moment),
    /// The client gets the first response to that list since the proxy began to remember.
    Stale,
}

/// A fault for one event of a watch.
#[derive(Clone)]
pub enum EventFault {
    /// The event comes later, and so do the events behind it.
    Delay(Duration),
    /// The event never comes.
    Lose,
    /// The stream breaks in the middle of the event.
    Cut,
    /// Instead of the event, the stream sends an error 410 (expired), and ends.
    Expire,
    /// The event is changed by this function.
    Rewrite(Arc<dyn Fn(&mut Value) + Send + Sync>),
}

impl Debug for EventFault {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Delay(by) => write!(f, "Delay({by:?})"),
            Self::Lose => f.write_str("Lose"),
            Self::Cut => f.write_str("Cut"),
            Self::Expire => f.write_str("Expire"),
            Self::Rewrite(_) => f.write_str("Rewrite"),
        }
    }
}

/// Which of the requests that match a rule get the fault.
#[derive(Debug, Clone)]
pub enum When {
    Always,
    /// Only the n-th, counted from 1.
    Nth(usize),
    /// The first n.
    First(usize),
    /// This percentage, chosen at random from a seed.
    Percent(usize, Dice),
}

impl When {
    fn strikes(&mut self, seen: usize) -> bool {
        match self {
            Self::Always => true,
            Self::Nth(n) => seen == *n,
            Self::First(n) => seen <= *n,
            Self::Percent(share, dice) => dice.below(100) < *share,
        }
    }
}

/// Decides which requests, or which events, a rule matches.
pub type About = Box<dyn Fn(&Asked, &Value) -> bool + Send>;

pub struct Rule<F> {
    about: About,
    when: When,
    fault: F,
    seen: usize,
}

impl<F: Clone> Rule<F> {
    pub fn new(about: About, when: When, fault: F) -> Self {
        Self { about, when, fault, seen: 0 }
    }

    pub fn strike(&mut self, asked: &Asked, event: &Value) -> Option<F> {
        if !(self.about)(asked, event) {
            return None;
        }
        self.seen += 1;
        self.when.strikes(self.seen).then(|| self.fault.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_strikes_when_it_should_and_only_what_it_is_about() {
        let asked = |uri: &str| Asked::of(&http::Method::GET, &uri.parse().unwrap());
        let struck = |when: When| {
            let mut rule = Rule::new(Box::new(|asked, _| asked.is_of("nodes")), when, Fault::Truncate);
            assert_eq!(rule.strike(&asked("/api/v1/pods"), &Value::Null), None);
            (1..=100).filter(|_| rule.strike(&asked("/api/v1/nodes"), &Value::Null).is_some()).collect::<Vec<_>>()
        };
        assert_eq!(struck(When::Nth(3)), [3]);
        assert_eq!(struck(When::First(2)), [1, 2]);
        assert_eq!(struck(When::Always).len(), 100);
        let some = struck(When::Percent(30, Dice::of(7)));
        assert!((10..60).contains(&some.len()), "{some:?}");
        assert_eq!(some, struck(When::Percent(30, Dice::of(7))));
    }
}
