//! The `PolicyBaseline` resource. One file, in the order of `kubectl explain`, which prints these doc comments.
//! The CRD rejects what CEL can check. The operator checks the rest once, in `policy::plan`.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::networking::v1::NetworkPolicyPeer,
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de::IgnoredAny};
use strum::VariantArray;

use super::{
    allows::Allow,
    names::Role,
    peers::{IpBlock, Port, SameNamespace},
    reason::{ConditionType, NoticeReason, ViolationReason},
    rollout::{Rollout, RolloutStatus},
    schema,
};
use crate::api::selector::Selector;

/// The most entries in `status.violations`.
pub const MAX_VIOLATIONS: usize = 20;
/// The most entries in `status.notices`.
pub const MAX_NOTICES: usize = 20;
/// The most entries in `status.recentDrift`.
pub const MAX_RECENT_DRIFT: usize = 10;
/// The most entries in `status.dns.found`.
pub const MAX_DNS_FOUND: usize = 64;
/// The most entries in `status.kubernetesAPI.found`.
pub const MAX_API_FOUND: usize = 64;
/// The most entries in `status.kubernetesAPI.notes`.
pub const MAX_API_NOTES: usize = 10;
/// The most entries in `status.dns.notes`.
pub const MAX_DNS_NOTES: usize = 10;

/// Which namespaces get which policies: default-deny-ingress, default-deny-egress with DNS allowed, a monitoring carve-out, and one for
/// each allow.
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
    doc = "PolicyBaseline gives every namespace that it selects three NetworkPolicies, and one for each allow, and keeps them there. The three are default-deny-ingress, default-deny-egress with DNS allowed, and a monitoring carve-out.",
    validation = Rule::new("size(self.metadata.name) <= 63").message("metadata.name: use at most 63 characters, the name becomes a label value"),
    printcolumn(name = "Mode", type_ = "string", json_path = ".spec.mode", description = "Enforce writes policies, Audit only reports"),
    printcolumn(name = "Selected", type_ = "integer", json_path = ".status.namespaces.selected", description = "Namespaces that this baseline applies to"),
    printcolumn(name = "Protected", type_ = "integer", json_path = ".status.namespaces.protected", description = "Selected namespaces whose policies are in place"),
    printcolumn(name = "Reported", type_ = "integer", json_path = ".status.namespaces.reported", description = "Selected namespaces that are older than this baseline, and only reported"),
    printcolumn(name = "Drifted", type_ = "integer", json_path = ".status.namespaces.drifted", description = "Audit: selected namespaces that Enforce would change"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status", description = "Whether everything that was planned is in place"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].reason", description = "Why Ready is what it is"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].message", description = "The same in a sentence, with what to do", priority = 1)
)]
#[serde(rename_all = "camelCase")]
pub struct PolicyBaselineSpec {
    /// Enforce or Audit. Required. Enforce creates and repairs the policies. Audit only reports what Enforce would do: it writes no
    /// NetworkPolicy and takes no namespace from another baseline. A change from Enforce to Audit leaves the policies as they are.
    pub mode: Mode,

    /// True stops this baseline: nothing is written, nothing is removed, and no other baseline takes over its namespaces. New namespaces
    /// stay open. What others change meanwhile is repaired when this is false again. Default: false.
    #[serde(default)]
    pub suspend: bool,

    /// Report or Enforce. Default: Report. It says what happens to a namespace that is older than this baseline and has none of its
    /// policies yet. Report only counts it. Enforce closes it, which cuts all traffic but DNS for the pods that run there. Newer
    /// namespaces are always closed.
    #[serde(default)]
    pub existing_namespaces: ExistingNamespaces,

    /// If several baselines select a namespace, the one with the highest priority applies. Of equal ones, the first name in byte order
    /// applies. Default: 0.
    #[serde(default)]
    pub priority: i32,

    /// Selects namespaces by their labels. Absent or {} selects every namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace_selector: Option<Selector>,

    /// Names of namespaces to leave out. "*" stands for any characters, as in openshift-*. These names add to what is always left out:
    /// kube-system, kube-public, kube-node-lease, the operator's own namespace, and the namespaces where the cluster's DNS was found.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::exclusions")]
    #[x_kube(validation = Rule::new("self.all(n, n.matches('^[a-z0-9*]([-a-z0-9*]*[a-z0-9*])?$'))")
        .message("use names of namespaces, or globs such as openshift-*: lower-case letters, digits, '-' and '*'"))]
    pub exclude_namespaces: Vec<String>,

    /// True also selects the namespaces that are always left out (see excludeNamespaces). A default-deny there can cut the cluster off
    /// from its DNS, and the operator off from the API server. Default: false.
    #[serde(default)]
    pub include_system_namespaces: bool,

    /// Hold or Enforce. Default: Hold. It says what happens to a namespace with a Service that the API server calls: a webhook
    /// configuration, an APIService or a CRD conversion names it. Behind default-deny-ingress these calls time out, and pods can then not
    /// be created in the whole cluster. Behind default-deny-egress its pods do not reach the API server. Hold writes no policy there, and
    /// reports it; a direction that is closed already stays closed. If an allow with kubernetesAPI covers all its pods, Hold closes its
    /// egress, and leaves its ingress open. Enforce closes it like any other.
    #[serde(default)]
    pub control_plane_backends: ControlPlaneBackends,

    /// The policies of each selected namespace, at least one of DefaultDenyIngress, DefaultDenyEgress and MonitoringCarveout.
    /// Default: all three.
    #[serde(default = "all_roles")]
    #[schemars(schema_with = "schema::policies_or_all")]
    #[x_kube(
        validation = Rule::new("size(self) > 0").message("name at least one policy, or leave the field out for all three; use mode: Audit to write none"),
        validation = Rule::new("self.all(p, self.exists_one(q, q == p))").message("name each policy once")
    )]
    pub policies: Vec<Role>,

    /// Where DNS is. Every egress policy allows DNS over UDP and TCP, whatever this field says. Pods in kube-system with the label
    /// k8s-app=kube-dns are always allowed, on port 53.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dns: Option<Dns>,

    /// Who may scrape which pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub monitoring: Option<Monitoring>,

    /// What else is allowed, each under a name of its own: one policy <prefix>allow-<name> in each namespace that it concerns. An allow
    /// is only written where the default-deny of its direction is planned, because without that it would close the pods that it selects.
    #[serde(default, deserialize_with = "list_or_null", skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("nullable" = true))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub allows: Vec<Allow>,

    /// How the generated policies are named and labelled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<PolicyMetadata>,

    /// What a BaselineOptOut in a selected namespace may ask for. One that asks for more is not in force, and its status says why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opt_outs: Option<OptOutLimits>,

    /// Orphan or Delete. Default: Orphan. It says what happens to the policies when this baseline is deleted. Orphan leaves them in
    /// place. Delete removes them; until they are gone, a finalizer keeps this object.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,

    /// Brings a change of the policies to a few namespaces at a time. Absent: to all at once. New namespaces never wait. It covers
    /// policies, dns, monitoring, allows and metadata; all other fields take effect at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<Rollout>,
}

fn all_roles() -> Vec<Role> {
    Role::VARIANTS.to_vec()
}

/// Whether a baseline writes policies.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum Mode {
    /// Creates and repairs policies.
    #[default]
    Enforce,
    /// Only reports what Enforce would do.
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
    /// Leave it alone, and report it.
    #[default]
    Hold,
    /// Close it.
    Enforce,
}

/// What happens to the policies of a deleted baseline.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum DeletionPolicy {
    /// The policies stay.
    #[default]
    Orphan,
    /// The policies are removed.
    Delete,
}

/// Whether the operator looks for the cluster's DNS.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum Discovery {
    /// The operator looks for DNS, and allows what it finds.
    #[default]
    Auto,
    /// Only what the spec names is allowed.
    Static,
}

/// Where DNS is, beside kube-system's kube-dns.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Dns {
    /// Auto or Static. Default: Auto. Auto also allows the DNS that the operator finds: the DNS Services of kube-system and openshift-dns
    /// with their pods, NodeLocal DNSCache, and the nameservers of the operator's own pod. status.dns shows it. Static allows only what
    /// this object names.
    #[serde(default)]
    pub discovery: Discovery,
    /// More DNS servers, for example a resolver outside the cluster. With Static, name NodeLocal DNSCache here too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub peers: Vec<DnsPeer>,
    /// More ports beside 53, each for UDP and TCP. A policy sees the port of the pod, not of the Service: on OpenShift it is 5353.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::dns_ports")]
    #[x_kube(validation = Rule::new("self.all(p, self.exists_one(q, q == p))").message("name each port once"))]
    pub ports: Vec<i32>,
}

/// DNS servers: pods of some namespaces, pods of each namespace itself, or addresses.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(!deny_unknown_fields)]
#[x_kube(
    validation = Rule::new("(has(self.sameNamespace) ? 1 : 0) + (has(self.namespaceSelector) ? 1 : 0) + (has(self.ipBlock) ? 1 : 0) == 1")
        .message("name pods by namespaceSelector (with podSelector) or by sameNamespace, or addresses by ipBlock: one of the three"),
    validation = Rule::new("!has(self.podSelector) || has(self.namespaceSelector)")
        .message("podSelector needs namespaceSelector beside it; for DNS pods in each namespace itself, write sameNamespace: {podSelector: ...}")
)]
pub struct DnsPeer {
    /// DNS pods in each selected namespace itself, as virtual clusters have them. Their port is often another than 53: name it in ports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub same_namespace: Option<SameNamespace>,
    /// The namespaces of the DNS pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace_selector: Option<Selector>,
    /// The DNS pods in these namespaces. Absent: all pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_selector: Option<Selector>,
    /// Addresses of DNS servers that are not pods, such as 169.254.20.10/32.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip_block: Option<IpBlock>,
}

impl From<&DnsPeer> for NetworkPolicyPeer {
    fn from(p: &DnsPeer) -> Self {
        if let Some(same) = &p.same_namespace {
            return same.into();
        }
        Self {
            namespace_selector: p.namespace_selector.as_ref().map(Into::into),
            pod_selector: p.pod_selector.as_ref().map(Into::into),
            ip_block: p.ip_block.as_ref().map(Into::into),
        }
    }
}

/// Who may scrape which pods.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.sourceEgress) || self.sourceEgress != 'Enforce' || (has(self.ports) && self.ports.all(p, type(p.port) == int))")
        .message("sourceEgress: Enforce needs ports with numbers, such as ports: [{port: 9090}]; network plugins do not agree on what a named port means in an egress rule")
)]
pub struct Monitoring {
    /// The monitoring pods. An entry means the pods that match podSelector in the namespaces that match namespaceSelector. Several
    /// entries mean any of them. Default: pods with the label app=prometheus or app.kubernetes.io/name=prometheus in the namespace
    /// monitoring.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8))]
    #[x_kube(validation = Rule::new("size(self) > 0").message("name at least one source, or leave the field out for the default"))]
    pub from: Option<Vec<MonitoringSource>>,

    /// The pods that may be scraped. Default: pods with the label monitoring.io/expose-metrics=true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_selector: Option<Selector>,

    /// Which of the selected namespaces get MonitoringCarveout. Absent: all. With the label monitoring.io/allow-scrape=true, for example,
    /// each namespace opts in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace_selector: Option<Selector>,

    /// The ports that may be scraped. Default: the TCP ports 8080, 9090 and the one that is named metrics.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = Rule::new("size(self) > 0").message("name at least one port, or leave the field out for the default: an empty list would open every port"))]
    pub ports: Option<Vec<Port>>,

    /// Open or Enforce. Default: Open. It says whether egress is closed in a namespace that from matches. Open leaves DefaultDenyEgress out
    /// there, because monitoring pods also need the API server and the kubelets. Enforce closes it, and lets the monitoring pods reach
    /// the pods that may be scraped (policy <prefix>monitoring-source), on ports that must be listed as numbers. All else, such as the API
    /// server, the kubelets and remote write, then needs policies of your own.
    #[serde(default)]
    pub source_egress: SourceEgress,
}

/// What happens to the egress of a namespace with monitoring pods.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum SourceEgress {
    /// Egress stays open.
    #[default]
    Open,
    /// Egress is closed but for DNS and the pods that may be scraped.
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
    /// The namespaces of the monitoring pods. Required, and not {}.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace_selector: Option<Selector>,
    /// The monitoring pods in these namespaces. Required; {} means all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_selector: Option<Selector>,
}

/// How the generated policies are named and labelled.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyMetadata {
    /// The names of the generated policies begin with it. Default: baseline-. After a change, the new policies are written before the old
    /// ones are removed.
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
    /// The longest time from the creation of an opt-out to its end, in hours, minutes and seconds, as in 1h30m. Default: 720h (30 days).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 24))]
    #[x_kube(validation = Rule::new("self.matches('^([0-9]{1,6}(h|m|s))+$') && self.matches('[1-9]')")
        .message("write hours, minutes and seconds, as in 720h or 1h30m (there is no unit for days: 30 days are 720h), and more than 0; allowedPolicies: [] allows no opt-outs"))]
    pub max_duration: Option<String>,
    /// The policies that an opt-out may name, of DefaultDenyIngress, DefaultDenyEgress and MonitoringCarveout. An opt-out that names another
    /// one is not in force at all. [] allows no opt-outs. Default: all three.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::policies")]
    #[x_kube(validation = Rule::new("self.all(p, self.exists_one(q, q == p))").message("name each policy once"))]
    pub allowed_policies: Option<Vec<Role>>,
}

/// What the operator found and did.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("default" = schema::not_processed(ConditionType::Ready.into(), "PolicyBaseline")))]
pub struct PolicyBaselineStatus {
    /// The generation of the spec that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready, Reconciling and Stalled are always there, as kstatus reads them. ExistingNamespacesClosed is there in mode Enforce, while the
    /// baseline is neither stalled, suspended nor being deleted. Suspended is only there while suspend is true, and
    /// AwaitingConfirmation only while a change waits for a confirmation. BypassCoverage, ControlPlaneCoverage, DNSCoverage,
    /// KubernetesAPICoverage, OpensToEverybody, PriorityTied and RolloutPaused are only there while they have something to say.
    /// EnforcementUnknown is there once the operator has looked for a network plugin.
    #[serde(default)]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// How many namespaces are in which state.
    #[serde(default)]
    pub namespaces: NamespaceCounts,
    /// The namespaces that the selector and the exclusions select: a sentence for people, cut at 1,024 characters. Do not parse it.
    #[serde(default)]
    pub effective_selector: String,
    /// What egress policies allow as DNS, beside what the spec says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dns: Option<DnsStatus>,
    /// Where the API server was found. Absent while no allow has the peer kubernetesAPI.
    #[serde(default, rename = "kubernetesAPI", skip_serializing_if = "Option::is_none")]
    pub kubernetes_api: Option<KubernetesApiStatus>,
    /// What is wrong in single namespaces, the worst first; at most 20. Each namespace has one entry before any has a second one.
    #[serde(default, deserialize_with = "those_known")]
    #[schemars(length(max = 20))]
    pub violations: Vec<Violation>,
    /// How many violations are not shown.
    #[serde(default)]
    #[schemars(schema_with = "schema::count")]
    pub violations_omitted: u32,
    /// What is worth knowing about single namespaces and is not wrong, the most important first; at most 20. Each namespace has one entry
    /// before any has a second one.
    #[serde(default, deserialize_with = "those_known")]
    #[schemars(length(max = 20))]
    pub notices: Vec<Notice>,
    /// How many notices are not shown.
    #[serde(default)]
    #[schemars(schema_with = "schema::count")]
    pub notices_omitted: u32,
    /// The last changes that others made to the policies, the newest first; at most 10.
    #[serde(default)]
    #[schemars(length(max = 10))]
    pub recent_drift: Vec<DriftRecord>,
    /// How far a rollout is. Absent while there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<RolloutStatus>,
    /// The resourceVersion since which the operator writes and removes no policies for this baseline, because its spec is invalid, it is
    /// suspended, or its mode is Audit. A policy that was written later is not the operator's. Absent while the baseline works.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 20))]
    pub resting_since_version: Option<String>,
}

/// A list. Null is as a list that is absent.
fn list_or_null<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Skips entries that this version cannot decode, so that they do not make the whole status unreadable.
fn those_known<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum MaybeKnown<T> {
        Known(T),
        Unknown(IgnoredAny),
    }
    let entries: Vec<MaybeKnown<T>> = Vec::deserialize(deserializer)?;
    Ok(entries.into_iter().filter_map(|entry| if let MaybeKnown::Known(entry) = entry { Some(entry) } else { None }).collect())
}

/// Each selected namespace is counted in exactly one of protected, pending, drifted, failed, unprotected, reported, held and frozen. A
/// namespace can also be counted in optedOut and bypassed. The namespaces in shadowed are not selected.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NamespaceCounts {
    /// Namespaces that this baseline applies to: the sum of protected, pending, drifted, failed, unprotected, reported, held and
    /// frozen.
    #[serde(default)]
    #[schemars(schema_with = "schema::count")]
    pub selected: u32,
    /// Their policies are in place, exactly as planned.
    #[serde(default)]
    #[schemars(schema_with = "schema::count")]
    pub protected: u32,
    /// Their policies are being written.
    #[serde(default)]
    #[schemars(schema_with = "schema::count")]
    pub pending: u32,
    /// They differ from the plan, and nothing is written because mode is Audit.
    #[serde(default)]
    #[schemars(schema_with = "schema::count")]
    pub drifted: u32,
    /// A write failed. The operator tries again.
    #[serde(default)]
    #[schemars(schema_with = "schema::count")]
    pub failed: u32,
    /// They are being deleted and lack policies, which nobody can create there any more. Pods may still run there.
    #[serde(default)]
    #[schemars(schema_with = "schema::count")]
    pub unprotected: u32,
    /// They are older than the baseline and only reported: see existingNamespaces.
    #[serde(default)]
    #[schemars(schema_with = "schema::count")]
    pub reported: u32,
    /// The API server calls a Service there, so they are left alone: see controlPlaneBackends.
    #[serde(default)]
    #[schemars(schema_with = "schema::count")]
    pub held: u32,
    /// Nothing is changed there for now: this baseline is suspended or stalled, a change waits for a confirmation, or a finalizer keeps a
    /// policy that was removed.
    #[serde(default)]
    #[schemars(schema_with = "schema::count")]
    pub frozen: u32,
    /// A BaselineOptOut takes a policy away for a time.
    #[serde(default)]
    #[schemars(schema_with = "schema::count")]
    pub opted_out: u32,
    /// Somebody else's policy opens there what this baseline closes.
    #[serde(default)]
    #[schemars(schema_with = "schema::count")]
    pub bypassed: u32,
    /// They match the selector, but another baseline comes first. They are not selected.
    #[serde(default)]
    #[schemars(schema_with = "schema::count")]
    pub shadowed: u32,
}

impl NamespaceCounts {
    /// The sum of both counts, field by field.
    #[must_use]
    pub const fn plus(self, other: &Self) -> Self {
        Self {
            selected: self.selected + other.selected,
            protected: self.protected + other.protected,
            pending: self.pending + other.pending,
            drifted: self.drifted + other.drifted,
            failed: self.failed + other.failed,
            unprotected: self.unprotected + other.unprotected,
            reported: self.reported + other.reported,
            held: self.held + other.held,
            frozen: self.frozen + other.frozen,
            opted_out: self.opted_out + other.opted_out,
            bypassed: self.bypassed + other.bypassed,
            shadowed: self.shadowed + other.shadowed,
        }
    }
}

/// What egress policies allow as DNS, beside what the spec says.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DnsStatus {
    /// Auto or Static, as in spec.dns.discovery.
    #[serde(default)]
    pub discovery: Discovery,
    /// What was found and is allowed; at most 64. After a restart, the operator keeps of this what it cannot read any more.
    #[serde(default)]
    #[schemars(length(max = 64))]
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

/// A place of DNS.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DnsFound {
    /// The object or file where it was found.
    #[schemars(length(max = 256))]
    pub source: String,
    /// The pods or addresses, and the ports, that are allowed.
    #[schemars(length(max = 512))]
    pub what: String,
}

/// Where the API server was found, for allows with kubernetesAPI.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct KubernetesApiStatus {
    /// What was found and is allowed; at most 64. After a restart, the operator keeps of this what it cannot read any more.
    #[serde(default)]
    #[schemars(length(max = 64))]
    pub found: Vec<KubernetesApiFound>,
    /// What could not be read, and why; at most 10.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::dns_notes")]
    pub notes: Vec<String>,
}

/// An address of the API server.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct KubernetesApiFound {
    /// The object where it was found.
    #[schemars(length(max = 256))]
    pub source: String,
    /// The address and the port that are allowed.
    #[schemars(length(max = 512))]
    pub what: String,
}

/// Something that is wrong in a namespace.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Violation {
    /// The namespace.
    pub namespace: String,
    /// The policy. Absent when the whole namespace is meant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// A word for the cause, from a fixed list.
    pub reason: ViolationReason,
    /// What is wrong, and what to do.
    #[schemars(length(max = 512))]
    pub message: String,
    /// Since when the operator has seen it.
    pub since: Time,
}

/// Something that is worth knowing about a namespace and is not wrong.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Notice {
    /// The namespace.
    pub namespace: String,
    /// The policy. Absent when the whole namespace is meant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// A word for what it is, from a fixed list.
    pub reason: NoticeReason,
    /// What it means, and what can be done.
    #[schemars(length(max = 512))]
    pub message: String,
    /// Since when the operator has seen it.
    pub since: Time,
}

/// One change that others made to a policy.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DriftRecord {
    /// When the operator saw it.
    pub time: Time,
    /// The namespace.
    pub namespace: String,
    /// The policy.
    pub policy: String,
    /// The class of the change, such as Missing or SpecChanged.
    pub class: String,
    /// The field manager that managedFields names as the last other writer, or unknown. It is a claim: any client can write any name.
    pub field_manager: String,
    /// What the operator did about it.
    pub action: String,
}
