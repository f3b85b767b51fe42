//! Which pods, endpoints and flows a cause is about: what others of them show is no cause.

use super::*;

const WORKS: (&str, &str, &str) = ("shop/web-1", "shop/svc/db", "5432");

fn blocked(objects: &[Value], asked: (&str, &str, &str)) -> SymptomAnswer {
    traffic(objects, Symptom::Blocked, asked)
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
    let source = unready(&["shop/web-1"]);
    is_ruled_out(&blocked(&source, WORKS), CauseName::NotReady);
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
