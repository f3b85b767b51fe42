//! policy-baseline: default-deny NetworkPolicies with DNS allowed in every namespace, and kept there.
//!
//! The rooms, from top to bottom; each imports only the rooms below it (`docs/ARCHITECTURE.md`):
//! `cli`, `operator`, `cluster`, `engine`, `policy`, `api`. `api`, `policy` and `engine` see no client, no runtime and no clock.

#![cfg_attr(test, allow(clippy::needless_pass_by_value, clippy::default_trait_access, reason = "tests read better so"))]

pub mod api;
pub mod cli;
pub mod cluster;
pub mod engine;
pub mod operator;
pub mod policy;

#[cfg(test)]
mod testkit;
