//! What a NetworkPolicy means, whoever wrote it. Policies only ever add: what one of them opens, no other one closes.
//! Sees nothing but the policy, and never fails.

mod block;
mod opening;
mod union;

pub use block::Block;
pub use opening::{Opening, Openings, Peers, Ports};
