//! The flows that change, for people and for machines.

use serde::Serialize;
use strum::IntoStaticStr;

use super::workloads::FlowEnds;

/// Which flows two versions decide differently.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FlowDiff {
    /// Only flows of workloads with pods that it selects were compared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
    /// The pods that were judged, and their workloads.
    pub pods: u64,
    pub workloads: usize,
    /// Pods on the host network. They are left out: Kubernetes does not define what policies mean for them.
    pub pods_on_host_network: u64,
    /// The policies that only the new version has.
    pub added_policies: usize,
    /// The policies that only the old version has.
    pub removed_policies: usize,
    /// The policies of which the new version has another spec.
    pub changed_policies: usize,
    /// The policies of these that differ in what no judged flow shows: they select none of the pods, or have a peer that is none of them.
    pub unseen_policies: usize,
    pub newly_allowed: FlowChanges,
    pub newly_denied: FlowChanges,
    /// What makes the answer doubtful: one sentence each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// The flows that change in one way.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FlowChanges {
    /// The number of pairs of ends between which they are. All addresses outside of the cluster are one end.
    pub pairs: u64,
    pub rows: Vec<ChangedFlows>,
    /// How many rows are left out.
    pub more_rows: usize,
}

/// Flows that change in the same way, and that the same policies decide.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ChangedFlows {
    pub from: FlowEnds,
    pub to: FlowEnds,
    /// Ports by protocol: `TCP 80, 8000-8080, UDP`. A protocol alone means all its ports.
    pub ports: String,
    /// The address family, if the flows over the other one do not change.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub only_over: Option<&'static str>,
    /// The directions in which the decision is another one.
    pub decided: Vec<DecidedDirection>,
}

/// What decides in one direction, in the new version.
#[derive(Clone, Debug, Serialize)]
pub struct DecidedDirection {
    pub direction: &'static str,
    pub by: String,
}

/// How a flow changes.
#[derive(Clone, Copy, Debug, Eq, Hash, IntoStaticStr, Ord, PartialEq, PartialOrd)]
#[strum(const_into_str)]
pub enum FlowChange {
    #[strum(serialize = "newly allowed")]
    Allowed,
    #[strum(serialize = "newly denied")]
    Denied,
}

impl FlowDiff {
    /// Whether some flow changes.
    pub const fn has_changes(&self) -> bool {
        self.newly_allowed.pairs + self.newly_denied.pairs > 0
    }
}
