//! The stored revisions of baselines, which are ControllerRevisions in the operator's namespace. Handles their watch events and how long
//! decisions wait for their list. Decides which to store or delete.

use k8s_openapi::api::apps::v1::ControllerRevision;
use tracing::warn;

use super::{
    Engine,
    clock::Now,
    facts::{
        baseline::InstallOwnership,
        event::{Change, ListRefusal},
        readiness::{ListState, WatchedSet},
    },
    outbox::revisions::RevisionWrite,
    writes::WriteError,
};
use crate::{
    api::{Uid, baseline::Mode},
    policy::plan::Revision,
};

impl Engine {
    pub(super) fn on_revision(&mut self, change: Change<Box<ControllerRevision>>, now: Now) {
        const SET: WatchedSet = WatchedSet::Revisions;
        match change {
            Change::ListBegan => self.outbox.revisions.relist(),
            Change::Applied(revision) => self.outbox.revisions.saw(&revision),
            Change::Deleted(revision) => self.outbox.revisions.gone(&revision),
            Change::ListDone => {
                self.outbox.revisions.relisted();
                self.revisions_settled(ListState::Listed, now);
            }
            Change::Refused(refusal, why) => {
                self.readiness.report(SET, why);
                if refusal != ListRefusal::Forbidden {
                    return;
                }
                self.readiness.refuse(SET, refusal, now.instant);
                if self.readiness.state(SET) != ListState::Listed && self.readiness.is_refused_for_long(SET, now.instant) {
                    self.revisions_settled(ListState::Refused, now);
                }
            }
        }
    }

    /// Notes that the revisions are listed, or that decisions no longer wait for them.
    pub(super) fn revisions_settled(&mut self, state: ListState, now: Now) {
        let was_synced = self.is_synced();
        let is_news = self.readiness.settle(WatchedSet::Revisions, state);
        if !was_synced {
            self.begin_if_synced(was_synced, now);
        } else if is_news {
            self.plans_changed(now);
        }
    }

    /// Ends the wait for revisions when their list takes too long. Only rollouts need them, so all other work goes on, as after a refusal.
    pub(super) fn wait_for_revisions(&mut self, now: Now) {
        const SET: WatchedSet = WatchedSet::Revisions;
        if self.readiness.is_settled(SET) || !self.readiness.is_required_listed() {
            return;
        }
        self.readiness.ask(SET, now.instant);
        if self.readiness.is_silent_for_long(SET, now.instant) {
            warn!("controllerrevisions were not listed in time: no wave of a rollout begins until they are");
            self.revisions_settled(ListState::Silent, now);
        }
    }

    /// Revisions to store or to delete now.
    pub(super) fn revisions(&mut self, now: Now) -> Vec<RevisionWrite> {
        if !self.leads || !self.may_decide() || self.readiness.state(WatchedSet::Revisions) != ListState::Listed {
            return vec![];
        }
        let (mut writes, mut mended) = (Vec::new(), Vec::new());
        for (name, tracked) in self.tracked.iter().filter(|(_, tracked)| tracked.turn == InstallOwnership::Ours) {
            let Ok(baseline) = &tracked.checked else { continue };
            if baseline.deleting || baseline.mode == Mode::Audit {
                continue;
            }
            let under_way = self.rollouts.under_way.get(name).into_iter();
            let formers = under_way.flat_map(|u| &u.formers).map(|former| &former.revision);
            let wanted: Vec<&Revision> = match (&baseline.rollout, baseline.suspended) {
                (None, _) => vec![],
                (Some(_), true) => continue,
                (Some(_), false) => formers.chain([&baseline.revision]).collect(),
            };
            let was_troubled = self.outbox.revisions.is_troubled(name);
            writes.extend(self.outbox.revisions.due(name, tracked, &wanted, now.instant));
            if was_troubled && !self.outbox.revisions.is_troubled(name) {
                mended.push(name.clone());
            }
        }
        for name in mended {
            self.show_rollout(&name, now);
        }
        writes
    }

    /// Takes the result of a write of a revision.
    pub(super) fn revision_written(&mut self, write: RevisionWrite, result: Result<Option<Uid>, WriteError>, now: Now) {
        let name = write.baseline.clone();
        if self.outbox.revisions.written(write, result, now.instant) {
            self.show_rollout(&name, now);
        }
    }
}
