//! Two versions compared: nothing differs from itself, each flow is judged as on its own, and what people read.

mod shown;
mod unseen;

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr},
};

use ipnet::IpNet;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{
    DiffSide, MarkdownDiff, WorkloadManifests,
    report::{ChangedFlows, FlowChange, FlowDiff},
    workloads::{ComparedWorkloads, FlowEnds},
    worlds,
};
use crate::api::label_query::LabelQuery;
use crate::{
    api::peers::Protocol,
    policy::flow::{
        CompiledPolicies, Flow, FlowDecision, FlowSnapshot, IpFamily, Party, Row, Way,
        tests::{
            namespace, pod, policy,
            properties::{flows, objects},
            snapshot, tier_properties, with_ports,
        },
    },
    testkit::golden,
};

const ALL: usize = usize::MAX;
/// The address of a node. Its own pods always reach it.
const NODE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 168, 0, 1));

/// A flow that changes: between whom, the port, the family, and how.
type Changed = (End, End, Protocol, u16, IpFamily, FlowChange);

fn compare(old: &FlowSnapshot, new: &FlowSnapshot, limit: usize, only: Option<&LabelQuery>) -> FlowDiff {
    super::compare(old, new, limit, only).unwrap()
}

fn is_policy(object: &Value) -> bool {
    object["kind"] == "NetworkPolicy"
}

/// The pods of the first world with the policies of each. Two pods at a time are a workload, and no policy names it.
fn pair(one: &[Value], other: &[Value]) -> [FlowSnapshot; 2] {
    let mut pods: Vec<Value> = one.iter().filter(|object| !is_policy(object)).cloned().collect();
    for (pod, number) in pods.iter_mut().filter(|object| object["kind"] == "Pod").zip(0..) {
        pod["metadata"]["labels"]["app"] = format!("w{}", number / 2).into();
    }
    let with = |policies: &[Value]| {
        snapshot(&pods.iter().chain(policies.iter().filter(|object| is_policy(object))).cloned().collect::<Vec<_>>())
    };
    [with(one), with(other)]
}

/// The names of all workloads, by pod; none for those that are left out.
fn names(world: &FlowSnapshot) -> (Vec<Option<String>>, BTreeSet<String>) {
    let compiled = CompiledPolicies::of(world);
    let workloads = ComparedWorkloads::of(world, &compiled, None);
    let name = |pod: usize| {
        let workload = workloads.of_class[compiled.classes.class(pod)? as usize]?;
        let mut row = Row::new(workloads.count());
        row.set(workload..workload + 1);
        (workloads.count() > 1).then(|| workloads.ends(&row).names[0].clone())
    };
    let names: Vec<Option<String>> = (0..world.pods.len()).map(name).collect();
    let all = names.iter().flatten().cloned().collect();
    (names, all)
}

/// The names that the ends of a row stand for.
fn expanded(ends: &FlowEnds, all: &BTreeSet<String>) -> Vec<String> {
    assert_eq!(ends.more, 0);
    let of = |name: &String| -> Vec<String> {
        match name.strip_suffix("/*") {
            Some(namespace) => all.iter().filter(|one| one.starts_with(&format!("{namespace}/"))).cloned().collect(),
            None if name.starts_with("all ") => all.iter().cloned().collect(),
            None => vec![name.clone()],
        }
    };
    ends.names.iter().flat_map(of).collect()
}

fn has_address(names: &FlowEnds, address: IpAddr) -> bool {
    names.names.iter().any(|name| match (name.parse::<IpNet>(), name.split_once('-')) {
        (Ok(range), _) => range.contains(&address),
        (Err(_), Some((first, last))) => {
            let (first, last): (IpAddr, IpAddr) = (first.parse().unwrap(), last.parse().unwrap());
            first.is_ipv4() == address.is_ipv4() && (first..=last).contains(&address)
        }
        (Err(_), None) => name.parse() == Ok(address),
    })
}

fn has_port(text: &str, protocol: Protocol, number: u16) -> bool {
    if text == "every port" {
        return true;
    }
    if let Some(others) = text.strip_prefix("every port except ") {
        return !has_port(others, protocol, number);
    }
    let mut of = "";
    text.split(", ").any(|part| {
        let numbers = match part.split_once(' ') {
            Some((protocol, numbers)) => {
                of = protocol;
                numbers
            }
            None if part.starts_with(char::is_numeric) => part,
            None => {
                of = part;
                "1-65535"
            }
        };
        let (first, last) = numbers.split_once('-').unwrap_or((numbers, numbers));
        of == protocol.into_str() && (first.parse::<u16>().unwrap()..=last.parse().unwrap()).contains(&number)
    })
}

fn rows(diff: &FlowDiff, change: FlowChange) -> &[ChangedFlows] {
    match change {
        FlowChange::Allowed => &diff.newly_allowed.rows,
        FlowChange::Denied => &diff.newly_denied.rows,
    }
}

const fn opposite(change: FlowChange) -> FlowChange {
    match change {
        FlowChange::Allowed => FlowChange::Denied,
        FlowChange::Denied => FlowChange::Allowed,
    }
}

/// Whether the diff says that this flow between workloads, or with an address, changes so.
fn says(diff: &FlowDiff, (from, to, protocol, port, family, change): &Changed, all: &BTreeSet<String>) -> bool {
    let has = |of: &FlowEnds, end: &End| match end {
        End::Workload(name) => expanded(of, all).contains(name),
        End::Address(address) => has_address(of, *address),
    };
    rows(diff, *change).iter().any(|row| {
        let over: &str = family.into();
        has(&row.from, from)
            && has(&row.to, to)
            && has_port(&row.ports, *protocol, *port)
            && row.only_over.is_none_or(|only| only == over)
    })
}

#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum End {
    Workload(String),
    Address(IpAddr),
}

fn end(world: &FlowSnapshot, names: &[Option<String>], party: Party) -> Option<End> {
    match party.pod {
        Some(pod) => names[pod].clone().map(End::Workload),
        None => party
            .address
            .filter(|address| *address != NODE && !world.pods.iter().any(|pod| pod.addresses.contains(address)))
            .map(End::Address),
    }
}

fn decision(compiled: &CompiledPolicies<'_>, flow: &Flow) -> FlowDecision {
    compiled.judge(flow, Way::Egress).decision().max(compiled.judge(flow, Way::Ingress).decision())
}

/// A world of NetworkPolicies, or one with policies of the tiers too. These are the same on both sides.
fn any_world() -> impl Strategy<Value = Vec<Value>> {
    prop_oneof![objects().boxed(), tier_properties::worlds().boxed()]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn nothing_differs_from_itself(objects in any_world()) {
        let [world, same] = pair(&objects, &objects);
        let diff = compare(&world, &same, ALL, None);
        prop_assert!(!diff.has_changes(), "{}", diff);
        prop_assert_eq!((diff.added_policies, diff.removed_policies, diff.changed_policies), (0, 0, 0));
    }

    #[test]
    fn each_flow_changes_as_it_does_when_it_is_judged_alone_and_backwards_the_other_way_round(one in any_world(), other in any_world()) {
        let [old, new] = pair(&one, &other);
        let (of_pods, all) = names(&new);
        prop_assume!(all.len() > 1);
        let (forwards, backwards) = (compare(&old, &new, ALL, None), compare(&new, &old, ALL, None));
        let (old_compiled, new_compiled) = (CompiledPolicies::of(&old), CompiledPolicies::of(&new));
        // Of a workload, some pods may change and others may not. What is shown is the workload.
        let (mut asked, mut expected) = (BTreeSet::new(), BTreeSet::new());
        for flow in flows(&old) {
            let (Some(from), Some(to)) = (end(&old, &of_pods, flow.from), end(&old, &of_pods, flow.to)) else { continue };
            if flow.from.pod == flow.to.pod || matches!((&from, &to), (End::Address(_), End::Address(_))) {
                continue;
            }
            let family = flow.from.address.map(IpFamily::of).unwrap();
            let flow_as = |change| (from.clone(), to.clone(), flow.protocol, flow.port, family, change);
            asked.extend([FlowChange::Allowed, FlowChange::Denied].map(flow_as));
            match [&old_compiled, &new_compiled].map(|compiled| decision(compiled, &flow) == FlowDecision::Allowed) {
                [false, true] => _ = expected.insert(flow_as(FlowChange::Allowed)),
                [true, false] => _ = expected.insert(flow_as(FlowChange::Denied)),
                [true, true] | [false, false] => {}
            }
        }
        for flow in asked {
            let is_expected = expected.contains(&flow);
            prop_assert_eq!(says(&forwards, &flow, &all), is_expected, "{:?}\n{}", flow, forwards);
            let (from, to, protocol, port, family, change) = flow;
            let back = (from, to, protocol, port, family, opposite(change));
            prop_assert_eq!(says(&backwards, &back, &all), is_expected, "{:?}\n{}", back, backwards);
        }
    }
}

/// A shop, its DNS, and reports.
fn shop() -> Vec<Value> {
    let web = |number: u16| pod(&format!("shop/web-7d4b-{number}"), json!({"app": "web"}), &[&format!("10.0.0.{number}")]);
    vec![
        namespace("shop", json!({})),
        namespace("reports", json!({})),
        namespace("kube-system", json!({})),
        web(1),
        web(2),
        with_ports(pod("shop/db-0", json!({"app": "db"}), &["10.0.0.9"]), &[("sql", 5432)]),
        pod("shop/db-copy-0", json!({"app": "db", "role": "copy"}), &["10.0.0.10"]),
        pod("reports/nightly-1", json!({"app": "nightly"}), &["10.0.2.1"]),
        pod("kube-system/coredns-1", json!({"k8s-app": "kube-dns"}), &["10.0.1.1"]),
    ]
}

#[test]
fn metadata_that_is_no_object_is_an_error_that_names_the_object() {
    let text = "{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: x}";
    let error = DiffSide::default().add(text, "default", "policy-baseline-system").unwrap_err();
    assert!(error.ends_with("metadata is no object: write metadata: {name: NAME}"), "{error}");
}

#[test]
fn a_policy_that_only_the_new_version_has_is_compared_with_what_exists() {
    let existing = policy("shop/db", json!({"podSelector": {"matchLabels": {"app": "db"}}, "ingress": [{}]}));
    let changed = "{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: db, namespace: shop}, spec: {podSelector: {matchLabels: {app: db}}, ingress: []}}";
    let world = snapshot(&shop().into_iter().chain([existing]).collect::<Vec<_>>());
    let [before, after] = worlds(world.clone(), &DiffSide::default(), &side(changed));
    let diff = compare(&before, &after, ALL, None);
    assert_eq!((diff.changed_policies, diff.newly_denied.pairs > 0, diff.newly_allowed.pairs), (1, true, 0), "{diff}");
    // What only the old version has is removed.
    let [before, after] = worlds(world, &side(changed), &DiffSide::default());
    let diff = compare(&before, &after, ALL, None);
    assert_eq!((diff.removed_policies, diff.newly_allowed.pairs > 0), (1, true), "{diff}");
}

fn side(text: &str) -> DiffSide {
    let mut side = DiffSide::default();
    side.add(text, "default", "policy-baseline-system").unwrap();
    side
}

fn baseline(name: &str, more: &str) -> String {
    format!(
        "apiVersion: policybaseline.io/v1alpha1\nkind: PolicyBaseline\nmetadata: {{name: {name}}}\nspec: {{mode: Enforce{more}}}\n"
    )
}

fn diff_of(objects: &[Value], old: &str, new: &str) -> FlowDiff {
    let [old, new] = worlds(snapshot(objects), &side(old), &side(new));
    compare(&old, &new, 50, None)
}

#[test]
fn what_people_read_names_workloads_ports_and_deciders() {
    let closed = policy("shop/deny", json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}));
    let dns = policy(
        "shop/dns",
        json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": [{
            "to": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}}}],
            "ports": [{"port": 53}, {"port": 53, "protocol": "UDP"}],
        }]}),
    );
    let egress = policy(
        "shop/web-to-db",
        json!({"podSelector": {"matchLabels": {"app": "web"}}, "policyTypes": ["Egress"], "egress": [
            {"to": [{"podSelector": {"matchLabels": {"app": "db"}}}], "ports": [{"port": 5432}]},
            {"to": [{"ipBlock": {"cidr": "203.0.113.0/24"}}], "ports": [{"port": 443}]},
        ]}),
    );
    let ingress = policy(
        "shop/db-from-web",
        json!({"podSelector": {"matchLabels": {"app": "db"}}, "ingress": [
            {"from": [{"podSelector": {"matchLabels": {"app": "web"}}}], "ports": [{"port": "sql"}]},
        ]}),
    );
    let text = |policies: &[&Value]| policies.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n---\n");
    let found = diff_of(&shop(), &text(&[&closed, &dns]), &text(&[&closed, &egress, &ingress]));
    golden("src/policy/diff/golden/policies.txt", &found.to_string());
    golden("src/policy/diff/golden/policies.md", &MarkdownDiff(&found).to_string());
    golden("src/policy/diff/golden/policies.json", &(serde_json::to_string_pretty(&found).unwrap() + "\n"));
    let closing = diff_of(&shop(), "", &baseline("platform", ""));
    golden("src/policy/diff/golden/baseline.txt", &closing.to_string());
}

#[test]
fn a_long_diff_is_cut_and_says_by_how_much() {
    let workloads = |number: u8| pod(&format!("w{number}/p"), json!({"app": "p"}), &[&format!("10.0.0.{number}")]);
    let objects: Vec<Value> = (0..120).map(workloads).collect();
    let [old, new] = worlds(snapshot(&objects), &side(""), &side(&baseline("platform", "")));
    let diff = compare(&old, &new, 1, None);
    assert_eq!((diff.newly_denied.rows.len(), diff.newly_denied.more_rows), (1, 2), "{diff}");
    assert!(diff.to_string().ends_with("and 2 rows more. --limit shows more rows\n"), "{diff}");
    assert_eq!(diff.newly_denied.pairs, 120 * 119 + 120 * 2, "each to each, and addresses in both directions");
}

#[test]
fn what_exists_beside_the_two_versions_applies_to_both_and_baselines_replace_what_they_wrote() {
    let mut stored = policy("shop/baseline-default-deny-ingress", json!({"podSelector": {}, "policyTypes": ["Ingress"]}));
    stored["metadata"]["labels"] = json!({"policybaseline.io/baseline": "platform"});
    let other = policy("shop/other", json!({"podSelector": {"matchLabels": {"app": "web"}}, "policyTypes": ["Ingress"]}));
    let objects: Vec<Value> = shop().into_iter().chain([stored, other]).collect();
    let ingress = baseline("platform", ", policies: [DefaultDenyIngress]");
    let same = diff_of(&objects, &ingress, &ingress);
    assert!(!same.has_changes(), "{same}");
    let opened = diff_of(&objects, &ingress, "");
    let receivers: Vec<&String> = opened.newly_allowed.rows.iter().flat_map(|row| &row.to.names).collect();
    assert!(!receivers.is_empty() && !receivers.iter().any(|name| *name == "shop/web"), "other still closes it: {opened}");
    let audit = diff_of(&objects, &ingress.replace("Enforce", "Audit"), "");
    assert!(!audit.has_changes(), "in mode Audit nothing is written: {audit}");
}

#[test]
fn manifests_without_a_cluster_are_two_pods_for_each_workload() {
    let mut manifests = WorkloadManifests::default();
    let template =
        "template: {metadata: {labels: {app: web}}, spec: {containers: [{name: c, ports: [{name: http, containerPort: 80}]}]}}";
    let text = format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: web}}\nspec: {{{template}}}\n---\napiVersion: batch/v1\nkind: CronJob\nmetadata: {{name: job, namespace: other}}\nspec: {{jobTemplate: {{spec: {{{template}}}}}}}\n---\n# nothing\n"
    );
    manifests.add(&text, "shop").unwrap();
    let world: FlowSnapshot = manifests.dump().unwrap().objects.into_iter().collect();
    let pods: Vec<String> = world.pods.iter().map(|pod| format!("{}/{} {}", pod.namespace, pod.name, pod.ports.len())).collect();
    assert_eq!(pods, ["other/job~1 1", "shop/web~1 1", "shop/web~2 1"]);
    let closed = "{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: deny, namespace: shop}, spec: {podSelector: {}}}";
    let [old, new] = worlds(world, &side(""), &side(closed));
    let diff = compare(&old, &new, 50, None);
    assert_eq!(diff.newly_denied.pairs, 3, "web to itself, job to web, and addresses: {diff}");
    // Two kinds with one name are two workloads, and one that is given twice is one.
    let named = |kind: &str, app: &str| {
        format!(
            "apiVersion: apps/v1\nkind: {kind}\nmetadata: {{name: web}}\nspec: {{template: {{metadata: {{labels: {{app: {app}}}}}}}}}\n"
        )
    };
    let mut alike = WorkloadManifests::default();
    for text in [named("Deployment", "old"), named("StatefulSet", "db"), named("Deployment", "web")] {
        alike.add(&text, "shop").unwrap();
    }
    let world: FlowSnapshot = alike.dump().unwrap().objects.into_iter().collect();
    let pods: Vec<String> = world.pods.iter().map(|pod| format!("{} {}", pod.name, pod.labels["app"])).collect();
    assert_eq!(pods, ["web~1 web", "web~2 web", "web~3 db", "web~4 db"]);
    let mut empty = WorkloadManifests::default();
    empty.add("kind: ConfigMap", "default").unwrap();
    assert!(empty.dump().is_none());
}

#[test]
fn what_is_no_version_says_what_is_wrong_and_where() {
    let error = |text: &str| DiffSide::default().add(text, "default", "policy-baseline-system").unwrap_err();
    let policy = "kind: NetworkPolicy\nmetadata: {name: a}\nspec: {egress: 7}";
    assert_eq!(
        error(&format!("apiVersion: networking.k8s.io/v1\n{policy}")),
        "the NetworkPolicy default/a: spec.egress: invalid type: integer `7`, expected a sequence"
    );
    assert_eq!(
        error(&format!("apiVersion: extensions/v1beta1\n{policy}")),
        "the NetworkPolicy a: no API server takes extensions/v1beta1 any more: write networking.k8s.io/v1"
    );
    let two = format!("{}---\n{}", baseline("one", ""), baseline("two", ""));
    assert!(error(&two).starts_with("the PolicyBaseline two is the second baseline beside one. Give one"), "{}", error(&two));
    assert!(error(&baseline("one", ", exclude: []")).contains("the PolicyBaseline one: spec.exclude: there is no such field"));
    assert!(error("a: {{ x }}: [").contains("render it first, such as with helm template"));
    let other = side("apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {name: x, namespace: y}");
    assert_eq!(
        other.warnings,
        ["the CiliumNetworkPolicy y/x is not compared: only NetworkPolicies and baselines are. It may decide otherwise"]
    );
}
