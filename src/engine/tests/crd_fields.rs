//! A CRD that lacks fields which this version knows: nothing is decided, and everything is listed again afterwards.

use serde_json::json;

use super::harness::EngineHarness;
use crate::{
    api::backends::{Configuration, ConfigurationKind::Crd},
    engine::{
        facts::event::{Change, Event},
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
    let announced: Vec<Announcement> = sim.engine.take_announcements();
    assert_eq!(announced.iter().map(|a| (a.namespace.as_str(), &*a.policy)).collect::<Vec<_>>(), [("default", "b")]);
    sim.see(crd(&["spec.rollout"]));
    sim.jobs();
    assert!(sim.engine.take_announcements().is_empty(), "once");
    assert!(!sim.engine.must_list_again());
    sim.see(crd(&[]));
    assert!(sim.engine.must_list_again());
}
