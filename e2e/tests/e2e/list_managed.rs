//! `policy-baseline list-managed`: everything that is ours is listed, and which policies no baseline plans.

use std::process::{Command, Output};

use kube::api::PostParams;
use policy_baseline_e2e::{Operator, SYSTEM_NAMESPACE, TIMEOUT, World, skipped_without_audit_log};
use serde_json::{Value, json};

use crate::admin_port::metrics_of;
use crate::repair::{PLATFORM, enforcing, protected};
use crate::scene::{DENY_INGRESS, Plan, apply_baseline, condition, policies_of, until_holds, until_ready, until_status};
use crate::support::{Writes, remove_baseline, stored, versions};

/// Runs a subcommand as admin.
pub async fn as_admin(world: &World, args: &[&str]) -> Output {
    let mut command = Command::new(Operator::binary().unwrap());
    command.args(args).env("NO_PROXY", "127.0.0.1,localhost").env("KUBECONFIG", world.plane().admin_kubeconfig());
    tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap()
}

/// The output of a subcommand that succeeds.
pub async fn succeeds(world: &World, args: &[&str]) -> String {
    let output = as_admin(world, args).await;
    assert_eq!(output.status.code(), Some(0), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The listed policies of a namespace: name, standing and state.
async fn listed(world: &World, namespace: &str, args: &[&str]) -> Vec<(String, String, String)> {
    let json: Value = serde_json::from_str(&succeeds(world, &[&["list-managed", "--output=json"], args].concat()).await).unwrap();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let policies = json["policies"].as_array().unwrap().iter().filter(|policy| policy["namespace"] == namespace);
    policies.map(|policy| (text(&policy["name"]), text(&policy["standing"]), text(&policy["state"]))).collect()
}

/// The names of the policies with a prefix, each with this standing and state.
fn all(prefix: &str, standing: &str, state: &str) -> Vec<(String, String, String)> {
    let suffixes = ["default-deny-egress", "default-deny-ingress", "monitoring-carveout"];
    suffixes.map(|suffix| (format!("{prefix}{suffix}"), standing.to_owned(), state.to_owned())).to_vec()
}

/// Waits until the metric counts so many orphans.
pub async fn until_orphans(world: &World, count: usize) {
    let line = format!("policy_baseline_orphaned_policies {count}\n");
    let counted = async || metrics_of(world).await.contains(&line);
    world.eventually(&format!("{count} orphans are counted"), TIMEOUT, counted).await.unwrap();
}

#[tokio::test]
async fn i1_after_a_change_of_prefix_nothing_of_the_old_one_is_left_uncounted() {
    let mut world = enforcing(&json!({})).await;
    let (ns, tenant) = protected(&world).await;
    assert_eq!(listed(&world, &ns, &[]).await, all("baseline-", "planned", "planned"));
    assert_eq!(listed(&world, &ns, &["--orphans"]).await, []);

    // A suspended baseline with another prefix: the operator leaves its former policies.
    let suspended = json!({ "suspend": true, "metadata": { "namePrefix": "new-" } });
    apply_baseline(&world, PLATFORM, &suspended).await;
    until_status(&world, PLATFORM, "suspended", |status| condition(status, "Ready").reason == "Suspended").await;
    let no_name = format!("left over: {PLATFORM} plans no policy of this name here; left as it is while {PLATFORM} is suspended");
    assert_eq!(listed(&world, &ns, &["--orphans"]).await, all("baseline-", "leftOver", &no_name));

    // A baseline with another name and prefix replaces it, while no operator runs: nobody removes the former policies.
    world.stop_operator().unwrap();
    remove_baseline(&world, PLATFORM).await;
    let successor = json!({ "existingNamespaces": "Enforce", "metadata": { "namePrefix": "new-" } });
    apply_baseline(&world, "successor", &successor).await;
    world.restart_operator().await.unwrap();
    let old = all("baseline-", "orphan", &format!("orphan: there is no baseline {PLATFORM}; nobody removes it"));
    let both = old.iter().fold(Plan::of("successor").prefix("new-"), |plan, (name, ..)| plan.beside(name));
    until_holds(&world, &ns, &both).await;
    let status = until_ready(&world, "successor").await;
    assert_eq!(status.namespaces.selected, status.namespaces.protected, "the status does not count them");
    until_orphans(&world, 3).await;
    assert_eq!(listed(&world, &ns, &["--orphans"]).await, old);
    assert_eq!(listed(&world, &ns, &[]).await, [old, all("new-", "planned", "planned")].concat());

    // One command removes them, and nothing else, also while the operator runs.
    let own =
        json!({ "metadata": { "name": "baseline-default-deny" }, "spec": { "podSelector": {}, "policyTypes": ["Ingress"] } });
    policies_of(&tenant, &ns).create(&PostParams::default(), &serde_json::from_value(own).unwrap()).await.unwrap();
    let before = stored(&world, &ns).await;
    let text = succeeds(&world, &["uninstall", "--orphans", "--yes"]).await;
    assert!(text.contains(&format!("deleted NetworkPolicy {ns}/{DENY_INGRESS}\n")) && text.contains("Done: 3 steps."), "{text}");
    let after = until_holds(&world, &ns, &Plan::of("successor").prefix("new-").beside("baseline-default-deny")).await;
    let (before, after) = (versions(&before), versions(&after));
    assert!(after.iter().all(|(name, version)| before[name] == *version), "{before:?} {after:?}");
    assert_eq!(listed(&world, &ns, &["--orphans"]).await, []);
    until_orphans(&world, 0).await;
}

#[tokio::test]
async fn listing_writes_nothing_and_the_operator_itself_may_do_it() {
    if skipped_without_audit_log() {
        return;
    }
    let mut world = enforcing(&json!({ "deletionPolicy": "Delete" })).await;
    let (ns, tenant) = protected(&world).await;
    until_ready(&world, PLATFORM).await;
    world.stop_operator().unwrap();
    let mut copy = policies_of(&tenant, &ns).get(DENY_INGRESS).await.unwrap();
    copy.metadata.uid = None;
    copy.metadata.resource_version = None;
    copy.metadata.name = Some("my-copy".to_owned());
    policies_of(&tenant, &ns).create(&PostParams::default(), &copy).await.unwrap();

    let writes = Writes::from_now(&world);
    let mut command = Command::new(Operator::binary().unwrap());
    command.arg("list-managed").env("NO_PROXY", "127.0.0.1,localhost").env("POD_NAMESPACE", SYSTEM_NAMESPACE);
    command.env("KUBECONFIG", world.operator_kubeconfig().await.unwrap());
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(writes.all(), []);
    assert!(!text.contains('\u{1b}'), "no colour in a pipe: {text}");
    let row = |of: &str| {
        let line = text.lines().find(|line| line.contains(of)).unwrap_or_else(|| panic!("no {of} in\n{text}"));
        line.split("   ").map(str::trim).filter(|cell| !cell.is_empty()).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(row(DENY_INGRESS), [&*ns, DENY_INGRESS, "DefaultDenyIngress", PLATFORM, "planned"]);
    assert!(
        row("my-copy")[4].starts_with("not the operator's: it has the operator's labels, but not the id for its name"),
        "{text}"
    );
    assert_eq!(row("PolicyBaseline")[1..], [PLATFORM, "has the finalizer policybaseline.io/delete-policies"]);
    assert_eq!(row("Lease")[1..], [SYSTEM_NAMESPACE, "policy-baseline", "nobody holds it"]);
    let only_looks_like_ours: Vec<_> =
        listed(&world, &ns, &["--orphans"]).await.into_iter().map(|(name, of, _)| (name, of)).collect();
    assert_eq!(only_looks_like_ours, [("my-copy".to_owned(), "notOurs".to_owned())]);
    for resource in ["validatingadmissionpolicies", "validatingadmissionpolicybindings"] {
        assert!(text.contains(&format!("not read: {resource}: not allowed to list them")), "{text}");
    }
}
