//! Tests of the harness itself: the properties on which the other suites rely.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use k8s_openapi::api::authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, ResourceQuota, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client};
use policy_baseline_e2e::{ControlPlane, Options, TIMEOUT, World, eventually, pool, process, world, writes_by};
use serde::Deserialize;
use serde_json::json;

use crate::scene::baselines;

#[tokio::test]
async fn the_control_plane_is_the_pinned_version() {
    let world = World::bare().await.unwrap();
    let version = world.admin().apiserver_version().await.unwrap();
    assert_eq!((version.major.as_str(), version.minor.as_str()), ("1", "36"));
    if !world.plane().is_external() {
        assert_eq!(version.git_version, "v1.36.3");
        println!("up in {:?}", world.plane().start_time());
    }
    let said = world.plane().run_kubectl(&["get", "namespace", "default", "-o", "name"]).unwrap();
    assert_eq!(said.trim(), "namespace/default");
}

#[tokio::test]
async fn a_deleted_namespace_goes_with_what_is_in_it() {
    let world = World::bare().await.unwrap();
    let name = world.namespace("gone", &[("tier", "prod")]).await.unwrap();
    let policies: Api<NetworkPolicy> = Api::namespaced(world.admin(), &name);
    world.apply_yaml(&policy(&name, "p")).await.unwrap();
    assert_eq!(world.policies(&name).await.unwrap().len(), 1);

    let namespaces: Api<Namespace> = Api::all(world.admin());
    assert_eq!(namespaces.get(&name).await.unwrap().metadata.labels.unwrap()["tier"], "prod");
    namespaces.delete(&name, &DeleteParams::default()).await.unwrap();
    world
        .eventually("the namespace is gone", TIMEOUT, async || namespaces.get_opt(&name).await.map(|ns| ns.is_none()))
        .await
        .unwrap();
    assert!(policies.get_opt("p").await.unwrap().is_none());
}

#[tokio::test]
async fn a_service_account_may_do_what_rbac_gives_it() {
    let world = World::bare().await.unwrap();
    let ns = world.namespace("sa", &[]).await.unwrap();
    world
        .apply_yaml(&format!(
            "
apiVersion: v1
kind: ServiceAccount
metadata: {{ name: robot, namespace: {ns} }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {{ name: robot, namespace: {ns} }}
rules: [{{ apiGroups: [''], resources: [configmaps], verbs: [create, get] }}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {{ name: robot, namespace: {ns} }}
roleRef: {{ apiGroup: rbac.authorization.k8s.io, kind: Role, name: robot }}
subjects: [{{ kind: ServiceAccount, name: robot, namespace: {ns} }}]
"
        ))
        .await
        .unwrap();
    let kubeconfig = world.plane().service_account_kubeconfig(&ns, "robot").await.unwrap();
    let robot = client(&kubeconfig).await;
    world
        .eventually("the role reaches the authorizer", TIMEOUT, async || can_i(&robot, "create", "configmaps", &ns).await)
        .await
        .unwrap();
    assert!(!can_i(&robot, "delete", "configmaps", &ns).await.unwrap());
    assert!(!can_i(&robot, "create", "configmaps", "default").await.unwrap());
}

#[tokio::test]
async fn a_user_whom_nobody_knows_is_refused() {
    let world = World::bare().await.unwrap();
    let stranger = world.user("stranger", &["strangers"]).await.unwrap();
    let maps: Api<ConfigMap> = Api::namespaced(stranger.clone(), "default");
    let Err(kube::Error::Api(status)) = maps.get("kube-root-ca.crt").await else { panic!("a stranger may read") };
    assert_eq!(status.code, 403);
    assert!(status.message.contains(r#"User "stranger" cannot get resource "configmaps""#), "{}", status.message);

    let refused = world::apply_yaml(&stranger, &policy("default", "mine")).await.unwrap_err();
    assert!(refused.starts_with("networkpolicies.networking.k8s.io \"mine\" is forbidden: "), "{refused}");
}

#[tokio::test]
async fn the_garbage_collector_takes_what_has_no_owner() {
    let world = World::bare().await.unwrap();
    let ns = world.namespace("gc", &[]).await.unwrap();
    world.apply_yaml(&policy(&ns, "p")).await.unwrap();
    let policies: Api<NetworkPolicy> = Api::namespaced(world.admin(), &ns);
    let owner = json!({ "apiVersion": "v1", "kind": "ConfigMap", "name": "none", "uid": "00000000-0000-0000-0000-000000000001" });
    let patch = Patch::Merge(json!({ "metadata": { "ownerReferences": [owner] } }));
    policies.patch("p", &PatchParams::default(), &patch).await.unwrap();
    world
        .eventually("the orphan is collected", TIMEOUT, async || policies.get_opt("p").await.map(|found| found.is_none()))
        .await
        .unwrap();
}

#[tokio::test]
async fn the_audit_log_tells_who_wrote_what() {
    let world = World::bare().await.unwrap();
    let Ok(audit) = world.audit() else { return };
    let ns = world.namespace("audit", &[]).await.unwrap();
    let mark = audit.mark();
    world.apply_yaml(&policy(&ns, "p")).await.unwrap();
    world.policies(&ns).await.unwrap();
    let entries = audit.since(mark).unwrap();
    let [write] = writes_by(&entries, "admin")[..] else { panic!("{entries:#?}") };
    assert_eq!(
        (write.verb.as_str(), write.api_group.as_str(), write.resource.as_str(), write.code),
        ("patch", "networking.k8s.io", "networkpolicies", 201)
    );
    assert_eq!((write.namespace.as_str(), write.name.as_str(), write.subresource.as_str()), (ns.as_str(), "p", ""));
    assert!(write.uri.contains("fieldManager=e2e"), "{}", write.uri);
    assert!(entries.iter().any(|entry| entry.verb == "list" && entry.resource == "networkpolicies" && !entry.is_write()));
    assert!(audit.since(audit.mark()).unwrap().is_empty());
}

#[tokio::test]
async fn a_quota_refuses_one_policy_too_many() {
    let world = World::bare().await.unwrap();
    let ns = world.namespace("quota", &[]).await.unwrap();
    world
        .apply_yaml(&format!(
            "
apiVersion: v1
kind: ResourceQuota
metadata: {{ name: few, namespace: {ns} }}
spec: {{ hard: {{ count/networkpolicies.networking.k8s.io: '1' }} }}
"
        ))
        .await
        .unwrap();
    let quotas: Api<ResourceQuota> = Api::namespaced(world.admin(), &ns);
    world
        .eventually("the quota is in force", TIMEOUT, async || {
            quotas.get("few").await.map(|quota| quota.status.and_then(|status| status.used))
        })
        .await
        .unwrap();
    world.apply_yaml(&policy(&ns, "first")).await.unwrap();
    let refused = world.try_apply_yaml(&policy(&ns, "second")).await.unwrap_err();
    assert!(refused.contains("exceeded quota: few"), "{refused}");
}

#[tokio::test]
async fn a_mutating_admission_policy_works() {
    let world = World::bare().await.unwrap();
    let ns = world.namespace("mutated", &[]).await.unwrap();
    world
        .apply_yaml(&format!(
            "
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingAdmissionPolicy
metadata: {{ name: {ns} }}
spec:
  matchConstraints:
    namespaceSelector: {{ matchLabels: {{ kubernetes.io/metadata.name: {ns} }} }}
    resourceRules:
    - {{ apiGroups: [networking.k8s.io], apiVersions: [v1], operations: [CREATE, UPDATE], resources: [networkpolicies] }}
  failurePolicy: Fail
  reinvocationPolicy: Never
  mutations:
  - patchType: ApplyConfiguration
    applyConfiguration: {{ expression: 'Object{{metadata: Object.metadata{{labels: {{\"mutated\": \"yes\"}}}}}}' }}
---
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingAdmissionPolicyBinding
metadata: {{ name: {ns} }}
spec: {{ policyName: {ns} }}
"
        ))
        .await
        .unwrap();
    let policies: Api<NetworkPolicy> = Api::namespaced(world.admin(), &ns);
    world
        .eventually("the policy is in force", TIMEOUT, async || {
            let new: NetworkPolicy = serde_yaml::from_str(&policy(&ns, &World::unique("p")))?;
            let labels = policies.create(&PostParams::default(), &new).await?.metadata.labels;
            anyhow::Ok(labels.is_some_and(|labels| labels.contains_key("mutated")))
        })
        .await
        .unwrap();
}

#[tokio::test]
async fn a_swept_control_plane_is_as_new() {
    let before = objects(&pool::acquire().await.unwrap());
    for _ in 0..2 {
        let world = World::bare().await.unwrap();
        assert_eq!(objects(world.plane()), before);
        let ns = world.namespace("left", &[]).await.unwrap();
        for (namespace, name) in [(ns.as_str(), "a"), ("default", "b"), ("kube-system", "c")] {
            world.apply_yaml(&policy(namespace, name)).await.unwrap();
        }
        let policies: Api<NetworkPolicy> = Api::namespaced(world.admin(), &ns);
        let pin = Patch::Merge(json!({ "metadata": { "finalizers": ["e2e.policybaseline.io/pin"] } }));
        policies.patch("a", &PatchParams::default(), &pin).await.unwrap();
        let namespaces: Api<Namespace> = Api::all(world.admin());
        namespaces.delete(&ns, &DeleteParams::default()).await.unwrap();
        let dns = "{ apiVersion: v1, kind: Service, metadata: { name: kube-dns, namespace: kube-system }, spec: { ports: [{ port: 53 }] } }";
        world.apply_yaml(dns).await.unwrap();
    }
    assert_eq!(objects(&pool::acquire().await.unwrap()), before);
}

#[tokio::test]
async fn an_apiserver_that_was_killed_comes_back_with_its_state() {
    let plane = ControlPlane::start(Options::default()).await.unwrap();
    if plane.is_external() {
        assert!(plane.kill_apiserver().is_err());
        return;
    }
    let accounts: Api<ServiceAccount> = Api::namespaced(plane.admin().await.unwrap(), "default");
    let uid = accounts.get("default").await.unwrap().metadata.uid;
    plane.kill_apiserver().unwrap();
    accounts.get("default").await.unwrap_err();
    plane.start_apiserver().await.unwrap();
    assert_eq!(accounts.get("default").await.unwrap().metadata.uid, uid);
    plane.stop_apiserver().unwrap();
    plane.start_apiserver().await.unwrap();
    let state = plane.state_dir().to_owned();
    let pids = plane.pids();
    drop(plane);
    assert_eq!(living(&pids), [""; 0]);
    assert!(!state.exists());
}

#[tokio::test]
async fn an_apiserver_that_was_killed_serves_custom_kinds_when_it_is_back() {
    let world = World::new().await.unwrap();
    if world.plane().is_external() {
        return;
    }
    for _ in 0..5 {
        world.plane().kill_apiserver().unwrap();
        world.plane().start_apiserver().await.unwrap();
        baselines(&world).list(&ListParams::default()).await.unwrap();
    }
}

#[tokio::test]
async fn nothing_outlives_a_harness_that_is_killed() {
    let up = Up::start();
    process::kill(up.harness).unwrap();
    eventually("every process is gone", TIMEOUT, async || all_gone(&up.pids)).await.unwrap();
    let state = Path::new(&up.about.state_dir);
    eventually("the state is gone", TIMEOUT, async || !state.exists()).await.unwrap();
}

#[tokio::test]
async fn nothing_outlives_a_guard_that_is_killed() {
    if Command::new("setpriv").arg("--version").stdout(Stdio::null()).status().is_err() {
        return; // The kernel's parent death signal is set through setpriv.
    }
    let up = Up::start();
    process::kill(up.pids["kube-apiserver-guard"]).unwrap();
    let apiserver = up.pids["kube-apiserver"];
    eventually("the apiserver is gone", TIMEOUT, async || !process::alive(apiserver)).await.unwrap();
}

/// `e2e-up` in a process of its own.
struct Up {
    child: std::process::Child,
    harness: u32,
    about: About,
    pids: BTreeMap<String, u32>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct About {
    state_dir: String,
    pids: BTreeMap<String, u32>,
}

impl Up {
    fn start() -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_e2e-up"));
        command.args(["--json", "--until-eof"]).env_remove("E2E_KUBECONFIG").env_remove("E2E_KEEP");
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let about: About = serde_json::from_str(&line).unwrap();
        let pids = about.pids.clone();
        assert_eq!(pids.len(), 6, "{pids:?}");
        assert_eq!(living(&pids).len(), 6);
        Self { harness: child.id(), child, about, pids }
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

fn living(pids: &BTreeMap<String, u32>) -> Vec<&str> {
    pids.iter().filter(|&(_, &pid)| process::alive(pid)).map(|(name, _)| name.as_str()).collect()
}

fn all_gone(pids: &BTreeMap<String, u32>) -> Result<bool, String> {
    let living = living(pids);
    if living.is_empty() { Ok(true) } else { Err(format!("{living:?} run")) }
}

fn policy(namespace: &str, name: &str) -> String {
    format!(
        "{{ apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, \
         metadata: {{ name: {name}, namespace: {namespace} }}, spec: {{ podSelector: {{}} }} }}"
    )
}

/// The objects of a control plane, by kind and name.
fn objects(plane: &ControlPlane) -> Vec<String> {
    let kinds = "namespaces,networkpolicies,services,serviceaccounts,configmaps,resourcequotas,leases,clusterroles,crds";
    let names = "custom-columns=N:.metadata.namespace,K:.kind,NAME:.metadata.name";
    let said = plane.run_kubectl(&["get", kinds, "-A", "--no-headers", "-o", names]).unwrap();
    let mut all: Vec<String> = said.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    // The name of the API server's own Lease differs in each process.
    all.retain(|line| !line.contains(" Lease apiserver-"));
    all.sort();
    all
}

async fn client(kubeconfig: &Path) -> Client {
    let config = Kubeconfig::read_from(kubeconfig).unwrap();
    Client::try_from(kube::Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await.unwrap()).unwrap()
}

async fn can_i(client: &Client, verb: &str, resource: &str, namespace: &str) -> kube::Result<bool> {
    let attributes = ResourceAttributes {
        verb: Some(verb.to_owned()),
        resource: Some(resource.to_owned()),
        namespace: Some(namespace.to_owned()),
        ..ResourceAttributes::default()
    };
    let spec = SelfSubjectAccessReviewSpec { resource_attributes: Some(attributes), ..Default::default() };
    let review = SelfSubjectAccessReview { spec, ..SelfSubjectAccessReview::default() };
    let answer = Api::all(client.clone()).create(&PostParams::default(), &review).await?;
    Ok(answer.status.is_some_and(|status| status.allowed))
}

#[test]
fn waiting_has_a_cap_and_says_for_what() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let never = async || Err::<bool, _>("the sky is up");
    let late = runtime.block_on(eventually("the sky falls", Duration::from_millis(60), never)).unwrap_err();
    assert_eq!(late.to_string(), "the sky falls: not within 60ms; last seen: the sky is up");
}
