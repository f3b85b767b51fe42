//! The chart has the same content as the manifests of kustomize. Most templates are generated from these; this compares what comes out.

use std::fs;

use policy_baseline_e2e::{EVERYTHING, SYSTEM_NAMESPACE, World, repo};
use serde_json::{Value, json};

use super::{Objects, assert_same, objects, rendered};
use crate::docs::page;
use crate::samples::yaml_blocks;

/// The chart with the namespace, which the manifests have too.
const WITH_NAMESPACE: [&str; 3] = ["--namespace", SYSTEM_NAMESPACE, "--set=namespace.create=true"];

fn chart(world: &World, args: &[&str]) -> Objects {
    objects(&rendered(world, &[&WITH_NAMESPACE, args].concat()))
}

fn kustomized(world: &World, dir: &str) -> Objects {
    objects(&world.plane().run_kubectl(&["kustomize", dir]).unwrap())
}

/// The components, by the keys of their values and by the names of their folders.
fn components() -> Vec<(String, String)> {
    let folders = fs::read_dir(repo().join("manifests/components")).unwrap();
    let folders = folders.map(|folder| folder.unwrap().file_name().into_string().unwrap());
    folders
        .map(|folder| {
            let (first, rest) = folder.split_once('-').unwrap_or((&folder, ""));
            let rest: String = rest.split('-').filter(|w| !w.is_empty()).map(|w| w[..1].to_uppercase() + &w[1..]).collect();
            (format!("{first}{rest}"), folder.clone())
        })
        .collect()
}

#[tokio::test]
async fn the_chart_has_the_objects_of_the_default_manifests() {
    let world = World::bare().await.unwrap();
    assert_same(&chart(&world, &[]), &kustomized(&world, "manifests/default"), "default");
}

#[tokio::test]
async fn the_chart_has_the_objects_of_production_and_of_every_component_alone_and_of_all_together() {
    let world = World::bare().await.unwrap();
    let production = chart(&world, &["--values=manifests/helm/values-production.yaml"]);
    assert_same(&production, &kustomized(&world, "manifests/production"), "production");

    let components = components();
    assert_eq!(components.len(), 9);
    let on: Vec<String> = components.iter().map(|(key, _)| format!("--set=components.{key}.enabled=true")).collect();
    let all: Vec<&str> = on.iter().map(String::as_str).collect();
    assert_same(&chart(&world, &all), &kustomized(&world, EVERYTHING), "every component");
    for ((_, folder), on) in components.iter().zip(&all) {
        let kustomization = json!({ "resources": ["../../../../manifests/default"],
            "components": [format!("../../../../manifests/components/{folder}")] });
        assert_same(&chart(&world, &[on]), &build(&world, kustomization), folder);
    }
}

/// Builds a kustomization in a folder that is four folders below the repository.
fn build(world: &World, mut kustomization: Value) -> Objects {
    kustomization["apiVersion"] = "kustomize.config.k8s.io/v1beta1".into();
    kustomization["kind"] = "Kustomization".into();
    let dir = world.plane().state_dir().join("own");
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("kustomization.yaml"), kustomization.to_string()).unwrap();
    kustomized(world, dir.to_str().unwrap())
}

/// What a patch of the page sets, a value of the chart sets too.
#[tokio::test]
async fn every_setting_of_the_page_of_the_components_is_a_value_of_the_chart() {
    let world = World::bare().await.unwrap();
    let deny = json!({ "enabled": true, "validationActions": ["Deny"] });
    let settings = [
        (
            "optOutRules",
            json!({ "enabled": true, "maxDuration": "336h", "approverRequired": false,
            "allowedPolicies": ["DefaultDenyEgress", "MonitoringCarveout"] }),
        ),
        ("labelHygiene", deny.clone()),
        (
            "labelHygiene",
            json!({ "enabled": true, "controllers": ["system:serviceaccount:databases:postgres-operator"],
            "labels": ["app", "tier", "team", "app.kubernetes.io/name", "monitoring.io/expose-metrics"] }),
        ),
        ("labelHygiene", json!({ "enabled": true, "maxGracePeriod": 7200 })),
        ("requiredLabels", deny.clone()),
        ("requiredLabels", json!({ "enabled": true, "labels": ["app", "team"], "owner": "team-network, #ask-network" })),
        ("noHostNetwork", deny),
        (
            "noHostNetwork",
            json!({ "enabled": true, "matchExpressions": [],
            "exemptNamespaces": ["calico-system", "ingress-nginx", "monitoring"] }),
        ),
        ("noHostNetwork", json!({ "enabled": true, "serviceAccounts": ["monitoring/node-exporter"] })),
        ("noGap", json!({ "enabled": true, "exemptNamespaces": ["calico-system"] })),
        (
            "sanePolicies",
            json!({ "enabled": true, "validationActions": { "everything": ["Deny", "Audit"], "peers": ["Audit"] } }),
        ),
    ];
    // Each block of the page that patches one component. An exception for one controller of a cluster is no value.
    let blocks = yaml_blocks(&page("admission.md")).into_iter().filter(|block| block.contains("\npatches:"));
    let blocks = blocks.filter(|block| !block.contains("example:namespace-controller"));
    let of_page: Vec<Objects> = blocks
        .map(|block| build(&world, serde_yaml::from_str(&block.replace("../", "../../../../manifests/")).unwrap()))
        .collect();
    let mut of_chart = Vec::new();
    for (component, values) in &settings {
        let file = world.plane().state_dir().join("values.json");
        fs::write(&file, json!({ "components": { *component: values } }).to_string()).unwrap();
        of_chart.push(chart(&world, &["--values", file.to_str().unwrap()]));
    }
    assert_eq!(of_page.len(), of_chart.len(), "one entry for each patch of the page");
    for page in of_page {
        if !of_chart.contains(&page) {
            let like = of_chart.iter().find(|objects| objects.keys().eq(page.keys())).expect("the same component");
            assert_same(like, &page, "the page");
        }
    }
}
