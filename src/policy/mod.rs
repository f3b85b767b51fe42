//! What NetworkPolicies mean, and what a baseline asks for. Pure code: no client, no runtime, no clock.

pub mod diff;
pub mod digest;
pub mod dns;
pub mod drift;
pub mod explain;
pub mod flow;
pub mod inventory;
pub mod kubernetes_api;
pub mod lint;
pub mod listing;
pub mod netpol;
pub mod plan;
pub mod plugins;
pub mod preview;
#[cfg(test)]
mod properties;
pub mod rollout;
pub mod status;
pub mod symptoms;
mod table;
pub mod would_break;
