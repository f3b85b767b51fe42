//! Functions that take any bytes that a watch may deliver, or that people have in their files, and panic if a property does not hold. libFuzzer calls them with generated
//! input (`make fuzz`), and a test calls them with the committed corpus (`make unit`).

#![allow(clippy::expect_used, reason = "what does not hold is told by a panic")]

mod allow;
mod baseline;
mod dns;
mod manifests;
mod mutate;
mod opt_out;
mod policy;

use kube::core::WatchEvent;
use serde::de::DeserializeOwned;

pub use allow::allow;
pub use baseline::baseline;
pub use dns::dns;
pub use manifests::manifests;
pub use mutate::{mutate, mutate_within};
pub use opt_out::opt_out;
pub use policy::policy;

/// The namespace of the operator.
const OPERATOR: &str = "policy-baseline-system";

/// The object, if it can be decoded inside a watch event.
fn watched<K: DeserializeOwned>(object: &[u8]) -> Option<K> {
    let event = [br#"{"type":"MODIFIED","object":"#, object, b"}"].concat();
    match serde_json::from_slice(&event).ok()? {
        WatchEvent::Added(object) | WatchEvent::Modified(object) | WatchEvent::Deleted(object) => Some(object),
        WatchEvent::Bookmark(_) | WatchEvent::Error(_) => None,
    }
}
