//! Policies that open what a baseline closes only together, or by the labels of namespaces.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};

use super::{
    harness::EngineHarness,
    others::{open, policy, told, violations},
};
use crate::{
    api::{NamespaceName, reason::EventReason},
    engine::facts::event::{Change, Event},
    policy::{drift::Fingerprint, netpol::MAX_BYTES_OF_NAMESPACE},
};

/// A policy for all pods, with these rules.
fn ingress(rules: Value) -> Value {
    json!({"podSelector": {}, "policyTypes": ["Ingress"], "ingress": rules})
}

fn from_blocks(cidrs: &[&str]) -> Value {
    cidrs.iter().map(|cidr| json!({"ipBlock": {"cidr": cidr}})).collect()
}

fn message(sim: &EngineHarness) -> &str {
    sim.statuses.last().unwrap().violations.first().map_or("", |violation| &violation.message)
}

#[test]
fn i4_policies_that_open_everything_only_together_are_reported() {
    let rule = |cidrs: &[&str], ports: Value| json!([{"from": from_blocks(cidrs), "ports": ports}]);
    let on = |cidrs: &[&str]| json!([{"from": from_blocks(cidrs)}]);
    let internet =
        json!([{"from": [{"ipBlock": {"cidr": "0.0.0.0/0", "except": ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"]}}]}]);
    let private = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"];
    let (lower, upper) = (["0.0.0.0/1"], ["128.0.0.0/1"]);
    let v4 = "let every IPv4 address reach every pod on all ports";
    let some = "let every IPv4 address reach every pod on some ports";
    let halves_of_private = [on(&["10.0.0.0/9", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10"]), on(&["10.128.0.0/9"])];
    for (name, rules, expected) in [
        ("halves", vec![on(&lower), on(&upper)], Some(v4)),
        ("one half", vec![on(&lower), on(&lower)], None),
        ("three parts", vec![on(&lower), on(&["128.0.0.0/2"]), on(&["192.0.0.0/2"])], Some(v4)),
        (
            "split below a /8",
            vec![
                on(&["0.0.0.0/1", "128.0.0.0/9"]),
                on(&[
                    "128.128.0.0/9",
                    "129.0.0.0/8",
                    "130.0.0.0/7",
                    "132.0.0.0/6",
                    "136.0.0.0/5",
                    "144.0.0.0/4",
                    "160.0.0.0/3",
                    "192.0.0.0/2",
                ]),
            ],
            Some(v4),
        ),
        ("internet and private", vec![internet.clone(), on(&private)], Some(v4)),
        ("internet twice", vec![internet.clone(), internet], None),
        (
            "a shared port",
            vec![rule(&lower, json!([{"port": 80}, {"port": 81}])), rule(&upper, json!([{"port": 81}, {"port": 82}]))],
            Some(some),
        ),
        ("a shared name", vec![rule(&lower, json!([{"port": "http"}])), rule(&upper, json!([{"port": "http"}]))], Some(some)),
        ("other ports", vec![rule(&lower, json!([{"port": 80}])), rule(&upper, json!([{"port": 81}]))], None),
        ("all ports and one", vec![on(&lower), rule(&upper, json!([{"port": 81}]))], Some(some)),
        (
            "ports add up",
            vec![on(&lower), rule(&upper, json!([{"protocol": "TCP"}])), rule(&upper, json!([{"protocol": "UDP"}]))],
            Some(v4),
        ),
        ("IPv6", vec![on(&["2000::/4"]), on(&["3000::/4"])], Some("let every IPv6 address reach every pod")),
        ("half of IPv6", vec![on(&["2000::/4"]), on(&["::/4"])], None),
        ("private networks", vec![on(&private), on(&["100.64.0.0/10"])], Some("let every pod of the cluster reach every pod")),
        ("private, split", halves_of_private.into(), Some("let every pod of the cluster reach every pod")),
        ("the company", vec![on(&private), on(&["10.0.0.0/8"])], None),
    ] {
        let mut sim = EngineHarness::protected();
        for (n, rules) in rules.iter().enumerate() {
            policy(&mut sim, "a", &format!("part-{n}"), ingress(rules.clone()));
        }
        sim.settle();
        let found = violations(&mut sim);
        let Some(expected) = expected else {
            assert_eq!(found, [], "{name}");
            continue;
        };
        assert_eq!(found, [("Bypassed".to_owned(), "part-0".to_owned())], "{name}");
        let names: Vec<String> = (0..rules.len()).map(|n| format!("part-{n}")).collect();
        let names = if names.len() == 2 { names.join(" and ") } else { names.join(", ") };
        assert!(message(&sim).starts_with(&format!("{names} together {expected}")), "{name}: {}", message(&sim));
        assert_eq!(told(&mut sim, EventReason::BaselineBypassed).len(), 1, "{name}");
        // Without one of them, nothing is open.
        policy(&mut sim, "a", "part-0", ingress(json!([{"from": [{"podSelector": {}}]}])));
        sim.settle();
        assert_eq!(violations(&mut sim), [], "{name}");
    }
}

#[test]
fn several_policies_are_reported_only_if_they_open_more_than_one_of_them_and_by_the_fewest_names() {
    let mut sim = EngineHarness::protected();
    policy(&mut sim, "a", "lower", ingress(json!([{"from": from_blocks(&["0.0.0.0/1"])}])));
    policy(&mut sim, "a", "upper", ingress(json!([{"from": from_blocks(&["128.0.0.0/1"])}])));
    policy(&mut sim, "a", "bystander", ingress(json!([{"from": from_blocks(&["20.0.0.0/8"])}])));
    policy(
        &mut sim,
        "a",
        "web",
        json!({"podSelector": {"matchLabels": {"app": "web"}}, "ingress": [{"from": from_blocks(&["128.0.0.0/1"])}]}),
    );
    sim.settle();
    assert_eq!(violations(&mut sim), [("Bypassed".to_owned(), "lower".to_owned())]);
    assert!(message(&sim).starts_with("lower and upper together"), "{}", message(&sim));
    policy(&mut sim, "a", "everybody", open());
    sim.settle();
    assert_eq!(violations(&mut sim), [("Bypassed".to_owned(), "everybody".to_owned())]);
}

#[test]
fn i7_policies_with_too_many_blocks_to_add_up_say_so() {
    // All addresses, in pieces of which every second one is in another policy.
    let pieces = |skip: u32| -> Value {
        let cidr = |n: u32| json!({"ipBlock": {"cidr": format!("{}/13", std::net::Ipv4Addr::from_bits(n << 19))}});
        json!([{"from": (skip..1 << 13).step_by(2).map(cidr).collect::<Value>()}])
    };
    let mut sim = EngineHarness::protected();
    policy(&mut sim, "a", "even", ingress(pieces(0)));
    sim.settle();
    assert_eq!(violations(&mut sim), [], "it is half of the addresses");
    policy(&mut sim, "a", "odd", ingress(pieces(1)));
    sim.settle();
    assert_eq!(violations(&mut sim), [("TooLargeToJudge".to_owned(), "even".to_owned())]);
    assert!(message(&sim).starts_with("even and odd: too many blocks, ports and labels"), "{}", message(&sim));
}

fn named(names: &[String]) -> Value {
    let names = json!({"key": "kubernetes.io/metadata.name", "operator": "In", "values": names});
    json!([{"from": [{"namespaceSelector": {"matchExpressions": [names]}}]}])
}

/// Further namespaces with their names as labels, as the API server labels them. All are of one environment.
fn label(sim: &mut EngineHarness, names: &[String]) {
    for name in names {
        sim.namespace_with(name, json!({"kubernetes.io/metadata.name": name, "env": "prod"}));
    }
}

#[test]
fn i4_a_selector_of_the_names_of_almost_every_namespace_is_reported_wherever_the_names_stand() {
    let every_pod = "lets every pod of the cluster reach every pod on all ports";
    let names: Vec<String> = (0..20).map(|n| format!("n{n}")).collect();
    let prod = json!([{"from": [{"namespaceSelector": {"matchLabels": {"env": "prod"}}}]}]);
    let two_rules = [named(&names[..10])[0].clone(), named(&names[10..])[0].clone()];
    let both = json!([{"from": [{"namespaceSelector": {"matchLabels": {"env": "prod"}, "matchExpressions": [
        {"key": "kubernetes.io/metadata.name", "operator": "In", "values": names}]}}]}]);
    for (what, rules, expected) in [
        ("all", vec![named(&names)], Some(every_pod)),
        ("all but a tenth", vec![named(&names[..19])], Some(every_pod)),
        ("fewer", vec![named(&names[..15])], None),
        ("two rules", vec![json!(two_rules)], Some(every_pod)),
        ("two policies", vec![named(&names[..10]), named(&names[10..])], Some("let every pod of the cluster reach every pod")),
        ("the same half", vec![named(&names[..10]), named(&names[..10])], None),
        ("a label of all", vec![prod], Some(every_pod)),
        ("two requirements", vec![both], Some(every_pod)),
        ("a label of none", vec![json!([{"from": [{"namespaceSelector": {"matchLabels": {"env": "test"}}}]}])], None),
    ] {
        // The namespaces may be known before or after the policies.
        for is_before in [true, false] {
            let mut sim = EngineHarness::protected();
            if is_before {
                label(&mut sim, &names);
                sim.settle();
            }
            for (n, rules) in rules.iter().enumerate() {
                policy(&mut sim, "a", &format!("part-{n}"), ingress(rules.clone()));
            }
            sim.settle();
            label(&mut sim, &names);
            sim.settle();
            let found = violations(&mut sim);
            let Some(expected) = expected else {
                assert_eq!(found, [], "{what}");
                continue;
            };
            assert_eq!(found, [("Bypassed".to_owned(), "part-0".to_owned())], "{what}");
            assert!(message(&sim).contains(expected), "{what}: {}", message(&sim));
        }
    }
}

#[test]
fn one_namespace_more_or_less_changes_no_verdict_about_names() {
    let names: Vec<String> = (0..20).map(|n| format!("n{n}")).collect();
    let mut sim = EngineHarness::protected();
    label(&mut sim, &names);
    policy(&mut sim, "a", "names", ingress(named(&names[..19])));
    sim.settle();
    let bypassed = [("Bypassed".to_owned(), "names".to_owned())];
    assert_eq!(violations(&mut sim), bypassed);
    told(&mut sim, EventReason::BaselineBypassed);
    for n in 0..5 {
        label(&mut sim, &["new".to_owned()]);
        sim.settle();
        policy(&mut sim, "a", "names", ingress(named(&names[..19])));
        sim.settle();
        assert_eq!(violations(&mut sim), bypassed, "{n}");
        gone(&mut sim, "new");
        sim.settle();
        assert_eq!(violations(&mut sim), bypassed, "{n}");
    }
    assert!(told(&mut sim, EventReason::BaselineBypassed).is_empty());
    // Where many come, the names are few.
    label(&mut sim, &(0..20).map(|n| format!("m{n}")).collect::<Vec<_>>());
    sim.settle();
    assert_eq!(violations(&mut sim), []);
}

fn gone(sim: &mut EngineHarness, name: &str) {
    let meta = ObjectMeta { name: Some(name.into()), ..ObjectMeta::default() };
    sim.policies.retain(|(namespace, _), _| namespace != name);
    sim.see(Event::Namespace(Change::Deleted(meta.into())));
}

/// So many policies, each with other names of namespaces that do not exist.
fn many_named(sim: &mut EngineHarness, policies: usize, names_of_each: usize) {
    for n in 0..policies {
        let names: Vec<String> = (0..names_of_each).map(|at| format!("x{}", n * names_of_each + at)).collect();
        policy(sim, "a", &format!("part-{n:03}"), ingress(named(&names)));
    }
}

#[test]
fn i7_a_policy_that_names_more_namespaces_than_are_kept_says_so() {
    let mut sim = EngineHarness::protected();
    label(&mut sim, &(0..20).map(|n| format!("n{n}")).collect::<Vec<_>>());
    many_named(&mut sim, 1, 5_000);
    sim.settle();
    assert_eq!(violations(&mut sim), [("TooLargeToJudge".to_owned(), "part-000".to_owned())]);
    assert!(message(&sim).starts_with("spec.ingress: too many rules"), "{}", message(&sim));
    many_named(&mut sim, 1, 3_000);
    sim.settle();
    assert_eq!(violations(&mut sim), []);
}

#[test]
fn i7_the_policies_of_a_namespace_are_added_up_with_little_work_and_say_so_when_it_is_too_little() {
    let mut sim = EngineHarness::protected();
    label(&mut sim, &(0..20).map(|n| format!("n{n}")).collect::<Vec<_>>());
    many_named(&mut sim, 4, 4_000);
    sim.settle();
    assert_eq!(violations(&mut sim), [], "so many are added up");
    many_named(&mut sim, 12, 4_000);
    sim.settle();
    let found = violations(&mut sim);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].0, "TooLargeToJudge");
    assert!(message(&sim).ends_with("use fewer of them in all policies together"), "{}", message(&sim));
}

#[test]
fn i7_the_policies_of_a_namespace_take_little_memory_and_what_is_cut_is_told_until_it_has_room() {
    let held = |sim: &EngineHarness| {
        let entry = sim.engine.observed.get(&NamespaceName::observed("a")).unwrap();
        entry.policies.values().map(Fingerprint::bytes_of_shares).sum::<usize>()
    };
    let mut sim = EngineHarness::protected();
    many_named(&mut sim, 100, 4_000);
    assert!(held(&sim) <= MAX_BYTES_OF_NAMESPACE, "{}", held(&sim));
    sim.settle();
    let found = violations(&mut sim);
    assert_eq!(found, [("TooLargeToJudge".to_owned(), "part-064".to_owned())]);
    assert!(message(&sim).ends_with("; then change each of these policies once"), "{}", message(&sim));
    many_named(&mut sim, 100, 3);
    sim.settle();
    assert_eq!(violations(&mut sim), []);
}
