//! What the watches said: events, and the sets that they add up to.

pub mod backends;
pub mod baseline;
pub mod dns;
pub mod event;
pub mod installs;
pub mod namespaces;
pub mod opt_out;
pub mod readiness;
