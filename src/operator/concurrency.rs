//! Limits how many namespaces are written to at the same time. The limit grows while the API server keeps up, and is halved when the
//! API server asks for fewer requests. Time is an argument.

use std::time::{Duration, Instant};

/// The smallest limit, even under pressure, because repairs must go on.
const LEAST: usize = 1;
/// The limit at the start.
const START: usize = 8;
/// The largest limit. With three writes for each namespace, the writes fit on one connection.
const MOST: usize = 20;
/// If a job takes more than this many times the quickest job, it waits in the API server. More jobs at once would not help.
const CROWDED: u32 = 12;
/// The quickest time grows by this fraction of itself (one part in this many) with each job: it doubles in about 11,000 jobs.
const FORGOTTEN: u32 = 16_384;
/// The limit is halved at most once in this time, because several refusals at one moment have one cause.
const PAUSE: Duration = Duration::from_secs(1);

/// The limit, and the measurements that change it.
#[derive(Debug)]
pub struct ConcurrencyLimit {
    limit: usize,
    /// Jobs that ended at full load since the limit was last reviewed or halved.
    ended: usize,
    /// The time of the quickest job. It grows slowly, so that old measurements lose weight.
    quickest: Option<Duration>,
    usual: Duration,
    halved: Option<Instant>,
    closed_until: Option<Instant>,
}

impl Default for ConcurrencyLimit {
    fn default() -> Self {
        Self { limit: START, ended: 0, quickest: None, usual: Duration::ZERO, halved: None, closed_until: None }
    }
}

impl ConcurrencyLimit {
    /// Whether another job may start while `jobs` are running.
    pub fn has_room(&self, jobs: usize, now: Instant) -> bool {
        jobs < self.limit && self.opens().is_none_or(|at| at <= now)
    }

    /// When the pause ends that the API server asked for; `None` if it asked for none.
    pub const fn opens(&self) -> Option<Instant> {
        self.closed_until
    }

    /// A job ended. `took` is its duration, `beside` the number of other jobs that are still running.
    pub fn ended(&mut self, took: Duration, beside: usize) {
        let quickest = self.quickest.map_or(took, |q| took.min(q + q / FORGOTTEN));
        self.quickest = Some(quickest);
        self.usual = if self.usual.is_zero() { took } else { (self.usual * 7 + took) / 8 };
        // A job that ends at low load does not show whether more load is possible.
        if beside + 1 < self.limit {
            return;
        }
        self.ended += 1;
        if self.ended < self.limit {
            return;
        }
        self.ended = 0;
        if self.usual <= quickest * CROWDED {
            self.limit = (self.limit + 1).min(MOST);
        } else if self.usual > quickest * CROWDED * 2 {
            self.limit = (self.limit - 1).max(START.min(self.limit));
        }
    }

    /// The API server asked for fewer requests, and for no request before `until`.
    pub fn throttled(&mut self, until: Instant, now: Instant) {
        self.closed_until = self.closed_until.max(Some(until));
        if self.halved.is_none_or(|at| at + PAUSE <= now) {
            self.halved = Some(now);
            self.limit = (self.limit / 2).max(LEAST);
            self.ended = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn busy(window: &mut ConcurrencyLimit, jobs: usize, took: Duration) {
        for _ in 0..jobs {
            window.ended(took, window.limit - 1);
        }
    }

    #[test]
    fn the_window_grows_while_the_apiserver_keeps_up_and_no_further_than_one_connection() {
        let mut window = ConcurrencyLimit::default();
        busy(&mut window, START, 5 * MS);
        assert_eq!(window.limit, START + 1);
        busy(&mut window, 1000, 5 * MS);
        assert_eq!(window.limit, MOST);
        let now = Instant::now();
        assert!(window.has_room(MOST - 1, now) && !window.has_room(MOST, now));
    }

    #[test]
    fn what_waits_in_the_apiserver_makes_it_no_wider() {
        let mut window = ConcurrencyLimit::default();
        window.ended(5 * MS, 0);
        busy(&mut window, 1000, 5 * MS * CROWDED * 3 / 2);
        assert_eq!(window.limit, START);
        busy(&mut window, 50, 5 * MS);
        let wide = window.limit;
        assert!(wide > START);
        busy(&mut window, 200, 5 * MS * CROWDED * 4);
        assert_eq!(window.limit, START, "no fewer than at the start: nobody asked for fewer");
    }

    #[test]
    fn what_ends_while_there_is_little_to_do_says_nothing() {
        let mut window = ConcurrencyLimit::default();
        for _ in 0..1000 {
            window.ended(5 * MS, 0);
        }
        assert_eq!(window.limit, START);
    }

    #[test]
    fn a_refusal_halves_the_window_and_closes_it_for_as_long_as_was_asked() {
        let now = Instant::now();
        let mut window = ConcurrencyLimit::default();
        window.throttled(now + 2 * PAUSE, now);
        window.throttled(now + PAUSE, now + 3 * MS);
        assert_eq!(window.limit, START / 2, "the refusals of one moment are one");
        assert!(!window.has_room(0, now + PAUSE));
        assert!(window.has_room(0, now + 2 * PAUSE) && !window.has_room(START / 2, now + 2 * PAUSE));
        for second in 2..20 {
            window.throttled(now + PAUSE * second, now + PAUSE * second);
        }
        assert_eq!(window.limit, LEAST);
        busy(&mut window, 1000, 5 * MS);
        assert_eq!(window.limit, MOST, "it opens again");
    }
}
