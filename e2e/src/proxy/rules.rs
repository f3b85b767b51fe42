//! What goes wrong, and when: for each request the first rule that strikes decides.

use std::fmt::{self, Debug, Formatter};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::asked::Asked;
use crate::dice::Dice;

/// Before a request has reached the API server, or after it has taken place there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    Before,
    After,
}

/// What happens to one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It is forwarded later.
    Delay(Duration),
    /// The connection is cut, with all that travels on it.
    Cut(Moment),
    /// The proxy answers with that code.
    Answer(u16, Moment),
    /// The answer ends in the middle, as if it were whole.
    Truncate,
    /// It waits until it is released.
    Hold(Moment),
    /// The first answer to that list since the proxy began to remember.
    Stale,
}

/// What happens to one event of a watch.
#[derive(Clone)]
pub enum EventFault {
    /// It comes later, and so do those behind it.
    Delay(Duration),
    /// It never comes.
    Lose,
    /// The stream ends in the middle of it.
    Cut,
    /// Instead of it the stream says that it has expired, and ends.
    Expire,
    /// It comes as another.
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

/// Which of the requests that a rule is about it strikes.
#[derive(Debug, Clone)]
pub enum When {
    Always,
    /// The n-th, from 1 on.
    Nth(usize),
    /// The first so many.
    First(usize),
    /// So many of a hundred, by a seed.
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

/// Which requests, or which events, a rule is about.
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
