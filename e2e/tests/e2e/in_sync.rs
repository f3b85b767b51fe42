//! An instance that does not know the present state leads nothing, and holds up no other one.

use std::time::Instant;

use kube::api::DeleteParams;
use policy_baseline_e2e::proxy::{Asked, Fault, Moment, Verb, When};
use policy_baseline_e2e::{Operator, Proxy, TIMEOUT, World};
use serde_json::json;

use crate::admin_port::{address_of, get, metric};
use crate::faults_watches::expire_watches_of;
use crate::scene::{DENY_INGRESS, Plan, apply_baseline, policies_of, until_holds};
use crate::support::took;

/// Whether it asks for a list of policies, in pages or as a stream.
fn lists(asked: &Asked) -> bool {
    asked.is_of("networkpolicies") && (asked.verb == Verb::List || asked.streams_a_list)
}

#[tokio::test]
async fn i16_an_instance_that_cannot_list_takes_no_lease_and_holds_up_no_other() {
    let mut world = World::new().await.unwrap();
    if world.plane().is_external() {
        return;
    }
    let proxy = Proxy::start(world.plane()).unwrap();
    proxy.on(lists, When::Always, Fault::Answer(500, Moment::Before));
    apply_baseline(&world, "platform", &json!({})).await;
    let direct = world.operator_kubeconfig().await.unwrap();
    let blind = Operator::start(world.plane(), &proxy.kubeconfig(&direct).unwrap(), &[], &[]).unwrap();
    world.eventually("it tries to list", TIMEOUT, async || proxy.struck() > 3).await.unwrap();
    let start = Instant::now();
    world.start_operator().await.unwrap();
    let team = world.namespace("team", &[]).await.unwrap();
    until_holds(&world, &team, &Plan::of("platform")).await;
    took("a namespace is protected although another instance cannot list", start);
    assert!(!blind.log().contains("this instance leads"), "{}", blind.log_tail(20));
}

#[tokio::test]
async fn i16_a_leader_whose_relist_never_ends_gives_up_the_lease() {
    let mut world = World::new().await.unwrap();
    if world.plane().is_external() {
        return;
    }
    let proxy = Proxy::start(world.plane()).unwrap();
    apply_baseline(&world, "platform", &json!({})).await;
    let direct = world.operator_kubeconfig().await.unwrap();
    let blind = Operator::start(world.plane(), &proxy.kubeconfig(&direct).unwrap(), &[], &[]).unwrap();
    world.eventually("it leads", TIMEOUT, async || blind.log().contains("this instance leads")).await.unwrap();
    world.start_operator().await.unwrap();
    let team = world.namespace("team", &[]).await.unwrap();
    until_holds(&world, &team, &Plan::of("platform")).await;

    let address = address_of(&world, &blind).await;
    assert_eq!(get(&address, "/readyz").0, 200);

    // Its list of policies fails from now on, so it hears of no deletion.
    let start = Instant::now();
    proxy.on(lists, When::Always, Fault::Answer(500, Moment::Before));
    expire_watches_of(&proxy, &["networkpolicies"]);
    let no_longer = async || blind.log().contains("this instance no longer leads");
    let given_up = world.eventually("it gives up", TIMEOUT * 3, no_longer).await;
    assert!(given_up.is_ok(), "{given_up:?}\n{}", blind.log_tail(30));
    let (code, _, waits) = get(&address, "/readyz");
    assert!(code == 503 && waits.contains("networkpolicies"), "{code} {waits}");
    assert!(metric(&get(&address, "/metrics").2, "policy_baseline_leader").abs() < f64::EPSILON);
    policies_of(&world.admin(), &team).delete(DENY_INGRESS, &DeleteParams::default()).await.unwrap();
    until_holds(&world, &team, &Plan::of("platform")).await;
    took("another instance repairs, since the relist of the leader fails", start);
    proxy.calm();
    world.eventually("it is ready again", TIMEOUT, async || get(&address, "/readyz").0 == 200).await.unwrap();
}
