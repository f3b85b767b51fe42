//! Latency and memory against the number of namespaces, as SVG. It is readable on light and on dark pages.

use std::fmt::Write;

use super::figures::Point;
use super::numbers::{count, median};

const WIDTH: f64 = 980.0;
const HEIGHT: f64 = 400.0;
/// The inner edges of a panel, within its half of the image.
const LEFT: f64 = 62.0;
const RIGHT: f64 = 462.0;
const TOP: f64 = 96.0;
const BOTTOM: f64 = 344.0;
/// The approximate number of steps of an axis.
const TICKS: f64 = 5.0;

/// The page's own font size does not scale the text. The colours follow the reader's theme.
const STYLE: &str = "\
<style>
text { font: 13px system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif; fill: #24292f; }
.title { font-weight: 600; font-size: 15px; }
.page { fill: #ffffff; }
.grid { stroke: #d0d7de; stroke-width: 1; }
.axis { stroke: #57606a; stroke-width: 1.5; }
.line { fill: none; stroke-width: 2.25; }
.dashed { stroke-dasharray: 6 4; }
.first { stroke: #0969da; }
.second { stroke: #bc4c00; }
.third { stroke: #8250df; }
.dot { stroke-width: 2; fill: #ffffff; }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3; }
.page, .dot { fill: #0d1117; }
.grid { stroke: #30363d; }
.axis { stroke: #8b949e; }
.first { stroke: #58a6ff; }
.second { stroke: #f0883e; }
.third { stroke: #bc8cff; }
}
</style>
";

struct Series {
    name: &'static str,
    class: &'static str,
    /// Pairs of the number of namespaces and the value.
    at: Vec<(f64, f64)>,
}

struct Panel {
    title: &'static str,
    unit: &'static str,
    series: Vec<Series>,
}

pub fn draw(points: &[Point]) -> String {
    let series = |name, class, value: fn(&Point) -> f64| Series {
        name,
        class,
        at: points.iter().map(|point| (count(point.namespaces), value(point))).collect(),
    };
    let latency = Panel {
        title: "One new namespace to its third policy",
        unit: "milliseconds",
        series: vec![
            series("ours, p50", "line first", |point| point.first_policies.quantile(0.5).ours),
            series("raw, p50", "line second", |point| point.first_policies.quantile(0.5).raw),
            series("ours, p99", "line first dashed", |point| point.first_policies.quantile(0.99).ours),
            series("raw, p99", "line second dashed", |point| point.first_policies.quantile(0.99).raw),
        ],
    };
    let memory = Panel {
        title: "Resident memory of the operator",
        unit: "MB",
        series: vec![
            series("peak", "line second", |point| median(&point.resident_peak)),
            series("at rest", "line first", Point::resident_rest),
            series("after a start", "line third dashed", |point| median(&point.resident_start)),
        ],
    };
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" role=\"img\" aria-label=\"Latency and memory against the number of namespaces\">\n{STYLE}<rect class=\"page\" width=\"{WIDTH}\" height=\"{HEIGHT}\" rx=\"6\"/>\n"
    );
    panel(&mut svg, 0.0, &latency);
    panel(&mut svg, WIDTH / 2.0, &memory);
    svg.push_str("</svg>\n");
    svg
}

/// A value axis. It starts at zero, so double the height means double the value.
struct Scale {
    step: f64,
    steps: usize,
}

impl Scale {
    fn to(largest: f64) -> Self {
        let step = step(largest / TICKS);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "about as many as TICKS")]
        let steps = ((largest / step).ceil() as usize).max(1);
        Self { step, steps }
    }

    fn ticks(&self) -> impl Iterator<Item = f64> {
        (0..=self.steps).map(|n| count(n) * self.step)
    }

    /// The position on the axis, from 0 to 1.
    fn share(&self, value: f64) -> f64 {
        value / (count(self.steps) * self.step)
    }
}

/// The next number that is at least `least` and is 1, 2 or 5 times a power of ten.
fn step(least: f64) -> f64 {
    let power = 10_f64.powf(least.max(1e-3).log10().floor());
    [1.0, 2.0, 5.0, 10.0].map(|digit| digit * power).into_iter().find(|step| *step >= least * 0.999).unwrap_or(power * 10.0)
}

fn panel(svg: &mut String, offset: f64, panel: &Panel) {
    let all = || panel.series.iter().flat_map(|series| &series.at);
    let largest = |of: fn(&(f64, f64)) -> f64| all().map(of).fold(0.0, f64::max);
    let (across, up) = (Scale::to(largest(|at| at.0)), Scale::to(largest(|at| at.1)));
    let x = |value: f64| (RIGHT - LEFT).mul_add(across.share(value), LEFT);
    let y = |value: f64| (TOP - BOTTOM).mul_add(up.share(value), BOTTOM);
    // Writing to a String cannot fail.
    let _ = writeln!(svg, "<g transform=\"translate({offset} 0)\">");
    text(svg, (LEFT, 28.0), "start", "title", &format!("{}, {}", panel.title, panel.unit));
    for tick in up.ticks() {
        let at = y(tick);
        let class = if tick == 0.0 { "axis" } else { "grid" };
        let _ = writeln!(svg, "<path class=\"{class}\" d=\"M{LEFT} {at:.1}H{RIGHT}\"/>");
        text(svg, (LEFT - 8.0, at + 4.5), "end", "", &number(tick));
    }
    for tick in across.ticks() {
        let at = x(tick);
        let _ = writeln!(svg, "<path class=\"axis\" d=\"M{at:.1} {BOTTOM}v5\"/>");
        text(svg, (at, BOTTOM + 20.0), "middle", "", &number(tick));
    }
    text(svg, (f64::midpoint(LEFT, RIGHT), BOTTOM + 42.0), "middle", "", "namespaces");
    for (place, series) in panel.series.iter().enumerate() {
        legend(svg, place, series);
        let points: Vec<String> = series.at.iter().map(|at| format!("{:.1},{:.1}", x(at.0), y(at.1))).collect();
        let _ = writeln!(svg, "<polyline class=\"{}\" points=\"{}\"/>", series.class, points.join(" "));
        for at in &series.at {
            let colour = series.class.trim_start_matches("line ").trim_end_matches(" dashed");
            let _ = writeln!(svg, "<circle class=\"dot {colour}\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"3.5\"/>", x(at.0), y(at.1));
        }
    }
    svg.push_str("</g>\n");
}

/// Draws a legend entry. Each row has two entries.
fn legend(svg: &mut String, place: usize, series: &Series) {
    let (x, y) = (LEFT + count(place % 2) * 150.0, 50.0 + count(place / 2) * 20.0);
    let _ = writeln!(svg, "<path class=\"{}\" d=\"M{x} {y}h32\"/>", series.class);
    text(svg, (x + 40.0, y + 4.5), "start", "", series.name);
}

fn text(svg: &mut String, (x, y): (f64, f64), anchor: &str, class: &str, text: &str) {
    let _ = writeln!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" class=\"{class}\">{text}</text>");
}

/// Formats a number with separated thousands.
fn number(value: f64) -> String {
    if value < 1000.0 {
        return format!("{}", (value * 1000.0).round() / 1000.0);
    }
    let digits = format!("{value:.0}");
    let (thousands, rest) = digits.split_at(digits.len() - 3);
    format!("{thousands},{rest}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::figures::tests::point;

    #[test]
    fn axes_have_round_steps_and_hold_every_value() {
        for (largest, want, steps) in
            [(10_000.0, 2000.0, 5), (24.0, 5.0, 5), (3.3, 1.0, 4), (0.4, 0.1, 4), (1.0, 0.2, 5), (1300.0, 500.0, 3)]
        {
            let scale = Scale::to(largest);
            assert!((scale.step - want).abs() < 1e-9 && scale.steps == steps, "{largest}: {} times {}", scale.steps, scale.step);
            assert!(scale.share(largest) <= 1.0 + 1e-9);
        }
        assert_eq!(Scale::to(0.0).ticks().count(), 2);
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!([0.0, 0.2, 15.0, 1000.0, 12_500.0].map(number), ["0", "0.2", "15", "1,000", "12,500"]);
    }

    #[test]
    fn every_series_has_a_line_a_legend_and_a_dot_for_each_size() {
        let svg = draw(&[point(100), point(333), point(1000)]);
        assert_eq!(svg.matches("<polyline").count(), 7);
        assert_eq!(svg.matches("<circle").count(), 21);
        for word in ["ours, p50", "raw, p99", "at rest", "milliseconds", "MB", "namespaces", "prefers-color-scheme: dark"] {
            assert!(svg.contains(word), "{word}");
        }
        assert_eq!(svg.matches("<g ").count(), svg.matches("</g>").count());
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }
}
