//! What an opt-out says is true: it is in force once its policy is gone, until that policy is back, whatever is in the way.

use k8s_openapi::api::core::v1::ResourceQuota;
use k8s_openapi::jiff::SignedDuration;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use policy_baseline::BaselineOptOut;
use serde_json::json;

use crate::opt_outs::{self, opt_out, seconds_from_now, until_says};
use crate::others::fight;
use crate::repair::{PLATFORM, enforcing, protected};
use crate::scene::{DENY_EGRESS, Plan, merge, policies_of, until_event, until_holds};
use crate::support::stored;
use crate::writes_failing::quota;

const EGRESS: &str = "DefaultDenyEgress";

fn message(object: &BaselineOptOut) -> &str {
    &object.status.as_ref().unwrap().conditions[0].message
}

#[tokio::test]
async fn an_opt_out_is_in_force_only_when_its_policy_is_gone_and_until_it_is_back() {
    let world = enforcing(&json!({})).await;
    let (ns, tenant) = protected(&world).await;
    let policies = policies_of(&tenant, &ns);
    merge(&policies, DENY_EGRESS, "tenant", &json!({ "metadata": { "finalizers": ["tenant.example/keep"] } })).await;
    opt_outs::create(&world, &ns, &opt_out("partner", &[EGRESS], seconds_from_now(600))).await;
    let object = until_says(&world, &ns, "partner", "False RemovingPolicies").await;
    assert!(message(&object).contains(EGRESS), "{}", message(&object));
    assert!(stored(&world, &ns).await.contains_key(DENY_EGRESS), "the finalizer holds it, and it still applies");
    merge(&policies, DENY_EGRESS, "tenant", &json!({ "metadata": { "finalizers": null } })).await;
    until_says(&world, &ns, "partner", "True WithinLimits").await;
    let open = Plan::of(PLATFORM).without(EGRESS);
    until_holds(&world, &ns, &open).await;

    // Its end comes, and the quota has no room for the policy: the namespace is still open.
    quota(&world, &ns, 2).await;
    let api = opt_outs::opt_outs(&world.admin(), &ns);
    let soon = Patch::Merge(json!({ "spec": { "expiresAt": seconds_from_now(2) } }));
    api.patch("partner", &PatchParams::default(), &soon).await.unwrap();
    let object = until_says(&world, &ns, "partner", "True RestoringPolicies").await;
    assert!(message(&object).contains(EGRESS), "{}", message(&object));
    until_holds(&world, &ns, &open).await;
    let quotas: Api<ResourceQuota> = Api::namespaced(world.admin(), &ns);
    quotas.delete("few", &DeleteParams::default()).await.unwrap();
    until_says(&world, &ns, "partner", "False Expired").await;
    // Not before it was true.
    assert!(stored(&world, &ns).await.contains_key(DENY_EGRESS));
    until_holds(&world, &ns, &Plan::of(PLATFORM)).await;
}

/// Repairs of this policy wait for seconds. Neither the opt-out nor its end waits for them.
#[tokio::test]
async fn an_opt_out_from_a_contested_policy_counts_when_the_policy_is_gone_and_its_end_closes_to_the_second() {
    let world = enforcing(&json!({})).await;
    let (ns, tenant) = protected(&world).await;
    let relabelled = json!({ "metadata": { "labels": { "policybaseline.io/role": "other" } } });
    fight(&tenant, &ns, DENY_EGRESS, &relabelled, 8).await;
    until_event(&world, &tenant, &ns, "PolicyContested", DENY_EGRESS).await;
    let expires = seconds_from_now(10);
    opt_outs::create(&world, &ns, &opt_out("partner", &[EGRESS], expires)).await;
    until_says(&world, &ns, "partner", "True WithinLimits").await;
    assert!(!stored(&world, &ns).await.contains_key(DENY_EGRESS), "the status claims nothing that is not so yet");

    let closed = until_holds(&world, &ns, &Plan::of(PLATFORM)).await;
    let late = closed[DENY_EGRESS].creation_timestamp().unwrap().0.duration_since(expires);
    assert!(!late.is_negative() && late <= SignedDuration::from_secs(2), "{late:?}");
    until_says(&world, &ns, "partner", "False Expired").await;
    // Whoever deletes it again at once waits for no more than the next repair.
    policies_of(&tenant, &ns).delete(DENY_EGRESS, &DeleteParams::default()).await.unwrap();
    until_holds(&world, &ns, &Plan::of(PLATFORM)).await;
}
