//! What was measured: the samples of each size, and what they come to. No clock, no I/O.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Side;
use super::numbers::{count, median, quantile, ratio};

/// The samples of both sides.
#[derive(Clone, Debug, Default)]
pub struct Pair {
    ours: Vec<f64>,
    raw: Vec<f64>,
}

/// A figure of ours beside that of raw.
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

    /// A time, in milliseconds.
    pub fn took(&mut self, side: Side, time: Duration) {
        self.add(side, milliseconds(time));
    }

    pub fn quantile(&self, share: f64) -> Beside {
        Beside { ours: quantile(&self.ours, share), raw: quantile(&self.raw, share) }
    }

    pub fn median(&self) -> Beside {
        Beside { ours: median(&self.ours), raw: median(&self.raw) }
    }

    pub fn len(&self) -> usize {
        self.ours.len()
    }
}

pub fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// Nothing happens for a while.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rest {
    pub seconds: f64,
    pub cpu_seconds: f64,
    pub resident: f64,
    pub anonymous: f64,
    /// Requests that were neither watches nor for the Lease.
    pub requests: usize,
    pub lease_requests: usize,
}

/// Everything that was measured with so many namespaces. Times in milliseconds, memory in megabytes.
#[derive(Clone, Debug, Default)]
pub struct Point {
    pub namespaces: usize,
    pub first_policies: Pair,
    pub burst: Pair,
    pub restore: Pair,
    /// How long the deletion alone takes.
    pub deletion: Vec<f64>,
    pub repair: Pair,
    pub edit: Pair,
    pub cold_start: Pair,
    /// Bytes from the apiserver during the cold start.
    pub cold_bytes: Pair,
    /// From the start of the process to its first 200 at /readyz.
    pub ready: Vec<f64>,
    /// From the start of the process to its first watch, as the apiserver received it.
    pub first_watch: Vec<f64>,
    /// What a restart asks, by verb and resource; of the last one.
    pub restart_requests: BTreeMap<String, usize>,
    /// The most that one restart wrote, but for the Lease.
    pub restart_writes: usize,
    pub resident_start: Vec<f64>,
    pub resident_peak: Vec<f64>,
    pub rest: Option<Rest>,
}

/// A figure with its name in the report and in the table.
#[derive(Clone, Debug)]
pub struct Row {
    pub key: &'static str,
    pub what: String,
    pub value: Beside,
}

impl Point {
    /// The restoration without the deletion before it, which both sides wait for.
    fn restore_net(&self) -> Beside {
        let (both, deletion) = (self.restore.median(), median(&self.deletion));
        Beside { ours: both.ours - deletion, raw: both.raw - deletion }
    }

    /// The times, in the order of the issue.
    pub fn times(&self) -> Vec<Row> {
        let n = self.namespaces;
        let row = |key, what: &str, value| Row { key, what: what.to_owned(), value };
        vec![
            row("first_policies_p50", "1. new namespace to third policy, p50", self.first_policies.quantile(0.5)),
            row("first_policies_p99", "1. new namespace to third policy, p99", self.first_policies.quantile(0.99)),
            row("burst", &format!("2. {n} new namespaces to last policy"), self.burst.median()),
            row("restore", &format!("3. {} policies deleted and restored", 3 * n), self.restore.median()),
            row("restore_net", "3. the same without the deletion", self.restore_net()),
            row("repair_p50", "4. changed policy to repair, p50", self.repair.quantile(0.5)),
            row("repair_p99", "4. changed policy to repair, p99", self.repair.quantile(0.99)),
            row("edit", &format!("5. edit to last of {} policies", 3 * n), self.edit.median()),
            row("cold_start", "6. cold start beside a raw list", self.cold_start.median()),
        ]
    }

    /// Policies a second, of that row.
    pub fn throughput(&self, key: &str) -> Option<Beside> {
        let time = self.times().into_iter().find(|row| row.key == key)?.value;
        let rate = |milliseconds: f64| if milliseconds > 0.0 { count(3 * self.namespaces) * 1000.0 / milliseconds } else { 0.0 };
        Some(Beside { ours: rate(time.ours), raw: rate(time.raw) })
    }

    pub fn resident_rest(&self) -> f64 {
        self.rest.map_or(0.0, |rest| rest.resident)
    }

    pub fn cpu_rest_percent(&self) -> f64 {
        self.rest.map_or(0.0, |rest| rest.cpu_seconds / rest.seconds * 100.0)
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A size at which everything takes 2 ms a namespace for us, 1 ms raw, and memory grows by 1 MB for 100.
    pub fn point(namespaces: usize) -> Point {
        let n = count(namespaces);
        let mut point = Point { namespaces, ..Point::default() };
        for pair in [&mut point.burst, &mut point.edit, &mut point.cold_start] {
            pair.add(Side::Ours, 2.0 * n);
            pair.add(Side::Raw, n);
        }
        for sample in 1..=100 {
            for pair in [&mut point.first_policies, &mut point.repair] {
                pair.add(Side::Ours, 2.0 * count(sample));
                pair.add(Side::Raw, count(sample));
            }
        }
        point.restore.add(Side::Ours, 5.0 * n);
        point.restore.add(Side::Raw, 4.0 * n);
        point.deletion.push(3.0 * n);
        point.resident_start.push(10.0 + n / 100.0);
        point.resident_peak.push(15.0 + n / 100.0);
        let resident = 12.0 + n / 100.0;
        point.rest = Some(Rest { seconds: 60.0, cpu_seconds: 0.06, resident, anonymous: resident - 7.0, ..Rest::default() });
        point
    }

    fn value(point: &Point, key: &str) -> Beside {
        point.times().into_iter().find(|row| row.key == key).map_or(Beside { ours: 0.0, raw: 0.0 }, |row| row.value)
    }

    #[test]
    fn figures_are_quantiles_and_medians_and_the_deletion_counts_for_neither_side() {
        let point = point(100);
        assert_eq!(value(&point, "first_policies_p50"), Beside { ours: 100.0, raw: 50.0 });
        assert_eq!(value(&point, "repair_p99"), Beside { ours: 198.0, raw: 99.0 });
        assert_eq!(value(&point, "restore"), Beside { ours: 500.0, raw: 400.0 });
        assert_eq!(value(&point, "restore_net"), Beside { ours: 200.0, raw: 100.0 });
        assert_eq!(point.throughput("burst"), Some(Beside { ours: 1500.0, raw: 3000.0 }));
        assert!((point.cpu_rest_percent() - 0.1).abs() < 1e-9);
    }
}
