//! The state of DNS discovery.

use std::time::{Duration, Instant};

use crate::{
    engine::token_bucket::{Rate, TokenBucket},
    policy::dns::{ClusterDns, Memory, Sources},
};

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

/// The changes of DNS that pods may need.
const NEEDED: Rate = Rate { at_once: 10, then_one_in: Duration::from_secs(10) };
/// All other changes.
const OTHER: Rate = Rate { at_once: 2, then_one_in: Duration::from_secs(30) };

/// Spaces the changes of DNS, because each one writes a policy in every namespace. Changes that come meanwhile go out together.
#[derive(Clone, Debug, Default)]
pub struct ChangeBudget {
    needed: Option<TokenBucket>,
    other: Option<TokenBucket>,
}

impl ChangeBudget {
    /// Takes a change, or says when there is one again.
    pub fn take(&mut self, is_needed: bool, now: Instant) -> Result<(), Instant> {
        let (known, rate) = if is_needed { (&mut self.needed, NEEDED) } else { (&mut self.other, OTHER) };
        let bucket = known.insert(TokenBucket::of(*known, rate, now));
        if let Some(next) = bucket.next(rate) {
            return Err(next);
        }
        bucket.take(1);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_changes_go_at_once_and_the_later_ones_are_spaced() {
        let start = Instant::now();
        for (is_needed, rate) in [(true, NEEDED), (false, OTHER)] {
            let (at_once, period) = (rate.at_once.unsigned_abs(), rate.then_one_in);
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
