//! A watch that knows how to begin: with a streaming list or in pages, and anew when it has expired.

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

/// A watch, and how it begins.
#[derive(Debug)]
pub struct Watching<K> {
    /// Of what.
    pub api: Api<K>,
    /// Its kind, for the log.
    pub kind: Cow<'static, str>,
    /// Of which of them.
    pub config: watcher::Config,
    /// The API server may know streaming lists.
    pub streams: bool,
}

impl<K> Watching<K>
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
{
    /// Begins with a streaming list, which comes object by object, and with pages where the API server knows no such thing. Either is the most
    /// recent state, never what a cache remembers (the client sees to it): from an old namespace or baseline a removal could follow.
    fn begin(&self) -> BoxStream<'static, watcher::Result<Event<K>>> {
        let config = self.config.clone();
        watcher(self.api.clone(), if self.streams { config.streaming_lists() } else { config }).boxed()
    }

    /// A watch that begins anew when its version is refused as too old. The watcher itself asks for that version forever, unless an event
    /// of the stream says so.
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

/// A watch of objects that come rarely. All kinds of them share one watch in the binary, where each type of its own costs about a hundred
/// kilobytes of it; an object is read as what it is when it has come.
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

/// Whether the API server answered the request for a watch with one of these codes.
fn refused_with<K>(event: &watcher::Result<Event<K>>, codes: &[u16]) -> bool {
    matches!(event, Err(watcher::Error::WatchStartFailed(kube::Error::Api(status))) if codes.contains(&status.code))
}
