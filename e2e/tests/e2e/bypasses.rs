//! Bypasses that no policy makes alone, that depend on the labels of namespaces, or that are many.

use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, DeleteParams, ListParams};
use kube::{Client, ResourceExt};
use policy_baseline::PolicyBaselineStatus;
use policy_baseline_e2e::{World, skipped_without_audit_log};
use serde_json::{Value, json};

use crate::others::{blocks, create, is, until_violations};
use crate::repair::{PLATFORM, enforcing, protected};
use crate::scene::{Plan, condition, merge, policies_of, until_event, until_holds, until_status, writes_since};

/// A policy that lets these peers reach every pod of its namespace.
fn from(peers: &Value) -> Value {
    json!({ "podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{ "from": peers }] })
}

fn message<'a>(status: &'a PolicyBaselineStatus, namespace: &str) -> &'a str {
    &status.violations.iter().find(|violation| violation.namespace == namespace).unwrap().message
}

#[tokio::test]
async fn i11_namespaces_with_many_bypasses_hide_no_other_namespace_from_the_status() {
    let world = enforcing(&json!({})).await;
    let mut spaces = Vec::new();
    for name in ["a", "b", "c", "d", "z"] {
        let ns = world.namespace(name, &[]).await.unwrap();
        until_holds(&world, &ns, &Plan::of(PLATFORM)).await;
        spaces.push(ns);
    }
    let open = json!({ "podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{}] });
    for (ns, count) in spaces.iter().zip([5, 5, 5, 5, 1]) {
        for n in 0..count {
            create(&world.admin(), ns, &format!("open-{n}"), &open).await;
        }
    }
    let is_full = |status: &PolicyBaselineStatus| status.violations_omitted == 1;
    let status = until_status(&world, PLATFORM, "21 bypasses are found, of which one is not shown", is_full).await;
    assert_eq!((status.violations.len(), status.namespaces.bypassed), (20, 5));
    for ns in &spaces {
        assert!(status.violations.iter().any(|violation| violation.namespace == *ns), "{ns} is missing: {status:?}");
    }
}

#[tokio::test]
async fn i4_two_policies_that_open_everything_only_together_are_told_and_never_changed() {
    if skipped_without_audit_log() {
        return;
    }
    let world = enforcing(&json!({})).await;
    let (ns, tenant) = protected(&world).await;
    let mark = world.audit().unwrap().mark();
    create(&tenant, &ns, "lower", &from(&blocks(&["0.0.0.0/1"]))).await;
    create(&tenant, &ns, "upper", &from(&blocks(&["128.0.0.0/1"]))).await;
    let status = until_violations(&world, &ns, &is("Bypassed", "lower")).await;
    let told = "lower and upper together let every IPv4 address reach every pod on all ports";
    assert!(message(&status, &ns).starts_with(told), "{status:?}");
    assert_eq!((status.namespaces.bypassed, &*condition(&status, "Ready").status), (1, "True"));
    let event = until_event(&world, &tenant, &ns, "BaselineBypassed", "lower").await;
    assert!(event.message.unwrap().contains(told));

    // Rules for one port add up too.
    let policies = policies_of(&tenant, &ns);
    let rule = |cidr: &str, ports: [i32; 2]| {
        let ports: Value = ports.iter().map(|port| json!({ "port": port })).collect();
        json!({ "spec": { "ingress": [{ "from": blocks(&[cidr]), "ports": ports }] } })
    };
    merge(&policies, "lower", "tenant", &rule("0.0.0.0/1", [80, 443])).await;
    merge(&policies, "upper", "tenant", &rule("128.0.0.0/1", [81, 8443])).await;
    until_violations(&world, &ns, &[]).await;
    merge(&policies, "upper", "tenant", &rule("128.0.0.0/1", [443, 8443])).await;
    let status = until_violations(&world, &ns, &is("Bypassed", "lower")).await;
    assert!(message(&status, &ns).contains("on some ports"), "{status:?}");

    policies.delete("lower", &DeleteParams::default()).await.unwrap();
    until_violations(&world, &ns, &[]).await;
    assert!(writes_since(&world, mark).iter().all(|w| w.resource != "networkpolicies" || w.user != World::operator_user()), "I4");
}

async fn names(client: &Client) -> Vec<String> {
    let all = Api::<Namespace>::all(client.clone()).list(&ListParams::default()).await.unwrap();
    all.into_iter().map(|namespace| namespace.name_any()).collect()
}

fn named(names: &[String]) -> Value {
    let name = json!({ "key": "kubernetes.io/metadata.name", "operator": "In", "values": names });
    json!([{ "namespaceSelector": { "matchExpressions": [name] } }])
}

#[tokio::test]
async fn i4_a_policy_that_names_every_namespace_is_told_as_one_for_all_of_them() {
    let world = enforcing(&json!({})).await;
    for _ in 0..4 {
        world.namespace("other", &[]).await.unwrap();
    }
    let (ns, tenant) = protected(&world).await;
    let admin = world.admin();
    let all = names(&admin).await;
    create(&tenant, &ns, "names", &from(&named(&all))).await;
    let status = until_violations(&world, &ns, &is("Bypassed", "names")).await;
    let every_pod = "lets every pod of the cluster reach every pod on all ports";
    assert!(message(&status, &ns).contains(every_pod), "{status:?}");
    let event = until_event(&world, &tenant, &ns, "BaselineBypassed", "names").await;
    assert!(event.message.unwrap().contains(every_pod));

    // A few names are the tenant's decision. The other half in another policy is not.
    let policies = policies_of(&tenant, &ns);
    let (half, rest) = all.split_at(all.len() / 2);
    merge(&policies, "names", "tenant", &json!({ "spec": from(&named(half)) })).await;
    until_violations(&world, &ns, &[]).await;
    create(&tenant, &ns, "rest", &from(&named(rest))).await;
    let status = until_violations(&world, &ns, &is("Bypassed", "names")).await;
    assert!(message(&status, &ns).starts_with("names and rest together let every pod of the cluster reach"), "{status:?}");

    // One namespace more, which nobody named, changes nothing.
    let new = world.namespace("new", &[]).await.unwrap();
    until_holds(&world, &new, &Plan::of(PLATFORM)).await;
    until_violations(&world, &ns, &is("Bypassed", "names")).await;
}
