//! Egress policies follow the cluster's DNS, wherever it runs, and the status reports it.

use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::rbac::v1::{ClusterRole, RoleBinding};
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use policy_baseline::PolicyBaselineStatus;
use policy_baseline_e2e::{TIMEOUT, World, skipped_without_audit_log};
use serde_json::{Value, json};

use crate::repair::{PLATFORM, enforcing};
use crate::samples::yaml_blocks;
use crate::scene::{
    Plan, apply_baseline, can_i, client_of, condition, fence, until_holds, until_only, until_ready, until_status, writes_since,
};

pub const KUBE_SYSTEM: &str = "kube-system";
pub const OPENSHIFT_DNS: &str = "openshift-dns";

// Clusters, as far as this control plane can imitate them: no DNS runs here.

/// The DNS Service of kubeadm, kind, EKS, AKS, k3s and GKE. `spec` is merged into its spec.
pub fn kube_dns(spec: &Value) -> Value {
    let mut object = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": { "name": "kube-dns", "namespace": KUBE_SYSTEM, "labels": { "k8s-app": "kube-dns" } },
        "spec": {
            "selector": { "k8s-app": "kube-dns" },
            "ports": [
                { "name": "dns", "port": 53, "protocol": "UDP", "targetPort": 53 },
                { "name": "dns-tcp", "port": 53, "protocol": "TCP", "targetPort": 53 },
                { "name": "metrics", "port": 9153, "protocol": "TCP", "targetPort": 9153 },
            ],
        },
    });
    for (key, value) in spec.as_object().unwrap() {
        object["spec"][key] = value.clone();
    }
    object
}

/// A DaemonSet whose pods have these labels.
pub fn daemon_set(namespace: &str, name: &str, labels: &Value, container: &Value) -> Value {
    let mut container = container.clone();
    container["name"] = "dns".into();
    container["image"] = "dns".into();
    json!({
        "apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": { "name": name, "namespace": namespace },
        "spec": {
            "selector": { "matchLabels": labels },
            "template": { "metadata": { "labels": labels }, "spec": { "hostNetwork": false, "containers": [container] } },
        },
    })
}

/// The address of OpenShift's DNS.
pub const OPENSHIFT_ADDRESS: &str = "10.96.53.53";

/// OpenShift's DNS. Its pods listen on 5353, and its Service only names that port.
pub fn openshift() -> [Value; 2] {
    let labels = json!({ "dns.operator.openshift.io/daemonset-dns": "default" });
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": { "name": "dns-default", "namespace": OPENSHIFT_DNS },
        "spec": {
            "selector": labels,
            "clusterIP": OPENSHIFT_ADDRESS,
            "ports": [
                { "name": "dns", "port": 53, "protocol": "UDP", "targetPort": "dns" },
                { "name": "dns-tcp", "port": 53, "protocol": "TCP", "targetPort": "dns-tcp" },
                { "name": "metrics", "port": 9154, "protocol": "TCP", "targetPort": "metrics" },
            ],
        },
    });
    let ports = json!([
        { "name": "dns", "containerPort": 5353, "protocol": "UDP" }, { "name": "dns-tcp", "containerPort": 5353, "protocol": "TCP" },
    ]);
    [service, daemon_set(OPENSHIFT_DNS, "dns-default", &labels, &json!({ "ports": ports }))]
}

/// An EndpointSlice of kube-dns.
pub fn slice(name: &str, address: &str, port: u16) -> Value {
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": { "name": name, "namespace": KUBE_SYSTEM, "labels": { "kubernetes.io/service-name": "kube-dns" } },
        "endpoints": [{ "addresses": [address] }],
        "ports": [{ "name": "dns", "port": port, "protocol": "UDP" }],
    })
}

pub async fn apply(world: &World, object: &Value) {
    world.apply_yaml(&object.to_string()).await.unwrap();
}

/// The address that the API server gave a Service.
pub async fn address(world: &World, namespace: &str, name: &str) -> String {
    let service = Api::<Service>::namespaced(world.admin(), namespace).get(name).await.unwrap();
    service.spec.unwrap().cluster_ip.unwrap()
}

pub fn block(address: &str) -> Value {
    json!({ "ipBlock": { "cidr": format!("{address}/32") } })
}

pub fn pods(namespace: &str, labels: &Value) -> Value {
    json!({
        "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": namespace } },
        "podSelector": { "matchLabels": labels },
    })
}

pub fn on_port(port: u16, peers: &[Value]) -> Value {
    json!({ "to": peers, "ports": [{ "port": port, "protocol": "UDP" }, { "port": port, "protocol": "TCP" }] })
}

/// What the status lists as found: where, and what.
pub fn found(status: &PolicyBaselineStatus) -> Vec<String> {
    let found = status.dns.iter().flat_map(|dns| &dns.found);
    found.map(|found| format!("{}: {}", found.source, found.what)).collect()
}

/// A resolv.conf with these nameservers.
pub fn with_nameservers(addresses: &[&str]) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    let lines = addresses.iter().map(|address| format!("nameserver {address}\n"));
    std::fs::write(file.path(), lines.collect::<String>()).unwrap();
    file
}

/// Takes away the right to read the sources of DNS in kube-system, and with it the right to list the Services of the cluster. The shipped
/// manifests give both back, also before the next test.
pub async fn refuse_kube_system(world: &World) {
    let bindings: Api<RoleBinding> = Api::namespaced(world.admin(), KUBE_SYSTEM);
    bindings.delete("policy-baseline-dns", &DeleteParams::default()).await.unwrap();
    let roles: Api<ClusterRole> = Api::all(world.admin());
    let mut left = roles.get("policy-baseline").await.unwrap().rules.unwrap();
    left.retain(|rule| rule.resource_names.is_some() || rule.resources.as_deref() != Some(&["services".to_owned()]));
    let patch = Patch::Merge(json!({ "rules": left }));
    roles.patch("policy-baseline", &PatchParams::default(), &patch).await.unwrap();
    let may = async || {
        let operator = client_of(&world.operator_kubeconfig().await.unwrap()).await;
        can_i(&operator, "list", "", "services", Some(KUBE_SYSTEM)).await.map(|may| !may)
    };
    world.eventually("the right is gone", TIMEOUT, may).await.unwrap();
}

pub fn give_back_kube_system(world: &World) {
    world.plane().run_kubectl(&["apply", "--server-side", "--force-conflicts", "-k", "manifests/base"]).unwrap();
}

async fn until_found(world: &World, wanted: &[String]) -> PolicyBaselineStatus {
    until_status(world, PLATFORM, &format!("{wanted:?} is found"), |status| found(status) == wanted).await
}

#[tokio::test]
async fn the_address_of_the_dns_service_is_allowed_and_kept_for_a_while_after_it_went() {
    let world = enforcing(&json!({})).await;
    let team = world.namespace("team", &[]).await.unwrap();
    let plan = Plan::of(PLATFORM);
    until_holds(&world, &team, &plan).await;
    let status = until_ready(&world, PLATFORM).await;
    let notes = status.dns.unwrap().notes;
    assert!(notes.iter().any(|note| note.contains("no DNS was found: only pods k8s-app=kube-dns in kube-system")), "{notes:?}");

    apply(&world, &kube_dns(&json!({}))).await;
    let ip = address(&world, KUBE_SYSTEM, "kube-dns").await;
    let plan = plan.dns_peer(&block(&ip));
    until_holds(&world, &team, &plan).await;
    let told = |kept: &str| {
        let source = format!("Service kube-system/kube-dns{kept}");
        [format!("{source}: pods k8s-app=kube-dns in kube-system on port 53"), format!("{source}: {ip}/32 on port 53")]
    };
    let status = until_found(&world, &told("")).await;
    assert_eq!(status.dns.clone().unwrap().notes, [] as [&str; 0]);
    assert_eq!(condition(&status, "DNSCoverage").status, "Unknown", "nothing is said where there is nothing to say");

    let services: Api<Service> = Api::namespaced(world.admin(), KUBE_SYSTEM);
    services.delete("kube-dns", &DeleteParams::default()).await.unwrap();
    until_found(&world, &told(" (gone, kept for 10 minutes)")).await;
    fence(&world, &plan, &[]).await;
    until_holds(&world, &team, &plan).await;
}

#[tokio::test]
async fn the_dns_of_openshift_is_allowed_on_its_own_port_its_namespace_is_left_out_and_static_ignores_all_of_it() {
    let mut world = World::new().await.unwrap();
    let discovering = json!({ "matchExpressions": [{ "key": "static", "operator": "DoesNotExist" }] });
    apply_baseline(&world, PLATFORM, &json!({ "namespaceSelector": discovering })).await;
    let file = with_nameservers(&[OPENSHIFT_ADDRESS]);
    world.start_operator_with(&[&format!("--resolv-conf={}", file.path().display())]).await.unwrap();
    let fixed = json!({ "namespaceSelector": { "matchLabels": { "static": "" } }, "dns": { "discovery": "Static" } });
    apply_baseline(&world, "fixed", &fixed).await;
    let before = world.namespace("team", &[]).await.unwrap();
    until_holds(&world, &before, &Plan::of(PLATFORM).dns_peer(&block(OPENSHIFT_ADDRESS))).await;
    // At first the operator does not know this namespace as that of DNS, as on a cluster during its installation.
    for object in openshift() {
        let namespace = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": OPENSHIFT_DNS } });
        apply(&world, &namespace).await;
        apply(&world, &object).await;
    }
    let own = pods(OPENSHIFT_DNS, &json!({ "dns.operator.openshift.io/daemonset-dns": "default" }));
    let plan = Plan::of(PLATFORM).dns_peer(&own).dns_peer(&block(OPENSHIFT_ADDRESS));
    let plan = plan.dns_rule(&on_port(5353, std::slice::from_ref(&own)));
    until_holds(&world, &before, &plan).await;
    let left_out = |status: &PolicyBaselineStatus| status.effective_selector.contains(OPENSHIFT_DNS);
    until_status(&world, PLATFORM, "the namespace of DNS is left out", left_out).await;
    // The policies that the namespace got before DNS was found there are removed.
    until_only(&world, OPENSHIFT_DNS, &[]).await;

    let with_static = world.namespace("team", &[("static", "")]).await.unwrap();
    until_holds(&world, &with_static, &Plan::of("fixed")).await;
    let status = until_ready(&world, "fixed").await;
    assert!(!left_out(&status), "{}", status.effective_selector);
    let dns = status.dns.clone().unwrap();
    assert_eq!((found(&status), dns.notes.len()), (vec![], 0));
    assert_eq!(serde_json::to_value(dns.discovery).unwrap(), "Static");
}

#[tokio::test]
async fn node_local_dns_is_allowed_by_its_address_and_as_pods() {
    let world = enforcing(&json!({})).await;
    let team = world.namespace("team", &[]).await.unwrap();
    let labels = json!({ "k8s-app": "node-local-dns" });
    let args = json!({ "args": ["-localip", "169.254.20.25,10.96.0.10", "-conf", "/etc/Corefile"] });
    apply(&world, &daemon_set(KUBE_SYSTEM, "node-local-dns", &labels, &args)).await;
    let plan = Plan::of(PLATFORM).dns_peer(&pods(KUBE_SYSTEM, &labels));
    let plan = plan.dns_peer(&block("10.96.0.10")).dns_peer(&block("169.254.20.25"));
    until_holds(&world, &team, &plan).await;
}

#[tokio::test]
async fn dns_pods_on_the_host_network_are_told_with_what_to_do() {
    let world = enforcing(&json!({})).await;
    let team = world.namespace("team", &[]).await.unwrap();
    apply(&world, &kube_dns(&json!({}))).await;
    let ip = address(&world, KUBE_SYSTEM, "kube-dns").await;
    let plan = Plan::of(PLATFORM).dns_peer(&block(&ip));
    until_holds(&world, &team, &plan).await;

    let account =
        json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": "default", "namespace": KUBE_SYSTEM } });
    apply(&world, &account).await;
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": "coredns-1", "namespace": KUBE_SYSTEM, "labels": { "k8s-app": "kube-dns" } },
        "spec": { "hostNetwork": true, "containers": [{ "name": "coredns", "image": "coredns" }] },
    });
    apply(&world, &pod).await;
    let is_told = |status: &PolicyBaselineStatus| condition(status, "DNSCoverage").reason == "DNSNotExpressible";
    let status = until_status(&world, PLATFORM, "it is told", is_told).await;
    let message = condition(&status, "DNSCoverage").message;
    assert!(message.contains("kube-system/kube-dns") && message.contains("spec.dns.peers"), "{message}");
    // Its current addresses are allowed as far as an address can be.
    apply(&world, &slice("kube-dns-1", "10.9.9.7", 53)).await;
    until_holds(&world, &team, &Plan::of(PLATFORM).dns_peer(&block("10.9.9.7")).dns_peer(&block(&ip))).await;

    let all: Api<Pod> = Api::namespaced(world.admin(), KUBE_SYSTEM);
    all.delete("coredns-1", &DeleteParams::default().grace_period(0)).await.unwrap();
    until_status(&world, PLATFORM, "and no more", |status| !is_told(status)).await;
}

#[tokio::test]
async fn a_dns_service_without_a_selector_is_allowed_by_its_endpoints() {
    let world = enforcing(&json!({})).await;
    let team = world.namespace("team", &[]).await.unwrap();
    apply(&world, &kube_dns(&json!({ "selector": {}, "clusterIP": "None" }))).await;
    let is_told =
        |status: &PolicyBaselineStatus| condition(status, "DNSCoverage").message.contains("its endpoints cannot be read");
    until_status(&world, PLATFORM, "nobody can tell where it is", is_told).await;
    apply(&world, &slice("kube-dns-1", "10.9.9.53", 53)).await;
    until_holds(&world, &team, &Plan::of(PLATFORM).dns_peer(&block("10.9.9.53"))).await;
    until_status(&world, PLATFORM, "that is told no more", |status| !is_told(status)).await;
}

#[tokio::test]
async fn the_nameservers_of_the_operators_own_pod_are_allowed() {
    let mut world = World::new().await.unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "search cluster.local\nnameserver 10.96.0.10\nnameserver fd00::a\nnameserver 127.0.0.53\n")
        .unwrap();
    apply_baseline(&world, PLATFORM, &json!({})).await;
    world.start_operator_with(&[&format!("--resolv-conf={}", file.path().display())]).await.unwrap();
    let team = world.namespace("team", &[]).await.unwrap();
    let plan = Plan::of(PLATFORM).dns_peer(&block("10.96.0.10")).dns_peer(&json!({ "ipBlock": { "cidr": "fd00::a/128" } }));
    until_holds(&world, &team, &plan).await;
    let status = until_ready(&world, PLATFORM).await;
    let source = "resolv.conf of the operator";
    assert_eq!(found(&status), [format!("{source}: 10.96.0.10/32 on port 53"), format!("{source}: fd00::a/128 on port 53")]);
    let notes = status.dns.unwrap().notes;
    assert!(notes.len() == 1 && notes[0].contains("127.0.0.53"), "{notes:?}");
}

#[tokio::test]
async fn the_static_example_of_the_page_allows_what_it_says() {
    let mut world = World::new().await.unwrap();
    let [example] = &yaml_blocks(include_str!("../../../docs/dns.md"))[..] else { panic!("one example") };
    world.apply_yaml(example).await.unwrap();
    apply(&world, &kube_dns(&json!({}))).await;
    world.start_operator().await.unwrap();
    let team = world.namespace("team", &[]).await.unwrap();
    let openshift = pods(OPENSHIFT_DNS, &json!({ "dns.operator.openshift.io/daemonset-dns": "default" }));
    let plan = Plan::of("static-dns").dns_peer(&block("169.254.20.10")).dns_peer(&openshift).dns_port(5353);
    until_holds(&world, &team, &plan).await;
    until_ready(&world, "static-dns").await;
}

#[tokio::test]
async fn i2_a_restart_in_a_cluster_with_dns_writes_nothing() {
    if skipped_without_audit_log() {
        return;
    }
    let mut world = enforcing(&json!({})).await;
    apply(&world, &kube_dns(&json!({}))).await;
    apply(&world, &daemon_set(KUBE_SYSTEM, "node-local-dns", &json!({ "k8s-app": "node-local-dns" }), &json!({}))).await;
    let team = world.namespace("team", &[]).await.unwrap();
    let plan = Plan::of(PLATFORM).dns_peer(&pods(KUBE_SYSTEM, &json!({ "k8s-app": "node-local-dns" })));
    let plan = plan.dns_peer(&block(&address(&world, KUBE_SYSTEM, "kube-dns").await)).dns_peer(&block("169.254.20.10"));
    until_holds(&world, &team, &plan).await;
    until_status(&world, PLATFORM, "both are found", |status| found(status).len() == 4).await;
    until_ready(&world, PLATFORM).await;
    world.stop_operator().unwrap();
    let mark = world.audit().unwrap().mark();
    world.start_operator().await.unwrap();
    let fenced = fence(&world, &plan, &[]).await;
    let about =
        writes_since(&world, mark).into_iter().filter(|write| write.resource == "networkpolicies" && write.namespace != fenced);
    assert_eq!(about.count(), 0);
}

#[tokio::test]
async fn i7_a_source_that_may_not_be_read_is_told_once_and_holds_nothing_up() {
    let mut world = World::new().await.unwrap();
    apply(&world, &kube_dns(&json!({}))).await;
    refuse_kube_system(&world).await;
    apply_baseline(&world, PLATFORM, &json!({})).await;
    world.start_operator().await.unwrap();
    let team = world.namespace("team", &[]).await.unwrap();
    until_holds(&world, &team, &Plan::of(PLATFORM)).await;
    let is_noted = |status: &PolicyBaselineStatus| {
        let notes = status.dns.as_ref().map(|dns| dns.notes.join("\n")).unwrap_or_default();
        notes.contains("services in kube-system") && notes.contains("not allowed")
    };
    until_status(&world, PLATFORM, "it says what it may not read", is_noted).await;
    let told = world.operator().unwrap().log().matches("not allowed to list and watch services in kube-system").count();
    assert!(told <= 2, "the watch and the warning of what follows, not each attempt: {told}");

    give_back_kube_system(&world);
    let ip = address(&world, KUBE_SYSTEM, "kube-dns").await;
    until_holds(&world, &team, &Plan::of(PLATFORM).dns_peer(&block(&ip))).await;
    until_status(&world, PLATFORM, "nothing is to be noted", |status| {
        status.dns.as_ref().is_some_and(|dns| dns.notes.is_empty())
    })
    .await;
}
