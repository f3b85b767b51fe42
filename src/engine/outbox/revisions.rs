//! The revisions of baselines, stored as ControllerRevisions in the operator's namespace: where rollouts start from, and where they go.
//! Every instance reads them. Only the leader writes them, one at a time for each baseline. Memory only.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use k8s_openapi::{
    api::apps::v1::ControllerRevision,
    apimachinery::pkg::{
        apis::meta::v1::{ObjectMeta, OwnerReference},
        runtime::RawExtension,
    },
};
use kube::Resource;
use tracing::{debug, info, warn};

use super::{
    baseline_status::BaselineState,
    pending::{Attempt, PendingWrite},
    retry::{Delays, LONGEST},
};
use crate::{
    api::{
        PolicyBaseline, Uid,
        names::{LABEL_BASELINE, LABEL_MANAGED_BY, MANAGER},
        reason::{Failure, rollout as reason},
    },
    engine::{facts::readiness::ListState, writes::WriteError},
    policy::{listing::Listing, plan::Revision},
};

/// The wait after the first failed write.
const AGAIN: Duration = Duration::from_secs(2);
/// The longest wait after a failure that only people can fix.
const RARELY: Duration = Duration::from_mins(5);
/// The number of the first revision of a baseline. Lower numbers are free for revisions that must come before it.
const FIRST: i64 = 100;

/// A revision to store or to delete.
#[derive(Clone, Debug)]
pub struct RevisionWrite {
    /// The name of the baseline.
    pub baseline: Arc<str>,
    /// The name of the object.
    pub object: String,
    /// Whether to store or to delete it.
    pub what: RevisionChange,
}

/// What to do with a revision.
#[derive(Clone, Debug)]
pub enum RevisionChange {
    /// Store it.
    Store(Box<ControllerRevision>),
    /// Delete the object with that uid.
    Delete(Uid),
}

/// A stored revision.
#[derive(Clone, Debug)]
struct Stored {
    uid: Uid,
    /// The uid of the baseline that owns it.
    owner: String,
    number: i64,
    /// `None` if the object was changed after it was stored.
    revision: Option<Revision>,
}

/// The current write of a baseline's revisions.
#[derive(Clone, Debug, Default)]
struct Writing {
    /// The name of the object in the last attempt.
    object: String,
    write: PendingWrite<String>,
}

/// The stored revisions, and their writes.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
pub struct Revisions {
    listing: Listing<String>,
    /// By baseline, then by the name of the object.
    stored: BTreeMap<Arc<str>, BTreeMap<String, Stored>>,
    writing: BTreeMap<Arc<str>, Writing>,
}

impl Revisions {
    /// A list begins.
    pub fn relist(&mut self) {
        self.listing.begin();
    }

    /// The list is complete: objects that it did not name are gone.
    pub fn relisted(&mut self) {
        let Some(named) = self.listing.end() else { return };
        for stored in self.stored.values_mut() {
            stored.retain(|object, _| named.contains(object));
        }
    }

    /// Stores a revision from the watch.
    pub fn saw(&mut self, object: &ControllerRevision) {
        let Some(name) = object.metadata.name.as_deref() else { return };
        self.listing.names(|| name.into());
        let Some(baseline) = baseline_of(&object.metadata) else { return };
        self.stored.entry(baseline.into()).or_default().insert(name.into(), Stored::of(name, baseline, object));
    }

    /// Removes a deleted revision.
    pub fn gone(&mut self, object: &ControllerRevision) {
        let (Some(name), Some(baseline)) = (object.metadata.name.as_deref(), baseline_of(&object.metadata)) else { return };
        if let Some(stored) = self.stored.get_mut(baseline) {
            stored.remove(name);
        }
    }

    /// The readable stored revisions of a baseline, in the order of their numbers.
    pub fn of<'a>(&'a self, name: &Arc<str>, tracked: &BTreeMap<Arc<str>, BaselineState>) -> impl Iterator<Item = &'a Revision> {
        let uid = tracked.get(name).map(|t| t.uid.clone()).unwrap_or_default();
        let own = self.stored.get(name).into_iter().flat_map(BTreeMap::values);
        let mut own: Vec<&Stored> = own.filter(|s| *s.owner == *uid).collect();
        own.sort_by_key(|s| s.number);
        own.into_iter().filter_map(|s| s.revision.as_ref())
    }

    /// Whether that revision is stored and readable, and owned by the baseline with this uid.
    pub fn has(&self, name: &Arc<str>, tracked: &BaselineState, id: &str) -> bool {
        let stored = self.stored.get(name).and_then(|stored| stored.get(&object_name(name, id)));
        stored.is_some_and(|s| s.revision.is_some() && *s.owner == *tracked.uid)
    }

    /// Called when a rollout is complete. From now on its target comes first, even before the former revisions are deleted. So the next
    /// rollout starts from it.
    pub fn settle(&mut self, name: &Arc<str>, tracked: &BaselineState) {
        let Ok(baseline) = &tracked.checked else { return };
        let target = object_name(name, &baseline.revision.id);
        let Some(stored) = self.stored.get_mut(name) else { return };
        let lowest = stored.values().map(|s| s.number).min().unwrap_or(FIRST);
        if let Some(target) = stored.get_mut(&target) {
            target.number = target.number.min(lowest - 1);
        }
    }

    /// What keeps a baseline from being rolled out: the reason and the message of a condition.
    pub fn trouble(&self, name: &Arc<str>, tracked: &BaselineState, state: ListState) -> Option<(String, String)> {
        let told = |reason: &str, message: String| Some((reason.to_owned(), message));
        match state {
            ListState::Refused => {
                let message = "the operator may not read ControllerRevisions in its namespace, so it does not know the former revisions: no wave begins, and after a restart a change goes to all namespaces at once. Apply manifests/base";
                return told(reason::REVISIONS_FORBIDDEN, message.into());
            }
            ListState::Silent => {
                let message = "the ControllerRevisions in the operator's namespace cannot be listed, so the former revisions are not known: no wave begins until they are, and a rollout that a restart interrupted goes to all namespaces at once. The operator's log says why";
                return told(reason::REVISIONS_LATE, message.into());
            }
            ListState::Waiting | ListState::Listed | ListState::NotKnown | ListState::Off => {}
        }
        if let Some(error) = self.writing.get(name).and_then(|w| w.write.error()) {
            let message = format!("a revision cannot be stored, trying again; no wave begins before that: {error}");
            return told(reason::REVISION_NOT_STORED, message);
        }
        let own = self.stored.get(name).into_iter().flatten().filter(|(_, s)| *s.owner == *tracked.uid);
        let object = own.filter(|(_, s)| s.revision.is_none()).map(|(object, _)| object).next()?;
        let message = format!("the ControllerRevision {object} was changed after it was stored, and is ignored: delete it");
        told(reason::REVISION_UNREADABLE, message)
    }

    /// The next write for a baseline, if one is due. `wanted` holds the revisions that should be stored, in this order.
    pub fn due(&mut self, name: &Arc<str>, tracked: &BaselineState, wanted: &[&Revision], now: Instant) -> Option<RevisionWrite> {
        if self.writing.get(name).is_some_and(|w| w.write.is_under_way()) {
            return None;
        }
        let Some(write) = self.next_write(name, tracked, wanted) else {
            // A write that failed before is no longer needed.
            self.writing.remove(name);
            return None;
        };
        let writing = self.writing.entry(name.clone()).or_default();
        if writing.object != write.object {
            writing.object.clone_from(&write.object);
            writing.write.forgive();
        }
        if !writing.write.due(now) {
            return None;
        }
        writing.write.started();
        Some(write)
    }

    /// Whether the last write for that baseline failed and will be tried again.
    pub fn is_troubled(&self, name: &str) -> bool {
        self.writing.get(name).is_some_and(|w| w.write.error().is_some())
    }

    fn next_write(&self, name: &Arc<str>, tracked: &BaselineState, wanted: &[&Revision]) -> Option<RevisionWrite> {
        let none = BTreeMap::new();
        let stored = self.stored.get(name).unwrap_or(&none);
        let missing = wanted.iter().enumerate().find(|(_, r)| !stored.contains_key(&object_name(name, &r.id)));
        // A revision of a former baseline with the same name.
        let is_foreign = |s: &Stored| s.owner != *tracked.uid;
        let delete = |(object, stored): (&String, &Stored)| RevisionWrite {
            baseline: name.clone(),
            object: object.clone(),
            what: RevisionChange::Delete(stored.uid.clone()),
        };
        if let Some(foreign) = stored.iter().find(|(_, s)| is_foreign(s)) {
            Some(delete(foreign))
        } else if let Some((at, revision)) = missing {
            let numbers = || stored.values().map(|s| s.number);
            let comes_first = at == 0 && wanted.len() > 1;
            let number = match (comes_first, numbers().min(), numbers().max()) {
                (true, Some(lowest), _) => (lowest - 1).max(0),
                (false, _, Some(highest)) => highest.saturating_add(1),
                _ => FIRST,
            };
            let object = controller_revision(name, tracked, revision, number);
            let what = RevisionChange::Store(Box::new(object));
            Some(RevisionWrite { baseline: name.clone(), object: object_name(name, &revision.id), what })
        } else {
            let is_wanted = |object: &String| wanted.iter().any(|r| *object == object_name(name, &r.id));
            // An unreadable revision is not deleted: whoever changed it must do that.
            stored.iter().find(|(object, s)| s.revision.is_some() && !is_wanted(object)).map(delete)
        }
    }

    /// Takes the result of a write. Returns whether the error to report changed.
    pub fn written(&mut self, write: RevisionWrite, result: Result<Option<Uid>, WriteError>, now: Instant) -> bool {
        let RevisionWrite { baseline, object, what } = write;
        let writing = self.writing.entry(baseline.clone()).or_default();
        let mut longest = LONGEST;
        let error = match (result, what) {
            (Ok(uid), RevisionChange::Store(mut revision)) => {
                revision.metadata.uid = uid.map(|uid| uid.to_string());
                let stored = Stored::of(&object, &baseline, &revision);
                self.stored.entry(baseline.clone()).or_default().insert(object, stored);
                None
            }
            (Ok(_) | Err(WriteError::NotFound), RevisionChange::Delete(uid)) => {
                if let Some(stored) = self.stored.get_mut(&baseline)
                    && stored.get(&object).is_some_and(|s| s.uid == uid)
                {
                    stored.remove(&object);
                }
                None
            }
            (Err(WriteError::NotLeading), _) => None,
            (Err(WriteError::Failed { reason: Failure::Conflict, message }), RevisionChange::Store(_))
                if message.contains("already exists") =>
            {
                longest = RARELY;
                Some(format!(
                    "the ControllerRevision {object} exists already, without the labels by which the operator finds its own: add {LABEL_MANAGED_BY}={MANAGER} and {LABEL_BASELINE}={baseline}, or delete it"
                ))
            }
            (Err(error), _) => {
                debug!(%baseline, object, "revision not written, trying again: {error}");
                Some(error.to_string())
            }
        };
        let attempt = if error.is_some() { Attempt::Failed(Delays::new(AGAIN, longest)) } else { Attempt::Stored };
        writing.write.ended(attempt, now);
        match (&error, writing.write.error()) {
            (Some(error), None) => warn!(%baseline, "a revision cannot be written, trying again: {error}"),
            (None, Some(_)) => info!(%baseline, "revisions can be written again"),
            _ => {}
        }
        writing.write.set_error(error)
    }

    /// When writes may be due.
    pub fn next(&self) -> impl Iterator<Item = Instant> {
        self.writing.values().filter_map(|w| w.write.next_wake())
    }

    /// Forgets the write for a deleted baseline.
    pub fn forget(&mut self, name: &str) {
        self.writing.remove(name);
    }
}

impl Stored {
    fn of(object: &str, baseline: &str, revision: &ControllerRevision) -> Self {
        let meta = &revision.metadata;
        let id = object.strip_prefix(baseline).and_then(|rest| rest.strip_prefix('-')).unwrap_or_default();
        let owners = meta.owner_references.iter().flatten();
        Self {
            uid: meta.uid.as_deref().unwrap_or_default().into(),
            owner: owners.map(|owner| owner.uid.clone()).next().unwrap_or_default(),
            number: revision.revision,
            revision: revision.data.as_ref().and_then(|data| Revision::stored(id, &data.0)),
        }
    }
}

fn baseline_of(meta: &ObjectMeta) -> Option<&str> {
    meta.labels.as_ref()?.get(LABEL_BASELINE).map(String::as_str)
}

fn object_name(baseline: &str, id: &str) -> String {
    format!("{baseline}-{id}")
}

/// The baseline owns the object, so the garbage collector deletes both.
fn controller_revision(baseline: &Arc<str>, tracked: &BaselineState, revision: &Revision, number: i64) -> ControllerRevision {
    let labels = [(LABEL_MANAGED_BY, MANAGER), (LABEL_BASELINE, baseline)];
    let owner = OwnerReference {
        api_version: PolicyBaseline::api_version(&()).into(),
        kind: PolicyBaseline::kind(&()).into(),
        name: baseline.to_string(),
        uid: tracked.uid.to_string(),
        ..OwnerReference::default()
    };
    ControllerRevision {
        metadata: ObjectMeta {
            name: Some(object_name(baseline, &revision.id)),
            labels: Some(labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into()),
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        data: Some(RawExtension(revision.data.clone())),
        revision: number,
    }
}
