//! Looks for the network plugin, and judges whether it enforces NetworkPolicies. No decision waits for that: only the status shows it.

use std::collections::HashSet;

use tracing::info;

use super::{
    Engine,
    clock::Now,
    facts::{
        event::{Change, ListRefusal},
        readiness::{ListState, WatchedSet},
    },
};
use crate::{
    api::backends::ConfigurationKind,
    policy::plugins::{PluginJudgement, PluginSeen, daemon_set_names},
};

const SET: WatchedSet = WatchedSet::Plugins;

impl Engine {
    /// Turns the search for the network plugin on. Statuses then wait a few seconds at most for the lists of its DaemonSets.
    #[must_use]
    pub fn looking_for_plugins(mut self) -> Self {
        self.readiness.settle(SET, ListState::Waiting);
        self
    }

    /// Handles a change of the DaemonSets of this name.
    pub(super) fn on_plugin(&mut self, of: &'static str, change: Change<PluginSeen>, now: Now) {
        let listing = self.plugins.listings.entry(of).or_default();
        match change {
            Change::ListBegan => listing.begin(),
            Change::Applied(seen) => {
                listing.names(|| seen.namespace.clone());
                self.plugins.found.saw(seen);
            }
            Change::Deleted(seen) => {
                listing.unnames(&seen.namespace);
                self.plugins.found.gone(seen);
            }
            Change::ListDone => {
                let named = listing.end().unwrap_or_default();
                self.plugins.found.keep(of, |namespace| named.contains(namespace));
                self.plugins.listed.insert(of);
                if daemon_set_names().all(|name| self.plugins.listed.contains(name)) {
                    self.readiness.answered(SET);
                    self.readiness.settle(SET, ListState::Listed);
                }
            }
            Change::Refused(refusal, why) => {
                self.readiness.report(SET, why);
                if refusal != ListRefusal::Unavailable && !self.plugins.listed.contains(of) {
                    self.readiness.refuse(SET, refusal, now.instant);
                }
            }
        }
        self.judge_plugins(now);
    }

    /// A CRD exists, or is gone.
    pub(super) fn plugin_crd_seen(&mut self, crd: &str, exists: bool, now: Now) {
        self.plugins.found.crd(crd, exists);
        self.judge_plugins(now);
    }

    /// The list of CRDs is complete.
    pub(super) fn plugin_crds_listed(&mut self, named: &HashSet<String>) {
        self.plugins.found.keep_crds(|crd| named.contains(crd));
    }

    /// Ends the wait for lists that are refused for long or get no answer, once all required sets are listed. Until then the permissions
    /// may still be missing, as during an installation. The watches ask again.
    pub(super) fn wait_for_plugins(&mut self, now: Now) {
        if self.readiness.is_settled(SET) || !self.readiness.is_required_listed() {
            return;
        }
        self.readiness.ask(SET, now.instant);
        let state = if self.readiness.is_refused_for_long(SET, now.instant) {
            ListState::Refused
        } else if self.readiness.is_silent_for_long(SET, now.instant) {
            ListState::Silent
        } else {
            return;
        };
        self.readiness.settle(SET, state);
        self.judge_plugins(now);
    }

    /// Judges again. Tells every status if the judgement changed.
    pub(super) fn judge_plugins(&mut self, now: Now) {
        let judgement = match self.readiness.state(SET) {
            ListState::Off | ListState::Waiting => return,
            ListState::Refused | ListState::Silent => PluginJudgement::not_listed(),
            // The message may name CRDs.
            ListState::Listed | ListState::NotKnown
                if !self.readiness.is_settled(WatchedSet::Callers(ConfigurationKind::Crd)) =>
            {
                return;
            }
            ListState::Listed | ListState::NotKnown => self.plugins.found.judge(),
        };
        if self.plugins.judgement.as_ref() == Some(&judgement) {
            return;
        }
        info!(reason = judgement.reason, "the network plugin: {}", judgement.message);
        self.plugins.judgement = Some(judgement);
        self.touch_statuses(now);
    }
}
