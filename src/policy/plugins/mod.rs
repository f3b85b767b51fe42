//! Which network plugin the cluster has, and whether it enforces NetworkPolicies, as far as objects show it. Only packets prove it.
//! Uses no client and no clock.

mod found;
mod known;

pub use found::{PluginJudgement, PluginSeen, PluginsFound, SlimPlugin};
pub use known::daemon_set_names;
