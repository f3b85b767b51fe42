//! The findings for people: place, rule, message, and the line of the file with a mark below it.

use std::fmt::Write as _;

use super::{LintFinding, LintReport, formats, rule::Severity, tree::TextPlace};
use crate::{
    api::text::shown,
    policy::{preview::ManifestText, table::counted},
};

/// How findings are written.
#[derive(Clone, Copy, Debug)]
pub enum LintFormat {
    Text,
    Json,
    Sarif,
    Github,
    Junit,
}

/// Of a longer line, only the part around the place is shown.
const LONGEST: usize = 140;
/// So many characters are shown before the place.
const BEFORE: usize = 40;

impl LintReport {
    /// The findings in a format.
    pub fn shown(&self, sources: &[ManifestText], format: LintFormat) -> String {
        match format {
            LintFormat::Text => self.text(sources),
            LintFormat::Json => formats::json(self, sources),
            LintFormat::Sarif => formats::sarif(self, sources),
            LintFormat::Github => formats::github(self, sources),
            LintFormat::Junit => formats::junit(self, sources),
        }
    }

    fn text(&self, sources: &[ManifestText]) -> String {
        let mut out = String::new();
        // Of the text with the last findings: these are sorted by text.
        let mut lines: Option<(usize, Vec<&str>)> = None;
        for finding in &self.findings {
            let LintFinding { rule, source, place, object, message } = finding;
            let name = sources.get(*source).map_or("", |source| &source.name);
            let severity: &str = rule.severity().into();
            let (line, column) = (place.line, place.column);
            let _ = writeln!(out, "{}:{line}:{column}: {severity} {} {}", shown(name), rule.id(), rule.name());
            let about = if object.is_empty() { String::new() } else { format!("{}: ", shown(object)) };
            let _ = writeln!(out, "  {about}{}", shown(message));
            if lines.as_ref().is_none_or(|(of, _)| of != source) {
                lines = sources.get(*source).map(|of| (*source, of.text.lines().collect()));
            }
            let text = lines.as_ref().and_then(|(_, lines)| lines.get(line.saturating_sub(1) as usize));
            out.push_str(&text.map(|text| excerpt(text, *place)).unwrap_or_default());
            out.push('\n');
        }
        let count = |severity: Severity| self.findings.iter().filter(|finding| finding.rule.severity() == severity).count();
        let counts =
            [(Severity::Error, "error", "errors"), (Severity::Warning, "warning", "warnings"), (Severity::Info, "note", "notes")];
        let counts =
            counts.map(|(severity, one, many)| (count(severity), one, many)).into_iter().filter(|(count, ..)| *count > 0);
        let counts: Vec<String> = counts.map(|(count, one, many)| counted(count as u64, one, many)).collect();
        let found = if counts.is_empty() { "no mistakes".into() } else { counts.join(", ") };
        let objects = counted(self.objects as u64, "object", "objects");
        let files = counted(sources.len() as u64, "file", "files");
        let _ = writeln!(out, "{found} in {objects} of {files}");
        out
    }
}

/// Of a longer line, no part is shown: each would be searched from its beginning.
const LONGEST_SHOWN: usize = 1 << 16;

/// A line with its number, and a mark below the place.
fn excerpt(text: &str, place: TextPlace) -> String {
    if text.len() > LONGEST_SHOWN {
        return format!("  the line {} is too long to be shown\n", place.line);
    }
    let column = place.column.saturating_sub(1) as usize;
    let count = text.chars().count();
    let first = if count > LONGEST { column.saturating_sub(BEFORE) } else { 0 };
    // Each character takes one column, so that the mark is below the place.
    let part: String = text.chars().skip(first).take(LONGEST).map(|c| if c.is_control() { ' ' } else { c }).collect();
    let (before, after) = (if first > 0 { "…" } else { "" }, if count > first + LONGEST { "…" } else { "" });
    let part = shown(&part).into_owned();
    let left = column - first + before.chars().count();
    let most = part.chars().count().saturating_sub(column - first).max(1);
    let mark = "^".repeat((place.length as usize).clamp(1, most));
    let line = place.line.to_string();
    let gap = " ".repeat(line.len());
    format!("{gap} |\n{line} | {before}{part}{after}\n{gap} | {}{mark}\n", " ".repeat(left))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mark_is_below_the_place_also_in_a_long_line_and_beside_tabs() {
        assert_eq!(excerpt("  port: 80", TextPlace::new(12, 9, 2)), "   |\n12 |   port: 80\n   |         ^^\n");
        assert_eq!(excerpt("\tä: b", TextPlace::new(3, 5, 9)), "  |\n3 |  ä: b\n  |     ^\n");
        let long = format!("{}HERE{}", "x".repeat(1_000), "y".repeat(1_000));
        let shown = excerpt(&long, TextPlace::new(1, 1_001, 4));
        let [_, line, mark] = shown.lines().collect::<Vec<_>>()[..] else { panic!("{shown}") };
        let at = mark.chars().position(|c| c == '^').unwrap();
        assert_eq!(line.chars().skip(at).take(4).collect::<String>(), "HERE");
        assert!(line.chars().count() < 160, "{line}");
        assert_eq!(excerpt(&"x".repeat(1 << 17), TextPlace::new(7, 9, 1)), "  the line 7 is too long to be shown\n");
    }
}
