//! The watches. Each has its own backoff, reports its own errors and never ends.

mod backoff;
mod dns;
mod installs;
mod kinds;
mod plugins;
pub mod stream;

pub use self::{
    dns::everything as everything_of_dns, installs::everything as everything_of_installs, kinds::everything,
    plugins::everything as everything_of_plugins,
};
use crate::{api::backends::ConfigurationKind, engine::facts::readiness::WatchedSet};

/// The watches that every decision waits for: for the first five without a limit, for the others only for some time.
pub const WATCHES: [&str; 9] = [
    WatchedSet::Namespaces.as_str(),
    WatchedSet::Policies.as_str(),
    WatchedSet::Baselines.as_str(),
    WatchedSet::OptOuts.as_str(),
    WatchedSet::Installs.as_str(),
    ConfigurationKind::Validating.resource(),
    ConfigurationKind::Mutating.resource(),
    ConfigurationKind::ApiService.resource(),
    ConfigurationKind::Crd.resource(),
];

/// The watch for which only baselines with a rollout wait.
pub const REVISIONS_WATCH: &str = WatchedSet::Revisions.as_str();
/// The watches of network plugins, for which no decision waits.
pub const PLUGINS_WATCH: &str = WatchedSet::Plugins.as_str();
