//! Decides whether NetworkPolicies allow a flow, and says which rule allows it or which policies deny it. It needs only the objects: it reads
//! no cluster and sends no packet. Kubernetes defines the meaning:
//! <https://kubernetes.io/docs/reference/kubernetes-api/policy-resources/network-policy-v1/>.

mod answer;
mod ask;
mod classes;
mod compile;
mod dump;
mod error;
mod judge;
mod objects;
mod ranges;
mod reach;
mod resolve;
mod selector;
mod snapshot;
mod suggest;
#[cfg(test)]
mod tests;
mod text;

pub use ask::{AskedPort, FlowEnd};
pub use compile::CompiledPolicies;
pub use dump::{DUMP_COMMAND, FlowDump};
pub use judge::FlowDecision;
pub use snapshot::FlowSnapshot;
