//! What Prometheus can ask. Every label is a closed set: no value names an object (I11). Recording never fails and never waits (I9).

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram, info::Info},
    registry::{Metric, Registry, Unit},
};

use crate::{
    api::{Role, baseline::NamespaceCounts, reason::Failure},
    cluster::{
        telemetry::{Verb, WriteOutcome},
        watch::{REVISIONS_WATCH, WATCHES},
    },
    engine::sample::Outcome,
    policy::{dns::Source, drift::Class},
};

const PREFIX: &str = "policy_baseline";
/// From a write on a warm connection to the longest wait between two attempts.
const SECONDS: [f64; 13] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 15.0, 60.0];

/// A word of a closed set.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct Word(&'static str);

impl EncodeLabelValue for Word {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        self.0.encode(encoder)
    }
}

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

/// What stands for the role of a policy that no plan names.
const NO_ROLE: &str = "none";

/// The metrics. Series exist from the start, at zero, so that a first increase is seen.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    documented: Vec<Documented>,
    namespaces: Family<State, Gauge>,
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
    leader: Gauge,
    tasks: Gauge,
    repair_seconds: Histogram,
    protection_seconds: Histogram,
    reconcile_seconds: Histogram,
    status_write_seconds: Histogram,
}

/// One line of the table of metrics.
#[derive(Debug)]
struct Documented {
    name: String,
    kind: &'static str,
    labels: &'static str,
    help: &'static str,
}

/// Registers metrics and keeps what the table says of them.
struct Shelf {
    registry: Registry,
    documented: Vec<Documented>,
}

impl Shelf {
    fn put(&mut self, kind: &'static str, name: &str, labels: &'static str, help: &'static str, metric: impl Metric) {
        let (unit, suffix) = match kind {
            "histogram" => (Some(Unit::Seconds), "_seconds"),
            "counter" => (None, "_total"),
            "info" => (None, "_info"),
            _ => (None, ""),
        };
        self.documented.push(Documented { name: format!("{PREFIX}_{name}{suffix}"), kind, labels, help });
        match unit {
            Some(unit) => self.registry.register_with_unit(name, help, unit, metric),
            None => self.registry.register(name, help, metric),
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        let mut shelf = Shelf { registry: Registry::with_prefix(PREFIX), documented: vec![] };
        let seconds = || Histogram::new(SECONDS);
        let mut m = Self {
            registry: Registry::default(),
            documented: vec![],
            namespaces: Family::default(),
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
            leader: Gauge::default(),
            tasks: Gauge::default(),
            repair_seconds: seconds(),
            protection_seconds: seconds(),
            reconcile_seconds: seconds(),
            status_write_seconds: seconds(),
        };
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        shelf.put("gauge", "namespaces", "`state`", "Namespaces by state, added up over all baselines", m.namespaces.clone());
        let help = "Namespaces that rollouts concern, by state, added up over all baselines";
        shelf.put("gauge", "rollout_namespaces", "`state`", help, m.rollout_namespaces.clone());
        let help = "Rollouts that go no further until their baseline is edited";
        shelf.put("gauge", "rollouts_paused", "", help, m.rollouts_paused.clone());
        shelf.put(
            "counter",
            "drift",
            "`class`, `role`",
            "Policies that somebody else changed, by class and role",
            m.drift.clone(),
        );
        let help = "Policies that somebody changed so often that their repairs had to wait";
        shelf.put("counter", "contested", "`role`", help, m.contested.clone());
        shelf.put("counter", "repairs", "`outcome`", "Policies written or not, by outcome", m.repairs.clone());
        shelf.put(
            "counter",
            "api_writes",
            "`verb`, `outcome`",
            "Writes sent to the apiserver, by verb and outcome",
            m.writes.clone(),
        );
        shelf.put("counter", "watch_restarts", "`watch`", "Lists that a watch had to take again", m.watch_restarts.clone());
        let help = "Opt-outs in force that name the role";
        shelf.put("gauge", "opt_outs_in_force", "`role`", help, m.opt_outs.clone());
        let help = "When the first of the opt-outs in force that name the role ends, as a Unix timestamp; 0 when there is none";
        shelf.put("gauge", "opt_outs_earliest_expiry_timestamp_seconds", "`role`", help, m.opt_outs_end.clone());
        shelf.put(
            "counter",
            "events_dropped",
            "",
            "Events that came faster than the apiserver took them",
            m.events_dropped.clone(),
        );
        shelf.put("gauge", "leader", "", "1 while this instance is the one that writes", m.leader.clone());
        shelf.put("gauge", "tasks", "", "Tasks of the runtime that are alive", m.tasks.clone());
        shelf.put(
            "histogram",
            "drift_repair",
            "",
            "From a change by somebody else, as seen, to its repair",
            m.repair_seconds.clone(),
        );
        let help = "From a new namespace, as seen, to its last policy";
        shelf.put("histogram", "namespace_protection", "", help, m.protection_seconds.clone());
        shelf.put(
            "histogram",
            "reconcile",
            "",
            "Time to compare the changed namespaces with their plan",
            m.reconcile_seconds.clone(),
        );
        shelf.put("histogram", "status_write", "", "Time to write a status", m.status_write_seconds.clone());
        shelf.put("info", "build", "`version`", "The version that runs", build);
        (m.registry, m.documented) = (shelf.registry, shelf.documented);
        m.start_at_zero();
        m
    }
}

impl Metrics {
    fn start_at_zero(&self) {
        self.set_namespaces(&NamespaceCounts::default());
        self.set_rollouts([0; 3], 0);
        for class in Class::ALL {
            for role in Role::ALL.map(Role::as_str).into_iter().chain([NO_ROLE]) {
                drop(self.drift.get_or_create(&DriftKind { class: Word(class.as_str()), role: Word(role) }));
            }
        }
        for role in Role::ALL.map(Role::as_str).into_iter().chain([NO_ROLE]) {
            drop(self.contested.get_or_create(&Contest { role: Word(role) }));
        }
        for role in Role::ALL {
            self.set_opt_outs(role, 0, None);
        }
        for outcome in Outcome::ALL {
            drop(self.repairs.get_or_create(&Ended { outcome: Word(outcome.as_str()) }));
        }
        for verb in Verb::ALL {
            for answer in [WriteOutcome::Ok, WriteOutcome::Gone].into_iter().chain(Failure::ALL.map(WriteOutcome::Failed)) {
                drop(self.writes.get_or_create(&WriteLabels { verb: Word(verb.as_str()), outcome: Word(answer.as_str()) }));
            }
        }
        let of_dns = Source::ALL.into_iter().filter(|source| *source != Source::ResolvConf).map(Source::as_str);
        for watch in WATCHES.into_iter().chain([REVISIONS_WATCH]).chain(of_dns) {
            drop(self.watch_restarts.get_or_create(&Watch { watch: Word(watch) }));
        }
    }

    /// Sets the counts of namespaces.
    pub fn set_namespaces(&self, counts: &NamespaceCounts) {
        let NamespaceCounts { selected, compliant, pending, drifted, failed, reported, shadowed, bypassed, opted_out, held } =
            *counts;
        for (state, count) in [
            ("selected", selected),
            ("compliant", compliant),
            ("pending", pending),
            ("drifted", drifted),
            ("failed", failed),
            ("reported", reported),
            ("shadowed", shadowed),
            ("bypassed", bypassed),
            ("opted_out", opted_out),
            ("held", held),
        ] {
            self.namespaces.get_or_create(&State { state: Word(state) }).set(count.into());
        }
    }

    /// How many opt-outs that name that role are in force, and when the first of them ends.
    pub fn set_opt_outs(&self, role: Role, in_force: u32, earliest: Option<Timestamp>) {
        let role = Exempt { role: Word(role.as_str()) };
        self.opt_outs.get_or_create(&role).set(in_force.into());
        self.opt_outs_end.get_or_create(&role).set(earliest.map_or(0, Timestamp::as_second));
    }

    /// Sets how many namespaces rollouts have brought to what is wanted, are bringing there, and have not reached; and how many of them are
    /// paused.
    pub fn set_rollouts(&self, namespaces: [usize; 3], paused: usize) {
        let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        for (state, count) in ["moved", "moving", "waiting"].into_iter().zip(namespaces) {
            self.rollout_namespaces.get_or_create(&State { state: Word(state) }).set(number(count));
        }
        self.rollouts_paused.set(number(paused));
    }

    /// Somebody else changed a policy of that role; none when no plan names the policy.
    pub fn drift(&self, class: Class, role: Option<Role>) {
        let role = Word(role.map_or(NO_ROLE, Role::as_str));
        self.drift.get_or_create(&DriftKind { class: Word(class.as_str()), role }).inc();
    }

    /// A policy of that role became contested; none when no plan names the policy.
    pub fn contested(&self, role: Option<Role>) {
        self.contested.get_or_create(&Contest { role: Word(role.map_or(NO_ROLE, Role::as_str)) }).inc();
    }

    /// A policy was written, or not.
    pub fn repair(&self, outcome: Outcome) {
        self.repairs.get_or_create(&Ended { outcome: Word(outcome.as_str()) }).inc();
    }

    /// A write was sent.
    pub fn write(&self, verb: Verb, answer: WriteOutcome) {
        self.writes.get_or_create(&WriteLabels { verb: Word(verb.as_str()), outcome: Word(answer.as_str()) }).inc();
    }

    /// A watch had to list again.
    pub fn watch_restarted(&self, watch: &'static str) {
        self.watch_restarts.get_or_create(&Watch { watch: Word(watch) }).inc();
    }

    /// An event was dropped.
    pub fn event_dropped(&self) {
        self.events_dropped.inc();
    }

    /// Whether this instance writes.
    pub fn set_leader(&self, leads: bool) {
        self.leader.set(leads.into());
    }

    /// How many tasks live. Set when it is asked for: nobody pays for it at rest.
    pub fn set_tasks(&self, tasks: usize) {
        self.tasks.set(i64::try_from(tasks).unwrap_or(i64::MAX));
    }

    /// What others changed was repaired that long after it was seen.
    pub fn repair_took(&self, time: Duration) {
        self.repair_seconds.observe(time.as_secs_f64());
    }

    /// A new namespace had its last policy that long after it was seen.
    pub fn protection_took(&self, time: Duration) {
        self.protection_seconds.observe(time.as_secs_f64());
    }

    /// A round of comparing took that long.
    pub fn reconcile_took(&self, time: Duration) {
        self.reconcile_seconds.observe(time.as_secs_f64());
    }

    /// A status write took that long.
    pub fn status_write_took(&self, time: Duration) {
        self.status_write_seconds.observe(time.as_secs_f64());
    }

    /// Everything, as OpenMetrics text.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = encode(&mut text, &self.registry);
        text
    }

    /// A page for people: every metric with its labels.
    pub fn table(&self) -> String {
        let line = |Documented { name, kind, labels, help }: &Documented| format!("| `{name}` | {kind} | {labels} | {help} |\n");
        let lines: Vec<String> = self.documented.iter().map(line).collect();
        let values = |((metric, label), values): (&(String, String), &Vec<String>)| {
            format!("| `{metric}` | `{label}` | {} |\n", values.join(", "))
        };
        let values: Vec<String> = self.label_values().iter().map(values).collect();
        [TABLE_HEAD, &lines.concat(), VALUES_HEAD, &values.concat()].concat()
    }

    /// Every value of every label, by metric and label. All series exist from the start, so what is served has them all.
    fn label_values(&self) -> BTreeMap<(String, String), Vec<String>> {
        let mut found: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
        let text = self.text();
        let series = text.lines().filter_map(|line| line.strip_suffix("} 0")?.split_once('{'));
        for (metric, labels) in series {
            for (label, value) in labels.split(',').filter_map(|pair| pair.split_once('=')) {
                let values = found.entry((metric.into(), label.into())).or_default();
                let value = format!("`{}`", value.trim_matches('"'));
                if label != "le" && !values.contains(&value) {
                    values.push(value);
                }
            }
        }
        found.retain(|_, values| !values.is_empty());
        for values in found.values_mut() {
            values.sort_unstable();
        }
        found
    }
}

const TABLE_HEAD: &str = "# Metrics

Served by the admin port at `/metrics`, in OpenMetrics text. Times are in seconds. No label names an object, so the number of series is fixed. A standby
counts namespaces and opt-outs as the leader does, so do not add up over instances: take the one whose `policy_baseline_leader` is 1. Rollouts are told by
the leader only. This page is generated from the code.

| metric | type | labels | what it says |
|---|---|---|---|
";

const VALUES_HEAD: &str = "
## Values of the labels

| metric | label | values |
|---|---|---|
";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testkit::golden;

    #[test]
    fn the_table_of_metrics_is_the_published_one() {
        golden("docs/metrics.md", &Metrics::default().table());
    }

    #[test]
    fn every_series_is_documented_and_every_documented_metric_is_served() {
        let metrics = Metrics::default();
        let text = metrics.text();
        for Documented { name, kind, .. } in &metrics.documented {
            let series = if *kind == "histogram" { format!("{name}_count") } else { name.clone() };
            assert!(text.lines().any(|l| l.starts_with(&series)), "{name} is not served:\n{text}");
        }
        for line in text.lines().filter(|l| !l.starts_with('#')) {
            assert!(metrics.documented.iter().any(|d| line.starts_with(&d.name)), "{line} is not documented");
        }
    }

    #[test]
    fn i11_whatever_is_recorded_adds_no_series() {
        let metrics = Metrics::default();
        let series = |m: &Metrics| m.text().lines().filter(|l| !l.starts_with('#')).count();
        let before = series(&metrics);
        metrics.drift(Class::Missing, Some(Role::DefaultDenyEgress));
        metrics.drift(Class::Stale, None);
        metrics.repair(Outcome::Failed);
        metrics.write(Verb::Apply, WriteOutcome::Failed(Failure::Throttled));
        metrics.watch_restarted(WATCHES[0]);
        metrics.repair_took(Duration::from_millis(3));
        assert_eq!(series(&metrics), before);
        assert!(metrics.text().contains("policy_baseline_drift_total{class=\"Missing\",role=\"DefaultDenyEgress\"} 1"));
    }
}
