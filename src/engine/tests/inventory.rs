//! What is ours in a cluster, and which policies no baseline plans any more.

use jiff::Timestamp;
use k8s_openapi::{api::apps::v1::ControllerRevision, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use serde_json::{Value, json};

use crate::{
    api::names::{FINALIZER, LABEL_DECIDED, LABEL_ID},
    engine::inventory::ClusterContents,
    policy::{
        inventory::{Inventory, ManagedKind, Standing},
        plan::Revision,
    },
    testkit::{baseline_object, checked, observed},
};

const NS: &str = "team-a";

/// A cluster with one namespace, in which a baseline with this spec has written its policies.
fn written_by(name: &str, spec: Value) -> ClusterContents {
    let policies = checked(name, spec).policies.iter().map(|policy| observed(policy, NS).metadata).collect();
    ClusterContents {
        operator_namespace: "policy-baseline-system".into(),
        namespaces: vec![meta(NS)],
        policies,
        ..Default::default()
    }
}

fn meta(name: &str) -> ObjectMeta {
    serde_json::from_value(json!({"name": name, "uid": format!("uid-{name}"), "labels": {"tier": "prod"}})).unwrap()
}

impl ClusterContents {
    /// Adds a baseline. `more` is merged into the object.
    fn baseline(mut self, name: &str, spec: Value, more: Value) -> Self {
        let mut object = serde_json::to_value(baseline_object(name, spec)).unwrap();
        for (key, value) in more.as_object().into_iter().flatten() {
            match value.as_object() {
                Some(fields) => fields.iter().for_each(|(field, value)| object[key][field] = value.clone()),
                None => object[key] = value.clone(),
            }
        }
        self.baselines.push(serde_json::from_value(object).unwrap());
        self
    }

    fn found(&self) -> Inventory {
        self.inventory(Timestamp::UNIX_EPOCH)
    }

    /// The standing of every policy, and the state of the first one.
    fn standing(&self) -> (Vec<Standing>, String) {
        let found = self.found();
        let standings = found.policies.iter().map(|policy| policy.standing).collect();
        (standings, found.policies[0].state.clone())
    }
}

fn renamed() -> Value {
    json!({"metadata": {"namePrefix": "new-"}})
}

#[test]
fn a_policy_is_planned_while_its_baseline_plans_it_under_its_name() {
    let found = written_by("b", json!({})).baseline("b", json!({}), json!({})).standing();
    assert_eq!(found, (vec![Standing::Planned; 3], "planned".into()));
}

#[test]
fn i4_a_policy_whose_baseline_does_not_exist_is_an_orphan_unless_another_baseline_plans_it() {
    let (standings, state) = written_by("b", json!({})).standing();
    assert_eq!((standings, &*state), (vec![Standing::Orphan; 3], "orphan: there is no baseline b; nobody removes it"));
    let (standings, _) = written_by("b", json!({})).baseline("c", renamed(), json!({})).standing();
    assert_eq!(standings, [Standing::Orphan; 3], "another baseline with another prefix takes nothing over");

    let (standings, state) = written_by("b", json!({})).baseline("c", json!({}), json!({})).standing();
    assert_eq!((standings, &*state), (vec![Standing::Planned; 3], "planned by c, which takes it over"));
    let (standings, state) = written_by("b", json!({})).baseline("c", json!({"suspend": true}), json!({})).standing();
    assert_eq!(standings, [Standing::Planned; 3], "{state}");
}

/// Whatever holds the policies of a former prefix back, they are counted, and the state says what holds them.
#[test]
fn i1_after_a_change_of_prefix_nothing_of_the_old_one_is_uncounted() {
    let with = |mut spec: Value, more: Value| {
        spec["metadata"] = json!({"namePrefix": "new-"});
        let (standings, state) = written_by("b", json!({})).baseline("b", spec, more).standing();
        assert_eq!(standings, [Standing::LeftOver; 3], "{state}");
        state
    };
    let no_name = |rest: &str| format!("left over: b plans no policy of this name here; {rest}");
    let removes = "the operator removes it once everything planned is in place";
    assert_eq!(with(json!({}), json!({})), no_name(removes));
    assert_eq!(with(json!({"suspend": true}), json!({})), no_name("left as it is while b is suspended"));
    assert_eq!(with(json!({"mode": "Audit"}), json!({})), no_name("left as it is while b is in mode Audit"));
    let deleting = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}});
    assert_eq!(with(json!({}), deleting.clone()), no_name("left as it is: b is being deleted with deletionPolicy Orphan"));
    assert_eq!(with(json!({"deletionPolicy": "Delete"}), deleting), no_name(removes));

    let elsewhere = json!({"namespaceSelector": {"matchLabels": {"tier": "test"}}});
    let not_selected = |rest: &str| format!("left over: b does not select this namespace; {rest}");
    assert_eq!(with(elsewhere.clone(), json!({})), not_selected(removes));
    let condition = json!({"type": "AwaitingConfirmation", "status": "True", "reason": "AwaitingConfirmation", "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z"});
    let awaits = json!({"status": {"conditions": [condition]}});
    assert_eq!(with(elsewhere, awaits), not_selected("left as it is while b is suspended, stalled or awaits a confirmation"));
}

#[test]
fn a_policy_in_a_namespace_that_is_being_deleted_or_of_a_baseline_that_is_stalled_says_so() {
    let mut contents = written_by("b", json!({})).baseline("b", renamed(), json!({}));
    contents.namespaces[0].deletion_timestamp = serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap();
    let (standings, state) = contents.standing();
    assert!(standings == [Standing::LeftOver; 3] && state.ends_with("its namespace is being deleted"), "{state}");

    let broken = json!({"excludeNamespaces": ["[", "Bad Name"]});
    let contents = written_by("b", json!({})).baseline("b", broken, json!({"spec": {"priority": "none"}}));
    let (standings, state) = contents.standing();
    assert!(standings == [Standing::Planned; 3] && state.starts_with("b is stalled"), "no orphan, because b exists: {state}");
}

#[test]
fn what_a_rollout_keeps_in_a_namespace_is_planned() {
    let spec = json!({"rollout": {}, "metadata": {"namePrefix": "new-"}});
    let mut contents = written_by("b", json!({})).baseline("b", spec, json!({}));
    assert_eq!(contents.standing().0, [Standing::LeftOver; 3]);
    let former = Revision::of(&baseline_object("b", json!({})).spec);
    let revision = |owner: &str| -> ControllerRevision {
        serde_json::from_value(json!({
            "metadata": {"name": format!("b-{}", former.id), "labels": {"policybaseline.io/baseline": "b"}, "ownerReferences":
                [{"apiVersion": "policybaseline.io/v1alpha1", "kind": "PolicyBaseline", "name": "b", "uid": owner}]},
            "data": former.data, "revision": 100,
        }))
        .unwrap()
    };
    contents.revisions = vec![revision("uid-of-a-former-b")];
    assert_eq!(contents.standing().0, [Standing::LeftOver; 3], "a former baseline of the same name stored it");
    contents.revisions = vec![revision("uid-b")];
    assert_eq!(contents.standing().0, [Standing::Planned; 3]);
}

#[test]
fn i4_a_copy_of_one_of_our_policies_is_shown_and_is_not_ours() {
    let mut contents = written_by("b", json!({}));
    contents.policies.truncate(1);
    contents.policies[0].name = Some("my-copy".into());
    let mut relabelled = observed(&checked("b", json!({})).policies[1], NS).metadata;
    relabelled.labels.as_mut().unwrap().remove(LABEL_ID);
    contents.policies.extend([relabelled, meta("allow-web")]);
    let found = contents.found();
    let names: Vec<&str> = found.policies.iter().map(|policy| &*policy.object.name).collect();
    assert_eq!(names, ["baseline-default-deny-egress", "my-copy"], "a tenant's own policy is not shown");
    assert!(found.policies.iter().all(|policy| policy.standing == Standing::NotOurs), "{found}");
}

#[test]
fn an_opt_out_in_force_leaves_its_policy_over() {
    let mut contents = written_by("b", json!({})).baseline("b", json!({}), json!({}));
    let opt_out = |expires: &str| {
        json!({"apiVersion": "policybaseline.io/v1alpha1", "kind": "BaselineOptOut",
            "metadata": {"name": "o", "namespace": NS, "creationTimestamp": "1970-01-01T00:00:00Z"},
            "spec": {"policies": ["DefaultDenyIngress"], "reason": "a reason of more than twenty characters", "expiresAt": expires}})
    };
    let standing_with = |contents: &mut ClusterContents, expires: &str| {
        contents.opt_outs = vec![serde_json::from_value(opt_out(expires)).unwrap()];
        let found = contents.found();
        let is_ingress = |name: &str| name.ends_with("ingress");
        found.policies.iter().find(|policy| is_ingress(&policy.object.name)).unwrap().standing
    };
    assert_eq!(standing_with(&mut contents, "1970-01-02T00:00:00Z"), Standing::LeftOver);
    assert_eq!(standing_with(&mut contents, "1970-01-01T00:00:00Z"), Standing::Planned, "it has expired");
}

#[test]
fn all_other_objects_of_ours_are_found() {
    let with_finalizer = json!({"metadata": {"finalizers": [FINALIZER]}});
    let mut contents = written_by("b", json!({})).baseline("b", json!({}), with_finalizer);
    let lease = |namespace: &str, holder: &str| {
        let object = json!({"metadata": {"name": "policy-baseline", "namespace": namespace}, "spec": {"holderIdentity": holder}});
        serde_json::from_value(object).unwrap()
    };
    contents.leases = vec![lease("policy-baseline-system", "pod-1"), lease("other", "pod-2")];
    contents.namespaces[0].labels.as_mut().unwrap().insert(LABEL_DECIDED.into(), "protected".into());
    contents.admission_policies = vec![meta("policy-baseline-protect-policies")];
    contents.admission_bindings = vec![meta("policy-baseline-protect-policies")];
    let found: Vec<_> = contents.found().others.into_iter().map(|other| (other.object.kind, other.state)).collect();
    let expected = [
        (ManagedKind::ValidatingAdmissionPolicyBinding, "of an admission component"),
        (ManagedKind::ValidatingAdmissionPolicy, "of an admission component"),
        (ManagedKind::PolicyBaseline, "has the finalizer policybaseline.io/delete-policies"),
        (ManagedKind::Lease, "held by pod-1"),
        (ManagedKind::Namespace, "labelled policybaseline.io/decided=protected"),
    ];
    assert_eq!(found, expected.map(|(kind, state)| (kind, state.to_owned())), "the Lease of another install is not ours");
}
