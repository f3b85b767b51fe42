//! The connections to the API server: a silent connection is detected, a slow one blocks nobody, and everything that kube supports
//! works.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::future::{join_all, try_join_all};
use futures::{StreamExt, TryStreamExt};
use http::{Request, Version};
use k8s_openapi::api::authentication::v1::{BoundObjectReference, SelfSubjectReview, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{ConfigMap, Secret, ServiceAccount};
use kube::api::{DeleteParams, ListParams, ObjectMeta, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use kube::client::Body;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config, ResourceExt};
use policy_baseline::{Clients, Stack, connect};
use policy_baseline_e2e::{ControlPlane, Operator, Options, SERVICE_ACCOUNT, SYSTEM_NAMESPACE, TIMEOUT, World, process};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::scene::{Plan, apply_baseline, until_holds};
use crate::support::follow;

const PLATFORM: &str = "platform";
const NOTICED: &str = "namespaces cannot be watched, trying again";

// Clients.

async fn config(kubeconfig: &Path) -> Config {
    let kubeconfig = Kubeconfig::read_from(kubeconfig).unwrap();
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    // Everything is on loopback, so ignore the proxies of the environment.
    config.proxy_url = None;
    config
}

pub async fn clients(kubeconfig: &Path) -> Clients {
    connect(config(kubeconfig).await).unwrap()
}

/// A kubeconfig of the operator's ServiceAccount with other credentials.
async fn kubeconfig_with(world: &World, file: &str, user: &Value) -> PathBuf {
    let mut config: Value = serde_json::from_slice(&fs::read(world.operator_kubeconfig().await.unwrap()).unwrap()).unwrap();
    config["users"][0]["user"] = user.clone();
    let path = world.plane().state_dir().join(file);
    fs::write(&path, config.to_string()).unwrap();
    path
}

/// The HTTP version of a response.
pub async fn version(client: &Client) -> Version {
    client.send(Request::get("/version").body(Body::empty()).unwrap()).await.unwrap().version()
}

pub async fn whoami(client: &Client) -> kube::Result<String> {
    let review = SelfSubjectReview::default();
    let answer: SelfSubjectReview = Api::all(client.clone()).create(&PostParams::default(), &review).await?;
    Ok(answer.status.unwrap().user_info.unwrap().username.unwrap())
}

// ConfigMaps.

pub fn maps(client: &Client, namespace: &str) -> Api<ConfigMap> {
    Api::namespaced(client.clone(), namespace)
}

/// Writes a ConfigMap by server-side apply.
pub async fn write(client: &Client, namespace: &str, name: &str, text: &str) -> kube::Result<ConfigMap> {
    let map = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name }, "data": { "text": text } });
    maps(client, namespace).patch(name, &PatchParams::apply("e2e").force(), &Patch::Apply(&map)).await
}

async fn capped<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(TIMEOUT, future).await.unwrap_or_else(|_| panic!("{what}: not within {TIMEOUT:?}"))
}

// An API server that goes away.

/// A world with a running operator and one baseline.
async fn at_work() -> World {
    let mut world = World::new().await.unwrap();
    apply_baseline(&world, PLATFORM, &json!({})).await;
    world.start_operator().await.unwrap();
    protected(&world).await;
    world
}

async fn protected(world: &World) {
    let namespace = world.namespace("team", &[]).await.unwrap();
    until_holds(world, &namespace, &Plan::of(PLATFORM)).await;
}

async fn until_noticed(world: &World) {
    let operator = world.operator().unwrap();
    world.eventually("the operator notices", TIMEOUT, async || operator.log().contains(NOTICED)).await.unwrap();
}

#[tokio::test]
async fn an_apiserver_that_is_killed_is_noticed_and_when_it_is_back_namespaces_are_protected() {
    let world = at_work().await;
    if world.plane().is_external() {
        return;
    }
    assert!(world.operator().unwrap().log().contains("stack=\"http2\""));
    world.plane().kill_apiserver().unwrap();
    until_noticed(&world).await;
    world.plane().start_apiserver().await.unwrap();
    protected(&world).await;
}

#[tokio::test]
async fn an_apiserver_that_falls_silent_is_noticed_by_pings_and_when_it_is_back_writes_succeed() {
    let world = at_work().await;
    let Some(pid) = world.plane().pids().get("kube-apiserver").copied() else { return };
    world.discard();
    let clients = clients(world.plane().admin_kubeconfig()).await;
    let mut watch = maps(&clients.watches, "default").watch(&WatchParams::default(), "0").await.unwrap().boxed();
    write(&clients.requests, "default", "before", "").await.unwrap();

    let paused = process::pause(pid).unwrap();
    let refused = capped("a write gives up", write(&clients.requests, "default", "meanwhile", "")).await;
    assert!(refused.is_err(), "{refused:?}");
    // A watch without events does not otherwise notice that its connection is dead.
    let ended = async { while let Some(Ok(_)) = watch.next().await {} };
    capped("the watch ends", ended).await;
    until_noticed(&world).await;
    drop(paused);

    world
        .eventually("a write succeeds", TIMEOUT, async || write(&clients.requests, "default", "after", "").await.map(|_| true))
        .await
        .unwrap();
    protected(&world).await;
}

/// Passes connections on to the API server, and counts them.
async fn counted(config: &mut Config) -> Arc<AtomicUsize> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = config.cluster_url.authority().unwrap().to_string();
    config.cluster_url = format!("https://{}", listener.local_addr().unwrap()).parse().unwrap();
    let connections = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&connections);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::Relaxed);
            let server = server.clone();
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut stream, &mut TcpStream::connect(server).await?).await });
        }
    });
    connections
}

#[tokio::test]
async fn requests_that_begin_together_open_one_connection() {
    let world = World::bare().await.unwrap();
    let mut config = config(world.plane().admin_kubeconfig()).await;
    let connections = counted(&mut config).await;
    let clients = connect(config).unwrap();
    for (client, opened) in [(&clients.watches, 1), (&clients.requests, 2)] {
        let versions = capped("all are answered", join_all((0..20).map(|_| version(client)))).await;
        assert!(versions.into_iter().all(|version| version == Version::HTTP_2));
        assert_eq!(connections.load(Ordering::Relaxed), opened);
    }
}

// Streams that could block each other.

#[tokio::test]
async fn a_hundred_and_twenty_watches_on_either_client_hold_up_no_other_request() {
    const WATCHES: usize = 120;
    let world = World::bare().await.unwrap();
    let namespace = world.namespace("watched", &[]).await.unwrap();
    let clients = clients(world.plane().admin_kubeconfig()).await;
    for client in [&clients.watches, &clients.requests] {
        assert_eq!(version(client).await, Version::HTTP_2);
        let api = maps(client, &namespace);
        let version = api.list(&ListParams::default()).await.unwrap().metadata.resource_version.unwrap();
        let watch = || follow(&api, WatchParams::default(), &version);
        let opened = capped("all watches are open", try_join_all((0..WATCHES).map(|_| watch()))).await;
        let mut streams = opened.unwrap();

        let name = World::unique("news");
        capped("a write is answered", write(&clients.requests, &namespace, &name, "")).await.unwrap();
        capped("a list is answered", api.list(&ListParams::default())).await.unwrap();
        // kube-controller-manager creates `kube-root-ca.crt` in a new namespace. Each watch may show that ConfigMap first.
        let added = |event: WatchEvent<ConfigMap>| matches!(event, WatchEvent::Added(map) if map.name_any() == name);
        let delivered = streams.iter_mut().map(|stream| stream.any(async |event| added(event.unwrap())));
        assert!(capped("every watch delivers it", join_all(delivered)).await.into_iter().all(|found| found));
    }
}

#[tokio::test]
async fn a_reader_that_does_not_read_holds_up_neither_its_neighbours_nor_writes() {
    const UNREAD: usize = 12;
    let world = World::bare().await.unwrap();
    let namespace = world.namespace("big", &[]).await.unwrap();
    let text = "x".repeat(900_000);
    for name in ["a", "b", "c"] {
        let map = ConfigMap { data: Some([("text".to_owned(), text.clone())].into()), ..ConfigMap::default() };
        let metadata = ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
        maps(&world.admin(), &namespace).create(&PostParams::default(), &ConfigMap { metadata, ..map }).await.unwrap();
    }
    let clients = clients(world.plane().admin_kubeconfig()).await;
    let uri = format!("/api/v1/namespaces/{namespace}/configmaps?watch=1&resourceVersion=0");
    for client in [&clients.watches, &clients.requests] {
        let ask = || client.send(Request::get(&uri).body(Body::empty()).unwrap());
        // Each watch has more data than its window allows, and nobody reads.
        let unread = capped("the watches are open", try_join_all((0..UNREAD).map(|_| ask()))).await.unwrap();
        let everything = async {
            for round in 0..10 {
                write(&clients.requests, &namespace, "small", &round.to_string()).await.unwrap();
                assert!(maps(client, &namespace).list(&ListParams::default()).await.unwrap().items.len() >= 4);
            }
        };
        capped("neighbours are answered", everything).await;
        assert!(unread.iter().all(|response| response.status().is_success() && response.version() == Version::HTTP_2));
    }
}

// Credentials.

/// A token of the operator's ServiceAccount that is valid as long as that Secret exists.
async fn token_bound_to(world: &World, secret: &str) -> String {
    let secrets: Api<Secret> = Api::namespaced(world.admin(), SYSTEM_NAMESPACE);
    let metadata = ObjectMeta { name: Some(secret.to_owned()), ..ObjectMeta::default() };
    let secret = secrets.create(&PostParams::default(), &Secret { metadata, ..Secret::default() }).await.unwrap();
    let bound_object_ref = Some(BoundObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Secret".to_owned()),
        name: secret.metadata.name,
        uid: secret.metadata.uid,
    });
    let spec = Some(TokenRequestSpec { bound_object_ref, ..TokenRequestSpec::default() });
    let accounts: Api<ServiceAccount> = Api::namespaced(world.admin(), SYSTEM_NAMESPACE);
    let request = TokenRequest { spec, ..TokenRequest::default() };
    let answer = accounts.create_token_request(SERVICE_ACCOUNT, &PostParams::default(), &request).await.unwrap();
    answer.status.unwrap().token.unwrap()
}

#[tokio::test]
async fn a_token_that_is_replaced_in_its_file_is_used_when_the_old_one_is_no_longer_valid() {
    let world = World::new().await.unwrap();
    let file = world.plane().state_dir().join("token");
    fs::write(&file, token_bound_to(&world, "first").await).unwrap();
    let kubeconfig = kubeconfig_with(&world, "token-file.kubeconfig", &json!({ "tokenFile": file })).await;
    let rotated = clients(&kubeconfig).await;
    let first = fs::read_to_string(&file).unwrap();
    let stale = clients(&kubeconfig_with(&world, "token.kubeconfig", &json!({ "token": first })).await).await;
    for clients in [&rotated, &stale] {
        assert_eq!(whoami(&clients.requests).await.unwrap(), World::operator_user());
    }

    let next = file.with_extension("next");
    fs::write(&next, token_bound_to(&world, "second").await).unwrap();
    fs::rename(&next, &file).unwrap();
    let secrets: Api<Secret> = Api::namespaced(world.admin(), SYSTEM_NAMESPACE);
    secrets.delete("first", &DeleteParams::default()).await.unwrap();
    world.eventually("the old token is worth nothing", TIMEOUT, async || whoami(&stale.requests).await.is_err()).await.unwrap();

    for client in [&rotated.requests, &rotated.watches] {
        // The file is read again from time to time, not for each request.
        world
            .eventually("the new token is used", TIMEOUT * 3, async || {
                whoami(client).await.map(|name| name == World::operator_user())
            })
            .await
            .unwrap();
    }
    whoami(&stale.requests).await.unwrap_err();
}

#[tokio::test]
async fn an_exec_plugin_is_asked_for_the_token_and_its_requests_travel_over_http2() {
    let world = World::new().await.unwrap();
    let token = token_bound_to(&world, "exec").await;
    let file = world.plane().state_dir().join("credential.json");
    let credential =
        json!({ "apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": { "token": token } });
    fs::write(&file, credential.to_string()).unwrap();
    let exec = json!({
        "apiVersion": "client.authentication.k8s.io/v1", "command": "cat", "args": [file], "interactiveMode": "Never",
    });
    let clients = clients(&kubeconfig_with(&world, "exec.kubeconfig", &json!({ "exec": exec })).await).await;
    assert_eq!(clients.stack, Stack::Http2);
    for client in [&clients.requests, &clients.watches] {
        assert_eq!(whoami(client).await.unwrap(), World::operator_user());
        assert_eq!(version(client).await, Version::HTTP_2);
    }
}

#[tokio::test]
async fn an_authority_that_is_replaced_in_its_file_is_trusted_by_the_next_connection() {
    let plane = ControlPlane::start(Options::default()).await.unwrap();
    if plane.is_external() {
        return;
    }
    let mut both = Vec::new();
    for name in ["followed.crt", "left.crt"] {
        let mut config = config(plane.admin_kubeconfig()).await;
        let file = plane.state_dir().join(name);
        fs::copy(plane.authority().unwrap(), &file).unwrap();
        config.root_cert_file = Some(file.clone());
        both.push((connect(config).unwrap(), file));
    }
    let [(followed, file), (left, _)] = &both[..] else { unreachable!() };
    for clients in [followed, left] {
        write(&clients.requests, "default", "before", "").await.unwrap();
        maps(&clients.watches, "default").list(&ListParams::default()).await.unwrap();
    }
    let authority = plane.change_authority().unwrap();
    fs::copy(authority, file).unwrap();
    plane.kill_apiserver().unwrap();
    plane.start_apiserver().await.unwrap();
    write(&followed.requests, "default", "after", "").await.unwrap();
    maps(&followed.watches, "default").list(&ListParams::default()).await.unwrap();
    let refused = write(&left.requests, "default", "after", "").await.unwrap_err();
    assert!(format!("{:#}", anyhow::anyhow!(refused)).contains("certificate"), "the old authority did not sign it");
}

// Proxies.

/// A proxy that supports CONNECT. Counts the tunnels.
async fn proxy() -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let tunnels = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&tunnels);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let count = Arc::clone(&count);
            tokio::spawn(async move { tunnel(stream, &count).await });
        }
    });
    (url, tunnels)
}

async fn tunnel(stream: TcpStream, count: &AtomicUsize) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut asked = String::new();
    stream.read_line(&mut asked).await?;
    let target = asked.strip_prefix("CONNECT ").and_then(|rest| rest.split(' ').next()).ok_or(std::io::ErrorKind::InvalidData)?;
    let mut header = String::new();
    while stream.read_line(&mut header).await? > 2 {
        header.clear();
    }
    let mut server = TcpStream::connect(target).await?;
    count.fetch_add(1, Ordering::Relaxed);
    stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
    tokio::io::copy_bidirectional(&mut stream, &mut server).await.map(drop)
}

#[tokio::test]
async fn behind_a_proxy_the_operator_works_over_http1_and_says_so() {
    let world = World::new().await.unwrap();
    apply_baseline(&world, PLATFORM, &json!({})).await;
    let (url, tunnels) = proxy().await;
    let kubeconfig = world.operator_kubeconfig().await.unwrap();
    let envs = [("HTTPS_PROXY", url.as_str()), ("NO_PROXY", "")];
    let operator = Operator::start(world.plane(), &kubeconfig, &[], &envs).unwrap();
    protected(&world).await;
    assert!(operator.log().contains("stack=\"http1\" because=\"a proxy is configured\""), "{}", operator.log());
    assert!(tunnels.load(Ordering::Relaxed) >= 3, "one for each watch at least");
}

#[tokio::test]
async fn an_apiserver_that_does_not_speak_http2_is_spoken_to_in_http1() {
    let plane =
        ControlPlane::start(Options { apiserver_args: vec!["--disable-http2-serving=true".to_owned()], ..Options::default() })
            .await
            .unwrap();
    if plane.is_external() {
        return;
    }
    let clients = clients(plane.admin_kubeconfig()).await;
    assert_eq!(clients.stack, Stack::Http2, "it was tried");
    assert_eq!(version(&clients.watches).await, Version::HTTP_11);
    let api = maps(&clients.watches, "default");
    let mut watch = follow(&api, WatchParams::default(), "0").await.unwrap();
    write(&clients.requests, "default", "over-http1", "").await.unwrap();
    let told = async {
        while let Some(event) = watch.try_next().await.unwrap() {
            if matches!(event, WatchEvent::Added(map) if map.name_any() == "over-http1") {
                return;
            }
        }
        panic!("the watch ended");
    };
    capped("the watch tells it", told).await;
}
