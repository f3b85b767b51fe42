//! What was measured, as a table for people and as JSON for scripts.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

/// The samples of both sides.
#[derive(Debug, Default)]
pub struct Figure(BTreeMap<&'static str, Vec<Duration>>);

impl Figure {
    /// Adds a sample.
    pub fn add(&mut self, side: &'static str, sample: Duration) {
        self.0.entry(side).or_default().push(sample);
    }

    /// Milliseconds below which that share of the samples lies.
    fn quantile(&self, side: &str, share: f64) -> f64 {
        let mut sorted = self.0.get(side).cloned().unwrap_or_default();
        sorted.sort_unstable();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "few samples")]
        let index = ((sorted.len() as f64 * share).ceil() as usize).clamp(1, sorted.len().max(1)) - 1;
        sorted.get(index).map_or(0.0, |sample| sample.as_secs_f64() * 1000.0)
    }

    fn row(&self, share: f64) -> [f64; 3] {
        let (ours, raw) = (self.quantile("ours", share), self.quantile("raw", share));
        [ours, raw, ours / raw]
    }
}

/// A run of the bench.
#[derive(Debug)]
pub struct Report {
    namespaces: usize,
    /// A new namespace to its third policy.
    pub first_policies: Figure,
    /// A changed policy to its repair.
    pub repair: Figure,
    /// Many new namespaces to the last policy of all.
    pub burst: Figure,
    /// Memory of the operator at the end, in bytes.
    pub resident: u64,
    /// The most that it ever had.
    pub peak: u64,
    /// The size of its binary.
    pub binary: u64,
}

impl Report {
    pub(super) fn new(namespaces: usize) -> Self {
        let figure = Figure::default;
        Self { namespaces, first_policies: figure(), repair: figure(), burst: figure(), resident: 0, peak: 0, binary: 0 }
    }

    fn rows(&self) -> [(&'static str, String, [f64; 3]); 5] {
        [
            ("first_policies_p50", "new namespace to third policy, p50".to_owned(), self.first_policies.row(0.5)),
            ("first_policies_p99", "new namespace to third policy, p99".to_owned(), self.first_policies.row(0.99)),
            ("repair_p50", "changed policy to repair, p50".to_owned(), self.repair.row(0.5)),
            ("repair_p99", "changed policy to repair, p99".to_owned(), self.repair.row(0.99)),
            ("burst_p50", format!("{} new namespaces to the last policy, median", self.namespaces), self.burst.row(0.5)),
        ]
    }

    /// The table, for a terminal and for docs/performance.md.
    pub fn table(&self) -> String {
        let width = self.rows().iter().map(|(_, what, _)| what.len()).max().unwrap_or(0);
        let mut lines = vec![
            format!("| {:width$} | {:>9} | {:>9} | {:>6} |", "milliseconds", "ours", "raw", "ratio"),
            format!("|{:-<w$}|{:->11}|{:->11}|{:->8}|", "", ":", ":", ":", w = width + 2),
        ];
        for (_, what, [ours, raw, ratio]) in self.rows() {
            lines.push(format!("| {what:width$} | {ours:>9.1} | {raw:>9.1} | {ratio:>6.2} |"));
        }
        #[expect(clippy::cast_precision_loss, reason = "megabytes")]
        let megabytes = |bytes: u64| bytes as f64 / 1e6;
        lines.push(format!(
            "\nThe operator at the end: {:.1} MB resident, {:.1} MB at its peak; its binary has {:.1} MB.",
            megabytes(self.resident),
            megabytes(self.peak),
            megabytes(self.binary)
        ));
        lines.join("\n")
    }

    /// The same for scripts; times in milliseconds, sizes in bytes.
    pub fn json(&self) -> Value {
        let rows = self
            .rows()
            .into_iter()
            .map(|(key, _, [ours, raw, ratio])| (key.to_owned(), json!({ "ours": ours, "raw": raw, "ratio": ratio })));
        let mut report: serde_json::Map<String, Value> = rows.collect();
        let facts = json!({
            "namespaces": self.namespaces, "rss_bytes": self.resident, "rss_peak_bytes": self.peak, "binary_bytes": self.binary,
            "version": env!("CARGO_PKG_VERSION"),
        });
        report.extend(facts.as_object().cloned().unwrap_or_default());
        Value::Object(report)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_samples_and_the_table_lines_up() {
        let mut report = Report::new(200);
        for ms in 1..=100 {
            report.repair.add("ours", Duration::from_millis(2 * ms));
            report.repair.add("raw", Duration::from_millis(ms));
        }
        assert!(report.repair.row(0.5).iter().zip([100.0, 50.0, 2.0]).all(|(found, want)| (found - want).abs() < 1e-9));
        assert!(report.repair.row(0.99).iter().zip([198.0, 99.0, 2.0]).all(|(found, want)| (found - want).abs() < 1e-9));
        let table = report.table();
        let widths: Vec<usize> = table.lines().take(7).map(str::len).collect();
        assert!(widths.iter().all(|width| *width == widths[0]), "{table}");
    }
}
