//! The state of all rollouts: which are under way, the former revisions of each, and when the next wave begins.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Instant,
};

use crate::{
    api::NamespaceName,
    policy::{
        plan::{Baseline, Revision},
        rollout::RolloutProgress,
    },
};

/// The rollouts of all baselines.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
pub struct Rollouts {
    pub under_way: BTreeMap<Arc<str>, UnderWay>,
    /// By baseline: the revision before an edit. Kept until the baseline writes policies again; its rollout then starts from there.
    pub before: BTreeMap<Arc<str>, Revision>,
    /// The namespaces that were open right before the last change of a baseline, until it is known which rollouts follow from it.
    pub open: BTreeSet<NamespaceName>,
    /// A baseline changed or went while decisions waited: `open` lacks the namespaces that were open then.
    pub open_is_unknown: bool,
    /// When the next wave begins.
    pub next: Option<Instant>,
}

/// Counts of namespaces in rollouts, and of paused rollouts.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct RolloutCounts {
    /// Namespaces that have the new policies, or had them.
    pub moved: usize,
    /// Namespaces where the new policies are being written, or where that fails.
    pub moving: usize,
    /// Namespaces that keep former policies until a wave reaches them.
    pub waiting: usize,
    /// Paused rollouts: they do not continue by themselves.
    pub paused: usize,
}

/// One rollout that is under way.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub struct UnderWay {
    pub generation: Option<i64>,
    pub target: Arc<Baseline>,
    /// The former revisions; none if the rollout only closes open namespaces. The first is the last one that reached all namespaces; those of unfinished rollouts follow.
    pub formers: Vec<Arc<Baseline>>,
    pub rollout: RolloutProgress,
}
