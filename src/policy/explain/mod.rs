//! What is planned in one namespace, by which baseline, and why: as text for one screen, or as JSON. This code makes no decisions.

use std::{collections::BTreeMap, fmt};

use jiff::Timestamp;
use serde::Serialize;
use strum::IntoStaticStr;

use crate::{
    api::{Purpose, baseline::Mode},
    policy::table::Table,
};

/// Who can let a person read what an explanation needs, and how.
pub const WHO_GRANTS: &str =
    "A cluster administrator can grant that: kubectl create clusterrolebinding NAME --clusterrole=view --user=YOU";

/// Everything that `policy-baseline explain` shows about a namespace.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// The name of the namespace.
    pub namespace: String,
    /// When the namespace was created.
    pub created: Timestamp,
    /// The labels of the namespace.
    pub labels: BTreeMap<String, String>,
    /// Every planned policy is in place. `policy-baseline explain` exits 3 if not.
    pub protected: bool,
    /// One sentence: what the operator does in the namespace.
    pub verdict: String,
    /// Every baseline of the cluster; the one that applies comes first.
    pub baselines: Vec<Claim>,
    /// The policies that are planned or that exist.
    pub policies: Vec<Policy>,
    /// The problems in the namespace.
    pub problems: Vec<Wrong>,
    /// The resources that could not be read, so that this explanation may be partly wrong.
    pub unread: Vec<Unread>,
}

/// Resources that could not be read.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Unread {
    /// Their names.
    pub resources: Vec<String>,
    /// What that means for the rest of the explanation.
    pub means: String,
}

/// How one baseline relates to the namespace.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Claim {
    /// The name of the baseline.
    pub baseline: String,
    /// The priority; `None` while the spec is not valid.
    pub priority: Option<i32>,
    /// The mode; `None` while the spec is not valid.
    pub mode: Option<Mode>,
    /// What the baseline does here.
    pub relation: Relation,
    /// The cause, in words.
    pub why: String,
}

/// What a baseline does in a namespace. The variants are in display order.
#[derive(Clone, Copy, Debug, Eq, IntoStaticStr, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "camelCase")]
#[strum(const_into_str, serialize_all = "camelCase")]
pub enum Relation {
    /// The operator keeps its policies here.
    Applies,
    /// It only reports what it would do, because the namespace is older.
    Reports,
    /// The policies that it holds stay unchanged.
    Freezes,
    /// Another baseline has a higher precedence.
    Shadowed,
    /// It checks the namespace and writes nothing.
    Audits,
    /// It does not concern the namespace.
    No,
}

/// A policy, or a role or an allow for which no policy is planned.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Policy {
    /// The name; `None` if it is not planned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The role, or which allow it is; `None` for a policy that is not ours.
    #[serde(rename = "role", skip_serializing_if = "Option::is_none")]
    pub purpose: Option<Purpose>,
    /// The state, in words.
    pub state: String,
    /// When the policy was created; `None` if it does not exist.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<Timestamp>,
}

/// A problem in the namespace.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Wrong {
    /// The baseline that reports the problem.
    pub baseline: String,
    /// The policy that has the problem, if it is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// The reason, as one word.
    pub reason: String,
    /// The message, as a sentence.
    pub message: String,
    /// Since when; `None` if the status of the baseline does not say it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {}", self.namespace, self.verdict)?;
        let labels: Vec<String> = self.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        writeln!(f, "created {}, labels {}", self.created, labels.join(", "))?;
        for Unread { resources, means } in &self.unread {
            writeln!(f, "not read: {}: {means}", resources.join(", "))?;
        }
        if !self.unread.is_empty() {
            writeln!(f, "You may lack the permission to read that. {WHO_GRANTS}")?;
        }

        let mut baselines = Table::new(["BASELINE", "PRIORITY", "MODE", "HERE", "WHY"]);
        for claim in &self.baselines {
            let priority = claim.priority.map(|p| p.to_string()).unwrap_or_default();
            let mode = claim.mode.map(|mode| format!("{mode:?}")).unwrap_or_default();
            baselines.row([claim.baseline.clone(), priority, mode, claim.relation.into_str().into(), claim.why.clone()]);
        }
        let mut policies = Table::new(["POLICY", "ROLE", "CREATED", "STATE"]);
        for policy in &self.policies {
            let role = policy.purpose.as_ref().map(ToString::to_string).unwrap_or_default();
            policies.row([policy.name.clone().unwrap_or_default(), role, moment(policy.created), policy.state.clone()]);
        }
        let mut problems = Table::new(["PROBLEM", "POLICY", "BASELINE", "SINCE", "MESSAGE"]);
        for wrong in &self.problems {
            let policy = wrong.policy.clone().unwrap_or_default();
            problems.row([wrong.reason.clone(), policy, wrong.baseline.clone(), moment(wrong.since), wrong.message.clone()]);
        }
        write!(f, "{baselines}{policies}{problems}")
    }
}

fn moment(at: Option<Timestamp>) -> String {
    at.map(|at| at.to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{api::Role, testkit::golden};

    #[test]
    fn one_screen_tells_it_all() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let claim = |name: &str, priority, mode, relation, why: &str| Claim {
            baseline: name.into(),
            priority,
            mode,
            relation,
            why: why.into(),
        };
        let policy = |name: Option<&str>, purpose, state: &str, created| Policy {
            name: name.map(Into::into),
            purpose,
            state: state.into(),
            created,
        };
        let explanation = Explanation {
            namespace: "team-a".into(),
            created: at(1_760_000_000),
            labels: [("team".to_owned(), "a".to_owned())].into(),
            protected: true,
            verdict: "platform applies, but another policy opens what it closes".into(),
            baselines: vec![
                claim("platform", Some(10), Some(Mode::Enforce), Relation::Applies, "the highest priority of 2 that select it"),
                claim("old", Some(-5), Some(Mode::Enforce), Relation::Shadowed, "platform comes first"),
                claim("broken", None, None, Relation::No, "it is stalled"),
            ],
            policies: vec![
                policy(
                    Some("baseline-default-deny-ingress"),
                    Some(Role::DefaultDenyIngress.into()),
                    "as planned",
                    Some(at(1_760_000_001)),
                ),
                policy(None, Some(Role::DefaultDenyEgress.into()), "not planned: not among spec.policies", None),
            ],
            problems: vec![Wrong {
                baseline: "platform".into(),
                policy: Some("allow-all".into()),
                reason: "Bypassed".into(),
                message: "spec.ingress[0] lets everybody in".into(),
                since: None,
            }],
            unread: vec![Unread { resources: vec!["controllerrevisions".into()], means: "some of this may be false".into() }],
        };
        golden("src/policy/explain/golden/screen.txt", &explanation.to_string());
        let bare = Explanation { baselines: vec![], policies: vec![], problems: vec![], unread: vec![], ..explanation };
        assert_eq!(bare.to_string().lines().count(), 2, "an empty table is not shown");
    }
}
