//! What `policy-baseline uninstall` removes, and in which order.

use std::fmt;

use super::{Inventory, ManagedKind, ManagedObject, Standing};
use crate::api::names::{FINALIZER, LABEL_DECIDED};

/// How much is removed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Scope {
    /// Everything that is ours.
    All,
    /// Everything that is ours but the policies: namespaces stay closed.
    AllButPolicies,
    /// Only the policies whose baseline does not exist.
    Orphans,
}

/// What is done to an object.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Act {
    /// Delete the object.
    Delete,
    /// Remove our finalizer from it.
    RemoveFinalizer,
    /// Remove our label from it.
    RemoveLabel,
}

/// One step: what is done to which object.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Removal {
    /// What is done.
    pub act: Act,
    /// The object.
    pub object: ManagedObject,
}

impl Removal {
    /// The step as something that was done.
    pub fn done(&self) -> String {
        match self.act {
            Act::Delete => format!("deleted {}", self.object),
            Act::RemoveFinalizer => format!("removed the finalizer {FINALIZER} of {}", self.object),
            Act::RemoveLabel => format!("removed the label {LABEL_DECIDED} of {}", self.object),
        }
    }

    /// Whether the step may run at the same time as `other`.
    pub fn is_beside(&self, other: &Self) -> bool {
        (self.act, self.object.kind) == (other.act, other.object.kind)
    }
}

impl fmt::Display for Removal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.act {
            Act::Delete => write!(f, "delete {}", self.object),
            Act::RemoveFinalizer => write!(f, "remove the finalizer {FINALIZER} of {}", self.object),
            Act::RemoveLabel => write!(f, "remove the label {LABEL_DECIDED} of {}", self.object),
        }
    }
}

impl Inventory {
    /// The steps, in order. The admission policies go first, because they refuse the other steps. The baselines follow the policies, so
    /// that a run that is aborted leaves no policy without its baseline.
    pub fn removals(&self, scope: Scope) -> Vec<Removal> {
        let is_removed = |standing| match scope {
            Scope::All => standing != Standing::NotOurs,
            Scope::AllButPolicies => false,
            Scope::Orphans => standing == Standing::Orphan,
        };
        let policies = self.policies.iter().filter(|policy| is_removed(policy.standing)).map(|policy| &policy.object);
        let others = self.others.iter().filter(|_| scope != Scope::Orphans).map(|other| &other.object);
        let mut objects: Vec<&ManagedObject> = others.chain(policies).collect();
        objects.sort();
        let of = |act, objects: &[&ManagedObject]| -> Vec<Removal> {
            objects.iter().map(|&object| Removal { act, object: object.clone() }).collect()
        };
        let mut steps = Vec::new();
        for stage in objects.chunk_by(|a, b| a.kind == b.kind) {
            match stage[0].kind {
                ManagedKind::Namespace => steps.extend(of(Act::RemoveLabel, stage)),
                ManagedKind::PolicyBaseline => {
                    let has_finalizer = |object: &&&ManagedObject| object.finalizers.iter().any(|f| f == FINALIZER);
                    let finalized: Vec<&ManagedObject> = stage.iter().filter(has_finalizer).copied().collect();
                    steps.extend(of(Act::RemoveFinalizer, &finalized));
                    steps.extend(of(Act::Delete, stage));
                }
                _ => steps.extend(of(Act::Delete, stage)),
            }
        }
        steps
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::inventory::tests::one_of_each;

    fn steps(scope: Scope) -> Vec<String> {
        one_of_each().removals(scope).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_refuses_removals_goes_first_and_a_baseline_after_its_policies() {
        assert_eq!(
            steps(Scope::All),
            [
                "delete ValidatingAdmissionPolicyBinding policy-baseline-protect-policies",
                "delete ValidatingAdmissionPolicy policy-baseline-protect-policies",
                "delete NetworkPolicy team-a/baseline-default-deny-ingress",
                "delete NetworkPolicy team-a/old-default-deny-ingress",
                "delete NetworkPolicy team-b/gone-default-deny-ingress",
                "remove the finalizer policybaseline.io/delete-policies of PolicyBaseline platform",
                "delete PolicyBaseline platform",
                "delete BaselineOptOut team-a/load-test",
                "delete ControllerRevision policy-baseline-system/platform-1",
                "delete Lease policy-baseline-system/policy-baseline",
                "remove the label policybaseline.io/decided of Namespace team-a",
            ]
        );
    }

    #[test]
    fn i10_without_a_word_no_policy_is_removed() {
        let steps = steps(Scope::AllButPolicies);
        assert!(steps.len() == 8 && steps.iter().all(|step| !step.contains("NetworkPolicy")), "{steps:?}");
    }

    #[test]
    fn i4_only_a_policy_that_is_ours_and_has_no_baseline_is_an_orphan_to_remove() {
        assert_eq!(steps(Scope::Orphans), ["delete NetworkPolicy team-b/gone-default-deny-ingress"]);
        assert!(steps(Scope::All).iter().all(|step| !step.contains("copy")), "a copy is not ours");
    }

    #[test]
    fn every_step_says_the_same_before_and_after() {
        for step in one_of_each().removals(Scope::All) {
            let (before, after) = (step.to_string(), step.done());
            assert_eq!(before.split_once(' ').unwrap().1, after.split_once(' ').unwrap().1);
        }
    }
}
