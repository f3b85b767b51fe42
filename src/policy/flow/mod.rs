//! Decides whether NetworkPolicies allow a flow, and says which rule allows it or which policies deny it. It needs only the objects: it reads
//! no cluster and sends no packet. Kubernetes defines the meaning:
//! <https://kubernetes.io/docs/reference/kubernetes-api/policy-resources/network-policy-v1/>. What decides before and after NetworkPolicies, in
//! the Admin tier and in the Baseline tier, is defined by <https://network-policy-api.sigs.k8s.io/api-overview/>.

mod address_cover;
mod answer;
mod ask;
mod classes;
mod cluster_policy;
mod cluster_policy_fields;
mod compile;
mod decide;
mod dump;
mod error;
mod facts;
mod judge;
mod near_miss;
mod node;
mod object_parts;
mod objects;
mod owners;
mod pod_life;
mod ranges;
mod reach;
mod resolve;
mod rule_parts;
mod selector;
mod service_objects;
mod snapshot;
mod suggest;
#[cfg(test)]
pub mod tests;
mod text;
mod tier_judge;
mod tiers;
mod workload_pods;

pub use address_cover::AddressCover;
pub use answer::JudgedFlow;
pub use ask::{AskedPort, FlowEnd, NumberOrName};
pub use cluster_policy::{CLUSTER_POLICY_GROUP, ClusterPolicyKind, ClusterPolicyRef};
pub use compile::{CompiledPeer, CompiledPolicies, isolates, known_ranges};
pub use decide::FlowDecider;
pub use dump::{DUMP_COMMAND, FlowDump};
pub use error::FlowError;
pub use facts::DumpFacts;
pub use judge::{Blame, DirectionVerdict, Flow, FlowDecision, Party, RuleRef};
pub use near_miss::{MissedPart, NearMiss};
pub use object_parts::{IpFamily, ObjectEdits};
pub use objects::{FlowNamespace, FlowObject, FlowPod, FlowPolicy, PolicyRef};
pub use owners::WorkloadKind;
pub use pod_life::PodNameservers;
pub use ranges::AddressRange;
pub use reach::{ReachQuestion, Row};
pub use resolve::{AskedFlows, pods_at, service_targets, shown as party_shown};
pub use rule_parts::{BothWays, CompiledPort, Way};
pub use service_objects::{FlowService, UnreadyPods};
pub use snapshot::FlowSnapshot;
pub use suggest::{AllowedToo, Suggestion, Suggestions, pod_by_labels, workload, workload_labels};
pub use text::{few, few_of, place, verdict_sentences};
