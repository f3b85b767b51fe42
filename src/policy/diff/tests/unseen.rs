//! What no judged flow can show has a sentence of its own.

use super::*;

#[test]
fn a_policy_that_differs_and_selects_no_judged_pod_is_named() {
    let of = |name: &str, app: &str, port: u16| {
        policy(name, json!({"podSelector": {"matchLabels": {"app": app}}, "ingress": [{"ports": [{"port": port}]}]})).to_string()
    };
    let node = |name: &str| {
        let mut on_host = pod(name, json!({"app": "agent"}), &["192.168.0.1"]);
        on_host["spec"]["hostNetwork"] = true.into();
        on_host
    };
    let objects: Vec<Value> = shop().into_iter().chain([node("shop/agent-1")]).collect();
    let say = |what: &str| {
        format!(
            "the NetworkPolicy {what}, but no pod that was judged is selected by it, so its effect is not shown. Look at its namespace and podSelector, or give the workloads that it selects"
        )
    };
    for (old, new, expected) in [
        // A namespace without pods, labels that nobody has, and pods on the host network.
        (of("bank/api", "api", 80), of("bank/api", "api", 81), say("bank/api changed")),
        (of("shop/wbe", "wbe", 80), of("shop/wbe", "wbe", 81), say("shop/wbe changed")),
        (of("shop/agent", "agent", 80), of("shop/agent", "agent", 81), say("shop/agent changed")),
        (String::new(), of("bank/api", "api", 80), say("bank/api is new")),
        (of("bank/api", "api", 80), String::new(), say("bank/api is gone")),
    ] {
        let diff = diff_of(&objects, &old, &new);
        assert_eq!((diff.warnings.clone(), diff.unseen_policies, diff.has_changes()), (vec![expected], 1, false), "{diff}");
        let text = diff.to_string();
        assert!(text.starts_with("no flow of these pods is decided differently. Policies: 1 "), "{text}");
        assert!(text.contains(". Not shown, because no judged pod is selected: changes of 1 policy. Judged: "), "{text}");
    }
    let [old, new] = [80, 81].map(|port| side(&of("shop/wbe", "wbe", port)));
    let [old, new] = worlds(snapshot(&objects), &old, &new);
    let of_db = compare(&old, &new, ALL, Some(&"app=db".parse().unwrap())).to_string();
    assert!(of_db.starts_with("no judged flow of workloads with app=db is decided differently. Policies: 1 changed"), "{of_db}");
    let two = |port: u16| format!("{}\n---\n{}", of("bank/api", "api", port), of("bank/db", "db", port));
    let diff = diff_of(&objects, &two(1), &two(2));
    assert_eq!(diff.unseen_policies, 2);
    assert!(
        diff.warnings[0].starts_with("2 NetworkPolicies are changed, but") && diff.warnings[0].contains(": bank/api, bank/db. ")
    );
    // What is the same, what one version applies to pods, and what does nothing need no word.
    let nothing = |port: u16| {
        let spec = json!({"podSelector": {}, "policyTypes": ["Egres"], "ingress": [{"ports": [{"port": port}]}]});
        policy("bank/none", spec).to_string()
    };
    for (old, new) in [
        (of("bank/api", "api", 80), of("bank/api", "api", 80)),
        (of("shop/web", "wbe", 80), of("shop/web", "web", 80)),
        (nothing(1), nothing(2)),
    ] {
        let diff = diff_of(&objects, &old, &new);
        assert_eq!((diff.unseen_policies, diff.warnings.len()), (0, 0), "{diff} {:?}", diff.warnings);
    }
}

#[test]
fn a_peer_that_one_version_has_and_that_is_no_judged_pod_is_named() {
    let of =
        |peers: Value| policy("shop/db", json!({"podSelector": {"matchLabels": {"app": "db"}}, "ingress": [{"from": peers}]}));
    let web = json!({"podSelector": {"matchLabels": {"app": "web"}}});
    let bank = json!({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "bank"}}});
    let diff = |old: Value, new: Value| diff_of(&shop(), &of(old).to_string(), &of(new).to_string());
    let added = diff(json!([web]), json!([web, bank]));
    let expected = "no pod that was judged is selected by these peers, which only one version has, so what they allow is not shown: shop/db spec.ingress[0].from[1] (new). Look at their selectors, or give the workloads that they select";
    assert_eq!(
        (added.warnings.clone(), added.unseen_policies, added.has_changes()),
        (vec![expected.to_owned()], 1, false),
        "{added}"
    );
    let removed = diff(json!([bank, web]), json!([web]));
    assert!(removed.warnings[0].contains("shop/db spec.ingress[0].from[0] (old)"), "{:?}", removed.warnings);
    let moved = diff(json!([web, bank]), json!([bank, web]));
    assert_eq!((moved.unseen_policies, moved.warnings.len()), (0, 0), "{:?}", moved.warnings);
}
