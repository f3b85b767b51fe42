//! no-host-network: in the namespaces with a label, no pod uses a network that NetworkPolicies do not cover.

use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::api::{Api, ListParams, Patch, PatchParams, PostParams};
use policy_baseline_e2e::{Options, TIMEOUT, World};
use serde_json::{Value, json};

use super::workloads::{dry, mirror_of, workloads};
use super::{a_node, apply_patched, break_glass, choose, denied, deny_of_page, setting, warnings};
use crate::scene::tenant;

const COMPONENT: &str = "no-host-network";
const POLICIES: &str = "policy-baseline-no-host-network-(pods|templates)";
const LABEL: (&str, &str) = ("policybaseline.io/host-network", "forbidden");

fn container(ports: &Value) -> Value {
    json!({ "name": "main", "image": "example.com/web:1", "ports": ports })
}

fn pod(annotations: &Value, spec: &Value) -> Pod {
    let mut pod =
        json!({ "metadata": { "name": "web", "annotations": annotations }, "spec": { "containers": [container(&json!([]))] } });
    pod["spec"].as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    serde_json::from_value(pod).unwrap()
}

fn on_host() -> Pod {
    pod(&Value::Null, &json!({ "hostNetwork": true }))
}

async fn create(client: &Client, ns: &str, pod: &Pod) -> kube::Result<Pod> {
    Api::namespaced(client.clone(), ns).create(&dry(), pod).await
}

async fn denying(world: &World, ns: &str, accounts: &str) {
    let exempt = setting(POLICIES, &["serviceAccounts"], &[("serviceAccounts", accounts.to_owned())]);
    apply_patched(world, COMPONENT, &[deny_of_page(COMPONENT), exempt]).unwrap();
    let is_in_force =
        async || create(&world.admin(), ns, &on_host()).await.is_err_and(|err| err.to_string().contains("denied request"));
    world.eventually("no-host-network denies", TIMEOUT, is_in_force).await.unwrap();
}

#[tokio::test]
async fn no_host_network_refuses_what_no_network_policy_covers_in_the_namespaces_with_the_label() {
    let world = World::new().await.unwrap();
    let ns = world.namespace("team", &[LABEL]).await.unwrap();
    denying(&world, &ns, "[]").await;
    let tenant = tenant(&world, &[&ns]).await;
    let ports = |list: Value| json!({ "containers": [container(&list)] });
    let multus = json!({ "k8s.v1.cni.cncf.io/networks": "macvlan" });
    for (pod, uses) in [
        (on_host(), "hostNetwork"),
        (
            pod(&Value::Null, &json!({ "hostNetwork": true, "containers": [container(&json!([{ "containerPort": 80 }]))] })),
            "hostNetwork",
        ),
        (
            pod(
                &Value::Null,
                &ports(json!([{ "containerPort": 80, "hostPort": 8080 }, { "containerPort": 81, "hostPort": 8081 }])),
            ),
            "hostPort 8080, 8081",
        ),
        (
            pod(
                &Value::Null,
                &json!({ "initContainers": [{ "name": "init", "image": "example.com/init:1",
            "ports": [{ "containerPort": 1, "hostPort": 9 }] }] }),
            ),
            "hostPort 9",
        ),
        (
            pod(&multus, &json!({ "hostNetwork": true })),
            "hostNetwork and another network by the annotation k8s.v1.cni.cncf.io/networks",
        ),
    ] {
        for client in [&tenant, &world.admin()] {
            assert_eq!(
                denied(uses, create(client, &ns, &pod).await),
                format!(
                    "pod web uses {uses}, which no NetworkPolicy covers, and this is forbidden in namespace {ns}; \
                    leave it out, or ask your platform team to exempt ServiceAccount {ns}/default"
                )
            );
        }
        for other in ["default", "kube-system"] {
            create(&world.admin(), other, &pod).await.unwrap();
        }
    }
    create(&tenant, &ns, &pod(&Value::Null, &ports(json!([{ "containerPort": 80 }])))).await.unwrap();
    // A pod that waits for its node gets no further network either, and everything else of it may change.
    let mut waiting = pod(&Value::Null, &json!({ "schedulingGates": [{ "name": "example.com/later" }] }));
    waiting.metadata.name = Some("gated".to_owned());
    let pods: Api<Pod> = Api::namespaced(tenant.clone(), &ns);
    pods.create(&PostParams::default(), &waiting).await.unwrap();
    let patch = async |key: &str| {
        let patch = Patch::Merge(json!({ "metadata": { "annotations": { key: "macvlan" } } }));
        pods.patch("gated", &PatchParams::default(), &patch).await
    };
    for key in ["k8s.v1.cni.cncf.io/networks", "v1.multus-cni.io/default-network"] {
        let said = denied(key, patch(key).await);
        assert!(said.starts_with(&format!("pod gated uses another network by the annotation {key}, which no")), "{said}");
    }
    patch("example.com/note").await.unwrap();
    create(&break_glass(&world).await, &ns, &on_host()).await.unwrap();
    let mirror = mirror_of(on_host());
    denied("forged", create(&world.admin(), &ns, &mirror).await);
    create(&a_node(&world).await, &ns, &mirror).await.unwrap();
}

#[tokio::test]
async fn no_host_network_exempts_a_service_account_by_its_full_name_and_says_a_mistake() {
    let world = World::new().await.unwrap();
    let ns = world.namespace("team", &[LABEL]).await.unwrap();
    let other = world.namespace("other", &[LABEL]).await.unwrap();
    for ns in [&ns, &other] {
        let account =
            json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": "exporter", "namespace": ns } });
        world.apply_yaml(&account.to_string()).await.unwrap();
    }
    denying(&world, &ns, &json!([format!("{ns}/exporter")]).to_string()).await;
    let exporter = pod(&Value::Null, &json!({ "hostNetwork": true, "serviceAccountName": "exporter" }));
    let is_exempt = async || create(&world.admin(), &ns, &exporter).await.is_ok();
    world.eventually("the ServiceAccount is exempt", TIMEOUT, is_exempt).await.unwrap();
    denied("the same name in another namespace", create(&world.admin(), &other, &exporter).await);
    denied("another of the namespace", create(&world.admin(), &ns, &on_host()).await);

    let wrong = setting(POLICIES, &["serviceAccounts"], &[("serviceAccounts", r#"["exporter"]"#.to_owned())]);
    apply_patched(&world, COMPONENT, &[deny_of_page(COMPONENT), wrong]).unwrap();
    let said = "a constant of no-host-network is wrong: serviceAccounts names 'exporter'; write the namespace and the name, as in [\"monitoring/node-exporter\"]";
    let is_said = async || create(&world.admin(), &ns, &exporter).await.is_err_and(|err| err.to_string().contains(said));
    world.eventually(said, TIMEOUT, is_said).await.unwrap();
    create(&world.admin(), &ns, &pod(&Value::Null, &json!({}))).await.unwrap();
    for cel in ["exporter", r#""a/b""#, "[1]", "null"] {
        let wrong = setting(POLICIES, &["serviceAccounts"], &[("serviceAccounts", cel.to_owned())]);
        let said = format!("{:#}", apply_patched(&world, COMPONENT, &[deny_of_page(COMPONENT), wrong]).unwrap_err());
        assert!(said.contains(" is invalid: "), "{cel}: {said}");
    }
}

/// As it is shipped.
#[tokio::test]
async fn no_host_network_warns_whoever_writes_the_template_of_a_workload() {
    let world = World::new().await.unwrap();
    let ns = world.namespace("team", &[LABEL]).await.unwrap();
    let pod = serde_json::to_value(on_host()).unwrap();
    let template = json!({ "metadata": { "labels": { "app": "web" } },
        "spec": { "hostNetwork": true, "containers": [container(&json!([]))] } });
    let admin = world.admin();
    choose(&world, COMPONENT, async || warnings::are_given(&admin, COMPONENT, &ns, &pod, &template).await).await;
    let tenant = tenant(&world, &[&ns]).await;
    for (kind, path, object) in workloads(&ns, &template) {
        let said = warnings::about(&tenant, COMPONENT, &path, &object).await;
        let expected = format!(
            "the template of {kind} web uses hostNetwork, which no NetworkPolicy covers, and this is forbidden in namespace {ns}; \
             leave it out, or ask your platform team to exempt ServiceAccount {ns}/default"
        );
        assert_eq!(said, [expected], "{kind}");
    }
}

/// The pods of a DaemonSet are made by a controller, so the ServiceAccount of the pod counts, and not the user of the request.
async fn a_daemon_set_runs_by_its_service_account(options: Options) {
    let more_controllers = vec!["replicaset-controller"];
    let world = World::on(Options { more_controllers, ..options }).await.unwrap();
    let ns = world.namespace("team", &[LABEL]).await.unwrap();
    let account = json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": "exporter", "namespace": ns } });
    world.apply_yaml(&account.to_string()).await.unwrap();
    denying(&world, &ns, &json!([format!("{ns}/exporter")]).to_string()).await;
    for (name, account, made) in [("yes", "exporter", 1), ("no", "default", 0)] {
        let set = json!({ "apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": { "name": name, "namespace": ns }, "spec": {
            "selector": { "matchLabels": { "set": name } }, "template": { "metadata": { "labels": { "set": name } },
            "spec": { "hostNetwork": true, "serviceAccountName": account, "containers": [container(&json!([]))] } } } });
        world.apply_yaml(&set.to_string()).await.unwrap();
        let pods: Api<Pod> = Api::namespaced(world.admin(), &ns);
        let sets: Api<k8s_openapi::api::apps::v1::ReplicaSet> = Api::namespaced(world.admin(), &ns);
        let is_settled = async || {
            let conditions = sets.get(name).await?.status.and_then(|s| s.conditions).unwrap_or_default();
            let is_refused =
                conditions.iter().any(|c| c.message.as_deref().unwrap_or_default().contains("which no NetworkPolicy covers"));
            let count = pods.list(&ListParams::default().labels(&format!("set={name}"))).await?.items.len();
            Ok::<_, kube::Error>(count == made && is_refused == (made == 0))
        };
        world.eventually(name, TIMEOUT, is_settled).await.unwrap();
    }
}

#[tokio::test]
async fn no_host_network_lets_the_pods_of_an_exempt_service_account_run_where_each_controller_has_a_name_of_its_own() {
    a_daemon_set_runs_by_its_service_account(Options::default()).await;
}

#[tokio::test]
async fn no_host_network_lets_the_pods_of_an_exempt_service_account_run_where_all_controllers_have_one_name() {
    a_daemon_set_runs_by_its_service_account(Options { shared_credentials: true, ..Options::default() }).await;
}
