//! Several instances: only the one with the Lease writes. Another one takes over when it ends, dies, hangs or loses its rights.
//!
//! Each instance is a user of its own, so the audit log shows who wrote. `judge` reads the log: no write without the Lease (I6).
//! One file: the tests share their scene.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{Api, DeleteParams, DynamicObject};
use kube::core::{ApiResource, GroupVersionKind};
use policy_baseline_e2e::{AuditEntry, AuditMark, Operator, SYSTEM_NAMESPACE, TIMEOUT, World, skipped_without_audit_log};
use rustix::process::Signal;
use serde_json::json;

use crate::judge::{Written, check_terms, writes_of};
use crate::scene::{
    DENY_EGRESS, DENY_INGRESS, Plan, apply_baseline, bind_shipped_roles, can_i, client_of, events, policies_of, until_holds,
    until_may_operate, until_ready, until_status,
};

pub const LEASE: &str = "policy-baseline";
const PLATFORM: &str = "platform";
/// A lease duration that expires while a test waits.
const SHORT: Duration = Duration::from_secs(3);
/// A lease duration that does not expire during a test. So a takeover means that the Lease was released.
const LONG: Duration = Duration::from_mins(2);

struct Instance {
    user: String,
    operator: Operator,
}

/// Instances with the shipped rights, each as a user of its own.
struct Cast {
    // Dropped first, so that no instance outlives its world.
    instances: Vec<Instance>,
    world: World,
    mark: AuditMark,
    duration: Duration,
}

impl Cast {
    /// Three instances, one of which leads, and a baseline that selects every namespace. Returns the index of the leader.
    async fn of_three(duration: Duration) -> (Self, usize) {
        let world = World::new().await.unwrap();
        apply_baseline(&world, PLATFORM, &json!({})).await;
        let mark = world.audit().unwrap().mark();
        let mut cast = Self { instances: Vec::new(), world, mark, duration };
        for _ in 0..3 {
            cast.start().await;
        }
        let leader = cast.until_another_leads(None).await;
        until_ready(&cast.world, PLATFORM).await;
        for instance in &cast.instances {
            let log = || instance.operator.log();
            cast.world.eventually("each has listed everything", TIMEOUT, async || log().contains("work begins")).await.unwrap();
        }
        (cast, leader)
    }

    async fn start(&mut self) {
        let user = World::unique("instance");
        let subject = json!({ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user });
        bind_shipped_roles(&self.world, &user, &subject).await;
        let kubeconfig = self.world.plane().user_kubeconfig(&user, &[]).unwrap();
        until_may_operate(&self.world, &client_of(&kubeconfig).await, SYSTEM_NAMESPACE).await;
        let duration = format!("--lease-duration={}s", self.duration.as_secs());
        let operator = Operator::start(self.world.plane(), &kubeconfig, &[&duration], &[("POD_NAME", &user)]).unwrap();
        self.instances.push(Instance { user, operator });
    }

    /// Waits until another instance than `than` leads, according to the Lease and to its own log.
    async fn until_another_leads(&self, than: Option<usize>) -> usize {
        self.world
            .eventually("an instance leads", TIMEOUT, async || {
                let holder = holder(&self.world).await?;
                let leader = self.instances.iter().position(|instance| holder.starts_with(&format!("{}_", instance.user)))?;
                let says_so = self.instances[leader].operator.log().contains("this instance leads");
                (says_so && Some(leader) != than).then_some(leader)
            })
            .await
            .unwrap()
    }

    /// Stops the leader's process right after a renewal, so that no renewal is under way. A renewal that has left the elector would not
    /// check the time again. It would be sent when the process continues, and be refused because of its resourceVersion.
    async fn stop_between_renewals(&self, leader: usize) {
        let operator = &self.instances[leader].operator;
        self.world
            .eventually("the leader is stopped between two renewals", TIMEOUT, async || {
                operator.signal(Signal::STOP).unwrap();
                let renewed = leases(&self.world).get(LEASE).await.unwrap().spec?.renew_time?.0;
                let is_between = Timestamp::now().duration_since(renewed) < SignedDuration::try_from(self.duration / 10).unwrap();
                if !is_between {
                    operator.signal(Signal::CONT).unwrap();
                }
                is_between.then_some(())
            })
            .await
            .unwrap();
    }

    /// Creates a namespace, and waits until it is protected.
    async fn protected(&self, prefix: &str) -> String {
        let namespace = self.world.namespace(prefix, &[]).await.unwrap();
        until_holds(&self.world, &namespace, &Plan::of(PLATFORM)).await;
        namespace
    }

    fn entries(&self, since: AuditMark) -> Vec<AuditEntry> {
        self.world.audit().unwrap().since(since).unwrap()
    }

    /// Waits until the audit log tells who has written to that namespace.
    async fn until_written(&self, namespace: &str) -> BTreeSet<String> {
        let some = async || Some(self.writers(namespace)).filter(|writers| !writers.is_empty());
        self.world.eventually("the audit log has caught up", TIMEOUT, some).await.unwrap()
    }

    /// The users who have written to that namespace.
    fn writers(&self, namespace: &str) -> BTreeSet<String> {
        let entries = self.entries(self.mark);
        let writes = entries.iter().filter(|entry| entry.is_write() && entry.namespace == namespace);
        writes.filter(|write| self.instances.iter().any(|i| i.user == write.user)).map(|write| write.user.clone()).collect()
    }

    /// Checks every write: its user renewed the Lease at most one renew deadline before, and nobody else has taken it since.
    fn judge(&self) {
        // The access reviews are the test's own; it uses them to wait for the rights of an instance.
        let by = |entry: &AuditEntry| {
            let ours = self.instances.iter().any(|i| i.user == entry.user) && entry.resource != "selfsubjectaccessreviews";
            ours.then(|| entry.user.clone())
        };
        let writes = writes_of(&self.world, self.mark, by);
        let terms = check_terms(writes.iter().map(Written::sent), self.duration * 2 / 3, |_| false);
        assert!(terms.writes > 0, "nobody wrote anything");
    }
}

pub fn leases(world: &World) -> Api<Lease> {
    Api::namespaced(world.admin(), SYSTEM_NAMESPACE)
}

/// The holder of the Lease. Empty if the Lease was released.
pub async fn holder(world: &World) -> Option<String> {
    leases(world).get_opt(LEASE).await.unwrap()?.spec?.holder_identity
}

fn since(start: Instant, what: &str) {
    println!("{what}: {} ms", start.elapsed().as_millis());
}

#[tokio::test]
async fn i6_of_three_instances_one_writes_and_the_next_one_when_it_ends() {
    if skipped_without_audit_log() {
        return;
    }
    let (mut cast, mut leader) = Cast::of_three(LONG).await;
    for left in [2, 1] {
        for _ in 0..5 {
            let namespace = cast.protected("team").await;
            assert_eq!(cast.until_written(&namespace).await, BTreeSet::from([cast.instances[leader].user.clone()]));
        }
        let start = Instant::now();
        assert_eq!(cast.instances[leader].operator.stop().unwrap(), 0);
        since(start, "end after SIGTERM");
        leader = cast.until_another_leads(Some(leader)).await;
        since(start, "another leads after SIGTERM");
        cast.protected("next").await;
        since(start, "a new namespace is protected after SIGTERM");
        println!("{left} instances are left");
    }
    cast.judge();
    let status = until_ready(&cast.world, PLATFORM).await;
    assert_eq!(status.recent_drift, []);

    // No instance is left, so the Lease is free.
    assert_eq!(cast.instances[leader].operator.stop().unwrap(), 0);
    assert_eq!(holder(&cast.world).await.as_deref(), Some(""));
    let lease = leases(&cast.world).get(LEASE).await.unwrap().spec.unwrap();
    assert_eq!(lease.lease_transitions, Some(2));
}

#[tokio::test]
async fn i6_a_leader_that_is_killed_is_followed_when_its_lease_has_expired() {
    if skipped_without_audit_log() {
        return;
    }
    let (mut cast, leader) = Cast::of_three(SHORT).await;
    let before = cast.protected("before").await;
    let start = Instant::now();
    cast.instances[leader].operator.kill().unwrap();
    let orphan = cast.world.namespace("orphan", &[]).await.unwrap();
    policies_of(&cast.world.admin(), &before).delete(DENY_EGRESS, &DeleteParams::default()).await.unwrap();
    let next = cast.until_another_leads(Some(leader)).await;
    since(start, "another leads after SIGKILL, with a lease of 3 s");
    until_holds(&cast.world, &orphan, &Plan::of(PLATFORM)).await;
    until_holds(&cast.world, &before, &Plan::of(PLATFORM)).await;
    assert_eq!(cast.until_written(&orphan).await, BTreeSet::from([cast.instances[next].user.clone()]));
    let status = until_status(&cast.world, PLATFORM, "a drift", |status| !status.recent_drift.is_empty()).await;
    let told: Vec<_> = status.recent_drift.iter().map(|d| (d.namespace.as_str(), d.policy.as_str())).collect();
    assert_eq!(told, [(before.as_str(), DENY_EGRESS)]);
    cast.judge();
}

#[tokio::test]
async fn i6_a_leader_that_was_stopped_writes_nothing_when_it_goes_on() {
    if skipped_without_audit_log() {
        return;
    }
    let (cast, mut leader) = Cast::of_three(SHORT).await;
    let before = cast.protected("before").await;
    for _ in 0..3 {
        let old = &cast.instances[leader];
        let knew = old.operator.log().matches("another instance leads").count();
        cast.stop_between_renewals(leader).await;
        let mark = cast.world.audit().unwrap().mark();
        // Changes that the process finds when it continues, in the order in which they happen: first namespaces without policies, then
        // those policies written by another instance.
        let mut missed = Vec::new();
        for _ in 0..30 {
            missed.push(cast.world.namespace("missed", &[]).await.unwrap());
        }
        policies_of(&cast.world.admin(), &before).delete(DENY_INGRESS, &DeleteParams::default()).await.unwrap();
        leader = cast.until_another_leads(Some(leader)).await;
        for namespace in missed.iter().chain([&before]) {
            until_holds(&cast.world, namespace, &Plan::of(PLATFORM)).await;
        }
        old.operator.signal(Signal::CONT).unwrap();
        let knows = async || old.operator.log().matches("another instance leads").count() > knew;
        cast.world.eventually("the former leader has seen the new one", TIMEOUT, knows).await.unwrap();
        cast.protected("after").await;
        let written: Vec<_> = cast.entries(mark).into_iter().filter(|e| e.user == old.user && e.is_write()).collect();
        assert_eq!(written, [], "not even the lease");
        assert!(old.operator.log().contains("this instance no longer leads"));
    }
    cast.judge();
}

#[tokio::test]
async fn i6_a_leader_that_loses_its_right_to_the_lease_stops_before_another_starts() {
    if skipped_without_audit_log() {
        return;
    }
    let (cast, leader) = Cast::of_three(SHORT).await;
    let kind = GroupVersionKind::gvk("rbac.authorization.k8s.io", "v1", "RoleBinding");
    let bindings: Api<DynamicObject> = Api::namespaced_with(cast.world.admin(), SYSTEM_NAMESPACE, &ApiResource::from_gvk(&kind));
    bindings.delete(&cast.instances[leader].user, &DeleteParams::default()).await.unwrap();
    // There must be work all the time.
    let mut namespaces = Vec::new();
    let old = &cast.instances[leader];
    while !old.operator.log().contains("this instance no longer leads") {
        namespaces.push(cast.protected_or_left(old).await);
    }
    cast.until_another_leads(Some(leader)).await;
    for namespace in &namespaces {
        until_holds(&cast.world, namespace, &Plan::of(PLATFORM)).await;
    }
    cast.judge();
    let log = old.operator.log();
    assert_eq!(log.matches("access is forbidden").count(), 1, "{log}");
    println!("{} namespaces were made meanwhile", namespaces.len());
}

impl Cast {
    /// Creates a namespace. Waits until it is protected, or until that instance no longer leads.
    async fn protected_or_left(&self, leader: &Instance) -> String {
        let namespace = self.world.namespace("busy", &[]).await.unwrap();
        self.world
            .eventually("protected, or nobody leads", TIMEOUT, async || {
                let policies = self.world.policies(&namespace).await?.len();
                anyhow::Ok(policies == 3 || leader.operator.log().contains("this instance no longer leads"))
            })
            .await
            .unwrap();
        namespace
    }
}

#[tokio::test]
async fn a_drift_made_right_at_a_takeover_is_repaired_by_the_new_leader_once() {
    if skipped_without_audit_log() {
        return;
    }
    let (mut cast, mut leader) = Cast::of_three(LONG).await;
    let ns = cast.protected("team").await;
    until_status(&cast.world, PLATFORM, "it is protected", |status| status.namespaces.pending == 0).await;
    let policies = policies_of(&cast.world.admin(), &ns);
    let mut told = Vec::new();
    for policy in [DENY_INGRESS, DENY_EGRESS] {
        let mark = cast.world.audit().unwrap().mark();
        assert_eq!(cast.instances[leader].operator.stop().unwrap(), 0);
        policies.delete(policy, &DeleteParams::default()).await.unwrap();
        until_holds(&cast.world, &ns, &Plan::of(PLATFORM)).await;
        leader = cast.until_another_leads(Some(leader)).await;
        told.insert(0, policy);
        let is_told = async || events(&cast.world.admin(), &ns).await.len() == told.len();
        cast.world.eventually("each repair is told", TIMEOUT, is_told).await.unwrap();
        // The drift that the former leader reported is still in the status.
        let status = until_status(&cast.world, PLATFORM, "each drift", |status| status.recent_drift.len() == told.len()).await;
        let recent: Vec<_> = status.recent_drift.iter().map(|drift| drift.policy.as_str()).collect();
        assert_eq!(recent, told);
        cast.protected("fence").await;
        let entries = cast.entries(mark);
        let writes = entries.iter().filter(|e| e.is_write() && e.namespace == ns && e.resource == "networkpolicies");
        let writes: Vec<_> = writes.filter(|e| e.user != "admin").map(|e| (e.user.as_str(), e.name.as_str(), e.code)).collect();
        assert_eq!(writes, [(cast.instances[leader].user.as_str(), policy, 201)]);
    }
    cast.judge();
}

#[tokio::test]
async fn sigterm_during_writes_lets_them_end_and_releases_the_lease() {
    let mut world = World::new().await.unwrap();
    let mut all = Vec::new();
    for _ in 0..100 {
        all.push(world.namespace("busy", &[]).await.unwrap());
    }
    apply_baseline(&world, PLATFORM, &json!({ "existingNamespaces": "Enforce" })).await;
    world.start_operator_with(&["--lease-duration=120s"]).await.unwrap();
    let operator = world.operator().unwrap();
    world.eventually("it writes", TIMEOUT, async || operator.log().contains("policies created")).await.unwrap();
    let start = Instant::now();
    assert_eq!(world.stop_operator().unwrap(), 0);
    since(start, "end after SIGTERM while it writes");
    let mut counts = BTreeSet::new();
    for namespace in &all {
        counts.insert(world.policies(namespace).await.unwrap().len());
    }
    assert!(counts.is_subset(&BTreeSet::from([0, 3])), "a namespace was left half done: {counts:?}");
    println!("{counts:?} policies in a namespace");
    assert_eq!(holder(&world).await.as_deref(), Some(""));

    // The Lease was released, so the next instance starts work at once.
    world.restart_operator().await.unwrap();
    for namespace in &all {
        until_holds(&world, namespace, &Plan::of(PLATFORM)).await;
    }
}

/// An admission webhook that is called for every policy and never answers.
async fn silence(world: &World) -> TcpListener {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://127.0.0.1:{}/", listener.local_addr().unwrap().port());
    let webhook = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
        "metadata": { "name": "silent" },
        "webhooks": [{
            "name": "silent.e2e.policybaseline.io", "clientConfig": { "url": url }, "timeoutSeconds": 30, "failurePolicy": "Fail",
            "sideEffects": "None", "admissionReviewVersions": ["v1"],
            "rules": [{ "apiGroups": ["networking.k8s.io"], "apiVersions": ["v1"], "operations": ["*"], "resources": ["networkpolicies"] }],
        }],
    });
    world.apply_yaml(&webhook.to_string()).await.unwrap();
    listener
}

#[tokio::test]
async fn writes_that_hang_delay_the_end_only_so_long_and_a_second_signal_not_at_all() {
    let mut world = World::new().await.unwrap();
    let listener = silence(&world).await;
    apply_baseline(&world, PLATFORM, &json!({})).await;
    listener.set_nonblocking(true).unwrap();
    for signals in [1, 2] {
        // The lease duration is long enough that the API server waits longer for the webhook than the operator waits for its writes.
        world.start_operator_with(&["--lease-duration=12s"]).await.unwrap();
        world
            .eventually("it leads, and nothing of the former one is left", TIMEOUT, async || {
                let former = listener.accept().is_ok();
                !former && world.operator().unwrap().log().contains("this instance leads")
            })
            .await
            .unwrap();
        world.namespace("stuck", &[]).await.unwrap();
        // Holds the connections, so that the API server waits.
        let mut held = Vec::new();
        world
            .eventually("the webhook is asked", TIMEOUT, async || {
                held.extend(listener.accept().ok());
                !held.is_empty()
            })
            .await
            .unwrap();
        let start = Instant::now();
        world.operator().unwrap().signal(Signal::TERM).unwrap();
        let operator = world.operator().unwrap();
        world.eventually("it drains", TIMEOUT, async || operator.log().contains("stopping")).await.unwrap();
        if signals == 2 {
            operator.signal(Signal::INT).unwrap();
        }
        let code = world.operator_mut().unwrap().wait_exit(TIMEOUT).unwrap();
        since(start, &format!("end with writes that hang after {signals} signals"));
        let log = world.operator().unwrap().log();
        let (wanted, says) = if signals == 1 { (0, "some writes did not end in time") } else { (130, "a second signal") };
        assert_eq!(code, Some(wanted), "{log}");
        assert!(log.contains(says), "{log}");
    }
}

#[tokio::test]
async fn an_instance_that_may_not_have_the_lease_says_so_once_and_writes_nothing_until_it_may() {
    if skipped_without_audit_log() {
        return;
    }
    let mut world = World::new().await.unwrap();
    apply_baseline(&world, PLATFORM, &json!({})).await;
    let delete = ["delete", "rolebinding", "policy-baseline", "-n", SYSTEM_NAMESPACE];
    world.plane().run_kubectl(&delete).unwrap();
    let client = client_of(&world.operator_kubeconfig().await.unwrap()).await;
    let forbidden = async || {
        let may = can_i(&client, "create", "coordination.k8s.io", "leases", Some(SYSTEM_NAMESPACE)).await?;
        Ok::<_, kube::Error>(!may)
    };
    world.eventually("leases are forbidden", TIMEOUT, forbidden).await.unwrap();
    let mark = world.audit().unwrap().mark();
    world.start_operator_with(&["--lease-duration=3s"]).await.unwrap();
    let ns = world.namespace("team", &[]).await.unwrap();
    let own = || {
        let entries = world.audit().unwrap().since(mark).unwrap();
        entries.into_iter().filter(|entry| entry.user == World::operator_user()).collect::<Vec<_>>()
    };
    let tries = async || own().iter().filter(|entry| entry.resource == "leases" && entry.code == 403).count() > 4;
    world.eventually("it has tried again and again", TIMEOUT, tries).await.unwrap();
    assert_eq!(own().into_iter().filter(AuditEntry::is_write).collect::<Vec<_>>(), []);
    assert_eq!(world.operator().unwrap().log().matches("access is forbidden").count(), 1);

    world.plane().run_kubectl(&["apply", "--server-side", "-f", "manifests/base/rbac.yaml"]).unwrap();
    until_holds(&world, &ns, &Plan::of(PLATFORM)).await;
    assert_eq!(world.stop_operator().unwrap(), 0);
}

#[tokio::test]
async fn an_instance_that_takes_part_in_no_election_writes_no_lease() {
    if skipped_without_audit_log() {
        return;
    }
    let mut world = World::new().await.unwrap();
    apply_baseline(&world, PLATFORM, &json!({})).await;
    let mark = world.audit().unwrap().mark();
    world.start_operator_with(&["--leader-elect=false"]).await.unwrap();
    let ns = world.namespace("alone", &[]).await.unwrap();
    until_holds(&world, &ns, &Plan::of(PLATFORM)).await;
    assert_eq!(world.stop_operator().unwrap(), 0);
    let entries = world.audit().unwrap().since(mark).unwrap();
    let own = entries.iter().filter(|entry| entry.user == World::operator_user());
    assert!(own.clone().any(|entry| entry.resource == "networkpolicies"));
    // It watches the Leases of all namespaces to find other installs, as every instance does.
    let lease = |entry: &&AuditEntry| entry.resource == "leases" && !(entry.verb == "watch" && entry.namespace.is_empty());
    assert_eq!(own.filter(lease).collect::<Vec<_>>(), Vec::<&AuditEntry>::new());
}
