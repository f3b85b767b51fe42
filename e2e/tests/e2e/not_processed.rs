//! What an object says before an operator has seen it.

use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use kube::api::Api;
use policy_baseline::{BaselineOptOut, PolicyBaseline};
use policy_baseline_e2e::{TIMEOUT, World};
use serde_json::json;

use crate::opt_outs::{create, in_force, opt_out, seconds_from_now};
use crate::scene::{apply_baseline, condition, until_ready};

#[tokio::test]
async fn what_no_operator_has_processed_is_neither_ready_nor_in_force_and_says_so() {
    let mut world = World::new().await.unwrap();
    apply_baseline(&world, "platform", &json!({})).await;
    // So that the namespace is newer.
    crate::support::a_second_later(&world).await;
    let ns = world.namespace("waits", &[]).await.unwrap();
    create(&world, &ns, &opt_out("partner", &["DefaultDenyEgress"], seconds_from_now(600))).await;

    let baselines: Api<PolicyBaseline> = Api::all(world.admin());
    let status = baselines.get("platform").await.unwrap().status.unwrap();
    let ready = condition(&status, "Ready");
    assert_eq!((ready.status.as_str(), ready.reason.as_str()), ("Unknown", "NotProcessed"));
    assert!(ready.message.starts_with("no operator has processed this PolicyBaseline yet: "), "{}", ready.message);
    assert_eq!(status.conditions.len(), 1);
    let columns = world.plane().run_kubectl(&["get", "pb", "platform", "-o", "wide"]).unwrap();
    assert!(columns.contains(" Unknown ") && columns.contains(" NotProcessed"), "{columns}");
    let opt_outs: Api<BaselineOptOut> = Api::namespaced(world.admin(), &ns);
    let stored = opt_outs.get("partner").await.unwrap().status.unwrap().conditions;
    assert_eq!(stored.iter().map(|c| (c.type_.as_str(), c.status.as_str())).collect::<Vec<_>>(), [("InForce", "Unknown")]);

    world.start_operator().await.unwrap();
    let status = until_ready(&world, "platform").await;
    let since = condition(&status, "Ready").last_transition_time.0;
    assert!(since > Timestamp::UNIX_EPOCH && status.conditions.len() >= 3, "{status:?}");
    let judged =
        async || Ok::<_, kube::Error>(in_force(&opt_outs.get("partner").await?).is_some_and(|said| said.starts_with("True")));
    world.eventually("the opt-out is in force", TIMEOUT, judged).await.unwrap();
    let partner = opt_outs.get("partner").await.unwrap();
    assert_eq!(partner.status.as_ref().unwrap().conditions.len(), 1, "{}", partner.name_any());
}
