//! Which rules are a cause: those of flows that pass, those of policies that miss the pod, and those that nearly allow it.

use super::*;

const WORKS: (&str, &str, &str) = ("shop/web-1", "shop/svc/db", "5432");
const CLOSED: (&str, &str, &str) = ("reports/nightly-1", "shop/svc/db", "5432");

fn passes(objects: &[Value], asked: (&str, &str, &str)) -> SymptomAnswer {
    traffic(objects, Symptom::Passes, asked)
}

fn though_allowed(objects: &[Value], asked: (&str, &str, &str)) -> SymptomAnswer {
    traffic(objects, Symptom::BlockedThoughAllowed, asked)
}

#[test]
fn what_lets_one_direction_through_is_no_cause_while_the_other_one_is_denied() {
    let objects = changed(|all| {
        all.push(old("reports/open", json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": [{}]})));
        all.push(old(
            "reports/other",
            json!({"podSelector": {"matchLabels": {"app": "x"}}, "policyTypes": ["Egress", "Ingress"]}),
        ));
    });
    assert_eq!(found(&passes(&objects, CLOSED)), []);
    let types = changed(|all| {
        let spec = json!({"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{}], "egress": [{"to": [dns_peer()]}]});
        all.push(old("reports/types", spec));
    });
    assert_eq!(found(&passes(&types, CLOSED)), []);
    let or = changed(|all| {
        netpol(all, "shop/db-from-web")["spec"]["ingress"][0]["from"] =
            json!([{"namespaceSelector": {}}, {"podSelector": {"matchLabels": {"app": "z"}}}]);
        all.push(old("reports/closed", json!({"podSelector": {}, "policyTypes": ["Egress"]})));
    });
    assert_eq!(found(&passes(&or, CLOSED)), []);
}

#[test]
fn each_pair_of_pods_has_a_connection_of_its_own() {
    let pair = changed(|all| {
        object(all, "Pod", "shop/db-2")["metadata"]["creationTimestamp"] = "2026-02-01T00:00:00Z".into();
        netpol(all, "shop/deny-all")["metadata"]["creationTimestamp"] = "2026-01-20T00:00:00Z".into();
    });
    let answer = passes(&pair, CLOSED);
    is_not_known(&answer, CauseName::OpenConnection, "2026-01-20T00:00:00Z, and the pods run since 2026-01-02T00:00:00Z");
    assert!(answer.to_string().contains("most often the connection is older than the policy"), "{answer}");
}

#[test]
fn a_policy_that_was_changed_later_may_be_younger_than_a_connection() {
    let with = |change: fn(&mut Value)| changed(move |all| change(netpol(all, "shop/db-from-web")));
    let answer = passes(&with(|policy| policy["metadata"]["generation"] = 3.into()), CLOSED);
    is_not_known(&answer, CauseName::OpenConnection, "changed later at a time that the objects do not show");
    let written = with(|policy| {
        policy["metadata"]["generation"] = 2.into();
        policy["metadata"]["managedFields"] = json!([{"manager": "a"}, {"manager": "b", "time": "2026-03-01T00:00:00Z"}]);
    });
    is_not_known(&passes(&written, CLOSED), CauseName::OpenConnection, "shop/db-from-web was written at 2026-03-01T00:00:00Z");
    let before = with(|policy| {
        policy["metadata"]["generation"] = 2.into();
        policy["metadata"]["managedFields"] = json!([{"manager": "a", "time": "2026-01-01T12:00:00Z"}]);
    });
    let answer = passes(&before, CLOSED);
    is_ruled_out(&answer, CauseName::OpenConnection);
    assert!(!answer.to_string().contains("most often the connection"), "the headline does not claim what is ruled out: {answer}");
}

#[test]
fn a_rule_of_a_policy_that_is_not_about_the_pod_is_found() {
    let rule = |spec: Value, id: &'static str| {
        changed(move |all| {
            all.retain(|one| one["metadata"]["name"] != "db-from-web");
            all.push(old(id, spec));
        })
    };
    let from_web = json!([{"from": [{"podSelector": {"matchLabels": {"app": "web"}}}], "ports": [{"port": 5432}]}]);
    let typo = json!({"podSelector": {"matchLabels": {"app": "database"}}, "ingress": from_web});
    is_found(
        &though_allowed(&rule(typo, "shop/allow"), WORKS),
        CauseName::SelectsOtherPods,
        "shop/allow: spec.ingress[0] would allow it, but it selects pods with app=database, and shop/db-1 has app=db",
    );
    let other = json!({"podSelector": {"matchLabels": {"app": "web"}}, "ingress": from_web});
    is_not_known(&though_allowed(&rule(other, "shop/allow"), WORKS), CauseName::SelectsOtherPods, "selects pods with app=web");
    let types = json!({"podSelector": {"matchLabels": {"app": "db"}}, "policyTypes": ["Egress"], "ingress": from_web});
    is_found(
        &though_allowed(&rule(types, "shop/allow"), WORKS),
        CauseName::PolicyTypes,
        "shop/allow: spec.ingress[0] would allow it, but policyTypes does not name Ingress",
    );
    let elsewhere = json!({"podSelector": {"matchLabels": {"app": "db"}}, "ingress": [{"from": [{"podSelector": {}}]}]});
    is_found(
        &though_allowed(&rule(elsewhere, "reports/allow"), CLOSED),
        CauseName::SelectsOtherPods,
        "a policy selects pods of its own namespace only, reports, and shop/db-1 is in shop",
    );
    let answer = though_allowed(&shop(), WORKS);
    for cause in [CauseName::SelectsOtherPods, CauseName::PolicyTypes, CauseName::NearestRule] {
        is_ruled_out(&answer, cause);
    }
}

#[test]
fn the_nearest_rule_is_named_with_all_that_it_misses() {
    let rule = |rule: Value| changed(move |all| netpol(all, "shop/db-from-web")["spec"]["ingress"][0] = rule);
    let both = json!({"from": [{"podSelector": {"matchLabels": {"app": "webs"}}}], "ports": [{"port": 5433}]});
    is_not_known(
        &though_allowed(&rule(both), WORKS),
        CauseName::NearestRule,
        "shop/db-from-web: spec.ingress[0] misses this flow in 2 parts: it selects pods with app=webs, and shop/web-1 has app=web; and it allows TCP 5433, and shop/db-1 is reached on TCP 5432",
    );
    let labels = json!({"from": [{
        "namespaceSelector": {"matchLabels": {"team": "x"}}, "podSelector": {"matchLabels": {"app": "x"}},
    }], "ports": [{"port": 5432}]});
    is_not_known(&though_allowed(&rule(labels), CLOSED), CauseName::NearestRule, "it selects namespaces with team=x");
    let nothing = json!({"from": [{
        "namespaceSelector": {"matchLabels": {"team": "x"}}, "podSelector": {"matchLabels": {"app": "x"}},
    }], "ports": [{"port": 1}]});
    is_ruled_out(&though_allowed(&rule(nothing), CLOSED), CauseName::NearestRule);
}

#[test]
fn ranges_that_leave_the_pod_out_are_found() {
    let block =
        |block: Value| changed(move |all| netpol(all, "shop/web-to-db")["spec"]["egress"][0]["to"] = json!([{"ipBlock": block}]));
    is_found(
        &though_allowed(&block(json!({"cidr": "10.0.0.0/8", "except": ["10.0.0.0/24"]})), WORKS),
        CauseName::AddressOfPodOrService,
        "spec.egress[0].to[0] allows 10.0.0.0/8, and shop/db-1 (10.0.0.1) is in an exception of it",
    );
    is_found(
        &though_allowed(&block(json!({"cidr": "10.96.0.0/12"})), WORKS),
        CauseName::AddressOfPodOrService,
        "contains the cluster IP 10.96.0.7 of the Service shop/db, and not shop/db-1 (10.0.0.1)",
    );
}

#[test]
fn without_a_flow_what_only_a_flow_shows_is_not_known() {
    let ended = changed(|all| object(all, "Pod", "shop/db-2")["status"]["phase"] = "Failed".into());
    let nowhere = changed(|all| object(all, "Service", "shop/db")["spec"]["selector"] = json!({"app": "none"}));
    for (objects, asked) in [(ended, ("shop/web-1", "shop/db-2", "5432")), (nowhere, WORKS)] {
        for symptom in [Symptom::Blocked, Symptom::Passes, Symptom::BlockedThoughAllowed, Symptom::ComesAndGoes] {
            let answer = traffic(&objects, symptom, asked);
            is_not_known(&answer, CauseName::Undecided, "no flow could be judged");
            assert_eq!(answer.decision, None);
        }
        is_not_known(&passes(&objects, asked), CauseName::AllowedByRule, "no flow could be judged");
        is_not_known(&though_allowed(&objects, asked), CauseName::OneDirection, "no flow could be judged");
    }
}

#[test]
fn an_undecided_flow_is_said_in_the_first_line() {
    let on_host = changed(|all| {
        object(all, "Pod", "shop/web-1")["spec"]["hostNetwork"] = true.into();
        object(all, "Pod", "shop/web-1")["status"]["podIPs"] = json!([{"ip": "192.168.0.1"}]);
    });
    let answer = traffic(&on_host, Symptom::Blocked, WORKS);
    assert!(answer.is_undecided());
    let text = answer.to_string();
    assert!(text.starts_with("blocked: shop/web-1 to shop/svc/db, TCP 5432: undecided, "), "{text}");
    assert!(!traffic(&shop(), Symptom::Blocked, WORKS).is_undecided());
}
