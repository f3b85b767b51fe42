//! The pages of the docs are correct: every example is accepted, and the worked examples behave as described.

use std::path::Path;

use futures::future::join_all;
use policy_baseline::PolicyBaselineStatus;
use policy_baseline_e2e::World;
use serde::Deserialize;
use serde_json::Value;

use crate::samples::yaml_blocks;
use crate::scene::{Plan, condition, until_holds, until_ready, until_status};
use crate::support::a_second_later;

pub fn page(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(name)).unwrap()
}

/// Applies an example of a page by its number.
async fn apply_example(world: &World, of: &str, number: usize) {
    world.apply_yaml(&examples(&page(of))[number].to_string()).await.unwrap();
}

/// The manifests in a page of the docs: YAML blocks with a kind of Kubernetes. Other blocks are only fragments.
fn examples(page: &str) -> Vec<Value> {
    let mut found = Vec::new();
    for block in yaml_blocks(page) {
        for document in serde_yaml::Deserializer::from_str(&block) {
            let object = Value::deserialize(document).unwrap_or_else(|error| panic!("{error} in\n{block}"));
            if object["metadata"]["name"].is_string() {
                found.push(object);
            }
        }
    }
    found
}

#[tokio::test]
async fn every_example_of_the_docs_is_accepted_without_a_warning() {
    let world = World::new().await.unwrap();
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    let mut applied = 0;
    for page in std::fs::read_dir(&docs).unwrap().map(|f| f.unwrap().path()).filter(|p| p.extension().is_some_and(|e| e == "md"))
    {
        for object in examples(&std::fs::read_to_string(&page).unwrap()) {
            if let Some(namespace) = object["metadata"]["namespace"].as_str() {
                let _ = world.plane().kubectl().args(["create", "namespace", namespace]).output().unwrap();
            }
            let file = world.plane().state_dir().join("example.json");
            std::fs::write(&file, object.to_string()).unwrap();
            let output =
                world.plane().kubectl().args(["apply", "--server-side", "--force-conflicts", "-f"]).arg(&file).output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success() && said.is_empty(), "{}: {said}\n{object}", page.display());
            applied += 1;
        }
    }
    assert!(applied >= 4, "{applied}");
}

#[tokio::test]
async fn look_first_tells_what_would_be_closed_and_closes_what_is_new() {
    let mut world = World::new().await.unwrap();
    world.namespace_named("billing", &[("tier", "prod")]).await.unwrap();
    a_second_later(&world).await;
    apply_example(&world, "look-first.md", 0).await;
    world.start_operator().await.unwrap();
    world.namespace_named("orders", &[("tier", "prod")]).await.unwrap();
    let told =
        |status: &PolicyBaselineStatus| (status.namespaces.selected, status.namespaces.drifted, status.namespaces.reported);
    let status = until_status(&world, "trial", "one of each", |status| told(status) == (2, 1, 1)).await;
    assert_eq!(condition(&status, "Ready").reason, "Audited");
    let message = |of: &str| status.notices.iter().find(|n| n.namespace == of).unwrap().message.clone();
    let shown = page("look-first.md");
    assert!(shown.contains(&format!("orders\t{}\n", message("orders"))), "{}", message("orders"));
    let begins = "the namespace is older than the baseline and holds none of its policies; existingNamespaces: Enforce would create baseline-default-deny-ingress, ";
    assert!(shown.contains(&format!("billing\t{begins}")) && message("billing").starts_with(begins), "{}", message("billing"));

    apply_example(&world, "look-first.md", 1).await;
    until_holds(&world, "orders", &Plan::of("trial")).await;
    until_status(&world, "trial", "billing is reported", |status| told(status) == (2, 0, 1)).await;
    assert_eq!(world.policies("billing").await.unwrap(), []);
}

#[tokio::test]
async fn the_release_in_the_docs_waits_with_that_message() {
    let mut world = World::new().await.unwrap();
    apply_example(&world, "suspend-and-release.md", 0).await;
    world.start_operator().await.unwrap();
    let names = join_all((0..12).map(|_| world.namespace("held", &[("tier", "prod")]))).await;
    let names: Vec<String> = names.into_iter().map(Result::unwrap).collect();
    for ns in &names {
        until_holds(&world, ns, &Plan::of("platform")).await;
    }
    until_ready(&world, "platform").await;
    apply_example(&world, "suspend-and-release.md", 1).await;
    let is_held = |status: &PolicyBaselineStatus| condition(status, "Ready").reason == "AwaitingConfirmation";
    let status = until_status(&world, "platform", "the release waits", is_held).await;
    assert_eq!((status.namespaces.selected, status.namespaces.protected), (12, 0));
    let message = condition(&status, "Ready").message;
    assert!(page("suspend-and-release.md").contains(&message), "{message}");
    for ns in &names {
        until_holds(&world, ns, &Plan::of("platform")).await;
    }
}
