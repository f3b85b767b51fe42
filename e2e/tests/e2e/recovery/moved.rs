//! A move to another namespace and name, by Helm.

use std::collections::BTreeMap;

use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::DeleteParams;
use policy_baseline::PolicyBaselineStatus;
use policy_baseline_e2e::{Operator, SERVICE_ACCOUNT, SYSTEM_NAMESPACE, TIMEOUT, World};
use serde_json::json;

use super::{DEFAULT, commands, run};
use crate::admission::protect;
use crate::docs::page;
use crate::samples;
use crate::scene::{DENY_INGRESS, Plan, apply_baseline, condition, policies_of, until_holds, until_status};
use crate::support::{stored, versions};

/// The operator of a release. The Deployment has no nodes to run on here.
async fn start(world: &World, namespace: &str) -> Operator {
    let kubeconfig = world.plane().service_account_kubeconfig(namespace, SERVICE_ACCOUNT).await.unwrap();
    Operator::start(
        world.plane(),
        &kubeconfig,
        &["--lease-duration=3s"],
        &[("POD_NAMESPACE", namespace), ("POD_NAME", namespace)],
    )
    .unwrap()
}

#[tokio::test]
async fn an_install_moves_to_another_namespace_and_name_and_no_policy_is_touched() {
    let world = World::empty().await.unwrap();
    if world.plane().is_external() {
        return;
    }
    let install = helm_install();
    run(&world, &install);
    world.wait_for_crds().await.unwrap();
    apply_baseline(&world, DEFAULT, &json!({ "existingNamespaces": "Enforce" })).await;
    let mut old = start(&world, SYSTEM_NAMESPACE).await;
    let ns = world.namespace("shop", &[]).await.unwrap();
    let before = versions_of(&until_holds(&world, &ns, &Plan::of(DEFAULT)).await);

    let all = commands("Another install");
    let [ready, off, next, stop, create, wait, delete, uninstall, gone, on] = <[String; 10]>::try_from(all).unwrap();
    run(&world, &ready);
    run(&world, &off);
    run(&world, &next);
    let waits = start(&world, "next-system").await;
    let elder = "an older install of policy-baseline runs in namespace policy-baseline-system";
    world.eventually("the new one waits", TIMEOUT, async || waits.log().contains(elder)).await.unwrap();
    run(&world, &stop);
    assert_eq!(old.stop().unwrap(), 0);
    run(&world, &create);
    run(&world, &wait);
    until_holds(&world, "move-test", &Plan::of(DEFAULT)).await;
    run(&world, &delete);
    run(&world, &uninstall);
    run(&world, &gone);
    run(&world, &on);
    let policies = policies_of(&world.admin(), &ns);
    let dry = DeleteParams { dry_run: true, ..DeleteParams::default() };
    let is_refused = async || match policies.delete(DENY_INGRESS, &dry).await {
        Err(refused) if refused.to_string().contains("'next-protect-") => Ok(true),
        other => Err(format!("{other:?}")),
    };
    world.eventually("protect knows the new operator", TIMEOUT, is_refused).await.unwrap();
    let late = world.namespace("late", &[]).await.unwrap();
    until_holds(&world, &late, &Plan::of(DEFAULT)).await;
    assert_eq!(versions_of(&stored(&world, &ns).await), before, "no policy is touched");
}

#[tokio::test]
async fn with_protect_of_the_old_install_left_on_the_new_one_cannot_write_and_says_so() {
    let world = World::empty().await.unwrap();
    if world.plane().is_external() {
        return;
    }
    run(&world, &helm_install());
    world.wait_for_crds().await.unwrap();
    world.eventually("protect is in force", TIMEOUT, async || protect::is_in_force(&world).await).await.unwrap();
    apply_baseline(&world, DEFAULT, &json!({})).await;
    let next = commands("Another install").into_iter().find(|command| command.starts_with("helm install next ")).unwrap();
    run(&world, &next);
    let _operator = start(&world, "next-system").await;
    let ns = world.namespace("shop", &[]).await.unwrap();
    let denied = |status: &PolicyBaselineStatus| {
        condition(status, "Ready").reason == "WritesFailing"
            && status.violations.iter().any(|found| found.namespace == ns && json!(found.reason) == "DeniedByAdmission")
    };
    until_status(&world, DEFAULT, "the writes are denied", denied).await;
    assert_eq!(world.policies(&ns).await.unwrap(), []);
}

/// The command of docs/helm.md that installs what `manifests/production` installs.
fn helm_install() -> String {
    samples::commands(&page("helm.md")).into_iter().find(|command| command.starts_with("helm install ")).unwrap()
}

fn versions_of(policies: &BTreeMap<String, NetworkPolicy>) -> BTreeMap<String, (String, String)> {
    versions(policies).into_iter().map(|(name, version)| (name.to_owned(), version)).collect()
}
