//! A state without its age. Only the order of versions and uids counts, so states that differ in nothing else are the same.

use std::hash::{DefaultHasher, Hash, Hasher};

use crate::api::Uid;

#[derive(Clone, Copy, Debug)]
enum Item {
    Word(u64),
    Number(u64),
}

/// The recorded parts of a state.
#[derive(Debug, Default)]
pub struct StateKey(Vec<Item>);

impl StateKey {
    pub fn word(&mut self, word: &impl Hash) {
        let mut hasher = DefaultHasher::new();
        word.hash(&mut hasher);
        self.0.push(Item::Word(hasher.finish()));
    }

    /// A version or a uid.
    pub fn number(&mut self, number: u64) {
        self.0.push(Item::Number(number));
    }

    /// A uid of an object in the model, which is a number.
    pub fn uid(&mut self, uid: Option<&Uid>) {
        self.number(uid.map_or(0, |uid| uid.to_string().parse().unwrap()));
    }
}

impl StateKey {
    /// The recorded parts, with every number replaced by its rank.
    pub fn ageless(self) -> Vec<u64> {
        let number = |item: &Item| match item {
            Item::Number(number) => Some(*number),
            Item::Word(_) => None,
        };
        let mut numbers: Vec<u64> = self.0.iter().filter_map(number).chain([0]).collect();
        numbers.sort_unstable();
        numbers.dedup();
        let rank = |item: &Item| match item {
            Item::Word(word) => *word,
            Item::Number(number) => numbers.binary_search(number).unwrap() as u64,
        };
        self.0.iter().map(rank).collect()
    }
}
