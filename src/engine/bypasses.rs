//! Finds policies that open what a baseline closes, although it does not plan them: each for itself, and several together. They are of
//! others, or have our labels, which anybody can copy.

use std::{cmp::Reverse, sync::Arc};

use super::facts::entry::Entry;
use crate::{
    api::{Role, reason::ViolationReason},
    policy::{
        drift::{Drift, Fingerprint, Repair},
        netpol::{Census, Cut, DirectionShares, Opening, Openings, Peers, Pods, Ports, Shares, Together, Work},
        plan::{Baseline, Namespace},
        status::Problem,
    },
};

/// How many bypasses of a namespace are reported, the widest first.
const BYPASSES_TOLD: usize = 5;
/// How many policies a message about several policies names.
const POLICIES_TOLD: usize = 3;

/// A policy that the baseline does not plan, and what it opens of what the baseline closes.
struct Other<'a> {
    name: &'a Arc<str>,
    print: &'a Fingerprint,
    opens: Openings,
    /// It was not judged as a whole, because the policies of the namespace have too much to add up.
    is_left_out: bool,
}

impl Other<'_> {
    fn widest(&self) -> Option<Opening> {
        self.opens.ingress.max(self.opens.egress)
    }
}

/// A direction of traffic that a baseline closes.
#[derive(Clone, Copy)]
enum Direction {
    Ingress,
    Egress,
}

impl Direction {
    const fn shares(self, shares: &Shares) -> &DirectionShares {
        match self {
            Self::Ingress => &shares.ingress,
            Self::Egress => &shares.egress,
        }
    }

    const fn opening(self, opens: &Openings) -> Option<Opening> {
        match self {
            Self::Ingress => opens.ingress,
            Self::Egress => opens.egress,
        }
    }

    const fn is_too_large(self, opens: &Openings) -> bool {
        match self {
            Self::Ingress => opens.is_ingress_too_large,
            Self::Egress => opens.is_egress_too_large,
        }
    }

    const fn is_egress(self) -> bool {
        matches!(self, Self::Egress)
    }
}

/// The policies that open what the baseline closes, or may do so. Those that are about to be removed are left out.
pub fn bypasses(
    baseline: &Baseline,
    ns: &Namespace,
    entry: &Entry,
    drifts: &[Drift],
    census: &Census,
    work: &mut Work,
) -> Vec<Problem> {
    if entry.policies.values().all(|policy| policy.opens.is_none() && policy.shares.is_none()) {
        return vec![];
    }
    let plans = |role| baseline.planned(ns).any(|(_, policy)| policy.role() == Some(role));
    let (ingress, egress) = (plans(Role::DefaultDenyIngress), plans(Role::DefaultDenyEgress));
    let is_planned = |name: &str| baseline.plans_named(name, ns);
    let is_removed = |name: &str| drifts.iter().any(|d| d.policy == name && matches!(d.fix, Repair::Delete { .. }));
    let closed: Vec<Direction> = [(ingress, Direction::Ingress), (egress, Direction::Egress)]
        .into_iter()
        .filter_map(|(closed, direction)| closed.then_some(direction))
        .collect();
    // A policy with a planned name is repaired, so it is no bypass.
    let others = entry.policies.iter().filter(|(name, _)| !is_planned(name) && !is_removed(name));
    let others: Vec<Other> = others.map(|(name, print)| judged(name, print, &closed, census, work)).collect();

    let mut found: Vec<(Option<Opening>, Problem)> = Vec::new();
    let left_out: Vec<&Other> = others.iter().filter(|other| other.is_left_out && other.widest().is_none()).collect();
    let summed = closed.iter().filter_map(|direction| together(&others, *direction, census, work));
    // Two problems for one reason say no more than one.
    found.extend(summed.filter(|(widest, _)| widest.is_some() || left_out.is_empty()));
    if !left_out.is_empty() {
        found.push((None, not_added_up(&left_out)));
    }
    for other in &others {
        let Openings { is_ingress_too_large, is_egress_too_large, .. } = other.opens;
        match other.widest() {
            Some(widest) => found.push((Some(widest), bypass(other))),
            None if (is_ingress_too_large || is_egress_too_large) && !other.is_left_out => found.push((None, too_large(other))),
            None => {}
        }
    }
    found.sort_by(|(a, one), (b, other)| b.cmp(a).then_with(|| one.policy.cmp(&other.policy)));
    found.into_iter().take(BYPASSES_TOLD).map(|(_, problem)| problem).collect()
}

/// What one policy opens of what is closed, with the namespaces that there are now.
fn judged<'a>(name: &'a Arc<str>, print: &'a Fingerprint, closed: &[Direction], census: &Census, work: &mut Work) -> Other<'a> {
    let mut opens = Openings::default();
    let mut is_left_out = false;
    for direction in closed {
        let alone = direction.opening(&print.opens);
        let mut is_too_large = direction.is_too_large(&print.opens);
        let mut named = None;
        if let Some(shares) = &print.shares {
            let parts = direction.shares(shares);
            let found = if parts.names_namespaces() {
                Together::of(&[parts], census, direction.is_egress(), work)
            } else {
                Some(Together::default())
            };
            is_left_out |= found.is_none() || parts.cut == Cut::Everything;
            let found = found.unwrap_or_default();
            named = found.widest.map(|(peers, ports, rule)| Opening { peers, ports, pods: shares.pods, rule });
            // All its blocks were judged, also those that are not kept.
            is_too_large |= found.is_too_large && parts.left_out == (0, 0);
            is_too_large |= parts.cut == Cut::Labels && census.has_common_labels();
        }
        let widest = if named.map(width) > alone.map(width) { named } else { alone };
        match direction {
            Direction::Ingress => (opens.ingress, opens.is_ingress_too_large) = (widest, is_too_large),
            Direction::Egress => (opens.egress, opens.is_egress_too_large) = (widest, is_too_large),
        }
    }
    Other { name, print, opens, is_left_out }
}

/// How wide an opening is, whichever rule makes it.
const fn width(opening: Opening) -> (Peers, Ports) {
    (opening.peers, opening.ports)
}

/// What several policies open together, if none of them opens as much alone.
fn together(others: &[Other], direction: Direction, census: &Census, work: &mut Work) -> Option<(Option<Opening>, Problem)> {
    let mut all: Vec<(&Other, &Shares)> =
        others.iter().filter_map(|other| Some((other, &**other.print.shares.as_ref()?))).collect();
    all.retain(|(_, shares)| direction.shares(shares).has_parts());
    if all.len() < 2 {
        return None;
    }
    // The policies that open most come first, so that few are named.
    all.sort_by_cached_key(|(other, shares)| (Reverse(direction.shares(shares).weight()), other.name.clone()));
    let mut sum = |count: usize| {
        let some: Vec<&DirectionShares> = all.iter().take(count).map(|(_, shares)| direction.shares(shares)).collect();
        Together::of(&some, census, direction.is_egress(), work).unwrap_or(Together { widest: None, is_too_large: true })
    };
    let Together { widest, is_too_large } = sum(all.len());
    let alone = others.iter().filter_map(|other| direction.opening(&other.opens));
    let is_new = |(peers, ports, _)| !alone.clone().any(|opening| opening.peers >= peers && opening.ports >= ports);
    let Some((peers, ports, _)) = widest.filter(|widest| is_new(*widest)) else {
        let problem = || too_large_together(&all, direction);
        return (is_too_large && widest.is_none() && alone.clone().next().is_none()).then(|| (None, problem()));
    };
    // The fewest of them, in this order, that open as much: more policies never open less. If too little work is left to find that out,
    // there are some more.
    let mut opens_as_much = |count: usize| sum(count).widest.is_some_and(|(p, on, _)| (p, on) >= (peers, ports));
    let (mut few, mut enough) = (1, all.len());
    while few < enough {
        let middle = usize::midpoint(few, enough);
        if opens_as_much(middle) { enough = middle } else { few = middle + 1 }
    }
    all.truncate(enough);
    let pods = all.iter().map(|(_, shares)| shares.pods).min().unwrap_or(Pods::Every);
    let opening = Opening { peers, ports, pods, rule: 0 };
    let (policy, names) = named(all.iter().map(|(other, _)| *other));
    let what = match direction {
        Direction::Ingress => format!("let {peers} reach {pods} on {ports}"),
        Direction::Egress => format!("let {pods} reach {peers} on {ports}"),
    };
    let message = format!(
        "{names} together {what}; NetworkPolicies only add, so the baseline cannot close that: narrow one of these policies or remove it"
    );
    Some((Some(opening), Problem { policy: Some(policy), reason: ViolationReason::Bypassed.into(), message }))
}

/// The name of the first policy, and the names of all in words.
fn named<'a>(others: impl Iterator<Item = &'a Other<'a>>) -> (String, String) {
    let mut names: Vec<&str> = others.map(|other| &**other.name).collect();
    names.sort_unstable();
    let more = names.len().saturating_sub(POLICIES_TOLD);
    let told = names.iter().take(POLICIES_TOLD).copied().collect::<Vec<_>>();
    let told = match (&told[..], more) {
        ([only], 0) => (*only).to_owned(),
        ([first, last], 0) => format!("{first} and {last}"),
        (told, 0) => told.join(", "),
        (told, more) => format!("{} and {more} more policies", told.join(", ")),
    };
    (names.first().copied().unwrap_or_default().to_owned(), told)
}

fn bypass(other: &Other) -> Problem {
    let Openings { ingress, egress, .. } = other.opens;
    let inwards = ingress.map(|o| format!("spec.ingress[{}] lets {} reach {} on {}", o.rule, o.peers, o.pods, o.ports));
    let outwards = egress.map(|o| format!("spec.egress[{}] lets {} reach {} on {}", o.rule, o.pods, o.peers, o.ports));
    let opened: Vec<String> = inwards.into_iter().chain(outwards).collect();
    let opened = opened.join(", ");
    let message = if other.print.ours {
        format!("{opened}; it has the operator's labels, but no baseline plans it, so nobody repairs it: remove it")
    } else {
        format!("{opened}; NetworkPolicies only add, so the baseline cannot close that: narrow this policy or remove it")
    };
    Problem { policy: Some(other.name.to_string()), reason: ViolationReason::Bypassed.into(), message }
}

/// The problem that it is not known what the rules of a policy open.
fn too_large(other: &Other) -> Problem {
    let Openings { is_ingress_too_large, is_egress_too_large, .. } = other.opens;
    let rules: Vec<&str> = [("spec.ingress", is_ingress_too_large), ("spec.egress", is_egress_too_large)]
        .into_iter()
        .filter_map(|(rules, is)| is.then_some(rules))
        .collect();
    let message = format!(
        "{}: too many rules, blocks and ports, or labels of namespaces, to add up, so the operator does not know whether they open what the baseline closes; use fewer of them, or split the policy",
        rules.join(" and ")
    );
    Problem { policy: Some(other.name.to_string()), reason: ViolationReason::TooLargeToJudge.into(), message }
}

/// The problem that it is not known what several policies open together.
fn too_large_together(parts: &[(&Other, &Shares)], direction: Direction) -> Problem {
    let (policy, names) = named(parts.iter().map(|(other, _)| *other));
    let direction = if direction.is_egress() { "egress" } else { "ingress" };
    let message = format!(
        "{names}: too many blocks, ports and labels to add up, so the operator does not know whether their {direction} rules together open what the baseline closes; use fewer of them in all these policies"
    );
    Problem { policy: Some(policy), reason: ViolationReason::TooLargeToJudge.into(), message }
}

/// The problem that it is not known what some policies open, because the policies of the namespace have too much to add up.
fn not_added_up(left_out: &[&Other]) -> Problem {
    let (policy, names) = named(left_out.iter().copied());
    // The operator has no more parts of them, so it judges them again only when it sees them again.
    let is_cut = left_out.iter().any(|other| other.print.shares.as_ref().is_some_and(|shares| shares.is_cut()));
    let then = if is_cut { "; then change each of these policies once" } else { "" };
    let message = format!(
        "{names}: the policies of the namespace have too many blocks, ports and labels to add up, so the operator does not know whether these open what the baseline closes; use fewer of them in all policies together{then}"
    );
    Problem { policy: Some(policy), reason: ViolationReason::TooLargeToJudge.into(), message }
}
