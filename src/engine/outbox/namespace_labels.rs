//! The labels of decided namespaces that are still to be written, with `--label-namespaces`. Admission lets no pod into a namespace before
//! it has the label.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use tracing::{info, warn};

use super::{
    pending::{Attempt, PendingWrite},
    retry::{Delays, LONGEST},
};
use crate::{
    api::{
        DecidedLabel, NamespaceName, Uid,
        names::{LABEL_DECIDED, SYSTEM_NAMESPACES},
        reason::Failure,
    },
    engine::writes::WriteError,
};

/// How many labels are written at the same time.
const WRITES_AT_ONCE: usize = 32;
/// How long the watch may take to show what was written.
const ECHO: Duration = Duration::from_secs(5);
/// The waits after a failed write.
const FAILED: Delays = Delays::new(Duration::from_secs(1), LONGEST);

/// What to write to a namespace.
#[derive(Clone, Debug)]
pub struct NamespaceLabelWrite {
    /// The name of the namespace.
    pub namespace: NamespaceName,
    /// The uid of the namespace.
    pub uid: Uid,
    /// The decision that the label says.
    pub mark: DecidedLabel,
}

/// The namespaces whose label is not as wanted.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
pub struct NamespaceLabels {
    /// Whether namespaces are labelled.
    on: bool,
    unwritten: BTreeMap<NamespaceName, Unwritten>,
    writing: usize,
    /// What the stored labels prove was taken over.
    is_taken_over: bool,
    /// A write failed, and none has succeeded since. Further failures are not logged.
    failing: bool,
}

#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
struct Unwritten {
    uid: Uid,
    mark: DecidedLabel,
    write: PendingWrite<()>,
}

impl NamespaceLabels {
    /// The state of an operator that labels namespaces.
    pub fn on() -> Self {
        Self { on: true, ..Self::default() }
    }

    /// Whether that namespace gets a label. System namespaces get none: admission never waits for them.
    pub fn concern(&self, ns: &NamespaceName) -> bool {
        self.on && !SYSTEM_NAMESPACES.contains(&ns.as_str())
    }

    /// Whether the stored labels are to be believed now: once, and only if the operator keeps them current.
    pub fn take_over(&mut self) -> bool {
        self.on && !std::mem::replace(&mut self.is_taken_over, true)
    }

    /// Sets the label that the namespace should get. `None`: there is nothing to write.
    pub fn want(&mut self, ns: &NamespaceName, uid: &Uid, mark: Option<DecidedLabel>) {
        let Some(mark) = mark else { return self.forget(ns) };
        let is_known = |known: &Unwritten| known.uid == *uid && known.mark == mark;
        if !self.unwritten.get(ns).is_some_and(is_known) {
            let new = Unwritten { uid: uid.clone(), mark, write: PendingWrite::default() };
            self.unwritten.insert(ns.clone(), new);
        }
    }

    /// Drops the pending write of a namespace.
    pub fn forget(&mut self, ns: &NamespaceName) {
        self.unwritten.remove(ns);
    }

    /// The writes that are due now.
    pub fn writes(&mut self, now: Instant) -> Vec<NamespaceLabelWrite> {
        let mut writes = Vec::new();
        for (namespace, entry) in &mut self.unwritten {
            if self.writing + writes.len() == WRITES_AT_ONCE {
                break;
            }
            if entry.write.due(now) {
                entry.write.started();
                writes.push(NamespaceLabelWrite { namespace: namespace.clone(), uid: entry.uid.clone(), mark: entry.mark });
            }
        }
        self.writing += writes.len();
        writes
    }

    /// Takes the result of a write: the stored label. After a success it waits up to `ECHO` for the watch to show the label.
    pub fn written(&mut self, write: &NamespaceLabelWrite, result: Result<Option<String>, WriteError>, now: Instant) {
        let NamespaceLabelWrite { namespace, uid, mark } = write;
        self.writing = self.writing.saturating_sub(1);
        let Some(entry) = self.unwritten.get_mut(namespace).filter(|entry| entry.uid == *uid && entry.mark == *mark) else {
            return;
        };
        let result = result.and_then(|stored| {
            let message = "the API server accepted the label and stored something else: exempt namespaces from the admission plugin that changes it";
            let changed = WriteError::Failed { reason: Failure::MutatedByAdmission, message: message.into() };
            if stored == Some(mark.value(uid)) { Ok(()) } else { Err(changed) }
        });
        let Err(error) = result else {
            entry.write.ended(Attempt::StoredUnseen(ECHO), now);
            if std::mem::take(&mut self.failing) {
                info!(%namespace, "namespaces can be labelled again");
            }
            return;
        };
        entry.write.ended(Attempt::Failed(FAILED.spread(namespace, LABEL_DECIDED)), now);
        // If the namespace is being deleted or somebody else changed it, the watch will show that.
        let is_news = matches!(&error, WriteError::Failed { reason, .. } if *reason != Failure::Conflict);
        if is_news && !std::mem::replace(&mut self.failing, true) {
            warn!(%namespace, "a namespace cannot be labelled with {LABEL_DECIDED}, trying again; where admission waits for the label, no pod is admitted: {error}");
        }
    }

    /// When a write may be due.
    pub fn wakes(&self) -> impl Iterator<Item = Instant> {
        let waits = self.unwritten.values().filter_map(|entry| entry.write.next_wake());
        waits.min().into_iter().filter(|_| self.writing < WRITES_AT_ONCE)
    }
}
