//! What the engine knows of rollouts: which are under way, where each comes from, and when the next wave begins.

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use crate::policy::{
    plan::{Baseline, Revision},
    rollout::RolloutProgress,
};

/// Every rollout, and what it needs to know.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
pub struct Rollouts {
    pub under_way: BTreeMap<Arc<str>, UnderWay>,
    /// What a baseline asked for before its last edit, until that is stored.
    pub before: BTreeMap<Arc<str>, Revision>,
    /// When the next wave begins.
    pub next: Option<Instant>,
}

/// Namespaces that rollouts concern, and rollouts that are paused.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct RolloutCounts {
    /// They hold the new policies, or did.
    pub moved: usize,
    /// They are being written to, or cannot be.
    pub moving: usize,
    /// They hold the former ones until a wave comes.
    pub waiting: usize,
    /// Rollouts that go no further by themselves.
    pub paused: usize,
}

/// One rollout.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub struct UnderWay {
    pub generation: Option<i64>,
    pub target: Arc<Baseline>,
    /// The one that went out to all, then those that were left.
    pub formers: Vec<Arc<Baseline>>,
    pub rollout: RolloutProgress,
}
