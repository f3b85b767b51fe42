//! label-hygiene: on a running pod, the labels that NetworkPolicies select by must not change. Everything else still works.
//! One file: the tests share their scene.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use http::Request;
use k8s_openapi::api::admissionregistration::v1::ValidatingAdmissionPolicy;
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{Api, DeleteParams, EvictParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt};
use policy_baseline_e2e::{Options, TIMEOUT, World};
use serde_json::{Value, json};

use super::{apply_patched, break_glass, choose, denied, deny_of_page, setting};
use crate::docs::page;
use crate::scene::{can_i, tenant};
use crate::support::{namespaces, until_gone};

pub const COMPONENT: &str = "label-hygiene";
const NAME: &str = "policy-baseline-label-hygiene";
/// The constants, each at its place in `spec.variables` of both policies.
const CONSTANTS: [&str; 2] = ["labels", "controllers"];
const MISTAKEN: &str =
    "a constant of label-hygiene is wrong, and until it is corrected, every change of labels fails this check: ";

fn pods_of(client: &Client, namespace: &str) -> Api<Pod> {
    Api::namespaced(client.clone(), namespace)
}

fn labels(labels: &Value) -> Patch<Value> {
    Patch::Merge(json!({ "metadata": { "labels": labels } }))
}

fn spec_of(labels: &Value) -> Value {
    json!({ "metadata": { "labels": labels }, "spec": { "containers": [
        { "name": "main", "image": "example.com/web:1", "resources": { "requests": { "cpu": "100m" } } }] } })
}

/// Creates a pod that is not bound to a node.
async fn pending(client: &Client, namespace: &str, name: &str, labels: &Value) -> Pod {
    let mut pod = spec_of(labels);
    pod["metadata"]["name"] = json!(name);
    pods_of(client, namespace).create(&PostParams::default(), &serde_json::from_value(pod).unwrap()).await.unwrap()
}

/// Creates a pod on a node, and sets its phase to Running as a kubelet does. `more` is merged into its metadata at creation.
pub async fn running(world: &World, namespace: &str, name: &str, labels: &Value, more: &Value) -> Pod {
    let mut pod = spec_of(labels);
    pod["metadata"]["name"] = json!(name);
    pod["spec"]["nodeName"] = json!("node-1");
    for (key, value) in more.as_object().into_iter().flatten() {
        pod["metadata"][key] = value.clone();
    }
    let api = pods_of(&world.admin(), namespace);
    api.create(&PostParams::default(), &serde_json::from_value(pod).unwrap()).await.unwrap();
    kubelet_says(world, namespace, name, "Running").await
}

async fn kubelet_says(world: &World, namespace: &str, name: &str, phase: &str) -> Pod {
    let status = Patch::Merge(json!({ "status": { "phase": phase } }));
    pods_of(&world.admin(), namespace).patch_status(name, &PatchParams::default(), &status).await.unwrap()
}

async fn bind(client: &Client, path: &str, binding: &Value) -> kube::Result<Value> {
    let request = Request::post(path).header("content-type", "application/json").body(binding.to_string().into_bytes());
    client.request(request.unwrap()).await
}

fn binding(name: &str, labels: &Value) -> Value {
    json!({ "apiVersion": "v1", "kind": "Binding", "metadata": { "name": name, "labels": labels },
        "target": { "apiVersion": "v1", "kind": "Node", "name": "node-1" } })
}

/// Runs kubectl as that user. Returns its stderr, which includes the warnings of the API server.
fn kubectl(world: &World, kubeconfig: &Path, args: &[&str]) -> String {
    let output = world.plane().kubectl().env("KUBECONFIG", kubeconfig).args(args).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{args:?}: {said}");
    said
}

/// Tries a forbidden change of a pod, and a forbidden Binding, both as a dry run. Returns the stderr of both.
async fn probed(world: &World) -> (String, String) {
    let pods = pods_of(&world.admin(), "default");
    if pods.get_opt("probe").await.unwrap().is_none() {
        pending(&world.admin(), "default", "probe", &json!({ "app": "web" })).await;
    }
    let file = world.plane().state_dir().join("probe.json");
    fs::write(&file, binding("probe", &json!({ "app": "db" })).to_string()).unwrap();
    let path = "/api/v1/namespaces/default/pods/probe/binding?dryRun=All";
    let said = |args: &[&str]| {
        let output = world.plane().kubectl().args(args).output().unwrap();
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    (
        said(&["label", "pod", "probe", "app=db", "--overwrite", "--dry-run=server"]),
        said(&["create", "--raw", path, "-f", file.to_str().unwrap()]),
    )
}

/// Installs the component as it is shipped: it warns.
async fn warning(world: &World) {
    choose(world, COMPONENT, async || {
        let (pods, bindings) = probed(world).await;
        pods.contains("Warning: ") && bindings.contains("Warning: ")
    })
    .await;
}

/// A patch that sets constants of both policies.
pub fn constants(constants: &[(&str, String)]) -> Value {
    setting("policy-baseline-label-hygiene-(pods|bindings)", &CONSTANTS, constants)
}

/// The patch of the page with which the component denies.
pub fn deny() -> Value {
    deny_of_page(COMPONENT)
}

/// Installs the component with the patch of the page: it denies.
async fn denying(world: &World) {
    apply_patched(world, COMPONENT, &[deny()]).unwrap();
    let is_in_force = async || {
        let (pods, bindings) = probed(world).await;
        pods.contains("denied request") && bindings.contains("denied request")
    };
    world.eventually("label-hygiene denies", TIMEOUT, is_in_force).await.unwrap();
}

/// Sets constants, each a list of texts.
fn set(world: &World, lists: &[(&str, &[&str])]) {
    let lists: Vec<_> = lists.iter().map(|&(name, texts)| (name, json!(texts).to_string())).collect();
    apply_patched(world, COMPONENT, &[deny(), constants(&lists)]).unwrap();
}

/// Whether the API server allows that change. A dry run: nothing is changed.
pub async fn passes(client: &Client, namespace: &str, name: &str, change: &Value) -> bool {
    let dry = PatchParams { dry_run: true, ..PatchParams::default() };
    match pods_of(client, namespace).patch(name, &dry, &labels(change)).await {
        Ok(_) => true,
        Err(kube::Error::Api(status)) if status.message.contains("denied request: ") => false,
        Err(other) => panic!("{other}"),
    }
}

/// The kubeconfig of somebody who may edit a namespace. These tests need kubectl, because kube's client shows no warnings.
async fn editor(world: &World, namespace: &str) -> PathBuf {
    let user = World::unique("editor");
    let role = json!({ "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "metadata": { "name": user, "namespace": namespace },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "edit" },
        "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user }] });
    world.apply_yaml(&role.to_string()).await.unwrap();
    let client = world.user(&user, &[]).await.unwrap();
    let may = async || can_i(&client, "patch", "", "pods", Some(namespace)).await;
    world.eventually("the editor may patch pods", TIMEOUT, may).await.unwrap();
    world.plane().user_kubeconfig(&user, &[]).unwrap()
}

/// A StatefulSet as the owner of a pod. No controller acts on it here.
async fn owner(world: &World, namespace: &str) -> Value {
    let set = json!({ "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": { "name": "web" },
        "spec": { "serviceName": "web", "selector": { "matchLabels": { "app": "web" } },
            "template": spec_of(&json!({ "app": "web" })) } });
    let api: Api<StatefulSet> = Api::namespaced(world.admin(), namespace);
    let set = api.create(&PostParams::default(), &serde_json::from_value(set).unwrap()).await.unwrap();
    json!([{ "apiVersion": "apps/v1", "kind": "StatefulSet", "name": "web", "uid": set.uid().unwrap(), "controller": true }])
}

const SEEN: &str = "pod web-0 may be running, and its labels decide which NetworkPolicies select it: app changes from web to db, \
    tier is taken off; change the template of its workload (StatefulSet web) instead, so that new pods are made";

#[tokio::test]
async fn label_hygiene_warns_whoever_relabels_a_running_pod_and_lets_the_change_pass() {
    let world = World::new().await.unwrap();
    warning(&world).await;
    let ns = world.namespace("team", &[]).await.unwrap();
    let owner = owner(&world, &ns).await;
    let first = json!({ "app": "web", "tier": "front", "track": "stable" });
    let more = json!({ "ownerReferences": owner });
    running(&world, &ns, "web-0", &first, &more).await;
    let audit = world.audit().unwrap();
    for who in [editor(&world, &ns).await, world.plane().admin_kubeconfig().to_owned()] {
        let label = |args: &[&str]| kubectl(&world, &who, &[&["-n", &ns, "label", "--overwrite", "pod", "web-0"], args].concat());
        let said = label(&["app=db", "tier-"]);
        assert!(said.starts_with("Warning: ") && said.contains(SEEN), "{said}");
        let now = pods_of(&world.admin(), &ns).get("web-0").await.unwrap();
        assert_eq!((now.labels()["app"].as_str(), now.labels().get("tier")), ("db", None));
        let said = label(&["app=web", "tier=front"]);
        assert!(said.contains("select it: app changes from db to web, tier is added as front; change the template"), "{said}");
        assert_eq!(label(&["track=canary", "seen=yes"]), "", "other labels");
        assert_eq!(label(&["app=web", "track=stable", "seen-"]), "", "the same value again");
    }
    let is_told = async || {
        let log = fs::read_to_string(audit.path()).unwrap();
        let entries = log.lines().filter(|line| line.contains("validation.policy.admission.k8s.io/validation_failure"));
        entries.filter(|line| line.contains("pod web-0 may be running") && line.contains(&format!("{NAME}-pods"))).count() == 4
    };
    world.eventually("the audit log tells each change of both, and no other", TIMEOUT, is_told).await.unwrap();
    let page = page("admission.md");
    assert!(page.contains(SEEN), "the docs show it");
}

#[tokio::test]
async fn label_hygiene_denies_by_the_patch_of_the_docs_to_tenants_and_to_cluster_admins() {
    let world = World::new().await.unwrap();
    denying(&world).await;
    let ns = world.namespace("team", &[]).await.unwrap();
    let policies: Api<ValidatingAdmissionPolicy> = Api::all(world.admin());
    let [pods, bindings] = ["pods", "bindings"].map(|of| format!("{NAME}-{of}"));
    let [pods, bindings] = [policies.get(&pods).await.unwrap(), policies.get(&bindings).await.unwrap()];
    let [pods, bindings] = [pods, bindings].map(|policy| policy.spec.unwrap().variables.unwrap()[..CONSTANTS.len()].to_vec());
    assert_eq!(pods, bindings, "one patch sets the constants of both");
    assert_eq!(pods.iter().map(|constant| constant.name.as_str()).collect::<Vec<_>>(), CONSTANTS);
    let listed: Vec<&str> = serde_json::from_str(&pods[0].expression).unwrap();
    assert!(listed.contains(&"monitoring.io/expose-metrics") && listed.contains(&"app.kubernetes.io/name"), "{listed:?}");
    let all: BTreeMap<&str, &str> = listed.iter().map(|&key| (key, "true")).collect();
    let page = page("admission.md");
    for key in &listed {
        assert!(page.contains(&format!("`{key}`")), "the docs name {key}");
    }
    running(&world, &ns, "full", &json!(all), &Value::Null).await;
    running(&world, &ns, "bare", &json!({ "track": "stable" }), &Value::Null).await;
    let tenant = tenant(&world, &[&ns]).await;
    // A tenant creates it with any labels.
    pending(&tenant, &ns, "waiting", &json!({ "app": "web", "monitoring.io/expose-metrics": "true" })).await;
    let bare = |what: &str| {
        format!(
            "pod bare may be running, and its labels decide which NetworkPolicies select it: {what}; \
             create the pod anew with these labels instead"
        )
    };
    for who in [tenant, world.admin()] {
        let pods = pods_of(&who, &ns);
        let patch = async |name: &str, change: Value| pods.patch(name, &PatchParams::default(), &labels(&change)).await;
        for &key in &listed {
            let added = denied(key, patch("bare", json!({ key: "true" })).await);
            assert_eq!(added, bare(&format!("{key} is added as true")));
            assert!(
                denied(key, patch("full", json!({ key: "false" })).await).contains(&format!("{key} changes from true to false;"))
            );
            assert!(denied(key, patch("full", json!({ key: null })).await).contains(&format!("{key} is taken off;")));
        }
        assert!(denied("all", patch("full", Value::Null).await).contains("app is taken off, component is taken off"));
        assert!(denied("pending", patch("waiting", json!({ "app": "db" })).await).contains("app changes from web to db"));
        let tier = json!([{ "op": "add", "path": "/metadata/labels/tier", "value": "db" }]);
        let tier = Patch::<Pod>::Json(serde_json::from_value(tier).unwrap());
        let by_json = pods.patch("bare", &PatchParams::default(), &tier).await;
        assert_eq!(denied("JSON patch", by_json), bare("tier is added as db"));
        let mut whole = pods.get("bare").await.unwrap();
        whole.labels_mut().insert("app".into(), "db".into());
        assert_eq!(denied("update", pods.replace("bare", &PostParams::default(), &whole).await), bare("app is added as db"));
        let applied = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "bare", "labels": { "team": "b" } } });
        let applied = pods.patch("bare", &PatchParams::apply("somebody"), &Patch::Apply(&applied)).await;
        assert_eq!(denied("apply", applied), bare("team is added as b"));
        // Together with a label that may change.
        assert_eq!(denied("both", patch("bare", json!({ "track": "x", "app": "" })).await), bare("app is added as "));
        patch("bare", json!({ "track": "canary", "seen": "yes" })).await.unwrap();
        patch("bare", json!({ "track": "stable", "seen": null })).await.unwrap();
    }
    let rescue = pods_of(&break_glass(&world).await, &ns);
    for (name, change) in
        [("bare", json!({ "app": "db" })), ("full", json!({ "app": null })), ("waiting", json!({ "app": "db" }))]
    {
        rescue.patch(name, &PatchParams::default(), &labels(&change)).await.unwrap();
    }
}

#[tokio::test]
async fn label_hygiene_watches_each_way_by_which_labels_travel_and_holds_up_none_by_which_they_do_not() {
    let world = World::new().await.unwrap();
    denying(&world).await;
    let ns = world.namespace("team", &[]).await.unwrap();
    let admin = world.admin();
    let resources = admin.list_core_api_resources("v1").await.unwrap().resources;
    let known: BTreeSet<&str> = resources.iter().filter_map(|resource| resource.name.strip_prefix("pods/")).collect();
    let ways =
        ["attach", "binding", "ephemeralcontainers", "eviction", "exec", "log", "portforward", "proxy", "resize", "status"];
    assert_eq!(known, ways.into(), "a new one may carry labels: try it here");

    let pods = pods_of(&admin, &ns);
    let params = PatchParams::default();
    running(&world, &ns, "web", &json!({ "app": "web" }), &Value::Null).await;
    let node = json!({ "apiVersion": "v1", "kind": "Node",
        "metadata": { "name": "node-1", "labels": { "topology.kubernetes.io/zone": "a" } } });
    world.apply_yaml(&node.to_string()).await.unwrap();
    let room = Patch::Merge(json!({ "status": { "allocatable": { "cpu": "4" }, "capacity": { "cpu": "4" } } }));
    Api::<Node>::all(admin.clone()).patch_status("node-1", &params, &room).await.unwrap();
    // The phase before the change counts.
    let status = Patch::Merge(json!({ "metadata": { "labels": { "app": "db" } }, "status": { "phase": "Failed" } }));
    assert!(denied("status", pods.patch_status("web", &params, &status).await).contains("app changes from web to db"));
    let helper = json!({ "metadata": { "labels": { "app": "db" } },
        "spec": { "ephemeralContainers": [{ "name": "debug", "image": "example.com/debug:1" }] } });
    let debugged = pods.patch_ephemeral_containers("web", &params, &Patch::Strategic(helper)).await.unwrap();
    assert_eq!(debugged.spec.as_ref().unwrap().ephemeral_containers.as_ref().unwrap().len(), 1);
    let larger = json!({ "metadata": { "labels": { "app": "db" } },
        "spec": { "containers": [{ "name": "main", "resources": { "requests": { "cpu": "200m" } } }] } });
    running(&world, &ns, "resized", &json!({ "app": "web" }), &Value::Null).await;
    let resize = async || {
        let resized = pods.patch_subresource("resize", "resized", &params, &Patch::Strategic(&larger)).await?;
        let requests = resized.spec.unwrap().containers.remove(0).resources.unwrap().requests.unwrap();
        Ok::<_, kube::Error>(requests["cpu"].0 == "200m")
    };
    world.eventually("the apiserver has read the node, and resizes", TIMEOUT, resize).await.unwrap();
    let mut eviction = json!({ "apiVersion": "policy/v1", "kind": "Eviction", "metadata": { "name": "web", "namespace": ns } });
    eviction["metadata"]["labels"] = json!({ "app": "db" });
    bind(&admin, &format!("/api/v1/namespaces/{ns}/pods/web/eviction"), &eviction).await.unwrap();
    pods.evict("resized", &EvictParams::default()).await.unwrap();
    for name in ["web", "resized"] {
        let evicted = pods.get(name).await.unwrap();
        assert!(evicted.metadata.deletion_timestamp.is_some());
        assert_eq!(evicted.labels()["app"], "web", "{name}");
    }

    for name in ["one", "two"] {
        pending(&admin, &ns, name, &json!({ "app": "web" })).await;
    }
    let [one, all] = ["/pods/one/binding", "/bindings"].map(|path| format!("/api/v1/namespaces/{ns}{path}"));
    let said = "would set labels that decide which NetworkPolicies select it: app; set them in the template of the pod instead";
    let relabelled = json!({ "app": "db", "free": "yes" });
    assert_eq!(
        denied("binding", bind(&admin, &one, &binding("one", &relabelled)).await),
        format!("the Binding of pod one {said}")
    );
    assert_eq!(
        denied("bindings", bind(&admin, &all, &binding("two", &relabelled)).await),
        format!("the Binding of pod two {said}")
    );
    // As schedulers send it. The API server adds the zone itself, and the zone is in the list.
    set(&world, &[("labels", &["app", "topology.kubernetes.io/zone"])]);
    let is_read = async || !passes(&admin, &ns, "one", &json!({ "topology.kubernetes.io/zone": "x" })).await;
    world.eventually("the list is read", TIMEOUT, is_read).await.unwrap();
    for (name, path, free) in [("one", &one, Value::Null), ("two", &all, json!({ "free": "yes" }))] {
        bind(&admin, path, &binding(name, &free)).await.unwrap();
        let bound = pods.get(name).await.unwrap();
        assert_eq!((bound.labels()["app"].as_str(), bound.spec.as_ref().unwrap().node_name.as_deref()), ("web", Some("node-1")));
    }
    let numbers = Cell::new(0);
    let has_zone = async || {
        let name = format!("placed-{}", numbers.replace(numbers.get() + 1));
        pending(&admin, &ns, &name, &json!({ "app": "web" })).await;
        let path = format!("/api/v1/namespaces/{ns}/pods/{name}/binding");
        bind(&admin, &path, &binding(&name, &Value::Null)).await?;
        Ok::<_, kube::Error>(pods.get(&name).await?.labels().contains_key("topology.kubernetes.io/zone"))
    };
    world.eventually("the apiserver has read the node, and adds its zone", TIMEOUT, has_zone).await.unwrap();
}

#[tokio::test]
async fn label_hygiene_leaves_alone_what_no_longer_runs() {
    let world = World::new().await.unwrap();
    denying(&world).await;
    let ns = world.namespace("team", &[]).await.unwrap();
    let tenant = tenant(&world, &[&ns]).await;
    let pods = pods_of(&tenant, &ns);
    let app = json!({ "app": "web" });
    let changed = json!({ "app": "db" });
    for phase in ["Succeeded", "Failed"] {
        let name = phase.to_lowercase();
        running(&world, &ns, &name, &app, &Value::Null).await;
        assert!(!passes(&tenant, &ns, &name, &changed).await, "{phase}");
        kubelet_says(&world, &ns, &name, phase).await;
        pods.patch(&name, &PatchParams::default(), &labels(&changed)).await.unwrap();
    }
    // A tenant may set a grace period of an hour, and the pod still runs during it.
    running(&world, &ns, "slow", &app, &json!({ "finalizers": ["example.com/held"] })).await;
    pods.delete("slow", &DeleteParams { grace_period_seconds: Some(3_600), ..DeleteParams::default() }).await.unwrap();
    let said = denied("in its grace period", pods.patch("slow", &PatchParams::default(), &labels(&changed)).await);
    assert!(said.contains("app changes from web to db"), "{said}");
    // The kubelet has stopped the pod. Only a finalizer still keeps the object.
    let at_once = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
    pods.delete("slow", &at_once).await.unwrap();
    pods.patch("slow", &PatchParams::default(), &labels(&changed)).await.unwrap();
    let released = Patch::Merge(json!({ "metadata": { "finalizers": null } }));
    pods.patch("slow", &PatchParams::default(), &released).await.unwrap();
    assert!(pods.get_opt("slow").await.unwrap().is_none());
    // No kubelet runs a pod that has this annotation.
    let mirror = json!({ "annotations": { "kubernetes.io/config.mirror": "0123456789abcdef" } });
    running(&world, &ns, "mirror", &app, &mirror).await;
    pods.patch("mirror", &PatchParams::default(), &labels(&changed)).await.unwrap();
}

#[tokio::test]
async fn label_hygiene_is_in_the_way_of_no_kubelet_no_finalizer_no_collector_and_no_end_of_a_namespace() {
    let world = World::new().await.unwrap();
    denying(&world).await;
    let ns = world.namespace("team", &[]).await.unwrap();
    let admin = world.admin();
    let pods = pods_of(&admin, &ns);
    let owners = owner(&world, &ns).await;
    running(&world, &ns, "held", &json!({ "app": "web" }), &json!({ "finalizers": ["example.com/held"] })).await;
    running(&world, &ns, "owned", &json!({ "app": "web" }), &json!({ "ownerReferences": owners })).await;
    for change in [
        json!({ "metadata": { "finalizers": ["example.com/held", "example.com/more"] } }),
        json!({ "metadata": { "finalizers": ["example.com/held"] } }),
        json!({ "metadata": { "ownerReferences": owners } }),
        json!({ "metadata": { "ownerReferences": null } }),
        json!({ "metadata": { "annotations": { "example.com/seen": "yes" } } }),
        json!({ "spec": { "activeDeadlineSeconds": 600 } }),
    ] {
        pods.patch("held", &PatchParams::default(), &Patch::Merge(&change)).await.unwrap_or_else(|e| panic!("{change}: {e}"));
    }
    let status = json!({ "status": { "podIP": "10.0.0.7", "podIPs": [{ "ip": "10.0.0.7" }] } });
    pods.patch_status("held", &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
    let sets: Api<StatefulSet> = Api::namespaced(admin.clone(), &ns);
    sets.delete("web", &DeleteParams::background()).await.unwrap();
    let is_collected = async || pods.get("owned").await.map(|pod| pod.metadata.deletion_timestamp.is_some());
    world.eventually("the garbage collector deletes what was owned", TIMEOUT, is_collected).await.unwrap();

    namespaces(&world).delete(&ns, &DeleteParams::default()).await.unwrap();
    let is_deleted = async || pods.get("held").await.map(|pod| pod.metadata.deletion_timestamp.is_some());
    world.eventually("the namespace controller deletes the pod", TIMEOUT, is_deleted).await.unwrap();
    assert!(pods.get("held").await.unwrap().metadata.deletion_grace_period_seconds.is_some_and(|seconds| seconds > 0));
    // The controller of a finalizer may change labels while the pod is being deleted.
    let change = json!({ "metadata": { "labels": { "app": "released" }, "finalizers": null } });
    pods.patch("held", &PatchParams::default(), &Patch::Merge(change)).await.unwrap();
    let at_once = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
    for name in ["held", "owned"] {
        pods.delete(name, &at_once).await.unwrap();
    }
    until_gone(&world, &ns).await;
}

#[tokio::test]
async fn label_hygiene_tells_a_mistake_in_a_constant_to_whoever_changes_labels() {
    let world = World::new().await.unwrap();
    denying(&world).await;
    let no_key = |key: &str| {
        format!("labels names '{key}', which is no key of a label; write keys alone, as in [\"app\", \"app.kubernetes.io/name\"]")
    };
    let no_user = |name: &str| {
        format!("controllers names '{name}', which is no name of a user; write each name in full, in quotes of its own")
    };
    let many = "labels and controllers may have 50 entries each; leave the others out";
    let words: Vec<String> = (0..3_000).map(|number| format!("k{number}")).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let cases: [(&str, &[&str], String); 11] = [
        ("labels", &["app", "tier=db"], no_key("tier=db")),
        ("labels", &["app, tier"], no_key("app, tier")),
        ("labels", &["example.com/*", "app"], no_key("example.com/*")),
        ("labels", &["app", ""], no_key("")),
        ("labels", &[], "labels is empty, so nothing would be guarded; name keys of labels, or delete the component".into()),
        ("labels", &words[..51], many.into()),
        ("labels", &words[..], many.into()),
        ("controllers", &words[..51], many.into()),
        ("controllers", &["system:serviceaccount:*"], no_user("system:serviceaccount:*")),
        ("controllers", &["relabeler, other"], no_user("relabeler, other")),
        ("controllers", &[""], no_user("")),
    ];
    for (name, list, said) in cases {
        set(&world, &[(name, list)]);
        let says = format!("denied request: {MISTAKEN}{said}\n");
        let tells = async || {
            let (pods, bindings) = probed(&world).await;
            if pods.ends_with(&says) && bindings.ends_with(&says) { Ok(true) } else { Err(format!("{pods}{bindings}")) }
        };
        world.eventually(&says, TIMEOUT, tells).await.unwrap();
    }
    // As shipped, it warns.
    apply_patched(&world, COMPONENT, &[constants(&[("labels", "[]".to_owned())])]).unwrap();
    let warns = async || {
        let (pods, bindings) = probed(&world).await;
        [pods, bindings].iter().all(|said| said.starts_with("Warning: ") && said.contains("labels is empty"))
    };
    world.eventually("it warns of the mistake", TIMEOUT, warns).await.unwrap();
    // The longest lists that may be written are inside the cost limit: beyond it, nothing would be checked.
    set(&world, &[("labels", &[&words[..49], &["app"]].concat()), ("controllers", &words[..50])]);
    let denies = async || {
        let (pods, bindings) = probed(&world).await;
        pods.contains("app changes from web to db") && bindings.contains("decide which NetworkPolicies select it: app;")
    };
    world.eventually("50 entries each are checked", TIMEOUT, denies).await.unwrap();
}

#[tokio::test]
async fn label_hygiene_with_a_mistake_holds_up_nothing_but_changes_of_labels() {
    let world = World::new().await.unwrap();
    denying(&world).await;
    let ns = world.namespace("team", &[]).await.unwrap();
    let going = world.namespace("going", &[]).await.unwrap();
    let admin = world.admin();
    let pods = pods_of(&admin, &ns);
    let held = json!({ "finalizers": ["example.com/held"] });
    running(&world, &ns, "web", &json!({ "app": "web" }), &held).await;
    running(&world, &going, "web", &json!({ "app": "web" }), &held).await;
    pending(&admin, &ns, "waiting", &json!({ "app": "web" })).await;
    let named = world.user("relabeler", &["system:masters"]).await.unwrap();
    set(&world, &[("labels", &["app="]), ("controllers", &["relabeler"])]);
    let is_told = async || {
        let (pods, bindings) = probed(&world).await;
        pods.contains(MISTAKEN) && bindings.contains(MISTAKEN)
    };
    world.eventually("the mistake is told", TIMEOUT, is_told).await.unwrap();
    assert!(!passes(&admin, &ns, "web", &json!({ "other": "x" })).await, "every label");

    kubelet_says(&world, &ns, "web", "Running").await;
    let annotated = Patch::Merge(json!({ "metadata": { "annotations": { "example.com/seen": "yes" } } }));
    pods.patch("web", &PatchParams::default(), &annotated).await.unwrap();
    pods.patch("web", &PatchParams::default(), &labels(&json!({ "app": "web" }))).await.unwrap();
    pending(&admin, &ns, "new", &json!({ "app": "web" })).await;
    // As a scheduler sends it, and with what the API server adds.
    let path = format!("/api/v1/namespaces/{ns}/pods/waiting/binding");
    bind(&admin, &path, &binding("waiting", &json!({ "topology.kubernetes.io/zone": "a" }))).await.unwrap();
    let path = format!("/api/v1/namespaces/{ns}/pods/new/binding");
    bind(&admin, &path, &binding("new", &Value::Null)).await.unwrap();
    for exempt in [break_glass(&world).await, named] {
        let change = json!({ "app": World::unique("by") });
        pods_of(&exempt, &ns).patch("web", &PatchParams::default(), &labels(&change)).await.unwrap();
    }
    kubelet_says(&world, &ns, "new", "Succeeded").await;
    pods.patch("new", &PatchParams::default(), &labels(&json!({ "app": "done" }))).await.unwrap();
    pods.delete("web", &DeleteParams::default()).await.unwrap();
    pods.patch("web", &PatchParams::default(), &Patch::Merge(json!({ "metadata": { "finalizers": null } }))).await.unwrap();

    namespaces(&world).delete(&going, &DeleteParams::default()).await.unwrap();
    let pods = pods_of(&admin, &going);
    let change = json!({ "metadata": { "labels": { "app": "released" }, "finalizers": null } });
    let releases = async || pods.patch("web", &PatchParams::default(), &Patch::Merge(&change)).await.map(|_| true);
    world.eventually("the namespace is seen to go, and labels may change", TIMEOUT, releases).await.unwrap();
}

#[tokio::test]
async fn label_hygiene_lets_those_pass_whom_the_platform_names_in_full_and_nobody_else() {
    let world = World::new().await.unwrap();
    denying(&world).await;
    let ns = world.namespace("team", &[]).await.unwrap();
    running(&world, &ns, "web", &json!({ "app": "web" }), &Value::Null).await;
    let names = ["relabeler", "system:serviceaccount:databases:operator", "relabel", "relabeler-2", "operator"];
    let mut clients = Vec::new();
    for name in names {
        clients.push(world.user(name, &["system:masters"]).await.unwrap());
    }
    let change = json!({ "app": "db" });
    for (name, client) in names.iter().zip(&clients) {
        assert!(!passes(client, &ns, "web", &change).await, "{name}: nobody is named");
    }
    set(&world, &[("controllers", &["system:serviceaccount:databases:operator", "relabeler"])]);
    let is_read = async || passes(&clients[0], &ns, "web", &change).await;
    world.eventually("the names are read", TIMEOUT, is_read).await.unwrap();
    pending(&world.admin(), &ns, "waiting", &change).await;
    let path = format!("/api/v1/namespaces/{ns}/pods/waiting/binding?dryRun=All");
    for (number, (name, client)) in names.iter().zip(&clients).enumerate() {
        let is_named = number < 2;
        assert_eq!(passes(client, &ns, "web", &change).await, is_named, "{name}");
        let bound = bind(client, &path, &binding("waiting", &json!({ "app": "web" }))).await;
        assert_eq!(bound.is_ok(), is_named, "{name}: {bound:?}");
    }
    pods_of(&clients[1], &ns).patch("web", &PatchParams::default(), &labels(&change)).await.unwrap();
    assert!(!passes(&world.admin(), &ns, "web", &json!({ "app": "x" })).await);
}

/// With the real workload controllers, with one identity for each controller or one for all.
async fn workloads_roll_out_and_a_named_controller_repairs(options: Options, controller: &str) {
    let more_controllers = vec!["deployment-controller", "replicaset-controller", "statefulset-controller"];
    let world = World::on(Options { more_controllers, ..options }).await.unwrap();
    denying(&world).await;
    let own = "statefulset.kubernetes.io/pod-name";
    let listed = ["app", "tier", own];
    set(&world, &[("labels", &listed)]);
    let ns = world.namespace("team", &[]).await.unwrap();
    let tenant = tenant(&world, &[&ns]).await;
    let pods = pods_of(&tenant, &ns);
    let template = spec_of(&json!({ "app": "web", "tier": "front" }));
    let deployment = json!({ "metadata": { "name": "web" }, "spec": { "replicas": 2, "template": template,
        "selector": { "matchLabels": { "app": "web" } }, "strategy": { "rollingUpdate": { "maxUnavailable": "100%" } } } });
    let deployments: Api<Deployment> = Api::namespaced(tenant.clone(), &ns);
    deployments.create(&PostParams::default(), &serde_json::from_value(deployment).unwrap()).await.unwrap();
    let all_of = async |tier: &str| {
        let listed = pods.list(&ListParams::default().labels("app=web")).await?.items;
        let of = listed.iter().filter(|pod| pod.labels()["tier"] == tier && pod.metadata.deletion_timestamp.is_none()).count();
        Ok::<_, kube::Error>(of == 2 && listed.len() == 2)
    };
    world.eventually("its pods are made", TIMEOUT, async || all_of("front").await).await.unwrap();
    let first = pods.list(&ListParams::default().labels("app=web")).await.unwrap().items[0].name_any();
    let is_read = async || !passes(&tenant, &ns, &first, &json!({ own: "x" })).await;
    world.eventually("the list is read", TIMEOUT, is_read).await.unwrap();
    let said = denied("pod", pods.patch(&first, &PatchParams::default(), &labels(&json!({ "tier": "back" }))).await);
    assert!(said.contains("tier changes from front to back; change the template of its workload (ReplicaSet web-"), "{said}");
    // Does what the message recommends.
    let change = Patch::Merge(json!({ "spec": { "template": { "metadata": { "labels": { "tier": "back" } } } } }));
    deployments.patch("web", &PatchParams::default(), &change).await.unwrap();
    world.eventually("it is rolled out anew", TIMEOUT, async || all_of("back").await).await.unwrap();

    let set_of = json!({ "metadata": { "name": "db" }, "spec": { "replicas": 1, "serviceName": "db", "podManagementPolicy": "Parallel",
        "selector": { "matchLabels": { "app": "db" } }, "template": spec_of(&json!({ "app": "db" })) } });
    let sets: Api<StatefulSet> = Api::namespaced(tenant.clone(), &ns);
    sets.create(&PostParams::default(), &serde_json::from_value(set_of).unwrap()).await.unwrap();
    let is_made = async || pods.get_opt("db-0").await.map(|pod| pod.is_some());
    world.eventually("db-0 is made", TIMEOUT, is_made).await.unwrap();
    let audit = world.audit().unwrap();
    let mark = audit.mark();
    let rescue = pods_of(&break_glass(&world).await, &ns);
    rescue.patch("db-0", &PatchParams::default(), &labels(&json!({ own: null }))).await.unwrap();
    let is_refused = async || {
        let entries = audit.since(mark)?;
        anyhow::Ok(entries.iter().any(|e| e.user == controller && e.name == "db-0" && e.verb == "update" && e.code == 403))
    };
    world.eventually("the controller is refused", TIMEOUT, is_refused).await.unwrap();
    assert!(!pods.get("db-0").await.unwrap().labels().contains_key(own));
    set(&world, &[("labels", &listed), ("controllers", &[controller])]);
    let is_repaired = async || Ok::<_, kube::Error>(pods.get("db-0").await?.labels().contains_key(own));
    world.eventually("the controller repairs its label", TIMEOUT, is_repaired).await.unwrap();
}

#[tokio::test]
async fn label_hygiene_lets_workloads_roll_out_and_a_named_controller_repair_where_each_has_a_name_of_its_own() {
    workloads_roll_out_and_a_named_controller_repairs(
        Options::default(),
        "system:serviceaccount:kube-system:statefulset-controller",
    )
    .await;
}

#[tokio::test]
async fn label_hygiene_lets_workloads_roll_out_and_a_named_controller_repair_where_all_have_one_name() {
    workloads_roll_out_and_a_named_controller_repairs(
        Options { shared_credentials: true, ..Options::default() },
        "system:kube-controller-manager",
    )
    .await;
}
