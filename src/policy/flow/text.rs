//! The answer as text for people.

use std::{borrow::Borrow, fmt};

use super::{
    answer::{FlowAnswer, FlowCase},
    cluster_policy::{PolicyTier, TierAction},
    judge::{DirectionVerdict, RuleRef},
    objects::PolicyRef,
    rule_parts::Way,
    suggest::Suggestion,
    tier_judge::{TierRuleRef, TierRuling},
};
use crate::{api::text::shown, policy::table::Table};

/// The number of names that a line lists.
const SHOWN: usize = 3;
/// The most characters of several names in a column.
const WIDEST: usize = 80;

impl fmt::Display for FlowAnswer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_mixed = self.cases.iter().any(|case| case.decision != self.decision);
        let in_part = match (is_mixed || !self.without_port.is_empty(), self.has_sources) {
            (false, _) => "",
            (true, false) => ", but not for every destination or address family",
            (true, true) => ", but not for every pod, destination or address family",
        };
        let decision = self.decision.into_str();
        line(f, &format!("{} to {}, {}: {decision}{in_part}", self.from, self.to, self.port))?;
        if let Some(service) = &self.service {
            line(f, &format!("the Service {}/{}: {}", service.namespace, service.name, service.route))?;
            if !service.without_port.is_empty() {
                let pods = few(&service.without_port);
                line(f, &format!("it does not lead to pods without a container port of that name: {pods}"))?;
            }
        }
        if !self.without_port.is_empty() {
            let pods = few(&self.without_port);
            line(f, &format!("these pods have no container port of that name, so no flow to them is judged: {pods}"))?;
        }
        let [from, to] = &self.groups;
        for case in &self.cases {
            if self.service.is_some() || self.cases.len() > 1 {
                let family = case.family.map(|family| format!(" over {family}")).unwrap_or_default();
                let from =
                    if self.has_sources { format!("from {} ", heading(&case.from, from.as_deref())) } else { String::new() };
                let (to, decision) = (heading(&case.to, to.as_deref()), case.decision.into_str());
                writeln!(f)?;
                line(f, &format!("{from}to {to}, port {}{family}: {decision}", case.port))?;
            }
            case.write(f, &cell(&case.from, from.as_deref()), &cell(&case.to, to.as_deref()))?;
        }
        for suggestion in &self.suggestions {
            suggestion.fmt(f)?;
        }
        Ok(())
    }
}

impl FlowCase<'_> {
    fn write(&self, f: &mut fmt::Formatter<'_>, from: &str, to: &str) -> fmt::Result {
        let mut table = Table::new(["DIRECTION", "RESULT", "POLICY", "WHY"]);
        for (way, verdict, own, peer) in [(Way::Egress, &self.egress, from, to), (Way::Ingress, &self.ingress, to, from)] {
            let direction = format!("{} of {own}", way.into_str());
            for (result, policy, why) in rows(way, verdict, own, peer) {
                table.row([direction.clone(), result.into(), policy, why]);
            }
        }
        write!(f, "{table}")?;
        for note in &self.notes {
            line(f, &format!("note: {note}"))?;
        }
        Ok(())
    }
}

/// A line. The names in it are those of others, and none of them can end it.
fn line(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    writeln!(f, "{}", shown(text))
}

/// The pods at an end, in a heading: all of a few, and of many the number, the workload and the first names.
fn heading(names: &[String], group: Option<&str>) -> String {
    match group {
        Some(group) if names.len() > SHOWN => format!("{} pods of {group} ({})", names.len(), few(names)),
        _ => few(names),
    }
}

/// The same in a column, which is as wide as its widest cell.
fn cell(names: &[String], group: Option<&str>) -> String {
    match group {
        Some(group) if names.len() > SHOWN => format!("{} pods of {group}", names.len()),
        _ if few(names).chars().count() > WIDEST => cut(1, names, 0),
        _ => few(names),
    }
}

/// The rows about one direction: the result, the policy, and why.
fn rows(way: Way, verdict: &DirectionVerdict<'_>, own: &str, peer: &str) -> Vec<(&'static str, String, String)> {
    let one = |result, why: String| vec![(result, String::new(), why)];
    let of_tier = |result, action, by: &[TierRuleRef<'_>]| {
        let why = |rule: &TierRuleRef<'_>| format!("{} {}", rule.place(way), decides(action, rule.tier));
        by.iter().map(|rule| (result, rule.policy.to_string(), why(rule))).collect()
    };
    match verdict {
        DirectionVerdict::NotIsolated => one("allowed", "no policy isolates it in this direction".into()),
        DirectionVerdict::Allowed { by } => {
            by.iter().map(|rule| ("allowed", name(&rule.policy), format!("{} allows it", place(way, rule)))).collect()
        }
        DirectionVerdict::Denied { by } => {
            by.iter().map(|policy| ("denied", name(policy), "isolates it, and no rule allows this flow".into())).collect()
        }
        DirectionVerdict::OwnNode => one("allowed", format!("one of {own} and {peer} is the node of the other. These always reach each other")),
        DirectionVerdict::Itself => one("allowed", "a pod always reaches itself".into()),
        DirectionVerdict::NotAPod => one("allowed", format!("{own} is not a pod, so no NetworkPolicy is about it")),
        DirectionVerdict::OnHostNetwork => one(
            "undecided",
            "no rule allows this flow, but it is on the host network. Kubernetes does not define what policies mean for it; most network plugins ignore them"
                .into(),
        ),
        DirectionVerdict::PeerOnHostNetwork { by } => {
            let why = |rule| {
                format!(
                    "{} names labels of {peer}, which is on the host network. Most network plugins see the address of its node instead",
                    place(way, rule)
                )
            };
            by.iter().map(|rule| ("undecided", name(&rule.policy), why(rule))).collect()
        }
        DirectionVerdict::Unread { by } => {
            let why = "could not be read. It may isolate it, or allow this flow";
            by.iter().map(|policy| ("undecided", name(policy), why.into())).collect()
        }
        DirectionVerdict::AllowedByTier { by } => of_tier("allowed", TierAction::Allow, by),
        DirectionVerdict::DeniedByTier { by } => of_tier("denied", TierAction::Deny, by),
        DirectionVerdict::Unclear { by } => {
            by.iter().map(|ruling| ("undecided", ruling.rule.policy.to_string(), may_decide(way, ruling, by))).collect()
        }
        DirectionVerdict::UnreadTier { by } => {
            by.iter().map(|policy| ("undecided", policy.to_string(), "could not be read. It may allow or deny this flow".into())).collect()
        }
        DirectionVerdict::Ended => one("undecided", "one of the pods has ended".into()),
    }
}

/// What policies say about one direction, as sentences without the full stop.
pub fn verdict_sentences(way: Way, verdict: &DirectionVerdict<'_>, own: &str, peer: &str, port: &str) -> Vec<String> {
    let side = if way == Way::Egress { "to" } else { "from" };
    let flow = format!("{} of {own} {side} {peer}, {port}", way.into_str());
    let sentence = |(result, policy, why): (&str, String, String)| match &*policy {
        "" => format!("{flow}: {result}: {why}"),
        policy => format!("{flow}: {result}: {policy}: {why}"),
    };
    rows(way, verdict, own, peer).into_iter().map(sentence).collect()
}

fn name(policy: &PolicyRef<'_>) -> String {
    format!("{}/{}", policy.namespace, policy.name)
}

/// The entries of a NetworkPolicy that match.
pub fn place(way: Way, rule: &RuleRef<'_>) -> String {
    way.place(rule.rule, rule.peer, rule.port.map(|port| ("ports", port)))
}

/// What a rule of a tier does for certain, and why it is the one that decides.
fn decides(action: TierAction, tier: PolicyTier) -> String {
    let verb = match action {
        TierAction::Allow => "allows",
        TierAction::Deny => "denies",
        TierAction::Pass => "passes on",
    };
    match tier {
        PolicyTier::Admin => format!("{verb} it, before NetworkPolicies are asked"),
        PolicyTier::Baseline => format!("{verb} it, as no NetworkPolicy isolates it in this direction"),
    }
}

/// What a rule may do, and why that is not certain.
fn may_decide(way: Way, ruling: &TierRuling<'_>, all: &[TierRuling<'_>]) -> String {
    let (place, verb) = (
        ruling.rule.place(way),
        match ruling.action {
            TierAction::Allow => "allow",
            TierAction::Deny => "deny",
            TierAction::Pass => "pass on",
        },
    );
    let is_certain = |one: &&TierRuling<'_>| one.doubt.is_none();
    match ruling.doubt {
        Some(doubt) => format!("{place} may {verb} it: {}", doubt.into_str()),
        None if all.iter().filter(is_certain).count() > 1 => {
            format!("{place} may {verb} it: the API does not say which one of these rules decides first")
        }
        None => format!("{place} would {verb} it otherwise"),
    }
}

/// The first names, and how many more there are.
pub fn few(names: &[impl Borrow<str>]) -> String {
    few_of(names, 0)
}

/// The same, if there are further ones that nobody lists.
pub fn few_of(names: &[impl Borrow<str>], unlisted: usize) -> String {
    cut(SHOWN, names, unlisted)
}

/// At most so many names, and how many more there are.
fn cut(most: usize, names: &[impl Borrow<str>], unlisted: usize) -> String {
    let shown = &names[..names.len().min(most)];
    match names.len() - shown.len() + unlisted {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

impl fmt::Display for Suggestion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let yaml = serde_yaml::to_string(&self.policy).map_err(|_| fmt::Error)?;
        let is_egress = self.policy.spec.egress.is_some();
        let way = if is_egress { Way::Egress } else { Way::Ingress };
        writeln!(f, "\nTo allow the {}, apply this policy. It opens only what it names:", way.into_str())?;
        for caution in &self.cautions {
            line(f, &format!("Attention: {caution}."))?;
        }
        if !self.newly_isolated.is_empty() {
            let pods = few(&self.newly_isolated);
            line(
                f,
                &format!(
                    "Attention: no policy isolates {pods} in this direction today. This one would, and what they need beyond it would be cut."
                ),
            )?;
        }
        write!(f, "\n{yaml}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_list_of_names_is_cut() {
        let names = ["a", "b", "c", "d", "e"].map(String::from);
        assert_eq!((few(&names[..3]), few(&names)), ("a, b, c".into(), "a, b, c and 2 more".into()));
    }
}
