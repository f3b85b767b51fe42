//! Which flows two versions of policies, or of a baseline, decide differently, for the same pods. It needs only the objects. Each flow between
//! two workloads, and between a workload and an address, is judged by both versions, on every port that they tell apart.

mod addresses;
mod changes;
mod compare;
mod manifests;
mod ports;
mod report;
#[cfg(test)]
mod tests;
mod text;
mod unseen;
mod workloads;
mod worlds;

pub use compare::compare;
pub use manifests::{DiffSide, WorkloadManifests};
pub use report::FlowDiff;
pub use text::MarkdownDiff;
pub use worlds::worlds;
