//! The bench: it compares the operator with a raw API client, which does the same work with the same client stack in the same run.
//!
//! This module defines the order of the measurements. Ours and raw alternate, so that both meet the same machine. docs/performance.md
//! describes the method.

mod bulk;
mod calibrate;
mod clear;
mod cold;
mod eye;
mod facts;
mod figures;
mod foreign;
mod growth;
mod hostile;
mod http;
mod latency;
mod more;
mod numbers;
mod plot;
mod proc;
mod progress;
mod raw;
mod relay;
mod report;
mod rest;
mod setup;
mod side;
mod slices;
mod subject;
mod table;

use std::fs;
use std::ops::RangeInclusive;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::time::timeout;

use self::facts::Facts;
use self::figures::{Point, milliseconds};
use self::numbers::megabytes;
use self::progress::Progress;
pub use self::report::Report;
use self::setup::Bench;
use self::side::{Group, Population};
use self::subject::Subject;
use crate::paths;
use crate::wait::TIMEOUT;

/// The whole bench is aborted after this time. With 10,000 namespaces it takes an hour where compilers use the same cores.
const LIMIT: Duration = Duration::from_hours(2);
/// The smaller sizes that also get all their rounds. Smaller sizes show little and larger ones take long, so those get one round.
const QUICK: RangeInclusive<usize> = 100..=1000;
/// How long the rest at the largest size lasts. It is shorter for few namespaces, because then the user probably wants a quick run.
const REST: Duration = Duration::from_mins(1);
const SHORT_REST: Duration = Duration::from_secs(10);
const HURRY: usize = 500;
/// The number of pairs of slices at the largest size, in all rounds together. The other sizes get `FEW_PAIRS` in each round.
const PAIRS: usize = 24;
const FEW_PAIRS: usize = 2;
/// The number of pairs of cold starts at the largest size, in all rounds together. The other sizes get one in each round.
const COLD_STARTS: usize = 9;

/// The size of a run.
#[derive(Clone, Copy, Debug)]
pub struct Extent {
    /// The number of namespaces at the largest size.
    pub namespaces: usize,
    /// How many times everything is measured.
    pub rounds: usize,
    /// Measures only this, at the largest size. None measures everything.
    pub only: Option<Only>,
}

/// A part of the bench that can be measured alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Only {
    /// The memory and the CPU at rest, once.
    Rest,
    /// The cold starts beside raw lists.
    Start,
}

/// Runs the bench. Calls `say` with one line for each step.
pub async fn run(extent: Extent, say: impl Fn(&str) + Send + Sync + 'static) -> Result<Report> {
    let bench = async {
        let mut bench = Bench::start(extent.namespaces, Progress::new(extent.steps(), say)).await?;
        let mut points = Vec::new();
        for size in extent.sizes() {
            points.push(bench.point(size, extent).await?);
        }
        let facts = Facts::gather(&bench.raw, bench.in_flight, bench.foreign, bench.progress.elapsed()).await?;
        anyhow::Ok(Report::new(points, facts))
    };
    timeout(LIMIT, bench).await.context("the bench took too long")?
}

/// A tenth, a third, and all of the namespaces. Leaves out the smaller sizes that are below ten, because they show nothing.
fn sizes(namespaces: usize) -> Vec<usize> {
    let mut sizes = vec![namespaces / 10, namespaces / 3, namespaces];
    sizes.retain(|size| *size >= 10 || *size == namespaces);
    sizes.dedup();
    sizes
}

impl Extent {
    fn sizes(self) -> Vec<usize> {
        if self.only.is_some() { vec![self.namespaces] } else { sizes(self.namespaces) }
    }

    fn rounds(self, size: usize) -> usize {
        match self.only {
            Some(Only::Rest) => 1,
            _ if size == self.namespaces || QUICK.contains(&size) => self.rounds,
            _ => 1,
        }
    }

    /// The number of pairs of slices in one round.
    const fn pairs(self, size: usize) -> usize {
        if size == self.namespaces && size >= HURRY { PAIRS.div_ceil(self.rounds) } else { FEW_PAIRS }
    }

    /// The number of pairs of a cold start and a list in one round.
    const fn cold_starts(self, size: usize) -> usize {
        if size == self.namespaces && size >= HURRY { COLD_STARTS.div_ceil(self.rounds) } else { 1 }
    }

    const fn rest(self, size: usize) -> Duration {
        if size < self.namespaces || size < HURRY { SHORT_REST } else { REST }
    }

    /// The number of steps that [`Bench::point`] announces.
    fn steps(self) -> usize {
        let of_size = |size| match self.only {
            Some(Only::Rest) => 7,
            Some(Only::Start) => 1 + self.rounds(size) * 2,
            None => 1 + self.rounds(size) * 6 + 8,
        };
        1 + self.sizes().into_iter().map(of_size).sum::<usize>()
    }
}

impl Bench {
    /// Takes all measurements at one size.
    async fn point(&mut self, size: usize, extent: Extent) -> Result<Point> {
        self.progress.step(format!("{size} policies of others"));
        foreign::grow(&self.raw, self.foreign, size).await?;
        self.foreign = size;
        let mut point = Point::new(Group::All, size);
        let rounds = extent.rounds(size);
        for round in 1..=rounds {
            let title = format!("{size} namespaces, round {round} of {rounds}");
            self.round(&title, extent, round == rounds, &mut point).await?;
        }
        Ok(point)
    }

    /// One round with new namespaces. One operator process serves until the end of the rest; each cold start uses a new process.
    async fn round(&mut self, title: &str, extent: Extent, is_last: bool, point: &mut Point) -> Result<()> {
        let size = point.namespaces;
        let population = self.population(Group::All, size);
        let mut subject = self.subject().await?;
        if extent.only.is_some() {
            self.all_new(title, &population, &mut subject, point).await?;
        } else {
            proc::forget_peak(subject.pid())?;
            self.whole(title, &population, &mut subject, point).await?;
            self.progress.step(format!("{title}: slices, ours and raw by turns"));
            self.slices(extent.pairs(size), &mut subject, point).await?;
            self.one_at_a_time(title, Group::All, point).await?;
        }
        let with_rests = is_last && extent.only != Some(Only::Start);
        if with_rests {
            self.rests(extent, &population, &subject, point).await?;
        }
        subject.settle().await?;
        subject.stop()?;
        if extent.only != Some(Only::Rest) {
            if let Some(more) = &mut point.with_services {
                self.starts(&format!("{size} namespaces with Services"), extent, more).await?;
                clear::clear_services(self.plane.etcd_url()?, &population).await?;
            }
            self.starts(title, extent, point).await?;
        }
        clear::clear(self.plane.etcd_url()?, &population).await?;
        if with_rests {
            point.with_allows = Some(Box::new(self.with_allows(extent, size).await?));
        }
        Ok(())
    }

    /// Starts the operator. It leads when this returns.
    async fn subject(&self) -> Result<Subject> {
        let mut subject = Subject::start(&self.plane, &self.kubeconfig).await?;
        subject.ready(TIMEOUT).await?;
        subject.leads().await?;
        Ok(subject)
    }

    /// Measurement 7 with three policies in each namespace, then with a Service besides, then with two hostile policies besides. The hostile
    /// ones come last: what a process needed for them, it keeps for later.
    async fn rests(&mut self, extent: Extent, population: &Population, subject: &Subject, point: &mut Point) -> Result<()> {
        let (size, time) = (population.count, extent.rest(population.count));
        self.progress.step(format!("{size} namespaces: {time:?} of rest"));
        point.rest = Some(self.rest(subject, time).await?);
        self.progress.step(format!("{size} namespaces with Services: {time:?} of rest"));
        point.with_services = Some(Box::new(self.with_services(population, subject, time).await?));
        self.progress.step(format!("{size} namespaces with hostile policies: {time:?} of rest"));
        hostile::add(&self.raw, population).await?;
        point.hostile_rest = Some(self.rest(subject, time).await?);
        hostile::remove(&self.raw, population).await
    }

    /// Measurement 9 with six allows: new namespaces with nine policies in each, after the others are gone.
    async fn with_allows(&mut self, extent: Extent, size: usize) -> Result<Point> {
        let (title, time) = (format!("{size} namespaces with six allows"), extent.rest(size));
        let population = self.population(Group::Allows, size);
        let mut point = Point::new(Group::Allows, size);
        let mut subject = self.subject().await?;
        self.all_new(&title, &population, &mut subject, &mut point).await?;
        if extent.only.is_none() {
            self.one_at_a_time(&title, Group::Allows, &mut point).await?;
        }
        self.progress.step(format!("{title}: {time:?} of rest"));
        point.rest = Some(self.rest(&subject, time).await?);
        subject.stop()?;
        if extent.only.is_none() {
            self.starts(&title, extent, &mut point).await?;
        }
        clear::clear(self.plane.etcd_url()?, &population).await?;
        Ok(point)
    }

    /// Measurement 2 with every namespace at once.
    async fn all_new(&mut self, title: &str, population: &Population, subject: &mut Subject, point: &mut Point) -> Result<()> {
        self.progress.step(format!("{title}: all new"));
        point.whole.burst.push(milliseconds(self.burst(population).await?));
        subject.settled(population.count, TIMEOUT).await
    }

    async fn one_at_a_time(&mut self, title: &str, ours: Group, point: &mut Point) -> Result<()> {
        self.progress.step(format!("{title}: one at a time, ours and raw by turns"));
        self.latency(ours, samples(point.namespaces), point).await
    }

    async fn starts(&mut self, title: &str, extent: Extent, point: &mut Point) -> Result<()> {
        self.progress.step(format!("{title}: cold starts and raw lists by turns"));
        self.cold_starts(extent.cold_starts(point.namespaces), point).await
    }

    /// Measurements 2, 3 and 5 with every namespace at once. Only the operator is measured, for its growth and its memory.
    async fn whole(&mut self, title: &str, population: &Population, subject: &mut Subject, point: &mut Point) -> Result<()> {
        self.all_new(title, population, subject, point).await?;
        self.progress.step(format!("{title}: all policies deleted"));
        point.whole.restore.push(milliseconds(self.restore(population).await?.0));
        subject.settled(population.count, TIMEOUT).await?;
        point.resident_peak.push(megabytes(proc::peak(subject.pid())?));
        self.progress.step(format!("{title}: an edit of all"));
        point.whole.edit.push(milliseconds(self.edit(population).await?));
        subject.settled(population.count, TIMEOUT).await
    }
}

/// The number of samples of a single namespace in one round.
fn samples(namespaces: usize) -> usize {
    (namespaces / 5).clamp(10, 100)
}

/// Writes the report to `target/bench`, where scripts expect it, and the plot, which needs the whole bench.
pub fn save(report: &Report) -> Result<()> {
    let directory = paths::repo().join("target/bench");
    fs::create_dir_all(&directory)?;
    let write = |name: &str, text: String| {
        let file = directory.join(name);
        fs::write(&file, text).with_context(|| format!("write {}", file.display()))
    };
    write("report.json", serde_json::to_string_pretty(&report.json())?)?;
    write("report.md", report.table())?;
    if report.is_whole() { write("performance.svg", report.plot()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_grow_and_leave_out_what_is_too_small() {
        assert_eq!(sizes(1000), [100, 333, 1000]);
        assert_eq!(sizes(50), [16, 50]);
        assert_eq!(sizes(1), [1]);
        let extent = Extent { namespaces: 10_000, rounds: 3, only: None };
        assert_eq!([50, 1000, 3333, 10_000].map(|size| extent.rounds(size)), [1, 3, 1, 3]);
        assert_eq!([samples(10), samples(100), samples(10_000)], [10, 20, 100]);
        let only = |part| Extent { only: Some(part), ..extent };
        let of = |extent: Extent| (extent.sizes(), extent.rounds(10_000), extent.steps());
        assert_eq!(of(only(Only::Rest)), (vec![10_000], 1, 8));
        assert_eq!(of(only(Only::Start)), (vec![10_000], 3, 8));
    }

    #[test]
    fn the_largest_size_has_as_many_pairs_however_many_rounds_there_are() {
        let pairs = |rounds| Extent { namespaces: 1000, rounds, only: None }.pairs(1000) * rounds;
        assert_eq!([1, 2, 3].map(pairs), [PAIRS; 3]);
        let extent = Extent { namespaces: 1000, rounds: 3, only: None };
        assert_eq!([100, 1000].map(|size| (extent.pairs(size), extent.cold_starts(size))), [(FEW_PAIRS, 1), (8, 3)]);
        assert_eq!(Extent { namespaces: 50, ..extent }.pairs(50), FEW_PAIRS);
    }
}
