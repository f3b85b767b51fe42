//! The Events about the state of a baseline.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use serde_json::{Value, json};

use super::harness::{EngineHarness, ready};
use crate::{
    api::{
        backends::ConfigurationKind,
        reason::{EventReason, Failure},
    },
    engine::facts::event::{Change, Event, ListRefusal},
};

/// The Events about the baseline since the last call.
fn told(sim: &mut EngineHarness) -> Vec<(EventReason, String)> {
    let of_states = [EventReason::BaselineReady, EventReason::BaselineNotReady];
    let all = sim.engine.take_announcements().into_iter().filter(|told| of_states.contains(&told.reason));
    all.inspect(|told| assert_eq!((&*told.policy, told.namespace.as_str()), ("b", "default")))
        .map(|told| (told.reason, told.note.split(':').next().unwrap().to_owned()))
        .collect()
}

#[test]
fn each_new_state_of_a_baseline_is_told_once_and_that_policies_are_being_written_is_none() {
    use EventReason::{BaselineNotReady, BaselineReady};
    let mut sim = EngineHarness::protected();
    assert_eq!(told(&mut sim), [(BaselineReady, "Ready is True, Protected".into())]);
    sim.namespace("new");
    let job = sim.jobs().pop().unwrap();
    sim.pass(Duration::from_secs(2));
    assert_eq!(ready(&sim.status().unwrap()), "WritingPolicies");
    sim.answer_late(job, |_| {});
    sim.status_after(2);
    assert_eq!(told(&mut sim), []);
    sim.delete("new", "baseline-default-deny-ingress");
    sim.answer(|_, _| Some(Failure::QuotaExceeded));
    assert_eq!(sim.jobs().len(), 0, "it is tried again later");
    sim.pass(Duration::from_secs(2));
    sim.status();
    assert_eq!(told(&mut sim), [(BaselineNotReady, "Ready is False, WritesFailing".into())]);
    sim.status_after(60);
    assert_eq!(told(&mut sim), [(BaselineReady, "Ready is True, Protected".into())]);
    // The next leader continues from the stored status.
    let status = serde_json::to_value(sim.statuses.last().unwrap()).unwrap();
    sim.baseline_stored(1, json!({}), json!({"resourceVersion": "8"}), status);
    sim.lead(false);
    sim.lead(true);
    sim.status_after(5);
    assert_eq!(told(&mut sim), []);
}

#[test]
fn a_watch_that_fails_for_more_than_a_minute_is_told_and_the_work_goes_on() {
    let mut sim = EngineHarness::protected();
    told(&mut sim);
    for _ in 0..25 {
        sim.see(Event::OptOut(Change::Refused(ListRefusal::Unavailable, "503".into())));
        sim.pass(Duration::from_secs(3));
        sim.settle();
        sim.status();
    }
    assert_eq!(ready(sim.statuses.last().unwrap()), "WatchFailing");
    let said = told(&mut sim);
    assert_eq!(said, [(EventReason::BaselineNotReady, "Ready is Unknown, WatchFailing".into())]);
    sim.namespace("new");
    sim.settle();
    assert_eq!(sim.policies.len(), 6);
    // Nothing fails any more, and nothing else happens.
    let wakes = sim.engine.next_wake(sim.now()).unwrap();
    assert!(wakes <= sim.now().instant + Duration::from_secs(45));
    assert_eq!(ready(&sim.status_after(45)), "Protected");
    assert_eq!(told(&mut sim), [(EventReason::BaselineReady, "Ready is True, Protected".into())]);
}

#[test]
fn a_watch_that_a_baseline_does_not_depend_on_says_nothing_about_it_and_a_refused_one_is_worked_without() {
    type Refused<'a> = &'a dyn Fn(ListRefusal) -> Event;
    const APIS: ConfigurationKind = ConfigurationKind::ApiService;
    let refused = |refusal| Event::Configuration(APIS, Change::Refused(refusal, "no".into()));
    let revisions = |refusal| Event::Revision(Change::Refused(refusal, "no".into()));
    let listed = |sim: &mut EngineHarness| sim.see(Event::Revision(Change::ListDone));
    let (hold, enforce) = (json!({}), json!({"controlPlaneBackends": "Enforce"}));
    let rollout = json!({"rollout": {"maxNamespacesPerWave": 1, "interval": "1m"}});
    let (forbidden, down) = (ListRefusal::Forbidden, ListRefusal::Unavailable);
    let cases: [(Refused<'_>, ListRefusal, &Value, &str, Option<&str>); 6] = [
        (&refused, down, &hold, "WatchFailing", None),
        (&refused, down, &enforce, "Protected", None),
        (&refused, forbidden, &hold, "Protected", Some("ControlPlaneCoverage False NotListed")),
        (&revisions, down, &hold, "Protected", None),
        (&revisions, down, &rollout, "WatchFailing", None),
        (&revisions, forbidden, &rollout, "Protected", Some("RolloutPaused True RevisionsForbidden")),
    ];
    for (event, refusal, spec, expected, condition) in cases {
        let mut sim = EngineHarness::protected();
        listed(&mut sim);
        sim.baseline(2, spec.clone());
        sim.settle();
        let now = sim.now();
        for write in sim.engine.revisions(now) {
            sim.engine.revision_written(write, Ok(Some("uid".into())), now);
        }
        for _ in 0..25 {
            sim.see(event(refusal));
            sim.pass(Duration::from_secs(3));
            sim.settle();
            sim.status();
        }
        let status = sim.statuses.last().unwrap();
        assert_eq!(ready(status), expected, "{refusal:?} {spec}");
        let said = status.conditions.iter().map(|c| format!("{} {} {}", c.type_, c.status, c.reason));
        let said: Vec<String> = said.filter(|c| condition.is_some_and(|condition| *c == condition)).collect();
        assert_eq!(said.first().map(String::as_str), condition, "{refusal:?} {spec}: {:?}", status.conditions);
        // The watch goes on where it was, without another list.
        let status = sim.status_after(50);
        assert_eq!(ready(&status), "Protected", "{refusal:?} {spec}");
        let is_said = |c: &Condition| ["ControlPlaneCoverage", "RolloutPaused"].contains(&&*c.type_);
        assert!(!status.conditions.iter().any(is_said), "{:?}", status.conditions);
    }
}
