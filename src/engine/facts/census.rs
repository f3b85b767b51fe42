//! The count of the labels of all namespaces. Policies that select namespaces by labels are judged by it. It is taken anew only after many
//! changes. So one namespace more changes no verdict, and few changes cost nothing.

use crate::policy::netpol::Census;

/// The last count. Without a policy that names namespaces there is none.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
pub struct NamespaceCensus {
    counted: Census,
    /// A policy that names namespaces was seen.
    needed: bool,
    /// It was taken for these policies.
    taken: bool,
    /// How many namespaces there were.
    namespaces: usize,
    /// How many times a namespace came, went or changed since.
    changes: usize,
}

/// It is taken anew when there are more or fewer namespaces by more than one in so many.
const SHARE_OF_CHANGES: usize = 8;
/// One or two namespaces more or less change no verdict, also where there are few.
const FEWEST_CHANGES: usize = 2;

impl NamespaceCensus {
    /// The last count; an empty one if nothing needs it.
    pub const fn counted(&self) -> &Census {
        &self.counted
    }

    /// A namespace came, went or changed.
    pub const fn namespace_changed(&mut self) {
        self.changes += 1;
    }

    /// A policy that names namespaces was seen.
    pub const fn policy_seen(&mut self) {
        self.needed = true;
    }

    /// Whether it must be taken anew. `namespaces`: how many there are now. Many changes count too: their number may be the same, and their
    /// labels others.
    pub fn is_due(&self, namespaces: usize) -> bool {
        let has_grown = namespaces.abs_diff(self.namespaces) > (self.namespaces / SHARE_OF_CHANGES).max(FEWEST_CHANGES);
        self.needed && (!self.taken || has_grown || self.changes > self.namespaces)
    }

    /// Stores a new count. Returns whether it differs from the last one.
    pub fn took(&mut self, counted: Census, namespaces: usize) -> bool {
        let is_news = counted != self.counted;
        *self = Self { counted, needed: true, taken: true, namespaces, changes: 0 };
        is_news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_namespaces_more_or_less_are_no_reason_to_count_again() {
        for (counted, now, is_due) in [
            (4, 4, false),
            (4, 5, false),
            (4, 2, false),
            (4, 7, true),
            (4, 1, true),
            (7, 9, false),
            (7, 10, true),
            (40, 45, false),
            (40, 46, true),
            (40, 34, true),
        ] {
            let mut census = NamespaceCensus::default();
            assert!(!census.is_due(counted), "nothing needs it");
            census.policy_seen();
            assert!(census.is_due(counted), "it was never taken");
            census.took(Census::default(), counted);
            assert_eq!(census.is_due(now), is_due, "{counted}, then {now}");
        }
    }
}
