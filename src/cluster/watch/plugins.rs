//! The DaemonSets of network plugins as one stream of events. They are listed from time to time and not watched. The operator may read them
//! only by name, so each name would need a watch of its own. The watches of 19 names needed a megabyte of memory.

use std::{sync::Arc, time::Duration};

use futures::{
    FutureExt, Stream, StreamExt,
    stream::{self, BoxStream},
};
use kube::{Api, Client, api::ListParams, core::ApiResource};
use kube_runtime::watcher;
use tokio::time::sleep;

use super::{
    backoff::WatchBackoff,
    kinds::{WatchProblem, changes_after},
    stream::read,
};
use crate::{
    api::lenient::AnyObject,
    cluster::telemetry::Telemetry,
    engine::facts::{event::Event, readiness::WatchedSet},
    policy::plugins::{PluginSeen, SlimPlugin, daemon_set_names},
};

/// The longest delay after errors. Without the permission all these lists fail for ever, and nobody waits for them.
const MOST: Duration = Duration::from_secs(32);

/// The pause after the first list. A cluster often gets its plugin while the operator starts.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// The pause between two lists in the end.
const LAST_PAUSE: Duration = Duration::from_mins(5);

/// The events of the DaemonSets of all known network plugins, in every namespace. The first list begins when `begins` is ready.
pub fn everything<B>(client: &Client, begins: B, telemetry: &Arc<dyn Telemetry>) -> impl Stream<Item = Event> + Send + use<B>
where
    B: Future<Output = ()> + Send + 'static,
{
    let begins = begins.shared();
    let set = WatchedSet::Plugins;
    let api: Api<AnyObject> = Api::all_with(client.clone(), &ApiResource::erase::<SlimPlugin>(&()));
    let watch = move |name: &'static str| {
        let problem = WatchProblem::about(set.as_str(), set.is_optional(), telemetry);
        let (begins, api) = (begins.clone(), api.clone());
        let events = begins.map(move |()| lists(api, name)).flatten_stream().boxed();
        changes_after(WatchBackoff::up_to(MOST), events, problem, PluginSeen::from, move |change| Event::Plugin(name, change))
    };
    stream::select_all(daemon_set_names().map(watch))
}

/// The objects of this name, listed again and again.
fn lists(api: Api<AnyObject>, name: &'static str) -> BoxStream<'static, watcher::Result<watcher::Event<SlimPlugin>>> {
    let list = move |before: Option<Duration>| {
        let api = api.clone();
        // In a box, because a request under way is much larger than the wait for the next one.
        let turn = async move {
            if let Some(pause) = before {
                sleep(pause).await;
            }
            let params = ListParams::default().fields(&format!("metadata.name={name}"));
            match api.list(&params).boxed().await {
                Ok(list) => {
                    let objects = list.items.into_iter().map(|object| read(watcher::Event::InitApply(object)));
                    let ends = [Ok(watcher::Event::InitDone)];
                    let events: Vec<_> = [Ok(watcher::Event::Init)].into_iter().chain(objects).chain(ends).collect();
                    (events, Some(next_pause(before)))
                }
                // The backoff makes the pause.
                Err(error) => (vec![Err(watcher::Error::InitialListFailed(error))], None),
            }
        };
        turn.map(Some)
    };
    stream::unfold(Some(Duration::ZERO), list).flat_map(stream::iter).boxed()
}

/// Grows by a quarter each time, so that a change is noticed after a quarter of the operator's age, or after five minutes.
fn next_pause(before: Option<Duration>) -> Duration {
    before.map_or(FIRST_PAUSE, |pause| (pause + pause / 4).clamp(FIRST_PAUSE, LAST_PAUSE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pauses_grow_slowly_and_not_for_ever() {
        let pauses: Vec<Duration> =
            std::iter::successors(Some(next_pause(Some(Duration::ZERO))), |pause| Some(next_pause(Some(*pause))))
                .take(40)
                .collect();
        assert_eq!(pauses[..3], [1_000_000, 1_250_000, 1_562_500].map(Duration::from_micros));
        let age: Duration = pauses[..10].iter().sum();
        assert!(pauses[10] < age / 3, "{age:?}: {:?}", pauses[10]);
        assert_eq!(pauses[39], LAST_PAUSE);
    }
}
