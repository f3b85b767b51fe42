//! Changes that close open namespaces: they go out in waves, too.

use std::collections::BTreeSet;

use super::*;
use crate::api::backends::{Configuration, ConfigurationKind, ServiceName};
use crate::{api::SlimNamespace, engine::tests::harness::named};

/// Later than every namespace.
const YOUNG: &str = "1970-01-12T00:00:00Z";
const OLD: &str = "1970-01-01T00:00:01Z";

/// One namespace in a wave, one minute between waves, and the canary first.
fn with(more: &Value) -> Value {
    let canary = json!({"matchLabels": {"stage": "canary"}});
    let mut spec = json!({"rollout": {"maxNamespacesPerWave": 1, "interval": "1m", "canarySelector": canary}});
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    spec
}

fn edit(cluster: &mut Cluster, created: &str, spec: Value) {
    cluster.generation += 1;
    cluster.spec = spec.clone();
    cluster.sim.baseline_with(cluster.generation, spec, json!({"creationTimestamp": created}));
}

fn name_all(sim: &mut EngineHarness) {
    for name in NAMES {
        let labels = if name == "d" { json!({"tier": "prod", "stage": "canary"}) } else { json!({"tier": "prod"}) };
        sim.namespace_with(name, labels);
    }
}

/// Five open namespaces, and a baseline that closes none of them. `d` is the canary.
fn open(created: &str, spec: Value) -> Cluster {
    open_in(EngineHarness::unsynced(), created, spec)
}

fn open_in(mut sim: EngineHarness, created: &str, spec: Value) -> Cluster {
    for phase in [ListPhase::Begin, ListPhase::End] {
        sim.see(Event::Revision(phase.change()));
    }
    sim.list();
    name_all(&mut sim);
    let mut cluster = Cluster { sim, revisions: BTreeMap::new(), generation: 0, spec: Value::Null };
    edit(&mut cluster, created, spec);
    cluster.work();
    assert_eq!(closed(&cluster), "");
    cluster
}

/// A namespace with a version later than that of the baseline.
fn appeared(name: &str) -> SlimNamespace {
    let labels = json!({"kubernetes.io/metadata.name": name, "tier": "prod"});
    named(
        json!({"name": name, "uid": format!("uid-{name}"), "resourceVersion": "99", "creationTimestamp": "1970-01-01T00:10:00Z",
        "labels": labels}),
    )
}

/// The namespaces that hold all three policies.
fn closed(cluster: &Cluster) -> String {
    let all = |ns: &&&str| cluster.sim.policies.keys().filter(|(of, _)| of == **ns).count() == 3;
    NAMES.iter().filter(all).copied().collect::<Vec<_>>().join(" ")
}

#[test]
fn what_closes_existing_namespaces_goes_out_in_waves_the_canary_first() {
    let enforce = json!({"existingNamespaces": "Enforce"});
    let elsewhere = json!({"namespaceSelector": {"matchLabels": {"tier": "test"}}});
    for (what, created, before, after) in [
        ("Report to Enforce", YOUNG, json!({}), enforce.clone()),
        (
            "Audit to Enforce, of older namespaces",
            YOUNG,
            json!({"mode": "Audit", "existingNamespaces": "Enforce"}),
            enforce.clone(),
        ),
        ("Audit to Enforce, of namespaces since then", OLD, json!({"mode": "Audit"}), json!({})),
        ("a wider selector", OLD, elsewhere.clone(), json!({})),
        ("a first default-deny", OLD, json!({"policies": ["MonitoringCarveout"]}), json!({})),
        ("exclusions that go", YOUNG, json!({"excludeNamespaces": ["*"], "existingNamespaces": "Enforce"}), enforce.clone()),
    ] {
        let mut cluster = open(created, with(&before));
        edit(&mut cluster, created, with(&after));
        let mut waves = vec![];
        for _ in 0..5 {
            cluster.work();
            waves.push(closed(&cluster));
            cluster.sim.pass(Duration::from_secs(59));
            cluster.work();
            assert_eq!(waves.last(), Some(&closed(&cluster)), "{what}: not before its time");
            cluster.sim.pass(Duration::from_secs(1));
        }
        assert_eq!(waves, ["d", "a d", "a b d", "a b c d", "a b c d e"], "{what}");
        cluster.work();
        assert_eq!(cluster.status(), ("Protected".into(), [0, 0, 0]), "{what}");
        assert_eq!(cluster.revisions.len(), 1, "{what}");
    }
}

#[test]
fn a_namespace_that_comes_while_others_wait_to_be_closed_never_waits_and_the_status_says_how_far_it_is() {
    let mut cluster = open(YOUNG, with(&json!({})));
    edit(&mut cluster, YOUNG, with(&json!({"existingNamespaces": "Enforce"})));
    cluster.work();
    assert_eq!(cluster.status(), ("RollingOut".into(), [1, 5, 1]));
    let status = cluster.sim.statuses.last().unwrap();
    assert_eq!((status.namespaces.protected, status.namespaces.reported), (1, 4));
    assert!(status.notices[0].message.contains("a wave of the rollout will create"), "{:?}", status.notices[0]);
    cluster.sim.namespace("new");
    cluster.work();
    assert_eq!(cluster.sim.policies.keys().filter(|(ns, _)| ns == "new").count(), 3);
    // What the cluster tells meanwhile closes nobody.
    cluster.sim.namespace_with("a", json!({"tier": "prod", "more": "labels"}));
    cluster.work();
    assert_eq!(closed(&cluster), "d");
    // Another edit that changes no policy goes on with the same waves; the policies of those that are closed follow their own waves.
    edit(&mut cluster, YOUNG, with(&json!({"existingNamespaces": "Enforce", "priority": 3})));
    cluster.pass(MINUTE);
    assert_eq!(closed(&cluster), "a d");
}

#[test]
fn a_restart_goes_on_with_what_is_still_open_and_what_is_taken_back_closes_nobody_else() {
    for (created, before, after) in
        [(YOUNG, json!({}), json!({"existingNamespaces": "Enforce"})), (OLD, json!({"mode": "Audit"}), json!({}))]
    {
        let mut cluster = open(created, with(&before));
        edit(&mut cluster, created, with(&after));
        cluster.work();
        cluster.pass(MINUTE);
        assert_eq!(closed(&cluster), "a d");
        let mut cluster = cluster.restart();
        cluster.work();
        assert_eq!(closed(&cluster), "a d", "a restart closes nobody");
        cluster.pass(MINUTE);
        assert_eq!(closed(&cluster), "a b d");
        edit(&mut cluster, created, with(&before));
        cluster.pass(MINUTE);
        cluster.pass(MINUTE);
        assert_eq!(closed(&cluster), "a b d");
        // Without a rollout, all at once.
        edit(&mut cluster, created, after);
        cluster.work();
        assert_eq!(closed(&cluster), "a b c d e");
    }
}

#[test]
fn waves_that_close_stop_where_policies_cannot_be_written() {
    let mut cluster = open(YOUNG, with(&json!({})));
    edit(&mut cluster, YOUNG, with(&json!({"existingNamespaces": "Enforce"})));
    for _ in 0..20 {
        cluster.store(|_| None);
        cluster.sim.answer(|_, _| Some(Failure::QuotaExceeded));
        cluster.sim.pass(MINUTE);
    }
    assert_eq!(cluster.status().0, "RolloutPaused");
    assert_eq!(cluster.sim.policies.len(), 0);
    assert_eq!(cluster.sim.statuses.last().unwrap().namespaces.reported, 4, "only the canary was tried");
}

#[test]
fn an_edit_that_nobody_watched_goes_out_in_waves_after_the_start() {
    let mut cluster = open(OLD, with(&json!({"mode": "Audit"})));
    cluster.generation += 1;
    cluster.spec = with(&json!({}));
    let mut cluster = cluster.restart();
    cluster.work();
    assert_eq!(closed(&cluster), "a");
    // A new namespace waits for no wave.
    cluster.sim.namespace("new");
    cluster.work();
    assert_eq!(cluster.sim.policies.keys().filter(|(ns, _)| ns == "new").count(), 3);
    cluster.pass(MINUTE);
    assert_eq!(closed(&cluster), "a b");
}

#[test]
fn a_namespace_that_appears_after_the_start_and_before_the_election_never_waits() {
    let mut cluster = open(OLD, with(&json!({"mode": "Audit"})));
    edit(&mut cluster, OLD, with(&json!({})));
    cluster.work();
    assert_eq!(closed(&cluster), "d");
    let mut cluster = cluster.restart();
    cluster.sim.lead(false);
    cluster.sim.see(Event::Namespace(Change::Applied(appeared("new"))));
    cluster.work();
    cluster.sim.lead(true);
    cluster.work();
    assert_eq!(cluster.sim.policies.keys().filter(|(ns, _)| ns == "new").count(), 3);
    assert_eq!(closed(&cluster), "d");
}

#[test]
fn a_standby_that_saw_the_edit_closes_in_waves_when_it_begins_to_lead() {
    let mut cluster = open(OLD, with(&json!({"mode": "Audit"})));
    cluster.sim.lead(false);
    edit(&mut cluster, OLD, with(&json!({})));
    cluster.work();
    // The leader stopped before it wrote a status.
    cluster.sim.lead(true);
    cluster.work();
    assert_eq!(closed(&cluster), "d");
    cluster.pass(MINUTE);
    assert_eq!(closed(&cluster), "a d");
}

#[test]
fn what_another_baseline_left_open_is_closed_in_waves_when_that_one_goes_or_changes() {
    for goes in [true, false] {
        let mut cluster = open(OLD, with(&json!({"mode": "Audit"})));
        let another = json!({"name": "x", "uid": "uid-x", "creationTimestamp": YOUNG});
        cluster.sim.baseline_with(1, json!({"priority": 1}), another.clone());
        edit(&mut cluster, OLD, with(&json!({})));
        cluster.work();
        assert_eq!(closed(&cluster), "", "the other one only reports them");
        if goes {
            let raw = serde_json::from_value(json!({"metadata": another})).unwrap();
            cluster.sim.see(Event::Baseline(Change::Deleted(Box::new(raw))));
        } else {
            cluster.sim.baseline_with(2, json!({"priority": -1}), another);
        }
        cluster.work();
        assert_eq!(closed(&cluster), "d", "{goes}");
        cluster.pass(MINUTE);
        assert_eq!(closed(&cluster), "a d", "{goes}");
    }
}

#[test]
fn namespaces_that_were_held_are_closed_in_waves() {
    let mut sim = EngineHarness::unsynced();
    for phase in [ListPhase::Begin, ListPhase::End] {
        sim.see(Event::Revision(phase.change()));
    }
    let kind = ConfigurationKind::Validating;
    let services = ["a", "b"].map(|ns| ServiceName { namespace: ns.into(), name: "webhook".into() }).to_vec();
    sim.see(Event::Configuration(
        kind,
        Change::Applied(Configuration { kind, name: "v".into(), services, missing_fields: vec![] }),
    ));
    sim.list();
    for name in NAMES {
        sim.namespace(name);
    }
    let mut cluster = Cluster { sim, revisions: BTreeMap::new(), generation: 0, spec: Value::Null };
    edit(&mut cluster, OLD, with(&json!({})));
    for _ in 0..6 {
        cluster.work();
        cluster.pass(MINUTE);
    }
    assert_eq!(closed(&cluster), "c d e");
    edit(&mut cluster, OLD, with(&json!({"controlPlaneBackends": "Enforce"})));
    cluster.work();
    assert_eq!(closed(&cluster), "a c d e");
    cluster.pass(MINUTE);
    assert_eq!(closed(&cluster), "a b c d e");
}

#[test]
fn an_edit_that_comes_while_a_list_takes_too_long_still_closes_in_waves() {
    let another = json!({"name": "x", "uid": "uid-x", "creationTimestamp": YOUNG});
    for what in ["an edit", "another baseline changes", "another baseline goes"] {
        let mut cluster = open(OLD, with(&json!({"mode": "Audit"})));
        // This process sees it appear, and it runs open for long.
        cluster.sim.see(Event::Namespace(Change::Applied(appeared("f"))));
        if what != "an edit" {
            cluster.sim.baseline_with(1, json!({"priority": 1}), another.clone());
            edit(&mut cluster, OLD, with(&json!({})));
            cluster.work();
            assert_eq!(closed(&cluster), "", "the other one only reports them");
        }
        cluster.sim.see(Event::Namespace(Change::ListBegan));
        cluster.pass(MINUTE);
        assert!(!cluster.sim.engine.may_decide());
        match what {
            "an edit" => edit(&mut cluster, OLD, with(&json!({}))),
            "another baseline changes" => cluster.sim.baseline_with(2, json!({"priority": -1}), another.clone()),
            _ => {
                let raw = serde_json::from_value(json!({"metadata": another})).unwrap();
                cluster.sim.see(Event::Baseline(Change::Deleted(Box::new(raw))));
            }
        }
        cluster.work();
        name_all(&mut cluster.sim);
        cluster.sim.see(Event::Namespace(Change::Applied(appeared("f"))));
        cluster.sim.see(Event::Namespace(Change::ListDone));
        cluster.work();
        assert_eq!(closed(&cluster), "d", "{what}");
        assert!(cluster.sim.policies.keys().all(|(ns, _)| ns == "d"), "{what}");
        cluster.pass(MINUTE);
        assert_eq!(closed(&cluster), "a d", "{what}");
        // What comes later waits for no wave.
        cluster.sim.namespace("new");
        cluster.work();
        assert_eq!(cluster.sim.policies.keys().filter(|(ns, _)| ns == "new").count(), 3, "{what}");
    }
}

#[test]
fn an_edit_that_needs_a_list_that_is_still_missing_closes_in_waves_too() {
    let mut cluster = open_in(discovering(), OLD, with(&json!({"mode": "Audit"})));
    let api = json!([{"name": "api", "egress": [{"to": [{"kubernetesAPI": {}}]}]}]);
    edit(&mut cluster, OLD, with(&json!({"allows": api})));
    cluster.work();
    assert!(!cluster.sim.engine.may_decide());
    // The API server gives no answer: the operator continues without its addresses.
    cluster.pass(MINUTE);
    let held = |cluster: &Cluster| cluster.sim.policies.keys().map(|(ns, _)| ns.clone()).collect::<BTreeSet<_>>();
    assert_eq!(held(&cluster), ["d".to_owned()].into());
}
