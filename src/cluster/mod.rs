//! Everything that talks to an API server: the client, the watches, the writer, events and the Lease.

pub mod client;
pub mod error;
pub mod events;
pub mod fence;
pub mod lease;
pub mod telemetry;
pub mod watch;
pub mod writer;
