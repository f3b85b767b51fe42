//! Two installs in one cluster: the older one works; the younger one waits and reports that.

use std::time::Instant;

use k8s_openapi::api::core::v1::Event;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams};
use policy_baseline_e2e::{AuditEntry, Operator, SERVICE_ACCOUNT, TIMEOUT, World, skipped_without_audit_log};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::admin_port::{address_of, get, metric};
use crate::others::{fight, is, until_violations};
use crate::repair::{enforcing, protected};
use crate::scene::{
    DENY_EGRESS, DENY_INGRESS, Plan, apply_baseline, baselines, client_of, condition, policies_of, until_holds,
    until_may_operate, until_ready, until_status,
};
use crate::support::{fence_of_its_own, label};

const PLATFORM: &str = "platform";
const INSTANCE: &str = "policybaseline.io/instance";

/// The shipped RBAC, for a ServiceAccount in another namespace.
fn rights(namespace: &str) -> impl Iterator<Item = String> {
    let documents = serde_yaml::Deserializer::from_str(include_str!("../../../manifests/base/rbac.yaml"));
    let documents: Vec<Value> = documents.map(|document| Value::deserialize(document).unwrap()).collect();
    let in_kube_system = |document: &Value| document["metadata"]["namespace"] == "kube-system";
    let is_own =
        move |document: &Value| document["kind"] != "ClusterRole" && !(document["kind"] == "Role" && in_kube_system(document));
    let moved = documents.into_iter().filter(is_own).map({
        let namespace = namespace.to_owned();
        move |mut document: Value| {
            // Both installs share the objects outside of their namespaces, except the bindings. Each install has its own bindings.
            if document["kind"] == "ClusterRoleBinding" || in_kube_system(&document) {
                document["metadata"]["name"] = namespace.clone().into();
            } else {
                document["metadata"]["namespace"] = namespace.clone().into();
            }
            if let Some(subject) = document.pointer_mut("/subjects/0/namespace") {
                *subject = namespace.clone().into();
            }
            document.to_string()
        }
    });
    let account = json!({
        "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": SERVICE_ACCOUNT, "namespace": namespace },
    });
    std::iter::once(account.to_string()).chain(moved)
}

struct Second {
    operator: Operator,
    namespace: String,
}

impl Second {
    /// Starts one more install, in a namespace of its own.
    async fn start(world: &World) -> Self {
        let namespace = world.namespace("second", &[(INSTANCE, "true")]).await.unwrap();
        for document in rights(&namespace) {
            world.apply_yaml(&document).await.unwrap();
        }
        let kubeconfig = world.plane().service_account_kubeconfig(&namespace, SERVICE_ACCOUNT).await.unwrap();
        until_may_operate(world, &client_of(&kubeconfig).await, &namespace).await;
        let envs = [("POD_NAMESPACE", namespace.as_str()), ("POD_NAME", "second")];
        let operator = Operator::start(world.plane(), &kubeconfig, &["--lease-duration=3s"], &envs).unwrap();
        Self { operator, namespace }
    }

    async fn until_logged(&self, world: &World, what: &str) {
        world.eventually(what, TIMEOUT, async || self.operator.log().contains(what)).await.unwrap();
    }

    /// Not ready, in a metric, and by an Event about the baseline.
    async fn until_says_that_it_waits(&self, world: &World) {
        let elder = "an older install of policy-baseline runs in namespace policy-baseline-system: this one writes nothing";
        let address = address_of(world, &self.operator).await;
        let not_ready = async || matches!(get(&address, "/readyz"), (503, _, body) if body.contains(elder));
        world.eventually("it is not ready, and says why", TIMEOUT, not_ready).await.unwrap();
        assert!((metric(&get(&address, "/metrics").2, "policy_baseline_waits_for_install") - 1.0).abs() < f64::EPSILON);
        let events: Api<Event> = Api::namespaced(world.admin(), "default");
        let is_told = |event: &Event| {
            let note = event.message.as_deref().unwrap_or_default();
            event.reason.as_deref() == Some("WaitsForInstall")
                && event.involved_object.name.as_deref() == Some(PLATFORM)
                && note.contains(elder)
        };
        let told = async || events.list(&ListParams::default()).await.map(|list| list.items.iter().any(is_told));
        world.eventually("an Event about the baseline", TIMEOUT, told).await.unwrap();
    }

    fn user(&self) -> String {
        format!("system:serviceaccount:{}:{SERVICE_ACCOUNT}", self.namespace)
    }
}

async fn annotate(world: &World, baseline: &str, install: Option<&str>) {
    let patch = Patch::Merge(json!({ "metadata": { "annotations": { INSTANCE: install } } }));
    baselines(world).patch(baseline, &PatchParams::default(), &patch).await.unwrap();
}

#[tokio::test]
async fn of_two_installs_the_older_one_writes_and_the_younger_one_takes_over_when_it_ends() {
    if skipped_without_audit_log() {
        return;
    }
    let mut world = World::new().await.unwrap();
    apply_baseline(&world, PLATFORM, &json!({ "existingNamespaces": "Enforce" })).await;
    world.start_operator().await.unwrap();
    until_ready(&world, PLATFORM).await;
    let mark = world.audit().unwrap().mark();
    let second = Second::start(&world).await;
    second.until_logged(&world, "an older install of policy-baseline runs in namespace policy-baseline-system").await;
    second.until_says_that_it_waits(&world).await;

    for _ in 0..5 {
        let team = world.namespace("team", &[]).await.unwrap();
        until_holds(&world, &team, &Plan::of(PLATFORM)).await;
        policies_of(&world.admin(), &team).delete(DENY_INGRESS, &DeleteParams::default()).await.unwrap();
        until_holds(&world, &team, &Plan::of(PLATFORM)).await;
    }
    // Its Lease, what it asks, and the Event that says that it waits.
    let own = |e: &AuditEntry| {
        e.resource == "leases"
            || e.resource.ends_with("subjectaccessreviews")
            || (e.resource == "events" && e.namespace == "default")
    };
    let entries = world.audit().unwrap().since(mark).unwrap();
    let wrote: Vec<_> = entries.iter().filter(|e| e.user == second.user() && e.is_write() && !own(e)).collect();
    assert!(wrote.is_empty(), "{wrote:#?}");

    let start = Instant::now();
    assert_eq!(world.stop_operator().unwrap(), 0);
    let next = world.namespace("next", &[]).await.unwrap();
    until_holds(&world, &next, &Plan::of(PLATFORM)).await;
    println!("the second install has protected a namespace: {} ms after SIGTERM to the first", start.elapsed().as_millis());
    second.until_logged(&world, "no older install of policy-baseline runs any more").await;

    // Then back again, although the second install is at work.
    world.restart_operator().await.unwrap();
    let told = || second.operator.log().matches("an older install of policy-baseline runs").count();
    world.eventually("the second one leaves the work to the first again", TIMEOUT, async || told() == 2).await.unwrap();
    let last = world.namespace("last", &[]).await.unwrap();
    until_holds(&world, &last, &Plan::of(PLATFORM)).await;
}

#[tokio::test]
async fn a_baseline_that_belongs_to_the_younger_install_is_stalled_and_says_another_instance() {
    let mut world = World::new().await.unwrap();
    apply_baseline(&world, PLATFORM, &json!({})).await;
    world.start_operator().await.unwrap();
    let team = world.namespace("team", &[]).await.unwrap();
    until_holds(&world, &team, &Plan::of(PLATFORM)).await;
    let second = Second::start(&world).await;
    second.until_logged(&world, "an older install of policy-baseline runs").await;

    annotate(&world, PLATFORM, Some(&second.namespace)).await;
    let is_stalled = |status: &policy_baseline::PolicyBaselineStatus| {
        let stalled = condition(status, "Stalled");
        stalled.status == "True" && stalled.reason == "AnotherInstance"
    };
    let status = until_status(&world, PLATFORM, "Stalled=AnotherInstance", is_stalled).await;
    let message = condition(&status, "Stalled").message;
    assert!(message.contains("runs in namespace policy-baseline-system") && message.contains(INSTANCE), "{message}");

    // Does what the message recommends, and that helps.
    annotate(&world, PLATFORM, None).await;
    until_ready(&world, PLATFORM).await;
    policies_of(&world.admin(), &team).delete(DENY_INGRESS, &DeleteParams::default()).await.unwrap();
    until_holds(&world, &team, &Plan::of(PLATFORM)).await;

    // The end of the younger install helps too.
    annotate(&world, PLATFORM, Some(&second.namespace)).await;
    until_status(&world, PLATFORM, "Stalled=AnotherInstance", is_stalled).await;
    let Second { mut operator, .. } = second;
    assert_eq!(operator.stop().unwrap(), 0);
    until_ready(&world, PLATFORM).await;
}

/// A Lease of that name in the tenant's namespace that never ends, and is renewed.
async fn forge(world: &World, namespace: &str, duration: i32, renewal: usize) {
    let lease = json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": { "name": "policy-baseline", "namespace": namespace },
        "spec": { "holderIdentity": "me", "leaseDurationSeconds": duration, "leaseTransitions": renewal },
    });
    world.apply_yaml(&lease.to_string()).await.unwrap();
}

#[tokio::test]
async fn i16_a_tenant_who_labels_a_namespace_and_writes_a_lease_of_that_name_stops_no_install() {
    let mut world = World::new().await.unwrap();
    apply_baseline(&world, PLATFORM, &json!({})).await;
    // Whoever may create namespaces may set the label, too.
    let mut tenants = Vec::new();
    for (label, duration) in [(false, 3600), (true, i32::MAX), (true, 3600)] {
        let labels = [(INSTANCE, "true")];
        let tenant = world.namespace("tenant", if label { &labels } else { &[] }).await.unwrap();
        forge(&world, &tenant, duration, 0).await;
        tenants.push((tenant, duration));
    }
    // Our Lease is younger than those.
    let leases: Api<k8s_openapi::api::coordination::v1::Lease> =
        Api::namespaced(world.admin(), policy_baseline_e2e::SYSTEM_NAMESPACE);
    drop(leases.delete("policy-baseline", &DeleteParams::default()).await);
    crate::support::a_second_later(&world).await;
    world.start_operator().await.unwrap();
    let team = world.namespace("team", &[]).await.unwrap();
    until_holds(&world, &team, &Plan::of(PLATFORM)).await;
    for renewal in 1..3 {
        for (tenant, duration) in &tenants {
            forge(&world, tenant, *duration, renewal).await;
        }
        let team = world.namespace("team", &[]).await.unwrap();
        until_holds(&world, &team, &Plan::of(PLATFORM)).await;
    }
    let log = world.operator().unwrap().log();
    assert!(!log.contains("installs of policy-baseline") && !log.contains("an older install"), "{log}");
}

#[tokio::test]
async fn i16_the_label_of_installs_that_comes_and_goes_ends_no_contest_and_picks_no_baseline_up_again() {
    let world = enforcing(&json!({})).await;
    let (ns, tenant) = protected(&world).await;
    forge(&world, &ns, 3600, 0).await;
    let relabelled = json!({ "metadata": { "labels": { "policybaseline.io/role": "other" } } });
    fight(&tenant, &ns, DENY_EGRESS, &relabelled, 8).await;
    let contested = is("Contested", DENY_EGRESS);
    until_violations(&world, &ns, &contested).await;
    let picked_up = || {
        let log = world.operator().unwrap().log();
        log.lines().filter(|line| line.contains("baseline picked up") && line.contains("baseline=platform")).count()
    };
    assert_eq!(picked_up(), 1);
    for round in 1..=10 {
        label(&world, &ns, INSTANCE, Some("true")).await;
        forge(&world, &ns, 3600, round).await;
        label(&world, &ns, INSTANCE, None).await;
    }
    fence_of_its_own(&world).await;
    until_violations(&world, &ns, &contested).await;
    assert_eq!(picked_up(), 1);
    until_holds(&world, &ns, &Plan::of(PLATFORM)).await;
}
