//! Leader election: a Lease decides which single instance may write. This module makes the decisions, without I/O and with time as an
//! argument. `driver` carries them out, and opens the fence that every write has to pass.
//!
//! Safety depends on one inequality. A leader sends no write later than `renew_deadline` after it *sent* its last successful renewal.
//! Other instances take over no earlier than `duration` after they *saw* that renewal, and they see it after it was sent. The time
//! between is the server-side timeout of a write that is sent at the last moment. Clocks of other machines are never used.
//!
//! One file: every decision reads and writes the same few fields.

mod alone;
mod driver;
#[cfg(test)]
mod model;

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    time::{Duration, Instant},
};

use super::fence::LONGEST_WRITE;
use crate::api::lease::LeaseRecord;
pub use alone::stand_alone;
pub use driver::{Election, ElectionEnd, Leadership, LeaseConfig, stand};

/// The times of an election.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Timing {
    /// How long other instances wait for a leader that does not renew.
    pub duration: Duration,
    /// How long a leader may continue without a renewal.
    pub renew_deadline: Duration,
    /// The time between two attempts.
    pub retry: Duration,
}

impl Timing {
    /// The times for a lease duration. The renewal deadline is two thirds of it, with up to five attempts in that time. The retry
    /// period is up to a fifth longer, depending on the identity, so that instances do not act in step.
    pub fn of(duration: Duration, identity: &str) -> Self {
        let renew_deadline = duration * 2 / 3;
        let mut hasher = DefaultHasher::new();
        identity.hash(&mut hasher);
        let stretch = u32::try_from(hasher.finish() % 200).unwrap_or(0);
        Self { duration, renew_deadline, retry: renew_deadline / 5 * (1000 + stretch) / 1000 }
    }

    /// The time between the end of a term and the moment when others may take over.
    pub fn margin(&self) -> Duration {
        self.duration.saturating_sub(self.renew_deadline)
    }

    /// How long the API server may work on a write: no longer than the margin leaves.
    pub fn longest_write(&self) -> Duration {
        self.margin().min(LONGEST_WRITE)
    }
}

/// The next action that the elector asks for.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Move {
    /// Do nothing before this time.
    Wait(Instant),
    /// Read the Lease, because the known state may be out of date.
    Look,
    /// Write this record over this version, or create the Lease (`None`). It takes effect only if nobody wrote in between.
    Write(LeaseRecord, Option<u64>),
}

/// The Lease as it was last seen.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct SeenLease {
    /// `None`: the Lease did not exist.
    record: Option<LeaseRecord>,
    version: u64,
    /// From this time on, another instance may take the Lease.
    free: Instant,
}

/// The election state of one instance.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Elector {
    identity: String,
    timing: Timing,
    seen: Option<SeenLease>,
    /// The last seen state may be out of date.
    doubt: bool,
    /// Writes may be sent until this time.
    term: Option<Instant>,
    /// No attempt before this time.
    not_before: Option<Instant>,
}

impl Elector {
    /// A candidate that has not seen the Lease yet.
    pub const fn new(identity: String, timing: Timing) -> Self {
        Self { identity, timing, seen: None, doubt: true, term: None, not_before: None }
    }

    /// Until when writes may be sent; `None` if they may not be sent now.
    pub fn term(&self, now: Instant) -> Option<Instant> {
        self.term.filter(|until| now < *until)
    }

    /// The version of the Lease that was seen last; 0 if none was.
    pub fn version(&self) -> u64 {
        self.seen.as_ref().map_or(0, |seen| seen.version)
    }

    /// Makes no attempt before that time. After the API server went back to an older state, what the Lease says of its holder is of the
    /// past: whoever led since may send writes until its term ends.
    #[must_use]
    pub const fn not_before(mut self, at: Option<Instant>) -> Self {
        self.not_before = at;
        self
    }

    /// The last seen holder of the Lease; `None` if there is none.
    pub fn holder(&self) -> Option<&str> {
        self.seen.as_ref()?.record.as_ref().map(|r| &*r.holder).filter(|holder| !holder.is_empty())
    }

    /// Whether the Lease changed hands before.
    pub fn succeeds(&self) -> bool {
        self.seen.as_ref().and_then(|seen| seen.record.as_ref()).is_some_and(|record| record.transitions > 0)
    }

    /// The watch delivered the Lease. The event may be late.
    pub fn saw(&mut self, record: LeaseRecord, version: u64, now: Instant) {
        if self.seen.as_ref().is_some_and(|seen| seen.version >= version) {
            return;
        }
        if record.holder != self.identity {
            self.term = None;
        }
        let free = if record.holder.is_empty() { now } else { now + record.duration };
        self.seen = Some(SeenLease { record: Some(record), version, free });
    }

    /// The watch delivered the deletion of the Lease. The event may be late, and the holder may not know about the deletion yet.
    pub fn saw_deleted(&mut self, version: u64, now: Instant) {
        if self.seen.as_ref().is_none_or(|seen| seen.version < version) {
            self.gone(version, now);
        }
    }

    /// A read of the Lease has returned. `sent` is when the request was sent.
    pub fn looked(&mut self, found: Option<(LeaseRecord, u64)>, sent: Instant, now: Instant) {
        self.doubt = false;
        if self.term.is_some_and(|until| until <= sent) {
            self.term = None;
        }
        match found {
            Some((record, version)) => self.saw(record, version, now),
            None => self.gone(self.seen.as_ref().map_or(0, |seen| seen.version), now),
        }
    }

    /// Decides the next action.
    pub fn next(&self, now: Instant) -> Move {
        if let Some(at) = self.not_before.filter(|at| *at > now) {
            return Move::Wait(at);
        }
        // If our term has ended, others may have taken over while this process was stopped.
        let lapsed = self.term.is_some_and(|until| until <= now);
        let Some(seen) = self.seen.as_ref().filter(|_| !self.doubt && !lapsed) else { return Move::Look };
        match &seen.record {
            Some(record) if record.holder == self.identity => Move::Write(self.claim(record.transitions), Some(seen.version)),
            _ if seen.free > now => Move::Wait(seen.free),
            Some(record) => Move::Write(self.claim(record.transitions.saturating_add(1)), Some(seen.version)),
            None => Move::Write(self.claim(0), None),
        }
    }

    /// What to do while this instance must not lead (I16): it gives the Lease back if it holds it. Not at once, because writes that were
    /// sent before may still take effect.
    pub fn step_down(&mut self, now: Instant) -> Move {
        if self.term.take().is_some() {
            self.not_before = Some(now + self.timing.longest_write());
        }
        if let Some(at) = self.not_before.filter(|at| *at > now) {
            return Move::Wait(at);
        }
        if self.doubt {
            return Move::Look;
        }
        self.release().map_or(Move::Wait(now + self.timing.duration), |(record, over)| Move::Write(record, Some(over)))
    }

    /// A write succeeded and got this version. `sent` is when the request was sent.
    pub fn wrote(&mut self, record: LeaseRecord, version: u64, sent: Instant) {
        let ends = sent + self.timing.renew_deadline;
        let claims = record.holder == self.identity;
        let newer = self.seen.as_ref().filter(|seen| seen.version > version);
        match newer {
            // A later version is known already. Either we still hold the Lease, or this term is over.
            Some(seen) if seen.record.as_ref().is_none_or(|r| r.holder != self.identity) => return,
            Some(_) => {}
            None => self.seen = Some(SeenLease { record: Some(record), version, free: if claims { ends } else { sent } }),
        }
        self.term = claims.then_some(ends);
        self.doubt = false;
        self.not_before = Some(sent + self.timing.retry);
    }

    /// A request failed, or its result is not known.
    pub fn failed(&mut self, now: Instant) {
        self.doubt = true;
        self.not_before = Some(now + self.timing.retry / 2);
    }

    /// A write was refused because another instance wrote in between.
    pub fn conflicted(&mut self, now: Instant) {
        self.doubt = true;
        self.not_before = Some(now + self.timing.retry / 20);
    }

    /// Ends the term. If we hold the Lease, returns the record that releases it and the version to write over.
    /// After that write, the next leader need not wait.
    pub fn release(&mut self) -> Option<(LeaseRecord, u64)> {
        self.term = None;
        let SeenLease { record, version, .. } = self.seen.as_ref()?;
        let held = record.as_ref().filter(|record| record.holder == self.identity)?;
        let released = LeaseRecord { holder: String::new(), duration: Duration::from_secs(1), transitions: held.transitions };
        Some((released, *version))
    }

    fn gone(&mut self, version: u64, now: Instant) {
        self.term = None;
        let others = self.seen.as_ref().filter(|s| s.record.as_ref().is_none_or(|r| r.holder != self.identity));
        let free = others.map_or(now, |seen| seen.free.max(now));
        self.seen = Some(SeenLease { record: None, version, free });
    }

    fn claim(&self, transitions: i32) -> LeaseRecord {
        LeaseRecord { holder: self.identity.clone(), duration: self.timing.duration, transitions }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn timing() -> Timing {
        Timing { duration: 15 * SECOND, renew_deadline: 10 * SECOND, retry: 2 * SECOND }
    }

    fn held_by(holder: &str) -> LeaseRecord {
        LeaseRecord { holder: holder.into(), duration: timing().duration, transitions: 0 }
    }

    fn elector() -> (Elector, Instant) {
        (Elector::new("a".into(), timing()), Instant::now())
    }

    fn leader() -> (Elector, Instant) {
        let (mut a, now) = elector();
        a.looked(None, now, now);
        a.wrote(held_by("a"), 1, now);
        (a, now)
    }

    fn holder_written(next: Move) -> (String, i32, Option<u64>) {
        match next {
            Move::Write(record, over) => (record.holder, record.transitions, over),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_times_of_an_election_leave_a_margin_and_several_attempts() {
        for (seconds, id) in (3..60).flat_map(|s| ["a", "b", "c"].map(|id| (s, id))) {
            let timing = Timing::of(seconds * SECOND, id);
            assert!(timing.margin() >= SECOND, "{timing:?}");
            assert!(timing.retry * 4 < timing.renew_deadline && timing.retry * 5 >= timing.renew_deadline, "{timing:?}");
        }
        let default = Timing::of(15 * SECOND, "a");
        assert_eq!((default.renew_deadline, default.margin()), (10 * SECOND, 5 * SECOND));
        assert_ne!(default.retry, Timing::of(15 * SECOND, "b").retry);
    }

    #[test]
    fn nothing_is_written_before_the_lease_was_read() {
        let (a, now) = elector();
        assert_eq!(a.next(now), Move::Look);
    }

    #[test]
    fn an_absent_or_released_lease_is_taken_at_once() {
        let (mut a, now) = elector();
        a.looked(None, now, now);
        assert_eq!(holder_written(a.next(now)), ("a".into(), 0, None));
        a.saw(held_by(""), 7, now);
        assert_eq!(holder_written(a.next(now)), ("a".into(), 1, Some(7)));
    }

    #[test]
    fn a_held_lease_is_waited_for_from_when_it_was_seen() {
        let (mut a, now) = elector();
        a.looked(Some((held_by("b"), 1)), now, now);
        assert_eq!(a.next(now), Move::Wait(now + timing().duration));
        // The same version again is not a renewal; a new version is.
        a.looked(Some((held_by("b"), 1)), now, now + SECOND);
        assert_eq!(a.next(now + SECOND), Move::Wait(now + timing().duration));
        a.saw(held_by("b"), 2, now + SECOND);
        assert_eq!(a.next(now + SECOND), Move::Wait(now + SECOND + timing().duration));
        assert_eq!(holder_written(a.next(now + 16 * SECOND)), ("a".into(), 1, Some(2)));
    }

    #[test]
    fn i6_a_leader_that_cannot_renew_stops_before_others_may_take_over() {
        let (mut a, now) = leader();
        assert_eq!(a.next(now), Move::Wait(now + timing().retry));
        a.failed(now + 3 * SECOND);
        assert_eq!(a.next(now + 4 * SECOND), Move::Look);
        let end = now + timing().renew_deadline;
        assert!(a.term(now + 9 * SECOND).is_some());
        assert_eq!(a.term(end), None);
    }

    #[test]
    fn i6_a_term_counts_from_the_sending_not_from_the_answer() {
        let (mut a, now) = leader();
        a.wrote(held_by("a"), 2, now + SECOND);
        assert_eq!(a.term(now + 10 * SECOND), Some(now + 11 * SECOND));
    }

    #[test]
    fn i6_a_leader_that_sees_another_holder_or_no_lease_stops_at_once() {
        let (a, now) = leader();
        let mut other = a.clone();
        other.saw(held_by("b"), 2, now);
        assert_eq!(other.term(now), None);
        let mut deleted = a.clone();
        deleted.saw_deleted(2, now);
        assert_eq!(deleted.term(now), None);
        // The late answer of its own write changes nothing.
        other.wrote(held_by("a"), 1, now);
        assert_eq!(other.term(now), None);
        // An event that is older than its own write changes nothing.
        let mut late = a;
        late.saw(held_by("b"), 0, now);
        assert!(late.term(now).is_some());
    }

    #[test]
    fn i6_a_leader_that_was_stopped_reads_before_it_writes() {
        let (mut a, now) = leader();
        let later = now + 60 * SECOND;
        assert_eq!(a.next(later), Move::Look);
        // A request that was sent before the end of the term says nothing about the present.
        a.looked(Some((held_by("a"), 1)), now, later);
        assert_eq!(a.next(later), Move::Look);
        a.looked(Some((held_by("a"), 1)), later, later);
        assert_eq!(a.term(later), None);
        assert_eq!(holder_written(a.next(later)), ("a".into(), 0, Some(1)));
        a.looked(Some((held_by("b"), 9)), later, later);
        assert_eq!(a.next(later), Move::Wait(later + timing().duration));
    }

    #[test]
    fn a_deleted_lease_is_left_to_who_held_it_for_as_long_as_it_may_not_know() {
        let (mut a, now) = leader();
        a.saw_deleted(2, now);
        assert!(matches!(a.next(now + 2 * SECOND), Move::Write(_, None)));
        let (mut b, now) = elector();
        b.looked(Some((held_by("x"), 1)), now, now);
        b.saw_deleted(2, now + SECOND);
        assert_eq!(b.next(now + SECOND), Move::Wait(now + timing().duration));
    }

    #[test]
    fn a_conflict_is_looked_into_soon_and_a_failure_later() {
        let (mut a, now) = leader();
        a.conflicted(now);
        assert_eq!(a.next(now + timing().retry / 20), Move::Look);
        a.failed(now);
        assert_eq!(a.next(now), Move::Wait(now + timing().retry / 2));
    }

    #[test]
    fn i6_a_clock_that_jumps_ahead_ends_a_term_and_prolongs_none() {
        let (a, now) = leader();
        for jump in (0..100).map(|seconds| seconds * SECOND) {
            let mut a = a.clone();
            assert_eq!(a.term(now + jump).is_some(), jump < timing().renew_deadline);
            // A renewal counts from when it was sent, before the jump, although its answer came after the jump.
            a.wrote(held_by("a"), 2, now + SECOND);
            assert_eq!(a.term(now + jump).is_some(), jump < SECOND + timing().renew_deadline);
            if jump > SECOND + timing().renew_deadline {
                assert_eq!(a.next(now + jump), Move::Look);
            }
        }
    }

    #[test]
    fn i6_a_candidate_whose_clock_jumps_ahead_takes_only_what_was_not_renewed() {
        let (mut b, now) = elector();
        b.looked(Some((held_by("x"), 1)), now, now);
        let jumped = now + 3600 * SECOND;
        // It writes over the version that it saw, so the API server refuses the write if the holder has renewed since.
        assert_eq!(holder_written(b.next(jumped)).2, Some(1));
        b.conflicted(jumped);
        let again = jumped + timing().retry;
        assert_eq!(b.next(again), Move::Look);
        b.looked(Some((held_by("x"), 2)), again, again);
        assert_eq!(b.next(again), Move::Wait(again + timing().duration));
    }

    #[test]
    fn i6_clocks_of_which_one_runs_nearly_half_again_as_fast_as_the_other_let_nobody_in_too_early() {
        for (slow, fast) in [(1.0, 1.49), (0.8, 1.19), (0.5, 0.74)] {
            let (a, start) = leader();
            let mut b = Elector::new("b".into(), timing());
            b.looked(Some((held_by("a"), 1)), start, start);
            for passed in (0..400).map(|n| SECOND.mul_f64(f64::from(n) / 10.0)) {
                let leads = a.term(start + passed.mul_f64(slow)).is_some();
                let takes = matches!(b.next(start + passed.mul_f64(fast)), Move::Write(..));
                assert!(!(leads && takes), "after {passed:?}, at {slow} and {fast}");
            }
        }
    }

    #[test]
    fn i16_who_must_not_lead_gives_the_lease_back_and_takes_none() {
        let (mut a, now) = leader();
        let later = now + timing().longest_write();
        assert_eq!((a.step_down(now), a.term(now)), (Move::Wait(later), None), "writes that were sent may still take effect");
        let Move::Write(record, Some(1)) = a.step_down(later) else { panic!("it is given back") };
        assert_eq!((record.holder.as_str(), a.term(later)), ("", None));
        a.wrote(record, 2, later);
        assert_eq!(a.term(later), None);
        let later = later + timing().retry;
        assert!(matches!(a.step_down(later), Move::Wait(_)), "nothing is left to do");
        // A long Lease does not make the wait longer than a write may take.
        let long = Timing::of(3600 * SECOND, "a");
        assert_eq!((long.margin(), long.longest_write()), (1200 * SECOND, LONGEST_WRITE));
        // As soon as it may lead, it takes what is free.
        assert_eq!(holder_written(a.next(later)), ("a".into(), 1, Some(2)));

        let (mut b, now) = elector();
        assert_eq!(b.step_down(now), Move::Look);
        b.looked(None, now, now);
        assert!(matches!(b.step_down(now), Move::Wait(_)), "an absent Lease is not taken");
    }

    #[test]
    fn only_the_holder_releases() {
        let (mut a, now) = leader();
        let (record, over) = a.release().unwrap();
        assert_eq!((record.holder.as_str(), over), ("", 1));
        assert_eq!(a.term(now), None);
        a.saw(held_by("b"), 3, now);
        assert_eq!(a.release(), None);
    }
}
