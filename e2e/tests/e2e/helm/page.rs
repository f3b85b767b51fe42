//! The commands of `docs/helm.md` work, in the order of the page.

use std::fs;

use policy_baseline_e2e::World;
use serde_json::json;

use super::{as_admin, binary};
use crate::docs::page;
use crate::repair::PLATFORM;
use crate::samples::{commands_of, yaml_blocks};
use crate::scene::{apply_baseline, baselines};
use crate::support::shell;

/// The commands of a section of the page.
fn commands(section: &str) -> Vec<String> {
    commands_of(&page("helm.md"), section)
}

/// Runs each command of a section as a person types it, with the values of the page in a file.
fn run(world: &World, section: &str) -> String {
    let values = yaml_blocks(&page("helm.md")).into_iter().find(|block| block.starts_with("# my-values.yaml\n")).unwrap();
    let file = world.plane().state_dir().join("my-values.yaml");
    fs::write(&file, values).unwrap();
    let all = commands(section);
    assert!(!all.is_empty(), "{section}");
    let mut printed = String::new();
    for command in all {
        let command = command.replace("my-values.yaml", file.to_str().unwrap());
        let shell = shell(world, &format!("helm() {{ \"$HELM\" \"$@\"; }}; {command}"));
        let output = as_admin(world, shell).env("HELM", binary()).output().unwrap();
        assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
        printed += &String::from_utf8(output.stdout).unwrap();
    }
    printed
}

#[tokio::test]
async fn the_commands_of_the_page_install_upgrade_roll_back_and_remove_the_operator() {
    let world = World::empty().await.unwrap();
    if world.plane().is_external() {
        return;
    }
    let said = run(&world, "Install");
    assert!(!said.contains("kubectl label namespace"), "the namespace has its labels: {said}");
    world.wait_for_crds().await.unwrap();
    apply_baseline(&world, PLATFORM, &json!({})).await;
    let before = baselines(&world).get(PLATFORM).await.unwrap();
    run(&world, "Upgrade");
    run(&world, "Roll back");
    assert_eq!(baselines(&world).get(PLATFORM).await.unwrap(), before);

    let last = commands("Uninstall").pop().unwrap();
    assert!(last.starts_with("kubectl delete crd "), "{last}");
    let said = run(&world, "Uninstall");
    assert!(said.contains("uninstalled"), "{said}");
    assert!(baselines(&world).get(PLATFORM).await.is_err(), "without the CRD there is no baseline");
}

#[tokio::test]
async fn the_command_of_the_page_takes_over_an_install_by_kustomize() {
    let world = World::empty().await.unwrap();
    if world.plane().is_external() {
        return;
    }
    world.plane().run_kubectl(&["apply", "--server-side", "-k", "manifests/production"]).unwrap();
    run(&world, "Move from kustomize");
}

#[tokio::test]
async fn no_section_of_the_page_has_commands_that_are_not_run() {
    let page = page("helm.md");
    let sections = page.split("\n## ").skip(1).map(|section| section.lines().next().unwrap());
    let with_commands: Vec<&str> = sections.filter(|section| !commands(section).is_empty()).collect();
    assert_eq!(with_commands, ["Install", "Upgrade", "Roll back", "Uninstall", "Move from kustomize"]);
}
