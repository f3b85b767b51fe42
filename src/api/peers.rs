//! The parts of rules that several fields of a baseline share: addresses, ports, and the pods of the namespace itself.
//! `kubectl explain` prints these doc comments.

use k8s_openapi::{
    api::networking::v1::{IPBlock, NetworkPolicyPeer, NetworkPolicyPort},
    apimachinery::pkg::util::intstr::IntOrString,
};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strum::{IntoStaticStr, VariantArray};

use super::{schema, selector::Selector};

/// A range of addresses.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(!deny_unknown_fields)]
#[x_kube(
    validation = Rule::new("!has(self.except) || !isCIDR(self.cidr) || self.except.all(e, !isCIDR(e) || cidr(self.cidr).ip().family() == cidr(e).ip().family())")
        .message("except: each range must be of the address family of cidr: both IPv4, or both IPv6"),
    validation = Rule::new("!has(self.except) || !isCIDR(self.cidr) || self.except.all(e, !isCIDR(e) || cidr(self.cidr).ip().family() != cidr(e).ip().family() || (cidr(self.cidr).containsCIDR(e) && cidr(self.cidr).prefixLength() < cidr(e).prefixLength()))")
        .message("except: each range must be smaller than cidr, and inside it")
)]
pub struct IpBlock {
    /// The range, for example 169.254.20.10/32.
    #[schemars(length(min = 1, max = 49))]
    #[x_kube(validation = Rule::new(schema::IS_CIDR).message(schema::WRITE_CIDR))]
    pub cidr: String,
    /// Ranges inside cidr that are left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::cidrs")]
    pub except: Vec<String>,
}

impl From<&IpBlock> for IPBlock {
    fn from(block: &IpBlock) -> Self {
        Self { cidr: block.cidr.clone(), except: (!block.except.is_empty()).then(|| block.except.clone()) }
    }
}

/// Pods of the namespace in which the policy is.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(!deny_unknown_fields)]
pub struct SameNamespace {
    /// Which pods of the namespace. Absent: all pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_selector: Option<Selector>,
}

impl From<&SameNamespace> for NetworkPolicyPeer {
    fn from(same: &SameNamespace) -> Self {
        // A pod selector without a namespace selector means the namespace of the policy.
        let pods = same.pod_selector.as_ref().map(Into::into).unwrap_or_default();
        Self { pod_selector: Some(pods), ..Self::default() }
    }
}

/// A port, or a range of them.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(!deny_unknown_fields)]
#[x_kube(
    validation = Rule::new("type(self.port) == int ? self.port >= 1 && self.port <= 65535 : size(self.port) >= 1 && size(self.port) <= 15")
        .message("port: a number from 1 to 65535, or the name of a container port (at most 15 lower-case letters, digits and '-')"),
    validation = Rule::new("!has(self.endPort) || (type(self.port) == int && self.endPort >= self.port)")
        .message("endPort needs a numbered port and must not be below it")
)]
#[expect(clippy::struct_field_names, reason = "the names of NetworkPolicyPort")]
pub struct Port {
    /// TCP, UDP or SCTP. Default: TCP.
    #[serde(default)]
    pub protocol: Protocol,
    /// A number, or the name of a container port.
    pub port: IntOrString,
    /// The last port of a range that begins at port. Some network plugins ignore it and open only the first port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub end_port: Option<i32>,
}

/// The protocol of a port.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    Deserialize,
    Eq,
    Hash,
    IntoStaticStr,
    JsonSchema,
    Ord,
    PartialEq,
    PartialOrd,
    Serialize,
    VariantArray,
)]
#[strum(const_into_str)]
pub enum Protocol {
    /// TCP.
    #[default]
    TCP,
    /// UDP.
    UDP,
    /// SCTP.
    SCTP,
}

impl Protocol {
    /// The protocol with this name, as an object writes it; absent means TCP. None: the API server takes no such protocol.
    pub fn named(name: Option<&str>) -> Option<Self> {
        let Some(name) = name else { return Some(Self::TCP) };
        Self::VARIANTS.iter().copied().find(|protocol| protocol.into_str() == name)
    }
}

impl From<&Port> for NetworkPolicyPort {
    fn from(p: &Port) -> Self {
        Self { protocol: Some(p.protocol.into_str().into()), port: Some(p.port.clone()), end_port: p.end_port }
    }
}
