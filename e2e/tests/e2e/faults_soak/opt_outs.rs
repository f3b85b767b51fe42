//! Opt-outs: users create, edit and delete them, and the clock ends them.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use policy_baseline::BaselineOptOut;
use policy_baseline_e2e::{Dice, TIMEOUT, World};
use serde_json::json;

use super::Soak;
use super::model::{About, OptOut, Standing};
use super::shape::Place;
use crate::opt_outs::{in_force, opt_out, opt_outs, seconds_from_now};

const MOST: usize = 3;
/// Before the judge checks, it waits for the ends within this time. Later ends are postponed.
const NEAR: SignedDuration = SignedDuration::from_secs(3);
/// In seconds from now. Later than the end of every soak, and so late that no soak has the event a day ahead of the end.
const FAR: i64 = 100 * 60 * 60;
/// In seconds from now. Longer than a baseline allows.
const TOO_FAR: i64 = 1000 * 60 * 60;

/// A random end. Most are soon, so that many are seen.
fn any_end(dice: &mut Dice) -> (Timestamp, Standing) {
    let (kind, soon) = (dice.below(10), dice.below(12));
    match kind {
        ..6 => (seconds_from_now(2 + i64::try_from(soon).unwrap()), Standing::InForce),
        6..9 => (seconds_from_now(FAR), Standing::InForce),
        _ => (seconds_from_now(TOO_FAR), Standing::TooLong),
    }
}

fn any_roles(dice: &mut Dice) -> BTreeSet<&'static str> {
    let mut roles = vec!["DefaultDenyIngress", "DefaultDenyEgress", "MonitoringCarveout"];
    for _ in 0..dice.below(3) {
        roles.swap_remove(dice.below(roles.len()));
    }
    roles.into_iter().collect()
}

impl Soak {
    pub async fn opt_out(&mut self, name: &str, dice: &mut Dice) {
        let all = self.model.opt_outs_of(name);
        let (chosen, deletes) = (all.get(dice.below(MOST.min(all.len() + 1))).cloned(), dice.below(2) == 0);
        let (roles, (expires, standing)) = (any_roles(dice), any_end(dice));
        match chosen {
            None => {
                let of = World::unique("opt-out");
                let made = opt_out(&of, &roles.iter().copied().collect::<Vec<_>>(), expires);
                self.change(
                    About::OptOuts(name),
                    |model| model.opt_out(name, &of, OptOut { roles, expires, standing }),
                    async |soak| {
                        opt_outs(&soak.client, name).create(&PostParams::default(), &made).await.unwrap();
                    },
                )
                .await;
                self.count("opt-outs made");
            }
            Some((of, _)) if deletes => {
                self.change(
                    About::OptOuts(name),
                    |model| {
                        model.opt_outs.remove(&(name.to_owned(), of.clone()));
                    },
                    async |soak| {
                        opt_outs(&soak.client, name).delete(&of, &DeleteParams::default()).await.unwrap();
                    },
                )
                .await;
                self.count("opt-outs deleted");
            }
            Some((of, before)) => {
                self.move_an_end(name, &of, OptOut { expires, standing, ..before }).await;
                self.count("ends of opt-outs moved");
            }
        }
    }

    async fn move_an_end(&mut self, name: &str, of: &str, to: OptOut) {
        let patch = Patch::Merge(json!({ "spec": { "expiresAt": to.expires } }));
        self.change(
            About::OptOuts(name),
            |model| model.opt_out(name, of, to),
            async |soak| {
                opt_outs(&soak.client, name).patch(of, &PatchParams::default(), &patch).await.unwrap();
            },
        )
        .await;
    }

    /// Records the opt-outs that have ended until now. Their roles are planned again, each from its own end on.
    pub fn let_opt_outs_end(&mut self) {
        let now = Timestamp::now();
        while let Some(at) = self.model.next_end().filter(|at| *at <= now) {
            let before = self.model.planned();
            self.model.end(at);
            let after = self.model.planned();
            for (name, policy) in after.difference(&before) {
                self.judge.plans_since(name, policy, at);
            }
            self.unsteady.extend(after.difference(&before).cloned());
            self.count("ends of opt-outs that came");
        }
    }

    /// Makes sure that no opt-out ends while the judge checks: postpones the later ends, and waits for the near ones.
    pub async fn let_near_opt_outs_end(&mut self) {
        let from = Timestamp::now() + NEAR;
        let soon = from..seconds_from_now(FAR / 2);
        let is_soon = |opt_out: &OptOut| opt_out.standing == Standing::InForce && soon.contains(&opt_out.expires);
        let put_off = self.model.opt_outs.iter().filter(|(_, opt_out)| is_soon(opt_out));
        let put_off: Vec<_> = put_off.map(|(key, opt_out)| (key.clone(), opt_out.clone())).collect();
        for ((name, of), opt_out) in put_off {
            self.move_an_end(&name, &of, OptOut { expires: seconds_from_now(FAR), ..opt_out }).await;
        }
        // The ends that are left are near.
        let ends =
            self.model.opt_outs.values().filter(|opt_out| opt_out.standing == Standing::InForce && opt_out.expires <= from);
        let Some(last) = ends.map(|opt_out| opt_out.expires).max() else { return };
        let over = async || Timestamp::now() > last;
        self.world.eventually("what ends soon has ended", TIMEOUT, over).await.unwrap();
        self.let_opt_outs_end();
    }

    /// Waits until the status and the label of each opt-out say whether it is in force.
    pub async fn until_opt_outs_told(&self) {
        let all: Api<BaselineOptOut> = Api::all(self.client.clone());
        let wanted: BTreeMap<_, _> = self.model.opt_outs.iter().map(|(key, opt_out)| (key, self.says(&key.0, opt_out))).collect();
        let told = async || {
            let found = all.list(&ListParams::default()).await.map_err(|err| err.to_string())?.items;
            let found: BTreeMap<_, _> = found.iter().map(|of| ((of.namespace().unwrap(), of.name_any()), of)).collect();
            for (key, wanted) in &wanted {
                let of = found.get(*key).ok_or_else(|| format!("{key:?} is gone"))?;
                let label = of.labels().get("policybaseline.io/opt-out").map(String::as_str);
                let as_labelled = label == wanted.starts_with("True").then_some("in-force");
                if in_force(of).as_deref() != Some(*wanted) || !as_labelled {
                    return Err(format!("{key:?} is {wanted}, and says {:?} {label:?}", of.status));
                }
            }
            // The namespace controller may finish a namespace and leave opt-outs behind, just after the API server started.
            let is_left = |of: &BaselineOptOut| in_force(of).as_deref() == Some("False OlderThanNamespace");
            let is_unknown = |key: &(String, String)| !wanted.contains_key(key) && self.model.places.contains_key(&key.0);
            let unknown = found.iter().find(|(key, of)| is_unknown(key) && !is_left(of));
            unknown.map_or(Ok(true), |(key, _)| Err(format!("{key:?} was deleted")))
        };
        self.world.eventually("every opt-out says whether it is in force", TIMEOUT, told).await.unwrap();
    }

    fn says(&self, name: &str, opt_out: &OptOut) -> &'static str {
        match opt_out.standing {
            Standing::Over => "False Expired",
            _ if self.model.places[name] == Place::Out => "False NoBaseline",
            Standing::TooLong => "False TooLong",
            Standing::InForce => "True WithinLimits",
        }
    }
}
