//! The errors of a spec. The variant decides the reason of a condition.
use crate::api::names::LabelError;

/// Why a baseline's spec is invalid. The message says where, and what to write instead.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum BaselineError {
    /// The object cannot be deserialised.
    #[error("the object cannot be read: {0}. Compare it with `kubectl explain policybaseline.spec`")]
    Undecodable(String),
    /// The object was stored without a mode, by an API server whose CRD did not require one.
    #[error("spec.mode is missing, so nothing is written or removed: write mode: Enforce or mode: Audit")]
    MissingMode,
    /// A selector has a bad key or value.
    #[error("{field}: {source}")]
    InvalidSelector {
        /// The path of the field.
        field: String,
        /// The reason why the key or value is refused.
        source: LabelError,
    },
    /// A requirement has values although its operator takes none, or has none although it needs them.
    #[error("{0}: In and NotIn need values; Exists and DoesNotExist take none")]
    InvalidRequirement(String),
    /// A name or glob that can match no namespace.
    #[error("spec.excludeNamespaces: {0:?} cannot match any namespace: use lower-case letters, digits, '-' and '*'")]
    InvalidExclusion(String),
    /// The list of policies is empty.
    #[error("spec.policies: name at least one policy, or omit the field for all three")]
    NoPolicies,
    /// A list that must not be empty is empty.
    #[error("{0}: must not be empty, because an empty list would open everything; omit the field for the default")]
    EmptyList(&'static str),
    /// A monitoring source lacks a selector, or selects every namespace.
    #[error("spec.monitoring.from[{0}]: give a namespaceSelector that is not empty and a podSelector, in one entry")]
    InvalidSource(usize),
    /// A DNS peer gives neither pods nor addresses, or gives several of them.
    #[error(
        "spec.dns.peers[{0}]: name pods by namespaceSelector (with podSelector) or by sameNamespace, or addresses by ipBlock: one of the three"
    )]
    InvalidDnsPeer(usize),
    /// The text is not a range of addresses, or Kubernetes wants another spelling of it.
    #[error("{field}: {cidr:?} is not a range that Kubernetes accepts: write {write}")]
    InvalidCidr {
        /// The path of the field.
        field: String,
        /// The refused text.
        cidr: String,
        /// What to write instead.
        write: String,
    },
    /// What is left out of a range is no smaller range inside it.
    #[error("{field}: {except:?} must be a smaller range inside {cidr}")]
    ExceptOutside {
        /// Where.
        field: String,
        /// The range that is left out.
        except: String,
        /// The range that it is left out of.
        cidr: String,
    },
    /// The value is not a port.
    #[error(
        "{0}: a port is a number from 1 to 65535 or a name of at most 15 lower-case letters, digits and '-'; endPort needs a number not above it"
    )]
    InvalidPort(String),
    /// A port of an egress rule has a name, which each network plugin resolves in its own way, and some wrongly.
    #[error(
        "spec.monitoring.ports: sourceEgress: Enforce needs ports with numbers, such as ports: [{{port: 9090}}]; network plugins do not agree on what a named port means in an egress rule"
    )]
    NamedEgressPort,
    /// A part of an allow is missing, or is one too many.
    #[error("{field}: {message}")]
    InvalidAllow {
        /// The path of the field.
        field: String,
        /// What is wrong, and what to write instead.
        message: &'static str,
    },
    /// An allow opens to everybody, and nobody has confirmed that this is meant.
    #[error(
        "{field}: it {opening}: name who may talk. If everybody is meant, set acknowledgeOpen: true; then status and explain report it"
    )]
    UnacknowledgedOpening {
        /// The path of the allow.
        field: String,
        /// What it opens.
        opening: String,
    },
    /// The text is not a duration.
    #[error(
        "spec.optOuts.maxDuration: {0:?} is not a duration: write hours, minutes and seconds, as in 720h or 1h30m (there is no unit for days), and more than 0"
    )]
    InvalidDuration(String),
    /// A name with this prefix would not be valid.
    #[error(
        "spec.metadata.namePrefix: {0:?} is not a valid prefix: use at most 40 lower-case letters, digits and '-', ending in '-', as in baseline-"
    )]
    InvalidPrefix(String),
    /// A label or annotation key is invalid or reserved.
    #[error("spec.metadata.{field}: {message}")]
    InvalidMetadata {
        /// `labels` or `annotations`.
        field: &'static str,
        /// Which key is refused, and why.
        message: String,
    },
    /// A field of `spec.rollout` is invalid.
    #[error("spec.rollout.{0}")]
    InvalidRollout(&'static str),
    /// The name of the baseline is too long for a label value.
    #[error("metadata.name: {0:?} is longer than 63 characters, and becomes a label value: use a shorter name")]
    InvalidName(String),
    /// The baseline names this install, but an older install is running.
    #[error(
        "an older install of policy-baseline runs in namespace {0}, and only one may; remove one of them, or remove the annotation policybaseline.io/instance from this baseline so that the older install works on it"
    )]
    AnotherInstance(String),
}

impl BaselineError {
    /// Whether the spec may be right, and another install works on the baseline.
    pub const fn is_of_another_install(&self) -> bool {
        matches!(self, Self::AnotherInstance(_))
    }

    /// The reason for the condition.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Undecodable(_) => "Undecodable",
            Self::MissingMode => "MissingMode",
            Self::InvalidSelector { .. } | Self::InvalidRequirement(_) => "InvalidSelector",
            Self::InvalidExclusion(_) => "InvalidExclusion",
            Self::NoPolicies => "NoPolicies",
            Self::EmptyList(_) => "EmptyList",
            Self::InvalidSource(_) => "InvalidMonitoringSource",
            Self::InvalidDnsPeer(_) => "InvalidDnsPeer",
            Self::InvalidCidr { .. } | Self::ExceptOutside { .. } => "InvalidCidr",
            Self::InvalidPort(_) | Self::NamedEgressPort => "InvalidPort",
            Self::InvalidAllow { .. } => "InvalidAllow",
            Self::UnacknowledgedOpening { .. } => "OpensToEverybody",
            Self::InvalidDuration(_) => "InvalidMaxDuration",
            Self::InvalidPrefix(_) => "InvalidNamePrefix",
            Self::InvalidMetadata { .. } => "InvalidMetadata",
            Self::InvalidRollout(_) => "InvalidRollout",
            Self::InvalidName(_) => "InvalidName",
            Self::AnotherInstance(_) => "AnotherInstance",
        }
    }
}
