//! The objects of a cluster's DNS sources, as a list. Whatever they contain, plans allow DNS and open nothing to everybody.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use policy_baseline::{
    Baseline, ClusterDns, DnsEvent, KEPT, Memory, OPENSHIFT_DNS, Object, PolicyBaseline, Role, SlimDaemonSet, SlimPod,
    SlimService, SlimSlice, Source, Sources,
};
use serde_json::{Value, json};
use strum::VariantArray;

use crate::{OPERATOR, baseline::is_planned_safely, watched};

/// The result if nothing beyond the defaults is allowed.
const NOTHING: &str = "NothingFound";
/// The result if everything that was found is allowed.
const FOUND: &str = "Found";
/// The result if policies cannot express something, or if there is no room for it.
const GAP: &str = "Gap";
/// The most peers in addition to those of the spec and its defaults.
const MOST_PEERS: usize = 64;

/// Checks everything that must hold for the DNS sources. The input is a JSON list of their objects; an object of kind ResolvConf has a
/// text. Returns what was found. None if the input is not a list.
///
/// # Panics
///
/// If a property does not hold.
pub fn dns(bytes: &[u8]) -> Option<&'static str> {
    let objects: Vec<Value> = serde_json::from_slice(bytes).ok()?;
    let heard = |objects: &[Value]| {
        let (mut sources, now) = (Sources::default(), Instant::now());
        hear(&mut sources, objects, now);
        let mut memory = Memory::default();
        (derive(&sources, &mut memory, now), sources, memory, now)
    };
    // Of two objects with the same name, the watch keeps the last.
    let by_name: BTreeMap<String, Value> = objects.into_iter().map(|object| (key(&object), object)).collect();
    let mut objects: Vec<Value> = by_name.into_values().collect();
    let (found, mut sources, mut memory, now) = heard(&objects);
    objects.reverse();
    assert_eq!(heard(&objects).0, found, "the order says nothing");

    let baseline = baseline().with_dns(&found);
    is_planned_safely(&baseline);
    let egress =
        |baseline: &Baseline| baseline.policies.iter().filter(|policy| policy.role() == Some(Role::DefaultDenyEgress)).count();
    assert_eq!(egress(&baseline), 1);
    assert!(found.peers().len() <= MOST_PEERS);

    // After the objects have disappeared, their peers stay allowed for a while, and their namespaces stay left out. Then no longer.
    hear(&mut sources, &[], now);
    let kept = derive(&sources, &mut memory, now);
    assert!(kept.plans_as(&found), "what went is kept");
    let later = derive(&sources, &mut memory, now + KEPT + Duration::from_secs(1));
    assert!(later.peers().is_empty() && later.namespaces().next().is_none(), "and is not kept for ever");

    Some(match found.gap() {
        Some(gap) => {
            assert!(gap.message.split_whitespace().count() > 3, "{} is no sentence", gap.message);
            GAP
        }
        None if found.peers().is_empty() => NOTHING,
        None => FOUND,
    })
}

/// What names an object. There is one resolv.conf, whatever its object says.
fn key(object: &Value) -> String {
    if object["kind"] == "ResolvConf" {
        return "ResolvConf".into();
    }
    format!("{} {} {}", object["kind"], object["metadata"]["namespace"] == OPENSHIFT_DNS, object["metadata"]["name"])
}

fn baseline() -> Baseline {
    let object = json!({
        "apiVersion": "policybaseline.io/v1alpha1", "kind": "PolicyBaseline", "metadata": {"name": "platform"}, "spec": {"mode": "Enforce"},
    });
    let object: PolicyBaseline = serde_json::from_value(object).expect("a baseline of our own");
    Baseline::check(&object, OPERATOR).expect("a baseline of our own")
}

/// Lists all sources; they contain those of these objects that can be decoded.
fn hear(sources: &mut Sources, objects: &[Value], now: Instant) {
    for source in Source::VARIANTS.iter().copied() {
        sources.hear(DnsEvent::ListBegins(source), now);
    }
    sources.hear(DnsEvent::ResolvConf(String::new()), now);
    for news in objects.iter().filter_map(news) {
        sources.hear(news, now);
    }
    for source in Source::VARIANTS.iter().copied() {
        sources.hear(DnsEvent::ListEnds(source), now);
    }
    assert!(sources.are_known(now));
}

/// The event of an object's source. None if the object cannot be decoded.
fn news(object: &Value) -> Option<DnsEvent> {
    let bytes = serde_json::to_vec(object).expect("a value is JSON");
    if object["kind"] == "ResolvConf" {
        return Some(DnsEvent::ResolvConf(object["text"].as_str()?.to_owned()));
    }
    let name = object["metadata"]["name"].as_str()?.to_owned();
    let in_openshift = object["metadata"]["namespace"] == OPENSHIFT_DNS;
    let (source, object): (Source, Object) = match (object["kind"].as_str()?, in_openshift) {
        ("Service", false) => (Source::Services, watched::<SlimService>(&bytes)?.into()),
        ("Service", true) => (Source::OpenShiftService, watched::<SlimService>(&bytes)?.into()),
        ("EndpointSlice", _) => (Source::Slices, watched::<SlimSlice>(&bytes)?.into()),
        ("Pod", _) => (Source::Pods, watched::<SlimPod>(&bytes)?.into()),
        ("DaemonSet", false) => (Source::NodeLocal, watched::<SlimDaemonSet>(&bytes)?.into()),
        ("DaemonSet", true) => (Source::OpenShiftDaemonSet, watched::<SlimDaemonSet>(&bytes)?.into()),
        _ => return None,
    };
    Some(DnsEvent::Seen(source, name, object))
}

fn derive(sources: &Sources, memory: &mut Memory, now: Instant) -> ClusterDns {
    let dns = memory.remember(sources.derive(now), now);
    let status = dns.status();
    let is_bounded = |text: &String| text.chars().count() <= 512;
    assert!(status.found.len() <= 64 && status.notes.len() <= 10 && status.notes.iter().all(is_bounded));
    assert!(status.found.iter().all(|found| is_bounded(&found.source) && is_bounded(&found.what)));
    dns
}
