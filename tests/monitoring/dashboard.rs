//! Generates the Grafana dashboard. Each panel is one line of a table; Grafana fills in the rest from its defaults.

use serde_json::{Value, json};

/// The width of a row of panels, in the units of Grafana.
const WIDTH: u32 = 24;
/// Takes gauges from the instance that leads.
const LEADER: &str = "and on (cluster, job, namespace, instance) policy_baseline_leader{SELECTED} == 1";
/// What the variables of the dashboard select.
const SELECTED: &str = "job=~\"$job\", namespace=~\"$namespace\"";

/// How a panel shows its series.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    Number,
    Lines,
    Table,
}

/// A panel: `expr` has SELECTED where labels are matched and LEADER for the filter.
#[derive(Debug)]
struct Panel {
    title: &'static str,
    description: &'static str,
    kind: Kind,
    width: u32,
    unit: &'static str,
    series: &'static [(&'static str, &'static str)],
}

const fn number(title: &'static str, description: &'static str, series: &'static [(&'static str, &'static str)]) -> Panel {
    Panel { title, description, kind: Kind::Number, width: 4, unit: "short", series }
}

const fn lines(
    title: &'static str,
    description: &'static str,
    unit: &'static str,
    series: &'static [(&'static str, &'static str)],
) -> Panel {
    Panel { title, description, kind: Kind::Lines, width: 12, unit, series }
}

const fn table(
    title: &'static str,
    description: &'static str,
    unit: &'static str,
    series: &'static [(&'static str, &'static str)],
) -> Panel {
    Panel { title, description, kind: Kind::Table, width: 12, unit, series }
}

const PANELS: &[Panel] = &[
    number(
        "Leaders",
        "How many instances write. It should be 1 for each install that works.",
        &[("sum(policy_baseline_leader{SELECTED})", "")],
    ),
    number(
        "Protected",
        "Namespaces that have exactly the policies of their plan.",
        &[("sum(policy_baseline_namespaces{state=\"protected\", SELECTED} LEADER)", "")],
    ),
    number(
        "Not protected",
        "Namespaces that lack planned policies: they are being written, a write failed, or they are being deleted.",
        &[("sum(policy_baseline_namespaces{state=~\"failed|pending|unprotected\", SELECTED} LEADER)", "")],
    ),
    number(
        "Left as they are",
        "Namespaces that are only reported, held, frozen or audited.",
        &[("sum(policy_baseline_namespaces{state=~\"drifted|frozen|held|reported\", SELECTED} LEADER)", "")],
    ),
    number(
        "Bypassed",
        "Namespaces in which somebody else's policy opens what a baseline closes.",
        &[("sum(policy_baseline_namespaces_bypassed{SELECTED} LEADER)", "")],
    ),
    number(
        "Opted out",
        "Namespaces in which an opt-out takes a policy away.",
        &[("sum(policy_baseline_namespaces_opted_out{SELECTED} LEADER)", "")],
    ),
    lines(
        "Namespaces by state",
        "Each selected namespace is in exactly one state.",
        "short",
        &[("sum by (state) (policy_baseline_namespaces{SELECTED} LEADER)", "{{state}}")],
    ),
    table(
        "Baselines and the reason of Ready",
        "One row for each of at most 100 baselines.",
        "short",
        &[("sum by (namespace, baseline, reason) (policy_baseline_ready{SELECTED} LEADER) > 0", "")],
    ),
    table(
        "Conditions of baselines that are True",
        "Stalled, suspended, awaiting confirmation and others.",
        "short",
        &[("sum by (namespace, baseline, type) (policy_baseline_condition{status=\"true\", SELECTED} LEADER) > 0", "")],
    ),
    table(
        "Time until the next opt-out ends",
        "For each role, the opt-out in force that ends first.",
        "s",
        &[(
            "min by (namespace, role) (policy_baseline_opt_outs_earliest_expiry_timestamp_seconds{SELECTED} > 0 LEADER) - time()",
            "",
        )],
    ),
    lines(
        "Changes by others",
        "Policies that somebody else changed or deleted, by what was changed.",
        "short",
        &[("sum by (class) (increase(policy_baseline_drift_total{SELECTED}[$__rate_interval]))", "{{class}}")],
    ),
    lines(
        "Contested policies",
        "Policies that somebody changed so often that their repairs had to wait.",
        "short",
        &[("sum by (role) (increase(policy_baseline_contested_total{SELECTED}[$__rate_interval]))", "{{role}}")],
    ),
    lines(
        "Writes of policies",
        "By outcome. A new namespace counts once for each of its policies.",
        "short",
        &[("sum by (outcome) (increase(policy_baseline_repairs_total{SELECTED}[$__rate_interval]))", "{{outcome}}")],
    ),
    lines(
        "Writes that failed",
        "All kinds of writes to the API server, by what failed.",
        "short",
        &[(
            "sum by (verb, outcome) (increase(policy_baseline_api_writes_total{outcome!~\"ok|gone\", SELECTED}[$__rate_interval]))",
            "{{verb}}: {{outcome}}",
        )],
    ),
    lines(
        "Time to protect and to repair",
        "99 of 100 new namespaces had their last policy, and 99 of 100 changes by others were repaired, within this time.",
        "s",
        &[
            (
                "histogram_quantile(0.99, sum by (le) (rate(policy_baseline_namespace_protection_seconds_bucket{SELECTED}[$__rate_interval])))",
                "protect a new namespace",
            ),
            (
                "histogram_quantile(0.99, sum by (le) (rate(policy_baseline_drift_repair_seconds_bucket{SELECTED}[$__rate_interval])))",
                "repair a change",
            ),
        ],
    ),
    lines(
        "Time of the operator's own work",
        "Means: comparing the changed namespaces with their plan, and writing a status.",
        "s",
        &[
            (
                "sum(rate(policy_baseline_reconcile_seconds_sum{SELECTED}[$__rate_interval])) / sum(rate(policy_baseline_reconcile_seconds_count{SELECTED}[$__rate_interval]))",
                "compare",
            ),
            (
                "sum(rate(policy_baseline_status_write_seconds_sum{SELECTED}[$__rate_interval])) / sum(rate(policy_baseline_status_write_seconds_count{SELECTED}[$__rate_interval]))",
                "write a status",
            ),
        ],
    ),
    lines(
        "Rollouts",
        "Namespaces that rollouts in waves concern, and rollouts that are paused.",
        "short",
        &[
            ("sum by (state) (policy_baseline_rollout_namespaces{SELECTED} LEADER)", "{{state}}"),
            ("sum(policy_baseline_rollouts_paused{SELECTED} LEADER)", "paused rollouts"),
        ],
    ),
    lines(
        "Lists that watches began again",
        "A few are normal: after a restart of the API server, for example.",
        "short",
        &[("sum by (watch) (increase(policy_baseline_watch_restarts_total{SELECTED}[$__rate_interval]))", "{{watch}}")],
    ),
    table(
        "Instances",
        "The version of each instance. Each one is 1 if it is reached.",
        "short",
        &[("sum by (namespace, instance, version) (policy_baseline_build_info{SELECTED})", "")],
    ),
    lines(
        "Opt-outs in force",
        "By the role that they take away.",
        "short",
        &[("sum by (role) (policy_baseline_opt_outs_in_force{SELECTED} LEADER)", "{{role}}")],
    ),
    lines(
        "What keeps an instance from working",
        "Fields that the CRDs in the cluster lack, an older install that this one waits for, and resets of the API server to an older state.",
        "short",
        &[
            ("max by (instance) (policy_baseline_crd_missing_fields{SELECTED})", "{{instance}}: missing fields"),
            ("max by (instance) (policy_baseline_waits_for_install{SELECTED})", "{{instance}}: waits for an older install"),
            ("sum(increase(policy_baseline_history_resets_total{SELECTED}[$__rate_interval]))", "resets"),
        ],
    ),
    lines(
        "Leftovers and losses",
        "Policies whose baseline does not exist, namespaces where another baseline comes first, and Events that were not published.",
        "short",
        &[
            ("sum(policy_baseline_orphaned_policies{SELECTED} LEADER)", "policies without a baseline"),
            ("sum(policy_baseline_namespaces_shadowed{SELECTED} LEADER)", "shadowed namespaces"),
            ("sum(increase(policy_baseline_events_dropped_total{SELECTED}[$__rate_interval]))", "dropped Events"),
        ],
    ),
];

fn expression(written: &str) -> String {
    written.replace("LEADER", LEADER).replace("SELECTED", SELECTED)
}

fn panel(id: usize, place: (u32, u32), height: u32, panel: &Panel) -> Value {
    let Panel { title, description, kind, width, unit, series } = panel;
    let targets: Vec<Value> = series
        .iter()
        .zip('A'..)
        .map(|((written, legend), name)| {
            json!({
                "refId": name.to_string(), "expr": expression(written), "legendFormat": legend,
                "instant": *kind != Kind::Lines, "range": *kind == Kind::Lines,
                "format": if *kind == Kind::Table { "table" } else { "time_series" },
            })
        })
        .collect();
    // The time of a row says nothing.
    let transformations = match kind {
        Kind::Table => json!([{ "id": "organize", "options": { "excludeByName": { "Time": true } } }]),
        Kind::Number | Kind::Lines => json!([]),
    };
    json!({
        "id": id, "title": title, "description": description,
        "type": match kind { Kind::Number => "stat", Kind::Lines => "timeseries", Kind::Table => "table" },
        "gridPos": { "x": place.0, "y": place.1, "w": width, "h": height },
        "datasource": { "type": "prometheus", "uid": "${datasource}" },
        "fieldConfig": { "defaults": { "unit": unit }, "overrides": [] },
        "targets": targets, "transformations": transformations,
    })
}

/// The panels from left to right, row by row.
fn placed() -> Vec<Value> {
    let (mut x, mut y, mut last) = (0, 0, 0);
    let mut placed = Vec::new();
    for (id, each) in (1..).zip(PANELS) {
        if x + each.width > WIDTH {
            (x, y) = (0, y + last);
        }
        last = if each.kind == Kind::Number { 4 } else { 8 };
        placed.push(panel(id, (x, y), last, each));
        x += each.width;
    }
    placed
}

fn variable(name: &str, label: &str) -> Value {
    json!({
        "name": name, "label": label, "type": "query", "refresh": 2, "sort": 1, "multi": true, "includeAll": true, "allValue": ".*",
        "current": { "text": "All", "value": "$__all" },
        "datasource": { "type": "prometheus", "uid": "${datasource}" },
        "query": { "query": format!("label_values(policy_baseline_leader, {name})"), "refId": name },
    })
}

/// The dashboard as Grafana imports it.
pub fn dashboard() -> Value {
    json!({
        "uid": "policy-baseline", "title": "policy-baseline", "tags": ["policy-baseline", "NetworkPolicy"],
        "description": "Baselines, namespaces and the operator. Gauges are those of the instance that leads.",
        "schemaVersion": 39, "version": 1, "editable": true, "refresh": "1m", "time": { "from": "now-6h", "to": "now" },
        "templating": { "list": [
            { "name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus" },
            variable("job", "Job"),
            variable("namespace", "Namespace of the operator"),
        ] },
        "panels": placed(),
    })
}
