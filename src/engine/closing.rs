//! Existing namespaces that a baseline with a rollout closes wave by wave. To close a namespace cuts off what runs there, so a change that
//! closes many of them goes out like a change of the policies.
//!
//! Which of them are closed already is in the cluster: they hold policies. So a restart continues with those that hold none.

use std::{collections::BTreeSet, sync::Arc};

use super::{Engine, facts::entry::Entry, outbox::baseline_status::BaselineState};
use crate::{
    api::NamespaceName,
    policy::plan::{Baseline, Decision, Holdings},
};

impl Engine {
    /// Remembers which namespaces are open right before a known baseline changes or goes, if a baseline has a rollout, or will have one
    /// (`rolls_out`). Those that one closes then are existing ones, also if they are newer than it: they ran during Audit, the selector left
    /// them out, or another baseline left them open. While decisions wait, it is not known which ones are open.
    pub(super) fn remember_open(&mut self, rolls_out: bool) {
        self.rollouts.open_is_unknown |= !self.may_decide();
        self.remember_open_if(rolls_out);
    }

    /// The same, when a new baseline comes. At the start, all are new, and a namespace that is newer than its baseline must not wait.
    pub(super) fn remember_open_if(&mut self, rolls_out: bool) {
        let mut known = self.tracked.values().filter_map(|tracked| tracked.checked.as_ref().ok());
        let rolls_out = rolls_out || known.any(|baseline| baseline.rollout.is_some());
        if !self.may_decide() || !rolls_out {
            return;
        }
        // A namespace is closed where something is planned. Where the API server calls a Service, for example, nothing may be.
        let is_open = |entry: &Entry| {
            let holdings = entry.holdings();
            let Some(namespace) = entry.namespace.as_ref().filter(|_| !holdings.any) else { return false };
            match self.baselines.decide(namespace, &holdings).decision {
                Decision::Protected(baseline) => baseline.planned(namespace).next().is_none(),
                _ => true,
            }
        };
        let open: BTreeSet<NamespaceName> =
            self.observed.iter().filter(|(_, entry)| is_open(entry)).map(|(ns, _)| ns.clone()).collect();
        // An edit may begin a wait for the lists that its baseline needs, and the next edit comes before that wait is over.
        self.rollouts.open.extend(open);
    }

    /// The open namespaces that the baseline closes from now on, one wave after the other. A new namespace is not among them: it never waits.
    pub(super) fn find_to_close(&mut self, name: &Arc<str>, target: &Baseline) -> BTreeSet<NamespaceName> {
        let edited_unseen = self.tracked.get_mut(name).is_some_and(BaselineState::was_edited_unseen);
        let waiting = self.baselines.set_to_close(name, BTreeSet::new());
        let under_way = self.rollouts.under_way.get(name);
        // Another process began to close namespaces, or nobody watched the edit, or it came while decisions waited. It is not known which of
        // the open ones are new.
        let is_unfinished = |tracked: &BaselineState| {
            tracked.stored_rollout().is_some_and(|stored| *stored.revision == *target.revision.id && stored.moved < stored.total)
        };
        let resumes = edited_unseen || (under_way.is_none() && self.tracked.get(name).is_some_and(is_unfinished));
        // What this process saw appear since the edit is new. While decisions wait, another baseline that left it open may change: then it is
        // not.
        let seen = self.tracked.get(name).map(|tracked| tracked.generation_seen).filter(|version| *version > 0);
        let is_new = |holdings: &Holdings| seen.is_some_and(|seen| holdings.appeared_after(seen));
        let is_to_close = |(ns, entry): &(&NamespaceName, &Entry)| {
            let holdings = entry.holdings();
            let is_written = || self.in_flight.contains_key(*ns) || under_way.is_some_and(|u| u.rollout.has_reached(ns));
            let Some(namespace) = entry.namespace.as_ref().filter(|_| !holdings.any && holdings.opted_out.is_none()) else {
                return false;
            };
            let is_existing = || {
                let was_there = self.rollouts.open_is_unknown || (resumes && !is_new(&holdings));
                waiting.contains(*ns) || self.rollouts.open.contains(*ns) || was_there || target.is_younger(namespace, &holdings)
            };
            let applies = || match self.baselines.decide(namespace, &holdings).decision {
                Decision::Protected(baseline) => baseline.name == *name && baseline.planned(namespace).next().is_some(),
                _ => false,
            };
            !is_written() && is_existing() && applies()
        };
        self.observed.iter().filter(is_to_close).map(|(ns, _)| ns.clone()).collect()
    }
}
