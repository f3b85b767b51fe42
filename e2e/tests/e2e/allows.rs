//! Named allows: one policy for each, in the namespaces that it is for, and never where it would close something.
//! One file: the tests share their allows.

use std::collections::BTreeSet;

use k8s_openapi::{
    api::{core::v1::Service, discovery::v1::EndpointSlice, networking::v1::NetworkPolicy, rbac::v1::RoleBinding},
    jiff::{SignedDuration, Timestamp},
};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams, PostParams},
};
use policy_baseline_e2e::{Operator, SYSTEM_NAMESPACE, TIMEOUT, World, repo, skipped_without_audit_log};
use serde_json::{Value, json};

use crate::opt_outs::opt_out;
use crate::scene::{
    CARVEOUT, DENY_EGRESS, DENY_INGRESS, apply_baseline, baseline, client_of, condition, merge, policies_of, policy_writes,
    until_event, until_only, until_ready, until_status, writes_since,
};

const PLATFORM: &str = "platform";
const SAME: &str = "baseline-allow-same-namespace";
const WEB: &str = "baseline-allow-web";
const API: &str = "baseline-allow-kubernetes-api";

fn same_namespace() -> Value {
    json!({ "name": "same-namespace", "ingress": [{ "from": [{ "sameNamespace": {} }] }], "egress": [{ "to": [{ "sameNamespace": {} }] }] })
}

/// Pods with a label may be reached by an ingress controller, in namespaces of production.
fn web() -> Value {
    let controller = json!({
        "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": "ingress-nginx" } },
        "podSelector": { "matchLabels": { "app.kubernetes.io/name": "ingress-nginx" } },
    });
    json!({
        "name": "web", "podSelector": { "matchLabels": { "expose": "web" } }, "namespaceSelector": { "matchLabels": { "tier": "prod" } },
        "ingress": [{ "from": [controller], "ports": [{ "port": "http" }, { "port": 8080 }] }],
    })
}

fn kubernetes_api() -> Value {
    json!({
        "name": "kubernetes-api", "podSelector": { "matchLabels": { "policybaseline.io/needs-kubernetes-api": "true" } },
        "egress": [{ "to": [{ "kubernetesAPI": {} }] }],
    })
}

async fn started(spec: &Value) -> World {
    let mut world = World::new().await.unwrap();
    apply_baseline(&world, PLATFORM, spec).await;
    world.start_operator().await.unwrap();
    world
}

async fn policy(world: &World, ns: &str, name: &str) -> NetworkPolicy {
    policies_of(&world.admin(), ns).get(name).await.unwrap()
}

async fn spec_of(world: &World, ns: &str, name: &str) -> Value {
    serde_json::to_value(policy(world, ns, name).await.spec).unwrap()
}

/// Waits until a policy has these types.
async fn until_types(world: &World, ns: &str, name: &str, wanted: &[&str]) {
    let what = format!("{ns}/{name} is about {wanted:?}");
    let types = async || {
        let found = policies_of(&world.admin(), ns).get_opt(name).await.map_err(|error| error.to_string())?;
        let types = found.and_then(|policy| policy.spec?.policy_types).unwrap_or_default();
        if types == wanted { Ok(true) } else { Err(format!("{types:?}")) }
    };
    world.eventually(&what, TIMEOUT, types).await.unwrap();
}

/// Runs a subcommand of the operator as its ServiceAccount. Returns what it printed.
async fn printed(world: &World, args: &[&str]) -> String {
    let mut command = std::process::Command::new(Operator::binary().unwrap());
    command.args(args).env("NO_PROXY", "127.0.0.1,localhost");
    command.env("KUBECONFIG", world.operator_kubeconfig().await.unwrap()).env("POD_NAMESPACE", SYSTEM_NAMESPACE);
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
}

#[tokio::test]
async fn an_allow_is_a_policy_in_each_namespace_that_it_is_for_and_in_no_other() {
    let world = started(&json!({ "allows": [same_namespace(), web()] })).await;
    let production = world.namespace("prod", &[("tier", "prod")]).await.unwrap();
    let other = world.namespace("other", &[]).await.unwrap();
    until_only(&world, &production, &[DENY_INGRESS, DENY_EGRESS, CARVEOUT, SAME, WEB]).await;
    until_only(&world, &other, &[DENY_INGRESS, DENY_EGRESS, CARVEOUT, SAME]).await;
    let found = policy(&world, &production, WEB).await;
    assert_eq!(
        serde_json::to_value(&found.spec).unwrap(),
        json!({
            "podSelector": { "matchLabels": { "expose": "web" } }, "policyTypes": ["Ingress"],
            "ingress": [{
                "from": [{
                    "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": "ingress-nginx" } },
                    "podSelector": { "matchLabels": { "app.kubernetes.io/name": "ingress-nginx" } },
                }],
                "ports": [{ "port": "http", "protocol": "TCP" }, { "port": 8080, "protocol": "TCP" }],
            }],
        })
    );
    let label = |key: &str| found.labels().get(key).map(String::as_str);
    let labels = [label("policybaseline.io/role"), label("policybaseline.io/allow"), label("app.kubernetes.io/managed-by")];
    assert_eq!(labels, [Some("Allow"), Some("web"), Some("policy-baseline")]);
    until_status(&world, PLATFORM, "both are protected", |status| status.namespaces.protected == 2).await;
}

#[tokio::test]
async fn every_policy_tells_people_whose_it_is_what_to_do_instead_of_an_edit_and_where_to_request_an_exception() {
    let page = "https://wiki.example.com/network-exceptions";
    let metadata = json!({ "annotations": { "example.com/exceptions": page } });
    let world = started(&json!({ "allows": [same_namespace()], "metadata": metadata })).await;
    let ns = world.namespace("annotated", &[]).await.unwrap();
    until_only(&world, &ns, &[DENY_INGRESS, DENY_EGRESS, CARVEOUT, SAME]).await;
    for name in [DENY_INGRESS, DENY_EGRESS, CARVEOUT, SAME] {
        let found = policy(&world, &ns, name).await;
        let says = "Kept by PolicyBaseline platform, which undoes edits. To allow more, add a NetworkPolicy of your own beside it. For an exception, ask for a BaselineOptOut.";
        assert_eq!(found.annotations()["policybaseline.io/about"], says, "{name}");
        assert_eq!(found.annotations()["example.com/exceptions"], page, "{name}: what the owner of the baseline wrote");
    }
}

#[tokio::test]
async fn i8_an_allow_of_egress_carries_the_rule_for_dns_in_every_namespace() {
    let world = started(&json!({ "allows": [same_namespace(), kubernetes_api()], "dns": { "ports": [1053] } })).await;
    let ns = world.namespace("dns", &[]).await.unwrap();
    until_only(&world, &ns, &[DENY_INGRESS, DENY_EGRESS, CARVEOUT, SAME, API]).await;
    let dns = spec_of(&world, &ns, DENY_EGRESS).await["egress"].clone();
    for name in [SAME, API] {
        let rules = spec_of(&world, &ns, name).await["egress"].as_array().unwrap().clone();
        let dns = dns.as_array().unwrap();
        assert_eq!(rules[..dns.len()], dns[..], "{name}");
        assert!(rules.len() > dns.len(), "{name}: {rules:?}");
    }
}

#[tokio::test]
async fn an_allow_and_the_carve_out_are_never_written_where_their_direction_is_not_closed() {
    let world = started(&json!({ "allows": [same_namespace()], "policies": ["DefaultDenyEgress", "MonitoringCarveout"] })).await;
    let ns = world.namespace("half", &[]).await.unwrap();
    until_only(&world, &ns, &[DENY_EGRESS, SAME]).await;
    until_types(&world, &ns, SAME, &["Egress"]).await;
    let text = printed(&world, &["explain", "namespace", &ns]).await;
    let why = "DefaultDenyIngress is not planned here (spec.policies does not name it), and without it this policy would close the pods that it selects";
    assert!(text.contains(&format!("as planned; only one direction of it: {why}")), "{text}");
    assert!(text.contains(&format!("not planned: {why}")), "of the carve-out: {text}");

    apply_baseline(&world, PLATFORM, &json!({ "allows": [same_namespace()], "policies": ["MonitoringCarveout"] })).await;
    until_only(&world, &ns, &[]).await;
    apply_baseline(&world, PLATFORM, &json!({ "allows": [same_namespace()] })).await;
    until_only(&world, &ns, &[DENY_INGRESS, DENY_EGRESS, CARVEOUT, SAME]).await;
    until_types(&world, &ns, SAME, &["Ingress", "Egress"]).await;
}

#[tokio::test]
async fn an_opt_out_takes_the_allows_of_its_direction_away_and_explain_says_why() {
    let world = started(&json!({ "allows": [same_namespace(), web()] })).await;
    let ns = world.namespace("opted-out", &[("tier", "prod")]).await.unwrap();
    until_only(&world, &ns, &[DENY_INGRESS, DENY_EGRESS, CARVEOUT, SAME, WEB]).await;
    let ends = Timestamp::from_second((Timestamp::now() + SignedDuration::from_hours(1)).as_second()).unwrap();
    let object = opt_out("vendor", &["DefaultDenyIngress"], ends);
    crate::opt_outs::create(&world, &ns, &object).await;
    until_only(&world, &ns, &[DENY_EGRESS, SAME]).await;
    until_types(&world, &ns, SAME, &["Egress"]).await;
    let text = printed(&world, &["explain", "namespace", &ns]).await;
    let why = format!(
        "not planned: DefaultDenyIngress is not planned here (opt-out vendor until {ends}, approved by security@example.com"
    );
    assert!(text.lines().any(|line| line.contains("allow web") && line.contains(&why)), "{text}");

    crate::opt_outs::opt_outs(&world.admin(), &ns).delete("vendor", &DeleteParams::default()).await.unwrap();
    until_only(&world, &ns, &[DENY_INGRESS, DENY_EGRESS, CARVEOUT, SAME, WEB]).await;
    until_types(&world, &ns, SAME, &["Ingress", "Egress"]).await;
}

#[tokio::test]
async fn a_namespace_is_closed_only_after_its_allows_are_confirmed_and_old_allows_go_last() {
    if skipped_without_audit_log() {
        return;
    }
    let world = started(&json!({ "allows": [same_namespace()] })).await;
    let mark = world.audit().unwrap().mark();
    let ns = world.namespace("ordered", &[]).await.unwrap();
    until_only(&world, &ns, &[DENY_INGRESS, DENY_EGRESS, CARVEOUT, SAME]).await;
    let told = |mark| {
        let writes = writes_since(&world, mark);
        policy_writes(&writes, &ns).iter().map(|write| (write.verb.clone(), write.name.clone())).collect::<Vec<_>>()
    };
    let caught_up = async |mark, count: usize| {
        let has_all = async || {
            let told = told(mark);
            if told.len() >= count { Ok(true) } else { Err(format!("{told:?}")) }
        };
        world.eventually("the audit log has caught up", TIMEOUT, has_all).await.unwrap();
    };
    caught_up(mark, 4).await;
    assert_eq!(told(mark)[0], ("patch".to_owned(), SAME.to_owned()), "{:?}", told(mark));

    let mark = world.audit().unwrap().mark();
    let mut renamed = same_namespace();
    renamed["name"] = "neighbours".into();
    apply_baseline(&world, PLATFORM, &json!({ "allows": [renamed] })).await;
    until_only(&world, &ns, &[DENY_INGRESS, DENY_EGRESS, CARVEOUT, "baseline-allow-neighbours"]).await;
    caught_up(mark, 2).await;
    let verbs: Vec<String> = told(mark).into_iter().map(|(verb, _)| verb).collect();
    assert_eq!(verbs, ["patch", "delete"]);
}

#[tokio::test]
async fn an_allow_that_cannot_be_written_closes_nothing_and_leaves_no_other_alone() {
    let mut world = World::new().await.unwrap();
    world.discard();
    let refused = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy", "metadata": { "name": "no-api" },
        "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": { "resourceRules": [{
                "apiGroups": ["networking.k8s.io"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["networkpolicies"],
            }] },
            "validations": [{ "expression": format!("object.metadata.name != '{API}'"), "message": "not this one" }],
        },
    });
    let binding = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding", "metadata": { "name": "no-api" },
        "spec": { "policyName": "no-api", "validationActions": ["Deny"] },
    });
    apply_baseline(&world, PLATFORM, &json!({ "allows": [same_namespace(), kubernetes_api()] })).await;
    crate::support::a_second_later(&world).await;
    let ns = world.namespace("refused", &[]).await.unwrap();
    world.apply_yaml(&refused.to_string()).await.unwrap();
    world.apply_yaml(&binding.to_string()).await.unwrap();
    let policies = policies_of(&world.admin(), &ns);
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    let object = json!({ "metadata": { "name": API }, "spec": { "podSelector": {}, "policyTypes": ["Egress"] } });
    let object: NetworkPolicy = serde_json::from_value(object).unwrap();
    let is_refused = async || Ok::<_, String>(policies.create(&dry, &object).await.is_err());
    world.eventually("it is refused", TIMEOUT, is_refused).await.unwrap();

    world.start_operator().await.unwrap();
    let is_told = |status: &policy_baseline::PolicyBaselineStatus| {
        status.violations.iter().any(|v| v.namespace == ns && v.policy.as_deref() == Some(API))
    };
    until_status(&world, PLATFORM, "it cannot be written", is_told).await;
    until_only(&world, &ns, &[]).await;
    world.plane().kubectl().args(["delete", "validatingadmissionpolicybinding", "no-api"]).output().unwrap();
    until_only(&world, &ns, &[DENY_INGRESS, DENY_EGRESS, CARVEOUT, SAME, API]).await;
}

#[tokio::test]
async fn an_allow_is_repaired_listed_and_counted_like_the_other_policies() {
    let world = started(&json!({ "allows": [same_namespace()] })).await;
    let ns = world.namespace("repaired", &[]).await.unwrap();
    until_only(&world, &ns, &[DENY_INGRESS, DENY_EGRESS, CARVEOUT, SAME]).await;
    let policies = policies_of(&world.admin(), &ns);
    let before = policies.get(SAME).await.unwrap();
    merge(&policies, SAME, "tenant", &json!({ "spec": { "ingress": [{}] } })).await;
    until_event(&world, &world.admin(), &ns, "DriftRepaired", SAME).await;
    let after = policies.get(SAME).await.unwrap();
    assert_eq!((after.uid(), &after.spec), (before.uid(), &before.spec), "in place");
    let status = until_status(&world, PLATFORM, "the drift", |status| !status.recent_drift.is_empty()).await;
    assert_eq!(status.recent_drift[0].policy, SAME);
    let metrics = crate::admin_port::metrics_of(&world).await;
    let repaired = crate::admin_port::metric(&metrics, "policy_baseline_drift_total{class=\"spec_changed\",role=\"allow\"}");
    assert!(repaired >= 1.0, "{repaired}");

    let listed = printed(&world, &["list-managed"]).await;
    let line = listed.lines().find(|line| line.contains(SAME)).unwrap_or_else(|| panic!("{listed}"));
    assert!(line.contains("Allow") && line.contains("planned"), "{line}");

    apply_baseline(&world, PLATFORM, &json!({ "allows": [same_namespace()], "deletionPolicy": "Delete" })).await;
    until_ready(&world, PLATFORM).await;
    crate::scene::delete_baseline(&world, PLATFORM).await;
    until_only(&world, &ns, &[]).await;
}

#[tokio::test]
async fn the_api_server_is_found_by_its_service_and_its_endpoints_and_a_restart_writes_nothing() {
    if skipped_without_audit_log() {
        return;
    }
    let mut world = World::new().await.unwrap();
    // The API server of the tests writes none, because its address is a loopback address.
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": { "name": "kubernetes", "namespace": "default", "labels": { "kubernetes.io/service-name": "kubernetes" } },
        "endpoints": [{ "addresses": ["192.0.2.10"] }], "ports": [{ "name": "https", "port": 6443, "protocol": "TCP" }],
    });
    world.apply_yaml(&slice.to_string()).await.unwrap();
    apply_baseline(&world, PLATFORM, &json!({ "allows": [kubernetes_api()] })).await;
    world.start_operator().await.unwrap();
    let ns = world.namespace("controller", &[]).await.unwrap();
    until_only(&world, &ns, &[DENY_INGRESS, DENY_EGRESS, CARVEOUT, API]).await;
    let services: Api<Service> = Api::namespaced(world.admin(), "default");
    let own = services.get("kubernetes").await.unwrap().spec.unwrap();
    let (address, port) = (own.cluster_ip.unwrap(), own.ports.unwrap()[0].port);
    let rules = spec_of(&world, &ns, API).await["egress"].clone();
    let before =
        json!({ "to": [{ "ipBlock": { "cidr": format!("{address}/32") } }], "ports": [{ "port": port, "protocol": "TCP" }] });
    let rules = rules.as_array().unwrap();
    let of_api: Vec<&Value> = rules.iter().filter(|rule| rule["ports"][0]["port"] != 53).collect();
    assert!(of_api.contains(&&before), "before the translation: {rules:?}");
    let after = json!({ "to": [{ "ipBlock": { "cidr": "192.0.2.10/32" } }], "ports": [{ "port": 6443, "protocol": "TCP" }] });
    assert!(of_api.contains(&&after) && of_api.len() == 2, "after it: {rules:?}");
    let status = until_status(&world, PLATFORM, "where it is", |status| {
        status.kubernetes_api.as_ref().is_some_and(|api| api.found.len() == 2)
    })
    .await;
    let found = status.kubernetes_api.unwrap().found;
    assert_eq!(found[0].source, "Service default/kubernetes");
    assert_eq!(found[0].what, format!("{address}/32 on port {port}"));
    assert_eq!(found[1].source, "EndpointSlice default/kubernetes");
    assert_eq!(condition(&until_ready(&world, PLATFORM).await, "KubernetesAPICoverage").reason, "");

    let mark = world.audit().unwrap().mark();
    world.restart_operator().await.unwrap();
    let later = world.namespace("later", &[]).await.unwrap();
    until_only(&world, &later, &[DENY_INGRESS, DENY_EGRESS, CARVEOUT, API]).await;
    assert!(policy_writes(&writes_since(&world, mark), &ns).is_empty());
}

#[tokio::test]
async fn i16_an_operator_that_may_not_read_where_the_api_server_is_narrows_nothing_and_says_so() {
    let mut world = started(&json!({ "allows": [kubernetes_api()] })).await;
    world.discard();
    let ns = world.namespace("kept", &[]).await.unwrap();
    until_only(&world, &ns, &[DENY_INGRESS, DENY_EGRESS, CARVEOUT, API]).await;
    let before = spec_of(&world, &ns, API).await;
    until_status(&world, PLATFORM, "where it is", |status| {
        status.kubernetes_api.as_ref().is_some_and(|api| !api.found.is_empty())
    })
    .await;
    let bindings: Api<RoleBinding> = Api::namespaced(world.admin(), "default");
    bindings.delete("policy-baseline-kubernetes-api", &DeleteParams::default()).await.unwrap();
    // Of the two objects, the EndpointSlice: the operator may read every Service.
    let operator = client_of(&world.operator_kubeconfig().await.unwrap()).await;
    let slices: Api<EndpointSlice> = Api::namespaced(operator, "default");
    let named = ListParams::default().fields("metadata.name=kubernetes");
    world.eventually("the right is gone", TIMEOUT, async || Ok::<_, String>(slices.list(&named).await.is_err())).await.unwrap();
    world.restart_operator().await.unwrap();
    let reason = |status: &policy_baseline::PolicyBaselineStatus| condition(status, "KubernetesAPICoverage").reason;
    until_status(&world, PLATFORM, "it cannot be read", |status| reason(status) == "KubernetesAPINotReadable").await;
    let later = world.namespace("later", &[]).await.unwrap();
    until_only(&world, &later, &[DENY_INGRESS, DENY_EGRESS, CARVEOUT, API]).await;
    assert_eq!((spec_of(&world, &ns, API).await, spec_of(&world, &later, API).await), (before.clone(), before));
}

#[tokio::test]
async fn an_allow_that_opens_to_everybody_is_told_in_the_status_and_by_explain() {
    let open = json!({
        "name": "public", "acknowledgeOpen": true, "podSelector": { "matchLabels": { "expose": "internet" } },
        "ingress": [{ "from": [{ "ipBlock": { "cidr": "0.0.0.0/0" } }, { "ipBlock": { "cidr": "::/0" } }], "ports": [{ "port": 443 }] }],
    });
    let world = started(&json!({ "allows": [open] })).await;
    let ns = world.namespace("public", &[]).await.unwrap();
    until_only(&world, &ns, &[DENY_INGRESS, DENY_EGRESS, CARVEOUT, "baseline-allow-public"]).await;
    let is_told = |status: &policy_baseline::PolicyBaselineStatus| condition(status, "OpensToEverybody").status == "True";
    let status = until_status(&world, PLATFORM, "what is open", is_told).await;
    let what = "lets everybody reach the pods that it selects on some ports";
    assert_eq!(
        condition(&status, "OpensToEverybody").message,
        format!("these allows open to everybody, with acknowledgeOpen: true: public {what}")
    );
    let text = printed(&world, &["explain", "namespace", &ns]).await;
    assert!(text.contains(&format!("as planned; opens to everybody: it {what}")), "{text}");
    apply_baseline(&world, PLATFORM, &json!({ "allows": [same_namespace()] })).await;
    until_status(&world, PLATFORM, "nothing is open", |status| condition(status, "OpensToEverybody").status == "Unknown").await;
}

#[tokio::test]
async fn in_mode_audit_an_allow_that_opens_to_everybody_is_told_before_anything_is_written() {
    let open = json!({
        "name": "public", "acknowledgeOpen": true, "ingress": [{ "from": [{ "ipBlock": { "cidr": "0.0.0.0/0" } }] }],
    });
    let world = started(&json!({ "mode": "Audit", "allows": [open] })).await;
    let ns = world.namespace("public", &[]).await.unwrap();
    let is_told = |status: &policy_baseline::PolicyBaselineStatus| {
        let says = |message: &str| message.contains("create baseline-allow-public");
        status.notices.iter().any(|notice| notice.namespace == ns && says(&notice.message))
    };
    let status = until_status(&world, PLATFORM, "what Enforce would write", is_told).await;
    let open = condition(&status, "OpensToEverybody");
    let what = "public lets every IPv4 address reach every pod on all ports";
    assert_eq!((&*open.status, &*open.reason), ("True", "Acknowledged"));
    assert_eq!(open.message, format!("these allows open to everybody, with acknowledgeOpen: true: {what}"));
    let text = printed(&world, &["explain", "namespace", &ns]).await;
    let says = "; baseline-allow-public opens to everybody: it lets every IPv4 address reach every pod on all ports";
    assert!(text.contains(says), "{text}");
    until_only(&world, &ns, &[]).await;
}

#[tokio::test]
async fn what_the_crd_cannot_see_stalls_the_baseline_with_the_field_and_what_to_write() {
    let mut world = World::new().await.unwrap();
    world.start_operator().await.unwrap();
    let block = |cidr: &str| json!({ "to": [{ "ipBlock": { "cidr": cidr } }] });
    for (name, allow, reason, says) in [
        (
            "halves",
            json!({ "name": "x", "egress": [block("0.0.0.0/1"), block("128.0.0.0/1")] }),
            "OpensToEverybody",
            "spec.allows[x]: it lets every pod reach every IPv4 address on all ports: name who may talk. If everybody is meant, set acknowledgeOpen: true; then status and explain report it",
        ),
        (
            "bad-key",
            json!({ "name": "x", "podSelector": { "matchLabels": { "Bad Key": "x" } }, "egress": [{ "to": [{ "sameNamespace": {} }] }] }),
            "InvalidSelector",
            "spec.allows[x].podSelector: \"Bad Key\" is no label key: use letters, digits, '-', '_' and '.', at most 63, with a letter or digit at both ends",
        ),
        (
            "bad-port",
            json!({ "name": "x", "ingress": [{ "from": [{ "sameNamespace": {} }], "ports": [{ "port": "Web" }] }] }),
            "InvalidPort",
            "spec.allows[x].ingress[0].ports[0]: a port is a number from 1 to 65535 or a name of at most 15 lower-case letters, digits and '-'; endPort needs a number not above it",
        ),
    ] {
        world.apply_yaml(&baseline(name, &json!({ "allows": [allow] }))).await.unwrap();
        let status = until_status(&world, name, "stalled", |status| condition(status, "Stalled").status == "True").await;
        let stalled = condition(&status, "Stalled");
        assert_eq!((stalled.reason.as_str(), stalled.message.as_str()), (reason, says), "{name}");
    }
}

#[tokio::test]
async fn dns_in_the_namespace_itself_is_allowed_by_a_peer_with_same_namespace() {
    let peer = json!({ "sameNamespace": { "podSelector": { "matchLabels": { "k8s-app": "vcluster-dns" } } } });
    let world = started(&json!({ "dns": { "peers": [peer], "ports": [1053] } })).await;
    let ns = world.namespace("virtual", &[]).await.unwrap();
    until_only(&world, &ns, &[DENY_INGRESS, DENY_EGRESS, CARVEOUT]).await;
    let rule = spec_of(&world, &ns, DENY_EGRESS).await["egress"][0].clone();
    assert_eq!(rule["to"][1], json!({ "podSelector": { "matchLabels": { "k8s-app": "vcluster-dns" } } }));
    assert!(rule["ports"].as_array().unwrap().contains(&json!({ "port": 1053, "protocol": "UDP" })));
}

#[tokio::test]
async fn every_sample_of_an_allow_is_accepted_without_a_warning_and_becomes_policies() {
    let mut world = World::new().await.unwrap();
    world.start_operator().await.unwrap();
    // Created after the first baseline, because one that is older is only reported.
    let mut all = None;
    let samples = repo().join("manifests/samples/allows");
    let page = crate::docs::page("allows.md");
    let (mut seen, mut named) = (BTreeSet::new(), BTreeSet::new());
    for file in std::fs::read_dir(&samples).unwrap().map(|f| f.unwrap().path()) {
        let applied =
            world.plane().kubectl().args(["apply", "--server-side", "--force-conflicts", "-f"]).arg(&file).output().unwrap();
        let said = String::from_utf8_lossy(&applied.stderr).into_owned();
        assert!(applied.status.success() && said.is_empty(), "{}: {said}", file.display());
        until_ready(&world, PLATFORM).await;
        let object: Value = serde_yaml::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        let allows = object["spec"]["allows"].as_array().unwrap();
        let policy = |allow: &Value| format!("baseline-allow-{}", allow["name"].as_str().unwrap());
        let selected = |allow: &Value| {
            allow["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"].as_str().map(ToOwned::to_owned)
        };
        let (by_name, for_all): (Vec<&Value>, Vec<&Value>) = allows.iter().partition(|allow| selected(allow).is_some());
        let three = [DENY_INGRESS, DENY_EGRESS, CARVEOUT].map(ToOwned::to_owned).into_iter();
        let planned: Vec<String> = three.chain(for_all.into_iter().map(policy)).collect();
        if all.is_none() {
            let labels = [("istio.io/dataplane-mode", "ambient"), ("policybaseline.io/mesh", "linkerd")];
            all = Some(world.namespace("sampled", &labels).await.unwrap());
        }
        until_only(&world, all.as_deref().unwrap(), &planned.iter().map(String::as_str).collect::<Vec<_>>()).await;
        for allow in by_name {
            // The namespace of a controller, without its webhook.
            let namespace = selected(allow).unwrap();
            world.namespace_named(&namespace, &[]).await.unwrap();
            let types = [("ingress", "Ingress"), ("egress", "Egress")];
            // The egress of the monitoring pods is open by default.
            let is_closed = |direction: &str| namespace != "monitoring" || direction == "ingress";
            let types = types.iter().filter(|(rules, _)| allow[rules].is_array() && is_closed(rules)).map(|(_, name)| *name);
            until_types(&world, &namespace, &policy(allow), &types.collect::<Vec<_>>()).await;
            named.insert(policy(allow));
        }
        assert!(page.contains(&format!("(../manifests/samples/allows/{name})")), "docs/allows.md has a section for {name}");
        seen.insert(name);
    }
    assert_eq!(seen.len(), 12, "{seen:?}");
    let expected = ["istiod-clients", "linkerd-clients", "monitoring-stack", "otlp-collector"];
    assert!(named.iter().eq(expected.map(|name| format!("baseline-allow-{name}")).iter()), "{named:?}");
}

#[tokio::test]
async fn a_mistake_in_an_allow_is_said_by_kubectl_before_anything_is_stored() {
    let world = World::new().await.unwrap();
    for (allow, says) in [
        (
            json!({ "name": "x", "ingress": [{ "from": [] }] }),
            "spec.allows[0].ingress[0]: Invalid value: from: name who may connect; an empty list would let everybody in. If everybody is meant, write from: [{ipBlock: {cidr: 0.0.0.0/0}}, {ipBlock: {cidr: '::/0'}}] and acknowledgeOpen: true",
        ),
        (
            json!({ "name": "x", "egress": [{ "to": [{ "ipBlock": { "cidr": "0.0.0.0/0" } }] }] }),
            "spec.allows[0]: Invalid value: this opens to everybody (an empty namespaceSelector, 0.0.0.0/0 or ::/0): name who may talk. If everybody is meant, set acknowledgeOpen: true; then status and explain report it",
        ),
        (
            json!({ "name": "x", "egress": [{ "to": [{ "podSelector": { "matchLabels": { "app": "db" } } }] }] }),
            "spec.allows[0].egress[0].to[0]: Invalid value: podSelector needs namespaceSelector beside it; for pods of the namespace itself, write sameNamespace: {podSelector: ...}",
        ),
    ] {
        let said = world.try_apply_yaml(&baseline("mistaken", &json!({ "allows": [allow] }))).await.unwrap_err();
        assert!(said.contains(says), "{said}");
    }
    let twice = json!({ "allows": [same_namespace(), same_namespace()] });
    let said = world.try_apply_yaml(&baseline("mistaken", &twice)).await.unwrap_err();
    assert!(said.contains("duplicate entries for key"), "{said}");
    let api = crate::scene::baselines(&world);
    assert!(api.get_opt("mistaken").await.unwrap().is_none());
    // What a client sends that does not apply, but creates, is judged alike.
    let object = serde_yaml::from_str(&baseline("mistaken", &twice)).unwrap();
    let said = api.create(&PostParams::default(), &object).await.unwrap_err().to_string();
    assert!(said.contains("spec.allows[1]: Duplicate value"), "{said}");
}
