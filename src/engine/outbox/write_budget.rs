//! Limits the writes of policies in each namespace, because whoever may change its labels or its opt-outs can cause them: a label that is
//! changed back and forth moves the namespace from one baseline to another. Repairs of openings have no limit here. Time is an argument.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use crate::{
    api::NamespaceName,
    engine::token_bucket::{Rate, TokenBucket},
};

/// So many changes of a plan at once.
const CHANGES: i32 = 10;
/// For a plan with three policies. One with more may have that many more at once.
const RATE: Rate = Rate { at_once: 30, then_one_in: Duration::from_secs(1) };

/// The writes that may still be sent, by namespace. Holds only namespaces that had some recently.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
pub struct WriteBudgets {
    /// They may be overdrawn: all writes of a namespace are sent together.
    buckets: HashMap<NamespaceName, TokenBucket>,
    swept: Option<Instant>,
}

impl WriteBudgets {
    /// Whether the namespace, whose plan has so many policies, may have another write now.
    pub fn allows(&self, ns: &NamespaceName, policies: usize, now: Instant) -> bool {
        self.buckets.get(ns).is_none_or(|bucket| bucket.at(RATE, now).plus(more(policies)).has_some())
    }

    /// Notes that this many writes were sent. Returns when the next one may be sent, if that is later than now.
    pub fn spend(&mut self, ns: &NamespaceName, writes: usize, policies: usize, now: Instant) -> Option<Instant> {
        let mut bucket = TokenBucket::of(self.buckets.get(ns).copied(), RATE, now);
        bucket.take(writes);
        self.buckets.insert(ns.clone(), bucket);
        bucket.plus(more(policies)).next(RATE)
    }

    /// When another write of any plan may be sent, if it is not now.
    pub fn next_of_any(&self, ns: &NamespaceName) -> Option<Instant> {
        self.buckets.get(ns)?.next(RATE)
    }

    /// Drops what is full again.
    pub fn sweep(&mut self, now: Instant) {
        if self.swept.is_some_and(|swept| now.saturating_duration_since(swept) < RATE.then_one_in) {
            return;
        }
        self.swept = Some(now);
        self.buckets.retain(|_, bucket| !bucket.at(RATE, now).is_full(RATE));
        if self.buckets.is_empty() {
            self.buckets = HashMap::new();
        }
    }

    /// Forgets a namespace.
    pub fn forget(&mut self, ns: &NamespaceName) {
        self.buckets.remove(ns);
    }

    /// The plan changed, which tenants cannot do: every namespace may be written to.
    pub fn plan_changed(&mut self) {
        self.buckets = HashMap::new();
    }
}

/// How many more writes at once a plan with so many policies may have than one with three.
fn more(policies: usize) -> i32 {
    i32::try_from(policies).unwrap_or(i32::MAX).saturating_mul(CHANGES).saturating_sub(RATE.at_once).max(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const THREE: usize = 3;

    #[test]
    fn a_namespace_with_many_policies_has_ten_changes_of_its_plan_too() {
        let (mut budgets, start) = (WriteBudgets::default(), Instant::now());
        let a = NamespaceName::observed("a");
        for _ in 0..9 {
            assert!(budgets.allows(&a, 19, start));
            assert_eq!(budgets.spend(&a, 19, 19, start), None);
        }
        assert!(budgets.allows(&a, 19, start) && !budgets.allows(&a, THREE, start));
        assert_eq!(budgets.spend(&a, 19, 19, start), Some(start + RATE.then_one_in));
        assert!(!budgets.allows(&a, 19, start) && budgets.allows(&a, 19, start + RATE.then_one_in));
    }

    #[test]
    fn what_a_large_plan_overdraws_is_waited_for_when_the_plan_becomes_small() {
        let (mut budgets, start) = (WriteBudgets::default(), Instant::now());
        let a = NamespaceName::observed("a");
        assert_eq!(budgets.spend(&a, 40, 6, start), None);
        assert!(budgets.allows(&a, 6, start) && !budgets.allows(&a, THREE, start));
        let at = budgets.next_of_any(&a).unwrap();
        assert!(!budgets.allows(&a, THREE, start + RATE.then_one_in * 10) && budgets.allows(&a, THREE, at));
    }

    #[test]
    fn a_namespace_has_thirty_writes_then_one_a_second_and_delays_no_other() {
        let (mut budgets, start) = (WriteBudgets::default(), Instant::now());
        let (a, b) = (NamespaceName::observed("a"), NamespaceName::observed("b"));
        for _ in 0..9 {
            assert!(budgets.allows(&a, THREE, start));
            assert_eq!(budgets.spend(&a, 3, THREE, start), None);
        }
        assert_eq!(budgets.spend(&a, 6, THREE, start), Some(start + RATE.then_one_in * 4), "three more than it had");
        assert!(budgets.allows(&b, THREE, start));
        for (seconds, allowed) in [(0, false), (3, false), (4, true)] {
            assert_eq!(budgets.allows(&a, THREE, start + RATE.then_one_in * seconds), allowed, "{seconds}");
        }
        let (mut now, mut writes) = (start, 0);
        for _ in 0..1000 {
            now += RATE.then_one_in / 10;
            while budgets.allows(&a, THREE, now) {
                budgets.spend(&a, 1, THREE, now);
                writes += 1;
            }
        }
        assert_eq!(writes, 97, "100 s, and the debt of three");
    }

    #[test]
    fn a_calm_namespace_a_new_plan_and_a_namespace_that_is_gone_begin_anew() {
        let (mut budgets, now) = (WriteBudgets::default(), Instant::now());
        let a = NamespaceName::observed("a");
        budgets.spend(&a, 90, THREE, now);
        budgets.sweep(now + RATE.then_one_in * 89);
        assert!(!budgets.buckets.is_empty());
        budgets.sweep(now + RATE.then_one_in * 90);
        assert_eq!(budgets.buckets.capacity(), 0);
        budgets.spend(&a, 90, THREE, now);
        budgets.forget(&a);
        assert!(budgets.allows(&a, THREE, now));
        budgets.spend(&a, 90, THREE, now);
        budgets.plan_changed();
        assert!(budgets.allows(&a, THREE, now));
    }
}
