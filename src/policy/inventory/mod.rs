//! Everything in a cluster that belongs to the operator, as text or as JSON: what `policy-baseline list-managed` shows, and what
//! `policy-baseline uninstall` removes.

mod removal;
mod rest;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use serde::Serialize;
use strum::IntoStaticStr;

pub use self::removal::{Act, Removal, Scope};
use super::table::{Table, counted};
use crate::api::label_query::LabelQuery;

/// Everything in a cluster that belongs to the operator.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Inventory {
    /// The policies with labels of ours, by namespace and name.
    pub policies: Vec<ManagedPolicy>,
    /// All other objects.
    pub others: Vec<OtherManaged>,
    /// The resources that could not be read.
    pub unread: Vec<&'static str>,
}

/// The kinds of objects that belong to the operator. The variants are in the order in which `uninstall` removes the objects: first what
/// would refuse the other removals.
#[derive(Clone, Copy, Debug, Eq, IntoStaticStr, Ord, PartialEq, PartialOrd, Serialize)]
#[strum(const_into_str)]
pub enum ManagedKind {
    /// Puts an admission policy of one of our components in force.
    ValidatingAdmissionPolicyBinding,
    /// An admission policy of one of our components.
    ValidatingAdmissionPolicy,
    /// A policy that the operator wrote.
    NetworkPolicy,
    /// A baseline.
    PolicyBaseline,
    /// An opt-out.
    BaselineOptOut,
    /// A former spec of a baseline with a rollout.
    ControllerRevision,
    /// The Lease of the operator.
    Lease,
    /// A namespace that the operator labelled.
    Namespace,
}

/// An object that belongs to the operator. Uid and resourceVersion are those that were seen.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ManagedObject {
    /// Its kind.
    pub kind: ManagedKind,
    /// Its namespace; `None` if its kind has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// Its resourceVersion.
    pub resource_version: String,
    /// Its finalizers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub finalizers: Vec<String>,
    /// Its labels, by which it can be selected.
    #[serde(skip)]
    pub labels: BTreeMap<String, String>,
}

/// A policy with labels of ours.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ManagedPolicy {
    /// The object.
    #[serde(flatten)]
    pub object: ManagedObject,
    /// The role that its label names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// The baseline that its label names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub baseline: Option<String>,
    /// Whether a baseline plans it.
    pub standing: Standing,
    /// The same in words, and what happens to it.
    pub state: String,
}

/// Whether a baseline plans a policy.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Standing {
    /// A baseline plans it, or may plan it: nobody can say what an invalid baseline would plan.
    Planned,
    /// Its baseline exists, and no baseline plans the policy in this namespace under this name.
    LeftOver,
    /// Its baseline does not exist, and no other baseline plans the policy. The operator never removes such a policy.
    Orphan,
    /// It has labels of ours, but not the id for its namespace and name. So it is not ours: the operator leaves it alone.
    NotOurs,
}

/// Any other object that belongs to the operator.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OtherManaged {
    /// The object.
    #[serde(flatten)]
    pub object: ManagedObject,
    /// What is worth to know about it.
    pub state: String,
}

impl ManagedKind {
    /// How kubectl writes the resource.
    const fn resource(self) -> &'static str {
        match self {
            Self::ValidatingAdmissionPolicyBinding => "validatingadmissionpolicybinding.admissionregistration.k8s.io",
            Self::ValidatingAdmissionPolicy => "validatingadmissionpolicy.admissionregistration.k8s.io",
            Self::NetworkPolicy => "networkpolicy.networking.k8s.io",
            Self::PolicyBaseline => "policybaseline.policybaseline.io",
            Self::BaselineOptOut => "baselineoptout.policybaseline.io",
            Self::ControllerRevision => "controllerrevision.apps",
            Self::Lease => "lease.coordination.k8s.io",
            Self::Namespace => "namespace",
        }
    }
}

impl fmt::Display for ManagedObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, namespace, name, .. } = self;
        let namespace = namespace.as_ref().map(|namespace| format!("{namespace}/")).unwrap_or_default();
        write!(f, "{} {namespace}{name}", kind.into_str())
    }
}

impl Inventory {
    /// The same with only the policies that no baseline plans. Those that only look like ours are among them.
    #[must_use]
    pub fn orphans(mut self) -> Self {
        self.policies.retain(|policy| policy.standing != Standing::Planned);
        self.others.clear();
        self
    }

    /// The same with only the objects in this namespace.
    #[must_use]
    pub fn within(mut self, namespace: &str) -> Self {
        let is_there = |object: &ManagedObject| object.namespace.as_deref() == Some(namespace);
        self.policies.retain(|policy| is_there(&policy.object));
        self.others.retain(|other| is_there(&other.object));
        self
    }

    /// The same with only the objects that a selector selects.
    #[must_use]
    pub fn labelled(mut self, labels: &LabelQuery) -> Self {
        self.policies.retain(|policy| labels.selects(&policy.object.labels));
        self.others.retain(|other| labels.selects(&other.object.labels));
        self
    }

    /// The resource and the name of each object, a line each.
    pub fn names(&self) -> String {
        let objects = self.policies.iter().map(|policy| &policy.object).chain(self.others.iter().map(|other| &other.object));
        let lines: Vec<String> = objects.map(|object| format!("{}/{}", object.kind.resource(), object.name)).collect();
        if lines.is_empty() { String::new() } else { lines.join("\n") + "\n" }
    }

    fn with(&self, standing: Standing) -> impl Iterator<Item = &ManagedPolicy> {
        self.policies.iter().filter(move |policy| policy.standing == standing)
    }
}

/// How many policies these are, and in how many namespaces.
fn count<'a>(policies: impl Iterator<Item = &'a ManagedPolicy>) -> String {
    let namespaces: Vec<&str> = policies.filter_map(|policy| policy.object.namespace.as_deref()).collect();
    let all = namespaces.len();
    let namespaces = namespaces.into_iter().collect::<BTreeSet<_>>().len();
    format!("{} in {}", counted(all as u64, "policy", "policies"), counted(namespaces as u64, "namespace", "namespaces"))
}

impl fmt::Display for Inventory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ours = self.policies.iter().filter(|policy| policy.standing != Standing::NotOurs);
        let n = |standing| self.with(standing).count();
        writeln!(
            f,
            "{}: {} planned, {} left over, {} orphaned; {} with the operator's labels, but not the operator's; {} other objects",
            count(ours),
            n(Standing::Planned),
            n(Standing::LeftOver),
            n(Standing::Orphan),
            n(Standing::NotOurs),
            self.others.len()
        )?;
        for resource in &self.unread {
            writeln!(f, "not read: {resource}: not allowed to list them, so they are missing here")?;
        }
        let mut policies = Table::new(["NAMESPACE", "NAME", "ROLE", "BASELINE", "STATE"]);
        for ManagedPolicy { object, role, baseline, state, .. } in &self.policies {
            let text = |text: &Option<String>| text.clone().unwrap_or_default();
            policies.row([text(&object.namespace), object.name.clone(), text(role), text(baseline), state.clone()]);
        }
        let mut others = Table::new(["KIND", "NAMESPACE", "NAME", "STATE"]);
        for OtherManaged { object, state } in &self.others {
            let namespace = object.namespace.clone().unwrap_or_default();
            others.row([object.kind.into_str().into(), namespace, object.name.clone(), state.clone()]);
        }
        write!(f, "{policies}{others}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{api::names::FINALIZER, testkit::golden};

    pub fn object(kind: ManagedKind, namespace: Option<&str>, name: &str) -> ManagedObject {
        let of = |text: &str| format!("{text}-{name}");
        ManagedObject {
            kind,
            namespace: namespace.map(Into::into),
            name: name.into(),
            uid: of("uid"),
            resource_version: "7".into(),
            finalizers: vec![],
            labels: BTreeMap::new(),
        }
    }

    pub fn policy(namespace: &str, name: &str, standing: Standing, state: &str) -> ManagedPolicy {
        let object = object(ManagedKind::NetworkPolicy, Some(namespace), name);
        let role = Some("DefaultDenyIngress".into());
        ManagedPolicy { object, role, baseline: Some("platform".into()), standing, state: state.into() }
    }

    /// One object of each kind, and a policy of each standing.
    pub fn one_of_each() -> Inventory {
        use ManagedKind::*;
        let other = |object| OtherManaged { object, state: "as it is".into() };
        let mut baseline = object(PolicyBaseline, None, "platform");
        baseline.finalizers = vec![FINALIZER.into()];
        Inventory {
            policies: vec![
                policy("team-a", "baseline-default-deny-ingress", Standing::Planned, "planned"),
                policy(
                    "team-a",
                    "old-default-deny-ingress",
                    Standing::LeftOver,
                    "left over: platform plans no policy of this name",
                ),
                policy("team-b", "copy", Standing::NotOurs, "not the operator's: a copy"),
                policy("team-b", "gone-default-deny-ingress", Standing::Orphan, "orphan: there is no baseline platform"),
            ],
            // Not in the order of removal.
            others: [
                object(Lease, Some("policy-baseline-system"), "policy-baseline"),
                object(Namespace, None, "team-a"),
                object(ControllerRevision, Some("policy-baseline-system"), "platform-1"),
                object(BaselineOptOut, Some("team-a"), "load-test"),
                baseline,
                object(ValidatingAdmissionPolicy, None, "policy-baseline-protect-policies"),
                object(ValidatingAdmissionPolicyBinding, None, "policy-baseline-protect-policies"),
            ]
            .map(other)
            .into(),
            unread: vec![],
        }
    }

    #[test]
    fn one_namespace_is_listed_alone_and_names_are_those_of_kubectl() {
        let names = one_of_each().within("team-a").names();
        let expected = "networkpolicy.networking.k8s.io/baseline-default-deny-ingress\nnetworkpolicy.networking.k8s.io/old-default-deny-ingress\nbaselineoptout.policybaseline.io/load-test\n";
        assert_eq!(names, expected);
        assert_eq!(one_of_each().names().lines().count(), 11);
        assert_eq!(one_of_each().within("nowhere").names(), "");
    }

    #[test]
    fn objects_are_selected_by_their_labels() {
        let mut all = one_of_each();
        all.policies[0].object.labels = [("team".to_owned(), "a".to_owned())].into();
        all.others[0].object.labels = [("team".to_owned(), "b".to_owned())].into();
        let names = |query: &str| all.clone().labelled(&query.parse().unwrap()).names();
        assert_eq!(names("team=a"), "networkpolicy.networking.k8s.io/baseline-default-deny-ingress\n");
        assert_eq!(names("team").lines().count(), 2);
        assert_eq!(names("!team").lines().count(), 9);
        assert_eq!(names("").lines().count(), 11);
    }

    #[test]
    fn everything_that_is_ours_is_on_the_screen_and_orphans_are_told_apart() {
        golden("src/policy/inventory/golden/all.txt", &one_of_each().to_string());
        let orphans = one_of_each().orphans();
        golden("src/policy/inventory/golden/orphans.txt", &orphans.to_string());
        let unread = Inventory { unread: vec!["leases"], ..Inventory::default() };
        assert_eq!(unread.to_string().lines().count(), 2, "{unread}");
    }
}
