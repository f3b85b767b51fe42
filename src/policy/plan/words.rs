//! The effective selector as a sentence, so that the user notices a typo that selects everything.
use crate::api::selector::{Operator, Selector};

/// At most this many exclusions are listed; the rest are counted. Otherwise the status would grow with the spec.
const MAX_LISTED: usize = 12;

/// Selector and exclusions as one sentence.
pub fn effective_selector(selector: &Selector, exclude: &[String]) -> String {
    let mut parts: Vec<String> = selector.match_labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
    parts.extend(selector.match_expressions.iter().map(|r| {
        let values = r.values.join(", ");
        match r.operator {
            Operator::In => format!("{} in ({values})", r.key),
            Operator::NotIn => format!("{} not in ({values})", r.key),
            Operator::Exists => format!("{} present", r.key),
            Operator::DoesNotExist => format!("{} absent", r.key),
        }
    }));
    let mut words =
        if parts.is_empty() { "every namespace".to_owned() } else { format!("namespaces with {}", parts.join(" and ")) };
    if !exclude.is_empty() {
        words.push_str(" except ");
        words.push_str(&exclude[..exclude.len().min(MAX_LISTED)].join(", "));
        if exclude.len() > MAX_LISTED {
            words.push_str(" and ");
            words.push_str(&(exclude.len() - MAX_LISTED).to_string());
            words.push_str(" more");
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_selector_is_told_in_words() {
        let none = Selector::default();
        assert_eq!(effective_selector(&none, &[]), "every namespace");
        assert_eq!(effective_selector(&none, &["kube-system".into(), "x-*".into()]), "every namespace except kube-system, x-*");
        let some: Selector = serde_json::from_value(serde_json::json!({
            "matchLabels": {"tier": "prod"},
            "matchExpressions": [{"key": "team", "operator": "In", "values": ["a", "b"]}, {"key": "sandbox", "operator": "DoesNotExist"}],
        }))
        .unwrap();
        assert_eq!(effective_selector(&some, &[]), "namespaces with tier=prod and team in (a, b) and sandbox absent");
    }

    #[test]
    fn many_exclusions_are_counted() {
        let many: Vec<String> = (0..500).map(|i| format!("n{i}")).collect();
        assert!(effective_selector(&Selector::default(), &many).ends_with(" and 488 more"));
    }
}
