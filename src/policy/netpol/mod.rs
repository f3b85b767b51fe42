//! What a NetworkPolicy means, no matter who wrote it. Policies only add up: a policy cannot close what another policy opens.
//! The code here needs only the policy, and it cannot fail.

mod block;
mod census;
mod coverage;
mod judge;
mod opening;
mod ports;
mod share;
mod sweep;
mod together;
mod union;
mod wide;

pub use block::Block;
pub use census::{Census, NAME_LABEL};
pub use judge::{MAX_ENTRIES, has_more_entries, judge};
pub use opening::{Opening, Openings, Peers, Pods, Ports};
pub use share::{Cut, DirectionShares, MAX_BYTES_OF_NAMESPACE, Shares};
pub use together::{Together, Work};
pub use wide::Wide;
