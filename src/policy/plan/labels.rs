//! The labels of a namespace, stored compactly: there are many namespaces, and they share most keys and many values.

use std::{collections::BTreeMap, sync::Arc};

use kube::core::{Expression, Selector};

/// A label selector. It matches labels without a copy of them, because every assessment of a namespace asks several selectors.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Matcher(Box<[Expression]>);

impl From<Selector> for Matcher {
    fn from(selector: Selector) -> Self {
        Self(selector.into_iter().collect())
    }
}

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
    pub fn are_selected_by(&self, selector: &Matcher) -> bool {
        selector.0.iter().all(|expression| self.meet(expression))
    }

    fn meet(&self, expression: &Expression) -> bool {
        match expression {
            Expression::In(key, values) => self.get(key).is_some_and(|value| values.contains(value)),
            Expression::NotIn(key, values) => self.get(key).is_none_or(|value| !values.contains(value)),
            Expression::Equal(key, value) => self.get(key) == Some(value),
            Expression::NotEqual(key, value) => self.get(key) != Some(value),
            Expression::Exists(key) => self.contains_key(key),
            Expression::DoesNotExist(key) => !self.contains_key(key),
        }
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
    use kube::core::SelectorExt;

    use super::*;

    #[test]
    fn labels_are_selected_as_a_map_of_them_would_be() {
        let all: [Labels; 4] = [vec![], vec![("tier", "prod")], vec![("tier", "test"), ("app", "a")], vec![("app", "b")]]
            .map(|labels| labels.into_iter().collect());
        let (key, text, values) = (|| "tier".to_owned(), || "prod".to_owned(), || ["prod".to_owned(), "dev".to_owned()].into());
        let expressions = [
            Expression::In(key(), values()),
            Expression::NotIn(key(), values()),
            Expression::Equal(key(), text()),
            Expression::NotEqual(key(), text()),
            Expression::Exists(key()),
            Expression::DoesNotExist(key()),
        ];
        let app = Expression::Exists("app".to_owned());
        let selectors = expressions.iter().flat_map(|e| [vec![e.clone()], vec![e.clone(), app.clone()]]).chain([vec![]]);
        for selector in selectors.map(Selector::from_iter) {
            let found = all.each_ref().map(|labels| labels.are_selected_by(&selector.clone().into()));
            assert_eq!(found, all.each_ref().map(|labels| selector.matches(&labels.to_map())), "{selector}");
        }
    }
}
