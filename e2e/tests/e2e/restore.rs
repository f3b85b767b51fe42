//! etcd is restored from a backup under an operator that runs: what it knows is of a future that never was.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use kube::api::{Patch, PatchParams};
use policy_baseline_e2e::{TIMEOUT, World};
use serde_json::json;

use crate::scene::{DENY_INGRESS, Plan, apply_baseline, policies_of, until_holds};

const WENT_BACK: &str = "the API server went back to an older state";
/// A leader is followed within a few seconds.
const LEASE: &str = "--lease-duration=3s";

/// The data of etcd as it is now. Nothing writes meanwhile: the API server is stopped.
struct Backup(PathBuf);

impl Backup {
    async fn take(world: &World) -> Self {
        let (plane, copy) = (world.plane(), world.plane().state_dir().join("backup"));
        plane.stop_apiserver().unwrap();
        plane.kill_etcd().unwrap();
        copy_dir(&data(world), &copy);
        start(world).await;
        Self(copy)
    }

    /// Puts the data back as it was, as a restore does that neither bumps the revision nor compacts.
    async fn restore(&self, world: &World) {
        let plane = world.plane();
        plane.stop_apiserver().unwrap();
        plane.kill_etcd().unwrap();
        plane.kill_controller_manager().unwrap();
        fs::remove_dir_all(data(world)).unwrap();
        copy_dir(&self.0, &data(world));
        start(world).await;
        plane.start_controller_manager().unwrap();
    }
}

fn data(world: &World) -> PathBuf {
    world.plane().state_dir().join("etcd")
}

fn copy_dir(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-a").args([from, to]).status().unwrap().success());
}

async fn start(world: &World) {
    world.plane().start_etcd_alone().await.unwrap();
    world.plane().start_apiserver().await.unwrap();
}

/// A namespace that both states know, and what happens between the backup and the restore.
async fn a_future_that_never_was(world: &World) -> (String, Backup) {
    let before = world.namespace("before", &[]).await.unwrap();
    until_holds(world, &before, &Plan::of("platform")).await;
    let backup = Backup::take(world).await;
    for _ in 0..10 {
        let lost = world.namespace("lost", &[]).await.unwrap();
        until_holds(world, &lost, &Plan::of("platform")).await;
    }
    (before, backup)
}

async fn everything_is_protected_again(world: &World, before: &str) {
    let opened = json!({ "spec": { "ingress": [{}] } });
    policies_of(&world.admin(), before).patch(DENY_INGRESS, &PatchParams::default(), &Patch::Merge(opened)).await.unwrap();
    until_holds(world, before, &Plan::of("platform")).await;
    let new = world.namespace("new", &[]).await.unwrap();
    until_holds(world, &new, &Plan::of("platform")).await;
}

#[tokio::test]
async fn i15_a_restore_of_etcd_under_a_leader_is_noticed_once_and_everything_is_protected_again() {
    let mut world = World::new().await.unwrap();
    if world.plane().is_external() {
        return;
    }
    world.discard();
    apply_baseline(&world, "platform", &json!({})).await;
    world.start_operator_with(&[LEASE]).await.unwrap();
    let (before, backup) = a_future_that_never_was(&world).await;

    backup.restore(&world).await;
    everything_is_protected_again(&world, &before).await;
    let operator = world.operator().unwrap();
    assert_eq!(operator.log().matches(WENT_BACK).count(), 1, "{}", operator.log_tail(40));
}

#[tokio::test]
async fn i15_a_restore_of_etcd_under_two_instances_leaves_one_that_leads() {
    let mut world = World::new().await.unwrap();
    if world.plane().is_external() {
        return;
    }
    world.discard();
    apply_baseline(&world, "platform", &json!({})).await;
    world.start_operator_with(&[LEASE]).await.unwrap();
    let another = world.another_operator(&[LEASE]).await.unwrap();
    let (before, backup) = a_future_that_never_was(&world).await;

    backup.restore(&world).await;
    everything_is_protected_again(&world, &before).await;
    // The one that waits for the Lease tries to take it when it has expired, and finds the older one.
    let noticed = async || world.operator().unwrap().log().contains(WENT_BACK) && another.log().contains(WENT_BACK);
    world.eventually("both notice it", TIMEOUT, noticed).await.unwrap();
}
