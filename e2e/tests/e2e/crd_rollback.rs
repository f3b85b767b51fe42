//! The CRD goes back to an older version, and forward again. Meanwhile the API server cuts fields off every baseline that it serves, and their
//! generations stay the same.

use std::time::Instant;

use k8s_openapi::api::core::v1::Event;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::ResourceExt;
use kube::api::{Api, ListParams, PostParams};
use policy_baseline_e2e::{TIMEOUT, World};
use serde_json::{Value, json};

use crate::admin_port::{address, get, metric};
use crate::scene::{Plan, apply_baseline, baselines, until_holds};
use crate::support::{TEAM, stored, team, took};

const CRD: &str = "policybaselines.policybaseline.io";
/// The fields of a spec that an older version lacks, and what the operator says of that.
pub const FIELDS: [&str; 2] = ["dns", "namespaceSelector"];
pub const LACKS: &str = "lacks spec.dns, spec.namespaceSelector";

fn crds(world: &World) -> Api<CustomResourceDefinition> {
    Api::all(world.admin())
}

/// Takes the fields out of a CRD, as an older version would.
pub fn make_older(crd: &mut Value) {
    let spec = &mut crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"];
    for field in FIELDS {
        spec.as_object_mut().unwrap().remove(field).unwrap();
    }
}

/// Makes the CRD of the cluster older. Returns the whole one.
pub async fn roll_back(world: &World) -> CustomResourceDefinition {
    let whole = crds(world).get(CRD).await.unwrap();
    let mut old = serde_json::to_value(&whole).unwrap();
    make_older(&mut old);
    replace(world, &old).await;
    let cut = async || {
        let all = baselines(world).list(&ListParams::default()).await?.items;
        Ok::<_, kube::Error>(all.iter().all(|baseline| baseline.data["spec"]["namespaceSelector"].is_null()))
    };
    world.eventually("the API server cuts the fields off", TIMEOUT, cut).await.unwrap();
    whole
}

pub async fn replace(world: &World, crd: &Value) {
    let mut crd: CustomResourceDefinition = serde_json::from_value(crd.clone()).unwrap();
    crd.metadata.managed_fields = None;
    crd.metadata.resource_version = crds(world).get(CRD).await.unwrap().metadata.resource_version;
    crds(world).replace(CRD, &PostParams::default(), &crd).await.unwrap();
}

async fn until_it_says_what_is_missing(world: &World) {
    let address = address(world).await;
    let says = async || {
        let (code, _, text) = get(&address, "/readyz");
        let fields = metric(&get(&address, "/metrics").2, "policy_baseline_crd_missing_fields");
        code == 503 && text.contains(LACKS) && fields >= 2.0 && world.operator().unwrap().log().contains(LACKS)
    };
    world.eventually("it says which fields are missing", TIMEOUT, says).await.unwrap();
}

#[tokio::test]
async fn i16_a_crd_that_lacks_fields_changes_nothing_until_it_has_them_again_also_after_a_restart() {
    let mut world = World::new().await.unwrap();
    if world.plane().is_external() {
        return;
    }
    world.discard();
    let spec = json!({ "namespaceSelector": team("a"), "dns": { "ports": [5353] } });
    apply_baseline(&world, "platform", &spec).await;
    world.start_operator().await.unwrap();
    let selected = world.namespace("selected", &[(TEAM, "a")]).await.unwrap();
    let other = world.namespace("other", &[]).await.unwrap();
    let plan = Plan::of("platform").dns_port(5353);
    let before = until_holds(&world, &selected, &plan).await;

    let whole = roll_back(&world).await;
    until_it_says_what_is_missing(&world).await;
    // The restarted operator has seen nothing but a baseline without a selector, which would select every namespace.
    world.restart_operator().await.unwrap();
    until_it_says_what_is_missing(&world).await;
    let announced = async || {
        let events: Api<Event> = Api::namespaced(world.admin(), "default");
        let events = events.list(&ListParams::default()).await?.items;
        let is_it = |event: &Event| event.reason.as_deref() == Some("CrdFieldsMissing");
        Ok::<_, kube::Error>(events.iter().any(|event| is_it(event) && event.involved_object.name.as_deref() == Some("platform")))
    };
    world.eventually("an event about the baseline", TIMEOUT, announced).await.unwrap();
    let late = world.namespace("late", &[(TEAM, "a")]).await.unwrap();
    assert_eq!(stored(&world, &selected).await, before, "nothing changed");
    assert!(stored(&world, &other).await.is_empty() && stored(&world, &late).await.is_empty(), "nothing was written");

    replace(&world, &serde_json::to_value(whole).unwrap()).await;
    let start = Instant::now();
    until_holds(&world, &late, &plan).await;
    took("a namespace is protected after the CRD is complete again", start);
    assert_eq!(stored(&world, &selected).await, before, "nothing was lost");
    assert!(stored(&world, &other).await.is_empty());
    let baseline = baselines(&world).get("platform").await.unwrap();
    assert!(!baseline.data["spec"]["namespaceSelector"].is_null(), "{}", baseline.name_any());
}
