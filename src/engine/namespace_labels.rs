//! Which namespaces are decided: the label that says so is written where `--label-namespaces` asks for it.

use super::{
    Engine,
    clock::Now,
    outbox::namespace_labels::{NamespaceLabelWrite, NamespaceLabels},
    writes::WriteError,
};
use crate::{
    api::{DecidedLabel, NamespaceName, names::LABEL_DECIDED},
    policy::{
        drift::{Drift, Repair},
        plan::Baseline,
    },
};

impl Engine {
    /// The same engine, which labels the namespaces that it has decided.
    #[must_use]
    pub fn labelling(mut self) -> Self {
        self.outbox.labels = NamespaceLabels::on();
        self
    }

    /// Looks what a namespace should be labelled with. What a label says is not taken back, but for another one: a policy that is repaired
    /// keeps no pod out.
    pub(super) fn recompute_label(&mut self, ns: &NamespaceName, baseline: Option<&Baseline>, drifts: &[Drift], frozen: bool) {
        if !self.outbox.labels.concern(ns) {
            return;
        }
        let entry = self.observed.get(ns);
        let living = entry.and_then(|entry| Some((entry.uid.as_ref()?, entry.namespace.as_ref().filter(|n| !n.terminating)?)));
        let Some((uid, namespace)) = living else { return self.outbox.labels.forget(ns) };
        let stored = namespace.labels.get(LABEL_DECIDED);
        // What is going and holds the right rules is awaited.
        let is_in_place = |drift: &Drift| matches!(drift.fix, Repair::Delete { .. } | Repair::WaitForFinalizer);
        let mark = match baseline {
            Some(baseline) if baseline.planned(namespace).next().is_some() => {
                drifts.iter().all(is_in_place).then_some(DecidedLabel::Protected)
            }
            // While nothing is written, nothing can be said of what was not decided before.
            _ if frozen => None,
            // One that cannot be planned with may select it.
            _ if stored.is_none() && self.baselines.some_are_invalid() => None,
            _ => Some(DecidedLabel::Exempt),
        };
        let wanted = mark.filter(|mark| stored != Some(mark.into_str()));
        self.outbox.labels.want(ns, uid, wanted);
    }

    /// Labels of namespaces to write now.
    pub(super) fn label_writes(&mut self, now: Now) -> Vec<NamespaceLabelWrite> {
        if self.leads && self.is_synced() { self.outbox.labels.writes(now.instant) } else { vec![] }
    }

    /// A write of the label of a namespace ended.
    pub(super) fn label_written(&mut self, write: &NamespaceLabelWrite, result: Result<Option<String>, WriteError>, now: Now) {
        self.outbox.labels.written(write, result, now.instant);
    }
}
