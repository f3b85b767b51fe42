//! The checks that CEL cannot make at admission: one function for each part of a spec.

use jiff::SignedDuration;
use k8s_openapi::apimachinery::pkg::{apis::meta::v1::LabelSelector, util::intstr::IntOrString};
use kube::core::Selector as KubeSelector;

use super::{duration::duration, error::BaselineError, labels::Matcher};
use crate::{
    api::{
        baseline::{Dns, Monitoring, PolicyMetadata, SourceEgress},
        names::{self, SYSTEM_NAMESPACES},
        other_tools::OtherTools,
        peers::{IpBlock, Port},
        rollout as api,
        selector::Selector,
    },
    policy::{
        netpol::Block,
        rollout::{Share, Strategy as Rollout},
    },
};

/// Checks `spec.rollout` and converts it into a strategy.
pub fn check_rollout(rollout: &api::Rollout) -> Result<Rollout, BaselineError> {
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

/// Parses a wave interval: at most 720h (30 days).
fn interval(text: &str) -> Option<SignedDuration> {
    duration(text).filter(|interval| *interval <= SignedDuration::from_hours(720))
}

/// Checks a selector and converts it into one that can match labels. `field` is the path for the error.
pub fn matcher(field: &str, selector: &Selector) -> Result<Matcher, BaselineError> {
    check_selector(field, selector)?;
    KubeSelector::try_from(LabelSelector::from(selector))
        .map(Matcher::from)
        .map_err(|_| BaselineError::InvalidRequirement(field.into()))
}

/// Checks the keys, values and requirements of a selector.
fn check_selector(field: &str, selector: &Selector) -> Result<(), BaselineError> {
    use crate::api::selector::Operator::{DoesNotExist, Exists, In, NotIn};
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

/// Checks a selector if there is one.
pub fn check_optional_selector(field: &str, selector: Option<&Selector>) -> Result<(), BaselineError> {
    selector.map_or(Ok(()), |s| check_selector(field, s))
}

/// Checks `spec.monitoring`: sources, pod selector and ports.
pub fn check_monitoring(monitoring: &Monitoring) -> Result<(), BaselineError> {
    check_optional_selector("spec.monitoring.podSelector", monitoring.pod_selector.as_ref())?;
    if let Some(from) = &monitoring.from {
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
        for (i, port) in ports.iter().enumerate() {
            if !port_is_valid(port) {
                return Err(BaselineError::InvalidPort(format!("spec.monitoring.ports[{i}]")));
            }
        }
    }
    let has_number = |port: &Port| matches!(port.port, IntOrString::Int(_));
    let has_numbers = monitoring.ports.as_ref().is_some_and(|ports| ports.iter().all(has_number));
    if monitoring.source_egress == SourceEgress::Enforce && !has_numbers { Err(BaselineError::NamedEgressPort) } else { Ok(()) }
}

/// Whether this is a valid port number, port range or port name.
pub fn port_is_valid(port: &Port) -> bool {
    const NUMBERS: std::ops::RangeInclusive<i32> = 1..=65535;
    match &port.port {
        IntOrString::Int(first) => {
            NUMBERS.contains(first) && port.end_port.is_none_or(|last| NUMBERS.contains(&last) && last >= *first)
        }
        // An IANA service name: it needs a letter and must not contain two hyphens in a row.
        IntOrString::String(name) => {
            names::is_dns_label(name)
                && name.len() <= 15
                && name.bytes().any(|b| b.is_ascii_lowercase())
                && !name.contains("--")
                && port.end_port.is_none()
        }
    }
}

/// Checks `spec.dns`: peers and ports.
pub fn check_dns(dns: &Dns) -> Result<(), BaselineError> {
    for (i, peer) in dns.peers.iter().enumerate() {
        let kinds = [peer.ip_block.is_some(), peer.namespace_selector.is_some(), peer.same_namespace.is_some()];
        let is_one = kinds.into_iter().filter(|is| *is).count() == 1;
        if !is_one || (peer.pod_selector.is_some() && peer.namespace_selector.is_none()) {
            return Err(BaselineError::InvalidDnsPeer(i));
        }
        let same = peer.same_namespace.as_ref().and_then(|same| same.pod_selector.as_ref());
        check_optional_selector(&format!("spec.dns.peers[{i}].sameNamespace.podSelector"), same)?;
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

/// Checks an `ipBlock`: a CIDR, and exceptions inside of it.
pub fn check_ip_block(field: &str, block: &IpBlock) -> Result<(), BaselineError> {
    let outer = range(&format!("{field}.cidr"), &block.cidr)?;
    for except in &block.except {
        let field = format!("{field}.except");
        if !outer.has_part(&range(&field, except)?) {
            return Err(BaselineError::ExceptOutside { field, except: except.clone(), cidr: block.cidr.clone() });
        }
    }
    Ok(())
}

/// A range that the API server accepts in a policy.
fn range(field: &str, cidr: &str) -> Result<Block, BaselineError> {
    let invalid = |write: String| BaselineError::InvalidCidr { field: field.into(), cidr: cidr.into(), write };
    let block = Block::parse(cidr).ok_or_else(|| invalid("169.254.20.10/32, or fd00::a/128".into()))?;
    block.spelling(cidr).map_or(Ok(block), |write| Err(invalid(write)))
}

/// Checks `spec.metadata`: the name prefix, labels and annotations. Keys of the operator and of other tools are refused.
pub fn check_metadata(metadata: &PolicyMetadata, tools: &OtherTools) -> Result<(), BaselineError> {
    if let Some(prefix) = &metadata.name_prefix {
        let stem = prefix.strip_suffix('-').filter(|_| prefix.len() <= 40);
        let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if !stem.is_some_and(|s| !s.is_empty() && !s.starts_with('-') && s.bytes().all(inner)) {
            return Err(BaselineError::InvalidPrefix(prefix.clone()));
        }
    }
    for (key, value) in &metadata.labels {
        check_extra_key("labels", key, tools)?;
        names::check_label_value(value)
            .map_err(|e| BaselineError::InvalidMetadata { field: "labels", message: e.to_string() })?;
    }
    metadata.annotations.keys().try_for_each(|key| check_extra_key("annotations", key, tools))
}

/// Checks a key that the user adds to the policies.
fn check_extra_key(field: &'static str, key: &str, tools: &OtherTools) -> Result<(), BaselineError> {
    let invalid = |message: String| Err(BaselineError::InvalidMetadata { field, message });
    if key.starts_with(names::DOMAIN) || key == names::LABEL_MANAGED_BY {
        return invalid(format!("{key} belongs to the operator: use a key of your own"));
    }
    if tools.track_by(key) {
        return invalid(format!("{key}: another tool would take the policies for its own, and delete them; use another key"));
    }
    names::check_label_key(key).or_else(|e| invalid(e.to_string()))
}

/// All excluded names and globs, sorted: the built-in ones and the user's. Fails if a glob can match no namespace.
pub fn exclusions(user: &[String], include_system: bool, operator_namespace: &str) -> Result<Vec<String>, BaselineError> {
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

/// Whether a glob matches the whole text; `*` stands for any characters. The time is linear in the text for each `*`.
pub fn glob_matches(glob: &str, text: &str) -> bool {
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
}
