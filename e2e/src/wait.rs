//! Waits for a condition, with a timeout. Tests never sleep: they name what they wait for.

use std::fmt::Display;
use std::time::Duration;

use anyhow::{Result, anyhow};
use tokio::time::{Instant, sleep, timeout_at};

/// How long a test waits for something that should happen at once.
pub const TIMEOUT: Duration = Duration::from_secs(30);

const POLL: Duration = Duration::from_millis(25);

/// The result of a probe: found, not yet, or not yet because of an error.
pub trait Probe {
    type Found;
    fn found(self) -> Result<Self::Found, String>;
}

const NOT_YET: &str = "not yet";

impl Probe for bool {
    type Found = ();
    fn found(self) -> Result<(), String> {
        if self { Ok(()) } else { Err(NOT_YET.to_owned()) }
    }
}

impl<T> Probe for Option<T> {
    type Found = T;
    fn found(self) -> Result<T, String> {
        self.ok_or_else(|| NOT_YET.to_owned())
    }
}

impl<P: Probe, E: Display> Probe for Result<P, E> {
    type Found = P::Found;
    fn found(self) -> Result<P::Found, String> {
        self.map_err(|err| format!("{err:#}")).and_then(Probe::found)
    }
}

/// Polls until the probe finds something. An error counts as "not yet". After the timeout, the returned error contains the last one.
pub async fn eventually<P: Probe>(what: &str, timeout: Duration, mut probe: impl AsyncFnMut() -> P) -> Result<P::Found> {
    let started = Instant::now();
    let until = started + timeout;
    let mut last = NOT_YET.to_owned();
    loop {
        match timeout_at(until, probe()).await.map(Probe::found) {
            Ok(Ok(found)) => return Ok(found),
            Ok(Err(why)) => last = why,
            Err(_) => last = format!("the last look did not return (before it: {last})"),
        }
        if Instant::now() >= until {
            return Err(anyhow!("{what}: not within {timeout:?}; last seen: {last}"));
        }
        sleep(POLL.min(until.saturating_duration_since(Instant::now()))).await;
    }
}
