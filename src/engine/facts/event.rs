//! The events of the watches. Every watched set reports the same five kinds of change.

use k8s_openapi::api::{apps::v1::ControllerRevision, networking::v1::NetworkPolicy};

use super::{baseline::RawBaseline, installs::InstallLease, opt_out::RawOptOut};
use crate::{
    api::{
        SlimNamespace,
        backends::{Configuration, ConfigurationKind},
    },
    policy::{dns::DnsEvent, kubernetes_api::ApiEvent, plugins::PluginSeen},
};

/// What a watch reports of its set.
#[derive(Debug)]
pub enum Change<T> {
    /// A list begins. Objects that it does not name before `ListDone` are gone.
    ListBegan,
    /// An object was listed, created or changed.
    Applied(T),
    /// An object was deleted.
    Deleted(T),
    /// The list is complete.
    ListDone,
    /// The set cannot be listed or watched. The text says why.
    Refused(ListRefusal, String),
}

impl<T> Change<T> {
    /// Whether the watch works, or why it failed. `None` if the change does not show that: the API server may not serve this resource at
    /// all.
    pub const fn works(&self) -> Option<Result<(), ListRefusal>> {
        match self {
            Self::Applied(_) | Self::Deleted(_) | Self::ListDone => Some(Ok(())),
            Self::Refused(refusal @ (ListRefusal::Forbidden | ListRefusal::Unavailable), _) => Some(Err(*refusal)),
            Self::ListBegan | Self::Refused(ListRefusal::Unknown, _) => None,
        }
    }
}

/// A change, with the watched set in which it happened.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "namespaces come most often, and a box for each costs more than a copy")]
pub enum Event {
    /// A namespace.
    Namespace(Change<SlimNamespace>),
    /// A NetworkPolicy.
    Policy(Change<Box<NetworkPolicy>>),
    /// A baseline.
    Baseline(Change<Box<RawBaseline>>),
    /// An opt-out.
    OptOut(Change<Box<RawOptOut>>),
    /// The Lease of an install.
    Install(Change<Box<InstallLease>>),
    /// A stored revision of a baseline.
    Revision(Change<Box<ControllerRevision>>),
    /// An object of a kind that may name Services which the API server calls.
    Configuration(ConfigurationKind, Change<Configuration>),
    /// A report of a DNS source.
    Dns(Box<DnsEvent>),
    /// A report about the API server's objects.
    KubernetesApi(ApiEvent),
    /// A DaemonSet of this name, which a known network plugin has.
    Plugin(&'static str, Change<PluginSeen>),
}

/// Why a set cannot be listed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ListRefusal {
    /// The operator lacks the permission.
    Forbidden,
    /// The API server does not serve this resource, so there are no such objects.
    Unknown,
    /// Any other reason, which may be temporary.
    Unavailable,
}

#[cfg(test)]
pub use for_tests::ListPhase;

#[cfg(test)]
mod for_tests {
    use super::Change;

    /// The beginning or the end of a list.
    #[derive(Clone, Copy, Debug, Eq, PartialEq)]
    pub enum ListPhase {
        Begin,
        End,
    }

    impl ListPhase {
        pub fn change<T>(self) -> Change<T> {
            match self {
                Self::Begin => Change::ListBegan,
                Self::End => Change::ListDone,
            }
        }
    }
}
