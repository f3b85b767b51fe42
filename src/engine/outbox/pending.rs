//! The timing of one write: whether it is under way, when it may be tried again, how often it failed in a row, and why. The content of the
//! write is kept elsewhere. Time is an argument.

use std::time::{Duration, Instant};

use super::retry::Delays;

/// The timing of one write. `E` is the type of its error.
#[derive(Clone, Debug)]
pub struct PendingWrite<E> {
    under_way: bool,
    /// Failed attempts in a row.
    failures: u32,
    /// When the minimum time since the start of the last attempt is over.
    spaced_until: Option<Instant>,
    /// When to try again, after a failure or while the watch does not show what was stored.
    retry_at: Option<Instant>,
    error: Option<E>,
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug)]
pub enum Attempt {
    /// The object is stored.
    Stored,
    /// The object is stored. The watch may need this long to show it.
    StoredUnseen(Duration),
    /// The attempt proves nothing: another instance leads, or the object does not exist.
    Dropped,
    /// The attempt failed. The next one is made after one of these waits.
    Failed(Delays),
}

impl<E> Default for PendingWrite<E> {
    fn default() -> Self {
        Self { under_way: false, failures: 0, spaced_until: None, retry_at: None, error: None }
    }
}

impl<E> PendingWrite<E> {
    /// Whether an attempt may begin now.
    pub fn due(&self, now: Instant) -> bool {
        !self.under_way && self.may_begin_at().is_none_or(|at| at <= now)
    }

    /// Notes that the write is sent.
    pub const fn started(&mut self) {
        self.under_way = true;
    }

    /// Notes that the write is sent. The next attempt must not begin before `until`, however this one ends.
    pub const fn started_spaced(&mut self, until: Instant) {
        self.under_way = true;
        self.spaced_until = Some(until);
    }

    /// Notes how an attempt ended.
    pub fn ended(&mut self, attempt: Attempt, now: Instant) {
        self.under_way = false;
        match attempt {
            Attempt::Stored => (self.failures, self.retry_at) = (0, None),
            Attempt::StoredUnseen(echo) => (self.failures, self.retry_at) = (0, Some(now + echo)),
            Attempt::Dropped => {}
            Attempt::Failed(delays) => {
                self.failures = self.failures.saturating_add(1);
                self.retry_at = Some(now + delays.after(self.failures));
            }
        }
    }

    /// When the next attempt may begin. `None`: at once, or an attempt is under way.
    pub fn next_wake(&self) -> Option<Instant> {
        self.may_begin_at().filter(|_| !self.under_way)
    }

    fn may_begin_at(&self) -> Option<Instant> {
        self.spaced_until.max(self.retry_at)
    }

    /// Forgets earlier failures, because something else is to be written now.
    pub const fn forgive(&mut self) {
        (self.failures, self.retry_at) = (0, None);
    }

    /// Called when this instance begins to lead: the next attempt may begin at once.
    pub const fn begin_anew(&mut self) {
        self.spaced_until = None;
        self.forgive();
    }

    /// Whether an attempt was sent and has not ended.
    pub const fn is_under_way(&self) -> bool {
        self.under_way
    }

    /// How many attempts failed in a row.
    pub const fn failures(&self) -> u32 {
        self.failures
    }

    /// Why it failed, if that is to be reported.
    pub const fn error(&self) -> Option<&E> {
        self.error.as_ref()
    }

    /// Sets the error to report; `None`: nothing. Returns whether that changed.
    pub fn set_error(&mut self, error: Option<E>) -> bool
    where
        E: PartialEq,
    {
        let is_news = self.error != error;
        self.error = error;
        is_news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const DELAYS: Delays = Delays::new(SECOND, Duration::from_secs(3));

    #[test]
    fn a_write_is_under_way_once_and_waits_longer_with_each_failure() {
        let (mut write, now) = (PendingWrite::<&str>::default(), Instant::now());
        assert!(write.due(now));
        for wait in [1, 2, 3, 3] {
            write.started();
            assert!(!write.due(now + 60 * SECOND) && write.next_wake().is_none());
            write.ended(Attempt::Failed(DELAYS), now);
            assert_eq!(write.next_wake(), Some(now + wait * SECOND));
            assert!(!write.due(now) && write.due(now + wait * SECOND));
        }
        assert_eq!(write.failures(), 4);
        write.started();
        write.ended(Attempt::Dropped, now);
        assert_eq!((write.failures(), write.due(now)), (4, false), "that says nothing");
        write.ended(Attempt::Stored, now);
        assert_eq!((write.failures(), write.due(now)), (0, true));
        write.ended(Attempt::StoredUnseen(SECOND), now);
        assert!(!write.due(now) && write.due(now + SECOND));
    }

    #[test]
    fn something_else_to_write_ends_the_wait_after_a_failure_but_not_the_space_between_writes() {
        let (mut write, now) = (PendingWrite::<&str>::default(), Instant::now());
        write.started_spaced(now + SECOND);
        write.ended(Attempt::Failed(Delays::always(60 * SECOND)), now);
        write.forgive();
        assert_eq!(write.next_wake(), Some(now + SECOND));
        write.begin_anew();
        assert!(write.due(now));
    }

    #[test]
    fn an_error_is_news_once() {
        let mut write = PendingWrite::default();
        assert!(write.set_error(Some("no")) && !write.set_error(Some("no")) && write.set_error(None));
        assert_eq!(write.error(), None);
    }
}
