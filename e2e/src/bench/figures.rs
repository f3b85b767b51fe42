//! The measured samples of each size, and the figures computed from them. No clock, no I/O.

use std::collections::BTreeMap;
use std::time::Duration;

use super::numbers::{Spread, count, median, of_pairs, quantile, ratio};
use super::side::{Group, Side};

/// The samples of both sides, in the order of measurement.
#[derive(Clone, Debug, Default)]
pub struct Pair {
    ours: Vec<f64>,
    raw: Vec<f64>,
}

/// One figure for the operator and the same figure for the raw client.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Beside {
    pub ours: f64,
    pub raw: f64,
}

impl Beside {
    pub fn ratio(self) -> Option<f64> {
        ratio(self.ours, self.raw)
    }
}

impl Pair {
    pub fn add(&mut self, side: Side, sample: f64) {
        match side {
            Side::Ours => self.ours.push(sample),
            Side::Raw => self.raw.push(sample),
        }
    }

    /// Adds a time, in milliseconds.
    pub fn took(&mut self, side: Side, time: Duration) {
        self.add(side, milliseconds(time));
    }

    pub fn quantile(&self, share: f64) -> Beside {
        Beside { ours: quantile(&self.ours, share), raw: quantile(&self.raw, share) }
    }

    pub fn median(&self) -> Beside {
        Beside { ours: median(&self.ours), raw: median(&self.raw) }
    }

    /// The ratios of our samples to the raw samples, pair by pair.
    pub fn spread(&self) -> Option<Spread> {
        of_pairs(&self.ours, &self.raw)
    }

    /// The same for rates, where a larger number is better.
    fn spread_of_rates(&self) -> Option<Spread> {
        of_pairs(&self.raw, &self.ours)
    }

    /// Both sides minus the time that both have to wait for, pair by pair.
    fn without(&self, both: &[f64]) -> Self {
        let net = |side: &[f64]| side.iter().zip(both).map(|(sample, both)| sample - both).collect();
        Self { ours: net(&self.ours), raw: net(&self.raw) }
    }

    pub fn len(&self) -> usize {
        self.ours.len()
    }
}

pub fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// A period in which nothing happens.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rest {
    pub seconds: f64,
    pub cpu_seconds: f64,
    /// The median of its parts of ten seconds: something else that disturbs one of them does not count.
    pub cpu_part_seconds: f64,
    pub resident: f64,
    pub anonymous: f64,
    /// Requests except watches and requests for the Lease.
    pub requests: usize,
    pub lease_requests: usize,
}

impl Rest {
    /// In percent of one core.
    pub fn cpu_percent(self) -> f64 {
        if self.seconds > 0.0 { self.cpu_seconds / self.seconds * 100.0 } else { 0.0 }
    }
}

/// The operator alone, with all namespaces at once. Times in milliseconds, one for each round.
#[derive(Clone, Debug, Default)]
pub struct Whole {
    pub burst: Vec<f64>,
    pub restore: Vec<f64>,
    pub edit: Vec<f64>,
}

/// All measurements at one number of namespaces. Times in milliseconds, memory in megabytes.
#[derive(Clone, Debug, Default)]
pub struct Point {
    pub namespaces: usize,
    /// The number of policies that the baseline plans in each namespace.
    pub policies: usize,
    /// The number of Services in these namespaces.
    pub services: usize,
    pub whole: Whole,
    pub first_policies: Pair,
    /// The number of namespaces in a slice. Burst, restore and edit each concern that many.
    pub slice: usize,
    pub burst: Pair,
    pub restore: Pair,
    /// How long the deletion of a slice takes by itself, for each pair of restore.
    pub deletion: Vec<f64>,
    pub repair: Pair,
    pub edit: Pair,
    /// How busy the operator is while the raw client works on its slices.
    pub raw_slices: Busy,
    pub cold_start: Pair,
    /// Bytes that the API server sent during the cold start.
    pub cold_bytes: Pair,
    /// From the start of the process to the first response 200 of /readyz.
    pub ready: Vec<f64>,
    /// From the start of the process until the API server received the first watch.
    pub first_watch: Vec<f64>,
    /// The requests of the last restart, by verb and resource.
    pub restart_requests: BTreeMap<String, usize>,
    /// The most writes of one restart, not counting the Lease.
    pub restart_writes: usize,
    pub resident_start: Vec<f64>,
    pub resident_peak: Vec<f64>,
    pub rest: Option<Rest>,
    /// The rest with two hostile policies in each namespace.
    pub hostile_rest: Option<Rest>,
    /// The same namespaces with a Service in each: only the rest and the starts.
    pub with_services: Option<Box<Self>>,
    /// As many namespaces under a baseline with six allows: only all at once, one at a time, the rest and the starts.
    pub with_allows: Option<Box<Self>>,
}

/// The CPU time of a process during a period, and the length of the period. Both in seconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Busy {
    pub cpu: f64,
    pub elapsed: f64,
}

impl Busy {
    pub fn add(&mut self, cpu: Duration, elapsed: Duration) {
        self.cpu += cpu.as_secs_f64();
        self.elapsed += elapsed.as_secs_f64();
    }

    /// In percent of one core.
    pub fn percent(self) -> f64 {
        if self.elapsed > 0.0 { self.cpu / self.elapsed * 100.0 } else { 0.0 }
    }
}

/// A figure with its key in the report and its name in the table.
#[derive(Clone, Debug)]
pub struct Row {
    pub key: &'static str,
    pub what: String,
    pub value: Beside,
    /// The ratios of the pairs. None if ours and raw were not measured in pairs.
    pub pairs: Option<Spread>,
}

impl Row {
    /// The median ratio of the pairs. Without pairs, the ratio of the two values.
    pub fn ratio(&self) -> Option<f64> {
        self.pairs.map_or_else(|| self.value.ratio(), |pairs| Some(pairs.median))
    }
}

impl Point {
    /// Nothing is measured yet.
    pub fn new(group: Group, namespaces: usize) -> Self {
        Self { namespaces, policies: group.policies(), ..Self::default() }
    }

    /// The restore without the deletion before it, because both sides wait for the deletion.
    fn restore_net(&self) -> Pair {
        self.restore.without(&self.deletion)
    }

    /// The times, in the order of the issue.
    pub fn times(&self) -> Vec<Row> {
        let n = self.slice;
        let row = |key, what: &str, value| Row { key, what: what.to_owned(), value, pairs: None };
        let paired =
            |key, what: &str, pair: &Pair| Row { key, what: what.to_owned(), value: pair.median(), pairs: pair.spread() };
        let mut rows = vec![
            row("first_policies_p50", "1. new namespace to third policy, p50", self.first_policies.quantile(0.5)),
            row("first_policies_p99", "1. new namespace to third policy, p99", self.first_policies.quantile(0.99)),
            paired("burst", &format!("2. {n} new namespaces to last policy"), &self.burst),
            paired("restore", &format!("3. {} policies deleted and restored", 3 * n), &self.restore),
            paired("restore_net", "3. the same without the deletion", &self.restore_net()),
            row("repair_p50", "4. changed policy to repair, p50", self.repair.quantile(0.5)),
            row("repair_p99", "4. changed policy to repair, p99", self.repair.quantile(0.99)),
            paired("edit", &format!("5. edit to last of {} policies", 3 * n), &self.edit),
            paired("cold_start", "6. cold start beside a raw list", &self.cold_start),
        ];
        if let Some(allows) = &self.with_allows {
            let ninth = |share| allows.first_policies.quantile(share);
            rows.push(row("ninth_policy_p50", "9. new namespace to ninth policy, p50", ninth(0.5)));
            rows.push(row("ninth_policy_p99", "9. new namespace to ninth policy, p99", ninth(0.99)));
        }
        rows
    }

    /// The throughput with slices, in policies a second.
    pub fn throughput(&self) -> Vec<Row> {
        let rate = |milliseconds: f64| if milliseconds > 0.0 { count(3 * self.slice) * 1000.0 / milliseconds } else { 0.0 };
        let row = |key, what: &str, pair: &Pair| {
            let Beside { ours, raw } = pair.median();
            Row { key, what: what.to_owned(), value: Beside { ours: rate(ours), raw: rate(raw) }, pairs: pair.spread_of_rates() }
        };
        vec![
            row("burst", "2. new namespaces", &self.burst),
            row("restore", "3. deleted", &self.restore),
            row("restore_net", "3. without the deletion", &self.restore_net()),
            row("edit", "5. edit", &self.edit),
        ]
    }

    /// Whether everything was measured, not only a part.
    pub fn is_whole(&self) -> bool {
        self.burst.len() > 0
    }

    /// The start beside a raw list, if it was measured.
    pub fn start(&self) -> Option<Row> {
        self.times().into_iter().find(|row| row.key == "cold_start" && self.cold_start.len() > 0)
    }

    pub fn resident_rest(&self) -> f64 {
        self.rest.map_or(0.0, |rest| rest.resident)
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A sample point. Everything takes 2 ms a namespace for us and 1 ms for raw. Memory grows by 1 MB for 100 namespaces. During the
    /// second of three pairs the machine is ten times as slow. A Service in each namespace costs 1 MB, and six allows 2 MB.
    pub fn point(namespaces: usize) -> Point {
        let more = |megabytes| Some(Box::new(point_with(namespaces, megabytes)));
        Point { with_services: more(1.0), with_allows: more(2.0), ..point_with(namespaces, 0.0) }
    }

    /// The same after a run that measures only the rest.
    pub fn only_rest(namespaces: usize) -> Point {
        let strip = |Point { rest, hostile_rest, .. }| Point { namespaces, rest, hostile_rest, ..Point::default() };
        let Point { with_services, with_allows, .. } = point(namespaces);
        let [with_services, with_allows] = [with_services, with_allows].map(|more| more.map(|more| Box::new(strip(*more))));
        Point { with_services, with_allows, ..strip(point(namespaces)) }
    }

    /// The same after a run that measures only the starts.
    pub fn only_start(namespaces: usize) -> Point {
        let Point { cold_start, resident_start, .. } = point(namespaces);
        Point { namespaces, cold_start, resident_start, ..Point::default() }
    }

    fn point_with(namespaces: usize, megabytes: f64) -> Point {
        let (n, slice) = (count(namespaces), namespaces / 10);
        let mut point = Point { namespaces, slice, ..Point::default() };
        for whole in [&mut point.whole.burst, &mut point.whole.restore, &mut point.whole.edit] {
            whole.push(2.0 * n);
        }
        for slow in [1.0, 10.0, 1.0] {
            let n = slow * count(slice);
            for pair in [&mut point.burst, &mut point.edit, &mut point.cold_start] {
                pair.add(Side::Ours, 2.0 * n);
                pair.add(Side::Raw, n);
            }
            point.restore.add(Side::Ours, 5.0 * n);
            point.restore.add(Side::Raw, 4.0 * n);
            point.deletion.push(3.0 * n);
        }
        for sample in 1..=100 {
            for pair in [&mut point.first_policies, &mut point.repair] {
                pair.add(Side::Ours, 2.0 * count(sample));
                pair.add(Side::Raw, count(sample));
            }
        }
        point.resident_start.push(10.0 + megabytes + n / 100.0);
        point.resident_peak.push(15.0 + n / 100.0);
        let resident = 12.0 + megabytes + n / 100.0;
        let rest = Rest {
            seconds: 60.0,
            cpu_seconds: 0.06,
            cpu_part_seconds: 0.01,
            resident,
            anonymous: resident - 7.0,
            ..Rest::default()
        };
        point.rest = Some(rest);
        point.hostile_rest = Some(Rest { cpu_seconds: 0.063, cpu_part_seconds: 0.0104, ..rest });
        point
    }

    fn value(point: &Point, key: &str) -> Beside {
        point.times().into_iter().find(|row| row.key == key).map_or(Beside { ours: 0.0, raw: 0.0 }, |row| row.value)
    }

    #[test]
    fn pairs_are_compared_one_by_one_and_in_both_directions() {
        let mut point = point(1000);
        point.burst.add(Side::Ours, 100.0);
        point.burst.add(Side::Raw, 100.0);
        let time = point.times().into_iter().find(|row| row.key == "burst").and_then(|row| row.pairs);
        assert_eq!(time, Some(Spread { median: 2.0, lowest: 1.0, highest: 2.0, pairs: 4 }));
        let rate = point.throughput().into_iter().find(|row| row.key == "burst").and_then(|row| row.pairs);
        assert_eq!(rate, Some(Spread { median: 0.5, lowest: 0.5, highest: 1.0, pairs: 4 }));
        let net = point.times().into_iter().find(|row| row.key == "restore_net");
        assert_eq!(net.and_then(|row| row.ratio()), Some(2.0));
    }

    #[test]
    fn a_process_is_busy_for_a_share_of_the_time() {
        let mut busy = Busy::default();
        assert!(busy.percent().abs() < 1e-9);
        busy.add(Duration::from_millis(10), Duration::from_millis(100));
        busy.add(Duration::from_millis(20), Duration::from_millis(100));
        assert!((busy.percent() - 15.0).abs() < 1e-9);
    }

    #[test]
    fn figures_are_quantiles_and_medians_and_the_deletion_counts_for_neither_side() {
        let point = point(1000);
        assert_eq!(value(&point, "first_policies_p50"), Beside { ours: 100.0, raw: 50.0 });
        assert_eq!(value(&point, "ninth_policy_p99"), Beside { ours: 198.0, raw: 99.0 });
        assert_eq!(value(&point, "repair_p99"), Beside { ours: 198.0, raw: 99.0 });
        assert_eq!(value(&point, "restore"), Beside { ours: 500.0, raw: 400.0 });
        assert_eq!(value(&point, "restore_net"), Beside { ours: 200.0, raw: 100.0 });
        let rates: Vec<Beside> = point.throughput().into_iter().map(|row| row.value).collect();
        assert_eq!(rates[0], Beside { ours: 1500.0, raw: 3000.0 });
        assert!(point.rest.is_some_and(|rest| (rest.cpu_percent() - 0.1).abs() < 1e-9));
    }
}
