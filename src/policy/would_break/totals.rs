//! What is known of all flows that no policy tells apart: how many, when, and with which addresses.

use std::net::IpAddr;

use jiff::Timestamp;

use crate::policy::flow::AddressCover;

/// All flows that no policy tells apart.
#[derive(Clone, Debug, Default)]
pub struct FlowTotals {
    pub count: u64,
    pub seen: Option<(Timestamp, Timestamp)>,
    /// One address of the end that is no pod, and what covers all of them.
    pub outside: Option<IpAddr>,
    pub addresses: AddressCover,
}

impl FlowTotals {
    /// Adds others.
    pub fn join(&mut self, other: &Self) {
        self.count = self.count.saturating_add(other.count);
        self.seen = match (self.seen, other.seen) {
            (Some((first, last)), Some((from, to))) => Some((first.min(from), last.max(to))),
            (one, other) => one.or(other),
        };
        self.outside = self.outside.or(other.outside);
        self.addresses.join(&other.addresses);
    }
}
