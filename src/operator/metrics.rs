//! The metrics for Prometheus. Every label has a fixed set of values, except for the names of at most 100 baselines (I11). Recording
//! never fails and never waits (I9). One file: each metric with its registration, its setter and its line in docs/metrics.md.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram, info::Info},
    registry::{Registry, Unit},
};
use strum::VariantArray;

use super::{
    condition_gauges::ConditionGauges,
    prometheus_text::{Format, Word, as_text},
};
use crate::{
    api::{PurposeKind, Role, baseline::NamespaceCounts, reason::Failure},
    cluster::{
        telemetry::{Verb, WriteOutcome},
        watch::{PLUGINS_WATCH, REVISIONS_WATCH, WATCHES},
    },
    engine::sample::{MetricSample, Outcome},
    policy::{dns::Source, drift::Class, kubernetes_api::ApiObject},
};

const PREFIX: &str = "policy_baseline";
/// Buckets in seconds: from a write on a warm connection to the longest wait between two attempts.
const SECONDS: [f64; 13] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 15.0, 60.0];

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct State {
    state: Word,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct DriftKind {
    class: Word,
    role: Word,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct Contest {
    role: Word,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct Exempt {
    role: Word,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct Ended {
    outcome: Word,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct WriteLabels {
    verb: Word,
    outcome: Word,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct Watch {
    watch: Word,
}

/// The role label for a policy that no plan names.
const NO_ROLE: &str = "none";

/// All metrics. All series but those of conditions exist from the start, at zero, so that Prometheus sees the first increase.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    namespaces: Family<State, Gauge>,
    opted_out: Gauge,
    bypassed: Gauge,
    shadowed: Gauge,
    orphans: Gauge,
    conditions: ConditionGauges,
    rollout_namespaces: Family<State, Gauge>,
    rollouts_paused: Gauge,
    drift: Family<DriftKind, Counter>,
    contested: Family<Contest, Counter>,
    repairs: Family<Ended, Counter>,
    writes: Family<WriteLabels, Counter>,
    watch_restarts: Family<Watch, Counter>,
    opt_outs: Family<Exempt, Gauge>,
    opt_outs_end: Family<Exempt, Gauge>,
    events_dropped: Counter,
    history_resets: Counter,
    missing_fields: Gauge,
    leader: Gauge,
    waits_for_install: Gauge,
    tasks: Gauge,
    repair_seconds: Histogram,
    protection_seconds: Histogram,
    reconcile_seconds: Histogram,
    status_write_seconds: Histogram,
}

impl Default for Metrics {
    fn default() -> Self {
        let seconds = || Histogram::new(SECONDS);
        let mut m = Self {
            registry: Registry::with_prefix(PREFIX),
            namespaces: Family::default(),
            opted_out: Gauge::default(),
            bypassed: Gauge::default(),
            shadowed: Gauge::default(),
            orphans: Gauge::default(),
            conditions: ConditionGauges::default(),
            rollout_namespaces: Family::default(),
            rollouts_paused: Gauge::default(),
            drift: Family::default(),
            contested: Family::default(),
            repairs: Family::default(),
            writes: Family::default(),
            watch_restarts: Family::default(),
            opt_outs: Family::default(),
            opt_outs_end: Family::default(),
            events_dropped: Counter::default(),
            history_resets: Counter::default(),
            missing_fields: Gauge::default(),
            leader: Gauge::default(),
            waits_for_install: Gauge::default(),
            tasks: Gauge::default(),
            repair_seconds: seconds(),
            protection_seconds: seconds(),
            reconcile_seconds: seconds(),
            status_write_seconds: seconds(),
        };
        let registry = &mut m.registry;
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        let help = "Selected namespaces by state, added up over all baselines: each is in exactly one state";
        registry.register("namespaces", help, m.namespaces.clone());
        let help = "Namespaces in which an opt-out takes a policy away, added up over all baselines";
        registry.register("namespaces_opted_out", help, m.opted_out.clone());
        let help = "Namespaces in which somebody else's policy opens what the baseline closes, added up over all baselines";
        registry.register("namespaces_bypassed", help, m.bypassed.clone());
        let help = "Namespaces that match a baseline, but another baseline comes first; added up over all baselines";
        registry.register("namespaces_shadowed", help, m.shadowed.clone());
        let help = "Policies with the operator's labels that no baseline plans and whose baseline does not exist";
        registry.register("orphaned_policies", help, m.orphans.clone());
        let help = "1 if the condition of the baseline has this status, else 0; no series while the condition is absent";
        registry.register("condition", help, m.conditions.gauges());
        let help = "1 for the present reason of the condition Ready; invalid_spec stands for every reason of an invalid spec";
        registry.register("ready", help, m.conditions.ready());
        let help = "Counted once for each baseline that gets no policy_baseline_condition, because 100 others have it";
        registry.register("condition_baselines_dropped", help, m.conditions.dropped());
        let help = "Namespaces that rollouts concern, by state, added up over all baselines";
        registry.register("rollout_namespaces", help, m.rollout_namespaces.clone());
        let help = "Rollouts that go no further until their baseline is edited";
        registry.register("rollouts_paused", help, m.rollouts_paused.clone());
        registry.register("drift", "Policies that somebody else changed, by class and role", m.drift.clone());
        let help = "Policies that somebody changed so often that their repairs had to wait";
        registry.register("contested", help, m.contested.clone());
        registry.register("repairs", "Attempts to write or remove a policy, by outcome", m.repairs.clone());
        registry.register("api_writes", "Writes sent to the API server, by verb and outcome", m.writes.clone());
        registry.register("watch_restarts", "How often a watch had to list its objects again", m.watch_restarts.clone());
        let help = "Opt-outs in force that name the role";
        registry.register("opt_outs_in_force", help, m.opt_outs.clone());
        let help = "The earliest end, as a Unix timestamp, of the opt-outs in force that name the role; 0 when there is none";
        registry.register("opt_outs_earliest_expiry_timestamp_seconds", help, m.opt_outs_end.clone());
        let help = "Events that were not published, because they came faster than the API server took them";
        registry.register("events_dropped", help, m.events_dropped.clone());
        let help = "How often the API server went back to an older state, and everything was listed again";
        registry.register("history_resets", help, m.history_resets.clone());
        let help = "Fields that this version knows and the CRDs in the cluster lack; while there are any, nothing is decided, and nothing but Events is written";
        registry.register("crd_missing_fields", help, m.missing_fields.clone());
        registry.register("leader", "1 while this instance is the one that writes", m.leader.clone());
        let help = "1 while an older install of policy-baseline runs in this cluster, so that this one writes nothing";
        registry.register("waits_for_install", help, m.waits_for_install.clone());
        registry.register("tasks", "Tasks of the runtime that are alive", m.tasks.clone());
        registry.register_with_unit(
            "drift_repair",
            "Time from a change by somebody else, as the operator sees it, to its repair",
            Unit::Seconds,
            m.repair_seconds.clone(),
        );
        let help = "Time from a new namespace, as the operator sees it, to its last policy";
        registry.register_with_unit("namespace_protection", help, Unit::Seconds, m.protection_seconds.clone());
        registry.register_with_unit(
            "reconcile",
            "Time to compare the changed namespaces with their plan",
            Unit::Seconds,
            m.reconcile_seconds.clone(),
        );
        registry.register_with_unit("status_write", "Time to write a status", Unit::Seconds, m.status_write_seconds.clone());
        registry.register("build", "The version that runs", build);
        m.start_at_zero();
        m
    }
}

impl Metrics {
    fn start_at_zero(&self) {
        self.set_namespaces(&NamespaceCounts::default());
        self.set_rollouts([0; 3], 0);
        let roles = || PurposeKind::VARIANTS.iter().map(PurposeKind::into_str);
        for class in Class::VARIANTS {
            for role in roles().chain([NO_ROLE]) {
                drop(self.drift.get_or_create(&DriftKind { class: Word(class.into_str()), role: Word(role) }));
            }
        }
        for role in roles().chain([NO_ROLE]) {
            drop(self.contested.get_or_create(&Contest { role: Word(role) }));
        }
        for role in Role::VARIANTS {
            self.set_opt_outs(*role, 0, None);
        }
        for outcome in Outcome::VARIANTS {
            drop(self.repairs.get_or_create(&Ended { outcome: Word(outcome.into_str()) }));
        }
        for verb in Verb::VARIANTS {
            let failed = Failure::VARIANTS.iter().copied().map(WriteOutcome::Failed);
            for answer in [WriteOutcome::Ok, WriteOutcome::Gone].into_iter().chain(failed) {
                drop(self.writes.get_or_create(&WriteLabels { verb: Word(verb.into_str()), outcome: Word(answer.as_str()) }));
            }
        }
        let of_dns = Source::VARIANTS.iter().filter(|source| **source != Source::ResolvConf).map(Source::into_str);
        let of_api = ApiObject::VARIANTS.iter().map(ApiObject::into_str);
        for watch in WATCHES.into_iter().chain([REVISIONS_WATCH, PLUGINS_WATCH]).chain(of_dns).chain(of_api) {
            drop(self.watch_restarts.get_or_create(&Watch { watch: Word(watch) }));
        }
    }

    /// Sets the number of namespaces in each state.
    pub fn set_namespaces(&self, counts: &NamespaceCounts) {
        let NamespaceCounts {
            // This is the sum of the states.
            selected: _,
            protected,
            pending,
            drifted,
            failed,
            unprotected,
            reported,
            held,
            frozen,
            opted_out,
            bypassed,
            shadowed,
        } = *counts;
        for (state, count) in [
            ("protected", protected),
            ("pending", pending),
            ("drifted", drifted),
            ("failed", failed),
            ("unprotected", unprotected),
            ("reported", reported),
            ("held", held),
            ("frozen", frozen),
        ] {
            self.namespaces.get_or_create(&State { state: Word(state) }).set(count.into());
        }
        self.opted_out.set(opted_out.into());
        self.bypassed.set(bypassed.into());
        self.shadowed.set(shadowed.into());
    }

    /// Sets how many policies with our labels nobody keeps.
    pub fn set_orphans(&self, count: u32) {
        self.orphans.set(count.into());
    }

    /// Sets the conditions of all baselines, and removes the series of baselines that no longer exist.
    pub fn set_conditions<'a>(&self, baselines: impl Iterator<Item = (&'a Arc<str>, &'a [Condition])> + Clone) {
        self.conditions.set(baselines);
    }

    /// Sets how many opt-outs in force name this role, and when the first of them ends.
    pub fn set_opt_outs(&self, role: Role, in_force: u32, earliest: Option<Timestamp>) {
        let role = Exempt { role: Word(role.into_str()) };
        self.opt_outs.get_or_create(&role).set(in_force.into());
        self.opt_outs_end.get_or_create(&role).set(earliest.map_or(0, Timestamp::as_second));
    }

    /// Sets how many namespaces of rollouts have the new policies, are getting them, and are waiting for them, in this order.
    /// Also sets how many rollouts are paused.
    pub fn set_rollouts(&self, namespaces: [usize; 3], paused: usize) {
        let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        for (state, count) in ["moved", "moving", "waiting"].into_iter().zip(namespaces) {
            self.rollout_namespaces.get_or_create(&State { state: Word(state) }).set(number(count));
        }
        self.rollouts_paused.set(number(paused));
    }

    /// Records a measurement of the engine.
    pub fn count(&self, sample: MetricSample) {
        match sample {
            MetricSample::Drift(class, role, after) => {
                self.drift(class, role);
                self.repair_took(after);
            }
            MetricSample::Repair(outcome) => self.repair(outcome),
            MetricSample::Protected(after) => self.protection_took(after),
            MetricSample::Contested(role) => self.contested(role),
        }
    }

    /// Somebody else changed a policy of this kind; `None` if no plan names the policy.
    fn drift(&self, class: Class, role: Option<PurposeKind>) {
        let role = Word(role.map_or(NO_ROLE, |role| role.into_str()));
        self.drift.get_or_create(&DriftKind { class: Word(class.into_str()), role }).inc();
    }

    /// A policy of this kind became contested; `None` if no plan names the policy.
    fn contested(&self, role: Option<PurposeKind>) {
        self.contested.get_or_create(&Contest { role: Word(role.map_or(NO_ROLE, |role| role.into_str())) }).inc();
    }

    /// Counts the outcome of writing a policy.
    fn repair(&self, outcome: Outcome) {
        self.repairs.get_or_create(&Ended { outcome: Word(outcome.into_str()) }).inc();
    }

    /// Counts a write request by its result.
    pub fn write(&self, verb: Verb, answer: WriteOutcome) {
        self.writes.get_or_create(&WriteLabels { verb: Word(verb.into_str()), outcome: Word(answer.as_str()) }).inc();
    }

    /// Counts a list that a watch had to start again.
    pub fn watch_restarted(&self, watch: &'static str) {
        self.watch_restarts.get_or_create(&Watch { watch: Word(watch) }).inc();
    }

    /// Counts a dropped event.
    pub fn event_dropped(&self) {
        self.events_dropped.inc();
    }

    /// Sets how many fields the CRDs lack.
    pub fn set_missing_fields(&self, fields: usize) {
        self.missing_fields.set(i64::try_from(fields).unwrap_or(i64::MAX));
    }

    /// The API server went back to an older state.
    pub fn history_reset(&self) {
        self.history_resets.inc();
    }

    /// Sets whether an older install runs, so that this one writes nothing.
    pub fn set_waits_for_install(&self, waits: bool) {
        self.waits_for_install.set(waits.into());
    }

    /// Sets whether this instance is the leader.
    pub fn set_leader(&self, leads: bool) {
        self.leader.set(leads.into());
    }

    /// Sets the number of live tasks. It is measured only when the metrics are requested, so it costs nothing otherwise.
    pub fn set_tasks(&self, tasks: usize) {
        self.tasks.set(i64::try_from(tasks).unwrap_or(i64::MAX));
    }

    /// Records the time from seeing a change by somebody else to its repair.
    fn repair_took(&self, time: Duration) {
        self.repair_seconds.observe(time.as_secs_f64());
    }

    /// Records the time from seeing a new namespace to its last policy.
    fn protection_took(&self, time: Duration) {
        self.protection_seconds.observe(time.as_secs_f64());
    }

    /// Records the duration of one assessment round.
    pub fn reconcile_took(&self, time: Duration) {
        self.reconcile_seconds.observe(time.as_secs_f64());
    }

    /// Records the duration of a status write.
    pub fn status_write_took(&self, time: Duration) {
        self.status_write_seconds.observe(time.as_secs_f64());
    }

    /// All metrics in this format.
    pub fn text(&self, format: Format) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = encode(&mut text, &self.registry);
        match format {
            Format::OpenMetrics => text,
            Format::Text => as_text(&text),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::{
        operator::{condition_gauges::tests::condition, prometheus_text::comment},
        testkit::golden,
    };

    const TABLE_HEAD: &str = "# Metrics

The operator serves its metrics on its admin port at `/metrics`: as OpenMetrics to a client that accepts it, else in the Prometheus text format. Times are in
seconds. This page is generated from the code.

- No label names an object, with one exception: `policy_baseline_condition` and `policy_baseline_ready` name at most 100 baselines. So the number of series is limited.
- The states of `policy_baseline_namespaces` add up to the selected namespaces. The metrics of opted out, bypassed and shadowed
  namespaces are not part of that sum.
- A standby counts namespaces, conditions and opt-outs as the leader does. Do not add up over instances: use the instance whose `policy_baseline_leader`
  is 1. Only the leader counts rollouts.

| metric | type | labels | what it says |
|---|---|---|---|
";

    const VALUES_HEAD: &str = "
## Values of the labels

- `role`: `allow` means any of the allows, because no label names an object. `none` means a policy that its baseline no longer plans. The operator removes such a policy, and does not count that as drift. So the series with `none`, and those
  with the class `stale`, stay at 0. The other classes are explained [here](status.md#drift-statusrecentdrift-and-events-in-the-namespace).
- `outcome` of `policy_baseline_repairs_total`:
  - `created`: a policy was created in a namespace that is new to the operator. So a new namespace counts once for each of its policies.
  - `followed`: a policy was written again because the plan changed, for example by an edit of the baseline, other DNS, or the end of an opt-out.
  - `repaired`: a policy was written again because somebody else had changed or deleted it.
  - `removed`: a policy that is no longer planned was removed.
  - `failed`: a write failed. The operator tries again.
- `outcome` of `policy_baseline_api_writes_total`: `ok` is a success, and `gone` means that the object or its namespace no longer exists. The others are the failures
  of the same names among the [violations](status.md#violations).
- `state` of `policy_baseline_rollout_namespaces`: `moved` namespaces have the new policies, `moving` ones are being written, and no wave has reached the `waiting`
  ones.

| metric | label | values |
|---|---|---|
";

    /// One line of the table of metrics.
    struct Documented {
        name: String,
        kind: String,
        labels: Vec<String>,
        help: String,
    }

    fn name_and_labels(series: &str) -> (&str, impl Iterator<Item = (&str, &str)>) {
        let name = series.split(['{', ' ']).next().unwrap();
        let labels = series.split_once('{').and_then(|(_, rest)| rest.split_once('}')).map_or("", |(labels, _)| labels);
        (name, labels.split(',').filter_map(|pair| pair.split_once('=')))
    }

    /// Every metric, as the exported text describes it.
    fn documented(text: &str) -> Vec<Documented> {
        let mut found: Vec<Documented> = Vec::new();
        for line in text.lines() {
            if let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|line| line.split_once(' ')) {
                // The library ends each sentence.
                let help = help.trim_end_matches('.').to_owned();
                found.push(Documented { name: name.into(), kind: String::new(), labels: vec![], help });
            } else if let Some((_, kind)) = line.strip_prefix("# TYPE ").and_then(|line| line.split_once(' ')) {
                let last = found.last_mut().unwrap();
                kind.clone_into(&mut last.kind);
                last.name += match kind {
                    "counter" => "_total",
                    "info" => "_info",
                    _ => "",
                };
            } else if let Some(last) = found.last_mut().filter(|_| !line.starts_with('#')) {
                let labels = name_and_labels(line).1.map(|(label, _)| format!("`{label}`"));
                let new: Vec<String> = labels.filter(|label| label != "`le`" && !last.labels.contains(label)).collect();
                last.labels.extend(new);
            }
        }
        found
    }

    /// Every value of every label, by metric and label. All series exist from the start, so the exported text contains all values.
    fn label_values(metrics: &Metrics) -> BTreeMap<(String, String), Vec<String>> {
        let mut found: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
        for series in metrics.text(Format::OpenMetrics).lines().filter(|line| line.ends_with("} 0")) {
            let (metric, labels) = name_and_labels(series);
            for (label, value) in labels.filter(|(label, _)| *label != "le") {
                let values = found.entry((metric.into(), label.into())).or_default();
                let value = format!("`{}`", value.trim_matches('"'));
                if !values.contains(&value) {
                    values.push(value);
                }
            }
        }
        for values in found.values_mut() {
            values.sort_unstable();
        }
        found
    }

    /// The documentation page: every metric with its labels.
    fn table() -> String {
        let metrics = Metrics::default();
        let values: Vec<String> = label_values(&metrics)
            .into_iter()
            .map(|((metric, label), values)| format!("| `{metric}` | `{label}` | {} |\n", values.join(", ")))
            .collect();
        metrics.set_conditions([(&"b".into(), &[condition("Ready", "True")][..])].into_iter());
        let line = |Documented { name, kind, labels, help }| format!("| `{name}` | {kind} | {} | {help} |\n", labels.join(", "));
        let lines: Vec<String> = documented(&metrics.text(Format::OpenMetrics)).into_iter().map(line).collect();
        [TABLE_HEAD, &lines.concat(), VALUES_HEAD, &values.concat()].concat()
    }

    #[test]
    fn the_table_of_metrics_is_the_published_one() {
        golden("docs/metrics.md", &table());
    }

    #[test]
    fn every_value_of_a_label_is_in_snake_case() {
        let is_snake = |value: &str| value.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        for ((metric, label), values) in label_values(&Metrics::default()) {
            for value in values {
                assert!(is_snake(value.trim_matches('`')), "{metric} {label} {value}");
            }
        }
    }

    #[test]
    fn text_for_prometheus_names_each_series_by_a_type_that_it_knows() {
        let metrics = Metrics::default();
        let text = metrics.text(Format::Text);
        let types: BTreeMap<&str, &str> =
            text.lines().filter_map(comment).filter(|(what, ..)| *what == "TYPE").map(|(_, name, kind)| (name, kind)).collect();
        assert_eq!(types["policy_baseline_drift_total"], "counter");
        assert_eq!(types["policy_baseline_build_info"], "gauge");
        assert_eq!(types["policy_baseline_condition_baselines_dropped_total"], "counter");
        assert_eq!(types["policy_baseline_drift_repair_seconds"], "histogram");
        assert!(types.values().all(|kind| ["counter", "gauge", "histogram"].contains(kind)), "{types:?}");
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let name = line.split(['{', ' ']).next().unwrap();
            let family = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix));
            assert!(types.contains_key(name) || family.is_some_and(|name| types[name] == "histogram"), "{line}");
        }
        let series = |text: &str| text.lines().filter(|line| !line.starts_with('#')).map(String::from).collect::<Vec<_>>();
        assert_eq!(series(&text), series(&metrics.text(Format::OpenMetrics)));
        assert!(!text.contains("# EOF") && !text.contains("# UNIT") && text.ends_with('\n'));
    }

    #[test]
    fn i11_whatever_is_recorded_adds_no_series() {
        let metrics = Metrics::default();
        let series = |m: &Metrics| m.text(Format::OpenMetrics).lines().filter(|l| !l.starts_with('#')).count();
        let before = series(&metrics);
        metrics.drift(Class::Missing, Some(PurposeKind::DefaultDenyEgress));
        metrics.drift(Class::Stale, None);
        metrics.repair(Outcome::Failed);
        metrics.write(Verb::Apply, WriteOutcome::Failed(Failure::Throttled));
        metrics.watch_restarted(WATCHES[0]);
        metrics.repair_took(Duration::from_millis(3));
        assert_eq!(series(&metrics), before);
        let line = "policy_baseline_drift_total{class=\"missing\",role=\"default_deny_egress\"} 1";
        assert!(metrics.text(Format::OpenMetrics).contains(line));
    }
}
