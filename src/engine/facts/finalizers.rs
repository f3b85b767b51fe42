//! Whether the owners of known finalizers are in the cluster, as the CRDs tell. Only a complete list proves that one is not.

use std::collections::BTreeSet;

use strum::VariantArray;

use crate::api::finalizers::{KnownFinalizer, KnownFinalizers};

/// What the watch of CRDs says about the owners of known finalizers.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
pub struct FinalizerOwners {
    /// The CRDs of their groups.
    crds: BTreeSet<String>,
    /// The last list is complete, and since then no list has begun and none was refused.
    is_certain: bool,
}

impl FinalizerOwners {
    /// A CRD exists, or is gone.
    pub fn crd(&mut self, name: &str, exists: bool) {
        if !is_of_an_owner(name) {
            return;
        }
        if exists {
            self.crds.insert(name.to_owned());
        } else {
            self.crds.remove(name);
        }
    }

    /// The list of CRDs is complete, with these names.
    pub fn listed<'a>(&mut self, names: impl IntoIterator<Item = &'a String>) {
        self.crds = names.into_iter().filter(|name| is_of_an_owner(name)).cloned().collect();
        self.is_certain = true;
    }

    /// CRDs may exist that the watch does not show.
    pub const fn doubt(&mut self) {
        self.is_certain = false;
    }

    /// The finalizers whose owner is certainly not in the cluster.
    pub fn absent(&self) -> KnownFinalizers {
        KnownFinalizers::which(|known| self.is_certain && !self.crds.iter().any(|crd| known.is_told_by(crd)))
    }
}

fn is_of_an_owner(crd: &str) -> bool {
    KnownFinalizer::VARIANTS.iter().any(|known| known.is_told_by(crd))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENDPOINTS: &str = "policyendpoints.networking.k8s.aws";

    #[test]
    fn i16_only_a_complete_list_proves_that_an_owner_is_absent() {
        let mut owners = FinalizerOwners::default();
        let is_absent = |owners: &FinalizerOwners| owners.absent().first_of(KnownFinalizers::which(|_| true)).is_some();
        assert!(!is_absent(&owners), "nothing is listed yet");
        owners.listed(&["x.example.com".to_owned()]);
        assert!(is_absent(&owners));
        owners.doubt();
        assert!(!is_absent(&owners));
        owners.listed(&[ENDPOINTS.to_owned(), "x.example.com".to_owned()]);
        assert!(!is_absent(&owners));
        owners.crd("x.example.com", false);
        assert!(!is_absent(&owners));
        owners.crd(ENDPOINTS, false);
        assert!(is_absent(&owners));
        owners.crd("clusternetworkpolicies.networking.k8s.aws", true);
        assert!(!is_absent(&owners));
        assert_eq!(owners.crds.len(), 1, "no other CRD is kept");
    }
}
