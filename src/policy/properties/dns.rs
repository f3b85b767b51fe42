//! What egress policies allow in every known kind of cluster, and in random ones. The known clusters are in
//! `src/policy/dns/fixtures`, the expected results in `src/policy/dns/golden`.

use std::{net::IpAddr, path::Path, time::Instant};

use k8s_openapi::api::networking::v1::{NetworkPolicyEgressRule, NetworkPolicyPeer};
use proptest::prelude::*;
use serde::Deserialize;
use serde_json::{Value, json};
use strum::VariantArray;

use super::spec;
use crate::{
    api::Role,
    policy::{
        dns::{ClusterDns, DnsEvent, Memory, Object, SlimDaemonSet, SlimPod, SlimService, SlimSlice, Source, Sources},
        plan::Baseline,
    },
    testkit::{checked, golden, namespace},
};

/// The event with which a source reports this object.
fn news(object: &Value) -> DnsEvent {
    let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let in_openshift = object["metadata"]["namespace"] == "openshift-dns";
    let read = object.clone();
    let (source, object): (Source, Object) = match (object["kind"].as_str().unwrap(), in_openshift) {
        ("ResolvConf", _) => return DnsEvent::ResolvConf(object["text"].as_str().unwrap().to_owned()),
        ("Service", false) => (Source::Services, serde_json::from_value::<SlimService>(read).unwrap().into()),
        ("Service", true) => (Source::OpenShiftService, serde_json::from_value::<SlimService>(read).unwrap().into()),
        ("EndpointSlice", _) => (Source::Slices, serde_json::from_value::<SlimSlice>(read).unwrap().into()),
        ("Pod", _) => (Source::Pods, serde_json::from_value::<SlimPod>(read).unwrap().into()),
        ("DaemonSet", false) => (Source::NodeLocal, serde_json::from_value::<SlimDaemonSet>(read).unwrap().into()),
        ("DaemonSet", true) => (Source::OpenShiftDaemonSet, serde_json::from_value::<SlimDaemonSet>(read).unwrap().into()),
        (other, _) => panic!("{other}"),
    };
    DnsEvent::Seen(source, name, object)
}

/// The DNS that is found if all sources have listed these objects completely.
fn cluster(objects: &[Value]) -> ClusterDns {
    let (mut sources, now) = (Sources::default(), Instant::now());
    for source in Source::VARIANTS.iter().copied() {
        sources.hear(DnsEvent::ListBegins(source), now);
    }
    for object in objects {
        sources.hear(news(object), now);
    }
    for source in Source::VARIANTS.iter().copied() {
        sources.hear(DnsEvent::ListEnds(source), now);
    }
    assert!(sources.are_known(now));
    Memory::default().remember(sources.derive(now), now)
}

fn egress(baseline: &Baseline) -> &[NetworkPolicyEgressRule] {
    let policy = baseline.policies.iter().find(|policy| policy.role() == Some(Role::DefaultDenyEgress));
    policy.and_then(|policy| policy.spec.egress.as_deref()).unwrap_or_default()
}

#[test]
fn egress_policies_allow_the_dns_of_every_kind_of_cluster() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/policy/dns/fixtures");
    let mut files: Vec<_> = std::fs::read_dir(fixtures).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 15, "{files:?}");
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(text.starts_with("# "), "{} does not say which cluster it is", file.display());
        let objects: Vec<Value> =
            serde_yaml::Deserializer::from_str(&text).map(|document| Value::deserialize(document).unwrap()).collect();
        let dns = cluster(&objects);
        let baseline = checked("platform", json!({})).with_dns(&dns);
        let told = json!({
            "egress": egress(&baseline), "status": baseline.dns_status, "effectiveSelector": baseline.effective_selector,
            "gap": baseline.dns_gap.map(|gap| format!("{}: {}", gap.kind.reason(), gap.message)),
        });
        let name = file.file_name().unwrap().to_str().unwrap();
        golden(&format!("src/policy/dns/golden/{name}"), &serde_yaml::to_string(&told).unwrap());
    }
}

#[test]
fn the_namespaces_of_dns_are_left_out_but_for_the_explicit_way_in_and_static() {
    let service = json!({"kind": "Service", "metadata": {"name": "dns-default", "namespace": "openshift-dns"}, "spec": {
        "clusterIP": "172.30.0.10", "selector": {"a": "b"}, "ports": [{"port": 53}]}});
    let nameserver = |address: &str| json!({"kind": "ResolvConf", "text": format!("nameserver {address}")});
    let dns = cluster(&[service.clone(), nameserver("172.30.0.10")]);
    let ns = namespace("openshift-dns", &[]);
    let selects = |spec: Value| checked("b", spec).with_dns(&dns).selects(&ns);
    assert!(!selects(json!({})));
    // A Service of that name alone is nothing: a tenant may have created it.
    let others = cluster(&[service.clone(), nameserver("10.96.0.10")]);
    assert!(checked("b", json!({})).with_dns(&others).selects(&ns));
    assert!(others.status().notes.iter().any(|note| note.contains("not taken as DNS")));
    assert!(others.gap().unwrap().message.contains("not taken as DNS"));
    let only_nameservers =
        others.peers().keys().all(|peer| peer.address().is_some_and(|address| address.to_string() == "10.96.0.10"));
    assert!(only_nameservers, "{:?}", others.peers());
    let named = json!({"dns": {"peers": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "openshift-dns"}},
        "podSelector": {"matchLabels": {"a": "b"}}}]}});
    assert!(!checked("b", named).with_dns(&others).selects(&ns), "the baseline names it");
    // Where no nameserver is known, it is not known either that it is no DNS.
    for others in [cluster(std::slice::from_ref(&service)), cluster(&[service, nameserver("127.0.0.53")])] {
        assert!(!checked("b", json!({})).with_dns(&others).selects(&ns));
        assert!(others.peers().keys().any(|peer| peer.address().is_none()), "{:?}", others.peers());
        assert!(others.gap().is_some());
    }
    assert!(selects(json!({"includeSystemNamespaces": true})));
    assert!(selects(json!({"dns": {"discovery": "Static"}})));
    assert!(checked("b", json!({})).with_dns(&cluster(&[])).selects(&ns), "no DNS was found there");
    // Until it is known whether DNS runs there, nothing is closed there.
    let now = Instant::now();
    let dns = Memory::default().remember(Sources::default().derive(now), now);
    assert!(!checked("b", json!({})).with_dns(&dns).selects(&ns));
}

fn address() -> impl Strategy<Value = String> {
    let odd = prop::sample::select(vec![
        "0.0.0.0",
        "::",
        "None",
        "",
        "127.0.0.1",
        "224.0.0.1",
        "::ffff:10.0.0.1",
        "10.0.0.0/0",
        "fe80::1%eth0",
    ]);
    prop_oneof![
        any::<[u8; 4]>().prop_map(|bytes| IpAddr::from(bytes).to_string()),
        any::<[u8; 16]>().prop_map(|bytes| IpAddr::from(bytes).to_string()),
        odd.prop_map(ToOwned::to_owned),
    ]
}

fn labels() -> impl Strategy<Value = Value> {
    let key = prop_oneof![Just("k8s-app".to_owned()), "[a-z]{1,6}", "\\PC{0,6}"];
    let value = prop_oneof![Just("kube-dns".to_owned()), "[a-z]{0,6}", "\\PC{0,6}"];
    prop::collection::btree_map(key, value, 0..3).prop_map(|labels| json!(labels))
}

fn port() -> impl Strategy<Value = Value> {
    let number = prop_oneof![Just(53), Just(5353), Just(0), Just(-1), 1..=70000];
    prop_oneof![number.prop_map(|number| json!(number)), "[a-z]{0,4}".prop_map(|name| json!(name)), Just(Value::Null)]
}

/// A random object of any source.
fn object() -> impl Strategy<Value = Value> {
    let name = prop::sample::select(vec!["kube-dns", "coredns", "node-local-dns", "dns-default"]);
    let of = prop::sample::select(vec!["kube-system", "openshift-dns"]);
    let service = (
        name.clone(),
        of.clone(),
        labels(),
        prop::collection::vec(address(), 0..4),
        labels(),
        prop::collection::vec(port(), 0..12),
    )
        .prop_map(|(name, namespace, labels, addresses, selector, targets)| {
            let ports: Vec<Value> = targets
                .iter()
                .enumerate()
                .map(|(i, target)| json!({"name": format!("p{i}"), "port": 53, "targetPort": target}))
                .collect();
            json!({"kind": "Service", "metadata": {"name": name, "namespace": namespace, "labels": labels},
                "spec": {"clusterIPs": addresses, "selector": selector, "ports": ports}})
        });
    let slice = (name.clone(), "[a-z]{1,3}", prop::collection::vec(address(), 0..90), 0..70000i64).prop_map(
        |(service, name, addresses, port)| {
            json!({"kind": "EndpointSlice", "metadata": {"name": name, "labels": {"kubernetes.io/service-name": service}},
            "endpoints": [{"addresses": addresses}], "ports": [{"name": "p0", "port": port}]})
        },
    );
    let pod = (labels(), any::<bool>()).prop_map(
        |(labels, host)| json!({"kind": "Pod", "metadata": {"name": "p", "labels": labels}, "spec": {"hostNetwork": host}}),
    );
    let daemon_set = (name, of, labels(), "\\PC{0,20}", any::<bool>()).prop_map(|(name, namespace, labels, local, host)| {
        json!({"kind": "DaemonSet", "metadata": {"name": name, "namespace": namespace}, "spec": {"selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"hostNetwork": host, "containers": [{"args": ["-localip", local]}]}}}})
    });
    prop_oneof![2 => service, 1 => slice, 1 => pod, 1 => daemon_set]
}

/// A random cluster. A list does not name an object twice.
fn objects() -> impl Strategy<Value = Vec<Value>> {
    let resolv_conf = prop_oneof![
        prop::collection::vec(address(), 0..80)
            .prop_map(|all| all.iter().fold(String::new(), |text, one| text + "nameserver " + one + "\n")),
        "\\PC{0,40}"
    ]
    .prop_map(|text: String| json!({"kind": "ResolvConf", "text": text}));
    (prop::collection::vec(object(), 0..8), resolv_conf).prop_map(|(mut objects, resolv_conf)| {
        let key =
            |object: &Value| format!("{} {} {}", object["kind"], object["metadata"]["namespace"], object["metadata"]["name"]);
        objects.sort_by_key(key);
        objects.dedup_by_key(|object| key(object));
        objects.push(resolv_conf);
        objects
    })
}

/// Whether discovery may add this peer: labelled pods of a DNS namespace, or a single usable address.
fn is_narrow(peer: &NetworkPolicyPeer) -> bool {
    let Some(block) = &peer.ip_block else {
        let (Some(namespaces), Some(pods)) = (&peer.namespace_selector, &peer.pod_selector) else { return false };
        let names = namespaces.match_labels.iter().flatten();
        let of_dns = names.map(|(key, name)| (&**key, &**name)).collect::<Vec<_>>();
        let known = ["kube-system", "openshift-dns"].map(|name| vec![("kubernetes.io/metadata.name", name)]);
        return known.contains(&of_dns) && pods.match_labels.as_ref().is_some_and(|labels| !labels.is_empty());
    };
    let Some((address, length)) = block.cidr.split_once('/') else { return false };
    let address: IpAddr = address.parse().unwrap();
    let whole = if address.is_ipv4() { "32" } else { "128" };
    length == whole && block.except.is_none() && !address.is_unspecified() && !address.is_loopback() && !address.is_multicast()
}

proptest! {
    #[test]
    fn i8_a_dns_rule_is_in_every_egress_policy_whatever_the_spec_and_whatever_is_found(spec in spec(), objects in objects()) {
        let alone = checked("b", spec);
        let dns = cluster(&objects);
        let baseline = alone.clone().with_dns(&dns);
        let has_role = alone.policies.iter().any(|policy| policy.role() == Some(Role::DefaultDenyEgress));
        let (before, rules) = (egress(&alone), egress(&baseline));
        prop_assert_eq!(has_role, !rules.is_empty());
        let Some(first) = rules.first() else { return Ok(()) };
        // All that the spec allows stays allowed, in the same order; the fixed peer is the first.
        let (to, said) = (first.to.as_ref().unwrap(), before[0].to.as_ref().unwrap());
        prop_assert_eq!(&to[..said.len()], &said[..]);
        prop_assert_eq!(&first.ports, &before[0].ports);
        let ports: Vec<_> = first.ports.iter().flatten().map(|port| format!("{:?} {:?}", port.protocol, port.port)).collect();
        prop_assert!(["UDP", "TCP"].iter().all(|protocol| ports.contains(&format!("Some(\"{protocol}\") Some(Int(53))"))), "{:?}", ports);
        let kube_dns = serde_json::to_string(&to[0]).unwrap();
        prop_assert!(kube_dns.contains("kube-system") && kube_dns.contains("kube-dns"), "{}", kube_dns);
        // What discovery adds is narrow and limited in number.
        prop_assert!(to.len() - said.len() <= 64 && rules.len() <= 9);
        prop_assert!(to[said.len()..].iter().all(is_narrow), "{:?}", to);
        for rule in &rules[1..] {
            let peers = rule.to.as_ref().unwrap();
            prop_assert!(!peers.is_empty() && peers.iter().all(|peer| is_narrow(peer) && to.contains(peer)), "{:?}", rule);
            prop_assert_eq!(rule.ports.as_ref().map(Vec::len), Some(2));
        }
    }

    #[test]
    fn i11_what_a_status_says_of_dns_is_bounded_however_much_is_found(objects in objects()) {
        let dns = cluster(&objects);
        let status = dns.status();
        prop_assert!(status.found.len() <= 64 && status.notes.len() <= 10);
        prop_assert!(status.found.iter().all(|found| found.source.chars().count() <= 256 && found.what.chars().count() <= 512));
        prop_assert!(status.notes.iter().all(|note| note.chars().count() <= 512));
        prop_assert!(dns.peers().len() <= 64);
        let shown = status.found.len() + usize::try_from(status.found_omitted).unwrap();
        prop_assert!(shown >= dns.peers().len(), "each peer has a source");
    }

    #[test]
    fn i2_the_same_sources_in_another_order_make_the_same_plan(objects in objects(), turn in 0usize..8) {
        let mut others = objects.clone();
        others.reverse();
        let turn = turn % others.len();
        others.rotate_left(turn);
        let (one, other) = (cluster(&objects), cluster(&others));
        prop_assert_eq!(&one, &other);
        let plan = |dns: &ClusterDns| serde_json::to_string(egress(&checked("b", json!({})).with_dns(dns))).unwrap();
        prop_assert_eq!(plan(&one), plan(&other));
    }

    #[test]
    fn static_takes_nothing_of_what_is_found(objects in objects()) {
        let alone = checked("b", json!({"dns": {"discovery": "Static", "ports": [5353]}}));
        let baseline = alone.clone().with_dns(&cluster(&objects));
        prop_assert_eq!(egress(&baseline), egress(&alone));
        prop_assert_eq!((&baseline.dns_status, &baseline.effective_selector), (&alone.dns_status, &alone.effective_selector));
    }
}
