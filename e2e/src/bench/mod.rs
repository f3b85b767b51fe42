//! The bench: what the operator costs beside the raw apiserver, which does the same work over the same stack in the same run.
//!
//! The order of what is measured. Ours and raw take turns, so that both meet the same machine; the method is in docs/performance.md.

mod bulk;
mod calibrate;
mod clear;
mod cold;
mod eye;
mod facts;
mod figures;
mod foreign;
mod http;
mod latency;
mod numbers;
mod plot;
mod proc;
mod progress;
mod raw;
mod relay;
mod report;
mod rest;
mod subject;
mod table;

use std::fs;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use kube::config::{Config, KubeConfigOptions, Kubeconfig};
use policy_baseline::cluster::client::{self, Clients, Stack};
use tokio::time::timeout;

use self::eye::{Eye, Kind, Wanted};
use self::facts::Facts;
use self::figures::Point;
use self::numbers::megabytes;
use self::progress::Progress;
use self::raw::{Raw, baseline, render};
pub use self::report::Report;
use self::subject::Subject;
use crate::cluster::{ControlPlane, Options};
use crate::wait::{TIMEOUT, eventually};
use crate::{SERVICE_ACCOUNT, SYSTEM_NAMESPACE, paths};

/// The bench ends by then, whatever happens.
const LIMIT: Duration = Duration::from_hours(1);
/// The smaller sizes that have all their rounds too. Below they say little, beyond they take long: there they have one.
const QUICK: RangeInclusive<usize> = 100..=1000;
/// How long a rest lasts at the largest size; less where few namespaces say that somebody is in a hurry.
const REST: Duration = Duration::from_mins(1);
const SHORT_REST: Duration = Duration::from_secs(10);
const HURRY: usize = 500;
/// Room for a run: etcd keeps every version until it is compacted.
const ETCD_QUOTA: &str = "--quota-backend-bytes=8589934592";

/// Who writes the policies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Ours,
    Raw,
}

impl Side {
    const BOTH: [Self; 2] = [Self::Ours, Self::Raw];

    const fn label(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Raw => "raw",
        }
    }
}

/// Namespaces that are made and removed together. No name comes twice in a run.
struct Population {
    prefix: String,
    side: Side,
    count: usize,
}

impl Population {
    fn name(&self, number: usize) -> String {
        format!("{}{number:05}", self.prefix)
    }

    fn names(&self) -> impl Iterator<Item = String> {
        (0..self.count).map(|number| self.name(number))
    }

    /// An event newer than that of each of its policies.
    fn wanted<'a>(&'a self, names: &'a [String], after: u64) -> Wanted<'a> {
        Wanted { prefix: &self.prefix, names, kind: Kind::Modified, after, count: self.count * names.len() }
    }
}

struct Bench {
    plane: ControlPlane,
    raw: Raw,
    eye: Eye,
    progress: Progress,
    /// Of the operator.
    kubeconfig: PathBuf,
    /// The names of the policies.
    names: Vec<String>,
    /// How many namespaces our side works at when it creates, deletes or applies.
    in_flight: usize,
    /// How often the baseline has been edited.
    edits: u16,
    populations: usize,
    /// Policies of others.
    foreign: usize,
}

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub struct Extent {
    /// At the largest size.
    pub namespaces: usize,
    /// How often each side takes its turn.
    pub rounds: usize,
}

/// Runs the bench. `say` gets a line for each step.
pub async fn run(extent: Extent, say: impl Fn(&str) + Send + Sync + 'static) -> Result<Report> {
    let bench = async {
        let mut bench = Bench::start(extent, say).await?;
        let mut points = Vec::new();
        for size in sizes(extent.namespaces) {
            points.push(bench.point(size, extent).await?);
        }
        let facts = Facts::gather(&bench.raw, bench.in_flight, bench.foreign, bench.progress.elapsed()).await?;
        anyhow::Ok(Report::new(points, facts))
    };
    timeout(LIMIT, bench).await.context("the bench took too long")?
}

/// A tenth, a third, and all; a handful of namespaces says nothing.
fn sizes(namespaces: usize) -> Vec<usize> {
    let mut sizes = vec![namespaces / 10, namespaces / 3, namespaces];
    sizes.retain(|size| *size >= 10 || *size == namespaces);
    sizes.dedup();
    sizes
}

impl Extent {
    fn rounds(self, size: usize) -> usize {
        if size == self.namespaces || QUICK.contains(&size) { self.rounds } else { 1 }
    }

    /// How many steps [`Bench::point`] says that it takes.
    fn steps(self) -> usize {
        let of_size = |size| 1 + self.rounds(size) * (3 + 5) + 1;
        1 + sizes(self.namespaces).into_iter().map(of_size).sum::<usize>()
    }
}

impl Bench {
    async fn start(extent: Extent, say: impl Fn(&str) + Send + Sync + 'static) -> Result<Self> {
        let mut progress = Progress::new(extent.steps(), say);
        progress.step("a control plane");
        let options = Options { etcd_args: vec![ETCD_QUOTA.to_owned()], ..Options::default() };
        let plane = ControlPlane::start(options).await?;
        ensure!(!plane.is_external(), "the bench needs a control plane of its own: unset E2E_KUBECONFIG");
        plane.run_kubectl(&["apply", "--server-side", "-k", "manifests/base"])?;
        // What it does in each new namespace is no matter of ours, and goes on long after.
        plane.kill_controller_manager()?;
        let clients = connect(plane.admin_kubeconfig()).await?;
        let raw = Raw::new(clients.requests);
        let first = baseline(0)?;
        eventually("the baseline is taken", TIMEOUT, async || raw.apply_baseline(&first).await.map(|()| true)).await?;
        let names = render(&first)?.into_iter().map(|policy| policy.name).collect();
        let eye = Eye::open(clients.watches).await?;
        let in_flight = calibrate::calibrate(&raw, extent.namespaces, &mut progress).await?;
        let kubeconfig = plane.service_account_kubeconfig(SYSTEM_NAMESPACE, SERVICE_ACCOUNT).await?;
        Ok(Self { plane, raw, eye, progress, kubeconfig, names, in_flight, edits: 0, populations: 0, foreign: 0 })
    }

    fn population(&mut self, side: Side, count: usize) -> Population {
        self.populations += 1;
        Population { prefix: format!("{}-{}-", side.label(), self.populations), side, count }
    }

    /// Everything at one size.
    async fn point(&mut self, size: usize, extent: Extent) -> Result<Point> {
        self.progress.step(format!("{size} policies of others"));
        foreign::grow(&self.raw, self.foreign, size).await?;
        self.foreign = size;
        let mut point = Point { namespaces: size, ..Point::default() };
        let rounds = extent.rounds(size);
        for round in 1..=rounds {
            let title = format!("{size} namespaces, round {round} of {rounds}");
            if round % 2 == 1 {
                self.raw_turn(&title, &mut point).await?;
            }
            let rest = (round == rounds).then_some(if size < extent.namespaces || size < HURRY { SHORT_REST } else { REST });
            self.our_turn(&title, round % 2 == 1, rest, &mut point).await?;
            if round % 2 == 0 {
                self.raw_turn(&title, &mut point).await?;
            }
        }
        Ok(point)
    }

    /// The operator does not run.
    async fn raw_turn(&mut self, title: &str, point: &mut Point) -> Result<()> {
        let population = self.population(Side::Raw, point.namespaces);
        self.bulk(title, &population, None, point).await?;
        clear::clear(self.plane.etcd_url()?, &population).await
    }

    async fn our_turn(&mut self, title: &str, list_first: bool, rest: Option<Duration>, point: &mut Point) -> Result<()> {
        let population = self.population(Side::Ours, point.namespaces);
        let mut subject = Subject::start(&self.plane, &self.kubeconfig).await?;
        subject.ready(TIMEOUT).await?;
        subject.leads().await?;
        proc::forget_peak(subject.pid())?;
        self.bulk(title, &population, Some(&mut subject), point).await?;
        self.progress.step(format!("{title}: one at a time, ours and raw by turns"));
        self.latency(samples(point.namespaces), point).await?;
        if let Some(time) = rest {
            self.progress.step(format!("{size} namespaces: {time:?} of rest", size = point.namespaces));
            point.rest = Some(self.rest(&subject, time).await?);
        }
        subject.settle().await?;
        subject.stop()?;
        self.progress.step(format!("{title}, ours: cold start"));
        self.cold_start(population.count, list_first, point).await?;
        clear::clear(self.plane.etcd_url()?, &population).await
    }

    /// Measurements 2, 3 and 5 of one side.
    async fn bulk(
        &mut self,
        title: &str,
        population: &Population,
        mut subject: Option<&mut Subject>,
        point: &mut Point,
    ) -> Result<()> {
        let side = population.side;
        self.progress.step(format!("{title}, {}: new namespaces", side.label()));
        point.burst.took(side, self.burst(population).await?);
        settled(subject.as_deref_mut(), population).await?;
        self.progress.step(format!("{title}, {}: all policies deleted", side.label()));
        let (restored, deleted) = self.restore(population).await?;
        point.restore.took(side, restored);
        settled(subject.as_deref_mut(), population).await?;
        match &subject {
            Some(subject) => point.resident_peak.push(megabytes(proc::peak(subject.pid())?)),
            None => point.deletion.push(figures::milliseconds(deleted)),
        }
        self.progress.step(format!("{title}, {}: an edit", side.label()));
        point.edit.took(side, self.edit(population).await?);
        settled(subject, population).await
    }
}

/// The operator says itself that all is well, and has written the last event.
async fn settled(subject: Option<&mut Subject>, population: &Population) -> Result<()> {
    let Some(subject) = subject else { return Ok(()) };
    subject.compliant(population.count, TIMEOUT).await?;
    subject.settle().await
}

/// How many samples of a single namespace one round takes.
fn samples(namespaces: usize) -> usize {
    (namespaces / 5).clamp(10, 100)
}

/// The operator's own stack, as that user.
async fn connect(kubeconfig: &Path) -> Result<Clients> {
    let config = Config::from_custom_kubeconfig(Kubeconfig::read_from(kubeconfig)?, &KubeConfigOptions::default()).await?;
    let clients = client::connect(config)?;
    ensure!(clients.stack == Stack::Http2, "not the stack of the operator: {:?}", clients.stack);
    Ok(clients)
}

/// Writes the report and the plot where scripts look for them.
pub fn save(report: &Report) -> Result<()> {
    let directory = paths::repo().join("target/bench");
    fs::create_dir_all(&directory)?;
    let write = |name: &str, text: String| {
        let file = directory.join(name);
        fs::write(&file, text).with_context(|| format!("write {}", file.display()))
    };
    write("report.json", serde_json::to_string_pretty(&report.json())?)?;
    write("report.md", report.table())?;
    write("performance.svg", report.plot())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_grow_and_leave_out_what_is_too_small() {
        assert_eq!(sizes(1000), [100, 333, 1000]);
        assert_eq!(sizes(50), [16, 50]);
        assert_eq!(sizes(1), [1]);
        let extent = Extent { namespaces: 10_000, rounds: 3 };
        assert_eq!([50, 1000, 3333, 10_000].map(|size| extent.rounds(size)), [1, 3, 1, 3]);
        assert_eq!([samples(10), samples(100), samples(10_000)], [10, 20, 100]);
    }
}
