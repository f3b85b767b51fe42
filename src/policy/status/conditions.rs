//! The conditions, as kstatus defines them. A condition that keeps its status keeps its transition time, so an unchanged baseline
//! needs no write. One file: each condition is next to the sentence that explains it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use strum::IntoStaticStr;

use super::{
    allows::AllowFacts,
    inputs::{ConditionInputs, Going, NamespaceFindings},
};
use crate::{
    api::{
        backends::ConfigurationKind,
        baseline::{Mode, NamespaceCounts},
        names::CONFIRM_RELEASE,
        reason::{ConditionType, state},
        rollout::RolloutStatus,
        text::cut,
        whole_seconds,
    },
    policy::{dns::DnsGap, kubernetes_api::ApiGap, plugins::PluginJudgement},
};

/// The longest message of a condition, in characters. The API server's limit is 32,768, far more than people read.
pub const MAX_MESSAGE: usize = 1024;

/// Builds all conditions. `previous` are the conditions that are stored in the cluster.
pub fn conditions(health: &ConditionInputs, found: &NamespaceFindings, previous: &[Condition], now: Timestamp) -> Vec<Condition> {
    let Ready { status: ready, reason, message } = ready(health, found);
    let is_stalled = health.stalled.is_some();
    // What was deleted in a namespace that is going cannot be created again, and whoever blocks the API server must act, so nothing is
    // under way.
    let waits_for_others = [state::MISSING_WHILE_TERMINATING, state::CONTROL_PLANE_BLOCKED].contains(&reason);
    let is_reconciling = ready == ConditionStatus::False
        && !is_stalled
        && !health.suspended
        && health.awaiting.is_none()
        && health.paused.is_none()
        && !waits_for_others;
    let reconciling =
        if is_reconciling { (reason, message.clone()) } else { (state::SETTLED, "nothing is under way".to_owned()) };
    let stalled = health.stalled.clone().unwrap_or((state::VALID, "the spec is valid".to_owned()));
    let stands = |kind: ConditionType| previous.iter().find(|c| c.type_ == kind.into_str());
    let build_as = |kind: ConditionType, status: ConditionStatus, (reason, message): (&str, String)| {
        let status = status.into_str();
        let kept = stands(kind).filter(|c| c.status == status).map(|c| c.last_transition_time.clone());
        Condition {
            type_: kind.to_string(),
            status: status.into(),
            reason: reason.into(),
            message: cut(&message, MAX_MESSAGE),
            observed_generation: health.generation,
            last_transition_time: kept.unwrap_or_else(|| whole_seconds(now)),
        }
    };
    let build = |(kind, status, told): (ConditionType, bool, (&str, String))| build_as(kind, status.into(), told);
    let coverage = match health.unsupported_policy_kinds {
        Some(unsupported_policy_kinds) if unsupported_policy_kinds.is_empty() => None,
        Some(unsupported_policy_kinds) => {
            Some(build((ConditionType::BypassCoverage, false, not_covered(unsupported_policy_kinds))))
        }
        // Keep the stored condition until more is known.
        None => stands(ConditionType::BypassCoverage).cloned(),
    };
    let tied = (!found.ties.is_empty()).then(|| build((ConditionType::PriorityTied, true, tied(found.ties))));
    let dns = match health.dns_gap {
        Some(DnsGap { kind, message }) => Some(build((ConditionType::DnsCoverage, false, (kind.reason(), message.clone())))),
        None if health.dns.is_some() => None,
        None => stands(ConditionType::DnsCoverage).cloned(),
    };
    let of_allows = match health.allows {
        Some(AllowFacts { openings, api_gap, .. }) => {
            let gap = api_gap.as_ref().map(|ApiGap { reason, message }| (*reason, message.clone()));
            let gap = gap.map(|gap| build((ConditionType::KubernetesApiCoverage, false, gap)));
            let open = (!openings.is_empty()).then(|| build((ConditionType::OpensToEverybody, true, open_allows(openings))));
            [gap, open]
        }
        None => [ConditionType::KubernetesApiCoverage, ConditionType::OpensToEverybody].map(|kind| stands(kind).cloned()),
    };
    let unlisted = health.unlisted;
    let backends = (!unlisted.is_empty()).then(|| build((ConditionType::BackendCoverage, false, not_listed(unlisted))));
    let plugin = match health.plugin {
        Some(PluginJudgement { enforces, reason, message }) => {
            Some(build((ConditionType::EnforcementUnknown, !enforces, (*reason, message.clone()))))
        }
        None => stands(ConditionType::EnforcementUnknown).cloned(),
    };
    let rollout = match (health.paused, health.rollout) {
        (Some((reason, message)), _) => Some((ConditionType::RolloutPaused, true, (reason.as_str(), message.clone()))),
        (None, Some(rollout)) => Some((ConditionType::RolloutPaused, false, (state::ROLLING_OUT, progress(rollout)))),
        (None, None) => None,
    };
    let suspended = (health.suspended && !is_stalled)
        .then(|| (ConditionType::Suspended, true, (state::SUSPENDED, suspended(health.deleting.is_some()))));
    let awaiting = match health.awaiting.filter(|_| !is_stalled) {
        Some(counts) => {
            let told = (state::AWAITING_CONFIRMATION, awaiting(counts, health.generation));
            Some(build((ConditionType::AwaitingConfirmation, true, told)))
        }
        // A restart must not forget it.
        None => stands(ConditionType::AwaitingConfirmation).filter(|_| health.awaits).cloned(),
    };
    let rests = is_stalled || health.suspended || health.deleting.is_some() || health.mode == Mode::Audit;
    let existing = (!rests).then(|| {
        let (status, told) = existing_closed(health, ready, reason, &message, found.counts);
        build_as(ConditionType::ExistingNamespacesClosed, status, told)
    });
    let always = [(ConditionType::Reconciling, is_reconciling, reconciling), (ConditionType::Stalled, is_stalled, stalled)];
    let ready = build_as(ConditionType::Ready, ready, (reason, message));
    let others = always.into_iter().chain(rollout).chain(suspended).map(build).chain(awaiting);
    let mut all: Vec<Condition> = [ready].into_iter().chain(existing).chain(coverage).chain(backends).chain(dns).collect();
    all.extend(of_allows.into_iter().flatten().chain(plugin).chain(tied).chain(others));
    all.sort_by(|a, b| a.type_.cmp(&b.type_));
    all
}

/// The progress of a rollout as text.
fn progress(RolloutStatus { total, moved, waves, next_wave_at, .. }: &RolloutStatus) -> String {
    let next = next_wave_at.as_ref().map(|at| format!("; the next one begins at {}", at.0));
    format!("{moved} of {total} namespaces hold the new policies, in wave {waves}{}", next.unwrap_or_default())
}

/// The message names at most this many tied baselines.
const TIES_TOLD: usize = 5;

fn tied(ties: &BTreeMap<Arc<str>, u32>) -> (&'static str, String) {
    let told: Vec<String> =
        ties.iter().take(TIES_TOLD).map(|(with, namespaces)| format!("{with} (namespaces: {namespaces})")).collect();
    let more = if ties.len() > TIES_TOLD { format!(" and {} more", ties.len() - TIES_TOLD) } else { String::new() };
    let message = format!(
        "of the same priority, and selecting the same namespaces: {}{more}. There the first name in byte order applies: give one of them another priority",
        told.join(", ")
    );
    (state::SAME_PRIORITY, message)
}

/// The message names at most this many allows.
const OPENINGS_TOLD: usize = 5;

fn open_allows(openings: &[String]) -> (&'static str, String) {
    let told = openings.iter().take(OPENINGS_TOLD).map(String::as_str).collect::<Vec<_>>().join("; ");
    let more = openings.len().checked_sub(OPENINGS_TOLD).filter(|more| *more > 0);
    let more = more.map(|more| format!("; and {more} more")).unwrap_or_default();
    (state::ACKNOWLEDGED, format!("these allows open to everybody, with acknowledgeOpen: true: {told}{more}"))
}

/// So many kinds of policies are named (I11).
const MAX_KINDS: usize = 10;

fn not_covered(unsupported_policy_kinds: &BTreeSet<String>) -> (&'static str, String) {
    let mut kinds = unsupported_policy_kinds.iter().take(MAX_KINDS).map(String::as_str).collect::<Vec<_>>().join(", ");
    if let Some(more) = unsupported_policy_kinds.len().checked_sub(MAX_KINDS).filter(|more| *more > 0) {
        kinds = format!("{kinds} and {more} more");
    }
    let message = format!(
        "bypasses are found among NetworkPolicies only; this cluster also knows {kinds}, and what those open is not examined"
    );
    (state::NETWORK_POLICY_ONLY, message)
}

fn not_listed(resources: &[&str]) -> (&'static str, String) {
    let services = ConfigurationKind::Service.resource();
    let callers: Vec<&str> = resources.iter().copied().filter(|resource| *resource != services).collect();
    let closed = format!(
        "{} could not be listed: namespaces with Services that only these name are closed like any other",
        callers.join(", ")
    );
    let exist = format!("{services} could not be listed: every Service that is named counts as existing");
    let said = [(!callers.is_empty()).then_some(closed), resources.contains(&services).then_some(exist)];
    let message = format!("{}. Apply manifests/base", said.into_iter().flatten().collect::<Vec<_>>().join("; "));
    (state::NOT_LISTED, message)
}

/// The status of a condition.
#[derive(Clone, Copy, Debug, Eq, IntoStaticStr, PartialEq)]
#[strum(const_into_str)]
enum ConditionStatus {
    True,
    False,
    /// What the operator knows may be old.
    Unknown,
}

impl From<bool> for ConditionStatus {
    fn from(is_true: bool) -> Self {
        if is_true { Self::True } else { Self::False }
    }
}

/// The condition Ready.
#[derive(Debug, PartialEq)]
struct Ready<'a> {
    status: ConditionStatus,
    reason: &'a str,
    message: String,
}

/// Ready as it would be if everything that the operator knows were certain; Unknown if that may be old. What the owner of the baseline
/// decided does not depend on that.
fn ready<'a>(health: &'a ConditionInputs, found: &NamespaceFindings) -> Ready<'a> {
    let (status, reason, message) = decided(health).unwrap_or_else(|| found_ready(health, found));
    let is_decided = decided(health).is_some();
    if is_decided || health.failing.is_empty() {
        return Ready { status: status.into(), reason, message };
    }
    let message = format!(
        "watching {} has failed for more than a minute, so this may be out of date; the operator tries again, and its log says why. Before: {message}",
        health.failing.join(", ")
    );
    Ready { status: ConditionStatus::Unknown, reason: state::WATCH_FAILING, message }
}

/// Why Ready is False whatever was found in namespaces: the spec, its owner, or a deletion. `None` if what was found decides.
fn decided<'a>(health: &'a ConditionInputs) -> Option<(bool, &'a str, String)> {
    if let Some((reason, message)) = &health.stalled {
        return Some((false, reason, message.clone()));
    }
    if health.suspended {
        return Some((false, state::SUSPENDED, suspended(health.deleting.is_some())));
    }
    if let Some(counts) = health.awaiting {
        return Some((false, state::AWAITING_CONFIRMATION, awaiting(counts, health.generation)));
    }
    let message = match health.deleting? {
        Going::Removing(left) => format!("the baseline is being deleted; {left} of its policies are still to be removed"),
        Going::Leaving => "the baseline is being deleted and somebody's finalizer holds it; its policies stay".into(),
    };
    Some((false, state::DELETING, message))
}

/// Ready by what was found in the namespaces, the worst first.
fn found_ready<'a>(health: &'a ConditionInputs, found: &NamespaceFindings) -> (bool, &'a str, String) {
    let &NamespaceFindings { counts, stuck, blocked, ties } = found;
    let NamespaceCounts { selected, protected, pending, drifted, failed, unprotected, reported, held, frozen, opted_out, .. } =
        *counts;
    if let (Some(rollout), Some((_, message))) = (health.rollout, health.paused) {
        return (false, state::ROLLOUT_PAUSED, format!("{}: {message}", progress(rollout)));
    }
    if failed > 0 {
        let message =
            format!("{failed} of {selected} selected namespaces could not be written; they are tried again, see violations");
        return (false, state::WRITES_FAILING, message);
    }
    let waited_for = unprotected.saturating_sub(stuck);
    if waited_for > 0 {
        let message = format!(
            "{waited_for} of {selected} selected namespaces are being deleted and lack policies, which nobody can create there any more; pods may still run there, see violations"
        );
        return (false, state::MISSING_WHILE_TERMINATING, message);
    }
    if let Some(rollout) = health.rollout {
        return (false, state::ROLLING_OUT, progress(rollout));
    }
    if pending > 0 {
        return (false, state::WRITING, format!("{pending} of {selected} selected namespaces are being written"));
    }
    match &health.unfinished {
        Some(None) => return (false, state::WRITING, "the finalizer that deletionPolicy: Delete needs is being written".into()),
        Some(Some(error)) => {
            let message =
                format!("the finalizer that deletionPolicy: Delete needs could not be written, it is tried again: {error}");
            return (false, state::WRITES_FAILING, message);
        }
        None => {}
    }
    if blocked > 0 {
        let message = format!(
            "in {blocked} of {selected} selected namespaces, policies block calls of the API server to a Service, see violations: name them in excludeNamespaces"
        );
        return (false, state::CONTROL_PLANE_BLOCKED, message);
    }
    let existing = if reported > 0 {
        format!("; {reported} existing namespaces are only reported, existingNamespaces: Enforce closes them")
    } else {
        String::new()
    };
    let held = if held > 0 {
        format!(
            "; in {held} the API server calls a Service: their ingress is left open, and their egress unless an allow lets all pods reach the API server; controlPlaneBackends: Enforce closes them"
        )
    } else {
        String::new()
    };
    let stuck = if stuck > 0 {
        format!("; {stuck} lack policies, and their deletion has failed for over ten minutes, see violations")
    } else {
        String::new()
    };
    let frozen = if frozen > 0 {
        format!("; in {frozen}, finalizers of others keep policies that are to be removed, see violations")
    } else {
        String::new()
    };
    let opted_out = if opted_out > 0 { format!("; in {opted_out}, opt-outs are in force, see notices") } else { String::new() };
    if health.mode == Mode::Audit && selected > 0 {
        let message = format!("{drifted} of {selected} selected namespaces would change{existing}{held}");
        return (true, state::AUDITED, message);
    }
    let message =
        format!("{protected} of {selected} selected namespaces have their policies{existing}{held}{stuck}{frozen}{opted_out}");
    if !ties.is_empty() {
        return (true, state::PRIORITY_TIED, format!("{message}; {}", tied(ties).1));
    }
    if selected == 0 {
        return (true, state::NOTHING_SELECTED, nothing_selected(counts));
    }
    if health.closes_nothing {
        return (true, state::CLOSES_NOTHING, format!("spec.policies names no default-deny, so nothing is closed: {message}"));
    }
    // What is open for the longest time comes first.
    let reasons = [
        (found.stuck > 0, state::DELETION_FAILING),
        (counts.reported > 0, state::EXISTING_ONLY_REPORTED),
        (counts.held > 0, state::NAMESPACES_HELD),
        (counts.frozen > 0, state::NAMESPACES_FROZEN),
        (counts.opted_out > 0, state::NAMESPACES_OPTED_OUT),
    ];
    let open = reasons.into_iter().find(|(is_so, _)| *is_so);
    (true, open.map_or(state::PROTECTED, |(_, reason)| reason), message)
}

fn nothing_selected(counts: &NamespaceCounts) -> String {
    if counts.shadowed > 0 {
        let shadowed = counts.shadowed;
        return format!(
            "0 of 0: another baseline with precedence selects all {shadowed} namespaces that match; a higher priority changes that"
        );
    }
    "0 of 0: no namespace matches. If there should be some, compare status.effectiveSelector with `kubectl get namespaces --show-labels`"
        .into()
}

/// Whether the existing namespaces are closed like the new ones.
fn existing_closed<'a>(
    health: &ConditionInputs,
    ready: ConditionStatus,
    reason: &'a str,
    message: &str,
    counts: &NamespaceCounts,
) -> (ConditionStatus, (&'a str, String)) {
    let NamespaceCounts { selected, reported, held, unprotected, frozen, opted_out, .. } = *counts;
    let is_open = health.closes_nothing || selected == 0 || reported + held + unprotected + frozen + opted_out > 0;
    if ready == ConditionStatus::True && !is_open {
        let message = format!("all {selected} selected namespaces are closed, also those that are older than the baseline");
        return (ConditionStatus::True, (state::ALL_CLOSED, message));
    }
    let status = if ready == ConditionStatus::Unknown { ready } else { ConditionStatus::False };
    (status, (reason, message.to_owned()))
}

fn suspended(is_being_deleted: bool) -> String {
    let waits = if is_being_deleted { " Its deletion waits too." } else { "" };
    format!("nothing is written and nothing is removed while spec.suspend is true.{waits} Set it to false to go on")
}

fn awaiting((opened, of): (usize, usize), generation: Option<i64>) -> String {
    let generation = generation.unwrap_or_default();
    format!(
        "{opened} of the {of} closed namespaces that this change concerns would lose a default-deny, or be opened to everybody; they keep their policies, and new namespaces follow the edit already. If this is meant, annotate the baseline with {CONFIRM_RELEASE}={generation}"
    )
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;
    use crate::policy::plugins::PluginsFound;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn health() -> ConditionInputs<'static> {
        ConditionInputs { generation: Some(3), ..ConditionInputs::default() }
    }

    /// The conditions of a baseline without ties.
    fn of(health: &ConditionInputs, counts: &NamespaceCounts, previous: &[Condition], second: i64) -> Vec<Condition> {
        conditions(health, &NamespaceFindings { counts, stuck: 0, blocked: 0, ties: &BTreeMap::new() }, previous, at(second))
    }

    /// The condition Ready where the deletions of so many namespaces have failed for long.
    fn ready_with(health: &ConditionInputs, counts: &NamespaceCounts, stuck: u32) -> (String, String, String) {
        let found = NamespaceFindings { counts, stuck, blocked: 0, ties: &BTreeMap::new() };
        let Ready { status, reason, message } = ready(health, &found);
        (status.into_str().into(), reason.into(), message)
    }

    fn told(health: &ConditionInputs, counts: &NamespaceCounts) -> Vec<String> {
        words(&of(health, counts, &[], 0))
    }

    /// The conditions as words, without the one that has a test of its own.
    fn words(conditions: &[Condition]) -> Vec<String> {
        let others = conditions.iter().filter(|c| c.type_ != "ExistingNamespacesClosed");
        others.map(|c| format!("{}={} {}", c.type_, c.status, c.reason)).collect()
    }

    #[test]
    fn protected_means_that_every_selected_namespace_is_closed_and_each_exception_has_a_reason_of_its_own() {
        let closed = NamespaceCounts { selected: 3, protected: 3, ..Default::default() };
        assert_eq!(told(&health(), &closed), ["Ready=True Protected", "Reconciling=False Settled", "Stalled=False Valid"]);
        let audit = ConditionInputs { mode: Mode::Audit, ..health() };
        let nothing = ConditionInputs { closes_nothing: true, ..health() };
        for (health, counts, reason, says) in [
            (&health(), NamespaceCounts { protected: 2, reported: 1, ..closed }, "ExistingNamespacesOnlyReported", "1 existing"),
            (&health(), NamespaceCounts { protected: 2, held: 1, ..closed }, "NamespacesHeld", "in 1 the API server calls"),
            (
                &health(),
                NamespaceCounts { opted_out: 1, ..closed },
                "NamespacesOptedOut",
                "3 of 3 selected namespaces have their policies; in 1, opt-outs",
            ),
            (&health(), NamespaceCounts { protected: 2, frozen: 1, ..closed }, "NamespacesFrozen", "in 1, finalizers"),
            (&nothing, closed, "ClosesNothing", "spec.policies names no default-deny"),
            (&health(), NamespaceCounts::default(), "NothingSelected", "0 of 0: no namespace matches"),
            (&audit, NamespaceCounts::default(), "NothingSelected", "0 of 0: no namespace matches"),
            (&health(), NamespaceCounts { shadowed: 4, ..Default::default() }, "NothingSelected", "another baseline"),
        ] {
            let (status, ready, message) = ready_with(health, &counts, 0);
            assert_eq!((&*status, &*ready), ("True", reason));
            assert!(message.contains(says), "{message}");
        }
    }

    #[test]
    fn blocked_calls_of_the_api_server_make_ready_false_and_nothing_is_under_way() {
        let counts = NamespaceCounts { selected: 3, protected: 3, ..Default::default() };
        let all = |blocked, pending| {
            let counts = NamespaceCounts { pending, ..counts };
            let found = NamespaceFindings { counts: &counts, stuck: 0, blocked, ties: &BTreeMap::new() };
            words(&conditions(&health(), &found, &[], at(0)))
        };
        assert_eq!(all(1, 0)[..2], ["Ready=False ControlPlaneBlocked", "Reconciling=False Settled"]);
        assert_eq!(all(1, 1)[..2], ["Ready=False WritingPolicies", "Reconciling=True WritingPolicies"]);
        assert_eq!(all(0, 0)[0], "Ready=True Protected");
    }

    #[test]
    fn a_watch_that_fails_for_long_makes_ready_unknown_unless_the_owner_decided() {
        let counts = NamespaceCounts { selected: 3, protected: 3, ..Default::default() };
        let failing = ConditionInputs { failing: &["namespaces", "networkpolicies"], ..health() };
        let all = of(&failing, &counts, &[], 0);
        assert_eq!(words(&all), ["Ready=Unknown WatchFailing", "Reconciling=False Settled", "Stalled=False Valid"]);
        assert_eq!((&*all[0].type_, &*all[0].status), ("ExistingNamespacesClosed", "Unknown"));
        let message = &all[1].message;
        assert!(message.contains("namespaces, networkpolicies") && message.contains("Before: 3 of 3 selected"), "{message}");
        let suspended = ConditionInputs { suspended: true, ..failing };
        assert_eq!(told(&suspended, &counts)[0], "Ready=False Suspended");
    }

    #[test]
    fn whether_existing_namespaces_are_closed_too_has_a_condition_to_wait_for() {
        let closed = NamespaceCounts { selected: 3, protected: 3, ..Default::default() };
        let said = |health: &ConditionInputs, counts| {
            let all = of(health, &counts, &[], 0);
            all.into_iter().find(|c| c.type_ == "ExistingNamespacesClosed").map(|c| format!("{} {}", c.status, c.reason))
        };
        for (counts, expected) in [
            (closed, "True AllClosed"),
            (NamespaceCounts { protected: 2, reported: 1, ..closed }, "False ExistingNamespacesOnlyReported"),
            (NamespaceCounts { protected: 2, held: 1, ..closed }, "False NamespacesHeld"),
            (NamespaceCounts { opted_out: 1, ..closed }, "False NamespacesOptedOut"),
            (NamespaceCounts { protected: 2, frozen: 1, ..closed }, "False NamespacesFrozen"),
            (NamespaceCounts { protected: 2, pending: 1, ..closed }, "False WritingPolicies"),
            (NamespaceCounts::default(), "False NothingSelected"),
        ] {
            assert_eq!(said(&health(), counts).as_deref(), Some(expected));
        }
        let nothing = ConditionInputs { closes_nothing: true, ..health() };
        assert_eq!(said(&nothing, closed).as_deref(), Some("False ClosesNothing"));
        let [audit, suspended] =
            [ConditionInputs { mode: Mode::Audit, ..health() }, ConditionInputs { suspended: true, ..health() }];
        assert_eq!((said(&audit, closed), said(&suspended, closed)), (None, None));
    }

    #[test]
    fn ready_is_false_while_something_is_not_repaired() {
        let pending = NamespaceCounts { selected: 3, pending: 1, ..Default::default() };
        assert_eq!(told(&health(), &pending)[..2], ["Ready=False WritingPolicies", "Reconciling=True WritingPolicies"]);
        let failed = NamespaceCounts { failed: 1, ..pending };
        assert_eq!(told(&health(), &failed)[..2], ["Ready=False WritesFailing", "Reconciling=True WritesFailing"]);
    }

    #[test]
    fn i5_what_a_namespace_lost_while_it_is_being_deleted_is_a_reason_of_its_own_and_nothing_is_under_way() {
        let lost = NamespaceCounts { selected: 3, unprotected: 1, pending: 1, ..Default::default() };
        assert_eq!(told(&health(), &lost)[..2], ["Ready=False MissingWhileTerminating", "Reconciling=False Settled"]);
        let failed = NamespaceCounts { failed: 1, ..lost };
        assert_eq!(told(&health(), &failed)[..2], ["Ready=False WritesFailing", "Reconciling=True WritesFailing"]);
    }

    #[test]
    fn i5_a_namespace_whose_deletion_fails_for_long_is_named_and_holds_ready_no_longer() {
        let lost = |unprotected, protected| NamespaceCounts { selected: 3, unprotected, protected, ..Default::default() };
        for (counts, stuck, expected, says) in [
            (lost(2, 1), 0, ("False", state::MISSING_WHILE_TERMINATING), "2 of 3 selected namespaces are being deleted"),
            (lost(2, 1), 1, ("False", state::MISSING_WHILE_TERMINATING), "1 of 3 selected namespaces are being deleted"),
            (
                lost(2, 1),
                2,
                ("True", state::DELETION_FAILING),
                "have their policies; 2 lack policies, and their deletion has failed",
            ),
        ] {
            let health = health();
            let (status, reason, message) = ready_with(&health, &counts, stuck);
            assert_eq!((&*status, &*reason), expected);
            assert!(message.contains(says), "{message}");
        }
    }

    #[test]
    fn a_rollout_is_not_ready_and_one_that_is_paused_waits_for_its_owner() {
        let rollout = RolloutStatus { total: 9, moved: 2, waves: 1, next_wave_at: Some(Time(at(60))), ..Default::default() };
        let counts = NamespaceCounts { selected: 9, protected: 8, pending: 1, ..Default::default() };
        let under_way = ConditionInputs { rollout: Some(&rollout), ..health() };
        assert_eq!(
            told(&under_way, &counts),
            ["Ready=False RollingOut", "Reconciling=True RollingOut", "RolloutPaused=False RollingOut", "Stalled=False Valid"]
        );
        let message = ready_with(&under_way, &counts, 0).2;
        assert_eq!(message, "2 of 9 namespaces hold the new policies, in wave 1; the next one begins at 1970-01-01T00:01:00Z");
        let paused = ("TooManyFailures".to_owned(), "why".to_owned());
        let failed = NamespaceCounts { failed: 1, ..counts };
        assert_eq!(
            told(&ConditionInputs { paused: Some(&paused), ..under_way }, &failed),
            [
                "Ready=False RolloutPaused",
                "Reconciling=False Settled",
                "RolloutPaused=True TooManyFailures",
                "Stalled=False Valid"
            ]
        );
        // Without a rollout, nothing waits.
        let told = told(&ConditionInputs { paused: Some(&paused), ..health() }, &NamespaceCounts::default());
        assert_eq!(told[..3], ["Ready=True NothingSelected", "Reconciling=False Settled", "RolloutPaused=True TooManyFailures"]);
    }

    #[test]
    fn an_invalid_baseline_is_stalled_and_not_reconciling() {
        let stalled = ConditionInputs { stalled: Some(("InvalidSelector", "spec.x".into())), ..health() };
        let counts = NamespaceCounts { failed: 1, ..Default::default() };
        assert_eq!(
            told(&stalled, &counts),
            ["Ready=False InvalidSelector", "Reconciling=False Settled", "Stalled=True InvalidSelector"]
        );
    }

    #[test]
    fn what_waits_for_its_owner_has_a_condition_of_its_own_only_while_it_waits() {
        let counts = NamespaceCounts::default();
        let suspended = ConditionInputs { suspended: true, ..health() };
        assert_eq!(
            told(&suspended, &counts),
            ["Ready=False Suspended", "Reconciling=False Settled", "Stalled=False Valid", "Suspended=True Suspended"]
        );
        let awaiting = ConditionInputs { awaiting: Some((12, 20)), ..health() };
        assert_eq!(
            told(&awaiting, &counts),
            [
                "AwaitingConfirmation=True AwaitingConfirmation",
                "Ready=False AwaitingConfirmation",
                "Reconciling=False Settled",
                "Stalled=False Valid"
            ]
        );
        let stalled = Some(("InvalidSelector", "spec.x".to_owned()));
        let both = ConditionInputs { stalled, suspended: true, awaiting: Some((12, 20)), ..health() };
        assert_eq!(told(&both, &counts).len(), 3, "what cannot be read is neither suspended nor confirmed");
        let before = of(&suspended, &counts, &[], 0);
        assert_eq!(words(&of(&health(), &counts, &before, 1)).len(), 3);
        // What waits goes on waiting afterwards, also after a restart meanwhile.
        let waited = of(&awaiting, &counts, &[], 0);
        let rests = |awaits| of(&ConditionInputs { awaits, awaiting: None, ..both.clone() }, &counts, &waited, 1);
        let kept = |all: Vec<Condition>| all.into_iter().find(|c| c.type_ == "AwaitingConfirmation");
        assert_eq!(kept(rests(true)), kept(waited.clone()));
        assert_eq!(kept(rests(false)), None);
    }

    #[test]
    fn audit_is_ready_when_it_has_looked() {
        let audit = ConditionInputs { mode: Mode::Audit, ..health() };
        let counts = NamespaceCounts { selected: 3, drifted: 2, protected: 1, ..Default::default() };
        assert_eq!(told(&audit, &counts)[0], "Ready=True Audited");
    }

    #[test]
    fn a_baseline_that_deletes_is_not_ready_before_its_finalizer_is_there() {
        for (unfinished, says) in
            [(None, "Ready=False WritingPolicies"), (Some("Forbidden: no".to_owned()), "Ready=False WritesFailing")]
        {
            let health = ConditionInputs { unfinished: Some(unfinished), ..health() };
            assert_eq!(told(&health, &NamespaceCounts::default())[0], says);
        }
    }

    #[test]
    fn a_condition_that_keeps_its_status_keeps_its_time() {
        let counts = NamespaceCounts::default();
        let first = of(&health(), &counts, &[], 10);
        assert_eq!(of(&health(), &counts, &first, 99), first);
        let failed = NamespaceCounts { failed: 1, ..counts };
        let second = of(&health(), &failed, &first, 99);
        let times: Vec<i64> = second
            .iter()
            .filter(|c| c.type_ != "ExistingNamespacesClosed")
            .map(|c| c.last_transition_time.0.as_second())
            .collect();
        assert_eq!(times, [99, 99, 10]);
    }

    #[test]
    fn kinds_of_policies_that_are_not_looked_at_are_told_and_a_restart_changes_nothing() {
        let unsupported_policy_kinds = BTreeSet::from(["ciliumnetworkpolicies.cilium.io".to_owned()]);
        let told = of(
            &ConditionInputs { unsupported_policy_kinds: Some(&unsupported_policy_kinds), ..health() },
            &NamespaceCounts::default(),
            &[],
            0,
        );
        assert_eq!((&*told[0].type_, &*told[0].status, &*told[0].reason), ("BypassCoverage", "False", "NetworkPolicyOnly"));
        assert!(told[0].message.contains("ciliumnetworkpolicies.cilium.io"));
        assert_eq!(of(&health(), &NamespaceCounts::default(), &told, 9), told, "not known yet");
        let many: BTreeSet<String> = (10..32).map(|n| format!("kind{n}networkpolicies.example.com")).collect();
        let message = not_covered(&many).1;
        assert!(message.contains("kind19networkpolicies.example.com and 12 more, and what"), "{message}");
        let none = BTreeSet::new();
        let told =
            of(&ConditionInputs { unsupported_policy_kinds: Some(&none), ..health() }, &NamespaceCounts::default(), &told, 9);
        assert!(told.iter().all(|c| c.type_ != "BypassCoverage"));
    }

    #[test]
    fn i2_what_is_known_of_the_network_plugin_stays_until_the_operator_has_looked_again_and_ready_stays_what_it_is() {
        let counts = NamespaceCounts { selected: 1, protected: 1, ..Default::default() };
        let told = words;
        let unknown = PluginsFound::default().judge();
        let first = of(&ConditionInputs { plugin: Some(&unknown), ..health() }, &counts, &[], 1);
        assert_eq!(told(&first)[..2], ["EnforcementUnknown=True NoPluginKnown", "Ready=True Protected"]);
        assert!(first[0].message.contains("`ptp`"), "{:?}", first[0]);
        assert_eq!(of(&health(), &counts, &first, 9), first, "a restart has not looked yet");
        let known = PluginJudgement { enforces: true, reason: state::PLUGIN_ENFORCES, message: "Cilium".into() };
        let then = of(&ConditionInputs { plugin: Some(&known), ..health() }, &counts, &first, 9);
        assert_eq!(told(&then)[..2], ["EnforcementUnknown=False PluginEnforces", "Ready=True Protected"]);
        assert_eq!((then[0].last_transition_time.0, then[1].last_transition_time.0), (at(9), at(1)));
        assert!(of(&health(), &counts, &[], 9).iter().all(|c| c.type_ != "EnforcementUnknown"), "nothing is said too early");
    }

    #[test]
    fn ties_are_told_while_there_are_any_and_only_some_are_named() {
        let ties = |n: u32| (0..n).map(|i| (Arc::from(format!("other-{i}")), i + 1)).collect();
        let of = |ties: &BTreeMap<Arc<str>, u32>| {
            let counts = NamespaceCounts::default();
            let found = NamespaceFindings { counts: &counts, stuck: 0, blocked: 0, ties };
            let all = conditions(&health(), &found, &[], at(0));
            let ready = all.iter().find(|c| c.type_ == "Ready").unwrap();
            assert_eq!(&*ready.reason, if ties.is_empty() { "NothingSelected" } else { "PriorityTied" });
            all.into_iter().find(|c| c.type_ == "PriorityTied").map(|c| (c.status, c.reason, c.message))
        };
        assert_eq!(of(&ties(0)), None);
        let (status, reason, message) = of(&ties(1)).unwrap();
        assert_eq!((&*status, &*reason), ("True", "SamePriority"));
        assert!(message.contains("other-0 (namespaces: 1)"), "{message}");
        let (.., message) = of(&ties(700)).unwrap();
        assert!(message.contains("other-101 (namespaces: 102) and 695 more"), "I11: {message}");
    }
}
