//! The decisions of the operator, without I/O: events go in, writes come out, results go back in. `state.rs` holds what it knows; the
//! other files say what it does with that.

mod assess;
mod backends;
mod baselines;
mod claims;
pub mod clock;
mod dns;
mod events;
mod explain;
pub mod facts;
mod jobs;
mod namespace_labels;
mod opt_outs;
pub mod outbox;
mod outcome;
mod outgoing;
mod queue;
mod ready;
mod revisions;
mod rollout;
pub mod sample;
mod state;
#[cfg(test)]
mod state_key;
mod steps;
#[cfg(test)]
mod tests;
mod waves;
pub mod writes;

pub use self::{state::Engine, waves::RolloutCounts};
