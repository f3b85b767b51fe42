//! The objects that tell the apiserver which Services to call: what was seen of them, what that changes, and how long decisions wait for it.
//!
//! A namespace must not be closed because its webhook was not known yet, so nothing is decided before each kind was listed. A kind that
//! the operator may not list, or that is not listed in time, is gone without, and said.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use strum::VariantArray;
use tracing::{info, warn};

use super::{
    Engine,
    clock::{LASTS, Now},
    facts::{
        backends::Backends,
        event::{ListPhase, ListRefusal},
    },
};
use crate::{
    api::{
        NamespaceName, Role,
        backends::{Configuration, ConfigurationKind},
        names::OTHER_POLICIES,
    },
    engine::clock::PATIENCE,
    policy::{listing::Listing, plan::Baseline},
};

/// A namespace that serves no more is held for so long: a configuration that is replaced goes and comes back.
const LINGER: Duration = Duration::from_secs(10);

/// What is known of one kind.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Answer {
    /// All of them.
    Listed,
    /// Nothing: it could not be listed.
    Unlisted,
}

/// What was seen.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
pub(super) struct Watched {
    known: Backends,
    listings: BTreeMap<ConfigurationKind, Listing<String>>,
    answers: BTreeMap<ConfigurationKind, Answer>,
    /// Since when each is refused.
    refused: BTreeMap<ConfigurationKind, Instant>,
    /// Until when decisions wait.
    until: Option<Instant>,
    /// When the holds of namespaces end that serve no more.
    ending: BTreeMap<String, Instant>,
}

impl Watched {
    /// Whether each kind was listed, or is gone without.
    pub(super) fn are_answered(&self) -> bool {
        self.answers.len() == ConfigurationKind::VARIANTS.len()
    }

    /// Whether that kind was listed, or is gone without.
    pub(super) fn is_answered(&self, kind: ConfigurationKind) -> bool {
        self.answers.contains_key(&kind)
    }

    /// The resources that are gone without.
    pub(super) fn unlisted(&self) -> Vec<&'static str> {
        let unlisted = self.answers.iter().filter(|(_, answer)| **answer == Answer::Unlisted);
        unlisted.map(|(kind, _)| kind.resource()).collect()
    }

    /// When the next hold ends.
    pub(super) fn next_end(&self) -> Option<Instant> {
        self.ending.values().min().copied()
    }

    /// Which object calls which Service in that namespace, in words.
    fn words(&self, namespace: &str) -> Option<Arc<str>> {
        self.known.words(namespace)
    }
}

impl Engine {
    pub(super) fn configuration_seen(&mut self, configuration: Configuration, now: Now) {
        let Configuration { kind, name, .. } = &configuration;
        if let Some(listing) = self.backends.listings.get_mut(kind) {
            listing.names(|| name.clone());
        }
        if *kind == ConfigurationKind::Crd && OTHER_POLICIES.contains(&&**name) {
            self.listed_policy_kinds.names(|| name.clone());
            self.change_beyond(|known| known.insert(name.clone()), now);
        }
        if *kind == ConfigurationKind::Crd {
            self.opt_outs.crd_seen(name, true);
        }
        let changed = self.backends.known.set(configuration);
        self.backends_changed(changed, now);
    }

    pub(super) fn configuration_gone(&mut self, kind: ConfigurationKind, name: &str, now: Now) {
        if kind == ConfigurationKind::Crd {
            self.opt_outs.crd_seen(name, false);
            self.recompute_opt_outs(now);
            self.change_beyond(|known| known.remove(name), now);
        }
        let changed = self.backends.known.remove(kind, name);
        self.backends_changed(changed, now);
    }

    pub(super) fn configurations_listed(&mut self, kind: ConfigurationKind, phase: ListPhase, now: Now) {
        let listing = self.backends.listings.entry(kind).or_default();
        if phase == ListPhase::Begin {
            listing.begin();
            if kind == ConfigurationKind::Crd {
                self.opt_outs.crds_relist();
                self.listed_policy_kinds.begin();
            }
            return;
        }
        let named = listing.end().unwrap_or_default();
        let gone: Vec<Arc<str>> = self.backends.known.known(kind).filter(|name| !named.contains(&***name)).cloned().collect();
        for name in gone {
            let changed = self.backends.known.remove(kind, &name);
            self.backends_changed(changed, now);
        }
        if kind == ConfigurationKind::Crd {
            self.opt_outs.crds_relisted();
            let listed = self.listed_policy_kinds.end().unwrap_or_default().into_iter().collect();
            if self.unsupported_policy_kinds.as_ref() != Some(&listed) {
                self.unsupported_policy_kinds = Some(listed);
                self.touch_statuses(now);
            }
        }
        self.answered(kind, Answer::Listed, now);
    }

    /// What is not shown is not waited for, once everything else is: until then the permissions may be on their way, as at an installation. The
    /// watch asks again soon. What was listed once stays known.
    pub(super) fn configurations_refused(&mut self, kind: ConfigurationKind, refusal: ListRefusal, now: Now) {
        let is_asked = self.is_listed() || (kind == ConfigurationKind::Crd && self.only_crds_are_missing());
        if self.backends.is_answered(kind) || !is_asked {
            return;
        }
        let since = *self.backends.refused.entry(kind).or_insert(now.instant);
        if now.instant < since + LASTS {
            return;
        }
        match refusal {
            ListRefusal::Unknown => self.answered(kind, Answer::Listed, now),
            ListRefusal::Forbidden => self.go_without(kind, "not allowed", now),
        }
    }

    /// Waits no longer than it should for what everything else does not need.
    pub(super) fn wait_for_backends(&mut self, now: Now) {
        if self.backends.are_answered() || !(self.is_listed() || self.only_crds_are_missing()) {
            return;
        }
        if now.instant < *self.backends.until.get_or_insert(now.instant + PATIENCE) {
            return;
        }
        for kind in ConfigurationKind::VARIANTS.iter().copied() {
            if !self.backends.is_answered(kind) {
                self.go_without(kind, "no answer in time", now);
            }
        }
    }

    /// Everything else is listed but opt-outs, and CRDs say whether there can be any.
    fn only_crds_are_missing(&self) -> bool {
        let [others @ .., _] = self.synced;
        others.iter().all(|synced| *synced) && self.opt_outs.ask_for_crds()
    }

    fn go_without(&mut self, kind: ConfigurationKind, why: &str, now: Now) {
        let resource = kind.resource();
        warn!(
            resource,
            why, "{resource} cannot be listed: namespaces with Services that only these name are closed like any other"
        );
        self.answered(kind, Answer::Unlisted, now);
    }

    fn answered(&mut self, kind: ConfigurationKind, answer: Answer, now: Now) {
        let was_synced = self.is_synced();
        if self.backends.answers.insert(kind, answer) != Some(answer) {
            info!("{} are {}", kind.resource(), if answer == Answer::Listed { "listed" } else { "gone without" });
            self.touch_statuses(now);
        }
        self.begin_if_synced(was_synced, now);
        if kind == ConfigurationKind::Crd {
            self.recompute_opt_outs(now);
        }
    }

    fn backends_changed(&mut self, namespaces: BTreeSet<String>, now: Now) {
        for namespace in namespaces {
            if let Some(words) = self.backends.words(&namespace) {
                self.backends.ending.remove(&namespace);
                self.serves(&namespace, Some(words));
            } else {
                self.backends.ending.entry(namespace).or_insert(now.instant + LINGER);
            }
        }
    }

    /// Ends the holds whose time has come.
    pub(super) fn end_holds(&mut self, now: Now) {
        let due = self.backends.ending.iter().filter(|(_, at)| **at <= now.instant).map(|(namespace, _)| namespace.clone());
        for namespace in due.collect::<Vec<_>>() {
            self.backends.ending.remove(&namespace);
            self.serves(&namespace, None);
        }
    }

    /// A namespace was seen: it may be named already.
    pub(super) fn serves_from_now_on(&mut self, name: &NamespaceName) {
        if let Some(words) = self.backends.words(name.as_str()) {
            self.serves(name.as_str(), Some(words));
        }
    }

    fn serves(&mut self, namespace: &str, words: Option<Arc<str>>) {
        if let Some(ns) = self.observed.serves(namespace, words) {
            self.dirty.push(ns, true);
        }
    }

    /// Notes whether a namespace is to be closed, whoever opened it meanwhile.
    pub(super) fn recompute_closed(&mut self, name: &NamespaceName, baseline: Option<&Baseline>, frozen: bool) {
        let Some(namespace) = self.observed.get(name).and_then(|entry| entry.namespace.as_ref()) else { return };
        let closes = |b: &Baseline| b.planned(namespace).any(|(_, policy)| policy.role == Role::DefaultDenyIngress);
        if frozen || baseline.is_some_and(closes) || !namespace.closed {
            return;
        }
        if self.observed.not_to_be_closed(name) {
            self.dirty.push(name.clone(), true);
        }
    }

    /// Changes which kinds of policies are not looked at, if they are known at all. `change` says whether it changed something.
    fn change_beyond(&mut self, change: impl FnOnce(&mut BTreeSet<String>) -> bool, now: Now) {
        if self.unsupported_policy_kinds.as_mut().is_some_and(change) {
            self.touch_statuses(now);
        }
    }
}
