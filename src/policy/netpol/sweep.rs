//! Goes through all ports in order and adds up, on each port, the peers of the rules that open it.

use std::collections::BTreeSet;

use super::{
    coverage::{Coverage, Required},
    opening::{Peers, Ports},
    ports::{NUMBERED, PortLine},
    union::Union,
};

/// So many ranges may be switched on, over all ports, before a policy is too large to judge. A policy that a person writes needs some
/// hundreds at most.
pub const MAX_SWITCHED: usize = 16_384;

/// The peers of the rules with the same ports. Each kind of peers has the index of the first rule that names it.
#[derive(Debug, Default)]
pub struct Group {
    /// The ports, as ranges on the line.
    pub ports: Vec<(u128, u128)>,
    /// Everybody: a rule without peers.
    pub everybody: Option<usize>,
    /// Every pod of the cluster, by selectors.
    pub every_pod: Option<usize>,
    /// IPv4 addresses.
    pub v4: (Union, Option<usize>),
    /// IPv6 addresses.
    pub v6: (Union, Option<usize>),
    /// Namespaces by their labels, as places of the census.
    pub named: (Union, Option<usize>),
}

/// What rules open together.
#[derive(Debug)]
pub struct Swept {
    /// The widest peers, their ports, and the index of the first rule.
    pub widest: Option<(Peers, Ports, usize)>,
    /// The blocks were not added up on each port, because they are too many. Peers without blocks are judged anyway, and so are blocks that
    /// are on all ports.
    pub is_too_large: bool,
}

/// Finds the widest peers that rules open together on any port. `always`: the rules for all ports. `is_dns_allowed`: port 53 alone is no
/// opening. `namespaces`: each of these is every namespace. `open` is called in the order of the line, with ports and each kind of peers to
/// which all of them are open.
pub fn sweep(
    line: PortLine,
    always: &Group,
    switched: &[Group],
    is_dns_allowed: bool,
    namespaces: &[Required],
    mut open: impl FnMut(Peers, (u128, u128)),
) -> Swept {
    if let Some(rule) = always.everybody {
        line.whole().for_each(|ports| open(Peers::Everybody, ports));
        return Swept { widest: Some((Peers::Everybody, Ports::All, rule)), is_too_large: false };
    }
    let whole: Vec<_> = line.whole().collect();
    let mut blocks = Blocks::of(always, switched, namespaces);
    let work = |(at, group): (usize, &Group)| group.ports.len().saturating_mul(blocks.ranges(at));
    let is_too_large = switched.iter().enumerate().map(work).fold(0, usize::saturating_add) > MAX_SWITCHED;
    if is_too_large {
        blocks.give_up();
    }

    let mut boundaries: Vec<(u128, Boundary)> = Vec::new();
    for (first, last) in whole.iter().copied().chain(line.needed()) {
        boundaries.extend([(first, Boundary::Cut), (last + 1, Boundary::Cut)]);
    }
    for dns in line.dns() {
        boundaries.extend([(dns, Boundary::Cut), (dns + 1, Boundary::Cut)]);
    }
    for (at, group) in switched.iter().enumerate() {
        boundaries
            .extend(group.ports.iter().flat_map(|(first, last)| [(*first, Boundary::On(at)), (last + 1, Boundary::Off(at))]));
    }
    boundaries.sort_unstable();

    let mut rules = Rules::default();
    rules.switch(always, true);
    // A rule for all ports is named rather than one for some of them.
    let mut found: [(Peers, Found); 4] = [Peers::EveryPod, Peers::EveryIpv6, Peers::EveryIpv4, Peers::Everybody]
        .map(|peers| (peers, Found { alone: rules.first(peers, &blocks), ..Found::default() }));
    let mut boundaries = boundaries.into_iter().peekable();
    while let Some((at, boundary)) = boundaries.next() {
        if let Boundary::On(group) | Boundary::Off(group) = boundary {
            let on = matches!(boundary, Boundary::On(_));
            blocks.switch(group, on);
            switched.get(group).into_iter().for_each(|group| rules.switch(group, on));
        }
        // The ports from here to the next boundary have the same rules.
        let Some(end) = boundaries.peek().map(|(next, _)| *next).filter(|next| *next > at) else { continue };
        let is_in_line = whole.iter().any(|(first, last)| (*first..=*last).contains(&at));
        if !is_in_line {
            continue;
        }
        let is_numbered = line.needed().any(|(first, last)| (first..=last).contains(&at));
        let is_dns = is_dns_allowed && line.dns().any(|dns| dns == at);
        for (peers, found) in &mut found {
            if let Some(rule) = rules.first(*peers, &blocks) {
                found.ports += if is_numbered { end - at } else { 0 };
                found.rule = [found.rule, (!is_dns).then_some(rule)].into_iter().flatten().min();
                if !is_dns {
                    open(*peers, (at, end - 1));
                }
            }
        }
    }
    let all = NUMBERED * line.needed().count() as u128;
    let opening = |(peers, found): (Peers, Found)| {
        let ports = if found.ports == all { Ports::All } else { Ports::Some };
        found.alone.or(found.rule).map(|rule| (peers, ports, rule))
    };
    Swept { widest: found.into_iter().filter_map(opening).next_back(), is_too_large }
}

/// What happens at a port, in this order.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Boundary {
    /// The rules of this group end.
    Off(usize),
    /// The rules of this group begin.
    On(usize),
    /// Ports of another kind begin.
    Cut,
}

/// What is found about some peers.
#[derive(Debug, Default)]
struct Found {
    /// For how many numbered ports they are open.
    ports: u128,
    /// The first rule that is part of that.
    rule: Option<usize>,
    /// The first of the rules for all ports, if these suffice.
    alone: Option<usize>,
}

/// The blocks of the rules that are on.
struct Blocks {
    v4: Coverage,
    v6: Coverage,
    private: Coverage,
    named: Vec<Coverage>,
}

impl Blocks {
    fn of(always: &Group, switched: &[Group], namespaces: &[Required]) -> Self {
        let cover = |required: &Required, of: for<'a> fn(&'a Group) -> &'a Union| {
            Coverage::of(required, of(always), &switched.iter().map(of).collect::<Vec<_>>())
        };
        Self {
            v4: cover(&Required::every_ipv4(), |group| &group.v4.0),
            v6: cover(&Required::every_ipv6(), |group| &group.v6.0),
            private: cover(&Required::private_ipv4(), |group| &group.v4.0),
            named: namespaces.iter().map(|required| cover(required, |group| &group.named.0)).collect(),
        }
    }

    fn all(&mut self) -> impl Iterator<Item = &mut Coverage> {
        [&mut self.v4, &mut self.v6, &mut self.private].into_iter().chain(&mut self.named)
    }

    fn ranges(&self, group: usize) -> usize {
        let all = [&self.v4, &self.v6, &self.private].into_iter().chain(&self.named);
        all.map(|coverage| coverage.ranges(group)).sum()
    }

    fn switch(&mut self, group: usize, on: bool) {
        self.all().for_each(|coverage| coverage.switch(group, on));
    }

    /// Leaves only what is always open.
    fn give_up(&mut self) {
        for coverage in self.all() {
            if matches!(coverage, Coverage::Depends(_)) {
                *coverage = Coverage::Never;
            }
        }
    }
}

/// The rules that are on, by the kind of their peers. A rule is in one group only.
#[derive(Default)]
struct Rules {
    everybody: BTreeSet<usize>,
    every_pod: BTreeSet<usize>,
    v4: BTreeSet<usize>,
    v6: BTreeSet<usize>,
    named: BTreeSet<usize>,
}

impl Rules {
    fn switch(&mut self, group: &Group, on: bool) {
        let Self { everybody, every_pod, v4, v6, named } = self;
        let blocks = [(v4, group.v4.1), (v6, group.v6.1), (named, group.named.1)];
        let kinds = [(everybody, group.everybody), (every_pod, group.every_pod)].into_iter().chain(blocks);
        for (on_now, rule) in kinds {
            if let Some(rule) = rule {
                if on {
                    on_now.insert(rule)
                } else {
                    on_now.remove(&rule)
                };
            }
        }
    }

    /// The first rule of those that open these peers now. `None` if the peers are not open.
    fn first(&self, peers: Peers, blocks: &Blocks) -> Option<usize> {
        let first = |rules: &BTreeSet<usize>| rules.first().copied();
        let v4 = || first(&self.v4).filter(|_| blocks.v4.is_whole());
        let v6 = || first(&self.v6).filter(|_| blocks.v6.is_whole());
        match peers {
            Peers::Everybody => first(&self.everybody).or_else(|| Some(v4()?.min(v6()?))),
            Peers::EveryIpv4 => v4(),
            Peers::EveryIpv6 => v6(),
            Peers::EveryPod => {
                let by_blocks = first(&self.v4).filter(|_| blocks.private.is_whole());
                let by_names = first(&self.named).filter(|_| blocks.named.iter().any(Coverage::is_whole));
                [first(&self.every_pod), by_blocks, by_names].into_iter().flatten().min()
            }
        }
    }
}
