//! Handles watch events: each one updates the state, and queues the namespaces that it concerns for assessment.

use std::sync::Arc;

use k8s_openapi::api::networking::v1::NetworkPolicy;

use super::{
    Engine,
    clock::Now,
    facts::{
        baseline::RawBaseline,
        event::{Change, Event},
        installs::InstallLease,
        namespaces::{Observed, Relisted},
        readiness::WatchedSet,
    },
};
use crate::api::{NamespaceName, SlimNamespace};

impl Engine {
    /// Takes the result of the leader election. An elected instance leads if no older install is alive. Without leading it watches and
    /// assesses. It then writes at most the status of baselines that wait for an older install. When it begins to lead, it continues from
    /// the state of the cluster, as after a start. The stored statuses are the former leader's, and its repairs are not announced again.
    pub fn elect(&mut self, elected: bool, now: Now) {
        self.elected = elected;
        self.recompute_installs(now);
        let leads = elected && self.installs.elder().is_none();
        if std::mem::replace(&mut self.leads, leads) == leads || !leads {
            return;
        }
        self.surveyed = false;
        self.observed.take_over();
        self.outbox.opt_outs.take_over();
        self.forget_rollouts();
        self.tracked.values_mut().for_each(|tracked| tracked.take_over(now.instant));
        self.recall_dns(now);
        self.recall_api(now);
        self.plans_changed(now);
    }

    /// Notes whether the watch works that an event comes from. DNS, the API server's addresses and network
    /// plugins have conditions of their own.
    fn note_watch(&mut self, event: &Event, now: Now) {
        let (set, works) = match event {
            Event::Namespace(change) => (WatchedSet::Namespaces, change.works()),
            Event::Policy(change) => (WatchedSet::Policies, change.works()),
            Event::Baseline(change) => (WatchedSet::Baselines, change.works()),
            Event::OptOut(change) => (WatchedSet::OptOuts, change.works()),
            Event::Install(change) => (WatchedSet::Installs, change.works()),
            Event::Revision(change) => (WatchedSet::Revisions, change.works()),
            Event::Configuration(kind, change) => (WatchedSet::Callers(*kind), change.works()),
            Event::Dns(_) | Event::KubernetesApi(_) | Event::Plugin(..) => return,
        };
        match works {
            Some(Ok(())) => self.readiness.watch_works(set),
            Some(Err(refusal)) => self.readiness.watch_failed(set, refusal, now.instant),
            None => {}
        }
    }

    /// Handles one watch event.
    pub fn on_event(&mut self, event: Event, now: Now) {
        self.note_watch(&event, now);
        match event {
            Event::Namespace(change) => self.on_namespace(change, now),
            Event::Policy(change) => self.on_policy(change, now),
            Event::Baseline(change) => self.on_baseline(change, now),
            Event::OptOut(change) => self.on_opt_out(change, now),
            Event::Install(change) => self.on_install(change, now),
            Event::Revision(change) => self.on_revision(change, now),
            Event::Configuration(kind, change) => self.on_configuration(kind, change, now),
            Event::Dns(event) => self.on_dns(*event, now),
            Event::KubernetesApi(event) => self.on_api(event, now),
            Event::Plugin(of, change) => self.on_plugin(of, change, now),
        }
    }

    fn on_namespace(&mut self, change: Change<SlimNamespace>, now: Now) {
        match change {
            Change::ListBegan => {
                self.observed.namespaces_relist();
                self.readiness.list_began(WatchedSet::Namespaces, now.instant);
            }
            Change::Applied(seen) => self.namespace_seen(&seen, now),
            Change::Deleted(seen) => {
                if let Some(name) = seen.metadata.name.as_deref() {
                    self.namespace_gone(&NamespaceName::observed(name), now);
                }
            }
            Change::ListDone => {
                for ns in self.observed.namespaces_relisted() {
                    self.namespace_gone(&ns, now);
                }
                self.list_complete(WatchedSet::Namespaces, now);
            }
            Change::Refused(_, why) => self.readiness.report(WatchedSet::Namespaces, why),
        }
    }

    fn namespace_seen(&mut self, seen: &SlimNamespace, now: Now) {
        let uid = |observed: &Observed| observed.uid(seen.metadata.name.as_deref()?);
        let before = uid(&self.observed);
        let Some(ns) = self.observed.namespace_seen(seen) else { return };
        self.census.namespace_changed();
        if before != uid(&self.observed) {
            self.namespace_left(&ns);
        }
        self.serves_from_now_on(&ns);
        self.waiting.entry(ns.clone()).or_insert(now.instant);
        if self.outbox.opt_outs.concern(&ns) {
            self.opt_outs_changed(&ns, true, now);
        }
        self.dirty.push(ns, true);
    }

    fn on_policy(&mut self, change: Change<Box<NetworkPolicy>>, now: Now) {
        match change {
            Change::ListBegan => {
                self.observed.policies_relist();
                self.readiness.list_began(WatchedSet::Policies, now.instant);
            }
            Change::Applied(object) => {
                let news = self.observed.policy_seen(&object);
                self.note_named_namespaces(news.as_ref(), object.metadata.name.as_deref());
                self.policy_news(news, now);
            }
            Change::Deleted(object) => {
                let news = self.observed.policy_deleted(&object);
                self.policy_news(news, now);
            }
            Change::ListDone => {
                for Relisted { namespace, unsure } in self.observed.policies_relisted() {
                    for policy in unsure {
                        self.outbox.policies.hold(&namespace, &policy, now.instant);
                    }
                    self.policy_news(Some(namespace), now);
                }
                self.list_complete(WatchedSet::Policies, now);
            }
            Change::Refused(_, why) => self.readiness.report(WatchedSet::Policies, why),
        }
    }

    fn on_baseline(&mut self, change: Change<Box<RawBaseline>>, now: Now) {
        match change {
            Change::ListBegan => {
                self.listed_baselines.begin();
                self.readiness.list_began(WatchedSet::Baselines, now.instant);
            }
            Change::Applied(raw) => self.baseline_seen(&raw, now),
            Change::Deleted(raw) => {
                if let Some(name) = raw.metadata.name.as_deref() {
                    self.baseline_gone(name, now);
                }
            }
            Change::ListDone => {
                let seen = self.listed_baselines.end().unwrap_or_default();
                let gone: Vec<Arc<str>> = self.tracked.keys().filter(|name| !seen.contains(&***name)).cloned().collect();
                for name in gone {
                    self.baseline_gone(&name, now);
                }
                self.list_complete(WatchedSet::Baselines, now);
            }
            Change::Refused(_, why) => self.readiness.report(WatchedSet::Baselines, why),
        }
    }

    fn on_install(&mut self, change: Change<Box<InstallLease>>, now: Now) {
        match change {
            Change::ListBegan => {
                self.installs.relist();
                self.readiness.list_began(WatchedSet::Installs, now.instant);
            }
            Change::Applied(seen) => self.installs.saw(&seen, now.instant),
            Change::Deleted(seen) => self.installs.gone(&seen.lease),
            Change::ListDone => {
                self.installs.relisted();
                self.list_complete(WatchedSet::Installs, now);
            }
            Change::Refused(_, why) => self.readiness.report(WatchedSet::Installs, why),
        }
    }

    fn policy_news(&mut self, news: Option<NamespaceName>, now: Now) {
        if let Some(ns) = news {
            self.waiting.entry(ns.clone()).or_insert(now.instant);
            self.outbox.policies.news(&ns);
            self.dirty.push(ns, true);
        }
    }

    fn namespace_gone(&mut self, ns: &NamespaceName, now: Now) {
        self.observed.namespace_deleted(ns);
        self.census.namespace_changed();
        self.waits_no_more(ns);
        self.namespace_left(ns);
        self.outbox.policies.forget(ns);
        self.outbox.labels.forget(ns);
        self.orphans.set(ns, 0);
        for tracked in self.tracked.values_mut() {
            tracked.forget(ns, now.instant);
            tracked.set_policies_left(ns, 0, now.instant);
        }
    }
}
