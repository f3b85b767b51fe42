//! What other users do to a baseline besides a single change of a policy: they fight for a policy, bypass it, or used its name before.

use std::collections::BTreeMap;

use futures::TryStreamExt;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::{DeleteParams, PostParams, WatchEvent, WatchParams};
use kube::{Client, ResourceExt};
use policy_baseline::{LABEL_ID, LABEL_MANAGED_BY, MANAGER, PolicyBaselineStatus, own_id};
use policy_baseline_e2e::{AuditEntry, TIMEOUT, World, skipped_without_audit_log};
use serde_json::{Value, json};

use crate::admin_port::metrics_of;
use crate::list_managed::until_orphans;
use crate::repair::{PLATFORM, enforcing, protected};
use crate::scene::{
    CARVEOUT, DENY_EGRESS, DENY_INGRESS, Plan, apply_baseline, condition, events, fence, merge, policies_of, policy_writes,
    tenant, until_event, until_holds, until_ready, until_status, version, writes_since,
};
use crate::support::follow;

/// Reasons and policies of the violations in a namespace.
fn violations(status: &PolicyBaselineStatus, namespace: &str) -> Vec<(String, String)> {
    let here = status.violations.iter().filter(|violation| violation.namespace == namespace);
    here.map(|violation| (violation.reason.into_str().to_owned(), violation.policy.clone().unwrap_or_default())).collect()
}

pub fn is(reason: &str, policy: &str) -> Vec<(String, String)> {
    vec![(reason.to_owned(), policy.to_owned())]
}

pub async fn until_violations(world: &World, namespace: &str, expected: &[(String, String)]) -> PolicyBaselineStatus {
    let what = format!("{namespace} has the violations {expected:?}");
    until_status(world, PLATFORM, &what, |status| violations(status, namespace) == expected).await
}

/// Creates a policy of a tenant.
pub async fn create(client: &Client, namespace: &str, name: &str, spec: &Value) -> NetworkPolicy {
    let object = json!({ "metadata": { "name": name }, "spec": spec });
    policies_of(client, namespace).create(&PostParams::default(), &serde_json::from_value(object).unwrap()).await.unwrap()
}

/// Changes a policy each time the operator has repaired it, `rounds` times. Returns after it was changed for the last time.
pub async fn fight(client: &Client, namespace: &str, policy: &str, change: &Value, rounds: usize) {
    let policies = policies_of(client, namespace);
    let planned = policies.get(policy).await.unwrap();
    let is_planned = |stored: &NetworkPolicy| stored.spec == planned.spec && stored.labels() == planned.labels();
    let mut seen = merge(&policies, policy, "other-operator", change).await;
    assert!(!is_planned(&seen));
    for _ in 1..rounds {
        let params = WatchParams::default().fields(&format!("metadata.name={policy}"));
        let events = follow(&policies, params, &version(&seen)).await.unwrap();
        let repaired = events.try_filter_map(async |event| {
            let WatchEvent::Modified(stored) = event else { return Ok(None) };
            Ok(is_planned(&stored).then_some(()))
        });
        let mut repaired = std::pin::pin!(repaired);
        tokio::time::timeout(TIMEOUT * 2, repaired.try_next()).await.expect("the policy is repaired").unwrap().unwrap();
        seen = merge(&policies, policy, "other-operator", change).await;
    }
}

// Contested.

#[tokio::test]
async fn i7_a_contested_policy_is_closed_soon_its_labels_wait_and_it_delays_no_other() {
    if skipped_without_audit_log() {
        return;
    }
    let world = enforcing(&json!({})).await;
    let ns = world.namespace("team", &[]).await.unwrap();
    let plan = Plan::of(PLATFORM);
    until_holds(&world, &ns, &plan).await;
    let tenant = tenant(&world, &[&ns]).await;
    let before = policies_of(&tenant, &ns).get(DENY_INGRESS).await.unwrap();
    let hole = json!({ "spec": { "ingress": [{}] } });
    fight(&tenant, &ns, DENY_INGRESS, &hole, 7).await;

    let event = until_event(&world, &tenant, &ns, "PolicyContested", DENY_INGRESS).await;
    let note = event.message.unwrap();
    assert!(note.contains("5 times within a minute") && note.contains("other-operator"), "{note}");
    let status = until_violations(&world, &ns, &is("Contested", DENY_INGRESS)).await;
    assert!(status.violations[0].message.contains("other-operator"), "{status:?}");
    let metric = r#"policy_baseline_contested_total{role="default_deny_ingress"} 1"#;
    assert!(metrics_of(&world).await.contains(metric));

    // The ninth repair of a label waits for eight seconds. Meanwhile the operator closes the other contested policy, creates a policy
    // again, and protects a new namespace.
    until_holds(&world, &ns, &plan).await;
    let relabelled = json!({ "metadata": { "labels": { "policybaseline.io/role": "other" } } });
    fight(&tenant, &ns, DENY_EGRESS, &relabelled, 9).await;
    let mark = world.audit().unwrap().mark();
    fight(&tenant, &ns, DENY_INGRESS, &hole, 2).await;
    policies_of(&tenant, &ns).delete(CARVEOUT, &DeleteParams::default()).await.unwrap();
    let other = world.namespace("other", &[]).await.unwrap();
    until_holds(&world, &other, &plan).await;
    let after = until_holds(&world, &ns, &plan).await;
    // Its repair comes last. All are repaired in place (I3).
    assert_eq!(after[DENY_INGRESS].uid(), before.uid());
    let is_logged = async || policy_writes(&writes_since(&world, mark), &ns).iter().any(|write| write.name == DENY_EGRESS);
    world.eventually("the audit log has caught up", TIMEOUT, is_logged).await.unwrap();
    let writes = writes_since(&world, mark);
    let ours = writes.iter().filter(|w| w.resource == "networkpolicies" && w.user == World::operator_user());
    let names: Vec<(&str, &str)> = ours.map(|w| (w.namespace.as_str(), w.name.as_str())).collect();
    assert_eq!(names.last(), Some(&(&*ns, DENY_EGRESS)), "{names:?}");
    assert_eq!(names.iter().filter(|name| **name == (&ns, DENY_INGRESS)).count(), 2, "{names:?}");
    let contested = events(&tenant, &ns).await.into_iter().filter(|e| e.reason.as_deref() == Some("PolicyContested"));
    assert_eq!(contested.count(), 2, "one for each policy");
}

// Bypass.

pub fn blocks(cidrs: &[&str]) -> Value {
    cidrs.iter().map(|cidr| json!({ "ipBlock": { "cidr": cidr } })).collect()
}

/// A tenant's policies, and the text that the status reports for each. None if the policy is no bypass.
fn bypasses() -> Vec<(&'static str, Value, Option<&'static str>)> {
    let ingress = |rules: Value| json!({ "podSelector": {}, "policyTypes": ["Ingress"], "ingress": rules });
    let egress = |rules: Value| json!({ "podSelector": {}, "policyTypes": ["Egress"], "egress": rules });
    let halves = blocks(&["0.0.0.0/1", "128.0.0.0/1"]);
    vec![
        ("everything", ingress(json!([{}])), Some("spec.ingress[0] lets everybody reach every pod on all ports")),
        ("empty-from", ingress(json!([{ "from": [] }])), Some("spec.ingress[0] lets everybody reach every pod on all ports")),
        ("one-port", ingress(json!([{ "ports": [{ "port": 80 }] }])), Some("lets everybody reach every pod on some ports")),
        (
            "halves",
            egress(json!([{ "to": halves }])),
            Some("spec.egress[0] lets every pod reach every IPv4 address on all ports"),
        ),
        (
            "cluster",
            ingress(json!([{ "from": [{ "namespaceSelector": {} }] }])),
            Some("lets every pod of the cluster reach every pod"),
        ),
        (
            "almost",
            json!({ "podSelector": { "matchExpressions": [{ "key": "no-such", "operator": "DoesNotExist" }] }, "ingress": [{}] }),
            Some("reach almost every pod on all ports"),
        ),
        (
            "no-multicast",
            egress(
                json!([{ "to": [{ "ipBlock": { "cidr": "0.0.0.0/0", "except": ["224.0.0.0/4", "240.0.0.0/4", "127.0.0.0/8"] } }] }]),
            ),
            Some("spec.egress[0] lets every pod reach every IPv4 address on all ports"),
        ),
        (
            "global-ipv6",
            ingress(json!([{ "from": blocks(&["2000::/3"]) }])),
            Some("spec.ingress[0] lets every IPv6 address reach every pod on all ports"),
        ),
        (
            "private",
            egress(json!([{ "to": blocks(&["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10"]) }])),
            Some("spec.egress[0] lets every pod reach every pod of the cluster on all ports"),
        ),
        (
            "shared-port",
            egress(json!([
                { "to": blocks(&["0.0.0.0/1"]), "ports": [{ "port": 80 }, { "port": 443 }] },
                { "to": blocks(&["128.0.0.0/1"]), "ports": [{ "port": 80 }, { "port": 443 }, { "port": 81 }] },
            ])),
            Some("spec.egress[0] lets every pod reach every IPv4 address on some ports"),
        ),
        (
            "decided",
            ingress(json!([{ "from": [{ "namespaceSelector": { "matchExpressions": [
                { "key": "policybaseline.io/decided", "operator": "Exists" }] } }] }])),
            Some("lets every pod of the cluster reach every pod"),
        ),
        (
            "internet",
            egress(
                json!([{ "to": [{ "ipBlock": { "cidr": "0.0.0.0/0", "except": ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"] } }] }]),
            ),
            None,
        ),
        ("company", egress(json!([{ "to": blocks(&["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"]) }])), None),
        ("one-app", json!({ "podSelector": { "matchLabels": { "app": "web" } }, "ingress": [{}] }), None),
        ("same-namespace", ingress(json!([{ "from": [{ "podSelector": {} }] }])), None),
        ("dns", egress(json!([{ "ports": [{ "port": 53 }, { "port": 53, "protocol": "UDP" }] }])), None),
    ]
}

/// A policy that says that it is the operator's: the labels of ours, the id for its own name, and the name of a baseline or none.
pub fn forged(namespace: &str, name: &str, baseline: Option<&str>) -> NetworkPolicy {
    let mut labels = json!({ LABEL_MANAGED_BY: MANAGER, LABEL_ID: own_id(namespace, name) });
    if let Some(baseline) = baseline {
        labels["policybaseline.io/baseline"] = baseline.into();
    }
    let spec = json!({ "podSelector": {}, "policyTypes": ["Ingress", "Egress"], "ingress": [{}], "egress": [{}] });
    serde_json::from_value(json!({ "metadata": { "name": name, "labels": labels }, "spec": spec })).unwrap()
}

#[tokio::test]
async fn i4_a_policy_with_forged_ownership_is_told_as_a_bypass_and_counted_as_an_orphan_also_after_a_restart() {
    if skipped_without_audit_log() {
        return;
    }
    let mut world = enforcing(&json!({})).await;
    let (ns, tenant) = protected(&world).await;
    let policies = policies_of(&tenant, &ns);
    let names = ["forged-gone", "forged-none"];
    for (name, baseline) in names.into_iter().zip([Some("nonexistent"), None]) {
        policies.create(&PostParams::default(), &forged(&ns, name, baseline)).await.unwrap();
    }
    let told = names.map(|name| ("Bypassed".to_owned(), name.to_owned()));
    let status = until_violations(&world, &ns, &told).await;
    for violation in &status.violations {
        assert!(violation.message.contains("it has the operator's labels, but no baseline plans it"), "{}", violation.message);
    }
    assert_eq!(status.namespaces.bypassed, 1);
    for name in names {
        until_event(&world, &tenant, &ns, "BaselineBypassed", name).await;
    }
    until_orphans(&world, 2).await;
    world.restart_operator().await.unwrap();
    until_orphans(&world, 2).await;
    until_violations(&world, &ns, &told).await;

    // One that names a living baseline is removed, because that one plans no such policy.
    policies.create(&PostParams::default(), &forged(&ns, "forged-living", Some(PLATFORM))).await.unwrap();
    let beside = names.into_iter().fold(Plan::of(PLATFORM), Plan::beside);
    until_holds(&world, &ns, &beside).await;
    for name in names {
        policies.delete(name, &DeleteParams::default()).await.unwrap();
    }
    until_violations(&world, &ns, &[]).await;
    until_orphans(&world, 0).await;
}

#[tokio::test]
async fn i4_a_bypass_is_found_by_what_it_means_told_and_never_changed() {
    if skipped_without_audit_log() {
        return;
    }
    let world = enforcing(&json!({})).await;
    let cases = bypasses();
    let mut spaces = BTreeMap::new();
    for (name, ..) in &cases {
        let ns = world.namespace(name, &[]).await.unwrap();
        until_holds(&world, &ns, &Plan::of(PLATFORM)).await;
        spaces.insert(*name, ns);
    }
    until_ready(&world, PLATFORM).await;
    let admin = world.admin();
    let mark = world.audit().unwrap().mark();
    let mut made = BTreeMap::new();
    for (name, spec, _) in &cases {
        made.insert(*name, version(&create(&admin, &spaces[name], name, spec).await));
    }
    let found = u32::try_from(cases.iter().filter(|(.., told)| told.is_some()).count()).unwrap();
    let what = "every bypass is counted";
    let status = until_status(&world, PLATFORM, what, |status| status.namespaces.bypassed == found).await;
    assert_eq!(condition(&status, "Ready").status, "True", "what others open is no failure of ours");
    for (name, _, told) in &cases {
        let ns = &spaces[name];
        let Some(told) = told else {
            assert_eq!(violations(&status, ns), [], "{name}");
            continue;
        };
        assert_eq!(violations(&status, ns), is("Bypassed", name));
        let message = &status.violations.iter().find(|v| v.namespace == *ns).unwrap().message;
        assert!(message.contains(told), "{name}: {message}");
        let event = until_event(&world, &admin, ns, "BaselineBypassed", name).await;
        assert!(event.message.unwrap().contains(told), "{name}");
        let stored = policies_of(&admin, ns).get(name).await.unwrap();
        assert_eq!((version(&stored), event.involved_object.uid), (made[name].clone(), stored.uid()));
    }
    assert!(writes_since(&world, mark).iter().all(|write| write.resource != "networkpolicies"), "I4");
    let metric = format!("policy_baseline_namespaces_bypassed {found}");
    assert!(metrics_of(&world).await.contains(&metric));

    policies_of(&admin, &spaces["everything"]).delete("everything", &DeleteParams::default()).await.unwrap();
    until_status(&world, PLATFORM, "one is gone", |status| status.namespaces.bypassed == found - 1).await;
}

/// All IPv4 addresses in blocks of which every second one is on other ports, so that they must be added up port by port.
fn too_large() -> Value {
    let blocks = |skip: u32| -> Value {
        let cidr = |n: u32| json!({ "ipBlock": { "cidr": format!("{}/14", std::net::Ipv4Addr::from_bits(n << 18)) } });
        (skip..1 << 14).step_by(2).map(cidr).collect()
    };
    let rules = json!([
        { "from": blocks(0), "ports": [{ "port": 80 }, { "port": 443 }] },
        { "from": blocks(1), "ports": [{ "port": 443 }, { "port": 8443 }] },
    ]);
    json!({ "podSelector": {}, "policyTypes": ["Ingress"], "ingress": rules })
}

#[tokio::test]
async fn i7_a_policy_that_is_too_large_to_judge_is_told_and_delays_no_other_namespace() {
    if skipped_without_audit_log() {
        return;
    }
    let world = enforcing(&json!({})).await;
    let ns = world.namespace("team", &[]).await.unwrap();
    until_holds(&world, &ns, &Plan::of(PLATFORM)).await;
    let admin = world.admin();
    let mark = world.audit().unwrap().mark();
    create(&admin, &ns, "large", &too_large()).await;
    let status = until_violations(&world, &ns, &is("TooLargeToJudge", "large")).await;
    assert!(status.violations[0].message.starts_with("spec.ingress: too many rules, blocks and ports"), "{status:?}");
    assert_eq!((status.namespaces.bypassed, &*condition(&status, "Ready").status), (0, "True"));

    // Whatever happens to its metadata, other namespaces are protected and the violation stays.
    let policies = policies_of(&admin, &ns);
    for n in 0..20 {
        merge(&policies, "large", "tenant", &json!({ "metadata": { "annotations": { "touched": n.to_string() } } })).await;
    }
    let other = world.namespace("other", &[]).await.unwrap();
    until_holds(&world, &other, &Plan::of(PLATFORM)).await;
    until_violations(&world, &ns, &is("TooLargeToJudge", "large")).await;
    let writes = writes_since(&world, mark);
    assert!(writes.iter().all(|write| write.resource != "networkpolicies" || write.namespace == other), "I4");
    assert!(events(&admin, &ns).await.iter().all(|event| event.reason.as_deref() != Some("BaselineBypassed")));

    // With one set of ports, the blocks are added up once.
    let mut simple = too_large();
    simple["ingress"] = simple["ingress"].as_array().unwrap().iter().map(|rule| json!({ "from": rule["from"] })).collect();
    merge(&policies, "large", "tenant", &json!({ "spec": simple })).await;
    until_violations(&world, &ns, &is("Bypassed", "large")).await;
}

#[tokio::test]
async fn i2_a_restart_tells_no_bypass_again() {
    if skipped_without_audit_log() {
        return;
    }
    let mut world = enforcing(&json!({})).await;
    let ns = world.namespace("team", &[]).await.unwrap();
    until_holds(&world, &ns, &Plan::of(PLATFORM)).await;
    create(&world.admin(), &ns, "open", &json!({ "podSelector": {}, "ingress": [{}] })).await;
    until_event(&world, &world.admin(), &ns, "BaselineBypassed", "open").await;
    until_violations(&world, &ns, &is("Bypassed", "open")).await;
    until_ready(&world, PLATFORM).await;
    world.stop_operator().unwrap();
    let mark = world.audit().unwrap().mark();
    world.start_operator().await.unwrap();
    // The operator has checked all policies, and works.
    let counted = "policy_baseline_namespaces_bypassed 1";
    let looked = async || metrics_of(&world).await.contains(counted);
    world.eventually("the bypass is counted", TIMEOUT, looked).await.unwrap();
    fence(&world, &Plan::of(PLATFORM), &[]).await;
    let about = |write: &AuditEntry| write.namespace == ns;
    assert_eq!(writes_since(&world, mark).iter().filter(|write| about(write)).count(), 0);
}

// What the operator does not check.

/// A CRD of that name, `<plural>.<group>`.
fn crd(name: &str) -> String {
    let (plural, group) = name.split_once('.').unwrap();
    let crd = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": { "name": name },
        "spec": {
            "group": group, "scope": "Namespaced", "names": { "plural": plural, "singular": plural, "kind": plural },
            "versions": [{ "name": "v2", "served": true, "storage": true,
                "schema": { "openAPIV3Schema": { "type": "object", "x-kubernetes-preserve-unknown-fields": true } } }],
        },
    });
    crd.to_string()
}

/// Kinds of network plugins are known by their shape, so one that nobody has named is told too.
#[tokio::test]
async fn a_cluster_that_knows_other_policies_is_told_that_those_are_not_looked_at() {
    const KINDS: [&str; 6] = [
        "applicationnetworkpolicies.networking.k8s.aws",
        "ciliumnetworkpolicies.cilium.io",
        "clusternetworkpolicies.networking.k8s.aws",
        "fqdnnetworkpolicies.networking.gke.io",
        "newnetworkpolicies.example.com",
        "tiers.projectcalico.org",
    ];
    let mut world = World::new().await.unwrap();
    world.discard();
    apply_baseline(&world, PLATFORM, &json!({})).await;
    world.start_operator().await.unwrap();
    world.apply_yaml(&crd("ciliumendpoints.cilium.io")).await.unwrap();
    let status = until_ready(&world, PLATFORM).await;
    assert_eq!(condition(&status, "BypassCoverage").status, "Unknown", "nothing is said where there is nothing to say");
    for kind in KINDS {
        world.apply_yaml(&crd(kind)).await.unwrap();
    }
    let is_told = |status: &PolicyBaselineStatus| condition(status, "BypassCoverage").status == "False";
    let names_all = |status: &PolicyBaselineStatus| {
        let told = condition(status, "BypassCoverage");
        is_told(status) && KINDS.iter().all(|kind| told.message.contains(kind))
    };
    let status = until_status(&world, PLATFORM, "the status names all of them", names_all).await;
    let told = condition(&status, "BypassCoverage");
    assert_eq!(told.reason, "NetworkPolicyOnly");
    assert!(!told.message.contains("ciliumendpoints"), "{}", told.message);
    let args = [&["delete", "crd"][..], &KINDS].concat();
    world.plane().run_kubectl(&args).unwrap();
    until_status(&world, PLATFORM, "and no more", |status| !is_told(status)).await;
}
