//! Names resolve late.

use super::*;
use crate::policy::flow::tests::cluster_policy;

const WEB: &str = "shop/web-1";

#[test]
fn where_dns_works_each_cause_is_ruled_out_or_cannot_be_known() {
    let answer = dns_of(&shop(), WEB);
    assert_eq!(found(&answer), []);
    for cause in &answer.causes {
        let expected = if cause.cause == CauseName::SearchDomains { CauseState::NotKnown } else { CauseState::RuledOut };
        assert_eq!(cause.state, expected, "{cause:?}");
    }
    assert!(answer.suggestions.is_empty());
}

#[test]
fn egress_that_is_closed_without_a_rule_for_dns_is_found_and_the_suggested_policy_allows_it() {
    let mut objects = changed(|all| netpol(all, "shop/dns")["spec"]["egress"] = json!([]));
    let answer = dns_of(&objects, WEB);
    is_found(
        &answer,
        CauseName::EgressDeniesDns,
        "egress of shop/web-1 to kube-system/coredns-1, UDP 53: denied: shop/deny-all: ",
    );
    assert_eq!(found(&answer), [CauseName::EgressDeniesDns]);
    let [suggestion] = &*answer.suggestions else { panic!("{:?}", answer.suggestions) };
    objects.push(serde_json::to_value(&suggestion.policy).unwrap());
    let policy = objects.last_mut().unwrap();
    policy["apiVersion"] = "networking.k8s.io/v1".into();
    policy["kind"] = "NetworkPolicy".into();
    assert_eq!(found(&dns_of(&objects, WEB)), []);
}

#[test]
fn one_protocol_alone_is_found() {
    let over = |of: &'static [(&str, u16)]| changed(move |all| netpol(all, "shop/dns")["spec"]["egress"][0]["ports"] = ports(of));
    let udp = dns_of(&over(&[("UDP", 53)]), WEB);
    assert_eq!(found(&udp), [CauseName::DnsOverUdpOnly]);
    is_found(&udp, CauseName::DnsOverUdpOnly, ", TCP 53: denied");
    let tcp = dns_of(&over(&[("TCP", 53)]), WEB);
    assert_eq!(found(&tcp), [CauseName::EgressDeniesDns]);
    is_found(&tcp, CauseName::EgressDeniesDns, "a port without protocol is TCP");
}

#[test]
fn a_rule_that_selects_nothing_is_found_with_the_label_that_is_wrong() {
    for (peer, expected) in [
        (
            json!({"namespaceSelector": {"matchLabels": {"name": "kube-system"}}}),
            "spec.egress[0].to[0].namespaceSelector.matchLabels[name]",
        ),
        (
            json!({"podSelector": {"matchLabels": {"k8s-app": "kube-dns"}}}),
            "spec.egress[0].to[0] has no namespaceSelector, so it selects pods of shop only",
        ),
        (
            json!({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}}, "podSelector": {"matchLabels": {"dns": "yes"}}}),
            "shop/dns: spec.egress[0].to[0] selects no pod",
        ),
    ] {
        let answer = dns_of(&changed(|all| netpol(all, "shop/dns")["spec"]["egress"][0]["to"] = json!([peer])), WEB);
        is_found(&answer, CauseName::DnsRuleSelectsNothing, expected);
        is_found(&answer, CauseName::EgressDeniesDns, "denied");
    }
}

#[test]
fn a_rule_with_the_port_of_the_service_is_found_where_the_pods_listen_on_another() {
    let answer = dns_of(
        &changed(|all| {
            for port in object(all, "Service", "kube-system/kube-dns")["spec"]["ports"].as_array_mut().unwrap() {
                port["targetPort"] = 5353.into();
            }
        }),
        WEB,
    );
    is_found(&answer, CauseName::DnsPortOfService, "shop/dns allows UDP 53, but kube-system/coredns-1 listens on UDP 5353");
}

#[test]
fn policies_of_the_dns_pods_and_of_the_tiers_are_found() {
    let closed = json!({"podSelector": {"matchLabels": {"k8s-app": "kube-dns"}}, "policyTypes": ["Ingress"]});
    let answer = dns_of(&changed(|all| all.push(old("kube-system/closed", closed))), WEB);
    is_found(
        &answer,
        CauseName::IngressOfDnsDenies,
        "ingress of kube-system/coredns-1 from shop/web-1, UDP 53: denied: kube-system/closed",
    );
    assert_eq!(found(&answer), [CauseName::IngressOfDnsDenies]);
    let deny = json!({"priority": 1, "subject": {"namespaces": {}}, "egress": [{"action": "Deny", "to": [{"namespaces": {}}]}]});
    let answer = dns_of(&changed(|all| all.push(cluster_policy("AdminNetworkPolicy", "lockdown", deny))), WEB);
    is_found(&answer, CauseName::TierDenies, "AdminNetworkPolicy lockdown");
    assert!(answer.suggestions.is_empty(), "no NetworkPolicy overrules it");
}

#[test]
fn a_dns_service_without_a_ready_endpoint_is_found_by_its_slices_and_without_slices_by_its_pods() {
    let answer = dns_of(
        &changed(|all| {
            object(all, "EndpointSlice", "kube-system/kube-dns-1")["endpoints"][0]["conditions"]["ready"] = false.into();
        }),
        WEB,
    );
    is_found(&answer, CauseName::DnsNotReady, "the Service kube-system/kube-dns has no ready endpoint: kube-system/coredns-1");
    let without_slices = |ready: &str| {
        changed(|all| {
            all.retain(|object| object["kind"] != "EndpointSlice");
            object(all, "Pod", "kube-system/coredns-1")["status"]["conditions"][0]["status"] = ready.into();
        })
    };
    is_found(&dns_of(&without_slices("False"), WEB), CauseName::DnsNotReady, "coredns-1");
    is_ruled_out(&dns_of(&without_slices("True"), WEB), CauseName::DnsNotReady);
    let none = changed(|all| all.retain(|object| object["metadata"]["name"] != "coredns-1"));
    is_found(&dns_of(&none, WEB), CauseName::DnsNotReady, "nothing answers behind the Service kube-system/kube-dns");
}

#[test]
fn a_node_local_cache_that_no_rule_allows_is_found() {
    let cache = |on_host: bool| {
        let mut pod = ready("kube-system/node-local-dns-x", json!({"k8s-app": "node-local-dns"}), &["192.168.0.1"], "node-1");
        pod["spec"]["hostNetwork"] = on_host.into();
        pod
    };
    let answer = dns_of(&changed(|all| all.push(cache(true))), WEB);
    is_found(&answer, CauseName::NodeLocalDns, "to 169.254.20.10, UDP 53: denied");
    let allow =
        json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": [{"to": [{"ipBlock": {"cidr": "169.254.20.10/32"}}]}]});
    let answer = dns_of(&changed(|all| all.extend([cache(true), old("shop/cache", allow)])), WEB);
    is_ruled_out(&answer, CauseName::NodeLocalDns);
    is_found(&dns_of(&changed(|all| all.push(cache(false))), WEB), CauseName::NodeLocalDns, "kube-system/node-local-dns-x");
}

#[test]
fn a_pod_with_other_nameservers_is_judged_by_these() {
    let with = |spec: Value| {
        changed(move |all| {
            for (key, value) in spec.as_object().unwrap() {
                object(all, "Pod", WEB)["spec"][key] = value.clone();
            }
        })
    };
    let own = dns_of(&with(json!({"dnsPolicy": "None", "dnsConfig": {"nameservers": ["192.0.2.53"]}})), WEB);
    is_found(&own, CauseName::OwnNameservers, "shop/web-1 asks 192.0.2.53");
    is_found(&own, CauseName::EgressDeniesDns, "to 192.0.2.53, UDP 53: denied");
    let cluster = dns_of(&with(json!({"dnsPolicy": "None", "dnsConfig": {"nameservers": ["10.96.0.10"]}})), WEB);
    assert_eq!(found(&cluster), [], "the cluster IP leads to the DNS pods");
    let node = dns_of(&with(json!({"dnsPolicy": "Default"})), WEB);
    is_not_known(&node, CauseName::OwnNameservers, "the nameservers of its node");
    is_not_known(&node, CauseName::EgressDeniesDns, "no request");
}

#[test]
fn a_namespace_is_judged_by_one_pod_of_each_kind() {
    let all = |namespace: &str| DnsAskers::Namespace(namespace.into());
    assert_eq!(found(&dns_answer(&shop(), &all("shop")).unwrap()), []);
    let only_web = changed(|all| netpol(all, "shop/dns")["spec"]["podSelector"] = json!({"matchLabels": {"app": "web"}}));
    let answer = dns_answer(&only_web, &all("shop")).unwrap();
    is_found(&answer, CauseName::EgressDeniesDns, "egress of shop/db-1");
    assert!(!state(&answer, CauseName::EgressDeniesDns).1.contains("web-1"));
    let error = dns_answer(&shop(), &all("nowhere")).unwrap_err();
    assert_eq!(error, "the namespace \"nowhere\" has no pod that runs: check its name, and whether you may list its pods");
}

#[test]
fn without_a_dns_service_it_is_not_known() {
    let objects = changed(|all| all.retain(|object| object["metadata"]["namespace"] != "kube-system"));
    let answer = dns_of(&objects, WEB);
    is_not_known(&answer, CauseName::EgressDeniesDns, "no DNS Service is among the objects");
}

/// A policy for egress of every pod of the shop, with one rule for DNS.
fn dns_rule(name: &str, peer: Value, of: &[(&str, u16)]) -> Value {
    old(name, json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": [{"to": [peer], "ports": ports(of)}]}))
}

#[test]
fn a_rule_that_selects_nothing_is_no_cause_where_another_rule_allows_dns() {
    let old_label = json!({"namespaceSelector": {"matchLabels": {"name": "kube-system"}}});
    let answer = dns_of(&changed(|all| all.push(dns_rule("shop/old", old_label, &DNS_PORTS))), WEB);
    assert_eq!(found(&answer), []);
    is_ruled_out(&answer, CauseName::DnsRuleSelectsNothing);
}

#[test]
fn in_the_objects_of_one_namespace_no_cause_of_dns_is_found_and_none_is_ruled_out() {
    let objects = changed(|all| all.retain(|object| object["metadata"]["namespace"] != "kube-system"));
    let answer = dns_of(&objects, WEB);
    assert_eq!(found(&answer), []);
    for cause in [
        CauseName::EgressDeniesDns,
        CauseName::DnsOverUdpOnly,
        CauseName::DnsRuleSelectsNothing,
        CauseName::DnsPortOfService,
        CauseName::IngressOfDnsDenies,
        CauseName::DnsNotReady,
        CauseName::NodeLocalDns,
        CauseName::TierDenies,
    ] {
        is_not_known(&answer, cause, "among the objects");
    }
}

/// The shop with a pod that asks another nameserver. It has the labels of the web server.
fn with_other_nameserver(all: &mut Vec<Value>, labels: Value) {
    let mut pod = ready("shop/web-2", labels, &["10.0.0.8"], "node-1");
    pod["spec"]["dnsPolicy"] = "None".into();
    pod["spec"]["dnsConfig"] = json!({"nameservers": ["192.0.2.53"]});
    all.push(pod);
}

#[test]
fn pods_of_a_namespace_are_compared_each_with_itself() {
    let shop = DnsAskers::Namespace("shop".into());
    // The labels are the same, and the nameservers are not.
    let answer = dns_answer(&changed(|all| with_other_nameserver(all, json!({"app": "web"}))), &shop).unwrap();
    is_found(&answer, CauseName::OwnNameservers, "shop/web-2 asks 192.0.2.53");
    // Of one pod everything is allowed, and of the other one nothing.
    is_ruled_out(&answer, CauseName::DnsOverUdpOnly);
    assert!(!state(&answer, CauseName::EgressDeniesDns).1.contains("TCP 53 is allowed"));
    let only_db = changed(|all| netpol(all, "shop/dns")["spec"]["podSelector"] = json!({"matchLabels": {"app": "db"}}));
    let answer = dns_answer(&only_db, &shop).unwrap();
    is_ruled_out(&answer, CauseName::DnsOverUdpOnly);
    assert!(!state(&answer, CauseName::EgressDeniesDns).1.contains("TCP 53 is allowed"));
}

#[test]
fn only_nameservers_that_are_denied_are_found_and_the_dns_of_the_cluster_is_no_other_one() {
    let allowed = changed(|all| {
        with_other_nameserver(all, json!({"app": "web"}));
        all.push(dns_rule("shop/other", json!({"ipBlock": {"cidr": "192.0.2.53/32"}}), &DNS_PORTS));
        netpol(all, "shop/dns")["spec"]["podSelector"] = json!({"matchLabels": {"app": "none"}});
    });
    let answer = dns_answer(&allowed, &DnsAskers::Namespace("shop".into())).unwrap();
    is_found(&answer, CauseName::EgressDeniesDns, "shop/web-1");
    is_ruled_out(&answer, CauseName::OwnNameservers);
    let of_cluster = changed(|all| {
        object(all, "Pod", WEB)["spec"]["dnsPolicy"] = "None".into();
        object(all, "Pod", WEB)["spec"]["dnsConfig"] = json!({"nameservers": ["10.96.0.10"]});
        netpol(all, "shop/dns")["spec"]["egress"] = json!([]);
    });
    let answer = dns_of(&of_cluster, WEB);
    is_found(&answer, CauseName::EgressDeniesDns, "coredns-1");
    is_ruled_out(&answer, CauseName::OwnNameservers);
}

#[test]
fn a_pod_with_other_nameservers_does_not_ask_the_node_local_cache() {
    let objects = changed(|all| {
        let mut cache = ready("kube-system/node-local-dns-x", json!({"k8s-app": "node-local-dns"}), &["192.168.0.1"], "node-1");
        cache["spec"]["hostNetwork"] = true.into();
        all.push(cache);
        with_other_nameserver(all, json!({"app": "web"}));
    });
    is_ruled_out(&dns_of(&objects, "shop/web-2"), CauseName::NodeLocalDns);
    is_found(&dns_of(&objects, WEB), CauseName::NodeLocalDns, "169.254.20.10");
}

#[test]
fn tcp_that_a_tier_or_the_ingress_of_the_dns_pods_denies_is_found() {
    let deny = json!({"priority": 1, "subject": {"namespaces": {}}, "egress": [
        {"action": "Deny", "to": [{"namespaces": {}}], "ports": [{"portNumber": {"protocol": "TCP", "port": 53}}]},
    ]});
    let answer = dns_of(&changed(|all| all.push(cluster_policy("AdminNetworkPolicy", "udp-only", deny))), WEB);
    is_found(&answer, CauseName::DnsOverUdpOnly, "AdminNetworkPolicy udp-only");
    let udp = json!({"podSelector": {"matchLabels": {"k8s-app": "kube-dns"}}, "ingress": [{"ports": ports(&[("UDP", 53)])}]});
    let answer = dns_of(&changed(|all| all.push(old("kube-system/udp", udp))), WEB);
    is_found(&answer, CauseName::DnsOverUdpOnly, "ingress of kube-system/coredns-1 from shop/web-1, TCP 53: denied");
}

#[test]
fn what_to_do_names_the_port_of_the_dns_pods() {
    let objects = changed(|all| {
        for port in object(all, "Service", "kube-system/kube-dns")["spec"]["ports"].as_array_mut().unwrap() {
            port["targetPort"] = 5353.into();
        }
        netpol(all, "shop/dns")["spec"]["egress"] = json!([]);
    });
    let answer = dns_of(&objects, WEB);
    let cause = answer.causes.iter().find(|cause| cause.cause == CauseName::EgressDeniesDns).unwrap();
    assert!(cause.next.starts_with("allow UDP and TCP 5353 to the DNS pods"), "{}", cause.next);
}
