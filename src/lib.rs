//! policy-baseline: default-deny NetworkPolicies with DNS allowed in every namespace, and kept there.
//!
//! The arrows of `docs/ARCHITECTURE.md` hold: `api`, `plan`, `drift`, `observe` and `status` see no client, no runtime and no clock.

#![cfg_attr(test, allow(clippy::needless_pass_by_value, clippy::default_trait_access, reason = "tests read better so"))]

pub mod admin;
pub mod api;
pub mod apply;
pub mod cli;
pub mod client;
pub mod controller;
pub mod digest;
pub mod dns;
pub mod drift;
pub mod events;
pub mod explain;
pub mod gate;
pub mod health;
pub mod lease;
pub mod listing;
pub mod metrics;
pub mod netpol;
pub mod observe;
pub mod plan;
pub mod reconcile;
pub mod rollout;
pub mod status;

#[cfg(test)]
mod properties;
#[cfg(test)]
mod testkit;
