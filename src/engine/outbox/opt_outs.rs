//! The opt-outs as they stand in the cluster: what each amounts to, what is announced of its end, and when its status and label are
//! to be written. Time is an argument, and may jump.
//! One file: each method keeps the same few indexes in step.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use serde::Deserialize;
use strum::VariantArray;
use tracing::{info, warn};

use super::{
    opt_out_state::{OptOutState, OptOutWrite, StoredOptOut, follow, tally},
    pending::PendingWrite,
};
use crate::{
    api::{
        BaselineOptOutStatus, NamespaceName, Role,
        names::{LABEL_OPT_OUT, OPT_OUTS_CRD},
        opt_out::ExpiryNotice,
        reason::{EventReason, OptOutRefusal},
    },
    engine::{
        clock::{LASTS, Now},
        facts::{
            event::ListRefusal,
            opt_out::{Key, RawOptOut, Tally},
        },
        writes::{Announcement, WriteError},
    },
    policy::{
        listing::Listing,
        plan::{NamespaceOptOuts, OptOut, OptOutVerdict, Ruling, verdict},
    },
};

/// So many of them are written to at once: what is written for them never holds up policies.
const WRITES_AT_ONCE: usize = 4;
/// The farthest moment that is waited for: the clock may jump, so it is read again anyway.
const FAR: Duration = Duration::from_hours(1);

/// All opt-outs.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
pub struct OptOuts {
    kept: BTreeMap<NamespaceName, BTreeMap<Arc<str>, OptOutState>>,
    listed: Listing<Key>,
    /// When each ends, and when that is announced.
    moments: BTreeMap<Timestamp, BTreeSet<Key>>,
    /// Up to when they were handled.
    looked: Option<Timestamp>,
    /// Those whose status or label is not as wanted.
    unwritten: BTreeSet<Key>,
    writing: usize,
    announcements: Vec<Announcement>,
    /// What is in force by role, until something changes.
    tally: Option<[(Role, Tally); 3]>,
    /// Whether their CRD exists; none until CRDs are listed.
    crd: Option<bool>,
}

impl OptOuts {
    /// Whether there is one in that namespace.
    pub fn concern(&self, ns: &NamespaceName) -> bool {
        self.kept.contains_key(ns)
    }

    fn get_mut(&mut self, (ns, name): &Key) -> Option<&mut OptOutState> {
        self.kept.get_mut(ns)?.get_mut(name)
    }

    /// One was seen. Returns its namespace when that is news.
    pub fn seen(&mut self, raw: &RawOptOut, wall: Timestamp) -> Option<NamespaceName> {
        let key = raw.key()?;
        self.listed.names(|| key.clone());
        let deleting = raw.metadata.deletion_timestamp.is_some();
        let uid = raw.metadata.uid.as_deref().unwrap_or_default();
        let stored = BaselineOptOutStatus::deserialize(&raw.status).ok();
        let label = raw.metadata.labels.as_ref().and_then(|labels| labels.get(LABEL_OPT_OUT)).cloned();
        let known = self.get_mut(&key).filter(|kept| *kept.uid == *uid);
        if let Some(kept) = known {
            let news = kept.generation != raw.metadata.generation || kept.stored != stored || kept.label != label;
            let news = news || kept.deleting != deleting;
            if raw.version() < kept.version || !news {
                return None;
            }
            (kept.version, kept.stored, kept.label, kept.deleting) = (raw.version(), stored, label, deleting);
            if kept.generation == raw.metadata.generation {
                self.tell(&key, wall);
                return Some(key.0);
            }
        } else {
            self.forget(&key);
            let kept = OptOutState {
                uid: uid.into(),
                version: raw.version(),
                generation: None,
                deleting,
                checked: Err(String::new()),
                stored,
                label,
                verdict: None,
                frozen_by: None,
                wanted: None,
                unannounced: vec![],
                write: PendingWrite::default(),
            };
            self.kept.entry(key.0.clone()).or_default().insert(key.1.clone(), kept);
        }
        self.read(&key, raw);
        Some(key.0)
    }

    /// Takes up what its spec says.
    fn read(&mut self, key: &Key, raw: &RawOptOut) {
        let (namespace, name) = key;
        let checked = raw.check();
        match &checked {
            Ok(o) => info!(%namespace, opt_out = %name, policies = %o.roles, expires = %o.expires, "opt-out picked up"),
            Err(error) => warn!(%namespace, opt_out = %name, "opt-out cannot be read: {error}"),
        }
        let Some(kept) = self.kept.get_mut(namespace).and_then(|all| all.get_mut(name)) else { return };
        let before: Vec<Timestamp> = kept.moments().collect();
        (kept.generation, kept.checked) = (raw.metadata.generation, checked);
        let after: Vec<Timestamp> = kept.moments().collect();
        self.tally = None;
        for at in before {
            self.no_moment(at, key);
        }
        for at in after {
            self.moments.entry(at).or_default().insert(key.clone());
        }
    }

    /// One is gone. Returns its namespace when that is news.
    pub fn gone(&mut self, raw: &RawOptOut) -> Option<NamespaceName> {
        let key = raw.key()?;
        self.forget(&key).then_some(key.0)
    }

    fn forget(&mut self, key: &Key) -> bool {
        let (namespace, name) = key;
        let Some(all) = self.kept.get_mut(namespace) else { return false };
        let Some(kept) = all.remove(name) else { return false };
        if all.is_empty() {
            self.kept.remove(namespace);
        }
        kept.moments().for_each(|at| self.no_moment(at, key));
        self.unwritten.remove(key);
        self.tally = None;
        info!(%namespace, opt_out = %name, "opt-out removed");
        true
    }

    fn no_moment(&mut self, at: Timestamp, key: &Key) {
        let Some(keys) = self.moments.get_mut(&at) else { return };
        keys.remove(key);
        if keys.is_empty() {
            self.moments.remove(&at);
        }
    }

    /// A list begins.
    pub fn relist(&mut self) {
        self.listed.begin();
    }

    /// The list is complete: what it did not name is gone. Returns whom that concerns.
    pub fn relisted(&mut self) -> BTreeSet<NamespaceName> {
        let Some(named) = self.listed.end() else { return BTreeSet::new() };
        self.forget_all_but(|key| named.contains(key))
    }

    fn forget_all_but(&mut self, stays: impl Fn(&Key) -> bool) -> BTreeSet<NamespaceName> {
        let all = self.kept.iter().flat_map(|(ns, of)| of.keys().map(move |name| (ns.clone(), name.clone())));
        let gone: Vec<Key> = all.filter(|key| !stays(key)).collect();
        gone.into_iter().filter(|key| self.forget(key)).map(|key| key.0).collect()
    }

    /// Whether it is known if their CRD exists.
    pub const fn knows_crd(&self) -> bool {
        self.crd.is_some()
    }

    /// The list of CRDs is complete; `there` says whether it names theirs.
    pub const fn crds_listed(&mut self, there: bool) {
        self.crd = Some(there);
    }

    /// A CRD was seen, or is gone.
    pub fn crd_seen(&mut self, crd: &str, there: bool) {
        if crd == OPT_OUTS_CRD {
            self.crd = self.crd.map(|_| there);
        }
    }

    /// Where the cluster has no CRD for them, there are none: an operator that is newer than its CRDs works. Forgets them all then, and
    /// returns whom that concerns. An API server that has just started may not know them yet, so its CRDs decide. Only where these are not
    /// shown its word counts, when it lasts. While the CRD is there and they cannot be listed, nobody knows what they say.
    ///
    /// `refusal` and `since` say how their list is refused, and since when; `crds_answered`, that CRDs are listed or no longer waited for.
    pub fn none_can_exist(
        &mut self,
        (refusal, since): (ListRefusal, Instant),
        crds_answered: bool,
        now: Instant,
    ) -> Option<BTreeSet<NamespaceName>> {
        let none = match (self.crd, refusal) {
            (Some(there), _) => !there,
            (None, ListRefusal::Unknown) => crds_answered && now >= since + LASTS,
            (None, ListRefusal::Forbidden | ListRefusal::Unavailable) => false,
        };
        none.then(|| self.forget_all_but(|_| false))
    }

    /// The namespaces in which something ends or is announced since the last call, in whichever direction the clock went.
    pub fn tick(&mut self, wall: Timestamp) -> BTreeSet<NamespaceName> {
        let Some(looked) = self.looked.replace(wall) else { return self.kept.keys().cloned().collect() };
        if looked == wall {
            return BTreeSet::new();
        }
        let (from, to) = (looked.min(wall), looked.max(wall));
        let passed = self.moments.range((Bound::Excluded(from), Bound::Included(to)));
        passed.flat_map(|(_, keys)| keys).map(|(ns, _)| ns.clone()).collect()
    }

    /// Those of a namespace whose time is not over. Who deletes one wants its end, whatever finalizer holds it.
    pub fn living(&self, ns: &NamespaceName, wall: Timestamp) -> NamespaceOptOuts {
        let all = self.kept.get(ns).into_iter().flat_map(BTreeMap::values).filter(|kept| !kept.deleting);
        all.filter_map(|kept| kept.checked.as_ref().ok()).filter(|o| !o.is_over(wall)).cloned().collect()
    }

    /// When one of a namespace was first in force, the latest: then its policies are away because of that, and it is no namespace that was
    /// found open.
    pub fn first_in_force(&self, ns: &NamespaceName) -> Option<Timestamp> {
        let all = self.kept.get(ns).into_iter().flat_map(BTreeMap::values);
        all.filter_map(|kept| Some(kept.stored.as_ref()?.first_in_force.as_ref()?.0)).max()
    }

    /// Whether one of a namespace that was in force named that role, and is over.
    pub fn lapsed(&self, ns: &NamespaceName, role: Role, wall: Timestamp) -> bool {
        let all = self.kept.get(ns).into_iter().flat_map(BTreeMap::values);
        let over = |kept: &OptOutState| kept.checked.as_ref().is_ok_and(|o| o.roles.contains(role) && o.is_over(wall));
        self.first_in_force(ns).is_some() && all.into_iter().any(over)
    }

    /// Judges those of a namespace. While this instance leads, their status and label follow.
    pub fn judge(&mut self, ns: &NamespaceName, ruling: Ruling, leads: bool, wall: Timestamp) {
        let Some(all) = self.kept.get_mut(ns) else { return };
        let enforced_since = match ruling {
            Ruling::Enforces(baseline) => Some(baseline.created),
            Ruling::Nobody | Ruling::Reports(_) | Ruling::Freezes(..) => None,
        };
        for (name, kept) in all {
            let ruling = match ruling {
                Ruling::Freezes(baseline, _) => Ruling::Freezes(baseline, kept.stood()),
                other => other,
            };
            let judged = match &kept.checked {
                _ if kept.deleting => OptOutVerdict::NotInForce(
                    OptOutRefusal::Deleting,
                    "it is being deleted, and another finalizer holds it".into(),
                ),
                Ok(opt_out) => verdict(opt_out, ruling, wall),
                Err(error) => {
                    let message = format!("it cannot be read: {error}. Compare it with `kubectl explain baselineoptout.spec`");
                    OptOutVerdict::NotInForce(OptOutRefusal::Undecodable, message)
                }
            };
            if kept.verdict.as_ref() != Some(&judged) {
                self.tally = None;
                match &judged {
                    OptOutVerdict::InForce(_, message) => warn!(namespace = %ns, opt_out = %name, "opt-out in force: {message}"),
                    OptOutVerdict::NotInForce(why, message) => {
                        info!(namespace = %ns, opt_out = %name, reason = why.into_str(), "opt-out not in force: {message}");
                    }
                }
            }
            let (wanted, unannounced) = if leads { follow(kept, &judged, enforced_since, wall) } else { (None, vec![]) };
            if kept.wanted != wanted {
                kept.write.forgive();
            }
            (kept.wanted, kept.unannounced) = (wanted, unannounced);
            kept.verdict = Some(judged);
            kept.frozen_by = match ruling {
                Ruling::Freezes(baseline, _) => Some(baseline.into()),
                Ruling::Nobody | Ruling::Reports(_) | Ruling::Enforces(_) => None,
            };
            let key = (ns.clone(), name.clone());
            if kept.is_written() {
                self.unwritten.remove(&key);
            } else {
                self.unwritten.insert(key);
            }
        }
    }

    /// Their namespace is being deleted: nothing is written to them.
    pub fn leave_alone(&mut self, ns: &NamespaceName) {
        for (name, kept) in self.kept.get_mut(ns).into_iter().flatten() {
            (kept.wanted, kept.unannounced) = (None, vec![]);
            self.unwritten.remove(&(ns.clone(), name.clone()));
        }
    }

    /// This instance begins to lead: it goes on from what stands in the cluster.
    pub fn take_over(&mut self) {
        for kept in self.kept.values_mut().flat_map(BTreeMap::values_mut) {
            kept.wanted = None;
            kept.unannounced = vec![];
            kept.write.begin_anew();
        }
        self.unwritten.clear();
    }

    /// What is to be written now.
    pub fn writes(&mut self, now: Instant) -> Vec<OptOutWrite> {
        let mut writes = Vec::new();
        for (ns, name) in &self.unwritten {
            if self.writing + writes.len() == WRITES_AT_ONCE {
                break;
            }
            let kept = self.kept.get_mut(ns).and_then(|all| all.get_mut(name));
            writes.extend(kept.and_then(|kept| kept.begin_write(ns, name, now)));
        }
        self.writing += writes.len();
        writes
    }

    /// A write ended.
    pub fn written(&mut self, write: OptOutWrite, result: Result<StoredOptOut, WriteError>, now: Now) {
        self.writing = self.writing.saturating_sub(1);
        let key = (write.namespace.clone(), write.name.clone());
        let Some(kept) = self.get_mut(&key).filter(|kept| kept.uid == write.uid) else { return };
        kept.write_ended(write, result, now.instant);
        if kept.is_written() {
            self.unwritten.remove(&key);
        }
        self.tell(&key, now.wall);
    }

    /// Announces what the stored status says was announced.
    fn tell(&mut self, key: &Key, wall: Timestamp) {
        let (namespace, name) = key;
        let Some(kept) = self.kept.get_mut(namespace).and_then(|all| all.get_mut(name)) else { return };
        let Ok(OptOut { roles, expires, .. }) = &kept.checked else { return };
        let recorded: Vec<ExpiryNotice> = kept.stored.iter().flat_map(|s| &s.announced).flat_map(|a| a.steps.clone()).collect();
        let (now, later) = std::mem::take(&mut kept.unannounced).into_iter().partition(|step| recorded.contains(step));
        kept.unannounced = later;
        let frozen = kept.frozen_by.as_ref().map(|b| format!("; baseline {b} changes nothing here until it continues: then"));
        for step in now {
            let (reason, note) = match step {
                ExpiryNotice::DayAhead | ExpiryNotice::HourAhead => {
                    let then = frozen.as_deref().unwrap_or(": then");
                    let more = "if the exception is still needed then, create a new one";
                    let note = format!("this opt-out ends at {expires}{then} {roles} applies here again; {more}");
                    (EventReason::OptOutExpiresSoon, note)
                }
                ExpiryNotice::Expired => {
                    let then = frozen.as_deref().unwrap_or(":");
                    (EventReason::OptOutExpired, format!("this opt-out ended at {expires}{then} {roles} applies here again"))
                }
            };
            let uid = Some(kept.uid.to_string());
            self.announcements.push(Announcement {
                namespace: namespace.clone(),
                policy: name.to_string(),
                uid,
                reason,
                note,
                at: wall,
            });
        }
    }

    /// What is to be announced.
    pub fn take_announcements(&mut self) -> Vec<Announcement> {
        std::mem::take(&mut self.announcements)
    }

    /// When to look again.
    pub fn wakes(&self, now: Now) -> impl Iterator<Item = Instant> {
        let next = self.moments.range((Bound::Excluded(now.wall), Bound::Unbounded)).next().map(|(at, _)| *at);
        let wait = |at: Timestamp| Duration::try_from(at.duration_since(now.wall)).unwrap_or(FAR).min(FAR);
        let moment = next.map(|at| now.instant + wait(at));
        let waits = self.unwritten.iter().filter_map(|(ns, name)| self.kept.get(ns)?.get(name));
        let write = waits.filter_map(|kept| kept.write.next_wake()).min();
        moment.into_iter().chain(write.filter(|_| self.writing < WRITES_AT_ONCE))
    }

    /// How many are in force, by role.
    pub fn tally(&mut self) -> [(Role, Tally); 3] {
        let kept = &self.kept;
        *self.tally.get_or_insert_with(|| {
            std::array::from_fn(|at| {
                let role = Role::VARIANTS[at];
                (role, tally(kept.values().flat_map(BTreeMap::values), role))
            })
        })
    }
}
