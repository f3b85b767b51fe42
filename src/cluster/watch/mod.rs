//! The watches. Each has its own backoff, reports its own errors and never ends.

mod backoff;
mod dns;
mod installs;
mod kinds;
mod kubernetes_api;
mod plugins;
mod services;
pub mod stream;

use std::{path::PathBuf, sync::Arc};

use futures::{Stream, stream::select};

pub use self::plugins::everything as everything_of_plugins;
use super::{client::Clients, telemetry::Telemetry};
use crate::{
    api::backends::ConfigurationKind,
    engine::facts::{event::Event, readiness::WatchedSet},
};

/// The events of everything that a decision may wait for. `resolv_conf` is the one that pods get, if the process runs in a pod.
pub fn everything_to_decide(
    clients: &Clients,
    own_namespace: &str,
    resolv_conf: Option<PathBuf>,
    telemetry: &Arc<dyn Telemetry>,
) -> impl Stream<Item = Event> + Send + use<> {
    let Clients { watches, requests, .. } = clients;
    let kinds = kinds::everything(watches, own_namespace, telemetry);
    let installs = installs::everything(watches, requests, own_namespace, telemetry);
    let dns = dns::everything(watches, resolv_conf, telemetry);
    let api = kubernetes_api::everything(watches, telemetry);
    select(select(kinds, installs), select(dns, api))
}

/// The watches that every decision waits for: for the first five without a limit, for the others only for some time.
pub const WATCHES: [&str; 10] = [
    WatchedSet::Namespaces.as_str(),
    WatchedSet::Policies.as_str(),
    WatchedSet::Baselines.as_str(),
    WatchedSet::OptOuts.as_str(),
    WatchedSet::Installs.as_str(),
    ConfigurationKind::Validating.resource(),
    ConfigurationKind::Mutating.resource(),
    ConfigurationKind::ApiService.resource(),
    ConfigurationKind::Crd.resource(),
    ConfigurationKind::Service.resource(),
];

/// The watch for which only baselines with a rollout wait.
pub const REVISIONS_WATCH: &str = WatchedSet::Revisions.as_str();
/// The watches of network plugins, for which no decision waits.
pub const PLUGINS_WATCH: &str = WatchedSet::Plugins.as_str();
