//! When the labels of all namespaces are counted, and which namespaces are assessed again after that.

use super::{
    Engine,
    facts::{census::NamespaceCensus, entry::Entry},
};
use crate::{
    api::NamespaceName,
    policy::{drift::Fingerprint, netpol::Census},
};

impl Engine {
    /// Notes whether a policy that was seen names namespaces.
    pub(super) fn note_named_namespaces(&mut self, namespace: Option<&NamespaceName>, policy: Option<&str>) {
        let print = namespace.zip(policy).and_then(|(ns, policy)| self.observed.get(ns)?.policies.get(policy));
        if print.is_some_and(names_namespaces) {
            self.census.policy_seen();
        }
    }

    /// Counts the labels of all namespaces, if a policy needs that and the last count is old. If they differ from it, the namespaces
    /// with such policies are assessed again.
    pub(super) fn count_namespaces(&mut self) {
        let namespaces = self.observed.count();
        if !self.census.is_due(namespaces) {
            return;
        }
        let is_concerned = |entry: &Entry| entry.policies.values().any(names_namespaces);
        let concerned = self.observed.iter().filter(|(_, entry)| is_concerned(entry)).map(|(name, _)| name.clone());
        let concerned: Vec<NamespaceName> = concerned.collect();
        if concerned.is_empty() {
            self.census = NamespaceCensus::default();
            return;
        }
        let labels =
            self.observed.iter().filter_map(|(name, entry)| Some((name.as_str(), entry.namespace.as_ref()?.labels.iter())));
        if self.census.took(Census::of(&labels), namespaces) {
            for name in concerned {
                self.dirty.push(name, false);
            }
        }
    }
}

fn names_namespaces(print: &Fingerprint) -> bool {
    print.shares.as_ref().is_some_and(|shares| shares.names_namespaces())
}
