//! The policies that would allow a flow: what they select, and what they say about themselves.

use serde_json::{Value, json};

use super::{
    answers::{shop, text, with},
    cluster_policy, namespace, pod, policy,
};
use crate::testkit::golden;

/// The shop with a ClusterNetworkPolicy about the ingress of the database.
fn shop_with(tier: &str, rules: Value) -> Vec<Value> {
    let subject = json!({"pods": {"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": "db"}}}});
    let spec = json!({"tier": tier, "priority": 10, "subject": subject, "ingress": rules});
    shop().into_iter().chain([cluster_policy("ClusterNetworkPolicy", "databases", spec)]).collect()
}

#[test]
fn a_suggestion_selects_by_the_labels_that_stay_and_never_replaces_a_policy() {
    let taken = policy("shop/allow-web-to-1-2-3-4-80", json!({"podSelector": {}, "policyTypes": ["Egress"]}));
    let objects: Vec<Value> = shop().into_iter().chain([taken]).collect();
    let suggested = with(&objects, ("shop/web-1", "1.2.3.4", "80"), |answer| answer.unwrap().suggestions[0].policy.clone());
    assert_eq!(suggested.name, "allow-web-to-1-2-3-4-80-2");
    let spec = serde_json::to_value(&*suggested.spec).unwrap();
    assert_eq!(spec["podSelector"], json!({"matchLabels": {"app": "web"}}), "without the hash of the template");
    assert_eq!(
        spec["egress"],
        json!([{"to": [{"ipBlock": {"cidr": "1.2.3.4/32"}}], "ports": [{"protocol": "TCP", "port": 80}]}])
    );
}

#[test]
fn a_suggestion_outlives_the_next_release_and_says_when_it_selects_a_whole_namespace() {
    let labels = json!({"app.kubernetes.io/name": "web", "app.kubernetes.io/version": "1.2.3", "helm.sh/chart": "web-0.1", "rollouts-pod-template-hash": "7d"});
    let closed = json!({"podSelector": {}, "policyTypes": ["Egress"]});
    let of = |labels: Value| {
        let objects = [namespace("a", json!({})), pod("a/p", labels, &["10.0.0.1"]), policy("a/closed", closed.clone())];
        with(&objects, ("a/p", "1.2.3.4", "80"), |answer| {
            let suggestion = answer.unwrap().suggestions.remove(0);
            (suggestion.policy.spec.pod_selector.clone().unwrap().match_labels, suggestion.cautions)
        })
    };
    let selects =
        |labels: &[(&str, &str)]| Some(labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect());
    assert_eq!(of(labels), (selects(&[("app.kubernetes.io/name", "web")]), vec![]));
    let once = "a/p has no label that its next run or release has too, so this policy is about this one only, by version: add a label to its template";
    assert_eq!(of(json!({"version": "2"})), (selects(&[("version", "2")]), vec![once.into()]), "better than the whole namespace");
    let whole = "a/p has no label that stays, so this policy selects every pod of a";
    assert_eq!(of(json!({"pod-template-hash": "1"})), (None, vec![whole.into()]));

    let objects = [
        namespace("a", json!({})),
        pod("a/p", json!({"app": "web"}), &["10.0.0.1"]),
        namespace("b", json!({})),
        pod("b/q", json!({}), &["10.0.0.2"]),
        policy("a/closed", closed),
    ];
    let shown = text(&objects, ("a/p", "b/q", "80"));
    assert!(shown.contains("\nAttention: b/q has no label that stays, so this policy opens to every pod of b.\n"), "{shown}");
}

#[test]
fn a_suggestion_says_which_pods_it_would_be_the_first_to_isolate() {
    let closed = json!({"podSelector": {"matchLabels": {"canary": "no"}}, "policyTypes": ["Egress"]});
    let objects = [
        namespace("a", json!({})),
        pod("a/one", json!({"app": "web", "canary": "no", "pod-template-hash": "1"}), &["10.0.0.1"]),
        pod("a/two", json!({"app": "web", "canary": "no", "extra": "x"}), &["10.0.0.2"]),
        policy("a/closed", closed),
    ];
    let newly = |objects: &[Value], from: &str| {
        with(objects, (from, "1.2.3.4", "80"), |answer| {
            answer.unwrap().suggestions.into_iter().flat_map(|one| one.newly_isolated).collect::<Vec<_>>()
        })
    };
    assert_eq!(newly(&objects, "a/one"), [] as [&str; 0], "both are isolated already");
    let by_name = json!({"podSelector": {"matchLabels": {"pod-template-hash": "1"}}, "policyTypes": ["Egress"]});
    let objects = [&objects[..3], &[policy("a/closed", by_name)]].concat();
    assert_eq!(newly(&objects, "a/one"), ["a/two"]);
    assert!(text(&objects, ("a/one", "1.2.3.4", "80")).contains("Attention: no policy isolates a/two in this direction today."));
}

#[test]
fn for_what_the_admin_tier_denies_no_policy_is_suggested_and_the_rule_is_named() {
    let pass = json!({"action": "Pass", "from": [{"namespaces": {"matchLabels": {"kubernetes.io/metadata.name": "shop"}}}]});
    let deny = json!({"name": "nobody else", "action": "Deny", "from": [{"namespaces": {}}],
        "protocols": [{"udp": {"destinationPort": {"number": 53}}}, {"tcp": {}}]});
    let objects = shop_with("Admin", json!([pass, deny]));
    golden("src/policy/flow/golden/admin-tier-denied.txt", &text(&objects, ("ops/tool", "shop/db-1", "5432")));
    golden("src/policy/flow/golden/admin-tier-passed.txt", &text(&objects, ("shop/web-1", "shop/db-1", "5432")));
    let json = with(&objects, ("ops/tool", "shop/db-1", "5432"), |answer| serde_json::to_value(answer.unwrap()).unwrap());
    assert_eq!(json["suggestions"], json!([]), "not even for the egress, which a NetworkPolicy denies");
    let rule = json!({"kind": "ClusterNetworkPolicy", "name": "databases", "tier": "Admin", "rule": 1, "ruleName": "nobody else", "peer": 0, "port": 1});
    assert_eq!(json["cases"][0]["ingress"], json!({"result": "deniedByTier", "by": [rule]}));
}

#[test]
fn for_what_the_baseline_tier_denies_a_policy_is_suggested_with_what_it_would_cut() {
    let deny = json!([{"action": "Deny", "from": [{"namespaces": {}}]}]);
    let mut objects = shop_with("Baseline", deny);
    objects.retain(|object| object["kind"] != "NetworkPolicy");
    let shown = text(&objects, ("ops/tool", "shop/db-1", "5432"));
    let row = "denied    ClusterNetworkPolicy databases   spec.ingress[0].from[0] denies it, as no NetworkPolicy isolates it in this direction\n";
    assert!(shown.contains(row), "{shown}");
    assert!(shown.contains("\nAttention: no policy isolates shop/db-1, shop/db-2 in this direction today."), "{shown}");
    assert!(!shown.contains("note: "), "{shown}");
}

#[test]
fn where_it_is_not_known_which_rule_decides_each_one_is_named_with_the_reason() {
    let names = json!({"name": "mirror", "action": "Accept", "to": [{"domainNames": ["mirror.example.com"]}]});
    let rules = json!([names, {"action": "Deny", "to": [{"networks": ["0.0.0.0/0"]}]}]);
    let policy = |kind: &str, rules: Value| {
        cluster_policy(kind, "egress", json!({"tier": "Admin", "priority": 1, "subject": {"namespaces": {}}, "egress": rules}))
    };
    let mut objects = shop();
    objects.push(policy("ClusterNetworkPolicy", rules));
    golden("src/policy/flow/golden/unclear.txt", &text(&objects, ("shop/web-1", "192.0.2.1", "443")));
    objects.push(policy("AdminNetworkPolicy", json!([{"action": "Allow", "to": [{"networks": ["192.0.2.0/24"]}]}])));
    let shown = text(&objects, ("shop/web-1", "192.0.2.1", "443"));
    assert!(
        shown.contains("spec.egress[1].to[0] may deny it: the API does not say which one of these rules decides first\n"),
        "{shown}"
    );
}
