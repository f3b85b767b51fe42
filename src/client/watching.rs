//! A watch that knows how to begin: with a streaming list or in pages, and anew when it has expired.

use std::fmt::Debug;

use futures::{
    Stream, StreamExt,
    stream::{self, BoxStream},
};
use kube::{
    Api, Resource,
    runtime::watcher::{self, Event, watcher},
};
use serde::de::DeserializeOwned;
use tracing::info;

/// A watch, and how it begins.
#[derive(Debug)]
pub struct Watching<K> {
    /// Of what.
    pub api: Api<K>,
    /// Of which of them.
    pub config: watcher::Config,
    /// The apiserver may know streaming lists.
    pub streams: bool,
}

impl<K> Watching<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    /// Begins with a streaming list, which comes object by object, and with pages where the apiserver knows no such thing. Either is the most
    /// recent state, never what a cache remembers (the client sees to it): from an old namespace or baseline a removal could follow.
    fn begin(&self) -> BoxStream<'static, watcher::Result<Event<K>>> {
        let config = self.config.clone();
        watcher(self.api.clone(), if self.streams { config.streaming_lists() } else { config }).boxed()
    }

    /// A watch that begins anew when its version is refused as too old. The watcher itself asks for that version for ever, unless an event
    /// of the stream says so.
    pub fn events(self) -> impl Stream<Item = watcher::Result<Event<K>>> + Send {
        stream::unfold((self, None), async |(mut watching, events): (Self, _)| {
            let mut events = events.unwrap_or_else(|| watching.begin());
            let mut event = events.next().await?;
            if watching.streams && refused_with(&event, &[400, 422]) {
                info!(kind = %K::kind(&()), "the apiserver has no streaming lists, so lists come in pages");
                watching.streams = false;
                events = watching.begin();
                event = events.next().await?;
            }
            let is_gone = refused_with(&event, &[410]);
            Some((event, (watching, (!is_gone).then_some(events))))
        })
    }
}

/// Whether the apiserver answered the request for a watch with one of these codes.
fn refused_with<K>(event: &watcher::Result<Event<K>>, codes: &[u16]) -> bool {
    matches!(event, Err(watcher::Error::WatchStartFailed(kube::Error::Api(status))) if codes.contains(&status.code))
}
