//! The admission components: what they deny to whom, and that they are in the way of nobody who keeps the cluster going.

use std::fmt::Debug;
use std::fs;
use std::path::{Path, PathBuf};

use k8s_openapi::api::admissionregistration::v1::ValidatingAdmissionPolicy;
use kube::Client;
use kube::api::{Api, ListParams};
use policy_baseline_e2e::{TEST_LABEL, TIMEOUT, World};
use serde_json::json;

use crate::scene::can_i;

mod no_gap;
mod protect;

const COMPONENTS: &str = "manifests/components";
/// The operator with all of them.
const EVERYTHING: &str = "e2e/kustomize/everything";
const BREAK_GLASS: &str = "policybaseline.io:break-glass";

/// Applies a component, and waits until it is in force: the apiserver takes a moment to read it.
async fn choose(world: &World, component: &str, is_in_force: impl AsyncFn() -> bool) {
    world.plane().run_kubectl(&["apply", "--server-side", "-k", &format!("{COMPONENTS}/{component}")]).unwrap();
    world.eventually(&format!("{component} is in force"), TIMEOUT, is_in_force).await.unwrap();
}

/// Why something was not allowed, in the words of the component.
fn denied<T: Debug>(what: &str, result: kube::Result<T>) -> String {
    match result {
        Err(kube::Error::Api(status)) if status.message.contains("denied request: ") => {
            let (_, said) = status.message.split_once("denied request: ").unwrap();
            said.to_owned()
        }
        other => panic!("{what}: {other:?}"),
    }
}

/// Somebody of the break-glass group, who may do anything.
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

fn repo() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
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
        assert_eq!(warnings, [], "{}", policy.metadata.name.unwrap());
    }
}
