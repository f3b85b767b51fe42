//! The network plugin: what the status says of it, when, and that nothing waits for it.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use serde_json::json;

use super::harness::{EngineHarness, OWN, ready};
use crate::{
    api::{
        PolicyBaselineStatus,
        backends::{Configuration, ConfigurationKind::Crd},
    },
    engine::{
        Engine,
        facts::event::{Change, Event, ListRefusal},
    },
    policy::plugins::{PluginSeen, SlimPlugin, daemon_set_names},
};

const SECOND: Duration = Duration::from_secs(1);

/// An engine that looks for the network plugin and leads. Everything but the DaemonSets is listed.
fn looking() -> EngineHarness {
    let mut sim = EngineHarness::blank();
    sim.engine = Engine::new(OWN).looking_for_plugins();
    sim.lead(true);
    sim.list_configurations();
    sim.list();
    sim.baseline(1, json!({}));
    sim.namespace("a");
    sim
}

fn daemon_set(namespace: &str, name: &str) -> PluginSeen {
    serde_json::from_value::<SlimPlugin>(json!({"metadata": {"namespace": namespace, "name": name}})).unwrap().into()
}

/// The lists of the DaemonSets are complete, and have named these.
fn list(sim: &mut EngineHarness, found: &[(&str, &str)]) {
    for of in daemon_set_names() {
        sim.see(Event::Plugin(of, Change::ListBegan));
        for (namespace, name) in found.iter().filter(|(_, name)| *name == of) {
            sim.see(Event::Plugin(of, Change::Applied(daemon_set(namespace, name))));
        }
        sim.see(Event::Plugin(of, Change::ListDone));
    }
}

/// The list of each name is refused.
fn refuse(sim: &mut EngineHarness) {
    for of in daemon_set_names() {
        sim.see(Event::Plugin(of, Change::Refused(ListRefusal::Forbidden, "not allowed".into())));
    }
}

fn crd(name: &str) -> Configuration {
    Configuration { kind: Crd, name: name.into(), services: vec![], missing_fields: vec![] }
}

fn of(status: &PolicyBaselineStatus) -> Option<&Condition> {
    status.conditions.iter().find(|c| c.type_ == "EnforcementUnknown")
}

/// The condition in the last status, after all that is due was written.
fn said(sim: &mut EngineHarness) -> (String, String) {
    for _ in 0..2 {
        sim.pass(SECOND);
        sim.settle();
        sim.status();
    }
    let told = of(sim.statuses.last().unwrap()).unwrap();
    (format!("{}={}", told.status, told.reason), told.message.clone())
}

#[test]
fn the_status_follows_the_network_plugin_and_ready_does_not() {
    let mut sim = looking();
    list(&mut sim, &[("kube-flannel", "kube-flannel-ds")]);
    let (flannel, message) = said(&mut sim);
    assert_eq!(flannel, "True=PluginIgnoresPolicies");
    assert!(message.contains("kube-flannel/kube-flannel-ds: Flannel"), "{message}");
    let router = || daemon_set("kube-system", "kube-router");
    sim.see(Event::Plugin("kube-router", Change::Applied(router())));
    assert_eq!(said(&mut sim).0, "False=PluginEnforces");
    sim.see(Event::Plugin("kube-router", Change::Deleted(router())));
    assert_eq!(said(&mut sim).0, "True=PluginIgnoresPolicies");
    // Flannel was deleted while its watch was cut, so only the new list shows it.
    sim.see(Event::Plugin("kube-flannel-ds", Change::ListBegan));
    sim.see(Event::Plugin("kube-flannel-ds", Change::ListDone));
    let (nothing, message) = said(&mut sim);
    assert_eq!(nothing, "True=NoPluginKnown");
    assert!(message.contains("Flannel") && message.contains("`ptp`"), "{message}");
    sim.see(Event::Configuration(Crd, Change::Applied(crd("ciliumnodes.cilium.io"))));
    assert_eq!(said(&mut sim).0, "True=PluginMayIgnorePolicies");
    sim.see(Event::Configuration(Crd, Change::Deleted(crd("ciliumnodes.cilium.io"))));
    assert_eq!(said(&mut sim).0, "True=NoPluginKnown");
    assert!(sim.statuses.iter().all(|status| ["Protected", "WritingPolicies"].contains(&ready(status))));
    let written = sim.statuses.len();
    sim.see(Event::Plugin("cilium", Change::ListBegan));
    sim.see(Event::Plugin("cilium", Change::ListDone));
    assert_eq!((said(&mut sim).0, sim.statuses.len()), ("True=NoPluginKnown".into(), written), "the same again is no news");
}

#[test]
fn i2_a_restart_writes_no_status_before_it_knows_the_network_plugin_and_none_if_it_is_the_same() {
    let mut before = looking();
    list(&mut before, &[("kube-system", "cilium")]);
    said(&mut before);
    let stored = serde_json::to_value(before.statuses.last().unwrap()).unwrap();

    let mut sim = EngineHarness::blank();
    sim.engine = Engine::new(OWN).looking_for_plugins();
    sim.lead(true);
    sim.list_configurations();
    let policies: Vec<_> = before.policies.values().cloned().collect();
    sim.listing(|sim| {
        sim.baseline_stored(1, json!({}), json!({}), stored);
        sim.namespace("a");
        for policy in policies {
            sim.see(Event::Policy(Change::Applied(Box::new(policy))));
        }
    });
    sim.settle();
    assert!(sim.engine.is_synced(), "no decision waits for the network plugin");
    sim.pass(SECOND * 2);
    sim.see(Event::Plugin("cilium", Change::ListBegan));
    sim.settle();
    assert!(sim.status().is_none(), "half of a list is no news");
    sim.pass(SECOND * 25);
    sim.settle();
    assert!(sim.status().is_none(), "an API server that is busy for long is no news");
    list(&mut sim, &[("kube-system", "cilium")]);
    sim.pass(SECOND * 2);
    sim.settle();
    assert!(sim.status().is_none(), "{:?}", sim.statuses);
    sim.see(Event::Plugin("cilium", Change::Deleted(daemon_set("kube-system", "cilium"))));
    assert_eq!(said(&mut sim).0, "True=NoPluginKnown", "the status is written when there is news");
}

#[test]
fn a_list_that_is_refused_is_told_after_some_seconds_delays_nothing_and_counts_when_it_comes() {
    let mut sim = looking();
    refuse(&mut sim);
    sim.settle();
    let first = sim.status().unwrap();
    assert_eq!((ready(&first), of(&first)), ("Protected", None), "the status does not wait for what is refused");
    assert_eq!(sim.engine.waits().count(), 0, "/readyz does not wait");
    sim.pass(SECOND * 5);
    let (refused, message) = said(&mut sim);
    assert_eq!(refused, "True=NotListed");
    assert!(message.contains("could not be listed") && message.contains("Apply manifests/base"), "{message}");
    list(&mut sim, &[("kube-system", "cilium")]);
    assert_eq!(said(&mut sim).0, "False=PluginEnforces");
    // A watch that is refused later changes nothing that is known.
    refuse(&mut sim);
    sim.pass(SECOND * 30);
    assert_eq!(said(&mut sim).0, "False=PluginEnforces");
}

#[test]
fn one_list_without_an_answer_holds_the_status_back_for_half_a_minute_and_no_policy() {
    let mut sim = looking();
    for of in daemon_set_names().skip(1) {
        sim.see(Event::Plugin(of, Change::ListBegan));
        sim.see(Event::Plugin(of, Change::ListDone));
    }
    sim.settle();
    assert_eq!(sim.policies.len(), 3, "policies are written");
    assert!(sim.status().is_none());
    sim.pass(SECOND * 29);
    sim.settle();
    assert!(sim.status().is_none());
    sim.pass(SECOND);
    assert_eq!(said(&mut sim).0, "True=NotListed");
}
