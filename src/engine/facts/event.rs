//! What the watches say.

use k8s_openapi::{
    api::{apps::v1::ControllerRevision, coordination::v1::Lease, networking::v1::NetworkPolicy},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use super::{
    baseline::RawBaseline,
    opt_out::{RawOptOut, Unlisted},
};
use crate::{
    api::backends::{Configuration, ConfigurationKind},
    policy::dns::DnsEvent,
};

/// What the watches say.
#[derive(Debug)]
pub enum Seen {
    /// A namespace appeared or changed.
    Namespace(ObjectMeta),
    /// A namespace is gone.
    NamespaceGone(ObjectMeta),
    /// A list of namespaces begins, or is complete.
    NamespaceList(ListPhase),
    /// A policy appeared or changed.
    Policy(Box<NetworkPolicy>),
    /// A policy is gone.
    PolicyGone(Box<NetworkPolicy>),
    /// A list of policies begins, or is complete.
    PolicyList(ListPhase),
    /// A baseline appeared or changed.
    Baseline(Box<RawBaseline>),
    /// A baseline is gone.
    BaselineGone(Box<RawBaseline>),
    /// A list of baselines begins, or is complete.
    BaselineList(ListPhase),
    /// An opt-out appeared or changed.
    OptOut(Box<RawOptOut>),
    /// An opt-out is gone.
    OptOutGone(Box<RawOptOut>),
    /// A list of opt-outs begins, or is complete.
    OptOutList(ListPhase),
    /// Opt-outs cannot be listed.
    OptOutsUnlisted(Unlisted),
    /// The Lease of an install appeared or changed.
    Install(Box<Lease>),
    /// The Lease of an install is gone.
    InstallGone(Box<Lease>),
    /// A list of installs begins, or is complete.
    InstallList(ListPhase),
    /// Something of the cluster's DNS.
    Dns(Box<DnsEvent>),
    /// A stored revision of a baseline appeared.
    Revision(Box<ControllerRevision>),
    /// A stored revision of a baseline is gone.
    RevisionGone(Box<ControllerRevision>),
    /// A list of stored revisions begins, or is complete.
    RevisionList(ListPhase),
    /// Stored revisions may not be read.
    RevisionsForbidden,
    /// An object that may name Services which the apiserver calls appeared or changed.
    Configuration(Configuration),
    /// One is gone: its kind and its name.
    ConfigurationGone(ConfigurationKind, String),
    /// A list of those of a kind begins, or is complete.
    ConfigurationList(ConfigurationKind, ListPhase),
    /// Those of a kind are not shown.
    ConfigurationsRefused(ConfigurationKind, ListRefusal),
}

/// Why a list is not shown.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ListRefusal {
    /// The operator lacks the permission.
    Forbidden,
    /// The apiserver knows no such objects, so there are none.
    Unknown,
}

/// Where a list stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ListPhase {
    /// It begins.
    Begin,
    /// It is complete.
    End,
}
