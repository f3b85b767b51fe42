//! The findings for machines: JSON, SARIF, annotations of GitHub Actions, and JUnit.

use std::{borrow::Cow, collections::BTreeMap, fmt::Write as _};

use serde_json::{Value, json};

use super::{
    LintFinding, LintReport,
    rule::{LintRule, Severity},
};
use crate::policy::preview::ManifestText;

/// Where the page of each rule is.
const PAGE: &str = "docs/lint.md";

fn name<'a>(finding: &LintFinding, sources: &'a [ManifestText]) -> &'a str {
    sources.get(finding.source).map_or("", |source| &source.name)
}

fn anchor(rule: LintRule) -> String {
    format!("{PAGE}#{}-{}", rule.id().to_lowercase(), rule.name())
}

fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}

/// One object, with a list of findings.
pub fn json(report: &LintReport, sources: &[ManifestText]) -> String {
    let finding = |one: &LintFinding| {
        json!({
            "rule": one.rule.id(), "name": one.rule.name(), "severity": one.rule.severity(), "file": name(one, sources),
            "line": one.place.line, "column": one.place.column, "object": one.object, "message": one.message,
            "page": anchor(one.rule),
        })
    };
    let findings: Vec<Value> = report.findings.iter().map(finding).collect();
    pretty(&json!({"files": sources.len(), "objects": report.objects, "findings": findings}))
}

/// SARIF: <https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html>.
pub fn sarif(report: &LintReport, sources: &[ManifestText]) -> String {
    let level = |severity| match severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Info => "note",
    };
    let rule = |rule: LintRule| {
        json!({
            "id": rule.id(), "name": rule.name(), "shortDescription": {"text": rule.finds()},
            "help": {"text": format!("See {}", anchor(rule))},
            "defaultConfiguration": {"level": level(rule.severity())},
        })
    };
    let rules: Vec<Value> = LintRule::all().map(rule).collect();
    let result = |one: &LintFinding| {
        let place = one.place;
        let region =
            json!({"startLine": place.line, "startColumn": place.column, "endColumn": place.column.saturating_add(place.length)});
        let file = json!({"uri": uri(name(one, sources))});
        json!({
            "ruleId": one.rule.id(), "ruleIndex": LintRule::all().position(|rule| rule == one.rule), "level": level(one.rule.severity()),
            "message": {"text": said(one)},
            "locations": [{"physicalLocation": {"artifactLocation": file, "region": region}}],
        })
    };
    let results: Vec<Value> = report.findings.iter().map(result).collect();
    let driver = json!({"name": "policy-baseline", "version": env!("CARGO_PKG_VERSION"), "rules": rules});
    pretty(&json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json", "version": "2.1.0",
        "runs": [{"tool": {"driver": driver}, "columnKind": "unicodeCodePoints", "results": results}],
    }))
}

/// A message that begins with its object.
fn said(finding: &LintFinding) -> String {
    if finding.object.is_empty() { finding.message.clone() } else { format!("{}: {}", finding.object, finding.message) }
}

/// A path as a relative reference.
fn uri(path: &str) -> String {
    let mut out = String::new();
    for byte in path.trim_start_matches("./").bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

/// Commands of a workflow: <https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-commands>.
pub fn github(report: &LintReport, sources: &[ManifestText]) -> String {
    let mut out = String::new();
    for one in &report.findings {
        let command = match one.rule.severity() {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Info => "notice",
        };
        let title = format!("{} {}", one.rule.id(), one.rule.name());
        let (line, column) = (one.place.line, one.place.column);
        let end = column.saturating_add(one.place.length);
        let (file, title) = (property(name(one, sources)), property(&title));
        let _ =
            writeln!(out, "::{command} file={file},line={line},col={column},endColumn={end},title={title}::{}", data(&said(one)));
    }
    out
}

fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

/// One suite for each file, with a failed test for each finding, or one that passed.
pub fn junit(report: &LintReport, sources: &[ManifestText]) -> String {
    let mut by_file: BTreeMap<usize, Vec<&LintFinding>> = (0..sources.len()).map(|number| (number, vec![])).collect();
    for finding in &report.findings {
        by_file.entry(finding.source).or_default().push(finding);
    }
    let tests: usize = by_file.values().map(|findings| findings.len().max(1)).sum();
    let failures = report.findings.len();
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let _ = writeln!(out, "<testsuites name=\"policy-baseline lint\" tests=\"{tests}\" failures=\"{failures}\">");
    for (number, findings) in by_file {
        let file = xml(sources.get(number).map_or("", |source| &source.name)).into_owned();
        let _ =
            writeln!(out, "  <testsuite name=\"{file}\" tests=\"{}\" failures=\"{}\">", findings.len().max(1), findings.len());
        if findings.is_empty() {
            let _ = writeln!(out, "    <testcase classname=\"{file}\" name=\"no mistakes\"/>");
        }
        for one in findings {
            let title = format!("{} {} at {}:{}", one.rule.id(), one.rule.name(), one.place.line, one.place.column);
            let severity: &str = one.rule.severity().into();
            let _ = writeln!(out, "    <testcase classname=\"{file}\" name=\"{}\">", xml(&title));
            let _ = writeln!(out, "      <failure type=\"{severity}\" message=\"{}\"/>\n    </testcase>", xml(&said(one)));
        }
        out.push_str("  </testsuite>\n");
    }
    out.push_str("</testsuites>\n");
    out
}

/// A text in XML. It may have no control characters.
fn xml(text: &str) -> Cow<'_, str> {
    let is_plain = |c: char| !c.is_control() && !"&<>\"'".contains(c) && c != '\u{fffe}' && c != '\u{ffff}';
    if text.chars().all(is_plain) {
        return text.into();
    }
    let escaped = |c: char| match c {
        '&' => "&amp;".into(),
        '<' => "&lt;".into(),
        '>' => "&gt;".into(),
        '"' => "&quot;".into(),
        '\'' => "&apos;".into(),
        c if is_plain(c) => c.to_string(),
        _ => " ".into(),
    };
    text.chars().map(escaped).collect::<String>().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::lint::{LintFormat, LintSettings, lint};

    fn shown(format: LintFormat) -> String {
        let text = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: web, namespace: shop}\nspec:\n  ingres: []\n";
        let sources =
            [("a b.yaml", text), ("ok.yaml", "a: 1")].map(|(name, text)| ManifestText { name: name.into(), text: text.into() });
        lint(&sources, &LintSettings::default()).shown(&sources, format)
    }

    #[test]
    fn each_format_has_the_rule_the_place_and_the_message() {
        let said = "unknown field \"spec.ingres\"; did you mean \"ingress\"?";
        assert_eq!(
            shown(LintFormat::Text),
            format!(
                "a b.yaml:5:3: error PB003 unknown-field\n  NetworkPolicy shop/web: {said}\n  |\n5 |   ingres: []\n  |   ^^^^^^\n\n1 error in 1 object of 2 files\n"
            )
        );
        let json: Value = serde_json::from_str(&shown(LintFormat::Json)).unwrap();
        let finding = &json["findings"][0];
        assert_eq!((&finding["rule"], &finding["line"], &finding["message"]), (&"PB003".into(), &5.into(), &said.into()));
        let sarif: Value = serde_json::from_str(&shown(LintFormat::Sarif)).unwrap();
        let run = &sarif["runs"][0];
        let result = &run["results"][0];
        assert_eq!(
            run["tool"]["driver"]["rules"][usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap()]["id"],
            result["ruleId"]
        );
        let place = &result["locations"][0]["physicalLocation"];
        assert_eq!((&place["artifactLocation"]["uri"], &place["region"]["startColumn"]), (&"a%20b.yaml".into(), &3.into()));
        assert_eq!(
            shown(LintFormat::Github),
            format!("::error file=a b.yaml,line=5,col=3,endColumn=9,title=PB003 unknown-field::NetworkPolicy shop/web: {said}\n")
        );
        let junit = shown(LintFormat::Junit);
        assert!(junit.contains("tests=\"2\" failures=\"1\">"), "{junit}");
        assert!(junit.contains("name=\"PB003 unknown-field at 5:3\">\n      <failure type=\"error\" message=\"NetworkPolicy shop/web: unknown field &quot;spec.ingres&quot;; did"), "{junit}");
        assert!(junit.contains("<testcase classname=\"ok.yaml\" name=\"no mistakes\"/>"), "{junit}");
    }

    #[test]
    fn nothing_in_a_text_breaks_out_of_its_format() {
        assert_eq!(property("a:b,c%\n"), "a%3Ab%2Cc%25%0A");
        assert_eq!(xml("<a>&\"'\u{1}ä"), "&lt;a&gt;&amp;&quot;&apos; ä");
        assert_eq!(uri("./a/ü b#1.yaml"), "a/%C3%BC%20b%231.yaml");
    }
}
