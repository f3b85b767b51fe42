//! What this install does when an older one runs in the cluster: it waits, and says so in `/readyz`, in a metric and by an Event about each
//! baseline.

use std::sync::Arc;

use tracing::{info, warn};

use super::{Engine, clock::Now, outbox::baseline_status::BaselineState, writes::Announcement};
use crate::api::{NamespaceName, names::INSTANCE, reason::EventReason};

/// How many baselines get an Event (I11).
const ANNOUNCED: usize = 10;
/// Where events about objects without a namespace belong.
const EVENTS_OF_THE_CLUSTER: &str = "default";

impl Engine {
    /// Finds out which installs are alive, and plans again if that changed.
    pub(super) fn recompute_installs(&mut self, now: Now) {
        let before = self.installs.elder().cloned();
        let observed = &self.observed;
        let is_labelled = |name: &str| observed.labels(name).is_some_and(|labels| labels.contains_key(INSTANCE));
        if !self.installs.refresh(is_labelled, now.instant) {
            return;
        }
        match self.installs.elder() {
            Some(elder) if before.as_ref() != Some(elder) => {
                warn!(install = %elder, "{}", words(elder));
            }
            None if before.is_some() => info!("no older install of policy-baseline runs any more: this one continues"),
            _ => info!(installs = self.installs.live().join(","), "other installs of policy-baseline in this cluster"),
        }
        self.place_all(now);
        self.plans_changed(now);
    }

    /// Whether an older install runs, so that this one writes nothing.
    pub fn waits_for_install(&self) -> bool {
        self.installs.elder().is_some()
    }

    /// The same in words.
    pub(super) fn elder_words(&self) -> Option<String> {
        self.installs.elder().map(words)
    }

    /// Sends an Event about each baseline, once for each older install. The holder of this install's Lease sends it.
    pub(super) fn announce_elder(&mut self, now: Now) {
        let elder = self.installs.elder().cloned();
        if elder.is_none() {
            self.announced_elder = None;
        }
        if !self.elected || !self.is_synced() || self.announced_elder == elder {
            return;
        }
        let Some(elder) = elder else { return };
        self.announce_to_baselines(EventReason::WaitsForInstall, &words(&elder), now);
        self.announced_elder = Some(elder);
    }

    /// Sends an Event about each baseline.
    pub(super) fn announce_to_baselines(&mut self, reason: EventReason, note: &str, now: Now) {
        let all = self.tracked.iter().take(ANNOUNCED);
        self.announcements.extend(all.map(|(name, tracked)| about_baseline(name, tracked, reason, note.to_owned(), now)));
    }
}

/// An Event about a baseline. It is in the namespace where events about objects without a namespace belong.
pub(super) fn about_baseline(name: &str, baseline: &BaselineState, reason: EventReason, note: String, now: Now) -> Announcement {
    let (policy, uid) = (name.to_owned(), Some(baseline.uid.to_string()));
    Announcement { namespace: NamespaceName::observed(EVENTS_OF_THE_CLUSTER), policy, uid, reason, note, at: now.wall }
}

fn words(elder: &Arc<str>) -> String {
    format!(
        "an older install of policy-baseline runs in namespace {elder}: this one writes nothing while that one runs. Remove one of them"
    )
}
