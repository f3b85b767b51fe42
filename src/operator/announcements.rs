//! Announcements that wait while policies are written, at most some for each namespace. Each becomes a request of its own, on the same API server: in a storm of repairs, the
//! Events would take as much of it as the repairs (I9).

use std::time::{Duration, Instant};

use crate::{
    cluster::events::Announcer,
    engine::{outbox::event_budget::EventBudgets, writes::Announcement},
};

/// So many wait at most.
const MOST: usize = 512;
/// The first one waits no longer.
const LONGEST: Duration = Duration::from_secs(1);

/// Publishes announcements when they no longer have to wait.
#[derive(Debug)]
pub struct Announcements {
    announcer: Announcer,
    budgets: EventBudgets,
    waiting: WaitingAnnouncements,
}

impl Announcements {
    /// Publishes by this announcer.
    pub fn new(announcer: Announcer) -> Self {
        Self { announcer, budgets: EventBudgets::default(), waiting: WaitingAnnouncements::default() }
    }

    /// Takes the latest ones, and publishes what is due. `jobs` is the number of namespaces that policies are being written to.
    pub fn publish(&mut self, latest: Vec<Announcement>, jobs: usize, now: Instant) {
        self.waiting.add(self.budgets.admit(latest, now), now);
        for announcement in self.waiting.release(jobs, now) {
            self.announcer.announce(announcement);
        }
    }

    /// When some are due though no write ends.
    pub fn wakes(&self) -> Option<Instant> {
        self.waiting.wakes().into_iter().chain(self.budgets.wakes()).min()
    }

    /// Publishes the rest.
    pub fn finish(mut self) {
        let left_out = self.budgets.take_left_out();
        for announcement in self.waiting.take().into_iter().chain(left_out) {
            self.announcer.announce(announcement);
        }
    }
}

/// Announcements that are not published yet.
#[derive(Debug, Default)]
struct WaitingAnnouncements {
    all: Vec<Announcement>,
    since: Option<Instant>,
}

impl WaitingAnnouncements {
    fn add(&mut self, mut latest: Vec<Announcement>, now: Instant) {
        self.all.append(&mut latest);
        if !self.all.is_empty() {
            self.since.get_or_insert(now);
        }
    }

    /// Those to publish now: all or none.
    fn release(&mut self, jobs: usize, now: Instant) -> Vec<Announcement> {
        if jobs == 0 || self.all.len() >= MOST || self.wakes().is_some_and(|at| at <= now) { self.take() } else { vec![] }
    }

    fn wakes(&self) -> Option<Instant> {
        self.since.map(|since| since + LONGEST)
    }

    fn take(&mut self) -> Vec<Announcement> {
        self.since = None;
        std::mem::take(&mut self.all)
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::api::{NamespaceName, reason::EventReason};

    fn some(count: usize) -> Vec<Announcement> {
        let one = Announcement {
            namespace: NamespaceName::observed("a"),
            policy: "p".into(),
            uid: None,
            reason: EventReason::DriftRepaired,
            note: "n".into(),
            at: Timestamp::UNIX_EPOCH,
        };
        vec![one; count]
    }

    #[test]
    fn i9_events_wait_for_writes_of_policies_but_not_for_long_and_not_many_of_them() {
        let (mut waiting, now) = (WaitingAnnouncements::default(), Instant::now());
        assert_eq!((waiting.release(0, now).len(), waiting.wakes()), (0, None));
        waiting.add(some(2), now);
        assert_eq!(waiting.release(1, now).len(), 0);
        assert_eq!(waiting.release(0, now).len(), 2);
        waiting.add(some(2), now);
        waiting.add(some(1), now + LONGEST / 2);
        assert_eq!(waiting.wakes(), Some(now + LONGEST));
        assert_eq!(waiting.release(1, now + LONGEST).len(), 3);
        waiting.add(some(MOST), now);
        assert_eq!((waiting.release(1, now).len(), waiting.wakes()), (MOST, None));
    }
}
