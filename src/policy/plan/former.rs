//! Finds out which revision a namespace holds, from the names and plan hashes of its policies.

use std::{collections::BTreeSet, sync::Arc};

use super::{Baseline, BaselineError, Namespace, Rendered, Revision};

/// Identifies a planned policy: its name and the hash of its plan.
type PlanHash<'a> = (&'a str, &'a str);

/// The facts that a policy in the cluster carries about its revision.
#[derive(Clone, Copy, Debug)]
pub struct StoredPolicy<'a> {
    /// The name of the object.
    pub name: &'a str,
    /// The hash of its plan, from its annotation.
    pub plan: Option<&'a str>,
    /// The hash of what was asked for, from its annotation; `None` if it has none.
    pub asked: Option<&'a str>,
}

impl<'a> StoredPolicy<'a> {
    /// Which planned policy this is. Other DNS or another version of the operator may have rendered a revision differently;
    /// the policy still counts as that revision.
    fn mark(&self, known: &[&'a Baseline], ns: &'a Namespace) -> PlanHash<'a> {
        let of_name = || known.iter().flat_map(|b| b.policies.iter().map(|p| (*b, p))).filter(|(_, p)| p.name == self.name);
        let by_plan = of_name().find(|(_, p)| self.plan.is_some_and(|plan| p.stamp.is_plan(plan)));
        let by_asked = || of_name().find(|(_, p)| self.asked == Some(&*p.stamp.asked));
        // An allow has another form where fewer directions are closed. It counts as the form that its revision plans here.
        let here = |(b, p): (&'a Baseline, &'a Rendered)| {
            b.planned(ns).find(|(_, planned)| planned.name == p.name).map_or(&p.stamp, |(_, planned)| &planned.stamp)
        };
        // If all revisions write the same policy, it does not distinguish between them.
        let planned = || known.iter().flat_map(|b| b.planned(ns)).filter(|(_, p)| p.name == self.name).map(|(_, p)| &p.stamp);
        let alike = || planned().next().filter(|first| planned().filter(|stamp| stamp == first).count() == known.len());
        let stamp = by_plan.or_else(by_asked).map(here).or_else(alike);
        (self.name, stamp.map_or_else(|| self.plan.unwrap_or_default(), |stamp| &*stamp.plan))
    }
}

impl Baseline {
    /// The same baseline with the content of an earlier revision. `operator_namespace` as in [`Baseline::check`].
    pub fn at(&self, revision: &Revision, operator_namespace: &str) -> Result<Self, BaselineError> {
        let undecodable = |error: serde_json::Error| BaselineError::Undecodable(error.to_string());
        let mut object = self.object.clone();
        object.spec = revision.within(object.spec).map_err(undecodable)?;
        let mut former = Self::assemble(&object, operator_namespace)?;
        former.key = format!("{}/{}", self.name, revision.id).into();
        Ok(former)
    }

    /// Whether this is a former revision: not what the spec asks for, but what a namespace keeps until a rollout reaches it.
    pub fn is_former(&self) -> bool {
        self.key != self.name
    }

    /// Whether the two revisions plan different policies in this namespace.
    pub fn differs_from(&self, other: &Self, ns: &Namespace) -> bool {
        self.marks(ns) != other.marks(ns)
    }

    fn marks<'a>(&'a self, ns: &'a Namespace) -> BTreeSet<PlanHash<'a>> {
        self.planned(ns).map(|(_, p)| (&*p.name, &*p.stamp.plan)).collect()
    }
}

/// The index of the former revision that a namespace keeps until a rollout reaches it. `None` if the namespace holds the target,
/// holds nothing yet, or if target and former revision plan the same there. `formers` begins with the revision that went out to
/// all namespaces; the revisions of abandoned rollouts follow.
///
/// Policies that match no revision count as the first former one. Somebody changed them while nobody watched; that is no progress.
pub fn keeps<'a>(target: &'a Baseline, formers: &'a [Arc<Baseline>], ns: &Namespace, held: &[StoredPolicy<'a>]) -> Option<usize> {
    let known: Vec<&Baseline> = std::iter::once(target).chain(formers.iter().map(|former| &**former)).collect();
    let held: BTreeSet<PlanHash> = held.iter().map(|held| held.mark(&known, ns)).collect();
    let wanted = target.marks(ns);
    if held.is_empty() || held == wanted {
        return None;
    }
    let former: Vec<BTreeSet<PlanHash>> = formers.iter().map(|former| former.marks(ns)).collect();
    let place = former.iter().position(|marks| held == *marks).or_else(|| {
        // The namespace holds no revision exactly: it was being changed, or somebody changed something.
        let is_new_in = |marks: &BTreeSet<PlanHash>, others: &[BTreeSet<PlanHash>]| {
            held.iter().any(|mark| marks.contains(mark) && !others.iter().any(|other| other.contains(mark)))
        };
        let is_known = held.iter().all(|mark| wanted.contains(mark) || former.iter().any(|marks| marks.contains(mark)));
        if is_known && is_new_in(&wanted, &former) {
            return None;
        }
        let settled = former.first().map(std::slice::from_ref).unwrap_or_default();
        let left = former.iter().enumerate().skip(1).rev().find(|(_, marks)| is_new_in(marks, settled));
        Some(left.map_or(0, |(at, _)| at))
    })?;
    former.get(place).filter(|marks| **marks != wanted).map(|_| place)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        api::names::{ANNOTATION_ASKED, ANNOTATION_PLAN},
        testkit::{baseline_object, checked, namespace},
    };

    fn port(port: i32) -> Value {
        json!({"dns": {"ports": [port]}, "namespaceSelector": {"matchLabels": {"a": "b"}}})
    }

    fn former(target: &Baseline, spec: Value) -> Arc<Baseline> {
        Arc::new(target.at(&Revision::of(&baseline_object("b", spec).spec), "operator").unwrap())
    }

    /// The revision that a namespace keeps if it holds these policies of these baselines.
    fn kept(target: &Baseline, formers: &[Arc<Baseline>], holds: &[(&Baseline, &[usize])]) -> Option<usize> {
        let ns = namespace("team-a", &[("a", "b")]);
        let policies: Vec<_> = holds.iter().flat_map(|(b, which)| which.iter().map(|i| &b.policies[*i])).collect();
        let annotation = |p: &'_ Rendered, key| p.annotations.get(key).cloned();
        let said: Vec<_> =
            policies.iter().map(|p| (&*p.name, annotation(p, ANNOTATION_PLAN), annotation(p, ANNOTATION_ASKED))).collect();
        let held = said.iter().map(|(name, plan, asked)| StoredPolicy { name, plan: plan.as_deref(), asked: asked.as_deref() });
        keeps(target, formers, &ns, &held.collect::<Vec<_>>())
    }

    #[test]
    fn a_former_revision_selects_what_the_target_selects_and_writes_what_it_wrote() {
        let target = checked("b", port(5353));
        let before = former(&target, json!({"namespaceSelector": {"matchLabels": {"x": "y"}}}));
        assert!(before.selects(&namespace("n", &[("a", "b")])) && !before.selects(&namespace("n", &[("x", "y")])));
        assert!(before.is_former() && !target.is_former());
        assert_eq!(before.policies[1].spec, checked("b", json!({})).policies[1].spec);
        assert!(target.differs_from(&before, &namespace("n", &[])));
        // The namespace of the monitoring pods has no egress policy, so this change does not affect it.
        assert!(!target.differs_from(&before, &namespace("monitoring", &[])));
    }

    #[test]
    fn what_was_stored_needs_no_rule_but_those_without_which_it_would_open_everything() {
        let target = checked("b", port(5353));
        let at = |spec: Value| target.at(&Revision::of(&baseline_object("b", spec).spec), "operator");
        for spec in [port(0), json!({"dns": {"peers": [{}]}}), json!({"metadata": {"labels": {"a": "not a value"}}})] {
            assert!(at(spec.clone()).is_ok(), "{spec}");
        }
        for monitoring in [json!({"from": []}), json!({"from": [{}]}), json!({"ports": []})] {
            assert!(at(json!({"monitoring": monitoring})).is_err(), "{monitoring}");
        }
        assert!(at(json!({"policies": []})).is_err());
    }

    #[test]
    fn what_a_namespace_keeps_is_read_from_its_policies() {
        let target = checked("b", port(3));
        let formers = [former(&target, port(1)), former(&target, port(2))];
        let [one, two] = &formers;
        assert_eq!(kept(&target, &formers, &[]), None, "a new namespace never waits");
        assert_eq!(kept(&target, &formers, &[(&target, &[0, 1, 2])]), None);
        assert_eq!(kept(&target, &formers, &[(one, &[0, 1, 2])]), Some(0));
        assert_eq!(kept(&target, &formers, &[(two, &[0, 1, 2])]), Some(1), "one that was left keeps what it has");
        // A change was half written, or somebody changed policies while the operator did not watch.
        assert_eq!(kept(&target, &formers, &[(&target, &[1])]), None);
        assert_eq!(kept(&target, &formers, &[(two, &[1])]), Some(1));
        assert_eq!(kept(&target, &formers, &[(one, &[0, 2])]), Some(0));
        let nobody = checked("b", port(9));
        assert_eq!(kept(&target, &formers, &[(&nobody, &[1])]), Some(0));
        assert_eq!(kept(&target, &formers, &[(&nobody, &[1]), (&target, &[0, 2])]), Some(0));
    }

    #[test]
    fn a_revision_that_is_rendered_otherwise_now_is_known_by_what_it_asked_for() {
        let rollout = |mut spec: Value| {
            spec["rollout"] = json!({});
            spec
        };
        let target = checked("b", rollout(port(3)));
        let formers = [former(&target, port(1)), former(&target, port(2))];
        let as_before = |b: &Baseline| {
            let mut before = b.clone();
            for policy in &mut before.policies {
                for annotations in [&mut policy.annotations, &mut policy.also] {
                    annotations.insert(ANNOTATION_PLAN.into(), format!("before {}", policy.name));
                }
            }
            before
        };
        let all: &[usize] = &[0, 1, 2];
        assert_eq!(kept(&target, &formers, &[(&as_before(&target), all)]), None, "it was reached");
        assert_eq!(kept(&target, &formers, &[(&as_before(&formers[0]), all)]), Some(0));
        assert_eq!(kept(&target, &formers, &[(&as_before(&formers[1]), all)]), Some(1));
        assert_eq!(
            kept(&target, &formers, &[(&as_before(&checked("b", rollout(port(9)))), all)]),
            Some(0),
            "nobody asked for that"
        );
        // A policy of an earlier release has no hash of what was asked for.
        let silent = as_before(&checked("b", port(3)));
        assert_eq!(kept(&target, &formers, &[(&silent, all)]), Some(0));
        assert_eq!(kept(&target, &formers, &[(&silent, &[0, 2]), (&as_before(&target), &[1])]), None, "only what differs counts");
        assert_eq!(kept(&target, &formers, &[(&as_before(&target), &[0, 2]), (&silent, &[1])]), Some(0));
    }

    #[test]
    fn an_allow_counts_for_its_revision_in_whichever_form_a_namespace_holds_it() {
        let allow = |port: i32| {
            let same = json!([{"sameNamespace": {}}]);
            let rules = |list: &str| json!([{list: same, "ports": [{"port": port}]}]);
            json!({"allows": [{"name": "x", "ingress": rules("from"), "egress": rules("to")}]})
        };
        let target = checked("b", allow(2));
        let formers = [former(&target, allow(1))];
        let before = &*formers[0];
        for form in [3, 4, 5] {
            let (roles, form): (&[usize], &[usize]) = (&[0, 1, 2], &[form]);
            assert_eq!(kept(&target, &formers, &[(&target, roles), (&target, form)]), None, "it was reached");
            assert_eq!(kept(&target, &formers, &[(before, roles), (before, form)]), Some(0));
        }
    }

    #[test]
    fn a_change_of_names_and_a_role_that_goes_are_seen_too() {
        let target = checked("b", json!({"metadata": {"namePrefix": "new-"}}));
        let formers = [former(&target, json!({}))];
        assert_eq!(kept(&target, &formers, &[(&formers[0], &[0, 1, 2])]), Some(0));
        assert_eq!(kept(&target, &formers, &[(&formers[0], &[0, 1, 2]), (&target, &[0])]), None, "on its way");
        let target = checked("b", json!({"policies": ["DefaultDenyIngress", "DefaultDenyEgress"]}));
        let formers = [former(&target, json!({}))];
        assert_eq!(kept(&target, &formers, &[(&formers[0], &[0, 1, 2])]), Some(0));
        assert_eq!(kept(&target, &formers, &[(&target, &[0, 1])]), None);
    }
}
