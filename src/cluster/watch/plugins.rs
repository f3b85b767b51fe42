//! The watches of the DaemonSets of network plugins as one stream: one watch for each name, because the operator may list them only by name.

use std::{sync::Arc, time::Duration};

use futures::{Stream, stream};
use kube::Client;
use kube_runtime::watcher;

use super::{
    backoff::WatchBackoff,
    kinds::{WatchProblem, changes_after},
    stream::watch_dynamic,
};
use crate::{
    cluster::telemetry::Telemetry,
    engine::facts::{event::Event, readiness::WatchedSet},
    policy::plugins::{PluginSeen, SlimPlugin, daemon_set_names},
};

/// The longest delay after errors. Without the permission all these watches fail for ever, and nobody waits for them.
const MOST: Duration = Duration::from_secs(32);

/// The events of the DaemonSets of all known network plugins, in every namespace.
pub fn everything(client: &Client, telemetry: &Arc<dyn Telemetry>) -> impl Stream<Item = Event> + Send + use<> {
    let set = WatchedSet::Plugins;
    let watch = |name: &'static str| {
        let named = watcher::Config::default().fields(&format!("metadata.name={name}"));
        let events = watch_dynamic::<SlimPlugin>(client, None, named);
        let problem = WatchProblem::about(set.as_str(), set.is_optional(), telemetry);
        changes_after(WatchBackoff::up_to(MOST), events, problem, PluginSeen::from, move |change| Event::Plugin(name, change))
    };
    stream::select_all(daemon_set_names().map(watch))
}
