//! The words that conditions, violations, notices and events use. Each set is closed: users alert on these words.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strum::{Display, IntoStaticStr, VariantArray};

/// Why a write did not bring what was planned.
#[derive(Clone, Copy, Debug, Display, Eq, Hash, IntoStaticStr, Ord, PartialEq, PartialOrd, VariantArray)]
#[strum(const_into_str)]
pub enum Failure {
    /// A ResourceQuota is used up.
    QuotaExceeded,
    /// An admission policy or webhook said no.
    DeniedByAdmission,
    /// An admission webhook could not be reached.
    WebhookDown,
    /// Another admission plugin changed what was written.
    MutatedByAdmission,
    /// The operator lacks a permission.
    Forbidden,
    /// The API server found the object invalid.
    Rejected,
    /// The object changed or went in between.
    Conflict,
    /// The API server asked for fewer requests.
    Throttled,
    /// No answer in time.
    TimedOut,
    /// The API server could not be reached, or failed.
    Unavailable,
}

/// What is wrong in a namespace, the worst first.
#[derive(
    Clone, Copy, Debug, Deserialize, Eq, Hash, IntoStaticStr, JsonSchema, Ord, PartialEq, PartialOrd, Serialize, VariantArray,
)]
#[strum(const_into_str)]
pub enum ViolationReason {
    /// The API server calls a Service there, and its ingress is closed.
    ControlPlaneBlocked,
    /// The operator lacks a permission.
    Forbidden,
    /// An admission policy or webhook refused the write.
    DeniedByAdmission,
    /// Another admission plugin changed what was written.
    MutatedByAdmission,
    /// An admission webhook could not be reached.
    WebhookDown,
    /// A ResourceQuota is used up.
    QuotaExceeded,
    /// The API server found the object invalid.
    Rejected,
    /// The object changed or was deleted between two steps of a write.
    Conflict,
    /// The API server asked for fewer requests.
    Throttled,
    /// The API server did not answer in time.
    TimedOut,
    /// The API server could not be reached, or failed.
    Unavailable,
    /// A policy has a deletionTimestamp and waits for a finalizer.
    Terminating,
    /// Somebody else's policy opens what the baseline closes.
    Bypassed,
    /// Somebody changes a policy again and again.
    Contested,
}

impl From<Failure> for ViolationReason {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::QuotaExceeded => Self::QuotaExceeded,
            Failure::DeniedByAdmission => Self::DeniedByAdmission,
            Failure::WebhookDown => Self::WebhookDown,
            Failure::MutatedByAdmission => Self::MutatedByAdmission,
            Failure::Forbidden => Self::Forbidden,
            Failure::Rejected => Self::Rejected,
            Failure::Conflict => Self::Conflict,
            Failure::Throttled => Self::Throttled,
            Failure::TimedOut => Self::TimedOut,
            Failure::Unavailable => Self::Unavailable,
        }
    }
}

/// What is worth knowing about a namespace and is not wrong, the most important first.
#[derive(
    Clone, Copy, Debug, Deserialize, Eq, Hash, IntoStaticStr, JsonSchema, Ord, PartialEq, PartialOrd, Serialize, VariantArray,
)]
#[strum(const_into_str)]
pub enum NoticeReason {
    /// The API server calls a Service there, so its ingress is left open.
    ServesControlPlane,
    /// Audit found a difference.
    WouldChange,
    /// The namespace is older than the baseline, and only reported.
    ExistingNamespace,
    /// A BaselineOptOut takes a policy away for a time.
    OptedOut,
}

/// Why a namespace has an entry in a status: something is wrong there, or something is worth knowing.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum FindingReason {
    /// Something is wrong.
    Violation(ViolationReason),
    /// Nothing is wrong.
    Notice(NoticeReason),
}

impl FindingReason {
    /// The word in the status.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Violation(reason) => reason.into_str(),
            Self::Notice(reason) => reason.into_str(),
        }
    }
}

impl From<ViolationReason> for FindingReason {
    fn from(reason: ViolationReason) -> Self {
        Self::Violation(reason)
    }
}

impl From<Failure> for FindingReason {
    fn from(failure: Failure) -> Self {
        Self::Violation(failure.into())
    }
}

impl From<NoticeReason> for FindingReason {
    fn from(reason: NoticeReason) -> Self {
        Self::Notice(reason)
    }
}

/// The types of conditions.
#[derive(Clone, Copy, Debug, Display, Eq, Hash, IntoStaticStr, Ord, PartialEq, PartialOrd, VariantArray)]
#[strum(const_into_str)]
pub enum ConditionType {
    /// A change would release many namespaces, and waits for its owner. Only there while it waits.
    AwaitingConfirmation,
    /// Whether bypasses are looked for everywhere. Only there where policies of kinds exist that the operator does not read.
    BypassCoverage,
    /// Whether all Services are known that the API server calls. Only there where they are not.
    #[strum(serialize = "ControlPlaneCoverage")]
    BackendCoverage,
    /// Whether policies allow all of the cluster's DNS. Only there where they do not.
    #[strum(serialize = "DNSCoverage")]
    DnsCoverage,
    /// Another baseline of the same priority selects a namespace too. Only there while that is so.
    PriorityTied,
    /// Everything that was planned is in place.
    Ready,
    /// The operator works towards Ready.
    Reconciling,
    /// A rollout goes no further by itself. Only there during a rollout, or while none could begin.
    RolloutPaused,
    /// No progress without the owner of the baseline.
    Stalled,
    /// The baseline is suspended. Only there while it is.
    Suspended,
}

/// The condition of an opt-out: whether the policies that it names are away.
pub const OPT_OUT_IN_FORCE: &str = "InForce";

/// Why an opt-out is not in force.
#[derive(Clone, Copy, Debug, Eq, Hash, IntoStaticStr, Ord, PartialEq, PartialOrd, VariantArray)]
#[strum(const_into_str)]
pub enum OptOutRefusal {
    /// Its time is over.
    Expired,
    /// It ends later than the baseline allows.
    TooLong,
    /// It names a policy that the baseline does not give up.
    PolicyNotAllowed,
    /// No baseline enforces anything in its namespace.
    NoBaseline,
    /// Its namespace is older than the baseline, which only reports it.
    ExistingNamespace,
    /// The baseline is suspended, stalled, or waits for a confirmation.
    BaselineFrozen,
    /// It is being deleted.
    Deleting,
    /// The object cannot be read.
    Undecodable,
}

/// Reasons of conditions that are neither a failed write nor an invalid spec.
pub mod state {
    /// Every selected namespace holds its policies.
    pub const PROTECTED: &str = "Protected";
    /// Audit is complete.
    pub const AUDITED: &str = "Audited";
    /// Policies are being written.
    pub const WRITING: &str = "WritingPolicies";
    /// Writes failed and are tried again.
    pub const WRITES_FAILING: &str = "WritesFailing";
    /// A change would release many namespaces, and waits to be confirmed.
    pub const AWAITING_CONFIRMATION: &str = "AwaitingConfirmation";
    /// A change goes out in waves.
    pub const ROLLING_OUT: &str = "RollingOut";
    /// A rollout goes no further by itself.
    pub const ROLLOUT_PAUSED: &str = "RolloutPaused";
    /// The baseline is suspended.
    pub const SUSPENDED: &str = "Suspended";
    /// The baseline is being deleted.
    pub const DELETING: &str = "Deleting";
    /// Nothing is under way.
    pub const SETTLED: &str = "Settled";
    /// The spec is valid.
    pub const VALID: &str = "Valid";
    /// An opt-out keeps within what the baseline allows.
    pub const WITHIN_LIMITS: &str = "WithinLimits";
    /// The cluster knows policies of other kinds, and what they open is not looked at.
    pub const NETWORK_POLICY_ONLY: &str = "NetworkPolicyOnly";
    /// Between baselines of one priority only the names decide.
    pub const SAME_PRIORITY: &str = "SamePriority";
    /// The cluster's DNS is where no policy can allow it, or nobody can tell where.
    pub const DNS_NOT_EXPRESSIBLE: &str = "DNSNotExpressible";
    /// Some objects that name Services could not be listed.
    pub const NOT_LISTED: &str = "NotListed";
}

/// Why a rollout goes no further.
pub mod rollout {
    /// The new policies could not be written in too many namespaces.
    pub const TOO_MANY_FAILURES: &str = "TooManyFailures";
    /// What goes out, or what it comes from, could not be stored.
    pub const REVISION_NOT_STORED: &str = "RevisionNotStored";
    /// A stored revision is not what was stored.
    pub const REVISION_UNREADABLE: &str = "RevisionUnreadable";
    /// The operator may not read what it stored.
    pub const REVISIONS_FORBIDDEN: &str = "RevisionsForbidden";
    /// What is stored is not answered in time.
    pub const REVISIONS_LATE: &str = "RevisionsLate";
}

/// Reasons of events.
#[derive(Clone, Copy, Debug, Eq, Hash, IntoStaticStr, PartialEq, VariantArray)]
#[strum(const_into_str)]
pub enum EventReason {
    /// A drift was repaired.
    DriftRepaired,
    /// A policy under a planned name was taken over.
    PolicyAdopted,
    /// A policy that is planned no more was removed.
    PolicyRemoved,
    /// A write failed; it is tried again.
    RepairFailed,
    /// Somebody changes a policy again and again; its repairs wait.
    PolicyContested,
    /// Somebody else's policy opens what the baseline closes.
    BaselineBypassed,
    /// An opt-out ends soon.
    OptOutExpiresSoon,
    /// An opt-out has ended.
    OptOutExpired,
    /// The API server calls a Service in a namespace whose ingress is closed.
    ControlPlaneBlocked,
}

impl EventReason {
    /// What was done, in a word.
    pub const fn action(self) -> &'static str {
        match self {
            Self::DriftRepaired => "Repair",
            Self::PolicyAdopted => "Adopt",
            Self::PolicyRemoved => "Remove",
            Self::RepairFailed => "Retry",
            Self::PolicyContested => "Wait",
            Self::BaselineBypassed | Self::OptOutExpiresSoon | Self::ControlPlaneBlocked => "Report",
            Self::OptOutExpired => "Close",
        }
    }

    /// What kind of object it is about: its apiVersion and kind.
    pub const fn regards(self) -> (&'static str, &'static str) {
        match self {
            Self::OptOutExpiresSoon | Self::OptOutExpired => ("policybaseline.io/v1alpha1", "BaselineOptOut"),
            Self::DriftRepaired
            | Self::PolicyAdopted
            | Self::PolicyRemoved
            | Self::RepairFailed
            | Self::PolicyContested
            | Self::BaselineBypassed
            | Self::ControlPlaneBlocked => ("networking.k8s.io/v1", "NetworkPolicy"),
        }
    }

    /// Whether the event is a warning: what somebody should look at.
    pub const fn is_warning(self) -> bool {
        match self {
            Self::DriftRepaired
            | Self::PolicyAdopted
            | Self::RepairFailed
            | Self::PolicyContested
            | Self::BaselineBypassed
            | Self::ControlPlaneBlocked
            | Self::OptOutExpiresSoon
            | Self::OptOutExpired => true,
            Self::PolicyRemoved => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_reason_is_a_camel_case_word_of_its_own() {
        fn words<T: VariantArray>(word: fn(&T) -> &'static str) -> impl Iterator<Item = &'static str> {
            T::VARIANTS.iter().map(word)
        }
        let sets = [
            words(ViolationReason::into_str).chain(words(NoticeReason::into_str)).collect::<Vec<_>>(),
            words(Failure::into_str).chain(words(EventReason::into_str)).collect(),
            words(OptOutRefusal::into_str).collect(),
            words(ConditionType::into_str).collect(),
        ];
        for words in sets {
            assert_eq!(words.iter().collect::<BTreeSet<_>>().len(), words.len());
            for word in words {
                assert!(
                    word.starts_with(|c: char| c.is_ascii_uppercase()) && word.bytes().all(|b| b.is_ascii_alphanumeric()),
                    "{word}"
                );
            }
        }
    }

    #[test]
    fn a_failed_write_is_a_violation_of_the_same_name() {
        for failure in Failure::VARIANTS {
            assert_eq!(ViolationReason::from(*failure).into_str(), failure.into_str());
        }
    }
}
