//! What is read of the policies that apply to the whole cluster: AdminNetworkPolicy, BaselineAdminNetworkPolicy and ClusterNetworkPolicy. All
//! become one form, whatever their version. What each field means: <https://network-policy-api.sigs.k8s.io/api-overview/>.

use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde::{Deserialize, Serialize};
use strum::{IntoStaticStr, VariantArray};

use crate::api::peers::Protocol;

/// The API group of these policies.
pub const CLUSTER_POLICY_GROUP: &str = "policy.networking.k8s.io";

/// A policy that applies to the whole cluster.
#[derive(Clone, Debug)]
pub struct ClusterPolicy {
    pub kind: ClusterPolicyKind,
    pub name: String,
    pub tier: PolicyTier,
    /// Of the policies of a kind and tier, those with the lowest number decide first.
    pub priority: i32,
    /// The pods that it is about.
    pub subject: NamespacedPods,
    pub egress: Vec<TierRule>,
    pub ingress: Vec<TierRule>,
}

/// A kind of policy that applies to the whole cluster.
#[derive(Clone, Copy, Debug, Eq, IntoStaticStr, Ord, PartialEq, PartialOrd, Serialize, VariantArray)]
#[strum(const_into_str)]
pub enum ClusterPolicyKind {
    #[serde(rename = "AdminNetworkPolicy")]
    #[strum(serialize = "AdminNetworkPolicy")]
    Admin,
    #[serde(rename = "BaselineAdminNetworkPolicy")]
    #[strum(serialize = "BaselineAdminNetworkPolicy")]
    BaselineAdmin,
    #[serde(rename = "ClusterNetworkPolicy")]
    #[strum(serialize = "ClusterNetworkPolicy")]
    Cluster,
}

/// When a policy decides: before NetworkPolicies, or where none isolates the pod.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum PolicyTier {
    Admin,
    Baseline,
}

/// A rule. Of the rules of a policy, the first one that matches decides.
#[derive(Clone, Debug)]
pub struct TierRule {
    pub name: Option<String>,
    pub action: TierAction,
    pub peers: Vec<TierPeer>,
    /// Empty: every port of every protocol.
    pub ports: Vec<TierPort>,
}

/// What a rule does with what it matches.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum TierAction {
    /// A ClusterNetworkPolicy calls it Accept.
    #[serde(alias = "Accept")]
    Allow,
    Deny,
    /// The next tier decides.
    Pass,
}

/// The other end of the traffic that a rule matches.
#[derive(Clone, Debug)]
pub enum TierPeer {
    Pods(NamespacedPods),
    /// The addresses of these nodes.
    Nodes(LabelSelector),
    Networks(Vec<String>),
    /// The addresses of names. Only the cluster's DNS knows them.
    DomainNames,
    /// It has none of the fields that are known here.
    Unknown,
}

/// Pods of namespaces.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NamespacedPods {
    pub namespace_selector: LabelSelector,
    pub pod_selector: LabelSelector,
}

/// Ports of the destination that a rule matches.
#[derive(Clone, Debug)]
pub enum TierPort {
    Every(Protocol),
    /// From the first to the last number.
    Numbers(Protocol, u16, u16),
    /// The container ports with this name, of any protocol.
    Name(String),
    /// It has none of the fields that are known here, or numbers that are no ports.
    Unknown,
}

/// A policy that applies to the whole cluster.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub struct ClusterPolicyRef<'a> {
    pub kind: ClusterPolicyKind,
    pub name: &'a str,
}

impl fmt::Display for ClusterPolicyRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind.into_str(), self.name)
    }
}

/// A policy of the whole cluster that could not be read.
#[derive(Clone, Debug)]
pub struct UnreadClusterPolicy {
    pub kind: ClusterPolicyKind,
    pub name: String,
}

impl UnreadClusterPolicy {
    /// The policy.
    pub fn policy(&self) -> ClusterPolicyRef<'_> {
        ClusterPolicyRef { kind: self.kind, name: &self.name }
    }

    /// Whether it may decide before NetworkPolicies.
    pub fn may_be_of_admin_tier(&self) -> bool {
        self.kind != ClusterPolicyKind::BaselineAdmin
    }
}

impl ClusterPolicy {
    /// The policy.
    pub fn policy(&self) -> ClusterPolicyRef<'_> {
        ClusterPolicyRef { kind: self.kind, name: &self.name }
    }

    /// Of two policies of a tier, the lower one decides first. Between two kinds the API defines no order: this only keeps them apart.
    pub const fn precedence(&self) -> (ClusterPolicyKind, i32) {
        (self.kind, self.priority)
    }

    /// The ranges of addresses that its rules name.
    pub fn networks(&self) -> impl Iterator<Item = &str> {
        let peers = self.egress.iter().flat_map(|rule| &rule.peers);
        let networks = peers.filter_map(|peer| match peer {
            TierPeer::Networks(networks) => Some(networks),
            TierPeer::Pods(_) | TierPeer::Nodes(_) | TierPeer::DomainNames | TierPeer::Unknown => None,
        });
        networks.flatten().map(String::as_str)
    }

    /// Whether a rule selects nodes by their labels.
    pub fn names_nodes(&self) -> bool {
        self.egress.iter().flat_map(|rule| &rule.peers).any(|peer| matches!(peer, TierPeer::Nodes(_)))
    }
}

impl ClusterPolicyKind {
    /// The kind with this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::VARIANTS.iter().copied().find(|kind| kind.into_str() == name)
    }

    /// The name of the resource.
    pub const fn plural(self) -> &'static str {
        match self {
            Self::Admin => "adminnetworkpolicies",
            Self::BaselineAdmin => "baselineadminnetworkpolicies",
            Self::Cluster => "clusternetworkpolicies",
        }
    }

    /// The field of a rule that has its ports.
    pub const fn ports(self) -> &'static str {
        match self {
            Self::Admin | Self::BaselineAdmin => "ports",
            Self::Cluster => "protocols",
        }
    }
}
