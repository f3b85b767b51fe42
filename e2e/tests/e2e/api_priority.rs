//! The component `api-priority`: another client fills the API server with slow requests, and the operator works on. Without the component, it starves.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use kube::api::{Api, DeleteParams, PostParams};
use policy_baseline_e2e::{AuditEntry, AuditMark, Options, SYSTEM_NAMESPACE, TIMEOUT, World, repo};
use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::docs::page;
use crate::repair::PLATFORM;
use crate::samples::commands;
use crate::scene::{DENY_INGRESS, Plan, apply_baseline, can_i, policies_of, until_holds, until_ready};
use crate::support::{run, shell};

const COMPONENT: &str = "manifests/components/api-priority";
/// The API server runs 40 requests at once, besides watches and the requests of administrators. The crowd always has more than that.
const LIMITS: [&str; 2] = ["--max-requests-inflight=20", "--max-mutating-requests-inflight=20"];
const USERS: usize = 4;
const REQUESTS_OF_EACH: usize = 25;
/// The most requests that the crowd sends in all.
const MOST: usize = 1_000;
/// The API server gives up a webhook that does not answer the TLS handshake after 10 s, and asks the next. It gives up a write after 34 s.
const WEBHOOKS: usize = 4;

/// Slow requests of other ServiceAccounts. They end with this.
struct Crowd {
    _tasks: JoinSet<()>,
    bystander: Client,
    namespace: String,
}

impl Crowd {
    /// Sends so many requests that some always wait for a seat.
    async fn gather(world: &World) -> Self {
        let namespace = world.namespace("crowd", &[]).await.unwrap();
        let binding = json!({ "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
            "metadata": { "name": "crowd", "namespace": namespace },
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "edit" },
            "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "crowd" }] });
        world.apply_yaml(&binding.to_string()).await.unwrap();
        let mut clients = Vec::new();
        for number in 0..=USERS {
            let user = format!("system:serviceaccount:{namespace}:{number}");
            clients.push(world.plane().user(&user, &["system:serviceaccounts", "crowd"]).await.unwrap());
        }
        let bystander = clients.pop().unwrap();
        let may = async || can_i(&bystander, "create", "", "configmaps", Some(&namespace)).await;
        world.eventually("the crowd has its rights", TIMEOUT, may).await.unwrap();

        let mut tasks = JoinSet::new();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tasks.spawn(async move { while keep_waiting(&listener).await.is_ok() {} });
        world.apply_yaml(&slow(&namespace, port)).await.unwrap();
        let sent = Arc::new(AtomicUsize::new(0));
        for client in clients.iter().flat_map(|client| [client; REQUESTS_OF_EACH]) {
            let (api, sent): (Api<ConfigMap>, _) = (Api::namespaced(client.clone(), &namespace), sent.clone());
            let map = json!({ "metadata": { "generateName": "slow-", "labels": { "slow": "true" } } });
            let map: ConfigMap = serde_json::from_value(map).unwrap();
            let dry = PostParams { dry_run: true, ..PostParams::default() };
            tasks.spawn(async move {
                while sent.fetch_add(1, Ordering::Relaxed) < MOST {
                    drop(api.create(&dry, &map).await);
                }
            });
        }
        let crowd = Self { _tasks: tasks, bystander, namespace };
        crowd.until_it_fills_the_api_server(world).await;
        crowd
    }

    /// Waits until a request of another ServiceAccount gets 429, twice, and requests of the crowd wait for a seat.
    async fn until_it_fills_the_api_server(&self, world: &World) {
        for _ in 0..2 {
            let refused = async || {
                let waiting = waiting(world).await;
                let code = self.code_of_a_bystander().await;
                if waiting > 0.0 && code == Some(429) { Ok(true) } else { Err(format!("{waiting} wait; {code:?}")) }
            };
            world.eventually("the API server has no seat left", TIMEOUT, refused).await.unwrap();
        }
    }

    /// The code of an error. None for an answer.
    async fn code_of_a_bystander(&self) -> Option<u16> {
        let uri = format!("/api/v1/namespaces/{}/configmaps?timeout=2s", self.namespace);
        match self.bystander.request_text(http::Request::get(uri).body(Vec::new()).unwrap()).await {
            Ok(_) => None,
            Err(kube::Error::Api(status)) => Some(status.code),
            Err(other) => panic!("{other:?}"),
        }
    }
}

/// Accepts a connection, and never says anything.
async fn keep_waiting(listener: &TcpListener) -> io::Result<()> {
    let (mut stream, _): (TcpStream, _) = listener.accept().await?;
    tokio::spawn(async move {
        let mut heard = [0; 1024];
        while stream.read(&mut heard).await.is_ok_and(|count| count > 0) {}
    });
    Ok(())
}

/// Webhooks that never answer, for labelled ConfigMaps of one namespace.
fn slow(namespace: &str, port: u16) -> String {
    let webhooks = (0..WEBHOOKS).map(|number| {
        json!({
            "name": format!("slow-{number}.example.com"), "clientConfig": { "url": format!("https://127.0.0.1:{port}/") },
            "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": namespace } },
            "objectSelector": { "matchLabels": { "slow": "true" } },
            "rules": [{ "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"] }],
            "failurePolicy": "Ignore", "timeoutSeconds": 30, "sideEffects": "None", "admissionReviewVersions": ["v1"],
        })
    });
    let webhooks: Vec<_> = webhooks.collect();
    let configuration = json!({ "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
        "metadata": { "name": "slow" }, "webhooks": webhooks });
    configuration.to_string()
}

/// How many requests wait for a seat of the level that all ServiceAccounts share.
async fn waiting(world: &World) -> f64 {
    let metrics = http::Request::get("/metrics").body(Vec::new()).unwrap();
    let metrics = world.admin().request_text(metrics).await.unwrap();
    let is_it = |line: &&str| {
        line.starts_with("apiserver_flowcontrol_current_inqueue_requests{") && line.contains("priority_level=\"workload-low\"")
    };
    metrics.lines().filter(is_it).filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

/// A small API server with a baseline, an operator and a closed namespace.
async fn world(with: bool) -> Option<(World, String)> {
    let mut args: Vec<String> = LIMITS.map(str::to_owned).to_vec();
    args.push("--request-timeout=5m".to_owned());
    let mut world = World::on(Options { apiserver_args: args, ..Options::default() }).await.unwrap();
    if world.plane().is_external() {
        return None;
    }
    if with {
        command(&world, 0);
    } else {
        world.plane().run_kubectl(&["delete", "--ignore-not-found", "-k", COMPONENT]).unwrap();
    }
    apply_baseline(&world, PLATFORM, &json!({})).await;
    world.start_operator().await.unwrap();
    let ns = world.namespace("team", &[]).await.unwrap();
    until_holds(&world, &ns, &Plan::of(PLATFORM)).await;
    until_ready(&world, PLATFORM).await;
    Some((world, ns))
}

/// Runs a command of the page by its number. Returns what it printed.
fn command(world: &World, number: usize) -> String {
    let commands = commands(&page("priority-and-fairness.md"));
    run(shell(world, &commands[number]).current_dir(repo()))
}

/// The requests of the operator that were refused because there was no seat.
fn refused(world: &World, mark: AuditMark) -> Vec<AuditEntry> {
    let entries = world.audit().unwrap().since(mark).unwrap();
    entries.into_iter().filter(|entry| entry.user == World::operator_user() && entry.code == 429).collect()
}

async fn renewed(world: &World) -> Option<Timestamp> {
    let leases: Api<Lease> = Api::namespaced(world.admin(), SYSTEM_NAMESPACE);
    leases.get("policy-baseline").await.unwrap().spec.unwrap().renew_time.map(|time| time.0)
}

async fn until_renewed(world: &World) {
    let before = renewed(world).await;
    world.eventually("the Lease is renewed", TIMEOUT, async || renewed(world).await > before).await.unwrap();
}

#[tokio::test]
async fn with_the_component_a_crowd_that_fills_the_api_server_delays_neither_repairs_nor_the_lease_nor_a_start() {
    let Some((mut world, ns)) = world(true).await else { return };
    let crowd = Crowd::gather(&world).await;
    let mark = world.audit().unwrap().mark();
    let policies = policies_of(&world.admin(), &ns);
    for _ in 0..5 {
        policies.delete(DENY_INGRESS, &DeleteParams::default()).await.unwrap();
        until_holds(&world, &ns, &Plan::of(PLATFORM)).await;
    }
    until_renewed(&world).await;
    until_renewed(&world).await;
    // One that starts lists everything, and takes the Lease.
    world.restart_operator().await.unwrap();
    let new = world.namespace("new", &[]).await.unwrap();
    until_holds(&world, &new, &Plan::of(PLATFORM)).await;
    until_renewed(&world).await;
    crowd.until_it_fills_the_api_server(&world).await;
    assert_eq!(refused(&world, mark), []);
    let seen = command(&world, 1);
    assert!(seen.contains("workload-low") && seen.contains("rejected_requests_total"), "{seen}");
    command(&world, 2);
}

#[tokio::test]
async fn without_the_component_the_same_crowd_keeps_the_policy_away_and_the_lease_from_being_renewed() {
    let Some((world, ns)) = world(false).await else { return };
    let mark = world.audit().unwrap().mark();
    let crowd = Crowd::gather(&world).await;
    let policies = policies_of(&world.admin(), &ns);
    let starves = async || {
        // A seat can become free once: then the policy is back, and is deleted again.
        if policies.get_opt(DENY_INGRESS).await.map_err(|err| err.to_string())?.is_some() {
            policies.delete(DENY_INGRESS, &DeleteParams::default()).await.map_err(|err| err.to_string())?;
        }
        let refused = refused(&world, mark);
        let of = |resource: &str| refused.iter().filter(|entry| entry.resource == resource).count();
        if of("networkpolicies") > 0 && of("leases") > 0 { Ok(true) } else { Err(format!("{refused:?}")) }
    };
    world.eventually("the operator gets 429 for the policy and for its Lease", 2 * TIMEOUT, starves).await.unwrap();
    // When the crowd has gone, it comes back by itself.
    drop(crowd);
    until_holds(&world, &ns, &Plan::of(PLATFORM)).await;
    until_renewed(&world).await;
}
