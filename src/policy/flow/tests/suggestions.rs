//! The policies that would allow a flow: what they select, and what they say about themselves.

use serde_json::{Value, json};

use super::{
    answers::{shop, text, with},
    namespace, pod, policy,
};

#[test]
fn a_suggestion_selects_by_the_labels_that_stay_and_never_replaces_a_policy() {
    let taken = policy("shop/allow-web-to-1-2-3-4-80", json!({"podSelector": {}, "policyTypes": ["Egress"]}));
    let objects: Vec<Value> = shop().into_iter().chain([taken]).collect();
    let suggested = with(&objects, ("shop/web-1", "1.2.3.4", "80"), |answer| answer.unwrap().suggestions[0].policy.clone());
    assert_eq!(suggested.metadata.name.as_deref(), Some("allow-web-to-1-2-3-4-80-2"));
    let spec = serde_json::to_value(suggested.spec).unwrap();
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
            let mut suggestion = answer.unwrap().suggestions.remove(0);
            (suggestion.policy.spec.take().unwrap().pod_selector.unwrap().match_labels, suggestion.cautions)
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
