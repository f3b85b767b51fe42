//! What namespaces are labelled with once they are decided, where `--label-namespaces` asks for it: admission lets no pod in before.

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

/// How many are written at once.
const WRITES_AT_ONCE: usize = 32;
/// How long the watch may take to show what was written.
const ECHO: Duration = Duration::from_secs(5);
/// When a write that failed is tried again.
const FAILED: Delays = Delays::new(Duration::from_secs(1), LONGEST);

/// What to write to a namespace.
#[derive(Clone, Debug)]
pub struct NamespaceLabelWrite {
    /// Its name.
    pub namespace: NamespaceName,
    /// Its uid.
    pub uid: Uid,
    /// The value of its label.
    pub mark: DecidedLabel,
}

/// The namespaces that are not labelled as they should be.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
pub struct NamespaceLabels {
    /// Whether namespaces are labelled.
    on: bool,
    unwritten: BTreeMap<NamespaceName, Unwritten>,
    writing: usize,
    /// The last write failed: the next ones that do are no news.
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
    /// For an operator that labels.
    pub fn on() -> Self {
        Self { on: true, ..Self::default() }
    }

    /// Whether that namespace is labelled at all. Admission never waits for those that the cluster lives in.
    pub fn concern(&self, ns: &NamespaceName) -> bool {
        self.on && !SYSTEM_NAMESPACES.contains(&ns.as_str())
    }

    /// That namespace should be labelled so, or is already.
    pub fn want(&mut self, ns: &NamespaceName, uid: &Uid, mark: Option<DecidedLabel>) {
        let Some(mark) = mark else { return self.forget(ns) };
        let is_known = |known: &Unwritten| known.uid == *uid && known.mark == mark;
        if !self.unwritten.get(ns).is_some_and(is_known) {
            let new = Unwritten { uid: uid.clone(), mark, write: PendingWrite::default() };
            self.unwritten.insert(ns.clone(), new);
        }
    }

    /// That namespace is gone, or another one.
    pub fn forget(&mut self, ns: &NamespaceName) {
        self.unwritten.remove(ns);
    }

    /// What is to be written now.
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

    /// A write ended, with this label stored. What was written is awaited: until the watch shows it, it is not written again.
    pub fn written(&mut self, write: &NamespaceLabelWrite, result: Result<Option<String>, WriteError>, now: Instant) {
        let NamespaceLabelWrite { namespace, uid, mark } = write;
        self.writing = self.writing.saturating_sub(1);
        let Some(entry) = self.unwritten.get_mut(namespace).filter(|entry| entry.uid == *uid && entry.mark == *mark) else {
            return;
        };
        let result = result.and_then(|stored| {
            let message = "the API server accepted the label and stored something else: exempt namespaces from the admission plugin that changes it";
            let changed = WriteError::Failed { reason: Failure::MutatedByAdmission, message: message.into() };
            if stored.as_deref() == Some(mark.into_str()) { Ok(()) } else { Err(changed) }
        });
        let Err(error) = result else {
            entry.write.ended(Attempt::StoredUnseen(ECHO), now);
            if std::mem::take(&mut self.failing) {
                info!(%namespace, "namespaces can be labelled again");
            }
            return;
        };
        entry.write.ended(Attempt::Failed(FAILED.spread(namespace, LABEL_DECIDED)), now);
        // Of what is going or was written by somebody else its watch will tell.
        let is_news = matches!(&error, WriteError::Failed { reason, .. } if *reason != Failure::Conflict);
        if is_news && !std::mem::replace(&mut self.failing, true) {
            warn!(%namespace, "a namespace cannot be labelled with {LABEL_DECIDED}, trying again; where admission waits for the label, no pod is admitted: {error}");
        }
    }

    /// When to look again.
    pub fn wakes(&self) -> impl Iterator<Item = Instant> {
        let waits = self.unwritten.values().filter_map(|entry| entry.write.next_wake());
        waits.min().into_iter().filter(|_| self.writing < WRITES_AT_ONCE)
    }
}
