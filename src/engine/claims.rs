//! Which namespaces count as ours although they hold none of our policies. An instance that starts believes the stored labels. A namespace
//! that no baseline claims any more is released. The next baseline treats it as newly found, open or not, as after a restart.

use super::{Engine, facts::entry::Entry, outbox::baseline_status::BaselineState, terminating::LACKS_TOO_LONG};
use crate::{
    api::{DecidedLabel, NamespaceName, names::LABEL_DECIDED},
    policy::plan::Decision,
};

impl Engine {
    /// Believes the labels of the namespaces, once, when everything is listed: they held our policies, also if somebody deleted these while
    /// no instance watched. The label can be forged. Then it closes a namespace that its owner may close anyway.
    pub(super) fn believe_labels(&mut self) {
        if !self.outbox.labels.take_over() {
            return;
        }
        let claimed = self.observed.iter().filter(|(_, entry)| !entry.was_ours() && self.label_proves(entry));
        for name in claimed.map(|(name, _)| name.clone()).collect::<Vec<_>>() {
            if let Some(entry) = self.observed.get_mut(&name) {
                entry.established = true;
            }
        }
    }

    /// Believes what the stored statuses say of namespaces that are being deleted and lost policies, once, when everything is listed. So a
    /// restart ends no such finding, also if none of the policies is left.
    pub(super) fn believe_losses(&mut self) {
        let told =
            |tracked: &BaselineState| tracked.told_losses().map(|(name, since)| (name.to_owned(), since)).collect::<Vec<_>>();
        for (name, since) in self.tracked.values().flat_map(told) {
            let name = NamespaceName::observed(&name);
            if let Some(entry) = self.observed.get_mut(&name).filter(|entry| entry.is_terminating()) {
                entry.established = true;
                self.observed.set_lacking_since(&name, since.checked_sub(LACKS_TOO_LONG).ok());
            }
        }
    }

    /// Whether the label says that the namespace held the policies of a baseline. A baseline without a status is new, so it held nothing.
    fn label_proves(&self, entry: &Entry) -> bool {
        let (Some(uid), Some(namespace)) = (&entry.uid, &entry.namespace) else { return false };
        let is_new = |name: &str| self.tracked.get(name).is_none_or(|tracked| tracked.stored_conditions().is_empty());
        namespace.labels.get(LABEL_DECIDED) == Some(&DecidedLabel::Protected.value(uid))
            && !matches!(self.baselines.decide(namespace, &entry.holdings()).decision, Decision::Reported(b) if is_new(&b.name))
    }

    /// Forgets that a namespace held our policies, if none is left and no baseline may claim it again. Returns whether anything changed.
    pub(super) fn release_claim(&mut self, name: &NamespaceName) -> bool {
        let Some(entry) = self.observed.get(name).filter(|entry| entry.was_ours()) else { return false };
        let Some(namespace) = &entry.namespace else { return false };
        let is_empty = !entry.holds_ours() && !self.in_flight.contains_key(name);
        is_empty
            && self.baselines.leave_free(namespace, &entry.holdings())
            && self.observed.release_claim(name, self.outbox.opt_outs.first_in_force(namespace))
    }

    /// Called when a baseline is gone. Releases the namespaces that it left empty at once, before the next event can show another
    /// baseline.
    pub(super) fn release_all_claims(&mut self) {
        if !self.may_decide() {
            return;
        }
        let were_ours = self.observed.iter().filter(|(_, entry)| entry.was_ours());
        for name in were_ours.map(|(name, _)| name.clone()).collect::<Vec<_>>() {
            self.release_claim(&name);
        }
    }
}
