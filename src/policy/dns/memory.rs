//! Keeps a DNS place for a while after it is gone, and in the same way the doubt whether DNS runs in a namespace. So plans do not flap, and
//! pods keep DNS while it moves. Also remembers which places were known first: these keep their place when there are too many.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use super::{
    derive::Derived,
    found::{ClusterDns, DnsDestination, DnsPlace, Remembered},
};

/// How long a place or a doubt is kept after it is gone.
pub const KEPT: Duration = Duration::from_mins(10);

/// The most places that are kept after they are gone: somebody may create and delete Services without end. Those that pods need most are kept.
const MAX_GONE: usize = 256;

/// What was found, and where DNS may be.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
pub struct Memory {
    /// Since when each place is gone (`None` if it still exists).
    places: BTreeMap<DnsPlace, Option<Instant>>,
    /// Since when the doubt about each namespace is gone (`None` if it still exists).
    doubts: BTreeMap<&'static str, Option<Instant>>,
    /// At which note each destination was first there; 0 if a former process knew it.
    first: BTreeMap<DnsDestination, u64>,
    notes: u64,
}

impl Memory {
    /// Notes the destinations that a former process knew. What is known already stays as old as it is.
    pub fn recall<'a>(&mut self, known: impl IntoIterator<Item = &'a DnsPlace>) {
        for place in known {
            self.first.entry(place.peer.clone()).or_insert(0);
        }
    }

    /// Records what the sources say now. Returns the cluster's DNS: that, and what is remembered.
    pub fn remember(&mut self, derived: Derived, now: Instant) -> ClusterDns {
        let Derived { found, unread, unsure, gaps, notes } = derived;
        self.note_places(&found, now);
        self.note_doubts(&unsure, now);
        ClusterDns::new(self.iter(), self.doubts.keys().copied().chain(unread), gaps, notes)
    }

    fn note_doubts(&mut self, present: &BTreeSet<&'static str>, now: Instant) {
        note(&mut self.doubts, present, now);
        self.doubts.retain(|_, gone| gone.is_none_or(|gone| !is_over(gone, now)));
    }

    fn note_places(&mut self, present: &BTreeSet<DnsPlace>, now: Instant) {
        note(&mut self.places, present, now);
        // A place that exists with more ports replaces its former entry with fewer ports.
        let mut by_origin: BTreeMap<(&str, &DnsDestination), Vec<&DnsPlace>> = BTreeMap::new();
        for found in present {
            by_origin.entry((&found.source, &found.peer)).or_default().push(found);
        }
        let is_covered = |found: &DnsPlace| {
            let same = by_origin.get(&(&*found.source, &found.peer));
            same.is_some_and(|same| same.iter().any(|other| found.is_part_of(other)))
        };
        self.places.retain(|found, gone| gone.is_none_or(|gone| !is_over(gone, now) && !is_covered(found)));
        self.notes += 1;
        let former = std::mem::take(&mut self.first);
        let first = |peer: &DnsDestination| former.get(peer).copied().unwrap_or(self.notes);
        self.first = self.places.keys().map(|found| (found.peer.clone(), first(&found.peer))).collect();
        self.bound();
    }

    /// Forgets what is gone and least needed, if that is too much.
    fn bound(&mut self) {
        let mut gone: Vec<&DnsPlace> = self.places.iter().filter(|(_, gone)| gone.is_some()).map(|(found, _)| found).collect();
        if gone.len() <= MAX_GONE {
            return;
        }
        gone.sort_by_key(|found| found.order(self.first.get(&found.peer).copied().unwrap_or_default()));
        let forgotten: Vec<DnsPlace> = gone.into_iter().skip(MAX_GONE).cloned().collect();
        for found in &forgotten {
            self.places.remove(found);
        }
    }

    /// The places that count, and what is remembered of each.
    fn iter(&self) -> impl Iterator<Item = (&DnsPlace, Remembered)> {
        self.places.iter().map(|(found, gone)| {
            (found, Remembered { is_gone: gone.is_some(), first: self.first.get(&found.peer).copied().unwrap_or_default() })
        })
    }

    /// When the next gone place or doubt is dropped; `None` if none is gone.
    pub fn next(&self) -> Option<Instant> {
        self.places.values().chain(self.doubts.values()).flatten().min().map(|gone| *gone + KEPT)
    }
}

/// Records what exists now. The rest is gone, from now on if it was there before.
fn note<T: Clone + Ord>(known: &mut BTreeMap<T, Option<Instant>>, present: &BTreeSet<T>, now: Instant) {
    for (one, gone) in known.iter_mut() {
        if !present.contains(one) {
            gone.get_or_insert(now);
        }
    }
    known.extend(present.iter().map(|one| (one.clone(), None)));
}

fn is_over(gone: Instant, now: Instant) -> bool {
    now.saturating_duration_since(gone) >= KEPT
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::policy::dns::{OPENSHIFT_DNS, found::DnsRank};

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
        memory.iter().map(|(found, remembered)| (words(found), remembered.is_gone)).collect()
    }

    #[test]
    fn what_went_is_kept_for_ten_minutes_and_what_came_counts_at_once() {
        let mut memory = Memory::default();
        let start = Instant::now();
        let (old, new) = (address("10.0.0.1", &[]), address("10.0.0.2", &[]));
        memory.note_places(&[old.clone()].into(), start);
        assert_eq!(memory.next(), None);
        memory.note_places(&[new.clone()].into(), start + Duration::from_secs(5));
        assert_eq!(told(&memory), [("10.0.0.1 {}".to_owned(), true), ("10.0.0.2 {}".to_owned(), false)]);
        let end = start + Duration::from_secs(5) + KEPT;
        assert_eq!(memory.next(), Some(end));
        memory.note_places(&[new.clone()].into(), start + KEPT);
        assert_eq!(memory.iter().count(), 2);
        memory.note_places(&[new.clone()].into(), end);
        assert_eq!(told(&memory), [("10.0.0.2 {}".to_owned(), false)]);
    }

    /// The namespaces that baselines leave out while the sources say this.
    fn left_out(memory: &mut Memory, unsure: &[&'static str], unread: &[&'static str], now: Instant) -> Vec<&'static str> {
        let set = |namespaces: &[&'static str]| namespaces.iter().copied().collect();
        let derived = Derived { unsure: set(unsure), unread: set(unread), ..Derived::default() };
        memory.remember(derived, now).namespaces().collect()
    }

    #[test]
    fn a_doubt_that_went_is_kept_for_ten_minutes_and_begins_anew_when_it_comes_back() {
        let (mut memory, start, doubt) = (Memory::default(), Instant::now(), [OPENSHIFT_DNS]);
        assert_eq!(left_out(&mut memory, &doubt, &[], start), doubt);
        assert_eq!(memory.next(), None);
        assert_eq!(left_out(&mut memory, &[], &[], start), doubt);
        assert_eq!(memory.next(), Some(start + KEPT));
        assert_eq!(left_out(&mut memory, &doubt, &[], start + KEPT / 2), doubt);
        assert_eq!(memory.next(), None);
        assert_eq!(left_out(&mut memory, &[], &[], start + KEPT), doubt, "it went just now");
        assert_eq!(left_out(&mut memory, &[], &[], start + KEPT * 2), [""; 0]);
        assert_eq!(memory.next(), None);
    }

    #[test]
    fn i2_a_doubt_about_a_source_that_is_not_read_ends_when_the_source_is_read() {
        let (mut memory, start) = (Memory::default(), Instant::now());
        assert_eq!(left_out(&mut memory, &[], &[OPENSHIFT_DNS], start), [OPENSHIFT_DNS]);
        assert_eq!(left_out(&mut memory, &[], &[], start), [""; 0], "a restart while it comes late changes no status");
        assert_eq!(memory.next(), None);
    }

    #[test]
    fn what_comes_back_begins_anew() {
        let mut memory = Memory::default();
        let start = Instant::now();
        let one = BTreeSet::from([address("10.0.0.1", &[])]);
        memory.note_places(&one, start);
        memory.note_places(&BTreeSet::new(), start);
        memory.note_places(&one, start + KEPT / 2);
        assert_eq!(memory.next(), None);
        memory.note_places(&BTreeSet::new(), start + KEPT / 2);
        memory.note_places(&BTreeSet::new(), start + KEPT);
        assert_eq!(memory.iter().count(), 1, "it was last seen half of the time ago");
    }

    #[test]
    fn what_is_found_with_more_ports_leaves_no_memory_of_fewer() {
        let mut memory = Memory::default();
        let start = Instant::now();
        memory.note_places(&[address("10.0.0.1", &[])].into(), start);
        memory.note_places(&[address("10.0.0.1", &[5353])].into(), start);
        assert_eq!(told(&memory), [("10.0.0.1 {5353}".to_owned(), false)]);
        memory.note_places(&[address("10.0.0.1", &[])].into(), start);
        assert_eq!(memory.iter().count(), 2, "fewer may be a mistake for a while");
    }

    #[test]
    fn a_destination_stays_as_old_as_it_is_until_it_is_forgotten() {
        let (mut memory, start) = (Memory::default(), Instant::now());
        let places = ["10.0.0.1", "10.0.0.2", "10.0.0.3"].map(|text| address(text, &[]));
        memory.recall([&places[2]]);
        for (at, present) in [(0, 1..3), (1, 0..3), (2, 0..0), (3, 0..3)] {
            memory.note_places(&places[present].iter().cloned().collect(), start + Duration::from_secs(at));
        }
        let first = |memory: &Memory| memory.iter().map(|(_, remembered)| remembered.first).collect::<Vec<_>>();
        assert_eq!(first(&memory), [2, 1, 0]);
        memory.recall(&places);
        assert_eq!(first(&memory), [2, 1, 0]);
        let with_ports = address("10.0.0.2", &[1053]);
        memory.note_places(&[with_ports.clone()].into(), start + Duration::from_secs(4));
        memory.note_places(&[with_ports].into(), start + Duration::from_secs(4) + KEPT);
        assert_eq!(first(&memory), [1]);
        memory.note_places(&places.into(), start + KEPT * 2);
        assert_eq!(first(&memory), [7, 1, 1, 7], "with more ports and without");
    }

    #[test]
    fn i11_what_comes_and_goes_without_end_is_kept_up_to_a_bound_the_needed_and_the_oldest_first() {
        let (mut memory, now) = (Memory::default(), Instant::now());
        let old = address("10.1.0.1", &[]);
        memory.note_places(&[old.clone()].into(), now);
        for n in 0..1000u32 {
            memory.note_places(&[address(&IpAddr::from((0x0a00_0000 + n).to_be_bytes()).to_string(), &[])].into(), now);
        }
        let needed = DnsPlace { rank: DnsRank::Needed, ..address("10.1.0.2", &[]) };
        memory.note_places(&[needed.clone()].into(), now);
        memory.note_places(&BTreeSet::new(), now);
        assert_eq!(memory.iter().count(), MAX_GONE);
        assert!([&old, &needed].iter().all(|place| memory.iter().any(|(found, _)| found == *place)));
    }
}
