//! Writes that the API server refuses or changes: the status reports them, the operator tries again with growing pauses, and other
//! namespaces are not affected.
//! One file: the tests share their scene.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use k8s_openapi::api::core::v1::ResourceQuota;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, PolicyRule};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use policy_baseline::{PolicyBaselineStatus, Violation};
use policy_baseline_e2e::{AuditEntry, TIMEOUT, World, cluster::free_port, skipped_without_audit_log};
use serde_json::json;

use crate::scene::{
    CARVEOUT, DENY_EGRESS, DENY_INGRESS, Plan, apply_baseline, baselines, can_i, client_of, condition, events, fence,
    policies_of, policy_writes, until_event, until_holds, until_ready, until_status, writes_since,
};

const PLATFORM: &str = "platform";
/// The label by which an admission policy or a webhook of a test selects its namespace.
const CASE: &str = "e2e.policybaseline.io/case";

const RULE: &str =
    "{ apiGroups: [networking.k8s.io], apiVersions: [v1], operations: [CREATE, UPDATE], resources: [networkpolicies] }";

/// A baseline, and a younger namespace with this case. No operator runs.
async fn prepared(case: &str) -> (World, String) {
    let world = World::new().await.unwrap();
    apply_baseline(&world, PLATFORM, &json!({})).await;
    // So that the namespace is newer.
    crate::support::a_second_later(&world).await;
    let namespace = world.namespace(case, &[(CASE, case)]).await.unwrap();
    (world, namespace)
}

/// The policy that the API server would store in that namespace.
async fn dry_run(world: &World, namespace: &str) -> Result<NetworkPolicy, kube::Error> {
    let policy = json!({ "metadata": { "name": "dry-run" }, "spec": { "podSelector": {}, "policyTypes": ["Ingress"] } });
    let params = PostParams { dry_run: true, ..PostParams::default() };
    policies_of(&world.admin(), namespace).create(&params, &serde_json::from_value(policy).unwrap()).await
}

async fn until_refused(world: &World, namespace: &str, text: &str) {
    world
        .eventually("a policy is refused", TIMEOUT, async || {
            dry_run(world, namespace).await.err().map(|err| err.to_string()).is_some_and(|said| said.contains(text))
        })
        .await
        .unwrap();
}

#[tokio::test]
async fn a_write_to_an_object_that_was_replaced_is_refused_for_its_uid() {
    let (world, namespace) = prepared("replaced").await;
    let policies = policies_of(&world.admin(), &namespace);
    let own = json!({ "metadata": { "name": "own" }, "spec": { "podSelector": {}, "policyTypes": ["Ingress"] } });
    let own: NetworkPolicy = serde_json::from_value(own).unwrap();
    let before = policies.create(&PostParams::default(), &own).await.unwrap();
    policies.delete("own", &DeleteParams::default()).await.unwrap();
    policies.create(&PostParams::default(), &own).await.unwrap();
    let applied = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": { "name": "own", "uid": before.uid() },
        "spec": { "podSelector": {}, "policyTypes": ["Egress"] },
    });
    let refused = policies.patch("own", &PatchParams::apply("somebody").force(), &Patch::Apply(&applied)).await.unwrap_err();
    let kube::Error::Api(status) = refused else { panic!("{refused}") };
    let about: BTreeSet<_> = status.details.iter().flat_map(|details| &details.causes).map(|cause| &*cause.field).collect();
    assert_eq!((status.code, about), (422, BTreeSet::from(["metadata.uid"])), "{status:?}");
}

fn violations_in<'a>(status: &'a PolicyBaselineStatus, namespace: &str) -> Vec<&'a Violation> {
    status.violations.iter().filter(|violation| violation.namespace == namespace).collect()
}

/// Waits until the status says that this namespace fails for this reason. Returns the message.
async fn until_failing(world: &World, namespace: &str, reason: &str) -> String {
    let status = until_status(world, PLATFORM, &format!("{reason} in {namespace}"), |status| {
        // Other namespaces may be new and not written yet.
        status.namespaces.pending == 0
            && violations_in(status, namespace).iter().any(|violation| violation.reason.into_str() == reason)
    })
    .await;
    assert_eq!(status.namespaces.failed, 1, "{status:?}");
    let ready = condition(&status, "Ready");
    assert_eq!((ready.status.as_str(), ready.reason.as_str()), ("False", "WritesFailing"));
    assert!(ready.message.contains("1 of "), "{}", ready.message);
    assert_eq!(condition(&status, "Reconciling").status, "True");
    assert_eq!(condition(&status, "Stalled").status, "False");
    let [violation] = violations_in(&status, namespace)[..] else { panic!("{:?}", status.violations) };
    assert!(violation.policy.as_deref().is_some_and(|policy| policy.starts_with("baseline-")), "{violation:?}");
    violation.message.clone()
}

async fn until_healed(world: &World, namespace: &str) {
    until_holds(world, namespace, &Plan::of(PLATFORM)).await;
    let status = until_ready(world, PLATFORM).await;
    assert_eq!(status.namespaces.failed, 0);
    assert!(violations_in(&status, namespace).is_empty(), "{:?}", status.violations);
}

/// When each policy of the namespace was applied. A patch that cleans up after an apply is not an attempt of its own.
fn attempts(writes: &[AuditEntry], namespace: &str) -> BTreeMap<String, Vec<Timestamp>> {
    let mut attempts: BTreeMap<String, Vec<Timestamp>> = BTreeMap::new();
    for write in policy_writes(writes, namespace).into_iter().filter(|write| write.uri.contains("force=true")) {
        attempts.entry(write.name.clone()).or_default().push(write.timestamp);
    }
    attempts
}

fn delete_with_kubectl(world: &World, kind: &str, name: &str) {
    world.plane().run_kubectl(&["delete", kind, name]).unwrap();
}

#[tokio::test]
async fn i7_a_namespace_whose_policies_are_denied_is_told_apart_delays_no_other_and_heals() {
    if skipped_without_audit_log() {
        return;
    }
    let (mut world, ns) = prepared("denied").await;
    let deny = format!(
        "
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {{ name: deny }}
spec:
  failurePolicy: Fail
  matchConstraints:
    namespaceSelector: {{ matchLabels: {{ {CASE}: denied }} }}
    resourceRules: [{RULE}]
  validations: [{{ expression: 'false', message: ask the network team first }}]
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {{ name: deny }}
spec: {{ policyName: deny, validationActions: [Deny] }}
"
    );
    world.apply_yaml(&deny).await.unwrap();
    until_refused(&world, &ns, "ask the network team first").await;
    let mark = world.audit().unwrap().mark();
    world.start_operator().await.unwrap();

    let message = until_failing(&world, &ns, "DeniedByAdmission").await;
    assert!(message.contains("ask the network team first"), "{message}");
    let since = |status: &PolicyBaselineStatus| violations_in(status, &ns)[0].since.clone();
    let first = since(&until_status(&world, PLATFORM, "it fails", |status| !violations_in(status, &ns).is_empty()).await);
    // The operator tries again and again, and meanwhile nobody else waits.
    world
        .eventually("three attempts for each policy", TIMEOUT, async || {
            let attempts = attempts(&writes_since(&world, mark), &ns);
            if attempts.len() == 3 && attempts.values().all(|times| times.len() >= 3) {
                Ok(true)
            } else {
                Err(format!("{attempts:?}"))
            }
        })
        .await
        .unwrap();
    for name in ["first", "second", "third"] {
        let other = world.namespace(name, &[]).await.unwrap();
        until_holds(&world, &other, &Plan::of(PLATFORM)).await;
    }
    fence(&world, &Plan::of(PLATFORM), &[]).await;
    let message = until_failing(&world, &ns, "DeniedByAdmission").await;
    assert!(message.contains("ask the network team first"), "{message}");
    let status = until_status(&world, PLATFORM, "the others are protected", |status| status.namespaces.protected == 4).await;
    assert_eq!(since(&status), first, "further attempts do not make it new");

    // One event for each policy, for any number of attempts.
    for policy in [DENY_INGRESS, DENY_EGRESS, CARVEOUT] {
        let event = until_event(&world, &world.admin(), &ns, "RepairFailed", policy).await;
        assert_eq!(event.type_.as_deref(), Some("Warning"));
        let note = event.message.unwrap();
        assert!(note.contains("DeniedByAdmission") && note.contains("ask the network team first"), "{note}");
    }
    assert_eq!(events(&world.admin(), &ns).await.len(), 3);

    delete_with_kubectl(&world, "validatingadmissionpolicybinding", "deny");
    until_healed(&world, &ns).await;
}

/// A quota of that many policies, in force.
pub async fn quota(world: &World, namespace: &str, hard: u32) {
    let of = json!({ "count/networkpolicies.networking.k8s.io": hard.to_string() });
    let metadata = json!({ "name": "few", "namespace": namespace });
    let quota = json!({ "apiVersion": "v1", "kind": "ResourceQuota", "metadata": metadata, "spec": { "hard": of } });
    world.apply_yaml(&quota.to_string()).await.unwrap();
    let quotas: Api<ResourceQuota> = Api::namespaced(world.admin(), namespace);
    world
        .eventually("the quota is in force", TIMEOUT, async || {
            let status = quotas.get("few").await.map(|quota| quota.status.unwrap_or_default());
            status.is_ok_and(|status| {
                let hard = status.hard.unwrap_or_default();
                status.used.is_some() && hard.values().any(|value| value.0 == of["count/networkpolicies.networking.k8s.io"])
            })
        })
        .await
        .unwrap();
}

#[tokio::test]
async fn a_used_up_quota_is_named_and_the_rest_follows_once_there_is_room() {
    let (mut world, ns) = prepared("quota").await;
    quota(&world, &ns, 1).await;
    world.start_operator().await.unwrap();

    let message = until_failing(&world, &ns, "QuotaExceeded").await;
    assert!(message.contains("few") && message.contains("count/networkpolicies"), "{message}");
    assert_eq!(world.policies(&ns).await.unwrap().len(), 1);
    fence(&world, &Plan::of(PLATFORM), &[]).await;
    quota(&world, &ns, 3).await;
    until_healed(&world, &ns).await;
}

#[tokio::test]
async fn a_policy_that_a_filler_of_the_quota_keeps_out_is_the_first_violation_and_is_created_once_there_is_room() {
    let (mut world, ns) = prepared("filler").await;
    world.start_operator().await.unwrap();
    until_holds(&world, &ns, &Plan::of(PLATFORM)).await;
    let policies = policies_of(&world.admin(), &ns);
    let create = async |name: &str, rules: serde_json::Value| {
        let spec = json!({ "podSelector": {}, "policyTypes": ["Ingress"], "ingress": rules });
        let policy = json!({ "metadata": { "name": name }, "spec": spec });
        policies.create(&PostParams::default(), &serde_json::from_value(policy).unwrap()).await.map(drop)
    };
    create("open", json!([{}])).await.unwrap();
    quota(&world, &ns, 4).await;
    // Whoever deletes a policy and is faster than the operator can take its place in the quota.
    world.stop_operator().unwrap();
    policies.delete(DENY_INGRESS, &DeleteParams::default()).await.unwrap();
    world.eventually("there is room", TIMEOUT, async || create("filler", json!([])).await.map(|()| true)).await.unwrap();
    world.start_operator().await.unwrap();
    let expected = [("QuotaExceeded", Some(DENY_INGRESS)), ("Bypassed", Some("open"))];
    let what = "the violations are sorted";
    until_status(&world, PLATFORM, what, |status| {
        let found = violations_in(status, &ns).into_iter().map(|v| (v.reason.into_str(), v.policy.as_deref()));
        found.collect::<Vec<_>>() == expected
    })
    .await;
    for name in ["filler", "open"] {
        policies.delete(name, &DeleteParams::default()).await.unwrap();
    }
    until_healed(&world, &ns).await;
}

#[tokio::test]
async fn a_webhook_that_is_down_is_named_and_the_policies_follow_once_it_is_gone() {
    let (mut world, ns) = prepared("webhook").await;
    let url = format!("https://127.0.0.1:{}/validate", free_port().unwrap());
    let webhook = format!(
        "
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {{ name: down }}
webhooks:
- name: down.example.com
  clientConfig: {{ url: '{url}' }}
  namespaceSelector: {{ matchLabels: {{ {CASE}: webhook }} }}
  rules: [{RULE}]
  failurePolicy: Fail
  sideEffects: None
  admissionReviewVersions: [v1]
  timeoutSeconds: 1
"
    );
    world.apply_yaml(&webhook).await.unwrap();
    until_refused(&world, &ns, "failed calling webhook").await;
    world.start_operator().await.unwrap();

    let message = until_failing(&world, &ns, "WebhookDown").await;
    assert!(message.contains("down.example.com"), "{message}");
    fence(&world, &Plan::of(PLATFORM), &[]).await;
    delete_with_kubectl(&world, "validatingwebhookconfiguration", "down");
    until_healed(&world, &ns).await;
}

/// A mutation of every policy that is written in the namespaces of that case.
fn mutation(case: &str, expression: &str) -> String {
    let (kind, field) =
        if expression.starts_with('[') { ("JSONPatch", "jsonPatch") } else { ("ApplyConfiguration", "applyConfiguration") };
    format!(
        "
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingAdmissionPolicy
metadata: {{ name: {case} }}
spec:
  failurePolicy: Fail
  reinvocationPolicy: Never
  matchConstraints:
    namespaceSelector: {{ matchLabels: {{ {CASE}: {case} }} }}
    resourceRules: [{RULE}]
  mutations: [{{ patchType: {kind}, {field}: {{ expression: '{expression}' }} }}]
---
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingAdmissionPolicyBinding
metadata: {{ name: {case} }}
spec: {{ policyName: {case} }}
"
    )
}

#[tokio::test]
async fn i14_what_admission_makes_of_a_write_is_told_and_backed_off_at_once() {
    const OPEN: &str = "[JSONPatch{op: \"add\", path: \"/spec/ingress\", value: [{\"ports\": [{\"port\": 80}]}]}]";
    const NARROW: &str = "[JSONPatch{op: \"add\", path: \"/spec/podSelector\", value: {\"matchLabels\": {\"no\": \"pod\"}}}]";
    const TRACK: &str = "Object{metadata: Object.metadata{labels: {\"app.kubernetes.io/instance\": \"shop\"}}}";
    if skipped_without_audit_log() {
        return;
    }
    let (mut world, open) = prepared("open").await;
    let mut cases = vec![("open", open)];
    for case in ["narrow", "track"] {
        cases.push((case, world.namespace(case, &[(CASE, case)]).await.unwrap()));
    }
    for (case, expression) in [("open", OPEN), ("narrow", NARROW), ("track", TRACK)] {
        world.apply_yaml(&mutation(case, expression)).await.unwrap();
    }
    for (case, ns) in &cases {
        world
            .eventually(&format!("{case} is in force"), TIMEOUT, async || {
                let made = dry_run(&world, ns).await?;
                let spec = made.spec.unwrap_or_default();
                let is_narrow = spec.pod_selector.is_some_and(|selector| selector.match_labels.is_some());
                Ok::<_, kube::Error>(spec.ingress.is_some() || is_narrow || made.metadata.labels.is_some())
            })
            .await
            .unwrap();
    }
    let mark = world.audit().unwrap().mark();
    world.start_operator().await.unwrap();

    let status = until_status(&world, PLATFORM, "three failed", |status| status.namespaces.failed == 3).await;
    for (case, ns) in &cases {
        let [violation] = violations_in(&status, ns)[..] else { panic!("{:?}", status.violations) };
        assert_eq!(violation.reason.into_str(), "MutatedByAdmission", "{case}");
        assert!(violation.message.contains("app.kubernetes.io/managed-by=policy-baseline"), "{}", violation.message);
    }
    world.plane().run_kubectl(&["delete", "mutatingadmissionpolicybinding", "open", "narrow", "track"]).unwrap();
    fence(&world, &Plan::of(PLATFORM), &[]).await;
    for (_, ns) in &cases {
        until_holds(&world, ns, &Plan::of(PLATFORM)).await;
    }
    let status = until_ready(&world, PLATFORM).await;
    assert_eq!((status.namespaces.failed, status.namespaces.protected), (0, 4));

    // The second or third attempt repaired it, not a watch event. No attempt came too early.
    let writes = writes_since(&world, mark);
    for (case, ns) in &cases {
        let attempts = attempts(&writes, ns);
        assert!(attempts.values().any(|times| times.len() > 1), "{case}: {attempts:?}");
        for (policy, times) in &attempts {
            let gaps: Vec<Duration> = times.windows(2).map(|two| two[1].duration_since(two[0]).unsigned_abs()).collect();
            assert!(gaps.iter().all(|gap| *gap >= Duration::from_secs(2)), "{case} {policy}: {gaps:?}");
            assert!(gaps.windows(2).all(|two| two[1] >= two[0].mul_f64(1.9)), "{case} {policy}: {gaps:?}");
        }
        // An attempt is an apply, and at most one patch after it.
        let (written, tried) = (policy_writes(&writes, ns).len(), attempts.values().map(Vec::len).sum::<usize>());
        assert!(written <= 2 * tried, "{case}: {written} writes in {tried} attempts");
    }
}

#[tokio::test]
async fn a_label_that_an_admission_policy_adds_for_itself_is_no_failure() {
    if skipped_without_audit_log() {
        return;
    }
    let (mut world, ns) = prepared("harmless").await;
    world.apply_yaml(&mutation("harmless", "Object{metadata: Object.metadata{labels: {\"cost-center\": \"7\"}}}")).await.unwrap();
    world
        .eventually("it is in force", TIMEOUT, async || {
            dry_run(&world, &ns).await.map(|made| made.metadata.labels.is_some_and(|labels| labels.contains_key("cost-center")))
        })
        .await
        .unwrap();
    let mark = world.audit().unwrap().mark();
    world.start_operator().await.unwrap();
    let held = until_holds(&world, &ns, &Plan::of(PLATFORM)).await;
    assert!(held.values().all(|policy| policy.metadata.labels.as_ref().is_some_and(|labels| labels["cost-center"] == "7")));
    fence(&world, &Plan::of(PLATFORM), &[]).await;
    let status = until_ready(&world, PLATFORM).await;
    assert_eq!(status.namespaces.failed, 0);
    assert_eq!(policy_writes(&writes_since(&world, mark), &ns).len(), 3);
}

// RBAC.

/// Waits until the operator may, or may not, write policies.
async fn until_may_write(world: &World, wanted: bool) {
    let operator = client_of(&world.operator_kubeconfig().await.unwrap()).await;
    world
        .eventually(&format!("the operator may write policies: {wanted}"), TIMEOUT, async || {
            can_i(&operator, "patch", "networking.k8s.io", "networkpolicies", Some("default")).await.map(|may| may == wanted)
        })
        .await
        .unwrap();
}

/// Leaves the operator only the right to list and watch that resource. Returns the former rules.
async fn only_watched(world: &World, resource: &str) -> Vec<PolicyRule> {
    let shipped = Api::<ClusterRole>::all(world.admin()).get("policy-baseline").await.unwrap().rules.unwrap();
    let mut narrowed = shipped.clone();
    for rule in narrowed.iter_mut().filter(|rule| rule.resources.as_deref() == Some(&[resource.to_owned()])) {
        rule.verbs = vec!["list".to_owned(), "watch".to_owned()];
    }
    set_rules(world, &narrowed).await;
    shipped
}

pub async fn set_rules(world: &World, rules: &[PolicyRule]) {
    let api: Api<ClusterRole> = Api::all(world.admin());
    api.patch("policy-baseline", &PatchParams::default(), &Patch::Merge(json!({ "rules": rules }))).await.unwrap();
}

#[tokio::test]
async fn a_permission_that_is_missing_is_named_and_its_return_heals() {
    let (mut world, ns) = prepared("forbidden").await;
    let shipped = only_watched(&world, "networkpolicies").await;
    until_may_write(&world, false).await;
    world.start_operator().await.unwrap();

    let message = until_failing(&world, &ns, "Forbidden").await;
    assert!(message.contains("cannot patch resource \"networkpolicies\""), "{message}");
    set_rules(&world, &shipped).await;
    until_healed(&world, &ns).await;
}

#[tokio::test]
async fn a_baseline_that_deletes_is_not_ready_before_its_finalizer_is_there() {
    let (mut world, ns) = prepared("unfinished").await;
    let shipped = only_watched(&world, "policybaselines").await;
    let operator = client_of(&world.operator_kubeconfig().await.unwrap()).await;
    let may = async || can_i(&operator, "patch", "policybaseline.io", "policybaselines", None).await;
    world.eventually("it may not be written", TIMEOUT, async || may().await.map(|may| !may)).await.unwrap();
    apply_baseline(&world, PLATFORM, &json!({ "deletionPolicy": "Delete" })).await;
    world.start_operator().await.unwrap();
    until_holds(&world, &ns, &Plan::of(PLATFORM)).await;
    let status = until_status(&world, PLATFORM, "it is protected", |status| status.namespaces.protected == 1).await;
    let ready = condition(&status, "Ready");
    assert!(baselines(&world).get(PLATFORM).await.unwrap().finalizers().is_empty());
    assert_eq!(ready.status, "False", "to delete it now would orphan its policies, yet it says: {}", ready.message);

    set_rules(&world, &shipped).await;
    until_ready(&world, PLATFORM).await;
    assert!(!baselines(&world).get(PLATFORM).await.unwrap().finalizers().is_empty());
}

#[tokio::test]
async fn a_binding_that_was_deleted_and_restored_needs_no_restart() {
    if skipped_without_audit_log() {
        return;
    }
    let (mut world, ns) = prepared("unbound").await;
    world.start_operator().await.unwrap();
    let pid = world.operator().unwrap().pid();
    until_holds(&world, &ns, &Plan::of(PLATFORM)).await;
    until_ready(&world, PLATFORM).await;

    let bindings: Api<ClusterRoleBinding> = Api::all(world.admin());
    let shipped = bindings.get("policy-baseline").await.unwrap();
    bindings.delete("policy-baseline", &DeleteParams::default()).await.unwrap();
    until_may_write(&world, false).await;
    let mark = world.audit().unwrap().mark();
    policies_of(&world.admin(), &ns).delete(DENY_INGRESS, &DeleteParams::default()).await.unwrap();
    world
        .eventually("two attempts are refused", TIMEOUT, async || {
            let writes = writes_since(&world, mark);
            Ok::<_, String>(policy_writes(&writes, &ns).iter().filter(|write| write.code == 403).count() >= 2)
        })
        .await
        .unwrap();

    let restored = ClusterRoleBinding {
        metadata: kube::api::ObjectMeta { name: shipped.metadata.name, labels: shipped.metadata.labels, ..Default::default() },
        ..shipped
    };
    bindings.create(&PostParams::default(), &restored).await.unwrap();
    until_healed(&world, &ns).await;
    assert_eq!(world.operator().unwrap().pid(), pid);
    assert!(world.operator_mut().unwrap().is_running());
    fence(&world, &Plan::of(PLATFORM), &[]).await;
}
