//! `docs/restore.md`: a namespace from a backup, etcd from a snapshot, a new cluster from Git, and a move to another install. The commands are
//! those of the page.

use std::fs;

use kube::api::DeleteParams;
use policy_baseline_e2e::{Operator, World};
use serde_json::json;

use crate::docs::page;
use crate::helm;
use crate::opt_outs::{self, opt_out, seconds_from_now, until_says};
use crate::restore::{Backup, How};
use crate::samples::{commands_of, yaml_blocks};
use crate::scene::{Plan, apply_baseline, condition, until_holds, until_status};
use crate::support::{self, a_second_later, remove_baseline, shell};

mod backup;
mod moved;

const PAGE: &str = "restore.md";
/// The baseline of the page.
const DEFAULT: &str = "default";

/// The commands of a section of the page.
fn commands(section: &str) -> Vec<String> {
    commands_of(&page(PAGE), section)
}

/// Runs a command of the page as a person types it. Files that it names are those of the page.
fn run(world: &World, command: &str) -> String {
    let mut command = command.to_owned();
    for block in yaml_blocks(&page(PAGE)).into_iter().chain(yaml_blocks(&page("helm.md"))) {
        let Some(name) =
            block.lines().next().and_then(|line| line.strip_prefix("# ")).filter(|name| name.rsplit('.').next() == Some("yaml"))
        else {
            continue;
        };
        let file = world.plane().state_dir().join(name);
        command = command.replace(&format!(" {name}"), &format!(" {}", file.display()));
        fs::write(file, block).unwrap();
    }
    let shell = shell(world, &format!("helm() {{ \"$HELM\" \"$@\"; }}; PATH=\"$BIN:$PATH\"; {command}"));
    let binary = Operator::binary().unwrap();
    support::run(helm::as_admin(world, shell).env("HELM", helm::binary()).env("BIN", binary.parent().unwrap()))
}

#[tokio::test]
async fn no_section_of_the_page_has_commands_that_are_not_run() {
    let page = page(PAGE);
    let sections = page.split("\n## ").skip(1).map(|section| section.lines().next().unwrap());
    let with_commands: Vec<&str> = sections.filter(|section| !commands(section).is_empty()).collect();
    assert_eq!(with_commands, ["A namespace from a backup", "Etcd from a snapshot", "A new cluster from Git", "Another install"]);
}

#[tokio::test]
async fn after_a_restore_of_etcd_the_commands_of_the_page_say_that_all_is_well() {
    let mut world = World::new().await.unwrap();
    if world.plane().is_external() {
        return;
    }
    world.discard();
    world.start_operator_with(&["--lease-duration=3s"]).await.unwrap();
    apply_baseline(&world, DEFAULT, &json!({})).await;
    let ns = world.namespace("shop", &[]).await.unwrap();
    opt_outs::create(&world, &ns, &opt_out("partner", &["DefaultDenyEgress"], seconds_from_now(3_600))).await;
    let opened = Plan::of(DEFAULT).without("DefaultDenyEgress");
    until_holds(&world, &ns, &opened).await;
    until_says(&world, &ns, "partner", "True WithinLimits").await;
    let backup = Backup::take(&world).await;
    opt_outs::opt_outs(&world.admin(), &ns).delete("partner", &DeleteParams::default()).await.unwrap();
    until_holds(&world, &ns, &Plan::of(DEFAULT)).await;
    backup.restore(&world, How::Bumped).await;
    until_holds(&world, &ns, &opened).await;
    let [ready, in_force, orphans] = <[String; 3]>::try_from(commands("Etcd from a snapshot")).unwrap();
    run(&world, &ready);
    assert!(run(&world, &in_force).contains("partner"), "the deleted opt-out is back");
    assert!(run(&world, &orphans).starts_with("0 policies in 0 namespaces"));
}

#[tokio::test]
async fn a_new_cluster_closes_the_namespaces_from_git_whatever_came_first() {
    for namespaces_first in [true, false] {
        let mut world = World::empty().await.unwrap();
        if world.plane().is_external() {
            return;
        }
        if namespaces_first {
            world.namespace_named("shop", &[]).await.unwrap();
            a_second_later(&world).await;
        }
        let [install, crds, baseline, ready] = <[String; 4]>::try_from(commands("A new cluster from Git")).unwrap();
        run(&world, &install);
        run(&world, &crds);
        world.wait_for_crds().await.unwrap();
        if namespaces_first {
            // What the page warns of: with the default, the namespace stays open.
            apply_baseline(&world, "careless", &json!({})).await;
            world.start_operator().await.unwrap();
            let is_open = |status: &policy_baseline::PolicyBaselineStatus| {
                condition(status, "Ready").reason == "ExistingNamespacesOnlyReported" && status.namespaces.reported >= 1
            };
            until_status(&world, "careless", "it stays open", is_open).await;
            assert_eq!(world.policies("shop").await.unwrap(), []);
            remove_baseline(&world, "careless").await;
            run(&world, &baseline);
        } else {
            run(&world, &baseline);
            world.namespace_named("shop", &[]).await.unwrap();
            world.start_operator().await.unwrap();
        }
        until_holds(&world, "shop", &Plan::of(DEFAULT)).await;
        run(&world, &ready);
    }
}
