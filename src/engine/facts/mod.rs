//! What the watches report: the events, and the state that is built from them.

pub mod backends;
pub mod baseline;
pub mod census;
pub mod crds;
pub mod dns;
pub mod entry;
pub mod event;
pub mod finalizers;
pub mod flight;
pub mod installs;
pub mod kubernetes_api;
pub mod namespaces;
pub mod opt_out;
pub mod plugins;
pub mod readiness;
pub mod relist;
