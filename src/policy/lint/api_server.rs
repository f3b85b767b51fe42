//! What the API server refuses in a NetworkPolicy, in its words. The same checks in the same order:
//! <https://github.com/kubernetes/kubernetes/blob/v1.36.3/pkg/apis/networking/validation/validation.go>.

use k8s_openapi::{
    api::networking::v1::{NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec},
    apimachinery::pkg::{apis::meta::v1::LabelSelector, util::intstr::IntOrString},
};

use super::{found::RuleHit, given::LintDocument, rule::LintRule};
use crate::{
    api::names::{check_label_value, is_dns_label},
    policy::netpol::Block,
};

const LABEL_VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
const LABEL_NAME: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const PORT_NUMBER: &str = "must be between 1 and 65535, inclusive";

/// What is refused in the metadata and the spec of a policy.
pub fn refused(document: &LintDocument, spec: &NetworkPolicySpec) -> Vec<RuleHit> {
    let mut all = Refusals::default();
    all.metadata(document);
    all.selector("spec.podSelector", spec.pod_selector.as_ref());
    for (index, rule) in spec.ingress.iter().flatten().enumerate() {
        all.rule(&format!("spec.ingress[{index}]"), ("from", rule.from.as_deref()), rule.ports.as_deref());
    }
    for (index, rule) in spec.egress.iter().flatten().enumerate() {
        all.rule(&format!("spec.egress[{index}]"), ("to", rule.to.as_deref()), rule.ports.as_deref());
    }
    let types = spec.policy_types.as_deref().unwrap_or_default();
    if types.len() > 2 {
        let shown = types.iter().map(|one| format!("{one:?}")).collect::<Vec<_>>().join(",");
        all.add("spec.policyTypes", &format!("Invalid value: [{shown}]: may not specify more than two policyTypes"));
        return all.0;
    }
    for (index, one) in types.iter().enumerate().filter(|(_, one)| !["Ingress", "Egress"].contains(&&***one)) {
        let message = format!("Unsupported value: {one:?}: supported values: \"Ingress\", \"Egress\"");
        all.add(&format!("spec.policyTypes[{index}]"), &message);
    }
    all.0
}

#[derive(Default)]
struct Refusals(Vec<RuleHit>);

impl Refusals {
    fn add(&mut self, path: &str, message: &str) {
        self.add_for(LintRule::RefusedByApiServer, path, message);
    }

    fn add_for(&mut self, rule: LintRule, path: &str, message: &str) {
        self.0.push(RuleHit::new(rule, path, format!("{path}: {message}")));
    }

    fn invalid(&mut self, path: &str, value: &str, why: &str) {
        self.add(path, &format!("Invalid value: {value:?}: {why}"));
    }

    fn metadata(&mut self, document: &LintDocument) {
        let has_generated = document.node.at("metadata.generateName").is_some();
        match document.name() {
            None if !has_generated => self.add("metadata.name", "Required value: name or generateName is required"),
            Some(name) => {
                if name.len() > 253 {
                    self.invalid("metadata.name", name, "must be no more than 253 bytes");
                }
                if !name.split('.').all(is_dns_part) {
                    self.invalid("metadata.name", name, SUBDOMAIN);
                }
            }
            None => {}
        }
        if let Some(namespace) = document.namespace()
            && !is_dns_label(namespace)
        {
            let why = if namespace.len() > 63 { "must be no more than 63 bytes" } else { LABEL };
            self.invalid("metadata.namespace", namespace, why);
        }
        for (key, value) in document.node.labels("metadata.labels") {
            self.label("metadata.labels", &key, &value);
        }
    }

    fn label(&mut self, path: &str, key: &str, value: &str) {
        self.label_key(path, key);
        self.label_value(path, value);
    }

    fn label_key(&mut self, path: &str, key: &str) {
        let mut parts = key.split('/');
        let (prefix, name) = match (parts.next(), parts.next(), parts.next()) {
            (Some(name), None, _) => (None, name),
            (Some(prefix), Some(name), None) => (Some(prefix), name),
            _ => {
                let message = format!(
                    "a valid label key {LABEL_NAME} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
                );
                return self.invalid(path, key, &message);
            }
        };
        match prefix {
            Some("") => self.invalid(path, key, "prefix part must be non-empty"),
            Some(prefix) if prefix.len() > 253 => self.invalid(path, key, "prefix part must be no more than 253 bytes"),
            Some(prefix) if !prefix.split('.').all(is_dns_part) => self.invalid(path, key, &format!("prefix part {SUBDOMAIN}")),
            _ => {}
        }
        if name.is_empty() {
            self.invalid(path, key, "name part must be non-empty");
        } else if name.len() > 63 {
            self.invalid(path, key, "name part must be no more than 63 bytes");
        }
        if name.is_empty() || !is_label_text(name) {
            self.invalid(path, key, &format!("name part {LABEL_NAME}"));
        }
    }

    fn label_value(&mut self, path: &str, value: &str) {
        if value.len() > 63 {
            self.invalid(path, value, "must be no more than 63 bytes");
        }
        if !is_label_text(value) {
            self.invalid(path, value, LABEL_VALUE);
        }
    }

    fn selector(&mut self, path: &str, selector: Option<&LabelSelector>) {
        let Some(selector) = selector else { return };
        for (key, value) in selector.match_labels.iter().flatten() {
            self.label(&format!("{path}.matchLabels"), key, value);
        }
        for (index, requirement) in selector.match_expressions.iter().flatten().enumerate() {
            let path = format!("{path}.matchExpressions[{index}]");
            let values = requirement.values.as_deref().unwrap_or_default();
            match &*requirement.operator {
                "In" | "NotIn" if values.is_empty() => {
                    self.add(&format!("{path}.values"), "Required value: must be specified when `operator` is 'In' or 'NotIn'");
                }
                "Exists" | "DoesNotExist" if !values.is_empty() => self.add(
                    &format!("{path}.values"),
                    "Forbidden: may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
                ),
                "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
                other => self.invalid(&format!("{path}.operator"), other, "not a valid selector operator"),
            }
            self.label_key(&format!("{path}.key"), &requirement.key);
            for (at, value) in values.iter().enumerate() {
                self.label_value(&format!("{path}.values[{at}]"), value);
            }
        }
    }

    fn rule(&mut self, path: &str, (side, peers): (&str, Option<&[NetworkPolicyPeer]>), ports: Option<&[NetworkPolicyPort]>) {
        for (index, port) in ports.into_iter().flatten().enumerate() {
            self.port(&format!("{path}.ports[{index}]"), port);
        }
        for (index, peer) in peers.into_iter().flatten().enumerate() {
            self.peer(&format!("{path}.{side}[{index}]"), peer);
        }
    }

    fn port(&mut self, path: &str, port: &NetworkPolicyPort) {
        let is_valid = |number: i32| (1..=65535).contains(&number);
        if let Some(protocol) = port.protocol.as_deref().filter(|protocol| !["TCP", "UDP", "SCTP"].contains(protocol)) {
            let message = format!("Unsupported value: {protocol:?}: supported values: \"TCP\", \"UDP\", \"SCTP\"");
            self.add(&format!("{path}.protocol"), &message);
        }
        let end = format!("{path}.endPort");
        match (&port.port, port.end_port) {
            (Some(IntOrString::Int(first)), last) => {
                if !is_valid(*first) {
                    self.add(&format!("{path}.port"), &format!("Invalid value: {first}: {PORT_NUMBER}"));
                }
                let Some(last) = last else { return };
                if last < *first {
                    self.add(&end, &format!("Invalid value: {first}: must be greater than or equal to `port`"));
                }
                if !is_valid(last) {
                    self.add(&end, &format!("Invalid value: {last}: {PORT_NUMBER}"));
                }
            }
            (Some(IntOrString::String(name)), last) => {
                if let Some(last) = last {
                    self.add(&end, &format!("Invalid value: {last}: may not be specified when `port` is non-numeric"));
                }
                for why in port_name(name) {
                    self.invalid(&format!("{path}.port"), name, why);
                }
            }
            (None, Some(last)) => {
                self.add(&end, &format!("Invalid value: {last}: may not be specified when `port` is not specified"));
            }
            (None, None) => {}
        }
    }

    fn peer(&mut self, path: &str, peer: &NetworkPolicyPeer) {
        self.selector(&format!("{path}.podSelector"), peer.pod_selector.as_ref());
        self.selector(&format!("{path}.namespaceSelector"), peer.namespace_selector.as_ref());
        let has_selector = peer.pod_selector.is_some() || peer.namespace_selector.is_some();
        let Some(block) = &peer.ip_block else {
            if !has_selector {
                self.add(path, "Required value: must specify a peer");
            }
            return;
        };
        let cidr = format!("{path}.ipBlock.cidr");
        if block.cidr.is_empty() {
            self.add(&cidr, "Required value");
        } else {
            let whole = self.range(&cidr, &block.cidr);
            for (index, text) in block.except.iter().flatten().enumerate().filter(|_| whole.is_some()) {
                let path = format!("{path}.ipBlock.except[{index}]");
                let except = self.range(&path, text);
                if except.is_some_and(|except| whole.is_some_and(|whole| !whole.has_part(&except))) {
                    let message = format!("Invalid value: {text:?}: must be a strict subset of `cidr`");
                    self.add_for(LintRule::ExceptOutsideCidr, &path, &message);
                }
            }
        }
        if has_selector {
            self.add(path, "Forbidden: may not specify both ipBlock and another peer");
        }
    }

    /// Reads a range of addresses.
    fn range(&mut self, path: &str, text: &str) -> Option<Block> {
        let Some(block) = Block::parse(text) else {
            let is_lenient = without_leading_zeros(text).is_some_and(|text| Block::parse(&text).is_some());
            let why = if is_lenient {
                "must not have leading 0s in IP or prefix length"
            } else {
                "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"
            };
            self.invalid(path, text, why);
            return None;
        };
        if let Some(write) = block.spelling(text) {
            let is_mapped = text.contains(':') && !write.contains(':');
            let why = if is_mapped {
                "must not have an IPv4-mapped IPv6 address"
            } else {
                "must not have bits set beyond the prefix length"
            };
            self.add_for(LintRule::HostBitsSet, path, &format!("Invalid value: {text:?}: {why}. Write {write}"));
        }
        Some(block)
    }
}

/// A range whose numbers have no leading zeros; none if it has no such numbers.
fn without_leading_zeros(text: &str) -> Option<String> {
    let number = |part: &str| part.parse::<u32>().map(|number| number.to_string()).ok();
    let (address, length) = text.split_once('/')?;
    let address: Option<Vec<String>> = address.split('.').map(number).collect();
    Some(format!("{}/{}", address?.join("."), number(length)?))
}

/// Whether a text may be a part of a DNS subdomain.
pub fn is_dns_part(part: &str) -> bool {
    let is_inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    !part.is_empty() && part.bytes().all(is_inner) && !part.starts_with('-') && !part.ends_with('-')
}

/// Whether a text of any length has the characters of a label.
fn is_label_text(text: &str) -> bool {
    let is_inner = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let has_ends = text.is_empty() || (!text.starts_with(['-', '_', '.']) && !text.ends_with(['-', '_', '.']));
    has_ends && text.chars().all(is_inner) && (text.len() > 63 || check_label_value(text).is_ok())
}

fn port_name(name: &str) -> Vec<&'static str> {
    let is_known = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    [
        (name.len() > 15, "must be no more than 15 characters"),
        (
            name.is_empty() || !name.bytes().all(is_known),
            "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)",
        ),
        (!name.bytes().any(|b| b.is_ascii_lowercase()), "must contain at least one letter (a-z)"),
        (name.contains("--"), "must not contain consecutive hyphens"),
        (name.starts_with('-') || name.ends_with('-'), "must not begin or end with a hyphen"),
    ]
    .into_iter()
    .filter_map(|(is_wrong, why)| is_wrong.then_some(why))
    .collect()
}
