//! What other users do: tenants to our policies and to their own, admins to namespaces and baselines.

use std::collections::BTreeSet;

use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use policy_baseline_e2e::{Dice, World};
use serde_json::{Value, json};

use super::Soak;
use super::model::{About, Health, Model};
use super::shape::{Place, Shape};
use crate::faults::PLACE;
use crate::scene::{apply_baseline, policies_of};
use crate::support::{label, namespaces, remove_namespace};

pub const MOST_OWN: usize = 3;

/// The result of a request. None if the object was not there, if somebody changed it at the same time, or if a quota refused it.
pub fn tried<T>(answer: kube::Result<T>) -> Option<T> {
    match answer {
        Ok(done) => Some(done),
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => None,
        Err(kube::Error::Api(status)) if status.code == 403 && status.message.contains("quota") => None,
        Err(other) => panic!("{other}"),
    }
}

/// The edits of a tenant. True if the operator may not recognise the policy afterwards.
fn edits() -> [(Value, bool); 11] {
    let open = json!({ "ingress": [{}], "egress": [{}], "policyTypes": ["Ingress", "Egress"] });
    [
        (json!({ "spec": open }), false),
        (json!({ "spec": { "podSelector": { "matchLabels": { "app": "none" } } } }), false),
        (json!({ "metadata": { "labels": null } }), true),
        (json!({ "metadata": { "labels": null, "annotations": null }, "spec": open }), true),
        (json!({ "metadata": { "labels": { "policybaseline.io/id": "x" } } }), true),
        (json!({ "metadata": { "labels": { "policybaseline.io/baseline": "nobody" } } }), true),
        (json!({ "metadata": { "annotations": { "policybaseline.io/plan": null } } }), false),
        (json!({ "metadata": { "managedFields": [{}] }, "spec": open }), false),
        (json!({ "metadata": { "labels": { "app.kubernetes.io/instance": "shop" } } }), false),
        (json!({ "metadata": { "labels": { "team": "a" } } }), false),
        (json!({ "metadata": { "finalizers": [FINALIZER] } }), false),
    ]
}

const FINALIZER: &str = "tenant.example/keep";

/// Whether the operator may think that the policy belongs to somebody else, or to nobody.
pub fn is_disguised(policy: &NetworkPolicy) -> bool {
    let says = |key: &str, value: &str| policy.labels().get(key).is_some_and(|found| found == value);
    !says("app.kubernetes.io/managed-by", "policy-baseline")
        || says("policybaseline.io/id", "x")
        || says("policybaseline.io/baseline", "nobody")
}

impl Soak {
    /// Changes what is planned, and informs the judge.
    pub async fn change(&mut self, about: About<'_>, model: impl FnOnce(&mut Model), cluster: impl AsyncFnOnce(&Self)) {
        self.let_opt_outs_end();
        let before = self.model.planned();
        model(&mut self.model);
        let after = self.model.planned();
        let both = before.intersection(&after).cloned().collect();
        let doubtful = self.model.doubtful(&both, about);
        for (name, policy) in before.difference(&after).chain(&doubtful) {
            self.judge.drops(name, policy);
        }
        cluster(self).await;
        for (name, policy) in after.difference(&before).chain(&doubtful) {
            self.judge.plans(name, policy);
        }
        self.unsteady.extend(before.symmetric_difference(&after).chain(&doubtful).cloned());
    }

    // Namespaces.

    /// Creates a namespace, unless one of that name still exists.
    pub async fn make(&mut self, name: &str, dice: &mut Dice) {
        if namespaces(&self.world).get_opt(name).await.unwrap().is_some() {
            return;
        }
        let place = Place::any(dice);
        self.judge.makes(name);
        // An instance that still sees the former namespace may write policies there and remove them later.
        for policy in Shape::all_names() {
            self.judge.drops(name, &policy);
        }
        let labels = [(PLACE, place.label())];
        self.change(
            About::Namespace(name),
            |model| model.place(name, place),
            async |soak| soak.world.namespace_named(name, &labels).await.unwrap(),
        )
        .await;
        self.count("namespaces made");
    }

    pub async fn remove(&mut self, name: &str, dice: &mut Dice) {
        // Nobody else would remove these finalizers.
        let held: Vec<_> = self.held.iter().filter(|(of, _)| of == name).cloned().collect();
        self.let_go(held).await;
        let planned = self.model.planned();
        self.unsteady.extend(planned.into_iter().filter(|(of, _)| of == name));
        self.model.remove(name);
        // A test may delete a namespace by hand only the first time.
        if dice.below(2) == 0 || self.judge.was_deleted(name) {
            tried(namespaces(&self.world).delete(name, &DeleteParams::default()).await).unwrap();
            self.judge.deleted(name);
            self.count("namespaces deleted");
        } else {
            remove_namespace(&self.world, name).await;
            self.judge.deleted(name);
            self.count("namespaces deleted and made again at once");
            self.make(name, dice).await;
        }
    }

    pub async fn relabel(&mut self, name: &str, dice: &mut Dice) {
        let place = Place::any(dice);
        let to = Some(place.label());
        self.change(
            About::Namespace(name),
            |model| model.place(name, place),
            async |soak| label(&soak.world, name, PLACE, to).await,
        )
        .await;
        self.count("namespaces relabelled");
    }

    // Baselines.

    async fn apply(&self, of: Place) {
        apply_baseline(&self.world, of.label(), &self.model.spec(of)).await;
    }

    pub async fn edit_a_baseline(&mut self, dice: &mut Dice) {
        // While the strict baseline is not valid, its only allowed change is to become valid again.
        let of = if self.model.health == Health::Valid { dice.pick(&[Place::Platform, Place::Strict]) } else { Place::Platform };
        let before = self.model.shape(of);
        let shape = before.edited(dice);
        if !shape.needs_api() {
            self.tells_no_api(of).await;
        }
        self.change(About::Baseline(of), |model| model.edit(of, shape), async |soak| soak.apply(of).await).await;
        let in_waves = shape.goes_in_waves() && !shape.writes_as(before);
        self.count(if in_waves { "baselines edited, in waves" } else { "baselines edited, at once" });
    }

    /// Makes the strict baseline invalid or sets it to Audit; or makes it valid again.
    pub async fn turn_strict(&mut self, dice: &mut Dice) {
        let health = dice.pick(&[Health::Broken, Health::Broken, Health::Audits]);
        let (health, what) = match (self.model.health, health) {
            (Health::Valid, Health::Audits) => (Health::Audits, "baselines to Audit"),
            (Health::Valid, _) => (Health::Broken, "baselines made invalid"),
            (Health::Broken | Health::Audits, _) => (Health::Valid, "baselines made valid again"),
        };
        let strict = Place::Strict;
        self.change(About::Baseline(strict), |model| model.strict_becomes(health), async |soak| soak.apply(strict).await).await;
        self.count(what);
    }

    pub async fn begin(&mut self) {
        for place in [Place::Platform, Place::Strict] {
            self.apply(place).await;
        }
    }

    // Policies of tenants.

    pub async fn own_policy(&mut self, name: &str, dice: &mut Dice) {
        let policies = policies_of(&self.client, name);
        let theirs: Vec<String> = self.judge.space(name).theirs.keys().cloned().collect();
        let chosen = theirs.get(dice.below(MOST_OWN)).cloned();
        let (port, deletes, copies) = (1 + dice.below(60_000), dice.below(3) == 0, dice.below(2) == 0);
        match chosen {
            None => {
                let own = json!({ "metadata": { "name": World::unique("own") }, "spec": { "podSelector": {}, "ingress": [{}] } });
                let mut own: NetworkPolicy = serde_json::from_value(own).unwrap();
                if copies && let Some(copied) = self.one_of_ours(name, dice).await {
                    own.metadata.labels = copied.metadata.labels;
                    own.metadata.annotations = copied.metadata.annotations;
                    own.spec = copied.spec;
                }
                let Some(made) = tried(policies.create(&PostParams::default(), &own).await) else { return };
                self.judge.space(name).theirs.insert(made.name_any(), made.resource_version().unwrap());
                self.count("policies of tenants made");
            }
            Some(own) if deletes => {
                let gone = policies.delete(&own, &DeleteParams::default()).await;
                assert!(gone.is_ok(), "I4: {name}/{own}: {gone:?}");
                self.judge.space(name).theirs.remove(&own);
                self.count("policies of tenants deleted");
            }
            Some(own) => {
                let rules = json!({ "spec": { "ingress": [{ "ports": [{ "port": port }] }] } });
                let edited = policies.patch(&own, &PatchParams::default(), &Patch::Merge(rules)).await;
                let edited = edited.unwrap_or_else(|err| panic!("I4: {name}/{own}: {err}"));
                self.judge.space(name).theirs.insert(own, edited.resource_version().unwrap());
                self.count("policies of tenants edited");
            }
        }
    }

    async fn one_of_ours(&self, name: &str, dice: &mut Dice) -> Option<NetworkPolicy> {
        let policy = self.any_planned(name, dice)?;
        tried(policies_of(&self.client, name).get(&policy).await)
    }

    fn any_planned(&self, name: &str, dice: &mut Dice) -> Option<String> {
        let planned: Vec<String> = self.model.plan(name)?.policies().into_keys().collect();
        planned.get(dice.below(planned.len())).cloned()
    }

    // Tampering.

    pub async fn tamper(&mut self, name: &str, dice: &mut Dice) {
        let Some(policy) = self.any_planned(name, dice) else { return };
        match dice.below(20) {
            ..11 => {
                let (patch, disguises) = edits()[dice.below(11)].clone();
                self.edit_a_policy(name, &policy, &patch, disguises).await;
                self.count("policies edited");
            }
            11..14 => {
                self.delete_a_policy(name, &policy).await;
                self.count("policies deleted");
            }
            14 => {
                self.delete_a_policy(name, &policy).await;
                let other = json!({ "metadata": { "name": policy }, "spec": { "podSelector": {}, "ingress": [{}] } });
                let other: NetworkPolicy = serde_json::from_value(other).unwrap();
                tried(policies_of(&self.client, name).create(&PostParams::default(), &other).await);
                self.judge.space(name).disguised.insert(policy);
                self.count("policies replaced");
            }
            15 | 16 => {
                let finalizer = json!({ "metadata": { "finalizers": [FINALIZER] } });
                self.edit_a_policy(name, &policy, &finalizer, false).await;
                self.delete_a_policy(name, &policy).await;
                self.count("policies deleted with a finalizer");
            }
            17 | 18 => {
                // The garbage collector may delete it first, also after further edits.
                self.unsteady.insert((name.to_owned(), policy.clone()));
                let nobody = json!({ "metadata": { "ownerReferences": [{
                    "apiVersion": "v1", "kind": "ConfigMap", "name": "none", "uid": "00000000-0000-0000-0000-000000000001",
                }] } });
                self.edit_a_policy(name, &policy, &nobody, false).await;
                self.judge.space(name).edited.remove(&policy);
                self.count("policies given to an owner that is not there");
            }
            _ => {
                let inside = self.held.iter().filter(|(of, _)| of == name).cloned();
                self.unsteady.extend(inside);
                let all = policies_of(&self.client, name);
                all.delete_collection(&DeleteParams::default(), &ListParams::default()).await.unwrap();
                let space = self.judge.space(name);
                (space.theirs, space.edited) = Default::default();
                self.count("all policies of a namespace deleted");
            }
        }
    }

    /// Opens the same policy several times in a row.
    pub async fn fight(&mut self, name: &str, dice: &mut Dice) {
        const TIMES: usize = 8;
        let Some(policy) = self.any_planned(name, dice) else { return };
        for _ in 0..TIMES {
            let [(open, _), ..] = edits();
            self.edit_a_policy(name, &policy, &open, false).await;
            self.beat.tick().await;
        }
        self.count("policies opened eight times in a row");
    }

    async fn edit_a_policy(&mut self, name: &str, policy: &str, patch: &Value, disguises: bool) {
        let params = PatchParams { field_manager: Some("tenant".to_owned()), ..PatchParams::default() };
        let edited = policies_of(&self.client, name).patch(policy, &params, &Patch::Merge(patch)).await;
        // The API server adds no finalizer to an object that is being deleted.
        if matches!(&edited, Err(kube::Error::Api(status)) if status.code == 422 && status.message.contains("finalizers")) {
            return;
        }
        // The policy may not exist yet.
        let Some(edited) = tried(edited) else { return };
        let key = (name.to_owned(), policy.to_owned());
        if edited.finalizers().iter().any(|finalizer| finalizer == FINALIZER) {
            self.held.insert(key.clone());
            // If the plan changes meanwhile and changes back, it is created again.
            self.unsteady.insert(key.clone());
            self.judge.space(name).edited.remove(policy);
        }
        if disguises {
            self.judge.space(name).disguised.insert(policy.to_owned());
        }
        // While the strict baseline is broken, policies of the platform baseline may be removed in a namespace that belonged to the
        // strict one.
        // Where a default-deny is missing, the operator may take an allow back and write it again.
        let is_kept = !policy.contains("allow-") || self.is_closed(name).await;
        let stays = is_kept && !self.unsteady.contains(&key) && self.model.planned().contains(&key);
        if edited.metadata.deletion_timestamp.is_none() && stays {
            self.judge.edited(name, policy, &edited.uid().unwrap());
        }
    }

    async fn is_closed(&self, name: &str) -> bool {
        let found = policies_of(&self.client, name).list(&ListParams::default()).await.unwrap().items;
        let names: Vec<String> = found.iter().map(ResourceExt::name_any).collect();
        ["default-deny-ingress", "default-deny-egress"].iter().all(|deny| names.iter().any(|name| name.ends_with(deny)))
    }

    async fn delete_a_policy(&mut self, name: &str, policy: &str) {
        let key = (name.to_owned(), policy.to_owned());
        if self.held.contains(&key) {
            // The operator creates it again when the finalizer is gone.
            self.unsteady.insert(key);
        }
        self.judge.space(name).edited.remove(policy);
        tried(policies_of(&self.client, name).delete(policy, &DeleteParams::default()).await);
    }

    /// Removes the tenants' finalizers.
    pub async fn let_go(&mut self, held: impl IntoIterator<Item = (String, String)>) {
        for (name, policy) in held {
            self.held.remove(&(name.clone(), policy.clone()));
            let patch = Patch::Merge(json!({ "metadata": { "finalizers": null } }));
            tried(policies_of(&self.client, &name).patch(&policy, &PatchParams::default(), &patch).await);
        }
    }

    pub async fn let_all_go(&mut self) {
        let held: BTreeSet<_> = std::mem::take(&mut self.held);
        self.let_go(held).await;
    }
}
