//! Decides the label that marks a namespace as decided. It is written only with `--label-namespaces`.

use super::{
    Engine,
    clock::Now,
    outbox::namespace_labels::{NamespaceLabelWrite, NamespaceLabels},
    writes::WriteError,
};
use crate::{
    api::{DecidedLabel, NamespaceName, names::LABEL_DECIDED},
    policy::{drift::Drift, plan::Baseline},
};

impl Engine {
    /// Turns on the labels of decided namespaces.
    #[must_use]
    pub fn labelling(mut self) -> Self {
        self.outbox.labels = NamespaceLabels::on();
        self
    }

    /// Recomputes the label that a namespace should have. A stored label is never removed, only replaced by another value: a repair of a
    /// policy must not keep pods out.
    pub(super) fn recompute_label(&mut self, ns: &NamespaceName, baseline: Option<&Baseline>, drifts: &[Drift], frozen: bool) {
        if !self.outbox.labels.concern(ns) {
            return;
        }
        let entry = self.observed.get(ns);
        let living = entry.and_then(|entry| Some((entry.uid.as_ref()?, entry.namespace.as_ref().filter(|n| !n.terminating)?)));
        let Some((uid, namespace)) = living else { return self.outbox.labels.forget(ns) };
        let stored = namespace.labels.get(LABEL_DECIDED);
        // A policy that waits for its finalizer still has the planned rules, and a policy to delete is not planned.
        let is_in_place = |drift: &Drift| drift.is_removal() || drift.fix.concerns_finalizers();
        let mark = match baseline {
            Some(baseline) if baseline.planned(namespace).next().is_some() => {
                drifts.iter().all(is_in_place).then_some(DecidedLabel::Protected)
            }
            // While the namespace is frozen, nothing new is decided.
            _ if frozen => None,
            // An invalid baseline might select this namespace.
            _ if stored.is_none() && self.baselines.some_are_invalid() => None,
            _ => Some(DecidedLabel::Exempt),
        };
        let wanted = mark.filter(|mark| stored != Some(&mark.value(uid)));
        self.outbox.labels.want(ns, uid, wanted);
    }

    /// Labels of namespaces to write now.
    pub(super) fn label_writes(&mut self, now: Now) -> Vec<NamespaceLabelWrite> {
        if self.leads && self.may_decide() { self.outbox.labels.writes(now.instant) } else { vec![] }
    }

    /// Takes the result of a write of a namespace's label.
    pub(super) fn label_written(&mut self, write: &NamespaceLabelWrite, result: Result<Option<String>, WriteError>, now: Now) {
        self.outbox.labels.written(write, result, now.instant);
    }
}
