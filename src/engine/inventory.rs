//! Finds out which objects of a cluster are ours, and which of the policies a baseline plans. `policy/inventory/` shows the result.
//!
//! It decides like the operator, with two differences. It does not know which Services the API server calls, so a policy that is left out
//! for that reason counts as planned. And it judges a policy by its name only, not by its content.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use k8s_openapi::{
    api::{apps::v1::ControllerRevision, coordination::v1::Lease},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use super::{
    facts::{baseline::RawBaseline, opt_out::RawOptOut},
    outbox::told::{told_rest, told_to_wait},
};
use crate::{
    api::{
        NamespaceName, Role,
        baseline::{DeletionPolicy, Mode},
        lease,
        names::{FINALIZER, LABEL_BASELINE, LABEL_DECIDED, LABEL_ROLE},
        resource_version,
    },
    policy::{
        drift::{has_our_labels, is_ours},
        inventory::{Inventory, ManagedKind, ManagedObject, ManagedPolicy, OtherManaged, Standing},
        plan::{Baseline, Baselines, Decision, Holdings, Known, Namespace, OptOut, Revision},
    },
};

/// What was read from a cluster.
#[derive(Debug, Default)]
pub struct ClusterContents {
    /// The namespace of the operator.
    pub operator_namespace: String,
    /// All namespaces.
    pub namespaces: Vec<ObjectMeta>,
    /// All NetworkPolicies.
    pub policies: Vec<ObjectMeta>,
    /// All baselines.
    pub baselines: Vec<RawBaseline>,
    /// All opt-outs.
    pub opt_outs: Vec<RawOptOut>,
    /// The revisions with labels of ours in the operator's namespace.
    pub revisions: Vec<ControllerRevision>,
    /// The Leases with our name, in all namespaces.
    pub leases: Vec<Lease>,
    /// The admission policies with our label.
    pub admission_policies: Vec<ObjectMeta>,
    /// The bindings with our label.
    pub admission_bindings: Vec<ObjectMeta>,
    /// The resources that could not be read.
    pub unread: Vec<&'static str>,
}

impl ClusterContents {
    /// Everything that is ours.
    pub fn inventory(&self, now: Timestamp) -> Inventory {
        let judge = Judge::of(self, now);
        let mut policies: Vec<ManagedPolicy> =
            self.policies.iter().filter(|meta| is_ours(meta) || has_our_labels(meta)).map(|meta| judge.policy(meta)).collect();
        policies.sort_by(|a, b| a.object.cmp(&b.object));
        let mut others = self.others();
        others.sort_by(|a, b| a.object.cmp(&b.object));
        Inventory { policies, others, unread: self.unread.clone() }
    }

    fn others(&self) -> Vec<OtherManaged> {
        let of = |kind, meta: &ObjectMeta, state: String| OtherManaged { object: managed(kind, meta), state };
        let refuses = || "of an admission component".to_owned();
        let mut others: Vec<OtherManaged> = Vec::new();
        others.extend(
            self.admission_bindings.iter().map(|meta| of(ManagedKind::ValidatingAdmissionPolicyBinding, meta, refuses())),
        );
        others.extend(self.admission_policies.iter().map(|meta| of(ManagedKind::ValidatingAdmissionPolicy, meta, refuses())));
        others.extend(self.baselines.iter().map(|raw| of(ManagedKind::PolicyBaseline, &raw.metadata, finalizer_state(raw))));
        others.extend(self.opt_outs.iter().map(|raw| of(ManagedKind::BaselineOptOut, &raw.metadata, String::new())));
        let revision = |revision: &ControllerRevision| {
            let of_baseline = label(&revision.metadata, LABEL_BASELINE).unwrap_or_default();
            of(ManagedKind::ControllerRevision, &revision.metadata, format!("a former spec of baseline {of_baseline}"))
        };
        others.extend(self.revisions.iter().map(revision));
        let own = self.leases.iter().filter(|lease| lease.metadata.namespace.as_ref() == Some(&self.operator_namespace));
        others.extend(own.map(|lease| {
            let holder = lease::record(lease).holder;
            let state = if holder.is_empty() { "nobody holds it".into() } else { format!("held by {holder}") };
            of(ManagedKind::Lease, &lease.metadata, state)
        }));
        let labelled = |meta: &ObjectMeta| {
            let decided = label(meta, LABEL_DECIDED)?;
            Some(of(ManagedKind::Namespace, meta, format!("labelled {LABEL_DECIDED}={decided}")))
        };
        others.extend(self.namespaces.iter().filter_map(labelled));
        others
    }
}

fn managed(kind: ManagedKind, meta: &ObjectMeta) -> ManagedObject {
    ManagedObject {
        kind,
        namespace: meta.namespace.clone(),
        name: meta.name.clone().unwrap_or_default(),
        uid: meta.uid.clone().unwrap_or_default(),
        resource_version: meta.resource_version.clone().unwrap_or_default(),
        finalizers: meta.finalizers.clone().unwrap_or_default(),
        labels: meta.labels.clone().unwrap_or_default(),
    }
}

fn label<'a>(meta: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    meta.labels.as_ref()?.get(key).map(String::as_str)
}

fn finalizer_state(raw: &RawBaseline) -> String {
    let has_finalizer = raw.metadata.finalizers.iter().flatten().any(|f| f == FINALIZER);
    let deleting = raw.metadata.deletion_timestamp.is_some();
    match (has_finalizer, deleting) {
        (true, true) => "is being deleted, and waits until the operator has removed its policies and the finalizer".into(),
        (true, false) => format!("has the finalizer {FINALIZER}"),
        (false, true) => "is being deleted".into(),
        (false, false) => "has no finalizer of the operator".into(),
    }
}

/// Judges policies: knows all baselines, and what each namespace has.
struct Judge {
    baselines: Baselines,
    /// By baseline: the revisions that a rollout may still use.
    formers: BTreeMap<Arc<str>, Vec<Baseline>>,
    namespaces: BTreeMap<String, (Namespace, Holdings)>,
}

impl Judge {
    fn of(contents: &ClusterContents, now: Timestamp) -> Self {
        let own = &*contents.operator_namespace;
        let mut baselines = Baselines::default();
        let mut formers = BTreeMap::new();
        for raw in &contents.baselines {
            let name: Arc<str> = raw.metadata.name.as_deref().unwrap_or_default().into();
            let status = raw.stored_status();
            let since = status.as_ref().and_then(|status| told_rest(Some(status), raw.metadata.generation));
            let Ok(baseline) = raw.check(own) else {
                baselines.insert_invalid(name.clone());
                baselines.set_resting_since(&name, since);
                continue;
            };
            if baseline.rollout.is_some() {
                let revisions = contents.revisions.iter().filter_map(|revision| stored(revision, raw));
                let former = revisions.filter_map(|revision| baseline.at(&revision, own).ok());
                formers.insert(name.clone(), former.collect::<Vec<_>>());
            }
            baselines.insert(Arc::new(baseline));
            baselines.set_resting_since(&name, since);
            baselines.await_confirmation(&name, status.as_ref().is_some_and(told_to_wait));
        }
        let mut opt_outs: BTreeMap<&str, Vec<OptOut>> = BTreeMap::new();
        for raw in contents.opt_outs.iter().filter(|raw| raw.metadata.deletion_timestamp.is_none()) {
            if let Ok(opt_out) = raw.check()
                && !opt_out.is_over(now)
            {
                opt_outs.entry(raw.metadata.namespace.as_deref().unwrap_or_default()).or_default().push(opt_out);
            }
        }
        let mut held: BTreeMap<&str, Holdings> = BTreeMap::new();
        for meta in contents.policies.iter().filter(|meta| is_ours(meta)) {
            let holdings = held.entry(meta.namespace.as_deref().unwrap_or_default()).or_default();
            holdings.any = true;
            let Some(owner) = label(meta, LABEL_BASELINE).map(Arc::<str>::from) else { continue };
            let is = |role: &Role| meta.name.as_deref().is_some_and(|name| name.ends_with(role.suffix()));
            let role = [Role::DefaultDenyIngress, Role::DefaultDenyEgress].into_iter().find(is);
            holdings.denies.extend(role.map(|role| (role, owner.clone())));
            let version = resource_version(meta.resource_version.as_deref());
            holdings.add_named(owner, meta.deletion_timestamp.is_none().then_some(version));
        }
        let with_holdings = |meta: &ObjectMeta| {
            let name = meta.name.clone().unwrap_or_default();
            let opt_outs = opt_outs.remove(&*name).unwrap_or_default();
            let holdings = held.get(&*name).cloned().unwrap_or_default();
            (name, (namespace(meta, opt_outs), holdings))
        };
        let namespaces = contents.namespaces.iter().map(with_holdings).collect();
        Self { baselines, formers, namespaces }
    }

    fn policy(&self, meta: &ObjectMeta) -> ManagedPolicy {
        let (standing, state) = self.standing(meta);
        ManagedPolicy {
            object: managed(ManagedKind::NetworkPolicy, meta),
            role: label(meta, LABEL_ROLE).map(Into::into),
            baseline: label(meta, LABEL_BASELINE).map(Into::into),
            standing,
            state,
        }
    }

    fn standing(&self, meta: &ObjectMeta) -> (Standing, String) {
        if !is_ours(meta) {
            let why =
                "not the operator's: it has the operator's labels, but not the id for its name; the operator leaves it alone";
            return (Standing::NotOurs, why.into());
        }
        let name = meta.name.as_deref().unwrap_or_default();
        let owner = label(meta, LABEL_BASELINE).unwrap_or_default();
        let found = self.namespaces.get(meta.namespace.as_deref().unwrap_or_default());
        let decision = found.map(|(ns, holdings)| self.baselines.decide(ns, holdings).decision);
        if let (Some((ns, _)), Some(decision)) = (found, &decision)
            && let Some(keeper) = self.baselines.keeper(decision, ns)
            && self.plans(keeper, ns, name)
        {
            let state = match decision {
                Decision::Frozen(by) => format!("planned by {by}; {}", fate(keeper, Some(decision))),
                _ if *keeper.name == *owner => "planned".into(),
                _ => format!("planned by {}, which takes it over", keeper.name),
            };
            return (Standing::Planned, state);
        }
        match self.baselines.known(owner) {
            Known::Gone if owner.is_empty() => (Standing::Orphan, "orphan: it names no baseline; nobody removes it".into()),
            Known::Gone => (Standing::Orphan, format!("orphan: there is no baseline {owner}; nobody removes it")),
            Known::Invalid => {
                (Standing::Planned, format!("{owner} is stalled, so nobody can say whether it plans this; left as it is"))
            }
            Known::Valid(baseline) => {
                let selects = found.is_some_and(|(ns, _)| baseline.selects(ns));
                let plans = selects && found.is_some_and(|(ns, _)| self.plans(baseline, ns, name));
                let what = match found {
                    Some((ns, _)) if ns.terminating => "its namespace is being deleted".into(),
                    _ => fate(baseline, decision.as_ref()),
                };
                if plans {
                    (Standing::Planned, format!("planned; {what}"))
                } else if selects {
                    (Standing::LeftOver, format!("left over: {owner} plans no policy of this name here; {what}"))
                } else {
                    (Standing::LeftOver, format!("left over: {owner} does not select this namespace; {what}"))
                }
            }
        }
    }

    /// Whether a baseline plans a policy of this name in a namespace, or one of its revisions that a rollout may still use.
    fn plans(&self, baseline: &Baseline, ns: &Namespace, name: &str) -> bool {
        let formers = self.formers.get(&baseline.name).into_iter().flatten();
        [baseline].into_iter().chain(formers).any(|revision| revision.plans_named(name, ns))
    }
}

/// What happens to a policy of a valid baseline that this baseline does not keep as planned in its namespace.
fn fate(baseline: &Baseline, decision: Option<&Decision>) -> String {
    let name = &baseline.name;
    match decision {
        _ if baseline.suspended => format!("left as it is while {name} is suspended"),
        _ if baseline.deleting && baseline.deletion_policy == DeletionPolicy::Orphan => {
            format!("left as it is: {name} is being deleted with deletionPolicy Orphan")
        }
        Some(Decision::Frozen(by)) => format!("left as it is while {by} is suspended, stalled or awaits a confirmation"),
        _ if !baseline.deleting && baseline.mode == Mode::Audit => format!("left as it is while {name} is in mode Audit"),
        _ => "the operator removes it once everything planned is in place".into(),
    }
}

fn namespace(meta: &ObjectMeta, opt_outs: Vec<OptOut>) -> Namespace {
    let name = NamespaceName::observed(meta.name.as_deref().unwrap_or_default());
    let labels = meta.labels.iter().flatten().map(|(key, value)| (&**key, &**value)).collect();
    let created = meta.creation_timestamp.as_ref().map_or(Timestamp::UNIX_EPOCH, |at| at.0);
    Namespace {
        terminating: meta.deletion_timestamp.is_some(),
        opt_outs: opt_outs.into_iter().collect(),
        ..Namespace::new(name, labels, created)
    }
}

/// The revision of this baseline in a ControllerRevision; `None` if it is of another baseline, or was changed.
fn stored(object: &ControllerRevision, of: &RawBaseline) -> Option<Revision> {
    let is_owner = object.metadata.owner_references.iter().flatten().any(|owner| Some(&owner.uid) == of.metadata.uid.as_ref());
    let name = object.metadata.name.as_deref()?.strip_prefix(of.metadata.name.as_deref()?)?;
    is_owner.then_some(())?;
    Revision::stored(name.strip_prefix('-')?, &object.data.as_ref()?.0)
}
