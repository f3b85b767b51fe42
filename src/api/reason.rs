//! The words that conditions, violations and events use. Each set is closed: users alert on these words.

use std::fmt;

/// Why a write did not bring what was planned.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
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
    /// The apiserver found the object invalid.
    Rejected,
    /// The object changed or went in between.
    Conflict,
    /// The apiserver asked for fewer requests.
    Throttled,
    /// No answer in time.
    TimedOut,
    /// The apiserver could not be reached, or failed.
    Unavailable,
}

impl Failure {
    /// Every reason.
    pub const ALL: [Self; 10] = [
        Self::QuotaExceeded,
        Self::DeniedByAdmission,
        Self::WebhookDown,
        Self::MutatedByAdmission,
        Self::Forbidden,
        Self::Rejected,
        Self::Conflict,
        Self::Throttled,
        Self::TimedOut,
        Self::Unavailable,
    ];

    /// The word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::QuotaExceeded => "QuotaExceeded",
            Self::DeniedByAdmission => "DeniedByAdmission",
            Self::WebhookDown => "WebhookDown",
            Self::MutatedByAdmission => "MutatedByAdmission",
            Self::Forbidden => "Forbidden",
            Self::Rejected => "Rejected",
            Self::Conflict => "Conflict",
            Self::Throttled => "Throttled",
            Self::TimedOut => "TimedOut",
            Self::Unavailable => "Unavailable",
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Violations that are no failed write.
pub mod violation {
    /// Older than the baseline, and only reported.
    pub const EXISTING_NAMESPACE: &str = "ExistingNamespace";
    /// Audit found a difference.
    pub const WOULD_CHANGE: &str = "WouldChange";
    /// A policy has a deletionTimestamp and waits for a finalizer.
    pub const TERMINATING: &str = "Terminating";
    /// Somebody changes a policy again and again.
    pub const CONTESTED: &str = "Contested";
    /// Somebody else's policy opens what the baseline closes.
    pub const BYPASSED: &str = "Bypassed";
    /// The namespace does without a policy for a time, by a BaselineOptOut.
    pub const OPTED_OUT: &str = "OptedOut";
    /// The apiserver calls a Service there, so its ingress is left open.
    pub const SERVES_CONTROL_PLANE: &str = "ServesControlPlane";
    /// The apiserver calls a Service there, and its ingress is closed.
    pub const CONTROL_PLANE_BLOCKED: &str = "ControlPlaneBlocked";
}

/// Types of conditions.
pub mod condition {
    /// Everything that was planned is in place.
    pub const READY: &str = "Ready";
    /// Work is under way.
    pub const RECONCILING: &str = "Reconciling";
    /// No progress without the owner of the baseline.
    pub const STALLED: &str = "Stalled";
    /// A rollout goes no further by itself. Only there during a rollout, or while none could begin.
    pub const ROLLOUT_PAUSED: &str = "RolloutPaused";
    /// How far bypasses are looked for. Only there where policies exist that are not looked at.
    pub const BYPASS_COVERAGE: &str = "BypassCoverage";
    /// Whether all Services are known that the apiserver calls. Only there where they are not.
    pub const BACKEND_COVERAGE: &str = "ControlPlaneCoverage";
    /// Another baseline of the same priority selects a namespace too. Only there while that is so.
    pub const PRIORITY_TIED: &str = "PriorityTied";
    /// Whether policies allow all of the cluster's DNS. Only there where they do not.
    pub const DNS_COVERAGE: &str = "DNSCoverage";
    /// Of an opt-out: the policies that it names are away.
    pub const IN_FORCE: &str = "InForce";
}

/// Why an opt-out is not in force.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum OptOutRefusal {
    /// Its time is over.
    Expired,
    /// It ends later than the baseline allows.
    TooLong,
    /// It names a policy that the baseline does not give up.
    RoleNotAllowed,
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

impl OptOutRefusal {
    /// Every reason.
    pub const ALL: [Self; 8] = [
        Self::Expired,
        Self::TooLong,
        Self::RoleNotAllowed,
        Self::NoBaseline,
        Self::ExistingNamespace,
        Self::BaselineFrozen,
        Self::Deleting,
        Self::Undecodable,
    ];

    /// The word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Expired => "Expired",
            Self::TooLong => "TooLong",
            Self::RoleNotAllowed => "RoleNotAllowed",
            Self::NoBaseline => "NoBaseline",
            Self::ExistingNamespace => "ExistingNamespace",
            Self::BaselineFrozen => "BaselineFrozen",
            Self::Deleting => "Deleting",
            Self::Undecodable => "Undecodable",
        }
    }
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
    pub const RELEASE_HELD: &str = "ReleaseHeld";
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
    /// What was reached does not do what it should.
    pub const VERIFICATION_FAILED: &str = "VerificationFailed";
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
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
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
    /// The apiserver calls a Service in a namespace whose ingress is closed.
    ControlPlaneBlocked,
}

impl EventReason {
    /// Every reason.
    pub const ALL: [Self; 9] = [
        Self::DriftRepaired,
        Self::PolicyAdopted,
        Self::PolicyRemoved,
        Self::RepairFailed,
        Self::PolicyContested,
        Self::BaselineBypassed,
        Self::OptOutExpiresSoon,
        Self::OptOutExpired,
        Self::ControlPlaneBlocked,
    ];

    /// The word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::DriftRepaired => "DriftRepaired",
            Self::PolicyAdopted => "PolicyAdopted",
            Self::PolicyRemoved => "PolicyRemoved",
            Self::RepairFailed => "RepairFailed",
            Self::PolicyContested => "PolicyContested",
            Self::BaselineBypassed => "BaselineBypassed",
            Self::OptOutExpiresSoon => "OptOutExpiresSoon",
            Self::OptOutExpired => "OptOutExpired",
            Self::ControlPlaneBlocked => "ControlPlaneBlocked",
        }
    }

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
        let words = Failure::ALL.iter().map(|f| f.as_str()).chain(EventReason::ALL.iter().map(|e| e.as_str()));
        let words: Vec<&str> = words.chain(OptOutRefusal::ALL.iter().map(|r| r.as_str())).collect();
        assert_eq!(words.iter().collect::<BTreeSet<_>>().len(), words.len());
        for word in words {
            assert!(
                word.starts_with(|c: char| c.is_ascii_uppercase()) && word.bytes().all(|b| b.is_ascii_alphanumeric()),
                "{word}"
            );
        }
    }
}
