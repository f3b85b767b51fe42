//! Services that look like DNS push no real DNS out of the policies, and cost few writes.

use std::time::Duration;

use serde_json::json;

use super::{
    dns::{awaiting, coverage, hear, list_but, ranges, service, told},
    harness::EngineHarness,
};
use crate::{
    engine::facts::event::{Change, Event},
    policy::dns::{DnsEvent, KEPT, SlimService, Source},
};

const SECOND: Duration = Duration::from_secs(1);
/// The real DNS: a Service whose address is the nameserver of pods.
const REAL: &str = "10.0.0.10/32";

/// A Service that looks like DNS, with pods and an address of its own.
fn fake(n: usize) -> DnsEvent {
    let name = format!("fake-{n}");
    let object = json!({"metadata": {"name": name, "labels": {"k8s-app": "kube-dns"}}, "spec": {
        "clusterIP": format!("10.0.{}.{}", 1 + n / 100, n % 100), "selector": {"app": name}, "ports": [{"name": "dns", "port": 53}]}});
    DnsEvent::Seen(Source::Services, name, serde_json::from_value::<SlimService>(object).unwrap().into())
}

fn settled() -> EngineHarness {
    let mut sim = awaiting();
    list_but(&mut sim, &[]);
    hear(&mut sim, DnsEvent::ResolvConf("nameserver 10.0.0.10\n".into()));
    told(&mut sim);
    sim.pass(SECOND * 60);
    sim
}

/// The Services appear, one in this time. Returns how often the policies were written.
fn flood(sim: &mut EngineHarness, services: std::ops::Range<usize>, every: Duration) -> usize {
    let mut rewritten = 0;
    for n in services {
        hear(sim, fake(n));
        rewritten += usize::from(sim.answer(|_, _| None) > 0);
        sim.pass(every);
    }
    rewritten
}

#[test]
fn services_that_look_like_dns_push_no_real_dns_out_and_are_a_condition() {
    let mut sim = settled();
    flood(&mut sim, 0..200, SECOND);
    sim.pass(SECOND * 60);
    sim.settle();
    assert!(ranges(&sim).contains(&REAL.to_owned()), "{:?}", ranges(&sim));
    let status = told(&mut sim);
    let condition = coverage(&status).unwrap();
    assert_eq!((&*condition.status, &*condition.reason), ("False", "DNSLeftOut"));
    assert!(condition.message.contains("Static"), "{}", condition.message);
    let dns = status.dns.unwrap();
    assert_eq!((dns.found.len(), dns.left_out), (64, 2 + 400 - 64));
    // When they are gone, the condition goes too.
    for n in 0..200 {
        hear(&mut sim, DnsEvent::Gone(Source::Services, format!("fake-{n}")));
    }
    sim.pass(KEPT);
    sim.settle();
    assert_eq!((ranges(&sim), coverage(&told(&mut sim))), (vec![REAL.to_owned()], None));
}

#[test]
fn what_was_known_first_keeps_its_place_also_without_a_nameserver() {
    let mut sim = settled();
    hear(&mut sim, service("other", "10.0.0.20"));
    sim.settle();
    sim.pass(SECOND * 60);
    flood(&mut sim, 0..100, Duration::ZERO);
    sim.pass(SECOND * 60);
    sim.settle();
    assert!(ranges(&sim).contains(&"10.0.0.20/32".to_owned()), "{:?}", ranges(&sim));
}

#[test]
fn i7_a_flood_of_services_writes_each_namespace_a_few_times_and_what_pods_need_does_not_wait_for_it() {
    let mut sim = settled();
    assert!(flood(&mut sim, 0..20, SECOND) <= 3);
    // The address that pods use as nameserver changes.
    hear(&mut sim, service("kube-dns", "10.0.0.11"));
    sim.settle();
    assert!(ranges(&sim).contains(&"10.0.0.11/32".to_owned()));
    // What waits goes out together.
    let waits = fake(30);
    hear(&mut sim, waits);
    assert!(sim.jobs().is_empty());
    let wake = sim.engine.next_wake(sim.now()).unwrap();
    assert!(wake - sim.now().instant <= SECOND * 30);
    sim.pass(wake - sim.now().instant);
    sim.settle();
    assert!(ranges(&sim).contains(&"10.0.1.30/32".to_owned()));
}

#[test]
fn i7_a_list_that_comes_again_brings_no_change_of_dns_before_its_time_and_makes_nothing_older() {
    let mut sim = settled();
    hear(&mut sim, service("other", "10.0.0.20"));
    sim.settle();
    told(&mut sim);
    sim.pass(SECOND * 60);
    flood(&mut sim, 0..20, Duration::ZERO);
    assert!(sim.jobs().is_empty());
    for set in [Change::ListBegan, Change::ListDone] {
        sim.see(Event::Install(set));
    }
    assert!(sim.jobs().is_empty(), "the budget of changes holds");
    flood(&mut sim, 20..100, Duration::ZERO);
    sim.pass(SECOND * 60);
    sim.settle();
    assert!(ranges(&sim).contains(&"10.0.0.20/32".to_owned()), "{:?}", ranges(&sim));
}
