//! What NetworkPolicies mean, and what a baseline asks for: pure, without a client, a runtime or a clock.

pub mod digest;
pub mod dns;
pub mod drift;
pub mod explain;
pub mod listing;
pub mod netpol;
pub mod plan;
#[cfg(test)]
mod properties;
pub mod rollout;
pub mod status;
