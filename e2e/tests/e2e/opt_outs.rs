//! Opt-outs: what they open, for how long, who may create them, and how people see them.
//! One file: the tests share their scene.

use futures::future::join_all;
use k8s_openapi::api::core::v1::Event;
use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule, RoleBinding};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::core::ApiResource;
use kube::{Api, Client, ResourceExt};
use policy_baseline::NoticeReason;
use policy_baseline::{BaselineOptOut, PolicyBaselineStatus};
use policy_baseline_e2e::{TIMEOUT, World, skipped_without_audit_log};
use serde_json::{Value, json};

use crate::admin_port::{metric, metrics_of};
use crate::samples::yaml_blocks;
use crate::scene::{
    DENY_EGRESS, Plan, apply_baseline, can_i, condition, fence, until_holds, until_only, until_ready, until_status, writes_since,
};
use crate::support::{OptOutsOfGone, Writes, a_second_later, finish_namespace, uids};

const CRD: &str = "baselineoptouts.policybaseline.io";
const PLATFORM: &str = "platform";
const EGRESS: &str = "DefaultDenyEgress";
const INGRESS: &str = "DefaultDenyIngress";
const REASON: &str = "the partner's API moves its addresses every day";

pub fn opt_outs(client: &Client, namespace: &str) -> Api<BaselineOptOut> {
    Api::namespaced(client.clone(), namespace)
}

pub fn seconds_from_now(seconds: i64) -> Timestamp {
    let at = Timestamp::now() + SignedDuration::from_secs(seconds);
    Timestamp::from_second(at.as_second()).unwrap()
}

/// An opt-out as people write it.
pub fn opt_out(name: &str, roles: &[&str], expires: Timestamp) -> BaselineOptOut {
    let object = json!({
        "apiVersion": "policybaseline.io/v1alpha1", "kind": "BaselineOptOut", "metadata": { "name": name },
        "spec": { "policies": roles, "reason": REASON, "expiresAt": expires, "approvedBy": "security@example.com", "ticket": "SEC-42" },
    });
    serde_json::from_value(object).unwrap()
}

pub async fn create(world: &World, namespace: &str, object: &BaselineOptOut) {
    opt_outs(&world.admin(), namespace).create(&PostParams::default(), object).await.unwrap();
}

/// Status and reason of the condition InForce, as `True WithinLimits`. None if the condition is not for the current generation.
pub fn in_force(object: &BaselineOptOut) -> Option<String> {
    let status = object.status.as_ref().filter(|status| status.observed_generation == object.metadata.generation)?;
    let found = status.conditions.iter().find(|condition| condition.type_ == "InForce")?;
    Some(format!("{} {}", found.status, found.reason))
}

/// Waits until the condition has this status and reason, and the label agrees.
pub async fn until_says(world: &World, namespace: &str, name: &str, wanted: &str) -> BaselineOptOut {
    let api = opt_outs(&world.admin(), namespace);
    let looks = async || {
        let object = api.get(name).await.map_err(|err| err.to_string())?;
        let label = object.labels().get("policybaseline.io/opt-out").map(String::as_str);
        let as_labelled = label == wanted.starts_with("True").then_some("in-force");
        if in_force(&object).as_deref() == Some(wanted) && as_labelled {
            return Ok(Some(object));
        }
        Err(serde_yaml::to_string(&(&object.status, label)).unwrap())
    };
    world.eventually(&format!("the opt-out {namespace}/{name} says {wanted}"), TIMEOUT, looks).await.unwrap()
}

/// The message of the condition.
fn message(object: &BaselineOptOut) -> &str {
    object.status.as_ref().map(|status| status.conditions[0].message.as_str()).unwrap_or_default()
}

async fn events_about(world: &World, namespace: &str, name: &str) -> Vec<(String, String)> {
    let api: Api<Event> = Api::namespaced(world.admin(), namespace);
    let all = api.list(&ListParams::default()).await.unwrap().items.into_iter();
    let about = |event: &Event| {
        event.involved_object.kind.as_deref() == Some("BaselineOptOut") && event.involved_object.name.as_deref() == Some(name)
    };
    all.filter(about).map(|event| (event.reason.unwrap_or_default(), event.message.unwrap_or_default())).collect()
}

async fn until_event(world: &World, namespace: &str, name: &str, reason: &str) -> String {
    let told = async || {
        let all = events_about(world, namespace, name).await;
        let found = all.iter().find(|(of, _)| of == reason).map(|(_, note)| note.clone());
        found.map(Some).ok_or_else(|| format!("{all:?}"))
    };
    world.eventually(&format!("an event {reason} about {namespace}/{name}"), TIMEOUT, told).await.unwrap()
}

async fn edit(world: &World, namespace: &str, name: &str, spec: Value) {
    let patch = Patch::Merge(json!({ "spec": spec }));
    opt_outs(&world.admin(), namespace).patch(name, &PatchParams::default(), &patch).await.unwrap();
}

async fn started(spec: Value) -> World {
    let mut world = World::new().await.unwrap();
    apply_baseline(&world, PLATFORM, &spec).await;
    world.start_operator().await.unwrap();
    world
}

#[tokio::test]
async fn an_opt_out_takes_its_role_away_until_it_expires_to_the_second_and_is_told_everywhere() {
    let world = started(json!({})).await;
    let ns = world.namespace("team", &[]).await.unwrap();
    let plan = Plan::of(PLATFORM);
    let before = until_holds(&world, &ns, &plan).await;
    let expires = seconds_from_now(20);
    create(&world, &ns, &opt_out("partner", &[EGRESS], expires)).await;
    let open = until_holds(&world, &ns, &plan.clone().without(EGRESS)).await;
    let kept: Vec<_> = uids(&open).into_iter().collect();
    assert!(kept.iter().all(|(name, uid)| uids(&before).get(name) == Some(uid)), "the rest stays as it is");

    let object = until_says(&world, &ns, "partner", "True WithinLimits").await;
    assert!(
        message(&object).contains(&format!("{EGRESS} does not apply to this namespace until {expires}")),
        "{}",
        message(&object)
    );
    let counted = |status: &PolicyBaselineStatus| (status.namespaces.opted_out, status.namespaces.protected) == (1, 1);
    let status = until_status(&world, PLATFORM, "it counts the opt-out", counted).await;
    let notice = status.notices.iter().find(|notice| notice.namespace == ns).unwrap();
    assert_eq!((notice.policy.as_deref(), notice.reason), (Some(DENY_EGRESS), NoticeReason::OptedOut));
    for words in [EGRESS, "partner", "security@example.com", "SEC-42", &expires.to_string()] {
        assert!(notice.message.contains(words), "{words}: {}", notice.message);
    }
    let text = metrics_of(&world).await;
    let value = |name: &str, role: &str| metric(&text, &format!("policy_baseline_opt_outs_{name}{{role=\"{role}\"}}"));
    let end = value("earliest_expiry_timestamp_seconds", "default_deny_egress");
    assert!(
        (value("in_force", "default_deny_egress") - 1.0).abs() < f64::EPSILON
            && value("in_force", "default_deny_ingress").abs() < f64::EPSILON
    );
    assert!((end - f64::from(i32::try_from(expires.as_second()).unwrap())).abs() < f64::EPSILON, "{end}");
    let table = world.plane().run_kubectl(&["get", "pbo", "-A", "-l", "policybaseline.io/opt-out=in-force"]).unwrap();
    for words in ["POLICIES", "IN FORCE", "EXPIRES", "APPROVED BY", "TICKET", "REASON", EGRESS, "True", "SEC-42", REASON] {
        assert!(table.contains(words), "{words} is not in\n{table}");
    }

    let closed = until_holds(&world, &ns, &plan).await;
    let back = closed[DENY_EGRESS].creation_timestamp().unwrap().0;
    let late = back.duration_since(expires);
    assert!(!late.is_negative() && late <= SignedDuration::from_secs(2), "back at {back}, and it expired at {expires}");
    until_event(&world, &ns, "partner", "OptOutExpired").await;
    let object = until_says(&world, &ns, "partner", "False Expired").await;
    assert!(message(&object).contains("applies here again"), "{}", message(&object));
    let status = until_status(&world, PLATFORM, "nothing is opted out", |status| status.namespaces.opted_out == 0).await;
    assert!(status.recent_drift.is_empty(), "an end is no drift: {:?}", status.recent_drift);
    // It was created less than an hour before its end, so there is no event a day ahead.
    let told: Vec<String> = events_about(&world, &ns, "partner").await.into_iter().map(|(reason, _)| reason).collect();
    assert_eq!(told, ["OptOutExpired"]);
}

#[tokio::test]
async fn what_is_out_of_bounds_is_not_in_force_and_says_why() {
    let limits = json!({ "maxDuration": "1h", "allowedPolicies": [EGRESS, "MonitoringCarveout"] });
    let mut world = started(json!({ "optOuts": limits, "excludeNamespaces": ["outside-*"] })).await;
    let ns = world.namespace("team", &[]).await.unwrap();
    let outside = world.namespace("outside", &[]).await.unwrap();
    let plan = Plan::of(PLATFORM);
    until_holds(&world, &ns, &plan).await;
    let soon = seconds_from_now(1800);
    create(&world, &ns, &opt_out("ingress", &[EGRESS, INGRESS], soon)).await;
    create(&world, &ns, &opt_out("long", &[EGRESS], seconds_from_now(7200))).await;
    create(&world, &ns, &opt_out("over", &[EGRESS], seconds_from_now(-5))).await;
    create(&world, &outside, &opt_out("nothing", &[EGRESS], soon)).await;
    for (namespace, name, says, words) in [
        (
            &ns,
            "ingress",
            "False PolicyNotAllowed",
            "allows no opt-out from DefaultDenyIngress, only from DefaultDenyEgress, MonitoringCarveout",
        ),
        (&ns, "long", "False TooLong", "allows 1h from its creation"),
        (&ns, "over", "False Expired", "which was over when this opt-out was created"),
        (&outside, "nothing", "False NoBaseline", "no baseline enforces policies in this namespace"),
    ] {
        let object = until_says(&world, namespace, name, says).await;
        assert!(message(&object).contains(words), "{name}: {}", message(&object));
        // Of a mistake in the opt-out itself, its author is told by a Warning.
        if name == "nothing" {
            assert_eq!(events_about(&world, namespace, name).await, []);
        } else {
            until_event(&world, namespace, name, "OptOutNotInForce").await;
        }
    }
    until_holds(&world, &ns, &plan).await;

    // The current limit and the age of the object count, so an edit cannot extend it.
    edit(&world, &ns, "long", json!({ "expiresAt": soon })).await;
    until_holds(&world, &ns, &plan.clone().without(EGRESS)).await;
    until_says(&world, &ns, "long", "True WithinLimits").await;
    edit(&world, &ns, "long", json!({ "expiresAt": seconds_from_now(3700) })).await;
    until_holds(&world, &ns, &plan).await;
    until_says(&world, &ns, "long", "False TooLong").await;
    apply_baseline(&world, PLATFORM, &json!({ "optOuts": { "maxDuration": "2h" }, "excludeNamespaces": ["outside-*"] })).await;
    until_holds(&world, &ns, &plan.clone().without(EGRESS).without(INGRESS)).await;
    until_says(&world, &ns, "long", "True WithinLimits").await;
    until_says(&world, &ns, "ingress", "True WithinLimits").await;

    // Two opt-outs add up. When one is deleted, its roles are enforced again at once, even if a finalizer holds it.
    let held = Patch::Merge(json!({ "metadata": { "finalizers": ["e2e.example/holds"] } }));
    opt_outs(&world.admin(), &ns).patch("long", &PatchParams::default(), &held).await.unwrap();
    for (name, plan) in [("ingress", plan.clone().without(EGRESS)), ("long", plan.clone())] {
        opt_outs(&world.admin(), &ns).delete(name, &DeleteParams::default()).await.unwrap();
        until_holds(&world, &ns, &plan).await;
    }
    until_says(&world, &ns, "long", "False Deleting").await;
    until_ready(&world, PLATFORM).await;
    assert_eq!(world.stop_operator().unwrap(), 0);
}

#[tokio::test]
async fn i2_a_restart_writes_nothing_and_repeats_no_announcement_and_what_ended_meanwhile_is_back() {
    if skipped_without_audit_log() {
        return;
    }
    let mut world = started(json!({})).await;
    let [ns, ends] = [world.namespace("team", &[]).await.unwrap(), world.namespace("ends", &[]).await.unwrap()];
    let plan = Plan::of(PLATFORM);
    until_holds(&world, &ns, &plan).await;
    create(&world, &ns, &opt_out("partner", &[EGRESS], seconds_from_now(3600 + 10))).await;
    until_event(&world, &ns, "partner", "OptOutExpiresSoon").await;
    until_holds(&world, &ends, &plan).await;
    let end = seconds_from_now(20);
    create(&world, &ends, &opt_out("short", &[EGRESS, INGRESS, "MonitoringCarveout"], end)).await;
    until_only(&world, &ends, &[]).await;
    until_says(&world, &ends, "short", "True WithinLimits").await;
    until_status(&world, PLATFORM, "both are counted", |status| status.namespaces.opted_out == 2).await;
    let open = plan.clone().without(EGRESS);
    until_holds(&world, &ns, &open).await;
    world.stop_operator().unwrap();

    let stored = until_says(&world, &ns, "partner", "True WithinLimits").await;
    let over = async || Timestamp::now() > end;
    world.eventually("the other one is over", TIMEOUT, over).await.unwrap();
    let writes = Writes::from_now(&world);
    world.restart_operator().await.unwrap();
    until_holds(&world, &ends, &plan).await;
    until_event(&world, &ends, "short", "OptOutExpired").await;
    let status = until_status(&world, PLATFORM, "one is counted", |status| status.namespaces.opted_out == 1).await;
    assert!(status.recent_drift.is_empty(), "{:?}", status.recent_drift);
    fence(&world, &plan, &[]).await;
    until_holds(&world, &ns, &open).await;
    assert_eq!(writes.inside(&ns), []);
    assert_eq!(opt_outs(&world.admin(), &ns).get("partner").await.unwrap().resource_version(), stored.resource_version());
    assert_eq!(events_about(&world, &ns, "partner").await.len(), 1);
    world.restart_operator().await.unwrap();
    fence(&world, &plan, &[]).await;
    assert_eq!(events_about(&world, &ends, "short").await.len(), 1);
}

#[tokio::test]
async fn a_hundred_opt_outs_that_end_in_the_same_second_are_closed_together() {
    const MANY: usize = 100;
    let world = started(json!({})).await;
    let names = join_all((0..MANY).map(|_| world.namespace("many", &[]))).await;
    let names: Vec<String> = names.into_iter().map(Result::unwrap).collect();
    let plan = Plan::of(PLATFORM);
    // One after the other: a hundred concurrent polls would take most of the time.
    for ns in &names {
        until_holds(&world, ns, &plan).await;
    }
    let end = seconds_from_now(40);
    let ended = opt_out("all", &[EGRESS], end);
    join_all(names.iter().map(|ns| create(&world, ns, &ended))).await;
    until_status(&world, PLATFORM, "all are counted", |s| s.namespaces.opted_out == u32::try_from(MANY).unwrap()).await;
    for ns in &names {
        until_holds(&world, ns, &plan.clone().without(EGRESS)).await;
    }
    assert!(Timestamp::now() < end, "the machine is too slow for this test");
    world.eventually("the end", TIMEOUT * 2, async || Timestamp::now() > end).await.unwrap();
    for ns in &names {
        let held = until_holds(&world, ns, &plan).await;
        let late = held[DENY_EGRESS].creation_timestamp().unwrap().0.duration_since(end);
        assert!(!late.is_negative() && late <= SignedDuration::from_secs(3), "{late:?}");
    }
    for ns in &names {
        until_event(&world, ns, "all", "OptOutExpired").await;
    }
    until_status(&world, PLATFORM, "none is left", |status| status.namespaces.opted_out == 0).await;
}

/// A client of a user with that ClusterRole in one namespace.
pub async fn somebody_with(world: &World, namespace: &str, role: &str) -> Client {
    let name = World::unique("user");
    bind(&world.admin(), &name, namespace, role).await.unwrap();
    let client = world.user(&name, &["tenants"]).await.unwrap();
    let verb = async || match role {
        "admin" | "edit" => can_i(&client, "create", "networking.k8s.io", "networkpolicies", Some(namespace)).await,
        _ => can_i(&client, "create", "policybaseline.io", "baselineoptouts", Some(namespace)).await,
    };
    world.eventually("the binding counts", TIMEOUT, verb).await.unwrap();
    client
}

async fn bind(by: &Client, user: &str, namespace: &str, role: &str) -> kube::Result<RoleBinding> {
    let binding = json!({
        "metadata": { "name": format!("{user}-{role}") },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role },
        "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user }],
    });
    let api: Api<RoleBinding> = Api::namespaced(by.clone(), namespace);
    api.create(&PostParams::default(), &serde_json::from_value(binding).unwrap()).await
}

fn is_refused<T: std::fmt::Debug>(result: kube::Result<T>) {
    let error = result.unwrap_err();
    assert!(matches!(&error, kube::Error::Api(status) if status.code == 403), "{error:?}");
}

#[tokio::test]
async fn an_admin_of_a_namespace_may_not_open_it_and_who_holds_the_role_for_that_may() {
    let world = started(json!({})).await;
    let ns = world.namespace("team", &[]).await.unwrap();
    let plan = Plan::of(PLATFORM);
    until_holds(&world, &ns, &plan).await;
    let object = opt_out("partner", &[EGRESS], seconds_from_now(600));
    for role in ["edit", "admin"] {
        let client = somebody_with(&world, &ns, role).await;
        is_refused(opt_outs(&client, &ns).create(&PostParams::default(), &object).await);
        // They may read opt-outs, as everybody may who may view the namespace.
        opt_outs(&client, &ns).list(&ListParams::default()).await.unwrap();
        is_refused(opt_outs(&client, &ns).delete("none", &DeleteParams::default()).await);
        is_refused(bind(&client, "mallory", &ns, "policy-baseline-opt-outs").await);
    }
    let reviewer = somebody_with(&world, &ns, "policy-baseline-opt-outs").await;
    let api = opt_outs(&reviewer, &ns);
    api.create(&PostParams::default(), &object).await.unwrap();
    until_holds(&world, &ns, &plan.clone().without(EGRESS)).await;
    until_says(&world, &ns, "partner", "True WithinLimits").await;
    let longer = Patch::Merge(json!({ "spec": { "expiresAt": seconds_from_now(900) } }));
    is_refused(api.patch("partner", &PatchParams::default(), &longer).await);
    is_refused(api.patch_status("partner", &PatchParams::default(), &Patch::Merge(json!({ "status": null }))).await);
    assert_eq!(api.list(&ListParams::default()).await.unwrap().items.len(), 1);
    api.delete("partner", &DeleteParams::default()).await.unwrap();
    until_holds(&world, &ns, &plan).await;
}

#[tokio::test]
async fn what_kubectl_is_told_of_a_mistake_in_an_opt_out() {
    let world = World::new().await.unwrap();
    let ns = world.namespace("team", &[]).await.unwrap();
    let manifest = |spec: &Value| {
        json!({ "apiVersion": "policybaseline.io/v1alpha1", "kind": "BaselineOptOut", "metadata": { "name": "o", "namespace": ns }, "spec": spec })
            .to_string()
    };
    let good = json!({ "policies": [EGRESS], "reason": REASON, "expiresAt": seconds_from_now(600) });
    let with = |field: &str, value: Value| {
        let mut spec = good.clone();
        spec[field] = value;
        spec
    };
    let without = |field: &str| {
        let mut spec = good.clone();
        spec.as_object_mut().unwrap().remove(field);
        spec
    };
    for (spec, says) in [
        (with("policies", json!([])), "spec.policies: Invalid value: name at least one policy"),
        (with("policies", json!([EGRESS, EGRESS])), "spec.policies: Invalid value: name each policy once"),
        (with("policies", json!(["DNS"])), r#"spec.policies[0]: Unsupported value: "DNS""#),
        (with("policies", json!([EGRESS, INGRESS, "MonitoringCarveout", EGRESS])), "spec.policies: Too many"),
        (with("reason", json!("because")), r#"spec.reason: Invalid value: "because": say in at least 20 characters why"#),
        (with("reason", json!(format!("{:30}", "x"))), "say in at least 20 characters why the namespace needs this"),
        (with("reason", json!("x".repeat(1025))), "spec.reason: Too long"),
        (with("reason", json!("a reason that is long enough\n")), "write one line without control characters and invisible ones"),
        (with("reason", json!("\u{200b}".repeat(20))), "write one line without control characters and invisible ones"),
        (with("approvedBy", json!("\u{202e}nimda")), "spec.approvedBy: Invalid value"),
        (with("approvedBy", json!("\u{3164}")), "write one line without control characters and invisible ones"),
        (with("ticket", json!("\u{1b}[31mSEC-7")), "spec.ticket: Invalid value"),
        (
            with("expiresAt", json!("14d")),
            r#"spec.expiresAt: Invalid value: "14d": write a time of the calendar with its zone, as in 2026-03-01T00:00:00Z; a duration such as 14d is none"#,
        ),
        (with("expiresAt", json!("tomorrow")), "as in 2026-03-01T00:00:00Z"),
        (with("expiresAt", json!("2027-03-01")), "as in 2026-03-01T00:00:00Z"),
        (with("expiresAt", json!("2027-03-01T00:00:00")), "as in 2026-03-01T00:00:00Z"),
        (with("expiresAt", json!("2027-02-29T00:00:00Z")), "as in 2026-03-01T00:00:00Z"),
        (with("expiresAt", json!(1_800_000_000)), ".spec.expiresAt: expected string"),
        (with("approvedBy", json!("x".repeat(129))), "spec.approvedBy: Too long"),
        (with("ticket", json!("x".repeat(257))), "spec.ticket: Too long"),
        (without("policies"), "spec.policies: Required value"),
        (without("reason"), "spec.reason: Required value"),
        (without("expiresAt"), "spec.expiresAt: Required value"),
    ] {
        let said = world.try_apply_yaml(&manifest(&spec)).await.expect_err(&spec.to_string());
        assert!(said.contains(says), "{spec}: {said}");
    }
    world.apply_yaml(&manifest(&good)).await.unwrap();
    let named = manifest(&good).replace(r#""name":"o""#, &format!(r#""name":"{}""#, "o".repeat(64)));
    let said = world.try_apply_yaml(&named).await.unwrap_err();
    assert!(said.contains("metadata.name: use at most 63 characters"), "{said}");
}

#[tokio::test]
async fn an_operator_that_is_newer_than_the_crds_and_roles_works_and_takes_opt_outs_up_when_they_come() {
    let mut world = World::new().await.unwrap();
    if world.plane().is_external() {
        return; // It would delete the opt-outs of an external cluster.
    }
    world.discard();
    let role: Api<ClusterRole> = Api::all(world.admin());
    let before = role.get("policy-baseline").await.unwrap();
    let mut old = before.clone();
    old.metadata.managed_fields = None;
    let opt_outs_of = |rule: &PolicyRule| rule.resources.iter().flatten().any(|of| of.starts_with("baselineoptouts"));
    old.rules.as_mut().unwrap().retain(|rule| !opt_outs_of(rule));
    role.replace("policy-baseline", &PostParams::default(), &old).await.unwrap();
    let crds: Api<CustomResourceDefinition> = Api::all(world.admin());
    crds.delete(CRD, &DeleteParams::default()).await.unwrap();
    let is_gone = async || crds.get_opt(CRD).await.map(|found| found.is_none());
    world.eventually("the CRD is gone", TIMEOUT, is_gone).await.unwrap();
    apply_baseline(&world, PLATFORM, &json!({})).await;
    world.start_operator().await.unwrap();
    // Neither CRD nor role: the API server refuses the operator's request, so the operator knows that there are no opt-outs.
    let ns = world.namespace("team", &[]).await.unwrap();
    let plan = Plan::of(PLATFORM);
    until_holds(&world, &ns, &plan).await;
    // The role without the CRD.
    world.plane().run_kubectl(&["apply", "--server-side", "--force-conflicts", "-f", "manifests/base/rbac.yaml"]).unwrap();
    world.restart_operator().await.unwrap();
    fence(&world, &plan, &[]).await;
    world.plane().run_kubectl(&["apply", "--server-side", "-f", "crds/baselineoptouts.policybaseline.io.yaml"]).unwrap();
    let object = opt_out("partner", &[EGRESS], seconds_from_now(600));
    let api = opt_outs(&world.admin(), &ns);
    let created = async || api.create(&PostParams::default(), &object).await.map(|_| true);
    world.eventually("the CRD is served", TIMEOUT, created).await.unwrap();
    until_holds(&world, &ns, &plan.clone().without(EGRESS)).await;
    until_says(&world, &ns, "partner", "True WithinLimits").await;
    // Deleting the CRD deletes the exceptions.
    crds.delete(CRD, &DeleteParams::default()).await.unwrap();
    until_holds(&world, &ns, &plan).await;
}

#[tokio::test]
async fn nothing_is_decided_while_opt_outs_exist_and_may_not_be_listed() {
    let mut world = World::new().await.unwrap();
    world.discard();
    let role: Api<ClusterRole> = Api::all(world.admin());
    let mut old = role.get("policy-baseline").await.unwrap();
    old.metadata.managed_fields = None;
    old.rules.as_mut().unwrap().retain(|rule| !rule.resources.iter().flatten().any(|of| of.starts_with("baselineoptouts")));
    role.replace("policy-baseline", &PostParams::default(), &old).await.unwrap();
    apply_baseline(&world, PLATFORM, &json!({})).await;
    // So that the namespace is newer.
    a_second_later(&world).await;
    let ns = world.namespace("team", &[]).await.unwrap();
    create(&world, &ns, &opt_out("partner", &[EGRESS], seconds_from_now(600))).await;
    world.start_operator().await.unwrap();
    let says = async || world.operator().unwrap().log().contains("does not allow this account to list and watch baselineoptouts");
    world.eventually("it says what it waits for", TIMEOUT, says).await.unwrap();
    let others = ["namespaces", "network policies", "baselines", "leases", "apiservices", "customresourcedefinitions"];
    let listed = async || {
        let log = world.operator().unwrap().log();
        others.iter().all(|what| log.contains(&format!("{what} are listed")))
    };
    world.eventually("all else is listed", TIMEOUT, listed).await.unwrap();
    assert_eq!(world.policies(&ns).await.unwrap(), []);
    world.plane().run_kubectl(&["apply", "--server-side", "--force-conflicts", "-f", "manifests/base/rbac.yaml"]).unwrap();
    until_holds(&world, &ns, &Plan::of(PLATFORM).without(EGRESS)).await;
}

#[tokio::test]
async fn i7_an_opt_out_that_does_not_decode_is_not_in_force_and_stops_nothing_else() {
    let mut world = World::new().await.unwrap();
    world.discard();
    let crds: Api<CustomResourceDefinition> = Api::all(world.admin());
    let mut crd = serde_json::to_value(crds.get(CRD).await.unwrap()).unwrap();
    let policies = crd.pointer_mut("/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/policies/items").unwrap();
    assert!(policies.as_object_mut().unwrap().remove("enum").is_some());
    let patch = Patch::Merge(json!({ "spec": { "versions": crd["spec"]["versions"] } }));
    crds.patch(CRD, &PatchParams::default(), &patch).await.unwrap();
    apply_baseline(&world, PLATFORM, &json!({})).await;
    world.start_operator().await.unwrap();
    let ns = world.namespace("team", &[]).await.unwrap();
    let plan = Plan::of(PLATFORM);
    until_holds(&world, &ns, &plan).await;
    let later = json!({
        "apiVersion": "policybaseline.io/v1alpha1", "kind": "BaselineOptOut", "metadata": { "name": "later", "namespace": ns },
        "spec": { "policies": ["LaterPolicy"], "reason": REASON, "expiresAt": seconds_from_now(600) },
    });
    let taken = async || world.try_apply_yaml(&later.to_string()).await.map(|()| true);
    world.eventually("any policy is accepted", TIMEOUT, taken).await.unwrap();
    create(&world, &ns, &opt_out("partner", &[EGRESS], seconds_from_now(600))).await;
    until_holds(&world, &ns, &plan.without(EGRESS)).await;
    until_says(&world, &ns, "partner", "True WithinLimits").await;
    let resource = ApiResource::erase::<BaselineOptOut>(&());
    let api: Api<DynamicObject> = Api::namespaced_with(world.admin(), &ns, &resource);
    let says = async || {
        let object = api.get("later").await.map_err(|err| err.to_string())?;
        let condition = &object.data["status"]["conditions"][0];
        let told = (condition["status"].as_str(), condition["reason"].as_str()) == (Some("False"), Some("Undecodable"));
        if told && condition["message"].as_str().is_some_and(|m| m.contains("spec.policies[0]") && m.contains("LaterPolicy")) {
            return Ok(true);
        }
        Err(condition.to_string())
    };
    world.eventually("it says that it cannot be read", TIMEOUT, says).await.unwrap();
}

#[tokio::test]
async fn an_older_crd_that_refuses_the_status_is_told_once_and_policies_go_and_come_all_the_same() {
    if skipped_without_audit_log() {
        return;
    }
    let mut world = World::new().await.unwrap();
    world.discard();
    let crds: Api<CustomResourceDefinition> = Api::all(world.admin());
    let mut crd = serde_json::to_value(crds.get(CRD).await.unwrap()).unwrap();
    let status = crd.pointer_mut("/spec/versions/0/schema/openAPIV3Schema/properties/status/properties").unwrap();
    for field in ["announced", "firstInForce"] {
        assert!(status.as_object_mut().unwrap().remove(field).is_some(), "{field}");
    }
    let patch = Patch::Merge(json!({ "spec": { "versions": crd["spec"]["versions"] } }));
    crds.patch(CRD, &PatchParams::default(), &patch).await.unwrap();
    apply_baseline(&world, PLATFORM, &json!({})).await;
    // So that the namespace is newer.
    a_second_later(&world).await;
    let ns = world.namespace("team", &[]).await.unwrap();
    create(&world, &ns, &opt_out("probe", &[EGRESS], seconds_from_now(-5))).await;
    let is_served = async || {
        let merge = Patch::Merge(json!({ "status": { "firstInForce": seconds_from_now(0) } }));
        let stored = opt_outs(&world.admin(), &ns).patch_status("probe", &PatchParams::default(), &merge).await?;
        Ok::<_, kube::Error>(stored.status.is_none_or(|status| status.first_in_force.is_none()))
    };
    world.eventually("the older CRD is served", TIMEOUT, is_served).await.unwrap();
    opt_outs(&world.admin(), &ns).delete("probe", &DeleteParams::default()).await.unwrap();
    world.start_operator().await.unwrap();
    let plan = Plan::of(PLATFORM);
    until_holds(&world, &ns, &plan).await;
    let mark = world.audit().unwrap().mark();
    create(&world, &ns, &opt_out("partner", &[EGRESS], seconds_from_now(12))).await;
    until_holds(&world, &ns, &plan.clone().without(EGRESS)).await;
    until_holds(&world, &ns, &plan).await;
    let unlabelled = async || opt_outs(&world.admin(), &ns).get("partner").await.map(|object| object.labels().is_empty());
    world.eventually("the label is gone", TIMEOUT, unlabelled).await.unwrap();
    let writes = writes_since(&world, mark).into_iter().filter(|write| write.resource == "baselineoptouts");
    let writes: Vec<_> = writes.filter(|write| write.name == "partner").collect();
    // The label twice, and the status after 0, 2 and 6 s, and at the end.
    assert!(writes.len() <= 7, "{} in 12 s: {writes:?}", writes.len());
    let log = world.operator().unwrap().log();
    assert_eq!(log.matches("status or label of the opt-out not written").count(), 1, "{log}");
}

#[tokio::test]
async fn an_opt_out_changes_nothing_while_the_baseline_is_suspended() {
    if skipped_without_audit_log() {
        return;
    }
    let world = started(json!({ "namespaceSelector": { "matchLabels": { "of": PLATFORM } } })).await;
    apply_baseline(&world, "other", &json!({ "metadata": { "namePrefix": "other-" }, "priority": -1 })).await;
    let ns = world.namespace("team", &[("of", PLATFORM)]).await.unwrap();
    let plan = Plan::of(PLATFORM);
    until_holds(&world, &ns, &plan).await;
    let suspended = |suspend: bool| json!({ "namespaceSelector": { "matchLabels": { "of": PLATFORM } }, "suspend": suspend });
    apply_baseline(&world, PLATFORM, &suspended(true)).await;
    until_status(&world, PLATFORM, "suspended", |status| condition(status, "Ready").reason == "Suspended").await;
    create(&world, &ns, &opt_out("partner", &[EGRESS], seconds_from_now(600))).await;
    until_says(&world, &ns, "partner", "False BaselineFrozen").await;
    fence(&world, &Plan::of("other").prefix("other-"), &[]).await;
    until_holds(&world, &ns, &plan).await;
    apply_baseline(&world, PLATFORM, &suspended(false)).await;
    until_holds(&world, &ns, &plan.clone().without(EGRESS)).await;
    until_says(&world, &ns, "partner", "True WithinLimits").await;
    // The reverse: a role that was opted out of stays away, even when the opt-out is deleted.
    apply_baseline(&world, PLATFORM, &suspended(true)).await;
    until_status(&world, PLATFORM, "suspended", |status| condition(status, "Ready").reason == "Suspended").await;
    opt_outs(&world.admin(), &ns).delete("partner", &DeleteParams::default()).await.unwrap();
    fence(&world, &Plan::of("other").prefix("other-"), &[]).await;
    until_holds(&world, &ns, &plan.clone().without(EGRESS)).await;
    apply_baseline(&world, PLATFORM, &suspended(false)).await;
    until_holds(&world, &ns, &plan).await;
}

#[tokio::test]
async fn the_worked_example_of_the_page_works() {
    let examples: Vec<Value> =
        yaml_blocks(include_str!("../../../docs/opt-outs.md")).iter().map(|block| serde_yaml::from_str(block).unwrap()).collect();
    let [baseline, mut object] = <[Value; 2]>::try_from(examples).unwrap();
    let mut world = World::new().await.unwrap();
    world.apply_yaml(&baseline.to_string()).await.unwrap();
    world.start_operator().await.unwrap();
    let ns = world.namespace("team-a", &[]).await.unwrap();
    let plan = Plan::of(baseline["metadata"]["name"].as_str().unwrap());
    until_holds(&world, &ns, &plan).await;
    // The page has a fixed date.
    object["spec"]["expiresAt"] = seconds_from_now(600).to_string().into();
    object["metadata"]["namespace"] = ns.clone().into();
    world.apply_yaml(&object.to_string()).await.unwrap();
    until_holds(&world, &ns, &plan.without(EGRESS)).await;
    let name = object["metadata"]["name"].as_str().unwrap();
    until_says(&world, &ns, name, "True WithinLimits").await;
}

#[tokio::test]
async fn kubectl_explain_describes_every_field_of_an_opt_out() {
    let world = World::new().await.unwrap();
    let cache = world.plane().state_dir().join("explain-opt-outs");
    let explain = |path: &str| {
        let output = world.plane().kubectl().env("KUBECACHEDIR", &cache).args(["explain", path]).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let told = async || explain("baselineoptout").contains("FIELDS");
    world.eventually("the discovery names opt-outs", TIMEOUT, told).await.unwrap();
    for (path, fields) in [
        ("baselineoptout.spec", &["approvedBy", "expiresAt", "policies", "reason", "ticket"][..]),
        ("baselineoptout.status", &["announced", "conditions", "firstInForce", "observedGeneration"]),
        ("baselineoptout.status.announced", &["expiresAt", "steps"]),
    ] {
        let said = explain(path);
        assert!(!said.contains("<empty>") && !said.contains("<no description>"), "{path}:\n{said}");
        for field in fields {
            assert!(said.lines().any(|line| line.trim_start().starts_with(&format!("{field}\t<"))), "{path}.{field}:\n{said}");
        }
    }
}

/// Just after the API server started, the namespace controller may not know that opt-outs exist. It finishes a namespace without deleting
/// them.
#[tokio::test]
async fn an_opt_out_that_an_earlier_namespace_of_that_name_left_behind_opens_nothing() {
    let mut world = started(json!({})).await;
    // The controller comes first on a busy machine, and deletes the opt-out. Then another namespace is tried.
    let mut left = None;
    for _ in 0..5 {
        let ns = world.namespace("team", &[]).await.unwrap();
        create(&world, &ns, &opt_out("partner", &[EGRESS], seconds_from_now(600))).await;
        until_says(&world, &ns, "partner", "True WithinLimits").await;
        a_second_later(&world).await;
        finish_namespace(&world, &ns, OptOutsOfGone::LeftBehind).await;
        world.namespace_named(&ns, &[]).await.unwrap();
        if opt_outs(&world.admin(), &ns).get_opt("partner").await.unwrap().is_some() {
            left = Some(ns);
            break;
        }
    }
    let ns = left.expect("a namespace that is finished by hand leaves its opt-outs behind");
    let object = until_says(&world, &ns, "partner", "False OlderThanNamespace").await;
    let created = object.creation_timestamp().unwrap().0;
    let wanted = format!("it was created at {created}, before this namespace (");
    assert!(message(&object).starts_with(&wanted), "{}", message(&object));
    let plan = Plan::of(PLATFORM);
    until_holds(&world, &ns, &plan).await;

    // After a restart it is the same, and a new one counts.
    world.restart_operator().await.unwrap();
    until_holds(&world, &ns, &plan).await;
    create(&world, &ns, &opt_out("again", &[EGRESS], seconds_from_now(600))).await;
    until_says(&world, &ns, "again", "True WithinLimits").await;
    until_says(&world, &ns, "partner", "False OlderThanNamespace").await;
    until_holds(&world, &ns, &plan.without(EGRESS)).await;
}
