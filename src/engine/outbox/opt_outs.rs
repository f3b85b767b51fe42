//! All opt-outs in the cluster: the verdict on each, the announcements of its end, and when its status and label are written. Time is an
//! argument, and the wall clock may jump.
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
    opt_out_state::{OptOutState, OptOutWrite, StoredOptOut, follow, tally, waits_for_policies},
    pending::PendingWrite,
};
use crate::{
    api::{
        BaselineOptOutStatus, NamespaceName, Role,
        names::{LABEL_OPT_OUT, OPT_OUTS_CRD},
        opt_out::ExpiryNotice,
        reason::{EventReason, OptOutRefusal},
        schema::is_not_processed,
    },
    engine::{
        clock::{GATHER, LASTS, Now},
        facts::{
            event::ListRefusal,
            opt_out::{Key, RawOptOut, RolesFound, Tally},
        },
        writes::{Announcement, WriteError},
    },
    policy::{
        listing::Listing,
        plan::{Namespace, NamespaceOptOuts, OptOut, OptOutVerdict, Ruling, verdict},
    },
};

/// How many opt-outs are written at the same time, so that these writes never delay policies.
const WRITES_AT_ONCE: usize = 4;
/// The longest wait for the end of an opt-out. The wall clock may jump, so it is read again after that.
const FAR: Duration = Duration::from_hours(1);

/// All opt-outs.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
pub struct OptOuts {
    kept: BTreeMap<NamespaceName, BTreeMap<Arc<str>, OptOutState>>,
    listed: Listing<Key>,
    /// When opt-outs end, and when their ends are announced.
    moments: BTreeMap<Timestamp, BTreeSet<Key>>,
    /// Up to which time the moments were handled.
    looked: Option<Timestamp>,
    /// Opt-outs whose status or label is not as wanted.
    unwritten: BTreeSet<Key>,
    writing: usize,
    announcements: Vec<Announcement>,
    /// The result of `tally`, until something changes.
    tally: Option<[(Role, Tally); 3]>,
    /// Whether the CRD of opt-outs exists; `None` until CRDs are listed.
    crd: Option<bool>,
}

impl OptOuts {
    /// Whether that namespace has opt-outs.
    pub fn concern(&self, ns: &NamespaceName) -> bool {
        self.kept.contains_key(ns)
    }

    fn get_mut(&mut self, (ns, name): &Key) -> Option<&mut OptOutState> {
        self.kept.get_mut(ns)?.get_mut(name)
    }

    /// The generation of an opt-out that has another spec than before at the same generation.
    pub fn spec_changed(&self, raw: &RawOptOut) -> Option<i64> {
        let (ns, name) = raw.key()?;
        let kept = self.kept.get(&ns)?.get(&name)?;
        let is_same = raw.metadata.uid.as_deref() == Some(&*kept.uid) && raw.metadata.generation == kept.generation;
        (is_same && raw.version() >= kept.version && raw.spec_hash() != kept.spec).then_some(kept.generation?)
    }

    /// Stores an opt-out from the watch. Returns its namespace if something changed.
    pub fn seen(&mut self, raw: &RawOptOut, wall: Timestamp) -> Option<NamespaceName> {
        let key = raw.key()?;
        self.listed.names(|| key.clone());
        let deleting = raw.metadata.deletion_timestamp.is_some();
        let uid = raw.metadata.uid.as_deref().unwrap_or_default();
        let stored = BaselineOptOutStatus::deserialize(&raw.status).ok().filter(|status| !is_not_processed(&status.conditions));
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
                spec: 0,
                deleting,
                checked: Err(String::new()),
                stored,
                label,
                verdict: None,
                frozen_by: None,
                wanted: None,
                unannounced: vec![],
                untold: None,
                held_until: None,
                write: PendingWrite::default(),
            };
            self.kept.entry(key.0.clone()).or_default().insert(key.1.clone(), kept);
        }
        self.read(&key, raw);
        Some(key.0)
    }

    /// Reads the spec of an opt-out, and updates its moments.
    fn read(&mut self, key: &Key, raw: &RawOptOut) {
        let (namespace, name) = key;
        let checked = raw.check();
        match &checked {
            Ok(o) => info!(%namespace, opt_out = %name, policies = %o.roles, expires = %o.expires, "opt-out picked up"),
            Err(error) => warn!(%namespace, opt_out = %name, "opt-out cannot be read: {error}"),
        }
        let Some(kept) = self.kept.get_mut(namespace).and_then(|all| all.get_mut(name)) else { return };
        let before: Vec<Timestamp> = kept.moments().collect();
        (kept.generation, kept.spec, kept.checked) = (raw.metadata.generation, raw.spec_hash(), checked);
        let after: Vec<Timestamp> = kept.moments().collect();
        self.tally = None;
        for at in before {
            self.no_moment(at, key);
        }
        for at in after {
            self.moments.entry(at).or_default().insert(key.clone());
        }
    }

    /// Removes a deleted opt-out. Returns its namespace if it was known.
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

    /// The list is complete: opt-outs that it did not name are gone. Returns their namespaces.
    pub fn relisted(&mut self) -> BTreeSet<NamespaceName> {
        let Some(named) = self.listed.end() else { return BTreeSet::new() };
        self.forget_all_but(|key| named.contains(key))
    }

    fn forget_all_but(&mut self, stays: impl Fn(&Key) -> bool) -> BTreeSet<NamespaceName> {
        let all = self.kept.iter().flat_map(|(ns, of)| of.keys().map(move |name| (ns.clone(), name.clone())));
        let gone: Vec<Key> = all.filter(|key| !stays(key)).collect();
        gone.into_iter().filter(|key| self.forget(key)).map(|key| key.0).collect()
    }

    /// Whether it is known if the CRD of opt-outs exists.
    pub const fn knows_crd(&self) -> bool {
        self.crd.is_some()
    }

    /// The list of CRDs is complete; `there` says whether it names that of opt-outs.
    pub const fn crds_listed(&mut self, there: bool) {
        self.crd = Some(there);
    }

    /// Takes a CRD from the watch; `there` is false if it is gone.
    pub fn crd_seen(&mut self, crd: &str, there: bool) {
        if crd == OPT_OUTS_CRD {
            self.crd = self.crd.map(|_| there);
        }
    }

    /// Forgets all opt-outs if their CRD does not exist, and returns their namespaces; `None` otherwise. So the operator also works if it
    /// is newer than the CRDs in the cluster.
    ///
    /// An API server that has just started may not serve opt-outs yet, so the list of CRDs decides. If CRDs are not listed, there are no
    /// opt-outs once their list is refused as unknown for `LASTS`. If the CRD exists and opt-outs cannot be listed, decisions wait.
    ///
    /// `refusal` and `since`: how the list of opt-outs is refused, and since when. `crds_answered`: CRDs are listed, or decisions no
    /// longer wait for them.
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

    /// The namespaces with a moment between the last call and now, even if the wall clock went back. The first call returns all.
    pub fn tick(&mut self, wall: Timestamp) -> BTreeSet<NamespaceName> {
        let Some(looked) = self.looked.replace(wall) else { return self.kept.keys().cloned().collect() };
        if looked == wall {
            return BTreeSet::new();
        }
        let (from, to) = (looked.min(wall), looked.max(wall));
        let passed = self.moments.range((Bound::Excluded(from), Bound::Included(to)));
        passed.flat_map(|(_, keys)| keys).map(|(ns, _)| ns.clone()).collect()
    }

    /// The opt-outs of this namespace. Those that are older than it belong to an earlier namespace of that name.
    fn of_namespace(&self, ns: &Namespace) -> impl Iterator<Item = &OptOutState> {
        let created = ns.created;
        let is_older = move |kept: &OptOutState| kept.checked.as_ref().is_ok_and(|o| o.is_older_than(created));
        self.kept.get(&ns.name).into_iter().flat_map(BTreeMap::values).filter(move |kept| !is_older(kept))
    }

    /// The valid opt-outs of a namespace that have not expired. One that somebody deleted does not count, even if a finalizer still holds
    /// it.
    pub fn living(&self, ns: &Namespace, wall: Timestamp) -> NamespaceOptOuts {
        let all = self.of_namespace(ns).filter(|kept| !kept.deleting);
        all.filter_map(|kept| kept.checked.as_ref().ok()).filter(|o| !o.is_over(wall)).cloned().collect()
    }

    /// When an opt-out of the namespace was first in force; of several the latest time. Its policies may be missing because of that, so the
    /// namespace does not count as found open.
    pub fn first_in_force(&self, ns: &Namespace) -> Option<Timestamp> {
        self.of_namespace(ns).filter_map(|kept| Some(kept.stored.as_ref()?.first_in_force.as_ref()?.0)).max()
    }

    /// Whether an opt-out for that role was in force and has expired.
    pub fn lapsed(&self, ns: &Namespace, role: Role, wall: Timestamp) -> bool {
        let was_in_force = |kept: &OptOutState| kept.stored.as_ref().is_some_and(|stored| stored.first_in_force.is_some());
        let is_over = |kept: &OptOutState| kept.checked.as_ref().is_ok_and(|o| o.roles.contains(role) && o.is_over(wall));
        self.of_namespace(ns).any(|kept| was_in_force(kept) && is_over(kept))
    }

    /// Judges the opt-outs of a namespace. If this instance leads, their wanted status and label follow from that.
    pub fn judge(&mut self, namespace: &Namespace, ruling: Ruling, found: RolesFound, leads: bool, now: Now) {
        let ns = &namespace.name;
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
                Ok(opt_out) => verdict(opt_out, namespace.created, ruling, now.wall),
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
            let (wanted, unannounced) =
                if leads { follow(kept, &judged, found, enforced_since, now.wall) } else { (None, vec![]) };
            if kept.wanted != wanted {
                kept.write.forgive();
                // Usually the policies follow within milliseconds, and one status is enough.
                kept.held_until = wanted.as_ref().filter(|wanted| waits_for_policies(wanted)).map(|_| now.instant + GATHER);
            }
            (kept.wanted, kept.unannounced) = (wanted, unannounced);
            kept.untold = kept.new_mistake(&judged).filter(|_| leads);
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

    /// The namespace is being deleted: nothing is written to its opt-outs.
    pub fn leave_alone(&mut self, ns: &NamespaceName) {
        for (name, kept) in self.kept.get_mut(ns).into_iter().flatten() {
            (kept.wanted, kept.unannounced, kept.untold) = (None, vec![], None);
            self.unwritten.remove(&(ns.clone(), name.clone()));
        }
    }

    /// Called when this instance begins to lead: it continues from the state of the cluster.
    pub fn take_over(&mut self) {
        for kept in self.kept.values_mut().flat_map(BTreeMap::values_mut) {
            (kept.wanted, kept.unannounced, kept.untold) = (None, vec![], None);
            kept.write.begin_anew();
        }
        self.unwritten.clear();
    }

    /// The writes that are due now.
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

    /// Takes the result of a write.
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

    /// Makes the announcements that the stored status records. So a restart does not repeat them.
    fn tell(&mut self, key: &Key, wall: Timestamp) {
        let (namespace, name) = key;
        let Some(kept) = self.kept.get_mut(namespace).and_then(|all| all.get_mut(name)) else { return };
        let is_recorded = kept.untold.as_ref().is_some_and(|(refusal, _)| kept.is_stored(*refusal));
        if let Some((refusal, message)) = kept.untold.take_if(|_| is_recorded) {
            self.announcements.push(Announcement {
                namespace: namespace.clone(),
                policy: name.to_string(),
                uid: Some(kept.uid.to_string()),
                reason: EventReason::OptOutNotInForce,
                note: format!("this opt-out is not in force, {}: {message}", refusal.into_str()),
                at: wall,
            });
        }
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
            self.announcements.push(Announcement {
                namespace: namespace.clone(),
                policy: name.to_string(),
                uid: Some(kept.uid.to_string()),
                reason,
                note,
                at: wall,
            });
        }
    }

    /// The announcements since the last call.
    pub fn take_announcements(&mut self) -> Vec<Announcement> {
        std::mem::take(&mut self.announcements)
    }

    /// When a moment comes, or a write may be due.
    pub fn wakes(&self, now: Now) -> impl Iterator<Item = Instant> {
        let next = self.moments.range((Bound::Excluded(now.wall), Bound::Unbounded)).next().map(|(at, _)| *at);
        let wait = |at: Timestamp| Duration::try_from(at.duration_since(now.wall)).unwrap_or(FAR).min(FAR);
        let moment = next.map(|at| now.instant + wait(at));
        let waits = self.unwritten.iter().filter_map(|(ns, name)| self.kept.get(ns)?.get(name));
        let write =
            waits.filter_map(|kept| kept.write.next_wake().max(kept.held_until.filter(|_| !kept.write.is_under_way()))).min();
        moment.into_iter().chain(write.filter(|_| self.writing < WRITES_AT_ONCE))
    }

    /// How many opt-outs are in force, by role.
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

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;
    use serde_json::json;

    use super::*;
    use crate::testkit::{checked, namespace};

    const EGRESS: Role = Role::DefaultDenyEgress;

    /// An opt-out of namespace `a` that was created then, ends an hour later, and was in force from its first minute on.
    fn opt_out(name: &str, created: Timestamp) -> RawOptOut {
        let object = json!({
            "metadata": {"name": name, "namespace": "a", "uid": name, "generation": 1, "resourceVersion": "1", "creationTimestamp": created},
            "spec": {"policies": [EGRESS], "reason": "a reason of twenty characters", "expiresAt": created + SignedDuration::from_hours(1)},
            "status": {"conditions": [], "firstInForce": created + SignedDuration::from_mins(1)},
        });
        serde_json::from_value(object).unwrap()
    }

    #[test]
    fn i4_an_opt_out_of_an_earlier_namespace_of_that_name_counts_in_no_answer_about_the_later_one() {
        let earlier = namespace("a", &[]);
        let created = earlier.created + SignedDuration::from_secs(10);
        let later = Namespace { created, ..namespace("a", &[]) };
        let (mut all, baseline) = (OptOuts::default(), checked("b", json!({})));
        all.seen(&opt_out("old", earlier.created), earlier.created);
        let (wall, over) = (created + SignedDuration::from_mins(2), created + SignedDuration::from_hours(2));
        let answers = |all: &mut OptOuts, ns: &Namespace| {
            all.judge(ns, Ruling::Enforces(&baseline), RolesFound::default(), true, Now { instant: Instant::now(), wall });
            let is_living = all.living(ns, wall) != NamespaceOptOuts::default();
            let in_force = all.tally().iter().map(|(_, tally)| tally.in_force).sum::<u32>();
            (is_living, all.first_in_force(ns).is_some(), all.lapsed(ns, EGRESS, over), in_force)
        };
        assert_eq!(answers(&mut all, &earlier), (true, true, true, 1));
        assert_eq!(answers(&mut all, &later), (false, false, false, 0));
        all.seen(&opt_out("new", created), created);
        assert_eq!(answers(&mut all, &later), (true, true, true, 1));
        let elsewhere = Namespace { created, ..namespace("b", &[]) };
        assert_eq!((all.first_in_force(&elsewhere), all.lapsed(&elsewhere, EGRESS, over)), (None, false));
    }
}
