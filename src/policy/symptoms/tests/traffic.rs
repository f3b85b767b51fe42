//! Traffic is blocked, passes, is blocked though a rule allows it, or comes and goes.

use super::*;
use crate::policy::{
    flow::tests::cluster_policy,
    plugins::{PluginJudgement, PluginsFound},
};

/// The web server and its database.
const WORKS: (&str, &str, &str) = ("shop/web-1", "shop/svc/db", "5432");
/// A report in another namespace, and the same database.
const CLOSED: (&str, &str, &str) = ("reports/nightly-1", "shop/svc/db", "5432");

fn blocked(objects: &[Value], asked: (&str, &str, &str)) -> SymptomAnswer {
    traffic(objects, Symptom::Blocked, asked)
}

fn passes(objects: &[Value], asked: (&str, &str, &str)) -> SymptomAnswer {
    traffic(objects, Symptom::Passes, asked)
}

fn though_allowed(objects: &[Value], asked: (&str, &str, &str)) -> SymptomAnswer {
    traffic(objects, Symptom::BlockedThoughAllowed, asked)
}

fn comes_and_goes(objects: &[Value], asked: (&str, &str, &str)) -> SymptomAnswer {
    traffic(objects, Symptom::ComesAndGoes, asked)
}

#[test]
fn where_all_works_no_cause_is_found_of_what_blocks_and_of_what_comes_and_goes() {
    for symptom in [Symptom::Blocked, Symptom::BlockedThoughAllowed, Symptom::ComesAndGoes] {
        let answer = traffic(&shop(), symptom, WORKS);
        assert_eq!(found(&answer), [], "{symptom:?}");
        let not_known: Vec<CauseName> =
            answer.causes.iter().filter(|cause| cause.state == CauseState::NotKnown).map(|cause| cause.cause).collect();
        let expected = if symptom == Symptom::Blocked { vec![CauseName::NothingListens] } else { vec![] };
        assert_eq!(not_known, expected, "{symptom:?}");
    }
}

#[test]
fn a_denied_direction_is_found_with_the_policies_that_would_allow_it() {
    let answer = blocked(&shop(), CLOSED);
    assert_eq!(found(&answer), [CauseName::IngressDenied]);
    is_found(
        &answer,
        CauseName::IngressDenied,
        "ingress of shop/db-1 from reports/nightly-1, TCP 5432: denied: shop/db-from-web",
    );
    assert_eq!(answer.suggestions.len(), 1);
    let closed = json!({"podSelector": {}, "policyTypes": ["Egress"]});
    let both = blocked(&changed(|all| all.push(old("reports/closed", closed))), CLOSED);
    is_found(&both, CauseName::EgressDenied, "egress of reports/nightly-1 to shop/db-1, TCP 5432: denied: reports/closed");
    is_found(&both, CauseName::DnsOfSource, "the egress policies of the pod do not allow DNS (egress-denies-dns)");
    assert_eq!(both.suggestions.len(), 2);
    let deny =
        json!({"priority": 1, "subject": {"namespaces": {}}, "ingress": [{"action": "Deny", "from": [{"namespaces": {}}]}]});
    let tier = blocked(&changed(|all| all.push(cluster_policy("AdminNetworkPolicy", "lockdown", deny))), WORKS);
    is_found(&tier, CauseName::TierDenies, "AdminNetworkPolicy lockdown");
}

#[test]
fn a_service_that_leads_nowhere_is_found() {
    let other = changed(|all| object(all, "Service", "shop/db")["spec"]["selector"] = json!({"app": "database"}));
    let answer = blocked(&other, WORKS);
    is_found(&answer, CauseName::NoEndpoints, "nothing answers behind the Service shop/db");
    is_not_known(&answer, CauseName::IngressDenied, "no flow could be judged");
    let unready = changed(|all| {
        object(all, "EndpointSlice", "shop/db-1")["endpoints"] = json!([
            {"addresses": ["10.0.0.1"], "conditions": {"ready": false}},
            {"addresses": ["10.0.0.2"], "conditions": {"ready": false, "terminating": true}},
        ]);
    });
    let answer = blocked(&unready, WORKS);
    is_found(&answer, CauseName::NoEndpoints, "not ready: shop/db-1; being deleted: shop/db-2");
    let no_name = changed(|all| object(all, "Service", "shop/db")["spec"]["ports"][0]["targetPort"] = "mysql".into());
    is_found(&blocked(&no_name, WORKS), CauseName::NoEndpoints, "no pod has that container port");
}

/// What happens to an object.
type Change = fn(&mut Value);

#[test]
fn a_wrong_port_an_unready_pod_and_a_missing_family_are_found() {
    is_found(&blocked(&shop(), ("shop/web-1", "shop/svc/db", "80")), CauseName::WrongPort, "has no port TCP 80");
    is_found(&blocked(&shop(), ("shop/web-1", "shop/db-1", "http")), CauseName::WrongPort, "named \"http\"");
    let other_target = changed(|all| object(all, "Service", "shop/db")["spec"]["ports"][0]["port"] = 80.into());
    let answer = blocked(&other_target, ("shop/web-1", "shop/db-1", "80"));
    is_found(
        &answer,
        CauseName::WrongPort,
        "shop/db-1 is reached on port 5432: the Service shop/db leads from its port 80 to it",
    );
    is_ruled_out(&blocked(&other_target, ("shop/web-1", "shop/svc/db", "80")), CauseName::WrongPort);
    let unready = |path: fn(&mut Value)| changed(move |all| path(object(all, "Pod", "shop/db-2")));
    let changes: [(Change, &str); 3] = [
        ((|pod| pod["status"]["conditions"][0]["status"] = "False".into()), "shop/db-2 is not ready"),
        (|pod| pod["status"]["phase"] = "Pending".into(), "shop/db-2 is pending"),
        (|pod| pod["metadata"]["deletionTimestamp"] = "2026-01-03T00:00:00Z".into(), "shop/db-2 is being deleted"),
    ];
    for (change, expected) in changes {
        is_found(&blocked(&unready(change), ("shop/web-1", "shop/db-2", "5432")), CauseName::NotReady, expected);
    }
    let silent = unready(|pod| pod["status"]["conditions"] = json!([]));
    is_ruled_out(&blocked(&silent, WORKS), CauseName::NotReady);
    let ended = unready(|pod| pod["status"]["phase"] = "Failed".into());
    is_found(&blocked(&ended, ("shop/web-1", "shop/db-2", "5432")), CauseName::NotReady, "has ended");
    let v6 = unready(|pod| pod["status"]["podIPs"] = json!([{"ip": "fd00::2"}]));
    is_found(&blocked(&v6, ("shop/web-1", "shop/db-2", "5432")), CauseName::NoSharedFamily, "no address of the same family");
}

#[test]
fn what_cannot_be_asked_is_an_error() {
    for (asked, expected) in [
        (("shop/nobody", "shop/db-1", "80"), "there is no pod shop/nobody. "),
        (("shop/web-1", "shop/svc/nobody", "80"), "there is no Service shop/nobody. "),
        (("192.0.2.1", "192.0.2.2", "80"), "neither 192.0.2.1 nor 192.0.2.2 is a pod"),
    ] {
        let error = try_traffic(&shop(), &nothing_else(), Symptom::Blocked, asked, None).unwrap_err();
        assert!(error.starts_with(expected), "{error}");
    }
    let error = try_traffic(&shop(), &nothing_else(), Symptom::Passes, WORKS, Some("no-such")).unwrap_err();
    assert!(error.starts_with("there is no NetworkPolicy no-such. There are: shop/db-from-web, "), "{error}");
}

#[test]
fn a_rule_that_allows_it_is_found_and_why_it_allows_more_than_it_seems() {
    let answer = passes(&shop(), WORKS);
    is_found(&answer, CauseName::AllowedByRule, "shop/db-from-web: spec.ingress[0].from[0] with ports[0] allows it");
    for cause in [
        CauseName::AllowsEverybody,
        CauseName::OrInsteadOfAnd,
        CauseName::SelectsNoPod,
        CauseName::SelectsOtherPods,
        CauseName::PolicyTypes,
    ] {
        is_ruled_out(&answer, cause);
    }
    is_ruled_out(&passes(&shop(), CLOSED), CauseName::AllowedByRule);
    let wide = |rule: Value| changed(move |all| netpol(all, "shop/db-from-web")["spec"]["ingress"][0] = rule);
    for (rule, expected) in [
        (json!({}), "spec.ingress[0]: this rule is empty, so everybody may connect"),
        (json!({"from": [], "ports": [{"port": 5432}]}), "spec.ingress[0].from: from is empty"),
        (json!({"ports": [{"port": 5432}]}), "spec.ingress[0] has no from, so everybody may connect"),
        (json!({"from": [{"namespaceSelector": {}}]}), "spec.ingress[0].from[0] selects every pod of every namespace"),
    ] {
        is_found(&passes(&wide(rule), CLOSED), CauseName::AllowsEverybody, expected);
    }
    let or = json!({"from": [
        {"namespaceSelector": {"matchLabels": {"team": "reports"}}}, {"podSelector": {"matchLabels": {"app": "tool"}}},
    ]});
    is_found(&passes(&wide(or), CLOSED), CauseName::OrInsteadOfAnd, "the hyphen makes this a second peer");
}

#[test]
fn a_policy_that_is_not_about_the_pod_is_found() {
    let open = |spec: Value| -> Vec<Value> {
        let mut objects = shop();
        objects.retain(|object| object["kind"] != "NetworkPolicy");
        objects.push(old("shop/guard", spec));
        objects
    };
    let nobody = open(json!({"podSelector": {"matchLabels": {"app": "databse"}}}));
    is_found(&passes(&nobody, CLOSED), CauseName::SelectsNoPod, "shop/guard selects pods with app=databse, and shop has none");
    let others = open(json!({"podSelector": {"matchLabels": {"app": "web"}}}));
    is_found(
        &passes(&others, CLOSED),
        CauseName::SelectsOtherPods,
        "shop/guard selects pods with app=web, and shop/db-1 has app=db",
    );
    let types =
        open(json!({"podSelector": {}, "policyTypes": ["Egress"], "ingress": [{"from": [{"podSelector": {}}]}], "egress": [{}]}));
    is_found(
        &passes(&types, CLOSED),
        CauseName::PolicyTypes,
        "policyTypes does not name Ingress, so its ingress rules do nothing",
    );
    let no_policy: Vec<Value> = shop().into_iter().filter(|object| object["kind"] != "NetworkPolicy").collect();
    is_found(&passes(&no_policy, CLOSED), CauseName::SelectsOtherPods, "no policy isolates shop/db-1 for ingress");
    let named = try_traffic(&shop(), &nothing_else(), Symptom::Passes, WORKS, Some("shop/web-to-db")).unwrap();
    is_ruled_out(&named, CauseName::SelectsOtherPods);
    let wrong = changed(|all| netpol(all, "shop/web-to-db")["spec"]["podSelector"]["matchLabels"]["app"] = "web2".into());
    let named = try_traffic(&wrong, &nothing_else(), Symptom::Passes, WORKS, Some("web-to-db")).unwrap();
    is_found(&named, CauseName::SelectsNoPod, "shop/web-to-db selects pods with app=web2");
}

#[test]
fn what_no_policy_denies_is_found() {
    let on_host = |node: &'static str| {
        changed(move |all| {
            let pod = object(all, "Pod", "reports/nightly-1");
            pod["spec"]["hostNetwork"] = true.into();
            pod["spec"]["nodeName"] = node.into();
            pod["status"]["podIPs"] = json!([{"ip": "192.168.0.2"}]);
        })
    };
    let same = passes(&on_host("node-2"), CLOSED);
    is_found(&same, CauseName::HostNetwork, "reports/nightly-1 is on the host network of node-2");
    is_found(&same, CauseName::OwnNode, "These always reach each other");
    is_ruled_out(&passes(&on_host("node-3"), CLOSED), CauseName::OwnNode);
    is_ruled_out(&passes(&shop(), CLOSED), CauseName::HostNetwork);
    let allow =
        json!({"priority": 1, "subject": {"namespaces": {}}, "ingress": [{"action": "Allow", "from": [{"namespaces": {}}]}]});
    let tier = passes(&changed(|all| all.push(cluster_policy("AdminNetworkPolicy", "open", allow))), CLOSED);
    is_found(&tier, CauseName::TierAllows, "AdminNetworkPolicy open");
    is_ruled_out(&passes(&shop(), CLOSED), CauseName::TierAllows);
    let outside = ("203.0.113.7", "shop/svc/db", "5432");
    let balanced = changed(|all| object(all, "Service", "shop/db")["spec"]["type"] = "LoadBalancer".into());
    is_found(&passes(&balanced, outside), CauseName::HiddenClient, "through shop/db, with externalTrafficPolicy: Cluster");
    is_ruled_out(&passes(&shop(), outside), CauseName::HiddenClient);
    let local = changed(|all| {
        object(all, "Service", "shop/db")["spec"]["type"] = "LoadBalancer".into();
        object(all, "Service", "shop/db")["spec"]["externalTrafficPolicy"] = "Local".into();
    });
    is_ruled_out(&passes(&local, outside), CauseName::HiddenClient);
}

#[test]
fn the_plugin_other_kinds_and_the_age_of_a_policy_are_known_only_where_objects_show_them() {
    let judged = |reason, enforces| PluginJudgement { enforces, reason, message: "DaemonSet kube-system/x".into() };
    let with = |plugin: Option<PluginJudgement>, others: &[&str], others_are_complete: bool| {
        let other_policies = others.iter().map(|name| (*name).to_owned()).collect();
        let around = SymptomSurroundings { plugin, other_policies, others_are_complete };
        try_traffic(&shop(), &around, Symptom::Passes, CLOSED, None).unwrap()
    };
    is_not_known(&with(None, &[], false), CauseName::PluginIgnores, "the objects do not show the network plugin");
    is_ruled_out(&with(Some(judged("PluginEnforces", true)), &[], false), CauseName::PluginIgnores);
    is_found(&with(Some(judged("PluginIgnoresPolicies", false)), &[], false), CauseName::PluginIgnores, "DaemonSet");
    let unknown = PluginsFound::default().judge();
    is_not_known(&with(Some(unknown), &[], false), CauseName::PluginIgnores, "no network plugin was found");
    is_not_known(&with(None, &[], false), CauseName::OtherKinds, "do not show whether such policies exist");
    is_ruled_out(&with(None, &[], true), CauseName::OtherKinds);
    is_not_known(&with(None, &["CiliumNetworkPolicy shop/a"], true), CauseName::OtherKinds, "CiliumNetworkPolicy shop/a");

    is_ruled_out(&passes(&shop(), CLOSED), CauseName::OpenConnection);
    let young = changed(|all| netpol(all, "shop/deny-all")["metadata"]["creationTimestamp"] = "2026-01-03T00:00:00Z".into());
    let expected = "shop/deny-all was created at 2026-01-03T00:00:00Z, and the pods run since 2026-01-02T00:00:00Z";
    is_not_known(&passes(&young, CLOSED), CauseName::OpenConnection, expected);
    is_not_known(&comes_and_goes(&young, WORKS), CauseName::YoungPolicy, expected);
    let timeless = changed(|all| netpol(all, "shop/deny-all")["metadata"]["creationTimestamp"] = Value::Null);
    is_not_known(&passes(&timeless, CLOSED), CauseName::OpenConnection, "do not say when");
}

#[test]
fn one_direction_alone_is_found() {
    let answer = though_allowed(&changed(|all| netpol(all, "shop/web-to-db")["spec"]["egress"] = json!([])), WORKS);
    is_found(&answer, CauseName::OneDirection, "egress of shop/web-1 to shop/db-1, TCP 5432: denied");
    is_ruled_out(&answer, CauseName::BothDirections);
    assert_eq!(answer.suggestions.len(), 1);
    let neither =
        changed(|all| all.retain(|one| !["web-to-db", "db-from-web"].contains(&one["metadata"]["name"].as_str().unwrap())));
    let answer = though_allowed(&neither, WORKS);
    is_found(&answer, CauseName::BothDirections, "ingress of shop/db-1 from shop/web-1, TCP 5432: denied");
    is_ruled_out(&answer, CauseName::OneDirection);
}

#[test]
fn a_rule_that_nearly_allows_it_is_found_with_what_does_not_match() {
    let port = |port: Value| changed(move |all| netpol(all, "shop/db-from-web")["spec"]["ingress"][0]["ports"] = json!([port]));
    let service_80 = {
        let mut objects = port(json!({"port": 80}));
        object(&mut objects, "Service", "shop/db")["spec"]["ports"][0]["port"] = 80.into();
        objects
    };
    let answer = though_allowed(&service_80, ("shop/web-1", "shop/svc/db", "80"));
    is_found(
        &answer,
        CauseName::PortOfService,
        "shop/db-from-web: spec.ingress[0] names the port 80 of the Service, and shop/db-1 is reached on TCP 5432",
    );
    let answer = though_allowed(&port(json!({"port": "metrics"})), WORKS);
    is_found(&answer, CauseName::NamedPort, "names the port \"metrics\", which is the name of no container port there");
    let answer = though_allowed(&port(json!({"port": 5432, "protocol": "UDP"})), WORKS);
    is_found(&answer, CauseName::OtherPort, "allows this peer UDP 5432, and shop/db-1 is reached on TCP 5432");
    for cause in [CauseName::PortOfService, CauseName::NamedPort, CauseName::NamespaceLabels, CauseName::PodLabels] {
        is_ruled_out(&answer, cause);
    }
    let peer = |peer: Value| changed(move |all| netpol(all, "shop/db-from-web")["spec"]["ingress"][0]["from"] = json!([peer]));
    let nightly = json!({"matchLabels": {"app": "nightly"}});
    let own = though_allowed(&peer(json!({"podSelector": nightly})), CLOSED);
    is_found(
        &own,
        CauseName::NamespaceLabels,
        "has no namespaceSelector, so it selects pods of shop only, and reports/nightly-1 is in reports",
    );
    let labelled = json!({"podSelector": nightly, "namespaceSelector": {"matchLabels": {"team": "report"}}});
    is_found(&though_allowed(&peer(labelled), CLOSED), CauseName::NamespaceLabels, "selects namespaces with team=report");
    let pods = though_allowed(&peer(json!({"podSelector": {"matchLabels": {"app": "webs"}}})), WORKS);
    is_found(&pods, CauseName::PodLabels, "selects pods with app=webs, and shop/web-1 has app=web");
}

#[test]
fn addresses_that_do_not_stay_are_found() {
    let block = |cidr: &'static str| {
        changed(move |all| netpol(all, "shop/web-to-db")["spec"]["egress"][0]["to"] = json!([{"ipBlock": {"cidr": cidr}}]))
    };
    let service = though_allowed(&block("10.96.0.7/32"), WORKS);
    is_found(&service, CauseName::AddressOfPodOrService, "10.96.0.7 is the address of Service shop/db");
    let pods = though_allowed(&block("10.0.0.0/8"), WORKS);
    is_found(&pods, CauseName::AddressOfPodOrService, "only an ipBlock allows the egress for shop/db-1");
    is_ruled_out(&though_allowed(&shop(), WORKS), CauseName::AddressOfPodOrService);

    let on_host = changed(|all| {
        object(all, "Pod", "shop/web-1")["spec"]["hostNetwork"] = true.into();
        object(all, "Pod", "shop/web-1")["status"]["podIPs"] = json!([{"ip": "192.168.0.1"}]);
    });
    let answer = though_allowed(&on_host, WORKS);
    is_found(
        &answer,
        CauseName::SourceAddress,
        "shop/web-1 is on the host network: it arrives with the address of its node (192.168.0.1)",
    );
    let outside = ("203.0.113.7", "shop/svc/db", "5432");
    let balanced = changed(|all| {
        object(all, "Service", "shop/db")["spec"]["externalIPs"] = json!(["198.51.100.1"]);
        netpol(all, "shop/db-from-web")["spec"]["ingress"][0]["from"] = json!([{"ipBlock": {"cidr": "203.0.113.0/24"}}]);
    });
    is_found(
        &though_allowed(&balanced, outside),
        CauseName::SourceAddress,
        "a client from outside arrives with the address of a node",
    );
    is_ruled_out(&though_allowed(&shop(), outside), CauseName::SourceAddress);
}

#[test]
fn a_range_of_ports_is_known_only_with_the_plugin() {
    let range = |first: u16| {
        changed(move |all| {
            netpol(all, "shop/db-from-web")["spec"]["ingress"][0]["ports"] = json!([{"port": first, "endPort": 6000}]);
        })
    };
    is_not_known(&though_allowed(&range(5000), WORKS), CauseName::EndPort, "endPort: 6000");
    is_ruled_out(&though_allowed(&range(5432), WORKS), CauseName::EndPort);
}

#[test]
fn pods_behind_a_service_that_are_decided_differently_are_found_in_two_groups() {
    let canary = changed(|all| {
        all.push(with_ports(
            ready("shop/db-3", json!({"app": "db", "track": "canary"}), &["10.0.0.3"], "node-2"),
            &[("sql", 5432)],
        ));
        netpol(all, "shop/db-from-web")["spec"]["podSelector"] =
            json!({"matchLabels": {"app": "db"}, "matchExpressions": [{"key": "track", "operator": "DoesNotExist"}]});
    });
    let answer = comes_and_goes(&canary, WORKS);
    is_found(
        &answer,
        CauseName::EndpointsDiffer,
        "allowed to shop/db-1 (app=db), shop/db-2 (app=db); denied to shop/db-3 (app=db,track=canary)",
    );
    is_found(&answer, CauseName::MutableLabels, "track changes with a release");
}

#[test]
fn unready_endpoints_replicas_and_families_that_differ_are_found() {
    let terminating = changed(|all| {
        object(all, "EndpointSlice", "shop/db-1")["endpoints"][1]["conditions"] = json!({"ready": false, "terminating": true});
    });
    is_found(&comes_and_goes(&terminating, WORKS), CauseName::EndpointsNotReady, "being deleted: shop/db-2");
    let replica = changed(|all| {
        all.push(ready("shop/web-2", json!({"app": "web", "version": "2"}), &["10.0.0.8"], "node-2"));
        netpol(all, "shop/web-to-db")["spec"]["podSelector"]["matchLabels"]["version"] = "1".into();
        object(all, "Pod", "shop/web-1")["metadata"]["labels"]["version"] = "1".into();
    });
    let answer = comes_and_goes(&replica, WORKS);
    is_found(&answer, CauseName::SourcesDiffer, "allowed from shop/web-1 (app=web,version=1); denied from shop/web-2");
    is_found(&answer, CauseName::MutableLabels, "shop/web-to-db: spec.podSelector.matchLabels[version]");
    let dual = changed(|all| {
        object(all, "Pod", "shop/web-1")["status"]["podIPs"] = json!([{"ip": "10.0.0.9"}, {"ip": "fd00::9"}]);
        object(all, "Pod", "shop/db-1")["status"]["podIPs"] = json!([{"ip": "10.0.0.1"}, {"ip": "fd00::1"}]);
        netpol(all, "shop/db-from-web")["spec"]["ingress"][0]["from"] = json!([{"ipBlock": {"cidr": "10.0.0.0/8"}}]);
    });
    let answer = comes_and_goes(&dual, ("shop/web-1", "shop/db-1", "5432"));
    is_found(&answer, CauseName::FamiliesDiffer, "to shop/db-1: allowed over IPv4; denied over IPv6");
    let udp = changed(|all| netpol(all, "shop/dns")["spec"]["egress"][0]["ports"] = ports(&[("UDP", 53)]));
    is_found(&comes_and_goes(&udp, WORKS), CauseName::DnsOverUdpOnly, ", TCP 53: denied");
}

#[test]
fn what_depends_on_the_node_is_found() {
    let on_host = changed(|all| {
        let pod = object(all, "Pod", "reports/nightly-1");
        pod["spec"]["hostNetwork"] = true.into();
        pod["status"]["podIPs"] = json!([{"ip": "192.168.0.1"}]);
        object(all, "Pod", "shop/db-1")["spec"]["nodeName"] = "node-1".into();
    });
    let answer = comes_and_goes(&on_host, CLOSED);
    is_found(
        &answer,
        CauseName::NodesDiffer,
        "shop/db-1 is on the node of the other end, which always passes, and shop/db-2 is not",
    );
    is_ruled_out(&comes_and_goes(&shop(), CLOSED), CauseName::NodesDiffer);
}
