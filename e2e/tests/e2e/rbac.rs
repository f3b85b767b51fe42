//! The operator's permissions, according to the API server: all that it needs, and nothing more.
//! One file: each rule of the roles has its test here.

use std::collections::BTreeSet;

use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec, SelfSubjectRulesReview, SelfSubjectRulesReviewSpec,
};
use k8s_openapi::api::rbac::v1::PolicyRule;
use kube::api::{Api, DeleteParams, DynamicObject, PostParams};
use kube::{Client, ResourceExt};
use policy_baseline_e2e::{AuditEntry, AuditMark, SYSTEM_NAMESPACE, TIMEOUT, World, skipped_without_audit_log};
use serde::Deserialize;
use serde_json::json;

use crate::opt_outs;
use crate::scene::{
    DENY_EGRESS, DENY_INGRESS, Plan, apply_baseline, baselines, can_i, client_of, delete_baseline, merge, policies_of,
    until_event, until_holds, until_only, until_ready,
};
use crate::support::until_finalizer;

/// A verb, a group and a resource, as in `patch policybaseline.io policybaselines/status`.
type Permission = (String, String, String);

/// Splits rules into single permissions.
fn permissions(rules: impl IntoIterator<Item = PolicyRule>) -> BTreeSet<Permission> {
    let mut all = BTreeSet::new();
    for rule in rules {
        for group in rule.api_groups.iter().flatten() {
            for resource in rule.resources.iter().flatten() {
                all.extend(rule.verbs.iter().map(|verb| (verb.clone(), group.clone(), resource.clone())));
            }
        }
    }
    all
}

/// The documents of the shipped RBAC.
fn shipped() -> Vec<DynamicObject> {
    let documents = serde_yaml::Deserializer::from_str(include_str!("../../../manifests/base/rbac.yaml"));
    documents.map(|document| DynamicObject::deserialize(document).unwrap()).collect()
}

/// The rules of all shipped roles.
fn shipped_rules() -> Vec<PolicyRule> {
    shipped_roles().into_iter().flat_map(|(_, rules)| rules).collect()
}

/// The rules of each shipped role, with the namespace of a Role. None for a ClusterRole.
fn shipped_roles() -> Vec<(Option<String>, Vec<PolicyRule>)> {
    let roles = shipped().into_iter().filter(|object| object.types.as_ref().unwrap().kind.ends_with("Role"));
    roles.map(|role| (role.namespace(), serde_json::from_value(role.data["rules"].clone()).unwrap())).collect()
}

/// Whether the client's user may do that with the object of this name. Without a name: with any object.
async fn may(client: &Client, verb: &str, (group, resource): (&str, &str), name: Option<&str>, namespace: &str) -> bool {
    let attributes = ResourceAttributes {
        verb: Some(verb.to_owned()),
        group: Some(group.to_owned()),
        resource: Some(resource.to_owned()),
        name: name.map(ToOwned::to_owned),
        namespace: Some(namespace.to_owned()),
        ..ResourceAttributes::default()
    };
    let spec = SelfSubjectAccessReviewSpec { resource_attributes: Some(attributes), ..Default::default() };
    let review = SelfSubjectAccessReview { spec, ..SelfSubjectAccessReview::default() };
    let answer = Api::all(client.clone()).create(&PostParams::default(), &review).await.unwrap();
    answer.status.is_some_and(|status| status.allowed)
}

async fn operator(world: &World) -> Client {
    client_of(&world.operator_kubeconfig().await.unwrap()).await
}

/// The permissions of the client's user in that namespace, according to the API server.
async fn granted(client: &Client, namespace: &str) -> BTreeSet<Permission> {
    let spec = SelfSubjectRulesReviewSpec { namespace: Some(namespace.to_owned()) };
    let review = SelfSubjectRulesReview { spec, ..SelfSubjectRulesReview::default() };
    let status = Api::all(client.clone()).create(&PostParams::default(), &review).await.unwrap().status.unwrap();
    assert!(!status.incomplete, "{:?}", status.evaluation_error);
    let rule = |rule: k8s_openapi::api::authorization::v1::ResourceRule| PolicyRule {
        api_groups: rule.api_groups,
        resources: rule.resources,
        resource_names: rule.resource_names,
        verbs: rule.verbs,
        non_resource_urls: None,
    };
    permissions(status.resource_rules.into_iter().map(rule))
}

#[test]
fn no_rule_has_a_wildcard_or_reaches_beyond_itself() {
    let rules = shipped_rules();
    assert!(!rules.is_empty());
    for rule in &rules {
        let lists = [rule.api_groups.as_ref(), rule.resources.as_ref(), Some(&rule.verbs)];
        for word in lists.into_iter().flatten().flatten() {
            assert!(!word.contains('*'), "{rule:?}");
            assert!(!["escalate", "bind", "impersonate", "deletecollection"].contains(&word.as_str()), "{rule:?}");
        }
        assert!(rule.non_resource_urls.as_ref().is_none_or(Vec::is_empty), "{rule:?}");
    }
    let kinds: Vec<_> = shipped().into_iter().map(|object| object.types.unwrap().kind).collect();
    for kind in &kinds {
        assert!(["ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"].contains(&kind.as_str()), "{kind}");
    }
}

#[tokio::test]
async fn the_operator_may_do_what_is_shipped_and_nothing_beside() {
    let world = World::new().await.unwrap();
    let ns = world.namespace("team", &[]).await.unwrap();
    let nobody = json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": "nobody", "namespace": ns } });
    world.apply_yaml(&nobody.to_string()).await.unwrap();
    let nobody = client_of(&world.plane().service_account_kubeconfig(&ns, "nobody").await.unwrap()).await;
    let operator = operator(&world).await;

    // In the operator's own namespace, in kube-system and in default its Roles count too. Elsewhere only its ClusterRole counts.
    for namespace in [SYSTEM_NAMESPACE, "kube-system", "default", ns.as_str()] {
        let holds_here = |role: &(Option<String>, _)| role.0.as_deref().is_none_or(|of| of == namespace);
        let shipped = permissions(shipped_roles().into_iter().filter(holds_here).flat_map(|(_, rules)| rules));
        let anybody = granted(&nobody, namespace).await;
        world
            .eventually("the roles have reached the authorizer", TIMEOUT, async || {
                let own: BTreeSet<_> = granted(&operator, namespace).await.difference(&anybody).cloned().collect();
                if own == shipped { Ok(true) } else { Err(format!("{own:?} instead of {shipped:?}")) }
            })
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn the_operator_may_do_all_that_it_needs() {
    let world = World::new().await.unwrap();
    let operator = operator(&world).await;
    for (group, resource, verbs) in [
        ("", "namespaces", &["list", "watch"][..]),
        ("networking.k8s.io", "networkpolicies", &["get", "list", "watch", "create", "patch", "delete"]),
        ("apiextensions.k8s.io", "customresourcedefinitions", &["list", "watch"]),
        ("admissionregistration.k8s.io", "validatingwebhookconfigurations", &["list", "watch"]),
        ("admissionregistration.k8s.io", "mutatingwebhookconfigurations", &["list", "watch"]),
        ("apiregistration.k8s.io", "apiservices", &["list", "watch"]),
        ("", "services", &["list", "watch"]),
        ("policybaseline.io", "policybaselines", &["list", "watch", "patch"]),
        ("policybaseline.io", "policybaselines/status", &["patch"]),
        ("policybaseline.io", "baselineoptouts", &["list", "watch", "patch"]),
        ("policybaseline.io", "baselineoptouts/status", &["patch"]),
        ("events.k8s.io", "events", &["create"]),
        ("authorization.k8s.io", "subjectaccessreviews", &["create"]),
    ] {
        for verb in verbs {
            world
                .eventually(&format!("it may {verb} {resource}"), TIMEOUT, async || {
                    can_i(&operator, verb, group, resource, None).await
                })
                .await
                .unwrap();
        }
    }
}

#[tokio::test]
async fn the_operator_may_write_its_own_lease_and_no_other() {
    let world = World::new().await.unwrap();
    let operator = operator(&world).await;
    let may = async |verb: &str, name: Option<&str>, namespace: &str| {
        may(&operator, verb, ("coordination.k8s.io", "leases"), name, namespace).await
    };
    for verb in ["get", "list", "watch", "update"] {
        let own = async || may(verb, Some("policy-baseline"), SYSTEM_NAMESPACE).await;
        world.eventually(&format!("it may {verb} its lease"), TIMEOUT, own).await.unwrap();
        assert!(!may(verb, Some("other"), SYSTEM_NAMESPACE).await, "{verb}");
        // It may read the Leases of other installs, and never write them.
        let seen = ["list", "watch"].contains(&verb);
        assert_eq!(may(verb, Some("policy-baseline"), "kube-system").await, seen, "{verb}");
    }
    assert!(may("create", None, SYSTEM_NAMESPACE).await);
    assert!(!may("create", None, "kube-system").await);
    for verb in ["patch", "delete"] {
        assert!(!may(verb, Some("policy-baseline"), SYSTEM_NAMESPACE).await, "{verb}");
    }
}

#[tokio::test]
async fn the_operator_may_read_where_it_looks_for_dns_and_nowhere_else() {
    let world = World::new().await.unwrap();
    let operator = operator(&world).await;
    let (services, daemon_sets, pods) = (("", "services"), ("apps", "daemonsets"), ("", "pods"));
    let slices = ("discovery.k8s.io", "endpointslices");
    for verb in ["list", "watch"] {
        for (what, name, namespace) in [
            (services, None, "kube-system"),
            (slices, None, "kube-system"),
            (pods, None, "kube-system"),
            (daemon_sets, Some("node-local-dns"), "kube-system"),
            (services, Some("dns-default"), "openshift-dns"),
            (daemon_sets, Some("dns-default"), "openshift-dns"),
        ] {
            let allowed = async || may(&operator, verb, what, name, namespace).await;
            world.eventually(&format!("it may {verb} {what:?} {name:?} in {namespace}"), TIMEOUT, allowed).await.unwrap();
        }
        for (what, name, namespace) in [
            (daemon_sets, None, "kube-system"),
            (daemon_sets, Some("kube-proxy"), "kube-system"),
            (slices, None, ""),
            (slices, None, "openshift-dns"),
            (slices, None, SYSTEM_NAMESPACE),
            (pods, None, ""),
            (pods, None, "openshift-dns"),
            (pods, None, "default"),
            (pods, None, SYSTEM_NAMESPACE),
        ] {
            assert!(!may(&operator, verb, what, name, namespace).await, "{verb} {what:?} {name:?} in {namespace:?}");
        }
    }
    for verb in ["get", "create", "update", "patch", "delete"] {
        for what in [services, slices, pods, daemon_sets] {
            assert!(!may(&operator, verb, what, None, "kube-system").await, "{verb} {what:?}");
        }
    }
}

#[tokio::test]
async fn the_operator_may_read_the_two_objects_that_name_the_api_server_and_no_others_beside_them() {
    let world = World::new().await.unwrap();
    let operator = operator(&world).await;
    for what in [("", "services"), ("discovery.k8s.io", "endpointslices")] {
        for verb in ["list", "watch"] {
            let allowed = async || may(&operator, verb, what, Some("kubernetes"), "default").await;
            world.eventually(&format!("it may {verb} {what:?} kubernetes in default"), TIMEOUT, allowed).await.unwrap();
            // It reads the names of all Services, because a namespace is held only if the Service that is called exists.
            let others = [(None, "default"), (Some("web"), "default"), (Some("kubernetes"), SYSTEM_NAMESPACE)];
            for (name, namespace) in others.into_iter().filter(|_| what.1 != "services") {
                assert!(!may(&operator, verb, what, name, namespace).await, "{verb} {what:?} {name:?} in {namespace}");
            }
        }
        for verb in ["get", "create", "update", "patch", "delete"] {
            assert!(!may(&operator, verb, what, Some("kubernetes"), "default").await, "{verb} {what:?}");
        }
    }
}

#[tokio::test]
async fn the_operator_may_read_daemon_sets_with_the_name_of_a_network_plugin_and_no_others() {
    let world = World::new().await.unwrap();
    let operator = operator(&world).await;
    let daemon_sets = ("apps", "daemonsets");
    for namespace in ["", "kube-flannel", "calico-system"] {
        for name in ["kube-flannel-ds", "calico-node"] {
            let allowed = async || may(&operator, "list", daemon_sets, Some(name), namespace).await;
            world.eventually(&format!("it may list {name} in {namespace:?}"), TIMEOUT, allowed).await.unwrap();
        }
        for name in [None, Some("node-exporter")] {
            assert!(!may(&operator, "list", daemon_sets, name, namespace).await, "{name:?} in {namespace:?}");
        }
    }
    for verb in ["get", "watch", "create", "update", "patch", "delete"] {
        assert!(!may(&operator, verb, daemon_sets, Some("cilium"), "kube-system").await, "{verb}");
    }
}

#[tokio::test]
async fn the_operator_may_not_read_secrets_nor_run_pods_nor_give_itself_rights() {
    let world = World::new().await.unwrap();
    let operator = operator(&world).await;
    let wrong = [
        ("", "secrets", &["get", "list", "watch", "create", "update", "patch", "delete"][..]),
        ("", "configmaps", &["get", "create", "update", "patch", "delete"]),
        ("", "pods", &["get", "create", "update", "patch", "delete"]),
        ("", "pods/log", &["get"]),
        ("", "pods/exec", &["create", "get"]),
        ("", "pods/ephemeralcontainers", &["patch"]),
        ("", "namespaces", &["create", "update", "patch", "delete", "deletecollection"]),
        ("", "namespaces/finalize", &["update"]),
        ("", "nodes", &["get", "list", "update", "patch", "delete"]),
        ("", "nodes/proxy", &["get", "create"]),
        ("", "events", &["create", "update", "patch", "delete", "list"]),
        ("", "serviceaccounts", &["create", "update", "patch", "delete", "impersonate"]),
        ("", "serviceaccounts/token", &["create"]),
        ("", "users", &["impersonate"]),
        ("", "groups", &["impersonate"]),
        ("apps", "deployments", &["create", "update", "patch", "delete"]),
        ("networking.k8s.io", "networkpolicies", &["update", "deletecollection"]),
        ("networking.k8s.io", "networkpolicies/status", &["update", "patch"]),
        ("networking.k8s.io", "ingresses", &["list", "create", "patch", "delete"]),
        ("policybaseline.io", "policybaselines", &["create", "update", "delete", "deletecollection"]),
        ("policybaseline.io", "policybaselines/status", &["update"]),
        ("policybaseline.io", "baselineoptouts", &["create", "update", "delete", "deletecollection"]),
        ("policybaseline.io", "baselineoptouts/status", &["update"]),
        ("events.k8s.io", "events", &["list", "update", "patch", "delete", "deletecollection"]),
        ("apiextensions.k8s.io", "customresourcedefinitions", &["create", "update", "patch", "delete"]),
        ("rbac.authorization.k8s.io", "clusterroles", &["create", "update", "patch", "delete", "escalate", "bind"]),
        ("rbac.authorization.k8s.io", "clusterrolebindings", &["create", "update", "patch", "delete"]),
        ("rbac.authorization.k8s.io", "roles", &["create", "update", "patch", "delete", "escalate", "bind"]),
        ("rbac.authorization.k8s.io", "rolebindings", &["create", "update", "patch", "delete"]),
        ("admissionregistration.k8s.io", "validatingwebhookconfigurations", &["create", "update", "patch", "delete"]),
        ("admissionregistration.k8s.io", "mutatingwebhookconfigurations", &["create", "update", "patch", "delete"]),
        ("apiregistration.k8s.io", "apiservices", &["create", "update", "patch", "delete"]),
        ("admissionregistration.k8s.io", "mutatingadmissionpolicies", &["create", "update", "patch", "delete"]),
        ("authentication.k8s.io", "tokenreviews", &["create"]),
        ("coordination.k8s.io", "leases", &["get", "list", "watch", "update", "patch", "delete", "deletecollection"]),
        ("certificates.k8s.io", "certificatesigningrequests", &["create", "update", "approve"]),
        ("*", "*", &["*", "get", "create", "delete"]),
    ];
    let mut may = Vec::new();
    for (group, resource, verbs) in wrong {
        for verb in verbs {
            for namespace in [None, Some("default"), Some("kube-system"), Some(SYSTEM_NAMESPACE)] {
                if can_i(&operator, verb, group, resource, namespace).await.unwrap() {
                    may.push(format!("{verb} {resource}.{group} in {namespace:?}"));
                }
            }
        }
    }
    assert!(may.is_empty(), "the operator may {may:#?}");
}

/// Lets the operator do all that it does in a cluster, and stops it.
pub async fn use_every_permission(world: &mut World) {
    // The second spec is rolled out. Then the revision of the first spec is deleted.
    let spec = |port: i32| json!({ "deletionPolicy": "Delete", "dns": { "ports": [port] }, "rollout": { "interval": "0s" } });
    apply_baseline(world, "platform", &spec(5353)).await;
    world.start_operator().await.unwrap();
    let ns = world.namespace("team", &[]).await.unwrap();
    // It asks what the holder of a Lease may do.
    let lease = json!({ "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": { "name": "policy-baseline", "namespace": ns } });
    world.apply_yaml(&lease.to_string()).await.unwrap();
    until_holds(world, &ns, &Plan::of("platform").dns_port(5353).asked()).await;
    apply_baseline(world, "platform", &spec(5354)).await;
    until_holds(world, &ns, &Plan::of("platform").dns_port(5354).asked()).await;
    until_ready(world, "platform").await;
    policies_of(&world.admin(), &ns).delete(DENY_INGRESS, &DeleteParams::default()).await.unwrap();
    until_event(world, &world.admin(), &ns, "DriftRepaired", DENY_INGRESS).await;
    let stripped = json!({ "metadata": { "labels": null } });
    merge(&policies_of(&world.admin(), &ns), DENY_EGRESS, "tenant", &stripped).await;
    until_event(world, &world.admin(), &ns, "PolicyAdopted", DENY_EGRESS).await;
    opt_outs::create(world, &ns, &opt_outs::opt_out("partner", &["DefaultDenyEgress"], opt_outs::seconds_from_now(600))).await;
    opt_outs::until_says(world, &ns, "partner", "True WithinLimits").await;
    until_finalizer(world, "platform").await;
    delete_baseline(world, "platform").await;
    until_only(world, &ns, &[]).await;
    world
        .eventually("the baseline is gone", TIMEOUT, async || {
            baselines(world).get_opt("platform").await.map(|found| found.is_none())
        })
        .await
        .unwrap();
    // A watch is in the audit log only after it has ended.
    assert_eq!(world.stop_operator().unwrap(), 0);
}

/// The requests of the operator that the API server has refused.
pub fn refused_since(world: &World, mark: AuditMark) -> Vec<AuditEntry> {
    let entries = world.audit().unwrap().since(mark).unwrap().into_iter();
    entries.filter(|entry| entry.user == World::operator_user() && [401, 403].contains(&entry.code)).collect()
}

#[tokio::test]
async fn the_operator_uses_every_permission_and_is_refused_nothing() {
    if skipped_without_audit_log() {
        return;
    }
    let mut world = World::new().await.unwrap();
    let mark = world.audit().unwrap().mark();
    use_every_permission(&mut world).await;

    let used = |entries: &[AuditEntry]| {
        let mut used = BTreeSet::new();
        for entry in entries.iter().filter(|entry| entry.user == World::operator_user() && !entry.resource.is_empty()) {
            let slash = if entry.subresource.is_empty() { "" } else { "/" };
            let resource = format!("{}{slash}{}", entry.resource, entry.subresource);
            // An apply that creates an object also needs the verb create.
            if entry.verb == "patch" && entry.code == 201 {
                used.insert(("create".to_owned(), entry.api_group.clone(), resource.clone()));
            }
            used.insert((entry.verb.clone(), entry.api_group.clone(), resource));
        }
        used
    };
    // Lists are needed for an API server without streaming lists; see `lists_come_in_pages_where_the_apiserver_has_no_streaming_lists`.
    let is_list = |(verb, _, resource): &Permission| verb == "list" && !["daemonsets", "leases"].contains(&&**resource);
    let wanted: BTreeSet<_> = permissions(shipped_rules()).into_iter().filter(|permission| !is_list(permission)).collect();
    world
        .eventually("every permission is used", TIMEOUT, async || {
            let used = used(&world.audit().unwrap().since(mark).map_err(|err| format!("{err:#}"))?);
            if used == wanted {
                Ok(true)
            } else {
                Err(format!("unused: {:?}; beside: {:?}", wanted.difference(&used), used.difference(&wanted)))
            }
        })
        .await
        .unwrap();
    let refused = refused_since(&world, mark);
    assert!(refused.is_empty(), "{refused:#?}");
}
