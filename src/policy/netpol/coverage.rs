//! Which rules together contain all addresses that count, while rules are switched on and off.

use super::union::Union;

/// The addresses that must all be open, and how many of them may be left out: an exception for a few addresses closes nothing.
#[derive(Debug)]
pub struct Required {
    addresses: Union,
    tolerance: u128,
}

impl Required {
    /// All of these but `tolerance` of them.
    pub const fn most_of(addresses: Union, tolerance: u128) -> Self {
        Self { addresses, tolerance }
    }

    /// How many of these must be open.
    pub fn enough(&self) -> u128 {
        self.addresses.size().saturating_sub(self.tolerance)
    }

    /// What of `open` is among these.
    pub fn part(&self, open: &Union) -> Union {
        self.addresses.without(&self.addresses.without(open))
    }

    /// Every IPv4 address that a peer can have: all but "this network", loopback, link-local, multicast and reserved ones. A rule may leave
    /// out less than a /8. The private networks together are larger, so the internet without them is not every address.
    pub fn every_ipv4() -> Self {
        let no_peer = [(0, 0x00ff_ffff), (0x7f00_0000, 0x7fff_ffff), (0xa9fe_0000, 0xa9fe_ffff), (0xe000_0000, 0xffff_ffff)];
        let all = Union::of(vec![(0, u32::MAX.into())]);
        Self { addresses: all.without(&Union::of(no_peer.to_vec())), tolerance: (1 << 24) - 1 }
    }

    /// Every global unicast IPv6 address (2000::/3). No other address but a unique local one (fc00::/7) is assigned to peers, and pods of
    /// many clusters have global ones. A rule may leave out less than a /8.
    pub fn every_ipv6() -> Self {
        Self { addresses: Union::of(vec![(0x2 << 124, (0x4 << 124) - 1)]), tolerance: (1 << 120) - 1 }
    }

    /// The addresses of most clusters' pods: all private IPv4 networks (RFC 1918), and the shared address space (RFC 6598). A rule may
    /// leave out less than a /16, because the smallest of these networks is that large.
    pub fn private_ipv4() -> Self {
        let private =
            [(0x0a00_0000, 0x0aff_ffff), (0x6440_0000, 0x647f_ffff), (0xac10_0000, 0xac1f_ffff), (0xc0a8_0000, 0xc0a8_ffff)];
        Self { addresses: Union::of(private.to_vec()), tolerance: (1 << 16) - 1 }
    }

    /// What of these addresses `open` leaves out. `None` if the rest is so small that it does not count.
    fn rest(&self, open: &Union) -> Option<Union> {
        Some(self.addresses.without(open)).filter(|rest| rest.size() > self.tolerance)
    }
}

/// How much of the required addresses is open, while groups of ranges are switched on and off.
#[derive(Debug)]
pub enum Coverage {
    /// All groups together leave out too much.
    Never,
    /// The groups that are always on suffice.
    Always,
    /// It depends on the groups that are on.
    Depends(Switched),
}

/// The coverage by groups that are switched on and off.
#[derive(Debug)]
pub struct Switched {
    /// The ranges of each group, as cells of the tree.
    groups: Vec<Vec<(usize, usize)>>,
    tree: Tree,
    /// So many addresses must be open.
    enough: u128,
}

impl Coverage {
    /// `always`: the ranges that are always on. `groups`: the ranges of each group; at first, all are off.
    pub fn of(required: &Required, always: &Union, groups: &[&Union]) -> Self {
        let Some(needed) = required.rest(always) else { return Self::Always };
        let all = Union::of(always.ranges().chain(groups.iter().flat_map(|group| group.ranges())).collect());
        if required.rest(&all).is_some() {
            return Self::Never;
        }
        let end = needed.ranges().last().map_or(0, |(_, last)| last);
        let matters = |(first, last): &(u128, u128)| needed.within(*first, *last) > 0;
        let parts = |group: &&Union| group.ranges().filter(matters).map(|(first, last)| (first, last.min(end) + 1)).collect();
        let parts: Vec<Vec<(u128, u128)>> = groups.iter().map(parts).collect();
        let mut bounds: Vec<u128> = parts.iter().flatten().flat_map(|(first, end)| [*first, *end]).collect();
        bounds.sort_unstable();
        bounds.dedup();
        let cell = |address: u128| bounds.partition_point(|bound| *bound < address);
        let cells = |part: Vec<(u128, u128)>| part.into_iter().map(|(first, end)| (cell(first), cell(end))).collect();
        let groups = parts.into_iter().map(cells).collect();
        let sizes = bounds.windows(2).map(|pair| if let [first, end] = pair { needed.within(*first, end - 1) } else { 0 });
        let tree = Tree::of(sizes.collect());
        Self::Depends(Switched { groups, tree, enough: needed.size().saturating_sub(required.tolerance) })
    }

    /// How many ranges a switch of this group changes.
    pub fn ranges(&self, group: usize) -> usize {
        match self {
            Self::Never | Self::Always => 0,
            Self::Depends(switched) => switched.groups.get(group).map_or(0, Vec::len),
        }
    }

    /// Switches a group on or off.
    pub fn switch(&mut self, group: usize, on: bool) {
        if let Self::Depends(Switched { groups, tree, .. }) = self {
            for (first, end) in groups.get(group).into_iter().flatten() {
                tree.switch(1, (0, tree.leaves), (*first, *end), on);
            }
        }
    }

    /// Whether they are open now.
    pub fn is_whole(&self) -> bool {
        match self {
            Self::Never => false,
            Self::Always => true,
            Self::Depends(Switched { tree, enough, .. }) => tree.open() >= *enough,
        }
    }
}

/// A segment tree over cells that cover each other's addresses: it adds up the cells that at least one range covers.
#[derive(Debug)]
struct Tree {
    leaves: usize,
    nodes: Vec<Node>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Node {
    size: u128,
    /// How much of it is covered.
    open: u128,
    /// How many ranges cover all of it, and not all of the node above it.
    covers: u32,
}

impl Tree {
    fn of(sizes: Vec<u128>) -> Self {
        let leaves = sizes.len().next_power_of_two();
        let mut nodes = vec![Node::default(); leaves];
        nodes.extend(sizes.into_iter().map(|size| Node { size, ..Node::default() }));
        nodes.resize(leaves * 2, Node::default());
        for at in (1..leaves).rev() {
            nodes[at].size = nodes[at * 2].size + nodes[at * 2 + 1].size;
        }
        Self { leaves, nodes }
    }

    fn open(&self) -> u128 {
        self.nodes[1].open
    }

    /// Adds or removes a range of cells, below the node that stands for the cells of `span`. Both name the first cell and the end.
    fn switch(&mut self, at: usize, span: (usize, usize), range: (usize, usize), on: bool) {
        let (first, end) = (span.0.max(range.0), span.1.min(range.1));
        if first >= end {
            return;
        }
        let is_leaf = at >= self.leaves;
        if (first, end) == span {
            let covers = &mut self.nodes[at].covers;
            *covers = if on { *covers + 1 } else { *covers - 1 };
        } else if !is_leaf {
            let middle = usize::midpoint(span.0, span.1);
            self.switch(at * 2, (span.0, middle), range, on);
            self.switch(at * 2 + 1, (middle, span.1), range, on);
        }
        self.nodes[at].open = match self.nodes[at] {
            Node { covers: 1.., size, .. } => size,
            _ if is_leaf => 0,
            _ => self.nodes[at * 2].open + self.nodes[at * 2 + 1].open,
        };
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn small() -> impl Strategy<Value = Vec<(u128, u128)>> {
        let range = (0_u128..40, 0_u128..20).prop_map(|(first, length)| (first, first + length));
        prop::collection::vec(range, 0..4)
    }

    proptest! {
        #[test]
        fn what_is_required_is_open_exactly_if_the_groups_that_are_on_leave_out_no_more_than_it_tolerates(
            required in small(), tolerance in 0_u128..20, always in small(), groups in prop::collection::vec(small(), 0..5),
            switches in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
        ) {
            let required = Required { addresses: Union::of(required), tolerance };
            let (always, groups) = (Union::of(always), groups.into_iter().map(Union::of).collect::<Vec<_>>());
            let mut coverage = Coverage::of(&required, &always, &groups.iter().collect::<Vec<_>>());
            let mut is_on = vec![false; groups.len()];
            for index in switches {
                let open = groups.iter().zip(&is_on).filter(|(_, on)| **on).flat_map(|(group, _)| group.ranges());
                let open = Union::of(always.ranges().chain(open).collect());
                prop_assert_eq!(coverage.is_whole(), required.addresses.without(&open).size() <= tolerance);
                if !groups.is_empty() {
                    let group = index.index(groups.len());
                    is_on[group] = !is_on[group];
                    coverage.switch(group, is_on[group]);
                }
            }
        }
    }

    #[test]
    fn no_address_that_no_peer_has_counts() {
        assert_eq!(Required::every_ipv4().addresses.size(), (1 << 32) - (1 << 24) * 34 - (1 << 16));
        assert_eq!(Required::every_ipv6().addresses.size(), 1 << 125);
        assert_eq!(Required::private_ipv4().addresses.size(), (1 << 24) + (1 << 22) + (1 << 20) + (1 << 16));
    }
}
