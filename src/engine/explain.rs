//! Explains what the engine decides for one namespace, and why.

use std::{cmp::Reverse, collections::BTreeSet, sync::Arc};

use strum::VariantArray;

use super::{
    Engine,
    assess::{Assessment, importance},
    clock::Now,
    facts::{
        entry::Entry,
        readiness::{ListState, WatchedSet},
    },
    outbox::baseline_status::BaselineState,
};
use crate::{
    api::{
        NamespaceName, Purpose, Role,
        backends::ConfigurationKind,
        baseline::Discovery,
        reason::{NoticeReason, ViolationReason},
    },
    policy::{
        dns::{DnsEvent, OPERATORS_RESOLV_CONF},
        drift::{Class, Drift, Fingerprint},
        explain::{Claim, Explanation, Policy, Relation, Unread, Wrong},
        plan::{Assignment, Baseline, Decision, Known, Namespace, Rendered},
        status::{NamespaceState, Problem},
    },
};

impl Engine {
    /// What is planned in a namespace now, and why. `None` if there is no such namespace.
    pub fn explain(&self, name: &str, now: Now) -> Option<Explanation> {
        let name = NamespaceName::observed(name);
        let entry = self.observed.get(&name)?;
        let ns = entry.namespace.as_ref()?;
        let verdict = self.baselines.decide(ns, &entry.holdings());
        let assessment = self.assess(&name, entry, now);
        let mut baselines: Vec<Claim> =
            self.tracked.iter().map(|(of, tracked)| self.claim(of, tracked, ns, &verdict, &assessment)).collect();
        // The order of precedence within each relation.
        let rank = |claim: &Claim| (claim.relation, claim.priority.map(Reverse), claim.baseline.clone());
        baselines.sort_by_key(rank);
        Some(Explanation {
            namespace: name.to_string(),
            created: ns.created,
            labels: ns.labels.to_map(),
            protected: is_protected(&verdict.decision, &assessment),
            verdict: sentence(&verdict.decision, &assessment),
            baselines,
            policies: self.policies(&verdict.decision, ns, entry, &assessment),
            problems: self.wrong(&name, &assessment),
            unread: self.unread(),
        })
    }

    /// The resources that could not be read, if a baseline needs them.
    fn unread(&self) -> Vec<Unread> {
        let asks = |what: fn(&Baseline) -> bool| self.tracked.values().any(|t| t.checked.as_ref().is_ok_and(|b| what(b)));
        let mut unread: Vec<(Vec<&str>, &str)> = Vec::new();
        if asks(|baseline| baseline.rollout.is_some()) && self.readiness.state(WatchedSet::Revisions) != ListState::Listed {
            let means =
                "during a rollout, a namespace that still has its former policies is shown as one that differs and is repaired";
            unread.push((vec![WatchedSet::Revisions.as_str()], means));
        }
        if self.tracked.values().any(BaselineState::holds_backends) {
            let means = "a namespace whose Services only these name is shown as closed, but the operator leaves it alone";
            let services = ConfigurationKind::Service.resource();
            let (existing, callers) = self.unlisted_callers().into_iter().partition(|resource| *resource == services);
            unread.push((callers, means));
            unread
                .push((existing, "every Service that a webhook configuration, an APIService or a CRD names counts as existing"));
        }
        if asks(|baseline| baseline.dns_status.discovery == Discovery::Auto) {
            let means = "DNS that only these name is shown as the stored statuses list it, so what was found since then is missing from the plan shown here";
            unread.push((self.unread_dns().map(Into::into).collect(), means));
        }
        if self.needs_api() {
            let means = "addresses of the API server that only these name are shown as the stored statuses list them";
            unread.push((self.unread_api().map(Into::into).collect(), means));
        }
        let unread = unread.into_iter().filter(|(resources, _)| !resources.is_empty());
        unread
            .map(|(resources, means)| Unread { resources: resources.into_iter().map(Into::into).collect(), means: means.into() })
            .collect()
    }

    /// The nameservers of the running operator, from the stored statuses, in the format of resolv.conf.
    fn told_nameservers(&self) -> String {
        let told = self.tracked.values().flat_map(BaselineState::told_dns);
        let addresses = told.filter(|found| found.source.starts_with(OPERATORS_RESOLV_CONF)).filter_map(|found| {
            let (address, _) = found.what.split_once('/')?;
            Some(format!("nameserver {address}\n"))
        });
        addresses.collect::<BTreeSet<String>>().into_iter().collect()
    }

    /// Uses the nameservers of the stored statuses as a DNS source. The progress of rollouts is read again, because policies are
    /// recognised by what they allow.
    pub fn believe_told_nameservers(&mut self, now: Now) {
        self.on_dns(DnsEvent::ResolvConf(self.told_nameservers()), now);
        self.forget_rollouts();
        self.plans_changed(now);
    }

    fn claim(&self, name: &Arc<str>, tracked: &BaselineState, ns: &Namespace, verdict: &Assignment, found: &Assessment) -> Claim {
        let known = self.baselines.known(name);
        let is = |baseline: &Arc<Baseline>| baseline.name == *name;
        let (relation, why) = match &verdict.decision {
            Decision::Protected(winner) if is(winner) => (Relation::Applies, why_first(winner, &verdict.shadowed)),
            Decision::Reported(winner) if is(winner) => {
                let why = format!(
                    "{}; the namespace is older than the baseline ({}) and holds none of its policies",
                    why_first(winner, &verdict.shadowed),
                    winner.created
                );
                (Relation::Reports, why)
            }
            Decision::Frozen(holder) if holder == name => (Relation::Freezes, why_frozen(known, tracked)),
            decision if verdict.shadowed.iter().any(is) => (Relation::Shadowed, format!("{} comes first", first(decision))),
            _ if verdict.audits.iter().any(is) => {
                let findings = found.findings.iter().find(|(of, _)| of == name).map(|(_, finding)| &*finding.problems);
                let is_change =
                    |p: &&Problem| [NoticeReason::WouldChange.into(), NoticeReason::ExistingNamespace.into()].contains(&p.reason);
                let message = findings.and_then(|problems| problems.iter().find(is_change));
                let why = message.map_or_else(|| "Enforce would change nothing".to_owned(), |p| p.message.clone());
                let audited = verdict.audits.iter().filter(|b| is(b));
                let opens = |b: &Baseline, policy: &Rendered| {
                    Some(format!("; {} opens to everybody: it {}", policy.name, b.opening(policy)?))
                };
                let open: String = audited.flat_map(|b| b.planned(ns).filter_map(|(_, policy)| opens(b, policy))).collect();
                (Relation::Audits, why + &open)
            }
            _ => (Relation::No, self.why_not(known, tracked, ns)),
        };
        let baseline = tracked.checked.as_ref().ok();
        Claim {
            baseline: name.to_string(),
            priority: baseline.map(|b| b.priority),
            mode: baseline.map(|b| b.mode),
            relation,
            why,
        }
    }

    fn why_not(&self, known: Known, tracked: &BaselineState, ns: &Namespace) -> String {
        match known {
            _ if ns.terminating => "the namespace is being deleted".into(),
            Known::Valid(baseline) if baseline.deleting => "the baseline is being deleted".into(),
            Known::Valid(baseline) => baseline.why_not_selected(ns, self.installs.own()).unwrap_or_default(),
            Known::Invalid | Known::Gone => stalled(tracked),
        }
    }

    fn policies(&self, decision: &Decision, ns: &Namespace, entry: &Entry, found: &Assessment) -> Vec<Policy> {
        let (baseline, missing) = match decision {
            Decision::Protected(baseline) if ns.terminating => {
                (Some(baseline), "missing: nobody can create it in a namespace that is being deleted")
            }
            Decision::Protected(baseline) => (Some(baseline), "missing: it is being created"),
            Decision::Reported(baseline) => (Some(baseline), "would be created"),
            Decision::LeaveAlone | Decision::Unselected | Decision::Frozen(_) => (None, ""),
        };
        let mut rows = Vec::new();
        let mut named: Vec<&str> = Vec::new();
        let unplanned: Vec<(Purpose, bool, String)> = baseline.iter().flat_map(|b| b.unplanned_allows(ns)).collect();
        for (_, policy) in baseline.into_iter().flat_map(|b| b.planned(ns)) {
            let drift = found.drifts.iter().find(|drift| drift.policy == policy.name);
            let state = match entry.policies.get(&policy.name) {
                None => missing.to_owned(),
                Some(print) if !print.ours && drift.is_none() => "of somebody else: it would be adopted".to_owned(),
                Some(_) => drift.map_or_else(|| "as planned".to_owned(), differs),
            };
            let only = unplanned.iter().find(|(purpose, ..)| *purpose == policy.purpose);
            let only = only.map(|(.., why)| format!("; only one direction of it: {why}")).unwrap_or_default();
            let open = baseline.and_then(|b| b.opening(policy)).map(|what| format!("; opens to everybody: it {what}"));
            let state = format!("{state}{only}{}", open.unwrap_or_default());
            named.push(&policy.name);
            rows.push(Policy { name: Some(policy.name.clone()), purpose: Some(policy.purpose.clone()), state, created: None });
        }
        let missing =
            |purpose, why| Policy { name: None, purpose: Some(purpose), state: format!("not planned: {why}"), created: None };
        if let Some(baseline) = baseline {
            let roles = Role::VARIANTS.iter().filter_map(|role| Some(missing((*role).into(), baseline.why_without(*role, ns)?)));
            let allows = baseline.unplanned_allows(ns).filter(|(_, is_partly_planned, _)| !is_partly_planned);
            rows.extend(roles.chain(allows.map(|(purpose, _, why)| missing(purpose, why))));
        }
        for (name, print) in entry.policies.iter().filter(|(name, _)| !named.contains(&&***name)) {
            rows.push(Policy { name: Some(name.to_string()), purpose: None, state: self.stands(print, decision), created: None });
        }
        rows
    }

    /// The state of a policy that is not planned, as a text.
    fn stands(&self, print: &Fingerprint, decision: &Decision) -> String {
        let Some(owner) = print.baseline.as_deref().filter(|_| print.ours) else { return "of somebody else".into() };
        match self.baselines.known(owner) {
            _ if matches!(decision, Decision::Frozen(_)) => format!("of baseline {owner}, left as it is"),
            Known::Gone => format!("of baseline {owner}, which no longer exists: left as it is"),
            Known::Invalid => format!("of baseline {owner}, which is stalled: left as it is"),
            Known::Valid(_) if self.baselines.may_remove(owner) => {
                format!("of baseline {owner}, no longer planned: it is being removed")
            }
            Known::Valid(_) => format!("of baseline {owner}, left as it is"),
        }
    }

    /// The problems found now, and those in the stored statuses. Only the statuses know some of them, such as failed writes.
    fn wrong(&self, name: &NamespaceName, found: &Assessment) -> Vec<Wrong> {
        let mut all: Vec<(u8, Wrong)> = Vec::new();
        let wrong = |baseline: &Arc<str>, problem: Problem, since| {
            let Problem { policy, reason, message } = problem;
            let wrong = Wrong { baseline: baseline.to_string(), policy, reason: reason.as_str().into(), message, since };
            (importance(reason), wrong)
        };
        for (baseline, tracked) in &self.tracked {
            all.extend(tracked.told_of(name).map(|(problem, since)| wrong(baseline, problem, Some(since))));
        }
        for (baseline, finding) in &found.findings {
            for problem in &finding.problems {
                let is_told = |(_, wrong): &(u8, Wrong)| {
                    (&*wrong.baseline, &wrong.policy, &*wrong.reason) == (&**baseline, &problem.policy, problem.reason.as_str())
                };
                if !all.iter().any(is_told) {
                    all.push(wrong(baseline, problem.clone(), None));
                }
            }
        }
        all.sort_by_key(|(importance, _)| *importance);
        all.into_iter().map(|(_, wrong)| wrong).collect()
    }
}

/// The problems that leave something open which the baseline closes: policies of others, and calls of the API server, because of which the
/// operator leaves ingress open, and mostly egress too.
fn left_open<'a>(decision: &Decision, found: &'a Assessment) -> impl Iterator<Item = &'a Problem> {
    let of = first(decision);
    let findings = found.findings.iter().filter(move |(name, _)| *name == of);
    let is_open = |p: &&Problem| [ViolationReason::Bypassed.into(), NoticeReason::ServesControlPlane.into()].contains(&p.reason);
    findings.flat_map(|(_, finding)| &finding.problems).filter(is_open)
}

/// Whether the namespace counts as protected: every planned policy is in place, and it is not held because the API server calls a Service.
fn is_protected(decision: &Decision, found: &Assessment) -> bool {
    let Decision::Protected(baseline) = decision else { return false };
    found.findings.iter().any(|(name, finding)| *name == baseline.name && finding.state == NamespaceState::Protected)
}

/// One sentence about what happens in the namespace.
fn sentence(decision: &Decision, found: &Assessment) -> String {
    match decision {
        Decision::LeaveAlone => "the namespace is being deleted: no baseline changes it".into(),
        Decision::Protected(baseline) if found.lacks => {
            let name = &baseline.name;
            format!(
                "{name} applies, but the namespace is being deleted and lacks policies, which nobody can create there any more"
            )
        }
        Decision::Unselected if found.drifts.is_empty() => "no baseline applies".into(),
        Decision::Unselected => "no baseline applies; the policies of a former one are being removed".into(),
        Decision::Frozen(name) => format!("{name} applies, but changes nothing here for now"),
        Decision::Reported(baseline) => {
            format!(
                "{} only reports this namespace, because the namespace is older; existingNamespaces: Enforce would close it",
                baseline.name
            )
        }
        Decision::Protected(baseline) if found.drifts.is_empty() => {
            let name = &baseline.name;
            let bypasses = left_open(decision, found).filter(|p| p.reason == ViolationReason::Bypassed.into()).count();
            match (bypasses, left_open(decision, found).count()) {
                (0, 0) => format!("{name} applies, and the namespace holds exactly what is planned"),
                (0, _) => format!("{name} applies, but the namespace is left alone: the API server calls a Service here"),
                (1, _) => format!("{name} applies, but another policy opens what it closes"),
                (n, _) => format!("{name} applies, but {n} other policies open what it closes"),
            }
        }
        Decision::Protected(baseline) if found.drifts.iter().all(|drift| drift.fix.concerns_finalizers()) => {
            let (name, kept) = (&baseline.name, found.drifts.len());
            format!("{name} applies; finalizers keep {kept} of its policies that were deleted, with the planned rules")
        }
        Decision::Protected(baseline) => {
            format!("{} applies, and {} of its policies here differ from the plan", baseline.name, found.drifts.len())
        }
    }
}

fn why_first(winner: &Baseline, shadowed: &[Arc<Baseline>]) -> String {
    let others = shadowed.len();
    let why = match shadowed.iter().find(|other| other.priority == winner.priority) {
        None if others == 0 => "no other Enforce baseline selects it".into(),
        None => format!("the highest priority of the {} that select it", others + 1),
        Some(other) => format!("{} has the same priority, and comes later in byte order", other.name),
    };
    let former = if winner.is_former() { "; it keeps a former revision until a wave of the rollout reaches it" } else { "" };
    format!("{why}{former}")
}

fn first(decision: &Decision) -> Arc<str> {
    match decision {
        Decision::Protected(baseline) | Decision::Reported(baseline) => baseline.name.clone(),
        Decision::Frozen(name) => name.clone(),
        Decision::LeaveAlone | Decision::Unselected => "none".into(),
    }
}

fn why_frozen(known: Known, tracked: &BaselineState) -> String {
    match known {
        Known::Valid(baseline) if baseline.suspended => "suspend: true".into(),
        Known::Valid(_) => "its release waits for confirmation: see the condition AwaitingConfirmation of the baseline".into(),
        Known::Invalid | Known::Gone => stalled(tracked),
    }
}

fn stalled(tracked: &BaselineState) -> String {
    tracked.stalled().map_or_else(|| "it is stalled".to_owned(), |error| format!("it is stalled: {error}"))
}

fn differs(drift: &Drift) -> String {
    let class = drift.class.into_str();
    match drift.class {
        Class::Terminating => format!("{class}: the policy is being deleted and a finalizer holds it"),
        Class::Stale => format!("{class}: it is being removed"),
        Class::Missing | Class::SpecChanged | Class::MetadataChanged | Class::Unmanaged | Class::Pinned => {
            format!("{class}: it is being repaired (last other field manager: {})", drift.claimed_writer())
        }
    }
}
