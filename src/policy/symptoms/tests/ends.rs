//! Which pods, endpoints and flows a cause is about: what others of them show is no cause.

use super::*;

const WORKS: (&str, &str, &str) = ("shop/web-1", "shop/svc/db", "5432");
const CLOSED: (&str, &str, &str) = ("reports/nightly-1", "shop/svc/db", "5432");

fn blocked(objects: &[Value], asked: (&str, &str, &str)) -> SymptomAnswer {
    traffic(objects, Symptom::Blocked, asked)
}

fn comes_and_goes(objects: &[Value], asked: (&str, &str, &str)) -> SymptomAnswer {
    traffic(objects, Symptom::ComesAndGoes, asked)
}

fn owned(mut pod: Value, kind: &str, name: &str) -> Value {
    pod["metadata"]["ownerReferences"] = json!([{"kind": kind, "name": name, "controller": true}]);
    pod
}

#[test]
fn the_source_cannot_resolve_names_only_if_all_its_dns_is_denied() {
    let over = |of: &'static [(&str, u16)]| changed(move |all| netpol(all, "shop/dns")["spec"]["egress"][0]["ports"] = ports(of));
    is_found(&blocked(&over(&[("UDP", 5353)]), WORKS), CauseName::DnsOfSource, "egress-denies-dns");
    is_not_known(&blocked(&over(&[("UDP", 53)]), WORKS), CauseName::DnsOfSource, "not every request for a name is denied");
    let harmless = changed(|all| {
        let peer = json!({"namespaceSelector": {"matchLabels": {"name": "kube-system"}}});
        let rule = json!([{"to": [peer], "ports": ports(&DNS_PORTS)}]);
        all.push(old("shop/old", json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": rule})));
    });
    is_ruled_out(&blocked(&harmless, WORKS), CauseName::DnsOfSource);
    let one_namespace = changed(|all| all.retain(|object| object["metadata"]["namespace"] != "kube-system"));
    is_not_known(&blocked(&one_namespace, WORKS), CauseName::DnsOfSource, "do not show whom the source asks");
}

#[test]
fn no_name_is_resolved_for_an_address_and_perhaps_none_for_a_pod() {
    let closed = changed(|all| netpol(all, "shop/dns")["spec"]["egress"] = json!([]));
    is_ruled_out(&blocked(&closed, ("shop/web-1", "10.0.0.1", "5432")), CauseName::DnsOfSource);
    is_not_known(&blocked(&closed, ("shop/web-1", "shop/db-1", "5432")), CauseName::DnsOfSource, "may know its address");
    let workload = changed(|all| {
        netpol(all, "shop/dns")["spec"]["egress"] = json!([]);
        let web = object(all, "Pod", "shop/web-1");
        *web = owned(web.clone(), "StatefulSet", "web");
    });
    is_found(&blocked(&workload, ("shop/sts/web", "shop/svc/db", "5432")), CauseName::DnsOfSource, "egress-denies-dns");
}

#[test]
fn one_ready_endpoint_is_enough_and_the_source_need_not_be_ready() {
    let unready = |of: &'static [&str]| {
        changed(move |all| {
            all.retain(|object| object["kind"] != "EndpointSlice" || object["metadata"]["namespace"] != "shop");
            for pod in of {
                object(all, "Pod", pod)["status"]["conditions"][0]["status"] = "False".into();
            }
        })
    };
    is_ruled_out(&blocked(&unready(&["shop/db-1"]), WORKS), CauseName::NotReady);
    is_found(&blocked(&unready(&["shop/db-1", "shop/db-2"]), WORKS), CauseName::NotReady, "shop/db-1 is not ready; shop/db-2");
    is_found(&comes_and_goes(&unready(&["shop/db-1"]), WORKS), CauseName::EndpointsNotReady, "not ready: shop/db-1");
    let source = unready(&["shop/web-1"]);
    is_ruled_out(&blocked(&source, WORKS), CauseName::NotReady);
    is_ruled_out(&comes_and_goes(&source, ("shop/web-1", "shop/db-1", "5432")), CauseName::EndpointsNotReady);
    let pending = changed(|all| object(all, "Pod", "shop/web-1")["status"]["phase"] = "Pending".into());
    is_found(&blocked(&pending, WORKS), CauseName::NotReady, "shop/web-1 is pending");
}

#[test]
fn a_service_may_lead_to_pods_that_are_not_ready() {
    let published = changed(|all| {
        all.retain(|object| object["kind"] != "EndpointSlice" || object["metadata"]["namespace"] != "shop");
        for pod in ["shop/db-1", "shop/db-2"] {
            object(all, "Pod", pod)["status"]["conditions"][0]["status"] = "False".into();
        }
        object(all, "Service", "shop/db")["spec"]["clusterIP"] = "None".into();
        object(all, "Service", "shop/db")["spec"]["publishNotReadyAddresses"] = true.into();
    });
    let answer = blocked(&published, WORKS);
    is_ruled_out(&answer, CauseName::NoEndpoints);
    is_not_known(&answer, CauseName::NotReady, "shop/db-1 is not ready");
}

#[test]
fn a_port_that_the_pod_declares_is_no_wrong_port() {
    let both = changed(|all| {
        object(all, "Service", "shop/db")["spec"]["ports"][0]["port"] = 80.into();
        object(all, "Pod", "shop/db-1")["spec"]["containers"][0]["ports"] =
            json!([{"name": "sql", "containerPort": 5432}, {"containerPort": 80}]);
    });
    is_ruled_out(&blocked(&both, ("shop/web-1", "shop/db-1", "80")), CauseName::WrongPort);
    is_found(&blocked(&both, ("shop/web-1", "shop/db-2", "80")), CauseName::WrongPort, "is reached on port 5432");
}

/// Two replicas of a workload, of which the policies allow one.
fn two_sources() -> Vec<Value> {
    changed(|all| {
        let web = object(all, "Pod", "shop/web-1");
        *web = owned(web.clone(), "StatefulSet", "web");
        let other = ready("shop/web-2", json!({"app": "web", "extra": "yes"}), &["10.0.0.8"], "node-2");
        all.push(owned(other, "StatefulSet", "web"));
        netpol(all, "shop/db-from-web")["spec"]["ingress"][0]["from"] = json!([{"podSelector": {
            "matchLabels": {"app": "web"}, "matchExpressions": [{"key": "extra", "operator": "DoesNotExist"}],
        }}]);
    })
}

#[test]
fn two_sources_are_not_two_address_families() {
    for from in ["shop/sts/web", "shop/web-1"] {
        let answer = comes_and_goes(&two_sources(), (from, "shop/svc/db", "5432"));
        is_ruled_out(&answer, CauseName::FamiliesDiffer);
        is_ruled_out(&answer, CauseName::EndpointsDiffer);
        is_found(
            &answer,
            CauseName::SourcesDiffer,
            "allowed from shop/web-1 (app=web); denied from shop/web-2 (app=web,extra=yes)",
        );
    }
}

#[test]
fn replicas_are_pods_of_one_owner_or_with_the_same_lasting_labels() {
    // Helm gives all pods of a chart the same name label.
    let chart = |component: &str| json!({"app.kubernetes.io/name": "shop", "app.kubernetes.io/component": component});
    let helm = changed(|all| {
        all.push(ready("shop/front-1", chart("front"), &["10.0.0.21"], "node-1"));
        all.push(ready("shop/cache-1", chart("cache"), &["10.0.0.22"], "node-1"));
        all.push(with_ports(ready("shop/store-1", chart("store"), &["10.0.0.23"], "node-2"), &[("sql", 5432)]));
        let rule = |one: &str, other: &str, way: &str, side: &str| {
            let mut spec = json!({"podSelector": {"matchLabels": chart(one)}, "policyTypes": [if way == "egress" { "Egress" } else { "Ingress" }]});
            spec[way] = json!([{(side): [{"podSelector": {"matchLabels": chart(other)}}]}]);
            spec
        };
        all.push(old("shop/front", rule("front", "store", "egress", "to")));
        all.push(old("shop/store", rule("store", "front", "ingress", "from")));
    });
    let answer = comes_and_goes(&helm, ("shop/front-1", "shop/store-1", "5432"));
    is_ruled_out(&answer, CauseName::SourcesDiffer);
    assert!(state(&answer, CauseName::SourcesDiffer).1.contains("no other replica"));
    let to_each_other = comes_and_goes(&two_sources(), ("shop/web-1", "shop/web-2", "5432"));
    is_ruled_out(&to_each_other, CauseName::SourcesDiffer);
}

#[test]
fn what_is_always_denied_does_not_come_and_go() {
    let answer = comes_and_goes(&shop(), CLOSED);
    assert_eq!(found(&answer), [CauseName::AlwaysDenied]);
    let cause = answer.causes.first().unwrap();
    assert_eq!(
        cause.next,
        "policy-baseline explain symptom blocked --from reports/nightly-1 --to shop/svc/db --port TCP/5432 says why"
    );
    is_ruled_out(&comes_and_goes(&shop(), WORKS), CauseName::AlwaysDenied);
}

#[test]
fn of_a_client_from_outside_it_is_not_known_through_which_node_it_comes() {
    let balanced = changed(|all| {
        object(all, "Service", "shop/db")["spec"]["type"] = "NodePort".into();
        netpol(all, "shop/db-from-web")["spec"]["ingress"][0]["from"] = json!([{"ipBlock": {"cidr": "203.0.113.0/24"}}]);
    });
    for client in ["203.0.113.7", "198.51.100.7"] {
        let answer = comes_and_goes(&balanced, (client, "shop/svc/db", "5432"));
        is_not_known(&answer, CauseName::NodesDiffer, "through shop/db, with externalTrafficPolicy: Cluster");
        assert_eq!(found(&answer), []);
    }
    is_ruled_out(&comes_and_goes(&shop(), ("198.51.100.7", "shop/svc/db", "5432")), CauseName::NodesDiffer);
}

#[test]
fn a_rule_that_selects_some_of_the_dns_pods_is_found() {
    let two = changed(|all| {
        let mut second = object(all, "Pod", "kube-system/coredns-1").clone();
        second["metadata"]["name"] = "coredns-2".into();
        second["metadata"]["labels"]["rev"] = "2".into();
        second["status"]["podIPs"] = json!([{"ip": "10.0.9.2"}]);
        all.push(second);
        netpol(all, "shop/dns")["spec"]["egress"][0]["to"][0]["podSelector"]["matchLabels"]["rev"] = "2".into();
    });
    let answer = comes_and_goes(&two, WORKS);
    is_found(
        &answer,
        CauseName::DnsPodsDiffer,
        "shop/web-1 may ask kube-system/coredns-2, and is denied to ask kube-system/coredns-1",
    );
    is_ruled_out(&comes_and_goes(&shop(), WORKS), CauseName::DnsPodsDiffer);
}
