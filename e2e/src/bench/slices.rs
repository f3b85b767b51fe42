//! Measurements 2, 3 and 5 compared with raw. Both sides have a slice with the same number of namespaces, and they alternate. The two
//! halves of a pair are seconds apart, so both meet the same machine. The N namespaces stay in the cluster, and the operator runs all
//! the time.

use std::time::Duration;

use anyhow::Result;
use tokio::time::Instant;

use super::figures::{Pair, Point, milliseconds};
use super::proc;
use super::raw::each;
use super::setup::Bench;
use super::side::{Group, Population, Side};
use super::subject::Subject;
use crate::wait::TIMEOUT;

/// The largest number of namespaces in a slice. Work on one slice takes about half a second.
const SLICE: usize = 200;

/// The work on a slice.
#[derive(Clone, Copy)]
enum Work {
    Burst,
    Restore,
    Edit,
}

/// The number of namespaces in a slice.
pub fn slice(namespaces: usize) -> usize {
    namespaces.min(SLICE)
}

/// The order of the sides in a pair. It alternates, so that each side equally often meets what the other side leaves behind.
fn order(pair: usize) -> [Side; 2] {
    let [ours, raw] = Side::BOTH;
    if pair.is_multiple_of(2) { [ours, raw] } else { [raw, ours] }
}

impl Bench {
    /// Measures `pairs` pairs of each measurement. Each pair has new namespaces, because the operator delays repairs more and more when
    /// the same policy is deleted repeatedly.
    pub async fn slices(&mut self, pairs: usize, subject: &mut Subject, point: &mut Point) -> Result<()> {
        point.slice = slice(point.namespaces);
        for pair in 0..pairs {
            let slices = self.new_slices(point.slice);
            for work in [Work::Burst, Work::Restore, Work::Edit] {
                self.pair(work, pair, &slices, subject, point).await?;
            }
            self.remove_slices(&slices, subject, point.namespaces).await?;
            self.progress.done(pair + 1, pairs);
        }
        Ok(())
    }

    fn new_slices(&mut self, namespaces: usize) -> [Population; 2] {
        Side::BOTH.map(|side| self.population(Group::of(side), namespaces))
    }

    /// Measures one pair. The operator is idle when each side begins.
    async fn pair(
        &mut self,
        work: Work,
        pair: usize,
        slices: &[Population; 2],
        subject: &mut Subject,
        point: &mut Point,
    ) -> Result<()> {
        for side in order(pair) {
            let Some(population) = slices.iter().find(|slice| slice.group.side() == side) else { continue };
            self.raw.collect_garbage().await?;
            let (cpu, started) = (proc::cpu(subject.pid())?, Instant::now());
            let time = self.turn(work, population, point).await?;
            match side {
                Side::Ours => subject.settled(point.namespaces + population.count, TIMEOUT).await?,
                Side::Raw => point.raw_slices.add(proc::cpu(subject.pid())?.saturating_sub(cpu), started.elapsed()),
            }
            work.samples(point).took(side, time);
        }
        Ok(())
    }

    async fn turn(&mut self, work: Work, population: &Population, point: &mut Point) -> Result<Duration> {
        match work {
            Work::Burst => self.burst(population).await,
            Work::Edit => self.edit(population).await,
            Work::Restore => {
                let (restored, deleted) = self.restore(population).await?;
                if population.group == Group::Raw {
                    point.deletion.push(milliseconds(deleted));
                }
                Ok(restored)
            }
        }
    }

    /// Deletes the namespaces through the API, as users do, because the operator runs. `standing` is the number of namespaces that
    /// stay.
    async fn remove_slices(&mut self, slices: &[Population; 2], subject: &mut Subject, standing: usize) -> Result<()> {
        for population in slices {
            each(population.names(), self.in_flight, async |name: String| self.raw.remove(&name).await).await?;
        }
        subject.settled(standing, TIMEOUT).await
    }
}

impl Work {
    const fn samples(self, point: &mut Point) -> &mut Pair {
        match self {
            Self::Burst => &mut point.burst,
            Self::Restore => &mut point.restore,
            Self::Edit => &mut point.edit,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_side_begins_as_often() {
        assert_eq!([0, 1, 2, 3].map(|pair| order(pair)[0]), [Side::Ours, Side::Raw, Side::Ours, Side::Raw]);
        assert!((0..4).all(|pair| order(pair)[0] != order(pair)[1]));
    }

    #[test]
    fn a_slice_is_no_larger_than_what_there_is() {
        assert_eq!([1, 50, 1000, 10_000].map(slice), [1, 50, 200, 200]);
    }
}
