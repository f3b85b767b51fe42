//! The opt-outs as they stand in the cluster: what each amounts to, what is announced of its end, and when its status and label are
//! to be written. Time is an argument, and may jump.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use serde::Deserialize;
use strum::VariantArray;
use tracing::{info, warn};

use super::retry::{LONGEST, stretched};
use crate::{
    api::{
        BaselineOptOutStatus, NamespaceName, Role, cut,
        names::{IN_FORCE, LABEL_OPT_OUT, OPT_OUTS_CRD},
        opt_out::{Announced, ExpiryNotice},
        reason::{EventReason, Failure, OPT_OUT_IN_FORCE, OptOutRefusal, state},
        whole_seconds,
    },
    engine::{
        clock::{LASTS, Now, STATUS_INTERVAL},
        facts::{
            event::ListRefusal,
            opt_out::{Key, RawOptOut, Tally},
        },
        writes::{Announcement, OptOutWrite, StoredOptOut, WriteError},
    },
    policy::{
        listing::Listing,
        plan::{
            NamespaceOptOuts, OptOut,
            opt_out::{OptOutVerdict, Ruling, verdict},
        },
        status::MAX_MESSAGE,
    },
};

/// So many of them are written to at once: what is written for them never holds up policies.
const WRITES_AT_ONCE: usize = 4;
/// What is refused for what it is, or not stored as it was written, is tried again after so long at first, and at last: nothing will change on its own.
const NOT_STORED: (Duration, Duration) = (Duration::from_secs(2), Duration::from_mins(5));
/// A write that failed.
const FAILED: (Duration, Duration) = (Duration::from_secs(5), LONGEST);
/// A write to what is going, or was written by somebody else in between: its watch will say so.
const OVERTAKEN: (Duration, Duration) = (STATUS_INTERVAL, LONGEST);
/// The farthest moment that is waited for: the clock may jump, so it is looked at again anyway.
const FAR: Duration = Duration::from_hours(1);

/// One opt-out.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
struct OptOutState {
    uid: Arc<str>,
    version: u64,
    generation: Option<i64>,
    /// Somebody deleted it, and a finalizer holds it.
    deleting: bool,
    checked: Result<OptOut, String>,
    stored: Option<BaselineOptOutStatus>,
    label: Option<String>,
    verdict: Option<OptOutVerdict>,
    /// The baseline that holds everything in its namespace as it is.
    frozen_by: Option<Arc<str>>,
    /// The status that should stand there, once this instance leads and has judged.
    wanted: Option<BaselineOptOutStatus>,
    /// What is announced when the status that says so is stored: a restart then repeats none.
    untold: Vec<ExpiryNotice>,
    writing: bool,
    not_before: Option<Instant>,
    /// How many writes of what is wanted did not succeed in a row.
    setbacks: u32,
    /// Until when it waits for that.
    waits: Option<Instant>,
    /// What was said of that, in a word.
    complaint: Option<&'static str>,
}

impl OptOutState {
    /// When it may be written again.
    fn next_write(&self) -> Option<Instant> {
        self.not_before.max(self.waits)
    }

    /// A write of what is wanted did not succeed: the next one waits, twice as long each time.
    fn set_back(&mut self, (first, longest): (Duration, Duration), (namespace, name): &Key, now: Instant) {
        self.setbacks += 1;
        self.waits = Some(now + stretched(first, longest, self.setbacks, namespace, name));
    }

    fn no_setbacks(&mut self) {
        (self.setbacks, self.waits) = (0, None);
    }

    /// Says once what keeps it from being written.
    fn complain(&mut self, word: &'static str, message: &str, (namespace, name): &Key) {
        if self.complaint != Some(word) {
            warn!(%namespace, opt_out = %name, reason = word, "status or label of the opt-out not written, will be tried again: {message}");
            self.complaint = Some(word);
        }
    }

    fn was_in_force(&self) -> bool {
        let conditions = self.stored.iter().flat_map(|s| &s.conditions);
        conditions.into_iter().any(|c| c.type_ == OPT_OUT_IN_FORCE && c.status == "True")
    }

    /// Whether it was in force when it was judged last.
    fn stood(&self) -> bool {
        self.verdict.as_ref().map_or_else(|| self.was_in_force(), |verdict| verdict.until().is_some())
    }

    fn moments(&self) -> impl Iterator<Item = Timestamp> {
        let expires = self.checked.as_ref().ok().map(|o| o.expires);
        expires.into_iter().flat_map(|end| ExpiryNotice::VARIANTS.iter().copied().filter_map(move |step| moment(end, step)))
    }

    /// The label that it should carry: it says what the status says.
    fn wanted_label(&self) -> Option<&'static str> {
        self.verdict.as_ref().and_then(OptOutVerdict::until).map(|_| IN_FORCE)
    }

    fn is_written(&self) -> bool {
        self.wanted
            .as_ref()
            .is_none_or(|wanted| self.stored.as_ref() == Some(wanted) && self.label.as_deref() == self.wanted_label())
    }
}

fn moment(end: Timestamp, step: ExpiryNotice) -> Option<Timestamp> {
    end.checked_sub(SignedDuration::from_secs(step.seconds_ahead())).ok()
}

/// All opt-outs.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
pub struct OptOuts {
    kept: BTreeMap<NamespaceName, BTreeMap<Arc<str>, OptOutState>>,
    listed: Listing<Key>,
    /// When each ends, and when that is announced.
    moments: BTreeMap<Timestamp, BTreeSet<Key>>,
    /// Up to when that was looked at.
    looked: Option<Timestamp>,
    /// Those whose status or label is not as wanted.
    unwritten: BTreeSet<Key>,
    writing: usize,
    told: Vec<Announcement>,
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
                untold: vec![],
                writing: false,
                not_before: None,
                setbacks: 0,
                waits: None,
                complaint: None,
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
            Ok(o) => info!(%namespace, opt_out = %name, policies = %o.roles, expires = %o.expires, "opt-out taken up"),
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
        info!(%namespace, opt_out = %name, "opt-out is gone");
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
    /// returns whom that concerns. An apiserver that has just started may not know them yet, so its CRDs decide; only where these are not
    /// shown its word counts, when it lasts (`refused`: how, and since when). While the CRD is there and they cannot be listed, nobody knows what they say. `crds_answered`: CRDs
    /// are listed, or gone without.
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

    /// The namespaces in which something ends or is announced since it was looked at last, in whichever direction the clock went.
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
                    "it is being deleted, and somebody's finalizer holds it".into(),
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
            let (wanted, untold) = if leads { follow(kept, &judged, enforced_since, wall) } else { (None, vec![]) };
            if kept.wanted != wanted {
                kept.no_setbacks();
            }
            (kept.wanted, kept.untold) = (wanted, untold);
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
            (kept.wanted, kept.untold) = (None, vec![]);
            self.unwritten.remove(&(ns.clone(), name.clone()));
        }
    }

    /// This instance begins to lead: it goes on from what stands in the cluster.
    pub fn take_over(&mut self) {
        for kept in self.kept.values_mut().flat_map(BTreeMap::values_mut) {
            kept.wanted = None;
            kept.untold = vec![];
            kept.not_before = None;
            kept.no_setbacks();
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
            let Some(kept) = self.kept.get_mut(ns).and_then(|all| all.get_mut(name)) else { continue };
            if kept.writing || kept.next_write().is_some_and(|at| at > now) {
                continue;
            }
            kept.writing = true;
            kept.not_before = Some(now + STATUS_INTERVAL);
            let label = kept.wanted_label();
            writes.push(OptOutWrite {
                namespace: ns.clone(),
                name: name.clone(),
                uid: kept.uid.clone(),
                status: kept.wanted.clone().filter(|wanted| kept.stored.as_ref() != Some(wanted)),
                label: (kept.label.as_deref() != label).then_some(label),
            });
        }
        self.writing += writes.len();
        writes
    }

    /// A write ended.
    pub fn written(&mut self, write: OptOutWrite, result: Result<StoredOptOut, WriteError>, now: Now) {
        self.writing = self.writing.saturating_sub(1);
        let OptOutWrite { namespace, name, uid, status, label } = write;
        let key = (namespace, name);
        let Some(kept) = self.get_mut(&key).filter(|kept| kept.uid == uid) else { return };
        kept.writing = false;
        match result {
            Ok(stored) => {
                let sticks = stored.status == status && label.is_none_or(|label| stored.label.as_deref() == label);
                let what = if stored.status == status { "label" } else { "status" };
                // What the watch has shown meanwhile may be newer.
                if stored.version >= kept.version {
                    kept.version = stored.version;
                    kept.label = stored.label;
                    if status.is_some() {
                        kept.stored = stored.status;
                    }
                }
                if sticks {
                    kept.complaint = None;
                    kept.no_setbacks();
                } else {
                    let message = format!(
                        "the apiserver took the {what} and stored something else: the CRD may be older than the operator, or another admission plugin changes it. Apply manifests/base, and exempt opt-outs from that plugin"
                    );
                    kept.complain("NotStored", &message, &key);
                    kept.set_back(NOT_STORED, &key, now.instant);
                }
            }
            // It is whoever leads now who writes.
            Err(WriteError::NotLeading) => {}
            // It is gone, or being replaced.
            Err(
                WriteError::NotFound | WriteError::NamespaceTerminating | WriteError::Failed { reason: Failure::Conflict, .. },
            ) => {
                kept.set_back(OVERTAKEN, &key, now.instant);
            }
            Err(WriteError::Failed { reason, message }) => {
                kept.complain(reason.into_str(), &message, &key);
                kept.set_back(if reason == Failure::Rejected { NOT_STORED } else { FAILED }, &key, now.instant);
            }
        }
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
        let (now, later) = std::mem::take(&mut kept.untold).into_iter().partition(|step| recorded.contains(step));
        kept.untold = later;
        let frozen =
            kept.frozen_by.as_ref().map(|b| format!("; baseline {b} is frozen here, and nothing changes until it goes on: then"));
        for step in now {
            let (reason, note) = match step {
                ExpiryNotice::DayAhead | ExpiryNotice::HourAhead => {
                    let then = frozen.as_deref().unwrap_or(": then");
                    let more = "if the exception is still needed then, create a new one";
                    let note = format!("this opt-out ends at {expires}{then} {roles} counts here again; {more}");
                    (EventReason::OptOutExpiresSoon, note)
                }
                ExpiryNotice::Expired => {
                    let then = frozen.as_deref().unwrap_or(":");
                    (EventReason::OptOutExpired, format!("this opt-out ended at {expires}{then} {roles} counts here again"))
                }
            };
            let uid = Some(kept.uid.to_string());
            self.told.push(Announcement { namespace: namespace.clone(), policy: name.to_string(), uid, reason, note, at: wall });
        }
    }

    /// What is to be announced.
    pub fn take_told(&mut self) -> Vec<Announcement> {
        std::mem::take(&mut self.told)
    }

    /// When to look again.
    pub fn wakes(&self, now: Now) -> impl Iterator<Item = Instant> {
        let next = self.moments.range((Bound::Excluded(now.wall), Bound::Unbounded)).next().map(|(at, _)| *at);
        let wait = |at: Timestamp| Duration::try_from(at.duration_since(now.wall)).unwrap_or(FAR).min(FAR);
        let moment = next.map(|at| now.instant + wait(at));
        let waits = self.unwritten.iter().filter_map(|(ns, name)| self.kept.get(ns)?.get(name));
        let write = waits.filter(|kept| !kept.writing).filter_map(OptOutState::next_write).min();
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

fn tally<'a>(all: impl Iterator<Item = &'a OptOutState>, role: Role) -> Tally {
    let names = |kept: &&OptOutState| kept.checked.as_ref().is_ok_and(|o| o.roles.contains(role));
    let ends: Vec<Timestamp> = all.filter(names).filter_map(|kept| kept.verdict.as_ref()?.until()).collect();
    Tally { in_force: u32::try_from(ends.len()).unwrap_or(u32::MAX), earliest: ends.into_iter().min() }
}

/// The status that follows from a verdict, and what is to be announced with it.
fn follow(
    kept: &OptOutState,
    verdict: &OptOutVerdict,
    enforced_since: Option<Timestamp>,
    wall: Timestamp,
) -> (Option<BaselineOptOutStatus>, Vec<ExpiryNotice>) {
    let stored = kept.stored.as_ref();
    // A time that could not be stored is told as it was to be: else something else would be wanted every second.
    let told = || stored.into_iter().chain(&kept.wanted);
    let (status, reason, message) = match verdict {
        OptOutVerdict::InForce(_, message) => ("True", state::WITHIN_LIMITS, message),
        OptOutVerdict::NotInForce(refusal, message) => ("False", refusal.into_str(), message),
    };
    let before = told().flat_map(|s| &s.conditions).find(|c| c.type_ == OPT_OUT_IN_FORCE && c.status == status);
    let condition = Condition {
        type_: OPT_OUT_IN_FORCE.into(),
        status: status.into(),
        reason: reason.into(),
        message: cut(message, MAX_MESSAGE),
        observed_generation: kept.generation,
        last_transition_time: before.map_or_else(|| whole_seconds(wall), |c| c.last_transition_time.clone()),
    };
    let is_in_force = verdict.until().is_some();
    // Under a baseline that was created since, it is in force anew.
    let is_of_before = |first: Timestamp| is_in_force && enforced_since.is_some_and(|created| first < created);
    let first = |of: &BaselineOptOutStatus| of.first_in_force.clone().filter(|first| !is_of_before(first.0));
    let (announced, untold) = match &kept.checked {
        Ok(opt_out) => announce(stored.and_then(|s| s.announced.as_ref()), opt_out, is_in_force, kept.was_in_force(), wall),
        Err(_) => (stored.and_then(|s| s.announced.clone()), vec![]),
    };
    let status = BaselineOptOutStatus {
        observed_generation: kept.generation,
        conditions: vec![condition],
        first_in_force: match stored.and_then(first) {
            None if is_in_force => told().find_map(first).or_else(|| Some(whole_seconds(wall))),
            first => first,
        },
        announced,
    };
    (Some(status), untold)
}

/// What was announced of the end until now, and what is still to be said. What was over when that end was set is never said: "a day ahead"
/// would be wrong.
fn announce(
    stored: Option<&Announced>,
    opt_out: &OptOut,
    is_in_force: bool,
    was_in_force: bool,
    wall: Timestamp,
) -> (Option<Announced>, Vec<ExpiryNotice>) {
    let end = opt_out.expires;
    let known = stored.filter(|a| a.expires_at.0 == end).map(|a| &a.steps);
    let passed = ExpiryNotice::VARIANTS.iter().filter(|step| moment(end, **step).is_none_or(|at| at <= wall));
    let passed: Vec<ExpiryNotice> = passed.copied().collect();
    // Of several that are due together, the last one says it all.
    let due = passed.last().filter(|step| match (step, known) {
        (_, Some(known)) if known.contains(step) => false,
        (ExpiryNotice::Expired, _) => was_in_force,
        (ExpiryNotice::DayAhead | ExpiryNotice::HourAhead, known) => known.is_some() && is_in_force,
    });
    let untold = due.copied().into_iter().collect();
    let steps: BTreeSet<ExpiryNotice> = known.into_iter().flatten().copied().chain(passed).collect();
    (Some(Announced { expires_at: whole_seconds(end), steps: steps.into_iter().collect() }), untold)
}
