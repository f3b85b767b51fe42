//! What others can do to the DNS that egress policies allow: refuse its sources, flood them, forge ports and addresses in them, or use a
//! name that is known.

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, Patch, PatchParams};
use policy_baseline::PolicyBaselineStatus;
use policy_baseline_e2e::{TIMEOUT, World, skipped_without_audit_log};
use serde_json::{Value, json};

use crate::dns::{
    KUBE_SYSTEM, OPENSHIFT_DNS, address, apply, block, daemon_set, found, give_back_kube_system, kube_dns, on_port, openshift,
    pods, refuse_kube_system, slice, with_nameservers,
};
use crate::repair::{PLATFORM, enforcing, protected};
use crate::scene::{
    DENY_EGRESS, Plan, apply_baseline, condition, fence, policies_of, tenant, until_holds, until_only, until_ready, until_status,
    until_status_within, writes_since,
};

/// So many Services look like DNS.
const SERVICES: usize = 100;

fn has_reason(reason: &'static str) -> impl Fn(&PolicyBaselineStatus) -> bool {
    move |status| {
        let condition = condition(status, "DNSCoverage");
        (&*condition.status, &*condition.reason) == ("False", reason)
    }
}

#[tokio::test]
async fn i16_sources_of_dns_that_are_refused_over_a_restart_narrow_no_policy_and_no_tenant_widens_one_meanwhile() {
    let mut world = enforcing(&json!({})).await;
    apply(&world, &kube_dns(&json!({}))).await;
    let cache = json!({ "k8s-app": "node-local-dns" });
    apply(&world, &daemon_set(KUBE_SYSTEM, "node-local-dns", &cache, &json!({}))).await;
    let ip = address(&world, KUBE_SYSTEM, "kube-dns").await;
    let plan = Plan::of(PLATFORM).dns_peer(&pods(KUBE_SYSTEM, &cache)).dns_peer(&block(&ip)).dns_peer(&block("169.254.20.10"));
    let (team, tenant) = protected_with(&world, &plan).await;
    until_status(&world, PLATFORM, "both are found", |status| found(status).len() == 4).await;
    until_ready(&world, PLATFORM).await;

    world.stop_operator().unwrap();
    refuse_kube_system(&world).await;
    let mark = world.audit().ok().map(|audit| audit.mark());
    world.start_operator().await.unwrap();
    let status = until_status(&world, PLATFORM, "what it may not read", has_reason("DNSNotReadable")).await;
    let message = condition(&status, "DNSCoverage").message;
    assert!(message.contains("services in kube-system") && message.contains("stays allowed"), "{message}");
    assert_eq!(condition(&status, "Ready").status, "True");
    // A new namespace gets the same policies.
    let fenced = fence(&world, &plan, &[]).await;
    until_holds(&world, &team, &plan).await;
    if let Some(mark) = mark {
        let writes = writes_since(&world, mark);
        let others = writes.iter().filter(|write| write.resource == "networkpolicies" && write.namespace != fenced);
        assert_eq!(others.count(), 0);
    }
    // A tenant adds an address, and takes all away.
    let api = policies_of(&tenant, &team);
    let anybody = json!([{ "to": [{ "ipBlock": { "cidr": "198.51.100.7/32" } }], "ports": [{ "port": 53, "protocol": "UDP" }] }]);
    for egress in [anybody, json!([])] {
        let patch = Patch::Merge(json!({ "spec": { "egress": egress } }));
        api.patch(DENY_EGRESS, &PatchParams::default(), &patch).await.unwrap();
        until_holds(&world, &team, &plan).await;
    }

    give_back_kube_system(&world);
    until_status(&world, PLATFORM, "nothing any more", |status| condition(status, "DNSCoverage").status == "Unknown").await;
    fence(&world, &plan, &[]).await;
    until_holds(&world, &team, &plan).await;
}

/// A namespace that holds this plan, and a tenant who may edit there.
async fn protected_with(world: &World, plan: &Plan) -> (String, kube::Client) {
    let namespace = world.namespace("team", &[]).await.unwrap();
    let tenant = tenant(world, &[&namespace]).await;
    until_holds(world, &namespace, plan).await;
    (namespace, tenant)
}

#[tokio::test]
async fn i7_services_that_look_like_dns_push_no_real_dns_out_are_told_and_cost_few_writes() {
    if skipped_without_audit_log() {
        return;
    }
    let mut world = World::new().await.unwrap();
    // The DNS of pods: a Service of another name, whose address is the nameserver.
    let mut real = kube_dns(&json!({ "selector": { "app": "real-dns" } }));
    real["metadata"]["name"] = "real-dns".into();
    apply(&world, &real).await;
    let ip = address(&world, KUBE_SYSTEM, "real-dns").await;
    let file = with_nameservers(&[&ip]);
    apply_baseline(&world, PLATFORM, &json!({})).await;
    world.start_operator_with(&[&format!("--resolv-conf={}", file.path().display())]).await.unwrap();
    let plan = Plan::of(PLATFORM).dns_peer(&pods(KUBE_SYSTEM, &json!({ "app": "real-dns" }))).dns_peer(&block(&ip));
    let team = world.namespace("team", &[]).await.unwrap();
    until_holds(&world, &team, &plan).await;
    until_ready(&world, PLATFORM).await;

    let mark = world.audit().unwrap().mark();
    for n in 0..SERVICES {
        let mut fake = kube_dns(&json!({ "selector": { "app": format!("fake-{n}") } }));
        fake["metadata"]["name"] = format!("fake-{n}").into();
        apply(&world, &fake).await;
    }
    let status = until_status_within(&world, PLATFORM, "what does not fit", TIMEOUT * 2, has_reason("DNSLeftOut")).await;
    let dns = status.dns.unwrap();
    assert_eq!((dns.found.len(), usize::try_from(dns.left_out).unwrap()), (64, 2 + 2 * SERVICES - 64));
    let policy = policies_of(&world.admin(), &team).get(DENY_EGRESS).await.unwrap();
    let egress = serde_json::to_value(policy.spec.unwrap().egress.unwrap()).unwrap();
    let to = egress[0]["to"].as_array().unwrap();
    for real in [pods(KUBE_SYSTEM, &json!({ "app": "real-dns" })), block(&ip)] {
        assert!(to.contains(&real), "{egress:#}");
    }
    let writes = writes_since(&world, mark);
    let policies = writes.iter().filter(|write| write.resource == "networkpolicies" && write.namespace == team).count();
    println!("{SERVICES} Services that look like DNS: {policies} writes of the policy");
    // The first two changes at once, and then one in 30 s.
    assert!(policies <= 6, "{policies}");
}

#[tokio::test]
async fn a_namespace_with_the_name_of_openshifts_dns_is_closed_like_any_other_unless_pods_use_it_as_nameserver() {
    let mut world = World::new().await.unwrap();
    // The nameserver of pods leads elsewhere.
    let file = with_nameservers(&["10.96.0.10"]);
    apply_baseline(&world, PLATFORM, &json!({})).await;
    world.start_operator_with(&[&format!("--resolv-conf={}", file.path().display())]).await.unwrap();
    let nameserver = block("10.96.0.10");
    let plan = Plan::of(PLATFORM).dns_peer(&nameserver);
    let team = world.namespace("team", &[]).await.unwrap();
    until_holds(&world, &team, &plan).await;
    world.namespace_named(OPENSHIFT_DNS, &[]).await.unwrap();
    for object in openshift() {
        apply(&world, &object).await;
    }
    let is_noted = |status: &PolicyBaselineStatus| {
        let notes = status.dns.as_ref().map(|dns| dns.notes.join("\n")).unwrap_or_default();
        notes.contains("Service openshift-dns/dns-default is not taken as DNS")
    };
    let status = until_status(&world, PLATFORM, "that it is no DNS", is_noted).await;
    assert!(!status.effective_selector.contains(OPENSHIFT_DNS), "{}", status.effective_selector);
    assert_eq!(condition(&status, "DNSCoverage").reason, "DNSNotExpressible");
    fence(&world, &plan, &[]).await;
    for namespace in [OPENSHIFT_DNS, &team] {
        until_holds(&world, namespace, &plan).await;
    }
    // The baseline may name it: then it is not selected.
    let peer = json!({
        "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": OPENSHIFT_DNS } },
        "podSelector": { "matchLabels": { "dns.operator.openshift.io/daemonset-dns": "default" } },
    });
    apply_baseline(&world, PLATFORM, &json!({ "dns": { "peers": [peer], "ports": [5353] } })).await;
    until_only(&world, OPENSHIFT_DNS, &[]).await;
    let own = pods(OPENSHIFT_DNS, &json!({ "dns.operator.openshift.io/daemonset-dns": "default" }));
    until_holds(&world, &team, &Plan::of(PLATFORM).dns_peer(&own).dns_port(5353).dns_peer(&nameserver)).await;
}

#[tokio::test]
async fn forged_endpoints_open_no_port_that_no_dns_pod_defines_and_no_address_of_the_internet() {
    let world = enforcing(&json!({})).await;
    let (team, _) = protected(&world).await;
    for (name, address, port) in [("own", "10.9.9.53", 1053), ("forged", "10.9.9.54", 6443), ("anywhere", "198.51.100.1", 53)] {
        apply(&world, &slice(name, address, port)).await;
    }
    apply(&world, &kube_dns(&json!({ "selector": {}, "clusterIP": "None" }))).await;
    let (own, forged) = (block("10.9.9.53"), block("10.9.9.54"));
    let plan = Plan::of(PLATFORM).dns_peer(&own).dns_peer(&forged);
    until_holds(&world, &team, &plan).await;
    let status = until_status(&world, PLATFORM, "what is not allowed", has_reason("DNSNotExpressible")).await;
    let message = condition(&status, "DNSCoverage").message;
    assert!(message.contains("198.51.100.1") && message.contains("6443"), "{message}");

    // A pod of DNS that has this address defines the port. The port belongs to this address alone.
    let account =
        json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": "default", "namespace": KUBE_SYSTEM } });
    apply(&world, &account).await;
    let pod: Value = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": "dns-1", "namespace": KUBE_SYSTEM, "labels": { "k8s-app": "kube-dns" } },
        "spec": { "containers": [{ "name": "dns", "image": "dns", "ports": [{ "name": "dns", "containerPort": 1053, "protocol": "UDP" }] }] },
    });
    apply(&world, &pod).await;
    let all: Api<Pod> = Api::namespaced(world.admin(), KUBE_SYSTEM);
    let running = json!({ "status": { "phase": "Running", "podIP": "10.9.9.53", "podIPs": [{ "ip": "10.9.9.53" }] } });
    all.patch_status("dns-1", &PatchParams::default(), &Patch::Merge(running)).await.unwrap();
    until_holds(&world, &team, &plan.dns_rule(&on_port(1053, std::slice::from_ref(&own)))).await;
}
