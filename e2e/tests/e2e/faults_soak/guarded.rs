//! At a rest: an edit of a baseline that would open many namespaces. It opens none before its owner confirms it, also after a restart.

use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use policy_baseline::PolicyBaselineStatus;
use policy_baseline_e2e::{Dice, TIMEOUT};
use serde_json::{Value, json};

use super::Soak;
use super::shape::Place;
use crate::scene::{apply_baseline, baselines, condition, policies_of, until_status};

/// An edit that opens more namespaces than these waits.
const AT_ONCE: usize = 10;
/// The allow of an edit that is never confirmed.
pub const OPEN: &str = "open-to-everybody";

/// What the edit would open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Edit {
    /// The selector has a typo.
    Selector,
    /// No default-deny is planned any more.
    Policies,
    /// An allow lets everybody in.
    Allow,
}

impl Edit {
    fn of(self, mut spec: Value) -> Value {
        match self {
            Self::Selector => spec["namespaceSelector"] = json!({ "matchLabels": { "tier": "prdo" } }),
            Self::Policies => spec["policies"] = json!(["MonitoringCarveout"]),
            Self::Allow => {
                let everybody = json!([{ "from": [{ "ipBlock": { "cidr": "0.0.0.0/0" } }] }]);
                let open = json!({ "name": OPEN, "ingress": everybody, "acknowledgeOpen": true });
                spec["allows"].as_array_mut().unwrap().push(open);
            }
        }
        spec
    }
}

impl Soak {
    /// Edits the baseline with more namespaces. Confirms the edit, or takes it back.
    pub async fn edit_guarded(&mut self) {
        let mut dice = Dice::nth(self.settings.seed, u64::MAX - 1 - self.turn);
        let in_waves = |of| self.model.shape(of).goes_in_waves();
        let of = if self.model.all_in(Place::Strict).len() > self.model.all_in(Place::Platform).len() {
            Place::Strict
        } else {
            Place::Platform
        };
        // Of a change in waves, the first wave would wait too, and the others for the first one.
        let edit = if in_waves(of) { Edit::Selector } else { dice.pick(&[Edit::Selector, Edit::Policies, Edit::Allow]) };
        let (confirms, kills) = (edit != Edit::Allow && dice.below(2) == 0, dice.below(2) == 0);
        let names = self.model.all_in(of);
        let closed = |wanted: fn([bool; 2]) -> bool| names.iter().filter(|name| wanted(self.model.closes(name))).count();
        let concerned = closed(|[ingress, egress]| ingress || egress);
        let opened = if edit == Edit::Allow { closed(|[ingress, _]| ingress) } else { concerned };
        let other = if of == Place::Strict { Place::Platform } else { Place::Strict };
        let Some(other) = self.model.all_in(other).into_iter().find(|name| self.model.closes(name)[0]) else { return };
        if opened <= AT_ONCE {
            return;
        }

        let spec = self.model.spec(of);
        apply_baseline(&self.world, of.label(), &edit.of(spec.clone())).await;
        let says = format!("{opened} of the {concerned} closed namespaces");
        let waits = |status: &PolicyBaselineStatus| {
            let waits = condition(status, "AwaitingConfirmation");
            waits.status == "True" && waits.message.starts_with(&says) && condition(status, "Ready").status == "False"
        };
        let status = until_status(&self.world, of.label(), &format!("{edit:?}: {says} would be opened"), waits).await;
        // In the second half, the first instance is not restarted.
        if kills && self.before.is_none() && self.seats[0].kill() {
            self.count("SIGKILL");
            self.seats[0].start(&self.world);
            self.count("starts");
        }
        self.until_repaired(&other).await;
        self.until_as_planned(&self.judge.spaces.keys().cloned().collect()).await;
        self.count("edits that would open many namespaces");

        let planned: Vec<_> = self.model.planned().into_iter().filter(|(name, _)| names.contains(name)).collect();
        if confirms {
            for (name, policy) in &planned {
                self.judge.drops(name, policy);
            }
            let generation = status.observed_generation.unwrap().to_string();
            let confirmed = json!({ "metadata": { "annotations": { "policybaseline.io/confirm-release": generation } } });
            let patch = PatchParams::default();
            baselines(&self.world).patch(of.label(), &patch, &Patch::Merge(confirmed)).await.unwrap();
            for name in &names {
                self.until_opened(name).await;
            }
            self.count("edits confirmed");
        }
        apply_baseline(&self.world, of.label(), &spec).await;
        if confirms {
            for (name, policy) in &planned {
                self.judge.plans(name, policy);
            }
        }
    }

    /// Deletes a policy where another baseline applies. When it is there again, the leader has seen everything before.
    async fn until_repaired(&mut self, name: &str) {
        let policies = policies_of(&self.client, name);
        let planned = self.model.plan(name).unwrap().policies();
        let deny = planned.keys().find(|policy| policy.ends_with("default-deny-ingress")).unwrap();
        let before = policies.get(deny).await.unwrap().uid();
        self.judge.space(name).edited.remove(deny);
        policies.delete(deny, &DeleteParams::default()).await.unwrap();
        let repaired = async || {
            let found = policies.get_opt(deny).await?;
            Ok::<_, kube::Error>(found.is_some_and(|policy| policy.uid() != before))
        };
        self.world.eventually("a policy of the other baseline is repaired", TIMEOUT, repaired).await.unwrap();
    }

    /// Waits until a namespace holds only what its tenants wrote.
    async fn until_opened(&self, name: &str) {
        let theirs = &self.judge.spaces[name].theirs;
        let opened = async || {
            let found = policies_of(&self.client, name).list(&ListParams::default()).await.map_err(|error| error.to_string())?;
            let left = found.items.iter().map(ResourceExt::name_any).find(|policy| !theirs.contains_key(policy));
            left.map_or(Ok(true), |policy| Err(format!("{policy} is still there")))
        };
        self.world.eventually(&format!("{name} is opened"), TIMEOUT, opened).await.unwrap();
    }
}
