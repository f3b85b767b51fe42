//! What the engine decides for one namespace, told.

use std::{cmp::Reverse, collections::BTreeSet, sync::Arc};

use strum::VariantArray;

use super::{
    Engine,
    assess::Assessment,
    clock::Now,
    facts::namespaces::Entry,
    outbox::{baseline_status::BaselineState, revisions::Answer},
};
use crate::{
    api::{NamespaceName, Role, baseline::Discovery},
    cluster::watch::REVISIONS_WATCH,
    policy::{
        dns::{DnsEvent, OPERATORS_RESOLV_CONF},
        drift::{Class, Drift, Fingerprint},
        explain::{Claim, Explanation, Policy, Relation, Unread, Wrong},
        plan::{Assignment, Baseline, Decision, Known, Namespace},
    },
};

impl Engine {
    /// What is planned in a namespace, and why. None if there is no such namespace.
    pub fn explain(&self, name: &str) -> Option<Explanation> {
        let name = NamespaceName::observed(name);
        let entry = self.observed.get(&name)?;
        let ns = entry.namespace.as_ref()?;
        let verdict = self.baselines.decide(ns, &entry.holdings());
        let assessment = self.assess(&name, entry);
        let mut baselines: Vec<Claim> =
            self.tracked.iter().map(|(of, tracked)| self.claim(of, tracked, ns, &verdict, &assessment)).collect();
        // The order of precedence within each relation.
        let rank = |claim: &Claim| (claim.relation, claim.priority.map(Reverse), claim.baseline.clone());
        baselines.sort_by_key(rank);
        Some(Explanation {
            namespace: name.to_string(),
            created: ns.created,
            labels: ns.labels.to_map(),
            verdict: sentence(&verdict.decision, &assessment),
            baselines,
            policies: self.policies(&verdict.decision, ns, entry, &assessment),
            problems: self.wrong(&name, &assessment),
            unread: self.unread(),
        })
    }

    /// What could not be read, as far as a baseline asks for it.
    fn unread(&self) -> Vec<Unread> {
        let asks = |what: fn(&Baseline) -> bool| self.tracked.values().any(|t| t.checked.as_ref().is_ok_and(|b| what(b)));
        let mut unread: Vec<(Vec<&str>, &str)> = Vec::new();
        if asks(|baseline| baseline.rollout.is_some()) && self.rollouts.revisions.answer() != Answer::Listed {
            let means = "while a change goes out in waves, a namespace that keeps its former policies is shown here as one that differs and is repaired";
            unread.push((vec![REVISIONS_WATCH], means));
        }
        if self.tracked.values().any(BaselineState::holds_backends) {
            let means =
                "a namespace whose Services only these name is shown here as closed, and the operator leaves its ingress open";
            unread.push((self.backends.unlisted(), means));
        }
        if asks(|baseline| baseline.dns_status.discovery == Discovery::Auto) {
            let means = "DNS that only these tell of is missing here from what is planned, so an egress policy that allows it is shown as one that differs";
            unread.push((self.dns.unread().map(Into::into).collect(), means));
        }
        let unread = unread.into_iter().filter(|(resources, _)| !resources.is_empty());
        unread
            .map(|(resources, means)| Unread { resources: resources.into_iter().map(Into::into).collect(), means: means.into() })
            .collect()
    }

    /// The nameservers of the running operator, as the statuses tell them: a resolv.conf.
    fn told_nameservers(&self) -> String {
        let told = self.tracked.values().flat_map(BaselineState::told_dns);
        let addresses = told.filter(|found| found.source.starts_with(OPERATORS_RESOLV_CONF)).filter_map(|found| {
            let (address, _) = found.what.split_once('/')?;
            Some(format!("nameserver {address}\n"))
        });
        addresses.collect::<BTreeSet<String>>().into_iter().collect()
    }

    /// Believes the nameservers that the statuses tell. What rollouts have reached is read again: policies are known by what they allow.
    pub fn believe_told_nameservers(&mut self, now: Now) {
        self.dns_news(DnsEvent::ResolvConf(self.told_nameservers()), now);
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
                let message = found.findings.iter().find(|(of, _)| of == name).and_then(|(_, finding)| finding.problems.first());
                (Relation::Audits, message.map_or_else(|| "Enforce would change nothing".to_owned(), |p| p.message.clone()))
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
            Decision::Protected(baseline) => (Some(baseline), "missing: it is being created"),
            Decision::Reported(baseline) => (Some(baseline), "would be created"),
            Decision::LeaveAlone | Decision::Unselected | Decision::Frozen(_) => (None, ""),
        };
        let mut rows = Vec::new();
        let mut named: Vec<&str> = Vec::new();
        for (_, policy) in baseline.into_iter().flat_map(|b| b.planned(ns)) {
            let drift = found.drifts.iter().find(|drift| drift.policy == policy.name);
            let state = match entry.policies.get(&policy.name) {
                None => missing.to_owned(),
                Some(print) if !print.ours && drift.is_none() => "of somebody else: it would be taken over".to_owned(),
                Some(_) => drift.map_or_else(|| "as planned".to_owned(), differs),
            };
            named.push(&policy.name);
            rows.push(Policy { name: Some(policy.name.clone()), role: Some(policy.role), state, created: None });
        }
        for role in Role::VARIANTS.iter().copied().filter(|_| baseline.is_some()) {
            if let Some(why) = baseline.and_then(|b| b.why_not_planned(role, ns)) {
                rows.push(Policy { name: None, role: Some(role), state: format!("not planned: {why}"), created: None });
            }
        }
        for (name, print) in entry.policies.iter().filter(|(name, _)| !named.contains(&&***name)) {
            rows.push(Policy { name: Some(name.to_string()), role: None, state: self.stands(print, decision), created: None });
        }
        rows
    }

    /// How a policy stands that is not planned.
    fn stands(&self, print: &Fingerprint, decision: &Decision) -> String {
        let Some(owner) = print.baseline.as_deref().filter(|_| print.ours) else { return "of somebody else".into() };
        match self.baselines.known(owner) {
            _ if matches!(decision, Decision::Frozen(_)) => format!("of baseline {owner}, left as it is"),
            Known::Gone => format!("of baseline {owner}, which is gone: nobody's any more, and left as it is"),
            Known::Invalid => format!("of baseline {owner}, which is stalled: left as it is"),
            Known::Valid(_) if self.baselines.may_remove(owner) => {
                format!("of baseline {owner}, planned no more: it is being removed")
            }
            Known::Valid(_) => format!("of baseline {owner}, left as it is"),
        }
    }

    /// What is found wrong now, and what the statuses tell that only the operator knows, such as writes that failed.
    fn wrong(&self, name: &NamespaceName, found: &Assessment) -> Vec<Wrong> {
        let mut all: Vec<Wrong> = Vec::new();
        for (baseline, tracked) in &self.tracked {
            all.extend(tracked.told_of(name).map(|(problem, since)| Wrong {
                baseline: baseline.to_string(),
                policy: problem.policy,
                reason: problem.reason.as_str().into(),
                message: problem.message,
                since: Some(since),
            }));
        }
        for (baseline, finding) in &found.findings {
            for problem in &finding.problems {
                let is_told = |wrong: &Wrong| {
                    (&*wrong.baseline, &wrong.policy, &*wrong.reason) == (&**baseline, &problem.policy, problem.reason.as_str())
                };
                if !all.iter().any(is_told) {
                    let (policy, message) = (problem.policy.clone(), problem.message.clone());
                    all.push(Wrong {
                        baseline: baseline.to_string(),
                        policy,
                        reason: problem.reason.as_str().into(),
                        message,
                        since: None,
                    });
                }
            }
        }
        all
    }
}

/// What is done in the namespace, in a sentence.
fn sentence(decision: &Decision, found: &Assessment) -> String {
    match decision {
        Decision::LeaveAlone => "it is being deleted, and left alone".into(),
        Decision::Unselected if found.drifts.is_empty() => "no baseline applies".into(),
        Decision::Unselected => "no baseline applies; what one left behind is being removed".into(),
        Decision::Frozen(name) => format!("{name} freezes it: nothing is written or removed for now"),
        Decision::Reported(baseline) => {
            format!("{} would apply, but only reports; existingNamespaces: Enforce closes it", baseline.name)
        }
        Decision::Protected(baseline) if found.drifts.is_empty() => {
            format!("{} applies, and the namespace holds exactly what is planned", baseline.name)
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
        Known::Valid(_) => "its release waits to be confirmed: see the condition AwaitingConfirmation of the baseline".into(),
        Known::Invalid | Known::Gone => stalled(tracked),
    }
}

fn stalled(tracked: &BaselineState) -> String {
    tracked.stalled().map_or_else(|| "it is stalled".to_owned(), |error| format!("it is stalled: {error}"))
}

fn differs(drift: &Drift) -> String {
    let class = drift.class.into_str();
    match drift.class {
        Class::Terminating => format!("{class}: it is being deleted and a finalizer holds it"),
        Class::Stale => format!("{class}: it is being removed"),
        Class::Missing | Class::SpecChanged | Class::MetadataChanged | Class::Unmanaged | Class::Pinned => {
            format!("{class}: it is being repaired (last other writer, as claimed: {})", drift.claimed_writer())
        }
    }
}
