//! Shared by the suites about namespaces and baselines, in addition to `scene`: teams, ages, histories.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::process::Command;
use std::time::{Duration, Instant};

use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::{DeleteParams, ListParams, ObjectMeta, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use kube::{Api, Resource, ResourceExt};
use policy_baseline::{BaselineOptOut, PolicyBaselineStatus};
use policy_baseline_e2e::{AuditEntry, AuditLog, AuditMark, TIMEOUT, World, writes_by};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::scene::{Plan, apply_baseline, baselines, condition, delete_baseline, fence, goes_without_saying, policies_of};

/// Prints the time since `start`, for the tables in docs/reliability.md.
pub fn took(what: &str, start: Instant) {
    println!("{what}: {} ms", start.elapsed().as_millis());
}

/// A shell for a command that a page shows. kubectl is that of the control plane, as its administrator.
pub fn shell(world: &World, command: &str) -> Command {
    let kubectl = world.plane().kubectl();
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("kubectl() {{ \"$KUBECTL\" \"$@\"; }}; {command}")]).env("KUBECTL", kubectl.get_program());
    shell.envs(kubectl.get_envs().filter_map(|(name, value)| Some((name, value?))));
    shell
}

/// Runs a program, which must succeed. Returns what it wrote to stdout.
pub fn run(program: &mut Command) -> String {
    let output = program.output().unwrap();
    let said = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    assert!(output.status.success(), "{program:?}: {}", said.concat());
    String::from_utf8(output.stdout).unwrap()
}

// Baselines.

/// Deletes the baseline, and returns once it is gone.
pub async fn remove_baseline(world: &World, name: &str) {
    delete_baseline(world, name).await;
    until_no_baseline(world, name).await;
}

/// Waits until a baseline whose policies go with it has the finalizer.
pub async fn until_finalizer(world: &World, name: &str) {
    let has_finalizer = async || baselines(world).get(name).await.map(|object| !object.finalizers().is_empty());
    world.eventually("the baseline has its finalizer", TIMEOUT, has_finalizer).await.unwrap();
}

pub async fn until_no_baseline(world: &World, name: &str) {
    let api = baselines(world);
    let is_gone = async || api.get_opt(name).await.map(|found| found.is_none());
    world.eventually(&format!("baseline {name} is gone"), TIMEOUT, is_gone).await.unwrap();
}

/// The conditions as `Ready=True Protected, Reconciling=False Settled, Stalled=False Valid`. The test control plane has no network plugin,
/// and the status always says so.
pub fn conditions(status: &PolicyBaselineStatus) -> String {
    let others = status.conditions.iter().filter(|condition| condition.type_ != "ExistingNamespacesClosed");
    assert_eq!(others.count(), 4, "{:?}", status.conditions);
    assert_eq!(condition(status, "EnforcementUnknown").reason, "NoPluginKnown");
    let told = ["Ready", "Reconciling", "Stalled"].map(|kind| {
        let found = condition(status, kind);
        assert_eq!(found.observed_generation, status.observed_generation, "{kind}");
        format!("{kind}={} {}", found.status, found.reason)
    });
    told.join(", ")
}

// Namespaces.

/// A label by which a test selects its own namespaces and no other.
pub const TEAM: &str = "e2e.policybaseline.io/team";

/// The selector of one team.
pub fn team(name: &str) -> Value {
    json!({ "matchLabels": { TEAM: name } })
}

pub fn namespaces(world: &World) -> Api<Namespace> {
    Api::all(world.admin())
}

/// Sets a label of the namespace, or removes it if `value` is None.
pub async fn label(world: &World, namespace: &str, key: &str, value: Option<&str>) {
    let patch = Patch::Merge(json!({ "metadata": { "labels": { key: value } } }));
    namespaces(world).patch(namespace, &PatchParams::default(), &patch).await.unwrap();
}

/// Deletes a namespace for the first time. Returns once it is gone. The namespace controller would act only five seconds later, so this
/// function does its work. Do not use it for a second deletion of that name: the controller would act too. It finds its work by name
/// only, and would empty the new namespace.
pub async fn remove_namespace(world: &World, name: &str) {
    finish_namespace(world, name, OptOutsOfGone::Deleted).await;
}

/// What becomes of the opt-outs of a namespace that [`finish_namespace`] deletes.
#[derive(Clone, Copy, Eq, PartialEq)]
pub enum OptOutsOfGone {
    /// They are deleted with the namespace.
    Deleted,
    /// They stay, as when the namespace controller does not know yet that opt-outs exist.
    LeftBehind,
}

/// Deletes a namespace by hand. As with [`remove_namespace`], only for the first deletion of that name.
pub async fn finish_namespace(world: &World, name: &str, opt_outs: OptOutsOfGone) {
    const CONTROLLER_LOOKS: Duration = Duration::from_secs(5);
    let (api, begun) = (namespaces(world), Instant::now());
    api.delete(name, &DeleteParams::default()).await.unwrap();
    // It is terminating now, so nothing new appears in it.
    let all = ListParams::default();
    policies_of(&world.admin(), name).delete_collection(&DeleteParams::default(), &all).await.unwrap();
    if opt_outs == OptOutsOfGone::Deleted {
        let api = Api::<BaselineOptOut>::namespaced(world.admin(), name);
        api.delete_collection(&DeleteParams::default(), &all).await.unwrap();
    }
    let mut going = api.get(name).await.unwrap();
    going.spec.get_or_insert_default().finalizers = None;
    if begun.elapsed() < CONTROLLER_LOOKS / 2 {
        let request = http::Request::put(format!("/api/v1/namespaces/{name}/finalize")).body(serde_json::to_vec(&going).unwrap());
        world.admin().request::<Namespace>(request.unwrap()).await.unwrap();
    }
    until_gone(world, name).await;
}

/// Waits until a deleted namespace is gone.
pub async fn until_gone(world: &World, name: &str) {
    let api = namespaces(world);
    let is_gone = async || api.get_opt(name).await.map(|found| found.is_none());
    world.eventually(&format!("namespace {name} is gone"), TIMEOUT, is_gone).await.unwrap();
}

/// Waits for the next second of the API server's clock. So every object that is created afterwards is younger than every existing one.
pub async fn a_second_later(world: &World) {
    let before = world.server_time().await.unwrap();
    let is_later = async || world.server_time().await.map(|now| now > before);
    world.eventually("another second", TIMEOUT, is_later).await.unwrap();
}

// Policies.

/// The uid of each policy.
pub fn uids(policies: &BTreeMap<String, NetworkPolicy>) -> BTreeMap<&str, String> {
    policies.iter().map(|(name, policy)| (name.as_str(), policy.uid().unwrap())).collect()
}

/// The uid and the resourceVersion of each policy.
pub fn versions(policies: &BTreeMap<String, NetworkPolicy>) -> BTreeMap<&str, (String, String)> {
    let version = |policy: &NetworkPolicy| (policy.uid().unwrap(), policy.resource_version().unwrap());
    policies.iter().map(|(name, policy)| (name.as_str(), version(policy))).collect()
}

/// All policies of a namespace, by name.
pub async fn stored(world: &World, namespace: &str) -> BTreeMap<String, NetworkPolicy> {
    let all = world.policies(namespace).await.unwrap();
    all.into_iter().map(|policy| (policy.name_any(), policy)).collect()
}

/// A watch from this version that goes on when it ends. The API server may end any watch at any time without an error, for example when
/// its own watch of etcd begins again. Then a client asks for what came after the last event.
pub async fn follow<K>(
    api: &Api<K>,
    params: WatchParams,
    version: &str,
) -> kube::Result<BoxStream<'static, kube::Result<WatchEvent<K>>>>
where
    K: Clone + Debug + DeserializeOwned + Resource + Send + 'static,
{
    let events = api.watch(&params, version).await?.boxed();
    let start = (api.clone(), params, version.to_owned(), events);
    let next = async |(api, params, mut version, mut events): (Api<K>, WatchParams, String, BoxStream<'static, _>)| loop {
        let Some(event) = events.try_next().await? else {
            events = api.watch(&params, &version).await?.boxed();
            continue;
        };
        let seen = match &event {
            WatchEvent::Added(object) | WatchEvent::Modified(object) | WatchEvent::Deleted(object) => object.resource_version(),
            WatchEvent::Bookmark(bookmark) => Some(bookmark.metadata.resource_version.clone()),
            WatchEvent::Error(_) => None,
        };
        version = seen.unwrap_or(version);
        return Ok(Some((event, (api, params, version, events))));
    };
    Ok(stream::try_unfold(start, next).boxed())
}

/// Every state of the policies of a namespace, as the test's own watch sees them.
pub struct History {
    api: Api<NetworkPolicy>,
    now: BTreeMap<String, NetworkPolicy>,
    events: BoxStream<'static, kube::Result<WatchEvent<NetworkPolicy>>>,
}

impl History {
    pub async fn record(world: &World, namespace: &str) -> Self {
        let api = policies_of(&world.admin(), namespace);
        let list = api.list(&ListParams::default()).await.unwrap();
        let version = list.metadata.resource_version.as_deref().unwrap();
        let events = follow(&api, WatchParams::default(), version).await.unwrap();
        let now = list.items.into_iter().map(|policy| (policy.name_any(), policy)).collect();
        Self { api, now, events }
    }

    /// The policies by name at each moment until now: at the start, and after each event.
    pub async fn moments(mut self) -> Vec<BTreeMap<String, NetworkPolicy>> {
        const END: &str = "the-end";
        let metadata = ObjectMeta { name: Some(END.to_owned()), ..ObjectMeta::default() };
        self.api.create(&PostParams::default(), &NetworkPolicy { metadata, ..NetworkPolicy::default() }).await.unwrap();
        let mut moments = vec![self.now.clone()];
        let until_the_end = async {
            while let Some(event) = self.events.try_next().await? {
                match event {
                    WatchEvent::Added(policy) if policy.name_any() == END => return anyhow::Ok(()),
                    WatchEvent::Added(policy) | WatchEvent::Modified(policy) => {
                        self.now.insert(policy.name_any(), policy);
                    }
                    WatchEvent::Deleted(policy) => {
                        self.now.remove(&policy.name_any());
                    }
                    other => anyhow::bail!("{other:?}"),
                }
                moments.push(self.now.clone());
            }
            anyhow::bail!("the watch ended")
        };
        tokio::time::timeout(TIMEOUT, until_the_end).await.unwrap().unwrap();
        self.api.delete(END, &DeleteParams::default()).await.unwrap();
        moments
    }
}

/// The roles of our policies.
pub fn roles(policies: &BTreeMap<String, NetworkPolicy>) -> BTreeSet<&str> {
    policies.values().filter_map(|policy| policy.labels().get("policybaseline.io/role").map(String::as_str)).collect()
}

// Fences and writes.

/// A fence with a baseline of its own. That baseline has the highest priority and selects only the fence's namespace. So the operator
/// has also seen everything that happened to baselines before. Returns the namespace.
pub async fn fence_of_its_own(world: &World) -> String {
    const FENCE: &str = "e2e.policybaseline.io/fence";
    let name = World::unique("fence");
    let selector = json!({ "matchLabels": { FENCE: name } });
    apply_baseline(world, &name, &json!({ "priority": i32::MAX, "namespaceSelector": selector })).await;
    fence(world, &Plan::of(&name), &[(FENCE, &name)]).await
}

/// The writes of the operator from now on, except for its Lease.
pub struct Writes {
    log: AuditLog,
    mark: AuditMark,
}

impl Writes {
    pub fn from_now(world: &World) -> Self {
        let log = world.audit().unwrap();
        Self { mark: log.mark(), log }
    }

    pub fn all(&self) -> Vec<AuditEntry> {
        let entries = self.log.since(self.mark).unwrap();
        let writes = writes_by(&entries, &World::operator_user()).into_iter().filter(|write| !goes_without_saying(write));
        writes.cloned().collect()
    }

    pub fn deletes(&self) -> Vec<AuditEntry> {
        self.all().into_iter().filter(|write| write.verb.starts_with("delete")).collect()
    }

    /// Writes of any kind, in one namespace.
    pub fn inside(&self, namespace: &str) -> Vec<AuditEntry> {
        self.all().into_iter().filter(|write| write.namespace == namespace).collect()
    }

    /// Writes of policies, in any namespace.
    pub fn of_policies(&self) -> Vec<AuditEntry> {
        self.all().into_iter().filter(|write| write.resource == "networkpolicies").collect()
    }
}
