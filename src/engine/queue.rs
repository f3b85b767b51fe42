//! A queue of namespaces with two priorities. Each namespace is in it at most once.

use std::collections::{HashMap, VecDeque};

use crate::api::NamespaceName;

/// Namespaces that wait, the urgent ones first.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
pub struct Queue {
    urgent: VecDeque<NamespaceName>,
    normal: VecDeque<NamespaceName>,
    /// Each waiting namespace, and whether it is urgent.
    members: HashMap<NamespaceName, bool>,
}

impl Queue {
    /// Adds a namespace, or makes a waiting one urgent.
    pub fn push(&mut self, ns: NamespaceName, urgent: bool) {
        match self.members.get_mut(&ns) {
            // It is also pushed to `urgent` and taken from there; `pop` later skips its old entry in `normal`.
            Some(was_urgent) if urgent && !*was_urgent => *was_urgent = true,
            Some(_) => return,
            None => drop(self.members.insert(ns.clone(), urgent)),
        }
        if urgent { &mut self.urgent } else { &mut self.normal }.push_back(ns);
    }

    /// Takes the next namespace, an urgent one first.
    pub fn pop(&mut self) -> Option<NamespaceName> {
        loop {
            let ns = self.urgent.pop_front().or_else(|| self.normal.pop_front())?;
            if self.members.remove(&ns).is_some() {
                if self.members.is_empty() {
                    // The memory that a burst of events needed is freed.
                    *self = Self::default();
                }
                return Some(ns);
            }
        }
    }

    /// Whether no namespace waits.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_queue_serves_what_is_urgent_first_and_each_namespace_once() {
        let ns = NamespaceName::observed;
        let mut queue = Queue::default();
        for (name, urgent) in [("a", false), ("b", false), ("c", true), ("b", true), ("b", true), ("c", false)] {
            queue.push(ns(name), urgent);
        }
        assert_eq!(queue.urgent.len() + queue.normal.len(), 4, "a storm of events leaves no copies");
        let served: Vec<_> = std::iter::from_fn(|| queue.pop()).collect();
        assert_eq!(served, [ns("c"), ns("b"), ns("a")]);
        assert!(queue.is_empty());
    }

    #[test]
    fn a_queue_that_was_served_keeps_no_room() {
        let mut queue = Queue::default();
        (0..1000).for_each(|n| queue.push(NamespaceName::observed(&n.to_string()), n % 2 == 0));
        while queue.pop().is_some() {}
        assert_eq!(queue.urgent.capacity() + queue.normal.capacity() + queue.members.capacity(), 0);
    }
}
