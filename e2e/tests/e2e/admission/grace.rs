//! label-hygiene: how long a pod may run after its deletion, whoever chooses that: the pod, the request that deletes it, or an eviction.

use http::Request;
use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::api::{Api, DeleteParams, ListParams, PostParams};
use policy_baseline_e2e::{TIMEOUT, World};
use serde_json::{Value, json};

use super::label_hygiene::{COMPONENT, deny};
use super::workloads::mirror_of;
use super::{a_node, apply_patched, break_glass, choose, denied, setting};
use crate::scene::tenant;
use crate::support::{namespaces, until_gone};

const POLICY: &str = "policy-baseline-label-hygiene-grace";
const YEAR: u32 = 31_536_000;

fn pods_of(client: &Client, namespace: &str) -> Api<Pod> {
    Api::namespaced(client.clone(), namespace)
}

fn pod(name: &str, grace: Option<u32>) -> Pod {
    let pod = json!({ "metadata": { "name": name }, "spec": { "terminationGracePeriodSeconds": grace, "nodeName": "node-1",
        "containers": [{ "name": "main", "image": "example.com/web:1" }] } });
    serde_json::from_value(pod).unwrap()
}

async fn create(pods: &Api<Pod>, name: &str, grace: Option<u32>) -> kube::Result<Pod> {
    pods.create(&PostParams::default(), &pod(name, grace)).await
}

/// By hand, because kube's client drops the options of an eviction.
async fn evict(client: &Client, namespace: &str, name: &str, seconds: u32) -> kube::Result<Value> {
    let eviction = json!({ "apiVersion": "policy/v1", "kind": "Eviction", "metadata": { "name": name, "namespace": namespace },
        "deleteOptions": { "gracePeriodSeconds": seconds } });
    let request = Request::post(format!("/api/v1/namespaces/{namespace}/pods/{name}/eviction"));
    client.request(request.header("content-type", "application/json").body(eviction.to_string().into_bytes()).unwrap()).await
}

fn after(seconds: u32) -> DeleteParams {
    DeleteParams::default().grace_period(seconds)
}

/// The component denies, with this limit if there is one. The limit of the component is an hour.
async fn bounded(world: &World, limit: Option<u32>) {
    let limit_patch = limit.map(|seconds| setting(POLICY, &["maxGracePeriod"], &[("maxGracePeriod", seconds.to_string())]));
    apply_patched(world, COMPONENT, &[Some(deny()), limit_patch].into_iter().flatten().collect::<Vec<_>>()).unwrap();
    let pods = pods_of(&world.admin(), "default");
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    let seconds = limit.unwrap_or(3_600);
    let is_in_force = async || {
        let longer = pods.create(&dry, &pod("probe", Some(seconds + 1))).await;
        longer.is_err_and(|err| err.to_string().contains(&format!("write at most {seconds} s as its grace period")))
    };
    world.eventually("the grace period is bounded", TIMEOUT, is_in_force).await.unwrap();
}

#[tokio::test]
async fn label_hygiene_bounds_the_time_that_a_pod_runs_after_its_deletion() {
    let world = World::new().await.unwrap();
    let ns = world.namespace("team", &[]).await.unwrap();
    create(&pods_of(&world.admin(), &ns), "before", Some(YEAR)).await.unwrap();
    bounded(&world, None).await;
    let tenant = tenant(&world, &[&ns]).await;
    let pods = pods_of(&tenant, &ns);
    let too_long =
        "the pod could run for 3601 s after its deletion, also without NetworkPolicies; write at most 3600 s as its grace period";
    for client in [&tenant, &world.admin()] {
        let who = pods_of(client, &ns);
        assert_eq!(denied("create", create(&who, "long", Some(3_601)).await), too_long);
        create(&who, "web", Some(3_600)).await.unwrap();
        create(&who, "usual", None).await.unwrap();
        assert_eq!(denied("delete", who.delete("web", &after(3_601)).await), too_long);
        assert_eq!(denied("delete all", who.delete_collection(&after(3_601), &ListParams::default()).await), too_long);
        assert_eq!(denied("evict", evict(client, &ns, "usual", 3_601).await), too_long);
        evict(client, &ns, "usual", 60).await.unwrap();
        who.delete("web", &after(3_600)).await.unwrap();
        for name in ["web", "usual"] {
            who.delete(name, &after(0)).await.unwrap();
        }
    }
    // A pod from before can be deleted, but not by a request that names such a time again.
    denied("again", pods.delete("before", &after(YEAR)).await);
    let rescue = pods_of(&break_glass(&world).await, &ns);
    create(&rescue, "rescue", Some(YEAR)).await.unwrap();
    rescue.delete("rescue", &after(YEAR)).await.unwrap();
    // The end of a namespace is not held up: the namespace controller names no time.
    namespaces(&world).delete(&ns, &DeleteParams::default()).await.unwrap();
    let is_deleted = async || rescue.get("before").await.map(|pod| pod.metadata.deletion_timestamp.is_some());
    world.eventually("the namespace controller deletes the pod", TIMEOUT, is_deleted).await.unwrap();
    for name in ["before", "rescue"] {
        pods.delete(name, &after(0)).await.unwrap();
    }
    until_gone(&world, &ns).await;
}

#[tokio::test]
async fn label_hygiene_bounds_the_grace_period_by_a_constant_and_leaves_mirror_pods_to_nodes() {
    let world = World::new().await.unwrap();
    let ns = world.namespace("team", &[]).await.unwrap();
    bounded(&world, Some(60)).await;
    let pods = pods_of(&world.admin(), &ns);
    let mirror = mirror_of(pod("static", Some(YEAR)));
    denied("forged", pods.create(&PostParams::default(), &mirror).await);
    let node = a_node(&world).await;
    pods_of(&node, &ns).create(&PostParams::default(), &mirror).await.unwrap();
    denied("no mirror", create(&pods_of(&node, &ns), "web", Some(61)).await);
    // A constant of another type is refused, and the one from before stays.
    for cel in ["\"60\"", "null", "60s", "duration('1m')"] {
        let patch = setting(POLICY, &["maxGracePeriod"], &[("maxGracePeriod", cel.to_owned())]);
        let said = format!("{:#}", apply_patched(&world, COMPONENT, &[deny(), patch]).unwrap_err());
        assert!(said.contains(" is invalid: "), "{cel}: {said}");
    }
    denied("as before", create(&pods, "web", Some(61)).await);
    create(&pods, "web", Some(60)).await.unwrap();
}

/// As it is shipped.
#[tokio::test]
async fn label_hygiene_warns_of_a_long_grace_period_and_lets_the_pod_pass() {
    let world = World::new().await.unwrap();
    let pod = serde_json::to_string(&pod("probe", Some(YEAR))).unwrap();
    let file = world.plane().state_dir().join("long.json");
    std::fs::write(&file, pod).unwrap();
    let told = "Warning: Validation failed for ValidatingAdmissionPolicy 'policy-baseline-label-hygiene-grace'";
    choose(&world, COMPONENT, async || {
        let output = world.plane().kubectl().args(["create", "--dry-run=server", "-f"]).arg(&file).output().unwrap();
        output.status.success() && String::from_utf8_lossy(&output.stderr).contains(told)
    })
    .await;
}
