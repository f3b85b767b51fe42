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
    /// The cluster knows policies of other kinds, and what they open is not looked at.
    pub const NETWORK_POLICY_ONLY: &str = "NetworkPolicyOnly";
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
}

impl EventReason {
    /// Every reason.
    pub const ALL: [Self; 6] = [
        Self::DriftRepaired,
        Self::PolicyAdopted,
        Self::PolicyRemoved,
        Self::RepairFailed,
        Self::PolicyContested,
        Self::BaselineBypassed,
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
            Self::BaselineBypassed => "Report",
        }
    }

    /// Whether the event is a warning: what somebody should look at.
    pub const fn is_warning(self) -> bool {
        match self {
            Self::DriftRepaired | Self::PolicyAdopted | Self::RepairFailed | Self::PolicyContested | Self::BaselineBypassed => {
                true
            }
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
        let words: Vec<&str> =
            Failure::ALL.iter().map(|f| f.as_str()).chain(EventReason::ALL.iter().map(|e| e.as_str())).collect();
        assert_eq!(words.iter().collect::<BTreeSet<_>>().len(), words.len());
        for word in words {
            assert!(
                word.starts_with(|c: char| c.is_ascii_uppercase()) && word.bytes().all(|b| b.is_ascii_alphanumeric()),
                "{word}"
            );
        }
    }
}
