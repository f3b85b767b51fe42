//! Label selectors with numbers instead of texts, so that each key and each value is compared as one number.

use std::collections::{BTreeMap, HashMap};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

/// The numbers of texts.
#[derive(Debug, Default)]
pub struct Symbols<'a>(HashMap<&'a str, u32>);

impl<'a> Symbols<'a> {
    /// The number of a text, always the same one.
    pub fn of(&mut self, text: &'a str) -> u32 {
        let next = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        *self.0.entry(text).or_insert(next)
    }
}

/// The labels of an object: the numbers of key and value, sorted by key.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct LabelNumbers(Vec<(u32, u32)>);

impl LabelNumbers {
    /// The numbers of these labels, with one more label unless its key is there.
    pub fn of<'a>(labels: &'a BTreeMap<String, String>, more: Option<(&'a str, &'a str)>, symbols: &mut Symbols<'a>) -> Self {
        let more = more.filter(|(key, _)| !labels.contains_key(*key));
        let all = labels.iter().map(|(key, value)| (&**key, &**value)).chain(more);
        let mut numbers: Vec<_> = all.map(|(key, value)| (symbols.of(key), symbols.of(value))).collect();
        numbers.sort_unstable();
        Self(numbers)
    }

    fn get(&self, key: u32) -> Option<u32> {
        let found = self.0.binary_search_by_key(&key, |(key, _)| *key).ok()?;
        self.0.get(found).map(|(_, value)| *value)
    }
}

/// What one label must be.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
enum LabelTest {
    In(u32, Vec<u32>),
    NotIn(u32, Vec<u32>),
    Exists(u32),
    Absent(u32),
    /// The API server takes no such operator.
    Never,
}

impl LabelTest {
    fn holds(&self, labels: &LabelNumbers) -> bool {
        match self {
            Self::In(key, values) => labels.get(*key).is_some_and(|value| values.contains(&value)),
            Self::NotIn(key, values) => labels.get(*key).is_none_or(|value| !values.contains(&value)),
            Self::Exists(key) => labels.get(*key).is_some(),
            Self::Absent(key) => labels.get(*key).is_none(),
            Self::Never => false,
        }
    }
}

/// A label selector. All its tests must hold; without tests it selects everything.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct LabelTests(Vec<LabelTest>);

impl LabelTests {
    /// Reads a selector. An operator that Kubernetes does not have selects nothing.
    pub fn of<'a>(selector: &'a LabelSelector, symbols: &mut Symbols<'a>) -> Self {
        let mut tests = Vec::new();
        for (key, value) in selector.match_labels.iter().flatten() {
            tests.push(LabelTest::In(symbols.of(key), vec![symbols.of(value)]));
        }
        for requirement in selector.match_expressions.iter().flatten() {
            let key = symbols.of(&requirement.key);
            let values = requirement.values.iter().flatten().map(|value| symbols.of(value)).collect();
            tests.push(match &*requirement.operator {
                "In" => LabelTest::In(key, values),
                "NotIn" => LabelTest::NotIn(key, values),
                "Exists" => LabelTest::Exists(key),
                "DoesNotExist" => LabelTest::Absent(key),
                _ => LabelTest::Never,
            });
        }
        Self(tests)
    }

    /// Whether it selects an object with these labels.
    pub fn select(&self, labels: &LabelNumbers) -> bool {
        self.0.iter().all(|test| test.holds(labels))
    }
}
