//! Compares plan and observed policies. Gives one drift for each policy that is not as planned, with its class and its repair.

use std::sync::Arc;

use strum::{Display, IntoStaticStr, VariantArray};

use super::{
    Policies,
    fingerprint::{Fingerprint, meta_digest},
    normal::spec_digest,
};
use crate::{
    api::{Purpose, Uid, finalizers::KnownFinalizer},
    policy::{
        digest::Digest,
        plan::{Baseline, Rendered, Stamp},
    },
};

/// The kinds of drift.
#[derive(Clone, Copy, Debug, Display, Eq, Hash, IntoStaticStr, Ord, PartialEq, PartialOrd, VariantArray)]
#[strum(const_into_str)]
pub enum Class {
    /// A planned policy does not exist.
    Missing,
    /// Its spec differs.
    SpecChanged,
    /// A label or annotation of ours differs.
    MetadataChanged,
    /// An object that is not ours has the planned name.
    Unmanaged,
    /// Foreign ownerReferences or tracking keys would let somebody else delete it.
    Pinned,
    /// It has a deletionTimestamp, and a finalizer still holds it.
    Terminating,
    /// Ours, of an existing and valid baseline that no longer plans it.
    Stale,
}

impl Class {
    /// Whether traffic that the plan denies may be allowed until the drift is repaired. Nothing is known of the spec of a policy that is not
    /// ours, so that counts too.
    pub const fn opens(self) -> bool {
        match self {
            Self::Missing | Self::SpecChanged | Self::Unmanaged | Self::Terminating => true,
            Self::MetadataChanged | Self::Pinned | Self::Stale => false,
        }
    }
}

/// One planned policy, in the form that is compared.
#[derive(Clone, Copy, Debug)]
pub struct PlannedPolicy<'a> {
    /// Its index among the policies of the baseline.
    pub index: usize,
    /// The name of the object.
    pub name: &'a str,
    /// What it is for.
    pub purpose: &'a Purpose,
    stamp: &'a Stamp,
    expected: Expected,
}

/// The digests that an observed policy must have.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Expected {
    spec: Digest,
    meta: Digest,
    /// The digest of the metadata in the other form: with or without the annotation for what was asked for.
    also: Digest,
}

/// The digests of all policies of one baseline. Computed once for a baseline, not for each namespace.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub struct PlannedPolicies(Vec<Expected>);

/// Computes the digests of a baseline's policies.
pub fn targets(baseline: &Baseline) -> PlannedPolicies {
    let meta = |p: &Rendered, annotations: &_| meta_digest(Some(&p.labels), Some(annotations));
    let expected =
        |p: &Rendered| Expected { spec: spec_digest(Some(&p.spec)), meta: meta(p, &p.annotations), also: meta(p, &p.also) };
    PlannedPolicies(baseline.policies.iter().map(expected).collect())
}

impl PlannedPolicies {
    /// The planned policy at `index`, to compare with. `policy` must be that policy of the same baseline.
    pub fn of<'a>(&self, index: usize, policy: &'a Rendered) -> Option<PlannedPolicy<'a>> {
        let expected = *self.0.get(index)?;
        Some(PlannedPolicy { index, name: &policy.name, purpose: &policy.purpose, stamp: &policy.stamp, expected })
    }
}

impl PlannedPolicy<'_> {
    /// Whether this policy is as planned.
    pub fn is_met_by(&self, print: &Fingerprint) -> bool {
        diff_one(self, Some(print)).is_none()
    }
}

impl Expected {
    /// Whether a policy is as planned, judged by the object that a write returned (I14).
    pub fn is(&self, print: &Fingerprint) -> bool {
        let deletable_by_others = print.pinned && print.terminating.is_none();
        print.ours && !deletable_by_others && print.spec == self.spec && print.meta == self.meta
    }
}

/// How to repair a drift.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Repair {
    /// Apply a planned policy.
    Apply {
        /// The index of the policy in the baseline.
        index: usize,
        /// The existing object. If set, the write can only change that object.
        uid: Option<Uid>,
        /// The extra keys that the existing object lists in its annotation, from the plan that it was written for.
        former_keys: Option<Arc<str>>,
        /// What the object must look like after the write.
        expected: Expected,
    },
    /// Delete this object, only in the version that was observed.
    Delete {
        /// The uid of the object.
        uid: Uid,
        /// The resourceVersion of the object.
        version: u64,
    },
    /// Write nothing: the object goes away with its finalizer, and the operator then creates it again.
    WaitForFinalizer,
    /// Remove this finalizer from this object, only in the version that was observed. The object was deleted long ago, and the owner of
    /// the finalizer is not in the cluster. [`diff`] does not know that, so the engine decides it.
    RemoveFinalizer {
        /// The uid of the object.
        uid: Uid,
        /// The resourceVersion of the object.
        version: u64,
        /// The finalizer.
        finalizer: KnownFinalizer,
    },
}

impl Repair {
    /// Whether the policy itself stays as it is, because only finalizers keep it.
    pub const fn concerns_finalizers(&self) -> bool {
        matches!(self, Self::WaitForFinalizer | Self::RemoveFinalizer { .. })
    }
}

/// A difference between plan and observed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Drift {
    /// The name of the policy.
    pub policy: String,
    /// The kind of drift.
    pub class: Class,
    /// The baseline that the policy's label names; `None` if the policy is not ours or does not exist.
    pub baseline: Option<Arc<str>>,
    /// The policy was written for another plan than the current one.
    pub outdated: bool,
    /// The last other writer according to managedFields. This is a claim, not a proof.
    pub who: Option<Arc<str>>,
    /// How to repair it.
    pub fix: Repair,
}

impl Drift {
    /// The last other writer as text for logs, metrics and the status: `unknown` if there is none.
    pub fn claimed_writer(&self) -> &str {
        self.who.as_deref().unwrap_or("unknown")
    }

    /// Whether the repair takes away a policy that is not planned.
    pub fn is_removal(&self) -> bool {
        self.class == Class::Stale || matches!(self.fix, Repair::Delete { .. })
    }
}

/// Compares plan and observed policies. `may_remove` says, by baseline name, whether an unplanned policy of ours may be removed.
pub fn diff<'a>(
    planned: impl IntoIterator<Item = PlannedPolicy<'a>>,
    observed: &Policies,
    may_remove: impl Fn(&str) -> bool,
) -> Vec<Drift> {
    let mut names = Vec::with_capacity(3);
    let mut drifts = Vec::new();
    for target in planned {
        names.push(target.name);
        drifts.extend(diff_one(&target, observed.get(target.name)));
    }
    // Removals come last: everything planned is confirmed before any policy of ours is removed.
    for (name, print) in observed.iter() {
        let planned = names.contains(&&**name);
        let removable = print.ours && print.terminating.is_none() && print.baseline.as_deref().is_some_and(&may_remove);
        if !planned && removable {
            let fix = Repair::Delete { uid: print.uid.clone(), version: print.version };
            let baseline = print.baseline.clone();
            drifts.push(Drift { policy: name.to_string(), class: Class::Stale, baseline, outdated: true, who: None, fix });
        }
    }
    drifts
}

fn diff_one(target: &PlannedPolicy, observed: Option<&Fingerprint>) -> Option<Drift> {
    let (policy, expected) = (target.name.to_owned(), target.expected);
    let Some(print) = observed else {
        let fix = Repair::Apply { index: target.index, uid: None, former_keys: None, expected };
        return Some(Drift { policy, class: Class::Missing, baseline: None, outdated: false, who: None, fix });
    };
    let outdated = print.plan.as_deref().is_some_and(|plan| !target.stamp.is_plan(plan));
    let drift =
        |class, fix| Some(Drift { policy, class, baseline: print.baseline.clone(), outdated, who: print.who.clone(), fix });
    let is_dressed = print.meta == expected.meta || print.meta == expected.also;
    let as_planned = print.ours && print.spec == expected.spec && is_dressed;
    let apply = Repair::Apply { index: target.index, uid: Some(print.uid.clone()), former_keys: print.keys.clone(), expected };
    let class = match print {
        _ if print.terminating.is_some() => {
            let fix = if as_planned { Repair::WaitForFinalizer } else { apply };
            return drift(Class::Terminating, fix);
        }
        _ if !print.ours => Class::Unmanaged,
        _ if print.pinned => Class::Pinned,
        _ if print.spec != expected.spec => Class::SpecChanged,
        _ if !is_dressed => Class::MetadataChanged,
        _ => return None,
    };
    drift(class, apply)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::networking::v1::NetworkPolicy;
    use serde_json::json;

    use super::*;
    use crate::{
        policy::drift::Interner,
        testkit::{checked, observed},
    };

    const NS: &str = "team-a";

    struct World {
        baseline: Baseline,
        objects: Vec<NetworkPolicy>,
    }

    impl World {
        fn compliant() -> Self {
            let baseline = checked("b", json!({}));
            let objects = baseline.policies.iter().map(|p| observed(p, NS)).collect();
            Self { baseline, objects }
        }

        fn edit(mut self, f: impl FnOnce(&mut NetworkPolicy)) -> Self {
            f(&mut self.objects[0]);
            self
        }

        fn drift(&self) -> Vec<(Class, &'static str)> {
            let targets = targets(&self.baseline);
            let planned = self.baseline.policies.iter().enumerate().filter_map(|(i, p)| targets.of(i, p));
            let mut texts = Interner::default();
            let prints =
                self.objects.iter().map(|o| (o.metadata.name.clone().unwrap().into(), Fingerprint::of(o, &mut texts))).collect();
            let fix = |f: &Repair| match f {
                Repair::Apply { uid: None, .. } => "create",
                Repair::Apply { uid: Some(_), .. } => "apply",
                Repair::Delete { .. } => "delete",
                Repair::WaitForFinalizer | Repair::RemoveFinalizer { .. } => "await",
            };
            diff(planned, &prints, |name| name == "b").iter().map(|d| (d.class, fix(&d.fix))).collect()
        }
    }

    #[test]
    fn what_is_as_planned_is_no_drift() {
        assert_eq!(World::compliant().drift(), []);
    }

    #[test]
    fn each_class_of_drift_is_told_apart() {
        let mut missing = World::compliant();
        missing.objects.remove(0);
        assert_eq!(missing.drift(), [(Class::Missing, "create")]);
        let opened = |p: &mut NetworkPolicy| p.spec.as_mut().unwrap().ingress = Some(vec![Default::default()]);
        assert_eq!(World::compliant().edit(opened).drift(), [(Class::SpecChanged, "apply")]);
        let relabelled = |p: &mut NetworkPolicy| {
            p.metadata.labels.as_mut().unwrap().insert("policybaseline.io/role".into(), "x".into());
        };
        assert_eq!(World::compliant().edit(relabelled).drift(), [(Class::MetadataChanged, "apply")]);
        assert_eq!(World::compliant().edit(|p| p.metadata.labels = None).drift(), [(Class::Unmanaged, "apply")]);
        let held = |p: &mut NetworkPolicy| p.metadata.finalizers = Some(vec!["x.example/y".into()]);
        assert_eq!(World::compliant().edit(held).drift(), [], "a finalizer deletes nothing");
        let owned = |p: &mut NetworkPolicy| p.metadata.owner_references = Some(vec![Default::default()]);
        assert_eq!(World::compliant().edit(owned).drift(), [(Class::Pinned, "apply")]);
    }

    #[test]
    fn a_terminating_policy_is_awaited_and_only_its_spec_is_kept_right() {
        let going = |p: &mut NetworkPolicy| {
            p.metadata.deletion_timestamp =
                Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(jiff::Timestamp::UNIX_EPOCH));
            p.metadata.finalizers = Some(vec!["x.example/y".into()]);
        };
        assert_eq!(World::compliant().edit(going).drift(), [(Class::Terminating, "await")]);
        let opened = |p: &mut NetworkPolicy| {
            going(p);
            p.spec.as_mut().unwrap().ingress = Some(vec![Default::default()]);
        };
        assert_eq!(World::compliant().edit(opened).drift(), [(Class::Terminating, "apply")]);
    }

    #[test]
    fn what_is_no_longer_planned_goes_last_and_only_when_it_is_ours() {
        let mut world = World::compliant();
        let former = checked("b", json!({"metadata": {"namePrefix": "old-"}}));
        world.objects.push(observed(&former.policies[0], NS));
        world.objects.push(observed(&checked("other", json!({"metadata": {"namePrefix": "other-"}})).policies[0], NS));
        let mut copy = world.objects[1].clone();
        copy.metadata.name = Some("copy".into());
        world.objects.push(copy);
        world.objects.remove(0);
        assert_eq!(world.drift(), [(Class::Missing, "create"), (Class::Stale, "delete")]);
    }

    #[test]
    fn every_class_has_a_word_of_its_own() {
        let words: std::collections::BTreeSet<_> = Class::VARIANTS.iter().map(Class::into_str).collect();
        assert_eq!(words.len(), Class::VARIANTS.len());
    }
}
