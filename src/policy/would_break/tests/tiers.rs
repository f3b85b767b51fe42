//! Recorded flows where policies decide before NetworkPolicies and after them: what a baseline is to blame for, and what it is not.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{BrokenFlows, WouldBreak, baseline, judge, line, repeated, shop};
use crate::policy::flow::{
    FlowDecision,
    tests::{cluster_policy, policy, properties::flow_texts, snapshot, tier_properties::worlds},
};

/// A policy of a tier about the ingress of the database, with one rule about everybody.
fn tier(tier: &str, action: &str) -> Value {
    let subject = json!({"pods": {"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": "db"}}}});
    let rules = json!([{"action": action, "from": [{"namespaces": {}}]}]);
    cluster_policy("ClusterNetworkPolicy", "rules", json!({"tier": tier, "priority": 1, "subject": subject, "ingress": rules}))
}

fn found(objects: &[Value], with_baseline: bool) -> WouldBreak {
    let lines = [line("shop/web-7d4b-1", "shop/db-0", "5432")];
    let platform = with_baseline.then(|| baseline(&json!({})));
    judge(&snapshot(objects), &lines, platform.as_ref())
}

fn with(more: &[Value]) -> Vec<Value> {
    shop().into_iter().chain(more.iter().cloned()).collect()
}

#[test]
fn what_the_admin_tier_denies_is_not_the_baselines_doing_and_no_policy_is_suggested_for_it() {
    let objects = with(&[tier("Admin", "Deny")]);
    for with_baseline in [true, false] {
        let found = found(&objects, with_baseline);
        assert_eq!((found.not_allowed, found.denied_already), (u64::from(!with_baseline), u64::from(with_baseline)));
        assert!(found.broken[0].by.contains(&"ingress ClusterNetworkPolicy rules".into()), "{found}");
        assert_eq!(found.suggestions.len(), 0, "{found}");
        assert_eq!(
            found.warnings,
            [
                "the ClusterNetworkPolicy rules denies some of these flows before NetworkPolicies are asked, so no NetworkPolicy can allow them"
            ]
        );
    }
}

#[test]
fn what_the_admin_tier_allows_is_closed_by_no_baseline() {
    let found = found(&with(&[tier("Admin", "Accept")]), true);
    assert_eq!((found.not_allowed, found.suggestions.len()), (1, 1), "the egress is not among its rules: {found}");
    assert!(found.broken[0].by.iter().all(|by| by.starts_with("egress ")), "{found}");
}

#[test]
fn closing_a_namespace_ends_the_baseline_tier_there() {
    let found_with = |more: &[Value]| found(&with(more), true);
    let accepted = found_with(&[tier("Baseline", "Accept")]);
    assert_eq!((accepted.not_allowed, accepted.denied_already), (1, 0), "it allows this today: {accepted}");
    let denied = found_with(&[tier("Baseline", "Deny")]);
    assert_eq!((denied.not_allowed, denied.denied_already), (0, 1), "{denied}");
    // A policy that lets it in is one that isolates the pod, so the tier is not asked any more.
    let open =
        policy("shop/open", json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"], "ingress": [{}], "egress": [{}]}));
    let opened = found_with(&[tier("Baseline", "Deny"), open]);
    assert_eq!((opened.not_allowed, opened.denied_already), (0, 0), "{opened}");
}

#[test]
fn what_the_baseline_tier_denies_a_suggested_policy_lets_through() {
    let objects = with(&[tier("Baseline", "Deny")]);
    let lines = [line("shop/web-7d4b-1", "shop/db-0", "5432"), line("192.0.2.1", "shop/db-0", "80")];
    let found = judge(&snapshot(&objects), &lines, None);
    assert_eq!((found.not_allowed, &*found.broken[0].by), (1, &["ingress ClusterNetworkPolicy rules".to_owned()][..]), "{found}");
    assert_eq!(found.suggestions.len(), 2, "one for this flow, and one for what the first one would deny: {found}");
    assert_eq!(repeated(&objects, &found, &lines, None).not_allowed, 0);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn after_the_suggestions_only_what_the_admin_tier_denies_is_denied(objects in worlds(), closes in any::<bool>()) {
        let world = snapshot(&objects);
        let lines: Vec<String> = flow_texts(&world).into_iter().map(|[from, to, port]| line(&from, &to, &port)).collect();
        let platform = closes.then(|| baseline(&json!({})));
        let found = judge(&world, &lines, platform.as_ref());
        let again = repeated(&objects, &found, &lines, platform.as_ref());
        let admin: Vec<String> = again.warnings.iter().filter_map(|one| one.strip_prefix("the ")?.split(" denies some").next().map(str::to_owned)).collect();
        let is_final = |flows: &BrokenFlows| flows.by.iter().any(|by| admin.iter().any(|policy| by.ends_with(policy)));
        for flows in again.broken.iter().filter(|flows| flows.decision == FlowDecision::Denied && !flows.already) {
            prop_assert!(is_final(flows), "{:?}", flows);
        }
        if platform.is_some() {
            let blamed = found.broken.iter().filter(|flows| flows.decision == FlowDecision::Denied && !flows.already);
            prop_assert!(blamed.into_iter().all(|flows| flows.by.iter().any(|by| by.split(' ').count() == 2)), "only NetworkPolicies are new: {}", found);
        }
    }
}
