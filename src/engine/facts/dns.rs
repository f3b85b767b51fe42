//! The state of DNS discovery.

use std::time::{Duration, Instant};

use crate::policy::dns::{ClusterDns, Memory, Sources};

/// What the engine knows about the cluster's DNS.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
pub struct DnsState {
    /// What the DNS sources report.
    pub sources: Sources,
    /// The stored statuses were read since the start.
    pub is_recalled: bool,
    /// What was found recently. It is kept for a while after it is gone.
    pub memory: Memory,
    /// The DNS that the plans use.
    pub cluster: ClusterDns,
    /// When the DNS must be derived again without an event.
    pub due: Option<Instant>,
    /// The changes that may still be written to all namespaces.
    pub budget: ChangeBudget,
}

/// The changes of DNS that pods may need: so many at once.
const NEEDED_AT_ONCE: u32 = 10;
/// Then one in this time.
const NEEDED_THEN_ONE_IN: Duration = Duration::from_secs(10);
/// All other changes: so many at once.
const OTHER_AT_ONCE: u32 = 2;
/// Then one in this time.
const OTHER_THEN_ONE_IN: Duration = Duration::from_secs(30);

/// Spaces the changes of DNS, because each one writes a policy in every namespace. Changes that come meanwhile go out together.
#[derive(Clone, Debug)]
pub struct ChangeBudget {
    needed: Bucket,
    other: Bucket,
}

impl Default for ChangeBudget {
    fn default() -> Self {
        Self {
            needed: Bucket { most: NEEDED_AT_ONCE, period: NEEDED_THEN_ONE_IN, spent: 0, since: None },
            other: Bucket { most: OTHER_AT_ONCE, period: OTHER_THEN_ONE_IN, spent: 0, since: None },
        }
    }
}

impl ChangeBudget {
    /// Takes a change, or says when there is one again.
    pub fn take(&mut self, is_needed: bool, now: Instant) -> Result<(), Instant> {
        if is_needed { self.needed.take(now) } else { self.other.take(now) }
    }
}

#[derive(Clone, Debug)]
struct Bucket {
    most: u32,
    period: Duration,
    /// How many were taken and are not earned back.
    spent: u32,
    /// Since when the next one is earned; `None` if none is spent.
    since: Option<Instant>,
}

impl Bucket {
    fn take(&mut self, now: Instant) -> Result<(), Instant> {
        while let Some(since) = self.since.filter(|since| now.saturating_duration_since(*since) >= self.period) {
            self.spent = self.spent.saturating_sub(1);
            self.since = (self.spent > 0).then_some(since + self.period);
        }
        let since = *self.since.get_or_insert(now);
        if self.spent >= self.most {
            return Err(since + self.period);
        }
        self.spent += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_changes_go_at_once_and_the_later_ones_are_spaced() {
        let start = Instant::now();
        for (is_needed, at_once, period) in
            [(true, NEEDED_AT_ONCE, NEEDED_THEN_ONE_IN), (false, OTHER_AT_ONCE, OTHER_THEN_ONE_IN)]
        {
            let mut budget = ChangeBudget::default();
            for _ in 0..at_once {
                assert_eq!(budget.take(is_needed, start), Ok(()));
            }
            assert_eq!(budget.take(is_needed, start), Err(start + period));
            assert_eq!(budget.take(!is_needed, start), Ok(()), "the other kind does not wait for it");
            let (mut now, mut taken) = (start, 0);
            for _ in 0..100 {
                now += period / 10;
                taken += u32::from(budget.take(is_needed, now).is_ok());
            }
            assert_eq!(taken, 10);
            // After a calm time, it is as at first.
            now += period * (at_once + 1);
            for _ in 0..at_once {
                assert_eq!(budget.take(is_needed, now), Ok(()));
            }
            assert!(budget.take(is_needed, now).is_err());
        }
    }
}
