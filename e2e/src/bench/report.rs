//! The result of a bench run, for scripts. The units are in the report, under `units`.

use serde_json::{Map, Value, json};

use super::facts::Facts;
use super::figures::{Beside, Point, Rest, Row};
use super::growth::{GROWING, Growth};
use super::numbers::{median, megabytes};
use super::{plot, table};

/// The result of a bench run.
#[derive(Debug)]
pub struct Report {
    pub(super) points: Vec<Point>,
    pub(super) facts: Facts,
}

impl Report {
    pub(super) const fn new(points: Vec<Point>, facts: Facts) -> Self {
        Self { points, facts }
    }

    /// The tables, for a terminal and for docs/performance.md.
    pub fn table(&self) -> String {
        table::write(&self.points, &self.facts)
    }

    /// Whether everything was measured, not only a part.
    pub(super) fn is_whole(&self) -> bool {
        self.points.last().is_some_and(Point::is_whole)
    }

    /// Latency and memory against the number of namespaces, as SVG.
    pub fn plot(&self) -> String {
        plot::draw(&self.points)
    }

    pub fn json(&self) -> Value {
        let mut report = self.points.last().map(point).unwrap_or_default();
        let Facts { kubernetes, operator, rustc, commit, cores, binary, in_flight, foreign, took } = &self.facts;
        let growth: Map<String, Value> = GROWING
            .iter()
            .map(|(key, _, value)| {
                let Growth { exponent, slope } = Growth::of(&self.points, value);
                ((*key).to_owned(), json!({ "exponent": exponent, "per_namespace": slope }))
            })
            .collect();
        let rest = json!({
            "points": self.points.iter().map(point).map(Value::Object).collect::<Vec<_>>(),
            "growth": growth,
            "foreign_policies": foreign, "raw_requests_in_flight": 3 * in_flight, "binary_mb": megabytes(*binary),
            "versions": { "kubernetes": kubernetes, "operator": operator, "rustc": rustc }, "commit": commit,
            "cores": cores, "took_seconds": took.as_secs(),
            "units": units(),
        });
        report.extend(rest.as_object().cloned().unwrap_or_default());
        Value::Object(report)
    }
}

fn beside(value: Beside) -> Value {
    json!({ "ours": value.ours, "raw": value.raw, "ratio": value.ratio() })
}

fn rows(rows: Vec<Row>) -> Map<String, Value> {
    let of = |row: &Row| {
        let mut figure = json!({ "ours": row.value.ours, "raw": row.value.raw, "ratio": row.ratio() });
        if let Some(pairs) = row.pairs {
            figure["ratio_lowest"] = json!(pairs.lowest);
            figure["ratio_highest"] = json!(pairs.highest);
            figure["pairs"] = json!(pairs.pairs);
        }
        figure
    };
    rows.into_iter().map(|row| (row.key.to_owned(), of(&row))).collect()
}

/// The figures of one size.
fn point(point: &Point) -> Map<String, Value> {
    let mut all = if point.is_whole() { beside_raw(point) } else { rows(point.start().into_iter().collect()) };
    let figures = json!({
        "namespaces": point.namespaces,
        "rss_start_mb": of(&point.resident_start),
        "rss_rest_mb": point.rest.map(|rest| rest.resident),
        "rss_rest_anonymous_mb": point.rest.map(|rest| rest.anonymous),
        "rest_seconds": point.rest.map(|rest| rest.seconds),
        "cpu_rest_percent": point.rest.map(Rest::cpu_percent),
        "cpu_rest_seconds": point.rest.map(|rest| rest.cpu_seconds),
        "cpu_rest_part_seconds": point.rest.map(|rest| rest.cpu_part_seconds),
        "hostile_cpu_rest_percent": point.hostile_rest.map(Rest::cpu_percent),
        "hostile_cpu_rest_seconds": point.hostile_rest.map(|rest| rest.cpu_seconds),
        "hostile_cpu_rest_part_seconds": point.hostile_rest.map(|rest| rest.cpu_part_seconds),
        "hostile_rss_rest_mb": point.hostile_rest.map(|rest| rest.resident),
        "with_services": point.with_services.as_deref().map(more),
        "with_allows": point.with_allows.as_deref().map(more),
    });
    all.extend(figures.as_object().cloned().unwrap_or_default());
    all
}

/// The figures of measurement 9.
fn more(point: &Point) -> Value {
    let start = rows(point.start().into_iter().collect()).remove("cold_start");
    json!({
        "burst_all": of(&point.whole.burst),
        "rss_rest_mb": point.resident_rest(),
        "rss_rest_anonymous_mb": point.rest.unwrap_or_default().anonymous,
        "rss_start_mb": of(&point.resident_start),
        "cold_start": start,
    })
}

/// The median of what was measured.
fn of(samples: &[f64]) -> Option<f64> {
    (!samples.is_empty()).then(|| median(samples))
}

/// The figures that only the whole bench has.
fn beside_raw(point: &Point) -> Map<String, Value> {
    let mut all = rows(point.times());
    let rest = point.rest.unwrap_or_default();
    let figures = json!({
        "slice": point.slice,
        "policies_per_second": rows(point.throughput()),
        "burst_all": median(&point.whole.burst),
        "restore_all": median(&point.whole.restore),
        "edit_all": median(&point.whole.edit),
        "raw_slices_cpu_percent": point.raw_slices.percent(),
        "cold_start_bytes": beside(point.cold_bytes.median()),
        "ready_ms": median(&point.ready),
        "first_watch_ms": median(&point.first_watch),
        "restart_requests": point.restart_requests,
        "restart_writes": point.restart_writes,
        "rss_peak_mb": median(&point.resident_peak),
        "rest_requests": rest.requests,
        "rest_lease_requests": rest.lease_requests,
        "rounds": point.whole.burst.len(),
        "samples": point.first_policies.len(),
    });
    all.extend(figures.as_object().cloned().unwrap_or_default());
    all
}

fn units() -> Value {
    json!({
        "first_policies_*, ninth_policy_*, repair_*, cold_start, *_ms": "milliseconds; cold_start and *_ms are medians",
        "burst, restore, restore_net, edit": "milliseconds for so many namespaces as slice says; medians of the slices",
        "*_all": "milliseconds for all namespaces at once, without raw; medians of the rounds",
        "ratio": "ours divided by raw; where ratio_lowest and ratio_highest are beside it, the median of the ratios of pairs",
        "policies_per_second": "policies written in a second, in the same slices",
        "*_bytes": "bytes that the apiserver sent, as TLS",
        "*_mb": "megabytes of 10^6 bytes",
        "cpu_rest_percent, raw_slices_cpu_percent": "of the operator, of one core",
        "cpu_rest_part_seconds": "CPU time in ten seconds, the median of the parts of the rest",
        "hostile_*": "the same rest with two hostile policies in each namespace",
        "with_services, with_allows": "the same figures with a Service in each namespace, and with nine policies instead of three; null is not measured",
        "restart_writes": "the most that a restart wrote, without the Lease",
        "rest_requests": "requests at rest that are neither watches nor for the Lease",
        "growth": "from the first of points to the last: the power of N, and what each further namespace adds",
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::bench::figures::tests::{only_rest, only_start, point};

    #[test]
    fn scripts_find_what_the_issue_names() {
        let report = Report::new(vec![point(100), point(1000)], Facts::default()).json();
        for key in [
            "first_policies_p50",
            "first_policies_p99",
            "burst",
            "restore",
            "repair_p50",
            "repair_p99",
            "edit",
            "cold_start",
            "ninth_policy_p50",
        ] {
            for part in ["ours", "raw", "ratio"] {
                assert!(report[key][part].is_number(), "{key}.{part}");
            }
        }
        for key in ["burst", "restore", "edit", "cold_start"] {
            for part in ["ratio_lowest", "ratio_highest", "pairs"] {
                assert!(report[key][part].is_number(), "{key}.{part}");
            }
        }
        assert_eq!(report["policies_per_second"]["burst"]["ratio"], 0.5);
        for key in [
            "restart_writes",
            "rss_rest_mb",
            "rss_peak_mb",
            "cpu_rest_percent",
            "hostile_cpu_rest_percent",
            "namespaces",
            "binary_mb",
        ] {
            assert!(report[key].is_number(), "{key}");
        }
        assert!(report["commit"].is_string() && report["versions"]["kubernetes"].is_string());
        assert_eq!(report["namespaces"], 1000);
        assert_eq!(report["points"].as_array().unwrap().len(), 2);
        let more = ["with_services", "with_allows"].map(|more| report[more]["rss_rest_mb"].as_f64().unwrap());
        assert_eq!((more, report["rss_rest_mb"].as_f64().unwrap()), ([23.0, 24.0], 22.0));
        assert_eq!(report["with_allows"]["cold_start"]["ratio"], 2.0);
        let exponent = report["growth"]["burst_all"]["exponent"].as_f64().unwrap();
        assert!((exponent - 1.0).abs() < 1e-9);
    }

    #[test]
    fn a_run_of_only_the_rest_says_nothing_of_what_it_did_not_measure() {
        let report = Report::new(vec![only_rest(1000)], Facts::default());
        assert!(!report.is_whole());
        let report = report.json();
        assert_eq!(
            [&report["rss_rest_mb"], &report["with_services"]["rss_rest_mb"], &report["with_allows"]["rss_rest_mb"]],
            [22.0, 23.0, 24.0]
        );
        for key in ["first_policies_p50", "burst", "cold_start", "restart_writes"] {
            assert!(report[key].is_null() && report["with_allows"][key].is_null(), "{key}");
        }
        assert_eq!([&report["cpu_rest_seconds"], &report["hostile_cpu_rest_seconds"]], [0.06, 0.063]);
    }

    #[test]
    fn a_run_of_only_the_starts_says_nothing_of_what_it_did_not_measure() {
        let report = Report::new(vec![only_start(1000)], Facts::default()).json();
        assert_eq!((&report["cold_start"]["ratio"], &report["cold_start"]["pairs"]), (&json!(2.0), &json!(3)));
        assert_eq!(report["rss_start_mb"], 20.0);
        for key in ["first_policies_p50", "burst", "rss_rest_mb", "cpu_rest_percent", "with_allows"] {
            assert!(report[key].is_null(), "{key}");
        }
    }
}
