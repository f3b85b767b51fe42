//! Limits the writes of policies in each namespace, because whoever may change its labels or its opt-outs can cause them: a label that is
//! changed back and forth moves the namespace from one baseline to another. Repairs of openings have no limit here. Time is an argument.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use crate::api::NamespaceName;

/// So many writes are sent at once: ten changes of a plan with three policies.
const AT_ONCE: i32 = 30;
/// Then one is sent in this time.
const THEN_ONE_IN: Duration = Duration::from_secs(1);

/// The writes that may still be sent, by namespace. Holds only namespaces that had some recently.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
pub struct WriteBudgets {
    budgets: HashMap<NamespaceName, WriteBudget>,
    swept: Option<Instant>,
}

/// It may be overdrawn: all writes of a namespace are sent together.
#[derive(Clone, Copy, Debug)]
struct WriteBudget {
    left: i32,
    /// Since when the next write is earned.
    since: Instant,
}

impl WriteBudget {
    fn at(self, now: Instant) -> Self {
        let earned = now.saturating_duration_since(self.since).as_secs() / THEN_ONE_IN.as_secs();
        let earned = u32::try_from(earned).unwrap_or(u32::MAX);
        let left = self.left.saturating_add_unsigned(earned).min(AT_ONCE);
        Self { left, since: self.since + THEN_ONE_IN * earned }
    }
}

impl WriteBudgets {
    /// Whether the namespace may have another write now.
    pub fn allows(&self, ns: &NamespaceName, now: Instant) -> bool {
        self.budgets.get(ns).is_none_or(|budget| budget.at(now).left > 0)
    }

    /// Notes that this many writes were sent. Returns when the next one may be sent, if that is later than now.
    pub fn spend(&mut self, ns: &NamespaceName, writes: usize, now: Instant) -> Option<Instant> {
        let full = WriteBudget { left: AT_ONCE, since: now };
        let mut budget = self.budgets.get(ns).map_or(full, |budget| budget.at(now));
        budget.left = budget.left.saturating_sub_unsigned(u32::try_from(writes).unwrap_or(u32::MAX));
        self.budgets.insert(ns.clone(), budget);
        let missing = u32::try_from(1 - budget.left).ok().filter(|missing| *missing > 0)?;
        Some(budget.since + THEN_ONE_IN * missing)
    }

    /// Drops what is full again.
    pub fn sweep(&mut self, now: Instant) {
        if self.swept.is_some_and(|swept| now.saturating_duration_since(swept) < THEN_ONE_IN) {
            return;
        }
        self.swept = Some(now);
        self.budgets.retain(|_, budget| budget.at(now).left < AT_ONCE);
        if self.budgets.is_empty() {
            self.budgets = HashMap::new();
        }
    }

    /// Forgets a namespace.
    pub fn forget(&mut self, ns: &NamespaceName) {
        self.budgets.remove(ns);
    }

    /// The plan changed, which tenants cannot do: every namespace may be written to.
    pub fn plan_changed(&mut self) {
        self.budgets = HashMap::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_has_thirty_writes_then_one_a_second_and_delays_no_other() {
        let (mut budgets, start) = (WriteBudgets::default(), Instant::now());
        let (a, b) = (NamespaceName::observed("a"), NamespaceName::observed("b"));
        for _ in 0..9 {
            assert!(budgets.allows(&a, start));
            assert_eq!(budgets.spend(&a, 3, start), None);
        }
        assert_eq!(budgets.spend(&a, 6, start), Some(start + THEN_ONE_IN * 4), "three more than it had");
        assert!(budgets.allows(&b, start));
        for (seconds, allowed) in [(0, false), (3, false), (4, true)] {
            assert_eq!(budgets.allows(&a, start + THEN_ONE_IN * seconds), allowed, "{seconds}");
        }
        let (mut now, mut writes) = (start, 0);
        for _ in 0..1000 {
            now += THEN_ONE_IN / 10;
            while budgets.allows(&a, now) {
                budgets.spend(&a, 1, now);
                writes += 1;
            }
        }
        assert_eq!(writes, 97, "100 s, and the debt of three");
    }

    #[test]
    fn a_calm_namespace_a_new_plan_and_a_namespace_that_is_gone_begin_anew() {
        let (mut budgets, now) = (WriteBudgets::default(), Instant::now());
        let a = NamespaceName::observed("a");
        budgets.spend(&a, 90, now);
        budgets.sweep(now + THEN_ONE_IN * 89);
        assert!(!budgets.budgets.is_empty());
        budgets.sweep(now + THEN_ONE_IN * 90);
        assert_eq!(budgets.budgets.capacity(), 0);
        budgets.spend(&a, 90, now);
        budgets.forget(&a);
        assert!(budgets.allows(&a, now));
        budgets.spend(&a, 90, now);
        budgets.plan_changed();
        assert!(budgets.allows(&a, now));
    }
}
