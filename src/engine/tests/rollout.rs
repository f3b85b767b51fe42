//! Rollouts, event by event: what is rolled out when, and how a restarted instance continues.
//!
//! One file: the waves of a change. The stored revisions have a file of their own.

mod allows;
mod closing;
mod stored;

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::{
    api::{apps::v1::ControllerRevision, networking::v1::NetworkPolicy},
    apimachinery::pkg::runtime::RawExtension,
};
use serde_json::{Value, json};

use super::{
    dns::{hear, list_but, service},
    harness::{EngineHarness, OWN, ready, with_policies},
};
use crate::{
    api::{
        Uid,
        names::{ANNOTATION_ASKED, ANNOTATION_PLAN},
        reason::Failure,
    },
    engine::{
        Engine,
        facts::event::{Change, Event, ListPhase},
        outbox::revisions::{RevisionChange, RevisionWrite},
        writes::WriteError,
    },
    policy::plan::Revision,
};

const EGRESS: &str = "baseline-default-deny-egress";
const INGRESS: &str = "baseline-default-deny-ingress";
const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];
const MINUTE: Duration = Duration::from_mins(1);

/// A cluster of five namespaces, with the stored revisions.
struct Cluster {
    sim: EngineHarness,
    revisions: BTreeMap<String, ControllerRevision>,
    generation: i64,
    spec: Value,
}

/// One namespace in a wave, one minute between waves, and this DNS port besides 53.
fn spec(port: i32) -> Value {
    json!({"dns": {"ports": [port]}, "rollout": {"maxNamespacesPerWave": 1, "interval": "1m"}})
}

fn discovering() -> EngineHarness {
    let mut sim = EngineHarness::blank();
    sim.engine = Engine::new(OWN).discovering();
    sim.lead(true);
    sim.list_configurations();
    list_but(&mut sim, &[]);
    sim
}

impl Cluster {
    /// Every namespace holds the policies of the spec, and its revision is stored.
    fn settled(spec: Value) -> Self {
        Self::settled_in(EngineHarness::unsynced(), spec)
    }

    /// The same, with DNS discovery.
    fn discovering(spec: Value) -> Self {
        Self::settled_in(discovering(), spec)
    }

    fn settled_in(mut sim: EngineHarness, spec: Value) -> Self {
        for phase in [ListPhase::Begin, ListPhase::End] {
            sim.see(Event::Revision(phase.change()));
        }
        sim.list();
        let mut cluster = Self { sim, revisions: BTreeMap::new(), generation: 0, spec: Value::Null };
        cluster.edit(spec);
        for name in NAMES {
            cluster.sim.namespace(name);
        }
        cluster.work();
        assert_eq!(cluster.ports(), "1 1 1 1 1");
        cluster
    }

    fn edit(&mut self, spec: Value) {
        self.generation += 1;
        self.spec = spec.clone();
        self.sim.baseline(self.generation, spec);
    }

    /// Runs everything that is due, until nothing is left.
    fn work(&mut self) {
        for _ in 0..50 {
            if self.store(|_| None) + self.sim.answer(|_, _| None) == 0 {
                return;
            }
        }
        panic!("the engine does not come to rest");
    }

    fn store(&mut self, refuse: impl Fn(&RevisionWrite) -> Option<WriteError>) -> usize {
        let now = self.sim.now();
        while self.sim.engine.assess_dirty(now) {}
        let writes = self.sim.engine.revisions(now);
        let count = writes.len();
        for write in writes {
            let result = match refuse(&write) {
                Some(error) => Err(error),
                None => Ok(self.write(&write)),
            };
            self.sim.engine.revision_written(write, result, now);
        }
        count
    }

    fn write(&mut self, write: &RevisionWrite) -> Option<Uid> {
        match &write.what {
            RevisionChange::Store(revision) => {
                let mut stored = (**revision).clone();
                stored.metadata.uid = Some(format!("uid-{}", write.object));
                self.revisions.insert(write.object.clone(), stored);
                Some(format!("uid-{}", write.object).as_str().into())
            }
            RevisionChange::Delete(_) => {
                self.revisions.remove(&write.object);
                None
            }
        }
    }

    /// The second DNS port in each namespace.
    fn ports(&self) -> String {
        NAMES.map(|ns| self.port(ns)).join(" ")
    }

    fn port(&self, ns: &str) -> String {
        let Some(policy) = self.sim.policies.get(&(ns.to_owned(), EGRESS.to_owned())) else { return "-".into() };
        let policy = serde_json::to_value(policy).unwrap();
        policy["spec"]["egress"][0]["ports"][2]["port"].to_string()
    }

    /// The annotation of a policy with the hash of what its spec asked for.
    fn asked(&self, ns: &str, policy: &str) -> Option<&String> {
        let meta = &self.sim.policies[&(ns.to_owned(), policy.to_owned())].metadata;
        meta.annotations.as_ref().unwrap().get(ANNOTATION_ASKED)
    }

    fn pass(&mut self, time: Duration) {
        self.sim.pass(time);
        self.work();
    }

    /// Another process takes over. It knows the cluster and the stored status.
    fn restart(self) -> Self {
        self.restart_as(EngineHarness::unsynced())
    }

    /// The same, with one more DNS address.
    fn restart_with_dns(self, address: &str) -> Self {
        let mut sim = discovering();
        hear(&mut sim, service("more", address));
        self.restart_as(sim)
    }

    fn restart_as(self, mut sim: EngineHarness) -> Self {
        let Self { sim: mut old, revisions, generation, spec } = self;
        old.pass(Duration::from_secs(2));
        old.status();
        let status = old.statuses.last().map_or(Value::Null, |s| serde_json::to_value(s).unwrap());
        sim.elapsed = old.elapsed;
        sim.version = old.version;
        sim.policies = old.policies;
        sim.statuses = old.statuses;
        sim.see(Event::Revision(Change::ListBegan));
        for revision in revisions.values() {
            sim.see(Event::Revision(Change::Applied(Box::new(revision.clone()))));
        }
        sim.see(Event::Revision(Change::ListDone));
        sim.listing(|sim| {
            for name in NAMES {
                sim.namespace(name);
            }
            for policy in sim.policies.values().cloned().collect::<Vec<_>>() {
                sim.see(Event::Policy(Change::Applied(Box::new(policy))));
            }
            sim.baseline_stored(generation, spec.clone(), json!({}), status);
        });
        Self { sim, revisions, generation, spec }
    }

    fn status(&mut self) -> (String, [u32; 3]) {
        self.sim.pass(Duration::from_secs(2));
        let now = self.sim.now();
        while self.sim.engine.assess_dirty(now) {}
        self.sim.status();
        let status = self.sim.statuses.last().unwrap();
        let rollout = status.rollout.clone().unwrap_or_default();
        (ready(status).to_owned(), [rollout.moved, rollout.total, rollout.waves])
    }
}

#[test]
fn a_change_goes_out_in_waves_with_the_interval_between_them() {
    let mut cluster = Cluster::settled(spec(1));
    assert_eq!(cluster.revisions.len(), 1);
    cluster.edit(spec(2));
    assert_eq!(cluster.sim.jobs().len(), 0, "nothing goes out before it is stored");
    let mut waves = vec![];
    for _ in 0..5 {
        cluster.work();
        waves.push(cluster.ports());
        cluster.sim.pass(Duration::from_secs(59));
        cluster.work();
        assert_eq!(waves.last(), Some(&cluster.ports()), "not before its time");
        cluster.sim.pass(Duration::from_secs(1));
    }
    assert_eq!(waves, ["2 1 1 1 1", "2 2 1 1 1", "2 2 2 1 1", "2 2 2 2 1", "2 2 2 2 2"]);
    cluster.work();
    let stored: Vec<_> = cluster.revisions.values().map(|r| r.data.clone().unwrap().0["dns"]["ports"].clone()).collect();
    assert_eq!(stored, [json!([2])], "the next one begins here");
    assert_eq!(cluster.status().0, "Protected");
    let now = cluster.sim.now();
    assert_eq!(cluster.sim.engine.next_wake(now), None);
}

#[test]
fn without_a_rollout_a_change_goes_out_at_once_and_nothing_is_stored() {
    let without = |port: i32| json!({"dns": {"ports": [port]}});
    let mut cluster = Cluster::settled(without(1));
    cluster.edit(without(2));
    cluster.work();
    assert_eq!((cluster.ports(), cluster.revisions.len()), ("2 2 2 2 2".into(), 0));
    // A rollout that is added together with a change starts from the state before.
    cluster.edit(spec(3));
    cluster.work();
    assert_eq!((cluster.ports(), cluster.revisions.len()), ("3 2 2 2 2".into(), 2));
    // Without a rollout again, nothing waits.
    cluster.edit(without(3));
    cluster.work();
    assert_eq!((cluster.ports(), cluster.revisions.len()), ("3 3 3 3 3".into(), 0));
}

#[test]
fn a_baseline_that_is_made_anew_inherits_no_rollout_however_that_was_seen() {
    for event in [true, false] {
        let mut cluster = Cluster::settled(spec(1));
        cluster.edit(spec(2));
        cluster.work();
        assert_eq!(cluster.ports(), "2 1 1 1 1");
        let gone = |cluster: &mut Cluster| {
            let raw = serde_json::from_value(json!({"metadata": {"name": "b", "uid": "uid-b"}})).unwrap();
            cluster.sim.see(Event::Baseline(Change::Deleted(Box::new(raw))));
        };
        let new = json!({"uid": "uid-new"});
        if event {
            gone(&mut cluster);
            cluster.sim.baseline_with(1, spec(2), new);
        } else {
            cluster.sim.see(Event::Baseline(Change::ListBegan));
            cluster.sim.baseline_with(1, spec(2), new);
            cluster.sim.see(Event::Baseline(Change::ListDone));
        }
        // The stored revisions of the former baseline are deleted, and the new one starts no rollout from them.
        cluster.sim.answer(|_, _| None);
        assert_eq!(cluster.ports(), "2 2 2 2 2", "{event}");
        cluster.work();
        let owners = cluster.revisions.values().map(|r| r.metadata.owner_references.clone().unwrap()[0].uid.clone());
        assert_eq!(owners.collect::<Vec<_>>(), ["uid-new"], "{event}");
        assert_eq!(cluster.status(), ("Protected".into(), [0, 0, 0]), "{event}");
    }
}

#[test]
fn canaries_go_first_as_a_wave_of_their_own() {
    let canaries = |port: i32| {
        let mut spec = spec(port);
        spec["rollout"]["canarySelector"] = json!({"matchLabels": {"canary": "yes"}});
        spec
    };
    let mut cluster = Cluster::settled(canaries(1));
    for name in ["c", "e"] {
        cluster.sim.namespace_with(name, json!({"canary": "yes"}));
    }
    cluster.edit(canaries(2));
    cluster.work();
    assert_eq!(cluster.ports(), "1 1 2 1 2");
    cluster.pass(MINUTE);
    assert_eq!(cluster.ports(), "2 1 2 1 2");
}

#[test]
fn i1_drift_outside_of_the_wave_goes_back_to_what_is_assigned_there_and_inside_to_the_target() {
    let mut cluster = Cluster::settled(spec(1));
    cluster.edit(spec(2));
    cluster.work();
    let open = |p: &mut NetworkPolicy| p.spec.as_mut().unwrap().egress = Some(vec![Default::default()]);
    for ns in ["a", "d"] {
        cluster.sim.tamper(ns, EGRESS, open);
    }
    cluster.work();
    assert_eq!(cluster.ports(), "2 1 1 1 1");
    for policy in [EGRESS, "baseline-default-deny-ingress", "baseline-monitoring-carveout"] {
        for ns in ["a", "d"] {
            cluster.sim.delete(ns, policy);
        }
    }
    cluster.work();
    assert_eq!(cluster.ports(), "2 1 1 1 1");
}

#[test]
fn a_new_namespace_never_waits_for_a_wave() {
    let mut cluster = Cluster::settled(spec(1));
    cluster.edit(spec(2));
    cluster.work();
    cluster.sim.namespace("new");
    cluster.work();
    assert_eq!((cluster.port("new"), cluster.ports()), ("2".into(), "2 1 1 1 1".into()));
    assert_eq!(cluster.status(), ("RollingOut".into(), [2, 6, 1]));
}

#[test]
fn a_restart_in_the_middle_writes_nothing_and_goes_on_where_it_was() {
    let mut cluster = Cluster::settled(spec(1));
    cluster.edit(spec(2));
    cluster.work();
    cluster.pass(MINUTE);
    assert_eq!(cluster.ports(), "2 2 1 1 1");
    let before = cluster.status();
    assert_eq!(before, ("RollingOut".into(), [2, 5, 2]));
    for _ in 0..3 {
        cluster = cluster.restart();
        assert_eq!((cluster.store(|_| None), cluster.sim.jobs().len()), (0, 0));
        assert!(cluster.sim.status().is_none(), "the status is the very same");
    }
    cluster.pass(MINUTE);
    assert_eq!(cluster.ports(), "2 2 2 1 1", "one wave, however often it was started");
}

#[test]
fn failures_pause_it_until_the_spec_is_edited_also_after_a_restart() {
    let mut cluster = Cluster::settled(spec(1));
    cluster.edit(spec(2));
    cluster.store(|_| None);
    cluster.store(|_| None);
    let denies =
        |sim: &mut EngineHarness| sim.answer(|job, _| (job.namespace.as_str() == "a").then_some(Failure::DeniedByAdmission));
    assert_eq!(denies(&mut cluster.sim), 1);
    cluster.sim.pass(MINUTE * 10);
    denies(&mut cluster.sim);
    assert_eq!((cluster.ports(), cluster.status().0), ("1 1 1 1 1".into(), "RolloutPaused".into()));
    let mut cluster = cluster.restart();
    cluster.pass(MINUTE * 10);
    assert_eq!((cluster.ports(), cluster.status().0), ("1 1 1 1 1".into(), "RolloutPaused".into()));
    // The cause of the pause may be gone; an edit by the owner resumes the rollout.
    let mut again = spec(2);
    again["rollout"]["maxFailures"] = json!(1);
    cluster.edit(again);
    cluster.work();
    cluster.pass(MINUTE);
    assert_eq!(cluster.ports(), "2 1 1 1 1");
}

#[test]
fn an_apiserver_that_is_away_is_no_failure_of_the_change() {
    let mut cluster = Cluster::settled(spec(1));
    cluster.edit(spec(2));
    cluster.store(|_| None);
    cluster.store(|_| None);
    assert_eq!(cluster.sim.answer(|_, _| Some(Failure::Unavailable)), 1);
    cluster.pass(MINUTE);
    assert_eq!((cluster.ports(), cluster.status().0), ("2 1 1 1 1".into(), "RollingOut".into()));
    cluster.pass(MINUTE);
    assert_eq!(cluster.ports(), "2 2 1 1 1");
}

#[test]
fn an_apiserver_that_is_away_is_no_failure_of_the_change_in_a_namespace_that_is_bypassed_too() {
    let mut cluster = Cluster::settled(spec(1));
    let open = json!({
        "metadata": {"namespace": "a", "name": "allow-all", "uid": "u", "resourceVersion": "9000"},
        "spec": {"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{}]},
    });
    cluster.sim.see(Event::Policy(Change::Applied(serde_json::from_value(open).unwrap())));
    cluster.edit(spec(2));
    cluster.store(|_| None);
    cluster.store(|_| None);
    assert_eq!(cluster.sim.answer(|_, _| Some(Failure::Unavailable)), 1);
    cluster.pass(MINUTE);
    assert_eq!((cluster.ports(), cluster.status().0), ("2 1 1 1 1".into(), "RollingOut".into()));
    cluster.pass(MINUTE);
    assert_eq!(cluster.ports(), "2 2 1 1 1");
}

#[test]
fn a_change_that_is_taken_back_goes_back_at_once() {
    let mut cluster = Cluster::settled(spec(1));
    cluster.edit(spec(2));
    cluster.work();
    cluster.pass(MINUTE);
    assert_eq!(cluster.ports(), "2 2 1 1 1");
    cluster.edit(spec(1));
    cluster.work();
    assert_eq!((cluster.ports(), cluster.revisions.len()), ("1 1 1 1 1".into(), 1));
    assert_eq!(cluster.status().0, "Protected");
}

#[test]
fn what_an_edit_leaves_behind_keeps_what_it_has_until_its_turn_which_comes_first() {
    let mut cluster = Cluster::settled(spec(1));
    cluster.sim.namespace_with("e", json!({"canary": "yes"}));
    let mut second = spec(2);
    second["rollout"]["canarySelector"] = json!({"matchLabels": {"canary": "yes"}});
    cluster.edit(second);
    cluster.work();
    assert_eq!(cluster.ports(), "1 1 1 1 2");
    let mut slow = spec(3);
    slow["rollout"]["interval"] = json!("2m");
    cluster.edit(slow);
    cluster.work();
    assert_eq!(cluster.ports(), "1 1 1 1 3");
    cluster.pass(MINUTE * 2);
    assert_eq!(cluster.ports(), "3 1 1 1 3");
    cluster.edit(spec(4));
    cluster.store(|_| None);
    assert_eq!(cluster.ports(), "3 1 1 1 3", "both keep what they have");
    let mut cluster = cluster.restart();
    cluster.work();
    assert_eq!(cluster.ports(), "4 1 1 1 3", "also after a restart");
    cluster.sim.tamper("e", EGRESS, |p| p.spec.as_mut().unwrap().egress = Some(vec![Default::default()]));
    cluster.work();
    assert_eq!(cluster.ports(), "4 1 1 1 3");
    for _ in 0..5 {
        cluster.pass(MINUTE);
    }
    assert_eq!((cluster.ports(), cluster.revisions.len()), ("4 4 4 4 4".into(), 1));
}

#[test]
fn an_instance_that_takes_over_goes_on_where_the_last_one_was() {
    let mut cluster = Cluster::settled(spec(1));
    cluster.edit(spec(2));
    cluster.work();
    cluster.sim.lead(false);
    assert_eq!((cluster.store(|_| None), cluster.sim.jobs().len()), (0, 0));
    // The other instance moves the next namespace.
    let mut moved = cluster.sim.policies[&("a".to_owned(), EGRESS.to_owned())].clone();
    moved.metadata.namespace = Some("b".into());
    let id = crate::policy::plan::own_id("b", EGRESS);
    moved.metadata.labels.as_mut().unwrap().insert("policybaseline.io/id".into(), id);
    cluster.sim.version += 1;
    moved.metadata.resource_version = Some(cluster.sim.version.to_string());
    cluster.sim.policies.insert(("b".into(), EGRESS.into()), moved.clone());
    cluster.sim.see(Event::Policy(Change::Applied(Box::new(moved))));
    cluster.sim.lead(true);
    cluster.work();
    assert_eq!(cluster.ports(), "2 2 1 1 1");
    assert_eq!(cluster.status().1[..2], [2, 5]);
}

#[test]
fn what_is_suspended_or_stalled_in_the_middle_stays_where_it_is_and_goes_on() {
    for pause in [json!({"suspend": true}), json!({"policies": []})] {
        let mut cluster = Cluster::settled(spec(1));
        cluster.edit(spec(2));
        cluster.work();
        let mut stopped = spec(2);
        stopped.as_object_mut().unwrap().extend(pause.as_object().unwrap().clone());
        cluster.edit(stopped);
        cluster.pass(MINUTE * 9);
        assert_eq!((cluster.ports(), cluster.revisions.len()), ("2 1 1 1 1".into(), 2), "{pause}");
        cluster.edit(spec(2));
        cluster.work();
        assert_eq!(cluster.ports(), "2 1 1 1 1", "{pause}");
        cluster.pass(MINUTE);
        assert_eq!(cluster.ports(), "2 2 1 1 1", "{pause}");
    }
}

#[test]
fn dns_that_is_found_elsewhere_is_no_change_of_the_baseline_every_namespace_gets_it_and_none_is_moved() {
    let mut cluster = Cluster::discovering(spec(1));
    cluster.edit(spec(2));
    cluster.work();
    assert_eq!(cluster.ports(), "2 1 1 1 1");
    hear(&mut cluster.sim, service("other", "10.0.0.11"));
    cluster.work();
    assert_eq!(cluster.ports(), "2 1 1 1 1");
    for ns in NAMES {
        let policy = serde_json::to_string(&cluster.sim.policies[&(ns.to_owned(), EGRESS.to_owned())]).unwrap();
        assert!(policy.contains("10.0.0.10/32") && policy.contains("10.0.0.11/32"), "{ns}: {policy}");
    }
    cluster.pass(MINUTE);
    assert_eq!(cluster.ports(), "2 2 1 1 1");
}

#[test]
fn i1_a_restart_that_finds_other_dns_takes_no_namespace_back_to_what_it_held_before() {
    let mut cluster = Cluster::discovering(spec(1));
    cluster.edit(spec(2));
    cluster.work();
    cluster.pass(MINUTE);
    assert_eq!(cluster.ports(), "2 2 1 1 1");
    let mut cluster = cluster.restart_with_dns("10.0.0.12");
    cluster.work();
    assert_eq!((cluster.ports(), cluster.status().1), ("2 2 1 1 1".into(), [2, 5, 2]));
    for ns in NAMES {
        let policy = serde_json::to_string(&cluster.sim.policies[&(ns.to_owned(), EGRESS.to_owned())]).unwrap();
        assert!(policy.contains("10.0.0.12/32"), "{ns}: {policy}");
    }
    // The revisions of unfinished rollouts are recognised, too.
    cluster.edit(spec(3));
    cluster.work();
    assert_eq!(cluster.ports(), "3 2 1 1 1");
    let mut cluster = cluster.restart_with_dns("10.0.0.13");
    cluster.work();
    assert_eq!(cluster.ports(), "3 2 1 1 1");
    cluster.pass(MINUTE);
    assert_eq!(cluster.ports(), "3 3 1 1 1");
}

#[test]
fn i1_a_former_revision_that_would_be_refused_today_is_kept_where_no_wave_has_been() {
    let mut cluster = Cluster::settled(spec(1));
    cluster.edit(spec(2));
    cluster.work();
    // The settled revision comes from a release with laxer rules.
    let mut lax = spec(1);
    lax["dns"]["peers"] = json!([{"ipBlock": {"cidr": "anywhere"}}]);
    let lax = Revision::of(&serde_json::from_value(with_policies(lax)).unwrap());
    let first = cluster.revisions.iter().min_by_key(|(_, revision)| revision.revision).map(|(name, _)| name.clone()).unwrap();
    let mut settled = cluster.revisions.remove(&first).unwrap();
    settled.metadata.name = Some(format!("b-{}", lax.id));
    settled.data = Some(RawExtension(lax.data));
    cluster.revisions.insert(format!("b-{}", lax.id), settled);
    let mut cluster = cluster.restart();
    cluster.work();
    assert_eq!((cluster.ports(), cluster.revisions.len()), ("2 1 1 1 1".into(), 2));
    cluster.pass(MINUTE);
    assert_eq!(cluster.ports(), "2 2 1 1 1");
}

#[test]
fn i2_a_rollout_that_comes_or_goes_writes_no_policy_that_is_as_planned() {
    let without = |port: i32| json!({"dns": {"ports": [port]}});
    let mut cluster = Cluster::settled(without(1));
    cluster.edit(spec(1));
    while cluster.store(|_| None) > 0 {}
    assert_eq!(cluster.sim.jobs().len(), 0, "as of an earlier release, which knew no such annotation");
    let mut cluster = cluster.restart();
    assert_eq!((cluster.store(|_| None), cluster.sim.jobs().len()), (0, 0));
    cluster.edit(spec(2));
    cluster.work();
    let said = [("a", EGRESS), ("a", INGRESS), ("b", EGRESS)].map(|(ns, policy)| cluster.asked(ns, policy).is_some());
    assert_eq!((cluster.ports(), said), ("2 1 1 1 1".into(), [true, false, false]), "only what is written for the change");
    let mut cluster = cluster.restart();
    assert_eq!((cluster.store(|_| None), cluster.sim.jobs().len()), (0, 0));
    cluster.edit(without(2));
    while cluster.store(|_| None) > 0 {}
    let names: Vec<_> = cluster.sim.jobs().into_iter().map(|job| job.namespace.to_string()).collect();
    assert_eq!(names, ["b", "c", "d", "e"]);
}

#[test]
fn i1_what_a_policy_says_was_asked_for_is_ours_and_put_right_once() {
    let strip = |key: &'static str| move |p: &mut NetworkPolicy| drop(p.metadata.annotations.as_mut().unwrap().remove(key));
    let forge = |p: &mut NetworkPolicy| {
        p.metadata.annotations.as_mut().unwrap().insert(ANNOTATION_ASKED.into(), "0".repeat(32));
    };
    let deeds: [&dyn Fn(&mut NetworkPolicy); 3] = [&strip(ANNOTATION_ASKED), &strip(ANNOTATION_PLAN), &forge];
    let mut cluster = Cluster::settled(spec(1));
    cluster.edit(spec(2));
    cluster.work();
    for (ns, policy) in [("a", EGRESS), ("a", INGRESS), ("d", EGRESS)] {
        let before = cluster.sim.policies[&(ns.to_owned(), policy.to_owned())].metadata.annotations.clone();
        assert!(cluster.asked(ns, policy).is_some());
        for deed in deeds {
            cluster.sim.tamper(ns, policy, deed);
            assert_eq!(cluster.sim.answer(|_, _| None), 1);
            assert_eq!(cluster.sim.jobs().len(), 0);
            assert_eq!(cluster.sim.policies[&(ns.to_owned(), policy.to_owned())].metadata.annotations, before);
        }
    }
    assert_eq!(cluster.ports(), "2 1 1 1 1");
}

#[test]
fn a_change_that_comes_while_the_baseline_rests_still_goes_out_in_waves_when_it_goes_on() {
    let with = |mut spec: Value, key: &str, value: Value| {
        spec[key] = value;
        spec
    };
    for (key, value) in [("suspend", json!(true)), ("mode", json!("Audit")), ("excludeNamespaces", json!(["Not A Name"]))] {
        let mut cluster = Cluster::settled(json!({"dns": {"ports": [1]}}));
        cluster.edit(with(spec(2), key, value));
        cluster.work();
        assert_eq!(cluster.ports(), "1 1 1 1 1", "{key}");
        cluster.edit(spec(2));
        cluster.work();
        assert_eq!(cluster.ports(), "2 1 1 1 1", "{key}");
    }
}

#[test]
fn i2_a_restart_while_the_baseline_is_suspended_keeps_what_the_status_says_of_a_rollout() {
    let mut cluster = Cluster::settled(spec(1));
    cluster.edit(spec(2));
    cluster.work();
    let mut suspended = spec(2);
    suspended["suspend"] = json!(true);
    cluster.edit(suspended);
    cluster.work();
    let mut cluster = cluster.restart();
    let written = cluster.sim.statuses.len();
    assert_eq!(cluster.status(), ("Suspended".into(), [1, 5, 1]));
    assert_eq!(cluster.sim.statuses.len(), written, "{:?}", cluster.sim.statuses.last());
}

#[test]
fn i7_what_is_frozen_holds_up_no_wave_keeps_what_it_has_and_follows_in_a_wave_when_that_is_over() {
    // A suspended baseline with a higher priority freezes the namespaces that it selects.
    let first = json!({"priority": 9, "suspend": true, "namespaceSelector": {"matchLabels": {"frozen": "yes"}}});
    for when in ["before", "in the middle"] {
        let mut cluster = Cluster::settled(spec(1));
        cluster.sim.baseline_with(1, first.clone(), json!({"name": "first", "uid": "uid-first"}));
        let freeze = |sim: &mut EngineHarness| sim.namespace_with("b", json!({"frozen": "yes"}));
        if when == "before" {
            freeze(&mut cluster.sim);
        }
        cluster.edit(spec(2));
        cluster.work();
        freeze(&mut cluster.sim);
        cluster.work();
        assert_eq!(cluster.ports(), "2 1 1 1 1", "{when}");
        for ports in ["2 1 2 1 1", "2 1 2 2 1", "2 1 2 2 2", "2 1 2 2 2"] {
            cluster.pass(MINUTE);
            assert_eq!(cluster.ports(), ports, "{when}");
        }
        cluster.sim.namespace_with("b", json!({}));
        cluster.pass(MINUTE);
        cluster.pass(MINUTE);
        assert_eq!(cluster.ports(), "2 2 2 2 2", "{when}");
    }
}

#[test]
fn a_typo_in_the_selector_that_comes_with_a_change_and_is_mended_sends_nobody_beyond_a_wave() {
    let mut sim = Cluster::settled(spec(1));
    let selecting = |mut spec: Value, tier: &str| {
        spec["namespaceSelector"] = json!({"matchLabels": {"tier": tier}});
        spec
    };
    for n in 0..20 {
        sim.sim.namespace_with(&format!("n{n:02}"), json!({"tier": "prod"}));
    }
    for name in NAMES {
        sim.sim.namespace_with(name, json!({"tier": "prod"}));
    }
    sim.work();
    sim.edit(selecting(spec(1), "prod"));
    sim.work();
    sim.edit(selecting(spec(2), "prdo"));
    sim.work();
    assert_eq!(sim.ports(), "1 1 1 1 1", "the release waits");
    sim.edit(selecting(spec(2), "prod"));
    sim.work();
    let moved = sim.sim.policies.keys().filter(|(ns, policy)| policy == EGRESS && sim.port(ns) == "2").count();
    assert!(moved <= 1, "{moved} of them at once");
}
