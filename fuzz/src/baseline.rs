//! A PolicyBaseline, of this version or any other. Either the operator plans with it safely, or its status says what is wrong.

use std::collections::BTreeSet;

use jiff::Timestamp;
use k8s_openapi::{
    api::networking::v1::{
        NetworkPolicy, NetworkPolicyEgressRule, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort,
    },
    apimachinery::pkg::util::intstr::IntOrString,
};
use policy_baseline::{
    Baseline, BaselineError, ConditionInputs, Fingerprint, Interner, Ledger, MAX_NOTICES, MAX_RECENT_DRIFT, MAX_VIOLATIONS,
    Namespace, NamespaceName, PlannedPolicies, Policies, PolicyBaseline, PolicyBaselineSpec, PolicyBaselineStatus, PolicyScope,
    Purpose, RawBaseline, Rendered, Role, SYSTEM_NAMESPACES, SlimPolicy, check_label_key, check_label_value, diff, is_dns_label,
    targets,
};
use serde_json::Value;

use crate::{OPERATOR, watched};

/// The reason in the status for a valid spec.
const VALID: &str = "Valid";
/// The longest name of a policy: the longest prefix and the longest name of an allow.
const LONGEST_NAME: usize = 76;
/// The longest text in a status that the operator writes, in characters.
const LONGEST_TEXT: usize = 1024;

/// Checks everything that must hold for a baseline. Returns the reason that its status gives for the spec. None if not even its
/// metadata can be decoded.
///
/// # Panics
///
/// If a property does not hold.
pub fn baseline(bytes: &[u8]) -> Option<&'static str> {
    if let Some(delivered) = watched::<RawBaseline>(bytes)
        && let Err(error) = delivered.check(OPERATOR)
    {
        says_what_is_wrong(&error);
    }
    // A `Value` has each field only once, as an API server writes it.
    let value: Value = serde_json::from_slice(bytes).ok()?;
    let raw: RawBaseline = serde_json::from_value(value.clone()).ok()?;
    let checked = holds(&raw);
    if let Ok(spec) = serde_json::from_value::<PolicyBaselineSpec>(value["spec"].clone()) {
        spec_is_stable(&spec);
        if !spec.include_system_namespaces
            && let Ok(baseline) = &checked
        {
            let system = SYSTEM_NAMESPACES.into_iter().chain([OPERATOR]);
            system.for_each(|name| assert!(!baseline.selects(&namespace(name)), "{name} is closed and nobody asked for it"));
        }
    }
    // A derived decoder takes a list for a struct, too. A CRD does not, and `check` asks for `mode` by its name.
    if value["spec"].is_object()
        && let Ok(whole) = serde_json::from_value::<PolicyBaseline>(value)
    {
        let whole = Baseline::check(&whole, OPERATOR);
        assert_eq!(whole.as_ref().err(), checked.as_ref().err(), "spec and object are judged alike");
    }
    Some(checked.map_or_else(|error| error.reason(), |_| VALID))
}

fn holds(raw: &RawBaseline) -> Result<Baseline, BaselineError> {
    let checked = raw.check(OPERATOR);
    match &checked {
        Ok(baseline) => {
            is_planned_safely(baseline);
            let denies_egress = baseline.policies.iter().filter(|policy| policy.role() == Some(Role::DefaultDenyEgress));
            denies_egress.for_each(|policy| assert_eq!(egress(policy).len(), 1, "a spec alone makes one rule"));
        }
        Err(error) => says_what_is_wrong(error),
    }
    status_is_bounded_and_stable(&checked, raw.stored_status().as_ref());
    checked
}

fn spec_is_stable(spec: &PolicyBaselineSpec) {
    let value = serde_json::to_value(spec).expect("a spec is JSON");
    let again: PolicyBaselineSpec = serde_json::from_value(value).expect("what was encoded decodes");
    assert_eq!(again, *spec);
}

fn says_what_is_wrong(error: &BaselineError) {
    assert!(error.to_string().split_whitespace().count() > 3, "{error} is no sentence");
    let reason = error.reason();
    assert!(
        reason.starts_with(|c: char| c.is_ascii_uppercase()) && reason.bytes().all(|b| b.is_ascii_alphanumeric()),
        "{reason}"
    );
}

/// I2, I11: the written status has bounds, whatever was stored before. After a restart the operator writes the same status.
fn status_is_bounded_and_stable(checked: &Result<Baseline, BaselineError>, stored: Option<&PolicyBaselineStatus>) {
    let stalled = checked.as_ref().err().map(|error| (error.reason(), error.to_string()));
    let health = ConditionInputs { generation: Some(1), stalled, ..ConditionInputs::default() };
    let words = checked.as_ref().ok().map(|baseline| &*baseline.effective_selector);
    let status =
        |stored: Option<&PolicyBaselineStatus>| Ledger::resume(stored).status(&health, words, stored, Timestamp::UNIX_EPOCH);
    let written = status(stored);
    assert!(written.notices.len() <= MAX_NOTICES);
    assert!(written.violations.len() <= MAX_VIOLATIONS && written.recent_drift.len() <= MAX_RECENT_DRIFT);
    assert!(words.is_none() || written.effective_selector.chars().count() <= LONGEST_TEXT);
    assert_eq!(
        written.conditions.len(),
        3 + usize::from(checked.is_ok()),
        "a valid baseline also says whether existing namespaces are closed"
    );
    assert!(written.conditions.iter().all(|c| !c.message.is_empty() && c.message.chars().count() <= LONGEST_TEXT));
    let text = serde_json::to_string(&written).expect("a status is JSON");
    // Somebody may have stored a time that no API server accepts. Then the status cannot be read back.
    let Ok(read) = serde_json::from_str::<PolicyBaselineStatus>(&text) else { return };
    assert_eq!(status(Some(&read)), read);
}

pub fn is_planned_safely(baseline: &Baseline) {
    let namespaces = ["a", "team-a", "monitoring", "xn--nxasmq6b", &"a".repeat(63)].map(namespace);
    for namespace in namespaces.iter().filter(|namespace| baseline.selects(namespace)) {
        let names: BTreeSet<&str> = baseline.planned(namespace).map(|(_, policy)| &*policy.name).collect();
        assert_eq!(baseline.planned(namespace).count(), names.len(), "each name is planned once");
    }
    assert!(!baseline.policies.is_empty() && !baseline.effective_selector.is_empty());
    let targets = targets(baseline);
    for policy in &baseline.policies {
        name_and_keys_are_taken_by_an_apiserver(policy);
        match (&policy.purpose, policy.scope) {
            (Purpose::Role(Role::DefaultDenyIngress), _) => lets_nothing_in(policy),
            (Purpose::Role(Role::DefaultDenyEgress), _) => lets_dns_out(policy),
            (Purpose::Role(Role::MonitoringCarveout), PolicyScope::Source(_)) => lets_sources_out(policy),
            (Purpose::Role(Role::MonitoringCarveout), _) => lets_named_pods_in(policy),
            (Purpose::Allow(_), _) => opens_what_it_names(policy),
        }
        what_is_sent_is_no_drift(baseline, &targets, policy);
    }
}

fn namespace(name: &str) -> Namespace {
    let labels = [("kubernetes.io/metadata.name", name), ("team", "sre")].into_iter().collect();
    Namespace::new(NamespaceName::observed(name), labels, Timestamp::UNIX_EPOCH)
}

fn name_and_keys_are_taken_by_an_apiserver(policy: &Rendered) {
    // A name may be longer than a label of DNS, if it has no other characters.
    let short = policy.name.get(policy.name.len().saturating_sub(40)..).unwrap_or_default().trim_start_matches('-');
    assert!(is_dns_label(short) && policy.name.len() <= LONGEST_NAME, "{}", policy.name);
    assert!(matches!(policy.scope, PolicyScope::Source(_)) || policy.name.ends_with(&policy.purpose.suffix()));
    for (key, value) in &policy.labels {
        assert_eq!((check_label_key(key), check_label_value(value)), (Ok(()), Ok(())));
    }
    policy.annotations.keys().for_each(|key| assert_eq!(check_label_key(key), Ok(())));
}

fn types(policy: &Rendered) -> Vec<&str> {
    policy.spec.policy_types.iter().flatten().map(String::as_str).collect()
}

fn ingress(policy: &Rendered) -> &[NetworkPolicyIngressRule] {
    policy.spec.ingress.as_deref().expect("all four fields are written out")
}

fn egress(policy: &Rendered) -> &[NetworkPolicyEgressRule] {
    policy.spec.egress.as_deref().expect("all four fields are written out")
}

fn selects_every_pod(policy: &Rendered) -> bool {
    let selector = policy.spec.pod_selector.as_ref().expect("all four fields are written out");
    selector.match_labels.is_none() && selector.match_expressions.is_none()
}

fn lets_nothing_in(policy: &Rendered) {
    assert!(selects_every_pod(policy));
    assert_eq!((types(policy), ingress(policy), egress(policy)), (vec!["Ingress"], [].as_slice(), [].as_slice()));
}

/// I8: the policy allows DNS over UDP and TCP to some peers, and opens nothing to everybody.
fn lets_dns_out(policy: &Rendered) {
    assert!(selects_every_pod(policy));
    assert_eq!((types(policy), ingress(policy)), (vec!["Egress"], [].as_slice()));
    let [rule, further @ ..] = egress(policy) else { unreachable!("a rule is for DNS") };
    is_for_dns(rule);
    let to = rule.to.as_deref().unwrap_or_default();
    // If DNS was found on other ports too, a separate rule adds those ports, only for peers that are already allowed.
    for rule in further {
        let (peers, ports) = (rule.to.as_deref().unwrap_or_default(), rule.ports.as_deref().unwrap_or_default());
        assert!(!peers.is_empty() && peers.iter().all(|peer| to.contains(peer)), "{rule:?}");
        assert!(!ports.is_empty(), "an empty list would open everything");
        ports.iter().for_each(is_bounded);
    }
}

/// I8: the rule allows DNS over UDP and TCP to some peers.
fn is_for_dns(rule: &NetworkPolicyEgressRule) {
    let (to, ports) = (rule.to.as_deref().unwrap_or_default(), rule.ports.as_deref().unwrap_or_default());
    assert!(!to.is_empty(), "an empty list of peers would open everything");
    for protocol in ["UDP", "TCP"] {
        let is_dns = |port: &NetworkPolicyPort| {
            port.port == Some(IntOrString::Int(53)) && port.protocol.as_deref() == Some(protocol) && port.end_port.is_none()
        };
        assert!(ports.iter().any(is_dns), "DNS over {protocol}");
    }
    ports.iter().for_each(is_bounded);
    to.iter().for_each(is_of_one_kind);
}

/// A peer is pods or a block, as an API server requires, and never everything at once.
fn is_of_one_kind(peer: &NetworkPolicyPeer) {
    let NetworkPolicyPeer { namespace_selector, pod_selector, ip_block } = peer;
    assert!((namespace_selector.is_some() || pod_selector.is_some()) != ip_block.is_some(), "{peer:?}");
}

/// It names its directions, each rule has peers, and a rule for DNS is the first one of egress (I8).
fn opens_what_it_names(policy: &Rendered) {
    let types = types(policy);
    assert!(!types.is_empty());
    assert_eq!(
        (types.contains(&"Ingress"), types.contains(&"Egress")),
        (!ingress(policy).is_empty(), !egress(policy).is_empty())
    );
    egress(policy).first().into_iter().for_each(is_for_dns);
    let rules = ingress(policy).iter().map(|rule| (&rule.from, &rule.ports));
    for (peers, ports) in rules.chain(egress(policy).iter().map(|rule| (&rule.to, &rule.ports))) {
        let peers = peers.as_deref().unwrap_or_default();
        assert!(!peers.is_empty(), "an empty list of peers would open everything");
        peers.iter().for_each(is_of_one_kind);
        assert!(ports.as_ref().is_none_or(|ports| !ports.is_empty()), "an empty list would open every port");
        ports.iter().flatten().for_each(is_bounded);
    }
}

fn lets_sources_out(policy: &Rendered) {
    assert_eq!((types(policy), ingress(policy)), (vec!["Egress"], [].as_slice()));
    let [dns, .., rule] = egress(policy) else { unreachable!("one rule is for DNS, and the last one is for scraping") };
    is_for_dns(dns);
    let (to, ports) = (rule.to.as_deref().unwrap_or_default(), rule.ports.as_deref().unwrap_or_default());
    assert!(!ports.is_empty(), "an empty list would open everything");
    ports.iter().for_each(is_bounded);
    let [peer] = to else { unreachable!("one peer names the pods that are scraped, by both selectors") };
    assert!(peer.namespace_selector.is_some() && peer.pod_selector.is_some() && peer.ip_block.is_none());
}

fn lets_named_pods_in(policy: &Rendered) {
    assert_eq!((types(policy), egress(policy)), (vec!["Ingress"], [].as_slice()));
    let [rule] = ingress(policy) else { unreachable!("one rule is for scraping, and there is no other") };
    let (from, ports) = (rule.from.as_deref().unwrap_or_default(), rule.ports.as_deref().unwrap_or_default());
    assert!(!from.is_empty() && !ports.is_empty(), "an empty list would open everything");
    ports.iter().for_each(is_bounded);
    for peer in from {
        let namespaces = peer.namespace_selector.as_ref().expect("both selectors in one peer");
        assert!(namespaces.match_labels.is_some() || namespaces.match_expressions.is_some(), "pods of every namespace");
        assert!(peer.pod_selector.is_some() && peer.ip_block.is_none());
    }
}

fn is_bounded(port: &NetworkPolicyPort) {
    let fits = |number: i32| (1..=65535).contains(&number);
    let ends_well = match &port.port {
        Some(IntOrString::Int(first)) => fits(*first) && port.end_port.is_none_or(|last| fits(last) && last >= *first),
        Some(IntOrString::String(name)) => (1..=15).contains(&name.len()) && port.end_port.is_none(),
        None => false,
    };
    assert!(ends_well && port.protocol.is_some(), "{port:?}");
}

/// I1: what the operator sends is, when read back, equal to the plan.
fn what_is_sent_is_no_drift(baseline: &Baseline, targets: &PlannedPolicies, policy: &Rendered) {
    let object = policy.object("team-a", None);
    let body = serde_json::to_value(policy.body("team-a", None)).expect("what is sent is JSON");
    assert_eq!(body, object);
    let object: SlimPolicy = serde_json::from_value(object).expect("what is sent is a policy");
    let print = Fingerprint::of(&NetworkPolicy::from(object), &mut Interner::default());
    assert!(print.ours && !print.pinned);
    let observed: Policies = [(policy.name.as_str().into(), print)].into_iter().collect();
    let at = baseline.policies.iter().enumerate().find(|(_, other)| std::ptr::eq(*other, policy));
    let planned = at.into_iter().filter_map(|(index, policy)| targets.of(index, policy));
    assert!(diff(planned, &observed, |_| true).iter().all(|drift| drift.policy != policy.name));
}
