//! Files of people: manifests that `lint` reads, and two versions that `diff` compares, with policies of the tiers around them. Whatever they
//! contain: each mistake has a place, nothing differs from itself, and each flow changes back if the versions change places.

use policy_baseline::{
    CompiledPolicies, DiffSide, Flow, FlowDecision, FlowDiff, FlowDump, FlowSnapshot, LintFormat, LintSettings, ManifestText,
    MarkdownDiff, Party, Protocol, Way, compare, lint, passed_over, worlds,
};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::OPERATOR;

/// The namespace of objects that name none.
const NAMESPACE: &str = "shop";
const PORTS: [(Protocol, u16); 2] = [(Protocol::TCP, 80), (Protocol::UDP, 53)];

/// Two versions, and what is around them.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Versions {
    old: Vec<Value>,
    new: Vec<Value>,
    #[serde(default)]
    dump: Vec<Value>,
}

/// Checks everything that must hold for a file. JSON with the fields `old`, `new` and perhaps `dump`, each a list of objects, is compared.
/// Everything else is a file for `lint`. None if it is no UTF-8.
///
/// # Panics
///
/// If a property does not hold.
pub fn manifests(bytes: &[u8]) -> Option<&'static str> {
    let text = std::str::from_utf8(bytes).ok()?;
    Some(match serde_json::from_str::<Versions>(text) {
        Ok(versions) => compared(&versions),
        Err(_) => linted(text),
    })
}

/// Whether a file has mistakes.
fn linted(text: &str) -> &'static str {
    let sources = [ManifestText { name: "x.yaml".into(), text: text.into() }];
    let settings = LintSettings { operator_namespace: OPERATOR, ..LintSettings::default() };
    let report = lint(&sources, &settings);
    let lines = u32::try_from(text.lines().count()).unwrap_or(u32::MAX);
    for finding in &report.findings {
        assert!((1..=lines.saturating_add(1)).contains(&finding.place.line), "{finding:?}");
        assert!(!finding.message.is_empty(), "{finding:?}");
    }
    for format in [LintFormat::Text, LintFormat::Json, LintFormat::Sarif, LintFormat::Github, LintFormat::Junit] {
        let shown = report.shown(&sources, format);
        assert!(!shown.is_empty() || report.findings.is_empty());
    }
    passed_over(&sources, NAMESPACE, |_, _| true);
    if report.findings.is_empty() { "Clean" } else { "Found" }
}

/// Whether flows differ.
fn compared(Versions { old, new, dump }: &Versions) -> &'static str {
    let text = |objects: &[Value]| objects.iter().map(Value::to_string).collect::<Vec<_>>().join("\n");
    linted(&text(new));
    let side = |objects| {
        let mut side = DiffSide::default();
        side.add(&text(objects), NAMESPACE, OPERATOR).map(|()| side)
    };
    let (old, new) = match (side(old), side(new)) {
        (Ok(old), Ok(new)) => (old, new),
        (Err(why), _) | (_, Err(why)) => {
            assert!(!why.is_empty());
            return "Refused";
        }
    };
    let [before, after] = worlds(world(dump), &old, &new);
    let of = |one: &FlowSnapshot, other: &FlowSnapshot| compare(one, other, usize::MAX, None).ok();
    let Some(diff) = of(&before, &after) else { return "TooMany" };
    let pairs = |diff: &FlowDiff| (diff.newly_allowed.pairs, diff.newly_denied.pairs);
    let back = of(&after, &before).expect("both have the same ports");
    assert_eq!(pairs(&diff), (back.newly_denied.pairs, back.newly_allowed.pairs), "{diff}\n{back}");
    let same = of(&after, &after).expect("it has no more ports");
    assert_eq!(pairs(&same), (0, 0), "{same}");
    assert!(diff.to_string().lines().count() > 0 && !MarkdownDiff(&diff).to_string().is_empty());
    judged(&after);
    if diff.has_changes() { "Changed" } else { "Same" }
}

/// Three pods, and what the input adds.
fn world(more: &[Value]) -> FlowSnapshot {
    let pod = |namespace: &str, app: &str, address: &str| {
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"namespace": namespace, "name": format!("{app}-0"), "labels": {"app": app}},
            "spec": {"containers": [{"name": "c", "ports": [{"name": "web", "containerPort": 80}]}]},
            "status": {"phase": "Running", "podIP": address},
        })
    };
    let pods = [pod("shop", "web", "10.0.0.1"), pod("shop", "db", "10.0.0.2"), pod("kube-system", "dns", "10.0.1.1")];
    let items: Vec<Value> = pods.into_iter().chain(more.iter().cloned()).collect();
    let list = json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string();
    let dump = FlowDump::read(&list).expect("it is a list");
    assert!(dump.warnings.iter().all(|warning| !warning.is_empty()));
    dump.objects.into_iter().collect()
}

/// All pairs at once are judged as each flow alone is.
fn judged(world: &FlowSnapshot) {
    let compiled = CompiledPolicies::of(world);
    compiled.refused_parts();
    for (protocol, port) in PORTS {
        let reach = compiled.reach(protocol, port, false);
        for from in 0..world.pods.len().min(8) {
            for to in 0..world.pods.len().min(8) {
                let Some(allowed) = reach.allows(from, to) else { continue };
                let party = |pod: usize| Party {
                    pod: Some(pod),
                    address: world.pods[pod].addresses.iter().copied().find(std::net::IpAddr::is_ipv4),
                };
                let flow = Flow { from: party(from), to: party(to), protocol, port };
                let alone = [Way::Egress, Way::Ingress].map(|way| compiled.judge(&flow, way).decision());
                let is_allowed = alone.iter().all(|decision| *decision == FlowDecision::Allowed);
                assert_eq!(allowed, is_allowed, "{flow:?}: {alone:?}");
            }
        }
    }
}
