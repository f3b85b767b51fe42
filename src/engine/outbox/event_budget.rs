//! Limits the Events in each namespace, because whoever may change something there can cause them. Those above the limit are left out and
//! counted, and the next one says how many there were. Time is an argument.

use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, Instant},
};

use crate::{
    api::{NamespaceName, reason::EventReason},
    engine::writes::Announcement,
};

/// So many Events are sent at once.
const AT_ONCE: u32 = 20;
/// Then one is sent in this time.
const THEN_ONE_IN: Duration = Duration::from_secs(10);

/// The Events that may still be sent, by namespace. Holds only namespaces that had some recently.
#[derive(Debug, Default)]
pub struct EventBudgets(HashMap<NamespaceName, EventBudget>);

#[derive(Debug)]
struct EventBudget {
    left: u32,
    /// Since when the next one is earned.
    since: Instant,
    left_out: BTreeMap<&'static str, LeftOut>,
}

/// What was left out for one reason.
#[derive(Debug)]
struct LeftOut {
    count: u32,
    last: Announcement,
}

impl EventBudgets {
    /// Those of `latest` that may be sent now, and what was left out before and may be sent now.
    pub fn admit(&mut self, latest: Vec<Announcement>, now: Instant) -> Vec<Announcement> {
        let mut admitted = self.refill(now);
        for announcement in latest {
            // Tenants cause none of the others.
            if !announcement.reason.is_namespaced() {
                admitted.push(announcement);
                continue;
            }
            let budget = self.0.entry(announcement.namespace.clone()).or_insert_with(|| EventBudget {
                left: AT_ONCE,
                since: now,
                left_out: BTreeMap::new(),
            });
            admitted.extend(budget.admit(announcement));
        }
        admitted
    }

    /// When something that was left out may be sent.
    pub fn wakes(&self) -> Option<Instant> {
        self.0.values().filter(|budget| !budget.left_out.is_empty()).map(|budget| budget.since + THEN_ONE_IN).min()
    }

    /// All that was left out, in one Event for each namespace and reason.
    pub fn take_left_out(&mut self) -> Vec<Announcement> {
        std::mem::take(&mut self.0).into_values().flat_map(|budget| budget.left_out.into_values()).map(LeftOut::told).collect()
    }

    fn refill(&mut self, now: Instant) -> Vec<Announcement> {
        let mut admitted = Vec::new();
        self.0.retain(|_, budget| {
            while budget.left < AT_ONCE && budget.since + THEN_ONE_IN <= now {
                budget.left += 1;
                budget.since += THEN_ONE_IN;
            }
            while budget.left > 0
                && let Some((_, left_out)) = budget.left_out.pop_first()
            {
                budget.left -= 1;
                admitted.push(left_out.told());
            }
            budget.left < AT_ONCE
        });
        if self.0.is_empty() {
            self.0 = HashMap::new();
        }
        admitted
    }
}

impl EventBudget {
    fn admit(&mut self, announcement: Announcement) -> Option<Announcement> {
        let reason: EventReason = announcement.reason;
        if self.left > 0 {
            self.left -= 1;
            return Some(announcement);
        }
        match self.left_out.get_mut(reason.into_str()) {
            Some(left_out) => (left_out.count, left_out.last) = (left_out.count.saturating_add(1), announcement),
            None => drop(self.left_out.insert(reason.into_str(), LeftOut { count: 1, last: announcement })),
        }
        None
    }
}

impl LeftOut {
    /// One Event for all of them: the last one, with the number of the others.
    fn told(self) -> Announcement {
        let Self { count, last } = self;
        match count.checked_sub(1).filter(|others| *others > 0) {
            None => last,
            Some(others) => {
                let reason = last.reason.into_str();
                let note = format!("{} ({others} more Events {reason} in this namespace were left out just before)", last.note);
                Announcement { note, ..last }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    fn about(namespace: &str, reason: EventReason) -> Announcement {
        Announcement {
            namespace: NamespaceName::observed(namespace),
            policy: "p".into(),
            uid: None,
            reason,
            note: "n".into(),
            at: Timestamp::UNIX_EPOCH,
        }
    }

    fn drift(namespace: &str, count: usize) -> Vec<Announcement> {
        vec![about(namespace, EventReason::DriftRepaired); count]
    }

    #[test]
    fn a_thousand_events_become_twenty_and_one_that_counts_the_rest() {
        let (mut budgets, now) = (EventBudgets::default(), Instant::now());
        assert_eq!(budgets.admit(drift("a", 1000), now).len(), 20);
        assert_eq!(budgets.wakes(), Some(now + THEN_ONE_IN));
        assert!(budgets.admit(vec![], now + THEN_ONE_IN / 2).is_empty());
        let rest = budgets.admit(vec![], now + THEN_ONE_IN);
        assert!(
            rest.len() == 1 && rest[0].note == "n (979 more Events DriftRepaired in this namespace were left out just before)",
            "{rest:?}"
        );
        assert_eq!(budgets.wakes(), None);
    }

    #[test]
    fn no_reason_hides_another_and_no_namespace_delays_another() {
        let (mut budgets, now) = (EventBudgets::default(), Instant::now());
        budgets.admit(drift("a", 100), now);
        assert!(budgets.admit(vec![about("a", EventReason::BaselineBypassed)], now).is_empty());
        assert_eq!(budgets.admit(drift("b", 1), now).len(), 1);
        let cluster = about("default", EventReason::WaitsForInstall);
        assert_eq!(budgets.admit(vec![cluster; 50], now).len(), 50, "nobody in a namespace causes these");
        let later = budgets.admit(vec![], now + THEN_ONE_IN * 2);
        let reasons: Vec<_> = later.iter().map(|a| a.reason).collect();
        assert_eq!(reasons, [EventReason::BaselineBypassed, EventReason::DriftRepaired]);
        assert_eq!(later[0].note, "n");
    }

    #[test]
    fn what_is_left_out_at_the_end_is_told_and_a_calm_namespace_costs_nothing() {
        let (mut budgets, now) = (EventBudgets::default(), Instant::now());
        budgets.admit(drift("a", 30), now);
        assert_eq!(budgets.take_left_out().len(), 1);
        budgets.admit(drift("a", 3), now);
        budgets.admit(vec![], now + THEN_ONE_IN * 3);
        assert_eq!(budgets.0.capacity(), 0);
    }
}
