//! Every other write, and when to look again: statuses, finalizers, what opt-outs carry, labels and revisions.

use std::time::Instant;

use super::{
    Engine,
    clock::Now,
    facts::baseline::InstallOwnership,
    outbox::baseline_status::BaselineState,
    writes::{FinalizerWrite, StatusWrite, StoredStatus, WriteError},
};

impl Engine {
    /// Statuses to write now. None before everything known has been looked at: a half-counted status would be a lie.
    pub fn statuses(&mut self, now: Now) -> Vec<StatusWrite> {
        if !self.elected || !self.is_synced() || !self.dirty.is_empty() {
            return vec![];
        }
        let (leads, unsupported_policy_kinds, unlisted) =
            (self.leads, self.unsupported_policy_kinds.as_ref(), self.unlisted_callers());
        let ours = |tracked: &BaselineState| match tracked.turn {
            InstallOwnership::Ours => leads,
            InstallOwnership::Waits => true,
            InstallOwnership::Theirs => false,
        };
        self.tracked
            .iter_mut()
            .filter(|(_, tracked)| ours(tracked))
            .filter_map(|(name, tracked)| tracked.status_due(name, unsupported_policy_kinds, &unlisted, now))
            .collect()
    }

    /// A status write ended.
    pub fn status_written(&mut self, name: &str, uid: &str, result: Result<StoredStatus, WriteError>, now: Now) {
        if let Some(tracked) = self.tracked.get_mut(name).filter(|t| *t.uid == *uid) {
            tracked.status_written(name, result, now);
        }
    }

    /// Finalizers to add or remove now.
    pub fn finalizers(&mut self, now: Now) -> Vec<FinalizerWrite> {
        if !self.leads || !self.is_synced() {
            return vec![];
        }
        let quiet = self.dirty.is_empty() && self.ready.is_empty() && self.in_flight.is_empty();
        self.tracked.iter_mut().filter_map(|(name, tracked)| tracked.finalizer_due(name, quiet, now.instant)).collect()
    }

    /// A finalizer write ended.
    pub fn finalizer_written(&mut self, name: &str, result: Result<(), WriteError>, now: Now) {
        if let Some(tracked) = self.tracked.get_mut(name) {
            tracked.finalizer_written(name, result, now.instant);
        }
    }

    /// When to look again though nothing happens. What was due at `now` has been served by the calls before.
    pub fn next_wake(&self, now: Now) -> Option<Instant> {
        let tracked = self.tracked.values().flat_map(BaselineState::wakes);
        tracked
            .chain(self.pace.next())
            .chain(self.installs.next())
            .chain(self.opt_outs.wakes(now))
            .chain(self.dns_wake(now.instant))
            .chain(self.backends.ending.values().min().copied())
            .chain(self.rollouts.wakes())
            .chain(self.marks.wakes())
            .filter(|at| *at > now.instant)
            .min()
    }

    pub(super) fn touch_statuses(&mut self, now: Now) {
        self.tracked.values_mut().for_each(|tracked| tracked.touch(now.instant));
    }
}
