//! All writes except those of policies, the results of all writes, and the time of the next wake-up.

use std::time::Instant;

use super::{
    Engine,
    clock::Now,
    facts::baseline::InstallOwnership,
    installs::about_baseline,
    outbox::{
        Write, Written,
        baseline_status::{BaselineState, ClusterFacts, FinalizerWrite, StatusWrite, StoredStatus},
    },
    writes::WriteError,
};

impl Engine {
    /// All writes that are due now, except those of policies. `is_paused`: the API server asked for a pause. Labels of namespaces then
    /// wait, as policies do.
    pub fn writes(&mut self, now: Now, is_paused: bool) -> Vec<Write> {
        let mut writes: Vec<Write> = self.statuses(now).into_iter().map(|status| Write::Status(Box::new(status))).collect();
        writes.extend(self.finalizers(now).into_iter().map(Write::Finalizer));
        writes.extend(self.opt_out_writes(now).into_iter().map(Write::OptOut));
        let own = self.installs.own().clone();
        writes.extend(self.revisions(now).into_iter().map(|write| Write::Revision(own.clone(), write)));
        if !is_paused {
            writes.extend(self.label_writes(now).into_iter().map(Write::NamespaceLabel));
        }
        writes
    }

    /// Takes the result of a write.
    pub fn written(&mut self, written: Written, now: Now) {
        match written {
            Written::Policies(done) => self.done(done, now),
            Written::Status(name, uid, result) => self.status_written(&name, &uid, result, now),
            Written::Finalizer(name, result) => self.finalizer_written(&name, result, now),
            Written::OptOut(write, result) => self.opt_out_written(write, result, now),
            Written::Revision(write, result) => self.revision_written(write, result, now),
            Written::NamespaceLabel(write, result) => self.label_written(&write, result, now),
        }
    }

    /// Statuses to write now. Empty until every known namespace is assessed, because a status with partial counts would be wrong. And
    /// empty while a list may still come that statuses wait for: otherwise a start would write two statuses.
    pub(super) fn statuses(&mut self, now: Now) -> Vec<StatusWrite> {
        let is_list_missing = self.missing_in_statuses(now.instant).next().is_some();
        if !self.elected || !self.may_decide() || !self.dirty.is_empty() || is_list_missing {
            return vec![];
        }
        let (leads, unlisted, failing) = (self.leads, self.unlisted_callers(), self.readiness.failing());
        let facts = ClusterFacts {
            unsupported_policy_kinds: self.unsupported_policy_kinds.as_ref(),
            unlisted: &unlisted,
            plugin: self.plugins.judgement.as_ref(),
            failing: &failing,
        };
        let ours = |tracked: &BaselineState| match tracked.turn {
            InstallOwnership::Ours => leads,
            InstallOwnership::Waits => true,
            InstallOwnership::Theirs => false,
        };
        self.tracked
            .iter_mut()
            .filter(|(_, tracked)| ours(tracked))
            .filter_map(|(name, tracked)| tracked.status_due(name, facts, now))
            .collect()
    }

    /// Takes the result of a status write.
    pub(super) fn status_written(&mut self, name: &str, uid: &str, result: Result<StoredStatus, WriteError>, now: Now) {
        if let Some(tracked) = self.tracked.get_mut(name).filter(|t| *t.uid == *uid) {
            let news = tracked.status_written(name, result, now);
            let announced = news.map(|(reason, note)| about_baseline(name, tracked, reason, note, now));
            self.announcements.extend(announced);
        }
    }

    /// Finalizers to add or remove now.
    pub(super) fn finalizers(&mut self, now: Now) -> Vec<FinalizerWrite> {
        if !self.leads || !self.may_decide() {
            return vec![];
        }
        let quiet = self.dirty.is_empty() && self.ready.is_empty() && self.in_flight.is_empty();
        self.tracked.iter_mut().filter_map(|(name, tracked)| tracked.finalizer_due(name, quiet, now.instant)).collect()
    }

    /// Takes the result of a finalizer write.
    pub(super) fn finalizer_written(&mut self, name: &str, result: Result<(), WriteError>, now: Now) {
        if let Some(tracked) = self.tracked.get_mut(name) {
            tracked.finalizer_written(name, result, now.instant);
        }
    }

    /// When the engine must run again without an event. Work that was due at `now` is already done by the calls before this one.
    pub fn next_wake(&self, now: Now) -> Option<Instant> {
        let tracked = self.tracked.values().flat_map(BaselineState::wakes);
        tracked
            .chain(self.installs.next())
            .chain(self.readiness.falls_back_at())
            .chain(self.readiness.watches_wake(now.instant))
            .chain(self.outbox.wakes(now))
            .chain(self.dns_wake(now.instant))
            .chain(self.statuses_wake(now.instant))
            .chain(self.api_wake(now.instant))
            .chain(self.backends.ending.values().min().copied())
            .chain(self.rollouts.next)
            .chain(self.announces_until())
            .chain(self.recount.due())
            .filter(|at| *at > now.instant)
            .min()
    }

    pub(super) fn touch_statuses(&mut self, now: Now) {
        self.tracked.values_mut().for_each(|tracked| tracked.touch(now.instant));
    }
}
