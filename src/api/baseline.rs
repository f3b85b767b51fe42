//! The `PolicyBaseline` resource as users write and read it.
//! Rejects at admission what CEL can see; the rest is checked once, in `plan::baseline`.
//! Doc comments here are what `kubectl explain` prints.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::networking::v1::{IPBlock, NetworkPolicyPeer, NetworkPolicyPort},
    apimachinery::pkg::{
        apis::meta::v1::{Condition, Time},
        util::intstr::IntOrString,
    },
};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    names::Role,
    rollout::{Rollout, RolloutStatus},
    schema,
};
use crate::api::selector::Selector;

/// The most violations that a status shows.
pub const MAX_VIOLATIONS: usize = 20;
/// The most drift records that a status shows.
pub const MAX_RECENT_DRIFT: usize = 10;
/// The most places of DNS that a status shows.
pub const MAX_DNS_FOUND: usize = 20;
/// The most notes on DNS that a status shows.
pub const MAX_DNS_NOTES: usize = 10;

/// What every selected namespace holds: default-deny-ingress, default-deny-egress with DNS allowed, and a monitoring carve-out.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[kube(
    group = "policybaseline.io",
    version = "v1alpha1",
    kind = "PolicyBaseline",
    plural = "policybaselines",
    shortname = "pb",
    category = "policies",
    status = "PolicyBaselineStatus",
    derive = "PartialEq",
    doc = "PolicyBaseline gives every namespace that it selects three NetworkPolicies, and keeps them there: default-deny-ingress, default-deny-egress with DNS allowed, and a monitoring carve-out.",
    validation = Rule::new("size(self.metadata.name) <= 63").message("metadata.name: use at most 63 characters, the name becomes a label value"),
    printcolumn(name = "Mode", type_ = "string", json_path = ".spec.mode", description = "Enforce writes policies, Audit only reports"),
    printcolumn(name = "Selected", type_ = "integer", json_path = ".status.namespaces.selected", description = "Namespaces that this baseline applies to"),
    printcolumn(name = "Compliant", type_ = "integer", json_path = ".status.namespaces.compliant", description = "Selected namespaces that hold exactly what was planned"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status", description = "Whether everything that was planned is in place"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].reason", description = "Why Ready is what it is", priority = 1)
)]
#[serde(rename_all = "camelCase")]
pub struct PolicyBaselineSpec {
    /// Enforce creates and repairs the policies. Audit only reports what Enforce would do; it writes no NetworkPolicy and takes
    /// no namespace from another baseline. Going from Enforce to Audit leaves the policies as they are.
    #[serde(default)]
    pub mode: Mode,

    /// Stops everything for a while: nothing is written, nothing is removed, and no other baseline takes over what this one selects or
    /// holds. Namespaces that are created meanwhile stay open. What somebody changes meanwhile is repaired when this is false again.
    #[serde(default)]
    pub suspend: bool,

    /// What happens to a namespace that is older than this baseline and holds no policy of policy-baseline yet. Report only counts
    /// it; Enforce closes it, which cuts all traffic but DNS for the pods that run there. Newer namespaces are always closed.
    #[serde(default)]
    pub existing_namespaces: ExistingNamespaces,

    /// Which baseline applies where several select a namespace: the highest priority, then the first name in byte order.
    #[serde(default)]
    pub priority: i32,

    /// Which namespaces, by their labels. Absent or {} selects every namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace_selector: Option<Selector>,

    /// Names of namespaces to leave out; "*" stands for any characters, as in openshift-*. Adds to what is always left out:
    /// kube-system, kube-public, kube-node-lease, the operator's own namespace and those where the cluster's DNS was found.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::exclusions")]
    #[x_kube(validation = Rule::new("self.all(n, n.matches('^[a-z0-9*]([-a-z0-9*]*[a-z0-9*])?$'))")
        .message("use names of namespaces, or globs such as openshift-*: lower-case letters, digits, '-' and '*'"))]
    pub exclude_namespaces: Vec<String>,

    /// Select the system namespaces, the operator's own and those where the cluster's DNS was found too. A default-deny there can cut the cluster off from its own DNS and
    /// the operator off from the apiserver.
    #[serde(default)]
    pub include_system_namespaces: bool,

    /// What happens to a namespace with a Service that the apiserver calls: one that a webhook configuration, an APIService or the
    /// conversion of a CRD names. Behind a default-deny-ingress these calls time out, and with them the creation of pods in the whole
    /// cluster. Hold leaves out what restricts ingress there (DefaultDenyIngress and MonitoringCarveout), unless the namespace is closed
    /// already, and reports it; Enforce closes it like any other.
    #[serde(default)]
    pub control_plane_backends: ControlPlaneBackends,

    /// Which policies. At least one; all three when absent.
    #[serde(default = "all_roles")]
    #[schemars(schema_with = "schema::roles")]
    #[x_kube(
        validation = Rule::new("size(self) > 0").message("name at least one policy, or leave the field out for all three; use mode: Audit to write none"),
        validation = Rule::new("self.all(p, self.exists_one(q, q == p))").message("name each policy once")
    )]
    pub policies: Vec<Role>,

    /// Where DNS is. Every egress policy allows DNS over UDP and TCP, whatever stands here; kube-system pods labelled
    /// k8s-app=kube-dns on port 53 are always among the destinations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dns: Option<Dns>,

    /// Who may scrape which pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub monitoring: Option<Monitoring>,

    /// How the generated policies are named and labelled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<PolicyMetadata>,

    /// What a BaselineOptOut in a selected namespace may ask for. One that asks for more is not in force, and says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opt_outs: Option<OptOutLimits>,

    /// What happens to the policies when this baseline is deleted. Orphan leaves them in place. Delete removes them, and holds this
    /// object by a finalizer until they are gone.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,

    /// How a change of the policies goes out. Absent: to all namespaces at once. New namespaces never wait. Covers what is written (policies,
    /// dns, monitoring, metadata); what is selected, and everything else, takes effect at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<Rollout>,
}

fn all_roles() -> Vec<Role> {
    Role::ALL.to_vec()
}

/// Whether a baseline writes.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum Mode {
    /// Creates and repairs.
    #[default]
    Enforce,
    /// Reports only.
    Audit,
}

/// What happens to a namespace that is older than the baseline.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum ExistingNamespaces {
    /// Count and report it.
    #[default]
    Report,
    /// Close it.
    Enforce,
}

/// What happens to a namespace that serves the control plane.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum ControlPlaneBackends {
    /// Leave its ingress open, and report it.
    #[default]
    Hold,
    /// Close it.
    Enforce,
}

/// What happens to the policies of a deleted baseline.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum DeletionPolicy {
    /// They stay.
    #[default]
    Orphan,
    /// They go.
    Delete,
}

/// Whether the operator looks for the cluster's DNS.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum Discovery {
    /// It does, and allows what it finds.
    #[default]
    Auto,
    /// It does not: only what the spec says counts.
    Static,
}

/// Where DNS is, beside kube-system's kube-dns.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Dns {
    /// Auto also allows what the operator finds: the DNS Services of kube-system and openshift-dns with their pods, NodeLocal DNSCache, and
    /// the nameservers that its own pod was given; status.dns tells what that is. Static allows only what stands here.
    #[serde(default)]
    pub discovery: Discovery,
    /// More DNS servers, for example a resolver outside of the cluster; with Static also NodeLocal DNSCache.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub peers: Vec<DnsPeer>,
    /// More ports beside 53, each for UDP and TCP. Policies see the port of the pod, not of the Service: OpenShift's is 5353.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::dns_ports")]
    #[x_kube(validation = Rule::new("self.all(p, self.exists_one(q, q == p))").message("name each port once"))]
    pub ports: Vec<i32>,
}

/// DNS servers: pods of a namespace, or addresses.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(!deny_unknown_fields)]
#[x_kube(
    validation = Rule::new("has(self.ipBlock) != has(self.namespaceSelector)")
        .message("name pods by namespaceSelector (with podSelector), or addresses by ipBlock: one of the two"),
    validation = Rule::new("!has(self.podSelector) || has(self.namespaceSelector)")
        .message("podSelector needs namespaceSelector beside it: alone it would mean pods of every selected namespace")
)]
pub struct DnsPeer {
    /// The namespaces of the DNS pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace_selector: Option<Selector>,
    /// The DNS pods in these namespaces; absent means all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_selector: Option<Selector>,
    /// Addresses of DNS servers that are no pods, such as 169.254.20.10/32.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip_block: Option<IpBlock>,
}

/// A range of addresses.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(!deny_unknown_fields)]
pub struct IpBlock {
    /// The range, for example 169.254.20.10/32.
    #[schemars(length(min = 1, max = 49))]
    #[x_kube(validation = Rule::new("isCIDR(self)").message("write a range such as 169.254.20.10/32"))]
    pub cidr: String,
    /// Ranges inside it that are left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::cidrs")]
    pub except: Vec<String>,
}

impl From<&DnsPeer> for NetworkPolicyPeer {
    fn from(p: &DnsPeer) -> Self {
        Self {
            namespace_selector: p.namespace_selector.as_ref().map(Into::into),
            pod_selector: p.pod_selector.as_ref().map(Into::into),
            ip_block: p
                .ip_block
                .as_ref()
                .map(|b| IPBlock { cidr: b.cidr.clone(), except: (!b.except.is_empty()).then(|| b.except.clone()) }),
        }
    }
}

/// Who may scrape which pods.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Monitoring {
    /// The monitoring pods. Each entry means pods that match podSelector in namespaces that match namespaceSelector; several entries
    /// mean one or the other. Absent: pods labelled app=prometheus in the namespace monitoring. Whether a namespace that is a source
    /// gets DefaultDenyEgress, says sourceEgress.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8))]
    #[x_kube(validation = Rule::new("size(self) > 0").message("name at least one source, or leave the field out for the default"))]
    pub from: Option<Vec<MonitoringSource>>,

    /// The pods that may be scraped. Absent: pods labelled monitoring.io/expose-metrics=true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_selector: Option<Selector>,

    /// The namespaces that get the carve-out, among the selected ones. Absent: all. Set it to monitoring.io/allow-scrape=true
    /// to make a namespace opt in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace_selector: Option<Selector>,

    /// The ports that may be scraped. Absent: TCP metrics (by name), 8080 and 9090.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = Rule::new("size(self) > 0").message("name at least one port, or leave the field out for the default: an empty list would open every port"))]
    pub ports: Option<Vec<Port>>,

    /// Whether the egress of a namespace that from matches is closed. Open leaves DefaultDenyEgress out there, because monitoring pods
    /// also need the apiserver and the kubelets. Enforce closes it, and lets the monitoring pods reach the pods that may be scraped
    /// (policy <prefix>monitoring-source); all else, such as the apiserver, the kubelets and remote write, needs policies of your own.
    #[serde(default)]
    pub source_egress: SourceEgress,
}

/// What happens to the egress of a namespace with monitoring pods.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum SourceEgress {
    /// It stays open.
    #[default]
    Open,
    /// It is closed but for DNS and the pods that may be scraped.
    Enforce,
}

/// Pods of some namespaces: both selectors must match.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(!deny_unknown_fields)]
#[x_kube(
    validation = Rule::new("has(self.namespaceSelector) && has(self.podSelector)")
        .message("give namespaceSelector and podSelector in one entry (both must match); two entries would mean one or the other"),
    validation = Rule::new("!has(self.namespaceSelector) || (has(self.namespaceSelector.matchLabels) && size(self.namespaceSelector.matchLabels) > 0) || (has(self.namespaceSelector.matchExpressions) && size(self.namespaceSelector.matchExpressions) > 0)")
        .message("namespaceSelector must not be empty: {} would let pods of every namespace in")
)]
pub struct MonitoringSource {
    /// The namespaces of the monitoring pods. Required, and not empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace_selector: Option<Selector>,
    /// The monitoring pods in these namespaces. Required; {} means all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_selector: Option<Selector>,
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
pub struct Port {
    /// TCP, UDP or SCTP.
    #[serde(default)]
    pub protocol: Protocol,
    /// A number, or the name of a container port.
    pub port: IntOrString,
    /// The last port of a range that begins at port. Some network plugins ignore it and open the first port only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub end_port: Option<i32>,
}

/// The protocol of a port.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
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
    const fn as_str(self) -> &'static str {
        match self {
            Self::TCP => "TCP",
            Self::UDP => "UDP",
            Self::SCTP => "SCTP",
        }
    }
}

impl From<&Port> for NetworkPolicyPort {
    fn from(p: &Port) -> Self {
        Self { protocol: Some(p.protocol.as_str().into()), port: Some(p.port.clone()), end_port: p.end_port }
    }
}

/// How the generated policies are named and labelled.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyMetadata {
    /// What the names of the generated policies begin with; "baseline-" when absent. After a change the new policies are written
    /// before the old ones are removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 40))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z0-9][-a-z0-9]*-$')").message("use lower-case letters, digits and '-', and end in '-', as in baseline-"))]
    pub name_prefix: Option<String>,
    /// More labels for the generated policies.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::label_map")]
    #[x_kube(validation = Rule::new("self.all(k, !k.startsWith('policybaseline.io/') && k != 'app.kubernetes.io/managed-by')")
        .message("policybaseline.io/ and app.kubernetes.io/managed-by belong to the operator: use keys of your own"))]
    pub labels: BTreeMap<String, String>,
    /// More annotations for the generated policies.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::annotation_map")]
    #[x_kube(validation = Rule::new("self.all(k, !k.startsWith('policybaseline.io/'))").message("policybaseline.io/ belongs to the operator: use keys of your own"))]
    pub annotations: BTreeMap<String, String>,
}

/// What an opt-out may ask for.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(!deny_unknown_fields)]
pub struct OptOutLimits {
    /// The longest time from the creation of an opt-out to its end, in hours, minutes and seconds, as in 720h or 1h30m; 720h (30
    /// days) when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 24))]
    #[x_kube(validation = Rule::new("self.matches('^([0-9]{1,6}(h|m|s))+$') && self.matches('[1-9]')")
        .message("write hours, minutes and seconds, as in 720h or 1h30m (there is no unit for days: 30 days are 720h), and more than 0; allowedRoles: [] allows no opt-outs"))]
    pub max_duration: Option<String>,
    /// The policies that a namespace may do without; all three when absent. An opt-out that names another one is not in force, as a
    /// whole. [] allows no opt-outs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::allowed_roles")]
    #[x_kube(validation = Rule::new("self.all(p, self.exists_one(q, q == p))").message("name each policy once"))]
    pub allowed_roles: Option<Vec<Role>>,
}

/// What the operator found and did.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyBaselineStatus {
    /// The generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready, Reconciling and Stalled, as kstatus reads them. BypassCoverage, ControlPlaneCoverage, DNSCoverage, PriorityTied and
    /// RolloutPaused are only there while they have something to say.
    #[serde(default)]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// Counts of namespaces.
    #[serde(default)]
    pub namespaces: NamespaceCounts,
    /// What the selector and the exclusions amount to, in words.
    #[serde(default)]
    pub effective_selector: String,
    /// What egress policies allow as DNS, beside what the spec says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dns: Option<DnsStatus>,
    /// What is to be told of single namespaces: what is not as planned, and what is left open there; at most 20.
    #[serde(default)]
    #[schemars(length(max = 20))]
    pub violations: Vec<Violation>,
    /// How many violations are not shown.
    #[serde(default)]
    #[schemars(schema_with = "schema::count")]
    pub violations_omitted: u32,
    /// The last drift that was seen, newest first, at most 10.
    #[serde(default)]
    #[schemars(length(max = 10))]
    pub recent_drift: Vec<DriftRecord>,
    /// How far a rollout is; absent while there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<RolloutStatus>,
}

/// Counts of namespaces. Each selected namespace is counted once among compliant, pending, drifted, failed and reported; while the
/// baseline is stalled or suspended, or while its release waits, those that it holds are among none of them.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NamespaceCounts {
    /// This baseline applies to them. While it is stalled or suspended, or its release waits: or it holds them.
    #[serde(default)]
    #[schemars(schema_with = "schema::count")]
    pub selected: u32,
    /// They hold exactly what was planned.
    #[serde(default)]
    #[schemars(schema_with = "schema::count")]
    pub compliant: u32,
    /// They are being written to.
    #[serde(default)]
    #[schemars(schema_with = "schema::count")]
    pub pending: u32,
    /// They differ from the plan, and nothing is written: Audit.
    #[serde(default)]
    #[schemars(schema_with = "schema::count")]
    pub drifted: u32,
    /// A write failed; it is tried again.
    #[serde(default)]
    #[schemars(schema_with = "schema::count")]
    pub failed: u32,
    /// They are older than the baseline and only reported.
    #[serde(default)]
    #[schemars(schema_with = "schema::count")]
    pub reported: u32,
    /// They match the selector, but another baseline comes first. Not among selected.
    #[serde(default)]
    #[schemars(schema_with = "schema::count")]
    pub shadowed: u32,
    /// A policy of somebody else opens there what the baseline closes. Counted beside the others.
    #[serde(default)]
    #[schemars(schema_with = "schema::count")]
    pub bypassed: u32,
    /// They do without a policy of the baseline for a time, by a BaselineOptOut. Counted beside the others.
    #[serde(default)]
    #[schemars(schema_with = "schema::count")]
    pub opted_out: u32,
    /// The apiserver calls a Service there, so its ingress is left open: controlPlaneBackends. Counted beside the others.
    #[serde(default)]
    #[schemars(schema_with = "schema::count")]
    pub held: u32,
}

impl NamespaceCounts {
    /// The sum of both.
    #[must_use]
    pub const fn plus(self, other: &Self) -> Self {
        Self {
            selected: self.selected + other.selected,
            compliant: self.compliant + other.compliant,
            pending: self.pending + other.pending,
            drifted: self.drifted + other.drifted,
            failed: self.failed + other.failed,
            reported: self.reported + other.reported,
            shadowed: self.shadowed + other.shadowed,
            bypassed: self.bypassed + other.bypassed,
            opted_out: self.opted_out + other.opted_out,
            held: self.held + other.held,
        }
    }
}

/// What egress policies allow as DNS, beside what the spec says.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DnsStatus {
    /// Whether the cluster's DNS is looked for, as the spec says.
    #[serde(default)]
    pub discovery: Discovery,
    /// What is allowed, and where it was found; at most 20.
    #[serde(default)]
    #[schemars(length(max = 20))]
    pub found: Vec<DnsFound>,
    /// How many more are allowed and not shown.
    #[serde(default)]
    #[schemars(schema_with = "schema::count")]
    pub found_omitted: u32,
    /// How many were found and are not allowed, because a policy gets at most 64.
    #[serde(default)]
    #[schemars(schema_with = "schema::count")]
    pub left_out: u32,
    /// What could not be read, or was not taken as DNS, and why; at most 10.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::dns_notes")]
    pub notes: Vec<String>,
}

/// A place of DNS, and where it was found.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DnsFound {
    /// Where it was found.
    #[schemars(length(max = 256))]
    pub source: String,
    /// What is allowed.
    #[schemars(length(max = 512))]
    pub what: String,
}

/// A namespace that is not as planned.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Violation {
    /// The namespace.
    pub namespace: String,
    /// The policy; absent when it concerns the namespace as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// A word for the cause.
    pub reason: String,
    /// What is wrong, and what to do.
    #[schemars(length(max = 512))]
    pub message: String,
    /// Since when.
    pub since: Time,
}

/// One drift that was seen.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DriftRecord {
    /// When it was seen.
    pub time: Time,
    /// The namespace.
    pub namespace: String,
    /// The policy.
    pub policy: String,
    /// What kind of drift.
    pub class: String,
    /// The field manager that the object's managedFields name as the last other writer. It is a claim: anyone can write it.
    pub who: String,
    /// What was done.
    pub action: String,
}
