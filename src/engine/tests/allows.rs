//! The order in which allows, default-denies and removals are written, and what a status says of allows.
//!
//! One file: the tests share their scene.

use std::{collections::BTreeSet, time::Duration};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::harness::{EngineHarness, named, ready};
use crate::{
    api::reason::Failure,
    engine::{
        facts::event::{Change, Event},
        sample::MetricSample,
        writes::{Done, Job, Task, WriteError, Wrote},
    },
};

const ALLOW: &str = "baseline-allow-same";
const DENY_INGRESS: &str = "baseline-default-deny-ingress";
const DENY_EGRESS: &str = "baseline-default-deny-egress";
const WEB: &str = "baseline-allow-web";
const CARVEOUT: &str = "baseline-monitoring-carveout";

fn spec() -> Value {
    json!({"allows": [{"name": "same", "ingress": [{"from": [{"sameNamespace": {}}]}], "egress": [{"to": [{"sameNamespace": {}}]}]}]})
}

/// The same with a second allow.
fn two() -> Value {
    let mut spec = spec();
    let web = json!({"name": "web", "ingress": [{"from": [{"sameNamespace": {}}]}], "egress": [{"to": [{"sameNamespace": {}}]}]});
    spec["allows"].as_array_mut().unwrap().push(web);
    spec
}

/// The API server refuses the second allow.
fn refuse_web(_: &Job, policy: &str) -> Option<Failure> {
    (policy == WEB).then_some(Failure::QuotaExceeded)
}

fn types(sim: &EngineHarness, policy: &str) -> String {
    sim.policies[&("a".to_owned(), policy.to_owned())].spec.clone().unwrap().policy_types.unwrap().join(" ")
}

/// A new engine that reads the stored state, as after a restart.
fn restarted(sim: EngineHarness, spec: &Value) -> EngineHarness {
    let mut after = EngineHarness::unsynced();
    (after.policies, after.version) = (sim.policies, sim.version);
    after.listing(|sim| {
        sim.baseline(1, spec.clone());
        sim.namespace("a");
        for object in sim.policies.values().cloned().collect::<Vec<_>>() {
            sim.see(Event::Policy(Change::Applied(Box::new(object))));
        }
    });
    after
}

/// A namespace without policies, and a baseline with an allow.
fn before() -> EngineHarness {
    let mut sim = EngineHarness::new();
    sim.baseline(1, spec());
    sim.namespace("a");
    sim
}

fn settled() -> EngineHarness {
    let mut sim = before();
    sim.settle();
    sim.pass(Duration::from_secs(5));
    sim.status();
    sim
}

/// The writes of a job that are sent at the same time, phase by phase. `fails`: the policies whose write fails.
fn phases(mut job: Job, fails: &[&str]) -> Vec<Vec<String>> {
    job.put_in_order();
    let (mut results, mut phases) = (Vec::new(), Vec::new());
    while results.len() < job.tasks.len() {
        let mut phase = Vec::new();
        for may_send in job.next_writes(&results) {
            let policy = job.tasks[results.len()].drift.policy.clone();
            let fails = fails.contains(&&*policy);
            if may_send {
                phase.push(policy);
            }
            let failed = || WriteError::Failed { reason: Failure::Unavailable, message: String::new() };
            results.push(if may_send && fails { Err(failed()) } else { Ok(Wrote::Withheld) });
        }
        phases.push(phase);
    }
    phases
}

fn policies(sim: &EngineHarness) -> Vec<&str> {
    sim.policies.keys().map(|(_, name)| &**name).collect()
}

#[test]
fn a_namespace_is_closed_only_after_its_allows_are_confirmed() {
    let job = |sim: &mut EngineHarness| sim.jobs().remove(0);
    let planned = [DENY_INGRESS, DENY_EGRESS, CARVEOUT];
    assert_eq!(phases(job(&mut before()), &[]), [vec![ALLOW], planned.to_vec()]);
    // Any other policy would isolate pods without that allow.
    assert_eq!(phases(job(&mut before()), &[ALLOW]), [vec![ALLOW], vec![]]);
}

#[test]
fn while_an_allow_cannot_be_written_nothing_is_closed_anew_and_that_is_said() {
    let mut sim = before();
    let refuse = |_: &Job, policy: &str| (policy == ALLOW).then_some(Failure::QuotaExceeded);
    for _ in 0..20 {
        sim.answer(refuse);
        sim.pass(Duration::from_secs(3));
    }
    assert_eq!(policies(&sim), [""; 0]);
    let now = sim.now();
    while sim.engine.assess_dirty(now) {}
    let status = sim.status().unwrap();
    assert_eq!((ready(&status), status.violations[0].policy.as_deref()), ("WritesFailing", Some(ALLOW)));
    sim.pass(Duration::from_mins(1));
    sim.settle();
    assert_eq!(policies(&sim), [ALLOW, DENY_EGRESS, DENY_INGRESS, CARVEOUT]);
}

#[test]
fn an_allow_does_not_stay_alone_while_another_cannot_be_written() {
    let mut sim = EngineHarness::new();
    sim.baseline(1, two());
    // The wait for the revisions, which this scene does not list, ends first: then everything is tried again.
    for _ in 0..2 {
        assert_eq!(sim.jobs().len(), 0);
        sim.pass(Duration::from_mins(1));
    }
    assert_eq!(sim.jobs().len(), 0);
    sim.namespace("a");
    let mut tried = Vec::new();
    for attempt in 0..20 {
        sim.answer(|job, policy| {
            tried.push(policy.to_owned());
            refuse_web(job, policy)
        });
        sim.pass(Duration::from_secs(if attempt == 0 { 0 } else { 3 }));
    }
    // The first one is written once and removed; from then on only the second one is tried.
    assert_eq!((policies(&sim), &tried[..3]), (vec![], &[ALLOW, WEB, ALLOW].map(String::from)[..]));
    assert!(tried.len() > 4 && tried[3..].iter().all(|policy| policy == WEB), "{tried:?}");
    let why = sim.announcements().into_iter().find(|told| told.note.starts_with("the policy was removed")).unwrap().note;
    assert!(why.contains("another allow cannot be written yet"), "{why}");
    sim.pass(Duration::from_mins(1));
    sim.settle();
    assert_eq!(policies(&sim), [ALLOW, WEB, DENY_EGRESS, DENY_INGRESS, CARVEOUT]);
    assert!(sim.status_after(5).recent_drift.is_empty());
}

#[test]
fn i7_allows_for_which_a_quota_has_no_room_cost_few_writes() {
    let mut sim = EngineHarness::new();
    sim.baseline(1, two());
    sim.namespace("a");
    let (mut stored, mut writes) = (BTreeSet::new(), 0);
    for _ in 0..300 {
        let one_fits = |job: &Job, policy: &str| {
            writes += 1;
            if job.tasks.iter().any(|task| task.drift.policy == policy && task.drift.is_removal()) {
                stored.remove(policy);
                return None;
            }
            let has_room = stored.is_empty() || stored.contains(policy);
            if has_room {
                stored.insert(policy.to_owned());
            }
            (!has_room).then_some(Failure::QuotaExceeded)
        };
        sim.answer(one_fits);
        sim.pass(Duration::from_secs(1));
    }
    assert!((10..120).contains(&writes), "{writes}");
    assert!(stored.iter().all(|policy| policy == ALLOW || policy == WEB), "{stored:?}");
    sim.pass(Duration::from_mins(1));
    sim.settle();
    assert_eq!(policies(&sim), [ALLOW, WEB, DENY_EGRESS, DENY_INGRESS, CARVEOUT]);
}

#[test]
fn i1_an_allow_that_is_stored_although_its_write_seemed_to_fail_keeps_no_namespace_open() {
    for (spec, all) in [(spec(), 4), (two(), 5)] {
        let mut sim = EngineHarness::new();
        sim.baseline(1, spec);
        sim.namespace("a");
        let mut job = sim.jobs().remove(0);
        job.put_in_order();
        let lost = || WriteError::Failed { reason: Failure::TimedOut, message: "etcdserver: request timed out".into() };
        let result = |task: &Task| match &*task.drift.policy {
            ALLOW => {
                sim.policies_write(&job, ALLOW, &task.drift.fix);
                Err(lost())
            }
            WEB => Ok(sim.policies_write(&job, WEB, &task.drift.fix)),
            _ => Ok(Wrote::Withheld),
        };
        let results = job.tasks.iter().map(result).collect();
        let now = sim.now();
        sim.engine.done(Done { job, results }, now);
        for object in sim.policies.values().cloned().collect::<Vec<_>>() {
            sim.see(Event::Policy(Change::Applied(Box::new(object))));
        }
        sim.settle();
        assert_eq!(sim.policies.len(), all, "{:?}", policies(&sim));
        assert_eq!(ready(&sim.status_after(5)), "Protected");
    }
}

#[test]
fn no_default_deny_follows_an_allow_that_admission_changed() {
    let mut sim = before();
    let mut job = sim.jobs().remove(0);
    job.put_in_order();
    let fix = job.tasks[0].drift.fix.clone();
    let written = |sim: &mut EngineHarness, ingress: bool| match sim.policies_write(&job, ALLOW, &fix) {
        Wrote::Applied { mut stored, before } => {
            if !ingress {
                stored.spec.as_mut().unwrap().ingress = None;
            }
            [Ok(Wrote::Applied { stored, before })]
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(job.next_writes(&written(&mut sim, true)), [true; 3]);
    assert_eq!(job.next_writes(&written(&mut sim, false)), [false; 3]);
}

#[test]
fn while_an_allow_cannot_be_written_the_others_have_the_directions_that_are_closed() {
    let mut sim = EngineHarness::new();
    let mut one = spec();
    one["policies"] = json!(["DefaultDenyIngress"]);
    sim.baseline(1, one);
    sim.namespace("a");
    sim.settle();
    assert_eq!((types(&sim, ALLOW).as_str(), policies(&sim)), ("Ingress", vec![ALLOW, DENY_INGRESS]));
    sim.baseline(2, two());
    for _ in 0..20 {
        sim.answer(refuse_web);
        sim.pass(Duration::from_secs(3));
    }
    assert_eq!((types(&sim, ALLOW).as_str(), policies(&sim)), ("Ingress", vec![ALLOW, DENY_INGRESS, CARVEOUT]));
    sim.pass(Duration::from_mins(1));
    sim.settle();
    assert_eq!(types(&sim, ALLOW), "Ingress Egress");
    assert_eq!(policies(&sim), [ALLOW, WEB, DENY_EGRESS, DENY_INGRESS, CARVEOUT]);
}

#[test]
fn after_a_restart_between_allows_and_default_denies_the_rest_waits_for_its_allows_and_is_no_drift() {
    let mut sim = EngineHarness::new();
    sim.baseline(1, two());
    sim.namespace("a");
    let job = sim.jobs().remove(0);
    let first = job.tasks.iter().find(|task| task.drift.policy == ALLOW).unwrap();
    sim.policies_write(&job, ALLOW, &first.drift.fix);
    let mut sim = restarted(sim, &two());
    assert_eq!(phases(sim.clone().jobs().remove(0), &[WEB]), [vec![WEB], vec![]]);
    sim.answer(refuse_web);
    sim.answer(refuse_web);
    assert_eq!(policies(&sim), [""; 0]);
    sim.pass(Duration::from_mins(1));
    sim.settle();
    assert_eq!(policies(&sim), [ALLOW, WEB, DENY_EGRESS, DENY_INGRESS, CARVEOUT]);
    assert!(sim.status_after(5).recent_drift.is_empty());
}

#[test]
fn a_default_deny_goes_before_its_allow_is_narrowed_also_while_something_else_cannot_be_written() {
    let mut sim = settled();
    let mut ingress = two();
    ingress["policies"] = json!(["DefaultDenyIngress"]);
    sim.baseline(2, ingress);
    let mut order = Vec::new();
    for _ in 0..4 {
        sim.answer(|job, policy| {
            order.push(policy.to_owned());
            refuse_web(job, policy)
        });
    }
    assert_eq!(order, [DENY_EGRESS, WEB, ALLOW]);
    assert_eq!((types(&sim, ALLOW).as_str(), policies(&sim)), ("Ingress", vec![ALLOW, DENY_INGRESS, CARVEOUT]));
}

#[test]
fn while_a_finalizer_keeps_a_default_deny_what_lets_something_through_stays() {
    let mut sim = settled();
    let open = json!({"policies": ["MonitoringCarveout"], "allows": spec()["allows"]});
    sim.baseline(2, open);
    let mut job = sim.jobs().remove(0);
    job.put_in_order();
    let mut results = Vec::new();
    while results.len() < job.tasks.len() {
        for may_send in job.next_writes(&results) {
            let drift = job.tasks[results.len()].drift.clone();
            results.push(Ok(match &*drift.policy {
                _ if !may_send => Wrote::Withheld,
                DENY_EGRESS => Wrote::Terminating,
                policy => sim.policies_write(&job, policy, &drift.fix),
            }));
        }
    }
    let now = sim.now();
    sim.engine.done(Done { job, results }, now);
    assert_eq!(policies(&sim), [ALLOW, DENY_EGRESS, CARVEOUT]);
    assert_eq!(sim.jobs().len(), 0, "the watch has yet to show it");
    sim.tamper("a", DENY_EGRESS, |policy| {
        policy.metadata.deletion_timestamp = Some(Time(jiff::Timestamp::UNIX_EPOCH));
        policy.metadata.finalizers = Some(vec!["example.com/held".into()]);
    });
    sim.pass(Duration::from_mins(2));
    sim.settle();
    // The other direction is open, so nothing may isolate a pod there.
    assert_eq!((policies(&sim), types(&sim, ALLOW).as_str()), (vec![ALLOW, DENY_EGRESS], "Egress"));
    sim.delete("a", DENY_EGRESS);
    sim.settle();
    assert_eq!(policies(&sim), [""; 0]);
}

#[test]
fn a_default_deny_that_somebody_deletes_is_back_at_once_whatever_hinders_an_allow() {
    let mut sim = settled();
    sim.delete("a", ALLOW);
    let refuse = |_: &Job, policy: &str| (policy == ALLOW).then_some(Failure::QuotaExceeded);
    sim.answer(refuse);
    sim.delete("a", DENY_INGRESS);
    sim.answer(refuse);
    assert_eq!(policies(&sim), [DENY_EGRESS, DENY_INGRESS, CARVEOUT]);
    sim.delete("a", DENY_EGRESS);
    sim.delete("a", DENY_INGRESS);
    sim.pass(Duration::from_mins(1));
    assert_eq!(phases(sim.jobs().remove(0), &[ALLOW]), [vec![ALLOW], vec![DENY_INGRESS, DENY_EGRESS]]);
}

#[test]
fn i5_nothing_follows_an_allow_that_found_its_namespace_being_deleted() {
    let mut sim = settled();
    for policy in [ALLOW, DENY_INGRESS] {
        sim.delete("a", policy);
    }
    let mut job = sim.jobs().remove(0);
    job.put_in_order();
    let failed = || WriteError::Failed { reason: Failure::Unavailable, message: String::new() };
    assert_eq!(job.next_writes(&[Err(failed())]), [true], "it was closed already");
    assert_eq!(job.next_writes(&[Err(WriteError::NamespaceTerminating)]), [false]);
}

#[test]
fn a_namespace_that_comes_back_is_not_closed_by_what_the_former_one_held() {
    let mut sim = settled();
    let metadata = |uid: &str| json!({"name": "a", "uid": uid, "creationTimestamp": "1970-01-01T00:20:00Z"});
    // The watch of namespaces is ahead of that of policies.
    sim.see(Event::Namespace(Change::Deleted(named(metadata("uid-a")))));
    sim.see(Event::Namespace(Change::Applied(named(metadata("uid-of-another")))));
    for policy in [ALLOW, DENY_EGRESS, DENY_INGRESS, CARVEOUT] {
        sim.delete("a", policy);
    }
    assert_eq!(phases(sim.jobs().remove(0), &[ALLOW]), [vec![ALLOW], vec![]]);
}

#[test]
fn a_namespace_that_comes_back_is_closed_after_its_allows_although_those_of_the_former_one_still_seem_to_be_there() {
    // The watch of policies is late: it showed no deletion, or only those of the default-denies.
    for shown in [&[][..], &[DENY_EGRESS, DENY_INGRESS]] {
        let mut sim = settled();
        sim.version += 1;
        let metadata = json!({"name": "a", "uid": "uid-of-another", "resourceVersion": sim.version.to_string(),
            "creationTimestamp": "1970-01-01T00:20:00Z"});
        sim.see(Event::Namespace(Change::Applied(named(metadata))));
        for policy in shown {
            sim.delete("a", policy);
        }
        let job = sim.jobs().remove(0);
        assert_eq!(phases(job, &[]), [vec![ALLOW], vec![DENY_INGRESS, DENY_EGRESS, CARVEOUT]], "{shown:?}");
    }
}

#[test]
fn when_allows_change_the_new_ones_are_written_before_the_old_ones_are_removed() {
    let mut sim = settled();
    let mut renamed = spec();
    renamed["allows"][0]["name"] = "other".into();
    sim.baseline(2, renamed);
    let written: Vec<Vec<Vec<String>>> = sim.jobs().into_iter().map(|job| phases(job, &[])).collect();
    assert_eq!(written, [vec![vec!["baseline-allow-other"]]], "removals are decided after that");
}

#[test]
fn i3_an_allow_that_is_planned_again_while_its_default_deny_is_removed_stays() {
    let mut sim = settled();
    let mut without = spec();
    without["policies"] = json!(["MonitoringCarveout"]);
    sim.baseline(2, without);
    let job = sim.jobs().remove(0);
    assert_eq!(phases(job.clone(), &[]), [vec![DENY_EGRESS, DENY_INGRESS]]);
    sim.answer_late(job, |sim| sim.baseline(3, spec()));
    assert_eq!(policies(&sim), [ALLOW, CARVEOUT]);
    let written: Vec<Vec<Vec<String>>> = sim.jobs().into_iter().map(|job| phases(job, &[])).collect();
    assert_eq!(written, [vec![vec![DENY_INGRESS, DENY_EGRESS]]]);
}

#[test]
fn what_let_something_through_is_removed_after_the_default_deny_that_it_stood_beside() {
    let mut sim = settled();
    let mut without = spec();
    without["policies"] = json!(["MonitoringCarveout"]);
    sim.baseline(2, without);
    let mut order = Vec::new();
    for fails in [true, false, false] {
        let mut written = Vec::new();
        sim.answer(|_, policy| {
            written.push(policy.to_owned());
            (fails && policy == DENY_EGRESS).then_some(Failure::Unavailable)
        });
        sim.pass(Duration::from_secs(3));
        order.push(written);
    }
    assert_eq!(order, [vec![DENY_EGRESS, DENY_INGRESS], vec![DENY_EGRESS], vec![ALLOW, CARVEOUT]]);
    let mut sim = settled();
    sim.baseline(2, json!({"policies": ["MonitoringCarveout"], "allows": spec()["allows"]}));
    sim.settle();
    assert_eq!(policies(&sim), [""; 0]);
}

#[test]
fn an_allow_that_loses_a_direction_keeps_it_until_the_default_deny_is_gone() {
    let mut sim = settled();
    let mut without = spec();
    without["policies"] = json!(["DefaultDenyEgress"]);
    sim.baseline(2, without);
    let types = |sim: &EngineHarness| types(sim, ALLOW);
    let mut order = Vec::new();
    while sim.answer(|_, policy| {
        order.push(policy.to_owned());
        None
    }) > 0
    {}
    assert_eq!(order, [DENY_INGRESS, ALLOW, CARVEOUT]);
    assert_eq!((types(&sim).as_str(), policies(&sim)), ("Egress", vec![ALLOW, DENY_EGRESS]));
    // It comes back in the other order.
    sim.baseline(3, spec());
    order.clear();
    while sim.answer(|_, policy| {
        order.push(policy.to_owned());
        None
    }) > 0
    {}
    assert_eq!((order[0].as_str(), types(&sim).as_str()), (ALLOW, "Ingress Egress"));
}

#[test]
fn what_somebody_opens_in_an_allow_is_closed_at_once_also_while_a_default_deny_goes() {
    let mut sim = settled();
    let mut without = spec();
    without["policies"] = json!(["DefaultDenyEgress"]);
    sim.baseline(2, without);
    sim.tamper("a", ALLOW, |policy| policy.spec.as_mut().unwrap().egress = Some(vec![Default::default()]));
    // In the same job, also if the default-deny cannot be removed.
    let written = phases(sim.jobs().remove(0), &[DENY_INGRESS]);
    assert_eq!(written[..2], [vec![DENY_INGRESS], vec![ALLOW]]);
}

#[test]
fn an_allow_is_repaired_counted_and_explained_like_the_others() {
    let mut sim = settled();
    sim.engine.take_samples();
    sim.tamper("a", ALLOW, |policy| policy.spec.as_mut().unwrap().egress = Some(vec![Default::default()]));
    sim.settle();
    let samples = sim.engine.take_samples();
    let kinds: Vec<_> =
        samples.iter().filter_map(|sample| if let MetricSample::Drift(_, kind, _) = sample { *kind } else { None }).collect();
    assert_eq!(kinds, [crate::api::PurposeKind::Allow]);
    let text = sim.engine.explain("a", sim.now()).unwrap().to_string();
    let line = text.lines().find(|line| line.starts_with(ALLOW)).unwrap();
    assert!(line.contains("allow same") && line.contains("as planned"), "{line}");
    assert_eq!(sim.status_after(5).recent_drift[0].policy, ALLOW);
}

#[test]
fn explain_says_why_an_allow_is_not_written_or_only_for_one_direction() {
    let mut sim = EngineHarness::new();
    let mut one = spec();
    one["policies"] = json!(["DefaultDenyEgress"]);
    let web = json!({"name": "web", "ingress": [{"from": [{"sameNamespace": {}}]}]});
    one["allows"].as_array_mut().unwrap().push(web);
    sim.baseline(1, one);
    sim.namespace("a");
    sim.settle();
    let text = sim.engine.explain("a", sim.now()).unwrap().to_string();
    let why = "DefaultDenyIngress is not planned here (spec.policies does not name it), and without it this policy would close the pods that it selects";
    assert!(text.contains(&format!("as planned; only one direction of it: {why}")), "{text}");
    assert!(text.lines().any(|line| line.contains("allow web") && line.contains(&format!("not planned: {why}"))), "{text}");
    assert_eq!(policies(&sim), [ALLOW, DENY_EGRESS]);
}

#[test]
fn an_allow_that_opens_to_everybody_is_a_condition_and_explain_says_it() {
    let mut sim = EngineHarness::new();
    let open = json!({"allows": [{"name": "web", "acknowledgeOpen": true, "ingress": [{"from": [{"ipBlock": {"cidr": "0.0.0.0/0"}}], "ports": [{"port": 443}]}]}]});
    sim.baseline(1, open);
    sim.namespace("a");
    let status = sim.status_after(5);
    let condition = status.conditions.iter().find(|c| c.type_ == "OpensToEverybody").unwrap();
    assert_eq!((&*condition.status, &*condition.reason), ("True", "Acknowledged"));
    let what = "lets every IPv4 address reach every pod on some ports";
    assert_eq!(condition.message, format!("these allows open to everybody, with acknowledgeOpen: true: web {what}"));
    assert_eq!(ready(&status), "Protected", "its owner has decided that");
    assert!(
        sim.engine.explain("a", sim.now()).unwrap().to_string().contains(&format!("as planned; opens to everybody: it {what}"))
    );
    sim.baseline(2, spec());
    assert!(sim.status_after(5).conditions.iter().all(|c| c.type_ != "OpensToEverybody"));
}

#[test]
fn in_mode_audit_an_allow_that_opens_to_everybody_is_a_condition_before_anything_is_written() {
    let mut sim = EngineHarness::new();
    let open = json!({"name": "web", "acknowledgeOpen": true, "ingress": [{"from": [{"ipBlock": {"cidr": "0.0.0.0/0"}}]}]});
    sim.baseline(1, json!({"mode": "Audit", "allows": [open]}));
    sim.namespace("a");
    let status = sim.status_after(5);
    assert_eq!((ready(&status), policies(&sim)), ("Audited", vec![]));
    let condition = status.conditions.iter().find(|c| c.type_ == "OpensToEverybody").unwrap();
    let what = "web lets every IPv4 address reach every pod on all ports";
    assert_eq!(condition.message, format!("these allows open to everybody, with acknowledgeOpen: true: {what}"));
    assert!(status.notices[0].message.contains("create baseline-allow-web"), "{:?}", status.notices);
    let text = sim.engine.explain("a", sim.now()).unwrap().to_string();
    assert!(
        text.contains("; baseline-allow-web opens to everybody: it lets every IPv4 address reach every pod on all ports"),
        "{text}"
    );
    sim.baseline(2, json!({"mode": "Audit", "allows": spec()["allows"]}));
    assert!(sim.status_after(5).conditions.iter().all(|c| c.type_ != "OpensToEverybody"));
}

proptest! {
    #[test]
    fn whichever_writes_fail_nothing_is_closed_before_its_allows_and_nothing_is_removed_before_all_is_written(fails in prop::collection::vec(any::<bool>(), 8), edit in any::<bool>()) {
        let mut sim = if edit { settled() } else { before() };
        if edit {
            sim.baseline(2, json!({"metadata": {"namePrefix": "other-"}, "allows": spec()["allows"]}));
        }
        let mut job = sim.jobs().remove(0);
        job.put_in_order();
        let (mut results, mut sent): (Vec<_>, Vec<(String, bool)>) = (Vec::new(), Vec::new());
        while results.len() < job.tasks.len() {
            let phase = job.next_writes(&results);
            prop_assert!(!phase.is_empty());
            for may_send in phase {
                let at = results.len();
                let drift = &job.tasks[at].drift;
                if may_send {
                    let failed: Vec<&str> = sent.iter().filter(|(_, fails)| *fails).map(|(policy, _)| &**policy).collect();
                    // After the edit, the namespace is closed already, by the policies of the former names.
                    let isolates = !edit && !drift.is_removal() && !drift.policy.contains("-allow-");
                    prop_assert!(!isolates || failed.iter().all(|policy| !policy.contains("-allow-")), "{}", drift.policy);
                    prop_assert!(!drift.is_removal() || failed.is_empty());
                }
                let fails = may_send && fails[at % fails.len()];
                if may_send {
                    sent.push((drift.policy.clone(), fails));
                }
                let failed = || WriteError::Failed { reason: Failure::Unavailable, message: String::new() };
                results.push(if fails { Err(failed()) } else { Ok(Wrote::Withheld) });
            }
        }
        prop_assert!(sent[0].0.contains("-allow-"), "{:?}", sent);
    }
}
