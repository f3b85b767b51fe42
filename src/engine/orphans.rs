//! Counts the policies that carry the operator's labels although no baseline plans them and their baseline does not exist. Nobody repairs or
//! removes them: `list-managed --orphans` lists them, and `uninstall --orphans` removes them.

use std::collections::HashMap;

use crate::api::NamespaceName;

/// How many there are, by namespace.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
pub struct OrphanCounts {
    /// Only namespaces that have any.
    namespaces: HashMap<NamespaceName, u32>,
    total: u32,
}

impl OrphanCounts {
    /// Sets the number in one namespace.
    pub fn set(&mut self, ns: &NamespaceName, count: u32) {
        let before = match count {
            0 => self.namespaces.remove(ns),
            count => self.namespaces.insert(ns.clone(), count),
        };
        self.total = self.total - before.unwrap_or(0) + count;
    }

    /// The number in the whole cluster.
    pub const fn total(&self) -> u32 {
        self.total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_follows_each_namespace() {
        let mut orphans = OrphanCounts::default();
        let [a, b] = ["a", "b"].map(NamespaceName::observed);
        for (ns, count, total) in [(&a, 0, 0), (&a, 2, 2), (&b, 1, 3), (&a, 1, 2), (&a, 1, 2), (&b, 0, 1), (&b, 0, 1), (&a, 0, 0)]
        {
            orphans.set(ns, count);
            assert_eq!(orphans.total(), total);
        }
        assert!(orphans.namespaces.is_empty());
    }
}
