//! Which namespaces are nobody's any more: to the next baseline they are as they were found, open or not, as after a restart.

use super::Engine;
use crate::api::NamespaceName;

impl Engine {
    /// Forgets that a namespace held anything of ours, if nothing of ours is there and no baseline may ask for it back. Says whether it did.
    pub(super) fn release_claim(&mut self, name: &NamespaceName) -> bool {
        let Some(entry) = self.observed.get(name).filter(|entry| entry.was_ours()) else { return false };
        let is_free = |ns| self.baselines.leave_free(ns, &entry.holdings());
        let is_empty = !entry.holds_ours() && !self.in_flight.contains_key(name);
        is_empty
            && entry.namespace.as_ref().is_some_and(is_free)
            && self.observed.release_claim(name, self.outbox.opt_outs.first_in_force(name))
    }

    /// A baseline is gone: what it left empty is free before another one is seen, whatever is told in the same breath.
    pub(super) fn release_all_claims(&mut self) {
        if !self.is_synced() {
            return;
        }
        let were_ours = self.observed.iter().filter(|(_, entry)| entry.was_ours());
        for name in were_ours.map(|(name, _)| name.clone()).collect::<Vec<_>>() {
            self.release_claim(&name);
        }
    }
}
