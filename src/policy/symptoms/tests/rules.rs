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
