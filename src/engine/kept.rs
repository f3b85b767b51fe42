//! Policies of ours that somebody deleted and that finalizers keep: when that is reported, and which finalizers the operator removes
//! (record 19). Nothing else is written here.

use std::{sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};

use super::facts::entry::Entry;
use crate::{
    api::{
        finalizers::KnownFinalizers,
        reason::{NoticeReason, ViolationReason},
    },
    policy::{
        drift::{Class, Drift, Fingerprint, Repair},
        plan::{Baseline, Namespace},
        status::Problem,
    },
};

/// How long a finalizer may keep a policy before that is reported. Most are removed within seconds.
const KEPT_TOO_LONG: SignedDuration = SignedDuration::from_secs(60);

/// How long ago a policy of ours was deleted that a finalizer keeps.
fn kept_for(print: &Fingerprint, now: Timestamp) -> Option<SignedDuration> {
    print.terminating.filter(|_| print.ours).map(|since| now.duration_since(since))
}

/// Whether a finalizer has kept this policy of ours for too long.
pub fn is_kept_too_long(print: &Fingerprint, now: Timestamp) -> bool {
    kept_for(print, now).is_some_and(|kept| kept >= KEPT_TOO_LONG)
}

/// The policies of ours that finalizers have kept for too long.
pub fn kept_too_long(entry: &Entry, now: Timestamp) -> impl Iterator<Item = (&Arc<str>, &Fingerprint)> {
    entry.policies.iter().filter(move |(_, print)| is_kept_too_long(print, now))
}

/// The time until a finalizer has kept one more policy for too long.
pub fn next_kept_too_long(entry: &Entry, now: Timestamp) -> Option<Duration> {
    let kept = entry.policies.values().filter_map(|print| kept_for(print, now));
    let left = kept.filter(|kept| *kept < KEPT_TOO_LONG).map(|kept| KEPT_TOO_LONG.saturating_sub(kept)).min()?;
    // The clock of the API server may be ahead.
    Duration::try_from(left.min(KEPT_TOO_LONG)).ok()
}

/// Whether a policy waits for a finalizer that the operator may remove.
pub fn is_kept_by_ownerless(entry: &Entry, ownerless: KnownFinalizers) -> bool {
    let is_kept = |print: &Fingerprint| print.terminating.is_some() && print.known_finalizers.first_of(ownerless).is_some();
    entry.policies.values().any(is_kept)
}

/// Has the operator remove the `ownerless` finalizers from the policies that they have kept for too long: from planned policies with the
/// planned rules, and from those that it may remove. `may_remove`: by baseline name, as for [`crate::policy::drift::diff`].
pub fn remove_ownerless_finalizers(
    drifts: &mut Vec<Drift>,
    entry: &Entry,
    ownerless: KnownFinalizers,
    now: Timestamp,
    may_remove: impl Fn(&str) -> bool,
) {
    for (name, print) in kept_too_long(entry, now) {
        let Some(finalizer) = print.known_finalizers.first_of(ownerless) else { continue };
        let fix = Repair::RemoveFinalizer { uid: print.uid.clone(), version: print.version, finalizer };
        if let Some(drift) = drifts.iter_mut().find(|drift| drift.policy == **name) {
            // Another drift is put right first.
            if drift.fix == Repair::WaitForFinalizer {
                drift.fix = fix;
            }
        } else if print.baseline.as_deref().is_some_and(&may_remove) {
            let baseline = print.baseline.clone();
            drifts.push(Drift { policy: name.to_string(), class: Class::Stale, baseline, outdated: true, who: None, fix });
        }
    }
}

/// The violation that a finalizer keeps a policy. `drifts` says what the operator does about it, and `failure` why that failed.
pub fn kept_by_finalizer(
    name: &str,
    print: &Fingerprint,
    is_planned: bool,
    drifts: &[Drift],
    failure: impl Fn(&str) -> Option<Problem>,
) -> Problem {
    let finalizers = print.finalizers.as_deref().unwrap_or("none any more");
    let removed = drifts.iter().filter(|drift| drift.policy == name).find_map(|drift| match drift.fix {
        Repair::RemoveFinalizer { finalizer, .. } => Some(finalizer),
        Repair::Apply { .. } | Repair::Delete { .. } | Repair::WaitForFinalizer => None,
    });
    let who = removed.map_or_else(
        || "Whoever put them there must remove them".to_owned(),
        |finalizer| {
            let failed = failure(name).map(|problem| format!(", but could not yet: {}", problem.message)).unwrap_or_default();
            let (finalizer, group) = (finalizer.into_str(), finalizer.group());
            format!("The operator removes {finalizer}, because the cluster has no CRD of the group {group}{failed}")
        },
    );
    let then = if is_planned { "; then the operator creates the policy again" } else { "" };
    let message = format!("the policy was deleted over a minute ago, and finalizers keep it: {finalizers}. {who}{then}");
    Problem { policy: Some(name.into()), reason: ViolationReason::Terminating.into(), message }
}

/// The notice that planned policies have finalizers of others. One notice for a namespace, because a controller may put a finalizer on
/// every policy of the cluster.
pub fn foreign_finalizers(baseline: &Baseline, ns: &Namespace, entry: &Entry) -> Option<Problem> {
    let planned = baseline.planned(ns).filter_map(|(_, policy)| Some((&policy.name, entry.policies.get(&policy.name)?)));
    let with_one: Vec<(&String, &Arc<str>)> = planned
        .filter(|(_, print)| print.terminating.is_none())
        .filter_map(|(name, print)| Some((name, print.finalizers.as_ref()?)))
        .collect();
    let (first, _) = with_one.first()?;
    let mut names: Vec<&str> = with_one.iter().map(|(_, finalizers)| &***finalizers).collect();
    names.sort_unstable();
    names.dedup();
    let policy = (with_one.len() == 1).then(|| (*first).clone());
    let message = format!("finalizers of others keep policies that are deleted: {}", names.join(", "));
    Some(Problem { policy, reason: NoticeReason::ForeignFinalizer.into(), message })
}
