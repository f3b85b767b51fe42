//! What is known of all flows that no policy tells apart: how many, when, and with which addresses.

use std::net::IpAddr;

use jiff::Timestamp;

use super::recorded::RecordedAt;
use crate::policy::flow::AddressCover;

/// All flows that no policy tells apart.
#[derive(Clone, Debug, Default)]
pub struct FlowTotals {
    /// How many were recorded where they begin, and where they arrive.
    at_source: u64,
    at_destination: u64,
    /// The lines that say so.
    pub lines: u64,
    pub seen: Option<(Timestamp, Timestamp)>,
    /// One address of the end that is no pod, and what covers all of them.
    pub outside: Option<IpAddr>,
    pub addresses: AddressCover,
}

impl FlowTotals {
    /// Adds what a line says of a flow. `outside` is the address of the end that is no pod.
    pub fn note(&mut self, at: RecordedAt, count: u64, seen: Option<(Timestamp, Timestamp)>, outside: Option<IpAddr>) {
        match at {
            RecordedAt::Source => self.at_source = self.at_source.saturating_add(count),
            RecordedAt::Destination => self.at_destination = self.at_destination.saturating_add(count),
            RecordedAt::Dropped => {}
        }
        self.lines = self.lines.saturating_add(1);
        self.seen = joined_times(self.seen, seen);
        self.outside = self.outside.or(outside);
        if let Some(address) = outside {
            self.addresses.add(address);
        }
    }

    /// How many flows there were. Some are recorded at both ends.
    pub fn count(&self) -> u64 {
        self.at_source.max(self.at_destination)
    }

    /// Whether none was recorded where it would arrive.
    pub const fn only_left(&self) -> bool {
        self.at_destination == 0
    }

    /// Adds others.
    pub fn join(&mut self, other: &Self) {
        self.at_source = self.at_source.saturating_add(other.at_source);
        self.at_destination = self.at_destination.saturating_add(other.at_destination);
        self.lines = self.lines.saturating_add(other.lines);
        self.seen = joined_times(self.seen, other.seen);
        self.outside = self.outside.or(other.outside);
        self.addresses.join(&other.addresses);
    }
}

/// The first and the last of both times.
pub fn joined_times(
    one: Option<(Timestamp, Timestamp)>,
    other: Option<(Timestamp, Timestamp)>,
) -> Option<(Timestamp, Timestamp)> {
    match (one, other) {
        (Some((first, last)), Some((from, to))) => Some((first.min(from), last.max(to))),
        (one, other) => one.or(other),
    }
}
