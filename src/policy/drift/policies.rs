//! The policies of one namespace by name. Most namespaces have few policies, so a sorted list needs a tenth of the memory of a tree.

use std::{collections::BTreeMap, sync::Arc};

use super::Fingerprint;

/// Fingerprints by the name of the policy.
#[derive(Clone, Debug, Default)]
pub struct Policies(Vec<(Arc<str>, Fingerprint)>);

impl Policies {
    /// The fingerprint of the policy with this name.
    pub fn get(&self, name: &str) -> Option<&Fingerprint> {
        self.place(name).ok().and_then(|at| self.0.get(at)).map(|(_, print)| print)
    }

    /// Adds a policy, or replaces the one with the same name.
    pub fn insert(&mut self, name: Arc<str>, print: Fingerprint) {
        match self.place(&name) {
            Ok(at) => {
                if let Some(known) = self.0.get_mut(at) {
                    *known = (name, print);
                }
            }
            Err(at) => {
                // Reserve some extra room if there are many policies, and none if there are few.
                self.0.reserve_exact(1 + self.0.len() / 8);
                self.0.insert(at, (name, print));
            }
        }
    }

    /// Removes a policy. Returns whether it was there.
    pub fn remove(&mut self, name: &str) -> bool {
        self.place(name).is_ok_and(|at| {
            self.0.remove(at);
            true
        })
    }

    /// Keeps only the policies that satisfy `keep`.
    pub fn retain(&mut self, mut keep: impl FnMut(&Arc<str>, &Fingerprint) -> bool) {
        self.0.retain(|(name, print)| keep(name, print));
    }

    /// All policies, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &Fingerprint)> + Clone {
        self.0.iter().map(|(name, print)| (name, print))
    }

    /// All fingerprints, sorted by the name of the policy.
    pub fn values(&self) -> impl Iterator<Item = &Fingerprint> + Clone {
        self.0.iter().map(|(_, print)| print)
    }

    /// About how many bytes the parts take that are kept of all policies but this one.
    pub fn bytes_of_shares_without(&self, name: &str) -> usize {
        let others = self.iter().filter(|(known, _)| &***known != name);
        others.map(|(_, print)| print.bytes_of_shares()).sum()
    }

    /// Whether the namespace has no policies.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn place(&self, name: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|(known, _)| (**known).cmp(name))
    }
}

impl FromIterator<(Arc<str>, Fingerprint)> for Policies {
    fn from_iter<I: IntoIterator<Item = (Arc<str>, Fingerprint)>>(policies: I) -> Self {
        // If a name occurs twice, the later policy is kept.
        let sorted: BTreeMap<Arc<str>, Fingerprint> = policies.into_iter().collect();
        Self(sorted.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        policy::drift::Interner,
        testkit::{checked, observed},
    };

    #[test]
    fn policies_are_found_replaced_and_removed_by_name() {
        let mut texts = Interner::default();
        let mut print = Fingerprint::of(&observed(&checked("b", serde_json::json!({})).policies[0], "a"), &mut texts);
        let mut policies = Policies::default();
        for name in ["m", "c", "z", "a"] {
            policies.insert(name.into(), print.clone());
        }
        assert_eq!(policies.iter().map(|(name, _)| &**name).collect::<Vec<_>>(), ["a", "c", "m", "z"]);
        print.version = 9;
        policies.insert("c".into(), print);
        assert_eq!((policies.get("c").map(|p| p.version), policies.get("d").map(|p| p.version)), (Some(9), None));
        assert_eq!((policies.remove("c"), policies.remove("c")), (true, false));
        policies.retain(|name, _| &**name != "a");
        assert_eq!(policies.values().count(), 2);
        assert!(!policies.is_empty());
    }

    #[test]
    fn a_fingerprint_stays_small() {
        // About thirty thousand fingerprints are kept.
        assert!(size_of::<(Arc<str>, Fingerprint)>() <= 48, "{}", size_of::<(Arc<str>, Fingerprint)>());
    }
}
