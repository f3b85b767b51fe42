//! Keeps a DNS place for a while after it is gone. So plans do not flap, and pods keep DNS while it moves.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use super::DnsPlace;

/// How long a place is kept after it is gone.
pub const KEPT: Duration = Duration::from_mins(10);

/// The places that were found, and since when each is gone (`None` if it still exists).
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
pub struct Memory(BTreeMap<DnsPlace, Option<Instant>>);

impl Memory {
    /// Records the places that exist now.
    pub fn note(&mut self, present: &BTreeSet<DnsPlace>, now: Instant) {
        for (found, gone) in &mut self.0 {
            if !present.contains(found) {
                gone.get_or_insert(now);
            }
        }
        self.0.extend(present.iter().map(|found| (found.clone(), None)));
        // A place that exists with more ports replaces its former entry with fewer ports.
        let is_over = |gone: Instant| now.saturating_duration_since(gone) >= KEPT;
        let is_covered = |found: &DnsPlace| present.iter().any(|other| found.is_part_of(other));
        self.0.retain(|found, gone| gone.is_none_or(|gone| !is_over(gone) && !is_covered(found)));
    }

    /// The places that count, and whether each is gone.
    pub fn iter(&self) -> impl Iterator<Item = (&DnsPlace, bool)> {
        self.0.iter().map(|(found, gone)| (found, gone.is_some()))
    }

    /// When the next gone place is dropped; `None` if no place is gone.
    pub fn next(&self) -> Option<Instant> {
        self.0.values().flatten().min().map(|gone| *gone + KEPT)
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::policy::dns::found::{DnsDestination, DnsRank};

    fn address(text: &str, ports: &[u16]) -> DnsPlace {
        DnsPlace {
            rank: DnsRank::Service,
            peer: DnsDestination::Address(text.parse::<IpAddr>().unwrap()),
            ports: ports.iter().copied().collect(),
            source: "s".into(),
            namespace: None,
        }
    }

    fn told(memory: &Memory) -> Vec<(String, bool)> {
        let words = |found: &DnsPlace| match found.peer {
            DnsDestination::Address(address) => format!("{address} {:?}", found.ports),
            DnsDestination::Pods { .. } => String::new(),
        };
        memory.iter().map(|(found, gone)| (words(found), gone)).collect()
    }

    #[test]
    fn what_went_is_kept_for_ten_minutes_and_what_came_counts_at_once() {
        let mut memory = Memory::default();
        let start = Instant::now();
        let (old, new) = (address("10.0.0.1", &[]), address("10.0.0.2", &[]));
        memory.note(&[old.clone()].into(), start);
        assert_eq!(memory.next(), None);
        memory.note(&[new.clone()].into(), start + Duration::from_secs(5));
        assert_eq!(told(&memory), [("10.0.0.1 {}".to_owned(), true), ("10.0.0.2 {}".to_owned(), false)]);
        let end = start + Duration::from_secs(5) + KEPT;
        assert_eq!(memory.next(), Some(end));
        memory.note(&[new.clone()].into(), start + KEPT);
        assert_eq!(memory.iter().count(), 2);
        memory.note(&[new.clone()].into(), end);
        assert_eq!(told(&memory), [("10.0.0.2 {}".to_owned(), false)]);
    }

    #[test]
    fn what_comes_back_begins_anew() {
        let mut memory = Memory::default();
        let start = Instant::now();
        let one = BTreeSet::from([address("10.0.0.1", &[])]);
        memory.note(&one, start);
        memory.note(&BTreeSet::new(), start);
        memory.note(&one, start + KEPT / 2);
        assert_eq!(memory.next(), None);
        memory.note(&BTreeSet::new(), start + KEPT / 2);
        memory.note(&BTreeSet::new(), start + KEPT);
        assert_eq!(memory.iter().count(), 1, "it was last seen half of the time ago");
    }

    #[test]
    fn what_is_found_with_more_ports_leaves_no_memory_of_fewer() {
        let mut memory = Memory::default();
        let start = Instant::now();
        memory.note(&[address("10.0.0.1", &[])].into(), start);
        memory.note(&[address("10.0.0.1", &[5353])].into(), start);
        assert_eq!(told(&memory), [("10.0.0.1 {5353}".to_owned(), false)]);
        memory.note(&[address("10.0.0.1", &[])].into(), start);
        assert_eq!(memory.iter().count(), 2, "fewer may be a mistake for a while");
    }
}
