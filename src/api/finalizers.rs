//! The finalizers of others whose owner can be told by its API group: without a CRD of that group, the owner is not in the cluster. Only
//! what is certain stands here (record 19).

use strum::{IntoStaticStr, VariantArray};

/// A finalizer of another controller that keeps objects of its own beside the policies.
#[derive(Clone, Copy, Debug, Eq, Hash, IntoStaticStr, PartialEq, VariantArray)]
#[strum(const_into_str)]
pub enum KnownFinalizer {
    /// Of the network policy controller of Amazon EKS. It removes the finalizer when it has deleted the PolicyEndpoints of a policy.
    #[strum(serialize = "networking.k8s.aws/resources")]
    AmazonNetworkPolicy,
}

impl KnownFinalizer {
    /// The API group of the owner's objects.
    pub const fn group(self) -> &'static str {
        match self {
            Self::AmazonNetworkPolicy => "networking.k8s.aws",
        }
    }

    /// Whether the CRD with this name is of the owner's group. The API server takes no other name than `<plural>.<group>`.
    pub fn is_told_by(self, crd: &str) -> bool {
        crd.split_once('.').is_some_and(|(_, group)| group == self.group())
    }
}

/// A set of known finalizers in one byte, because every fingerprint has one.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct KnownFinalizers(u8);

impl KnownFinalizers {
    /// Those for which this holds.
    pub fn which(holds: impl Fn(KnownFinalizer) -> bool) -> Self {
        let which = KnownFinalizer::VARIANTS.iter().copied().filter(|finalizer| holds(*finalizer));
        Self(which.fold(0, |set, finalizer| set | bit(finalizer)))
    }

    /// Those that an object has.
    pub fn of(finalizers: &[String]) -> Self {
        Self::which(|known| finalizers.iter().any(|finalizer| finalizer == known.into_str()))
    }

    /// The first one that both sets have.
    pub fn first_of(self, other: Self) -> Option<KnownFinalizer> {
        KnownFinalizer::VARIANTS.iter().copied().find(|finalizer| self.0 & other.0 & bit(*finalizer) != 0)
    }
}

const fn bit(finalizer: KnownFinalizer) -> u8 {
    match finalizer {
        KnownFinalizer::AmazonNetworkPolicy => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_is_told_by_the_crds_of_exactly_its_group() {
        for (crd, is_told) in [
            ("policyendpoints.networking.k8s.aws", true),
            ("clusternetworkpolicies.networking.k8s.aws", true),
            ("targetgroupbindings.elbv2.k8s.aws", false),
            ("policyendpoints.networking.k8s.aws.example.com", false),
            ("accesslogpolicies.application-networking.k8s.aws", false),
            ("x.my.networking.k8s.aws", false),
            ("networking.k8s.aws", false),
            ("", false),
        ] {
            assert_eq!(KnownFinalizer::AmazonNetworkPolicy.is_told_by(crd), is_told, "{crd}");
        }
    }

    #[test]
    fn a_finalizer_is_known_by_its_whole_name() {
        let all = KnownFinalizers::which(|_| true);
        let known = Some(KnownFinalizer::AmazonNetworkPolicy);
        for (finalizers, first) in [
            (vec!["networking.k8s.aws/resources"], known),
            (vec!["tenant.example/keep", "networking.k8s.aws/resources"], known),
            (vec!["networking.k8s.aws/other", "NETWORKING.k8s.aws/resources", "x.networking.k8s.aws/resources"], None),
            (vec![], None),
        ] {
            let set = KnownFinalizers::of(&finalizers.iter().map(|&name| name.to_owned()).collect::<Vec<_>>());
            assert_eq!((set.first_of(all), set.first_of(KnownFinalizers::default())), (first, None), "{finalizers:?}");
        }
    }
}
