//! A NetworkPolicy, which any tenant may have written: what is read from it, whose it is, how it differs from a plan, and whether one
//! repair makes it as planned.

use std::{collections::BTreeMap, sync::LazyLock};

use jiff::Timestamp;
use k8s_openapi::{
    api::networking::v1::{NetworkPolicy, NetworkPolicySpec},
    apimachinery::pkg::apis::meta::v1::Time,
};
use policy_baseline::{
    Baseline, Class, Drift, Fingerprint, Interner, LABEL_ID, LABEL_MANAGED_BY, MANAGER, Observed, Openings, OtherTools, Peers,
    PlannedPolicies, PlannedPolicy, Policies, PolicyBaseline, Ports, Rendered, Repair, SlimPolicy, Uid, diff, own_id, residue,
    spec_digest, targets,
};
use serde_json::{Value, json};

use crate::{OPERATOR, watched};

const NAMESPACE: &str = "team-a";

/// A plan that every object is compared with.
struct Plan {
    baseline: Baseline,
    targets: PlannedPolicies,
}

/// The default plan, and a plan that sets every field on which a policy depends.
static PLANS: LazyLock<[Plan; 2]> = LazyLock::new(|| {
    ["{}", include_str!("../../src/policy/plan/golden/custom.json")].map(|spec| {
        let mut spec: Value = serde_json::from_str(spec).expect("the spec is JSON");
        spec["mode"] = "Enforce".into();
        let object = json!({"metadata": {"name": "platform"}, "spec": spec});
        let object: PolicyBaseline = serde_json::from_value(object).expect("the plan decodes");
        let baseline = Baseline::check(&object, OPERATOR).expect("the plan is valid");
        Plan { targets: targets(&baseline), baseline }
    })
});

/// Checks everything that must hold for a policy. Returns the drift of this policy from the default plan. None if it cannot be decoded.
///
/// # Panics
///
/// If a property does not hold.
pub fn policy(bytes: &[u8]) -> Option<Vec<Class>> {
    let delivered: Option<SlimPolicy> = watched(bytes);
    let delivered = delivered.map(NetworkPolicy::from);
    // A `Value` has each field only once, as an API server writes it.
    let value: Option<Value> = serde_json::from_slice(bytes).ok();
    let object = value.as_ref().and_then(decoded);
    if let Some(other) = delivered.as_ref().filter(|_| delivered != object) {
        holds(other);
    }
    let object = object?;
    holds(&object);
    let of_this = drifts(&PLANS[0], &object).into_iter().filter(|d| Some(&d.policy) == object.metadata.name.as_ref());
    Some(of_this.map(|d| d.class).collect())
}

/// The policy as a watch reads it. If the whole object can be decoded, the partial decoding succeeds too and has the same effect.
fn decoded(value: &Value) -> Option<NetworkPolicy> {
    let slim = serde_json::from_value::<SlimPolicy>(value.clone()).map(NetworkPolicy::from);
    if let Ok(full) = serde_json::from_value::<NetworkPolicy>(value.clone())
        && value["metadata"].is_object()
    {
        is_stable(&full);
        read_alike(&full, slim.as_ref().expect("what can be read as a whole can be read in part"));
    }
    slim.ok()
}

fn holds(object: &NetworkPolicy) {
    is_stable(object);
    is_seen_once(object);
    meaning_decides(object);
    rules_only_add(object);
    deletes_only_ours(object);
    // Its tenant may also have given it a planned name, and labels that mark it as ours.
    for (plan, index) in [(&PLANS[0], 1), (&PLANS[1], 0), (&PLANS[1], 2)] {
        let planned = &plan.baseline.policies[index];
        let mut taken = settled(object);
        taken.metadata.name = Some(planned.name.clone());
        taken.metadata.namespace = Some(NAMESPACE.to_owned());
        is_repaired_at_once(plan, index, &taken);
        forge(&mut taken);
        assert!(print(&taken).ours);
        drift_is_what_means_something_else(plan, index, &taken);
        is_repaired_at_once(plan, index, &taken);
    }
    let mut forged = settled(object);
    forge(&mut forged);
    deletes_only_ours(&forged);
}

/// A further rule never closes what a policy opens. A rule for everybody opens everything.
fn rules_only_add(object: &NetworkPolicy) {
    let Some(spec) = &object.spec else { return };
    let before = Openings::of(spec).ingress;
    let with = |rule: Value| {
        let mut spec = spec.clone();
        spec.ingress.get_or_insert_default().push(serde_json::from_value(rule).expect("the rule decodes"));
        Openings::of(&spec).ingress
    };
    assert_eq!(with(json!({"from": [{"podSelector": {"matchLabels": {"app": "web"}}}]})), before);
    let open = with(json!({}));
    assert!(open.is_none_or(|o| o.peers == Peers::Everybody && o.ports == Ports::All), "{open:?}");
    assert!(open.is_some() || before.is_none());
}

fn print(object: &NetworkPolicy) -> Fingerprint {
    Fingerprint::of(object, &mut Interner::default())
}

fn to_value(object: &NetworkPolicy) -> Value {
    serde_json::to_value(object).expect("a policy is JSON")
}

/// Encoding and decoding gives the same object.
fn is_stable(object: &NetworkPolicy) {
    let object = settled(object);
    let again: NetworkPolicy = serde_json::from_value(to_value(&object)).expect("what was encoded decodes");
    assert_eq!(again, object);
    assert_eq!(print(&again), print(&object));
}

/// The fields that the watch does not read have no influence.
fn read_alike(full: &NetworkPolicy, slim: &NetworkPolicy) {
    assert_eq!(print(full), print(slim));
    assert_eq!(full.spec, slim.spec);
    for planned in &PLANS[1].baseline.policies {
        let left = |object| residue(object, &planned.labels, &planned.annotations, Some("l:a,a:b"), &OtherTools::default());
        assert_eq!(left(full), left(slim));
    }
}

/// A second event with the same object changes nothing. After a deletion the object is gone.
fn is_seen_once(object: &NetworkPolicy) {
    let mut observed = Observed::default();
    let news = observed.policy_seen(object);
    assert_eq!(observed.policy_seen(object), None);
    assert_eq!(observed.policy_deleted(object), news);
    assert_eq!(observed.iter().count(), 0);
}

/// Two specs have the same digest exactly if they mean the same, checked by an independent implementation of "meaning".
fn meaning_decides(object: &NetworkPolicy) {
    let Some(spec) = &object.spec else { return };
    let means = meaning(spec);
    let other: NetworkPolicySpec = serde_json::from_value(means.clone()).expect("what it means is a spec");
    assert_eq!(spec_digest(Some(spec)), spec_digest(Some(&other)));
    for planned in PLANS.iter().flat_map(|plan| &plan.baseline.policies) {
        let same = spec_digest(Some(spec)) == spec_digest(Some(&planned.spec));
        assert_eq!(same, means == meaning(&planned.spec), "{means}");
    }
}

/// The spec without anything that the API server drops or fills in.
fn meaning(spec: &NetworkPolicySpec) -> Value {
    let mut value = without_empty_lists(serde_json::to_value(spec).expect("a spec is JSON"));
    for direction in ["ingress", "egress"] {
        let rules = value.get_mut(direction).and_then(Value::as_array_mut);
        let ports = rules.into_iter().flatten().filter_map(|rule| rule.get_mut("ports")?.as_array_mut());
        for port in ports.flatten() {
            if port.get("protocol").is_none() {
                port["protocol"] = "TCP".into();
            }
        }
    }
    let mut types: Vec<String> = spec.policy_types.clone().unwrap_or_default();
    if types.is_empty() {
        types.push("Ingress".into());
        if value.get("egress").is_some() {
            types.push("Egress".into());
        }
    }
    types.sort_unstable();
    types.dedup();
    value["policyTypes"] = types.into();
    if value.get("podSelector").is_none() {
        value["podSelector"] = json!({});
    }
    value
}

/// An empty list counts as absent, and so do empty labels. An empty selector, rule or port does not.
fn without_empty_lists(value: Value) -> Value {
    let is_nothing = |key: &str, value: &Value| match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => key == "matchLabels" && fields.is_empty(),
        _ => false,
    };
    match value {
        Value::Object(fields) => {
            fields.into_iter().filter(|(k, v)| !is_nothing(k, v)).map(|(k, v)| (k, without_empty_lists(v))).collect()
        }
        Value::Array(items) => items.into_iter().map(without_empty_lists).collect(),
        other => other,
    }
}

fn planned(plan: &Plan) -> impl Iterator<Item = PlannedPolicy<'_>> {
    plan.baseline.policies.iter().enumerate().filter_map(|(index, policy)| plan.targets.of(index, policy))
}

/// The drift of a namespace that holds only this object, if everything of ours may be removed.
fn drifts(plan: &Plan, object: &NetworkPolicy) -> Vec<Drift> {
    let name = object.metadata.name.as_deref().unwrap_or_default();
    let observed: Policies = [(name.into(), print(object))].into_iter().collect();
    diff(planned(plan), &observed, |_| true)
}

/// I4: a policy is deleted only if it has the id of its own namespace and name, and only the version that was seen.
fn deletes_only_ours(object: &NetworkPolicy) {
    let meta = &object.metadata;
    let (namespace, name) = (meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default());
    let label = |key: &str| meta.labels.as_ref().and_then(|labels| labels.get(key)).cloned();
    let ours = label(LABEL_MANAGED_BY).as_deref() == Some(MANAGER) && label(LABEL_ID) == Some(own_id(&namespace, &name));
    for drift in PLANS.iter().flat_map(|plan| drifts(plan, object)) {
        if let Repair::Delete { uid, version } = drift.fix {
            assert!(ours && meta.deletion_timestamp.is_none(), "{name} is not ours to delete");
            assert_eq!((drift.class, &drift.policy), (Class::Stale, &name));
            assert_eq!(uid, Uid::from(meta.uid.as_deref().unwrap_or_default()));
            assert!(version == 0 || meta.resource_version.as_deref().is_some_and(|v| v.parse() == Ok(version)));
        }
    }
}

/// For a policy of ours with a planned name: its spec is drift exactly if it means something else than the planned one.
fn drift_is_what_means_something_else(plan: &Plan, index: usize, object: &NetworkPolicy) {
    let planned = &plan.baseline.policies[index];
    let of_this: Vec<Drift> = drifts(plan, object).into_iter().filter(|d| d.policy == planned.name).collect();
    let same = meaning(&object.spec.clone().unwrap_or_default()) == meaning(&planned.spec);
    match of_this.as_slice() {
        [] => assert!(same, "a spec that means something else goes unseen"),
        [drift] => match drift.class {
            Class::SpecChanged => assert!(!same),
            Class::MetadataChanged => assert!(same),
            Class::Pinned => {}
            Class::Terminating => assert!(object.metadata.deletion_timestamp.is_some()),
            class @ (Class::Missing | Class::Unmanaged | Class::Stale) => unreachable!("{class:?}"),
        },
        several => unreachable!("{several:?}"),
    }
}

/// I1, I3: a repair of the existing object leaves nothing to repair, and contains nothing that an API server refuses.
fn is_repaired_at_once(plan: &Plan, index: usize, object: &NetworkPolicy) {
    let planned = &plan.baseline.policies[index];
    let drift_of = |object: &NetworkPolicy| drifts(plan, object).into_iter().find(|d| d.policy == planned.name);
    let Some(drift) = drift_of(object) else { return };
    let Repair::Apply { index: applied, uid, former_keys, expected } = drift.fix else {
        assert_eq!((drift.class, drift.fix), (Class::Terminating, Repair::WaitForFinalizer));
        return;
    };
    assert_eq!((applied, uid), (index, Some(Uid::from(object.metadata.uid.as_deref().unwrap_or_default()))));
    let stored = applied_over(planned, object);
    let left = |object: &NetworkPolicy| {
        residue(object, &planned.labels, &planned.annotations, former_keys.as_deref(), &OtherTools::default())
    };
    let repaired = left(&stored).map_or_else(|| stored.clone(), |patch| patched(&stored, &patch));
    assert_eq!(left(&repaired), None);
    assert!(expected.is(&print(&repaired)));
    match drift_of(&repaired) {
        None => {}
        Some(drift) => assert_eq!((drift.class, drift.fix), (Class::Terminating, Repair::WaitForFinalizer)),
    }
    // Keys that others wrote into the metadata stay, if the object records no former keys of ours.
    let foreign = |key: &&String| key.starts_with("tenant.example/");
    let keys = |map: Option<&BTreeMap<String, String>>| -> Vec<String> {
        map.into_iter().flatten().map(|(key, _)| key).filter(foreign).cloned().collect()
    };
    if former_keys.is_none() {
        assert_eq!(keys(repaired.metadata.labels.as_ref()), keys(object.metadata.labels.as_ref()));
        assert_eq!(keys(repaired.metadata.annotations.as_ref()), keys(object.metadata.annotations.as_ref()));
    }
}

/// The result of a forced apply: our fields as planned, the other fields unchanged.
fn applied_over(planned: &Rendered, object: &NetworkPolicy) -> NetworkPolicy {
    let sent: NetworkPolicy = serde_json::from_value(planned.object(NAMESPACE, None)).expect("what is sent is a policy");
    let mut stored = object.clone();
    stored.metadata.labels.get_or_insert_default().extend(sent.metadata.labels.unwrap_or_default());
    stored.metadata.annotations.get_or_insert_default().extend(sent.metadata.annotations.unwrap_or_default());
    stored.spec = sent.spec;
    stored
}

/// The result of a JSON patch on an API server. It refuses the patch if any operation does not fit.
fn patched(object: &NetworkPolicy, patch: &Value) -> NetworkPolicy {
    let mut value = to_value(object);
    for operation in patch.as_array().expect("a patch is a list") {
        let pointer = operation["path"].as_str().expect("a path is a text");
        match operation["op"].as_str() {
            Some("test") => assert_eq!(value.pointer(pointer), operation.get("value"), "{operation}"),
            Some("replace") => *value.pointer_mut(pointer).expect("what is replaced is there") = operation["value"].clone(),
            Some("remove") => {
                let (parent, key) = pointer.rsplit_once('/').expect("a path has a last part");
                let key = key.replace("~1", "/").replace("~0", "~");
                let parent = value.pointer_mut(parent).and_then(Value::as_object_mut).expect("what is removed has a place");
                parent.remove(&key).expect("what is removed is there");
            }
            _ => unreachable!("{operation}"),
        }
    }
    serde_json::from_value(value).expect("what was patched is a policy")
}

/// The object with the fields that every stored object has. Times are normalized, so only their presence is compared.
fn settled(object: &NetworkPolicy) -> NetworkPolicy {
    let mut object = object.clone();
    let meta = &mut object.metadata;
    meta.resource_version.get_or_insert_with(|| "1".to_owned());
    meta.creation_timestamp = None;
    meta.managed_fields = None;
    meta.deletion_timestamp = meta.deletion_timestamp.take().map(|_| Time(Timestamp::UNIX_EPOCH));
    object
}

/// Makes the object look like one of ours.
fn forge(object: &mut NetworkPolicy) {
    let meta = &mut object.metadata;
    let id = own_id(meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default());
    let labels = meta.labels.get_or_insert_default();
    labels.extend([(LABEL_MANAGED_BY.to_owned(), MANAGER.to_owned()), (LABEL_ID.to_owned(), id)]);
}
