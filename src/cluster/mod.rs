//! Everything that talks to an API server: the client, the watches, the writer, events, the Lease, and what `uninstall` does.

pub mod client;
mod deletion;
pub mod error;
pub mod events;
pub mod fence;
pub mod flow_objects;
pub mod inventory;
pub mod lease;
pub mod lists;
pub mod plugins;
pub mod removal;
pub mod telemetry;
pub mod watch;
pub mod writer;
