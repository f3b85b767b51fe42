//! Ready can be believed: Protected means that every selected namespace is closed, and everything else has a reason of its own, in conditions,
//! columns, metrics and Events.

use std::time::Duration;

use k8s_openapi::api::core::v1::Event;
use kube::api::{Api, ListParams};
use policy_baseline::PolicyBaselineStatus;
use policy_baseline_e2e::proxy::{Asked, Fault, Moment, Verb, When};
use policy_baseline_e2e::{TIMEOUT, World};
use serde_json::json;

use crate::faults::{PLATFORM, behind_a_proxy};
use crate::opt_outs::{create, opt_out, seconds_from_now};
use crate::scene::{Plan, apply_baseline, condition, until_holds, until_ready, until_status, until_status_within};
use crate::support::{TEAM, a_second_later, team};

/// Status and reason of Ready.
fn ready(status: &PolicyBaselineStatus) -> String {
    let ready = condition(status, "Ready");
    format!("{} {}", ready.status, ready.reason)
}

async fn until_told(world: &World, name: &str, expected: &str) -> PolicyBaselineStatus {
    until_status(world, name, expected, |status| ready(status) == expected).await
}

/// The reason of each Event about the baseline, with the beginning of its note, in the order of time.
async fn events_about(world: &World, name: &str) -> Vec<String> {
    let api: Api<Event> = Api::namespaced(world.admin(), "default");
    let mut events = api.list(&ListParams::default()).await.unwrap().items;
    events.retain(|event| {
        let about = &event.involved_object;
        about.kind.as_deref() == Some("PolicyBaseline") && about.name.as_deref() == Some(name)
    });
    events.sort_by_key(|event| event.event_time.as_ref().map(|at| at.0));
    let told = |event: Event| {
        let note = event.message.unwrap_or_default();
        format!("{} {}", event.reason.unwrap_or_default(), note.split(':').next().unwrap_or_default())
    };
    events.into_iter().map(told).collect()
}

async fn until_events(world: &World, name: &str, told: &[&str]) {
    let all = async || {
        let events = events_about(world, name).await;
        if events == told { Ok(Some(())) } else { Err(format!("{events:#?}")) }
    };
    world.eventually("these Events and no others", TIMEOUT, all).await.unwrap();
}

async fn until_counted(world: &World, name: &str, reason: &str) {
    let series = format!(r#"policy_baseline_ready{{baseline="{name}",reason="{reason}"}} 1"#);
    let is_counted = async || crate::admin_port::metrics_of(world).await.contains(&series);
    world.eventually(&series, TIMEOUT, is_counted).await.unwrap();
}

#[tokio::test]
async fn a_baseline_that_selects_nothing_says_so_in_conditions_columns_metrics_and_events() {
    let mut world = World::new().await.unwrap();
    world.start_operator().await.unwrap();
    let name = World::unique("typo");
    for spec in [
        json!({ "namespaceSelector": { "matchLabels": { "tier": "prdo" } } }),
        json!({ "excludeNamespaces": ["*"] }),
        json!({ "mode": "Audit", "excludeNamespaces": ["*"] }),
    ] {
        apply_baseline(&world, &name, &spec).await;
        let status = until_told(&world, &name, "True NothingSelected").await;
        let message = condition(&status, "Ready").message;
        assert!(message.starts_with("0 of 0: no namespace matches") && message.contains("effectiveSelector"), "{message}");
    }
    let row = world.plane().run_kubectl(&["get", "pb", &name]).unwrap();
    assert!(row.contains("REASON") && row.contains("NothingSelected"), "{row}");
    until_counted(&world, &name, "nothing_selected").await;
    // Each state is told once.
    until_events(&world, &name, &["BaselineReady Ready is True, NothingSelected"]).await;
}

#[tokio::test]
async fn protected_means_that_existing_namespaces_are_closed_too_and_kubectl_can_wait_for_that() {
    let mut world = World::new().await.unwrap();
    world.start_operator().await.unwrap();
    let old = world.namespace("old", &[(TEAM, "honest")]).await.unwrap();
    a_second_later(&world).await;
    let name = World::unique("rebuilt");
    apply_baseline(&world, &name, &json!({ "namespaceSelector": team("honest") })).await;
    let status = until_told(&world, &name, "True ExistingNamespacesOnlyReported").await;
    assert_eq!((status.namespaces.selected, status.namespaces.reported), (1, 1));
    let existing = condition(&status, "ExistingNamespacesClosed");
    assert_eq!((&*existing.status, &*existing.reason), ("False", "ExistingNamespacesOnlyReported"));
    assert!(existing.message.contains("existingNamespaces: Enforce closes them"), "{}", existing.message);
    let wait = |kind: &str, timeout: &str| {
        let (kind, timeout) = (format!("--for=condition={kind}"), format!("--timeout={timeout}"));
        world.plane().run_kubectl(&["wait", &kind, &format!("pb/{name}"), &timeout])
    };
    wait("Ready", "20s").unwrap();
    assert!(wait("ExistingNamespacesClosed", "1s").is_err());
    until_counted(&world, &name, "existing_namespaces_only_reported").await;

    apply_baseline(&world, &name, &json!({ "namespaceSelector": team("honest"), "existingNamespaces": "Enforce" })).await;
    until_holds(&world, &old, &Plan::of(&name)).await;
    let status = until_told(&world, &name, "True Protected").await;
    assert_eq!(condition(&status, "ExistingNamespacesClosed").reason, "AllClosed");
    wait("ExistingNamespacesClosed", "20s").unwrap();
}

#[tokio::test]
async fn each_change_of_a_baselines_state_is_an_event_on_it_and_a_restart_is_none() {
    let mut world = World::new().await.unwrap();
    world.start_operator().await.unwrap();
    let name = World::unique("told");
    let spec = |suspend: bool| json!({ "namespaceSelector": team("told"), "suspend": suspend });
    apply_baseline(&world, &name, &spec(false)).await;
    until_told(&world, &name, "True NothingSelected").await;
    let ns = world.namespace("team", &[(TEAM, "told")]).await.unwrap();
    until_holds(&world, &ns, &Plan::of(&name)).await;
    until_told(&world, &name, "True Protected").await;
    apply_baseline(&world, &name, &spec(true)).await;
    until_told(&world, &name, "False Suspended").await;
    apply_baseline(&world, &name, &json!({ "namespaceSelector": { "matchLabels": { "Bad Key!": "x" } } })).await;
    until_told(&world, &name, "False InvalidSelector").await;
    apply_baseline(&world, &name, &spec(false)).await;
    until_told(&world, &name, "True Protected").await;
    let told = [
        "BaselineReady Ready is True, NothingSelected",
        "BaselineReady Ready is True, Protected",
        "BaselineNotReady Ready is False, Suspended",
        "BaselineNotReady Ready is False, InvalidSelector",
        "BaselineReady Ready is True, Protected",
    ];
    until_events(&world, &name, &told).await;

    world.restart_operator().await.unwrap();
    let second = world.namespace("team", &[(TEAM, "told")]).await.unwrap();
    until_holds(&world, &second, &Plan::of(&name)).await;
    until_status(&world, &name, "two are protected", |status| status.namespaces.protected == 2).await;
    assert_eq!(events_about(&world, &name).await, told, "that policies are written for a new namespace is no state");
}

#[tokio::test]
async fn a_watch_that_fails_for_more_than_a_minute_makes_ready_unknown_until_it_works_again() {
    let Some((mut world, proxy)) = behind_a_proxy().await else { return };
    let ns = world.namespace("team", &[]).await.unwrap();
    world.start_operator().await.unwrap();
    until_holds(&world, &ns, &Plan::of(PLATFORM)).await;
    until_ready(&world, PLATFORM).await;
    let of_opt_outs = |asked: &Asked| asked.verb == Verb::Watch && !asked.streams_a_list && asked.is_of("baselineoptouts");
    proxy.on(of_opt_outs, When::Always, Fault::Answer(503, Moment::Before));
    proxy.cut_watches();
    let fails = |status: &PolicyBaselineStatus| ready(status) == "Unknown WatchFailing";
    let status = until_status_within(&world, PLATFORM, "a watch fails", TIMEOUT + Duration::from_mins(1), fails).await;
    let message = condition(&status, "Ready").message;
    assert!(message.starts_with("watching baselineoptouts has failed for more than a minute"), "{message}");
    assert_eq!(condition(&status, "ExistingNamespacesClosed").status, "Unknown");
    until_counted(&world, PLATFORM, "watch_failing").await;
    // The work goes on meanwhile.
    let second = world.namespace("team", &[]).await.unwrap();
    until_holds(&world, &second, &Plan::of(PLATFORM)).await;

    proxy.calm();
    create(&world, &ns, &opt_out("partner", &["DefaultDenyEgress"], seconds_from_now(600))).await;
    until_ready(&world, PLATFORM).await;
}
