//! What exists already: the namespace, objects of another release, and an install by kustomize.

use k8s_openapi::api::core::v1::Namespace;
use kube::ResourceExt;
use kube::api::Api;
use policy_baseline_e2e::{SYSTEM_NAMESPACE, World};
use serde_json::json;

use super::{CHART, RELEASE, helm, refused};
use crate::repair::PLATFORM;
use crate::scene::{Plan, apply_baseline, baselines, until_holds};
use crate::support::{namespaces, stored, versions};

const INSTANCE: &str = "policybaseline.io/instance";
const LABEL: &str = "kubectl label namespace ";
const IN_NAMESPACE: [&str; 2] = ["--namespace", SYSTEM_NAMESPACE];

fn label(namespace: &Namespace, key: &str) -> Option<String> {
    namespace.labels().get(key).cloned()
}

#[tokio::test]
async fn with_the_namespace_in_the_chart_it_gets_its_labels_and_outlives_the_release() {
    let world = World::empty().await.unwrap();
    if world.plane().is_external() {
        return;
    }
    let with_namespace = [&[CHART, "--set=namespace.create=true"], &IN_NAMESPACE[..]].concat();
    let said = helm(&world, &[&["install", RELEASE, "--create-namespace"], &with_namespace[..]].concat());
    assert!(said.contains("It writes no policies until a baseline exists"), "{said}");
    let shipped = namespaces(&world).get(SYSTEM_NAMESPACE).await.unwrap();
    assert_eq!(label(&shipped, INSTANCE).as_deref(), Some("true"));
    assert_eq!(label(&shipped, "pod-security.kubernetes.io/enforce").as_deref(), Some("restricted"));

    // The namespace belongs to the release, also for the next one of the same name.
    helm(&world, &[&["upgrade", RELEASE], &with_namespace[..]].concat());
    helm(&world, &[&["uninstall", RELEASE], &IN_NAMESPACE[..]].concat());
    let kept = namespaces(&world).get(SYSTEM_NAMESPACE).await.unwrap();
    assert_eq!((kept.uid(), kept.metadata.deletion_timestamp), (shipped.uid(), None));
    helm(&world, &[&["install", RELEASE], &with_namespace[..]].concat());
    // The notes name the label only if it is missing.
    assert!(!helm(&world, &[&["get", "notes", RELEASE], &IN_NAMESPACE[..]].concat()).contains(LABEL));
}

#[tokio::test]
async fn a_namespace_that_exists_gets_its_labels_by_the_command_of_the_notes_or_is_taken_over() {
    let world = World::empty().await.unwrap();
    if world.plane().is_external() {
        return;
    }
    world.plane().run_kubectl(&["create", "namespace", SYSTEM_NAMESPACE]).unwrap();
    let install = [&["install", RELEASE, CHART], &IN_NAMESPACE[..]].concat();
    let with_namespace = [&install[..], &["--set=namespace.create=true"]].concat();
    let said = refused(&world, &with_namespace);
    assert!(said.contains(SYSTEM_NAMESPACE) && said.contains("invalid ownership metadata"), "{said}");

    let said = helm(&world, &install);
    let command = said.lines().find_map(|line| line.trim().strip_prefix("kubectl ")).unwrap();
    assert!(format!("kubectl {command}").starts_with(LABEL), "{command}");
    world.plane().run_kubectl(&command.split(' ').collect::<Vec<_>>()).unwrap();
    assert_eq!(label(&namespaces(&world).get(SYSTEM_NAMESPACE).await.unwrap(), INSTANCE).as_deref(), Some("true"));

    helm(&world, &[&["uninstall", RELEASE], &IN_NAMESPACE[..]].concat());
    helm(&world, &[&with_namespace[..], &["--take-ownership"]].concat());
}

#[tokio::test]
async fn the_crds_of_a_former_release_belong_to_it_until_another_one_takes_them_over() {
    let world = World::empty().await.unwrap();
    if world.plane().is_external() {
        return;
    }
    helm(&world, &[&["install", RELEASE, CHART, "--create-namespace"], &IN_NAMESPACE[..]].concat());
    world.wait_for_crds().await.unwrap();
    apply_baseline(&world, PLATFORM, &json!({})).await;
    let before = baselines(&world).get(PLATFORM).await.unwrap();
    helm(&world, &[&["uninstall", RELEASE], &IN_NAMESPACE[..]].concat());

    let elsewhere = ["install", "another", CHART, "--namespace=another", "--create-namespace"];
    let said = refused(&world, &elsewhere);
    assert!(said.contains("policybaseline.io") && said.contains("invalid ownership metadata"), "{said}");
    helm(&world, &[&elsewhere[..], &["--take-ownership"]].concat());
    assert_eq!(baselines(&world).get(PLATFORM).await.unwrap(), before);
    // A second install beside it leaves the CRDs to the first, and has names of its own.
    let second = ["install", "second", CHART, "--namespace=second", "--create-namespace", "--set=name=second,crds.install=false"];
    helm(&world, &second);
    helm(&world, &["uninstall", "second", "--namespace=second"]);
    assert_eq!(baselines(&world).get(PLATFORM).await.unwrap(), before);
}

#[tokio::test]
async fn an_install_by_kustomize_becomes_a_release_while_the_operator_works() {
    let mut world = World::empty().await.unwrap();
    if world.plane().is_external() {
        return;
    }
    world.plane().run_kubectl(&["apply", "-k", "manifests/production"]).unwrap();
    world.wait_for_crds().await.unwrap();
    apply_baseline(&world, PLATFORM, &json!({})).await;
    world.start_operator().await.unwrap();
    let ns = world.namespace("team", &[]).await.unwrap();
    let before = until_holds(&world, &ns, &Plan::of(PLATFORM)).await;
    let values = ["--values=manifests/helm/values-production.yaml", "--set=namespace.create=true"];
    let take = ["install", RELEASE, CHART, "--take-ownership", "--server-side=true", "--force-conflicts"];
    helm(&world, &[&take, &values[..], &IN_NAMESPACE].concat());
    let next = world.namespace("next", &[]).await.unwrap();
    until_holds(&world, &next, &Plan::of(PLATFORM)).await;
    assert_eq!(versions(&stored(&world, &ns).await), versions(&before), "no policy is touched");
    let owner = Api::<Namespace>::all(world.admin()).get(SYSTEM_NAMESPACE).await.unwrap();
    assert_eq!(owner.annotations()["meta.helm.sh/release-name"], RELEASE);
}
