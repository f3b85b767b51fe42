//! What a namespace gets when a baseline first selects it: all three policies at once if it is new, a report if it is not.
//! One file: the tests share their scene.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Namespace, ResourceQuota};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, PostParams};
use policy_baseline::{NoticeReason, PolicyBaselineStatus};
use policy_baseline_e2e::{SYSTEM_NAMESPACE, TIMEOUT, World, skipped_without_audit_log};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::scene::{
    Plan, apply_baseline, baseline, baselines, condition, policies_of, prometheus, until_holds, until_only, until_ready,
    until_status,
};
use crate::support::{
    TEAM, Writes, a_second_later, conditions, fence_of_its_own, label, remove_baseline, stored, team, uids, versions,
};

const INGRESS: &str = "baseline-default-deny-ingress";
const CARVEOUT: &str = "baseline-monitoring-carveout";

#[tokio::test]
async fn i1_a_new_namespace_gets_exactly_the_three_policies() {
    let mut world = World::new().await.unwrap();
    apply_baseline(&world, "platform", &json!({})).await;
    world.start_operator().await.unwrap();
    until_ready(&world, "platform").await;
    let ns = world.namespace("new", &[]).await.unwrap();
    until_status(&world, "platform", "one is protected", |status| status.namespaces.protected == 1).await;

    let dns = json!([{
        "to": [kube_dns()],
        "ports": [{ "protocol": "UDP", "port": 53 }, { "protocol": "TCP", "port": 53 }],
    }]);
    let scrape = json!([{
        "from": prometheus(),
        "ports": default_ports(),
    }]);
    let exposing = json!({ "matchLabels": { "monitoring.io/expose-metrics": "true" } });
    assert_eq!(
        specs(&stored(&world, &ns).await),
        BTreeMap::from([
            ("baseline-default-deny-egress", json!({ "podSelector": {}, "policyTypes": ["Egress"], "egress": dns })),
            (INGRESS, json!({ "podSelector": {}, "policyTypes": ["Ingress"] })),
            (CARVEOUT, json!({ "podSelector": exposing, "policyTypes": ["Ingress"], "ingress": scrape })),
        ])
    );
    for (name, policy) in stored(&world, &ns).await {
        let role = match name.as_str() {
            INGRESS => "DefaultDenyIngress",
            CARVEOUT => "MonitoringCarveout",
            _ => "DefaultDenyEgress",
        };
        assert_metadata(&policy, "platform", role, &[], &[]);
    }
}

#[tokio::test]
async fn i1_a_policy_that_is_deleted_before_its_siblings_are_written_comes_back() {
    let mut world = World::new().await.unwrap();
    if world.plane().is_external() {
        return; // The API server of an external cluster cannot call this process.
    }
    world.start_operator().await.unwrap();
    apply_baseline(&world, "platform", &json!({ "namespaceSelector": team("a") })).await;
    until_ready(&world, "platform").await;
    // A webhook that never answers, so each write of a carve-out takes some seconds.
    let deaf = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/", deaf.local_addr().unwrap());
    let webhook = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration", "metadata": { "name": "slow" },
        "webhooks": [{
            "name": "slow.e2e.policybaseline.io", "clientConfig": { "url": url }, "timeoutSeconds": 4, "failurePolicy": "Ignore",
            "sideEffects": "None", "admissionReviewVersions": ["v1"],
            "objectSelector": { "matchLabels": { "policybaseline.io/role": "MonitoringCarveout" } },
            "rules": [{
                "apiGroups": ["networking.k8s.io"], "apiVersions": ["v1"], "resources": ["networkpolicies"],
                "operations": ["CREATE", "UPDATE"],
            }],
        }],
    });
    world.apply_yaml(&webhook.to_string()).await.unwrap();
    let probe = json!({ "metadata": { "name": "probe", "labels": { "policybaseline.io/role": "MonitoringCarveout" } } });
    let probe: NetworkPolicy = serde_json::from_value(probe).unwrap();
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    let is_asked = async || {
        let default = policies_of(&world.admin(), "default");
        tokio::select! {
            asked = deaf.accept() => asked.is_ok(),
            _ = default.create(&dry, &probe) => false,
        }
    };
    world.eventually("the webhook is asked", TIMEOUT, is_asked).await.unwrap();

    let ns = world.namespace("early", &[(TEAM, "a")]).await.unwrap();
    let policies = policies_of(&world.admin(), &ns);
    let delete = async || policies.delete(INGRESS, &DeleteParams::default()).await.map(|_| true);
    world.eventually("the policy is there, and is deleted", TIMEOUT, delete).await.unwrap();
    assert!(policies.get_opt(CARVEOUT).await.unwrap().is_none(), "its sibling is still being written");
    // From now on it refuses connections, so nothing waits for it.
    drop(deaf);
    until_holds(&world, &ns, &Plan::of("platform")).await;
}

#[tokio::test]
async fn a_customised_spec_shapes_every_policy() {
    let mut world = World::new().await.unwrap();
    world.start_operator().await.unwrap();
    let unbound = json!({
        "namespaceSelector": { "matchLabels": { "dns": "own" } }, "podSelector": { "matchLabels": { "app": "unbound" } },
    });
    let anywhere = json!({ "namespaceSelector": { "matchExpressions": [{ "key": "dns", "operator": "Exists" }] } });
    let addresses = json!({ "ipBlock": { "cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"] } });
    let local = json!({ "ipBlock": { "cidr": "fd00::a/128" } });
    let sre = json!({ "namespaceSelector": { "matchLabels": { "team": "sre" } }, "podSelector": {} });
    let agents = json!({
        "namespaceSelector": { "matchExpressions": [{ "key": "tier", "operator": "In", "values": ["observe", "sre"] }] },
        "podSelector": { "matchLabels": { "app": "agent" }, "matchExpressions": [{ "key": "old", "operator": "DoesNotExist" }] },
    });
    let scraped = json!({ "matchExpressions": [{ "key": "scrape", "operator": "NotIn", "values": ["never"] }] });
    let spec = json!({
        "dns": { "peers": [unbound, anywhere, addresses, local], "ports": [5353, 1053] },
        "monitoring": {
            "from": [sre, agents],
            "podSelector": scraped,
            "ports": [{ "port": "http-metrics" }, { "protocol": "UDP", "port": 161 }, { "port": 9000, "endPort": 9010 }],
        },
        "metadata": {
            "namePrefix": "pci-",
            "labels": { "example.com/owner": "security" },
            "annotations": { "example.com/doc": "see https://wiki.example.com/?p=1, in full" },
        },
    });
    apply_baseline(&world, "custom", &spec).await;
    until_ready(&world, "custom").await;
    let ns = world.namespace("custom", &[]).await.unwrap();
    until_status(&world, "custom", "one is protected", |status| status.namespaces.protected == 1).await;

    let dns_ports: Value =
        [53, 5353, 1053].iter().flat_map(|port| ["UDP", "TCP"].map(|way| json!({ "protocol": way, "port": port }))).collect();
    let egress = json!([{ "to": [kube_dns(), unbound, anywhere, addresses, local], "ports": dns_ports }]);
    let ports = json!([
        { "protocol": "TCP", "port": "http-metrics" },
        { "protocol": "UDP", "port": 161 },
        { "protocol": "TCP", "port": 9000, "endPort": 9010 },
    ]);
    let ingress = json!([{ "from": [sre, agents], "ports": ports }]);
    let found = stored(&world, &ns).await;
    assert_eq!(
        specs(&found),
        BTreeMap::from([
            ("pci-default-deny-egress", json!({ "podSelector": {}, "policyTypes": ["Egress"], "egress": egress })),
            ("pci-default-deny-ingress", json!({ "podSelector": {}, "policyTypes": ["Ingress"] })),
            ("pci-monitoring-carveout", json!({ "podSelector": scraped, "policyTypes": ["Ingress"], "ingress": ingress })),
        ])
    );
    for (name, role) in [
        ("pci-default-deny-egress", "DefaultDenyEgress"),
        ("pci-default-deny-ingress", "DefaultDenyIngress"),
        ("pci-monitoring-carveout", "MonitoringCarveout"),
    ] {
        let (labels, annotations) =
            ([("example.com/owner", "security")], [("example.com/doc", "see https://wiki.example.com/?p=1, in full")]);
        assert_metadata(&found[name], "custom", role, &labels, &annotations);
    }
}

#[tokio::test]
async fn an_existing_namespace_is_only_reported_until_the_spec_says_enforce() {
    if skipped_without_audit_log() {
        return;
    }
    let mut world = World::new().await.unwrap();
    world.start_operator().await.unwrap();
    let old = world.namespace("old", &[(TEAM, "a")]).await.unwrap();
    a_second_later(&world).await;
    let writes = Writes::from_now(&world);
    apply_baseline(&world, "platform", &json!({ "namespaceSelector": team("a") })).await;

    let status = until_status(&world, "platform", "one is reported", |status| status.namespaces.reported == 1).await;
    assert_eq!((status.namespaces.selected, status.namespaces.protected), (1, 0));
    assert_eq!(conditions(&status), "Ready=True ExistingNamespacesOnlyReported, Reconciling=False Settled, Stalled=False Valid");
    let existing = condition(&status, "ExistingNamespacesClosed");
    assert_eq!((&*existing.status, &*existing.reason), ("False", "ExistingNamespacesOnlyReported"));
    let [notice] = &status.notices[..] else { panic!("{:?}", status.notices) };
    assert_eq!((notice.namespace.as_str(), notice.reason), (old.as_str(), NoticeReason::ExistingNamespace));
    assert_eq!(status.violations, vec![]);
    for name in Plan::of("platform").policies().keys() {
        assert!(notice.message.contains(&format!("create {name}")), "{}", notice.message);
    }
    assert_eq!(notice.policy, None);
    assert!(notice.message.contains("existingNamespaces: Enforce"), "{}", notice.message);

    let new = world.namespace("new", &[(TEAM, "a")]).await.unwrap();
    let plan = Plan::of("platform");
    let before = until_holds(&world, &new, &plan).await;
    fence_of_its_own(&world).await;
    assert_eq!(writes.inside(&old), []);
    assert_eq!(world.policies(&old).await.unwrap(), []);

    apply_baseline(&world, "platform", &json!({ "namespaceSelector": team("a"), "existingNamespaces": "Enforce" })).await;
    until_holds(&world, &old, &plan).await;
    let status = until_status(&world, "platform", "two are protected", |status| status.namespaces.protected == 2).await;
    assert_eq!((status.namespaces.selected, status.namespaces.reported, status.notices), (2, 0, vec![]));
    assert_eq!(versions(&stored(&world, &new).await), versions(&before));
}

/// A namespace, a baseline and another namespace, all of the same second.
async fn within_a_second(world: &World) -> (String, String, String) {
    for attempt in 0..20 {
        let name = format!("platform-{attempt}");
        a_second_later(world).await;
        let old = world.namespace("old", &[(TEAM, &name)]).await.unwrap();
        // `apply_yaml` would wait for the next second.
        world.try_apply_yaml(&baseline(&name, &json!({ "namespaceSelector": team(&name) }))).await.unwrap();
        let new = world.namespace("new", &[(TEAM, &name)]).await.unwrap();
        let namespaces: Api<Namespace> = Api::all(world.admin());
        let mut created = vec![baselines(world).get(&name).await.unwrap().creation_timestamp()];
        for ns in [&old, &new] {
            created.push(namespaces.get(ns).await.unwrap().creation_timestamp());
        }
        created.dedup();
        if created.len() == 1 {
            return (old, name, new);
        }
        remove_baseline(world, &name).await;
    }
    panic!("three objects take longer than a second");
}

#[tokio::test]
async fn a_namespace_that_is_older_than_the_baseline_by_less_than_a_second_is_only_reported() {
    let mut world = World::new().await.unwrap();
    world.start_operator().await.unwrap();
    let (old, platform, new) = within_a_second(&world).await;
    let before = until_holds(&world, &new, &Plan::of(&platform)).await;
    let both = |status: &PolicyBaselineStatus| (status.namespaces.reported, status.namespaces.protected) == (1, 1);
    let status = until_status(&world, &platform, "one is reported, one is protected", both).await;
    assert_eq!(status.notices.iter().map(|notice| notice.namespace.as_str()).collect::<Vec<_>>(), [&*old]);
    assert_eq!(world.policies(&old).await.unwrap(), []);

    // After a restart, the policies show which of the two is protected.
    world.restart_operator().await.unwrap();
    fence_of_its_own(&world).await;
    until_status(&world, &platform, "as before", both).await;
    assert_eq!(world.policies(&old).await.unwrap(), []);
    assert_eq!(versions(&stored(&world, &new).await), versions(&before));
}

#[tokio::test]
async fn an_empty_spec_writes_nothing_into_the_namespaces_that_are_there() {
    if skipped_without_audit_log() {
        return;
    }
    let mut world = World::new().await.unwrap();
    let old = [world.namespace("old", &[]).await.unwrap(), world.namespace("old", &[("team", "a")]).await.unwrap()];
    a_second_later(&world).await;
    let writes = Writes::from_now(&world);
    apply_baseline(&world, "platform", &json!({})).await;
    world.start_operator().await.unwrap();
    let status = until_ready(&world, "platform").await;
    // Those two and `default`.
    assert!(status.namespaces.reported >= 3, "{:?}", status.namespaces);
    assert_eq!((status.namespaces.reported, status.namespaces.protected), (status.namespaces.selected, 0));

    let new = fence_of_its_own(&world).await;
    let written = writes.of_policies();
    assert!(written.iter().all(|entry| entry.namespace == new), "{written:#?}");
    for ns in old.iter().map(String::as_str).chain(["default"]) {
        assert_eq!(world.policies(ns).await.unwrap(), [], "{ns}");
    }
}

#[tokio::test]
async fn what_a_former_baseline_left_is_adopted_in_place() {
    if skipped_without_audit_log() {
        return;
    }
    let mut world = World::new().await.unwrap();
    world.start_operator().await.unwrap();
    apply_baseline(&world, "former", &json!({ "namespaceSelector": team("a") })).await;
    apply_baseline(&world, "platform", &json!({ "namespaceSelector": team("b") })).await;
    let of_former = world.namespace("former", &[(TEAM, "a")]).await.unwrap();
    let of_platform = world.namespace("platform", &[(TEAM, "b")]).await.unwrap();
    let open = world.namespace("open", &[(TEAM, "c")]).await.unwrap();
    let left_by_former = until_holds(&world, &of_former, &Plan::of("former")).await;
    let left_by_platform = until_holds(&world, &of_platform, &Plan::of("platform")).await;
    remove_baseline(&world, "former").await;
    remove_baseline(&world, "platform").await;
    a_second_later(&world).await;

    // All three namespaces are older than this baseline, so it only reports on those that are open.
    let writes = Writes::from_now(&world);
    let teams = json!({ "matchExpressions": [{ "key": TEAM, "operator": "In", "values": ["a", "b", "c"] }] });
    apply_baseline(&world, "platform", &json!({ "existingNamespaces": "Report", "namespaceSelector": teams })).await;
    let status = until_ready(&world, "platform").await;
    assert_eq!((status.namespaces.protected, status.namespaces.reported), (2, 1));
    let adopted = until_holds(&world, &of_former, &Plan::of("platform")).await;
    assert_eq!(uids(&adopted), uids(&left_by_former));
    assert_eq!(versions(&stored(&world, &of_platform).await), versions(&left_by_platform));
    assert_eq!(world.policies(&open).await.unwrap(), []);
    let written = writes.of_policies();
    assert!(written.iter().all(|entry| entry.namespace == of_former && entry.verb == "patch"), "{written:#?}");
}

#[tokio::test]
async fn the_monitoring_namespace_gets_no_default_deny_egress() {
    const TIER: &str = "e2e.policybaseline.io/tier";
    let mut world = World::new().await.unwrap();
    world.start_operator().await.unwrap();
    // The carve-out contains the source, so its spec would change too.
    let policies = json!(["DefaultDenyIngress", "DefaultDenyEgress"]);
    apply_baseline(&world, "platform", &json!({ "policies": policies })).await;
    until_ready(&world, "platform").await;
    world.namespace_named("monitoring", &[]).await.unwrap();
    let sre = world.namespace("sre", &[(TIER, "sre")]).await.unwrap();
    let both = Plan::of("platform").without("MonitoringCarveout");
    let no_egress = both.clone().without("DefaultDenyEgress");
    let before = until_holds(&world, "monitoring", &no_egress).await;
    until_holds(&world, &sre, &both).await;

    // Another source. The former source is an ordinary namespace now, and the new source was one before.
    let from = json!([{ "namespaceSelector": { "matchLabels": { TIER: "sre" } }, "podSelector": {} }]);
    apply_baseline(&world, "platform", &json!({ "policies": policies, "monitoring": { "from": from } })).await;
    let after = until_holds(&world, "monitoring", &both).await;
    assert_eq!(after[INGRESS], before[INGRESS]);
    until_holds(&world, &sre, &no_egress).await;

    label(&world, &sre, TIER, None).await;
    until_holds(&world, &sre, &both).await;
}

#[tokio::test]
async fn a_namespace_opts_in_to_being_scraped_by_the_monitoring_namespace_selector() {
    const SCRAPE: &str = "monitoring.io/allow-scrape";
    let mut world = World::new().await.unwrap();
    world.start_operator().await.unwrap();
    let monitoring = json!({ "namespaceSelector": { "matchLabels": { SCRAPE: "true" } } });
    apply_baseline(&world, "platform", &json!({ "monitoring": monitoring })).await;
    until_ready(&world, "platform").await;
    let closed = world.namespace("closed", &[(SCRAPE, "false")]).await.unwrap();
    let scraped = world.namespace("scraped", &[(SCRAPE, "true")]).await.unwrap();
    let all = Plan::of("platform");
    let two = all.clone().without("MonitoringCarveout");
    let before = until_holds(&world, &scraped, &all).await;
    until_holds(&world, &closed, &two).await;

    label(&world, &closed, SCRAPE, Some("true")).await;
    label(&world, &scraped, SCRAPE, None).await;
    until_holds(&world, &closed, &all).await;
    let after = until_holds(&world, &scraped, &two).await;
    let mut kept = versions(&before);
    kept.remove(CARVEOUT);
    assert_eq!(versions(&after), kept);
}

#[tokio::test]
async fn the_conditions_tell_ready_reconciling_and_stalled() {
    let mut world = World::new().await.unwrap();
    world.start_operator().await.unwrap();
    let ns = world.namespace("full", &[(TEAM, "a")]).await.unwrap();
    let quota = json!({
        "apiVersion": "v1", "kind": "ResourceQuota", "metadata": { "name": "one", "namespace": ns },
        "spec": { "hard": { "count/networkpolicies.networking.k8s.io": "1" } },
    });
    world.apply_yaml(&quota.to_string()).await.unwrap();
    let quotas: Api<ResourceQuota> = Api::namespaced(world.admin(), &ns);
    let in_force = async || quotas.get("one").await.map(|quota| quota.status.and_then(|status| status.used));
    world.eventually("the quota is in force", TIMEOUT, in_force).await.unwrap();

    let spec = json!({ "namespaceSelector": team("a"), "existingNamespaces": "Enforce" });
    apply_baseline(&world, "platform", &spec).await;
    let failing = until_status(&world, "platform", "one failed", |status| status.namespaces.failed == 1).await;
    assert_eq!(conditions(&failing), "Ready=False WritesFailing, Reconciling=True WritesFailing, Stalled=False Valid");

    quotas.delete("one", &DeleteParams::default()).await.unwrap();
    let well = until_status(&world, "platform", "one is protected", |status| status.namespaces.protected == 1).await;
    assert_eq!(conditions(&well), "Ready=True Protected, Reconciling=False Settled, Stalled=False Valid");

    // The CRD does not validate label keys; the operator does.
    apply_baseline(&world, "platform", &json!({ "namespaceSelector": { "matchLabels": { "not a key": "x" } } })).await;
    let is_stalled = |status: &_| condition(status, "Stalled").status == "True";
    let stalled = until_status(&world, "platform", "it is stalled", is_stalled).await;
    assert_eq!(conditions(&stalled), "Ready=False InvalidSelector, Reconciling=False Settled, Stalled=True InvalidSelector");
    let message = condition(&stalled, "Stalled").message;
    assert!(message.contains("spec.namespaceSelector") && message.contains("not a key"), "{message}");
    assert!(stalled.observed_generation > well.observed_generation);

    apply_baseline(&world, "platform", &spec).await;
    let well = until_ready(&world, "platform").await;
    assert_eq!(conditions(&well), "Ready=True Protected, Reconciling=False Settled, Stalled=False Valid");
    assert_eq!(well.namespaces.protected, 1);
}

#[tokio::test]
async fn kubectl_waits_for_a_baseline_and_shows_it_in_a_row() {
    let mut world = World::new().await.unwrap();
    world.start_operator().await.unwrap();
    world.namespace("old", &[(TEAM, "a")]).await.unwrap();
    a_second_later(&world).await;
    let spec = json!({ "namespaceSelector": team("a"), "excludeNamespaces": ["kube-*", "other"] });
    apply_baseline(&world, "platform", &spec).await;
    world.namespace("new", &[(TEAM, "a")]).await.unwrap();
    let kubectl = |args: &[&str]| world.plane().run_kubectl(args).unwrap();
    kubectl(&["wait", "--for=condition=Ready", "pb/platform", "--timeout=20s"]);
    until_status(&world, "platform", "one is protected", |status| status.namespaces.protected == 1).await;

    let rows = |args: &[&str]| -> Vec<String> {
        kubectl(args).lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
    };
    for resource in ["pb", "policybaseline", "policybaselines.policybaseline.io", "policies"] {
        let rows = rows(&["get", resource]);
        assert_eq!(rows[0], "NAME MODE SELECTED PROTECTED REPORTED DRIFTED READY REASON AGE", "{resource}");
        let (row, age) = rows[1].rsplit_once(' ').unwrap();
        let columns = "platform Enforce 2 1 1 0 True ExistingNamespacesOnlyReported";
        assert!(row == columns || row == format!("policybaseline.policybaseline.io/{columns}"), "{row}");
        assert!(age.ends_with('s'), "{age}");
    }
    let wide = rows(&["get", "pb", "-o", "wide"]);
    assert_eq!(wide[0], "NAME MODE SELECTED PROTECTED REPORTED DRIFTED READY REASON AGE MESSAGE");
    assert!(wide[1].contains("s 1 of 2 selected namespaces have their policies; 1 existing namespaces are only"), "{}", wide[1]);

    // Reads the status as it is stored, not through our own types.
    let object = baselines(&world).get("platform").await.unwrap();
    let status = &object.data["status"];
    assert_eq!(status["observedGeneration"], json!(object.metadata.generation));
    let except = format!("kube-*, kube-node-lease, kube-public, kube-system, other, {SYSTEM_NAMESPACE}");
    assert_eq!(status["effectiveSelector"], format!("namespaces with {TEAM}=a except {except}"));
    let counts = json!({
        "selected": 2, "protected": 1, "pending": 0, "drifted": 0, "failed": 0, "reported": 1, "held": 0, "frozen": 0,
        "shadowed": 0, "bypassed": 0, "optedOut": 0, "unprotected": 0,
    });
    assert_eq!(status["namespaces"], counts);
    assert_eq!((&status["recentDrift"], &status["violationsOmitted"]), (&json!([]), &json!(0)));
}

#[tokio::test]
async fn a_baseline_that_is_taken_away_before_it_is_taken_up_leaves_no_trace() {
    let mut world = World::new().await.unwrap();
    apply_baseline(&world, "platform", &json!({ "namespaceSelector": team("a") })).await;
    remove_baseline(&world, "platform").await;
    let ns = world.namespace("new", &[(TEAM, "a")]).await.unwrap();
    world.start_operator().await.unwrap();
    fence_of_its_own(&world).await;
    until_only(&world, &ns, &[]).await;
}

fn kube_dns() -> Value {
    json!({
        "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": "kube-system" } },
        "podSelector": { "matchLabels": { "k8s-app": "kube-dns" } },
    })
}

fn default_ports() -> Value {
    json!([
        { "protocol": "TCP", "port": "metrics" },
        { "protocol": "TCP", "port": 8080 },
        { "protocol": "TCP", "port": 9090 },
    ])
}

fn specs(policies: &BTreeMap<String, NetworkPolicy>) -> BTreeMap<&str, Value> {
    policies.iter().map(|(name, policy)| (name.as_str(), json!(policy.spec))).collect()
}

/// Asserts exactly these labels and annotations, and no finalizers or owners. Of hashes it checks only the form.
fn assert_metadata(policy: &NetworkPolicy, baseline: &str, role: &str, labels: &[(&str, &str)], annotations: &[(&str, &str)]) {
    let is_hash = |text: &str| text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let mut found: BTreeMap<&str, &str> = policy.labels().iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    assert!(found.remove("policybaseline.io/id").is_some_and(is_hash), "{found:?}");
    let own = [
        ("app.kubernetes.io/managed-by", "policy-baseline"),
        ("policybaseline.io/baseline", baseline),
        ("policybaseline.io/role", role),
    ];
    assert_eq!(found, own.iter().chain(labels).copied().collect());

    let mut found: BTreeMap<&str, &str> =
        policy.annotations().iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    assert!(found.remove("policybaseline.io/plan").is_some_and(is_hash), "{found:?}");
    let about = found.remove("policybaseline.io/about").unwrap();
    assert!(about.starts_with(&format!("Kept by PolicyBaseline {baseline}, which undoes edits. To allow more, add ")), "{about}");
    let keys = labels.iter().map(|(key, _)| format!("l:{key}")).chain(annotations.iter().map(|(key, _)| format!("a:{key}")));
    let keys = keys.collect::<Vec<_>>().join(",");
    assert_eq!(found.remove("policybaseline.io/keys").unwrap_or_default(), keys);
    assert_eq!(found, annotations.iter().copied().collect());

    let meta = &policy.metadata;
    assert_eq!((&meta.finalizers, &meta.owner_references), (&None, &None));
}
