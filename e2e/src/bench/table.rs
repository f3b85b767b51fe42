//! The results as tables for people: Markdown that is also readable in a terminal.

use super::facts::Facts;
use super::figures::{Point, Rest, Row};
use super::growth::{Figure, GROWING, Growth};
use super::numbers::{median, megabytes};

/// All tables of a run.
pub fn write(points: &[Point], facts: &Facts) -> String {
    let Some(point) = points.last() else { return String::new() };
    if !point.is_whole() {
        let start = point.start().map(|row| beside("milliseconds", vec![row], 1));
        let rest = (!cpu(point).is_empty()).then(|| operator(point, cpu(point)));
        return [start, Some(more(point)), rest, Some(machine(facts, point))]
            .into_iter()
            .flatten()
            .collect::<Vec<_>>()
            .join("\n\n");
    }
    [times(point), throughput(point), resources(facts, point), growth(points), more(point), notes(facts, point)].join("\n\n")
}

fn times(point: &Point) -> String {
    beside("milliseconds", point.times(), 1)
}

fn throughput(point: &Point) -> String {
    beside("policies a second", point.throughput(), 0)
}

fn resources(facts: &Facts, point: &Point) -> String {
    let rest = point.rest.unwrap_or_default();
    let bytes = point.cold_bytes.median();
    let before = [
        ("2, 3, 5. CPU of it while raw has its turn", format!("{:.1} % of a core", point.raw_slices.percent())),
        ("6. writes of a restart, but for the Lease", point.restart_writes.to_string()),
        ("6. bytes read by it; by the raw list", format!("{:.1} MB; {:.1} MB", bytes.ours / 1e6, bytes.raw / 1e6)),
        ("6. from the start of the process to ready", format!("{:.0} ms", median(&point.ready))),
        ("7. from the start of the process to the first watch", format!("{:.0} ms", median(&point.first_watch))),
        ("7. resident after start", format!("{:.1} MB", median(&point.resident_start))),
        ("7. resident at rest (without files)", format!("{:.1} MB ({:.1} MB)", rest.resident, rest.anonymous)),
        ("7. peak of resident memory during 2 and 3", format!("{:.1} MB", median(&point.resident_peak))),
    ];
    let after = [
        ("7. requests at rest, but watches; for the Lease", format!("{}; {}", rest.requests, rest.lease_requests)),
        ("7. binary", format!("{:.1} MB", megabytes(facts.binary))),
    ];
    operator(point, [before.to_vec(), cpu(point), after.to_vec()].concat())
}

/// The CPU time at rest, as far as it was measured.
fn cpu(point: &Point) -> Vec<(&'static str, String)> {
    let rows = [("7. CPU at rest", point.rest), ("7. the same with two hostile policies in each namespace", point.hostile_rest)];
    let figure = |rest: Rest| {
        let (ms, percent) = (rest.cpu_part_seconds * 1000.0, rest.cpu_percent());
        format!("{:.3} s in {:.0} s ({ms:.1} ms in 10 s, median), {percent:.2} % of a core", rest.cpu_seconds, rest.seconds)
    };
    rows.into_iter().filter_map(|(what, rest)| Some((what, figure(rest?)))).collect()
}

fn operator(point: &Point, rows: Vec<(&str, String)>) -> String {
    let rows = rows.into_iter().map(|(what, figure)| vec![what.to_owned(), figure]);
    table(vec![format!("the operator, {} namespaces", point.namespaces), "figure".to_owned()], rows.collect())
}

fn growth(points: &[Point]) -> String {
    let mut head = vec!["8. by namespaces, ours".to_owned()];
    head.extend(points.iter().map(|point| point.namespaces.to_string()));
    head.extend(["power of N", "each more"].map(str::to_owned));
    let rows = GROWING.iter().map(|(_, what, value)| {
        let Growth { exponent, slope } = Growth::of(points, value);
        let shown = |value: Option<f64>, digits: usize| value.map_or_else(|| "-".to_owned(), |v| format!("{v:.digits$}"));
        let mut row = vec![(*what).to_owned()];
        row.extend(points.iter().map(|point| format!("{:.1}", value(point))));
        row.extend([shown(exponent, 2), shown(slope, 4)]);
        row
    });
    table(head, rows.collect())
}

/// What more in each namespace costs. Leaves out the figures that were not measured.
fn more(point: &Point) -> String {
    let columns = [Some(point), point.with_services.as_deref(), point.with_allows.as_deref()];
    let figures: [(&str, usize, Figure); 7] = [
        ("all new to last policy, ms", 1, |point| median(&point.whole.burst)),
        ("resident at rest, MB", 1, Point::resident_rest),
        ("the same without files, MB", 1, |point| point.rest.unwrap_or_default().anonymous),
        ("resident after start, MB", 1, |point| median(&point.resident_start)),
        ("cold start, ms", 1, |point| point.cold_start.median().ours),
        ("raw list of the same, ms", 1, |point| point.cold_start.median().raw),
        ("ratio of the two", 2, |point| point.cold_start.spread().map_or(0.0, |pairs| pairs.median)),
    ];
    let rows = figures.into_iter().filter_map(|(what, digits, figure)| {
        let values = columns.map(|column| column.map(figure).filter(|value| *value > 0.0));
        let shown = values.map(|value| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}")));
        values.iter().any(Option::is_some).then(|| [vec![what.to_owned()], shown.to_vec()].concat())
    });
    let head = [&format!("9. in each of {} namespaces", point.namespaces), "three policies", "and a Service", "nine policies"];
    table(head.map(str::to_owned).to_vec(), rows.collect())
}

fn notes(facts: &Facts, point: &Point) -> String {
    let allows = point.with_allows.as_deref();
    let requests: Vec<String> = point.restart_requests.iter().map(|(what, count)| format!("{count} {what}")).collect();
    format!(
        "Requests of a restart: {}.\n\nPairs of 2, 3 and 5: {}, with {} namespaces a side; starts: {}, and {} of 9; samples of 1 and 4: {}, and {} of 9; {}",
        requests.join(", "),
        point.burst.len(),
        point.slice,
        point.cold_start.len(),
        allows.map_or(0, |allows| allows.cold_start.len()),
        point.first_policies.len(),
        allows.map_or(0, |allows| allows.first_policies.len()),
        machine(facts, point),
    )
}

fn machine(facts: &Facts, point: &Point) -> String {
    format!(
        "{} namespaces, {} policies of others; raw with {} requests in flight; {} cores; Kubernetes {}, {}, {}, commit {}; {} min {} s in all.",
        point.namespaces,
        facts.foreign,
        3 * facts.in_flight,
        facts.cores,
        facts.kubernetes,
        facts.operator,
        facts.rustc,
        facts.commit,
        facts.took.as_secs() / 60,
        facts.took.as_secs() % 60,
    )
}

fn beside(head: &str, rows: Vec<Row>, digits: usize) -> String {
    let shown = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.2}"));
    let cells = rows.into_iter().map(|row| {
        let (ratio, (lowest, highest)) = (shown(row.ratio()), row.pairs.map(|pairs| (pairs.lowest, pairs.highest)).unzip());
        let [ours, raw] = [row.value.ours, row.value.raw].map(|value| format!("{value:.digits$}"));
        vec![row.what, ours, raw, ratio, shown(lowest), shown(highest)]
    });
    table([head, "ours", "raw", "ratio", "lowest", "highest"].map(str::to_owned).to_vec(), cells.collect())
}

/// Formats a table. The first column is text, the others are numbers.
fn table(head: Vec<String>, rows: Vec<Vec<String>>) -> String {
    let columns = head.len();
    let all: Vec<Vec<String>> = std::iter::once(head).chain(rows).collect();
    let width = |column: usize| all.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, &width))| match column {
            0 => format!(" {cell:<width$} "),
            _ => format!(" {cell:>width$} "),
        });
        format!("|{}|", cells.collect::<Vec<_>>().join("|"))
    };
    let rule = widths.iter().enumerate().map(|(column, width)| match column {
        0 => "-".repeat(width + 2),
        _ => format!("{}:", "-".repeat(width + 1)),
    });
    let rule = format!("|{}|", rule.collect::<Vec<_>>().join("|"));
    let mut lines: Vec<String> = all.iter().map(line).collect();
    lines.insert(1, rule);
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::figures::tests::{only_rest, only_start, point};

    #[test]
    fn every_line_of_a_table_is_as_wide_as_the_others() {
        let text = write(&[point(100), point(1000)], &Facts::default());
        let tables: Vec<&str> = text.split("\n\n").filter(|part| part.starts_with('|')).collect();
        assert_eq!(tables.len(), 5);
        for table in tables {
            let widths: Vec<usize> = table.lines().map(|line| line.chars().count()).collect();
            assert!(widths.iter().all(|width| *width == widths[0]), "{table}");
        }
        assert!(text.contains("| 2. 100 new namespaces to last policy  | 200.0 | 100.0 |  2.00 |   2.00 |    2.00 |"), "{text}");
        assert!(text.contains("| 1. new namespace to third policy, p50 | 100.0 |  50.0 |  2.00 |      - |       - |"), "{text}");
    }

    #[test]
    fn what_more_costs_is_beside_what_three_policies_cost() {
        let text = more(&point(1000));
        let row = |what: &str| text.lines().find(|line| line.contains(what)).unwrap_or_default().to_owned();
        assert_eq!(row("in each of"), "| 9. in each of 1000 namespaces | three policies | and a Service | nine policies |");
        assert_eq!(row("at rest"), "| resident at rest, MB          |           22.0 |          23.0 |          24.0 |");
        assert_eq!(row("ratio"), "| ratio of the two              |           2.00 |          2.00 |          2.00 |");
    }

    #[test]
    fn a_run_of_only_the_rest_shows_nothing_that_it_did_not_measure() {
        let text = write(&[only_rest(1000)], &Facts::default());
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.iter().filter(|line| line.starts_with('|')).count(), 8, "{text}");
        assert!(
            lines[2].starts_with("| resident at rest, MB ") && lines[3].starts_with("| the same without files, MB "),
            "{text}"
        );
        assert!(
            text.contains(
                "two hostile policies in each namespace | 0.063 s in 60 s (10.4 ms in 10 s, median), 0.10 % of a core |"
            ),
            "{text}"
        );
        assert!(!text.contains("Requests of a restart"), "{text}");
    }

    #[test]
    fn a_run_of_only_the_starts_shows_nothing_that_it_did_not_measure() {
        let text = write(&[only_start(1000)], &Facts::default());
        assert!(text.contains("| 6. cold start beside a raw list | 200.0 | 100.0 |"), "{text}");
        assert!(!text.contains("at rest"), "{text}");
    }

    #[test]
    fn growth_is_shown_from_the_smallest_size_to_the_largest() {
        let text = growth(&[point(100), point(1000)]);
        let burst = text.lines().find(|line| line.contains("2. all new")).unwrap_or_default();
        let cells: Vec<&str> = burst.split('|').map(str::trim).collect();
        assert_eq!(cells[2..6], ["200.0", "2000.0", "1.00", "2.0000"]);
    }
}
