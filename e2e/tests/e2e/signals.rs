//! Two minutes of signals: instances are killed, stopped and started again at random moments while namespaces, baselines and policies
//! change. Afterwards the invariants are checked with the objects in the cluster and the audit log.
//!
//! `E2E_SEED` repeats the random choices, `E2E_SIGNALS_SECONDS` sets the duration. Each process is a user of its own.
//! One file: the tests share their scene.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fs::File;
use std::io::Write;
use std::time::{Duration, Instant};

use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::jiff::Timestamp;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt};
use policy_baseline_e2e::process::{Paused, pause};
use policy_baseline_e2e::{AuditMark, Dice, Operator, SYSTEM_NAMESPACE, TEST_LABEL, TIMEOUT, World, skipped_without_audit_log};
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::judge::{Judge, Sent, Sentinel, Terms, Written, age, check_failures, check_rest, check_terms, writes_of};
use crate::scene::{
    CARVEOUT, DENY_EGRESS, DENY_INGRESS, Plan, apply_baseline, bind_shipped_roles, client_of, policies_of, until_may_operate,
};
use crate::support::namespaces;

const PLATFORM: &str = "platform";
const STRICT: &str = "strict";
const SENTINEL: &str = "sentinel";
/// The label that selects a namespace's baseline.
const PLACE: &str = "e2e.policybaseline.io/place";
const GROUP: &str = "e2e:instances";
const OWNER: &str = "example.com/owner";
const INSTANCES: usize = 3;
const NAMES: usize = 10;
const LEASE: Duration = Duration::from_secs(3);
/// After two thirds of the lease duration nothing may be sent.
const TERM: Duration = Duration::from_secs(2);
/// On an idle machine the process ends within 5 s after SIGTERM.
const END: Duration = Duration::from_secs(10);
const POLICIES: [&str; 3] = [DENY_INGRESS, DENY_EGRESS, CARVEOUT];

/// One process, from its start to its end.
struct Process {
    user: String,
    operator: Operator,
    /// The allowed exit codes, once it got a signal to end.
    codes: Vec<i32>,
    /// The time of the last signal to end, or of the last resume.
    told: Instant,
    paused: Option<(Paused, Timestamp, Instant)>,
    /// The periods in which SIGSTOP held it.
    pauses: Vec<(Timestamp, Timestamp)>,
}

impl Process {
    fn resume(&mut self) {
        if let Some((paused, from, _)) = self.paused.take() {
            self.pauses.push((from, Timestamp::now()));
            drop(paused);
            self.told = Instant::now();
        }
    }

    /// Whether it has just resumed. A request that had passed the check of the Lease before the stop is sent now.
    fn has_just_resumed(&self, at: Timestamp) -> bool {
        self.pauses.iter().any(|&(_, to)| at >= to && age(at, to) < Duration::from_millis(500))
    }

    fn tell(&mut self, signals: &[Signal], codes: &[i32]) {
        self.codes.extend(codes);
        self.told = Instant::now();
        // Before it has installed its signal handlers, a signal ends it.
        if !self.operator.log().contains("policy-baseline starts") {
            self.codes.extend([143, 130]);
        }
        for &signal in signals {
            // The first signal may have ended it.
            let _ = self.operator.signal(signal);
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Platform,
    Strict,
    Out,
}

impl Place {
    const fn label(self) -> Option<&'static str> {
        match self {
            Self::Platform => None,
            Self::Strict => Some("strict"),
            Self::Out => Some("out"),
        }
    }
}

/// The variable parts of a baseline's spec.
#[derive(Clone, Copy, Default)]
struct Shape {
    more_dns: bool,
    owner: usize,
}

impl Shape {
    fn spec(self, selector: &Value, priority: i32) -> Value {
        let ports = if self.more_dns { json!([5353]) } else { json!([]) };
        let metadata = self.owner().map_or(json!({}), |owner| json!({ "labels": { OWNER: owner } }));
        json!({
            "namespaceSelector": selector, "priority": priority, "existingNamespaces": "Enforce", "dns": { "ports": ports },
            "metadata": metadata,
        })
    }

    fn owner(self) -> Option<&'static str> {
        [None, Some("a"), Some("b")][self.owner]
    }

    fn plan(self, baseline: &str) -> Plan {
        let plan = if self.more_dns { Plan::of(baseline).dns_port(5353) } else { Plan::of(baseline) };
        self.owner().map_or(plan.clone(), |owner| plan.label(OWNER, owner))
    }
}

/// Whether this process ignores a signal, as SIGHUP under `nohup`, and SIGQUIT behind `&` in a script. What it starts ignores it too.
fn ignores(signal: Signal) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap();
    u64::from_str_radix(ignored.trim(), 16).unwrap() >> (signal.as_raw() - 1) & 1 == 1
}

struct Storm {
    // Dropped first, so that no process outlives its world.
    running: Vec<Option<Process>>,
    ended: Vec<Process>,
    world: World,
    mark: AuditMark,
    dice: Dice,
    beat: Interval,
    /// When an instance that has ended is started again.
    again: Vec<Instant>,
    /// The place of each existing namespace.
    places: BTreeMap<String, Place>,
    judge: Judge,
    platform: Shape,
    strict: Option<Shape>,
    strict_first: bool,
    done: BTreeMap<&'static str, u32>,
}

impl Storm {
    async fn new() -> Self {
        let world = World::new().await.unwrap();
        let subject = json!({ "apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": GROUP });
        bind_shipped_roles(&world, "instances", &subject).await;
        until_may_operate(&world, &world.user("nobody", &[GROUP]).await.unwrap(), SYSTEM_NAMESPACE).await;
        let mut beat = interval(Duration::from_millis(20));
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mark = world.audit().unwrap().mark();
        let storm = Self {
            running: (0..INSTANCES).map(|_| None).collect(),
            ended: Vec::new(),
            world,
            mark,
            dice: Dice::from_env(),
            beat,
            again: vec![Instant::now(); INSTANCES],
            places: BTreeMap::new(),
            judge: Judge::default(),
            platform: Shape::default(),
            strict: None,
            strict_first: true,
            done: BTreeMap::new(),
        };
        storm.apply_platform().await;
        let sentinel = json!({ "namespaceSelector": { "matchLabels": { PLACE: SENTINEL } } });
        apply_baseline(&storm.world, SENTINEL, &sentinel).await;
        storm
    }

    fn count(&mut self, what: &'static str) {
        *self.done.entry(what).or_default() += 1;
    }

    // Instances.

    fn start(&mut self, at: usize) {
        let user = World::unique("instance");
        let plane = self.world.plane();
        let kubeconfig = plane.user_kubeconfig(&user, &[GROUP]).unwrap();
        let duration = format!("--lease-duration={}s", LEASE.as_secs());
        let operator = Operator::start(plane, &kubeconfig, &[&duration], &[("POD_NAME", &user)]).unwrap();
        let (codes, pauses) = (Vec::new(), Vec::new());
        self.running[at] = Some(Process { user, operator, codes, told: Instant::now(), paused: None, pauses });
        self.count("starts");
    }

    /// Checks the instances. Resumes or starts those whose time has come.
    fn attend(&mut self) {
        for at in 0..INSTANCES {
            let Some(process) = &mut self.running[at] else {
                if Instant::now() >= self.again[at] {
                    self.start(at);
                }
                continue;
            };
            if process.paused.as_ref().is_some_and(|(.., until)| Instant::now() >= *until) {
                process.resume();
            }
            let Some(code) = process.operator.wait_exit(Duration::ZERO).unwrap() else {
                let late = process.paused.is_none() && !process.codes.is_empty() && process.told.elapsed() > END;
                assert!(!late, "{} has not ended: {}", process.user, process.operator.log_tail(40));
                continue;
            };
            let log = || process.operator.log_tail(40);
            assert!(process.codes.contains(&code), "{} ended with {code}, not {:?}:\n{}", process.user, process.codes, log());
            process.resume();
            self.again[at] = Instant::now() + self.dice.millis(0, 1500);
            self.ended.extend(self.running[at].take());
        }
    }

    fn signal(&mut self) {
        // Prefers the leader.
        let leads = |process: &Process| {
            let log = process.operator.log();
            log.matches("this instance leads\n").count() > log.matches("this instance no longer leads").count()
        };
        let leader = self.running.iter().position(|process| process.as_ref().is_some_and(leads));
        let any = self.dice.below(INSTANCES);
        let at = if self.dice.below(3) > 0 { leader.unwrap_or(any) } else { any };
        let how = self.dice.below(13);
        // Half of the stops are long enough for another instance to take over.
        let stop = if self.dice.below(2) == 0 { self.dice.millis(50, 2500) } else { self.dice.millis(3500, 6000) };
        let Some(process) = self.running[at].as_mut().filter(|process| process.codes.is_empty()) else { return };
        let what = match how {
            0 => {
                process.tell(&[Signal::TERM], &[0]);
                "SIGTERM"
            }
            1 => {
                process.tell(&[Signal::INT], &[0]);
                "SIGINT"
            }
            2 => {
                process.tell(&[Signal::TERM, Signal::TERM], &[0, 143]);
                "SIGTERM twice"
            }
            3 => {
                process.tell(&[Signal::TERM, Signal::INT], &[0, 143, 130]);
                "SIGTERM and SIGINT"
            }
            4 if !ignores(Signal::HUP) => {
                process.tell(&[Signal::HUP], &[129]);
                "SIGHUP"
            }
            5 if !ignores(Signal::QUIT) => {
                process.tell(&[Signal::QUIT], &[131]);
                "SIGQUIT"
            }
            4..=7 => {
                process.tell(&[Signal::KILL], &[137]);
                "SIGKILL"
            }
            _ if process.paused.is_some() => return,
            _ => {
                process.paused = Some((pause(process.operator.pid()).unwrap(), Timestamp::now(), Instant::now() + stop));
                "SIGSTOP"
            }
        };
        self.count(what);
    }

    // What others do.

    async fn apply_platform(&self) {
        let selector = json!({ "matchExpressions": [
            { "key": TEST_LABEL, "operator": "Exists" }, { "key": PLACE, "operator": "NotIn", "values": ["out", SENTINEL] },
        ] });
        apply_baseline(&self.world, PLATFORM, &self.platform.spec(&selector, 0)).await;
    }

    async fn edit_a_baseline(&mut self) {
        let shape = Shape { more_dns: self.dice.below(2) == 0, owner: self.dice.below(3) };
        if self.dice.below(2) == 0 {
            self.platform = shape;
            self.apply_platform().await;
        } else {
            self.strict = Some(shape);
            self.strict_first = self.dice.below(3) > 0;
            let selector = json!({ "matchLabels": { PLACE: "strict" } });
            let priority = if self.strict_first { 10 } else { -10 };
            apply_baseline(&self.world, STRICT, &shape.spec(&selector, priority)).await;
        }
        self.count("baselines edited");
    }

    /// Creates a namespace of that name, unless one still exists.
    async fn make(&mut self, name: &str) {
        if namespaces(&self.world).get_opt(name).await.unwrap().is_some() {
            return;
        }
        let place = self.dice.pick(&[Place::Platform, Place::Platform, Place::Strict, Place::Out]);
        self.judge.makes(name);
        let labels: Vec<_> = place.label().map(|label| (PLACE, label)).into_iter().collect();
        if place == Place::Out {
            self.judge.leaves(name);
        }
        self.world.namespace_named(name, &labels).await.unwrap();
        self.places.insert(name.to_owned(), place);
        self.count("namespaces made");
    }

    async fn remove(&mut self, name: &str) {
        namespaces(&self.world).delete(name, &DeleteParams::default()).await.unwrap();
        self.places.remove(name);
        self.judge.deleted(name);
        self.count("namespaces deleted");
    }

    async fn relabel(&mut self, name: &str) {
        let to = self.dice.pick(&[Place::Platform, Place::Strict, Place::Out]);
        let from = self.places.insert(name.to_owned(), to).unwrap();
        if to == Place::Out && from != Place::Out {
            self.judge.leaves(name);
        }
        let patch = Patch::Merge(json!({ "metadata": { "labels": { PLACE: to.label() } } }));
        namespaces(&self.world).patch(name, &PatchParams::default(), &patch).await.unwrap();
        if to != Place::Out {
            self.judge.returned(name);
        }
        self.count("namespaces moved");
    }

    async fn edit_a_policy(&mut self, name: &str) {
        let policy = self.dice.pick(&POLICIES);
        let how = self.dice.below(6);
        let patch = match how {
            0 => json!({ "spec": { "ingress": [{}], "egress": [{}], "policyTypes": ["Ingress", "Egress"] } }),
            1 => json!({ "spec": { "podSelector": { "matchLabels": { "app": "none" } } } }),
            2 => json!({ "metadata": { "labels": null } }),
            3 => json!({ "metadata": { "labels": null, "annotations": null }, "spec": { "ingress": [{}] } }),
            4 => json!({ "metadata": { "labels": { "policybaseline.io/id": "x" } } }),
            _ => json!({ "metadata": { "labels": { "policybaseline.io/baseline": "nobody" } } }),
        };
        let edited = policies_of(&self.world.admin(), name).patch(policy, &PatchParams::default(), &Patch::Merge(patch)).await;
        // The policy may not exist yet.
        let Ok(edited) = edited else { return };
        if how > 1 {
            self.judge.space(name).disguised.insert(policy.to_owned());
        }
        // In a namespace that has left, a policy may be deleted and created again.
        if self.places[name] != Place::Out {
            self.judge.edited(name, policy, &edited.uid().unwrap());
        }
        self.count("policies edited");
    }

    async fn delete_policies(&mut self, name: &str) {
        let all = self.dice.below(4) == 0;
        let one = self.dice.pick(&POLICIES);
        for policy in POLICIES.into_iter().filter(|policy| all || *policy == one) {
            let _ = policies_of(&self.world.admin(), name).delete(policy, &DeleteParams::default()).await;
            self.judge.space(name).edited.remove(policy);
        }
        self.count("policies deleted");
    }

    /// Creates a tenant's own policy, or a copy of one of ours.
    async fn own_policy(&mut self, name: &str) {
        let policies = policies_of(&self.world.admin(), name);
        let own = json!({ "metadata": {}, "spec": { "podSelector": {}, "ingress": [{}] } });
        let mut policy: NetworkPolicy = serde_json::from_value(own).unwrap();
        if self.dice.below(2) == 0
            && let Some(copied) = policies.get_opt(DENY_INGRESS).await.unwrap()
        {
            policy = copied;
            policy.metadata.uid = None;
            policy.metadata.resource_version = None;
            policy.metadata.creation_timestamp = None;
        }
        policy.metadata.name = Some(World::unique("own"));
        policy.metadata.namespace = Some(name.to_owned());
        let made = policies.create(&PostParams::default(), &policy).await.unwrap();
        self.judge.space(name).theirs.insert(made.name_any(), made.resource_version().unwrap());
        self.count("policies of tenants");
    }

    async fn act(&mut self) {
        let all: Vec<String> = (0..NAMES).map(|n| format!("storm-{n}")).collect();
        let name = &all[self.dice.below(NAMES)];
        let lives = self.places.contains_key(name);
        match self.dice.below(100) {
            ..6 => self.signal(),
            6..12 => self.edit_a_baseline().await,
            _ if !lives => self.make(name).await,
            12..15 => self.remove(name).await,
            15..22 => self.relabel(name).await,
            22..60 => self.edit_a_policy(name).await,
            60..90 => self.delete_policies(name).await,
            _ => self.own_policy(name).await,
        }
        self.attend();
        // Mostly continues at once, but sometimes waits until everything is at rest.
        let beats = if self.dice.below(20) == 0 { self.dice.below(60) } else { self.dice.below(6) };
        for _ in 0..beats {
            self.beat.tick().await;
            self.attend();
        }
    }

    /// Waits until all instances run. Nothing changes any more.
    async fn calm(&mut self) {
        for process in self.running.iter_mut().flatten() {
            process.resume();
        }
        while self.running.iter().any(|process| process.as_ref().is_none_or(|process| !process.codes.is_empty())) {
            self.beat.tick().await;
            self.attend();
        }
        let processes = || self.running.iter().flatten();
        for process in processes() {
            let works = async || process.operator.log().contains("work begins");
            self.world.eventually("each has listed everything", TIMEOUT, works).await.unwrap();
        }
    }

    // Checks.

    fn owner_of(&self, place: Place) -> Option<Plan> {
        match (place, self.strict) {
            (Place::Out, _) => None,
            (Place::Strict, Some(strict)) if self.strict_first => Some(strict.plan(STRICT)),
            _ => Some(self.platform.plan(PLATFORM)),
        }
    }

    async fn check_what_is_stored(&self, client: &Client) {
        self.judge.check_what_is_stored(&self.world, client, |name| self.owner_of(self.places[name])).await;
    }

    fn processes(&self) -> impl Iterator<Item = &Process> {
        self.running.iter().flatten().chain(&self.ended)
    }

    /// The writes of the instances since `since`.
    fn writes(&self, since: AuditMark) -> Vec<Written> {
        let users: BTreeSet<&str> = self.processes().map(|process| process.user.as_str()).collect();
        writes_of(&self.world, since, |entry| users.contains(entry.user.as_str()).then(|| entry.user.clone()))
    }

    /// Whether the write comes from a process that has just resumed after a SIGSTOP.
    fn is_excused(&self, sent: &Sent) -> bool {
        let by = self.processes().find(|process| process.user == sent.by);
        by.is_some_and(|process| process.has_just_resumed(sent.at))
    }

    fn check_terms(&self, writes: &[Written]) {
        let sent = writes.iter().map(Written::sent);
        let Terms { writes: count, number: terms, late } = check_terms(sent, TERM, |sent| self.is_excused(sent));
        let told: Vec<_> = late.iter().map(|sent| sent.what).collect();
        println!("{count} writes in {terms} terms; late, of processes that had been stopped: {told:#?}");
        assert!(count > 0 && terms > 1, "nothing was tried: {count} writes in {terms} terms");
        // This happens only if SIGSTOP comes between the check of the Lease and the sending: about once in some hundred stops. A broken
        // check would show more often.
        let users: BTreeSet<&str> = late.iter().map(|sent| sent.by).collect();
        assert!(users.len() <= 2, "I6: too many processes wrote without the lease when they went on: {told:#?}");
        for process in self.processes().filter(|process| process.operator.log().contains("the Lease is released")) {
            let last = writes.iter().rev().find(|written| written.by == process.user);
            let last = last.map(|written| written.entry.resource.as_str());
            assert_eq!(last, Some("leases"), "I6: {} wrote after it had released the lease", process.user);
        }
    }

    /// Checks the logs: no errors, no panics, and no complaint about something that is not a failure.
    fn check_logs(&self) {
        let mut failed = Vec::new();
        for process in self.processes() {
            let log = process.operator.log();
            assert!(!log.contains(" ERROR ") && !log.contains("panicked"), "{log}");
            failed.extend(log.lines().filter(|line| line.contains("write failed")).map(str::to_owned));
        }
        println!("{} failed writes were told: {failed:#?}", failed.len());
        check_failures(failed.iter().map(String::as_str));
    }

    async fn check_rest(&self) {
        let here = |name: &str| {
            let owned = |place: &&Place| self.owner_of(**place).is_some_and(|plan| plan.is_of(name));
            u32::try_from(self.places.values().filter(owned).count()).unwrap()
        };
        let mut protected = vec![(PLATFORM, here(PLATFORM))];
        if self.strict.is_some() {
            protected.push((STRICT, here(STRICT)));
        }
        let sentinel = Sentinel { baseline: SENTINEL, label: (PLACE, SENTINEL), plan: Plan::of(SENTINEL) };
        check_rest(&self.world, &protected, &sentinel, |mark| self.writes(mark)).await;
    }
}

#[tokio::test]
async fn an_operator_that_gets_every_signal_at_random_moments_leaves_i1_to_i6_intact() {
    if skipped_without_audit_log() {
        return;
    }
    let seconds = env::var("E2E_SIGNALS_SECONDS").ok().map(|text| text.parse().expect("E2E_SIGNALS_SECONDS is a number"));
    let until = Duration::from_secs(seconds.unwrap_or(120));
    let mut storm = Storm::new().await;
    let begun = Instant::now();
    while begun.elapsed() < until {
        storm.act().await;
    }
    storm.calm().await;
    println!("{:#?}", storm.done);
    let client = client_of(storm.world.plane().admin_kubeconfig()).await;
    storm.check_what_is_stored(&client).await;
    storm.check_rest().await;
    let writes = storm.writes(storm.mark);
    storm.check_terms(&writes);
    let removals = storm.judge.check_removals(&writes, |written| storm.is_excused(&written.sent()));
    println!("{removals} removals by the operator");
    storm.check_logs();
}

#[tokio::test]
async fn a_signal_that_comes_while_the_operator_starts_ends_it_in_order() {
    let world = World::new().await.unwrap();
    let kubeconfig = std::fs::read(world.operator_kubeconfig().await.unwrap()).unwrap();
    // The reader of the pipe waits for the content. The writer waits in `open` until somebody reads.
    let pipe = world.plane().state_dir().join("slow.kubeconfig");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
    assert!(made.success());
    for signal in [Signal::TERM, Signal::INT] {
        let mut operator = Operator::start(world.plane(), &pipe, &[], &[]).unwrap();
        let path = pipe.clone();
        let (open, opened) = tokio::sync::oneshot::channel();
        std::thread::spawn(move || open.send(File::options().write(true).open(path)));
        let mut opened = tokio::time::timeout(TIMEOUT, opened).await.expect("nobody reads the kubeconfig").unwrap().unwrap();
        operator.signal(signal).unwrap();
        // The signal may have ended it already.
        let _ = opened.write_all(&kubeconfig);
        drop(opened);
        assert_eq!(operator.wait_exit(TIMEOUT).unwrap(), Some(0), "{}", operator.log());
    }
}
