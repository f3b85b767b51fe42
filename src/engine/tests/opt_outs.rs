//! Opt-outs, event by event.
//!
//! One file: the life of an opt-out, from its first verdict to its end.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use strum::VariantArray;

use super::harness::{EngineHarness, named};
use crate::{
    api::{
        BaselineOptOutStatus, Role,
        opt_out::ExpiryNotice,
        reason::{EventReason, Failure},
    },
    engine::{
        facts::{
            event::{Change, Event},
            opt_out::RawOptOut,
        },
        outbox::opt_out_state::{OptOutWrite, StoredOptOut},
        writes::{Announcement, Cause, WriteError},
    },
    policy::drift::Repair,
};

mod listed;
mod refused;

const EGRESS: &str = "baseline-default-deny-egress";
const DAY: i64 = 86_400;

/// An opt-out of namespace `a`, as the watch shows it.
struct Shown {
    name: &'static str,
    roles: Vec<&'static str>,
    created: Timestamp,
    expires: Timestamp,
    generation: i64,
    version: u64,
    status: Value,
    label: Option<&'static str>,
    deleting: bool,
}

impl Shown {
    /// Created now; it ends after so many seconds.
    fn new(sim: &EngineHarness, seconds: i64) -> Self {
        let created = sim.now().wall;
        let expires = created + SignedDuration::from_secs(seconds);
        Self {
            name: "o",
            roles: vec!["DefaultDenyEgress"],
            created,
            expires,
            generation: 1,
            version: 10,
            status: Value::Null,
            label: None,
            deleting: false,
        }
    }

    fn raw(&self, ns: &str) -> Box<RawOptOut> {
        let labels = self.label.map(|value| json!({"policybaseline.io/opt-out": value}));
        let object = json!({
            "metadata": {"name": self.name, "namespace": ns, "uid": format!("uid-{}", self.name), "generation": self.generation,
                "resourceVersion": self.version.to_string(), "creationTimestamp": self.created, "labels": labels,
                "deletionTimestamp": self.deleting.then_some(self.created)},
            "spec": {"policies": self.roles, "reason": "a reason of twenty characters", "expiresAt": self.expires},
            "status": self.status,
        });
        Box::new(serde_json::from_value(object).unwrap())
    }

    fn seen(&self, sim: &mut EngineHarness) {
        sim.see(Event::OptOut(Change::Applied(self.raw("a"))));
    }

    /// Takes over what the write stored.
    fn stored(&mut self, write: &OptOutWrite) {
        self.version += 1;
        if let Some(status) = &write.status {
            self.status = serde_json::to_value(status).unwrap();
        }
        if let Some(label) = write.label {
            self.label = label;
        }
    }
}

/// Carries out the write that is due, and shows the result to the engine.
fn write(sim: &mut EngineHarness, shown: &mut Shown) -> Option<OptOutWrite> {
    let now = sim.now();
    let writes = sim.engine.opt_out_writes(now);
    assert!(writes.len() <= 1, "{writes:?}");
    let write = writes.into_iter().next()?;
    shown.stored(&write);
    let label = shown.label.map(Into::into);
    let stored = StoredOptOut { status: write.status.clone(), label, version: shown.version };
    sim.engine.opt_out_written(write.clone(), Ok(stored), now);
    shown.seen(sim);
    sim.settle();
    Some(write)
}

fn says(write: &OptOutWrite) -> String {
    let status: &BaselineOptOutStatus = write.status.as_ref().unwrap();
    format!("{} {}", status.conditions[0].status, status.conditions[0].reason)
}

fn holds_egress(sim: &EngineHarness, ns: &str) -> bool {
    sim.policies.contains_key(&(ns.to_owned(), EGRESS.to_owned()))
}

fn told(sim: &mut EngineHarness) -> Vec<EventReason> {
    let about = |a: &Announcement| a.reason.regards().1 == "BaselineOptOut";
    sim.engine.take_announcements().into_iter().filter(about).map(|a| a.reason).collect()
}

#[test]
fn an_opt_out_in_force_takes_its_policy_away_and_its_end_brings_it_back_at_that_very_moment() {
    let mut sim = EngineHarness::protected();
    let mut shown = Shown::new(&sim, 90);
    shown.seen(&mut sim);
    let jobs = sim.jobs();
    let [job] = &jobs[..] else { panic!("{jobs:?}") };
    let [task] = &job.tasks[..] else { panic!("{job:?}") };
    assert!(task.drift.policy == EGRESS && matches!(task.drift.fix, Repair::Delete { .. }), "{task:?}");
    let mut sim = EngineHarness::protected();
    shown.seen(&mut sim);
    sim.settle();
    assert!(!holds_egress(&sim, "a"));
    assert_eq!(says(&write(&mut sim, &mut shown).unwrap()), "True WithinLimits");
    assert_eq!((shown.label, sim.engine.counts().opted_out, sim.engine.counts().protected), (Some("in-force"), 1, 1));
    assert!(write(&mut sim, &mut shown).is_none(), "nothing is written at rest");
    let now = sim.now();
    let wake = sim.engine.next_wake(now).unwrap();
    sim.status();
    sim.pass(Duration::from_secs(1));
    sim.status();
    sim.pass(Duration::from_secs(88));
    sim.settle();
    assert!(!holds_egress(&sim, "a"), "a second before");
    let now = sim.now();
    assert_eq!(sim.engine.next_wake(now), Some(now.instant + Duration::from_secs(1)));
    assert!(wake <= now.instant + Duration::from_secs(1));
    sim.pass(Duration::from_secs(1));
    let jobs = sim.jobs();
    assert!(jobs.iter().flat_map(|job| &job.tasks).all(|task| task.cause == Cause::Plan), "{jobs:?}");
    assert_eq!(jobs.len(), 1);
}

#[test]
fn two_opt_outs_add_up_and_one_that_goes_brings_its_role_back_at_once() {
    let mut sim = EngineHarness::protected();
    let egress = Shown::new(&sim, 600);
    let rest = Shown { name: "rest", roles: vec!["DefaultDenyIngress", "MonitoringCarveout"], ..Shown::new(&sim, 600) };
    egress.seen(&mut sim);
    rest.seen(&mut sim);
    sim.settle();
    assert_eq!(sim.policies.len(), 0);
    let now = sim.now();
    assert!(sim.engine.opt_outs_in_force().iter().all(|(_, tally)| tally.in_force == 1 && tally.earliest > Some(now.wall)));
    sim.see(Event::OptOut(Change::Deleted(rest.raw("a"))));
    sim.settle();
    assert_eq!((sim.policies.len(), holds_egress(&sim, "a")), (2, false));
    // A list without the opt-out has the same effect.
    sim.see(Event::OptOut(Change::ListBegan));
    sim.see(Event::OptOut(Change::ListDone));
    sim.settle();
    assert_eq!(sim.policies.len(), 3);
    assert_eq!(sim.engine.opt_outs_in_force()[0].1.in_force, 0);
}

#[test]
fn one_that_is_being_deleted_counts_no_more_and_while_everything_is_frozen_it_stays_what_it_was() {
    let mut sim = EngineHarness::protected();
    let mut shown = Shown::new(&sim, 600);
    shown.seen(&mut sim);
    sim.settle();
    // The baseline is suspended before the status was written. The opt-out was in force all the same.
    sim.baseline(2, json!({"suspend": true}));
    sim.settle();
    assert_eq!(says(&write(&mut sim, &mut shown).unwrap()), "True WithinLimits");
    shown.deleting = true;
    shown.version += 1;
    shown.seen(&mut sim);
    sim.settle();
    sim.pass(Duration::from_secs(1));
    let written = write(&mut sim, &mut shown).unwrap();
    assert_eq!((&*says(&written), written.label), ("False Deleting", Some(None)));
    assert!(!holds_egress(&sim, "a"), "nothing is written while it is suspended");
    sim.baseline(3, json!({}));
    sim.settle();
    assert!(holds_egress(&sim, "a"));
    assert_eq!(told(&mut sim), [], "that is no end that anybody waited for");
}

#[test]
fn nobody_is_told_that_policies_count_again_while_everything_is_frozen() {
    let notes = |sim: &mut EngineHarness| -> Vec<(EventReason, String)> {
        let about = |a: &Announcement| a.reason.regards().1 == "BaselineOptOut";
        sim.engine.take_announcements().into_iter().filter(about).map(|a| (a.reason, a.note)).collect()
    };
    for frozen in [json!({"suspend": true}), json!({"policies": []})] {
        let mut sim = EngineHarness::protected();
        let mut shown = Shown::new(&sim, 2 * DAY);
        shown.seen(&mut sim);
        sim.settle();
        write(&mut sim, &mut shown);
        sim.baseline(2, frozen.clone());
        sim.settle();
        sim.pass(Duration::from_secs(2));
        write(&mut sim, &mut shown);
        for (hours, reason) in [(24, EventReason::OptOutExpiresSoon), (24, EventReason::OptOutExpired)] {
            sim.pass(Duration::from_hours(hours));
            sim.settle();
            write(&mut sim, &mut shown).unwrap();
            let told = notes(&mut sim);
            let [(as_told, note)] = &told[..] else { panic!("{told:?}") };
            assert!(*as_told == reason && note.contains("baseline b changes nothing here"), "{frozen}: {note}");
            assert!(!note.contains(": DefaultDenyEgress applies here again"), "{frozen}: {note}");
        }
        assert!(!holds_egress(&sim, "a"));
        // The baseline continues: the policy is back, and the end is not announced twice.
        sim.baseline(3, json!({}));
        sim.settle();
        assert!(holds_egress(&sim, "a"));
        sim.pass(Duration::from_secs(2));
        write(&mut sim, &mut shown);
        assert_eq!(notes(&mut sim), []);
    }
}

#[test]
fn a_clock_that_jumps_ends_an_opt_out_and_brings_it_back() {
    let mut sim = EngineHarness::protected();
    let mut shown = Shown::new(&sim, 10 * DAY);
    shown.seen(&mut sim);
    sim.settle();
    write(&mut sim, &mut shown);
    assert!(!holds_egress(&sim, "a"));
    let before = sim.elapsed;
    sim.pass(Duration::from_hours(24 * 365));
    sim.settle();
    assert!(holds_egress(&sim, "a"));
    assert_eq!(says(&write(&mut sim, &mut shown).unwrap()), "False Expired");
    assert_eq!(told(&mut sim), [EventReason::OptOutExpired]);
    // The clock goes back: the opt-out is in force again, and its end is not announced twice.
    sim.elapsed = before + Duration::from_secs(5);
    sim.start += Duration::from_hours(24 * 366);
    sim.settle();
    assert!(!holds_egress(&sim, "a"));
    assert_eq!(says(&write(&mut sim, &mut shown).unwrap()), "True WithinLimits");
    sim.pass(Duration::from_hours(24 * 11));
    sim.settle();
    assert!(holds_egress(&sim, "a"));
    sim.pass(Duration::from_secs(2));
    write(&mut sim, &mut shown);
    assert_eq!(told(&mut sim), []);
}

#[test]
fn a_thousand_that_end_in_the_same_second_are_written_in_one_go_and_their_statuses_a_few_at_a_time() {
    const MANY: usize = 1000;
    let mut sim = EngineHarness::new();
    sim.baseline(1, json!({}));
    let names: Vec<String> = (0..MANY).map(|n| format!("n{n}")).collect();
    let shown = Shown::new(&sim, 60);
    for name in &names {
        sim.namespace(name);
        sim.see(Event::OptOut(Change::Applied(shown.raw(name))));
    }
    sim.settle();
    assert_eq!((sim.policies.len(), sim.engine.counts().opted_out), (2 * MANY, 1000));
    sim.pass(Duration::from_secs(59));
    assert_eq!(sim.jobs().len(), 0);
    sim.pass(Duration::from_secs(1));
    let jobs = sim.jobs();
    assert_eq!((jobs.len(), jobs.iter().map(|job| job.tasks.len()).max()), (MANY, Some(1)));
    // None of the policies is back yet, and the statuses say so when that lasts.
    let now = sim.now();
    assert!(sim.engine.opt_out_writes(now).is_empty());
    sim.pass(Duration::from_millis(200));
    let now = sim.now();
    let first = sim.engine.opt_out_writes(now);
    assert_eq!((first.len(), sim.engine.opt_out_writes(now).len()), (4, 0), "statuses hold up no policy");
    // No status said that they were in force, so only a few are written at a time. Each write that ends makes room for another.
    let mut written = 0;
    let mut waiting = first;
    while let Some(write) = waiting.pop() {
        written += 1;
        let label = write.label.flatten().map(Into::into);
        let stored = StoredOptOut { status: write.status.clone(), label, version: 100 };
        sim.engine.opt_out_written(write, Ok(stored), now);
        waiting.extend(sim.engine.opt_out_writes(now));
    }
    assert_eq!(written, MANY);
    assert!(sim.engine.opt_outs_in_force().iter().all(|(_, tally)| tally.in_force == 0));
}

#[test]
fn an_end_is_announced_a_day_and_an_hour_ahead_and_when_it_comes_each_once_and_only_when_that_is_stored() {
    let mut sim = EngineHarness::protected();
    let mut shown = Shown::new(&sim, 2 * DAY);
    shown.seen(&mut sim);
    sim.settle();
    write(&mut sim, &mut shown);
    assert_eq!(told(&mut sim), []);
    for (hours, reason) in
        [(24, EventReason::OptOutExpiresSoon), (23, EventReason::OptOutExpiresSoon), (1, EventReason::OptOutExpired)]
    {
        sim.pass(Duration::from_hours(hours));
        sim.settle();
        assert_eq!(told(&mut sim), [], "not before it is stored");
        write(&mut sim, &mut shown).unwrap();
        assert_eq!(told(&mut sim), [reason]);
        // Another instance takes over, as after a restart.
        sim.lead(false);
        sim.lead(true);
        sim.settle();
        sim.pass(Duration::from_secs(2));
        assert!(write(&mut sim, &mut shown).is_none());
        sim.elapsed -= Duration::from_secs(2);
    }
    let status: BaselineOptOutStatus = serde_json::from_value(shown.status.clone()).unwrap();
    assert_eq!(status.announced.unwrap().steps, ExpiryNotice::VARIANTS);
    assert_eq!((shown.label, told(&mut sim)), (None, vec![]));
}

#[test]
fn nobody_is_told_that_it_ends_in_a_day_when_less_was_left_from_the_start_or_since_an_edit() {
    let mut sim = EngineHarness::protected();
    let mut shown = Shown::new(&sim, 3 * DAY);
    shown.seen(&mut sim);
    sim.settle();
    write(&mut sim, &mut shown);
    // The end is moved to 30 minutes from now: neither the day nor the hour is announced, but the end is.
    shown.expires = sim.now().wall + SignedDuration::from_mins(30);
    (shown.generation, shown.version) = (2, shown.version + 1);
    shown.seen(&mut sim);
    sim.settle();
    sim.pass(Duration::from_secs(2));
    write(&mut sim, &mut shown).unwrap();
    assert_eq!(told(&mut sim), []);
    sim.pass(Duration::from_mins(30));
    sim.settle();
    write(&mut sim, &mut shown).unwrap();
    assert_eq!(told(&mut sim), [EventReason::OptOutExpired]);
    // An opt-out that has already expired, and one that was never in force, have no end to announce, only a mistake.
    for (name, expires, roles) in [("late", -5, vec!["DefaultDenyEgress"]), ("never", 40 * DAY, vec!["DefaultDenyEgress"])] {
        let mut shown = Shown { name, roles, ..Shown::new(&sim, expires) };
        shown.seen(&mut sim);
        sim.settle();
        assert!(says(&write(&mut sim, &mut shown).unwrap()).starts_with("False"), "{name}");
        assert_eq!(told(&mut sim), [EventReason::OptOutNotInForce], "{name}");
    }
}

#[test]
fn a_write_that_fails_is_tried_again_and_no_more_than_once_a_second() {
    let mut sim = EngineHarness::protected();
    let mut shown = Shown::new(&sim, 600);
    shown.seen(&mut sim);
    sim.settle();
    let now = sim.now();
    let first = sim.engine.opt_out_writes(now).remove(0);
    sim.engine.opt_out_written(first, Err(WriteError::NotLeading), now);
    sim.settle();
    assert_eq!(sim.engine.opt_out_writes(now).len(), 0);
    assert!(sim.engine.next_wake(now).is_some_and(|at| at <= now.instant + Duration::from_secs(1)));
    sim.pass(Duration::from_secs(1));
    assert_eq!(says(&write(&mut sim, &mut shown).unwrap()), "True WithinLimits");
    // A removed label or status is written again, at most once a second.
    for _ in 0..3 {
        (shown.label, shown.version) = (None, shown.version + 1);
        shown.seen(&mut sim);
        sim.settle();
        assert!(write(&mut sim, &mut shown).is_none());
        sim.pass(Duration::from_secs(1));
        let again = write(&mut sim, &mut shown).unwrap();
        assert_eq!((again.label, again.status), (Some(Some("in-force")), None));
    }
}

#[test]
fn what_is_not_stored_as_it_was_written_is_tried_ever_more_rarely_until_something_else_is_wanted() {
    type Prunes = fn(&mut StoredOptOut);
    let prunes: [(&str, Prunes); 4] = [
        ("no field announced", |stored| stored.status.iter_mut().for_each(|s| s.announced = None)),
        ("no times", |stored| {
            stored.status.iter_mut().for_each(|s| (s.first_in_force, s.conditions) = (None, vec![]));
        }),
        ("no status", |stored| stored.status = None),
        ("no label", |stored| stored.label = None),
    ];
    for (what, prune) in prunes {
        let mut sim = EngineHarness::protected();
        let mut shown = Shown::new(&sim, 1200);
        shown.seen(&mut sim);
        sim.settle();
        let try_to_write = |sim: &mut EngineHarness, shown: &mut Shown| {
            let now = sim.now();
            let writes = sim.engine.opt_out_writes(now);
            let count = writes.len();
            for write in writes {
                let label = write.label.unwrap_or(shown.label).map(Into::into);
                let mut stored = StoredOptOut { status: write.status.clone(), label, version: shown.version + 1 };
                prune(&mut stored);
                if write.status.is_some() {
                    shown.status = serde_json::to_value(&stored.status).unwrap();
                }
                shown.label = stored.label.as_ref().map(|_| "in-force");
                shown.version = stored.version;
                sim.engine.opt_out_written(write, Ok(stored), now);
                shown.seen(sim);
            }
            sim.settle();
            count
        };
        let mut times = vec![];
        for second in 0..1190 {
            if try_to_write(&mut sim, &mut shown) > 0 {
                times.push(second);
            }
            sim.pass(Duration::from_secs(1));
        }
        assert!((8..=14).contains(&times.len()) && times[1] >= 2, "{what}: {times:?}");
        let now = sim.now();
        assert!(sim.engine.next_wake(now).is_some(), "{what}");
        // The opt-out ends: the wanted status changes, so the write is tried at once.
        sim.pass(Duration::from_secs(10));
        sim.settle();
        assert_eq!(try_to_write(&mut sim, &mut shown), 1, "{what}");
    }
}

#[test]
fn a_standby_knows_opt_outs_and_writes_nothing() {
    let mut sim = EngineHarness::protected();
    sim.lead(false);
    let shown = Shown::new(&sim, 600);
    shown.seen(&mut sim);
    sim.settle();
    let now = sim.now();
    assert_eq!((sim.engine.opt_out_writes(now).len(), sim.jobs().len()), (0, 0));
    let in_force: Vec<Role> =
        sim.engine.opt_outs_in_force().into_iter().filter(|(_, t)| t.in_force == 1).map(|(role, _)| role).collect();
    assert_eq!(in_force, [Role::DefaultDenyEgress]);
}

#[test]
fn an_existing_namespace_that_did_without_everything_is_closed_at_the_end_also_after_a_restart() {
    let roles = vec!["DefaultDenyIngress", "DefaultDenyEgress", "MonitoringCarveout"];
    let young = json!({"creationTimestamp": "1970-01-12T00:00:00Z"});
    // An opt-out that was in force before the baseline was created does not count for this baseline.
    let past = json!("1970-01-11T23:59:59Z");
    for (first_in_force, held) in
        [(Value::Null, 0), (past, 0), (young["creationTimestamp"].clone(), 3), (json!("1970-01-12T13:00:00Z"), 3)]
    {
        let mut sim = EngineHarness::unsynced();
        let mut shown = Shown { roles: roles.clone(), ..Shown::new(&sim, 60) };
        shown.status = json!({"conditions": [], "firstInForce": first_in_force});
        sim.listing(|sim| {
            sim.baseline_with(1, json!({}), young.clone());
            shown.seen(sim);
            sim.namespace("a");
        });
        sim.settle();
        assert_eq!(sim.policies.len(), 0);
        let wanted = if held == 0 { "False ExistingNamespace" } else { "True WithinLimits" };
        assert_eq!(says(&write(&mut sim, &mut shown).unwrap()), wanted);
        sim.pass(Duration::from_mins(1));
        sim.settle();
        assert_eq!(sim.policies.len(), held, "one that was only reported stays open");
    }
}

#[test]
fn i1_an_existing_namespace_that_did_without_everything_is_closed_when_its_opt_out_goes_also_after_a_restart() {
    let mut sim = EngineHarness::unsynced();
    let roles = vec!["DefaultDenyIngress", "DefaultDenyEgress", "MonitoringCarveout"];
    let mut shown = Shown { roles, ..Shown::new(&sim, 60) };
    shown.status = json!({"conditions": [], "firstInForce": "1970-01-12T13:00:00Z"});
    sim.listing(|sim| {
        sim.baseline_with(1, json!({}), json!({"creationTimestamp": "1970-01-12T00:00:00Z"}));
        shown.seen(sim);
        sim.namespace("a");
    });
    sim.settle();
    assert_eq!(sim.policies.len(), 0);
    sim.see(Event::OptOut(Change::Deleted(shown.raw("a"))));
    sim.settle();
    assert_eq!(sim.policies.len(), 3);
}

/// The namespace controller can finish a namespace and leave its opt-outs behind.
#[test]
fn i4_an_opt_out_that_an_earlier_namespace_of_that_name_left_behind_opens_nothing() {
    let again = |created: Timestamp| {
        let meta = json!({"name": "a", "uid": "uid-again", "creationTimestamp": created, "labels": {"kubernetes.io/metadata.name": "a"}});
        Event::Namespace(Change::Applied(named(meta)))
    };
    // The opt-out comes first, or the namespace does, as at a start.
    for first in [true, false] {
        let mut sim = EngineHarness::protected();
        let mut shown = Shown { status: json!({"conditions": [], "firstInForce": sim.now().wall}), ..Shown::new(&sim, 600) };
        sim.pass(Duration::from_secs(1));
        let created = sim.now().wall;
        if first {
            shown.seen(&mut sim);
            sim.settle();
            assert!(!holds_egress(&sim, "a"), "its own namespace does without the policy");
        }
        sim.see(again(created));
        shown.seen(&mut sim);
        sim.settle();
        assert!(holds_egress(&sim, "a"), "{first}");
        assert_eq!(says(&write(&mut sim, &mut shown).unwrap()), "False OlderThanNamespace");
        assert_eq!((shown.label, sim.engine.counts().opted_out), (None, 0));
        let [ingress, egress, carveout] = sim.engine.opt_outs_in_force();
        assert_eq!([ingress.1, egress.1, carveout.1].map(|tally| tally.in_force), [0, 0, 0]);
        // When that end comes, nothing is said to have been missing because of it.
        sim.pass(Duration::from_mins(10));
        sim.settle();
        assert_eq!(told(&mut sim), []);
    }
}

#[test]
fn one_that_was_in_force_before_the_baseline_was_created_is_in_force_anew_under_it() {
    let mut sim = EngineHarness::new();
    let created = "1970-01-12T00:00:00Z";
    sim.baseline_with(1, json!({"existingNamespaces": "Enforce"}), json!({"creationTimestamp": created}));
    let since = |shown: &Shown| shown.status["firstInForce"].as_str().unwrap().to_owned();
    for (first, now) in [("1970-01-11T23:59:59Z", true), (created, false)] {
        let mut shown = Shown { status: json!({"conditions": [], "firstInForce": first}), ..Shown::new(&sim, 60) };
        sim.namespace("a");
        shown.seen(&mut sim);
        sim.settle();
        write(&mut sim, &mut shown).unwrap();
        assert_eq!(since(&shown), if now { "1970-01-12T13:46:40Z" } else { first });
        sim.see(Event::OptOut(Change::Deleted(shown.raw("a"))));
        sim.settle();
    }
}

#[test]
fn it_is_in_force_when_its_policy_is_gone_and_until_it_is_back() {
    let mut sim = EngineHarness::protected();
    let mut shown = Shown::new(&sim, 60);
    shown.seen(&mut sim);
    // The removal is refused, for example by another admission plugin.
    sim.answer(|_, _| Some(Failure::DeniedByAdmission));
    sim.pass(Duration::from_secs(1));
    assert_eq!(says(&write_one(&mut sim, &mut shown)), "False RemovingPolicies");
    assert_eq!(shown.label, None);
    sim.pass(Duration::from_secs(2));
    sim.settle();
    assert!(!holds_egress(&sim, "a"));
    assert_eq!(says(&write_one(&mut sim, &mut shown)), "True WithinLimits");

    sim.pass(Duration::from_mins(1));
    sim.answer(|_, _| Some(Failure::DeniedByAdmission));
    sim.pass(Duration::from_secs(1));
    assert_eq!(says(&write_one(&mut sim, &mut shown)), "True RestoringPolicies");
    assert_eq!(shown.label, Some("in-force"), "the namespace is open");
    sim.pass(Duration::from_secs(4));
    sim.settle();
    assert!(holds_egress(&sim, "a"));
    assert_eq!(says(&write_one(&mut sim, &mut shown)), "False Expired");
    assert_eq!(shown.label, None);
}

/// As [`write`], without carrying out policies.
fn write_one(sim: &mut EngineHarness, shown: &mut Shown) -> OptOutWrite {
    let now = sim.now();
    while sim.engine.assess_dirty(now) {}
    let write = sim.engine.opt_out_writes(now).remove(0);
    shown.stored(&write);
    let label = shown.label.map(Into::into);
    let stored = StoredOptOut { status: write.status.clone(), label, version: shown.version };
    sim.engine.opt_out_written(write.clone(), Ok(stored), now);
    shown.seen(sim);
    write
}
