//! The conditions of baselines as gauges, for at most 100 baselines, no matter how many the cluster has (I11).

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
};
use strum::VariantArray;

use super::prometheus_text::Word;
use crate::api::reason::{ConditionType, state};

/// At most this many baselines have gauges.
const MAX_BASELINES: usize = 100;

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub struct ConditionLabels {
    baseline: String,
    r#type: Word,
    status: Word,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub struct ReadyLabels {
    baseline: String,
    reason: Word,
}

/// The status of a condition. `None` if it is unknown.
type ShownStatus = Option<bool>;

/// The conditions of a baseline, in the order of `ConditionType::VARIANTS`. `None` if the condition is absent.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct ShownStates {
    conditions: [Option<ShownStatus>; ConditionType::VARIANTS.len()],
    /// The reason of Ready.
    ready: Option<&'static str>,
}

/// The baselines that have gauges, with the values shown, and the baselines beyond the limit.
#[derive(Debug, Default)]
struct ShownConditions {
    shown: BTreeMap<Arc<str>, ShownStates>,
    dropped: BTreeSet<Arc<str>>,
}

/// One gauge for each condition of a baseline and each of its possible statuses.
#[derive(Debug, Default)]
pub struct ConditionGauges {
    gauges: Family<ConditionLabels, Gauge>,
    ready: Family<ReadyLabels, Gauge>,
    dropped: Counter,
    shown: Mutex<ShownConditions>,
}

impl ConditionGauges {
    /// The gauges, to register them.
    pub fn gauges(&self) -> Family<ConditionLabels, Gauge> {
        self.gauges.clone()
    }

    /// The gauges of the reasons of Ready, to register them.
    pub fn ready(&self) -> Family<ReadyLabels, Gauge> {
        self.ready.clone()
    }

    /// The counter of baselines that got no gauges, to register it.
    pub fn dropped(&self) -> Counter {
        self.dropped.clone()
    }

    /// Sets the conditions of all baselines, and removes the series of baselines that are not in the list. A baseline with series
    /// keeps them; a new baseline gets series only while fewer than 100 baselines have them.
    pub fn set<'a>(&self, baselines: impl Iterator<Item = (&'a Arc<str>, &'a [Condition])> + Clone) {
        let mut known = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let ShownConditions { shown, dropped } = &mut *known;
        let names: BTreeSet<&Arc<str>> = baselines.clone().map(|(name, _)| name).collect();
        shown.retain(|name, before| {
            let stays = names.contains(name);
            if !stays {
                self.show(name, before, &ShownStates::default());
            }
            stays
        });
        dropped.retain(|name| names.contains(name));
        for (name, conditions) in baselines {
            if !shown.contains_key(name) {
                if shown.len() == MAX_BASELINES {
                    if dropped.insert(name.clone()) {
                        self.dropped.inc();
                    }
                    continue;
                }
                dropped.remove(name);
                shown.insert(name.clone(), ShownStates::default());
            }
            let now = said_by(conditions);
            if let Some(before) = shown.get_mut(name).filter(|before| **before != now) {
                self.show(name, before, &now);
                *before = now;
            }
        }
    }

    fn show(&self, baseline: &str, before: &ShownStates, now: &ShownStates) {
        let labels = |reason| ReadyLabels { baseline: baseline.into(), reason: Word(reason) };
        if before.ready != now.ready {
            before.ready.map(|reason| self.ready.remove(&labels(reason)));
            now.ready.map(|reason| self.ready.get_or_create(&labels(reason)).set(1));
        }
        for (place, kind) in ConditionType::VARIANTS.iter().enumerate() {
            if before.conditions[place] == now.conditions[place] {
                continue;
            }
            for (status, word) in [(true, "true"), (false, "false")] {
                let labels = ConditionLabels { baseline: baseline.into(), r#type: Word(kind.into_str()), status: Word(word) };
                if let Some(is) = now.conditions[place] {
                    self.gauges.get_or_create(&labels).set((is == Some(status)).into());
                } else {
                    self.gauges.remove(&labels);
                }
            }
        }
    }
}

/// The label of a reason that an invalid spec has.
const INVALID_SPEC: &str = "InvalidSpec";

/// The state of each known condition. Types that this version does not know are ignored.
fn said_by(conditions: &[Condition]) -> ShownStates {
    let mut said = ShownStates::default();
    for condition in conditions {
        if let Some(place) = ConditionType::VARIANTS.iter().position(|kind| kind.into_str() == condition.type_) {
            said.conditions[place] = Some(match &*condition.status {
                "True" => Some(true),
                "False" => Some(false),
                _ => None,
            });
        }
        if condition.type_ == ConditionType::Ready.into_str() {
            let known = state::OF_READY.into_iter().find(|reason| *reason == condition.reason);
            said.ready = Some(known.unwrap_or(INVALID_SPEC));
        }
    }
    said
}

#[cfg(test)]
pub(super) mod tests {
    use prometheus_client::{encoding::text::encode, registry::Registry};

    use super::*;

    /// A condition for tests.
    pub fn condition(kind: &str, status: &str) -> Condition {
        serde_json::from_value(serde_json::json!({
            "type": kind, "status": status, "reason": "R", "message": "m", "lastTransitionTime": "2026-01-01T00:00:00Z"
        }))
        .unwrap()
    }

    fn text(metrics: &ConditionGauges) -> String {
        let mut registry = Registry::default();
        registry.register("condition", "help", metrics.gauges());
        registry.register("ready", "help", metrics.ready());
        registry.register("dropped", "help", metrics.dropped());
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        text
    }

    /// The series of the conditions, without the name of the metric.
    fn conditions(metrics: &ConditionGauges) -> Vec<String> {
        let text = text(metrics);
        let mut lines: Vec<String> = text.lines().filter_map(|line| line.strip_prefix("condition{")).map(Into::into).collect();
        lines.sort_unstable();
        lines
    }

    #[test]
    fn the_conditions_of_a_baseline_are_there_while_the_baseline_has_them() {
        let metrics = ConditionGauges::default();
        let (a, b) = ("a".into(), "b".into());
        let suspended = [condition("Ready", "False"), condition("Suspended", "True"), condition("Later", "True")];
        metrics.set([(&a, &suspended[..]), (&b, &suspended[..1])].into_iter());
        assert_eq!(
            conditions(&metrics),
            [
                r#"baseline="a",type="ready",status="false"} 1"#,
                r#"baseline="a",type="ready",status="true"} 0"#,
                r#"baseline="a",type="suspended",status="false"} 0"#,
                r#"baseline="a",type="suspended",status="true"} 1"#,
                r#"baseline="b",type="ready",status="false"} 1"#,
                r#"baseline="b",type="ready",status="true"} 0"#,
            ]
        );
        metrics.set([(&a, &[condition("Ready", "True")][..])].into_iter());
        assert_eq!(
            conditions(&metrics),
            [r#"baseline="a",type="ready",status="false"} 0"#, r#"baseline="a",type="ready",status="true"} 1"#]
        );
    }

    #[test]
    fn the_reason_of_ready_has_one_series_for_each_baseline_and_an_unknown_status_is_neither_true_nor_false() {
        let metrics = ConditionGauges::default();
        let name = "a".into();
        let told = |status: &str, reason: &str| {
            let condition = Condition { reason: reason.into(), ..condition("Ready", status) };
            metrics.set([(&name, &[condition][..])].into_iter());
            let text = text(&metrics);
            let ready: Vec<String> = text.lines().filter_map(|line| line.strip_prefix("ready{")).map(Into::into).collect();
            (ready.join(" "), conditions(&metrics).iter().filter(|line| line.ends_with(" 1")).count())
        };
        assert_eq!(told("True", "NothingSelected"), (r#"baseline="a",reason="nothing_selected"} 1"#.into(), 1));
        assert_eq!(told("Unknown", "WatchFailing"), (r#"baseline="a",reason="watch_failing"} 1"#.into(), 0));
        assert_eq!(told("False", "InvalidCidr"), (r#"baseline="a",reason="invalid_spec"} 1"#.into(), 1));
        metrics.set(std::iter::empty());
        assert!(!text(&metrics).contains("baseline="));
    }

    #[test]
    fn i11_no_label_names_an_object_but_at_most_a_hundred_baselines() {
        let metrics = ConditionGauges::default();
        let ready = [condition("Ready", "True")];
        let names: Vec<Arc<str>> = (0..150).map(|i| format!("b{i:03}").into()).collect();
        let set = |names: &[Arc<str>]| metrics.set(names.iter().map(|name| (name, &ready[..])));
        let dropped = || {
            let text = text(&metrics);
            let line = text.lines().find_map(|l| l.strip_prefix("dropped_total "));
            line.unwrap().to_owned()
        };
        set(&names[50..]);
        assert_eq!((conditions(&metrics).len(), dropped()), (200, "0".into()));
        set(&names);
        set(&names);
        assert_eq!((conditions(&metrics).len(), dropped()), (200, "50".into()), "each is counted once");
        assert!(conditions(&metrics)[0].starts_with(r#"baseline="b050""#), "who has series keeps them");
        // When baselines are removed, others get their place.
        set(&names[..60]);
        assert_eq!((conditions(&metrics).len(), dropped()), (120, "50".into()));
    }
}
