//! A watch that chooses its initial list (streaming or paged), and that lists again when its version has expired.

use std::{borrow::Cow, fmt::Debug};

use futures::{
    Stream, StreamExt,
    stream::{self, BoxStream},
};
use kube::{
    Api, Client, Resource,
    core::{ApiResource, DynamicObject},
};
use kube_runtime::watcher::{self, Event, watcher};
use serde::de::DeserializeOwned;
use tracing::info;

/// The settings of a watch.
#[derive(Debug)]
pub struct Watching<K> {
    /// The resource to watch.
    pub api: Api<K>,
    /// The kind, for the log.
    pub kind: Cow<'static, str>,
    /// Restricts the watch by labels or fields.
    pub config: watcher::Config,
    /// Whether to try streaming lists. Set to false when the API server refuses them.
    pub streams: bool,
}

impl<K> Watching<K>
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
{
    /// Starts with a streaming list, which delivers one object at a time, or with a paged list if the API server has no streaming lists.
    /// Both give the most recent state and not a cached one (the client ensures that). A stale namespace or baseline could cause a removal.
    fn begin(&self) -> BoxStream<'static, watcher::Result<Event<K>>> {
        let config = self.config.clone();
        watcher(self.api.clone(), if self.streams { config.streaming_lists() } else { config }).boxed()
    }

    /// The events of the watch. It lists again when the API server refuses its version as too old. The watcher alone would request that
    /// version forever, unless the stream itself contains the error.
    pub fn events(self) -> impl Stream<Item = watcher::Result<Event<K>>> + Send {
        stream::unfold((self, None), async |(mut watching, events): (Self, _)| {
            let mut events = events.unwrap_or_else(|| watching.begin());
            let mut event = events.next().await?;
            if watching.streams && refused_with(&event, &[400, 422]) {
                info!(kind = %watching.kind, "the API server has no streaming lists: lists come in pages");
                watching.streams = false;
                events = watching.begin();
                event = events.next().await?;
            }
            let is_gone = refused_with(&event, &[410]);
            Some((event, (watching, (!is_gone).then_some(events))))
        })
    }
}

/// A watch of objects that are few. All such kinds share one type of watch, because each type adds about a hundred kilobytes to
/// the binary. Each object is converted to its own type when it arrives.
pub fn watch_dynamic<K>(
    client: &Client,
    namespace: Option<&str>,
    config: watcher::Config,
) -> BoxStream<'static, watcher::Result<Event<K>>>
where
    K: Resource<DynamicType = ()> + DeserializeOwned + 'static,
{
    let resource = ApiResource::erase::<K>(&());
    let api = match namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    };
    Watching { api, kind: K::kind(&()), config, streams: true }.events().map(|event| read(event?)).boxed()
}

fn read<K: DeserializeOwned>(event: Event<DynamicObject>) -> watcher::Result<Event<K>> {
    let parse = |object: DynamicObject| {
        let value = serde_json::to_value(object).and_then(K::deserialize);
        value.map_err(|error| watcher::Error::InitialListFailed(kube::Error::SerdeError(error)))
    };
    Ok(match event {
        Event::Init => Event::Init,
        Event::InitDone => Event::InitDone,
        Event::InitApply(object) => Event::InitApply(parse(object)?),
        Event::Apply(object) => Event::Apply(parse(object)?),
        Event::Delete(object) => Event::Delete(parse(object)?),
    })
}

/// Whether the API server refused to start the watch with one of these codes.
fn refused_with<K>(event: &watcher::Result<Event<K>>, codes: &[u16]) -> bool {
    matches!(event, Err(watcher::Error::WatchStartFailed(kube::Error::Api(status))) if codes.contains(&status.code))
}
