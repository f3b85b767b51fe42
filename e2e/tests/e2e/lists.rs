//! How the operator reads existing objects: as a stream of the most recent state, or in pages from an API server without streaming
//! lists.

use std::collections::BTreeSet;
use std::time::Instant;

use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::jiff::Timestamp;
use kube::Api;
use kube::api::{DeleteParams, ListParams, ObjectMeta, PostParams};
use policy_baseline_e2e::proxy::{Asked, EventFault, When};
use policy_baseline_e2e::{
    AuditEntry, AuditMark, ControlPlane, Operator, Options, SERVICE_ACCOUNT, SYSTEM_NAMESPACE, TIMEOUT, World, eventually,
    skipped_without_audit_log, world,
};
use serde_json::{Value, json};

use crate::faults::behind_a_proxy;
use crate::faults_watches::expire_watches_of;
use crate::scene::{DENY_INGRESS, Plan, apply_baseline, baseline, policies_of, until_holds};
use crate::support::took;

/// The resources of which the operator reads a first list, and which it watches then. It lists the DaemonSets of network plugins from time to
/// time, and watches none of them.
const READ: [&str; 11] = [
    "apiservices",
    "baselineoptouts",
    "controllerrevisions",
    "customresourcedefinitions",
    "leases",
    "mutatingwebhookconfigurations",
    "namespaces",
    "networkpolicies",
    "policybaselines",
    "services",
    "validatingwebhookconfigurations",
];

/// The resources that it reads in single namespaces to find the DNS and the API server.
const READ_OF_DNS: [(&str, &str); 8] = [
    ("default", "endpointslices"),
    ("default", "services"),
    ("kube-system", "daemonsets"),
    ("kube-system", "endpointslices"),
    ("kube-system", "pods"),
    ("kube-system", "services"),
    ("openshift-dns", "daemonsets"),
    ("openshift-dns", "services"),
];

/// The resources that the operator requested in single namespaces other than its own, with this verb.
fn asked_of_dns<'a>(entries: &'a [AuditEntry], verb: &str) -> BTreeSet<(&'a str, &'a str)> {
    let of_dns = entries.iter().filter(|entry| !["", SYSTEM_NAMESPACE].contains(&entry.namespace.as_str()));
    let first = of_dns.filter(|entry| entry.user == World::operator_user() && entry.verb == verb);
    first.map(|entry| (&*entry.namespace, &*entry.resource)).collect()
}

/// The resources of which the operator requested a first list, with this verb.
fn asked<'a>(entries: &'a [AuditEntry], verb: &str) -> BTreeSet<&'a str> {
    let first = |entry: &&AuditEntry| match verb {
        "watch" => entry.uri.contains("sendInitialEvents=true"),
        _ => entry.uri.contains("limit="),
    };
    // In its own namespace it reads revisions. Its own Lease does not count, because the operator also reads it in another way.
    let is_own = |entry: &AuditEntry| entry.namespace == SYSTEM_NAMESPACE && entry.resource != "leases";
    let for_work = |entry: &&AuditEntry| entry.namespace.is_empty() || is_own(entry);
    let own = entries.iter().filter(|entry| entry.user == World::operator_user());
    own.filter(for_work).filter(|entry| entry.verb == verb).filter(first).map(|e| e.resource.as_str()).collect()
}

#[tokio::test]
async fn the_first_list_is_a_stream_of_the_most_recent_state() {
    if skipped_without_audit_log() {
        return;
    }
    let mut world = World::new().await.unwrap();
    let mark: AuditMark = world.audit().unwrap().mark();
    apply_baseline(&world, "platform", &json!({})).await;
    world.start_operator().await.unwrap();
    let team = world.namespace("team", &[]).await.unwrap();
    until_holds(&world, &team, &Plan::of("platform")).await;
    // A watch is in the audit log only after it has ended.
    assert_eq!(world.stop_operator().unwrap(), 0);
    let entries = async || world.audit().unwrap().since(mark);
    let streamed = async || {
        let entries = entries().await?;
        let both = (asked(&entries, "watch"), asked_of_dns(&entries, "watch"));
        Ok::<_, anyhow::Error>(both == (BTreeSet::from(READ), BTreeSet::from(READ_OF_DNS)))
    };
    world.eventually("every first list is a stream", TIMEOUT, streamed).await.unwrap();
    let entries = entries().await.unwrap();
    assert_eq!((asked(&entries, "list"), asked_of_dns(&entries, "list")), (BTreeSet::new(), BTreeSet::new()));
    let from_a_cache = |e: &&AuditEntry| e.uri.contains("sendInitialEvents=true") && e.uri.contains("resourceVersion=");
    assert_eq!(entries.iter().find(from_a_cache), None, "an apiserver that lags behind would answer with an old state");
}

#[tokio::test]
async fn lists_come_in_pages_where_the_apiserver_has_no_streaming_lists() {
    let apiserver_args = vec!["--feature-gates=WatchList=false".to_owned()];
    let plane = ControlPlane::start(Options { apiserver_args, ..Options::default() }).await.unwrap();
    let Some(audit) = plane.audit() else { return };
    let mark = audit.mark();
    plane.run_kubectl(&["apply", "--server-side", "-k", "manifests/base"]).unwrap();
    let admin = plane.admin().await.unwrap();
    let applied = async || world::apply_yaml(&admin, &baseline("platform", &json!({}))).await.map(|()| true);
    eventually("the baseline is taken", TIMEOUT, applied).await.unwrap();
    let created = Timestamp::now();
    let kubeconfig = plane.service_account_kubeconfig(SYSTEM_NAMESPACE, SERVICE_ACCOUNT).await.unwrap();
    let mut operator = Operator::start(&plane, &kubeconfig, &[], &[]).unwrap();
    // A namespace of the baseline's second counts as existing.
    eventually("a later second", TIMEOUT, async || Timestamp::now().as_second() > created.as_second()).await.unwrap();
    let metadata = ObjectMeta { name: Some("team".to_owned()), ..ObjectMeta::default() };
    let team = Namespace { metadata, ..Namespace::default() };
    Api::<Namespace>::all(admin.clone()).create(&PostParams::default(), &team).await.unwrap();
    let policies: Api<NetworkPolicy> = Api::namespaced(admin, "team");
    let holds = async || policies.list(&ListParams::default()).await.map(|list| list.items.len() == 3);
    eventually("the namespace is protected", TIMEOUT, holds).await.unwrap();
    // The namespace is protected before all lists are complete.
    let all_in_pages = async || operator.log().matches("lists come in pages").count() == READ.len() + READ_OF_DNS.len();
    eventually("each list comes in pages", TIMEOUT, all_in_pages).await.unwrap();
    assert_eq!(operator.stop().unwrap(), 0);
    let entries = audit.since(mark).unwrap();
    assert_eq!(asked(&entries, "list"), BTreeSet::from(READ));
    assert_eq!(asked_of_dns(&entries, "list"), BTreeSet::from(READ_OF_DNS));
}

// A list that does not end.

/// The bookmark that ends a streaming list of that kind. Later bookmarks have no such annotation.
fn ends_a_list(asked: &Asked, event: &Value, resource: &str) -> bool {
    asked.is_of(resource)
        && event["type"] == "BOOKMARK"
        && !event["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"].is_null()
}

const GIVEN_UP: &str = "a streaming list did not end";

#[tokio::test]
async fn a_streaming_list_whose_end_is_lost_holds_nothing_up() {
    let Some((mut world, proxy)) = behind_a_proxy().await else { return };
    let team = world.namespace("team", &[]).await.unwrap();
    for resource in ["namespaces", "policybaselines", "networkpolicies"] {
        proxy.on_event(move |asked, event| ends_a_list(asked, event, resource), When::Always, EventFault::Lose);
    }
    let start = Instant::now();
    world.start_operator().await.unwrap();
    until_holds(&world, &team, &Plan::of("platform")).await;
    took("a namespace is protected although streaming lists never end", start);
    assert_eq!(world.operator().unwrap().log().matches(GIVEN_UP).count(), 3, "once for each kind");
}

#[tokio::test]
async fn a_relist_whose_end_is_lost_hides_no_deletion() {
    let Some((mut world, proxy)) = behind_a_proxy().await else { return };
    world.start_operator().await.unwrap();
    let team = world.namespace("team", &[]).await.unwrap();
    until_holds(&world, &team, &Plan::of("platform")).await;

    // The watch expires. While it is listed anew, the end of the list is lost, and then a policy is deleted.
    proxy.on_event(|asked, event| ends_a_list(asked, event, "networkpolicies"), When::Always, EventFault::Lose);
    let before = proxy.struck();
    expire_watches_of(&proxy, &["networkpolicies"]);
    // One strike expires the watch, the next one loses the end.
    world.eventually("the end of the list is lost", TIMEOUT, async || proxy.struck() >= before + 2).await.unwrap();
    let start = Instant::now();
    policies_of(&world.admin(), &team).delete(DENY_INGRESS, &DeleteParams::default()).await.unwrap();
    until_holds(&world, &team, &Plan::of("platform")).await;
    took("a deletion is repaired although the relist never ends", start);
    assert_eq!(world.operator().unwrap().log().matches(GIVEN_UP).count(), 1);
}
