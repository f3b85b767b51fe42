//! A change goes out in waves, stops when it fails, and continues at the same place after a restart.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::jiff::Timestamp;
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use policy_baseline::PolicyBaselineStatus;
use policy_baseline_e2e::{AuditMark, SYSTEM_NAMESPACE, TIMEOUT, World, skipped_without_audit_log};
use serde_json::{Value, json};

use crate::scene::{
    DENY_EGRESS, DENY_INGRESS, Plan, apply_baseline, condition, delete_baseline, fence, merge, policies_of, until_holds,
    until_only, until_ready, until_status, writes_since,
};
use crate::support::{a_second_later, until_no_baseline};

const PLATFORM: &str = "platform";
/// The labels that select the namespaces of a baseline, and its canaries.
const OF: &str = "e2e.policybaseline.io/of";
const CANARY: &str = "e2e.policybaseline.io/canary";

/// A baseline spec with this DNS port in addition to 53, and this rollout.
fn spec(port: i32, rollout: &Value) -> Value {
    json!({ "namespaceSelector": { "matchLabels": { OF: PLATFORM } }, "dns": { "ports": [port] }, "rollout": rollout })
}

fn plan(port: i32) -> Plan {
    Plan::of(PLATFORM).dns_port(port).asked()
}

/// Namespaces in the order of their names, each with the policies of the first spec.
async fn settled(world: &World, rollout: &Value, canaries: &[&str], others: &[&str]) -> Vec<String> {
    // The baseline comes first, so that no namespace is older than it.
    apply_baseline(world, PLATFORM, &spec(5301, rollout)).await;
    let mut names = Vec::new();
    for prefix in canaries {
        names.push(world.namespace(prefix, &[(OF, PLATFORM), (CANARY, "yes")]).await.unwrap());
    }
    for prefix in others {
        names.push(world.namespace(prefix, &[(OF, PLATFORM)]).await.unwrap());
    }
    for ns in &names {
        until_holds(world, ns, &plan(5301)).await;
    }
    until_ready(world, PLATFORM).await;
    until_stored(world, PLATFORM, 1).await;
    names.sort_unstable();
    names
}

fn revisions(world: &World) -> Api<ControllerRevision> {
    Api::namespaced(world.admin(), SYSTEM_NAMESPACE)
}

/// Waits until this many revisions of the baseline are stored.
pub async fn until_stored(world: &World, baseline: &str, count: usize) {
    let list = ListParams::default().labels(&format!("policybaseline.io/baseline={baseline}"));
    // The garbage collector refreshes its list of kinds only every half minute.
    world
        .eventually(&format!("{count} revisions of {baseline} are stored"), TIMEOUT * 3, async || {
            let found = revisions(world).list(&list).await?.items.len();
            Ok::<_, kube::Error>(found == count)
        })
        .await
        .unwrap();
}

async fn until_reason(world: &World, reason: &str) -> PolicyBaselineStatus {
    until_status(world, PLATFORM, reason, |status| condition(status, "Ready").reason == reason).await
}

/// The time of the first write to the policies of each namespace since `mark`, in order of time.
fn first_writes(world: &World, mark: AuditMark) -> Vec<(Timestamp, String)> {
    let mut first: BTreeMap<String, Timestamp> = BTreeMap::new();
    for write in writes_since(world, mark).into_iter().filter(|write| write.resource == "networkpolicies") {
        let at = first.entry(write.namespace).or_insert(write.timestamp);
        *at = write.timestamp.min(*at);
    }
    let mut order: Vec<_> = first.into_iter().map(|(ns, at)| (at, ns)).collect();
    order.sort_unstable();
    order
}

#[tokio::test]
async fn a_change_goes_out_in_waves_the_canaries_first_and_the_interval_between_them() {
    if skipped_without_audit_log() {
        return;
    }
    let mut world = World::new().await.unwrap();
    world.start_operator().await.unwrap();
    let rollout = json!({
        "maxNamespacesPerWave": 2, "interval": "3s", "canarySelector": { "matchLabels": { CANARY: "yes" } },
    });
    let names = settled(&world, &rollout, &["y", "z"], &["a", "b", "c"]).await;
    let mark = world.audit().unwrap().mark();
    apply_baseline(&world, PLATFORM, &spec(5302, &rollout)).await;
    let status = until_reason(&world, "RollingOut").await;
    assert_eq!((&*condition(&status, "Reconciling").status, &*condition(&status, "RolloutPaused").status), ("True", "False"));
    assert_eq!(status.rollout.unwrap().total, 5);
    for ns in &names {
        until_holds(&world, ns, &plan(5302)).await;
    }
    let status = until_ready(&world, PLATFORM).await;
    assert!(status.rollout.is_none() && condition(&status, "RolloutPaused").status == "Unknown");
    until_stored(&world, PLATFORM, 1).await;

    let order = first_writes(&world, mark);
    let wave = |range: std::ops::Range<usize>| {
        let mut wave: Vec<&str> = order[range].iter().map(|(_, ns)| &ns[..1]).collect();
        wave.sort_unstable();
        wave.concat()
    };
    assert_eq!([wave(0..2), wave(2..4), wave(4..5)], ["yz", "ab", "c"], "{order:?}");
    for (last, first) in [(1, 2), (3, 4)] {
        let between = order[first].0.duration_since(order[last].0).as_millis();
        assert!(between >= 3000, "{between} ms between two waves");
    }
    // The stored revisions are deleted with the baseline.
    delete_baseline(&world, PLATFORM).await;
    until_stored(&world, PLATFORM, 0).await;
}

#[tokio::test]
async fn what_closes_existing_namespaces_goes_out_in_waves_the_canaries_first_and_a_new_namespace_never_waits() {
    if skipped_without_audit_log() {
        return;
    }
    let mut world = World::new().await.unwrap();
    world.start_operator().await.unwrap();
    let mut names = Vec::new();
    for (prefix, labels) in [("z", &[(OF, PLATFORM), (CANARY, "yes")][..]), ("a", &[(OF, PLATFORM)]), ("b", &[(OF, PLATFORM)])] {
        names.push(world.namespace(prefix, labels).await.unwrap());
    }
    a_second_later(&world).await;
    let rollout = json!({
        "maxNamespacesPerWave": 1, "interval": "3s", "canarySelector": { "matchLabels": { CANARY: "yes" } },
    });
    let with = |more: Value| {
        let mut edited = spec(5301, &rollout);
        edited.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        edited
    };
    // From Report to Enforce, and from Audit to Enforce: the second time, the namespaces are open again.
    for (before, after) in [
        (json!({}), json!({ "existingNamespaces": "Enforce" })),
        (json!({ "mode": "Audit", "existingNamespaces": "Enforce" }), json!({ "existingNamespaces": "Enforce" })),
    ] {
        apply_baseline(&world, PLATFORM, &with(before)).await;
        until_ready(&world, PLATFORM).await;
        for ns in &names {
            until_only(&world, ns, &[]).await;
        }
        let mark = world.audit().unwrap().mark();
        apply_baseline(&world, PLATFORM, &with(after)).await;
        let status = until_reason(&world, "RollingOut").await;
        // The second time with the one that was new the first time.
        assert!(status.rollout.as_ref().unwrap().total >= 3, "{:?}", status.rollout);
        let new = world.namespace("new", &[(OF, PLATFORM)]).await.unwrap();
        until_holds(&world, &new, &plan(5301)).await;
        for ns in &names {
            until_holds(&world, ns, &plan(5301)).await;
        }
        until_ready(&world, PLATFORM).await;
        let order: Vec<(Timestamp, String)> =
            first_writes(&world, mark).into_iter().filter(|(_, ns)| names.contains(ns)).collect();
        assert_eq!(order.iter().map(|(_, ns)| ns.as_str()).collect::<Vec<_>>(), names, "the canary, then by name");
        for two in order.windows(2) {
            let between = two[1].0.duration_since(two[0].0).as_millis();
            assert!(between >= 3000, "{between} ms between two waves");
        }
        // The baseline goes, and its policies with it: the namespaces are open again.
        let policies = json!({ "deletionPolicy": "Delete", "existingNamespaces": "Enforce" });
        apply_baseline(&world, PLATFORM, &with(policies)).await;
        until_ready(&world, PLATFORM).await;
        delete_baseline(&world, PLATFORM).await;
        until_no_baseline(&world, PLATFORM).await;
        a_second_later(&world).await;
    }
}

#[tokio::test]
async fn in_the_middle_each_namespace_is_kept_as_it_is_assigned_also_after_a_restart_and_a_revert_is_at_once() {
    if skipped_without_audit_log() {
        return;
    }
    let mut world = World::new().await.unwrap();
    world.start_operator().await.unwrap();
    let rollout = json!({ "maxNamespacesPerWave": "25%", "interval": "1h" });
    apply_baseline(&world, "rest", &json!({ "namespaceSelector": { "matchLabels": { OF: "rest" } } })).await;
    let names = settled(&world, &rollout, &[], &["a", "b", "c", "d"]).await;
    let rest = Plan::of("rest");
    apply_baseline(&world, PLATFORM, &spec(5302, &rollout)).await;
    until_holds(&world, &names[0], &plan(5302)).await;
    let waits = |status: &PolicyBaselineStatus| {
        status.rollout.as_ref().is_some_and(|r| (r.moved, r.total) == (1, 4) && r.next_wave_at.is_some())
    };
    until_status(&world, PLATFORM, "the first wave is there", waits).await;
    let assigned = async |world: &World| {
        until_holds(world, &names[0], &plan(5302)).await;
        for ns in &names[1..] {
            until_holds(world, ns, &plan(5301)).await;
        }
    };
    assigned(&world).await;

    // A restart writes nothing.
    let mark = world.audit().unwrap().mark();
    world.restart_operator().await.unwrap();
    fence(&world, &rest, &[(OF, "rest")]).await;
    assigned(&world).await;
    let ours = |write: &policy_baseline_e2e::AuditEntry| names.contains(&write.namespace) || write.name == PLATFORM;
    let written: Vec<_> = writes_since(&world, mark).into_iter().filter(ours).collect();
    assert!(written.is_empty(), "{written:?}");
    // A new namespace never waits for a wave.
    let new = world.namespace("new", &[(OF, PLATFORM)]).await.unwrap();
    until_holds(&world, &new, &plan(5302)).await;
    // A change by somebody else is repaired to the spec that is assigned to that namespace.
    let admin = world.admin();
    for ns in [&names[0], &names[3]] {
        merge(&policies_of(&admin, ns), DENY_EGRESS, "tenant", &json!({ "spec": { "egress": [{}] } })).await;
        policies_of(&admin, ns).delete(DENY_INGRESS, &DeleteParams::default()).await.unwrap();
    }
    fence(&world, &rest, &[(OF, "rest")]).await;
    assigned(&world).await;

    apply_baseline(&world, PLATFORM, &spec(5301, &rollout)).await;
    for ns in names.iter().chain([&new]) {
        until_holds(&world, ns, &plan(5301)).await;
    }
    let status = until_ready(&world, PLATFORM).await;
    assert_eq!((status.namespaces.protected, status.rollout), (5, None));
    until_stored(&world, PLATFORM, 1).await;
}

#[tokio::test]
async fn i1_a_restart_in_the_middle_that_finds_other_dns_takes_no_namespace_back() {
    let mut world = World::new().await.unwrap();
    let files = ["10.9.9.1", "10.9.9.2"].map(|address| {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), format!("nameserver {address}\n")).unwrap();
        file
    });
    let flag = |file: &tempfile::NamedTempFile| format!("--resolv-conf={}", file.path().display());
    let rollout = json!({ "maxNamespacesPerWave": 1, "interval": "1h" });
    let of = |port: i32, address: &str| plan(port).dns_peer(&json!({ "ipBlock": { "cidr": format!("{address}/32") } }));
    world.start_operator_with(&[&flag(&files[0])]).await.unwrap();
    apply_baseline(&world, PLATFORM, &spec(5301, &rollout)).await;
    let mut names = Vec::new();
    for prefix in ["a", "b", "c"] {
        names.push(world.namespace(prefix, &[(OF, PLATFORM)]).await.unwrap());
    }
    for ns in &names {
        until_holds(&world, ns, &of(5301, "10.9.9.1")).await;
    }
    until_ready(&world, PLATFORM).await;
    until_stored(&world, PLATFORM, 1).await;
    names.sort_unstable();
    apply_baseline(&world, PLATFORM, &spec(5302, &rollout)).await;
    let waits = |status: &PolicyBaselineStatus| {
        status.rollout.as_ref().is_some_and(|r| (r.moved, r.total) == (1, 3) && r.next_wave_at.is_some())
    };
    until_status(&world, PLATFORM, "the first wave is there", waits).await;
    until_holds(&world, &names[0], &of(5302, "10.9.9.1")).await;

    world.stop_operator().unwrap();
    world.start_operator_with(&[&flag(&files[1])]).await.unwrap();
    for ns in &names[1..] {
        until_holds(&world, ns, &of(5301, "10.9.9.2")).await;
    }
    until_holds(&world, &names[0], &of(5302, "10.9.9.2")).await;
    until_status(&world, PLATFORM, "the first wave is still there", waits).await;
    // A tenant removes the annotation that records the assigned spec. The operator repairs it and reports that tenant's change.
    let strip = json!({ "metadata": { "annotations": { "policybaseline.io/asked": null } } });
    for ns in &names[..2] {
        merge(&policies_of(&world.admin(), ns), DENY_EGRESS, "tenant", &strip).await;
    }
    until_holds(&world, &names[0], &of(5302, "10.9.9.2")).await;
    until_holds(&world, &names[1], &of(5301, "10.9.9.2")).await;
    let status = until_status(&world, PLATFORM, "both are told", |status| status.recent_drift.len() == 2).await;
    assert!(status.recent_drift.iter().all(|drift| drift.class == "MetadataChanged"), "{:?}", status.recent_drift);
}

#[tokio::test]
async fn a_stored_revision_whose_labels_somebody_took_off_is_named_and_found_again_when_they_are_back() {
    let mut world = World::new().await.unwrap();
    world.start_operator().await.unwrap();
    let rollout = json!({ "maxNamespacesPerWave": 1, "interval": "0s" });
    let names = settled(&world, &rollout, &[], &["a"]).await;
    let list = ListParams::default().labels(&format!("policybaseline.io/baseline={PLATFORM}"));
    let stored = revisions(&world).list(&list).await.unwrap().items.remove(0);
    let (name, labels) = (stored.metadata.name.unwrap(), stored.metadata.labels.unwrap());
    let none: BTreeMap<&str, Option<&str>> = labels.keys().map(|key| (&**key, None)).collect();
    let label = async |labels: Value| {
        let patch = Patch::Merge(json!({ "metadata": { "labels": labels } }));
        revisions(&world).patch(&name, &PatchParams::default(), &patch).await.unwrap();
    };
    label(json!(none)).await;
    let says = |status: &PolicyBaselineStatus| {
        let told = status.conditions.iter().find(|c| c.type_ == "RolloutPaused");
        told.is_some_and(|c| c.status == "True" && c.reason == "RevisionNotStored" && c.message.contains(&name))
    };
    until_status(&world, PLATFORM, "it names the object", says).await;
    apply_baseline(&world, PLATFORM, &spec(5302, &rollout)).await;
    until_reason(&world, "RolloutPaused").await;
    until_holds(&world, &names[0], &plan(5301)).await;
    label(json!(labels)).await;
    until_holds(&world, &names[0], &plan(5302)).await;
    until_ready(&world, PLATFORM).await;
    until_stored(&world, PLATFORM, 1).await;
}

#[tokio::test]
async fn failures_pause_a_change_until_the_spec_is_edited() {
    let mut world = World::new().await.unwrap();
    world.start_operator().await.unwrap();
    let rollout = json!({ "maxNamespacesPerWave": 1, "interval": "0s" });
    let names = settled(&world, &rollout, &[], &["a", "b", "c"]).await;
    let deny = format!(
        "
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {{ name: rollout }}
spec:
  failurePolicy: Fail
  matchConstraints:
    namespaceSelector: {{ matchLabels: {{ kubernetes.io/metadata.name: {} }} }}
    resourceRules: [{{ apiGroups: [networking.k8s.io], apiVersions: [v1], operations: [CREATE, UPDATE], resources: [networkpolicies] }}]
  validations: [{{ expression: 'false', message: not this one }}]
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {{ name: rollout }}
spec: {{ policyName: rollout, validationActions: [Deny] }}
",
        names[1]
    );
    world.apply_yaml(&deny).await.unwrap();
    world
        .eventually("writes are refused there", TIMEOUT, async || {
            let patch = Patch::Merge(json!({ "metadata": { "labels": { "x": "y" } } }));
            let params = PatchParams { dry_run: true, ..Default::default() };
            let tried = policies_of(&world.admin(), &names[1]).patch(DENY_INGRESS, &params, &patch).await;
            Ok::<_, String>(tried.is_err_and(|error| error.to_string().contains("not this one")))
        })
        .await
        .unwrap();
    apply_baseline(&world, PLATFORM, &spec(5302, &rollout)).await;
    let is_paused = async |world: &World| {
        let status = until_reason(world, "RolloutPaused").await;
        let told = condition(&status, "RolloutPaused");
        assert_eq!((&*told.status, &*told.reason), ("True", "TooManyFailures"));
        assert!(
            told.message.contains("cannot be written in 1 namespaces,") && told.message.contains("maxFailures is 0"),
            "{}",
            told.message
        );
        let others = [condition(&status, "Reconciling").status, condition(&status, "Stalled").status];
        assert_eq!(others, ["False", "False"]);
        until_holds(world, &names[0], &plan(5302)).await;
        until_holds(world, &names[2], &plan(5301)).await;
    };
    is_paused(&world).await;
    world.restart_operator().await.unwrap();
    is_paused(&world).await;

    // Now a wave may fail in one namespace.
    let lenient = json!({ "maxNamespacesPerWave": 1, "interval": "0s", "maxFailures": 1 });
    apply_baseline(&world, PLATFORM, &spec(5302, &lenient)).await;
    until_holds(&world, &names[2], &plan(5302)).await;
    until_reason(&world, "WritesFailing").await;
    world.plane().run_kubectl(&["delete", "validatingadmissionpolicybinding,validatingadmissionpolicy", "rollout"]).unwrap();
    until_holds(&world, &names[1], &plan(5302)).await;
    until_ready(&world, PLATFORM).await;
    until_stored(&world, PLATFORM, 1).await;
}
