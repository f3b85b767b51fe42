//! Shared by the suites: baselines as people write them, the expected contents of a namespace, tenants, and fences.
//!
//! A fence is a later action whose result a test can see. What the operator has not done by then was not under way. With a fence, a
//! test shows without a clock that something does not happen.
//! One file: the vocabulary of all suites.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use k8s_openapi::api::authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec};
use k8s_openapi::api::core::v1::Event;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;
use kube::api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::ApiResource;
use kube::{Api, Client, Config, ResourceExt};
use policy_baseline::{PolicyBaseline, PolicyBaselineStatus};
use policy_baseline_e2e::{AuditEntry, AuditMark, SYSTEM_NAMESPACE, TEST_LABEL, TIMEOUT, World, components_on, writes_by};
use serde_json::{Value, json};

pub const DENY_INGRESS: &str = "baseline-default-deny-ingress";
pub const DENY_EGRESS: &str = "baseline-default-deny-egress";
pub const CARVEOUT: &str = "baseline-monitoring-carveout";

// Baselines.

/// The manifest of a baseline. It enforces unless its spec says otherwise.
pub fn baseline(name: &str, spec: &Value) -> String {
    let mut spec = spec.clone();
    if spec.is_object() && spec.get("mode").is_none() {
        spec["mode"] = "Enforce".into();
    }
    let object = json!({
        "apiVersion": "policybaseline.io/v1alpha1", "kind": "PolicyBaseline", "metadata": { "name": name }, "spec": spec,
    });
    object.to_string()
}

/// Applies a baseline. Fields that the spec does not contain go back to their defaults.
/// After a baseline was created, this waits for the next second, so that a namespace that is created then is newer whoever sees it first.
pub async fn apply_baseline(world: &World, name: &str, spec: &Value) {
    world.apply_yaml(&baseline(name, spec)).await.unwrap();
}

/// An untyped API of baselines. So tests can also read a baseline that the operator cannot decode.
pub fn baselines(world: &World) -> Api<DynamicObject> {
    Api::all_with(world.admin(), &ApiResource::erase::<PolicyBaseline>(&()))
}

pub async fn delete_baseline(world: &World, name: &str) {
    baselines(world).delete(name, &DeleteParams::default()).await.unwrap();
}

/// The status of a baseline, once it is for the current generation and the condition of the caller holds.
pub async fn until_status(
    world: &World,
    name: &str,
    what: &str,
    wanted: impl Fn(&PolicyBaselineStatus) -> bool,
) -> PolicyBaselineStatus {
    until_status_within(world, name, what, TIMEOUT, wanted).await
}

/// [`until_status`], for what the operator reports only after some time.
pub async fn until_status_within(
    world: &World,
    name: &str,
    what: &str,
    timeout: Duration,
    wanted: impl Fn(&PolicyBaselineStatus) -> bool,
) -> PolicyBaselineStatus {
    let what = format!("the status of {name} says: {what}");
    let api = baselines(world);
    world
        .eventually(&what, timeout, async || {
            let object = api.get(name).await.map_err(|err| err.to_string())?;
            let status: PolicyBaselineStatus =
                serde_json::from_value(object.data["status"].clone()).map_err(|err| format!("no status: {err}"))?;
            let current = status.observed_generation == object.metadata.generation;
            if current && wanted(&status) {
                return Ok(Some(status));
            }
            Err(format!("generation {:?}\n{}", object.metadata.generation, serde_yaml::to_string(&status).unwrap()))
        })
        .await
        .unwrap()
}

/// The same, until Ready is True and no reconcile is under way.
pub async fn until_ready(world: &World, name: &str) -> PolicyBaselineStatus {
    until_status(world, name, "ready", |status| condition(status, "Ready").status == "True").await
}

/// A condition of a status. A missing condition counts as Unknown.
pub fn condition(status: &PolicyBaselineStatus, kind: &str) -> Condition {
    let found = status.conditions.iter().find(|condition| condition.type_ == kind).cloned();
    found.unwrap_or_else(|| Condition {
        last_transition_time: Time(Timestamp::UNIX_EPOCH),
        message: String::new(),
        observed_generation: None,
        reason: String::new(),
        status: "Unknown".to_owned(),
        type_: kind.to_owned(),
    })
}

// The expected contents of a namespace.

/// An allow that a plan expects. `None` for a direction that it says nothing about. The rule for DNS comes before those of egress.
#[derive(Debug, Clone)]
pub struct PlannedAllow {
    pub name: &'static str,
    pub pods: Value,
    pub ingress: Option<Vec<Value>>,
    pub egress: Option<Vec<Value>>,
}

/// The expected contents of a namespace. They are written out here, not taken from the code under test.
#[derive(Debug, Clone)]
pub struct Plan {
    baseline: String,
    prefix: String,
    dns_ports: Vec<i32>,
    dns_peers: Vec<Value>,
    dns_rules: Vec<Value>,
    scraped: Value,
    labels: BTreeMap<String, String>,
    without: BTreeSet<&'static str>,
    allows: Vec<PlannedAllow>,
    /// Whether each policy has the annotation that records what was asked for. None: both are allowed.
    asked: Option<bool>,
    beside: BTreeSet<String>,
}

impl Plan {
    /// The plan of a baseline with an empty spec.
    pub fn of(baseline: &str) -> Self {
        Self {
            baseline: baseline.to_owned(),
            prefix: "baseline-".to_owned(),
            dns_ports: vec![53],
            dns_peers: Vec::new(),
            dns_rules: Vec::new(),
            scraped: json!([
                { "port": "metrics", "protocol": "TCP" }, { "port": 8080, "protocol": "TCP" }, { "port": 9090, "protocol": "TCP" },
            ]),
            labels: BTreeMap::new(),
            without: BTreeSet::new(),
            allows: Vec::new(),
            asked: Some(false),
            beside: BTreeSet::new(),
        }
    }

    pub fn prefix(mut self, prefix: &str) -> Self {
        prefix.clone_into(&mut self.prefix);
        self
    }

    pub fn dns_port(mut self, port: i32) -> Self {
        self.dns_ports.push(port);
        self
    }

    /// Adds a peer for DNS, after those that were added before.
    pub fn dns_peer(mut self, peer: &Value) -> Self {
        self.dns_peers.push(peer.clone());
        self
    }

    /// Adds a rule for DNS on another port.
    pub fn dns_rule(mut self, rule: &Value) -> Self {
        self.dns_rules.push(rule.clone());
        self
    }

    /// Sets the only port that may be scraped.
    pub fn scrape_port(mut self, port: i32) -> Self {
        self.scraped = json!([{ "port": port, "protocol": "TCP" }]);
        self
    }

    /// Adds a label that each policy has.
    pub fn label(mut self, key: &str, value: &str) -> Self {
        self.labels.insert(key.to_owned(), value.to_owned());
        self
    }

    /// Each policy records what was asked for, because its baseline has a rollout.
    pub fn asked(mut self) -> Self {
        self.asked = Some(true);
        self
    }

    /// A policy may record it or not: its baseline may have a rollout now, or had one before.
    pub fn asked_or_not(mut self) -> Self {
        self.asked = None;
        self
    }

    pub fn without(mut self, role: &'static str) -> Self {
        self.without.insert(role);
        self
    }

    pub fn allow(mut self, allow: PlannedAllow) -> Self {
        self.allows.push(allow);
        self
    }

    /// Adds a policy that belongs to somebody else.
    pub fn beside(mut self, name: &str) -> Self {
        self.beside.insert(name.to_owned());
        self
    }

    pub fn is_of(&self, baseline: &str) -> bool {
        self.baseline == baseline
    }

    /// Role and spec of each policy, by name. The spec is as the API server stores it.
    pub fn policies(&self) -> BTreeMap<String, (&'static str, Value)> {
        let kube_dns = json!({
            "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": "kube-system" } },
            "podSelector": { "matchLabels": { "k8s-app": "kube-dns" } },
        });
        let places: Vec<&Value> = [&kube_dns].into_iter().chain(&self.dns_peers).collect();
        let dns = json!({
            "to": places,
            "ports": self.dns_ports.iter().flat_map(|port| ["UDP", "TCP"].map(|protocol| json!({ "port": port, "protocol": protocol })))
                .collect::<Vec<_>>(),
        });
        let dns: Vec<&Value> = [&dns].into_iter().chain(&self.dns_rules).collect();
        let allows = self.allows.iter().filter_map(|allow| {
            let closed = |role: &str| !self.without.contains(role);
            let ingress = allow.ingress.clone().filter(|_| closed("DefaultDenyIngress"));
            let egress = allow.egress.clone().filter(|_| closed("DefaultDenyEgress"));
            let types = [ingress.as_ref().map(|_| "Ingress"), egress.as_ref().map(|_| "Egress")];
            let types: Vec<&str> = types.into_iter().flatten().collect();
            let mut spec = json!({ "podSelector": allow.pods, "policyTypes": types });
            if let Some(rules) = ingress {
                spec["ingress"] = json!(rules);
            }
            if let Some(rules) = egress {
                spec["egress"] = dns.iter().map(|rule| (*rule).clone()).chain(rules).collect();
            }
            // Where nothing of its directions is closed, it would close them.
            (!types.is_empty()).then(|| (format!("{}allow-{}", self.prefix, allow.name), ("Allow", spec)))
        });
        let allows: Vec<_> = allows.collect();
        let scrape = json!([{ "from": prometheus(), "ports": self.scraped }]);
        let exposing = json!({ "matchLabels": { "monitoring.io/expose-metrics": "true" } });
        [
            ("DefaultDenyIngress", "default-deny-ingress", json!({ "podSelector": {}, "policyTypes": ["Ingress"] })),
            ("DefaultDenyEgress", "default-deny-egress", json!({ "podSelector": {}, "policyTypes": ["Egress"], "egress": dns })),
            (
                "MonitoringCarveout",
                "monitoring-carveout",
                json!({ "podSelector": exposing, "policyTypes": ["Ingress"], "ingress": scrape }),
            ),
        ]
        .into_iter()
        // Where ingress is not closed, the carve-out would close it for the pods that it selects.
        .filter(|(role, ..)| !self.without.contains(role))
        .filter(|(role, ..)| *role != "MonitoringCarveout" || !self.without.contains("DefaultDenyIngress"))
        .map(|(role, suffix, spec)| (format!("{}{suffix}", self.prefix), (role, spec)))
        .chain(allows)
        .collect()
    }

    /// Compares these policies with the plan and the other allowed policies. The error says what differs.
    pub fn compare(&self, found: &[NetworkPolicy]) -> Result<(), String> {
        let planned = self.policies();
        let names: BTreeSet<String> = found.iter().map(ResourceExt::name_any).collect();
        let wanted: BTreeSet<String> = planned.keys().cloned().chain(self.beside.iter().cloned()).collect();
        if names != wanted {
            return Err(format!("holds {names:?}, not {wanted:?}"));
        }
        for policy in found {
            if let Some((role, spec)) = planned.get(&policy.name_any()) {
                self.compare_one(policy, role, spec).map_err(|what| format!("{}: {what}", policy.name_any()))?;
            }
        }
        Ok(())
    }

    fn compare_one(&self, policy: &NetworkPolicy, role: &str, spec: &Value) -> Result<(), String> {
        let stored = serde_json::to_value(&policy.spec).unwrap();
        if &stored != spec {
            return Err(format!("its spec is {stored}"));
        }
        let mut labels: BTreeMap<&str, &str> = self.labels.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        labels.extend([
            ("app.kubernetes.io/managed-by", "policy-baseline"),
            ("policybaseline.io/baseline", self.baseline.as_str()),
            ("policybaseline.io/role", role),
        ]);
        for (key, value) in labels {
            if policy.labels().get(key).map(String::as_str) != Some(value) {
                return Err(format!("its labels are {:?}", policy.labels()));
            }
        }
        let keys = policy.labels().keys().chain(policy.annotations().keys()).filter(|key| key.starts_with("policybaseline.io/"));
        let keys: BTreeSet<&str> = keys.map(String::as_str).collect();
        let mut own = BTreeSet::from(["policybaseline.io/baseline", "policybaseline.io/id", "policybaseline.io/plan"]);
        own.extend(["policybaseline.io/role", "policybaseline.io/about"]);
        if role == "Allow" {
            own.insert("policybaseline.io/allow");
        }
        if !self.labels.is_empty() {
            own.insert("policybaseline.io/keys");
        }
        if self.asked.unwrap_or_else(|| keys.contains("policybaseline.io/asked")) {
            own.insert("policybaseline.io/asked");
        }
        if keys != own {
            return Err(format!("its own keys are {keys:?}"));
        }
        let keys = || policy.labels().keys().chain(policy.annotations().keys());
        if let Some(key) = TRACKING_KEYS.into_iter().find(|key| keys().any(|found| found == key)) {
            return Err(format!("another tool tracks it by {key}"));
        }
        let meta = &policy.metadata;
        if meta.deletion_timestamp.is_some() || !policy.finalizers().is_empty() || !policy.owner_references().is_empty() {
            return Err(format!("it is pinned or going: {:?} {:?}", policy.finalizers(), policy.owner_references()));
        }
        Ok(())
    }
}

/// The keys by which other tools take a policy for their own. The operator takes them away, by a patch after its apply.
const TRACKING_KEYS: [&str; 3] =
    ["app.kubernetes.io/instance", "argocd.argoproj.io/tracking-id", "kustomize.toolkit.fluxcd.io/name"];

/// The default sources of scrapes.
pub fn prometheus() -> Value {
    let labelled = |key: &str| {
        json!({ "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": "monitoring" } },
            "podSelector": { "matchLabels": { key: "prometheus" } } })
    };
    json!([labelled("app"), labelled("app.kubernetes.io/name")])
}

/// Waits until a namespace holds exactly its plan. Returns its policies by name.
pub async fn until_holds(world: &World, namespace: &str, plan: &Plan) -> BTreeMap<String, NetworkPolicy> {
    let what = format!("{namespace} holds exactly its plan");
    let found = world
        .eventually(&what, TIMEOUT, async || {
            let found = world.policies(namespace).await.map_err(|err| format!("{err:#}"))?;
            plan.compare(&found).map(|()| Some(found))
        })
        .await
        .unwrap();
    found.into_iter().map(|policy| (policy.name_any(), policy)).collect()
}

/// Waits until a namespace holds only these policies.
pub async fn until_only(world: &World, namespace: &str, names: &[&str]) {
    let wanted: BTreeSet<String> = names.iter().map(|&name| name.to_owned()).collect();
    world
        .eventually(&format!("{namespace} holds {wanted:?} only"), TIMEOUT, async || {
            let found = world.policies(namespace).await.map_err(|err| format!("{err:#}"))?;
            let found: BTreeSet<String> = found.iter().map(ResourceExt::name_any).collect();
            if found == wanted { Ok(true) } else { Err(format!("it holds {found:?}")) }
        })
        .await
        .unwrap();
}

pub fn version(object: &NetworkPolicy) -> String {
    object.resource_version().unwrap()
}

// Tenants.

/// A client of a user who may edit these namespaces, through the built-in role `edit`.
pub async fn tenant(world: &World, namespaces: &[&str]) -> Client {
    let name = World::unique("tenant");
    let client = world.user(&name, &["tenants"]).await.unwrap();
    for namespace in namespaces {
        let binding = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
            "metadata": { "name": name, "namespace": namespace },
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "edit" },
            "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": name }],
        });
        world.apply_yaml(&binding.to_string()).await.unwrap();
    }
    for namespace in namespaces {
        world
            .eventually("the tenant may edit policies", TIMEOUT, async || {
                can_i(&client, "delete", "networking.k8s.io", "networkpolicies", Some(namespace)).await
            })
            .await
            .unwrap();
    }
    client
}

// Instances of the operator.

/// Gives a user the rights that the shipped roles give the operator's ServiceAccount. The bindings have this name.
pub async fn bind_shipped_roles(world: &World, name: &str, subject: &Value) {
    for (kind, role, its_name, namespace) in [
        ("ClusterRoleBinding", "ClusterRole", "policy-baseline", None),
        ("RoleBinding", "Role", "policy-baseline", Some(SYSTEM_NAMESPACE)),
        ("RoleBinding", "Role", "policy-baseline-dns", Some("kube-system")),
        ("RoleBinding", "Role", "policy-baseline-kubernetes-api", Some("default")),
    ] {
        let binding = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind,
            "metadata": { "name": name, "namespace": namespace, "labels": { TEST_LABEL: "true" } },
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": role, "name": its_name },
            "subjects": [subject],
        });
        world.apply_yaml(&binding.to_string()).await.unwrap();
    }
}

/// Waits until the client may do what an instance does first, in that namespace and in the cluster. A new binding takes a moment.
pub async fn until_may_operate(world: &World, client: &Client, namespace: &str) {
    let may = async || {
        let lease = can_i(client, "create", "coordination.k8s.io", "leases", Some(namespace)).await?;
        Ok::<_, kube::Error>(lease && can_i(client, "list", "networking.k8s.io", "networkpolicies", None).await?)
    };
    world.eventually("an instance has its rights", TIMEOUT, may).await.unwrap();
}

pub async fn can_i(
    client: &Client,
    verb: &str,
    group: &str,
    resource: &str,
    namespace: Option<&str>,
) -> Result<bool, kube::Error> {
    let (resource, subresource) = resource.split_once('/').map_or((resource, None), |(main, sub)| (main, Some(sub)));
    let attributes = ResourceAttributes {
        verb: Some(verb.to_owned()),
        group: Some(group.to_owned()),
        resource: Some(resource.to_owned()),
        subresource: subresource.map(ToOwned::to_owned),
        namespace: namespace.map(ToOwned::to_owned),
        ..ResourceAttributes::default()
    };
    let spec = SelfSubjectAccessReviewSpec { resource_attributes: Some(attributes), ..Default::default() };
    let review = SelfSubjectAccessReview { spec, ..SelfSubjectAccessReview::default() };
    let answer = Api::all(client.clone()).create(&PostParams::default(), &review).await?;
    Ok(answer.status.is_some_and(|status| status.allowed))
}

/// A client from a kubeconfig.
pub async fn client_of(kubeconfig: &Path) -> Client {
    let config = Kubeconfig::read_from(kubeconfig).unwrap();
    Client::try_from(Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await.unwrap()).unwrap()
}

pub fn policies_of(client: &Client, namespace: &str) -> Api<NetworkPolicy> {
    Api::namespaced(client.clone(), namespace)
}

/// Sends a merge patch with that field manager. Returns the stored policy.
pub async fn merge(policies: &Api<NetworkPolicy>, name: &str, manager: &str, patch: &Value) -> NetworkPolicy {
    let params = PatchParams { field_manager: Some(manager.to_owned()), ..PatchParams::default() };
    policies.patch(name, &params, &Patch::Merge(patch)).await.unwrap()
}

/// The events about policies in a namespace, as its tenants see them.
pub async fn events(client: &Client, namespace: &str) -> Vec<Event> {
    let api: Api<Event> = Api::namespaced(client.clone(), namespace);
    let all = api.list(&ListParams::default()).await.unwrap().items;
    all.into_iter().filter(|event| event.involved_object.kind.as_deref() == Some("NetworkPolicy")).collect()
}

/// Waits for an event with that reason about that policy.
pub async fn until_event(world: &World, client: &Client, namespace: &str, reason: &str, policy: &str) -> Event {
    world
        .eventually(&format!("an event {reason} about {policy} in {namespace}"), TIMEOUT, async || {
            let all = events(client, namespace).await;
            let told = |event: &Event| format!("{:?} about {:?}", event.reason, event.involved_object.name);
            let seen: Vec<String> = all.iter().map(told).collect();
            let wanted =
                |event: &Event| event.reason.as_deref() == Some(reason) && event.involved_object.name.as_deref() == Some(policy);
            all.into_iter().find(wanted).map(Some).ok_or_else(|| format!("{seen:?}"))
        })
        .await
        .unwrap()
}

// Fences.

/// Creates a namespace, waits until it is protected, deletes one of its policies and waits until the operator restores it.
///
/// By then the operator has handled everything that happened to namespaces and policies before, and has written the events about it.
/// Returns the namespace.
pub async fn fence(world: &World, plan: &Plan, labels: &[(&str, &str)]) -> String {
    let mark = world.audit().ok().map(|audit| audit.mark());
    let namespace = world.namespace("fence", labels).await.unwrap();
    let before = until_holds(world, &namespace, plan).await;
    let (name, first) = before.first_key_value().unwrap();
    policies_of(&world.admin(), &namespace).delete(name, &DeleteParams::default()).await.unwrap();
    world
        .eventually("the policy that was deleted is restored", TIMEOUT, async || {
            let found = policies_of(&world.admin(), &namespace).get_opt(name).await?;
            Ok::<_, kube::Error>(found.is_some_and(|policy| policy.uid() != first.uid()))
        })
        .await
        .unwrap();
    // The operator writes events one after the other, in the order of the changes.
    until_event(world, &world.admin(), &namespace, "DriftRepaired", name).await;
    if let Some(mark) = mark {
        world
            .eventually("the audit log has caught up", TIMEOUT, async || {
                Ok::<_, String>(policy_writes(&writes_since(world, mark), &namespace).len() > before.len())
            })
            .await
            .unwrap();
    }
    namespace
}

/// The operator's writes since `mark`, except for its Lease and the Events about the state of a baseline. Also leaves out the labels of
/// namespaces if the suites run with all components.
pub fn writes_since(world: &World, mark: AuditMark) -> Vec<AuditEntry> {
    let entries = world.audit().unwrap().since(mark).unwrap();
    let writes = writes_by(&entries, &World::operator_user()).into_iter().filter(|write| !goes_without_saying(write));
    writes.cloned().collect()
}

pub fn goes_without_saying(write: &AuditEntry) -> bool {
    write.resource == "leases" || (components_on() && write.resource == "namespaces") || tells_a_state(write)
}

/// Whether this is an Event about the state of a baseline, such as that of a sentinel which gets its first namespace. `honest_ready` shows
/// how many there are.
pub fn tells_a_state(write: &AuditEntry) -> bool {
    let ends = |end: &str| write.name.ends_with(end);
    write.resource == "events" && (ends(".baselineready") || ends(".baselinenotready"))
}

/// Those of the writes that concern the policies of a namespace.
pub fn policy_writes<'a>(writes: &'a [AuditEntry], namespace: &str) -> Vec<&'a AuditEntry> {
    writes.iter().filter(|write| write.resource == "networkpolicies" && write.namespace == namespace).collect()
}
