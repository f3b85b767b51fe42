//! The allows of a baseline: what the platform decided once. Each names its peers by their kind, so that no text is pasted into a policy.
//! `kubectl explain` prints these doc comments.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    peers::{IpBlock, Port, SameNamespace},
    schema,
    selector::Selector,
};

/// Whether the label selector that is there is empty, as an expression of CEL.
macro_rules! is_empty {
    ($selector:literal) => {
        concat!(
            "(!has(",
            $selector,
            ".matchLabels) || size(",
            $selector,
            ".matchLabels) == 0) && (!has(",
            $selector,
            ".matchExpressions) || size(",
            $selector,
            ".matchExpressions) == 0)"
        )
    };
}

/// Whether no peer `p` in the list of the rules is everybody, as an expression of CEL.
macro_rules! nobody_is_everybody {
    ($rules:literal, $peers:literal) => {
        concat!(
            "(!has(self.",
            $rules,
            ") || self.",
            $rules,
            ".all(r, !has(r.",
            $peers,
            ") || r.",
            $peers,
            ".all(p, !(has(p.ipBlock) && isCIDR(p.ipBlock.cidr) && cidr(p.ipBlock.cidr).prefixLength() == 0",
            " && (!has(p.ipBlock.except) || size(p.ipBlock.except) == 0))",
            " && !(has(p.namespaceSelector) && ",
            is_empty!("p.namespaceSelector"),
            " && (!has(p.podSelector) || (",
            is_empty!("p.podSelector"),
            "))))))"
        )
    };
}

/// Whether everybody is let in or reached only if that is acknowledged. CEL sees the plain cases; the operator adds up the others.
const IS_ACKNOWLEDGED: &str = concat!(
    "(has(self.acknowledgeOpen) && self.acknowledgeOpen) || (",
    nobody_is_everybody!("ingress", "from"),
    " && ",
    nobody_is_everybody!("egress", "to"),
    ")"
);
/// What it says.
const WRITE_WHOM: &str = "this opens to everybody (an empty namespaceSelector, 0.0.0.0/0 or ::/0): name who may talk. If everybody is meant, set acknowledgeOpen: true; then status and explain report it";
/// What it says of an empty list of ports.
const WRITE_PORTS: &str =
    "ports: name at least one port, or leave the field out for every port; an empty list would open every port";

/// One decision of the platform: which pods may talk with whom, in addition to what the default-denies leave open.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(!deny_unknown_fields)]
#[x_kube(
    validation = Rule::new("has(self.ingress) || has(self.egress)").message("write ingress rules, egress rules, or both: an allow without rules allows nothing"),
    validation = Rule::new(IS_ACKNOWLEDGED).message(WRITE_WHOM)
)]
pub struct Allow {
    /// The name of the allow, at most 30 lower-case letters, digits and '-'. Its policy is called <prefix>allow-<name>.
    #[schemars(length(min = 1, max = 30))]
    #[x_kube(
        validation = Rule::new("self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')").message("name: use lower-case letters, digits and '-', with a letter or digit at both ends, as in same-namespace"),
        validation = Rule::new("!self.endsWith('default-deny-ingress') && !self.endsWith('default-deny-egress') && !self.endsWith('monitoring-carveout')")
            .message("name: use another one; it must not end like the baseline's own policies (default-deny-ingress, default-deny-egress, monitoring-carveout)")
    )]
    pub name: String,
    /// Which of the selected namespaces get this allow. Absent or {}: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace_selector: Option<Selector>,
    /// The pods of these namespaces that the allow is for. Absent or {}: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_selector: Option<Selector>,
    /// Who may connect to these pods. Only written where DefaultDenyIngress is planned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8))]
    #[x_kube(validation = Rule::new("size(self) > 0").message("ingress: write at least one rule, or leave the field out; an empty list allows nothing"))]
    pub ingress: Option<Vec<IngressAllow>>,
    /// To whom these pods may connect, beside DNS. Only written where DefaultDenyEgress is planned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8))]
    #[x_kube(validation = Rule::new("size(self) > 0").message("egress: write at least one rule, or leave the field out; an empty list allows nothing"))]
    pub egress: Option<Vec<EgressAllow>>,
    /// True confirms that this allow is meant to open to everybody. Such an allow is refused without it. Default: false.
    #[serde(default)]
    pub acknowledge_open: bool,
}

/// Who may connect, and on which ports.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(!deny_unknown_fields)]
#[x_kube(
    validation = Rule::new("has(self.from) && size(self.from) > 0")
        .message("from: name who may connect; an empty list would let everybody in. If everybody is meant, write from: [{ipBlock: {cidr: 0.0.0.0/0}}, {ipBlock: {cidr: '::/0'}}] and acknowledgeOpen: true"),
    validation = Rule::new("!has(self.from) || self.from.all(p, !has(p.kubernetesAPI))")
        .message("from: kubernetesAPI is for egress only; calls of the API server come from addresses of nodes or of the cloud, which only you know: write them as ipBlock")
)]
pub struct IngressAllow {
    /// The peers that may connect, at least one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8))]
    pub from: Option<Vec<AllowPeer>>,
    /// The ports of the selected pods. Absent: every port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    #[x_kube(validation = Rule::new("size(self) > 0").message(WRITE_PORTS))]
    pub ports: Option<Vec<Port>>,
}

/// To whom pods may connect, and on which ports.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(!deny_unknown_fields)]
#[x_kube(
    validation = Rule::new("has(self.to) && size(self.to) > 0")
        .message("to: name to whom pods may connect; an empty list would let them connect to everybody. If everybody is meant, write to: [{ipBlock: {cidr: 0.0.0.0/0}}, {ipBlock: {cidr: '::/0'}}] and acknowledgeOpen: true"),
    validation = Rule::new("!has(self.ports) || !has(self.to) || self.to.all(p, !has(p.kubernetesAPI))")
        .message("ports: leave them out beside kubernetesAPI, its ports are found with its addresses; write other peers with their ports as a rule of their own"),
    validation = Rule::new("!has(self.ports) || self.ports.all(p, type(p.port) == int)")
        .message("ports: egress rules need numbers, such as ports: [{port: 443}]; network plugins do not agree on what a named port means in an egress rule")
)]
pub struct EgressAllow {
    /// The peers to which pods may connect, at least one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8))]
    pub to: Option<Vec<AllowPeer>>,
    /// The ports of the peers, as numbers. A policy sees the port of the pod, not of the Service. Absent: every port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16), transform = schema::numbered_ports)]
    #[x_kube(validation = Rule::new("size(self) > 0").message(WRITE_PORTS))]
    pub ports: Option<Vec<Port>>,
}

/// The other side of an allow: exactly one of sameNamespace, kubernetesAPI, selectors (namespaceSelector, with or without podSelector) and
/// ipBlock.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(!deny_unknown_fields)]
#[x_kube(
    validation = Rule::new("(has(self.sameNamespace) ? 1 : 0) + (has(self.kubernetesAPI) ? 1 : 0) + (has(self.namespaceSelector) || has(self.podSelector) ? 1 : 0) + (has(self.ipBlock) ? 1 : 0) == 1")
        .message("a peer is exactly one of sameNamespace, kubernetesAPI, namespaceSelector (with or without podSelector) and ipBlock; write each further one as an entry of its own"),
    validation = Rule::new("!has(self.podSelector) || has(self.namespaceSelector)")
        .message("podSelector needs namespaceSelector beside it; for pods of the namespace itself, write sameNamespace: {podSelector: ...}")
)]
pub struct AllowPeer {
    /// Pods of the namespace itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub same_namespace: Option<SameNamespace>,
    /// The API server of the cluster, for egress rules. The operator finds its addresses and ports: those of the Service kubernetes in
    /// namespace default, and those behind it. status.kubernetesAPI shows them.
    #[serde(default, rename = "kubernetesAPI", skip_serializing_if = "Option::is_none")]
    pub kubernetes_api: Option<KubernetesApiPeer>,
    /// The namespaces of the peers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace_selector: Option<Selector>,
    /// The peers in these namespaces. Absent: all pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_selector: Option<Selector>,
    /// Addresses outside of the cluster. Most network plugins never match pods by addresses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip_block: Option<IpBlock>,
}

/// The API server of the cluster. It has no fields.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
#[schemars(!deny_unknown_fields)]
pub struct KubernetesApiPeer {}
