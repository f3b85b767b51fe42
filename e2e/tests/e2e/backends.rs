//! The operator does not close namespaces with Services that the API server calls, unless their owner wants that. It reports those that
//! are already closed.

use k8s_openapi::api::rbac::v1::ClusterRole;
use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams};
use kube::core::{ApiResource, GroupVersionKind};
use policy_baseline::PolicyBaselineStatus;
use policy_baseline_e2e::{TIMEOUT, World};
use serde_json::{Value, json};

use crate::repair::{PLATFORM, enforcing};
use crate::samples::yaml_blocks;
use crate::scene::{
    DENY_EGRESS, DENY_INGRESS, Plan, apply_baseline, condition, events, fence, merge, policies_of, until_event, until_holds,
    until_only, until_ready, until_status,
};
use crate::support::{a_second_later, namespaces, stored};

/// Waits until nothing closes the namespace: it is held, so it is left alone.
async fn until_left_alone(world: &World, ns: &str) {
    until_told(world, ns, "ServesControlPlane").await;
    until_only(world, ns, &[]).await;
}

fn service(namespace: &str) -> Value {
    json!({ "namespace": namespace, "name": "webhook" })
}

/// A webhook configuration that matches no request.
fn webhook(kind: &str, name: &str, client: &Value) -> String {
    let webhook = json!({
        "name": "nothing.e2e.example", "clientConfig": client, "sideEffects": "None", "admissionReviewVersions": ["v1"],
        "failurePolicy": "Ignore", "rules": [],
    });
    let object = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "metadata": { "name": name }, "webhooks": [webhook],
    });
    object.to_string()
}

fn validating(name: &str, namespace: &str) -> String {
    webhook("ValidatingWebhookConfiguration", name, &json!({ "service": service(namespace) }))
}

fn api_service(namespace: &str) -> String {
    let spec = json!({
        "group": "aggregated.e2e.example", "version": "v1", "groupPriorityMinimum": 100, "versionPriority": 10,
        "insecureSkipTLSVerify": true, "service": service(namespace),
    });
    let object = json!({
        "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": { "name": "v1.aggregated.e2e.example" }, "spec": spec,
    });
    object.to_string()
}

fn converted(namespace: &str) -> String {
    let webhook = json!({ "clientConfig": { "service": service(namespace) }, "conversionReviewVersions": ["v1"] });
    let version = json!({ "name": "v1", "served": true, "storage": true, "schema": { "openAPIV3Schema": { "type": "object" } } });
    let spec = json!({
        "group": "converted.e2e.example", "scope": "Namespaced", "versions": [version],
        "names": { "plural": "things", "singular": "thing", "kind": "Thing" },
        "conversion": { "strategy": "Webhook", "webhook": webhook },
    });
    let object = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": { "name": "things.converted.e2e.example" }, "spec": spec,
    });
    object.to_string()
}

/// An object that makes the API server call into a namespace: its name in a violation, and its manifest.
type Caller = (&'static str, fn(&str) -> String);

/// The Services that the callers of this suite name.
async fn create_services(world: &World, namespace: &str, names: &[&str]) {
    for name in names {
        let service = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": { "namespace": namespace, "name": name },
            "spec": { "ports": [{ "port": 443 }] },
        });
        world.apply_yaml(&service.to_string()).await.unwrap();
    }
}

/// Deletes an object by its manifest.
async fn delete(world: &World, manifest: &str) {
    let object: DynamicObject = serde_json::from_str(manifest).unwrap();
    let kind = GroupVersionKind::try_from(object.types.as_ref().unwrap()).unwrap();
    let plural = format!("{}s", kind.kind.to_lowercase());
    let api: Api<DynamicObject> = Api::all_with(world.admin(), &ApiResource::from_gvk_with_plural(&kind, &plural));
    api.delete(object.metadata.name.as_deref().unwrap(), &DeleteParams::default()).await.unwrap();
}

/// The message of the violation or notice of a namespace that has this reason.
fn told(status: &PolicyBaselineStatus, namespace: &str, reason: &str) -> Option<String> {
    let violations = status.violations.iter().map(|v| (&v.namespace, v.reason.into_str(), &v.message));
    let notices = status.notices.iter().map(|n| (&n.namespace, n.reason.into_str(), &n.message));
    let found = violations.chain(notices).find(|(of, word, _)| *of == namespace && *word == reason);
    found.map(|(.., message)| message.clone())
}

async fn until_told(world: &World, namespace: &str, reason: &str) -> (PolicyBaselineStatus, String) {
    let what = format!("{reason} in {namespace}");
    let status = until_status(world, PLATFORM, &what, |status| told(status, namespace, reason).is_some()).await;
    let message = told(&status, namespace, reason).unwrap();
    (status, message)
}

#[tokio::test]
async fn a_namespace_that_serves_the_control_plane_stays_reachable_until_it_serves_no_more_or_enforce_says_so() {
    let mut world = World::new().await.unwrap();
    world.discard();
    let callers: [Caller; 4] = [
        ("ValidatingWebhookConfiguration/validating", |ns| validating("validating", ns)),
        ("MutatingWebhookConfiguration/mutating", |ns| {
            webhook("MutatingWebhookConfiguration", "mutating", &json!({ "service": service(ns) }))
        }),
        ("APIService/v1.aggregated.e2e.example", api_service),
        ("CustomResourceDefinition/things.converted.e2e.example", converted),
    ];
    // These objects exist before the operator starts. It must not close a namespace because it has not read them yet.
    apply_baseline(&world, PLATFORM, &json!({})).await;
    // So that the namespace is newer.
    a_second_later(&world).await;
    let mut serving = Vec::new();
    for (name, manifest) in callers {
        let ns = world.namespace("serving", &[]).await.unwrap();
        create_services(&world, &ns, &["webhook", "known"]).await;
        let manifest = manifest(&ns);
        world.apply_yaml(&manifest).await.unwrap();
        serving.push((name, ns, manifest));
    }
    let url = world.namespace("url", &[]).await.unwrap();
    let by_url = json!({ "url": format!("https://webhook.{url}.svc/x") });
    world.apply_yaml(&webhook("ValidatingWebhookConfiguration", "by-url", &by_url)).await.unwrap();
    world.start_operator().await.unwrap();

    until_holds(&world, &url, &Plan::of(PLATFORM)).await;
    for (_, ns, _) in &serving {
        until_left_alone(&world, ns).await;
    }
    // The namespace `default` is older than the baseline.
    let all = |status: &PolicyBaselineStatus| {
        let counts = status.namespaces;
        (counts.selected, counts.protected, counts.reported, counts.held) == (6, 1, 1, 4)
    };
    let status = until_status(&world, PLATFORM, "four are held, and as planned", all).await;
    let ready = condition(&status, "Ready");
    assert_eq!((&*ready.status, &*ready.reason), ("True", "ExistingNamespacesOnlyReported"));
    assert!(ready.message.contains("in 4 the API server calls a Service"), "{}", ready.message);
    for (name, ns, _) in &serving {
        let message = told(&status, ns, "ServesControlPlane").unwrap();
        assert!(message.contains(&format!("{name} calls Service webhook")), "{message}");
        assert_eq!(world.policies(ns).await.unwrap(), [], "{name}: neither direction is closed");
    }
    let metric = r#"policy_baseline_namespaces{state="held"} 4"#;
    let counted = async || crate::admin_port::metrics_of(&world).await.contains(metric);
    world.eventually("they are counted", TIMEOUT, counted).await.unwrap();

    // A configuration that names no existing Service holds nothing, whoever creates the namespace and later the Service.
    let future = World::unique("old-addon-system");
    let [first, second] = [&serving[0].1, &future].map(|ns| validating("validating", ns));
    let mut both: Value = serde_json::from_str(&first).unwrap();
    let mut webhook = serde_json::from_str::<Value>(&second).unwrap()["webhooks"][0].take();
    webhook["name"] = "future.e2e.example".into();
    both["webhooks"].as_array_mut().unwrap().push(webhook);
    both["webhooks"][0]["clientConfig"]["service"]["name"] = "known".into();
    world.apply_yaml(&both.to_string()).await.unwrap();
    let is_known = |status: &PolicyBaselineStatus| {
        told(status, &serving[0].1, "ServesControlPlane").is_some_and(|message| message.contains("calls Service known"))
    };
    until_status(&world, PLATFORM, "the configuration is known", is_known).await;
    world.namespace_named(&future, &[]).await.unwrap();
    until_holds(&world, &future, &Plan::of(PLATFORM)).await;
    create_services(&world, &future, &["webhook"]).await;
    until_told(&world, &future, "ControlPlaneBlocked").await;
    until_holds(&world, &future, &Plan::of(PLATFORM)).await;
    namespaces(&world).delete(&future, &DeleteParams::default()).await.unwrap();

    for (_, _, manifest) in &serving {
        delete(&world, manifest).await;
    }
    for (name, ns, _) in &serving {
        until_holds(&world, ns, &Plan::of(PLATFORM)).await;
        assert!(events(&world.admin(), ns).await.is_empty(), "{name}: the end of a hold is no drift");
    }
    let status = until_status(&world, PLATFORM, "none is held", |status| status.namespaces.held == 0).await;
    assert!(status.notices.iter().all(|notice| notice.namespace == "default"), "{status:?}");

    let last = world.namespace("last", &[]).await.unwrap();
    until_holds(&world, &last, &Plan::of(PLATFORM)).await;
    apply_baseline(&world, PLATFORM, &json!({ "excludeNamespaces": [last] })).await;
    until_only(&world, &last, &[]).await;
    create_services(&world, &last, &["webhook"]).await;
    world.apply_yaml(&validating("validating", &last)).await.unwrap();
    apply_baseline(&world, PLATFORM, &json!({ "controlPlaneBackends": "Enforce" })).await;
    until_holds(&world, &last, &Plan::of(PLATFORM)).await;
    let status = until_ready(&world, PLATFORM).await;
    assert_eq!(status.namespaces.held, 0);
    assert!(status.notices.iter().all(|notice| notice.namespace == "default"), "its owner has decided: {status:?}");
}

#[tokio::test]
async fn i1_what_is_closed_before_it_serves_is_told_at_once_and_stays_closed_until_its_owner_decides() {
    let mut world = enforcing(&json!({})).await;
    world.discard();
    let ns = world.namespace("late", &[]).await.unwrap();
    let plan = Plan::of(PLATFORM);
    let before = until_holds(&world, &ns, &plan).await;
    until_ready(&world, PLATFORM).await;
    create_services(&world, &ns, &["webhook"]).await;
    world.apply_yaml(&validating("late", &ns)).await.unwrap();

    let admin = world.admin();
    let event = until_event(&world, &admin, &ns, "ControlPlaneBlocked", DENY_INGRESS).await;
    let caller = "ValidatingWebhookConfiguration/late calls Service webhook";
    assert!(event.message.unwrap().contains(caller));
    let (status, message) = until_told(&world, &ns, "ControlPlaneBlocked").await;
    assert!(message.contains(caller) && message.contains("excludeNamespaces"), "{message}");
    let ready = condition(&status, "Ready");
    assert_eq!((&*ready.status, &*ready.reason, status.namespaces.held), ("False", "ControlPlaneBlocked", 0));
    assert_eq!(condition(&status, "Reconciling").status, "False", "somebody else must act");
    assert_eq!(until_holds(&world, &ns, &plan).await, before, "nothing was touched");

    // The policy is repaired, also after a restart. The restarted operator does not send the event again.
    merge(&policies_of(&admin, &ns), DENY_INGRESS, "tenant", &json!({ "spec": { "ingress": [{}] } })).await;
    until_holds(&world, &ns, &plan).await;
    policies_of(&admin, &ns).delete(DENY_INGRESS, &DeleteParams::default()).await.unwrap();
    until_holds(&world, &ns, &plan).await;
    world.restart_operator().await.unwrap();
    fence(&world, &plan, &[]).await;
    policies_of(&admin, &ns).delete(DENY_INGRESS, &DeleteParams::default()).await.unwrap();
    until_holds(&world, &ns, &plan).await;
    until_told(&world, &ns, "ControlPlaneBlocked").await;
    let blocked = events(&admin, &ns).await.into_iter().filter(|e| e.reason.as_deref() == Some("ControlPlaneBlocked"));
    assert_eq!(blocked.count(), 1);

    // Its owner excludes the namespace and includes it again. From then on it is held.
    apply_baseline(&world, PLATFORM, &json!({ "excludeNamespaces": [ns] })).await;
    until_only(&world, &ns, &[]).await;
    apply_baseline(&world, PLATFORM, &json!({})).await;
    until_left_alone(&world, &ns).await;
    world.restart_operator().await.unwrap();
    fence(&world, &plan, &[]).await;
    until_left_alone(&world, &ns).await;
    assert_eq!(until_ready(&world, PLATFORM).await.namespaces.held, 1);
}

#[tokio::test]
async fn an_allow_of_the_api_server_for_every_pod_closes_the_egress_of_a_held_namespace_and_leaves_its_ingress_open() {
    let mut world = World::new().await.unwrap();
    world.discard();
    let same = json!({
        "name": "same", "ingress": [{ "from": [{ "sameNamespace": {} }] }], "egress": [{ "to": [{ "sameNamespace": {} }] }],
    });
    let api = json!({ "name": "api", "egress": [{ "to": [{ "kubernetesAPI": {} }] }] });
    apply_baseline(&world, PLATFORM, &json!({ "allows": [same] })).await;
    let ns = world.namespace("controller", &[]).await.unwrap();
    create_services(&world, &ns, &["webhook"]).await;
    world.apply_yaml(&validating("held", &ns)).await.unwrap();
    world.start_operator().await.unwrap();
    until_left_alone(&world, &ns).await;

    apply_baseline(&world, PLATFORM, &json!({ "allows": [same, api] })).await;
    until_only(&world, &ns, &[DENY_EGRESS, "baseline-allow-same", "baseline-allow-api"]).await;
    for (name, policy) in stored(&world, &ns).await {
        let spec = policy.spec.unwrap();
        assert_eq!(spec.policy_types, Some(vec!["Egress".to_owned()]), "{name}: ingress stays open");
        let to_pods = |rule: &Value| rule["ports"][0]["port"] != 53;
        let rules: Vec<Value> = spec.egress.iter().flatten().map(|rule| json!(rule)).filter(to_pods).collect();
        match name.as_str() {
            DENY_EGRESS => assert_eq!(rules, [] as [Value; 0], "only DNS"),
            "baseline-allow-same" => assert_eq!(rules, [json!({ "to": [{ "podSelector": {} }] })]),
            _ => assert!(rules.iter().any(|rule| rule["to"][0]["ipBlock"]["cidr"].is_string()), "the API server: {rules:?}"),
        }
    }
    let is_told = |status: &PolicyBaselineStatus| {
        told(status, &ns, "ServesControlPlane")
            .is_some_and(|message| message.contains("ingress is left open. Egress is closed, "))
    };
    let status = until_status(&world, PLATFORM, "one direction is closed", is_told).await;
    assert_eq!(status.namespaces.held, 1);

    // An allow for some pods leaves the others without the API server.
    let for_some = json!({ "name": "api", "podSelector": { "matchLabels": { "api": "true" } }, "egress": api["egress"] });
    apply_baseline(&world, PLATFORM, &json!({ "allows": [same, for_some] })).await;
    until_left_alone(&world, &ns).await;
}

#[tokio::test]
async fn the_page_about_backends_works_as_it_says() {
    let world = World::new().await.unwrap();
    let [baseline, allowing, policy] = &yaml_blocks(include_str!("../../../docs/control-plane-backends.md"))[..] else {
        panic!("a baseline, one with an allow, and a policy")
    };
    for baseline in [baseline, allowing] {
        world.apply_yaml(baseline).await.unwrap();
    }
    world.namespace_named("cert-manager", &[]).await.unwrap();
    world.apply_yaml(policy).await.unwrap();
    assert_eq!(world.policies("cert-manager").await.unwrap().len(), 1);
}

#[tokio::test]
async fn audit_and_report_tell_which_namespaces_would_be_held() {
    let mut world = World::new().await.unwrap();
    world.discard();
    let ns = world.namespace("existing", &[]).await.unwrap();
    create_services(&world, &ns, &["webhook"]).await;
    world.apply_yaml(&validating("existing", &ns)).await.unwrap();
    a_second_later(&world).await;
    apply_baseline(&world, PLATFORM, &json!({})).await;
    world.start_operator().await.unwrap();
    let (status, _) = until_told(&world, &ns, "ServesControlPlane").await;
    assert!(told(&status, &ns, "ExistingNamespace").is_some());
    apply_baseline(&world, PLATFORM, &json!({ "mode": "Audit", "existingNamespaces": "Enforce" })).await;
    let status = until_status(&world, PLATFORM, "it would be held", |status| status.namespaces.held == 1).await;
    assert!(told(&status, &ns, "ServesControlPlane").is_some() && told(&status, &ns, "WouldChange").is_none());
    assert!(stored(&world, &ns).await.is_empty());
}

#[tokio::test]
async fn i7_an_operator_that_may_not_list_webhooks_works_and_says_so_until_it_may() {
    let mut world = World::new().await.unwrap();
    world.discard();
    let shipped = Api::<ClusterRole>::all(world.admin()).get("policy-baseline").await.unwrap().rules.unwrap();
    let mut narrowed = shipped.clone();
    narrowed.retain(|rule| !rule.api_groups.iter().flatten().any(|group| group == "admissionregistration.k8s.io"));
    let set_rules = async |rules: &[k8s_openapi::api::rbac::v1::PolicyRule]| {
        let patch = Patch::Merge(json!({ "rules": rules }));
        Api::<ClusterRole>::all(world.admin()).patch("policy-baseline", &PatchParams::default(), &patch).await.unwrap();
    };
    set_rules(&narrowed).await;
    let client = crate::scene::client_of(&world.operator_kubeconfig().await.unwrap()).await;
    let resource = "validatingwebhookconfigurations";
    let may_not = async || {
        let may = crate::scene::can_i(&client, "watch", "admissionregistration.k8s.io", resource, None).await;
        may.map(|may| !may)
    };
    world.eventually("it may not list webhooks", TIMEOUT, may_not).await.unwrap();
    apply_baseline(&world, PLATFORM, &json!({})).await;
    world.start_operator().await.unwrap();
    let ns = world.namespace("team", &[]).await.unwrap();
    until_holds(&world, &ns, &Plan::of(PLATFORM)).await;
    let is_told = |status: &PolicyBaselineStatus| condition(status, "ControlPlaneCoverage").status == "False";
    let status = until_status(&world, PLATFORM, "it is said", is_told).await;
    let coverage = condition(&status, "ControlPlaneCoverage");
    assert_eq!(coverage.reason, "NotListed");
    assert!(
        coverage.message.starts_with(&format!("{resource}, mutatingwebhookconfigurations could not")),
        "{}",
        coverage.message
    );
    assert_eq!(condition(&until_ready(&world, PLATFORM).await, "Ready").reason, "ExistingNamespacesOnlyReported");

    create_services(&world, &ns, &["webhook"]).await;
    world.apply_yaml(&validating("late", &ns)).await.unwrap();
    let patch = Patch::Merge(json!({ "rules": shipped }));
    Api::<ClusterRole>::all(world.admin()).patch("policy-baseline", &PatchParams::default(), &patch).await.unwrap();
    until_told(&world, &ns, "ControlPlaneBlocked").await;
    // Each kind is listed by itself.
    until_status(&world, PLATFORM, "every kind is listed", |status| !is_told(status)).await;
}
