//! Drops what the watch of Services says again. A Service changes often, for example when its load balancer does, and only its name counts.

use std::{
    collections::HashSet,
    future::ready,
    hash::{DefaultHasher, Hash, Hasher},
};

use futures::{Stream, StreamExt, stream::BoxStream};

use crate::engine::facts::event::{Change, Event};

/// The events without those of Services that exist already. A list stays complete.
pub fn only_new_names(events: impl Stream<Item = Event> + Send + 'static) -> BoxStream<'static, Event> {
    let (mut known, mut is_listing) = (HashSet::new(), false);
    let hash = |name: &str| {
        let mut hasher = DefaultHasher::new();
        name.hash(&mut hasher);
        hasher.finish()
    };
    let is_news = move |event: &Event| {
        let Event::Configuration(_, change) = event else { return ready(true) };
        ready(match change {
            Change::ListBegan => {
                (known, is_listing) = (HashSet::new(), true);
                true
            }
            Change::Applied(service) => known.insert(hash(&service.name)) || is_listing,
            Change::Deleted(service) => {
                known.remove(&hash(&service.name));
                true
            }
            Change::ListDone => {
                is_listing = false;
                true
            }
            Change::Refused(..) => true,
        })
    };
    events.filter(is_news).boxed()
}

#[cfg(test)]
mod tests {
    use futures::stream;

    use super::*;
    use crate::api::backends::{Configuration, ConfigurationKind};

    #[tokio::test]
    async fn a_service_that_is_known_is_no_news_until_it_is_gone_or_listed_again() {
        let service =
            || Configuration { kind: ConfigurationKind::Service, name: "a/s".into(), services: vec![], missing_fields: vec![] };
        let event = |change| Event::Configuration(ConfigurationKind::Service, change);
        let applied = || event(Change::Applied(service()));
        let list = || [event(Change::ListBegan), applied(), event(Change::ListDone)];
        let gone = event(Change::Deleted(service()));
        let events =
            list().into_iter().chain([applied(), applied(), gone, applied(), applied()]).chain(list()).chain([applied()]);
        let word = |event: Event| match event {
            Event::Configuration(_, Change::Applied(_)) => "applied",
            Event::Configuration(_, Change::Deleted(_)) => "deleted",
            _ => "list",
        };
        let seen: Vec<&str> = only_new_names(stream::iter(events)).map(word).collect().await;
        assert_eq!(seen, ["list", "applied", "list", "deleted", "applied", "list", "applied", "list"]);
    }
}
