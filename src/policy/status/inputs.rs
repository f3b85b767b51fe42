//! What decides the conditions of a baseline.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::allows::AllowFacts;
use crate::{
    api::{
        baseline::{DnsStatus, Mode, NamespaceCounts},
        rollout::RolloutStatus,
    },
    policy::{dns::DnsGap, plugins::PluginJudgement},
};

/// The facts that decide the conditions.
#[derive(Clone, Debug, Default)]
pub struct ConditionInputs<'a> {
    /// `metadata.generation`: the version of the spec.
    pub generation: Option<i64>,
    /// Whether the baseline writes (Enforce) or only reports (Audit).
    pub mode: Mode,
    /// `spec.suspend` is true.
    pub suspended: bool,
    /// `spec.policies` names no default-deny.
    pub closes_nothing: bool,
    /// While a change awaits confirmation: how many namespaces it would open, of how many closed ones that it concerns.
    pub awaiting: Option<(usize, usize)>,
    /// A change awaits confirmation, or did so before the baseline was stalled or suspended.
    pub awaits: bool,
    /// Set while the baseline is being deleted.
    pub deleting: Option<Going>,
    /// Set while the deletion policy is Delete and the finalizer is not there yet: a deletion now would leave the policies behind.
    /// The inner value is the error if the finalizer could not be written.
    pub unfinished: Option<Option<String>>,
    /// Why the spec is invalid, as a reason and a message.
    pub stalled: Option<(&'a str, String)>,
    /// The policy kinds of the cluster in which the operator does not look for bypasses. `None` until they are known.
    pub unsupported_policy_kinds: Option<&'a BTreeSet<String>>,
    /// Which DNS destinations are allowed. `None` until they are known.
    pub dns: Option<&'a DnsStatus>,
    /// What policies do not allow of the cluster's DNS.
    pub dns_gap: Option<&'a DnsGap>,
    /// What is known of the allows. `None` until the spec was checked.
    pub allows: Option<&'a AllowFacts>,
    /// The resources that name Services called by the API server, and that could not be listed.
    pub unlisted: &'a [&'static str],
    /// What is known of the network plugin. `None` until it is known.
    pub plugin: Option<&'a PluginJudgement>,
    /// The state of the rollout, if there is one.
    pub rollout: Option<&'a RolloutStatus>,
    /// Why no change goes out automatically, as a reason and a message.
    pub paused: Option<&'a (String, String)>,
    /// The resources whose watches have failed for long, so that what is known of them may be old.
    pub failing: &'a [&'static str],
    /// The resourceVersion since which nothing is written for it, because it is invalid, suspended or in mode Audit; `None` if it
    /// works.
    pub resting_since: Option<u64>,
}

/// A summary of the namespaces of a baseline.
#[derive(Clone, Copy, Debug)]
pub struct NamespaceFindings<'a> {
    /// The namespaces, counted by state.
    pub counts: &'a NamespaceCounts,
    /// The unprotected ones whose deletion has failed for long. Ready does not wait for them.
    pub stuck: u32,
    /// The namespaces where policies block calls of the API server.
    pub blocked: u32,
    /// The baselines with the same priority that select the same namespaces, each with the number of such namespaces.
    pub ties: &'a BTreeMap<Arc<str>, u32>,
}

/// What happens to the policies of a baseline that is being deleted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Going {
    /// They are being removed; this many are left.
    Removing(usize),
    /// They stay in the cluster.
    Leaving,
}
