//! Limits the Events in each namespace, because whoever may change something there can cause them. The Events about a baseline have a limit
//! of their own, although they are in a namespace, too. Those above the limit are left out and counted, and the next one says how many there
//! were. Time is an argument.

use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, Instant},
};

use crate::{
    api::NamespaceName,
    engine::{
        token_bucket::{Rate, TokenBucket},
        writes::Announcement,
    },
};

/// The Events of a namespace.
const RATE: Rate = Rate { at_once: 20, then_one_in: Duration::from_secs(10) };
/// How often full buckets are looked for.
const SWEEP: Duration = Duration::from_secs(1);

/// What has a limit of its own: a namespace, or a baseline by its name.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
enum Limited {
    Namespace(NamespaceName),
    Baseline(String),
}

impl Limited {
    fn of(announcement: &Announcement) -> Self {
        if announcement.reason.is_namespaced() {
            Self::Namespace(announcement.namespace.clone())
        } else {
            Self::Baseline(announcement.policy.clone())
        }
    }
}

/// The Events that may still be sent, by namespace and by baseline. Holds only those that had some recently.
#[derive(Debug, Default)]
pub struct EventBudgets {
    buckets: HashMap<Limited, TokenBucket>,
    /// What was left out, by reason.
    left_out: BTreeMap<Limited, BTreeMap<&'static str, LeftOut>>,
    /// When some of it may be sent.
    next: Option<Instant>,
    swept: Option<Instant>,
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
        self.sweep(now);
        let mut admitted = self.release(now);
        for announcement in latest {
            if !announcement.reason.is_caused_by_tenants() || self.take_one(&Limited::of(&announcement), now) {
                admitted.push(announcement);
            } else {
                self.leave_out(announcement);
            }
        }
        admitted
    }

    /// When something that was left out may be sent.
    pub const fn wakes(&self) -> Option<Instant> {
        self.next
    }

    /// All that was left out, in one Event for each namespace or baseline, and reason.
    pub fn take_left_out(&mut self) -> Vec<Announcement> {
        self.next = None;
        std::mem::take(&mut self.left_out).into_values().flat_map(BTreeMap::into_values).map(LeftOut::told).collect()
    }

    /// Whether an Event may be sent. If so, it counts as sent.
    fn take_one(&mut self, of: &Limited, now: Instant) -> bool {
        let mut bucket = TokenBucket::of(self.buckets.get(of).copied(), RATE, now);
        let may = bucket.has_some();
        if may {
            bucket.take(1);
        }
        self.buckets.insert(of.clone(), bucket);
        may
    }

    fn leave_out(&mut self, announcement: Announcement) {
        let of = Limited::of(&announcement);
        let next = self.buckets.get(&of).and_then(|bucket| bucket.next(RATE));
        self.next = self.next.into_iter().chain(next).min();
        let reasons = self.left_out.entry(of).or_default();
        match reasons.get_mut(announcement.reason.into_str()) {
            Some(left_out) => (left_out.count, left_out.last) = (left_out.count.saturating_add(1), announcement),
            None => drop(reasons.insert(announcement.reason.into_str(), LeftOut { count: 1, last: announcement })),
        }
    }

    /// What was left out and may be sent now.
    fn release(&mut self, now: Instant) -> Vec<Announcement> {
        let mut released = Vec::new();
        if self.next.is_none_or(|next| now < next) {
            return released;
        }
        self.next = None;
        for (of, mut reasons) in std::mem::take(&mut self.left_out) {
            while !reasons.is_empty() && self.take_one(&of, now) {
                released.extend(reasons.pop_first().map(|(_, left_out)| left_out.told()));
            }
            if !reasons.is_empty() {
                let next = self.buckets.get(&of).and_then(|bucket| bucket.next(RATE));
                self.next = self.next.into_iter().chain(next).min();
                self.left_out.insert(of, reasons);
            }
        }
        released
    }

    /// Drops what is full again.
    fn sweep(&mut self, now: Instant) {
        if self.swept.is_some_and(|swept| now.saturating_duration_since(swept) < SWEEP) {
            return;
        }
        self.swept = Some(now);
        self.buckets.retain(|_, bucket| !bucket.at(RATE, now).is_full(RATE));
        if self.buckets.is_empty() {
            self.buckets = HashMap::new();
        }
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
                let place = if last.reason.is_namespaced() { "in this namespace" } else { "about this baseline" };
                let note = format!("{} ({others} more Events {reason} {place} were left out just before)", last.note);
                Announcement { note, ..last }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::api::reason::EventReason;

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
        assert_eq!(budgets.wakes(), Some(now + RATE.then_one_in));
        assert!(budgets.admit(vec![], now + RATE.then_one_in / 2).is_empty());
        let rest = budgets.admit(vec![], now + RATE.then_one_in);
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
        let lost = vec![about("default", EventReason::MissingWhileTerminating); 50];
        assert_eq!(EventBudgets::default().admit(lost, now).len(), 20, "tenants cause these, although they are about a baseline");
        let later = budgets.admit(vec![], now + RATE.then_one_in * 2);
        let reasons: Vec<_> = later.iter().map(|a| a.reason).collect();
        assert_eq!(reasons, [EventReason::BaselineBypassed, EventReason::DriftRepaired]);
        assert_eq!(later[0].note, "n");
    }

    #[test]
    fn neither_tenants_of_its_namespace_nor_another_baseline_delay_an_event_about_a_baseline() {
        let (mut budgets, now) = (EventBudgets::default(), Instant::now());
        let of = |name: &str| Announcement { policy: name.into(), ..about("default", EventReason::BaselineNotReady) };
        budgets.admit(drift("default", 100), now);
        assert_eq!(budgets.admit(vec![of("a"); 100], now).len(), 20);
        assert_eq!(budgets.admit(vec![of("b")], now).len(), 1);
        let later = budgets.admit(vec![], now + RATE.then_one_in);
        assert!(
            later.iter().any(|told| told
                .note
                .ends_with("(79 more Events BaselineNotReady about this baseline were left out just before)"))
        );
    }

    #[test]
    fn what_is_left_out_at_the_end_is_told_and_a_calm_namespace_costs_nothing() {
        let (mut budgets, now) = (EventBudgets::default(), Instant::now());
        budgets.admit(drift("a", 30), now);
        assert_eq!(budgets.take_left_out().len(), 1);
        assert_eq!(budgets.wakes(), None);
        budgets.admit(vec![], now + RATE.then_one_in * 19);
        assert!(!budgets.buckets.is_empty());
        budgets.admit(vec![], now + RATE.then_one_in * 20);
        assert_eq!(budgets.buckets.capacity(), 0);
    }
}
