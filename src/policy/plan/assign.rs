//! Which baseline applies to a namespace.
//! Exactly one Enforce baseline wins. A stalled baseline keeps what it holds. An Audit baseline gets no namespace.
//! One file: the order in which baselines compete is one decision, and most of the file is its tests.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    num::NonZeroU64,
    sync::Arc,
};

use jiff::Timestamp;

use super::{Baseline, Namespace};
use crate::{
    api::{
        NamespaceName, Role,
        baseline::{DeletionPolicy, ExistingNamespaces, Mode},
    },
    policy::netpol::Wide,
};

/// All baselines of the cluster. The valid ones are sorted by precedence.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
pub struct Baselines {
    valid: Vec<Arc<Baseline>>,
    invalid: BTreeSet<Arc<str>>,
    by_name: BTreeMap<Arc<str>, Arc<Baseline>>,
    /// For each baseline that is invalid, suspended or in mode Audit: the resourceVersion since which nothing is written for it. Absent if
    /// that is not known.
    resting_since: BTreeMap<Arc<str>, u64>,
    /// The baselines that must not release anything until their owner confirms it.
    awaiting: BTreeSet<Arc<str>>,
    /// For each baseline: the namespaces that its rollout has not reached, and what each of them keeps.
    behind: BTreeMap<Arc<str>, Behind>,
    /// For each baseline: the open namespaces that a wave of its rollout will close.
    to_close: BTreeMap<Arc<str>, BTreeSet<NamespaceName>>,
}

/// Namespaces that a rollout has not reached, and the revision of the baseline that each of them keeps.
pub type Behind = BTreeMap<NamespaceName, Arc<Baseline>>;

/// The state of the baseline that a label names.
#[derive(Clone, Copy, Debug)]
pub enum Known<'a> {
    /// It exists and is valid.
    Valid(&'a Arc<Baseline>),
    /// It exists, but its spec is invalid: the policies that it owns are frozen.
    Invalid,
    /// It does not exist: the policies that it owned are orphaned.
    Gone,
}

impl Baselines {
    /// Adds a baseline, or replaces the one with the same name. If that one awaits confirmation of a release, it still does.
    pub fn insert(&mut self, baseline: Arc<Baseline>) {
        self.take_out(&baseline.name);
        self.by_name.insert(baseline.name.clone(), baseline.clone());
        let rank = |b: &Baseline| (Reverse(b.priority), b.name.clone());
        let at = self.valid.partition_point(|b| rank(b) < rank(&baseline));
        self.valid.insert(at, baseline);
    }

    /// Records that a baseline with this name exists but its spec is invalid.
    pub fn insert_invalid(&mut self, name: Arc<str>) {
        self.remove(&name);
        self.invalid.insert(name);
    }

    /// Sets the resourceVersion since which nothing is written for a baseline, because it is invalid, suspended or in mode
    /// Audit. `None`: that is not known.
    pub fn set_resting_since(&mut self, name: &Arc<str>, since: Option<u64>) {
        self.resting_since.remove(name);
        self.resting_since.extend(since.map(|since| (name.clone(), since)));
    }

    /// Removes a baseline.
    pub fn remove(&mut self, name: &str) {
        self.awaiting.remove(name);
        self.resting_since.remove(name);
        self.take_out(name);
    }

    fn take_out(&mut self, name: &str) {
        self.invalid.remove(name);
        if self.by_name.remove(name).is_some() {
            self.valid.retain(|b| &*b.name != name);
        }
    }

    /// Sets whether a baseline must wait for a confirmation before namespaces lose default-denies by its change.
    pub fn await_confirmation(&mut self, name: &Arc<str>, waits: bool) {
        self.awaiting.remove(name);
        if waits {
            self.awaiting.insert(name.clone());
        }
    }

    /// Whether a baseline has an invalid spec. Nobody can say what such a baseline would select.
    pub fn some_are_invalid(&self) -> bool {
        !self.invalid.is_empty()
    }

    /// Whether the operator may forget that a namespace without policies of ours held some. It may if no baseline applies there,
    /// and if the former owner cannot claim the namespace again. An Audit baseline that selects it, an invalid baseline, and one that
    /// awaits confirmation can. If the former owner is unknown, any of these may be the owner, so the answer is no.
    pub fn leave_free(&self, ns: &Namespace, holdings: &Holdings) -> bool {
        let Assignment { decision: Decision::Unselected, audits, .. } = self.decide(ns, holdings) else { return false };
        let may_return = audits.iter().map(|b| &b.name).chain(&self.invalid).chain(&self.awaiting);
        may_return.into_iter().all(|name| holdings.owner.as_ref().is_some_and(|owner| owner != name))
    }

    /// Sets the namespaces that keep a former revision of a baseline. All other namespaces get what its spec asks for.
    pub fn set_behind(&mut self, name: &Arc<str>, behind: Behind) {
        self.behind.remove(name);
        if !behind.is_empty() {
            self.behind.insert(name.clone(), behind);
        }
    }

    /// The namespaces that keep a former revision of a baseline.
    pub fn behind(&self, name: &str) -> Option<&Behind> {
        self.behind.get(name)
    }

    /// A namespace no longer keeps a former revision of a baseline. Returns whether it kept one.
    pub fn catch_up(&mut self, name: &str, ns: &NamespaceName) -> bool {
        self.behind.get_mut(name).is_some_and(|behind| behind.remove(ns).is_some())
    }

    /// Sets the open namespaces that a wave of the rollout of a baseline will close. Returns those that were set before.
    pub fn set_to_close(&mut self, name: &Arc<str>, open: BTreeSet<NamespaceName>) -> BTreeSet<NamespaceName> {
        let before = self.to_close.remove(name).unwrap_or_default();
        if !open.is_empty() {
            self.to_close.insert(name.clone(), open);
        }
        before
    }

    /// The open namespaces that a wave of the rollout of a baseline will close.
    pub fn to_close(&self, name: &str) -> impl Iterator<Item = &NamespaceName> {
        self.to_close.get(name).into_iter().flatten()
    }

    /// A namespace no longer waits for the wave that closes it.
    pub fn close_now(&mut self, name: &str, ns: &NamespaceName) {
        if let Some(open) = self.to_close.get_mut(name) {
            open.remove(ns);
        }
    }

    /// Whether an open namespace waits for the wave of a baseline that closes it.
    pub fn waits_to_be_closed(&self, name: &str, ns: &Namespace, holdings: &Holdings) -> bool {
        !holdings.any && self.to_close.get(name).is_some_and(|open| open.contains(&ns.name))
    }

    /// The state of the baseline with this name.
    pub fn known(&self, name: &str) -> Known<'_> {
        match self.by_name.get(name) {
            Some(baseline) => Known::Valid(baseline),
            None if self.invalid.contains(name) => Known::Invalid,
            None => Known::Gone,
        }
    }

    /// Whether a baseline neither writes nor removes, because its spec is invalid or it is suspended.
    pub fn rests(&self, name: &str) -> bool {
        match self.known(name) {
            Known::Valid(baseline) => baseline.suspended,
            Known::Invalid => true,
            Known::Gone => false,
        }
    }

    /// The baseline whose plan holds in a namespace under this decision. A frozen one keeps what it plans, although nothing is written.
    pub fn keeper<'a>(&'a self, decision: &'a Decision, ns: &Namespace) -> Option<&'a Baseline> {
        match decision {
            Decision::Protected(baseline) => Some(baseline),
            Decision::Frozen(name) => match self.known(name) {
                Known::Valid(baseline) => Some(&**baseline).filter(|baseline| baseline.selects(ns)),
                Known::Invalid | Known::Gone => None,
            },
            Decision::LeaveAlone | Decision::Reported(_) | Decision::Unselected => None,
        }
    }

    /// The valid baselines, the highest precedence first.
    #[cfg(test)]
    pub fn valid(&self) -> &[Arc<Baseline>] {
        &self.valid
    }

    /// Whether the operator may remove a policy that carries this baseline's label and that no plan contains (the removal rules).
    pub fn may_remove(&self, name: &str) -> bool {
        match self.known(name) {
            Known::Valid(b) if b.suspended => false,
            Known::Valid(_) => self.may_remove_later(name),
            Known::Invalid | Known::Gone => false,
        }
    }

    /// Whether it may do so when the baseline is neither suspended nor invalid any more. Of an invalid one, nobody knows: it may.
    pub(super) fn may_remove_later(&self, name: &str) -> bool {
        match self.known(name) {
            Known::Valid(b) if b.deleting => b.deletion_policy == DeletionPolicy::Delete,
            Known::Valid(b) => b.mode == Mode::Enforce,
            Known::Invalid => true,
            Known::Gone => false,
        }
    }
}

/// Which policies of ours a namespace holds, or held before.
#[derive(Clone, Debug, Default)]
pub struct Holdings {
    /// The namespace holds a policy of ours, or held one while this process watched and has not been released since.
    /// `existingNamespaces` does not treat such a namespace as existing.
    pub any: bool,
    /// When an opt-out of this namespace was first in force. A baseline that existed then does not treat the namespace as existing either.
    pub opted_out: Option<Timestamp>,
    /// The baselines named by the labels of our policies. With each: the lowest resourceVersion of a policy that names it and is not being
    /// deleted; the highest number if there is none.
    pub baselines: BTreeMap<Arc<str>, u64>,
    /// The default-denies that are there, each with the baseline that its label names.
    pub denies: Vec<(Role, Arc<str>)>,
    /// Those of our policies there that open something to everybody, by name.
    pub wide: Vec<(Arc<str>, Arc<Wide>)>,
    /// The prefixes of the default-denies that are there; empty if no policy there opens anything to everybody.
    pub prefixes: BTreeSet<Arc<str>>,
    /// The baseline whose plan the namespace was last seen to hold. Unlike a label, this cannot be forged.
    pub owner: Option<Arc<str>>,
    /// The resourceVersion with which the operator saw the namespace appear. `None` if a list named it first.
    pub appeared: Option<NonZeroU64>,
}

impl Holdings {
    /// Notes a policy of ours that names this baseline. `version`: its resourceVersion, unless it is being deleted.
    pub fn add_named(&mut self, baseline: Arc<str>, version: Option<u64>) {
        let lowest = self.baselines.entry(baseline).or_insert(u64::MAX);
        *lowest = version.unwrap_or(u64::MAX).min(*lowest);
    }

    /// Whether the operator saw the namespace appear after this resourceVersion.
    pub fn appeared_after(&self, version: u64) -> bool {
        self.appeared.is_some_and(|at| at.get() > version)
    }
}

/// What the operator does in a namespace.
#[derive(Clone, Debug)]
pub enum Decision {
    /// The namespace is being deleted, and no baseline keeps policies there: the operator does nothing.
    LeaveAlone,
    /// No baseline applies. The operator removes what an existing baseline left there.
    Unselected,
    /// An invalid or suspended baseline holds the namespace, or the namespace would be opened by a change that awaits confirmation. The operator writes and removes nothing.
    Frozen(Arc<str>),
    /// The namespace holds no policy of ours, and is older than the baseline or waits for a wave that closes it: the operator only reports
    /// it.
    Reported(Arc<Baseline>),
    /// The operator keeps this baseline's policies here: those that its spec asks for, or a former revision until a rollout
    /// reaches the namespace. If the namespace is being deleted: those of them that still exist.
    Protected(Arc<Baseline>),
}

/// The baselines that may apply to a namespace.
pub(super) struct Candidates {
    /// Audit baselines that select it.
    audits: Vec<Arc<Baseline>>,
    /// Enforce baselines that select it, the highest precedence first.
    pub(super) enforcing: Vec<Arc<Baseline>>,
    /// The invalid or suspended baseline that keeps the namespace as it is.
    pub(super) frozen_by: Option<Arc<str>>,
}

/// The decision, and the other baselines that select the namespace.
#[derive(Clone, Debug)]
pub struct Assignment {
    /// What the operator does in the namespace.
    pub decision: Decision,
    /// Enforce baselines that select the namespace but have a lower precedence.
    pub shadowed: Vec<Arc<Baseline>>,
    /// Audit baselines that select the namespace.
    pub audits: Vec<Arc<Baseline>>,
}

impl Baselines {
    /// Decides what the operator does in one namespace. In a namespace that is being deleted, only the baseline that protects it counts,
    /// as long as pods may run there.
    pub fn decide(&self, ns: &Namespace, holdings: &Holdings) -> Assignment {
        if !ns.terminating {
            return self.decide_living(ns, holdings);
        }
        let decision = match self.decide_living(ns, holdings).decision {
            Decision::Protected(baseline) if !ns.pods_gone => Decision::Protected(baseline),
            _ => Decision::LeaveAlone,
        };
        Assignment { decision, shadowed: vec![], audits: vec![] }
    }

    /// The baselines that may apply to a namespace.
    pub(super) fn candidates(&self, ns: &Namespace, holdings: &Holdings) -> Candidates {
        let (audits, enforcing): (Vec<_>, Vec<_>) =
            self.valid.iter().filter(|b| !b.deleting && b.selects(ns)).cloned().partition(|b| b.mode == Mode::Audit);
        // A label can be forged, and a forged label that names a stalled baseline must not stop repairs. So the label freezes
        // nothing if the known owner is valid, or if a policy names a valid baseline that selects the namespace and is not suspended.
        // Nor does it if the policy was written after the operator had stopped to write for that baseline: somebody else wrote it.
        let owner = holdings.owner.as_ref().and_then(|owner| self.by_name.get(owner));
        let known_owner = owner.is_some() || enforcing.iter().any(|b| !b.suspended && holdings.baselines.contains_key(&b.name));
        let wrote = |name: &str, version: u64| self.resting_since.get(name).is_none_or(|since| version <= *since);
        let is_named = |owner: &&Arc<str>| self.rests(owner) && holdings.baselines.contains_key(*owner);
        let by_label = holdings.baselines.iter().find(|&(name, version)| self.rests(name) && wrote(name, *version));
        let by_label = by_label.map(|(name, _)| name).filter(|_| !known_owner);
        let frozen_by = holdings.owner.as_ref().filter(is_named).or(by_label).or(owner.filter(|b| b.suspended).map(|b| &b.name));
        // A suspended baseline with the highest precedence keeps its place.
        let frozen_by = frozen_by.or(enforcing.first().filter(|b| b.suspended).map(|b| &b.name)).cloned();
        Candidates { audits, enforcing, frozen_by }
    }

    fn decide_living(&self, ns: &Namespace, holdings: &Holdings) -> Assignment {
        let Candidates { audits, mut enforcing, frozen_by } = self.candidates(ns, holdings);
        let awaits = || {
            let changed = if self.awaiting.is_empty() { BTreeSet::new() } else { self.openers(ns, holdings, enforcing.first()) };
            changed.into_iter().find(|name| self.awaiting.contains(name))
        };
        if let Some(name) = frozen_by.or_else(awaits) {
            enforcing.retain(|b| b.name != name);
            return Assignment { decision: Decision::Frozen(name), shadowed: enforcing, audits };
        }
        if enforcing.is_empty() {
            if let Some(name) = holdings.baselines.keys().find(|name| self.awaiting.contains(*name)) {
                return Assignment { decision: Decision::Frozen(name.clone()), shadowed: vec![], audits };
            }
            return Assignment { decision: Decision::Unselected, shadowed: vec![], audits };
        }
        let winner = enforcing.remove(0);
        let decision = if winner.only_reports(ns, holdings) || self.waits_to_be_closed(&winner.name, ns, holdings) {
            Decision::Reported(winner)
        } else {
            let kept = self.behind(&winner.name).and_then(|behind| behind.get(&ns.name)).cloned();
            Decision::Protected(kept.unwrap_or(winner))
        };
        Assignment { decision, shadowed: enforcing, audits }
    }
}

impl Baseline {
    /// Whether the baseline only reports this namespace: the namespace was there before the baseline and held no policy of ours.
    /// Only `existingNamespaces: Enforce` closes such a namespace.
    pub fn only_reports(&self, ns: &Namespace, holdings: &Holdings) -> bool {
        let was_opted_out = holdings.opted_out.is_some_and(|at| at >= self.created);
        self.existing == ExistingNamespaces::Report && self.is_younger(ns, holdings) && !holdings.any && !was_opted_out
    }

    /// Whether the namespace was there before the baseline. Creation times have whole seconds. Within one second, only a namespace that
    /// the operator saw appear after the baseline is newer: a mistake in the other direction would cut off what runs there.
    pub fn is_younger(&self, ns: &Namespace, holdings: &Holdings) -> bool {
        let appeared_later = || self.first_seen.is_some_and(|version| holdings.appeared_after(version));
        ns.created < self.created || (ns.created == self.created && !appeared_later())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testkit::{checked, checked_at, deleting, namespace};

    const OLD: i64 = 100;
    const NEW: i64 = 300;

    fn all(baselines: Vec<Baseline>) -> Baselines {
        let mut all = Baselines::default();
        for b in baselines {
            all.insert(Arc::new(b));
        }
        all
    }

    fn winner(baselines: &Baselines, ns: &Namespace) -> String {
        tell(&baselines.decide(ns, &Holdings::default()).decision)
    }

    fn tell(d: &Decision) -> String {
        match d {
            Decision::LeaveAlone => "leave alone".into(),
            Decision::Unselected => "unselected".into(),
            Decision::Frozen(b) => format!("frozen {b}"),
            Decision::Reported(b) => format!("reported {}", b.name),
            Decision::Protected(b) => format!("protected {}", b.name),
        }
    }

    fn held_by(name: &str) -> Holdings {
        let denies = [Role::DefaultDenyIngress, Role::DefaultDenyEgress].map(|role| (role, Arc::from(name))).to_vec();
        Holdings { any: true, baselines: [(Arc::from(name), 0)].into(), denies, ..Holdings::default() }
    }

    #[test]
    fn the_highest_priority_wins_then_the_first_name_in_byte_order() {
        let ns = namespace("a", &[]);
        let b = all(vec![
            checked_at("b", OLD, json!({})),
            checked_at("a", OLD, json!({})),
            checked_at("z", OLD, json!({"priority": 1})),
        ]);
        assert_eq!(winner(&b, &ns), "protected z");
        let b = all(vec![checked_at("b", OLD, json!({})), checked_at("a", OLD, json!({})), checked_at("B", OLD, json!({}))]);
        assert_eq!(winner(&b, &ns), "protected B");
        assert_eq!(b.decide(&ns, &Holdings::default()).shadowed.len(), 2);
    }

    #[test]
    fn an_audit_baseline_disarms_nobody_however_high_its_priority() {
        let b =
            all(vec![checked_at("audit", OLD, json!({"mode": "Audit", "priority": 1000})), checked_at("real", OLD, json!({}))]);
        let verdict = b.decide(&namespace("a", &[]), &Holdings::default());
        assert_eq!(tell(&verdict.decision), "protected real");
        assert_eq!(verdict.audits.len(), 1);
        assert!(!b.may_remove("audit"));
    }

    #[test]
    fn i7_a_forged_label_of_a_stalled_baseline_freezes_nothing_that_a_living_one_holds() {
        let mut b = all(vec![checked_at("good", OLD, json!({}))]);
        b.insert_invalid("bad".into());
        let ns = namespace("a", &[]);
        // As after a restart: the operator does not remember the owner.
        let forged =
            Holdings { any: true, baselines: ["bad", "good"].map(|name| (Arc::from(name), 0)).into(), ..Holdings::default() };
        assert_eq!(tell(&b.decide(&ns, &forged).decision), "protected good");
        assert_eq!(tell(&b.decide(&ns, &held_by("bad")).decision), "frozen bad");
    }

    #[test]
    fn an_older_namespace_that_holds_nothing_of_ours_is_only_reported() {
        let b = all(vec![checked_at("b", NEW, json!({}))]);
        let ns = namespace("a", &[]);
        assert_eq!(winner(&b, &ns), "reported b");
        assert_eq!(tell(&b.decide(&ns, &held_by("gone")).decision), "protected b");
        let b = all(vec![checked_at("b", NEW, json!({"existingNamespaces": "Enforce"}))]);
        assert_eq!(winner(&b, &ns), "protected b");
    }

    #[test]
    fn of_the_second_of_the_baseline_only_a_namespace_that_was_seen_to_appear_after_it_is_new() {
        let ns = namespace("a", &[]);
        let same = all(vec![checked_at("b", ns.created.as_second(), json!({})).first_seen_at(7)]);
        let decided = |baselines: &Baselines, appeared: u64| {
            let holdings = Holdings { appeared: NonZeroU64::new(appeared), ..Holdings::default() };
            tell(&baselines.decide(&ns, &holdings).decision)
        };
        assert_eq!(
            [0, 6, 7, 8].map(|appeared| decided(&same, appeared)),
            ["reported b", "reported b", "reported b", "protected b"]
        );
        // The versions of a cluster pass 32 bits, too.
        let at_the_end = all(vec![checked_at("b", ns.created.as_second(), json!({})).first_seen_at((8 << 32) - 2)]);
        assert_eq!([(8 << 32) - 3, (8 << 32) + 3].map(|appeared| decided(&at_the_end, appeared)), ["reported b", "protected b"]);
        // Where the times differ, they decide.
        let [before, after] = [OLD, NEW].map(|at| all(vec![checked_at("b", at, json!({})).first_seen_at(7)]));
        assert_eq!((decided(&before, 6), decided(&after, 8)), ("protected b".into(), "reported b".into()));
        // What holds policies stays protected, also after a restart.
        assert_eq!(tell(&same.decide(&ns, &held_by("b")).decision), "protected b");
    }

    #[test]
    fn i5_in_a_namespace_that_is_being_deleted_only_what_is_protected_is_kept_while_pods_may_run() {
        let going = || Namespace { terminating: true, ..namespace("a", &[]) };
        let b = all(vec![checked_at("b", OLD, json!({})), checked_at("c", OLD, json!({}))]);
        let verdict = b.decide(&going(), &Holdings::default());
        assert_eq!((tell(&verdict.decision), verdict.shadowed.len()), ("protected b".into(), 0));
        assert_eq!(winner(&b, &Namespace { pods_gone: true, ..going() }), "leave alone");
        for (existing, expected) in [("Report", "leave alone"), ("Enforce", "protected b")] {
            let b = all(vec![checked_at("b", NEW, json!({"existingNamespaces": existing}))]);
            assert_eq!(winner(&b, &going()), expected);
        }
        // Nothing is removed there, and nothing is only reported.
        let elsewhere = json!({"namespaceSelector": {"matchLabels": {"x": "y"}}});
        assert_eq!(winner(&all(vec![checked_at("b", OLD, elsewhere)]), &going()), "leave alone");
        let audit = all(vec![checked_at("b", OLD, json!({"mode": "Audit"}))]).decide(&going(), &Holdings::default());
        assert_eq!((tell(&audit.decision), audit.audits.len()), ("leave alone".into(), 0));
    }

    #[test]
    fn i7_an_invalid_baseline_freezes_what_is_its_own_and_nothing_else() {
        let mut b = all(vec![checked_at("good", OLD, json!({}))]);
        b.insert_invalid("bad".into());
        let ns = namespace("a", &[]);
        assert_eq!(tell(&b.decide(&ns, &held_by("bad")).decision), "frozen bad");
        assert_eq!(tell(&b.decide(&ns, &held_by("good")).decision), "protected good");
        assert_eq!(tell(&b.decide(&ns, &Holdings::default()).decision), "protected good");
        assert!(!b.may_remove("bad"));
    }

    #[test]
    fn a_forged_label_of_a_stalled_baseline_freezes_nothing() {
        let mut b = all(vec![checked_at("good", OLD, json!({}))]);
        b.insert_invalid("bad".into());
        let forged = Holdings { owner: Some("good".into()), ..held_by("bad") };
        assert_eq!(tell(&b.decide(&namespace("a", &[]), &forged).decision), "protected good");
        b.insert_invalid("good".into());
        assert_eq!(tell(&b.decide(&namespace("a", &[]), &forged).decision), "frozen bad");
    }

    #[test]
    fn i7_a_policy_that_was_written_while_the_baseline_that_it_names_rested_freezes_nothing() {
        let ns = namespace("a", &[]);
        let elsewhere = json!({"namespaceSelector": {"matchLabels": {"x": "y"}}});
        let mut invalid = all(vec![checked_at("good", OLD, json!({}))]);
        invalid.insert_invalid("bad".into());
        let suspended = all(vec![checked_at("good", OLD, json!({})), suspended("bad", elsewhere)]);
        for mut b in [invalid, suspended] {
            // As after a restart: the operator does not remember the owner.
            let held = |version: u64| Holdings { baselines: [("bad".into(), version)].into(), ..held_by("bad") };
            let decided = |b: &Baselines, holdings: Holdings| tell(&b.decide(&ns, &holdings).decision);
            assert_eq!(decided(&b, held(501)), "frozen bad", "nobody knows since when it rests");
            b.set_resting_since(&"bad".into(), Some(500));
            let by_version = [0, 499, 500, 501].map(|version| decided(&b, held(version)));
            assert_eq!(by_version, ["frozen bad", "frozen bad", "frozen bad", "protected good"]);
            // What the operator remembers cannot be forged: neither by touching all policies, nor by the name of another baseline.
            let touched = || Holdings { owner: Some("bad".into()), ..held(501) };
            assert_eq!(decided(&b, touched()), "frozen bad");
            let mut named = touched();
            named.baselines.insert("good".into(), 502);
            assert_eq!(decided(&b, named), "frozen bad");
            b.set_resting_since(&"bad".into(), None);
            assert_eq!(decided(&b, held(501)), "frozen bad");
        }
    }

    fn suspended(name: &str, spec: serde_json::Value) -> Baseline {
        let mut baseline = checked_at(name, OLD, spec);
        baseline.suspended = true;
        baseline
    }

    #[test]
    fn a_suspended_baseline_keeps_its_claims_and_removes_nothing() {
        let ns = namespace("a", &[]);
        let b = all(vec![suspended("first", json!({"priority": 1})), checked_at("second", OLD, json!({}))]);
        let verdict = b.decide(&ns, &Holdings::default());
        assert_eq!((tell(&verdict.decision), verdict.shadowed.len()), ("frozen first".into(), 1));
        assert!(!b.may_remove("first"));
        // A suspended baseline with a lower precedence blocks no other baseline.
        let b = all(vec![checked_at("first", OLD, json!({"priority": 1})), suspended("second", json!({}))]);
        assert_eq!(winner(&b, &ns), "protected first");
        // A suspended baseline keeps a namespace that it held before its selector was edited, even if only the labels still show that.
        let b = all(vec![
            suspended("left", json!({"namespaceSelector": {"matchLabels": {"x": "y"}}})),
            checked_at("other", OLD, json!({})),
        ]);
        assert_eq!(tell(&b.decide(&ns, &held_by("left")).decision), "frozen left");
        let known = Holdings { owner: Some("left".into()), ..held_by("left") };
        assert_eq!(tell(&b.decide(&ns, &known).decision), "frozen left");
        // A forged label does not freeze a namespace that another baseline is known to hold.
        let forged = Holdings { owner: Some("other".into()), ..held_by("left") };
        assert_eq!(tell(&b.decide(&ns, &forged).decision), "protected other");
        assert_eq!(tell(&b.decide(&Namespace { terminating: true, ..ns }, &held_by("left")).decision), "leave alone");
    }

    #[test]
    fn a_change_that_awaits_confirmation_keeps_what_stands_there_and_hinders_no_other_baseline() {
        let gone = json!({"namespaceSelector": {"matchLabels": {"x": "y"}}});
        let mut b = all(vec![checked_at("typo", OLD, gone.clone())]);
        let ns = namespace("a", &[]);
        assert_eq!(b.effects_of_changes(&ns, &held_by("typo")).opened_by, [Arc::from("typo")].into());
        assert_eq!(tell(&b.decide(&ns, &held_by("typo")).decision), "unselected");
        b.await_confirmation(&"typo".into(), true);
        assert_eq!(tell(&b.decide(&ns, &held_by("typo")).decision), "frozen typo");
        assert_eq!(tell(&b.decide(&ns, &held_by("gone")).decision), "unselected");
        assert_eq!(tell(&b.decide(&namespace("b", &[("x", "y")]), &Holdings::default()).decision), "protected typo");
        // A namespace that another baseline closes as well loses nothing.
        b.insert(Arc::new(checked_at("other", OLD, json!({}))));
        assert!(b.effects_of_changes(&ns, &held_by("typo")).opened_by.is_empty());
        assert_eq!(tell(&b.decide(&ns, &held_by("typo")).decision), "protected other");
        b.remove("other");
        b.await_confirmation(&"typo".into(), false);
        assert_eq!(tell(&b.decide(&ns, &held_by("typo")).decision), "unselected");
    }

    #[test]
    fn i10_only_a_living_valid_enforce_baseline_or_a_deletion_that_says_so_removes() {
        let b = all(vec![
            checked_at("enforce", OLD, json!({})),
            checked_at("audit", OLD, json!({"mode": "Audit"})),
            deleting(checked("orphan", json!({}))),
            deleting(checked("delete", json!({"deletionPolicy": "Delete"}))),
        ]);
        assert_eq!(["enforce", "audit", "orphan", "delete", "gone"].map(|n| b.may_remove(n)), [true, false, false, true, false]);
    }

    #[test]
    fn a_namespace_that_a_rollout_has_not_reached_keeps_what_it_has() {
        let mut b = all(vec![checked_at("b", OLD, json!({"dns": {"ports": [5353]}}))]);
        let target = b.valid()[0].clone();
        let former = Arc::new(target.at(&checked("b", json!({})).revision, "operator").unwrap());
        let ns = namespace("a", &[]);
        b.set_behind(&target.name, [(ns.name.clone(), former)].into());
        let keeps = |b: &Baselines, ns: &Namespace| match b.decide(ns, &Holdings::default()).decision {
            Decision::Protected(b) => b.is_former(),
            _ => panic!("not protected"),
        };
        assert!(keeps(&b, &ns) && !keeps(&b, &namespace("new", &[])));
        b.insert(target);
        assert!(keeps(&b, &ns), "an edit moves nobody by itself");
        assert!(b.catch_up("b", &ns.name) && !b.catch_up("b", &ns.name));
        assert!(!keeps(&b, &ns));
    }

    #[test]
    fn a_baseline_that_is_being_deleted_claims_nothing() {
        let b = all(vec![deleting(checked("b", json!({})))]);
        assert_eq!(winner(&b, &namespace("a", &[])), "unselected");
    }

    #[test]
    fn a_baseline_that_becomes_invalid_or_valid_again_is_known_once() {
        let mut b = all(vec![checked_at("b", OLD, json!({}))]);
        b.insert_invalid("b".into());
        assert!(matches!(b.known("b"), Known::Invalid));
        assert!(b.valid().is_empty());
        b.insert(Arc::new(checked_at("b", OLD, json!({}))));
        assert!(matches!(b.known("b"), Known::Valid(_)));
        b.remove("b");
        assert!(matches!(b.known("b"), Known::Gone));
    }
}
