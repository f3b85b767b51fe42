//! Opt-outs whose list is refused or late: when work may begin without them.

use std::time::Duration;

use k8s_openapi::api::networking::v1::NetworkPolicy;
use serde_json::json;
use strum::VariantArray;

use super::{EGRESS, Shown};
use crate::{
    api::{
        backends::{Configuration, ConfigurationKind},
        names::OPT_OUTS_CRD,
    },
    engine::{
        facts::event::{Change, Event, ListPhase, ListRefusal},
        tests::harness::EngineHarness,
    },
};

#[test]
fn nothing_is_decided_before_opt_outs_are_listed_unless_there_can_be_none() {
    // Why opt-outs are not listed, whether their CRD is known to exist, and whether work begins.
    for (why, crd, begins) in [
        (None, None, false),
        (Some(ListRefusal::Unknown), None, true),
        (Some(ListRefusal::Unknown), Some(false), true),
        (Some(ListRefusal::Unknown), Some(true), false),
        (Some(ListRefusal::Forbidden), None, false),
        (Some(ListRefusal::Forbidden), Some(false), true),
        (Some(ListRefusal::Forbidden), Some(true), false),
    ] {
        let mut sim = listed_but_crds_and_opt_outs([]);
        if let Some(there) = crd {
            let crds = if there { &[OPT_OUTS_CRD][..] } else { &[] };
            list_crds(&mut sim, crds);
        }
        if let Some(why) = why {
            sim.see(Event::OptOut(Change::Refused(why, String::new())));
        }
        if crd.is_none() {
            let refused = || Event::Configuration(ConfigurationKind::Crd, Change::Refused(ListRefusal::Forbidden, String::new()));
            sim.see(refused());
            sim.pass(Duration::from_secs(6));
            sim.see(refused());
        }
        assert_eq!(sim.jobs().len(), usize::from(begins), "{why:?}, {crd:?}");
        // After a refusal, work begins when the list of CRDs shows that the CRD does not exist.
        list_crds(&mut sim, &[]);
        let begins_now = why.is_some() && !begins;
        assert_eq!(sim.jobs().len(), usize::from(begins_now), "{why:?}, {crd:?}");
    }
}

/// Everything is listed except CRDs and opt-outs. The namespace holds these policies.
fn listed_but_crds_and_opt_outs(policies: impl IntoIterator<Item = NetworkPolicy>) -> EngineHarness {
    let mut sim = EngineHarness::blank();
    for kind in ConfigurationKind::VARIANTS.iter().copied().filter(|kind| *kind != ConfigurationKind::Crd) {
        sim.see(Event::Configuration(kind, Change::ListBegan));
        sim.see(Event::Configuration(kind, Change::ListDone));
    }
    let lists = [
        |phase: ListPhase| Event::Namespace(phase.change()),
        |phase: ListPhase| Event::Policy(phase.change()),
        |phase: ListPhase| Event::Baseline(phase.change()),
        |phase: ListPhase| Event::Install(phase.change()),
    ];
    for list in lists {
        sim.see(list(ListPhase::Begin));
    }
    sim.baseline(1, json!({}));
    sim.namespace("a");
    for policy in policies {
        sim.see(Event::Policy(Change::Applied(Box::new(policy))));
    }
    for list in lists {
        sim.see(list(ListPhase::End));
    }
    sim
}

/// The same. The namespace holds all planned policies except egress.
fn begun_without_egress() -> EngineHarness {
    let mut before = EngineHarness::protected();
    before.policies.retain(|(_, name), _| name != EGRESS);
    listed_but_crds_and_opt_outs(before.policies.into_values())
}

fn list_opt_outs(sim: &mut EngineHarness, shown: &Shown) {
    sim.see(Event::OptOut(Change::ListBegan));
    shown.seen(sim);
    sim.see(Event::OptOut(Change::ListDone));
}

#[test]
fn an_apiserver_that_does_not_know_opt_outs_yet_is_believed_when_its_crds_say_so() {
    let unknown = || Event::OptOut(Change::Refused(ListRefusal::Unknown, String::new()));
    // The CRD exists, but the API server does not serve opt-outs yet.
    let mut sim = begun_without_egress();
    let shown = Shown::new(&sim, 600);
    sim.see(unknown());
    assert_eq!(sim.jobs().len(), 0, "nothing is known of CRDs");
    list_crds(&mut sim, &[OPT_OUTS_CRD]);
    sim.see(unknown());
    sim.pass(Duration::from_mins(1));
    sim.see(unknown());
    assert_eq!(sim.jobs().len(), 0);
    list_opt_outs(&mut sim, &shown);
    assert_eq!(sim.jobs().len(), 0, "it is in force: nothing is missing");

    // CRDs cannot be listed either. Then the refusal counts when it lasts, also after opt-outs were seen.
    for refusal in [ListRefusal::Forbidden, ListRefusal::Unknown] {
        let mut sim = begun_without_egress();
        let refused = || Event::Configuration(ConfigurationKind::Crd, Change::Refused(refusal, String::new()));
        for (pass, jobs) in [(0, 0), (4, 0), (2, 1)] {
            sim.pass(Duration::from_secs(pass));
            sim.see(unknown());
            sim.see(refused());
            assert_eq!(sim.jobs().len(), jobs, "{refusal:?} {pass}");
        }
    }
    let mut sim = begun_without_egress();
    list_opt_outs(&mut sim, &shown);
    for _ in 0..2 {
        sim.see(Event::Configuration(ConfigurationKind::Crd, Change::Refused(ListRefusal::Forbidden, String::new())));
        sim.pass(Duration::from_secs(6));
    }
    sim.settle();
    for (pass, jobs) in [(0, 0), (4, 0), (2, 1)] {
        sim.pass(Duration::from_secs(pass));
        sim.see(Event::OptOut(Change::ListBegan));
        sim.see(unknown());
        assert_eq!(sim.jobs().len(), jobs, "{pass}");
    }
    // CRDs get no answer either: work begins without them, and without opt-outs.
    let mut sim = begun_without_egress();
    sim.see(unknown());
    assert_eq!(sim.jobs().len(), 0);
    sim.pass(Duration::from_secs(31));
    sim.see(unknown());
    assert_eq!(sim.jobs().len(), 1);
}

fn list_crds(sim: &mut EngineHarness, names: &[&str]) {
    let kind = ConfigurationKind::Crd;
    sim.see(Event::Configuration(kind, Change::ListBegan));
    for name in names {
        sim.see(Event::Configuration(
            kind,
            Change::Applied(Configuration { kind, name: (*name).into(), services: vec![], missing_fields: vec![] }),
        ));
    }
    sim.see(Event::Configuration(kind, Change::ListDone));
}
