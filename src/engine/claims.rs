//! Releases namespaces that no baseline claims any more. The next baseline treats them as newly found, open or not, as after a restart.

use super::Engine;
use crate::api::NamespaceName;

impl Engine {
    /// Forgets that a namespace held our policies, if none is left and no baseline may claim it again. Returns whether anything changed.
    pub(super) fn release_claim(&mut self, name: &NamespaceName) -> bool {
        let Some(entry) = self.observed.get(name).filter(|entry| entry.was_ours()) else { return false };
        let is_free = |ns| self.baselines.leave_free(ns, &entry.holdings());
        let is_empty = !entry.holds_ours() && !self.in_flight.contains_key(name);
        is_empty
            && entry.namespace.as_ref().is_some_and(is_free)
            && self.observed.release_claim(name, self.outbox.opt_outs.first_in_force(name))
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
