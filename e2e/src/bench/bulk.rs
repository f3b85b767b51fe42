//! Measurements 2, 3 and 5: work on every namespace of a population at once. For both sides, the time starts when the first request is
//! sent. It ends when the watch shows the last policy.

use std::time::Duration;

use anyhow::Result;
use tokio::time::Instant;

use super::eye::Kind;
use super::raw::{baseline, each, render};
use super::setup::Bench;
use super::side::{Population, Side};

impl Bench {
    /// Creates new namespaces, all at once. Measures until the last of all their policies is there.
    pub async fn burst(&mut self, population: &Population) -> Result<Duration> {
        let group = population.group;
        let policies = render(&baseline(group, self.edits.of(group))?)?;
        let Self { raw, eye, progress, in_flight, .. } = self;
        let wanted = population.wanted(&policies, Kind::Added, eye.now().await?);
        let started = Instant::now();
        let work = each(population.names(), *in_flight, async |name: String| {
            raw.create(&name, group).await?;
            match group.side() {
                Side::Ours => Ok(()),
                Side::Raw => raw.apply(&name, &policies).await,
            }
        });
        let ((), last) = tokio::try_join!(work, eye.until_all(&wanted, progress))?;
        Ok(last.saturating_duration_since(started))
    }

    /// Deletes all policies. Measures until the last one is there again. The operator repairs while the deletion goes on; the raw
    /// client applies after the deletion has ended. The second time is the duration of the deletion.
    pub async fn restore(&mut self, population: &Population) -> Result<(Duration, Duration)> {
        let group = population.group;
        let policies = render(&baseline(group, self.edits.of(group))?)?;
        let Self { raw, eye, progress, in_flight, .. } = self;
        let wanted = population.wanted(&policies, Kind::Added, eye.now().await?);
        let started = Instant::now();
        let work = async {
            each(population.names(), *in_flight, async |name: String| raw.delete_policies(&name).await).await?;
            let deleted = started.elapsed();
            if group.side() == Side::Raw {
                each(population.names(), *in_flight, async |name: String| raw.apply(&name, &policies).await).await?;
            }
            anyhow::Ok(deleted)
        };
        let (deleted, last) = tokio::try_join!(work, eye.until_all(&wanted, progress))?;
        Ok((last.saturating_duration_since(started), deleted))
    }

    /// Edits something that changes every policy. Measures until the last policy has changed. On our side the edit is an edit of the
    /// baseline.
    pub async fn edit(&mut self, population: &Population) -> Result<Duration> {
        let group = population.group;
        let next = baseline(group, self.edits.next(group))?;
        let policies = render(&next)?;
        let Self { raw, eye, progress, in_flight, .. } = self;
        let wanted = population.wanted(&policies, Kind::Modified, eye.now().await?);
        let started = Instant::now();
        let work = async {
            match group.side() {
                Side::Ours => raw.apply_baseline(&next).await,
                Side::Raw => each(population.names(), *in_flight, async |name: String| raw.apply(&name, &policies).await).await,
            }
        };
        let ((), last) = tokio::try_join!(work, eye.until_all(&wanted, progress))?;
        Ok(last.saturating_duration_since(started))
    }
}
