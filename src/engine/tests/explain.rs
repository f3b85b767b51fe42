//! What an explanation reports about resources that could not be read.

use std::time::Duration;

use serde_json::{Value, json};
use strum::VariantArray;

use super::{
    dns::list_but,
    harness::{EngineHarness, OWN},
};
use crate::{
    api::backends::ConfigurationKind,
    engine::{
        Engine,
        facts::event::{Change, Event, ListRefusal},
    },
};

/// A namespace and a baseline, as a user sees them who may not list the resources in `forbidden`.
fn seen(spec: Value, forbidden: &[ConfigurationKind], revisions: Event) -> EngineHarness {
    let mut sim = EngineHarness::blank();
    for kind in ConfigurationKind::VARIANTS.iter().copied().filter(|kind| !forbidden.contains(kind)) {
        sim.see(Event::Configuration(kind, Change::ListBegan));
        sim.see(Event::Configuration(kind, Change::ListDone));
    }
    sim.see(revisions);
    sim.listing(|sim| {
        sim.baseline(1, spec);
        sim.namespace("a");
    });
    for _ in 0..2 {
        for kind in forbidden {
            sim.see(Event::Configuration(*kind, Change::Refused(ListRefusal::Forbidden, String::new())));
        }
        sim.pass(Duration::from_secs(6));
    }
    sim
}

#[test]
fn what_could_not_be_read_is_said_in_a_line_with_what_it_means_where_it_matters() {
    let all = || Event::Revision(Change::ListDone);
    let webhooks = &[ConfigurationKind::Validating, ConfigurationKind::Mutating][..];
    let named = "validatingwebhookconfigurations, mutatingwebhookconfigurations";
    for (what, spec, forbidden, revisions, says) in [
        ("all is read", json!({"rollout": {}}), &[][..], all(), None),
        ("no rollout", json!({}), &[], Event::Revision(Change::Refused(ListRefusal::Forbidden, String::new())), None),
        (
            "a rollout",
            json!({"rollout": {}}),
            &[],
            Event::Revision(Change::Refused(ListRefusal::Forbidden, String::new())),
            Some("controllerrevisions"),
        ),
        ("webhooks", json!({}), webhooks, all(), Some(named)),
        ("webhooks that do not matter", json!({"controlPlaneBackends": "Enforce"}), webhooks, all(), None),
    ] {
        let sim = seen(spec, forbidden, revisions);
        assert!(sim.engine.is_synced(), "{what}");
        let explanation = sim.engine.explain("a", sim.now()).unwrap();
        let (text, json) = (explanation.to_string(), serde_json::to_value(&explanation).unwrap());
        let lines: Vec<&str> = text.lines().filter(|line| line.starts_with("not read: ")).collect();
        let Some(says) = says else {
            assert_eq!((lines, &json["unread"]), (vec![], &json!([])), "{what}");
            assert!(!text.contains("clusterrolebinding"), "{what}: nobody lacks a permission: {text}");
            continue;
        };
        assert!(lines.len() == 1 && lines[0].starts_with(&format!("not read: {says}: ")), "{what}: {text}");
        let granted = "You may lack the permission to read that. A cluster administrator can grant that: kubectl create clusterrolebinding NAME --clusterrole=view --user=YOU";
        assert!(text.lines().any(|line| line == granted), "{what}: {text}");
        assert_eq!(json["unread"][0]["resources"], json!(says.split(", ").collect::<Vec<_>>()), "{what}");
        assert!(!json["unread"][0]["means"].as_str().unwrap().is_empty(), "{what}");
    }
}

#[test]
fn sources_of_dns_that_could_not_be_read_are_named_where_dns_is_looked_for() {
    for (discovery, says) in [("Auto", true), ("Static", false)] {
        let mut sim = EngineHarness::blank();
        sim.engine = Engine::new(OWN).discovering();
        sim.list_configurations();
        list_but(&mut sim, &[crate::policy::dns::Source::NodeLocal]);
        sim.listing(|sim| {
            sim.baseline(1, json!({"dns": {"discovery": discovery}}));
            sim.namespace("a");
        });
        sim.pass(Duration::from_secs(11));
        assert_eq!(sim.jobs().len(), 0);
        let text = sim.engine.explain("a", sim.now()).unwrap().to_string();
        assert_eq!(text.contains("not read: daemonset kube-system/node-local-dns: "), says, "{text}");
    }
}
