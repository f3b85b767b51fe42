//! The state of one opt-out, and the status that follows from the verdict on it.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use serde_json::Value;
use strum::VariantArray;
use tracing::{info, warn};

use super::{
    pending::{Attempt, PendingWrite},
    retry::{Delays, LONGEST},
};
use crate::{
    api::{
        BaselineOptOutStatus, NamespaceName, Role, Roles,
        names::{IN_FORCE, LABEL_OPT_OUT},
        opt_out::{Announced, ExpiryNotice},
        reason::{Failure, OPT_OUT_IN_FORCE, OptOutRefusal, state},
        resource_version,
        text::cut,
        whole_seconds,
    },
    engine::{
        clock::STATUS_INTERVAL,
        facts::opt_out::{Key, RolesFound, Tally},
        writes::WriteError,
    },
    policy::{
        plan::{OptOut, OptOutVerdict},
        status::MAX_MESSAGE,
    },
};

/// The first and the longest wait after a write that was rejected, or that was stored differently. This does not resolve itself.
const NOT_STORED: Delays = Delays::new(Duration::from_secs(2), Duration::from_mins(5));
/// The waits after any other failed write.
const FAILED: Delays = Delays::new(Duration::from_secs(5), LONGEST);
/// The waits after a write to an opt-out that is gone, or that somebody else wrote in between. The watch will show that.
const OVERTAKEN: Delays = Delays::new(STATUS_INTERVAL, LONGEST);

/// A write to an opt-out.
#[derive(Clone, Debug)]
pub struct OptOutWrite {
    /// The namespace of the opt-out.
    pub namespace: NamespaceName,
    /// The name of the opt-out.
    pub name: Arc<str>,
    /// The uid of the opt-out.
    pub uid: Arc<str>,
    /// The status to write; `None` if it is stored already.
    pub status: Option<BaselineOptOutStatus>,
    /// The label for opt-outs in force. `None`: it stays as it is. `Some(None)`: it is removed.
    #[expect(clippy::option_option, reason = "none: the label stays; none inside: it is removed")]
    pub label: Option<Option<&'static str>>,
}

/// An opt-out as it is stored now.
#[derive(Clone, Debug, Default)]
pub struct StoredOptOut {
    /// The status, if it was written and can be read.
    pub status: Option<BaselineOptOutStatus>,
    /// The value of the label for opt-outs in force.
    pub label: Option<String>,
    /// The resourceVersion; 0 if it is not a number.
    pub version: u64,
}

impl StoredOptOut {
    pub fn note(&mut self, object: &Value) {
        let meta = &object["metadata"];
        self.version = resource_version(meta["resourceVersion"].as_str());
        self.label = meta["labels"][LABEL_OPT_OUT].as_str().map(Into::into);
    }
}

/// The state of one opt-out.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub struct OptOutState {
    pub uid: Arc<str>,
    pub version: u64,
    pub generation: Option<i64>,
    /// Tells specs of the same generation apart.
    pub spec: u64,
    /// Somebody deleted it, and a finalizer holds it.
    pub deleting: bool,
    pub checked: Result<OptOut, String>,
    pub stored: Option<BaselineOptOutStatus>,
    pub label: Option<String>,
    pub verdict: Option<OptOutVerdict>,
    /// The baseline that freezes the namespace.
    pub frozen_by: Option<Arc<str>>,
    /// The status to store. `None` unless this instance leads and has judged the opt-out.
    pub wanted: Option<BaselineOptOutStatus>,
    /// Announcements that wait until the status that records them is stored. So a restart repeats none.
    pub unannounced: Vec<ExpiryNotice>,
    /// A mistake in the spec that an Event tells once the stored status says it too.
    pub untold: Option<(OptOutRefusal, String)>,
    /// No write begins before that time, while the status would say that policies are not yet as they should be.
    pub held_until: Option<Instant>,
    /// The write of status and label. Its error is the reason that was logged last.
    pub write: PendingWrite<&'static str>,
}

impl OptOutState {
    /// Starts the write of the opt-out, if it is due.
    pub fn begin_write(&mut self, ns: &NamespaceName, name: &Arc<str>, now: Instant) -> Option<OptOutWrite> {
        if !self.write.due(now) || self.held_until.is_some_and(|until| until > now) {
            return None;
        }
        self.write.started_spaced(now + STATUS_INTERVAL);
        let label = self.wanted_label();
        Some(OptOutWrite {
            namespace: ns.clone(),
            name: name.clone(),
            uid: self.uid.clone(),
            status: self.wanted.clone().filter(|wanted| self.stored.as_ref() != Some(wanted)),
            label: (self.label.as_deref() != label).then_some(label),
        })
    }

    /// Takes the result of the write.
    pub fn write_ended(&mut self, write: OptOutWrite, result: Result<StoredOptOut, WriteError>, now: Instant) {
        let OptOutWrite { namespace, name, status, label, .. } = write;
        let key = (namespace, name);
        let failed = |delays: Delays| Attempt::Failed(delays.spread(&key.0, &key.1));
        let attempt = match result {
            Ok(stored) => {
                let sticks = stored.status == status && label.is_none_or(|label| stored.label.as_deref() == label);
                let what = if stored.status == status { "label" } else { "status" };
                // The watch may have shown a newer version in the meantime.
                if stored.version >= self.version {
                    self.version = stored.version;
                    self.label = stored.label;
                    if status.is_some() {
                        self.stored = stored.status;
                    }
                }
                if sticks {
                    if self.write.set_error(None) {
                        info!(namespace = %key.0, opt_out = %key.1, "status and label of the opt-out can be written again");
                    }
                    Attempt::Stored
                } else {
                    let message = format!(
                        "the API server accepted the {what} and stored something else: the CRD may be older than the operator, or another admission plugin changes it. Apply manifests/base, and exempt opt-outs from that plugin"
                    );
                    self.complain("NotStored", &message, &key);
                    failed(NOT_STORED)
                }
            }
            // The current leader writes instead.
            Err(WriteError::NotLeading) => Attempt::Dropped,
            // The opt-out is gone, or being replaced.
            Err(
                WriteError::NotFound | WriteError::NamespaceTerminating | WriteError::Failed { reason: Failure::Conflict, .. },
            ) => failed(OVERTAKEN),
            Err(WriteError::Failed { reason, message }) => {
                self.complain(reason.into_str(), &message, &key);
                failed(if reason == Failure::Rejected { NOT_STORED } else { FAILED })
            }
        };
        self.write.ended(attempt, now);
    }

    /// Logs why it cannot be written, once for each reason.
    pub fn complain(&mut self, word: &'static str, message: &str, (namespace, name): &Key) {
        if self.write.set_error(Some(word)) {
            warn!(%namespace, opt_out = %name, reason = word, "status or label of the opt-out not written, trying again: {message}");
        }
    }

    /// Whether the stored status gives this reason.
    pub fn is_stored(&self, refusal: OptOutRefusal) -> bool {
        self.stored.iter().flat_map(|status| &status.conditions).any(|condition| condition.reason == refusal.into_str())
    }

    /// The mistake in its spec that the verdict found, if the stored status does not say it yet.
    pub fn new_mistake(&self, verdict: &OptOutVerdict) -> Option<(OptOutRefusal, String)> {
        let (refusal, message) = verdict.mistake(self.checked.as_ref().ok()?)?;
        (!self.is_stored(refusal)).then(|| (refusal, message.to_owned()))
    }

    pub fn was_in_force(&self) -> bool {
        self.stored.as_ref().is_some_and(says_in_force)
    }

    /// Whether it was in force at the last verdict; without a verdict, by the stored status.
    pub fn stood(&self) -> bool {
        self.verdict.as_ref().map_or_else(|| self.was_in_force(), |verdict| verdict.until().is_some())
    }

    pub fn moments(&self) -> impl Iterator<Item = Timestamp> {
        let expires = self.checked.as_ref().ok().map(|o| o.expires);
        expires.into_iter().flat_map(|end| ExpiryNotice::VARIANTS.iter().copied().filter_map(move |step| moment(end, step)))
    }

    /// The label that it should have: it says the same as the status.
    pub fn wanted_label(&self) -> Option<&'static str> {
        self.wanted.as_ref().is_some_and(says_in_force).then_some(IN_FORCE)
    }

    pub fn is_written(&self) -> bool {
        self.wanted
            .as_ref()
            .is_none_or(|wanted| self.stored.as_ref() == Some(wanted) && self.label.as_deref() == self.wanted_label())
    }
}

fn moment(end: Timestamp, step: ExpiryNotice) -> Option<Timestamp> {
    end.checked_sub(SignedDuration::from_secs(step.seconds_ahead())).ok()
}

/// The message while the policies of these roles are not as the verdict wants them.
fn waiting(roles: Roles, verdict: &str, how: &str) -> String {
    format!(
        "{verdict}; but {roles} is {how}. If that lasts, see the violations of the baseline: another writer changes the policy, a finalizer holds it, or the write is refused"
    )
}

/// Whether the status says that policies are not as the verdict wants them yet.
pub fn waits_for_policies(status: &BaselineOptOutStatus) -> bool {
    status.conditions.iter().any(|c| [state::REMOVING, state::RESTORING].contains(&&*c.reason))
}

fn says_in_force(status: &BaselineOptOutStatus) -> bool {
    status.conditions.iter().any(|c| c.type_ == OPT_OUT_IN_FORCE && c.status == "True")
}

/// The status that follows from a verdict and from what the namespace holds, and the announcements to make with it. The status says that
/// the opt-out is in force from when its policies are gone until they are back.
pub fn follow(
    kept: &OptOutState,
    verdict: &OptOutVerdict,
    found: RolesFound,
    enforced_since: Option<Timestamp>,
    wall: Timestamp,
) -> (Option<BaselineOptOutStatus>, Vec<ExpiryNotice>) {
    let stored = kept.stored.as_ref();
    // A time that is not stored yet keeps its first value. Otherwise another status would be wanted every second.
    let known = || stored.into_iter().chain(&kept.wanted);
    let roles = kept.checked.as_ref().map_or_else(|_| Roles::default(), |opt_out| opt_out.roles);
    let of_these = |others: Roles| roles.without(roles.without(others));
    let (left, owed) = (of_these(found.there), of_these(found.missing));
    let (status, reason, message) = match verdict {
        OptOutVerdict::InForce(_, message) if left.is_empty() => ("True", state::WITHIN_LIMITS, message.clone()),
        OptOutVerdict::InForce(until, _) => {
            ("False", state::REMOVING, waiting(left, &format!("it is within the limits until {until}"), "still there"))
        }
        OptOutVerdict::NotInForce(_, message) if !owed.is_empty() && known().any(says_in_force) => {
            ("True", state::RESTORING, waiting(owed, message, "not back yet"))
        }
        OptOutVerdict::NotInForce(refusal, message) => ("False", refusal.into_str(), message.clone()),
    };
    let before = known().flat_map(|s| &s.conditions).find(|c| c.type_ == OPT_OUT_IN_FORCE && c.status == status);
    let condition = Condition {
        type_: OPT_OUT_IN_FORCE.into(),
        status: status.into(),
        reason: reason.into(),
        message: cut(&message, MAX_MESSAGE),
        observed_generation: kept.generation,
        last_transition_time: before.map_or_else(|| whole_seconds(wall), |c| c.last_transition_time.clone()),
    };
    let is_in_force = verdict.until().is_some();
    // Under a baseline that was created later, it counts as in force for the first time again.
    let is_of_before = |first: Timestamp| is_in_force && enforced_since.is_some_and(|created| first < created);
    let first = |of: &BaselineOptOutStatus| of.first_in_force.clone().filter(|first| !is_of_before(first.0));
    let (announced, unannounced) = match &kept.checked {
        Ok(opt_out) => announce(stored.and_then(|s| s.announced.as_ref()), opt_out, is_in_force, kept.was_in_force(), wall),
        Err(_) => (stored.and_then(|s| s.announced.clone()), vec![]),
    };
    let status = BaselineOptOutStatus {
        observed_generation: kept.generation,
        conditions: vec![condition],
        first_in_force: match stored.and_then(first) {
            None if is_in_force => known().find_map(first).or_else(|| Some(whole_seconds(wall))),
            first => first,
        },
        announced,
    };
    (Some(status), unannounced)
}

/// The recorded announcements of the end, and those still to make. A step ahead that had passed when this end was set is never announced:
/// "a day ahead" would be wrong.
fn announce(
    stored: Option<&Announced>,
    opt_out: &OptOut,
    is_in_force: bool,
    was_in_force: bool,
    wall: Timestamp,
) -> (Option<Announced>, Vec<ExpiryNotice>) {
    let end = opt_out.expires;
    let known = stored.filter(|a| a.expires_at.0 == end).map(|a| &a.steps);
    let passed = ExpiryNotice::VARIANTS.iter().copied().filter(|step| moment(end, *step).is_none_or(|at| at <= wall));
    let passed: Vec<ExpiryNotice> = passed.collect();
    // If several steps are due together, only the last one is announced.
    let due = passed.last().filter(|step| match (step, known) {
        (_, Some(known)) if known.contains(step) => false,
        (ExpiryNotice::Expired, _) => was_in_force,
        (ExpiryNotice::DayAhead | ExpiryNotice::HourAhead, known) => known.is_some() && is_in_force,
    });
    let unannounced = due.copied().into_iter().collect();
    let steps: BTreeSet<ExpiryNotice> = known.into_iter().flatten().copied().chain(passed).collect();
    (Some(Announced { expires_at: whole_seconds(end), steps: steps.into_iter().collect() }), unannounced)
}

/// How many of these opt-outs are in force and name the role, and when the first of them ends.
pub fn tally<'a>(all: impl Iterator<Item = &'a OptOutState>, role: Role) -> Tally {
    let names = |kept: &&OptOutState| kept.checked.as_ref().is_ok_and(|o| o.roles.contains(role));
    let ends: Vec<Timestamp> = all.filter(names).filter_map(|kept| kept.verdict.as_ref()?.until()).collect();
    Tally { in_force: u32::try_from(ends.len()).unwrap_or(u32::MAX), earliest: ends.into_iter().min() }
}
