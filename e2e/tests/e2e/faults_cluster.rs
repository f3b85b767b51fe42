//! The cluster breaks. The API server and etcd are killed, and watches expire while objects are deleted. The Lease is lost during a
//! write. Namespaces are deleted and created again.

use std::time::Instant;

use k8s_openapi::jiff::Timestamp;
use kube::api::DeleteParams;
use policy_baseline_e2e::proxy::{Asked, EventFault, Fault, Moment, Release, Verb, When};
use policy_baseline_e2e::{Operator, Proxy, TIMEOUT, World, skipped_without_audit_log};

use crate::election::holder;
use crate::faults::{Play, Step};
use crate::faults_watches::{WATCHED, expire_watches, is_watched};
use crate::scene::{DENY_EGRESS, DENY_INGRESS, policies_of};
use crate::support::{namespaces, remove_namespace, until_gone};

const NAMESPACES: usize = 3;

fn is_policy_write(asked: &Asked) -> bool {
    asked.is_write() && asked.is_of("networkpolicies")
}

/// Kills a part of the control plane during the first write of each step, and starts it again.
async fn kill_under_writes(what: &str, kill: impl AsyncFn(&World)) {
    if skipped_without_audit_log() {
        return;
    }
    let mut play = Play::new().await;
    for moment in [Moment::Before, Moment::After] {
        play.next_act(NAMESPACES).await;
        for step in Step::ALL {
            play.prepare(step).await;
            play.proxy.on(is_policy_write, When::Nth(1), Fault::Hold(moment));
            play.act(step).await;
            play.proxy.until_held().await.unwrap();
            let begun = Instant::now();
            kill(&play.world).await;
            play.proxy.release(Release::Discard).await.unwrap();
            play.settle().await;
            play.converged(begun);
            play.proxy.calm();
        }
        play.tell(&format!("SIGKILL and restart of {what} {moment:?} a write"));
    }
    play.finish().await;
}

#[tokio::test]
async fn an_apiserver_that_is_killed_under_a_write_costs_nothing_but_time() {
    kill_under_writes("the apiserver", async |world| {
        world.plane().kill_apiserver().unwrap();
        world.plane().start_apiserver().await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn an_etcd_that_is_killed_under_a_write_costs_nothing_but_time() {
    kill_under_writes("etcd", async |world| {
        world.plane().kill_etcd().unwrap();
        world.plane().start_etcd().await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn what_is_deleted_while_the_watches_have_expired_is_not_missed() {
    if skipped_without_audit_log() {
        return;
    }
    let mut play = Play::new().await;
    for round in 0..3 {
        play.next_act(5).await;
        play.perform(Step::Bootstrap).await;
        let [policy, namespace, again, left, both] = play.cast().to_vec().try_into().unwrap();
        // Nothing can be watched or listed.
        let blind = Timestamp::now();
        play.proxy.on(
            |asked| is_watched(asked) && matches!(asked.verb, Verb::List | Verb::Watch),
            When::Always,
            Fault::Answer(503, Moment::Before),
        );
        play.proxy.cut_watches();
        let before = play.proxy.struck();
        let struck = async || play.proxy.struck() >= before + WATCHED.len();
        play.world.eventually("nothing is watched", TIMEOUT, struck).await.unwrap();

        let admin = play.world.admin();
        for name in [&policy, &both] {
            for role in [DENY_INGRESS, DENY_EGRESS] {
                policies_of(&admin, name).delete(role, &DeleteParams::default()).await.unwrap();
            }
        }
        for name in [&namespace, &again, &both] {
            remove_namespace(&play.world, name).await;
            play.judge.deleted(name);
        }
        for name in [&again, &both] {
            play.make(name).await;
        }
        play.leave(&left).await;
        if round == 2 {
            play.act(Step::Delete).await;
        }
        play.proxy.calm();
        expire_watches(&play.proxy);
        play.converge().await;
        play.blind.push((blind, Timestamp::now()));
        play.proxy.calm();
        if round < 2 {
            play.perform(Step::Delete).await;
        }
    }
    play.tell("watches expired with deletions in the gap");
    play.finish().await;
}

#[tokio::test]
async fn a_namespace_that_is_made_anew_at_once_under_its_name_is_protected_anew() {
    const ROUNDS: usize = 8;
    if skipped_without_audit_log() {
        return;
    }
    let mut play = Play::new().await;
    play.next_act(4).await;
    play.perform(Step::Bootstrap).await;
    for round in 0..ROUNDS {
        if round % 2 == 1 {
            let late = EventFault::Delay(std::time::Duration::from_millis(20));
            play.proxy.on_event(|asked, _| is_watched(asked), When::Always, late);
        }
        let cast = play.cast().to_vec();
        for name in &cast {
            namespaces(&play.world).delete(name, &DeleteParams::default()).await.unwrap();
            play.judge.deleted(name);
        }
        for name in &cast {
            until_gone(&play.world, name).await;
            play.make(name).await;
        }
        // In half of the rounds it is deleted again before the operator can be done.
        if round % 4 > 1 {
            play.converge().await;
        }
        play.proxy.calm();
    }
    play.converge().await;
    play.tell("namespaces deleted and made again under their names");
    play.finish().await;
}

#[tokio::test]
async fn a_write_that_arrives_after_the_lease_was_lost_is_made_good_by_the_next_leader() {
    if skipped_without_audit_log() {
        return;
    }
    let mut play = Play::new().await;
    let direct = Proxy::start(play.world.plane()).unwrap();
    play.next_act(NAMESPACES).await;
    for step in [Step::Bootstrap, Step::Repair, Step::Edit, Step::Release, Step::Delete] {
        // A second instance with its own connection. It waits for the Lease.
        let second = World::unique("second");
        direct.call(&second);
        let kubeconfig = direct.kubeconfig(&play.world.operator_kubeconfig().await.unwrap()).unwrap();
        let args = ["--lease-duration=3s"];
        let mut other = Operator::start(play.world.plane(), &kubeconfig, &args, &[("POD_NAME", &second)]).unwrap();
        let works = async || other.log().contains("work begins");
        play.world.eventually("the second has listed everything", TIMEOUT, works).await.unwrap();

        play.proxy.on(is_policy_write, When::Nth(1), Fault::Hold(Moment::Before));
        play.act(step).await;
        play.proxy.until_held().await.unwrap();
        play.proxy.on(|asked| asked.is_of("leases"), When::Always, Fault::Answer(503, Moment::Before));
        let leads = async || holder(&play.world).await.is_some_and(|holder| holder.starts_with(&second));
        play.world.eventually("the second leads", TIMEOUT, leads).await.unwrap();
        play.settle().await;
        // Now the held write of the first instance arrives.
        let (begun, number) = (Instant::now(), play.proxy.mark());
        play.proxy.release(Release::Forward).await.unwrap();
        play.settle().await;
        play.converged(begun);
        let since = play.proxy.since(number);
        assert!(since.iter().all(|one| !is_policy_write(&one.asked)), "the first one went on writing: {since:#?}");
        play.proxy.calm();
        assert_eq!(other.stop().unwrap(), 0);
        assert!(!other.log().contains(" ERROR "), "{}", other.log());
        play.until_leads().await;
    }
    play.tell("a write that was sent in time arrives when another leads");
    play.finish().await;
}
