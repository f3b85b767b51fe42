//! What the stored status of a baseline tells an instance that starts, or takes over.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use crate::api::{
    PolicyBaselineStatus,
    reason::{ConditionType, state},
    rollout::RolloutStatus,
};

/// Status and reason of the condition Ready.
pub fn ready(status: &PolicyBaselineStatus) -> Option<(String, String)> {
    let condition = status.conditions.iter().find(|c| c.type_ == ConditionType::Ready.into_str())?;
    Some((condition.status.clone(), condition.reason.clone()))
}

/// The same, unless policies are just being written: that is what the operator does for each new namespace, and no state that lasts.
pub fn lasting_ready(status: &PolicyBaselineStatus) -> Option<(String, String)> {
    ready(status).filter(|(_, reason)| reason != state::WRITING)
}

/// Whether a status says that a change waits for confirmation.
pub fn told_to_wait(status: &PolicyBaselineStatus) -> bool {
    let awaits = |c: &Condition| c.type_ == ConditionType::AwaitingConfirmation.into_str() && c.status == "True";
    status.conditions.iter().any(awaits)
}

/// The resourceVersion since which nothing is written for a baseline, by its stored status. 0 for one that was never processed and never
/// edited: nothing was ever written for it.
pub fn told_rest(stored: Option<&PolicyBaselineStatus>, generation: Option<i64>) -> Option<u64> {
    let Some(observed) = stored.and_then(|status| status.observed_generation) else {
        return (generation == Some(1)).then_some(0);
    };
    // A generation in between may have been at work.
    let is_next = generation.is_some_and(|generation| generation - observed <= 1);
    stored?.resting_since_version.as_deref().filter(|_| is_next)?.parse().ok()
}

/// The rollout in a stored status, and why it is paused. Used until the engine knows more.
pub fn told_rollout(stored: Option<&PolicyBaselineStatus>) -> (Option<RolloutStatus>, Option<(String, String)>) {
    let condition =
        stored.and_then(|status| status.conditions.iter().find(|c| c.type_ == ConditionType::RolloutPaused.into_str()));
    let paused = condition.filter(|c| c.status == "True").map(|c| (c.reason.clone(), c.message.clone()));
    (stored.and_then(|status| status.rollout.clone()), paused)
}
