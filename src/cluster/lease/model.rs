//! A model of two electors and one Lease. It tries all events in every order: slow or lost requests and answers, late watch events,
//! requests that take effect after a timeout, and instances that stop for any time. Time advances in steps of one second without an
//! end. Two states that differ only in their age count as the same state.

use std::{
    collections::HashSet,
    hash::{DefaultHasher, Hash, Hasher},
    time::{Duration, Instant},
};

use super::{Elector, Move, Timing};
use crate::api::lease::LeaseRecord;

const SECOND: Duration = Duration::from_secs(1);
/// Anything older than this many seconds makes no difference.
const MEMORY: u32 = 2;
/// At most this many requests time out.
const FAULTS: u8 = 1;

const TIMING: Timing =
    Timing { duration: Duration::from_secs(3), renew_deadline: Duration::from_secs(2), retry: Duration::from_secs(1) };

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
enum Call {
    Put { sent: Instant, record: LeaseRecord, over: Option<u64> },
    Stored { sent: Instant, record: LeaseRecord, version: u64 },
    Refused,
}

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct Side {
    elector: Elector,
    /// The last version that its watch has delivered.
    shown: u64,
    call: Option<Call>,
    /// A request that timed out and may still take effect.
    stray: Option<(LeaseRecord, Option<u64>)>,
}

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct World {
    stored: Option<LeaseRecord>,
    version: u64,
    /// The events that the watches have not delivered yet.
    history: Vec<(u64, Option<LeaseRecord>)>,
    sides: [Side; 2],
    faults: u8,
}

impl World {
    fn new() -> Self {
        let side = |id: &str| Side { elector: Elector::new(id.into(), TIMING), shown: 0, call: None, stray: None };
        Self { stored: None, version: 0, history: vec![], sides: [side("a"), side("b")], faults: FAULTS }
    }

    fn store(&mut self, record: Option<LeaseRecord>) -> u64 {
        self.version += 1;
        self.stored.clone_from(&record);
        self.history.push((self.version, record));
        self.version
    }

    /// The API server handles a write. Returns the new version, or `None` if it refuses the write.
    fn put(&mut self, record: &LeaseRecord, over: Option<u64>) -> Option<u64> {
        let stands = self.stored.as_ref().map(|_| self.version);
        (stands == over).then(|| self.store(Some(record.clone())))
    }

    fn leaders(&self, now: Instant) -> usize {
        self.sides.iter().filter(|side| side.elector.term(now).is_some()).count()
    }

    /// Every possible next state, except for the passing of time.
    fn steps(&self, now: Instant) -> Vec<Self> {
        let mut next = Vec::new();
        for i in 0..2 {
            self.calls(i, now, &mut next);
            self.sightings(i, now, &mut next);
            if let Some((record, over)) = self.sides[i].stray.clone() {
                let mut world = self.clone();
                world.sides[i].stray = None;
                world.put(&record, over);
                next.push(world);
            }
        }
        next
    }

    fn calls(&self, i: usize, now: Instant, next: &mut Vec<Self>) {
        let with = |call: Option<Call>| {
            let mut world = self.clone();
            world.sides[i].call = call;
            world
        };
        match self.sides[i].call.clone() {
            None => match self.sides[i].elector.next(now) {
                Move::Wait(_) => {}
                Move::Look => {
                    let mut world = with(None);
                    let found = self.stored.clone().map(|record| (record, self.version));
                    world.sides[i].elector.looked(found, now, now);
                    next.push(world);
                }
                Move::Write(record, over) => next.push(with(Some(Call::Put { sent: now, record, over }))),
            },
            Some(Call::Put { sent, record, over }) => {
                let mut world = self.clone();
                world.sides[i].call = Some(match world.put(&record, over) {
                    Some(version) => Call::Stored { sent, record: record.clone(), version },
                    None => Call::Refused,
                });
                next.push(world);
                // The request times out. It may have taken effect already, may do so later, or never.
                if let Some(faults) = self.faults.checked_sub(1) {
                    let mut world = with(None);
                    world.faults = faults;
                    world.sides[i].elector.failed(now);
                    world.sides[i].stray = Some((record, over));
                    next.push(world);
                }
            }
            Some(answer) => {
                let mut world = with(None);
                let elector = &mut world.sides[i].elector;
                match answer {
                    Call::Stored { sent, record, version } => elector.wrote(record, version, sent),
                    Call::Refused => elector.conflicted(now),
                    Call::Put { .. } => unreachable!("not an answer"),
                }
                next.push(world);
            }
        }
    }

    /// The watch delivers the next event.
    fn sightings(&self, i: usize, now: Instant, next: &mut Vec<Self>) {
        if let Some((version, record)) = self.history.iter().find(|(version, _)| *version > self.sides[i].shown) {
            let mut world = self.clone();
            world.sides[i].shown = *version;
            match record {
                Some(record) => world.sides[i].elector.saw(record.clone(), *version, now),
                None => world.sides[i].elector.saw_deleted(*version, now),
            }
            next.push(world);
        }
    }

    /// The same state without its age: all past times become equal, versions count from one, and transitions become zero.
    fn normal(mut self, now: Instant) -> Self {
        let oldest = now.checked_sub(MEMORY * SECOND).unwrap_or(now);
        for side in &mut self.sides {
            // An event that the elector knows already changes nothing.
            let known = side.elector.seen.as_ref().map_or(0, |seen| seen.version);
            side.shown = side.shown.max(known);
        }
        let shown = self.sides.iter().map(|side| side.shown).min().unwrap_or(0);
        self.history.retain(|(version, _)| *version > shown);
        if self.history.len() > 2 {
            self.history.drain(..self.history.len() - 2);
        }
        for side in &mut self.sides {
            let elector = &mut side.elector;
            elector.term = elector.term.map(|at| at.max(oldest));
            elector.not_before = elector.not_before.filter(|at| *at > now).map(|_| now + SECOND);
            if let Some(seen) = &mut elector.seen {
                seen.free = seen.free.max(now);
            }
            match &mut side.call {
                Some(Call::Put { sent, .. } | Call::Stored { sent, .. }) => {
                    *sent = (*sent).max(oldest);
                }
                Some(Call::Refused) | None => {}
            }
        }
        let mut versions = Vec::new();
        self.each_version(&mut |version| versions.push(*version));
        versions.push(0);
        versions.sort_unstable();
        versions.dedup();
        self.each_version(&mut |version| *version = versions.binary_search(version).unwrap_or(0) as u64);
        self.each_record(&mut |record| record.transitions = 0);
        self
    }

    fn each_version(&mut self, visit: &mut dyn FnMut(&mut u64)) {
        visit(&mut self.version);
        self.history.iter_mut().for_each(|(version, _)| visit(version));
        for side in &mut self.sides {
            visit(&mut side.shown);
            if let Some(seen) = &mut side.elector.seen {
                visit(&mut seen.version);
            }
            if let Some((_, Some(over))) = &mut side.stray {
                visit(over);
            }
            match &mut side.call {
                Some(Call::Put { over: Some(version), .. } | Call::Stored { version, .. }) => visit(version),
                Some(Call::Put { .. } | Call::Refused) | None => {}
            }
        }
    }

    fn each_record(&mut self, visit: &mut dyn FnMut(&mut LeaseRecord)) {
        self.stored.iter_mut().for_each(&mut *visit);
        self.history.iter_mut().filter_map(|(_, record)| record.as_mut()).for_each(&mut *visit);
        for side in &mut self.sides {
            side.elector.seen.iter_mut().filter_map(|seen| seen.record.as_mut()).for_each(&mut *visit);
            side.stray.iter_mut().for_each(|(record, _)| visit(record));
            match &mut side.call {
                Some(Call::Put { record, .. } | Call::Stored { record, .. }) => visit(record),
                Some(Call::Refused) | None => {}
            }
        }
    }

    /// The same state one second later: all remembered times are one second older.
    fn later(mut self) -> Self {
        let back = |at: &mut Instant| *at = at.checked_sub(SECOND).unwrap_or(*at);
        for side in &mut self.sides {
            side.elector.term.iter_mut().for_each(back);
            side.elector.not_before.iter_mut().for_each(back);
            side.elector.seen.iter_mut().for_each(|seen| back(&mut seen.free));
            match &mut side.call {
                Some(Call::Put { sent, .. } | Call::Stored { sent, .. }) => back(sent),
                Some(Call::Refused) | None => {}
            }
        }
        self
    }
}

fn fingerprint(world: &World) -> u64 {
    let mut hasher = DefaultHasher::new();
    world.hash(&mut hasher);
    hasher.finish()
}

#[test]
fn i6_two_leaders_never_send_at_once_whatever_is_lost_or_late() {
    let now = Instant::now() + 100 * SECOND;
    let start = World::new().normal(now);
    let mut known = HashSet::from([fingerprint(&start)]);
    let mut open = vec![start];
    let (mut led, mut handed_over) = (false, false);
    while let Some(world) = open.pop() {
        let leaders = world.leaders(now);
        assert!(leaders <= 1, "two leaders: {world:#?}");
        led |= leaders == 1;
        handed_over |= world.sides[1].elector.term(now).is_some() && world.sides[0].elector.seen.is_some();
        let mut next = world.steps(now);
        next.push(world.later());
        for world in next {
            let world = world.normal(now);
            if known.insert(fingerprint(&world)) {
                open.push(world);
            }
        }
        assert!(known.len() < 500_000, "the model has grown: tried {} states", known.len());
    }
    println!("{} states", known.len());
    assert!(led && handed_over && known.len() > 10_000);
}
