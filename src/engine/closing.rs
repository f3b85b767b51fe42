//! Existing namespaces that a baseline with a rollout closes wave by wave. To close a namespace cuts off what runs there, so a change that
//! closes many of them goes out like a change of the policies.
//!
//! Which of them are closed already is in the cluster: they hold policies. So a restart continues with those that hold none.

use std::{collections::BTreeSet, sync::Arc};

use super::{Engine, facts::entry::Entry, outbox::baseline_status::BaselineState};
use crate::{
    api::NamespaceName,
    policy::plan::{Baseline, Decision},
};

impl Engine {
    /// Remembers which namespaces are open right before a baseline changes. Those that the change closes are existing ones, also if they are
    /// newer than the baseline: they ran during Audit, or the selector left them out.
    pub(super) fn remember_open(&mut self, name: &Arc<str>, baseline: &Baseline) {
        if !self.may_decide() || baseline.rollout.is_none() {
            return;
        }
        let is_open = |entry: &Entry| {
            let holdings = entry.holdings();
            let decide = |ns| self.baselines.decide(ns, &holdings).decision;
            let is_closed = || matches!(entry.namespace.as_ref().map(decide), None | Some(Decision::Protected(_)));
            !holdings.any && !is_closed()
        };
        let open = self.observed.iter().filter(|(_, entry)| is_open(entry)).map(|(ns, _)| ns.clone()).collect();
        self.rollouts.open.insert(name.clone(), open);
    }

    /// The open namespaces that the baseline closes from now on, one wave after the other. A new namespace is not among them: it never waits.
    pub(super) fn find_to_close(&mut self, name: &Arc<str>, target: &Baseline) -> BTreeSet<NamespaceName> {
        let open = self.rollouts.open.remove(name).unwrap_or_default();
        let waiting = self.baselines.set_to_close(name, BTreeSet::new());
        let under_way = self.rollouts.under_way.get(name);
        // Another process began to close namespaces. It is not known which of the open ones are new.
        let is_unfinished = |tracked: &BaselineState| {
            tracked.stored_rollout().is_some_and(|stored| *stored.revision == *target.revision.id && stored.moved < stored.total)
        };
        let resumes = under_way.is_none() && self.tracked.get(name).is_some_and(is_unfinished);
        let is_to_close = |(ns, entry): &(&NamespaceName, &Entry)| {
            let holdings = entry.holdings();
            let is_written = || self.in_flight.contains_key(*ns) || under_way.is_some_and(|u| u.rollout.has_reached(ns));
            let Some(namespace) = entry.namespace.as_ref().filter(|_| !holdings.any && holdings.opted_out.is_none()) else {
                return false;
            };
            let is_existing =
                || waiting.contains(*ns) || open.contains(*ns) || resumes || target.is_younger(namespace, &holdings);
            let applies = || match self.baselines.decide(namespace, &holdings).decision {
                Decision::Protected(baseline) => baseline.name == *name && baseline.planned(namespace).next().is_some(),
                _ => false,
            };
            !is_written() && is_existing() && applies()
        };
        self.observed.iter().filter(is_to_close).map(|(ns, _)| ns.clone()).collect()
    }
}
