//! A watch that chooses its initial list (streaming or paged), and that lists again when its version has expired.

use std::{borrow::Cow, fmt::Debug, time::Duration};

use futures::{
    Stream, StreamExt,
    stream::{self, BoxStream},
};
use kube::{Api, Client, Resource, core::ApiResource};
use kube_runtime::watcher::{self, Event, watcher};
use serde::de::DeserializeOwned;
use tokio::time::{Instant, timeout_at};
use tracing::{info, warn};

use crate::api::lenient::AnyObject;

/// For so long a streaming list may send nothing before it has ended. An API server sends the bookmark that ends it right after the last
/// object. It may wait about three seconds before the first one, until its cache is fresh.
const STALLED: Duration = Duration::from_secs(10);

/// For so long it may go on. If the bookmark is lost, live events follow the objects, and in a busy cluster they never stop. The watcher
/// passes over the deletions among them.
const LONGEST: Duration = Duration::from_mins(1);

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
    /// Whether to list again after a refusal. A resumed watch does not say that it works again; a complete list does. That costs a list of
    /// all objects, so it is for those that are few.
    pub lists_after_refusal: bool,
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
    ///
    /// `Init` comes as soon as a version has expired, because from then on events are missing. The watcher reports a streaming list only when
    /// the API server has accepted the request for it.
    pub fn events(self) -> impl Stream<Item = watcher::Result<Event<K>>> + Send {
        let mut has_begun = false;
        self.listing().flat_map(move |event| {
            let (first, second) = match event {
                Ok(Event::Init) if std::mem::take(&mut has_begun) => (None, None),
                Err(error) if has_expired(&error) => {
                    has_begun = true;
                    (Some(Err(error)), Some(Ok(Event::Init)))
                }
                event => (Some(event), None),
            };
            stream::iter([first, second].into_iter().flatten())
        })
    }

    fn listing(self) -> impl Stream<Item = watcher::Result<Event<K>>> + Send {
        stream::unfold((self, ListProgress::None, None), async |(mut watching, mut list, events): (Self, _, _)| {
            let mut events = events.unwrap_or_else(|| watching.begin());
            let next = match list {
                ListProgress::Streaming { until } => timeout_at(until.min(Instant::now() + STALLED), events.next()).await.ok(),
                _ => Some(events.next().await),
            };
            let mut event = if let Some(event) = next {
                event?
            } else {
                watching.streams = false;
                list = ListProgress::PagedInstead;
                events = watching.begin();
                events.next().await?
            };
            if watching.streams && refused_with(&event, &[400, 422]) {
                info!(kind = %watching.kind, "the API server has no streaming lists: lists come in pages");
                watching.streams = false;
                events = watching.begin();
                event = events.next().await?;
            }
            // The watcher of the pages would list in pages again.
            let is_refused = refused_with(&event, &[403, 404]) && watching.lists_after_refusal;
            let begins_anew =
                is_refused || refused_with(&event, &[410]) || (list == ListProgress::PagedInstead && event.is_err());
            list = watching.progress(list, &event);
            Some((event, (watching, list, (!begins_anew).then_some(events))))
        })
    }

    /// How far the list is after that event. A paged list that fails too says nothing of streaming lists, so these are tried again.
    fn progress(&mut self, list: ListProgress, event: &watcher::Result<Event<K>>) -> ListProgress {
        match (list, event) {
            (ListProgress::PagedInstead, Ok(Event::InitDone)) => {
                warn!(
                    kind = %self.kind,
                    "a streaming list did not end: it sent nothing for {} s, or went on for {} s. The same list in pages ended, so lists come in pages from now on. Something between the operator and the API server may lose bookmarks",
                    STALLED.as_secs(),
                    LONGEST.as_secs()
                );
                ListProgress::None
            }
            (ListProgress::PagedInstead, Err(_)) => {
                self.streams = true;
                ListProgress::None
            }
            (ListProgress::PagedInstead, Ok(_)) => list,
            (_, Ok(Event::Init)) if self.streams => ListProgress::Streaming { until: Instant::now() + LONGEST },
            (_, Ok(Event::InitDone) | Err(_)) => ListProgress::None,
            (_, Ok(_)) => list,
        }
    }
}

/// How far the list is that a watch begins with.
#[derive(Clone, Copy, Debug, PartialEq)]
enum ListProgress {
    /// None is under way, or it comes in pages.
    None,
    /// A streaming list has begun. It is given up at that time.
    Streaming { until: Instant },
    /// A streaming list did not end, and its objects come in pages now.
    PagedInstead,
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
    Watching { api, kind: K::kind(&()), config, streams: true, lists_after_refusal: true }
        .events()
        .map(|event| read(event?))
        .boxed()
}

/// Converts an object to its own type.
pub(super) fn read<K: DeserializeOwned>(event: Event<AnyObject>) -> watcher::Result<Event<K>> {
    let parse = |object: AnyObject| {
        K::deserialize(object.value).map_err(|error| watcher::Error::InitialListFailed(kube::Error::SerdeError(error)))
    };
    Ok(match event {
        Event::Init => Event::Init,
        Event::InitDone => Event::InitDone,
        Event::InitApply(object) => Event::InitApply(parse(object)?),
        Event::Apply(object) => Event::Apply(parse(object)?),
        Event::Delete(object) => Event::Delete(parse(object)?),
    })
}

/// Whether the watch must list again, because its version is too old.
fn has_expired(error: &watcher::Error) -> bool {
    match error {
        watcher::Error::WatchStartFailed(kube::Error::Api(status)) | watcher::Error::WatchError(status) => status.code == 410,
        _ => false,
    }
}

/// Whether the API server refused to start the watch with one of these codes.
fn refused_with<K>(event: &watcher::Result<Event<K>>, codes: &[u16]) -> bool {
    matches!(event, Err(watcher::Error::WatchStartFailed(kube::Error::Api(status))) if codes.contains(&status.code))
}
