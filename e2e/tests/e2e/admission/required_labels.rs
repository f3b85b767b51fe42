//! required-labels: a pod has the labels by which the platform's NetworkPolicies select it, in the namespaces that a baseline closes.

use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::api::{Api, DeleteParams, ListParams};
use policy_baseline_e2e::{Options, TIMEOUT, World};
use serde_json::{Value, json};

use super::workloads::{dry, mirror_of, workloads};
use super::{a_node, apply_patched, break_glass, choose, denied, deny_of_page, setting, warnings};
use crate::repair::PLATFORM;
use crate::scene::{apply_baseline, tenant};
use crate::support::{a_second_later, namespaces};

pub const COMPONENT: &str = "required-labels";
const POLICIES: &str = "policy-baseline-required-labels-(pods|templates)";
const CONSTANTS: [&str; 2] = ["labels", "owner"];
/// Selected by the baseline of these tests, and closed by it.
const CLOSED: (&str, &str) = ("tier", "prod");

fn template(labels: &Value) -> Value {
    json!({ "metadata": { "labels": labels },
        "spec": { "restartPolicy": "Always", "containers": [{ "name": "main", "image": "example.com/web:1" }] } })
}

fn pod(name: &str, labels: &Value) -> Pod {
    let mut pod = template(labels);
    pod["metadata"]["name"] = json!(name);
    serde_json::from_value(pod).unwrap()
}

pub async fn create(client: &Client, ns: &str, labels: &Value) -> kube::Result<Pod> {
    Api::namespaced(client.clone(), ns).create(&dry(), &pod("web", labels)).await
}

pub fn constants(labels: &str, owner: &str) -> Value {
    setting(POLICIES, &CONSTANTS, &[("labels", labels.to_owned()), ("owner", json!(owner).to_string())])
}

/// The component denies a pod that lacks one of these labels, once it is in force in that namespace.
async fn requires(world: &World, ns: &str, labels: &str) {
    apply_patched(world, COMPONENT, &[deny_of_page(COMPONENT), constants(labels, "team-network, #ask-network")]).unwrap();
    let is_in_force =
        async || create(&world.admin(), ns, &json!({})).await.is_err_and(|err| err.to_string().contains("#ask-network"));
    world.eventually("labels are required", TIMEOUT, is_in_force).await.unwrap();
}

async fn baseline(world: &World, more: Value) {
    let mut spec = json!({ "namespaceSelector": { "matchLabels": { CLOSED.0: CLOSED.1 } } });
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    apply_baseline(world, PLATFORM, &spec).await;
    a_second_later(world).await;
}

#[tokio::test]
async fn required_labels_names_the_missing_label_and_the_owner_of_the_rule_where_a_baseline_closes_the_namespace() {
    let world = World::new().await.unwrap();
    baseline(&world, json!({ "excludeNamespaces": ["old-*"] })).await;
    let ns = world.namespace("team", &[CLOSED]).await.unwrap();
    requires(&world, &ns, r#"["app", "team"]"#).await;
    let tenant = tenant(&world, &[&ns]).await;
    for client in [&tenant, &world.admin()] {
        let said = denied("none", create(client, &ns, &json!({ "tier": "front" })).await);
        assert_eq!(
            said,
            "pod web lacks the labels app, team, by which NetworkPolicies select pods in namespaces of baseline platform; \
             add them to the template of the pod. This rule belongs to team-network, #ask-network"
        );
        let said = denied("one, and one that is empty", create(client, &ns, &json!({ "app": "web", "team": "" })).await);
        assert!(said.starts_with("pod web lacks the label team, by which"), "{said}");
        create(client, &ns, &json!({ "app": "web", "team": "a" })).await.unwrap();
    }
    create(&break_glass(&world).await, &ns, &json!({})).await.unwrap();
    let mirror = mirror_of(pod("static", &json!({})));
    let pods = |client: Client| Api::<Pod>::namespaced(client, &ns);
    denied("forged", pods(world.admin()).create(&dry(), &mirror).await);
    pods(a_node(&world).await).create(&dry(), &mirror).await.unwrap();

    // Nothing is required of whoever is selected by no baseline, is excluded, or is only reported or audited.
    let admin = world.admin();
    let open = world.namespace("open", &[("tier", "dev")]).await.unwrap();
    let excluded = world.namespace("old", &[CLOSED]).await.unwrap();
    for ns in ["default", "kube-system", &open, &excluded] {
        create(&admin, ns, &json!({})).await.unwrap_or_else(|err| panic!("{ns}: {err}"));
    }
    for audit in [json!({ "mode": "Audit" }), json!({ "suspend": true })] {
        baseline(&world, audit.clone()).await;
        let is_over = async || create(&admin, &ns, &json!({})).await.is_ok();
        world.eventually(&format!("{audit} requires nothing"), TIMEOUT, is_over).await.unwrap();
    }
}

#[tokio::test]
async fn required_labels_reads_each_kind_of_selector_as_the_operator_does() {
    let world = World::new().await.unwrap();
    let ns = world.namespace("team", &[CLOSED, ("zone", "eu")]).await.unwrap();
    let expression = |key: &str, operator: &str, values: Option<&[&str]>| {
        let mut expression = json!({ "key": key, "operator": operator });
        if let Some(values) = values {
            expression["values"] = json!(values);
        }
        json!({ "namespaceSelector": { "matchExpressions": [expression] } })
    };
    let existing = json!({ "existingNamespaces": "Enforce" });
    let cases = [
        (json!({}), true),
        (json!({ "namespaceSelector": { "matchLabels": { "tier": "dev" } } }), false),
        (json!({ "namespaceSelector": { "matchLabels": { "tier": "prod", "zone": "us" } } }), false),
        (expression("zone", "In", Some(&["us", "eu"])), true),
        (expression("zone", "In", Some(&["us"])), false),
        (expression("none", "In", Some(&["us"])), false),
        (expression("zone", "NotIn", Some(&["us"])), true),
        (expression("none", "NotIn", Some(&["us"])), true),
        (expression("zone", "NotIn", Some(&["eu"])), false),
        (expression("zone", "Exists", None), true),
        (expression("none", "Exists", None), false),
        (expression("none", "DoesNotExist", None), true),
        (expression("zone", "DoesNotExist", None), false),
        (json!({ "excludeNamespaces": [format!("{}*", &ns[..4])] }), false),
        (json!({ "excludeNamespaces": [&ns[..4]] }), true),
    ];
    apply_baseline(&world, PLATFORM, &existing).await;
    requires(&world, &ns, r#"["app"]"#).await;
    for (spec, closes) in cases {
        let mut all = existing.clone();
        all.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        apply_baseline(&world, PLATFORM, &all).await;
        let agrees = async || create(&world.admin(), &ns, &json!({})).await.is_err() == closes;
        world.eventually(&format!("{spec}: {closes}"), TIMEOUT, agrees).await.unwrap();
    }
    // Older than the baseline, and not claimed by it.
    apply_baseline(&world, PLATFORM, &json!({ "existingNamespaces": "Report" })).await;
    a_second_later(&world).await;
    let newer = world.namespace("new", &[]).await.unwrap();
    let only_newer = async || {
        create(&world.admin(), &ns, &json!({})).await.is_ok() && create(&world.admin(), &newer, &json!({})).await.is_err()
    };
    world.eventually("only the newer namespace is closed", TIMEOUT, only_newer).await.unwrap();
}

/// As it is shipped.
#[tokio::test]
async fn required_labels_warns_whoever_writes_the_template_of_a_workload() {
    let world = World::new().await.unwrap();
    baseline(&world, json!({})).await;
    let ns = world.namespace("team", &[CLOSED]).await.unwrap();
    let pod = serde_json::to_value(pod("web", &json!({}))).unwrap();
    let (admin, lacking) = (world.admin(), template(&json!({ "app": "web" })));
    choose(&world, COMPONENT, async || warnings::are_given(&admin, COMPONENT, &ns, &pod, &lacking).await).await;
    let tenant = tenant(&world, &[&ns]).await;
    for labels in [json!({ "app": "web" }), json!({ "app": "web", "app.kubernetes.io/name": "web" })] {
        let complete = labels.get("app.kubernetes.io/name").is_some();
        for (kind, path, object) in workloads(&ns, &template(&labels)) {
            let said = warnings::about(&tenant, COMPONENT, &path, &object).await;
            let expected = format!(
                "the template of {kind} web lacks the label app.kubernetes.io/name, by which NetworkPolicies select pods in namespaces \
                 of baseline platform; add them to the template. This rule belongs to your platform team"
            );
            assert_eq!(said, if complete { vec![] } else { vec![expected] }, "{kind}");
        }
    }
}

#[tokio::test]
async fn a_mistake_in_a_constant_of_required_labels_is_said_and_one_of_another_type_is_refused() {
    let world = World::new().await.unwrap();
    baseline(&world, json!({})).await;
    let ns = world.namespace("team", &[CLOSED]).await.unwrap();
    requires(&world, &ns, r#"["app"]"#).await;
    let full = json!({ "app": "web" });
    for (labels, owner, said) in [
        ("[]", "a", "labels is empty, so nothing would be required; name keys of labels, or delete the component"),
        (
            r#"["app", "team=a"]"#,
            "a",
            "labels names 'team=a', which is no key of a label; write keys alone, as in [\"app\", \"team\"]",
        ),
        (r#"["app"]"#, "", "owner has 0 characters; write whom a tenant can ask, in 1 to 200"),
    ] {
        apply_patched(&world, COMPONENT, &[deny_of_page(COMPONENT), constants(labels, owner)]).unwrap();
        let all =
            format!("a constant of required-labels is wrong, and until it is corrected, every pod fails this check: {said}");
        let is_said = async || create(&world.admin(), &ns, &full).await.is_err_and(|err| err.to_string().contains(&all));
        world.eventually(said, TIMEOUT, is_said).await.unwrap();
        create(&world.admin(), "default", &full).await.unwrap();
    }
    for labels in ["app", r#""app""#, "[1]", "null"] {
        let said =
            format!("{:#}", apply_patched(&world, COMPONENT, &[deny_of_page(COMPONENT), constants(labels, "a")]).unwrap_err());
        assert!(said.contains(" is invalid: "), "{labels}: {said}");
    }
}

/// With the controller that creates pods, with one identity for each controller or one for all.
async fn workloads_come_and_go(options: Options) {
    let more_controllers = vec!["deployment-controller", "replicaset-controller"];
    let world = World::on(Options { more_controllers, ..options }).await.unwrap();
    baseline(&world, json!({})).await;
    let ns = world.namespace("team", &[CLOSED]).await.unwrap();
    requires(&world, &ns, r#"["app"]"#).await;
    let tenant = tenant(&world, &[&ns]).await;
    for (name, labels, made) in [("with", json!({ "app": "web", "set": "with" }), 1), ("without", json!({ "set": "without" }), 0)]
    {
        let object = json!({ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": name, "namespace": ns }, "spec": {
            "selector": { "matchLabels": { "set": name } }, "template": template(&labels) } });
        world.apply_yaml(&object.to_string()).await.unwrap();
        let pods: Api<Pod> = Api::namespaced(tenant.clone(), &ns);
        let sets: Api<k8s_openapi::api::apps::v1::ReplicaSet> = Api::namespaced(tenant.clone(), &ns);
        let labelled = ListParams::default().labels(&format!("set={name}"));
        let is_settled = async || {
            let said = sets.list(&labelled).await?.items.into_iter().filter_map(|set| set.status?.conditions);
            let is_refused =
                said.flatten().any(|c| c.type_ == "ReplicaFailure" && c.message.unwrap_or_default().contains("#ask-network"));
            Ok::<_, kube::Error>(pods.list(&labelled).await?.items.len() == made && is_refused == (made == 0))
        };
        world.eventually(name, TIMEOUT, is_settled).await.unwrap();
    }
    // The end of a namespace is not held up.
    namespaces(&world).delete(&ns, &DeleteParams::default()).await.unwrap();
}

#[tokio::test]
async fn required_labels_tells_the_owner_of_a_workload_by_its_status_where_each_controller_has_a_name_of_its_own() {
    workloads_come_and_go(Options::default()).await;
}

#[tokio::test]
async fn required_labels_tells_the_owner_of_a_workload_by_its_status_where_all_controllers_have_one_name() {
    workloads_come_and_go(Options { shared_credentials: true, ..Options::default() }).await;
}
