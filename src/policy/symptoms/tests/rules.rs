//! Which rules are a cause: those of flows that pass, those of policies that miss the pod, and those that nearly allow it.

use super::*;

const WORKS: (&str, &str, &str) = ("shop/web-1", "shop/svc/db", "5432");

fn passes(objects: &[Value], asked: (&str, &str, &str)) -> SymptomAnswer {
    traffic(objects, Symptom::Passes, asked)
}

fn though_allowed(objects: &[Value], asked: (&str, &str, &str)) -> SymptomAnswer {
    traffic(objects, Symptom::BlockedThoughAllowed, asked)
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
