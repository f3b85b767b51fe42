//! Shared by the fault suites: a play with the operator behind the proxy. Its steps cover everything that the operator writes, and the
//! judge checks after each step.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use kube::ResourceExt;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use policy_baseline::PolicyBaselineStatus;
use policy_baseline_e2e::proxy::Asked;
use policy_baseline_e2e::{AuditMark, Proxy, TIMEOUT, World};
use serde_json::json;

use crate::election::{LEASE, leases};
use crate::judge::{Judge, Sent, Sentinel, Written, check_rest, check_terms, writes_of};
use crate::scene::{
    CARVEOUT, DENY_EGRESS, DENY_INGRESS, Plan, apply_baseline, client_of, condition, delete_baseline, merge, policies_of,
    until_ready, until_status,
};
use crate::support::{a_second_later, label, until_no_baseline};

pub const PLATFORM: &str = "platform";
const SENTINEL: &str = "sentinel";

/// A baseline, and an operator that is not started yet and whose requests will go through a proxy. `None` on an external cluster.
pub async fn behind_a_proxy() -> Option<(World, Proxy)> {
    let mut world = World::new().await.unwrap();
    if world.plane().is_external() {
        return None;
    }
    let proxy = Proxy::start(world.plane()).unwrap();
    world.send_operator_by(&proxy).await.unwrap();
    apply_baseline(&world, PLATFORM, &json!({})).await;
    // So that the namespaces of the test are newer.
    a_second_later(&world).await;
    Some((world, proxy))
}

/// The label that selects a namespace's baseline.
pub const PLACE: &str = "e2e.policybaseline.io/place";
const OWNER: &str = "example.com/owner";
/// So short that another instance soon follows one that was killed.
pub const DURATION: &str = "--lease-duration=3s";
/// After two thirds of the lease duration nothing may be sent. A request that was sent at the last moment reaches the proxy a little
/// later.
pub const TERM: Duration = Duration::from_millis(2000 + 250);

/// Everything that the operator writes, in the order of a baseline's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// A baseline with a finalizer is created, and namespaces that it selects.
    Bootstrap,
    /// A policy is deleted, one is opened, one loses its labels.
    Repair,
    /// The spec of the baseline changes, so other policies are planned.
    Edit,
    /// The same changes as in a repair, while no operator runs.
    Restart,
    /// A namespace leaves the baseline.
    Release,
    /// The baseline is deleted, and the operator deletes its policies.
    Delete,
}

impl Step {
    pub const ALL: [Self; 6] = [Self::Bootstrap, Self::Repair, Self::Edit, Self::Restart, Self::Release, Self::Delete];
}

pub struct Play {
    // Dropped first, together with its operator.
    pub world: World,
    pub proxy: Proxy,
    pub judge: Judge,
    /// The judge's own client, directly to the API server.
    client: Client,
    mark: AuditMark,
    starts: u32,
    /// The namespaces of the current act.
    cast: Vec<String>,
    /// Those that have left the baseline.
    out: BTreeSet<String>,
    lives: bool,
    edited: bool,
    /// Periods in which the operator could not know what had happened to a namespace.
    pub blind: Vec<(Timestamp, Timestamp)>,
    /// The longest time until the cluster converged. `runs` is the number of runs.
    pub worst: Duration,
    pub runs: u32,
}

impl Play {
    pub async fn new() -> Self {
        Self::begin(|_| ()).await
    }

    /// Starts the play in front of an API server without streaming lists.
    pub async fn without_streams() -> Self {
        Self::begin(Proxy::know_no_streams).await
    }

    async fn begin(set_up: impl FnOnce(&Proxy)) -> Self {
        let mut world = World::new().await.unwrap();
        let proxy = Proxy::start(world.plane()).unwrap();
        set_up(&proxy);
        world.send_operator_by(&proxy).await.unwrap();
        let client = client_of(world.plane().admin_kubeconfig()).await;
        let mark = world.audit().unwrap().mark();
        let selector = json!({ "namespaceSelector": { "matchLabels": { PLACE: SENTINEL } } });
        apply_baseline(&world, SENTINEL, &selector).await;
        let mut play = Self {
            world,
            proxy,
            judge: Judge::default(),
            client,
            mark,
            starts: 0,
            cast: Vec::new(),
            out: BTreeSet::new(),
            lives: false,
            edited: false,
            blind: Vec::new(),
            worst: Duration::ZERO,
            runs: 0,
        };
        play.start().await;
        play.until_at_work().await;
        until_ready(&play.world, SENTINEL).await;
        play
    }

    // The operator.

    pub async fn start(&mut self) {
        self.starts += 1;
        self.proxy.call(&format!("instance-{}", self.starts));
        self.world.start_operator_with(&[DURATION]).await.unwrap();
    }

    pub async fn until_at_work(&self) {
        let operator = self.world.operator().unwrap();
        let listed = async || operator.log().contains("work begins");
        self.world.eventually("everything is listed", TIMEOUT, listed).await.unwrap();
        self.until_leads().await;
    }

    pub async fn until_leads(&self) {
        let count = |text: &str| self.world.operator().unwrap().log().matches(text).count();
        let leads = async || count("this instance leads\n") > count("this instance no longer leads");
        self.world.eventually("the operator leads", TIMEOUT, leads).await.unwrap();
    }

    /// Sends SIGKILL, and then releases the Lease on its behalf, so that the next instance need not wait.
    pub async fn kill(&mut self) {
        self.world.kill_operator().unwrap();
        self.check_log();
        let released = Patch::Merge(json!({ "spec": { "holderIdentity": "" } }));
        match leases(&self.world).patch(LEASE, &PatchParams::default(), &released).await {
            Err(kube::Error::Api(status)) if status.is_not_found() => {}
            answer => drop(answer.unwrap()),
        }
    }

    fn check_log(&self) {
        let log = self.world.operator().unwrap().log();
        assert!(!log.contains(" ERROR ") && !log.contains("panicked"), "{log}");
    }

    // The steps.

    /// Begins another act. Nothing of the last act is left, except its namespaces.
    pub async fn next_act(&mut self, namespaces: usize) {
        for name in self.judge.spaces.keys() {
            label(&self.world, name, PLACE, None).await;
        }
        self.judge.spaces.clear();
        self.cast = (0..namespaces).map(|_| World::unique("play")).collect();
        self.out.clear();
        (self.lives, self.edited) = (false, false);
    }

    pub fn cast(&self) -> &[String] {
        &self.cast
    }

    /// What happens before a step and does not count as part of it.
    pub async fn prepare(&mut self, step: Step) {
        if step == Step::Restart {
            self.kill().await;
            self.tamper().await;
        }
    }

    /// What other users do in this step. Does not wait.
    pub async fn act(&mut self, step: Step) {
        match step {
            Step::Bootstrap => {
                self.lives = true;
                self.apply_platform().await;
                for name in self.cast.clone() {
                    self.make(&name).await;
                }
            }
            Step::Repair => self.tamper().await,
            Step::Edit => {
                self.edited = true;
                self.apply_platform().await;
            }
            Step::Restart => self.start().await,
            Step::Release => {
                let name = self.cast[0].clone();
                self.leave(&name).await;
            }
            Step::Delete => {
                let staying = |name: &&String| !self.out.contains(*name) && self.judge.spaces.contains_key(*name);
                for name in self.cast.iter().filter(staying).cloned().collect::<Vec<_>>() {
                    self.judge.leaves(&name);
                }
                self.lives = false;
                delete_baseline(&self.world, PLATFORM).await;
            }
        }
    }

    async fn apply_platform(&self) {
        let ports = if self.edited { json!([5353]) } else { json!([]) };
        let labels = if self.edited { json!({ OWNER: "a" }) } else { json!({}) };
        let spec = json!({
            "namespaceSelector": { "matchLabels": { PLACE: PLATFORM } }, "existingNamespaces": "Enforce",
            "deletionPolicy": "Delete", "dns": { "ports": ports }, "metadata": { "labels": labels },
        });
        apply_baseline(&self.world, PLATFORM, &spec).await;
    }

    pub async fn leave(&mut self, name: &str) {
        self.judge.leaves(name);
        label(&self.world, name, PLACE, Some("out")).await;
        self.out.insert(name.to_owned());
    }

    pub async fn make(&mut self, name: &str) {
        self.judge.makes(name);
        self.world.namespace_named(name, &[(PLACE, PLATFORM)]).await.unwrap();
        // A policy for all pods would be reported as a bypass, but an instance that begins to lead later would not report it.
        let web = json!({ "podSelector": { "matchLabels": { "app": "web" } }, "ingress": [{}] });
        let own = json!({ "metadata": { "name": World::unique("own") }, "spec": web });
        let own: NetworkPolicy = serde_json::from_value(own).unwrap();
        let made = policies_of(&self.client, name).create(&PostParams::default(), &own).await.unwrap();
        self.judge.space(name).theirs.insert(made.name_any(), made.resource_version().unwrap());
    }

    /// Makes drift of three classes, in two namespaces.
    async fn tamper(&mut self) {
        let (first, last) = (self.cast[0].clone(), self.cast[self.cast.len() - 1].clone());
        let at_first = policies_of(&self.client, &first);
        at_first.delete(DENY_EGRESS, &DeleteParams::default()).await.unwrap();
        let hole = json!({ "spec": { "ingress": [{}], "egress": [{}], "policyTypes": ["Ingress", "Egress"] } });
        let opened = merge(&at_first, DENY_INGRESS, "tenant", &hole).await;
        self.judge.edited(&first, DENY_INGRESS, &opened.uid().unwrap());
        let stripped = json!({ "metadata": { "labels": null, "annotations": null } });
        let stripped = merge(&policies_of(&self.client, &last), CARVEOUT, "tenant", &stripped).await;
        self.judge.edited(&last, CARVEOUT, &stripped.uid().unwrap());
    }

    // The judge.

    fn plan(&self, name: &str) -> Option<Plan> {
        let plan = Plan::of(PLATFORM);
        let plan = if self.edited { plan.dns_port(5353).label(OWNER, "a") } else { plan };
        (self.lives && !self.out.contains(name)).then_some(plan)
    }

    pub fn protected(&self) -> u32 {
        u32::try_from(self.judge.spaces.keys().filter(|name| self.plan(name).is_some()).count()).unwrap()
    }

    /// Returns when the cluster is as planned and the status says so.
    pub async fn settle(&self) {
        self.judge.check_what_is_stored(&self.world, &self.client, |name| self.plan(name)).await;
        if !self.lives {
            until_no_baseline(&self.world, PLATFORM).await;
            return;
        }
        let count = self.protected();
        let settled = |status: &PolicyBaselineStatus| {
            let counts = &status.namespaces;
            let all = counts.protected == count && counts.selected == count && counts.failed == 0;
            all && condition(status, "Ready").status == "True"
        };
        until_status(&self.world, PLATFORM, &format!("{count} are protected"), settled).await;
    }

    /// The same, and records how long it took.
    pub async fn converge(&mut self) {
        let begun = Instant::now();
        self.settle().await;
        self.converged(begun);
    }

    pub fn converged(&mut self, since: Instant) {
        self.worst = self.worst.max(since.elapsed());
        self.runs += 1;
    }

    /// Performs a whole step.
    pub async fn perform(&mut self, step: Step) {
        self.prepare(step).await;
        self.act(step).await;
        self.converge().await;
    }

    /// The writes of the operator since `since`. Each of its processes has its own name.
    pub fn writes(&self, since: AuditMark) -> Vec<Written> {
        let user = World::operator_user();
        writes_of(&self.world, since, |entry| (entry.user == user).then(|| entry.user_agent.clone()))
    }

    /// Prints the number of runs since the last call, and the longest time to converge.
    pub fn tell(&mut self, fault: &str) {
        println!("| {fault} | {} runs | worst {} ms |", self.runs, self.worst.as_millis());
        (self.runs, self.worst) = (0, Duration::ZERO);
    }

    /// Checks at the end: no writes at rest (I2), and all writes since the beginning (I3 to I6). Prints a summary.
    pub async fn finish(self) {
        self.proxy.calm();
        let protected = if self.lives { vec![(PLATFORM, self.protected())] } else { vec![] };
        let sentinel = Sentinel { baseline: SENTINEL, label: (PLACE, SENTINEL), plan: Plan::of(SENTINEL) };
        check_rest(&self.world, &protected, &sentinel, |mark| self.writes(mark)).await;
        let writes = self.writes(self.mark);
        // In these periods failed writes are excused: they had no effect, because each write names exactly the object it means.
        let excused = |written: &Written| {
            let at = written.entry.timestamp;
            written.entry.code >= 400 && self.blind.iter().any(|(from, until)| (*from..=*until).contains(&at))
        };
        let removals = self.judge.check_removals(&writes, excused);
        // Uses the times at which the proxy received the writes, because they may reach the API server later.
        let exchanges = self.proxy.since(0);
        let sent = exchanges.iter().filter(|one| one.asked.is_write()).map(|one| {
            let took_effect = one.code.is_some_and(|code| code < 300);
            Sent { by: &one.by, at: one.at, lease: one.asked.is_of("leases").then_some(took_effect), what: one }
        });
        let terms = check_terms(sent, TERM, |_| false);
        self.check_log();
        let (faults, processes, writes) = (self.proxy.struck(), self.starts, terms.writes);
        println!("{faults} faults, {processes} processes, {writes} writes, {removals} removals, 0 violations");
    }
}

/// The same request with the number of the namespace in its act instead of the name. So the same request can be recognised in another
/// act.
pub fn alias(cast: &[String], asked: &Asked) -> Asked {
    let mut asked = asked.clone();
    if let Some(at) = cast.iter().position(|name| *name == asked.namespace) {
        asked.namespace = format!("#{at}");
    }
    asked
}
