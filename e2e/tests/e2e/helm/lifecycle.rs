//! The life of a release: install, upgrade, rollback, uninstall, and again. The operator works with what the chart installed, and no step touches
//! policies, baselines or opt-outs.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::fs;
use std::path::Path;

use k8s_openapi::api::admissionregistration::v1::ValidatingAdmissionPolicy;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, ListParams};
use kube::{Resource, ResourceExt};
use policy_baseline_e2e::{SYSTEM_NAMESPACE, TIMEOUT, World, repo};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{CHART, KEEP, RELEASE, helm};
use crate::crd_rollback::{FIELDS, LACKS, make_older};
use crate::list_managed::succeeds;
use crate::opt_outs::{create, opt_out, opt_outs, seconds_from_now, until_says};
use crate::repair::PLATFORM;
use crate::scene::{Plan, apply_baseline, baselines, until_holds, until_only, until_ready};
use crate::support::{TEAM, stored, team, versions};

const CRD: &str = "policybaselines.policybaseline.io";
const IN_NAMESPACE: [&str; 2] = ["--namespace", SYSTEM_NAMESPACE];
const PRODUCTION: &str = "--values=manifests/helm/values-production.yaml";
/// The version of the older chart.
const OLDER: &str = "0.0.9";

/// A copy of the chart as an older version: its CRD lacks two fields, and it has one permission less.
fn older_chart(world: &World) -> String {
    let dir = world.plane().state_dir().join("older");
    copy(&repo().join(CHART), &dir);
    let edit = |file: &str, change: &dyn Fn(String) -> String| {
        let path = dir.join(file);
        let text = fs::read_to_string(&path).unwrap();
        let changed = change(text.clone());
        assert_ne!(changed, text, "{file}");
        fs::write(path, changed).unwrap();
    };
    edit("Chart.yaml", &|text| text.replace(env!("CARGO_PKG_VERSION"), OLDER));
    edit("templates/rbac.yaml", &|text| text.replace("verbs: [list, watch, patch]", "verbs: [list, watch]"));
    edit(&format!("templates/crds/{CRD}.yaml"), &|text| {
        let (actions, yaml): (Vec<&str>, Vec<&str>) = text.lines().partition(|line| line.starts_with("{{"));
        let mut crd: Value = serde_yaml::from_str(&yaml.join("\n")).unwrap();
        make_older(&mut crd);
        format!("{}\n{}{}\n", actions[1], serde_yaml::to_string(&crd).unwrap(), actions[2])
    });
    dir.into_os_string().into_string().unwrap()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        if entry.path().is_dir() {
            copy(&entry.path(), &to.join(entry.file_name()));
        } else {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

/// Whether the CRD has the fields that the older chart lacks.
async fn has_fields(world: &World) -> bool {
    let crd = Api::<CustomResourceDefinition>::all(world.admin()).get(CRD).await.unwrap();
    let schema = crd.spec.versions[0].schema.as_ref().unwrap().open_api_v3_schema.as_ref().unwrap();
    let spec = &schema.properties.as_ref().unwrap()["spec"];
    FIELDS.iter().all(|field| spec.properties.as_ref().unwrap().contains_key(*field))
}

/// Waits until the API server serves baselines with these fields, or without.
async fn until_served(world: &World, fields: bool) {
    let is_served = async || {
        let baseline = baselines(world).get(PLATFORM).await?;
        Ok::<_, kube::Error>(baseline.data["spec"]["namespaceSelector"].is_object() == fields)
    };
    world.eventually(&format!("the fields are served: {fields}"), TIMEOUT, is_served).await.unwrap();
}

/// The revision, the version of the chart and the state of each revision of the release.
fn history(world: &World) -> Vec<(u64, String, String)> {
    let arguments = [&["history", RELEASE, "--output=json"], &IN_NAMESPACE[..]].concat();
    let said = helm(world, &arguments);
    let all = Vec::<Value>::deserialize(serde_json::from_str::<Value>(said.trim()).unwrap()).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    all.iter().map(|one| (one["revision"].as_u64().unwrap(), text(&one["chart"]), text(&one["status"]))).collect()
}

fn revision(world: &World, args: &[&str]) -> (u64, String, String) {
    helm(world, &[args, &IN_NAMESPACE].concat());
    history(world).pop().unwrap()
}

/// What must not change: uid and resourceVersion of the policies of a namespace.
async fn untouched(world: &World, namespace: &str, before: &BTreeMap<String, (String, String)>, what: &str) {
    assert_eq!(owned(&versions(&stored(world, namespace).await)), *before, "{what} touches no policy");
}

fn owned(versions: &BTreeMap<&str, (String, String)>) -> BTreeMap<String, (String, String)> {
    versions.iter().map(|(name, version)| ((*name).to_owned(), version.clone())).collect()
}

async fn replicas(world: &World) -> Option<i32> {
    let deployments: Api<Deployment> = Api::namespaced(world.admin(), SYSTEM_NAMESPACE);
    deployments.get(RELEASE).await.unwrap().spec.unwrap().replicas
}

/// A new namespace gets its policies: the operator works.
async fn closes_a_namespace(world: &World) {
    let ns = world.namespace("next", &[(TEAM, "a")]).await.unwrap();
    until_holds(world, &ns, &Plan::of(PLATFORM).dns_port(5353)).await;
}

#[tokio::test]
async fn i10_a_release_is_installed_upgraded_rolled_back_and_uninstalled_and_no_policy_changes() {
    let mut world = World::empty().await.unwrap();
    if world.plane().is_external() {
        return;
    }
    let chart_name = |version: &str| format!("policy-baseline-{version}");
    let now = chart_name(env!("CARGO_PKG_VERSION"));
    let older = older_chart(&world);
    let first = revision(&world, &["install", RELEASE, &older, "--create-namespace"]);
    assert_eq!(first, (1, chart_name(OLDER), "deployed".to_owned()));
    world.wait_for_crds().await.unwrap();
    assert!(!has_fields(&world).await);

    // The upgrade brings the CRD and the permissions.
    assert_eq!(revision(&world, &["upgrade", RELEASE, CHART]), (2, now.clone(), "deployed".to_owned()));
    assert!(has_fields(&world).await);
    world.wait_for_crds().await.unwrap();
    world.start_operator().await.unwrap();
    let spec = json!({ "namespaceSelector": team("a"), "dns": { "ports": [5353] }, "deletionPolicy": "Delete" });
    apply_baseline(&world, PLATFORM, &spec).await;
    let ns = world.namespace("team", &[(TEAM, "a")]).await.unwrap();
    let opened = world.namespace("opened", &[(TEAM, "a")]).await.unwrap();
    create(&world, &opened, &opt_out("partner", &["DefaultDenyEgress"], seconds_from_now(7_200))).await;
    until_says(&world, &opened, "partner", "True WithinLimits").await;
    let before = owned(&versions(&until_holds(&world, &ns, &Plan::of(PLATFORM).dns_port(5353)).await));
    until_ready(&world, PLATFORM).await;

    // Other values, and back. The operator works meanwhile.
    assert_eq!(revision(&world, &["upgrade", RELEASE, CHART, "--set=replicas=3"]).0, 3);
    assert_eq!(replicas(&world).await, Some(3));
    closes_a_namespace(&world).await;
    assert_eq!(revision(&world, &["rollback", RELEASE, "2"]), (4, now.clone(), "deployed".to_owned()));
    assert_eq!(replicas(&world).await, Some(2));
    closes_a_namespace(&world).await;
    untouched(&world, &ns, &before, "an upgrade and its rollback").await;

    // The rollback to the older chart takes the older CRD back. Nothing is lost, and the operator changes nothing until the fields are there again.
    assert_eq!(revision(&world, &["rollback", RELEASE, "1"]), (5, chart_name(OLDER), "deployed".to_owned()));
    until_served(&world, false).await;
    let says = async || world.operator().unwrap().log().contains(LACKS);
    world.eventually("the operator says which fields are missing", TIMEOUT, says).await.unwrap();
    untouched(&world, &ns, &before, "a rollback of the CRD").await;
    assert_eq!(revision(&world, &["upgrade", RELEASE, CHART]), (6, now, "deployed".to_owned()));
    until_served(&world, true).await;
    closes_a_namespace(&world).await;
    untouched(&world, &ns, &before, "an upgrade of the CRD").await;

    // Each revision is a Secret with the chart and all manifests. A Secret holds 1 MiB.
    let secrets: Api<Secret> = Api::namespaced(world.admin(), SYSTEM_NAMESPACE);
    for secret in secrets.list(&ListParams::default().labels("owner=helm")).await.unwrap() {
        let size: usize = secret.data.unwrap().values().map(|bytes| bytes.0.len()).sum();
        println!("a revision takes {size} bytes");
        assert!(size < 512 * 1024, "a revision takes {size} bytes");
    }

    // The uninstall keeps the CRDs, so it keeps the baselines and the opt-outs, and waits for no finalizer.
    until_ready(&world, PLATFORM).await;
    assert_eq!(world.stop_operator().unwrap(), 0);
    let baseline = baselines(&world).get(PLATFORM).await.unwrap();
    let exception = opt_outs(&world.admin(), &opened).get("partner").await.unwrap();
    let said = helm(&world, &[&["uninstall", RELEASE], &IN_NAMESPACE[..]].concat());
    assert!(said.contains("kept due to the resource policy") && said.contains(CRD), "{said}");
    assert_eq!(baselines(&world).get(PLATFORM).await.unwrap(), baseline);
    assert_eq!(opt_outs(&world.admin(), &opened).get("partner").await.unwrap(), exception);
    untouched(&world, &ns, &before, "an uninstall").await;
    assert_eq!(left(&world).await, Vec::<String>::new(), "everything else is gone");
    let leases: Api<Lease> = Api::namespaced(world.admin(), SYSTEM_NAMESPACE);
    assert!(leases.get_opt("policy-baseline").await.unwrap().is_some(), "what the operator wrote stays");

    // Installed again, it continues where it was.
    helm(&world, &[&["install", RELEASE, CHART], &IN_NAMESPACE[..]].concat());
    world.start_operator().await.unwrap();
    closes_a_namespace(&world).await;
    until_ready(&world, PLATFORM).await;
    untouched(&world, &ns, &before, "an uninstall and a new install").await;
    let uid = baselines(&world).get(PLATFORM).await.unwrap().uid();
    assert_eq!(uid, baseline.uid());
}

/// What the chart installs beside the CRDs and is still there.
async fn left(world: &World) -> Vec<String> {
    let all = [
        ours::<Deployment>(world).await,
        ours::<ServiceAccount>(world).await,
        ours::<ClusterRole>(world).await,
        ours::<ClusterRoleBinding>(world).await,
        ours::<Role>(world).await,
    ];
    all.concat()
}

/// The names of the objects of a kind that have the label of the chart.
async fn ours<K>(world: &World) -> Vec<String>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let labelled = ListParams::default().labels("app.kubernetes.io/name=policy-baseline");
    Api::<K>::all(world.admin()).list(&labelled).await.unwrap().iter().map(ResourceExt::name_any).collect()
}

#[tokio::test]
async fn a_release_that_gives_the_crds_away_keeps_them_too() {
    let world = World::empty().await.unwrap();
    if world.plane().is_external() {
        return;
    }
    let install = ["install", RELEASE, CHART, "--create-namespace"];
    helm(&world, &[&install, &IN_NAMESPACE[..]].concat());
    world.wait_for_crds().await.unwrap();
    apply_baseline(&world, PLATFORM, &json!({})).await;
    let before = baselines(&world).get(PLATFORM).await.unwrap();
    helm(&world, &[&["upgrade", RELEASE, CHART, "--set=crds.install=false"], &IN_NAMESPACE[..]].concat());
    let crd = Api::<CustomResourceDefinition>::all(world.admin()).get(CRD).await.unwrap();
    assert_eq!(crd.annotations()[KEEP], "keep");
    assert_eq!(baselines(&world).get(PLATFORM).await.unwrap(), before);
    helm(&world, &[&["uninstall", RELEASE], &IN_NAMESPACE[..]].concat());
    assert_eq!(baselines(&world).get(PLATFORM).await.unwrap(), before);
}

#[tokio::test]
async fn an_upgrade_without_values_keeps_those_of_the_release_and_one_with_values_has_only_these() {
    let world = World::empty().await.unwrap();
    if world.plane().is_external() {
        return;
    }
    revision(&world, &["install", RELEASE, CHART, "--create-namespace", "--set=replicas=3"]);
    for (more, expected) in [(&[][..], 3), (&["--set=priorityClassName=other"], 2)] {
        revision(&world, &[&["upgrade", RELEASE, CHART], more].concat());
        assert_eq!(replicas(&world).await, Some(expected), "{more:?}");
    }
}

/// The order of docs/uninstall.md, with Helm as the last step. The command deletes the objects of the components, which Helm then misses.
#[tokio::test]
async fn the_uninstall_command_and_then_helm_leave_no_policy_and_no_component() {
    let mut world = World::empty().await.unwrap();
    if world.plane().is_external() {
        return;
    }
    helm(&world, &[&["install", RELEASE, CHART, "--create-namespace", PRODUCTION], &IN_NAMESPACE[..]].concat());
    world.wait_for_crds().await.unwrap();
    apply_baseline(&world, PLATFORM, &json!({ "deletionPolicy": "Delete" })).await;
    world.start_operator().await.unwrap();
    let ns = world.namespace("team", &[]).await.unwrap();
    until_holds(&world, &ns, &Plan::of(PLATFORM)).await;
    until_ready(&world, PLATFORM).await;
    assert_eq!(world.stop_operator().unwrap(), 0);

    world.plane().run_kubectl(&["scale", "deployment", "-n", SYSTEM_NAMESPACE, RELEASE, "--replicas=0"]).unwrap();
    succeeds(&world, &["uninstall", "--yes", "--policies=remove"]).await;
    until_only(&world, &ns, &[]).await;
    helm(&world, &[&["uninstall", RELEASE], &IN_NAMESPACE[..]].concat());
    assert_eq!(left(&world).await, Vec::<String>::new());
    let policies: Api<ValidatingAdmissionPolicy> = Api::all(world.admin());
    assert_eq!(policies.list(&ListParams::default()).await.unwrap().items.len(), 0);
    assert_eq!(baselines(&world).list(&ListParams::default()).await.unwrap().items.len(), 0);
}
