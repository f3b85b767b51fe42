//! A namespace from a backup, restored as Velero does it.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, ObjectMeta, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Client, ResourceExt};
use policy_baseline_e2e::{TIMEOUT, World};
use serde_json::{Value, json};

use super::{DEFAULT, PAGE, commands, run};
use crate::admission::protect;
use crate::docs::page;
use crate::opt_outs::{self, opt_out, seconds_from_now, until_says};
use crate::samples::yaml_blocks;
use crate::scene::{DENY_INGRESS, Plan, apply_baseline, policies_of, until_holds, until_ready};
use crate::support::{Writes, a_second_later, namespaces, remove_namespace, stored, until_gone, versions};

const OPT_OUT_LABEL: &str = "policybaseline.io/opt-out";
const EXCLUDED: &str = "velero.io/exclude-from-backup";

/// The objects of a namespace as a backup has them.
struct Copy {
    namespace: Namespace,
    inside: Vec<(ApiResource, DynamicObject)>,
}

/// The opt-outs, and the policies that are not excluded from backups.
async fn back_up(world: &World, name: &str) -> Copy {
    let kinds = [("networking.k8s.io", "v1", "NetworkPolicy"), ("policybaseline.io", "v1alpha1", "BaselineOptOut")];
    let mut inside = Vec::new();
    for (group, version, kind) in kinds {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
        let api: Api<DynamicObject> = Api::namespaced_with(world.admin(), name, &resource);
        let found = api.list(&ListParams::default().labels(&format!("{EXCLUDED}!=true"))).await.unwrap();
        inside.extend(found.items.into_iter().map(|object| (resource.clone(), object)));
    }
    Copy { namespace: namespaces(world).get(name).await.unwrap(), inside }
}

/// What Velero keeps of the metadata: `resetMetadata` and `addRestoreLabels` in its pkg/restore/restore.go.
fn reset(mut metadata: ObjectMeta) -> ObjectMeta {
    let labels = metadata.labels.get_or_insert_default();
    for (key, value) in [("velero.io/backup-name", "nightly"), ("velero.io/restore-name", "nightly-1")] {
        labels.insert(key.to_owned(), value.to_owned());
    }
    ObjectMeta {
        name: metadata.name,
        namespace: metadata.namespace,
        labels: metadata.labels,
        annotations: metadata.annotations,
        finalizers: metadata.finalizers,
        ..ObjectMeta::default()
    }
}

/// A cluster-admin who is no member of the break-glass group.
async fn velero(world: &World) -> Client {
    world.plane().user("system:serviceaccount:velero:velero", &["system:masters"]).await.unwrap()
}

async fn restore_namespace(client: &Client, copy: &Copy) {
    let namespace = Namespace { metadata: reset(copy.namespace.metadata.clone()), ..Namespace::default() };
    Api::<Namespace>::all(client.clone()).create(&PostParams::default(), &namespace).await.unwrap();
}

/// Creates what was in the namespace, here or in another one. Objects that exist stay as they are. Returns what was refused, by name.
async fn restore_inside(client: &Client, copy: &Copy, into: &str) -> BTreeMap<String, String> {
    let mut refused = BTreeMap::new();
    for (resource, object) in &copy.inside {
        let mut object = DynamicObject { metadata: reset(object.metadata.clone()), ..object.clone() };
        object.metadata.namespace = Some(into.to_owned());
        object.data.as_object_mut().unwrap().remove("status");
        let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), into, resource);
        match api.create(&PostParams::default(), &object).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.reason == "AlreadyExists" => {}
            Err(kube::Error::Api(status)) => drop(refused.insert(object.name_any(), status.message)),
            Err(other) => panic!("{other:?}"),
        }
    }
    refused
}

/// Applies the file `modifiers.yaml` of the page to a copy, as Velero does.
fn modify(copy: &mut Copy) {
    let text = yaml_blocks(&page(PAGE)).into_iter().find(|block| block.starts_with("# modifiers.yaml\n")).unwrap();
    let modifiers: Value = serde_yaml::from_str(&text).unwrap();
    let [rule] = modifiers["resourceModifierRules"].as_array().unwrap().as_slice() else { panic!("{text}") };
    let [patch] = rule["patches"].as_array().unwrap().as_slice() else { panic!("{text}") };
    assert_eq!(patch["operation"], "remove");
    let key = patch["path"].as_str().unwrap().strip_prefix("/metadata/labels/").unwrap().replace("~1", "/");
    let (group_resource, labels) = (&rule["conditions"]["groupResource"], &rule["conditions"]["labelSelector"]["matchLabels"]);
    for (resource, object) in &mut copy.inside {
        let has = |(key, value): (&String, &Value)| object.labels().get(key).map(String::as_str) == value.as_str();
        if *group_resource == format!("{}.{}", resource.plural, resource.group) && labels.as_object().unwrap().iter().all(has) {
            object.labels_mut().remove(&key);
        }
    }
}

async fn create_own(world: &World, namespace: &str) {
    let own = json!({ "metadata": { "name": "own" }, "spec": { "podSelector": {}, "policyTypes": ["Ingress"] } });
    let own: NetworkPolicy = serde_json::from_value(own).unwrap();
    policies_of(&world.admin(), namespace).create(&PostParams::default(), &own).await.unwrap();
}

#[tokio::test]
async fn i2_policies_that_a_backup_brings_back_while_no_operator_runs_are_the_operators_and_are_not_written_again() {
    let mut world = World::new().await.unwrap();
    world.namespace_named("legacy", &[]).await.unwrap();
    a_second_later(&world).await;
    apply_baseline(&world, DEFAULT, &json!({})).await;
    world.start_operator().await.unwrap();
    let ns = world.namespace("shop", &[]).await.unwrap();
    create_own(&world, &ns).await;
    let plan = Plan::of(DEFAULT).beside("own");
    until_holds(&world, &ns, &plan).await;
    until_ready(&world, DEFAULT).await;
    assert_eq!(world.policies("legacy").await.unwrap(), []);
    let [shop, legacy] = [back_up(&world, &ns).await, back_up(&world, "legacy").await];
    assert_eq!(shop.inside.len(), 4);
    world.stop_operator().unwrap();
    for name in [&ns, "legacy"] {
        remove_namespace(&world, name).await;
    }

    let velero = velero(&world).await;
    for copy in [&shop, &legacy] {
        restore_namespace(&velero, copy).await;
        let refused = restore_inside(&velero, copy, &copy.namespace.name_any()).await;
        assert_eq!(refused, BTreeMap::new());
    }
    let restored = stored(&world, &ns).await;
    let writes = (!world.plane().is_external()).then(|| Writes::from_now(&world));
    world.restart_operator().await.unwrap();
    // A restored namespace is new, also if it was open before.
    until_holds(&world, "legacy", &Plan::of(DEFAULT)).await;
    until_ready(&world, DEFAULT).await;
    assert_eq!(versions(&until_holds(&world, &ns, &plan).await), versions(&restored));
    assert!(writes.is_none_or(|writes| writes.inside(&ns).is_empty()));
    let listed = run(&world, "policy-baseline list-managed --orphans");
    assert!(listed.starts_with("0 policies in 0 namespaces"), "{listed}");
}

#[tokio::test]
async fn under_protect_a_backup_without_the_operators_policies_and_labels_is_restored_without_an_error() {
    let mut world = World::new().await.unwrap();
    protect::protect(&world).await;
    apply_baseline(&world, DEFAULT, &json!({})).await;
    world.start_operator().await.unwrap();
    let ns = world.namespace("shop", &[]).await.unwrap();
    create_own(&world, &ns).await;
    opt_outs::create(&world, &ns, &opt_out("partner", &["DefaultDenyEgress"], seconds_from_now(3_600))).await;
    let opened = Plan::of(DEFAULT).without("DefaultDenyEgress").beside("own");
    until_holds(&world, &ns, &opened).await;
    until_says(&world, &ns, "partner", "True WithinLimits").await;
    let naive = back_up(&world, &ns).await;

    for command in commands("A namespace from a backup") {
        run(&world, &command);
    }
    let opened = opened.label(EXCLUDED, "true");
    until_holds(&world, &ns, &opened).await;
    let mut copy = back_up(&world, &ns).await;
    let names: Vec<String> = copy.inside.iter().map(|(_, object)| object.name_any()).collect();
    assert_eq!(names, ["own", "partner"]);
    let velero = velero(&world).await;
    Api::<Namespace>::all(velero.clone()).delete(&ns, &DeleteParams::default()).await.unwrap();
    until_gone(&world, &ns).await;

    // Without the advice of the page: the opt-out is refused, and the namespace is closed in all directions.
    restore_namespace(&velero, &naive).await;
    let closed = Plan::of(DEFAULT).label(EXCLUDED, "true");
    until_holds(&world, &ns, &closed).await;
    let refused = restore_inside(&velero, &naive, &ns).await;
    assert!(refused["partner"].contains(&format!("alone sets the label {OPT_OUT_LABEL}")), "{refused:?}");
    assert!(refused[DENY_INGRESS].contains("the operator of policy-baseline alone sets labels"), "{refused:?}");
    until_holds(&world, &ns, &closed.beside("own")).await;

    // With it.
    modify(&mut copy);
    assert_eq!(restore_inside(&velero, &copy, &ns).await, BTreeMap::new());
    until_holds(&world, &ns, &opened).await;
    until_says(&world, &ns, "partner", "True WithinLimits").await;
}

#[tokio::test]
async fn copies_of_policies_in_a_namespace_of_another_name_are_adopted_and_the_rest_is_listed() {
    let mut world = World::new().await.unwrap();
    apply_baseline(&world, DEFAULT, &json!({ "policies": ["DefaultDenyIngress", "DefaultDenyEgress"] })).await;
    world.start_operator().await.unwrap();
    let ns = world.namespace("shop", &[]).await.unwrap();
    let plan = Plan::of(DEFAULT).without("MonitoringCarveout");
    until_holds(&world, &ns, &plan).await;
    let mut copy = back_up(&world, &ns).await;
    // One that no baseline plans: from a baseline with another prefix.
    let (resource, mut former) = copy.inside[0].clone();
    former.metadata.name = Some("former-default-deny-egress".to_owned());
    copy.inside.push((resource, former));
    world.stop_operator().unwrap();
    let moved = world.namespace("moved", &[]).await.unwrap();
    assert_eq!(restore_inside(&velero(&world).await, &copy, &moved).await, BTreeMap::new());
    world.restart_operator().await.unwrap();
    until_holds(&world, &moved, &plan.beside("former-default-deny-egress")).await;
    // Their rules are right already: adopted means that the id is that of this namespace.
    let listed = async || {
        let listed = run(&world, "policy-baseline list-managed --orphans");
        let is_other = listed.contains("former-default-deny-egress") && listed.contains("not the operator's");
        if is_other && !listed.contains(DENY_INGRESS) { Ok(true) } else { Err(listed) }
    };
    world.eventually("the copies under planned names are adopted, and the other one is listed", TIMEOUT, listed).await.unwrap();
}
