//! A rollout: decides which namespaces get a change, and when. Handles the waves, the time between them, and pauses.
//! It works with namespace names and counts only; it uses no client, no policy and no clock.
//! One file: a third of it is the tests of one state machine.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use crate::api::{NamespaceName, reason::rollout};

/// How a rollout brings a change to the namespaces.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Strategy {
    /// How many namespaces one wave has.
    pub share: Share,
    /// The time from the end of a wave to the start of the next one.
    pub interval: SignedDuration,
    /// The rollout pauses when the new policies cannot be written in more than this many namespaces.
    pub max_failures: u32,
}

/// The size of a wave.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Share {
    /// This many namespaces.
    Number(usize),
    /// This percentage of all namespaces of the rollout.
    Percent(usize),
}

impl Share {
    /// How many of `total` namespaces this is: rounded up, and at least one.
    pub fn of(self, total: usize) -> usize {
        match self {
            Self::Number(number) => number.max(1),
            Self::Percent(percent) => total.saturating_mul(percent).div_ceil(100).max(1),
        }
    }
}

/// The state of a namespace that the rollout has reached.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Progress {
    /// The operator is writing the new policies.
    Writing,
    /// The namespace has held the new policies. A later change by somebody else is drift and does not delay the next wave.
    Holds,
    /// The policies could not be written, although the API server could be reached.
    Fails,
}

/// The order in which a rollout reaches namespaces: a smaller rank goes first.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum WaveRank {
    /// The namespace matches the canary selector.
    Canary,
    /// The namespace holds a revision whose rollout was abandoned.
    Left,
    /// Any other namespace.
    Other,
}

/// Why a rollout does not continue.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Pause {
    /// The reason as one word, for a condition.
    pub reason: String,
    /// One sentence that also says what to do.
    pub message: String,
}

/// What the caller has to do next.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum NextStep {
    /// Nothing for now.
    Wait,
    /// Begin a wave: call [`RolloutProgress::begin`].
    Begin,
    /// End the rollout: every namespace is reached.
    Finish,
}

/// The state of one rollout: which namespaces it has reached, and when the next wave begins.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub struct RolloutProgress {
    /// Wave size, interval and failure limit.
    pub strategy: Strategy,
    reached: BTreeMap<NamespaceName, Progress>,
    holding: usize,
    failing: usize,
    waves: u32,
    next: Option<Timestamp>,
    paused: Option<Pause>,
}

impl RolloutProgress {
    /// A new rollout, or one that continues from a stored status: `waves` have begun, and `next` is the time of the next wave.
    /// A `next` that is not after `now` is ignored, because that wave may have begun already.
    pub fn new(strategy: Strategy, waves: u32, next: Option<Timestamp>, paused: Option<Pause>, now: Timestamp) -> Self {
        let next = next.filter(|at| *at > now);
        Self { strategy, reached: BTreeMap::new(), holding: 0, failing: 0, waves, next, paused }
    }

    /// Records the state of a namespace. A namespace that holds the policies does not go back to [`Progress::Writing`].
    pub fn set(&mut self, ns: &NamespaceName, progress: Progress) {
        let before = self.reached.get(ns).copied();
        if before == Some(Progress::Holds) && progress == Progress::Writing {
            return;
        }
        self.count(before, false);
        self.count(Some(progress), true);
        self.reached.insert(ns.clone(), progress);
    }

    /// The rollout no longer concerns this namespace.
    pub fn forget(&mut self, ns: &NamespaceName) {
        let before = self.reached.remove(ns);
        self.count(before, false);
    }

    fn count(&mut self, progress: Option<Progress>, more: bool) {
        let counter = match progress {
            Some(Progress::Holds) => &mut self.holding,
            Some(Progress::Fails) => &mut self.failing,
            Some(Progress::Writing) | None => return,
        };
        *counter = if more { *counter + 1 } else { counter.saturating_sub(1) };
    }

    /// Whether the rollout has reached this namespace.
    pub fn has_reached(&self, ns: &NamespaceName) -> bool {
        self.reached.contains_key(ns)
    }

    /// How many namespaces the rollout has reached.
    pub fn reached(&self) -> usize {
        self.reached.len()
    }

    /// How many of the reached namespaces have held the new policies.
    pub const fn holding(&self) -> usize {
        self.holding
    }

    /// How many waves have begun.
    pub const fn waves(&self) -> u32 {
        self.waves
    }

    /// When the next wave begins. `None` if the rollout is paused, or waits for something other than time.
    pub fn next(&self) -> Option<Timestamp> {
        self.next.filter(|_| self.paused.is_none())
    }

    /// Why the rollout is paused; `None` if it is not.
    pub const fn paused(&self) -> Option<&Pause> {
        self.paused.as_ref()
    }

    /// The owner edited the spec: the rollout continues. It pauses again if the cause is still there.
    pub fn resume(&mut self) {
        self.paused = None;
    }

    /// The rollout stops waiting for the policies that are being written in this namespace.
    pub fn wait_no_more(&mut self, ns: &NamespaceName) {
        if self.reached.get(ns) == Some(&Progress::Writing) {
            self.forget(ns);
        }
    }

    /// No waiting namespace can be reached now: tries again after the interval, and after one second at the earliest.
    pub fn postpone(&mut self, now: Timestamp) {
        self.next = Some(whole_second_after(now, self.strategy.interval.max(SignedDuration::from_secs(1))));
    }

    /// Decides what to do next. `waiting` is the number of namespaces that are not reached yet.
    pub fn step(&mut self, waiting: usize, now: Timestamp) -> NextStep {
        if self.paused.is_some() {
            return NextStep::Wait;
        }
        if self.failing > self.strategy.max_failures as usize {
            let (failing, limit) = (self.failing, self.strategy.max_failures);
            let why =
                format!("the new policies cannot be written in {failing} namespaces, and maxFailures is {limit}; see violations");
            self.pause(rollout::TOO_MANY_FAILURES, &why);
            return NextStep::Wait;
        }
        if self.reached.len() > self.holding + self.failing {
            // The current wave is not complete.
            self.next = None;
            return NextStep::Wait;
        }
        if waiting == 0 {
            self.next = None;
            return NextStep::Finish;
        }
        if self.waves == 0 && self.reached.is_empty() && self.next.is_none() {
            return NextStep::Begin;
        }
        let next = *self.next.get_or_insert_with(|| whole_second_after(now, self.strategy.interval));
        if now >= next { NextStep::Begin } else { NextStep::Wait }
    }

    fn pause(&mut self, reason: &str, why: &str) {
        let message =
            format!("{why}. No further namespace is changed until the spec is edited: correct it, or revert the change");
        self.next = None;
        self.paused = Some(Pause { reason: reason.into(), message });
    }

    /// Begins a wave and returns its namespaces. If canaries are waiting, the wave is all canaries.
    /// Otherwise it takes as many namespaces as the share allows, ordered by rank and name.
    pub fn begin(&mut self, mut waiting: Vec<(WaveRank, NamespaceName)>) -> Vec<NamespaceName> {
        waiting.sort_unstable();
        let canaries = waiting.partition_point(|(rank, _)| *rank == WaveRank::Canary);
        let total = waiting.len() + self.reached.len();
        waiting.truncate(if canaries > 0 { canaries } else { self.strategy.share.of(total) });
        self.waves = self.waves.saturating_add(1);
        self.next = None;
        let wave: Vec<NamespaceName> = waiting.into_iter().map(|(_, ns)| ns).collect();
        for ns in &wave {
            self.set(ns, Progress::Writing);
        }
        wave
    }
}

/// Rounds up to a whole second: a status stores whole seconds, and a wave must not begin too early.
fn whole_second_after(now: Timestamp, interval: SignedDuration) -> Timestamp {
    let at = now.saturating_add(interval).unwrap_or(Timestamp::MAX);
    let whole = Timestamp::from_second(at.as_second()).unwrap_or(at);
    if whole < at { Timestamp::from_second(at.as_second() + 1).unwrap_or(at) } else { whole }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    const START: i64 = 1_000;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn ns(name: &str) -> NamespaceName {
        NamespaceName::observed(name)
    }

    fn strategy(share: Share, max_failures: u32) -> super::Strategy {
        super::Strategy { share, interval: SignedDuration::from_secs(60), max_failures }
    }

    fn fresh(share: Share, max_failures: u32) -> RolloutProgress {
        RolloutProgress::new(strategy(share, max_failures), 0, None, None, at(START))
    }

    fn waiting(ranked: &[(WaveRank, &str)]) -> Vec<(WaveRank, NamespaceName)> {
        ranked.iter().map(|(rank, name)| (*rank, ns(name))).collect()
    }

    fn step(rollout: &mut RolloutProgress, waiting: usize, second: i64) -> NextStep {
        rollout.step(waiting, at(second))
    }

    #[test]
    fn a_share_is_rounded_up_and_never_nothing() {
        for (share, total, wave) in [
            (Share::Percent(10), 21, 3),
            (Share::Percent(1), 3, 1),
            (Share::Percent(100), 7, 7),
            (Share::Number(5), 2, 5),
            (Share::Number(0), 2, 1),
            (Share::Percent(10), 0, 1),
        ] {
            assert_eq!(share.of(total), wave, "{share:?} of {total}");
        }
    }

    #[test]
    fn canaries_go_first_all_of_them_then_what_was_left_then_the_rest_by_name() {
        let mut rollout = fresh(Share::Number(2), 0);
        let mut left = waiting(&[
            (WaveRank::Other, "b"),
            (WaveRank::Canary, "z"),
            (WaveRank::Other, "a"),
            (WaveRank::Canary, "y"),
            (WaveRank::Canary, "x"),
            (WaveRank::Left, "q"),
        ]);
        let mut waves = Vec::new();
        while !left.is_empty() {
            let wave = rollout.begin(left.clone());
            left.retain(|(_, ns)| !wave.contains(ns));
            waves.push(wave.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "));
        }
        assert_eq!(waves, ["x y z", "q a", "b"]);
        assert_eq!(rollout.waves(), 3);
    }

    #[test]
    fn the_next_wave_begins_when_the_last_one_is_there_and_the_interval_has_passed() {
        let mut rollout = fresh(Share::Number(1), 0);
        assert_eq!(step(&mut rollout, 2, START), NextStep::Begin, "the first one at once");
        rollout.begin(waiting(&[(WaveRank::Other, "a"), (WaveRank::Other, "b")]));
        assert_eq!(step(&mut rollout, 1, START + 500), NextStep::Wait);
        assert_eq!(rollout.next(), None);
        rollout.set(&ns("a"), Progress::Holds);
        assert_eq!(step(&mut rollout, 1, START + 600), NextStep::Wait);
        assert_eq!(rollout.next(), Some(at(START + 660)));
        // A change that somebody makes in this namespace meanwhile does not delay the rollout.
        rollout.set(&ns("a"), Progress::Writing);
        assert_eq!(step(&mut rollout, 1, START + 659), NextStep::Wait);
        assert_eq!(step(&mut rollout, 1, START + 660), NextStep::Begin);
        rollout.begin(waiting(&[(WaveRank::Other, "b")]));
        rollout.set(&ns("b"), Progress::Holds);
        assert_eq!(step(&mut rollout, 0, START + 661), NextStep::Finish, "nothing waits for the last one");
    }

    #[test]
    fn a_namespace_that_goes_holds_up_no_wave() {
        let mut rollout = fresh(Share::Number(1), 0);
        rollout.begin(waiting(&[(WaveRank::Other, "a")]));
        assert_eq!(step(&mut rollout, 0, START), NextStep::Wait);
        rollout.forget(&ns("a"));
        assert_eq!((step(&mut rollout, 0, START), rollout.reached()), (NextStep::Finish, 0));
    }

    #[test]
    fn more_failures_than_allowed_pause_it_until_the_spec_is_edited() {
        let mut rollout = fresh(Share::Number(2), 1);
        rollout.begin(waiting(&[(WaveRank::Other, "a"), (WaveRank::Other, "b")]));
        rollout.set(&ns("a"), Progress::Fails);
        rollout.set(&ns("b"), Progress::Holds);
        assert_eq!(step(&mut rollout, 5, START), NextStep::Wait);
        assert!(rollout.paused().is_none() && rollout.next().is_some(), "one failure is allowed, and delays nobody");
        rollout.set(&ns("b"), Progress::Fails);
        assert_eq!(step(&mut rollout, 5, START + 999), NextStep::Wait);
        assert_eq!(rollout.paused().unwrap().reason, "TooManyFailures");
        rollout.set(&ns("a"), Progress::Holds);
        rollout.set(&ns("b"), Progress::Holds);
        assert_eq!((step(&mut rollout, 5, START + 9999), rollout.next()), (NextStep::Wait, None), "also when they end");
        rollout.resume();
        assert_eq!(step(&mut rollout, 5, START + 9999), NextStep::Wait);
        assert_eq!(step(&mut rollout, 5, START + 9999 + 60), NextStep::Begin);
    }

    #[test]
    fn what_goes_on_after_a_restart_is_later_never_earlier() {
        let go_on = |next: Option<i64>, now: i64| {
            let mut rollout = RolloutProgress::new(strategy(Share::Number(1), 0), 3, next.map(at), None, at(now));
            rollout.set(&ns("a"), Progress::Holds);
            assert_eq!(step(&mut rollout, 1, now), NextStep::Wait);
            rollout.next().unwrap().as_second()
        };
        assert_eq!(go_on(Some(START + 30), START), START + 30, "it is stored");
        assert_eq!(go_on(Some(START - 30), START), START + 60, "that wave may have begun");
        assert_eq!(go_on(None, START), START + 60);
        // Without a stored status: the reached namespace shows that the rollout has begun.
        let mut rollout = fresh(Share::Number(1), 0);
        rollout.set(&ns("a"), Progress::Holds);
        assert_eq!(step(&mut rollout, 1, START), NextStep::Wait);
    }

    #[test]
    fn a_status_can_hold_the_time_of_the_next_wave() {
        let half = at(START) + SignedDuration::from_millis(500);
        assert_eq!(whole_second_after(half, SignedDuration::from_secs(60)), at(START + 61));
        assert_eq!(whole_second_after(at(START), SignedDuration::from_secs(60)), at(START + 60));
    }

    proptest! {
        /// For any sequence of namespace events: at most one wave is in progress, no wave begins too early, and the rollout ends.
        #[test]
        fn never_more_than_a_wave_is_under_way(names in vec(0u16..500, 1..40), size in 1usize..6, luck in vec(0u8..4, 200)) {
            let mut left: Vec<(WaveRank, NamespaceName)> = names.iter().map(|n| (WaveRank::Other, ns(&format!("n{n:03}")))).collect();
            left.sort_unstable();
            left.dedup();
            let mut rollout = fresh(Share::Number(size), u32::MAX);
            let (mut under_way, mut now, mut ended): (Vec<NamespaceName>, i64, Option<i64>) = (vec![], START, None);
            let mut luck = luck.into_iter().cycle();
            for _ in 0..10_000 {
                now += 7;
                match step(&mut rollout, left.len(), now) {
                    NextStep::Begin => {
                        prop_assert!(under_way.is_empty(), "a wave begins while one is under way");
                        prop_assert!(ended.is_none_or(|ended| now >= ended + 60), "a wave begins too early");
                        under_way = rollout.begin(left.clone());
                        prop_assert!(under_way.len() <= size);
                        let first: Vec<_> = left.drain(..under_way.len()).map(|(_, ns)| ns).collect();
                        prop_assert_eq!(&under_way, &first, "in order");
                    }
                    NextStep::Finish => {
                        prop_assert!(left.is_empty() && under_way.is_empty());
                        return Ok(());
                    }
                    NextStep::Wait => {}
                }
                if let Some(one) = under_way.last().cloned() {
                    match luck.next().unwrap() {
                        0 => {}
                        1 => rollout.forget(&one),
                        2 => rollout.set(&one, Progress::Fails),
                        _ => rollout.set(&one, Progress::Holds),
                    }
                    if rollout.reached.get(&one) != Some(&Progress::Writing) {
                        under_way.pop();
                        ended = Some(now);
                    }
                }
            }
            prop_assert!(false, "it does not end");
        }
    }
}
