//! Statuses of opt-outs that the operator wrote, judged as Argo CD and Flux do.

use kube::api::{DynamicObject, Patch, PatchParams};
use kube::core::ApiResource;
use kube::{Api, ResourceExt};
use policy_baseline::BaselineOptOut;
use policy_baseline_e2e::World;
use serde_json::json;

use super::states::States;
use crate::opt_outs::{create, opt_out, seconds_from_now, until_says};
use crate::scene::apply_baseline;
use crate::support::{TEAM, team};

const NAMESPACE: &str = "gitops-opt-outs";
const ELSEWHERE: &str = "gitops-unselected";
const EGRESS: &str = "DefaultDenyEgress";

async fn get(world: &World, namespace: &str, name: &str) -> DynamicObject {
    let api: Api<DynamicObject> = Api::namespaced_with(world.admin(), namespace, &ApiResource::erase::<BaselineOptOut>(&()));
    let object = api.get(name).await.unwrap();
    assert_eq!(object.name_any(), name);
    object
}

#[tokio::test]
async fn a_status_of_an_opt_out_that_the_operator_wrote_means_to_argo_cd_and_flux_what_the_page_says() {
    const HOUR: i64 = 3600;
    let mut world = World::new().await.unwrap();
    if world.plane().is_external() {
        return;
    }
    let mut states = States::of("BaselineOptOut");
    let limits = json!({ "maxDuration": "336h", "allowedPolicies": [EGRESS, "MonitoringCarveout"] });
    apply_baseline(&world, "limits", &json!({ "namespaceSelector": team("limits"), "optOuts": limits })).await;
    world.namespace_named(NAMESPACE, &[(TEAM, "limits")]).await.unwrap();
    world.namespace_named(ELSEWHERE, &[]).await.unwrap();
    create(&world, NAMESPACE, &opt_out("partner", &[EGRESS], seconds_from_now(HOUR * 2))).await;
    let new = get(&world, NAMESPACE, "partner").await;
    states.add("progressing_notProcessed", &new, ["Progressing", "Current", "InProgress"]);

    world.start_operator().await.unwrap();
    for (namespace, name, policy, ends, says, state, expected) in [
        (NAMESPACE, "partner", EGRESS, None, "True WithinLimits", "healthy_withinLimits", ["Healthy", "Current", "Current"]),
        (NAMESPACE, "over", EGRESS, Some(-60), "False Expired", "suspended_expired", ["Suspended", "Current", "Current"]),
        (ELSEWHERE, "vain", EGRESS, Some(HOUR), "False NoBaseline", "suspended_noBaseline", ["Suspended", "Current", "Current"]),
        (NAMESPACE, "long", EGRESS, Some(HOUR * 400), "False TooLong", "degraded_tooLong", ["Degraded", "Current", "Failed"]),
        (
            NAMESPACE,
            "ingress",
            "DefaultDenyIngress",
            Some(HOUR),
            "False PolicyNotAllowed",
            "degraded_policyNotAllowed",
            ["Degraded", "Current", "Failed"],
        ),
    ] {
        if let Some(seconds) = ends {
            create(&world, namespace, &opt_out(name, &[policy], seconds_from_now(seconds))).await;
        }
        until_says(&world, namespace, name, says).await;
        states.add(state, &get(&world, namespace, name).await, expected);
    }

    world.stop_operator().unwrap();
    let api: Api<BaselineOptOut> = Api::namespaced(world.admin(), NAMESPACE);
    let edit = Patch::Merge(json!({ "spec": { "ticket": "SEC-43" } }));
    api.patch("partner", &PatchParams::default(), &edit).await.unwrap();
    let edited = get(&world, NAMESPACE, "partner").await;
    states.add("progressing_olderSpec", &edited, ["Progressing", "InProgress", "InProgress"]);
    states.judge();
}
