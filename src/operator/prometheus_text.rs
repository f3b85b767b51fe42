//! Formats metrics: words in snake_case, and the two formats that Prometheus reads.

use std::{
    collections::HashMap,
    fmt::{self, Write as _},
};

use prometheus_client::encoding::{EncodeLabelValue, LabelValueEncoder};

/// The format of `/metrics`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Format {
    /// OpenMetrics 1.0.0.
    OpenMetrics,
    /// Prometheus text format 0.0.4.
    Text,
}

/// A word of a fixed set. It is exported in snake_case.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Word(pub &'static str);

impl EncodeLabelValue for Word {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), fmt::Error> {
        fmt::Write::write_str(encoder, &snake_case(self.0))
    }
}

/// Converts a word: `SpecChanged` becomes spec_changed, `DNSCoverage` dns_coverage, `services in kube-system` services_in_kube_system.
pub fn snake_case(word: &str) -> String {
    let mut snake = String::with_capacity(word.len() + 4);
    let mut chars = word.chars().peekable();
    let mut before = None::<char>;
    while let Some(c) = chars.next() {
        let begins = c.is_ascii_uppercase()
            && before.is_some_and(|b| {
                b.is_ascii_lowercase() || b.is_ascii_digit() || chars.peek().is_some_and(char::is_ascii_lowercase)
            });
        if (begins || !c.is_ascii_alphanumeric()) && !snake.ends_with('_') {
            snake.push('_');
        }
        if c.is_ascii_alphanumeric() {
            snake.push(c.to_ascii_lowercase());
        }
        before = Some(c);
    }
    snake
}

/// Converts OpenMetrics to the Prometheus text format. There, the names of counters and infos include the suffix of their series.
/// The text format has no infos, no units and no end marker.
pub fn as_text(open_metrics: &str) -> String {
    let types = open_metrics.lines().filter_map(comment).filter(|(what, ..)| *what == "TYPE");
    let suffixes: HashMap<&str, &str> = types
        .map(|(_, name, kind)| {
            (
                name,
                if kind == "counter" {
                    "_total"
                } else if kind == "info" {
                    "_info"
                } else {
                    ""
                },
            )
        })
        .collect();
    let mut text = String::with_capacity(open_metrics.len());
    for line in open_metrics.lines() {
        let Some((what, name, rest)) = comment(line) else {
            if !line.starts_with('#') {
                text.extend([line, "\n"]);
            }
            continue;
        };
        let suffix = suffixes.get(name).copied().unwrap_or_default();
        let rest = if (what, rest) == ("TYPE", "info") { "gauge" } else { rest };
        if what != "UNIT" {
            let _ = writeln!(text, "# {what} {name}{suffix} {rest}");
        }
    }
    text
}

/// Splits a comment of OpenMetrics, such as `# TYPE name counter`, into its keyword, the name of the metric and the rest.
pub fn comment(line: &str) -> Option<(&str, &str, &str)> {
    let (what, rest) = line.strip_prefix("# ")?.split_once(' ')?;
    let (name, rest) = rest.split_once(' ')?;
    Some((what, name, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_become_snake_case() {
        for (word, snake) in [
            ("SpecChanged", "spec_changed"),
            ("DNSCoverage", "dns_coverage"),
            ("Ok", "ok"),
            ("opt_out", "opt_out"),
            ("services in kube-system", "services_in_kube_system"),
            ("daemonset kube-system/node-local-dns", "daemonset_kube_system_node_local_dns"),
        ] {
            assert_eq!(snake_case(word), snake);
        }
    }
}
