//! etcd is restored from a backup, under an operator that runs or while it is down: what the operator knows is of a future that never was.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use policy_baseline::PolicyBaselineStatus;
use policy_baseline_e2e::{TIMEOUT, World};
use serde_json::{Value, json};

use crate::opt_outs::{self, opt_out, seconds_from_now, until_says};
use crate::scene::{DENY_INGRESS, Plan, apply_baseline, policies_of, until_holds, until_ready, until_status};
use crate::support::took;

pub const WENT_BACK: &str = "the API server went back to an older state";
/// A leader is followed within a few seconds.
const LEASE: &str = "--lease-duration=3s";
const PLATFORM: &str = "platform";

/// How etcd is restored.
#[derive(Clone, Copy)]
pub enum How {
    /// The revision goes back too.
    Plain,
    /// As `etcdutl snapshot restore --bump-revision --mark-compacted` does: the revision is higher than ever, and all before it is compacted.
    /// The objects keep the versions that they have in the backup.
    Bumped,
}

/// The data of etcd as it is now. Nothing writes meanwhile: the API server does not run.
pub struct Backup(PathBuf);

impl Backup {
    pub async fn take(world: &World) -> Self {
        let (plane, copy) = (world.plane(), world.plane().state_dir().join("backup"));
        plane.kill_apiserver().unwrap();
        plane.kill_etcd().unwrap();
        let _ = fs::remove_dir_all(&copy);
        copy_dir(&data(world), &copy);
        plane.start_etcd_alone().await.unwrap();
        plane.start_apiserver().await.unwrap();
        Self(copy)
    }

    pub async fn restore(&self, world: &World, how: How) {
        let plane = world.plane();
        let latest = revision(world);
        plane.kill_apiserver().unwrap();
        plane.kill_etcd().unwrap();
        plane.kill_controller_manager().unwrap();
        fs::remove_dir_all(data(world)).unwrap();
        copy_dir(&self.0, &data(world));
        plane.start_etcd_alone().await.unwrap();
        match how {
            How::Plain => assert!(revision(world) < latest),
            How::Bumped => bump(world, latest + 100),
        }
        plane.start_apiserver().await.unwrap();
        plane.start_controller_manager().unwrap();
    }
}

fn data(world: &World) -> PathBuf {
    world.plane().state_dir().join("etcd")
}

fn copy_dir(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-a").args([from, to]).status().unwrap().success());
}

/// Sends requests to etcd's gateway on one connection. Returns the last answer.
fn ask_etcd(world: &World, path: &str, bodies: impl Iterator<Item = Value>) -> Value {
    let address = world.plane().etcd_url().unwrap().trim_start_matches("http://").to_owned();
    let mut stream = TcpStream::connect(&address).unwrap();
    let mut answer = Vec::new();
    for body in bodies {
        let body = body.to_string();
        write!(stream, "POST {path} HTTP/1.1\r\nHost: {address}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).unwrap();
        answer.clear();
        // The answer is one line of JSON behind its head.
        while !answer.ends_with(b"}") {
            let mut some = [0; 4096];
            let count = stream.read(&mut some).unwrap();
            assert!(count > 0, "etcd hung up: {}", String::from_utf8_lossy(&answer));
            answer.extend_from_slice(&some[..count]);
        }
    }
    let text = String::from_utf8(answer).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{text}");
    serde_json::from_str(body).unwrap()
}

fn revision(world: &World) -> u64 {
    let body = json!({ "key": ByteString(b"none".to_vec()) });
    ask_etcd(world, "/v3/kv/range", [body].into_iter())["header"]["revision"].as_str().unwrap().parse().unwrap()
}

/// Writes a key until the revision is `to`, and compacts all revisions before.
fn bump(world: &World, to: u64) {
    let body = json!({ "key": ByteString(b"bump".to_vec()), "value": ByteString(b"x".to_vec()) });
    let puts = to.checked_sub(revision(world)).unwrap();
    ask_etcd(world, "/v3/kv/put", (0..puts).map(|_| body.clone()));
    assert_eq!(revision(world), to);
    ask_etcd(world, "/v3/kv/compaction", [json!({ "revision": to.to_string(), "physical": true })].into_iter());
}

/// A control plane of its own, because the others would lose their data.
async fn world() -> Option<World> {
    let world = World::new().await.unwrap();
    if world.plane().is_external() {
        return None;
    }
    world.discard();
    Some(world)
}

/// A baseline whose policies allow this DNS port too.
async fn baseline_with(world: &World, port: i32) -> Plan {
    apply_baseline(world, PLATFORM, &json!({ "dns": { "ports": [port] } })).await;
    Plan::of(PLATFORM).dns_port(port)
}

/// A namespace that both states know, and what happens between the backup and the restore.
async fn a_future_that_never_was(world: &World, plan: &Plan) -> (String, Backup) {
    let before = world.namespace("before", &[]).await.unwrap();
    until_holds(world, &before, plan).await;
    let backup = Backup::take(world).await;
    for _ in 0..10 {
        let lost = world.namespace("lost", &[]).await.unwrap();
        until_holds(world, &lost, plan).await;
    }
    (before, backup)
}

async fn everything_is_protected_again(world: &World, before: &str, plan: &Plan) {
    let start = Instant::now();
    let opened = json!({ "spec": { "ingress": [{}] } });
    policies_of(&world.admin(), before).patch(DENY_INGRESS, &PatchParams::default(), &Patch::Merge(opened)).await.unwrap();
    until_holds(world, before, plan).await;
    let new = world.namespace("new", &[]).await.unwrap();
    until_holds(world, &new, plan).await;
    until_ready(world, PLATFORM).await;
    took("everything is protected again after a restore", start);
}

async fn restored_under_a_leader(how: How) {
    let Some(mut world) = world().await else { return };
    world.start_operator_with(&[LEASE]).await.unwrap();
    let plan = baseline_with(&world, 5301).await;
    let (before, backup) = a_future_that_never_was(&world, &plan).await;

    backup.restore(&world, how).await;
    everything_is_protected_again(&world, &before, &plan).await;
    let operator = world.operator().unwrap();
    assert_eq!(operator.log().matches(WENT_BACK).count(), 1, "{}", operator.log_tail(40));
}

#[tokio::test]
async fn i15_a_restore_of_etcd_under_a_leader_is_noticed_once_and_everything_is_protected_again() {
    restored_under_a_leader(How::Plain).await;
}

#[tokio::test]
async fn i15_a_restore_of_etcd_with_a_bumped_revision_is_noticed_once_and_everything_is_protected_again() {
    restored_under_a_leader(How::Bumped).await;
}

async fn restored_under_two_instances(how: How) {
    let Some(mut world) = world().await else { return };
    world.start_operator_with(&[LEASE]).await.unwrap();
    let another = world.another_operator(&[LEASE]).await.unwrap();
    let plan = baseline_with(&world, 5301).await;
    let (before, backup) = a_future_that_never_was(&world, &plan).await;

    backup.restore(&world, how).await;
    everything_is_protected_again(&world, &before, &plan).await;
    // The one that waits for the Lease tries to take it when it has expired, and finds the older one.
    let noticed = async || world.operator().unwrap().log().contains(WENT_BACK) && another.log().contains(WENT_BACK);
    world.eventually("both notice it", TIMEOUT, noticed).await.unwrap();
}

#[tokio::test]
async fn i15_a_restore_of_etcd_under_two_instances_leaves_one_that_leads() {
    restored_under_two_instances(How::Plain).await;
}

#[tokio::test]
async fn i15_a_restore_of_etcd_with_a_bumped_revision_under_two_instances_leaves_one_that_leads() {
    restored_under_two_instances(How::Bumped).await;
}

/// After the restore, somebody applies another spec, which gets the generation that the operator knew with the lost spec.
async fn another_spec_of_the_same_generation(how: How, flags: &[&str]) {
    let Some(mut world) = world().await else { return };
    world.start_operator_with(flags).await.unwrap();
    baseline_with(&world, 5301).await;
    let (before, backup) = a_future_that_never_was(&world, &Plan::of(PLATFORM).dns_port(5301)).await;
    let lost = baseline_with(&world, 5302).await;
    until_holds(&world, &before, &lost).await;

    backup.restore(&world, how).await;
    let plan = baseline_with(&world, 5303).await;
    until_holds(&world, &before, &plan).await;
    everything_is_protected_again(&world, &before, &plan).await;
}

#[tokio::test]
async fn i15_after_a_restore_another_spec_of_the_same_generation_is_enforced() {
    another_spec_of_the_same_generation(How::Plain, &[LEASE]).await;
}

#[tokio::test]
async fn i15_after_a_restore_with_a_bumped_revision_another_spec_of_the_same_generation_is_enforced() {
    another_spec_of_the_same_generation(How::Bumped, &[LEASE]).await;
}

#[tokio::test]
async fn i15_after_a_restore_with_a_bumped_revision_it_is_enforced_without_a_lease_too() {
    another_spec_of_the_same_generation(How::Bumped, &["--leader-elect=false"]).await;
}

/// Nothing is written, no baseline differs, and no watch shows anything: the backup lacks the policies, and the operator knows them.
#[tokio::test]
async fn i15_a_restore_of_etcd_that_changes_only_policies_is_noticed_without_a_lease_too() {
    let Some(mut world) = world().await else { return };
    let plan = baseline_with(&world, 5301).await;
    let before = world.namespace("before", &[]).await.unwrap();
    let backup = Backup::take(&world).await;
    world.start_operator_with(&["--leader-elect=false"]).await.unwrap();
    until_holds(&world, &before, &plan).await;
    until_ready(&world, PLATFORM).await;
    // More than an API server writes at its start: a cluster loses minutes or hours by a restore.
    let notes: Api<ConfigMap> = Api::namespaced(world.admin(), "default");
    for count in 0..1_000 {
        let note = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "note" }, "data": { "count": count.to_string() } });
        notes.patch("note", &PatchParams::apply("test"), &Patch::Apply(&note)).await.unwrap();
    }
    // The operator has seen a version from after that.
    let mark = world.audit().unwrap().mark();
    let has_asked =
        async || {
            let entries = world.audit()?.since(mark)?;
            anyhow::Ok(entries.iter().any(|e| {
                e.user == World::operator_user() && e.uri.starts_with("/api/v1/namespaces?") && e.uri.contains("limit=1")
            }))
        };
    world.eventually("the operator asks for the version", TIMEOUT, has_asked).await.unwrap();

    backup.restore(&world, How::Plain).await;
    until_holds(&world, &before, &plan).await;
    everything_is_protected_again(&world, &before, &plan).await;
    let operator = world.operator().unwrap();
    assert_eq!(operator.log().matches(WENT_BACK).count(), 1, "{}", operator.log_tail(40));
}

async fn restored_while_it_is_down(how: How) {
    let Some(mut world) = world().await else { return };
    world.start_operator_with(&[LEASE]).await.unwrap();
    let plan = baseline_with(&world, 5301).await;
    let (before, backup) = a_future_that_never_was(&world, &plan).await;
    let lost = baseline_with(&world, 5302).await;
    until_holds(&world, &before, &lost).await;
    world.kill_operator().unwrap();

    backup.restore(&world, how).await;
    world.restart_operator().await.unwrap();
    everything_is_protected_again(&world, &before, &plan).await;
    assert!(!world.operator().unwrap().log().contains(WENT_BACK), "a new process knows no other state");
}

#[tokio::test]
async fn i15_a_restore_of_etcd_while_the_operator_is_down_costs_nothing() {
    restored_while_it_is_down(How::Plain).await;
}

#[tokio::test]
async fn i15_a_restore_of_etcd_with_a_bumped_revision_while_the_operator_is_down_costs_nothing() {
    restored_while_it_is_down(How::Bumped).await;
}

#[tokio::test]
async fn i15_an_opt_out_that_a_restore_brings_back_is_in_force_since_when_it_was_first() {
    for how in [How::Plain, How::Bumped] {
        let Some(mut world) = world().await else { return };
        world.start_operator_with(&[LEASE]).await.unwrap();
        apply_baseline(&world, PLATFORM, &json!({})).await;
        let ns = world.namespace("partner", &[]).await.unwrap();
        opt_outs::create(&world, &ns, &opt_out("partner", &["DefaultDenyEgress"], seconds_from_now(600))).await;
        let open = Plan::of(PLATFORM).without("DefaultDenyEgress");
        until_holds(&world, &ns, &open).await;
        let first = until_says(&world, &ns, "partner", "True WithinLimits").await.status.unwrap().first_in_force;
        assert!(first.is_some());
        let backup = Backup::take(&world).await;
        let api = opt_outs::opt_outs(&world.admin(), &ns);
        api.delete("partner", &DeleteParams::default()).await.unwrap();
        until_holds(&world, &ns, &Plan::of(PLATFORM)).await;

        backup.restore(&world, how).await;
        let start = Instant::now();
        until_holds(&world, &ns, &open).await;
        took("a restored opt-out is in force", start);
        let found = until_says(&world, &ns, "partner", "True WithinLimits").await.status.unwrap().first_in_force;
        assert_eq!(found, first);
        // It ends there as anywhere.
        api.delete("partner", &DeleteParams::default()).await.unwrap();
        until_holds(&world, &ns, &Plan::of(PLATFORM)).await;
    }
}

#[tokio::test]
async fn i15_a_rollout_goes_on_from_the_wave_that_a_restore_brings_back() {
    for how in [How::Plain, How::Bumped] {
        let Some(mut world) = world().await else { return };
        world.start_operator_with(&[LEASE]).await.unwrap();
        let rollout = json!({ "maxNamespacesPerWave": 1, "interval": "1h" });
        let spec = |port: i32, rollout: &Value| json!({ "dns": { "ports": [port] }, "rollout": rollout });
        apply_baseline(&world, PLATFORM, &spec(5301, &rollout)).await;
        let mut names = Vec::new();
        for prefix in ["a", "b", "c"] {
            names.push(world.namespace(prefix, &[]).await.unwrap());
        }
        let [former, next] = [5301, 5302].map(|port| Plan::of(PLATFORM).dns_port(port).asked());
        for ns in &names {
            until_holds(&world, ns, &former).await;
        }
        until_ready(&world, PLATFORM).await;
        apply_baseline(&world, PLATFORM, &spec(5302, &rollout)).await;
        until_holds(&world, &names[0], &next).await;
        let moved = |count: u32| {
            move |status: &PolicyBaselineStatus| {
                status.rollout.as_ref().is_some_and(|r| r.moved == count && r.next_wave_at.is_some())
            }
        };
        until_status(&world, PLATFORM, "the first wave is there", moved(1)).await;
        let backup = Backup::take(&world).await;
        // In the future that never was, all waves went out.
        let plan = baseline_with(&world, 5302).await.asked_or_not();
        for ns in &names {
            until_holds(&world, ns, &plan).await;
        }
        until_ready(&world, PLATFORM).await;

        backup.restore(&world, how).await;
        let start = Instant::now();
        let new = world.namespace("new", &[]).await.unwrap();
        until_holds(&world, &new, &next).await;
        until_status(&world, PLATFORM, "the second wave waits", moved(2)).await;
        took("a restored rollout goes on", start);
        for ns in &names[1..] {
            until_holds(&world, ns, &former).await;
        }
        let plan = baseline_with(&world, 5302).await.asked_or_not();
        for ns in &names {
            until_holds(&world, ns, &plan).await;
        }
        until_ready(&world, PLATFORM).await;
    }
}
