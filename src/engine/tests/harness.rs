//! The basis of the engine's tests: the engine with a small simulated cluster.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use k8s_openapi::{api::networking::v1::NetworkPolicy, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use serde_json::{Value, json};
use strum::VariantArray;

use crate::{
    api::{
        PolicyBaselineStatus, SlimNamespace,
        backends::{Configuration, ConfigurationKind, ServiceName},
        reason::{EventReason, Failure},
    },
    engine::{
        Engine,
        clock::Now,
        facts::{
            baseline::RawBaseline,
            event::{Change, Event, ListPhase},
        },
        outbox::baseline_status::{StatusWrite, StoredStatus},
        writes::{Announcement, Done, Job, Task, WriteError, Wrote},
    },
    policy::drift::{Drift, Repair},
};

/// The namespace of the operator.
pub const OWN: &str = "policy-baseline-system";

/// The engine with a small simulated cluster: a map of policies with increasing versions.
#[derive(Clone)]
pub struct EngineHarness {
    pub engine: Engine,
    pub policies: BTreeMap<(String, String), NetworkPolicy>,
    pub version: u64,
    pub start: Instant,
    pub elapsed: Duration,
    pub statuses: Vec<PolicyBaselineStatus>,
}

impl EngineHarness {
    /// The engine leads, everything is listed, and the cluster is empty.
    pub fn new() -> Self {
        let mut sim = Self::unsynced();
        sim.list();
        sim
    }

    /// Only the objects that name Services are listed.
    pub fn unsynced() -> Self {
        let mut sim = Self::blank();
        sim.list_configurations();
        sim
    }

    pub fn list_configurations(&mut self) {
        for kind in ConfigurationKind::VARIANTS.iter().copied() {
            self.see(Event::Configuration(kind, Change::ListBegan));
            if kind == ConfigurationKind::Service {
                for ns in ["a", "b"] {
                    self.see(service(ns));
                }
            }
            self.see(Event::Configuration(kind, Change::ListDone));
        }
    }

    /// Nothing is listed.
    pub fn blank() -> Self {
        let mut sim = Self {
            engine: Engine::new(OWN),
            policies: BTreeMap::new(),
            version: 1,
            start: Instant::now(),
            elapsed: Duration::ZERO,
            statuses: vec![],
        };
        sim.engine.elect(true, sim.now());
        sim
    }

    pub fn list(&mut self) {
        self.listing(|_| {});
    }

    pub fn list_keeping_baselines(&mut self) {
        for phase in [ListPhase::Begin, ListPhase::End] {
            self.see(Event::Namespace(phase.change()));
            self.see(Event::Policy(phase.change()));
            self.see(Event::Install(phase.change()));
            self.see(Event::OptOut(phase.change()));
        }
        self.see(Event::Baseline(Change::ListDone));
    }

    /// Lists everything; `found` adds the objects during the list.
    pub fn listing(&mut self, found: impl FnOnce(&mut Self)) {
        let phase = |sim: &mut Self, phase: ListPhase| {
            sim.see(Event::Namespace(phase.change()));
            sim.see(Event::Policy(phase.change()));
            sim.see(Event::Baseline(phase.change()));
            sim.see(Event::Install(phase.change()));
            sim.see(Event::OptOut(phase.change()));
        };
        phase(self, ListPhase::Begin);
        found(self);
        phase(self, ListPhase::End);
    }

    pub fn now(&self) -> Now {
        let wall = Timestamp::from_second(1_000_000).unwrap() + jiff::SignedDuration::try_from(self.elapsed).unwrap();
        Now { instant: self.start + self.elapsed, wall }
    }

    pub fn pass(&mut self, time: Duration) {
        self.elapsed += time;
    }

    pub fn see(&mut self, seen: Event) {
        let now = self.now();
        self.engine.on_event(seen, now);
    }

    pub fn namespace(&mut self, name: &str) {
        self.namespace_with(name, json!({}));
    }

    pub fn namespace_with(&mut self, name: &str, mut labels: Value) {
        labels["kubernetes.io/metadata.name"] = name.into();
        let meta =
            json!({"name": name, "uid": format!("uid-{name}"), "creationTimestamp": "1970-01-01T00:10:00Z", "labels": labels});
        self.see(Event::Namespace(Change::Applied(named(meta))));
    }

    pub fn baseline(&mut self, generation: i64, spec: Value) {
        self.baseline_with(generation, spec, json!({}));
    }

    pub fn baseline_with(&mut self, generation: i64, spec: Value, metadata: Value) {
        self.baseline_stored(generation, spec, metadata, Value::Null);
    }

    pub fn baseline_stored(&mut self, generation: i64, spec: Value, metadata: Value, status: Value) {
        let mut meta = json!({"name": "b", "uid": "uid-b", "generation": generation, "resourceVersion": "7",
            "creationTimestamp": "1970-01-01T00:00:01Z"});
        meta.as_object_mut().unwrap().extend(metadata.as_object().unwrap().clone());
        let raw: RawBaseline =
            serde_json::from_value(json!({"metadata": meta, "spec": with_policies(spec), "status": status})).unwrap();
        self.see(Event::Baseline(Change::Applied(Box::new(raw))));
    }

    pub fn lead(&mut self, leads: bool) {
        let now = self.now();
        self.engine.elect(leads, now);
    }

    /// Another instance leads. It writes the missing policies of a namespace, `policies` of them.
    pub fn another_writes(&mut self, ns: &str, policies: usize) {
        let missing: Vec<NetworkPolicy> = {
            let mut another = Self::protected();
            another.namespace(ns);
            another.settle();
            another.policies.into_iter().filter(|((of, _), _)| of == ns).map(|(_, object)| object).collect()
        };
        for mut object in missing.into_iter().take(policies) {
            self.version += 1;
            object.metadata.resource_version = Some(self.version.to_string());
            self.policies.insert((ns.into(), object.metadata.name.clone().unwrap()), object.clone());
            self.see(Event::Policy(Change::Applied(Box::new(object))));
            let now = self.now();
            while self.engine.assess_dirty(now) {}
        }
    }

    /// The next jobs, after everything was assessed.
    pub fn jobs(&mut self) -> Vec<Job> {
        let now = self.now();
        while self.engine.assess_dirty(now) {}
        std::iter::from_fn(|| self.engine.next_job(now)).collect()
    }

    /// Runs all jobs, in the order of their phases, with this answer to each write. Returns the number of jobs.
    pub fn answer(&mut self, mut answer: impl FnMut(&Job, &str) -> Option<Failure>) -> usize {
        let jobs = self.jobs();
        let count = jobs.len();
        for mut job in jobs {
            job.put_in_order();
            let mut results = Vec::new();
            while results.len() < job.tasks.len() {
                for may_send in job.next_writes(&results) {
                    let Drift { policy, fix, .. } = &job.tasks[results.len()].drift;
                    results.push(match () {
                        () if !may_send => Ok(Wrote::Withheld),
                        () => match answer(&job, policy) {
                            Some(reason) => Err(WriteError::Failed { reason, message: "said no".into() }),
                            None => Ok(self.policies_write(&job, policy, fix)),
                        },
                    });
                }
            }
            let now = self.now();
            self.engine.done(Done { job, results }, now);
        }
        count
    }

    /// Runs a job. The watch shows every write, and `meanwhile` happens, before the answers to the writes arrive.
    pub fn answer_late(&mut self, job: Job, meanwhile: impl FnOnce(&mut Self)) {
        let write = |t: &Task| Ok(self.policies_write(&job, &t.drift.policy, &t.drift.fix));
        let results: Vec<_> = job.tasks.iter().map(write).collect();
        for object in self.policies.values().cloned().collect::<Vec<_>>() {
            self.see(Event::Policy(Change::Applied(Box::new(object))));
        }
        meanwhile(self);
        let now = self.now();
        self.engine.done(Done { job, results }, now);
    }

    pub fn settle(&mut self) {
        for _ in 0..10 {
            if self.answer(|_, _| None) == 0 {
                return;
            }
        }
        panic!("the engine does not come to rest");
    }

    pub fn policies_write(&mut self, job: &Job, policy: &str, fix: &Repair) -> Wrote {
        let key = (job.namespace.as_str().to_owned(), policy.to_owned());
        match fix {
            Repair::Apply { index, .. } => {
                self.version += 1;
                let rendered = &job.baseline.as_ref().unwrap().policies[*index];
                let mut object = rendered.object(job.namespace.as_str(), Some("u"));
                object["metadata"]["resourceVersion"] = self.version.to_string().into();
                let object: NetworkPolicy = serde_json::from_value(object).unwrap();
                self.policies.insert(key, object.clone());
                Wrote::Applied { stored: Box::new(object), before: None }
            }
            Repair::Delete { .. } => {
                self.policies.remove(&key);
                Wrote::Removed
            }
            Repair::WaitForFinalizer => Wrote::Withheld,
            Repair::RemoveFinalizer { finalizer, version, .. } => {
                self.version += 1;
                let mut object = self.policies.remove(&key).unwrap();
                assert_eq!(object.metadata.resource_version, Some(version.to_string()));
                object.metadata.resource_version = Some(self.version.to_string());
                let left = object.metadata.finalizers.as_mut().unwrap();
                left.retain(|name| name != finalizer.into_str());
                if !left.is_empty() {
                    self.policies.insert(key, object.clone());
                }
                Wrote::FinalizerRemoved(Box::new(object))
            }
        }
    }

    pub fn tamper(&mut self, ns: &str, policy: &str, edit: impl FnOnce(&mut NetworkPolicy)) {
        self.version += 1;
        let object = self.policies.get_mut(&(ns.into(), policy.into())).unwrap();
        edit(object);
        object.metadata.resource_version = Some(self.version.to_string());
        let seen = Event::Policy(Change::Applied(Box::new(object.clone())));
        self.see(seen);
    }

    pub fn delete(&mut self, ns: &str, policy: &str) {
        self.version += 1;
        let mut object = self.policies.remove(&(ns.into(), policy.into())).unwrap();
        object.metadata.resource_version = Some(self.version.to_string());
        self.see(Event::Policy(Change::Deleted(Box::new(object))));
    }

    /// Writes the statuses that are due. Returns the last one, if there was any.
    pub fn status(&mut self) -> Option<PolicyBaselineStatus> {
        let now = self.now();
        let writes = self.engine.statuses(now);
        let written = writes.len();
        for StatusWrite { name, uid, status } in writes {
            self.statuses.push(status.clone());
            self.engine.status_written(&name, &uid, Ok(StoredStatus { status, version: 7 }), now);
        }
        (written > 0).then(|| self.statuses.last().cloned()).flatten()
    }

    /// The stored status after some seconds in which nobody does anything.
    pub fn status_after(&mut self, seconds: u64) -> PolicyBaselineStatus {
        self.pass(Duration::from_secs(seconds));
        self.settle();
        self.pass(Duration::from_secs(2));
        self.status();
        self.statuses.last().unwrap().clone()
    }

    /// The Events since the last call, without those about the state of a baseline.
    pub fn announcements(&mut self) -> Vec<Announcement> {
        let mut all = self.engine.take_announcements();
        all.retain(|told| ![EventReason::BaselineReady, EventReason::BaselineNotReady].contains(&told.reason));
        all
    }

    pub fn protected() -> Self {
        let mut sim = Self::new();
        sim.baseline(1, json!({}));
        sim.namespace("a");
        sim.settle();
        sim.pass(Duration::from_secs(5));
        sim.status();
        sim.pass(Duration::from_secs(5));
        sim
    }
}

/// The Service `webhook` of that namespace.
pub fn service(namespace: &str) -> Event {
    service_named(namespace, "webhook")
}

/// There is a Service of that name.
pub fn service_named(namespace: &str, name: &str) -> Event {
    let service = ServiceName { namespace: namespace.into(), name: name.into() };
    let kind = ConfigurationKind::Service;
    Event::Configuration(
        kind,
        Change::Applied(Configuration { kind, name: service.to_string(), services: vec![service], missing_fields: vec![] }),
    )
}

/// A namespace with this metadata.
pub fn named(metadata: Value) -> SlimNamespace {
    serde_json::from_value::<ObjectMeta>(metadata).unwrap().into()
}

/// A spec with the default of `policies`, as the API server stores it.
pub fn with_policies(mut spec: Value) -> Value {
    if spec.get("mode").is_none() {
        spec["mode"] = "Enforce".into();
    }
    if spec.get("policies").is_none() {
        spec["policies"] = json!(["DefaultDenyIngress", "DefaultDenyEgress", "MonitoringCarveout"]);
    }
    spec
}

/// The entries of a status about single namespaces: reasons and policies, violations before notices.
pub fn entries(status: &PolicyBaselineStatus) -> Vec<(String, Option<String>)> {
    let violations = status.violations.iter().map(|v| (v.reason.into_str().to_owned(), v.policy.clone()));
    violations.chain(status.notices.iter().map(|n| (n.reason.into_str().to_owned(), n.policy.clone()))).collect()
}

/// The reason of the condition Ready.
pub fn ready(status: &PolicyBaselineStatus) -> &str {
    &status.conditions.iter().find(|c| c.type_ == "Ready").unwrap().reason
}
