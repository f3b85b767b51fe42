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
use crate::api::reason::ConditionType;

/// At most this many baselines have gauges.
const MAX_BASELINES: usize = 100;

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub struct ConditionLabels {
    baseline: String,
    r#type: Word,
    status: Word,
}

/// The conditions of a baseline, in the order of `ConditionType::VARIANTS`. `None` if the condition is absent.
type ShownStates = [Option<bool>; ConditionType::VARIANTS.len()];

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
    dropped: Counter,
    shown: Mutex<ShownConditions>,
}

impl ConditionGauges {
    /// The gauges, to register them.
    pub fn gauges(&self) -> Family<ConditionLabels, Gauge> {
        self.gauges.clone()
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
        for (place, kind) in ConditionType::VARIANTS.iter().enumerate() {
            if before[place] == now[place] {
                continue;
            }
            for (status, word) in [(true, "true"), (false, "false")] {
                let labels = ConditionLabels { baseline: baseline.into(), r#type: Word(kind.into_str()), status: Word(word) };
                if let Some(is) = now[place] {
                    self.gauges.get_or_create(&labels).set((is == status).into());
                } else {
                    self.gauges.remove(&labels);
                }
            }
        }
    }
}

/// The state of each known condition. Types that this version does not know are ignored.
fn said_by(conditions: &[Condition]) -> ShownStates {
    let mut said = ShownStates::default();
    for condition in conditions {
        if let Some(place) = ConditionType::VARIANTS.iter().position(|kind| kind.into_str() == condition.type_) {
            said[place] = Some(condition.status == "True");
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
