//! What a NetworkPolicy means, no matter who wrote it. Policies only add up: a policy cannot close what another policy opens.
//! The code here needs only the policy, and it cannot fail.

mod block;
mod coverage;
mod judge;
mod opening;
mod ports;
mod sweep;
mod union;

pub use block::Block;
pub use judge::{MAX_ENTRIES, entries};
pub use opening::{Opening, Openings, Peers, Ports};
