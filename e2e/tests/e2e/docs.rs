//! The pages of the docs are correct: every example is accepted, and the worked examples behave as described.

use std::path::PathBuf;

use futures::future::join_all;
use kube::ResourceExt;
use policy_baseline::PolicyBaselineStatus;
use policy_baseline_e2e::{World, repo};
use serde::Deserialize;
use serde_json::Value;

use crate::samples::yaml_blocks;
use crate::scene::{
    CARVEOUT, DENY_EGRESS, DENY_INGRESS, Plan, condition, policies_of, until_holds, until_only, until_ready, until_status,
};
use crate::support::{a_second_later, shell};

/// Every page, also those in folders.
fn pages() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![repo().join("docs")];
    while let Some(folder) = open.pop() {
        for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                found.push(path);
            }
        }
    }
    found
}

pub fn page(name: &str) -> String {
    std::fs::read_to_string(repo().join("docs").join(name)).unwrap()
}

/// Applies an example of a page by its number. Waits for the next second, so that a namespace that is created then is newer
/// than a baseline of the example, whoever sees it first.
async fn apply_example(world: &World, of: &str, number: usize) {
    world.apply_yaml(&examples(&page(of))[number].to_string()).await.unwrap();
}

/// Runs the command of a page that begins like this. Returns what it printed.
fn run_command(world: &World, of: &str, begins: &str) -> String {
    let text = page(of);
    let command = text.lines().map(|line| line.trim_start_matches("$ ")).find(|line| line.starts_with(begins));
    let command = command.unwrap_or_else(|| panic!("{of} has no command {begins}"));
    let output = shell(world, command).output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
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
    let mut applied = 0;
    for page in pages() {
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
    assert!(applied >= 20, "{applied}");
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
async fn the_release_in_the_docs_waits_with_that_message_until_the_command_confirms_it() {
    const RELEASE: &str = "suspend-and-release.md";
    let mut world = World::new().await.unwrap();
    apply_example(&world, RELEASE, 0).await;
    world.start_operator().await.unwrap();
    let names = join_all((0..12).map(|_| world.namespace("held", &[("tier", "prod")]))).await;
    let names: Vec<String> = names.into_iter().map(Result::unwrap).collect();
    for ns in &names {
        until_holds(&world, ns, &Plan::of("platform")).await;
    }
    until_ready(&world, "platform").await;
    apply_example(&world, RELEASE, 1).await;
    let is_held = |status: &PolicyBaselineStatus| condition(status, "Ready").reason == "AwaitingConfirmation";
    let status = until_status(&world, "platform", "the release waits", is_held).await;
    assert_eq!((status.namespaces.selected, status.namespaces.protected), (12, 0));
    let message = condition(&status, "Ready").message;
    assert!(page(RELEASE).contains(&message), "{message}");
    assert_eq!(run_command(&world, RELEASE, "kubectl get pb platform -o jsonpath"), message);
    // Every column but the age, and the message as far as the page shows it.
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let shown = page(RELEASE);
    let shown = words(shown.lines().find(|line| line.starts_with("platform ")).unwrap().trim_end_matches('…'));
    let printed = words(run_command(&world, RELEASE, "kubectl get pb platform -o wide").lines().last().unwrap());
    assert_eq!((&printed[..8], &printed[9..shown.len()]), (&shown[..8], &shown[9..]), "{printed:?}");
    for ns in &names {
        until_holds(&world, ns, &Plan::of("platform")).await;
    }

    run_command(&world, RELEASE, "kubectl annotate pb platform");
    for ns in &names {
        until_only(&world, ns, &[]).await;
    }
}

#[tokio::test]
async fn the_allows_in_the_docs_become_policies_where_the_page_says() {
    const PAGE: &str = "allows.md";
    let mut world = World::new().await.unwrap();
    apply_example(&world, PAGE, 0).await;
    world.start_operator().await.unwrap();
    let prod = world.namespace("prod", &[("tier", "prod")]).await.unwrap();
    let other = world.namespace("other", &[]).await.unwrap();
    let [same, web, api] =
        ["same-namespace", "ingress-controller", "kubernetes-api"].map(|name| format!("baseline-allow-{name}"));
    until_only(&world, &prod, &[DENY_INGRESS, DENY_EGRESS, CARVEOUT, &same, &web, &api]).await;
    until_only(&world, &other, &[DENY_INGRESS, DENY_EGRESS, CARVEOUT, &same, &api]).await;
    let found = policies_of(&world.admin(), &prod).get(&web).await.unwrap();
    for (key, value) in [("policybaseline.io/role", "Allow"), ("policybaseline.io/allow", "ingress-controller")] {
        assert_eq!(found.labels()[key], value);
        assert!(page(PAGE).contains(key), "{key}");
    }
    until_ready(&world, "platform").await;
    let is_found = |status: &PolicyBaselineStatus| status.kubernetes_api.as_ref().is_some_and(|api| !api.found.is_empty());
    let status = until_status(&world, "platform", "where the API server is", is_found).await;
    let found = status.kubernetes_api.unwrap().found;
    let lines: Vec<String> = found.iter().map(|found| format!("{}\t{}", found.source, found.what)).collect();
    let printed = run_command(&world, PAGE, "kubectl get policybaseline platform -o jsonpath");
    assert_eq!(printed.lines().collect::<Vec<_>>(), lines);
}
