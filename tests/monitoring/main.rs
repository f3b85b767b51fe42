//! What Prometheus and Grafana get: the alerts with their runbooks and their table, the dashboard, and whether every metric and label
//! that they name exists. `e2e/tests/e2e/prometheus.rs` runs them in the real Prometheus.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod dashboard;
mod promql;

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    path::Path,
};

use serde::Deserialize;
use serde_json::Value;

use promql::{Matcher, Selector, selectors};

const DASHBOARD: &str = "manifests/monitoring/dashboard/policy-baseline.json";
const RUNBOOKS: &str = "docs/runbooks/alerts.md";

fn text(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

#[derive(Debug, Deserialize)]
struct Alert {
    #[serde(rename = "alert")]
    name: String,
    expr: String,
    #[serde(default)]
    r#for: String,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
}

fn alerts() -> Vec<Alert> {
    let rule: Value = serde_yaml::from_str(&text("manifests/monitoring/alerts/rules.yaml")).unwrap();
    let groups = rule["spec"]["groups"].as_array().unwrap();
    groups.iter().flat_map(|group| serde_json::from_value::<Vec<Alert>>(group["rules"].clone()).unwrap()).collect()
}

/// The expressions of the dashboard.
fn panels() -> Vec<String> {
    let board: Value = serde_json::from_str(&text(DASHBOARD)).unwrap();
    let targets = board["panels"].as_array().unwrap().iter().flat_map(|panel| panel["targets"].as_array().unwrap().clone());
    targets.map(|target| target["expr"].as_str().unwrap().to_owned()).collect()
}

/// The cells of the rows of all tables of a page, without the backticks.
fn rows(page: &str) -> Vec<Vec<String>> {
    let is_row = |line: &&str| line.starts_with("| `");
    let cells = |line: &str| line.trim_matches('|').split('|').map(|cell| cell.trim().replace('`', "")).collect();
    page.lines().filter(is_row).map(cells).collect()
}

fn words(list: &str) -> BTreeSet<String> {
    list.split(", ").filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// The label of a word of the statuses, as in `DNSCoverage`: `dns_coverage`.
fn snake(word: &str) -> String {
    let bytes = word.as_bytes();
    let begins = |at: usize| {
        bytes[at].is_ascii_uppercase()
            && at > 0
            && (bytes[at - 1].is_ascii_lowercase() || bytes.get(at + 1).is_some_and(u8::is_ascii_lowercase))
    };
    let letter = |at: usize| [if begins(at) { "_" } else { "" }, &word[at..=at]].concat();
    (0..bytes.len()).map(letter).collect::<String>().to_lowercase()
}

/// What docs/metrics.md, which is generated from the registry, says that there is. docs/status.md has the conditions and reasons.
struct Known {
    labels: BTreeMap<String, BTreeSet<String>>,
    values: BTreeMap<(String, String), BTreeSet<String>>,
}

impl Known {
    fn read() -> Self {
        let (mut labels, mut values) = (BTreeMap::new(), BTreeMap::new());
        for row in rows(&text("docs/metrics.md")) {
            match &row[..] {
                [metric, kind, names, _] => {
                    let names = words(names);
                    let mut with_le = names.clone();
                    with_le.insert("le".to_owned());
                    if kind == "histogram" {
                        let [count, sum, bucket] = ["count", "sum", "bucket"].map(|part| format!("{metric}_{part}"));
                        labels.extend([(count, names.clone()), (sum, names), (bucket, with_le)]);
                    } else {
                        labels.insert(metric.clone(), names);
                    }
                }
                [metric, label, of] => drop(values.insert((metric.clone(), label.clone()), words(of))),
                other => panic!("{other:?}"),
            }
        }
        let status = text("docs/status.md");
        let code = status.split('`').skip(1).step_by(2);
        let quoted: BTreeSet<String> =
            code.flat_map(|code| code.split(|c: char| !c.is_ascii_alphanumeric())).map(snake).collect();
        for (metric, label) in [("condition", "type"), ("ready", "reason")] {
            values.insert((format!("policy_baseline_{metric}"), label.to_owned()), quoted.clone());
        }
        let both = ["true", "false"].map(str::to_owned).into();
        values.insert(("policy_baseline_condition".to_owned(), "status".to_owned()), both);
        Self { labels, values }
    }

    /// What is wrong with a selector.
    fn wrong(&self, Selector { metric, matchers }: &Selector) -> Option<String> {
        let Some(labels) = self.labels.get(metric) else { return Some(format!("there is no metric {metric}")) };
        matchers.iter().find_map(|Matcher { label, values }| {
            // Prometheus adds these to every metric, and a test may choose any baseline.
            if ["job", "namespace", "instance", "baseline"].contains(&&**label) {
                return None;
            }
            if !labels.contains(label) {
                return Some(format!("{metric} has no label {label}"));
            }
            let known = self.values.get(&(metric.clone(), label.clone()));
            let unknown = values.iter().find(|value| known.is_some_and(|known| !known.contains(*value)))?;
            Some(format!("{metric} has no {label}={unknown}"))
        })
    }
}

#[test]
fn the_dashboard_is_the_published_one() {
    let made = serde_json::to_string_pretty(&dashboard::dashboard()).unwrap() + "\n";
    if env::var("GOLDEN").as_deref() == Ok("accept") {
        fs::write(Path::new(env!("CARGO_MANIFEST_DIR")).join(DASHBOARD), &made).unwrap();
        return;
    }
    assert!(made == text(DASHBOARD), "{DASHBOARD} differs: run make generate");
}

#[test]
fn every_metric_and_label_that_alerts_and_dashboard_name_exists() {
    let known = Known::read();
    assert!(known.labels.len() > 25 && known.values.len() > 12, "the tables of docs/metrics.md were not read");
    let expressions: Vec<String> = alerts().into_iter().map(|alert| alert.expr).chain(panels()).collect();
    let used: Vec<Selector> = expressions.iter().flat_map(|expression| selectors(expression)).collect();
    assert!(used.len() > expressions.len(), "{used:?}");
    let wrong: Vec<String> = used.iter().filter_map(|selector| known.wrong(selector)).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");

    // The checks find what is wrong.
    for (expression, finding) in [
        ("policy_baseline_no_such_metric", "there is no metric"),
        ("policy_baseline_namespaces{status=\"held\"}", "has no label"),
        ("policy_baseline_namespaces{state=~\"held|open\"}", "state=open"),
        ("policy_baseline_condition{type=\"no_such\"}", "type=no_such"),
        ("policy_baseline_condition{status=\"unknown\"}", "status=unknown"),
    ] {
        let found = known.wrong(&selectors(expression)[0]).unwrap();
        assert!(found.contains(finding), "{found}");
    }
}

#[test]
fn every_metric_is_in_an_alert_or_in_the_dashboard() {
    let expressions = alerts().into_iter().map(|alert| alert.expr).chain(panels());
    let used: BTreeSet<String> = expressions.flat_map(|expression| selectors(&expression)).map(|used| used.metric).collect();
    let is_used = |name: &str| ["", "_count", "_bucket"].iter().any(|part| used.contains(&[name, part].concat()));
    let documented = rows(&text("docs/metrics.md")).into_iter().filter(|row| row.len() == 4).map(|row| row[0].clone());
    let unused: Vec<String> = documented.filter(|metric| !is_used(metric)).collect();
    // It is for developers.
    assert_eq!(unused, ["policy_baseline_tasks"]);
}

#[test]
fn every_alert_says_what_it_means_and_has_its_runbook_and_every_runbook_has_its_alert() {
    let page = text(RUNBOOKS);
    let mut sections: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut of = None;
    for line in page.lines() {
        if let Some(title) = line.strip_prefix("## ") {
            of = Some(title);
            sections.insert(title, Vec::new());
        } else if let (Some(title), Some((part, _))) = (of, line.strip_prefix("**").and_then(|line| line.split_once("**"))) {
            sections.entry(title).or_default().push(part);
        }
    }
    let alerts = alerts();
    let named: BTreeSet<&str> = alerts.iter().map(|alert| &*alert.name).collect();
    assert_eq!(named.len(), alerts.len(), "two alerts have one name");
    assert_eq!(sections.keys().copied().filter(|title| title.starts_with("PolicyBaseline")).collect::<BTreeSet<_>>(), named);
    for Alert { name, labels, annotations, .. } in &alerts {
        assert!(["critical", "warning", "info"].contains(&&*labels["severity"]), "{name}");
        assert_eq!(annotations.keys().collect::<Vec<_>>(), ["description", "runbook_url", "summary"], "{name}");
        assert_eq!(annotations["runbook_url"], format!("{RUNBOOKS}#{}", name.to_lowercase()));
        assert!(annotations["description"].ends_with('.') && !annotations["summary"].ends_with('.'), "{name}");
        assert_eq!(sections[&**name], ["What it means.", "How to look.", "What to do."], "{name}");
    }
}

#[test]
fn the_table_of_the_docs_lists_the_alerts_as_they_are() {
    let row = |Alert { name, r#for, labels, annotations, .. }: &Alert| {
        let after = if r#for.is_empty() { "at once" } else { r#for };
        let link = format!("runbooks/alerts.md#{}", name.to_lowercase());
        format!("| [`{name}`]({link}) | {} | {after} | {} |\n", labels["severity"], annotations["summary"])
    };
    let table: String = alerts().iter().map(row).collect();
    let page = text("docs/monitoring.md");
    assert!(page.contains(&format!("|---|---|---|---|\n{table}\n")), "docs/monitoring.md should have this table:\n{table}");
}

#[test]
fn every_alert_keeps_installs_apart_and_counts_only_the_leader() {
    for Alert { name, expr, .. } in alerts() {
        assert!(expr.contains("by (cluster, job, namespace"), "{name}");
        let is_counter = expr.contains("increase(");
        let of_leader = expr.contains("and on (cluster, job, namespace, instance)") && expr.contains("policy_baseline_leader");
        assert!(is_counter || of_leader || name == "PolicyBaselineNoLeader", "{name}: gauges of standbys count too");
    }
}

#[test]
fn every_alert_has_a_test_in_which_it_fires_and_one_in_which_it_is_silent() {
    let tests: Value = serde_yaml::from_str(&text("e2e/prometheus/alerts_test.yaml")).unwrap();
    let cases = tests["tests"].as_array().unwrap().iter().flat_map(|test| test["alert_rule_test"].as_array().unwrap().clone());
    let mut seen: BTreeMap<String, BTreeSet<bool>> = BTreeMap::new();
    for case in cases {
        let fires = !case["exp_alerts"].as_array().unwrap().is_empty();
        seen.entry(case["alertname"].as_str().unwrap().to_owned()).or_default().insert(fires);
    }
    let wanted = alerts().into_iter().map(|alert| (alert.name, [false, true].into())).collect();
    assert_eq!(seen, wanted);
}
