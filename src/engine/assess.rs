//! Assesses one namespace: which baseline applies, what each baseline reports, and which policies differ from the plan. It works in memory
//! only and sends nothing to the API server.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::Timestamp;

use super::{
    bypasses::bypasses,
    facts::entry::Entry,
    kept::{
        foreign_finalizers, is_kept_too_long, kept_by_finalizer, kept_too_long, next_kept_too_long, remove_ownerless_finalizers,
    },
    terminating::{Loss, leave_what_is_gone, stuck_in},
    writes::denied_by,
};
use crate::{
    api::{
        Role,
        finalizers::KnownFinalizers,
        reason::{FindingReason, NoticeReason, ViolationReason},
    },
    policy::{
        drift::{Class, Drift, Fingerprint, PlannedPolicies, Repair, diff},
        netpol::{Census, Work},
        plan::{Assignment, Baseline, Baselines, Closed, Decision, Known, Namespace, OptOut, Rendered},
        status::{Finding, NamespaceState, Problem},
    },
};

/// What was found in a namespace, and what must be written there.
#[derive(Debug, Default)]
pub struct Assessment {
    /// One finding for each baseline that selects the namespace or still has policies there.
    pub findings: Vec<(Arc<str>, Finding)>,
    /// The policies that are not as planned.
    pub drifts: Vec<Drift>,
    /// The baseline whose policies the namespace should hold.
    pub baseline: Option<Arc<Baseline>>,
    /// For now nothing is written or removed here. Changes that others make meanwhile are found when work continues.
    pub frozen: bool,
    /// Policies with our labels that no baseline plans, and whose baseline does not exist.
    pub orphans: u32,
    /// Planned policies are missing that nobody can create, because the namespace is being deleted.
    pub lacks: bool,
    /// After this time, there is more to report, also if nothing changes: a finalizer has kept a policy for too long then, or a policy has
    /// been missing for too long in a namespace that is being deleted.
    pub look_again: Option<Duration>,
}

/// The digests of the planned policies, for each valid baseline and each former revision that a rollout still uses. By the key of the
/// baseline.
pub type AllTargets = BTreeMap<Arc<str>, PlannedPolicies>;

/// What an assessment reads beside the namespace.
pub struct Surroundings<'a> {
    /// All baselines.
    pub baselines: &'a Baselines,
    /// What they plan.
    pub targets: &'a AllTargets,
    /// Counts the labels of all namespaces.
    pub census: &'a Census,
    /// The finalizers whose owner is certainly not in the cluster.
    pub ownerless: KnownFinalizers,
    /// Compared with the times at which policies were deleted.
    pub now: Timestamp,
}

/// Assesses a namespace. `lacking_since`: since when it lacks a policy that nobody can create. `failure` returns the problem of a policy
/// whose last write failed. `contested` holds the problems of policies that somebody changes again and again.
pub fn assess(
    entry: &Entry,
    lacking_since: Option<Timestamp>,
    around: &Surroundings<'_>,
    failure: impl Fn(&str) -> Option<Problem>,
    contested: Vec<Problem>,
) -> Assessment {
    let &Surroundings { baselines, targets, census, ownerless, now } = around;
    let Some(ns) = &entry.namespace else { return Assessment::default() };
    let holdings = entry.holdings();
    let Assignment { decision, shadowed, audits } = baselines.decide(ns, &holdings);

    let mut found = Assessment::default();
    found.findings.extend(shadowed.iter().map(|b| (b.name.clone(), Finding::fine(NamespaceState::Shadowed))));
    let winner = match &decision {
        Decision::Reported(baseline) | Decision::Protected(baseline) => Some(baseline.clone()),
        Decision::LeaveAlone | Decision::Unselected | Decision::Frozen(_) => None,
    };
    let would = |baseline: &Baseline| would_change(&compare(baseline, ns, entry, targets, |_| false, |_| false));
    // What audits add up takes nothing away from the baseline that applies.
    let mut work = Work::default();
    for audit in &audits {
        let would = would(audit);
        let mut finding =
            if audit.only_reports(ns, &holdings) { reported(would, held(audit, ns), false) } else { audited(would) };
        if finding.state != NamespaceState::Reported {
            finding.problems.extend(opted_out(audit, ns));
        }
        if let Some(notice) = held(audit, ns) {
            finding.hold(notice);
        }
        finding.problems.extend(bypasses(audit, ns, entry, &[], census, &mut work));
        found.findings.push((audit.name.clone(), finding));
    }
    found.orphans = orphans(ns, entry, baselines, &decision);
    match decision {
        Decision::LeaveAlone => {}
        Decision::Frozen(name) => {
            found.findings.push((name, Finding::fine(NamespaceState::Frozen)));
            found.frozen = true;
        }
        Decision::Reported(baseline) => {
            let waits = baselines.waits_to_be_closed(&baseline.name, ns, &holdings);
            let mut finding = reported(would(&baseline), held(&baseline, ns), waits);
            if let Some(notice) = held(&baseline, ns) {
                finding.hold(notice);
            }
            found.findings.push((baseline.name.clone(), finding));
        }
        Decision::Unselected => assess_leftovers(&mut found, entry, around, failure),
        Decision::Protected(baseline) => {
            let may_remove = |name: &str| !ns.terminating && baselines.may_remove(name);
            found.drifts = compare(&baseline, ns, entry, targets, |policy| failure(policy).is_some(), may_remove);
            let is_own = |policy: &str| baseline.policies.iter().any(|own| own.name == policy);
            keep_what_opens(&mut found.drifts, entry, baseline.closes(ns), is_own);
            let loss = if ns.terminating { leave_what_is_gone(&mut found.drifts, lacking_since, now) } else { Loss::Nothing };
            found.lacks = !matches!(loss, Loss::Nothing);
            if !ns.terminating {
                remove_ownerless_finalizers(&mut found.drifts, entry, ownerless, now, |name| baselines.may_remove(name));
            }
            let mut finding = finding(&found.drifts, entry, now, &failure);
            let is_planned = |name: &str| baseline.plans_named(name, ns);
            if !ns.terminating {
                let drifts = &found.drifts;
                let problem =
                    |(name, print): (&Arc<str>, &Fingerprint)| kept_by_finalizer(name, print, is_planned(name), drifts, &failure);
                finding.problems.extend(kept_too_long(entry, now).map(problem));
            }
            finding.problems.extend(contested);
            finding.problems.extend(opted_out(&baseline, ns));
            finding.problems.extend(foreign_finalizers(&baseline, ns, entry));
            match held(&baseline, ns) {
                Some(notice) => finding.hold(notice),
                None => finding.problems.extend(blocked(&baseline, ns)),
            }
            let is_late = |d: &Drift| !d.is_removal() && (d.fix == Repair::WaitForFinalizer || failure(&d.policy).is_some());
            // Removals wait for what is late, nobody knows for how long.
            let removals = if found.drifts.iter().any(is_late) { &[] } else { &found.drifts[..] };
            finding.problems.extend(bypasses(&baseline, ns, entry, removals, census, &mut Work::default()));
            match loss {
                Loss::Nothing => found.findings.push((baseline.name.clone(), finding)),
                Loss::Recent(left) => found.look_again = Some(left),
                Loss::Lasting(problem) => {
                    let stuck_in = stuck_in(ns, now);
                    found.look_again = stuck_in.filter(|left| !left.is_zero());
                    finding.state = if stuck_in.is_some_and(|left| left.is_zero()) {
                        NamespaceState::Stuck
                    } else {
                        NamespaceState::Unprotected
                    };
                    finding.problems.push(problem);
                    found.findings.push((baseline.name.clone(), finding));
                }
            }
            found.baseline = Some(baseline);
        }
    }
    if !ns.terminating {
        found.look_again = next_kept_too_long(entry, now);
    }
    if let Some(winner) = winner {
        note_ties(&winner, &shadowed, &mut found.findings);
    }
    for (_, finding) in &mut found.findings {
        finding.problems.sort_by_key(|problem| importance(problem.reason));
    }
    found
}

/// Assesses what former baselines left in a namespace that none selects. Each policy that is left to remove is reported by the baseline that
/// created it.
fn assess_leftovers(found: &mut Assessment, entry: &Entry, around: &Surroundings<'_>, failure: impl Fn(&str) -> Option<Problem>) {
    let &Surroundings { baselines, ownerless, now, .. } = around;
    found.drifts = diff([], &entry.policies, |name| baselines.may_remove(name));
    keep_what_opens(&mut found.drifts, entry, Closed::default(), |_| false);
    remove_ownerless_finalizers(&mut found.drifts, entry, ownerless, now, |name| baselines.may_remove(name));
    let kept: Vec<(&Arc<str>, &Fingerprint)> = kept_too_long(entry, now).collect();
    let kept_owners = kept.iter().filter_map(|(_, print)| print.baseline.as_ref());
    let mut owners: Vec<Arc<str>> = found.drifts.iter().filter_map(|d| d.baseline.as_ref()).chain(kept_owners).cloned().collect();
    owners.sort_unstable();
    owners.dedup();
    owners.retain(|owner| found.findings.iter().all(|(of, _)| of != owner));
    for owner in owners {
        let is_theirs = |of: Option<&Arc<str>>| of == Some(&owner);
        let theirs: Vec<Drift> = found.drifts.iter().filter(|d| is_theirs(d.baseline.as_ref())).cloned().collect();
        // If finalizers keep all that is left, the operator can do nothing more here.
        let mut finding = if theirs.iter().all(|drift| is_kept(drift, entry, now)) {
            Finding::fine(NamespaceState::Frozen)
        } else {
            finding(&theirs, entry, now, &failure)
        };
        let kept = kept.iter().filter(|(_, print)| is_theirs(print.baseline.as_ref()));
        finding.problems.extend(kept.map(|(name, print)| kept_by_finalizer(name, print, false, &theirs, &failure)));
        found.findings.push((owner, finding));
    }
}

/// The sort key of a problem; the lowest comes first. First comes what leaves the namespace without a policy until somebody acts: an
/// exceeded quota, which refuses new policies only, and a policy that nobody can create in a namespace that is being deleted. Then come
/// bypasses, blocked calls of the API server, and policies that may be bypasses. After these come calls of the API server because of which
/// the namespace is left open, and what Enforce would change. The rest and finalizers are last.
pub const fn importance(reason: FindingReason) -> u8 {
    match reason {
        FindingReason::Violation(ViolationReason::QuotaExceeded | ViolationReason::MissingWhileTerminating) => 0,
        FindingReason::Violation(ViolationReason::Bypassed) => 1,
        FindingReason::Violation(ViolationReason::ControlPlaneBlocked) => 2,
        FindingReason::Violation(ViolationReason::TooLargeToJudge) => 3,
        FindingReason::Notice(NoticeReason::ServesControlPlane) => 4,
        FindingReason::Notice(NoticeReason::WouldChange | NoticeReason::ExistingNamespace) => 5,
        FindingReason::Violation(_) | FindingReason::Notice(NoticeReason::OptedOut) => 6,
        FindingReason::Notice(NoticeReason::ForeignFinalizer) => 7,
    }
}

/// Only the names decide between baselines of the same priority. Both report that, because their authors may not know it.
fn note_ties(winner: &Arc<Baseline>, shadowed: &[Arc<Baseline>], findings: &mut [(Arc<str>, Finding)]) {
    let mut tie = |of: &Arc<str>, with: &Arc<str>| {
        if let Some((_, finding)) = findings.iter_mut().find(|(name, _)| name == of) {
            finding.ties.push(with.clone());
        }
    };
    for other in shadowed.iter().filter(|other| other.priority == winner.priority) {
        tie(&winner.name, &other.name);
        tie(&other.name, &winner.name);
    }
}

fn compare(
    baseline: &Baseline,
    ns: &Namespace,
    entry: &Entry,
    targets: &AllTargets,
    has_failed: impl Fn(&str) -> bool,
    may_remove: impl Fn(&str) -> bool,
) -> Vec<Drift> {
    let Some(targets) = targets.get(&baseline.key) else { return vec![] };
    // The answer to a write may be lost, and the policy be stored all the same.
    let is_there = |index, policy: &Rendered| {
        let print = entry.policies.get(policy.name.as_str());
        print.zip(targets.of(index, policy)).is_some_and(|(print, planned)| planned.is_met_by(print))
    };
    let is_failing = |index, policy: &Rendered| has_failed(&policy.name) && !is_there(index, policy);
    diff(
        baseline.planned_for_now(ns, entry.kept_closed(), is_failing).filter_map(|(index, policy)| targets.of(index, policy)),
        &entry.policies,
        may_remove,
    )
}

/// Leaves out the removals of policies that let something through, while a finalizer keeps a default-deny whose direction is to be open.
/// The plan says it of those with one of its own names.
fn keep_what_opens(drifts: &mut Vec<Drift>, entry: &Entry, planned: Closed, is_own: impl Fn(&str) -> bool) {
    let kept = entry.kept_closed();
    if kept.and(planned) != kept {
        drifts.retain(|drift| !drift.is_removal() || denied_by(drift).is_some() || is_own(&drift.policy));
    }
}

fn finding(drifts: &[Drift], entry: &Entry, now: Timestamp, failure: impl Fn(&str) -> Option<Problem>) -> Finding {
    // A policy that a finalizer keeps has the planned rules, and nobody knows for how long: the baseline does not wait for it.
    let mut to_do = drifts.iter().filter(|drift| !is_kept(drift, entry, now)).peekable();
    // Removals wait for it, and are told as what they open.
    let is_done =
        to_do.peek().is_none() || (drifts.iter().any(|d| is_kept(d, entry, now)) && to_do.clone().all(Drift::is_removal));
    // The worst one: a write that was refused lasts, and a busy API server does not.
    if let Some(problem) = to_do.filter_map(|d| failure(&d.policy)).min_by_key(|problem| problem.reason) {
        return Finding::wrong(NamespaceState::Failed, problem);
    }
    Finding::fine(if is_done { NamespaceState::Protected } else { NamespaceState::Pending })
}

/// Whether a finalizer has kept the policy for too long, and there is nothing else to do for it.
fn is_kept(drift: &Drift, entry: &Entry, now: Timestamp) -> bool {
    let kept = || entry.policies.get(&drift.policy).is_some_and(|print| is_kept_too_long(print, now));
    drift.fix.concerns_finalizers() && kept()
}

/// The policies that opt-outs switch off here, until when, and with which approval.
fn opted_out(baseline: &Baseline, ns: &Namespace) -> Vec<Problem> {
    let problem = |(policy, opt_out): (&Rendered, &OptOut)| {
        let OptOut { name, expires, approval, .. } = opt_out;
        let approval = approval.as_ref().map(|text| format!(" ({text})")).unwrap_or_default();
        let message = format!("{} is not planned until {expires}, because of the opt-out {name}{approval}", policy.purpose);
        Problem { policy: Some(policy.name.clone()), reason: NoticeReason::OptedOut.into(), message }
    };
    baseline.opted_out(ns).map(problem).collect()
}

/// The number of policies with our labels that nobody keeps: no baseline plans them here, and the one that they name does not exist.
fn orphans(ns: &Namespace, entry: &Entry, baselines: &Baselines, decision: &Decision) -> u32 {
    if matches!(decision, Decision::LeaveAlone) {
        return 0;
    }
    let keeper = baselines.keeper(decision, ns);
    let is_kept = |name: &str| keeper.is_some_and(|keeper| keeper.plans_named(name, ns));
    let is_gone = |owner: Option<&Arc<str>>| owner.is_none_or(|name| matches!(baselines.known(name), Known::Gone));
    let ours = entry.policies.iter().filter(|(_, policy)| policy.ours);
    let count = ours.filter(|(name, policy)| is_gone(policy.baseline.as_ref()) && !is_kept(name)).count();
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// The notice that the namespace is left alone, because the API server calls a Service there.
fn held(baseline: &Baseline, ns: &Namespace) -> Option<Problem> {
    let caller = baseline.holds(ns)?;
    let message = if baseline.plans(Role::DefaultDenyEgress, ns) {
        format!(
            "{caller} here, and default-deny-ingress would block that: ingress is left open. Egress is closed, because an allow lets every pod reach the API server. Name the namespace in excludeNamespaces, or let the API server in by a policy of your own and set controlPlaneBackends: Enforce"
        )
    } else {
        format!(
            "{caller} here, and default-denies would block that and cut its pods off from the API server: the namespace is left open in both directions. Name it in excludeNamespaces, or allow both by policies of your own and set controlPlaneBackends: Enforce. An allow with kubernetesAPI for all its pods lets its egress be closed"
        )
    };
    Some(Problem { policy: None, reason: NoticeReason::ServesControlPlane.into(), message })
}

/// The problem that the namespace is closed although the API server calls a Service there. Its policies stay; its owner decides.
fn blocked(baseline: &Baseline, ns: &Namespace) -> Option<Problem> {
    let (caller, role) = baseline.blocks(ns)?;
    let policy = baseline.planned(ns).find(|(_, policy)| policy.role() == Some(role))?.1.name.clone();
    let what = if role == Role::DefaultDenyIngress { "blocks that" } else { "cuts the pods off from the API server" };
    let message = format!(
        "{caller} here, and this policy {what}, unless another policy allows the API server. Name the namespace in excludeNamespaces, or add such policies and set controlPlaneBackends: Enforce"
    );
    Some(Problem { policy: Some(policy), reason: ViolationReason::ControlPlaneBlocked.into(), message })
}

/// The most important policy that is not as planned, and a text that says what would be done with each. `None` without drifts.
fn would_change(drifts: &[Drift]) -> Option<(String, String)> {
    let verb = |d: &Drift| match d.class {
        Class::Unmanaged => "adopt somebody else's policy",
        Class::Missing => "create",
        Class::SpecChanged | Class::MetadataChanged | Class::Pinned | Class::Terminating | Class::Stale => "change",
    };
    // A change of somebody else's policy matters most.
    let mut drifts: Vec<&Drift> = drifts.iter().collect();
    drifts.sort_by_key(|d| d.class != Class::Unmanaged);
    let changes: Vec<String> = drifts.iter().map(|d| format!("{} {}", verb(d), d.policy)).collect();
    Some((drifts.first()?.policy.clone(), changes.join(", ")))
}

/// The finding of a namespace that is only reported. `waits`: for a wave that closes it.
fn reported(would: Option<(String, String)>, held: Option<Problem>, waits: bool) -> Finding {
    let would = match (would, held) {
        (Some((_, changes)), _) => changes,
        (None, Some(_)) => "leave it alone too, because the API server calls a Service there".to_owned(),
        (None, None) => "close it".to_owned(),
    };
    let message = if waits {
        format!("the namespace holds no policies of the baseline yet; a wave of the rollout will {would}")
    } else {
        format!(
            "the namespace is older than the baseline and holds none of its policies; existingNamespaces: Enforce would {would}"
        )
    };
    Finding::wrong(NamespaceState::Reported, Problem { policy: None, reason: NoticeReason::ExistingNamespace.into(), message })
}

fn audited(would: Option<(String, String)>) -> Finding {
    let Some((first, changes)) = would else { return Finding::fine(NamespaceState::Protected) };
    let message = format!("Enforce would {changes}");
    Finding::wrong(NamespaceState::Drifted, Problem { policy: Some(first), reason: NoticeReason::WouldChange.into(), message })
}
