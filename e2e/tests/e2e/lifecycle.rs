//! What happens to policies when their baseline changes or is deleted, when the CRD is deleted, when a namespace is deleted, when the
//! operator stops.
//! One file: the tests share their scene.

use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use policy_baseline_e2e::{AuditEntry, TIMEOUT, World, skipped_without_audit_log};
use serde_json::{Value, json};

use crate::opt_outs;
use crate::release::confirm;
use crate::scene::{
    CARVEOUT, DENY_INGRESS, Plan, apply_baseline, baseline, baselines, condition, delete_baseline, events, policies_of,
    until_holds, until_only, until_ready, until_status, until_status_within,
};
use crate::support::{
    History, TEAM, Writes, a_second_later, fence_of_its_own, namespaces, remove_baseline, roles, stored, team, uids,
    until_no_baseline, versions,
};

const FINALIZER: &str = "policybaseline.io/delete-policies";
const CRD: &str = "policybaselines.policybaseline.io";
const NO_CRD: &str = "the API server does not know policybaselines";

// A baseline that changes.

#[tokio::test]
async fn every_namespace_follows_an_edited_baseline_in_place() {
    let mut world = World::new().await.unwrap();
    world.start_operator().await.unwrap();
    apply_baseline(&world, "platform", &json!({ "namespaceSelector": team("a") })).await;
    until_ready(&world, "platform").await;
    let mut all = Vec::new();
    for _ in 0..5 {
        all.push(world.namespace("follows", &[(TEAM, "a")]).await.unwrap());
    }
    let plan = Plan::of("platform");
    let mut before = Vec::new();
    for ns in &all {
        before.push(until_holds(&world, ns, &plan).await);
    }

    let labels = json!({ "labels": { "example.com/owner": "security" } });
    let spec = json!({ "namespaceSelector": team("a"), "dns": { "ports": [5353] }, "metadata": labels });
    apply_baseline(&world, "platform", &spec).await;
    let more = plan.clone().dns_port(5353).label("example.com/owner", "security");
    for (ns, before) in all.iter().zip(&before) {
        assert_eq!(uids(&until_holds(&world, ns, &more).await), uids(before), "{ns}");
    }
    let status = until_status(&world, "platform", "five are protected", |status| status.namespaces.protected == 5).await;
    assert_eq!(condition(&status, "Ready").status, "True");

    // Then back again. Fields that the baseline no longer sets are removed from the objects.
    apply_baseline(&world, "platform", &json!({ "namespaceSelector": team("a") })).await;
    for (ns, before) in all.iter().zip(&before) {
        let now = until_holds(&world, ns, &plan).await;
        assert_eq!(uids(&now), uids(before), "{ns}");
        assert!(now.values().all(|policy| !policy.labels().contains_key("example.com/owner")), "{ns}");
    }
    let status = until_ready(&world, "platform").await;
    assert_eq!(status.recent_drift, [], "an edit is no drift");
}

#[tokio::test]
async fn a_status_speaks_of_an_edit_that_changes_nothing_in_any_namespace() {
    let mut world = World::new().await.unwrap();
    world.start_operator().await.unwrap();
    apply_baseline(&world, "platform", &json!({ "namespaceSelector": team("a") })).await;
    let ns = world.namespace("same", &[(TEAM, "a")]).await.unwrap();
    let before = until_holds(&world, &ns, &Plan::of("platform")).await;
    let first = until_status(&world, "platform", "one is protected", |status| status.namespaces.protected == 1).await;

    // Tools wait until the status is for the generation that they wrote.
    apply_baseline(&world, "platform", &json!({ "namespaceSelector": team("a"), "excludeNamespaces": ["nobody"] })).await;
    let second = until_ready(&world, "platform").await;
    assert!(second.observed_generation > first.observed_generation);
    assert!(second.effective_selector.contains("nobody"), "{}", second.effective_selector);
    assert_eq!(versions(&stored(&world, &ns).await), versions(&before));
}

#[tokio::test]
async fn a_role_that_is_removed_takes_its_policy_along_and_no_other() {
    let mut world = World::new().await.unwrap();
    world.start_operator().await.unwrap();
    apply_baseline(&world, "platform", &json!({ "namespaceSelector": team("a") })).await;
    let ns = world.namespace("roles", &[(TEAM, "a")]).await.unwrap();
    let plan = Plan::of("platform");
    let all = until_holds(&world, &ns, &plan).await;

    let two = json!({ "namespaceSelector": team("a"), "policies": ["DefaultDenyIngress", "DefaultDenyEgress"] });
    apply_baseline(&world, "platform", &two).await;
    let left = until_holds(&world, &ns, &plan.clone().without("MonitoringCarveout")).await;
    let mut wanted = versions(&all);
    wanted.remove("baseline-monitoring-carveout");
    assert_eq!(versions(&left), wanted);

    apply_baseline(&world, "platform", &json!({ "namespaceSelector": team("a") })).await;
    until_holds(&world, &ns, &plan).await;
}

#[tokio::test]
async fn i1_a_new_prefix_leaves_no_moment_without_a_policy_of_each_role() {
    let mut world = World::new().await.unwrap();
    world.start_operator().await.unwrap();
    apply_baseline(&world, "platform", &json!({ "namespaceSelector": team("a") })).await;
    let ns = world.namespace("prefix", &[(TEAM, "a")]).await.unwrap();
    until_holds(&world, &ns, &Plan::of("platform")).await;

    let history = History::record(&world, &ns).await;
    for prefix in ["pci-", "baseline-"] {
        let spec = json!({ "namespaceSelector": team("a"), "metadata": { "namePrefix": prefix } });
        apply_baseline(&world, "platform", &spec).await;
        until_holds(&world, &ns, &Plan::of("platform").prefix(prefix)).await;
    }
    let moments = history.moments().await;
    assert!(moments.len() > 12, "three come and three go, twice: {}", moments.len());
    for moment in &moments {
        assert_eq!(roles(moment).len(), 3, "{:?}", moment.keys());
    }
}

// A baseline that is deleted.

#[tokio::test]
async fn i10_an_orphaning_baseline_leaves_its_policies_also_when_the_operator_starts_again() {
    if skipped_without_audit_log() {
        return;
    }
    let mut world = World::new().await.unwrap();
    world.start_operator().await.unwrap();
    apply_baseline(&world, "platform", &json!({ "namespaceSelector": team("a") })).await;
    let ns = world.namespace("orphans", &[(TEAM, "a")]).await.unwrap();
    let before = until_holds(&world, &ns, &Plan::of("platform")).await;
    let object = baselines(&world).get("platform").await.unwrap();
    assert_eq!(object.finalizers(), [""; 0], "nothing to wait for");

    let writes = Writes::from_now(&world);
    remove_baseline(&world, "platform").await;
    fence_of_its_own(&world).await;
    world.restart_operator().await.unwrap();
    fence_of_its_own(&world).await;
    assert_eq!(versions(&stored(&world, &ns).await), versions(&before));
    assert_eq!(writes.inside(&ns), []);
    assert_eq!(writes.deletes(), []);
}

#[tokio::test]
async fn a_deleting_baseline_goes_after_its_policies() {
    if skipped_without_audit_log() {
        return;
    }
    let mut world = World::new().await.unwrap();
    world.start_operator().await.unwrap();
    apply_baseline(&world, "platform", &json!({ "namespaceSelector": team("a"), "deletionPolicy": "Delete" })).await;
    until_finalizers(&world, "platform", &[FINALIZER]).await;
    // More namespaces than the operator writes to at the same time.
    let mut all = Vec::new();
    for _ in 0..20 {
        all.push(world.namespace("emptied", &[(TEAM, "a")]).await.unwrap());
    }
    let own = json!({ "metadata": { "name": "tenants-own" }, "spec": { "podSelector": {} } });
    for ns in &all {
        until_holds(&world, ns, &Plan::of("platform")).await;
        policies_of(&world.admin(), ns)
            .create(&PostParams::default(), &serde_json::from_value(own.clone()).unwrap())
            .await
            .unwrap();
    }

    // The deletion is its second generation, and would wait for this confirmation.
    confirm(&world, "platform", 2).await;
    // The operator does not write a finalizer again within a second. That must not be the reason why the baseline still exists.
    for _ in 0..2 {
        a_second_later(&world).await;
    }
    let writes = Writes::from_now(&world);
    remove_baseline(&world, "platform").await;
    for ns in &all {
        assert_eq!(stored(&world, ns).await.keys().collect::<Vec<_>>(), ["tenants-own"], "{ns}");
    }
    // A status that is stored just before makes the first attempt a conflict.
    let is_it = |write: &AuditEntry| write.resource == "policybaselines" && write.subresource.is_empty() && write.code != 409;
    let freed = async || writes.all().into_iter().find(is_it);
    let freed = world.eventually("the audit log tells of the finalizer", TIMEOUT, freed).await.unwrap();
    let deletes = writes.deletes();
    assert_eq!((deletes.len(), freed.code), (3 * all.len(), 200), "{deletes:#?}");
    assert!(deletes.iter().all(|delete| delete.timestamp < freed.timestamp), "{deletes:#?}\n{freed:#?}");
}

#[tokio::test]
async fn a_deleting_baseline_stays_while_a_finalizer_holds_one_of_its_policies() {
    const HELD: &str = "example.com/held";
    let mut world = World::new().await.unwrap();
    world.start_operator().await.unwrap();
    apply_baseline(&world, "platform", &json!({ "namespaceSelector": team("a"), "deletionPolicy": "Delete" })).await;
    until_finalizers(&world, "platform", &[FINALIZER]).await;
    let ns = world.namespace("held", &[(TEAM, "a")]).await.unwrap();
    until_holds(&world, &ns, &Plan::of("platform")).await;
    let api = policies_of(&world.admin(), &ns);
    let hold = |finalizers: &[&str]| Patch::Merge(json!({ "metadata": { "finalizers": finalizers } }));
    api.patch(DENY_INGRESS, &PatchParams::default(), &hold(&[HELD])).await.unwrap();
    delete_baseline(&world, "platform").await;

    let waits = |status: &policy_baseline::PolicyBaselineStatus| {
        condition(status, "Ready").message.contains("2 of its policies are still to be removed")
    };
    // As long as it denies, what lets something through stays.
    until_status(&world, "platform", "it says that two policies are left", waits).await;
    assert_eq!(stored(&world, &ns).await.keys().collect::<Vec<_>>(), [DENY_INGRESS, CARVEOUT]);
    // After a minute the baseline says which finalizer it waits for.
    let names_it = |status: &policy_baseline::PolicyBaselineStatus| {
        status.violations.iter().any(|v| v.policy.as_deref() == Some(DENY_INGRESS) && v.message.contains(HELD))
    };
    until_status_within(&world, "platform", "it names the finalizer", TIMEOUT * 4, names_it).await;
    api.patch(DENY_INGRESS, &PatchParams::default(), &hold(&[])).await.unwrap();
    until_no_baseline(&world, "platform").await;
    assert!(stored(&world, &ns).await.is_empty());
}

#[tokio::test]
async fn i1_what_a_deleted_baseline_leaves_open_is_only_reported_by_the_next_one_also_after_a_restart() {
    let mut world = World::new().await.unwrap();
    world.start_operator().await.unwrap();
    apply_baseline(&world, "platform", &json!({ "namespaceSelector": team("a"), "deletionPolicy": "Delete" })).await;
    until_finalizers(&world, "platform", &[FINALIZER]).await;
    let closed = world.namespace("closed", &[(TEAM, "a")]).await.unwrap();
    let without = world.namespace("without", &[(TEAM, "a")]).await.unwrap();
    until_holds(&world, &closed, &Plan::of("platform")).await;
    // One namespace has opted out of everything for a day, and its opt-out outlives the baseline.
    let all = ["DefaultDenyIngress", "DefaultDenyEgress", "MonitoringCarveout"];
    opt_outs::create(&world, &without, &opt_outs::opt_out("all", &all, opt_outs::seconds_from_now(86_400))).await;
    opt_outs::until_says(&world, &without, "all", "True WithinLimits").await;
    until_only(&world, &without, &[]).await;
    remove_baseline(&world, "platform").await;
    until_only(&world, &closed, &[]).await;
    opt_outs::until_says(&world, &without, "all", "False NoBaseline").await;
    // Times are stored in whole seconds.
    a_second_later(&world).await;

    apply_baseline(&world, "next", &json!({ "namespaceSelector": team("a") })).await;
    until_status(&world, "next", "both are reported", |status| status.namespaces.reported == 2).await;
    opt_outs::until_says(&world, &without, "all", "False ExistingNamespace").await;
    world.restart_operator().await.unwrap();
    fence_of_its_own(&world).await;
    let status = until_ready(&world, "next").await;
    assert_eq!((status.namespaces.reported, status.namespaces.protected), (2, 0));
    for ns in [&closed, &without] {
        until_only(&world, ns, &[]).await;
    }
    // When the spec says `Enforce`, the operator closes the namespace that has no exception.
    let spec = json!({ "namespaceSelector": team("a"), "existingNamespaces": "Enforce" });
    apply_baseline(&world, "next", &spec).await;
    until_holds(&world, &closed, &Plan::of("next")).await;
    opt_outs::until_says(&world, &without, "all", "True WithinLimits").await;
}

#[tokio::test]
async fn the_namespaces_of_a_deleted_winner_go_to_the_next_baseline_without_a_gap() {
    let mut world = World::new().await.unwrap();
    world.start_operator().await.unwrap();
    let winner = |of: &str, metadata: &Value| json!({ "namespaceSelector": team(of), "priority": 10, "deletionPolicy": "Delete", "metadata": metadata });
    apply_baseline(&world, "strict", &winner("a", &json!({ "namePrefix": "strict-" }))).await;
    apply_baseline(&world, "same-names", &winner("b", &json!({}))).await;
    let teams = json!({ "matchExpressions": [{ "key": TEAM, "operator": "In", "values": ["a", "b"] }] });
    apply_baseline(&world, "next", &json!({ "namespaceSelector": teams })).await;
    for name in ["strict", "same-names"] {
        until_finalizers(&world, name, &[FINALIZER]).await;
    }
    let a = world.namespace("a", &[(TEAM, "a")]).await.unwrap();
    let b = world.namespace("b", &[(TEAM, "b")]).await.unwrap();
    until_holds(&world, &a, &Plan::of("strict").prefix("strict-")).await;
    let of_winner = until_holds(&world, &b, &Plan::of("same-names")).await;
    until_status(&world, "next", "two are shadowed", |status| status.namespaces.shadowed == 2).await;

    let histories = [History::record(&world, &a).await, History::record(&world, &b).await];
    for name in ["strict", "same-names"] {
        remove_baseline(&world, name).await;
    }
    // Checked at once, without waiting: a winner is deleted only after the next baseline has taken over.
    for ns in [&a, &b] {
        Plan::of("next").compare(&world.policies(ns).await.unwrap()).unwrap();
    }
    assert_eq!(uids(&stored(&world, &b).await), uids(&of_winner));
    for history in histories {
        let moments = history.moments().await;
        assert!(moments.len() > 3, "{}", moments.len());
        for moment in &moments {
            assert_eq!(roles(moment).len(), 3, "{:?}", moment.keys());
        }
    }
    let status = until_status(&world, "next", "two are protected", |status| status.namespaces.protected == 2).await;
    assert_eq!((status.namespaces.shadowed, status.recent_drift), (0, vec![]));
}

#[tokio::test]
async fn the_finalizer_is_there_only_while_the_deletion_policy_is_delete() {
    const FOREIGN: &str = "e2e.policybaseline.io/keep";
    if skipped_without_audit_log() {
        return;
    }
    let mut world = World::new().await.unwrap();
    world.start_operator().await.unwrap();
    let spec = |policy: &str| json!({ "namespaceSelector": team("a"), "deletionPolicy": policy });
    apply_baseline(&world, "platform", &spec("Delete")).await;
    let ns = world.namespace("kept", &[(TEAM, "a")]).await.unwrap();
    let before = until_holds(&world, &ns, &Plan::of("platform")).await;
    until_finalizers(&world, "platform", &[FINALIZER]).await;

    // The operator leaves a finalizer of somebody else alone.
    set_finalizers(&world, "platform", &[FOREIGN, FINALIZER]).await;
    apply_baseline(&world, "platform", &spec("Orphan")).await;
    until_finalizers(&world, "platform", &[FOREIGN]).await;
    apply_baseline(&world, "platform", &spec("Delete")).await;
    until_finalizers(&world, "platform", &[FOREIGN, FINALIZER]).await;
    apply_baseline(&world, "platform", &spec("Orphan")).await;
    until_finalizers(&world, "platform", &[FOREIGN]).await;

    let writes = Writes::from_now(&world);
    delete_baseline(&world, "platform").await;
    fence_of_its_own(&world).await;
    set_finalizers(&world, "platform", &[]).await;
    until_no_baseline(&world, "platform").await;
    fence_of_its_own(&world).await;
    assert_eq!(writes.inside(&ns), []);
    assert_eq!(versions(&stored(&world, &ns).await), versions(&before));
}

#[tokio::test]
async fn a_baseline_that_is_being_deleted_may_still_be_told_to_orphan() {
    const FOREIGN: &str = "e2e.policybaseline.io/keep";
    let mut world = World::new().await.unwrap();
    world.start_operator().await.unwrap();
    let spec = |policy: &str| json!({ "namespaceSelector": team("a"), "deletionPolicy": policy });
    apply_baseline(&world, "platform", &spec("Delete")).await;
    let ns = world.namespace("kept", &[(TEAM, "a")]).await.unwrap();
    let before = until_holds(&world, &ns, &Plan::of("platform")).await;
    until_finalizers(&world, "platform", &[FINALIZER]).await;
    set_finalizers(&world, "platform", &[FINALIZER, FOREIGN]).await;
    world.stop_operator().unwrap();
    delete_baseline(&world, "platform").await;
    apply_baseline(&world, "platform", &spec("Orphan")).await;

    world.restart_operator().await.unwrap();
    until_finalizers(&world, "platform", &[FOREIGN]).await;
    set_finalizers(&world, "platform", &[]).await;
    until_no_baseline(&world, "platform").await;
    assert_eq!(versions(&stored(&world, &ns).await), versions(&before));
}

// A CRD that is deleted.

#[tokio::test]
async fn i10_the_policies_outlive_the_crd_and_its_return_needs_no_restart() {
    let mut world = World::new().await.unwrap();
    if world.plane().is_external() {
        return; // It would delete the baselines of an external cluster.
    }
    world.start_operator().await.unwrap();
    let spec = json!({ "namespaceSelector": team("a") });
    apply_baseline(&world, "platform", &spec).await;
    let ns = world.namespace("kept", &[(TEAM, "a")]).await.unwrap();
    let before = until_holds(&world, &ns, &Plan::of("platform")).await;
    let pid = world.operator().unwrap().pid();

    let writes = Writes::from_now(&world);
    delete_crd(&world).await;
    let is_told = async || world.operator().unwrap().log().contains(NO_CRD);
    world.eventually("the operator tells that the CRD is missing", TIMEOUT, is_told).await.unwrap();
    assert_eq!(versions(&stored(&world, &ns).await), versions(&before));

    restore_crd(&world);
    until_applied(&world, "platform", &spec).await;
    let new = world.namespace("new", &[(TEAM, "a")]).await.unwrap();
    until_holds(&world, &new, &Plan::of("platform")).await;
    let status = until_status(&world, "platform", "two are protected", |status| status.namespaces.protected == 2).await;
    assert_eq!((status.namespaces.reported, status.recent_drift), (0, vec![]));
    fence_of_its_own(&world).await;
    assert_eq!(uids(&stored(&world, &ns).await), uids(&before));
    assert_eq!(writes.deletes(), []);
    assert!(world.operator_mut().unwrap().is_running());
    assert_eq!(world.operator().unwrap().pid(), pid);
}

#[tokio::test]
async fn an_operator_that_finds_no_crd_says_so_once_and_begins_when_it_comes() {
    let mut world = World::new().await.unwrap();
    if world.plane().is_external() {
        return; // It would delete the baselines of an external cluster.
    }
    delete_crd(&world).await;
    let audit = world.audit().unwrap();
    let mark = audit.mark();
    world.start_operator().await.unwrap();
    let tries = async || {
        let entries = audit.since(mark).unwrap();
        let tries = entries.iter().filter(|entry| entry.resource == "policybaselines" && entry.user == World::operator_user());
        tries.filter(|entry| entry.code == 404).count() >= 3
    };
    world.eventually("it has looked for the CRD again and again", TIMEOUT, tries).await.unwrap();
    assert!(world.operator_mut().unwrap().is_running());

    restore_crd(&world);
    until_applied(&world, "platform", &json!({ "namespaceSelector": team("a") })).await;
    let ns = world.namespace("new", &[(TEAM, "a")]).await.unwrap();
    until_holds(&world, &ns, &Plan::of("platform")).await;
    let log = world.operator().unwrap().log();
    let told: Vec<&str> = log.lines().filter(|line| line.contains(NO_CRD)).collect();
    let [line] = told[..] else { panic!("{told:#?}") };
    assert!(line.contains("WARN") && line.contains(NO_CRD) && line.contains("kubectl apply -f crds/"), "{line}");
    assert_eq!(world.stop_operator().unwrap(), 0);
}

// A namespace that is deleted.

#[tokio::test]
async fn i5_a_namespace_that_is_being_deleted_is_left_alone() {
    const HOLD: &str = "e2e.policybaseline.io/hold";
    if skipped_without_audit_log() {
        return;
    }
    let mut world = World::new().await.unwrap();
    world.start_operator().await.unwrap();
    apply_baseline(&world, "platform", &json!({ "namespaceSelector": team("a") })).await;
    let doomed = world.namespace("doomed", &[(TEAM, "a")]).await.unwrap();
    let stays = world.namespace("stays", &[(TEAM, "a")]).await.unwrap();
    let maps: Api<ConfigMap> = Api::namespaced(world.admin(), &doomed);
    let held = json!({ "metadata": { "name": "held", "finalizers": [HOLD] } });
    maps.create(&PostParams::default(), &serde_json::from_value(held).unwrap()).await.unwrap();
    for ns in [&doomed, &stays] {
        until_holds(&world, ns, &Plan::of("platform")).await;
    }
    until_status(&world, "platform", "two are protected", |status| status.namespaces.protected == 2).await;

    let writes = Writes::from_now(&world);
    namespaces(&world).delete(&doomed, &DeleteParams::default()).await.unwrap();
    let status = until_status(&world, "platform", "one is selected", |status| status.namespaces.selected == 1).await;
    assert_eq!(status.namespaces.protected, 1);
    until_only(&world, &doomed, &[]).await;
    fence_of_its_own(&world).await;
    let phase = namespaces(&world).get(&doomed).await.unwrap().status.unwrap().phase;
    assert_eq!(phase.as_deref(), Some("Terminating"));
    assert_eq!(writes.inside(&doomed), []);
    assert_eq!(events(&world.admin(), &doomed).await, []);
    let status = until_ready(&world, "platform").await;
    assert_eq!((status.namespaces.selected, status.violations, status.recent_drift), (1, vec![], vec![]));

    let free = Patch::Merge(json!({ "metadata": { "finalizers": null } }));
    maps.patch("held", &PatchParams::default(), &free).await.unwrap();
}

#[tokio::test]
async fn i5_a_namespace_that_comes_back_under_its_name_is_protected_anew() {
    if skipped_without_audit_log() {
        return;
    }
    let mut world = World::new().await.unwrap();
    world.start_operator().await.unwrap();
    apply_baseline(&world, "platform", &json!({ "namespaceSelector": team("a") })).await;
    let ns = world.namespace("again", &[(TEAM, "a")]).await.unwrap();
    let before = until_holds(&world, &ns, &Plan::of("platform")).await;
    until_status(&world, "platform", "one is protected", |status| status.namespaces.protected == 1).await;

    // Its policies are deleted at once, perhaps before the operator sees the deletion of the namespace.
    let writes = Writes::from_now(&world);
    namespaces(&world).delete(&ns, &DeleteParams::default()).await.unwrap();
    let policies = policies_of(&world.admin(), &ns);
    policies.delete_collection(&DeleteParams::default(), &kube::api::ListParams::default()).await.unwrap();
    let is_gone = async || namespaces(&world).get_opt(&ns).await.map(|found| found.is_none());
    world.eventually("the namespace is gone", TIMEOUT, is_gone).await.unwrap();
    let status = until_status(&world, "platform", "none is selected", |status| status.namespaces.selected == 0).await;
    assert_eq!(condition(&status, "Ready").status, "True");
    let written: Vec<_> = writes.of_policies().into_iter().filter(|write| write.code < 300).collect();
    assert_eq!(written, []);

    world.namespace_named(&ns, &[(TEAM, "a")]).await.unwrap();
    let after = until_holds(&world, &ns, &Plan::of("platform")).await;
    for (name, uid) in uids(&after) {
        assert_ne!(uid, uids(&before)[name], "{name}");
    }
    let status = until_status(&world, "platform", "one is protected", |status| status.namespaces.protected == 1).await;
    assert_eq!((status.violations, status.recent_drift), (vec![], vec![]));
    assert_eq!(events(&world.admin(), &ns).await, []);
}

// An operator that stops.

#[tokio::test]
async fn sigterm_ends_the_operator_with_exit_code_0_and_the_next_one_goes_on() {
    let mut world = World::new().await.unwrap();
    world.start_operator().await.unwrap();
    apply_baseline(&world, "platform", &json!({ "namespaceSelector": team("a") })).await;
    let first = world.namespace("first", &[(TEAM, "a")]).await.unwrap();
    let before = until_holds(&world, &first, &Plan::of("platform")).await;
    assert_eq!(world.stop_operator().unwrap(), 0);
    let log = world.operator().unwrap().log();
    assert!(log.lines().last().is_some_and(|line| line.contains("policy-baseline has stopped")), "{log}");

    // No operator runs. The next one finds what happens meanwhile.
    let second = world.namespace("second", &[(TEAM, "a")]).await.unwrap();
    assert_eq!(world.policies(&second).await.unwrap(), []);
    world.restart_operator().await.unwrap();
    until_holds(&world, &second, &Plan::of("platform")).await;
    assert_eq!(versions(&stored(&world, &first).await), versions(&before));
    assert_eq!(world.stop_operator().unwrap(), 0);
}

async fn until_finalizers(world: &World, name: &str, wanted: &[&str]) {
    let api = baselines(world);
    world
        .eventually(&format!("{name} has the finalizers {wanted:?}"), TIMEOUT, async || {
            let object = api.get(name).await.map_err(|err| err.to_string())?;
            let found = object.finalizers();
            if found == wanted { Ok(true) } else { Err(format!("it has {found:?}")) }
        })
        .await
        .unwrap();
}

async fn set_finalizers(world: &World, name: &str, finalizers: &[&str]) {
    let patch = Patch::Merge(json!({ "metadata": { "finalizers": finalizers } }));
    baselines(world).patch(name, &PatchParams::default(), &patch).await.unwrap();
}

pub async fn delete_crd(world: &World) {
    let crds: Api<CustomResourceDefinition> = Api::all(world.admin());
    crds.delete(CRD, &DeleteParams::default()).await.unwrap();
    let is_gone = async || crds.get_opt(CRD).await.map(|found| found.is_none());
    world.eventually("the CRD is gone", TIMEOUT, is_gone).await.unwrap();
}

pub fn restore_crd(world: &World) {
    let kubectl = |args: &[&str]| world.plane().run_kubectl(args).unwrap();
    kubectl(&["apply", "-f", "crds/"]);
    kubectl(&["wait", "--for=condition=Established", &format!("crd/{CRD}"), "--timeout=20s"]);
}

/// The first request for a new kind may come too early, so this tries again.
async fn until_applied(world: &World, name: &str, spec: &Value) {
    let manifest = baseline(name, spec);
    let apply = async || world.try_apply_yaml(&manifest).await.map(|()| true);
    world.eventually(&format!("baseline {name} is accepted"), TIMEOUT, apply).await.unwrap();
}
