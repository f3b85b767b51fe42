//! The cluster of the model: one namespace, one baseline, a few policies, and the rules of the API server that matter here.
//!
//! One file: what an API server does with objects, requests and watches.

use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock},
};

use jiff::Timestamp;
use k8s_openapi::{
    api::networking::v1::{NetworkPolicy, NetworkPolicyIngressRule},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
};
use serde_json::{Value, json};
use strum::VariantArray;

use super::{
    setup::{Broken, Restore, Setup},
    state_key::StateKey,
};
use crate::{
    api::{
        Role,
        names::{CONFIRM_RELEASE, LABEL_BASELINE, LABEL_ID, LABEL_MANAGED_BY},
    },
    engine::facts::baseline::RawBaseline,
    policy::plan::own_id,
};

pub const OWN: &str = "policy-baseline-system";
pub const NAMESPACE: &str = "team-a";
/// The label that the baseline selects.
pub const SELECTED: &str = "closed";
/// The end of the names of the allow.
const ALLOW: &str = "allow-same";

/// The plan of the baseline. An edit of the name prefix makes every former name stale.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Plan {
    First,
    Second,
}

impl Plan {
    pub const ALL: [Self; 2] = [Self::First, Self::Second];

    const fn prefix(self) -> &'static str {
        match self {
            Self::First => "first-",
            Self::Second => "second-",
        }
    }
}

/// The names of all possible policies.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Name {
    /// A planned policy, by the number of its role.
    Planned(Plan, u8),
    /// The planned allow.
    Allow(Plan),
    /// A tenant's copy of one of our policies, with its labels, under another name.
    Copy,
    /// A tenant's policy under a name of its own, with our labels and the id that fits its name.
    Forged,
}

impl Name {
    pub const fn is_planned(self) -> bool {
        matches!(self, Self::Planned(..) | Self::Allow(_))
    }

    pub fn text(self) -> String {
        match self {
            Self::Planned(plan, role) => format!("{}{}", plan.prefix(), Role::VARIANTS[usize::from(role)].suffix()),
            Self::Allow(plan) => format!("{}{ALLOW}", plan.prefix()),
            Self::Copy => "copy".into(),
            Self::Forged => "forged".into(),
        }
    }

    pub fn of(text: &str) -> Self {
        if text == Self::Forged.text() {
            return Self::Forged;
        }
        match Plan::ALL.into_iter().find(|plan| text.starts_with(plan.prefix())) {
            Some(plan) if text.ends_with(ALLOW) => Self::Allow(plan),
            Some(plan) => Self::Planned(plan, u8::from(text.ends_with(Role::VARIANTS[1].suffix()))),
            None => Self::Copy,
        }
    }
}

/// The owner that the labels of a policy name.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Owner {
    /// The baseline.
    Baseline,
    /// A baseline that never exists. All else about the labels is right.
    Nobody,
    /// It has not our labels.
    Foreign,
}

/// The content of a policy.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Make {
    pub owner: Owner,
    /// Somebody added a rule that opens it.
    pub opened: bool,
    /// It has a deletionTimestamp, and somebody else's finalizer.
    pub going: bool,
}

impl Make {
    pub const RIGHT: Self = Self { owner: Owner::Baseline, opened: false, going: false };
    pub const FOREIGN: Self = Self { owner: Owner::Foreign, opened: true, going: false };

    /// What a tenant writes who forges the labels.
    pub const fn forged(owner: Owner) -> Self {
        Self { owner, opened: true, going: false }
    }
}

/// A stored policy.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Policy {
    pub uid: u64,
    pub version: u64,
    pub make: Make,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Namespace {
    pub uid: u64,
    /// The version of its creation.
    pub created: u64,
    pub selected: bool,
    pub terminating: bool,
}

/// The plan that the baseline asks for; `None` if the baseline is invalid.
pub type Asked = Option<Plan>;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Baseline {
    pub uid: u64,
    pub version: u64,
    pub generation: u64,
    pub asked: Asked,
    /// Its selector matches no namespace.
    pub selects_nothing: bool,
    /// The generation that its owner confirmed; 0 for none.
    pub confirmed: u64,
}

/// What a watch reports. A deleted object has the version of its deletion.
#[derive(Clone, Copy, Debug)]
pub enum News {
    Namespace(Namespace),
    NamespaceGone(Namespace),
    Policy(Name, Policy),
    PolicyGone(Name, Policy),
    Baseline(Baseline),
    BaselineGone(Baseline),
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Watch {
    Namespaces,
    Policies,
    Baselines,
}

impl Watch {
    pub const ALL: [Self; 3] = [Self::Namespaces, Self::Policies, Self::Baselines];
}

impl News {
    pub const fn watch(self) -> Watch {
        match self {
            Self::Namespace(_) | Self::NamespaceGone(_) => Watch::Namespaces,
            Self::Policy(..) | Self::PolicyGone(..) => Watch::Policies,
            Self::Baseline(_) | Self::BaselineGone(_) => Watch::Baselines,
        }
    }

    pub fn essence(self, out: &mut StateKey) {
        out.word(&std::mem::discriminant(&self));
        match self {
            Self::Namespace(ns) | Self::NamespaceGone(ns) => ns.essence(out),
            Self::Policy(name, policy) | Self::PolicyGone(name, policy) => policy.essence(name, out),
            Self::Baseline(baseline) | Self::BaselineGone(baseline) => baseline.essence(out),
        }
    }
}

impl Namespace {
    pub fn essence(self, out: &mut StateKey) {
        out.word(&(self.selected, self.terminating));
        out.number(self.uid);
        out.number(self.created);
    }
}

impl Policy {
    pub fn essence(self, name: Name, out: &mut StateKey) {
        out.word(&(name, self.make));
        out.number(self.uid);
        out.number(self.version);
    }
}

impl Baseline {
    /// Whether its owner confirmed the current generation.
    pub const fn is_confirmed(self) -> bool {
        self.confirmed == self.generation
    }

    pub fn essence(self, out: &mut StateKey) {
        out.word(&(self.asked, self.selects_nothing, self.is_confirmed(), self.confirmed > 0));
        out.number(self.uid);
        out.number(self.version);
    }
}

/// A write request.
#[derive(Clone, Copy, Debug)]
pub struct Write {
    pub name: Name,
    pub deed: Deed,
    /// It repairs a policy that existed.
    pub repairs: bool,
}

#[derive(Clone, Copy, Debug)]
pub enum Deed {
    Apply(Option<u64>),
    Delete { uid: u64, version: u64 },
}

impl Write {
    pub fn essence(self, out: &mut StateKey) {
        out.word(&(self.name, self.repairs));
        match self.deed {
            Deed::Apply(uid) => {
                out.word(&uid.is_some());
                out.number(uid.unwrap_or_default());
            }
            Deed::Delete { uid, version } => {
                out.number(uid);
                out.number(version);
            }
        }
    }
}

/// How a write ended, from the view of the sender.
#[derive(Clone, Copy, Debug)]
pub enum Answer {
    Stored(Policy),
    Removed,
    /// Not tried.
    Withheld,
    Conflict,
    Terminating,
    NotLeading,
    /// The sender does not know the result.
    Lost,
}

/// What a backup holds.
#[derive(Clone, Debug)]
struct Backup {
    clock: u64,
    namespace: Option<Namespace>,
    policies: BTreeMap<Name, Policy>,
    baseline: Option<Baseline>,
}

#[derive(Clone, Debug)]
pub struct Cluster {
    pub roles: u8,
    /// Whether the plans have an allow.
    allows: bool,
    /// Whether already one namespace is too many for a change that nobody confirmed.
    pub guarded: bool,
    /// The last version.
    pub clock: u64,
    /// The last uid. No uid is given twice, not even after a restore.
    uids: u64,
    /// None if nothing will be restored.
    backup: Option<Arc<Backup>>,
    pub namespace: Option<Namespace>,
    pub policies: BTreeMap<Name, Policy>,
    pub baseline: Option<Baseline>,
    /// What the watches have not reported yet.
    pub news: Vec<News>,
    pub broken: Option<Broken>,
}

impl Cluster {
    /// A selected namespace, a baseline, and a tenant's copy of a policy.
    pub fn new(&Setup { roles, allows, budget, broken, .. }: &Setup) -> Self {
        let namespace = Some(Namespace { uid: 1, created: 1, selected: true, terminating: false });
        let asked = Some(Plan::First);
        let baseline = Some(Baseline { uid: 2, version: 2, generation: 2, asked, selects_nothing: false, confirmed: 0 });
        let policies = [(Name::Copy, Policy { uid: 3, version: 3, make: Make::FOREIGN })].into();
        let (guarded, news) = (budget.releases > 0, vec![]);
        Self { roles, allows, guarded, clock: 3, uids: 3, backup: None, namespace, policies, baseline, news, broken }
    }

    /// The names of the policies of a plan.
    pub fn names(&self, plan: Plan) -> impl Iterator<Item = Name> {
        (0..self.roles).map(move |role| Name::Planned(plan, role)).chain(self.allows.then_some(Name::Allow(plan)))
    }

    pub fn back_up(&mut self) {
        let Self { clock, namespace, baseline, .. } = *self;
        self.backup = Some(Arc::new(Backup { clock, namespace, policies: self.policies.clone(), baseline }));
    }

    pub fn restore(&mut self, how: Restore) {
        let Some(backup) = self.backup.clone() else { return };
        if how == Restore::Plain {
            self.clock = backup.clock;
        }
        (self.namespace, self.baseline) = (backup.namespace, backup.baseline);
        self.policies.clone_from(&backup.policies);
    }

    fn new_uid(&mut self) -> u64 {
        self.uids += 1;
        self.uids
    }

    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    pub fn change(&mut self, name: Name, make: Make) -> Policy {
        let version = self.tick();
        let known = self.policies.get(&name).map(|policy| policy.uid);
        let uid = known.unwrap_or_else(|| self.new_uid());
        let policy = Policy { uid, version, make };
        self.policies.insert(name, policy);
        self.news.push(News::Policy(name, policy));
        policy
    }

    pub fn remove(&mut self, name: Name) {
        let version = self.tick();
        if let Some(policy) = self.policies.remove(&name) {
            self.news.push(News::PolicyGone(name, Policy { version, ..policy }));
        }
    }

    pub fn set_namespace(&mut self, namespace: Namespace) {
        self.namespace = Some(namespace);
        self.news.push(News::Namespace(namespace));
    }

    pub fn create_namespace(&mut self) {
        let (uid, created) = (self.new_uid(), self.tick());
        self.set_namespace(Namespace { uid, created, selected: true, terminating: false });
    }

    /// The namespace controller completes the deletion of the namespace.
    pub fn vanish(&mut self) {
        for name in self.policies.keys().copied().collect::<Vec<_>>() {
            self.remove(name);
        }
        self.news.extend(self.namespace.take().map(News::NamespaceGone));
    }

    pub fn edit(&mut self, asked: Option<Asked>) {
        let version = self.tick();
        let Some(asked) = asked else {
            self.news.extend(self.baseline.take().map(News::BaselineGone));
            return;
        };
        let baseline = if let Some(known) = self.baseline {
            Baseline { version, generation: version, asked, ..known }
        } else {
            let uid = self.new_uid();
            Baseline { uid, version, generation: version, asked, selects_nothing: false, confirmed: 0 }
        };
        self.set_baseline(baseline);
    }

    fn set_baseline(&mut self, baseline: Baseline) {
        self.baseline = Some(baseline);
        self.news.push(News::Baseline(baseline));
    }

    /// An edit of the selector.
    pub fn narrow(&mut self, selects_nothing: bool) {
        let version = self.tick();
        if let Some(known) = self.baseline {
            self.set_baseline(Baseline { version, generation: version, selects_nothing, ..known });
        }
    }

    pub fn confirm(&mut self) {
        let version = self.tick();
        if let Some(known) = self.baseline {
            self.set_baseline(Baseline { version, confirmed: known.generation, ..known });
        }
    }

    /// Carries out a write as the API server does.
    pub fn serve(&mut self, write: Write) -> Answer {
        let stored = self.policies.get(&write.name).copied();
        match (write.deed, stored) {
            (Deed::Apply(Some(uid)), Some(policy)) if uid != policy.uid => Answer::Conflict,
            (Deed::Apply(Some(_)), None) => Answer::Conflict,
            (Deed::Apply(_), Some(policy)) => {
                let make = Make { going: policy.make.going, ..self.admitted() };
                Answer::Stored(if policy.make == make { policy } else { self.change(write.name, make) })
            }
            (Deed::Apply(None), None) if self.namespace.is_none_or(|ns| ns.terminating) => Answer::Terminating,
            (Deed::Apply(None), None) if self.broken == Some(Broken::StoresNothing) && is_second(write.name) => {
                let (uid, version) = (self.new_uid(), self.tick());
                Answer::Stored(Policy { uid, version, make: Make::RIGHT })
            }
            (Deed::Apply(None), None) => Answer::Stored(self.change(write.name, self.admitted())),
            (Deed::Delete { .. }, None) => Answer::Removed,
            (Deed::Delete { uid, version }, Some(policy)) => {
                let unchanged = policy.uid == uid && policy.version == version;
                if unchanged || self.broken == Some(Broken::DeletesByName) {
                    self.remove(write.name);
                    Answer::Removed
                } else {
                    Answer::Conflict
                }
            }
        }
    }

    /// What admission makes of a planned policy.
    fn admitted(&self) -> Make {
        Make { opened: self.broken == Some(Broken::AdmissionOpens), ..Make::RIGHT }
    }

    pub fn essence(&self, out: &mut StateKey) {
        out.word(&(self.namespace.is_some(), self.baseline.is_some(), self.policies.len()));
        self.namespace.iter().for_each(|ns| ns.essence(out));
        self.baseline.iter().for_each(|baseline| baseline.essence(out));
        self.policies.iter().for_each(|(name, policy)| policy.essence(*name, out));
        if let Some(backup) = &self.backup {
            // Two states differ if what comes back is newer in one of them.
            out.number(self.clock);
            out.number(backup.clock);
            backup.policies.iter().for_each(|(name, policy)| policy.essence(*name, out));
        }
    }
}

const fn is_second(name: Name) -> bool {
    matches!(name, Name::Planned(Plan::Second, _) | Name::Allow(Plan::Second))
}

/// The objects as a watch delivers them, without their numbers.
struct Forms {
    baselines: BTreeMap<Asked, RawBaseline>,
    policies: BTreeMap<Name, NetworkPolicy>,
}

/// Without and with an allow.
static FORMS: LazyLock<[[Forms; 2]; 2]> = LazyLock::new(|| [false, true].map(|allows| [1, 2].map(|roles| forms(roles, allows))));

fn forms(roles: usize, allows: bool) -> Forms {
    let roles = &Role::VARIANTS.iter().map(Role::into_str).collect::<Vec<_>>()[..roles];
    let baseline = |prefix: &str| -> RawBaseline {
        let mut spec = json!({"mode": "Enforce", "policies": roles, "existingNamespaces": "Enforce", "metadata": {"namePrefix": prefix},
            "namespaceSelector": {"matchExpressions": [{"key": SELECTED, "operator": "Exists"}]}});
        if allows {
            spec["allows"] = json!([{"name": "same", "ingress": [{"from": [{"sameNamespace": {}}]}]}]);
        }
        let meta = json!({"name": "b", "creationTimestamp": "1970-01-01T00:00:01Z"});
        serde_json::from_value(json!({"metadata": meta, "spec": spec})).unwrap()
    };
    let mut forms = Forms { baselines: [(None, baseline("no prefix"))].into(), policies: BTreeMap::new() };
    for plan in Plan::ALL {
        let raw = baseline(plan.prefix());
        for rendered in raw.check(OWN).unwrap().policies {
            let mut object = rendered.object(NAMESPACE, None);
            forms.policies.insert(Name::of(&rendered.name), form(object.clone()));
            if rendered.role() != Some(Role::VARIANTS[0]) {
                continue;
            }
            object["metadata"]["name"] = "copy".into();
            forms.policies.insert(Name::Copy, form(object.clone()));
            let forged = Name::Forged.text();
            object["metadata"]["labels"][LABEL_ID] = own_id(NAMESPACE, &forged).into();
            object["metadata"]["name"] = forged.into();
            forms.policies.insert(Name::Forged, form(object));
        }
        forms.baselines.insert(Some(plan), raw);
    }
    forms
}

fn form(object: Value) -> NetworkPolicy {
    serde_json::from_value(object).unwrap()
}

impl Cluster {
    fn forms(&self) -> &'static Forms {
        &FORMS[usize::from(self.allows)][usize::from(self.roles) - 1]
    }

    pub fn policy_object(&self, name: Name, policy: Policy) -> NetworkPolicy {
        let mut object = self.forms().policies[&name].clone();
        let meta = &mut object.metadata;
        meta.uid = Some(policy.uid.to_string());
        meta.resource_version = Some(policy.version.to_string());
        let labels = meta.labels.as_mut().unwrap();
        match policy.make.owner {
            Owner::Nobody if self.broken == Some(Broken::BelievesOwners) => {}
            Owner::Nobody if self.broken == Some(Broken::SeesNoForgery) => drop(labels.remove(LABEL_MANAGED_BY)),
            Owner::Nobody => drop(labels.insert(LABEL_BASELINE.into(), "nobody".into())),
            Owner::Foreign if name != Name::Copy => drop(labels.remove(LABEL_MANAGED_BY)),
            Owner::Baseline | Owner::Foreign => {}
        }
        if name == Name::Copy && self.broken == Some(Broken::BelievesLabels) {
            labels.insert(LABEL_ID.into(), own_id(NAMESPACE, "copy"));
        }
        if policy.make.going {
            meta.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH));
            meta.finalizers = Some(vec!["example.com/held".into()]);
        }
        let is_hidden = policy.make.owner == Owner::Nobody && self.broken == Some(Broken::JudgesNoForgery);
        if policy.make.opened && !is_hidden {
            let spec = object.spec.as_mut().unwrap();
            spec.policy_types = Some(vec!["Ingress".into(), "Egress".into()]);
            spec.ingress = Some(vec![NetworkPolicyIngressRule::default()]);
        }
        object
    }

    pub fn baseline_object(&self, baseline: Baseline) -> RawBaseline {
        let misread = baseline.asked.is_none() && self.broken == Some(Broken::PlansInvalid);
        let asked = if misread { Some(Plan::Second) } else { baseline.asked };
        let mut object = self.forms().baselines[&asked].clone();
        object.metadata.uid = Some(baseline.uid.to_string());
        object.metadata.resource_version = Some(baseline.version.to_string());
        object.metadata.generation = i64::try_from(baseline.generation).ok();
        if baseline.selects_nothing {
            object.spec["namespaceSelector"] = json!({"matchLabels": {"nobody": "has-this-label"}});
        }
        let is_believed = self.broken == Some(Broken::BelievesConfirmations);
        let confirmed = if is_believed { baseline.generation } else { baseline.confirmed };
        if baseline.confirmed > 0 {
            object.metadata.annotations = Some([(CONFIRM_RELEASE.to_owned(), confirmed.to_string())].into());
        }
        object
    }

    pub fn namespace_object(&self, ns: Namespace) -> ObjectMeta {
        let seen_terminating = ns.terminating && self.broken != Some(Broken::SeesNoTermination);
        ObjectMeta {
            name: Some(NAMESPACE.into()),
            uid: Some(ns.uid.to_string()),
            // A later change has a higher one, which tells the operator nothing.
            resource_version: Some(ns.created.to_string()),
            labels: ns.selected.then(|| [(SELECTED.to_owned(), "yes".to_owned())].into()),
            deletion_timestamp: seen_terminating.then_some(Time(Timestamp::UNIX_EPOCH)),
            ..ObjectMeta::default()
        }
    }
}
