//! The items that a list has named so far. When the list is complete, a known item that it did not name no longer exists.

use std::{borrow::Borrow, collections::HashSet, hash::Hash};

/// The items of the list that is being received, or none between two lists.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub struct Listing<T>(Option<HashSet<T>>);

impl<T> Default for Listing<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T: Eq + Hash> Listing<T> {
    /// A list begins. Drops the items of a list that was not completed.
    pub fn begin(&mut self) {
        self.0 = Some(HashSet::new());
    }

    /// Whether a list is being received.
    pub const fn is_under_way(&self) -> bool {
        self.0.is_some()
    }

    /// Records an item. Does nothing when no list is being received.
    pub fn names(&mut self, one: impl FnOnce() -> T) {
        if let Some(named) = &mut self.0 {
            named.insert(one());
        }
    }

    /// An item was deleted while the list was being received: removes it.
    pub fn unnames<Q: Eq + Hash + ?Sized>(&mut self, one: &Q)
    where
        T: Borrow<Q>,
    {
        if let Some(named) = &mut self.0 {
            named.remove(one);
        }
    }

    /// The list is complete. Returns the items that it named; `None` if no list had begun.
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
