//! Tests of the proxy of the fault suites: it passes everything on unchanged, and breaks what its rules name.

use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use http::Version;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, WatchEvent, WatchParams};
use kube::{Client, ResourceExt};
use policy_baseline::Clients;
use policy_baseline_e2e::proxy::{Asked, EventFault, Fault, Moment, Release, Verb, When};
use policy_baseline_e2e::{Proxy, TIMEOUT, World, skipped_without_audit_log};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::client::{clients, maps, version, whoami, write};
use crate::scene::{Plan, apply_baseline, until_holds, until_ready};

/// A proxy, the operator's clients connected through it, and a namespace with one ConfigMap.
struct Stage {
    proxy: Proxy,
    clients: Clients,
    namespace: String,
    world: World,
}

impl Stage {
    async fn new() -> Option<Self> {
        if skipped_without_audit_log() {
            return None;
        }
        let world = World::bare().await.unwrap();
        let proxy = Proxy::start(world.plane()).unwrap();
        // Uses a token, because TLS ends at the proxy, and so would a client certificate.
        let namespace = world.namespace("proxied", &[]).await.unwrap();
        let account = json!({
            "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": "robot", "namespace": namespace },
        });
        let binding = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
            "metadata": { "name": "robot", "namespace": namespace },
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "edit" },
            "subjects": [{ "kind": "ServiceAccount", "name": "robot", "namespace": namespace }],
        });
        for object in [account, binding] {
            world.apply_yaml(&object.to_string()).await.unwrap();
        }
        let kubeconfig = world.plane().service_account_kubeconfig(&namespace, "robot").await.unwrap();
        let clients = clients(&proxy.kubeconfig(&kubeconfig).unwrap()).await;
        let stage = Self { proxy, clients, namespace, world };
        let may = async || stage.write("first", "one").await.map(|_| true);
        stage.world.eventually("the robot may write", TIMEOUT, may).await.unwrap();
        // A controller creates this ConfigMap in every namespace, at any time. The lists and watches of a test must not see it appear.
        let has_all = async || stage.api().get_opt("kube-root-ca.crt").await.map(|found| found.is_some());
        stage.world.eventually("the namespace has its own map", TIMEOUT, has_all).await.unwrap();
        Some(stage)
    }

    async fn write(&self, name: &str, text: &str) -> kube::Result<ConfigMap> {
        write(&self.clients.requests, &self.namespace, name, text).await
    }

    fn api(&self) -> Api<ConfigMap> {
        maps(&self.clients.requests, &self.namespace)
    }

    /// The stored text, read without the proxy.
    async fn stored(&self, name: &str) -> Option<String> {
        let admin: Client = self.world.admin();
        let map = maps(&admin, &self.namespace).get_opt(name).await.unwrap()?;
        map.data.and_then(|data| data.get("text").cloned())
    }
}

fn of_maps(asked: &Asked) -> bool {
    asked.is_of("configmaps")
}

fn code(error: kube::Error) -> Option<u16> {
    match error {
        kube::Error::Api(status) => Some(status.code),
        _ => None,
    }
}

#[tokio::test]
async fn what_no_rule_is_about_passes_the_proxy_as_it_is() {
    let Some(stage) = Stage::new().await else { return };
    assert_eq!(version(&stage.clients.requests).await, Version::HTTP_2);
    let robot = format!("system:serviceaccount:{}:robot", stage.namespace);
    assert_eq!(whoami(&stage.clients.requests).await.unwrap(), robot);

    let mark = stage.proxy.mark();
    let version = stage.api().list(&ListParams::default()).await.unwrap().metadata.resource_version.unwrap();
    let watched = maps(&stage.clients.watches, &stage.namespace);
    let mut watch = watched.watch(&WatchParams::default(), &version).await.unwrap().boxed();
    let text = "x".repeat(900_000);
    stage.write("big", &text).await.unwrap();
    stage.write("big", "small").await.unwrap();
    stage.api().delete("big", &DeleteParams::default()).await.unwrap();
    assert_eq!(code(stage.api().get("big").await.unwrap_err()), Some(404));
    let mut told = Vec::new();
    while told.len() < 3 {
        let event = timeout(TIMEOUT, watch.try_next()).await.unwrap().unwrap().unwrap();
        let size = |map: ConfigMap| map.data.unwrap_or_default().get("text").map_or(0, String::len);
        told.extend(match event {
            WatchEvent::Added(map) if map.name_any() == "big" => Some(("added", size(map))),
            WatchEvent::Modified(map) if map.name_any() == "big" => Some(("modified", size(map))),
            WatchEvent::Deleted(map) if map.name_any() == "big" => Some(("deleted", size(map))),
            _ => None,
        });
    }
    assert_eq!(told, [("added", text.len()), ("modified", 5), ("deleted", 5)]);

    let ns = &stage.namespace;
    let seen: Vec<_> = stage.proxy.since(mark).iter().map(|one| (one.asked.to_string(), one.code)).collect();
    let big = |verb: &str| format!("{verb} configmaps {ns} big");
    let wanted = [
        (format!("list configmaps {ns}"), Some(200)),
        (format!("watch configmaps {ns}"), Some(200)),
        (big("patch"), Some(201)),
        (big("patch"), Some(200)),
        (big("delete"), Some(200)),
        (big("get"), Some(404)),
    ];
    assert_eq!(seen, wanted);
}

#[tokio::test]
async fn a_request_goes_wrong_before_or_after_it_took_place() {
    let Some(stage) = Stage::new().await else { return };
    for (fault, takes_place, seen) in [
        (Fault::Answer(409, Moment::Before), false, Some(409)),
        (Fault::Answer(504, Moment::Before), false, Some(504)),
        (Fault::Answer(500, Moment::After), true, Some(500)),
        (Fault::Truncate, true, None),
    ] {
        let name = World::unique("map");
        stage.proxy.on(of_maps, When::First(1), fault);
        let before = stage.proxy.struck();
        let refused = stage.write(&name, "x").await.unwrap_err();
        assert_eq!(code(refused), seen, "{fault:?}");
        assert_eq!(stage.stored(&name).await.is_some(), takes_place, "{fault:?}");
        assert_eq!(stage.proxy.struck(), before + 1);
        stage.proxy.calm();
    }
    // The client retries what may be done twice. After a 429 it retries everything.
    for fault in [Fault::Cut(Moment::Before), Fault::Cut(Moment::After), Fault::Answer(429, Moment::Before)] {
        let mark = stage.proxy.mark();
        stage.proxy.on(of_maps, When::Nth(1), fault);
        stage.write("again", &format!("{fault:?}")).await.unwrap();
        let codes: Vec<_> = stage.proxy.since(mark).into_iter().map(|one| (one.fault, one.code.is_some())).collect();
        assert_eq!(codes, [(Some(fault), fault == Fault::Cut(Moment::After)), (None, true)]);
        stage.proxy.calm();
    }
    stage.proxy.on(of_maps, When::Always, Fault::Delay(Duration::from_millis(50)));
    stage.write("again", "late").await.unwrap();
    assert_eq!(stage.stored("again").await.as_deref(), Some("late"));
}

#[tokio::test]
async fn a_request_that_is_held_goes_on_or_is_lost_whether_its_sender_lives_or_not() {
    let Some(stage) = Stage::new().await else { return };
    for (moment, how, takes_place) in [
        (Moment::Before, Release::Discard, false),
        (Moment::Before, Release::Forward, true),
        (Moment::After, Release::Discard, true),
    ] {
        let name = World::unique("map");
        stage.proxy.on(of_maps, When::First(1), Fault::Hold(moment));
        {
            let mut writing = std::pin::pin!(stage.write(&name, "x"));
            tokio::select! {
                held = stage.proxy.until_held() => held.unwrap(),
                answer = &mut writing => panic!("{answer:?}"),
            }
        }
        assert_eq!(stage.stored(&name).await.is_some(), moment == Moment::After, "{moment:?} {how:?}");
        stage.proxy.release(how).await.unwrap();
        assert_eq!(stage.stored(&name).await.is_some(), takes_place, "{moment:?} {how:?}");
        stage.proxy.calm();
    }
}

#[tokio::test]
async fn a_watch_loses_events_ends_in_the_middle_and_expires() {
    let Some(stage) = Stage::new().await else { return };
    let version = stage.api().list(&ListParams::default()).await.unwrap().metadata.resource_version.unwrap();
    let named = |name: &'static str| {
        move |asked: &Asked, event: &Value| of_maps(asked) && event["object"]["metadata"]["name"].as_str() == Some(name)
    };
    stage.proxy.on_event(named("lost"), When::Always, EventFault::Lose);
    stage.proxy.on_event(named("late"), When::Always, EventFault::Delay(Duration::from_millis(50)));
    let reversed = |event: &mut Value| event["object"]["data"]["text"] = "rewritten".into();
    stage.proxy.on_event(named("changed"), When::Always, EventFault::Rewrite(std::sync::Arc::new(reversed)));
    stage.proxy.on_event(named("cut"), When::Nth(1), EventFault::Cut);
    stage.proxy.on_event(named("expired"), When::Nth(1), EventFault::Expire);
    for name in ["lost", "late", "changed", "cut", "expired"] {
        stage.write(name, name).await.unwrap();
    }
    // Each watch begins at the same version.
    let watch = async || {
        let api = maps(&stage.clients.watches, &stage.namespace);
        let mut watch = api.watch(&WatchParams::default(), &version).await.unwrap().boxed();
        let mut told = Vec::new();
        loop {
            match timeout(TIMEOUT, watch.next()).await.unwrap() {
                Some(Ok(WatchEvent::Added(map))) => told.push(map.data.unwrap()["text"].clone()),
                Some(Ok(WatchEvent::Error(status))) => told.push(status.code.to_string()),
                Some(Ok(_)) => {}
                Some(Err(_)) => told.push("broken".to_owned()),
                None => return told,
            }
            if told.last().is_some_and(|last| last == "expired") {
                return told;
            }
        }
    };
    assert_eq!(watch().await, ["late", "rewritten", "broken"]);
    assert_eq!(watch().await, ["late", "rewritten", "cut", "410"]);
    assert_eq!(watch().await, ["late", "rewritten", "cut", "expired"]);
}

#[tokio::test]
async fn an_old_list_comes_back_with_its_old_version() {
    let Some(stage) = Stage::new().await else { return };
    stage.proxy.remember_lists();
    let list = async || {
        let list = stage.api().list(&ListParams::default()).await.unwrap();
        (list.metadata.resource_version, list.items)
    };
    let old = list().await;
    let patch = Patch::Merge(json!({ "data": { "text": "two" } }));
    stage.api().patch("first", &PatchParams::default(), &patch).await.unwrap();
    let new = list().await;
    assert_ne!(old, new);
    stage.proxy.on(|asked| asked.verb == Verb::List, When::Nth(1), Fault::Stale);
    assert_eq!(list().await, old);
    // The version of a list is the whole cluster's, and a Lease may be renewed at any time: only the items stay.
    let (version, items) = list().await;
    assert_ne!(version, old.0);
    assert_eq!(items, new.1);
}

#[tokio::test]
async fn the_operator_works_through_the_proxy_as_without_it() {
    if skipped_without_audit_log() {
        return;
    }
    let mut world = World::new().await.unwrap();
    let proxy = Proxy::start(world.plane()).unwrap();
    world.send_operator_by(&proxy).await.unwrap();
    proxy.call("an-instance");
    apply_baseline(&world, "platform", &json!({})).await;
    let mark = world.audit().unwrap().mark();
    world.start_operator().await.unwrap();
    let namespace = world.namespace("team", &[]).await.unwrap();
    until_holds(&world, &namespace, &Plan::of("platform")).await;
    until_ready(&world, "platform").await;
    assert!(world.operator().unwrap().log().contains("stack=\"http2\""));
    let entries = world.audit().unwrap().since(mark).unwrap();
    let ours: Vec<_> = entries.iter().filter(|entry| entry.namespace == namespace && entry.user_agent == "an-instance").collect();
    assert_eq!(ours.len(), 3, "{entries:#?}");
    assert!(ours.iter().all(|entry| entry.user == World::operator_user()));
}
