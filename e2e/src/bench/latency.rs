//! Measurements 1 and 4: one namespace, one policy. The samples of ours and raw alternate, in the same cluster.

use std::time::Duration;

use anyhow::Result;
use policy_baseline::Rendered;
use tokio::time::Instant;

use super::eye::{Kind, Sighting};
use super::figures::Point;
use super::raw::{baseline, each, render};
use super::setup::Bench;
use super::side::{Group, Side};

impl Bench {
    /// Takes `samples` samples of both sides while the operator runs. The raw client writes the policies of the group `ours`.
    pub async fn latency(&mut self, ours: Group, samples: usize, point: &mut Point) -> Result<()> {
        let policies = render(&baseline(ours, self.edits.of(ours))?)?;
        let populations = [ours, Group::Raw].map(|group| self.population(group, samples));
        for sample in 0..samples {
            for population in &populations {
                let name = population.name(sample);
                let side = population.group.side();
                point.first_policies.took(side, self.one_namespace(&name, population.group, &policies).await?);
                point.repair.took(side, self.one_change(&name, side, &policies).await?);
                self.progress.done(sample, samples);
            }
        }
        for population in &populations {
            each(population.names(), self.in_flight, async |name: String| self.raw.remove(&name).await).await?;
        }
        Ok(())
    }

    /// The time from sending the creation of a namespace until the watch shows its last policy.
    async fn one_namespace(&mut self, name: &str, group: Group, policies: &[Rendered]) -> Result<Duration> {
        let mut missing = policies.len();
        let started = Instant::now();
        self.raw.create(name, group).await?;
        if group == Group::Raw {
            self.raw.apply(name, policies).await?;
        }
        let last = self.eye.until(|seen| {
            missing -= usize::from(seen.kind == Kind::Added && seen.namespace == name);
            missing == 0
        });
        Ok(last.await?.at.saturating_duration_since(started))
    }

    /// Ours: the time from when the watch shows somebody else's change until it shows the repair. Raw: the time from sending an apply
    /// until the watch shows it.
    async fn one_change(&mut self, name: &str, side: Side, policies: &[Rendered]) -> Result<Duration> {
        let policy = policies[0].name.clone();
        let is_it = |seen: &Sighting| seen.namespace == name && seen.name == policy && seen.kind == Kind::Modified;
        let version = self.raw.open(name, &policy).await?;
        let changed = self.eye.until(|seen| is_it(seen) && seen.version == version).await?.at;
        let started = match side {
            Side::Ours => changed,
            Side::Raw => Instant::now(),
        };
        if side == Side::Raw {
            self.raw.apply(name, &policies[..1]).await?;
        }
        Ok(self.eye.until(is_it).await?.at.saturating_duration_since(started))
    }
}
