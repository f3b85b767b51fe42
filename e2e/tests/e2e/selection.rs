//! Which namespaces a baseline applies to, and which of several baselines applies.

use kube::ResourceExt;
use kube::api::{DeleteParams, PostParams};
use policy_baseline::NoticeReason;
use policy_baseline::PolicyBaselineStatus;
use policy_baseline_e2e::{SYSTEM_NAMESPACE, TIMEOUT, World, skipped_without_audit_log};
use serde_json::json;

use crate::scene::{Plan, apply_baseline, condition, policies_of, until_holds, until_only, until_ready, until_status};
use crate::support::{TEAM, Writes, conditions, fence_of_its_own, label, stored, team, uids, versions};

const INGRESS: &str = "baseline-default-deny-ingress";
const TIER: &str = "e2e.policybaseline.io/tier";
const SYSTEM: [&str; 4] = ["kube-system", "kube-public", "kube-node-lease", SYSTEM_NAMESPACE];

#[tokio::test]
async fn labels_and_expressions_of_the_selector_must_all_match() {
    const OWNER: &str = "e2e.policybaseline.io/owner";
    const SANDBOX: &str = "e2e.policybaseline.io/sandbox";
    if skipped_without_audit_log() {
        return;
    }
    let mut world = World::new().await.unwrap();
    world.start_operator().await.unwrap();
    let selector = json!({
        "matchLabels": { TEAM: "a" },
        "matchExpressions": [
            { "key": TIER, "operator": "In", "values": ["prod", "stage"] },
            { "key": TIER, "operator": "NotIn", "values": ["stage"] },
            { "key": OWNER, "operator": "Exists" },
            { "key": SANDBOX, "operator": "DoesNotExist" },
        ],
    });
    apply_baseline(&world, "platform", &json!({ "namespaceSelector": selector })).await;
    until_ready(&world, "platform").await;

    let writes = Writes::from_now(&world);
    let mut others = Vec::new();
    for labels in [
        &[(TEAM, "b"), (TIER, "prod"), (OWNER, "x")][..],
        &[(TEAM, "a"), (TIER, "test"), (OWNER, "x")],
        &[(TEAM, "a"), (OWNER, "x")],
        &[(TEAM, "a"), (TIER, "stage"), (OWNER, "x")],
        &[(TEAM, "a"), (TIER, "prod")],
        &[(TEAM, "a"), (TIER, "prod"), (OWNER, "x"), (SANDBOX, "")],
        &[],
    ] {
        others.push(world.namespace("other", labels).await.unwrap());
    }
    let selected = world.namespace("selected", &[(TEAM, "a"), (TIER, "prod"), (OWNER, "")]).await.unwrap();
    until_holds(&world, &selected, &Plan::of("platform")).await;
    let status = until_status(&world, "platform", "one is protected", |status| status.namespaces.protected == 1).await;
    assert_eq!((status.namespaces.selected, status.namespaces.reported), (1, 0));
    assert!(
        status.effective_selector.starts_with(&format!(
            "namespaces with {TEAM}=a and {TIER} in (prod, stage) and {TIER} not in (stage) and {OWNER} present and {SANDBOX} absent"
        )),
        "{}",
        status.effective_selector
    );
    let written = writes.of_policies();
    assert!(written.iter().all(|entry| entry.namespace == selected), "{written:#?}");
    for ns in others {
        assert_eq!(world.policies(&ns).await.unwrap(), [], "{ns}");
    }
}

#[tokio::test]
async fn excluded_names_and_globs_are_left_out() {
    if skipped_without_audit_log() {
        return;
    }
    let mut world = World::new().await.unwrap();
    world.start_operator().await.unwrap();
    let by_name = World::unique("name");
    let middle = format!("x-{}-y", World::unique("mid"));
    let spec = json!({ "namespaceSelector": team("a"), "excludeNamespaces": [by_name, "skip-*", "*-tmp", "x-*mid*-y"] });
    apply_baseline(&world, "platform", &spec).await;
    until_ready(&world, "platform").await;

    let writes = Writes::from_now(&world);
    let excluded = [by_name.clone(), World::unique("skip"), format!("{}-tmp", World::unique("a")), middle];
    // Each name almost matches one of those patterns.
    let selected =
        [format!("{by_name}-2"), World::unique("noskip"), format!("{}-tmps", World::unique("a")), World::unique("x-mid")];
    for ns in excluded.iter().chain(&selected) {
        world.namespace_named(ns, &[(TEAM, "a")]).await.unwrap();
    }
    for ns in &selected {
        until_holds(&world, ns, &Plan::of("platform")).await;
    }
    let status = until_status(&world, "platform", "four are protected", |status| status.namespaces.protected == 4).await;
    assert_eq!(status.namespaces.selected, 4);
    for ns in &excluded {
        assert_eq!(writes.inside(ns), [], "{ns}");
        assert_eq!(world.policies(ns).await.unwrap(), [], "{ns}");
    }

    // A namespace that is excluded later loses its policies. One that is no longer excluded gets them.
    apply_baseline(&world, "platform", &json!({ "namespaceSelector": team("a"), "excludeNamespaces": ["noskip-*"] })).await;
    until_only(&world, &selected[1], &[]).await;
    for ns in excluded.iter().chain([&selected[0]]) {
        until_holds(&world, ns, &Plan::of("platform")).await;
    }
}

#[tokio::test]
async fn system_namespaces_are_left_out_unless_the_spec_includes_them() {
    let mut world = World::new().await.unwrap();
    if world.plane().is_external() {
        return; // It would close every namespace of an external cluster.
    }
    world.start_operator().await.unwrap();
    let writes = Writes::from_now(&world);
    let plan = Plan::of("platform");
    let system_is_left_alone = async || {
        fence_of_its_own(&world).await;
        for ns in SYSTEM {
            assert_eq!(writes.inside(ns), [], "{ns}");
            assert_eq!(world.policies(ns).await.unwrap(), [], "{ns}");
        }
    };
    apply_baseline(&world, "platform", &json!({ "existingNamespaces": "Enforce" })).await;
    until_holds(&world, "default", &plan).await;
    system_is_left_alone().await;

    // A baseline's own exclusions are added to the built-in ones and do not replace them.
    apply_baseline(&world, "platform", &json!({ "existingNamespaces": "Enforce", "excludeNamespaces": ["default"] })).await;
    until_only(&world, "default", &[]).await;
    system_is_left_alone().await;

    apply_baseline(&world, "platform", &json!({ "existingNamespaces": "Enforce", "includeSystemNamespaces": true })).await;
    for ns in SYSTEM {
        until_holds(&world, ns, &plan).await;
    }
    let status = until_ready(&world, "platform").await;
    assert_eq!(status.effective_selector, "every namespace");

    apply_baseline(&world, "platform", &json!({ "existingNamespaces": "Enforce" })).await;
    for ns in SYSTEM {
        until_only(&world, ns, &[]).await;
    }
}

#[tokio::test]
async fn the_highest_priority_wins_then_the_first_name_in_byte_order() {
    let mut world = World::new().await.unwrap();
    world.start_operator().await.unwrap();
    // In byte order 10 comes before 9, and '-' before '.'.
    for name in ["tier-9", "tier-10", "tier.10"] {
        apply_baseline(&world, name, &json!({ "namespaceSelector": team("a") })).await;
        until_ready(&world, name).await;
    }
    let ns = world.namespace("shared", &[(TEAM, "a")]).await.unwrap();
    let first = until_holds(&world, &ns, &Plan::of("tier-10")).await;
    let shadowed = async |name: &str, ready: &str| {
        let status = until_status(&world, name, "one is shadowed", |status| status.namespaces.shadowed == 1).await;
        assert_eq!((status.namespaces.selected, status.violations.len()), (0, 0), "{name}");
        for (kind, reason) in [("Ready", ready), ("Reconciling", "Settled"), ("Stalled", "Valid")] {
            assert_eq!(condition(&status, kind).reason, reason, "{name}");
        }
    };
    let applies = async |name: &str| {
        let status = until_status(&world, name, "one is protected", |status| status.namespaces.protected == 1).await;
        assert_eq!((status.namespaces.selected, status.namespaces.shadowed), (1, 0), "{name}");
    };
    shadowed("tier-9", "PriorityTied").await;
    shadowed("tier.10", "PriorityTied").await;
    applies("tier-10").await;
    // If only the names decide, the status of each says with which other baseline it is tied.
    let tied = async |name: &str, with: &str| {
        let is_told = |status: &PolicyBaselineStatus| condition(status, "PriorityTied").message.contains(with);
        until_status(&world, name, &format!("it is tied with {with:?}"), is_told).await;
    };
    tied("tier-10", "tier-9 (namespaces: 1), tier.10 (namespaces: 1)").await;
    tied("tier-9", "tier-10 (namespaces: 1)").await;
    tied("tier.10", "tier-10 (namespaces: 1)").await;

    // A higher priority moves the namespace to another baseline, and a lower one does too.
    apply_baseline(&world, "tier.10", &json!({ "namespaceSelector": team("a"), "priority": 1 })).await;
    let second = until_holds(&world, &ns, &Plan::of("tier.10")).await;
    shadowed("tier-10", "NothingSelected").await;
    applies("tier.10").await;
    for name in ["tier-9", "tier-10", "tier.10"] {
        let is_over = |status: &PolicyBaselineStatus| condition(status, "PriorityTied").status == "Unknown";
        until_status(&world, name, "it is tied with none", is_over).await;
    }
    apply_baseline(&world, "tier.10", &json!({ "namespaceSelector": team("a"), "priority": -1 })).await;
    let third = until_holds(&world, &ns, &Plan::of("tier-10")).await;
    shadowed("tier.10", "NothingSelected").await;
    applies("tier-10").await;
    assert_eq!(uids(&second), uids(&first));
    assert_eq!(uids(&third), uids(&first));
    let status = until_ready(&world, "tier-10").await;
    assert_eq!(status.recent_drift, [], "a change of plan is no drift");
}

#[tokio::test]
async fn an_audit_baseline_disarms_nobody_and_tells_what_it_would_change() {
    if skipped_without_audit_log() {
        return;
    }
    let mut world = World::new().await.unwrap();
    world.start_operator().await.unwrap();
    apply_baseline(&world, "real", &json!({ "namespaceSelector": team("a") })).await;
    let audit = json!({
        "mode": "Audit", "priority": 1000, "metadata": { "namePrefix": "strict-" },
        "namespaceSelector": { "matchExpressions": [{ "key": TEAM, "operator": "In", "values": ["a", "b"] }] },
    });
    apply_baseline(&world, "audit", &audit).await;
    until_ready(&world, "real").await;
    until_ready(&world, "audit").await;

    let writes = Writes::from_now(&world);
    let protected = world.namespace("protected", &[(TEAM, "a")]).await.unwrap();
    let open = world.namespace("open", &[(TEAM, "b")]).await.unwrap();
    let before = until_holds(&world, &protected, &Plan::of("real")).await;
    let status = until_status(&world, "audit", "two would change", |status| status.namespaces.drifted == 2).await;
    assert_eq!((status.namespaces.selected, status.namespaces.protected, status.namespaces.shadowed), (2, 0, 0));
    assert_eq!(conditions(&status), "Ready=True Audited, Reconciling=False Settled, Stalled=False Valid");
    for ns in [&protected, &open] {
        let notice = status.notices.iter().find(|notice| notice.namespace == *ns).unwrap();
        assert_eq!(notice.reason, NoticeReason::WouldChange);
        for name in Plan::of("audit").prefix("strict-").policies().keys() {
            assert!(notice.message.contains(&format!("create {name}")), "{}", notice.message);
        }
    }
    let status = until_status(&world, "real", "one is protected", |status| status.namespaces.protected == 1).await;
    assert_eq!((status.namespaces.selected, status.namespaces.shadowed), (1, 0));

    // A deleted policy is restored, whatever the priority of the other baseline.
    policies_of(&world.admin(), &protected).delete(INGRESS, &DeleteParams::default()).await.unwrap();
    let is_new = async || stored(&world, &protected).await.get(INGRESS).is_some_and(|now| now.uid() != before[INGRESS].uid());
    world.eventually("the policy is restored", TIMEOUT, is_new).await.unwrap();
    let fence = fence_of_its_own(&world).await;
    until_only(&world, &open, &[]).await;
    let written = writes.of_policies();
    let foreign: Vec<_> = written
        .iter()
        .filter(|entry| (entry.namespace != protected && entry.namespace != fence) || entry.name.starts_with("strict-"))
        .collect();
    assert!(foreign.is_empty(), "{foreign:#?}");
}

#[tokio::test]
async fn from_enforce_to_audit_the_policies_stay_and_are_not_restored() {
    if skipped_without_audit_log() {
        return;
    }
    let mut world = World::new().await.unwrap();
    world.start_operator().await.unwrap();
    apply_baseline(&world, "platform", &json!({ "namespaceSelector": team("a") })).await;
    until_ready(&world, "platform").await;
    let [a, b] = [world.namespace("a", &[(TEAM, "a")]).await.unwrap(), world.namespace("b", &[(TEAM, "a")]).await.unwrap()];
    let plan = Plan::of("platform");
    until_holds(&world, &a, &plan).await;
    let kept = until_holds(&world, &b, &plan).await;
    until_status(&world, "platform", "two are protected", |status| status.namespaces.protected == 2).await;

    let writes = Writes::from_now(&world);
    apply_baseline(&world, "platform", &json!({ "namespaceSelector": team("a"), "mode": "Audit" })).await;
    let status = until_status(&world, "platform", "two are protected", |status| status.namespaces.protected == 2).await;
    assert_eq!(condition(&status, "Ready").reason, "Audited");
    assert_eq!((status.namespaces.selected, status.violations, status.notices), (2, vec![], vec![]));

    policies_of(&world.admin(), &a).delete(INGRESS, &DeleteParams::default()).await.unwrap();
    let status = until_status(&world, "platform", "one would change", |status| status.namespaces.drifted == 1).await;
    assert_eq!((status.namespaces.selected, status.namespaces.protected), (2, 1));
    let [notice] = &status.notices[..] else { panic!("{:?}", status.notices) };
    assert_eq!((notice.namespace.as_str(), notice.reason), (a.as_str(), NoticeReason::WouldChange));
    assert_eq!(notice.message, format!("Enforce would create {INGRESS}"));

    let fence = fence_of_its_own(&world).await;
    let written = writes.of_policies();
    assert!(written.iter().all(|entry| entry.namespace == fence), "{written:#?}");
    assert!(!stored(&world, &a).await.contains_key(INGRESS));
    assert_eq!(versions(&stored(&world, &b).await), versions(&kept));

    apply_baseline(&world, "platform", &json!({ "namespaceSelector": team("a"), "mode": "Enforce" })).await;
    until_holds(&world, &a, &plan).await;
    assert_eq!(versions(&stored(&world, &b).await), versions(&kept));
}

#[tokio::test]
async fn i4_a_namespace_that_leaves_loses_what_is_ours_and_nothing_else() {
    if skipped_without_audit_log() {
        return;
    }
    let mut world = World::new().await.unwrap();
    world.start_operator().await.unwrap();
    apply_baseline(&world, "platform", &json!({ "namespaceSelector": team("a") })).await;
    until_ready(&world, "platform").await;
    let ns = world.namespace("moving", &[(TEAM, "b")]).await.unwrap();
    let policies = policies_of(&world.admin(), &ns);
    let own = json!({ "metadata": { "name": "tenants-own" }, "spec": { "podSelector": {}, "policyTypes": ["Ingress"] } });
    policies.create(&PostParams::default(), &serde_json::from_value(own).unwrap()).await.unwrap();
    fence_of_its_own(&world).await;
    until_only(&world, &ns, &["tenants-own"]).await;

    label(&world, &ns, TEAM, Some("a")).await;
    let held = until_holds(&world, &ns, &Plan::of("platform").beside("tenants-own")).await;
    // A copy with all our labels, as `kubectl get -o yaml | sed | kubectl apply` makes it.
    let mut copy = held[INGRESS].clone();
    copy.metadata.name = Some("copy".to_owned());
    copy.metadata.resource_version = None;
    copy.metadata.uid = None;
    copy.metadata.managed_fields = None;
    policies.create(&PostParams::default(), &copy).await.unwrap();
    let mut tenants = stored(&world, &ns).await;
    tenants.retain(|name, _| ["copy", "tenants-own"].contains(&name.as_str()));

    let writes = Writes::from_now(&world);
    label(&world, &ns, TEAM, None).await;
    until_only(&world, &ns, &["copy", "tenants-own"]).await;
    let status = until_status(&world, "platform", "none is selected", |status| status.namespaces.selected == 0).await;
    assert_eq!((condition(&status, "Ready").status.as_str(), status.violations), ("True", vec![]));
    fence_of_its_own(&world).await;
    assert_eq!(versions(&stored(&world, &ns).await), versions(&tenants));
    let mut written: Vec<String> = writes
        .all()
        .iter()
        .filter(|entry| entry.namespace == ns && entry.resource == "networkpolicies")
        .map(|entry| format!("{} {} {}", entry.verb, entry.name, entry.code))
        .collect();
    written.sort();
    let deleted: Vec<String> = Plan::of("platform").policies().keys().map(|name| format!("delete {name} 200")).collect();
    assert_eq!(written, deleted);
}
