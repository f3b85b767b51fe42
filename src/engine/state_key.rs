//! For the model: the part of the engine's state that decides its next step. Two engines that agree in this part behave the same. Causes,
//! statuses and counts are only reported, so they are left out.

use std::{num::NonZeroU64, sync::Arc};

use super::{
    Engine,
    clock::Now,
    outbox::baseline_status::BaselineState,
    tests::model::{SELECTED, StateKey},
};
use crate::{
    api::{NamespaceName, reason::ViolationReason},
    policy::status::Finding,
};

impl Engine {
    /// Whether there may be something to write.
    pub fn has_work(&self) -> bool {
        self.leads && !self.ready.is_empty()
    }

    /// Sets how many namespaces a change may open without confirmation.
    pub const fn asks_from(&mut self, namespaces: usize) {
        self.opened_at_once = namespaces - 1;
    }

    /// Whether a policy write is held back for some time, or a count of the namespaces that a change would open.
    pub fn is_waiting(&self, now: Now) -> bool {
        let recount_waits = self.recount.due().is_some_and(|due| due > now.instant);
        self.leads && (recount_waits || !self.outbox.policies.held_back(now.instant).is_empty())
    }

    /// The current findings of a namespace.
    pub fn findings(&self, ns: &str, now: Now) -> Vec<(Arc<str>, Finding)> {
        let ns = NamespaceName::observed(ns);
        self.observed.get(&ns).map(|entry| self.assess(&ns, entry, now).findings).unwrap_or_default()
    }

    /// The policies in a namespace that the stored findings report as bypasses.
    pub fn bypasses(&self, ns: &NamespaceName) -> impl Iterator<Item = &str> {
        let problems = self.tracked.values().filter_map(|tracked| tracked.problems(ns)).flatten();
        let bypasses = problems.filter(|problem| problem.reason == ViolationReason::Bypassed.into());
        bypasses.filter_map(|problem| problem.policy.as_deref())
    }

    /// Writes to `out` what decides the next step in that namespace. The baseline is left out: it is the one that was shown last.
    pub fn essence(&self, ns: &NamespaceName, now: Now, out: &mut StateKey) {
        out.word(&(
            self.readiness.essence(),
            self.leads,
            self.dirty.is_empty(),
            self.ready.is_empty(),
            self.in_flight.is_empty(),
        ));
        out.word(&self.recount.due().is_some());
        out.word(&self.tracked.values().map(BaselineState::awaits).collect::<Vec<_>>());
        out.word(&self.outbox.policies.held_back(now.instant));
        out.word(&self.outbox.policies.failing(ns));
        out.word(&self.outbox.policies.contests().essence(now.instant));
        if let Some(entry) = self.observed.get(ns) {
            let namespace = entry.namespace.as_ref();
            out.word(&(namespace.map(|n| (n.terminating, n.labels.contains_key(SELECTED))), entry.established, &entry.owner));
            out.uid(entry.uid.as_ref());
            out.number(entry.appeared.map_or(0, NonZeroU64::get));
            let closed = entry.was_closed();
            out.word(&(closed.ingress, closed.egress, entry.former.ingress, entry.former.egress));
            for (name, print) in entry.policies.iter() {
                out.word(&(name, &**print));
                out.uid(Some(&print.uid));
                out.number(print.version);
            }
        }
        if let Some((deleted, doubtful)) = self.observed.flight(ns) {
            out.word(&doubtful);
            for (name, version) in deleted {
                out.word(&name);
                out.number(version);
            }
        }
    }
}
