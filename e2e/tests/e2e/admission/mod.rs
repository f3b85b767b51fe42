//! The admission components: what they deny and to whom, and that they do not block anybody who keeps the cluster running.

use std::fmt::Debug;
use std::fs;

use anyhow::Result;
use k8s_openapi::api::admissionregistration::v1::ValidatingAdmissionPolicy;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::Client;
use kube::api::{Api, ListParams, PostParams};
use policy_baseline_e2e::{BREAK_GLASS, EVERYTHING, TEST_LABEL, TIMEOUT, World, repo};
use serde_json::{Value, json};

use crate::docs::page;
use crate::repair::PLATFORM;
use crate::samples::yaml_blocks;
use crate::scene::can_i;

mod constants;
mod grace;
mod label_hygiene;
mod no_gap;
mod no_gap_restart;
mod no_host_network;
pub mod operator_limits;
mod opt_out_rules;
pub mod protect;
mod protect_terminating;
mod required_labels;
mod sane_blocks;
mod sane_policies;
mod together;
mod warnings;
mod workloads;

/// The label on a namespace for which the operator has decided.
const DECIDED: &str = "policybaseline.io/decided";
const COMPONENTS: &str = "manifests/components";

/// Applies a component, and waits until it is in force. The API server takes a moment to read it.
async fn choose(world: &World, component: &str, is_in_force: impl AsyncFn() -> bool) {
    world.plane().run_kubectl(&["apply", "--server-side", "-k", &format!("{COMPONENTS}/{component}")]).unwrap();
    world.eventually(&format!("{component} is in force"), TIMEOUT, is_in_force).await.unwrap();
}

/// Writes a kustomization of a user: these components, with these patches. Returns its directory.
fn patched(world: &World, components: &[&str], patches: &[Value]) -> String {
    let dir = fs::canonicalize(world.plane().state_dir()).unwrap().join("own");
    fs::create_dir_all(&dir).unwrap();
    // A kustomization accepts only relative paths.
    let shipped = fs::canonicalize(repo().join(COMPONENTS)).unwrap();
    let shipped = "../".repeat(dir.components().count() - 1) + shipped.strip_prefix("/").unwrap().to_str().unwrap();
    let components: Vec<_> = components.iter().map(|component| format!("{shipped}/{component}")).collect();
    let content = json!({ "apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization",
        "components": components, "patches": patches });
    fs::write(dir.join("kustomization.yaml"), content.to_string()).unwrap();
    dir.into_os_string().into_string().unwrap()
}

/// A patch as on the page: it sets constants of the policies with such a name. Each constant has its name and its CEL.
fn setting(policies: &str, places: &[&str], constants: &[(&str, String)]) -> Value {
    let ops = constants.iter().flat_map(|(name, cel)| {
        let place = places.iter().position(|at| at == name).unwrap_or_else(|| panic!("{name} is no constant"));
        [
            json!({ "op": "test", "path": format!("/spec/variables/{place}/name"), "value": name }),
            json!({ "op": "replace", "path": format!("/spec/variables/{place}/expression"), "value": cel }),
        ]
    });
    let ops: Vec<Value> = ops.collect();
    json!({ "target": { "kind": "ValidatingAdmissionPolicy", "name": policies }, "patch": json!(ops).to_string() })
}

/// The patch of the page with which a component denies: that of its first kustomization.
fn deny_of_page(component: &str) -> Value {
    let page = page("admission.md");
    let is_it = |block: &String| block.contains("kind: Kustomization") && block.contains(&format!("components/{component}]"));
    let block = yaml_blocks(&page).into_iter().find(is_it).unwrap();
    let kustomization: Value = serde_yaml::from_str(&block).unwrap();
    let [patch] = kustomization["patches"].as_array().unwrap().as_slice() else { panic!("{block}") };
    patch.clone()
}

/// Applies a component with these patches, as users do.
fn apply_patched(world: &World, component: &str, patches: &[Value]) -> Result<String> {
    let dir = patched(world, &[component], patches);
    world.plane().run_kubectl(&["apply", "--server-side", "--force-conflicts", "-k", &dir])
}

/// The message of the component that denied a request. Panics if the request was not denied.
fn denied<T: Debug>(what: &str, result: kube::Result<T>) -> String {
    match result {
        Err(kube::Error::Api(status)) if status.message.contains("denied request: ") => {
            let (_, said) = status.message.split_once("denied request: ").unwrap();
            said.to_owned()
        }
        other => panic!("{what}: {other:?}"),
    }
}

/// A client of a member of the break-glass group who has all rights.
async fn break_glass(world: &World) -> Client {
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
        "metadata": { "name": "break-glass", "labels": { TEST_LABEL: "true" } },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin" },
        "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": BREAK_GLASS }],
    });
    world.apply_yaml(&binding.to_string()).await.unwrap();
    let rescue = world.user("rescue", &[BREAK_GLASS]).await.unwrap();
    let may = async || can_i(&rescue, "delete", "networking.k8s.io", "networkpolicies", None).await;
    world.eventually("who breaks the glass may do anything", TIMEOUT, may).await.unwrap();
    rescue
}

/// Creates policies with a baseline's label that the operator has not planned.
async fn create_fifty_of_ours(policies: &Api<NetworkPolicy>) {
    for number in 0..50 {
        let policy = json!({ "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "spec": { "podSelector": {} },
            "metadata": { "name": format!("ours-{number}"), "labels": { "policybaseline.io/baseline": PLATFORM } } });
        policies.create(&PostParams::default(), &serde_json::from_value(policy).unwrap()).await.unwrap();
    }
}

/// A patch that sets an owner that does not exist. The garbage collector then tries to delete the object.
fn owned_by_nothing() -> Value {
    json!({ "metadata": { "ownerReferences": [
        { "apiVersion": "v1", "kind": "ConfigMap", "name": "none", "uid": "0f9e8d7c-6b5a-4321-8765-00ffabcdef12" }] } })
}

#[tokio::test]
async fn the_type_check_of_every_policy_of_every_component_is_clean() {
    let world = World::new().await.unwrap();
    let installed = fs::read_to_string(repo().join(EVERYTHING).join("kustomization.yaml")).unwrap();
    let components: Vec<_> = fs::read_dir(repo().join(COMPONENTS)).unwrap().map(|c| c.unwrap().file_name()).collect();
    for component in &components {
        assert!(installed.contains(&format!("/components/{}\n", component.display())), "{component:?} is not in {EVERYTHING}");
    }
    world.plane().run_kubectl(&["apply", "--server-side", "--force-conflicts", "-k", EVERYTHING]).unwrap();
    let policies: Api<ValidatingAdmissionPolicy> = Api::all(world.admin());
    let checked = async || {
        let all = policies.list(&ListParams::default()).await?.items;
        let is_checked = |policy: &ValidatingAdmissionPolicy| {
            policy
                .status
                .as_ref()
                .is_some_and(|s| s.type_checking.is_some() && s.observed_generation == policy.metadata.generation)
        };
        anyhow::Ok((all.len() >= components.len() && all.iter().all(is_checked)).then_some(all))
    };
    for policy in world.eventually("each policy is checked", TIMEOUT, checked).await.unwrap() {
        let warnings = policy.status.unwrap().type_checking.unwrap().expression_warnings.unwrap_or_default();
        let name = policy.metadata.name.unwrap();
        assert_eq!(warnings, [], "{name}");
        // The API server would not start again the watch of a built-in kind that it has once stopped. That of a CRD it starts again.
        let kind = policy.spec.unwrap().param_kind.map(|kind| kind.api_version.unwrap_or_default());
        assert!(kind.is_none_or(|version| version.starts_with("policybaseline.io/")), "{name}");
    }
}

/// The kustomizations of the pages are next to `manifests/default`. A patch that matches nothing would go unnoticed.
#[tokio::test]
async fn every_kustomization_of_the_pages_can_be_built_and_its_patches_meet_something() {
    let world = World::bare().await.unwrap();
    let pages = ["admission.md", "monitoring.md"].map(page).concat();
    let build = |kustomization: &Value| {
        let dir = world.plane().state_dir().join("page");
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("kustomization.yaml"), kustomization.to_string()).unwrap();
        world.plane().run_kubectl(&["kustomize", dir.to_str().unwrap()]).unwrap_or_else(|e| panic!("{e:#}\n{kustomization}"))
    };
    let (mut examples, mut changes) = (0, 0);
    for block in yaml_blocks(&pages).into_iter().filter(|block| block.contains("kind: Kustomization")) {
        let mut kustomization: Value = serde_yaml::from_str(&block.replace("../", "../../../../manifests/")).unwrap();
        let patches = kustomization["patches"].take();
        kustomization.as_object_mut().unwrap().remove("patches");
        let plain = build(&kustomization);
        for patch in patches.as_array().into_iter().flatten() {
            kustomization["patches"] = json!([patch]);
            assert_ne!(build(&kustomization), plain, "it changes nothing: {patch}");
            changes += 1;
        }
        examples += 1;
    }
    assert!(examples >= 11 && changes >= 11, "{examples} {changes}");
}

/// The client of a node that may do everything.
async fn a_node(world: &World) -> Client {
    let rights = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
        "metadata": { "name": "nodes", "labels": { TEST_LABEL: "true" } },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin" },
        "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "system:nodes" }],
    });
    world.apply_yaml(&rights.to_string()).await.unwrap();
    let node = world.user("system:node:one", &["system:nodes"]).await.unwrap();
    let may = async || can_i(&node, "create", "", "pods", None).await;
    world.eventually("nodes may create pods", TIMEOUT, may).await.unwrap();
    node
}
