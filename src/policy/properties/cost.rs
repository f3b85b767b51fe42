//! What the largest policies that an API server accepts cost, each time they are seen (I7). Run it with `--release --nocapture` to see times.

use std::time::Instant;

use k8s_openapi::api::networking::v1::NetworkPolicy;
use serde_json::{Value, json};

use crate::{
    api::SlimPolicy,
    policy::drift::{Fingerprint, Interner},
};

/// A block that is apart from those of other numbers.
fn block(n: u32, length: u32) -> Value {
    let address = std::net::Ipv4Addr::from_bits(n.checked_shl(32 - length).unwrap_or(0));
    json!({"ipBlock": {"cidr": format!("{address}/{length}")}})
}

fn blocks(count: u32, length: u32) -> Value {
    (0..count).map(|n| block(n.wrapping_mul(2_654_435_761), length)).collect()
}

/// Rules, and whether they are too large to judge. They are close to a limit: of the API server (3 MB in a request, 1.5 MB in etcd), or of
/// what is judged.
fn cases() -> Vec<(&'static str, Value, bool)> {
    let port = |n: u32| json!([{"protocol": "TCP", "port": n}]);
    let on_each_port = |count: u32, length: u32| -> Value {
        (0..count).map(|n| json!({"from": [block(n, length)], "ports": [{"port": n + 1, "endPort": 30_000 + n}]})).collect()
    };
    let many = |count: u32, rule: fn(u32) -> Value| -> Value { (0..count).map(rule).collect() };
    let halves = |ports: [Value; 2]| -> Value {
        let half = |skip: u32| (skip..8_192).step_by(2).map(|n| block(n, 13)).collect::<Value>();
        ports.into_iter().zip(0..).map(|(ports, skip)| json!({"from": half(skip), "ports": ports})).collect()
    };
    let most = on_each_port(4_096, 12).as_array().cloned().unwrap_or_default();
    vec![
        (
            "the most entries that are judged",
            most.into_iter().chain([json!({"from": blocks(7_600, 32), "ports": port(9)})]).collect(),
            false,
        ),
        (
            "the most ranges that are switched",
            halves([json!([{"port": 1}, {"port": 3}]), json!([{"port": 3}, {"port": 5}])]),
            false,
        ),
        ("6,600 named ports", many(6_600, |n| json!({"from": [block(0, 0)], "ports": [{"port": format!("n{n}")}]})), false),
        ("700,000 empty rules", many(700_000, |_| json!({})), false),
        (
            "12,000 rules of one port, and 30,000 blocks",
            (0..12_000)
                .map(|n| json!({"from": [block(n, 24)], "ports": port(n + 1)}))
                .chain([json!({"from": blocks(30_000, 32)})])
                .collect(),
            true,
        ),
        ("60,000 blocks for all ports", json!([{"from": blocks(60_000, 32)}]), true),
        ("60,000 ports", json!([{"ports": (0..60_000).map(|n| json!({"port": n})).collect::<Value>()}]), true),
        ("50,000 rules of one port for everybody", many(50_000, |n| json!({"ports": [{"port": n + 1}]})), true),
        ("75,000 rules of own pods", many(75_000, |_| json!({"from": [{"podSelector": {}}]})), true),
        // A request in protobuf can write these: there an entry takes a few bytes, in JSON many more.
        ("160,000 rules of any TCP port", many(160_000, |_| json!({"ports": [{"protocol": "TCP"}]})), true),
        ("250,000 peers", json!([{"from": vec![json!({"podSelector": {}, "namespaceSelector": {}}); 250_000]}]), true),
    ]
}

#[test]
fn i7_the_largest_policies_are_judged() {
    let millis = |since: Instant| since.elapsed().as_secs_f64() * 1e3;
    for (name, rules, is_too_large) in cases() {
        let spec = json!({"podSelector": {}, "policyTypes": ["Ingress"], "ingress": rules});
        let object = json!({"metadata": {"name": "large", "namespace": "team-a", "resourceVersion": "7"}, "spec": spec});
        let bytes = serde_json::to_vec(&object).unwrap();
        let start = Instant::now();
        let object: NetworkPolicy = serde_json::from_slice::<SlimPolicy>(&bytes).unwrap().into();
        let decoded = millis(start);
        let start = Instant::now();
        let print = Fingerprint::of(&object, &mut Interner::default());
        #[expect(clippy::cast_precision_loss, reason = "it is shown with one digit")]
        let size = bytes.len() as f64 / 1e6;
        println!("{name}: {size:.1} MB, decoded in {decoded:.1} ms, fingerprint in {:.1} ms", millis(start));
        assert_eq!(print.opens.is_ingress_too_large, is_too_large, "{name}");
    }
}

#[test]
fn i7_no_direction_hides_behind_the_size_of_the_other() {
    let many = vec![json!({}); 20_001];
    for (egress, is_open) in [(json!([{}]), true), (json!([{"to": [{"podSelector": {}}]}, {}]), false)] {
        for types in [json!(["Egress"]), json!(["Ingress", "Egress"])] {
            // In the order of the API server.
            let spec = format!(r#"{{"podSelector":{{}},"ingress":{},"egress":{egress},"policyTypes":{types}}}"#, json!(many));
            let object = format!(r#"{{"metadata":{{"name":"large","namespace":"team-a","resourceVersion":"7"}},"spec":{spec}}}"#);
            let object: NetworkPolicy = serde_json::from_str::<SlimPolicy>(&object).unwrap().into();
            let opens = Fingerprint::of(&object, &mut Interner::default()).opens;
            assert_eq!((opens.egress.is_some(), opens.is_egress_too_large), (is_open, !is_open), "{types} {egress}");
        }
    }
}
