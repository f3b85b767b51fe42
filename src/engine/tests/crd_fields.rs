//! A CRD that lacks fields which this version knows: nothing is decided, and everything is listed again afterwards.

use serde_json::json;

use super::harness::EngineHarness;
use crate::{
    api::backends::{Configuration, ConfigurationKind::Crd},
    engine::{
        facts::{
            event::{Change, Event},
            opt_out::RawOptOut,
            relist::WhyListAgain,
        },
        writes::Announcement,
    },
};

const CRD: &str = "policybaselines.policybaseline.io";

fn crd(missing: &[&str]) -> Event {
    let missing_fields = missing.iter().map(ToString::to_string).collect();
    Event::Configuration(Crd, Change::Applied(Configuration { kind: Crd, name: CRD.into(), services: vec![], missing_fields }))
}

#[test]
fn i16_nothing_is_decided_while_a_crd_lacks_fields_and_everything_is_listed_again_when_it_has_them() {
    let mut sim = EngineHarness::protected();
    sim.see(crd(&["spec.rollout"]));
    sim.namespace("b");
    sim.baseline(2, json!({"metadata": {"labels": {"owner": "x"}}}));
    let now = sim.now();
    assert_eq!(sim.jobs().len(), 0);
    assert!(sim.engine.writes(now, false).is_empty() && sim.engine.is_synced());
    let waits: Vec<String> = sim.engine.waits().collect();
    assert!(waits.len() == 1 && waits[0].contains("lacks spec.rollout:"), "{waits:?}");
    let announced: Vec<Announcement> = sim.announcements();
    assert_eq!(announced.iter().map(|a| (a.namespace.as_str(), &*a.policy)).collect::<Vec<_>>(), [("default", "b")]);
    sim.see(crd(&["spec.rollout"]));
    sim.jobs();
    assert!(sim.announcements().is_empty(), "once");
    assert_eq!(sim.engine.must_list_again(), None);
    sim.see(crd(&[]));
    assert_eq!(sim.engine.must_list_again(), Some(WhyListAgain::CrdsComplete));
}

#[test]
fn i16_who_lacks_fields_leads_no_longer_than_it_takes_to_send_the_events() {
    let mut sim = EngineHarness::protected();
    assert!(sim.engine.may_lead(sim.now()));
    sim.see(crd(&["spec.rollout"]));
    assert!(sim.engine.may_lead(sim.now()), "the Events are not sent yet");
    sim.jobs();
    let at = sim.engine.next_wake(sim.now()).unwrap();
    assert!(sim.engine.may_lead(sim.now()));
    sim.pass(at - sim.now().instant);
    assert!(!sim.engine.may_lead(sim.now()));
    sim.see(crd(&["spec.rollout", "spec.dns"]));
    assert!(sim.engine.may_lead(sim.now()), "other fields are other Events");
}

#[test]
fn i15_a_spec_that_changes_without_its_generation_is_not_believed_and_everything_is_listed_again() {
    let mut sim = EngineHarness::protected();
    let other = json!({"metadata": {"labels": {"owner": "x"}}});
    sim.baseline(1, json!({}));
    assert_eq!(sim.engine.must_list_again(), None);
    sim.baseline_with(1, other.clone(), json!({"resourceVersion": "6"}));
    assert_eq!(sim.engine.must_list_again(), None, "a late event");
    sim.baseline(1, other.clone());
    assert_eq!(sim.jobs().len(), 0);
    let why = sim.engine.must_list_again().unwrap().to_string();
    assert!(why.starts_with("PolicyBaseline b has another spec than before at the same generation 1"), "{why}");

    // A CRD that lacks fields does that to every spec, and is told already.
    let mut sim = EngineHarness::protected();
    sim.see(crd(&["spec.rollout"]));
    sim.baseline(1, other);
    assert_eq!(sim.engine.must_list_again(), None);
}

#[test]
fn i15_an_opt_out_that_changes_without_its_generation_is_not_believed_either() {
    let mut sim = EngineHarness::protected();
    let opt_out = |policies: &str, version: &str| {
        let raw: RawOptOut = serde_json::from_value(json!({
            "metadata": {"namespace": "a", "name": "o", "uid": "u", "generation": 1, "resourceVersion": version},
            "spec": {"policies": [policies], "reason": "r", "expiresAt": "2099-01-01T00:00:00Z"},
        }))
        .unwrap();
        Event::OptOut(Change::Applied(Box::new(raw)))
    };
    sim.see(opt_out("MonitoringCarveout", "1"));
    sim.see(opt_out("MonitoringCarveout", "2"));
    assert_eq!(sim.engine.must_list_again(), None);
    sim.see(opt_out("DefaultDenyIngress", "3"));
    let why = sim.engine.must_list_again().unwrap().to_string();
    assert!(why.starts_with("BaselineOptOut a/o has another spec"), "{why}");
}

#[test]
fn i15_a_list_with_an_older_version_than_the_watch_showed_is_the_truth_and_everything_is_listed_again() {
    let mut sim = EngineHarness::protected();
    let older = json!({"resourceVersion": "6"});
    sim.baseline_with(1, json!({}), older.clone());
    assert_eq!(sim.engine.must_list_again(), None, "an event may be late");
    sim.see(Event::Baseline(Change::ListBegan));
    sim.baseline(1, json!({}));
    assert_eq!(sim.engine.must_list_again(), None);
    sim.baseline_with(1, json!({}), older);
    let why = sim.engine.must_list_again().unwrap().to_string();
    assert_eq!(why, "the API server went back to an older state: PolicyBaseline b had resourceVersion 7 before, and has 6 now");
}
