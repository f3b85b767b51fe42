//! Decides what the operator does. There is no I/O here: watch events come in, writes go out, and the results of the writes come back.
//! `state.rs` holds the state. Each of the other files handles one concern.

mod assess;
mod backends;
mod baselines;
mod bypasses;
mod census;
mod claims;
pub mod clock;
mod closing;
mod crd_fields;
mod dns;
mod events;
mod explain;
pub mod facts;
mod installs;
pub mod inventory;
mod jobs;
mod kept;
mod kubernetes_api;
mod namespace_labels;
mod opt_outs;
mod orphans;
pub mod outbox;
mod outcome;
mod outgoing;
mod plugins;
mod queue;
mod ready;
mod recount;
mod revisions;
mod rollout;
pub mod sample;
mod state;
#[cfg(test)]
mod state_key;
mod steps;
mod terminating;
#[cfg(test)]
mod tests;
mod token_bucket;
mod waves;
pub mod writes;

pub use self::{state::Engine, waves::RolloutCounts};
