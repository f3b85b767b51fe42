//! What a checked baseline is, and where it plans its policies.

use super::*;
use crate::testkit::{baseline_object, namespace};

fn check(spec: serde_json::Value) -> Result<Baseline, BaselineError> {
    Baseline::check(&baseline_object("b", spec), "operator")
}

fn reason(spec: serde_json::Value) -> &'static str {
    check(spec).map_or_else(|e| e.reason(), |_| "valid")
}

#[test]
fn an_empty_spec_is_valid_and_selects_all_but_the_system_namespaces() {
    let b = check(serde_json::json!({})).unwrap();
    assert!(b.selects(&namespace("team-a", &[])));
    for ns in ["kube-system", "kube-public", "kube-node-lease", "operator"] {
        assert!(!b.selects(&namespace(ns, &[])), "{ns}");
    }
    assert_eq!(b.policies.len(), 3);
}

#[test]
fn exclusions_add_to_the_built_in_ones() {
    let b = check(serde_json::json!({"excludeNamespaces": ["openshift-*"]})).unwrap();
    assert!(!b.selects(&namespace("openshift-dns", &[])));
    assert!(!b.selects(&namespace("kube-system", &[])));
}

#[test]
fn system_namespaces_need_the_explicit_way_in() {
    let b = check(serde_json::json!({"includeSystemNamespaces": true})).unwrap();
    assert!(b.selects(&namespace("kube-system", &[])));
    assert!(b.selects(&namespace("operator", &[])));
}

#[test]
fn the_namespace_of_the_monitoring_pods_gets_no_egress_policy() {
    let b = check(serde_json::json!({})).unwrap();
    assert!(!b.plans(Role::DefaultDenyEgress, &namespace("monitoring", &[])));
    assert!(b.plans(Role::DefaultDenyIngress, &namespace("monitoring", &[])));
    assert!(b.plans(Role::DefaultDenyEgress, &namespace("team-a", &[])));
}

#[test]
fn what_is_not_selected_or_not_planned_has_a_reason_and_the_rest_has_none() {
    let b = check(serde_json::json!({
        "namespaceSelector": {"matchLabels": {"team": "a"}}, "excludeNamespaces": ["legacy-*"],
        "policies": ["DefaultDenyIngress", "DefaultDenyEgress"],
    }))
    .unwrap();
    let why = |name: &str, labels: &[(&str, &str)]| b.why_not_selected(&namespace(name, labels), "operator");
    assert_eq!(why("a", &[("team", "a")]), None);
    assert!(why("a", &[]).unwrap().starts_with("its labels do not match: namespaces with team=a"));
    assert_eq!(why("legacy-x", &[("team", "a")]).unwrap(), "spec.excludeNamespaces has legacy-*");
    for built_in in ["kube-system", "operator"] {
        assert!(why(built_in, &[("team", "a")]).unwrap().contains("includeSystemNamespaces"), "{built_in}");
    }
    let why = |role, name: &str| b.why_without(role, &namespace(name, &[("team", "a")]));
    assert_eq!(why(Role::DefaultDenyEgress, "a"), None);
    assert!(why(Role::DefaultDenyEgress, "monitoring").unwrap().contains("spec.monitoring.from"));
    assert_eq!(why(Role::MonitoringCarveout, "a").unwrap(), "spec.policies does not name it");
}

#[test]
fn a_namespace_of_the_monitoring_pods_gets_both_halves_when_its_egress_is_to_be_closed() {
    use serde_json::json;
    let entry =
        |team: &str| json!({"namespaceSelector": {"matchLabels": {"team": team}}, "podSelector": {"matchLabels": {"app": team}}});
    let b = check(json!({"monitoring": {"sourceEgress": "Enforce", "ports": [{"port": 9090}], "from": [entry("a"), entry("b"), entry("a")]}})).unwrap();
    let planned = |b: &Baseline, labels: &[(&str, &str)]| {
        let ns = namespace("n", labels);
        b.planned(&ns).map(|(_, policy)| policy.name.trim_start_matches("baseline-").to_owned()).collect::<Vec<_>>()
    };
    let all = ["default-deny-ingress", "default-deny-egress", "monitoring-carveout"];
    assert_eq!(planned(&b, &[]), all);
    assert_eq!(planned(&b, &[("team", "a")]), [&all[..], &["monitoring-source", "monitoring-source-3"]].concat());
    assert_eq!(planned(&b, &[("team", "b")]), [&all[..], &["monitoring-source-2"]].concat());
    // Without the role, neither half is planned. Without default-deny-egress, the source policy would open nothing and deny the rest.
    // And without default-deny-ingress, the carve-out would only close.
    for (roles, want) in [
        (json!(["DefaultDenyEgress"]), &["default-deny-egress"][..]),
        (json!(["MonitoringCarveout"]), &[]),
        (json!(["DefaultDenyIngress", "MonitoringCarveout"]), &["default-deny-ingress", "monitoring-carveout"]),
        (json!(["DefaultDenyEgress", "MonitoringCarveout"]), &["default-deny-egress", "monitoring-source"]),
    ] {
        let spec = json!({"policies": roles, "monitoring": {"sourceEgress": "Enforce", "ports": [{"port": 9090}], "from": [entry("a")]}});
        assert_eq!(planned(&check(spec).unwrap(), &[("team", "a")]), want);
    }
    // Monitoring pods scrape even if the pods of their own namespace are not scraped.
    let opted_in = json!({"matchLabels": {"scrape": "true"}});
    let spec = json!({"monitoring": {"sourceEgress": "Enforce", "ports": [{"port": 9090}], "from": [entry("a")], "namespaceSelector": opted_in}});
    let b = check(spec).unwrap();
    assert_eq!(planned(&b, &[("team", "a")]), [&all[..2], &["monitoring-source"]].concat());
    let to = b.policies[3].spec.egress.as_ref().unwrap()[1].to.as_ref().unwrap();
    assert_eq!(serde_json::to_value(&to[0].namespace_selector).unwrap(), opted_in);
}

#[test]
fn a_namespace_can_be_asked_to_opt_in_to_the_carve_out() {
    let b =
        check(serde_json::json!({"monitoring": {"namespaceSelector": {"matchLabels": {"monitoring.io/allow-scrape": "true"}}}}))
            .unwrap();
    assert!(!b.plans(Role::MonitoringCarveout, &namespace("a", &[])));
    assert!(b.plans(Role::MonitoringCarveout, &namespace("a", &[("monitoring.io/allow-scrape", "true")])));
}

#[test]
fn what_cel_cannot_see_is_named_by_reason() {
    use serde_json::json;
    for (spec, want) in [
        (json!({"namespaceSelector": {"matchLabels": {"Bad Key": "x"}}}), "InvalidSelector"),
        (json!({"namespaceSelector": {"matchLabels": {"tier": "not/a value"}}}), "InvalidSelector"),
        (json!({"namespaceSelector": {"matchExpressions": [{"key": "a", "operator": "In"}]}}), "InvalidSelector"),
        (
            json!({"namespaceSelector": {"matchExpressions": [{"key": "a", "operator": "Exists", "values": ["b"]}]}}),
            "InvalidSelector",
        ),
        (json!({"excludeNamespaces": ["Team"]}), "InvalidExclusion"),
        (json!({"policies": []}), "NoPolicies"),
        (json!({"monitoring": {"from": []}}), "EmptyList"),
        (json!({"monitoring": {"ports": []}}), "EmptyList"),
        (json!({"monitoring": {"from": [{"namespaceSelector": {"matchLabels": {"a": "b"}}}]}}), "InvalidMonitoringSource"),
        (json!({"monitoring": {"from": [{"namespaceSelector": {}, "podSelector": {}}]}}), "InvalidMonitoringSource"),
        (json!({"monitoring": {"sourceEgress": "Enforce"}}), "InvalidPort"),
        (json!({"monitoring": {"sourceEgress": "Enforce", "ports": [{"port": 9090}, {"port": "web"}]}}), "InvalidPort"),
        (json!({"monitoring": {"sourceEgress": "Enforce", "ports": [{"port": 9090}]}}), "valid"),
        (json!({"monitoring": {"ports": [{"port": 0}]}}), "InvalidPort"),
        (json!({"monitoring": {"ports": [{"port": "8080"}]}}), "InvalidPort"),
        (json!({"monitoring": {"ports": [{"port": 90, "endPort": 80}]}}), "InvalidPort"),
        (json!({"monitoring": {"ports": [{"port": "web", "endPort": 80}]}}), "InvalidPort"),
        (json!({"dns": {"peers": [{"podSelector": {}}]}}), "InvalidDnsPeer"),
        (json!({"dns": {"peers": [{}]}}), "InvalidDnsPeer"),
        (json!({"dns": {"peers": [{"ipBlock": {"cidr": "169.254.20.10"}}]}}), "InvalidCidr"),
        (json!({"dns": {"peers": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["11.0.0.0/16"]}}]}}), "InvalidCidr"),
        (json!({"dns": {"peers": [{"ipBlock": {"cidr": "10.0.0.1/8"}}]}}), "InvalidCidr"),
        (json!({"dns": {"peers": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.1/16"]}}]}}), "InvalidCidr"),
        (json!({"dns": {"peers": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.0.0.1"]}}]}}), "InvalidCidr"),
        (json!({"dns": {"peers": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.0.0.0/8"]}}]}}), "InvalidCidr"),
        (json!({"dns": {"ports": [70000]}}), "InvalidPort"),
        (json!({"rollout": {"maxNamespacesPerWave": 0}}), "InvalidRollout"),
        (json!({"rollout": {"maxNamespacesPerWave": "0%"}}), "InvalidRollout"),
        (json!({"rollout": {"maxNamespacesPerWave": "5"}}), "InvalidRollout"),
        (json!({"rollout": {"interval": "10"}}), "InvalidRollout"),
        (json!({"rollout": {"interval": "é"}}), "InvalidRollout"),
        (json!({"rollout": {"interval": "721h"}}), "InvalidRollout"),
        (json!({"rollout": {"interval": "99999999999999999999h"}}), "InvalidRollout"),
        (json!({"rollout": {"canarySelector": {}}}), "InvalidRollout"),
        (json!({"rollout": {"canarySelector": {"matchLabels": {"Bad Key": "x"}}}}), "InvalidSelector"),
        (json!({"rollout": {}}), "valid"),
        (json!({"rollout": {"maxNamespacesPerWave": null}}), "valid"),
        (json!({"rollout": {"maxNamespacesPerWave": "100%", "interval": "1h30m5s"}}), "valid"),
        (json!({"metadata": {"namePrefix": "baseline"}}), "InvalidNamePrefix"),
        (json!({"metadata": {"namePrefix": ""}}), "InvalidNamePrefix"),
        (json!({"metadata": {"labels": {"policybaseline.io/role": "x"}}}), "InvalidMetadata"),
        (json!({"metadata": {"labels": {"app.kubernetes.io/instance": "x"}}}), "InvalidMetadata"),
        (json!({"metadata": {"annotations": {"bad key": "x"}}}), "InvalidMetadata"),
        (json!({"dns": {"peers": [{"ipBlock": {"cidr": "fd00::a/128"}}], "ports": [5353]}}), "valid"),
        (json!({"dns": {"peers": [{"ipBlock": {"cidr": "0.0.0.0/0", "except": ["10.0.0.0/8"]}}]}}), "valid"),
    ] {
        assert_eq!(reason(spec.clone()), want, "{spec}");
    }
    assert_eq!(Baseline::check(&baseline_object(&"n".repeat(64), json!({})), "operator").unwrap_err().reason(), "InvalidName");
}
