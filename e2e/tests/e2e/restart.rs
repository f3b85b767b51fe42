//! A restart, and rest: the operator writes nothing unnecessary, and misses nothing that happened meanwhile.

use futures::future::join_all;
use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use policy_baseline::NoticeReason;
use policy_baseline::PolicyBaselineStatus;
use policy_baseline_e2e::proxy::{Asked, Fault, Moment, Release, When};
use policy_baseline_e2e::{AuditEntry, AuditMark, TIMEOUT, World, skipped_without_audit_log};
use serde_json::json;

use crate::dns;
use crate::faults::behind_a_proxy;
use crate::scene::{
    CARVEOUT, DENY_EGRESS, DENY_INGRESS, Plan, apply_baseline, baselines, condition, merge, policies_of, tenant, until_event,
    until_holds, until_ready, until_status, version, writes_since,
};
use crate::support::remove_namespace;

const PLATFORM: &str = "platform";
const SENTINEL: &str = "sentinel";
/// Namespaces with this label belong to the sentinel's baseline, so that their changes do not concern the other baseline.
const WATCHED: (&str, &str) = ("e2e.policybaseline.io/sentinel", "true");

/// Two baselines that share no namespace, and the operator.
async fn two_baselines() -> World {
    two_baselines_with(&[]).await
}

async fn two_baselines_with(args: &[&str]) -> World {
    let mut world = World::new().await.unwrap();
    select_apart(&world).await;
    world.start_operator_with(args).await.unwrap();
    world
}

async fn select_apart(world: &World) {
    let elsewhere = json!({ "matchExpressions": [{ "key": WATCHED.0, "operator": "DoesNotExist" }] });
    apply_baseline(world, PLATFORM, &json!({ "namespaceSelector": elsewhere })).await;
    apply_baseline(world, SENTINEL, &json!({ "namespaceSelector": { "matchLabels": { WATCHED.0: WATCHED.1 } } })).await;
}

/// A mark after the first status of the sentinel's baseline, which may come later than that of the other baseline.
async fn settled_mark(world: &World) -> AuditMark {
    until_status(world, SENTINEL, "it is told", |status| condition(status, "Ready").status == "True").await;
    world.audit().unwrap().mark()
}

/// Creates a namespace of the sentinel's baseline. Waits until it has its three policies and the baseline's status counts it. By then
/// the operator has handled all earlier events and written everything that was needed. Returns its writes since `mark`, without the
/// sentinel's.
async fn sentinel(world: &World, mark: AuditMark, count: u32) -> Vec<AuditEntry> {
    sentinel_as(world, &Plan::of(SENTINEL), mark, count).await
}

async fn sentinel_as(world: &World, plan: &Plan, mark: AuditMark, count: u32) -> Vec<AuditEntry> {
    let namespace = world.namespace("sentinel", &[WATCHED]).await.unwrap();
    until_holds(world, &namespace, plan).await;
    until_status(world, SENTINEL, "the sentinel is protected", |status| {
        status.namespaces.protected == count && condition(status, "Ready").status == "True"
    })
    .await;
    let policies = |writes: &[AuditEntry]| writes.iter().filter(|write| write.namespace == namespace).count();
    let writes = world
        .eventually("the audit log has caught up", TIMEOUT, async || {
            let writes = writes_since(world, mark);
            let told = writes.iter().any(|write| write.subresource == "status" && write.name == SENTINEL);
            (told && policies(&writes) == 3).then_some(writes)
        })
        .await
        .unwrap();
    // The writes for the sentinel are its three policies and then the status that counts them, and nothing else.
    let mut own: Vec<_> = writes.iter().filter(|write| write.namespace == namespace || write.name == SENTINEL).collect();
    // The log has them in the order in which they ended.
    own.sort_by_key(|write| write.timestamp);
    for (at, write) in own.iter().enumerate() {
        let what = (write.verb.as_str(), write.resource.as_str(), write.subresource.as_str(), write.code);
        let wanted = if write.namespace == namespace {
            ("patch", "networkpolicies", "", 201)
        } else {
            assert!(at > 0, "a status came before anything had happened: {own:#?}");
            ("patch", "policybaselines", "status", 200)
        };
        assert_eq!(what, wanted, "{write:?}");
    }
    writes.iter().filter(|write| write.namespace != namespace && write.name != SENTINEL).cloned().collect()
}

/// The resourceVersion of a baseline. It also changes when the status changes.
async fn version_of(world: &World, baseline: &str) -> String {
    baselines(world).get(baseline).await.unwrap().resource_version().unwrap()
}

/// Waits until the running operator has listed everything.
async fn until_at_work(world: &World) {
    let operator = world.operator().unwrap();
    world.eventually("everything is listed", TIMEOUT, async || operator.log().contains("work begins")).await.unwrap();
}

#[tokio::test]
async fn i2_a_restart_with_nothing_changed_writes_nothing() {
    const MANY: u32 = 200;
    if skipped_without_audit_log() {
        return;
    }
    // An operator that is killed leaves its Lease, and that must expire.
    let mut world = two_baselines_with(&["--lease-duration=3s"]).await;
    let namespaces: Vec<_> = stream::iter(0..MANY).map(|_| world.namespace("many", &[])).buffer_unordered(16).collect().await;
    assert!(namespaces.iter().all(Result::is_ok));
    // Namespaces that existed before are only reported, so the status has a notice.
    let settled =
        |status: &PolicyBaselineStatus| status.namespaces.protected == MANY && condition(status, "Ready").status == "True";
    let before = until_status(&world, PLATFORM, "all are protected", settled).await;
    assert!(before.notices.iter().any(|notice| notice.reason == NoticeReason::ExistingNamespace), "{:?}", before.notices);

    let mut count = 0;
    for signal in ["SIGTERM", "SIGKILL"] {
        let versions = (version_of(&world, PLATFORM).await, version_of(&world, SENTINEL).await);
        let mark = settled_mark(&world).await;
        if signal == "SIGTERM" {
            assert_eq!(world.stop_operator().unwrap(), 0);
        } else {
            world.kill_operator().unwrap();
        }
        world.restart_operator().await.unwrap();
        until_at_work(&world).await;
        assert_eq!(versions, (version_of(&world, PLATFORM).await, version_of(&world, SENTINEL).await), "{signal}");

        count += 1;
        let others = sentinel(&world, mark, count).await;
        assert!(others.is_empty(), "{signal}: {others:#?}");
        assert_eq!(version_of(&world, PLATFORM).await, versions.0, "{signal}");
    }
}

/// An API server that is busy answers some lists late. Decisions wait ten seconds for them, and statuses longer.
#[tokio::test]
async fn i2_a_restart_while_some_lists_come_late_writes_nothing() {
    if skipped_without_audit_log() {
        return;
    }
    let Some((mut world, proxy)) = behind_a_proxy().await else { return };
    select_apart(&world).await;
    dns::apply(&world, &dns::kube_dns(&json!({}))).await;
    world.start_operator().await.unwrap();
    let team = world.namespace("team", &[]).await.unwrap();
    let peer = dns::block(&dns::address(&world, "kube-system", "kube-dns").await);
    until_holds(&world, &team, &Plan::of(PLATFORM).dns_peer(&peer)).await;
    let plan = Plan::of(SENTINEL).dns_peer(&peer);
    let settled = |status: &PolicyBaselineStatus| {
        let is_told = status.conditions.iter().any(|condition| condition.type_ == "EnforcementUnknown");
        is_told && !dns::found(status).is_empty() && condition(status, "Ready").status == "True"
    };
    let before = until_status(&world, PLATFORM, "everything is told", settled).await;
    sentinel_as(&world, &plan, settled_mark(&world).await, 1).await;
    let version = version_of(&world, PLATFORM).await;
    assert_eq!(world.stop_operator().unwrap(), 0);

    // Not the list of all Services: decisions wait as long for it as statuses do.
    let is_late = |asked: &Asked| asked.is_of("daemonsets") || (asked.is_of("services") && asked.namespace == "kube-system");
    proxy.on(is_late, When::Always, Fault::Hold(Moment::Before));
    world.restart_operator().await.unwrap();
    let operator = world.operator().unwrap();
    let goes_on = async || operator.log().contains("looking for DNS continues without these sources");
    world.eventually("work goes on without DNS", TIMEOUT, goes_on).await.unwrap();
    assert!(proxy.held() > 0);
    // The leader writes what is due: policies, and no status.
    world.eventually("it leads again", TIMEOUT, async || operator.log().contains("this instance leads")).await.unwrap();
    let meanwhile = world.namespace("meanwhile", &[WATCHED]).await.unwrap();
    until_holds(&world, &meanwhile, &plan).await;

    proxy.calm();
    proxy.release(Release::Forward).await.unwrap();
    let is_found = async || operator.log().contains("the network plugin:");
    world.eventually("the late lists have come", TIMEOUT, is_found).await.unwrap();
    until_status(&world, SENTINEL, "statuses are written", |status| status.namespaces.protected == 2).await;
    let mark = world.audit().unwrap().mark();
    let others = sentinel_as(&world, &plan, mark, 3).await;
    assert_eq!(until_status(&world, PLATFORM, "it is still told", settled).await, before);
    assert!(others.is_empty(), "{others:#?}");
    assert_eq!(version_of(&world, PLATFORM).await, version);
}

#[tokio::test]
async fn i2_a_restart_keeps_the_status_of_failures_and_of_drift() {
    const CASE: &str = "e2e.policybaseline.io/case";
    if skipped_without_audit_log() {
        return;
    }
    let deny = format!(
        "
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {{ name: deny }}
spec:
  failurePolicy: Fail
  matchConstraints:
    namespaceSelector: {{ matchLabels: {{ {CASE}: denied }} }}
    resourceRules:
    - {{ apiGroups: [networking.k8s.io], apiVersions: [v1], operations: [CREATE, UPDATE], resources: [networkpolicies] }}
  validations: [{{ expression: 'false', message: ask the network team first }}]
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {{ name: deny }}
spec: {{ policyName: deny, validationActions: [Deny] }}
"
    );
    let mut world = two_baselines().await;
    let drifted = world.namespace("drifted", &[]).await.unwrap();
    until_holds(&world, &drifted, &Plan::of(PLATFORM)).await;
    merge(&policies_of(&world.admin(), &drifted), DENY_INGRESS, "kubectl-edit", &json!({ "spec": { "ingress": [{}] } })).await;
    until_status(&world, PLATFORM, "a drift", |status| !status.recent_drift.is_empty()).await;
    world.stop_operator().unwrap();
    world.apply_yaml(&deny).await.unwrap();
    let denied = world.namespace("denied", &[(CASE, "denied")]).await.unwrap();
    let dry_run = PostParams { dry_run: true, ..PostParams::default() };
    let any: NetworkPolicy =
        serde_json::from_value(json!({ "metadata": { "name": "any" }, "spec": { "podSelector": {} } })).unwrap();
    world
        .eventually("policies are denied", TIMEOUT, async || {
            policies_of(&world.admin(), &denied).create(&dry_run, &any).await.is_err()
        })
        .await
        .unwrap();
    world.restart_operator().await.unwrap();
    let before = until_status(&world, PLATFORM, "one failed", |status| {
        status.namespaces.failed == 1 && status.namespaces.pending == 0 && !status.recent_drift.is_empty()
    })
    .await;
    let reasons: Vec<_> = before.violations.iter().map(|violation| violation.reason.into_str()).collect();
    assert!(reasons.contains(&"DeniedByAdmission"), "{reasons:?}");
    assert!(before.notices.iter().any(|notice| notice.reason == NoticeReason::ExistingNamespace), "{:?}", before.notices);

    let version = version_of(&world, PLATFORM).await;
    let mark = settled_mark(&world).await;
    assert_eq!(world.stop_operator().unwrap(), 0);
    world.restart_operator().await.unwrap();
    until_at_work(&world).await;
    let others = sentinel(&world, mark, 1).await;
    assert_eq!(version_of(&world, PLATFORM).await, version);
    // A failed write is tried again and reported once more, and nothing else is written.
    assert!(others.iter().any(|write| write.namespace == denied && write.code == 422), "{others:#?}");
    assert!(others.iter().all(|write| write.namespace == denied), "{others:#?}");
}

#[tokio::test]
async fn i2_at_rest_nothing_is_written_whatever_others_do() {
    if skipped_without_audit_log() {
        return;
    }
    let world = two_baselines().await;
    let ns = world.namespace("team", &[]).await.unwrap();
    let tenant = tenant(&world, &[&ns]).await;
    until_holds(&world, &ns, &Plan::of(PLATFORM)).await;
    until_status(&world, PLATFORM, "it is protected", |status| {
        status.namespaces.protected == 1 && condition(status, "Ready").status == "True"
    })
    .await;

    let version = version_of(&world, PLATFORM).await;
    let mark = settled_mark(&world).await;
    // A policy for all pods would be reported as a bypass.
    let web = json!({ "podSelector": { "matchLabels": { "app": "web" } }, "ingress": [{}] });
    let own: NetworkPolicy = serde_json::from_value(json!({ "metadata": { "name": "allow-web" }, "spec": web })).unwrap();
    let policies = policies_of(&tenant, &ns);
    policies.create(&PostParams::default(), &own).await.unwrap();
    merge(&policies, "allow-web", "tenant", &json!({ "spec": { "ingress": [] } })).await;
    merge(&policies, DENY_INGRESS, "tenant", &json!({ "metadata": { "labels": { "team": "a" } } })).await;
    policies.delete("allow-web", &DeleteParams::default()).await.unwrap();
    let map: ConfigMap = serde_json::from_value(json!({ "metadata": { "name": "settings" } })).unwrap();
    Api::namespaced(tenant.clone(), &ns).create(&PostParams::default(), &map).await.unwrap();
    let namespaces: Api<Namespace> = Api::all(world.admin());
    let labelled = Patch::Merge(json!({ "metadata": { "labels": { "tier": "prod" }, "annotations": { "a": "b" } } }));
    namespaces.patch(&ns, &PatchParams::default(), &labelled).await.unwrap();
    let touched = Patch::Merge(json!({ "metadata": { "annotations": { "team.example/reviewed": "yes" } } }));
    baselines(&world).patch(PLATFORM, &PatchParams::default(), &touched).await.unwrap();
    let annotated = version_of(&world, PLATFORM).await;
    assert_ne!(annotated, version);

    let others = sentinel(&world, mark, 1).await;
    assert!(others.is_empty(), "{others:#?}");
    assert_eq!(version_of(&world, PLATFORM).await, annotated);
}

#[tokio::test]
async fn i2_a_restart_of_the_apiserver_costs_no_write() {
    if skipped_without_audit_log() {
        return;
    }
    let world = two_baselines().await;
    let namespaces = join_all((0..10).map(|_| world.namespace("team", &[]))).await;
    for ns in namespaces {
        until_holds(&world, &ns.unwrap(), &Plan::of(PLATFORM)).await;
    }
    let settled =
        |status: &PolicyBaselineStatus| status.namespaces.protected == 10 && condition(status, "Ready").status == "True";
    until_status(&world, PLATFORM, "all are protected", settled).await;
    let version = version_of(&world, PLATFORM).await;
    let mark = settled_mark(&world).await;
    world.plane().kill_apiserver().unwrap();
    world.plane().start_apiserver().await.unwrap();
    let others = sentinel(&world, mark, 1).await;
    assert!(others.is_empty(), "{others:#?}");
    assert_eq!(version_of(&world, PLATFORM).await, version);
}

#[tokio::test]
async fn what_was_done_while_the_operator_was_down_is_put_right_at_start() {
    if skipped_without_audit_log() {
        return;
    }
    let mut world = two_baselines().await;
    let [deleted, opened, stripped, emptied, gone] =
        join_all(["deleted", "opened", "stripped", "emptied", "gone"].map(|name| world.namespace(name, &[])))
            .await
            .into_iter()
            .map(Result::unwrap)
            .collect::<Vec<_>>()
            .try_into()
            .unwrap();
    let plan = Plan::of(PLATFORM);
    for ns in [&deleted, &stripped, &emptied, &gone] {
        until_holds(&world, ns, &plan).await;
    }
    let before = until_holds(&world, &opened, &plan).await;
    until_status(&world, PLATFORM, "all are protected", |status| status.namespaces.protected == 5).await;
    assert_eq!(world.stop_operator().unwrap(), 0);

    let admin = world.admin();
    policies_of(&admin, &deleted).delete(DENY_EGRESS, &DeleteParams::default()).await.unwrap();
    merge(&policies_of(&admin, &opened), DENY_INGRESS, "tenant", &json!({ "spec": { "ingress": [{}] } })).await;
    merge(&policies_of(&admin, &stripped), CARVEOUT, "tenant", &json!({ "metadata": { "labels": null } })).await;
    for policy in [DENY_INGRESS, DENY_EGRESS, CARVEOUT] {
        policies_of(&admin, &emptied).delete(policy, &DeleteParams::default()).await.unwrap();
    }
    remove_namespace(&world, &gone).await;
    let new = world.namespace("new", &[]).await.unwrap();
    let mark = world.audit().unwrap().mark();
    world.restart_operator().await.unwrap();

    for ns in [&deleted, &opened, &stripped, &emptied, &new] {
        until_holds(&world, ns, &plan).await;
    }
    for (ns, reason, policy) in [
        (&deleted, "DriftRepaired", DENY_EGRESS),
        (&opened, "DriftRepaired", DENY_INGRESS),
        (&stripped, "PolicyAdopted", CARVEOUT),
    ] {
        until_event(&world, &admin, ns, reason, policy).await;
    }
    let after = until_holds(&world, &opened, &plan).await;
    assert_eq!(after[DENY_INGRESS].uid(), before[DENY_INGRESS].uid());
    assert!(after.iter().all(|(name, policy)| name == DENY_INGRESS || version(policy) == version(&before[name])));

    // The deleted namespace causes no error, no drift and no event (I5).
    let status = until_status(&world, PLATFORM, "the new one is counted", |status| status.namespaces.protected == 5).await;
    assert!(status.recent_drift.iter().all(|drift| drift.namespace != gone), "{:?}", status.recent_drift);
    assert!(status.violations.iter().all(|violation| violation.namespace != gone), "{:?}", status.violations);
    assert!(until_ready(&world, PLATFORM).await.namespaces.failed == 0);
    let writes = writes_since(&world, mark);
    assert!(!writes.is_empty() && writes.iter().all(|write| write.namespace != gone), "{writes:#?}");
    let log = world.operator().unwrap().log();
    assert!(!log.contains(" WARN ") && !log.contains(" ERROR "), "{log}");
}
