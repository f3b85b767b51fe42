//! What the watches said of the API server's objects, and what was found recently. What vanishes is kept for ten minutes, and an object
//! that cannot be read narrows nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use strum::VariantArray;

use super::found::{ApiDestination, ApiObject, ApiPlace, ClusterApi};
use crate::{api::baseline::KubernetesApiFound, policy::dns::KEPT};

/// How long an object must be refused before it counts as unreadable. An API server that has just started refuses everything.
const REFUSED: Duration = Duration::from_secs(5);

/// An event of one of the two watches.
#[derive(Clone, Debug)]
pub enum ApiEvent {
    /// The object names these destinations.
    Seen(ApiObject, BTreeSet<ApiDestination>),
    /// The object was deleted.
    Gone(ApiObject),
    /// A list begins.
    ListBegins(ApiObject),
    /// The list is complete: if it did not name the object, the object is gone.
    ListEnds(ApiObject),
    /// The object cannot be read, with the cause. What it said before stays valid.
    Unreadable(ApiObject, String),
}

/// What is known of one object.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
struct ApiReport {
    destinations: BTreeSet<ApiDestination>,
    /// The list that is under way has named the object; `None` if no list is under way.
    listed: Option<bool>,
    /// A list was complete at least once.
    is_read: bool,
    refused: Option<(String, Instant)>,
}

impl ApiReport {
    fn why_unread(&self, now: Instant) -> Option<&str> {
        let (why, since) = self.refused.as_ref()?;
        (now >= *since + REFUSED).then_some(why)
    }
}

/// The state of both objects, and what was found recently.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
pub struct ApiSources {
    reports: BTreeMap<ApiObject, ApiReport>,
    /// What the stored statuses say. It counts while its object was not read.
    recalled: BTreeSet<ApiPlace>,
    /// What they say was gone.
    recalled_gone: BTreeSet<ApiPlace>,
    /// Since when each place is gone (`None` if it still exists).
    places: BTreeMap<ApiPlace, Option<Instant>>,
}

impl ApiSources {
    /// Applies an event.
    pub fn hear(&mut self, event: ApiEvent, now: Instant) {
        match event {
            ApiEvent::Seen(object, destinations) => {
                let report = self.reports.entry(object).or_default();
                report.destinations = destinations;
                report.listed = report.listed.map(|_| true);
                report.refused = None;
            }
            ApiEvent::Gone(object) => {
                let report = self.reports.entry(object).or_default();
                report.destinations.clear();
                report.refused = None;
            }
            ApiEvent::ListBegins(object) => self.reports.entry(object).or_default().listed = Some(false),
            ApiEvent::ListEnds(object) => {
                let report = self.reports.entry(object).or_default();
                if report.listed.take() == Some(false) {
                    report.destinations.clear();
                }
                report.is_read = true;
                report.refused = None;
            }
            ApiEvent::Unreadable(object, why) => {
                let report = self.reports.entry(object).or_default();
                let since = report.refused.take().map_or(now, |(_, since)| since);
                report.refused = Some((why, since));
            }
        }
    }

    /// Takes over what stored statuses say. An address that a status names and no object has counts as gone since the first recall. It may
    /// have vanished while the operator could write no status.
    pub fn recall<'a>(&mut self, told: impl IntoIterator<Item = &'a KubernetesApiFound>, now: Instant) {
        for (place, is_gone) in told.into_iter().filter_map(ApiPlace::told) {
            let recalled = if is_gone { &mut self.recalled_gone } else { &mut self.recalled };
            if recalled.insert(place) {
                self.places.entry(place).or_insert(Some(now));
            }
        }
    }

    /// Whether each object is read, or counts as unreadable.
    pub fn are_known(&self, now: Instant) -> bool {
        let is_known = |object: &ApiObject| {
            self.reports.get(object).is_some_and(|report| report.is_read || report.why_unread(now).is_some())
        };
        ApiObject::VARIANTS.iter().all(is_known)
    }

    /// The objects that were never read.
    pub fn unread(&self) -> impl Iterator<Item = ApiObject> {
        let is_read = |object: &ApiObject| self.reports.get(object).is_some_and(|report| report.is_read);
        ApiObject::VARIANTS.iter().copied().filter(move |object| !is_read(object))
    }

    /// Where the API server is now, with what was found in the last ten minutes.
    pub fn derive(&mut self, now: Instant) -> ClusterApi {
        let of = |(source, report): (&ApiObject, &ApiReport)| {
            let source = *source;
            report.destinations.iter().map(move |destination| ApiPlace { source, destination: *destination }).collect::<Vec<_>>()
        };
        let mut present: BTreeSet<ApiPlace> = self.reports.iter().flat_map(of).collect();
        let is_read = |source: &ApiObject| self.reports.get(source).is_some_and(|report| report.is_read);
        present.extend(self.recalled.iter().filter(|place| !is_read(&place.source)));
        for (place, gone) in &mut self.places {
            if !present.contains(place) {
                gone.get_or_insert(now);
            }
        }
        self.places.extend(present.into_iter().map(|place| (place, None)));
        self.places.retain(|_, gone| gone.is_none_or(|gone| now < gone + KEPT));
        let unread = self.reports.iter().filter_map(|(object, report)| Some((*object, report.why_unread(now)?.to_owned())));
        ClusterApi::new(self.places.iter().map(|(place, gone)| (*place, gone.is_some())), unread.collect())
    }

    /// When [`Self::derive`] gives another result without an event.
    pub fn next(&self, now: Instant) -> Option<Instant> {
        let forgotten = self.places.values().flatten().map(|gone| *gone + KEPT);
        let refused = self.reports.values().filter_map(|report| report.refused.as_ref()).map(|(_, since)| *since + REFUSED);
        forgotten.chain(refused.filter(|at| *at > now)).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn destination(address: [u8; 4], port: u16) -> ApiDestination {
        ApiDestination { address: address.into(), port }
    }

    fn seen(object: ApiObject, address: [u8; 4], port: u16) -> ApiEvent {
        ApiEvent::Seen(object, [destination(address, port)].into())
    }

    fn list(sources: &mut ApiSources, events: impl IntoIterator<Item = ApiEvent>, now: Instant) {
        for object in ApiObject::VARIANTS {
            sources.hear(ApiEvent::ListBegins(*object), now);
        }
        events.into_iter().for_each(|event| sources.hear(event, now));
        for object in ApiObject::VARIANTS {
            sources.hear(ApiEvent::ListEnds(*object), now);
        }
    }

    fn words(sources: &mut ApiSources, now: Instant) -> String {
        sources.derive(now).words()
    }

    #[test]
    fn what_vanishes_is_kept_for_ten_minutes_and_what_comes_counts_at_once() {
        let (mut sources, start) = (ApiSources::default(), Instant::now());
        assert!(!sources.are_known(start));
        let both = [seen(ApiObject::Service, [10, 96, 0, 1], 443), seen(ApiObject::Slice, [192, 0, 2, 1], 6443)];
        list(&mut sources, both, start);
        assert!(sources.are_known(start) && sources.unread().next().is_none());
        assert_eq!(words(&mut sources, start), "10.96.0.1/32 on port 443; 192.0.2.1/32 on port 6443");
        sources.hear(seen(ApiObject::Slice, [192, 0, 2, 2], 6443), start);
        let all = "10.96.0.1/32 on port 443; 192.0.2.2/32 on port 6443; 192.0.2.1/32 on port 6443";
        assert_eq!(words(&mut sources, start), all);
        assert_eq!(sources.next(start), Some(start + KEPT));
        let almost = KEPT.checked_sub(Duration::from_secs(1)).unwrap();
        assert_eq!(words(&mut sources, start + almost), all);
        assert_eq!(words(&mut sources, start + KEPT), "10.96.0.1/32 on port 443; 192.0.2.2/32 on port 6443");
        // An object that a list does not name is gone, like one that was deleted.
        list(&mut sources, [], start + KEPT);
        assert_eq!(sources.derive(start + KEPT).by_port().len(), 2);
        assert_eq!(words(&mut sources, start + KEPT * 2), "");
    }

    #[test]
    fn i16_an_object_that_is_refused_narrows_nothing() {
        let (mut sources, start) = (ApiSources::default(), Instant::now());
        list(&mut sources, [seen(ApiObject::Slice, [192, 0, 2, 1], 6443)], start);
        let before = words(&mut sources, start);
        sources.hear(ApiEvent::Unreadable(ApiObject::Slice, "forbidden".into()), start);
        sources.hear(ApiEvent::ListBegins(ApiObject::Slice), start);
        sources.hear(ApiEvent::Unreadable(ApiObject::Slice, "forbidden".into()), start + REFUSED);
        let later = start + KEPT * 3;
        assert_eq!(words(&mut sources, later), before);
        assert_eq!(sources.derive(later).gap().unwrap().reason, "KubernetesAPINotReadable");
        sources.hear(ApiEvent::ListEnds(ApiObject::Service), later);
        sources.hear(seen(ApiObject::Slice, [192, 0, 2, 1], 6443), later);
        assert_eq!(sources.derive(later).gap(), None);
    }

    #[test]
    fn i16_after_a_restart_what_the_statuses_say_counts_until_the_object_is_read() {
        let (mut before, start) = (ApiSources::default(), Instant::now());
        let both = [seen(ApiObject::Service, [10, 96, 0, 1], 443), seen(ApiObject::Slice, [192, 0, 2, 1], 6443)];
        list(&mut before, both, start);
        let told = before.derive(start).status().found;
        let mut after = ApiSources::default();
        after.recall(&told, start);
        assert_eq!(after.derive(start).by_port(), before.derive(start).by_port());
        after.hear(ApiEvent::Unreadable(ApiObject::Slice, "forbidden".into()), start);
        list(&mut after, [], start);
        assert_eq!(after.derive(start).by_port(), before.derive(start).by_port(), "now it is gone, and kept");
        assert_eq!(words(&mut after, start + KEPT), "");
    }

    #[test]
    fn i16_what_was_gone_before_a_restart_is_kept_for_ten_minutes_more_and_only_once() {
        let (mut before, start) = (ApiSources::default(), Instant::now());
        list(&mut before, [seen(ApiObject::Slice, [192, 0, 2, 1], 6443)], start);
        before.derive(start);
        before.hear(seen(ApiObject::Slice, [192, 0, 2, 2], 6443), start);
        let told = before.derive(start).status().found;
        let both = "192.0.2.2/32 on port 6443; 192.0.2.1/32 on port 6443";
        let mut after = ApiSources::default();
        after.recall(&told, start);
        assert_eq!(words(&mut after, start), both);
        list(&mut after, [seen(ApiObject::Slice, [192, 0, 2, 2], 6443)], start);
        assert_eq!((words(&mut after, start), after.next(start)), (both.into(), Some(start + KEPT)));
        assert_eq!(words(&mut after, start + KEPT), "192.0.2.2/32 on port 6443");
        // The stored status may still say it.
        after.recall(&told, start + KEPT);
        assert_eq!(words(&mut after, start + KEPT), "192.0.2.2/32 on port 6443");
    }

    #[test]
    fn i16_what_vanished_while_no_status_said_so_is_kept_after_a_restart_in_whatever_order_it_is_read() {
        let (mut before, start) = (ApiSources::default(), Instant::now());
        list(&mut before, [seen(ApiObject::Slice, [192, 0, 2, 1], 6443)], start);
        let told = before.derive(start).status().found;
        let now_seen = || [seen(ApiObject::Slice, [192, 0, 2, 2], 6443)];
        for recalled_first in [true, false] {
            let mut after = ApiSources::default();
            if recalled_first {
                after.recall(&told, start);
            }
            list(&mut after, now_seen(), start);
            after.recall(&told, start);
            let both = "192.0.2.2/32 on port 6443; 192.0.2.1/32 on port 6443";
            assert_eq!((words(&mut after, start), after.next(start)), (both.into(), Some(start + KEPT)));
            assert_eq!(words(&mut after, start + KEPT), "192.0.2.2/32 on port 6443");
            after.recall(&told, start + KEPT);
            assert_eq!(words(&mut after, start + KEPT), "192.0.2.2/32 on port 6443", "the status still says it");
        }
    }

    #[test]
    fn a_refusal_counts_once_it_lasts() {
        let (mut sources, start) = (ApiSources::default(), Instant::now());
        for object in ApiObject::VARIANTS {
            sources.hear(ApiEvent::Unreadable(*object, "forbidden".into()), start);
        }
        assert!(!sources.are_known(start) && sources.are_known(start + REFUSED));
        assert_eq!((sources.next(start), sources.next(start + REFUSED)), (Some(start + REFUSED), None));
        assert_eq!(sources.derive(start + REFUSED).status().notes.len(), 2);
    }
}
