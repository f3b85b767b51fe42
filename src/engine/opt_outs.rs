//! Applies opt-outs to the plans of their namespaces, and announces when they end.

use super::{
    Engine,
    clock::Now,
    facts::{
        event::{Change, ListRefusal},
        opt_out::{RawOptOut, RolesFound, Tally},
        readiness::WatchedSet,
    },
    outbox::opt_out_state::{OptOutWrite, StoredOptOut},
    writes::WriteError,
};
use crate::{
    api::{NamespaceName, Role, backends::ConfigurationKind},
    policy::{
        drift::{Drift, Repair},
        plan::{Baseline, Decision, Rendered, Ruling},
    },
};

impl Engine {
    pub(super) fn on_opt_out(&mut self, change: Change<Box<RawOptOut>>, now: Now) {
        match change {
            Change::ListBegan => {
                self.outbox.opt_outs.relist();
                self.readiness.list_began(WatchedSet::OptOuts, now.instant);
            }
            Change::Applied(raw) => {
                if let Some(generation) = self.outbox.opt_outs.spec_changed(&raw) {
                    let name = raw.key().map(|(ns, name)| format!("{ns}/{name}")).unwrap_or_default();
                    return self.spec_changed("BaselineOptOut", name, generation);
                }
                if let Some(ns) = self.outbox.opt_outs.seen(&raw, now.wall) {
                    self.opt_outs_changed(&ns, true, now);
                }
            }
            Change::Deleted(raw) => {
                if let Some(ns) = self.outbox.opt_outs.gone(&raw) {
                    self.opt_outs_changed(&ns, true, now);
                }
            }
            Change::ListDone => {
                self.readiness.answered(WatchedSet::OptOuts);
                for ns in self.outbox.opt_outs.relisted() {
                    self.opt_outs_changed(&ns, true, now);
                }
                self.list_complete(WatchedSet::OptOuts, now);
            }
            Change::Refused(refusal, why) => {
                self.readiness.report(WatchedSet::OptOuts, why);
                if refusal != ListRefusal::Unavailable {
                    self.readiness.refuse(WatchedSet::OptOuts, refusal, now.instant);
                    self.recompute_opt_outs(now);
                }
            }
        }
    }

    /// Finds out whether opt-outs can exist at all, after their list was refused.
    pub(super) fn recompute_opt_outs(&mut self, now: Now) {
        let Some(refused) = self.readiness.refused_since(WatchedSet::OptOuts) else { return };
        let knows_crds = self.readiness.is_settled(WatchedSet::Callers(ConfigurationKind::Crd));
        let Some(concerned) = self.outbox.opt_outs.none_can_exist(refused, knows_crds, now.instant) else { return };
        for ns in concerned {
            self.opt_outs_changed(&ns, true, now);
        }
        self.list_complete(WatchedSet::OptOuts, now);
    }

    /// Whether only the list of CRDs can show if opt-outs can exist.
    pub(super) fn needs_crds_for_opt_outs(&self) -> bool {
        let refusal = self.readiness.refused_since(WatchedSet::OptOuts).map(|(refusal, _)| refusal);
        !self.outbox.opt_outs.knows_crd() && refusal == Some(ListRefusal::Unknown)
    }

    /// Handles opt-outs that have ended, and those in force again because the wall clock went back.
    pub(super) fn let_opt_outs_end(&mut self, now: Now) {
        for ns in self.outbox.opt_outs.tick(now.wall) {
            self.opt_outs_changed(&ns, false, now);
        }
    }

    /// Called when the opt-outs of a namespace changed, or the namespace itself. Puts the living opt-outs into the plan.
    pub(super) fn opt_outs_changed(&mut self, ns: &NamespaceName, urgent: bool, now: Now) {
        let Some(entry) = self.observed.get_mut(ns) else { return };
        let Some(namespace) = &mut entry.namespace else { return };
        let living = self.outbox.opt_outs.living(namespace, now.wall);
        let first_in_force = self.outbox.opt_outs.first_in_force(namespace);
        // An opt-out that ends leaves its time here: the namespace is closed then, and does not count as found open.
        entry.opted_out = entry.opted_out.take().max(first_in_force.map(Box::new));
        if namespace.opt_outs != living {
            namespace.opt_outs = living;
            self.outbox.policies.news(ns);
        }
        self.dirty.push(ns.clone(), urgent);
    }

    /// Judges the opt-outs of a namespace by the decision for that namespace.
    pub(super) fn recompute_verdicts(&mut self, ns: &NamespaceName, now: Now) {
        if !self.outbox.opt_outs.concern(ns) {
            return;
        }
        let Some(entry) = self.observed.get(ns) else { return };
        let Some(namespace) = &entry.namespace else { return };
        if namespace.terminating {
            return self.outbox.opt_outs.leave_alone(ns);
        }
        let decision = self.baselines.decide(namespace, &entry.holdings()).decision;
        let found = match &decision {
            Decision::Protected(baseline) => {
                let is_there = |policy: &&Rendered| entry.policies.get(&policy.name).is_some_and(|print| print.ours);
                let planned = baseline.planned(namespace).map(|(_, policy)| policy);
                RolesFound {
                    there: baseline.policies.iter().filter(is_there).filter_map(Rendered::role).collect(),
                    missing: planned.filter(|policy| !is_there(policy)).filter_map(Rendered::role).collect(),
                }
            }
            _ => RolesFound::default(),
        };
        let ruling = match &decision {
            Decision::LeaveAlone => return self.outbox.opt_outs.leave_alone(ns),
            Decision::Unselected => Ruling::Nobody,
            Decision::Frozen(name) => Ruling::Freezes(name, false),
            Decision::Reported(baseline) => Ruling::Reports(&baseline.name),
            Decision::Protected(baseline) => Ruling::Enforces(baseline),
        };
        self.outbox.opt_outs.judge(namespace, ruling, found, self.leads, now);
        let announcements = self.outbox.opt_outs.take_announcements();
        self.announcements.extend(announcements);
    }

    /// Whether a policy is missing because of an opt-out that has ended. Then nobody else removed it.
    pub(super) fn was_opted_out(&self, ns: &NamespaceName, baseline: Option<&Baseline>, drift: &Drift, now: Now) -> bool {
        let Repair::Apply { index, uid: None, .. } = &drift.fix else { return false };
        let role = baseline.and_then(|baseline| baseline.policies.get(*index)).and_then(Rendered::role);
        let namespace = self.observed.get(ns).and_then(|entry| entry.namespace.as_ref());
        role.zip(namespace).is_some_and(|(role, namespace)| self.outbox.opt_outs.lapsed(namespace, role, now.wall))
    }

    /// Statuses and labels of opt-outs to write now.
    pub(super) fn opt_out_writes(&mut self, now: Now) -> Vec<OptOutWrite> {
        if self.leads && self.may_decide() { self.outbox.opt_outs.writes(now.instant) } else { vec![] }
    }

    /// Takes the result of a write to an opt-out.
    pub(super) fn opt_out_written(&mut self, write: OptOutWrite, result: Result<StoredOptOut, WriteError>, now: Now) {
        let ns = write.namespace.clone();
        self.outbox.opt_outs.written(write, result, now);
        let announcements = self.outbox.opt_outs.take_announcements();
        self.announcements.extend(announcements);
        // The write may have stored when the opt-out was first in force. The namespace must know that.
        self.opt_outs_changed(&ns, false, now);
    }

    /// The opt-outs in force, by role, for the metrics.
    pub fn opt_outs_in_force(&mut self) -> [(Role, Tally); 3] {
        self.outbox.opt_outs.tally()
    }
}
