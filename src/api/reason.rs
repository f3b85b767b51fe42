//! The reasons in conditions, violations, notices and events. Each set is fixed, because users alert on these words.
//! One file: these words are the vocabulary of all statuses, and no word may be in it twice.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strum::{Display, IntoStaticStr, VariantArray};

/// Why a write did not produce what was planned.
#[derive(Clone, Copy, Debug, Display, Eq, Hash, IntoStaticStr, Ord, PartialEq, PartialOrd, VariantArray)]
#[strum(const_into_str)]
pub enum Failure {
    /// A ResourceQuota is used up.
    QuotaExceeded,
    /// An admission policy or webhook refused the write.
    DeniedByAdmission,
    /// An admission webhook could not be reached.
    WebhookDown,
    /// Another admission plugin changed what was written.
    MutatedByAdmission,
    /// The operator lacks a permission.
    Forbidden,
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
}

/// What is wrong in a namespace, the worst first.
#[derive(
    Clone, Copy, Debug, Deserialize, Eq, Hash, IntoStaticStr, JsonSchema, Ord, PartialEq, PartialOrd, Serialize, VariantArray,
)]
#[strum(const_into_str)]
pub enum ViolationReason {
    /// The API server calls a Service there, and a policy of the baseline closes the namespace.
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
    /// The namespace is being deleted and lacks planned policies, which nobody can create there any more. Pods may still run there.
    MissingWhileTerminating,
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
    /// Somebody deleted a policy, and a finalizer has kept it for over a minute.
    Terminating,
    /// Somebody else's policy opens what the baseline closes.
    Bypassed,
    /// Somebody else's policy has too many rules, blocks and ports to find out what it opens.
    TooLargeToJudge,
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
    /// The API server calls a Service there, so the namespace is left alone.
    ServesControlPlane,
    /// Audit found a difference.
    WouldChange,
    /// The namespace is older than the baseline, and only reported.
    ExistingNamespace,
    /// A BaselineOptOut takes a policy away for a time.
    OptedOut,
    /// Policies of the baseline have finalizers of others.
    ForeignFinalizer,
}

/// The reason of a status entry: a violation or a notice.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum FindingReason {
    /// Something is wrong in the namespace.
    Violation(ViolationReason),
    /// Something is worth knowing, but nothing is wrong.
    Notice(NoticeReason),
}

impl FindingReason {
    /// The reason as it appears in the status.
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

/// The types of conditions on a baseline.
#[derive(Clone, Copy, Debug, Display, Eq, Hash, IntoStaticStr, Ord, PartialEq, PartialOrd, VariantArray)]
#[strum(const_into_str)]
pub enum ConditionType {
    /// A change would release many namespaces and waits for the owner's confirmation. Present only while it waits.
    AwaitingConfirmation,
    /// Whether bypasses of all kinds are detected. Present only in clusters with policy kinds that the operator does not read.
    BypassCoverage,
    /// Whether all Services that the API server calls are known. Present only while they are not.
    #[strum(serialize = "ControlPlaneCoverage")]
    BackendCoverage,
    /// Whether policies allow all of the cluster's DNS. Present only while they do not, or while that is not known.
    #[strum(serialize = "DNSCoverage")]
    DnsCoverage,
    /// Whether the namespaces that are older than the baseline are closed too. Present in mode Enforce.
    ExistingNamespacesClosed,
    /// Whether nothing is known of a network plugin that enforces policies. Absent until the operator has looked for one.
    EnforcementUnknown,
    /// Whether allows with `kubernetesAPI` let pods reach the API server. Present only while they may not.
    #[strum(serialize = "KubernetesAPICoverage")]
    KubernetesApiCoverage,
    /// An allow opens to everybody, and its owner has confirmed that. Present only while there is one.
    OpensToEverybody,
    /// Another baseline with the same priority selects the same namespace. Present only while this is so.
    PriorityTied,
    /// Everything that was planned is in place.
    Ready,
    /// The operator is working to make the baseline Ready.
    Reconciling,
    /// Whether a rollout has stopped and needs its owner. Present only during a rollout, or while none could begin.
    RolloutPaused,
    /// The operator makes no progress until the owner of the baseline acts.
    Stalled,
    /// The baseline is suspended. Present only while it is.
    Suspended,
}

/// The condition type of an opt-out: whether the policies that it names are removed.
pub const OPT_OUT_IN_FORCE: &str = "InForce";

/// Why an opt-out is not in force.
#[derive(Clone, Copy, Debug, Eq, Hash, IntoStaticStr, Ord, PartialEq, PartialOrd, VariantArray)]
#[strum(const_into_str)]
pub enum OptOutRefusal {
    /// It has expired.
    Expired,
    /// It ends later than the baseline allows.
    TooLong,
    /// It names a policy from which the baseline allows no opt-out.
    PolicyNotAllowed,
    /// No baseline enforces anything in its namespace.
    NoBaseline,
    /// Its namespace is older than the baseline, which only reports it.
    ExistingNamespace,
    /// It was created before its namespace: an earlier namespace of that name left it behind.
    OlderThanNamespace,
    /// The baseline is suspended, stalled or awaits confirmation.
    BaselineFrozen,
    /// It is being deleted.
    Deleting,
    /// The object cannot be deserialised.
    Undecodable,
}

/// Reasons of conditions that are neither a failed write nor an invalid spec.
pub mod state {
    /// Every selected namespace is closed as planned.
    pub const PROTECTED: &str = "Protected";
    /// The baseline selects no namespace.
    pub const NOTHING_SELECTED: &str = "NothingSelected";
    /// Some selected namespaces are older than the baseline, and only reported.
    pub const EXISTING_ONLY_REPORTED: &str = "ExistingNamespacesOnlyReported";
    /// Some selected namespaces are left open, because the API server calls Services there.
    pub const NAMESPACES_HELD: &str = "NamespacesHeld";
    /// In some namespaces, opt-outs are in force.
    pub const NAMESPACES_OPTED_OUT: &str = "NamespacesOptedOut";
    /// In some namespaces, finalizers keep policies that are to be removed.
    pub const NAMESPACES_FROZEN: &str = "NamespacesFrozen";
    /// The spec asks for no default-deny.
    pub const CLOSES_NOTHING: &str = "ClosesNothing";
    /// Some selected namespaces lack policies, and their deletion has failed for long.
    pub const DELETION_FAILING: &str = "DeletionFailing";
    /// Calls of the API server are blocked by policies of the baseline.
    pub const CONTROL_PLANE_BLOCKED: &str = super::ViolationReason::ControlPlaneBlocked.into_str();
    /// A baseline of the same priority selects the same namespaces.
    pub const PRIORITY_TIED: &str = super::ConditionType::PriorityTied.into_str();
    /// What the operator knows may be old: a watch has failed for more than a minute.
    pub const WATCH_FAILING: &str = "WatchFailing";
    /// The namespaces that are older than the baseline are closed like all others.
    pub const ALL_CLOSED: &str = "AllClosed";
    /// The audit of all selected namespaces is complete.
    pub const AUDITED: &str = "Audited";
    /// The owner of the baseline has confirmed it.
    pub const ACKNOWLEDGED: &str = "Acknowledged";
    /// Policies are being written.
    pub const WRITING: &str = "WritingPolicies";
    /// Writes failed; the operator retries them.
    pub const WRITES_FAILING: &str = "WritesFailing";
    /// Namespaces that are being deleted lack policies, and pods may still run there.
    pub const MISSING_WHILE_TERMINATING: &str = super::ViolationReason::MissingWhileTerminating.into_str();
    /// A change would release many namespaces and awaits confirmation.
    pub const AWAITING_CONFIRMATION: &str = "AwaitingConfirmation";
    /// A change is being rolled out in waves.
    pub const ROLLING_OUT: &str = "RollingOut";
    /// A rollout has stopped and needs its owner.
    pub const ROLLOUT_PAUSED: &str = "RolloutPaused";
    /// The baseline is suspended.
    pub const SUSPENDED: &str = "Suspended";
    /// The baseline is being deleted.
    pub const DELETING: &str = "Deleting";
    /// There is nothing to do.
    pub const SETTLED: &str = "Settled";
    /// The spec is valid.
    pub const VALID: &str = "Valid";
    /// The opt-out is within the limits of the baseline.
    pub const WITHIN_LIMITS: &str = "WithinLimits";
    /// The opt-out is within the limits, and its policies are still there.
    pub const REMOVING: &str = "RemovingPolicies";
    /// The opt-out is over, and its policies are not back yet.
    pub const RESTORING: &str = "RestoringPolicies";
    /// The cluster has policies of other kinds, and the operator does not check what they open.
    pub const NETWORK_POLICY_ONLY: &str = "NetworkPolicyOnly";
    /// Several baselines have the same priority, so only their names decide.
    pub const SAME_PRIORITY: &str = "SamePriority";
    /// A source of DNS cannot be read. Policies keep what was found there before.
    pub const DNS_NOT_READABLE: &str = "DNSNotReadable";
    /// More DNS was found than a policy may hold.
    pub const DNS_LEFT_OUT: &str = "DNSLeftOut";
    /// No policy can allow the cluster's DNS, or its place cannot be found out.
    pub const DNS_NOT_EXPRESSIBLE: &str = "DNSNotExpressible";
    /// Some objects that name Services, or the DaemonSets of network plugins, could not be listed.
    pub const NOT_LISTED: &str = "NotListed";
    /// A network plugin was found that enforces NetworkPolicies.
    pub const PLUGIN_ENFORCES: &str = "PluginEnforces";
    /// The network plugin that was found may ignore NetworkPolicies.
    pub const PLUGIN_MAY_IGNORE_POLICIES: &str = "PluginMayIgnorePolicies";
    /// The network plugin that was found ignores NetworkPolicies.
    pub const PLUGIN_IGNORES_POLICIES: &str = "PluginIgnoresPolicies";
    /// No network plugin was found that the operator knows.
    pub const NO_PLUGIN_KNOWN: &str = "NoPluginKnown";

    /// Every reason of the condition Ready. The other reasons that it may have are those of an invalid spec.
    pub const OF_READY: [&str; 22] = [
        PROTECTED,
        AUDITED,
        NOTHING_SELECTED,
        EXISTING_ONLY_REPORTED,
        NAMESPACES_HELD,
        NAMESPACES_OPTED_OUT,
        NAMESPACES_FROZEN,
        CLOSES_NOTHING,
        DELETION_FAILING,
        PRIORITY_TIED,
        WRITING,
        WRITES_FAILING,
        MISSING_WHILE_TERMINATING,
        CONTROL_PLANE_BLOCKED,
        AWAITING_CONFIRMATION,
        ROLLING_OUT,
        ROLLOUT_PAUSED,
        SUSPENDED,
        DELETING,
        WATCH_FAILING,
        "AnotherInstance",
        crate::api::schema::NOT_PROCESSED,
    ];
}

/// Why a rollout does not continue.
pub mod rollout {
    /// The new policies could not be written in too many namespaces.
    pub const TOO_MANY_FAILURES: &str = "TooManyFailures";
    /// The target revision, or the revision that it replaces, could not be stored.
    pub const REVISION_NOT_STORED: &str = "RevisionNotStored";
    /// The content of a stored revision was changed or cannot be decoded.
    pub const REVISION_UNREADABLE: &str = "RevisionUnreadable";
    /// The operator is not allowed to read the stored revisions.
    pub const REVISIONS_FORBIDDEN: &str = "RevisionsForbidden";
    /// The API server did not return the stored revisions in time.
    pub const REVISIONS_LATE: &str = "RevisionsLate";
}

/// Reasons of events.
#[derive(Clone, Copy, Debug, Eq, Hash, IntoStaticStr, PartialEq, VariantArray)]
#[strum(const_into_str)]
pub enum EventReason {
    /// A drift was repaired.
    DriftRepaired,
    /// A policy that already had a planned name was taken over.
    PolicyAdopted,
    /// A policy that is no longer planned was removed.
    PolicyRemoved,
    /// A finalizer was removed from a deleted policy, because its owner is not in the cluster.
    FinalizerRemoved,
    /// A write failed; the operator retries it.
    RepairFailed,
    /// Somebody changes a policy again and again; the operator delays its repairs.
    PolicyContested,
    /// Somebody else's policy opens what the baseline closes.
    BaselineBypassed,
    /// An opt-out ends soon.
    OptOutExpiresSoon,
    /// An opt-out has ended.
    OptOutExpired,
    /// The spec of an opt-out keeps it from ever being in force.
    OptOutNotInForce,
    /// The API server calls a Service in a namespace whose ingress is closed.
    ControlPlaneBlocked,
    /// A namespace that is being deleted lacks planned policies, and pods may still run there.
    MissingWhileTerminating,
    /// A stored CRD lacks fields that this version of the operator knows.
    CrdFieldsMissing,
    /// An older install of the operator runs in the cluster, and this one writes nothing.
    WaitsForInstall,
    /// A baseline is ready now, or ready for another reason.
    BaselineReady,
    /// A baseline is not ready any more, or for another reason.
    BaselineNotReady,
}

impl EventReason {
    /// The `action` field of the event.
    pub const fn action(self) -> &'static str {
        match self {
            Self::DriftRepaired => "Repair",
            Self::PolicyAdopted => "Adopt",
            Self::PolicyRemoved | Self::FinalizerRemoved => "Remove",
            Self::RepairFailed => "Retry",
            Self::PolicyContested | Self::CrdFieldsMissing | Self::WaitsForInstall => "Wait",
            Self::BaselineBypassed | Self::OptOutExpiresSoon | Self::ControlPlaneBlocked | Self::MissingWhileTerminating => {
                "Report"
            }
            Self::BaselineReady | Self::BaselineNotReady => "Assess",
            Self::OptOutExpired => "Close",
            Self::OptOutNotInForce => "Refuse",
        }
    }

    /// The apiVersion and kind of the object that the event is about.
    pub const fn regards(self) -> (&'static str, &'static str) {
        match self {
            Self::OptOutExpiresSoon | Self::OptOutExpired | Self::OptOutNotInForce => {
                ("policybaseline.io/v1alpha1", "BaselineOptOut")
            }
            Self::CrdFieldsMissing
            | Self::WaitsForInstall
            | Self::MissingWhileTerminating
            | Self::BaselineReady
            | Self::BaselineNotReady => ("policybaseline.io/v1alpha1", "PolicyBaseline"),
            Self::DriftRepaired
            | Self::PolicyAdopted
            | Self::PolicyRemoved
            | Self::FinalizerRemoved
            | Self::RepairFailed
            | Self::PolicyContested
            | Self::BaselineBypassed
            | Self::ControlPlaneBlocked => ("networking.k8s.io/v1", "NetworkPolicy"),
        }
    }

    /// Whether that object is in a namespace. The event of one that is not is in the namespace `default`.
    pub const fn is_namespaced(self) -> bool {
        !matches!(
            self,
            Self::CrdFieldsMissing
                | Self::WaitsForInstall
                | Self::MissingWhileTerminating
                | Self::BaselineReady
                | Self::BaselineNotReady
        )
    }

    /// Whether tenants can cause the event, so that their number is limited.
    pub const fn is_caused_by_tenants(self) -> bool {
        !matches!(self, Self::CrdFieldsMissing | Self::WaitsForInstall)
    }

    /// Whether the event has type Warning, so that somebody should look at it.
    pub const fn is_warning(self) -> bool {
        match self {
            Self::DriftRepaired
            | Self::PolicyAdopted
            | Self::FinalizerRemoved
            | Self::RepairFailed
            | Self::PolicyContested
            | Self::BaselineBypassed
            | Self::ControlPlaneBlocked
            | Self::MissingWhileTerminating
            | Self::CrdFieldsMissing
            | Self::WaitsForInstall
            | Self::OptOutExpiresSoon
            | Self::OptOutExpired
            | Self::OptOutNotInForce
            | Self::BaselineNotReady => true,
            Self::PolicyRemoved | Self::BaselineReady => false,
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
