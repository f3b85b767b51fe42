//! The labels of a namespace, stored compactly: there are many namespaces, and they share most keys and many values.

use std::{collections::BTreeMap, sync::Arc};

use kube::core::{Selector, SelectorExt};

/// Labels, sorted by key.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Labels(Box<[(Arc<str>, Arc<str>)]>);

impl Labels {
    /// Whether there is a label with this key.
    pub fn contains_key(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// The value of the label with this key.
    pub fn get(&self, key: &str) -> Option<&str> {
        let at = self.0.binary_search_by(|(known, _)| (**known).cmp(key)).ok()?;
        Some(&self.0[at].1)
    }

    /// All labels, sorted by their keys.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> + Clone {
        self.0.iter().map(|(key, value)| (&**key, &**value))
    }

    /// Whether the label selector matches these labels.
    pub fn are_selected_by(&self, selector: &Selector) -> bool {
        selector.selects_all() || selector.matches(&self.to_map())
    }

    /// A copy as a map.
    pub fn to_map(&self) -> BTreeMap<String, String> {
        self.0.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect()
    }
}

impl<K: Into<Arc<str>>, V: Into<Arc<str>>> FromIterator<(K, V)> for Labels {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(labels: I) -> Self {
        let sorted: BTreeMap<Arc<str>, Arc<str>> = labels.into_iter().map(|(key, value)| (key.into(), value.into())).collect();
        Self(sorted.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

    use super::*;

    #[test]
    fn labels_are_selected_as_a_map_of_them_would_be() {
        let labels: Labels = [("tier", "prod"), ("app", "a")].into_iter().collect();
        let selector = |value: &str| {
            let selector =
                LabelSelector { match_labels: Some([("tier".to_owned(), value.to_owned())].into()), ..Default::default() };
            Selector::try_from(selector).unwrap()
        };
        assert!(labels.are_selected_by(&selector("prod")));
        assert!(!labels.are_selected_by(&selector("test")));
        assert!(Labels::default().are_selected_by(&Selector::default()));
        assert!(labels.contains_key("app") && !labels.contains_key("a"));
    }
}
