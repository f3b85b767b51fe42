//! What a list names until it is complete: what is known and was not named by then is gone.

use std::{borrow::Borrow, collections::HashSet, hash::Hash};

/// A list that is being taken, or none.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub struct Listing<T>(Option<HashSet<T>>);

impl<T> Default for Listing<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T: Eq + Hash> Listing<T> {
    /// A list begins.
    pub fn begin(&mut self) {
        self.0 = Some(HashSet::new());
    }

    /// Whether one is being taken.
    pub const fn is_under_way(&self) -> bool {
        self.0.is_some()
    }

    /// Something was seen. Outside of a list that says nothing of the rest.
    pub fn names(&mut self, one: impl FnOnce() -> T) {
        if let Some(named) = &mut self.0 {
            named.insert(one());
        }
    }

    /// Something that was named is gone already.
    pub fn unnames<Q: Eq + Hash + ?Sized>(&mut self, one: &Q)
    where
        T: Borrow<Q>,
    {
        if let Some(named) = &mut self.0 {
            named.remove(one);
        }
    }

    /// The list is complete. Returns what it named; nothing if none had begun.
    pub fn end(&mut self) -> Option<HashSet<T>> {
        self.0.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_knows_what_it_named_between_its_beginning_and_its_end() {
        let mut listing = Listing::default();
        listing.names(|| "before");
        assert!(!listing.is_under_way() && listing.end().is_none());
        listing.begin();
        listing.names(|| "a");
        assert!(listing.is_under_way());
        listing.begin();
        listing.names(|| "b");
        listing.names(|| "c");
        listing.unnames("c");
        assert_eq!(listing.end(), Some(HashSet::from(["b"])), "one that begins anew has named nothing yet");
        assert!(listing.end().is_none());
    }
}
