//! Decides whether NetworkPolicies allow a flow, and says which rule allows it or which policies deny it. It needs only the objects: it reads
//! no cluster and sends no packet. Kubernetes defines the meaning:
//! <https://kubernetes.io/docs/reference/kubernetes-api/policy-resources/network-policy-v1/>.

mod address_cover;
mod answer;
mod ask;
mod classes;
mod compile;
mod dump;
mod error;
mod facts;
mod judge;
mod objects;
mod ranges;
mod reach;
mod resolve;
mod selector;
mod snapshot;
mod suggest;
#[cfg(test)]
pub mod tests;
mod text;

pub use address_cover::AddressCover;
pub use ask::{AskedPort, FlowEnd, NumberOrName};
pub use compile::{CompiledPolicies, Way};
pub use dump::{DUMP_COMMAND, FlowDump};
pub use facts::DumpFacts;
pub use judge::{DirectionVerdict, Flow, FlowDecision, Party};
pub use objects::{FlowNamespace, FlowPod, FlowPolicy, IpFamily};
pub use ranges::AddressRange;
pub use snapshot::FlowSnapshot;
pub use suggest::{AllowedToo, Suggestion, Suggestions, workload, workload_labels};
pub use text::few;
