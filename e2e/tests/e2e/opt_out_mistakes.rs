//! Wrong end times of opt-outs, without the component `opt-out-rules`: whoever wrote one learns it, with an example of a right one.

use k8s_openapi::api::core::v1::Event;
use kube::api::{Api, ListParams};
use policy_baseline::BaselineOptOut;
use policy_baseline_e2e::{TIMEOUT, World};
use serde_json::json;

use crate::opt_outs::{create, opt_out, seconds_from_now};
use crate::scene::{Plan, apply_baseline, until_holds};

/// The notes of the Warnings about an opt-out.
async fn warnings(world: &World, ns: &str, name: &str) -> Vec<String> {
    let api: Api<Event> = Api::namespaced(world.admin(), ns);
    let mut events = api.list(&ListParams::default()).await.unwrap().items;
    events.retain(|event| event.involved_object.name.as_deref() == Some(name) && event.type_.as_deref() == Some("Warning"));
    events.into_iter().map(|e| format!("{}: {}", e.reason.unwrap_or_default(), e.message.unwrap_or_default())).collect()
}

#[tokio::test]
async fn an_opt_out_with_a_wrong_end_says_what_to_write_in_its_status_and_by_a_warning() {
    let mut world = World::new().await.unwrap();
    world.start_operator().await.unwrap();
    apply_baseline(&world, "platform", &json!({ "optOuts": { "maxDuration": "48h" } })).await;
    let ns = world.namespace("team", &[]).await.unwrap();
    until_holds(&world, &ns, &Plan::of("platform")).await;
    for (name, seconds, reason, words) in [
        ("past", -3_600, "Expired", ["was over when this opt-out was created", "a later time, as in 2"]),
        ("long", 3 * 86_400, "TooLong", ["allows 48h from its creation", "that is until 2"]),
    ] {
        create(&world, &ns, &opt_out(name, &["DefaultDenyEgress"], seconds_from_now(seconds))).await;
        let api: Api<BaselineOptOut> = Api::namespaced(world.admin(), &ns);
        let said = async || {
            let status = api.get(name).await.map_err(|err| err.to_string())?.status.unwrap_or_default();
            let condition = status.conditions.into_iter().find(|c| c.reason == reason).ok_or("not yet")?;
            Ok::<_, String>(Some(condition.message))
        };
        let message = world.eventually(&format!("{name} is {reason}"), TIMEOUT, said).await.unwrap();
        assert!(words.iter().all(|word| message.contains(word)), "{message}");
        let expected = format!("OptOutNotInForce: this opt-out is not in force, {reason}: {message}");
        let warned = async || {
            let all = warnings(&world, &ns, name).await;
            if all == [expected.clone()] { Ok(Some(())) } else { Err(format!("{all:?}")) }
        };
        world.eventually("one warning", TIMEOUT, warned).await.unwrap();
    }
    until_holds(&world, &ns, &Plan::of("platform")).await;
    world.restart_operator().await.unwrap();
    let next = world.namespace("next", &[]).await.unwrap();
    until_holds(&world, &next, &Plan::of("platform")).await;
    for name in ["past", "long"] {
        assert_eq!(warnings(&world, &ns, name).await.len(), 1, "a restart repeats nothing");
    }
}
