//! How many namespaces have which labels: to find out whether a selector that names labels selects almost every namespace.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
};

use super::{coverage::Required, union::Union};

/// The label by which the API server names each namespace.
pub const NAME_LABEL: &str = "kubernetes.io/metadata.name";
/// Nobody can run pods there, so they do not count.
const WITHOUT_PODS: [&str; 2] = ["kube-public", "kube-node-lease"];
/// In a cluster with fewer namespaces, a selector of a few names would select most of them.
const FEWEST: u32 = 4;

/// A label key or value, as a number. A collision makes a selector look wider than it is, and no narrower.
pub fn hash(text: &str) -> u32 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    u32::try_from(hasher.finish() >> 32).unwrap_or_default()
}

/// The labels that almost every namespace has, and how many namespaces have which value. It is taken at one time, for all namespaces.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Census {
    /// How many namespaces count.
    namespaces: u32,
    /// By the hash of the key.
    keys: Vec<(u32, Values)>,
}

#[derive(Clone, Debug, Eq, PartialEq)]
struct Values {
    /// The hash of each value, with the number of namespaces that have it or a value before it. Sorted.
    up_to: Box<[(u32, u32)]>,
}

impl Values {
    /// How many namespaces have the label.
    fn all(&self) -> u32 {
        self.up_to.last().map_or(0, |(_, namespaces)| *namespaces)
    }

    /// The places of the namespaces that have this value.
    fn places(&self, value: u32) -> Option<(u32, u32)> {
        let at = self.up_to.binary_search_by_key(&value, |(value, _)| *value).ok()?;
        let first = at.checked_sub(1).map_or(0, |before| self.up_to[before].1);
        Some((first, self.up_to[at].1 - 1))
    }
}

/// What a selector requires of one label of a namespace.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct LabelRequirement {
    /// The hash of the key.
    pub key: u32,
    /// The hashes of the values, sorted; `None`: any value.
    pub values: Option<Box<[u32]>>,
}

/// How many of so many namespaces a selector may leave out, and still select almost every one: a tenth, but at least one.
const fn tolerance(namespaces: u32) -> u32 {
    let tenth = namespaces / 10;
    if tenth == 0 { 1 } else { tenth }
}

impl Census {
    /// Counts the labels of namespaces, given by their names and labels.
    pub fn of<'a, L>(namespaces: &(impl Iterator<Item = (&'a str, L)> + Clone)) -> Self
    where
        L: IntoIterator<Item = (&'a str, &'a str)>,
    {
        let counting = || namespaces.clone().filter(|(name, _)| !WITHOUT_PODS.contains(name));
        let mut with: HashMap<u32, u32> = HashMap::new();
        let mut count = 0;
        for (_, labels) in counting() {
            count += 1;
            labels.into_iter().for_each(|(key, _)| *with.entry(hash(key)).or_default() += 1);
        }
        if count < FEWEST {
            return Self::default();
        }
        let mut common: Vec<(u32, Vec<u32>)> =
            with.into_iter().filter(|(_, with)| with + tolerance(count) >= count).map(|(key, _)| (key, vec![])).collect();
        common.sort_unstable_by_key(|(key, _)| *key);
        for (_, labels) in counting() {
            for (key, value) in labels {
                if let Ok(at) = common.binary_search_by_key(&hash(key), |(key, _)| *key) {
                    common[at].1.push(hash(value));
                }
            }
        }
        Self { namespaces: count, keys: common.into_iter().map(|(key, values)| (key, Self::values(values))).collect() }
    }

    fn values(mut values: Vec<u32>) -> Values {
        values.sort_unstable();
        let mut up_to: Vec<(u32, u32)> = Vec::new();
        for (value, number) in values.into_iter().zip(1..) {
            match up_to.last_mut() {
                Some((last, namespaces)) if *last == value => *namespaces = number,
                _ => up_to.push((value, number)),
            }
        }
        Values { up_to: up_to.into() }
    }

    /// The places of the namespaces that meet a requirement. Each common key has places of its own.
    pub fn places(&self, requirement: &LabelRequirement) -> Union {
        let Some((start, values)) = self.common(requirement.key) else { return Union::default() };
        let place = |(first, last): (u32, u32)| (start + u128::from(first), start + u128::from(last));
        let places = match &requirement.values {
            None => values.all().checked_sub(1).map(|last| place((0, last))).into_iter().collect(),
            Some(some) => some.iter().filter_map(|value| values.places(*value)).map(place).collect(),
        };
        Union::of(places)
    }

    /// How many namespaces meet a requirement. A value that the list has twice counts twice.
    pub fn count(&self, requirement: &LabelRequirement) -> u128 {
        let Some((_, values)) = self.common(requirement.key) else { return 0 };
        match &requirement.values {
            None => values.all().into(),
            Some(some) => {
                let counted = some.iter().filter_map(|value| values.places(*value));
                counted.map(|(first, last)| u128::from(last - first) + 1).sum()
            }
        }
    }

    /// Whether there is a label that almost every namespace has. Otherwise, no selector of labels selects almost every namespace.
    pub const fn has_common_labels(&self) -> bool {
        !self.keys.is_empty()
    }

    /// Whether almost every namespace meets all of these requirements, as far as their numbers show it.
    pub fn meets_all(&self, requirements: &[LabelRequirement]) -> bool {
        let left_out =
            |requirement: &LabelRequirement| u128::from(self.namespaces).saturating_sub(self.places(requirement).size());
        self.namespaces > 0 && requirements.iter().map(left_out).sum::<u128>() <= u128::from(tolerance(self.namespaces))
    }

    /// For each common key: the places that are almost every namespace.
    pub fn required(&self) -> Vec<Required> {
        let required = |(key, values): &(u32, Values)| {
            let (start, _) = self.common(*key)?;
            let all = Union::of(vec![(start, start + u128::from(values.all()) - 1)]);
            let without = self.namespaces.saturating_sub(values.all());
            Some(Required::most_of(all, u128::from(tolerance(self.namespaces).saturating_sub(without))))
        };
        self.keys.iter().filter_map(required).collect()
    }

    fn common(&self, key: u32) -> Option<(u128, &Values)> {
        let at = self.keys.binary_search_by_key(&key, |(key, _)| *key).ok()?;
        Some(((at as u128) << 32, &self.keys[at].1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Namespaces with their names as labels. The first `labelled` of them have a further label.
    fn census(names: &[String], labelled: usize) -> Census {
        let labels = |(at, name): (usize, &String)| {
            let env = (at < labelled).then_some(("env", "prod"));
            (name.clone(), env)
        };
        let all: Vec<(String, Option<(&str, &str)>)> = names.iter().enumerate().map(labels).collect();
        Census::of(&all.iter().map(|(name, env)| (&**name, [(NAME_LABEL, &**name)].into_iter().chain(*env))))
    }

    fn names(count: usize) -> Vec<String> {
        (0..count).map(|n| format!("n{n}")).collect()
    }

    fn some(key: &str, values: &[String]) -> LabelRequirement {
        let mut values: Vec<u32> = values.iter().map(|value| hash(value)).collect();
        values.sort_unstable();
        LabelRequirement { key: hash(key), values: Some(values.into()) }
    }

    #[test]
    fn almost_every_namespace_is_all_but_a_tenth_and_all_but_one_of_a_few() {
        for (namespaces, named, is_almost_every) in
            [(4, 3, true), (4, 2, false), (9, 8, true), (9, 7, false), (50, 45, true), (50, 44, false), (3, 3, false)]
        {
            let all = names(namespaces);
            let census = census(&all, 0);
            let requirement = some(NAME_LABEL, &all[..named]);
            assert_eq!(census.meets_all(std::slice::from_ref(&requirement)), is_almost_every, "{named} of {namespaces}");
            let enough =
                census.required().first().is_some_and(|required| census.places(&requirement).size() >= required.enough());
            assert_eq!(enough, is_almost_every, "{named} of {namespaces}");
        }
        let mut all = names(8);
        all.extend(WITHOUT_PODS.map(Into::into));
        assert!(census(&all, 0).meets_all(&[some(NAME_LABEL, &names(7))]), "nobody runs pods in the others");
    }

    #[test]
    fn names_that_no_namespace_has_count_for_nothing() {
        let made_up: Vec<String> = (0..100).map(|n| format!("x{n}")).collect();
        assert!(!census(&names(20), 0).meets_all(&[some(NAME_LABEL, &[&names(10)[..], &made_up].concat())]));
    }

    #[test]
    fn a_label_counts_by_the_number_of_namespaces_that_have_it() {
        let prod = || some("env", &["prod".to_owned()]);
        assert!(census(&names(20), 18).meets_all(&[prod()]));
        assert!(!census(&names(20), 17).meets_all(&[prod()]));
        assert!(census(&names(20), 20).meets_all(&[prod(), LabelRequirement { key: hash("env"), values: None }]));
        // One more is left out by each requirement.
        let both = [prod(), some(NAME_LABEL, &names(19))];
        assert!(census(&names(20), 19).meets_all(&both) && !census(&names(20), 18).meets_all(&both));
        assert!(!Census::default().meets_all(&[prod()]));
    }
}
