//! What is planned in one namespace, by which baseline, and why: in one screen, or as JSON. Shows decisions, and makes none.

mod table;

use std::{collections::BTreeMap, fmt};

use jiff::Timestamp;
use serde::Serialize;
use strum::IntoStaticStr;

use self::table::Table;
use crate::api::{Role, baseline::Mode};

/// Everything that there is to say of a namespace.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// Its name.
    pub namespace: String,
    /// When it was created.
    pub created: Timestamp,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Every planned policy is in place. `policy-baseline explain` exits 3 if not.
    pub protected: bool,
    /// What is done in it, in a sentence.
    pub verdict: String,
    /// Every baseline of the cluster, the one that applies first.
    pub baselines: Vec<Claim>,
    /// The policies that are planned or there.
    pub policies: Vec<Policy>,
    /// What is wrong.
    pub problems: Vec<Wrong>,
    /// What could not be read, so that some of this may be false.
    pub unread: Vec<Unread>,
}

/// Something that could not be read.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Unread {
    /// What.
    pub resources: Vec<String>,
    /// What that means for the rest of the explanation.
    pub means: String,
}

/// What a baseline has to do with the namespace.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Claim {
    /// Its name.
    pub baseline: String,
    /// Its priority; unknown while its spec is not valid.
    pub priority: Option<i32>,
    /// Its mode; unknown while its spec is not valid.
    pub mode: Option<Mode>,
    /// What it does here.
    pub relation: Relation,
    /// Why.
    pub why: String,
}

/// What a baseline does in a namespace, in the order in which it is shown.
#[derive(Clone, Copy, Debug, Eq, IntoStaticStr, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "camelCase")]
#[strum(const_into_str, serialize_all = "camelCase")]
pub enum Relation {
    /// Its policies are kept here.
    Applies,
    /// It only reports what it would do, as the namespace is older.
    Reports,
    /// What it holds stays as it is.
    Freezes,
    /// Another one comes first.
    Shadowed,
    /// It looks, and writes nothing.
    Audits,
    /// It has nothing to do with the namespace.
    No,
}

/// A policy, or a role that is not planned.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Policy {
    /// Its name; none for a role that is not planned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its role; none for a policy of somebody else.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// How it stands.
    pub state: String,
    /// When it was created.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<Timestamp>,
}

/// What is wrong in the namespace.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Wrong {
    /// The baseline that says so.
    pub baseline: String,
    /// The policy that it concerns.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// A word.
    pub reason: String,
    /// A sentence.
    pub message: String,
    /// Since when, if the status of the baseline tells.
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

        let mut baselines = Table::new(["BASELINE", "PRIORITY", "MODE", "HERE", "WHY"]);
        for claim in &self.baselines {
            let priority = claim.priority.map(|p| p.to_string()).unwrap_or_default();
            let mode = claim.mode.map(|mode| format!("{mode:?}")).unwrap_or_default();
            baselines.row([claim.baseline.clone(), priority, mode, claim.relation.into_str().into(), claim.why.clone()]);
        }
        let mut policies = Table::new(["POLICY", "ROLE", "CREATED", "STATE"]);
        for policy in &self.policies {
            let role = policy.role.map(|role| role.to_string()).unwrap_or_default();
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
    use crate::testkit::golden;

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
        let policy = |name: Option<&str>, role, state: &str, created| Policy {
            name: name.map(Into::into),
            role,
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
                    Some(Role::DefaultDenyIngress),
                    "as planned",
                    Some(at(1_760_000_001)),
                ),
                policy(None, Some(Role::DefaultDenyEgress), "not planned: not among spec.policies", None),
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
