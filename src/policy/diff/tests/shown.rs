//! What people read: names as they are, and no line without an end.

use super::*;

fn of_rules(rules: Value) -> String {
    policy("shop/db", json!({"podSelector": {"matchLabels": {"app": "db"}}, "ingress": rules})).to_string()
}

#[test]
fn a_workload_is_called_by_its_label_as_it_is() {
    let objects =
        [pod("shop/x-1", json!({"app": "my__App.v1"}), &["10.0.0.1"]), pod("shop/y-1", json!({"app": "other"}), &["10.0.0.2"])];
    let closed = policy("shop/deny", json!({"podSelector": {}})).to_string();
    let diff = diff_of(&objects, "", &closed);
    assert!(diff.to_string().contains("shop/my__App.v1   shop/other"), "{diff}");
    assert!(MarkdownDiff(&diff).to_string().contains("| shop/my\\_\\_App.v1 |"), "{}", MarkdownDiff(&diff));
}

#[test]
fn a_long_list_of_ports_is_cut_for_people_and_whole_for_machines() {
    let ports: Vec<Value> = (1..=100).step_by(2).map(|port| json!({"port": port})).collect();
    let diff = diff_of(&shop(), &of_rules(json!([])), &of_rules(json!([{"ports": ports}])));
    let shown = "TCP 1, 3, 5, 7, 9, 11, 13, 15 and 42 more";
    assert!(diff.to_string().contains(shown) && MarkdownDiff(&diff).to_string().contains(shown), "{diff}");
    assert!(diff.newly_allowed.rows[0].ports.ends_with(", 97, 99"), "{:?}", diff.newly_allowed.rows[0]);
}

#[test]
fn a_policy_of_very_many_ports_is_compared_at_once() {
    let ports = || (1..=u16::MAX).step_by(2);
    let one_rule: Vec<Value> = ports().map(|port| json!({"port": port})).collect();
    let from = json!([{"podSelector": {"matchLabels": {"app": "web"}}}]);
    let many_rules: Vec<Value> = ports().map(|port| json!({"from": from, "ports": [{"port": port}]})).collect();
    let same = diff_of(&shop(), &of_rules(json!([{"from": from, "ports": one_rule}])), &of_rules(many_rules.clone().into()));
    assert!(!same.has_changes() && same.changed_policies == 1, "{same}");
    let opened = diff_of(&shop(), &of_rules(json!([])), &of_rules(many_rules.into()));
    let rows: Vec<(&str, &str)> = opened.newly_allowed.rows.iter().map(|row| (&*row.ports, &*row.decided[0].by)).collect();
    assert!(matches!(&*rows, [(ports, "db")] if ports.starts_with("TCP 1, 3, 5, ")), "no rule is all of these: {opened}");
    let own_peers: Vec<Value> = (1..=5_000)
        .map(|port| json!({"from": [{"podSelector": {"matchLabels": {"app": format!("w{port}")}}}], "ports": [{"port": port}]}))
        .collect();
    let [old, new] = worlds(snapshot(&shop()), &side(&of_rules(json!([]))), &side(&of_rules(own_peers.into())));
    let refused = super::super::compare(&old, &new, ALL, None).unwrap_err().to_string();
    assert!(refused.starts_with("the policies treat more than 4096 sets of ports differently"), "{refused}");
}

#[test]
fn with_a_selector_only_flows_of_workloads_with_such_pods_are_compared() {
    let [old, new] = worlds(snapshot(&shop()), &side(""), &side(&baseline("platform", "")));
    let with = |query: &str| compare(&old, &new, 50, Some(&query.parse().unwrap()));
    let (all, of_web) = (compare(&old, &new, 50, None), with("app=web"));
    let names = |diff: &FlowDiff| -> Vec<String> {
        let rows = diff.newly_denied.rows.iter();
        rows.map(|row| format!("{:?} {:?}", row.from.names, row.to.names)).collect()
    };
    assert!(names(&of_web).iter().all(|ends| ends.contains("shop/web") || ends.contains("shop/*")), "{of_web}");
    assert!(of_web.has_changes() && of_web.newly_denied.pairs < all.newly_denied.pairs, "{of_web}");
    assert!(of_web.to_string().contains(" of workloads with app=web"), "{of_web}");
    let nothing = with("app=nothing");
    assert!(!nothing.has_changes(), "{nothing}");
    assert_eq!(with("app").newly_denied.pairs, all.newly_denied.pairs, "every pod has the label");
}
