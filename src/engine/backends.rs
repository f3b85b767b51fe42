//! Handles the objects that make the API server call Services, such as webhook configurations. Decides how long decisions wait for their
//! lists.
//!
//! A namespace must not be closed because its webhook was not known yet, so nothing is decided before each kind was listed. A kind that
//! the operator may not list, or that is not listed in time, is left out, and the status reports it.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use strum::VariantArray;
use tracing::{info, warn};

use super::{
    Engine,
    clock::Now,
    facts::{
        event::{Change, ListRefusal},
        readiness::{ListState, WatchedSet},
    },
    kept::is_kept_by_ownerless,
};
use crate::{
    api::{
        NamespaceName,
        backends::{Configuration, ConfigurationKind},
        crd_fields::is_ours,
        names::{OPT_OUTS_CRD, is_other_policy_kind},
    },
    policy::plan::{Baseline, Closed},
};

/// How long a namespace stays held after the last object that names a Service there is gone. A configuration that is replaced is gone for
/// a moment.
const LINGER: Duration = Duration::from_secs(10);
/// The same after the Service is gone, while an object still names it. An add-on that is installed anew deletes its Service and creates it
/// again, and a namespace that was closed in between would stay closed.
const REPLACED: Duration = Duration::from_mins(10);

impl Engine {
    /// The resources that the operator works without, because it could not list them.
    pub(super) fn unlisted_callers(&self) -> Vec<&'static str> {
        let is_unlisted = |kind: &ConfigurationKind| {
            matches!(self.readiness.state(WatchedSet::Callers(*kind)), ListState::Refused | ListState::Silent)
        };
        let kinds = ConfigurationKind::VARIANTS.iter().copied();
        kinds.filter(is_unlisted).map(ConfigurationKind::resource).collect()
    }

    pub(super) fn on_configuration(&mut self, kind: ConfigurationKind, change: Change<Configuration>, now: Now) {
        match change {
            Change::ListBegan => {
                self.backends.listings.entry(kind).or_default().begin();
                if kind == ConfigurationKind::Crd {
                    self.finalizer_owners.doubt();
                }
            }
            Change::Applied(configuration) => self.configuration_seen(configuration, now),
            Change::Deleted(configuration) => self.configuration_gone(kind, &configuration.name, now),
            Change::ListDone => self.configurations_listed(kind, now),
            Change::Refused(refusal, why) => {
                self.readiness.report(WatchedSet::Callers(kind), why);
                // A watch that only broke off continues where it was.
                if kind == ConfigurationKind::Crd && refusal != ListRefusal::Unavailable {
                    self.finalizer_owners.doubt();
                }
                self.configurations_refused(kind, refusal, now);
            }
        }
    }

    fn configuration_seen(&mut self, configuration: Configuration, now: Now) {
        let Configuration { kind, name, .. } = &configuration;
        if let Some(listing) = self.backends.listings.get_mut(kind) {
            listing.names(|| name.clone());
        }
        if *kind == ConfigurationKind::Crd {
            if is_other_policy_kind(name) {
                self.change_unsupported_kinds(|known| known.insert(name.clone()), now);
            }
            self.outbox.opt_outs.crd_seen(name, true);
            self.finalizer_owners.crd(name, true);
            self.plugin_crd_seen(name, true, now);
            if is_ours(name) {
                self.crd_fields_seen(name, configuration.missing_fields.clone());
            }
        }
        if *kind == ConfigurationKind::Service {
            let changed = self.backends.known.service_seen(name, true);
            // Another Service of a namespace does not bring the one that is gone back, and ends no hold earlier.
            self.backends_changed(changed, REPLACED, now);
        } else {
            let changed = self.backends.known.set(configuration);
            self.backends_changed(changed, LINGER, now);
        }
    }

    fn configuration_gone(&mut self, kind: ConfigurationKind, name: &str, now: Now) {
        if let Some(listing) = self.backends.listings.get_mut(&kind) {
            listing.unnames(name);
        }
        if kind == ConfigurationKind::Crd {
            self.outbox.opt_outs.crd_seen(name, false);
            self.finalizer_owners.crd(name, false);
            self.assess_kept_by_ownerless();
            self.plugin_crd_seen(name, false, now);
            self.crd_fields_seen(name, vec![]);
            self.recompute_opt_outs(now);
            self.change_unsupported_kinds(|known| known.remove(name), now);
        }
        if kind == ConfigurationKind::Service {
            let changed = self.backends.known.service_seen(name, false);
            self.backends_changed(changed, REPLACED, now);
        } else {
            let changed = self.backends.known.remove(kind, name);
            self.backends_changed(changed, LINGER, now);
        }
    }

    /// Called when CRDs are gone: the owner of a finalizer may be absent from now on.
    fn assess_kept_by_ownerless(&mut self) {
        let ownerless = self.finalizer_owners.absent();
        let kept = self.observed.iter().filter(|(_, entry)| is_kept_by_ownerless(entry, ownerless));
        for name in kept.map(|(name, _)| name.clone()).collect::<Vec<_>>() {
            self.dirty.push(name, false);
        }
    }

    fn configurations_listed(&mut self, kind: ConfigurationKind, now: Now) {
        let named = self.backends.listings.entry(kind).or_default().end().unwrap_or_default();
        if kind == ConfigurationKind::Service {
            // Before Services were known, each that is named counted as existing.
            let wait = if self.backends.known.knows_services() { REPLACED } else { LINGER };
            let changed = self.backends.known.services_listed(&named);
            self.backends_changed(changed, wait, now);
        }
        let gone: Vec<Arc<str>> = self.backends.known.known(kind).filter(|name| !named.contains(&***name)).cloned().collect();
        for name in gone {
            let changed = self.backends.known.remove(kind, &name);
            self.backends_changed(changed, LINGER, now);
        }
        if kind == ConfigurationKind::Crd {
            self.outbox.opt_outs.crds_listed(named.contains(OPT_OUTS_CRD));
            let gone: Vec<String> = self.crds.missing.keys().filter(|crd| !named.contains(*crd)).cloned().collect();
            for crd in gone {
                self.crd_fields_seen(&crd, vec![]);
            }
            self.plugin_crds_listed(&named);
            self.finalizer_owners.listed(&named);
            self.assess_kept_by_ownerless();
            let unsupported = named.into_iter().filter(|name| is_other_policy_kind(name)).collect();
            if self.unsupported_policy_kinds.as_ref() != Some(&unsupported) {
                self.unsupported_policy_kinds = Some(unsupported);
                self.touch_statuses(now);
            }
        }
        self.callers_settled(kind, ListState::Listed, now);
    }

    /// Ends the wait for a refused kind, but only once all required sets are listed. Until then the permissions may still be missing, as
    /// during an installation. The watch asks again soon. A kind that was listed once stays known.
    fn configurations_refused(&mut self, kind: ConfigurationKind, refusal: ListRefusal, now: Now) {
        let set = WatchedSet::Callers(kind);
        let is_asked = self.readiness.is_required_listed() || (kind == ConfigurationKind::Crd && self.only_crds_are_missing());
        if self.readiness.is_settled(set) || !is_asked || refusal == ListRefusal::Unavailable {
            return;
        }
        self.readiness.refuse(set, refusal, now.instant);
        if !self.readiness.is_refused_for_long(set, now.instant) {
            return;
        }
        if refusal == ListRefusal::Unknown {
            self.callers_settled(kind, ListState::NotKnown, now);
        } else {
            self.work_without(kind, ListState::Refused, now);
        }
    }

    /// Ends the wait for kinds whose list takes too long.
    pub(super) fn wait_for_backends(&mut self, now: Now) {
        if !(self.readiness.is_required_listed() || self.only_crds_are_missing()) {
            return;
        }
        for kind in ConfigurationKind::VARIANTS.iter().copied() {
            let set = WatchedSet::Callers(kind);
            if self.readiness.is_settled(set) {
                continue;
            }
            self.readiness.ask(set, now.instant);
            if self.readiness.is_silent_for_long(set, now.instant) {
                self.work_without(kind, ListState::Silent, now);
            }
        }
    }

    /// Whether all other required sets are listed, and only the list of CRDs can show if opt-outs can exist.
    fn only_crds_are_missing(&self) -> bool {
        let others = WatchedSet::REQUIRED.into_iter().filter(|set| *set != WatchedSet::OptOuts);
        others.into_iter().all(|set| self.readiness.is_settled(set)) && self.needs_crds_for_opt_outs()
    }

    pub(super) fn work_without(&mut self, kind: ConfigurationKind, state: ListState, now: Now) {
        let resource = kind.resource();
        let why = if state == ListState::Refused { "not allowed" } else { "no answer in time" };
        if kind == ConfigurationKind::Service {
            warn!(resource, why, "{resource} cannot be listed: every Service that is named counts as existing");
        } else {
            warn!(
                resource,
                why, "{resource} cannot be listed: namespaces whose Services only these name are closed like all others"
            );
        }
        self.callers_settled(kind, state, now);
    }

    pub(super) fn callers_settled(&mut self, kind: ConfigurationKind, state: ListState, now: Now) {
        let was_synced = self.is_synced();
        if self.readiness.settle(WatchedSet::Callers(kind), state) {
            if state.is_known() {
                info!("{} are listed", kind.resource());
            } else {
                info!("work continues without {}", kind.resource());
            }
            self.touch_statuses(now);
        }
        self.begin_if_synced(was_synced, now);
        if kind == ConfigurationKind::Crd {
            self.recompute_opt_outs(now);
            self.judge_plugins(now);
        }
    }

    /// The watch of Services has failed for long, or works again. While what is known of them may be old, nothing is closed because of it.
    pub(super) fn services_may_be_old(&mut self, are_old: bool, now: Now) {
        let changed = self.backends.known.services_may_be_old(are_old);
        self.backends_changed(changed, LINGER, now);
    }

    /// Holds these namespaces while something calls a Service there, and then for so long.
    fn backends_changed(&mut self, namespaces: BTreeSet<String>, wait: Duration, now: Now) {
        for namespace in namespaces {
            if let Some(words) = self.backends.known.words(&namespace) {
                self.backends.ending.remove(&namespace);
                self.serves(&namespace, Some(words));
            } else {
                let end = now.instant + wait;
                let known = self.backends.ending.entry(namespace).or_insert(end);
                *known = end.min(*known);
            }
        }
    }

    /// Ends the holds that are due.
    pub(super) fn end_holds(&mut self, now: Now) {
        let due = self.backends.ending.iter().filter(|(_, at)| **at <= now.instant).map(|(namespace, _)| namespace.clone());
        for namespace in due.collect::<Vec<_>>() {
            self.backends.ending.remove(&namespace);
            self.serves(&namespace, None);
        }
    }

    /// Called for a namespace that was seen: an object may already name a Service in it.
    pub(super) fn serves_from_now_on(&mut self, name: &NamespaceName) {
        if let Some(words) = self.backends.known.words(name.as_str()) {
            self.serves(name.as_str(), Some(words));
        }
    }

    fn serves(&mut self, namespace: &str, words: Option<Arc<str>>) {
        if let Some(ns) = self.observed.serves(namespace, words) {
            self.dirty.push(ns, true);
        }
    }

    /// Notes when no plan closes a direction of a namespace any more.
    pub(super) fn recompute_closed(&mut self, name: &NamespaceName, baseline: Option<&Baseline>, frozen: bool) {
        let Some(namespace) = self.observed.get(name).and_then(|entry| entry.namespace.as_ref()) else { return };
        if frozen || namespace.closed == Closed::default() {
            return;
        }
        let planned = baseline.map(|baseline| baseline.closes(namespace)).unwrap_or_default();
        if self.observed.keep_closed(name, planned) {
            self.dirty.push(name.clone(), true);
        }
    }

    /// Changes the set of unsupported policy kinds, once it is known. `change` returns whether it changed the set.
    fn change_unsupported_kinds(&mut self, change: impl FnOnce(&mut BTreeSet<String>) -> bool, now: Now) {
        if self.unsupported_policy_kinds.as_mut().is_some_and(change) {
            self.touch_statuses(now);
        }
    }
}
