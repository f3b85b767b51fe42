//! Both halves of the carve-out: it allows traffic from the monitoring pods where they scrape, and out of the namespace where they run.

use kube::api::DeleteParams;
use policy_baseline_e2e::World;
use serde_json::{Value, json};

use crate::repair::{PLATFORM, enforcing};
use crate::samples::yaml_blocks;
use crate::scene::{
    CARVEOUT, DENY_EGRESS, DENY_INGRESS, Plan, apply_baseline, fence, merge, policies_of, until_event, until_holds, until_only,
    until_ready,
};
use crate::support::stored;

const SOURCE: &str = "baseline-monitoring-source";
const SECOND: &str = "baseline-monitoring-source-2";

fn source(app: &str) -> Value {
    json!({
        "namespaceSelector": { "matchLabels": { "monitors": "true" } }, "podSelector": { "matchLabels": { "app": app } },
    })
}

fn spec(egress: &str) -> Value {
    json!({
        "excludeNamespaces": ["unselected-*"],
        "monitoring": { "from": [source("prometheus"), source("vmagent")], "sourceEgress": egress, "ports": [{ "port": 9090 }] },
    })
}

async fn spec_of(world: &World, namespace: &str, policy: &str) -> Value {
    serde_json::to_value(&stored(world, namespace).await[policy].spec).unwrap()
}

#[tokio::test]
async fn egress_of_monitoring_pods_is_open_or_closed_but_for_scraping_as_the_baseline_says() {
    let world = enforcing(&spec("Open")).await;
    let monitoring = world.namespace("monitoring", &[("monitors", "true")]).await.unwrap();
    let unselected = world.namespace("unselected", &[("monitors", "true")]).await.unwrap();
    let team = world.namespace("team", &[]).await.unwrap();
    until_only(&world, &monitoring, &[CARVEOUT, DENY_INGRESS]).await;

    apply_baseline(&world, PLATFORM, &spec("Enforce")).await;
    until_only(&world, &monitoring, &[CARVEOUT, DENY_EGRESS, DENY_INGRESS, SECOND, SOURCE]).await;
    until_only(&world, &team, &[CARVEOUT, DENY_EGRESS, DENY_INGRESS]).await;
    until_ready(&world, PLATFORM).await;
    assert!(stored(&world, &unselected).await.is_empty());
    let ports = json!([{ "port": 9090, "protocol": "TCP" }]);
    let exposing = json!({ "matchLabels": { "monitoring.io/expose-metrics": "true" } });
    let dns = spec_of(&world, &team, DENY_EGRESS).await["egress"][0].clone();
    for (policy, app) in [(SOURCE, "prometheus"), (SECOND, "vmagent")] {
        let out = json!({
            "podSelector": { "matchLabels": { "app": app } }, "policyTypes": ["Egress"],
            "egress": [dns, { "to": [{ "namespaceSelector": {}, "podSelector": exposing }], "ports": ports }],
        });
        assert_eq!(spec_of(&world, &monitoring, policy).await, out);
    }

    // Three policies have that role there, so each is found by its name.
    let before = stored(&world, &monitoring).await;
    let admin = world.admin();
    merge(&policies_of(&admin, &monitoring), SECOND, "tenant", &json!({ "spec": { "egress": [{}] } })).await;
    policies_of(&admin, &monitoring).delete(SOURCE, &DeleteParams::default()).await.unwrap();
    for policy in [SOURCE, SECOND] {
        until_event(&world, &admin, &monitoring, "DriftRepaired", policy).await;
    }
    fence_beside(&world).await;
    let after = stored(&world, &monitoring).await;
    assert_eq!(after.keys().collect::<Vec<_>>(), before.keys().collect::<Vec<_>>());
    assert!(after.iter().all(|(name, policy)| policy.spec == before[name].spec), "{after:?}");

    apply_baseline(&world, PLATFORM, &spec("Open")).await;
    until_only(&world, &monitoring, &[CARVEOUT, DENY_INGRESS]).await;
    until_only(&world, &team, &[CARVEOUT, DENY_EGRESS, DENY_INGRESS]).await;
}

#[tokio::test]
async fn by_default_the_pods_of_prometheus_in_the_namespace_monitoring_may_scrape_by_either_of_two_labels() {
    let world = enforcing(&json!({})).await;
    let team = world.namespace("team", &[]).await.unwrap();
    until_only(&world, &team, &[CARVEOUT, DENY_EGRESS, DENY_INGRESS]).await;
    let peer = |key: &str| {
        json!({
            "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": "monitoring" } },
            "podSelector": { "matchLabels": { key: "prometheus" } },
        })
    };
    let ingress = &spec_of(&world, &team, CARVEOUT).await["ingress"];
    assert_eq!(ingress[0]["from"], json!([peer("app"), peer("app.kubernetes.io/name")]));
    assert_eq!(ingress.as_array().unwrap().len(), 1);
    // Both run there, so its egress is open.
    world.namespace_named("monitoring", &[]).await.unwrap();
    until_only(&world, "monitoring", &[CARVEOUT, DENY_INGRESS]).await;

    // Whoever names a source has only that one.
    let one = json!({ "monitoring": { "from": [source("vmagent")] } });
    apply_baseline(&world, PLATFORM, &one).await;
    until_only(&world, "monitoring", &[CARVEOUT, DENY_EGRESS, DENY_INGRESS]).await;
    until_ready(&world, PLATFORM).await;
    assert_eq!(spec_of(&world, &team, CARVEOUT).await["ingress"][0]["from"], json!([source("vmagent")]));
}

/// Returns when the operator has handled everything that happened before.
async fn fence_beside(world: &World) {
    let beside = json!({ "priority": 10, "namespaceSelector": { "matchLabels": { "beside": "true" } } });
    apply_baseline(world, "beside", &beside).await;
    fence(world, &Plan::of("beside"), &[("beside", "true")]).await;
}

#[tokio::test]
async fn the_page_about_monitoring_works_as_it_says() {
    let mut world = World::new().await.unwrap();
    let [baseline, inwards, outwards, own, ..] = &yaml_blocks(include_str!("../../../docs/monitoring.md"))[..] else {
        panic!("a baseline, both halves, and a policy of one's own")
    };
    world.namespace_named("monitoring", &[]).await.unwrap();
    let team = world.namespace("team", &[("monitoring.io/allow-scrape", "true")]).await.unwrap();
    let other = world.namespace("other", &[]).await.unwrap();
    world.apply_yaml(baseline).await.unwrap();
    world.apply_yaml(own).await.unwrap();
    world.start_operator().await.unwrap();
    until_only(&world, "monitoring", &[DENY_EGRESS, DENY_INGRESS, SOURCE, "prometheus-to-nodes"]).await;
    until_only(&world, &team, &[CARVEOUT, DENY_EGRESS, DENY_INGRESS]).await;
    until_only(&world, &other, &[DENY_EGRESS, DENY_INGRESS]).await;
    let yaml = |text: &str| serde_yaml::from_str::<Value>(text).unwrap();
    assert_eq!(spec_of(&world, &team, CARVEOUT).await, yaml(inwards));
    assert_eq!(spec_of(&world, "monitoring", SOURCE).await, yaml(outwards));
    until_holds(&world, &team, &carved()).await;
}

/// The plan of the page for a namespace that may be scraped.
fn carved() -> Plan {
    Plan::of("monitored").without("MonitoringCarveout").beside(CARVEOUT)
}
