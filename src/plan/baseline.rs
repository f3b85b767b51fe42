//! One baseline, checked. Every check that CEL cannot make at admission is here, and its error becomes the condition's reason;
//! after it, planning is total.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::{
    apis::meta::v1::{LabelSelector, ObjectMeta},
    util::intstr::IntOrString,
};
use kube::{ResourceExt, core::Selector as Matcher};

use super::{
    Namespace,
    render::{self, Rendered},
    revision::Revision,
    words,
};
use crate::{
    api::{
        Role,
        baseline::{
            DeletionPolicy, Dns, ExistingNamespaces, IpBlock, Mode, Monitoring, PolicyBaseline, PolicyMetadata, Port, Selector,
        },
        names::{self, LabelError, SYSTEM_NAMESPACES},
        rollout as api,
    },
    netpol::Block,
    rollout::{Share, Strategy as Rollout},
};

/// A baseline that can be planned with.
#[derive(Debug)]
pub struct Baseline {
    /// Its name.
    pub name: Arc<str>,
    /// When it was created, to the second.
    pub created: Timestamp,
    /// Whether it writes.
    pub mode: Mode,
    /// It writes and removes nothing for now, and keeps what it has.
    pub suspended: bool,
    /// What it does with namespaces older than itself.
    pub existing: ExistingNamespaces,
    /// Its rank among baselines.
    pub priority: i32,
    /// What becomes of its policies when it is deleted.
    pub deletion_policy: DeletionPolicy,
    /// It is being deleted.
    pub deleting: bool,
    /// Selector and exclusions in words.
    pub effective_selector: String,
    /// Its policies, rendered once.
    pub policies: Vec<Rendered>,
    /// Its name, or that of a former revision of it.
    pub key: Arc<str>,
    /// What of its spec is written.
    pub revision: Revision,
    /// How a change goes out, if not at once.
    pub rollout: Option<Rollout>,
    /// What was checked, but for its status.
    pub(super) object: PolicyBaseline,
    canaries: Option<Matcher>,
    selector: Matcher,
    exclude: Vec<String>,
    scraped: Matcher,
    scrapers: Vec<Matcher>,
}

/// Why a baseline cannot be planned with. Says where, and what to write instead.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum BaselineError {
    /// The object does not decode.
    #[error("the object cannot be read: {0}. Compare it with `kubectl explain policybaseline.spec`")]
    Undecodable(String),
    /// A selector has a bad key or value.
    #[error("{field}: {source}")]
    InvalidSelector {
        /// Where.
        field: String,
        /// What is wrong.
        source: LabelError,
    },
    /// A requirement has values it must not have, or lacks them.
    #[error("{0}: In and NotIn need values; Exists and DoesNotExist take none")]
    InvalidRequirement(String),
    /// A name or glob that can match no namespace.
    #[error("spec.excludeNamespaces: {0:?} can match no namespace: use lower-case letters, digits, '-' and '*'")]
    InvalidExclusion(String),
    /// No role.
    #[error("spec.policies: name at least one policy, or leave the field out for all three")]
    NoPolicies,
    /// A list that must not be empty is.
    #[error("{0}: must not be empty, an empty list would open everything; leave the field out for the default")]
    EmptyList(&'static str),
    /// A monitoring source lacks a selector, or selects every namespace.
    #[error("spec.monitoring.from[{0}]: give a namespaceSelector that is not empty and a podSelector, in one entry")]
    InvalidSource(usize),
    /// A DNS peer is neither pods nor addresses, or both.
    #[error("spec.dns.peers[{0}]: name pods by namespaceSelector (with podSelector), or addresses by ipBlock: one of the two")]
    InvalidDnsPeer(usize),
    /// Not a range of addresses.
    #[error("{field}: {cidr:?} is no range of addresses: write 169.254.20.10/32, or fd00::a/128")]
    InvalidCidr {
        /// Where.
        field: String,
        /// The text.
        cidr: String,
    },
    /// Not a port.
    #[error(
        "{0}: a port is a number from 1 to 65535 or a name of at most 15 lower-case letters, digits and '-'; endPort needs a number not above it"
    )]
    InvalidPort(String),
    /// The prefix makes no name.
    #[error(
        "spec.metadata.namePrefix: {0:?} is no prefix: use at most 40 lower-case letters, digits and '-', ending in '-', as in baseline-"
    )]
    InvalidPrefix(String),
    /// A label or annotation key is bad or taken.
    #[error("spec.metadata.{field}: {message}")]
    InvalidMetadata {
        /// labels or annotations.
        field: &'static str,
        /// What is wrong.
        message: String,
    },
    /// A rollout that cannot be followed.
    #[error("spec.rollout.{0}")]
    InvalidRollout(&'static str),
    /// The name of the baseline makes no label value.
    #[error("metadata.name: {0:?} is longer than 63 characters, and becomes a label value: use a shorter name")]
    InvalidName(String),
    /// It names this install, and an older one lives.
    #[error(
        "an older install of policy-baseline works in namespace {0}, and only one may; remove one of them, or the annotation policybaseline.io/instance from this baseline so that the older one takes it up"
    )]
    AnotherInstance(String),
}

impl BaselineError {
    /// The condition's reason.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Undecodable(_) => "Undecodable",
            Self::InvalidSelector { .. } | Self::InvalidRequirement(_) => "InvalidSelector",
            Self::InvalidExclusion(_) => "InvalidExclusion",
            Self::NoPolicies => "NoPolicies",
            Self::EmptyList(_) => "EmptyList",
            Self::InvalidSource(_) => "InvalidMonitoringSource",
            Self::InvalidDnsPeer(_) => "InvalidDnsPeer",
            Self::InvalidCidr { .. } => "InvalidCidr",
            Self::InvalidPort(_) => "InvalidPort",
            Self::InvalidPrefix(_) => "InvalidNamePrefix",
            Self::InvalidMetadata { .. } => "InvalidMetadata",
            Self::InvalidRollout(_) => "InvalidRollout",
            Self::InvalidName(_) => "InvalidName",
            Self::AnotherInstance(_) => "AnotherInstance",
        }
    }
}

impl Baseline {
    /// Checks a baseline. `operator_namespace` is excluded like a system namespace.
    pub fn check(object: &PolicyBaseline, operator_namespace: &str) -> Result<Self, BaselineError> {
        let spec = &object.spec;
        let name = object.name_any();
        if names::check_label_value(&name).is_err() {
            return Err(BaselineError::InvalidName(name));
        }
        if spec.policies.is_empty() {
            return Err(BaselineError::NoPolicies);
        }
        let selector = spec.namespace_selector.clone().unwrap_or_default();
        let exclude = exclusions(&spec.exclude_namespaces, spec.include_system_namespaces, operator_namespace)?;
        let monitoring = spec.monitoring.clone().unwrap_or_default();
        check_monitoring(&monitoring)?;
        let dns = spec.dns.clone().unwrap_or_default();
        check_dns(&dns)?;
        let metadata = spec.metadata.clone().unwrap_or_default();
        check_metadata(&metadata)?;

        let rollout = spec.rollout.as_ref().map(check_rollout).transpose()?;
        let canaries = spec.rollout.as_ref().and_then(|r| r.canary_selector.as_ref());
        let canaries = canaries.map(|s| matcher("spec.rollout.canarySelector", s)).transpose()?;

        let scrapers: Vec<Selector> =
            render::monitoring_sources(&monitoring).into_iter().map(|(namespaces, _)| namespaces).collect();
        Ok(Self {
            created: object.creation_timestamp().map_or(Timestamp::UNIX_EPOCH, |t| t.0),
            mode: spec.mode,
            suspended: spec.suspend,
            existing: spec.existing_namespaces,
            priority: spec.priority,
            deletion_policy: spec.deletion_policy,
            deleting: object.metadata.deletion_timestamp.is_some(),
            effective_selector: words::effective_selector(&selector, &exclude),
            selector: matcher("spec.namespaceSelector", &selector)?,
            scraped: matcher("spec.monitoring.namespaceSelector", &monitoring.namespace_selector.clone().unwrap_or_default())?,
            scrapers: scrapers.iter().map(|s| matcher("spec.monitoring.from", s)).collect::<Result<_, _>>()?,
            exclude,
            policies: Role::ALL
                .into_iter()
                .filter(|role| spec.policies.contains(role))
                .map(|role| render::render(role, &name, &dns, &monitoring, &metadata))
                .collect(),
            key: name.as_str().into(),
            revision: Revision::of(spec),
            rollout,
            canaries,
            object: checked_object(object),
            name: name.into(),
        })
    }

    /// Whether a change reaches this namespace first.
    pub fn is_canary(&self, ns: &Namespace) -> bool {
        self.canaries.as_ref().is_some_and(|canaries| ns.labels.are_selected_by(canaries))
    }

    /// Whether the selector matches and no exclusion does. Precedence is not asked here.
    pub fn selects(&self, ns: &Namespace) -> bool {
        !self.exclude.iter().any(|glob| glob_matches(glob, ns.name.as_str())) && ns.labels.are_selected_by(&self.selector)
    }

    /// Whether a role is planned in this namespace, which the baseline selects.
    pub fn plans(&self, role: Role, ns: &Namespace) -> bool {
        match role {
            Role::DefaultDenyIngress => true,
            // Monitoring pods need the apiserver and the kubelets, which no portable rule can name.
            Role::DefaultDenyEgress => !self.scrapers.iter().any(|s| ns.labels.are_selected_by(s)),
            Role::MonitoringCarveout => ns.labels.are_selected_by(&self.scraped),
        }
    }

    /// The policies planned in this namespace, which the baseline selects.
    pub fn planned<'a>(&'a self, ns: &'a Namespace) -> impl Iterator<Item = (usize, &'a Rendered)> {
        self.policies.iter().enumerate().filter(move |(_, p)| self.plans(p.role, ns))
    }
}

/// What a former revision is checked with, but for what it wrote.
fn checked_object(object: &PolicyBaseline) -> PolicyBaseline {
    let PolicyBaseline { metadata, spec, .. } = object;
    let metadata = ObjectMeta {
        name: metadata.name.clone(),
        creation_timestamp: metadata.creation_timestamp.clone(),
        deletion_timestamp: metadata.deletion_timestamp.clone(),
        ..ObjectMeta::default()
    };
    PolicyBaseline { metadata, spec: spec.clone(), status: None }
}

fn check_rollout(rollout: &api::Rollout) -> Result<Rollout, BaselineError> {
    let invalid = BaselineError::InvalidRollout;
    let share = match &rollout.max_namespaces_per_wave {
        IntOrString::Int(number) => usize::try_from(*number).ok().filter(|n| *n > 0).map(Share::Number),
        IntOrString::String(text) => {
            let percent = text.strip_suffix('%').and_then(|n| n.parse().ok());
            percent.filter(|n| (1..=100).contains(n)).map(Share::Percent)
        }
    };
    let share = share.ok_or(invalid("maxNamespacesPerWave: a number from 1 on, or a share from 1% to 100%"))?;
    let interval = interval(&rollout.interval)
        .ok_or(invalid("interval: write hours, minutes and seconds, such as 10m or 1h30m; at most 720h"))?;
    if rollout.canary_selector.as_ref().is_some_and(Selector::is_empty) {
        return Err(invalid("canarySelector: must not be empty: {} would make every namespace a canary"));
    }
    Ok(Rollout { share, interval, max_failures: rollout.max_failures })
}

/// Hours, minutes and seconds, as in 1h30m.
fn interval(text: &str) -> Option<SignedDuration> {
    const LONGEST: i64 = 720 * 60 * 60;
    let (mut rest, mut seconds) = (text, 0_i64);
    while let Some(at) = rest.find(|c: char| !c.is_ascii_digit()) {
        let (number, unit) = rest.split_at(at);
        let unit_seconds = match unit.chars().next()? {
            'h' => 60 * 60,
            'm' => 60,
            's' => 1,
            _ => return None,
        };
        seconds = seconds.checked_add(number.parse::<i64>().ok()?.checked_mul(unit_seconds)?)?;
        rest = &unit[1..];
    }
    (rest.is_empty() && !text.is_empty() && seconds <= LONGEST).then(|| SignedDuration::from_secs(seconds))
}

fn matcher(field: &str, selector: &Selector) -> Result<Matcher, BaselineError> {
    check_selector(field, selector)?;
    Matcher::try_from(LabelSelector::from(selector)).map_err(|_| BaselineError::InvalidRequirement(field.into()))
}

fn check_selector(field: &str, selector: &Selector) -> Result<(), BaselineError> {
    use crate::api::baseline::Operator::{DoesNotExist, Exists, In, NotIn};
    let invalid = |source| BaselineError::InvalidSelector { field: field.into(), source };
    for (key, value) in &selector.match_labels {
        names::check_label_key(key).and_then(|()| names::check_label_value(value)).map_err(invalid)?;
    }
    for r in &selector.match_expressions {
        names::check_label_key(&r.key).map_err(invalid)?;
        r.values.iter().try_for_each(|v| names::check_label_value(v)).map_err(invalid)?;
        let values_fit = match r.operator {
            In | NotIn => !r.values.is_empty(),
            Exists | DoesNotExist => r.values.is_empty(),
        };
        if !values_fit {
            return Err(BaselineError::InvalidRequirement(format!("{field}.matchExpressions, key {}", r.key)));
        }
    }
    Ok(())
}

fn check_optional_selector(field: &str, selector: Option<&Selector>) -> Result<(), BaselineError> {
    selector.map_or(Ok(()), |s| check_selector(field, s))
}

fn check_monitoring(monitoring: &Monitoring) -> Result<(), BaselineError> {
    check_optional_selector("spec.monitoring.podSelector", monitoring.pod_selector.as_ref())?;
    if let Some(from) = &monitoring.from {
        if from.is_empty() {
            return Err(BaselineError::EmptyList("spec.monitoring.from"));
        }
        for (i, source) in from.iter().enumerate() {
            let (Some(namespaces), Some(pods)) = (&source.namespace_selector, &source.pod_selector) else {
                return Err(BaselineError::InvalidSource(i));
            };
            if namespaces.is_empty() {
                return Err(BaselineError::InvalidSource(i));
            }
            check_selector(&format!("spec.monitoring.from[{i}].namespaceSelector"), namespaces)?;
            check_selector(&format!("spec.monitoring.from[{i}].podSelector"), pods)?;
        }
    }
    if let Some(ports) = &monitoring.ports {
        if ports.is_empty() {
            return Err(BaselineError::EmptyList("spec.monitoring.ports"));
        }
        for (i, port) in ports.iter().enumerate() {
            if !port_is_valid(port) {
                return Err(BaselineError::InvalidPort(format!("spec.monitoring.ports[{i}]")));
            }
        }
    }
    Ok(())
}

fn port_is_valid(port: &Port) -> bool {
    const NUMBERS: std::ops::RangeInclusive<i32> = 1..=65535;
    match &port.port {
        IntOrString::Int(first) => {
            NUMBERS.contains(first) && port.end_port.is_none_or(|last| NUMBERS.contains(&last) && last >= *first)
        }
        // An IANA service name: it has a letter, and no two hyphens in a row.
        IntOrString::String(name) => {
            names::is_dns_label(name)
                && name.len() <= 15
                && name.bytes().any(|b| b.is_ascii_lowercase())
                && !name.contains("--")
                && port.end_port.is_none()
        }
    }
}

fn check_dns(dns: &Dns) -> Result<(), BaselineError> {
    for (i, peer) in dns.peers.iter().enumerate() {
        if peer.ip_block.is_some() == peer.namespace_selector.is_some()
            || (peer.pod_selector.is_some() && peer.ip_block.is_some())
        {
            return Err(BaselineError::InvalidDnsPeer(i));
        }
        check_optional_selector(&format!("spec.dns.peers[{i}].namespaceSelector"), peer.namespace_selector.as_ref())?;
        check_optional_selector(&format!("spec.dns.peers[{i}].podSelector"), peer.pod_selector.as_ref())?;
        if let Some(block) = &peer.ip_block {
            check_ip_block(&format!("spec.dns.peers[{i}].ipBlock"), block)?;
        }
    }
    match dns.ports.iter().find(|p| !(1..=65535).contains(*p)) {
        Some(port) => Err(BaselineError::InvalidPort(format!("spec.dns.ports, {port}"))),
        None => Ok(()),
    }
}

fn check_ip_block(field: &str, block: &IpBlock) -> Result<(), BaselineError> {
    let invalid = |field: String, cidr: &str| BaselineError::InvalidCidr { field, cidr: cidr.into() };
    let outer = Block::parse(&block.cidr).ok_or_else(|| invalid(format!("{field}.cidr"), &block.cidr))?;
    for except in &block.except {
        let inner = Block::parse(except).filter(|inner| outer.has_part(inner));
        inner.ok_or_else(|| invalid(format!("{field}.except (which must lie inside cidr)"), except))?;
    }
    Ok(())
}

fn check_metadata(metadata: &PolicyMetadata) -> Result<(), BaselineError> {
    if let Some(prefix) = &metadata.name_prefix {
        let stem = prefix.strip_suffix('-').filter(|_| prefix.len() <= 40);
        let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if !stem.is_some_and(|s| !s.is_empty() && !s.starts_with('-') && s.bytes().all(inner)) {
            return Err(BaselineError::InvalidPrefix(prefix.clone()));
        }
    }
    for (key, value) in &metadata.labels {
        check_extra_key("labels", key)?;
        names::check_label_value(value)
            .map_err(|e| BaselineError::InvalidMetadata { field: "labels", message: e.to_string() })?;
    }
    metadata.annotations.keys().try_for_each(|key| check_extra_key("annotations", key))
}

fn check_extra_key(field: &'static str, key: &str) -> Result<(), BaselineError> {
    let invalid = |message: String| Err(BaselineError::InvalidMetadata { field, message });
    if key.starts_with(names::DOMAIN) || key == names::LABEL_MANAGED_BY {
        return invalid(format!("{key} belongs to the operator: use a key of your own"));
    }
    if names::is_tracking_key(key) {
        return invalid(format!("{key} would make another tool delete the policies as its own: use another key"));
    }
    names::check_label_key(key).or_else(|e| invalid(e.to_string()))
}

fn exclusions(user: &[String], include_system: bool, operator_namespace: &str) -> Result<Vec<String>, BaselineError> {
    let fits = |glob: &str| glob.len() <= 63 && !glob.is_empty() && names::is_dns_label(&glob.replace('*', "x"));
    if let Some(bad) = user.iter().find(|glob| !fits(glob)) {
        return Err(BaselineError::InvalidExclusion(bad.clone()));
    }
    let system = if include_system { &[] } else { SYSTEM_NAMESPACES.as_slice() };
    let own = if include_system { None } else { Some(operator_namespace) };
    let mut all: Vec<String> = system.iter().copied().chain(own).chain(user.iter().map(String::as_str)).map(Into::into).collect();
    all.sort_unstable();
    all.dedup();
    Ok(all)
}

/// Whether a glob matches a whole text; `*` stands for any characters. Linear in the text for each `*`.
fn glob_matches(glob: &str, text: &str) -> bool {
    let Some((first, rest)) = glob.split_once('*') else { return glob == text };
    let Some(mut text) = text.strip_prefix(first) else { return false };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let Some(last) = parts.pop() else { return true };
    for part in parts {
        match text.find(part) {
            Some(at) => text = &text[at + part.len()..],
            None => return false,
        }
    }
    text.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testkit::{baseline_object, namespace};

    fn check(spec: serde_json::Value) -> Result<Baseline, BaselineError> {
        Baseline::check(&baseline_object("b", spec), "operator")
    }

    fn reason(spec: serde_json::Value) -> &'static str {
        check(spec).map_or_else(|e| e.reason(), |_| "valid")
    }

    #[test]
    fn globs_match_whole_names() {
        for (glob, text) in [
            ("a", "a"),
            ("*", "x"),
            ("a*", "a"),
            ("a*", "abc"),
            ("*c", "abc"),
            ("a*c", "ac"),
            ("a*b*c", "axbxc"),
            ("*-x-*", "a-x-b"),
        ] {
            assert!(glob_matches(glob, text), "{glob} {text}");
        }
        for (glob, text) in [("a", "ab"), ("a*", "ba"), ("a*a", "a"), ("a*b*c", "acb"), ("*b", "bc"), ("a*bc", "abd")] {
            assert!(!glob_matches(glob, text), "{glob} {text}");
        }
    }

    #[test]
    fn an_empty_spec_is_valid_and_selects_all_but_the_system_namespaces() {
        let b = check(serde_json::json!({})).unwrap();
        assert!(b.selects(&namespace("team-a", &[])));
        for ns in ["kube-system", "kube-public", "kube-node-lease", "operator"] {
            assert!(!b.selects(&namespace(ns, &[])), "{ns}");
        }
        assert_eq!(b.policies.len(), 3);
    }

    #[test]
    fn exclusions_add_to_the_built_in_ones() {
        let b = check(serde_json::json!({"excludeNamespaces": ["openshift-*"]})).unwrap();
        assert!(!b.selects(&namespace("openshift-dns", &[])));
        assert!(!b.selects(&namespace("kube-system", &[])));
    }

    #[test]
    fn system_namespaces_need_the_explicit_way_in() {
        let b = check(serde_json::json!({"includeSystemNamespaces": true})).unwrap();
        assert!(b.selects(&namespace("kube-system", &[])));
        assert!(b.selects(&namespace("operator", &[])));
    }

    #[test]
    fn the_namespace_of_the_monitoring_pods_gets_no_egress_policy() {
        let b = check(serde_json::json!({})).unwrap();
        assert!(!b.plans(Role::DefaultDenyEgress, &namespace("monitoring", &[])));
        assert!(b.plans(Role::DefaultDenyIngress, &namespace("monitoring", &[])));
        assert!(b.plans(Role::DefaultDenyEgress, &namespace("team-a", &[])));
    }

    #[test]
    fn a_namespace_can_be_asked_to_opt_in_to_the_carve_out() {
        let b = check(
            serde_json::json!({"monitoring": {"namespaceSelector": {"matchLabels": {"monitoring.io/allow-scrape": "true"}}}}),
        )
        .unwrap();
        assert!(!b.plans(Role::MonitoringCarveout, &namespace("a", &[])));
        assert!(b.plans(Role::MonitoringCarveout, &namespace("a", &[("monitoring.io/allow-scrape", "true")])));
    }

    #[test]
    fn what_cel_cannot_see_is_named_by_reason() {
        use serde_json::json;
        for (spec, want) in [
            (json!({"namespaceSelector": {"matchLabels": {"Bad Key": "x"}}}), "InvalidSelector"),
            (json!({"namespaceSelector": {"matchLabels": {"tier": "not/a value"}}}), "InvalidSelector"),
            (json!({"namespaceSelector": {"matchExpressions": [{"key": "a", "operator": "In"}]}}), "InvalidSelector"),
            (
                json!({"namespaceSelector": {"matchExpressions": [{"key": "a", "operator": "Exists", "values": ["b"]}]}}),
                "InvalidSelector",
            ),
            (json!({"excludeNamespaces": ["Team"]}), "InvalidExclusion"),
            (json!({"policies": []}), "NoPolicies"),
            (json!({"monitoring": {"from": []}}), "EmptyList"),
            (json!({"monitoring": {"ports": []}}), "EmptyList"),
            (json!({"monitoring": {"from": [{"namespaceSelector": {"matchLabels": {"a": "b"}}}]}}), "InvalidMonitoringSource"),
            (json!({"monitoring": {"from": [{"namespaceSelector": {}, "podSelector": {}}]}}), "InvalidMonitoringSource"),
            (json!({"monitoring": {"ports": [{"port": 0}]}}), "InvalidPort"),
            (json!({"monitoring": {"ports": [{"port": "8080"}]}}), "InvalidPort"),
            (json!({"monitoring": {"ports": [{"port": 90, "endPort": 80}]}}), "InvalidPort"),
            (json!({"monitoring": {"ports": [{"port": "web", "endPort": 80}]}}), "InvalidPort"),
            (json!({"dns": {"peers": [{"podSelector": {}}]}}), "InvalidDnsPeer"),
            (json!({"dns": {"peers": [{}]}}), "InvalidDnsPeer"),
            (json!({"dns": {"peers": [{"ipBlock": {"cidr": "169.254.20.10"}}]}}), "InvalidCidr"),
            (json!({"dns": {"peers": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["11.0.0.0/16"]}}]}}), "InvalidCidr"),
            (json!({"dns": {"ports": [70000]}}), "InvalidPort"),
            (json!({"rollout": {"maxNamespacesPerWave": 0}}), "InvalidRollout"),
            (json!({"rollout": {"maxNamespacesPerWave": "0%"}}), "InvalidRollout"),
            (json!({"rollout": {"maxNamespacesPerWave": "5"}}), "InvalidRollout"),
            (json!({"rollout": {"interval": "10"}}), "InvalidRollout"),
            (json!({"rollout": {"interval": "é"}}), "InvalidRollout"),
            (json!({"rollout": {"interval": "721h"}}), "InvalidRollout"),
            (json!({"rollout": {"interval": "99999999999999999999h"}}), "InvalidRollout"),
            (json!({"rollout": {"canarySelector": {}}}), "InvalidRollout"),
            (json!({"rollout": {"canarySelector": {"matchLabels": {"Bad Key": "x"}}}}), "InvalidSelector"),
            (json!({"rollout": {}}), "valid"),
            (json!({"rollout": {"maxNamespacesPerWave": null}}), "valid"),
            (json!({"rollout": {"maxNamespacesPerWave": "100%", "interval": "1h30m5s"}}), "valid"),
            (json!({"metadata": {"namePrefix": "baseline"}}), "InvalidNamePrefix"),
            (json!({"metadata": {"namePrefix": ""}}), "InvalidNamePrefix"),
            (json!({"metadata": {"labels": {"policybaseline.io/role": "x"}}}), "InvalidMetadata"),
            (json!({"metadata": {"labels": {"app.kubernetes.io/instance": "x"}}}), "InvalidMetadata"),
            (json!({"metadata": {"annotations": {"bad key": "x"}}}), "InvalidMetadata"),
            (json!({"dns": {"peers": [{"ipBlock": {"cidr": "fd00::a/128"}}], "ports": [5353]}}), "valid"),
            (json!({"dns": {"peers": [{"ipBlock": {"cidr": "0.0.0.0/0", "except": ["10.0.0.0/8"]}}]}}), "valid"),
        ] {
            assert_eq!(reason(spec.clone()), want, "{spec}");
        }
        assert_eq!(
            Baseline::check(&baseline_object(&"n".repeat(64), json!({})), "operator").unwrap_err().reason(),
            "InvalidName"
        );
    }
}
