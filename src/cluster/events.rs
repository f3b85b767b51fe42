//! Publishes events about policies and opt-outs in their namespace, where its tenants can read them.
//! No failure here can fail or delay a repair (I9): the queue is bounded, and an event that does not fit is dropped and counted.

use std::sync::Arc;

use k8s_openapi::{
    api::{core::v1::ObjectReference, events::v1::Event},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};
use tokio::sync::mpsc;
use tracing::debug;

use super::writer::Writer;
use crate::{
    api::text::shown,
    cluster::telemetry::Telemetry,
    engine::writes::{Announcement, WriteError},
};

const QUEUE: usize = 1024;
/// The longest note that the API server accepts, in bytes.
const MAX_NOTE: usize = 1024;
/// The longest part of an object's name that goes into the name of its event, in bytes.
const MAX_STEM: usize = 200;

/// The sending end of the queue. Never blocks.
#[derive(Clone, Debug)]
pub struct Announcer {
    queue: mpsc::Sender<Announcement>,
    telemetry: Arc<dyn Telemetry>,
}

impl Announcer {
    /// Queues an announcement, or drops it when the queue is full.
    pub fn announce(&self, announcement: Announcement) {
        if self.queue.try_send(announcement).is_err() {
            self.telemetry.event_dropped();
        }
    }
}

/// Returns the sending end, and the future that publishes the events while this instance leads. It ends when all announcers are dropped.
pub fn publisher(writer: Writer, instance: String, telemetry: Arc<dyn Telemetry>) -> (Announcer, impl Future<Output = ()>) {
    let (queue, mut announcements) = mpsc::channel(QUEUE);
    let announcer = Announcer { queue, telemetry };
    let publish = async move {
        while let Some(announcement) = announcements.recv().await {
            publish_one(&writer, &instance, announcement).await;
        }
    };
    (announcer, publish)
}

async fn publish_one(writer: &Writer, instance: &str, announcement: Announcement) {
    let namespace = &announcement.namespace;
    match writer.record_event(namespace.as_str(), &event(&announcement, instance)).await {
        Ok(()) | Err(WriteError::NotLeading) => {}
        Err(error) => debug!(%namespace, "event not recorded: {error}"),
    }
}

fn event(a: &Announcement, instance: &str) -> Event {
    let (api_version, kind) = a.reason.regards();
    Event {
        metadata: ObjectMeta {
            // One policy can have two events at the same moment.
            name: Some(format!("{}.{:x}.{}", shortened(&a.policy), a.at.as_nanosecond(), a.reason.into_str().to_lowercase())),
            namespace: Some(a.namespace.as_str().into()),
            ..ObjectMeta::default()
        },
        event_time: Some(MicroTime(a.at)),
        reporting_controller: Some("policybaseline.io/policy-baseline".into()),
        reporting_instance: Some(instance.into()),
        type_: Some(if a.reason.is_warning() { "Warning" } else { "Normal" }.into()),
        reason: Some(a.reason.into_str().into()),
        action: Some(a.reason.action().into()),
        note: Some(cut(&a.note)),
        regarding: Some(ObjectReference {
            api_version: Some(api_version.into()),
            kind: Some(kind.into()),
            name: Some(a.policy.clone()),
            namespace: a.reason.is_namespaced().then(|| a.namespace.as_str().into()),
            uid: a.uid.clone(),
            ..ObjectReference::default()
        }),
        ..Event::default()
    }
}

/// The beginning of a name, so that a suffix still fits: a name has at most 253 characters.
fn shortened(name: &str) -> &str {
    name[..name.floor_char_boundary(MAX_STEM)].trim_end_matches(['-', '.'])
}

fn cut(note: &str) -> String {
    let note = shown(note);
    note[..note.floor_char_boundary(MAX_NOTE)].into()
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use strum::VariantArray;

    use super::*;
    use crate::{
        api::{NamespaceName, reason::EventReason},
        cluster::telemetry::Recorded,
    };

    fn announcement(note: &str) -> Announcement {
        Announcement {
            namespace: NamespaceName::observed("a"),
            policy: "p".into(),
            uid: None,
            reason: EventReason::DriftRepaired,
            note: note.into(),
            at: Timestamp::UNIX_EPOCH,
        }
    }

    #[test]
    fn a_note_is_cut_to_what_the_apiserver_takes_without_splitting_a_letter() {
        assert_eq!(cut("short"), "short");
        assert_eq!(cut("two\nlines"), "two lines");
        let long = cut(&"é".repeat(2000));
        assert!(long.len() <= 1024 && long.chars().all(|c| c == 'é'));
    }

    #[tokio::test]
    async fn i9_a_full_queue_drops_and_never_waits() {
        let recorded = Arc::new(Recorded::default());
        let (queue, _announcements) = mpsc::channel(1);
        let announcer = Announcer { queue, telemetry: recorded.clone() };
        for _ in 0..5 {
            announcer.announce(announcement("x"));
        }
        assert_eq!(recorded.lines(), ["event dropped"; 4]);
    }

    #[test]
    fn two_events_of_one_moment_have_names_of_their_own() {
        let names = EventReason::VARIANTS
            .iter()
            .map(|reason| event(&Announcement { reason: *reason, ..announcement("x") }, "pod").metadata.name);
        let names: Vec<_> = names.collect();
        assert_eq!(names.iter().collect::<std::collections::BTreeSet<_>>().len(), names.len());
    }

    #[test]
    fn an_event_is_about_the_policy_in_its_own_namespace() {
        let event = event(&announcement("x"), "pod");
        assert_eq!(event.metadata.namespace.as_deref(), Some("a"));
        assert_eq!(event.regarding.unwrap().kind.as_deref(), Some("NetworkPolicy"));
        assert_eq!(event.type_.as_deref(), Some("Warning"));
    }
}
