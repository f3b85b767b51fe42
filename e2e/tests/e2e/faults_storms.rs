//! Extreme load: thousands of changes that concern no policy of ours, and a thousand namespaces that come and go at once.

use std::cell::Cell;
use std::fs;
use std::time::{Duration, Instant};

use futures::{StreamExt, stream};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::ResourceExt;
use kube::api::{DeleteParams, PostParams};
use policy_baseline_e2e::{World, skipped_without_audit_log};
use serde_json::json;
use tokio::time::{MissedTickBehavior, interval};

use crate::faults::{PLATFORM, Play, Step};
use crate::judge::check_failures;
use crate::scene::{CARVEOUT, DENY_EGRESS, DENY_INGRESS, Plan, merge, policies_of, until_holds, version};
use crate::support::remove_namespace;

/// The resident memory of a process, in MB.
pub fn resident(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().split(' ').next()?.parse::<u64>().ok()).unwrap_or_default() / 1024
}

#[tokio::test]
async fn ten_thousand_foreign_policy_changes_in_a_minute_hold_up_no_repair_and_cause_no_write() {
    const CHANGES: u64 = 10_000;
    const EACH: Duration = Duration::from_millis(6);
    const NAMESPACES: usize = 100;
    // A policy is repaired at once this many times a minute. After that it counts as contested.
    const TIMES: usize = 4;
    if skipped_without_audit_log() {
        return;
    }
    let mut play = Play::new().await;
    play.next_act(NAMESPACES).await;
    play.perform(Step::Bootstrap).await;
    let admin = play.world.admin();
    let mut foreign = Vec::new();
    for name in play.cast() {
        let own = json!({ "metadata": { "name": World::unique("own") }, "spec": { "podSelector": {}, "ingress": [] } });
        let own: NetworkPolicy = serde_json::from_value(own).unwrap();
        let made = policies_of(&admin, name).create(&PostParams::default(), &own).await.unwrap();
        foreign.push((name.clone(), made.name_any()));
    }
    let pid = play.world.operator().unwrap().pid();
    let before = resident(pid);

    let over = Cell::new(false);
    let changes = async {
        let begun = Instant::now();
        let mut pace = interval(EACH);
        pace.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let paced = stream::unfold((pace, 0), async |(mut pace, n)| {
            pace.tick().await;
            (n < CHANGES).then_some((n, (pace, n + 1)))
        });
        let change = async |n: u64| {
            let (namespace, policy) = &foreign[usize::try_from(n).unwrap() % foreign.len()];
            let rules = json!({ "spec": { "ingress": [{ "ports": [{ "port": 1 + n % 60_000 }] }] } });
            merge(&policies_of(&admin, namespace), policy, "tenant", &rules).await;
        };
        paced.for_each_concurrent(16, change).await;
        over.set(true);
        begun.elapsed()
    };
    // Meanwhile somebody deletes policies of ours, one after the other.
    let repairs = async {
        let (mut worst, mut runs) = (Duration::ZERO, 0);
        let ours = [DENY_EGRESS, DENY_INGRESS, CARVEOUT];
        while !over.get() && runs < NAMESPACES * ours.len() * TIMES {
            let (name, policy) = (&play.cast()[runs % NAMESPACES], ours[runs / NAMESPACES % ours.len()]);
            policies_of(&admin, name).delete(policy, &DeleteParams::default()).await.unwrap();
            let begun = Instant::now();
            let own =
                play.judge.spaces[name].theirs.keys().chain(foreign.iter().filter(|(of, _)| of == name).map(|(_, own)| own));
            until_holds(&play.world, name, &own.fold(Plan::of(PLATFORM), |plan, own| plan.beside(own))).await;
            worst = worst.max(begun.elapsed());
            runs += 1;
        }
        (runs, worst)
    };
    let (took, (repairs, worst)) = tokio::join!(changes, repairs);
    println!("{CHANGES} foreign changes in {took:?}; {repairs} repairs meanwhile, the slowest after {} ms", worst.as_millis());
    for (namespace, policy) in foreign {
        let stored = policies_of(&admin, &namespace).get(&policy).await.unwrap();
        play.judge.space(&namespace).theirs.insert(policy, version(&stored));
    }
    play.converge().await;
    let after = resident(pid);
    println!("resident: {before} MB before, {after} MB after");
    assert!(after < before + 32, "memory grew from {before} MB to {after} MB");
    play.tell(&format!("{CHANGES} foreign policy changes in {} s, {repairs} repairs meanwhile", took.as_secs()));
    play.finish().await;
}

#[tokio::test]
async fn a_thousand_namespaces_that_come_and_go_at_once_leave_nothing_behind() {
    const MANY: usize = 1000;
    const AGAIN: usize = 100;
    if skipped_without_audit_log() {
        return;
    }
    let mut play = Play::new().await;
    play.world.discard();
    play.next_act(3).await;
    play.perform(Step::Bootstrap).await;
    let pid = play.world.operator().unwrap().pid();
    let before = resident(pid);
    let names: Vec<String> = (0..MANY).map(|_| World::unique("many")).collect();

    let begun = Instant::now();
    let make = async |name: &String| play.world.namespace_named(name, &[(crate::faults::PLACE, PLATFORM)]).await.unwrap();
    stream::iter(&names).for_each_concurrent(32, make).await;
    println!("{MANY} namespaces made in {:?}", begun.elapsed());
    // The operator is still working on them.
    stream::iter(&names).for_each_concurrent(32, async |name| remove_namespace(&play.world, name).await).await;
    println!("and removed after {:?}", begun.elapsed());
    for name in &names {
        play.judge.deleted(name);
    }
    for name in &names[..AGAIN] {
        play.make(name).await;
    }
    play.converge().await;
    let after = resident(pid);
    println!("resident: {before} MB before, {after} MB after");
    assert!(after < before + 64, "memory grew from {before} MB to {after} MB");
    let log = play.world.operator().unwrap().log();
    check_failures(log.lines().filter(|line| line.contains("write failed")));
    play.tell(&format!("{MANY} namespaces made and deleted at once, {AGAIN} of them made again"));
    play.finish().await;
}
