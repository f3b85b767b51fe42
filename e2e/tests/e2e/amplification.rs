//! What a tenant can make the operator write: at most two requests for each of their own. And nobody else waits.

use kube::Client;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use policy_baseline_e2e::{AuditMark, World, skipped_without_audit_log};
use serde_json::json;

use crate::opt_outs;
use crate::others::{create, forged};
use crate::repair::{PLATFORM, enforcing, protected};
use crate::scene::{Plan, apply_baseline, events, fence, policies_of, until_holds, until_ready, writes_since};
use crate::support::namespaces;

/// How often each of them repeats.
const ROUNDS: usize = 100;

/// The requests that the operator has sent, except for the Lease.
fn written(world: &World, mark: AuditMark) -> usize {
    let writes = writes_since(world, mark);
    writes.iter().filter(|write| write.user == World::operator_user() && write.resource != "leases").count()
}

/// A protected namespace, a tenant of it, and the end of the audit log. `None` if there is no audit log.
async fn at_rest() -> Option<(World, String, Client, AuditMark)> {
    if skipped_without_audit_log() {
        return None;
    }
    let world = enforcing(&json!({})).await;
    let (ns, tenant) = protected(&world).await;
    until_ready(&world, PLATFORM).await;
    let mark = world.audit().unwrap().mark();
    Some((world, ns, tenant, mark))
}

#[tokio::test]
async fn i7_a_label_that_goes_back_and_forth_between_two_baselines_costs_two_writes_each_at_most() {
    if skipped_without_audit_log() {
        return;
    }
    let mut world = World::new().await.unwrap();
    for team in ["red", "blue"] {
        let selector = json!({ "matchLabels": { "team": team } });
        let spec = json!({ "namespaceSelector": selector, "metadata": { "namePrefix": format!("{team}-") } });
        apply_baseline(&world, team, &spec).await;
    }
    world.start_operator().await.unwrap();
    let plan = |team: &str| Plan::of(team).prefix(&format!("{team}-"));
    let ns = world.namespace("team", &[("team", "red")]).await.unwrap();
    until_holds(&world, &ns, &plan("red")).await;
    until_ready(&world, "red").await;

    let mark = world.audit().unwrap().mark();
    for round in 0..=ROUNDS {
        let team = if round % 2 == 0 { "blue" } else { "red" };
        let patch = Patch::Merge(json!({ "metadata": { "labels": { "team": team } } }));
        namespaces(&world).patch(&ns, &PatchParams::default(), &patch).await.unwrap();
    }
    let other = world.namespace("other", &[("team", "red")]).await.unwrap();
    until_holds(&world, &other, &plan("red")).await;
    until_holds(&world, &ns, &plan("blue")).await;
    let writes = written(&world, mark);
    println!("{ROUNDS} changes of a label: {writes} writes");
    assert!(writes <= 2 * ROUNDS, "{writes} writes");
}

#[tokio::test]
async fn i7_an_opt_out_that_comes_and_goes_costs_two_writes_each_at_most() {
    let Some((world, ns, _, mark)) = at_rest().await else { return };
    let api = opt_outs::opt_outs(&world.admin(), &ns);
    for _ in 0..ROUNDS {
        let until = opt_outs::seconds_from_now(600);
        opt_outs::create(&world, &ns, &opt_outs::opt_out("partner", &["DefaultDenyEgress"], until)).await;
        api.delete("partner", &DeleteParams::default()).await.unwrap();
    }
    until_holds(&world, &ns, &Plan::of(PLATFORM)).await;
    until_ready(&world, PLATFORM).await;
    let writes = written(&world, mark);
    println!("{ROUNDS} opt-outs created and deleted: {writes} writes");
    assert!(writes <= 2 * 2 * ROUNDS, "{writes} writes");
}

#[tokio::test]
async fn i7_forged_policies_are_removed_at_one_write_each_and_few_events() {
    let Some((world, ns, tenant, mark)) = at_rest().await else { return };
    for round in 0..ROUNDS {
        let policy = forged(&ns, &format!("forged-{round}"), Some(PLATFORM));
        policies_of(&tenant, &ns).create(&PostParams::default(), &policy).await.unwrap();
    }
    let other = world.namespace("other", &[]).await.unwrap();
    until_holds(&world, &other, &Plan::of(PLATFORM)).await;
    until_holds(&world, &ns, &Plan::of(PLATFORM)).await;
    until_ready(&world, PLATFORM).await;
    let writes = written(&world, mark);
    let told = events(&tenant, &ns).await.into_iter().filter(|event| event.reason.as_deref() == Some("PolicyRemoved")).count();
    println!("{ROUNDS} forged policies: {writes} writes, of which {told} Events");
    assert!(writes <= 2 * ROUNDS && (1..ROUNDS).contains(&told), "{writes} writes, {told} Events");
}

#[tokio::test]
async fn i7_a_bypass_that_comes_and_goes_causes_few_events() {
    let Some((world, ns, tenant, mark)) = at_rest().await else { return };
    let open = json!({ "podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{}] });
    for _ in 0..ROUNDS {
        create(&tenant, &ns, "open", &open).await;
        policies_of(&tenant, &ns).delete("open", &DeleteParams::default()).await.unwrap();
    }
    let other = world.namespace("other", &[]).await.unwrap();
    until_holds(&world, &other, &Plan::of(PLATFORM)).await;
    fence(&world, &Plan::of(PLATFORM), &[]).await;
    let writes = written(&world, mark);
    let told = events(&tenant, &ns).await.into_iter().filter(|event| event.reason.as_deref() == Some("BaselineBypassed")).count();
    println!("{ROUNDS} bypasses that came and went: {writes} writes, of which {told} Events");
    assert!(writes <= ROUNDS && (1..=ROUNDS / 2).contains(&told), "{writes} writes, {told} Events");
}
