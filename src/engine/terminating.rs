//! What a namespace that is being deleted has lost (record 18). Nobody can create a policy there any more.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::{
    api::reason::ViolationReason,
    policy::{
        drift::{Class, Drift, Repair},
        plan::Namespace,
        status::Problem,
    },
};

/// How long a policy may be missing in a namespace that is being deleted before that is reported. At the end of every namespace, its
/// policies are deleted some moments before the namespace is gone (record 18).
pub const LACKS_TOO_LONG: SignedDuration = SignedDuration::from_secs(30);

/// How long the deletion of a namespace may fail before `Ready` no longer waits for its end. The error may last for ever.
const STUCK: SignedDuration = SignedDuration::from_mins(10);

/// The time until the deletion of the namespace has failed for so long that no baseline waits for its end; zero if it already has. `None`
/// if the deletion does not fail.
pub fn stuck_in(ns: &Namespace, now: Timestamp) -> Option<Duration> {
    let failed = SignedDuration::from_secs(now.as_second() - i64::from(ns.failing_since?.get()));
    // The clock of the API server may be ahead.
    Some(Duration::try_from(STUCK.saturating_sub(failed).min(STUCK)).unwrap_or_default())
}

/// What a namespace that is being deleted lacks.
pub enum Loss {
    /// Nothing.
    Nothing,
    /// A policy that is missing for so short a time that the namespace may be about to go. Such a namespace is not counted. The duration: how
    /// long that is still so.
    Recent(Duration),
    /// A policy that is missing while pods may run.
    Lasting(Problem),
}

/// Leaves only the drifts that can be repaired in a namespace that is being deleted: those of policies that exist. `lacking_since`: since
/// when one of the others has been missing.
pub fn leave_what_is_gone(drifts: &mut Vec<Drift>, lacking_since: Option<Timestamp>, now: Timestamp) -> Loss {
    let missing: Vec<String> =
        drifts.iter().filter(|drift| drift.class == Class::Missing).map(|drift| drift.policy.clone()).collect();
    drifts.retain(|drift| matches!(drift.fix, Repair::Apply { uid: Some(_), .. }));
    if missing.is_empty() {
        return Loss::Nothing;
    }
    let lacked = lacking_since.map_or(SignedDuration::ZERO, |since| now.duration_since(since));
    // The wall clock may have gone back.
    match Duration::try_from(LACKS_TOO_LONG.saturating_sub(lacked).min(LACKS_TOO_LONG)) {
        Ok(left) if !left.is_zero() => Loss::Recent(left),
        _ => Loss::Lasting(lost(&missing)),
    }
}

/// The violation that a namespace lost policies while it is being deleted.
fn lost(missing: &[String]) -> Problem {
    let policy = match missing {
        [one] => Some(one.clone()),
        _ => None,
    };
    let message = format!(
        "the namespace is being deleted and lacks {}, and nobody can create a policy there any more. Pods may still run there: kubectl delete pods --all --grace-period=30 ends them, and then the namespace goes",
        missing.join(", ")
    );
    Problem { policy, reason: ViolationReason::MissingWhileTerminating.into(), message }
}
