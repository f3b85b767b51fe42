//! What a person reads, as golden files: each symptom where causes are found, and where none is.

use super::*;
use crate::testkit::golden;

fn text(name: &str, answer: &SymptomAnswer) {
    golden(&format!("src/policy/symptoms/golden/{name}.txt"), &answer.to_string());
}

#[test]
fn each_symptom_as_text_with_causes_and_without() {
    let works = ("shop/web-1", "shop/svc/db", "5432");
    let closed = ("reports/nightly-1", "shop/svc/db", "5432");
    text("dns-hangs-none", &dns_of(&shop(), "shop/web-1"));
    let wrong = json!([{"namespaceSelector": {"matchLabels": {"name": "kube-system"}}}]);
    text("dns-hangs", &dns_of(&changed(|all| netpol(all, "shop/dns")["spec"]["egress"][0]["to"] = wrong), "shop/web-1"));
    text("blocked-none", &traffic(&shop(), Symptom::Blocked, works));
    text("blocked", &traffic(&shop(), Symptom::Blocked, closed));
    text("passes-none", &traffic(&shop(), Symptom::Passes, closed));
    text("passes", &traffic(&shop(), Symptom::Passes, works));
    text("blocked-though-allowed-none", &traffic(&shop(), Symptom::BlockedThoughAllowed, works));
    let other = json!([{"podSelector": {"matchLabels": {"app": "nightly"}}}]);
    let near = changed(|all| netpol(all, "shop/db-from-web")["spec"]["ingress"][0]["from"] = other);
    text("blocked-though-allowed", &traffic(&near, Symptom::BlockedThoughAllowed, closed));
    text("comes-and-goes-none", &traffic(&shop(), Symptom::ComesAndGoes, works));
    let narrow = changed(|all| netpol(all, "shop/db-from-web")["spec"]["podSelector"]["matchLabels"]["track"] = "stable".into());
    let two = {
        let mut objects = narrow;
        object(&mut objects, "Pod", "shop/db-1")["metadata"]["labels"]["track"] = "stable".into();
        objects
    };
    text("comes-and-goes", &traffic(&two, Symptom::ComesAndGoes, works));
    let json = serde_json::to_string_pretty(&traffic(&shop(), Symptom::Blocked, closed)).unwrap();
    golden("src/policy/symptoms/golden/blocked.json", &(json + "\n"));
}

#[test]
fn names_that_others_chose_stay_what_they_are_in_json_and_every_cause_has_a_text_of_its_own() {
    let answer = traffic(&shop(), Symptom::Passes, ("shop/web-1", "shop/svc/db", "5432"));
    let mut whats: Vec<&str> = answer.causes.iter().map(|cause| cause.what).collect();
    let count = whats.len();
    whats.sort_unstable();
    whats.dedup();
    assert_eq!(whats.len(), count);
}
