//! Tests of the engine as a whole: the harness, the model, and one file for each concern.

mod allows;
mod backends;
mod bypasses;
mod crd_fields;
mod deletion;
mod dns;
mod dns_flood;
mod dns_recalled;
mod engine;
mod existing;
mod explain;
mod finalizers;
mod guard;
mod harness;
mod installs;
mod inventory;
mod isolation;
mod kubernetes_api;
pub mod model;
mod namespace_labels;
mod opt_outs;
mod others;
mod plugins;
mod rollout;
mod state_events;
mod terminating;
mod timed;
