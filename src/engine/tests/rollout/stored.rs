//! The stored revisions: what waits for them, and what is reported when they are missing.

use super::*;
use crate::engine::facts::event::ListRefusal;

#[test]
fn no_wave_begins_before_what_it_comes_from_is_stored_and_the_status_says_why() {
    let mut cluster = Cluster::settled(spec(1));
    cluster.edit(spec(2));
    let refuse = |_: &RevisionWrite| Some(WriteError::Failed { reason: Failure::Forbidden, message: "no".into() });
    assert_eq!(cluster.store(refuse), 1);
    assert_eq!((cluster.sim.jobs().len(), cluster.status().0), (0, "RolloutPaused".into()));
    cluster.pass(MINUTE);
    assert_eq!((cluster.ports(), cluster.status().0), ("2 1 1 1 1".into(), "RollingOut".into()));
    // Somebody deletes the stored revisions: they are stored again.
    let revisions: Vec<_> = std::mem::take(&mut cluster.revisions).into_values().collect();
    for revision in revisions {
        cluster.sim.see(Event::Revision(Change::Deleted(Box::new(revision))));
    }
    cluster.work();
    assert_eq!((cluster.ports(), cluster.revisions.len()), ("2 1 1 1 1".into(), 2));
    let mut cluster = cluster.restart();
    cluster.pass(MINUTE);
    assert_eq!(cluster.ports(), "2 2 1 1 1");
}

#[test]
fn a_stored_revision_that_somebody_changed_counts_as_none_and_is_told() {
    let mut cluster = Cluster::settled(spec(1));
    for revision in cluster.revisions.values_mut() {
        revision.data.as_mut().unwrap().0["dns"]["ports"] = json!([7]);
    }
    let mut cluster = cluster.restart();
    cluster.work();
    assert_eq!(cluster.ports(), "1 1 1 1 1");
    cluster.status();
    let status = cluster.sim.statuses.last().unwrap();
    let told = status.conditions.iter().find(|c| c.type_ == "RolloutPaused").unwrap();
    assert_eq!((&*told.status, &*told.reason), ("True", "RevisionUnreadable"));
    assert_eq!(ready(status), "Protected");
}

#[test]
fn a_stored_revision_without_its_labels_is_told_once_and_asked_for_ever_more_rarely_until_they_are_back() {
    let mut cluster = Cluster::settled(spec(1));
    let (object, revision) = cluster.revisions.pop_first().unwrap();
    cluster.sim.see(Event::Revision(Change::Deleted(Box::new(revision.clone()))));
    let exists = || WriteError::Failed { reason: Failure::Conflict, message: format!("\"{object}\" already exists") };
    let mut asked = 0;
    for _ in 0..1200 {
        asked += cluster.store(|_| Some(exists()));
        cluster.sim.pass(Duration::from_secs(1));
    }
    assert!((8..=14).contains(&asked), "{asked}");
    let paused = |cluster: &mut Cluster| {
        cluster.status();
        let conditions = &cluster.sim.statuses.last().unwrap().conditions;
        conditions.iter().find(|c| c.type_ == "RolloutPaused").map(|c| (c.reason.clone(), c.message.clone()))
    };
    let (reason, message) = paused(&mut cluster).unwrap();
    assert!(reason == "RevisionNotStored" && message.contains("policybaseline.io/baseline=b"), "{reason}: {message}");
    // Nothing is rolled out before the revision is found again.
    cluster.edit(spec(2));
    let refuses = |write: &RevisionWrite| (write.object == object).then(exists);
    for _ in 0..5 {
        cluster.store(refuses);
        assert_eq!(cluster.sim.jobs().len(), 0);
    }
    cluster.revisions.insert(object.clone(), revision.clone());
    cluster.sim.see(Event::Revision(Change::Applied(Box::new(revision))));
    cluster.work();
    assert_eq!((cluster.ports(), cluster.revisions.len()), ("2 1 1 1 1".into(), 2));
    assert_eq!(paused(&mut cluster).unwrap().0, "RollingOut");
}

#[test]
fn a_revision_that_need_not_be_stored_any_more_is_no_trouble() {
    let mut cluster = Cluster::settled(spec(1));
    let (object, revision) = cluster.revisions.pop_first().unwrap();
    cluster.sim.see(Event::Revision(Change::Deleted(Box::new(revision.clone()))));
    assert_eq!(cluster.store(|_| Some(WriteError::Failed { reason: Failure::Conflict, message: "exists".into() })), 1);
    assert_eq!(cluster.status().0, "Protected");
    let troubled =
        |cluster: &Cluster| cluster.sim.statuses.last().unwrap().conditions.iter().any(|c| c.reason == "RevisionNotStored");
    assert!(troubled(&cluster));
    cluster.revisions.insert(object, revision.clone());
    cluster.sim.see(Event::Revision(Change::Applied(Box::new(revision))));
    cluster.work();
    cluster.status();
    assert!(!troubled(&cluster));
}

#[test]
fn a_baseline_with_a_rollout_waits_for_the_stored_revisions_and_others_do_not() {
    for (asks, jobs) in [(true, 0), (false, 1)] {
        let mut sim = EngineHarness::unsynced();
        sim.listing(|sim| {
            sim.baseline(1, if asks { spec(1) } else { json!({}) });
            sim.namespace("a");
        });
        assert_eq!(sim.jobs().len(), jobs);
        sim.see(Event::Revision(Change::Refused(ListRefusal::Forbidden, String::new())));
        assert_eq!(sim.jobs().len(), 1 - jobs, "who may not read them works without");
        let now = sim.now();
        assert!(sim.engine.revisions(now).is_empty());
    }
}

#[test]
fn stored_revisions_that_do_not_come_are_gone_without_and_no_wave_begins_before_they_do() {
    let mut sim = EngineHarness::unsynced();
    sim.listing(|sim| {
        sim.baseline(1, spec(1));
        for name in NAMES {
            sim.namespace(name);
        }
    });
    assert_eq!(sim.jobs().len(), 0);
    sim.pass(Duration::from_secs(29));
    assert_eq!(sim.jobs().len(), 0);
    sim.pass(Duration::from_secs(1));
    let mut cluster = Cluster { sim, revisions: BTreeMap::new(), generation: 1, spec: spec(1) };
    cluster.work();
    assert_eq!((cluster.ports(), cluster.revisions.len()), ("1 1 1 1 1".into(), 0));
    let paused = |cluster: &mut Cluster| {
        cluster.status();
        let conditions = &cluster.sim.statuses.last().unwrap().conditions;
        conditions.iter().find(|c| c.type_ == "RolloutPaused").map(|c| c.reason.clone())
    };
    assert_eq!(paused(&mut cluster).as_deref(), Some("RevisionsLate"));
    // The existing policies are kept.
    cluster.edit(spec(2));
    cluster.pass(MINUTE * 9);
    assert_eq!((cluster.ports(), cluster.status().0), ("1 1 1 1 1".into(), "RolloutPaused".into()));
    for phase in [ListPhase::Begin, ListPhase::End] {
        cluster.sim.see(Event::Revision(phase.change()));
    }
    cluster.work();
    assert_eq!((cluster.ports(), cluster.revisions.len()), ("2 1 1 1 1".into(), 2));
    assert_eq!(paused(&mut cluster).as_deref(), Some("RollingOut"));
}

#[test]
fn a_refusal_that_is_repeated_is_no_news() {
    let mut sim = EngineHarness::unsynced();
    sim.see(Event::Revision(Change::Refused(ListRefusal::Forbidden, String::new())));
    sim.listing(|sim| {
        sim.baseline(1, spec(1));
        sim.namespace("a");
    });
    assert_eq!(sim.answer(|_, _| Some(Failure::DeniedByAdmission)), 1);
    assert_eq!(sim.jobs().len(), 0, "it waits");
    sim.see(Event::Revision(Change::Refused(ListRefusal::Forbidden, String::new())));
    assert_eq!(sim.jobs().len(), 0, "and goes on waiting");
}
